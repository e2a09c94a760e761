"""gecko-core on a CPU against the fastest ways of sentence-transformers: ONNX Runtime, OpenVINO; fp32, bf16, int8.

    uv run python packages/gecko-core/benchmarks/rivals.py --work W --onnx PYTHON --openvino PYTHON [--write [NAME]]

The two rivals come from environments of their own:

    python -m venv E1 && E1/bin/pip install sentence-transformers "optimum-onnx[onnxruntime]"
    python -m venv E2 && E2/bin/pip install sentence-transformers "optimum-intel[openvino]" nncf datasets

Every way is a process of its own that stays; for each distribution of lengths they encode the same texts in turn, for
some rounds. Figures are medians of the rounds' ratios to sentence-transformers in fp32. Cosines are against it, too.
"As PyTorch runs it" is GECKO_COMPUTE=torch, without what a probe chooses otherwise.
Texts of an exact length are words of one token. gecko-core's int8 is left out where the processor has no
instructions for it, and the page says so. `--write` writes results/rivals.md, or another page of that name for another
machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

READY = "ready"
BASE = "sentence-transformers, fp32"
# Name -> environment, what the worker makes of it.
WAYS = {
    BASE: ("own", "torch float32"),
    "sentence-transformers, bf16 weights": ("own", "torch bfloat16"),
    "ONNX Runtime, fp32 (O3)": ("onnx", "onnx O3"),
    "ONNX Runtime, int8 (dynamic)": ("onnx", "onnx int8"),
    "OpenVINO, fp32": ("openvino", "openvino f32"),
    "OpenVINO, bf16": ("openvino", "openvino bf16"),
    "OpenVINO, int8 (static)": ("openvino", "openvino int8"),
    "gecko-core, fp32": ("own", "gecko float32"),
    "gecko-core, fp32, as PyTorch runs it": ("own", "gecko-torch float32"),
    "gecko-core, default": ("own", "gecko auto"),
    "gecko-core, default, as PyTorch runs it": ("own", "gecko-torch auto"),
    "gecko-core, int8": ("own", "gecko int8"),
}
# Refused where the processor has no instructions for it; any other way that fails ends the run.
MAY_BE_REFUSED = {"gecko-core, int8"}
LENGTHS = ("16", "64", "170", "256", "512")
LONGEST = 512  # tokens of a text, for all
TOKENS = 12_000  # about so many of each distribution
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--work", type=Path, help="where exported models are kept")
    arguments.add_argument("--onnx", help="Python of an environment with optimum-onnx; without it, not measured")
    arguments.add_argument("--openvino", help="Python of an environment with optimum-intel, nncf and datasets")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--tokens", type=int, default=TOKENS)
    arguments.add_argument("--model", default="all-minilm-l6-v2")
    arguments.add_argument("--write", nargs="?", const="rivals", metavar="NAME")
    arguments.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.worker:
        return worker(*options.worker)
    if options.work is None:
        arguments.error("--work is missing")
    page = measured(options)
    print(page)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{options.write}.md").write_text(page + "\n", encoding="utf-8")
    return 0


def measured(options: argparse.Namespace) -> str:
    """Run everything and return the page."""
    options.work.mkdir(parents=True, exist_ok=True)
    texts = distributions(options)
    pythons = {"own": sys.executable, "onnx": options.onnx, "openvino": options.openvino}
    ways = {name: (pythons[where], kind) for name, (where, kind) in WAYS.items() if pythons[where]}
    children: dict[str, Child] = {}
    refused: dict[str, str] = {}
    for name, (python, kind) in ways.items():
        try:
            children[name] = Child(str(python), kind, options)
        except ChildProcessError as error:
            if name not in MAY_BE_REFUSED:
                raise
            refused[name] = str(error)
            print(f"{name}: left out ({error})", file=sys.stderr, flush=True)
            continue
        print(f"{name}: first vector after {children[name].started:.1f} s", file=sys.stderr, flush=True)
    rates: dict[str, dict[str, list[float]]] = {name: {} for name in children}
    cosines: dict[str, dict[str, float]] = {name: {} for name in children}
    for what in texts:
        for number in range(options.rounds + 1):
            for name, child in children.items():
                seconds = child.encode(options.work / f"{what}.json")
                if number:  # the first one warms up
                    rates[name].setdefault(what, []).append(len(texts[what]) / seconds)
        for name, child in children.items():
            cosines[name][what] = lowest_cosine(child.out, children[BASE].out)
        done = ", ".join(f"{name} {statistics.median(rate[what]):.0f}" for name, rate in rates.items())
        print(f"{what}: {done} texts/s", file=sys.stderr, flush=True)
    processes = {name: (child.started, child.close()) for name, child in children.items()}
    return report(options, texts, rates, cosines, processes, refused)


class Child:
    """A process with a model that encodes the file it is told."""

    def __init__(self, python: str, kind: str, options: argparse.Namespace) -> None:
        from gecko_core.folder import resolve

        self.out = options.work / f"{kind.replace(' ', '-')}.npy"
        command = [python, __file__, "--worker", kind, str(resolve(options.model).path), str(options.work)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        if kind.startswith("gecko-torch"):
            environment["GECKO_COMPUTE"] = "torch"
        prepare = [python, __file__, "--worker", f"export {kind}", *command[4:]]
        subprocess.run(prepare, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._lines(READY)
        self.started = time.perf_counter() - began

    def encode(self, path: Path) -> float:
        """Seconds to encode the texts of a file; their vectors are in ``out`` then."""
        assert self._process.stdin
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return float(self._lines("seconds").split()[1])

    def close(self) -> float:
        """End it and return its peak memory in MB."""
        assert self._process.stdin
        self._process.stdin.write("end\n")
        self._process.stdin.flush()
        peak = float(self._lines("peak").split()[1])
        self._process.communicate()
        return peak

    def _lines(self, wanted: str) -> str:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith(wanted):
                return line.strip()
        raise ChildProcessError(f"{self.out.stem}: the process ended with exit code {self._process.wait()}")


def worker(kind: str, path: str, work: str) -> int:
    """One way, or its export: needs sentence-transformers only, gecko-core for its own."""
    library, _, form = kind.partition(" ")
    if library == "export":
        if not form.startswith(("torch", "gecko")):
            backend, _, what = form.partition(" ")
            exported(backend, what, path, Path(work))
        return 0
    encode = encoder(library, form, path, Path(work))
    encode(["warm"])
    print(READY, flush=True)
    import numpy as np

    for line in sys.stdin:
        if line.strip() == "end":
            break
        texts = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
        began = time.perf_counter()
        vectors = encode(texts)
        seconds = time.perf_counter() - began
        np.save(Path(work) / f"{kind.replace(' ', '-')}.npy", np.asarray(vectors, dtype=np.float32))
        print(f"seconds {seconds}", flush=True)
    print(f"peak {peak_mb()}", flush=True)
    return 0


def peak_mb() -> float:
    """The most memory of this process. What getrusage says of a child begins with the parent's at its start."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status: this measures on Linux alone")


def encoder(library: str, form: str, path: str, work: Path) -> Callable[[list[str]], Any]:
    if library.startswith("gecko"):
        from gecko_core import Gecko

        model = Gecko.from_pretrained(path, device="cpu", dtype=None if form == "auto" else form)
        model.max_seq_length = LONGEST
        return model.encode
    from sentence_transformers import SentenceTransformer

    if library == "torch":
        import torch

        theirs = SentenceTransformer(path, device="cpu", model_kwargs={"torch_dtype": getattr(torch, form)})
        theirs.max_seq_length = LONGEST
        return theirs.encode
    folder, file = exported(library, form, path, work)
    kwargs: dict[str, Any] = {"file_name": file}
    if library == "openvino" and form != "int8":
        kwargs["ov_config"] = {"INFERENCE_PRECISION_HINT": form}
    theirs = SentenceTransformer(folder, device="cpu", backend=library, model_kwargs=kwargs)  # type: ignore[arg-type]
    theirs.max_seq_length = LONGEST
    return theirs.encode


def exported(library: str, form: str, path: str, work: Path) -> tuple[str, str]:
    """Export the model as sentence-transformers' documentation does: its folder and the file in it."""
    folder = work / library
    plain = f"{library}/{'model.onnx' if library == 'onnx' else 'openvino_model.xml'}"
    file = {
        "onnx O3": "onnx/model_O3.onnx",
        "onnx int8": f"onnx/model_{'qint8_avx512_vnni' if has_vnni() else 'quint8_avx2'}.onnx",
        "openvino int8": "openvino/openvino_model_qint8_quantized.xml",
    }.get(f"{library} {form}", plain)
    if (folder / file).is_file():
        return str(folder), file
    import sentence_transformers
    from sentence_transformers import SentenceTransformer

    if not (folder / plain).is_file():
        SentenceTransformer(path, device="cpu", backend=library).save_pretrained(str(folder))  # type: ignore[arg-type]
    if file != plain:
        model = SentenceTransformer(str(folder), device="cpu", backend=library, model_kwargs={"file_name": plain})  # type: ignore[arg-type]
        if form == "O3":
            sentence_transformers.export_optimized_onnx_model(model, "O3", str(folder))
        elif library == "onnx":
            kind = "avx512_vnni" if has_vnni() else "avx2"
            sentence_transformers.export_dynamic_quantized_onnx_model(model, kind, str(folder))  # type: ignore[arg-type]
        else:  # calibrated on texts of the benchmark's own kind
            texts = json.loads((work / "python-docs.json").read_text(encoding="utf-8"))
            data = work / "calibration"
            data.mkdir(exist_ok=True)
            lines = "".join(json.dumps({"sentence": text}) + "\n" for text in texts)
            (data / "train.jsonl").write_text(lines, encoding="utf-8")
            sentence_transformers.export_static_quantized_openvino_model(
                model, None, str(folder), dataset_name=str(data), dataset_config_name="default",
                dataset_split="train", column_name="sentence",
            )  # fmt: skip
    return str(folder), file


def has_vnni() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_vnni" in cpuinfo.read_text(encoding="utf-8")


def distributions(options: argparse.Namespace) -> dict[str, list[str]]:
    """Texts by what they are; each also in a file of --work."""
    import random

    from test_encoding_speed import passages

    from gecko_core import Gecko

    model = Gecko.from_pretrained(options.model, device="cpu")
    model.max_seq_length = LONGEST
    draw = random.Random(0)
    known = sorted({word for text in passages(2000) for word in text.split() if word.isalpha() and word.islower()})
    words = [word for word, row in zip(known, model.tokenize(known), strict=True) if len(row) == 3]
    found = {}
    for length in map(int, LENGTHS):
        count = max(2, options.tokens // length)
        found[str(length)] = [" ".join(draw.choices(words, k=length - 2)) for _ in range(count)]
    found["python-docs"] = cut(model, passages(4000), options.tokens)
    data = os.environ.get("GECKO_DATA_DIR")
    if data and (Path(data) / "scifact").is_dir():
        documents, queries = (rows_of(Path(data) / "scifact" / f"{name}.jsonl.gz") for name in ("corpus", "queries"))
        joint = [f"{row.get('title', '')} {row['text']}".strip() for row in documents]
        found["SciFact"] = cut(model, joint, options.tokens)
        found["SciFact's queries"] = cut(model, [row["text"] for row in queries], options.tokens)
    for name, texts in found.items():
        (options.work / f"{name}.json").write_text(json.dumps(texts), encoding="utf-8")
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def cut(model: Any, texts: list[str], tokens: int) -> list[str]:
    """As many of the first texts as have so many tokens."""
    kept = 0
    for place, row in enumerate(model.tokenize(texts)):
        kept += len(row)
        if kept > tokens:
            return texts[: place + 1]
    return texts


def lowest_cosine(path: Path, reference: Path) -> float:
    import numpy as np

    a, b = (np.load(p) for p in (path, reference))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return float((a * b).sum(axis=1).min())


def report(
    options: argparse.Namespace, texts: Any, rates: Any, cosines: Any, processes: Any, refused: dict[str, str]
) -> str:
    import importlib.metadata

    from gecko_core.encode.probe import processor

    packages = ("gecko-core", "sentence-transformers", "transformers", "torch")
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    for python, names in ((options.onnx, ("onnxruntime", "optimum-onnx")), (options.openvino, ("openvino", "nncf"))):
        if python:
            code = (
                "import importlib.metadata as m, sys\nprint(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
            )
            versions.append(subprocess.check_output([python, "-c", code, *names], text=True).strip())
    lines = [
        f"# Encoding on a CPU against the fastest backends: {options.model}",
        "",
        f"{date.today()}; {processor()} ({platform.machine()}), {os.cpu_count()} cores; Python "
        f"{platform.python_version()}; {', '.join(versions)}. `benchmarks/rivals.py`: texts/s as a multiple of "
        f"sentence-transformers in fp32 in the same round, median of {options.rounds} rounds; about {options.tokens:,} "
        f"tokens of each distribution, texts cut at {LONGEST}. A number is a length that all texts have.",
        "",
        "| | " + " | ".join(texts) + " |",
        "|---" * (len(texts) + 1) + "|",
    ]
    base = [f"{statistics.median(rates[BASE][what]):.0f}" for what in texts]
    lines.append(f"| {BASE}: texts/s | " + " | ".join(base) + " |")
    for name in rates:
        ratios = [
            statistics.median(a / b for a, b in zip(rates[name][what], rates[BASE][what], strict=True))
            for what in texts
        ]
        lines.append(f"| {name} | " + " | ".join(f"{ratio:.2f}x" for ratio in ratios) + " |")
    lines += ["", "| | lowest cosine | peak MB | first vector after |", "|---|---:|---:|---:|"]
    for name, (started, peak) in processes.items():
        lines.append(f"| {name} | {min(cosines[name].values()):.5f} | {peak:.0f} | {started:.1f} s |")
    if refused:
        lines += ["", f"Left out: {'; '.join(f'{name} ({why})' for name, why in refused.items())}."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
