"""The simulated DGI's books: what was checked when it came is checked again when it counts."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scripts.stack.emcf.books import Books
from scripts.stack.emcf.rules import Refused, examine
from scripts.stack.emcf.taxpayers import Taxpayer

SHOP = Taxpayer("308123456", "CD00000001", 4_000_000_000)
SALE: dict[str, Any] = {
    "nif": SHOP.nif,
    "rn": "STL-1",
    "isf": "SFE-0042",
    "type": "FV",
    "mode": "ttc",
    "items": [
        {
            "code": "A",
            "name": "Sucre",
            "type": "BIE",
            "price": Decimal("116.00"),
            "quantity": 1,
            "taxGroup": "B",
        }
    ],
    "client": {"type": "PP"},
    "operator": {"name": "cashier-1"},
    "payment": [{"name": "ESPECES", "amount": Decimal("116.00")}],
}


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def submitted(books: Books, **members: Any) -> tuple[str, Decimal, Decimal]:
    row = books.submit(examine(SALE | members, SHOP.nif), SHOP)
    return row.uid, row.invoice.total, row.invoice.vat


def test_two_credits_that_waited_together_do_not_both_count(books: Books) -> None:
    sold = books.confirm(*submitted(books), SHOP, replays=True)
    code = sold["codeDEFDGI"].replace("-", "")
    whole = {"type": "FA", "reference": code, "referenceType": "RAM"}
    first, second = submitted(books, **whole), submitted(books, **whole)
    books.confirm(*first, SHOP, replays=True)

    with pytest.raises(Refused, match="dépassent"):
        books.confirm(*second, SHOP, replays=True)


@pytest.mark.parametrize("rate", [0, -1, "2500", None])
def test_a_rate_that_is_none_is_refused(rate: object) -> None:
    with pytest.raises(Refused, match="curRate"):
        examine(SALE | {"curCode": "USD", "curRate": rate}, SHOP.nif)
