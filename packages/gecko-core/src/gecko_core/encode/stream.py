"""An iterator of texts, however long, to a file of embeddings; an interrupted run resumes where it stopped.

Texts are taken in windows; each becomes a part beside the result, written whole or not at all. A run that finds parts
of the same model, options, texts and ids that are what was written skips them. At the end the parts are joined into one
.npy file (open it with `numpy.load(path, mmap_mode="r")`) or one Parquet file (`id`, `embedding`) and removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from gecko_core.encode.batches import WINDOW
from gecko_core.encode.quantization import Precision, check_precision, check_truncate_dim, stored_width
from gecko_core.encode.rows import Row, RowIds
from gecko_core.encode.texts import checked_texts
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import (
    PartList,
    Progress,
    locked,
    make_progress,
    pyarrow,
    read_json,
    refuse_link,
    remove_folder,
    remove_leftovers,
    unwritable,
    whole_file,
    write_json,
    write_text,
)
from gecko_core.numbers import is_whole
from gecko_core.prompts import DEFAULT_TASK
from gecko_core.sequences import check_list

if TYPE_CHECKING:
    from gecko_core.encode.pool import EncoderPool
    from gecko_core.model import Gecko

Kind = Literal["text", "query", "document"]

_LARGEST_WINDOW = 2**31 - 1
_OURS = re.compile(r"lock|identity|\d{5,}\.(?:npy|json)")


def encode_stream(
    model: Gecko,
    rows: Iterable[str | Row],
    path: str | Path,
    *,
    kind: Kind = "text",
    task: str = DEFAULT_TASK,
    precision: Precision = "float32",
    truncate_dim: int | None = None,
    batch_tokens: int | None = None,
    window: int = WINDOW,
    total: int | None = None,
    progress: Progress | bool = False,
    pool: EncoderPool | None = None,
) -> int:
    """Encode ``rows`` to a file in bounded memory.

    Args:
        model: the embedder.
        rows: texts, or :class:`Row` for titles and ids.
        path: .npy or .parquet; appears under its name only when it is complete.
        kind: encode texts as they are, as queries of ``task``, or as documents.
        task: the task of queries.
        precision: see :func:`gecko_core.encode.quantize`.
        truncate_dim: leading components to keep, normalised again.
        batch_tokens: tokens of a forward pass, padding included.
        window: rows per part; an interruption costs one part at most.
        total: number of rows, if known, for the ETA.
        progress: see :func:`gecko_core.io.make_progress`.
        pool: encodes on several devices.

    Returns:
        The number of rows.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: a row that is not text (its number is named), two rows of one id where ids are written (.parquet),
            or a file that cannot be written.
    """
    check_list(rows, "row")
    path = Path(path)
    width = truncate_dim if truncate_dim is not None else model.truncate_dim
    check_truncate_dim(width, model.dim)
    check_precision(precision)
    _check_options(path, window, kind)
    bar = make_progress(progress)
    # JSON, of which the identity of parts is made, takes no whole numbers of numpy.
    width, window = width if width is None else int(width), int(window)
    ids_seen = RowIds() if path.suffix == ".parquet" else None
    columns, dtype = stored_width(width or model.dim, precision)
    ranges = _ranges(model, precision, width or model.dim)
    parts = _Parts(path, _identity(model, kind, task, precision, width, window, ranges))
    options: dict[str, Any] = {"precision": precision, "truncate_dim": width, "batch_tokens": batch_tokens}
    bar.start("encoding", total, unit="texts")
    done = 0
    try:
        for number, chunk in enumerate(_chunks(rows, window)):
            texts = _prompted(model, chunk, kind, task, done)
            ids = [_id(row, done + i, ids_seen) for i, row in enumerate(chunk)]
            if not parts.has(number, texts, ids):
                vectors = (pool or model).encode(texts, **options)
                parts.write(number, texts, vectors, ids)
            done += len(chunk)
            bar.advance(len(chunk))
        parts.join(columns, dtype)
    finally:
        bar.finish()
        parts.close()
    return done


def clear_finished(path: str | Path) -> None:
    """Delete the parts that a process left which was killed when it had written ``path`` and was about to delete them.

    Parts that are newer than ``path`` stay: they are of a run that is to replace it.

    Args:
        path: the result.

    Raises:
        DataError: they cannot be deleted.
    """
    path = Path(path)
    folder = path.with_name(f".{path.name}.parts")
    if folder.is_symlink() or not path.is_file():
        return
    if not folder.is_dir():  # or what is left of it by another name
        remove_folder(folder)
        return
    newest = max((entry.stat().st_mtime_ns for entry in folder.glob("[0-9]*")), default=0)
    if newest > path.stat().st_mtime_ns or not all(_OURS.fullmatch(entry.name) for entry in folder.iterdir()):
        return
    busy = DataError(f"{path}: another process is writing it; wait for it or choose another name")
    with locked(folder / "lock", busy):
        remove_folder(folder)


def _check_options(path: Path, window: int, kind: str) -> None:
    if path.suffix not in (".npy", ".parquet"):
        raise ConfigError(f"{path}: embeddings are written as .npy or .parquet; choose one of these endings")
    if not is_whole(window, 1, _LARGEST_WINDOW):
        raise ConfigError(f"window must be 1 to {_LARGEST_WINDOW:,} rows, not {window!r}")
    if kind not in ("text", "query", "document"):
        raise ConfigError(f"kind must be text, query or document, not {kind!r}")
    if path.suffix == ".parquet":
        pyarrow()
    refuse_link(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; choose another name")


def _chunks(rows: Iterable[str | Row], window: int) -> Iterator[list[str | Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, window)):
        yield chunk


def _prompted(model: Gecko, chunk: list[str | Row], kind: Kind, task: str, first: int) -> list[str]:
    texts = checked_texts([row.text if isinstance(row, Row) else row for row in chunk], first=first)
    if kind == "query":
        return model.format_queries(texts, task)
    if kind == "document":
        return model.format_documents(texts, [row.title if isinstance(row, Row) else None for row in chunk])
    return texts


def _id(row: str | Row, number: int, seen: RowIds | None) -> str:
    given = checked_texts([row.id], "id", number)[0] if isinstance(row, Row) and row.id is not None else None
    if seen is not None:
        return seen.next(given)
    return str(number) if given is None else given


def _ranges(model: Gecko, precision: str, width: int) -> str:
    """The int8 ranges that the vectors are rounded by; nothing for other precisions."""
    if precision != "int8" or width not in model.calibration:
        return ""
    ranges = model.calibration[width]
    return hashlib.sha256(ranges.lowest.tobytes() + ranges.highest.tobytes()).hexdigest()


def _identity(model: Gecko, *options: Any) -> str:
    return hashlib.sha256(json.dumps([model.identity(), *options]).encode()).hexdigest()


class _Parts:
    """The parts of one result: `.NAME.parts/00000.npy`, each with its ids, the hash of its rows and its checksum."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.folder = path.with_name(f".{path.name}.parts")
        self.names: list[str] = []
        self._lock = ExitStack()
        note = self.folder / "identity"
        busy = DataError(f"{path}: another process is writing it; wait for it or choose another name")
        try:
            linked = self.folder.is_symlink()
        except OSError as error:  # its name is longer than that of the result
            raise unwritable(path, error) from None
        if linked:
            raise DataError(f"{self.folder}: is a link; remove it: parts are written and deleted there")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.enter_context(locked(self.folder / "lock", busy))
            remove_leftovers(self.folder)
            self._refuse_foreign()
            if not note.is_file() or note.read_text(encoding="utf-8", errors="replace") != identity:
                for old in self.folder.iterdir():
                    if old.name != "lock":
                        old.unlink()  # of another model or other options: useless here
            write_text(note, identity)
        except OSError as error:
            self.close()
            raise unwritable(path, error) from None
        except DataError:
            self.close()
            raise

    def close(self) -> None:
        """Let another process write here; a folder without a part is removed."""
        if self.folder.is_dir() and {entry.name for entry in self.folder.iterdir()} <= {"lock", "identity"}:
            with suppress(DataError):  # it is in nobody's way
                remove_folder(self.folder)
        self._lock.close()

    def _refuse_foreign(self) -> None:
        """The folder is deleted in the end: nothing that is not ours may be in it."""
        foreign = [entry.name for entry in self.folder.iterdir() if not _OURS.fullmatch(entry.name)]
        if foreign:
            raise DataError(f"{self.folder}: holds {foreign[0]!r}, which is no part of embeddings; move it elsewhere")

    def has(self, number: int, texts: list[str], ids: list[str]) -> bool:
        """Whether this part exists, is what was written, and was made of these very texts and ids."""
        name = f"{number:05}"
        self.names.append(name)
        try:
            note = read_json(self.folder / f"{name}.json")
        except DataError:
            return False
        listed = PartList.from_json(self.folder, note.get("part"))
        sound = listed.fault(f"{name}.npy") is None and listed[f"{name}.npy"].rows == len(texts)
        return bool(sound and note.get("made_of") == _digest(texts, ids) and note.get("ids") == ids)

    def write(self, number: int, texts: list[str], vectors: np.ndarray, ids: list[str]) -> None:
        name = f"{number:05}"
        # A part is complete once its note exists, so the note is written last.
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        with whole_file(self.folder / f"{name}.npy") as file:
            _write_header(file, vectors.shape, vectors.dtype)
            file.write(np.ascontiguousarray(vectors).data)
        part = PartList(self.folder)
        part.note(f"{name}.npy", len(texts))
        note = {"made_of": _digest(texts, ids), "part": part.to_json(), "ids": ids}
        write_json(self.folder / f"{name}.json", note)

    def join(self, columns: int, dtype: np.dtype[Any]) -> None:
        joiner = _join_parquet if self.path.suffix == ".parquet" else _join_npy
        # Within the folder of parts, so that nothing is left behind when this is killed.
        with whole_file(self.path, folder=self.folder) as file:
            joiner(file, [self.folder / name for name in self.names], columns, dtype)
        remove_folder(self.folder)


def _digest(texts: list[str], ids: list[str]) -> str:
    digest = hashlib.sha256()
    for text in (*texts, *ids):
        data = text.encode("utf-8")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _join_npy(file: BinaryIO, parts: list[Path], columns: int, dtype: np.dtype[Any]) -> None:
    rows = sum(len(np.load(part.with_suffix(".npy"), mmap_mode="r")) for part in parts)
    _write_header(file, (rows, columns), dtype)
    for part in parts:  # one at a time: pages of a memory map count as ours while it is open
        file.write(np.load(part.with_suffix(".npy")).data)


def _join_parquet(file: BinaryIO, parts: list[Path], columns: int, dtype: np.dtype[Any]) -> None:
    pa, pq = pyarrow()
    kind = pa.list_(pa.from_numpy_dtype(dtype), columns)
    schema = pa.schema([("id", pa.string()), ("embedding", kind)])
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for part in parts:
            vectors = np.load(part.with_suffix(".npy"), mmap_mode="r")
            ids = read_json(part.with_suffix(".json"))["ids"]
            column = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(vectors).reshape(-1)), type=kind)
            writer.write_table(pa.Table.from_arrays([pa.array(ids, pa.string()), column], schema=schema))
