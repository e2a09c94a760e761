"""Can the queries of builds be told from real ones, and how diverse are they beside them?

    GECKO_DATA_DIR=... uv run python packages/gecko-fret/benchmarks/told_apart.py --work runs/told-apart
    GECKO_DATA_DIR=... uv run python packages/gecko-fret/benchmarks/told_apart.py scifact=runs/a fiqa_gold=runs/b

The first form builds, up to the step `filter`, what it compares: on SciFact and FiQA (gold), with the default prompt
and with real queries as examples, all else alike. In the second each argument names a judged set in the BEIR layout, a
folder or a name below `GECKO_DATA_DIR`, and a FRet folder that was built on its corpus.
The real queries are those of the set's train split, without those that the build showed the LLM as examples. Two drawn
halves of the real queries are compared as well: what they come to is no difference. The folders stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from machine import described, publish, table

from gecko_core.io import write_text
from gecko_core.randomness import generator
from gecko_core.text_identity import words_key
from gecko_eval import load_beir
from gecko_fret import build_fret
from gecko_fret.build.folder import Workspace
from gecko_fret.build.report.apart import MOST, compare
from gecko_fret.build.report.base import ReportData
from gecko_fret.build.report.classifier import Side, tell_apart
from gecko_fret.build.report.diversity import diversity
from gecko_fret.build.report.giveaways import giveaways
from gecko_fret.build.report.queries import drawn
from gecko_fret.config import EmbedderConfig, parse_config
from gecko_fret.corpus import Corpus, Passage
from gecko_fret.models import load_embedder
from gecko_fret.query_files import read_queries
from gecko_fret.steps import FILTER

SETS = ("scifact", "fiqa_gold")
EXAMPLES = 24
HEADER = ["queries", "features", "AUC", "standard deviation", "folds", "of each side"]
SHOWN = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="SET=FRET_FOLDER")
    parser.add_argument("--work", type=Path, help="folder of builds to make; a run goes on from it")
    parser.add_argument("--seeds", type=int, default=100, help="of a build")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if bool(options.runs) == bool(options.work):
        parser.error("name builds as SET=FRET_FOLDER, or --work to make them")
    torch.set_num_threads(options.threads)
    if options.work:
        options.runs = built(options.work, options.seeds)
    lines = ["# Written and real queries", "", f"{described('torch', 'scikit-learn', 'numpy')}.", ""]
    for run in options.runs:
        name, _, folder = run.partition("=")
        lines += section(name, Path(folder))
    publish("told_apart", lines)


def built(work: Path, seeds: int) -> list[str]:
    """Builds with both prompts on each set, as arguments of this script."""
    runs = []
    for name in SETS:
        judged = load_beir(name, "train")
        titles = judged.titles or [None] * len(judged.docs)
        passages = (Passage(*row) for row in zip(judged.doc_ids, titles, judged.docs, strict=True) if row[2].strip())
        corpus = Corpus(passages, name=name)
        real = list(dict.fromkeys(" ".join(text.split()) for text in judged.queries))
        order = generator("examples", 0).permutation(len(real))[:EXAMPLES].tolist()
        examples = work / f"{name}.txt"
        if not examples.exists():
            work.mkdir(parents=True, exist_ok=True)
            write_text(examples, "".join(f"{real[place]}\n" for place in order))
        for prompt, settings in {"default": {}, "examples": {"examples": str(examples)}}.items():
            sources = ["llm", "titles", "sentences"]
            config = parse_config({
                "generate": {"seeds": seeds, "sources": sources, "contrast": 0.5, **settings},
                "retrieve": {"cache": str(work / "embeddings")},
            })  # fmt: skip
            build_fret(config, work / f"{name}-{prompt}", corpus=corpus, progress=True, until=FILTER)
            runs.append(f"{name}={work / f'{name}-{prompt}'}")
    return runs


def section(name: str, folder: Path) -> list[str]:
    workspace = Workspace(folder)
    manifest = workspace.read_manifest()
    if manifest is None:
        raise SystemExit(f"{folder}: not a FRet folder")
    config = manifest["config"]
    embedder = load_embedder(EmbedderConfig.model_validate(config["embedder"]))
    real = [" ".join(text.split()) for text in load_beir(name, "train").queries]
    real = list(dict.fromkeys(real))
    data = ReportData(workspace, manifest, without(real, seen(config["generate"])), f"{name}, train split", embedder)
    settings = config["generate"]
    writer = ", ".join(entry["name"] for entry in manifest["models"]["generators"])
    shown = f"real queries as examples, {settings['examples_shown']} in a prompt"
    how = shown if settings["examples"] else f"prompt {settings['prompt']}"
    told = f"{writer}, {how}, contrast {settings['contrast']:g}, {settings['seeds']} seeds"
    told += f", {settings['attempts']} attempts"
    (measured,) = diversity(data)
    found, left = compare(data)
    rows = [row for entry in found for row in auc_rows(entry.name, entry.areas, len(entry.written))]
    words = [
        [entry.what, entry.text, f"{entry.written:.1%}", f"{entry.real:.1%}", f"{entry.z:+.1f}"]
        for entry in giveaways(found[0].written, found[0].real, SHOWN)
    ]
    return [
        f"## {Path(name).name}: {'examples' if settings['examples'] else 'default prompt'}",
        "",
        f"{told}; embedder {manifest['models']['embedder']['name']}. {measured.note}",
        "",
        *table(list(measured.header), [list(row) for row in measured.rows]),
        "",
        *table(HEADER, [*rows, *auc_rows("real (two halves)", halves(data), min(MOST, len(data.real or []) // 2))]),
        "",
        f"Too few of their own: {'; '.join(left) or 'none'}. What gives {found[0].name} away:",
        "",
        *table(["what", "text", found[0].name, "real", "z"], words),
        "",
    ]


def halves(data: ReportData) -> dict[str, np.ndarray]:
    """Real queries against real queries."""
    real = list(data.real or [])
    places = drawn(real, 2 * MOST, "halves", 0)
    count = len(places) // 2
    sides = [[real[place] for place in part] for part in (places[:count], places[count : 2 * count])]
    return tell_apart(*(Side(texts, data.vectors(texts), [None] * count) for texts in sides), "halves-folds", 0)


def auc_rows(name: str, found: dict[str, np.ndarray], count: int) -> list[list[object]]:
    return [
        [name, how, f"{a.mean():.3f}", f"{a.std(ddof=1):.3f}", f"{a.min():.3f} to {a.max():.3f}", count]
        for how, a in found.items()
    ]


def seen(settings: dict[str, str | None]) -> set[str]:
    """Keys of the real queries that the build's examples are."""
    path = settings.get("examples")
    return {words_key(query.text) for query in read_queries(path)} if path else set()


def without(texts: Iterable[str], keys: set[str]) -> list[str]:
    return [text for text in texts if words_key(text) not in keys]


if __name__ == "__main__":
    main()
