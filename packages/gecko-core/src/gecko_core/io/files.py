"""Files and folders that appear whole or not at all, and locks that keep a second process out.

The one writer of all packages. What it promises: a reader sees the old content or the new, never a mixture; a full disk
is one line, also where a library writes (NumPy, safetensors, tokenizers); nothing is written or deleted through a link;
files get the mode that the user's umask gives; what a killed process left is cleared away when the name is written
again or by :func:`~gecko_core.io.leftovers.remove_leftovers`.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import json
import os
import platform
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from gecko_core.errors import DataError, GeckoError, first_line
from gecko_core.io.leftovers import bring_back, clear_leftovers, delete, temporary_name

_CURE = "make room or choose another place"
#: Errors that no room helps against.
_NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_OS_ERROR = re.compile(r"os error (\d+)|[Cc]ode: (\d+)")


@contextmanager
def locked(path: str | Path, busy: GeckoError) -> Iterator[None]:
    """Hold the lock file ``path`` for this process alone; the lock ends with the process, however that ends.

    The file stays, unless its folder holds nothing else: a command that was refused leaves no trace of itself.

    Args:
        path: the lock file; its folder must exist.
        busy: what to raise where another process holds it.

    Raises:
        GeckoError: ``busy``.
        DataError: the file cannot be created, or is a link.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    refuse_link(path)
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
        with suppress(OSError), os.scandir(path.parent) as entries:
            if all(entry.name == path.name for entry in entries):
                path.unlink(missing_ok=True)
        lock.release()


def missing_folders(path: str | Path) -> list[Path]:
    """A folder that is to be made and those above it, as far as they are not there; the deepest first."""
    return [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, as far as they are not there.

    Args:
        path: the folder.

    Raises:
        DataError: it cannot be made: the disk is full, a file has that name, nothing may be written there.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # "\0" in its name
        raise unwritable(path, error) from None


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that hold nothing, so that a command that was refused leaves no trace of itself.

    Args:
        folders: the deepest first.
    """
    for folder in folders:
        with suppress(OSError):  # it holds something by now
            folder.rmdir()


@contextmanager
def whole_path(path: str | Path, *, folder: Path | None = None, cure: str = _CURE) -> Iterator[Path]:
    """Yield a temporary path; on success it is flushed to disk and renamed to ``path``, on failure removed.

    The temporary file exists and is empty: write into it. A reader never sees half a file; a process that is killed
    leaves at most a ``.NAME.PID-HOST.tmp`` behind, which the next writer of this path deletes.

    Args:
        path: the file to write; its folder is created if missing. A link is refused.
        folder: where the temporary file is written, on the same file system; beside ``path`` by default.
        cure: how the error line ends.

    Raises:
        DataError: the disk is full, the place cannot be written, or ``path`` is a link or no file.
    """
    path = Path(path)
    refuse_link(path)
    temporary = temporary_name(path, "tmp", folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            kind = "folder" if path.is_dir() else "pipe or a device"
            raise DataError(f"{path}: is a {kind}, and a file is to be written there; move it, or name another path")
        clear_leftovers(path, temporary.parent)
        mode = _create(temporary)
        yield temporary
        _set_mode(temporary, mode)
        flush(temporary)
        _check_room(temporary)
        temporary.replace(path)
        flush(path.parent)
    except Exception as error:
        if _is_of_disk(error):
            raise unwritable(path, error, cure) from None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: str | Path, *, folder: Path | None = None, cure: str = _CURE) -> Iterator[BinaryIO]:
    """Yield a binary file that appears under its name when it is complete.

    Args and errors are those of :func:`whole_path`.
    """
    with whole_path(path, folder=folder, cure=cure) as temporary:
        file = _PlainFile(temporary)
        try:
            yield cast(BinaryIO, file)
            file.close()
        finally:
            with suppress(OSError):  # what was buffered does not fit either
                file.close()


class _PlainFile(io.BufferedIOBase):
    """A file to write that NumPy does not take for one of C's.

    To the latter it writes past Python, and where the disk is full the C library drops the last bytes without an error.
    """

    def __init__(self, path: Path):
        self._file = path.open("wb")

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        try:
            self._file.close()
        finally:
            super().close()


@contextmanager
def whole_folder(path: str | Path, *, cure: str = _CURE) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that takes its place on success and disappears on failure.

    Every file in it is flushed to disk first. Then it and a folder at ``path`` change places in one step, and the old
    one is deleted. On file systems that cannot do this (not Linux, some network ones), the old one is renamed to
    ``.NAME.PID-HOST.old`` and the new one to ``path``; where the second rename fails, the old one comes back, and where
    the process is killed in between, the next ``whole_folder`` of this path, ``remove_leftovers`` and
    ``bring_back`` bring it back. One process at a time may write ``path``.

    Args:
        path: the folder to write; its parent is created if missing. A link is refused.
        cure: how the error line ends.

    Yields:
        The folder to fill.

    Raises:
        DataError: the disk is full, the place cannot be written, or ``path`` is a link.
    """
    path = Path(path)
    refuse_link(path)
    temporary = temporary_name(path, "tmp")
    bring_back(path)
    try:
        clear_leftovers(path, path.parent)
        delete(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        mode = temporary.stat().st_mode
        for entry in [*temporary.rglob("*"), temporary]:
            if entry.is_file():
                _set_mode(entry, mode & 0o666)  # safetensors makes files that only their owner reads
            flush(entry)
        _check_room(temporary)
        if path.is_dir() and not _exchange(temporary, path):
            path.rename(temporary_name(path, "old"))
        if not path.is_dir():
            temporary.rename(path)
        flush(path.parent)
    except Exception as error:
        if _is_of_disk(error):
            raise unwritable(path, error, cure) from None
        raise
    finally:
        with suppress(OSError):  # its name may have been too long
            delete(temporary)
        bring_back(path)


def remove_folder(path: str | Path) -> None:
    """Delete a folder in one step: renamed first, so that a process that is killed meanwhile leaves no half of it.

    What such a process left is deleted as well, also where the folder is gone.

    Raises:
        DataError: it cannot be deleted, or is a link.
    """
    path = Path(path)
    refuse_link(path)
    temporary = temporary_name(path, "tmp")
    try:
        clear_leftovers(path, path.parent)
        delete(temporary)
        path.rename(temporary)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(path, error, "see its permissions") from None
    delete(temporary)


class AppendedLines:
    """A text file that grows by lines, each on its way to the disk when :meth:`write` returns.

    Args:
        path: the file; made if missing. A link is refused.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)
        refuse_link(self._path)
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise unwritable(self._path, error) from None

    def write(self, line: str) -> None:
        """Append a line.

        Raises:
            DataError: the disk is full, say; the file may end in half a line then.
        """
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self._path, error) from None

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what did not fit before does not fit now, and was reported
            self._file.close()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all; half a surrogate pair, which UTF-8 lacks, becomes an escape.

    Raises:
        DataError: see :func:`whole_path`.
    """
    with whole_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any, *, indent: int = 2, checksum: str = "") -> None:
    """Write ``value`` as indented JSON, keys in the order given, whole or not at all.

    Args:
        path: the file.
        value: what it holds.
        indent: spaces of a level.
        checksum: key of a checksum of the object's other keys, added as its last; empty: none.

    Raises:
        DataError: see :func:`whole_path`.
    """
    if checksum:
        content = {key: of for key, of in value.items() if key != checksum}
        value = {**content, checksum: json_checksum(content)}
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def json_checksum(content: Mapping[str, Any]) -> str:
    """sha256, in hexadecimal digits, of an object as JSON keeps it, in whatever order its keys are."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()


def read_json(
    path: str | Path,
    kind: type = dict,
    *,
    error: type[GeckoError] = DataError,
    cure: str = "restore the file",
    checksum: str = "",
) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        kind: what it must hold, ``dict`` or ``list``.
        error: the class of what is raised.
        cure: how the error line ends.
        checksum: the key under which ``write_json`` has put a checksum; it is checked and left out. Files without one
            are of earlier versions.

    Returns:
        The value.

    Raises:
        GeckoError: ``error``; the file is missing, cannot be read, is not JSON, holds something else, or what its
            checksum is not of.
    """
    try:
        if is_special(path):
            raise error(f"{path}: is no file; {cure}")
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: missing; {cure}") from None
    except PermissionError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror}); see its permissions and its folder's") from None
    except (OSError, ValueError, RecursionError) as reason:
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else first_line(reason)
        raise error(f"{path}: cannot be read as JSON ({text}); {cure}") from None
    if not isinstance(value, kind):
        wanted = "object" if kind is dict else kind.__name__
        raise error(f"{path}: must hold a JSON {wanted}, holds a {type(value).__name__}; {cure}")
    if checksum and isinstance(value, dict) and checksum in value and value.pop(checksum) != json_checksum(value):
        raise error(f"{path}: damaged (its checksum is another); {cure}")
    return value


def is_special(path: str | Path) -> bool:
    """Whether something else than a file or a folder is there, a pipe say: to open it might wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def cache_folder(name: str) -> Path:
    """Where what can be computed again is kept for the user: ``$XDG_CACHE_HOME/name``, else ``~/.cache/name``.

    Raises:
        DataError: there is no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / name
    except RuntimeError:
        raise DataError(f"there is no home folder to keep {name}'s files in; set XDG_CACHE_HOME") from None


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, in hexadecimal digits.

    Raises:
        OSError: it cannot be read, or is a pipe or a device.
    """
    if is_special(path):
        raise OSError(errno.EINVAL, "is no file", str(path))
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _create(path: Path) -> int:
    """Make an empty file that was not there, and no link; returns the mode that the user's umask gives."""
    delete(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def _set_mode(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)


def _check_room(path: Path) -> None:
    """Refuse what was written on a file system that has no block left: the C library may have dropped its end."""
    if not hasattr(os, "statvfs"):
        return
    found = os.statvfs(path)
    if found.f_blocks and not (found.f_bfree if os.geteuid() == 0 else found.f_bavail):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where system or file system cannot do this."""
    if platform.system() != "Linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    done: int = rename(here, os.fsencode(one), here, os.fsencode(other), exchange)
    return done == 0


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or below it, whatever links lead to either.

    Raises:
        DataError: links that go in a circle.
    """
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # pathlib's, up to Python 3.12
        raise DataError(f"{path}, or {folder}: links that go in a circle; name the file itself") from None
    except (OSError, ValueError) as error:  # too long a name, "\0"
        raise unwritable(path, error) from None


def refuse_link(path: Path) -> None:
    """Make sure that a place to write at is no link.

    Raises:
        DataError: it is one, or nothing can be called so.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # too long a name, a folder whose links go in a circle, "\0"
        raise unwritable(path, error) from None
    if stat.S_ISLNK(mode):
        raise DataError(f"{path}: is a link, and nothing is written through links; remove it, or name its target")


def _is_of_disk(error: Exception) -> bool:
    """Whether an error means that something cannot be written: safetensors and tokenizers have their own kinds."""
    text = str(error)
    ours = isinstance(error, OSError) or type(error).__name__ == "SafetensorError"
    return not isinstance(error, GeckoError) and (ours or "os error " in text or "No space left" in text)


def unwritable(path: str | Path, error: Exception, cure: str = _CURE) -> DataError:
    """What to tell a user whose file cannot be written."""
    found = _OS_ERROR.search(str(error))
    number = getattr(error, "errno", None) or (int(found[1] or found[2]) if found else None)
    reason = os.strerror(number) if number else first_line(error)
    if number in _NO_PLACE:
        cure = "see the permissions of its folder, or name another place"
    if number == errno.EMFILE:
        cure = "allow more open files (ulimit -n), then start the same command again"
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
