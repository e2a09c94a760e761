import torch

from gecko_core.text_identity import text_id
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.texts import batch_texts, teacher_rows


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


def test_teacher_vectors_are_laid_out_row_by_row_with_the_query_first(formats):
    rows = [TrainingRow("t", f"q{n}", Document(f"p{n}"), (Document("shared"),)) for n in range(3)]
    batch = batch_texts(rows, formats, 2)
    vectors = torch.randn(len(batch.texts), 8, generator=torch.Generator().manual_seed(0))
    laid_out = teacher_rows(vectors, batch)
    assert laid_out.shape == (3, 3, 8)
    texts = ["task: t | query: q1", "title: none | text: p1", "title: none | text: shared"]
    assert torch.equal(laid_out[1], vectors[[batch.texts.index(text) for text in texts]])
