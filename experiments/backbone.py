"""From a raw language model to an embedder, stage by stage: LLM2Vec's stages, pairs, then the mixture with FRet.

    GECKO_DATA_DIR=... uv run python experiments/backbone.py --work /tmp/backbone

Mean pooling over the causal language model; the same with its mask lifted; after masked next-token prediction; after
unsupervised SimCSE; after pre-finetuning on titles and bodies, from each of these; after fine-tuning on the paper's
mixture (FRet of the same corpus, NLI, classification), and on that without one of its parts: negatives of the queries'
own tower, the loss of a shorter prefix, the prompts, ids that tell the rows of a class apart. Scored on STS-B
(Spearman), SciFact (nDCG@10; nothing of it is trained on) and Banking77 (accuracy of a logistic regression on a few
examples a class), in percent; what is fine-tuned also at a quarter of its width. Published, on MTEB (BehnamGhader et
al. 2024): Sheared-LLaMA-1.3B 35.05 causal, 41.43 after MNTP, 49.42 after SimCSE; Llama-3-8B falls to 30.56 where the
mask is lifted and nothing else is done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
import numpy as np
from rich.console import Console

from gecko_core import Gecko
from gecko_core.command import run_command
from gecko_core.io import find_data, read_table, write_text
from gecko_core.randomness import generator
from gecko_eval.in_training import subsample
from gecko_fret import build_fret
from gecko_fret.config import parse_config as parse_fret
from gecko_train.config import parse_recipe
from gecko_train.run import run_mntp, run_stage

TASKS = ("stsb", "scifact", "banking77")
#: Name of a stage to the stage that it starts from and what is done.
STAGES: dict[str, tuple[str, str]] = {
    "causal": ("", "causal"),
    "bidirectional": ("", "start"),
    "MNTP": ("", "mntp"),
    "MNTP, SimCSE": ("MNTP", "simcse"),
    "SimCSE": ("", "simcse"),
    "pairs": ("", "pairs"),
    "MNTP, pairs": ("MNTP", "pairs"),
    "MNTP, SimCSE, pairs": ("MNTP, SimCSE", "pairs"),
    "mixture": ("", "mixture"),
    "pairs, mixture": ("pairs", "mixture"),
    "MNTP, SimCSE, pairs, mixture": ("MNTP, SimCSE, pairs", "mixture"),
}
#: The mixture without one of its parts, each from the stage before `--mixture`.
WITHOUT = ("same-tower negatives", "a shorter prefix", "prompts", "ids of rows")
A_CLASS = 16  # examples of Banking77
SMALL = {
    "steps": 2, "batch": 4, "length": 32, "texts": 40, "tasks": ["docs"],
    "stages": ["causal", "MNTP"], "mixture": "mixture", "without": ["prompts"],
    "seeds": 4, "candidates": 4, "items": 12,
}  # fmt: skip


def main() -> None:
    parser = lab.arguments(__doc__, [lab.DOCS])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--llm", default="smollm2-135m-instruct")
    parser.add_argument("--corpus", help="what is learnt from; default: Python's documentation")
    parser.add_argument("--steps", type=int, default=100, help="of each stage")
    parser.add_argument(
        "--batch", type=int, default=16, help="sequences of MNTP; rows of the others are four times so many"
    )
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--texts", type=int, default=1000, help="most test texts of a task")
    parser.add_argument("--mixture", default="MNTP, SimCSE, pairs, mixture", help="the stage that the ablation is of")
    parser.add_argument("--without", nargs="*", default=list(WITHOUT), help="parts of the mixture that are left out")
    parser.add_argument("--seeds", type=int, default=100, help="passages that the LLM writes two queries for")
    parser.add_argument("--candidates", type=int, default=10, help="of a query, judged by the LLM")
    parser.add_argument("--items", type=int, default=24, help="known items that the judges are measured on")
    given = lab.parsed(parser, SMALL)
    clock = lab.Clock(given.work / "seconds.json")
    found: dict[str, dict[str, float]] = {}
    STAGES.update({left_out(part): (STAGES[given.mixture][0], "mixture") for part in given.without})
    for stage in [*given.stages, *map(left_out, given.without)]:
        path = given.work / "scores" / f"{folder_name(stage)}.json"
        found[stage] = lab.kept(path, lambda stage=stage: scored(given, stage, clock))
        print(stage, *(f"{task} {value:.1f}" for task, value in found[stage].items()), flush=True)
    raw = {
        "options": lab.options_of(given),
        "scores": found,
        "seconds": clock.seconds,
    }
    lab.publish("backbone", report(given, raw), raw, given)


def left_out(part: str) -> str:
    """The name of the stage that does without a part of the mixture."""
    return f"mixture without {part}"


def folder_name(stage: str) -> str:
    """Of a stage."""
    return stage.replace(", ", "-").replace(" ", "-")


def scored(given: argparse.Namespace, stage: str, clock: lab.Clock) -> dict[str, float]:
    """The scores of a stage's model."""
    model = made(given, stage, clock)
    with causal(model) if stage == "causal" else contextlib.nullcontext():
        found = {task: score(given, model, task) for task in given.tasks}
    if STAGES[stage][1] == "mixture":
        model.truncate_dim = width(given) // 4
        found |= {f"{task}, quarter": score(given, model, task) for task in given.tasks}
    return found


def made(given: argparse.Namespace, stage: str, clock: lab.Clock) -> Gecko:
    """The model of a stage, trained where it is missing."""
    before, work = STAGES[stage]
    if work in ("causal", "start"):
        model = Gecko.from_backbone(given.llm, dims=(width(given),))
    else:
        model = Gecko.from_pretrained(trained(given, stage, before, work, clock))
    model.max_seq_length = given.length
    return model


def trained(given: argparse.Namespace, stage: str, before: str, work: str, clock: lab.Clock) -> Path:
    """The folder of a stage's model."""
    out = given.work / folder_name(stage)
    if (out / "model").exists():
        return out / "model"
    student: dict[str, Any] = {"model": given.llm, "backbone": True, "dims": [width(given)]}
    if before:
        student |= {"model": str(trained(given, before, *STAGES[before], clock)), "backbone": False}
    lora = {"rank": 16, "alpha": 32, "dropout": 0.05}
    trainer = {"max_steps": given.steps, "max_seq_length": given.length, "checkpoint_every": 20, "lora": lora}
    objective = {"hard_negatives": 0, "same_tower": False}
    recipe: dict[str, Any] = {"name": stage, "output": str(out), "corpus": {"path": given.corpus}, "student": student}
    if work == "mntp":
        recipe["mntp"] = {"trainer": {**trainer, "batch_size": given.batch, "learning_rate": 2e-4}}
    elif work == "simcse":
        own = {"batch_size": 4 * given.batch, "learning_rate": 3e-5, "attention_dropout": 0.3}
        recipe["prefinetune"] = {
            "sets": [{"source": "simcse"}],
            "objective": {**objective, "temperature": 0.05},
            "trainer": {**trainer, **own},
        }
    elif work == "pairs":
        recipe["prefinetune"] = {
            "sets": [{"source": "title-body", "task": "search result"}],
            "objective": {**objective, "temperature": 0.02},
            "trainer": {**trainer, "batch_size": 4 * given.batch, "learning_rate": 1e-4},
        }
    else:
        part = stage.partition("mixture without ")[2]
        if part == "prompts":
            student |= {"model": str(without_prompts(given, before, clock)), "backbone": False}
        student["dims"] = [width(given)] if part == "a shorter prefix" else [width(given), width(given) // 4]
        recipe["finetune"] = {
            "sets": mixture(given, "mask" if part == "ids of rows" else "unique", clock),
            "objective": {"temperature": 0.02, "same_tower": part != "same-tower negatives", "hard_negatives": 1},
            "trainer": {**trainer, "batch_size": 4 * given.batch, "learning_rate": 1e-4},
            "interpolate": None,
        }
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / f"{out.name}.log").open("a", encoding="utf-8") as log:
        console, resolved = Console(file=log, width=120), parse_recipe(recipe)
        clock.run(
            stage,
            lambda: (
                run_mntp(resolved, console)
                if work == "mntp"
                else run_stage(resolved, "finetune" if work == "mixture" else "prefinetune", console)
            ),
        )
    return out / "model"


def mixture(given: argparse.Namespace, ids: str, clock: lab.Clock) -> list[dict[str, Any]]:
    """The sets of the last stage: FRet, NLI and classification; in the smallest run of the corpus alone."""
    folder, small = given.work / "fret", "docs" in given.tasks
    corpus = lab.judged_set(f"{lab.DOCS}-120" if small else lab.DOCS).corpus
    config = parse_fret(
        {
            "llm": {"model": given.llm},
            "generate": {"seeds": given.seeds, "attempts": 2},
            "retrieve": {"candidates": given.candidates},
            "measure": {"items": given.items, "candidates": given.candidates, "seeds": 0},
        }
    )
    clock.run("FRet", lambda: build_fret(config, folder, corpus=corpus, progress=True))
    labelled = {"source": "classification", "path": "clinc150", "task": "classification", "label_ids": ids}
    sets: list[dict[str, Any]] = [{"source": "fret", "path": str(folder)}, labelled]
    if not small:
        return [*sets, {"source": "snli", "path": "snli_sample"}]
    rows = [{"text": p.text[:200], "label": str(p.title).partition(" ")[0]} for p in corpus]
    labelled["path"] = str(given.work / "modules.jsonl")
    write_text(given.work / "modules.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return sets


def without_prompts(given: argparse.Namespace, before: str, clock: lab.Clock) -> Path:
    """The model of a stage, with texts read as they are, in a folder of its own."""
    out = given.work / "without-prompts"
    if not out.exists():
        model = made(given, before or "bidirectional", clock)
        model.prompt_style = "plain"
        model.save_pretrained(out)
    return out


@contextlib.contextmanager
def causal(model: Gecko) -> Iterator[None]:
    """The mask that the language model was trained with, instead of none."""

    class Causal(type(model.adapter)):  # type: ignore[misc]
        def packs(self, config: Any) -> bool:
            return False

        def hidden_states(self, backbone: Any, input_ids: Any, attention_mask: Any) -> Any:
            import torch

            length = input_ids.shape[1]
            seen = torch.ones(length, length, dtype=torch.bool).tril() & attention_mask.bool()[:, None, None, :]
            seen = seen | torch.eye(length, dtype=torch.bool)
            return backbone(input_ids=input_ids, attention_mask=seen, use_cache=False).last_hidden_state

    lifted = model.adapter
    model.adapter = Causal(lifted.model_type)
    yield
    model.adapter = lifted


def score(given: argparse.Namespace, model: Gecko, task: str) -> float:
    """In percent: Spearman of STS-B, nDCG@10 of SciFact, accuracy on Banking77."""
    if task == "stsb":
        from gecko_eval.data import load_sts
        from gecko_eval.metrics import spearman

        data = load_sts("stsb")
        first, second = (
            model.encode(list(side)) for side in (data.sentences1[: given.texts], data.sentences2[: given.texts])
        )
        return 100 * spearman((first * second).sum(1), np.array(data.scores[: given.texts]))
    if task == "banking77":
        return classified(model, given.texts)
    judged = lab.judged_set(f"{lab.DOCS}-300" if task == "docs" else task)
    data = judged.data if task == "docs" else subsample(judged.data, 300, given.texts)
    return float(np.mean(lab.scores_of(model, data)))


def classified(model: Gecko, most: int) -> float:
    """Accuracy of a logistic regression on a few examples a class."""
    from sklearn.linear_model import LogisticRegression

    rows = {
        split: [r.fields for r in read_table(find_data("banking77") / f"{split}.jsonl.gz")]
        for split in ("train", "test")
    }
    order = generator("banking77", 0).permutation(len(rows["train"])).tolist()
    taken: dict[str, list[str]] = {}
    for place in order:
        row = rows["train"][place]
        examples = taken.setdefault(str(row["label"]), [])
        if len(examples) < A_CLASS:
            examples.append(row["text"])
    texts = [text for examples in taken.values() for text in examples]
    labels = [label for label, examples in taken.items() for _ in examples]
    drawn = generator("banking77 test", 0).permutation(len(rows["test"]))[:most].tolist()
    test = [rows["test"][place] for place in drawn]
    fitted = LogisticRegression(max_iter=200, C=10.0).fit(model.encode(texts), labels)
    found = fitted.predict(model.encode([row["text"] for row in test]))
    return 100 * float(np.mean([one == str(row["label"]) for one, row in zip(found, test, strict=True)]))


def width(given: argparse.Namespace) -> int:
    """Width of the language model."""
    path = given.work / "width.json"
    return int(lab.kept(path, lambda: {"width": Gecko.from_backbone(given.llm).hidden_size})["width"])


def report(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """The page."""
    columns = list(dict.fromkeys(task for of in raw["scores"].values() for task in of))
    rows: list[list[object]] = [
        [stage, *(f"{of[task]:.1f}" if task in of else "-" for task in columns)] for stage, of in raw["scores"].items()
    ]
    minutes = {stage: seconds / 60 for stage, seconds in raw["seconds"].items()}
    return [
        "# From a language model",
        "",
        f"{lab.described('torch', 'transformers', 'peft')}. `experiments/backbone.py`: {given.llm}, "
        f"{given.corpus or 'the documentation of Python'}; a reduced run: {given.steps} steps a stage, {given.batch} "
        f"sequences or {4 * given.batch} rows of {given.length} tokens, against 1,000 steps of 32 sequences of 512 "
        f"tokens in the paper; at most {given.texts} test texts a task.",
        "",
        *lab.table(["after", *columns], rows),
        "",
        f"Minutes of training: {', '.join(f'{stage} {value:.0f}' for stage, value in minutes.items())}.",
    ]


if __name__ == "__main__":
    run_command(main)
