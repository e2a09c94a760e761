"""Work of every kind that writes: each goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.encode.rows import Row
from gecko_core.encode.stream import clear_finished, encode_stream
from gecko_core.io import remove_folder, remove_leftovers, whole_file, whole_folder, write_json, write_text
from tests.faults.harness import Scenario, contents


class StandIn:
    """Vectors that are a function of the text, without weights: what :func:`encode_stream` asks of a model."""

    dim, truncate_dim, calibration = 8, None, {}

    def identity(self) -> str:
        return "stand-in"

    def format_documents(self, texts: Sequence[str], titles: Any) -> list[str]:
        return [f"{title}: {text}" for text, title in zip(texts, titles, strict=True)]

    def format_queries(self, texts: Sequence[str], task: str = "") -> list[str]:
        return [f"{task}: {text}" for text in texts]

    def encode(self, texts: Sequence[str], **options: Any) -> np.ndarray:
        rows = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32) for text in texts]
        return (np.stack(rows) / 2**32).astype(np.float32)


def files(folder: Path) -> None:
    """A file, a folder that is replaced, one that is deleted."""
    remove_leftovers(folder)
    write_json(folder / "a.json", {"a": list(range(2000))})
    with whole_file(folder / "sub" / "b.npy") as file:
        np.save(file, np.arange(3000))
    for content in ("first", "second"):
        with whole_folder(folder / "c") as temporary:
            (temporary / "deep").mkdir()
            write_text(temporary / "deep" / "weights", content * 500)
    with whole_folder(folder / "d") as temporary:
        write_text(temporary / "x", "y")
    remove_folder(folder / "d")


def embed(folder: Path) -> None:
    """gecko-embed's work, without a model."""
    if (folder / "o.parquet").exists():  # the command says so, and ends
        clear_finished(folder / "o.parquet")
        return
    rows = [Row(f"text {number}", f"title {number}", f"id{number}") for number in range(25)]
    encode_stream(StandIn(), rows, folder / "o.parquet", kind="document", window=10)  # type: ignore[arg-type]


class StandInLLM:
    """Writes a query of words of the passage, and scores by shared words."""

    name, fingerprint, usage = "fake", "fake:1", None

    def __init__(self) -> None:
        from gecko_fret.llm.protocol import Usage

        self.usage = Usage()

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        return [" ".join(text.split()[:max_tokens]) for text in texts]

    def generate(self, requests: Any, sampling: Any) -> list[Any]:
        from gecko_fret.llm.protocol import Completion

        words = [[word for word in request.body.split() if word.startswith("word")] for request in requests]
        return [Completion(f" search result | Query: where is {' '.join(found[:4])}", -1.0, 8, True) for found in words]

    def score(self, requests: Any, labels: Sequence[str] = (), *, blocks: bool = False) -> list[Any]:
        from gecko_fret.llm.kept import scored_once
        from gecko_fret.llm.protocol import Scored

        half = len(requests) // 2
        batches = (requests[:half], requests[half:])  # kept as those of the transformers backend are
        values = [scored_once((batch, labels), partial(self._values, batch, labels)) for batch in batches]
        return [Scored(total, 4, tuple(of_labels)) for batch in values for total, of_labels in batch]

    def _values(self, requests: Any, labels: Sequence[str]) -> list[tuple[float, tuple[float, ...]]]:
        texts = [request.context + request.continuation + request.tail for request in requests]
        shares = [int(hashlib.sha256(text.encode()).hexdigest()[:6], 16) / 16**6 for text in texts]
        return [(-1.0 - share, tuple(1 / len(labels) for _ in labels)) for share in shares]

    def close(self) -> None:
        pass


class StandInEmbedder:
    """Bags of hashed words."""

    prompt_style, max_seq_length, dim = "plain", 256, 32

    def weights_hash(self) -> str:
        return "bag-of-words"

    def encode_queries(self, texts: Sequence[str], task: str = "", **options: Any) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                vectors[row, int(hashlib.md5(word.encode()).hexdigest(), 16) % self.dim] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def encode_documents(self, texts: Sequence[str], titles: Any = None, **options: Any) -> np.ndarray:
        return self.encode_queries(texts)


def passages() -> Any:
    """Sixteen short passages."""
    from gecko_fret.corpus.passages import Corpus, Passage

    words = [" ".join(f"word{(i * j) % 37}x{i}" for j in range(1, 12)) for i in range(16)]
    return Corpus([Passage(f"d{i}", f"Title {i}", f"{text}.") for i, text in enumerate(words)], name="small")


def fret(folder: Path) -> None:
    """A whole build of FRet data."""
    from gecko_fret.build.pipeline import build_fret
    from gecko_fret.config import parse_config
    from gecko_fret.models import Models

    settings = {
        "llm": {"model": "fake"},
        "generate": {"seeds": 8, "attempts": 1, "part_size": 4, "max_copied": 1.0},
        "retrieve": {"candidates": 4, "part_size": 4, "seed_top_k": None},
        "corpus": {"part_size": 8},
        "mine": {"fuse": "rrf"},
    }
    models = Models(llms={"fake": StandInLLM()}, embedder=StandInEmbedder())
    build_fret(parse_config(settings), folder / "out", corpus=passages(), models=models)


def fret_result(folder: Path) -> Any:
    """Parts to the byte, and what the manifest says but for times."""
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    kept = {key: manifest[key] for key in ("complete", "config", "counts", "parts", "rejects", "tokens")}
    return contents(folder, "*.parquet", "*.npy", "partial/*", ".*.tmp", ".*.old"), kept


class StandInEnricher(StandInLLM):
    """Writes the words of a passage in another order."""

    def generate(self, requests: Any, sampling: Any) -> list[Any]:
        from gecko_fret.llm.protocol import Completion

        words = [[word for word in request.body.split() if word.startswith("word")] for request in requests]
        return [Completion(" ".join(["In short:", *reversed(found)]), -1.0, 8, True) for found in words]


def enrich(folder: Path) -> None:
    """Texts rewritten by an LLM."""
    from gecko_fret.build.enrich import enriching_config
    from gecko_fret.build.pipeline import build_fret
    from gecko_fret.config import parse_config
    from gecko_fret.models import Models
    from gecko_fret.steps import ENRICH

    settings = {"llm": {"model": "fake"}, "corpus": {"part_size": 8}, "enrich": {"part_size": 4}}
    config, models = enriching_config(parse_config(settings)), Models(llms={"fake": StandInEnricher()})
    build_fret(config, folder / "out", corpus=passages(), models=models, until=ENRICH)


def taken(folder: Path) -> None:
    """What is made of a finished build: training files of other projects, and vectors of documents."""
    from gecko_fret.export import export_fret
    from gecko_fret.vectors import VectorsOptions, write_vectors

    build = folder.parent / "build"
    if not build.exists():
        fret(build)
    for name, layout in (("t.parquet", "sentence-transformers"), ("f.jsonl", "flagembedding"), ("t", "tevatron")):
        export_fret(build / "out", folder / name, layout, overwrite=True)
    options = VectorsOptions(weights="title=0.5,queries=1", queries="all", overwrite=True)
    write_vectors(build / "out", folder / "v.parquet", options, model=StandIn())


def cache(folder: Path) -> None:
    """gecko-eval's results, items and embeddings."""
    from gecko_eval.cache import EmbeddingCache
    from gecko_eval.results import claimed, save_items, save_results

    with claimed(folder / "out"):
        kept = EmbeddingCache(folder / "cache", "model", chunk_size=5)
        vectors = kept.embed([f"text {number}" for number in range(20)], StandIn().encode)
        kept.close()
        checksum = save_items(folder / "out", "task", {"8/test/default": vectors[:, 0].astype(np.float64)})
        task = {
            "type": "STS",
            "main_score": "x",
            "scores": {"8": {"main": 0.5, "splits": {}}},
            "items_sha256": checksum,
        }
        results = {"model": {"label": "m", "key": "k", "record": {}}, "tasks": {"task": task}, "dims": [8], "made": {}}
        save_results(folder / "out", results)


def cache_result(folder: Path) -> Any:
    """Results, items and vectors."""
    from gecko_eval.cache import EmbeddingCache
    from gecko_eval.results import load_items, load_results

    results = load_results(folder / "out")
    items = load_items(results, "task")
    kept = EmbeddingCache(folder / "cache", "model")
    vectors = kept.embed([f"text {number}" for number in range(20)], StandIn().encode)
    kept.close()
    return results["tasks"], items["8/test/default"].tobytes(), vectors.tobytes(), contents(folder / "out")


def train(folder: Path) -> None:
    """A stage of training on a tiny model: four steps, a checkpoint after every second."""
    from rich.console import Console

    from gecko_train.config import parse_recipe
    from gecko_train.run.journey import run_stage

    backbone = folder.parent / "backbone"
    rows = [{"query": f"w{i} w{i + 1}", "positive": f"w{i} w{i + 2}", "negative": f"w{i + 3}"} for i in range(12)]
    if not (folder / "rows.jsonl").exists():
        write_text(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe(
        {
            "name": "small",
            "output": str(folder / "out"),
            "student": {"model": str(backbone), "backbone": True, "dims": [16, 8], "max_seq_length": 16},
            "finetune": {
                "sets": [{"source": "triplets", "path": str(folder / "rows.jsonl"), "name": "rows"}],
                "trainer": {"batch_size": 4, "max_steps": 4, "checkpoint_every": 2, "precision": "fp32"},
            },
        }
    )
    run_stage(recipe, "finetune", Console(file=io.StringIO()))


def train_result(folder: Path) -> Any:
    """Weights to the byte, and every step once."""
    steps = [json.loads(line) for line in (folder / "out/finetune/metrics.jsonl").read_text().splitlines()]
    names = sorted(path.name for path in (folder / "out/finetune/checkpoints").iterdir())
    losses = [(line["step"], line["loss"]) for line in steps]
    return contents(folder / "out" / "model", "*.safetensors"), losses, names


def make_backbone(folder: Path) -> None:
    """A BERT of some thousand weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *(f"w{number}" for number in range(20))]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


FILES = Scenario("whole files and folders", files, contents)
EMBED = Scenario("gecko-embed", embed, contents, lambda folder: None)  # a finished file is the user's own
FRET = Scenario("gecko-fret build", fret, fret_result)
ENRICH = Scenario("gecko-fret enrich", enrich, fret_result)
TAKEN = Scenario("gecko-fret export and vectors", taken, contents)
EVAL = Scenario("gecko-eval results and cache", cache, cache_result)
TRAIN = Scenario("gecko-train finetune", train, train_result, lambda folder: train_result(folder)[0])
SCENARIOS = (FILES, EMBED, FRET, ENRICH, TAKEN, EVAL, TRAIN)
