import numpy as np
import pytest
import torch

from gecko_core.encode import precision


@pytest.fixture
def fast_bf16(monkeypatch):
    monkeypatch.setattr(precision, "compute_dtype", lambda device: torch.bfloat16)


def test_bf16_keeps_the_vectors_of_a_real_model(minilm, sentences, fast_bf16):
    exact = minilm.encode(sentences)
    minilm.auto_bf16 = True
    try:
        half_precision = minilm.encode(sentences)
    finally:
        minilm.auto_bf16 = False
    assert minilm.bf16_checked[1]
    assert not np.array_equal(exact, half_precision)  # it did compute in bf16
    assert (exact * half_precision).sum(axis=1).min() >= precision.LOWEST_COSINE
    assert minilm.dtype == torch.float32


def test_explicit_fp32_stays_fp32(tiny, fast_bf16, sentences):
    assert not tiny.auto_bf16
    tiny.encode(sentences[:3])
    assert tiny.bf16_checked is None


def test_a_model_that_bf16_would_change_is_left_in_fp32(own, fast_bf16, sentences, monkeypatch):
    exact = own.encode(sentences)
    monkeypatch.setattr(precision, "LOWEST_COSINE", 1.1)
    own.auto_bf16 = True
    assert np.array_equal(own.encode(sentences), exact)
    assert own.bf16_checked[1] is False


def test_the_check_is_made_again_when_weights_change(own, fast_bf16):
    own.auto_bf16 = True
    own.encode(["a gecko"])
    first = own.bf16_checked
    own.encode(["the tokay"])
    assert own.bf16_checked is first
    with torch.no_grad():
        next(own.parameters()).mul_(1.5)
    own.encode(["a gecko"])
    assert own.bf16_checked is not first
