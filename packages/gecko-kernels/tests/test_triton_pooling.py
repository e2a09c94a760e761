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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("normalize", [False, True])
def test_padded(dtype, normalize, assert_near, tolerances, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    check_padded("cpu", dtype, (3, 19, 261), normalize, assert_near, tolerances)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed(dtype, assert_near, tolerances, monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    check_packed("cpu", dtype, 33, assert_near, tolerances)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(7, 130, 768), (3, 33, 1000)])
def test_gpu(dtype, shape, assert_near, tolerances):
    check_padded("cuda", dtype, shape, True, assert_near, tolerances)
    check_packed("cuda", dtype, shape[2], assert_near, tolerances)
