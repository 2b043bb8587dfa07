"""What tests of several schemas share: a tenant per test."""

import pytest

from tests.sql.payments.shop import Shop
from tests.sql.rails.rail import Rail
from tests.sql.reports.till import Till
from tests.support.sql import Api, Books


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
