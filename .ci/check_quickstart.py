"""What the README promises of a finished quickstart folder, checked against the real thing.

    python .ci/check_quickstart.py RUN_FOLDER

1. The saved model, opened by the installed sentence-transformers, gives our vectors on 100 texts (cosine > 0.9999).
2. The same FRet configuration, run again from nothing, gives the same bytes in every Parquet part.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np


def parquet_digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def check_sentence_transformers(model_folder: Path, texts: list[str]) -> float:
    import torch
    from sentence_transformers import SentenceTransformer

    from gecko_core import Gecko

    ours = Gecko.from_pretrained(model_folder, dtype=torch.float32)
    theirs = SentenceTransformer(str(model_folder), device="cpu")
    lowest = 1.0
    pairs = [
        (ours.encode_queries(texts, task="search result"), theirs.encode(ours.format_queries(texts, "search result"))),
        (ours.encode_documents(texts), theirs.encode(texts, prompt_name="document")),
        (ours.encode(texts), theirs.encode(texts)),
    ]
    for a, b in pairs:
        b = b / np.linalg.norm(b, axis=1, keepdims=True)
        lowest = min(lowest, float((a * b).sum(axis=1).min()))
    return lowest


def main(run: Path) -> int:
    from gecko_core.bars import choose_bars
    from gecko_fret import FretConfig, build_fret, load_corpus

    choose_bars()
    fret = run / "fret"
    corpus = load_corpus(sorted((fret / "corpus").glob("*.parquet"))[0])
    texts = [passage.text for passage in corpus][:100]
    lowest = check_sentence_transformers(run / "model", texts)
    print(f"sentence-transformers against gecko-core on {len(texts)} texts: lowest cosine {lowest:.6f}")
    if not lowest > 0.9999:
        print("the saved folder is read differently by sentence-transformers", file=sys.stderr)
        return 1

    import json

    config = FretConfig.model_validate(json.loads((fret / "manifest.json").read_text())["config"])
    again = Path(tempfile.mkdtemp(prefix="gecko-fret-again-"))
    try:
        build_fret(config, again / "fret", corpus=corpus)
        first, second = parquet_digests(fret), parquet_digests(again / "fret")
    finally:
        shutil.rmtree(again)
    if first != second:
        differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        print(f"a second FRet run gave other bytes in: {', '.join(differing)}", file=sys.stderr)
        return 1
    print(f"a second FRet run gave the same bytes in all {len(first)} parts")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
