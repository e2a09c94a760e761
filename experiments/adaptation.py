"""Your corpus, a small LLM, an hour: a zero-shot embedder against what FRet makes of it on judged sets.

    GECKO_DATA_DIR=... uv run python experiments/adaptation.py --work /tmp/adaptation

For each corpus the LLM writes queries and judges their neighbours; the student is then fine-tuned on what came of it in
several ways. What is saved of each (how far from the start, zero included) is chosen on the run's own known items; the
judged queries are looked at once, after that. With `--across` every model is also searched with on the other corpora:
what does adaptation to one cost on another? The page keeps what docs/results/adaptation.json has of earlier runs with
the same options, each variant against the zero-shot scores of its own run.

Queries: `written`, by the LLM; `styled`, by the LLM in the style of eight real ones; `free`, titles and sentences of
the passages; `log`, the queries of the train split without their answers; `unlogged`, written and free, which is all
that a corpus without a log has; `all`, written, free and log; `larger`, the same where a larger embedder finds the
candidates and its similarity is the judge beside the LLM; `words`, the same where BM25 finds a quarter of the
candidates and is a judge, too; `teacher`, the rows of `all` with the similarities of the larger embedder as what is
learnt; `logged`, the queries of the log in a build of their own, where the LLM writes nothing; `corpus`, no LLM: titles
(or first sentences) with the rest of their passages.
Ways: `hard`, positives and hard negatives by the judges (the paper's loss); `lists`, the candidates' probabilities;
`blocks`, the same over neighbouring queries and all their candidates; `both`, hard and lists; `frozen`, lists with the
embeddings and two thirds of the layers as they are; `anchored`, lists with all vectors pulled to the student's own;
`pairs`, the contrastive loss of pre-finetuning.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
import numpy as np

from gecko_core import Gecko
from gecko_core.command import run_command
from gecko_core.io import read_json, write_text
from gecko_core.randomness import generator
from gecko_fret import build_fret, load_fret
from gecko_fret.config import parse_config

SETS = ("scifact", "fiqa_gold", "cisi", "dbpedia_5k", "msmarco_5k", "hotpotqa_sample", "techqa_sample")
START = lab.START
EXAMPLES = 8
#: Data to the sources of queries that it is; those of `BUILDS` have builds of their own, the others share one.
SOURCES = {
    "written": ["llm"],
    "styled": ["llm"],
    "free": ["titles", "sentences"],
    "log": ["log"],
    "unlogged": ["llm", "titles", "sentences"],
    "all": ["llm", "titles", "sentences", "log"],
    "larger": ["llm", "titles", "sentences", "log"],
    "words": ["llm", "titles", "sentences", "log"],
    "logged": ["log"],
    "teacher": ["llm", "titles", "sentences", "log"],
}
BUILDS = ("styled", "larger", "words", "logged")
NEEDS_LOG = ("styled", "log", "logged")
HARD = {"temperature": 0.02, "same_tower": True, "negatives_scope": "own", "hard_negatives": 1}
LISTS = {"kl": {"weight": 1.0, "documents": 6}}
WAYS: dict[str, dict[str, Any]] = {
    "hard": HARD,
    "lists": {**LISTS, "contrastive_weight": 0},
    "both": {**HARD, **LISTS},
    "blocks": {"contrastive_weight": 0, "block": {"weight": 1.0}},
    "frozen": {**LISTS, "contrastive_weight": 0},
    "anchored": {**LISTS, "contrastive_weight": 0, "matching": {"weight": 1.0}},
    "pairs": {"temperature": 0.02, "same_tower": False, "hard_negatives": 0},
}
#: Rows of a batch, so that a step of every way reads about as many texts as one of blocks does.
BATCH = {"hard": 48, "lists": 20, "both": 20, "blocks": 48, "frozen": 20, "anchored": 20, "pairs": 48}
FROZEN = 4  # of six layers
#: Of a variant whose model at the end of training is reported beside the one that was saved.
END = "end of training"
ENDS = " End of training: that model, whatever the known items say of it."
#: Of known items, as runs record them.
KINDS = ("score", "words", "titles", "queries", "lists")
#: What is measured by default: queries and the way in which they are learnt from.
VARIANTS = ("written hard", "written lists", "written blocks", "styled blocks", "free blocks", "log blocks",
            "all blocks", "all lists", "all both")  # fmt: skip
SMALL = {
    "seeds": 4,
    "others": 16,
    "candidates": 4,
    "steps": 2,
    "batch": 0.5,
    "items": 12,
    "dims": [384, 64],
    "variants": ["written both", "all blocks", "corpus pairs"],
}


def main() -> None:
    parser = lab.arguments(__doc__, SETS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help='such as "written lists"')
    parser.add_argument("--seeds", type=int, default=100, help="passages that the LLM writes two queries for")
    parser.add_argument("--others", type=int, default=400, help="most titles and sentences, and queries of a log")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--documents", type=int, default=6, help="of a list, drawn from the candidates")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=1, help="times as many rows of a batch")
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--dims", nargs="+", type=int, default=[384, 128], help="widths that are trained and measured")
    parser.add_argument("--runs", type=int, default=1, help="seeds of the training")
    parser.add_argument("--teacher", default="all-mpnet-base-v2", help='the larger embedder of "larger" and "teacher"')
    parser.add_argument("--kept", action="store_true", help="report the models that are there, and make no other")
    parser.add_argument("--ends", action="store_true", help="also report the end of training, whatever was saved")
    parser.add_argument("--across", action="store_true", help="search with every model on all sets, not its own alone")
    parser.add_argument("--llm", default="smollm2-135m-instruct")
    parser.add_argument("--student", default="all-minilm-l6-v2")
    parser.add_argument("--prompts", default="own", choices=["own", "gecko"])
    parser.add_argument("--items", type=int, default=48, help="known items that the judges are measured on")
    parser.add_argument("--words", action="store_true", help="in every build BM25 finds candidates and is a judge")
    parser.add_argument("--part", type=int, default=32, help=lab.PART)
    parser.add_argument("--name", default="adaptation", help="of the page in docs/results")
    given = lab.parsed(parser, SMALL)
    sets = {name: lab.judged_set(name, given.queries) for name in given.sets}
    raw: dict[str, Any] = {"options": lab.options_of(given), "sets": {}}
    for name, judged in sets.items():
        clock = lab.Clock(given.work / name / "seconds.json")
        others = sets if given.across else [name]
        found = {START: {other: evaluated(given, given.student, other, sets) for other in others}}
        choices: dict[str, Any] = {}
        for variant, seed in wanted(given, judged):
            saved = trained(given, judged, variant, seed, clock)
            models = {variant: saved}
            if given.ends and (choice := chosen_by(saved)):
                choices[f"{variant}, seed {seed}" if given.runs > 1 else variant] = choice
            if given.ends:
                models[f"{variant}, {END}"] = saved.parent / "finetune" / "model"
            for of, model in models.items():
                key = f"{of}, seed {seed}" if given.runs > 1 else of
                found[key] = {other: evaluated(given, str(model), other, sets) for other in others}
                shown = (
                    f"{other} {' '.join(lab.mean(values) for values in by_dim.values())}"
                    for other, by_dim in found[key].items()
                )
                print(name, key, *shown, flush=True)
        made = dict.fromkeys((key for key in found if key != START), lab.described("torch", "transformers"))
        raw["sets"][name] = {"ndcg_at_10": found, "seconds": clock.seconds, "made": made, "choices": choices}
    if not given.no_publish:
        add_earlier(raw, lab.RESULTS / f"{given.name}.json")
    lab.publish(given.name, report(given, raw), raw, given, plot(given, raw))


def add_earlier(raw: dict[str, Any], path: Path) -> None:
    """Add the sets and variants that an earlier run with the same options has and this one does not."""
    if raw["options"]["runs"] != "1":
        return
    for name, before in lab.earlier(path, raw, {"variants", "kept", "across", "ends", "part", "name"}).items():
        empty: dict[str, Any] = {
            "ndcg_at_10": {START: before["ndcg_at_10"][START]},
            "seconds": {},
            "made": {},
            "choices": {},
        }
        now = raw["sets"].setdefault(name, empty)
        for variant in variants({name: before["ndcg_at_10"]}):
            if variant not in now["ndcg_at_10"]:
                start = lab.start_of(before["ndcg_at_10"], variant)
                now["ndcg_at_10"][variant] = before["ndcg_at_10"][variant]
                now["made"][variant] = before["made"][variant]
                if variant in before.get("choices", {}):
                    now["choices"][variant] = before["choices"][variant]
                if start != now["ndcg_at_10"][START]:
                    now["ndcg_at_10"][f"{START}, {variant}"] = start
        now["seconds"] = before["seconds"] | now["seconds"]
    raw["sets"] = {name: raw["sets"][name] for name in sorted(raw["sets"], key=[*SETS, *raw["sets"]].index)}


def wanted(given: argparse.Namespace, judged: lab.Judged) -> Iterator[tuple[str, int]]:
    """Variants that the set has data for, each with every seed."""
    for variant in given.variants:
        if judged.log or variant.split()[0] not in NEEDS_LOG:
            for seed in range(given.runs):
                if not given.kept or (folder_of(given, judged, variant, seed) / "model").exists():
                    yield variant, seed


def built(given: argparse.Namespace, judged: lab.Judged, data: str, clock: lab.Clock) -> Path:
    """The FRet folder that has these data; a build that was stopped goes on."""
    name = data if data in BUILDS else "all"
    folder = given.work / judged.name / name
    log = list(judged.log)
    order = generator("log of an experiment", 0).permutation(len(log)).tolist()
    examples, rest = [log[place] for place in order[:EXAMPLES]], [log[place] for place in order[EXAMPLES:]]
    seeds = min(given.seeds, len(judged.corpus))
    generate: dict[str, Any] = {"seeds": seeds, "attempts": 2, "user_task": judged.data.task, "part_size": given.part}
    if name == "styled":
        generate["examples"] = _lines(given.work / judged.name / "examples.txt", examples)
    elif name == "logged":
        generate["sources"] = ["log"]
        generate["log"] = _lines(given.work / judged.name / "log.txt", rest[: given.others])
    else:
        generate["sources"] = ["llm", "titles", "sentences"]
        generate["per_source"] = {"titles": given.others // 2, "sentences": given.others // 2}
        if rest:
            generate["sources"].append("log")
            generate["log"] = _lines(given.work / judged.name / "log.txt", rest[: given.others])
    words = given.words or name == "words"
    by_words = given.candidates // 4 if words else 0
    config = parse_config(
        {
            "llm": {"model": given.llm},
            "embedder": {"model": given.teacher if data == "larger" else given.student},
            "generate": generate,
            "measure": {"items": given.items, "candidates": given.candidates, "seeds": 0},
            # Queries of one part share what is read of a passage.
            "retrieve": {
                "candidates": given.candidates - by_words, "bm25": by_words,
                "cache": str(given.work / judged.name / "embeddings"), "part_size": 8 * given.part,
            },
            "score": {"judges": ["similarity", "ql", "yes-no", "bm25"]} if words else {},
        }
    )  # fmt: skip
    clock.run(f"build {name}", lambda: build_fret(config, folder, corpus=judged.corpus, progress=True))
    return folder


def folder_of(given: argparse.Namespace, judged: lab.Judged, variant: str, seed: int) -> Path:
    """Where a variant's run is kept."""
    return Path(given.work) / judged.name / "models" / f"{variant.replace(' ', '-')}-{seed}"


def trained(given: argparse.Namespace, judged: lab.Judged, variant: str, seed: int, clock: lab.Clock) -> Path:
    """The folder of a model, trained where it is missing."""
    data, way = variant.split()
    out = folder_of(given, judged, variant, seed)
    if (out / "model").exists():
        return out / "model"
    titled = _passages(given.work / judged.name / "corpus.jsonl", judged) if data == "corpus" else None
    if titled:
        of_source: dict[str, Any] = {"source": "title-body"}
    else:
        folder = built(given, judged, data, clock)
        there = {row.source for row in load_fret(folder)}
        options = {"sources": [name for name in SOURCES[data] if name in there]}
        of_source = {"source": "fret", "name": data, "path": str(folder), "options": options}
    if way == "blocks":
        of_source["blocks"] = {}
    stage: dict[str, Any] = {"sets": [of_source], "prompts": given.prompts, "objective": dict(WAYS[way])}
    if "kl" in WAYS[way]:
        stage["objective"]["kl"] = {**LISTS["kl"], "documents": given.documents}
    if data == "teacher" or way == "anchored":
        stage["teacher"] = given.teacher if data == "teacher" else given.student
        stage["teacher_cache"] = str(given.work / judged.name / "teacher")
    if data == "teacher":
        stage["objective"]["block"] = {"weight": 1.0, "targets": "teacher"}
    return lab.finetuned(
        out, given.student, stage, clock, name=variant, seed=seed, dims=given.dims, corpus=titled,
        batch_size=round(given.batch * BATCH[way]), max_steps=given.steps, learning_rate=given.rate,
        frozen_layers=FROZEN if way == "frozen" else 0,
    )  # fmt: skip


def evaluated(given: argparse.Namespace, model: str, name: str, sets: dict[str, lab.Judged]) -> dict[str, list[float]]:
    """NDCG@10 of every judged query of a set at every width, kept beside it; of the student in the work folder."""
    if kept_start(model):
        return evaluated(given, given.student, name, sets)
    folder = Path(model).parent if Path(model).is_dir() else given.work / "zero-shot" / model
    path = folder / "scores" / f"{name}-{given.queries}-{'-'.join(map(str, given.dims))}.json"
    return lab.kept(
        path, lambda: {"ndcg_at_10": lab.scores_at(Gecko.from_pretrained(model), sets[name].data, given.dims)}
    )["ndcg_at_10"]


def kept_start(model: str) -> bool:
    """Whether a run has saved the student as it was: no share of its training was supported by the known items."""
    return choice_of(Path(model)).get("share") == 0


def choice_of(model: Path) -> dict[str, Any]:
    """What the run's record says of the choice of what was saved; nothing where there was none."""
    path = model / "gecko.json"
    stages = read_json(path)["record"]["stages"] if path.exists() else {}
    return dict(stages.get("interpolate", {}))


def chosen_by(model: Path) -> dict[str, Any]:
    """The saved share, the numbers of known items, and the lead of the end of training on them with its error."""
    choice = choice_of(model)
    if choice.get("by") != "items":
        return {}
    return {
        "share": choice["share"],
        "items": choice["items"],
        "end": choice["measured"][-1]["against"][choice["base"]],
    }


def report(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """The page."""
    sets = list(raw["sets"])
    minutes = {name: sum(raw["sets"][name]["seconds"].values()) / 60 for name in sets}
    places: dict[str, list[str]] = {}
    for name in sets:
        for variant, made in raw["sets"][name]["made"].items():
            what = f"{variant.partition(', seed ')[0]} on {name}"
            if what not in places.setdefault(made, []):
                places[made].append(what)
    judged = ", a quarter of them by BM25, which is a judge, too" if given.words else ""
    data = {key.split()[0] for of in raw["sets"].values() for key in of["made"]}
    queries = f"at most {given.others} queries of a log"
    if data != {"logged"}:
        written = f"{given.seeds} passages with two queries each, at most {given.others} titles and sentences"
        queries = f"{written}, and as many queries of a log"
    ways = {key.partition(",")[0].split()[1] for of in raw["sets"].values() for key in of["made"]}
    batches = sorted({given.batch * BATCH[way] for way in ways})
    lines = [
        "# " + given.name.replace("-", ", ", 1).capitalize(),
        "",
        f"`experiments/adaptation.py`: student {given.student}, LLM "
        f"{given.llm}, {queries}, {given.candidates} candidates a query{judged}, lists of {given.documents}; "
        f"{given.steps} steps of {' or '.join(map(str, batches))} rows at {given.rate:g}, prompts: {given.prompts}. "
        "nDCG@10 in percent; differences to zero-shot with 95% intervals over the queries, bold where they leave out "
        "zero; of several seeds of the training, the mean of each query. What is saved of each model is chosen on "
        "known items of its own run; start kept: they supported no share of the training, and the model is the student "
        "as it was." + ENDS * given.ends,
        "",
    ]
    for dim in given.dims:
        found = {name: at(raw["sets"][name]["ndcg_at_10"], dim) for name in sets}
        header = ["", *(f"{name} ({len(found[name][START][name])})" for name in sets), "mean"]
        lines += [f"## {dim} dims", "", *lab.table(header, changes(found)), ""]
        cost = across(found)
        if cost:
            lines += ["On corpora that the model was not adapted to:", "", *lab.table(["", "mean", "worst"], cost), ""]
    lines += seen(given, raw)
    lines += ceiling(given, sets)
    took = ", ".join(f"{name} {value:.0f}" for name, value in minutes.items())
    return [
        *lines, f"![Change by corpus and way]({given.name}.png)", "", f"Minutes of building and training: {took}.",
        "", "Made with:", "", *(f"- {made}: {', '.join(what)}" for made, what in sorted(places.items())),
    ]  # fmt: skip


def seen(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """What the known items saw of the end of training, beside what real queries gain by it."""
    rows = []
    for name, of_set in raw["sets"].items():
        found = at(of_set["ndcg_at_10"], given.dims[0])
        for variant, choice in of_set.get("choices", {}).items():
            end = f"{variant}, {END}"
            if end in found:
                kinds = (choice["end"].get(kind) for kind in KINDS)
                leads = ["-" if lead is None else f"{100 * lead[0]:+.1f} ({100 * lead[1]:.1f})" for lead in kinds]
                change = lab.change_of_model(found[end][name], lab.start_of(found, end)[name])
                rows.append([f"{variant} on {name}", change, *leads, f"{choice['share']:g}"])
    if not rows:
        return []
    header = ["", "real queries", *("all kinds" if kind == "score" else kind for kind in KINDS), "share saved"]
    return [
        "## What the choice saw", "",
        f"The end of training against the start at {given.dims[0]} dims: on the judged queries, and on the known items "
        "of the run (the mean of their kinds decides; nDCG in percent, standard errors in parentheses).",
        "",
        *lab.table(header, rows), "",
    ]  # fmt: skip


def ceiling(given: argparse.Namespace, sets: list[str]) -> list[str]:
    """What there is to learn: how much better than the student the judges of judges.py order its candidates."""
    path = lab.RESULTS / "judges.json"
    judges = read_json(path) if path.exists() else {"options": {}, "sets": {}}
    asked = {"llm": given.llm, "embedder": given.student, "candidates": str(given.candidates)}
    there = [name for name in sets if name in judges["sets"]]
    if not there or any(judges["options"].get(key) != value for key, value in asked.items()):
        return []
    found = {name: judges["sets"][name]["ndcg_at_10"] for name in there}
    rows = []
    for way in ("calibrated", "similarity + ql, equal weights", "oracle"):
        base = [of["similarity"] for of in found.values()]
        cells = [lab.change(of[way], of["similarity"]) for of in found.values()]
        rows.append([way, *cells, lab.change_of_mean([of[way] for of in found.values()], base)])
    header = ["", *(f"{name} ({len(of['similarity'])})" for name, of in found.items()), "mean"]
    return [
        "## What there is to learn", "",
        f"The {given.candidates} passages that are nearest to each real query by the student, in the order of the "
        "judges instead ([judges.md](judges.md), with BM25 among them), against the student's own order. A student "
        "that had learnt all that these judges know of its candidates would gain as much; the oracle knows the "
        "answers.",
        "",
        *lab.table(header, rows), "",
    ]  # fmt: skip


def at(found: dict[str, dict[str, dict[str, list[float]]]], dim: int) -> dict[str, dict[str, list[float]]]:
    """The scores of every variant on every set at one width; of seeds, their mean."""
    of_seeds: dict[str, list[dict[str, list[float]]]] = {}
    for key, of in found.items():
        of_seeds.setdefault(key.partition(", seed ")[0], []).append(
            {name: values[str(dim)] for name, values in of.items()}
        )
    return {
        variant: {name: np.mean([of[name] for of in seeds], axis=0).tolist() for name in seeds[0]}
        for variant, seeds in of_seeds.items()
    }


def changes(found: dict[str, dict[str, dict[str, list[float]]]]) -> list[list[object]]:
    """A line for each variant: its change on the corpora that it was adapted to."""
    rows: list[list[object]] = [[START, *(lab.mean(of[START][name]) for name, of in found.items()), ""]]
    for variant in variants(found):
        having = [name for name in found if variant in found[name]]
        own = [found[name][variant][name] for name in having]
        base = [lab.start_of(found[name], variant)[name] for name in having]
        cells = [
            lab.change_of_model(of[variant][name], lab.start_of(of, variant)[name]) if name in having else "-"
            for name, of in found.items()
        ]
        rows.append([variant, *cells, lab.change_of_mean(own, base)])
    return rows


def across(found: dict[str, dict[str, dict[str, list[float]]]]) -> list[list[object]]:
    """A line for each variant: its change on the other corpora."""
    cost: list[list[object]] = []
    for variant in variants(found):
        pairs = [
            (name, other) for name in found if variant in found[name] for other in found[name][variant] if other != name
        ]
        if pairs:
            after = [found[name][variant][other] for name, other in pairs]
            before = [lab.start_of(found[name], variant)[other] for name, other in pairs]
            differences = [float(np.mean(a) - np.mean(b)) for a, b in zip(after, before, strict=True)]
            worst, (adapted, other) = min(zip(differences, pairs, strict=True))
            cost.append([variant, lab.change_of_mean(after, before), f"{worst:+.1f} ({adapted} on {other})"])
    return cost


def variants(found: dict[str, dict[str, Any]]) -> list[str]:
    """Those that any set has, in the order of the run."""
    return list(dict.fromkeys(key for of_set in found.values() for key in of_set if not key.startswith(START)))


def plot(given: argparse.Namespace, raw: dict[str, Any]) -> Any:
    """Change against zero-shot by corpus and variant, with intervals; a panel for each width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5 * len(given.dims)), layout="constrained")
    for axes, dim in zip(np.ravel(figure.subplots(len(given.dims), 1, sharex=True)), given.dims, strict=True):
        bars(axes, {name: at(of["ndcg_at_10"], dim) for name, of in raw["sets"].items()})
        axes.set_title(f"{dim} dims")
        axes.set_ylabel("change of nDCG@10")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def bars(axes: Any, found: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    """One panel."""
    from gecko_eval import paired_bootstrap

    shown = variants(found)
    width = 0.8 / max(1, len(shown))
    for place, variant in enumerate(shown):
        points = []
        for position, (name, of_set) in enumerate(found.items()):
            if variant in of_set:
                both = (of_set[variant][name], lab.start_of(of_set, variant)[name])
                of = paired_bootstrap(*(np.asarray(values) for values in both), samples=2000)
                points.append((position + (place - (len(shown) - 1) / 2) * width, of.difference, of.low, of.high))
        x, y, low, high = zip(*points, strict=True)
        errors = [[a - b for a, b in zip(y, low, strict=True)], [b - a for a, b in zip(y, high, strict=True)]]
        axes.bar(x, y, width * 0.9, yerr=errors, label=variant, error_kw={"linewidth": 0.8})
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(found)), list(found))


def _passages(path: Path, judged: lab.Judged) -> Path:
    """The corpus as a file."""
    rows = ({"id": p.id, "text": p.text, **({"title": p.title} if p.title else {})} for p in judged.corpus)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def _lines(path: Path, texts: list[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{' '.join(text.split())}\n" for text in texts))
    return str(path)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run_command(main)
