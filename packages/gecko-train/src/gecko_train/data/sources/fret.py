"""Source ``fret``: a folder that ``gecko-fret build`` wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from gecko_core.errors import ConfigError
from gecko_core.io import Section, find_data
from gecko_core.randomness import Stream, stream_generator
from gecko_fret import FretRow, load_fret
from gecko_fret.corpus import Passage
from gecko_train.config import SetConfig
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.sources.base import Source, SourceContext, parse_options


class FretOptions(Section):
    """Which passages of a FRet row become the training row; see :func:`fret_rows`."""

    positive: Literal["p_1", "seed"] = "p_1"
    negative: Literal["p_N", "random", "none"] = "p_N"
    list_documents: int | None = None  # default: what the objective reads


class Fret(Source):
    """The FRet folder at ``path``, or the run's."""

    needs_path = False
    run_input = "fret"
    not_streamed = "looks at all its rows at once"

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``; where the objective reads scores, rows carry further candidates with theirs."""
        folder = find_data(config.path) if config.path else context.fret
        if folder is None:
            raise ConfigError("sets: source 'fret' without a path; give the folder that `gecko-fret build` wrote")
        options = parse_options(FretOptions, config)
        listed = options.list_documents
        if listed is None:  # beside the chosen two
            listed = max(0, context.scored_documents - 2)
        return fret_rows(
            folder,
            config.task,
            context.seed,
            positive=options.positive,
            negative=options.negative,
            list_documents=listed,
        )


def fret_rows(
    folder: Path,
    task: str | None = None,
    seed: int = 0,
    *,
    positive: Literal["p_1", "seed"] = "p_1",
    negative: Literal["p_N", "random", "none"] = "p_N",
    list_documents: int = 0,
) -> Iterator[TrainingRow]:
    """Rows of a FRet folder; each keeps the task that the LLM wrote unless ``task`` is given.

    Args:
        folder: the folder.
        task: the task string of all rows.
        seed: of the random negatives.
        positive: "p_1" (chosen by the LLM, the paper's) or "seed" (the passage the query was written for).
        negative: "p_N" (mined, the paper's), "random" (another candidate) or "none".
        list_documents: this many further candidates follow the negatives, with the LLM's fused scores of all.

    Raises:
        ConfigError: another word for ``positive`` or ``negative``.
        DataError: the folder is not a FRet folder.
    """
    if positive not in ("p_1", "seed") or negative not in ("p_N", "random", "none"):
        raise ConfigError(
            f"fret options: positive {positive!r}, negative {negative!r}; p_1|seed and p_N|random|none are known"
        )
    data = load_fret(folder)
    generator = stream_generator(seed, Stream.FRET_NEGATIVES)
    for row in data:
        first = row.positive if positive == "p_1" else data.passage(row.seed_id)
        if negative == "p_N":
            chosen = [passage for passage in row.negatives if passage.id != first.id]
        elif negative == "random":
            others = [candidate.id for candidate in row.candidates if candidate.id != first.id]
            chosen = [data.passage(others[int(generator.integers(len(others)))])] if others else []
        else:
            chosen = []
        scores = None
        if list_documents:
            chosen, scores = _with_scores(row, first, chosen, data.passage, list_documents)
        yield TrainingRow(
            task or row.task,
            row.query,
            _document(first),
            tuple(_document(passage) for passage in chosen),
            scores=scores,
        )


def _with_scores(
    row: FretRow, first: Passage, chosen: list[Passage], passage: Callable[[str], Passage], count: int
) -> tuple[list[Passage], tuple[float, ...]]:
    """The negatives and ``count`` further candidates, spread evenly over the LLM's ranking, with all scores."""
    taken = {first.id, *(negative.id for negative in chosen)}
    others = (candidate for candidate in row.candidates if candidate.id not in taken)
    ranked = sorted(others, key=lambda candidate: -candidate.fused)
    picked = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int).tolist()
    documents = chosen + [passage(ranked[index].id) for index in dict.fromkeys(picked)]
    fused = {candidate.id: float(candidate.fused) for candidate in row.candidates}
    return documents, tuple(fused.get(document.id, float("nan")) for document in [first, *documents])


def _document(passage: Passage) -> Document:
    return Document(passage.text, passage.title)
