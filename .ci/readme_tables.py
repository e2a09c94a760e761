"""The README's tables of the adaptation experiment are what docs/results/adaptation*.json say of the main ways.

uv run python .ci/readme_tables.py            # fails where it is not
uv run python .ci/readme_tables.py --write    # makes it so
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "experiments"))

import lab  # noqa: E402

TABLES, END = ("adaptation", "adaptation-languages"), "<!-- end -->"
NAMES = {
    "scifact": "SciFact",
    "fiqa_gold": "FiQA, gold",
    "hotpotqa_sample": "HotpotQA, sample",
    "techqa_sample": "TechQA, sample",
    "cisi": "CISI",
    "dbpedia_5k": "DBpedia, 5k",
    "msmarco_5k": "MS MARCO, 5k",
    "xquad/de": "XQuAD, German",
    "xquad/es": "XQuAD, Spanish",
    "xquad/tr": "XQuAD, Turkish",
    "xquad/ru": "XQuAD, Russian",
    "tydiqa/fi": "TyDi QA, Finnish",
    "tydiqa/id": "TyDi QA, Indonesian",
}
#: Of the ways, those that the README shows; the pages in docs/results have all.
WAYS = {
    "all lists": "adapted, lists",
    "all hard": "adapted, positives and hard negatives",
    "corpus pairs": "titles with their passages, no LLM",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    differ = []
    for name in TABLES:
        begin = f"<!-- {name} -->"
        before, found, rest = text.partition(begin + "\n")
        old, ended, after = rest.partition(END)
        if not (found and ended):
            print(f"README.md: expected {begin} and {END} around the table", file=sys.stderr)
            return 2
        raw = json.loads((ROOT / f"docs/results/{name}.json").read_text(encoding="utf-8"))
        new = "\n".join(["", *table(raw), "", ""])
        differ += [name] * (old != new)
        text = before + found + new + ended + after
    if options.write:
        readme.write_text(text, encoding="utf-8")
    elif differ:
        print(f"README.md: tables differ from docs/results: {', '.join(differ)}; run .ci/readme_tables.py --write")
        return 1
    return 0


def table(raw: dict[str, Any]) -> list[str]:
    """A column for each set, a row for each way: nDCG@10 as it is, then changes with their 95% intervals."""
    scores = {name: of["ndcg_at_10"] for name, of in raw["sets"].items()}
    dim = max(map(int, next(iter(scores.values()))[lab.START][next(iter(scores))]))
    at = {name: {way: of[way][name][str(dim)] for way in of} for name, of in scores.items()}
    start = {name: of[lab.START] for name, of in at.items()}
    rows: list[list[object]] = [["all-MiniLM-L6-v2 as it is", *(lab.mean(values) for values in start.values()), ""]]
    for way, label in WAYS.items():
        having = [name for name in at if way in at[name]]
        if having:
            base = {name: lab.start_of(at[name], way) for name in having}
            cells = [lab.change_of_model(at[name][way], base[name]) if name in having else "-" for name in at]
            mean = lab.change_of_mean([at[name][way] for name in having], list(base.values()))
            rows.append([label, *cells, mean])
    return lab.table(["", *(f"{NAMES[name]} ({len(start[name])})" for name in at), "mean"], rows)


if __name__ == "__main__":
    sys.exit(main())
