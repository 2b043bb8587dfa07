"""What tests of several schemas share: one database per module, a tenant per test."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Shop
from tests.sql.rails.rail import Rail
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
def shop(api: Api, books: Books) -> Shop:
    """A new tenant in the sandbox."""
    return Shop(api, books).open()


@pytest.fixture
def rail(api: Api) -> Rail:
    """M-Pesa as the callback function and the reconciler see it."""
    return Rail(api)


@pytest.fixture
def till(api: Api, books: Books) -> Till:
    """An outlet in Kinshasa of a new taxpayer."""
    return Till(api, books).open()
