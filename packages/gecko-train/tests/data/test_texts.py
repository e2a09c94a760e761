from dataclasses import replace

import pytest
import torch

from gecko_core.text_identity import text_id
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.texts import batch_texts, block_texts, row_texts, teacher_rows


def test_formats_follow_the_row(formats):
    asymmetric = TrainingRow("search result", "q", Document("p", "t"), (Document("n"),))
    symmetric = TrainingRow("classification", "a", Document("b", "t"), (Document("c"),), symmetric=True)
    batch = batch_texts([asymmetric, symmetric], formats, 2)
    texts = [batch.texts[index] for index in batch.documents.flatten()]
    assert texts == [
        "title: t | text: p", "title: none | text: n",
        "task: classification | query: b", "task: classification | query: c",
    ]  # fmt: skip
    assert [batch.texts[index] for index in batch.queries] == [
        "task: search result | query: q",
        "task: classification | query: a",
    ]
    assert batch.query_ids.tolist() == [text_id("q"), text_id("a")]
    assert batch.document_ids[0].tolist() == [text_id("t", "p"), text_id("n")]


def test_a_text_is_embedded_once_and_missing_negatives_repeat_the_positive(formats):
    shared = Document("same")
    rows = [TrainingRow("t", "q1", shared), TrainingRow("t", "q2", Document("other"), (shared,))]
    batch = batch_texts(rows, formats, 2)
    assert len(batch.texts) == 4
    assert batch.documents[0, 0] == batch.documents[0, 1] == batch.documents[1, 1]
    assert batch.document_ids[0, 0] == batch.document_ids[0, 1]


def test_rows_of_one_label_are_no_negatives_of_each_other(formats):
    rows = [TrainingRow("t", f"q{n}", Document(f"p{n}"), (Document(f"n{n}"),), label="ab"[n % 2]) for n in range(4)]
    batch = batch_texts(rows, formats, 2)
    assert batch.query_ids[0] == batch.query_ids[2] == batch.document_ids[0, 0] == batch.document_ids[2, 0]
    assert batch.query_ids[0] != batch.query_ids[1]
    assert len(set(batch.document_ids[:, 1].tolist())) == 4


def test_a_negative_that_is_query_or_positive_has_the_positives_id(formats):
    documents = (Document("p"), Document("Q"), Document("n"), Document("p", "other"))
    row = TrainingRow("t", "q", Document("p", "title"), documents)
    for label in (None, "x"):
        first, *others = batch_texts([replace(row, label=label)], formats, 5).document_ids[0].tolist()
        assert others == [first, first, text_id("n"), text_id("other", "p")]


def test_teacher_vectors_are_laid_out_row_by_row_with_the_query_first(formats):
    rows = [TrainingRow("t", f"q{n}", Document(f"p{n}"), (Document("shared"),)) for n in range(3)]
    batch = batch_texts(rows, formats, 2)
    vectors = torch.randn(len(batch.texts), 8, generator=torch.Generator().manual_seed(0))
    laid_out = teacher_rows(vectors, batch)
    assert laid_out.shape == (3, 3, 8)
    texts = ["task: t | query: q1", "title: none | text: p1", "title: none | text: shared"]
    assert torch.equal(laid_out[1], vectors[[batch.texts.index(text) for text in texts]])


def test_rows_without_an_answer_keep_their_candidates_and_single_texts_fill_every_place(formats):
    rows = [
        TrainingRow("t", "asked", None, (Document("c1"), Document("c2")), scores=(0.5, -1.0)),
        TrainingRow("t", "alone", None),
        TrainingRow("t", None, None, (Document("passage", "title"),)),
        TrainingRow("t", "known", Document("p")),
    ]
    batch = batch_texts(rows, formats, 2)
    assert batch.answered.tolist() == [False, False, False, True]
    read = [[batch.texts[index] for index in row] for row in batch.documents]
    assert read[0] == ["title: none | text: c1", "title: none | text: c2"]
    assert read[1] == ["task: t | query: alone"] * 2
    assert read[2] == ["title: title | text: passage"] * 2
    assert [batch.texts[index] for index in batch.queries][1:3] == [read[1][0], read[2][0]]
    assert batch.scores[0].tolist() == [0.5, -1.0]
    assert len(set(batch.texts)) == len(batch.texts) == 7
    assert {text for row in rows for text in row_texts(row, formats, 2)} == set(batch.texts)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_ranks_embed_a_block_together(formats, world_size):
    queries = [("t", f"q{n}") for n in range(5)]
    documents = [Document(f"d{n}") for n in range(7)]
    shares = [block_texts(queries, documents, formats, rank, world_size) for rank in range(world_size)]
    read = [share.texts[index] for share in shares for index in share.queries]
    assert read == [f"task: t | query: q{n}" for n in range(5)]
    read = [share.texts[index] for share in shares for index in share.documents]
    assert read == [f"title: none | text: d{n}" for n in range(7)]


def test_a_text_that_is_its_own_answer_is_embedded_twice(formats):
    row = TrainingRow("t", "one", Document("one"), symmetric=True)
    asymmetric = TrainingRow("t", "one", Document("one"))
    batch = batch_texts([row, asymmetric], formats, 1)
    assert batch.texts[0] == batch.texts[1]
    assert len(batch.texts) == 3  # the document format makes another text of it
    assert batch.queries.tolist() == [0, 0]
    assert batch.documents.ravel().tolist() == [1, 2]
