"""Pooling, forward and backward, against the reference: tiny sizes."""

from __future__ import annotations

import pytest
import torch

from gecko_kernels import masked_mean_pool
from gecko_kernels.reference import reference_pool


@pytest.mark.parametrize("pool", [masked_mean_pool, reference_pool], ids=["gecko-kernels", "eager"])
def test_padded(benchmark, pool):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(16, 64, 96, generator=generator).requires_grad_()
    lengths = torch.randint(1, 65, (16, 1), generator=generator)
    mask = torch.arange(64) < lengths

    def run():
        hidden.grad = None
        pool(hidden, mask).sum().backward()
        return hidden.grad

    gradient = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert not gradient[~mask].any()
    torch.testing.assert_close(gradient[0, 0, 0], 1 / lengths[0, 0])
