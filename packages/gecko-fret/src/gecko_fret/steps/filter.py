"""From raw completions to queries: strict parsing, and rejection with a name for every reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from gecko_core.text_identity import words_key
from gecko_fret.config import GenerateConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.corpus.splitting import count_words
from gecko_fret.prompting import PromptSet
from gecko_fret.steps.base import Row, StageResult, reject

QUERY_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("seed_id", pa.string()),
        ("attempt", pa.int32()),
        ("kind", pa.string()),
        ("task", pa.string()),
        ("query", pa.string()),
        ("generator", pa.string()),
        ("logprob", pa.float32()),
    ]
)

#: Reasons in the order in which they are looked for.
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


@dataclass(slots=True)
class Filter:
    """Attempts, in their order, to queries (`QUERY_SCHEMA`). Keeps what it has seen: run it over all attempts once."""

    corpus: Corpus
    prompts: PromptSet
    config: GenerateConfig
    seen: set[str] = field(default_factory=set)

    def __call__(self, rows: Sequence[Row]) -> StageResult:
        accepted: list[Row] = []
        rejects: list[Row] = []
        for row in rows:
            reason, detail, parsed = self._judge(row)
            if reason:
                rejects.append(reject("generate", reason, row["id"], row["text"], detail))
            else:
                accepted.append(parsed)
        if self.config.keep == "best":
            accepted, worse = best_per_seed(accepted)
            rejects += [reject("generate", "not_best", row["id"], row["query"]) for row in worse]
        return StageResult(accepted, rejects)

    def close(self) -> None:
        self.seen.clear()

    def _judge(self, row: Row) -> tuple[str, str, Row]:
        if not row["finished"]:
            return "unfinished", "", {}
        match = self.prompts.generate.pattern.fullmatch(row["text"])
        if match is None:
            return "unparsable", "", {}
        task, query = match["task"], match["query"].strip('"“” ')
        if self.prompts.generate.tasks == "closed":
            if words_key(task) != words_key(row["kind"]):
                return "task", task, {}
            task = row["kind"]
        elif not 1 <= count_words(task) <= 20:
            return "task", task, {}
        reason, detail = self._judge_query(query, prompt_passage=self._passage_of(row["seed_id"]))
        if reason:
            return reason, detail, {}
        kept = {name: row[name] for name in ("id", "seed_id", "attempt", "kind", "generator", "logprob")}
        return "", "", kept | {"task": task, "query": query}

    def _judge_query(self, query: str, prompt_passage: str) -> tuple[str, str]:
        config = self.config
        words = count_words(query)
        if not config.min_words <= words <= config.max_words:
            return "length", f"{words} words"
        if _REFUSAL.search(query):
            return "refusal", ""
        found = _REFERENCE.search(query)
        if found:
            return "passage_reference", found[0]
        key = words_key(query)
        if any(key == words_key(d.query) for d in self.prompts.demonstrations):
            return "demonstration", ""
        if looks_empty(query):
            return "placeholder", ""
        share = copied_share(query, prompt_passage)
        if share > config.max_copied:
            return "copied", f"{share:.2f}"
        if config.language:
            from gecko_fret.corpus.cleaning import looks_like

            if not looks_like(query, config.language):
                return "language", ""
        if key in self.seen:
            return "repeated", ""
        self.seen.add(key)
        return "", ""

    def _passage_of(self, seed_id: str) -> str:
        return self.corpus.get(seed_id).full_text


def copied_share(query: str, passage: str) -> float:
    """Length of the longest run of words that query and passage share, as a share of the query's words."""
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
    """Fewer than half of the characters are letters, or less than half of six and more words differ."""
    visible = [c for c in query if not c.isspace()]
    words = words_key(query).split()
    return sum(c.isalpha() for c in visible) * 2 < len(visible) or (
        len(words) >= 6 and len(set(words)) * 2 < len(words)
    )


def best_per_seed(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """(rows kept, rows left out): per seed the query of highest mean log-probability, the first of equals."""
    rows = list(rows)
    best: dict[str, Row] = {}
    for row in rows:
        if row["seed_id"] not in best or row["logprob"] > best[row["seed_id"]]["logprob"]:
            best[row["seed_id"]] = row
    kept = {row["id"] for row in best.values()}
    return [row for row in rows if row["id"] in kept], [row for row in rows if row["id"] not in kept]
