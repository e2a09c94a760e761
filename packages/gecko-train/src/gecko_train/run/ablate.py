"""The paper's labelling table (its Table 5) on your own FRet data: which passage is the positive, which the negative.

Every cell trains the same start model with the same recipe on the same queries; only the labels differ. Over several
seeds, each cell's mean and its paired difference from the paper's choice (p_1, p_N) are written with 95% intervals over
seeds and queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gecko_core.errors import ConfigError
from gecko_core.io import write_json, write_text
from gecko_train.config import Recipe, StageConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.loop.watch import make_console
from gecko_train.run.folder import RunFolder
from gecko_train.run.journey import Journey
from gecko_train.run.stage import train_stage


@dataclass(frozen=True)
class Cell:
    """One way of labelling."""

    positive: str
    negative: str
    kl_weight: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.positive}, {self.negative}" + (", KL" if self.kl_weight else "")

    @property
    def file(self) -> str:
        return self.name.replace(", ", "-")


PAPER = Cell("p_1", "p_N")
CELLS = (
    Cell("seed", "none"),
    Cell("seed", "random"),
    Cell("seed", "p_N"),
    Cell("p_1", "none"),
    Cell("p_1", "random"),
    PAPER,
    Cell("p_1", "p_N", kl_weight=1.0),
)


def run_ablation(recipe: Recipe, seeds: int, console: Console | None = None) -> list[dict[str, Any]]:
    """Run the recipe up to FRet, then every cell with ``seeds`` seeds; returns and writes the table.

    ``ablation.json`` and ``ablation.md`` in the output folder hold it. Cells that are finished are not run again.

    Raises:
        ConfigError: the recipe's fine-tuning does not read FRet.
    """
    if not any(one.source == "fret" for one in recipe.finetune.sets):
        raise ConfigError("ablate: finetune.sets holds no set with source 'fret'; the table is about its labels")
    console = console or make_console()
    with RunFolder.claim(recipe.folder, recipe) as folder:
        journey = Journey(recipe, folder, console)
        journey.up_to_fret()
        scores = {
            cell: [_run_cell(journey, recipe, folder, cell, seed, console) for seed in range(seeds)] for cell in CELLS
        }
        table = summarise(scores)
        write_json(folder.path / "ablation.json", table)
        write_text(folder.path / "ablation.md", as_markdown(table))
    console.print(as_table(table))
    return table


def _run_cell(
    journey: Journey, recipe: Recipe, folder: RunFolder, cell: Cell, seed: int, console: Console
) -> np.ndarray:
    """nDCG@10 of every query of the known-item test, after training this cell."""

    def work() -> dict[str, Any]:
        from gecko_eval.in_training import evaluate_retrieval

        model = journey.fresh_finetuning_start()
        context = SourceContext(journey.held_out.training, folder.path / "fret", recipe.seed + seed)
        train_stage(
            model, stage_for(recipe.finetune, cell), context, folder.path / "ablation" / f"{cell.file}-{seed}",
            dims=recipe.student.dims, title=f"{cell.name} (seed {seed})", identity=model.weights_hash(),
            console=console,
        )  # fmt: skip
        model.eval()
        dim = recipe.student.dims[0]
        found = evaluate_retrieval(model, journey.held_out.test, [dim])[dim]
        return {"ndcg_at_10": [round(float(value), 6) for value in found.per_query["ndcg_at_10"]]}

    return np.array(folder.stage(f"ablate-{cell.file}-{seed}", work)["ndcg_at_10"])


def stage_for(stage: StageConfig, cell: Cell) -> StageConfig:
    """The recipe's fine-tuning with the labels of one cell."""
    labels = {"positive": cell.positive, "negative": cell.negative}
    sets = [
        one.model_copy(update={"options": {**one.options, **labels}}) if one.source == "fret" else one
        for one in stage.sets
    ]
    kl = stage.objective.kl.model_copy(update={"weight": cell.kl_weight})
    objective = stage.objective.model_copy(update={"kl": kl})
    return stage.model_copy(update={"sets": sets, "objective": objective})


def summarise(scores: dict[Cell, list[np.ndarray]]) -> list[dict[str, Any]]:
    """Mean over seeds and queries per cell, and its difference from the paper's, paired by seed and query."""
    paper = np.stack(scores[PAPER])
    table = []
    for cell, runs in scores.items():
        found = np.stack(runs)
        low, high = interval(found - paper)
        table.append(
            {
                "positive": cell.positive,
                "negative": cell.negative,
                "kl": cell.kl_weight,
                "ndcg_at_10": float(found.mean()),
                "spread_over_seeds": float(found.mean(1).std()),
                "against_paper": [float((found - paper).mean()), low, high],
                "seeds": len(runs),
            }
        )
    return table


def interval(differences: np.ndarray, draws: int = 4_000, seed: int = 0) -> tuple[float, float]:  # (S, Q) ->
    """95% bootstrap interval of the mean, seeds and queries both drawn anew: what other runs and other queries give."""
    generator = np.random.default_rng(seed)
    seeds, queries = differences.shape
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds  # (draws, S)
    by_query = generator.multinomial(queries, np.full(queries, 1 / queries), draws) / queries  # (draws, Q)
    means = ((by_seed @ differences) * by_query).sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def as_table(table: list[dict[str, Any]]) -> Table:
    """For the screen."""
    shown = Table(title=f"Labelling (known-item nDCG@10, {table[0]['seeds']} seeds)", title_justify="left")
    for column in ("positive", "hard negative", "KL", "nDCG@10", "sd over seeds", "against p_1, p_N with 95% interval"):
        shown.add_column(column)
    for row in _cells(table):
        shown.add_row(*row)
    return shown


def as_markdown(table: list[dict[str, Any]]) -> str:
    """For a page."""
    head = (
        "| positive | hard negative | KL | nDCG@10 | sd over seeds | against p_1, p_N (95% interval) |\n"
        "|---|---|---|---|---|---|\n"
    )
    return head + "".join("| " + " | ".join(row) + " |\n" for row in _cells(table))


def _cells(table: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            line["positive"],
            line["negative"],
            "yes" if line["kl"] else "no",
            f"{line['ndcg_at_10']:.4f}",
            f"{line['spread_over_seeds']:.4f}",
            "{:+.4f} ({:+.4f} to {:+.4f})".format(*line["against_paper"]),
        ]
        for line in table
    ]


def default_output(recipe: Recipe) -> Path:
    """Ablations do not share the folder of the plain run."""
    return Path(recipe.output or f"runs/{recipe.name}-ablation")
