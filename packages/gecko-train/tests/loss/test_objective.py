import math

import pytest
import torch
from torch.nn.functional import normalize

from gecko_core.errors import ConfigError
from gecko_core.text_identity import text_id
from gecko_train.config import ObjectiveConfig
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.loss.objective import Objective, batch_texts, spread_out


class Formats:
    """The gecko formats, written out again."""

    def format_queries(self, texts, task):
        return [f"task: {task} | query: {text}" for text in texts]

    def format_documents(self, texts, titles):
        return [f"title: {title or 'none'} | text: {text}" for text, title in zip(texts, titles, strict=True)]


def paper_loss(q, p, n, temperature):
    """L_main of the paper, term by term, on unit vectors."""
    total = 0.0
    for i in range(len(q)):
        denominator = math.exp(q[i] @ n[i] / temperature)
        for j in range(len(q)):
            denominator += math.exp(q[i] @ p[j] / temperature)
            denominator += math.exp(q[i] @ q[j] / temperature) if j != i else 0.0
        total -= math.log(math.exp(q[i] @ p[i] / temperature) / denominator)
    return total / len(q)


def embeddings(batch=5, documents=2, dim=8):
    torch.manual_seed(0)
    return torch.randn(batch, dim), torch.randn(batch, documents, dim)


def ids(batch=5, documents=2):
    return torch.arange(batch), 100 + torch.arange(batch * documents).reshape(batch, documents)


def test_the_loss_is_the_papers_summed_over_renormalised_prefixes():
    q, d = embeddings()
    loss, _ = Objective(ObjectiveConfig(temperature=0.5), dims=(8, 4))(q, d, *ids())
    wanted = sum(paper_loss(*(normalize(x[..., :dim], dim=-1) for x in (q, d[:, 0], d[:, 1])), 0.5) for dim in (8, 4))
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_formats_follow_the_row():
    asymmetric = TrainingRow("search result", "q", Document("p", "t"), (Document("n"),))
    symmetric = TrainingRow("classification", "a", Document("b", "t"), (Document("c"),), symmetric=True)
    found = batch_texts([asymmetric, symmetric], Formats(), 2)
    texts = [found.texts[place] for place in found.documents.flatten()]
    assert texts == [
        "title: t | text: p", "title: none | text: n",
        "task: classification | query: b", "task: classification | query: c",
    ]  # fmt: skip
    assert [found.texts[place] for place in found.queries] == [
        "task: search result | query: q",
        "task: classification | query: a",
    ]
    assert found.query_ids.tolist() == [text_id("q"), text_id("a")]
    assert found.document_ids[0].tolist() == [text_id("t", "p"), text_id("n")]


def test_a_text_is_embedded_once_and_missing_negatives_repeat_the_positive():
    shared = Document("same")
    rows = [TrainingRow("t", "q1", shared), TrainingRow("t", "q2", Document("other"), (shared,))]
    found = batch_texts(rows, Formats(), 2)
    assert len(found.texts) == 4
    assert found.documents[0, 0] == found.documents[0, 1] == found.documents[1, 1]
    assert found.document_ids[0, 0] == found.document_ids[0, 1]


def test_a_padded_negative_changes_nothing():
    q, d = embeddings()
    query_ids, document_ids = ids()
    padded, padded_ids = d.clone(), document_ids.clone()
    padded[:, 1], padded_ids[:, 1] = d[:, 0], document_ids[:, 0]
    with_padding, _ = Objective(ObjectiveConfig(), dims=(8,))(q, padded, query_ids, padded_ids)
    without, _ = Objective(ObjectiveConfig(hard_negatives=0), dims=(8,))(q, d, query_ids, document_ids)
    torch.testing.assert_close(with_padding, without)


def test_rows_of_one_label_are_no_negatives_of_each_other():
    rows = [TrainingRow("t", f"q{n}", Document(f"p{n}"), (Document(f"n{n}"),), label="ab"[n % 2]) for n in range(4)]
    found = batch_texts(rows, Formats(), 2)
    assert found.query_ids[0] == found.query_ids[2] == found.document_ids[0, 0] == found.document_ids[2, 0]
    assert found.query_ids[0] != found.query_ids[1]
    assert len(set(found.document_ids[:, 1].tolist())) == 4


def test_kl_is_added_with_its_weight_over_the_listed_documents():
    q, d = embeddings(batch=3, documents=4)
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    scores[0, 3] = float("nan")
    plain, _ = Objective(ObjectiveConfig(), dims=(8,))(q, d, *ids(3, 4))
    config = ObjectiveConfig(kl_weight=0.5, kl_documents=4, kl_teacher_temperature=2.0)
    found, watched = Objective(config, dims=(8,))(q, d, *ids(3, 4), scores)
    cosines = torch.einsum("bd,bmd->bm", normalize(q, dim=-1), normalize(d, dim=-1)) / 0.02
    wanted = 0.0
    for row in range(3):
        known = ~scores[row].isnan()
        teacher = (scores[row, known] / 2).log_softmax(0)
        wanted += float((teacher.exp() * (teacher - cosines[row, known].log_softmax(0))).sum()) / 3
    assert watched["kl"] == pytest.approx(wanted, rel=1e-4)
    assert float(found - plain) == pytest.approx(0.5 * wanted, rel=1e-4)


def test_a_row_without_negatives_and_without_scores_is_no_error():
    rows = [TrainingRow("t", "q1", Document("p1")), TrainingRow("t", "q2", Document("p2"), (), scores=(1.0,))]
    found = batch_texts(rows, Formats(), 4)
    q, d = torch.randn(2, 8), torch.randn(len(found.texts), 8)[found.documents]
    loss, watched = Objective(ObjectiveConfig(kl_weight=1.0, kl_documents=4), dims=(8,))(
        q, d, found.query_ids, found.document_ids, found.scores
    )
    assert torch.isfinite(loss)
    assert watched["kl"] == 0.0


def test_kl_term_has_a_finite_gradient():
    q, d = embeddings(batch=3, documents=4)
    q.requires_grad_()
    scores = torch.tensor([[1.0, 0.2, float("nan"), float("nan")]]).repeat(3, 1)
    config = ObjectiveConfig(kl_weight=1.0, kl_documents=4)
    objective = Objective(config, dims=(8,))
    assert objective.documents == 4
    loss, watched = objective(q, d, *ids(3, 4), scores)
    loss.backward()
    assert torch.isfinite(q.grad).all()
    assert watched["kl"] > 0


def test_spread_out_is_the_mean_squared_cosine_of_different_rows():
    v = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    cosines = normalize(v, dim=-1) @ normalize(v, dim=-1).T
    wanted = (cosines.square().sum() - 6) / 30
    torch.testing.assert_close(spread_out(v), wanted)
    assert float(spread_out(v[:1])) == 0.0


def test_dims_above_the_models_are_refused():
    with pytest.raises(ConfigError, match=r"objective\.dims: 16 is larger than the model's 8"):
        Objective(ObjectiveConfig(dims=[16, 8]), dims=(8,))
