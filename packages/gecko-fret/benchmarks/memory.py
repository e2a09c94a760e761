"""Peak memory and time of whole builds by corpus size: short passages, MiniLM and SmolLM2 on CPU, few seeds.

    uv run python packages/gecko-fret/benchmarks/memory.py --sizes 10000 100000 1000000 --work /tmp/memory

Each build runs in a process of its own; the peak is what the system counted for that process. A million passages take
hours on a CPU: stopped, the same command goes on with the builds in the folder, and the peak is the last process'.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import described, publish, table

from gecko_fret.corpus import python_docs, split_sentences

# Sentences drawn at random make no passages that a judge could find, and none can be calibrated: the paper's fusion.
SETTINGS = [
    "generate.seeds=8", "generate.attempts=1", "retrieve.seed_top_k=null", "retrieve.candidates=8", "mine.fuse=rrf",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--work", type=Path, help="folder of corpora and builds; without it, they are not kept")
    parser.add_argument("--one", nargs=2, metavar=("CORPUS", "OUT"), help="build, and print the process's peak memory")
    options = parser.parse_args()
    if options.one:
        one_build(*options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(size, options.work or Path(folder)) for size in options.sizes]
    header = [
        "passages",
        "words",
        "peak memory",
        "corpus read and written s",
        "embedding s",
        "retrieving s",
        "all steps s",
    ]
    publish(
        "memory",
        [
            "# Memory of a whole build",
            "",
            f"{described('torch', 'transformers', 'pyarrow')}; the build on {os.environ.get('OMP_NUM_THREADS', 'all')} "
            "thread(s). all-MiniLM-L6-v2 embeds, SmolLM2-135M-Instruct writes 8 queries and scores 8 candidates each.",
            "",
            *table(header, rows),
        ],
    )


def measure(size: int, folder: Path) -> list[object]:
    """One row of the table."""
    corpus, out, kept = folder / f"{size}.jsonl", folder / f"{size}", folder / f"{size}.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        words = write_corpus(corpus, size)
        command = [sys.executable, __file__, "--one", str(corpus), str(out)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        kept.write_text(json.dumps({"words": words, "peak": int(printed.split()[-1])}), encoding="utf-8")
    found = json.loads(kept.read_text(encoding="utf-8"))
    stages = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["stages"]
    seconds = [f"{stages[name]['seconds']:.0f}" for name in ("corpus", "embed", "retrieve")]
    spent = sum(stage["seconds"] for stage in stages.values())
    return [f"{size:,}", f"{found['words']:,}", f"{found['peak'] / 2**20:.2f} GiB", *seconds, f"{spent:.0f}"]


def one_build(corpus: str, out: str) -> None:
    from gecko_fret.build.pipeline import build_fret
    from gecko_fret.config import load_config

    build_fret(load_config(None, [f"corpus.path={corpus}", *SETTINGS]), out, progress=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux


def write_corpus(path: Path, size: int) -> int:
    """Passages of two sentences of the interpreter's documentation, no two alike; returns the number of words."""
    sentences = [s for passage in python_docs() for s in split_sentences(passage.text) if 5 <= len(s.split()) <= 25]
    draw, seen, words = random.Random(0), set(), 0
    with path.open("w", encoding="utf-8") as file:
        while len(seen) < size:
            text = " ".join(draw.sample(sentences, 2))
            if text not in seen:
                seen.add(text)
                words += len(text.split())
                file.write(json.dumps({"id": str(len(seen)), "text": text}) + "\n")
    return words


if __name__ == "__main__":
    main()
