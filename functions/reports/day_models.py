"""The wire shapes of business days: X and Z. Of a Z the ledger has the hash of its sealed body."""

from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from functions.reports.figures import (
    OUTLET_ID,
    Amount,
    Asked,
    BusinessDay,
    CurrencyCode,
    Figures,
    MethodTotal,
    OutletId,
    Report,
    Time,
    WantedFormat,
)
from functions.reports.files import FileFormat
from shared.ids import pattern

REPORT_ID: Final = "rep_01kaj3vq1nfr5r3e2n9v4d8yzx"
HASH: Final = "f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"

Hash = Annotated[str, Field(examples=[HASH])]


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
    payment_totals: list[MethodTotal] = Field(default=[])
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


class ReportFilters(Asked):
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


class XReport(Report):
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


class AskedX(Asked):
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
