"""functions/directory/cache.py: what is remembered, how long, and when it is forgotten."""

from functions.directory.cache import NEGATIVE_S, POSITIVE_S, Cache

KEY = ("msisdn", "+254712345678", None)
FOUND = [{"rail": "mpesa"}]


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def remembering(version: int = 1, size: int = 10) -> tuple[Cache, Clock]:
    clock = Clock()
    cache = Cache(clock, size)
    cache.get(KEY, version)
    return cache, clock


def test_what_was_found_is_remembered_for_five_minutes() -> None:
    cache, clock = remembering()
    cache.put(KEY, 1, FOUND)

    clock.now += POSITIVE_S - 1
    assert cache.get(KEY, 1) == FOUND
    clock.now += 1
    assert cache.get(KEY, 1) is None


def test_that_there_was_nothing_is_remembered_for_45_seconds() -> None:
    cache, clock = remembering()
    cache.put(KEY, 1, [])

    clock.now += NEGATIVE_S - 1
    assert cache.get(KEY, 1) == []
    clock.now += 1
    assert cache.get(KEY, 1) is None


def test_a_new_version_voids_everything() -> None:
    cache, _ = remembering()
    cache.put(KEY, 1, FOUND)

    assert cache.get(KEY, 2) is None
    assert cache.get(KEY, 1) is None


def test_an_answer_that_a_newer_version_overtook_is_not_kept() -> None:
    cache, _ = remembering()
    cache.get(KEY, 2)

    cache.put(KEY, 1, FOUND)

    assert cache.get(KEY, 2) is None


def test_the_least_recently_used_goes_first() -> None:
    cache, _ = remembering(size=2)
    keys = [("bin", f"43194{n}", None) for n in range(3)]
    cache.put(keys[0], 1, FOUND)
    cache.put(keys[1], 1, FOUND)
    cache.get(keys[0], 1)

    cache.put(keys[2], 1, FOUND)

    assert [cache.get(key, 1) for key in keys] == [FOUND, None, FOUND]


def test_an_event_makes_it_forget() -> None:
    cache, _ = remembering()
    cache.put(KEY, 1, FOUND)

    assert cache.forget() == 1
    assert cache.get(KEY, 1) is None
