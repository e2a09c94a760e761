"""The same texts through every reader of a saved folder: how far are their embeddings from ours?

    uv run python packages/gecko-core/benchmarks/readers_check.py
    ... --python "3.4=old/bin/python" --python "5.1=older/bin/python"   # sentence-transformers of other environments
    ... --onnx PYTHON                                                  # sentence-transformers' ONNX backend
    ... --vllm PYTHON                                                  # a real `vllm serve` on loopback, fp32 and bf16
    ... --model smollm2-135m-instruct                                  # a language model made bidirectional

Saves the model, encodes with gecko-core in fp32, then with each reader in a process of its own, and prints the lowest
and the mean cosine as a Markdown table. Ends with exit code 1 where a reader falls below what is promised.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import date
from pathlib import Path

FP32, BF16 = 0.9999, 0.999
START_LIMIT, ANSWER_LIMIT = 600, 300  # seconds

# Workers import nothing of ours: they run in environments that do not have it.
SENTENCE_TRANSFORMERS = """
import json, sys
import numpy as np, sentence_transformers, transformers
from sentence_transformers import SentenceTransformer
folder, texts, out, backend = sys.argv[1:]
options = {"backend": backend} if backend != "torch" else {}
model = SentenceTransformer(folder, device="cpu", local_files_only=True, **options)
np.save(out, model.encode(json.load(open(texts)), batch_size=16))
print(f"sentence-transformers {sentence_transformers.__version__}, transformers {transformers.__version__}")
"""
AUTO_MODEL = """
import json, sys
import numpy as np, torch, transformers
from transformers import AutoModel, AutoTokenizer
folder, texts, out = sys.argv[1:4]
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
rows = []
for text in json.load(open(texts)):
    batch = tokenizer([text], return_tensors="pt", truncation=True)
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    rows.append(((hidden * mask).sum(1) / mask.sum(1))[0].numpy())
np.save(out, np.stack(rows))
print(f"transformers {transformers.__version__}, AutoModel and a mean by hand")
"""
# `vllm serve`, also of the build for CPUs.
VLLM = Path(__file__).with_name("vllm_command.py").read_text(encoding="utf-8")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="all-minilm-l6-v2", help="a saved model or a backbone")
    arguments.add_argument("--texts", type=int, default=200)
    arguments.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON")
    arguments.add_argument("--onnx", metavar="PYTHON")
    arguments.add_argument("--vllm", metavar="PYTHON", default=os.environ.get("GECKO_VLLM_PYTHON"))
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return check(options, Path(scratch))


def check(options: argparse.Namespace, scratch: Path) -> int:
    import numpy as np

    folder = scratch / "model"
    texts = scratch / "texts.json"
    ours = save_and_encode(options, folder, texts)
    results: list[tuple[str, np.ndarray, float]] = []
    failed: list[str] = []

    def run(code: str, python: str, backend: str = "torch") -> None:
        out = scratch / f"{len(results)}.npy"
        done = subprocess.run(
            [python, "-c", code, str(folder), str(texts), str(out), backend], capture_output=True, text=True
        )
        if done.returncode:
            failed.append(f"{python}: {' '.join(done.stderr.strip().splitlines()[-3:])}")
            return
        name = done.stdout.strip().splitlines()[-1] + ("" if backend == "torch" else f", {backend}")
        results.append((name, np.load(out), FP32))

    run(SENTENCE_TRANSFORMERS, sys.executable)
    run(AUTO_MODEL, sys.executable)
    for named in options.python:
        run(SENTENCE_TRANSFORMERS, named.split("=", 1)[1])
    if options.onnx:
        run(SENTENCE_TRANSFORMERS, options.onnx, "onnx")
    if options.vllm:
        for dtype, least in (("float32", FP32), ("bfloat16", BF16)):
            version, vectors = serve(options.vllm, folder, json.loads(texts.read_text()), dtype, scratch)
            results.append((f"vllm serve {version}, {dtype}", vectors, least))
    good = report(options, ours, results)
    print(*failed, sep="\n", file=sys.stderr)
    return 0 if good and not failed else 1


def save_and_encode(options: argparse.Namespace, folder: Path, texts: Path):
    from test_encoding_speed import passages

    from gecko_core import Gecko
    from gecko_core.folder import local_folder, resolve

    resolved = resolve(options.model)
    if (local_folder(resolved) / "modules.json").is_file():
        model = Gecko.from_pretrained(options.model, device="cpu", dtype="float32")
    else:
        width = Gecko.from_backbone(options.model, dims=(8,), device="cpu", dtype="float32").hidden_size
        model = Gecko.from_backbone(options.model, dims=(width,), device="cpu", dtype="float32")
    # vLLM refuses what is too long instead of cutting it off.
    chosen = [
        "gecko",
        "Ein Mauergecko; 守宫; ヤモリ",
        *(" ".join(text.split()[:90]) for text in passages(options.texts * 2)),
    ]
    chosen = [text for text, ids in zip(chosen, model.tokenize(chosen), strict=True) if len(ids) < model.max_seq_length]
    chosen = chosen[: options.texts]
    model.save_pretrained(folder)
    texts.write_text(json.dumps(chosen), encoding="utf-8")
    return model.encode(chosen)


def serve(python: str, folder: Path, texts: list[str], dtype: str, scratch: Path):
    """Starts a server on loopback, asks it for the embeddings in batches, ends it with all of its workers."""
    import numpy as np

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-c", VLLM, "serve", str(folder), "--runner", "pooling"]
    command += ["--dtype", dtype, "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model"]
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", **os.environ}
    with (scratch / f"vllm-{dtype}.log").open("w+") as log:
        # A group of its own: the workers outlive the parent.
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, process_group=0)
        try:
            wait_until_up(server, port, log.name)
            version = get(port, "/version")["version"]
            rows = []
            for start in range(0, len(texts), 50):
                answer = get(port, "/v1/embeddings", {"model": "model", "input": texts[start : start + 50]})
                rows += [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]
        finally:
            end_group(server)
    return version, np.asarray(rows, dtype=np.float32)


def get(port: int, path: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"}
    )
    # No proxy between a process and its neighbour.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=ANSWER_LIMIT) as answer:
        return json.loads(answer.read() or b"{}")


def wait_until_up(server: subprocess.Popen, port: int, log: str) -> None:
    began = time.monotonic()
    while time.monotonic() - began < START_LIMIT:
        if server.poll() is not None:
            raise SystemExit(f"vllm ended with {server.returncode}:\n{Path(log).read_text(encoding='utf-8')[-3000:]}")
        try:
            get(port, "/health")
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(1)
    raise SystemExit(f"vllm did not answer within {START_LIMIT} s:\n{Path(log).read_text(encoding='utf-8')[-3000:]}")


def end_group(server: subprocess.Popen) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, how)
        except ProcessLookupError:
            return
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            continue


def report(options: argparse.Namespace, ours, results) -> bool:
    import numpy as np

    from gecko_core import __version__

    print(f"{options.model} saved by gecko-core {__version__}, {len(ours)} texts, {date.today()}\n")
    print("| reader | lowest cosine | mean cosine | promised |\n|---|---:|---:|---:|")
    good = True
    for name, vectors, least in results:
        cosines = (ours * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).sum(axis=1)
        good &= bool(cosines.min() > least)
        print(f"| {name} | {cosines.min():.6f} | {cosines.mean():.6f} | {least} |")
    return good


if __name__ == "__main__":
    sys.exit(main())
