"""Loss, forward and backward, against other compositions: tiny sizes unless GECKO_BENCH_ROWS says otherwise.

The table of the README comes from ``measure.py``; this file keeps every composition running and comparable.
"""

from __future__ import annotations

import os

import pytest
import torch

ROWS = int(os.environ.get("GECKO_BENCH_ROWS", "64"))
WIDTH = 96 if ROWS < 1024 else 768
NAMES = ["gecko-kernels", "eager", "sentence-transformers", "sentence-transformers-cached", "chunked-in-forward"]


@pytest.mark.parametrize("prefixes", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(benchmark, compositions, name, prefixes):
    dims = (WIDTH, WIDTH // 3)[:prefixes]
    loss = compositions.COMPOSITIONS[name](dims)
    inputs = compositions.make_inputs(ROWS, WIDTH, 0)
    value = benchmark.pedantic(compositions.backward, (loss, inputs), rounds=3, warmup_rounds=1)
    expected = compositions.eager(dims)(*inputs)
    torch.testing.assert_close(value.detach().float(), expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gecko-kernels", "eager", "chunked-in-forward"])
def test_own_hard_negatives(benchmark, compositions, name):
    dims = (WIDTH, WIDTH // 3)
    loss = compositions.COMPOSITIONS[name](dims)
    inputs = compositions.make_inputs(ROWS, WIDTH, 2)
    value = benchmark.pedantic(compositions.backward, (loss, inputs), rounds=3, warmup_rounds=1)
    torch.testing.assert_close(value.detach(), compositions.eager(dims)(*inputs).detach(), rtol=1e-4, atol=1e-5)
