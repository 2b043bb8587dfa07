"""Requests of the initiator APIs (rails reference 2.9): checked, and what they ask for.

An initiator who may not act is found later, in the result; here only what the edge can see.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scripts.stack.daraja.accounts import Accounts
from scripts.stack.daraja.credentials import Merchant
from scripts.stack.daraja.refusals import Refusal, invalid
from scripts.stack.daraja.rules import read_callback_url, read_digits, read_limited, read_text

Kind = Literal["payout", "reversal", "status", "balance"]
COMMANDS: Mapping[Kind, tuple[str, ...]] = {
    "payout": ("SalaryPayment", "BusinessPayment", "PromotionPayment"),
    "reversal": ("TransactionReversal",),
    "status": ("TransactionStatusQuery",),
    "balance": ("AccountBalance",),
}
ORGANISATION = ("4",)
REVERSAL_PARTY = ("11", "4")
REFERENCE_MAX = 64

Open = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `originator` None: they name it. `asks`: the receipt or conversation meant."""

    kind: Kind
    short_code: str
    originator: str | None
    phone: str | None
    amount: int | None
    asks: str | None
    result_url: str
    timeout_url: str
    request: str
    initiator_ok: bool


def read_ask(
    kind: Kind, body: Mapping[str, Any], caller: Merchant, open_credential: Open, accounts: Accounts
) -> Ask:
    """Raises Refusal naming the first field that breaks its rule."""
    is_payout = kind == "payout"
    initiator = read_text(body, "InitiatorName" if is_payout else "Initiator")
    password = open_credential(read_text(body, "SecurityCredential"))
    if password is None:
        raise invalid("SecurityCredential")
    if read_text(body, "CommandID") not in COMMANDS[kind]:
        raise invalid("CommandID")
    read_limited(body, "Remarks", 100, length_min=2)
    phone, amount, asks = _subject(kind, body, caller, accounts)
    good = initiator == caller.initiator_name and secrets.compare_digest(
        password.encode(), caller.initiator_password.encode()
    )
    return Ask(
        kind=kind,
        short_code=caller.short_code,
        originator=_originator(body) if is_payout else None,
        phone=phone,
        amount=amount,
        asks=asks,
        result_url=read_callback_url(body, "ResultURL"),
        timeout_url=read_callback_url(body, "QueueTimeOutURL"),
        request=json.dumps(body),
        initiator_ok=good,
    )


def _subject(
    kind: Kind, body: Mapping[str, Any], caller: Merchant, accounts: Accounts
) -> tuple[str | None, int | None, str | None]:
    """(phone, whole shillings, receipt or conversation) of a request."""
    if kind == "payout":
        _own(body, "PartyA", caller)
        phone = read_digits(body, "PartyB")
        if not re.fullmatch(r"254[17]\d{8}", phone):
            raise invalid("PartyB")
        return phone, int(read_digits(body, "Amount")), None
    if kind == "reversal":
        _own(body, "ReceiverParty", caller)
        _identified(body, "RecieverIdentifierType", REVERSAL_PARTY)
        receipt = read_text(body, "TransactionID")
        entry = accounts.entry(receipt)
        payer = str(entry["payer"]) if entry else None
        return payer, int(read_digits(body, "Amount")), receipt
    _own(body, "PartyA", caller)
    _identified(body, "IdentifierType", ORGANISATION)
    if kind == "balance":
        return None, None, None
    named = [n for n in ("TransactionID", "OriginalConversationID") if body.get(n)]
    if not named:
        raise invalid("TransactionID")
    return None, None, read_limited(body, named[0], REFERENCE_MAX)


def _originator(body: Mapping[str, Any]) -> str:
    return read_limited(body, "OriginatorConversationID", REFERENCE_MAX)


def _own(body: Mapping[str, Any], field: str, caller: Merchant) -> None:
    if read_digits(body, field) not in (caller.short_code, caller.party_b):
        raise Refusal("400.003.02")


def _identified(body: Mapping[str, Any], field: str, allowed: tuple[str, ...]) -> None:
    if read_digits(body, field) not in allowed:
        raise invalid(field)
