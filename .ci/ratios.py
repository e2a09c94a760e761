"""The headline rows of the benchmarks in their short form: beside the rival, in turn, in one process.

    python .ci/ratios.py

CPU time on one thread, the ways in turn for three rounds; the ratio is the median of the rounds'. Other work on the
machine changes it little. Fails only where a row falls below 1: a slow path has come back. The figures in READMEs
come from the packages' own benchmarks.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 3
ROOT = Path(__file__).parents[1] / "packages"
Ways = tuple[Callable[[], object], Callable[[], object]]  # ours and the rival's


def main() -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for package in ("gecko-core", "gecko-kernels", "gecko-fret"):
        sys.path.insert(0, str(ROOT / package / "benchmarks"))
    import torch

    torch.set_num_threads(1)
    slow = []
    for make in (encoding, loss, judging):
        for name, (ours, theirs) in make().items():
            ratio = measured(ours, theirs)
            print(f"{ratio:6.2f}x  {name}", flush=True)
            if ratio < 1:
                slow.append(name)
    if slow:
        print(f"slower than the rival: {'; '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


def measured(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """How many times as long the rival takes."""
    ratios = []
    ours(), theirs()
    for _ in range(ROUNDS):
        began = time.process_time()
        ours()
        between = time.process_time()
        theirs()
        ratios.append((time.process_time() - between) / (between - began))
    return statistics.median(ratios)


def encoding() -> dict[str, Ways]:
    """Paragraphs through all-MiniLM-L6-v2."""
    from sentence_transformers import SentenceTransformer
    from test_encoding_speed import passages

    from gecko_core import Gecko
    from gecko_core.encode.int8 import has_int8_products
    from gecko_core.folder import resolve

    path, texts = str(resolve("all-minilm-l6-v2").path), passages(96)
    model, exact = Gecko.from_pretrained(path, device="cpu"), Gecko.from_pretrained(path, device="cpu", dtype="float32")
    rival = SentenceTransformer(path, device="cpu")
    rows: dict[str, Ways] = {
        "encode, default, against sentence-transformers' default": (
            lambda: model.encode(texts), lambda: rival.encode(texts),
        ),
        "encode, fp32, against sentence-transformers' default": (
            lambda: exact.encode(texts), lambda: rival.encode(texts),
        ),
    }  # fmt: skip
    if has_int8_products():
        small = Gecko.from_pretrained(path, dtype="int8")
        rows["encode, int8, against encode, fp32"] = (lambda: small.encode(texts), lambda: exact.encode(texts))
    return rows


def loss() -> dict[str, Ways]:
    """The same-tower loss, forward and backward."""
    import compositions

    dims, inputs = (384, 128), compositions.make_inputs(1024, 384, 0)
    ours, theirs = (compositions.COMPOSITIONS[name](dims) for name in ("gecko-kernels", "sentence-transformers"))
    return {
        "loss of 1,024 rows, two prefixes, against sentence-transformers": (
            lambda: compositions.backward(ours, inputs), lambda: compositions.backward(theirs, inputs),
        )
    }  # fmt: skip


def judging() -> dict[str, Ways]:
    """`ql` and `yes-no` of SmolLM2-135M, five queries a passage; the rival is every prompt in full."""
    import block_scoring

    llm, judges, pairs = block_scoring.problem(queries=5, passages=2)
    joint, full = judges.joint(pairs), judges.two(pairs)
    return {
        "judging in blocks against every prompt in full": (
            lambda: block_scoring.blocks(llm, joint), lambda: block_scoring.naive(llm, full),
        )
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
