"""What an LLM wrote, read: the form that the prompt shows, or the query alone where the task was given."""

from __future__ import annotations

import re
from typing import NamedTuple

from gecko_core.text_words import text_words
from gecko_fret.control_tokens import as_written
from gecko_fret.corpus.splitting import count_words
from gecko_fret.prompting import PromptSet
from gecko_fret.sentences import split_sentences

# Marks of all model families: an answer that has one went on after its end. No tokenizer is at hand here.
_SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|</?think>|\[/?INST\]|<<SYS>>"
)
_LABEL = re.compile(
    r"^([*_]{0,3})(?:search |user |the )?(?:query|question|claim|statement|sentence)\s*(?:\1:|:\1)\s*", re.IGNORECASE
)
_ANOTHER = re.compile(r"\|\s*(?:query|task)\s*:", re.IGNORECASE)
_JSON = re.compile(r"\s*(?:```\w*\s*)?\{\s*\"")  # of no prompt's form, or by a schema and cut off
# In the place of a query: an object, or a list of texts, whole or cut off.
_LITERAL = re.compile(r"\{\s*(['\"])\w+\1\s*:|\[\s*['\"](?:.*\]|[^\]]*)$")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # those that are no white space: no text has them
_LONGEST = 20_000  # characters; generate.max_new_tokens asks for far fewer, but not every server heeds it
#: Pairs of quotes: "a", “a”, „a“, „a”, «a», »a«, 「a」, 『a』.
_CLOSING = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』"}
_INNER = re.compile(r'(^|\s)"|"')  # the first straight quote of a text: 1 where it opens one
_STRAIGHT_OR_CURLY = '"“”'
_EMPHASIS = re.compile(r"([*_`]{1,3})([^*_`]+)\1")
_BULLET = re.compile(r"^[-*•]\s+(?=\S)")


def special_token(text: str) -> str | None:
    """The first special token of a language model in a text, such as <|im_start|>; None where there is none."""
    found = _SPECIAL.search(text)
    return found[0] if found else None


class Answer(NamedTuple):
    """A task line and a query."""

    task: str
    query: str


class Unreadable(NamedTuple):
    """Why an answer was not read; the reasons are those of ``gecko_fret.steps.filter.REASONS``."""

    reason: str
    detail: str = ""


def read_answer(text: str, finished: bool, kind: str, prompts: PromptSet, *, given: bool) -> Answer | Unreadable:
    """Read a completion.

    Where the LLM was to write the task, too, only the form of the prompt's demonstrations is read. Where it was to
    write the query alone, a label before it ("Question:") or the task that it was told is left out, and an unfinished
    answer is cut to its whole sentences.

    Args:
        text: the completion.
        finished: whether it came to an end before ``max_new_tokens``.
        kind: the kind of task that was asked for.
        prompts: the prompts that were shown.
        given: whether the task was given, see ``PromptSet.writing``.
    """
    if len(text) > _LONGEST:
        return Unreadable("unparsable", f"{len(text)} characters")
    text = as_written(text)
    if _JSON.match(text):
        return Unreadable("unparsable" if finished else "unfinished")
    if not finished:
        text = " ".join(split_sentences(text)[:-1]) if given else ""
        if not text:
            return Unreadable("unfinished")
    if special := special_token(text):
        return Unreadable("special_token", special)
    if control := _CONTROL.search(text):
        return Unreadable("unparsable", f"the control character U+{ord(control[0]):04X}")
    return _query_alone(text, kind, prompts) if given else _task_and_query(text, kind, prompts)


def _query_alone(text: str, kind: str, prompts: PromptSet) -> Answer | Unreadable:
    match = prompts.generate.pattern.fullmatch(text)
    if match is not None and text_words(match["task"]) == text_words(kind):  # it said the task all the same
        text = match["query"]
    lines = text.strip().splitlines()
    query = _unquoted(_LABEL.sub("", _BULLET.sub("", lines[0].strip(), count=1), count=1)) if len(lines) == 1 else ""
    if not query or _ANOTHER.search(query):
        return Unreadable("unparsable")
    return Answer(kind, query)


def _task_and_query(text: str, kind: str, prompts: PromptSet) -> Answer | Unreadable:
    match = prompts.generate.pattern.fullmatch(text)
    if match is None or len(match["query"].splitlines()) > 1:  # the pattern knows line feeds alone
        return Unreadable("unparsable")
    task, query = match["task"], _unquoted(match["query"])
    if not query:
        return Unreadable("unparsable")
    if prompts.generate.tasks == "closed":
        return Answer(kind, query) if text_words(task) == text_words(kind) else Unreadable("task", task)
    return Answer(task, query) if 1 <= count_words(task) <= 20 else Unreadable("task", task)


def _unquoted(query: str) -> str:
    """The query without quotes, emphasis and white space around it; empty where it is data that a program reads.

    Quotes that stand around a part of it ("Hamlet" by whom) are its own, and so is a mark of inches.
    """
    query = query.strip()
    while len(query) > 1 and _encloses(query):
        query = query[1:-1].strip()
    if emphasised := _EMPHASIS.fullmatch(query):
        return _unquoted(emphasised[2])
    marks = [mark for mark in query if mark in _STRAIGHT_OR_CURLY or mark in _CLOSING]
    if len(marks) == 1 and marks[0] in _STRAIGHT_OR_CURLY and not query[-2:-1].isdigit():  # its other one was cut off
        query = query.strip(_STRAIGHT_OR_CURLY).strip()
    return "" if _LITERAL.match(query) else query


def _encloses(query: str) -> bool:
    """Whether the first and the last character are quotes of one pair, around all that is between them."""
    closing = _CLOSING.get(query[0], "")
    if query[-1] not in closing:
        return False
    inner = query[1:-1].strip()
    if query[0] != '"':
        return not any(mark in inner for mark in query[0] + closing)
    first = _INNER.search(inner)
    return inner.count('"') % 2 == 0 and (first is None or first[1] is not None)
