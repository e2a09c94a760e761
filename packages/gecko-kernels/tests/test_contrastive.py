"""The loss on CPU: against the reference over dtypes, sizes, masks and prefixes, and at the edges."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy, normalize

from gecko_kernels import same_tower_softmax_loss
from gecko_kernels._arguments import check_loss
from gecko_kernels.cpu import one_pass as chunked
from gecko_kernels.reference import prefix_logits

CASES = {
    "one-row": {"rows": 1, "hard": 2},
    "plain": {"hard": 0},
    "no-same-tower": {"same_tower": False, "dims": (24, 7)},
    "own-negatives": {"hard": 3, "dims": (24, 8)},
    "batch-negatives": {"hard": 2, "negatives_scope": "batch", "dims": (8, 24)},
    "five-prefixes": {"rows": 17, "width": 33, "dims": (33, 21, 13, 4, 1), "dim_weights": (1, 0.5, 2, 0.1, 1)},
    "narrower-than-width": {"dims": (9, 17)},
    "ids": {"rows": 31, "ids": True, "hard": 2, "dims": (24, 8)},
    "ids-batch": {"rows": 31, "ids": True, "hard": 2, "negatives_scope": "batch", "dims": (24, 8)},
    "external-keys": {"extra_columns": 9, "ids": True, "dims": (24, 8)},
    "external-no-tower": {"extra_columns": 5, "same_tower": False, "hard": 0},
    "hardness": {"hardness": 5.0, "hard": 2, "dims": (24, 8)},
    "hardness-batch": {"hardness": 5.0, "hard": 2, "negatives_scope": "batch"},
    "sharp": {"temperature": 0.01, "ids": True, "dims": (24, 8), "hard": 2},
    "margin": {"rows": 31, "false_negative_margin": 0.1, "hard": 2, "dims": (24, 8)},
    "margin-one-row": {"rows": 1, "false_negative_margin": 0.0},
    "margin-no-tower": {"false_negative_margin": 0.0, "same_tower": False, "hard": 0},
    "margin-ids-batch": {
        "rows": 31,
        "false_negative_margin": 0.05,
        "ids": True,
        "hard": 2,
        "negatives_scope": "batch",
        "hardness": 2.0,
    },
    "margin-external": {"false_negative_margin": 0.1, "extra_columns": 9, "ids": True, "dims": (24, 8)},
    "margin-narrower-than-width": {"rows": 23, "false_negative_margin": 0.1, "ids": True, "dims": (9, 17), "hard": 2},
    "margin-sharp": {
        "rows": 23,
        "false_negative_margin": 0.1,
        "temperature": 0.003,
        "ids": True,
        "dims": (13, 8),
        "hard": 2,
    },
    "sharp-batch-external": {
        "temperature": 0.003,
        "extra_columns": 4,
        "ids": True,
        "negatives_scope": "batch",
        "hardness": 1.0,
    },
}


@pytest.fixture(params=[5, 1 << 21], ids=["small-strips", "one-strip"])
def strips(request, monkeypatch):
    """Strips of a few rows, so that small batches cross their borders, or the usual size."""
    monkeypatch.setattr(chunked, "STRIP_ELEMENTS", request.param)
    return request.param


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_agrees_with_reference(case, dtype, strips, make_problem, with_gradients, assert_near, tolerances):
    tensors, options = make_problem(dtype=dtype, **CASES[case])
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    found, gradients = with_gradients(same_tower_softmax_loss, "torch", tensors, options)
    sharp = 0.05 / float(options["temperature"])  # errors of cosines reach the loss divided by t
    assert_near(found, expected, tolerances[dtype] * sharp, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[dtype] * sharp, floor=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 37])
def test_half_precision(dtype, rows, make_problem, with_gradients, assert_near, tolerances):
    tensors, options = make_problem(rows=rows, width=40, hard=2, dtype=dtype, dims=(40, 16), ids=True)
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    found, gradients = with_gradients(same_tower_softmax_loss, "torch", tensors, options)
    assert found.dtype == torch.float32
    assert_near(found, expected, 1e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[dtype], floor=1e-3)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("case", ["own-negatives", "ids-batch", "external-keys", "margin-external"])
def test_gradcheck(backend, case, monkeypatch, make_problem):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    small = {"rows": 4, "width": 6, "dims": (6, 2), "extra_columns": 2 if "external" in case else 0}
    tensors, options = make_problem(**{**CASES[case], **small, "temperature": 0.5})
    names = [name for name, value in options.items() if torch.is_tensor(value) and value.is_floating_point()]
    leaves = [tensor.requires_grad_() for tensor in (*tensors, *(options[name] for name in names))]

    def loss(*given):
        named = dict(zip(names, given[len(tensors) :], strict=True))
        return same_tower_softmax_loss(*given[: len(tensors)], **{**options, **named})

    assert gradcheck(loss, leaves)


def test_is_the_papers_formula(make_problem):
    (q, p, n), _ = make_problem(rows=5, hard=1)
    found = same_tower_softmax_loss(q, p, n, temperature=0.1)
    q, p, n = normalize(q), normalize(p), normalize(n[:, 0])
    logits = torch.cat([q @ p.T, (q @ q.T).fill_diagonal_(-torch.inf), (q * n).sum(1, keepdim=True)], 1) / 0.1
    torch.testing.assert_close(found, cross_entropy(logits, torch.arange(5)))


def test_matryoshka_is_the_sum_over_renormalised_prefixes(make_problem):
    (q, p, n), options = make_problem(rows=9)
    parts = [
        weight * same_tower_softmax_loss(q[:, :d], p[:, :d], n[..., :d], **options) for d, weight in ((24, 1), (8, 3))
    ]
    together = same_tower_softmax_loss(q, p, n, dims=(24, 8), dim_weights=(1, 3), **options)
    torch.testing.assert_close(together, sum(parts))


def test_equal_ids_are_never_negatives():
    q = torch.eye(4, dtype=torch.float64)
    p = q.clone()
    arguments = {
        "temperature": 0.1, "dims": None, "dim_weights": None, "same_tower": True, "negatives_scope": "own",
        "key_queries": None, "column_offset": 0, "hardness": 0.0,
    }  # fmt: skip
    checked = check_loss(
        q, p, q[:, None],
        query_ids=torch.tensor([1, 1, 2, 3]), positive_ids=torch.tensor([7, 8, 9, 9]),
        negative_ids=torch.tensor([[7], [9], [8], [9]]), **arguments,
    )  # fmt: skip
    masked = prefix_logits(checked, 4)[0].isinf().int().tolist()
    assert masked == [
        [0, 1, 0, 0, 1, 1, 0, 0, 1],
        [1, 0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("same_tower", [True, False])
def test_what_beats_the_positive_by_the_margin_does_not_count(backend, same_tower, monkeypatch, make_problem):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    (q, p, n), _ = make_problem(rows=9, width=6)
    p[1] = q[0]  # closer to query 0 than its own positive
    n[2, 0] = q[2]  # a hard negative counts however close it is
    loss, left_out = same_tower_softmax_loss(
        q, p, n, temperature=0.5, dims=(3,), same_tower=same_tower, false_negative_margin=0.1, return_left_out=True
    )
    full, narrow = ([normalize(tensor[..., :d], dim=-1) for tensor in (q, p, n[:, 0])] for d in (6, 3))
    expected, count = 0.0, 0
    for i in range(9):
        terms = [narrow[0][i] @ narrow[1][i], narrow[0][i] @ narrow[2][i]]
        for full_columns, columns in list(zip(full[1::-1], narrow[1::-1], strict=True))[: 2 if same_tower else 1]:
            others = [j for j in range(9) if j != i]
            kept = [j for j in others if full[0][i] @ full_columns[j] <= full[0][i] @ full[1][i] + 0.1]
            count += len(others) - len(kept)
            terms += [narrow[0][i] @ columns[j] for j in kept]
        expected += (torch.stack(terms).div(0.5).logsumexp(0) - terms[0] / 0.5) / 9
    torch.testing.assert_close(loss, expected)
    assert count > 0
    torch.testing.assert_close(left_out, torch.tensor(count / (81 * (1 + same_tower)), dtype=torch.float64))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("margin")])
def test_share_left_out_agrees_with_reference(case, strips, make_problem, monkeypatch):
    tensors, options = make_problem(**CASES[case])
    shares = []
    for backend in ("reference", "torch"):
        monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
        shares.append(same_tower_softmax_loss(*tensors, **options, return_left_out=True)[1])
    torch.testing.assert_close(*shares)
    assert case == "margin-one-row" or 0 < shares[0] < 1


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_margin_that_nothing_exceeds_changes_nothing(backend, make_problem, with_gradients):
    tensors, options = make_problem(ids=True, dims=(24, 8))
    expected, wanted = with_gradients(same_tower_softmax_loss, backend, tensors, options)
    loss, gradients = with_gradients(same_tower_softmax_loss, backend, tensors, {**options, "false_negative_margin": 2})
    assert torch.equal(loss, expected)
    assert all(torch.equal(tensor, other) for tensor, other in zip(gradients, wanted, strict=True))
    for margin in (None, 2.0):
        _, left_out = same_tower_softmax_loss(*tensors, **options, false_negative_margin=margin, return_left_out=True)
        assert left_out == 0


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("temperature", [0.05, 1e-4])
def test_margin_at_extremes(backend, temperature, make_problem, with_gradients, assert_near):
    """Zero vectors, huge logits, and a row whose every other term is closer than its positive."""
    tensors, options = make_problem(
        rows=7, dtype=torch.float32, temperature=temperature, dims=(24, 8), hard=0, false_negative_margin=0.05
    )
    queries, positives = tensors
    queries[0], positives[1] = 0, 0
    positives[2] = -queries.sum(0)
    queries[2] = queries[3] = queries[4]
    positives[3:] = queries[2]
    positives *= 1e4
    loss, gradients = with_gradients(same_tower_softmax_loss, backend, tensors, options)
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    assert loss.isfinite()
    assert_near(loss, expected, 1e-4, floor=1.0)
    assert all(gradient.isfinite().all() for gradient in gradients)
    for tensor, other in zip(gradients[:2], wanted[:2], strict=True):
        assert_near(tensor, other, 1e-4, floor=1e-3)
    assert not gradients[0][0].any()


@pytest.mark.parametrize("temperature", [0.05, 0.001])
def test_fully_masked_rows_have_loss_and_gradient_zero(temperature, make_problem, with_gradients):
    tensors, _ = make_problem(rows=6)
    same = torch.zeros(6, dtype=torch.int64)
    options = {
        "temperature": temperature,
        "query_ids": same,
        "positive_ids": same,
        "negative_ids": same[:, None],
        "dims": (24, 8),
    }
    loss, gradients = with_gradients(same_tower_softmax_loss, "torch", tensors, options)
    assert loss.abs() < 1e-12
    assert all(gradient.abs().max() < 1e-9 for gradient in gradients)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_logits_of_ten_thousand(backend, scale, make_problem, with_gradients):
    tensors, options = make_problem(rows=12, dtype=torch.float32, temperature=1e-4, dims=(24, 8), ids=True)
    loss, gradients = with_gradients(same_tower_softmax_loss, backend, [scale * tensor for tensor in tensors], options)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("temperature", [0.05, 1e-4])
def test_zero_vectors_and_identical_rows(backend, temperature, make_problem, with_gradients, assert_near):
    tensors, options = make_problem(rows=6, dtype=torch.float32, temperature=temperature, dims=(24, 8))
    queries, positives, negatives = tensors
    queries[0], positives[1], negatives[2] = 0, 0, 0
    queries[3, :8] = 0  # a prefix without direction in a vector that has one
    queries[4], positives[4], negatives[4] = positives[5], positives[5], positives[5]
    loss, gradients = with_gradients(same_tower_softmax_loss, backend, tensors, options)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][0].any()
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    assert_near(loss, expected, 1e-4, floor=1.0)
    assert_near(gradients[0], wanted[0], 1e-4, floor=1e-3)


def test_twenty_runs_give_the_same_bits(make_problem, with_gradients, monkeypatch):
    monkeypatch.setattr(chunked, "STRIP_ELEMENTS", 2000)
    tensors, options = make_problem(rows=101, width=48, dtype=torch.float32, dims=(48, 16), ids=True)
    loss, gradients = with_gradients(same_tower_softmax_loss, "torch", tensors, options)
    for _ in range(19):
        again, more = with_gradients(same_tower_softmax_loss, "torch", tensors, options)
        assert torch.equal(again, loss)
        assert all(torch.equal(tensor, other) for tensor, other in zip(more, gradients, strict=True))


def test_devices_together_equal_one_device(make_problem):
    """Two ranks with half the rows each and gathered keys add up to the whole batch, gradients included."""
    (q, p, n), options = make_problem(rows=10, hard=2, ids=True, dims=(24, 8))
    whole = [tensor.clone().requires_grad_() for tensor in (q, p, n)]
    expected = same_tower_softmax_loss(*whole, **options)
    expected.backward()
    shared = [tensor.clone().requires_grad_() for tensor in (q, p, n)]
    total = 0.0
    for rank in range(2):
        part = slice(5 * rank, 5 * rank + 5)
        own = {**options, "negative_ids": options["negative_ids"][part]}
        loss = same_tower_softmax_loss(
            shared[0][part], shared[1], shared[2][part], key_queries=shared[0], column_offset=5 * rank, **own
        )
        total = total + loss / 2
    total.backward()
    torch.testing.assert_close(total, expected)
    for tensor, other in zip(shared, whole, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad)


@pytest.mark.parametrize("margin", [None, 0.05])
def test_nothing_of_size_rows_times_rows_is_held(margin):
    """Peak of the operators' allocations, counted by the profiler, against what one B x B matrix takes."""
    rows, width = 2048, 32
    q, p = (torch.randn(rows, width, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in range(2))
    strip = chunked.STRIP_ELEMENTS
    chunked.STRIP_ELEMENTS = 32 * rows
    try:
        with torch.profiler.profile(profile_memory=True) as profile:
            same_tower_softmax_loss(q, p, temperature=0.05, dims=(32, 16), false_negative_margin=margin).backward()
    finally:
        chunked.STRIP_ELEMENTS = strip
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak < rows * rows * 4 / 2


@pytest.mark.parametrize("margin", [None, 0.1])
def test_operators_pass_opcheck(margin, make_problem):
    (q, p, n), options = make_problem(rows=4, width=6)
    for tensor in (q, p, n):
        tensor.requires_grad_()
    arguments = (
        q,
        p,
        None,
        n,
        options["temperature"],
        None,
        None,
        None,
        [2, 6],
        [1.0, 1.0],
        True,
        0,
        0.0,
        margin,
        True,
    )
    result = torch.library.opcheck(torch.ops.gecko_kernels.chunked_loss, arguments)
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize("margin", [None, 0.1])
def test_compiles_without_graph_breaks(margin, make_problem):
    tensors, options = make_problem(
        rows=7, dims=(24, 8), ids=True, dtype=torch.float32, false_negative_margin=margin, return_left_out=True
    )
    leaves, eager = ([tensor.clone().requires_grad_() for tensor in tensors] for _ in range(2))

    def loss(*given):
        loss, left_out = same_tower_softmax_loss(*given, **options)
        return 2 * loss + left_out

    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(*leaves)
    found.backward()
    expected = loss(*eager)
    expected.backward()
    torch.testing.assert_close(found, expected)
    for tensor, other in zip(leaves, eager, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad)


def test_upstream_gradients_and_unneeded_ones(make_problem):
    (q, p, n), options = make_problem()
    q.requires_grad_()
    (3 * same_tower_softmax_loss(q, p, n, **options)).backward()
    other = q.detach().clone().requires_grad_()
    same_tower_softmax_loss(other, p, n, **options).backward()
    torch.testing.assert_close(q.grad, 3 * other.grad)
    assert p.grad is None
    with torch.no_grad():
        assert not same_tower_softmax_loss(q, p, n, **options).requires_grad


def test_second_derivatives_are_refused(make_problem):
    (q, p, n), options = make_problem()
    q.requires_grad_()
    (first,) = torch.autograd.grad(same_tower_softmax_loss(q, p, n, **options), q, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": torch.ones(3)}, r"queries: expected shape \(B, D\).*found \(3,\)"),
        ({"positives": torch.ones(4, 5)}, r"positives: expected shape \(C, 6\) with C >= 4, found \(4, 5\)"),
        ({"positives": torch.ones(3, 6)}, r"C >= 4, found \(3, 6\)"),
        ({"positives": torch.ones(5, 6)}, "same_tower with 4 queries and 5 positives"),
        ({"negatives": torch.ones(3, 6)}, r"\(4, 6\) or \(4, H, 6\), found \(3, 6\)"),
        ({"negatives_scope": "all"}, "'own' or 'batch', found 'all'"),
        ({"dims": (7,)}, r"1..6.*found \(7,\)"),
        ({"dims": (3, 3)}, "distinct"),
        ({"dims": (6, 3), "dim_weights": (1,)}, "expected 2 numbers, one per dim, found 1"),
        ({"temperature": 0}, "positive number, found 0"),
        ({"temperature": torch.ones(2)}, r"one element, found shape \(2,\)"),
        ({"query_ids": torch.arange(3)}, r"query_ids: expected shape \(4,\), found \(3,\)"),
        ({"negative_ids": torch.arange(4)}, "negative_ids"),
        ({"column_offset": 1}, "column_offset: expected 0 <= offset <= 0"),
        ({"hardness": -1}, "hardness"),
        ({"hardness": float("nan")}, "hardness"),
        ({"hardness": float("inf")}, "hardness"),
        ({"false_negative_margin": -0.1}, "false_negative_margin: expected None or a number >= 0, found -0.1"),
        ({"false_negative_margin": float("nan")}, "found nan"),
        ({"key_queries": torch.ones(2, 6)}, r"key_queries: expected shape \(4, 6\), found \(2, 6\)"),
    ],
)
def test_bad_arguments_say_expected_and_found(change, message):
    given = {"queries": torch.ones(4, 6), "positives": torch.ones(4, 6), "temperature": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        same_tower_softmax_loss(given.pop("queries"), given.pop("positives"), given.pop("negatives", None), **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": None}, "queries: expected a tensor, found NoneType"),
        ({"column_offset": 0.5}, "column_offset: expected a whole number, found 0.5"),
        ({"same_tower": "no"}, "same_tower: expected True or False, found 'no'"),
        ({"dims": [True, 2]}, r"expected numbers, found \[True, 2\]"),
        ({"dims": [2, 1], "dim_weights": ["1", "2"]}, r"expected numbers, found \[2, 1\] and \['1', '2'\]"),
    ],
)
def test_arguments_of_other_types_are_refused(change, message):
    with pytest.raises(TypeError, match=message):
        same_tower_softmax_loss(
            **{"queries": torch.ones(2, 2), "positives": torch.ones(2, 2), "temperature": 1, **change}
        )


def test_numbers_that_float32_does_not_hold_are_refused():
    ones = torch.ones(2, 2)
    for options, name in (
        ({"temperature": 1e-46}, "temperature"),
        ({"temperature": 1.0, "hardness": 1e39}, "hardness"),
        ({"temperature": 1.0, "dims": [2, 1], "dim_weights": [1e39, 1]}, "dim_weights"),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            same_tower_softmax_loss(ones, ones, **options)


def test_bad_dtypes_are_refused():
    ones = torch.ones(2, 3)
    with pytest.raises(TypeError, match="positives: expected a tensor, found list"):
        same_tower_softmax_loss(torch.ones(2, 3), [[1.0, 2.0, 3.0]], temperature=0.1)
    with pytest.raises(TypeError, match=r"float32 as queries have, found torch\.float64"):
        same_tower_softmax_loss(ones, ones.double(), temperature=0.1)
    with pytest.raises(TypeError, match=r"torch\.int64, found torch\.int32"):
        same_tower_softmax_loss(ones, ones, temperature=0.1, query_ids=torch.arange(2, dtype=torch.int32))
