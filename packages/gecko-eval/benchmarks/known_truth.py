"""Known truth, offline: all-MiniLM-L6-v2 and BM25 against their public scores, and against mteb by itself.

    export GECKO_DATA_DIR=...
    python packages/gecko-eval/benchmarks/known_truth.py [--tasks ...] [--no-direct] [--out table.csv]
    python packages/gecko-eval/benchmarks/known_truth.py --show --out table.csv

One row per task: measured with fp32 and with bf16 where the device is fast at it (``--dtype auto``), what mteb gives
when it drives sentence-transformers in fp32 without gecko-eval, and the public figure. Rows go into the CSV one by one,
so that the tasks can be measured in several runs; ``--show`` prints the whole file as a table.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

HEADER = ["model", "task", "fp32", "bf16", "mteb direct", "public", "difference", "made"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", help="some of the tasks only, or BM25")
    parser.add_argument("--no-direct", action="store_true", help="do not let mteb drive sentence-transformers")
    parser.add_argument("--out", type=Path, help="CSV to which rows are added")
    parser.add_argument("--show", action="store_true", help="print what --out holds and measure nothing")
    options = parser.parse_args()
    if options.show:
        with options.out.open(newline="", encoding="utf-8") as f:
            show(list(csv.DictReader(f)))
        return
    if "GECKO_DATA_DIR" not in os.environ:
        sys.exit("GECKO_DATA_DIR is not set: this needs the public sets (scifact, stsb, sts12..16, banking77, ...)")
    from gecko_eval.mteb.entries import entries_for
    from gecko_eval.mteb.run import go_offline

    go_offline()
    from gecko_eval.report.published import MINILM

    names = [*MINILM, "BM25"]
    if wrong := set(options.tasks or []) - set(names):
        sys.exit(f"no public score of {', '.join(sorted(wrong))}; there are {', '.join(names)}")
    rows = []
    for name in options.tasks or names:
        if name == "BM25":
            rows.append(bm25_row(entries_for(["SciFact"], Path(os.environ["GECKO_DATA_DIR"]))))
        else:
            rows.append(minilm_row(name, entries_for([name], Path(os.environ["GECKO_DATA_DIR"])), options.no_direct))
        if options.out:
            append(options.out, rows[-1])
    show(rows)


def minilm_row(name: str, entries, no_direct: bool) -> dict[str, str]:
    from gecko_eval.baselines import load_model
    from gecko_eval.report.published import MINILM

    exact = score(load_model("all-minilm-l6-v2", dtype="float32"), entries)
    half = score(load_model("all-minilm-l6-v2", dtype=None), entries)
    direct = "" if no_direct else f"{direct_score(entries[0]):.3f}"
    public = MINILM[name]
    values = [f"{exact:.3f}", f"{half:.3f}", direct, f"{public:.3f}", f"{exact - public:+.3f}", made()]
    return dict(zip(HEADER, ["all-MiniLM-L6-v2", name, *values], strict=True))


def bm25_row(entries) -> dict[str, str]:
    from gecko_eval.baselines import load_model
    from gecko_eval.report.published import BM25_SCIFACT

    found = score(load_model("bm25"), entries)
    values = [f"{found:.3f}", "", "", f"{BM25_SCIFACT:.3f}", f"{found - BM25_SCIFACT:+.3f}", made()]
    return dict(zip(HEADER, ["BM25", "SciFact", *values], strict=True))


def score(model, entries) -> float:
    from gecko_eval.mteb.run import run_tasks

    with tempfile.TemporaryDirectory() as folder:
        found = run_tasks(model, entries, [getattr(model, "dim", 0)], Path(folder), say=say)["tasks"][entries[0].name]
    if "error" in found:
        sys.exit(found["error"])
    return 100 * next(iter(found["scores"].values()))["main"]


def direct_score(entry) -> float:
    """mteb with sentence-transformers, nothing of gecko-eval but the data."""
    import mteb
    from sentence_transformers import SentenceTransformer

    from gecko_core.folder import resolve

    model = SentenceTransformer(str(resolve("all-minilm-l6-v2").path))
    result = mteb.evaluate(model, entry.load(), cache=None, co2_tracker=False, show_progress_bar=False)
    return 100 * result.task_results[0].get_score()


def made() -> str:
    import mteb
    import sentence_transformers
    import torch

    libraries = (mteb, sentence_transformers, torch)
    versions = ", ".join(f"{library.__name__} {library.__version__}" for library in libraries)
    return f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {torch.get_num_threads()} threads, {versions}"


def append(path: Path, row: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, HEADER)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def show(rows: list[dict[str, str]]) -> None:
    from gecko_eval.report.published import BM25_SOURCE, MINILM_SOURCE

    print("| " + " | ".join(HEADER[:-1]) + " |\n|" + "---|" * (len(HEADER) - 1))
    for row in rows:
        print("| " + " | ".join(row[column] for column in HEADER[:-1]) + " |")
    print(f"\nPublic: {MINILM_SOURCE}; BM25: {BM25_SOURCE}.")
    for line in sorted({row["made"] for row in rows}):
        print(line)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
