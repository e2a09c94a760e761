"""The file of a judged set among the names that it may have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gecko_core.errors import DataError


def only_one(paths: Sequence[Path]) -> Path | None:
    """The one of some files that is there; None where none is.

    Raises:
        DataError: several are, and which one is meant is not known; or what is there is no file.
    """
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if len(there) > 1:
        names = " and ".join(path.name for path in there)
        raise DataError(f"{there[0].parent}: holds {names}, of which one alone would be read; remove the others")
    if there and not there[0].is_file():
        raise DataError(f"{there[0]}: is no file; put the data in its place")
    return there[0] if there else None


def holds(folder: Path, name: str) -> bool:
    """Whether ``folder/name`` or ``folder/name.gz`` is there."""
    return (folder / name).is_file() or (folder / f"{name}.gz").is_file()


def find_file(folder: Path, name: str) -> Path:
    """``folder/name`` or ``folder/name.gz``.

    Raises:
        DataError: neither is there, or both are.
    """
    found = only_one([folder / name, folder / f"{name}.gz"])
    if found is None:
        raise DataError(f"{folder}: neither {name} nor {name}.gz is there")
    return found
