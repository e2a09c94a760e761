"""Masked next-token prediction: the first stage of LLM2Vec (BehnamGhader et al. 2024, arXiv 2404.05961).

A language model whose causal mask was lifted sees what it never saw in training. Some tokens are hidden, and the model
is trained, with low-rank adapters, to tell each from the hidden state of the position before it: there a language model
keeps what it knows of the next token. Every step is a function of (recipe, seed, step), as elsewhere: a killed run goes
on from its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gecko_core import Gecko
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import remove_leftovers
from gecko_core.randomness import generator
from gecko_train.config import MntpConfig
from gecko_train.loop import checkpoint as checkpoints
from gecko_train.loop.dropout import attention_dropout
from gecko_train.loop.lora import add_lora, merge_lora
from gecko_train.loop.schedule import autocast_for, forward_dtype, learning_rate_factor, make_optimizer
from gecko_train.loop.watch import TrainingSummary, Watch, read_metrics, summarise
from gecko_train.mntp.head import LanguageHead, token_losses
from gecko_train.mntp.masking import Masked, mask_tokens
from gecko_train.mntp.sequences import Sequences


def train_mntp(
    model: Gecko,
    head: LanguageHead,
    sequences: Sequences,
    config: MntpConfig,
    folder: Path,
    *,
    seed: int = 0,
    start: str = "",
    console: Any = None,
) -> TrainingSummary:
    """Train ``model`` in place, from the last checkpoint in ``folder`` if there is one; adapters are merged at the end.

    Args:
        model: the start model, bidirectional, with fp32 weights.
        head: its head.
        sequences: what it reads.
        config: shares of hidden tokens, and the optimisation loop.
        folder: ``checkpoints/``, ``metrics.jsonl`` and ``curves.png`` are kept here.
        seed: of what is hidden, of dropout and of adapters.
        start: hash of the start model; a checkpoint of another one is not continued.
        console: a rich console to show progress on.

    Returns:
        What the stage did, the steps before a resume included.

    Raises:
        ConfigError: the tokenizer has no such mask token, or the checkpoint is of another run.
        DataError: the loss or the gradient is not finite, or the disk is full.
    """
    with attention_dropout(model, config.trainer.attention_dropout):
        return _Mntp(model, head, sequences, config, folder, seed, start).train(console)


class _Mntp:
    def __init__(
        self, model: Gecko, head: LanguageHead, sequences: Sequences, config: MntpConfig, folder: Path, seed: int,
        start: str,
    ):  # fmt: skip
        self.model, self.head, self.sequences = model, head, sequences
        self.config, self.folder, self.seed = config, folder, seed
        self.trainer = config.trainer
        self.mask_id = mask_id(model, config.mask_token)
        self.total = self.trainer.max_steps or max(
            1, round(self.trainer.epochs * len(sequences) / self.trainer.batch_size)
        )
        self.autocast = autocast_for(model.device, forward_dtype(model.device, self.trainer.precision))
        self.identity = {"plan": sequences.fingerprint, "model": start, "stage": config.model_dump_json()}
        self.lora = self.trainer.lora is not None

    def train(self, console: Any) -> TrainingSummary:
        """See :func:`train_mntp`."""
        if self.trainer.lora is not None:
            self.head.weight.requires_grad_(False)
            add_lora(self.model, self.trainer.lora, self.seed)
        if self.trainer.gradient_checkpointing:
            self.model.gradient_checkpointing()
        optimizer = make_optimizer(self.model, self.trainer)
        done = self._resume(optimizer)
        with Watch(self.folder, "mntp", self.total, done=done, console=console) as watch:
            for step in range(done, self.total):
                metrics = self._step(step, optimizer)
                watch.step(step + 1, metrics)
                every = self.trainer.checkpoint_every
                if step + 1 == self.total or (every and (step + 1) % every == 0):
                    checkpoints.save(
                        self.folder / "checkpoints", step + 1, self.model, optimizer, self.identity,
                        keep=self.trainer.keep_checkpoints, trained_only=self.lora,
                    )  # fmt: skip
        if self.lora:
            merge_lora(self.model)
        self.model.eval()
        return summarise(read_metrics(self.folder / "metrics.jsonl"), self.total, None)

    def _resume(self, optimizer: torch.optim.Optimizer) -> int:
        folder = self.folder / "checkpoints"
        remove_leftovers(folder)
        checkpoint = checkpoints.latest(folder)
        if checkpoint is None:
            return 0
        for key, value in self.identity.items():
            if checkpoint.state.get(key) != value:
                raise ConfigError(
                    f"{checkpoint.path}: a checkpoint of another run (its {key} differs); choose another output folder "
                    "with --out"
                )
        checkpoints.load(checkpoint, self.model, optimizer, trained_only=self.lora)
        return checkpoint.step

    def _step(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        begun = time.perf_counter()
        rate = self.trainer.learning_rate * learning_rate_factor(step, self.total, self.trainer)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        self.model.train()
        rows = self.sequences.batch(step, self.trainer.batch_size)
        masked = mask_tokens(
            self.sequences.ids[rows], self.sequences.special[rows], self.config, self.mask_id,
            len(self.head.weight), generator("mntp masks", self.seed, step),
        )  # fmt: skip
        if not len(masked.targets):
            raise DataError(f"mntp, step {step + 1}: its sequences hold special tokens only; give other texts")
        loss = 0.0
        with torch.random.fork_rng(devices=[self.model.device] if self.model.device.type == "cuda" else []):
            torch.manual_seed((self.seed * 7_919 + step) % 2**63)  # dropout
            for part in self._micro_batches(masked):
                losses = self._losses(masked, part)
                value = losses.sum() / len(masked.targets)
                value.backward()
                loss += float(value.detach())
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.trainer.clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DataError(
                f"mntp, step {step + 1}: the loss is {loss} and the gradient's norm {norm}; lower "
                "mntp.trainer.learning_rate"
            )
        optimizer.step()
        seconds, tokens = time.perf_counter() - begun, int(masked.ids.size)
        return {
            "set": "mntp", "loss": loss, "learning_rate": rate, "gradient_norm": norm, "tokens": tokens,
            "rows": len(rows), "hidden": len(masked.targets), "seconds": seconds, "waited": 0.0,
            "tokens_per_second": tokens / seconds,
        }  # fmt: skip

    def _micro_batches(self, masked: Masked) -> Iterator[slice]:
        """Sequences that fit into memory together."""
        size = max(1, self.trainer.micro_batch_tokens // masked.ids.shape[1])
        for first in range(0, len(masked.ids), size):
            yield slice(first, min(first + size, len(masked.ids)))

    def _losses(self, masked: Masked, part: slice) -> Tensor:
        """(n,) of the hidden tokens of some sequences."""
        device = self.model.device
        ids = torch.from_numpy(masked.ids[part]).to(device)
        chosen = (masked.rows >= part.start) & (masked.rows < part.stop)
        rows, columns, targets = (
            torch.from_numpy(np.ascontiguousarray(values[chosen])).to(device)
            for values in (masked.rows - part.start, masked.columns - 1, masked.targets)
        )
        with self.autocast():
            states = self.model.adapter.hidden_states(self.model.backbone, ids, torch.ones_like(ids))
        return token_losses(states[rows, columns], self.head, targets)


def mask_id(model: Gecko, token: str | None) -> int:
    """Id of the token that stands for what is hidden.

    Args:
        model: whose tokenizer is asked.
        token: its text; None: the tokenizer's mask token, "_" where it has none (LLM2Vec).

    Raises:
        ConfigError: it is not exactly one token.
    """
    tokenizer = model.tokenizer
    if token is None and tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    wanted = "_" if token is None else token
    ids = tokenizer(wanted, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ConfigError(
            f"mntp.mask_token: {wanted!r} is not one token of this model but {len(ids)}; name one that it has"
        )
    return int(ids[0])
