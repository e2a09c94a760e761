"""The whole offline suite: gecko-eval beside mteb driving sentence-transformers, the same tasks and model, in one run.

    export GECKO_DATA_DIR=...
    python packages/gecko-eval/benchmarks/suite.py --out suite.csv [--tasks ...] [--seconds 420] [--dtype auto]
    python packages/gecko-eval/benchmarks/suite.py --out suite.csv --show

Every task is measured on both sides before the next one begins, so that both see the same machine; which side goes
first alternates. Rows go into the CSV one by one: tasks that are there are not measured again, and ``--seconds`` stops
between two tasks, so the suite can be measured in pieces. ``--show`` prints the table, the totals, and which tasks of
the suite are missing.

Each side's time is loading the task's data, encoding, scoring; models are loaded and warmed up before. gecko-eval
starts every task with an empty embedding cache on disk and writes per-item scores as well. Both sides give one dim.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

MODEL = "all-minilm-l6-v2"  # is encoded without prompts, so no set needs one here
COLUMNS = ["task", "type", "gecko-eval s", "mteb s", "gecko-eval score", "mteb score", "gecko-eval dtype", "made"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV to which rows are added")
    parser.add_argument("--tasks", nargs="+", default=["local"])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no task after this long")
    parser.add_argument("--dtype", default="auto", help="of gecko-eval; auto: bf16 products where they are fast")
    parser.add_argument("--show", action="store_true", help="print what --out holds and measure nothing")
    options = parser.parse_args()
    if "GECKO_DATA_DIR" not in os.environ:
        sys.exit("GECKO_DATA_DIR is not set: this needs the folders of judged sets")
    from gecko_eval.mteb.entries import entries_for
    from gecko_eval.mteb.run import go_offline

    go_offline()
    entries = entries_for(options.tasks, Path(os.environ["GECKO_DATA_DIR"]), drop_unjudged=True)
    rows = read(options.out)
    if not options.show:
        measure(entries, rows, options)
    show(rows, [entry.name for entry in entries])


def measure(entries, rows: list[dict[str, str]], options) -> None:
    began = time.monotonic()
    from sentence_transformers import SentenceTransformer

    from gecko_core.folder import resolve
    from gecko_eval.baselines import load_model

    ours = load_model(MODEL, dtype=None if options.dtype == "auto" else options.dtype)
    theirs = SentenceTransformer(str(resolve(MODEL).path))
    for entry in warm_up():
        our_run(ours, entry)
        their_run(theirs, entry)
    for number, entry in enumerate(entries):
        if entry.name in {row["task"] for row in rows}:
            continue
        if time.monotonic() - began > options.seconds:
            print(f"stopped before {entry.name}; the same command goes on", file=sys.stderr)
            return
        sides = [("ours", lambda e=entry: our_run(ours, e)), ("theirs", lambda e=entry: their_run(theirs, e))]
        found = {name: call() for name, call in (sides if number % 2 else reversed(sides))}
        rows.append(
            {
                "task": entry.name,
                "type": entry.kind,
                "gecko-eval s": f"{found['ours'][1]:.2f}",
                "mteb s": f"{found['theirs'][1]:.2f}",
                "gecko-eval score": f"{found['ours'][0]:.3f}",
                "mteb score": f"{found['theirs'][0]:.3f}",
                "gecko-eval dtype": ours.precision,
                "made": made(),
            }
        )
        append(options.out, rows[-1])
        print(", ".join(rows[-1][column] for column in COLUMNS[:-1]), file=sys.stderr, flush=True)


def warm_up():
    """Tasks of a few texts: what either side imports and builds at first use is not a task's time."""
    from gecko_eval.data.sets import RetrievalSet
    from gecko_eval.mteb.entries import entries_for
    from gecko_eval.mteb.local import from_retrieval_set, local_set

    texts = [f"a text of number {i}" for i in range(8)]
    ids = list(map(str, range(8)))
    data = RetrievalSet("warm up", ids, texts, ids, texts, None, {i: {i: 1} for i in ids})
    folder = Path(tempfile.mkdtemp())
    labelled = [{"text": text, "label": f"class {i % 2}"} for i, text in enumerate(texts * 4)]
    pairs = [{"sentence1": a, "sentence2": b, "score": i % 3} for i, (a, b) in enumerate(itertools.pairwise(texts))]
    for name, rows in (("classes/train", labelled), ("classes/test", labelled), ("pairs/test", pairs)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield from entries_for(
        [], None, [from_retrieval_set(data, folder), local_set(folder / "classes"), local_set(folder / "pairs")]
    )
    shutil.rmtree(folder)


def our_run(model, entry) -> tuple[float, float]:
    from gecko_eval.mteb.run import run_tasks

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = run_tasks(
            model, [entry], [model.dim], Path(folder) / "out", cache_folder=Path(folder) / "cache", say=str
        )
        seconds = time.perf_counter() - start
    task = found["tasks"][entry.name]
    if "error" in task:
        sys.exit(task["error"])
    return 100 * task["scores"][str(model.dim)]["main"], seconds


def their_run(model, entry) -> tuple[float, float]:
    import mteb

    start = time.perf_counter()
    task = entry.load()
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return 100 * result.task_results[0].get_score(), time.perf_counter() - start


def made() -> str:
    import mteb
    import sentence_transformers
    import torch

    libraries = (mteb, sentence_transformers, torch)
    versions = ", ".join(f"{library.__name__} {library.__version__}" for library in libraries)
    return f"{time.strftime('%Y-%m-%d')}, {processor()}, {torch.get_num_threads()} threads, {versions}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.machine()


def read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def append(path: Path, row: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def show(rows: list[dict[str, str]], wanted: list[str]) -> None:
    print("| task | type | gecko-eval, s | mteb, s | ratio | gecko-eval | mteb | difference |\n|" + "---|" * 8)
    ours = theirs = 0.0
    for row in rows:
        a, b = float(row["gecko-eval s"]), float(row["mteb s"])
        ours, theirs = ours + a, theirs + b
        scores = row["gecko-eval score"], row["mteb score"]
        difference = f"{float(scores[0]) - float(scores[1]):+.3f}"
        cells = [row["task"], row["type"], f"{a:.1f}", f"{b:.1f}", f"{b / a:.2f}", *scores, difference]
        print("| " + " | ".join(cells) + " |")
    if rows:
        print(f"| all {len(rows)} | | {ours:.1f} | {theirs:.1f} | {theirs / ours:.2f} | | | |")
        gaps = [abs(float(row["gecko-eval score"]) - float(row["mteb score"])) for row in rows]
        print(f"\nLargest difference of scores: {max(gaps):.3f} points.")
    missing = [name for name in wanted if name not in {row["task"] for row in rows}]
    print(f"Not measured: {', '.join(missing) or 'none of what was asked for'}.")
    for line in sorted({f"{row['made']}; gecko-eval {row['gecko-eval dtype']}, mteb float32" for row in rows}):
        print(line)


if __name__ == "__main__":
    main()
