"""Endpoints as merchants keep them; sending again; what two do at the same moment."""

from functools import partial

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Shop, new_key
from tests.sql.webhooks.listener import (
    DISPATCHER,
    ENDPOINTS,
    Listener,
    claim,
    fan_out,
    met,
    record,
)
from tests.support.sql import Api, Books, Refused, at_once, connections

EVER = {"from_at": "2026-01-01T00:00:00Z", "to_at": "2100-01-01T00:00:00Z"}


def deliver_all(api: Api, status_code: int = 200) -> list[str]:
    """Send everything there is; the ids of the events, in the order in which they went."""
    fan_out(api)
    went = list[str]()
    while batch := claim(api):
        went += [delivery["event_id"] for delivery in batch]
        record(api, *[met(delivery, status_code) for delivery in batch])
    return went


@pytest.mark.parametrize("wanted", ["payment.done", "transfer", "nothing.*", ""])
def test_filter_that_lets_nothing_through_is_refused(listener: Listener, wanted: str) -> None:
    with pytest.raises(Refused) as refused:
        listener.endpoint("transfer.*", wanted)

    assert refused.value.code == "42262"
    assert refused.value.extras["errors"][0]["pointer"] == "/event_types/1"


@pytest.mark.parametrize("wanted", ["*", "transfer.*", "transfer.settled", "invoice.*"])
def test_type_family_and_everything_are_filters(listener: Listener, wanted: str) -> None:
    endpoint = listener.endpoint(wanted)

    assert listener.get(endpoint)["event_types"] == [wanted]


def test_disabled_endpoint_misses_what_it_can_have_replayed(api: Api, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.call("webhooks.disable_endpoint", endpoint_id=endpoint)
    listener.shop.new_intent()
    assert deliver_all(api) == []
    (missed,) = listener.deliveries(endpoint, "missed")

    listener.call("webhooks.enable_endpoint", endpoint_id=endpoint)
    replayed = listener.call(
        "webhooks.replay_range", endpoint_id=endpoint, statuses=["failed", "missed"], **EVER
    )

    assert (replayed.status, replayed.body["queued"], replayed.body["next_from"]) == (202, 1, None)
    assert deliver_all(api) == [missed["event_id"]]
    assert listener.deliveries(endpoint, "delivered")[0]["event_id"] == missed["event_id"]


def test_replay_of_a_range_keeps_the_order_of_each_payment(api: Api, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.*")
    listener.shop.cancel(listener.shop.new_intent())
    first = deliver_all(api)

    listener.call("webhooks.replay_range", endpoint_id=endpoint, statuses=["delivered"], **EVER)

    (head,) = claim(api)
    assert head["event_id"] == first[0]
    record(api, met(head))
    assert [head["event_id"], *deliver_all(api)] == first
    assert [one["attempts"] for one in listener.deliveries(endpoint)] == [2, 2]


def test_replay_does_not_hold_up_what_is_new(api: Api, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.*")
    intent = listener.shop.new_intent()
    (created,) = deliver_all(api)
    listener.call("webhooks.replay_delivery", endpoint_id=endpoint, event_id=created)
    (replay,) = claim(api)
    record(api, met(replay, 500))

    listener.shop.cancel(intent)

    (canceled,) = deliver_all(api)
    assert canceled != created


def test_replay_of_what_waits_hurries_it(api: Api, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    fan_out(api)
    (sent,) = claim(api)
    record(api, met(sent, 500))
    assert claim(api) == []

    listener.call("webhooks.replay_delivery", endpoint_id=endpoint, event_id=sent["event_id"])

    (again,) = claim(api)
    assert (again["delivery_id"], again["attempt"]) == (sent["delivery_id"], 2)


def test_nothing_is_replayed_to_a_disabled_endpoint(api: Api, listener: Listener) -> None:
    endpoint = listener.endpoint()
    listener.shop.new_intent()
    deliver_all(api)
    listener.call("webhooks.disable_endpoint", endpoint_id=endpoint)

    with pytest.raises(Refused) as refused:
        listener.call("webhooks.replay_range", endpoint_id=endpoint, statuses=["failed"], **EVER)

    assert refused.value.code == "40911"


def test_event_whose_bytes_are_gone_is_not_replayed(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    (event_id,) = deliver_all(api)
    books.run("update webhooks.messages set created_at = now() - interval '31 days'")

    with pytest.raises(Refused) as refused:
        listener.call("webhooks.replay_delivery", endpoint_id=endpoint, event_id=event_id)

    assert refused.value.code == "42262"


def test_bytes_and_attempts_leave_after_their_time_and_the_list_stays(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    listener.shop.new_intent()
    (event_id,) = deliver_all(api)
    books.run("update webhooks.messages set created_at = now() - interval '33 days'")
    books.run("update webhooks.attempts set started_at = now() - interval '33 days'")

    books.run("select webhooks.purge()")

    kept = listener.delivery(endpoint, event_id)
    assert (kept["delivery"]["status"], kept["payload"], kept["attempts"]) == (
        "delivered",
        None,
        [],
    )


def test_deleted_endpoint_hears_nothing_and_has_no_secret(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint()
    listener.shop.new_intent()
    fan_out(api)

    listener.call("webhooks.delete_endpoint", endpoint_id=endpoint)

    listener.shop.new_intent()
    assert deliver_all(api) == []
    row = books.row("select * from webhooks.endpoints where endpoint_id = %s", endpoint)
    assert (row["status"], row["secret_sealed"]) == ("deleted", "")
    with pytest.raises(Refused) as refused:
        listener.get(endpoint)
    assert refused.value.code == "40401"


def test_key_without_the_scope_may_look_and_not_touch(listener: Listener) -> None:
    endpoint = listener.endpoint()
    reader = listener.shop.add_key("reader", ["webhooks:read"])

    listener.shop.api.call(ENDPOINTS, reader, "webhooks.get_endpoint", endpoint_id=endpoint)
    with pytest.raises(Refused) as refused:
        listener.shop.api.call(ENDPOINTS, reader, "webhooks.delete_endpoint", endpoint_id=endpoint)

    assert refused.value.code == "40311"


def test_deliveries_are_listed_page_by_page(api: Api, listener: Listener) -> None:
    endpoint = listener.endpoint("payment_intent.created")
    for _ in range(5):
        listener.shop.new_intent()
    fan_out(api)
    everything = [one["event_id"] for one in reversed(listener.deliveries(endpoint))]

    seen, cursor = list[str](), None
    for _ in range(3):
        page = listener.call(
            "webhooks.list_deliveries",
            endpoint_id=endpoint,
            status=None,
            page_size=2,
            page_after=cursor,
        ).body
        seen += [one["event_id"] for one in page["data"]]
        cursor = page["pagination"]["next_cursor"]

    assert seen == everything
    assert len(everything) == 5
    assert cursor is None


def test_dispatchers_side_by_side_send_each_event_once_and_in_order(
    module_database: Database, api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint("payment_intent.*")
    for _ in range(30):
        listener.shop.cancel(listener.shop.new_intent())
    sent = list[tuple[str, str]]()

    def dispatch(one: Api) -> None:
        idle = 0
        while idle < 3:
            events = fan_out(one, 7)
            claimed = claim(one, 5)
            sent.extend((delivery["event_id"], delivery["payload"]) for delivery in claimed)
            if claimed:
                record(one, *[met(delivery) for delivery in claimed])
            idle = 0 if events or claimed else idle + 1

    with connections(module_database, 6) as apis:
        at_once([partial(dispatch, one) for one in apis])
        dispatch(api)

    assert len({event_id for event_id, _ in sent}) == len(sent) == 60
    assert [one["status"] for one in listener.deliveries(endpoint)] == ["delivered"] * 60
    for intent in books.column(
        "select payment_intent_id from payments.payment_intents where tenant_id = %s",
        listener.shop.tenant_id,
    ):
        told = [payload for _, payload in sent if intent in payload]
        assert ['"sequence":0' in payload for payload in told] == [True, False]


def test_as_many_endpoints_as_are_allowed_whoever_asks_at_once(
    module_database: Database, books: Books, listener: Listener
) -> None:
    def create(one: Api) -> str:
        return Listener(Shop(one, books, listener.shop.tenant_id)).endpoint()

    with connections(module_database, 12) as apis:
        answered = at_once([partial(create, one) for one in apis])

    refused = [one.code for one in answered if isinstance(one, Refused)]
    assert refused == ["42254"] * 7


def test_two_creates_with_one_key_make_one_endpoint(
    module_database: Database, books: Books, listener: Listener
) -> None:
    key = new_key()

    def create(one: Api, number: int) -> int:
        shop = Shop(one, books, listener.shop.tenant_id)
        made = one.call(
            ENDPOINTS,
            shop.headers,
            "webhooks.create_endpoint",
            idempotency_key=key,
            body_hash="body",
            endpoint_id=f"whe_0{number:025d}",
            url="https://shop.example/",
            event_types=["*"],
            description=None,
            secret_sealed="sealed",
            key_version=1,
        )
        return int(made["status"])

    with connections(module_database, 8) as apis:
        answered = at_once([partial(create, one, number) for number, one in enumerate(apis)])

    assert answered == [201] * 8
    assert (
        books.value(
            "select count(*) from webhooks.endpoints where tenant_id = %s", listener.shop.tenant_id
        )
        == 1
    )


def test_event_type_without_a_schema_is_parked_and_others_flow(
    api: Api, books: Books, listener: Listener
) -> None:
    endpoint = listener.endpoint()
    intent = listener.shop.new_intent()
    books.run(
        "update payments.payment_intents set version = version + 1 where payment_intent_id = %s",
        intent,
    )
    books.run(
        "select payments.record_intent_event(p, 'payment_intent.unheard_of', '{}')"
        " from payments.payment_intents as p where p.payment_intent_id = %s",
        intent,
    )
    other = listener.shop.new_intent()

    deliver_all(api)

    assert [one["type"] for one in listener.deliveries(endpoint)] == ["payment_intent.created"] * 2
    parked = books.row(
        "select state, last_error from payments.outbox_exceptions"
        " where destination = 'webhooks' and ordering_key = %s",
        intent,
    )
    assert parked["state"] == "dead"
    assert "payment_intent.unheard_of" in parked["last_error"]
    assert other != intent


def test_dispatcher_reads_no_tenants_endpoints(api: Api) -> None:
    with pytest.raises(Exception, match="permission denied"):
        api.call(DISPATCHER, {}, "webhooks.list_endpoints")
