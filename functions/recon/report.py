"""A session's report as rows: for spreadsheets, and for the pages of the PDF."""

import csv
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

Report = Mapping[str, Any]
Row = tuple[str, ...]

HEAD: Row = (
    "section",
    "name",
    "status",
    "lines",
    "amount",
    "currency",
    "receipt",
    "transfer",
    "day",
)


def as_csv(report: Report) -> str:
    """The report as CSV (RFC 4180); the same report gives the same bytes."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(HEAD)
    writer.writerows(map(_safe, rows(report)))
    return text.getvalue()


def rows(report: Report) -> Iterator[Row]:
    """Figures, then what each rule matched, then the exceptions."""
    session = report["session"]
    day = str(session["business_date"])
    for figures in session["figures"]:
        for side in ("lines", "transfers"):
            yield from _figures(side, figures[side], figures["currency"], day)
    for rule in report["rules"]:
        yield ("rule", rule["rule"], "", str(rule["lines"]), rule["amount"], rule["currency"],
               "", "", day)  # fmt: skip
    for one in report["exceptions"]:
        receipt = (one["line"] or {}).get("receipt") or one["details"].get("receipt") or ""
        yield ("exception", one["kind"], one["status"], "", one["amount"] or "",
               one["currency"] or "", str(receipt), one["transfer_id"] or "",
               str(one["business_date"] or ""))  # fmt: skip


def _figures(side: str, found: Mapping[str, Any], currency: str, day: str) -> Iterator[Row]:
    amounts = {"count": "", "in": found["in"], "out": found["out"], "unmatched": found["unmatched"]}
    for name, value in found.items():
        is_count = name not in ("in", "out", "unmatched")
        yield (side, name, "", str(value) if is_count else "", "" if is_count else amounts[name],
               currency, "", "", day)  # fmt: skip


def _safe(row: Row) -> Row:
    # A spreadsheet runs what begins like a formula, and receipts come from files of others.
    return tuple(f"'{cell}" if cell[:1] in "=+@\t\r" and cell else cell for cell in row)
