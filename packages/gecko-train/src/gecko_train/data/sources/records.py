"""Sources that read records through an adapter: files, folders and data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from gecko_core.errors import DataError
from gecko_core.io import HUB, Record, Section, find_data, read_hub, read_table, table_kind
from gecko_train.config import SetConfig
from gecko_train.data.adapters.base import Adapter, Settings
from gecko_train.data.rows import TrainingRow
from gecko_train.data.sources.base import Source, SourceContext, parse_options


class FileOptions(Section):
    """How the records of a file or folder are read.

    Attributes:
        where: column to value; other records are skipped (``{lang: en}``).
        columns: the name that the adapter knows to the column's own (``{query: title, positive: abstract}``).
        file: which of a folder's files is read, without its ending.
    """

    where: dict[str, Any] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)
    file: str = "train"


class HubOptions(Section):
    """How the records of a data set of the hub are read; ``where`` and ``columns`` as for files."""

    where: dict[str, Any] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)
    split: str = "train"


class AdaptedRecords(Source):
    """Records of a file, a folder or ``hub:owner/name[/config]``, made into rows by an adapter."""

    def __init__(self, adapter: Adapter):
        self.adapter = adapter
        self.not_streamed = "looks at all its rows at once" if adapter.whole else ""

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``."""
        override = config.objective
        drawn = override.hard_negatives if override and "hard_negatives" in override.model_fields_set else 1
        settings = Settings(
            task=config.task or self.adapter.task,
            symmetric=self.adapter.symmetric if config.symmetric is None else config.symmetric,
            seed=context.seed,
            negatives=max(1, drawn),
            unique_ids=config.label_ids == "unique",
        )
        return self.adapter.read(_records(config), settings)


def _records(config: SetConfig) -> Iterator[Record]:
    path = config.path or ""
    if not path.startswith(HUB):
        options = parse_options(FileOptions, config)
        return select(read_files(find_data(path), options.file), options.where, options.columns)
    hub_options = parse_options(HubOptions, config)
    owner, _, name = path.removeprefix(HUB).partition("/")
    name, _, part = name.partition("/")
    records = read_hub(f"{owner}/{name}", hub_options.split, config=part or None, streaming=config.stream)
    return select(records, hub_options.where, hub_options.columns)


def read_files(path: Path, file: str = "train") -> Iterator[Record]:
    """Records of one table file, or of a folder's ``<file>.*`` (else of the ``<file>-*.parquet`` below it).

    Raises:
        DataError: the folder has no such file, or a file cannot be read; the line names file and row.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(entry for entry in path.iterdir() if entry.name.split(".")[0] == file and table_kind(entry))
        paths = paths or sorted(path.glob(f"**/{file}-*.parquet"))
        if not paths:
            raise DataError(
                f"{path}: no file {file}.jsonl, .csv, .tsv or .parquet in it; name one in the set's options (file: ...)"
            )
    for table in paths:
        yield from read_table(table)


def select(records: Iterable[Record], where: dict[str, Any], columns: dict[str, str]) -> Iterator[Record]:
    """The records that have the values of ``where``, with columns renamed (new name to old name).

    Raises:
        DataError: no record at all has one of the columns that are named.
    """
    old_names = set(columns.values())
    absent = {*old_names, *where}
    record: Record | None = None
    for record in records:
        fields = record.fields
        absent.difference_update(fields)
        if any(fields.get(key) != value for key, value in where.items()):
            continue
        if columns:
            renamed = {new: fields.get(old) for new, old in columns.items()}
            fields = {key: value for key, value in fields.items() if key not in old_names} | renamed
        yield record._replace(fields=fields)
    if absent and record is not None:
        names = ", ".join(map(repr, sorted(absent)))
        raise DataError(f"{record.where}: no record has the column {names}; correct the set's options")
