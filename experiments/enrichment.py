"""Texts enriched by an LLM before they are encoded: better or worse, by prompt and set?

    GECKO_DATA_DIR=... uv run python experiments/enrichment.py --work /tmp/enrichment

`gecko-fret enrich` rewrites the texts of each set by each packaged prompt, and `gecko-eval run` scores the set with and
without `--enriched`, on the same texts otherwise (Harris et al. 2024: TwitterSemEval 85.34 instead of 81.52 with a
large LLM, Banking77 and Amazon counterfactual below the baseline). Sets are drawn smaller, since an LLM writes every
text anew: their scores compare with each other and not with published ones. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lab

import gecko_eval
from gecko_core.command import run_command
from gecko_core.io import below_data_dir, read_table, write_text
from gecko_core.randomness import generator
from gecko_fret.corpus import python_docs, split_sentences

SETS = ("twitter_url", "banking77", "amazon_counterfactual", "scifact")
PROMPTS = ("enrich-context", "enrich-acronyms", "enrich-grammar", "enrich-metadata")
SMALL = {"rows": 8, "prompts": ["enrich-grammar"], "tokens": 16, "sets": ["python-docs"]}
#: Name of a way to what is enriched: columns of the tables, documents, queries.
WAYS = {"texts": ("texts",), "documents": ("documents",), "queries": ("queries",), "both": ("documents", "queries")}


def main() -> None:
    parser = lab.arguments(__doc__, SETS)
    parser.add_argument("--rows", type=int, default=600, help="test rows, or documents, that are drawn; 0: all")
    parser.add_argument("--per-label", type=int, default=16, help="training texts of a label, of which mteb draws 8")
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS))
    parser.add_argument("--tokens", type=int, default=192, help="of a text, that the LLM reads")
    parser.add_argument("--llm", default="smollm2-135m-instruct")
    parser.add_argument("--embedder", default="all-minilm-l6-v2")
    given = lab.parsed(parser, SMALL)
    raw: dict[str, Any] = {"options": lab.options_of(given), "sets": {}}
    for name in given.sets:
        raw["sets"][name] = measured(given, name)
    lab.publish("enrichment", report(given, raw), raw, given)


def measured(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """The score of a set, and its changes by prompt and way."""
    folder = given.work / name
    kind = draw(name, folder / "data" / name, given.rows, given.per_label)
    ways = ["documents", "queries", "both"] if kind == "retrieval" else ["texts"]
    base = evaluated(given, folder, name, "off", [])
    found: dict[str, Any] = {"score": base["tasks"][name]["scores"], "enriched": {}, "changes": {}}
    clock = lab.Clock(folder / "seconds.json")
    for prompt in given.prompts:
        for what in dict.fromkeys(part for way in ways for part in WAYS[way]):
            out = folder / prompt / what
            clock.run(prompt, lambda what=what, out=out, prompt=prompt: enrich(given, folder, name, prompt, what, out))
            found["enriched"][f"{prompt}, {what}"] = counts(out)
        for way in ways:
            runs = [folder / prompt / part for part in WAYS[way]]
            on = evaluated(given, folder, name, f"{prompt}-{way}", runs)
            [row] = gecko_eval.compare_results(on, base)
            compared = row.comparison
            change = {"score": row.score_a, "base": row.score_b}
            if compared is not None:
                change |= {"difference": compared.difference, "low": compared.low, "high": compared.high}
            found["changes"][f"{prompt}, {way}"] = change
            print(name, prompt, way, change, flush=True)
    return found | {"seconds": clock.seconds, "ways": ways, "kind": kind}


def enrich(given: argparse.Namespace, folder: Path, name: str, prompt: str, what: str, out: Path) -> None:
    """Run ``gecko-fret enrich``; it goes on where it was, and is done at once where it is done."""
    data = folder / "data" / name
    inputs = {
        "documents": ["--corpus", data / "corpus.jsonl"],
        "queries": ["--queries", data / "queries.jsonl"],
        "texts": ["--corpus", data / "texts.jsonl", "--columns", "text"],
    }[what]
    settings = (f"enrich.passage_tokens={given.tokens}", f"enrich.max_new_tokens={given.tokens * 5 // 4}")
    call("gecko_fret", "enrich", *inputs, "--prompt", prompt, "--llm", given.llm, "--out", out,
         *(part for setting in settings for part in ("--set", setting)))  # fmt: skip


def evaluated(given: argparse.Namespace, folder: Path, name: str, way: str, runs: Sequence[Path]) -> dict[str, Any]:
    """The results of ``gecko-eval run``, with the enriched texts of some folders."""
    out = folder / "eval" / way
    enriched = ["--enriched", *runs] if runs else []
    if not (out / "results.json").exists():
        call("gecko_eval", "run", "--model", given.embedder, "--data", folder / "data" / name, "--dtype", "float32",
             "--cache", folder / "cache", "--out", out, "--offline", *enriched)  # fmt: skip
    return gecko_eval.load_results(out)


def call(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def counts(out: Path) -> dict[str, Any]:
    """Texts, those that were enriched, and why the others were not."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    rows = sum(p["rows"] for name, p in manifest["parts"].items() if name.startswith("enriched/part-"))
    rejects: dict[str, int] = {}
    for path in sorted((out / "rejects").glob("part-enrich-*.parquet")):
        for record in read_table(path, only=["reason"]):
            rejects[record.text("reason")] = rejects.get(record.text("reason"), 0) + 1
    return {"texts": manifest["corpus"]["passages"], "enriched": rows, "rejects": rejects}


def draw(name: str, out: Path, rows: int, per_label: int) -> str:
    """Write a smaller set of the same kind, once, and the texts to enrich; says which kind it is."""
    source = below_data_dir(name)
    if name == lab.DOCS:
        return _titles(out, rows)
    if (source / "corpus.jsonl.gz").exists():
        return _retrieval(name, out, rows)
    split = {path.name.removesuffix(".jsonl.gz"): path for path in sorted(source.glob("*.jsonl.gz"))}
    test = _drawn([r.fields for r in read_table(split["test"])], rows, f"{name} test")
    tables = {"test": test}
    if "text" in test[0]:
        by_label: dict[Any, list[Any]] = {}
        for record in read_table(split["train"]):
            by_label.setdefault(record.fields["label"], []).append(record.fields)
        kept = [_drawn(of, per_label if rows else 0, f"{name} {label}") for label, of in sorted(by_label.items())]
        tables["train"] = [row for of in kept for row in of]
    for part, table in tables.items():
        _write(out / f"{part}.jsonl", table)
    columns = ("text",) if "text" in test[0] else ("sentence1", "sentence2")
    texts = dict.fromkeys(row[column] for table in tables.values() for row in table for column in columns)
    _write(out / "texts.jsonl", ({"text": text} for text in texts))
    return "pairs" if "sentence1" in test[0] else "labels"


def _retrieval(name: str, out: Path, documents: int) -> str:
    of = lab.reduced(lab.judged_set(name), documents)
    _write(out / "corpus.jsonl", ({"_id": p.id, "title": p.title or "", "text": p.text} for p in of.corpus))
    asked = zip(of.data.query_ids, of.data.queries, strict=True)
    _write(out / "queries.jsonl", ({"_id": name, "text": query} for name, query in asked))
    told = zip(of.data.query_ids, of.data.judgements, strict=True)
    lines = [
        f"{query}\t{doc}\t{grade}" for query, of_query in told for doc, grade in of_query.items() if doc in of.corpus
    ]
    write_text(out / "qrels" / "test.tsv", "\n".join(["query-id\tcorpus-id\tscore", *lines, ""]))
    return "retrieval"


def _titles(out: Path, rows: int) -> str:
    """Titles of Python's documentation and first sentences: of the same passage, or of two."""
    titled = {p.title: p for p in python_docs(limit=400) if p.title and len(split_sentences(p.text)) > 1}
    passages = list(titled.values())[:rows]
    pairs = []
    for place, passage in enumerate(passages):
        first = split_sentences((passage if place % 2 else passages[place - 1]).text)[0]
        pairs.append({"sentence1": passage.title, "sentence2": first, "label": place % 2})
    _write(out / "test.jsonl", pairs)
    texts = dict.fromkeys(text for pair in pairs for text in (pair["sentence1"], pair["sentence2"]))
    _write(out / "texts.jsonl", ({"text": text} for text in texts))
    return "pairs"


def _drawn(rows: Sequence[Any], count: int, name: str) -> list[Any]:
    if not count or count >= len(rows):
        return list(rows)
    return [rows[place] for place in sorted(generator(name, 0).permutation(len(rows))[:count].tolist())]


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a table unless it is there, so that what was made of it stays valid."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def report(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """The page."""
    columns = [(name, way) for name, of in raw["sets"].items() for way in of["ways"]]
    header = ["prompt", *(name if way == "texts" else f"{name}, {way}" for name, way in columns)]
    scores = [100 * next(iter(raw["sets"][name]["changes"].values()))["base"] for name, _ in columns]
    rows: list[list[object]] = [["off", *(f"{score:.1f}" for score in scores)]]
    for prompt in given.prompts:
        rows.append([prompt, *(_change(raw["sets"][name]["changes"][f"{prompt}, {way}"]) for name, way in columns)])
    lines = [
        "# Enriched texts",
        "",
        f"{lab.described('torch', 'transformers', 'mteb')}. `experiments/enrichment.py`: {given.llm} rewrites texts of "
        f"up to {given.tokens} tokens, {given.embedder} encodes them; sets of {given.rows or 'all'} rows or documents, "
        f"{given.per_label} training texts a label. The main score in percent without enrichment, and its change with "
        "it, 95% intervals over queries, pairs or texts; those that leave out zero in bold. Texts whose answer was "
        "rejected are encoded as they are.",
        "",
        *lab.table(header, rows),
        "",
        "## What was enriched",
        "",
    ]
    told = [
        [name, key, of["texts"], f"{of['enriched'] / max(of['texts'], 1):.0%}",
         ", ".join(f"{reason} {count}" for reason, count in sorted(of["rejects"].items(), key=lambda r: -r[1])) or "-"]
        for name, set_ in raw["sets"].items()
        for key, of in set_["enriched"].items()
    ]  # fmt: skip
    minutes = sum(sum(of["seconds"].values()) for of in raw["sets"].values()) / 60
    return [*lines, *lab.table(["set", "prompt", "texts", "enriched", "rejected"], told), "",
            f"{minutes:.0f} minutes of enriching."]  # fmt: skip


def _change(change: dict[str, float]) -> str:
    if "difference" not in change:
        return f"{100 * (change['score'] - change['base']):+.1f}"
    mark = "**" if change["low"] > 0 or change["high"] < 0 else ""
    low, high = 100 * change["low"], 100 * change["high"]
    return f"{mark}{100 * change['difference']:+.1f}{mark} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    run_command(main)
