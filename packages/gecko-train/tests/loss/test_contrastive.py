import math

import pytest
import torch
from torch.nn.functional import normalize

from gecko_train.loss.base import Block
from gecko_train.loss.contrastive import masked_softmax_loss, queries_as_answers
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


@pytest.mark.parametrize("margin", [None, 0.1])
@pytest.mark.parametrize("scope", ["own", "batch"])
def test_missing_negatives_of_some_rows_change_nothing(scope, margin):
    """Against the loss of float64 vectors over the negatives that are there, whatever stands for those that are not."""
    q, d = (x.double() for x in embeddings(batch=6, documents=4))
    query_ids, document_ids = ids(batch=6, documents=4)
    count = [0, 1, 3, 2, 0, 1]  # hard negatives of each row
    for row, there in enumerate(count):
        d[row, 1 + there :], document_ids[row, 1 + there :] = d[row, 0], document_ids[row, 0]
    config = ObjectiveConfig(
        negatives_scope=scope, hard_negatives=3, temperature=0.5, same_tower=False, false_negative_margin=margin
    )
    loss, watched = Objective(config, dims=(8,))(q.float(), d.float(), query_ids, document_ids)
    q, d = normalize(q, dim=-1), normalize(d, dim=-1)
    hard = [(row, d[row, column]) for row, there in enumerate(count) for column in range(1, 1 + there)]
    total = 0.0
    for row in range(6):
        own = q[row] @ d[row, 0]
        others = [q[row] @ d[other, 0] for other in range(6) if other != row]
        others = [s for s in others if margin is None or s <= own + margin]
        others += [q[row] @ vector for of, vector in hard if scope == "batch" or of == row]
        total += float(torch.stack([own, *others]).div(0.5).logsumexp(0) - own / 0.5) / 6
    assert float(loss) == pytest.approx(total, rel=1e-5)
    similarity = sum(float(q[row] @ vector) for row, vector in hard) / len(hard)
    assert watched["negative_similarity"] == pytest.approx(similarity, abs=1e-6)


def test_without_any_hard_negative_there_is_no_similarity_of_them():
    q, d = embeddings()
    query_ids, document_ids = ids()
    d[:, 1], document_ids[:, 1] = d[:, 0], document_ids[:, 0]
    own, batch, none = (
        Objective(ObjectiveConfig(temperature=0.5, **options), dims=(8,))(q, d, query_ids, document_ids)
        for options in ({}, {"negatives_scope": "batch"}, {"hard_negatives": 0})
    )
    torch.testing.assert_close(own[0], none[0])
    torch.testing.assert_close(batch[0], none[0])
    assert "negative_similarity" not in own[1] | batch[1] | none[1]


def test_a_rows_own_query_among_the_negatives_of_all_rows_is_none_of_it():
    """Another row's hard negative is the first row's query: masked for it as its own positive would be."""
    q, d = embeddings()
    query_ids, document_ids = ids()
    d[3, 1], masked, unmasked = q[0], document_ids.clone(), document_ids.clone()
    document_ids[3, 1], masked[3, 1] = query_ids[0], document_ids[0, 0]
    objective = Objective(ObjectiveConfig(negatives_scope="batch", temperature=0.5), dims=(8, 4))
    own, by_hand, seen = (objective(q, d, query_ids, given)[0] for given in (document_ids, masked, unmasked))
    torch.testing.assert_close(own, by_hand)
    assert own < seen


def test_queries_have_their_positives_ids_as_negatives():
    found = queries_as_answers(torch.tensor([[1, 7], [3, 2]]), torch.tensor([2, 1]), torch.tensor([20, 10]))
    assert found.tolist() == [[10, 7], [3, 20]]


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


def by_both(q, d, query_ids, document_ids, **options):
    """The same loss by the kernels and by plain PyTorch with masks that mask nothing."""
    config = ObjectiveConfig(temperature=0.1, **options)
    kernel, _ = Objective(config, dims=(8, 4))(q, d, query_ids, document_ids)
    hard = config.hard_negatives
    nothing = torch.zeros(len(q), len(q), dtype=torch.bool), torch.zeros(len(q), hard, dtype=torch.bool)
    plain, _ = masked_softmax_loss(
        q, d[:, 0], d[:, 1 : 1 + hard] if hard else None, temperature=0.1, dims=(8, 4), dim_weights=None,
        in_batch=True, same_tower=config.same_tower, query_ids=query_ids, positive_ids=document_ids[:, 0],
        negative_ids=document_ids[:, 1 : 1 + hard] if hard else None, hardness=config.hardness,
        false_negative_margin=config.false_negative_margin, likely=nothing,
    )  # fmt: skip
    return kernel, plain


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"same_tower": False},
        {"hard_negatives": 0},
        {"hard_negatives": 2, "hardness": 3.0},
        {"false_negative_margin": 0.1},
    ],
)
def test_the_masked_loss_without_a_mask_is_that_of_the_kernels(options):
    q, d = embeddings(batch=6, documents=3)
    query_ids, document_ids = torch.tensor([0, 1, 2, 0, 4, 5]), ids(6, 3)[1].clone()
    document_ids[5, 0] = document_ids[4, 0]  # the same passage
    document_ids[3, 1] = document_ids[3, 0]  # padded
    kernel, plain = by_both(q, d, query_ids, document_ids, **options)
    torch.testing.assert_close(kernel, plain, rtol=1e-5, atol=1e-6)


def test_own_hard_negatives_alone():
    q, d = embeddings(batch=4, documents=3)
    config = ObjectiveConfig(temperature=0.3, in_batch=False, hard_negatives=2)
    loss, _ = Objective(config, dims=(8, 4))(q, d, *ids(4, 3))
    wanted = 0.0
    for dim in (8, 4):
        u, v = (normalize(x[..., :dim].double(), dim=-1) for x in (q, d))
        wanted += float(-((u[:, None] * v).sum(-1) / 0.3).log_softmax(1)[:, 0].mean())
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    other = q.clone()
    other[1] = 5.0
    changed, _ = Objective(config, dims=(8, 4))(other, d, *ids(4, 3))
    single, _ = Objective(config, dims=(8, 4))(other[1:2], d[1:2], *(x[1:2] for x in ids(4, 3)))
    before, _ = Objective(config, dims=(8, 4))(q[1:2], d[1:2], *(x[1:2] for x in ids(4, 3)))
    assert float(changed - loss) == pytest.approx(float(single - before) / 4, rel=1e-3)  # no row looks at another


def test_what_a_teacher_takes_for_an_answer_is_no_negative():
    q, d = embeddings(batch=4, documents=2)
    rows = torch.arange(8).reshape(4, 2)
    likely = torch.zeros(4, 8, dtype=torch.bool)
    likely[0, 2] = likely[1, 3] = likely[2, 4] = True  # another's positive, an own negative, the row's own positive
    block = Block(d.flatten(0, 1), rows, torch.zeros(4, 8), likely)
    config = ObjectiveConfig(temperature=0.5, same_tower=False, false_negative_share=0.6)
    loss, watched = Objective(config, dims=(8,))(q, d, *ids(4, 2), block=block)
    u, v = normalize(q.double(), dim=-1), normalize(d.double(), dim=-1)
    wanted = 0.0
    for i in range(4):
        terms = [u[i] @ v[j, 0] for j in range(4) if (i, j) != (0, 1)] + [u[i] @ v[i, 1] for _ in range(i != 1)]
        wanted += float(torch.stack(terms).div(0.5).logsumexp(0) - u[i] @ v[i, 0] / 0.5) / 4
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    assert watched["left_out"] == pytest.approx(2 / 16)


def test_rows_without_an_answer_are_passed_over():
    q, d = embeddings(batch=5, documents=2)
    query_ids, document_ids = ids()
    answered = torch.tensor([True, False, True, True, False])
    config = ObjectiveConfig(temperature=0.1)
    loss, watched = Objective(config, dims=(8, 4))(q, d, query_ids, document_ids, answered=answered)
    alone, _ = Objective(config, dims=(8, 4))(q[answered], d[answered], query_ids[answered], document_ids[answered])
    torch.testing.assert_close(loss, alone)
    q.requires_grad_()
    loss, watched = Objective(config, dims=(8,))(q, d, query_ids, document_ids, answered=~answered & answered)
    loss.backward()
    assert (float(loss.detach()), watched) == (0.0, {})
    assert q.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_batch": False, "hard_negatives": 0}, "in_batch: false leaves no negatives"),
        (
            {"in_batch": False, "negatives_scope": "batch"},
            "in_batch: false and negatives_scope: batch exclude each other",
        ),
        ({"false_negative_share": 0.6, "negatives_scope": "batch"}, "use negatives_scope: own"),
        ({"false_negative_share": 1.0}, "less than 1"),
        ({"hard_negatives": 10**9}, "less than or equal to 4096"),  # rows are filled up to it
        ({"kl": {"documents": 10**9}}, "less than or equal to 4096"),
    ],
)
def test_settings_that_exclude_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**options)
