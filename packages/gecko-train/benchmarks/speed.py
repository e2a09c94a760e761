"""Training speed and peak memory against sentence-transformers' trainer, in alternating rounds, as a Markdown table.

    python packages/gecko-train/benchmarks/speed.py --model minilm --precision bf16 --rounds 2
    python packages/gecko-train/benchmarks/speed.py --model smollm2 --precision bf16
    python packages/gecko-train/benchmarks/speed.py --device cuda --batch 512 --steps 20 --warm 8

Every measurement is a process of its own, so that peak memory (on a GPU, the device's) is its own too. Real length
distributions: title-body pairs of the Python documentation, its titles with first sentences, the abstracts of SciFact
(`--source python-docs first-sentences scifact`). The first steps of each process are not counted (`--warm`).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import side_by_side as side

MODELS = {"minilm": ("all-MiniLM-L6-v2", (384, 128)), "smollm2": ("SmolLM2-135M, first {} layers", (576, 256))}


def measure(given: argparse.Namespace) -> None:
    """One process: train a few steps, print a line of JSON."""
    steps = given.steps + given.warm
    mixture, batches = side.plan(side.pairs(given.source[0]), given.batch, steps)
    dims = MODELS[given.model][1]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if given.library == "gecko-train":
            # The batch fits, as it does for the other side.
            budget = {"micro_batch_tokens": 65_536 if given.device == "cpu" else 524_288}
            found = side.ours(
                given.folder, dims, mixture, steps, given.precision, given.length, out, device=given.device, **budget
            )
        else:
            found = side.theirs(given.folder, dims, batches, given.precision, given.length, out, given.device)
    found["peak"] = peak(given.device)
    print("RESULT " + side.dump(found))


def peak(device: str) -> float:
    """Largest memory of this process so far, in GB: of the device or, on a CPU, of the process."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    import torch

    return torch.cuda.max_memory_allocated(device) / 1e9


def run(given: argparse.Namespace, source: str, library: str) -> dict:
    command = [sys.executable, __file__, "--library", library, "--source", source]
    for key in ("model", "precision", "batch", "steps", "length", "folder", "layers", "device", "warm"):
        command += [f"--{key}", str(getattr(given, key))]
    done = subprocess.run(command, capture_output=True, text=True)
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(line.removeprefix("RESULT "))


def compare(given: argparse.Namespace) -> str:
    name = MODELS[given.model][0].format(given.layers)
    lines = [
        "| model | precision | pairs | tokens of a text | trainer | tokens/s, by round | peak memory, GB | "
        "time ratio, by round |",
        "|---|---|---|---:|---|---|---:|---|",
    ]
    waiting = 0.0
    for source in given.source:
        rounds: dict[str, list[dict]] = {"gecko-train": [], "sentence-transformers": []}
        for number in range(given.rounds):
            for library in rounds if number % 2 == 0 else reversed(rounds):
                rounds[library].append(run(given, source, library))
                seconds = sum(rounds[library][-1]["seconds"][given.warm :])
                print(source, number, library, f"{seconds:.1f} s", file=sys.stderr, flush=True)
        tokens = sum(rounds["gecko-train"][0]["tokens"][given.warm :])
        speed = {key: [tokens / sum(one["seconds"][given.warm :]) for one in found] for key, found in rounds.items()}
        ratios = [f"{a / b:.2f}" for a, b in zip(*speed.values(), strict=True)]
        mean = tokens / (2 * given.batch * given.steps)
        for library, found in rounds.items():
            memory = max(one["peak"] for one in found)
            ratio = ", ".join(ratios) if library == "gecko-train" else "1"
            lines.append(
                f"| {name} | {given.precision} | {source} | {mean:.0f} | {library} | {_row(speed[library])} | "
                f"{memory:.2f} | {ratio} |"
            )
        waiting = max(waiting, *(one["waiting"] for one in rounds["gecko-train"]))
    return "\n".join(
        [
            *lines,
            "",
            f"Batch {given.batch}, at most {given.length} tokens per text, {given.steps} steps a round (tokens without "
            f"padding), no gradient caching on either side; gecko-train waited for data {waiting:.2%} of its time at "
            f"most. {side.machine(given.device)}.",
            "",
        ]
    )


def _row(values: list[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="minilm")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--source", nargs="+", default=["python-docs"], help=f"of {', '.join(side.SOURCES)}, or a set")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm", type=int, default=1, help="steps before those; on a GPU the first compile kernels")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--library", default="")
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    if given.library:
        measure(given)
        return
    with tempfile.TemporaryDirectory() as scratch:
        if given.model == "minilm":
            from gecko_core.folder import resolve

            given.folder = str(resolve("all-minilm-l6-v2").path)
        else:
            given.folder = side.decoder(given.layers, Path(scratch) / "decoder")
        table = compare(given)
    print(table)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    where = "" if given.device == "cpu" else f"-{given.device}"
    (results / f"speed-{given.model}-{given.precision}{where}.md").write_text(table)


if __name__ == "__main__":
    main()
