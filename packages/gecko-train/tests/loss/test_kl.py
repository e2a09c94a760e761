import pytest
import torch
from torch.nn.functional import normalize

from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.texts import batch_texts
from gecko_train.loss.kl import KlConfig
from gecko_train.loss.objective import Objective, ObjectiveConfig


def embeddings(batch=5, documents=2, dim=8):
    torch.manual_seed(0)
    return torch.randn(batch, dim), torch.randn(batch, documents, dim)


def ids(batch=5, documents=2):
    return torch.arange(batch), 100 + torch.arange(batch * documents).reshape(batch, documents)


def test_kl_is_added_with_its_weight_over_the_listed_documents():
    q, d = embeddings(batch=3, documents=4)
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    scores[0, 3] = float("nan")
    plain, _ = Objective(ObjectiveConfig(), dims=(8,))(q, d, *ids(3, 4))
    config = ObjectiveConfig(kl=KlConfig(weight=0.5, documents=4, teacher_temperature=2.0))
    loss, watched = Objective(config, dims=(8,))(q, d, *ids(3, 4), scores)
    cosines = torch.einsum("bd,bmd->bm", normalize(q, dim=-1), normalize(d, dim=-1)) / 0.02
    wanted = 0.0
    for row in range(3):
        known = ~scores[row].isnan()
        teacher = (scores[row, known] / 2).log_softmax(0)
        wanted += float((teacher.exp() * (teacher - cosines[row, known].log_softmax(0))).sum()) / 3
    assert watched["kl"] == pytest.approx(wanted, rel=1e-4)
    assert float(loss - plain) == pytest.approx(0.5 * wanted, rel=1e-4)


def test_a_row_without_negatives_and_without_scores_is_no_error(formats):
    rows = [TrainingRow("t", "q1", Document("p1")), TrainingRow("t", "q2", Document("p2"), (), scores=(1.0,))]
    texts = batch_texts(rows, formats, 4)
    q, d = torch.randn(2, 8), torch.randn(len(texts.texts), 8)[texts.documents]
    loss, watched = Objective(ObjectiveConfig(kl=KlConfig(weight=1.0, documents=4)), dims=(8,))(
        q, d, texts.query_ids, texts.document_ids, texts.scores
    )
    assert torch.isfinite(loss)
    assert watched["kl"] == 0.0


def test_kl_term_has_a_finite_gradient():
    q, d = embeddings(batch=3, documents=4)
    q.requires_grad_()
    scores = torch.tensor([[1.0, 0.2, float("nan"), float("nan")]]).repeat(3, 1)
    config = ObjectiveConfig(kl=KlConfig(weight=1.0, documents=4))
    objective = Objective(config, dims=(8,))
    assert objective.documents == 4
    loss, watched = objective(q, d, *ids(3, 4), scores)
    loss.backward()
    assert torch.isfinite(q.grad).all()
    assert watched["kl"] > 0
