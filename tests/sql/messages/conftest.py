"""The `messages` schema as its functions and its owner see it."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.support.days import begin_in_one_day
from tests.support.sql import Api, Books


@pytest.fixture
def books(database: Database) -> Iterator[Books]:
    """A database of this test alone: budgets and pauses belong to the whole platform, by days."""
    begin_in_one_day("UTC")
    with Books(database) as opened:
        yield opened


@pytest.fixture
def api(database: Database, books: Books) -> Iterator[Api]:
    """A connection of the Data API."""
    with Api(database) as opened:
        yield opened
