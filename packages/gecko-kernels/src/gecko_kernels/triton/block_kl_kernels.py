"""Triton kernels of the block KL loss. Kernels only: shapes, launches and autograd are in ``block_kl``.

Conventions as in ``contrastive_kernels``. Which pairs are terms is in the targets, and a pair's probability is computed
from its target wherever it is needed: no (Q, N) matrix is written but the backward pass's strips of coefficients.
"""

# No `from __future__ import annotations` here: Triton reads the annotations.
import triton
import triton.language as tl

from gecko_kernels.triton.contrastive_kernels import FLOOR, LN2, LOG2E, add_products, filled, of_columns, store_planes

LOWEST = tl.constexpr(-3.4028234663852886e38)  # of float32: below every finite target, and finite itself
INFINITY = tl.constexpr(
    float("inf")
)  # no constant may be NaN: Triton compares constants with their value at compilation


@triton.jit
def teacher_kernel(
    targets,  # (Q, N)
    teachers,  # (Q, 2) float32 out: maximum, log of the sum of exp(target / a - maximum)
    columns, inverse_a,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the softmax statistics of a row's judged targets. Grid: (rows,).

    A row that does not count gets +inf for the log-sum, which makes its probabilities zero wherever they are used.
    """
    row = tl.program_id(0).to(tl.int64)
    top = tl.full((BLOCK,), LOWEST, dtype=tl.float32)  # a running maximum and sum in each lane
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    judged = tl.zeros((BLOCK,), dtype=tl.int32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < columns
        score = tl.load(targets + row * columns + column, mask=inside, other=0.0).to(tl.float32) * inverse_a
        known = inside & (score < INFINITY)  # false for NaN
        score = tl.where(known, score, -INFINITY)
        new = tl.maximum(top, score)
        total = total * tl.exp2((top - new) * LOG2E) + tl.exp2((score - new) * LOG2E)
        top = new
        judged += known.to(tl.int32)
    highest = tl.max(top, 0)
    summed = tl.sum(total * tl.exp2((top - highest) * LOG2E), 0)
    counts = (tl.sum(judged, 0) >= 2) & (summed > 0)
    tl.store(teachers + row * 2, highest)
    tl.store(teachers + row * 2 + 1, tl.where(counts, tl.log2(summed) * LN2, INFINITY))


@triton.jit
def read_teacher(
    targets,
    teachers,
    rows64,  # (BLOCK_M,) int64
    column,  # (BLOCK_N,)
    columns,
    inverse_a,
):
    """Return which pairs of a tile are judged and the log of their probability (-inf where that is 0)."""
    at = rows64[:, None] * columns + column[None, :]
    inside = (column < columns)[None, :]
    score = tl.load(targets + at, mask=inside, other=0.0).to(tl.float32) * inverse_a
    judged = inside & (score < INFINITY)
    top = tl.load(teachers + rows64 * 2)
    log_total = tl.load(teachers + rows64 * 2 + 1)
    return judged, tl.where(judged, score, -INFINITY) - top[:, None] - log_total[:, None]


@triton.jit
def block_forward_kernel(
    queries, documents,
    query_inverse, document_inverse,  # (Q, M), (M, N)
    targets, teachers, temperature,
    tops, totals, crosses,  # (spans, Q, M) float32 out: maximum, sum of exp2(logit - maximum), sum of p (log p - logit)
    query_tiles, document_tiles,  # descriptors, or None
    rows, columns, span, inverse_a,
    WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum the softmax and the cross terms of a block of rows over a span of columns. Grid: (blocks of rows, spans)."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows64 = tl.minimum(row, rows - 1).to(tl.int64)
    scale = LOG2E / tl.load(temperature).to(tl.float32)
    top = filled(FLOOR, BLOCK_M, M)
    total = filled(0.0, BLOCK_M, M)
    cross = filled(0.0, BLOCK_M, M)
    first = tl.program_id(1) * span
    for start in range(first, tl.minimum(first + span, columns), BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        column64 = tl.minimum(column, columns - 1).to(tl.int64)
        product = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        new_top = ()
        new_total = ()
        new_cross = ()
        for m in tl.static_range(M):
            product = add_products(
                product, queries, rows64, documents, column64, query_tiles, document_tiles,
                tl.program_id(0) * BLOCK_M, start, WIDTH, STARTS[m], DIMS[m], BLOCK_K, PRECISION,
            )  # fmt: skip
            by_row = tl.load(query_inverse + rows64 * M + m) * scale
            by_column = of_columns(document_inverse, column, columns, m, 1.0)
            judged, log_p = read_teacher(targets, teachers, rows64, column, columns, inverse_a)
            logits = tl.where(judged, product * by_row[:, None] * by_column[None, :], FLOOR)
            p = tl.exp2(log_p * LOG2E)
            terms = tl.where(p > 0, p * (log_p - logits * LN2), 0.0)
            new = tl.maximum(top[m], tl.max(logits, 1))
            summed = tl.sum(tl.where(judged, tl.exp2(logits - new[:, None]), 0.0), 1)
            new_top = new_top + (new,)  # type: ignore[assignment]  # noqa: RUF005
            new_total = new_total + (total[m] * tl.exp2(top[m] - new) + summed,)  # type: ignore[assignment]  # noqa: RUF005
            new_cross = new_cross + (cross[m] + tl.sum(terms, 1),)  # type: ignore[assignment]  # noqa: RUF005
        top = new_top
        total = new_total
        cross = new_cross
    to = tl.program_id(1).to(tl.int64) * rows + rows64
    for m in tl.static_range(M):
        tl.store(tops + to * M + m, top[m], mask=row < rows)
        tl.store(totals + to * M + m, total[m], mask=row < rows)
        tl.store(crosses + to * M + m, cross[m], mask=row < rows)


@triton.jit
def block_coefficient_kernel(
    queries, documents,
    query_inverse, document_inverse,  # (Q, M), (M, N)
    targets, teachers, temperature,
    lses, upstream,  # (Q, M) float32: log-sum-exp (+inf in rows that do not count), dL/d(loss of row and prefix)
    coefficients,  # (M, strip, columns) out: see ``store_planes``
    row_pulls,  # (M, column tiles, strip) out: partial sums of g * cosine
    column_pulls,  # (M, row tiles, columns) out
    query_tiles, document_tiles,  # descriptors, or None
    first, strip, columns, inverse_a,
    WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Recomputes one tile and writes its coefficients. Grid: (row tiles of the strip, column tiles)."""
    local = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    real = local < strip
    rows64 = (first + tl.minimum(local, strip - 1)).to(tl.int64)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    column64 = tl.minimum(column, columns - 1).to(tl.int64)
    inverse_t = 1.0 / tl.load(temperature).to(tl.float32)
    product = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    to = local.to(tl.int64)[:, None] * columns + column[None, :]
    within = real[:, None] & (column < columns)[None, :]
    plane = tl.full((), 0, tl.int64) + strip  # not strip.to(): an argument that is 1 is a constant without methods
    plane = plane * columns
    held = product  # no prefix waits yet
    for m in tl.static_range(M):
        product = add_products(
            product, queries, rows64, documents, column64, query_tiles, document_tiles,
            first + tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N, WIDTH, STARTS[m], DIMS[m], BLOCK_K,
            PRECISION,
        )  # fmt: skip
        by_row = tl.load(query_inverse + rows64 * M + m)
        by_column = of_columns(document_inverse, column, columns, m, 1.0)
        cosines = product * by_row[:, None] * by_column[None, :]
        judged, log_p = read_teacher(targets, teachers, rows64, column, columns, inverse_a)
        weight = tl.where(real, tl.load(upstream + rows64 * M + m), 0.0) * inverse_t
        lse = tl.load(lses + rows64 * M + m)
        student = tl.where(judged, tl.exp2((cosines * inverse_t - lse[:, None]) * LOG2E), 0.0)
        g = weight[:, None] * (student - tl.exp2(log_p * LOG2E))
        pull = g * cosines
        at = m * tl.num_programs(1) + tl.program_id(1)
        tl.store(row_pulls + at.to(tl.int64) * strip + local, tl.sum(pull, 1), mask=real)
        at = m * tl.num_programs(0) + tl.program_id(0)
        tl.store(column_pulls + at.to(tl.int64) * columns + column, tl.sum(pull, 0), mask=column < columns)
        share = g * by_row[:, None] * by_column[None, :]
        held = store_planes(coefficients, held, share, plane, to, within, m, M)
