"""What a process that was killed left of files and folders that were to appear whole: found, deleted, brought back."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
from contextlib import suppress
from pathlib import Path

#: `.NAME.PID-HOST.tmp`, what is being written; `.NAME.PID-HOST.old`, what is being replaced. Earlier versions: no host.
_OURS = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(?:-(?P<host>[0-9a-f]{6}))?\.(?P<kind>tmp|old)", re.DOTALL)


def remove_leftovers(folder: str | Path) -> None:
    """Clean up below ``folder`` what a killed process left; call it under the folder's lock. Links are not followed.

    Temporary files and folders (``.NAME.PID-HOST.tmp``) are deleted. A folder that ``whole_folder`` was about to
    replace (``.NAME.PID-HOST.old``) is renamed back where ``NAME`` is missing and deleted otherwise.
    """
    for where, folders, names in os.walk(folder, followlinks=False):
        for name in [*folders, *names]:
            match = _OURS.fullmatch(name)
            if match is None:
                continue
            if name in folders:
                folders.remove(name)
            if match["kind"] == "tmp":
                delete(Path(where, name))
            else:
                bring_back(Path(where, match["name"]))


def is_leftover(name: str) -> bool:
    """Whether a file of this name is what :func:`remove_leftovers` removes."""
    return _OURS.fullmatch(name) is not None


def bring_back(path: str | Path) -> None:
    """Rename the folder that was to be replaced back to ``path`` where that is missing; delete it otherwise."""
    path = Path(path)
    with suppress(OSError):
        replaced = [entry for entry in _left(path, path.parent, "old") if entry.is_dir()]
        # The latest comes back.
        for entry in sorted(replaced, key=lambda entry: entry.stat().st_ctime_ns, reverse=True):
            if path.exists() or entry.is_symlink():
                delete(entry)
            else:
                entry.rename(path)


def temporary_name(path: Path, kind: str, folder: Path | None = None) -> Path:
    """What is being written to ``path``, or replaced there, is called so meanwhile.

    Args:
        path: the file or folder.
        kind: ``tmp`` for what is being written, ``old`` for what is being replaced.
        folder: where it lies; beside ``path`` by default.
    """
    return (folder or path.parent) / f".{path.name}.{os.getpid()}-{_host()}.{kind}"


def clear_leftovers(path: Path, folder: Path) -> None:
    """Delete what processes of this machine that have ended left of writing ``path``."""
    for entry in _left(path, folder, "tmp"):
        match = _OURS.fullmatch(entry.name)
        if match and match["host"] == _host() and not _is_running(int(match["pid"])):
            delete(entry)


def delete(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _host() -> str:
    """Six digits for this machine, or container: process numbers are its own."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _left(path: Path, folder: Path, kind: str) -> list[Path]:
    """What processes that wrote ``path`` have, or had, in ``folder``."""
    matches = [(_OURS.fullmatch(entry.name), entry) for entry in folder.iterdir()] if folder.is_dir() else []
    return [entry for match, entry in matches if match and match["name"] == path.name and match["kind"] == kind]


def _is_running(pid: int) -> bool:
    if os.name == "nt" or pid == os.getpid():  # on Windows os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
