"""From a raw language model to an embedding model on public sets: recipes/smollm2-135m.yaml, scored around each stage.

    GECKO_DATA_DIR=... python packages/gecko-train/benchmarks/smollm2_run.py --out runs/smollm2 --reduced

`--reduced` is for CPUs: few steps, small batches, short texts. The table says so, and the numbers are then a sign of
life rather than a result. Stages that are finished are not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

REDUCED = {
    "prefinetune": {"max_steps": 80, "batch_size": 32, "max_seq_length": 96, "learning_rate": 1e-4},
    "finetune": {"max_steps": 40, "batch_size": 24, "max_seq_length": 96, "learning_rate": 4e-5},
}


def scores(model, queries: int, documents: int) -> dict[str, float]:
    """SciFact, FiQA (its gold passages) and STS-B of the data folder, subsampled, at the model's dims."""
    from gecko_core.io import find_data
    from gecko_eval.data import load_beir, load_sts
    from gecko_eval.in_training import LoopEvaluation, subsample

    sets = [subsample(load_beir(find_data(name)), queries, documents) for name in ("scifact", "fiqa_gold")]
    return dict(LoopEvaluation([*sets, load_sts(find_data("stsb"))], every=1)(model, 0, force=True))


def run(out: Path, reduced: bool, queries: int, documents: int) -> dict[str, object]:
    import torch

    from gecko_core import Gecko
    from gecko_train.config import find_recipe, load_recipe
    from gecko_train.run.journey import run_stage
    from gecko_train.run.stage import load_student

    recipe = load_recipe(find_recipe("smollm2-135m"), ["student.max_seq_length=128"] if reduced else [])
    found: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    student = recipe.student
    for name in ("start", "prefinetune", "finetune"):
        if name != "start":
            config = recipe.model_dump()
            config["output"], config["student"] = str(out / name), student.model_dump()
            if reduced:
                config[name]["trainer"] |= REDUCED[name] | {"checkpoint_every": 20}
            run_stage(type(recipe).model_validate(config), name)
            seconds[name] = json.loads((out / name / "summary.json").read_text())["seconds"]
            student = student.model_copy(update={"model": str(out / name / "model"), "backbone": False})
        known = out / f"scores-{name}.json"
        if not known.exists():
            model = load_student(student) if name == "start" else Gecko.from_pretrained(student.model)
            model.prompt_style = "gecko"
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(scores(model, queries, documents)))
        found[name] = json.loads(known.read_text())
        print(name, json.dumps(found[name]), flush=True)
    return {
        "reduced": reduced, "settings": REDUCED if reduced else None, "queries": queries, "documents": documents,
        "scores": found, "seconds": seconds, "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU",
        "versions": {name: version(name) for name in ("torch", "transformers", "gecko-train")},
        "date": date.today().isoformat(),
    }  # fmt: skip


def as_markdown(result: dict) -> str:
    stages = result["scores"]
    keys = [key for key in stages["start"] if "ndcg" in key or "spearman" in key]
    lines = ["| set and metric | raw language model | pre-finetuned | fine-tuned |", "|---|---:|---:|---:|"]
    for key in keys:
        values = " | ".join(f"{stages[name][key]:.4f}" for name in ("start", "prefinetune", "finetune"))
        lines.append(f"| {key.removeprefix('eval/')} | {values} |")
    said = "Reduced run on a CPU, a sign of life rather than a result: " if result["reduced"] else ""
    steps = ", ".join(f"{name} {one}" for name, one in (result["settings"] or {}).items())
    versions = ", ".join(f"{name} {one}" for name, one in result["versions"].items())
    lines.append(
        f"\n{said}{steps}. At most {result['queries']} queries and {result['documents']} documents of each retrieval "
        f"set (scores compare only with each other; SciFact's training pairs are in the mixture). "
        f"Seconds of training: {', '.join(f'{name} {value:.0f}' for name, value in result['seconds'].items())}. "
        f"{result['device']}, {result['threads']} thread(s); {versions}; {result['date']}."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    result = run(given.out, given.reduced, given.queries, given.documents)
    given.results.mkdir(exist_ok=True)
    (given.results / "smollm2-135m.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.results / "smollm2-135m.md").write_text(as_markdown(result))
    print(as_markdown(result))


if __name__ == "__main__":
    main()
