"""The shops of the payments tests, because every callback belongs to a payment."""

from tests.sql.payments.conftest import api, books, rail, shop

__all__ = ["api", "books", "rail", "shop"]
