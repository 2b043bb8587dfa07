"""What an instance remembers of the directory: the last lookups, for a while, of one version."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

POSITIVE_S: Final = 300.0
NEGATIVE_S: Final = 45.0
SIZE: Final = 10_000

Key = tuple[str, str, str | None]
Routes = list[dict[str, Any]]


class Cache:
    """Least recently used goes first. `now` is a monotonic clock in seconds.

    Every caller's authorisation brings the version in force, so an instance that no event reached
    still never answers from an older one.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, size: int = SIZE) -> None:
        self._now = now
        self._size = size
        self._version: int | None = None
        self._kept: OrderedDict[Key, tuple[float, Routes]] = OrderedDict()

    def get(self, key: Key, version: int) -> Routes | None:
        """What was found for `key`, an empty list for nothing; None when it is not remembered."""
        if version != self._version:
            self.forget()
            self._version = version
        kept = self._kept.get(key)
        if kept is None:
            return None
        until, routes = kept
        if self._now() >= until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return routes

    def put(self, key: Key, version: int, routes: Routes) -> None:
        """Remember what was found under `version`: five minutes, or 45 s that there was nothing."""
        if version != self._version:
            return  # a newer one came while we asked
        self._kept[key] = (self._now() + (POSITIVE_S if routes else NEGATIVE_S), routes)
        self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def forget(self) -> int:
        """Forget everything; how much that was."""
        forgotten = len(self._kept)
        self._kept.clear()
        self._version = None
        return forgotten
