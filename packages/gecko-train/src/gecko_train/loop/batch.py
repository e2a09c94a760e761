"""What a step needs of its planned batch, read ahead of the step: rows, texts and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_train.data.blocks import BlockLayout
from gecko_train.data.mixture import Mixture, PlannedBatch
from gecko_train.data.rows import TrainingRow
from gecko_train.data.texts import BatchTexts, BlockTexts, batch_texts, block_texts
from gecko_train.loss.objective import Objective


@dataclass(frozen=True)
class PreparedBatch:
    """A planned batch with what one rank embeds of it."""

    batch: PlannedBatch
    rows: list[TrainingRow]  # this rank's
    texts: BatchTexts | BlockTexts
    tokens: list[list[int]]
    layout: BlockLayout | None = None  # of a whole block


def too_small(name: str, rows: int, world_size: int) -> ConfigError:
    """What to tell of a set of which no batch has a row for each rank."""
    return ConfigError(f"set {name}: a batch of {rows} rows is too small for {world_size} ranks; use fewer ranks")


def prepare_batch(
    mixture: Mixture,
    objectives: Sequence[Objective],
    model: Gecko,
    step: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    max_length: int | None = None,
) -> PreparedBatch:
    """Read, format and tokenise one rank's share of a step's batch.

    Args:
        mixture: plans the batch.
        objectives: one per set of the mixture; they say how many documents a row has.
        model: its prompts and its tokenizer.
        step: optimizer steps before this one.
        rank: this process.
        world_size: number of processes.
        max_length: tokens that a text is cut to.

    Raises:
        ConfigError: the batch has fewer rows, or a block fewer queries or documents, than there are ranks.
    """
    batch = mixture.at(step)
    row_set: Any = mixture.sets[batch.set_index]
    columns = objectives[batch.set_index].documents
    if len(batch.indices) < world_size:  # of a stream, say, whose rows are copies of each other
        raise too_small(row_set.name, len(batch.indices), world_size)
    rows = row_set.rows(batch.slice(rank, world_size))
    texts: BatchTexts | BlockTexts
    layout = None
    if batch.documents is None:
        texts = batch_texts(rows, model, columns)
    else:
        if len(batch.documents) < world_size:
            raise ConfigError(f"set {row_set.name}: a block is too small for {world_size} ranks; use fewer")
        layout = row_set.layout(batch.indices, batch.documents, columns)
        queries, documents = row_set.queries(batch.indices), row_set.documents(batch.documents)
        texts = block_texts(queries, documents, model, rank, world_size)
    tokens = model.tokenize(texts.texts, max_length=max_length)
    return PreparedBatch(batch, rows, texts, tokens, layout)
