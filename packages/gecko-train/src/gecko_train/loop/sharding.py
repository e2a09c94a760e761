"""FSDP2: weights, gradients and optimizer state cut over the ranks (``torch.distributed.fsdp.fully_shard``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from gecko_core import Gecko


def shard(model: Gecko, device: torch.device) -> Gecko:
    """A copy of ``model`` whose layers are cut over all ranks; ``model`` itself moves to the CPU, for saving."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    cut = copy.deepcopy(model).to(device)
    model.to("cpu")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in _layers(cut.backbone):
        fully_shard(layer, mesh=mesh)
    fully_shard(cut, mesh=mesh)
    return cut


def _layers(backbone: nn.Module) -> nn.ModuleList:
    """The stack of transformer layers: the module list that holds the most weights."""
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda one: sum(p.numel() for p in one.parameters()), default=nn.ModuleList())


@contextmanager
def without_reduction(model: Any) -> Iterator[None]:
    """Keep gradients local: FSDP2's counterpart of DDP's ``no_sync``."""
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def same_number(pieces: list[Any], device: torch.device) -> list[Any]:
    """As many micro-batches on every rank, for all ranks gather the layers for each; a short one is repeated.

    What is computed twice is used once, so the other gets a gradient of zero.
    """
    most = torch.tensor(len(pieces), device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return pieces + [pieces[-1][:1]] * (int(most) - len(pieces))


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of one that is cut over ranks (all ranks must ask), others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, example: Tensor) -> Tensor:
    """A full tensor cut as ``example`` is."""
    if not isinstance(example, DTensor) or not tensor.ndim:
        return tensor
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)


def copy_into(source: nn.Module, target: nn.Module) -> None:
    """Write the whole weights of a cut model into its uncut twin; all ranks take part."""
    own = target.state_dict()
    with torch.no_grad():
        for name, tensor in source.state_dict().items():
            own[name].copy_(whole(tensor))
