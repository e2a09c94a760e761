"""The best documents by their best chunk, against all scores sorted."""

import numpy as np
import pytest

from gecko_core.errors import ConfigError
from gecko_core.fields import best_of_documents, search_documents
from gecko_core.search import Hits


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_best_documents_are_those_of_all_scores_sorted(k):
    rng = np.random.default_rng(k)
    documents = np.repeat(np.arange(20), rng.integers(1, 6, 20))
    vectors = rng.standard_normal((len(documents), 8)).astype(np.float32)
    queries = rng.standard_normal((7, 8)).astype(np.float32)
    found = search_documents(queries, vectors, documents, k)
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    best = np.stack([[row[documents == number].max() for number in range(20)] for row in scores])
    order = np.argsort(-best, axis=1)[:, :k]
    assert np.array_equal(found.rows, order)
    np.testing.assert_allclose(found.scores, np.take_along_axis(best, order, 1), rtol=1e-6)


def test_vectors_may_come_in_pieces():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((9, 5)).astype(np.float32)
    documents, queries = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3]), vectors[:2]
    whole = search_documents(queries, vectors, documents, 2)
    pieces = search_documents(queries, [vectors[:4], vectors[4:]], documents, 2)
    assert np.array_equal(whole.rows, pieces.rows)
    with pytest.raises(ConfigError, match="9 vectors need as many whole numbers of documents"):
        search_documents(queries, vectors, documents[:3], 2)
    with pytest.raises(ConfigError, match="need as many whole numbers of documents, not float64"):
        search_documents(queries, vectors, documents.astype(float), 2)
    with pytest.raises(ConfigError, match="document -1; number the documents from 0"):
        search_documents(queries, vectors, documents - 1, 2)


def test_short_lists_are_filled_up():
    hits = Hits(np.array([[0, 1, 2], [3, -1, -1]]), np.array([[3, 2, 1], [9, -np.inf, -np.inf]], dtype=np.float32))
    found = best_of_documents(hits, np.array([0, 0, 1, 2]), 5)
    assert found.rows.tolist() == [[0, 1], [2, -1]]
    assert found.scores.tolist() == [[3.0, 1.0], [9.0, -np.inf]]
