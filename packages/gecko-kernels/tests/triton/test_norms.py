"""Prefix norms and the last step of a gradient, by kernel and as they are written down."""

from __future__ import annotations

import pytest
import torch

from gecko_kernels.cpu.strips import prefix_inverse_norms
from gecko_kernels.triton.contrastive_kernels import TINY
from gecko_kernels.triton.norms import finished, inverse_norms


def check_norms(device, dtype, rows, width, dims):
    vectors = torch.randn(rows, width, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    vectors[0] = 0
    vectors[-1, : dims[0]] = 0
    expected = prefix_inverse_norms(vectors.double(), dims)
    found = inverse_norms(vectors, dims)
    assert found.shape == (rows, len(dims))
    zero = expected == 0
    assert torch.equal(found == TINY.value, zero)
    assert torch.allclose(found[~zero].double(), expected[~zero], rtol=1e-6)


def check_finished(device, dtype, rows, width, dims):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(rows, width, generator=generator).to(device, dtype)
    vectors[0] = 0
    sums = torch.randn(rows, dims[-1], generator=generator).to(device)
    pulls = torch.randn(rows, len(dims), generator=generator).to(device)
    inverse = inverse_norms(vectors, dims)
    wanted = torch.zeros(rows, width, dtype=torch.float64)
    for m, dim in enumerate(dims):
        first = dims[m - 1] if m else 0
        along = (pulls[:, m:].double() * inverse[:, m:].double().square()).sum(1)
        part = sums[:, first:dim].double() - vectors[:, first:dim].double() * along[:, None]
        wanted[:, first:dim] = part.cpu()
    wanted[0] = 0
    found = finished(sums, pulls, vectors, inverse, dims)
    assert found.dtype == dtype
    digits = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    assert torch.allclose(found.double().cpu(), wanted, rtol=digits, atol=digits)
    assert not found[:, dims[-1] :].any()


@pytest.mark.parametrize("dims", [(40,), (17, 33), (1, 2, 40)])
@pytest.mark.parametrize("rows", [1, 19])
def test_norms(rows, dims):
    check_norms("cpu", torch.float32, rows + 1, 40, dims)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("dims", [(40,), (17, 33), (1, 2, 40)])
def test_the_last_step_of_a_gradient(dtype, dims):
    check_finished("cpu", dtype, 19, 40, dims)


def test_no_rows():
    empty = torch.empty(0, 8)
    inverse = inverse_norms(empty, (8,))
    assert inverse.shape == (0, 1)
    assert finished(empty, inverse, empty, inverse, (8,)).shape == (0, 8)


def test_negatives_of_rows():
    vectors = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(inverse_norms(vectors, (4, 8)), prefix_inverse_norms(vectors, (4, 8)), rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dims", [(768,), (100, 768), (64, 128, 256, 384, 700)])
def test_gpu(dtype, dims):
    check_norms("cuda", dtype, 333, 768, dims)
    check_finished("cuda", dtype, 333, 768, dims)
