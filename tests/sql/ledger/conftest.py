"""Books for the tests of the `ledger` schema."""

import pytest

from tests.sql.ledger.ledger import Ledger
from tests.support.sql import Api, Books


@pytest.fixture
def ledger(api: Api, books: Books) -> Ledger:
    """The books of a new tenant."""
    return Ledger(api, books).open()
