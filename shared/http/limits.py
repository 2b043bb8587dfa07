"""Token buckets per client address and for the instance, in memory.

They keep one address from taking the instance away from the others. Limits per key are counted
in SQL, in the transaction of the work; these are only the first door.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from time import monotonic
from typing import Final

from shared.config import Settings

_MAX_BUCKETS: Final = 10_000  # about 2 MB; the address heard from least recently leaves first


@dataclass(frozen=True, slots=True)
class Refused:
    """The bucket is empty. Sizes in requests, times in whole seconds, rounded up."""

    limit: int
    retry_after: int


class TokenBuckets:
    """One bucket per name: `burst` tokens, refilled at `per_s` a second. per_s 0: no limit."""

    def __init__(self, per_s: float, burst: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> Refused | None:
        """Take one token of `name`; None when there was one."""
        if self._per_s == 0:
            return None
        now = self._clock()
        tokens, at = self._buckets.get(name, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - at) * self._per_s)
        allowed = tokens >= 1
        self._buckets[name] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if allowed:
            return None
        return Refused(self._burst, ceil((1 - tokens) / self._per_s))


class Limits:
    """The two buckets every request of an app passes."""

    def __init__(
        self,
        settings: Settings,
        *,
        by_address: bool = True,
        unlimited: Iterable[str] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """unlimited: networks (CIDRs) that pass both: a rail that is refused does not come back."""
        self._unlimited = tuple(unlimited)
        per_address = settings.ip_requests_per_s if by_address else 0
        self._address = TokenBuckets(per_address, settings.ip_burst, clock=clock)
        self._all = TokenBuckets(settings.global_requests_per_s, settings.global_burst, clock=clock)

    def take(self, address: str) -> Refused | None:
        """One request from `address`. Its own bucket first: a flood spends no shared one."""
        if self._unlimited and is_within(address, self._unlimited):
            return None
        return self._address.take(bucket_name(address)) or self._all.take("")


def client_address(peer: str, forwarded_for: str, trusted_proxies: int) -> str:
    """The address of the caller. peer: who holds the connection; forwarded_for: the header.

    Each proxy of ours appends the address it saw, so the caller is the `trusted_proxies`-th entry
    from the right. What stands further left was written by the caller and proves nothing. With
    fewer entries than proxies, or an entry that is no address, the peer is the best we know.
    """
    if trusted_proxies == 0 or not forwarded_for:
        return peer
    entries = forwarded_for.split(",")
    if len(entries) < trusted_proxies:
        return peer
    return _address_of(entries[-trusted_proxies].strip()) or peer


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether `address` lies in one of `networks` (CIDRs or single addresses)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in _network(network) for network in networks)


@lru_cache(maxsize=256)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


@lru_cache(maxsize=4096)
def _address_of(entry: str) -> str | None:
    if entry.startswith("["):  # [2001:db8::1]:443
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:  # 192.0.2.1:443
        entry = entry.partition(":")[0]
    try:
        return str(ipaddress.ip_address(entry))
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def bucket_name(address: str) -> str:
    """Who shares a bucket with this address."""
    # A subscriber holds at least a /64, so single IPv6 addresses would be no limit at all.
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address
