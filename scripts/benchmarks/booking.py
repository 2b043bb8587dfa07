"""What booking costs in Postgres: set-based, one by one, and against a bare insert.

All of it is on one hot merchant account, with the default tariff. The bare insert writes the rows
that booking wrote into tables of the same shape, adds the same amounts to two balances, and does
nothing else: no rules, no hashes, no checks.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import psycopg

from scripts.benchmarks.pgbench import Script, per_s
from scripts.benchmarks.place import Place
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.table import Figure, Target, figure

BATCH: Final = 10_000  # events, as functions/ledger takes them at most
CLIENTS: Final = 8  # that book one by one
TENANT: Final = "tn_bench"

_PREPARE: Final = """
create schema if not exists bench;
insert into public.tenants (tenant_id, name, country, status, plan)
values ('tn_bench', 'Bench', 'KE', 'active', 'unlimited') on conflict do nothing;
create table if not exists bench.journals (like ledger.journals including all);
create table if not exists bench.entries (like ledger.journal_entries including all);
create table if not exists bench.balances (like ledger.balances including all);
insert into bench.balances (account_id, floor) values (1, 0), (2, 0) on conflict do nothing;
"""
# What the outbox would deliver: settled collections, with all that their payload holds.
_DELIVERIES: Final = """
drop table if exists deliveries;
create temporary table deliveries as
select g.n, row(
    g.n, public.new_id('evt'), 'transfer.settled', 'tn_bench', 'sandbox', t.id, 4, 0, now(), null,
    jsonb_build_object(
        'transfer_id', t.id, 'payment_intent_id', public.new_id('pi'), 'purpose', 'collection',
        'intent', 'PULL', 'rail', 'mpesa', 'state', 'SETTLED', 'amount', '100.00',
        'currency', 'KES', 'receipt', 'UKL5K3VX1N', 'triggered_by', 'callback'
    )
)::payments.delivery as delivery
from generate_series(1, {count}) as g (n)
cross join lateral (select public.new_id('tr') || left(g.n::text, 0) as id) as t
"""
_BOOK: Final = """
select cardinality(ledger.book_events(array(
    select d.delivery from deliveries as d where d.n > %s and d.n <= %s order by d.n
)))
"""
_STAGE: Final = """
drop table if exists staged_journals, staged_entries;
create temporary table staged_journals as
select j.* from ledger.journals as j
where j.tenant_id = 'tn_bench' order by j.number desc limit {count};
create temporary table staged_entries as
select e.* from ledger.journal_entries as e
where e.journal_no in (select s.journal_no from staged_journals as s);
create index on staged_journals (journal_no);
create index on staged_entries (journal_no);
"""
_BARE: Final = """
with journals as (
    insert into bench.journals select s.* from staged_journals as s
    where s.journal_no > %(after)s and s.journal_no <= %(until)s
    order by s.journal_no
), entries as (
    insert into bench.entries select s.* from staged_entries as s
    where s.journal_no > %(after)s and s.journal_no <= %(until)s
    order by s.journal_no, s.leg_no
    returning amount_minor
)
update bench.balances as b set balance_minor = b.balance_minor + d.minor
from (select sum(e.amount_minor) as minor from entries as e) as d
"""
# One event, one transaction: the same rules on the same account.
_ONE: Final = Script(
    "select cardinality(ledger.book_events(array[row(1, 'evt_' ||"
    " left(replace(gen_random_uuid()::text, '-', ''), 26), 'transfer.settled', 'tn_bench',"
    " 'sandbox', 'tr_' || left(replace(gen_random_uuid()::text, '-', ''), 26), 4, 0, now(), null,"
    " jsonb_build_object('purpose', 'collection', 'intent', 'PULL', 'rail', 'mpesa',"
    " 'amount', '100.00', 'currency', 'KES'))::payments.delivery]));",
    None,
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Journals per second."""

    batches: float
    bare: float
    one_by_one: float


def measure_booking(place: Place, rounds: Rounds, seconds: float) -> list[Figure]:
    """Figures of booking on one hot account."""
    with place.stack.database.connect() as connection:
        connection.execute(_PREPARE.encode())
        runs = rounds.series("booking", lambda: _rates(place, connection, seconds))
    return [
        figure(
            f"booking, batches of {BATCH:,}; limit: bare insert",
            runs,
            lambda run: run.batches,
            "/s",
            Target("≥", 0.5),
            limit=lambda run: run.bare,
        ),
        figure(
            f"booking, batches; limit: one by one, {CLIENTS} connections",
            runs,
            lambda run: run.batches,
            "/s",
            Target("≥", 10),
            limit=lambda run: run.one_by_one,
        ),
    ]


def _rates(place: Place, connection: psycopg.Connection, seconds: float) -> Rates:
    one_by_one = per_s(place, _ONE, clients=CLIENTS, seconds=seconds)
    count = int(seconds) * BATCH
    connection.execute(_DELIVERIES.format(count=count).encode())
    connection.execute(b"create index on deliveries (n); analyze deliveries")
    began = perf_counter()
    for after in range(0, count, BATCH):
        assert _value(connection, _BOOK, [after, after + BATCH]) == 0, "every event is booked"
    batches = count / (perf_counter() - began)
    return Rates(batches, _bare(connection, count), one_by_one)


def _bare(connection: psycopg.Connection, count: int) -> float:
    """The rows of the last `count` journals once more, into the bare tables."""
    connection.execute(_STAGE.format(count=count).encode())
    connection.execute(b"analyze staged_journals, staged_entries")
    numbers = [
        row[0] for row in connection.execute(b"select journal_no from staged_journals order by 1")
    ]
    began = perf_counter()
    for start in range(0, count, BATCH):
        batch = numbers[start : start + BATCH]
        connection.execute(_BARE.encode(), {"after": batch[0] - 1, "until": batch[-1]})
    return count / (perf_counter() - began)


def _value(connection: psycopg.Connection, query: str, values: list[Any]) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None, "the query gives a row"
    return row[0]
