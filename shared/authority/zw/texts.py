"""The texts that a fiscal device signs, the fiscal number of a QR, and what is printed under it.

Parts follow each other without separators. Amounts are in cents with their sign. (The hashes
printed in the v7.2 manual are unreliable: stray blanks, "USDL". The written rules hold.)
"""

import base64
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from hashlib import md5, sha256
from typing import Final

from shared.authority.zw.wire import COUNTER_KINDS, Content, Counter, MoneyType, Place, ReceiptTax

_MONEY_TYPES: Final = tuple(MoneyType)
_CODE_LENGTH: Final = 16


def receipt_text(content: Content, place: Place) -> str:
    """What is signed of a receipt. The first of a day has no previous hash."""
    return "".join(
        (
            str(place.device_id),
            content.receipt_type.upper(),
            content.currency.upper(),
            str(place.global_no),
            place.date,
            _cents(content.total),
            *(_tax(tax) for tax in sorted(content.taxes, key=lambda tax: (tax.tax_id, tax.code))),
            place.previous_hash or "",
        )
    )


def day_text(device_id: int, day_no: int, opened_on: str, counters: Iterable[Counter]) -> str:
    """What is signed at the close of a day. opened_on: YYYY-MM-DD of its opening, not of today."""
    rows = "".join(_counter(row) for row in in_order(counters))
    return f"{device_id}{day_no}{opened_on}{rows}"


def in_order(counters: Iterable[Counter]) -> list[Counter]:
    """As signed and sent: zero rows left out, by kind, currency, then tax or money type."""
    return sorted((row for row in counters if row.value), key=_counter_order)


def server_receipt_text(device_signature: str, receipt_id: int, server_date: str) -> str:
    """What FDMS signs when it has taken a receipt."""
    return f"{device_signature}{receipt_id}{server_date}"


def hash_of(text: str) -> str:
    """SHA-256 as base64, the way receipts name each other."""
    return base64.b64encode(sha256(text.encode()).digest()).decode()


def verification_code(signature: str) -> str:
    """Sixteen hexadecimal digits: the start of the MD5 of the signature's bytes, not of its text.

    The manual's example has them in upper case, accepted receipts in lower; it is one number.
    """
    raw = base64.b64decode(signature, validate=True)
    return md5(raw, usedforsecurity=False).hexdigest()[:_CODE_LENGTH]


def printed_code(code: str) -> str:
    """As people read it under the QR: 4C8B-E276-6333-0417."""
    return "-".join(code[at : at + 4].upper() for at in range(0, _CODE_LENGTH, 4))


def qr_text(qr_url: str, place: Place, code: str) -> str:
    """What the QR of a receipt says."""
    day = datetime.strptime(place.date, "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007  local by definition
    number = f"{place.device_id:010d}{day:%d%m%Y}{place.global_no:010d}{code}"
    return f"{qr_url.rstrip('/')}/{number}"


def _tax(tax: ReceiptTax) -> str:
    return f"{tax.code}{_percent(tax.percent)}{_cents(tax.amount)}{_cents(tax.gross)}"


def _counter(row: Counter) -> str:
    by = row.money_type.upper() if row.money_type else _percent(row.percent)
    return f"{row.kind.upper()}{row.currency.upper()}{by}{_cents(row.value)}"


def _counter_order(row: Counter) -> tuple[int, str, int, Decimal]:
    by = _MONEY_TYPES.index(row.money_type) if row.money_type else row.tax_id
    assert by is not None, "a counter is by tax or by money type"
    return COUNTER_KINDS.index(row.kind), row.currency, by, row.percent or Decimal(0)


def _percent(percent: Decimal | None) -> str:
    return "" if percent is None else f"{percent:.2f}"


def _cents(amount: Decimal) -> str:
    cents = amount.scaleb(2)
    assert cents == cents.to_integral_value(), "amounts of receipts have two decimals"
    return str(int(cents))
