"""From the outbox to the queue: what no merchant could read is parked with its stream behind it."""

import pytest

from tests.sql.webhooks.listener import Listener, claim, fan_out
from tests.support.sql import Api, Books

STATES = """
select event_type, state from payments.outbox_exceptions
where destination = 'webhooks' and ordering_key = %s order by outbox_id
"""


def happen(books: Books, intent_id: str, version: int, event_type: str, note: str = "") -> None:
    """One more event of an intent, whatever its type."""
    books.run(
        "select payments.record_intent_event(jsonb_populate_record(i,"
        " jsonb_build_object('version', %s::bigint)), %s, jsonb_build_object('note', %s::text))"
        " from payments.payment_intents as i where i.payment_intent_id = %s",
        version,
        event_type,
        note,
        intent_id,
    )


@pytest.mark.parametrize(
    ("event_type", "note"),
    [("payment_intent.unheard_of", ""), ("payment_intent.updated", "x" * 20_000)],
    ids=["unknown type", "too large"],
)
def test_an_event_that_cannot_be_told_holds_the_later_ones_of_its_stream_and_no_others(
    api: Api, books: Books, listener: Listener, event_type: str, note: str
) -> None:
    listener.endpoint()
    stuck, fine = listener.shop.new_intent(), listener.shop.new_intent()
    happen(books, stuck, 101, event_type, note)
    happen(books, stuck, 102, "payment_intent.canceled")
    happen(books, fine, 101, "payment_intent.canceled")

    fan_out(api)

    sent = [(row["ordering_key"], row["event_type"]) for row in queued(books, stuck, fine)]
    assert sent == [
        (stuck, "payment_intent.created"),
        (fine, "payment_intent.created"),
        (fine, "payment_intent.canceled"),
    ]
    assert [tuple(row.values()) for row in books.rows(STATES, stuck)] == [
        (event_type, "dead"),
        ("payment_intent.canceled", "waiting"),
    ]
    claim(api)


def queued(books: Books, *streams: str) -> list[dict[str, str]]:
    """The messages made for these streams, in the order of their events."""
    return books.rows(
        "select m.ordering_key, m.type as event_type from webhooks.messages as m"
        " inner join payments.outbox as o on o.event_id = m.event_id and o.destination = 'webhooks'"
        " where m.ordering_key = any(%s) order by o.outbox_id",
        list(streams),
    )
