"""A judge of one's own: one class and one line in JUDGES."""

import json

import pyarrow.parquet as pq
import pytest

from gecko_core.errors import ConfigError
from gecko_fret import load_fret
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.judges import JUDGES, Batch, Judge, JudgeSetup, Pair, QueryLikelihood, RelevanceClassification
from gecko_fret.judges.joint import joint_prompt
from gecko_fret.models import Models
from gecko_fret.prompting import RelevanceBlock, load_prompts


class Nearest(Judge):
    """What retrieval thought already; needs no LLM."""

    name = "nearest"
    version = 1

    def judge(self, batch):
        return [pair.similarity for pair in batch.pairs]

    @classmethod
    def fingerprint(cls, config, models):
        return [cls.version]


class Readable(Judge):
    """A judge that asks the LLM in its own words; the packaged prompt files know nothing of it."""

    name = "readable"
    prompt = RelevanceBlock(
        instruction="Is the passage easy to read?",
        template="Passage: {passage}\nQuery: {query}\nEasy:",
        answer=" {label}",
        labels=["no", "yes"],
    )

    def judge(self, batch):
        requests = [self.prompt.classification(pair.passage, pair.query) for pair in batch.prompted]
        return [scored.labels[1] for scored in batch.llm.score(requests, self.prompt.label_strings)]

    @classmethod
    def passes(cls, config):
        return 1

    @classmethod
    def fingerprint(cls, config, models):
        return [cls.prompt.hash]


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(JUDGES, "nearest", Nearest)


@pytest.fixture
def run(small_corpus, make_models, tmp_path):
    def run(judges, name="fret", **options):
        config = {
            "llm": {"model": "fake"},
            "generate": {"seeds": 12, "max_copied": 1.0},
            "retrieve": {"candidates": 6},
            "score": {"judges": judges},
            "mine": {"fuse": "rrf"},
        }
        return build_fret(parse_config(config), tmp_path / name, corpus=small_corpus, models=make_models(), **options)

    return run


def test_a_further_judge_has_a_column_a_rank_and_a_score_in_every_row(registered, run, tmp_path):
    run(["ql", "rc", "nearest"])
    scored = pq.read_table(tmp_path / "fret" / "scored" / "part-00000.parquet", partitioning=None)
    assert scored.schema.names == ["query_id", "candidate_id", "ql", "rc", "nearest"]
    assert json.loads((tmp_path / "fret" / "manifest.json").read_text())["format"] == 2
    for row in load_fret(tmp_path / "fret"):
        nearest = sorted(row.candidates, key=lambda c: (-c.similarity, c.id))
        for rank, candidate in enumerate(nearest, start=1):
            assert set(candidate.scores) == {"ql", "rc", "nearest"}
            assert candidate.scores["nearest"] == candidate.similarity
            assert candidate.fused == 1 / candidate.rank_ql + 1 / candidate.rank_rc + 1 / rank


def test_judges_are_part_of_the_fingerprint_once_there_are_further_ones(registered, run, monkeypatch):
    run(["ql", "rc"])
    assert run(["rc", "ql"]).complete
    with pytest.raises(ConfigError, match="the settings of 'score' have changed"):
        run(["ql", "rc", "nearest"])
    assert run(["ql", "rc", "nearest"], force=True).complete
    monkeypatch.setattr(Nearest, "version", 2)
    with pytest.raises(ConfigError, match="the settings of 'score' have changed"):
        run(["ql", "rc", "nearest"])


def test_a_judge_with_a_prompt_of_its_own_is_built_again_when_the_prompt_changes(run, monkeypatch, tmp_path):
    monkeypatch.setitem(JUDGES, "readable", Readable)
    run(["ql", "rc", "readable"])
    assert all(0 <= c.scores["readable"] <= 1 for row in load_fret(tmp_path / "fret") for c in row.candidates)
    assert run(["ql", "rc", "readable"]).complete
    monkeypatch.setattr(Readable, "prompt", Readable.prompt.model_copy(update={"instruction": "Is it short?"}))
    with pytest.raises(ConfigError, match="the settings of 'score' have changed"):
        run(["ql", "rc", "readable"])


def test_an_unknown_judge_is_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(ConfigError, match="no judge is called 'nearest'"):
        run(["ql", "rc", "nearest"])
    assert not (tmp_path / "fret").exists()


@pytest.mark.parametrize(("settings", "expected"), [({}, True), ({"blocks": False}, False), ({"blocks": True}, True)])
def test_the_llm_is_told_whether_to_score_in_blocks(judge, pairs, spy_llm, settings, expected):
    llm = spy_llm(label=lambda request: (0.25, 0.75))
    for name in ("ql", "yes-no"):
        judge(name, pairs("sour"), settings, llm=llm)
    assert llm.blocks == [expected, expected]


def test_joint_mode_asks_the_llm_once_for_both_judges(small_corpus, fake_llm):
    class Spy(fake_llm):
        calls = 0

        def score(self, requests, labels=(), **options):
            self.calls += 1
            return super().score(requests, labels, **options)

    pairs = [Pair("a", "fact checking", "subject1word1 is here", small_corpus[i], 0.5) for i in range(3)]
    for mode, calls in (("joint", 1), ("separate", 2)):
        llm = Spy()
        config = parse_config({"llm": {"model": "spy"}, "score": {"mode": mode}, "mine": {"fuse": "rrf"}})
        setup = JudgeSetup(config, Models(llms={"spy": llm}), small_corpus)
        batch = Batch(pairs, setup, load_prompts("default"), joint_prompt(config.score))
        for judge in (QueryLikelihood, RelevanceClassification):
            assert len(judge(setup).judge(batch)) == 3
        assert llm.calls == calls
