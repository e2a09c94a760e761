"""From raw completions and other sources to queries: strict reading, and a named reason for every rejection."""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from gecko_core.errors import ConfigError, DataError
from gecko_core.text_words import search_terms
from gecko_fret.answers import Unreadable, read_answer
from gecko_fret.config import FILTER_KEYS, FretConfig, GenerateConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.corpus.splitting import count_words
from gecko_fret.prompting import PromptSet, load_prompts
from gecko_fret.query_files import read_queries
from gecko_fret.steps.asking import task_is_given
from gecko_fret.steps.base import BuildContext, Reject, StepResult, WholeStep
from gecko_fret.steps.parts import Layout, layout_of
from gecko_fret.steps.plan import Plan
from gecko_fret.steps.sources import Batch, SourceText, make_batches, source_count, source_settings
from gecko_fret.steps.write import WRITE, Attempt
from gecko_fret.text_rules import LATEST, TextRules
from gecko_fret.text_runs import longest_common_run


@dataclass(frozen=True, slots=True)
class Query:
    """A query that passed the filter; the columns of the parts.

    ``seed_id`` is the passage that it was taken or written from; None for a user's own. ``source`` is one of
    ``generate.sources``; parts have it where there are others than the LLM.
    """

    id: str
    seed_id: str | None
    attempt: int
    kind: str
    task: str
    query: str
    generator: str
    logprob: float
    source: str = "llm"


#: Reasons in the order in which they are checked.
REASONS = {
    "unfinished": "the completion reached max_new_tokens before its end",
    "special_token": "the answer holds a special token of a language model, such as <|im_start|>",
    "unparsable": "not an answer of the form that the prompt's demonstrations have",
    "task": "the task is not the kind that was asked for, or is no short description",
    "length": "fewer words than generate.min_words, or more than generate.max_words",
    "refusal": "the LLM talks about itself instead of writing a query",
    "passage_reference": "the query speaks of 'the passage', which a searcher does not know",
    "demonstration": "the query repeats one of the demonstrations, in the same words or nearly so",
    "placeholder": "not a text: hardly any letters, or one word over and over",
    "copied": "nearly the whole query stands in the passage word for word",
    "ungrounded": "the passage makes the query hardly likelier: less than generate.min_grounding",
    "language": "the query does not look like generate.language",
    "repeated": "an earlier query of this build is the same",
    "not_best": "another attempt at the same seed has the higher value of what generate.keep asks for",
}

_REFERENCE = re.compile(
    r"\b(?:(?:the|this|that|above|given|following|provided) (?:passage|text|paragraph|document|article|excerpt|context)"
    r"|according to (?:the|this) (?:author|writer|passage|text)|in (?:the|this) passage)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:as an ai|as a language model|i(?:'m| am) (?:sorry|unable|not able)|i (?:cannot|can't|can not) "
    r"|i don't (?:know|have)|no query (?:can|could))\b",
    re.IGNORECASE,
)


class _Verdict(NamedTuple):
    reason: str
    detail: str = ""


#: Share of words in common, in their order, from which on a query is a copy of a demonstration.
_NEAR = 0.75


@dataclass(slots=True)
class Filter:
    """Attempts and other texts to queries. It remembers what it has seen: pass it everything of a build once, in order.

    Attributes:
        corpus: the passages.
        prompts: the prompts that the attempts were written with.
        config: section ``generate``.
        examples: the user's own queries that were shown instead of the prompts' demonstrations.
        rules: what equal texts and words are.
        seen: keys of the accepted queries.
    """

    corpus: Corpus
    prompts: PromptSet
    config: GenerateConfig
    examples: Sequence[str] = ()
    rules: TextRules = LATEST
    seen: set[str] = field(default_factory=set)
    _shown: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        shown = self.examples or [demonstration.query for demonstration in self.prompts.demonstrations]
        self._shown = [self.rules.words(text) for text in shown]

    def __call__(self, attempts: Sequence[Attempt]) -> StepResult[Query]:
        """Split attempts into queries and rejects."""
        verdicts = {attempt.id: self._judge(attempt) for attempt in attempts}
        queries = [outcome for outcome in verdicts.values() if isinstance(outcome, Query)]
        if self.config.keep != "all":
            queries = best_first(queries, {attempt.id: self._value(attempt) for attempt in attempts})
        # One that another seed's query repeats must be one that is kept.
        kept: set[str | None] = set()
        for query in queries:
            if self.config.keep != "all" and query.seed_id in kept:
                verdicts[query.id] = _Verdict("not_best")
            elif verdict := self._judge_repeated(query.query):
                verdicts[query.id] = verdict
            else:
                kept.add(query.seed_id)
        outcomes = [(attempt, verdicts[attempt.id]) for attempt in attempts]
        return StepResult(
            [outcome for _, outcome in outcomes if isinstance(outcome, Query)],
            [
                FILTER.reject(outcome.reason, attempt.id, attempt.text, outcome.detail)
                for attempt, outcome in outcomes
                if not isinstance(outcome, Query)
            ],
        )

    def others(self, texts: Sequence[SourceText]) -> StepResult[Query]:
        """Split texts that no LLM wrote into queries and rejects.

        They are taken word for word, so that copying is no fault. A user's own query may be as short as one word:
        somebody did search for it.
        """
        accepted: list[Query] = []
        rejects: list[Reject] = []
        for text in texts:
            least = 1 if text.seed_id is None else self.config.min_words
            verdict = (
                self._judge_length(text.text, least)
                or (_Verdict("placeholder") if looks_empty(text.text, self.rules) else None)
                or self._judge_language(text.text)
                or self._judge_repeated(text.text)
            )
            if verdict is not None:
                rejects.append(FILTER.reject(verdict.reason, text.id, text.text, verdict.detail))
                continue
            accepted.append(
                Query(
                    id=text.id,
                    seed_id=text.seed_id,
                    attempt=0,
                    kind=text.task,
                    task=text.task,
                    query=text.text,
                    generator=text.source,
                    logprob=math.nan,
                    source=text.source,
                )
            )
        return StepResult(accepted, rejects)

    def _value(self, attempt: Attempt) -> float:
        if self.config.keep == "best":
            return attempt.logprob
        return -math.inf if attempt.grounding is None else attempt.grounding

    @property
    def _given(self) -> bool:
        return task_is_given(self.prompts, self.config)

    def _judge(self, attempt: Attempt) -> Query | _Verdict:
        answer = read_answer(attempt.text, attempt.finished, attempt.kind, self.prompts, given=self._given)
        if isinstance(answer, Unreadable):
            return _Verdict(*answer)
        return self._judge_query(answer.query, attempt) or Query(
            id=attempt.id,
            seed_id=attempt.seed_id,
            attempt=attempt.attempt,
            kind=attempt.kind,
            task=answer.task,
            query=answer.query,
            generator=attempt.generator,
            logprob=attempt.logprob,
        )

    def _judge_query(self, query: str, attempt: Attempt) -> _Verdict | None:
        return (
            self._judge_length(query, self.config.min_words)
            or self._judge_words(query)
            or self._judge_origin(query, attempt)
            or self._judge_language(query)
        )

    def _judge_length(self, query: str, least: int) -> _Verdict | None:
        words = count_words(query)
        return None if least <= words <= self.config.max_words else _Verdict("length", f"{words} words")

    def _judge_words(self, query: str) -> _Verdict | None:
        # Users, too, write "I can't ..." and "I don't have ...", in the middle of what they look for.
        if _REFUSAL.match(query) if self._given else _REFUSAL.search(query):
            return _Verdict("refusal")
        if reference := _REFERENCE.search(query):
            return _Verdict("passage_reference", reference[0])
        if self._is_demonstration(query):
            return _Verdict("demonstration")
        return _Verdict("placeholder") if looks_empty(query, self.rules) else None

    def _is_demonstration(self, query: str) -> bool:
        words = self.rules.words(query)
        return words in self._shown or (self._given and any(is_near(words, shown) for shown in self._shown))

    def _judge_origin(self, query: str, attempt: Attempt) -> _Verdict | None:
        share = copied_share(query, self.corpus.get(attempt.seed_id).full_text, self.rules)
        if share > self.config.max_copied:
            return _Verdict("copied", f"{share:.2f}")
        least = self.config.min_grounding
        if least is not None and attempt.grounding is not None and attempt.grounding < least:
            return _Verdict("ungrounded", f"{attempt.grounding:.2f}")
        return None

    def _judge_language(self, query: str) -> _Verdict | None:
        if self.config.language:
            from gecko_fret.corpus.cleaning import looks_like

            if not looks_like(query, self.config.language):
                return _Verdict("language")
        return None

    def _judge_repeated(self, query: str) -> _Verdict | None:
        key = self.rules.key(query)
        if key in self.seen:
            return _Verdict("repeated")
        self.seen.add(key)
        return None


class FilterStep(WholeStep[Query]):
    """All attempts in their order; the queries that remain are stored in parts of their own size."""

    name = "filter"
    section = "generate"
    folder = "generated"  # folders of version 0.1 call it so
    rejects_as = "generate"  # likewise: the rejected texts are what section ``generate`` asked for
    row = Query
    unit = "parts"
    counted_as = "queries"
    upstream = (WRITE,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The filter's settings, the size of the parts, and the sources besides the LLM."""
        settings = build.config.generate
        filtering = settings.model_dump(include=FILTER_KEYS)
        if settings.min_grounding is None:
            del filtering["min_grounding"]  # version 0.1 had no such setting
        others = [source_settings(build.config)] if settings.sources != ["llm"] else []
        return [filtering, build.config.retrieve.part_size, *others]

    def check(self, config: FretConfig) -> None:
        """See ``Step.check``: a log that cannot be read, a first pass without seeds, a language that cannot be told."""
        from gecko_fret.corpus.cleaning import check_language

        check_language("generate.language", config.generate.language)
        if config.generate.log is not None:
            read_queries(config.generate.log)
        if config.retrieve.first_pass and config.generate.sources == ["log"]:
            raise ConfigError("retrieve.first_pass: queries of a log have no seed to train on; add another source")

    def layout(self, config: FretConfig) -> Layout[Query]:
        """The columns of ``Query``; ``source`` where there are others than the LLM."""
        layout = layout_of(Query)
        if config.generate.sources != ["llm"]:
            return layout
        return dataclasses.replace(layout, schema=layout.schema.remove(layout.schema.get_field_index("source")))

    def estimate(self, plan: Plan) -> None:
        """See ``Step.estimate``."""
        like, accepted = plan.like, 1.0
        if like and like.counts["attempts"]:
            accepted = min(1.0, like.counts["queries"] / like.counts["attempts"])
        plan.rows["queries"] = plan.rows["attempts"] * accepted + source_count(plan.config, plan.passages)

    def total(self, build: BuildContext) -> int:
        """Batches of texts, such as a part of attempts."""
        return len(self._batches(build))

    def run(self, build: BuildContext, advance: Callable[[int], None]) -> None:
        """Filter all texts. See ``WholeStep.run``."""
        settings = build.config.generate
        examples = [query.text for query in read_queries(settings.examples)] if settings.examples else []
        judge = Filter(build.corpus, load_prompts(settings.prompt), settings, examples, build.config.corpus.rules)
        attempts, parts, rejects = build.parts(WRITE), build.parts(self), self.rejects(build.out)
        parts.clear()
        rejects.clear()
        size, waiting, written = build.config.retrieve.part_size, list[Query](), 0
        for number, batch in enumerate(self._batches(build)):
            # A seed's queries of all kinds stay together: scoring is cheap where queries share their candidates.
            result = judge(attempts.rows(batch.attempts)) if batch.attempts is not None else StepResult[Query]([])
            others = judge.others(batch.others())
            rejects.write(number, result.rejects + others.rejects)
            waiting += result.rows + others.rows
            while len(waiting) >= size:
                parts.write(written, waiting[:size])
                waiting, written = waiting[size:], written + 1
            advance(1)
        if waiting:
            parts.write(written, waiting)
        elif not written:
            self._raise_nothing_left(build)

    def _batches(self, build: BuildContext) -> list[Batch]:
        return build.keep("batches of texts", lambda: make_batches(build))

    def _raise_nothing_left(self, build: BuildContext) -> None:
        counts = Counter(reject.reason for reject in self.rejects(build.out))
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))
        )
        sources = build.config.generate.sources
        texts = "attempts" if sources == ["llm"] else "texts"
        other = "a larger llm.model" if "llm" in sources else "other sources"
        raise DataError(
            f"{build.out}: none of the {counts.total()} {texts} gave a query ({reasons}); "
            f"look at rejects/, then try {other} or looser generate.* settings"
        )


FILTER = FilterStep()


def copied_share(query: str, passage: str, rules: TextRules = LATEST) -> float:
    """Length of the longest run of words that query and passage have in common, relative to the query's length."""
    wanted, words = rules.words(query), rules.words(passage)
    if not wanted:
        return 0.0
    return longest_common_run(wanted, words) / len(wanted)


def looks_empty(query: str, rules: TextRules = LATEST) -> bool:
    """Whether fewer than half of the characters are letters, or fewer than half of six or more words are distinct.

    Vowel signs and other marks count as letters; in scripts without spaces pairs of characters stand for words.
    """
    visible = [c for c in query if not c.isspace()]
    first = rules.version == 1
    letters = sum(c.isalpha() if first else unicodedata.category(c)[0] in "LM" for c in visible)
    words = rules.words(query) if first else search_terms(query)
    return letters * 2 < len(visible) or (len(words) >= 6 and len(set(words)) * 2 < len(words))


def is_near(words: Sequence[str], shown: Sequence[str]) -> bool:
    """Whether two texts have three quarters of their words in common, in the same order (Ratcliff and Obershelp)."""
    return SequenceMatcher(None, words, shown, autojunk=False).ratio() >= _NEAR


def best_first(queries: Sequence[Query], values: Mapping[str, float]) -> list[Query]:
    """Order the queries of every seed by their value, the highest first, equal ones and seeds as they came.

    Args:
        queries: the queries.
        values: what is compared, by query id; NaN is below all others.
    """
    seeds = {seed: place for place, seed in enumerate(dict.fromkeys(query.seed_id for query in queries))}
    ranks = {name: math.inf if math.isnan(value) else -value for name, value in values.items()}
    return sorted(queries, key=lambda query: (seeds[query.seed_id], ranks[query.id]))
