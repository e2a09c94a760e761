"""Parts of a build side by side: one computes at a time, the others wait for the answers of servers.

What a part does between its requests (tokenizers, embedders, caches) needs no thought of threads this way, and what it
has spent is counted apart from what the others have.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from gecko_fret.llm.protocol import Usage


@dataclass(eq=False)
class _Lane:
    turn: threading.Lock
    usages: dict[int, tuple[Usage, Usage]] = field(default_factory=dict)  # by LLM: of all its work, and of the lane's


# Requests run as tasks in another thread; they take the context of the thread that made them along.
_lane: ContextVar[_Lane | None] = ContextVar("lane", default=None)
_open: list[_Lane] = []


@contextmanager
def lane(turn: threading.Lock) -> Iterator[None]:
    """Be one of several threads that compute in turn.

    Args:
        turn: held by the one that computes.
    """
    with turn:
        here = _Lane(turn)
        token = _lane.set(here)
        _open.append(here)
        try:
            yield
        finally:
            _lane.reset(token)
            _open.remove(here)
            for whole, part in here.usages.values():
                whole.add(part)


@contextmanager
def waiting() -> Iterator[None]:
    """Let the other lanes compute meanwhile; outside a lane, nothing."""
    here = _lane.get()
    if here is None:
        yield
        return
    here.turn.release()
    try:
        yield
    finally:
        here.turn.acquire()


def usage_here(whole: Usage) -> Usage:
    """Where to count what an LLM is asked: in a lane, one of its own, which is added up when the lane ends.

    Args:
        whole: of all the LLM's work.
    """
    here = _lane.get()
    return whole if here is None else here.usages.setdefault(id(whole), (whole, Usage()))[1]


def answers_until_now(whole: Usage) -> int:
    """Answers to all that an LLM was asked, in lanes that are at work, too; asked for outside of them.

    Args:
        whole: of all the LLM's work.
    """
    parts = [part for here in list(_open) for of, part in list(here.usages.values()) if of is whole]
    return whole.requests + sum(part.requests for part in parts)
