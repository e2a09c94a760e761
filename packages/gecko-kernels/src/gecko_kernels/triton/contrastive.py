"""Launches of the loss kernels: forward in one launch over spans of columns, backward in strips of rows.

The backward pass recomputes the cosines of a strip of rows, writes the coefficients that both gradients need and
multiplies them: dq of the strip's rows, and its share of dk, strips in order. Nothing of size B x B is held: a strip's
coefficients take at most what ``gradients.strip_rows`` allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import triton
from torch import Tensor

from gecko_kernels.triton import contrastive_kernels as kernels
from gecko_kernels.triton.descriptors import can_describe, describe
from gecko_kernels.triton.gradients import Gradient, gradient_strips, on_device, precision
from gecko_kernels.triton.norms import inverse_norms
from gecko_kernels.triton.spans import log_sum, span_columns
from gecko_kernels.triton.tiles import Tile, architecture_of, choose_tile

OWN_ROWS, OWN_DEPTH = 16, 128


@dataclass
class Problem:
    """Checked arguments, contiguous, with the inverse prefix norms of every matrix."""

    queries: Tensor  # (B, D)
    positives: Tensor  # (C, D)
    key_queries: Tensor | None  # (C, D); the queries themselves where no other are given
    negatives: Tensor | None  # own: (B, H, D); shared: (N, D)
    temperature: Tensor
    query_ids: Tensor | None
    positive_ids: Tensor | None
    negative_ids: Tensor | None
    dims: tuple[int, ...]
    external: bool  # key_queries are another matrix than queries
    offset: int
    hardness: float
    tiles: dict[str, Tile] = field(default_factory=dict)  # by kernel, before the table's choice

    def __post_init__(self) -> None:
        self.norms = {
            name: inverse_norms(value, self.dims)
            for name in ("queries", "positives", "key_queries", "negatives")
            if (value := getattr(self, name)) is not None and (name != "key_queries" or self.external)
        }
        if self.key_queries is not None and not self.external:
            self.norms["key_queries"] = self.norms["queries"]
        shared = None if self.own else self.negatives
        self.described = can_describe([self.queries, self.positives, self.key_queries, shared], self.dims)

    @property
    def own(self) -> bool:
        """Whether every row sees its own hard negatives only."""
        return self.negatives is not None and self.negatives.dim() == 3

    @property
    def width(self) -> int:
        """Width D of the embeddings."""
        return self.queries.shape[1]

    def constants(self, tile: Tile) -> dict[str, object]:
        """Return the compile-time constants of every tiled kernel."""
        return {
            "WIDTH": self.width, "STARTS": (0, *self.dims[:-1]), "DIMS": self.dims, "M": len(self.dims),
            "HAS_QUERY_IDS": self.query_ids is not None, "HAS_POSITIVE_IDS": self.positive_ids is not None,
            "HAS_NEGATIVE_IDS": self.negative_ids is not None,
            "BLOCK_M": tile.rows, "BLOCK_N": tile.columns, "BLOCK_K": tile.depth,
            "PRECISION": precision(self.queries), "num_warps": tile.warps, "num_stages": tile.stages,
        }  # fmt: skip

    def tile(self, kernel: str) -> Tile:
        """Return the tile of a kernel: the one set in ``tiles``, else the choice of the table."""
        return self.tiles.get(kernel) or choose_tile(
            kernel, len(self.dims), self.queries.dtype, architecture_of(self.queries.device), self.described
        )


def make_problem(
    queries: Tensor,
    positives: Tensor,
    key_queries: Tensor | None,
    negatives: Tensor | None,
    temperature: Tensor,
    query_ids: Tensor | None,
    positive_ids: Tensor | None,
    negative_ids: Tensor | None,
    dims: Sequence[int],
    same_tower: bool,
    offset: int,
    hardness: float,
) -> Problem:
    """Make the problem from the operator's arguments."""

    def dense(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.contiguous()

    rows = queries.contiguous()
    keys = None if not same_tower else rows if key_queries is None else key_queries.contiguous()
    return Problem(
        rows, positives.contiguous(), keys, dense(negatives), temperature, dense(query_ids), dense(positive_ids),
        dense(negative_ids), tuple(dims), key_queries is not None, offset, hardness,
    )  # fmt: skip


def forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """Compute the loss of every row and prefix and its log-sum-exp, both (B, M) float32."""
    rows, columns, count = len(problem.queries), len(problem.positives), len(problem.dims)
    tile, norms, negatives = problem.tile("forward"), problem.norms, problem.negatives
    hard = 0 if negatives is None else negatives.shape[1] if problem.own else len(negatives)
    span = span_columns(rows, columns, tile)
    spans = triton.cdiv(columns, span)
    hard_span = triton.cdiv(triton.cdiv(hard, spans), tile.columns) * tile.columns
    new = {"dtype": torch.float32, "device": problem.queries.device}
    tops, totals, chosen = (torch.empty((spans, rows, count), **new) for _ in range(3))
    shared = None if problem.own else negatives
    matrices = [problem.queries, problem.positives, problem.key_queries, shared]
    described = describe(matrices, tile, problem.described)
    # An unused pointer argument must still be a tensor: the queries stand in.
    spare, spare_norms = problem.queries, norms["queries"]
    by_prefix = {
        name: values if problem.own and name == "negatives" else values.T.contiguous()
        for name, values in norms.items()
        if name != "queries"
    }
    with on_device(problem.queries):
        kernels.forward_kernel[(triton.cdiv(rows, tile.rows), spans)](
            problem.queries, problem.positives, spare if problem.key_queries is None else problem.key_queries,
            spare if negatives is None else negatives, norms["queries"], by_prefix["positives"],
            by_prefix.get("key_queries", spare_norms), by_prefix.get("negatives", spare_norms), problem.temperature,
            problem.query_ids, problem.positive_ids, problem.negative_ids, tops, totals, chosen,
            *described, rows, columns, span, hard, hard_span, problem.offset, problem.hardness,
            HAS_TOWER=problem.key_queries is not None, HAS_OWN=problem.own,
            HAS_SHARED=negatives is not None and not problem.own, **problem.constants(tile),
        )  # fmt: skip
    lses = log_sum(tops, totals)
    return (lses - chosen.sum(0)) * kernels.LN2.value, lses * kernels.LN2.value


def backward(problem: Problem, lses: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """Compute gradients of sum(upstream * losses): queries, positives, key_queries, negatives, temperature."""
    dims, norms = problem.dims, problem.norms
    upstream = upstream.float().contiguous()
    row = Gradient.zeros(problem.queries, dims)
    out: dict[str, Tensor] = {}

    def group(name: str, keys: Tensor, kind: int) -> None:
        columns = Gradient.zeros(keys, dims)
        add_group(problem, keys, norms[name], kind, lses, upstream, row, columns)
        out[name] = columns.finish(keys, norms[name], dims)

    group("positives", problem.positives, kernels.POSITIVES.value)
    if problem.external and problem.key_queries is not None:
        group("key_queries", problem.key_queries, kernels.TOWER.value)
    if problem.negatives is not None and not problem.own:
        group("negatives", problem.negatives, kernels.SHARED.value)
    if problem.own:
        out["negatives"] = own_negatives(problem, lses, upstream, row)
    seen = row.pull.sum()
    if problem.key_queries is not None and not problem.external:
        add_group(problem, problem.queries, norms["queries"], kernels.TOWER.value, lses, upstream, row, None)
        seen = (seen + row.pull.sum()) / 2  # both roles of every pair were added; one belongs to the sum over terms
    out["queries"] = row.finish(problem.queries, norms["queries"], dims)
    out["temperature"] = (-seen / problem.temperature).to(problem.temperature.dtype)
    return out


def add_group(
    problem: Problem,
    keys: Tensor,  # (C, D)
    key_inverse: Tensor,  # (C, M)
    kind: int,
    lses: Tensor,
    upstream: Tensor,
    row: Gradient,
    columns: Gradient | None,
) -> None:
    """Walk the queries' strips against one matrix of keys; without ``columns`` the keys are the queries (G + G^T)."""
    tile = problem.tile("coefficient")
    strips = gradient_strips(problem.queries, keys, problem.dims, tile, problem.tile("product"), row, columns)
    described = describe([problem.queries, keys], tile, problem.described)
    key_inverse = key_inverse.T.contiguous()
    # An unused pointer argument must still be a tensor: as above, one of the same type stands in.
    across = (lses, upstream) if columns is not None else (lses.T.contiguous(), upstream.T.contiguous())
    for strip in strips:
        column_pulls = strip.row_pulls if strip.column_pulls is None else strip.column_pulls
        with on_device(keys):
            kernels.coefficient_kernel[strip.grid](
                problem.queries, keys, problem.norms["queries"], key_inverse, problem.temperature, problem.query_ids,
                problem.positive_ids, problem.negative_ids, lses, upstream, *across, strip.coefficients,
                strip.row_pulls, column_pulls, *described, strip.first, strip.height, len(keys), problem.offset,
                problem.hardness, KIND=kind, SYMMETRIC=columns is None, **problem.constants(tile),
            )  # fmt: skip


def own_negatives(problem: Problem, lses: Tensor, upstream: Tensor, row: Gradient) -> Tensor:
    """Compute the gradient of the own hard negatives; their share of the queries' is added to ``row``."""
    negatives = problem.negatives
    assert negatives is not None
    gradient = torch.zeros_like(negatives)
    rows, hard, width = negatives.shape
    with on_device(negatives):
        kernels.own_negatives_kernel[(triton.cdiv(rows, OWN_ROWS),)](
            problem.queries, negatives, problem.norms["queries"], problem.norms["negatives"], problem.temperature,
            problem.positive_ids, problem.negative_ids, lses, upstream, row.sums, gradient, row.pull, rows, hard,
            problem.offset, problem.hardness, WIDTH=width, OUT_WIDTH=row.sums.shape[1],
            STARTS=(0, *problem.dims[:-1]), DIMS=problem.dims, M=len(problem.dims),
            HAS_NEGATIVE_IDS=problem.negative_ids is not None, BLOCK_M=OWN_ROWS,
            BLOCK_K=OWN_DEPTH, num_warps=4,
        )  # fmt: skip
    return gradient
