import numpy as np
import pytest

from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret
from gecko_fret.build.report.base import ReportData
from gecko_fret.build.report.diversity import FEWEST, diversity, kinds, measure, self_similarity
from gecko_fret.config import parse_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_corpus, make_models):
    out = tmp_path_factory.mktemp("diversity") / "fret"
    config = {"llm": {"model": "fake"}, "generate": {"seeds": 40, "attempts": 3, "max_copied": 1.0}}
    config["generate"]["sources"] = ["llm", "titles"]
    config["mine"] = {"fuse": "rrf"}
    build_fret(parse_config(config), out, corpus=small_corpus, models=make_models())
    return out


def data(folder, **options):
    workspace = Workspace(folder)
    return ReportData(workspace, workspace.read_manifest(), **options)


def test_self_similarity_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(23, 7)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = [[float(a.astype(float) @ b) for b in vectors] for a in vectors]
    others = [[value for j, value in enumerate(row) if j != i] for i, row in enumerate(cosines)]
    nearest, pairs = self_similarity(vectors)
    assert nearest == pytest.approx(np.mean([max(row) for row in others]), abs=1e-6)
    assert pairs == pytest.approx(np.mean(others), abs=1e-6)
    assert self_similarity(np.eye(2)) == (0, 0)
    assert self_similarity(np.ones((3, 1))) == (1, 1)


def test_repetitive_queries_are_less_diverse_by_every_measure():
    rng = np.random.default_rng(1)
    words = [f"w{n}" for n in range(2000)]
    free = [" ".join(rng.choice(words, 8)) for _ in range(60)]
    rigid = [f"what is the use of {rng.choice(words[:20])} here" for _ in range(60)]
    some, few = measure(free, 400), measure(rigid, 400)
    assert some.ttr > few.ttr
    assert some.mtld > few.mtld
    assert all(a > b for a, b in zip(some.distinct, few.distinct, strict=True))
    assert (few.repeated, few.opening, few.opening_share) == (1, "what is the", 1)
    assert some.repeated < 0.1
    assert (some.words, few.words) == (8, 7)
    assert some.nearest is None


def test_distinct_n_is_of_the_first_words_alone():
    texts = ["a b c d", "a b c d", "e f"]
    assert measure(texts, 4).distinct == (1, 1, 1)
    assert measure(texts, 6).distinct == (4 / 6, 3 / 4, 1)
    assert measure(texts).distinct == (6 / 10, 4 / 7, 2 / 4)


def test_sources_are_compared_on_equal_numbers(folder):
    (section,) = diversity(data(folder))
    assert list(section.header) == ["what", "llm"]  # forty titles are too few
    assert "not shown: titles" in section.note
    assert "--embed" in section.note
    real = [f"how is number {number} of the year {number + 1900} paid" for number in range(FEWEST)]
    (section,) = diversity(data(folder, real=real))
    assert list(section.header) == ["what", "llm", "real"]
    assert section.note.startswith(f"{FEWEST} queries of each source")
    rows = {row[0]: row[1:] for row in section.rows}
    assert rows["queries"][1] == FEWEST
    assert rows["open as another does (3 words)"][1] == "100.0%"
    assert rows["most frequent opening"][1] == "how is number (100.0%)"
    assert "cosine of the nearest other query" not in rows


def test_cosines_are_there_with_an_embedder(folder, make_models):
    embedder = make_models().embedder(None)
    (section,) = diversity(data(folder, embedder=embedder))
    rows = {row[0]: row[1:] for row in section.rows}
    (nearest,), (pairs,) = rows["cosine of the nearest other query"], rows["cosine of two queries at random"]
    assert 1 >= float(nearest) > float(pairs) > 0
    assert "--embed" not in section.note


def test_too_few_queries_give_no_section(tmp_path, small_corpus, make_models):
    config = {"llm": {"model": "fake"}, "generate": {"seeds": 8, "max_copied": 1.0}, "mine": {"fuse": "rrf"}}
    build_fret(parse_config(config), tmp_path, corpus=small_corpus, models=make_models())
    assert list(diversity(data(tmp_path))) == []


def test_kinds_are_those_of_the_llm(folder):
    (section,) = kinds(data(folder))
    assert len(section.rows) == 4
    (shown,) = diversity(data(folder))
    assert sum(row[1] for row in section.rows) == shown.rows[0][1]
    assert [row[1] for row in section.rows] == sorted((row[1] for row in section.rows), reverse=True)
    shares = np.array([row[1] for row in section.rows]) / sum(row[1] for row in section.rows)
    assert f"as diverse as {np.exp(-(shares * np.log(shares)).sum()):.1f} equally" in section.note
