"""What may be sent, in which order, and what becomes of it."""

import json

import pytest

from tests.sql.webhooks.listener import Listener, claim, fan_out, met, record
from tests.support.sql import Api, Books


def test_event_goes_to_every_endpoint_that_wants_it(api: Api, listener: Listener) -> None:
    everything, transfers = listener.endpoint(), listener.endpoint("transfer.*")
    settled = listener.endpoint("transfer.settled", "payment_intent.created")

    listener.shop.attempt()
    fan_out(api)

    types = {
        endpoint: [delivery["type"] for delivery in listener.deliveries(endpoint)]
        for endpoint in (everything, transfers, settled)
    }
    assert types == {
        everything: [
            "payment_intent.created",
            "payment_intent.processing",
            "transfer.initiated",
            "transfer.submitted",
            "transfer.accepted",
        ],
        transfers: ["transfer.initiated", "transfer.submitted", "transfer.accepted"],
        settled: ["payment_intent.created"],
    }


def test_payload_is_minified_and_says_what_happened(api: Api, listener: Listener) -> None:
    listener.endpoint("payment_intent.created")
    intent_id = listener.shop.new_intent()
    fan_out(api)

    (sent,) = claim(api)

    payload = json.loads(sent["payload"])
    assert sent["payload"] == json.dumps(payload, separators=(",", ":"))
    assert list(payload) == ["id", "type", "api_version", "livemode", "timestamp", "data"]
    assert payload["id"] == sent["event_id"]
    assert payload["data"] == {
        "payment_intent_id": intent_id,
        "sequence": 0,
        "status": "requires_payment_method",
        "amount": "100.00",
        "currency": "KES",
    }
    assert payload["livemode"] is False


def test_second_event_of_a_payment_waits_for_the_first(api: Api, listener: Listener) -> None:
    listener.endpoint("payment_intent.*")
    listener.shop.cancel(listener.shop.new_intent())
    fan_out(api)

    (first,) = claim(api)
    assert claim(api) == []
    record(api, met(first, 500))
    assert claim(api) == []


def test_second_event_goes_once_the_first_arrived(api: Api, listener: Listener) -> None:
    listener.endpoint("payment_intent.*")
    listener.shop.cancel(listener.shop.new_intent())
    fan_out(api)
    (first,) = claim(api)

    record(api, met(first))

    (second,) = claim(api)
    assert json.loads(first["payload"])["type"] == "payment_intent.created"
    assert json.loads(second["payload"])["type"] == "payment_intent.canceled"


@pytest.mark.parametrize(
    ("attempt", "status_code", "more", "at_least_s", "at_most_s"),
    [
        (1, 500, {}, 10, 12),
        (2, 500, {}, 60, 72),
        (3, 500, {}, 600, 720),
        (4, 500, {}, 3600, 4320),
        (9, 500, {}, 3600, 4320),
        (1, 302, {}, 10, 12),
        (1, 429, {}, 60, 72),
        (1, None, {}, 60, 72),
        (2, 503, {"retry_after_s": 100}, 100, 120),
        (2, 503, {"retry_after_s": 100_000}, 120, 144),
        (2, 503, {"retry_after_s": 1}, 60, 72),
        (1, None, {"error": "no connection"}, 10, 12),
    ],
)
def test_failed_attempt_is_due_again_after(
    api: Api,
    books: Books,
    listener: Listener,
    attempt: int,
    status_code: int | None,
    more: dict[str, object],
    at_least_s: float,
    at_most_s: float,
) -> None:
    listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    fan_out(api)
    books.run("update webhooks.queue set attempts = %s", attempt - 1)
    (sent,) = claim(api)
    began = books.value("select clock_timestamp()")

    record(api, met(sent, status_code, **more))

    since, left = books.row(
        "select extract(epoch from due_at - %s)::float as since,"
        " extract(epoch from due_at - clock_timestamp())::float as left"
        " from webhooks.queue where delivery_id = %s",
        began,
        sent["delivery_id"],
    ).values()
    assert since >= at_least_s
    assert left <= at_most_s


def test_delivery_is_given_up_after_a_day(api: Api, books: Books, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.*")
    listener.shop.cancel(listener.shop.new_intent())
    fan_out(api)
    books.run("update webhooks.queue set give_up_at = now() + interval '30 minutes', attempts = 5")
    (sent,) = claim(api)

    record(api, met(sent, 500))

    given_up, follower = listener.deliveries(endpoint)
    assert (given_up["status"], given_up["attempts"]) == ("failed", 1)
    assert follower["status"] == "pending"
    (second,) = claim(api)
    assert second["event_id"] == follower["event_id"]


def test_claimed_delivery_is_nobody_elses_until_its_lease_is_over(
    api: Api, books: Books, listener: Listener
) -> None:
    listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    fan_out(api)
    (first,) = claim(api)
    assert claim(api) == []

    books.run("update webhooks.queue set due_at = now() - interval '1 s'")

    (second,) = claim(api)
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert record(api, met(first)) == 0
    assert record(api, met(second)) == 1


def test_event_taken_twice_is_delivered_once(api: Api, books: Books, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    fan_out(api)
    (message,) = books.rows("select * from webhooks.messages order by created_at desc limit 1")

    again = books.value(
        "select webhooks.enqueue(array[m], null) from webhooks.messages as m where m.event_id = %s",
        message["event_id"],
    )

    assert again == 0
    assert len(listener.deliveries(endpoint)) == 1
    assert len(claim(api)) == 1


def test_busy_endpoint_gets_its_turn_and_no_more(api: Api, listener: Listener) -> None:
    quiet = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    busy = listener.endpoint("payment_intent.created")
    for _ in range(60):
        listener.shop.new_intent()
    fan_out(api)

    turns = [delivery["endpoint_id"] for delivery in claim(api, 40)]

    assert turns.count(quiet) == turns.count(busy) == 20
    claim(api)
    assert claim(api) == []  # fifty of each are in the air


def test_endpoint_that_fails_is_left_alone_for_longer_and_longer(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    for _ in range(12):
        listener.shop.new_intent()
    fan_out(api)
    first = claim(api, 6)
    began = books.value("select clock_timestamp()")

    record(api, *[met(delivery, 500) for delivery in first[:5]])

    assert claim(api) == []
    since, left = books.row(
        "select extract(epoch from open_until - %s)::float as since,"
        " extract(epoch from open_until - clock_timestamp())::float as left"
        " from webhooks.endpoint_health where endpoint_id = %s",
        began,
        endpoint,
    ).values()
    assert since > 8
    assert left <= 10
    assert listener.get(endpoint)["paused_until"] is not None
    over(books, endpoint)
    record(api, met(first[5], 500))
    assert (
        books.value(
            "select openings from webhooks.endpoint_health where endpoint_id = %s", endpoint
        )
        == 2
    )


def test_one_success_opens_the_way_again(api: Api, books: Books, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    for _ in range(12):
        listener.shop.new_intent()
    fan_out(api)
    record(api, *[met(delivery, 500) for delivery in claim(api, 5)])
    over(books, endpoint)

    (probe,) = claim(api)
    record(api, met(probe))

    assert len(claim(api)) == 6
    health = books.row("select * from webhooks.endpoint_health where endpoint_id = %s", endpoint)
    assert (health["failures"], health["open_until"], health["openings"]) == (0, None, 0)


def test_endpoint_that_is_gone_is_disabled_at_once(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    listener.shop.new_intent()
    fan_out(api)
    one, _ = claim(api)

    record(api, met(one, 410))

    assert (listener.get(endpoint)["status"], listener.get(endpoint)["disabled_reason"]) == (
        "disabled",
        "gone",
    )
    assert [one["status"] for one in listener.deliveries(endpoint)] == ["failed", "failed"]
    assert books.alerts(endpoint) == ["webhook_endpoint_disabled"]
    assert claim(api) == []


def test_endpoint_that_failed_for_five_days_is_disabled_and_somebody_is_told(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    fan_out(api)
    books.run(
        "update webhooks.endpoint_health set failures = 100, openings = 9,"
        " open_until = now() - interval '1 s', failing_since = now() - interval '121 hours'"
        " where endpoint_id = %s",
        endpoint,
    )
    (sent,) = claim(api)

    record(api, met(sent, 500))

    assert listener.get(endpoint)["disabled_reason"] == "failing"
    assert books.alerts(endpoint) == ["webhook_endpoint_disabled"]


def test_endpoint_that_failed_for_four_days_is_still_tried(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    fan_out(api)
    books.run(
        "update webhooks.endpoint_health set failures = 100,"
        " failing_since = now() - interval '119 hours' where endpoint_id = %s",
        endpoint,
    )
    (sent,) = claim(api)

    record(api, met(sent, 500))

    assert listener.get(endpoint)["status"] == "enabled"


def test_attempts_are_kept_with_what_they_met(api: Api, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    fan_out(api)
    (sent,) = claim(api)

    record(api, met(sent, 500, response_excerpt="x" * 5000, duration_ms=77))

    kept = listener.delivery(endpoint, sent["event_id"])
    (attempt,) = kept["attempts"]
    assert (attempt["number"], attempt["status_code"], attempt["duration_ms"]) == (1, 500, 77)
    assert attempt["response_excerpt"] == "x" * 2048
    assert attempt["url"] == "https://shop.example/hooks"
    assert kept["payload"] == sent["payload"]


def over(books: Books, endpoint: str) -> None:
    """The endpoint has waited long enough."""
    books.run(
        "update webhooks.endpoint_health set open_until = now() - interval '1 s'"
        " where endpoint_id = %s",
        endpoint,
    )
