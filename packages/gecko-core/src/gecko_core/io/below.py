"""All files below a folder, or a line that says why some could not be seen."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io.tables import unreadable


def files_below(folder: str | Path, suffixes: Collection[str] = (), *, hidden: list[Path] | None = None) -> list[Path]:
    """The files below a folder, in the order of their paths.

    Links to files and to folders are followed. ``Path.rglob`` leaves out what it may not read, and what lies behind
    links to folders, and says nothing.

    Args:
        folder: where to look.
        suffixes: in lower case, of the files that are wanted; none: all files.
        hidden: receives the hidden files and folders (".git", "._a.txt"), which are left out then; None: they are files
            like others.

    Raises:
        DataError: a folder cannot be read, links go in a circle, or a link, hidden ones aside, leads to no file.
    """
    found: list[Path] = []
    root = Path(folder)
    waiting = [(root, frozenset({_real(root)}))]
    while waiting:
        where, above = waiting.pop()
        try:
            entries = list(os.scandir(where))
        except OSError as error:
            raise _no_folder(where, error) from None
        for entry in entries:
            path = where / entry.name
            try:
                if hidden is not None and entry.name.startswith("."):
                    hidden += [path] if entry.is_dir() or _is_wanted(path, suffixes) else []
                elif entry.is_dir():
                    waiting.append((path, above | {_real_below(path, above)}))
                elif _is_wanted(path, suffixes):
                    found += [path] if _is_file(path) else []
            except OSError as error:
                raise unreadable(path, error) from None
    return sorted(found)


def _is_wanted(path: Path, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes or not suffixes


def _is_file(path: Path) -> bool:
    """Whether it is a file, or a link to one; pipes and devices are none."""
    if path.is_symlink() and not path.exists() and not path.name.startswith("."):  # editors lock files by hidden links
        raise DataError(f"{path}: a link to nothing; fetch what it stands for, or remove it")
    return path.is_file()


def _real_below(path: Path, above: frozenset[str]) -> str:
    real = _real(path)
    if real in above:
        raise DataError(f"{path}: leads back to a folder that it is in; remove the link, or name another folder")
    return real


def _real(path: Path) -> str:
    return os.path.realpath(path)


def _no_folder(path: Path, error: OSError) -> DataError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return DataError(f"{path}: the folder cannot be read ({reason}); see its permissions, or name another one")
