"""gecko-train: recipes from corpus to model. Only typer is imported here; the rest when a command runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from gecko_train.config import Recipe

app = typer.Typer(
    help="Distil an LLM into an embedding model. Without a command: run the quickstart recipe.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe value: a.b=c. Repeatable.")
]
Corpus = Annotated[str | None, typer.Option(help="Folder of .txt/.md, or .jsonl, .csv, .parquet with `text`.")]
Out = Annotated[Path | None, typer.Option(help="Output folder; without it: runs/NAME-OF-THE-RECIPE.")]
Llm = Annotated[str | None, typer.Option(help="LLM of FRet: folder, packaged model or hub id.")]
Student = Annotated[str | None, typer.Option(help="Start model: folder, packaged model or hub id.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Seed passages that the LLM writes queries for.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed of everything.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Smallest possible budget: shows that every stage runs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]

# The smallest run that still goes through every stage.
_TINY = (
    "corpus.max_passages=240", "evaluation.queries=30", "evaluation.max_documents=120",
    "prefinetune.trainer.max_steps=3", "prefinetune.trainer.batch_size=16",
    "fret.generate.seeds=6", "fret.generate.attempts=1", "fret.retrieve.candidates=4",
    "fret.retrieve.seed_top_k=null", "finetune.trainer.max_steps=2",
)  # fmt: skip


@app.callback(invoke_without_command=True)
def main_command(
    context: typer.Context, corpus: Corpus = None, out: Out = None, llm: Llm = None, student: Student = None,
    seeds: Seeds = None, seed: Seed = None, set_: Set = None, tiny: Tiny = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Distil an LLM into an embedding model. Without a command: run the quickstart recipe."""
    if context.invoked_subcommand is None:
        _run(None, corpus, out, llm, student, seeds, seed, set_, tiny, debug)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a packaged recipe.")],
    corpus: Corpus = None, out: Out = None, llm: Llm = None, student: Student = None,
    seeds: Seeds = None, seed: Seed = None, set_: Set = None, tiny: Tiny = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Run a recipe: corpus, pre-finetuning, FRet, fine-tuning, evaluation after each. Goes on where it was stopped."""
    _run(recipe, corpus, out, llm, student, seeds, seed, set_, tiny, debug)


@app.command()
def prefinetune(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a packaged recipe.")],
    corpus: Corpus = None, out: Out = None, student: Student = None, seed: Seed = None, set_: Set = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Only the recipe's pre-finetuning: its student on its sets, saved to OUT/model."""
    _one_stage("prefinetune", recipe, corpus, out, student, seed, set_, debug)


@app.command()
def finetune(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a packaged recipe.")],
    corpus: Corpus = None, out: Out = None, student: Student = None, seed: Seed = None, set_: Set = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Only the recipe's fine-tuning: its student on its sets (give a FRet set its path), saved to OUT/model."""
    _one_stage("finetune", recipe, corpus, out, student, seed, set_, debug)


@app.command()
def ablate(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a packaged recipe.")],
    runs: Annotated[int, typer.Option(min=1, help="Training runs per cell, each with its own seed.")] = 3,
    corpus: Corpus = None, out: Out = None, llm: Llm = None, student: Student = None,
    seeds: Seeds = None, seed: Seed = None, set_: Set = None, tiny: Tiny = False, debug: Debug = False,
) -> None:  # fmt: skip
    """The paper's labelling table on your data: seed or p_1 as positive x none, random or p_N as negative, and KL."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        resolved = _resolve(recipe, corpus, out, llm, student, seeds, seed, set_, tiny)
        from gecko_train.run.ablate import default_output, run_ablation

        run_ablation(resolved.model_copy(update={"output": str(default_output(resolved))}), runs)


@app.command()
def soup(
    models: Annotated[list[Path], typer.Argument(help="Model folders of one architecture, at least two.")],
    out: Annotated[Path, typer.Option(help="Folder for the averaged model.")],
    weight: Annotated[list[float] | None, typer.Option(help="Share of each model, in order; default: equal.")] = None,
    debug: Debug = False,
) -> None:
    """Average the weights of several runs of one start model (model soup)."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_train.run.soup import soup as average

        average(models, out, weight)
        typer.echo(f"model: {out}")


def _run(
    recipe: str | None, corpus: str | None, out: Path | None, llm: str | None, student: str | None,
    seeds: int | None, seed: int | None, overrides: list[str] | None, tiny: bool, debug: bool,
) -> None:  # fmt: skip
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        resolved = _resolve(recipe or "quickstart", corpus, out, llm, student, seeds, seed, overrides, tiny)
        from gecko_train.run.journey import run_recipe

        run_recipe(resolved)


def _resolve(
    recipe: str, corpus: str | None, out: Path | None, llm: str | None, student: str | None,
    seeds: int | None, seed: int | None, overrides: list[str] | None, tiny: bool,
) -> "Recipe":  # fmt: skip
    """The recipe with the flags applied; --set comes last and wins."""
    from gecko_train.config import find_recipe, load_recipe

    given = _values(corpus, out, student, seed) + list(_TINY if tiny else ())
    given += [f"fret.llm.model={_quoted(llm)}"] if llm else []
    given += [f"fret.generate.seeds={seeds}"] if seeds else []
    return load_recipe(find_recipe(recipe), [*given, *(overrides or [])])


def _one_stage(
    stage: Literal["prefinetune", "finetune"],
    recipe: str, corpus: str | None, out: Path | None, student: str | None, seed: int | None,
    overrides: list[str] | None, debug: bool,
) -> None:  # fmt: skip
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_train.config import find_recipe, load_recipe

        resolved = load_recipe(find_recipe(recipe), [*_values(corpus, out, student, seed), *(overrides or [])])
        from gecko_train.run.single import run_single

        run_single(resolved, stage)


def _values(corpus: str | None, out: Path | None, student: str | None, seed: int | None) -> list[str]:
    values = []
    if corpus is not None:
        values.append(f"corpus.path={_quoted(corpus)}")
    if out is not None:
        values.append(f"output={_quoted(str(out))}")
    if student is not None:
        values.append(f"student.model={_quoted(student)}")
    if seed is not None:
        values += [f"seed={seed}", f"fret.seed={seed}"]
    return values


def _quoted(text: str) -> str:
    """As a YAML string, whatever it holds (a folder called ``2024`` is no number)."""
    return "'" + text.replace("'", "''") + "'"


def main() -> None:
    """Entry point of the ``gecko-train`` command."""
    _choose_waiting()
    app()


def _choose_waiting() -> None:
    """How long threads spin while they wait for each other; read by OpenMP when torch is imported, so set before.

    Spinning takes the cores from whatever else runs. On two cores that one other process shared, training was 2.4 times
    faster without any (PASSIVE); on quiet ones 1.2 times faster with 10,000 rounds (docs/log.md).
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        return
    busy = not hasattr(os, "getloadavg") or os.getloadavg()[0] > 0.25 * (os.cpu_count() or 1)
    name, value = ("OMP_WAIT_POLICY", "PASSIVE") if busy else ("GOMP_SPINCOUNT", "10000")
    os.environ[name] = value
