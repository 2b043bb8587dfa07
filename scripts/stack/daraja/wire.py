"""The bodies Daraja sends, in every shape that has been seen; pure, and varied by a seeded Random.

Source: rails reference 2.2 to 2.8. Times on the wire are EAT.
"""

import base64
import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from scripts.stack.daraja.books import Prompt
from scripts.stack.daraja.clock import EAT
from scripts.stack.daraja.faults import Garbage, NoReceipt, WrongAmount
from scripts.stack.daraja.outcomes import person

DESCRIPTIONS: Mapping[str, tuple[str, ...]] = {
    "0": ("The service request is processed successfully.",),
    "1": (
        "The balance is insufficient for the transaction.",
        "[STK_CB - ]The balance is insufficient for the transaction",
    ),
    "17": ("System internal error.",),
    "26": ("System busy. The service request is rejected.",),
    "1001": ("Unable to lock subscriber, a transaction is already in process",),
    "1019": ("Transaction has expired",),
    "1025": ("An error occurred while sending a push request",),
    "1032": ("Request cancelled by user", "[STK_CB - ]Request cancelled by user"),
    "1036": ("SMSC ACK timeout.",),
    "1037": ("DS timeout user cannot be reached.", "No response from user."),
    "2001": ("The initiator information is invalid.",),
    "2028": ("The request is not permitted according to product assignment",),
    "8006": ("The security credential is locked.",),
    "9999": ("An error occurred while sending a push request",),
    "SFC_IC0003": ("The operator does not exist.",),
}


def describe(code: str, rng: Random) -> str:
    """One of the texts seen with a result code; never to be relied on."""
    return rng.choice(DESCRIPTIONS.get(code, ("An unexpected condition occurred.",)))


def checkout_request_id(at: datetime, phone: str, rng: Random) -> str:
    """ws_CO_ + ddMMyyyyHHmmss in EAT + more digits, often the payer's."""
    tail = phone[3:] if rng.random() < 0.5 else "".join(rng.choices(string.digits, k=9))
    millis = f"{at.microsecond // 1000:03d}"
    return f"ws_CO_{at.astimezone(EAT):%d%m%Y%H%M%S}{millis}{tail}"


def merchant_request_id(rng: Random) -> str:
    """One of the two shapes: 29115-34620561-1 or 5dbd-4f93-…."""
    if rng.random() < 0.5:
        return f"{rng.randint(1000, 99999)}-{rng.randint(10**6, 10**8)}-{rng.randint(1, 2)}"
    return "-".join(rng.randbytes(size).hex() for size in (2, 2, 2, 7))


def receipt(at: datetime, rng: Random) -> str:
    """Ten characters that begin with year, month and day, as theirs do."""
    day = at.astimezone(EAT)
    letters = string.ascii_uppercase
    date = letters[(day.year - 2006) % 26] + letters[day.month - 1]
    date += (string.digits[1:] + letters)[day.day - 1]
    return date + "".join(rng.choices(letters + string.digits, k=7))


def accepted(prompt: Prompt) -> dict[str, Any]:
    """The synchronous answer to a push: accepted for prompting, nothing more."""
    return {
        "MerchantRequestID": prompt.merchant_request_id,
        "CheckoutRequestID": prompt.checkout_request_id,
        "ResponseCode": "0",
        "ResponseDescription": "Success. Request accepted for processing",
        "CustomerMessage": "Success. Request accepted for processing",
    }


def query_answer(prompt: Prompt, code: str, rng: Random) -> dict[str, Any]:
    """The state by query; `code` empty or 4999 while it is open."""
    text = {"4999": "The transaction is still under processing", "": ""}.get(code)
    return {
        "ResponseCode": "0",
        "ResponseDescription": "The service request has been accepted successsfully",
        "MerchantRequestID": prompt.merchant_request_id,
        "CheckoutRequestID": prompt.checkout_request_id,
        "ResultCode": code,
        "ResultDesc": describe(code, rng) if text is None else text,
    }


def callback(prompt: Prompt, code: str, rng: Random, *, varied: bool) -> bytes:
    """The result of `prompt` with `code`, garbled if its faults say so."""
    content: dict[str, Any] = {
        "MerchantRequestID": prompt.merchant_request_id,
        "CheckoutRequestID": prompt.checkout_request_id,
        "ResultCode": _loose_code(code, rng, varied=varied),
        "ResultDesc": describe(code, rng),
    }
    if code == "0":
        items = _items(prompt, rng, varied=varied)
        content["CallbackMetadata"] = {"Item": items}
    body = json.dumps({"Body": {"stkCallback": content}}, separators=(",", ":")).encode()
    garbage = prompt.selection.get(Garbage)
    return garble(garbage.kind, body) if garbage and garbage.at == "callback" else body


def garble(kind: str, body: bytes) -> bytes:
    """Something else than the promised JSON."""
    page = b"<html><head><title>Service</title></head><body>Please try again later</body></html>"
    return {"html": page, "truncated": body[: len(body) * 2 // 3], "empty": b""}[kind]


def _loose_code(code: str, rng: Random, *, varied: bool) -> int | str:
    as_text = not code.isdigit() or (varied and rng.random() < 0.3)
    return code if as_text else int(code)


def _items(prompt: Prompt, rng: Random, *, varied: bool) -> list[dict[str, Any]]:
    amount = prompt.paid_amount or prompt.amount
    at = datetime.fromisoformat(prompt.closed_at or prompt.opened_at).astimezone(EAT)
    items: list[dict[str, Any]] = [
        {"Name": "Amount", "Value": float(amount) if not varied or rng.random() < 0.5 else amount},
        {"Name": "MpesaReceiptNumber", "Value": prompt.receipt},
        {"Name": "Balance"},
        {"Name": "TransactionDate", "Value": int(f"{at:%Y%m%d%H%M%S}")},
        {"Name": "PhoneNumber", "Value": int(prompt.phone)},
    ]
    wrong = prompt.selection.get(WrongAmount)
    if wrong and wrong.currency:
        items.append({"Name": "Currency", "Value": wrong.currency})
    if prompt.selection.get(NoReceipt):
        items = [item for item in items if item["Name"] != "MpesaReceiptNumber"]
    return _vary(items, prompt, rng) if varied else items


def _vary(items: list[dict[str, Any]], prompt: Prompt, rng: Random) -> list[dict[str, Any]]:
    """Missing Balance, an extra item, an empty one, another order: each on some bodies."""
    if rng.random() < 0.25:
        items = [item for item in items if item["Name"] != "Balance"]
    if rng.random() < 0.25:
        items.append({"Name": "AccountReference", "Value": prompt.account_reference})
    if rng.random() < 0.25:
        items.append({})
    if rng.random() < 0.5:
        rng.shuffle(items)
    return items


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment as C2B tells it, whoever started it."""

    receipt: str
    at: datetime
    amount: int
    short_code: str
    account_reference: str
    phone: str
    third_party_id: str = ""


def c2b(paid: Paid, version: int, balance: int | None, rng: Random, *, varied: bool) -> bytes:
    """A confirmation, or without `balance` a validation; every field is a string."""
    dice = rng.random if varied else lambda: 1.0
    name = paid.phone if dice() < 0.1 else person(paid.phone).split()[0]
    body = {
        "TransactionType": "" if dice() < 0.2 else "Pay Bill",
        "TransID": paid.receipt,
        "TransTime": f"{paid.at.astimezone(EAT):%Y%m%d%H%M%S}",
        "TransAmount": str(paid.amount) if dice() < 0.3 else f"{paid.amount}.00",
        "BusinessShortCode": paid.short_code,
        "BillRefNumber": paid.account_reference,
        "InvoiceNumber": "",
        "OrgAccountBalance": "" if balance is None else f"{balance}.00",
        "ThirdPartyTransID": paid.third_party_id,
        "MSISDN": _hidden(paid.phone, version, dice()),
        "FirstName": name,
        "MiddleName": "",
        "LastName": "" if dice() < 0.5 else person(paid.phone).split()[1],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _hidden(phone: str, version: int, dice: float) -> str:
    """Hashed in version 1; masked in one of three ways in version 2."""
    if version == 1:
        return hashlib.sha256(phone.encode()).hexdigest()
    if dice < 0.2:
        return f"{phone[:5]}****{phone[-3:]}"
    return f"{phone[:4]} ***** {phone[-3:]}" if dice < 0.4 else f"{phone[:4]}****{phone[-3:]}"


def password(short_code: str, passkey: str, timestamp: str) -> str:
    """What a push and a query must carry for this timestamp."""
    return base64.b64encode(f"{short_code}{passkey}{timestamp}".encode()).decode()
