"""The wire shapes of /refunds. Money is a decimal string beside its currency."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from shared.http.texts import Metadata, Reason
from shared.ids import pattern

REFUND_ID: Final = "tr_01kaj4b2c7e9x8vwq3m5n6p7r8"
_INTENT_ID: Final = "pi_01kaj3v7wvf4fr8mnp5sye2s6k"
_TRANSFER_ID: Final = "tr_01kaj3vq1nfr5r3e2n9v4d8yzx"

CREATED: Final[dict[str, Any]] = {
    "id": REFUND_ID,
    "object": "refund",
    "status": "pending",
    "amount": "40.00",
    "currency": "KES",
    "payment_intent": _INTENT_ID,
    "transfer": _TRANSFER_ID,
    "rail": "mpesa",
    "method": "payout",
    "payee": "+2547******78",
    "reason": "One of two items was out of stock",
    "receipt": None,
    "failure": None,
    "needs_review": False,
    "metadata": {"return": "R-7"},
    "environment": "sandbox",
    "created_at": "2026-11-21T09:00:00.123456+00:00",
    "settled_at": None,
}
SUCCEEDED: Final = CREATED | {
    "status": "succeeded",
    "receipt": "UKL6R4WY2P",
    "settled_at": "2026-11-21T09:00:04.735179+00:00",
}
WAITING: Final = CREATED | {"status": "pending_approval", "amount": "60000.00"}
REJECTED: Final = WAITING | {
    "status": "rejected",
    "failure": {
        "code": "APPROVAL_REJECTED",
        "message": "A second person said no.",
        "rail_code": None,
        "retryable": False,
        "retry_after": None,
    },
}


class CreateRefund(BaseModel):
    """What goes back: of a payment intent, or of one transfer; all that is left unless told."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "payment_intent": _INTENT_ID,
                    "amount": "40.00",
                    "currency": "KES",
                    "reason": "One of two items was out of stock",
                    "metadata": {"return": "R-7"},
                }
            ]
        },
    )

    payment_intent: Annotated[str, Field(pattern=pattern("pi"))] | None = None
    transfer: Annotated[str, Field(pattern=pattern("tr"))] | None = None
    amount: Annotated[str, Field(max_length=32)] | None = None
    currency: Annotated[str, Field(max_length=8)] | None = None
    reason: Reason | None = None
    method: Annotated[
        Literal["reversal", "payout"] | None,
        Field(description="How; by default a reversal where the rail allows it, else a payout."),
    ] = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _one_payment_and_whole_money(self) -> "CreateRefund":
        if (self.payment_intent is None) == (self.transfer is None):
            raise ValueError("give payment_intent or transfer, and not both")
        if (self.amount is None) != (self.currency is None):
            raise ValueError("give amount and currency together")
        return self


class Decide(BaseModel):
    """Why, for the record."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[Reason, Field(examples=["Seen the returned goods"])]


class Failure(BaseModel):
    """Why nothing went back."""

    code: str
    message: str
    rail_code: str | None
    retryable: bool
    retry_after: int | None


class Refund(BaseModel):
    """Money on its way back to the payer, and how far it got."""

    model_config = ConfigDict(json_schema_extra={"examples": [CREATED]})

    id: str
    object: Literal["refund"]
    status: Literal[
        "pending_approval", "rejected", "lapsed", "pending", "succeeded", "failed", "returned"
    ]
    amount: str
    currency: str
    payment_intent: str | None
    transfer: str
    rail: str
    method: Literal["reversal", "payout"]
    payee: str | None
    reason: str | None
    receipt: str | None
    failure: Failure | None
    needs_review: bool
    metadata: dict[str, str]
    environment: Literal["sandbox", "production"]
    created_at: datetime
    settled_at: datetime | None


class RefundPages(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=[f"1795248000123456.{REFUND_ID}"])]


class RefundPage(BaseModel):
    """Newest first."""

    data: list[Refund]
    pagination: RefundPages


class RefundFilters(BaseModel):
    """The query parameters of GET /refunds. All must hold."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many refunds a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,18}\.tr_[0-9a-z]{26}$",
            description="`next_cursor` of the page before.",
        ),
    ] = None
    payment_intent: Annotated[
        str | None, Field(pattern=pattern("pi"), description="Only refunds of this intent.")
    ] = None
    transfer: Annotated[
        str | None, Field(pattern=pattern("tr"), description="Only refunds of this transfer.")
    ] = None
    approval: Annotated[
        Literal["pending", "approved", "rejected", "lapsed"] | None,
        Field(description="Only refunds about which a second person has (not yet) decided so."),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of payments.list_transfers."""
        return {
            "purposes": ["refund"],
            "filters": self.model_dump(exclude={"limit", "cursor"}, exclude_none=True),
            "page_size": self.limit,
            "page_after": self.cursor,
        }
