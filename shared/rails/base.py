"""What every rail takes, gives and promises: the protocol and its values.

Outcomes and the rules of sending are those of the rails reference, sections 1.1 and 1.2. The one
that costs money: silence after sending is `UNKNOWN`, never an error and never a second request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from shared import errors
from shared.money import Money

# Reasons that the rails themselves give; every other reason is a row of rails.reason_codes.csv.
RAIL_UNAVAILABLE = "RAIL_UNAVAILABLE"
UNKNOWN_RAIL_ERROR = "UNKNOWN_RAIL_ERROR"
MERCHANT_CONFIGURATION = "MERCHANT_CONFIGURATION"


class Outcome(StrEnum):
    """What a rail's answer means for the money."""

    SUCCEEDED = "succeeded"  # money moved
    PENDING = "pending"  # the rail holds it and will decide
    FAILED_FINAL = "failed_final"  # nothing moved, the same request cannot succeed
    FAILED_RETRYABLE = "failed_retryable"  # nothing moved, the cause is temporary
    RETURNED = "returned"  # money moved and came back
    UNKNOWN = "unknown"  # nobody reliable said anything: ask, never send again


class Source(StrEnum):
    """Which conversation with the rail an event comes from."""

    SUBMIT = "submit"
    QUERY = "query"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a rail needs to act on one transfer.

    `payer` is E.164. `credentials` is the opened secret document of the tenant, read by the rail
    alone. `rail_ref` and `submitted_at` (aware) are None until the rail has answered.
    """

    transfer_id: str
    tenant_id: str
    environment: str
    amount: Money
    credentials: bytes = field(repr=False)
    payer: str | None = field(default=None, repr=False)
    callback_url: str | None = field(default=None, repr=False)
    account_reference: str = ""
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    rail_ref: str | None = None
    submitted_at: datetime | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class RailEvent:
    """One thing a rail said about one transfer.

    `amount` is what the rail echoed, exact, and may differ from ours: SQL compares. `code` and
    `message` are the rail's own, for operators. `reason` is ours, None when there is nothing to
    explain. `occurred_at` is aware; None when the rail did not say.
    """

    outcome: Outcome
    source: Source
    rail_ref: str | None = None
    receipt: str | None = None
    amount: Money | None = None
    payer_masked: str | None = None
    occurred_at: datetime | None = None
    code: str | None = None
    message: str | None = None
    reason: str | None = None
    retry_after_s: int | None = None

    def to_json(self) -> dict[str, str | int | None]:
        """Give the shape that payments.record_submission and rails.receive_callback take."""
        return {
            "outcome": self.outcome.value,
            "source": self.source.value,
            "rail_ref": self.rail_ref,
            "receipt": self.receipt,
            "amount_minor": self.amount.minor if self.amount else None,
            "currency": self.amount.currency if self.amount else None,
            "payer_masked": self.payer_masked,
            "occurred_at": self.occurred_at.isoformat() if self.occurred_at else None,
            "code": self.code,
            "message": self.message,
            "reason": self.reason,
            "retry_after_s": self.retry_after_s,
        }


@dataclass(frozen=True, slots=True)
class CallbackRequest:
    """A callback as it arrived: raw body, lower-case header names, address our proxy saw."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    source_address: str | None = None


class Rail(Protocol):
    """One payment network. Whatever `submit` raises, nothing was sent."""

    async def submit(self, instruction: Instruction) -> RailEvent:
        """Send the transfer once; silence after sending is UNKNOWN.

        RailUnavailable: it cannot be reached now. InvalidAmount, PhoneInvalid, InvalidParameter
        (shared/errors.py): the instruction breaks a rule of the rail, which the message names.
        """
        ...

    async def query(self, instruction: Instruction) -> RailEvent:
        """Ask for the state of a sent transfer; safe to repeat. RailUnavailable: not asked."""
        ...

    def read_callback(self, request: CallbackRequest) -> list[RailEvent]:
        """Parse and authenticate; writes nothing. CallbackNotUnderstood: park the raw body."""
        ...


@runtime_checkable
class ChecksCredentials(Protocol):
    """A rail that can say whether a tenant's credentials are well formed and work."""

    def mask_credentials(self, credentials: bytes) -> dict[str, str]:
        """Give what may be shown of them. InvalidRequest names each malformed field."""
        ...

    async def check_credentials(self, credentials: bytes, environment: str) -> None:
        """Try them at the rail, moving nothing. CredentialsRefused says why they fail there.

        RailUnavailable: the rail did not say. InvalidRequest: malformed, so it was not asked.
        """
        ...


@runtime_checkable
class HoldsConnections(Protocol):
    """A rail with connections to close when the process ends."""

    async def aclose(self) -> None:
        """Close them. The rail is not used afterwards."""
        ...


class RailUnavailable(errors.RailUnavailable):
    """The rail cannot be reached and nothing was sent: the transfer may be tried again.

    `retry_after_s`: whole seconds before another attempt makes sense. `reason` is safe to show.
    """

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason, retry_after=retry_after_s)
        self.reason = reason
        self.retry_after_s = retry_after_s


class CallbackNotUnderstood(ValueError):
    """The callback is not a message of this rail. `reason` is for operators and quotes no body."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
