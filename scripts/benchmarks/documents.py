"""A ledger full of documents: fifty outlets, one chain each, every hash true.

A million signatures would take a minute and be looked at once each; so a sample of documents has
real ones, and the rest has text of the same length.
"""
# ruff: noqa: E501 -- its statements are as wide as those of sql/

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psycopg

from shared.fiscal.seal import auth_code
from shared.signing.encoding import from_base64url
from shared.signing.local import LocalSigner

OUTLETS: Final = 50
SAMPLE: Final = 2000

_PLACES: Final = """
with made as (
    select n, 'tn_bench_fiscal_' || n as tenant_id, 'mer_bench_' || n as merchant_id, 'out_bench_' || n as outlet_id
    from generate_series(1, %(outlets)s) as n
),
tenants as (
    insert into public.tenants (tenant_id, name, country, status, plan)
    select tenant_id, tenant_id, 'CD', 'active', 'pro' from made
),
merchants as (
    insert into fiscal.merchants (merchant_id, tenant_id, environment, jurisdiction, legal_name, tin, vat_status)
    select merchant_id, tenant_id, 'production', 'CD', 'Bench ' || n, '308123456', 'registered' from made
)
insert into fiscal.outlets (
    outlet_id, merchant_id, tenant_id, environment, outlet_code, name, time_zone, fiscal_authority_id
)
select
    outlet_id, merchant_id, tenant_id, 'production', 'BN' || lpad(n::text, 4, '0'), 'Till', 'Africa/Kinshasa',
    'stalela-cd-01'
from made
"""
_KEY: Final = """
insert into signing.keys (
    key_id, jurisdiction, environment, provider, key_ref, key_version, alg, public_key_spki
) values ('cd-bench', 'CD', 'production', 'local', 'bench', '1', 'ES256', %(spki)s)
"""
# A step of the recursion appends one entry to each of the chains.
_LEDGER: Final = """
with recursive chain as (
    select
        o.outlet_id, o.tenant_id, o.outlet_code, 0::bigint as entry_no, null::text as fiscal_number,
        null::text as payload_hash, null::text as sealed_at, null::text as previous_hash,
        repeat('0', 64) as entry_hash
    from fiscal.outlets as o
    where o.outlet_id like 'out_bench_%%'
    union all
    select
        c.outlet_id, c.tenant_id, c.outlet_code, x.entry_no, x.fiscal_number, x.payload_hash, x.sealed_at, c.entry_hash,
        encode(sha256(convert_to(
            x.fiscal_number || E'\\n' || x.payload_hash || E'\\n' || x.sealed_at || E'\\n' || c.entry_hash, 'UTF8'
        )), 'hex')
    from chain as c
    cross join lateral (
        select
            c.entry_no + 1 as entry_no,
            'STL-' || c.outlet_code || '-' || lpad((c.entry_no + 1)::text, 6, '0') as fiscal_number,
            encode(sha256(convert_to(
                repeat(c.outlet_code || ' ' || (c.entry_no + 1)::text || ' ', %(words)s), 'UTF8'
            )), 'hex') as payload_hash,
            to_char(timestamp '2026-01-01' + interval '7 s' * (c.entry_no + 1), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                as sealed_at
    ) as x
    where c.entry_no < %(per_outlet)s
)
insert into fiscal.fiscal_ledger (
    outlet_id, entry_no, tenant_id, environment, record_type, fiscal_number, series_no, sequence,
    canonical_payload_hash, sealed_at, previous_hash, entry_hash, invoice_id
)
select
    outlet_id, entry_no, tenant_id, 'production', 'sale', fiscal_number, entry_no, entry_no, payload_hash, sealed_at,
    previous_hash, entry_hash, 'inv_bench_' || outlet_code || entry_no
from chain
where entry_no > 0
"""
_INVOICES: Final = """
insert into fiscal.invoices (
    invoice_id, tenant_id, environment, merchant_id, outlet_id, status, invoice_type, fiscal_number, sequence, payload,
    canonical_payload_hash, tax_summary, currency, total_minor, tax_minor, original_invoice_id, created_by, cashier_id
)
select
    l.invoice_id, l.tenant_id, l.environment, o.merchant_id, l.outlet_id, 'fiscalized', 'sale', l.fiscal_number,
    l.sequence, repeat(o.outlet_code || ' ' || l.sequence || ' ', %(words)s), l.canonical_payload_hash, '[]', 'CDF',
    116000, 16000, case when l.sequence %% 50 = 2 then 'inv_bench_' || o.outlet_code || (l.sequence - 1) end, 'bench', 'cashier-1'
from fiscal.fiscal_ledger as l
inner join fiscal.outlets as o on o.outlet_id = l.outlet_id
where l.outlet_id like 'out_bench_%%'
"""
_SIGNATURES: Final = """
insert into fiscal.signatures (
    fiscal_number, tenant_id, environment, outlet_id, key_id, signature_alg, digest, signature, auth_code
)
select
    l.fiscal_number, l.tenant_id, l.environment, l.outlet_id, 'cd-bench', 'ES256', l.entry_hash,
    left(l.entry_hash || l.previous_hash, 86), left(l.entry_hash, 19)
from fiscal.fiscal_ledger as l
where l.outlet_id like 'out_bench_%%'
"""
_DRAW: Final = """
select s.fiscal_number, fiscal.seal_object(s.fiscal_number, s.key_id)
from fiscal.signatures as s
where s.key_id = 'cd-bench'
order by md5(s.fiscal_number)
limit %(sample)s
"""
_SIGN: Final = """
update fiscal.signatures as s
set signature = given.signature, auth_code = given.auth_code
from unnest(%(numbers)s::text[], %(signatures)s::text[], %(codes)s::text[]) as given (number, signature, auth_code)
where s.fiscal_number = given.number
"""


@dataclass(frozen=True, slots=True)
class Paper:
    """What stands on a document of the sample."""

    fiscal_number: str
    auth_code: str


def fill_ledger(admin: psycopg.Connection, documents: int) -> list[Paper]:
    """Enter `documents` (a multiple of OUTLETS), as their own checks once saw them; the sample."""
    with TemporaryDirectory() as folder:
        return asyncio.run(_fill(admin, LocalSigner(Path(folder) / "key.pem"), documents))


async def _fill(admin: psycopg.Connection, signer: LocalSigner, documents: int) -> list[Paper]:
    key = await signer.newest()
    values = {
        "outlets": OUTLETS,
        "per_outlet": documents // OUTLETS,
        "words": 40,  # a payload of some 600 characters
        "spki": key.spki,
        "sample": SAMPLE,
    }
    # References and append-only triggers need no second look; the check of each hash stays.
    admin.execute("set session_replication_role = replica")
    admin.execute("set jit = off")
    for statement in (_PLACES, _KEY, _LEDGER, _INVOICES, _SIGNATURES):
        admin.execute(statement.encode(), values)
    drawn = admin.execute(_DRAW.encode(), values).fetchall()
    digests = [sha256(seal.encode()).digest() for _, seal in drawn]
    signatures = [(await signer.sign(key, digest)).value for digest in digests]
    papers = [
        Paper(number, auth_code(from_base64url(signature)))
        for (number, _), signature in zip(drawn, signatures, strict=True)
    ]
    admin.execute(
        _SIGN.encode(),
        {
            "numbers": [paper.fiscal_number for paper in papers],
            "signatures": signatures,
            "codes": [paper.auth_code for paper in papers],
        },
    )
    admin.execute("vacuum analyze fiscal.fiscal_ledger, fiscal.invoices, fiscal.signatures")
    admin.execute("set session_replication_role = origin")
    return papers
