"""Taxpayers of two kinds of authority, for the tests of the `sync` schema."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.sync.reporting import Reporting
from tests.support.sql import Api, Books


@pytest.fixture
def books(module_database: Database) -> Iterator[Books]:
    """A worker takes whatever is due, so nothing of other tests may be."""
    with Books(module_database) as found:
        found.run("update sync.authority_devices set status = 'retired'")
        found.run("delete from sync.switches")
        yield found


@pytest.fixture
def free(books: Books, api: Api) -> Reporting:
    """An outlet whose authority takes several documents at once, in any order."""
    return Reporting(books, api, "CD")


@pytest.fixture
def strict(books: Books, api: Api) -> Reporting:
    """An outlet whose authority takes one document after the other."""
    return Reporting(books, api, "KE")
