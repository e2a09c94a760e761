import math

import numpy as np
import pytest
import torch

from gecko_core import Gecko
from gecko_train.run.weights import interpolate, set_between, slerp, weights_of


def reference(a, b, share):
    """Slerp in extended precision, by the arc cosine."""
    u, v = np.asarray(a, np.longdouble).ravel(), np.asarray(b, np.longdouble).ravel()
    angle = np.arccos((u @ v) / np.sqrt((u @ u) * (v @ v)))
    mixed = (np.sin((1 - share) * angle) * u + np.sin(share * angle) * v) / np.sin(angle)
    return mixed.reshape(np.shape(a))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7,), (3, 5), (1, 2), (2, 3, 5), (33, 129)])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_slerp_is_that_of_the_flattened_tensors(shape, share):
    a, b = draw(*shape), 3 * draw(*shape, seed=1)
    expected = reference(a.numpy(), b.numpy(), share)
    np.testing.assert_allclose(slerp(a.double(), b.double(), share).numpy(), expected.astype(float), rtol=1e-12)
    np.testing.assert_allclose(interpolate(a, b, share, "slerp").numpy(), expected.astype(float), rtol=3e-7)


def test_slerp_keeps_the_length_of_vectors_of_one_length():
    a, b = (vector / vector.norm() for vector in (draw(50).double(), draw(50, seed=1).double()))
    for share in (0.1, 0.5, 0.8):
        assert float(slerp(a, b, share).norm()) == pytest.approx(1, abs=1e-14)
    assert float(((a + b) / 2).norm()) < 0.9


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-3, math.pi / 2, math.pi - 1e-3])
def test_slerp_at_small_and_large_angles(angle):
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    b = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    expected = [math.cos(0.3 * angle), math.sin(0.3 * angle)]
    np.testing.assert_allclose(slerp(a, b, 0.3).numpy(), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.5, -1.0, -3.0])
def test_parallel_opposite_and_zero_vectors_are_mixed_linearly(factor):
    a = draw(9).double()
    np.testing.assert_allclose(slerp(a, factor * a, 0.25), 0.75 * a + 0.25 * factor * a, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slerp(factor * a, a, 0.25), 0.75 * factor * a + 0.25 * a, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_slerp_of_extreme_values_neither_overflows_nor_vanishes(size):
    a, b = draw(64) * size, draw(64, seed=1) * size
    expected = reference(a.numpy(), b.numpy(), 0.5)
    np.testing.assert_allclose(interpolate(a, b, 0.5, "slerp").numpy(), expected.astype(float), rtol=1e-6)


@pytest.mark.parametrize("method", ["linear", "slerp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_ends_are_exact_and_buffers_of_integers_the_starts(method, dtype):
    a, b = draw(31).to(dtype), (draw(31, seed=1) * 1e4).to(dtype)
    assert torch.equal(interpolate(a, b, 0.0, method), a)
    assert torch.equal(interpolate(a, b, 1.0, method), b)
    assert torch.equal(interpolate(a, a.clone(), 0.3, method), a)
    assert interpolate(a, b, 0.3, method).dtype == dtype
    positions = torch.arange(5)
    assert torch.equal(interpolate(positions, positions + 1, 0.5, method), positions)


def test_linear_is_rounded_once():
    a, b = draw(1001), draw(1001, seed=1)
    expected = (a.double() * 0.75 + b.double() * 0.25).float()
    assert torch.equal(interpolate(a, b, 0.25), expected)


def test_a_models_projection_is_between_too(tiny_backbone):
    a, b = (Gecko.from_backbone(tiny_backbone, dims=(24, 8), device="cpu", dtype=torch.float32) for _ in range(2))
    with torch.no_grad():
        for parameter in b.parameters():
            parameter.add_(2.0)
    start, end = weights_of(a), weights_of(b)
    assert "head.0.linear.weight" in start
    set_between(a, start, end, 0.5, "linear")
    for name, parameter in a.named_parameters():
        torch.testing.assert_close(parameter.detach(), start[name] + 1.0)
    set_between(a, start, end, 0.0, "slerp")
    assert all(torch.equal(tensor, start[name]) for name, tensor in a.state_dict().items())
    set_between(a, start, end, 1.0, "slerp")
    assert all(torch.equal(tensor, end[name]) for name, tensor in a.state_dict().items())
