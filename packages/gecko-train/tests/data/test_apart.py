"""Texts of the run's test in sets that the run did not make."""

import json
import logging

import pytest

from gecko_core.text_identity import text_id
from gecko_train.config import SetConfig
from gecko_train.data import load_set
from gecko_train.data.apart import SetApart
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.sources.base import SourceContext


def apart(*texts):
    return SetApart(frozenset(map(text_id, texts)))


def row(query, positive, *negatives, scores=None):
    of = [None if text is None else Document(text) for text in (positive, *negatives)]
    return TrainingRow("search result", query, of[0], tuple(of[1:]), scores=scores)


def test_a_row_of_the_test_is_left_out_and_documents_of_it_are_taken_from_others():
    of = apart("who ran?", "the dog ran")
    assert of.left(row("Who  ran?", "a bird")) is None
    assert of.left(row("who", "The dog ran")) is None
    assert of.left(row("who", None, "the dog ran")) is None
    whole = row("who", "a bird", "a cat", scores=(1.0, 2.0))
    assert of.left(whole) is whole
    kept = of.left(row("who", "a bird", "the dog ran", "a cat", scores=(1.0, 2.0, 3.0)))
    assert (kept.negatives, kept.scores) == ((Document("a cat"),), (1.0, 3.0))
    kept = of.left(row("who", None, "a cat", "the dog ran", "a cow", scores=(1.0, 2.0, 3.0)))
    assert (kept.negatives, kept.scores) == ((Document("a cat"), Document("a cow")), (1.0, 3.0))
    assert of.note("mine") == (
        "set mine: 3 rows, and 2 documents of others, left out: this run tests with their texts, or chooses by them"
    )
    assert apart("nothing").note("mine") is None


@pytest.mark.parametrize("source", ["triplets", "arrow"])
@pytest.mark.parametrize("streamed", [False, True])
def test_sets_of_a_path_are_read_without_the_test(tmp_path, caplog, source, streamed):
    records = [{"query": f"query {n}", "positive": f"text {n}", "negative": f"other {n}"} for n in range(6)]
    path = tmp_path / "set"
    if source == "arrow":
        if streamed:
            pytest.skip("is memory-mapped already")
        RowSet.write(path, [row(each["query"], each["positive"], each["negative"]) for each in records])
    else:
        path = path.with_suffix(".jsonl")
        path.write_text("".join(json.dumps(each) + "\n" for each in records))
    options = {"stream": True, "rows": 6} if streamed else {}
    context = SourceContext(apart=apart("query 1", "text 3"), held_out=frozenset([text_id("query 5")]))
    with caplog.at_level(logging.WARNING):
        found = load_set(SetConfig(source=source, path=str(path), **options), context)
    rows = list(found._read()) if streamed else list(found)
    assert [each.query for each in rows] == ["query 0", "query 2", "query 4"]
    assert ("set set: 2 rows" in caplog.text) == (not streamed)
    assert context.apart.rows == 0  # counted by set
