"""Calendar periods."""

from calendar import monthrange
from datetime import date, timedelta
from enum import StrEnum
from typing import Final


class Period(StrEnum):
    """A week from Monday, a month, a quarter, a year."""

    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


_MONTHS: Final = {Period.MONTH: 1, Period.QUARTER: 3, Period.YEAR: 12}


def bounds(period: Period, day: date) -> tuple[date, date]:
    """The first and the last day of the period that `day` is in."""
    if period is Period.WEEK:
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=6)
    months = _MONTHS[period]
    first = day.replace(month=day.month - (day.month - 1) % months, day=1)
    final = first.replace(month=first.month + months - 1)
    return first, final.replace(day=monthrange(final.year, final.month)[1])
