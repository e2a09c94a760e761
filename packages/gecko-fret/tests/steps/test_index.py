import numpy as np
import pytest

from gecko_fret.steps.index import GRAPH_PAYS_ABOVE, ExactIndex, HnswIndex, distinct_rows, make_index, recall


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 32)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def naive(queries, vectors, count):
    similarities = queries @ vectors.T
    order = np.lexsort((np.broadcast_to(np.arange(len(vectors)), similarities.shape), -similarities), axis=1)[:, :count]
    return order, np.take_along_axis(similarities, order, 1)


@pytest.mark.parametrize("sizes", [[3000], [1, 2999], [1000, 1000, 1000], [5] * 600])
def test_exact_search_equals_sorting_everything(vectors, sizes):
    blocks = np.split(vectors, np.cumsum(sizes)[:-1])
    queries = vectors[:7] + 0.1
    rows, similarities = ExactIndex(blocks).search(queries, 10)
    expected, values = naive(queries, vectors, 10)
    assert np.array_equal(rows, expected)
    assert similarities == pytest.approx(values, abs=1e-5)


def test_bits_depend_neither_on_blocks_nor_on_threads(vectors):
    import torch

    queries, threads = vectors[:33] + 0.1, torch.get_num_threads()
    searches = []
    for count, pieces in ((1, 1), (2, 1), (1, 7), (2, 100)):
        torch.set_num_threads(count)
        searches.append(ExactIndex(np.array_split(vectors, pieces)).search(queries, 20))
    torch.set_num_threads(threads)
    for rows, similarities in searches[1:]:
        assert np.array_equal(rows, searches[0][0])
        assert np.array_equal(similarities, searches[0][1])


def test_equal_similarities_are_ordered_by_row():
    one = np.ones((1, 4), dtype=np.float32) / 2
    rows, _ = ExactIndex([np.repeat(one, 3, 0), np.repeat(one, 6, 0)]).search(one, 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]


def test_more_neighbours_than_rows_gives_all_rows(vectors):
    rows, similarities = ExactIndex([vectors[:3]]).search(vectors[:2], 10)
    assert rows.shape == similarities.shape == (2, 3)


def test_read_only_memory_maps_are_searched(vectors, tmp_path):
    np.save(tmp_path / "v.npy", vectors)
    block = np.load(tmp_path / "v.npy", mmap_mode="r")
    rows, _ = ExactIndex([block]).search(vectors[5:6], 1)
    assert rows.tolist() == [[5]]


def test_hnsw_finds_nearly_all_and_is_repeatable(vectors):
    blocks = [vectors[:1000], vectors[1000:]]
    index = HnswIndex(blocks)
    assert recall(index, blocks, 10) > 0.95
    first, second = (HnswIndex(blocks).search(vectors[:20], 10) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    rows, similarities = index.search(vectors[:3], 5)
    assert rows[:, 0].tolist() == [0, 1, 2]
    assert similarities[:, 0] == pytest.approx(1, abs=1e-5)


def test_recall_of_exact_search_is_one(vectors):
    assert recall(ExactIndex([vectors]), [vectors], 10) == 1.0


def test_kind_follows_size_queries_and_wish(vectors):
    def kind(name, above, queries=GRAPH_PAYS_ABOVE + 1):
        return type(make_index([vectors[:50]], name, queries=lambda: queries, hnsw_above=above, repeatable=True))

    assert kind("auto", 49) is HnswIndex
    assert kind("auto", 50) is ExactIndex
    assert kind("auto", 1, queries=GRAPH_PAYS_ABOVE) is ExactIndex
    assert kind("hnsw", 1, queries=1) is HnswIndex
    assert kind("exact", 1) is ExactIndex
    assert kind("hnsw", 10**9) is HnswIndex


def test_distinct_rows_are_grouped_in_their_order(vectors):
    rows = np.concatenate([vectors[[3, 1, 3]], -vectors[:1], vectors[[1, 0, 3]]])
    grouped, ends = distinct_rows([rows[:2], rows[2:]])
    assert [group.tolist() for group in np.split(grouped, ends[:-1])] == [[0, 2, 6], [1, 4], [3], [5]]
    grouped, ends = distinct_rows([vectors])
    assert np.array_equal(grouped, np.arange(3000))
    assert np.array_equal(ends, np.arange(1, 3001))


@pytest.mark.parametrize(("copies", "others"), [(500, 2000), (2000, 500), (40, 3), (7, 0)])
def test_hnsw_among_equal_vectors_finds_what_exact_search_finds(vectors, copies, others):
    """Boiler-plate longer than the token limit gives many passages one vector."""
    rows = np.concatenate([np.repeat(vectors[-1:], copies, 0), vectors[:others]])
    rows = rows[np.random.default_rng(1).permutation(len(rows))]
    blocks = [rows[:5], rows[5:]]
    queries = np.concatenate([vectors[2000:2020], vectors[-1:]])
    found, similarities = HnswIndex(blocks).search(queries, 20)
    exact, values = ExactIndex(blocks).search(queries, 20)
    assert (similarities >= values - 1e-6).mean() > 0.97
    assert np.array_equal(found[-1], exact[-1])  # the first of the copies, in their order
    assert all(len(set(row)) == len(row) for row in found.tolist())


def test_a_graph_that_finds_too_little_is_given_up_and_said_so(vectors, caplog):
    index = HnswIndex([vectors], links=2, breadth=2, search_breadth=1)
    assert (index.kind, index.measured < 0.95) == ("exact", True)
    assert "hnswlib finds only" in caplog.text
    rows, similarities = index.search(vectors[:3], 5)
    expected, values = ExactIndex([vectors]).search(vectors[:3], 5)
    assert np.array_equal(rows, expected)
    assert np.array_equal(similarities, values)


def test_a_graph_with_too_few_connections_to_answer_is_searched_exactly(vectors, monkeypatch):
    index = HnswIndex([vectors])
    assert index.kind == "hnsw"

    class Broken:
        def set_ef(self, ef): ...

        def knn_query(self, queries, **options):
            raise RuntimeError("Cannot return the results in a contiguous 2D array. Probably ef or M is too small")

    monkeypatch.setattr(index, "_index", Broken())
    assert np.array_equal(index.search(vectors[:3], 5)[0], ExactIndex([vectors]).search(vectors[:3], 5)[0])
