"""How long after a payment its money stands in the books: at a steady pace, and behind a backlog.

Events are committed one by one, as settled payments are, for fifty merchants. The outbox pokes the
ledger through pg_net; another connection looks every few milliseconds for the journals, which are
visible when the balances are, for one transaction writes both.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from scripts.benchmarks.load import percentile
from scripts.benchmarks.place import Place, alone
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.table import Figure, Target, figure
from shared.ids import new_id

RATE: Final = 100  # payments per second
PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.005
AMOUNT_MINOR: Final = 10_000
_CHUNK: Final = 10_000  # payments of the backlog in one transaction

# Settled payments of the merchants in turn, for the one destination that is looked at.
_WRITE: Final = """
with written as (
    insert into payments.transfer_events (
        event_id, tenant_id, environment, transfer_id, seq, type, payload
    )
    select
        e.event_id, (%(tenants)s::text[])[1 + e.n %% cardinality(%(tenants)s::text[])], 'sandbox',
        public.new_id('tr') || left(e.event_id, 0), 4, 'transfer.settled', jsonb_build_object(
            'purpose', 'collection', 'intent', 'PULL', 'rail', 'mpesa', 'state', 'SETTLED',
            'amount', '100.00', 'currency', 'KES', 'triggered_by', 'callback'
        )
    from unnest(%(events)s::text[]) with ordinality as e (event_id, n)
    returning *
)
insert into payments.outbox (
    destination, event_id, event_type, tenant_id, environment, ordering_key, seq
)
select 'ledger', event_id, type, tenant_id, environment, transfer_id, seq from written
"""
_BOOKED: Final = """
select j.journal_no, j.event_id from ledger.journals as j
where j.journal_no > %s
order by j.journal_no
"""
_LAST: Final = "select coalesce(max(j.journal_no), 0) from ledger.journals as j"
_POKE_AT: Final = """
select vault.update_secret(s.id, %s) from vault.decrypted_secrets as s
where s.name = 'functions_base_url'
"""
_HELD: Final = """
select coalesce(sum(b.balance_minor), 0)::bigint
from ledger.balances as b
inner join ledger.accounts as a on a.account_id = b.account_id
where a.tenant_id = any(%s) and a.type = 'SETTLEMENT'
"""


@dataclass(slots=True)
class Payments:
    """When each of those that were timed was committed, and its journal first seen. In seconds.

    backlog_per_s: of what was committed before anybody booked, booked per second.
    """

    committed: dict[str, float] = field(default_factory=dict)
    booked: dict[str, float] = field(default_factory=dict)
    backlog_per_s: float = 0.0

    def percentile_ms(self, share: float) -> float:
        """From commit to balance."""
        waits = [(self.booked[event] - at) * 1000 for event, at in self.committed.items()]
        return percentile(waits, share)


class Shops:
    """The merchants' side and the books' side, on a connection each."""

    def __init__(self, place: Place) -> None:
        self.tenants = [shop.tenant_id for shop in place.shops]
        self.till: psycopg.Connection[Any] = place.stack.database.connect()
        self.books: psycopg.Connection[Any] = place.stack.database.connect()
        self.last = self._number(_LAST)
        self.waiting: set[str] = set()

    def pay(self, count: int) -> list[str]:
        """So many payments in one transaction; their events."""
        events = [new_id("evt") for _ in range(count)]
        self.waiting.update(events)
        self.till.execute(_WRITE, {"tenants": self.tenants, "events": events}, prepare=True)
        return events

    def look(self) -> list[str]:
        """Which of them are booked since the last look."""
        rows = self.books.execute(_BOOKED, [self.last], prepare=True).fetchall()
        self.last = rows[-1][0] if rows else self.last
        found = [event for _, event in rows if event in self.waiting]
        self.waiting.difference_update(found)
        return found

    def held(self) -> int:
        """What the rail owes all of them, in minor units."""
        return self._number(_HELD, [self.tenants])

    def close(self) -> None:
        self.till.close()
        self.books.close()

    def _number(self, query: str, values: list[Any] | None = None) -> int:
        row = self.books.execute(query.encode(), values).fetchone()
        assert row is not None, "aggregates always give a row"
        return int(row[0])


def measure_balances(place: Place, rounds: Rounds, seconds: float, backlog: int) -> list[Figure]:
    """At RATE for so long; then at RATE while `backlog` events are before them."""
    steady = rounds.series("event to balance", lambda: _run(place, 1, seconds))
    behind = rounds.series("event to balance, backlog", lambda: _run(place, backlog, 0))
    return [
        figure(
            f"event to booked balance, {RATE} payments/s: p50",
            steady,
            lambda run: run.percentile_ms(0.5),
            "ms",
        ),
        figure(
            f"event to booked balance, {RATE} payments/s: p99",
            steady,
            lambda run: run.percentile_ms(0.99),
            "ms",
            Target("<", 1000),
        ),
        figure(
            f"the same while a backlog of {backlog:,} drains: p99",
            behind,
            lambda run: run.percentile_ms(0.99),
            "ms",
            Target("<", 5000),
        ),
        figure("the backlog, booked", behind, lambda run: run.backlog_per_s, "/s"),
    ]


def _run(place: Place, backlog: int, seconds: float) -> Payments:
    """`backlog` payments nobody books; then the ledger starts, and RATE payments a second come.

    They come for so many seconds, and until the backlog is booked.
    """
    payments, over = Payments(), threading.Event()
    with closing(Shops(place)) as shops:
        held = shops.held()
        before = [event for size in _chunks(backlog) for event in shops.pay(size)]
        with _ledger(place):
            began = time.perf_counter()
            till = threading.Thread(target=_keep_paying, args=(shops, payments, over))
            till.start()
            try:
                left = set(before)
                while left or time.perf_counter() < began + seconds:
                    left.difference_update(_note(shops, payments, began))
                    if not left and not payments.backlog_per_s:
                        payments.backlog_per_s = backlog / (time.perf_counter() - began)
            finally:
                over.set()
                till.join()
            while shops.waiting:
                _note(shops, payments, began)
        paid = backlog + len(payments.committed)
        assert shops.held() - held == paid * AMOUNT_MINOR, "each payment is in the balance once"
    return payments


def _note(shops: Shops, payments: Payments, began: float) -> list[str]:
    """What was booked meanwhile. Raises TimeoutError when nothing more comes."""
    if time.perf_counter() > began + PATIENCE_S:
        raise TimeoutError(f"{len(shops.waiting)} payments were not booked")
    time.sleep(_LOOK_S)
    found = shops.look()
    payments.booked.update(dict.fromkeys(found, time.perf_counter()))
    return found


def _keep_paying(shops: Shops, payments: Payments, over: threading.Event) -> None:
    due = time.perf_counter()
    while not over.is_set():
        (event,) = shops.pay(1)
        payments.committed[event] = time.perf_counter()
        due += 1 / RATE
        over.wait(max(0.0, due - time.perf_counter()))


def _chunks(count: int) -> list[int]:
    return [min(_CHUNK, count - start) for start in range(0, count, _CHUNK)]


@contextmanager
def _ledger(place: Place) -> Iterator[None]:
    """The ledger in a process of its own, where the outbox pokes; the first poke is ours."""
    with alone(place.stack, "ledger") as function, place.stack.database.connect() as connection:
        url = f"http://127.0.0.1:{function.port}/functions/v1"
        connection.execute(_POKE_AT, [url])
        try:
            connection.execute("select public.poke('ledger')")
            yield
        finally:
            connection.execute(_POKE_AT, [place.stack.functions_url])
