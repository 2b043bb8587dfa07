"""The wire shapes of /payouts. Money is a decimal string beside its currency."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.http.texts import Metadata, Reason, Storable

PAYOUT_ID: Final = "tr_01kaj5d4e9g1z0xys5q7r8t9v0"

CREATED: Final[dict[str, Any]] = {
    "id": PAYOUT_ID,
    "object": "payout",
    "status": "pending",
    "amount": "1500.00",
    "currency": "KES",
    "destination": {"type": "mpesa", "phone": "+2547******12"},
    "description": "Commission of November",
    "external_ref": "commission-2026-11-77",
    "receipt": None,
    "failure": None,
    "needs_review": False,
    "metadata": {"agent": "77"},
    "environment": "sandbox",
    "created_by": "key_01kaj2a1b3c5d7e9f0g2h4j6k8",
    "approval": None,
    "created_at": "2026-11-21T09:10:00.123456+00:00",
    "settled_at": None,
}
SUCCEEDED: Final = CREATED | {
    "status": "succeeded",
    "receipt": "UKL7T6ZR3Q",
    "settled_at": "2026-11-21T09:10:03.735179+00:00",
}
WAITING: Final = CREATED | {
    "status": "pending_approval",
    "amount": "60000.00",
    "approval": {"status": "pending", "by": None, "at": None, "reason": None},
}
_DECIDED: Final = {
    "by": "user:5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11",
    "at": "2026-11-21T09:12:00.123456+00:00",
}
APPROVED: Final = WAITING | {
    "status": "pending",
    "approval": {"status": "approved", "reason": "Invoice 12 seen", **_DECIDED},
}
REJECTED: Final = WAITING | {
    "status": "rejected",
    "approval": {"status": "rejected", "reason": "Paid in cash already", **_DECIDED},
    "failure": {
        "code": "APPROVAL_REJECTED",
        "message": "A second person said no.",
        "rail_code": None,
        "retryable": False,
        "retry_after": None,
    },
}


Description = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), Storable
]
ExternalRef = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128), Storable
]


class Destination(BaseModel):
    """A mobile money account: the rail, and the payee's phone in any form people type.

    `name` is whose it is; organisations whose payees are screened give it for each new one.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Annotated[str, Field(max_length=32, examples=["mpesa"])]
    phone: Annotated[str, Field(max_length=32, examples=["0712 345 612"])]
    name: (
        Annotated[
            str,
            StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
            Storable,
        ]
        | None
    ) = None


class CreatePayout(BaseModel):
    """What to send out. `external_ref` is yours, and unique: a second payout with it is refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "amount": "1500.00",
                    "currency": "KES",
                    "destination": {"type": "mpesa", "phone": "0712 345 612"},
                    "description": "Commission of November",
                    "external_ref": "commission-2026-11-77",
                    "metadata": {"agent": "77"},
                }
            ]
        },
    )

    amount: Annotated[str, Field(max_length=32)]
    currency: Annotated[str, Field(max_length=8)]
    destination: Destination
    description: Description | None = None
    external_ref: ExternalRef | None = None
    metadata: Metadata = {}


class Decide(BaseModel):
    """Why, for the record."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[Reason, Field(examples=["Invoice 12 seen"])]


class Failure(BaseModel):
    """Why nothing was paid out."""

    code: str
    message: str
    rail_code: str | None
    retryable: bool
    retry_after: int | None


class Approval(BaseModel):
    """Whether a second person decided, who, and why."""

    status: Literal["pending", "approved", "rejected", "lapsed"]
    by: str | None
    at: datetime | None
    reason: str | None


class PaidTo(BaseModel):
    """Where it goes; the phone masked."""

    type: str
    phone: str


class Payout(BaseModel):
    """Money on its way out, and how far it got."""

    model_config = ConfigDict(json_schema_extra={"examples": [CREATED]})

    id: str
    object: Literal["payout"]
    status: Literal[
        "pending_approval", "rejected", "lapsed", "pending", "succeeded", "failed", "returned"
    ]
    amount: str
    currency: str
    destination: PaidTo
    description: str | None
    external_ref: str | None
    receipt: str | None
    failure: Failure | None
    needs_review: bool
    metadata: dict[str, str]
    environment: Literal["sandbox", "production"]
    created_by: str
    approval: Approval | None
    created_at: datetime
    settled_at: datetime | None


class PayoutPages(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=[f"1795248000123456.{PAYOUT_ID}"])]


class PayoutPage(BaseModel):
    """Newest first."""

    data: list[Payout]
    pagination: PayoutPages


class PayoutFilters(BaseModel):
    """The query parameters of GET /payouts. All must hold."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many payouts a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,18}\.tr_[0-9a-z]{26}$",
            description="`next_cursor` of the page before.",
        ),
    ] = None
    external_ref: Annotated[
        ExternalRef | None, Field(description="Only the payout with this reference of yours.")
    ] = None
    approval: Annotated[
        Literal["pending", "approved", "rejected", "lapsed"] | None,
        Field(description="Only payouts about which a second person has (not yet) decided so."),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of payments.list_transfers."""
        return {
            "purposes": ["payout"],
            "filters": self.model_dump(exclude={"limit", "cursor"}, exclude_none=True),
            "page_size": self.limit,
            "page_after": self.cursor,
        }


class AskBalance(BaseModel):
    """Which rail to ask."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rail: Annotated[str, Field(max_length=32, examples=["mpesa"])] = "mpesa"


class Account(BaseModel):
    """One account at the rail; below zero when it is overdrawn."""

    name: Annotated[str, Field(examples=["Utility Account"])]
    currency: Annotated[str, Field(examples=["KES"])]
    available: Annotated[str, Field(examples=["12500.00"])]
    uncleared: Annotated[str | None, Field(examples=["0.00"])]
    reserved: Annotated[str | None, Field(examples=["0.00"])]


class Balance(BaseModel):
    """What the rail said when it was asked; `pending` until it calls back."""

    id: Annotated[str, Field(examples=["bal_01kaj5f6g7h8j9k0m1n2p3q4r5"])]
    object: Literal["rail_balance"]
    rail: Annotated[str, Field(examples=["mpesa"])]
    status: Annotated[Literal["pending", "told", "failed"], Field(examples=["told"])]
    accounts: list[Account] | None
    problem: Annotated[str | None, Field(examples=["The initiator may not ask for this"])]
    environment: Literal["sandbox", "production"]
    requested_at: datetime
    told_at: datetime | None
