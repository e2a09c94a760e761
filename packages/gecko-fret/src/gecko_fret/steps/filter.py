"""From raw completions to queries: strict parsing, and a named reason for every rejection."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gecko_core.errors import DataError
from gecko_core.text_identity import words_key
from gecko_fret.config import FILTER_KEYS, GenerateConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.corpus.splitting import count_words
from gecko_fret.prompting import PromptSet, load_prompts
from gecko_fret.steps.base import BuildContext, Reject, StepResult, WholeStep
from gecko_fret.steps.plan import Plan
from gecko_fret.steps.write import WRITE, Attempt


@dataclass(frozen=True, slots=True)
class Query:
    """A query that passed the filter; the columns of the parts."""

    id: str
    seed_id: str
    attempt: int
    kind: str
    task: str
    query: str
    generator: str
    logprob: float


#: Reasons in the order in which they are checked.
REASONS = {
    "unfinished": "the completion reached max_new_tokens before its end",
    "unparsable": "not an answer of the form that the prompt's demonstrations have",
    "task": "the task is not the kind that was asked for, or is no short description",
    "length": "fewer words than generate.min_words, or more than generate.max_words",
    "refusal": "the LLM talks about itself instead of writing a query",
    "passage_reference": "the query speaks of 'the passage', which a searcher does not know",
    "demonstration": "the query repeats one of the prompt's demonstrations",
    "placeholder": "not a text: hardly any letters, or one word over and over",
    "copied": "nearly the whole query stands in the passage word for word",
    "language": "the query does not look like generate.language",
    "repeated": "an earlier query of this build is the same",
    "not_best": "another attempt at the same seed has the higher log-probability (generate.keep: best)",
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


@dataclass(slots=True)
class Filter:
    """Attempts to queries. It remembers what it has seen: pass it all attempts of a build once, in their order.

    Attributes:
        corpus: the passages.
        prompts: the prompts that the attempts were written with.
        config: section ``generate``.
        seen: keys of the accepted queries.
    """

    corpus: Corpus
    prompts: PromptSet
    config: GenerateConfig
    seen: set[str] = field(default_factory=set)

    def __call__(self, attempts: Sequence[Attempt]) -> StepResult[Query]:
        """Split attempts into queries and rejects."""
        accepted: list[Query] = []
        rejects: list[Reject] = []
        for attempt in attempts:
            outcome = self._judge(attempt)
            if isinstance(outcome, Query):
                accepted.append(outcome)
            else:
                rejects.append(FILTER.reject(outcome.reason, attempt.id, attempt.text, outcome.detail))
        if self.config.keep == "best":
            accepted, worse = best_per_seed(accepted)
            rejects += [FILTER.reject("not_best", query.id, query.query) for query in worse]
        return StepResult(accepted, rejects)

    def _judge(self, attempt: Attempt) -> Query | _Verdict:
        if not attempt.finished:
            return _Verdict("unfinished")
        match = self.prompts.generate.pattern.fullmatch(attempt.text)
        if match is None:
            return _Verdict("unparsable")
        task, query = match["task"], match["query"].strip('"“” ')
        if self.prompts.generate.tasks == "closed":
            if words_key(task) != words_key(attempt.kind):
                return _Verdict("task", task)
            task = attempt.kind
        elif not 1 <= count_words(task) <= 20:
            return _Verdict("task", task)
        return self._judge_query(query, attempt) or Query(
            id=attempt.id,
            seed_id=attempt.seed_id,
            attempt=attempt.attempt,
            kind=attempt.kind,
            task=task,
            query=query,
            generator=attempt.generator,
            logprob=attempt.logprob,
        )

    def _judge_query(self, query: str, attempt: Attempt) -> _Verdict | None:
        verdict = self._judge_words(query) or self._judge_copying(query, attempt)
        key = words_key(query)
        if verdict is None and key in self.seen:
            return _Verdict("repeated")
        if verdict is None:
            self.seen.add(key)
        return verdict

    def _judge_words(self, query: str) -> _Verdict | None:
        words = count_words(query)
        if not self.config.min_words <= words <= self.config.max_words:
            return _Verdict("length", f"{words} words")
        if _REFUSAL.search(query):
            return _Verdict("refusal")
        if reference := _REFERENCE.search(query):
            return _Verdict("passage_reference", reference[0])
        key = words_key(query)
        if any(key == words_key(demonstration.query) for demonstration in self.prompts.demonstrations):
            return _Verdict("demonstration")
        return _Verdict("placeholder") if looks_empty(query) else None

    def _judge_copying(self, query: str, attempt: Attempt) -> _Verdict | None:
        share = copied_share(query, self.corpus.get(attempt.seed_id).full_text)
        if share > self.config.max_copied:
            return _Verdict("copied", f"{share:.2f}")
        if self.config.language:
            from gecko_fret.corpus.cleaning import looks_like

            if not looks_like(query, self.config.language):
                return _Verdict("language")
        return None


class FilterStep(WholeStep[Query]):
    """All attempts in their order; the queries that remain are stored in parts of their own size."""

    name = "filter"
    folder = "generated"  # folders of version 0.1 call it so
    rejects_as = "generate"  # likewise: the rejected texts are what section ``generate`` asked for
    row = Query
    unit = "parts"
    counted_as = "queries"
    upstream = (WRITE,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The filter's settings, and the size of the parts."""
        return [build.config.generate.model_dump(include=FILTER_KEYS), build.config.retrieve.part_size]

    def estimate(self, plan: Plan) -> None:
        """See ``Step.estimate``."""
        accepted = plan.like.counts["queries"] / plan.like.counts["attempts"] if plan.like else 1.0
        plan.rows["queries"] = plan.rows["attempts"] * accepted

    def total(self, build: BuildContext) -> int:
        """Parts of attempts."""
        return len(build.parts(WRITE).numbers())

    def run(self, build: BuildContext, advance: Callable[[int], None]) -> None:
        """Filter all attempts. See ``WholeStep.run``."""
        judge = Filter(build.corpus, load_prompts(build.config.generate.prompt), build.config.generate)
        attempts, parts, rejects = build.parts(WRITE), build.parts(self), self.rejects(build.out)
        parts.clear()
        rejects.clear()
        size, waiting, written = build.config.retrieve.part_size, list[Query](), 0
        for number in attempts.numbers():
            result = judge(attempts.rows(number))
            rejects.write(number, result.rejects)
            waiting += result.rows
            while len(waiting) >= size:
                parts.write(written, waiting[:size])
                waiting, written = waiting[size:], written + 1
            advance(1)
        if waiting:
            parts.write(written, waiting)
        elif not written:
            self._raise_nothing_left(build)

    def _raise_nothing_left(self, build: BuildContext) -> None:
        counts = Counter(reject.reason for reject in self.rejects(build.out))
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))
        )
        raise DataError(
            f"{build.out}: none of the {counts.total()} attempts gave a query ({reasons}); "
            "look at rejects/, then try a larger llm.model or looser generate.* settings"
        )


FILTER = FilterStep()


def copied_share(query: str, passage: str) -> float:
    """Length of the longest run of words that query and passage have in common, relative to the query's length."""
    wanted, words = words_key(query).split(), words_key(passage).split()
    if not wanted:
        return 0.0
    best, previous = 0, [0] * (len(words) + 1)
    for token in wanted:  # longest common substring, over words
        current = [0] * (len(words) + 1)
        for place, word in enumerate(words):
            if word == token:
                current[place + 1] = previous[place] + 1
                best = max(best, current[place + 1])
        previous = current
    return best / len(wanted)


def looks_empty(query: str) -> bool:
    """Whether fewer than half of the characters are letters, or fewer than half of six or more words are distinct."""
    visible = [c for c in query if not c.isspace()]
    words = words_key(query).split()
    return sum(c.isalpha() for c in visible) * 2 < len(visible) or (
        len(words) >= 6 and len(set(words)) * 2 < len(words)
    )


def best_per_seed(queries: Sequence[Query]) -> tuple[list[Query], list[Query]]:
    """Split queries into those of the highest mean log-probability per seed, the first of equals, and the others."""
    best: dict[str, Query] = {}
    for query in queries:
        if query.seed_id not in best or query.logprob > best[query.seed_id].logprob:
            best[query.seed_id] = query
    kept = {query.id for query in best.values()}
    return [query for query in queries if query.id in kept], [query for query in queries if query.id not in kept]
