"""The command line: gecko-eval run | compare | report | tasks | prefetch | fetch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gecko_core.bars import on_terminal
from gecko_core.command import run_typer
from gecko_core.errors import ConfigError, DataError, exit_on_error, printable

if TYPE_CHECKING:
    from gecko_eval.baselines import Bm25
    from gecko_eval.mteb.encoder import TextEmbedder
    from gecko_eval.mteb.entries import Entry
    from gecko_eval.mteb.local import LocalSet
    from gecko_eval.report.compare import TaskComparison

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

_TASK_STRING = "search result"
_GIVE_UP_AFTER = 3  # tasks in a row that no network can be had for
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Touch no network; only local folders and what prefetch brought.")
]
Local = Annotated[
    Path | None,
    typer.Option("--local", envvar="GECKO_DATA_DIR", help="Folder of judged sets, used before mteb's downloads."),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        "-t",
        help="mteb tasks or benchmarks, MIRACL, folder names, or 'local': every folder, the default without --data.",
    ),
]


@app.command("run")
def run_command(
    model: Annotated[str, typer.Option("--model", "-m", help="Folder, packaged name, hub id, st:NAME, or bm25.")],
    tasks: Tasks = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Your own judged set: a BEIR folder, or a table of queries: .csv, .tsv or .jsonl, also .gz."),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="Corpus of a table of queries: .csv, .tsv or .jsonl, also .gz; default: beside it."),
    ] = None,
    task_string: Annotated[str, typer.Option(help="Task string of the query prompt for --data.")] = _TASK_STRING,
    symmetric: Annotated[bool, typer.Option("--symmetric", help="Documents of --data get the query's format.")] = False,
    drop_unjudged: Annotated[
        bool, typer.Option("--drop-unjudged", help="Leave out queries without judgement.")
    ] = False,
    dims: Annotated[list[int] | None, typer.Option("--dims", "-d", help="Matryoshka dims, one or several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder; default runs/eval/MODEL-HASH.")] = None,
    local: Local = None,
    cache: Annotated[Path | None, typer.Option(help="Embeddings kept; default ~/.cache/gecko-eval.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no embeddings after the run.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[
        str, typer.Option(help="auto (bf16 where it is fast), float32 (exact), bfloat16, float16, int8 (CPU).")
    ] = "auto",
    rankings: Annotated[bool, typer.Option("--rankings", help="Keep rankings as TREC run files.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run tasks again that have results.")] = False,
    enriched: Annotated[
        list[Path] | None,
        typer.Option(help="Folders of gecko-fret enrich: their texts in the place of documents and queries."),
    ] = None,
    fields: Annotated[
        Path | None, typer.Option(help="FRet folder of the set's corpus: its titles and queries join the documents.")
    ] = None,
    field_weights: Annotated[
        str, typer.Option(help="published, title=0.5,queries=1, or a file that gecko-fret vectors wrote.")
    ] = "published",
    field_queries: Annotated[str, typer.Option(help="answered, all, relabelled or none; see gecko-fret.")] = "answered",
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Evaluate a model. Exit code 0: all tasks scored; 1: some failed; 2: nothing was scored, or bad input."""
    with exit_on_error(debug):
        _prepare(offline)
        from gecko_core.io import cache_folder
        from gecko_eval.baselines import load_model
        from gecko_eval.mteb.entries import entries_for
        from gecko_eval.mteb.run import run_tasks

        if fields is None and (field_weights, field_queries) != ("published", "answered"):
            raise ConfigError("--field-weights and --field-queries are about --fields, which is not given")
        if no_cache:
            _refuse({"--cache": cache}, "has no effect beside --no-cache; leave one of them out")
        given = {"--corpus": corpus, "--task-string": task_string != _TASK_STRING, "--symmetric": symmetric}
        if not data:
            _refuse(given, "is about --data; tasks and folders have prompts of their own")
        options = {"corpus": corpus, "task": task_string, "symmetric": symmetric, "drop": drop_unjudged}
        own = _own_sets(data or [], bool(tasks), **options)
        names = _split(tasks)
        if tasks and not names:
            raise ConfigError("--tasks is empty; name tasks, benchmarks or folders, or leave it out for all folders")
        names = names or ([] if own else ["local"])
        entries = entries_for(names, local, own, drop_unjudged=drop_unjudged)
        precision = None if dtype == "auto" else dtype
        embedder: Any = load_model(model, device=device, dtype=precision, progress=on_terminal(sys.stderr))
        if enriched:
            from gecko_eval.mteb.enriched import with_enriched

            embedder = with_enriched(embedder, enriched)
        if fields is not None:
            from gecko_eval.mteb.fields import with_fields

            which: Any = field_queries
            embedder = with_fields(embedder, fields, field_weights, which)
        chosen_dims = _check_dims(embedder, dims, task_string)
        out = out or Path("runs/eval") / f"{embedder.label}-{embedder.key[:8]}"
        _say(_describe(embedder, chosen_dims, len(entries)))
        folder = None if no_cache else cache or cache_folder("gecko-eval")
        how: dict[str, Any] = {"cache_folder": folder, "overwrite": overwrite, "rankings": rankings}
        results = run_tasks(embedder, entries, chosen_dims, out, **how, say=_say, complain=_complain)
        _close([results["tasks"][entry.name] for entry in entries], out)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Results folders; every later one is held against the first.")],
    dim: Annotated[int | None, typer.Option(help="Compare at this dim; default each model's largest.")] = None,
    dims: Annotated[
        list[int] | None, typer.Option(help="Compare these dims with each other, too: the first is the base.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a figure and a CSV of each comparison.")] = None,
    samples: Annotated[
        int, typer.Option(help="Bootstrap replicates; a tenth of them where each sorts all pairs (STS, pairs).")
    ] = 10_000,
    debug: Debug = False,
) -> None:
    """Compare models, or dims of a model, task by task: paired bootstrap, wins and losses, Holm's correction.

    `compare A B` holds B against A; `compare A --dims 768 256` holds A at 256 dims against A at 768.
    """
    with exit_on_error(debug):
        from gecko_eval.report.compare import compare_results
        from gecko_eval.report.console import comparison_summary, comparison_table
        from gecko_eval.results import load_results, make_folder, name_apart

        if dim and dims:
            raise ConfigError("--dim and --dims do not go together; --dims names every dim to compare")
        if len(folders) < 2 and len(dims or []) < 2:
            raise ConfigError("compare needs at least two results folders, or one and --dims with two of its dims")
        all_results = [load_results(folder) for folder in folders]
        name_apart(all_results)
        at_dims: list[int | None] = list(dims) if dims else [dim]
        base, *others = [(results, at) for results in all_results for at in at_dims]
        if out:
            make_folder(out)
        stems: set[str] = set()
        for side in others:
            rows = compare_results(side[0], base[0], (side[1], base[1]), samples=samples)
            name, base_name = (results["model"]["label"] + (f" @{at}" if dims else "") for results, at in (side, base))
            _print(comparison_table(rows, name, base_name))
            for line in comparison_summary(rows, name):
                _say(line)
            if out:
                _save_comparison(rows, (name, base_name), out, _stem((side, base), bool(dims), stems))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Results folders, one per model.")],
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("runs/eval/report"),
    debug: Debug = False,
) -> None:
    """Write report.md, report.html and scores.png with the paper's rows beside the measured ones."""
    with exit_on_error(debug):
        from gecko_eval.report.contamination import overlaps
        from gecko_eval.report.page import write_report
        from gecko_eval.results import load_results, make_folder, name_apart

        all_results = [load_results(folder) for folder in folders]
        name_apart(all_results)
        make_folder(out)
        for path in write_report(all_results, out):
            _say(str(path))
        for results in all_results:
            for task, sets in overlaps(results["model"]["record"], results["tasks"]).items():
                _say(f"warning: {results['model']['label']} was trained on {', '.join(sets)}: {task} is not zero-shot")


@app.command("tasks")
def tasks_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benchmarks, tasks, folders; default MTEB(eng, v1).")
    ] = None,
    local: Local = None,
    debug: Debug = False,
) -> None:
    """Show every task with its type and the prompts a Gecko gets for it."""
    with exit_on_error(debug):
        _prepare(offline=True)
        from rich.table import Table

        from gecko_core import format_document, format_query
        from gecko_eval.mteb.entries import entries_for

        table = Table("task", "type", "query side", "document side", "string from", "data")
        for entry in entries_for(names or ["MTEB(eng, v1)"], local):
            query = format_query("{text}", entry.prompt.task)
            document = query if entry.prompt.symmetric else format_document("{text}", "{title}")
            row = (entry.name, entry.kind, query, document, entry.prompt.source, entry.origin)
            table.add_row(*map(printable, row))
        _print(table)


@app.command()
def prefetch(
    names: Annotated[list[str], typer.Argument(help="Benchmarks or tasks whose data --offline runs will need.")],
    debug: Debug = False,
) -> None:
    """Download the data of tasks into the datasets cache, for later --offline runs."""
    with exit_on_error(debug):
        _prepare(offline=False)
        from gecko_eval.mteb.entries import entries_for

        wanted = _split(names)
        if not wanted:
            raise ConfigError('no task is named; name tasks or benchmarks, as `gecko-eval prefetch "MTEB(eng, v2)"`')
        entries = entries_for(wanted, None)
        failed = _fetch_all(entries, debug)
        if failed:
            raise SystemExit(2 if failed == len(entries) else 1)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Judged set of the hub, in mteb's layout, such as mteb/scifact.")],
    out: Annotated[Path, typer.Option(help="Folder to write, in BEIR's layout; best below GECKO_DATA_DIR.")],
    splits: Annotated[list[str] | None, typer.Option("--splits", help="Of the judgements; default: test.")] = None,
    documents: Annotated[
        int | None, typer.Option(min=1, help="Most documents: the judged ones, and others at random.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a judged set of the hub as a BEIR folder, which all our commands read."""
    with exit_on_error(debug):
        from gecko_eval.data import fetch_beir

        counts = fetch_beir(name, out, splits=splits or ["test"], documents=documents, progress=True)
        _say(f"{out}: {', '.join(f'{kind} {count}' for kind, count in counts.items())}")


def _fetch_all(entries: Sequence[Entry], debug: bool) -> int:
    """Download the data of every entry; returns how many failed."""
    from gecko_eval.mteb.run import in_one_line, no_network

    failed = in_a_row = 0
    for number, entry in enumerate(entries, 1):
        try:
            entry.load().unload_data()
            in_a_row = 0
            _say(f"[{number}/{len(entries)}] {entry.name}: in the cache")
        except Exception as error:
            if debug:
                raise
            failed += 1
            _complain(f"[{number}/{len(entries)}] {entry.name}: {in_one_line(error)}")
            # A single failure may be a hiccup of the hub's; each task has waited for its retries already.
            in_a_row = in_a_row + 1 if no_network(error) else 0
            if in_a_row == _GIVE_UP_AFTER and number < len(entries):
                _complain(
                    f"the hub cannot be reached: {len(entries) - number} more not tried; the same command goes on"
                )
                return failed + len(entries) - number
    return failed


def _prepare(offline: bool) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if offline:
        from gecko_eval.mteb.run import go_offline

        go_offline()


def _check_dims(embedder: TextEmbedder | Bm25, dims: list[int] | None, task_string: str) -> tuple[int, ...]:
    """The dims to evaluate, with notes on what a user may not expect."""
    from gecko_eval.in_training.retrieval import check_dims

    # (0,): a model without dims, which has no `dim` either.
    if embedder.dims == (0,) and dims:
        raise ConfigError(f"{embedder.label} has no dims; leave --dims out")
    chosen = (0,) if embedder.dims == (0,) else check_dims(embedder.dim, dims or embedder.dims)  # type: ignore[union-attr]
    if task_string != _TASK_STRING and embedder.prompted:
        _say(f"note: {embedder.label} is not prompted with task strings; --task-string changes nothing")
    for dim in set(chosen) - set(embedder.dims):
        _say(f"note: the model was not trained for {dim} dims (for {', '.join(map(str, embedder.dims))})")
    return chosen


def _describe(embedder: TextEmbedder | Bm25, dims: Sequence[int], tasks: int) -> str:
    """What is evaluated: the same name may stand for other products (bf16, fp32) and dims."""
    where = getattr(getattr(embedder, "model", None), "device", None)
    parts = [embedder.label]
    if embedder.dims != (0,):
        parts += [f"{' and '.join(map(str, dims))} dims", embedder.precision]
    return ", ".join([*parts, *([f"on {where}"] if where is not None else []), f"{tasks} tasks"])


def _close(outcomes: Sequence[Mapping[str, Any]], out: Path) -> None:
    """The last line of a run, and its exit code."""
    failed, skipped = (sum(key in outcome for outcome in outcomes) for key in ("error", "skipped"))
    scored = len(outcomes) - failed - skipped
    _say(f"{scored} of {len(outcomes)} tasks scored{f', {skipped} skipped' if skipped else ''}; results in {out}")
    if failed or not scored:
        raise SystemExit(1 if scored else 2)


def _stem(sides: Sequence[tuple[Any, int | None]], with_dims: bool, taken: set[str]) -> str:
    """A file name for a comparison that none before it has; added to ``taken``."""
    from gecko_eval.results import safe_name

    names = [Path(results["folder"]).resolve().name + (f"-{dim}" if with_dims else "") for results, dim in sides]
    stem = safe_name("-against-".join(names))
    stem += f"-{len(taken)}" if stem in taken else ""
    taken.add(stem)
    return stem


def _save_comparison(rows: Sequence[TaskComparison], names: tuple[str, str], out: Path, stem: str) -> None:
    from gecko_eval.report.compare import write_comparison
    from gecko_eval.report.figures import plot_comparison

    plot_comparison(rows, names, out / f"{stem}.png")
    write_comparison(rows, out / f"{stem}.csv")
    _say(f"figure and table: {out / stem}.png, .csv")


def _own_sets(paths: list[Path], others: bool, **options: Any) -> list[LocalSet]:
    """The sets of --data. A broken one fails alone where there is something else to run."""
    from gecko_eval.mteb.local import broken_set

    sets: list[LocalSet] = []
    errors = []
    for path in paths:
        try:
            sets.append(_own_set(path, **options))
        except DataError as error:
            errors.append(error)
            sets.append(broken_set(path, path.name, error))
    if errors and len(errors) == len(sets) and not others:
        raise errors[0]
    return sets


def _refuse(given: Mapping[str, Any], reason: str) -> None:
    """Refuse options that would change nothing."""
    name = next((name for name, value in given.items() if value), None)
    if name is not None:
        raise ConfigError(f"{name} {reason}")


def _has_only_test(path: Path) -> bool:
    from gecko_eval.data.files import holds

    return holds(path, "test.jsonl") and not holds(path, "corpus.jsonl") and not holds(path, "queries.jsonl")


def _own_set(path: Path, corpus: Path | None, task: str, symmetric: bool, drop: bool) -> LocalSet:
    from gecko_eval.data.beir import load_beir
    from gecko_eval.data.csv_set import find_queries, load_csv
    from gecko_eval.mteb.local import from_retrieval_set, local_set, recognise

    table = find_queries(path)
    if table:
        return from_retrieval_set(load_csv(table, corpus, task=task, symmetric=symmetric), table.parent)
    kind = recognise(path) if path.is_dir() else None
    # A test.jsonl alone that is of no kind: what is wrong with it is told, and not that there is no corpus.
    if (kind is not None and not kind.searches) or (kind is None and _has_only_test(path)):
        given = {"--corpus": corpus, "--task-string": task != _TASK_STRING, "--symmetric": symmetric}
        _refuse(given | {"--drop-unjudged": drop}, f"is about queries and documents, and {path} has none")
        return local_set(path, own=True)
    if corpus is not None:
        raise ConfigError(f"--corpus belongs to a queries.csv; {path} is not one")
    data = load_beir(path, task=task, symmetric=symmetric, unjudged="drop" if drop else "error")
    return from_retrieval_set(data, path)


def _split(names: list[str] | None) -> list[str]:
    """Names given with repeated options or in one, blank-separated; a benchmark's own blanks are kept."""
    out: list[str] = []
    for name in names or []:
        out += [name] if "(" in name else name.split()
    return out


def _print(table: Any) -> None:
    from rich.console import Console

    # Names of folders are data: no markup, no emoji.
    Console(width=None if on_terminal(sys.stdout) else 200, markup=False, emoji=False).print(table)


def _say(line: str) -> None:
    try:
        print(printable(line), flush=True)
    except BrokenPipeError:
        # The reader went away (`| head`); hours of evaluation must not go with it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(line: str) -> None:
    """What went wrong without ending the command."""
    print(printable(line), file=sys.stderr, flush=True)


#: Options of which every command takes several values after one name.
_SEVERAL = {
    "run": {"--dims", "-d", "--tasks", "-t", "--data", "--enriched"},
    "compare": {"--dims"},
    "fetch": {"--splits"},
}


def spread(arguments: list[str]) -> list[str]:
    """Lets commands take ``--dims 768 256`` and ``--tasks A B``: every value gets its option repeated before it."""
    several = _SEVERAL.get(arguments[0] if arguments else "", set())
    out: list[str] = []
    option = None
    for argument in arguments:
        if argument.startswith("-"):
            name, _, value = argument.partition("=")
            option = name if name in several else None
            out += [name, value] if option and value else [argument]
        elif option and out[-1] != option and (argument.isdigit() or option not in ("--dims", "-d")):
            out += [option, argument]
        else:
            out.append(argument)
    return out


def main() -> None:
    """Entry point of ``gecko-eval``."""
    run_typer(app, "gecko-eval", spread(sys.argv[1:]))


if __name__ == "__main__":
    main()
