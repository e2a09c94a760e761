"""How fast a server may be asked, and how much may be spent on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gecko_core.errors import BackendError

_PER_MILLION = 1e-6
_SMOOTH = 0.2  # weight of the last answer's time in what is typical
_GROWTH = 3.0
_LONGEST_PAUSE = 8.0


class BudgetError(BackendError):
    """The next request might pass the budget of the configuration."""


class Pace:
    """Requests and tokens per minute: starts are spread evenly, so that no minute ever has more than is allowed.

    Args:
        requests: requests per minute; None: as many as there are.
        tokens: tokens per minute, read and written; None likewise.
        clock: seconds; for tests.
        sleep: waits so many seconds; for tests.
    """

    def __init__(
        self,
        requests: int | None = None,
        tokens: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ):
        self._clock, self._sleep = clock, sleep
        self._per_request = 60 / requests if requests else 0.0
        self._per_token = 60 / tokens if tokens else 0.0
        self._next = 0.0

    async def wait(self, tokens: int) -> None:
        """Wait until a request of so many tokens may start."""
        now = self._clock()
        start = max(now, self._next)
        self._next = start + max(self._per_request, self._per_token * tokens)
        if start > now:
            await self._sleep(start - now)

    def correct(self, expected: int, used: int) -> None:
        """Say how many tokens a request took that was expected to take others."""
        self._next += self._per_token * (used - expected)


class Pauses:
    """How long to wait before a request is sent again: as long as an answer takes, then three times as long each time.

    A server that fails now and then is asked again soon, by its own measure, and one that is down is left alone.

    Args:
        first: seconds of the first pause, at most; later ones are at most ``_LONGEST_PAUSE``, or as long as this.
    """

    def __init__(self, first: float):
        self._first = first
        self._typical: float | None = None

    def note(self, seconds: float) -> None:
        """Say how long an answer has taken."""
        self._typical = seconds if self._typical is None else self._typical + _SMOOTH * (seconds - self._typical)

    def before(self, attempt: int) -> float:
        """Seconds of the pause before an attempt; 1 is the second time that the request is sent."""
        first = self._first if self._typical is None else min(self._first, self._typical)
        return min(first * _GROWTH ** (attempt - 1), max(_LONGEST_PAUSE, self._first))


@dataclass(slots=True)
class Spent:
    """What an LLM has cost.

    Attributes:
        prompt_tokens: read, repeated and useless answers included.
        generated_tokens: written, thinking included.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What an LLM may cost.

    Attributes:
        tokens: most tokens, read and written; None: no limit.
        usd: most US dollars; None: no limit.
        usd_read: price of a million tokens read.
        usd_written: price of a million tokens written.
    """

    tokens: int | None = None
    usd: float | None = None
    usd_read: float = 0.0
    usd_written: float = 0.0

    @property
    def has_prices(self) -> bool:
        """Whether a price is known."""
        return bool(self.usd_read or self.usd_written)

    def cost(self, spent: Spent) -> float:
        """US dollars."""
        return _PER_MILLION * (spent.prompt_tokens * self.usd_read + spent.generated_tokens * self.usd_written)


class Budget:
    """What has been spent, and what the requests in flight may still cost.

    A request reserves the most that it can cost and then settles what it did cost, so that the limits are never passed.
    One that does not fit beside those in flight waits for them.

    Args:
        limits: the limits.
        spent: what earlier runs have spent.
    """

    def __init__(self, limits: Limits, spent: Spent | None = None):
        self.limits, self.spent = limits, spent or Spent()
        self._reserved = Spent()
        self._settled = asyncio.Condition()

    async def reserve(self, prompt: int, generated: int) -> None:
        """Reserve the most that a request can cost.

        Args:
            prompt: tokens that it may read.
            generated: tokens that it may write.

        Raises:
            BudgetError: it does not fit any more.
        """
        async with self._settled:
            while self._key(_sum(self.spent, self._reserved), prompt, generated):
                key = self._key(self.spent, prompt, generated)
                if key:
                    raise BudgetError(
                        f"llm.{key}: the budget is spent ({self.describe()}); finished parts are kept, raise it and "
                        "run the same command again to go on"
                    )
                await self._settled.wait()
            self._reserved = _sum(self._reserved, Spent(prompt, generated))

    async def settle(self, prompt: int, generated: int, spent: Spent) -> None:
        """Give back what was reserved, and note what was spent."""
        async with self._settled:
            self._reserved.prompt_tokens -= prompt
            self._reserved.generated_tokens -= generated
            self.spent = _sum(self.spent, spent)
            self._settled.notify_all()

    def describe(self) -> str:
        """What has been spent, in words."""
        dollars = f", {self.limits.cost(self.spent):.4f} US dollars" if self.limits.usd is not None else ""
        return f"{self.spent.prompt_tokens} tokens read, {self.spent.generated_tokens} written{dollars}"

    def _key(self, spent: Spent, prompt: int, generated: int) -> str | None:
        """The limit that would be passed, None where all hold."""
        then = _sum(spent, Spent(prompt, generated))
        if self.limits.tokens is not None and then.prompt_tokens + then.generated_tokens > self.limits.tokens:
            return "budget_tokens"
        if self.limits.usd is not None and self.limits.cost(then) > self.limits.usd:
            return "budget_usd"
        return None


def _sum(first: Spent, second: Spent) -> Spent:
    return Spent(first.prompt_tokens + second.prompt_tokens, first.generated_tokens + second.generated_tokens)
