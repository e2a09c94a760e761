"""gecko-train: recipes from corpus to model. Only typer is imported here; the rest when a command runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gecko_core.command import run_typer

if TYPE_CHECKING:
    from gecko_train.config import Recipe

app = typer.Typer(
    help="Distil an LLM into an embedding model. Without a command: run the quickstart recipe.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a packaged recipe.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe value: a.b=c. Repeatable.")
]
Corpus = Annotated[str | None, typer.Option(help="Folder of .txt/.md/.html; .jsonl, .csv, .tsv, .parquet with `text`.")]
Out = Annotated[Path | None, typer.Option(help="Output folder; without it: runs/NAME-OF-THE-RECIPE.")]
Llm = Annotated[str | None, typer.Option(help="LLM of FRet: folder, packaged model or hub id.")]
Student = Annotated[str | None, typer.Option(help="Start model: folder, packaged model or hub id.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Seed passages that the LLM writes queries for.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed of everything.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Smallest possible budget: shows that every stage runs.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, show what would run and what it costs, then exit.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]

# The smallest run that still goes through every stage.
_TINY = (
    "corpus.max_passages=240", "evaluation.queries=30", "evaluation.max_documents=120",
    "prefinetune.trainer.max_steps=3", "prefinetune.trainer.batch_size=16",
    "fret.generate.seeds=6", "fret.generate.attempts=1", "fret.retrieve.candidates=4",
    "fret.measure.items=24", "fret.measure.seeds=2", "fret.measure.candidates=4", "finetune.trainer.max_steps=2",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the flags of a command say about its recipe; None leaves the recipe's value.

    Attributes:
        overrides: ``--set``; they win over the recipe and ``tiny``, and a flag of its own wins over them.
    """

    corpus: str | None = None
    out: Path | None = None
    llm: str | None = None
    student: str | None = None
    seeds: int | None = None
    seed: int | None = None
    overrides: Sequence[str] | None = None
    tiny: bool = False

    def recipe(self, name: str) -> Recipe:
        """The recipe with the flags applied.

        Args:
            name: a recipe file, or the name of a packaged recipe.

        Raises:
            ConfigError: there is no such recipe, or a key or value in it is wrong.
        """
        from gecko_core.io import Override
        from gecko_train.config import find_recipe, load_recipe

        values: dict[str, tuple[str, str | Path | int | None]] = {
            "corpus.path": ("--corpus", self.corpus),
            "output": ("--out", self.out),
            "student.model": ("--student", self.student),
            "seed": ("--seed", self.seed),
            "fret.llm.model": ("--llm", self.llm),
            "fret.generate.seeds": ("--seeds", self.seeds),
        }
        tiny = [Override(setting, f"--tiny ({setting})") for setting in (_TINY if self.tiny else ())]
        first = [*tiny, *_settings({"fret.seed": ("--seed", self.seed)})]
        settings = [*first, *(self.overrides or ()), *_settings(values)]
        return load_recipe(find_recipe(name), settings)


def _settings(values: Mapping[str, tuple[str, str | Path | int | None]]) -> list[str]:
    """Options that were given, as settings; a message names the option.

    Args:
        values: option and value by setting.
    """
    from gecko_core.io import Override

    return [Override.of(key, option, value) for key, (option, value) in values.items() if value is not None]


@app.callback(invoke_without_command=True)
def main_command(
    context: typer.Context, corpus: Corpus = None, out: Out = None, llm: Llm = None, student: Student = None,
    seeds: Seeds = None, seed: Seed = None, set_: Set = None, tiny: Tiny = False, dry_run: DryRun = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Distil an LLM into an embedding model. Without a command: run the quickstart recipe."""
    if context.invoked_subcommand is None:
        options = Options(
            corpus=corpus, out=out, llm=llm, student=student, seeds=seeds, seed=seed, overrides=set_, tiny=tiny
        )
        _run("quickstart", options, dry_run, debug)


@app.command()
def run(
    recipe: RecipeName,
    corpus: Corpus = None, out: Out = None, llm: Llm = None, student: Student = None,
    seeds: Seeds = None, seed: Seed = None, set_: Set = None, tiny: Tiny = False, dry_run: DryRun = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Run a recipe: corpus, pre-finetuning, FRet, fine-tuning, evaluation after each. Goes on where it was stopped."""
    options = Options(
        corpus=corpus, out=out, llm=llm, student=student, seeds=seeds, seed=seed, overrides=set_, tiny=tiny
    )
    _run(recipe, options, dry_run, debug)


@app.command()
def prefinetune(
    recipe: RecipeName, corpus: Corpus = None, out: Out = None, student: Student = None, seed: Seed = None,
    set_: Set = None, dry_run: DryRun = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Only the recipe's pre-finetuning: its student on its sets, saved to OUT/model."""
    options = Options(corpus=corpus, out=out, student=student, seed=seed, overrides=set_)
    _run_stage("prefinetune", recipe, options, dry_run, debug)


@app.command()
def finetune(
    recipe: RecipeName, corpus: Corpus = None, out: Out = None, student: Student = None, seed: Seed = None,
    set_: Set = None, dry_run: DryRun = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Only the recipe's fine-tuning: its student on its sets (give a FRet set its path), saved to OUT/model."""
    options = Options(corpus=corpus, out=out, student=student, seed=seed, overrides=set_)
    _run_stage("finetune", recipe, options, dry_run, debug)


@app.command()
def mntp(
    recipe: RecipeName, corpus: Corpus = None, out: Out = None, student: Student = None, seed: Seed = None,
    set_: Set = None, dry_run: DryRun = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Only masked next-token prediction (LLM2Vec): the recipe's student, a language model, on its corpus."""
    from gecko_core.errors import exit_on_error

    options = Options(corpus=corpus, out=out, student=student, seed=seed, overrides=set_)
    with exit_on_error(debug):
        resolved = options.recipe(recipe)
        if dry_run:
            from gecko_train.run.plan import plan_mntp

            plan_mntp(resolved)
            return
        from gecko_train.run.journey import run_mntp

        run_mntp(resolved)


@app.command()
def ablate(
    recipe: RecipeName,
    runs: Annotated[int, typer.Option(min=1, help="Training runs per cell, each with its own seed.")] = 3,
    corpus: Corpus = None, out: Out = None, llm: Llm = None, student: Student = None,
    seeds: Seeds = None, seed: Seed = None, set_: Set = None, tiny: Tiny = False, debug: Debug = False,
) -> None:  # fmt: skip
    """The paper's labelling table on your data: seed or p_1 as positive x none, random or p_N as negative, and KL."""
    from gecko_core.errors import exit_on_error

    options = Options(
        corpus=corpus, out=out, llm=llm, student=student, seeds=seeds, seed=seed, overrides=set_, tiny=tiny
    )
    with exit_on_error(debug):
        resolved = options.recipe(recipe)
        from gecko_train.run.ablate import run_ablation

        run_ablation(resolved, runs)


class Mixing(StrEnum):
    """How weights are mixed."""

    linear = "linear"
    slerp = "slerp"


@app.command()
def soup(
    models: Annotated[list[Path], typer.Argument(help="Model folders of one architecture, at least two.")],
    out: Annotated[Path, typer.Option(help="Folder for the averaged model.")],
    weight: Annotated[list[float] | None, typer.Option(help="Share of each model, in order; default: equal.")] = None,
    method: Annotated[Mixing, typer.Option(help="slerp: two models, tensor by tensor on the sphere.")] = Mixing.linear,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in the folder.")] = False,
    debug: Debug = False,
) -> None:
    """Average the weights of several runs of one start model (model soup)."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_train.run.soup import soup as average

        average(models, out, weight, "slerp" if method is Mixing.slerp else "linear", overwrite=overwrite)
        typer.echo(f"model: {out}")


def _run(recipe: str, options: Options, dry_run: bool, debug: bool) -> None:
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        resolved = options.recipe(recipe)
        if dry_run:
            from gecko_train.run.plan import plan_recipe

            plan_recipe(resolved)
            return
        from gecko_train.run.journey import run_recipe

        with _told_how_to_go_on(resolved.folder):
            run_recipe(resolved)


def _run_stage(
    stage: Literal["prefinetune", "finetune"], recipe: str, options: Options, dry_run: bool, debug: bool
) -> None:
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        resolved = options.recipe(recipe)
        if dry_run:
            from gecko_train.run.plan import plan_stage

            plan_stage(resolved, stage)
            return
        from gecko_train.run.journey import run_stage

        with _told_how_to_go_on(resolved.folder):
            run_stage(resolved, stage)


@contextmanager
def _told_how_to_go_on(output: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; what is done is in {output}. The same command goes on from there."
        ) from None


def main() -> None:
    """Entry point of the ``gecko-train`` command."""
    run_typer(app, "gecko-train")
