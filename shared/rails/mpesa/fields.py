"""Single values of Daraja's requests and bodies: checked on the way out, read on the way in."""

import re
from datetime import UTC, datetime, timedelta, timezone

from shared.errors import FieldError, InvalidAmount, InvalidParameter, PhoneInvalid, StalelaError
from shared.masking import mask_phone
from shared.money import Money
from shared.rails.mpesa import wire

EAT = timezone(timedelta(hours=3), "EAT")  # Daraja's clock; no daylight saving

# Daraja refuses callback addresses that contain these, wherever they are. Rails reference 2.3.
_FORBIDDEN_IN_URL = ("mpesa", "safaricom", "exe", "exec", "cmd", "sql", "query")
_PHONE = re.compile(r"\+254[17][0-9]{8}")
_PLAIN_DIGITS = re.compile(r"254[0-9]{9}")
_MASKED_BY_RAIL = re.compile(r"([0-9 ]*)\*{3,}([0-9 ]*)")
# Times are written in three ways. Rails reference 2.5 and 2.9.
_TIMES = (
    (re.compile(r"[0-9]{14}"), "%Y%m%d%H%M%S"),
    (re.compile(r"[0-9]{2}\.[0-9]{2}\.[0-9]{4} [0-9:]{8}"), "%d.%m.%Y %H:%M:%S"),
)


def eat_timestamp(now: datetime) -> str:
    """Give `now` (aware) as yyyyMMddHHmmss in Nairobi."""
    assert now.tzinfo is not None, "a naive time would be read in this machine's zone"
    return now.astimezone(EAT).strftime("%Y%m%d%H%M%S")


def whole_shillings(amount: Money) -> int:
    """Give the shillings of an amount. InvalidAmount when it is not KES, or not whole ones."""
    if amount.currency != wire.CURRENCY:
        raise refused(InvalidAmount, "currency", "M-Pesa takes KES")
    shillings, rest = divmod(amount.minor, 100)
    if rest:
        raise refused(InvalidAmount, "amount", "M-Pesa takes whole shillings")
    return shillings


def msisdn(phone: str | None) -> int:
    """Give an E.164 number as Daraja writes it. PhoneInvalid when it is not a Kenyan mobile."""
    if phone is None or not _PHONE.fullmatch(phone):
        raise refused(PhoneInvalid, "phone", "phone is not a Kenyan mobile number")
    return int(phone.removeprefix("+"))


def callback_url(url: str | None, kind: str = "") -> str:
    """Give `url`, with "/kind" behind it. InvalidParameter when Daraja would refuse it."""
    if not url:
        raise refused(InvalidParameter, "callback_url", "M-Pesa needs a callback address")
    if any(word in url.lower() for word in _FORBIDDEN_IN_URL):
        raise refused(
            InvalidParameter, "callback_url", "Daraja refuses a word in the callback address"
        )
    return f"{url}/{kind}" if kind else url


def plain(text: str, length_max: int, otherwise: str) -> str:
    """Keep what Daraja prints: specials are reported to fail silently. Rails reference 2.3."""
    kept = re.sub(r"[^A-Za-z0-9 .-]", "", text)[:length_max].strip()
    return kept if len(kept) > 1 else otherwise


def refused(kind: type[StalelaError], field: str, rule: str) -> StalelaError:
    """Make the error of one field."""
    return kind(f"{field}: {rule}", errors=[FieldError(pointer=f"/{field}", detail=rule)])


def instant(value: object) -> datetime | None:
    """Give a time (EAT) as UTC, None when it is absent or no date: it decides nothing."""
    written = wire.text(value)
    for shape, pattern in _TIMES:
        if shape.fullmatch(written):
            return _parse(written, pattern)
    return None


def _parse(written: str, pattern: str) -> datetime | None:
    try:
        return datetime.strptime(written, pattern).replace(tzinfo=EAT).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def masked(value: object) -> str | None:
    """Give what may be shown of a number, masked by the rail or in full; None for anything else.

    Another mask than ours becomes ours where it shows enough, so that the two compare.
    """
    digits = wire.text(value, 40)
    if _PLAIN_DIGITS.fullmatch(digits):
        return mask_phone(f"+{digits}")
    by_rail = _MASKED_BY_RAIL.fullmatch(digits)
    if by_rail is None:
        return None
    start, end = (part.replace(" ", "") for part in by_rail.groups())
    if start.startswith("254") and len(start) >= 4 and len(end) >= 2:
        return mask_phone(f"+{start[:4]}000000{end[-2:]}")
    return digits


def person(value: object) -> str | None:
    """Give the name in "254700000111 - WANJIKU KAMAU", or of a name alone; None when it is none."""
    name = wire.text(value).rpartition(" - ")[2].strip()
    words = [word for word in name.split() if not re.search(r"[0-9*]{3}", word)]
    return " ".join(words) or None
