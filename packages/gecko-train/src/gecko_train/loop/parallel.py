"""Several ranks: cross-device negatives, and FSDP2 (weights, gradients and optimizer state sharded across ranks).

Every rank computes the loss of the whole global batch from the gathered embeddings; gradients flow only into the
rank's own rows. Summed over the ranks that is exactly the gradient of one rank with the whole batch. (Data-parallel
wrappers average over ranks; the trainer multiplies the loss by the world size to undo it.)
"""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from gecko_core import Gecko
from gecko_core.errors import BackendError, ConfigError, first_line
from gecko_train.loop.frozen import transformer_layers

_LOST = re.compile(r"gloo|nccl|process ?group|connection (?:reset|closed|refused)", re.IGNORECASE)


def own_device() -> str | None:
    """The GPU of this rank, as torchrun numbers them; None where a model is put on the best device that there is.

    Before there is a process group: "cuda" alone is the first GPU, in every rank.
    """
    rank = os.environ.get("LOCAL_RANK", "")
    if not rank.isdecimal() or not torch.cuda.is_available():
        return None
    return f"cuda:{int(rank) % torch.cuda.device_count()}"


def world() -> tuple[int, int]:
    """(rank, world size); (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def slice_sizes(rows: int, world_size: int) -> list[int]:
    """Rows per rank as ``PlannedBatch.slice`` divides them."""
    share, remainder = divmod(rows, world_size)
    return [share + (rank < remainder) for rank in range(world_size)]


def gather_rows(own: Tensor, sizes: Sequence[int]) -> Tensor:  # (sizes[rank], ...) -> (sum(sizes), ...)
    """Rows of all ranks in rank order; the rank's own rows keep their graph."""
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


def of_first_rank(value: float, device: torch.device) -> float:
    """The first rank's value, on every rank: what all must decide by."""
    if world()[1] == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


@contextmanager
def lost_ranks_told() -> Iterator[None]:
    """Tell what it means when another process of a run does not answer.

    Raises:
        BackendError: in the place of what torch.distributed's backends raise then.
    """
    try:
        yield
    except RuntimeError as error:  # torch's DistBackendError is one
        if world()[1] == 1 or not _LOST.search(str(error)):
            raise
        raise BackendError(
            "another process of this run has ended or does not answer; what it said last is why, and the same command "
            f"goes on from the last checkpoint ({first_line(error)[:200]})"
        ) from error


def of_any_rank(value: bool, device: torch.device) -> bool:
    """Whether it is true on one rank at least, on every rank: those that do other things wait for each other."""
    if world()[1] == 1:
        return value
    shared = torch.tensor(int(value), device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared)


def over_ranks(values: list[float], device: torch.device) -> list[float]:
    """The sums of some numbers over all ranks, on every rank."""
    if world()[1] == 1:
        return values
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(shared)
    return [float(value) for value in shared]


def average_gradients(module: nn.Module, factor: float = 1.0) -> None:
    """Average the gradients of a module that no wrapper looks after over the ranks, and multiply them.

    Args:
        module: the same on every rank.
        factor: undoes what the loss was multiplied with.
    """
    _, world_size = world()
    for parameter in module.parameters():
        if parameter.grad is None:
            continue
        if world_size > 1:
            dist.all_reduce(parameter.grad)
        parameter.grad *= factor / world_size


def clip_together(modules: Sequence[nn.Module], largest: float) -> float:
    """Scale the gradients of several modules, some of them sharded, to a common norm of at most ``largest``.

    Returns:
        The norm before.
    """
    gradients = [[p.grad for p in module.parameters() if p.grad is not None] for module in modules]
    norms = [float(gather_shards(nn.utils.get_total_norm(of_module))) for of_module in gradients]
    norm = math.hypot(*norms)
    if norm > largest:
        for gradient in (gradient for of_module in gradients for gradient in of_module):
            gradient *= largest / (norm + 1e-6)  # as torch's clip_grad_norm_
    return norm


# ---- FSDP2 ----


def shard(model: Gecko, device: torch.device) -> Gecko:
    """A copy of ``model`` whose layers are sharded across all ranks; ``model`` itself moves to the CPU, for saving.

    Raises:
        ConfigError: this PyTorch shards on GPUs alone.
    """
    if device.type == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
        raise ConfigError(
            f"trainer.parallel: fsdp runs on CPUs with a newer PyTorch than {torch.__version__}; update it, or use ddp"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    sharded = copy.deepcopy(model).to(device)
    model.to("cpu")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in transformer_layers(sharded.backbone):
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    return sharded


@contextmanager
def without_reduction(model: Any) -> Iterator[None]:
    """Keep gradients local: FSDP2's counterpart of DDP's ``no_sync``."""
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def same_number(pieces: list[Any], device: torch.device) -> list[Any]:
    """As many micro-batches on every rank, because all ranks gather the layers for each; short ranks repeat one.

    The second result of a repeated row is never read, so its gradient is zero.
    """
    most = torch.tensor(len(pieces), device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return pieces + [pieces[-1][:1]] * (int(most) - len(pieces))


def gather_shards(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one (all ranks must call it); others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, example: Tensor) -> Tensor:
    """A full tensor, sharded as ``example`` is."""
    if not isinstance(example, DTensor) or not tensor.ndim:
        return tensor
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Write the full weights of a sharded model into its unsharded twin; all ranks take part."""
    weights = target.state_dict()
    with torch.no_grad():
        for name, tensor in source.state_dict().items():
            weights[name].copy_(gather_shards(tensor))
