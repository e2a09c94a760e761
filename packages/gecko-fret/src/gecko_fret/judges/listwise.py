"""Listwise: the LLM orders a window of passages, which slides over the list from its end to its head (RankGPT).

For servers that write but give no log-probabilities (Sun et al. 2023). An answer of any kind gives an order: numbers
that are repeated or not in the window are dropped, passages that are not named follow in the retriever's order.

LLMs favour places in the list. With ``score.listwise.debias`` they order it twice, the second time from a shuffled
start, and the mean of both ranks counts (permutation self-consistency, Tang et al. 2023, with two permutations).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gecko_core.randomness import generator, seed_of
from gecko_fret.config import FretConfig, ListwiseConfig, ScoreConfig
from gecko_fret.judges.base import Batch, Judge, JudgeSetup
from gecko_fret.llm.protocol import Dialogue, JsonForm, Sampling, WriteRequest
from gecko_fret.models import Models
from gecko_fret.prompting import PromptBlock, fill, load_prompt, one_line, prompt_text

_TOKENS_PER_PASSAGE = 8  # "[12] > " is six tokens at most where every digit is one


class OrderedPassages(PromptBlock):
    """A query, passages, and the passages' numbers, from 1, best first."""

    query: str
    passages: list[str] = Field(min_length=2)
    order: list[int]

    @model_validator(mode="after")
    def _names_every_passage(self) -> OrderedPassages:
        if sorted(self.order) != list(range(1, len(self.passages) + 1)):
            raise ValueError(f"order: {self.order} does not name each of {len(self.passages)} passages once")
        return self


class WrittenOrder(BaseModel):
    """Numbers of passages, best first, as servers that take a JSON schema answer."""

    model_config = ConfigDict(extra="forbid")

    order: list[int]


class ListwiseBlock(PromptBlock):
    """How an order is asked for."""

    instruction: str
    passage: str = "[{number}] {passage}\n"
    template: str = "Query: {query}\n{passages}Order:"
    answer: str = " {order}"
    number: str = "[{number}]"
    between: str = " > "
    stop: list[str] = Field(default=["\n"], min_length=1)
    demonstrations: list[OrderedPassages] = Field(default_factory=list)

    @model_validator(mode="after")
    def _templates_have_their_marks(self) -> ListwiseBlock:
        for key, names in (
            ("passage", ("number", "passage")),
            ("template", ("query", "passages")),
            ("answer", ("order",)),
            ("number", ("number",)),
        ):
            for name in names:
                if f"{{{name}}}" not in getattr(self, key):
                    raise ValueError(f"{key} does not mention {{{name}}}")
        return self

    def request(self, query: str, passages: Sequence[str], seed: int) -> WriteRequest:
        """A request that the LLM completes with an order."""
        orders = tuple(WrittenOrder(order=d.order) for d in self.demonstrations)
        shown = [
            (self._body(d.query, d.passages), self._as_answer(order))
            for d, order in zip(self.demonstrations, orders, strict=True)
        ]
        form = JsonForm(WrittenOrder, orders, self._as_answer)
        dialogue = Dialogue(one_line(self.instruction), tuple(shown), self._body(query, passages), form)
        texts = (dialogue.instruction, *(asked + answer for asked, answer in shown))
        return WriteRequest("".join(f"{text}\n\n" for text in texts if text), dialogue.asked, seed, dialogue=dialogue)

    def _as_answer(self, written: WrittenOrder) -> str:
        numbers = (fill(self.number, number=str(n)) for n in written.order)
        return fill(self.answer, order=self.between.join(numbers))

    def _body(self, query: str, passages: Sequence[str]) -> str:
        listed = [fill(self.passage, number=str(n), passage=text) for n, text in enumerate(passages, start=1)]
        return fill(self.template, query=query, passages="".join(listed), count=str(len(passages)))


@dataclass(slots=True)
class _List:
    """The candidates of one query: places in the batch, in their order so far, and their ranks by the retriever."""

    query_id: str
    query: str
    places: list[int]
    retrieved: dict[int, int] = field(default_factory=dict)

    def ranks(self) -> dict[int, int]:
        """Rank from 1 of every place."""
        return {place: rank for rank, place in enumerate(self.places, start=1)}


class Listwise(Judge):
    """Less the rank in the order that the LLM gives to all candidates of a query: -1 for the first.

    The window starts at the end of the retriever's order and moves to its head by ``step``. The temperature is 0, and
    every request has a seed of its own. Counted are the answers that had to be repaired (``listwise_repaired``), the
    passages that they did not name (``listwise_missing``) and the numbers that were dropped (``listwise_dropped``).
    """

    name = "listwise"
    uses_llm = True

    def __init__(self, setup: JudgeSetup):
        super().__init__(setup)
        self._config, self._seed = setup.config.score.listwise, setup.config.seed
        self._block = _block(setup.config)

    def judge(self, batch: Batch) -> Sequence[float]:
        """Less the rank of every pair among those of its query."""
        passages = _cut(batch, [prompt_text(pair.passage) for pair in batch.pairs], self._config.passage_tokens)
        queries = _cut(batch, [one_line(pair.query) for pair in batch.pairs], batch.config.query_tokens)
        lists: dict[str, _List] = {}
        for place, (pair, query) in enumerate(zip(batch.pairs, queries, strict=True)):
            lists.setdefault(pair.query_id, _List(pair.query_id, query, [])).places.append(place)
        for found in lists.values():
            found.places.sort(key=lambda place: (-batch.pairs[place].similarity, batch.pairs[place].passage.id))
            found.retrieved = found.ranks()
        again = [self._shuffled(found) for found in lists.values()] if self._config.debias else []
        self._slide(batch, list(lists.values()), passages)
        self._slide(batch, again, passages, "shuffled")
        for found, other in zip(lists.values(), again, strict=False):
            first, second = found.ranks(), other.ranks()
            found.places.sort(key=lambda place: (first[place] + second[place], found.retrieved[place]))
        values = [0.0] * len(batch.pairs)
        for found in lists.values():
            for rank, place in enumerate(found.places, start=1):
                values[place] = -float(rank)
        return values

    def _shuffled(self, found: _List) -> _List:
        """The same list in random order."""
        order = generator("listwise shuffle", self._seed, found.query_id).permutation(len(found.places))
        return replace(found, places=[found.places[number] for number in order])

    def _slide(self, batch: Batch, lists: Sequence[_List], passages: Sequence[str], *turn: str) -> None:
        """Move the window over all lists at once, one call of the LLM for each of its places."""
        moves = {found.query_id: windows(len(found.places), self._config) for found in lists}
        for step in range(max(map(len, moves.values()), default=0)):
            going = [found for found in lists if step < len(moves[found.query_id])]
            spans = [moves[found.query_id][step] for found in going]
            requests = [
                self._block.request(
                    found.query,
                    [passages[place] for place in found.places[start:end]],
                    seed_of("listwise", self._seed, found.query_id, start, *turn),
                )
                for found, (start, end) in zip(going, spans, strict=True)
            ]
            tokens = _TOKENS_PER_PASSAGE * self._config.window
            sampling = Sampling(max_new_tokens=tokens, temperature=0.0, stop=tuple(self._block.stop))
            answers = batch.llm.generate(requests, sampling)
            for found, (start, end), answer in zip(going, spans, answers, strict=True):
                order, missing, dropped = read_order(answer.text, end - start)
                batch.counters["listwise_repaired"] += bool(missing or dropped)
                batch.counters["listwise_missing"] += missing
                batch.counters["listwise_dropped"] += dropped
                window = [found.places[start + number] for number in order]
                named = len(window) - missing
                found.places[start:end] = [*window[:named], *sorted(window[named:], key=found.retrieved.__getitem__)]

    @classmethod
    def check(cls, config: FretConfig) -> None:
        """The prompt can be read."""
        _block(config)

    @classmethod
    def prompt_hashes(cls, config: FretConfig) -> dict[str, str]:
        """Of its prompt."""
        return {"score.listwise": _block(config).hash}

    @classmethod
    def passes(cls, config: ScoreConfig) -> int:
        """How often the window shows a passage, rounded up; twice that with ``debias``."""
        return -(-config.listwise.window // config.listwise.step) * (1 + config.listwise.debias)

    @classmethod
    def fingerprint(cls, config: FretConfig, models: Models) -> list[Any]:
        """Seed, prompt, windows and how much of a passage is read."""
        left_out = {"prompt"} if config.score.listwise.debias else {"prompt", "debias"}
        return [config.seed, _block(config).hash, config.score.listwise.model_dump(exclude=left_out)]


def windows(count: int, config: ListwiseConfig) -> list[tuple[int, int]]:
    """[start, end) of every window over ``count`` passages, from the end to the head; none over fewer than two."""
    spans: list[tuple[int, int]] = []
    end = count
    while end > 1:
        start = max(0, end - config.window)
        spans.append((start, end))
        end = end - config.step if start > 0 else 0
    return spans


def read_order(answer: str, count: int) -> tuple[list[int], int, int]:
    """A permutation from whatever the LLM wrote.

    Args:
        answer: its text; every run of digits counts as a number.
        count: number of passages.

    Returns:
        Places from 0, best first, those that the answer did not name at the end; how many these are; how many numbers
        were dropped.
    """
    found = re.findall(r"\d+", answer)
    named = [int(digits) - 1 if len(digits) < 10 else -1 for digits in found]
    order = list(dict.fromkeys(place for place in named if 0 <= place < count))
    rest = [place for place in range(count) if place not in set(order)]
    return [*order, *rest], len(rest), len(named) - len(order)


def _cut(batch: Batch, texts: Sequence[str], tokens: int) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    cut = dict(zip(distinct, batch.llm.truncate(distinct, tokens), strict=True))
    return [cut[text] for text in texts]


def _block(config: FretConfig) -> ListwiseBlock:
    return load_prompt(config.score.listwise.prompt, ListwiseBlock)
