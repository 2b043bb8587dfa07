"""Laws of the books: whatever happens balances, and in whatever order it is heard.

Steps and seed are printed; STALELA_PROPERTY_STEPS and STALELA_SEED change them.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.sql.ledger.ledger import Event, Ledger, book, refused
from tests.support.sql import Api, Books

STEPS = int(os.environ.get("STALELA_PROPERTY_STEPS", "60"))
SEED = int(os.environ.get("STALELA_SEED", "20261121"))

# The tenant's sums, by account and currency; and whether entries say the same.
SUMS = """
select a.code, a.currency, a.class = 'memo' as is_memo, b.balance_minor, coalesce(sum(
    case when e.debit_account_id = a.account_id then e.amount_minor else -e.amount_minor end
), 0)::bigint as entries_minor
from ledger.accounts as a
join ledger.balances as b using (account_id)
left join ledger.journal_entries as e
    on a.account_id in (e.debit_account_id, e.credit_account_id)
where a.tenant_id = %s
group by a.account_id, b.balance_minor
"""
CURRENCIES = {"KES": 2, "UGX": 0, "USDC": 6}

amounts = st.integers(1, 10**9)
pick = st.integers(0, 5)


@dataclass(frozen=True)
class Terms:
    """A tariff."""

    rate_bps: int
    tax_bps: int
    reserve_bps: int
    is_fee_returned: bool


terms = st.builds(
    Terms,
    st.sampled_from([0, 1, 37, 250]),
    st.sampled_from([0, 1500, 1600]),
    st.sampled_from([0, 1000]),
    st.booleans(),
)


@st.composite
def payments(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """What happened to a few transfers, in words: (type, payload), and which one it gives back."""
    told: list[tuple[str, dict[str, Any]]] = []
    for _ in range(draw(st.integers(1, 6))):
        currency = draw(st.sampled_from(sorted(CURRENCIES)))
        minor = draw(amounts)
        kind = draw(st.sampled_from(["collection", "c2b", "payout", "fx", "capture", "expired"]))
        told.append((kind, {"currency": currency, "minor": minor, "draw": draw(amounts)}))
        parts = draw(st.lists(st.integers(1, 99), max_size=3))
        ending = draw(st.sampled_from(["nothing", "refunds", "return"]))
        told[-1][1]["ending"] = ending
        # Shares of the whole that are refunded, whose sum is at most the whole.
        told[-1][1]["parts"] = [minor * part // 300 for part in parts if minor * part // 300]
    return told


def wire(minor: int, currency: str) -> str:
    """The decimal string."""
    scale = CURRENCIES.get(currency, 2)
    return str(minor) if scale == 0 else f"{minor // 10**scale}.{minor % 10**scale:0{scale}}"


def events(ledger: Ledger, told: list[tuple[str, dict[str, Any]]]) -> list[list[Event]]:
    """The events of each transfer, in the order of its own."""
    streams: list[list[Event]] = []
    for kind, facts in told:
        money = {"amount": wire(facts["minor"], facts["currency"]), "currency": facts["currency"]}
        if kind in {"capture", "expired"}:
            held = ledger.event("accepted", intent="AUTH", purpose="direct", **money)
            end = (
                ledger.event("failed", held.transfer_id, intent="AUTH", purpose="direct", **money)
                if kind == "expired"
                else ledger.event(
                    intent="CAPTURE",
                    purpose="direct",
                    related_transfer_id=held.transfer_id,
                    **money,
                )
            )
            streams.append([held, end])
            continue
        words: dict[str, Any] = dict(money)
        if kind == "fx":
            words["fx"] = {
                "settlement_amount": wire(facts["draw"], "ZAR"),
                "settlement_currency": "ZAR",
                "quoted_amount": wire(facts["draw"] + facts["minor"] % 7, "ZAR"),
            }
        purpose = "collection" if kind == "fx" else kind
        intent = "PUSH" if kind == "payout" else "PULL"
        paid = ledger.event(purpose=purpose, intent=intent, **words)
        streams.append([paid])
        if facts["ending"] == "return":
            back = ledger.event(
                "returned", paid.transfer_id, purpose=purpose, intent=intent, **money
            )
            streams[-1].append(back)
        elif facts["ending"] == "refunds" and kind != "payout":
            streams += [
                [ledger.refund(paid, wire(part, facts["currency"]), currency=facts["currency"])]
                for part in facts["parts"]
            ]
    return streams


def book_all(books: Books, order: list[Event], sizes: list[int]) -> None:
    """Book in batches of these sizes; what must wait is tried again until nothing moves."""
    waiting = list(order)
    while waiting:
        again: list[Event] = []
        done, number = 0, 0
        while done < len(waiting):
            size = sizes[number % len(sizes)]
            batch = waiting[done : done + size]
            problems = refused(books, *batch)
            assert [row for row in problems if row["is_final"]] == []
            late = {row["outbox_id"] for row in problems}
            again += [event for event in batch if event.outbox_id in late]
            done, number = done + size, number + 1
        assert len(again) < len(waiting), "what waits for another is booked after it"
        waiting = again


def sums(books: Books, ledger: Ledger) -> dict[tuple[str, str], int]:
    """What each account holds; checked against entries, and to be zero in each currency."""
    rows = books.rows(SUMS, ledger.tenant_id)
    totals: dict[tuple[str, bool], int] = {}
    for row in rows:
        assert row["balance_minor"] == row["entries_minor"], row
        key = row["currency"], row["is_memo"]
        totals[key] = totals.get(key, 0) + row["balance_minor"]
    assert set(totals.values()) <= {0}
    return {
        (row["code"].replace(ledger.tenant_id, "me"), row["currency"]): row["balance_minor"]
        for row in rows
        if row["balance_minor"]
    }


def new_books(api: Api, books: Books, agreed: Terms) -> Ledger:
    """A new tenant with a tariff."""
    ledger = Ledger(api, books).open()
    ledger.tariff(
        rate_bps=agreed.rate_bps,
        tax_bps=agreed.tax_bps,
        reserve_bps=agreed.reserve_bps,
        reserve_days=1,
        is_fee_returned=agreed.is_fee_returned,
    )
    return ledger


laws = settings(
    max_examples=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
)


@seed(SEED)
@laws
@given(told=payments(), agreed=terms, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_whatever_happens_balances_in_every_currency(
    api: Api,
    books: Books,
    told: list[tuple[str, dict[str, Any]]],
    agreed: Terms,
    sizes: list[int],
) -> None:
    ledger = new_books(api, books, agreed)

    book_all(books, [event for stream in events(ledger, told) for event in stream], sizes)

    sums(books, ledger)
    assert ledger.verify()["bad"] is None
    assert len(ledger.journals()) == ledger.verify()["verified"]


@seed(SEED)
@laws
@given(told=payments(), agreed=terms, data=st.data())
def test_any_order_and_any_repetition_gives_the_same_balances(
    api: Api,
    books: Books,
    told: list[tuple[str, dict[str, Any]]],
    agreed: Terms,
    data: st.DataObject,
) -> None:
    straight, shuffled = (new_books(api, books, agreed) for _ in range(2))
    streams = events(straight, told)
    others = {event.outbox_id: copied(event, shuffled) for stream in streams for event in stream}

    book_all(books, [event for stream in streams for event in stream], [1])
    # The order of a transfer's own events holds; of different transfers there is none.
    order = interleaved([list(stream) for stream in streams], data)
    heard = [others[event.outbox_id] for event in order]
    repeated = [event for event in heard for _ in range(data.draw(st.integers(1, 2)))]
    book_all(books, repeated, data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    assert book(books, *data.draw(st.permutations(heard))) == []

    assert sums(books, shuffled) == sums(books, straight)
    assert shuffled.verify()["bad"] is None


@seed(SEED)
@laws
@given(
    parts=st.lists(amounts, min_size=1, max_size=5),
    agreed=terms,
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_parts_that_are_the_whole_give_the_whole_fee_back(
    api: Api, books: Books, parts: list[int], agreed: Terms, sizes: list[int]
) -> None:
    ledger = new_books(api, books, replace(agreed, is_fee_returned=True, reserve_bps=0))
    paid = ledger.event(amount=wire(sum(parts), "KES"))

    book_all(books, [paid, *(ledger.refund(paid, wire(part, "KES")) for part in parts)], sizes)

    held = sums(books, ledger)
    assert {code for code, _ in held} <= {"FEES_NET", "FEES_REVERSAL"}


def copied(event: Event, ledger: Ledger) -> Event:
    """The same event in another tenant's books; ids of transfers are told apart by a letter."""
    related = event.payload.get("related_transfer_id")
    payload = event.payload | ({"related_transfer_id": f"{related}z"} if related else {})
    return replace(
        event,
        tenant_id=ledger.tenant_id,
        transfer_id=f"{event.transfer_id}z",
        event_id=f"{event.event_id}z",
        payload=payload,
    )


def interleaved(streams: list[list[Event]], data: st.DataObject) -> list[Event]:
    """One event after the other, from any stream that has some left."""
    order = []
    while streams:
        stream = streams[data.draw(st.integers(0, len(streams) - 1))]
        order.append(stream.pop(0))
        streams = [some for some in streams if some]
    return order
