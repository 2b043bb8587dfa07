"""The organisation statement, as the M-Pesa portal exports it (tests/fixtures/rails/mpesa)."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scripts.stack.daraja.accounts import OPENING_FLOAT, UTILITY, WORKING
from scripts.stack.daraja.clock import EAT
from scripts.stack.daraja.credentials import Merchant
from scripts.stack.daraja.outcomes import person

COLUMNS = (
    "Receipt No.",
    "Completion Time",
    "Initiation Time",
    "Details",
    "Transaction Status",
    "Paid In",
    "Withdrawn",
    "Balance",
    "Balance Confirmed",
    "Reason Type",
    "Other Party Info",
    "Linked Transaction ID",
    "A/C No.",
)
EFFECTS: Mapping[str, int] = {**WORKING, **UTILITY}
CHARGE = "Business Payment Charge"

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Row:
    """One line before its balance is known; `moved` in whole shillings, below zero going out."""

    entry: Entry
    details: str
    reason: str
    party: str
    moved: int


def statement(
    merchant: Merchant, entries: Iterable[Entry], since: datetime, until: datetime
) -> bytes:
    """CSV of all accounts of a short code from `since` (aware) to just before `until`.

    `entries`: all of the short code, oldest first; those before `since` make the opening balance.
    """
    opening, rows = OPENING_FLOAT, []
    for row in _rows(merchant, entries):
        paid_at = datetime.fromisoformat(row.entry["paid_at"])
        if paid_at < since:
            opening += row.moved
        elif paid_at < until:
            rows.append(row)
    written, balance = [], opening
    for row in rows:
        balance += row.moved
        written.append(_cells(row, balance))
    paid_in = sum(row.moved for row in rows if row.moved > 0)
    withdrawn = sum(row.moved for row in rows if row.moved < 0)
    file = io.StringIO(newline="")
    csv.writer(file).writerows(
        [
            ["Organization Statement"],
            ["Organization Name:", merchant.name.upper()],
            ["Short Code:", merchant.short_code],
            ["Account:", "All Accounts"],
            ["Currency:", "KES"],
            ["Time Period:", f"From {_time(since)} To {_time(until)}"],
            ["Opening Balance:", _money(opening)],
            ["Total Paid In:", _money(paid_in)],
            ["Total Withdrawn:", _money(withdrawn)],
            ["Closing Balance:", _money(balance)],
            [],
            COLUMNS,
            *written[::-1],
        ]
    )
    return file.getvalue().encode()


def _rows(merchant: Merchant, entries: Iterable[Entry]) -> Iterator[_Row]:
    us = f"{merchant.short_code} - {merchant.name.upper()}"
    for entry in entries:
        moved = EFFECTS[entry["kind"]] * entry["amount"]
        details, reason, party = _wording(merchant, entry, us)
        yield _Row(entry, details, reason, party, moved)
        if entry["charge"]:
            yield _Row(entry, CHARGE, CHARGE, us, -entry["charge"])


def _wording(merchant: Merchant, entry: Entry, us: str) -> tuple[str, str, str]:
    """(details, reason type, other party)."""
    kind, payer, payee = entry["kind"], _party(entry["payer"]), _party(entry["paid_to"])
    if kind in ("prompt", "deposit"):
        product = "Merchant Payment" if merchant.till else "Pay Bill"
        reason = f"{product} Online" if kind == "prompt" else product
        account = "" if merchant.till else f" Acc. {entry['account_reference']}"
        return f"{reason} from {payer}{account}", reason, payer
    if kind == "payout":
        conversation = entry["conversation_id"]
        details = (
            f"Business Payment to {payee} via API. Original conversation ID is {conversation}."
        )
        return details, "Business Payment to Customer via API", payee
    if kind == "reversal":
        reason = "Transaction Reversal via API"
        return f"Transaction Reversal of {entry['reverses']} via API", reason, payee
    if kind == "topup":
        return "Funds received from bank", "Organization Deposit of Funds", us
    return "Business Transfer of Funds to Bank", "Business Transfer of Funds", us


def _cells(row: _Row, balance: int) -> list[str]:
    entry = row.entry
    return [
        entry["receipt"],
        _time(datetime.fromisoformat(entry["paid_at"])),
        _time(datetime.fromisoformat(entry["started_at"])),
        row.details,
        "Completed",
        _money(row.moved) if row.moved > 0 else "",
        _money(row.moved) if row.moved < 0 else "",
        _money(balance),
        "true",
        row.reason,
        row.party,
        entry["reverses"] or "",
        entry["account_reference"],
    ]


def _party(number: str) -> str:
    """A phone is masked and named; a short code is itself."""
    if not number.startswith("254"):
        return number
    return f"{number[:4]}****{number[-3:]} - {person(number)}"


def _time(at: datetime) -> str:
    """dd-MM-yyyy HH:mm:ss in EAT."""
    return f"{at.astimezone(EAT):%d-%m-%Y %H:%M:%S}"


def _money(shillings: int) -> str:
    return f"{shillings}.00"
