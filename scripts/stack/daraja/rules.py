"""What a push and a query must look like (rails reference 2.3, 2.4), and what they then mean.

Types are loose on the wire: numbers may come as text. Values are not: a fraction is refused.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from scripts.stack.daraja.books import Order
from scripts.stack.daraja.clock import EAT, wall
from scripts.stack.daraja.credentials import BY_SHORT_CODE, Merchant
from scripts.stack.daraja.refusals import Refusal, invalid
from scripts.stack.daraja.wire import password

FORBIDDEN = ("mpesa", "safaricom", "exe", "exec", "cmd", "sql", "query")
TYPES = ("CustomerPayBillOnline", "CustomerBuyGoodsOnline")
AMOUNT_MAX = 250_000  # whole shillings, per transaction


def read_push(body: Mapping[str, Any], caller: Merchant, skew_s: int) -> Order:
    """Raises Refusal naming the first field that breaks its rule."""
    merchant = _merchant(body, caller, skew_s)
    kind = read_text(body, "TransactionType")
    if kind not in TYPES:
        raise invalid("TransactionType")
    amount = read_digits(body, "Amount")
    if not 1 <= int(amount) <= AMOUNT_MAX:
        raise invalid("Amount")
    party_a, party_b = read_digits(body, "PartyA"), read_digits(body, "PartyB")
    phone = read_digits(body, "PhoneNumber")
    if not re.fullmatch(r"254[17]\d{8}", phone):
        raise invalid("PhoneNumber")
    if party_a != phone:
        raise invalid("PartyA")
    if not re.fullmatch(r"\d{5,7}", party_b):
        raise invalid("PartyB")
    return Order(
        short_code=merchant.short_code,
        party_b=party_b,
        phone=phone,
        amount=int(amount),
        callback_url=read_callback_url(body, "CallBackURL"),
        account_reference=read_limited(body, "AccountReference", 12),
        description=_description(body),
        well_paired=(kind, party_b) == (merchant.transaction_type, merchant.party_b),
    )


def read_query(body: Mapping[str, Any], caller: Merchant, skew_s: int) -> str:
    """The CheckoutRequestID asked for."""
    _merchant(body, caller, skew_s)
    return read_limited(body, "CheckoutRequestID", 100)


def _merchant(body: Mapping[str, Any], caller: Merchant, skew_s: int) -> Merchant:
    """Who signs: short code, time stamp and password, in the order the party checks them."""
    short_code = read_digits(body, "BusinessShortCode")
    timestamp = _timestamp(body, skew_s)
    given = read_text(body, "Password")
    merchant = BY_SHORT_CODE.get(short_code)
    if merchant is None or merchant != caller:
        raise Refusal("500.001.1001", "Merchant does not exist")
    expected = password(short_code, merchant.passkey, timestamp)
    if not secrets.compare_digest(given.encode(), expected.encode()):
        raise Refusal("500.001.1001", "Wrong credentials")
    return merchant


def _timestamp(body: Mapping[str, Any], skew_s: int) -> str:
    """YyyyMMddHHmmss in EAT. The skew is ours: it shows a client that sends UTC."""
    text = read_digits(body, "Timestamp")
    try:
        at = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=EAT)
    except ValueError as error:
        raise invalid("Timestamp") from error
    if len(text) != 14 or abs((wall() - at).total_seconds()) > skew_s:
        raise invalid("Timestamp")
    return text


def read_callback_url(body: Mapping[str, Any], field: str) -> str:
    """Https with a lower-case host; http too, because this simulator runs on one machine."""
    url = read_text(body, field)
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise invalid(field) from error
    is_web = parts.scheme in ("https", "http") and bool(host)
    is_lower = parts.netloc == parts.netloc.lower()
    if not is_web or not is_lower or any(word in url.lower() for word in FORBIDDEN):
        raise invalid(field)
    return url


def _description(body: Mapping[str, Any]) -> str:
    """Specials fail silently over there; here they fail loudly."""
    text = read_limited(body, "TransactionDesc", 13)
    if re.search(r"[@#&<>%]", text):
        raise invalid("TransactionDesc")
    return text


def read_limited(body: Mapping[str, Any], field: str, length_max: int, length_min: int = 1) -> str:
    """Text of that many characters, else a Refusal that names the field."""
    text = read_text(body, field)
    if not length_min <= len(text) <= length_max:
        raise invalid(field)
    return text


def read_digits(body: Mapping[str, Any], field: str) -> str:
    """A whole number, as number or text. True, 10.0 and "1e3" are none."""
    value = body.get(field)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise invalid(field)
    if not re.fullmatch(r"[0-9]{1,20}", str(value)):
        raise invalid(field)
    return str(value)


def read_text(body: Mapping[str, Any], field: str) -> str:
    """Text that is not empty, else a Refusal that names the field."""
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise invalid(field)
    return value
