"""Reports as files: JSON, CSV for spreadsheets, PDF for paper. Equal reports, equal bytes."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from io import StringIO
from typing import Any, Final

from fastapi.responses import Response

from shared.db import Answer

Report = Mapping[str, Any]
Row = tuple[str, ...]

HEAD: Final[Row] = (
    "section",
    "name",
    "value",
    "rate",
    "currency",
    "sales",
    "sales_tax",
    "credits",
    "credits_tax",
    "net",
    "net_tax",
)
_SUMS: Final = (
    "counts_by_type",
    "tax_totals",
    "grand_totals",
    "payments",
    "payment_totals",
    "tax_return",
)
_NESTED: Final = (*_SUMS, "perpetual_totals", "platform_status", "object")
_SIDES: Final = ("sales", "credits", "net")


class FileFormat(StrEnum):
    """What a report is written in."""

    JSON = "json"
    CSV = "csv"
    PDF = "pdf"


def file_answers(
    documented: dict[int | str, dict[str, Any]], *, pdf: bool = True
) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that also gives CSV, and PDF where that makes sense."""
    kinds: dict[str, Any] = {"text/csv": {"schema": {"type": "string"}, "example": "name\r\n"}}
    if pdf:
        binary = {"type": "string", "format": "binary"}
        kinds["application/pdf"] = {"schema": binary, "example": "%PDF-1.3"}
    documented[200]["content"] = kinds
    return documented


def written(answer: Answer, format_: FileFormat, name: str, member: str | None = None) -> Response:
    """The answer as a file called `name`. member: where in it the report is."""
    headers = {str(key): str(value) for key, value in answer.headers.items()}
    if format_ is FileFormat.JSON:
        return answer.response()
    headers["Content-Disposition"] = f'attachment; filename="{name}.{format_}"'
    found = json.loads(answer.body)
    report = found[member] if member else found
    if format_ is FileFormat.CSV:
        return Response(as_csv(HEAD, rows(report)), 200, headers, "text/csv; charset=utf-8")
    from functions.reports.pdf import (
        as_pdf,
    )  # fonts and images that only a reader of PDF should pay

    return Response(as_pdf(report, found.get("sealed")), 200, headers, "application/pdf")


def as_csv(head: Row | None, body: Iterable[Row]) -> bytes:
    """Rows as CSV (RFC 4180); without a head when they go on from others."""
    text = StringIO()
    writer = csv.writer(text)
    if head is not None:
        writer.writerow(head)
    writer.writerows(map(_safe, body))
    return text.getvalue().encode()


def rows(report: Report) -> Iterator[Row]:
    """What the report is about, then its counts and sums."""
    for name, value in about(report).items():
        yield ("about", name, value, "", "", "", "", "", "", "", "")
    for name, count in report["counts_by_type"].items():
        yield ("counts_by_type", name, str(count), "", "", "", "", "", "", "", "")
    for one in report["grand_totals"]:
        yield _sided("grand_totals", "total", one, "total", "total_tax")
    for one in report["tax_totals"]:
        yield _sided("tax_totals", one["code"], one, "base", "tax")
    for one in report["payments"]:
        yield _sided("payments", one["method"], one, "amount", None)
    for one in report.get("payment_totals", ()):  # a Z of schema 1.0 has none
        yield _sided("payment_totals", one["method"], one, "total", "total_tax")
    for one in report["tax_return"]["groups"]:
        currency = {"currency": report["tax_return"]["currency"]}
        yield _sided("tax_return", one["code"], one | currency, "base", "tax")
    for one in report["tax_return"]["by_treatment"]:
        currency = {"currency": report["tax_return"]["currency"]}
        yield _sided("by_treatment", one["treatment"], one | currency, "base", "tax")
    for one in report.get("perpetual_totals", ()):
        yield ("perpetual_totals", "total", "", "", one["currency"], one["sales"], "",
               one["credits"], "", one["net"], one["tax"])  # fmt: skip


def about(report: Report) -> dict[str, str]:
    """The members of a report that are one value each, as text."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in report.items()
        if name not in _NESTED and value is not None
    }


def _sided(section: str, name: str, one: Report, amount: str, tax: str | None) -> Row:
    amounts = [one[side][member] if member else "" for side in _SIDES for member in (amount, tax)]
    return (section, name, "", one.get("rate", ""), one["currency"], *amounts)


def _safe(row: Row) -> Row:
    # A spreadsheet runs what begins like a formula, and names come from merchants and buyers.
    return tuple(f"'{cell}" if cell[:1] in "=+@\t\r" and cell else cell for cell in row)
