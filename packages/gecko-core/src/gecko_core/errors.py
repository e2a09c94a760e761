"""The errors that a user can cause, and how a command ends on these and on all others.

Everything here carries a message of one line: which file, row or key, what is wrong with it, and the cure. Any other
exception is a bug, or a machine that gives out; a command says so in one line, too, and shows all with ``--debug``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = [
    "PANIC",
    "BackendError",
    "ConfigError",
    "DataError",
    "GeckoError",
    "ModelError",
    "exit_on_error",
    "first_line",
    "printable",
]

#: What a failed assertion in a library written in Rust becomes: a ``BaseException`` that none of them exports.
PANIC = "PanicException"
_BACKEND = "GECKO_KERNELS_BACKEND"
_CIRCLE = "Symlink loop from "  # pathlib's, up to Python 3.12
_NO_RIGHT = "see its permissions and those of its folder, or name another path"
_NO_ROOM = "make room, then start the same command again"
#: What helps against errors of the operating system that nobody has told in more detail.
_CURES = {
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "nothing can be written there; name another folder",
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.ENOENT: "look for a misspelt name",
    errno.ENOTDIR: "a part of the path is a file; name another path",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links go in a circle; name the file itself",
    errno.EMFILE: "allow more open files (ulimit -n), then start the same command again",
    errno.EIO: "look at the disk, then start the same command again",
}


class GeckoError(Exception):
    """Base of all errors that a user can cause."""


class ConfigError(GeckoError):
    """A key, value or combination of options that cannot be used."""


class DataError(GeckoError):
    """A file or row that cannot be read as what it should be."""


class ModelError(GeckoError):
    """A model folder or name that cannot be loaded or used as asked."""


class BackendError(GeckoError):
    """A server, engine or device that failed or is missing."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message; the exception's name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def printable(text: str) -> str:
    """Return text that no terminal obeys: line ends, escapes and other control characters as Python writes them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def exit_on_error(debug: bool = False) -> Iterator[None]:
    """End a command the way users expect: ``error: <one line>`` on stderr and exit code 2, 130 after Ctrl-C.

    What was printed is flushed before the end, so that a full disk behind standard output is an error, too.

    Args:
        debug: let every exception through with its traceback.

    Yields:
        Nothing.

    Raises:
        SystemExit: with the exit code.
    """
    try:
        try:
            yield
        finally:
            _flush_output()
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): no error of ours.
        _drop_output()
        raise SystemExit(0) from None
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        _drop_output()  # rich and click end so, and call it code 1
        raise SystemExit(0) from None
    except KeyboardInterrupt as stopped:
        if debug:
            raise
        _end(str(stopped) or "interrupted", 130)  # a command may say how to go on
    except BaseException as error:
        if debug or not (isinstance(error, Exception) or type(error).__name__ == PANIC):
            raise
        _end(f"error: {_told(error)}", 2)


def _told(error: BaseException) -> str:
    """What a user reads of an exception."""
    if isinstance(error, GeckoError):
        return str(error)
    if isinstance(error, MemoryError) or _is_of_memory(error):
        return f"the memory is used up ({first_line(error)}); ask for less at a time; --debug shows where"
    if isinstance(error, ValueError | RuntimeError) and str(error).startswith(_BACKEND):
        return first_line(error)  # gecko-kernels stands alone and has no errors of ours
    if isinstance(error, OSError) and error.strerror:
        cure = f"{_CURES[error.errno]}; " if error.errno in _CURES else ""
        return f"{error.filename or 'input or output'}: {error.strerror}; {cure}--debug shows where"
    if isinstance(error, RuntimeError) and str(error).startswith(_CIRCLE):
        return f"{str(error).removeprefix(_CIRCLE)}: {_CURES[errno.ELOOP]}"
    if isinstance(error, OSError):
        return f"{first_line(error)}; --debug shows where"
    return f"{type(error).__name__}: {first_line(error)[:500]}; unexpected: please report it with what --debug shows"


def _is_of_memory(error: BaseException) -> bool:
    """Whether torch could not get memory, for which it has errors of its own."""
    text = str(error)
    # The last is oneDNN's, whose shapes and dtypes are ours: what stays is that its buffers do not fit.
    phrases = ("alloc_cpu", "can't allocate memory", "not enough memory", "could not create a primitive")
    named = any(phrase in text for phrase in phrases)
    return isinstance(error, RuntimeError) and (named or type(error).__name__ == "OutOfMemoryError")


def _end(line: str, code: int) -> None:
    """Print a line that no terminal obeys, and end."""
    shown = printable(" ".join(line.split()))
    try:
        _flush_output()
    except (OSError, ValueError):
        _drop_output()  # or Python would trace when it ends
    with suppress(OSError, ValueError):
        print(shown, file=sys.stderr, flush=True)
    raise SystemExit(code) from None


def _flush_output() -> None:
    if sys.stdout is not None:  # there is none where the shell closed it (>&-)
        sys.stdout.flush()


def _drop_output() -> None:
    """Let whatever is still to be written to standard output go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
