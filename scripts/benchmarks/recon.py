"""Transfers against statement lines with planted breaks: how fast, and is all accounted for."""
# ruff: noqa: E501 -- its statements are as wide as those of sql/

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import psycopg

from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.table import Figure, Target, figure
from scripts.stack.database import Database, Databases
from scripts.stack.stack import Stack

THOUSAND: Final = 1000
# What becomes of each thousand transfers, and of the lines that stand for them.
EXPECTED: Final = {
    "matched": {
        "rail_reference": 957,
        "our_reference": 10,
        "party_and_day": 10,
        "batch": 11,  # one line for five transfers, ten lines for five
        "person": 0,
    },
    "exceptions": {
        "AMOUNT_MISMATCH": 5,
        "DUPLICATE_LINE": 5,
        "MISSING_LINE": 5,
        "STATE_CONFLICT": 3,
        "UNMATCHED_LINE": 2,
    },
    "lines": 1003,
    "transfers": 997,  # settled ones: three failed, and their lines say otherwise
    "marked": 0,
    "awaiting": 0,
}

_TENANT: Final = """
insert into public.tenants (tenant_id, name, country, status, plan)
values ('tn_bench', 'Bench', 'KE', 'active', 'unlimited')
"""
# Transfer i: i % 1000 says what its line will look like. Thirty days, forty to eleven days ago.
_TRANSFERS: Final = """
insert into payments.transfers (
    transfer_id, tenant_id, environment, intent, rail, state, amount_minor, currency, payer_sealed, payer_masked,
    payer_hash, receipt, rail_ref, failure, created_at, updated_at, submitted_at, settled_at, purpose, metadata
)
select
    'tr_' || lpad(i::text, 26, '0'), 'tn_bench', 'sandbox', 'PULL', 'mpesa',
    case when i %% 1000 between 995 and 997 then 'FAILED' else 'SETTLED' end,
    (i::bigint * 7919 %% 100000 + 1000) * 100, 'KES', 'sealed', '+2547******78', md5('payer' || i),
    case when i %% 1000 not between 995 and 997 then 'R' || i end, 'ws_CO_' || i,
    case when i %% 1000 between 995 and 997 then '{"code": "MM_TIMEOUT"}'::jsonb end,
    d.at, d.at, d.at, case when i %% 1000 not between 995 and 997 then d.at end, 'direct',
    case when i %% 1000 between 970 and 974 then jsonb_build_object('batch_ref', 'B' || i / 1000) else '{}' end
from generate_series(0, %(transfers)s - 1) as i
cross join lateral (
    select
        ((now() at time zone 'Africa/Nairobi')::date - 40 + (i / 1000 %% 30))::timestamp at time zone 'Africa/Nairobi'
        + make_interval(secs => 3600 + i %% 1000 * 60) as at
) as d
"""
_STATEMENTS: Final = """
insert into recon.statements (
    statement_id, tenant_id, environment, rail, format, sha256, period_from, period_to, lines, totals, file_sealed,
    imported_by
)
select
    'stm_' || d, 'tn_bench', 'sandbox', 'mpesa', 'mpesa_csv', encode(sha256(d::text::bytea), 'hex'), t.day, t.day,
    1003 * (%(transfers)s / 1000 + 29 - d) / 30, '{}', '', 'bench'
from generate_series(0, 29) as d
cross join lateral (select (now() at time zone 'Africa/Nairobi')::date - 40 + d as day) as t
"""
_LINES: Final = """
insert into recon.statement_lines (
    statement_no, line_no, line_hash, tenant_id, environment, rail, type, direction, amount_minor, currency, value_date,
    occurred_at, external_ref, our_ref, batch_ref, party_hash
)
select
    s.statement_no, x.n, decode(md5(t.transfer_id || ' ' || x.n), 'hex'), t.tenant_id, t.environment, t.rail, 'payment',
    'in', x.amount_minor, t.currency,
    s.period_from + case when x.kind between 960 and 969 then x.kind %% 2 else 0 end,
    t.created_at, x.external_ref, x.our_ref, x.batch_ref, x.party_hash
from payments.transfers as t
cross join lateral (select right(t.transfer_id, 3)::integer as kind) as k
inner join recon.statements as s
    on s.period_from = (t.created_at at time zone 'Africa/Nairobi')::date and s.tenant_id = t.tenant_id
cross join lateral (
    select
        n, k.kind,
        case
            when k.kind = 970 then (
                select sum(b.amount_minor) from payments.transfers as b
                where b.transfer_id between t.transfer_id and left(t.transfer_id, -1) || '4'
            )::bigint
            when k.kind between 975 and 979 then t.amount_minor / 2
            when k.kind between 980 and 984 then t.amount_minor + 100
            when k.kind > 997 and n = 2 then 12345
            else t.amount_minor
        end as amount_minor,
        case
            when k.kind between 950 and 979 or k.kind between 995 and 997 then 'X' || t.transfer_id || n
            when k.kind > 997 and n = 2 then 'U' || t.transfer_id
            else t.receipt
        end as external_ref,
        case
            when k.kind between 950 and 959 or k.kind between 975 and 979 or k.kind between 995 and 997
                then t.transfer_id
        end as our_ref,
        case when k.kind = 970 then t.metadata ->> 'batch_ref' end as batch_ref,
        case when k.kind between 960 and 969 then t.payer_hash end as party_hash
    from generate_series(
        1,
        case
            when k.kind between 971 and 974 or k.kind between 985 and 989 then 0
            when k.kind between 975 and 979 or k.kind between 990 and 994 or k.kind > 997 then 2
            else 1
        end
    ) as n
) as x
order by t.transfer_id, x.n
"""
_JOIN: Final = """
select count(*) from recon.statement_lines as l
inner join payments.transfers as t
    on t.receipt = l.external_ref and t.amount_minor = l.amount_minor and t.currency = l.currency
"""
_EXACT_TABLE: Final = """
create schema bench;
create table bench.pairs (
    line_id bigint primary key, transfer_id text not null, amount_minor bigint not null, matched_at timestamptz not null
)
"""
# The exact rule and nothing else: no leftovers, no other rule, no count, no assertion.
_EXACT: Final = """
insert into bench.pairs
select l.line_id, t.transfer_id, l.amount_minor, now()
from (
    select
        line_id, external_ref, amount_minor, currency,
        row_number() over (partition by external_ref, amount_minor, currency order by line_id) as copy
    from recon.statement_lines
) as l
inner join (
    select
        transfer_id, receipt, amount_minor, currency,
        row_number() over (partition by receipt, amount_minor, currency order by transfer_id) as copy
    from payments.transfers
    where receipt is not null
) as t
    on
        t.receipt = l.external_ref and t.amount_minor = l.amount_minor and t.currency = l.currency
        and t.copy = l.copy
"""
_RUN: Final = "select recon.match_lines('tn_bench', 'sandbox', 'mpesa')"


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each, and what the run counted."""

    join: float
    exact: float
    run: float
    counts: dict[str, Any]

    @property
    def lines(self) -> int:
        return int(self.counts["lines"])


def measure_recon(
    stack: Stack, rounds: Rounds, transfers: int, say: Callable[[str], None]
) -> list[Figure]:
    """The matching run against a bare pass of the exact rule, in a database each time fresh."""
    assert transfers % THOUSAND == 0, "breaks are planted by the thousand"
    databases = Databases(stack.cluster)
    with loaded(databases, transfers) as template:
        say(f"recon: {transfers:,} transfers, {transfers * 1003 // THOUSAND:,} lines")
        runs = rounds.series("recon", lambda: measure_once(databases, template))
    return [
        figure(
            "reconciliation, all rules; limit: a bare pass of the exact rule",
            runs,
            lambda one: one.run,
            "s",
            Target("≤", 3),
            limit=lambda one: one.exact,
        ),
        figure(
            "the same; limit: a bare hash join, counted",
            runs,
            lambda one: one.run,
            "s",
            limit=lambda one: one.join,
        ),
        figure("lines matched or explained", runs, lambda one: one.lines / one.run, "/s"),
        figure(
            "planted breaks found exactly, of all runs",
            runs,
            lambda one: float(one.counts == expected(transfers)),
            "",
            Target("=", 1),
        ),
    ]


@contextmanager
def loaded(databases: Databases, transfers: int) -> Iterator[str]:
    """The name of a database with transfers and lines, to be copied; dropped at the end."""
    name = f"recon_{uuid.uuid4().hex[:12]}"
    cluster = databases.cluster
    cluster.create_database(name, databases.create_template())
    try:
        with Database(cluster, name).connect() as connection:
            values = {"transfers": transfers}
            connection.execute(_TENANT)
            # As bytes of a million payments that came one by one: no check is needed a second time.
            connection.execute("set session_replication_role = replica")
            connection.execute("set jit = off")
            connection.execute(_TRANSFERS.encode(), values)
            connection.execute("analyze payments.transfers")
            connection.execute(_STATEMENTS.encode(), values)
            connection.execute(_LINES.encode(), values)
            connection.execute(
                "update recon.statements as s set lines = c.lines from (select statement_no,"
                " count(*) as lines from recon.statement_lines group by statement_no) as c"
                " where c.statement_no = s.statement_no"
            )
            # Transfers had their day: autovacuum saw them. The lines have just come.
            connection.execute("checkpoint")
        yield name
    finally:
        cluster.drop_database(name)


def measure_once(databases: Databases, template: str) -> Measured:
    """One run in a copy of `template`, beside what it is compared with."""
    name = f"recon_{uuid.uuid4().hex[:12]}"
    databases.cluster.create_database(name, template)
    try:
        with Database(databases.cluster, name).connect() as connection:
            connection.execute("set work_mem = '64MB'")  # as the functions of a run
            connection.execute(_EXACT_TABLE)
            join, _ = _timed(connection, _JOIN)  # warms the pages for all three
            join, _ = _timed(connection, _JOIN)
            exact, _ = _timed(connection, _EXACT)
            run, counts = _timed(connection, _RUN)
    finally:
        databases.cluster.drop_database(name)
    return Measured(join, exact, run, counts)


def expected(transfers: int) -> dict[str, Any]:
    """What a run over so many transfers must count."""
    thousands = transfers // THOUSAND

    def times(planted: Any) -> Any:
        if isinstance(planted, dict):
            return {name: times(count) for name, count in planted.items()}
        return planted * thousands

    return dict(times(EXPECTED))


def _timed(connection: psycopg.Connection, statement: str) -> tuple[float, Any]:
    """Seconds, and the first value of the result if it has one."""
    started = perf_counter()
    cursor = connection.execute(statement.encode())
    seconds = perf_counter() - started
    row = cursor.fetchone() if cursor.description else None
    return seconds, row[0] if row else None
