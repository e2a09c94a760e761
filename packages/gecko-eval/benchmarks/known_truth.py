"""Known truth, offline: all-MiniLM-L6-v2 and BM25 against their public scores, and against mteb by itself.

    GECKO_DATA_DIR=... python packages/gecko-eval/benchmarks/known_truth.py [--tasks ...] [--direct] [--out table.csv]

Prints one row per task: measured, public, difference. ``--direct`` adds what mteb gives when it drives
sentence-transformers without gecko-eval, and both times.
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

from gecko_eval.run import entries_for, go_offline, run


def direct_scores(entries) -> dict[str, tuple[float, float]]:
    """task -> (score, seconds) of mteb with sentence-transformers."""
    import mteb
    from sentence_transformers import SentenceTransformer

    from gecko_core.resolve import resolve

    model = SentenceTransformer(str(resolve("all-minilm-l6-v2").path))
    found = {}
    for entry in entries:
        task = entry.load()
        start = time.perf_counter()
        result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
        found[entry.name] = (100 * result.task_results[0].get_score(), time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direct", action="store_true", help="also let mteb drive sentence-transformers")
    parser.add_argument("--tasks", nargs="+", help="some of the tasks only")
    parser.add_argument("--dtype", default="float32", help="float32 (default) or auto: bf16 where it is fast")
    parser.add_argument("--out", type=Path, help="write the table as CSV, too")
    options = parser.parse_args()
    if "GECKO_DATA_DIR" not in os.environ:
        sys.exit("GECKO_DATA_DIR is not set: this needs the public sets (scifact, stsb, sts12..16, banking77, ...)")
    go_offline()
    from gecko_eval.baselines import load_model
    from gecko_eval.known_scores import BM25_SCIFACT, MINILM

    names = [name for name in MINILM if not options.tasks or name in options.tasks]
    entries = entries_for(names, Path(os.environ["GECKO_DATA_DIR"]))
    model = load_model("all-minilm-l6-v2", dtype=None if options.dtype == "auto" else options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        ours = run(model, entries, [model.dim], Path(folder) / "minilm", say=say)["tasks"]
        bm25 = run(
            load_model("bm25"), [e for e in entries if e.name == "SciFact"], [0], Path(folder) / "bm25", say=say
        )["tasks"]
    direct = direct_scores(entries) if options.direct else {}
    rows = []
    for name in names:
        public, source = MINILM[name]
        if "error" in ours[name]:
            sys.exit(ours[name]["error"])
        score = 100 * ours[name]["scores"][str(model.dim)]["main"]
        row = ["all-MiniLM-L6-v2", name, f"{score:.2f}", f"{public:.2f}", f"{score - public:+.2f}", source]
        if direct:
            row += [f"{direct[name][0]:.2f}", f"{ours[name]['seconds']:.1f}", f"{direct[name][1]:.1f}"]
        rows.append(row)
    for found in bm25.values():
        score = 100 * found["scores"]["0"]["main"]
        difference = f"{score - BM25_SCIFACT:+.2f}"
        rows.append(["BM25", "SciFact", f"{score:.2f}", f"{BM25_SCIFACT:.2f}", difference, "BEIR, Table 2"])
    header = ["model", "task", "measured", "public", "difference", "published in"]
    header += ["mteb direct", "seconds", "seconds direct"] if direct else []
    show(header, rows)
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([header, *rows])


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def show(header: list[str], rows: list[list[str]]) -> None:
    import mteb
    import torch

    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row + [""] * (len(header) - len(row))) + " |")
    versions = f"mteb {mteb.__version__}, torch {torch.__version__}"
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, {versions}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
