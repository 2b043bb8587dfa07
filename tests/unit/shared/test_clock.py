"""shared/clock.py: instants on the wire."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.clock import from_wire, to_wire, utc_now

EAT = timezone(timedelta(hours=3))


def test_instant_is_written_in_utc_with_milliseconds() -> None:
    assert to_wire(datetime(2026, 11, 21, 10, 5, 0, 123_456, EAT)) == "2026-11-21T07:05:00.123Z"


@pytest.mark.parametrize("text", ["2026-11-21T07:05:00Z", "2026-11-21T10:05:00+03:00"])
def test_instant_is_read_in_any_zone(text: str) -> None:
    assert from_wire(text) == datetime(2026, 11, 21, 7, 5, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-21T07:05:00", "yesterday", "2026-13-01T00:00:00Z"])
def test_text_that_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"zone|isoformat|month"):
        from_wire(text)


def test_naive_datetime_is_a_programming_error() -> None:
    with pytest.raises(AssertionError):
        to_wire(datetime(2026, 11, 21))  # noqa: DTZ001  the point of the test


def test_now_knows_its_zone() -> None:
    assert utc_now().utcoffset() == timedelta(0)
