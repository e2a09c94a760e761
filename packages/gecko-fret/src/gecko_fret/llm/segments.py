"""Requests as token ids, the same for every backend that tokenises on our side."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

from gecko_core.errors import ModelError
from gecko_fret.control_tokens import CONTROL, JOINER
from gecko_fret.llm.alignment import begins_with_space, shows
from gecko_fret.llm.chat import render_chat
from gecko_fret.llm.protocol import Dialogue, ScoreRequest, WriteRequest

Value = TypeVar("Value")

_CUT = re.compile(rf"(?<=[<\[]){JOINER}")


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A whole prompt, and the span [start, end) of its continuation."""

    ids: list[int]
    start: int
    end: int


class SegmentTokenizer:
    """Tokenises prefix, context, continuation and tail one by one, and joins them.

    Segment borders are then token borders: a prefix has the same tokens whatever follows it, and a continuation has
    the same tokens whatever precedes it.

    Control tokens are read in what prompt files and chat templates say, and not in passages and queries: there the
    marks of all model families have a joiner (``gecko_fret.control_tokens``), at which they are cut. Marks that this
    tokenizer has besides, such as <filename> or [TOOL_CALLS], are cut wherever they stand after the prefix but in what
    its chat template writes there.

    Args:
        tokenizer: a fast tokenizer of transformers.
        name: the model's name, for messages.
    """

    def __init__(self, tokenizer: Any, name: str):
        self.tokenizer, self._name = tokenizer, name
        self._own_marks = _own_marks(tokenizer)

    def encode(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """Token ids; with ``special``, a begin mark where the model has one, but no end mark."""
        if not texts:
            return []
        pieces = [self._pieces(text, prefix=special) for text in texts]
        encoded = self.tokenizer([row[0] for row in pieces], add_special_tokens=special)["input_ids"]
        if others := [piece for row in pieces for piece in row[1:]]:
            further = iter(self.tokenizer(others, add_special_tokens=False)["input_ids"])
            encoded = [
                [*ids, *(token for _ in row[1:] for token in next(further))]
                for ids, row in zip(encoded, pieces, strict=True)
            ]
        if special:
            begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
            encoded = [ids[:-1] if len(ids) > 1 and ids[-1] == end and end != begin else ids for ids in encoded]
        return encoded

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Cut each text after its first ``max_tokens`` tokens."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        return [
            text if len(ids) <= max_tokens else text[: offsets[max_tokens - 1][1]].rstrip()
            for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    @cached_property
    def strips(self) -> bool:
        """Whether a single token is decoded without the white space before it, as by SentencePiece's decoders."""
        return not self.tokenizer.decode(self.encode([" a"])[0][:1]).startswith(" ")

    def shown(self, token: int, tops: Mapping[str, float]) -> float | None:
        """A token's log-probability among those that a server shows; None where it is not there, or may be another.

        Of a server that decodes tokens one by one, "Yes" may be the token with white space before it, or without.

        Args:
            token: its id.
            tops: the likeliest tokens by what they show.
        """
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if self.strips and not any(map(begins_with_space, tops)):
            return None
        return next((value for shown, value in tops.items() if shows(shown, piece)), None)

    def labels(self, labels: Sequence[str]) -> LabelTokens:
        """Labels as one token each after a common lead-in.

        Raises:
            ModelError: they cannot be told apart by one token.
        """
        tokens = label_tokens(self.encode(labels))
        if tokens is None:
            raise ModelError(f"LLM {self._name!r}: the labels {list(labels)} are not one token each; choose others")
        return tokens

    def chat(self, dialogue: Dialogue) -> tuple[str, str] | None:
        """Prefix and body of a dialogue by the model's chat template, see ``render_chat``; its texts are plain text."""
        texts = [dialogue.instruction, *(text for turn in dialogue.shown for text in turn), dialogue.asked]
        instruction, *turns, asked = (JOINER.join(self._cut(text)) for text in texts)
        shown = tuple(zip(turns[::2], turns[1::2], strict=True))
        return render_chat(self.tokenizer, replace(dialogue, instruction=instruction, shown=shown, asked=asked))

    def write(self, requests: Sequence[WriteRequest]) -> list[list[int]]:
        """Whole prompts of completions."""
        prefixes = self._prefixes([request.prefix for request in requests])
        bodies = self.encode([request.body for request in requests])
        return [prefixes[r.prefix] + body for r, body in zip(requests, bodies, strict=True)]

    def score(self, requests: Sequence[ScoreRequest], lead: Sequence[int] = ()) -> list[Tokenised]:
        """Whole prompts of score requests, with the labels' lead-in at the end."""
        prefixes = self._prefixes([request.prefix for request in requests])
        columns = [self.encode([getattr(r, name) for r in requests]) for name in ("context", "continuation", "tail")]
        rows = []
        for request, context, continuation, tail in zip(requests, *columns, strict=True):
            head = prefixes[request.prefix] + context
            ids = [*head, *continuation, *tail, *lead]
            rows.append(Tokenised(ids, len(head), len(head) + len(continuation)))
        return rows

    def _pieces(self, text: str, prefix: bool) -> list[str]:
        """The text, cut after the first character of every mark that is text: it is no control token any more."""
        own = not prefix and self._own_marks is not None and self._own_marks.search(text)
        ending = self._ending if own and text.endswith(self._ending) else ""
        text = text.removesuffix(ending)
        pieces = _CUT.split(text) if JOINER in text else [text]
        if own:
            pieces = [part for piece in pieces for part in self._cut(piece)]
        return [*pieces[:-1], pieces[-1] + ending]

    def _cut(self, text: str) -> list[str]:
        """The text, cut after the first character of every mark of this tokenizer, those within others too."""
        at, cuts = 0, [0]
        while self._own_marks is not None and (found := self._own_marks.search(text, at)):
            at = found.start() + 1
            cuts.append(at)
        return [text[start:end] for start, end in pairwise([*cuts, len(text)])]

    @cached_property
    def _ending(self) -> str:
        """What the chat template writes after what is asked: marks of this tokenizer are control tokens there."""
        import jinja2

        try:
            rendered = render_chat(self.tokenizer, Dialogue("Answer.", (("a", "b"),), "a"))
        except jinja2.exceptions.TemplateError:  # a template for other chats
            return ""
        return rendered[1].removeprefix("a") if rendered else ""

    def _prefixes(self, prefixes: Sequence[str]) -> dict[str, list[int]]:
        distinct = list(dict.fromkeys(prefixes))
        return dict(zip(distinct, self.encode(distinct, special=True), strict=True))


def _own_marks(tokenizer: Any) -> re.Pattern[str] | None:
    """The tokenizer's added tokens that are no marks of model families; None where it has none."""
    added = (token for token in tokenizer.get_added_vocab() if len(token) > 1 and not token.isspace())
    marks = [token for token in added if not CONTROL.fullmatch(token)]
    ordered = sorted(marks, key=lambda mark: (-len(mark), mark))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def by_context(requests: Sequence[ScoreRequest]) -> list[int]:
    """Numbers of the requests, those of one prefix and context in a row, so that a server's prefix cache has them."""
    places: dict[tuple[str, str], list[int]] = {}
    for number, request in enumerate(requests):
        places.setdefault((request.prefix, request.context), []).append(number)
    prefixes = dict.fromkeys(request.prefix for request in requests)
    first = {prefix: place for place, prefix in enumerate(prefixes)}
    return [number for key in sorted(places, key=lambda key: first[key[0]]) for number in places[key]]


def in_order(order: Sequence[int], results: Sequence[Value]) -> list[Value]:
    """Results of requests that were sent in this order, in the order of the requests."""
    return [result for _, result in sorted(zip(order, results, strict=True), key=lambda pair: pair[0])]


@dataclass(slots=True)
class LabelTokens:
    """Labels as single tokens after a common lead-in, see ``label_tokens``."""

    lead: list[int]
    ids: list[int] = field(default_factory=list)


def label_tokens(encoded: Sequence[Sequence[int]]) -> LabelTokens | None:
    """Split the labels' encodings into their longest common lead-in (often a space) and one token each.

    Returns:
        None when the labels cannot be told apart by one token.
    """
    lead: list[int] = []
    while all(len(ids) > len(lead) + 1 for ids in encoded) and len({ids[len(lead)] for ids in encoded}) == 1:
        lead.append(encoded[0][len(lead)])
    ids = [row[len(lead)] for row in encoded if len(row) == len(lead) + 1]
    if len(ids) != len(encoded) or len(set(ids)) != len(ids):
        return None
    return LabelTokens(lead, ids)


def softmax(values: Sequence[float]) -> tuple[float, ...]:
    """Probabilities that sum to 1 from log-probabilities of part of a vocabulary."""
    most = max(values)
    weights = [math.exp(value - most) for value in values]
    return tuple(weight / sum(weights) for weight in weights)
