"""gecko-core against sentence-transformers: same weights, same texts, one run. Prints a Markdown table.

    uv run python packages/gecko-core/benchmarks/compare.py [--texts 1000] [--rounds 3] [--streamed 0]
    uv run python packages/gecko-core/benchmarks/compare.py --device cuda --texts 4000

Each variant runs in a process of its own (peak memory is the process's, on a GPU the device's); rounds alternate
between variants, so that a busy minute on the machine does not fall on one of them alone. On a GPU the processes stay
from round to round, for a waiting one takes nothing from the others. Cosines are against sentence-transformers in fp32.
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
from functools import partial
from pathlib import Path

# Name -> library, dtype, texts of a batch (0: the library's default).
VARIANTS = {
    "sentence-transformers, fp32 (its default)": ("theirs", "float32", 0),
    "sentence-transformers, bf16 weights": ("theirs", "bfloat16", 0),
    "gecko-core, fp32": ("ours", "float32", 0),
    "gecko-core, bf16 weights": ("ours", "bfloat16", 0),
    "gecko-core, default": ("ours", "auto", 0),
}
READY = "ready"
# A GPU is idle for most of the time with a batch of 32 short texts.
LARGER = {"sentence-transformers, bf16 weights, batches of 256": ("theirs", "bfloat16", 256)}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--texts", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=3, help="0: only what --streamed asks for")
    arguments.add_argument("--streamed", type=int, default=0, help="also stream this many short texts to a .npy file")
    arguments.add_argument("--layers", type=int, help="of the model that --streamed runs, fewer to be quick")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--model", default="all-minilm-l6-v2", help="name or folder; of sentence-transformers' form")
    arguments.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.worker:
        library, dtype, batch, out = options.worker
        return worker(library, dtype, batch, out, options)
    with tempfile.TemporaryDirectory() as scratch:
        if options.rounds:
            print_table(measured(Path(scratch), options), Path(scratch), options)
            if options.device == "cpu":
                print_imports(options.rounds)
        if options.streamed:
            print_stream(options, Path(scratch))
    return 0


def measured(scratch: Path, options: argparse.Namespace) -> dict[str, list[dict]]:
    """What every variant's process reports, round by round."""
    variants = VARIANTS if options.device == "cpu" else VARIANTS | LARGER
    commands = {
        name: [library, dtype, str(batch), str(scratch / f"{library}-{dtype}-{batch}.npy")]
        for name, (library, dtype, batch) in variants.items()
    }
    kept: dict[str, Child] = {}
    if options.device != "cpu":
        kept = {name: Child(command, options.texts, options) for name, command in commands.items()}
        for child in kept.values():
            child.wait()
    runs: dict[str, list[dict]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, command in commands.items():
            child = kept.get(name) or Child(command, options.texts, options)
            runs[name].append(child.measure())
            if name not in kept:
                child.close()
    for child in kept.values():
        child.close()
    return runs


class Child:
    """A process with a model, warm once it has said so, that measures whenever it is asked to."""

    def __init__(self, worker_arguments: list[str], texts: int, options: argparse.Namespace):
        command = [sys.executable, __file__, "--texts", str(texts), "--worker", *worker_arguments]
        command += ["--device", options.device, "--model", options.model]
        command += [] if options.layers is None else ["--layers", str(options.layers)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ready = False

    def wait(self) -> None:
        """Until the model is warm."""
        while not self._ready:
            self._ready = self._line() == READY

    def measure(self) -> dict:
        self.wait()
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with exit code {self._process.wait()}")
        return line.strip()


def worker(library: str, dtype: str, batch: str, out: str, options: argparse.Namespace) -> int:
    """Encodes an eighth of the texts to warm up, then all of them for each line that it is sent; reports as JSON."""
    import numpy as np
    import torch
    from test_encoding_speed import passages

    from gecko_core.folder import resolve

    path, texts = str(resolve(options.model).path), options.texts
    if library == "streamed":
        from gecko_core import Gecko

        model = Gecko.from_pretrained(path, device=options.device)
        model.backbone.encoder.layer = model.backbone.encoder.layer[: options.layers]
        model.encode(["warm"])
        print(READY, flush=True)
        sys.stdin.readline()
        before = peak_mb("cpu")
        started = time.perf_counter()
        count = model.encode_stream((f"gecko number {i}" for i in range(texts)), out)
        seconds, threads = time.perf_counter() - started, torch.get_num_threads()
        print(json.dumps({"seconds": seconds, "texts": count, "extra_mb": peak_mb("cpu") - before, "threads": threads}))
        return 0
    data = passages(texts)
    if library == "ours":
        from gecko_core import Gecko

        encode = Gecko.from_pretrained(path, device=options.device, dtype=None if dtype == "auto" else dtype).encode
    else:
        from sentence_transformers import SentenceTransformer

        kwargs = {"torch_dtype": getattr(torch, dtype)}
        theirs = SentenceTransformer(path, device=options.device, model_kwargs=kwargs)
        encode = partial(theirs.encode, batch_size=int(batch) or 32)
    encode(data[: max(1, texts // 8)])
    print(READY, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        vectors = encode(data)
        found = {"seconds": time.perf_counter() - started, "peak_mb": peak_mb(options.device)}
        np.save(out, np.asarray(vectors, dtype=np.float32))
        print(json.dumps(found | {"threads": torch.get_num_threads()}), flush=True)
    return 0


def peak_mb(device: str) -> float:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_table(runs: dict[str, list[dict]], scratch: Path, options: argparse.Namespace) -> None:
    import numpy as np

    def vectors(name: str) -> np.ndarray:
        found = np.load(scratch / "{}-{}-{}.npy".format(*(VARIANTS | LARGER)[name]))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    names = list(runs)
    reference = vectors(names[0])
    seconds = {name: statistics.median(run["seconds"] for run in runs[name]) for name in names}
    packages = ("gecko-core", "sentence-transformers", "transformers", "torch")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    threads = runs[names[0]][0]["threads"]
    where = f"{platform.machine()} CPU, {threads} threads of {os.cpu_count()}"
    if options.device != "cpu":
        import torch

        where = f"{torch.cuda.get_device_name()}, {os.cpu_count()} CPU cores"
    print(f"{options.texts} passages, {Path(options.model).name}, {where},")
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


def print_stream(options: argparse.Namespace, scratch: Path) -> None:
    child = Child(["streamed", "auto", "0", str(scratch / "streamed.npy")], options.streamed, options)
    found = child.measure()
    child.close()
    cut = "" if options.layers is None else f" ({Path(options.model).name} cut to {options.layers} layers)"
    print(f"\n{found['texts']:,} short texts streamed{cut} on {found['threads']} threads, {date.today()}: ", end="")
    print(f"{found['texts'] / found['seconds']:.0f} texts/s, ", end="")
    print(f"{found['extra_mb']:.0f} MB of extra memory")


if __name__ == "__main__":
    sys.exit(main())
