"""The block KL loss on CPU: PyTorch's own KL, the reference over dtypes, sizes and what is judged, and the edges."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cosine_similarity, kl_div

from gecko_kernels import block_kl_loss, kl_list_loss
from gecko_kernels.cpu import block_kl as chunked

CASES = {
    "all-judged": {"unjudged": 0.0, "dims": (24, 8)},
    "some-judged": {"dims": (24, 7), "dim_weights": (1, 0.5)},
    "few-judged": {"rows": 31, "unjudged": 0.9},
    "one-row": {"rows": 1, "columns": 9},
    "two-columns": {"rows": 40, "columns": 2},
    "more-rows": {"rows": 61, "columns": 7},
    "five-prefixes": {"rows": 17, "width": 33, "dims": (33, 21, 13, 4, 1), "dim_weights": (1, 0.5, 2, 0.1, 1)},
    "nine-prefixes": {"dims": (24, 20, 17, 12, 9, 7, 5, 3, 2)},
    "narrower-than-width": {"dims": (9, 17)},
    "teacher-temperature": {"teacher_temperature": 0.3, "dims": (24, 8)},
    "sharp": {"temperature": 0.003, "dims": (24, 8)},
    "sharp-teacher": {"spread": 3000.0, "dims": (24, 8)},
    "flat-teacher": {"spread": 0.0},
}


@pytest.fixture(params=[5, 1 << 20], ids=["small-strips", "one-strip"])
def strips(request, monkeypatch):
    """Strips of a few rows, so that small blocks cross their borders, or the usual size."""
    monkeypatch.setattr(chunked, "STRIP_ELEMENTS", request.param)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_agrees_with_reference_in_float64(case, dtype, strips, make_block, with_gradients, assert_near, tolerances):
    tensors, options = make_block(dtype=dtype, **CASES[case])
    # What the reference makes of the same numbers in float64.
    exact = {name: value.double() if torch.is_tensor(value) else value for name, value in options.items()}
    expected, wanted = with_gradients(block_kl_loss, "reference", [tensor.double() for tensor in tensors], exact)
    found, gradients = with_gradients(block_kl_loss, "torch", tensors, options)
    sharp = max(1.0, 0.05 / float(options["temperature"]))  # errors of cosines reach the loss divided by t
    assert_near(found, expected.to(dtype), tolerances[dtype] * sharp, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other.to(dtype), tolerances[dtype] * sharp, floor=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("targets", [torch.float16, torch.float64])
def test_half_precision(dtype, targets, make_block, with_gradients, assert_near, tolerances):
    tensors, options = make_block(rows=37, columns=29, width=40, dtype=dtype, dims=(40, 16))
    options["targets"] = options["targets"].to(targets)
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    found, gradients = with_gradients(block_kl_loss, "torch", tensors, options)
    assert found.dtype == torch.float32
    assert_near(found, expected, 1e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[dtype], floor=1e-3)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_is_the_kl_of_the_two_softmaxes(backend, make_block, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    (queries, documents), options = make_block(unjudged=0.5)
    targets = options["targets"]
    targets[3] = torch.nan
    targets[4, 1:] = torch.nan
    expected = 0.0
    for dim, weight in ((24, 1.0), (7, 0.5)):
        rows = []
        for query, scores in zip(queries, targets, strict=True):
            judged = scores.isfinite()
            if judged.sum() >= 2:
                student = cosine_similarity(query[None, :dim], documents[judged, :dim]) / 0.05
                rows.append(
                    kl_div(
                        student.log_softmax(0), (scores[judged] / 2).log_softmax(0), log_target=True, reduction="sum"
                    )
                )
        assert len(rows) == 11
        expected = expected + weight * sum(rows) / len(rows)
    found = block_kl_loss(
        queries, documents, targets, temperature=0.05, teacher_temperature=2, dims=(24, 7), dim_weights=(1, 0.5)
    )
    torch.testing.assert_close(found, expected)


def test_equals_the_list_loss_where_the_lists_are_the_block(make_block, with_gradients):
    (queries, documents), options = make_block(dims=(24, 8))
    found, gradients = with_gradients(block_kl_loss, "torch", [queries, documents], options)

    def as_lists(queries, documents, *, targets, **rest):
        return kl_list_loss(queries, documents.expand(len(queries), -1, -1), targets, **rest)

    expected, wanted = with_gradients(as_lists, "torch", [queries, documents], options)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, wanted)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_gradcheck(backend, monkeypatch, make_block):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    (queries, documents), options = make_block(rows=5, columns=6, width=6, temperature=0.5)
    options["targets"][1, 1:] = torch.nan
    options["targets"][2, ::2] = -torch.inf
    leaves = [tensor.requires_grad_() for tensor in (queries, documents, options["temperature"])]

    def loss(queries, documents, temperature):
        return block_kl_loss(queries, documents, options["targets"], temperature=temperature, dims=(6, 2))

    assert gradcheck(loss, leaves)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_what_is_judged_and_which_rows_count(backend, monkeypatch, make_block):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    (queries, documents), _ = make_block(rows=6, columns=4)
    nan, inf = torch.nan, torch.inf
    rows = {
        "all judged": [1.0, 2.0, 3.0, 4.0],
        "two judged": [nan, 0.5, nan, -1.0],
        "one judged": [nan, nan, 3.0, nan],
        "none judged": [nan] * 4,
        "+inf is not judged": [1.0, inf, 2.0, nan],
        "no probability anywhere": [-inf, -inf, nan, -inf],
    }
    targets = torch.tensor(list(rows.values()), dtype=torch.float64)

    def single(row, columns):
        one = queries[row : row + 1], documents[columns], targets[row : row + 1, columns]
        return block_kl_loss(*one, temperature=0.1)

    counting = [single(0, [0, 1, 2, 3]), single(1, [1, 3]), single(4, [0, 2])]
    assert all(loss > 0 for loss in counting)
    found = block_kl_loss(queries, documents, targets, temperature=0.1)
    torch.testing.assert_close(found, sum(counting) / 3)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_minus_infinity_is_probability_zero(backend, monkeypatch, make_block):
    """The limit of ever lower targets: such a document is pushed away, where an unjudged one is not."""
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    (queries, documents), _ = make_block(rows=2, columns=3)
    targets = torch.tensor([[0.0, 1.0, -1e4], [2.0, -1e4, -1e4]], dtype=torch.float64)
    low = block_kl_loss(queries, documents, targets, temperature=0.1)
    zero = block_kl_loss(queries, documents, targets.masked_fill(targets < -10, -torch.inf), temperature=0.1)
    torch.testing.assert_close(zero, low)
    unjudged = block_kl_loss(queries, documents, targets.masked_fill(targets < -10, torch.nan), temperature=0.1)
    assert not torch.isclose(unjudged, low)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(("rows", "columns"), [(4, 5), (0, 5), (4, 0), (0, 0), (1, 1), (3, 1)])
def test_nothing_that_counts_gives_zero(backend, rows, columns, make_block, with_gradients):
    tensors, options = make_block(rows=rows, columns=columns, dtype=torch.float32, dims=(24, 8))
    for fill in (torch.nan, -torch.inf):
        options["targets"].fill_(fill)
        options["targets"][:, :1] = torch.nan if fill < 0 else 0.0
        loss, gradients = with_gradients(block_kl_loss, backend, tensors, options)
        assert loss == 0
        assert [gradient.shape for gradient in gradients] == [(rows, 24), (columns, 24), ()]
        assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_a_constant_added_to_a_row_of_targets_changes_nothing(
    backend, shift, make_block, with_gradients, assert_near, tolerances
):
    tensors, options = make_block(dtype=torch.float32)
    # Numbers that keep all their digits beside the shift.
    options["targets"] = (options["targets"] * 8).round() / 8
    expected, wanted = with_gradients(block_kl_loss, backend, tensors, options)
    found, gradients = with_gradients(
        block_kl_loss, backend, tensors, {**options, "targets": options["targets"] + shift}
    )
    assert_near(found, expected, 1e-6, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[torch.float32], floor=1e-3)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("spread", [1e4, 3e38])
def test_logits_of_ten_thousand(backend, scale, spread, make_block, with_gradients):
    tensors, options = make_block(dtype=torch.float32, temperature=1e-4, dims=(24, 8))
    options["targets"] = options["targets"].sign() * spread
    loss, gradients = with_gradients(block_kl_loss, backend, [scale * tensor for tensor in tensors], options)
    assert loss.isfinite()
    assert loss > 0
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("temperature", [0.05, 1e-4])
def test_zero_vectors_and_identical_rows(temperature, make_block, with_gradients, assert_near):
    tensors, options = make_block(rows=6, columns=7, dtype=torch.float32, temperature=temperature, dims=(24, 8))
    queries, documents = tensors
    queries[0], documents[1] = 0, 0
    queries[3, :8] = 0  # a prefix without direction in a vector that has one
    queries[4], documents[4] = documents[5], documents[5]
    loss, gradients = with_gradients(block_kl_loss, "torch", tensors, options)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][0].any()
    assert not gradients[1][1].any()
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    assert_near(loss, expected, 1e-4, floor=1.0)
    assert_near(gradients[0], wanted[0], 1e-3, floor=1e-3)


def test_matryoshka_is_the_sum_over_renormalised_prefixes(make_block):
    (queries, documents), options = make_block()
    parts = [weight * block_kl_loss(queries[:, :d], documents[:, :d], **options) for d, weight in ((24, 1), (8, 3))]
    together = block_kl_loss(queries, documents, dims=(24, 8), dim_weights=(1, 3), **options)
    torch.testing.assert_close(together, sum(parts))


def test_descent_brings_the_student_to_the_teacher(make_block):
    (queries, documents), options = make_block(rows=8, columns=6, temperature=0.2, spread=1.0)
    leaves = [tensor.requires_grad_() for tensor in (queries, documents)]
    optimizer = torch.optim.Adam(leaves, lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = block_kl_loss(*leaves, **options)
        loss.backward()
        optimizer.step()
    assert loss < 1e-3


def test_twenty_runs_give_the_same_bits(make_block, with_gradients, monkeypatch):
    monkeypatch.setattr(chunked, "STRIP_ELEMENTS", 2000)
    tensors, options = make_block(rows=101, columns=67, width=48, dtype=torch.float32, dims=(48, 16))
    loss, gradients = with_gradients(block_kl_loss, "torch", tensors, options)
    for _ in range(19):
        again, more = with_gradients(block_kl_loss, "torch", tensors, options)
        assert torch.equal(again, loss)
        assert all(torch.equal(tensor, other) for tensor, other in zip(more, gradients, strict=True))


def test_nothing_of_the_size_of_the_block_is_held(monkeypatch):
    """Peak of the operators' allocations, counted by the profiler, against what one (Q, N) matrix takes."""
    rows, columns, width = 2048, 1024, 32
    generator = torch.Generator().manual_seed(0)
    q, d = (torch.randn(count, width, generator=generator).requires_grad_() for count in (rows, columns))
    targets = torch.randn(rows, columns, generator=generator)
    targets[::3, ::5] = torch.nan
    monkeypatch.setattr(chunked, "STRIP_ELEMENTS", 32 * columns)
    with torch.profiler.profile(profile_memory=True) as profile:
        block_kl_loss(q, d, targets, temperature=0.05, dims=(32, 16)).backward()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak < rows * columns * 4 / 2


def test_layouts_other_than_rows(make_block, with_gradients):
    """Transposed and strided inputs give what their copies give."""
    tensors, options = make_block(rows=9, columns=11, dims=(20, 8))
    expected, wanted = with_gradients(block_kl_loss, "torch", tensors, options)

    def transposed(queries, documents, *, targets, **rest):
        apart = torch.stack([targets, targets], -1)[..., 0]
        return block_kl_loss(queries.T.contiguous().T, documents.T.contiguous().T, apart.T.contiguous().T, **rest)

    found, gradients = with_gradients(transposed, "torch", tensors, options)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, wanted)


def test_operators_pass_opcheck(make_block):
    (q, d), options = make_block(rows=4, columns=5, width=6)
    for tensor in (q, d):
        tensor.requires_grad_()
    for gradients in (True, False):
        arguments = (q, d, options["targets"], options["temperature"], 1.0, [2, 6], [1.0, 1.0], gradients)
        utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
        checks = {} if gradients else {"test_utils": utilities}
        result = torch.library.opcheck(torch.ops.gecko_kernels.chunked_block_kl, arguments, **checks)
        assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize("transposed", [False, True])
def test_compiles_without_graph_breaks(transposed, make_block):
    tensors, options = make_block(rows=7, dims=(24, 8), dtype=torch.float32)
    if transposed:
        tensors = [tensor.T.contiguous().T for tensor in tensors]
    leaves, eager = ([tensor.clone().requires_grad_() for tensor in tensors] for _ in range(2))

    def loss(*given):
        return 2 * block_kl_loss(*given, **options)

    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(*leaves)
    found.backward()
    expected = loss(*eager)
    expected.backward()
    torch.testing.assert_close(found, expected)
    for tensor, other in zip(leaves, eager, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad)


def test_upstream_gradients_and_unneeded_ones(make_block):
    (q, d), options = make_block()
    q.requires_grad_()
    options["targets"].requires_grad_()
    (3 * block_kl_loss(q, d, **options)).backward()
    other = q.detach().clone().requires_grad_()
    block_kl_loss(other, d, **options).backward()
    torch.testing.assert_close(q.grad, 3 * other.grad)
    assert d.grad is None
    assert options["targets"].grad is None
    with torch.no_grad():
        assert not block_kl_loss(q, d, **options).requires_grad


def test_second_derivatives_are_refused(make_block):
    (q, d), options = make_block()
    q.requires_grad_()
    (first,) = torch.autograd.grad(block_kl_loss(q, d, **options), q, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": torch.ones(3)}, r"queries: expected shape \(Q, D\) with D >= 1, found \(3,\)"),
        ({"queries": torch.ones(3, 0)}, r"D >= 1, found \(3, 0\)"),
        ({"documents": torch.ones(4, 5)}, r"documents: expected shape \(N, 6\), found \(4, 5\)"),
        ({"documents": torch.ones(4, 2, 6)}, r"\(N, 6\), found \(4, 2, 6\)"),
        ({"targets": torch.ones(4, 3)}, r"targets: expected shape \(3, 4\), one per query.*found \(4, 3\)"),
        ({"temperature": 0}, "temperature: expected a positive number.*found 0"),
        ({"temperature": torch.ones(2)}, r"one element, found shape \(2,\)"),
        ({"teacher_temperature": 0}, "teacher_temperature: expected a positive number, found 0"),
        ({"teacher_temperature": float("nan")}, "found nan"),
        ({"teacher_temperature": float("inf")}, "found inf"),
        ({"dims": (7,)}, r"1..6.*found \(7,\)"),
        ({"dims": (6, 3), "dim_weights": (1,)}, "expected 2 numbers, one per dim, found 1"),
    ],
)
def test_bad_arguments_say_expected_and_found(change, message):
    given = {"queries": torch.ones(3, 6), "documents": torch.ones(4, 6), "targets": torch.ones(3, 4), **change}
    with pytest.raises(ValueError, match=message):
        block_kl_loss(**{"temperature": 0.1, **given})


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(
    ("targets", "temperature", "dtype"),
    [
        ([3e38, 0.0, 1.0], 0.5, torch.float32),  # 6e38 is infinite in float32
        ([torch.finfo(torch.float32).min] * 3, 0.5, torch.float32),
        ([1e39, 0.0, 1.0], 1.0, torch.float64),
        ([1e39, float("nan"), 1e39], 7.0, torch.float64),
    ],
)
def test_targets_at_the_ends_of_their_dtype(monkeypatch, backend, targets, temperature, dtype):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    generator = torch.Generator().manual_seed(1)
    queries, documents = torch.randn(1, 4, generator=generator), torch.randn(3, 4, generator=generator)
    given = torch.tensor([targets], dtype=dtype)
    options = {"temperature": 0.05, "teacher_temperature": temperature}
    loss = block_kl_loss(queries, documents, given, **options)
    torch.testing.assert_close(loss, kl_list_loss(queries, documents[None], given, **options))
    judged = given[0].isfinite()
    teacher = (given[0, judged].double() / temperature).softmax(0)
    cosines = torch.nn.functional.cosine_similarity(queries.double(), documents[judged].double())
    expected = (torch.special.xlogy(teacher, teacher) - teacher * (cosines / 0.05).log_softmax(0)).sum()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_bad_dtypes_are_refused():
    ones = torch.ones(2, 2)
    with pytest.raises(TypeError, match="targets: expected a tensor, found list"):
        block_kl_loss(torch.ones(2, 3), torch.ones(4, 3), [[0.0] * 4] * 2, temperature=0.1)
    with pytest.raises(TypeError, match=r"documents: .*float32 as queries have, found torch\.float64"):
        block_kl_loss(ones, ones.double(), ones, temperature=0.1)
    with pytest.raises(TypeError, match=r"targets: expected float16.*found torch\.int64"):
        block_kl_loss(ones, ones, ones.long(), temperature=0.1)
    with pytest.raises(TypeError, match=r"queries: expected float16.*found torch\.int64"):
        block_kl_loss(ones.long(), ones, ones, temperature=0.1)
