"""gecko-core against sentence-transformers: same weights, same texts, one run. Prints a Markdown table.

    uv run python packages/gecko-core/benchmarks/compare.py [--texts 1000] [--rounds 3] [--streamed 0]

Each variant runs in a process of its own (peak memory is the process's); rounds alternate between variants, so that a
busy minute on the machine does not fall on one of them alone. Cosines are against sentence-transformers in fp32.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

VARIANTS = {
    "sentence-transformers, fp32 (its default)": ("theirs", "float32"),
    "sentence-transformers, bf16 weights": ("theirs", "bfloat16"),
    "gecko-core, fp32": ("ours", "float32"),
    "gecko-core, bf16 weights": ("ours", "bfloat16"),
    "gecko-core, default": ("ours", "auto"),
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--texts", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=3, help="0: only what --streamed asks for")
    arguments.add_argument("--streamed", type=int, default=0, help="also stream this many short texts to a .npy file")
    arguments.add_argument("--layers", type=int, help="of the model that --streamed runs, fewer to be quick")
    arguments.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.worker:
        return worker(*options.worker, texts=options.texts, layers=options.layers)
    with tempfile.TemporaryDirectory() as scratch:
        runs: dict[str, list[dict]] = {name: [] for name in VARIANTS}
        for _ in range(options.rounds):
            for name, (library, dtype) in VARIANTS.items():
                runs[name].append(child([library, dtype, f"{scratch}/{library}-{dtype}.npy"], options.texts))
        if options.rounds:
            print_table(runs, Path(scratch), options)
            print_imports(options.rounds)
        if options.streamed:
            print_stream(options.streamed, options.layers, Path(scratch))
    return 0


def child(worker_arguments: list[str], texts: int, layers: int | None = None) -> dict:
    command = [sys.executable, __file__, "--texts", str(texts), "--worker", *worker_arguments]
    command += [] if layers is None else ["--layers", str(layers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def worker(library: str, dtype: str, out: str, *, texts: int, layers: int | None) -> int:
    """Encodes once to warm up (an eighth of the texts), then all of them, and reports as JSON."""
    import numpy as np
    import torch
    from test_encoding_speed import passages

    from gecko_core.folder import resolve

    path = str(resolve("all-minilm-l6-v2").path)
    if library == "streamed":
        from gecko_core import Gecko

        model = Gecko.from_pretrained(path, device="cpu")
        model.backbone.encoder.layer = model.backbone.encoder.layer[:layers]
        model.encode(["warm"])
        before = peak_mb()
        started = time.perf_counter()
        count = model.encode_stream((f"gecko number {i}" for i in range(texts)), out)
        seconds, threads = time.perf_counter() - started, torch.get_num_threads()
        print(json.dumps({"seconds": seconds, "texts": count, "extra_mb": peak_mb() - before, "threads": threads}))
        return 0
    data = passages(texts)
    if library == "ours":
        from gecko_core import Gecko

        encode = Gecko.from_pretrained(path, device="cpu", dtype=None if dtype == "auto" else dtype).encode
    else:
        from sentence_transformers import SentenceTransformer

        kwargs = {"torch_dtype": getattr(torch, dtype)}
        encode = SentenceTransformer(path, device="cpu", model_kwargs=kwargs).encode
    encode(data[: max(1, texts // 8)])
    started = time.perf_counter()
    vectors = encode(data)
    seconds = time.perf_counter() - started
    np.save(out, np.asarray(vectors, dtype=np.float32))
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "threads": torch.get_num_threads()}))
    return 0


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_table(runs: dict[str, list[dict]], scratch: Path, options: argparse.Namespace) -> None:
    import numpy as np

    def vectors(name: str) -> np.ndarray:
        library, dtype = VARIANTS[name]
        found = np.load(scratch / f"{library}-{dtype}.npy")
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    names = list(VARIANTS)
    reference = vectors(names[0])
    seconds = {name: statistics.median(run["seconds"] for run in runs[name]) for name in names}
    packages = ("gecko-core", "sentence-transformers", "transformers", "torch")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    threads = runs[names[0]][0]["threads"]
    print(
        f"{options.texts} passages, all-MiniLM-L6-v2, {platform.machine()} CPU, {threads} threads of {os.cpu_count()},"
    )
    print(f"median of {options.rounds} rounds, {date.today()}; {versions}\n")
    print("| | texts/s | against ST fp32 | against ST bf16 | peak MB | lowest cosine |\n|---|---:|---:|---:|---:|---:|")
    for name in names:
        rate = options.texts / seconds[name]
        fp32, bf16 = (seconds[theirs] / seconds[name] for theirs in names[:2])
        peak = max(run["peak_mb"] for run in runs[name])
        lowest = float((vectors(name) * reference).sum(axis=1).min())
        print(f"| {name} | {rate:.1f} | {fp32:.2f}x | {bf16:.2f}x | {peak:.0f} | {lowest:.6f} |")


def print_imports(rounds: int) -> None:
    def seconds(code: str) -> float:
        def once() -> float:
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            return time.perf_counter() - started

        return statistics.median(once() for _ in range(rounds))

    base = seconds("import torch; from transformers import AutoModel")
    light, full = seconds("import gecko_core"), seconds("from gecko_core import Gecko")
    print(f"\nimport torch and transformers' AutoModel: {base:.2f} s; import gecko_core: {light:.2f} s ", end="")
    print(f"({light / base:.2f}x); from gecko_core import Gecko: {full:.2f} s ({full / base:.2f}x)")


def print_stream(count: int, layers: int | None, scratch: Path) -> None:
    found = child(["streamed", "auto", str(scratch / "streamed.npy")], count, layers)
    cut = "" if layers is None else f" (all-MiniLM-L6-v2 cut to {layers} of its 6 layers)"
    print(f"\n{found['texts']:,} short texts streamed{cut} on {found['threads']} threads, {date.today()}: ", end="")
    print(f"{found['texts'] / found['seconds']:.0f} texts/s, ", end="")
    print(f"{found['extra_mb']:.0f} MB of extra memory")


if __name__ == "__main__":
    sys.exit(main())
