"""The same data, batches and steps through sentence-transformers' trainer and ours: losses and scores side by side.

    GECKO_DATA_DIR=... python packages/gecko-train/benchmarks/agreement.py --steps 40

all-MiniLM-L6-v2 on title-abstract pairs of SciFact, scored on its test queries over a part of its corpus.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import side_by_side as side

DIMS = (384, 128)


def score(folder: str, queries: int, documents: int) -> dict[int, float]:
    from gecko_core import Gecko
    from gecko_core.io import find_data
    from gecko_eval.data import load_beir
    from gecko_eval.in_training import evaluate_retrieval, subsample

    model = Gecko.from_pretrained(folder, device="cpu")
    model.prompt_style = "gecko"
    found = evaluate_retrieval(model, subsample(load_beir(find_data("scifact")), queries, documents), DIMS)
    return {dim: float(one.ndcg_at_10) for dim, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--documents", type=int, default=1000)
    given = parser.parse_args()
    from gecko_core.folder import resolve

    start = str(resolve("all-minilm-l6-v2").path)
    mixture, batches = side.plan(side.pairs("scifact"), given.batch, given.steps)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        a = side.ours(start, DIMS, mixture, given.steps, "fp32", given.length, out / "run")
        a["model"].save_pretrained(out / "ours", dims=DIMS)
        b = side.theirs(start, DIMS, batches, "fp32", given.length, out / "st")
        b["model"].save_pretrained(str(out / "theirs"))
        folders = (("start model", start), ("gecko-train", str(out / "ours")),
                   ("sentence-transformers", str(out / "theirs")))  # fmt: skip
        scores = {name: score(folder, given.queries, given.documents) for name, folder in folders}
    tenth = max(1, given.steps // 10)
    mean = {name: sum(one["losses"][-tenth:]) / tenth for name, one in (("ours", a), ("theirs", b))}
    largest = max(abs(x - y) for x, y in zip(a["losses"], b["losses"], strict=True))
    first = (a["losses"][0], b["losses"][0])
    lines = [
        "| | loss, first step | loss, mean of the last tenth | nDCG@10, 384 dims | nDCG@10, 128 dims |",
        "|---|---:|---:|---:|---:|",
        _line("start model", "", "", scores["start model"]),
        _line("gecko-train", f"{first[0]:.4f}", f"{mean['ours']:.4f}", scores["gecko-train"]),
        _line("sentence-transformers", f"{first[1]:.4f}", f"{mean['theirs']:.4f}", scores["sentence-transformers"]),
        "",
        f"Largest difference of the loss at any of {given.steps} steps: {largest:.5f}. Batch {given.batch}, at most "
        f"{given.length} tokens, fp32, no dropout, constant learning rate {side.LEARNING_RATE}; title-abstract pairs "
        f"of SciFact; {given.queries} test queries over {given.documents} documents. {side.machine()}.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "agreement.md").write_text(text)


def _line(name: str, first: str, last: str, scores: dict[int, float]) -> str:
    return f"| {name} | {first} | {last} | {scores[384]:.4f} | {scores[128]:.4f} |"


if __name__ == "__main__":
    main()
