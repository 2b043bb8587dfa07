"""The two state machines: every pair of state and event, listed or not, and nobody else moves."""

import csv
import json
from itertools import product

import psycopg
import pytest

from scripts.stack.places import ROOT
from tests.sql.payments.shop import Shop
from tests.support.sql import Books, Refused, Row, translated


def rows(name: str) -> list[Row]:
    with (ROOT / f"shared/states/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def listed(text: str) -> set[str]:
    """The members of a Postgres array of plain words."""
    return set(text.strip("{}").split(","))


INTENT_MOVES = {
    (row["from_status"], row["event"]): row for row in rows("payments.intent_transitions")
}
TRANSFER_MOVES = {
    (row["from_state"], row["event"]): row for row in rows("payments.transfer_transitions")
}
INTENT_STATES = sorted(
    {s for r in INTENT_MOVES.values() for s in (r["from_status"], r["to_status"])}
)
INTENT_EVENTS = sorted({event for _, event in INTENT_MOVES})
TRANSFER_STATES = sorted(
    {s for r in TRANSFER_MOVES.values() for s in (r["from_state"], r["to_state"])}
)
TRANSFER_EVENTS = sorted({event for _, event in TRANSFER_MOVES})
TRIGGERS = sorted({who for row in TRANSFER_MOVES.values() for who in listed(row["triggered_by"])})


def put_intent(shop: Shop, status: str, event: str) -> str:
    """An intent in this status, however it got there, with what the event needs to find."""
    attempt = shop.attempt()
    shop.books.run(
        "update payments.payment_intents set status = %s, latest_transfer_id = %s,"
        " canceled_at = case when %s = 'canceled' then now() end,"
        " amount_received_minor = case when %s = 'succeeded' then amount_minor"
        "  when %s = 'partially_paid' or (%s = 'processing' and %s = 'fail_partly') then 1000"
        "  else 0 end where payment_intent_id = %s",
        status,
        attempt.transfer_id,
        status,
        status,
        status,
        status,
        event,
        attempt.intent_id,
    )
    return attempt.intent_id


def put_transfer(shop: Shop, state: str) -> str:
    """A transfer in this state, however it got there."""
    attempt = shop.send(shop.new_intent())
    shop.books.run(
        "update payments.transfers set state = %s, settled_at = now(),"
        " returned_minor = case when %s = 'RETURNED' then amount_minor else 0 end,"
        " failure = case when %s = 'FAILED' then '{}'::jsonb end where transfer_id = %s",
        state,
        state,
        state,
        attempt.transfer_id,
    )
    return attempt.transfer_id


def advance(books: Books, query: str, *values: str) -> Refused | None:
    """Call a machine; the refusal, if it refuses."""
    try:
        books.run(query, *values)
    except psycopg.Error as error:
        refusal = translated(error)
        if not isinstance(refusal, Refused):
            raise
        return refusal
    return None


@pytest.mark.parametrize(("status", "event"), [*product(INTENT_STATES, INTENT_EVENTS)])
def test_an_intent_makes_the_listed_moves_and_no_others(
    shop: Shop, books: Books, status: str, event: str
) -> None:
    intent_id = put_intent(shop, status, event)
    before = books.intent(intent_id)
    facts = {"transfer_id": before["latest_transfer_id"], "failure": {"code": "X"}}
    received = {"settle": before["amount_minor"], "settle_partly": 1, "deposit_partly": 1}
    money = {"received_minor": received.get(event, 0)}

    refusal = advance(
        books,
        "select payments.advance_intent(%s, %s, %s)",
        intent_id,
        event,
        json.dumps(facts | money),
    )

    after = books.intent(intent_id)
    move = INTENT_MOVES.get((status, event))
    if move is None:
        assert refusal is not None
        assert refusal.code == "40911"
        assert refusal.extras == {"current_state": status, "allowed": allowed_to_callers(status)}
        assert after == before
    else:
        assert refusal is None
        assert (after["status"], after["version"]) == (move["to_status"], before["version"] + 1)
        assert books.timeline(intent_id)[-1] == move["event_type"]


def allowed_to_callers(status: str) -> list[str]:
    """The moves that a merchant may ask for."""
    return sorted(
        event
        for (state, event), row in INTENT_MOVES.items()
        if state == status and "api" in listed(row["triggered_by"])
    )


@pytest.mark.parametrize(
    ("state", "event", "who"), [*product(TRANSFER_STATES, TRANSFER_EVENTS, TRIGGERS)]
)
def test_a_transfer_makes_the_listed_moves_for_the_listed_parties_and_no_others(
    shop: Shop, books: Books, state: str, event: str, who: str
) -> None:
    transfer_id = put_transfer(shop, state)
    before = books.transfer(transfer_id)

    refusal = advance(
        books,
        "select payments.advance_transfer(%s, %s, %s, %s)",
        transfer_id,
        event,
        who,
        json.dumps({"failure": {"code": "X"}}),
    )

    after = books.transfer(transfer_id)
    move = TRANSFER_MOVES.get((state, event))
    if move is None or who not in listed(move["triggered_by"]):
        assert refusal is not None
        assert refusal.code == "40911"
        assert refusal.extras == {"current_state": state}
        assert after == before
    else:
        assert refusal is None
        assert (after["state"], after["version"]) == (move["to_state"], before["version"] + 1)
        assert after["late"] == (state == "FAILED")
        assert books.timeline(before["payment_intent_id"])[-1] == move["event_type"]


@pytest.mark.parametrize(
    ("table", "column", "mover"),
    [
        ("payments.payment_intents", "status", "payments.advance_intent"),
        ("payments.transfers", "state", "payments.advance_transfer"),
    ],
)
def test_one_function_moves_a_state_and_no_other(
    books: Books, table: str, column: str, mover: str
) -> None:
    # `update <table> … set … <column> =`, up to the end of that statement.
    writers = books.column(
        "select p.oid::regproc::text from pg_catalog.pg_proc as p where p.prosrc ~* %s order by 1",
        rf"update\s+{table}\M[^;]*?\mset\M(?:(?!\mfrom\M|\mwhere\M)[^;])*?\m{column}\s*=",
    )

    assert writers == [mover]


@pytest.mark.parametrize(
    ("machine", "events"),
    [("advance_intent", INTENT_EVENTS), ("advance_transfer", TRANSFER_EVENTS)],
)
def test_every_listed_event_is_caused_somewhere(
    books: Books, machine: str, events: list[str]
) -> None:
    used = books.column(
        "select distinct (regexp_matches(p.prosrc, %s, 'g'))[1] from pg_catalog.pg_proc as p"
        " where p.pronamespace in ('payments'::regnamespace, 'rails'::regnamespace) order by 1",
        rf"{machine}\(\s*[\w.()]+,\s*'(\w+)'",
    )

    assert used == events


@pytest.mark.parametrize(
    ("table", "column", "states"),
    [
        ("payments.payment_intents", "status", INTENT_STATES),
        ("payments.transfers", "state", TRANSFER_STATES),
    ],
)
def test_the_column_holds_the_listed_states_and_no_others(
    books: Books, table: str, column: str, states: list[str]
) -> None:
    # The one check on this column alone; others relate it to more columns.
    condition = books.value(
        "select pg_get_constraintdef(c.oid) from pg_catalog.pg_constraint as c"
        " inner join pg_catalog.pg_attribute as a"
        "  on a.attrelid = c.conrelid and c.conkey = array[a.attnum]"
        " where c.contype = 'c' and c.conrelid = %s::regclass and a.attname = %s",
        table,
        column,
    )

    quoted = books.column("select distinct (regexp_matches(%s, '''(\\w+)''', 'g'))[1]", condition)
    assert sorted(quoted) == states
