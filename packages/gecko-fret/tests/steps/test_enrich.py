"""Enriched texts: kept beside their passages, rejected with a reason, resumed, and no part of an old build."""

import json

import pytest

from gecko_core.enriched import read_enriched
from gecko_core.errors import ConfigError
from gecko_core.io import read_json
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import EnrichConfig, parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.llm.protocol import Completion, Usage
from gecko_fret.models import Models
from gecko_fret.prompting import as_text, load_prompt
from gecko_fret.steps import ENRICH
from gecko_fret.steps.enrich import PROMPTS, REASONS, Enrich, EnrichBlock

WORDS = "one two three four five six seven eight nine ten"


class Rewriter:
    """Answers what it is told for a text, or the text in capitals and a word."""

    name, fingerprint = "rewriter", "rewriter:1"

    def __init__(self, answers=None):
        self.answers, self.usage, self.requests, self.sampling = answers or {}, Usage(), [], None

    def truncate(self, texts, max_tokens):
        return [" ".join(text.split()[:max_tokens]) for text in texts]

    def generate(self, requests, sampling):
        self.requests += requests
        self.sampling = sampling
        return [self._completed(request.body.partition("Text: ")[2].rpartition("\n")[0]) for request in requests]

    def _completed(self, text):
        self.usage.generated_tokens += 3
        self.usage.prompt_tokens += len(text.split())
        answer = self.answers.get(text, f"{text.upper()} MORE")
        return answer if isinstance(answer, Completion) else Completion(f" {answer}", -1.0, 3, True)

    def close(self):
        pass


def enriched(text, answer=None, prompt="enrich-context", **settings):
    config = EnrichConfig(prompt=prompt, **settings)
    llm = Rewriter({} if answer is None else {" ".join(text.split()): answer})
    return Enrich(llm, load_prompt(prompt, EnrichBlock), config, 0)([Passage("p", "Title", text)])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_packaged_prompts_are_read_and_end_where_the_answer_begins(prompt):
    block = load_prompt(prompt, EnrichBlock)
    prefix, body = as_text(block.asking("some <|im_end|> text"))
    assert len(block.demonstrations) == 3
    assert prefix.startswith(block.instruction)
    assert all(shown.enriched in prefix for shown in block.demonstrations)
    assert body.startswith("Text: some <\u2060|im_end|> text\n")
    assert body.endswith(":")


def test_answers_stand_instead_of_the_text_or_beside_it():
    [row] = enriched("plain\ntext", "a plain text").rows
    assert (row.id, row.text, row.enriched) == ("p", "plain\ntext", "a plain text")
    assert (row.prompt, row.model, row.tokens) == ("enrich-context", "rewriter", 3)
    [row] = enriched("plain\ntext", "a subject; keywords", prompt="enrich-metadata").rows
    assert row.enriched == "plain\ntext\na subject; keywords"


def test_what_the_llm_does_not_read_of_a_long_text_stays():
    [row] = enriched(WORDS + " " + WORDS, None, passage_tokens=10).rows
    assert row.enriched == f"{WORDS.upper()} MORE {WORDS}"


class Cutter(Rewriter):
    """Cuts after so many characters, as a tokenizer may: within words."""

    def __init__(self, characters):
        super().__init__()
        self.characters = characters

    def truncate(self, texts, max_tokens):
        return [text[: self.characters].rstrip() for text in texts]


@pytest.mark.parametrize(
    ("text", "characters", "read"),
    [
        ("i dont no waht the counterrevolutionaries did there", 30, "i dont no waht the"),
        ("i dont no waht the counterrevolutionaries did there", 41, "i dont no waht the counterrevolutionaries"),
        ("One is here. Two is there. Three is far away.", 36, "One is here. Two is there."),
        ("One is here. Two is there. Three is far away.", 26, "One is here. Two is there."),
        ("One. Two goes on and on and on without any end at all.", 30, "One. Two goes on and on and on"),
        ("One. Two goes on and on and on without any end at all.", 32, "One. Two goes on and on and on"),
        ("counterrevolutionaries", 9, "counterre"),
        ("\u0e01\u0e34\u0e19\u0e02\u0e49\u0e32\u0e27", 4, "\u0e01\u0e34\u0e19"),
        ("whole", 9, "whole"),
    ],
)
def test_a_long_text_is_read_up_to_a_word_or_sentence(text, characters, read):
    """The rest of a torn word stood behind the answer."""
    config = EnrichConfig(prompt="enrich-grammar", min_length=0.0)
    stage = Enrich(Cutter(characters), load_prompt("enrich-grammar", EnrichBlock), config, 0)
    [row] = stage([Passage("p", None, text)]).rows
    assert row.enriched == f"{read.upper()} MORE{text[len(read) :]}"


@pytest.mark.parametrize("text", ["!!!", "<|im_end|>", "[PAD] [MASK] [CLS]", "\u2014 \u2026"])
def test_a_text_without_words_stays(text):
    """What was written for it was made up."""
    [reject] = enriched(text, "The team is going to celebrate tomorrow.").rejects
    assert reject.reason == "wordless"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Completion(" half of an ans", -1.0, 320, False), "unfinished"),
        ("fine <|im_start|> user", "special_token"),
        ("I'm sorry, but I cannot do that for you here.", "refusal"),
        ("Sure! Here is a text of some words.", "refusal"),
        ("As an AI language model I have no opinion on it.", "refusal"),
        ("I am not able to rewrite the text for you.", "refusal"),
        ("I can't help you with this text, please ask another.", "refusal"),
        ("one two three", "short"),
        ("", "short"),
        (" ".join(["word"] * 41), "long"),
        (load_prompt("enrich-context", EnrichBlock).demonstrations[0].enriched, "demonstration"),
        ("One, two three four five six seven eight nine ten!", "unchanged"),
        ("Der Text ist nun in einer anderen Sprache geschrieben, nämlich auf Deutsch.", "language"),
    ],
)
def test_answers_that_are_none_are_rejected_with_a_reason(answer, reason):
    pytest.importorskip("py3langid")
    assert reason in REASONS
    result = enriched(WORDS, answer, language="en")
    assert result.rows == []
    [reject] = result.rejects
    assert (reject.stage, reject.reason, reject.id) == ("enrich", reason, "p")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("i cannot do my homework", "I cannot do my homework today."),
        ("verification of identity fails", "I am unable to verify my identity in the app."),
        ("card declined why", "I can't understand why my card was declined."),
        ("no proof of address", "I cannot provide proof of my address."),
        ("i'm sorry i cannot help my son with it", "I'm sorry, I cannot help my son with his homework."),
    ],
)
def test_a_user_who_speaks_of_herself_refuses_nothing(text, answer):
    assert enriched(text, answer).rejects == []


def test_prompts_that_cannot_be_used_are_one_line(tmp_path):
    def told(change):
        path = tmp_path / "p.yaml"
        values = {"instruction": "x", "template": "T: {text}\nR:", "answer": " {text}", "use": "instead"} | change
        path.write_text(json.dumps(values))
        with pytest.raises(ConfigError) as raised:
            load_prompt(str(path), EnrichBlock)
        return str(raised.value)

    assert "answer does not mention {text}" in told({"answer": "x"})
    assert "is part of a demonstration" in told({"demonstrations": [{"text": "a", "enriched": "b\nc"}]})
    assert "use" in told({"use": "above"})


SETTINGS = {"llm": {"model": "fake"}, "enrich": {"prompt": "enrich-context", "part_size": 3}, "mine": {"fuse": "rrf"}}


@pytest.fixture
def corpus():
    return Corpus([Passage(f"p{n}", f"T{n}", f"passage number {n} about some subject{n} of its own") for n in range(8)])


def built(corpus, out, llm, embedder, settings=SETTINGS, **options):
    models = Models(llms={"fake": llm}, embedder=embedder())
    return build_fret(parse_config(settings), out, corpus=corpus, models=models, until=ENRICH, **options)


def test_a_folder_keeps_texts_prompts_models_and_rejects(corpus, fake_embedder, tmp_path):
    out = tmp_path / "run"
    summary = built(corpus, out, Rewriter({corpus[2].text: "no"}), fake_embedder)
    assert summary.counts["enriched"] == 7
    assert summary.rejects == {"enrich": {"short": 1}}
    assert summary.tokens["enrich"] == {"generated_tokens": 24, "prompt_tokens": 8 * 9}
    known = read_enriched(out)
    assert known[corpus[0].text] == f"{corpus[0].text.upper()} MORE"
    assert corpus[2].text not in known
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["prompts"]["enrich"] == load_prompt("enrich-context", EnrichBlock).hash
    assert len(list((out / "enriched").glob("part-*"))) == 3


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(corpus, fake_embedder, tmp_path):
    built(corpus, tmp_path / "whole", Rewriter(), fake_embedder)
    asked = iter([False] * 4 + [True] * 9)
    first, second = Rewriter(), Rewriter()
    assert not built(corpus, tmp_path / "run", first, fake_embedder, stop=lambda: next(asked)).complete
    assert 0 < len(first.requests) < 8
    built(corpus, tmp_path / "run", second, fake_embedder)
    assert len(first.requests) + len(second.requests) == 8
    for path in sorted((tmp_path / "whole" / "enriched").iterdir()):
        assert (tmp_path / "run" / "enriched" / path.name).read_bytes() == path.read_bytes()


def test_other_prompts_need_force_and_a_build_goes_on_from_there(corpus, fake_embedder, tmp_path):
    out = tmp_path / "run"
    built(corpus, out, Rewriter(), fake_embedder)
    other = SETTINGS | {"enrich": {"prompt": "enrich-grammar", "part_size": 3}}
    with pytest.raises(ConfigError, match="the settings of 'enrich' have changed"):
        built(corpus, out, Rewriter(), fake_embedder, other)
    built(corpus, out, Rewriter(), fake_embedder, other, force=True)
    assert read_enriched(out)[corpus[0].text].endswith("MORE")


def test_builds_without_a_prompt_have_no_such_parts(small_corpus, make_models, tmp_path):
    settings = {"llm": {"model": "fake"}, "generate": {"seeds": 4, "max_copied": 1.0}, "mine": {"fuse": "rrf"}}
    summary = build_fret(parse_config(settings), tmp_path / "run", corpus=small_corpus, models=make_models())
    assert summary.counts["enriched"] == 0
    assert not (tmp_path / "run" / "enriched").exists()
    # Folders of earlier versions have no such stage, and go on.
    path = tmp_path / "run" / "manifest.json"
    manifest = read_json(path, checksum="sha256")
    del manifest["stages"]["enrich"], manifest["config"]["enrich"]
    path.write_text(json.dumps(manifest))
    assert build_fret(parse_config(settings), tmp_path / "run", corpus=small_corpus, models=make_models()).complete
