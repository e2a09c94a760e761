import asyncio

import pytest

from gecko_fret.llm.pace import Budget, BudgetError, Limits, Pace, Pauses, Spent


class Clock:
    """Time that passes while someone sleeps."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def starts(pace, clock, tokens):
    async def run():
        begun = []
        for count in tokens:
            await pace.wait(count)
            begun.append(clock.now - 100)
        return begun

    return asyncio.run(run())


def test_requests_are_spread_over_the_minute():
    clock = Clock()
    assert starts(Pace(30, clock=clock, sleep=clock.sleep), clock, [5, 5, 5]) == [0, 2, 4]


def test_tokens_are_spread_over_the_minute_and_the_tighter_limit_holds():
    clock = Clock()
    pace = Pace(60, 6000, clock=clock, sleep=clock.sleep)
    assert starts(pace, clock, [500, 10, 300, 1]) == [0, 5, 6, 9]


def test_a_request_that_took_more_makes_the_next_one_later():
    clock = Clock()
    pace = Pace(tokens=6000, clock=clock, sleep=clock.sleep)
    assert starts(pace, clock, [100]) == [0]
    pace.correct(100, 400)
    assert starts(pace, clock, [1]) == [4]


def test_without_limits_nobody_waits():
    clock = Clock()
    assert starts(Pace(clock=clock, sleep=clock.sleep), clock, [10**9] * 5) == [0] * 5
    assert not clock.slept


def spend(budget, requests):
    """Requests one after the other: reserved (prompt, generated), and what they took."""

    async def run():
        for prompt, generated, spent in requests:
            await budget.reserve(prompt, generated)
            await budget.settle(prompt, generated, Spent(*spent))

    asyncio.run(run())


def test_a_budget_of_tokens_is_never_passed():
    budget = Budget(Limits(tokens=100))
    spend(budget, [(40, 10, (20, 5)), (40, 10, (40, 10)), (20, 5, (10, 5))])
    assert budget.spent == Spent(70, 20)
    with pytest.raises(
        BudgetError, match=r"llm.budget_tokens: .*70 tokens read, 20 written\); finished parts"
    ) as caught:
        spend(budget, [(8, 3, (8, 3))])
    assert "\n" not in str(caught.value)
    spend(budget, [(7, 3, (7, 3))])


def test_a_budget_of_dollars_counts_both_prices_and_earlier_runs():
    limits = Limits(usd=1.0, usd_read=2.0, usd_written=8.0)
    budget = Budget(limits, Spent(100_000, 50_000))
    assert limits.cost(budget.spent) == pytest.approx(0.6)
    spend(budget, [(100_000, 25_000, (100_000, 0))])
    with pytest.raises(BudgetError, match=r"llm.budget_usd: .*0.8000 US dollars"):
        spend(budget, [(1, 25_000, (1, 1))])


def test_a_request_that_does_not_fit_beside_others_waits_for_them():
    budget, events = Budget(Limits(tokens=100)), []

    async def one(name, most, spent, seconds):
        await budget.reserve(most, 0)
        events.append(f"{name} starts")
        await asyncio.sleep(seconds)
        events.append(f"{name} ends")
        await budget.settle(most, 0, Spent(spent))

    async def run():
        await asyncio.gather(one("a", 60, 5, 0.02), one("b", 60, 5, 0), one("c", 90, 5, 0))

    asyncio.run(run())
    assert events == ["a starts", "a ends", "b starts", "b ends", "c starts", "c ends"]
    assert budget.spent == Spent(15)


def test_pauses_begin_with_what_an_answer_takes_and_grow():
    pauses = Pauses(0.5)
    assert [pauses.before(attempt) for attempt in (1, 2, 3, 4, 5)] == [0.5, 1.5, 4.5, 8.0, 8.0]
    for _ in range(40):
        pauses.note(0.05)
    assert [pauses.before(attempt) for attempt in (1, 2, 3)] == pytest.approx([0.05, 0.15, 0.45])
    pauses.note(100.0)
    assert pauses.before(1) == 0.5


def test_a_longer_first_pause_is_not_cut():
    pauses = Pauses(60.0)
    assert [pauses.before(attempt) for attempt in (1, 2)] == [60.0, 60.0]
    for _ in range(40):
        pauses.note(1.0)
    assert [pauses.before(attempt) for attempt in (1, 4, 5, 6)] == pytest.approx([1.0, 27.0, 60.0, 60.0])
