"""The Triton kernels of the block KL loss against the reference, run by Triton's interpreter on CPU (on the GPU where
marked). ``test_interpreted`` starts a process for these tests.
"""

from __future__ import annotations

import pytest
import torch

from gecko_kernels import block_kl_loss

CASES = {
    "block": {"rows": 37, "columns": 53, "width": 40, "dims": (40, 17), "dim_weights": (1, 0.5)},
    "all-judged": {"rows": 16, "columns": 32, "unjudged": 0.0},
    "few-judged": {"rows": 33, "columns": 40, "unjudged": 0.93},
    "one-row": {"rows": 1, "columns": 19, "width": 16},
    "two-columns": {"rows": 18, "columns": 2, "unjudged": 0.0},
    "five-prefixes": {
        "rows": 17,
        "columns": 20,
        "width": 40,
        "dims": (40, 33, 17, 5, 2),
        "dim_weights": (1, 2, 0, 1, 1),
    },
    "nine-prefixes": {"dims": (24, 20, 17, 12, 9, 7, 5, 3, 2)},  # runs in PyTorch
    "narrower": {"rows": 18, "dims": (16,)},
    "teacher-temperature": {"teacher_temperature": 0.3, "dims": (24, 8)},
    "sharp": {"temperature": 0.001, "dims": (24, 8)},
    "sharp-teacher": {"spread": 3000.0, "dims": (24, 8)},
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_reference_in_float64(case, programs, make_block, with_gradients, assert_near, tolerances):
    tensors, options = make_block(dtype=torch.float32, **CASES[case])
    exact = {name: value.double() if torch.is_tensor(value) else value for name, value in options.items()}
    expected, wanted = with_gradients(block_kl_loss, "reference", [tensor.double() for tensor in tensors], exact)
    found, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
    tolerance = tolerances[torch.float32] * max(1.0, 0.05 / float(options["temperature"]))
    assert_near(found, expected.float(), tolerance, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other.float(), tolerance, floor=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("targets", [torch.float16, torch.float64], ids=str)
def test_half_precision(dtype, targets, make_block, with_gradients, assert_near, tolerances):
    tensors, options = make_block(dtype=dtype, **CASES["block"])
    options["targets"] = options["targets"].to(targets)
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    found, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
    assert_near(found, expected, 1e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[dtype], floor=1e-3)


def test_several_strips_and_several_steps_of_the_teacher(make_block, with_gradients, assert_near, monkeypatch):
    from gecko_kernels.triton import block_kl, gradients

    monkeypatch.setattr(gradients, "strip_rows", lambda *_: 16)
    monkeypatch.setattr(block_kl, "TEACHER_COLUMNS", 8)
    tensors, options = make_block(rows=37, columns=29, dtype=torch.float32, dims=(24, 8))
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    found, found_gradients = with_gradients(block_kl_loss, "triton", tensors, options)
    assert_near(found, expected, 2e-5, floor=1.0)
    for tensor, other in zip(found_gradients, wanted, strict=True):
        assert_near(tensor, other, 5e-5, floor=1e-3)


def test_rows_that_do_not_count_and_zero_probabilities(programs, make_block, with_gradients, assert_near, tolerances):
    tensors, options = make_block(rows=21, columns=35, dtype=torch.float32, dims=(24, 8), teacher_temperature=0.5)
    targets = options["targets"]
    targets[0] = torch.nan
    targets[1, 1:] = torch.nan
    targets[2] = -torch.inf
    targets[3, ::2] = -torch.inf
    targets[4, ::2] = torch.inf
    targets[5] = -1e4
    targets[6] = targets[6].sign() * 1e38
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    found, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
    assert_near(found, expected, tolerances[torch.float32], floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, tolerances[torch.float32], floor=1e-3)
    assert not gradients[0][:3].any()


@pytest.mark.parametrize(("rows", "columns"), [(4, 5), (0, 5), (4, 0), (0, 0), (1, 1), (3, 1)])
def test_nothing_that_counts_gives_zero(rows, columns, make_block, with_gradients):
    tensors, options = make_block(rows=rows, columns=columns, dtype=torch.float32, dims=(24, 8))
    for fill in (torch.nan, -torch.inf):
        options["targets"].fill_(fill)
        options["targets"][:, :1] = torch.nan if fill < 0 else 0.0
        loss, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
        assert loss == 0
        assert [gradient.shape for gradient in gradients] == [(rows, 24), (columns, 24), ()]
        assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("temperature", [0.05, 1e-4])
def test_zero_vectors_and_extremes(temperature, make_block, with_gradients, assert_near):
    tensors, options = make_block(rows=18, columns=20, dtype=torch.float32, dims=(24, 8), temperature=temperature)
    queries, documents = tensors
    queries[0], documents[1] = 0, 0
    queries[3, :8] = 0
    queries[4], documents[4] = documents[5], documents[5]
    loss, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][0].any()
    assert not gradients[1][1].any()
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    assert_near(loss, expected, 1e-4, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, 2e-3, floor=1e-3)  # cosines of 1e-7 beside logits of 10,000


def test_runs_give_the_same_bits(make_block, with_gradients):
    tensors, options = make_block(rows=19, columns=40, dtype=torch.float32, dims=(24, 8))
    loss, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
    for _ in range(3):
        again, more = with_gradients(block_kl_loss, "triton", tensors, options)
        assert torch.equal(again, loss)
        assert all(torch.equal(tensor, other) for tensor, other in zip(more, gradients, strict=True))


def test_operators_pass_opcheck(make_block):
    (q, d), options = make_block(rows=4, columns=5, width=16, dtype=torch.float32)
    for tensor in (q, d):
        tensor.requires_grad_()
    arguments = (q, d, options["targets"], options["temperature"], 1.0, [8, 16])
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")  # the next test covers compilation
    result = torch.library.opcheck(torch.ops.gecko_kernels.triton_block_kl, arguments, test_utils=checks)
    assert set(result.values()) == {"SUCCESS"}


def test_compiles_without_graph_breaks(make_block, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    (q, d), options = make_block(rows=5, width=16, dtype=torch.float32)
    q.requires_grad_()

    def loss(one):
        return block_kl_loss(one, d, **options)

    (compiled,) = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(q), q)
    (eager,) = torch.autograd.grad(loss(q), q)
    assert torch.equal(compiled, eager)


def test_second_derivatives_are_refused(make_block, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    (q, d), options = make_block(rows=5, width=16, dtype=torch.float32)
    q.requires_grad_()
    (first,) = torch.autograd.grad(block_kl_loss(q, d, **options), q, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        first.sum().backward()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_gpu_agrees_with_reference(dtype, case, make_block, with_gradients, assert_near, tolerances):
    tensors, options = make_block(dtype=dtype, **{**CASES[case], "rows": 333, "columns": 517, "width": 96})
    tensors = [tensor.cuda() for tensor in tensors]
    options = {name: value.cuda() if torch.is_tensor(value) else value for name, value in options.items()}
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    sharp = max(1.0, 0.05 / float(options["temperature"]))
    for _ in range(20):
        found, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
        assert_near(found, expected, 5e-5 * sharp, floor=1.0)
        for tensor, other in zip(gradients, wanted, strict=True):
            loose = 2 if dtype == torch.float16 else 1  # tf32, as in test_contrastive
            assert_near(tensor, other, loose * tolerances[dtype] * sharp, floor=1e-3)
        first = locals().get("first", (found, gradients))
        assert torch.equal(first[0], found)
        assert all(torch.equal(tensor, other) for tensor, other in zip(first[1], gradients, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("dims", [(768, 256), (768, 512, 256, 128, 64), (700, 320, 64, 33)])
def test_gpu_whole_segments(dtype, dims, make_block, with_gradients, assert_near, tolerances):
    """Prefixes of whole steps: 16-bit inputs are read by descriptor on Hopper and later."""
    tensors, options = make_block(rows=333, columns=517, width=768, dtype=dtype, dims=dims)
    tensors = [tensor.cuda() for tensor in tensors]
    options = {name: value.cuda() if torch.is_tensor(value) else value for name, value in options.items()}
    expected, wanted = with_gradients(block_kl_loss, "reference", tensors, options)
    found, gradients = with_gradients(block_kl_loss, "triton", tensors, options)
    assert_near(found, expected, 5e-5, floor=1.0)
    for tensor, other in zip(gradients, wanted, strict=True):
        assert_near(tensor, other, 2 * tolerances[dtype], floor=1e-4)
