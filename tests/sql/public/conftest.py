"""Houses for the tests of the `public` schema."""

import pytest

from scripts.stack.database import Database
from tests.sql.public.house import House


@pytest.fixture(scope="module")
def house(module_database: Database) -> House:
    """A house that the tests of one module share; each makes its own tenants in it."""
    return House(module_database)


@pytest.fixture
def empty_house(database: Database) -> House:
    """A house of this test alone."""
    return House(database)
