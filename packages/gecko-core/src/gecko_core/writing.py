"""Files that appear whole or not at all, and locks that keep a second process out."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gecko_core.errors import DataError, GeckoError


def lock_file(path: Path, busy: GeckoError) -> BinaryIO:
    """Opens `path` for this process alone; it is let go when closed, or when the process ends, however it ends.

    Raises `busy` where another process holds it, `OSError` where it cannot be opened. Where the system has no such
    locks (Windows), nobody is kept out.
    """
    file = path.open("wb")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError:
        file.close()
        raise busy from None
    return file


class whole_file:
    """`with whole_file(path) as file`: a file that appears under its name when it is complete, flushed to disk.

    It grows in `folder` (of the same file system; beside `path` by default). Raises `DataError` where it cannot.
    """

    def __init__(self, path: Path, folder: Path | None = None) -> None:
        self.path = path
        self.temporary = (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp"

    def __enter__(self) -> BinaryIO:
        try:
            self.file = self.temporary.open("wb")
        except OSError as error:
            raise unwritable(self.path, error) from None
        return self.file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        try:
            if error is None:
                self.file.flush()
                os.fsync(self.file.fileno())
                self.file.close()
                self.temporary.replace(self.path)
        except OSError as failed:  # such as a full disk
            error = failed
        finally:
            with suppress(OSError):  # what was buffered does not fit either
                self.file.close()
            self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(self.path, error) from None


def unwritable(path: Path, error: OSError) -> DataError:
    """What to tell a user whose file cannot be written."""
    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return DataError(f"{path}: cannot be written ({reason}); make room or choose another place")
