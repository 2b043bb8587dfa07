"""Event streams: who opens one, for how long, and what it shows."""

import json

import pytest

from tests.sql.payments.shop import Answer, Shop
from tests.sql.rails.rail import Rail
from tests.support.sql import Books, Headers, Refused, Row, digest


def issue(shop: Shop, intent_id: str, headers: Headers | None = None) -> str:
    """POST …/stream-token: the token."""
    answer = shop.call("payments.issue_stream_token", headers, payment_intent_id=intent_id)
    return str(Answer.of(answer).body["token"])


def open_by_token(shop: Shop, intent_id: str, token: str) -> Row:
    """GET …/events by somebody who has nothing but the token."""
    return dict(
        shop.call(
            "payments.open_stream",
            {"x-request-id": "1"},
            payment_intent_id=intent_id,
            token_hash=digest(token),
        )
    )


def open_by_key(shop: Shop, intent_id: str) -> Row:
    """GET …/events with the secret key."""
    return dict(shop.call("payments.open_stream", payment_intent_id=intent_id, token_hash=None))


def read(shop: Shop, **cursors: int) -> list[Row]:
    """What the open streams have to say after these positions."""
    return list(shop.call("payments.read_streams", {"x-request-id": "1"}, cursors=cursors))


def test_a_token_opens_one_stream_once(shop: Shop) -> None:
    intent_id = shop.new_intent()
    token = issue(shop, intent_id)

    opened = open_by_token(shop, intent_id, token)

    assert opened["stream_id"]
    with pytest.raises(Refused) as refused:
        open_by_token(shop, intent_id, token)
    assert refused.value.code == "40102"


def test_a_token_is_kept_as_a_hash_and_ends_after_a_minute(shop: Shop, books: Books) -> None:
    intent_id = shop.new_intent()
    token = issue(shop, intent_id)
    books.run(
        "update payments.stream_tokens set expires_at = expires_at - interval '60 seconds'"
        " where token_hash = %s",
        digest(token),
    )

    with pytest.raises(Refused) as refused:
        open_by_token(shop, intent_id, token)

    assert refused.value.code == "40102"
    assert token not in str(
        books.rows("select * from payments.stream_tokens where payment_intent_id = %s", intent_id)
    )


def test_a_token_opens_no_other_intent(shop: Shop) -> None:
    token = issue(shop, shop.new_intent())

    with pytest.raises(Refused) as refused:
        open_by_token(shop, shop.new_intent(), token)

    assert refused.value.code == "40102"


def test_a_payer_gets_a_token_for_the_own_intent_alone(shop: Shop) -> None:
    mine, other = shop.create().body, shop.create().body
    payer = shop.payer(mine["client_secret"])

    token = issue(shop, mine["id"], payer)

    assert open_by_token(shop, mine["id"], token)["stream_id"]
    with pytest.raises(Refused) as refused:
        issue(shop, other["id"], payer)
    assert refused.value.code == "40401"


def test_a_stream_shows_the_events_of_its_intent_after_its_position(shop: Shop, rail: Rail) -> None:
    attempt, other = shop.attempt(), shop.attempt()
    stream = open_by_key(shop, attempt.intent_id)["stream_id"]
    earlier = read(shop, **{stream: 0})
    rail.call_back(other, other.paid())
    rail.call_back(attempt, attempt.paid())

    news = read(shop, **{stream: earlier[-1]["position"]})

    assert [event["type"] for event in earlier] == [
        "payment_intent.created",
        "payment_intent.processing",
    ]
    assert [event["type"] for event in news] == ["payment_intent.succeeded"]


def test_a_stream_never_shows_the_client_secret(shop: Shop) -> None:
    created = shop.create().body
    stream = open_by_key(shop, created["id"])["stream_id"]

    shown = read(shop, **{stream: 0})

    assert json.loads(shown[0]["resource"])["id"] == created["id"]
    assert created["client_secret"] not in str(shown)


def test_one_call_reads_many_streams(shop: Shop) -> None:
    first, second = shop.new_intent(), shop.new_intent()
    streams = [open_by_key(shop, intent_id)["stream_id"] for intent_id in (first, second)]

    news = read(shop, **dict.fromkeys(streams, 0))

    assert [event["stream_id"] for event in news] == streams


def test_a_stream_that_ended_or_never_was_shows_nothing(shop: Shop, books: Books) -> None:
    stream = open_by_key(shop, shop.new_intent())["stream_id"]
    books.run("update payments.streams set expires_at = now() where stream_id = %s", stream)

    assert read(shop, **{stream: 0}) == []
    assert read(shop, invented=0) == []


def test_spent_tokens_and_closed_streams_are_purged(shop: Shop, books: Books) -> None:
    intent_id = shop.new_intent()
    old, new = issue(shop, intent_id), issue(shop, intent_id)
    old_stream = open_by_key(shop, intent_id)["stream_id"]
    new_stream = open_by_key(shop, intent_id)["stream_id"]
    books.run(
        "update payments.stream_tokens set expires_at = now() - interval '61 minutes'"
        " where token_hash = %s",
        digest(old),
    )
    books.run(
        "update payments.streams set expires_at = now() - interval '61 minutes'"
        " where stream_id = %s",
        old_stream,
    )

    purged = books.value("select payments.purge_streams()")

    assert purged == 2
    assert books.column(
        "select token_hash from payments.stream_tokens where payment_intent_id = %s", intent_id
    ) == [digest(new)]
    assert books.column(
        "select stream_id from payments.streams where payment_intent_id = %s", intent_id
    ) == [new_stream]
