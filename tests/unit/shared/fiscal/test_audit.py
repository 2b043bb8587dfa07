"""shared/fiscal/audit.py: a Z report says of its documents what they say themselves."""

from typing import Any

import pytest

from shared.fiscal.audit import Entry, Sums

Json = dict[str, Any]


def entry(number: int, record_type: str) -> Entry:
    return Entry(
        entry_no=number,
        record_type=record_type,
        fiscal_number=f"N-{number}",
        series_no=number,
        sequence=None if record_type == "report_z" else number,
        sealed_at="2026-11-21T20:31:09Z",
        canonical_payload_hash="",
        previous_hash="",
        entry_hash="",
        signature=None,
        payload=None,
    )


def amounts(subtotal: str, tax: str, total: str) -> Json:
    return {"subtotal": subtotal, "total_tax": tax, "total": total}


def findings(**changes: Json) -> list[str]:
    """What is wrong with the Z of a sale of 1160 and a credit of 116, both with a tax of 16 %."""
    sums = Sums()
    sale = {"totals": amounts("1000.00", "160.00", "1160.00") | {"currency": "CDF"}}
    credit = {"totals": amounts("100.00", "16.00", "116.00") | {"currency": "CDF"}}
    sums.add(entry(1, "sale"), sale, "CD")
    sums.add(entry(2, "credit_note"), credit, "CD")
    row = {
        "currency": "CDF",
        "sales": amounts("1000.00", "160.00", "1160.00"),
        "credits": amounts("100.00", "16.00", "116.00"),
        "net": amounts("900.00", "144.00", "1044.00"),
    }
    z = {"first_entry": 1, "last_entry": 2, "invoice_count": 2, "grand_totals": [row | changes]}
    return list(sums.check(entry(3, "report_z"), z))


def test_a_z_of_its_documents_is_right() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("side", "told", "name"),
    [
        ("net", amounts("900.00", "143.00", "1044.00"), "total_tax"),
        ("sales", amounts("1000.00", "160.00", "1161.00"), "total"),
        ("credits", amounts("0.00", "16.00", "116.00"), "subtotal"),
    ],
)
def test_a_z_that_says_another_amount_is_named_with_it(side: str, told: Json, name: str) -> None:
    assert findings(**{side: told}) == [f"N-3: its {name} in CDF is not its documents'"]
