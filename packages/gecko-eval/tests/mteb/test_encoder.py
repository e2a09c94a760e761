import numpy as np
import pytest

from gecko_eval.mteb.encoder import GeckoEmbedder, MtebEncoder, make_encoders
from gecko_eval.mteb.local import local_set


def evaluate(encoder, task):
    import mteb

    result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    return result.scores["test"][0]


class PlainEncoder:
    """The shortest encoder mteb takes: no search of its own, no cache, one dim."""

    def __init__(self, embedder, dim):
        self._inner = MtebEncoder(embedder, dim)
        self.mteb_model_meta = self._inner.mteb_model_meta
        self.similarity, self.similarity_pairwise = self._inner.similarity, self._inner.similarity_pairwise
        self._embedder, self._dim = embedder, dim

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **_):
        rows = [dict(zip(batch, row, strict=True)) for batch in inputs for row in zip(*batch.values(), strict=True)]
        side = getattr(prompt_type, "value", None)
        titles = [row.get("title", "") for row in rows] if side == "document" else None
        texts = [row["body"] if side == "document" else row["text"] for row in rows]
        vectors = self._embedder.embed(self._embedder.with_prompts(texts, titles, task_metadata, side))[:, : self._dim]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("style", ["gecko", "plain"])
@pytest.mark.parametrize("name", ["toy", "similar", "same", "topics", "groups"])
def test_scores_equal_those_of_mteb_by_itself(make_word_model, data_root, name, style):
    model = make_word_model()
    model.prompt_style = style
    embedder = GeckoEmbedder(model, "words")
    for dim, encoder in make_encoders(embedder, [64, 16]).items():
        ours = evaluate(encoder, local_set(data_root / name).load())
        alone = evaluate(PlainEncoder(embedder, dim), local_set(data_root / name).load())
        assert ours["main_score"] == pytest.approx(alone["main_score"], abs=1e-6)
        assert 0 < ours["main_score"] <= 1


def test_all_dims_come_from_one_encoding(embedder, word_model, data_root):
    for name in ("toy", "similar", "topics"):
        task = local_set(data_root / name).load()
        counts = []
        for encoder in make_encoders(embedder, [64, 32, 16]).values():
            before = word_model.texts_encoded
            evaluate(encoder, task)
            counts.append(word_model.texts_encoded - before)
        assert counts[0] > 0
        assert counts[1:] == [0, 0]


def test_prompts_of_each_side(make_word_model, data_root):
    model = make_word_model()
    model.prompt_style = "gecko"
    embedder = GeckoEmbedder(model, "words")
    metadata = local_set(data_root / "toy").load().metadata
    assert embedder.with_prompts(["x"], None, metadata, "query") == ["task: search result | query: x"]
    assert embedder.with_prompts(["x"], ["T"], metadata, "document") == ["title: T | text: x"]
    assert embedder.with_prompts(["x"], None, metadata, "document") == ["title: none | text: x"]
    metadata = local_set(data_root / "topics").load().metadata
    assert embedder.with_prompts(["x"], None, metadata, None) == ["task: classification | query: x"]


def test_names_follow_weights_prompts_and_dim(make_word_model):
    def identity(salt, style, dim):
        model = make_word_model(salt)
        model.prompt_style = style
        meta = MtebEncoder(GeckoEmbedder(model, "same label"), dim).mteb_model_meta
        return meta.name, meta.revision

    assert identity("a", "plain", 64) == identity("a", "plain", 64)
    seen = {
        identity(*case) for case in [("a", "plain", 64), ("b", "plain", 64), ("a", "gecko", 64), ("a", "plain", 16)]
    }
    assert len({revision for _, revision in seen}) == 4
    assert all(name.startswith("gecko-eval/same-label-") for name, _ in seen)


def test_a_second_checkpoint_never_gets_the_first_ones_score(make_word_model, data_root, tmp_path):
    import mteb

    cache = mteb.ResultCache(tmp_path / "cache")
    scores = []
    for salt in ("a", "b"):
        encoder = MtebEncoder(GeckoEmbedder(make_word_model(salt), "checkpoint"), 16)
        task = local_set(data_root / "similar").load()
        result = mteb.evaluate(encoder, task, cache=cache, co2_tracker=False, show_progress_bar=False)
        scores.append(result.task_results[0].get_score())
    assert scores[0] != scores[1]


def test_search_in_chunks_ranks_as_search_at_once(embedder, data_root):
    task = local_set(data_root / "toy").load()
    whole = evaluate(MtebEncoder(embedder, 64), task)
    chunked = evaluate(MtebEncoder(embedder, 64, chunk_size=7), task)
    assert chunked["ndcg_at_10"] == whole["ndcg_at_10"]
    assert chunked["recall_at_100"] == whole["recall_at_100"]


def test_given_candidates_are_reranked(embedder, data_root):
    task = local_set(data_root / "toy").load()
    split = task.dataset["default"]["test"]
    split["top_ranked"] = {q: [f"d{i}" for i in range(60)] for q in split["queries"]["id"]}
    reranked = evaluate(MtebEncoder(embedder, 64), task)
    assert (
        reranked["ndcg_at_10"] == evaluate(MtebEncoder(embedder, 64), local_set(data_root / "toy").load())["ndcg_at_10"]
    )
