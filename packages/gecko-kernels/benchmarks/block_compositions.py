"""The block KL loss as plain PyTorch computes it, each as a function of (queries, documents, targets)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from gecko_kernels import block_kl_loss
from gecko_kernels._arguments import check_block
from gecko_kernels.reference import reference_block_kl

TEMPERATURE = 0.05
UNJUDGED = 0.25  # share of pairs without a score
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def ours(dims: Sequence[int]) -> Loss:
    """gecko_kernels, the backend of the device."""
    return lambda queries, documents, targets: block_kl_loss(
        queries, documents, targets, temperature=TEMPERATURE, dims=dims
    )


def eager(dims: Sequence[int]) -> Loss:
    """The reference of the tests, as it stands."""

    def loss(queries: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
        return reference_block_kl(
            check_block(
                queries, documents, targets, temperature=TEMPERATURE, teacher_temperature=1.0, dims=dims,
                dim_weights=None,
            )
        )  # fmt: skip

    return loss


def plain(dims: Sequence[int]) -> Loss:
    """Normalise, multiply, mask, ``kl_div``: what one would write. Every query must have two judged documents."""

    def loss(queries: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
        unjudged = targets.isnan()
        # Low rather than -inf: 0 * inf is NaN in the gradient of kl_div.
        teacher = targets.masked_fill(unjudged, -1e4).float().log_softmax(1)
        total = queries.new_zeros((), dtype=torch.float32)
        for dim in dims:
            q, d = normalize(queries[:, :dim].float()), normalize(documents[:, :dim].float())
            student = (q @ d.T / TEMPERATURE).masked_fill(unjudged, -1e4).log_softmax(1)
            total = total + kl_div(student, teacher, log_target=True, reduction="batchmean")
        return total

    return loss


def compiled(dims: Sequence[int]) -> Loss:
    """The plain form under torch.compile (on CPU this needs a C++ compiler)."""
    return torch.compile(plain(dims))


COMPOSITIONS: dict[str, Callable[[Sequence[int]], Loss]] = {
    "gecko-kernels": ours,
    "plain": plain,
    "eager": eager,
    "torch.compile": compiled,
}


def make_inputs(
    rows: int, documents: int, width: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Random embeddings with gradients wanted, and float32 targets of which ``UNJUDGED`` are NaN."""
    generator = torch.Generator().manual_seed(0)
    vectors = [
        torch.randn(count, width, generator=generator).to(device, dtype).requires_grad_() for count in (rows, documents)
    ]
    targets = 3 * torch.randn(rows, documents, generator=generator)
    targets[torch.rand(rows, documents, generator=generator) < UNJUDGED] = torch.nan
    return vectors[0], vectors[1], targets.to(device)
