"""shared/http/limits.py: buckets, and whose request it is."""

import pytest

from shared.http.limits import Limits, Refused, TokenBuckets, client_address, is_within
from tests.unit.shared.http.kit import settings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_bucket_gives_its_burst_then_refills_at_its_rate() -> None:
    clock = Clock()
    buckets = TokenBuckets(2, 3, clock=clock)

    burst = [buckets.take("a") for _ in range(4)]
    clock.now += 0.5
    refilled = [buckets.take("a") for _ in range(2)]

    assert burst == [None, None, None, Refused(3, 1)]
    assert refilled == [None, Refused(3, 1)]


def test_bucket_never_holds_more_than_its_burst() -> None:
    clock = Clock()
    buckets = TokenBuckets(10, 2, clock=clock)
    buckets.take("a")
    clock.now += 3600

    assert [buckets.take("a") for _ in range(3)] == [None, None, Refused(2, 1)]


def test_rate_zero_is_no_limit() -> None:
    buckets = TokenBuckets(0, 1)

    assert [buckets.take("a") for _ in range(5)] == [None] * 5


def test_memory_is_bounded_by_forgetting_who_was_heard_from_least_recently() -> None:
    buckets = TokenBuckets(1, 1, clock=Clock())
    buckets.take("first")
    for number in range(10_000):
        buckets.take(f"address-{number}")

    assert buckets.take("first") is None
    assert buckets.take("address-9999") is not None


def test_addresses_of_one_ipv6_subscriber_share_a_bucket() -> None:
    limits = Limits(settings(ip_requests_per_s=1, ip_burst=1), clock=Clock())

    assert limits.take("2001:db8:1:2::1") is None
    assert limits.take("2001:db8:1:2:ffff::9") is not None
    assert limits.take("2001:db8:1:3::1") is None


def test_flood_of_one_address_leaves_the_shared_bucket_to_the_others() -> None:
    only_two = settings(ip_requests_per_s=1, ip_burst=1, global_requests_per_s=1, global_burst=2)
    limits = Limits(only_two, clock=Clock())
    for _ in range(50):
        limits.take("192.0.2.1")

    assert limits.take("192.0.2.2") is None
    assert limits.take("192.0.2.3") == Refused(2, 1)


def test_rail_that_calls_for_everybody_meets_only_the_shared_limit() -> None:
    busy = settings(ip_requests_per_s=1, ip_burst=1, global_requests_per_s=1, global_burst=3)
    limits = Limits(busy, by_address=False, clock=Clock())

    assert [limits.take("196.201.214.200") for _ in range(4)] == [None, None, None, Refused(3, 1)]


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ("", 1, "10.0.0.1"),
        ("203.0.113.9", 0, "10.0.0.1"),
        ("203.0.113.9", 1, "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", 1, "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9, 198.51.100.7", 2, "203.0.113.9"),
        ("203.0.113.9", 2, "10.0.0.1"),
        ("203.0.113.9:5151", 1, "203.0.113.9"),
        ("[2001:db8::1]:443", 1, "2001:db8::1"),
        ("2001:db8::1", 1, "2001:db8::1"),
        ("unknown", 1, "10.0.0.1"),
        ("1.1.1.1,", 1, "10.0.0.1"),
    ],
)
def test_client_address_is_counted_from_the_right(
    forwarded: str, proxies: int, address: str
) -> None:
    assert client_address("10.0.0.1", forwarded, proxies) == address


@pytest.mark.parametrize(
    ("address", "inside"),
    [("196.201.214.200", True), ("196.201.215.1", False), ("::1", False), ("x", False)],
)
def test_address_is_within_its_networks(address: str, inside: bool) -> None:
    assert is_within(address, ["196.201.214.0/24", "10.1.2.3"]) is inside


def test_a_listed_network_passes_even_an_empty_instance() -> None:
    limits = Limits(
        settings(global_requests_per_s=1, global_burst=1), unlimited=["196.201.212.0/24"]
    )
    limits.take("203.0.113.9")

    listed = [limits.take("196.201.212.69") for _ in range(50)]

    assert listed == [None] * 50
    assert limits.take("203.0.113.9") == Refused(1, 1)
