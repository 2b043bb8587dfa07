"""The wire shapes of /reports. The sealed body of a Z is the text whose hash is in the ledger."""

from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from functions.reports.files import FileFormat
from functions.reports.periods import Period, bounds
from shared.http.instants import Day
from shared.ids import pattern

OUTLET_ID = "out_01kaj3vq1nfr5r3e2n9v4d8yzx"
REPORT_ID = "rep_01kaj3vq1nfr5r3e2n9v4d8yzx"
HASH = "f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"

MAX_DAYS: Final = 366

OutletId = Annotated[
    str, Field(pattern=pattern("out"), description="The outlet.", examples=[OUTLET_ID])
]
# Days a calendar can count on from, and to.
BusinessDay = Annotated[Day, Field(ge=date(2020, 1, 1), lt=date(2200, 1, 1))]
Amount = Annotated[str, Field(examples=["1000.00"])]
Count = Annotated[int, Field(examples=[3])]
Hash = Annotated[str, Field(examples=[HASH])]
Time = Annotated[str, Field(examples=["2026-11-21T23:00:00Z"])]
Treatment = Annotated[str, Field(examples=["standard"])]
CurrencyCode = Annotated[str, Field(examples=["CDF"])]


WantedFormat = Annotated[
    FileFormat, Field(alias="format", description="What the report is written in.")
]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Days(_Query):
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


class CloseDay(BaseModel):
    """The business day to close. Without a date: the one the outlet is in."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"type": "z", "outlet_id": OUTLET_ID}]},
    )

    type: Literal["z"]
    outlet_id: OutletId
    business_date: Annotated[BusinessDay, Field(examples=["2026-11-21"])] | None = None


class Taxed(BaseModel):
    """A base and its tax."""

    base: Amount
    tax: Annotated[str, Field(examples=["160.00"])]


class TaxTotal(BaseModel):
    """One tax group in one currency: sales, credits, and sales less credits."""

    currency: CurrencyCode
    code: Annotated[str, Field(examples=["TG03"])]
    rate: Annotated[str, Field(examples=["0.16"])]
    treatment: Treatment
    sales: Taxed
    credits: Taxed
    net: Taxed


class Sum(BaseModel):
    """What documents come to."""

    subtotal: Amount
    total_tax: Annotated[str, Field(examples=["160.00"])]
    total: Annotated[str, Field(examples=["1160.00"])]


class GrandTotal(BaseModel):
    """All documents in one currency."""

    currency: CurrencyCode
    sales: Sum
    credits: Sum
    net: Sum


class Paid(BaseModel):
    """What was paid."""

    amount: Annotated[str, Field(examples=["1160.00"])]


class PaymentTotal(BaseModel):
    """One means of payment in the currency it was paid in; credits are what went back."""

    method: Annotated[str, Field(examples=["cash"])]
    currency: CurrencyCode
    sales: Paid
    credits: Paid
    net: Paid


class MethodTotal(BaseModel):
    """What documents in one currency come to by one means of payment.

    A document paid by several is divided in proportion, to the cent: all methods together are the
    grand totals.
    """

    method: Annotated[str, Field(examples=["cash"])]
    currency: CurrencyCode
    sales: Sum
    credits: Sum
    net: Sum


class ReturnGroup(BaseModel):
    """One tax group in the currency of the tax return, each document at its own rate."""

    code: Annotated[str, Field(examples=["TG03"])]
    rate: Annotated[str, Field(examples=["0.16"])]
    treatment: Treatment
    sales: Taxed
    credits: Taxed
    net: Taxed


class ReturnTreatment(BaseModel):
    """All groups of one treatment: taxed, exempt, zero-rated as exports are."""

    treatment: Treatment
    sales: Taxed
    credits: Taxed
    net: Taxed


class SealedTax(BaseModel):
    """Tax in the return's currency as the documents say it, rounded once per document."""

    tax_as_sealed: Annotated[str, Field(examples=["160.00"])]


class TaxReturn(BaseModel):
    """What a tax return asks for, in its currency."""

    currency: CurrencyCode
    groups: list[ReturnGroup]
    by_treatment: list[ReturnTreatment]
    sales: SealedTax
    credits: SealedTax
    net: SealedTax


class Figures(BaseModel):
    """Counts and sums of documents; every tax group in force is there, zeros too."""

    invoice_count: Count
    credit_count: Annotated[int, Field(examples=[0])]
    counts_by_type: Annotated[dict[str, int], Field(examples=[{"sale": 3, "credit_note": 0}])]
    tax_totals: list[TaxTotal]
    grand_totals: list[GrandTotal]
    payments: list[PaymentTotal]
    payment_totals: list[MethodTotal]
    tax_return: TaxReturn


class Perpetual(BaseModel):
    """Everything an outlet ever sold in one currency."""

    currency: CurrencyCode
    sales: Amount
    credits: Annotated[str, Field(examples=["0.00"])]
    net: Amount
    tax: Annotated[str, Field(examples=["160.00"])]


class ZBody(Figures):
    """A closed business day. first_entry to last_entry are places in the outlet's chain."""

    schema_version: Annotated[
        Literal["1.0", "1.1"], Field(description="1.0 had no payment_totals.", examples=["1.1"])
    ]
    payment_totals: list[MethodTotal] = []
    report_type: Literal["z"]
    report_no: Annotated[int, Field(examples=[1])]
    fiscal_number: Annotated[str, Field(examples=["Z-KIN001-000001"])]
    environment: Annotated[Literal["sandbox", "production"], Field(examples=["sandbox"])]
    jurisdiction: Annotated[str, Field(examples=["CD"])]
    merchant_tin: Annotated[str, Field(examples=["308123456"])]
    merchant_name: Annotated[str, Field(examples=["Acacia Books"])]
    outlet_id: Annotated[str, Field(examples=[OUTLET_ID])]
    outlet_code: Annotated[str, Field(examples=["KIN001"])]
    outlet_name: Annotated[str, Field(examples=["Gombe"])]
    fiscal_authority_id: Annotated[str, Field(examples=["stalela-cd-01"])]
    business_date: Annotated[date, Field(examples=["2026-11-21"])]
    time_zone: Annotated[str, Field(examples=["Africa/Kinshasa"])]
    cut_off_hour: Annotated[int, Field(examples=[0])]
    opened_at: Time
    closed_at: Time
    generated_at: Time
    first_entry: Annotated[int, Field(examples=[1])]
    last_entry: Annotated[int, Field(examples=[3])]
    sequence_start: Annotated[int, Field(examples=[1])] = 0
    sequence_end: Annotated[int, Field(examples=[3])] = 0
    gap_detected: Annotated[bool, Field(examples=[False])]
    offline_count: Annotated[
        int, Field(description="Of these, sealed by a terminal offline.", examples=[0])
    ]
    opening_hash: Hash
    closing_hash: Hash
    previous_z_hash: Hash
    perpetual_totals: list[Perpetual]


class Sealed(BaseModel):
    """The seal of the report's entry in the ledger."""

    fiscal_authority_id: Annotated[str, Field(examples=["stalela-cd-01"])]
    sealed_at: Time
    auth_code: Annotated[str, Field(examples=["K56Y-BV6M-60QQ-5NM4"])]
    signature: Annotated[str, Field(examples=["iDu6ayrlq8NSybWEUPDVXudNMolbJpW2sCSn3sOBr55"])]
    signature_alg: Annotated[Literal["ES256", "PS256", "RS256"], Field(examples=["ES256"])]
    key_id: Annotated[str, Field(examples=["cd-es256-2026-01"])]
    canonical_payload_hash: Hash
    previous_hash: Hash
    ledger_hash: Hash


class ZReport(BaseModel):
    """A Z. `sealed` is null until it is signed, some seconds after the day was closed."""

    id: Annotated[str, Field(examples=[REPORT_ID])]
    object: Literal["report"]
    type: Literal["z"]
    status: Annotated[Literal["pending_signature", "signed"], Field(examples=["signed"])]
    fiscal_number: Annotated[str, Field(examples=["Z-KIN001-000001"])]
    outlet_id: Annotated[str, Field(examples=[OUTLET_ID])]
    business_date: Annotated[date, Field(examples=["2026-11-21"])]
    sealed: Sealed | None
    report: ZBody
    closed_by: Annotated[str, Field(examples=["system"])]
    environment: Annotated[Literal["sandbox", "production"], Field(examples=["sandbox"])]
    created_at: datetime


class Pagination(BaseModel):
    """How to get the next page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=[REPORT_ID])]


class ZReportPage(BaseModel):
    """Z reports, newest first."""

    data: list[ZReport]
    pagination: Pagination


class ReportFilters(_Query):
    """Which Z reports, and from where on."""

    outlet_id: Annotated[
        str | None,
        Field(pattern=pattern("out"), description="Only this outlet's.", examples=[OUTLET_ID]),
    ] = None
    first: Annotated[
        BusinessDay | None,
        Field(alias="from", description="Not before this business day.", examples=["2026-11-01"]),
    ] = None
    last: Annotated[
        BusinessDay | None,
        Field(alias="to", description="Not after this business day.", examples=["2026-11-30"]),
    ] = None
    limit: Annotated[
        int, Field(ge=1, le=100, description="How many reports a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=pattern("rep"),
            description="`next_cursor` of the page before.",
            examples=[REPORT_ID],
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What fiscal.list_reports takes."""
        filters = self.model_dump(
            mode="json", exclude_none=True, by_alias=True, exclude={"limit", "cursor"}
        )
        return {"filters": filters, "page_size": self.limit, "page_after": self.cursor}


class PlatformStatus(BaseModel):
    """What the outlet's documents wait for, and its next number."""

    signer: Annotated[Literal["ok", "failing"], Field(examples=["ok"])]
    pending_signature: Annotated[int, Field(examples=[0])]
    pending_sync: Annotated[int, Field(examples=[0])]
    next_sequence: Annotated[int, Field(examples=[4])]


class _About(Figures):
    object: Literal["report"]
    environment: Annotated[Literal["sandbox", "production"], Field(examples=["sandbox"])]
    jurisdiction: Annotated[str, Field(examples=["CD"])]
    merchant_tin: Annotated[str, Field(examples=["308123456"])]
    merchant_name: Annotated[str, Field(examples=["Acacia Books"])]
    generated_at: Time


class XReport(_About):
    """The business day so far. Sequences are absent for one cashier's or terminal's part."""

    report_type: Literal["x"]
    outlet_id: Annotated[str, Field(examples=[OUTLET_ID])]
    outlet_code: Annotated[str, Field(examples=["KIN001"])]
    outlet_name: Annotated[str, Field(examples=["Gombe"])]
    fiscal_authority_id: Annotated[str, Field(examples=["stalela-cd-01"])]
    time_zone: Annotated[str, Field(examples=["Africa/Kinshasa"])]
    period_id: Annotated[date, Field(examples=["2026-11-21"])]
    cashier_id: Annotated[str, Field(examples=["cashier-07"])] = ""
    pos_terminal_id: Annotated[str, Field(examples=["pos-02"])] = ""
    opened_at: Time
    first_entry: Annotated[int, Field(examples=[1])]
    last_entry: Annotated[int, Field(examples=[3])]
    sequence_start: Annotated[int, Field(examples=[1])] = 0
    sequence_end: Annotated[int, Field(examples=[3])] = 0
    gap_detected: Annotated[bool, Field(examples=[False])] = False
    platform_status: PlatformStatus


class AskedX(_Query):
    """Whose day, and as what file."""

    outlet_id: OutletId
    cashier_id: Annotated[
        str | None,
        Field(max_length=64, description="Only this cashier's.", examples=["cashier-07"]),
    ] = None
    pos_terminal_id: Annotated[
        str | None, Field(max_length=64, description="Only this terminal's.", examples=["pos-02"])
    ] = None
    format_: WantedFormat = FileFormat.JSON

    def arguments(self) -> dict[str, Any]:
        """What fiscal.x_report takes."""
        return self.model_dump(include={"outlet_id", "cashier_id", "pos_terminal_id"})


class PeriodicReport(_About):
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


class AskedPeriod(_Query):
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
