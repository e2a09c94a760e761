"""The training loop: planned batches in, a trained model and checkpoints out. Runs under torchrun as it is.

Each step is a function of (recipe, seed, step): the rows come from the plan, dropout from a generator seeded by the
step. So a killed run that starts again from its last checkpoint ends, on a CPU, with the same bits.
"""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gecko_core import Gecko
from gecko_core.errors import ConfigError, DataError
from gecko_train import checkpoint as checkpoints
from gecko_train.config import TrainerConfig
from gecko_train.distributed import gather_rows, slice_sizes
from gecko_train.grad_cache import backward_through_batch, length_sorted
from gecko_train.mixture import Mixture, PlannedBatch
from gecko_train.objective import BatchTexts, Objective, batch_texts
from gecko_train.rows import RowSet, TrainingRow
from gecko_train.watch import Watch, read_metrics


@dataclass(frozen=True)
class TrainingSummary:
    """What a stage of training did."""

    steps: int
    rows: int
    tokens: int  # without padding, each distinct text of a batch once
    seconds: float
    waiting: float  # share of the time spent waiting for data
    first_loss: float  # mean over the first and the last tenth of the steps
    last_loss: float


@dataclass(frozen=True)
class _Prepared:
    batch: PlannedBatch
    rows: list[TrainingRow]  # this rank's
    texts: BatchTexts
    tokens: list[list[int]]


class Trainer:
    """Trains ``model`` in place on the planned batches of ``mixture``.

    Args:
        objectives: one per set of the mixture, in its order.
        folder: ``checkpoints/``, ``metrics.jsonl`` and ``curves.png`` are kept here.
        identity: what must be equal for a checkpoint to be continued, besides the data plan (the resolved stage).
        on_checkpoint: called with (step, model) before a checkpoint; a returned score decides which one is best.
    """

    def __init__(
        self,
        model: Gecko,
        mixture: Mixture,
        objectives: Sequence[Objective],
        config: TrainerConfig,
        folder: Path,
        *,
        seed: int = 0,
        title: str = "training",
        identity: str = "",
        on_checkpoint: Callable[[int, Gecko], float | None] | None = None,
        accelerator: Any = None,
        console: Any = None,
    ):
        from accelerate import Accelerator

        self.model = model
        self.mixture = mixture
        self.objectives = list(objectives)
        self.config = config
        self.folder = Path(folder)
        self.seed = seed
        self.title = title
        self.identity = {"plan": mixture.fingerprint, "stage": identity}
        self.on_checkpoint = on_checkpoint
        self.console = console
        check_trackers(config.trackers)
        # Autocast is ours (below): accelerate would patch the model's forward, which the saved model must not keep.
        self.accelerator = accelerator or Accelerator(
            mixed_precision="no", cpu=model.device.type == "cpu", log_with=config.trackers or None, project_dir=folder
        )
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        smallest = min(min(len(one), mixture.batch_size) for one in mixture.sets)
        if smallest < self.world_size:
            raise ConfigError(f"a batch of {smallest} rows cannot be cut for {self.world_size} ranks; use fewer ranks")
        self.total_steps = config.max_steps or max(1, round(config.epochs * mixture.steps_per_epoch))
        self.autocast = autocast_for(model.device, config.precision)

    def train(self) -> TrainingSummary:
        """Train to the end, from the last checkpoint if there is one.

        Raises:
            ConfigError: the checkpoint is of another run or another model.
            DataError: the loss or the gradient is not finite (the batch is saved), or the disk is full.
        """
        wrapped, optimizer = self._prepare()
        done = self._resume(optimizer)
        history: list[dict[str, Any]] = []
        # The watch of other ranks would write the same files.
        watch = self._watch(done) if self._main else None
        with ThreadPoolExecutor(1) as pool, watch or nullcontext():
            coming: Future[_Prepared] | None = None
            for step in range(done, self.total_steps):
                begun = time.perf_counter()
                prepared = coming.result() if coming else self._fetch(step)
                waited = time.perf_counter() - begun
                saves = self._saves_after(step + 1)
                # The tokenizer is not for two threads at once, and an evaluation needs it as well.
                ahead = step + 1 < self.total_steps and not (saves and self.on_checkpoint)
                coming = pool.submit(self._fetch, step + 1) if ahead else None
                metrics = self._step(step, prepared, wrapped, optimizer)
                metrics["seconds"] = time.perf_counter() - begun
                metrics["waited"] = waited
                metrics["tokens_per_second"] = metrics["tokens"] * self.world_size / metrics["seconds"]
                history.append(metrics)
                if watch:
                    watch.step(step + 1, metrics)
                if saves:
                    self._save(step + 1, optimizer)
        lines = read_metrics(self.folder / "metrics.jsonl") if self._main else history  # with the steps before a resume
        return _summarise(lines, self.total_steps)

    # ---- one step ----

    def _step(
        self, step: int, prepared: _Prepared, wrapped: nn.Module, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        objective = self.objectives[prepared.batch.set_index]
        groups = length_sorted([len(ids) for ids in prepared.tokens], self.config.micro_batch_tokens)
        back = torch.empty(len(prepared.tokens), dtype=torch.long)
        back[torch.cat([torch.from_numpy(group) for group in groups])] = torch.arange(len(prepared.tokens))
        back = back.to(self.model.device)
        watched: dict[str, float] = {}

        def embed(group: Any) -> Tensor:
            with self.autocast():
                return wrapped(**self.model.collate([prepared.tokens[place] for place in group])).float()

        def loss_of(sorted_embeddings: Tensor) -> Tensor:
            loss, numbers = self._global_loss(sorted_embeddings[back], prepared, objective)
            watched.update(numbers)
            return loss * self.world_size

        rate = self.config.learning_rate * learning_rate_factor(step, self.total_steps, self.config)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        self.model.train()
        # A generator per (seed, step, rank): dropout differs between ranks and repeats after a resume.
        seed = (self.seed * 7_919 + step) * 4_099 + self.rank
        loss = backward_through_batch(
            groups, embed, loss_of, seed=seed, cache=self.config.grad_cache,
            no_sync=lambda: self.accelerator.no_sync(wrapped),
        )  # fmt: skip
        value = float(loss) / self.world_size
        norm = float(self.accelerator.clip_grad_norm_(wrapped.parameters(), self.config.clip))
        if not (math.isfinite(value) and math.isfinite(norm)):
            self._stop_at(step, prepared, value, norm)
        optimizer.step()
        return {
            "set": self.mixture.sets[prepared.batch.set_index].name,
            "loss": value,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": sum(len(ids) for ids in prepared.tokens),
            "rows": len(prepared.batch.indices),
            **watched,
        }

    def _global_loss(
        self, embeddings: Tensor, prepared: _Prepared, objective: Objective
    ) -> tuple[Tensor, dict[str, float]]:
        texts, sizes = prepared.texts, slice_sizes(len(prepared.batch.indices), self.world_size)
        device = embeddings.device

        def everyone(own: Tensor) -> Tensor:
            return gather_rows(own.to(device), sizes)

        return objective(
            everyone(embeddings[texts.queries.to(device)]),
            everyone(embeddings[texts.documents.to(device)]),
            everyone(texts.query_ids),
            everyone(texts.document_ids),
            everyone(texts.scores),
        )

    def _fetch(self, step: int) -> _Prepared:
        batch = self.mixture.at(step)
        one = self.mixture.sets[batch.set_index]
        assert isinstance(one, RowSet)
        rows = one.rows(batch.slice(self.rank, self.world_size))
        texts = batch_texts(rows, self.model, self.objectives[batch.set_index].documents)
        tokens = self.model.tokenize(texts.texts, max_length=self.config.max_seq_length)
        return _Prepared(batch, rows, texts, tokens)

    def _stop_at(self, step: int, prepared: _Prepared, loss: float, norm: float) -> None:
        path = self.folder / f"not-finite-step-{step + 1}-rank-{self.rank}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(row) for row in prepared.rows], ensure_ascii=False, indent=1))
        raise DataError(
            f"step {step + 1}: the loss ({loss}) or the gradient norm ({norm}) is not finite; its rows are in {path}; "
            "lower learning_rate or use precision: fp32"
        )

    # ---- setting up, checkpoints ----

    def _watch(self, done: int) -> Watch:
        trackers = None
        if self.config.trackers:
            self.accelerator.init_trackers("gecko-train", config={"title": self.title, "seed": self.seed})
            trackers = self.accelerator
        return Watch(self.folder, self.title, self.total_steps, done=done, console=self.console, trackers=trackers)

    @property
    def _main(self) -> bool:
        return self.rank == 0

    def _prepare(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        pooler = getattr(self.model.backbone, "pooler", None)
        if pooler is not None:
            pooler.requires_grad_(False)  # BERT's; mean pooling never reads it, so it would never get a gradient
        if self.config.gradient_checkpointing:
            self.model.backbone.gradient_checkpointing_enable()
        if self.config.compile:
            self.model.backbone.compile(dynamic=True)
        optimizer = torch.optim.AdamW(
            _parameter_groups(self.model, self.config.weight_decay), lr=self.config.learning_rate
        )
        wrapped, optimizer = self.accelerator.prepare(self.model, optimizer)
        return wrapped, optimizer

    def _resume(self, optimizer: torch.optim.Optimizer) -> int:
        found = checkpoints.latest(self.folder / "checkpoints")
        if found is None:
            return 0
        saved = {key: found.state.get(key) for key in self.identity}
        if saved != self.identity:
            what = "data plan" if saved["plan"] != self.identity["plan"] else "settings"
            raise ConfigError(
                f"{found.path}: a checkpoint with another {what}; choose another output folder with --out"
            )
        checkpoints.load(found, self.model, optimizer)
        return found.step

    def _saves_after(self, done: int) -> bool:
        every = self.config.checkpoint_every
        return done == self.total_steps or bool(every and done % every == 0)

    def _save(self, done: int, optimizer: torch.optim.Optimizer) -> None:
        folder = self.folder / "checkpoints"
        best = None
        state: dict[str, Any] = dict(self.identity)
        if self.on_checkpoint is not None:
            score = self.on_checkpoint(done, self.model)
            scores = {one.step: one.state.get("score") for one in checkpoints.checkpoints(folder)} | {done: score}
            state["score"] = score
            known = {step: value for step, value in scores.items() if value is not None}
            best = max(known, key=known.__getitem__) if known else None
        if self._main:
            checkpoints.save(folder, done, self.model, optimizer, state, keep=self.config.keep_checkpoints, best=best)
        self.accelerator.wait_for_everyone()


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError for a tracker that is not installed: accelerate would only warn and track nothing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"trackers: {name} is not installed; pip install 'gecko-train[{name}]', or leave it out")


def learning_rate_factor(step: int, total: int, config: TrainerConfig) -> float:
    """Share of the peak learning rate at ``step`` (0-based): linear warm-up, then the schedule down to 0."""
    warm = round(config.warmup * total)
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if config.schedule == "linear" else 1.0


def autocast_for(device: torch.device, precision: str) -> Callable[[], Any]:
    """Context factory for the forward pass: bf16 autocast, or nothing. Weights and optimizer stay in fp32."""
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(device) else "fp32"
    if precision == "fp32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported and supported())
    return False


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (biases, norms) do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _summarise(lines: list[dict[str, Any]], total: int) -> TrainingSummary:
    losses = [line["loss"] for line in lines]
    tenth = max(1, len(losses) // 10)
    seconds = sum(line["seconds"] for line in lines)
    return TrainingSummary(
        steps=total,
        rows=sum(line["rows"] for line in lines),
        tokens=sum(line["tokens"] for line in lines),
        seconds=seconds,
        waiting=sum(line["waited"] for line in lines) / seconds if seconds else 0.0,
        first_loss=sum(losses[:tenth]) / tenth if losses else float("nan"),
        last_loss=sum(losses[-tenth:]) / tenth if losses else float("nan"),
    )
