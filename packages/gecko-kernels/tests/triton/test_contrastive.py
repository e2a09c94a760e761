"""The Triton kernels of the loss against the reference, run by Triton's interpreter on CPU (on the GPU where marked).

TRITON_INTERPRET has to be set before triton is first imported: ``test_interpreted`` starts a process for these tests.
"""

from __future__ import annotations

import pytest
import torch

from gecko_kernels import same_tower_softmax_loss

CASES = {
    "gecko": {"rows": 21, "width": 40, "hard": 2, "dims": (40, 17), "ids": True},
    "one-row": {"rows": 1, "width": 16, "hard": 1},
    "plain": {"rows": 33, "width": 24, "hard": 0, "same_tower": False},
    "five-prefixes": {"rows": 17, "width": 40, "dims": (40, 33, 17, 5, 2), "dim_weights": (1, 2, 0.5, 1, 1)},
    "uneven-prefixes": {"rows": 19, "width": 45, "dims": (45, 30, 9, 5), "hard": 2, "ids": True},
    "many-prefixes": {"rows": 18, "width": 32, "dims": (32, 31, 24, 17, 16, 9, 3, 1), "extra_columns": 7},
    "narrower": {"rows": 18, "width": 24, "dims": (16,), "hard": 1},
    "batch-negatives": {"rows": 19, "hard": 2, "negatives_scope": "batch", "ids": True, "hardness": 2.0},
    "external-keys": {"rows": 20, "extra_columns": 9, "ids": True, "dims": (24, 8), "hardness": 5.0},
    "margin": {"rows": 18, "ids": True, "dims": (24, 8), "false_negative_margin": 0.1},  # runs in PyTorch
    "sharp": {"rows": 18, "temperature": 0.001, "ids": True, "dims": (24, 8)},
    "more-negatives": {"rows": 17, "hard": 4, "negatives_scope": "batch", "dims": (24, 8)},  # than positives
}


def on_gpu(tensors, options):
    moved = {name: value.cuda() if torch.is_tensor(value) else value for name, value in options.items()}
    return [tensor.cuda() for tensor in tensors], moved


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_reference(case, programs, make_problem, with_gradients, assert_near, tolerances):
    tensors, options = make_problem(dtype=torch.float32, **CASES[case])
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    found, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
    sharp = max(1.0, 0.05 / float(options["temperature"]))
    assert_near(found, expected, tolerances[torch.float32] * sharp, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[torch.float32] * sharp, floor=1e-3)


@pytest.mark.parametrize("dims", [(96,), (96, 32), (350, 160, 64, 33), (384, 256, 128, 64, 32)])
def test_agrees_with_reference_in_float64(dims, make_problem, with_gradients, assert_near):
    """Pairs of prefixes share planes of coefficients: one, a pair, two pairs, two pairs and one left over."""
    tensors, options = make_problem(rows=23, width=dims[0] + 4, dtype=torch.float32, dims=dims, ids=True)
    exact = {name: value.double() if name == "temperature" else value for name, value in options.items()}
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", [one.double() for one in tensors], exact)
    found, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
    assert_near(found, expected.float(), 1e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other.float(), 5e-5, floor=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", ["gecko", "external-keys", "five-prefixes"])
def test_half_precision(dtype, case, make_problem, with_gradients, assert_near, tolerances):
    tensors, options = make_problem(dtype=dtype, **CASES[case])
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    found, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
    assert_near(found, expected, 1e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[dtype], floor=1e-3)


def test_several_strips(make_problem, with_gradients, assert_near, monkeypatch):
    from gecko_kernels.triton import gradients

    monkeypatch.setattr(gradients, "strip_rows", lambda *_: 16)
    tensors, options = make_problem(rows=37, dtype=torch.float32, dims=(24, 8), ids=True)
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    found, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
    assert_near(found, expected, 2e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, 5e-5, floor=1e-3)


def check_extremes(tensors, options, with_gradients, assert_near):
    queries, positives, negatives = tensors
    queries[0], positives[1], negatives[2] = 0, 0, 0
    queries[3, :8] = 0
    same = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for ids in ({}, {"query_ids": same, "positive_ids": same, "negative_ids": same[:, None]}):
        loss, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, {**options, **ids})
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert not gradients[0][0].any()
        expected, _ = with_gradients(same_tower_softmax_loss, "reference", tensors, {**options, **ids})
        assert_near(loss, expected, 1e-4, floor=1.0)
    assert loss == 0  # all masked: only the own positive is left
    warm = {**options, **ids, "temperature": 0.05}
    loss, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, warm)
    assert loss == 0
    assert all(gradient.abs().max() < 1e-5 for gradient in gradients)


@pytest.mark.parametrize("dims", [(24, 8), (24, 20, 11, 8, 3)])
def test_zero_vectors_masked_rows_and_extremes(dims, make_problem, with_gradients, assert_near):
    tensors, options = make_problem(rows=18, dtype=torch.float32, dims=dims, temperature=1e-4)
    check_extremes(tensors, options, with_gradients, assert_near)


def check_lengths(size, tensors, options, with_gradients, assert_near, tolerance):
    """A masked pair times a large inverse norm is infinite in float32, and no gradient may be NaN for it."""
    tensors[0][::2] *= size
    tensors[1][1::3] *= size
    exact = {name: value.double() if name == "temperature" else value for name, value in options.items()}
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", [one.double() for one in tensors], exact)
    found, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
    assert_near(found, expected.float(), 2e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert tensor.isfinite().all()
        assert_near(tensor, other.to(tensor.dtype), tolerance, floor=1e-3)


@pytest.mark.parametrize("size", [1e-11, 1e-6, 1e9])
def test_lengths_do_not_matter(size, make_problem, with_gradients, assert_near):
    tensors, options = make_problem(rows=18, dtype=torch.float32, dims=(24, 20, 11, 8, 3), ids=True)
    check_lengths(size, tensors, options, with_gradients, assert_near, 2e-4)


def test_runs_give_the_same_bits(make_problem, with_gradients):
    tensors, options = make_problem(rows=19, dtype=torch.float32, dims=(24, 8), ids=True)
    loss, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
    for _ in range(3):
        again, more = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
        assert torch.equal(again, loss)
        assert all(torch.equal(tensor, other) for tensor, other in zip(more, gradients, strict=True))


def test_operators_pass_opcheck(make_problem):
    (q, p, n), options = make_problem(rows=4, width=16, dtype=torch.float32)
    for tensor in (q, p, n):
        tensor.requires_grad_()
    arguments = (q, p, None, n, options["temperature"], None, None, None, [8, 16], True, 0, 0.0)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")  # the next test covers compilation
    result = torch.library.opcheck(torch.ops.gecko_kernels.triton_loss, arguments, test_utils=checks)
    assert set(result.values()) == {"SUCCESS"}


def test_compiles_without_graph_breaks(make_problem, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    (q, p, n), options = make_problem(rows=5, width=16, dtype=torch.float32)
    q.requires_grad_()

    def loss(one):
        return same_tower_softmax_loss(one, p, n, **options)

    (compiled,) = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(q), q)
    (eager,) = torch.autograd.grad(loss(q), q)
    assert torch.equal(compiled, eager)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_gpu_agrees_with_reference(dtype, case, make_problem, with_gradients, assert_near, tolerances):
    tensors, options = make_problem(dtype=dtype, **{**CASES[case], "rows": 333, "width": 96})
    tensors, options = on_gpu(tensors, options)
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    sharp = max(1.0, 0.05 / float(options["temperature"]))
    for _ in range(20):
        found, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
        assert_near(found, expected, 5e-5 * sharp, floor=1.0)
        for tensor, other in zip(gradients, wanted, strict=True):
            # tf32, in which float16's coefficients are multiplied on a GPU, has 10 bits after the point as float16 has.
            loose = 2 if dtype == torch.float16 else 1
            assert_near(tensor, other, loose * tolerances[dtype] * sharp, floor=1e-3)
        first = locals().get("first", (found, gradients))
        assert torch.equal(first[0], found)
        assert all(torch.equal(tensor, other) for tensor, other in zip(first[1], gradients, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("dims", [(192, 64), (192, 160, 128, 64, 33)])
def test_gpu_many_programs_and_strips(dims, make_problem, with_gradients, assert_near, monkeypatch):
    from gecko_kernels.triton import gradients

    monkeypatch.setattr(gradients, "STRIP_BYTES", 1 << 26)
    tensors, options = make_problem(rows=9_001, width=192, dtype=torch.bfloat16, dims=dims, hard=1, ids=True)
    tensors, options = on_gpu(tensors, options)
    expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
    found, gradients_found = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
    assert_near(found, expected, 5e-5, floor=1.0)
    for tensor, other in zip(gradients_found, wanted, strict=True):
        assert_near(tensor, other, 2e-2, floor=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [1, 129, 1000])
def test_gpu_whole_segments(dtype, rows, make_problem, with_gradients, assert_near, tolerances):
    """Prefixes of whole steps: 16-bit inputs are read by descriptor on Hopper and later."""
    five = {"dims": (768, 512, 256, 128, 64)}
    for extra in ({}, {"negatives_scope": "batch"}, {"extra_columns": 70}, five, {"dims": (700, 320, 64, 33)}):
        extra = {"dims": (768, 256), **extra}
        tensors, options = make_problem(rows=rows, width=768, dtype=dtype, ids=True, **extra)
        tensors, options = on_gpu(tensors, options)
        expected, wanted = with_gradients(same_tower_softmax_loss, "reference", tensors, options)
        found, gradients = with_gradients(same_tower_softmax_loss, "triton", tensors, options)
        assert_near(found, expected, 5e-5, floor=1.0)
        for tensor, other in zip(gradients, wanted, strict=True):
            assert_near(tensor, other, 2 * tolerances[dtype], floor=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("dims", [(24, 8), (24, 20, 11, 8, 3), (768, 384, 256, 128, 64)])
def test_gpu_zero_vectors_masked_rows_and_extremes(dtype, dims, make_problem, with_gradients, assert_near):
    tensors, options = make_problem(rows=333, width=dims[0], dtype=dtype, dims=dims, temperature=1e-4)
    check_extremes(*on_gpu(tensors, options), with_gradients, assert_near)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("dims", [(24, 20, 11, 8, 3), (768, 384, 256, 128, 64)])
@pytest.mark.parametrize("size", [1e-11, 1e-6, 1e9])
def test_gpu_lengths_do_not_matter(size, dims, dtype, make_problem, with_gradients, assert_near, tolerances):
    tensors, options = make_problem(rows=333, width=dims[0], dtype=dtype, dims=dims, ids=True)
    tolerance = max(2e-4, tolerances[dtype])
    check_lengths(size, *on_gpu(tensors, options), with_gradients, assert_near, tolerance)
