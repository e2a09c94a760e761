"""The paper's labelling table (its Table 5) on your own FRet data: which passage is the positive, which the negative.

Every cell trains the same start model with the same recipe on the same queries; only the labels differ. Over several
seeds, each cell's mean and its paired difference from the paper's choice (p_1, p_N) are written with 95% intervals over
seeds and queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gecko_core.errors import ConfigError
from gecko_core.io import write_json, write_text
from gecko_core.randomness import seeded
from gecko_eval.report import interval_stretch
from gecko_train.config import Recipe, StageConfig
from gecko_train.data.apart import SetApart
from gecko_train.data.sources.base import SourceContext
from gecko_train.loop.watch import make_console
from gecko_train.run.folder import RunFolder
from gecko_train.run.inputs import Inputs, stage_inputs, student_input
from gecko_train.run.journey import STEPS, Journey
from gecko_train.run.stage import train_stage
from gecko_train.run.steps.base import FINETUNED, Step
from gecko_train.run.steps.evaluate import Evaluate


@dataclass(frozen=True)
class Cell:
    """One way of labelling."""

    positive: str
    negative: str
    kl: bool = False

    @property
    def name(self) -> str:
        """The cell on the screen."""
        return f"{self.positive}, {self.negative}" + (", KL" if self.kl else "")

    @property
    def file(self) -> str:
        """The cell in names of files."""
        return self.name.replace(", ", "-")


PAPER = Cell("p_1", "p_N")
CELLS = (
    Cell("seed", "none"),
    Cell("seed", "random"),
    Cell("seed", "p_N"),
    Cell("p_1", "none"),
    Cell("p_1", "random"),
    PAPER,
    Cell("p_1", "p_N", kl=True),
)
#: What a set may not set for itself, because the cells differ by it or cannot without it.
_OF_THE_CELLS = {"kl", "block", "hard_negatives", "contrastive_weight"}
_COLUMNS = ("positive", "hard negative", "KL", "nDCG@10", "sd over seeds", "against p_1, p_N (95% interval)")


@dataclass
class TrainCell(Step):
    """Fine-tunes a fresh start model with the labels of one cell, and keeps nDCG@10 of every query."""

    cell: Cell
    seed: int
    name: str = field(init=False)
    title: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"ablate-{self.cell.file}-{self.seed}"
        self.title = f"{self.cell.name} (seed {self.seed})"

    def inputs(self, recipe: Recipe) -> Inputs:
        """See ``Step``."""
        starts = {} if FINETUNED.start(recipe).stage else student_input(recipe.student)
        return starts | stage_inputs(FINETUNED.stage, recipe.finetune)

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        from gecko_eval.in_training import evaluate_retrieval

        recipe, folder = journey.recipe, journey.folder.path
        journey.forget_model()
        model = journey.load(FINETUNED.start(recipe))
        journey.forget_model()  # training changes it in place
        train_stage(
            model,
            stage_for(recipe.finetune, self.cell),
            SourceContext(
                journey.held_out.training,
                folder / "fret",
                recipe.seed + self.seed,
                apart=SetApart(journey.held_out.texts),
            ),
            folder / "ablation" / f"{self.cell.file}-{self.seed}",
            dims=recipe.student.dims,
            title=self.title,
            identity=model.weights_hash(),
            console=journey.console,
            inputs=journey.folder.input_hashes(self.name),
        )
        model.eval()
        dim = recipe.student.dims[0]
        scores = evaluate_retrieval(model, journey.held_out.test, [dim])[dim].per_query["ndcg_at_10"]
        return {
            "ndcg_at_10": [round(float(score), 6) for score in scores],
            "note": f"nDCG@10: {dim} dims {np.mean(scores):.3f}",
        }


def run_ablation(recipe: Recipe, seeds: int, console: Console | None = None) -> list[dict[str, Any]]:
    """Run the recipe up to FRet, then every cell with ``seeds`` seeds.

    Args:
        recipe: the recipe.
        seeds: training runs per cell.
        console: where to print; standard output by default.

    Returns:
        The table, which ``ablation.json`` and ``ablation.md`` in the output folder hold as well. Cells that are
        finished are not run again.

    Raises:
        ConfigError: the recipe's fine-tuning does not read FRet, or its cells would not differ by their labels alone.
    """
    check_stage(recipe.finetune)
    console = console or make_console()
    output = recipe.output or f"runs/{recipe.name}-ablation"  # not in the folder of the plain run
    recipe = recipe.model_copy(update={"output": output})
    runs = {cell: [TrainCell(cell, seed) for seed in range(seeds)] for cell in CELLS}
    with RunFolder.claim(recipe.folder, recipe) as folder:
        recipe = folder.recipe
        finetuned = recipe.model_copy(update={"finetune": recipe.finetune.model_copy(update={"enabled": True})})
        steps = [*before_finetuning(), *(run for of_cell in runs.values() for run in of_cell)]
        results = Journey(finetuned, folder, console, steps).run()
        scores = {cell: [np.array(results[run.name]["ndcg_at_10"]) for run in of] for cell, of in runs.items()}
        table = summarise(scores, kl_weight(recipe.finetune))
        write_json(folder.path / "ablation.json", table)
        notes = equal_cells(scores)
        write_text(folder.path / "ablation.md", "\n".join([as_markdown(table), *notes]))
    console.print(as_table(table))
    for note in notes:
        console.print(note)
    return table


def before_finetuning() -> list[Step]:
    """The steps of a journey that fine-tuning builds on: corpus, pre-finetuned model, FRet data."""
    finetuning = next(index for index, step in enumerate(STEPS) if step.name == FINETUNED.stage)
    return [step for step in STEPS[:finetuning] if not isinstance(step, Evaluate)]


def check_stage(stage: StageConfig) -> None:
    """Check that the cells will differ by their labels, and by nothing else.

    Raises:
        ConfigError: no set reads FRet, or a setting would hold in every cell or be read by none.
    """
    if not any(set_config.source == "fret" for set_config in stage.sets):
        raise ConfigError("ablate: finetune.sets holds no set with source 'fret'; the table is about its labels")
    if not stage.objective.contrastive_weight or not stage.objective.hard_negatives:
        raise ConfigError(
            "ablate: with objective.contrastive_weight or objective.hard_negatives 0 no positive, or no negative, is "
            "learnt from, and the cells do not differ; give both a value above 0"
        )
    trainer = stage.trainer
    if trainer.evaluate is None and (trainer.end_with == "best" or trainer.patience is not None):
        raise ConfigError(
            "ablate: the cells set nothing apart to judge checkpoints by; trainer.end_with: best and trainer.patience "
            "need trainer.evaluate"
        )
    for number, set_config in enumerate(stage.sets):
        if set_config.source != "fret":
            continue
        if set_config.blocks is not None:
            raise ConfigError(f"ablate: finetune.sets.{number}.blocks: a block has no labels to compare; leave it out")
        own = set_config.objective.model_fields_set & _OF_THE_CELLS if set_config.objective is not None else ()
        for name in sorted(own):
            raise ConfigError(
                f"ablate: finetune.sets.{number}.objective.{name} would hold in every cell, which differ by it; set it "
                "in finetune.objective"
            )


def kl_weight(stage: StageConfig) -> float:
    """The weight of the lists in the cell that has them: the recipe's, else 1."""
    return stage.objective.kl.weight or 1.0


def stage_for(stage: StageConfig, cell: Cell) -> StageConfig:
    """The recipe's fine-tuning with the labels of one cell, on the queries of all cells: those with a known answer."""
    labels: dict[str, Any] = {"positive": cell.positive, "negative": cell.negative}
    if cell.kl:
        labels["unanswered"] = False
    sets = [
        set_config.model_copy(update={"options": {**set_config.options, **labels}})
        if set_config.source == "fret"
        else set_config
        for set_config in stage.sets
    ]
    kl = stage.objective.kl.model_copy(update={"weight": kl_weight(stage) if cell.kl else 0.0})
    objective = stage.objective.model_copy(update={"kl": kl})
    return stage.model_copy(update={"sets": sets, "objective": objective})


def equal_cells(scores: Mapping[Cell, Sequence[np.ndarray]]) -> list[str]:
    """A line for each cell that has the scores of an earlier one in every query: what tells them apart is not there.

    Args:
        scores: see ``summarise``.
    """
    lines = []
    cells = list(scores)
    for place, cell in enumerate(cells):
        same = next((one for one in cells[:place] if np.array_equal(scores[one], scores[cell])), None)
        if same is not None:
            lines.append(
                f"{cell.name} has the scores of {same.name} in every query: the rows have nothing to tell them apart "
                "by (no mined negatives, say), or training moved nothing\n"
            )
    return lines


def summarise(scores: Mapping[Cell, Sequence[np.ndarray]], weight: float = 1.0) -> list[dict[str, Any]]:
    """Mean over seeds and queries per cell, and its difference from the paper's, paired by seed and query.

    Args:
        scores: per cell and seed, nDCG@10 of every query.
        weight: of the lists in the cells that have them.
    """
    paper = np.stack(scores[PAPER])
    table = []
    for cell, runs in scores.items():
        values = np.stack(runs)  # (seeds, queries)
        low, high = interval(values - paper)
        table.append(
            {
                "positive": cell.positive,
                "negative": cell.negative,
                "kl": weight if cell.kl else 0.0,
                "ndcg_at_10": float(values.mean()),
                "spread_over_seeds": float(values.mean(1).std(ddof=1)) if len(runs) > 1 else None,
                "against_paper": [float((values - paper).mean()), low, high],
                "seeds": len(runs),
            }
        )
    return table


def interval(differences: np.ndarray, draws: int = 4_000, seed: int = 0) -> tuple[float, float]:  # (S, Q) ->
    """95% bootstrap interval of the mean, resampling seeds and queries: what other runs and other queries give."""
    generator = seeded(seed)
    seeds, queries = differences.shape
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds  # (draws, S)
    by_query = generator.multinomial(queries, np.full(queries, 1 / queries), draws) / queries  # (draws, Q)
    means = ((by_seed @ differences) * by_query).sum(1)
    centre = float(differences.mean())
    low, high = centre + interval_stretch(max(seeds, queries)) * (np.quantile(means, [0.025, 0.975]) - centre)
    return float(low), float(high)


def as_table(table: Sequence[Mapping[str, Any]]) -> Table:
    """The table for the screen."""
    shown = Table(title=f"Labelling (known-item nDCG@10, {table[0]['seeds']} seeds)", title_justify="left")
    for column in _COLUMNS:
        shown.add_column(column)
    for row in _rows(table):
        shown.add_row(*row)
    return shown


def as_markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table for a page."""
    head, *rows = ("| " + " | ".join(row) + " |" for row in (_COLUMNS, *_rows(table)))
    return "\n".join([head, "|" + "---|" * len(_COLUMNS), *rows, ""])


def _rows(table: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [
        [
            line["positive"],
            line["negative"],
            "yes" if line["kl"] else "no",
            f"{line['ndcg_at_10']:.4f}",
            f"{line['spread_over_seeds']:.4f}" if line["seeds"] > 1 else "-",
            "{:+.4f} ({:+.4f} to {:+.4f})".format(*line["against_paper"]),
        ]
        for line in table
    ]
