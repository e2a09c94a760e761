"""`gecko-fret enrich`: a corpus, queries or other texts, enriched by an LLM before they are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import find_data, read_table, table_kind
from gecko_fret.build.command import INTERRUPTED, StopFlag, announce, ctrl_c
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret, read_corpus
from gecko_fret.config import FretConfig, load_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.query_files import read_queries
from gecko_fret.steps import ENRICH


@dataclass(frozen=True, slots=True)
class EnrichOptions:
    """The command line's options."""

    config: Path | None
    out: Path
    overrides: list[str]
    prompt: str | None = None
    queries: str | None = None
    columns: list[str] | None = None
    force: bool = False


def run_enrich(options: EnrichOptions) -> int:
    """Enrich the texts, and print what came out.

    Returns:
        The exit code.

    Raises:
        GeckoError: whatever the user can mend.
    """
    config = enriching_config(load_config(options.config, options.overrides), options.prompt)
    Workspace(options.out).check_usable()
    corpus = texts_to_enrich(config, options.queries, options.columns)
    flag = StopFlag()
    with ctrl_c(flag):
        build_fret(
            config,
            options.out,
            corpus=corpus,
            progress=True,
            stop=flag,
            force=options.force,
            announce=announce,
            until=ENRICH,
        )
    workspace = Workspace(options.out)
    manifest: dict[str, Any] = workspace.read_manifest() or {}
    if not manifest.get("stages", {}).get(ENRICH.name, {}).get("done"):
        print(f"stopped; everything so far is in {options.out}. The same command goes on from there.")
        return INTERRUPTED
    print(summary(workspace, len(corpus)))
    return 0


def summary(workspace: Workspace, texts: int) -> str:
    """What was enriched, and why the other texts stay as they are."""
    rejects = workspace.reject_counts().get(ENRICH.name, {})
    lost = ", ".join(f"{reason} {count}" for reason, count in rejects.items())
    tokens = workspace.token_counts()[ENRICH.name]
    read, written = (tokens.get(name, 0) for name in ("prompt_tokens", "generated_tokens"))
    enriched = workspace.counts()["enriched"]
    return "\n".join(
        [
            f"{enriched} of {texts} texts enriched; the others stay as they are: {lost or 'none'}",
            f"{read} tokens read, {written} written",
            f"texts   {workspace.out / ENRICH.folder}",
            f"use     gecko-eval run --enriched {workspace.out}, gecko-embed --enriched {workspace.out}",
        ]
    )


def enriching_config(config: FretConfig, prompt: str | None = None) -> FretConfig:
    """The configuration of a folder that ends with its enriched texts.

    Nothing is measured or judged in it, so that it asks for no judge that a server cannot be, nor for known items.

    Args:
        config: as it was given.
        prompt: of the option; else that of the configuration.

    Raises:
        ConfigError: no prompt is named.
    """
    values = config.model_dump()
    values["enrich"]["prompt"] = prompt or config.enrich.prompt or "enrich-context"
    values["mine"]["fuse"] = "rrf"
    values["score"] |= {"judges": ["similarity"], "mode": "separate"}
    values["retrieve"]["seed_top_k"] = None
    values["generators"] = []
    values["generate"] |= {"contrast": 0.0, "keep": "all", "min_grounding": None}
    return FretConfig.model_validate(values)


def texts_to_enrich(config: FretConfig, queries: str | None, columns: Sequence[str] | None) -> Corpus:
    """The passages of the corpus; or queries; or the distinct texts of some columns of a table.

    Args:
        config: names the corpus, or the table.
        queries: a file of queries, see ``read_queries``.
        columns: of the table.

    Raises:
        ConfigError: options that do not go together.
        DataError: what cannot be read; one line that names file and row.
    """
    path = config.corpus.path
    if queries is not None:
        if path is not None or columns:
            raise ConfigError("--queries does not go with --corpus or --columns; enrich them apart")
        return _distinct((query.text for query in read_queries(queries)), queries, config.corpus.limit)
    if not columns:
        return read_corpus(config.corpus)
    if path is None or table_kind(path) is None:
        raise ConfigError("--columns needs --corpus with a table: .jsonl, .csv, .tsv (each also .gz) or .parquet")
    return _distinct(_cells(find_data(path), columns), path, config.corpus.limit)


def _cells(path: Path, columns: Sequence[str]) -> Iterator[str]:
    for record in read_table(path, need=columns, only=columns):
        yield from (record.text(column) for column in columns)


def _distinct(texts: Iterable[str], name: str, limit: int | None) -> Corpus:
    """Distinct texts as passages without titles, numbered in their order."""
    kept = list(dict.fromkeys(text for text in texts if text.strip()))[:limit]
    if not kept:
        raise DataError(f"{name}: holds no text; there is nothing to enrich")
    return Corpus((Passage(str(number), None, text) for number, text in enumerate(kept)), name=Path(name).name)
