import pytest
import torch

from gecko_fret.llm import attention
from gecko_fret.llm.attention import GroupedAttention, grouped_attention


class Module(torch.nn.Module):
    is_causal = True

    def __init__(self, groups):
        super().__init__()
        self.num_key_value_groups = groups


def reference(query, key, value, mask, scale):
    """By the definition, in fp64; query heads of a group share a key head."""
    key, value = (states.double().repeat_interleave(query.shape[1] // key.shape[1], 1) for states in (key, value))
    scores = (query.double() @ key.transpose(2, 3) * scale).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


# bf16 keeps 8 bits: scores of about 3 and weights are each rounded once.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("short", [True, False])
def test_grouped_heads_equal_repeated_keys(length, groups, dtype, tolerance, short, monkeypatch):
    monkeypatch.setattr(attention, "two_products_are_faster", lambda dtype, keys: short)
    attend = GroupedAttention()
    torch.manual_seed(0)
    rows, heads, keys, width = 2, 2, 9, 8
    query = torch.randn(rows, heads * groups, length, width).to(dtype)
    key, value = torch.randn(2, rows, heads, keys, width).to(dtype)
    mask = torch.rand(rows, 1, length, keys) > 0.3
    mask[..., 0] = True
    for seen in (mask, ~mask):  # no mask is taken for the one before
        seen[..., 0] = True
        attended, _ = attend(Module(groups), query, key, value, seen, scaling=0.3)
        assert attended.dtype == dtype
        torch.testing.assert_close(attended.double(), reference(query, key, value, seen, 0.3), atol=tolerance, rtol=0)


def test_a_mask_longer_than_the_keys_is_cut_and_padding_is_finite():
    torch.manual_seed(0)
    query, (key, value) = torch.randn(1, 4, 3, 8).bfloat16(), torch.randn(2, 1, 2, 6, 8).bfloat16()
    mask = torch.ones(1, 1, 3, 10, dtype=torch.bool).tril(3)
    mask[:, :, 0] = False  # a query of padding sees nothing
    attended, _ = GroupedAttention()(Module(2), query, key, value, mask, scaling=0.3)
    assert attended.isfinite().all()
    expected = reference(query, key, value, mask[..., :6], 0.3)
    torch.testing.assert_close(attended[:, 1:].double(), expected[:, 1:], atol=3e-2, rtol=0)


def test_gpus_keep_the_library_s_attention(tiny_model):
    assert grouped_attention(torch.device("cuda")) == "sdpa"
    assert tiny_model.config._attn_implementation == grouped_attention(torch.device("cpu"))
