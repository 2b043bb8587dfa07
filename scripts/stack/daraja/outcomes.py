"""The bodies of results (rails reference 2.9), in every shape that has been seen; pure, by seed."""

import json
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any

from scripts.stack.daraja.clock import EAT

SUCCESS = "The service request is processed successfully."
DESCRIPTIONS: Mapping[str, str] = {
    "0": SUCCESS,
    "1": "The balance is insufficient for the transaction.",
    "2": "Declined due to limit rule: less than the minimum transaction amount.",
    "3": "Declined due to limit rule: greater than the maximum transaction amount.",
    "8": "Declined due to limit rule: would exceed the maximum balance.",
    "15": "Duplicate detected.",
    "21": "The initiator is not allowed to initiate this request.",
    "25": "The transaction could not be found.",
    "2001": "The initiator information is invalid.",
    "2040": "Credit Party customer type (Unregistered or Registered Customer) can't be supported.",
    "R000001": "The transaction has already been reversed.",
    "R000002": "The OriginalTransactionID is invalid.",
}
FIRST = ("WANJIKU", "BRIAN", "AMINA", "ACHIENG", "KIPCHOGE", "FATUMA", "MUTUA", "NJERI")
LAST = ("KAMAU", "OTIENO", "HASSAN", "ODHIAMBO", "KORIR", "ALI", "MUSYOKA", "WAFULA")

Pair = tuple[str, Any]
NO_VALUE: Any = object()


def person(phone: str) -> str:
    """The invented name of a phone's owner; always the same."""
    number = int(phone) if phone.isdigit() else 0
    return f"{FIRST[number % len(FIRST)]} {LAST[number // 10 % len(LAST)]}"


def conversation_id(at: datetime, rng: Random) -> str:
    """AG_yyyyMMdd_ and twenty hexadecimal digits."""
    return f"AG_{at.astimezone(EAT):%Y%m%d}_{rng.randbytes(10).hex()}"


def originator(rng: Random) -> str:
    """One that they give, where the request names none."""
    return f"{rng.randint(1000, 99999)}-{rng.randint(10**6, 10**8)}-1"


def acknowledgement(
    originator_id: str, conversation: str, rng: Random, *, varied: bool
) -> dict[str, str]:
    """Accepted, and nothing more."""
    return {
        "ConversationID": conversation,
        "OriginatorConversationID": originator_id,
        "ResponseCode": "00000000" if varied and rng.random() < 0.2 else "0",
        "ResponseDescription": "Accept the service request successfully.",
    }


def placeholder(at: datetime, rng: Random) -> str:
    """What stands in TransactionID of a failure: zeros, nothing, or something that looks real."""
    start = "".join(rng.choices(string.ascii_uppercase, k=3))
    real = start + "".join(rng.choices(string.ascii_uppercase + string.digits, k=7))
    return rng.choice((f"{start}0000000", "", real, f"{at.astimezone(EAT):%y%j}00000"))


def result(
    ids: tuple[str, str, str],
    code: str,
    pairs: Sequence[Pair],
    rng: Random,
    *,
    varied: bool,
) -> bytes:
    """An envelope; ids: originator, conversation, transaction. NO_VALUE leaves a pair without."""
    content: dict[str, Any] = {
        "ResultType": _loose(0, rng, varied=varied),
        "ResultCode": _loose(int(code), rng, varied=varied) if code.isdigit() else code,
        "ResultDesc": DESCRIPTIONS.get(code, "An unexpected condition occurred."),
        "OriginatorConversationID": ids[0],
        "ConversationID": ids[1],
        "TransactionID": ids[2],
    }
    reference = {"Key": "QueueTimeoutURL", "Value": "https://internal.example/results/v1/submit"}
    items = {
        "ReferenceItem": [{"Key": "Occasion"}, reference] if _maybe(rng, varied) else reference
    }
    if pairs:
        content["ResultParameters"] = {"ResultParameter": _listed(pairs, rng, varied=varied)}
    if pairs and _maybe(rng, varied):
        content["ResultParameters"]["ReferenceData"] = items
    else:
        content["ReferenceData"] = items
    return json.dumps({"Result": content}, separators=(",", ":")).encode()


def amount_in_braces(amount: int) -> str:
    """As some of their systems write money."""
    return f"{{Amount={{CurrencyCode=KES, MinimumAmount={amount * 100}, BasicAmount={amount}.00}}}}"


def completed(at: datetime) -> str:
    """dd.MM.yyyy HH:mm:ss in EAT, of payouts."""
    return f"{at.astimezone(EAT):%d.%m.%Y %H:%M:%S}"


def stamp(at: datetime) -> int:
    """The yyyyMMddHHmmss of everything else, in EAT."""
    return int(f"{at.astimezone(EAT):%Y%m%d%H%M%S}")


def accounts(balances: Mapping[str, int], rng: Random, *, varied: bool) -> str:
    """Name|KES|available|uncleared|reserved|minimum of each, joined by &."""
    parts = []
    for name, balance in balances.items():
        written = name.replace(" ", "\n") if _maybe(rng, varied) else name
        parts.append(f"{written}|KES|{balance}.00|{balance}.00|0.00|0.00")
    return "&".join(parts)


def _listed(pairs: Sequence[Pair], rng: Random, *, varied: bool) -> Any:
    """A list, or a single object; spaces in keys, text for numbers, another order, an empty one."""
    written = [_pair(key, value, rng, varied=varied) for key, value in pairs]
    if varied:
        rng.shuffle(written)
        if rng.random() < 0.2:
            written.append({})
    return written[0] if len(written) == 1 and _maybe(rng, varied) else written


def _pair(key: str, value: Any, rng: Random, *, varied: bool) -> dict[str, Any]:
    if varied and key == "ConversationID":
        key = "Conversation ID"
    if varied and key == "FinalisedTime" and rng.random() < 0.5:
        key = "FinalizedTime"
    if value is NO_VALUE:
        return {"Key": key}
    is_number = isinstance(value, int | float)
    return {"Key": key, "Value": _loose(value, rng, varied=varied) if is_number else value}


def _loose(value: float, rng: Random, *, varied: bool) -> Any:
    return str(value) if varied and rng.random() < 0.4 else value


def _maybe(rng: Random, varied: bool) -> bool:
    return varied and rng.random() < 0.3
