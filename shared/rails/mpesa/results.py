"""What Daraja tells later about payouts, reversals, status and balances. Rails reference 2.9.

Types, order and nesting differ from body to body, so the parameters are read as a multimap whose
keys have no spaces and no capitals. Nothing in a result is signed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from shared.money import Money, scales
from shared.rails.base import (
    UNKNOWN_RAIL_ERROR,
    AccountBalance,
    BalanceReport,
    CallbackKind,
    CallbackNotUnderstood,
    Outcome,
    RailEvent,
    Source,
)
from shared.rails.mpesa import codes, fields, wire

TIMEOUT_CODE = "QueueTimeOut"
_QUESTIONS = frozenset({"TransactionStatusQuery", "AccountBalance"})
_BASIC_AMOUNT = re.compile(r"BasicAmount=(-?[0-9.]+)")
_CURRENCY_CODE = re.compile(r"CurrencyCode=([A-Z]{3})")

Parameters = dict[str, list[object]]


@dataclass(frozen=True, slots=True)
class _Result:
    """The envelope. `transaction` is a receipt only when the code is 0."""

    code: str
    message: str
    originator: str | None
    transaction: str | None
    parameters: Parameters

    def first(self, *names: str) -> object:
        """The first value of the first of `names` that is there."""
        return next((values[0] for n in names if (values := self.parameters.get(n))), None)

    def only(self, *names: str) -> object:
        """The one value of what is booked. NotReadable when it is there twice and differs."""
        values = [value for name in names for value in self.parameters.get(name, [])]
        if any(str(value) != str(values[0]) for value in values):
            raise wire.NotReadable(f"{names[0]} is there twice and differs")
        return values[0] if values else None


def read(body: bytes, kind: CallbackKind) -> RailEvent:
    """Read one body of /result, /timeout or /status. CallbackNotUnderstood for any other."""
    try:
        return _READERS[kind](body)
    except wire.NotReadable as problem:
        raise CallbackNotUnderstood(str(problem)) from None


def read_balance(body: bytes) -> BalanceReport:
    """Read a body of /balance. CallbackNotUnderstood for any other."""
    try:
        result = _envelope(body)
        if result.code != "0":
            return BalanceReport((), code=result.code, message=result.message)
        return BalanceReport(
            _accounts(result.only("accountbalance")),
            occurred_at=fields.instant(result.first("bocompletedtime")),
            code=result.code,
            message=result.message,
        )
    except wire.NotReadable as problem:
        raise CallbackNotUnderstood(str(problem)) from None


def _outcome(body: bytes) -> RailEvent:
    """A payout or a reversal: a success needs both receipt and amount, else a query decides."""
    result = _envelope(body)
    known = codes.meaning("result", result.code, result.message) or codes.NOT_KNOWN
    event = RailEvent(
        known.outcome,
        Source.CALLBACK,
        result.originator,
        code=result.code,
        message=result.message or None,
        reason=known.reason,
        retry_after_s=known.retry_after_s,
        channel="result",
    )
    if known.outcome is not Outcome.SUCCEEDED:
        return event
    receipt = _receipt(result.transaction, wire.text(result.only("transactionreceipt")))
    return _paid(event, result, receipt, ("transactionamount", "amount"))


def _status(body: bytes) -> RailEvent:
    """The answer to our question: code 0 says that the question worked, not what happened."""
    result = _envelope(body)
    if result.code != "0":
        # Without its code, which is the question's and never the transfer's.
        return RailEvent(
            Outcome.UNKNOWN,
            Source.QUERY,
            message=f"Daraja could not say: {result.code} {result.message}".strip(),
            reason=UNKNOWN_RAIL_ERROR,
            channel="status",
        )
    state = wire.text(result.only("transactionstatus"))
    if not state:
        raise wire.NotReadable("TransactionStatus is missing")
    known = codes.meaning("status", state) or codes.NOT_KNOWN
    event = RailEvent(
        known.outcome,
        Source.QUERY,
        wire.text(result.first("originatorconversationid")) or None,
        code=state,
        message=wire.text(result.first("transactionreason")) or None,
        reason=known.reason,
        retry_after_s=known.retry_after_s,
        channel="status",
    )
    if known.outcome is not Outcome.SUCCEEDED:
        return event
    return _paid(event, result, wire.text(result.only("receiptno")) or None, ("amount",))


def _timeout(body: bytes) -> RailEvent:
    """Daraja's queue gave up, and it may still act: unknown, whatever the body holds."""
    echo = wire.read_answer(body)
    is_question = wire.text(echo.get("commandid")) in _QUESTIONS
    known = codes.meaning("result", TIMEOUT_CODE) or codes.NOT_KNOWN
    return RailEvent(
        Outcome.UNKNOWN,
        Source.CALLBACK,
        # The conversation of a question is not the transfer's.
        None if is_question else wire.text(echo.get("originatorconversationid")) or None,
        code=TIMEOUT_CODE,
        reason=known.reason,
        channel="result",
    )


_READERS: dict[CallbackKind, Callable[[bytes], RailEvent]] = {
    "result": _outcome,
    "status": _status,
    "timeout": _timeout,
}


def _paid(
    event: RailEvent, result: _Result, receipt: str | None, amounts: tuple[str, ...]
) -> RailEvent:
    told = result.only(*amounts)
    amount = None if told is None else _amount(told)
    whole = receipt is not None and amount is not None
    other = result.first("receiverpartypublicname", "creditpartyname", "creditpartypublicname")
    return replace(
        event,
        outcome=Outcome.SUCCEEDED if whole else Outcome.UNKNOWN,
        receipt=receipt,
        amount=amount,
        payer_masked=fields.masked(wire.text(other).partition(" - ")[0]),
        occurred_at=fields.instant(
            result.first(
                "transactioncompleteddatetime",
                "transcompletedtime",
                "finalisedtime",
                "finalizedtime",
            )
        ),
    )


def _receipt(transaction: str | None, named: str) -> str | None:
    if transaction and named and transaction != named:
        raise wire.NotReadable("TransactionID and TransactionReceipt differ")
    return named or transaction


def _envelope(body: bytes) -> _Result:
    result = wire.node(wire.read_object(body).get("result"), "Result")
    code = wire.code(result.get("resultcode"), "ResultCode")
    if not code:
        raise wire.NotReadable("ResultCode is missing")
    return _Result(
        code=code,
        message=wire.text(result.get("resultdesc")),
        originator=wire.text(result.get("originatorconversationid")) or None,
        transaction=wire.text(result.get("transactionid")) or None,
        parameters=_parameters(result.get("resultparameters")),
    )


def _parameters(container: object) -> Parameters:
    """Give values by key. A list or one object; a pair without a value says nothing."""
    if not isinstance(container, dict):
        return {}
    listed = wire.node(container, "ResultParameters").get("resultparameter")
    found: Parameters = {}
    for pair in listed if isinstance(listed, list) else [listed]:
        if isinstance(pair, dict):
            members = wire.node(pair, "ResultParameter")
            key = wire.text(members.get("key")).lower().replace(" ", "")
            value = members.get("value")
            if value is not None and value != "":
                found.setdefault(key, []).append(value)
    return found


def _amount(told: object) -> Money:
    """Read 1500, "1500.00" or "{Amount={CurrencyCode=KES, …, BasicAmount=1500.00}}"."""
    if isinstance(told, str) and (written := _BASIC_AMOUNT.search(told)):
        currency = _CURRENCY_CODE.search(told)
        return wire.amount(written[1], currency[1] if currency else wire.CURRENCY)
    return wire.amount(told)


def _accounts(told: object) -> tuple[AccountBalance, ...]:
    if not isinstance(told, str):
        raise wire.NotReadable("AccountBalance is missing")
    return tuple(_account(part) for part in told.split("&") if part.strip())


def _account(part: str) -> AccountBalance:
    """Read "Name|KES|available|uncleared|reserved|minimum"; the name can hold line breaks."""
    name, *rest = part.split("|")
    if len(rest) < 2:
        raise wire.NotReadable("an account has no balance")
    currency = rest[0].strip()
    if currency not in scales():
        raise wire.NotReadable("Currency is not one we know")
    amounts = [_signed_minor(written, currency) for written in rest[1:4]]
    return AccountBalance(
        wire.text(" ".join(name.split())),
        currency,
        amounts[0],
        *amounts[1:],
    )


def _signed_minor(written: str, currency: str) -> int:
    """Give minor units of text that may be below zero: charges are. Else NotReadable."""
    try:
        is_negative = Decimal(written.strip()) < 0
    except InvalidOperation:
        raise wire.NotReadable("a balance is not a number") from None
    minor = wire.amount(written.strip().removeprefix("-"), currency).minor
    return -minor if is_negative else minor
