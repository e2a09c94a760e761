"""The block KL loss, forward and backward, against plain PyTorch: tiny sizes unless GECKO_BENCH_ROWS says otherwise.

Figures come from ``measure.py --loss block-kl``; this file keeps every composition running and comparable.
"""

from __future__ import annotations

import os

import pytest
import torch

ROWS = int(os.environ.get("GECKO_BENCH_ROWS", "64"))
WIDTH = 96 if ROWS < 1024 else 768


@pytest.mark.parametrize("prefixes", [1, 2])
@pytest.mark.parametrize("name", ["gecko-kernels", "plain", "eager"])
def test_block_of_scores(benchmark, compositions, block_compositions, name, prefixes):
    dims = (WIDTH, WIDTH // 3)[:prefixes]
    loss = block_compositions.COMPOSITIONS[name](dims)
    inputs = block_compositions.make_inputs(ROWS, 2 * ROWS, WIDTH)
    value = benchmark.pedantic(compositions.backward, (loss, inputs), rounds=3, warmup_rounds=1)
    expected = block_compositions.eager(dims)(*inputs)
    torch.testing.assert_close(value.detach(), expected.detach(), rtol=1e-4, atol=1e-5)
