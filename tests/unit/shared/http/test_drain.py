"""A drain: once per process, until nothing is left, no poke forgotten."""

import asyncio
from collections.abc import Iterator

import pytest

from shared.http.drain import Drain


class Work:
    """A queue that a step empties three at a time. `gate` holds a step once it has looked."""

    def __init__(self, amount: int = 0) -> None:
        self.left, self.steps, self.at_once = amount, 0, 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.looked = asyncio.Event()
        self.failures: Iterator[Exception] = iter(())

    async def step(self) -> int:
        self.steps += 1
        self.at_once += 1
        assert self.at_once == 1, "two steps at the same time"
        taken = min(self.left, 3)
        self.left -= taken
        self.looked.set()
        await self.gate.wait()
        self.at_once -= 1
        for failure in self.failures:
            raise failure
        return taken


async def until_idle(drain: Drain) -> None:
    assert drain._task is not None
    await asyncio.wait({drain._task})


def test_a_poke_returns_when_nothing_is_left() -> None:
    async def scenario() -> None:
        work = Work(10)
        drain = Drain(work.step, linger_s=60)

        assert await drain.poke() == 10
        assert (work.left, work.steps) == (0, 5)
        await drain.aclose()

    asyncio.run(scenario())


def test_a_poke_during_a_step_is_answered_by_a_later_step() -> None:
    async def scenario() -> None:
        work = Work()
        drain = Drain(work.step, linger_s=0)
        work.gate.clear()
        first = asyncio.create_task(drain.poke())
        await work.looked.wait()
        work.left = 2
        second = asyncio.create_task(drain.poke())
        await asyncio.sleep(0)
        work.gate.set()

        assert await second == 2
        await first
        await until_idle(drain)
        assert work.left == 0

    asyncio.run(scenario())


def test_many_pokes_at_once_run_one_drain() -> None:
    async def scenario() -> None:
        work = Work(9)
        drain = Drain(work.step, linger_s=0)

        await asyncio.gather(*(drain.poke() for _ in range(50)))
        await until_idle(drain)

        assert work.left == 0
        assert work.steps <= 6

    asyncio.run(scenario())


def test_what_was_committed_while_it_lingered_is_found_without_a_poke() -> None:
    async def scenario() -> None:
        work = Work()
        drain = Drain(work.step, linger_s=0.05)
        await drain.poke()
        work.left = 4

        await until_idle(drain)

        assert work.left == 0

    asyncio.run(scenario())


def test_a_poke_while_it_lingers_is_answered_at_once() -> None:
    async def scenario() -> None:
        work = Work()
        drain = Drain(work.step, linger_s=60)
        await drain.poke()
        work.left = 1

        assert await drain.poke() == 1
        await drain.aclose()

    asyncio.run(scenario())


def test_a_long_drain_goes_on_behind_its_answer() -> None:
    async def scenario() -> None:
        work = Work(6)
        work.gate.clear()
        drain = Drain(work.step, linger_s=0, patience_s=0.01)

        assert await drain.poke() == 0
        work.gate.set()
        await until_idle(drain)

        assert work.left == 0

    asyncio.run(scenario())


def test_a_failing_step_is_told_to_whoever_waits_and_the_next_poke_starts_anew() -> None:
    async def scenario() -> None:
        work = Work(3)
        work.failures = iter([LookupError("away")])
        drain = Drain(work.step, linger_s=0)
        with pytest.raises(LookupError):
            await drain.poke()
        work.left = 3

        assert await drain.poke() == 3
        await until_idle(drain)

    asyncio.run(scenario())


def test_closing_ends_a_drain_that_waits() -> None:
    async def scenario() -> None:
        work = Work()
        drain = Drain(work.step, linger_s=60)
        await drain.poke()

        await drain.aclose()

        assert drain._task is not None
        assert drain._task.cancelled()

    asyncio.run(scenario())
