"""The pooling kernels against the reference: interpreted in a process of their own, on the GPU where marked."""

from __future__ import annotations

import pytest
import torch

from gecko_kernels import masked_mean_pool, packed_mean_pool
from gecko_kernels.reference import reference_packed_pool, reference_pool


def check_padded(device, dtype, shape, normalize, assert_near, tolerances):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(shape, generator=generator).to(device, dtype)
    mask = (torch.rand(shape[:2], generator=generator) > 0.4).to(device)
    mask[0] = False
    poisoned = hidden.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    found = masked_mean_pool(poisoned, mask, normalize=normalize)
    leaf = hidden.clone().requires_grad_()
    expected = reference_pool(leaf, mask, normalize=normalize)
    assert_near(found, expected, tolerances[dtype])
    weights = torch.linspace(-1, 1, expected.numel(), device=device).reshape(expected.shape).to(dtype)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_near(poisoned.grad, leaf.grad, tolerances[dtype])


def check_packed(device, dtype, width, assert_near, tolerances):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, width, generator=generator).to(device, dtype)
    bounds = torch.tensor([0, 17, 17, 20, 38], dtype=torch.int32, device=device)
    leaves = [hidden.clone().requires_grad_() for _ in range(2)]
    found = packed_mean_pool(leaves[0], bounds)
    expected = reference_packed_pool(leaves[1], bounds)
    assert_near(found, expected, tolerances[dtype])
    weights = torch.linspace(-1, 1, expected.numel(), device=device).reshape(expected.shape).to(dtype)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_near(leaves[0].grad, leaves[1].grad, tolerances[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("normalize", [False, True])
def test_padded(dtype, normalize, assert_near, tolerances, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    check_padded("cpu", dtype, (3, 19, 261), normalize, assert_near, tolerances)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_packed(dtype, assert_near, tolerances, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    check_packed("cpu", dtype, 33, assert_near, tolerances)


def check_norms(device, dtype, packed, normalize, tolerances):
    """Prefix norms are those of the mean before it is normalised, in float32, zero rows and large values included."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(4, 11, 37, generator=generator)
    hidden[2] *= 1e4 if dtype == torch.float16 else 1e30
    hidden[3] = 0
    hidden = hidden.to(device, dtype)
    mask = torch.ones(4, 11, dtype=torch.bool, device=device)
    mask[1] = False
    dims = (1, 16, 37)
    if packed:
        bounds = torch.tensor([0, 11, 11, 22, 33], device=device)
        pooled, norms = packed_mean_pool(hidden[mask], bounds, normalize=normalize, prefix_norms=dims)
    else:
        pooled, norms = masked_mean_pool(hidden, mask, normalize=normalize, prefix_norms=dims)
    means = reference_pool(hidden.double(), mask)
    expected = torch.stack([means[:, :dim].norm(dim=1) for dim in dims], 1)
    assert norms.dtype == torch.float32
    torch.testing.assert_close(norms.double(), expected, rtol=1e-5, atol=0)
    assert not norms[[1, 3]].any()
    if normalize:
        lengths = pooled.double().norm(dim=1)
        torch.testing.assert_close(lengths, lengths.new_tensor([1, 0, 1, 0]), rtol=0, atol=tolerances[dtype])
    else:
        torch.testing.assert_close(pooled.double(), means, rtol=tolerances[dtype], atol=tolerances[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_norms(dtype, packed, normalize, tolerances, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    check_norms("cpu", dtype, packed, normalize, tolerances)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_norms_gpu(dtype, packed, tolerances):
    check_norms("cuda", dtype, packed, True, tolerances)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(7, 130, 768), (3, 33, 1000)])
def test_gpu(dtype, shape, assert_near, tolerances):
    check_padded("cuda", dtype, shape, True, assert_near, tolerances)
    check_packed("cuda", dtype, shape[2], assert_near, tolerances)
