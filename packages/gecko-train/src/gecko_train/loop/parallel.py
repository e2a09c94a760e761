"""Cross-device negatives: one global batch seen whole by every rank.

Every rank computes the loss of the whole global batch from the gathered embeddings; gradients flow only into the
rank's own rows. Summed over the ranks that is exactly the gradient of one rank with the whole batch. (Data-parallel
wrappers average over ranks; the trainer multiplies the loss by the world size to undo it.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, world size); (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def slice_sizes(rows: int, world_size: int) -> list[int]:
    """Rows per rank as ``PlannedBatch.slice`` cuts them."""
    share, rest = divmod(rows, world_size)
    return [share + (rank < rest) for rank in range(world_size)]


def gather_rows(own: Tensor, sizes: Sequence[int]) -> Tensor:
    """Rows of all ranks in rank order; the own rows keep their graph. ``own``: (sizes[rank], ...)."""
    rank, world_size = world()
    if world_size == 1:
        return own
    longest = max(sizes)
    padded = own.new_zeros((longest, *own.shape[1:]))
    padded[: len(own)] = own.detach()
    parts = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(parts, padded)
    rows = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    rows[rank] = own
    return torch.cat(rows)
