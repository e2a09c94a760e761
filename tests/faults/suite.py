"""The faults that every scenario meets, and how each must end: the same result, or one line that says what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.faults.harness import (
    CRASHED,
    DONE,
    KILLED,
    REFUSED,
    Scenario,
    Tally,
    full_at,
    in_child,
    in_children,
    killed_at,
    leftovers,
    operations,
    too_large,
)

SIZES = (0, 1, 100, 1_000, 4_096, 10_000, 30_000, 100_000)


class Suite:
    """All faults of one scenario.

    Args:
        scenario: the work.
        root: an empty folder.
        most: faults of a kind, spread over all places; None: every place.
    """

    def __init__(self, scenario: Scenario, root: Path, most: int | None):
        self.scenario, self.root, self.most = scenario, root, most
        self.reference = root / "reference"
        self.reference.mkdir()
        self.operations = operations(scenario, self.reference)
        self.wanted = scenario.result(self.reference)
        self._folders = 0

    def kills(self) -> Tally:
        """A process that is killed at a file operation; the next one ends as if nothing had happened."""
        tally = Tally()
        for number in self._places():
            folder = self._folder()
            status = killed_at(self.scenario, folder, number)
            ended = None if status == KILLED else f"ended with {status}"
            tally.add(self._said(f"killed at {number}", ended or self._goes_on(folder)))
        return tally

    def full_disks(self) -> Tally:
        """A disk that is full from a file operation on, or in the middle of a file; then there is room again."""
        tally = Tally()
        for number in self._places():
            folder = self._folder()
            outcome = full_at(self.scenario, folder, number)
            tally.add(self._said(f"full at {number}", self._refused(outcome) or self._goes_on(folder)))
        for size in self._some(SIZES):
            folder = self._folder()
            outcome = too_large(self.scenario, folder, size)
            tally.add(self._said(f"files of {size} bytes", self._refused(outcome) or self._goes_on(folder)))
        return tally

    def damages(self, interrupted: bool) -> Tally:
        """A file that is lost, cut, emptied, changed in one bit, or exchanged with its neighbour.

        Args:
            interrupted: whether the work was killed half way before, or had come to its end.
        """
        tally = Tally()
        before = self._folder()
        if interrupted:
            killed_at(self.scenario, before, max(1, self.operations * 2 // 3))
        else:
            shutil.copytree(self.reference, before, dirs_exist_ok=True)
        names = [path.relative_to(before) for path in sorted(before.rglob("*")) if path.is_file()]
        places = [(name, kind, damage) for name in names for kind, damage in DAMAGES.items()]
        for name, kind, damage in self._some(places):
            folder = self._folder()
            shutil.copytree(before, folder, dirs_exist_ok=True)
            if not damage(folder / name):
                continue
            outcome = in_child(partial(self.scenario.work, folder))
            problem = self._refused(outcome)
            if problem is None and outcome[0] == DONE:
                essence = self.scenario.essence or self.scenario.result
                problem = None if essence(folder) == essence(self.reference) else "another result, and not a word"
            tally.add(self._said(f"{name} {kind}", problem))
        return tally

    def two_processes(self) -> Tally:
        """Two processes do the same work at once; each ends well or is told that the other is there."""
        tally = Tally()
        for _ in range(self.most or 10):
            folder = self._folder()
            both = in_children([partial(self.scenario.work, folder)] * 2)
            problems = [self._refused(outcome) for outcome in both]
            tally.add(self._said("two at once", next(filter(None, problems), None) or self._goes_on(folder)))
        return tally

    def _goes_on(self, folder: Path) -> str | None:
        """What is wrong when the work is done to its end; None where all is as it should be."""
        status, text = in_child(partial(self.scenario.work, folder))
        if status != DONE:
            return f"does not go on: {text}"
        if self.scenario.result(folder) != self.wanted:
            return "ends with another result"
        left = leftovers(folder)
        return f"leaves {left}" if left else None

    @staticmethod
    def _refused(outcome: tuple[int, str]) -> str | None:
        status, text = outcome
        return f"ends with {text}" if status in (CRASHED, KILLED) or status not in (DONE, REFUSED) else None

    def _said(self, fault: str, problem: str | None) -> str | None:
        return None if problem is None else f"{self.scenario.name}, {fault}: {problem[:300]}"

    def _folder(self) -> Path:
        self._folders += 1
        folder = self.root / f"{self._folders}"
        folder.mkdir()
        return folder

    def _places(self) -> Sequence[int]:
        return self._some(range(1, self.operations + 1))

    def _some(self, of: Sequence) -> Sequence:
        if self.most is None or len(of) <= self.most:
            return of
        return [of[round(place * (len(of) - 1) / (self.most - 1))] for place in range(self.most)]


def _flip(path: Path) -> bool:
    data = bytearray(path.read_bytes())
    if not data:
        return False
    data[len(data) * 2 // 3] ^= 4
    path.write_bytes(data)
    return True


def _cut(path: Path) -> bool:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return bool(data)


def _lose(path: Path) -> bool:
    path.unlink()
    return True


def _swap(path: Path) -> bool:
    other = next((one for one in sorted(path.parent.glob(f"*{path.suffix}")) if one != path and one.is_file()), None)
    if other is None:
        return False
    mine, others = path.read_bytes(), other.read_bytes()
    path.write_bytes(others)
    other.write_bytes(mine)
    return mine != others


#: Each damages a file and returns whether that made a difference.
DAMAGES: dict[str, Callable[[Path], bool]] = {
    "lost": _lose,
    "cut": _cut,
    "emptied": lambda path: path.write_bytes(b"") == 0 and path.stat().st_size == 0,
    "flipped": _flip,
    "swapped": _swap,
}


def tallies(suite: Suite) -> Iterator[tuple[str, Tally]]:
    """All faults of a scenario, by what they are."""
    yield "killed", suite.kills()
    yield "full disk", suite.full_disks()
    yield "damaged, interrupted", suite.damages(interrupted=True)
    yield "damaged, finished", suite.damages(interrupted=False)
    yield "two processes", suite.two_processes()
