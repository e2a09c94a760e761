"""The saved folder, field by field, and as other software reads it."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from gecko_core import Gecko
from gecko_core.backbones.decoder import DecoderAdapter
from gecko_core.backbones.registry import ADAPTERS
from gecko_core.backbones.t5 import T5Adapter
from gecko_core.errors import DataError, ModelError

TYPES = sorted(model_type for adapter in ADAPTERS for model_type in adapter.model_types)
# Classes that transformers 4 can build a tokenizer from; "TokenizersBackend" is transformers 5 only.
KNOWN_TO_TRANSFORMERS_4 = {"PreTrainedTokenizerFast", "BertTokenizer", "Qwen2Tokenizer"}

#: What a model was made from is the business of who saves it.
_OF_THE_RUN = {"README.md", "gecko.json"}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return tiny.save_pretrained(tmp_path_factory.mktemp("saved") / "model", record={"recipe": "test", "seed": 7})


def test_files(folder):
    expected = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "modules.json"}
    expected |= {"1_Pooling", "2_Normalize", "sentence_bert_config.json", "config_sentence_transformers.json"}
    expected |= {"README.md", "gecko.json"}
    # transformers 4 adds a file of its own.
    assert {path.name for path in folder.iterdir()} - {"special_tokens_map.json"} == expected


def test_module_list_uses_the_names_that_all_releases_know(folder):
    assert [(m["type"], m["path"]) for m in load(folder / "modules.json")] == [
        ("sentence_transformers.models.Transformer", ""),
        ("sentence_transformers.models.Pooling", "1_Pooling"),
        ("sentence_transformers.models.Normalize", "2_Normalize"),
    ]


def test_pooling_has_the_old_keys_and_only_those(folder):
    assert load(folder / "1_Pooling" / "config.json") == {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": False,
        "include_prompt": True,
    }


def test_what_text_embeddings_inference_requires(folder):
    """Fields without a default in its parsers: PoolConfig, STConfig, Config of BERT."""
    pooling = load(folder / "1_Pooling" / "config.json")
    assert isinstance(pooling["pooling_mode_cls_token"], bool)
    assert isinstance(pooling["pooling_mode_mean_tokens"], bool)
    assert isinstance(load(folder / "sentence_bert_config.json")["max_seq_length"], int)
    config = load(folder / "config.json")
    required = {"architectures", "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"}
    required |= {"intermediate_size", "hidden_act", "hidden_dropout_prob", "max_position_embeddings", "type_vocab_size"}
    required |= {"initializer_range", "layer_norm_eps", "pad_token_id"}
    assert required <= config.keys()
    assert (folder / "tokenizer.json").is_file()
    prompts = load(folder / "config_sentence_transformers.json")["prompts"]
    assert all(isinstance(value, str) for value in prompts.values())


def test_what_vllm_reads(folder):
    config = load(folder / "config.json")
    assert config["is_matryoshka"] is True
    assert config["matryoshka_dimensions"] == [32, 8]
    assert load(folder / "sentence_bert_config.json") == {"max_seq_length": 66, "do_lower_case": False}


def test_sentence_transformers_configuration(folder):
    config = load(folder / "config_sentence_transformers.json")
    assert config["default_prompt_name"] is None
    assert config["similarity_fn_name"] == "cosine"
    assert "truncate_dim" not in config
    assert config["prompts"]["query"] == "task: search result | query: "
    assert config["prompts"]["document"] == "title: none | text: "
    assert config["prompts"]["Classification"] == "task: classification | query: "


def test_tokenizer_files_suit_transformers_4(folder):
    config = load(folder / "tokenizer_config.json")
    assert config["tokenizer_class"] in KNOWN_TO_TRANSFORMERS_4
    assert not isinstance(config.get("extra_special_tokens"), list)
    tokenizer = load(folder / "tokenizer.json")
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None


def test_record_goes_into_gecko_json_and_the_card(folder, tiny):
    ours = load(folder / "gecko.json")
    assert ours["record"] == {"recipe": "test", "seed": 7}
    assert ours["weights"] == tiny.weights_hash()
    assert (ours["prompt_style"], ours["dims"]) == ("gecko", [32, 8])
    assert "recipe: test" in (folder / "README.md").read_text()


@pytest.fixture(params=TYPES)
def saved(request, backbone_folder, tmp_path):
    gecko = Gecko.from_backbone(backbone_folder(request.param), dims=(32, 8), device="cpu", dtype="float32")
    return gecko, gecko.save_pretrained(tmp_path / request.param)


def test_every_backbone_comes_back_and_sentence_transformers_agrees(saved, sentences):
    gecko, folder = saved
    expected = gecko.encode(sentences)
    again = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    assert np.array_equal(again.encode(sentences), expected)
    assert again.weights_hash() == gecko.weights_hash()
    assert again.dims == (32, 8)
    assert load(folder / "tokenizer_config.json")["tokenizer_class"] in KNOWN_TO_TRANSFORMERS_4
    sentence_transformers = pytest.importorskip("sentence_transformers")
    if int(transformers.__version__.split(".")[0]) < 5 and isinstance(gecko.adapter, DecoderAdapter | T5Adapter):
        return  # transformers 4 knows no `is_causal` in config.json, and sentence-transformers for it no UMT5
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert (theirs.encode(sentences) * expected).sum(axis=1).min() > 0.9999
    # One text alone has no padding: another path through their masks.
    assert (theirs.encode(sentences[7]) * expected[7]).sum() > 0.9999


def test_real_model_in_sentence_transformers_and_transformers(minilm_folder, sentences, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoTokenizer

    gecko = Gecko.from_pretrained(minilm_folder, device="cpu", dtype="float32")
    gecko.prompt_style = "gecko"
    folder = gecko.save_pretrained(tmp_path / "m", dims=(384, 128))
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    few = sentences[:20]
    for ours, other in (
        (gecko.encode(sentences), theirs.encode(sentences)),
        (gecko.encode_queries(few), theirs.encode(few, prompt_name="query")),
        (gecko.encode_queries(few, "semantic similarity"), theirs.encode(few, prompt_name="STS")),
        (gecko.encode_documents(few), theirs.encode(few, prompt_name="document")),
    ):
        assert (ours * other).sum(axis=1).min() > 0.9999

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(sentences, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    assert (pooled * gecko.encode(sentences)).sum(axis=1).min() > 0.9999


@pytest.mark.slow
def test_prompt_names_are_those_of_mteb():
    mteb = pytest.importorskip("mteb")
    from mteb.models.abs_encoder import AbsEncoder

    from gecko_core.prompts import saved_prompts

    assert mteb.__version__
    kept, problems = AbsEncoder.validate_task_to_prompt_name(saved_prompts(), raise_for_invalid_keys=False)
    assert problems == ()
    assert kept == saved_prompts()


@pytest.mark.parametrize(("model_type", "oldest"), [("bert", "3.4.1"), ("t5", "3.4.1"), ("llama", "6.0.0")])
def test_readers_too_old_for_a_bidirectional_language_model_are_warned(model_type, oldest, backbone_folder, tmp_path):
    gecko = Gecko.from_backbone(backbone_folder(model_type), dims=(32, 8), device="cpu")
    config = load(gecko.save_pretrained(tmp_path / "m") / "config_sentence_transformers.json")
    assert config["__version__"]["sentence_transformers"] == oldest


def test_saving_over_a_model_replaces_it(own, tmp_path):
    own.save_pretrained(tmp_path / "m")
    with torch.no_grad():
        next(own.parameters()).add_(0.1)
    own.save_pretrained(tmp_path / "m")
    assert Gecko.from_pretrained(tmp_path / "m").weights_hash() == own.weights_hash()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("model_type", ["bert", "modernbert", "t5", "qwen3", "gemma3_text"])
def test_a_saved_model_that_is_loaded_and_saved_again_has_the_same_bytes(model_type, backbone_folder, tmp_path):
    """A run that was killed loads what another wrote from memory, and ends with the same files."""
    first = Gecko.from_backbone(backbone_folder(model_type), dims=(32, 8), device="cpu").save_pretrained(tmp_path / "a")
    second = Gecko.from_pretrained(first, device="cpu").save_pretrained(tmp_path / "b")
    for path in sorted(path for path in first.rglob("*") if path.is_file() and path.name not in _OF_THE_RUN):
        assert (second / path.relative_to(first)).read_bytes() == path.read_bytes(), path.name


def test_other_folders_and_files_are_left_alone(own, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="holds something other than a model"):
        own.save_pretrained(tmp_path / "notes")
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ModelError, match="is a file"):
        own.save_pretrained(tmp_path / "notes" / "thesis.txt")


def test_a_failure_leaves_the_earlier_model_whole(own, tmp_path, monkeypatch):
    own.save_pretrained(tmp_path / "m")
    before = own.weights_hash()
    monkeypatch.setattr("gecko_core.folder.saving.model_card", lambda *a: 1 / 0)
    with torch.no_grad():
        next(own.parameters()).add_(0.1)
    with pytest.raises(ZeroDivisionError):
        own.save_pretrained(tmp_path / "m")
    assert Gecko.from_pretrained(tmp_path / "m").weights_hash() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_plain_model_keeps_the_prompts_it_came_with(minilm, tmp_path):
    assert load(minilm.save_pretrained(tmp_path / "m") / "config_sentence_transformers.json")["prompts"] == {}
    assert Gecko.from_pretrained(tmp_path / "m").prompt_style == "plain"


def test_places_that_cannot_be(tiny, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name in ("x" * 300, "x" * 250, "x\0y", "a/x"):
        with pytest.raises(DataError, match="cannot be written"):
            tiny.save_pretrained(tmp_path / name)
    with pytest.raises(DataError, match="is a link"):
        tiny.save_pretrained(tmp_path / "a")


@pytest.mark.parametrize("where", ["model.safetensors", "2_Dense/model.safetensors"])
@pytest.mark.parametrize("damage", ["one bit", "another model's"])
def test_weights_that_are_not_what_was_saved_are_refused(backbone_folder, tmp_path, where, damage):
    """One flipped bit gave other vectors, or zeros, and so did weights of another model, without a word."""
    model = Gecko.from_backbone(backbone_folder("bert"), dims=(48, 12), device="cpu", dtype="float32")
    folder = model.save_pretrained(tmp_path / "m")
    if damage == "one bit":
        data = bytearray((folder / where).read_bytes())
        data[-10] ^= 0x40
        (folder / where).write_bytes(data)
    else:
        with torch.no_grad():
            for weights in model.parameters():
                weights += 0.01
        shutil.copy(model.save_pretrained(tmp_path / "other") / where, folder / where)
    with pytest.raises(ModelError, match=rf"{where}: is not what was saved with this model .* restore it"):
        Gecko.from_pretrained(folder, device="cpu")
    about = json.loads((folder / "gecko.json").read_text())
    del about["files"]  # as the message says, and as folders of earlier versions are
    (folder / "gecko.json").write_text(json.dumps(about))
    Gecko.from_pretrained(folder, device="cpu")


def test_a_model_without_its_modules_json_is_replaced(backbone_folder, tmp_path):
    model = Gecko.from_backbone(backbone_folder("bert"), dims=(32,), device="cpu", dtype="float32")
    folder = model.save_pretrained(tmp_path / "m")
    (folder / "modules.json").unlink()
    model.save_pretrained(folder)
    assert (folder / "modules.json").is_file()
