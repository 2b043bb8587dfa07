"""Any other CSV statement, read as its owner says: which column holds what."""

import csv
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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

FORMAT: Final = "csv"
Column = Annotated[str, Field(min_length=1, max_length=100)]
_A_DAY: Final = datetime(2026, 11, 21, 9, 5, 7, tzinfo=UTC)
_PHONE: Final = re.compile(r"[1-9][0-9]{8,14}", re.ASCII)


class Columns(BaseModel):
    """The names of the columns, as the first line has them. `amount` is signed; or two columns."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    date: Annotated[Column, Field(examples=["Value date"])]
    amount: Column | None = None
    credit: Annotated[Column | None, Field(examples=["Credit"])] = None
    debit: Annotated[Column | None, Field(examples=["Debit"])] = None
    fee: Column | None = None
    currency: Column | None = None
    reference: Annotated[Column | None, Field(examples=["Bank reference"])] = None
    our_reference: Annotated[Column | None, Field(examples=["Narrative"])] = None
    linked_reference: Column | None = None
    batch: Column | None = None
    acquirer_reference: Column | None = None
    authorisation_code: Column | None = None
    phone: Column | None = None
    type: Column | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.amount is None) == (self.credit is None or self.debit is None):
            raise ValueError("name either amount, or credit and debit")
        return self


class ColumnMap(BaseModel):
    """How to read one kind of CSV statement.

    types: what the type column's values mean; a value that is not listed is a payment. A row
    whose first cell is total_marker is no movement: its amounts are the totals of the rows.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    columns: Columns
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3,5}$", examples=["KES"])]
    delimiter: Literal[",", ";", "\t", "|"] = ","
    decimal_mark: Literal[".", ","] = "."
    date_format: Annotated[str, Field(min_length=2, max_length=40)] = "%Y-%m-%d"
    time_zone: Annotated[str, Field(max_length=40)] = "UTC"
    skip_lines: Annotated[int, Field(ge=0, le=100)] = 0
    total_marker: Annotated[str | None, Field(max_length=40, examples=["TOTAL"])] = None
    types: Annotated[
        dict[str, Literal["payment", "return", "batch", "fee", "internal", "void"]],
        Field(max_length=50),
    ] = {}

    @field_validator("currency")
    @classmethod
    def _known(cls, currency: str) -> str:
        if currency not in scales():
            raise ValueError("is not a currency we know")
        return currency

    @field_validator("date_format")
    @classmethod
    def _date_form(cls, form: str) -> str:
        try:
            day = datetime.strptime(_A_DAY.strftime(form), form).date()  # noqa: DTZ007  a day
        except (ValueError, re.error):
            day = None
        if day != _A_DAY.date():
            raise ValueError("must tell day, month and year, such as %d.%m.%Y")
        return form

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is not an IANA time zone such as Africa/Nairobi") from None
        return name


def read(body: bytes, how: ColumnMap) -> StatementFile:
    """The statement in `body`. Raises StatementRefused."""
    rows = csv.reader(StringIO(decode(body), newline=""), strict=True, delimiter=how.delimiter)
    lines: list[StatementLine] = []
    totals: tuple[int, dict[str, str]] | None = None
    try:
        columns = _columns(rows, how)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(columns):
                raise StatementRefused(
                    rows.line_num,
                    f"has {len(row)} fields instead of {len(columns)}: it is cut off",
                )
            cells = dict(zip(columns, row, strict=True))
            if how.total_marker is not None and row[0].strip() == how.total_marker:
                totals = (rows.line_num, cells)
            else:
                lines.append(_line(cells, how, rows.line_num))
    except csv.Error:
        raise StatementRefused(rows.line_num, "is cut off, or a quote is not closed") from None
    if how.total_marker is not None:
        _check(totals, lines, how, rows.line_num)
    first, last = period_of(lines)
    return StatementFile(FORMAT, None, first, last, tuple(lines))


def _columns(rows: Rows, how: ColumnMap) -> list[str]:
    for row in rows:
        if rows.line_num <= how.skip_lines:
            continue
        cells = [cell.strip() for cell in row]
        wanted = how.columns.model_dump(exclude_none=True).values()
        if missing := [name for name in wanted if name not in cells]:
            raise StatementRefused(rows.line_num, f"lacks the column {missing[0]}")
        if len(set(cells)) != len(cells):
            raise StatementRefused(rows.line_num, "has two columns of one name")
        return cells
    raise StatementRefused(max(rows.line_num, 1), "the file ends before its columns")


def _line(cells: Mapping[str, str], how: ColumnMap, number: int) -> StatementLine:
    def cell(name: str | None) -> str:
        return cells[name].strip() if name else ""

    names = how.columns
    currency = cell(names.currency).upper() or how.currency
    if currency not in scales():
        raise StatementRefused(number, "names a currency we do not know")
    signed = _signed(cells, how, currency, number)
    if signed is None:
        raise StatementRefused(number, "has no amount, or one in both directions")
    type_ = LineType(how.types.get(cell(names.type), "payment"))
    at = _date(cell(names.date), how, number)
    fee = cell(names.fee)
    return StatementLine(
        number=number,
        type=type_,
        direction=Direction.OUT if signed[1] else Direction.IN,
        amount=Money(0, currency) if type_ is LineType.VOID else signed[0],
        value_date=at.date(),
        occurred_at=at if at.time() != datetime.min.time() else None,
        fee=amount(_pointed(fee, how), currency, number, "the fee")[0] if fee else None,
        external_ref=reference(cell(names.reference)),
        our_ref=reference(cell(names.our_reference)),
        linked_ref=reference(cell(names.linked_reference)),
        batch_ref=reference(cell(names.batch)),
        acq_ref=reference(cell(names.acquirer_reference)),
        auth_code=reference(cell(names.authorisation_code)),
        party=_phone(cell(names.phone)),
    )


def _signed(
    cells: Mapping[str, str], how: ColumnMap, currency: str, number: int
) -> tuple[Money, bool] | None:
    """The amount and whether it went out; None when the cells do not say exactly one."""
    names = how.columns
    if names.amount is not None:
        text = cells[names.amount].strip()
        return amount(_pointed(text, how), currency, number, names.amount) if text else None
    assert names.credit is not None, "the model saw to it"
    assert names.debit is not None, "the model saw to it"
    credit, debit = cells[names.credit].strip(), cells[names.debit].strip()
    if bool(credit) == bool(debit):
        return None
    text, name = (credit, names.credit) if credit else (debit, names.debit)
    return amount(_pointed(text, how), currency, number, name)[0], bool(debit)


def _pointed(text: str, how: ColumnMap) -> str:
    """With a point before the decimals and nothing between thousands."""
    if how.decimal_mark == ".":
        return text
    return text.replace(".", "").replace(" ", "").replace(",", ".")


def _date(text: str, how: ColumnMap, number: int) -> datetime:
    try:
        return datetime.strptime(text, how.date_format).replace(tzinfo=ZoneInfo(how.time_zone))
    except ValueError:
        raise StatementRefused(number, f"the date is not of the form {how.date_format}") from None


def _phone(text: str) -> str | None:
    digits = text.removeprefix("+")
    return f"+{digits}" if _PHONE.fullmatch(digits) else None


def _check(
    totals: tuple[int, dict[str, str]] | None,
    lines: list[StatementLine],
    how: ColumnMap,
    last_line: int,
) -> None:
    if totals is None:
        raise StatementRefused(last_line, f"the file ends without its {how.total_marker} row")
    number, cells = totals
    sums = {
        direction: sum(line.amount.minor for line in lines if line.direction is direction)
        for direction in Direction
    }
    names = how.columns
    if names.amount is not None:
        text = _pointed(cells[names.amount].strip(), how)
        money, negative = amount(text, how.currency, number, names.amount)
        told = -money.minor if negative else money.minor
        check_total(names.amount, told, sums[Direction.IN] - sums[Direction.OUT], number)
        return
    for name, direction in ((names.credit, Direction.IN), (names.debit, Direction.OUT)):
        assert name is not None, "the model saw to it"
        text = _pointed(cells[name].strip(), how) or "0"
        money, _ = amount(text, how.currency, number, name)
        check_total(name, money.minor, sums[direction], number)
