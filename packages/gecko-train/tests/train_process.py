"""A training run as a process of its own, to be killed or to be one rank of several.

Run by the fixture `start_training` in a fork of a process that has imported everything; ENVIRONMENT and ARGUMENTS are
globals that it sets.
"""

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from safetensors.torch import save_file
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from gecko_core import Gecko
from gecko_train.config import BlocksConfig, ObjectiveConfig, TrainerConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.mixture import Mixture
from gecko_train.data.rows import RowSet
from gecko_train.loop.grad_cache import split_batch
from gecko_train.loop.trainer import Trainer
from gecko_train.loss.objective import Objective

sys.path.insert(0, str(Path(__file__).parent))
from conftest import make_neighbours, make_rows, without_dropout


def count_reductions(trainer, counted):
    prepare = trainer._prepare

    def watched():
        wrapped, optimizer = prepare()

        def hook(_, bucket):
            counted.append(bucket.is_last())
            return default_hooks.allreduce_hook(None, bucket)

        wrapped.register_comm_hook(None, hook)
        return wrapped, optimizer

    trainer._prepare = watched


def note_micro_batches(trainer, noted):
    """How each step's texts are split, and whether this rank by itself would cache its gradients."""
    split = trainer._micro_batches

    def watched(lengths):
        pieces, caches = split_batch(
            lengths, trainer.config.micro_batch_tokens, trainer._quick, trainer.config.grad_cache
        )
        noted.append([len(pieces), caches])
        return split(lengths)

    trainer._micro_batches = watched


def row_sets():
    """Triplets and pairs, each with its objective."""
    sets = [
        RowSet.from_rows("triplets", make_rows(30) + make_rows(6, seed=9, label="x")),
        RowSet.from_rows("pairs", make_rows(22, negatives=0, seed=3)),
    ]
    return sets, [
        ObjectiveConfig(hard_negatives=1, hardness=2.0, matching={"weight": 0.5}),
        ObjectiveConfig(hard_negatives=0, same_tower=False, false_negative_margin=0.1, spread_out={"weight": 0.05}),
    ]


def block_sets():
    """Blocks with scores, blocks for the teacher, and pairs beside them."""
    sizes = BlocksConfig(documents=11, queries=7, best=3, others=1, starts=2, shared=2)
    judged = make_neighbours(40)
    unanswered = [replace(row, positive=None, negatives=row.documents, positive_id=0) for row in judged[::3]]
    answered = [row for number, row in enumerate(judged) if number % 3]
    sets = [
        BlockSet("judged", answered + unanswered, sizes, hard_negatives=1, share=0.6),
        BlockSet("taught", make_neighbours(25, seed=4), sizes),
        RowSet.from_rows("pairs", make_rows(22, negatives=0, seed=3)),
    ]
    return sets, [
        ObjectiveConfig(false_negative_share=0.6, kl={"weight": 0.3}, block={"weight": 1.0}),
        ObjectiveConfig(
            contrastive_weight=0.0, block={"weight": 1.0, "targets": "teacher"},
            matching={"weight": 0.5, "projection": True},
        ),
        ObjectiveConfig(hard_negatives=0),
    ]  # fmt: skip


def main(
    backbone,
    folder,
    steps,
    checkpoint_every,
    batch_size,
    dropout,
    parallel="ddp",
    options=None,
    in_blocks=False,
    judged=False,
):
    torch.set_num_threads(1)
    model = Gecko.from_backbone(backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
    if not dropout:  # it differs between ranks by design
        without_dropout(model)
    sets, configs = block_sets() if in_blocks else row_sets()
    objectives = [Objective(config, dims=(32, 16)) for config in configs]
    teacher = Gecko.from_backbone(backbone, dims=(24,), device="cpu", dtype=torch.float32, seed=5)
    config = TrainerConfig(
        batch_size=batch_size, learning_rate=1e-3, precision="fp32", max_steps=steps,
        checkpoint_every=checkpoint_every, keep_checkpoints=9, parallel=parallel,
        **{"micro_batch_tokens": 96, **(options or {})},
    )  # fmt: skip
    mixture = Mixture(sets, batch_size=batch_size, seed=0)
    console = Console(file=io.StringIO())
    trainer = Trainer(model, mixture, objectives, config, Path(folder), console=console, teacher=teacher)
    if judged:  # ranks that disagree: the first finds training bad, the others find it good
        trainer.on_checkpoint = lambda step, _: step if trainer.rank else -step
    counted, noted = [], []
    if parallel == "ddp":
        note_micro_batches(trainer, noted)
    if trainer.world_size > 1 and parallel == "ddp":
        count_reductions(trainer, counted)
    trainer.train()
    (Path(folder) / f"micro-batches-{trainer.rank}.json").write_text(json.dumps(noted))
    if trainer.rank == 0:
        save_file(model.state_dict(), Path(folder) / "trained.safetensors")
        (Path(folder) / "reductions.json").write_text(json.dumps(counted))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.update(globals()["ENVIRONMENT"])
    main(**globals()["ARGUMENTS"])
