"""Gradient caching (GradCache, Gao et al. 2021, arXiv 2101.06983): a contrastive batch larger than memory.

The loss needs the embeddings of the whole batch, but not the activations behind them. So: embed everything without a
graph, take the gradient of the loss with respect to the embeddings, then embed micro-batch after micro-batch again with
a graph and push the cached gradients through. Dropout must drop the same units in both passes; the generators are
therefore seeded per micro-batch, which also makes a step a function of its number, with no state to save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gecko_core.encode import plan_batches

T = TypeVar("T")


def backward_through_batch(
    micro_batches: Sequence[T],
    embed: Callable[[T], Tensor],  # micro-batch -> (n_i, D)
    loss_of: Callable[[Tensor], Tensor],  # (sum n_i, D) in micro-batch order -> scalar
    *,
    seed: int,
    cache: bool = True,
    no_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """Accumulate the gradient of the batch's loss into the parameters.

    Args:
        micro_batches: the parts of the batch.
        embed: the forward pass of one part.
        loss_of: the loss of all embeddings.
        seed: seeds the random generators of each micro-batch, equally in both passes.
        cache: False keeps the graphs of all micro-batches and saves the second forward pass, at the price of memory.
        no_sync: context that keeps a data-parallel wrapper from reducing gradients; left only for the last
            micro-batch, so that a step costs one gradient all-reduce however many micro-batches it has.

    Returns:
        The detached loss.
    """

    def run(index: int) -> Tensor:
        torch.manual_seed((seed * 1_000_003 + index) % 2**63)  # every device's generator
        return embed(micro_batches[index])

    last = len(micro_batches) - 1
    if not cache:
        # One backward call reaches every parameter once, so gradients are synchronised once anyway.
        loss = loss_of(torch.cat([run(index) for index in range(last + 1)]))
        loss.backward()
        return loss.detach()

    with torch.no_grad():
        parts = [run(index) for index in range(last + 1)]
    embeddings = torch.cat(parts).detach().requires_grad_()
    loss = loss_of(embeddings)
    loss.backward()
    assert embeddings.grad is not None
    gradients = embeddings.grad.split([len(part) for part in parts])
    del parts
    for index, gradient in enumerate(gradients):
        with nullcontext() if index == last else no_sync():
            torch.autograd.backward(run(index), gradient)
    return loss.detach()


def split_batch(
    lengths: Sequence[int],
    fits: int,
    quick: int,
    cache: bool | str = "auto",
) -> tuple[list[np.ndarray], bool]:
    """Split a batch into micro-batches, and decide whether it needs gradient caching.

    A batch that fits as a whole is still split into pieces of similar length, which carry less padding; their graphs
    are all kept, and nothing is computed twice.

    Args:
        lengths: tokens of each text.
        fits: padded tokens whose activations fit in memory.
        quick: padded tokens that keep the device busy.
        cache: "auto" caches where the batch does not fit; True and False decide themselves.

    Returns:
        The indices of each micro-batch's texts, longest text first, and whether to cache: never for a single one.
    """
    pieces = plan_batches(lengths, min(fits, quick))
    if cache == "auto":
        cache = sum(len(piece) * lengths[piece[0]] for piece in pieces) > fits
    pieces = plan_batches(lengths, fits) if cache else pieces
    return pieces, bool(cache) and len(pieces) > 1
