"""Files and folders that appear whole or not at all, and locks that keep a second process out."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from gecko_core.errors import DataError, GeckoError, first_line

_CURE = "make room or choose another place"
_REPLACED = re.compile(r"\.(?P<name>.+)\.\d+\.old")


@contextmanager
def locked(path: str | Path, busy: GeckoError) -> Iterator[None]:
    """Hold the lock file ``path`` for this process alone; the lock ends with the process, however that ends.

    Args:
        path: the lock file; its folder must exist.
        busy: what to raise where another process holds it.

    Raises:
        GeckoError: ``busy``.
        DataError: the file cannot be created.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise busy from None
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise unwritable(path, error) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def whole_path(path: str | Path, *, folder: Path | None = None, cure: str = _CURE) -> Iterator[Path]:
    """Yield a temporary path; on success it is flushed to disk and renamed to ``path``, on failure removed.

    A reader never sees half a file, and a crash leaves at most a ``.NAME.PID.tmp`` behind (``remove_leftovers``).

    Args:
        path: the file to write; its folder is created if missing.
        folder: where the temporary file is written, on the same file system; beside ``path`` by default.
        cure: how the error line ends.

    Raises:
        DataError: the disk is full or the place cannot be written.
    """
    path = Path(path)
    temporary = (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise unwritable(path, error, cure) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: str | Path, *, folder: Path | None = None, cure: str = _CURE) -> Iterator[BinaryIO]:
    """Yield a binary file that appears under its name when it is complete.

    Args and errors are those of :func:`whole_path`.
    """
    with whole_path(path, folder=folder, cure=cure) as temporary:
        file = temporary.open("wb")
        try:
            yield file
            file.close()
        finally:
            with suppress(OSError):  # what was buffered does not fit either
                file.close()


@contextmanager
def whole_folder(path: str | Path, *, cure: str = _CURE) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that takes its place on success and disappears on failure.

    Every file in it is flushed to disk first. Then a folder at ``path`` is renamed to ``.NAME.PID.old``, the
    new one is renamed to ``path``, and the old one is deleted; where the second rename fails, the old one comes back.
    A process killed between the two renames leaves nothing at ``path``: the next ``whole_folder`` of this path brings
    the old folder back at its start, and so does :func:`remove_leftovers`. One process at a time may write ``path``.

    Args:
        path: the folder to write; its parent is created if missing.
        cure: how the error line ends.

    Yields:
        The folder to fill.

    Raises:
        DataError: the disk is full or the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _restore(path)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for entry in [*temporary.rglob("*"), temporary]:
            flush(entry)
        if path.is_dir():
            path.rename(path.with_name(f".{path.name}.{os.getpid()}.old"))
        temporary.rename(path)
        flush(path.parent)
    except OSError as error:
        raise unwritable(path, error, cure) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _restore(path)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all; half a surrogate pair, which UTF-8 lacks, becomes an escape.

    Raises:
        DataError: see :func:`whole_path`.
    """
    with whole_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any, *, indent: int = 2) -> None:
    """Write ``value`` as indented JSON, keys in the order given, whole or not at all.

    Raises:
        DataError: see :func:`whole_path`.
    """
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def read_json(
    path: str | Path, kind: type = dict, *, error: type[GeckoError] = DataError, cure: str = "restore the file"
) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        kind: what it must hold, ``dict`` or ``list``.
        error: the class of what is raised.
        cure: how the error line ends.

    Returns:
        The value.

    Raises:
        GeckoError: ``error``; the file is missing, cannot be read, is not JSON or holds something else.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: missing; {cure}") from None
    except (OSError, ValueError, RecursionError) as reason:
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else first_line(reason)
        raise error(f"{path}: cannot be read as JSON ({text}); {cure}") from None
    if not isinstance(value, kind):
        wanted = "object" if kind is dict else kind.__name__
        raise error(f"{path}: must hold a JSON {wanted}, holds a {type(value).__name__}; {cure}")
    return value


def remove_leftovers(folder: str | Path) -> None:
    """Clean up below ``folder`` what a killed process left; call it under the folder's lock.

    Temporary files and folders (``.NAME.PID.tmp``) are deleted. A folder that :func:`whole_folder` was about to replace
    (``.NAME.PID.old``) is renamed back where ``NAME`` is missing and deleted otherwise.
    """
    for path in Path(folder).glob("**/.*.tmp"):
        _delete(path)
    for path in list(Path(folder).glob("**/.*.old")):
        if replaced := _REPLACED.fullmatch(path.name):
            _restore(path.with_name(replaced["name"]))


def _restore(path: Path) -> None:
    """Rename the folder that was to be replaced back to ``path`` where that is missing; delete it otherwise."""
    with suppress(OSError):
        entries = [(_REPLACED.fullmatch(entry.name), entry) for entry in path.parent.iterdir()]
        replaced = [entry for match, entry in entries if match and match["name"] == path.name and entry.is_dir()]
        for entry in sorted(
            replaced, key=lambda entry: entry.stat().st_ctime_ns, reverse=True
        ):  # the latest comes back
            if path.exists():
                _delete(entry)
            else:
                entry.rename(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def unwritable(path: str | Path, error: Exception, cure: str = _CURE) -> DataError:
    """What to tell a user whose file cannot be written."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number else str(error) or type(error).__name__
    return DataError(f"{path}: cannot be written ({reason}); {cure}")


def flush(path: Path) -> None:
    """Bring a file or folder to disk, as far as the file system can."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)
