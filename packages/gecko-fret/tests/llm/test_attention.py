import pytest
import torch

from gecko_fret.llm.attention import grouped_attention, grouped_sdpa


@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("groups", [1, 3])
def test_grouped_heads_equal_repeated_keys(length, groups):
    torch.manual_seed(0)
    rows, heads, keys, width = 2, 2, 9, 8
    query = torch.randn(rows, heads * groups, length, width)
    key, value = torch.randn(2, rows, heads, keys, width)
    mask = torch.rand(rows, 1, length, keys) > 0.3
    mask[..., 0] = True
    repeated = [states.repeat_interleave(groups, dim=1) for states in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=0.3)

    class Module(torch.nn.Module):
        num_key_value_groups, is_causal = groups, True

    found, _ = grouped_sdpa(Module(), query, key, value, mask, scaling=0.3)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-5)


def test_gpus_keep_the_library_s_attention(tiny_model):
    assert grouped_attention(torch.device("cuda")) == "sdpa"
    assert tiny_model.config._attn_implementation == grouped_attention(torch.device("cpu"))
