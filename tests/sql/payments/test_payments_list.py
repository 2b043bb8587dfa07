"""payments.list_intents and payments.list_intent_events: filters, pages, timelines."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scripts.stack.database import Database
from tests.sql.payments.outbox import add_destination
from tests.sql.payments.shop import Answer, Shop
from tests.sql.rails.rail import Rail
from tests.support.sql import Api, Books, Refused, Row, connections


def page(shop: Shop, after: str | None = None, size: int = 100, **filters: Any) -> Row:
    """One page of the list."""
    return Answer.of(
        shop.call("payments.list_intents", filters=filters, page_size=size, page_after=after)
    ).body


def ids(listed: Row) -> list[str]:
    """The ids on a page."""
    return [intent["id"] for intent in listed["data"]]


def all_pages(shop: Shop, size: int, **filters: Any) -> list[str]:
    """The ids on all pages, following next_cursor."""
    listed = page(shop, size=size, **filters)
    found = ids(listed)
    while listed["pagination"]["has_more"]:
        listed = page(shop, listed["pagination"]["next_cursor"], size, **filters)
        found += ids(listed)
    return found


def test_the_list_is_newest_first(shop: Shop) -> None:
    first, second, third = shop.new_intent(), shop.new_intent(), shop.new_intent()

    listed = page(shop)

    assert ids(listed) == [third, second, first]
    assert listed["pagination"] == {"limit": 100, "has_more": False, "next_cursor": None}


def test_an_empty_list_is_a_page(shop: Shop) -> None:
    assert page(shop) == {
        "data": [],
        "pagination": {"limit": 100, "has_more": False, "next_cursor": None},
    }


def test_an_entry_of_the_list_is_the_intent_itself(shop: Shop) -> None:
    intent_id = shop.new_intent(metadata={"order": "1"})

    (entry,) = page(shop)["data"]

    assert entry == shop.get(intent_id)


def test_each_filter_keeps_what_it_names(shop: Shop, rail: Rail, books: Books) -> None:
    paid = shop.attempt(amount_minor=10_000)
    rail.call_back(paid, paid.paid())
    small = shop.new_intent(amount_minor=5_000, metadata={"order": "1", "table": "7"})
    large = shop.new_intent(amount_minor=90_000, metadata={"order": "2"})
    old = shop.new_intent(amount_minor=20_000)
    books.run(
        "update payments.payment_intents set created_at = '2026-01-01T00:00:00Z'"
        " where payment_intent_id = %s",
        old,
    )

    assert ids(page(shop, status="succeeded")) == [paid.intent_id]
    assert ids(page(shop, currency="KES")) == [large, small, paid.intent_id, old]
    assert ids(page(shop, currency="USD")) == []
    assert ids(page(shop, created_before="2026-01-01T00:00:01Z")) == [old]
    assert ids(page(shop, created_before="2026-01-01T00:00:00Z")) == []
    assert ids(page(shop, created_after="2026-01-01T00:00:00Z"))[-1] == old
    assert old not in ids(page(shop, created_after="2026-01-01T03:00:01+03:00"))
    assert ids(page(shop, amount_gte_minor=20_000)) == [large, old]
    assert ids(page(shop, amount_lte_minor=10_000)) == [small, paid.intent_id]
    assert ids(page(shop, amount_gte_minor=10_000, amount_lte_minor=20_000)) == [
        paid.intent_id,
        old,
    ]
    assert ids(page(shop, metadata={"order": "1"})) == [small]
    assert ids(page(shop, metadata={"order": "1", "table": "8"})) == []
    assert ids(page(shop, status="requires_payment_method", metadata={"order": "2"})) == [large]


def test_pages_join_without_gap_or_repetition(shop: Shop, books: Books) -> None:
    made = [shop.new_intent() for _ in range(11)]
    # Ten of one moment: the id decides between them.
    books.run(
        "update payments.payment_intents set created_at = '2026-01-01T00:00:00.123456Z'"
        " where payment_intent_id = any(%s)",
        made[:10],
    )

    assert all_pages(shop, 3) == made[::-1]
    assert all_pages(shop, 11) == made[::-1]
    assert all_pages(shop, 1) == made[::-1]


def test_pages_keep_their_filter(shop: Shop) -> None:
    made = [shop.new_intent(amount_minor=10_000 + number % 2 * 100) for number in range(8)]

    assert all_pages(shop, 2, amount_lte_minor=10_000) == made[0::2][::-1]


def test_pages_stay_complete_while_others_insert(
    shop: Shop, module_database: Database, books: Books
) -> None:
    before = [shop.new_intent() for _ in range(60)]
    stop, sold = threading.Event(), threading.Semaphore(0)

    def sell(api: Api) -> None:
        while not stop.is_set():
            Shop(api, books, shop.tenant_id).new_intent()
            sold.release()

    with connections(module_database, 3) as apis, ThreadPoolExecutor(3) as pool:
        sellers = [pool.submit(sell, api) for api in apis]
        try:
            sold.acquire(timeout=10)
            found = [all_pages(shop, 7) for _ in range(3)]
        finally:
            stop.set()
        assert [seller.result() for seller in sellers] == [None] * 3

    assert [len(set(pages)) for pages in found] == [len(pages) for pages in found]
    assert [[i for i in pages if i in before] for pages in found] == [before[::-1]] * 3
    assert len(found[-1]) > len(before)


@pytest.mark.parametrize("cursor", ["", "x", "x.pi_1", "NaN.pi_1", "1e400.pi_1"])
def test_a_cursor_that_is_not_ours_is_refused(shop: Shop, cursor: str) -> None:
    with pytest.raises(Refused) as refused:
        page(shop, after=cursor)

    assert refused.value.code == "42262"
    assert refused.value.extras["errors"][0]["pointer"] == "/cursor"


def test_a_cursor_of_another_tenant_opens_nothing(shop: Shop, api: Api, books: Books) -> None:
    neighbour = Shop(api, books).open()
    neighbour.new_intent(), neighbour.new_intent()
    cursor = page(neighbour, size=1)["pagination"]["next_cursor"]

    assert page(shop, after=cursor)["data"] == []


def test_the_timeline_tells_everything_in_order(shop: Shop, rail: Rail) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid())

    listed = events(shop, attempt.intent_id)

    assert [(event["type"], event["seq"]) for event in listed] == [
        ("payment_intent.created", 0),
        ("payment_intent.processing", 1),
        ("transfer.initiated", 0),
        ("transfer.submitted", 1),
        ("transfer.accepted", 2),
        ("transfer.settled", 3),
        ("payment_intent.succeeded", 2),
    ]
    assert [event["position"] for event in listed] == sorted(event["position"] for event in listed)
    assert {event["subject"] for event in listed} == {attempt.intent_id, attempt.transfer_id}


def test_the_timeline_continues_after_a_position(shop: Shop) -> None:
    attempt = shop.attempt()
    listed = events(shop, attempt.intent_id)

    assert events(shop, attempt.intent_id, listed[2]["position"]) == listed[3:]
    assert events(shop, attempt.intent_id, listed[-1]["position"]) == []


def test_events_name_no_person(shop: Shop, rail: Rail) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid())

    told = str(events(shop, attempt.intent_id))

    assert "+254" not in told
    assert "sealed" not in told
    assert "pics_" not in told


def test_events_carry_the_traceparent_of_their_request(shop: Shop, books: Books) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    begun = shop.begin(shop.new_intent(), {**shop.headers, "traceparent": trace})

    assert books.column(
        "select traceparent from payments.transfer_events where transfer_id = %s order by seq",
        begun["instruction"]["transfer_id"],
    ) == [trace, trace]


def test_an_event_goes_to_each_destination_that_subscribed(shop: Shop, books: Books) -> None:
    for name in ("test_all", "test_transfers", "test_off"):
        add_destination(books, name)
    books.run(
        "insert into public.event_subscriptions (pattern, destination, enabled, description)"
        " values ('payment_intent.%%', 'test_all', true, ''), ('%%.created', 'test_all', true, ''),"
        " ('transfer.%%', 'test_transfers', true, ''), ('%%', 'test_off', false, '')"
    )
    attempt = shop.attempt()
    books.run("delete from public.event_subscriptions where destination like 'test_%%'")

    queued = books.rows(
        "select o.destination, o.event_type, o.ordering_key, o.seq"
        " from payments.outbox as o"
        " where o.tenant_id = %s and o.destination like 'test_%%' order by o.outbox_id",
        shop.tenant_id,
    )
    assert [tuple(row.values()) for row in queued] == [
        ("test_all", "payment_intent.created", attempt.intent_id, 0),
        ("test_all", "payment_intent.processing", attempt.intent_id, 1),
        ("test_transfers", "transfer.initiated", attempt.transfer_id, 0),
        ("test_transfers", "transfer.submitted", attempt.transfer_id, 1),
        ("test_transfers", "transfer.accepted", attempt.transfer_id, 2),
    ]


def events(shop: Shop, intent_id: str, after: int = 0) -> list[Row]:
    """GET …/events after a position."""
    answer = shop.call(
        "payments.list_intent_events", payment_intent_id=intent_id, after_position=after
    )
    return list(Answer.of(answer).body["data"])
