"""The wire shapes of /reports. The sealed body of a Z is the text whose hash is in the ledger."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.http.instants import Day
from shared.ids import pattern

OUTLET_ID = "out_01kaj3vq1nfr5r3e2n9v4d8yzx"
REPORT_ID = "rep_01kaj3vq1nfr5r3e2n9v4d8yzx"
HASH = "f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"

OutletId = Annotated[
    str, Field(pattern=pattern("out"), description="The outlet.", examples=[OUTLET_ID])
]
Amount = Annotated[str, Field(examples=["1000.00"])]
Count = Annotated[int, Field(examples=[3])]
Hash = Annotated[str, Field(examples=[HASH])]
Time = Annotated[str, Field(examples=["2026-11-21T23:00:00Z"])]
CurrencyCode = Annotated[str, Field(examples=["CDF"])]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CloseDay(BaseModel):
    """The business day to close. Without a date: the one the outlet is in."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"type": "z", "outlet_id": OUTLET_ID}]},
    )

    type: Literal["z"]
    outlet_id: OutletId
    business_date: Annotated[Day, Field(examples=["2026-11-21"])] | None = None


class Taxed(BaseModel):
    """A base and its tax."""

    base: Amount
    tax: Annotated[str, Field(examples=["160.00"])]


class TaxTotal(BaseModel):
    """One tax group in one currency: sales, credits, and sales less credits."""

    currency: CurrencyCode
    code: Annotated[str, Field(examples=["TG03"])]
    rate: Annotated[str, Field(examples=["0.16"])]
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
    """One means of payment in one currency; credits are what went back."""

    method: Annotated[str, Field(examples=["cash"])]
    currency: CurrencyCode
    sales: Paid
    credits: Paid
    net: Paid


class ReturnGroup(BaseModel):
    """One tax group in the currency of the tax return, each document at its own rate."""

    code: Annotated[str, Field(examples=["TG03"])]
    rate: Annotated[str, Field(examples=["0.16"])]
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

    schema_version: Literal["1.0"]
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
        Day | None,
        Field(alias="from", description="Not before this business day.", examples=["2026-11-01"]),
    ] = None
    last: Annotated[
        Day | None,
        Field(alias="to", description="Not after this business day.", examples=["2026-11-30"]),
    ] = None
    limit: Annotated[
        int, Field(ge=1, le=100, description="How many reports a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        str | None,
        Field(max_length=64, description="`next_cursor` of the page before.", examples=[REPORT_ID]),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What fiscal.list_reports takes."""
        filters = self.model_dump(
            mode="json", exclude_none=True, by_alias=True, exclude={"limit", "cursor"}
        )
        return {"filters": filters, "page_size": self.limit, "page_after": self.cursor}
