"""The wire shapes of /reconcile."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

# A callback whose token no transfer has: what a forger or a stale link sends.
_EVENT = {
    "outcome": "succeeded",
    "source": "callback",
    "rail_ref": "ws_CO_21112026080012345712345678",
    "receipt": "UKL5K3VX1N",
    "amount_minor": 10000,
    "currency": "KES",
    "payer_masked": "+2547******78",
    "code": "0",
}


class Reconciled(BaseModel):
    """How many transfers were asked about."""

    asked: Annotated[int, Field(examples=[3])]


class ParkedCallback(BaseModel):
    """A callback that was kept but not believed, and why."""

    id: Annotated[int, Field(examples=[4711])]
    rail: Annotated[str, Field(examples=["mpesa"])]
    transfer_id: Annotated[str | None, Field(examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    reason: Annotated[str | None, Field(examples=["amount_mismatch"])]
    source_address: Annotated[str | None, Field(examples=["196.201.214.200"])]
    source_trusted: bool
    events: Annotated[list[dict[str, Any]] | None, Field(examples=[[_EVENT]])]
    received_at: datetime


class ParkedCallbacks(BaseModel):
    """Newest first; `before` with the last id gives the next page."""

    data: list[ParkedCallback]


class Review(BaseModel):
    """A transfer whose outcome, or part of it, a person must decide."""

    id: Annotated[str, Field(examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["transfer"]
    purpose: Annotated[str, Field(examples=["collection"])]
    payment_intent_id: Annotated[str | None, Field(examples=["pi_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    rail: Annotated[str, Field(examples=["mpesa"])]
    state: Annotated[str, Field(examples=["SUBMITTED"])]
    reason: Annotated[str, Field(examples=["rail_gave_no_reference"])]
    amount: Annotated[str, Field(examples=["100.00"])]
    currency: Annotated[str, Field(examples=["KES"])]
    told_amount: Annotated[
        str | None, Field(examples=["90.00"], description="What the rail says moved instead.")
    ]
    payer: Annotated[str | None, Field(examples=["+2547******78"])]
    payee: Annotated[str | None, Field(examples=["+2547******12"])]
    rail_ref: Annotated[str | None, Field(examples=["ws_CO_21112026080012345712345678"])]
    receipt: Annotated[str | None, Field(examples=["UKL5K3VX1N"])]
    submitted_at: datetime | None
    since: datetime


class Reviews(BaseModel):
    """Longest waiting first."""

    data: list[Review]


class Decision(BaseModel):
    """What a person found. `stands`: the state is right as it is, or the rail is asked again.

    `amount` with `currency`: what the rail's statement says moved, where the rail told no amount. A
    different amount that the rail told is booked by itself.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "outcome": "settled",
                    "receipt": "UKL5K3VX1N",
                    "reason": "On the organisation statement of 21 November, line 12",
                }
            ]
        },
    )

    outcome: Literal["settled", "failed", "stands"]
    amount: Annotated[str, Field(max_length=32, examples=["90.00"])] | None = None
    currency: Annotated[str, Field(max_length=8, examples=["KES"])] | None = None
    receipt: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{6,32}$")] | None = None
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)]

    @model_validator(mode="after")
    def _amount_with_currency(self) -> "Decision":
        if (self.amount is None) != (self.currency is None):
            raise ValueError("give amount and currency together")
        return self


class Resolved(BaseModel):
    """What the transfer was for, as it stands after the decision: an intent, a refund, a payout."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(examples=["pi_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    object: Literal["payment_intent", "refund", "payout", "transfer"]
    status: Annotated[str | None, Field(examples=["succeeded"])] = None
    amount: Annotated[str, Field(examples=["100.00"])]
    currency: Annotated[str, Field(examples=["KES"])]


class Accept(BaseModel):
    """How it is known that the money came."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=3, max_length=500),
        Field(examples=["On the organisation statement of 21 November, line 12"]),
    ]


class Accepted(BaseModel):
    """What became of the report: `applied`, or `duplicate` when the money was booked already."""

    id: Annotated[int, Field(examples=[4711])]
    object: Literal["callback"]
    disposition: Annotated[str, Field(examples=["applied"])]
    receipt: Annotated[str, Field(examples=["UKL9W0BT5S"])]
