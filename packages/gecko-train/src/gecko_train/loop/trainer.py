"""The training loop: planned batches in, a trained model and checkpoints out. Runs under torchrun as it is.

Each step is a function of (recipe, seed, step): the rows come from the plan, dropout from a generator seeded by the
step. So a killed run that starts again from its last checkpoint ends, on a CPU, with the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from gecko_core import Gecko
from gecko_core.encode import model_identity, plan_batches
from gecko_core.errors import ConfigError
from gecko_core.io import remove_leftovers
from gecko_core.numbers import is_whole
from gecko_eval.in_training import best_step
from gecko_train.config import TrainerConfig
from gecko_train.data.mixture import Mixture
from gecko_train.data.teacher import TeacherVectors
from gecko_train.loop import checkpoint as checkpoints
from gecko_train.loop.batch import PreparedBatch, prepare_batch, too_small
from gecko_train.loop.dropout import attention_dropout
from gecko_train.loop.finite import check_step, check_weights
from gecko_train.loop.flops import peak_flops, step_flops
from gecko_train.loop.frozen import freeze_layers, freeze_pooler, keep_still, unfreeze
from gecko_train.loop.frozen_states import FrozenStates
from gecko_train.loop.global_loss import global_loss
from gecko_train.loop.grad_cache import backward_through_batch, split_batch
from gecko_train.loop.lessons import FirstSteps, check_sets, small_batch_notes
from gecko_train.loop.lora import add_lora, merge_lora
from gecko_train.loop.parallel import (
    average_gradients,
    clip_together,
    copy_weights,
    gather_shards,
    lost_ranks_told,
    of_any_rank,
    over_ranks,
    same_number,
    shard,
    without_reduction,
)
from gecko_train.loop.patience import Patience
from gecko_train.loop.resume import check_same_run
from gecko_train.loop.schedule import autocast_for, forward_dtype, learning_rate_factor, make_optimizer
from gecko_train.loop.teacher import ask_teacher, batch_vectors
from gecko_train.loop.trackers import check_trackers
from gecko_train.loop.watch import TrainingSummary, Watch, read_metrics, summarise
from gecko_train.loss.objective import Objective

# Tokens of one forward pass beyond which the device gets no faster; shorter pieces carry less padding, if any.
_QUICK_TOKENS = {"cpu": 4_096}


class Trainer:
    """Trains ``model`` in place on the planned batches of ``mixture``.

    Args:
        model: the start model, with fp32 weights.
        mixture: the sets and the plan of their batches.
        objectives: one per set of the mixture, in its order.
        config: the optimisation loop.
        folder: ``checkpoints/``, ``metrics.jsonl`` and ``curves.png`` are kept here.
        seed: of dropout and of adapters.
        title: name of the stage on the screen and in trackers.
        start: hash of the start model; a checkpoint of another one is not continued.
        identity: the resolved stage as JSON; likewise.
        on_checkpoint: called with (step, model) before a checkpoint, returns numbers for the metrics (the first of
            them decides which checkpoint is best), one such number, or None.
        teacher: model whose embeddings the objectives match, or its vectors; a model's are kept in ``teacher/``.
        inputs: hashes of the files that the sets and the evaluation read; likewise, each by its name.
        accelerator: accelerate's; made here by default.
        console: a rich console to show progress on.

    Raises:
        ConfigError: more ranks than rows in a batch, or a tracker that is not installed.
        DataError: there is nothing in the sets that the objectives could learn from.
    """

    projection: nn.Linear | None = None  # to the teacher's width, trained along
    _frozen: FrozenStates | None = None

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
        start: str = "",
        identity: str = "",
        on_checkpoint: Callable[[int, Gecko], Mapping[str, float] | float | None] | None = None,
        teacher: Gecko | TeacherVectors | None = None,
        inputs: Mapping[str, str] | None = None,
        accelerator: Any = None,
        console: Any = None,
    ):
        from accelerate import Accelerator

        if not is_whole(seed, 0):
            raise ConfigError(f"seed is {seed!r}: give a whole number, at least 0")
        self.model = model
        self.mixture = mixture
        self.objectives = list(objectives)
        self.config = config
        self.folder = Path(folder)
        self.seed = seed
        self.title = title
        self.identity = {"plan": mixture.fingerprint, "model": start, "stage": identity}
        # What earlier versions did not note, and checkpoints of theirs are continued without.
        self.further: dict[str, Any] = {
            "data": mixture.content,
            "embedder": model_identity(model, weights=False),
            "inputs": dict(inputs or {}),
        }
        self.on_checkpoint = on_checkpoint
        self.console = console
        check_trackers(config.trackers)
        # Autocast is ours (below): accelerate would patch the model's forward, which the saved model must not keep.
        self.accelerator = accelerator or Accelerator(
            mixed_precision="no", cpu=model.device.type == "cpu", log_with=config.trackers or None, project_dir=folder
        )
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.teacher = self._vectors_of(teacher)
        self._useless = check_sets(mixture.sets, self.objectives)
        if self.world_size > 1:
            self._check_ranks()
        self.total_steps = config.max_steps or max(1, round(config.epochs * mixture.steps_per_epoch))
        self.device = self.accelerator.device if config.parallel == "fsdp" else model.device
        self.sharded = config.parallel == "fsdp" and self.world_size > 1
        self._patience = Patience(config.patience, self.device)
        self._dtype = forward_dtype(self.device, config.precision)
        self.autocast = autocast_for(self.device, self._dtype)
        self._peak = peak_flops(self.device, self._dtype, config.peak_tflops)
        if config.padding_free != "auto":
            model.padding_free = config.padding_free
        self._quick = _QUICK_TOKENS.get(self.device.type, 16_384)

    def _check_ranks(self) -> None:
        """Ranks share a batch, whose rows have no query or passage in common."""
        for name, rows, _ in self.mixture.small_batches():
            if rows < self.world_size:
                raise too_small(name, rows, self.world_size)
        if self.mixture.batch_size < self.world_size:
            rows = self.mixture.batch_size
            raise ConfigError(f"batch_size {rows}: too small for {self.world_size} ranks; use fewer ranks")

    def train(self) -> TrainingSummary:
        """Train to the end or until patience is over, from the last checkpoint if there is one.

        Returns:
            What the stage did, the steps before a resume included.

        Raises:
            BackendError: another process of the run has ended.
            ConfigError: the checkpoint is of another run or another model.
            DataError: the loss or the gradient is not finite (its rows are saved), no gradient in any of the first
                steps, or the disk is full.
        """
        with lost_ranks_told(), attention_dropout(self.model, self.config.attention_dropout):
            return self._train()

    def _train(self) -> TrainingSummary:
        if self._is_main:
            self._say_notes()
        if self.teacher is not None:
            ask_teacher(self.teacher, self.mixture.sets, self.objectives, self.accelerator.wait_for_everyone)
        wrapped, optimizer = self._prepare()
        done = self._resume(wrapped, optimizer)
        if self.config.patience and self.on_checkpoint and not done:
            self._patience.keep(0, next(iter(self._evaluate(0, wrapped).values()), None))
        history: list[dict[str, Any]] = []
        first_steps = FirstSteps(self.total_steps)
        # The watch of other ranks would write the same files.
        watch = self._watch(done) if self._is_main else None
        with ThreadPoolExecutor(1) as pool, watch or nullcontext():
            upcoming: Future[PreparedBatch] | None = None
            for step in range(done, self.total_steps):
                if self._patience.is_over:
                    break
                begun = time.perf_counter()
                prepared = upcoming.result() if upcoming else self._fetch(step)
                waited = time.perf_counter() - begun
                saves = self._saves_after(step + 1)
                # A tokenizer must not be used by two threads at once, and an evaluation needs it as well.
                prefetch = step + 1 < self.total_steps and not (saves and self.on_checkpoint)
                upcoming = pool.submit(self._fetch, step + 1) if prefetch else None
                metrics = self._step(step, prepared, wrapped, optimizer)
                first_steps.step(step + 1, metrics["loss"], metrics["gradient_norm"], metrics["set"])
                seconds = time.perf_counter() - begun
                metrics |= {
                    "seconds": seconds,
                    "waited": waited,
                    **self._speed(metrics["tokens"], metrics.pop("work"), seconds),
                }
                if saves:
                    check_weights(step + 1, self._unwrapped(wrapped))
                scores = self._evaluate(step + 1, wrapped) if saves else {}
                history.append(metrics | scores)
                if watch:
                    watch.step(step + 1, history[-1])
                if saves and not first_steps.idle:  # else the same command would go on behind the steps that say so
                    self._save(step + 1, wrapped, optimizer, next(iter(scores.values()), None))
                done = step + 1
        best = self._finish(wrapped)
        lines = read_metrics(self.folder / "metrics.jsonl") if self._is_main else history
        return summarise(lines, done, best, stopped_early=done < self.total_steps)

    def _say_notes(self) -> None:
        """Say which sets teach nothing, and of which no batch can have ``batch_size`` rows."""
        progress = self.console or Console(stderr=True, markup=False)
        for line in (*self._useless, *small_batch_notes(self.mixture)):
            progress.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)

    # ---- one step ----

    def _step(
        self, step: int, prepared: PreparedBatch, wrapped: nn.Module, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        objective = self.objectives[prepared.batch.set_index]
        lengths = [len(ids) for ids in prepared.tokens]
        groups, cache = self._micro_batches(lengths)
        order = torch.cat([torch.from_numpy(group) for group in groups])
        row_of = torch.empty(len(prepared.tokens), dtype=torch.long)  # text -> row of the sorted embeddings
        row_of[order] = torch.arange(len(order))
        row_of = row_of.to(self.device)
        teacher = self._teacher_vectors(prepared)
        watched: dict[str, float] = {}

        def embed(group: Any) -> Tensor:
            rows = [prepared.tokens[index] for index in group]
            with self.autocast(), self._frozen.given(rows) if self._frozen else nullcontext():
                return wrapped(rows=rows).float()

        def loss_of(sorted_embeddings: Tensor) -> Tensor:
            loss, numbers = global_loss(
                sorted_embeddings[row_of], prepared, objective, teacher,
                projection=self.projection, world_size=self.world_size,
            )  # fmt: skip
            watched.update(numbers)
            return loss * self.world_size

        rate = self.config.learning_rate * learning_rate_factor(step, self.total_steps, self.config)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        wrapped.train()
        keep_still(self.model, self.config.frozen_layers)
        below = self._frozen.prepare(prepared.tokens) if self._frozen else lengths
        # A generator per (seed, step, rank): dropout differs between ranks and repeats after a resume.
        seed = (self.seed * 7_919 + step) * 4_099 + self.rank
        loss = backward_through_batch(
            groups, embed, loss_of, seed=seed, cache=cache,
            no_sync=lambda: without_reduction(wrapped) if self.sharded else self.accelerator.no_sync(wrapped),
        )  # fmt: skip
        value = float(loss) / self.world_size
        if self.projection is None:
            norm = float(gather_shards(nn.utils.clip_grad_norm_(wrapped.parameters(), self.config.clip)))
        else:
            average_gradients(self.projection, 1 / self.world_size)
            norm = clip_together([wrapped, self.projection], self.config.clip)
        rows_file = self.folder / f"not-finite-step-{step + 1}-rank-{self.rank}.json"
        check_step(step + 1, value, norm, prepared.rows, rows_file)
        optimizer.step()
        work = step_flops(self.model, lengths, self.config.lora is not None, self.config.frozen_layers, below)
        tokens, work = over_ranks([sum(lengths), work], self.device)
        return {
            "set": self.mixture.sets[prepared.batch.set_index].name,
            "loss": value,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": int(tokens),
            "rows": len(prepared.batch.indices),
            "work": work,
            **watched,
        }

    def _micro_batches(self, lengths: list[int]) -> tuple[list[Any], bool]:
        config = self.config
        if self.sharded:  # layers are gathered for one graph at a time
            pieces = same_number(plan_batches(lengths, config.micro_batch_tokens), self.device)
            return pieces, len(pieces) > 1
        pieces, cache = split_batch(lengths, config.micro_batch_tokens, self._quick, config.grad_cache)
        # Ranks talk to each other in another order where they cache: all do what the one with the most tokens must.
        return pieces, of_any_rank(cache, self.device)

    def _vectors_of(self, teacher: Gecko | TeacherVectors | None) -> TeacherVectors | None:
        if teacher is None:
            return None
        if isinstance(teacher, Gecko):
            teacher = TeacherVectors(teacher, self.folder / "teacher", self.console)
        teacher.rank, teacher.world_size = self.rank, self.world_size
        return teacher

    def _teacher_vectors(self, prepared: PreparedBatch) -> Tensor | None:
        if self.teacher is None or not self.objectives[prepared.batch.set_index].config.needs_teacher:
            return None
        return batch_vectors(self.teacher, prepared, self.mixture.sets[prepared.batch.set_index]).to(self.device)

    def _speed(self, tokens: int, work: float, seconds: float) -> dict[str, float]:
        return {"tokens_per_second": tokens / seconds, "mfu": work / seconds / (self._peak * self.world_size)}

    def _fetch(self, step: int) -> PreparedBatch:
        return prepare_batch(
            self.mixture, self.objectives, self.model, step,
            rank=self.rank, world_size=self.world_size, max_length=self.config.max_seq_length,
        )  # fmt: skip

    # ---- setting up, checkpoints ----

    def _watch(self, done: int) -> Watch:
        trackers = None
        if self.config.trackers:
            self.accelerator.init_trackers("gecko-train", config={"title": self.title, "seed": self.seed})
            trackers = self.accelerator
        return Watch(self.folder, self.title, self.total_steps, done=done, console=self.console, trackers=trackers)

    @property
    def _is_main(self) -> bool:
        return self.rank == 0

    def _prepare(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        freeze_pooler(self.model)
        freeze_layers(self.model, self.config.frozen_layers)
        if self.config.lora is not None:
            add_lora(self.model, self.config.lora, self.seed)
        if self.config.frozen_layers and not (self.sharded or self.config.compile):
            self._frozen = FrozenStates(
                self.model, self.config.frozen_layers, self.folder,
                dtype=self._dtype, autocast=self.autocast, together=1 if self.device.type == "cpu" else self._quick,
            )  # fmt: skip
        if self.config.gradient_checkpointing:
            self.model.gradient_checkpointing()
        wrapped: nn.Module = shard(self.model, self.device) if self.sharded else self.model
        if self.config.compile:
            getattr(wrapped, "backbone").compile(dynamic=True)  # noqa: B009 - nn.Module's types know no attributes
        optimizer = make_optimizer(wrapped, self.config)
        if self.teacher is not None and any(objective.config.projects for objective in self.objectives):
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                self.projection = nn.Linear(self.model.dim, self.teacher.dim, bias=False, device=self.device)
            optimizer.add_param_group({"params": [*self.projection.parameters()], "weight_decay": 0.0})
        if not self.sharded:
            wrapped, optimizer = self.accelerator.prepare(wrapped, optimizer)
            if self.world_size > 1:
                # DDP sends buffers before a forward pass; here they are constants (positions), and ranks differ in the
                # number of their forward passes.
                wrapped.broadcast_buffers = False
        return wrapped, optimizer

    def _unwrapped(self, wrapped: nn.Module) -> nn.Module:
        """The module that names weights as the model does: FSDP's copy, else the model inside DDP's wrapper."""
        return wrapped if self.sharded else self.model

    def _resume(self, wrapped: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        folder = self.folder / "checkpoints"
        if self._is_main:
            remove_leftovers(folder)
        checkpoint = checkpoints.latest(folder)
        if checkpoint is None:
            return 0
        check_same_run(checkpoint, self.identity, self.further)
        checkpoints.load(
            checkpoint, self._unwrapped(wrapped), optimizer, trained_only=self.config.lora is not None,
            beside=self.projection,
        )  # fmt: skip
        self._patience.recall(checkpoint.state)
        return checkpoint.step

    def _saves_after(self, done: int) -> bool:
        every = self.config.checkpoint_every
        return done == self.total_steps or bool(every and done % every == 0)

    def _evaluate(self, done: int, wrapped: nn.Module) -> dict[str, float]:
        if self.on_checkpoint is None:
            return {}
        if self.sharded:
            copy_weights(wrapped, self.model)
        scores = self.on_checkpoint(done, self.model)
        if scores is None:
            return {}
        return dict(scores) if isinstance(scores, Mapping) else {"score": float(scores)}

    def _save(self, done: int, wrapped: nn.Module, optimizer: torch.optim.Optimizer, score: float | None) -> None:
        folder = self.folder / "checkpoints"
        state: dict[str, Any] = {**self.identity, **self.further}
        # Also where nothing was evaluated: the best one is kept, and this one is no better.
        best = best_step(_scores(checkpoints.checkpoints(folder)) | {done: score})
        if score is not None:
            state["score"] = score
            self._patience.keep(done, score)
            state |= self._patience.record()
        checkpoints.save(
            folder, done, self._unwrapped(wrapped), optimizer, state, keep=self.config.keep_checkpoints, best=best,
            trained_only=self.config.lora is not None, writes=self._is_main, beside=self.projection,
        )  # fmt: skip
        self.accelerator.wait_for_everyone()

    def _finish(self, wrapped: nn.Module) -> int | None:
        """Leave in the model what the stage ends with; returns the step of the best checkpoint."""
        kept = checkpoints.checkpoints(self.folder / "checkpoints")
        best = best_step(_scores(kept))
        if best is not None and self.config.end_with == "best":
            checkpoint = next(checkpoint for checkpoint in kept if checkpoint.step == best)
            checkpoints.load(checkpoint, self._unwrapped(wrapped), trained_only=self.config.lora is not None)
        if self.sharded:
            copy_weights(wrapped, self.model)
        if self.config.lora is not None:
            merge_lora(self.model)
        elif self.config.frozen_layers:
            unfreeze(self.model)
        return best


def _scores(kept: Sequence[checkpoints.Checkpoint]) -> dict[int, float | None]:
    return {checkpoint.step: checkpoint.state.get("score") for checkpoint in kept}
