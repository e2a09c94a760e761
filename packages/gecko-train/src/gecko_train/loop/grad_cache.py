"""Gradient caching (GradCache, Gao et al. 2021, arXiv 2101.06983): a contrastive batch larger than memory.

The loss needs the embeddings of the whole batch, but not the activations behind them. So: embed everything without a
graph, take the gradient of the loss with respect to the embeddings, then embed micro-batch after micro-batch again with
a graph and push the cached gradients through. Dropout must fall the same way in both passes; the generators are
therefore seeded per micro-batch, which also makes a step a function of its number, with no state to save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def backward_through_batch(
    micro_batches: Sequence[T],
    embed: Callable[[T], Tensor],  # micro-batch -> (n_i, D)
    loss_of: Callable[[Tensor], Tensor],  # (sum n_i, D) in micro-batch order -> scalar
    *,
    seed: int,
    cache: bool = True,
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
) -> Tensor:
    """Accumulate the gradient of the batch's loss into the parameters and return the detached loss.

    Args:
        seed: seeds the random generators of each micro-batch, equally in both passes.
        cache: False keeps the graphs of all micro-batches and saves the second forward pass, at the price of memory.
        no_sync: context that keeps a data-parallel wrapper from reducing gradients; left only for the last
            micro-batch, so that a step costs one gradient all-reduce however many micro-batches it has.
    """

    def run(index: int) -> Tensor:
        torch.manual_seed((seed * 1_000_003 + index) % 2**63)  # every device's generator
        return embed(micro_batches[index])

    last = len(micro_batches) - 1
    if not cache or last == 0:
        # One backward call reaches every parameter once, so there is nothing to keep from synchronising early.
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
    fits: int,  # padded tokens whose activations memory holds
    quick: int,  # padded tokens that keep the device busy
    cache: bool | str = "auto",
) -> tuple[list[np.ndarray], bool]:
    """Micro-batches of a batch, and whether it needs gradient caching.

    A batch that fits as a whole is still cut into short pieces of similar length, for they carry less padding; their
    graphs are all kept, and nothing is computed twice.
    """
    pieces = length_sorted(lengths, min(fits, quick))
    if cache == "auto":
        cache = sum(len(piece) * lengths[piece[0]] for piece in pieces) > fits
    return (length_sorted(lengths, fits) if cache else pieces), bool(cache)


def length_sorted(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Group texts into micro-batches of at most ``budget`` padded tokens (a single longer text stands alone).

    Sorted by length, so that texts of a micro-batch need next to no padding; longest first, so that memory that does
    not suffice shows in the first micro-batch. Returns arrays of places into ``lengths``.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    groups: list[np.ndarray] = []
    start = 0
    while start < len(order):
        fits = max(1, budget // max(1, lengths[order[start]]))
        groups.append(order[start : start + fits])
        start += fits
    return groups
