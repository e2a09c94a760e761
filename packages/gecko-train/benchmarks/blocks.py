"""Blocks with a teacher's vectors on a judged set: unlabelled queries teach, other queries of the same set measure.

    GECKO_DATA_DIR=... python packages/gecko-train/benchmarks/blocks.py --data fiqa_gold --teacher FOLDER --steps 52

The queries of the split `train` serve as a query log without labels, those of `test` are searched in the whole corpus
before and after training, with the trained weights as they are and half way between them and the start model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import side_by_side as side


def score(model: Any, data: Any) -> np.ndarray:
    """NDCG@10 of every query."""
    from gecko_core.search import top_k
    from gecko_eval.metrics import ranking_metrics

    model.eval()
    hits = top_k(model.encode_queries(data.queries, data.task), model.encode_documents(data.docs, data.titles), 100)
    ranked = [[data.doc_ids[int(place)] for place in row] for row in hits.rows]
    return ranking_metrics(ranked, data.judgements)["ndcg_at_10"]


def stage(given: argparse.Namespace, corpus: Path, log: Path) -> dict[str, Any]:
    options = {"kinds": given.kinds.split(","), "queries": str(log)}
    blocks = {"starts": given.starts, "documents": given.documents, "queries": given.queries}
    return {
        "sets": [{"source": "texts", "path": str(corpus), "options": options, "blocks": blocks}],
        "teacher": given.teacher,
        "teacher_cache": given.cache,
        "prompts": given.prompts,
        "objective": {"contrastive_weight": 0, "block": {"weight": 1, "targets": "teacher"}},
        "trainer": {
            "max_steps": given.steps, "learning_rate": given.rate, "max_seq_length": given.length,
            "checkpoint_every": 0,
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="fiqa_gold")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", default="all-minilm-l6-v2")
    parser.add_argument("--kinds", default="queries")
    parser.add_argument("--prompts", default="own")
    parser.add_argument("--steps", type=int, default=52)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--documents", type=int, default=96)
    parser.add_argument("--queries", type=int, default=96)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", help="folder of the teacher's vectors, to be shared between runs")
    given = parser.parse_args()
    from gecko_core import Gecko
    from gecko_core.io import find_data
    from gecko_eval.data import load_beir
    from gecko_train.config import StageConfig
    from gecko_train.data import SourceContext
    from gecko_train.run.stage import train_stage

    data, asked = (load_beir(find_data(given.data), split) for split in ("test", "train"))
    queries = [query for query in asked.queries if query not in set(data.queries)]
    model = Gecko.from_pretrained(given.student)
    model.max_seq_length = min(model.max_seq_length, given.length)
    before = score(model, data)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        corpus, log = out / "corpus.jsonl", out / "queries.txt"
        titles = data.titles or [None] * len(data.docs)
        rows = zip(data.doc_ids, titles, data.docs, strict=True)
        records = [{"id": name, "title": title or "", "text": text} for name, title, text in rows if text.strip()]
        lines = [json.dumps(record) + "\n" for record in records]
        corpus.write_text("".join(lines), encoding="utf-8")
        log.write_text("".join(" ".join(query.split()) + "\n" for query in queries), encoding="utf-8")
        config = StageConfig.model_validate(stage(given, corpus, log))
        begun = time.perf_counter()
        result = train_stage(
            model, config, SourceContext(seed=given.seed), out / "run", dims=model.dims, title="blocks"
        )
        seconds = time.perf_counter() - begun
    end = {name: value.clone() for name, value in model.state_dict().items()}
    summary = result.summary
    print(f"{given.data}, {len(queries)} queries without labels, {len(data.docs)} passages; {vars(given)}")
    print(side.machine())
    print(
        f"{summary.steps} steps, {summary.tokens / summary.seconds:,.0f} tokens/s, {seconds:.0f} s with the teacher's"
    )
    print("\n| share of the way | nDCG@10 | against the start model (standard error) |\n|---:|---:|---:|")
    print(f"| 0 | {100 * before.mean():.2f} | |")
    for share in (0.5, 1.0):
        state = {
            name: start[name] + share * (value - start[name]) if value.is_floating_point() else value
            for name, value in end.items()
        }
        model.load_state_dict(state)
        difference = 100 * (score(model, data) - before)
        error = difference.std() / len(difference) ** 0.5
        print(f"| {share:g} | {100 * before.mean() + difference.mean():.2f} | {difference.mean():+.2f} ({error:.2f}) |")


if __name__ == "__main__":
    main()
