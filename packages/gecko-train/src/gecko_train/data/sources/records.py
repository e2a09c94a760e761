"""Sources that read records through an adapter: files, folders and data sets of the hub."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import HUB, Record, Section, files_below, find_data, read_hub, read_table, table_kind
from gecko_train.config import SetConfig
from gecko_train.data.adapters.base import Adapter, RenamedFields, Settings
from gecko_train.data.rows import TrainingRow
from gecko_train.data.sources.base import Source, SourceContext, parse_options

_SHARD = re.compile(r".*-(\d+)-of-(\d+)")


class RecordOptions(Section):
    """How records are read.

    Attributes:
        where: column to value; other records are skipped (``{lang: en}``).
        columns: the name that the adapter knows to the column's own (``{query: title, positive: abstract}``).
        min_score: the label or score from which on a pair is a positive (sources of pairs).
        count_from: the number of the first option (multiple choice).
    """

    where: dict[str, Any] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)
    min_score: float | None = Field(default=None, allow_inf_nan=False)
    count_from: Literal[0, 1] | None = None


class FileOptions(RecordOptions):
    """How the records of a file or folder are read; ``file`` of a folder, without its ending."""

    file: str = "train"


class HubOptions(RecordOptions):
    """How the records of a data set of the hub are read."""

    split: str = "train"


class AdaptedRecords(Source):
    """Records of a file, a folder or ``hub:owner/name[/config]``, made into rows by an adapter."""

    def __init__(self, adapter: Adapter):
        self.adapter = adapter
        self.not_streamed = "looks at all its rows at once" if adapter.whole else ""

    def check(self, config: SetConfig) -> None:
        """See ``Source``: the first record, too."""
        options = self._read_options(config)
        if isinstance(options, FileOptions) and config.path:
            next(_spelled(_records(config, options), self.adapter), None)

    def _read_options(self, config: SetConfig) -> FileOptions | HubOptions:
        options = _options(config)
        for key in ("min_score", "count_from"):
            if getattr(options, key) is not None and key not in self.adapter.reads:
                raise ConfigError(f"sets: source {config.source!r} does not read the option {key!r}; leave it out")
        for column in options.columns:
            if not self.adapter.knows(column):
                known = sorted(self.adapter.columns)
                like = difflib.get_close_matches(column, known, n=1)
                cure = f"did you mean {like[0]!r}?" if like else f"it reads {', '.join(known)}"
                raise ConfigError(
                    f"sets: source {config.source!r} reads no column {column!r} (options.columns); {cure}"
                )
        return options

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``."""
        options = self._read_options(config)
        settings = Settings(
            task=config.task or self.adapter.task,
            symmetric=self.adapter.symmetric if config.symmetric is None else config.symmetric,
            seed=context.seed,
            negatives=max(1, context.hard_negatives),
            unique_ids=config.label_ids == "unique",
            min_score=options.min_score,
            count_from=options.count_from,
        )
        return self.adapter.read(_spelled(_records(config, options), self.adapter), settings)


def _options(config: SetConfig) -> FileOptions | HubOptions:
    if (config.path or "").startswith(HUB):
        return parse_options(HubOptions, config)
    return parse_options(FileOptions, config)


def _records(config: SetConfig, options: FileOptions | HubOptions) -> Iterator[Record]:
    path = config.path or ""
    if isinstance(options, FileOptions):
        records = read_files(find_data(path), options.file)
    else:
        owner, _, name = path.removeprefix(HUB).partition("/")
        name, _, part = name.partition("/")
        records = read_hub(f"{owner}/{name}", options.split, config=part or None, streaming=config.stream)
    return _some(select(records, options.where, options.columns), path, options.where)


def _spelled(records: Iterable[Record], adapter: Adapter) -> Iterator[Record]:
    """The records, whose columns are looked at whenever they are others than before.

    ``read_table`` could do it for files alone, under the names that the columns have before the set's options.

    Raises:
        DataError: the adapter would pass over a column whose name differs in case or white space from one it reads.
    """
    before: tuple[str, ...] = ()
    for record in records:
        columns = tuple(record.fields)
        if columns != before:
            found = adapter.misspelt(columns)
            if found is not None:
                name, meant = found
                raise DataError(
                    f"{record.where}: the column {name[:80]!r} is not read; call it {meant!r}, name it in the set's "
                    f"options (columns: {{{meant}: {name[:80]!r}}}), or leave it out"
                )
            before = columns
        yield record


def _some(records: Iterable[Record], path: str, where: dict[str, Any]) -> Iterator[Record]:
    """The records.

    Raises:
        DataError: there are none.
    """
    empty = True
    for record in records:
        empty = False
        yield record
    if empty and where:
        values = ", ".join(f"{key}: {value}" for key, value in where.items())
        raise DataError(f"{path}: no row has {values}; correct `where` in the set's options")
    if empty:
        raise DataError(f"{path}: no rows in it; a set needs at least one")


def read_files(path: Path, file: str = "train") -> Iterator[Record]:
    """Records of one table file, or of a folder's ``<file>.*`` (else of the ``<file>-*.parquet`` below it).

    Raises:
        DataError: the folder has no such file, or a file cannot be read; the line names file and row.
    """
    paths = _tables(path, file) if path.is_dir() else [path]
    for table in paths:
        yield from read_table(table)


def _tables(folder: Path, file: str) -> list[Path]:
    """The file of a folder, or all its shards.

    Raises:
        DataError: there is none, there are several, or a shard is missing.
    """
    cure = "name one in the set's options (file: ...), or the file itself as the path"
    whole = sorted(e for e in folder.iterdir() if table_kind(e) and _ending(e) == e.name.removeprefix(file).lower())
    if len(whole) > 1:
        raise DataError(f"{folder}: holds {', '.join(path.name for path in whole)}; remove all but one, or {cure}")
    shards = [] if whole else [path for path in files_below(folder, {".parquet"}) if path.match(f"{file}-*.parquet")]
    if not (whole or shards):
        raise DataError(f"{folder}: no file {file}.jsonl, .csv, .tsv or .parquet in it; {cure}")
    if whole:
        return whole
    folders = sorted({path.parent.relative_to(folder).as_posix() for path in shards})
    if len(folders) > 1:
        raise DataError(
            f"{folder}: {file}-*.parquet lie in several folders ({', '.join(folders)}); name one as the path"
        )
    numbered = [match for path in shards if (match := _SHARD.fullmatch(path.stem))]
    of = {match[2] for match in numbered}
    if numbered and (len(of) > 1 or len(numbered) != len(shards) or len(shards) != int(next(iter(of)))):
        raise DataError(
            f"{shards[0].parent}: holds {len(shards)} {file}-*.parquet, and by their names the set has "
            f"{' or '.join(sorted(of))}; fetch those that are missing, or remove what is not of the set"
        )
    return shards


def _ending(path: Path) -> str:
    """The suffix of a table, with that of its compression."""
    suffixes = path.suffixes
    return "".join(suffixes[-2:] if suffixes[-1].lower() == ".gz" else suffixes[-1:]).lower()


def _is_same(found: Any, wanted: Any) -> bool:
    """Whether a value is the one wanted; true is not 1, as it is in Python."""
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)


def select(records: Iterable[Record], where: dict[str, Any], columns: dict[str, str]) -> Iterator[Record]:
    """The records that have the values of ``where``, with columns renamed (new name to old name).

    Raises:
        DataError: no record at all has one of the columns that are named.
    """
    absent = {*columns.values(), *where}
    record: Record | None = None
    for record in records:
        fields = record.fields
        absent.difference_update(fields)
        if any(not _is_same(fields.get(key), value) for key, value in where.items()):
            continue
        if columns:
            fields = RenamedFields(fields, columns)
        yield record._replace(fields=fields)
    if absent and record is not None:
        names = ", ".join(map(repr, sorted(absent)))
        raise DataError(f"{record.where}: no record has the column {names}; correct the set's options")
