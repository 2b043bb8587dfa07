"""Days as tests count them: none ends in the middle of a test."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

TEST_S = 30  # longer than a test that counts days


def begin_in_one_day(zone: str) -> None:
    """Return when no day of this zone ends soon: at once, or after midnight and what cron does."""
    now = datetime.now(UTC).astimezone(ZoneInfo(zone))
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    left_s = (midnight - now).total_seconds()
    if left_s <= TEST_S:
        time.sleep(left_s + 10)
