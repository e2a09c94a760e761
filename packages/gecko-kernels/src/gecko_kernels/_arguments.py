"""The arguments of the losses, checked once and brought into one form for every backend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class LossArguments:
    """Checked arguments of the loss; all ids are in column order (entry ``column_offset + i`` belongs to row ``i``)."""

    queries: Tensor  # (B, D)
    positives: Tensor  # (C, D)
    key_queries: Tensor | None  # (C, D); None: the queries themselves, or no same-tower term
    negatives: Tensor | None  # own: (B, H, D); batch: (N, D)
    temperature: Tensor  # scalar
    dims: tuple[int, ...]  # ascending
    dim_weights: tuple[float, ...]  # in the order of dims
    same_tower: bool
    own_negatives: bool
    query_ids: Tensor | None  # (C,)
    positive_ids: Tensor | None  # (C,)
    negative_ids: Tensor | None  # own: (B, H); batch: (N,)
    column_offset: int
    hardness: float
    margin: float | None  # false_negative_margin

    @property
    def tensors(self) -> list[Tensor]:
        """Inputs that a gradient may flow to."""
        inputs = (self.queries, self.positives, self.key_queries, self.negatives, self.temperature)
        return [tensor for tensor in inputs if tensor is not None]


@dataclass(frozen=True)
class BlockArguments:
    """Checked arguments of ``block_kl_loss``."""

    queries: Tensor  # (Q, D)
    documents: Tensor  # (N, D)
    targets: Tensor  # (Q, N), without gradient
    temperature: Tensor  # scalar
    teacher_temperature: float
    dims: tuple[int, ...]  # ascending
    dim_weights: tuple[float, ...]  # in the order of dims

    @property
    def tensors(self) -> list[Tensor]:
        """Inputs that a gradient may flow to."""
        return [self.queries, self.documents, self.temperature]


def shape_of(tensor: Tensor) -> str:
    """Return a shape for messages: (4, 8) rather than torch.Size([4, 8])."""
    return str(tuple(tensor.shape))


def check_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None,
    *,
    temperature: float | Tensor,
    dims: Sequence[int] | None,
    dim_weights: Sequence[float] | None,
    same_tower: bool,
    negatives_scope: str,
    query_ids: Tensor | None,
    positive_ids: Tensor | None,
    negative_ids: Tensor | None,
    key_queries: Tensor | None,
    column_offset: int,
    hardness: float,
    false_negative_margin: float | None = None,
) -> LossArguments:
    """Check every argument of ``same_tower_softmax_loss``.

    Raises:
        ValueError: a shape, a dim, a scope or the temperature does not fit; the message prints expected and found.
        TypeError: a dtype does not fit.
    """
    check_tensors(
        required=("queries", "positives"), queries=queries, positives=positives, negatives=negatives,
        key_queries=key_queries, query_ids=query_ids, positive_ids=positive_ids, negative_ids=negative_ids,
    )  # fmt: skip
    check_flag("same_tower", same_tower)
    _check_matrices(queries, positives, key_queries, column_offset)
    rows, columns = queries.shape[0], positives.shape[0]
    if same_tower and key_queries is None and columns != rows:
        raise ValueError(
            f"same_tower with {rows} queries and {columns} positives: pass key_queries of shape "
            f"{shape_of(positives)} (the query of every positive), or same_tower=False"
        )
    if negatives_scope not in ("own", "batch"):
        raise ValueError(f"negatives_scope: expected 'own' or 'batch', found {negatives_scope!r}")
    own = negatives_scope == "own"
    negatives, negative_ids = _check_negatives(queries, negatives, negative_ids, own)
    _check_ids("query_ids", query_ids, columns, queries.device)
    _check_ids("positive_ids", positive_ids, columns, queries.device)
    if negative_ids is not None and positive_ids is None:
        raise ValueError("negative_ids need positive_ids to be compared with: pass both or neither")
    ordered, weights = check_dims(queries.shape[1], dims, dim_weights)
    if not 0 <= hardness <= torch.finfo(torch.float32).max:
        raise ValueError(f"hardness: expected a finite number >= 0, found {hardness}")
    if false_negative_margin is not None and not false_negative_margin >= 0:
        raise ValueError(f"false_negative_margin: expected None or a number >= 0, found {false_negative_margin}")
    return LossArguments(
        queries=queries,
        positives=positives,
        key_queries=key_queries if same_tower else None,
        negatives=negatives,
        temperature=check_temperature(temperature, queries),
        dims=ordered,
        dim_weights=weights,
        same_tower=same_tower,
        own_negatives=own,
        query_ids=query_ids,
        positive_ids=positive_ids,
        negative_ids=negative_ids,
        column_offset=column_offset,
        hardness=float(hardness),
        margin=None if false_negative_margin is None else float(false_negative_margin),
    )


def check_block(
    queries: Tensor,
    documents: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor,
    teacher_temperature: float,
    dims: Sequence[int] | None,
    dim_weights: Sequence[float] | None,
) -> BlockArguments:
    """Check every argument of ``block_kl_loss``.

    Raises:
        ValueError: a shape, a device, a dim or a temperature does not fit; the message prints expected and found.
        TypeError: a dtype does not fit.
    """
    check_tensors(required=("queries", "documents", "targets"), queries=queries, documents=documents, targets=targets)
    if queries.dim() != 2 or queries.shape[1] == 0:
        raise ValueError(f"queries: expected shape (Q, D) with D >= 1, found {shape_of(queries)}")
    check_floating("queries", queries)
    if documents.dim() != 2 or documents.shape[1] != queries.shape[1]:
        raise ValueError(f"documents: expected shape (N, {queries.shape[1]}), found {shape_of(documents)}")
    check_like("documents", documents, queries)
    expected = (len(queries), len(documents))
    if targets.shape != expected:
        raise ValueError(f"targets: expected shape {expected}, one per query and document, found {shape_of(targets)}")
    check_floating("targets", targets)
    if targets.device != queries.device:
        raise ValueError(f"targets: expected device {queries.device} as queries have, found {targets.device}")
    if not (teacher_temperature > 0 and math.isfinite(teacher_temperature)):
        raise ValueError(f"teacher_temperature: expected a positive number, found {teacher_temperature}")
    ordered, weights = check_dims(queries.shape[1], dims, dim_weights)
    targets, divisor = targets.detach(), float(teacher_temperature)
    wide = torch.float64 if queries.dtype == torch.float64 else torch.float32
    if divisor < 1 or (targets.dtype == torch.float64 and wide != torch.float64):  # else nothing can leave the range
        targets, divisor = below_best(targets, divisor, wide), 1.0
    return BlockArguments(
        queries=queries,
        documents=documents,
        targets=targets,
        temperature=check_temperature(temperature, queries),
        teacher_temperature=divisor,
        dims=ordered,
        dim_weights=weights,
    )


def _check_matrices(queries: Tensor, positives: Tensor, key_queries: Tensor | None, offset: int) -> None:
    if queries.dim() != 2 or queries.shape[0] == 0 or queries.shape[1] == 0:
        raise ValueError(f"queries: expected shape (B, D) with B, D >= 1, found {shape_of(queries)}")
    check_floating("queries", queries)
    rows, width = queries.shape
    check_whole("column_offset", offset)
    if positives.dim() != 2 or positives.shape[1] != width or positives.shape[0] < rows:
        raise ValueError(f"positives: expected shape (C, {width}) with C >= {rows}, found {shape_of(positives)}")
    if not 0 <= offset <= positives.shape[0] - rows:
        raise ValueError(
            f"column_offset: expected 0 <= offset <= {positives.shape[0] - rows} "
            f"({rows} queries, {positives.shape[0]} positives), found {offset}"
        )
    if positives.shape[0] != rows and offset == 0 and key_queries is not None and key_queries.shape[0] == rows:
        raise ValueError(f"key_queries: expected shape {shape_of(positives)}, found {shape_of(key_queries)}")
    for name, other in (("positives", positives), ("key_queries", key_queries)):
        if other is not None:
            check_like(name, other, queries)
    if key_queries is not None and key_queries.shape != positives.shape:
        raise ValueError(f"key_queries: expected shape {shape_of(positives)}, found {shape_of(key_queries)}")


def check_tensors(required: Sequence[str] = (), **named: object) -> None:
    """Check that arguments are tensors.

    Args:
        required: names of those that may not be None; None of others is left to the caller.
        **named: the arguments.

    Raises:
        TypeError: one is something else.
    """
    for name, value in named.items():
        if (value is not None or name in required) and not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, found {type(value).__name__}")


def check_floating(name: str, tensor: Tensor) -> None:
    """Check that a tensor holds numbers that the losses compute with.

    Raises:
        TypeError: it is of another dtype.
    """
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{name}: expected float16, bfloat16, float32 or float64, found {tensor.dtype}")


def check_flag(name: str, value: object) -> None:
    """Check that an argument is true or false.

    Raises:
        TypeError: it is something else.
    """
    # Tuples of types here: torch.compile of the oldest release knows no unions.
    if isinstance(value, (str, Tensor)) or value not in (True, False):
        raise TypeError(f"{name}: expected True or False, found {value!r}")


def check_whole(name: str, value: object) -> None:
    """Check that an argument is a whole number.

    Raises:
        TypeError: it is something else.
    """
    try:
        index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, found {value!r}") from None


def below_best(scores: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
    """Scores below the row's best, divided by a temperature, in ``dtype`` and finite; NaN and infinities as they are.

    The lowest number of a dtype, which many write where a candidate is out of the question, leaves fp32's range when it
    is divided, or cast; a softmax of infinities is NaN. A candidate so low has no probability either way.

    Args:
        scores: (B, N).
        temperature: a positive number.
        dtype: float32 or float64.
    """
    scores = scores.to(torch.promote_types(scores.dtype, dtype))
    known = scores.isfinite()
    best = torch.where(known, scores, -torch.inf).amax(1, keepdim=True) if scores.shape[1] else scores
    below = (scores - torch.where(best.isfinite(), best, 0.0)) / temperature
    return torch.where(known, below.clamp(min=torch.finfo(dtype).min / 4), scores).to(dtype)


def check_like(name: str, tensor: Tensor, queries: Tensor) -> None:
    """Check that a tensor has the dtype and the device of the queries.

    Raises:
        TypeError: the dtype differs.
        ValueError: the device differs.
    """
    if tensor.dtype != queries.dtype:
        raise TypeError(f"{name}: expected dtype {queries.dtype} as queries have, found {tensor.dtype}")
    if tensor.device != queries.device:
        raise ValueError(f"{name}: expected device {queries.device} as queries have, found {tensor.device}")


def _check_negatives(
    queries: Tensor, negatives: Tensor | None, ids: Tensor | None, own: bool
) -> tuple[Tensor | None, Tensor | None]:
    rows, width = queries.shape
    if negatives is None:
        if ids is not None:
            raise ValueError("negative_ids without negatives: pass both or neither")
        return None, None
    check_like("negatives", negatives, queries)
    if negatives.dim() not in (2, 3) or negatives.shape[-1] != width or (own and negatives.shape[0] != rows):
        expected = f"({rows}, {width}) or ({rows}, H, {width})" if own else f"(N, {width}) or (N, H, {width})"
        raise ValueError(f"negatives: expected shape {expected}, found {shape_of(negatives)}")
    if ids is not None and ids.shape != negatives.shape[:-1]:
        raise ValueError(
            f"negative_ids: expected shape {shape_of(negatives[..., 0])}, one per negative, found {shape_of(ids)}"
        )
    if ids is not None:
        _check_ids("negative_ids", ids.reshape(-1), ids.numel(), queries.device)
    if negatives.numel() == 0:
        return None, None
    if own:
        shape = (rows, -1, width)
        return negatives.reshape(shape), None if ids is None else ids.reshape(rows, -1)
    return negatives.reshape(-1, width), None if ids is None else ids.reshape(-1)


def _check_ids(name: str, ids: Tensor | None, count: int, device: torch.device) -> None:
    if ids is None:
        return
    if ids.dtype != torch.int64:
        raise TypeError(f"{name}: expected dtype torch.int64, found {ids.dtype}")
    if ids.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), found {shape_of(ids)}")
    if ids.device != device:
        raise ValueError(f"{name}: expected device {device} as queries have, found {ids.device}")


def check_dims(
    width: int, dims: Sequence[int] | None, weights: Sequence[float] | None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the Matryoshka prefixes in ascending order, and their weights in the same order.

    Raises:
        ValueError: a prefix is wider than the embeddings or given twice, or the weights are too few or too many.
        TypeError: a prefix or a weight is no number.
    """
    given = [*(dims if dims is not None else ()), *(weights if weights is not None else ())]
    # A tuple of types: torch.compile of the oldest release knows no unions.
    if any(isinstance(number, (bool, str)) for number in given):
        raise TypeError(f"dims and dim_weights: expected numbers, found {dims} and {weights}")
    chosen = tuple(int(dim) for dim in dims) if dims is not None else (width,)
    if dims is not None and any(dim != whole for dim, whole in zip(dims, chosen, strict=True)):
        raise ValueError(f"dims: expected whole numbers, found {tuple(dims)}")
    if not chosen or len(set(chosen)) != len(chosen) or min(chosen) < 1 or max(chosen) > width:
        raise ValueError(f"dims: expected distinct numbers in 1..{width} (the width of queries), found {chosen}")
    numbers = tuple(float(weight) for weight in weights) if weights is not None else (1.0,) * len(chosen)
    if len(numbers) != len(chosen):
        raise ValueError(f"dim_weights: expected {len(chosen)} numbers, one per dim, found {len(numbers)}")
    if not all(0 <= number <= torch.finfo(torch.float32).max for number in numbers):
        raise ValueError(f"dim_weights: expected finite numbers >= 0, found {numbers}")
    pairs = sorted(zip(chosen, numbers, strict=True))
    return tuple(dim for dim, _ in pairs), tuple(weight for _, weight in pairs)


def check_temperature(temperature: float | Tensor, queries: Tensor) -> Tensor:
    """Return the temperature as a scalar tensor on the queries' device.

    Raises:
        ValueError: it is not positive (a tensor is looked at on the CPU alone: a GPU would be waited for), or not a
            floating tensor with one element.
    """
    wide = torch.float64 if queries.dtype == torch.float64 else torch.float32
    lowest, highest = torch.finfo(wide).tiny, torch.finfo(wide).max  # below and above, fp32 has 0 and infinity
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 or not temperature.is_floating_point():
            raise ValueError(
                f"temperature: expected a positive number or a floating tensor with one element, "
                f"found shape {shape_of(temperature)}, dtype {temperature.dtype}"
            )
        on_cpu = not torch.compiler.is_compiling() and temperature.device.type == "cpu"
        if on_cpu and not lowest <= float(temperature.detach()) <= highest:
            raise ValueError(f"temperature: expected a positive number, found {float(temperature.detach())}")
        return temperature.reshape(()).to(queries.device)
    if not lowest <= temperature <= highest:
        raise ValueError(f"temperature: expected a positive number, found {temperature}")
    return torch.full((), float(temperature), dtype=wide, device=queries.device)


def weighted_sum(values: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the sum of (M,) values times their weights; equal weights, the usual case, need no copy to the device."""
    if len(set(weights)) == 1:
        return values.sum() * weights[0]
    return (values * values.new_tensor(weights)).sum()
