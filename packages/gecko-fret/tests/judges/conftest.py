"""Judges alone: pairs in, judgements out."""

import pytest

from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.judges import JUDGES, Batch, JudgeSetup, Pair
from gecko_fret.judges.joint import joint_prompt
from gecko_fret.llm.protocol import Completion, Scored, Usage
from gecko_fret.models import Models
from gecko_fret.prompting import load_prompts

TEXTS = {
    "bread": Passage("bread", "Sourdough", "The acids of the bacteria make sourdough bread taste sour."),
    "train": Passage("train", None, "A train leaves for the coast every hour."),
    "flour": Passage("flour", "Rye flour", "Rye flour binds more water than wheat flour, so rye bread is moist."),
    "yeast": Passage("yeast", None, "Wild yeast raises the bread overnight."),
}
CORPUS = Corpus(TEXTS.values(), name="four")


class SpyLLM:
    """Notes what it is asked, and answers by the functions it is given."""

    name, fingerprint = "spy", "spy:1"

    def __init__(self, label=None, write=None):
        self.usage, self.requests, self.samplings, self.blocks = Usage(), [], [], []
        self._label, self._write = label, write

    def truncate(self, texts, max_tokens):
        return [" ".join(text.split()[:max_tokens]) for text in texts]

    def score(self, requests, labels=(), *, blocks=False):
        self.requests += requests
        self.blocks.append(blocks)
        return [Scored(-1.0, 1, tuple(self._label(request))) for request in requests]

    def generate(self, requests, sampling):
        self.requests += requests
        self.samplings.append(sampling)
        return [Completion(self._write(request), 0.0, 1, True) for request in requests]

    def close(self):
        pass


@pytest.fixture
def spy_llm():
    return SpyLLM


@pytest.fixture
def corpus():
    return CORPUS


@pytest.fixture
def pairs():
    """Makes pairs of one query with passages by name, nearest first."""

    def pairs(query, names=tuple(TEXTS), query_id="q", kind="search result"):
        return [Pair(query_id, kind, query, TEXTS[name], 0.9 - place / 10) for place, name in enumerate(names)]

    return pairs


@pytest.fixture
def judge():
    """Lets one judge judge; returns its values and the batch."""

    def judge(name, pairs, score=None, llm=None, fuse="calibrated", corpus=CORPUS):
        settings = {"llm": {"model": "given"}, "score": {"judges": [name], **(score or {})}, "mine": {"fuse": fuse}}
        setup = JudgeSetup(parse_config(settings), Models(llms={"given": llm}), corpus)
        batch = Batch(pairs, setup, load_prompts("default"), joint_prompt(setup.config.score))
        return JUDGES[name](setup).judge(batch), batch

    return judge
