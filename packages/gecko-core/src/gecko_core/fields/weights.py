"""The weights of fields: published, written out by hand, or those that a file of vectors was made with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gecko_core.errors import ConfigError
from gecko_core.fields.stored import read_about

#: Of a field beside chunks of length about 1: what a larger one leaves of them is lost in rounding.
MOST_WEIGHT = 1000.0

#: The fields of a document.
FIELDS = ("title", "chunks", "queries")

#: The weights of Wu and Cao (2024).
PUBLISHED: Mapping[str, float] = {"title": 0.5, "chunks": 0.1, "queries": 1.0}


def parse_weights(text: str) -> dict[str, float]:
    """The weights that an option names.

    Args:
        text: ``published``; ``title=0.5,queries=1``, where fields that are not named weigh nothing; or a file that
            ``gecko-fret vectors`` wrote, whose weights are taken.

    Returns:
        A weight for every field.

    Raises:
        ConfigError: none of these, an unknown field, or a weight that is negative or no number.
        DataError: the file cannot be read.
    """
    if text == "published":
        return dict(PUBLISHED)
    if "=" not in text:
        if Path(text).suffix == ".parquet":
            return checked_weights(read_about(text)["weights"], text)
        raise ConfigError(f"weights {text!r}: write title=0.5,queries=1, or name a .parquet file of gecko-fret vectors")
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name in given:
            raise ConfigError(f"weights {text!r}: {name!r} is there twice; remove one")
        try:
            given[name] = float(value)
        except ValueError:
            raise ConfigError(f"weights {text!r}: {part.strip()!r} is no weight; write NAME=NUMBER") from None
    return checked_weights(given, f"weights {text!r}")


def checked_weights(weights: Mapping[str, float], where: str) -> dict[str, float]:
    """A weight for every field, 0 for those without one.

    Raises:
        ConfigError: an unknown field, or a weight that is negative, too large or not a number.
    """
    for name, weight in weights.items():
        if name not in FIELDS:
            raise ConfigError(f"{where}: no field {name!r}; fields are {', '.join(FIELDS)}")
        if not (isinstance(weight, int | float) and 0 <= weight <= MOST_WEIGHT):
            raise ConfigError(f"{where}: the weight of {name} is {weight}; give a number from 0 to {MOST_WEIGHT:g}")
    return {name: float(weights.get(name, 0.0)) for name in FIELDS}


def shown_weights(weights: Mapping[str, float]) -> str:
    """The weights in one line, as :func:`parse_weights` reads them."""
    return ",".join(f"{name}={weight:g}" for name, weight in weights.items())
