"""A desk that compares the books of a shop with statements."""

import pytest

from tests.sql.payments.shop import Shop
from tests.sql.rails.rail import Rail
from tests.sql.recon.desk import Desk


@pytest.fixture
def desk(shop: Shop, rail: Rail) -> Desk:
    """The reconciliation of a new shop."""
    return Desk(shop, rail)
