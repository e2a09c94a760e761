import json
import re
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
import transformers

from gecko_core import Gecko
from gecko_core.backbones.base import takes_long_rows
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


def test_weights_that_are_no_numbers_name_their_folder(folder, tiny, tmp_path):
    """A vector of theirs is none either, and was told as one of a model that runs in float16."""
    from safetensors.torch import load_file, save_file

    (folder / "gecko.json").write_text(json.dumps(json.loads((folder / "gecko.json").read_text()) | {"files": {}}))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("query.weight"))
    for value in (float("nan"), float("inf")):
        weights[name][1, 1] = value
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        one_line(
            folder, r"1 of the weights' tensors are not finite \(.*query\.weight\); fetch or make the model again$"
        )
    weights[name][1, 1] = 1e30
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert Gecko.from_pretrained(folder, device="cpu", dtype="float32").dim == tiny.dim
    with pytest.raises(ModelError, match=r"not finite .*; take bfloat16, or float32"):
        Gecko.from_pretrained(folder, device="cpu", dtype="float16")


def test_an_encoder_that_is_a_decoder_names_its_folder(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_decoder": True}))
    one_line(folder, "config.json says is_decoder; a causal encoder cannot be a backbone")


def test_garbage_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    one_line(folder, "corrupt|cannot be loaded")


def test_missing_tensors_are_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "layer.1" in name and name.endswith("weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    one_line(folder, "the weights lack 1 tensors")


@pytest.mark.parametrize(
    ("change", "name", "shapes"),
    [
        ({"vocab_size": 1000}, "embeddings.word_embeddings.weight", r"\d+ x 32, .* asks for 1000 x 32"),
        ({"max_position_embeddings": 7}, "embeddings.position_embeddings.weight", r"\d+ x 32, .* asks for 7 x 32"),
        ({"intermediate_size": 10}, "encoder.layer.0.intermediate.dense.bias", r"\d+, .* asks for 10;"),
    ],
)
def test_weights_of_another_shape_are_told_by_name_and_shape(backbone_folder, tmp_path, change, name, shapes):
    folder = tmp_path / "model"
    shutil.copytree(backbone_folder("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    told = f"as {shapes}" if transformers.__version__ >= "5" else "in another shape than config"
    with pytest.raises(ModelError, match=f"the weights hold {re.escape(name)} {told}") as error:
        Gecko.from_backbone(folder, dims=(32,), device="cpu")
    assert str(error.value).startswith(str(folder))


LAYERS = {"distilbert": "n_layers", "t5": "num_layers", "mt5": "num_layers", "umt5": "num_layers"}


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "mpnet", "modernbert", "t5", "llama", "qwen2"])
@pytest.mark.parametrize(
    ("asked", "match"),
    [(1, "tensors of layers that config.json does not"), (3, "the weights hold 2"), (0, "0")],
)
def test_other_layers_than_the_weights_hold(backbone_folder, tmp_path, model_type, asked, match):
    folder = tmp_path / "model"
    shutil.copytree(backbone_folder(model_type), folder)
    key = LAYERS.get(model_type, "num_hidden_layers")
    config = json.loads((folder / "config.json").read_text())
    config.pop("layer_types", None)  # as older folders are: where it is, transformers itself sees that it is longer
    for layers, expected in ((asked, match), (10**9, "is 1000000000, and the weights hold 2")):
        (folder / "config.json").write_text(json.dumps({**config, key: layers}))
        with pytest.raises(ModelError, match=expected) as error:
            Gecko.from_backbone(folder, dims=(32,), device="cpu")
        assert "\n" not in str(error.value)
        assert str(folder) in str(error.value)
    (folder / "config.json").write_text(json.dumps({**config, key: 2}))
    assert Gecko.from_backbone(folder, dims=(32,), device="cpu").encode(["a gecko"]).shape == (1, 32)


def test_layers_under_the_name_of_a_task_model_are_counted(backbone_folder, tmp_path):
    """A checkpoint with a head calls them bert.encoder.layer..."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    source = backbone_folder("bert")
    AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(source)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, tmp_path / name)
    assert Gecko.from_backbone(tmp_path, dims=(32,), device="cpu").encode(["a gecko"]).shape == (1, 32)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ModelError, match=r"16 tensors of layers .*\(.*encoder\.layer\.1\."):
        Gecko.from_backbone(tmp_path, dims=(32,), device="cpu")


@pytest.mark.parametrize(
    ("model_type", "prefix", "extra"),
    [
        (
            "bert",
            "",
            ["cls.predictions.bias", "classifier.layers.0.weight", "embeddings.position_ids", "pooler.x.weight"],
        ),
        ("llama", "model.", ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "score.weight"]),
        ("t5", "", ["decoder.block.0.layer.0.SelfAttention.q.weight", "lm_head.weight"]),
    ],
)
def test_heads_and_buffers_are_passed_over(backbone_folder, tmp_path, model_type, prefix, extra):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(backbone_folder(model_type), folder)
    weights = {prefix + name: tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(
        weights | {name: torch.zeros(3) for name in extra}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    assert Gecko.from_backbone(folder, dims=(32,), device="cpu").encode(["a gecko"]).shape == (1, 32)


def test_a_bias_that_the_config_leaves_out_is_noticed(backbone_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(backbone_folder("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.self_attn.q_proj.weight"))
    bias = name.replace("weight", "bias")
    save_file(weights | {bias: torch.ones(32)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="1 tensors of layers"):
        Gecko.from_backbone(folder, dims=(32,), device="cpu")


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


@pytest.mark.parametrize("dtype", ["int4", torch.int32, "half?"])
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


@torch.inference_mode()
def test_logits_of_attention_are_capped_where_the_model_caps_them(backbone_folder, tmp_path):
    """PyTorch's fused attention leaves the cap of Gemma 2 out; with a low cap the states are others."""
    folder = tmp_path / "model"
    shutil.copytree(backbone_folder("gemma2"), folder)
    config = json.loads((folder / "config.json").read_text())
    states = {}
    for cap in (1e-3, None):
        (folder / "config.json").write_text(json.dumps(config | {"attn_logit_softcapping": cap}))
        gecko = Gecko.from_backbone(folder, device="cpu", dtype="float32")
        assert gecko.can_pack == (cap is None and takes_long_rows() and gecko.backbone._supports_sdpa)
        rows = gecko.collate([[5, 6, 7, 8, 9]])
        states[cap] = gecko(**rows)
        gecko.backbone.set_attn_implementation("eager")
        torch.testing.assert_close(states[cap], gecko(**rows))
    assert not torch.allclose(states[1e-3], states[None], atol=1e-3)
