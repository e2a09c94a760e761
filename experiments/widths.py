"""What shorter and coarser vectors cost: quality at every prefix and precision against bytes per vector.

    GECKO_DATA_DIR=... uv run python experiments/widths.py --work /tmp/widths

Documents are stored as float32, int8 (one byte a component) or binary (one bit a component); queries stay float32, as
a search service has them. An int8 code is read as the value it stands for, a bit as +1 or -1. The page keeps what
docs/results/widths.json has of other models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab
import numpy as np

from gecko_core import Gecko
from gecko_core.command import run_command
from gecko_core.encode import dequantize, quantize, ranges_of
from gecko_core.io import Lines, whole_file
from gecko_core.search import top_k
from gecko_eval import RetrievalSet

SETS = ("scifact", "fiqa_gold", "cisi", "dbpedia_5k", "msmarco_5k", "hotpotqa_sample")
PRECISIONS = ("float32", "int8", "binary")
BITS = {"float32": 32, "int8": 8, "binary": 1}
PART = 256  # documents that are kept at a time
CALIBRATION = 1000  # documents whose ranges the int8 codes are made for
SMALL = {"dims": [384, 64]}


def main() -> None:
    parser = lab.arguments(__doc__, SETS)
    parser.add_argument("--models", nargs="+", default=["all-minilm-l6-v2"], help="MODEL or MODEL@SET,SET")
    parser.add_argument("--dims", nargs="+", type=int, default=[768, 512, 384, 256, 192, 128, 96, 64, 32])
    given = lab.parsed(parser, SMALL)
    raw: dict[str, Any] = {"options": lab.options_of(given), "models": {}}
    for asked in given.models:
        name, _, sets = asked.partition("@")
        model = Gecko.from_pretrained(name)
        dims = [model.dim, *(dim for dim in given.dims if dim < model.dim)]
        found: dict[str, Any] = {}
        for set_name in sets.split(",") if sets else given.sets:
            judged = lab.judged_set(set_name, given.queries)
            found[set_name] = measured(given, model, judged, dims)
            whole = lab.mean(found[set_name][cell(model.dim, "float32")])
            print(Path(name).name, judged.name, f"{model.dim} dims, float32: {whole}", flush=True)
        raw["models"][Path(name).name] = {"ndcg_at_10": found, "made": lab.described("torch", "transformers")}
    if not given.no_publish:
        before = lab.earlier(lab.RESULTS / "widths.json", raw, {"models", "sets", "dims"}, of="models")
        raw["models"] = before | raw["models"]
    lab.publish("widths", report(raw), raw, given, plot(raw))


def measured(given: argparse.Namespace, model: Gecko, judged: lab.Judged, dims: list[int]) -> dict[str, list[float]]:
    """NDCG@10 of every query at every width and precision."""
    queries, documents = vectors(given, model, judged)
    found = {}
    for dim in dims:
        asked, stored = model.truncate(queries, dim), model.truncate(documents, dim)
        for precision in PRECISIONS:
            hits = top_k(asked, read_back(stored, precision), 10)
            ranked = [[judged.data.doc_ids[row] for row in rows] for rows in hits.rows.tolist()]
            found[cell(dim, precision)] = lab.ranked_scores(ranked, judged.data.judgements)
    return found


def vectors(given: argparse.Namespace, model: Gecko, judged: lab.Judged) -> tuple[np.ndarray, np.ndarray]:
    """(Q, D) and (N, D) float32, kept in the work folder part by part."""
    data = judged.data
    of_set = given.work / "vectors" / f"{model.weights_hash()[:12]}-{judged.name}-{len(data.queries)}"
    parts = [range(start, min(start + PART, len(data.docs))) for start in range(0, len(data.docs), PART)]
    progress = Lines()
    progress.start(judged.name, len(data.docs), unit="documents")
    queries = encoded(of_set / "queries.npy", lambda: model.encode_queries(list(data.queries), task=data.task))
    documents = []
    for number, rows in enumerate(parts):
        documents.append(encoded(of_set / f"documents-{number}.npy", lambda rows=rows: of_rows(model, data, rows)))
        progress.advance(len(rows))
    progress.finish()
    return queries, np.concatenate(documents)


def of_rows(model: Gecko, data: RetrievalSet, rows: range) -> np.ndarray:
    """(n, D) vectors of these documents."""
    titles = [data.titles[row] for row in rows] if data.titles else None
    return np.asarray(model.encode_documents([data.docs[row] for row in rows], titles=titles))


def encoded(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array that is kept in a file; where there is none, it is made."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        with whole_file(path) as file:
            np.save(file, made)
    return np.asarray(np.load(path))


def read_back(stored: np.ndarray, precision: str) -> np.ndarray:
    """(N, d) float32: what the codes of these vectors stand for."""
    if precision == "float32":
        return stored
    if precision == "binary":
        return np.unpackbits(quantize(stored, "binary"), axis=1, count=stored.shape[1]).astype(np.float32) * 2 - 1
    ranges = ranges_of(stored[:CALIBRATION])
    return dequantize(quantize(stored, "int8", ranges), ranges)


def cell(dim: int, precision: str) -> str:
    return f"{dim} {precision}"


def size(dim: int, precision: str) -> int:
    """Bytes of a stored vector."""
    return -(-dim * BITS[precision] // 8)


def dims_of(found: dict[str, Any]) -> list[int]:
    """The widths of a model, the whole one first."""
    return sorted({int(key.split()[0]) for key in next(iter(found.values()))}, reverse=True)


def kept_share(found: dict[str, Any], key: str) -> float:
    """The mean over sets of nDCG@10, as a share in percent of the widest in float32."""
    whole = cell(dims_of(found)[0], "float32")
    return float(np.mean([100 * np.mean(of[key]) / np.mean(of[whole]) for of in found.values()]))


def report(raw: dict[str, Any]) -> list[str]:
    """The page."""
    lines = [
        "# Widths and precisions",
        "",
        "`experiments/widths.py`: documents stored at each width and precision, queries in float32, exact search. "
        "nDCG@10 in percent; `kept`: the mean over the sets of the share of what the widest vectors in float32 reach.",
        "",
    ]
    for name, of_model in raw["models"].items():
        found = of_model["ndcg_at_10"]
        rows: list[list[object]] = [
            [dim, precision, size(dim, precision),
             *(lab.mean(of[cell(dim, precision)]) for of in found.values()),
             f"{kept_share(found, cell(dim, precision)):.1f}"]
            for dim in dims_of(found)
            for precision in PRECISIONS
        ]  # fmt: skip
        lines += [f"## {name}", "", *lab.table(["dims", "precision", "bytes", *found, "kept"], rows), ""]
        lines += [f"{of_model['made']}.", ""]
    return [*lines, "![Quality against bytes](widths.png)"]


def plot(raw: dict[str, Any]) -> Any:
    """Quality that is kept against bytes per vector, one line per precision."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, of_model), style in zip(raw["models"].items(), ("-", "--", ":", "-."), strict=False):
        found = of_model["ndcg_at_10"]
        for precision, colour in zip(PRECISIONS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
            dims = dims_of(found)
            x = [size(dim, precision) for dim in dims]
            y = [kept_share(found, cell(dim, precision)) for dim in dims]
            axes.plot(x, y, style, marker="o", color=colour, label=f"{name}, {precision}")
            for dim, a, b in zip(dims, x, y, strict=True):
                axes.annotate(str(dim), (a, b), fontsize=7, xytext=(3, -9), textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("bytes per vector")
    axes.set_ylabel("share of nDCG@10 kept, %")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    run_command(main)
