"""Fiscal documents per second: of many outlets, of one whose signer is far away, in SQL alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from scripts.benchmarks.cpu import cpu_s
from scripts.benchmarks.load import KEY, Load, Outcome, send
from scripts.benchmarks.pgbench import Script, per_s
from scripts.benchmarks.place import Function, Place, alone
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.shop import TENANTS, Merchant
from scripts.benchmarks.table import Figure, Target, figure
from scripts.benchmarks.transactions import COMMIT, prepare
from scripts.benchmarks.wire import request
from scripts.stack.kms.testing import Kms, keeping_keys
from shared.canonical import canonical_bytes
from shared.fiscal.document import Document
from shared.fiscal.engine import price

CLIENTS: Final = 16
FAR_CLIENTS: Final = 32  # terminals of one outlet; each waits for its signature
FAR_MS: Final = 80  # as an HSM in another country takes
# Documents of each shop before a run: PostgREST's ten sessions keep a plan after five calls each.
WARM: Final = 6
PATH: Final = "/functions/v1/invoices"
ROLE: Final = "fn_invoices"

_OUTLET: Final = """
with merchant as (
    insert into fiscal.merchants
        (merchant_id, tenant_id, environment, jurisdiction, legal_name, tin, vat_status)
    values ('fm_' || %(tenant)s, %(tenant)s, 'sandbox', 'CD', 'Bench', '308123456', 'registered')
)
insert into fiscal.outlets (
    outlet_id, merchant_id, tenant_id, environment, outlet_code, name, time_zone,
    fiscal_authority_id
) values (
    'out_' || %(tenant)s, 'fm_' || %(tenant)s, %(tenant)s, 'sandbox', %(code)s, 'Till',
    'Africa/Kinshasa', 'stalela-cd-01'
)
"""
# One statement of pgbench seals one document of a drawn outlet: headers first, then the call.
_STATEMENTS: Final = """
create schema if not exists bench;
create table if not exists bench.documents (
    shop integer primary key, headers text, payload text, hash text
);
create or replace function bench.as_shop(shop integer) returns bench.documents language sql as $$
    select d from bench.documents as d
    where d.shop = as_shop.shop and set_config('request.headers', d.headers, true) <> ''
$$;
create or replace function bench.seal(shop integer) returns integer language sql as $$
    select ((fiscal.seal(
        gen_random_uuid()::text, d.hash, d.payload, d.hash, '[]'::jsonb, 116000, 16000
    )).answer).status
    from bench.as_shop(seal.shop) as d
$$;
grant usage on schema bench to fn_invoices;
grant select on bench.documents to fn_invoices;
"""
_DOCUMENT: Final = """
insert into bench.documents (shop, headers, payload, hash)
values (%s, %s, %s, encode(sha256(convert_to(%s, 'UTF8')), 'hex'))
"""


@dataclass(frozen=True, slots=True)
class Near:
    """Commits of one row, then documents of many outlets; cpu_ms: of the function, for each."""

    commits: float
    sealed: Outcome
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Sql:
    """Transactions per second: what comes before sealing; sealing in one outlet, and in many."""

    before: float
    one: float
    many: float
    commits: float

    @property
    def chain_ms(self) -> float:
        """What sealing adds to a transaction of one connection, commit included."""
        return (1 / self.one - 1 / self.before) * 1000


def measure_sealing(place: Place, rounds: Rounds, seconds: float) -> list[Figure]:
    """Each document is computed, numbered, chained, signed, and answered whole."""
    prepare(place)
    with place.stack.database.connect() as connection:
        open_outlets(connection, place.shops)
    figures = _sql(place, rounds, seconds)
    key_file = place.stack.state / "bench-key.pem"
    with alone(place.stack, "invoices", INVOICE_KEY_FILE=str(key_file)) as function:
        figures += _near(place, function, rounds, seconds)
    with far_away(place) as (kms, function):
        figures += _far(place, kms, function, rounds, seconds)
    return figures


def open_outlets(connection: psycopg.Connection[Any], shops: list[Merchant]) -> None:
    """One outlet for each shop, and its document for pgbench."""
    connection.execute(_STATEMENTS.encode())
    for number, shop in enumerate(shops, start=1):
        facts = {"tenant": shop.tenant_id, "code": f"B{number:03d}{shop.tenant_id[9:13].upper()}"}
        connection.execute(_OUTLET.encode(), facts)
        priced = price(Document.model_validate(document(shop)))
        payload = canonical_bytes(priced.canonical).decode()
        headers = json.dumps({"x-stalela-key-hash": shop.key_hash})
        connection.execute(_DOCUMENT.encode(), [number, headers, payload, payload])


def document(shop: Merchant) -> dict[str, Any]:
    """Three lines, as a small basket has."""
    lines = [
        {"line_no": number, "code": f"ART-{number}", "description": "Savon de Marseille"}
        | {"kind": "goods", "quantity": "2", "unit_price": "500.00"}
        for number in (1, 2, 3)
    ]
    return {
        "schema_version": "1.0",
        "jurisdiction": "CD",
        "merchant_tin": "308123456",
        "outlet_id": f"out_{shop.tenant_id}",
        "pos_terminal_id": "pos-1",
        "cashier_id": "cashier-1",
        "invoice_type": "sale",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "tax_group_manifest_version": "CD-2026-01",
        "price_mode": "exclusive",
        "client": {"classification": "individual"},
        "items": lines,
        "totals": {"currency": "CDF"},
        "payments": [{"method": "cash", "amount": "3480.00", "currency": "CDF"}],
    }


def requests(shops: list[Merchant]) -> list[str]:
    """A document of each shop, with an idempotency key to be put in."""
    return [
        request(
            "POST",
            PATH,
            {"Authorization": f"Bearer {shop.key}", "Idempotency-Key": KEY},
            document(shop),
        ).decode("latin-1")
        for shop in shops
    ]


@contextmanager
def far_away(place: Place) -> Iterator[tuple[Kms, Function]]:
    """The function with a KMS that takes FAR_MS for each signature."""
    with keeping_keys() as kms:
        settings = kms.settings | {"kms_key_id": kms.new_key()}
        # The local key gives way: the one in KMS is the first that registers.
        with place.stack.database.connect() as connection:
            connection.execute(
                b"update signing.keys set status = 'retired', valid_until = now()"
                b" where status = 'active'"
            )
        named = {name.upper(): value for name, value in settings.items()}
        with alone(place.stack, "invoices", **named) as function:
            yield kms, function


def _sql(place: Place, rounds: Rounds, seconds: float) -> list[Figure]:
    draw = f"\\set shop random(1, {len(place.shops)})\n"
    before = Script("select hash from bench.as_shop(1);", ROLE)
    one, many = (
        Script("select bench.seal(1);", ROLE),
        Script(f"{draw}select bench.seal(:shop);", ROLE),
    )

    def run() -> Sql:
        return Sql(
            before=per_s(place, before, clients=1, seconds=seconds),
            one=per_s(place, one, clients=1, seconds=seconds),
            many=per_s(place, many, clients=8, seconds=seconds),
            commits=per_s(place, COMMIT, clients=8, seconds=seconds),
        )

    runs = rounds.series("sealing, sql", run)
    return [
        figure(
            "sealing: the chain's transaction", runs, lambda run: run.chain_ms, "ms", Target("<", 3)
        ),
        figure(
            "sealing: SQL, 8 connections; limit: one-row commits",
            runs,
            lambda run: run.many,
            "/s",
            limit=lambda run: run.commits,
        ),
    ]


def _near(place: Place, function: Function, rounds: Rounds, seconds: float) -> list[Figure]:
    load = Load(function.port, CLIENTS, requests(place.shops), seconds)
    send(Load(load.port, CLIENTS, load.requests * WARM), expect=201)

    def run() -> Near:
        commits = per_s(place, COMMIT, clients=8, seconds=seconds)
        began = cpu_s(function.pid)
        sealed = send(load, expect=201)
        return Near(commits, sealed, (cpu_s(function.pid) - began) * 1000 / sealed.count)

    runs = rounds.series("sealing, many outlets", run)
    name = f"sealing, {len(place.shops)} outlets, local key"
    return [
        figure(name, runs, lambda run: run.sealed.per_s, "/s", Target("≥", 200)),
        figure(
            f"{name}; limit: its two transactions as one-row commits",
            runs,
            lambda run: run.sealed.per_s,
            "/s",
            limit=lambda run: run.commits / 2,
        ),
        figure(f"{name}: p99", runs, lambda run: run.sealed.percentile(0.99), "ms"),
        figure("sealing: function CPU", runs, lambda run: run.cpu_ms, "ms"),
    ]


def _far(
    place: Place, kms: Kms, function: Function, rounds: Rounds, seconds: float
) -> list[Figure]:
    load = Load(function.port, FAR_CLIENTS, requests(place.shops[:1]), seconds)
    send(Load(load.port, FAR_CLIENTS, load.requests * TENANTS * WARM), expect=201)
    kms.mood(delay_ms=FAR_MS)
    runs = rounds.series("sealing, one outlet", lambda: send(load, expect=201))
    name = f"sealing, one outlet, signer {FAR_MS} ms away"
    return [
        figure(name, runs, lambda run: run.per_s, "/s", Target("≥", 100)),
        figure(
            f"{name}; limit: one signature after another",
            runs,
            lambda run: run.per_s,
            "/s",
            limit=lambda _: 1000 / FAR_MS,
        ),
        figure(f"{name}: p99", runs, lambda run: run.percentile(0.99), "ms"),
    ]
