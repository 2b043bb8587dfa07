"""The texts under the signatures, as FDMS puts them together itself; the product has its own."""

import base64
import hashlib
from decimal import Decimal

from scripts.stack.fdms.wire import COUNTER_TYPES, MONEY_TYPES, Counter, Receipt


def receipt(device_id: int, sent: Receipt, previous_hash: str | None) -> str:
    """Device, type, currency, number, date, total, taxes, and the hash before."""
    taxes = sorted(sent.taxes, key=lambda tax: (tax.tax_id, tax.code))
    rows = [f"{tax.code}{rate(tax.percent)}{cents(tax.amount)}{cents(tax.gross)}" for tax in taxes]
    head = f"{device_id}{sent.kind.upper()}{sent.currency.upper()}{sent.global_no}{sent.date}"
    return head + cents(sent.total) + "".join(rows) + (previous_hash or "")


def day(device_id: int, day_no: int, opened: str, counters: list[Counter]) -> str:
    """Device, day, the date of its opening, counters."""
    return f"{device_id}{day_no}{opened[:10]}" + "".join(row(one) for one in ordered(counters))


def closed_day(
    device_id: int, day_no: int, opened: str, closed: str, counters: list[Counter], signature: str
) -> str:
    """What FDMS signs of a day that the device closed."""
    rows = "".join(row(one) for one in ordered(counters))
    return f"{device_id}{day_no}{opened[:10]}{closed}AUTO{rows}{signature}"


def ordered(counters: list[Counter]) -> list[Counter]:
    """Type, currency, then tax or money type."""
    return sorted(
        (one for one in counters if one.value != 0),
        key=lambda one: (
            COUNTER_TYPES.index(one.kind),
            one.currency,
            MONEY_TYPES.index(one.money_type) if one.money_type else (one.tax_id or 0),
            one.percent or Decimal(0),
        ),
    )


def row(counter: Counter) -> str:
    """One counter."""
    by = counter.money_type.upper() if counter.money_type else rate(counter.percent)
    return f"{counter.kind.upper()}{counter.currency.upper()}{by}{cents(counter.value)}"


def rate(percent: Decimal | None) -> str:
    """Two decimals; nothing for exempt."""
    return "" if percent is None else str(percent.quantize(Decimal("0.01")))


def cents(amount: Decimal) -> str:
    """Whole cents with their sign."""
    return str(int((amount * 100).to_integral_exact()))


def digest(text: str) -> str:
    """SHA-256 in base64."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
