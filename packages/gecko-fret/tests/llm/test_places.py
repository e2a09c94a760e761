import asyncio

import pytest

from gecko_fret.llm.places import Places, Turn


def test_of_those_that_wait_the_first_request_is_next():
    """Whatever came to wait first: a request that is asked again goes before those that never were."""
    begun = []

    async def hold(places, number):
        async with places.of(number):
            begun.append(number)
            await asyncio.sleep(0)

    async def run():
        places = Places(1)
        await asyncio.gather(*(hold(places, number) for number in (5, 7, 9, 6, 1, 8)))

    asyncio.run(run())
    assert begun == [5, 1, 6, 7, 8, 9]


@pytest.mark.parametrize("called", [False, True])
def test_who_gives_up_takes_nobodys_place(called):
    """While waiting, and in the moment in which the place has become free."""

    async def run():
        places, free = Places(1), asyncio.Event()

        async def hold():
            async with places.of(0):
                await free.wait()
            if called:  # the next one has the place, and has not been told
                second.cancel()

        async def wait(number):
            async with places.of(number):
                return number

        first, second, third = (asyncio.ensure_future(job) for job in (hold(), wait(1), wait(2)))
        await asyncio.sleep(0)
        if not called:
            second.cancel()
        free.set()
        await first
        assert await third == 2
        assert second.cancelled()
        assert await wait(3) == 3

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_turn_is_passed_on_once():
    turns = asyncio.Semaphore(0)
    turn = Turn(turns, 0)
    turn.pass_on()
    turn.pass_on()
    assert not turns.locked()
    asyncio.run(turns.acquire())
    assert turns.locked()
