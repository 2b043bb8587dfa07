"""The wire shapes of reports over many days: periods, articles, exports."""

from datetime import date
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, Field, model_validator

from functions.reports.figures import (
    OUTLET_ID,
    Asked,
    BusinessDay,
    CurrencyCode,
    OutletId,
    Report,
    Time,
    WantedFormat,
)
from functions.reports.files import FileFormat
from functions.reports.periods import Period, bounds
from shared.ids import pattern

MAX_DAYS: Final = 366


class _Days(Asked):
    first: Annotated[
        BusinessDay,
        Field(alias="from", description="The first business day.", examples=["2026-11-01"]),
    ]
    last: Annotated[
        BusinessDay,
        Field(alias="to", description="The last business day.", examples=["2026-11-30"]),
    ]

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.last < self.first:
            raise ValueError("to is before from")
        if (self.last - self.first).days >= MAX_DAYS:
            raise ValueError(f"at most {MAX_DAYS} days at once")
        return self


class PeriodicReport(Report):
    """Zs added up. open_days: business days of the period that are begun and not closed."""

    report_type: Literal["periodic"]
    outlet_id: Annotated[str, Field(examples=[OUTLET_ID])] = ""
    outlet_code: Annotated[str, Field(examples=["KIN001"])] = ""
    outlet_name: Annotated[str, Field(examples=["Gombe"])] = ""
    first: Annotated[date, Field(alias="from", examples=["2026-11-01"])]
    last: Annotated[date, Field(alias="to", examples=["2026-11-30"])]
    report_count: Annotated[int, Field(examples=[30])]
    outlet_count: Annotated[int, Field(examples=[1])]
    open_days: Annotated[int, Field(examples=[0])]
    gap_detected: Annotated[bool, Field(examples=[False])]


class AskedPeriod(Asked):
    """Which days: a period and any day in it, or from and to."""

    outlet_id: Annotated[
        str | None,
        Field(
            pattern=pattern("out"),
            description="Only this outlet's; without it all you may see.",
            examples=[OUTLET_ID],
        ),
    ] = None
    period: Annotated[
        Period | None, Field(description="A calendar period; with `of`.", examples=["month"])
    ] = None
    of: Annotated[
        BusinessDay | None, Field(description="Any day of that period.", examples=["2026-11-21"])
    ] = None
    first: Annotated[
        BusinessDay | None,
        Field(alias="from", description="The first business day.", examples=["2026-11-01"]),
    ] = None
    last: Annotated[
        BusinessDay | None,
        Field(alias="to", description="The last business day.", examples=["2026-11-30"]),
    ] = None
    format_: WantedFormat = FileFormat.JSON

    @model_validator(mode="after")
    def _names_its_days(self) -> Self:
        named = (self.period is not None, self.of is not None)
        ranged = (self.first is not None, self.last is not None)
        if (named, ranged) not in (((True, True), (False, False)), ((False, False), (True, True))):
            raise ValueError("send period and of, or from and to")
        first, last = self.days()
        if not 0 <= (last - first).days < MAX_DAYS:
            raise ValueError(f"from and to span 1 to {MAX_DAYS} days")
        return self

    def days(self) -> tuple[date, date]:
        """The first and the last day."""
        if self.period is not None and self.of is not None:
            return bounds(self.period, self.of)
        assert self.first is not None, "validated"
        assert self.last is not None, "validated"
        return self.first, self.last


class AskedDays(_Days):
    """Which outlet, and which business days."""

    outlet_id: OutletId

    def arguments(self) -> dict[str, Any]:
        """The arguments of every list by days."""
        return {
            "outlet_id": self.outlet_id,
            "first_date": self.first.isoformat(),
            "last_date": self.last.isoformat(),
        }


class AskedAudit(AskedDays):
    """And which of its archives, 31 days each."""

    chunk_index: Annotated[
        int, Field(ge=1, le=12, description="Which archive, from 1 on.", examples=[1])
    ] = 1

    def arguments(self) -> dict[str, Any]:
        """What fiscal.export_range takes."""
        return super().arguments() | {"chunk_index": self.chunk_index}


class AskedArticles(AskedDays):
    """And from where on, or as a file."""

    format_: Annotated[
        Literal["json", "csv"],
        Field(alias="format", description="JSON by pages, or all as CSV.", examples=["csv"]),
    ] = "json"
    limit: Annotated[
        int, Field(ge=1, le=500, description="How many ledger entries a page covers.")
    ] = 100
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9][0-9]{0,17}$",
            description="`next_cursor` of the page before.",
            examples=["100"],
        ),
    ] = None


class Article(BaseModel):
    """One line of one document. base and tax are absent where tax is rounded by group."""

    fiscal_number: Annotated[str, Field(examples=["STL-KIN001-000001"])]
    invoice_ref: Annotated[str | None, Field(examples=["A-17"])]
    invoice_type: Annotated[str, Field(examples=["sale"])]
    sealed_at: Time
    currency: CurrencyCode
    client_classification: Annotated[str, Field(examples=["individual"])]
    line_no: Annotated[int, Field(examples=[1])]
    code: Annotated[str, Field(examples=["CONS-001"])]
    description: Annotated[str, Field(examples=["Consulting hours"])]
    quantity: Annotated[str, Field(examples=["2"])]
    unit_price: Annotated[str, Field(examples=["500.00"])]
    line_base: Annotated[str | None, Field(examples=["1000.00"])]
    tax_group: Annotated[str, Field(examples=["TG03"])]
    tax_rate: Annotated[str, Field(examples=["0.16"])]
    tax_amount: Annotated[str | None, Field(examples=["160.00"])]
    line_total: Annotated[str, Field(examples=["1160.00"])]


class EntryPagination(BaseModel):
    """How to get the next page."""

    limit: Annotated[int, Field(examples=[100])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["100"])]


class ArticlePage(BaseModel):
    """What was sold, oldest first."""

    data: list[Article]
    pagination: EntryPagination
