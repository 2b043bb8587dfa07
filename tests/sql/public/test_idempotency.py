"""Idempotency: claim, effect and answer are one transaction; a second time is the same answer."""

import json
from typing import Any

import psycopg
import pytest

from tests.sql.public.house import House, Key, Refused, at_once, run_in

CLAIM = "select * from public.claim_idempotency(public.caller(), %s, %s, %s)"
ROUTE, HASH = "POST /things", "a" * 64
FIRST = {"status": None, "body": None, "headers": None}


def claim(
    house: House, key: Key, idempotency_key: str, body_hash: str = HASH, route: str = ROUTE
) -> Any:
    (row,) = house.run(CLAIM, route, idempotency_key, body_hash, headers=key.headers)
    return row


def remember(house: House, key: Key, idempotency_key: str, **headers: str) -> None:
    house.run(
        "select public.remember_answer(public.caller(), %s, %s, 'th_1',"
        ' row(201, \'{"id":"th_1"}\', %s)::public.answer)',
        ROUTE,
        idempotency_key,
        json.dumps(headers),
        headers=key.headers,
    )


def make_thing(connection: psycopg.Connection, key: Key, idempotency_key: str) -> Any:
    """A whole request: claim, one effect, answer."""
    (claimed,) = run_in(connection, CLAIM, ROUTE, idempotency_key, HASH, headers=key.headers)
    if claimed["body"] is None:
        run_in(
            connection,
            "with made as ("
            "  insert into public.audit_log (tenant_id, actor, action, subject, details)"
            "  values (%s, 'test', 'thing.make', %s, '{}') returning audit_id"
            " ) select public.remember_answer("
            "  public.caller(), %s, %s, 'th', row(201, audit_id::text, '{}')"
            " ) from made",
            key.tenant_id,
            idempotency_key,
            ROUTE,
            idempotency_key,
            headers=key.headers,
        )
    connection.commit()
    return claimed


def things(house: House, key: Key) -> int:
    return int(
        house.one(
            "select count(*) from public.audit_log where tenant_id = %s and action = 'thing.make'",
            key.tenant_id,
        )
    )


def test_the_first_request_goes_on(house: House) -> None:
    assert claim(house, house.key(), "k") == FIRST


def test_a_replay_is_the_stored_answer_byte_for_byte(house: House) -> None:
    key = house.key()
    claim(house, key, "k")
    remember(house, key, "k", Location="/things/th_1")

    replay = claim(house, key, "k")

    assert (replay["status"], replay["body"]) == (201, '{"id":"th_1"}')
    assert replay["headers"] == {"Location": "/things/th_1", "Idempotent-Replayed": "true"}


def test_a_replay_counts_against_the_limits_of_its_own_moment(house: House) -> None:
    key = house.key(house.tenant(plan="pro"))
    claim(house, key, "k")
    remember(house, key, "k", **{"RateLimit-Remaining": "59"})

    (replay,) = house.run(
        "select * from public.claim_idempotency("
        "public.authorize('payments:write', 'read'), %s, 'k', %s)",
        ROUTE,
        HASH,
        headers=key.headers,
    )

    assert replay["headers"]["RateLimit-Remaining"] == "199"


def test_another_body_under_the_same_key_is_refused(house: House) -> None:
    key = house.key()
    claim(house, key, "k")

    refusal = house.refused(lambda: claim(house, key, "k", "b" * 64))

    assert (refusal.code, refusal.status) == ("42241", 422)


@pytest.mark.parametrize("bad", ["", " ", "a b", "k" * 129, "naïve", "a\nb", "a\n", "\x7f", None])
def test_a_key_is_1_to_128_visible_characters(house: House, bad: str | None) -> None:
    key = house.key()

    refusal = house.refused(lambda: claim(house, key, bad))  # type: ignore[arg-type]

    assert (refusal.code, refusal.status) == ("40002", 400)


@pytest.mark.parametrize("good", ["!", "~", "k" * 128])
def test_the_longest_and_oddest_keys_are_taken(house: House, good: str) -> None:
    assert claim(house, house.key(), good) == FIRST


def test_a_key_belongs_to_tenant_environment_and_route(house: House) -> None:
    key = house.key()
    claim(house, key, "k")

    claims = [
        claim(house, house.key(), "k"),
        claim(house, house.key(key.tenant_id, environment="production"), "k"),
        claim(house, key, "k", route="POST /others"),
    ]

    assert claims == [FIRST] * 3


def test_two_keys_of_a_tenant_replay_each_others_answers(house: House) -> None:
    key = house.key()
    claim(house, key, "k")
    remember(house, key, "k")

    assert claim(house, house.key(key.tenant_id), "k")["status"] == 201


def test_an_unanswered_claim_is_refused_while_its_request_may_still_run(house: House) -> None:
    key = house.key()
    claim(house, key, "k")

    refusal = house.refused(lambda: claim(house, key, "k"))

    assert (refusal.code, refusal.status) == ("40904", 409)
    assert refusal.extras == {"retry_after": 2}


def abandon(house: House, key: Key) -> None:
    house.run(
        "update public.idempotency_keys set claimed_at = now() - interval '61 seconds'"
        " where tenant_id = %s returning 1",
        key.tenant_id,
    )


def test_an_abandoned_claim_names_the_resource_it_was_about(house: House) -> None:
    key = house.key()
    claim(house, key, "k")
    house.run(
        "select public.bind_idempotency(public.caller(), %s, 'k', 'pi_1')",
        ROUTE,
        headers=key.headers,
    )
    abandon(house, key)

    answer = claim(house, key, "k")

    assert (answer["status"], answer["body"]) == (None, "pi_1")


def test_an_abandoned_claim_without_resource_is_not_taken_for_a_first_one(house: House) -> None:
    key = house.key()
    claim(house, key, "k")
    abandon(house, key)

    answer = claim(house, key, "k")

    assert (answer["status"], answer["body"]) == (None, "")


def test_a_forgotten_key_may_be_used_again_but_an_answered_one_is_never_forgotten(
    house: House,
) -> None:
    key = house.key()
    forget = "select public.forget_idempotency(public.caller(), %s, 'k')"
    claim(house, key, "k")
    house.run(forget, ROUTE, headers=key.headers)

    again = claim(house, key, "k", "b" * 64)
    remember(house, key, "k")
    house.run(forget, ROUTE, headers=key.headers)

    assert again == FIRST
    assert claim(house, key, "k", "b" * 64)["status"] == 201


def test_the_first_answer_stays(house: House) -> None:
    key = house.key()
    claim(house, key, "k")
    remember(house, key, "k", Location="/first")
    remember(house, key, "k", Location="/second")

    assert claim(house, key, "k")["headers"]["Location"] == "/first"


def test_a_failed_request_leaves_no_key(house: House) -> None:
    key = house.key()
    with house.database.connect(autocommit=False) as connection:
        run_in(connection, CLAIM, ROUTE, "k", HASH, headers=key.headers)
        connection.rollback()

    assert claim(house, key, "k", "b" * 64) == FIRST


def test_twenty_clients_with_one_key_have_one_effect_and_one_answer(house: House) -> None:
    key = house.key()

    def request(_: int) -> Any:
        with house.database.connect(autocommit=False) as connection:
            return make_thing(connection, key, "race")

    results = at_once(request, 20)

    firsts = [result for result in results if result == FIRST]
    replays = {result["body"] for result in results if result != FIRST}
    assert not [result for result in results if isinstance(result, Refused)]
    assert len(firsts) == 1
    assert len(replays) == 1
    assert things(house, key) == 1


def test_a_twin_goes_on_when_the_first_rolls_back(house: House) -> None:
    key = house.key()
    with house.database.connect(autocommit=False) as first:
        run_in(first, CLAIM, ROUTE, "k", HASH, headers=key.headers)

        def twin(number: int) -> Any:
            if number == 0:
                first.rollback()
                return None
            with house.database.connect(autocommit=False) as second:
                return make_thing(second, key, "k")

        results = at_once(twin, 2)

    assert results[1] == FIRST
    assert things(house, key) == 1


def test_purging_removes_what_is_older_than_36_hours(empty_house: House) -> None:
    key = empty_house.key()
    claim(empty_house, key, "old")
    claim(empty_house, key, "young")
    lifetime = empty_house.one(
        "select distinct expires_at - claimed_at from public.idempotency_keys"
    )
    empty_house.run(
        "update public.idempotency_keys set expires_at = now() where key = 'old' returning 1"
    )

    purged = empty_house.one("select public.purge_idempotency_keys()")

    assert lifetime.total_seconds() == 36 * 3600
    assert purged == 1
    assert empty_house.one("select key from public.idempotency_keys") == "young"


def test_a_purge_takes_5000_rows_and_leaves_the_rest_for_the_next(empty_house: House) -> None:
    empty_house.run(
        "insert into public.idempotency_keys"
        " (tenant_id, environment, route, key, body_hash, expires_at)"
        " select 'tn', 'sandbox', 'r', i::text, 'h', now() from generate_series(1, 5001) as i"
        " returning 1"
    )

    purged = [empty_house.one("select public.purge_idempotency_keys()") for _ in range(3)]

    assert purged == [5000, 1, 0]
