"""Faults at every file operation: a process that dies there, or a disk that is full.

A child process (fork) does some work and meets the fault; the parent then looks at what is left, does the same work to
its end, and compares the result with that of undisturbed work. File operations are counted by Python's audit events:
opening for writing, renaming, removing, making and removing folders, changing a mode, whichever library does it.
Writing itself raises no event; files that are too large (RLIMIT_FSIZE) are met in the middle of it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gecko_core.errors import GeckoError

Work = Callable[[Path], Any]

_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}
_WRITES = os.O_WRONLY | os.O_RDWR
DONE, REFUSED, CRASHED, KILLED = 0, 2, 3, 9


@dataclass
class Tally:
    """How a number of faults ended.

    Attributes:
        faults: how many there were.
        wrong: what was wrong, one line each.
    """

    faults: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, wrong: str | None) -> None:
        """Count a fault, and what was wrong after it."""
        self.faults += 1
        if wrong:
            self.wrong.append(wrong)


@dataclass(frozen=True)
class Scenario:
    """Some work in a folder.

    Attributes:
        name: of the scenario.
        work: does it, or goes on with it.
        result: what must be the same however the work was disturbed, from the folder.
        essence: the part of it that must be the same where files of finished work were damaged, and nobody said so.
    """

    name: str
    work: Work
    result: Callable[[Path], Any]
    essence: Callable[[Path], Any] | None = None


def operations(scenario: Scenario, folder: Path) -> int:
    """Number of file operations of undisturbed work. What it imports, this process imports, too."""
    with tempfile.TemporaryDirectory() as name:
        said = Path(name) / "said"

        def count() -> None:
            seen = [0]
            _watch(folder, lambda: seen.__setitem__(0, seen[0] + 1))
            scenario.work(folder)
            said.write_text(json.dumps({"operations": seen[0], "modules": list(sys.modules)}))

        status, text = in_child(count)
        assert status == DONE, f"{scenario.name}: undisturbed work ended with {status}: {text}"
        found = json.loads(said.read_text())
    for module in found["modules"]:
        with contextlib.suppress(ImportError):  # made by its parent, and not to be found by name
            importlib.import_module(module)
    return found["operations"]


def killed_at(scenario: Scenario, folder: Path, number: int) -> int:
    """Work in a child that dies at its ``number``-th file operation; returns how it ended."""

    def work() -> None:
        left = [number]

        def die() -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        _watch(folder, die)
        scenario.work(folder)

    return in_child(work)[0]


def full_at(scenario: Scenario, folder: Path, number: int) -> tuple[int, str]:
    """Work in a child whose disk is full from its ``number``-th file operation on; returns what ``in_child`` does."""

    def work() -> None:
        left = [number]

        def full(event: str) -> None:
            left[0] -= 1
            if left[0] <= 0 and event in ("open", "os.mkdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        _watch_events(folder, full)
        scenario.work(folder)

    return in_child(work)


def too_large(scenario: Scenario, folder: Path, size: int) -> tuple[int, str]:
    """Work in a child that can write no file beyond ``size`` bytes; returns how it ended and its words."""
    import resource

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        scenario.work(folder)

    return in_child(work)


def in_child(work: Callable[[], None]) -> tuple[int, str]:
    """Do some work in a forked process.

    Returns:
        DONE, REFUSED (with one line for the user), CRASHED or KILLED; and the words.
    """
    return in_children([work])[0]


def in_children(works: Sequence[Callable[[], None]]) -> list[tuple[int, str]]:
    """Do several things at once, each in a forked process; returns what :func:`in_child` does for each."""
    children = []
    for work in works:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            _end(work, write)
        os.close(write)
        children.append((pid, read))
    return [_ended(pid, read) for pid, read in children]


def _end(work: Callable[[], None], write: int) -> None:
    """Work, say how it went, and end this process."""
    code, text = CRASHED, ""
    try:
        work()
        code = DONE
    except GeckoError as error:
        code, text = (CRASHED if "\n" in str(error) else REFUSED), str(error)
    except BaseException as error:  # what a user would see as a traceback
        text = f"{type(error).__name__}: {error} at {traceback.extract_tb(error.__traceback__)[-1]}"
    finally:
        os.write(write, text.encode("utf-8", "replace")[:4000])
        os._exit(code)


def _ended(pid: int, read: int) -> tuple[int, str]:
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    return (KILLED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), text


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """The files below a folder, by name; hidden ones (locks) are left out, leftovers of a killed process are not."""
    found = {path for pattern in patterns or ("*",) for path in folder.rglob(pattern) if path.is_file()}
    shown = {path for path in found if not path.name.startswith(".") or path.suffix in (".tmp", ".old")}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(shown)}


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders below a folder."""
    return sorted(path.name for path in folder.rglob(".*") if path.suffix in (".tmp", ".old"))


def _watch(folder: Path, act: Callable[[], None]) -> None:
    _watch_events(folder, lambda event: act())


def _watch_events(folder: Path, act: Callable[[str], None]) -> None:
    """Call ``act`` before every file operation below ``folder``; for the rest of the process."""
    root = str(folder)

    def below(path: object) -> bool:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return name.startswith(root)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and below(path):
                act(event)
        elif event in _EVENTS and below(arguments[0]):
            act(event)

    sys.addaudithook(hook)
