"""Token buckets: a burst, then a rate; counted in the transaction of the work."""

import pytest

from tests.sql.public.house import Answer, House, Key, Refused, at_once, run_in

TAKE = "select (public.authorize('payments:write', 'write')).rate"


def limited_key(house: House, rate_per_minute: int | None, burst: int | None) -> Key:
    """A key whose tenant agreed on this limit for writes."""
    key = house.key()
    house.run(
        "insert into public.rate_limit_overrides"
        " (tenant_id, bucket, rate_per_minute, burst, reason)"
        " values (%s, 'write', %s, %s, 'test') returning 1",
        key.tenant_id,
        rate_per_minute,
        burst,
    )
    return key


def take(house: House, key: Key) -> dict[str, str]:
    return dict(house.one(TAKE, headers=key.headers))


def pass_time(house: House, key: Key, seconds: float) -> None:
    """Let the bucket believe that `seconds` have passed."""
    house.run(
        "update public.rate_buckets set full_at_us = full_at_us - (%s::numeric * 1000000)::bigint"
        " where actor = %s returning 1",
        seconds,
        key.key_id,
    )


def test_a_burst_passes_and_the_next_is_refused_with_the_wait(house: House) -> None:
    key = limited_key(house, rate_per_minute=6, burst=3)

    remaining = [take(house, key)["RateLimit-Remaining"] for _ in range(3)]
    refusal = house.refused(lambda: take(house, key))

    assert remaining == ["2", "1", "0"]
    assert (refusal.code, refusal.status) == ("42901", 429)
    assert 9 <= refusal.extras["retry_after"] <= 10


def test_headers_tell_limit_and_seconds_until_full(house: House) -> None:
    key = limited_key(house, rate_per_minute=6, burst=3)

    assert take(house, key) == {
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "2",
        "RateLimit-Reset": "10",
    }


def test_a_token_comes_back_when_the_wait_is_over_and_not_before(house: House) -> None:
    key = limited_key(house, rate_per_minute=6, burst=1)
    take(house, key)
    pass_time(house, key, 9)

    early = house.refused(lambda: take(house, key))
    pass_time(house, key, 1)

    assert early.extras["retry_after"] == 1
    assert take(house, key)["RateLimit-Remaining"] == "0"


def test_a_long_rest_gives_no_more_than_the_burst(house: House) -> None:
    key = limited_key(house, rate_per_minute=60, burst=2)
    take(house, key)
    pass_time(house, key, 3600)

    take(house, key)
    take(house, key)

    assert house.refused(lambda: take(house, key)).code == "42901"


def test_many_small_waits_lose_no_token(house: House) -> None:
    key = limited_key(house, rate_per_minute=7, burst=1)
    take(house, key)

    # 60 s / 7 in steps of 100 ms: a bucket that rounded each step down would never refill.
    for _ in range(86):
        pass_time(house, key, 0.1)

    assert take(house, key)["RateLimit-Remaining"] == "0"


def test_simultaneous_calls_get_exactly_the_burst(house: House) -> None:
    key = limited_key(house, rate_per_minute=1, burst=7)

    results = at_once(lambda _: take(house, key), 25)

    assert sum(isinstance(result, dict) for result in results) == 7
    assert {r.code for r in results if isinstance(r, Refused)} == {"42901"}


def test_a_refused_request_gives_its_token_back(house: House) -> None:
    key = limited_key(house, rate_per_minute=6, burst=1)
    with house.database.connect(autocommit=False) as connection:
        run_in(connection, TAKE, headers=key.headers)
        connection.rollback()

    assert take(house, key)["RateLimit-Remaining"] == "0"


def test_no_limit_writes_no_row(house: House) -> None:
    key = limited_key(house, rate_per_minute=None, burst=None)

    rate = take(house, key)

    assert rate == {}
    assert house.run("select from public.rate_buckets where actor = %s", key.key_id) == []


def test_two_keys_of_a_tenant_do_not_share_a_bucket(house: House) -> None:
    key = limited_key(house, rate_per_minute=6, burst=1)
    other = house.key(key.tenant_id)
    take(house, key)

    assert take(house, other)["RateLimit-Remaining"] == "0"


@pytest.mark.parametrize("bucket", ["write", "read", "manage"])
@pytest.mark.parametrize("plan", ["basic", "pro", "unlimited"])
def test_every_plan_knows_every_bucket(house: House, plan: str, bucket: str) -> None:
    key = house.key(house.tenant(plan=plan))

    rate = house.one(
        "select (public.authorize('payments:read', %s)).rate", bucket, headers=key.headers
    )

    assert (rate == {}) == (plan == "unlimited")


def test_an_answer_carries_the_headers(house: House) -> None:
    answer: Answer = house.call("get_account", by=house.key(house.tenant(plan="pro")))

    assert answer.headers["RateLimit-Limit"] == "200"


def test_purging_forgets_only_buckets_that_are_full(house: House) -> None:
    idle, busy = (limited_key(house, rate_per_minute=1, burst=9) for _ in range(2))
    take(house, idle)
    take(house, busy)
    pass_time(house, idle, 7200)

    house.run("select public.purge_rate_buckets()")

    left = {row["actor"] for row in house.run("select actor from public.rate_buckets")}
    assert idle.key_id not in left
    assert busy.key_id in left
