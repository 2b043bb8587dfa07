"""Books for the tests of the `ledger` schema: one database per module, a tenant per test."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.ledger.ledger import Ledger
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
def ledger(api: Api, books: Books) -> Ledger:
    """The books of a new tenant."""
    return Ledger(api, books).open()
