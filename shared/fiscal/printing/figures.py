"""Numbers, rates and times as the readers of a document write them."""

from datetime import UTC, datetime

from shared.fiscal.decimals import parse, shortest
from shared.fiscal.printing.wording import Words


def number(text: str, words: Words) -> str:
    """Write "1160.5" as 1 160,5 or 1,160.5; what follows the point stays as it is."""
    sign = "-" if text.startswith("-") else ""  # int("-0") would lose it
    whole, _, decimals = text.removeprefix("-").partition(".")
    grouped = sign + f"{int(whole):,}".replace(",", words.thousands)
    return f"{grouped}{words.point}{decimals}" if decimals else grouped


def percentage(rate: str, words: Words) -> str:
    """Write the fraction "0.155" as 15,5 % or 15.5%."""
    return number(shortest(parse(rate) * 100), words) + words.percent


def utc_text(instant: str) -> str:
    """The text that is signed, as people read it: 2026-02-17 04:00:02 UTC."""
    at = datetime.strptime(instant, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
