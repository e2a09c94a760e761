"""What a build itself costs beside its models, by corpus size: time, memory, files.

    uv run python packages/gecko-fret/benchmarks/scale.py --sizes 10000 100000 1000000

Synthetic passages, a tenth of them seeds up to --seeds; the embedder and the LLM are stand-ins that take no time
(`stand_ins.py`), all the rest is a build's own: reading, duplicates, parts, search, fusion, manifest, report. These
have to be linear, but for exact search, which grows with passages times queries.
`memory.py` has the real small embedder. Every build runs in a process of its own, is stopped half way and resumed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import described, publish, table
from memory import write_corpus
from stand_ins import BagOfWords, WordsOfThePassage

from gecko_fret import build_fret, load_fret
from gecko_fret.config import parse_config
from gecko_fret.models import Models

SHOWN = ("corpus", "write", "filter", "embed", "retrieve", "score", "mine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--seeds", type=int, default=10_000, help="most seeds")
    parser.add_argument("--part-size", type=int, default=32, help="of the steps; 32 is the default of a build")
    parser.add_argument("--one", nargs=3, metavar=("CORPUS", "SEEDS", "OUT"), help="build, and print what it took")
    options = parser.parse_args()
    if options.one:
        corpus, seeds, out = options.one
        one_build(corpus, int(seeds), out, options.part_size)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            rows.append(measured(size, min(size // 10, options.seeds), Path(folder), options.part_size))
            print(*rows[-1], sep=" | ", flush=True)
    header = ["passages", "seeds", "rows", "all s", *(f"{name} s" for name in SHOWN), "report, counts s", "resuming s"]
    publish(
        "scale",
        [
            "# What a build costs beside its models",
            "",
            f"{described('numpy', 'pyarrow', 'hnswlib')}. Stand-in models of no cost, {options.part_size} seeds or "
            "queries a part, 10 candidates each; everything else as in any build. Resuming: a second call of the "
            "finished build, which checks every part. Reading: `load_fret`, every row.",
            "",
            *table([*header, "reading s", "peak memory", "files", "on disk"], rows),
        ],
    )


def measured(size: int, seeds: int, folder: Path, part_size: int) -> list[object]:
    """One row of the table."""
    corpus, out = folder / f"{size}.jsonl", folder / f"{size}"
    write_corpus(corpus, size)
    command = [sys.executable, __file__, "--part-size", str(part_size), "--one", str(corpus), str(seeds), str(out)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    files = [path for path in out.rglob("*") if path.is_file()]
    disk = sum(path.stat().st_size for path in files)
    spent = [f"{found['steps'].get(name, 0):.1f}" for name in SHOWN]
    rest = found["seconds"] - sum(found["steps"].values())
    return [
        f"{size:,}", f"{seeds:,}", f"{found['rows']:,}", f"{found['seconds']:.0f}", *spent, f"{rest:.1f}",
        f"{found['resumed']:.1f}", f"{found['read']:.1f}", f"{found['peak'] / 2**20:.2f} GiB", f"{len(files):,}",
        f"{disk / 2**30:.2f} GiB",
    ]  # fmt: skip


def one_build(corpus: str, seeds: int, out: str, part_size: int) -> None:
    """Build, stopped once half way, and print times and peak memory as JSON."""
    parts = {"part_size": part_size}
    config = parse_config(
        {
            "corpus": {"path": corpus},
            "generate": {
                "seeds": seeds,
                "attempts": 1,
                "write_task": False,
                "max_copied": 1.0,
                "contrast": 0.0,
                **parts,
            },
            "retrieve": {"candidates": 10, "seed_top_k": None, **parts},
            "score": {"judges": ["similarity", "ql"]},
            "mine": {"fuse": "rrf", "negatives": 5},
        }
    )
    asked = 0

    def half_way() -> bool:
        nonlocal asked
        asked += 1
        return asked == 2 * seeds // part_size

    def build(stop: Any = None) -> Any:
        models = Models(llms={config.llm.model: WordsOfThePassage()}, embedder=BagOfWords())
        return build_fret(config, out, progress=True, models=models, stop=stop)

    began = time.monotonic()
    build(half_way)
    summary = build()
    seconds = time.monotonic() - began
    began = time.monotonic()
    build()
    resumed = time.monotonic() - began
    began = time.monotonic()
    rows = sum(1 for _ in load_fret(out))
    found = {
        "rows": rows,
        "seconds": seconds,
        "steps": summary.seconds,
        "resumed": resumed,
        "read": time.monotonic() - began,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,  # KiB on Linux
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
