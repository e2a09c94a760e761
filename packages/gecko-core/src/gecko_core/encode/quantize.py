"""Smaller embeddings: int8 by calibrated ranges, and one bit per component.

int8: each component is mapped linearly from the range seen in calibration to -128..127; what lies outside is clipped.
binary: the sign of each component, eight to a byte, first component in the highest bit (numpy.packbits; what FAISS'
binary indexes and usearch's `b1` take). Both as in sentence-transformers' `quantize_embeddings` ("int8", "ubinary").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gecko_core.errors import ConfigError, DataError, ModelError

Precision = Literal["float32", "int8", "binary"]
PRECISIONS = ("float32", "int8", "binary")


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value of each component (d,), and how many texts showed them."""

    lowest: np.ndarray
    highest: np.ndarray
    texts: int

    def to_json(self) -> dict[str, Any]:
        return {"texts": self.texts, "lowest": self.lowest.tolist(), "highest": self.highest.tolist()}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Ranges:
        """Reads what `to_json` wrote. Raises `ModelError` naming `where` if it is something else."""
        try:
            lowest, highest = (np.asarray(value[key], dtype=np.float32) for key in ("lowest", "highest"))
            if lowest.ndim != 1 or lowest.shape != highest.shape:
                raise ValueError("shapes differ")
            return cls(lowest, highest, int(value["texts"]))
        except (TypeError, KeyError, ValueError):
            raise ModelError(f"{where}: the calibration is damaged; calibrate and save the model again") from None


def ranges_of(embeddings: np.ndarray) -> Ranges:
    """Ranges of (n, d) embeddings. Raises `DataError` for fewer than two rows or values that are not finite."""
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise DataError(
            f"calibration needs at least 2 embeddings (n, d), got shape {embeddings.shape}; give more texts"
        )
    if not np.isfinite(embeddings).all():
        raise DataError("calibration embeddings hold values that are not finite")
    return Ranges(embeddings.min(axis=0), embeddings.max(axis=0), len(embeddings))


def quantize(embeddings: np.ndarray, precision: Precision, ranges: Ranges | None = None) -> np.ndarray:
    """(n, d) float32 -> (n, d) float32 or int8, or (n, ceil(d / 8)) uint8. Raises `ConfigError`."""
    check_precision(precision)
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
    """int8 codes (n, d) -> float32 (n, d), as close as 256 levels allow."""
    step = (ranges.highest - ranges.lowest) / 255
    return ((codes.astype(np.float32) + 128) * step + ranges.lowest).astype(np.float32)


def check_precision(precision: str) -> None:
    """Raises `ConfigError` for a precision we do not know."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def stored_width(dim: int, precision: Precision) -> tuple[int, np.dtype[Any]]:
    """Columns and dtype of the stored array for embeddings of width `dim`."""
    if precision == "binary":
        return (dim + 7) // 8, np.dtype(np.uint8)
    return dim, np.dtype(np.int8 if precision == "int8" else np.float32)
