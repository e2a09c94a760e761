import json
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gecko_core import Gecko
from gecko_core.backbones.files import check_folder, check_weights, model_errors
from gecko_core.errors import ConfigError, ModelError


@pytest.fixture
def folder(tiny, tmp_path):
    return tiny.save_pretrained(tmp_path / "model")


def put(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as error:
        Gecko.from_pretrained(folder, device="cpu").encode(["a gecko"])
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def index(folder, file):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    text = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, file)})
    (folder / "model.safetensors.index.json").write_text(text)
    return weights


@pytest.mark.parametrize(
    "file", ["pytorch_model.bin", "../model/other.safetensors", "/etc/x.safetensors", "a\\b.safetensors"]
)
def test_an_index_names_safetensors_beside_it(folder, file):
    weights = index(folder, file)
    torch.save(weights, folder / "pytorch_model.bin")
    refused(folder, "weights are safetensors files in the same folder")


def test_an_index_of_files_that_are_there_is_followed(folder, tiny):
    index(folder, "other.safetensors")
    loaded = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    assert (loaded.encode(["a gecko"]) == tiny.encode(["a gecko"])).all()
    (folder / "other.safetensors").rename(folder / "model-1.safetensors")
    refused(folder, "which is not there")


@pytest.mark.parametrize(
    ("file", "values", "match"),
    [
        ("gecko.json", {"dims": 5}, "dims"),
        ("gecko.json", {"files": {"../model.safetensors": "0"}}, "is not in this folder"),
        ("gecko.json", {"files": {"/etc/hosts": "0"}}, "is not in this folder"),
        ("gecko.json", {"dims": [16, 8]}, "the largest must be the model's own width"),
        ("gecko.json", {"dims": [32, -1]}, "positive whole numbers"),
        ("gecko.json", {"calibration": [1]}, "calibration"),
        ("gecko.json", {"calibration": {"a": 1}}, "calibration"),
        ("gecko.json", {"calibration": {"32": {"lowest": [0], "highest": [1], "texts": 2}}}, "calibration"),
        ("gecko.json", {"format": 99}, "of a later gecko-core"),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "prompts"),
        ("config_sentence_transformers.json", {"similarity_fn_name": 5}, "similarity_fn_name"),
        ("sentence_bert_config.json", {"max_seq_length": "5"}, "max_seq_length"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length"),
        ("sentence_bert_config.json", {"max_seq_length": -5}, "max_seq_length"),
        ("1_Pooling/config.json", {"pooling_mode": 5}, "pooling_mode"),
        ("config.json", {"model_type": ["bert"]}, "model_type"),
        ("config.json", {"hidden_size": "32"}, "hidden_size"),
        ("config.json", {"num_attention_heads": 0}, "num_attention_heads"),
        ("config.json", {"num_attention_heads": 5}, "cannot be loaded"),
        ("config.json", {"num_attention_heads": 4, "num_key_value_heads": 32}, "must be a multiple of num_key_value"),
        ("config.json", {"torch_dtype": "evil", "dtype": "evil"}, "no dtype of torch"),
        ("config.json", {"pad_token_id": 10**9}, "cannot be loaded"),
        ("config.json", {"hidden_act": 5}, "hidden_act"),
        ("config.json", {"hidden_activation": ["gelu"]}, "hidden_activation"),
        ("config.json", {"hidden_act": "no such function"}, "cannot be loaded"),
        ("config.json", {"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob is NaN"),
        ("config.json", {"attention_probs_dropout_prob": 5}, "attention_probs_dropout_prob is 5, and a share"),
        ("config.json", {"layer_norm_eps": 1e300}, r"layer_norm_eps is 1e\+300, and what a norm adds"),
        ("config.json", {"layer_norm_eps": -1e-12}, "layer_norm_eps is -1e-12, and what a norm adds"),
        ("config.json", {"layer_norm_eps": float("nan")}, "layer_norm_eps is NaN"),
        ("config.json", {"attn_implementation": "somebody/kernel"}, "is code on the hub"),
    ],
)
def test_json_of_other_types_is_one_line(folder, file, values, match):
    put(folder / file, **values)
    refused(folder, match)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tokenizer.json", "null"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "[]"),
        ("gecko.json", "[" * 100_000),
        ("modules.json", '[{"idx": null, "type": "x.Transformer"}, {"idx": 1, "type": "x.Pooling"}]'),
        ("modules.json", '[{"idx": 0, "type": "x.Transformer", "path": "../model"}, {"idx": 1, "type": "x.Pooling"}]'),
        ("modules.json", '[{"idx": 0, "type": "x.Transformer", "path": "/"}, {"idx": 1, "type": "x.Pooling"}]'),
        ("modules.json", "[5]"),
    ],
)
def test_other_json_is_one_line(folder, file, text):
    (folder / file).write_text(text)
    refused(folder, "fetch the model again|cannot be loaded")


def test_a_tokenizer_without_a_token_for_what_it_does_not_know_is_refused(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    model = tokenizer["model"]
    tokenizer["model"] = {"type": "WordPiece", "unk_token": "[NONE]", "continuing_subword_prefix": "##",
                          "max_input_chars_per_word": 100, "vocab": model["vocab"]}  # fmt: skip
    path.write_text(json.dumps(tokenizer))
    put(folder / "tokenizer_config.json", unk_token="[NONE]")
    refused(folder, "cannot be loaded .*Missing")


def test_a_projection_of_another_width_is_refused(backbone_folder, tmp_path):
    model = Gecko.from_backbone(backbone_folder("bert"), dims=(16, 8), device="cpu", dtype="float32")
    folder = model.save_pretrained(tmp_path / "model")
    dense = next(folder.glob("*_Dense"))
    put(dense / "config.json", out_features=10**12)
    refused(folder, "the largest must be")
    put(folder / "gecko.json", dims=None)
    refused(folder, "its config.json says")
    put(dense / "config.json", out_features=16)
    put(dense / "config.json", in_features=24)
    save_file({"linear.weight": torch.zeros(16, 24)}, dense / "model.safetensors")
    refused(folder, "takes 24 components, and gets 32")


def test_codes_of_a_quantised_model_are_no_weights(folder):
    """They were read as numbers: vectors without any meaning."""
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("dense.weight"))
    save_file(weights | {name: (weights[name] * 100).to(torch.int8)}, folder / "model.safetensors", {"format": "pt"})
    refused(folder, f"{re.escape(name)} is of I8, the codes of a quantised model")


def test_an_adapter_is_no_model(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(ModelError, match="an adapter, not a model"):
        check_weights(folder)


def test_pickle_indexes_stay_in_the_folder(tmp_path):
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "../x.bin"}}')
    with pytest.raises(ModelError, match=r"names '\.\./x\.bin'"):
        check_folder(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "1_Dense/config.json", "tokenizer.json"])
def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path, monkeypatch, name):
    (tmp_path / "1_Dense").mkdir()
    (tmp_path / name).write_text("{}")
    closed = tmp_path / name
    monkeypatch.setattr("os.access", lambda path, mode: path != closed)  # who runs this may be root, who reads all
    with pytest.raises(ModelError, match=rf"{name}: cannot be read \(Permission denied\)"):
        check_folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_weights_that_are_a_pipe_are_not_waited_for(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    refused(folder, r"model\.safetensors: is no file, but a pipe or a device; fetch the model again")


@pytest.mark.parametrize("change", ["not described", "another"])
def test_a_template_with_a_token_that_is_not_described_is_refused(folder, change):
    """Tokenizers would panic, with a traceback of Rust, at the first text."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {} if change == "not described" else {"[Y]": {"id": "[Y]", "ids": [1], "tokens": ["[Y]"]}},
    }
    for post in (template, {"type": "Sequence", "processors": [template]}):
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": post}))
        refused(folder, r"tokenizer\.json: post_processor: names the special token '\[X\]', which special_tokens does")


def test_a_path_that_is_not_utf8_is_not_called_a_damaged_file(folder, tmp_path):
    named = tmp_path / os.fsdecode(b"\xff")
    try:
        shutil.copytree(folder, named)
    except OSError:
        pytest.skip("this file system takes no such name")
    refused(named, "safetensors opens no path that is not UTF-8; rename the folder")


def test_a_panic_of_a_library_in_rust_is_one_line():
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(ModelError, match="here: cannot be loaded \\(PanicException: no entry"), model_errors("here"):
        raise panic("no entry")
    with pytest.raises(KeyboardInterrupt), model_errors("here"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [TypeError("a\nb"), ZeroDivisionError(), AssertionError("x"), AttributeError("y")])
def test_whatever_a_library_raises_is_one_line(error):
    with pytest.raises(ModelError, match=type(error).__name__) as told, model_errors("here"):
        raise error
    assert "\n" not in str(told.value)
    with pytest.raises(ConfigError), model_errors("here"):
        raise ConfigError("ours stay")
