"""The shops of the payments tests, and a desk that compares their books with statements."""

import pytest

from tests.sql.payments.conftest import api, books, rail, shop
from tests.sql.payments.shop import Shop
from tests.sql.rails.rail import Rail
from tests.sql.recon.desk import Desk

__all__ = ["api", "books", "desk", "rail", "shop"]


@pytest.fixture
def desk(shop: Shop, rail: Rail) -> Desk:
    """The reconciliation of a new shop."""
    return Desk(shop, rail)
