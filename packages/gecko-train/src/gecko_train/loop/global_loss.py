"""The loss of a global batch, computed on every rank from the embeddings of all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gecko_train.data.texts import BlockTexts
from gecko_train.loop.batch import PreparedBatch
from gecko_train.loop.parallel import gather_rows, slice_sizes
from gecko_train.loss.base import Block
from gecko_train.loss.objective import Objective


def global_loss(
    embeddings: Tensor,  # (T, D), T distinct texts of this rank
    prepared: PreparedBatch,
    objective: Objective,
    teacher: Tensor | None,
    *,
    projection: nn.Module | None = None,
    world_size: int = 1,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of all ranks' rows; gradients flow into the embeddings of this one.

    Args:
        embeddings: of ``prepared.texts``, in their order.
        prepared: this rank's share of the batch.
        objective: of the batch's set.
        teacher: the teacher's vectors: (b, 1 + M, E) of this rank's rows; (Q + N, E) of a whole block.
        projection: from the model's width to the teacher's.
        world_size: number of processes.

    Returns:
        The loss, and the numbers that the objective logs.
    """
    texts = prepared.texts
    if isinstance(texts, BlockTexts):
        return _block_loss(embeddings, prepared, objective, teacher, projection, world_size)
    sizes = slice_sizes(len(prepared.batch.indices), world_size)
    device = embeddings.device

    def of_all_ranks(own: Tensor) -> Tensor:
        return gather_rows(own.to(device), sizes)

    return objective(
        of_all_ranks(embeddings[texts.queries.to(device)]),
        of_all_ranks(embeddings[texts.documents.to(device)]),
        of_all_ranks(texts.query_ids),
        of_all_ranks(texts.document_ids),
        of_all_ranks(texts.scores),
        None if teacher is None else of_all_ranks(teacher),
        answered=of_all_ranks(texts.answered),
        projection=projection,
    )


def _block_loss(
    embeddings: Tensor,
    prepared: PreparedBatch,
    objective: Objective,
    teacher: Tensor | None,
    projection: nn.Module | None,
    world_size: int,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a block, of which every rank knows all but the embeddings."""
    texts, layout, device = prepared.texts, prepared.layout, embeddings.device
    assert layout is not None
    count, shared = layout.targets.shape
    queries = gather_rows(embeddings[texts.queries.to(device)], slice_sizes(count, world_size))
    documents = gather_rows(embeddings[texts.documents.to(device)], slice_sizes(shared, world_size))

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    block = Block(
        documents,
        tensor(layout.rows),
        tensor(layout.targets),
        None if layout.likely is None else tensor(layout.likely),
        None if teacher is None else teacher[:count],
        None if teacher is None else teacher[count:],
    )
    return objective(
        queries, documents[block.rows], tensor(layout.query_ids), tensor(layout.document_ids),
        tensor(layout.scores), answered=tensor(layout.answered), block=block, projection=projection,
    )  # fmt: skip
