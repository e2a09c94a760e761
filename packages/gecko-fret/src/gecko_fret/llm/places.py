"""Who of many requests is made ready, and who is sent."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar


class Places:
    """Places for requests in flight. Of those that wait, the one that was made first gets the next.

    If they came in the order in which they began to wait, one that is asked again would have to wait for all that were
    never asked, and a server that hangs would be known as such when everything had been tried.

    Args:
        count: places.
    """

    def __init__(self, count: int):
        self._free = count
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def of(self, number: int) -> AsyncIterator[None]:
        """Hold a place.

        Args:
            number: of the request, in the order in which requests were made.
        """
        if self._free:
            self._free -= 1
        else:
            called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (number, next(self._numbers), called))
            try:
                await called
            except asyncio.CancelledError:
                if not called.cancelled():  # called and given up at once
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        while self._waiting:
            called = heapq.heappop(self._waiting)[2]
            if not called.done():
                called.set_result(None)
                return
        self._free += 1


class Turn:
    """A request's right to be made ready; others get it when the request is sent, or has failed before that.

    Making one ready takes the client a millisecond or two. Were all those of a part made ready at once, the server
    would wait for them; were one made ready after the other, it would wait for each.
    """

    now: ContextVar[Turn | None] = ContextVar("turn", default=None)

    def __init__(self, turns: asyncio.Semaphore, number: int):
        self._turns: asyncio.Semaphore | None = turns
        self.number = number

    def pass_on(self) -> None:
        """Let another request be made ready; doing it twice does no harm."""
        if self._turns is not None:
            self._turns.release()
            self._turns = None
