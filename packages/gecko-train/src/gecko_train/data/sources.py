"""Where training rows come from: a corpus, a FRet folder, or files of public sets (see `gecko_train.data.adapters`)."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import ConfigError, DataError
from gecko_core.randomness import Stream, stream_generator
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_train.config import SetConfig
from gecko_train.data.adapters import ADAPTERS, Record, Settings
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.streams import StreamedSet

_HUB = "hub:"
_WHOLE = ("classification", "nli", "snli", "mnli", "fret")  # these group or draw among all rows


@dataclass(frozen=True)
class SourceContext:
    """What sources may draw on besides files: the run's corpus and its FRet folder."""

    corpus: Corpus | None = None
    fret: Path | None = None
    seed: int = 0


def load_set(config: SetConfig, context: SourceContext) -> RowSet | StreamedSet:
    """The rows of one set of a recipe: in memory, memory-mapped (source ``arrow``) or streamed.

    Raises:
        ConfigError: unknown source, or one that needs a path or a corpus which is not there.
        DataError: the data cannot be read as that source.
    """
    name = config.name or (Path(config.path).name.split(".")[0] if config.path else config.source)
    if config.stream:
        if config.source in _WHOLE:
            raise ConfigError(f"sets: source {config.source!r} looks at all its rows at once; leave `stream` out")
        if config.source == "arrow":
            raise ConfigError("sets: source 'arrow' is memory-mapped already; leave `stream` out")
        next(_rows(config, context), None)  # a path or column that is wrong shows now, not in the middle of training
        return StreamedSet(
            name, lambda: _limited(config, context), config.rows or 1, seed=context.seed, window=config.shuffle_rows
        )
    if config.source == "arrow":
        return RowSet.open(find_path(_path(config)), name).first(config.limit)
    return RowSet.from_rows(name, _limited(config, context))


def _limited(config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
    return itertools.islice(_rows(config, context), config.limit)


def _rows(config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
    if config.source == "title-body":
        return title_body_rows(_corpus(config, context), config.task or "search result")
    if config.source == "fret":
        folder = find_path(config.path) if config.path else context.fret
        if folder is None:
            raise ConfigError("sets: source 'fret' without a path; give the folder that `gecko-fret build` wrote")
        return fret_rows(folder, config.task, context.seed, **config.options)
    if config.source == "beir":
        return beir_rows(find_path(_path(config)), config.task or "search result", **config.options)
    adapter = ADAPTERS.get(config.source)
    if adapter is None:
        known = ", ".join(["title-body", "fret", "arrow", "beir", *ADAPTERS])
        raise ConfigError(f"sets: unknown source {config.source!r}; the sources are {known}")
    settings = Settings(
        task=config.task or adapter.task,
        symmetric=adapter.symmetric if config.symmetric is None else config.symmetric,
        seed=context.seed,
        negatives=max(1, config.hard_negatives or 1),
        unique_ids=config.label_ids == "unique",
    )
    path = _path(config)
    if path.startswith(_HUB):
        records = hub_records(path.removeprefix(_HUB), config.stream, **config.options)
    else:
        records = read_records(find_path(path), **config.options)
    return adapter.read(records, settings)


def title_body_rows(corpus: Corpus, task: str = "search result") -> Iterator[TrainingRow]:
    """A passage's title (or first sentence) as the query, the rest of it as the positive: the paper's first stage."""
    for query, passage in corpus.pairs():
        yield TrainingRow(task, query, Document(passage.text, passage.title))


def fret_rows(
    folder: Path,
    task: str | None = None,
    seed: int = 0,
    *,
    positive: str = "p_1",
    negative: str = "p_N",
    list_documents: int = 0,
) -> Iterator[TrainingRow]:
    """Rows of a FRet folder; each keeps the task that the LLM wrote unless ``task`` is given.

    Args:
        positive: "p_1" (chosen by the LLM, the paper's) or "seed" (the passage the query was written for).
        negative: "p_N" (mined, the paper's), "random" (another candidate) or "none".
        list_documents: for the KL term, this many further candidates with the LLM's fused scores.

    Raises:
        ConfigError: another word for ``positive`` or ``negative``.
    """
    if positive not in ("p_1", "seed") or negative not in ("p_N", "random", "none"):
        raise ConfigError(
            f"fret options: positive {positive!r}, negative {negative!r}; p_1|seed and p_N|random|none are known"
        )
    from gecko_fret import load_fret

    rows = load_fret(folder)
    generator = stream_generator(seed, Stream.FRET_NEGATIVES)
    for row in rows:
        first = row.positive if positive == "p_1" else rows.passage(row.seed_id)
        if negative == "p_N":
            chosen = [one for one in row.negatives if one.id != first.id]
        elif negative == "random":
            others = [one.id for one in row.candidates if one.id != first.id]
            chosen = [rows.passage(others[int(generator.integers(len(others)))])] if others else []
        else:
            chosen = []
        scores = None
        if list_documents:
            chosen, scores = _listed(row, first, chosen, rows.passage, list_documents)
        yield TrainingRow(
            task or row.task, row.query, _document(first), tuple(_document(one) for one in chosen), scores=scores
        )


def _listed(
    row: Any, first: Passage, chosen: list[Passage], passage: Callable[[str], Passage], count: int
) -> tuple[list[Passage], tuple[float, ...]]:
    """Extend the negatives by further candidates, spread evenly over the LLM's ranking, with everybody's score."""
    taken = {first.id, *(one.id for one in chosen)}
    ranked = sorted((one for one in row.candidates if one.id not in taken), key=lambda one: -one.fused)
    picked = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int).tolist()
    listed = chosen + [passage(ranked[place].id) for place in dict.fromkeys(picked)]
    fused = {one.id: float(one.fused) for one in row.candidates}
    return listed, tuple(fused.get(one.id, float("nan")) for one in [first, *listed])


def beir_rows(folder: Path, task: str, split: str = "train") -> Iterator[TrainingRow]:
    """A BEIR folder's judged pairs: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each plain or gzipped."""
    documents = {
        str(one["_id"]): Document(one["text"], one.get("title") or None)
        for one in read_records(folder / _any(folder, "corpus"))
    }
    queries = {str(one["_id"]): one["text"] for one in read_records(folder / _any(folder, "queries"))}
    qrels = folder / "qrels" / f"{split}.tsv"
    if not qrels.exists():
        raise DataError(f"{qrels}: not there; give another split in the set's options (options: {{split: test}})")
    with qrels.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.reader(file, delimiter="\t"), start=1):
            if number == 1 or not line or float(line[2]) <= 0:
                continue
            if line[0] not in queries or line[1] not in documents:
                raise DataError(
                    f"{qrels} line {number}: query {line[0]!r} or document {line[1]!r} is not in the folder"
                )
            yield TrainingRow(task, queries[line[0]], documents[line[1]])


def _any(folder: Path, stem: str) -> str:
    for name in (f"{stem}.jsonl", f"{stem}.jsonl.gz"):
        if (folder / name).exists():
            return name
    raise DataError(f"{folder}: no {stem}.jsonl or {stem}.jsonl.gz; a BEIR folder holds corpus, queries and qrels")


def find_path(path: str | Path) -> Path:
    """The path as it is, or below GECKO_DATA_DIR."""
    given = Path(path)
    root = os.environ.get("GECKO_DATA_DIR")
    for candidate in (given, *([Path(root) / given] if root and not given.is_absolute() else [])):
        if candidate.exists():
            return candidate
    raise DataError(
        f"{path}: no such file or folder, also not below GECKO_DATA_DIR; correct `path` or set the variable"
    )


def read_records(
    path: Path, *, where: dict[str, Any] | None = None, columns: dict[str, str] | None = None, file: str = "train"
) -> Iterator[Record]:
    """Records of a .jsonl(.gz), .csv, .tsv or .parquet file, or of a folder's ``file.*``.

    ``where`` keeps the records whose columns have these values (``{lang: en}``); ``columns`` gives columns the names
    that the adapter knows (``{query: title, positive: abstract}``).
    """
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.name.split(".")[0] == file)
        found = found or sorted(path.glob(f"**/{file}-*.parquet"))
        if not found:
            raise DataError(
                f"{path}: no file {file}.jsonl, .csv or .parquet in it; name one in the set's options (file: ...)"
            )
    else:
        found = [path]
    for one in found:
        for number, record in enumerate(_read_file(one), start=1):
            if where and any(record.get(key) != value for key, value in where.items()):
                continue
            yield {**renamed(record, columns), "_where": f"{one} row {number}"}


def renamed(record: dict[str, Any], columns: dict[str, str] | None) -> dict[str, Any]:
    """The record with the columns that ``columns`` names (new: old) under their new names alone."""
    if not columns:
        return record
    old = set(columns.values())
    kept = {key: value for key, value in record.items() if key not in old}
    return kept | {new: record.get(given) for new, given in columns.items()}


def hub_records(
    name: str,
    stream: bool,
    *,
    where: dict[str, Any] | None = None,
    columns: dict[str, str] | None = None,
    split: str = "train",
) -> Iterator[Record]:
    """Records of a data set of the hub, ``owner/name`` or ``owner/name/config``, through `datasets`."""
    from datasets import load_dataset

    owner, _, rest = name.partition("/")
    dataset, _, config = rest.partition("/")
    try:
        found = load_dataset(f"{owner}/{dataset}", config or None, split=split, streaming=stream)
        for number, record in enumerate(found, start=1):
            if not where or all(record.get(key) == value for key, value in where.items()):
                yield {**renamed(record, columns), "_where": f"{_HUB}{name} row {number}"}
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{_HUB}{name}: {str(error).splitlines()[0]}; check the name, the split, the network") from None


def _read_file(path: Path) -> Iterable[dict[str, Any]]:
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
            return
        opener = gzip.open if path.name.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            if name.endswith((".csv", ".tsv")):
                yield from csv.DictReader(file, delimiter="\t" if name.endswith(".tsv") else ",")
            elif name.endswith(".jsonl"):
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield _json_record(line, f"{path} line {number}")
            else:
                raise DataError(f"{path}: unknown kind of file; .jsonl, .csv, .tsv and .parquet are read, also as .gz")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason}); convert the file to UTF-8") from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({error}); check that the file is whole") from None


def _json_record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); one object per line is expected") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: holds a {type(record).__name__}; one object per line is expected")
    return record


def _corpus(config: SetConfig, context: SourceContext) -> Corpus:
    if config.path:
        from gecko_fret.corpus.passages import load_corpus

        return load_corpus(find_path(config.path))
    if context.corpus is None:
        raise ConfigError("sets: source 'title-body' without a path and without a corpus; give it a `path`")
    return context.corpus


def _path(config: SetConfig) -> str:
    if not config.path:
        raise ConfigError(f"sets: source {config.source!r} needs a `path`")
    return config.path


def _document(passage: Passage) -> Document:
    return Document(passage.text, passage.title)
