import torch
from torch.nn.functional import normalize

from gecko_kernels import same_tower_softmax_loss
from gecko_train.loss.margin import margin_loss
from gecko_train.loss.objective import Objective, ObjectiveConfig

OPTIONS = {"temperature": 0.1, "dims": (8, 4), "negatives_scope": "own", "hardness": 2.0}


def batch(rows=6):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, 8, generator=generator) for shape in ((rows,), (rows,), (rows, 2))]


def test_a_margin_that_nothing_exceeds_is_the_kernels_loss():
    q, p, n = batch()
    ids = torch.tensor([0, 1, 2, 0, 4, 5])
    found, share = margin_loss(q, p, n, margin=2.0, query_ids=ids, **OPTIONS)
    torch.testing.assert_close(found, same_tower_softmax_loss(q, p, n, query_ids=ids, **OPTIONS))
    assert share == 0


def test_what_beats_the_positive_by_the_margin_does_not_count():
    q, p, _ = batch()
    p[1] = q[0]  # nearer to query 0 than its own positive: most likely a right answer
    cosines = normalize(q, dim=-1) @ normalize(p, dim=-1).T
    among = normalize(q, dim=-1) @ normalize(q, dim=-1).T
    found, share = margin_loss(q, p, None, margin=0.1, temperature=0.5, same_tower=True)
    wanted, left_out = 0.0, 0
    for i in range(6):
        terms = [cosines[i, i]]
        for other in (cosines, among):
            kept = [other[i, j] for j in range(6) if j != i and other[i, j] <= cosines[i, i] + 0.1]
            left_out += 5 - len(kept)
            terms += kept
        wanted += float(torch.stack(terms).div(0.5).logsumexp(0) - cosines[i, i] / 0.5) / 6
    torch.testing.assert_close(float(found), wanted)
    assert left_out > 0
    assert float(share) == torch.tensor(left_out / 72)


def test_the_objective_uses_it_and_has_a_gradient():
    q, p, _ = batch()
    q.requires_grad_()
    config = ObjectiveConfig(false_negative_margin=0.0, hard_negatives=0)
    loss, watched = Objective(config, dims=(8, 4))(q, p[:, None], torch.arange(6), torch.arange(6)[:, None])
    loss.backward()
    assert torch.isfinite(q.grad).all()
    assert 0 < watched["left_out"] < 1
