"""Smaller embeddings: fewer components, int8 by calibrated ranges, one bit per component.

Fewer components: a prefix of a Matryoshka embedding (Kusupati et al. 2022), normalised again.
int8: each component is mapped linearly from the range seen in calibration to -128..127; what lies outside is clipped.
binary: the sign of each component, eight to a byte, first component in the highest bit (numpy.packbits; what FAISS'
binary indexes and usearch's ``b1`` take). Binary is as in sentence-transformers' ``quantize_embeddings`` ("ubinary");
its "int8" has the same ranges, but cuts off where this rounds to the nearest code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_core.numbers import is_whole

Precision = Literal["float32", "int8", "binary"]
PRECISIONS = ("float32", "int8", "binary")


def checked_dims(dims: Iterable[int], dim: int | None = None) -> tuple[int, ...]:
    """Return Matryoshka widths in descending order, without repetitions.

    Args:
        dims: the widths.
        dim: what the largest of them must be.

    Raises:
        ConfigError: no widths, something that is not a positive whole number, or another largest width.
    """
    widths = list(dims) if isinstance(dims, Iterable) and not isinstance(dims, bytes | bytearray) else []
    if not widths or not all(is_whole(width, 1) for width in widths):
        raise ConfigError(f"dims must be positive whole numbers, not {dims!r}")
    chosen = tuple(sorted({int(width) for width in widths}, reverse=True))
    if dim is not None and chosen[0] != dim:
        raise ConfigError(f"dims {chosen}: the largest must be the model's own width, {dim}")
    return chosen


def check_truncate_dim(truncate_dim: int | None, dim: int) -> None:
    """Make sure that embeddings of width ``dim`` can be cut to ``truncate_dim``.

    Raises:
        ConfigError: neither None nor a whole number from 1 to ``dim``.
    """
    if truncate_dim is not None and not is_whole(truncate_dim, 1, dim):
        raise ConfigError(f"truncate_dim must be a whole number from 1 to {dim}, not {truncate_dim!r}")


def check_floats(vectors: Any, what: str) -> Any:
    """Return vectors of floating-point numbers.

    Args:
        vectors: a numpy array or a tensor.
        what: who asks, for the message.

    Raises:
        ConfigError: another type of number: int8 values are scaled component by component, and a byte of binary
            embeddings holds eight components.
    """
    dtype = vectors.dtype if hasattr(vectors, "dtype") else np.asarray(vectors).dtype
    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")  # numpy's name leaves out the byte order
    if "float" not in name:
        raise ConfigError(
            f"{what}: vectors of {name}, not of floats; int8 embeddings need `dequantize` first, binary ones are "
            "compared by Hamming distance; or encode with precision='float32'"
        )
    return vectors


@dataclass(frozen=True)
class Ranges:
    """What calibration learned.

    Attributes:
        lowest: lowest value of each component, (d,).
        highest: highest value of each component, (d,).
        texts: how many texts were looked at.
    """

    lowest: np.ndarray
    highest: np.ndarray
    texts: int

    def to_json(self) -> dict[str, Any]:
        """Return what goes into gecko.json."""
        return {"texts": self.texts, "lowest": self.lowest.tolist(), "highest": self.highest.tolist()}

    @classmethod
    def from_json(cls, value: Any, where: str, width: int | None = None) -> Ranges:
        """Read what :meth:`to_json` wrote.

        Args:
            value: the parsed JSON.
            where: the file, for the message.
            width: how many components there must be.

        Raises:
            ModelError: it is something else, or holds values that are not finite.
        """
        try:
            lowest, highest = (np.asarray(value[key], dtype=np.float32) for key in ("lowest", "highest"))
            if lowest.ndim != 1 or lowest.shape != highest.shape:
                raise ValueError("shapes differ")
            if width is not None and len(lowest) != width:
                raise ValueError("ranges of another width")
            if not (np.isfinite(lowest).all() and np.isfinite(highest).all() and (lowest <= highest).all()):
                raise ValueError("no ranges")
            return cls(lowest, highest, int(value["texts"]))
        except (TypeError, KeyError, IndexError, ValueError, OverflowError):
            raise ModelError(f"{where}: the calibration is damaged; calibrate and save the model again") from None


def ranges_of(embeddings: np.ndarray) -> Ranges:
    """Return the ranges of (n, d) embeddings.

    Raises:
        DataError: fewer than two rows, or values that are not finite.
    """
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise DataError(
            f"calibration needs at least 2 embeddings (n, d), got shape {embeddings.shape}; give more texts"
        )
    if not np.isfinite(embeddings).all():
        raise DataError("calibration embeddings hold values that are not finite")
    return Ranges(embeddings.min(axis=0), embeddings.max(axis=0), len(embeddings))


def quantize(embeddings: np.ndarray, precision: Precision, ranges: Ranges | None = None) -> np.ndarray:
    """Store embeddings in fewer bits.

    Args:
        embeddings: (n, d) float32.
        precision: "float32", "int8" or "binary".
        ranges: from calibration; "int8" needs them.

    Returns:
        (n, d) float32 or int8, or (n, ceil(d / 8)) uint8.

    Raises:
        ConfigError: an unknown precision, or ranges that are missing or of another width.
        DataError: a row that is not finite: no code stands for it.
    """
    check_precision(precision)
    check_floats(embeddings, "quantize")
    faulty = np.argwhere(~np.isfinite(embeddings))
    if len(faulty):
        raise DataError(f"quantize: row {int(faulty[0][0])} is not finite; encode it again or drop it")
    if precision == "float32":
        return embeddings
    if precision == "binary":
        return np.packbits(embeddings > 0, axis=-1)
    if ranges is None:
        raise ConfigError("int8 needs calibration ranges; call model.calibrate(texts) once and save the model")
    if ranges.lowest.shape[0] != embeddings.shape[-1]:
        raise ConfigError(
            f"ranges are for {ranges.lowest.shape[0]} components, the embeddings have {embeddings.shape[-1]}"
        )
    # A component that never moved has no scale; any step will do, it comes out as -128 on both sides.
    step = np.maximum((ranges.highest - ranges.lowest) / 255, np.finfo(np.float32).tiny)
    levels = np.clip(np.rint((embeddings - ranges.lowest) / step), 0, 255)
    return (levels - 128).astype(np.int8)


def dequantize(codes: np.ndarray, ranges: Ranges) -> np.ndarray:
    """Turn int8 codes (n, d) back into float32 (n, d), as closely as 256 levels allow."""
    step = (ranges.highest - ranges.lowest) / 255
    return ((codes.astype(np.float32) + 128) * step + ranges.lowest).astype(np.float32)


def check_precision(precision: str) -> None:
    """Make sure that this is one of ``PRECISIONS``.

    Raises:
        ConfigError: it is not.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def stored_width(dim: int, precision: Precision) -> tuple[int, np.dtype[Any]]:
    """Return the columns and the dtype of the stored array for embeddings of width ``dim``."""
    if precision == "binary":
        return (dim + 7) // 8, np.dtype(np.uint8)
    return dim, np.dtype(np.int8 if precision == "int8" else np.float32)
