"""Triton kernels of the loss. Kernels only: shapes, launches and autograd are in ``contrastive``.

Embeddings are row-major and unnormalised; ``*_inverse`` hold 1 / norm of every prefix, (N, M) float32, ``TINY`` for a
zero vector. STARTS and DIMS bound the columns that each prefix adds, ascending. Logits are kept in base 2 (times log2
e), since exp2 is the hardware's exponential. A tile of logits walks the width once; at each prefix end it is rescaled
and used. No atomics and no locks: no two programs write to the same place, so the same inputs give the same bits.
"""

# No `from __future__ import annotations` here: Triton reads the annotations.
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
# A masked pair starts its product at LOW, and so its logit is far below all others at every prefix: no mask has to be
# kept in registers while the product is computed. TINY instead of zero keeps that true beside a zero vector.
LOW = tl.constexpr(-1e37)
TINY = tl.constexpr(1e-15)
FLOOR = tl.constexpr(-1e18)  # of a masked logit: finite, so that no infinity meets a zero
BOTTOM = tl.constexpr(-1e30)  # of a masked product divided by one of its two norms, for the same reason

# What the columns of a tile are to its rows.
POSITIVES = tl.constexpr(0)
TOWER = tl.constexpr(1)  # the queries, their own column left out
SHARED = tl.constexpr(2)  # negatives that every row sees


@triton.jit
def dot(a, b, product, PRECISION: tl.constexpr):
    """Return product + a @ b; "upcast" is for the interpreter, which cannot multiply bfloat16."""
    if PRECISION == "upcast":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), product, input_precision="ieee")
    else:
        return tl.dot(a, b, product, input_precision=PRECISION)


@triton.jit
def add_products(
    product,  # (BLOCK_M, BLOCK_N) float32
    left,  # (., WIDTH)
    left_rows,  # (BLOCK_M,) int64
    right,  # (., WIDTH)
    right_rows,  # (BLOCK_N,) int64
    left_tiles,  # descriptor of left in (BLOCK_M, BLOCK_K), or None
    right_tiles,  # of right in (BLOCK_N, BLOCK_K), or None
    first_row,  # of the tile of left, used with descriptors, as is the next
    first_column,
    WIDTH: tl.constexpr,
    LO: tl.constexpr,
    HI: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return product + left[rows, LO:HI] @ right[rows, LO:HI]^T.

    With descriptors whole tiles are copied by the hardware, which needs no address in a register; rows beyond a
    matrix are zero there, and those beyond what the caller wants are masked by it, as in the other way.
    """
    if left_tiles is not None:
        for start in range(LO, HI, BLOCK_K):
            a = left_tiles.load([first_row, start])
            b = right_tiles.load([first_column, start])
            product = dot(a, b.T, product, PRECISION)
    else:
        depth = tl.arange(0, BLOCK_K)
        for start in range(LO, HI, BLOCK_K):
            at = start + depth
            from_left = left + left_rows[:, None] * WIDTH + at[None, :]
            from_right = right + right_rows[None, :] * WIDTH + at[:, None]
            if (HI - LO) % BLOCK_K == 0:
                a = tl.load(from_left)
                b = tl.load(from_right)
            else:
                a = tl.load(from_left, mask=at[None, :] < HI, other=0.0)
                b = tl.load(from_right, mask=at[:, None] < HI, other=0.0)
            product = dot(a, b, product, PRECISION)
    return product


@triton.jit
def empty_product(
    own,  # (BLOCK_M,) the rows' own columns
    column,  # (BLOCK_N,)
    columns,
    query_ids,
    positive_ids,
    negative_ids,
    KIND: tl.constexpr,
    HAS_QUERY_IDS: tl.constexpr,
    HAS_POSITIVE_IDS: tl.constexpr,
    HAS_NEGATIVE_IDS: tl.constexpr,
):
    """Zero, or LOW where a pair is not a term: the rules of ``reference.column_masks``."""
    inside = tl.minimum(column, columns - 1)
    masked = (own[:, None] < 0) | (column >= columns)[None, :]
    itself = own[:, None] == column[None, :]
    if KIND == SHARED:
        if HAS_NEGATIVE_IDS:
            masked = masked | (tl.load(positive_ids + own)[:, None] == tl.load(negative_ids + inside)[None, :])
    else:
        if HAS_QUERY_IDS:
            masked = masked | (tl.load(query_ids + own)[:, None] == tl.load(query_ids + inside)[None, :])
        if KIND == POSITIVES:
            if HAS_POSITIVE_IDS:
                masked = masked | (tl.load(positive_ids + own)[:, None] == tl.load(positive_ids + inside)[None, :])
            masked = masked & (own[:, None] != column[None, :])
            masked = masked | (column >= columns)[None, :]
        else:
            masked = masked | itself
    return tl.where(masked, LOW, 0.0)


@triton.jit
def of_columns(values, column, columns, m: tl.constexpr, OTHER: tl.constexpr):
    """Return what (M, columns) values hold of a prefix, OTHER beyond the last column.

    A prefix's values lie beside each other, so that a few wide loads fetch those of a tile: with (columns, M) every
    thread would load each of its many columns by itself. Masked, not clamped, for the same reason.
    """
    return tl.load(values + m * columns + column, mask=column < columns, other=OTHER)


@triton.jit
def filled(value, BLOCK: tl.constexpr, M: tl.constexpr):
    """Return M vectors of one value: what a row block carries from tile to tile, an entry for each prefix.

    A tuple, not a (BLOCK, M) matrix, whose columns could not be read or replaced without a way through shared memory.
    """
    state = ()
    for _ in tl.static_range(M):
        state = state + (tl.full((BLOCK,), value, dtype=tl.float32),)  # type: ignore[assignment]  # noqa: RUF005
    return state


@triton.jit
def walk_columns(
    top, total, positive,  # M of (BLOCK_M,) each: running maximum, running sum, logit of the own positive; base 2
    queries, rows64, query_inverse, own, keys, key_inverse, query_tiles, key_tiles, first_row, first, last, columns,
    scale, query_ids, positive_ids, negative_ids,
    KIND: tl.constexpr, WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    HAS_QUERY_IDS: tl.constexpr, HAS_POSITIVE_IDS: tl.constexpr, HAS_NEGATIVE_IDS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Walk the tiles from ``first`` to ``last`` of one block of rows against one matrix of keys."""
    first_own = tl.min(own, 0)
    last_own = tl.max(own, 0)
    for start in range(first, last, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        column64 = tl.minimum(column, columns - 1).to(tl.int64)
        product = empty_product(
            own, column, columns, query_ids, positive_ids, negative_ids,
            KIND, HAS_QUERY_IDS, HAS_POSITIVE_IDS, HAS_NEGATIVE_IDS,
        )  # fmt: skip
        tops = ()
        totals = ()
        positives = ()
        for m in tl.static_range(M):
            product = add_products(
                product, queries, rows64, keys, column64, query_tiles, key_tiles, first_row, start, WIDTH, STARTS[m],
                DIMS[m], BLOCK_K, PRECISION,
            )  # fmt: skip
            by_row = tl.load(query_inverse + rows64 * M + m) * scale
            # The row's factor is applied where it costs least: to the maximum, and in the exponent's subtraction.
            part = product * of_columns(key_inverse, column, columns, m, 1.0)[None, :]
            chosen = positive[m]
            if KIND == POSITIVES:  # noqa: SIM102  (known at compile time; the second is not)
                if (start <= last_own) & (start + BLOCK_N > first_own):
                    chosen += tl.sum(tl.where(own[:, None] == column[None, :], part, 0.0), 1) * by_row
            new = tl.maximum(top[m], tl.max(part, 1) * by_row)
            summed = tl.sum(tl.exp2(part * by_row[:, None] - new[:, None]), 1)
            tops = tops + (new,)  # type: ignore[assignment]  # noqa: RUF005
            totals = totals + (total[m] * tl.exp2(top[m] - new) + summed,)  # type: ignore[assignment]  # noqa: RUF005
            positives = positives + (chosen,)  # type: ignore[assignment]  # noqa: RUF005
        top = tops
        total = totals
        positive = positives
    return top, total, positive


@triton.jit
def forward_kernel(
    queries, positives, key_queries, negatives,
    query_inverse, positive_inverse, key_inverse,  # (B, M), (M, C), (M, C)
    negative_inverse,  # (B * H, M) of the rows' own; (M, N) of shared ones
    temperature, query_ids, positive_ids, negative_ids,
    tops, totals, chosen,  # (spans, B, M) float32 out, base 2: maximum, sum of exp2(logit - it), logit of the positive
    query_tiles, positive_tiles, tower_tiles, negative_tiles,  # descriptors, or None
    rows, columns, span, hard, hard_span, offset, hardness,
    WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    HAS_TOWER: tl.constexpr, HAS_OWN: tl.constexpr, HAS_SHARED: tl.constexpr,
    HAS_QUERY_IDS: tl.constexpr, HAS_POSITIVE_IDS: tl.constexpr, HAS_NEGATIVE_IDS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum the softmax of a block of rows over a span of columns at every prefix. Grid: (blocks of rows, spans)."""
    first_row = tl.program_id(0) * BLOCK_M
    row = first_row + tl.arange(0, BLOCK_M)
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, columns)
    inside = tl.minimum(row, rows - 1)
    rows64 = inside.to(tl.int64)
    own = inside + offset
    inverse_t = 1.0 / tl.load(temperature).to(tl.float32)
    scale = inverse_t * LOG2E
    top = filled(FLOOR, BLOCK_M, M)
    total = filled(0.0, BLOCK_M, M)
    positive = filled(0.0, BLOCK_M, M)
    top, total, positive = walk_columns(
        top, total, positive, queries, rows64, query_inverse, own, positives, positive_inverse, query_tiles,
        positive_tiles, first_row, first, last, columns, scale,
        query_ids, positive_ids, negative_ids, POSITIVES, WIDTH, STARTS, DIMS, M,
        HAS_QUERY_IDS, HAS_POSITIVE_IDS, HAS_NEGATIVE_IDS, BLOCK_M, BLOCK_N, BLOCK_K, PRECISION,
    )  # fmt: skip
    if HAS_TOWER:
        top, total, positive = walk_columns(
            top, total, positive, queries, rows64, query_inverse, own, key_queries, key_inverse, query_tiles,
            tower_tiles, first_row, first, last, columns, scale,
            query_ids, positive_ids, negative_ids, TOWER, WIDTH, STARTS, DIMS, M,
            HAS_QUERY_IDS, HAS_POSITIVE_IDS, HAS_NEGATIVE_IDS, BLOCK_M, BLOCK_N, BLOCK_K, PRECISION,
        )  # fmt: skip
    sharp = (inverse_t + hardness) * LOG2E
    if HAS_SHARED:
        first = tl.program_id(1) * hard_span
        last = tl.minimum(first + hard_span, hard)
        top, total, positive = walk_columns(
            top, total, positive, queries, rows64, query_inverse, own, negatives, negative_inverse, query_tiles,
            negative_tiles, first_row, first, last, hard, sharp,
            query_ids, positive_ids, negative_ids, SHARED, WIDTH, STARTS, DIMS, M,
            HAS_QUERY_IDS, HAS_POSITIVE_IDS, HAS_NEGATIVE_IDS, BLOCK_M, BLOCK_N, BLOCK_K, PRECISION,
        )  # fmt: skip
    if HAS_OWN:
        for h in range(tl.where(tl.program_id(1) == 0, hard, 0)):  # in one span only
            negative64 = rows64 * hard + h
            product = tl.zeros((BLOCK_M,), dtype=tl.float32)
            sharper = ()
            larger = ()
            for m in tl.static_range(M):
                product = add_row_products(
                    product, queries, rows64, negatives, negative64, WIDTH, STARTS[m], DIMS[m], BLOCK_K
                )  # fmt: skip
                by_row = tl.load(query_inverse + rows64 * M + m) * tl.load(negative_inverse + negative64 * M + m)
                logit = product * by_row * sharp
                if HAS_NEGATIVE_IDS:
                    equal = tl.load(negative_ids + negative64) == tl.load(positive_ids + own)
                    logit = tl.where(equal, FLOOR, logit)
                new = tl.maximum(top[m], logit)
                summed = total[m] * tl.exp2(top[m] - new) + tl.exp2(logit - new)
                sharper = sharper + (new,)  # type: ignore[assignment]  # noqa: RUF005
                larger = larger + (summed,)  # type: ignore[assignment]  # noqa: RUF005
            top = sharper
            total = larger
    to = (tl.program_id(1).to(tl.int64) * rows + rows64) * M
    for m in tl.static_range(M):
        tl.store(tops + to + m, top[m], mask=row < rows)
        tl.store(totals + to + m, total[m], mask=row < rows)
        tl.store(chosen + to + m, positive[m], mask=row < rows)


@triton.jit
def add_row_products(
    product,  # (BLOCK,) float32
    left, left_rows, right, right_rows,
    WIDTH: tl.constexpr, LO: tl.constexpr, HI: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Return product + the dot products of paired rows over LO:HI."""
    depth = tl.arange(0, BLOCK_K)
    for start in range(LO, HI, BLOCK_K):
        at = start + depth
        within = (at < HI)[None, :]
        a = tl.load(left + left_rows[:, None] * WIDTH + at[None, :], mask=within, other=0.0).to(tl.float32)
        b = tl.load(right + right_rows[:, None] * WIDTH + at[None, :], mask=within, other=0.0).to(tl.float32)
        product += tl.sum(a * b, 1)
    return product


@triton.jit
def store_planes(coefficients, held, share, plane, to, within, m: tl.constexpr, M: tl.constexpr):
    """Write what prefix m gives a tile's pairs, or hold it back for the next prefix; return what is held.

    Prefixes are taken in pairs, from the largest on. The smaller of a pair waits for the larger: its plane is the sum
    of both and is multiplied over the smaller's whole width, the larger's plane over what that prefix adds to it. So
    one tile at most waits in registers, however many prefixes there are. One product for each segment would need
    the sums of all larger prefixes: that many tiles, or a second way of all planes through memory.
    """
    kept = share.to(coefficients.dtype.element_ty)
    if (M - 1 - m) % 2 == 0:
        tl.store(coefficients + m * plane + to, kept, mask=within)
        if m > 0:
            both = share + held.to(tl.float32)
            tl.store(coefficients + (m - 1) * plane + to, both.to(coefficients.dtype.element_ty), mask=within)
    return kept


@triton.jit
def coefficient_kernel(
    queries, keys,
    query_inverse, key_inverse,  # (B, M), (M, columns)
    temperature, query_ids, positive_ids, negative_ids,
    lses, upstream,  # (B, M) float32: log-sum-exp, dL/d(loss of row and prefix)
    column_lses, column_upstream,  # (M, columns): the same, read with SYMMETRIC
    coefficients,  # (M, strip, columns) out: see ``store_planes``
    row_pulls,  # (M, column tiles, strip) out: partial sums of g * cosine
    column_pulls,  # (M, row tiles, columns) out, not with SYMMETRIC
    query_tiles, key_tiles,  # descriptors, or None
    first, strip, columns, offset, hardness,
    KIND: tl.constexpr, SYMMETRIC: tl.constexpr,
    WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    HAS_QUERY_IDS: tl.constexpr, HAS_POSITIVE_IDS: tl.constexpr, HAS_NEGATIVE_IDS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Recomputes one tile and writes its coefficients. Grid: (row tiles of the strip, column tiles).

    With SYMMETRIC the keys are the queries and the tile is G + G^T: both roles of a query in one product.
    """
    local = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows64 = (first + tl.minimum(local, strip - 1)).to(tl.int64)
    own = rows64.to(tl.int32) + offset
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    column64 = tl.minimum(column, columns - 1).to(tl.int64)
    inverse_t = 1.0 / tl.load(temperature).to(tl.float32)
    product = empty_product(
        own, column, columns, query_ids, positive_ids, negative_ids,
        KIND, HAS_QUERY_IDS, HAS_POSITIVE_IDS, HAS_NEGATIVE_IDS,
    )  # fmt: skip
    product = tl.where((local >= strip)[:, None], LOW, product)
    itself = tl.where(local < strip, own, -1)
    scale = inverse_t
    if KIND == SHARED:
        scale += hardness
    to = local.to(tl.int64)[:, None] * columns + column[None, :]
    within = (local < strip)[:, None] & (column < columns)[None, :]
    plane = tl.full((), 0, tl.int64) + strip  # not strip.to(): an argument that is 1 is a constant without methods
    plane = plane * columns
    held = product  # no prefix waits yet
    start = tl.program_id(1) * BLOCK_N
    crosses = (start <= tl.max(itself, 0)) & (start + BLOCK_N > tl.min(own, 0))
    for m in tl.static_range(M):
        product = add_products(
            product, queries, rows64, keys, column64, query_tiles, key_tiles, first + tl.program_id(0) * BLOCK_M,
            tl.program_id(1) * BLOCK_N, WIDTH, STARTS[m], DIMS[m], BLOCK_K, PRECISION,
        )  # fmt: skip
        by_row = tl.load(query_inverse + rows64 * M + m)
        by_column = of_columns(key_inverse, column, columns, m, 1.0)
        weight = tl.load(upstream + rows64 * M + m) * inverse_t
        lse = tl.load(lses + rows64 * M + m) * LOG2E
        part = tl.maximum(product * by_column[None, :], BOTTOM)  # the cosine over by_row
        slope = by_row * scale * LOG2E
        power = tl.exp2(part * slope[:, None] - lse[:, None])
        if KIND == POSITIVES:  # noqa: SIM102  (known at compile time; the second is not)
            if crosses:  # not a tile of ones and zeros to subtract, which would stay in registers for all prefixes
                power = tl.where(itself[:, None] == column[None, :], power - 1.0, power)
        if SYMMETRIC:
            other = of_columns(column_upstream, column, columns, m, 0.0) * inverse_t
            lse = of_columns(column_lses, column, columns, m, 0.0) * LOG2E
            g = power * weight[:, None] + tl.exp2(part * slope[:, None] - lse[None, :]) * other[None, :]
            share = g * by_row[:, None]
        else:
            share = power * (weight * by_row)[:, None]
        pull = share * part
        at = m * tl.num_programs(1) + tl.program_id(1)
        tl.store(row_pulls + at.to(tl.int64) * strip + local, tl.sum(pull, 1), mask=local < strip)
        if not SYMMETRIC:
            at = m * tl.num_programs(0) + tl.program_id(0)
            tl.store(column_pulls + at.to(tl.int64) * columns + column, tl.sum(pull, 0), mask=column < columns)
        held = store_planes(coefficients, held, share * by_column[None, :], plane, to, within, m, M)


@triton.jit
def product_kernel(
    coefficients,  # (strip, columns), row-major
    vectors,  # (depth, WIDTH)
    out,  # (count, OUT_WIDTH) float32, added to
    count, depth, columns,
    WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr, LO: tl.constexpr, HI: tl.constexpr, TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add C @ vectors[:, LO:HI] (C^T with TRANSPOSED) to out[:, LO:HI]. Grid: (tiles of HI - LO, tiles of count)."""
    row = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = LO + tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    # Masked, not clamped: a clamped index is not known to be contiguous, and is then read element by element.
    row64 = row.to(tl.int64)
    counted = row < count
    inside = column < HI
    step = tl.arange(0, BLOCK_K)
    product = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, depth, BLOCK_K):
        at = (start + step).to(tl.int64)
        within = at < depth
        read = counted[:, None] & within[None, :]
        if TRANSPOSED:
            a = tl.load(coefficients + at[None, :] * columns + row64[:, None], mask=read, other=0.0)
        else:
            a = tl.load(coefficients + row64[:, None] * columns + at[None, :], mask=read, other=0.0)
        b = tl.load(vectors + at[:, None] * WIDTH + column[None, :], mask=within[:, None] & inside[None, :], other=0.0)
        product = dot(a, b.to(a.dtype), product, PRECISION)
    to = out + row64[:, None] * OUT_WIDTH + column[None, :]
    valid = counted[:, None] & inside[None, :]
    tl.store(to, tl.load(to, mask=valid, other=0.0) + product, mask=valid)


@triton.jit
def own_negatives_kernel(
    queries, negatives, query_inverse, negative_inverse, temperature, positive_ids, negative_ids, lses, upstream,
    query_gradient,  # (B, OUT_WIDTH) float32, added to
    negative_gradient,  # (B, H, WIDTH), written
    row_pulls,  # (B, M) float32, added to
    rows, hard, offset, hardness,
    WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    HAS_NEGATIVE_IDS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Gradients of the rows' own hard negatives, H dot products per row. Grid: (blocks of rows,)."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows64 = tl.minimum(row, rows - 1).to(tl.int64)
    real = (row < rows)[:, None]
    inverse_t = 1.0 / tl.load(temperature).to(tl.float32)
    depth = tl.arange(0, BLOCK_K)
    for h in range(hard):
        negative64 = rows64 * hard + h
        product = tl.zeros((BLOCK_M,), dtype=tl.float32)
        scaled = ()
        along = ()
        for m in tl.static_range(M):
            product = add_row_products(
                product, queries, rows64, negatives, negative64, WIDTH, STARTS[m], DIMS[m], BLOCK_K
            )
            by_row = tl.load(query_inverse + rows64 * M + m)
            by_negative = tl.load(negative_inverse + negative64 * M + m)
            cosine = product * by_row * by_negative
            lse = tl.load(lses + rows64 * M + m)
            power = tl.minimum((cosine * (inverse_t + hardness) - lse) * LOG2E, 1.0)
            g = tl.load(upstream + rows64 * M + m) * tl.exp2(power) * inverse_t
            if HAS_NEGATIVE_IDS:
                equal = tl.load(negative_ids + negative64) == tl.load(positive_ids + rows64 + offset)
                g = tl.where(equal, 0.0, g)
            pulls = row_pulls + rows64 * M + m
            tl.store(pulls, tl.load(pulls) + g * cosine, mask=row < rows)
            scaled = scaled + (g * by_row * by_negative,)  # type: ignore[assignment]  # noqa: RUF005
            along = along + (g * cosine * by_negative * by_negative,)  # type: ignore[assignment]  # noqa: RUF005
        combined = tl.zeros((BLOCK_M,), dtype=tl.float32)
        back = tl.zeros((BLOCK_M,), dtype=tl.float32)
        for m in tl.static_range(M):
            combined += scaled[M - 1 - m]
            back += along[M - 1 - m]
            for begin in range(STARTS[M - 1 - m], DIMS[M - 1 - m], BLOCK_K):
                at = (begin + depth)[None, :]
                there = real & (at < DIMS[M - 1 - m])
                q = tl.load(queries + rows64[:, None] * WIDTH + at, mask=there, other=0.0).to(tl.float32)
                n = tl.load(negatives + negative64[:, None] * WIDTH + at, mask=there, other=0.0).to(tl.float32)
                to = query_gradient + rows64[:, None] * OUT_WIDTH + at
                tl.store(to, tl.load(to, mask=there, other=0.0) + combined[:, None] * n, mask=there)
                to = negative_gradient + negative64[:, None] * WIDTH + at
                value = combined[:, None] * q - back[:, None] * n
                tl.store(to, value.to(negative_gradient.dtype.element_ty), mask=there)
