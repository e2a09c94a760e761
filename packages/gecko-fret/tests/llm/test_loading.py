import os

import pytest
import torch

from gecko_core.errors import ModelError
from gecko_fret.llm.attention import grouped_attention
from gecko_fret.llm.loading import (
    files_fingerprint,
    load_causal_lm,
    load_tokenizer,
    model_content,
    plain_folder,
    weights_fingerprint,
)


def test_folder_is_taken_as_it_is(tmp_path, tiny_model, word_tokenizer):
    tiny_model.save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    assert plain_folder(str(tmp_path)) == str(tmp_path)
    assert load_tokenizer(str(tmp_path))("a cat")["input_ids"] == word_tokenizer("a cat")["input_ids"]


def test_missing_tokenizer_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(str(tmp_path))


def test_fingerprint_follows_the_weights(tmp_path, tiny_model):
    assert files_fingerprint(tmp_path) == ""
    tiny_model.save_pretrained(tmp_path)
    first = files_fingerprint(tmp_path)
    assert first == files_fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("not weights")
    assert files_fingerprint(tmp_path) == first
    torch.save({}, tmp_path / "more.pt")
    assert files_fingerprint(tmp_path) != first


def test_names_that_resolve_nowhere_are_one_line(tmp_path):
    for name in ("no-such-model", str(tmp_path)):
        with pytest.raises(ModelError) as caught:
            weights_fingerprint(name)
        assert "\n" not in str(caught.value)


def test_not_everything_below_a_folder_is_read_to_find_that_it_is_no_model(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"something")
    monkeypatch.setattr("gecko_fret.llm.loading._add_content", None)  # reads
    with pytest.raises(ModelError, match=r"no model \(there is no config.json\); name a model's folder"):
        model_content(str(tmp_path))


def test_gguf_model_is_unpacked_once_into_a_folder(tmp_path, tiny_model, word_tokenizer, monkeypatch):
    from gecko_core.folder import Resolved

    source = tmp_path / "source"
    source.mkdir()
    (source / "model.gguf").write_bytes(b"weights")
    loaded = []
    monkeypatch.setattr(
        "gecko_fret.llm.loading.resolve", lambda name: Resolved("tiny", path=source, gguf_file="model.gguf")
    )
    monkeypatch.setattr("gecko_fret.llm.loading.load_causal_lm", lambda *args: loaded.append(args) or tiny_model)
    monkeypatch.setattr("gecko_fret.llm.loading.load_tokenizer", lambda name: word_tokenizer)
    folders = {plain_folder("tiny", tmp_path / "cache") for _ in range(2)}
    assert len(loaded) == len(folders) == 1
    (folder,) = folders
    assert "model.safetensors" in os.listdir(folder)
    assert "tokenizer.json" in os.listdir(folder)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1


@pytest.mark.parametrize("cap", [1e-3, None])
@torch.inference_mode()
def test_logits_of_attention_are_capped_where_the_model_caps_them(cap, tmp_path, word_tokenizer):
    """By fused attention, ours included, the cap of Gemma 2 was left out."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(word_tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, initializer_range=0.6, attn_logit_softcapping=cap,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    ours = load_causal_lm(str(tmp_path), torch.float32).eval()
    eager = Gemma2ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.arange(3, 12)[None]
    torch.testing.assert_close(ours(ids).logits, eager(ids).logits, atol=1e-4, rtol=1e-4)
    fused = cap is None and ours._supports_sdpa  # which transformers takes for any Gemma 2 up to 5.23
    assert ours.config._attn_implementation == (grouped_attention(torch.device("cpu")) if fused else "eager")


@torch.inference_mode()
def test_attention_sinks_are_not_left_out(tmp_path, word_tokenizer):
    """Fused attention, ours included, knows none; transformers has none for such models, so eager attention runs."""
    transformers = pytest.importorskip("transformers", minversion="4.57")
    torch.manual_seed(0)
    config = transformers.GptOssConfig(
        vocab_size=len(word_tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1,
        initializer_range=0.6, sliding_window=64, layer_types=["full_attention", "sliding_attention"],
    )  # fmt: skip
    model = transformers.GptOssForCausalLM(config).eval()
    for layer in model.model.layers:
        layer.self_attn.sinks.fill_(2.0)
    model.save_pretrained(tmp_path)
    ours = load_causal_lm(str(tmp_path), torch.float32).eval()
    ids = torch.arange(3, 12)[None]
    with_sinks = ours(ids).logits
    torch.testing.assert_close(with_sinks, model(ids).logits, atol=1e-4, rtol=1e-4)
    for layer in ours.model.layers:
        layer.self_attn.sinks.fill_(-torch.inf)
    assert not torch.allclose(ours(ids).logits, with_sinks, atol=1e-3)
