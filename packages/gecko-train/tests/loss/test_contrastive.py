import math

import pytest
import torch
from torch.nn.functional import normalize

from gecko_train.loss.objective import Objective, ObjectiveConfig


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
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)


def test_a_padded_negative_changes_nothing():
    q, d = embeddings()
    query_ids, document_ids = ids()
    padded, padded_ids = d.clone(), document_ids.clone()
    padded[:, 1], padded_ids[:, 1] = d[:, 0], document_ids[:, 0]
    with_padding, _ = Objective(ObjectiveConfig(), dims=(8,))(q, padded, query_ids, padded_ids)
    without, _ = Objective(ObjectiveConfig(hard_negatives=0), dims=(8,))(q, d, query_ids, document_ids)
    torch.testing.assert_close(with_padding, without)


def test_a_margin_that_nothing_exceeds_changes_nothing():
    q, d = embeddings()
    query_ids, document_ids = torch.tensor([0, 1, 2, 0, 4]), ids()[1]
    options = {"temperature": 0.1, "hardness": 2.0}
    plain, _ = Objective(ObjectiveConfig(**options), dims=(8, 4))(q, d, query_ids, document_ids)
    config = ObjectiveConfig(**options, false_negative_margin=2.0)
    masked, watched = Objective(config, dims=(8, 4))(q, d, query_ids, document_ids)
    torch.testing.assert_close(masked, plain)
    assert watched["left_out"] == 0


def test_a_negative_above_the_positive_by_the_margin_does_not_count():
    q, d = embeddings(batch=6, documents=1)
    d[1, 0] = q[0]  # nearer to query 0 than its own positive: most likely a right answer
    cosines = normalize(q, dim=-1) @ normalize(d[:, 0], dim=-1).T
    among = normalize(q, dim=-1) @ normalize(q, dim=-1).T
    config = ObjectiveConfig(temperature=0.5, hard_negatives=0, false_negative_margin=0.1)
    q.requires_grad_()
    loss, watched = Objective(config, dims=(8,))(q, d, *ids(6, 1))
    wanted, left_out = 0.0, 0
    for i in range(6):
        terms = [cosines[i, i]]
        for other in (cosines, among):
            kept = [other[i, j] for j in range(6) if j != i and other[i, j] <= cosines[i, i] + 0.1]
            left_out += 5 - len(kept)
            terms += kept
        wanted += float(torch.stack(terms).div(0.5).logsumexp(0) - cosines[i, i] / 0.5) / 6
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    assert left_out > 0
    assert watched["left_out"] == pytest.approx(left_out / 72)
    loss.backward()
    assert torch.isfinite(q.grad).all()
