"""The errors that a user can cause, and how a command ends on one.

Everything here carries a message of one line: which file, row or key, what is wrong with it, and the cure. Any other
exception is a bug and may trace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BackendError", "ConfigError", "DataError", "GeckoError", "ModelError", "exit_on_error", "first_line"]


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


@contextmanager
def exit_on_error(debug: bool = False) -> Iterator[None]:
    """End a command the way users expect: ``error: <one line>`` on stderr and exit code 2, 130 after Ctrl-C.

    Args:
        debug: let every exception through with its traceback.

    Yields:
        Nothing.

    Raises:
        SystemExit: with the exit code.
    """
    try:
        yield
    except GeckoError as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
