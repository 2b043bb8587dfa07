"""Outlets and their people, for the tests of the `fiscal` schema."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.reports.till import Till
from tests.support.sql import Api, Books


@pytest.fixture(scope="module")
def api(module_database: Database) -> Iterator[Api]:
    """A connection of the Data API."""
    with Api(module_database) as opened:
        yield opened


@pytest.fixture(scope="module")
def books(module_database: Database) -> Iterator[Books]:
    """The database as its superuser sees it."""
    with Books(module_database) as opened:
        yield opened


@pytest.fixture
def till(api: Api, books: Books) -> Till:
    """An outlet in Kinshasa of a new taxpayer."""
    return Till(api, books).open()
