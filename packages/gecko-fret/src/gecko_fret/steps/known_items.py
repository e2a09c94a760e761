"""Queries whose answer is known without labels: what the judges are measured on.

Titles name their passage, and sentences were cut out of theirs; no LLM wrote them. Written queries know their seed, but
the LLM that wrote them judges them too kindly.

Items are taken whose answer the embedder finds among its candidates, as it is shown, without title or sentence: in a
build no judge sees what was not retrieved. An answer that is put among candidates which are there because they are more
similar to the query would make the similarity look worse than chance, and what counts words look better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gecko_core.randomness import generator
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.corpus.splitting import count_words
from gecko_fret.prompting import load_prompts
from gecko_fret.sentences import without_end
from gecko_fret.steps.base import BuildContext
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.first_pass import build_embedder
from gecko_fret.steps.retrieve import RETRIEVE, Retrieved
from gecko_fret.steps.sources import as_shown
from gecko_fret.text_rules import LATEST, TextRules

TITLES, SENTENCES, SEEDS = "titles", "sentences", "seeds"

#: The kinds that judges are fitted on.
FITTED = (TITLES, SENTENCES)

#: Lines that are tried for every item that is wanted.
_TRIED = 3
#: Weights are fitted on so many at least, half of them titles, even where the embedder finds none of their passages.
FEWEST_ITEMS = 8

_SENTENCE_WORDS = (5, 40)
_REST_WORDS = 10
_RUN_WORDS = 12  # a passage of a single sentence gives a run of a quarter of its words if it has as many as this


@dataclass(frozen=True, slots=True)
class KnownItem:
    """A query whose answer is known. ``passages`` are what judges read of its candidates."""

    id: str
    kind: str
    task: str
    query: str
    answer_id: str
    passages: list[Passage]
    similarities: list[float]


def plan_items(build: BuildContext) -> list[Callable[[], KnownItem]]:
    """The known items of a build, each made when it is needed: titles and sentences, half each, then written queries.

    Where the corpus has too few titles, sentences make up for them.
    """
    config = build.config
    task = load_prompts(config.generate.prompt).kinds[0]
    wanted, half = config.measure.items, config.measure.items // 2
    titled = _found(build, TITLES, task, titles(build.corpus, _TRIED * half, config.seed), half, FEWEST_ITEMS // 2)
    rest = wanted - len(titled)
    fewest = max(FEWEST_ITEMS - len(titled), FEWEST_ITEMS // 2)
    cut = _found(
        build, SENTENCES, task, sentences(build.corpus, _TRIED * rest, config.seed, config.corpus.rules), rest, fewest
    )
    plans: list[Callable[[], KnownItem]] = [_later(_line_item, build, task, line) for line in (*titled, *cut)]
    plans += [_later(_seed_item, build, query, retrieved) for query, retrieved in _written(build)]
    return plans


def titles(corpus: Corpus, count: int, seed: int) -> list[tuple[str, Passage]]:
    """Titles that name one passage, and the passages without them, at most ``count`` of each."""
    # A pair whose passage has kept its title is one of a first sentence.
    pairs = [(title, passage) for title, passage in corpus.pairs() if corpus.get(passage.id).title != passage.title]
    order = generator("known titles", seed).permutation(len(pairs))[:count]
    return [pairs[place] for place in order.tolist()]


def sentences(corpus: Corpus, count: int, seed: int, rules: TextRules = LATEST) -> list[tuple[str, Passage]]:
    """A sentence of a passage, and the passage without it, at most ``count`` of each."""
    found: list[tuple[str, Passage]] = []
    for row in generator("known sentences", seed).permutation(len(corpus)).tolist():
        if len(found) >= count:
            break
        cut = cut_sentence(corpus[row], generator("known sentence", seed, corpus[row].id), rules)
        if cut is not None:
            found.append(cut)
    return found


def cut_sentence(passage: Passage, draws: np.random.Generator, rules: TextRules = LATEST) -> tuple[str, Passage] | None:
    """A sentence of a passage drawn at random, and the passage without it.

    A passage of a single sentence gives a run of its words.

    Returns:
        None where too little would be left of the passage.
    """
    parts = rules.asked(passage.text)
    low, high = _SENTENCE_WORDS
    places = [
        place
        for place, part in enumerate(parts)
        if low <= count_words(part) <= high and count_words(passage.text) - count_words(part) >= _REST_WORDS
    ]
    if len(parts) > 1 and places:
        place = places[int(draws.integers(len(places)))]
        return without_end(parts[place]), replace(passage, text=" ".join(parts[:place] + parts[place + 1 :]))
    words = passage.text.split()
    if len(words) < _RUN_WORDS:
        return None
    length = len(words) // 4
    start = int(draws.integers(len(words) - length + 1))
    rest = words[:start] + words[start + length :]
    return " ".join(words[start : start + length]), replace(passage, text=" ".join(rest))


def _later(make: Callable[..., KnownItem], *arguments: object) -> Callable[[], KnownItem]:
    return lambda: make(*arguments)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a passage, the passage without it, and the ids of its candidates, the passage's among them."""

    kind: str
    text: str
    passage: Passage
    ids: list[str]


def _found(
    build: BuildContext, kind: str, task: str, lines: Sequence[tuple[str, Passage]], wanted: int, fewest: int
) -> list[_Line]:
    """The first of these lines whose passage is among the nearest; those that miss it by least where all too few are.

    Args:
        build: the build.
        kind: of the lines.
        task: of the queries.
        lines: a line, and the passage without it.
        wanted: how many.
        fewest: how many, at least, where there are so many lines.
    """
    if not lines:
        return []
    embedder, ids = build_embedder(build), build.corpus.ids
    count = min(build.config.measure.candidates, len(ids))
    queries = embedder.encode_queries([line for line, _ in lines], task=task)
    answers = embedder.encode_documents([p.text for _, p in lines], [p.title for _, p in lines])
    rows, values = RETRIEVE.index(build).search(queries, min(count + 1, len(ids)))
    found: list[_Line] = []
    missed: list[tuple[float, _Line]] = []
    for place, (line, passage) in enumerate(lines):
        others = [(ids[row], value) for row, value in zip(rows[place], values[place], strict=True)]
        others = [(name, value) for name, value in others if name != passage.id][: count - 1]
        item = _Line(kind, line, passage, [*(name for name, _ in others), passage.id])
        gap = float(min((value for _, value in others), default=-1.0) - answers[place] @ queries[place])
        if gap <= 0:
            found.append(item)
        else:
            missed.append((gap, item))
    few = [item for _, item in sorted(missed, key=lambda pair: pair[0])]
    return (found + few[: max(0, min(wanted, fewest) - len(found))])[:wanted]


def _line_item(build: BuildContext, task: str, line: _Line) -> KnownItem:
    """A line of a passage and its neighbours. With a title as the query no candidate shows its title."""
    passage = line.passage
    shown = [passage if identifier == passage.id else build.corpus.get(identifier) for identifier in line.ids]
    if line.kind == TITLES:
        shown = [as_shown(candidate, TITLES) for candidate in shown]
    similarities = _cosines(build, task, line.text, shown)
    return KnownItem(f"{line.kind}/{passage.id}", line.kind, task, line.text, passage.id, shown, similarities)


def _seed_item(build: BuildContext, query: Query, retrieved: Retrieved) -> KnownItem:
    """A written query and its neighbours."""
    assert query.seed_id is not None  # an LLM wrote it
    ids = retrieved.candidate_ids[: build.config.measure.candidates]
    shown = [build.corpus.get(identifier) for identifier in ids]
    similarities = _cosines(build, query.task, query.query, shown)
    return KnownItem(f"{SEEDS}/{query.id}", SEEDS, query.kind, query.query, query.seed_id, shown, similarities)


def _written(build: BuildContext) -> list[tuple[Query, Retrieved]]:
    """Written queries that find their seed, from many parts and far apart within each.

    Neighbouring queries are from neighbouring passages, of which a few would speak for all.
    """
    wanted, candidates = build.config.measure.seeds, build.config.measure.candidates
    numbers = build.parts(FILTER).numbers()
    found: list[tuple[Query, Retrieved]] = []
    for place, index in enumerate(generator("known seeds", build.config.seed).permutation(len(numbers)).tolist()):
        if len(found) >= wanted:
            break
        number = numbers[index]
        retrieved = {row.query_id: row for row in build.parts(RETRIEVE).rows(number)}
        rows = [
            query
            for query in build.parts(FILTER).rows(number)
            if query.source == "llm" and query.seed_id in retrieved[query.id].candidate_ids[:candidates]
        ]
        share = math.ceil((wanted - len(found)) / (len(numbers) - place))
        places = np.linspace(0, len(rows) - 1, min(share, len(rows))).round().astype(int).tolist()
        found += [(rows[row], retrieved[rows[row].id]) for row in places]
    return found


def _cosines(build: BuildContext, task: str, query: str, passages: Sequence[Passage]) -> list[float]:
    """Similarities to passages as they are shown, which need not be those of the index."""
    embedder = build_embedder(build)
    vectors = embedder.encode_documents([p.text for p in passages], [p.title for p in passages])
    return (vectors @ embedder.encode_queries([query], task=task)[0]).tolist()
