"""Points in time and days as people write them in requests: never a bare number."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

_DATE_AND_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", re.ASCII)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _in_utc(at: datetime) -> datetime:
    """Give `at` in UTC. ValueError when that is no date any more: Postgres would not read it."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def _spelled_out(at: object) -> object:
    """Give `at` back. ValueError for a bare number, which pydantic would take for an epoch."""
    if isinstance(at, datetime) or (isinstance(at, str) and _DATE_AND_TIME.match(at)):
        return at
    raise ValueError("must be a time such as 2026-11-21T07:10:00Z")


def _spelled_day(day: object) -> object:
    if isinstance(day, date) or (isinstance(day, str) and _DAY.fullmatch(day)):
        return day
    raise ValueError("must be a day such as 2026-11-21")


Instant = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_spelled_out), AfterValidator(_in_utc)
]
"""A time with its offset, given on in UTC."""
Day = Annotated[date, Field(strict=False), BeforeValidator(_spelled_day)]
"""A day of the calendar."""
