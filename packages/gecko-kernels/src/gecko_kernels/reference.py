"""The losses and the pooling in plain PyTorch: the specification, and the oracle of the tests.

Nothing here is meant to be fast. Every rule that the kernels follow (which pairs are masked, what a zero vector or an
empty sequence yields) is decided here and described in ``docs/kernels.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gecko_kernels._arguments import BlockArguments, LossArguments

# A vector no longer than this has no direction: its similarity to everything is 0 and no gradient flows to it.
ZERO_NORM = 1e-12


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which products are accumulated and statistics are kept."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def unit(
    vectors: Tensor,  # (..., d)
) -> Tensor:
    """Scale rows to length one; a zero vector stays zero and has gradient zero."""
    return vectors * inverse_root(vectors.square().sum(-1, keepdim=True))


def inverse_root(squares: Tensor) -> Tensor:
    """Return 1 / sqrt(squares) of squared norms, and 0 (with gradient 0) for a vector without a direction."""
    nonzero = squares > ZERO_NORM**2
    return torch.where(nonzero, torch.where(nonzero, squares, 1.0).rsqrt(), 0.0)


def reference_loss(arguments: LossArguments) -> Tensor:
    """Compute the Gecko loss (Lee et al. 2024, section 3.2) as it is written; differentiable by autograd.

    For row i with own column o = column_offset + i, temperature t and cosine s, summed over Matryoshka prefixes:

        L_i = -log exp(s(q_i, p_o) / t) / ( sum_j exp(s(q_i, p_j) / t) + sum_{j != o} exp(s(q_i, q_j) / t) + negatives )

    Returns:
        Scalar in float32 (float64 for float64 inputs): sum over dims of weight * mean over rows.
    """
    loss = torch.zeros((), dtype=wide(arguments.queries.dtype), device=arguments.queries.device)
    for dim, weight in zip(arguments.dims, arguments.dim_weights, strict=True):
        logits, own = prefix_logits(arguments, dim)
        loss = loss + weight * (logits.logsumexp(1) - own).mean()
    return loss


def prefix_logits(arguments: LossArguments, dim: int) -> tuple[Tensor, Tensor]:
    """Compute all logits of the rows at one prefix, -inf where masked, and those of their own positives.

    Returns:
        (B, everything in the denominator) and (B,).
    """
    q, p, k = _unit_prefixes(arguments, dim)
    temperature = arguments.temperature.to(q.dtype)
    own_column = arguments.column_offset + torch.arange(len(q), device=q.device)
    masks = column_masks(arguments)
    to_positives = q @ p.T / temperature
    blocks = [to_positives.masked_fill(masks["positives"], -torch.inf)]
    if arguments.same_tower:
        blocks.append((q @ k.T / temperature).masked_fill(masks["queries"], -torch.inf))
    if arguments.negatives is not None:
        n = unit(arguments.negatives[..., :dim].to(q.dtype))
        cosines = torch.einsum("bd,bhd->bh", q, n) if arguments.own_negatives else q @ n.T
        # Hardness (EmbeddingGemma, arXiv 2509.20354): the weight exp(a * s) is a constant to the gradient.
        harder = cosines / temperature + arguments.hardness * cosines.detach()
        blocks.append(harder.masked_fill(masks["negatives"], -torch.inf))
    return torch.cat(blocks, 1), to_positives.gather(1, own_column[:, None])[:, 0]


def _unit_prefixes(arguments: LossArguments, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit vectors of queries, positives and key queries (the queries where no others are given)."""
    keys = arguments.queries if arguments.key_queries is None else arguments.key_queries
    q, p, k = (
        unit(vectors[:, :dim].to(wide(vectors.dtype))) for vectors in (arguments.queries, arguments.positives, keys)
    )
    return q, p, k


def column_masks(arguments: LossArguments) -> dict[str, Tensor]:
    """Mark the pairs that do not count as negatives.

    - positive j of another row: equal positive id (the same passage), equal query id (the same question), or closer to
      the query than its own positive by more than the margin;
    - query j: the row itself, equal query id, or closer than the positive by more than the margin;
    - hard negative: its id is the id of the row's own positive.
    """
    masks = _id_masks(arguments)
    for name, mask in margin_masks(arguments).items():
        masks[name] = masks[name] | mask
    return masks


@torch.no_grad()
def margin_masks(arguments: LossArguments) -> dict[str, Tensor]:
    """Mark likely false negatives, s(q_i, x_j) > s(q_i, p_i) + margin at full width (Qwen3-Embedding, 2506.05176).

    Only pairs that ids do not already exclude are marked, and never a row's own positive or a hard negative.

    Returns:
        (B, C) by kind of column, "positives" and "queries"; nothing without a margin.
    """
    if arguments.margin is None:
        return {}
    q, p, k = _unit_prefixes(arguments, arguments.queries.shape[1])
    own_column = arguments.column_offset + torch.arange(len(q), device=q.device)
    limit = (q * p[own_column]).sum(1, keepdim=True) + arguments.margin
    by_id = _id_masks(arguments)
    itself = own_column[:, None] == torch.arange(len(p), device=q.device)
    masks = {"positives": (q @ p.T > limit) & ~itself & ~by_id["positives"]}
    if arguments.same_tower:
        masks["queries"] = (q @ k.T > limit) & ~by_id["queries"]
    return masks


def left_out_share(arguments: LossArguments) -> Tensor:
    """Return the share of in-batch pairs (B x C positives, as many queries) that the margin leaves out; a scalar."""
    masks = list(margin_masks(arguments).values())
    dtype = wide(arguments.queries.dtype)
    return torch.cat(masks, 1).to(dtype).mean() if masks else arguments.queries.new_zeros((), dtype=dtype)


def _id_masks(arguments: LossArguments) -> dict[str, Tensor]:
    rows, columns = len(arguments.queries), len(arguments.positives)
    device = arguments.queries.device
    own_column = arguments.column_offset + torch.arange(rows, device=device)
    itself = own_column[:, None] == torch.arange(columns, device=device)
    same_query = _equal(arguments.query_ids, own_column, itself)
    same_passage = _equal(arguments.positive_ids, own_column, itself)
    masks = {"positives": (same_query | same_passage) & ~itself, "queries": itself | same_query}
    if arguments.negatives is not None:
        shape = (rows, arguments.negatives.shape[1] if arguments.own_negatives else len(arguments.negatives))
        masks["negatives"] = torch.zeros(shape, dtype=torch.bool, device=device)
        if arguments.negative_ids is not None and arguments.positive_ids is not None:
            masks["negatives"] = arguments.negative_ids == arguments.positive_ids[own_column][:, None]
    return masks


def _equal(ids: Tensor | None, own_column: Tensor, itself: Tensor) -> Tensor:
    return torch.zeros_like(itself) if ids is None else ids[own_column][:, None] == ids


def reference_block_kl(arguments: BlockArguments) -> Tensor:
    """Compute the block KL loss as it is written; differentiable by autograd.

    For row i with judged documents J_i, teacher temperature a, temperature t and cosine s, summed over prefixes:

        L_i = sum_{j in J_i} p_ij (log p_ij - log r_ij)
        p_i = softmax_{J_i}(targets_i / a),   r_i = softmax_{J_i}(s_i / t)

    A target of NaN or +inf is not judged; one of -inf is judged with probability 0. Rows with fewer than two judged
    documents, or with none above -inf, do not count.

    Returns:
        Scalar in float32 (float64 for float64 inputs): sum over dims of weight * mean over rows that count.
    """
    dtype = wide(arguments.queries.dtype)
    scores = arguments.targets.to(dtype) / arguments.teacher_temperature
    judged = scores < torch.inf
    counts = (judged.sum(1) >= 2) & (judged & (scores > -torch.inf)).any(1)
    # A row that does not count gets any numbers, so that no NaN arises, and is dropped in the end.
    judged = judged | ~counts[:, None]
    scores = torch.where(counts[:, None], scores, 0.0).masked_fill(~judged, -torch.inf)
    teacher = scores.softmax(1)
    # Zero probabilities add nothing to the sum, where log p is not finite.
    negative_entropy = (teacher * torch.where(teacher > 0, scores.log_softmax(1), 0.0)).sum(1)
    loss = torch.zeros((), dtype=dtype, device=scores.device)
    for dim, weight in zip(arguments.dims, arguments.dim_weights, strict=True):
        q, d = (unit(vectors[:, :dim].to(dtype)) for vectors in (arguments.queries, arguments.documents))
        logits = (q @ d.T / arguments.temperature.to(dtype)).masked_fill(~judged, -torch.inf)
        student = logits.log_softmax(1).masked_fill(~judged, 0.0)
        divergence = negative_entropy - (teacher * student).sum(1)
        loss = loss + weight * torch.where(counts, divergence, 0.0).sum() / counts.sum().clamp(min=1)
    return loss


def reference_pool(
    hidden: Tensor,  # (B, L, D)
    mask: Tensor,  # (B, L), non-zero: the token counts
    *,
    normalize: bool = False,
) -> Tensor:  # (B, D)
    """Average the tokens that count in float32, returned in the dtype of ``hidden``; a row without any is zero."""
    valid = mask.bool()
    summed = torch.where(valid[..., None], hidden, 0).to(wide(hidden.dtype)).sum(1)
    pooled = summed / valid.sum(1, keepdim=True).clamp(min=1)
    return (unit(pooled) if normalize else pooled).to(hidden.dtype)


def reference_packed_pool(
    hidden: Tensor,  # (T, D)
    cu_seqlens: Tensor,  # (B + 1,)
    *,
    normalize: bool = False,
) -> Tensor:  # (B, D)
    """Average packed sequences: sequence b is ``hidden[cu_seqlens[b] : cu_seqlens[b + 1]]``."""
    rows = [
        hidden[start:end].to(wide(hidden.dtype)).sum(0) / max(end - start, 1)
        for start, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True)
    ]
    pooled = torch.stack(rows) if rows else hidden.new_zeros((0, hidden.shape[1]), dtype=wide(hidden.dtype))
    return (unit(pooled) if normalize else pooled).to(hidden.dtype)
