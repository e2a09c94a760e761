"""combine against the formula written out in fp64, and what it refuses."""

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_core.fields import combine, field_means

WEIGHTS = {"title": 0.5, "chunks": 0.1, "queries": 1.0}


def unit(rng, count, dim):
    vectors = rng.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def written_out(query, chunks, documents, fields, weights, missing):
    """max_i s(q, c_i) + sum_f w_f s(q, e_f) of every document, one at a time."""
    scores = []
    for number in range(max(documents) + 1):
        own = chunks[documents == number].astype(np.float64)
        score = max(own @ query)
        for name, weight in weights.items():
            if name == "chunks":
                score += weight * (own.mean(0) @ query)
                continue
            vectors, owners = fields[name]
            of_field = vectors[owners == number].astype(np.float64)
            if len(of_field):
                score += weight * (of_field.mean(0) @ query)
            elif missing == "chunks":
                score += weight * (own.mean(0) @ query)
        scores.append(score)
    return np.array(scores)


@pytest.mark.parametrize("missing", ["chunks", "zero"])
@pytest.mark.parametrize("dim", [1, 7, 64, 129])
def test_an_index_of_inner_products_ranks_by_the_formula(missing, dim):
    rng = np.random.default_rng(dim)
    documents = np.array([0, 1, 1, 1, 2, 3, 3])
    fields = {
        "title": (unit(rng, 3, dim), np.array([0, 1, 3])),  # document 2 has no title
        "queries": (unit(rng, 5, dim), np.array([3, 0, 0, 1, 0])),  # nor a query
    }
    chunks = unit(rng, len(documents), dim)
    kept = combine(chunks, documents, fields, WEIGHTS, missing=missing)
    assert kept.dtype == np.float32
    for query in unit(rng, 20, dim).astype(np.float64):
        best = [(kept[documents == number] @ query).max() for number in range(4)]
        np.testing.assert_allclose(
            best, written_out(query, chunks, documents, fields, WEIGHTS, missing), rtol=1e-5, atol=2e-6
        )


def test_the_order_of_chunks_and_of_a_field_does_not_matter():
    rng = np.random.default_rng(0)
    documents, owners = np.array([0, 0, 1, 2]), np.array([2, 0, 2, 1, 0])
    chunks, queries = unit(rng, 4, 9), unit(rng, 5, 9)
    straight = combine(chunks, documents, {"queries": (queries, owners)}, {"queries": 0.7})
    order, other = np.array([3, 1, 0, 2]), np.array([4, 2, 0, 1, 3])
    turned = combine(chunks[order], documents[order], {"queries": (queries[other], owners[other])}, {"queries": 0.7})
    np.testing.assert_allclose(turned, straight[order], atol=1e-6)


def test_weights_of_zero_change_nothing_and_normalising_gives_unit_length():
    rng = np.random.default_rng(1)
    chunks, documents = unit(rng, 5, 33), np.array([0, 0, 1, 2, 2])
    fields = {"title": (unit(rng, 1, 33), np.array([1]))}
    assert np.array_equal(combine(chunks, documents, fields, {"title": 0.0, "chunks": 0.0}), chunks)
    lengths = np.linalg.norm(combine(chunks, documents, fields, {"title": 3.0}, normalize=True), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_sums_that_cancel_stay_finite():
    chunks = np.array([[1.0, 0.0]], dtype=np.float32)
    fields = {"title": (-chunks, np.array([0]))}
    assert np.array_equal(combine(chunks, np.array([0]), fields, {"title": 1.0}, normalize=True), [[0.0, 0.0]])
    fields = {"title": (-np.array([[0.1, 0.7]]) / 3, np.array([0]))}
    sums = combine(np.array([[0.1, 0.7]]), np.array([0]), fields, {"title": 3.0000000000000004}, normalize=True)
    assert np.array_equal(sums, [[0.0, 0.0]])


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e13, 1e30])
def test_sums_of_any_length_are_normalised(size):
    chunks = np.array([[3.0, 4.0]], dtype=np.float32) * np.float32(size)
    sums = combine(chunks, np.array([0]), {"title": (chunks, np.array([0]))}, {"title": 0.5}, normalize=True)
    np.testing.assert_allclose(sums, [[0.6, 0.8]], rtol=1e-6)


def test_means_keep_the_digits_of_large_and_small_values():
    vectors = np.array([[1e30, 1e-30], [3e30, 3e-30], [5.0, 7.0]], dtype=np.float32)
    means, present = field_means(vectors, np.array([0, 0, 2]), 3)
    np.testing.assert_allclose(means, [[2e30, 2e-30], [0, 0], [5, 7]], rtol=1e-6)
    assert present.tolist() == [True, False, True]


def test_nothing_gives_nothing():
    assert combine(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), {}, {"chunks": 1.0}).shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"documents": np.array([0, 2])}, ConfigError, "document 1 has no chunk"),
        ({"documents": np.array([0, -1])}, ConfigError, "number the documents from 0"),
        ({"documents": np.array([0.0, 1.0])}, ConfigError, "whole numbers of documents"),
        ({"documents": np.array([0])}, ConfigError, "2 chunks need as many"),
        ({"weights": {"titel": 1.0}}, ConfigError, "no such field .fields: title"),
        ({"weights": {"title": float("nan")}}, ConfigError, "must be a number from -1000 to 1000"),
        ({"weights": {"title": 1e300}}, ConfigError, "'title' is 1e\\+300; it must be a number from -1000 to 1000"),
        ({"fields": {"title": (np.ones((1, 3), np.float32), np.array([5]))}}, ConfigError, "a vector of document 5"),
        ({"fields": {"title": (np.ones((1, 2), np.float32), np.array([0]))}}, ConfigError, "vectors of 2 components"),
        ({"chunks": np.full((2, 3), np.nan, np.float32)}, DataError, "chunks: row 0 is not finite"),
        ({"chunks": np.ones((2, 3), np.int8)}, ConfigError, "not of floats"),
    ],
)
def test_what_does_not_fit_is_one_line(change, error, told):
    given = {
        "chunks": np.ones((2, 3), np.float32),
        "documents": np.array([0, 1]),
        "fields": {"title": (np.ones((1, 3), np.float32), np.array([0]))},
        "weights": {"title": 1.0},
    } | change
    with pytest.raises(error, match=told) as raised:
        combine(given["chunks"], given["documents"], given["fields"], given["weights"])
    assert "\n" not in str(raised.value)


def test_what_stands_in_is_one_of_two_words():
    with pytest.raises(ConfigError, match="missing must be one of chunks, zero, not 'Chunks'"):
        combine(np.eye(2), np.arange(2), {}, {}, missing="Chunks")
