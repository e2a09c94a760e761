"""The Gecko loss (Lee et al. 2024, section 3.2): in-batch softmax with hard negatives and same-tower negatives.

Options beyond the paper, off by default: the hardness weight (EmbeddingGemma, arXiv 2509.20354) and the margin mask for
false negatives (Qwen3-Embedding, arXiv 2506.05176).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gecko_core.io import Section
from gecko_train.loss.base import MOST_DOCUMENTS, Holdings, LossBatch, Needs, Temperature

if TYPE_CHECKING:
    from torch import Tensor


class ContrastiveConfig(Section):
    """The options of the Gecko loss; they stand directly under ``objective``."""

    contrastive_weight: float = Field(default=1.0, ge=0, description="factor of the Gecko loss; 0: other terms alone")
    temperature: Temperature = Field(
        default=0.02, description="not stated in the paper; 0.01 to 0.05 is the field's range"
    )
    dims: list[int] | None = Field(default=None, description="Matryoshka dims; default: the student's")
    dim_weights: list[float] | None = Field(default=None, description="default: equal (1 each)")
    in_batch: bool = Field(
        default=True,
        description="other rows' passages and, with `same_tower`, queries are negatives; false: own hard negatives",
    )
    same_tower: bool = Field(default=True, description="other queries of the batch are negatives (SamToNe)")
    negatives_scope: Literal["own", "batch"] = Field(
        default="own", description="own: a row's hard negatives count for it alone"
    )
    hard_negatives: int = Field(default=1, ge=0, le=MOST_DOCUMENTS, description="hard negatives per row")
    hardness: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="weight exp(a * sim(q, p-)) of hard negatives (EmbeddingGemma: 5)",
    )
    false_negative_margin: float | None = Field(
        default=None,
        ge=0,
        description="other rows' positives and queries this much nearer to the query than its positive do not count; "
        "hard negatives always do",
    )
    false_negative_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="judged passages whose probability (or scaled score) is above this share of the row's best are no "
        "negatives (CADeT: 0.6); for sets with scores",
    )

    def check(self) -> None:
        """Check what the types of single fields cannot: that the fields go together.

        Raises:
            ValueError: they do not.
        """
        if self.dim_weights is not None and (self.dims is None or len(self.dim_weights) != len(self.dims)):
            raise ValueError("dim_weights needs dims of the same length")
        if self.dim_weights is not None and (min(self.dim_weights) < 0 or not any(self.dim_weights)):
            raise ValueError("dim_weights must not be negative, and one at least must be above 0")
        if self.dims is not None and (not self.dims or min(self.dims) < 1 or len({*self.dims}) < len(self.dims)):
            raise ValueError("dims must be different positive whole numbers, one at least")
        if not self.contrastive_weight:
            return
        if not self.in_batch and not self.hard_negatives:
            raise ValueError("in_batch: false leaves no negatives; set hard_negatives to 1 or more")
        if self.negatives_scope == "batch" and not self.in_batch:
            raise ValueError("in_batch: false and negatives_scope: batch exclude each other; leave one out")
        if self.negatives_scope == "batch" and self.false_negative_share is not None:
            raise ValueError("false_negative_share looks at a row's own candidates; use negatives_scope: own")


class ContrastiveTerm:
    """``gecko_kernels.same_tower_softmax_loss`` with the options of a recipe, over the rows with a known answer.

    What the kernels cannot leave out, single pairs by the teacher's word or all of the batch, ``masked_softmax_loss``
    does.

    Args:
        config: the options.
        dims: Matryoshka dims.
    """

    def __init__(self, config: ContrastiveConfig, dims: Sequence[int]):
        self.config = config
        self.dims = tuple(dims)
        self.needs = Needs(documents=1 + config.hard_negatives)

    def refusal(self, rows: Holdings) -> str | None:
        """Why a set must not be trained on with these options, and the cure; None where it may be.

        Args:
            rows: the set.
        """
        config = self.config
        if config.negatives_scope == "batch" and config.hard_negatives and rows.has_labels():
            return (
                "its rows have classes, and with objective.negatives_scope: batch a hard negative of one row may be of "
                "another row's class; give this set `objective: {negatives_scope: own}`, or `label_ids: unique`"
            )
        return None

    def lack(self, rows: Holdings) -> str | None:
        """What a set lacks for the loss to learn from it, and the cure; None where it can.

        Args:
            rows: the set.
        """
        if not rows.has_answers():
            return (
                "no row has a query and its answer, without which the contrastive loss learns nothing; name a set with "
                "positives, or objective.contrastive_weight: 0 and a term that needs none (kl, or a teacher's)"
            )
        config = self.config
        if (config.in_batch and rows.has_other_answers()) or (config.hard_negatives and rows.has_hard_negatives()):
            return None
        hard = "there is no hard negative" if config.hard_negatives else "objective.hard_negatives is 0"
        if config.in_batch:
            alike = (
                "it has one row"
                if len(rows) == 1
                else f"no two of its {len(rows)} rows differ in query, positive and label"
            )
            hard = f"{alike}, and {hard}"
        return f"the contrastive loss has nothing to compare a positive with: {hard}; add rows or hard negatives"

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``; watched are mean similarities and the share of pairs that were left out."""
        from gecko_kernels import same_tower_softmax_loss

        batch = batch.answered_only()
        if not len(batch.queries):
            return batch.queries.sum() * 0.0, {}
        config, positives = self.config, batch.positives
        negatives, negative_ids = self._negatives(batch)
        watched = _similarities(batch, config.hard_negatives)
        options: dict[str, Any] = {
            "temperature": config.temperature,
            "dims": self.dims,
            "dim_weights": tuple(config.dim_weights) if config.dim_weights else None,
            "same_tower": config.same_tower,
            "query_ids": batch.query_ids,
            "positive_ids": batch.document_ids[:, 0],
            "negative_ids": negative_ids,
            "hardness": config.hardness,
            "false_negative_margin": config.false_negative_margin,
        }
        likely = self._likely(batch)
        if likely is not None or not config.in_batch:
            loss, left_out = masked_softmax_loss(
                batch.queries, positives, negatives, in_batch=config.in_batch, likely=likely, **options
            )
        else:
            options["negatives_scope"] = config.negatives_scope
            loss, left_out = same_tower_softmax_loss(
                batch.queries, positives, negatives, return_left_out=True, **options
            )
        masks = likely is not None or config.false_negative_margin is not None
        return loss, {**watched, "left_out": left_out} if masks else watched

    def _negatives(self, batch: LossBatch) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Hard negatives and their ids: (B, H, D) and (B, H), each row's own; or (N, D) and (N,), all rows' for all."""
        last = 1 + self.config.hard_negatives
        if last == 1:
            return None, None
        negatives, ids = batch.documents[:, 1:last], batch.document_ids[:, 1:last]
        if self.config.negatives_scope == "own":
            return negatives, ids
        # What stands for a missing one is by its id no negative of its own row, but would be one of all others.
        there = ~batch.repeated(last)[:, 1:]
        return negatives[there], queries_as_answers(ids[there], batch.query_ids, batch.document_ids[:, 0])

    def _likely(self, batch: LossBatch) -> tuple[Tensor, Tensor] | None:
        """Which positives (B, B) and own negatives (B, H) the teacher takes for answers; None without a block."""
        block = batch.block
        if self.config.false_negative_share is None or block is None or block.likely is None:
            return None
        own = block.rows[:, 1 : 1 + self.config.hard_negatives]
        return block.likely[:, block.rows[:, 0]], block.likely.gather(1, own)


def queries_as_answers(
    negative_ids: Tensor,  # (N,)
    query_ids: Tensor,  # (B,)
    positive_ids: Tensor,  # (B,)
) -> Tensor:
    """Ids of negatives that count for all rows, where the text of a row's query has the id of that row's positive.

    Of a row, its positive is no negative by that id, and its own query must be none either.
    """
    import torch

    queries, order = query_ids.sort()
    places = torch.searchsorted(queries, negative_ids.contiguous()).clamp(max=len(queries) - 1)
    return torch.where(queries[places] == negative_ids, positive_ids[order[places]], negative_ids)


def masked_softmax_loss(
    queries: Tensor,  # (B, D)
    positives: Tensor,  # (B, D)
    negatives: Tensor | None,  # (B, H, D), each row's own
    *,
    temperature: float,
    dims: Sequence[int],
    dim_weights: Sequence[float] | None,
    in_batch: bool,
    same_tower: bool,
    query_ids: Tensor,  # (B,)
    positive_ids: Tensor,  # (B,)
    negative_ids: Tensor | None,  # (B, H)
    hardness: float,
    false_negative_margin: float | None,
    likely: tuple[Tensor, Tensor] | None,  # (B, B) and (B, H) bool
) -> tuple[Tensor, Tensor]:
    """Compute the Gecko loss in plain PyTorch, with a mask for single pairs; memory grows with B x (2 B + H).

    The rules are those of ``gecko_kernels.same_tower_softmax_loss``: equal ids are never negatives of each other, and
    the margin looks at the full width.

    Args:
        queries: unnormalised embeddings.
        positives: likewise.
        negatives: likewise.
        temperature: of the softmax.
        dims: Matryoshka prefixes, re-normalised and added up.
        dim_weights: one per entry of ``dims``; None: all 1.
        in_batch: whether other rows' positives (and queries) are negatives.
        same_tower: whether the queries are.
        query_ids: equal queries are not negatives of each other.
        positive_ids: nor are equal positives.
        negative_ids: nor is a row's own positive.
        hardness: a of the weight exp(a * cosine) of own negatives, a constant to the gradient.
        false_negative_margin: in-batch negatives with a cosine above the positive's plus this do not count.
        likely: pairs that do not count because the teacher takes the passage for an answer.

    Returns:
        The loss, scalar, mean over rows, and the share of the pairs that margin and teacher leave out.
    """
    import torch
    from torch.nn.functional import normalize

    dtype = torch.promote_types(queries.dtype, torch.float32)
    kept = _kept_by_id(in_batch, same_tower, query_ids, positive_ids, negative_ids)
    pairs = _count(kept)
    if likely is not None:
        for name, mask in zip(("positives", "negatives"), likely, strict=True):
            if name in kept:
                kept[name] = kept[name] & ~mask
    if false_negative_margin is not None and in_batch:
        _apply_margin(kept, queries, positives, false_negative_margin)
    loss = queries.new_zeros((), dtype=dtype)
    for dim, weight in zip(dims, dim_weights or [1.0] * len(dims), strict=True):
        q, p = (normalize(vectors[:, :dim].to(dtype), dim=-1) for vectors in (queries, positives))
        own = (q * p).sum(-1, keepdim=True) / temperature
        columns = {}
        if "positives" in kept:
            columns["positives"] = q @ p.T / temperature
        if "queries" in kept:
            columns["queries"] = q @ q.T / temperature
        if negatives is not None:
            hard = torch.einsum("bd,bhd->bh", q, normalize(negatives[..., :dim].to(dtype), dim=-1))
            columns["negatives"] = hard / temperature + hardness * hard.detach()
        masked = [columns[name].masked_fill(~mask, -torch.inf) for name, mask in kept.items()]
        loss = loss + weight * (torch.cat([own, *masked], 1).logsumexp(1) - own[:, 0]).mean()
    return loss, loss.new_tensor(1 - _count(kept) / max(1, pairs))


def _kept_by_id(
    in_batch: bool, same_tower: bool, query_ids: Tensor, positive_ids: Tensor, negative_ids: Tensor | None
) -> dict[str, Tensor]:
    """Which pairs count as negatives by kind of column: (B, B), (B, B), (B, H). A row's own positive does not."""
    kept = {}
    if in_batch:
        same_query = query_ids[:, None] == query_ids
        kept["positives"] = ~(same_query | (positive_ids[:, None] == positive_ids))
        if same_tower:
            kept["queries"] = ~same_query
    if negative_ids is not None:
        kept["negatives"] = negative_ids != positive_ids[:, None]
    return kept


def _apply_margin(kept: dict[str, Tensor], queries: Tensor, positives: Tensor, margin: float) -> None:
    """Leave out what is nearer to the query than its positive by more than the margin, at full width."""
    from torch.nn.functional import normalize

    q, p = normalize(queries.detach().float(), dim=-1), normalize(positives.detach().float(), dim=-1)
    limit = (q * p).sum(-1, keepdim=True) + margin
    kept["positives"] &= q @ p.T <= limit
    if "queries" in kept:
        kept["queries"] &= q @ q.T <= limit


def _count(kept: dict[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in kept.values())


def _similarities(batch: LossBatch, hard: int) -> dict[str, Tensor]:
    """Mean cosines of queries with their positives, with other rows' and, where there are some, with hard negatives."""
    from torch.nn.functional import normalize

    q, d = normalize(batch.queries.detach(), dim=-1), normalize(batch.documents[:, : 1 + hard].detach(), dim=-1)
    watched = {"positive_similarity": (q * d[:, 0]).sum(-1).mean()}
    if len(q) > 1:
        watched["in_batch_similarity"] = (q * d[:, 0].roll(1, 0)).sum(-1).mean()
    there = ~batch.repeated(1 + hard)[:, 1:]
    if bool(there.any()):
        watched["negative_similarity"] = (q[:, None] * d[:, 1:]).sum(-1)[there].mean()
    return watched
