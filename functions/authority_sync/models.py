"""The wire shapes of /authority-sync."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel, StringConstraints

Environment = Literal["sandbox", "production"]
SyncStatus = Annotated[
    Literal["PENDING", "SUBMITTED", "RETRY", "SYNCED", "FAILED", "REJECTED", "NOT_APPLICABLE"],
    Field(examples=["RETRY"]),
]
Mode = Annotated[Literal["on", "read_only", "off"], Field(examples=["on"])]
OutletId = Annotated[str, Field(examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
InvoiceId = Annotated[str, Field(examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
DeviceId = Annotated[str, Field(examples=["dev_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
Jurisdiction = Annotated[str, Field(examples=["CD"])]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=3, max_length=500),
    Field(examples=["Looked at the authority's portal; it is not there"]),
]
ErrorCode = Annotated[str | None, Field(examples=["NO_ANSWER"])]
ErrorText = Annotated[str | None, Field(examples=["confirm: sent, and no whole answer came"])]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DeviceFacts(RootModel[dict[str, JsonValue]]):
    """What the authority gave the taxpayer for this outlet; each authority has its own fields."""

    model_config = ConfigDict(
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "token": "eyJhbGciOi…",
                    "nif": "A0712345B",
                    "nim": "CD01000042",
                    "isf": "SFE-0042",
                },
                {"device_id": "42", "serial_no": "SN0001", "activation_key": "12AXC178"},
            ]
        },
    )

    def __repr__(self) -> str:
        return "DeviceFacts(***)"


class SetConsent(_Body):
    """Whether we may submit the taxpayer's data to its authority."""

    is_given: bool


class Decision(_Body):
    """Why. `known_absent`: the authority's own list does not have the document, so send it anew."""

    reason: Reason
    known_absent: bool = False


class RetryFailed(_Body):
    """Why they may go now."""

    reason: Annotated[Reason, Field(examples=["KRA answers again"])]


class RetriedDocuments(BaseModel):
    """How many go again, and how many more of the outlet failed: repeat until none did."""

    object: Literal["authority_retry"]
    outlet_id: OutletId
    retried: Annotated[int, Field(examples=[500])]
    still_failed: Annotated[int, Field(examples=[112])]


class Withdrawal(_Body):
    """Why the authority need not hear of it, such as the document that corrects it."""

    reason: Reason


class SetSwitch(_Body):
    """How documents go to an authority from now on. Sealing never notices."""

    environment: Annotated[Environment, Field(examples=["production"])]
    mode: Mode
    reason: Reason


class Device(BaseModel):
    """What an outlet speaks to its authority as."""

    id: DeviceId
    object: Literal["authority_device"]
    outlet_id: OutletId
    jurisdiction: Jurisdiction
    authority_ref: Annotated[str, Field(examples=["CD01000042"])]
    credentials: Annotated[dict[str, str], Field(examples=[{"token": "******k0o7"}])]
    status: Annotated[Literal["active", "retired"], Field(examples=["active"])]
    expires_at: datetime | None
    checked_at: datetime | None
    last_error_code: ErrorCode
    last_error: ErrorText
    environment: Annotated[Environment, Field(examples=["sandbox"])]
    created_at: datetime
    updated_at: datetime


class Devices(BaseModel):
    """The devices of the caller's outlets."""

    data: list[Device]


class DayCounter(BaseModel):
    """What a day comes to by tax or by kind of money; `kind` is the authority's word."""

    kind: Annotated[str, Field(examples=["SaleByTax"])]
    currency: Annotated[str, Field(examples=["ZWG"])]
    amount: Annotated[str, Field(examples=["23.00"])]
    tax_id: Annotated[int | None, Field(examples=[517])]
    tax_percent: Annotated[str | None, Field(examples=["15.5"])]
    money_type: Annotated[str | None, Field(examples=[None])]


class FiscalDay(BaseModel):
    """A fiscal day as the authority counts them. `opened_at` is local time without a zone."""

    object: Literal["fiscal_day"]
    outlet_id: OutletId
    device_id: DeviceId
    number: Annotated[int, Field(examples=[20])]
    status: Annotated[
        Literal["open", "closing", "close_refused", "closed"], Field(examples=["closed"])
    ]
    opened_at: Annotated[str, Field(examples=["2026-11-21T08:02:11"])]
    closed_at: datetime | None
    receipts: Annotated[int, Field(examples=[412])]
    counters: list[DayCounter]
    last_error_code: Annotated[str | None, Field(examples=[None])]
    last_error: Annotated[str | None, Field(examples=[None])]
    environment: Annotated[Environment, Field(examples=["sandbox"])]


class DayPagination(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["12"])]


class FiscalDayPage(BaseModel):
    """The days of the device an outlet speaks as, newest first."""

    data: list[FiscalDay]
    pagination: DayPagination


class DayFilters(BaseModel):
    """From which day on."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[
        int, Field(ge=1, le=100, description="How many a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        int | None,
        Field(ge=1, lt=2**31, description="`next_cursor` of the page before.", examples=[12]),
    ] = None


class Consent(BaseModel):
    """What the taxpayer decided, and who said so."""

    object: Literal["authority_consent"]
    is_given: bool
    changed_by: Annotated[str, Field(examples=["user:5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"])]
    changed_at: datetime
    environment: Annotated[Environment, Field(examples=["sandbox"])]


class OutletStatus(BaseModel):
    """One outlet: what waits, since when, and what went wrong last."""

    outlet_id: OutletId
    device_id: DeviceId
    jurisdiction: Jurisdiction
    mode: Mode
    backlog: Annotated[int, Field(examples=[3])]
    oldest_age_s: Annotated[int | None, Field(examples=[41])]
    next_attempt_at: datetime | None
    failed: Annotated[int, Field(examples=[0])]
    rejected: Annotated[int, Field(examples=[0])]
    last_synced_at: datetime | None
    held_until: datetime | None
    last_error_code: ErrorCode
    last_error: ErrorText


class Status(BaseModel):
    """Every outlet that reports to an authority. Without `consent` nothing is sent."""

    object: Literal["authority_sync_status"]
    environment: Annotated[Environment, Field(examples=["sandbox"])]
    consent: bool
    outlets: list[OutletStatus]


class Submission(BaseModel):
    """A document, or the close of a fiscal day, on its way to the authority."""

    id: Annotated[str, Field(examples=["4711"])]
    object: Literal["authority_submission"]
    kind: Annotated[Literal["document", "day_close"], Field(examples=["document"])]
    outlet_id: OutletId
    jurisdiction: Jurisdiction
    invoice_id: InvoiceId | None
    fiscal_number: Annotated[str | None, Field(examples=["STL-KIN001-000001"])]
    invoice_type: Annotated[str | None, Field(examples=["sale"])]
    currency: Annotated[str | None, Field(examples=["CDF"])]
    total: Annotated[str | None, Field(examples=["1160.00"])]
    total_tax: Annotated[str | None, Field(examples=["160.00"])]
    status: SyncStatus
    attempts: Annotated[int, Field(examples=[2])]
    next_attempt_at: datetime | None
    last_error_code: ErrorCode
    last_error: ErrorText
    created_at: datetime


class Pagination(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["4711"])]


class SubmissionPage(BaseModel):
    """What is not at the authority, in the order it was sealed."""

    data: list[Submission]
    pagination: Pagination


class Filters(BaseModel):
    """Which submissions, and from where on."""

    model_config = ConfigDict(extra="forbid")

    outlet_id: Annotated[
        str | None,
        Field(
            max_length=64,
            description="Only this outlet's.",
            examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"],
        ),
    ] = None
    status: Annotated[
        Literal["PENDING", "SUBMITTED", "RETRY", "FAILED", "REJECTED", "NOT_APPLICABLE"] | None,
        Field(description="Only those in this state.", examples=["FAILED"]),
    ] = None
    limit: Annotated[
        int, Field(ge=1, le=100, description="How many a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        int | None,
        Field(ge=0, lt=2**63, description="`next_cursor` of the page before.", examples=[4711]),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What sync.list_open takes."""
        filters = self.model_dump(mode="json", exclude_none=True, exclude={"limit", "cursor"})
        return {"filters": filters, "page_size": self.limit, "after_id": self.cursor}


class Switch(BaseModel):
    """How documents go to an authority."""

    object: Literal["authority_switch"]
    jurisdiction: Jurisdiction
    environment: Annotated[Environment, Field(examples=["production"])]
    mode: Mode
    reason: Annotated[str, Field(examples=["Maintenance announced until Monday"])]
    changed_at: datetime


class Drained(BaseModel):
    """How many attempts were made."""

    attempted: Annotated[int, Field(examples=[3])]


class Checked(BaseModel):
    """How many devices were looked after."""

    checked: Annotated[int, Field(examples=[1])]


class Resealed(BaseModel):
    """How many credentials are under the current master key now, and how many do not open."""

    resealed: Annotated[int, Field(examples=[12])]
    failed: Annotated[int, Field(examples=[0])]
