"""A desk that compares the books of a shop with statements."""

import pytest

from tests.sql.payments.shop import Shop
from tests.sql.rails.rail import Rail
from tests.sql.recon.desk import Desk
from tests.support.days import begin_in_one_day


@pytest.fixture
def desk(shop: Shop, rail: Rail) -> Desk:
    """The reconciliation of a new shop, on one day."""
    begin_in_one_day("Africa/Nairobi")
    return Desk(shop, rail)
