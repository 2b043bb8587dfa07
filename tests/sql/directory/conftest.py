"""Shops and rails, for the tests of the `directory` schema."""

from tests.sql.compliance.conftest import api, books, shop

__all__ = ["api", "books", "shop"]
