import pytest
import torch
from torch.nn import functional

from gecko_core.encode import cpu as compute
from gecko_core.encode.cpu import Compute, packed_attention, window
from gecko_core.encode.packing import packed
from gecko_core.errors import ConfigError

LENGTHS = [19, 17, 17, 9, 9, 5, 1, 1, 1]


def reference(query, key, value, reach):
    """Each text by itself, in fp64, by the definition."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    out = torch.empty_like(query, dtype=torch.float64)
    for start, length in zip(torch.tensor([0, *LENGTHS]).cumsum(0).tolist(), LENGTHS, strict=False):
        span = slice(start, start + length)
        q, k, v = (x[0, :, span].double() for x in (query, key, value))
        scores = q @ k.transpose(1, 2) * query.shape[-1] ** -0.5
        place = torch.arange(length)
        if reach is not None:
            scores = scores.masked_fill((place[:, None] - place).abs() > reach, -torch.inf)
        out[0, :, span] = scores.softmax(-1) @ v
    return out


def compute_for(fast):
    found = Compute(packed([[4] * length for length in LENGTHS], vocabulary=80).tiles)
    assert len(found.tiles) == 2
    found.fast = fast
    return found


def tensors(dtype, key_heads=4):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, heads, sum(LENGTHS), 8, generator=generator).to(dtype) for heads in (4, key_heads, key_heads)
    ]


# bf16 keeps 8 bits: scores of about 3 and weights are each rounded once.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-2), (torch.float16, 5e-3)])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("reach", [None, 0, 3])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_attention_stays_within_each_text(dtype, tolerance, fast, reach, key_heads):
    inputs = tensors(dtype, key_heads)
    found = packed_attention(compute_for(fast), *inputs, attn_mask=window(reach))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), reference(*inputs, reach), atol=tolerance, rtol=0)


def test_long_texts_take_the_fused_kernel(monkeypatch):
    monkeypatch.setattr(compute, "two_products_are_faster", lambda dtype, keys, gradients: keys <= 4)
    monkeypatch.setattr(compute, "two_products", lambda *_: pytest.fail("too long for two products"))
    inputs = tensors(torch.float32)
    found = packed_attention(compute_for(True), *inputs, attn_mask=window(None))
    torch.testing.assert_close(found.double(), reference(*inputs, None), atol=2e-6, rtol=0)


def test_autocast_chooses_the_dtype():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = packed_attention(compute_for(True), *tensors(torch.float32), attn_mask=window(None))
    assert found.dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 5, 24), (0, 24)])
def test_linear_equals_torch(shape, bias, monkeypatch):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(compute, "onednn_is_faster", lambda: True)
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(24, 40, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        expected = layer(x)
        with Compute():
            torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)
            turned = torch.randn(24, 6).T
            torch.testing.assert_close(layer(turned), functional.linear(turned, layer.weight, layer.bias))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("trained", ["all", "x", "weight"])
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 5, 24)])
def test_gradients_of_linear(shape, bias, trained, monkeypatch):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(compute, "onednn_is_faster", lambda: True)
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 40, bias=bias)
    x, pull = torch.randn(shape, requires_grad=trained != "weight"), torch.randn(*shape[:-1], 40)
    layer.requires_grad_(trained != "x")
    with Compute():
        (layer(x) * pull).sum().backward()
    exact, input64 = torch.nn.Linear(24, 40, bias=bias, dtype=torch.float64), x.detach().double().requires_grad_()
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    (exact(input64) * pull.double()).sum().backward()
    for mine, theirs in zip([x, *layer.parameters()], [input64, *exact.parameters()], strict=True):
        assert (mine.grad is None) == (not mine.requires_grad)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad.double(), theirs.grad, atol=2e-5, rtol=1e-5)


def test_other_dtypes_and_kinds_of_weights_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(compute, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(compute, "_onednn", lambda *_: pytest.fail("not for oneDNN"))
    x = torch.randn(2, 4)

    class Other(torch.Tensor):
        pass

    with Compute():
        assert torch.nn.Linear(4, 3, dtype=torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
        functional.linear(x, torch.randn(3, 4).as_subclass(Other))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.nn.Linear(4, 3)(x).dtype == torch.bfloat16


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("reach", [None, 3])
def test_gradients_of_attention(fast, reach):
    inputs = [x.requires_grad_() for x in tensors(torch.float32, 2)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    pull = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    (packed_attention(compute_for(fast), *inputs, attn_mask=window(reach)) * pull).sum().backward()
    (reference(*exact, reach) * pull.double()).sum().backward()
    for mine, theirs in zip(inputs, exact, strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, atol=2e-5, rtol=0)


def test_attention_weights_drop_out():
    query, key, value = tensors(torch.float32)
    value = torch.ones_like(value)  # so each output is the sum of the weights that stay, doubled

    def dropped(seed):
        torch.manual_seed(seed)
        return packed_attention(compute_for(True), query, key, value, window(None), 0.5)

    once = dropped(0)
    assert torch.equal(once, dropped(0))
    assert not torch.equal(once, dropped(1))
    mean = torch.stack([dropped(seed) for seed in range(300)]).mean()
    assert abs(float(mean) - 1) < 0.02
    single = once[0, :, -1]  # a text of one token: weight 1, dropped or doubled
    assert set(single.flatten().tolist()) <= {0.0, 2.0}


def test_the_switch(monkeypatch, tiny, sentences):
    expected = tiny.encode(sentences)
    monkeypatch.setenv("GECKO_COMPUTE", "torch")
    assert not Compute().fast
    assert abs(tiny.encode(sentences) - expected).max() < 3e-6
    monkeypatch.setenv("GECKO_COMPUTE", "mkl")
    with pytest.raises(ConfigError, match="GECKO_COMPUTE must be auto, torch or explain, not 'mkl'"):
        tiny.encode(["a gecko"])


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("positions", [True, False])
def test_queries_keys_and_values_in_one_tensor(fast, positions):
    """Without positions as by `packed_attention`; with them, each text by itself, in fp64, by the definition."""
    query, key, value = tensors(torch.float32)
    qkv = torch.stack([x[0].transpose(0, 1) for x in (query, key, value)], dim=1)  # (T, 3, H, d)
    table = torch.randn(1, 4, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = compute_for(fast)
    found.positions = (lambda length: table[:, :, :length, :length].float()) if positions else None
    attended = found.attention(qkv)
    if not positions:
        expected = packed_attention(compute_for(fast), query, key, value)[0].transpose(0, 1).flatten(1)
        torch.testing.assert_close(attended, expected, atol=1e-6, rtol=0)
        return
    start = 0
    for length in LENGTHS:
        q, k, v = qkv[start : start + length].double().permute(1, 2, 0, 3)
        weights = (q @ k.transpose(1, 2) * 8**-0.5 + table[0, :, :length, :length]).softmax(-1)
        expected = (weights @ v).transpose(0, 1).flatten(1)
        torch.testing.assert_close(attended[start : start + length].double(), expected, atol=2e-6, rtol=0)
        start += length


@pytest.mark.parametrize("training", [True, False])
def test_attention_is_chosen_by_the_mode_of_the_model_and_with_dropout_is_two_products(training, monkeypatch):
    """By the mode and not by gradients: of cached gradients the first pass has none, and must be like the second."""
    asked = []

    def faster(dtype, keys, gradients):
        asked.append(gradients)
        return False

    monkeypatch.setattr(compute, "two_products_are_faster", faster)
    found = Compute(packed([[4] * length for length in LENGTHS], vocabulary=80).tiles, training=training)
    for gradients in (True, False):
        inputs = [x.requires_grad_(gradients) for x in tensors(torch.float32)]
        packed_attention(found, *inputs, attn_mask=window(None))
    assert set(asked) == {training}
    monkeypatch.setattr(compute, "_fused", lambda *_: pytest.fail("the fused kernel has no dropout"))
    packed_attention(found, *inputs, attn_mask=window(None), dropout_p=0.1)
