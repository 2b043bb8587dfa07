"""What one create costs in Postgres: against single-row commits, in log bytes, against a replay."""

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from scripts.benchmarks.pgbench import Script, per_s
from scripts.benchmarks.place import Place
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.shop import Merchant
from scripts.benchmarks.table import Figure, Target, figure

CLIENTS: Final = 8
REPLAYS: Final = 40  # keys of each shop that have an answer
_TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

_COMMITS: Final = """
create schema if not exists bench;
create table if not exists bench.commits (
    id bigint generated always as identity primary key, words text
);
create extension if not exists pg_walinspect schema extensions;
"""
COMMIT: Final = Script(
    "insert into bench.commits (words) values ('0123456789012345678901234567890123456789');", None
)
_WAL: Final = """
select sum(w.count), sum(w.record_size), sum(w.fpi_size)
from extensions.pg_get_wal_stats(%s, pg_current_wal_flush_lsn()) as w
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """Transactions per second at eight connections."""

    commits: float
    creates: float
    replays: float


@dataclass(frozen=True, slots=True)
class Wal:
    """Of one create. pages: bytes of whole page images, which depend on the last checkpoint."""

    records: float
    size: float
    pages: float


def measure_transactions(place: Place, rounds: Rounds, seconds: float) -> list[Figure]:
    """Figures of the SQL functions alone, each transaction for one of the shops."""
    sql = Statements(place.shops)
    prepare(place)
    with place.stack.database.connect() as connection:
        connection.execute(sql.fill.encode())
    rates = rounds.series("sql", lambda: measure_rates(place, sql, seconds))
    logs = rounds.series("log", lambda: measure_wal(place, sql))
    costs = rounds.series("authorize", lambda: _authorize_us(place, sql, seconds))
    return [
        figure(
            f"SQL create, {CLIENTS} connections; limit: one-row commits",
            rates,
            lambda run: run.creates,
            "/s",
            Target("≥", 0.4),
            limit=lambda run: run.commits,
        ),
        figure(
            f"SQL replay, {CLIENTS} connections; limit: create",
            rates,
            lambda run: run.replays,
            "/s",
            Target("≥", 4),
            limit=lambda run: run.creates,
        ),
        figure("log per create", logs, lambda run: run.size / 1000, "kB", Target("≤", 2.6)),
        figure("log records per create", logs, lambda run: run.records, ""),
        figure("who is calling, and may they", costs, lambda run: run, "µs"),
    ]


def prepare(place: Place) -> None:
    """Make what the measures need: a table to commit to, a way to read the log."""
    with place.stack.database.connect() as connection:
        connection.execute(_COMMITS)


class Statements:
    """The transactions, in pgbench's language: `shop` is drawn, its key is in the headers."""

    def __init__(self, shops: list[Merchant]) -> None:
        hashes = ",".join(shop.key_hash for shop in shops)
        self._draw = f"\\set shop random(1, {len(shops)})\n"
        self._hashes = f"('{{{hashes}}}'::text[])"
        self.create = self._script(self._create("gen_random_uuid()::text", ":shop"))
        self.replay = self._script(
            self._create("'replay-' || :number", ":shop"), f"\\set number random(1, {REPLAYS})\n"
        )
        first = self._create("'replay-' || number", "shop")
        self.fill = (
            f"select count({first}) from generate_series(1, {len(shops)}) as shop,"  # noqa: S608
            f" generate_series(1, {REPLAYS}) as number"
        )

    @property
    def headers(self) -> Script:
        """Nothing but what the Data API does first."""
        return Script(f"{self._draw}select {self._at(':shop')};", None)

    @property
    def authorize(self) -> Script:
        """The same, then the first line of every function."""
        # pgbench would take the second half of the scope for one of its variables.
        ask = "public.authorize('payments' || chr(58) || 'write', 'write')"
        return Script(f"{self._draw}select {self._at(':shop')}, {ask};", None)

    def _at(self, shop: str) -> str:
        return (
            "set_config('request.headers', json_build_object('x-stalela-key-hash',"
            f" {self._hashes}[{shop}::integer], 'traceparent', '{_TRACEPARENT}')::text, true)"
        )

    def _create(self, key: str, shop: str) -> str:
        # The headers are set while the arguments are evaluated, so all of it is one statement.
        return (
            f"payments.create_intent(idempotency_key => {key},"
            f" body_hash => left({self._at(shop)}, 1), amount_minor => 10000, currency => 'KES',"
            " payment_method_types => '{mpesa}', description => null, customer => null,"
            " customer_sealed => null, metadata => '{}', return_url => null, expires_in_s => 86400)"
        )

    def _script(self, call: str, draw: str = "") -> Script:
        return Script(f"{self._draw}{draw}select status from {call};")  # noqa: S608


def measure_rates(place: Place, sql: Statements, seconds: float) -> Rates:
    """Single-row commits, creates, replays, one after the other."""
    commits = per_s(place, COMMIT, clients=CLIENTS, seconds=seconds)
    creates = per_s(place, sql.create, clients=CLIENTS, seconds=seconds)
    return Rates(commits, creates, per_s(place, sql.replay, clients=CLIENTS, seconds=seconds))


def measure_wal(place: Place, sql: Statements, transactions: int = 500) -> Wal:
    """From the write-ahead log itself, after the pages had their first write since a checkpoint."""
    per_s(place, sql.create, clients=1, transactions=200)
    with place.stack.database.connect() as connection:
        began = _one(connection, "select pg_current_wal_insert_lsn()")[0]
        per_s(place, sql.create, clients=1, transactions=transactions)
        records, size, pages = _one(connection, _WAL, began)
    return Wal(*(float(sum_) / transactions for sum_ in (records, size, pages)))


def _authorize_us(place: Place, sql: Statements, seconds: float) -> float:
    without = per_s(place, sql.headers, clients=1, seconds=seconds)
    return (1 / per_s(place, sql.authorize, clients=1, seconds=seconds) - 1 / without) * 1e6


def _one(connection: psycopg.Connection, query: str, *values: object) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None, "aggregates always give a row"
    return row
