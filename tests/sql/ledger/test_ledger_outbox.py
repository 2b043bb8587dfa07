"""From the outbox into the books, as functions/ledger does it: all in one transaction."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts.stack.database import Database
from tests.sql.ledger.ledger import Ledger, refused
from tests.sql.payments.shop import Shop
from tests.sql.rails.rail import Rail
from tests.support.simulator import until
from tests.support.sql import Api, Books, Row

LOCK = "select from ledger.chains where tenant_id = %s for no key update nowait"
WAITING = (
    "select count(*) from pg_catalog.pg_stat_activity"
    " where datname = current_database() and wait_event_type = 'Lock'"
)


@pytest.fixture
def alone(database: Database) -> Iterator[tuple[Shop, Rail, Books]]:
    """A shop in a database of its own: the outbox holds nobody else's events."""
    with Api(database) as api, Books(database) as books:
        yield Shop(api, books).open(), Rail(api), books


def drain(shop: Shop) -> int:
    """POST /ledger until nothing is left; how many events were taken."""
    taken = 0
    while batch := int(shop.api.call("fn_ledger", {}, "ledger.book", max_rows=100)):
        taken += batch
    return taken


def booked(books: Books) -> list[str]:
    """The transfers that have journals, in order."""
    return books.column("select transfer_id from ledger.journals order by journal_no")


def exceptions(books: Books) -> list[Row]:
    """Events that were not delivered."""
    return books.rows(
        "select o.event_type, e.state, e.last_error from payments.outbox_exceptions as e"
        " join payments.outbox as o on o.outbox_id = e.outbox_id and o.destination = e.destination"
        " where e.destination = 'ledger' order by o.outbox_id"
    )


def test_every_event_is_taken_once_and_the_settled_ones_are_booked(
    alone: tuple[Shop, Rail, Books],
) -> None:
    shop, rail, books = alone
    attempts = [shop.attempt() for _ in range(3)]
    for attempt in attempts[:2]:
        rail.call_back(attempt, attempt.paid())

    first = drain(shop)
    rail.call_back(attempts[2], attempts[2].paid())
    drain(shop)

    assert first > 3
    assert drain(shop) == 0
    assert booked(books) == [attempt.transfer_id for attempt in attempts]
    assert exceptions(books) == []


def test_an_event_of_unknown_type_is_parked_with_an_alert_and_others_flow(
    alone: tuple[Shop, Rail, Books],
) -> None:
    shop, rail, books = alone
    strange, usual = shop.attempt(), shop.attempt()
    books.run(
        "select payments.annotate_transfer(%s, 'transfer.vanished', '{}')", strange.transfer_id
    )
    for attempt in (strange, usual):
        rail.call_back(attempt, attempt.paid())

    drain(shop)

    assert booked(books) == [usual.transfer_id]
    dead = exceptions(books)[0]
    assert (dead["event_type"], dead["state"]) == ("transfer.vanished", "dead")
    assert "know no event of type transfer.vanished" in dead["last_error"]
    kinds = books.column("select kind from public.alerts where status = 'open'")
    assert kinds == ["delivery_dead"]


def test_what_is_rolled_back_is_neither_taken_nor_booked(alone: tuple[Shop, Rail, Books]) -> None:
    shop, rail, books = alone
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid())

    with books.connection.transaction(force_rollback=True):
        assert books.value("select ledger.book(100)") > 0
        assert booked(books) == [attempt.transfer_id]

    assert booked(books) == []
    drain(shop)
    assert booked(books) == [attempt.transfer_id]


def test_a_spoilt_batch_waits_for_no_chain_while_it_holds_a_later_one(database: Database) -> None:
    with Api(database) as api, Books(database) as books, Books(database) as other:
        first, second = sorted(
            (Ledger(api, books) for _ in range(2)), key=lambda one: one.tenant_id
        )
        for one in (first.open(), second.open()):
            one.book(one.event())
        batch = [second.event(rail="no such"), second.event(), first.event()]

        with ThreadPoolExecutor(1) as pool:
            with other.connection.transaction(force_rollback=True):
                other.run(LOCK, first.tenant_id)
                booking = pool.submit(refused, books, *batch)
                until(lambda: other.value(WAITING) == 1, "the batch waits")
                other.run(LOCK, second.tenant_id)
            (spoilt,) = booking.result(timeout=10)

    assert spoilt["outbox_id"] == batch[0].outbox_id
