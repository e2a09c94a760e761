"""The same batches through our trainer and through sentence-transformers', with the same loss, optimizer and schedule.

Loss of both: the Gecko loss without hard negatives (same-tower negatives, every Matryoshka prefix), which in
sentence-transformers is MatryoshkaLoss over MultipleNegativesRankingLoss with the directions query_to_doc and
query_to_query. AdamW, constant learning rate, clipping at 1, no dropout: it would differ between the two.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

#: Pairs of the Python documentation: a title with its text, a title with the first sentence of it.
SOURCES = ("python-docs", "first-sentences")
LEARNING_RATE, TEMPERATURE, TASK = 2e-5, 0.02, "search result"


def pairs(source: str, seed: int = 0) -> list[Any]:
    """Rows of a source: ``SOURCES``, or a set below GECKO_DATA_DIR whose corpus has titles, such as SciFact."""
    import numpy as np

    from gecko_core.io import find_data, read_table
    from gecko_fret.corpus import load_corpus, split_sentences
    from gecko_train.data.rows import Document, TrainingRow
    from gecko_train.data.sources.title_body import title_body_rows

    if source in SOURCES:
        rows = list(title_body_rows(load_corpus(None)))
        if source == "first-sentences":
            first = [next(iter(split_sentences(row.positive.text))) for row in rows]
            rows = [replace(row, positive=Document(text)) for row, text in zip(rows, first, strict=True)]
    else:
        passages = [record.fields for record in read_table(find_data(source) / "corpus.jsonl.gz")]
        rows = [
            TrainingRow(TASK, passage["title"], Document(passage["text"]))
            for passage in passages
            if passage["title"] and passage["text"]
        ]
    return [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))]


def plan(rows: list[Any], batch_size: int, steps: int) -> tuple[Any, list[list[Any]]]:
    """Our mixture over the rows, and the rows of its first batches."""
    from gecko_train.data.mixture import Mixture
    from gecko_train.data.rows import RowSet

    mixture = Mixture([RowSet.from_rows("pairs", rows)], batch_size=batch_size)
    return mixture, [mixture.sets[0].rows(mixture.at(step).indices) for step in range(steps)]


def without_dropout(model: Any) -> None:
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def ours(
    model: str, dims: tuple[int, ...], mixture: Any, steps: int, precision: str, length: int, out: Path, *,
    device: str = "cpu", **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train with gecko-train; seconds and losses of every step, share of time waiting for data."""
    from rich.console import Console

    from gecko_core import Gecko
    from gecko_train.config import ObjectiveConfig, TrainerConfig
    from gecko_train.loop.trainer import Trainer
    from gecko_train.loop.watch import read_metrics
    from gecko_train.loss.objective import Objective

    student = Gecko.from_pretrained(model, device=device)
    student.prompt_style = "gecko"
    student.max_seq_length = length
    without_dropout(student)
    config = TrainerConfig(
        batch_size=mixture.batch_size, max_steps=steps, precision=precision, learning_rate=LEARNING_RATE, warmup=0.0,
        schedule="constant", checkpoint_every=0, **settings,
    )  # fmt: skip
    objective = Objective(ObjectiveConfig(temperature=TEMPERATURE, hard_negatives=0), dims)
    summary = Trainer(student, mixture, [objective], config, out, console=Console(file=io.StringIO())).train()
    lines = read_metrics(out / "metrics.jsonl")
    student.eval()
    return {
        "model": student, "seconds": [line["seconds"] for line in lines], "losses": [line["loss"] for line in lines],
        "tokens": [line["tokens"] for line in lines], "waiting": summary.waiting,
    }  # fmt: skip


def theirs(
    model: str, dims: tuple[int, ...], batches: list[list[Any]], precision: str, length: int, out: Path,
    device: str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """Train with sentence-transformers' trainer on the same batches in the same order."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MatryoshkaLoss, MultipleNegativesRankingLoss
    from torch.utils.data import BatchSampler, SequentialSampler
    from transformers import TrainerCallback

    from gecko_core import format_document, format_query

    rows = [row for batch in batches for row in batch]
    data = Dataset.from_dict(
        {
            "anchor": [format_query(row.query, row.task) for row in rows],
            "positive": [format_document(row.positive.text, row.positive.title) for row in rows],
        }
    )
    student = SentenceTransformer(model, device=device)
    student.max_seq_length = length
    without_dropout(student)
    seconds: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        begun = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begun = self.begun or time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = time.perf_counter()
            seconds.append(now - self.begun)
            self.begun = now

        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            if "loss" in (logs or {}):
                losses.append(float(logs["loss"]))

    loss = MatryoshkaLoss(
        student,
        MultipleNegativesRankingLoss(student, scale=1 / TEMPERATURE, directions=("query_to_doc", "query_to_query")),
        matryoshka_dims=list(dims),
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(out), per_device_train_batch_size=len(batches[0]), num_train_epochs=1,
        use_cpu=device == "cpu",
        bf16=precision == "bf16", learning_rate=LEARNING_RATE, lr_scheduler_type="constant", weight_decay=0.01,
        max_grad_norm=1.0, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        dataloader_num_workers=0,
        batch_sampler=lambda dataset, batch_size, drop_last, **_: BatchSampler(
            SequentialSampler(dataset), batch_size, drop_last
        ),
    )  # fmt: skip
    torch.manual_seed(0)
    SentenceTransformerTrainer(
        model=student, args=arguments, train_dataset=data, loss=loss, callbacks=[Clock()]
    ).train()
    return {"model": student, "seconds": seconds, "losses": losses}


def decoder(layers: int, folder: Path) -> str:
    """SmolLM2-135M's first layers as a bidirectional embedder in a folder that both libraries read."""
    if not (folder / "config.json").exists():
        from gecko_core import Gecko

        model = Gecko.from_backbone("smollm2-135m-instruct", dims=(576, 256), device="cpu", dtype="float32")
        model.backbone.layers = model.backbone.layers[:layers]
        model.backbone.config.num_hidden_layers = layers
        if getattr(model.backbone.config, "layer_types", None):
            model.backbone.config.layer_types = model.backbone.config.layer_types[:layers]
        model.save_pretrained(folder)
    return str(folder)


def machine(device: str = "cpu") -> str:
    """The device with its threads or the GPU's name, versions and date, for under a table."""
    import platform
    from datetime import date
    from importlib.metadata import version

    import torch

    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    packages = ("torch", "transformers", "sentence-transformers", "gecko-train")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    where = f"{cpu}, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{where}; {versions}; {date.today().isoformat()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def dump(values: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in values.items() if key != "model"})
