import math

import pytest
import torch

from gecko_core.encode.attention import BiasOfLastMask, attention_bias, two_products


def tensors(*shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


# bf16 keeps 8 bits: scores of about 3 and weights are each rounded once.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("scale", [None, 0.2])
def test_two_products_agree_with_pytorch(dtype, tolerance, scale):
    query, key, value = tensors((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8), dtype=dtype)
    sees = torch.ones(2, 1, 5, 7, dtype=torch.bool).tril(2)
    for mask in (None, sees):
        bias = None if mask is None else attention_bias(mask, 3, dtype)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query.double(), key.double(), value.double(), attn_mask=mask, scale=scale
        )
        attended = two_products(query, key, value, bias, scale)
        torch.testing.assert_close(attended.double(), expected, atol=tolerance, rtol=0)


def test_query_heads_that_share_keys_are_laid_out_as_queries():
    query, key, value = tensors((2, 6, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))
    sees = torch.ones(2, 1, 5, 7, dtype=torch.bool).tril(2)
    grouped = two_products(query.reshape(2, 3, 10, 8), key, value, attention_bias(sees, 6, torch.float32))
    copied = [x.repeat_interleave(2, dim=1) for x in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(query, *copied, attn_mask=sees)
    torch.testing.assert_close(grouped.reshape(2, 6, 5, 8), expected, atol=2e-6, rtol=0)


def test_bias_of_numbers_is_taken_as_it_is():
    mask = torch.tensor([[[[0.0, -5.0]]]])
    assert attention_bias(mask, 2, torch.float32).tolist() == [[[[0.0, -5.0]], [[0.0, -5.0]]]]


def test_a_query_that_sees_nothing_stays_finite_under_the_lowest_number():
    query, key, value = tensors((1, 1, 2, 4), (1, 1, 2, 4), (1, 1, 2, 4))
    nothing = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert two_products(query, key, value, attention_bias(nothing, 1, torch.float32)).isnan().all()
    assert two_products(query, key, value, BiasOfLastMask()(nothing, 1, torch.float32)).isfinite().all()


def test_the_bias_is_made_once_for_a_mask():
    biases, mask = BiasOfLastMask(-math.inf), torch.ones(1, 1, 2, 6, dtype=torch.bool).tril()
    first = biases(mask, 2, torch.float32, keys=4)
    assert first.shape == (1, 2, 2, 4)
    assert biases(mask, 2, torch.float32, keys=4) is first
    assert biases(mask, 2, torch.float32).shape == (1, 2, 2, 6)
    assert biases(mask, 2, torch.bfloat16).dtype == torch.bfloat16
    assert biases(~mask, 2, torch.float32)[0, 0, 0].tolist() == [-math.inf, 0, 0, 0, 0, 0]
