import subprocess
import sys

import numpy as np
import pytest

from gecko_core.errors import ConfigError
from gecko_eval.data.beir import load_beir
from gecko_eval.data.sets import RetrievalSet
from gecko_eval.in_training.retrieval import evaluate_retrieval
from gecko_eval.metrics import METRICS
from gecko_eval.mteb.encoder import GeckoEmbedder


def test_every_dim_comes_from_one_encoding(word_model, beir_folder):
    data = load_beir(beir_folder)
    scores = evaluate_retrieval(word_model, data, [64, 16, 16])
    assert list(scores) == [64, 16]
    assert word_model.texts_encoded == len(data.queries) + len(data.docs)
    for dim in scores:
        assert scores[dim].ndcg_at_10 == pytest.approx(scores[dim].per_query["ndcg_at_10"].mean())
        assert set(scores[dim].per_query) == set(METRICS)
    assert scores[64].recall_at_10 > 0.5


def test_a_model_that_gives_fewer_components_is_scored_at_the_dims_asked_for(make_word_model, beir_folder):
    """A width in the model's folder (`truncate_dim`) made all wider dims that one."""
    data, whole, short = load_beir(beir_folder), make_word_model(), make_word_model()
    short.truncate_dim = 16
    for dim, scores in evaluate_retrieval(short, data, [64, 16]).items():
        assert scores.ndcg_at_10 == evaluate_retrieval(whole, data, [dim])[dim].ndcg_at_10
    assert GeckoEmbedder(short, "short").dims == (16,)
    assert GeckoEmbedder(short, "short").embed(["a b"]).shape == (1, 64)


def test_small_dims_are_normalised_prefixes(word_model, beir_folder):
    data = load_beir(beir_folder)
    scores = evaluate_retrieval(word_model, data, [16])[16]
    queries = word_model.encode_queries(list(data.queries))[:, :16]
    docs = word_model.encode_documents(list(data.docs), data.titles)[:, :16]
    docs /= np.linalg.norm(docs, axis=1, keepdims=True)
    best = np.argmax(queries @ docs.T, axis=1)
    hits = [data.qrels[q].get(data.doc_ids[i], 0) > 0 for q, i in zip(data.query_ids, best, strict=True)]
    assert scores.per_query["accuracy_at_1"].tolist() == hits


def test_chunks_bound_the_memory_and_change_nothing(make_word_model, beir_folder):
    data = load_beir(beir_folder)
    whole, chunked, seen = make_word_model(), make_word_model(), []
    a = evaluate_retrieval(whole, data)
    b = evaluate_retrieval(chunked, data, progress=lambda done, total: seen.append((done, total)), chunk_size=13)
    assert chunked.largest_call == 13
    assert [done for done, _ in seen] == [12, 25, 38, 51, 64, 72]
    for dim in a:
        for metric in METRICS:
            np.testing.assert_array_equal(a[dim].per_query[metric], b[dim].per_query[metric])


def test_prompts_follow_the_set(word_model, beir_folder):
    word_model.prompt_style = "gecko"
    calls = []
    word_model.encode = lambda texts, **_: calls.append(list(texts)) or np.eye(64, dtype=np.float32)[: len(texts)]
    data = RetrievalSet("s", ["q"], ["x"], ["a", "b"], ["y", "z"], ["T", ""], {"q": {"a": 1}}, task="fact checking")
    evaluate_retrieval(word_model, data)
    assert calls == [["task: fact checking | query: x"], ["title: T | text: y", "title: none | text: z"]]
    calls.clear()
    symmetric = RetrievalSet("s", ["q"], ["x"], ["a"], ["y"], None, {"q": {"a": 1}}, symmetric=True)
    evaluate_retrieval(word_model, symmetric)
    assert calls == [["task: search result | query: x"], ["task: search result | query: y"]]


def test_identical_ids_can_be_left_out(word_model):
    fields = {
        "query_ids": ["a"],
        "queries": ["x y"],
        "doc_ids": ["a", "b"],
        "docs": ["x y", "x z"],
        "titles": None,
        "qrels": {"a": {"b": 1}},
    }
    kept = evaluate_retrieval(word_model, RetrievalSet("s", **fields), [64])[64]
    dropped = evaluate_retrieval(word_model, RetrievalSet("s", **fields, ignore_identical_ids=True), [64])[64]
    assert (kept.mrr_at_10, dropped.mrr_at_10) == (0.5, 1.0)


@pytest.mark.parametrize("dims", [[65], [0], [], [True], [8.0], ["8"], 8, np.array([8, 65]), np.array([])])
def test_dims_the_model_lacks_are_refused(word_model, beir_folder, dims):
    with pytest.raises(ConfigError, match="the model gives 64 dims"):
        evaluate_retrieval(word_model, load_beir(beir_folder), dims)


@pytest.mark.parametrize("size", [0, -1, 1.5, None, "3", True])
def test_chunks_hold_a_document_at_least(word_model, beir_folder, size):
    """With -1 no document was looked at, and every score was 0."""
    with pytest.raises(ConfigError, match="chunk_size must be a whole number of 1 or more"):
        evaluate_retrieval(word_model, load_beir(beir_folder), (64,), chunk_size=size)


def test_the_training_loop_never_pays_for_mteb():
    rooms = ("gecko_eval", "gecko_eval.data", "gecko_eval.in_training", "gecko_eval.report")
    imports = "; ".join(f"from {room} import *" for room in rooms)
    code = f"import sys; {imports}; print('mteb' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
