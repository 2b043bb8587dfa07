"""Calendar periods of reports."""

from datetime import date

import pytest

from functions.reports.periods import Period, bounds


@pytest.mark.parametrize(
    ("period", "day", "first", "last"),
    [
        (Period.WEEK, "2026-11-21", "2026-11-16", "2026-11-22"),
        (Period.WEEK, "2026-11-16", "2026-11-16", "2026-11-22"),
        (Period.MONTH, "2024-02-10", "2024-02-01", "2024-02-29"),
        (Period.QUARTER, "2026-11-21", "2026-10-01", "2026-12-31"),
        (Period.QUARTER, "2026-06-30", "2026-04-01", "2026-06-30"),
        (Period.YEAR, "2026-11-21", "2026-01-01", "2026-12-31"),
    ],
)
def test_period_is_the_calendar_s(period: Period, day: str, first: str, last: str) -> None:
    assert bounds(period, date.fromisoformat(day)) == (
        date.fromisoformat(first),
        date.fromisoformat(last),
    )
