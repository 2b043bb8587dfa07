"""Shops with a tier, for the tests of the `compliance` schema."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Shop
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
def shop(api: Api, books: Books) -> Shop:
    """A new tenant in the sandbox."""
    return Shop(api, books).open()
