"""Probabilities of labels from what a server shows of them: the likeliest tokens, or answers alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gecko_fret.llm.alignment import OPENING, spelt

_WORD = re.compile(r"[\w+-]")
_LEAST = 1e-6  # less than this is rounding of the log-probabilities
_PRIOR = 0.5  # of every label, in samples: Jeffreys' prior, so that no label has probability 0


@dataclass(frozen=True, slots=True)
class LabelReading:
    """What was read.

    Attributes:
        probabilities: of the labels, summing to 1.
        bound: where labels were not shown, the most that each of them can have of the whole vocabulary's probability;
            else 0. They are given that much. 1 where no sample could be read.
        shown: number of labels that were shown, or of samples that could be read.
    """

    probabilities: tuple[float, ...]
    bound: float
    shown: int


def from_alternatives(
    tops: Mapping[str, float],  # token -> log-probability
    labels: Sequence[str],
) -> LabelReading:
    """Probabilities of labels from the likeliest tokens in the place of the answer.

    A token counts for the label that it is, or that it alone begins; case and surrounding space make no difference
    unless labels differ in nothing else. A label that is not shown is less probable than any token that is, and no more
    probable than all that is not shown together; it is given that much.

    Args:
        tops: the likeliest tokens.
        labels: what the LLM would write for each label.
    """
    names, fold = _names(labels)
    weights = [0.0] * len(labels)
    for token, value in tops.items():
        label = _label_of(token, names, fold)
        if label is not None:
            weights[label] += math.exp(value)
    shown, bound = sum(weight > 0 for weight in weights), _bound(tops)
    if shown == len(labels):
        bound = 0.0
    if not shown:
        return LabelReading((1 / len(labels),) * len(labels), bound, 0)
    total = sum(weight or bound for weight in weights)
    return LabelReading(tuple((weight or bound) / total for weight in weights), bound, shown)


def from_samples(answers: Sequence[str], labels: Sequence[str]) -> LabelReading:
    """Probabilities of labels from sampled answers: their shares, with half an answer more for each label.

    An answer counts for a label where its first word is the label; others are left out.

    Args:
        answers: texts.
        labels: what the LLM would write for each label.
    """
    counts = [0] * len(labels)
    for answer in answers:
        label = read_label(answer, labels)
        if label is not None:
            counts[label] += 1
    total = sum(counts) + _PRIOR * len(labels)
    bound = 0.0 if any(counts) else 1.0
    return LabelReading(tuple((count + _PRIOR) / total for count in counts), bound, sum(counts))


def label_of(token: str, labels: Sequence[str]) -> int | None:
    """Number of the label that a token is, or that it alone begins; None where it is none.

    Args:
        token: as shown.
        labels: what the LLM would write for each label.
    """
    return _label_of(token, *_names(labels))


def begins_another(labels: Sequence[str]) -> tuple[str, str] | None:
    """A label that another one begins with, and that one: a token may be either; None where there is none.

    Args:
        labels: what the LLM would write for each label.
    """
    names = _names(labels)[0]
    return next(((a, b) for a in names for b in names if a != b and b.startswith(a)), None)


def read_label(answer: str, labels: Sequence[str]) -> int | None:
    """Number of the label that an answer begins with; None for an answer of another form."""
    names, fold = _names(labels)
    text = answer.strip().lstrip(OPENING)
    text = text.casefold() if fold else text
    matches = [n for n, name in enumerate(names) if re.match(rf"{re.escape(name)}(?!\w)", text)]
    return max(matches, key=lambda n: len(names[n]), default=None)


def _names(labels: Sequence[str]) -> tuple[list[str], bool]:
    """The labels as they are compared, and whether without case."""
    stripped = [label.strip() for label in labels]
    folded = [label.casefold() for label in stripped]
    return (folded, True) if len(set(folded)) == len(folded) else (stripped, False)


def _label_of(token: str, names: Sequence[str], fold: bool) -> int | None:
    """The label that a token is, or that it alone begins, whatever stands for its white space and letters.

    Quotes and emphasis before it, and punctuation after it ("Yes."), make no difference.
    """
    spellings = [token.strip(), *sorted(spelt(token))]
    spellings += [text.lstrip(OPENING) for text in spellings]
    texts = [text.casefold() if fold else text for text in dict.fromkeys(spellings) if text]
    for text in texts:
        if text in names:
            return names.index(text)
    for text in texts:
        ended = [n for n, name in enumerate(names) if text.startswith(name) and not _WORD.search(text[len(name) :])]
        if ended:
            return max(ended, key=lambda n: len(names[n]))
    for text in texts:
        begun = [number for number, name in enumerate(names) if name.startswith(text)]
        if len(begun) == 1:
            return begun[0]
    return None


def _bound(tops: Mapping[str, float]) -> float:
    """The most that a token can have which is not among the likeliest ones: no more than the least of them."""
    shown = [math.exp(value) for value in tops.values()]
    possible = [value for value in shown if value > 0]
    left = 1 - sum(shown) if len(possible) == len(shown) else 0.0  # after an impossible token comes none that is not
    return min([*possible, max(left, _LEAST)])
