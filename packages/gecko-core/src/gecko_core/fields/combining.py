"""A document's fields in the vectors of its chunks (Wu and Cao 2024, arXiv 2404.05825).

The similarity of a query q to a document of chunks c_1 ... c_n is

    s(q, d) = max_i s(q, c_i) + sum_f w_f s(q, e_f)

where e_f is the mean of the vectors of field f: its title, the queries that an LLM wrote for it, its chunks. With the
inner product as s the sum is the same for all chunks and linear in the query, so that

    s(q, d) = max_i s(q, c_i + sum_f w_f e_f)

and an index of inner products that keeps c_i + sum_f w_f e_f for every chunk ranks by s(q, d) as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from gecko_core.encode.quantization import check_floats
from gecko_core.errors import ConfigError, DataError
from gecko_core.fields.weights import MOST_WEIGHT

#: What stands in for a field that a document lacks: the mean of its chunks, or nothing.
Missing = Literal["chunks", "zero"]

#: Vectors (M, D) of a field, and the document (M,) of each.
FieldVectors = tuple[np.ndarray, np.ndarray]

_ROUNDING = 1e-12  # as a share of the parts' length


def combine(
    chunks: np.ndarray,  # (C, D)
    documents: np.ndarray,  # (C,) integers
    fields: Mapping[str, FieldVectors],
    weights: Mapping[str, float],
    *,
    missing: Missing = "chunks",
    normalize: bool = False,
) -> np.ndarray:
    """The vectors c_i + sum_f w_f e_f that an index keeps, one for each chunk.

    Args:
        chunks: vectors of the chunks; of unit length where similarity is the cosine.
        documents: the document of each chunk, numbered from 0; every number below the largest has a chunk.
        fields: by name, vectors (M, D) and the document (M,) of each; a document may have none or several of a field.
        weights: by name; ``chunks`` is the mean of a document's chunks. A field without a weight is left out.
        missing: what stands in for a field that a document lacks. With ``chunks`` the weights add up to the same for
            every document; ``zero`` is the formula as published, and ranks a document down for lacking a field.
        normalize: scale the sums to unit length, for indexes of cosines; a sum whose parts cancel is zeros. These rank
            otherwise than s(q, d): the sums are the longer, the more a document's fields agree.

    Returns:
        (C, D) float32, in the order of the chunks, computed in fp64.

    Raises:
        ConfigError: shapes or numbers of documents that do not fit, a weight that is not finite, or one of no field.
        DataError: a vector that is not finite.
    """
    if missing not in get_args(Missing):
        raise ConfigError(f"missing must be one of {', '.join(get_args(Missing))}, not {missing!r}")
    vectors = _matrix(chunks, "chunks")
    owners = checked_owners(documents, len(vectors), "chunks")
    count = int(owners.max()) + 1 if len(owners) else 0
    means, present = field_means(vectors, owners, count)
    if not present.all():
        number = int((~present).nonzero()[0][0])
        raise ConfigError(f"document {number} has no chunk; number the documents from 0 without gaps")
    added = np.zeros_like(means)
    for name, weight in weights.items():
        if not abs(weight) <= MOST_WEIGHT:
            raise ConfigError(
                f"the weight of {name!r} is {weight:g}; it must be a number from {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}"
            )
        if name != "chunks" and name not in fields:
            raise ConfigError(
                f"there is a weight for {name!r} and no such field (fields: {', '.join(fields) or 'none'})"
            )
        of_field = means if name == "chunks" else _field(fields[name], name, means, missing)
        added += weight * of_field
    sums = vectors + added[owners]
    if normalize:
        lengths, of_parts = _lengths(sums), np.maximum(_lengths(vectors), _lengths(added)[owners])
        nothing = lengths <= _ROUNDING * of_parts  # what is left of parts that cancel has no direction
        sums = np.where(nothing, 0, sums / np.where(nothing, 1, lengths))
    return sums.astype(np.float32)


def field_means(
    vectors: np.ndarray,  # (M, D)
    documents: np.ndarray,  # (M,) integers
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the vectors of each of ``count`` documents.

    Args:
        vectors: of a field.
        documents: the document of each, below ``count``.
        count: how many documents there are.

    Returns:
        (count, D) fp64, zeros for a document without a vector; and (count,) bool, whether it has one.

    Raises:
        ConfigError: shapes or numbers that do not fit.
        DataError: a vector that is not finite.
    """
    table = _matrix(vectors, "vectors")
    owners = checked_owners(documents, len(table), "vectors")
    if len(owners) and int(owners.max()) >= count:
        raise ConfigError(f"a vector of document {int(owners.max())}, where there are {count} documents")
    numbers = np.bincount(owners, minlength=count) if count else np.zeros(0, dtype=np.int64)
    sums = np.zeros((count, table.shape[1]))
    np.add.at(sums, owners, table)
    return sums / np.maximum(numbers, 1)[:, None], numbers > 0


def _field(field: FieldVectors, name: str, means: np.ndarray, missing: Missing) -> np.ndarray:
    vectors, documents = field
    if len(vectors) and np.ndim(vectors) == 2 and np.shape(vectors)[1] != means.shape[1]:
        raise ConfigError(f"{name}: vectors of {np.shape(vectors)[1]} components, chunks of {means.shape[1]}")
    if not len(vectors):
        return means if missing == "chunks" else np.zeros_like(means)
    of_field, present = field_means(vectors, documents, len(means))
    return np.where(present[:, None], of_field, means) if missing == "chunks" else of_field


def _lengths(vectors: np.ndarray) -> np.ndarray:  # (n, D) -> (n, 1)
    return np.linalg.norm(vectors, axis=1, keepdims=True)


def _matrix(vectors: np.ndarray, what: str) -> np.ndarray:
    check_floats(vectors, "combine")
    table = np.asarray(vectors, dtype=np.float64)
    if table.ndim != 2:
        raise ConfigError(f"{what} must have two dimensions, (n, D), not {table.shape}")
    faulty = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(faulty):
        raise DataError(f"{what}: row {int(faulty[0])} is not finite; encode it again or drop it")
    return table


def checked_owners(documents: np.ndarray, rows: int, what: str) -> np.ndarray:
    """(rows,) int64: the document of each row.

    Raises:
        ConfigError: not as many, or no whole numbers from 0.
    """
    owners = np.asarray(documents)
    if owners.shape != (rows,) or (rows and not np.issubdtype(owners.dtype, np.integer)):
        raise ConfigError(f"{rows} {what} need as many whole numbers of documents, not {owners.dtype} {owners.shape}")
    if rows and int(owners.min()) < 0:
        raise ConfigError(f"document {int(owners.min())}; number the documents from 0")
    return owners.astype(np.int64)
