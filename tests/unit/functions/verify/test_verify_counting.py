"""Views are added up and written together; a database that is away loses none."""

import asyncio
from typing import Any

from functions.verify.counting import Views
from shared.errors import DependencyUnavailable


class Books:
    """A database that keeps what it is told, or is away."""

    def __init__(self) -> None:
        self.written: list[list[dict[str, Any]]] = []
        self.is_away = False

    async def call(self, function: str, args: dict[str, Any], _caller: object) -> int:
        assert function == "fiscal.count_views"
        if self.is_away:
            raise DependencyUnavailable("away", retry_after=1)
        self.written.append(args["views"])
        return len(args["views"])


def view(number: str, channel: str, views: int) -> dict[str, Any]:
    return {"fiscal_number": number, "channel": channel, "views": views}


async def test_views_of_a_while_are_one_call() -> None:
    books = Books()
    views = Views(books, pause_s=0.01)  # type: ignore[arg-type]  # a database as far as it is asked

    views.note("STL-1", "page")
    views.note("STL-1", "page")
    views.note("STL-1", "qr")
    while len(books.written) < 1:
        await asyncio.sleep(0.01)
    views.note("STL-2", "api")
    while len(books.written) < 2:
        await asyncio.sleep(0.01)

    assert books.written == [
        [view("STL-1", "page", 2), view("STL-1", "qr", 1)],
        [view("STL-2", "api", 1)],
    ]


async def test_last_views_are_written_at_the_end() -> None:
    books = Books()
    views = Views(books, pause_s=60)  # type: ignore[arg-type]

    views.note("STL-1", "page")
    await views.aclose()

    assert books.written == [[view("STL-1", "page", 1)]]


async def test_views_wait_for_a_database_that_is_away() -> None:
    books = Books()
    books.is_away = True
    views = Views(books, pause_s=0.01)  # type: ignore[arg-type]

    views.note("STL-1", "page")
    await asyncio.sleep(0.05)
    views.note("STL-1", "page")
    books.is_away = False
    await views.aclose()

    assert books.written == [[view("STL-1", "page", 2)]]


async def test_nobody_looked_and_nothing_is_written() -> None:
    books = Books()

    await Views(books, pause_s=0.01).aclose()  # type: ignore[arg-type]

    assert books.written == []
