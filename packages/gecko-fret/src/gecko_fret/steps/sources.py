"""Queries that no LLM writes: titles and sentences of passages, and the user's own query log.

They cost nothing, and lists that a good judge has scored teach whatever the query is (GPL, Wang et al. 2022, arXiv
2112.07577, learns from nearly random ones). Best of all are the queries that users really typed, which need no answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gecko_core.prompts import DEFAULT_TASK
from gecko_core.randomness import generator
from gecko_fret.config import FretConfig, GenerateConfig
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.corpus.splitting import count_words
from gecko_fret.query_files import queries_fingerprint, read_queries
from gecko_fret.sentences import without_end
from gecko_fret.steps.base import BuildContext
from gecko_fret.steps.write import WRITE, seed_count
from gecko_fret.text_rules import LATEST, TextRules

SENTENCE_TASK = "sentence similarity"
#: Fewest words of a sentence: shorter ones seldom say what their passage is about.
_FEWEST_WORDS = 5
_CLAUSE = re.compile(r"[,;:()\[\]，；：、،؛（）]|\s[-–—]\s")
_ENDING = " .,;:!?…，；：、،؛"


@dataclass(frozen=True, slots=True)
class SourceText:
    """A text that may serve as a query; ``seed_id`` is the passage that it is from, None for a user's query."""

    id: str
    seed_id: str | None
    source: str
    task: str
    text: str


def as_shown(passage: Passage, source: str) -> Passage:
    """A passage as judges, the embedder and students see it beside a query of this source.

    Beside a title no passage shows its own, or the query would stand above its answer word for word.
    """
    return replace(passage, title=None) if source == "titles" and passage.title else passage


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts that are filtered together: a part of attempts (None: no attempts), and what other sources give."""

    attempts: int | None
    others: Callable[[], list[SourceText]]


def make_batches(build: BuildContext) -> list[Batch]:
    """All texts of a build in their order.

    The log comes first, so that of equal queries the user's own is kept. Titles and sentences come with the attempts
    at their passage, because scoring is cheap where neighbouring queries share candidates.
    """
    settings = build.config.generate
    if settings.sources == ["llm"]:
        return [Batch(number, list) for number in build.parts(WRITE).numbers()]
    batches = []
    if settings.log is not None:
        batches.append(Batch(None, lambda: log_texts(settings, build.config.seed)))
    numbers = range(WRITE.seed_parts(build))
    seeds = [list(WRITE.inputs(build, number)) for number in numbers]
    chosen = {source: choose_passages(build, source, [i for ids in seeds for i in ids]) for source in _READERS}
    for number, ids in zip(numbers, seeds, strict=True):
        written = number if "llm" in settings.sources else None
        batches.append(Batch(written, _reader(build, chosen, ids)))
    placed = {identifier for ids in seeds for identifier in ids}
    others = dict.fromkeys(i for ids in chosen.values() for i in ids if i not in placed)
    size, rest = settings.part_size, list(others)
    starts = range(0, len(rest), size)
    return batches + [Batch(None, _reader(build, chosen, rest[start : start + size])) for start in starts]


def source_count(config: FretConfig, passages: int) -> int:
    """Most queries that the sources besides the LLM give."""
    settings = config.generate
    counts = {source: min(_limit(config, source, passages), passages) for source in _READERS}
    if settings.log is not None:
        log = len(read_queries(settings.log))
        counts["log"] = min(log, settings.per_source.get("log", log))
    return sum(count for source, count in counts.items() if source in settings.sources)


def source_settings(config: FretConfig) -> list[Any]:
    """What decides the texts of the sources besides the LLM, for fingerprints: the log by its content."""
    settings = config.generate
    log = None if settings.log is None else [queries_fingerprint(settings.log), settings.user_task]
    return [sorted(settings.sources), settings.per_source, log, settings.seeds, settings.part_size, config.seed]


def choose_passages(build: BuildContext, source: str, seeds: Sequence[str]) -> list[str]:
    """Ids of the passages that a source takes its texts from: the seeds, then others in random order."""
    config, corpus = build.config, build.corpus
    if source not in config.generate.sources:
        return []
    most = _limit(config, source, len(corpus))
    titled = _titled(corpus, config.corpus.rules) if source == "titles" else None
    chosen = [identifier for identifier in seeds if titled is None or identifier in titled][:most]
    if len(chosen) < most and source in config.generate.per_source:
        ids, taken = corpus.ids, set(seeds)
        for row in generator(source, config.seed).permutation(len(ids)).tolist():
            if len(chosen) == most:
                break
            if ids[row] not in taken and (titled is None or ids[row] in titled):
                chosen.append(ids[row])
    return chosen


def _titled(corpus: Corpus, rules: TextRules) -> set[str]:
    """Ids of the passages whose title may serve as a query."""
    wanted = corpus.own_titles() if rules.own_titles else set(filter(None, corpus.titles))
    return {identifier for identifier, title in zip(corpus.ids, corpus.titles, strict=True) if title in wanted}


def log_texts(settings: GenerateConfig, seed: int) -> list[SourceText]:
    """The user's queries in the order of their file, or as many drawn ones as ``per_source`` allows."""
    queries = read_queries(settings.log or "")
    order = generator("log", seed).permutation(len(queries))[: settings.per_source.get("log", len(queries))]
    chosen = [queries[place] for place in sorted(order.tolist())]
    return [SourceText(f"log:{q.number}", None, "log", settings.user_task, q.text) for q in chosen]


def title_text(passage: Passage, settings: GenerateConfig, seed: int, rules: TextRules = LATEST) -> SourceText:
    """The title of a passage that has one."""
    return SourceText(
        f"{passage.id}/title", passage.id, "titles", DEFAULT_TASK, " ".join((passage.title or "").split())
    )


def sentence_text(passage: Passage, settings: GenerateConfig, seed: int, rules: TextRules = LATEST) -> SourceText:
    """A sentence of the passage, drawn from those of sensible length, without the punctuation at its end.

    Where no sentence has such a length, a part of one between commas and the like; else the longest sentence, for the
    filter to reject.
    """

    def fits(text: str) -> bool:
        return max(settings.min_words, _FEWEST_WORDS) <= count_words(text) <= settings.max_words

    sentences = rules.asked(" ".join(passage.text.split()))
    found = [text for text in sentences if fits(text)]
    found = found or [part.strip() for text in sentences for part in _CLAUSE.split(text) if fits(part)]
    if found:
        text = found[int(generator("sentence", seed, passage.id).integers(len(found)))]
    else:
        text = max(sentences, key=count_words, default="")
    return SourceText(
        f"{passage.id}/sentence", passage.id, "sentences", SENTENCE_TASK, without_end(text.rstrip(_ENDING))
    )


_READERS: dict[str, Callable[[Passage, GenerateConfig, int, TextRules], SourceText]] = {
    "titles": title_text,
    "sentences": sentence_text,
}


def _reader(build: BuildContext, chosen: dict[str, list[str]], ids: Sequence[str]) -> Callable[[], list[SourceText]]:
    """Reads the texts of these passages when they are asked for."""
    wanted = set(ids)
    taken = {source: wanted.intersection(passages) for source, passages in chosen.items()}
    return lambda: _texts(build.corpus, ids, taken, build.config)


def _texts(corpus: Corpus, ids: Sequence[str], taken: dict[str, set[str]], config: FretConfig) -> list[SourceText]:
    return [
        read(corpus.get(identifier), config.generate, config.seed, config.corpus.rules)
        for identifier in ids
        for source, read in _READERS.items()
        if identifier in taken[source]
    ]


def _limit(config: FretConfig, source: str, passages: int) -> int:
    """Most texts of a source."""
    return config.generate.per_source.get(source, seed_count(config, passages))  # type: ignore[call-overload]
