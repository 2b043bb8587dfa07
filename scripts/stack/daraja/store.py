"""One sqlite file that outlives the process: prompts, ledger, deliveries, log, faults, settings."""

import sqlite3
from pathlib import Path

SHAPE = 2  # of the tables below; another number is another file
SCHEMA = """
create table if not exists prompts (
    id integer primary key autoincrement,
    checkout_request_id text not null unique,
    merchant_request_id text not null,
    short_code text not null,
    party_b text not null,
    phone text not null,
    amount integer not null,
    account_reference text not null,
    description text not null,
    callback_url text not null,
    faults text not null,
    opened_at text not null,
    expires_v real not null,
    due_v real not null,
    due_code text not null,
    ignored integer not null default 0,
    state text not null default 'open' check (state in ('open', 'paid', 'failed')),
    result_code text,
    closed_at text,
    closed_v real,
    receipt text,
    paid_amount integer,
    contradicted integer not null default 0,
    check ((state = 'open') = (result_code is null)),
    check ((state = 'paid') = (receipt is not null))
);
create index if not exists prompts_open on prompts (id) where state = 'open';
create index if not exists prompts_phone on prompts (phone, id);
create table if not exists ledger (
    id integer primary key autoincrement,
    receipt text not null unique,
    kind text not null check (
        kind in ('prompt', 'deposit', 'payout', 'reversal', 'topup', 'settlement')
    ),
    checkout_request_id text unique,
    conversation_id text,
    payer text not null,
    short_code text not null,
    paid_to text not null,
    amount integer not null check (amount > 0),
    charge integer not null default 0,
    account_reference text not null default '',
    reverses text,
    started_at text not null,
    paid_at text not null
);
create index if not exists ledger_short_code on ledger (short_code, id);
create table if not exists conversations (
    id integer primary key autoincrement,
    originator text not null unique,
    conversation_id text not null unique,
    kind text not null check (kind in ('payout', 'reversal', 'status', 'balance')),
    short_code text not null,
    phone text,
    amount integer,
    asks text,
    result_url text not null,
    timeout_url text not null,
    request text not null,
    initiator_ok integer not null,
    faults text not null,
    opened_at text not null,
    due_v real not null,
    state text not null default 'open' check (state in ('open', 'done', 'failed', 'lost')),
    result_code text,
    receipt text,
    closed_at text
);
create index if not exists conversations_open on conversations (id) where state = 'open';
create table if not exists deposits (
    id integer primary key autoincrement,
    receipt text not null unique,
    short_code text not null,
    phone text not null,
    amount integer not null,
    account_reference text not null,
    faults text not null,
    state text not null default 'open' check (state in ('open', 'paid', 'refused')),
    answer text,
    third_party_id text not null default '',
    opened_at text not null
);
create table if not exists deliveries (
    id integer primary key autoincrement,
    about text not null,
    phone text,
    account_reference text,
    kind text not null check (
        kind in (
            'callback', 'forged', 'c2b_confirmation', 'result', 'timeout', 'status', 'balance'
        )
    ),
    url text not null,
    source text,
    headers text not null,
    body blob not null,
    due_v real not null,
    attempted_at text,
    status integer,
    latency_ms real,
    answer text,
    error text
);
create index if not exists deliveries_waiting
on deliveries (about) where attempted_at is null;
create table if not exists requests (
    id integer primary key autoincrement,
    at text not null,
    endpoint text not null,
    method text not null,
    path text not null,
    phone text,
    account_reference text,
    checkout_request_id text,
    amount integer,
    faults text not null default '[]',
    status integer,
    result text,
    latency_ms real
);
create table if not exists faults (
    id integer primary key autoincrement,
    rule text not null,
    left_over integer
);
create table if not exists scenario_uses (
    phone text not null, fault text not null, uses integer not null, primary key (phone, fault)
);
create table if not exists tokens (
    token text primary key, consumer_key text not null, dies_at real not null, code text
);
create table if not exists c2b_urls (
    short_code text primary key,
    confirmation_url text not null,
    validation_url text not null,
    response_type text not null,
    version integer not null
);
create table if not exists facts (name text primary key, value text not null);
"""

TABLES = (
    "prompts",
    "ledger",
    "conversations",
    "deposits",
    "deliveries",
    "requests",
    "faults",
    "scenario_uses",
    "tokens",
    "c2b_urls",
    "facts",
)


def open_store(state: Path) -> sqlite3.Connection:
    """Opens (or creates) the books in `state`; every statement commits by itself.

    Books of another shape stay where they are, unread: a simulator has nothing to migrate.
    """
    state.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(state / f"daraja-{SHAPE}.sqlite", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.executescript(SCHEMA)
    return connection


def clear(connection: sqlite3.Connection) -> None:
    """Forgets everything. Sequences go on, so no identifier is ever given twice."""
    for table in TABLES:
        connection.execute(f"delete from {table}")  # noqa: S608 - names of the list above
