"""shared/fiscal/audit.py: a Z report says of its documents what they say themselves."""

from typing import Any

import pytest

from shared.fiscal.audit import Entry, Numbers, Sums, missing_numbers
from shared.fiscal.chain import GENESIS

Json = dict[str, Any]


def entry(number: int, record_type: str, at: str = "21T20:31:09", previous_hash: str = "") -> Entry:
    return Entry(
        entry_no=number,
        record_type=record_type,
        fiscal_number=f"N-{number}",
        series_no=number,
        sequence=None if record_type == "report_z" else number,
        sealed_at=f"2026-11-{at}Z",
        canonical_payload_hash="",
        previous_hash=previous_hash,
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


def missing(
    numbers: list[tuple[int, str]], kind: str = "sale", opening: str = GENESIS
) -> list[str]:
    """What is missing among entries with these numbers, sealed at these times of November."""
    entries = [entry(number, kind, at, opening) for number, at in numbers]
    found = Numbers()
    for one in entries:
        found.add(one)
    return list(missing_numbers([found], entries[0], entries[-1]))


@pytest.mark.parametrize(
    "numbers",
    [
        [(1, "01T08:00:00"), (2, "01T08:01:00"), (3, "03T08:00:00")],
        # A terminal sealed 2 and 3 offline while 4 and 5 were sealed here.
        [(1, "01T08:00:00"), (4, "01T08:01:00"), (2, "01T08:02:00"), (5, "02T08:00:00"),
         (3, "02T08:00:00"), (6, "04T08:00:00")],
        # It may still hold them.
        [(1, "01T08:00:00"), (4, "03T08:00:00"), (5, "03T19:59:59")],
    ],
)  # fmt: skip
def test_no_number_is_missing_that_came_or_may_come(numbers: list[tuple[int, str]]) -> None:
    assert missing(numbers) == []


@pytest.mark.parametrize(
    ("numbers", "which"),
    [
        ([(1, "01T08:00:00"), (3, "01T08:01:00"), (4, "01T20:01:01")], "2"),
        ([(1, "01T08:00:00"), (5, "01T08:01:00"), (6, "01T20:01:01")], "2 to 4"),
        ([(2, "01T08:00:00"), (3, "01T20:01:01")], "1"),
    ],
)
def test_number_that_nothing_was_sealed_under_is_named(
    numbers: list[tuple[int, str]], which: str
) -> None:
    assert missing(numbers) == [f"documents: no entry has number {which}"]


def test_first_numbers_of_a_later_stretch_are_not_all_in_it() -> None:
    numbers = [
        (40, "01T08:00:00"),
        (120, "01T08:01:00"),
        (121, "02T08:00:00"),
        (123, "02T08:00:00"),
    ]

    found = missing([*numbers, (124, "04T08:00:00")], opening="ab" * 32)

    assert found == ["documents: no entry has number 122"]


def test_no_terminal_holds_the_number_of_a_report() -> None:
    numbers = [(1, "01T20:00:00"), (3, "01T20:00:01")]

    assert missing(numbers, "report_z") == ["report_z: no entry has number 2"]
