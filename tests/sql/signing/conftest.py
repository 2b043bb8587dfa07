"""Outlets whose chains need keys, for the tests of the `signing` schema."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.signing.chains import Chains
from tests.support.sql import Api, Books


@pytest.fixture
def chains(module_database: Database) -> Iterator[Chains]:
    """A taxpayer of a jurisdiction of this test alone: keys belong to jurisdictions."""
    with Books(module_database) as books, Api(module_database) as api:
        yield Chains(module_database, books, api)
