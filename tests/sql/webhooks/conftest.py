"""Merchants with endpoints: one database per module, a tenant per test."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Shop
from tests.sql.webhooks.listener import Listener
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
def listener(api: Api, books: Books) -> Iterator[Listener]:
    """A new tenant that hears of its events; at the end nothing waits any more."""
    yield Listener(Shop(api, books).open())
    books.run("update webhooks.endpoints set status = 'deleted' where status = 'enabled'")
    books.run("delete from webhooks.queue")
