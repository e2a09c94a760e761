"""The parts of a build on disk: which are done, and which were lost and are made again.

The manifest lists the parts with their checksums. A part that is on the list and is what was written is done; any other
is deleted when the next run begins, and made again. Where it then comes out different, so is what was made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gecko_core.io import PartList, remove_folder
from gecko_fret.steps import PartStep, Step
from gecko_fret.steps.parts import is_readable, rows_of

_NUMBER = re.compile(r"part-(?:[\w-]+-)?(\d{5,})\.\w+")


class BuildParts:
    """What a build knows of its parts: those that are done, and those that were lost and are made again.

    Args:
        out: the output folder.
        listed: the parts that are done, as the steps see them; kept up to date here.
    """

    def __init__(self, out: Path, listed: PartList):
        self._out, self._listed = out, listed
        self._lost = PartList(out)  # parts that are made again, as they were

    def to_json(self) -> dict[str, Any]:
        """Both lists, by their keys in the manifest."""
        return {"parts": self._listed.to_json(), "lost": self._lost.to_json()}

    def take_over(self, previous: Mapping[str, Any], kept: list[Step[Any]]) -> list[Step[Any]]:
        """Take over the parts of the steps that stay, and delete those that are not what was written.

        Args:
            previous: the manifest of the run before.
            kept: the steps whose parts stay.

        Returns:
            The steps that are not done any more.
        """
        out, listed = self._out, self._listed
        if "parts" in previous:
            listed.update(PartList.from_json(out, previous["parts"]))
        else:  # of a version without a list
            for step in kept:
                self.note(path for path in step.own_files(out) if is_readable(path))
        for name in list(listed):
            if not any(step.owns(name) for step in kept):
                listed.drop(name)
        self._lost.update(PartList.from_json(out, previous.get("lost")))
        undone = []
        for step in kept:
            dropped = [self._drop(name) for name in self._unsound(step)]
            if any(dropped):
                undone.append(step)
        return undone

    def _drop(self, name: str) -> bool:
        """Delete a file, to be made again; returns whether it was listed."""
        _remove(self._out / name, self._out)
        part = self._listed.drop(name)
        if part is not None:
            self._lost.update(PartList(self._out, {name: part}))
        return part is not None

    def _unsound(self, step: Step[Any]) -> set[str]:
        """Names of a step's files, listed or there, that must be made again."""
        out, listed = self._out, self._listed
        names = {path.relative_to(out).as_posix() for path in step.own_files(out)}
        names |= {name for name in listed if step.owns(name)}
        faulty = {name for name in names if listed.fault(name)}
        if not faulty or not isinstance(step, PartStep):
            return names if faulty else set()
        # A part and its rejects go together, and so do the files of what a step keeps besides.
        numbers = {_number(name) for name in faulty}
        return {name for name in names if _number(name) in numbers}

    def note(self, paths: Iterable[Path]) -> None:
        """List files as they are now."""
        for path in paths:
            name = path.relative_to(self._out).as_posix()
            if name not in self._listed:
                self._listed.note(name, rows_of(path))

    def note_parts(self, step: PartStep[Any, Any]) -> None:
        """List the parts of a running step that are there; its rejects are written before a part."""
        out = self._out
        rejects = {_number(path.name): path for path in step.own_files(out) if path.parent.name == "rejects"}
        for path in step.part_files(out):
            number = _number(path.name)
            self.note([rejects[number], path] if number in rejects else [path])
        self.note(step.extra_files(out))

    def differing(self, step: Step[Any]) -> list[str]:
        """Names of the files of a step that were lost, were made again and are not what they were; each told once."""
        differing = []
        for name in [name for name in self._lost if step.owns(name)]:
            before = self._lost.drop(name)
            if name not in self._listed or self._listed[name] != before:
                differing.append(name)
        return differing

    def clear(self, step: Step[Any]) -> None:
        """Delete all parts of a step."""
        step.clear(self._out)
        for name in [name for name in self._listed if step.owns(name)]:
            self._listed.drop(name)


def is_part(name: str) -> bool:
    """Whether a file is a part of a step, or a part's rejects, and not what the step keeps besides."""
    return _number(name) is not None


def _number(name: str) -> int | None:
    """The number of the part that a file belongs to; None for a file that is no part's."""
    found = _NUMBER.fullmatch(Path(name).name)
    return int(found[1]) if found else None


def _remove(path: Path, out: Path) -> None:
    """Delete a file, and the folders below ``out`` that it leaves empty."""
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == out or not folder.is_dir() or any(folder.iterdir()):
            break
        folder.rmdir()
