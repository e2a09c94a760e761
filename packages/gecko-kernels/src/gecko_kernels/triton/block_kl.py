"""Launches of the block KL loss: teacher statistics, forward in spans of columns, backward in strips of rows.

A block may have few queries and many documents, so the forward kernel divides the columns into spans until there are
enough programs to fill a GPU; their partial sums, (spans, Q, M), are combined in a fixed order. The backward pass works
in strips as that of ``contrastive`` does: nothing of size Q x N is held but the targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import triton
from torch import Tensor

from gecko_kernels.triton import block_kl_kernels as kernels
from gecko_kernels.triton.contrastive_kernels import LN2
from gecko_kernels.triton.descriptors import can_describe, describe
from gecko_kernels.triton.gradients import Gradient, gradient_strips, on_device, precision
from gecko_kernels.triton.norms import inverse_norms
from gecko_kernels.triton.spans import log_sum, span_columns
from gecko_kernels.triton.tiles import Tile, architecture_of, choose_tile

TEACHER_COLUMNS = 1024


@dataclass
class BlockProblem:
    """Checked arguments, contiguous, with the inverse prefix norms of both matrices."""

    queries: Tensor  # (Q, D)
    documents: Tensor  # (N, D)
    targets: Tensor  # (Q, N)
    temperature: Tensor
    teacher_temperature: float
    dims: tuple[int, ...]
    tiles: dict[str, Tile] = field(default_factory=dict)  # by kernel, before the table's choice

    def __post_init__(self) -> None:
        self.norms = tuple(inverse_norms(vectors, self.dims) for vectors in (self.queries, self.documents))
        self.described = can_describe([self.queries, self.documents], self.dims)

    @classmethod
    def make(
        cls,
        queries: Tensor,
        documents: Tensor,
        targets: Tensor,
        temperature: Tensor,
        teacher_temperature: float,
        dims: Sequence[int],
    ) -> BlockProblem:
        """Make the problem from the operator's arguments."""
        dense = queries.contiguous(), documents.contiguous(), targets.contiguous()
        return cls(*dense, temperature, teacher_temperature, tuple(dims))

    @property
    def empty(self) -> bool:
        """Whether there is no pair, and nothing to launch."""
        return self.targets.numel() == 0

    def tile(self, kernel: str) -> Tile:
        """Return the tile of a kernel: the one set in ``tiles``, else the choice of the table."""
        return self.tiles.get(kernel) or choose_tile(
            kernel, len(self.dims), self.queries.dtype, architecture_of(self.queries.device), self.described
        )

    def constants(self, tile: Tile) -> dict[str, object]:
        """Return the compile-time constants of the tiled kernels."""
        return {
            "WIDTH": self.queries.shape[1], "STARTS": (0, *self.dims[:-1]), "DIMS": self.dims, "M": len(self.dims),
            "BLOCK_M": tile.rows, "BLOCK_N": tile.columns, "BLOCK_K": tile.depth,
            "PRECISION": precision(self.queries), "num_warps": tile.warps, "num_stages": tile.stages,
        }  # fmt: skip


def forward(problem: BlockProblem) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the divergence of every row and prefix, its log-sum-exp and the teacher's statistics.

    Returns:
        (Q, M), 0 in rows that do not count; (Q, M), +inf there; (Q, 2) maximum and log of the sum, +inf there.
    """
    (rows, columns), count = problem.targets.shape, len(problem.dims)
    new = {"dtype": torch.float32, "device": problem.queries.device}
    if problem.empty:
        infinite = torch.full((rows, count + 2), torch.inf, **new)
        return torch.zeros((rows, count), **new), infinite[:, :count].contiguous(), infinite[:, count:].contiguous()
    tile, inverse_a = problem.tile("block_forward"), 1 / problem.teacher_temperature
    span = span_columns(rows, columns, tile)
    spans = triton.cdiv(columns, span)
    teachers = torch.empty((rows, 2), **new)
    tops, totals, crosses = (torch.empty((spans, rows, count), **new) for _ in range(3))
    with on_device(problem.queries):
        kernels.teacher_kernel[(rows,)](
            problem.targets, teachers, columns, inverse_a, BLOCK=TEACHER_COLUMNS, num_warps=4
        )
        kernels.block_forward_kernel[(triton.cdiv(rows, tile.rows), spans)](
            problem.queries, problem.documents, problem.norms[0], problem.norms[1].T.contiguous(), problem.targets,
            teachers, problem.temperature, tops, totals, crosses,
            *describe([problem.queries, problem.documents], tile, problem.described), rows, columns, span, inverse_a,
            **problem.constants(tile),
        )  # fmt: skip
    lses = log_sum(tops, totals) * LN2.value
    counts = teachers[:, 1:].isfinite()
    return torch.where(counts, crosses.sum(0) + lses, 0.0), torch.where(counts, lses, torch.inf), teachers


def backward(problem: BlockProblem, lses: Tensor, teachers: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute gradients of sum(upstream * divergences): queries, documents, temperature."""
    dims = problem.dims
    row, columns = Gradient.zeros(problem.queries, dims), Gradient.zeros(problem.documents, dims)
    upstream = upstream.float().contiguous()
    tile, inverse_a = problem.tile("block_coefficient"), 1 / problem.teacher_temperature
    strips = () if problem.empty else gradient_strips(
        problem.queries, problem.documents, dims, tile, problem.tile("product"), row, columns
    )  # fmt: skip
    described = describe([problem.queries, problem.documents], tile, problem.described)
    document_inverse = problem.norms[1].T.contiguous()
    for strip in strips:
        with on_device(problem.queries):
            kernels.block_coefficient_kernel[strip.grid](
                problem.queries, problem.documents, problem.norms[0], document_inverse, problem.targets, teachers,
                problem.temperature, lses, upstream, strip.coefficients, strip.row_pulls, strip.column_pulls,
                *described, strip.first, strip.height, len(problem.documents), inverse_a, **problem.constants(tile),
            )  # fmt: skip
    seen = row.pull.sum()  # sum of g * cosine
    return (
        row.finish(problem.queries, problem.norms[0], dims),
        columns.finish(problem.documents, problem.norms[1], dims),
        (-seen / problem.temperature).to(problem.temperature.dtype),
    )
