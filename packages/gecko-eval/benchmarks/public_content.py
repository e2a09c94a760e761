"""Writes src/gecko_eval/mteb/public_content.json: hashes of the public sets, and mteb's names for them.

    GECKO_DATA_DIR=... uv run python packages/gecko-eval/benchmarks/public_content.py

The sets below were compared with their public sources (counts, and scores in known_truth.csv) before they were listed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from gecko_core.io import write_text
from gecko_eval.mteb.kinds import kind_named
from gecko_eval.mteb.local import discover
from gecko_eval.mteb.public_content import content_hash

TABLE = Path(__file__).parents[1] / "src" / "gecko_eval" / "mteb" / "public_content.json"

#: Folder -> mteb's task with the same content.
SAME: dict[str, dict[str, Any]] = {
    "scifact": {"task": "SciFact"},
    "stsb": {"task": "STSBenchmark"},
    "sts12": {"task": "STS12"},
    "sts13": {"task": "STS13"},
    "sts14": {"task": "STS14"},
    "sts15": {"task": "STS15"},
    "sts16": {"task": "STS16"},
    "banking77": {"task": "Banking77Classification"},
    "emotion": {"task": "EmotionClassification"},
    "amazon_counterfactual": {
        "task": "AmazonCounterfactualClassification",
        "subset": "en",
        # mteb's numbers of these labels: its average precision takes 1 as the positive class.
        "labels": ["not-counterfactual", "counterfactual"],
    },
}


def main() -> None:
    """Hash the sets below GECKO_DATA_DIR and write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not os.environ.get("GECKO_DATA_DIR"):
        sys.exit("error: GECKO_DATA_DIR names the folder of the public sets; it is not set")
    entries = []
    for local in discover(os.environ["GECKO_DATA_DIR"]):
        public = SAME.get(local.name)
        kind = kind_named(local.kind)
        if public is None or kind is None:
            continue
        rows = list(kind.rows(local.folder))
        hashes = {"kind": kind.name, "first": content_hash(rows[:1]), "content": content_hash(rows)}
        entries.append({**hashes, **public})
    lines = ",\n".join(json.dumps(entry) for entry in sorted(entries, key=lambda entry: entry["content"]))
    write_text(TABLE, f"[\n{lines}\n]\n")
    print(f"{len(entries)} sets in {TABLE}")


if __name__ == "__main__":
    main()
