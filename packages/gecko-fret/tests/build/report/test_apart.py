import re

import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret
from gecko_fret.build.report.apart import apart, compare, distinct_real
from gecko_fret.build.report.base import ReportData
from gecko_fret.build.report.classifier import FEWEST_GROUPS
from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage

SUBJECTS = [f"subject{number}" for number in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_models):
    """Sixty passages, one query for each; a log of users' queries that nothing is compared with."""
    out = tmp_path_factory.mktemp("apart")
    rng = np.random.default_rng(4)
    words = [f"word{number}" for number in range(400)]
    passages = [Passage(s, f"Title of {s}", f"{s} " + " ".join(rng.choice(words, 12))) for s in SUBJECTS]
    (out / "log.txt").write_text("\n".join(real(9, "log")) + "\n")
    config = {"llm": {"model": "fake"}, "generate": {"seeds": 60, "attempts": 2, "max_copied": 1.0}}
    config["generate"] |= {
        "sources": ["llm", "titles", "log"],
        "log": str(out / "log.txt"),
        "per_source": {"titles": 9},
    }
    config["mine"] = {"fuse": "rrf"}
    build_fret(parse_config(config), out / "fret", corpus=Corpus(passages, "sixty"), models=make_models())
    return out / "fret"


def real(count, name="real"):
    rng = np.random.default_rng(len(name))
    words = [f"{name}{number}" for number in range(400)]
    return ["Do " + " ".join(rng.choice(words, 7, replace=False)) + "." for _ in range(count)]


def data(folder, make_models, queries):
    workspace = Workspace(folder)
    embedder = make_models().embedder(None)
    return ReportData(workspace, workspace.read_manifest(), queries, "real.txt", embedder)


def test_without_real_queries_there_is_nothing(folder, make_models):
    assert list(apart(data(folder, make_models, None))) == []


def test_another_style_is_told_apart_and_its_words_are_named(folder, make_models):
    told, form, words = apart(data(folder, make_models, real(80)))
    rows = {row[:2]: row for row in told.rows}
    assert float(rows["llm", "embeddings and surface"][2]) > 0.99
    assert rows["llm", "surface"][5] == 80
    assert "titles" in told.note.partition("not compared: ")[2]
    assert not any("log" in str(row[0]) for row in told.rows)
    assert all(0 <= low <= mean <= high <= 1 for low, mean, high in told.intervals)
    assert len(told.intervals) == len(told.rows)
    assert {row[0]: row[1:3] for row in form.rows}["ends with ."] == ("0.00", "1.00")
    found = {row[:2]: row[2:] for row in words.rows}
    assert found["word", "what"][:2] == ("100.0%", "0.0%")
    assert found["opening", "what about"][2].startswith("+")
    assert found["word", "do"][:2] == ("0.0%", "100.0%")
    assert found["word", "do"][2].startswith("-")


def test_queries_like_the_written_ones_are_not_told_apart(folder, make_models):
    source = data(folder, make_models, real(60))
    rng = np.random.default_rng(8)
    draw = lambda match: f"{match[1]}{rng.integers(0, 60 if match[1] == 'subject' else 400)}"  # noqa: E731
    alike = [re.sub(r"(subject|word)\d+", draw, text) for text in compare(source)[0][0].written]
    found = compare(data(folder, make_models, alike))[0][0]
    assert found.areas["surface"].mean() == pytest.approx(0.5, abs=0.2)


def test_the_result_repeats(folder, make_models):
    first, second = (compare(data(folder, make_models, real(60)))[0][0] for _ in range(2))
    assert (first.written, first.real) == (second.written, second.real)
    np.testing.assert_array_equal(first.areas["embeddings"], second.areas["embeddings"])


@pytest.mark.parametrize(
    "queries", [real(FEWEST_GROUPS - 1), ["what is a tax return"] * 500, [f"What is it, {n}?" for n in range(99)]]
)
def test_too_few_real_queries_are_one_line(folder, make_models, queries):
    with pytest.raises(DataError, match=r"^real\.txt: distinct queries .*: \d+; 50 are needed .*; add queries"):
        list(apart(data(folder, make_models, queries)))


def test_too_few_written_queries_are_one_line(tmp_path, small_corpus, make_models):
    config = {"llm": {"model": "fake"}, "generate": {"seeds": 30, "attempts": 3, "max_copied": 1.0}}
    config["mine"] = {"fuse": "rrf"}
    build_fret(parse_config(config), tmp_path, corpus=small_corpus, models=make_models())
    with pytest.raises(DataError, match=r"too few written queries .*: of \d+ \(llm\) .*; build with more .*seeds$"):
        list(apart(data(tmp_path, make_models, real(80))))


@pytest.mark.parametrize(
    "queries",
    [
        [f"{a}{sign}ल{b}" for a in "कगचजतद" for sign in "ािीुू" for b in "ूेैोौ"],
        [f"{a}{sign}น" for a in "กขคงจชซดตถทนบปผพฟมยรลวสหอ" for sign in "ิีึืุู"],
        [f"tool{i} c{end}" for i in range(60) for end in ("", "++", "#")],
    ],
)
def test_queries_that_differ_in_signs_are_different_ones(queries):
    """Vowel signs and marks of programming languages did not count, and such queries were dropped as equal."""
    assert sorted(distinct_real([*queries, queries[0].upper()], "real.txt")) == sorted(queries)
