"""SWIFT MT940 statements, read by the mt-940 library; what it is lenient about is checked here."""

import re
import warnings
from collections.abc import Mapping
from datetime import date, timedelta
from io import StringIO
from typing import Any, Final

from shared.money import Money, scales
from shared.recon.base import (
    Direction,
    LineType,
    StatementFile,
    StatementLine,
    StatementRefused,
    amount,
    check_total,
    decode,
    period_of,
    reference,
)

FORMAT: Final = "mt940"
# Mark of field 61, subfield 3 -> direction, and whether it reverses an earlier entry.
_MARKS: Final = {
    "C": (Direction.IN, LineType.PAYMENT),
    "D": (Direction.OUT, LineType.PAYMENT),
    "RC": (Direction.OUT, LineType.RETURN),
    "RD": (Direction.IN, LineType.RETURN),
}
# Transaction type identification codes (field 61, subfield 6).
_TYPES: Final = {"NCHG": LineType.FEE, "NCOM": LineType.FEE, "NRTI": LineType.RETURN}
_TAG: Final = re.compile(r"^:([0-9]{2}[A-Z]?):", re.MULTILINE)
_NO_REFERENCE: Final = ("NONREF", "NOTPROVIDED")
_END_TO_END: Final = re.compile(r"(?:/EREF/|\?2[0-9]EREF\+|EREF\+)\s*([^/?\s]+)")


def read(body: bytes) -> StatementFile:
    """The statements in `body`, of one account. Raises StatementRefused."""
    text = decode(body).replace("\r\n", "\n")
    places = _places(text)
    entries = [number for tag, number in places if tag == "61"]
    statements = _parse(text)
    if not statements or places[0][0] != "20":
        raise StatementRefused(1, "begins with no statement (:20:)")
    _check_ends(places, text)
    lines: list[StatementLine] = []
    accounts = set()
    closings = iter(number for tag, number in places if tag in ("62F", "62M"))
    numbers = iter(entries)
    for statement in statements:
        accounts.add(str(statement.data.get("account_identification", "")).strip() or None)
        currency = _currency(statement.data)
        found = [_line(entry.data, currency, next(numbers)) for entry in _entries(statement)]
        _check(statement.data, found, currency, next(closings))
        lines += found
    if next(numbers, None) is not None:
        raise StatementRefused(entries[len(lines)], "is an entry that cannot be read")
    if len(accounts) > 1:
        raise StatementRefused(1, "holds statements of several accounts")
    first, last = period_of(lines, _period(statements))
    return StatementFile(FORMAT, accounts.pop(), first, last, tuple(lines))


def _parse(text: str) -> list[Any]:
    import mt940

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what it would guess, we refuse
            # A handle: text that happens to be a path would be opened.
            return list(mt940.parse_statements(StringIO(text)))
    except (RuntimeError, ValueError, TypeError, ArithmeticError, Warning):
        raise StatementRefused(_first_odd(text), "is no MT940 field") from None


def _first_odd(text: str) -> int:
    """The line of the first entry that is none: the library names no line."""
    entry = re.compile(r":61:[0-9]{6}(?:[0-9]{4})?R?[CD][A-Z]?[0-9]+,[0-9]*[NFS][A-Z0-9]{3}")
    balance = re.compile(r":6[0245][FM]?:[CD][0-9]{6}[A-Z]{3}[0-9]+,[0-9]*\s*$")
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(":61:") and not entry.match(line):
            return number
        if re.match(r":6[0245][FM]?:", line) and not balance.match(line):
            return number
    return 1


def _places(text: str) -> list[tuple[str, int]]:
    """(tag, line) of every field."""
    return [(found[1], text.count("\n", 0, found.start()) + 1) for found in _TAG.finditer(text)]


def _check_ends(places: list[tuple[str, int]], text: str) -> None:
    is_open = False
    for tag, number in places:
        if tag == "20":
            if is_open:
                raise StatementRefused(number, "begins before the statement above has its balance")
            is_open = True
        elif tag in ("62F", "62M"):
            is_open = False
    if is_open:
        raise StatementRefused(
            text.rstrip("\n").count("\n") + 1,
            "is cut off: the closing balance (:62F:) is not there",
        )


def _entries(statement: Any) -> list[Any]:
    return [entry for entry in statement if "amount" in entry.data]


def _line(data: Mapping[str, Any], currency: str, number: int) -> StatementLine:
    marked = _MARKS.get(str(data.get("status", "")))
    if marked is None:
        raise StatementRefused(number, "is neither debit nor credit")
    direction, type_ = marked
    written = f"{abs(data['amount'].amount):f}"
    code = str(data.get("id", ""))
    ours = str(data.get("customer_reference") or "").strip()
    told = _END_TO_END.search(str(data.get("transaction_details") or "").replace("\n", ""))
    return StatementLine(
        number=number,
        type=_TYPES.get(code, type_),
        direction=direction,
        amount=_exact(written, currency, number),
        value_date=_day(data.get("date"), number),
        external_ref=reference(data.get("bank_reference")),
        our_ref=reference(told[1] if told else None if ours in _NO_REFERENCE else ours),
    )


def _exact(written: str, currency: str, number: int) -> Money:
    whole, _, decimals = written.partition(".")
    kept = decimals[: scales()[currency]]
    if decimals[len(kept) :].strip("0"):
        raise StatementRefused(number, f"the amount has more decimals than {currency}")
    return amount(f"{whole}.{kept}" if kept else whole, currency, number, "the amount")[0]


def _day(told: Any, number: int) -> date:
    if not isinstance(told, date):
        raise StatementRefused(number, "has no value date")
    return date(told.year, told.month, told.day)


def _currency(data: Mapping[str, Any]) -> str:
    balance = _balance(data, "opening") or _balance(data, "closing")
    currency = str(balance.amount.currency) if balance else ""
    if currency not in scales():
        raise StatementRefused(1, "names a currency we do not know, or none")
    return currency


def _balance(data: Mapping[str, Any], end: str) -> Any:
    return data.get(f"final_{end}_balance") or data.get(f"intermediate_{end}_balance")


def _check(data: Mapping[str, Any], lines: list[StatementLine], currency: str, number: int) -> None:
    opening, closing = _balance(data, "opening"), _balance(data, "closing")
    if opening is None or closing is None:
        raise StatementRefused(number, "the statement has no opening or no closing balance")
    moved = sum(
        line.amount.minor if line.direction is Direction.IN else -line.amount.minor
        for line in lines
    )
    told = _signed(closing, currency, number)
    check_total(":62F:", told, _signed(opening, currency, number) + moved, number)


def _signed(balance: Any, currency: str, number: int) -> int:
    minor = _exact(f"{abs(balance.amount.amount):f}", currency, number).minor
    return minor if balance.status == "C" else -minor


def _period(statements: list[Any]) -> tuple[date, date]:
    days = []
    for statement in statements:
        opening = _day(_balance(statement.data, "opening").date, 1)
        closing = _day(_balance(statement.data, "closing").date, 1)
        # The opening balance is the closing balance of the day before.
        days += [min(opening + timedelta(days=1), closing), closing]
    return min(days), max(days)
