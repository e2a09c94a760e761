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


def fp64(q, d, scores, student, teacher, dims):
    total = 0.0
    for dim in dims:
        u, v = (normalize(x[..., :dim].double(), dim=-1) for x in (q, d))
        log_student = ((u[:, None] * v).sum(-1) / student).log_softmax(1)
        log_teacher = (scores.double() / teacher).log_softmax(1)
        total += float((log_teacher.exp() * (log_teacher - log_student)).sum(1).mean())
    return total


@pytest.mark.parametrize(
    ("options", "student", "teacher"),
    [
        ({}, 0.05, 1.0),  # calibrated probabilities: their logarithms as they are
        ({"temperature": 0.1}, 0.1, 1.0),
        ({"temperature": 0.1, "teacher_temperature": 0.3}, 0.1, 0.3),
        ({"teacher_temperature": 0.24}, 0.02, 0.24),  # a recipe of an earlier version: the objective's temperature
    ],
)
def test_kl_has_temperatures_of_its_own_and_is_taken_at_every_prefix(options, student, teacher):
    q, d = embeddings(batch=4, documents=5)
    scores = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    config = ObjectiveConfig(contrastive_weight=0.0, kl=KlConfig(weight=1.0, documents=5, **options))
    loss, watched = Objective(config, dims=(8, 4))(q, d, *ids(4, 5), scores)
    assert float(loss) == pytest.approx(fp64(q, d, scores, student, teacher, (8, 4)), rel=1e-4)
    assert watched["kl"] == pytest.approx(float(loss))


def test_the_default_of_earlier_versions_written_out_is_todays_default():
    earlier = {"weight": 0.5, "documents": 8, "teacher_temperature": 1.0}
    assert KlConfig.model_validate(KlConfig.upgrade(earlier)) == KlConfig(weight=0.5)
    chosen = earlier | {"teacher_temperature": 0.24}
    assert KlConfig.model_validate(KlConfig.upgrade(chosen)).teacher_temperature == 0.24
    now = KlConfig(weight=0.5, teacher_temperature=1.0).model_dump()
    assert KlConfig.model_validate(KlConfig.upgrade(now)).teacher_temperature == 1.0
