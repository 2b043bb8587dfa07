"""The wire shapes of /transfers. Money is a decimal string beside its currency."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from shared.errors import InvalidRequest
from shared.http.instants import Instant
from shared.http.texts import Metadata, Reason, Storable
from shared.ids import pattern

TRANSFER_ID: Final = "tr_01kaj6f6g1h3j2az0v7s9w0x2y"

SETTLED: Final[dict[str, Any]] = {
    "id": TRANSFER_ID,
    "object": "transfer",
    "purpose": "direct",
    "intent": "PULL",
    "state": "SETTLED",
    "rail": "mpesa",
    "amount": "250.00",
    "currency": "KES",
    "returned_amount": "0.00",
    "payer": "+2547******78",
    "payee": None,
    "payment_intent": None,
    "related_transfer": None,
    "external_ref": "till-4-0077",
    "end_user_ref": "C-77",
    "description": "Two tickets",
    "metadata": {"till": "4"},
    "rail_ref": "ws_CO_21112026120010345712345678",
    "receipt": "UKL8V8AS4R",
    "failure": None,
    "approval": None,
    "needs_review": False,
    "unallocated_reason": None,
    "late": False,
    "body_hash": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    "version": 3,
    "environment": "sandbox",
    "created_at": "2026-11-21T09:20:00.123456+00:00",
    "updated_at": "2026-11-21T09:20:09.735179+00:00",
    "submitted_at": "2026-11-21T09:20:00.123456+00:00",
    "settled_at": "2026-11-21T09:20:09.735179+00:00",
}
ACCEPTED: Final = SETTLED | {
    "state": "ACCEPTED",
    "receipt": None,
    "version": 2,
    "updated_at": "2026-11-21T09:20:00.623456+00:00",
    "settled_at": None,
}
WITH_EVENTS: Final = SETTLED | {
    "events": [
        {"seq": 0, "type": "transfer.initiated", "occurred_at": SETTLED["created_at"]},
        {"seq": 1, "type": "transfer.submitted", "occurred_at": SETTLED["created_at"]},
        {"seq": 2, "type": "transfer.accepted", "occurred_at": ACCEPTED["updated_at"]},
        {"seq": 3, "type": "transfer.settled", "occurred_at": SETTLED["updated_at"]},
    ]
}
WAITING: Final = SETTLED | {
    "intent": "PUSH",
    "state": "INITIATED",
    "amount": "60000.00",
    "payer": None,
    "payee": "+2547******12",
    "rail_ref": None,
    "receipt": None,
    "approval": "pending",
    "version": 0,
    "updated_at": SETTLED["created_at"],
    "submitted_at": None,
    "settled_at": None,
}
REJECTED: Final = WAITING | {
    "state": "FAILED",
    "approval": "rejected",
    "version": 1,
    "failure": {
        "code": "APPROVAL_REJECTED",
        "message": "A second person said no.",
        "rail_code": None,
        "retryable": False,
        "retry_after": None,
    },
}
DEPOSIT: Final = SETTLED | {
    "purpose": "c2b",
    "intent": "PUSH",
    "payer": "2547******126",
    "payment_intent": "pi_01kaj3v7wvf4fr8mnp5sye2s6k",
    "external_ref": None,
    "end_user_ref": None,
    "description": "shop",
    "metadata": {},
    "rail_ref": None,
    "body_hash": None,
}


Intent = Literal["AUTH", "CAPTURE", "PUSH", "PULL"]
State = Literal["INITIATED", "SUBMITTED", "ACCEPTED", "SETTLED", "RETURNED", "FAILED"]


# An empty string says as much as none: the canonical form drops it.
Reference = Annotated[str, StringConstraints(strip_whitespace=True, max_length=128), Storable]


class Party(BaseModel):
    """Who pays, or is paid. `id` of mobile money: the phone, in any form people type.

    Organisations whose parties are screened give the `name` of each new one.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Annotated[
        Literal["MOBILE_MONEY", "WALLET", "BANK", "CARD", "EXTERNAL"],
        Field(examples=["MOBILE_MONEY"]),
    ]
    id: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=64),
        Storable,
        Field(examples=["0712 345 678"]),
    ]
    provider: Annotated[str, Field(max_length=32, examples=["mpesa"])] | None = None
    name: (
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), Storable] | None
    ) = None


RailName = Annotated[str, StringConstraints(min_length=1, max_length=32), Storable]


class RoutingPolicy(BaseModel):
    """What the rail is chosen by; without one, the directory's own order holds.

    `optimize_for` weighs most, then `fallbacks` in their order, then what is left of the three.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    optimize_for: Annotated[
        Literal["cost", "speed", "reliability"], Field(examples=["reliability"])
    ]
    fallbacks: Annotated[list[Literal["cost", "speed", "reliability"]], Field(max_length=2)] = []
    preferred_methods: Annotated[list[RailName], Field(max_length=5)] = []
    excluded_rails: Annotated[list[RailName], Field(max_length=20)] = []


class CreateTransfer(BaseModel):
    """A canonical transfer. PULL asks `payer` to pay you, PUSH pays `payee` out of what is yours.

    One name in `rail_hints`, or else the party's `provider`, is the rail. With several or none the
    directory chooses, by `policy` if there is one: see `GET /directory/routes/{transfer_id}`.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "intent": "PULL",
                    "amount": "250.00",
                    "currency": "KES",
                    "payer": {"type": "MOBILE_MONEY", "id": "0712 345 678", "provider": "mpesa"},
                    "external_ref": "till-4-0077",
                    "end_user_ref": "C-77",
                    "description": "Two tickets",
                    "metadata": {"till": "4"},
                }
            ]
        },
    )

    intent: Intent
    amount: Annotated[str, StringConstraints(strip_whitespace=True, max_length=32)]
    currency: Annotated[str, StringConstraints(strip_whitespace=True, max_length=8)]
    source_currency: Annotated[str, StringConstraints(max_length=8)] | None = None
    target_currency: Annotated[str, StringConstraints(max_length=8)] | None = None
    fx_strategy: Literal["NOT_APPLICABLE"] = "NOT_APPLICABLE"
    payer: Party | None = None
    payee: Party | None = None
    rail_hints: Annotated[
        list[Annotated[str, StringConstraints(max_length=32)]], Field(max_length=3)
    ] = []
    policy: RoutingPolicy | None = None
    external_ref: Reference | None = None
    end_user_ref: Reference | None = None
    description: (
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), Storable] | None
    ) = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _who_and_in_what(self) -> "CreateTransfer":
        wanted = "payee" if self.intent == "PUSH" else "payer"
        if getattr(self, wanted) is None:
            raise ValueError(f"{self.intent} needs {wanted}")
        for name in ("source_currency", "target_currency"):
            other = getattr(self, name)
            if other is not None and other.strip().upper() != self.currency.strip().upper():
                raise ValueError(f"{name} differs from currency, which needs an fx_strategy")
        return self


class Failure(BaseModel):
    """Why no money moved."""

    code: str
    message: str
    rail_code: str | None
    retryable: bool
    retry_after: int | None


class Transfer(BaseModel):
    """One movement of money on one rail, whatever it is for, and how far it got."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACCEPTED]})

    id: str
    object: Literal["transfer"]
    purpose: Literal["collection", "refund", "payout", "direct", "c2b"]
    intent: Intent
    state: State
    rail: str
    amount: str
    currency: str
    returned_amount: str
    payer: str | None
    payee: str | None
    payment_intent: str | None
    related_transfer: str | None
    external_ref: str | None
    end_user_ref: str | None
    description: str | None
    metadata: dict[str, str]
    rail_ref: str | None
    receipt: str | None
    failure: Failure | None
    approval: Literal["pending", "approved", "rejected", "lapsed"] | None
    needs_review: bool
    unallocated_reason: str | None
    late: bool
    body_hash: str | None
    version: int
    environment: Literal["sandbox", "production"]
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime | None
    settled_at: datetime | None


class NumberedEvent(BaseModel):
    """That something happened, and when."""

    seq: int
    type: str
    occurred_at: datetime


class TransferWithEvents(Transfer):
    """The transfer with its numbered events."""

    model_config = ConfigDict(json_schema_extra={"examples": [WITH_EVENTS]})

    events: list[NumberedEvent]


class TransferEvent(BaseModel):
    """One thing that happened to a transfer, and what was told about it."""

    id: Annotated[str, Field(examples=["evt_01kaj6f6g1h3j2az0v7s9w0x30"])]
    type: Annotated[str, Field(examples=["transfer.settled"])]
    subject: Annotated[str, Field(examples=[TRANSFER_ID])]
    seq: Annotated[int, Field(examples=[3])]
    data: Annotated[
        dict[str, Any],
        Field(
            examples=[
                {
                    "transfer_id": TRANSFER_ID,
                    "purpose": "direct",
                    "intent": "PULL",
                    "rail": "mpesa",
                    "state": "SETTLED",
                    "amount": "250.00",
                    "currency": "KES",
                    "receipt": "UKL8V8AS4R",
                    "triggered_by": "callback",
                }
            ]
        ),
    ]
    occurred_at: datetime


class TransferEvents(BaseModel):
    """In order."""

    data: list[TransferEvent]


class TransferPages(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=[f"1795248000123456.{TRANSFER_ID}"])]


class TransferPage(BaseModel):
    """Newest first."""

    data: list[Transfer]
    pagination: TransferPages


class TransferFilters(BaseModel):
    """The query parameters of GET /transfers: all must hold; of a repeated one, any value."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=250, description="How many transfers a page holds.")] = 50
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,18}\.tr_[0-9a-z]{26}$",
            description="`next_cursor` of the page before.",
        ),
    ] = None
    purpose: Annotated[
        list[Literal["collection", "refund", "payout", "direct", "c2b"]] | None,
        Field(description="Only transfers made for this."),
    ] = None
    state: Annotated[list[State] | None, Field(description="Only transfers in this state.")] = None
    intent: Annotated[list[Intent] | None, Field(description="Only transfers like this.")] = None
    rail: Annotated[
        list[Annotated[str, StringConstraints(max_length=32), Storable]] | None,
        Field(description="Only transfers on this rail."),
    ] = None
    payment_intent: Annotated[
        str | None, Field(pattern=pattern("pi"), description="Only transfers of this intent.")
    ] = None
    external_ref: Annotated[
        Reference | None, Field(description="Only the transfer with this reference of yours.")
    ] = None
    end_user_ref: Annotated[
        Reference | None, Field(description="Only transfers with this end user reference.")
    ] = None
    unallocated: Annotated[
        Literal["true"] | None,
        Field(description="Only deposits that wait for somebody to say what they pay for."),
    ] = None
    created_after: Annotated[Instant | None, Field(description="Created at or after this.")] = None
    created_before: Annotated[Instant | None, Field(description="Created before this.")] = None
    updated_after: Annotated[Instant | None, Field(description="Changed at or after this.")] = None
    updated_before: Annotated[Instant | None, Field(description="Changed before this.")] = None

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of payments.list_transfers."""
        filters = self.model_dump(
            mode="json", exclude={"limit", "cursor", "purpose"}, exclude_none=True
        )
        return {
            "purposes": self.purpose,
            "filters": filters,
            "page_size": self.limit,
            "page_after": self.cursor,
        }


class Decide(BaseModel):
    """Why, for the record."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[Reason, Field(examples=["Invoice 12 seen"])]


class Assign(BaseModel):
    """Which intent a deposit pays for, and how that is known."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payment_intent: Annotated[
        str, Field(pattern=pattern("pi"), examples=["pi_01kaj3v7wvf4fr8mnp5sye2s6k"])
    ]
    reason: Annotated[
        Reason, Field(examples=["The payer called: order 20418, wrong account number"])
    ]


class OpenDeposits(BaseModel):
    """On which rail payers may pay without being asked."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rail: Annotated[str, Field(max_length=32, examples=["mpesa"])] = "mpesa"


class DepositRegistration(BaseModel):
    """The rail reports deposits to us from now on."""

    object: Literal["deposit_registration"]
    rail: Annotated[str, Field(examples=["mpesa"])]
    environment: Literal["sandbox", "production"]
    registered_at: datetime


def invalid(pointer: str, rule: str) -> InvalidRequest:
    """The refusal of one field of the body."""
    return InvalidRequest(
        f"{pointer.lstrip('/')}: {rule}", errors=[{"pointer": pointer, "detail": rule}]
    )
