import numpy as np
import pytest
import torch

from gecko_core.errors import ConfigError, DataError
from gecko_core.search import top_k
from gecko_core.vectors import checked_matrix, unit_vectors


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)


def unit(rows):
    """The definition in fp64, of rows whose squares fp64 can hold."""
    wide = np.asarray(rows, dtype=np.float64)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)


@pytest.mark.parametrize(("scale", "dtype"), [(1, "f4"), (1e-15, "f4"), (1e-30, "f4"), (1e-140, "f8"), (1e15, "f4")])
def test_rows_of_any_length_have_their_direction(rows, scale, dtype):
    scaled = rows.astype(dtype) * np.dtype(dtype).type(scale)
    assert abs(unit_vectors(scaled, "x").numpy() - unit(scaled)).max() < 1e-6
    assert abs(unit_vectors(torch.from_numpy(scaled), "x").numpy() - unit(scaled)).max() < 1e-6


def test_the_shortest_rows_there_are():
    for least in (np.float32(1e-45), np.float64(5e-324)):
        assert unit_vectors(np.array([0, least, 0], dtype=least.dtype), "x").tolist() == [0, 1, 0]
    short = torch.full((1, 4), 1e-15, dtype=torch.bfloat16)
    assert unit_vectors(short, "x").tolist() == [[0.5] * 4]


def test_short_rows_leave_their_neighbours_and_zeros_alone(rows):
    mixed = np.concatenate([rows, rows[:1] * np.float32(1e-20), rows[:1] * 0])
    found = unit_vectors(mixed, "x")
    assert torch.equal(found[:5], torch.nn.functional.normalize(torch.from_numpy(rows), dim=-1))
    assert not found[6].any()
    assert unit_vectors(np.zeros((2, 0)), "x").shape == (2, 0)
    assert unit_vectors(np.zeros((0, 3)), "x").shape == (0, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.nan, "row 1 is not finite; encode it again or drop it"),
        (np.inf, "row 1 is not finite; encode it again or drop it"),
        (1e20, "row 1 is too long for float32; scale the vectors down"),
        (1e200, "row 1 is too long for float32; scale the vectors down"),
    ],
)
def test_search_and_unit_vectors_refuse_the_same_rows(wrong, message):
    vectors = np.ones((2, 4))
    vectors[1, 2] = wrong
    for dtype in ("f8",) if wrong == 1e200 else ("f4", "f8"):
        given = vectors.astype(dtype)
        for use in (
            lambda x: top_k(x, x, 1),
            lambda x: checked_matrix(x, "queries"),
            lambda x: unit_vectors(x, "queries"),
            lambda x: unit_vectors(x, "queries", 3),
        ):
            for kind in (given, torch.from_numpy(given)):
                with pytest.raises(DataError, match=f"queries: {message}"):
                    use(kind)
        assert unit_vectors(given, "x", 2).shape == (2, 2)  # what is cut off does not matter


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.flip(np.flip(x, 0).copy(), 0),
        lambda x: x.astype(">f4"),
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.longdouble),
        lambda x: np.asfortranarray(x),
        lambda x: np.broadcast_to(x, (1, *x.shape))[0],  # read-only
        lambda x: torch.from_numpy(x).requires_grad_(),
    ],
)
def test_arrays_of_every_layout(rows, change):
    assert torch.equal(checked_matrix(change(rows), "x")[0], torch.from_numpy(rows))
    assert abs(unit_vectors(change(rows), "x").detach().numpy() - unit(rows)).max() < 1e-6
    found, expected = top_k(change(rows), change(rows), 2), top_k(rows, rows, 2)
    assert np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.scores, expected.scores)


def test_lists_of_rows(rows):
    for listed in (rows.tolist(), list(rows), list(torch.from_numpy(rows).requires_grad_())):
        assert abs(unit_vectors(listed, "x").detach().numpy() - unit(rows)).max() < 1e-6
    for ragged in ([[1.0], [1.0, 2.0]], [torch.ones(1), torch.ones(2)]):
        with pytest.raises(ConfigError, match="x: the rows are not of one length"):
            unit_vectors(ragged, "x")
    with pytest.raises(ConfigError, match="x: a single number is no vector"):
        unit_vectors(1.0, "x")
    with pytest.raises(ConfigError, match="vectors of int32, not of floats"):
        unit_vectors(np.ones((2, 2), dtype=">i4"), "x")


def test_gradients_are_those_of_the_direction():
    given = torch.tensor([[3.0, 4.0], [3e-20, 4e-20]], requires_grad=True)
    unit_vectors(given, "x")[:, 0].sum().backward()
    expected = torch.tensor([0.128, -0.096])  # d(x / |x|) / dx at (3, 4)
    torch.testing.assert_close(given.grad[0], expected)
    torch.testing.assert_close(given.grad[1] * 1e-20, expected)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_arrays_that_run_backwards(rows):
    array = np.arange(1, 4 * rows + 1, dtype=np.float32).reshape(rows, 4)
    for backwards in (array[::-1], array[:, ::-1], array[::-1, ::-1]):
        expected = backwards / np.linalg.norm(backwards, axis=1, keepdims=True)
        np.testing.assert_allclose(unit_vectors(backwards, "x").numpy(), expected, rtol=1e-6)
        np.testing.assert_array_equal(checked_matrix(backwards, "x")[0].numpy(), backwards)
