import pytest
import torch
from torch.nn import functional

from gecko_core.encode.int8 import Int8Product, Recorded, Recording, has_int8_products, int8_mode, int8_products
from gecko_core.encode.products import TorchProduct

needs_int8 = pytest.mark.skipif(not has_int8_products(), reason="needs an x86 CPU with VNNI")


def numbers(rows=7, inputs=24, outputs=40):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((rows, inputs), (outputs, inputs), (outputs,))
    )
    weight[3] = 0  # a scale of nothing
    weight[4] *= 1000
    return x, weight, bias


def by_definition(product, x, weight, bias):
    """The formula of the module's docstring, in fp64."""
    integers = ((x.double() / product.scale).float() + product.zero + 0.5).floor().clamp(0, 255).double() - product.zero
    scales = weight.double().abs().amax(1).clamp_min(1e-12) / 127
    return product.scale * integers @ (scales[:, None] * (weight.double() / scales[:, None]).round()).T + bias.double()


@needs_int8
@pytest.mark.parametrize("rows", [1, 7, 2049])
@pytest.mark.parametrize("last", ["plain", "gelu", "tanh", "add"])
def test_the_product_against_its_definition(rows, last):
    x, weight, bias = numbers(rows)
    product = Int8Product(weight, bias, float(x.min()), float(x.max()))
    expected = by_definition(product, x, weight, bias)
    if last == "add":
        residual = torch.randn(rows, 40)
        found, expected = product(x, add=residual), expected + residual.double()
    elif last == "plain":
        found = product(x)
    else:
        approximate = {"gelu": "none", "tanh": "tanh"}[last]
        found, expected = product(x, gelu=approximate), functional.gelu(expected, approximate=approximate)
    assert found.dtype == torch.float32
    # An input on the border between two integers may go either way.
    assert (found.double() - expected).norm() < 2e-3 * expected.norm()


@needs_int8
def test_what_is_exact_stays_exact():
    """Whole numbers up to 127 with a range of 255 lose nothing."""
    x = torch.tensor([[0.0, 1, -128, 127], [5, -3, 0, 0]])
    weight = torch.tensor([[127.0, 0, 1, -1], [2, 2, 127, 0]])
    product = Int8Product(weight, None, -128, 127)
    assert product.scale == 1
    assert torch.equal(product(x), x @ weight.T)


@needs_int8
def test_what_lies_outside_is_clipped():
    product = Int8Product(torch.full((1, 1), 127.0), None, -1.0, 1.0)
    assert product(torch.tensor([[1e30], [-1e30]])).abs().max() < 1.01 * 127
    assert torch.isfinite(Int8Product(torch.zeros(2, 2), None, 0.0, 0.0)(torch.ones(1, 2))).all()


@needs_int8
def test_an_activation_goes_on_as_integers():
    x, weight, bias = numbers()
    second = Int8Product(torch.randn(5, 40), None, -0.2, 12.0, dtype=torch.bfloat16)
    first = Int8Product(weight / 1000, bias, float(x.min()), float(x.max()), following=second)
    alone = Int8Product(weight / 1000, bias, float(x.min()), float(x.max()))
    passed = first(x, gelu="none")
    assert passed.dtype == torch.uint8
    assert (passed.int() - second.quantized(alone(x, gelu="none")).int()).abs().max() <= 1
    assert second(passed).dtype == torch.bfloat16


def test_recorded_ranges():
    recording = Recording()
    product = Recorded(TorchProduct(torch.ones(2, 3), None), recording, (4, "out"))
    assert product(torch.tensor([[1.0, -2.0, 0.5]])).tolist() == [[-0.5, -0.5]]
    product(torch.tensor([[0.0, 7.0, 0.0]]))
    assert recording.ranges == {(4, "out"): (-2.0, 7.0)}


def test_the_mode_ends_with_its_block():
    assert int8_mode() is None
    ranges = {(0, "qkv"): (0.0, 1.0)}
    with int8_products(ranges):
        assert int8_mode() is ranges
        with int8_products({}):
            assert int8_mode() == {}
        assert int8_mode() is ranges
    assert int8_mode() is None
