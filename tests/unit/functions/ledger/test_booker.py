"""How large a batch the ledger asks for, with a pretended database and clock."""

import asyncio
from typing import Any, cast

import pytest

from functions.ledger.booking import FEWEST, IN_TIME_S, MOST, Booker
from shared.db import Database
from shared.errors import DependencyUnavailable
from shared.http.caller import Caller


class PretendedDatabase:
    """Books as many as it is asked for, so many seconds long; None does not book."""

    def __init__(self) -> None:
        self.takes_s: float | None = 0.0
        self.now_s = 0.0
        self.asked: list[int] = []

    async def call(self, _function: str, arguments: dict[str, Any], _caller: Caller) -> int:
        self.asked.append(arguments["max_rows"])
        if self.takes_s is None:
            raise DependencyUnavailable("cut off")
        self.now_s += self.takes_s
        return self.asked[-1]


@pytest.fixture
def database() -> PretendedDatabase:
    return PretendedDatabase()


@pytest.fixture
def booker(database: PretendedDatabase) -> Booker:
    booker = Booker(cast(Database, database), clock=lambda: database.now_s)
    booker.caller = Caller("req_1", "00-1-1-00")
    return booker


def test_batches_done_in_time_stay_large(booker: Booker, database: PretendedDatabase) -> None:
    for _ in range(2):
        asyncio.run(booker.step())

    assert database.asked == [MOST, MOST]


def test_batches_shrink_while_they_are_slow_and_grow_again(
    booker: Booker, database: PretendedDatabase
) -> None:
    for takes_s in [2 * IN_TIME_S] * 6 + [IN_TIME_S / 2] * 2:
        database.takes_s = takes_s
        asyncio.run(booker.step())

    assert database.asked == [10_000, 5000, 2500, 1250, 625, 312, FEWEST, 2 * FEWEST]


def test_a_batch_the_database_gave_up_on_is_followed_by_a_smaller_one(
    booker: Booker, database: PretendedDatabase
) -> None:
    database.takes_s = None
    with pytest.raises(DependencyUnavailable):
        asyncio.run(booker.step())

    with pytest.raises(DependencyUnavailable):
        asyncio.run(booker.step())

    assert database.asked == [MOST, MOST // 2]
