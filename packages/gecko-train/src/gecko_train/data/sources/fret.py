"""Source ``fret``: a folder that ``gecko-fret build`` wrote."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import Section, find_data
from gecko_core.randomness import Stream, stream_generator
from gecko_fret import FretConfig, FretData, FretRow, load_fret
from gecko_fret.corpus import Passage
from gecko_train.config import SetConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.scores import Targets, likely_answers
from gecko_train.data.sources.base import Source, SourceContext, parse_options
from gecko_train.loss.base import MOST_DOCUMENTS
from gecko_train.loss.objective import ObjectiveConfig

_ALL = 2**31  # more candidates than a row has


class FretOptions(Section):
    """Which passages of a FRet row become the training row; see :class:`FretLists`."""

    positive: Literal["p_1", "seed"] = "p_1"
    negative: Literal["p_N", "random", "none"] = "p_N"
    list_documents: int | None = Field(default=None, ge=0, le=MOST_DOCUMENTS)  # default: what the objective reads
    list_best: int | None = Field(default=None, ge=0)  # default: half of them, none with fused scores
    sources: list[str] | None = Field(default=None, min_length=1)  # default: rows of every source
    unanswered: bool = True  # rows without a known answer, where the objective learns from them


class Fret(Source):
    """The FRet folder at ``path``, or the run's."""

    options = FretOptions
    needs_path = False
    has_scores = True
    run_input = "fret"
    not_streamed = "looks at all its rows at once"

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``; where the objective reads scores, rows carry further candidates with theirs."""
        options = parse_options(FretOptions, config)
        listed = options.list_documents
        if listed is None:  # beside the chosen two
            listed = max(0, context.scored_documents - 2)
        return iter(FretLists(_folder(config, context), options, config.task, context, listed))

    def blocks(self, config: SetConfig, context: SourceContext, name: str) -> BlockSet:
        """See ``Source``; rows carry all their candidates."""
        options = parse_options(FretOptions, config)
        assert config.blocks is not None
        lists = FretLists(_folder(config, context), options, config.task, context, None)
        return BlockSet(
            name, itertools.islice(context.left(lists), config.limit), config.blocks, seed=context.seed,
            hard_negatives=context.hard_negatives, share=context.false_negative_share, log_scores=lists.logarithms,
        )  # fmt: skip


def check_fret_set(config: SetConfig, objective: ObjectiveConfig, fret: FretConfig) -> None:
    """Check what a set asks of the FRet data at its path, or of those that the run itself will build.

    Args:
        config: a set of source ``fret``.
        objective: the stage's, with what the set overrides.
        fret: the run's configuration of its build.

    Raises:
        ConfigError: the data have no such rows or scores, or the build will not have them.
        DataError: the folder at the path is no FRet folder, is not finished, or is damaged.
    """
    if config.path:
        Fret().rows(config, SourceContext().reading(objective, config.blocks is not None))
        return
    sources = parse_options(FretOptions, config).sources or []
    missing = [name for name in sources if name not in fret.generate.sources]
    if missing:
        raise ConfigError(
            f"sets: options of source 'fret': sources: this run's FRet will have no row of {', '.join(missing)}; it "
            f"has {', '.join(fret.generate.sources)} (fret.generate.sources)"
        )
    score, _ = objective.targets(config.blocks is not None)
    known = [*dict.fromkeys(["fused", "probability", "similarity", *fret.score.all_judges])]
    if score is not None and score not in known:
        raise ConfigError(
            f"objective: this run's FRet will have no score {score!r}; it has {', '.join(known)} (fret.score.judges)"
        )


def _folder(config: SetConfig, context: SourceContext) -> Path:
    folder = find_data(config.path) if config.path else context.fret
    if folder is None:
        raise ConfigError("sets: source 'fret' without a path; give the folder that `gecko-fret build` wrote")
    return folder


class FretLists:
    """The training rows of a FRet folder.

    Each keeps the task that the LLM wrote unless ``task`` is given. Its documents are the positive and the negatives
    that the options name; then, where scores are read, further candidates: the best ones and some spread evenly over
    the rest of the ranking, with the teacher's logits of all. A row without a known answer consists of such candidates
    and is left out where nothing learns from it.

    Args:
        folder: the folder.
        options: "p_1" (chosen by the judges, the paper's) or "seed" (the passage the query was written for) as the
            positive; "p_N" (mined, the paper's), "random" (another candidate) or "none" as the negative.
        task: the task string of all rows.
        context: what the objective reads; the seed of the random negatives.
        listed: how many further candidates follow; 0: no scores are read; None: all candidates.

    Raises:
        ConfigError: the objective reads a score that the rows do not have, or no row is of the sources asked for.
        DataError: the folder is not a FRet folder; while iterating: nothing in it can be learnt from.
    """

    def __init__(
        self, folder: Path, options: FretOptions, task: str | None, context: SourceContext, listed: int | None
    ):
        self._folder = folder
        self._data: FretData = load_fret(folder)
        # In blocks most passages are candidates of many rows.
        self._passage = functools.cache(self._data.passage) if listed is None else self._data.passage
        self._options, self._task, self._context = options, task, context
        self._listed = _ALL if listed is None else listed
        self._places = _of_sources(self._data, folder, options.sources)
        self._targets = None
        if listed is None or listed or context.false_negative_share is not None:
            self._targets = Targets.choose(self._data, context.score, context.teacher_temperature)

    @property
    def logarithms(self) -> bool:
        """Whether scores are logarithms of probabilities."""
        return self._targets is not None and self._targets.logarithms

    def __iter__(self) -> Iterator[TrainingRow]:
        generator = stream_generator(self._context.seed, Stream.FRET_NEGATIVES)
        empty = True
        for place in self._places:
            row = self._data[place]
            if row.positive is None and not (self._context.unanswered and self._options.unanswered):
                continue
            empty = False
            yield self._unanswered(row) if row.positive is None else self._answered(row, generator)
        if empty:
            raise DataError(self._nothing())

    def _nothing(self) -> str:
        """Why there is nothing to learn from, and the cure."""
        if not self._places:
            return (
                f"{self._folder}: this FRet folder has no rows; its report says why queries were rejected: build "
                "with more seeds (generate.seeds) or another LLM"
            )
        return (
            f"{self._folder}: the judges found an answer for none of its {len(self._places)} rows; learn from lists "
            "(objective.kl), build with more seeds (generate.seeds), or lower mine.min_probability"
        )

    def _answered(self, row: FretRow, generator: np.random.Generator) -> TrainingRow:
        data, options = self._data, self._options
        assert row.positive is not None
        first = row.positive
        if options.positive == "seed" and row.seed_id is not None:
            first = data.passage(row.seed_id, row.source)
        chosen: list[Passage] = []
        if options.negative == "p_N":
            chosen = [passage for passage in row.negatives if passage.id != first.id]
        elif options.negative == "random":
            answers = {first.id, row.positive.id, row.seed_id}  # as of mined negatives, neither of them is one
            others = [candidate.id for candidate in row.candidates if candidate.id not in answers]
            chosen = [data.passage(others[int(generator.integers(len(others)))], row.source)] if others else []
        if self._targets is None:
            return self._row(row, first, chosen, None)
        logits = self._logits(row, self._targets)
        further = self._further(row, logits, {first.id, *(passage.id for passage in chosen)}, self._listed)
        documents = self._in_places(first, chosen, further)
        if self._context.false_negative_share is not None:
            documents = self._without_likely_answers(row, first, documents, logits)
        return self._row(row, first, documents, logits if self._listed else None)

    def _unanswered(self, row: FretRow) -> TrainingRow:
        if self._targets is None:  # for a teacher model
            best = [self._data.passage(candidate.id, row.source) for candidate in row.candidates[:1]]
            return self._row(row, None, best, None)
        logits = self._logits(row, self._targets)
        return self._row(row, None, self._further(row, logits, set(), self._listed + 2), logits)

    def _logits(self, row: FretRow, targets: Targets) -> dict[str, float]:
        ids = [candidate.id for candidate in row.candidates]
        return dict(zip(ids, targets.logits(row.candidates).tolist(), strict=True))

    def _further(self, row: FretRow, logits: dict[str, float], taken: set[str], count: int) -> list[Passage]:
        """``count`` further candidates: the best ones, and others spread evenly over the rest of the ranking."""
        best = self._options.list_best
        if best is None:
            best = count // 2 if self.logarithms or self._context.score is not None else 0
        ids = [candidate.id for candidate in row.candidates if candidate.id not in taken]
        ranked = sorted(ids, key=lambda identifier: -np.nan_to_num(logits[identifier], nan=-np.inf))
        top, rest = ranked[: min(best, count)], ranked[min(best, count) :]
        picked = np.linspace(0, len(rest) - 1, min(count - len(top), len(rest))).round().astype(int).tolist()
        names = [*top, *(rest[place] for place in dict.fromkeys(picked))]
        return [self._passage(name, row.source) for name in names]

    def _in_places(self, first: Passage, hard: list[Passage], others: list[Passage]) -> list[Passage]:
        """Hard negatives, then the others, none of which takes the place of a hard negative that is missing.

        The positive does; by its id it is no negative of its query.
        """
        return [*hard, *[first] * (self._context.hard_negatives - len(hard)), *others] if others else hard

    def _without_likely_answers(
        self, row: FretRow, first: Passage, documents: list[Passage], logits: dict[str, float]
    ) -> list[Passage]:
        """The documents in an order in which no likely answer is in the place of a hard negative."""
        assert self._context.false_negative_share is not None
        above = likely_answers(np.array(list(logits.values())), self._context.false_negative_share, self.logarithms)
        likely = {name for name, is_above in zip(logits, above, strict=True) if is_above}
        wanted = self._context.hard_negatives
        documents = [passage for passage in documents if passage is not first]
        hard = [passage for passage in documents if passage.id not in likely][:wanted]
        if not self._listed:
            return hard
        return self._in_places(first, hard, [passage for passage in documents if passage not in hard])

    def _row(
        self, row: FretRow, first: Passage | None, others: list[Passage], logits: dict[str, float] | None
    ) -> TrainingRow:
        scores = None
        if logits is not None:
            judged = [float("nan") if other is first else logits.get(other.id, float("nan")) for other in others]
            scores = tuple(judged if first is None else [logits.get(first.id, float("nan")), *judged])
        documents = tuple(_document(passage) for passage in others)
        positive = None if first is None else _document(first)
        return TrainingRow(self._task or row.task, row.query, positive, documents, scores=scores)


def _of_sources(data: FretData, folder: Path, sources: list[str] | None) -> Sequence[int]:
    """Places of the rows whose queries are from one of ``sources``; None: of all rows."""
    if sources is None:
        return range(len(data))
    found = [row.source for row in data]
    missing = sorted(set(sources) - set(found))
    if missing:
        raise ConfigError(
            f"options of source 'fret': sources: {folder} has no row of {', '.join(missing)}; it has "
            f"{', '.join(sorted(set(found)))}"
        )
    return [place for place, source in enumerate(found) if source in sources]


def _document(passage: Passage) -> Document:
    return Document(passage.text, passage.title)
