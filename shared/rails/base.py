"""What every rail takes, gives and promises: the protocol and its values.

Outcomes and the rules of sending are those of the rails reference, sections 1.1 and 1.2. The one
that costs money: silence after sending is `UNKNOWN`, never an error and never a second request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol, runtime_checkable

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


class Operation(StrEnum):
    """What an instruction asks the rail to do with the money."""

    COLLECT = "collect"  # the payer is asked to pay
    PAY_OUT = "pay_out"  # money leaves to the payee
    REFUND = "refund"  # a collected payment is reversed, in full or in part


# Which address of ours a rail called; the body never tells reliably.
CallbackKind = Literal[
    "collect",  # {callback_url}
    "result",  # {callback_url}/result: of a payout or a refund
    "timeout",  # {callback_url}/timeout: the rail's queue gave up, which says nothing
    "status",  # {callback_url}/status: the answer to a query that is answered later
    "balance",  # {callback_url}/balance
    "validation",  # …/c2b/{token}/validation: may this deposit be made?
    "confirmation",  # …/c2b/{token}/confirmation: this deposit was made
]

REFERENCE_LENGTH_MAX = 20  # of what rails take as our reference


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a rail needs to act on one transfer.

    `payer` and `payee` are E.164: who is asked to pay, who is paid out. `credentials` is the opened
    secret document of the tenant, read by the rail alone. `rail_ref` and `submitted_at` (aware) are
    None until the rail has answered. `original_receipt`: of the payment that a refund reverses.
    `callback_url` has no slash at its end; a rail appends "/result" and the other kinds. For a
    balance, which belongs to no transfer, `transfer_id` is any id of ours and `amount` is zero.
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
    operation: Operation = Operation.COLLECT
    payee: str | None = field(default=None, repr=False)
    original_receipt: str | None = None

    @property
    def originator_ref(self) -> str:
        """Our reference at the rail, the same in every retry; where one is taken, it is unique."""
        return self.transfer_id[-REFERENCE_LENGTH_MAX:]


@dataclass(frozen=True, slots=True)
class RailEvent:
    """One thing a rail said about one transfer.

    `amount` is what the rail echoed, exact, and may differ from ours: SQL compares. `code` and
    `message` are the rail's own, for operators; `channel` is the channel of its reason codes that
    the code belongs to. `reason` is ours, None when there is nothing to explain. `occurred_at` is
    aware; None when the rail did not say. `payer_masked` is whoever is at the other end.
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
    channel: str | None = None

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
            "channel": self.channel,
        }


@dataclass(frozen=True, slots=True)
class CallbackRequest:
    """A callback as it arrived: raw body, lower-case header names, address our proxy saw.

    `kind` says which of our addresses was called.
    """

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    source_address: str | None = None
    kind: CallbackKind = "collect"


@dataclass(frozen=True, slots=True)
class DepositUrls:
    """Where a rail asks about deposits nobody was prompted for, and where it reports them."""

    validation: str
    confirmation: str


@dataclass(frozen=True, slots=True)
class Deposit:
    """A payment that came without an intent of ours: asked about, or made (by the callback kind).

    `receipt` names it for ever. `account_reference` is what the payer typed, at most 20
    characters of anything. `paid_to` is the tenant's own number at the rail. `payer_name` is as the
    rail knows it, personal; None when it gave none. `balance` is theirs after the deposit.
    """

    receipt: str
    amount: Money
    paid_to: str
    account_reference: str = ""
    payer_masked: str | None = None
    payer_name: str | None = field(default=None, repr=False)
    occurred_at: datetime | None = None
    transaction_type: str | None = None
    balance: Money | None = None
    validation_ref: str | None = None  # what our validation answered, echoed in the confirmation

    def to_json(self) -> dict[str, str | int | None]:
        """Give what SQL takes; without the name, which is sealed before it leaves the handler."""
        return {
            "receipt": self.receipt,
            "amount_minor": self.amount.minor,
            "currency": self.amount.currency,
            "paid_to": self.paid_to,
            "account_reference": self.account_reference,
            "payer_masked": self.payer_masked,
            "occurred_at": self.occurred_at.isoformat() if self.occurred_at else None,
            "transaction_type": self.transaction_type,
            "balance_minor": self.balance.minor if self.balance else None,
            "validation_ref": self.validation_ref,
        }


class DepositRefusal(StrEnum):
    """Why a deposit may not be made."""

    PAYER = "payer"
    ACCOUNT = "account"
    AMOUNT = "amount"
    KYC = "kyc"
    PAID_TO = "paid_to"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class AccountBalance:
    """One account of the tenant at the rail; minor units, below zero when it is overdrawn."""

    name: str
    currency: str
    available_minor: int
    uncleared_minor: int | None = None
    reserved_minor: int | None = None

    def to_json(self) -> dict[str, str | int | None]:
        return {
            "name": self.name,
            "currency": self.currency,
            "available_minor": self.available_minor,
            "uncleared_minor": self.uncleared_minor,
            "reserved_minor": self.reserved_minor,
        }


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """The answer to a balance request. No accounts: `code` and `message` say why."""

    accounts: tuple[AccountBalance, ...]
    occurred_at: datetime | None = None
    code: str | None = None
    message: str | None = None


class Rail(Protocol):
    """One payment network. Whatever `submit` raises, nothing was sent."""

    async def submit(self, instruction: Instruction) -> RailEvent:
        """Send the transfer once, as its operation asks; silence after sending is UNKNOWN.

        RailUnavailable: it cannot be reached now. InvalidAmount, PhoneInvalid, InvalidParameter
        (shared/errors.py): the instruction breaks a rule of the rail, which the message names.
        InvalidParameter for an operation the rail does not have.
        """
        ...

    async def query(self, instruction: Instruction) -> RailEvent:
        """Ask for the state of a sent transfer; safe to repeat. RailUnavailable: not asked.

        A rail may answer PENDING here and tell the state later, to `callback_url` and "/status".
        """
        ...

    def read_callback(self, request: CallbackRequest) -> list[RailEvent]:
        """Parse and authenticate; writes nothing. CallbackNotUnderstood: park the raw body.

        For the kinds collect, result, timeout and status; a timeout is always UNKNOWN.
        """
        ...

    def redact(self, body: bytes, kind: CallbackKind) -> bytes:
        """Give the body without the secrets some rails echo; all else stays byte for byte."""
        ...


@runtime_checkable
class PaysOut(Protocol):
    """A rail that can send money to a payee."""

    async def pay_out(self, instruction: Instruction) -> RailEvent:
        """`submit` of an instruction whose operation is PAY_OUT. Raises like it."""
        ...


@runtime_checkable
class Refunds(Protocol):
    """A rail that can give a collected payment back, in full or in part."""

    async def refund(self, instruction: Instruction) -> RailEvent:
        """`submit` of an instruction whose operation is REFUND. Raises like it."""
        ...


@runtime_checkable
class ChecksBalance(Protocol):
    """A rail that tells what the tenant holds there."""

    async def request_balance(self, instruction: Instruction) -> RailEvent:
        """Ask; PENDING when the answer will come to `callback_url` and "/balance".

        RailUnavailable: not asked. Nothing of this moves money.
        """
        ...

    def read_balance(self, request: CallbackRequest) -> BalanceReport:
        """Parse the answer; writes nothing. CallbackNotUnderstood: park the raw body."""
        ...


@runtime_checkable
class TakesDeposits(Protocol):
    """A rail whose payers may pay the tenant unasked, naming an account."""

    async def register_deposits(
        self, credentials: bytes, environment: str, urls: DepositUrls
    ) -> None:
        """Have the rail call `urls` from now on; doing so again is harmless.

        RailUnavailable: the rail did not say. CredentialsRefused, InvalidParameter: it refused.
        """
        ...

    def read_deposit(self, request: CallbackRequest) -> Deposit:
        """Parse a validation or a confirmation. CallbackNotUnderstood: park the raw body."""
        ...

    def answer_validation(
        self, refusal: DepositRefusal | None, validation_ref: str | None = None
    ) -> dict[str, str]:
        """Give the JSON that lets a deposit be made, or says why it may not.

        `validation_ref` comes back with the confirmation.
        """
        ...

    def acknowledge_deposit(self) -> dict[str, str]:
        """Give the JSON for a confirmation: the money has moved, so it is never refused."""
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
