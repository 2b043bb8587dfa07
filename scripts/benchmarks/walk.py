"""How fast a chain is walked: every link and hash in Postgres, against a bare scan of SHA-256.

The chain is made as sealing makes it, of documents of the size merchants send, each signed.
"""
# ruff: noqa: E501 -- its statements are as wide as those of sql/

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import psycopg

from functions.integrity.walking import first_forged
from scripts.benchmarks.rounds import Rounds, Say
from scripts.benchmarks.table import Figure, Target, figure
from scripts.stack.database import Database, Databases
from scripts.stack.stack import Stack
from shared.fiscal.seal import auth_code
from shared.signing.encoding import from_base64url
from shared.signing.local import LocalSigner

_OUTLET: Final = """
insert into public.tenants (tenant_id, name, country, status, plan) values ('tn_bench', 'Bench', 'CD', 'active', 'unlimited');
insert into fiscal.merchants (merchant_id, tenant_id, environment, jurisdiction, legal_name, tin, vat_status)
values ('fm_bench', 'tn_bench', 'sandbox', 'CD', 'Bench', '308123456', 'registered');
insert into fiscal.outlets (outlet_id, merchant_id, tenant_id, environment, outlet_code, name, time_zone, fiscal_authority_id)
values ('out_bench', 'fm_bench', 'tn_bench', 'sandbox', 'BENCH', 'Bench', 'Africa/Kinshasa', 'stalela-cd-01');
insert into signing.keys (key_id, jurisdiction, environment, provider, key_ref, key_version, alg, public_key_spki)
values ('cd-bench', 'CD', 'sandbox', 'local', 'bench', '1', 'ES256', 'set below');
set session_replication_role = replica;
"""
_DOCUMENTS: Final = """
insert into fiscal.invoices (
    invoice_id, tenant_id, environment, merchant_id, outlet_id, status, invoice_type, fiscal_number, sequence, payload,
    canonical_payload_hash, tax_summary, currency, total_minor, tax_minor, created_by, cashier_id
)
select
    'inv_' || lpad(n::text, 26, '0'), 'tn_bench', 'sandbox', 'fm_bench', 'out_bench', 'fiscalized', 'sale',
    'TST-BENCH-' || lpad(n::text, 6, '0'), n, p.payload, encode(sha256(convert_to(p.payload, 'UTF8')), 'hex'),
    s.summary, 'CDF', 116000, 16000, 'key_bench', 'cashier-13'
from generate_series(1, %(count)s) as n
cross join lateral (
    select format(
        '{"cashier_id":"cashier-13","client":{"classification":"company","name":"Acme Ltd %%s","tin":"123456789"},'
        '"invoice_type":"sale","items":[{"code":"CONS-001","description":"Consulting hours","kind":"service",'
        '"line_base":"1000.00","line_no":1,"line_total":"1160.00","quantity":"2","tax_amount":"160.00",'
        '"tax_group":"TG03","tax_rate":"0.16","unit":"hour","unit_price":"500.00"}],"jurisdiction":"CD",'
        '"merchant_tin":"308123456","outlet_id":"out_bench","payments":[{"amount":"1160.00","currency":"CDF",'
        '"method":"mobile_money","provider":"airtel_money"}],"pos_terminal_id":"sdk-js-01","price_mode":"exclusive",'
        '"schema_version":"1.0","tax_group_manifest_version":"CD-2026-01","tax_groups":[{"base_amount":"1000.00",'
        '"code":"TG03","rate":"0.16","tax_amount":"160.00"}],"tax_rounding_adjustment":"0.00",'
        '"timestamp":"2026-02-17T04:00:00Z","totals":{"currency":"CDF","subtotal":"1000.00","total":"1160.00",'
        '"total_tax":"160.00"}}', n
    ) as payload
) as p
cross join (
    select jsonb_agg(jsonb_build_object(
        'code', 'TG' || lpad(g::text, 2, '0'), 'rate', case g when 3 then '0.16' else '0.05' end,
        'base_amount', case g when 3 then '1000.00' else '0.00' end,
        'tax_amount', case g when 3 then '160.00' else '0.00' end
    )) as summary
    from generate_series(1, 14) as g
) as s
"""
_CHAIN: Final = """
insert into fiscal.fiscal_ledger (
    outlet_id, entry_no, tenant_id, environment, record_type, fiscal_number, series_no, sequence,
    canonical_payload_hash, sealed_at, previous_hash, entry_hash, invoice_id, created_at
)
with recursive chain as (
    select 0::bigint as n, null::text as payload_hash, null::text as previous_hash, repeat('0', 64) as entry_hash
    union all
    select
        i.sequence, i.canonical_payload_hash, c.entry_hash,
        encode(sha256(convert_to(concat_ws(
            E'\\n', i.fiscal_number, i.canonical_payload_hash, '2026-02-17T04:00:02Z', c.entry_hash
        ), 'UTF8')), 'hex')
    from chain as c
    inner join fiscal.invoices as i on i.outlet_id = 'out_bench' and i.sequence = c.n + 1
)
select
    'out_bench', c.n, 'tn_bench', 'sandbox', 'sale', i.fiscal_number, c.n, c.n, c.payload_hash, '2026-02-17T04:00:02Z',
    c.previous_hash, c.entry_hash, i.invoice_id, i.created_at
from chain as c
inner join fiscal.invoices as i on i.outlet_id = 'out_bench' and i.sequence = c.n;
"""
_LOGS: Final = """
insert into signing.signing_log (
    tenant_id, environment, fiscal_number, key_id, digest, signature, latency_ms, outcome, signed_at
)
select s.tenant_id, s.environment, s.fiscal_number, s.key_id, s.digest, s.signature, 3, 'signed', s.signed_at
from fiscal.signatures as s;
insert into fiscal.events (event_id, tenant_id, environment, subject_id, seq, payload, actor, occurred_at)
select 'evt_' || right(i.invoice_id, 26), i.tenant_id, i.environment, i.invoice_id, 1, '{}', i.created_by, i.created_at
from fiscal.invoices as i;
insert into fiscal.fiscal_counters (outlet_id, kind, next_value)
select 'out_bench', 'invoice', count(*) + 1 from fiscal.invoices;
set session_replication_role = origin;
"""
_DIGESTS: Final = """
select l.fiscal_number, encode(sha256(convert_to(fiscal.seal_object(l.fiscal_number, 'cd-bench'), 'UTF8')), 'hex')
from fiscal.fiscal_ledger as l
"""
_SIGNATURES: Final = """
copy fiscal.signatures (
    fiscal_number, tenant_id, environment, outlet_id, key_id, signature_alg, digest, signature, auth_code
) from stdin
"""
_BARE: Final = """
select count(*)
from fiscal.fiscal_ledger as l
inner join fiscal.invoices as i on i.invoice_id = l.invoice_id
where encode(sha256(convert_to(i.payload, 'UTF8')), 'hex') = l.canonical_payload_hash
"""
_BEGIN: Final = """
select (fiscal.begin_walk(o, 'all', %s, 'bench')).walk_id from fiscal.outlets as o
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """Entries per second."""

    hashes: float
    everything: float
    signatures: float
    bare: float


def measure_walk(stack: Stack, rounds: Rounds, entries: int, say: Say) -> list[Figure]:
    """Walks of one chain of so many entries."""
    with chained(Databases(stack.cluster), entries) as connection:
        say(f"walk: a chain of {entries:,} entries")
        runs = rounds.series("walk", lambda: _rates(connection, entries))
    return [
        figure(
            "chain walked, all hashes; limit: a bare scan with SHA-256",
            runs,
            lambda run: run.hashes,
            "/s",
            Target("≥", 0.25),
            limit=lambda run: run.bare,
        ),
        figure("the same, alone", runs, lambda run: run.hashes, "/s", Target("≥", 50_000)),
        figure("chain walked, everything but signatures", runs, lambda run: run.everything, "/s"),
        figure("signatures verified, one core", runs, lambda run: run.signatures, "/s"),
    ]


@contextmanager
def chained(databases: Databases, entries: int) -> Iterator[psycopg.Connection]:
    """A session in a database with a chain; dropped at the end."""
    name = f"walk_{uuid.uuid4().hex[:12]}"
    databases.cluster.create_database(name, databases.create_template())
    try:
        with Database(databases.cluster, name).connect() as connection:
            connection.execute(_OUTLET.encode())
            connection.execute(_DOCUMENTS.encode(), {"count": entries})
            connection.execute("analyze fiscal.invoices")
            connection.execute(_CHAIN.encode())
            _sign(connection)
            connection.execute(_LOGS.encode())
            connection.execute(
                "vacuum analyze fiscal.invoices, fiscal.fiscal_ledger, fiscal.signatures,"
                " signing.signing_log, fiscal.events"
            )
            yield connection
    finally:
        databases.cluster.drop_database(name)


def _sign(connection: psycopg.Connection) -> None:
    """Every entry, with a key of this bench."""
    with TemporaryDirectory() as place:
        signer = LocalSigner(Path(place) / "key.pem")
        asyncio.run(_sign_all(connection, signer))


async def _sign_all(connection: psycopg.Connection, signer: LocalSigner) -> None:
    key = await signer.newest()
    connection.execute("update signing.keys set public_key_spki = %s", [key.spki])
    entries = connection.execute(_DIGESTS.encode()).fetchall()
    with connection.cursor().copy(_SIGNATURES.encode()) as copy:
        for number, digest in entries:
            signature = (await signer.sign(key, bytes.fromhex(digest))).value
            named = (number, "tn_bench", "sandbox", "out_bench", "cd-bench", "ES256", digest)
            copy.write_row((*named, signature, auth_code(from_base64url(signature))))


def _rates(connection: psycopg.Connection, entries: int) -> Rates:
    _value(connection, _BARE)  # warms the pages for all
    began = perf_counter()
    assert _value(connection, _BARE) == entries, "every document is the one that was hashed"
    bare = perf_counter() - began
    hashes, _ = _walk(connection, "hashes")
    everything, verifying = _walk(connection, "everything")
    return Rates(entries / hashes, entries / everything, entries / verifying, entries / bare)


def _walk(connection: psycopg.Connection, checks: str) -> tuple[float, float]:
    """Seconds in the database, and seconds of verifying signatures here."""
    walk_id = _value(connection, _BEGIN, [checks])
    began, verifying, status = perf_counter(), 0.0, "running"
    while status == "running":
        part = _value(connection, "select fiscal.walk_part(%s)", [walk_id])
        started = perf_counter()
        forged = first_forged(part)
        verifying += perf_counter() - started
        step = [walk_id, part["after_entry"], part["until_entry"], part["is_last"], forged]
        status = _value(connection, "select fiscal.walk_on(%s, %s, %s, %s, %s)", step)
    assert status == "sound", "the walk finds nothing"
    return perf_counter() - began - verifying, verifying


def _value(connection: psycopg.Connection, query: str, values: list[Any] | None = None) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None, "the query gives a row"
    return row[0]
