import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

from gecko_core import Gecko
from gecko_core.backbones.loading import gguf_options
from gecko_core.errors import ConfigError, ModelError


@pytest.fixture
def folder(tiny, tmp_path):
    return tiny.save_pretrained(tmp_path / "model")


def one_line(folder, match):
    with pytest.raises(ModelError, match=match) as error:
        Gecko.from_pretrained(folder, device="cpu")
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_cut_off_safetensors(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    one_line(folder, "corrupt|cannot be loaded")


def test_garbage_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    one_line(folder, "corrupt|cannot be loaded")


def test_missing_tensors_are_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "layer.1" in name and name.endswith("weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    one_line(folder, "the weights lack 1 tensors")


def test_pickled_weights_are_not_loaded(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    one_line(folder, r"no \.safetensors file \(only pytorch_model\.bin\)")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    one_line(folder, "no weights at all")


def test_broken_or_missing_config(folder):
    (folder / "config.json").write_text("{")
    one_line(folder, "cannot be read as JSON")
    (folder / "config.json").unlink()
    one_line(folder, "config.json: missing")


def test_unsupported_model_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    one_line(folder, "'gpt2' is not supported as a backbone")


def test_remote_code_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "custom_bert",
        "auto_map": {"AutoModel": "modeling.Evil", "AutoConfig": "modeling.EvilConfig"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text("raise SystemExit('remote code was run')")
    one_line(folder, "'custom_bert' is not supported")


def test_missing_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    one_line(folder, "no tokenizer")


def test_a_tokenizer_of_another_model_is_noticed(folder, own):
    own.tokenizer.add_tokens([f"new{i}" for i in range(60)])
    with pytest.raises(ModelError, match="outside of the backbone's 80 embeddings"):
        own.encode(["new50"])


def test_hub_without_network_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="nobody/nothing: not a folder here, and the hub did not give it") as error:
        Gecko.from_pretrained("nobody/nothing")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["int8", torch.int32, "half?"])
def test_wrong_dtype(folder, dtype):
    with pytest.raises(ConfigError, match="dtype must be float32, bfloat16 or float16"):
        Gecko.from_pretrained(folder, dtype=dtype)


def test_causal_language_models_give_their_backbone(backbone_folder, tmp_path):
    """A folder with a language model head loads without it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    source = backbone_folder("llama")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(tmp_path / "lm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, tmp_path / "lm" / name)
    gecko = Gecko.from_backbone(tmp_path / "lm", dims=(32,), device="cpu")
    assert gecko.encode(["a gecko"]).shape == (1, 32)
    assert not any("lm_head" in name for name, _ in gecko.named_parameters())


def test_gguf_files_are_read_as_plain_weights(monkeypatch):
    assert gguf_options(None) == {}
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(GgufConfig=dict))
    assert gguf_options("a.gguf") == {"gguf_file": "a.gguf", "quantization_config": {"dequantize": True}}
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace())  # version 4 dequantises without being asked
    assert gguf_options("a.gguf") == {"gguf_file": "a.gguf"}
