import json
import shutil

import pytest

from gecko_core import Gecko
from gecko_core.errors import ModelError
from gecko_core.folder.layout import read_layout


@pytest.fixture
def folder(tiny, tmp_path):
    return tiny.save_pretrained(tmp_path / "model")


def edit(path, **changes):
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, **changes}))


def test_old_schema(minilm_folder):
    layout = read_layout(minilm_folder)
    assert (layout.transformer, layout.max_seq_length, layout.do_lower_case) == (minilm_folder, 256, False)
    assert (layout.dense, layout.prompts, layout.gecko) == ([], {}, None)


def test_new_schema_as_sentence_transformers_writes_it(minilm_folder, minilm, sentences, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    prompts = {"query": "query: ", "document": "passage: "}
    theirs = sentence_transformers.SentenceTransformer(str(minilm_folder), device="cpu", prompts=prompts)
    theirs.save(str(tmp_path / "st"))
    if int(sentence_transformers.__version__.split(".")[0]) >= 6:  # before, it writes the schema that came before
        assert "pooling_mode_mean_tokens" not in (tmp_path / "st" / "1_Pooling" / "config.json").read_text()
    ours = Gecko.from_pretrained(tmp_path / "st", device="cpu", dtype="float32")
    assert ours.max_seq_length == 256
    assert ours.weights_hash() == minilm.weights_hash()
    assert (ours.encode(sentences) * theirs.encode(sentences)).sum(axis=1).min() > 0.9999
    # A third-party model keeps its own query and document prompts.
    assert ours.prompt_style == "plain"
    assert ours.format_queries(["q"]) == ["query: q"]
    assert ours.format_documents(["d"], ["t"]) == ["passage: t d"]


def test_backbone_in_a_subfolder(folder, tiny, sentences):
    """sentence-transformers before 2.0 kept the backbone in 0_Transformer."""
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.move(folder / name, folder / "0_Transformer" / name)
    shutil.move(folder / "sentence_bert_config.json", folder / "0_Transformer" / "sentence_bert_config.json")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    ours = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    assert abs(ours.encode(sentences) - tiny.encode(sentences)).max() < 1e-6


def test_do_lower_case_is_honoured(folder):
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    ours = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    assert ours.do_lower_case
    assert abs(ours.encode(["A GECKO"]) - ours.encode(["a gecko"])).max() == 0
    texts = ["A GECKO [SEP] ON A WALL [MASK]", "[sep] ΟΔΟΣ", "[CLS][CLS]", "İSTANBUL"]
    sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6.0")  # others lower-case all
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(
        texts, normalize_embeddings=True
    )
    assert abs(ours.encode(texts) - theirs).max() < 1e-5


@pytest.mark.parametrize("family", ["roberta", "distilbert", "xlm-roberta"])
def test_the_length_limit_under_the_names_that_it_has_had(folder, family):
    (folder / "sentence_bert_config.json").rename(folder / f"sentence_{family}_config.json")
    edit(folder / f"sentence_{family}_config.json", max_seq_length=7)
    assert Gecko.from_pretrained(folder, device="cpu").max_seq_length == 7


@pytest.mark.parametrize("mode", ["cls_token", "lasttoken", "max_tokens", "weightedmean_tokens"])
def test_other_pooling_old_schema(folder, mode):
    edit(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, **{f"pooling_mode_{mode}": True})
    with pytest.raises(ModelError, match=f"pooling by {mode} is not supported; only the plain mean is"):
        read_layout(folder)


@pytest.mark.parametrize(
    ("mode", "named"), [("cls", "cls"), ("lasttoken", "lasttoken"), (["cls", "mean"], r"cls\+mean")]
)
def test_other_pooling_new_schema(folder, mode, named):
    config = {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"pooling by {named} is not supported"):
        read_layout(folder)


def test_two_modes_at_once_and_none(folder):
    edit(folder / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    with pytest.raises(ModelError, match=r"cls_token\+mean"):
        read_layout(folder)
    edit(folder / "1_Pooling" / "config.json", pooling_mode_cls_token=False, pooling_mode_mean_tokens=False)
    with pytest.raises(ModelError, match="pooling by nothing"):
        read_layout(folder)


def test_prompts_left_out_of_pooling(folder):
    edit(folder / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(ModelError, match="include_prompt is false"):
        read_layout(folder)


def test_other_modules(folder):
    modules = json.loads((folder / "modules.json").read_text())
    extra = {"idx": 3, "name": "3", "path": "3_LSTM", "type": "sentence_transformers.models.LSTM"}
    (folder / "modules.json").write_text(json.dumps([*modules, extra]))
    with pytest.raises(ModelError, match="a LSTM module is not supported"):
        read_layout(folder)
    (folder / "modules.json").write_text(json.dumps(modules[1:]))
    with pytest.raises(ModelError, match="must begin with Transformer, Pooling; found Pooling, Normalize"):
        read_layout(folder)
    (folder / "modules.json").write_text("{}")
    with pytest.raises(ModelError, match="must hold a JSON list, holds a dict"):
        read_layout(folder)
    (folder / "modules.json").write_text("[")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        read_layout(folder)


def test_a_bare_backbone_names_the_cure(backbone_folder):
    with pytest.raises(ModelError, match="from_backbone"):
        Gecko.from_pretrained(backbone_folder("bert"))


@pytest.mark.parametrize(
    "name", ["gecko.json", "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"]
)
def test_a_link_to_nothing_is_not_taken_for_an_absent_file(folder, name, tmp_path):
    """So a file looks whose blob has gone from a cache; without gecko.json the model would be another one."""
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "gone")
    with pytest.raises(ModelError, match=rf"{name}: is a link to nothing; fetch the model again"):
        Gecko.from_pretrained(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ModelError, match=rf"{name}: is no file; fetch the model again"):
        Gecko.from_pretrained(folder)


def test_damaged_gecko_json(folder):
    edit(folder / "gecko.json", prompt_style="fancy")
    with pytest.raises(ModelError, match=r"gecko\.json: prompt_style: input should be"):
        Gecko.from_pretrained(folder)


@pytest.mark.parametrize("measure", ["dot", "euclidean", "manhattan"])
def test_a_model_that_is_compared_otherwise_is_refused_but_can_be_trained_from(folder, measure):
    edit(folder / "config_sentence_transformers.json", similarity_fn_name=measure)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([m for m in modules if not m["type"].endswith("Normalize")]))
    with pytest.raises(ModelError, match=f"compares vectors by '{measure}', a Gecko by cosine; .* st:FOLDER"):
        Gecko.from_pretrained(folder)
    assert Gecko.from_backbone(folder, dims=(16,), device="cpu").dim == 16


def test_of_unit_vectors_the_dot_product_is_the_cosine(folder):
    edit(folder / "config_sentence_transformers.json", similarity_fn_name="dot")
    assert "Normalize" in (folder / "modules.json").read_text()
    assert read_layout(folder).compares == "cosine"
    edit(folder / "config_sentence_transformers.json", similarity_fn_name="manhattan")
    assert read_layout(folder).compares == "manhattan"
    edit(folder / "config_sentence_transformers.json", similarity_fn_name=None)
    assert read_layout(folder).compares == "cosine"


@pytest.fixture
def published(backbone_folder, tmp_path):
    """Folders as sentence-transformers writes them: published(model_type, **prompts and such) -> the folder."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.models import Pooling, Transformer

    def published(model_type, length=16, **options):
        source = shutil.copytree(backbone_folder(model_type), tmp_path / f"source-{model_type}")
        modules = [Transformer(str(source), max_seq_length=length), Pooling(32, "mean")]
        model = sentence_transformers.SentenceTransformer(modules=modules, device="cpu", **options)
        model.save(str(tmp_path / "published"))
        return tmp_path / "published"

    return published


def theirs(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma3_text"])
def test_a_published_model_with_a_causal_mask_is_refused(published, model_type):
    """sentence-transformers runs it causally; its vectors would be others here."""
    folder = published(model_type)
    with pytest.raises(ModelError, match=r"a language model's causal mask, which a Gecko lifts; .* st:FOLDER"):
        Gecko.from_pretrained(folder, device="cpu")
    assert Gecko.from_backbone(folder, dims=(32,), device="cpu").dim == 32


def test_the_side_that_is_cut_off(published, sentences):
    folder = published("bert")
    edit(folder / "tokenizer_config.json", truncation_side="left")
    ours = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    long = [text for text in sentences if len(text.split()) > 20]
    assert (ours.encode(long) * theirs(folder).encode(long, normalize_embeddings=True)).sum(axis=1).min() > 0.9999
    edit(folder / "tokenizer_config.json", truncation_side="right")
    right = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    assert (right.encode(long) * ours.encode(long)).sum(axis=1).min() < 0.99
    assert right.identity() != ours.identity()
    # Fresh embedders keep the beginning of a text, whatever the language model's tokenizer does.
    edit(folder / "tokenizer_config.json", truncation_side="left")
    assert Gecko.from_backbone(folder, dims=(32,), device="cpu").tokenizer.truncation_side == "right"


def test_where_no_length_is_told_it_is_that_of_the_positions(published):
    folder = published("modernbert", length=None)
    edit(folder / "config.json", max_position_embeddings=1024)
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    if (folder / "sentence_bert_config.json").exists():
        edit(folder / "sentence_bert_config.json", max_seq_length=None)
    assert Gecko.from_pretrained(folder, device="cpu").max_seq_length == theirs(folder).max_seq_length == 1024


@pytest.mark.parametrize(
    "prompts",
    [
        {"prompts": {"query": "title: ", "document": "text: "}},
        {"prompts": {"query": "title: ", "passage": "text: ", "corpus": "search: "}},
        {"prompts": {"query": "title: ", "a": "text: "}, "default_prompt_name": "a"},
    ],
)
def test_prompts_are_found_as_sentence_transformers_finds_them(published, prompts, sentences):
    folder = published("bert", **prompts)
    ours = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    model = theirs(folder)
    if not hasattr(model, "encode_query"):
        pytest.skip("needs sentence-transformers 5")
    for mine, other in (
        (ours.encode_queries(sentences), model.encode_query(sentences, normalize_embeddings=True)),
        (ours.encode_documents(sentences), model.encode_document(sentences, normalize_embeddings=True)),
    ):
        assert (mine * other).sum(axis=1).min() > 0.9999


def test_a_width_that_the_folder_names_is_the_default(folder, sentences):
    edit(folder / "config_sentence_transformers.json", truncate_dim=8)
    assert Gecko.from_pretrained(folder, device="cpu").encode(sentences[:2]).shape == (2, 8)
    assert Gecko.from_pretrained(folder, device="cpu", truncate_dim=32).encode(sentences[:2]).shape == (2, 32)


@pytest.mark.parametrize("name", ["config_args", "config_kwargs", "model_kwargs", "tokenizer_args"])
def test_arguments_that_would_change_the_vectors_are_refused(folder, name):
    edit(folder / "sentence_bert_config.json", **{name: {"num_hidden_layers": 1}})
    with pytest.raises(ModelError, match=f"sentence_bert_config.json: .*{name}: 'num_hidden_layers' is not supported"):
        read_layout(folder)
    edit(folder / "sentence_bert_config.json", **{name: {"torch_dtype": "float16", "trust_remote_code": False}})
    read_layout(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"modality_config": {"text": {"method": "forward", "method_output_name": ["hidden_states", 1]}}},
        {"processing_kwargs": {"text": {"add_special_tokens": False}}},
        {"query_length": 6},
        {"document_length": 9},
        {"transformer_task": "fill-mask"},
        {"what_comes_next": True},
    ],
)
def test_settings_that_are_not_computed_here_are_refused(folder, changes):
    """As sentence-transformers 5.4 to 6.2 writes them; whatever later releases add may change vectors, too."""
    usual = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "processing_kwargs": {},
        "unpad_inputs": None,
        "query_length": None,
    }
    edit(folder / "sentence_bert_config.json", **usual)
    read_layout(folder)
    edit(folder / "sentence_bert_config.json", **changes)
    [name] = changes
    with pytest.raises(ModelError, match=rf"sentence_bert_config.json: {name}: .* load the model with sentence-transf"):
        read_layout(folder)


def test_classes_of_the_folders_own_code_are_refused(folder):
    """One that is called as one of sentence-transformers is may do anything else."""
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "mine.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=r"modules.json: 'mine.Pooling' is no class of sentence-transformers"):
        read_layout(folder)


def test_a_model_that_cuts_off_on_the_left_does_so_when_it_is_saved(folder, tmp_path, sentences):
    edit(folder / "tokenizer_config.json", truncation_side="left")
    model = Gecko.from_pretrained(folder, device="cpu")
    model.save_pretrained(tmp_path / "saved")
    saved = Gecko.from_pretrained(tmp_path / "saved", device="cpu")
    assert saved.tokenizer.truncation_side == "left"
    assert saved.identity() == model.identity()
    backbone = Gecko.from_backbone(folder, dims=(32,), device="cpu")
    backbone.save_pretrained(tmp_path / "backbone")
    assert json.loads((tmp_path / "backbone" / "tokenizer_config.json").read_text())["truncation_side"] == "right"
