"""The organisation statement as the M-Pesa portal exports it (CSV, times in EAT, newest first).

Header lines `name:,value`, an empty line, the columns, the rows. `Receipt No.` is not unique: a
charge is a row of its own with the receipt of its payment.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from shared.money import Money, scales
from shared.recon.base import (
    Direction,
    LineType,
    Rows,
    StatementFile,
    StatementLine,
    StatementRefused,
    amount,
    check_total,
    decode,
    period_of,
    reference,
)

FORMAT: Final = "mpesa_csv"
EAT: Final = ZoneInfo("Africa/Nairobi")
FIRST_COLUMN: Final = "Receipt No."
NEEDED: Final = (FIRST_COLUMN, "Completion Time", "Transaction Status", "Paid In", "Withdrawn")
_TIMES: Final = ("%d-%m-%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M:%S")
_MOMENT: Final = r"([0-9][0-9/: -]{9,18}[0-9])"
_PERIOD: Final = re.compile(rf"From\s+{_MOMENT}\s+To\s+{_MOMENT}", re.IGNORECASE)
_CONVERSATION: Final = re.compile(r"\bAG_[0-9A-Za-z_]+")
_WHOLE_PHONE: Final = re.compile(r"(254[17][0-9]{8})\b")

Numbered = tuple[int, str]  # a line of the file, and what stands there


def read(body: bytes) -> StatementFile:
    """The statement in `body`. Raises StatementRefused."""
    rows = csv.reader(StringIO(decode(body), newline=""), strict=True)
    try:
        header, columns = _header(rows)
        currency = header.get("currency", (0, "KES"))[1].upper()
        if currency not in scales():
            raise StatementRefused(header["currency"][0], "names a currency we do not know")
        lines = _lines(rows, columns, currency)
    except csv.Error:
        raise StatementRefused(rows.line_num, "is cut off, or a quote is not closed") from None
    _check(header, lines, currency)
    told = _period(header)
    first, last = period_of(lines, told)
    account = header.get("short code", (0, ""))[1] or None
    return StatementFile(FORMAT, account, first, last, tuple(lines))


def _header(rows: Rows) -> tuple[dict[str, Numbered], list[str]]:
    header: dict[str, Numbered] = {}
    for row in rows:
        cells = [cell.strip() for cell in row]
        if cells and cells[0] == FIRST_COLUMN:
            if missing := [name for name in NEEDED if name not in cells]:
                raise StatementRefused(rows.line_num, f"lacks the column {missing[0]}")
            return header, cells
        if len(cells) > 1 and cells[0]:
            header[cells[0].rstrip(":").lower()] = (rows.line_num, cells[1])
    raise StatementRefused(max(rows.line_num, 1), f"the columns ({FIRST_COLUMN}, …) do not come")


def _lines(rows: Rows, columns: Sequence[str], currency: str) -> list[StatementLine]:
    lines = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise StatementRefused(
                rows.line_num, f"has {len(row)} fields instead of {len(columns)}: it is cut off"
            )
        cells = dict(zip(columns, row, strict=True))
        lines.append(_line(cells, currency, rows.line_num))
    return lines


def _line(cells: Mapping[str, str], currency: str, number: int) -> StatementLine:
    paid_in, withdrawn = cells["Paid In"].strip(), cells["Withdrawn"].strip()
    if bool(paid_in) == bool(withdrawn):
        raise StatementRefused(number, "has no amount, or one in both directions")
    money, negative = amount(
        paid_in or withdrawn, currency, number, "Paid In" if paid_in else "Withdrawn"
    )
    if negative and paid_in:
        raise StatementRefused(number, "Paid In is negative")
    receipt = reference(cells[FIRST_COLUMN])
    if receipt is None:
        raise StatementRefused(number, "has no receipt")
    at = _time(cells["Completion Time"], number, "Completion Time")
    details = cells.get("Details", "")
    type_ = _type(cells.get("Reason Type", "") or details, cells["Transaction Status"])
    conversation = _CONVERSATION.search(details)
    phone = _WHOLE_PHONE.match(cells.get("Other Party Info", "").strip())
    return StatementLine(
        number=number,
        type=type_,
        direction=Direction.IN if paid_in else Direction.OUT,
        amount=Money(0, currency) if type_ is LineType.VOID else money,
        value_date=at.date(),
        occurred_at=at,
        external_ref=receipt,
        our_ref=reference(cells.get("A/C No.")),
        linked_ref=reference(cells.get("Linked Transaction ID")),
        acq_ref=conversation[0].rstrip("_") if conversation else None,
        party=f"+{phone[1]}" if phone else None,
    )


def _type(reason: str, status: str) -> LineType:
    if status.strip().lower() != "completed":
        return LineType.VOID
    spoken = reason.lower()
    return next((type_ for pattern, type_ in _reasons() if pattern in spoken), LineType.PAYMENT)


@cache
def _reasons() -> tuple[tuple[str, LineType], ...]:
    """What M-Pesa calls a movement, first hit wins; everything else is a payment."""
    with Path(__file__).with_name("mpesa_reasons.csv").open(newline="") as rows:
        return tuple((row["pattern"], LineType(row["type"])) for row in csv.DictReader(rows))


def _time(text: str, number: int, name: str) -> datetime:
    for form in _TIMES:
        try:
            return datetime.strptime(text.strip(), form).replace(tzinfo=EAT)
        except ValueError:
            continue
    raise StatementRefused(number, f"{name} is no time such as 20-11-2026 17:00:20")


def _period(header: Mapping[str, Numbered]) -> tuple[date, date] | None:
    if "time period" not in header:
        return None
    number, text = header["time period"]
    told = _PERIOD.search(text)
    if told is None:
        raise StatementRefused(number, "names no period such as From … To …")
    first, last = (_time(moment, number, "Time Period") for moment in told.groups())
    if last < first:
        raise StatementRefused(number, "the period ends before it begins")
    # To midnight is to the end of the day before.
    return first.date(), max(first, last - timedelta(seconds=1)).date()


def _check(header: Mapping[str, Numbered], lines: Sequence[StatementLine], currency: str) -> None:
    sums = {
        direction: sum(line.amount.minor for line in lines if line.direction is direction)
        for direction in Direction
    }
    told = {name: _told(header, name, currency) for name in _TOTALS}
    if "total paid in" in header:
        check_total("Total Paid In", abs(told["total paid in"]), sums[Direction.IN], _at(header, 0))
    if "total withdrawn" in header:
        check_total(
            "Total Withdrawn", abs(told["total withdrawn"]), sums[Direction.OUT], _at(header, 1)
        )
    if "opening balance" in header and "closing balance" in header:
        found = told["opening balance"] + sums[Direction.IN] - sums[Direction.OUT]
        check_total("Closing Balance", told["closing balance"], found, _at(header, 3))


_TOTALS: Final = ("total paid in", "total withdrawn", "opening balance", "closing balance")


def _told(header: Mapping[str, Numbered], name: str, currency: str) -> int:
    """Signed minor units; 0 for what the header does not tell."""
    if name not in header:
        return 0
    number, text = header[name]
    money, negative = amount(text, currency, number, name.title())
    return -money.minor if negative else money.minor


def _at(header: Mapping[str, Numbered], index: int) -> int:
    return header[_TOTALS[index]][0]
