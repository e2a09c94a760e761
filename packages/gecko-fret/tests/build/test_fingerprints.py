"""Folders of earlier versions go on without rebuilding: what they were made from has the fingerprints it had."""

from pathlib import Path

import pytest

from gecko_core.errors import ConfigError
from gecko_fret.build.fingerprints import check_config, fingerprints, prompt_hashes
from gecko_fret.config import parse_config
from gecko_fret.corpus import Corpus, Passage
from gecko_fret.steps import BuildContext

# Computed by version 0.1.0. Whoever changes one of these makes every existing folder build again from that step on.
DEFAULTS = {
    "corpus": "d45aa0430ce8cdb703e3fd6f8cb28370",
    "write": "978ddb2c6dcf084a6edc04084aace101",
    "filter": "b5b7fa70376a4bcbc2fd4b0363713f14",
    "embed": "e18a16eb3bb5e40900a5397eef286ae5",
    "retrieve": "12c5e0c211d7d070a87c1708d3439bff",
    "score": "53f24e8ac39edb3f0a07fb412c337202",
    "mine": "d1bb5e38096848edbbf0434ef1e59290",
}
FIRST_PASS = {
    "corpus": "d45aa0430ce8cdb703e3fd6f8cb28370",
    "write": "6722383868ed6379ee9dd928bba1144e",
    "filter": "c0e8fdf06361a3a662096de952914201",
    "embed": "bab0c7b81f0d7e00771d6bb015c1f5a2",
    "retrieve": "c8c80b3ceb9988eb17cb1f3531a73f51",
    "score": "28e84f9b1608094cb5152f8f42b4d661",
    "mine": "d4a9640e376633b9b350cf148880acc1",
}


@pytest.fixture
def fingerprints_of(make_models):
    corpus = Corpus([Passage("a", "T", "some text"), Passage("b", None, "more text", "source")])

    def fingerprints_of(**settings):
        paper = {
            "llm": {"model": "fake"},
            "mine": {"fuse": "rrf"} | settings.pop("mine", {}),
            "corpus": {"text_rules": 1} | settings.pop("corpus", {}),  # of old folders, see ``Workspace.with_rules``
        }
        config = parse_config(paper | settings)
        digests = fingerprints(BuildContext(Path("absent"), config, corpus, make_models()))
        return {name: digests[name] for name in DEFAULTS}  # further steps have no earlier version

    return fingerprints_of


def test_fingerprints_are_those_of_earlier_versions(fingerprints_of):
    assert fingerprints_of() == DEFAULTS
    mixed = {"retrieve": {"first_pass": True}, "generators": [{"model": "fake", "weight": 2}]}
    assert fingerprints_of(**mixed) == FIRST_PASS


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"corpus": {"part_size": 9}}, "corpus"),
        ({"corpus": {"text_rules": 2}}, "corpus"),
        ({"corpus": {"text_rules": 3}}, "corpus"),
        ({"corpus": {"text_rules": None}}, "corpus"),
        ({"generate": {"attempts": 3}}, "write"),
        ({"generate": {"write_task": False}}, "write"),
        ({"generate": {"chat": "auto"}}, "write"),
        ({"generate": {"contrast": 0.5}}, "write"),
        ({"generate": {"keep": "grounded"}}, "write"),
        ({"generate": {"min_grounding": 0.1}}, "write"),
        ({"mine": {"fuse": "calibrated"}}, "write"),
        ({"generate": {"min_words": 4}}, "filter"),
        ({"generate": {"keep": "best"}}, "filter"),
        ({"generate": {"sources": ["llm", "titles"]}}, "filter"),
        ({"retrieve": {"candidates": 7}}, "retrieve"),
        ({"score": {"mode": "joint"}}, "score"),
        ({"mine": {"rrf_k": 60}}, "mine"),
    ],
)
def test_a_setting_changes_its_step_and_what_follows(fingerprints_of, settings, first):
    changed = fingerprints_of(**settings)
    names = [name for name in DEFAULTS if changed[name] != DEFAULTS[name]]
    assert names[0] == first
    assert names[-1] == "mine"


def test_settings_of_judges_that_are_not_asked_change_nothing(fingerprints_of):
    unused = {"yes_no": {"prompt": "qwen3-reranker"}, "bm25": {"b": 0.4}, "listwise": {"window": 12}}
    assert fingerprints_of(score=unused) == DEFAULTS


@pytest.mark.parametrize(
    "score",
    [
        {"judges": ["ql", "rc"], "calibrate": True},
        {"judges": ["ql", "rc"], "blocks": True},
        {"judges": ["ql"]},
        {"judges": ["ql", "rc", "yes-no"]},
        {"judges": ["ql", "rc", "bm25"], "bm25": {"b": 0.4}},
    ],
)
def test_judges_and_how_they_judge_change_the_scores(fingerprints_of, score):
    changed = fingerprints_of(score=score)
    assert [name for name in DEFAULTS if changed[name] != DEFAULTS[name]] == ["score", "mine"]


def test_speed_and_place_change_nothing(fingerprints_of):
    assert fingerprints_of(llm={"model": "fake", "batch_rows": 2}, retrieve={"cache": "x"}) == DEFAULTS


def test_settings_that_decide_nothing_change_nothing(fingerprints_of):
    unused = {"plausible": 0.7, "examples_shown": 2, "examples_instruction": "x", "user_task": "y"}
    assert fingerprints_of(generate=unused) == DEFAULTS
    grounded = {"keep": "grounded"}
    assert fingerprints_of(generate=grounded)["write"] == fingerprints_of(generate={"min_grounding": 0.1})["write"]


def test_files_of_queries_count_by_their_content(fingerprints_of, tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    for path in (first, second):
        path.write_text("how do I sort a list\n")

    def of(path):
        log = {"sources": ["llm", "log"], "log": str(path)}
        return fingerprints_of(generate={"examples": str(path)}), fingerprints_of(generate=log)

    before = of(first)
    assert of(second) == before
    second.write_text("how do I sort a tuple\n")
    examples, log = of(second)
    assert examples["write"] != before[0]["write"]
    assert log["write"] == before[1]["write"] == DEFAULTS["write"]
    assert log["filter"] != before[1]["filter"]


def test_both_prompt_files_are_recorded():
    assert set(prompt_hashes(parse_config({"mine": {"fuse": "rrf"}}))) == {"generate", "score"}
    assert set(prompt_hashes(parse_config({}))) == {"generate", "score", "score.yes_no"}


def test_every_step_checks_the_configuration():
    with pytest.raises(ConfigError, match="'poetry' is not in the prompts"):
        check_config(parse_config({"generate": {"kinds": {"poetry": 1}}}))
    with pytest.raises(ConfigError, match="no judge is called 'oracle'"):
        check_config(parse_config({"score": {"judges": ["ql", "rc", "oracle"]}}))
