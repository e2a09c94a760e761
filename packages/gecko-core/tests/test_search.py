import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_core import search
from gecko_core.errors import ConfigError, DataError
from gecko_core.search import TopK, top_k


def brute(queries, documents, k, exclude=None, ties=None):
    """The definition: every pair in fp64, rounded to float32, sorted by (score descending, tie, row)."""
    scores = np.stack([(documents.astype(np.float64) * q.astype(np.float64)).sum(1) for q in queries])
    scores = scores.astype(np.float32)
    ties = np.arange(len(documents)) if ties is None else ties
    rows = []
    for number, line in enumerate(scores):
        gone = set() if exclude is None else set(np.atleast_1d(exclude[number]).tolist())
        order = [row for row in np.lexsort((ties, -line)) if row not in gone]
        rows.append((order + [-1] * len(documents))[: min(k, len(documents))])
    rows = np.array(rows)
    return rows, np.where(rows < 0, -np.inf, np.take_along_axis(scores, np.maximum(rows, 0), 1)).astype(np.float32)


def vectors(n, width, seed, levels=None):
    found = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return found if levels is None else np.round(found * levels).astype(np.float32)


def same(found, expected):
    assert found.rows.dtype == np.int64
    assert found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.rows, expected[0])
    np.testing.assert_array_equal(found.scores, expected[1])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 80), st.integers(1, 40), st.integers(0, 10**6))
def test_equals_the_definition(n, n_queries, k, block, seed):
    # Coarse values make many ties.
    documents, queries = vectors(n, 3, seed, levels=1), vectors(n_queries, 3, seed + 1, levels=1)
    exclude = np.random.default_rng(seed).integers(-1, n, size=(n_queries, 2))
    same(top_k(queries, documents, k, block=block), brute(queries, documents, k))
    same(top_k(queries, documents, k, block=block, exclude=exclude), brute(queries, documents, k, exclude))
    ties = np.random.default_rng(seed).permutation(n)[::-1]
    same(top_k(queries, documents, k, block=block, ties=ties), brute(queries, documents, k, ties=ties))


@pytest.mark.parametrize("block", [7, 500, 10_000])
def test_bits_do_not_depend_on_blocks(block, monkeypatch):
    documents, queries = vectors(2000, 64, 0), vectors(30, 64, 1)
    monkeypatch.setattr(search, "_QUERIES", 11)
    monkeypatch.setattr(search, "_COMPONENTS", 64 * 13)
    same(top_k(queries, documents, 10, block=block), brute(queries, documents, 10))


def test_duplicates_far_beyond_k_come_lowest_row_first():
    """fp32 products of equal rows may differ by their place in a block; the answer may not."""
    documents = np.repeat(vectors(3, 48, 0), 400, axis=0)
    queries = vectors(5, 48, 1)
    found = top_k(queries, documents, 10, block=333)
    best = brute(queries, documents, 1)[0][:, 0]
    np.testing.assert_array_equal(found.rows, best[:, None] + np.arange(10))
    assert (found.scores == found.scores[:, :1]).all()


def test_nearly_equal_scores_are_told_apart():
    base = np.full((1, 512), 0.044, dtype=np.float32)
    documents = np.repeat(base, 200, axis=0)
    documents[:, 0] += np.random.default_rng(0).integers(0, 50, 200).astype(np.float32) * 2e-7
    same(top_k(base, documents, 20, block=64), brute(base, documents, 20))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_rough_products_do_not_change_the_answer(precision, monkeypatch):
    documents, queries = vectors(600, 32, 0), vectors(9, 32, 1)
    torch.set_float32_matmul_precision(precision)
    try:
        found = top_k(queries, documents, 5)
    finally:
        torch.set_float32_matmul_precision("highest")
    same(found, brute(queries, documents, 5))


def test_pieces_memory_maps_and_tensors(tmp_path):
    documents, queries = vectors(90, 8, 0), vectors(4, 8, 1)
    expected = brute(queries, documents, 6)
    np.save(tmp_path / "d.npy", documents)
    mapped = np.load(tmp_path / "d.npy", mmap_mode="r")
    same(top_k(queries, mapped, 6, block=32), expected)
    same(top_k(queries, [mapped[:20], documents[20:21], documents[21:21], documents[21:]], 6, block=32), expected)
    same(top_k(torch.from_numpy(queries), torch.from_numpy(documents), 6), expected)
    halves = torch.from_numpy(documents).bfloat16()
    same(top_k(queries, halves, 6), brute(queries, halves.float().numpy(), 6))


def test_blocks_as_they_come():
    documents, queries = vectors(50, 8, 0), vectors(4, 8, 1)
    stream = TopK(queries, 7)
    assert stream.result().rows.shape == (4, 0)
    for start in range(0, 50, 9):
        stream.add(documents[start : start + 9])
        same(stream.result(), brute(queries, documents[: start + 9], 7))


def test_nothing_to_search():
    assert top_k(vectors(0, 8, 0), vectors(5, 8, 1), 3).rows.shape == (0, 3)
    assert top_k(vectors(2, 8, 0), vectors(0, 8, 1), 3).rows.shape == (2, 0)
    assert top_k(vectors(2, 8, 0), [], 3).rows.shape == (2, 0)
    found = top_k(vectors(1, 8, 0), vectors(2, 8, 1), 3, exclude=np.array([[0, 1]]))
    assert found.rows.tolist() == [[-1, -1]]
    assert found.scores.tolist() == [[-np.inf, -np.inf]]


def test_one_exclusion_per_query_leaves_out_the_text_itself():
    documents = vectors(40, 8, 0)
    found = top_k(documents, documents, 39, exclude=np.arange(40))
    assert not (found.rows == np.arange(40)[:, None]).any()
    assert (np.sort(found.rows, axis=1)[:, 0] >= 0).all()


def test_wrong_arguments():
    documents, queries = vectors(5, 4, 0), vectors(2, 4, 1)
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ConfigError, match="k must be a positive whole number"):
            top_k(queries, documents, wrong)
    with pytest.raises(ConfigError, match="block must be"):
        top_k(queries, documents, 1, block=0)
    with pytest.raises(ConfigError, match="queries have 4 components, documents 3"):
        top_k(queries, documents[:, :3], 1)
    with pytest.raises(ConfigError, match="queries have 4 components, documents 3"):
        top_k(queries, documents[:0, :3], 1)
    with pytest.raises(ConfigError, match=r"documents must be an array \(N, D\), or several, not NoneType"):
        top_k(queries, None, 1)
    with pytest.raises(ConfigError, match=r"documents: list where an array \(n, D\) was expected"):
        top_k(queries, documents.tolist(), 1)
    with pytest.raises(ConfigError, match=r"documents must have two dimensions, \(n, D\), not \(4,\)"):
        top_k(queries, list(documents), 1)
    with pytest.raises(ConfigError, match=r"documents must have two dimensions, \(n, D\), not \(\)"):
        top_k(queries, np.array(1.0, dtype=np.float32), 1)
    with pytest.raises(ConfigError, match="two dimensions"):
        top_k(queries[0], documents, 1)
    with pytest.raises(ConfigError, match="exclude is for 3 queries, there are 2"):
        top_k(queries, documents, 1, exclude=np.zeros(3, dtype=int))
    with pytest.raises(ConfigError, match="exclude must hold integers"):
        top_k(queries, documents, 1, exclude=np.zeros(2))
    with pytest.raises(ConfigError, match="ties has 4 values"):
        top_k(queries, documents, 1, ties=np.arange(4))
    documents[3, 1] = np.nan
    with pytest.raises(DataError, match="documents: row 3 is not finite"):
        top_k(queries, documents, 1, block=2)
    with pytest.raises(DataError, match="queries: row 0 is not finite"):
        top_k(documents[3:], documents, 1)


@pytest.mark.parametrize("long", [1e20, -3e38])
def test_vectors_whose_norm_overflows_are_refused(long):
    """Their products would be infinite, or not a number, and be lost without a word."""
    documents = np.ones((5, 4), dtype=np.float32)
    documents[4, 1] = long
    with pytest.raises(DataError, match="documents: row 4 is too long for float32; scale the vectors down"):
        top_k(documents[:2], [documents[:3], documents[3:]], 2)
    with pytest.raises(DataError, match="queries: row 4 is too long for float32"):
        top_k(documents, documents[:2], 2)


def test_more_than_there_are():
    vectors = np.eye(4, dtype=np.float32)
    assert top_k(vectors, vectors, 2**31 - 1).rows.shape == (4, 4)
    with pytest.raises(ConfigError, match="k must be a positive whole number of at most"):
        top_k(vectors, vectors, 2**63)


def test_products_beyond_float32_are_refused():
    queries, documents = np.array([[1.0], [3e38]], np.float32), np.array([[10.0], [100.0], [1.0]], np.float32)
    with pytest.raises(DataError, match=r"documents: row 1 and queries: row 1 are too long for a product in float32"):
        top_k(queries, documents, 2)
    assert top_k(queries / 200, documents, 2).rows[1].tolist() == [1, 0]


@pytest.mark.parametrize("scale", [1e-24, 1e-22, 1e-20])
def test_products_at_the_end_of_float32_are_told_apart(scale):
    rng = np.random.default_rng(20)
    for _ in range(50):
        queries, documents = ((rng.standard_normal((n, 29)) * scale).astype(np.float32) for n in (1, 60))
        scores = (documents.astype(np.float64) * queries.astype(np.float64)).sum(1).astype(np.float32)
        expected = np.lexsort((np.arange(60), -scores))[:13]
        assert top_k(queries, documents, 13).rows[0].tolist() == expected.tolist()


def test_vectors_that_run_backwards_in_blocks_of_any_size():
    d = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    expected = top_k(d[:2], d[::-1].copy(), 3).rows
    for block in (1, 2, 3, 7):
        np.testing.assert_array_equal(top_k(d[:2], d[::-1], 3, block=block).rows, expected)


@pytest.mark.parametrize("shape", [(0,), (0, 1), (0, 3)])
def test_no_queries_exclude_nothing(shape):
    d = np.eye(4, dtype=np.float32)
    assert top_k(d[:0], d, 2, exclude=np.zeros(shape, dtype=int)).rows.shape == (0, 2)
