"""gecko-embed: a file of texts to a file of embeddings. After an interruption the same command resumes the work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gecko_core.command import run_command, with_homes
from gecko_core.errors import ConfigError, DataError, printable
from gecko_core.prompts import DEFAULT_TASK

if TYPE_CHECKING:
    from gecko_core.encode.rows import Row

_EXAMPLES = """examples:
  gecko-embed passages.jsonl passages.parquet --model all-minilm-l6-v2 --kind document
  gecko-embed queries.txt queries.npy --model runs/quickstart/model --kind query --task "question answering"
"""


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse would pass over a disk that is full


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    top = _Parser(
        prog="gecko-embed",
        description="Embed the texts of a .jsonl, .csv, .tsv, .parquet or .txt file into a .npy or .parquet file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("input", type=Path, help="a .jsonl, .csv, .tsv, .parquet or .txt (one text per line) file")
    top.add_argument("output", type=Path, help="a .npy or .parquet file; must not exist unless --overwrite")
    top.add_argument("--model", required=True, help="a folder, a packaged model (all-minilm-l6-v2), or a hub id")
    top.add_argument(
        "--kind",
        choices=("text", "query", "document"),
        default="text",
        help="which prompt to apply",
    )
    top.add_argument("--task", help=f"task of --kind query (default: {DEFAULT_TASK})")
    top.add_argument("--text-column", help="column of the texts (default: text)")
    top.add_argument("--title-column", help="column of document titles (default: title, where there is one)")
    top.add_argument("--id-column", help="column of ids (default: id, where there is one)")
    top.add_argument(
        "--enriched",
        nargs="+",
        type=Path,
        help="folders of gecko-fret enrich: enriched texts are encoded in the place of theirs",
    )
    top.add_argument("--truncate-dim", type=int, help="keep this many leading components, normalised again")
    top.add_argument("--precision", choices=("float32", "int8", "binary"), default="float32")
    top.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        default="auto",
        help="of the weights; int8: of CPU products",
    )
    top.add_argument("--device", nargs="+", help="cpu, cuda:0, ...; several devices work in parallel")
    top.add_argument("--batch-tokens", type=int, help="tokens per forward pass, padding included")
    top.add_argument("--window", type=int, help="rows per part; an interruption costs at most one part")
    top.add_argument("--overwrite", action="store_true", help="replace an existing output")
    top.add_argument("--quiet", action="store_true", help="no progress")
    top.add_argument("--debug", action="store_true", help="show tracebacks")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0 done, 2 for what the user can correct, 130 after Ctrl-C."""

    def command() -> None:
        options = parser().parse_args(with_homes(argv))
        rows = _run(options)
        print(printable(f"{rows} embeddings in {options.output}"), file=sys.stderr)

    return run_command(command, argv)


def _check_kind(options: argparse.Namespace) -> None:
    """Refuse options that would change nothing."""
    if options.task is not None and options.kind != "query":
        raise ConfigError("--task is that of queries: give --kind query, or leave it out")
    if options.title_column is not None and options.kind != "document":
        raise ConfigError("--title-column is that of documents: give --kind document, or leave it out")


def _check_output(options: argparse.Namespace) -> None:
    if options.output.is_dir():
        raise ConfigError(f"{options.output}: is a folder; choose another name")
    from gecko_core.io import refuse_link

    refuse_link(options.output)
    if options.output.exists() and not options.overwrite:
        if any(".parts" in entry.name for entry in options.output.parent.glob(".*")):
            from gecko_core.encode.stream import clear_finished

            clear_finished(options.output)
        raise ConfigError(f"{options.output}: exists; choose another name or give --overwrite")
    if options.output.suffix not in (".npy", ".parquet"):
        raise ConfigError(f"{options.output}: embeddings are written as .npy or .parquet; choose one of these endings")
    if options.output.exists() and options.input.exists() and options.output.samefile(options.input):
        raise ConfigError(f"{options.output}: is the input as well; choose another name for the output")
    if not options.output.parent.is_dir():
        raise ConfigError(f"{options.output.parent}: no such folder; make it first")


def _enriched(rows: Iterator[Row], folders: Sequence[Path] | None) -> Iterator[Row]:
    """The rows, those that were enriched with their enriched text; how many is told at the end."""
    if not folders:
        return rows
    from gecko_core.enriched import read_enriched

    known = read_enriched(*folders)

    def replaced() -> Iterator[Row]:
        found = count = 0
        for row in rows:
            count += 1
            found += row.text in known
            yield row._replace(text=known.get(row.text, row.text))
        print(f"{found} of {count} texts enriched", file=sys.stderr)

    return replaced()


def _run(options: argparse.Namespace) -> int:
    _check_kind(options)
    _check_output(options)
    # The slow imports come last: --help and the checks above answer at once.
    from contextlib import nullcontext

    from gecko_core.encode.batches import WINDOW
    from gecko_core.encode.pool import EncoderPool
    from gecko_core.encode.rows import Columns, read_rows
    from gecko_core.io import count_rows
    from gecko_core.model import Gecko

    named = options.text_column, options.title_column, options.id_column
    columns = Columns(
        "text" if options.text_column is None else options.text_column, options.title_column, options.id_column,
        tuple(name for name in named if name is not None), titled=options.kind == "document",
    )  # fmt: skip
    read = read_rows(options.input, columns)
    first = next(read, None)  # an unreadable file should fail before a model is loaded
    if first is None:
        raise DataError(f"{options.input}: holds no row; give a file with some text in it")
    rows = _enriched(chain([first], read), options.enriched)
    devices = options.device or []
    several = devices if len(devices) > 1 else None
    model = Gecko.from_pretrained(
        options.model,
        device="cpu" if several else devices[0] if devices else None,
        dtype=None if options.dtype == "auto" else options.dtype,
    )

    with EncoderPool(model, several) if several else nullcontext() as pool:
        return model.encode_stream(
            rows,
            options.output,
            kind=options.kind,
            task=DEFAULT_TASK if options.task is None else options.task,
            precision=options.precision,
            truncate_dim=options.truncate_dim,
            batch_tokens=options.batch_tokens,
            window=WINDOW if options.window is None else options.window,
            total=count_rows(options.input),
            progress=not options.quiet,
            pool=pool,
        )


if __name__ == "__main__":
    sys.exit(main())
