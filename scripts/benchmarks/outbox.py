"""The outbox: how fast a backlog is read, and whether an old snapshot makes reading slower."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg

from scripts.benchmarks.load import percentile
from scripts.benchmarks.pgbench import per_s
from scripts.benchmarks.place import Place
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.table import Figure, Target, figure
from scripts.benchmarks.transactions import CLIENTS, COMMIT, prepare
from scripts.stack.database import Database, Databases

BATCH: Final = 500
RATE: Final = 3000  # events per second
_PER_WRITE: Final = 50  # events in one transaction of the writer
_PAUSE_S: Final = 0.02  # between two looks of the consumer
_PARTITION_S: Final = 5  # short, so that a short run drops partitions too
_DESTINATION: Final = "bench"

# Partitions of seconds instead of days; the destination has no function, its pokes go nowhere.
_PREPARE: Final = f"""
insert into public.destinations (destination, function_name, kind, batch, lease_s, max_attempts,
    stalled_after, enabled, description)
values ('{_DESTINATION}', '{_DESTINATION}', 'database', {BATCH}, 60, 10, 5, true, 'Of a bench');
update public.destinations set enabled = destination = '{_DESTINATION}';
update public.settings set value = '{_PARTITION_S}'
where key in ('outbox.partition_s', 'outbox.retention_s');
update public.settings set value = '{4 * _PARTITION_S}' where key = 'outbox.ahead_s';
create schema bench;
create table bench.applied (outbox_id bigint, event_id text, payload jsonb);
do $$
declare
    old record;
begin
    for old in select partition from payments.outbox_partitions() loop
        execute 'drop table ' || old.partition;
    end loop;
end
$$;
select payments.add_outbox_partitions();
"""  # noqa: S608 -- constants of this file
_WRITE: Final = f"""
with written as (
    insert into payments.transfer_events (
        event_id, tenant_id, environment, transfer_id, seq, type, payload
    )
    select public.new_id('evt'), 'tn_bench', 'sandbox', public.new_id('tr'), n, 'transfer.settled',
        '{{"amount": "100.00", "currency": "KES", "rail": "mpesa", "state": "SETTLED"}}'
    from generate_series(1, %s) as n
    returning *
)
insert into payments.outbox (
    destination, event_id, event_type, tenant_id, environment, ordering_key, seq
)
select '{_DESTINATION}', event_id, type, tenant_id, environment, transfer_id, seq from written
"""  # noqa: S608 -- constants of this file
_CONSUME: Final = f"""
with applied as (
    insert into bench.applied
    select outbox_id, event_id, payload from payments.take_events('{_DESTINATION}', {BATCH})
    returning 1
)
select count(*) from applied
"""  # noqa: S608 -- constants of this file
_SIZE: Final = """
select sum(pg_total_relation_size(c.oid)) / 1e6, sum(pg_stat_get_dead_tuples(c.oid))::float
from pg_catalog.pg_class as c
where c.oid in (select i.inhrelid from pg_catalog.pg_inherits as i
        where i.inhparent = 'payments.outbox'::regclass)
    or c.oid in ('payments.outbox_cursors'::regclass, 'payments.outbox_exceptions'::regclass)
"""


@dataclass(frozen=True, slots=True)
class Drained:
    """Events per second from a backlog, single-row commits per second of the same run."""

    events: float
    commits: float


@dataclass(slots=True)
class Steady:
    """What a consumer met beside a steady writer. Times in ms, clean and with an old snapshot."""

    clean_ms: list[float] = field(default_factory=list)
    pinned_ms: list[float] = field(default_factory=list)
    written: int = 0
    consumed: int = 0
    seconds: float = 0.0
    size_mb: float = 0.0
    dead: float = 0.0


def measure_outbox(place: Place, rounds: Rounds, backlog: int, seconds: float) -> list[Figure]:
    """A backlog, each batch in one transaction; then so long beside a writer, half of it pinned."""
    prepare(place)
    with Databases(place.stack.cluster).fresh_database() as database:
        with database.connect() as connection:
            connection.execute(_PREPARE.encode())
        drained = rounds.series("backlog", lambda: _drain(place, database, backlog))
        steady = rounds.series("steady", lambda: _run_steadily(database, seconds))
    return [
        figure(
            f"take, apply, acknowledge {BATCH} events; limit: one-row commits, {CLIENTS} clients",
            drained,
            lambda run: run.events,
            "/s",
            Target("≥", 1.5),
            limit=lambda run: run.commits,
        ),
        figure(
            f"claim at {RATE} events/s, p50",
            steady,
            lambda run: percentile(run.clean_ms, 0.5),
            "ms",
        ),
        figure(
            "the same with an old snapshot open, p50",
            steady,
            lambda run: percentile(run.pinned_ms, 0.5),
            "ms",
        ),
        figure(
            f"claim at {RATE} events/s, p99",
            steady,
            lambda run: percentile(run.clean_ms, 0.99),
            "ms",
            Target("<", 10),
        ),
        figure(
            "the same with an old snapshot open, p99",
            steady,
            lambda run: percentile(run.pinned_ms, 0.99),
            "ms",
            Target("<", 10),
        ),
        figure("events written", steady, lambda run: run.written / run.seconds, "/s"),
        figure("events consumed", steady, lambda run: run.consumed / run.seconds, "/s"),
        figure("outbox, with indexes", steady, lambda run: run.size_mb, "MB", Target("<", 50)),
        figure("dead rows of outbox and cursors", steady, lambda run: run.dead, ""),
    ]


def _drain(place: Place, database: Database, backlog: int) -> Drained:
    commits = per_s(place, COMMIT, clients=CLIENTS, seconds=2)
    with database.connect() as connection:
        connection.execute(_WRITE.encode(), (backlog,))
        started, taken = time.perf_counter(), 0
        while number := _consume(connection):
            taken += number
        took_s = time.perf_counter() - started
    assert taken >= backlog, "everything written is taken"
    return Drained(taken / took_s, commits)


def _run_steadily(database: Database, seconds: float) -> Steady:
    steady, over = Steady(seconds=seconds), threading.Event()
    others = [
        threading.Thread(target=_write, args=(database, steady, over)),
        threading.Thread(target=_keep_partitions, args=(database, over)),
    ]
    for thread in others:
        thread.start()
    try:
        with database.connect() as consumer:
            _consume_until(consumer, steady, steady.clean_ms, seconds / 2)
            with _old_snapshot(database):
                _consume_until(consumer, steady, steady.pinned_ms, seconds / 2)
                row = consumer.execute(_SIZE.encode()).fetchone()
        assert row is not None, "aggregates always give a row"
        steady.size_mb, steady.dead = float(row[0]), float(row[1])
    finally:
        over.set()
        for thread in others:
            thread.join()
    return steady


def _consume_until(
    connection: psycopg.Connection, steady: Steady, times_ms: list[float], seconds: float
) -> None:
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        number = _consume(connection)
        times_ms.append((time.perf_counter() - started) * 1000)
        steady.consumed += number
        if number < BATCH:
            time.sleep(_PAUSE_S)


def _consume(connection: psycopg.Connection) -> int:
    row = connection.execute(_CONSUME.encode(), prepare=True).fetchone()
    assert row is not None, "aggregates always give a row"
    return int(row[0])


def _write(database: Database, steady: Steady, over: threading.Event) -> None:
    with database.connect() as connection:
        due = time.perf_counter()
        while not over.is_set():
            connection.execute(_WRITE.encode(), (_PER_WRITE,), prepare=True)
            steady.written += _PER_WRITE
            due += _PER_WRITE / RATE
            over.wait(max(0.0, due - time.perf_counter()))


def _keep_partitions(database: Database, over: threading.Event) -> None:
    """What cron does every ten minutes for partitions of a day."""
    with database.connect() as connection:
        while not over.wait(1):
            connection.execute(b"select payments.add_outbox_partitions()")
            try:
                connection.execute(b"select payments.drop_outbox_partition()")
            except psycopg.errors.LockNotAvailable:
                continue  # as cron: the next run tries again


@contextmanager
def _old_snapshot(database: Database) -> Iterator[None]:
    with database.connect() as holder:
        holder.execute(b"begin isolation level repeatable read")
        holder.execute(b"select 1 from public.plans limit 1")
        yield
        holder.execute(b"rollback")
