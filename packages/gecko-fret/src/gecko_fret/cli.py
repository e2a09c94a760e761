"""The gecko-fret command. Everything slow to import is imported by the command that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gecko_core.command import run_typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="FRet: a corpus and an LLM in, retrieval training data out, every score kept.",
)

#: Settings that have an option of their own.
_OPTIONS = {
    "corpus.path": "--corpus",
    "corpus.limit": "--limit",
    "embedder.model": "--embedder",
    "generate.seeds": "--limit",
    "llm.model": "--llm",
}

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def build(
    config: Annotated[Path | None, typer.Argument(help="YAML file; without one: the defaults.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder; run again to resume.")] = Path("runs/fret"),
    corpus: Annotated[
        str | None, typer.Option(help="Folder, .jsonl/.csv/.tsv/.parquet file, hub:NAME, or python-docs.")
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Folder, packaged model or hub id of the LLM.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Folder, packaged model or hub id of the embedder.")] = None,
    limit: Annotated[int | None, typer.Option(help="Number of seed passages.", min=1)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: section.key=value.")] = None,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    workers: Annotated[int, typer.Option(help="Workers of the ray engine.", min=1)] = 2,
    force: Annotated[bool, typer.Option("--force", help="Delete the parts that changed settings invalidate.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost, then exit.")] = False,
    like: Annotated[
        Path | None,
        typer.Option(help="Finished build whose acceptance rates and throughput the estimate uses."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Build a data set, or resume one that was interrupted."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_fret.build.command import BuildOptions, run_build

        named: dict[str, Any] = {"corpus.path": corpus, "llm.model": llm, "embedder.model": embedder}
        named |= {"generate.seeds": limit}
        overrides = [*(set_ or []), *_settings(named)]
        code = run_build(BuildOptions(config, out, overrides, engine, workers, force, dry_run, like))
    if code:
        raise typer.Exit(code)


@app.command()
def judges(
    config: Annotated[Path | None, typer.Argument(help="YAML file of a build; without one: the defaults.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; run again to resume.")] = Path("runs/judges"),
    corpus: Annotated[
        str | None, typer.Option(help="Folder, .jsonl/.csv/.tsv/.parquet file, hub:NAME, or python-docs.")
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Folder, packaged model or hub id of the LLM.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Folder, packaged model or hub id of the embedder.")] = None,
    judges: Annotated[
        str | None, typer.Option(help="Names, separated by commas; default: all that cost no model.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Prompt file for scoring; several are compared.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: section.key=value.")] = None,
    debug: Debug = False,
) -> None:
    """Measure which judges are worth asking on a corpus, and what they add to the embedder, before a build."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_fret.build.judges import JudgesOptions, run_judges

        named: dict[str, Any] = {"corpus.path": corpus, "llm.model": llm, "embedder.model": embedder}
        overrides = [*(set_ or []), *_settings(named)]
        names = [] if judges is None else _names(judges, "--judges")
        code = run_judges(JudgesOptions(config, out, overrides, names, prompt or []))
    if code:
        raise typer.Exit(code)


@app.command()
def llms(
    config: Annotated[Path | None, typer.Argument(help="YAML file of a build; without one: the defaults.")] = None,
    llm: Annotated[str | None, typer.Option(help="Name of the model at the server.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: section.key=value.")] = None,
    debug: Debug = False,
) -> None:
    """Ask the servers of a configuration, by a few tiny requests, what they can do and which judges that allows."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_fret.build.served import run_llms
        from gecko_fret.config import load_config

        typer.echo(run_llms(load_config(config, [*(set_ or []), *_settings({"llm.model": llm})])))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A FRet folder.")],
    real: Annotated[
        Path | None,
        typer.Option(help="File of real queries, one a line: can the written ones be told from them, and by what?"),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Encode queries, for how near they are to each other (--real does).")
    ] = False,
    device: Annotated[str | None, typer.Option(help="Of the embedder: cpu, cuda, cuda:1, ...")] = None,
    debug: Debug = False,
) -> None:
    """Write report.md and report.html of a FRet folder."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_fret.build.folder import Workspace
        from gecko_fret.build.report import write_report

        for path in write_report(folder, real=real, embed=embed, device=device):
            typer.echo(path)
        if not (Workspace(folder).read_manifest() or {}).get("complete"):
            typer.echo("note: the build is not finished; the report shows what there is so far", err=True)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A finished FRet folder.")],
    to: Annotated[
        Path, typer.Option("--to", "-t", help="NAME.parquet, NAME.jsonl (flagembedding), folder (tevatron).")
    ],
    layout: Annotated[
        str, typer.Option("--layout", "-l", help="sentence-transformers, flagembedding or tevatron.")
    ] = "sentence-transformers",
    prompts: Annotated[bool, typer.Option(help="Put the gecko prompts into the texts.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    debug: Debug = False,
) -> None:
    """Write a FRet folder in the layout of another training library."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_fret.export import export_fret

        written = export_fret(folder, to, layout, prompts=prompts, overwrite=overwrite, say=typer.echo)
        typer.echo(f"{written} rows -> {to}")


@app.command()
def enrich(
    config: Annotated[Path | None, typer.Argument(help="YAML file of a build; without one: the defaults.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; run again to resume.")] = Path("runs/enriched"),
    corpus: Annotated[
        str | None, typer.Option(help="Folder, .jsonl/.csv/.tsv/.parquet file, hub:NAME, or python-docs.")
    ] = None,
    queries: Annotated[str | None, typer.Option(help="Queries, one a line or a table, instead of a corpus.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Distinct texts of these columns of --corpus, separated by commas.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="enrich-context (default), -acronyms, -grammar, -metadata, or a YAML file."),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Folder, packaged model or hub id of the LLM.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most texts.", min=1)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: section.key=value.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete the parts that changed settings invalidate.")] = False,
    debug: Debug = False,
) -> None:
    """Let the LLM rewrite texts before they are encoded: context, acronyms, grammar, or metadata beside them."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_fret.build.enrich import EnrichOptions, run_enrich

        named: dict[str, Any] = {"corpus.path": corpus, "llm.model": llm, "corpus.limit": limit}
        overrides = [*(set_ or []), *_settings(named)]
        names = None if columns is None else _names(columns, "--columns")
        code = run_enrich(EnrichOptions(config, out, overrides, prompt, queries, names, force))
    if code:
        raise typer.Exit(code)


@app.command()
def vectors(
    folder: Annotated[Path, typer.Argument(help="A finished FRet folder.")],
    out: Annotated[Path, typer.Argument(help="The .parquet file to write: document_id, chunk_id, embedding.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Folder, packaged model or hub id; default: the build's embedder."),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="fitted, published, title=0.5,queries=1, or a file whose weights are taken.")
    ] = "fitted",
    queries: Annotated[
        str, typer.Option(help="answered (those that judges rejected are left out), all, relabelled or none.")
    ] = "answered",
    task: Annotated[str, typer.Option(help="Task string of your users' queries.")] = "search result",
    dim: Annotated[int | None, typer.Option(help="Matryoshka dim.", min=1)] = None,
    missing: Annotated[str, typer.Option(help="What stands in for a field: chunks, or zero as published.")] = "chunks",
    normalize: Annotated[bool, typer.Option("--normalize", help="Unit length, for indexes of cosines.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Every passage is a document, also NAME#NUMBER.")] = False,
    items: Annotated[int, typer.Option(help="Sentences that weights are fitted on.", min=0)] = 200,
    seed: Annotated[int, typer.Option(help="Of drawing the sentences.", min=0)] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps embeddings for further files.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    debug: Debug = False,
) -> None:
    """Write document-level vectors: each chunk's, plus its document's title and written queries, for any index."""
    from gecko_core.errors import exit_on_error

    with exit_on_error(debug):
        from gecko_fret.vectors import VectorsOptions, write_vectors

        named: dict[str, Any] = {"queries": queries, "missing": missing}
        options = VectorsOptions(
            model=model,
            weights=weights,
            task=task,
            dim=dim,
            normalize=normalize,
            whole=whole,
            items=items,
            seed=seed,
            cache=cache,
            device=device,
            overwrite=overwrite,
            **named,
        )
        write_vectors(folder, out, options, progress=True, say=typer.echo)


def main() -> None:
    """Entry point of the console script."""
    run_typer(app, "gecko-fret")


if __name__ == "__main__":
    main()


def _names(text: str, option: str) -> list[str]:
    """Names that commas separate.

    Raises:
        ConfigError: one is empty, or there twice.
    """
    from gecko_core.errors import ConfigError

    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"{option} {text!r}: name each once, with commas between them; leave it out for the default")
    return names


def _settings(named: dict[str, Any]) -> list[str]:
    """Options that were given, as settings; a message names the option."""
    from gecko_core.io import Override

    return [Override.of(key, _OPTIONS[key], value) for key, value in named.items() if value is not None]
