"""GET /events: everything once, nothing skipped, whatever writers do meanwhile."""

import json

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Shop
from tests.sql.webhooks.listener import EVENTS, Listener, claim, fan_out
from tests.support.sql import Api, Books, Refused, connections


def ids(page: dict[str, object]) -> list[str]:
    """The ids of a page."""
    return [event["id"] for event in page["data"]]  # type: ignore[attr-defined]


def test_pages_hold_every_event_once_and_in_order(listener: Listener) -> None:
    intent = listener.shop.attempt().intent_id
    listener.shop.cancel(listener.shop.new_intent())
    everything = ids(listener.events())

    seen = list[str]()
    after = None
    for _ in range(len(everything)):
        page = listener.events(after, limit=2)
        seen += ids(page)
        after = page["pagination"]["next_after"]

    assert seen == everything
    assert len(everything) == 7
    assert (ids(page), page["pagination"]["has_more"], after) == ([], False, everything[-1])
    subjects = [event["data"].get("payment_intent_id") for event in listener.events()["data"]]
    assert subjects[0] == intent


def test_type_filters_as_endpoints_do(listener: Listener) -> None:
    listener.shop.attempt()

    transfers = listener.events(types=["transfer.*", "payment_intent.created"])

    assert [event["type"] for event in transfers["data"]] == [
        "payment_intent.created",
        "transfer.initiated",
        "transfer.submitted",
        "transfer.accepted",
    ]


def test_event_is_the_bytes_of_its_webhook(api: Api, listener: Listener) -> None:
    listener.shop.new_intent()
    before = listener.shop.api.call(
        EVENTS,
        listener.shop.headers,
        "webhooks.list_events",
        after_event=None,
        types=None,
        page_size=10,
    )["body"]
    listener.endpoint()
    fan_out(api)

    (sent,) = claim(api)

    alone = listener.shop.api.call(
        EVENTS, listener.shop.headers, "webhooks.get_event", event_id=sent["event_id"]
    )
    # Made for the webhook or made for the reader: the same.
    assert alone["body"] == sent["payload"]
    assert sent["payload"] in before


def test_event_of_a_slow_writer_is_not_skipped(
    module_database: Database, books: Books, listener: Listener
) -> None:
    with connections(module_database, 1) as (slow,), slow.connection.transaction():
        # It has its number and writes its event late; others come and go meanwhile.
        slow.connection.execute("select pg_current_xact_id()")
        quick = listener.shop.new_intent()
        during = ids(listener.events())
        slow_shop = Shop(slow, books, listener.shop.tenant_id)
        late = slow_shop.new_intent()
        assert during == []
    events = listener.events()["data"]

    assert [event["data"]["payment_intent_id"] for event in events] == [late, quick]
    assert listener.events(events[0]["id"])["data"] == events[1:]


def test_reader_who_goes_on_from_an_event_gets_what_was_finished_later(
    module_database: Database, books: Books, listener: Listener
) -> None:
    first = listener.shop.new_intent()
    (seen,) = ids(listener.events())
    with connections(module_database, 1) as (slow,), slow.connection.transaction():
        slow_shop = Shop(slow, books, listener.shop.tenant_id)
        late = slow_shop.new_intent()
        listener.shop.new_intent()
        assert listener.events(seen)["data"] == []

    rest = listener.events(seen)["data"]

    assert rest[0]["data"]["payment_intent_id"] == late
    assert len(rest) == 2
    assert first not in json.dumps(rest)


def test_strangers_event_is_no_place_to_go_on_from(
    api: Api, books: Books, listener: Listener
) -> None:
    listener.shop.new_intent()
    (mine,) = ids(listener.events())
    stranger = Listener(Shop(api, books).open())

    with pytest.raises(Refused) as refused:
        stranger.events(mine)

    assert refused.value.code == "42262"
    assert stranger.events()["data"] == []


def test_other_environment_sees_nothing(api: Api, books: Books, listener: Listener) -> None:
    listener.shop.new_intent()
    live = Shop(api, books, listener.shop.tenant_id, environment="production").open()

    assert Listener(live).events()["data"] == []
