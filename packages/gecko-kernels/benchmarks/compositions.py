"""The loss as others compute it, each as a function of (queries, positives, negatives or None) at one problem.

Every composition minimises over the same terms as far as its library can: sentence-transformers lets each row see all
hard negatives and cannot mask ids, so problems are made without ids, and rows with hard negatives are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gecko_kernels import same_tower_softmax_loss
from gecko_kernels._arguments import check_loss
from gecko_kernels.reference import reference_loss

TEMPERATURE = 0.05
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def ours(dims: Sequence[int]) -> Loss:
    """gecko_kernels, the backend of the device."""

    def loss(queries: Tensor, positives: Tensor, negatives: Tensor | None) -> Tensor:
        return same_tower_softmax_loss(queries, positives, negatives, temperature=TEMPERATURE, dims=dims)

    return loss


def eager(dims: Sequence[int]) -> Loss:
    """The reference of the tests, as it stands."""

    def loss(queries: Tensor, positives: Tensor, negatives: Tensor | None) -> Tensor:
        return reference_loss(
            check_loss(
                queries, positives, negatives, temperature=TEMPERATURE, dims=dims, dim_weights=None, same_tower=True,
                negatives_scope="own", query_ids=None, positive_ids=None, negative_ids=None, key_queries=None,
                column_offset=0, hardness=0.0,
            )
        )  # fmt: skip

    return loss


def compiled(dims: Sequence[int]) -> Loss:
    """The reference under torch.compile (on CPU this needs a C++ compiler)."""
    return torch.compile(eager(dims))


class Given(nn.Module):
    """Stands where sentence-transformers expects a model: the embeddings are the input."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, features: dict[str, Tensor], **_: object) -> dict[str, Tensor]:
        return {**features, "sentence_embedding": features["embedding"]}

    def get_embedding_dimension(self) -> int:
        return self.width


def _sentence_transformers(dims: Sequence[int], cached: bool) -> Loss:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    options = {"scale": 1 / TEMPERATURE, "directions": ("query_to_doc", "query_to_query")}
    model = SentenceTransformer(modules=[Given(max(dims))], device="cpu")
    inner = (
        losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=512, **options)
        if cached
        else losses.MultipleNegativesRankingLoss(model, **options)
    )
    whole = losses.MatryoshkaLoss(model, inner, matryoshka_dims=list(dims))

    def loss(queries: Tensor, positives: Tensor, negatives: Tensor | None) -> Tensor:
        columns = [queries, positives] + ([] if negatives is None else list(negatives.unbind(1)))
        return whole([{"embedding": column} for column in columns], None)

    return loss


def sentence_transformers(dims: Sequence[int]) -> Loss:
    """MatryoshkaLoss over MultipleNegativesRankingLoss with query_to_query."""
    return _sentence_transformers(dims, cached=False)


def sentence_transformers_cached(dims: Sequence[int]) -> Loss:
    """The same over CachedMultipleNegativesRankingLoss; its mini-batches re-run a model that costs nothing here."""
    return _sentence_transformers(dims, cached=True)


class _ChunkedInForward(torch.autograd.Function):
    """Rows in chunks, each chunk's gradient by autograd in the forward pass: the way of Liger's chunked losses."""

    @staticmethod
    def forward(ctx, queries, positives, negatives, dims, rows):  # type: ignore[no-untyped-def]
        gradients = [None if tensor is None else torch.zeros_like(tensor) for tensor in (queries, positives, negatives)]
        total = queries.new_zeros((), dtype=torch.float32)
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            with torch.enable_grad():
                own = None if negatives is None else negatives[part].detach().requires_grad_()
                leaves = [queries[part].detach(), queries.detach(), positives.detach()]
                leaves = [leaf.requires_grad_() for leaf in leaves] + ([] if own is None else [own])
                arguments = check_loss(
                    leaves[0], leaves[2], own, temperature=TEMPERATURE, dims=dims, dim_weights=None, same_tower=True,
                    negatives_scope="own", query_ids=None, positive_ids=None, negative_ids=None,
                    key_queries=leaves[1], column_offset=start, hardness=0.0,
                )  # fmt: skip
                share = reference_loss(arguments) * (len(leaves[0]) / len(queries))
                found = torch.autograd.grad(share, leaves)
            total += share.detach()
            gradients[0][part] += found[0]
            gradients[0] += found[1]
            gradients[1] += found[2]
            if own is not None:
                gradients[2][part] = found[3]
        ctx.gradients = gradients
        return total

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[no-untyped-def]
        return *(None if tensor is None else tensor * upstream for tensor in ctx.gradients), None, None


def chunked_in_forward(dims: Sequence[int]) -> Loss:
    """512 rows at a time."""
    return lambda queries, positives, negatives: _ChunkedInForward.apply(queries, positives, negatives, dims, 512)


COMPOSITIONS: dict[str, Callable[[Sequence[int]], Loss]] = {
    "gecko-kernels": ours,
    "eager": eager,
    "torch.compile": compiled,
    "sentence-transformers": sentence_transformers,
    "sentence-transformers-cached": sentence_transformers_cached,
    "chunked-in-forward": chunked_in_forward,
}


def make_inputs(
    rows: int, width: int, hard: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Random embeddings with gradients wanted."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()

    return normal(rows, width), normal(rows, width), normal(rows, hard, width) if hard else None


def backward(loss: Callable[..., Tensor], inputs: tuple[Tensor | None, ...]) -> Tensor:
    """Forward and backward, gradients cleared first."""
    for tensor in inputs:
        if tensor is not None:
            tensor.grad = None
    value = loss(*inputs)
    value.backward()
    return value
