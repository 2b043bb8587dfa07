"""Merchants with endpoints, for the tests of the `webhooks` schema."""

from collections.abc import Iterator

import pytest

from tests.sql.payments.shop import Shop
from tests.sql.webhooks.listener import Listener
from tests.support.sql import Books


@pytest.fixture
def listener(shop: Shop, books: Books) -> Iterator[Listener]:
    """A new tenant that hears of its events; at the end nothing waits any more."""
    yield Listener(shop)
    books.run("update webhooks.endpoints set status = 'deleted' where status = 'enabled'")
    books.run("delete from webhooks.queue")
