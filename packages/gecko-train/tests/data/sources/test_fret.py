"""The adapter of FRet folders, over rows as `load_fret` gives them."""

import math

import pytest

from gecko_core.errors import ConfigError
from gecko_fret import Candidate, FretRow
from gecko_fret.corpus import Passage
from gecko_train.config import SetConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.fret import fret_rows
from gecko_train.data.sources.registry import load_set

PASSAGES = {f"p{n}": Passage(f"p{n}", f"title {n}" if n else None, f"text {n}") for n in range(6)}


@pytest.fixture(autouse=True)
def fret(monkeypatch):
    """One row: seed p0, chosen p2, mined p5, six candidates."""
    fused = {"p2": 2.0, "p0": 1.0, "p1": 0.7, "p3": 0.6, "p4": 0.5, "p5": 0.3}
    candidates = [Candidate(name, 0.9, -1.0, 3.0, 1, 1, score) for name, score in fused.items()]
    row = FretRow("r", "fact checking", "ask", PASSAGES["p2"], [PASSAGES["p5"]], "p0", 2, candidates)
    data = type("Data", (list,), {"passage": staticmethod(PASSAGES.__getitem__)})([row])
    monkeypatch.setattr("gecko_train.data.sources.fret.load_fret", lambda folder: data)


def only(**options):
    (row,) = fret_rows("folder", **options)
    return row


def test_the_papers_choice_and_the_llms_task():
    row = only()
    assert (row.task, row.query) == ("fact checking", "ask")
    assert (row.positive.text, row.positive.title) == ("text 2", "title 2")
    assert [negative.text for negative in row.negatives] == ["text 5"]
    assert not row.symmetric
    assert only(task="search result").task == "search result"


def test_the_other_labels_of_the_papers_table():
    assert only(positive="seed").positive.text == "text 0"
    assert only(negative="none").negatives == ()
    for seed in range(10):
        (negative,) = only(negative="random", seed=seed).negatives
        assert negative.text != "text 2"
    with pytest.raises(ConfigError, match=r"p_1\|seed"):
        only(positive="best")


def test_the_kl_list_carries_the_fused_score_of_every_document():
    row = only(list_documents=3)
    assert [negative.text for negative in row.negatives] == ["text 5", "text 0", "text 3", "text 4"]
    assert row.scores[0] == 2.0
    assert row.scores[1] == pytest.approx(0.3)
    assert not any(math.isnan(score) for score in row.scores)
    assert len({negative.text for negative in row.negatives} | {row.positive.text}) == 5


def test_the_source_lists_what_the_objective_reads(tmp_path):
    def load(scored, **options):
        config = SetConfig(source="fret", path=str(tmp_path), options=options)
        (row,) = load_set(config, SourceContext(scored_documents=scored))
        return len(row.negatives), row.scores is not None

    assert load(0) == (1, False)
    assert load(5) == (4, True)
    assert load(5, list_documents=1) == (2, True)
    with pytest.raises(ConfigError, match="options of source 'fret': positive: input should be 'p_1' or 'seed'"):
        load(0, positive="best")
