import pytest
import torch
from torch.nn import functional

from gecko_core.encode.products import OneDnnProduct, TorchProduct, joined, onednn_has_products

KINDS = [TorchProduct, OneDnnProduct]
# Rounding of the result to bf16's 8 bits, at sums of about 5.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 6e-2}


def needs_onednn(dtype):
    if not onednn_has_products(dtype):
        pytest.skip("this PyTorch or processor has no such products of oneDNN")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 2049])
@pytest.mark.parametrize("last", ["plain", "gelu", "tanh", "add"])
def test_products_against_float64(kind, dtype, bias, rows, last):
    needs_onednn(dtype)
    generator = torch.Generator().manual_seed(0)
    x, weight, shift, residual = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((rows, 24), (40, 24), (40,), (rows, 40))
    )
    x[0] *= 30  # far out in both tails of GELU
    product = kind(weight, shift if bias else None)
    expected = functional.linear(x.double(), weight.double(), shift.double() if bias else None)
    with torch.inference_mode():
        if last == "add":
            found, expected = product(x, add=residual), expected + residual.double()
        elif last == "plain":
            found = product(x)
        else:
            approximate = {"gelu": "none", "tanh": "tanh"}[last]
            found, expected = product(x, gelu=approximate), functional.gelu(expected, approximate=approximate)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype] / 4)


def test_a_product_does_not_follow_its_weight():
    """It has a copy; who keeps it has to notice changes."""
    needs_onednn(torch.float32)
    weight = torch.ones(3, 2)
    product = OneDnnProduct(weight, None)
    weight.zero_()
    assert product(torch.ones(1, 2)).tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, False)])
def test_joined_layers_are_one(biases):
    layers = [torch.nn.Linear(4, width, bias=bias) for width, bias in zip((3, 2), biases, strict=True)]
    weight, bias = joined(layers)
    x = torch.randn(5, 4)
    expected = torch.cat([layer(x) for layer in layers], dim=1)
    torch.testing.assert_close(functional.linear(x, weight, bias), expected)
    assert (bias is None) == (not any(biases))


def test_other_dtypes_have_none(monkeypatch):
    assert not onednn_has_products(torch.float16)
    assert not onednn_has_products(torch.float64)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not onednn_has_products(torch.float32)


def test_the_private_names_in_use():
    """A PyTorch that renames them falls back to its own products; this says so before a benchmark does."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    assert hasattr(torch.ops.mkldnn, "_linear_pointwise")
    assert hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    assert "binary" in torch.ops.mkldnn._linear_pointwise.overloads()
