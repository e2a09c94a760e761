"""The list of the parts that some work consists of: name, rows and checksum of each.

It decides what is done (a part that is listed and is what was listed), what is made again (any other), and what a
reader accepts. A part that is lost, cut, changed, exchanged with another, or of another run is none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io.files import file_hash, read_json, write_json
from gecko_core.io.records import Record
from gecko_core.io.tables import read_table

_NAME = "parts.json"


@dataclass(frozen=True)
class Part:
    """What is known of a part: its number of rows, and the sha256 of its file."""

    rows: int
    sha256: str


class PartList:
    """The parts below one folder, by their names relative to it, with forward slashes.

    Args:
        folder: where they are.
        parts: what is known of them.
    """

    def __init__(self, folder: str | Path, parts: Mapping[str, Part] | None = None):
        self.folder = Path(folder)
        self._parts = dict(parts or {})

    @classmethod
    def from_json(cls, folder: str | Path, value: Any) -> PartList:
        """The list that :meth:`to_json` gave; entries that are none of a list count as not there."""
        entries = value.items() if isinstance(value, dict) else ()
        sound = {
            str(name): Part(entry["rows"], entry["sha256"])
            for name, entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("rows"), int) and isinstance(entry.get("sha256"), str)
        }
        return cls(folder, sound)

    def to_json(self) -> dict[str, Any]:
        """The list as JSON values, by name."""
        return {name: {"rows": part.rows, "sha256": part.sha256} for name, part in sorted(self._parts.items())}

    @classmethod
    def read(cls, folder: str | Path) -> PartList:
        """The list in ``folder/parts.json``; an empty one where that is missing or damaged: all is made again."""
        try:
            return cls.from_json(folder, read_json(Path(folder) / _NAME))
        except DataError:
            return cls(folder)

    def write(self) -> None:
        """Write the list to ``parts.json``, with what another process that shares the folder has listed meanwhile.

        Raises:
            DataError: it cannot be written.
        """
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{_NAME}.lock"):
            self._parts = PartList.read(self.folder)._parts | self._parts
            write_json(self.folder / _NAME, self.to_json())

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def update(self, other: PartList) -> None:
        """Take over what another list knows."""
        self._parts |= other._parts

    def note(self, name: str, rows: int) -> Part:
        """List a part as its file is now.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            part = Part(rows, file_hash(self.folder / name))
        except OSError as error:
            raise DataError(
                f"{self.folder / name}: cannot be read ({error.strerror}); start the same command again"
            ) from None
        self._parts[name] = part
        return part

    def drop(self, name: str) -> Part | None:
        """Take a part off the list; returns what was known of it."""
        return self._parts.pop(name, None)

    def fault(self, name: str) -> str | None:
        """What is wrong with a part: it is not listed, missing, or not what was listed; None where it is sound."""
        part = self._parts.get(name)
        if part is None:
            return "not a part of this run"
        try:
            return None if file_hash(self.folder / name) == part.sha256 else "not what was written"
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    def check(self, name: str, cure: str) -> None:
        """Check that a part is what was listed.

        Args:
            name: of the part.
            cure: how the error line ends.

        Raises:
            DataError: it is not.
        """
        fault = self.fault(name)
        if fault:
            raise DataError(f"{self.folder / name}: the part is damaged or lost ({fault}); {cure}")


def read_parts(
    folder: str | Path, step: str, parts: PartList, only: Sequence[str], cure: str, *, need: Sequence[str] = ()
) -> Iterator[Record]:
    """Rows of the Parquet parts ``step/part-*`` that a list names, each checked first; without a list, of all there.

    Args:
        folder: what the names are relative to.
        step: folder of the parts.
        parts: the list; one that names no part of the step is that of an old version, which had none.
        only: columns to read.
        cure: how error lines end.
        need: columns that every part must have; all of ``only`` by default.

    Raises:
        DataError: there is no part, or one is missing, damaged or of another run.
    """
    folder = Path(folder)
    listed = [name for name in parts if name.startswith(f"{step}/part-")]
    names = listed or sorted(path.relative_to(folder).as_posix() for path in (folder / step).glob("part-*.parquet"))
    if not names:
        raise DataError(f"{folder / step}: no part there; {cure}")
    for name in names:
        if listed:
            parts.check(name, cure)
        yield from read_table(folder / name, need=need or only, only=only)
