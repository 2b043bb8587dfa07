-- Payment networks: what they are, their codes, tenants' credentials, what they called back, whom to ask again.

set role stalela_owner;

create table rails.rails (
    rail text primary key,
    name text not null,
    currencies text[] not null,
    min_minor bigint not null check (min_minor > 0),
    max_minor bigint not null,
    step_minor bigint not null check (step_minor > 0),
    step_rule text not null,
    query_waits_s integer[] not null check (cardinality(query_waits_s) > 0),
    unanswerable_after_s integer not null,
    horizon_s integer not null,
    prompt_lifetime_s integer not null,
    confirm_above_minor bigint,
    callback_function text not null,
    enabled boolean not null default true,
    intents text[] not null default '{PULL}',
    payout_min_minor bigint check (payout_min_minor > 0),
    payout_max_minor bigint,
    reverses_within_s integer,
    reverses_partly boolean not null default false,
    declared_as text not null default 'mobile_money' check (declared_as in ('mobile_money', 'card', 'bank_transfer', 'other')),
    check (max_minor >= min_minor),
    check (payout_max_minor >= payout_min_minor),
    check ((payout_min_minor is null) = (payout_max_minor is null))
);
comment on table rails.rails is
'Payment networks. query_waits_s: seconds of silence before each status query, the last one repeats; horizon_s: after it a person decides; confirm_above_minor: success above it is believed only after a query, null never. No payout_min_minor: it does not pay out; reverses_within_s: how long after it a payment can be reversed, null never.';
alter table rails.rails enable row level security;

create table rails.reason_codes (
    rail text not null references rails.rails (rail),
    channel text not null,
    code text not null,
    outcome text not null check (
        outcome in ('succeeded', 'pending', 'failed_final', 'failed_retryable', 'returned', 'unknown')
    ),
    reason text,
    retry_after_s integer,
    repeat_after_s integer,
    repeat_outcome text,
    payer_may_retry boolean,
    meaning text not null,
    source text not null,
    primary key (rail, channel, code),
    check ((repeat_after_s is null) = (repeat_outcome is null))
);
comment on table rails.reason_codes is
'A rail''s result codes in our words. repeat_*: the same code from a query again after that many seconds has the second outcome. An operator may add a row.';
alter table rails.reason_codes enable row level security;

create table rails.credentials (
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null references rails.rails (rail),
    sealed text not null,
    key_version integer not null,
    masked jsonb not null,
    revision integer not null default 1,
    created_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    tested_at timestamptz,
    primary key (tenant_id, environment, rail)
);
comment on table rails.credentials is
'A tenant''s own rail credentials, sealed by shared/vault.py with tenant, rail and environment as associated data; masked is what may be shown.';
alter table rails.credentials enable row level security;
create index credentials_by_key_version on rails.credentials (key_version);
create index credentials_rail on rails.credentials (rail);

create table rails.callbacks (
    callback_id bigint generated always as identity primary key,
    rail text not null,
    tenant_id text,
    environment text,
    transfer_id text references payments.transfers (transfer_id),
    dedupe_key text not null unique,
    token_hash text not null,
    source_address text,
    source_trusted boolean not null,
    headers jsonb not null,
    body_sealed text not null,
    events jsonb,
    problem text,
    received_at timestamptz not null default now(),
    kind text not null default 'collect' check (
        kind in ('collect', 'result', 'timeout', 'status', 'balance', 'validation', 'confirmation')
    )
);
comment on table rails.callbacks is
'Append-only: every callback body as it came (sealed), stored before anything is concluded from it. Unmatched ones have no tenant.';
alter table rails.callbacks enable row level security;
create index callbacks_of_transfer on rails.callbacks (transfer_id);
create index callbacks_unmatched on rails.callbacks (received_at) where transfer_id is null and tenant_id is null;
create index callbacks_of_tenant on rails.callbacks (tenant_id, environment, received_at desc);

-- Figures of the last hours; pages of a log are in the order of time, so a summary per range is enough.
create index callbacks_received on rails.callbacks using brin (received_at);

create table rails.callback_dispositions (
    callback_id bigint not null references rails.callbacks (callback_id),
    number integer not null check (number > 0),
    tenant_id text,
    environment text,
    disposition text not null check (
        disposition in ('applied', 'duplicate', 'awaiting_query', 'ignored', 'parked', 'failed', 'resolved')
    ),
    reason text,
    decided_at timestamptz not null default clock_timestamp(),
    primary key (callback_id, number)
);
comment on table rails.callback_dispositions is
'Append-only: what was concluded from a callback; the highest number is in force. parked waits for a person, failed is tried again by a task.';
alter table rails.callback_dispositions enable row level security;
create index callback_dispositions_open
on rails.callback_dispositions (disposition, callback_id) where disposition in ('parked', 'failed');
create index callback_dispositions_of_tenant on rails.callback_dispositions (tenant_id, environment);

create table rails.deposit_addresses (
    token_hash text primary key,
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null references rails.rails (rail),
    created_by text not null,
    created_at timestamptz not null default now(),
    registered_at timestamptz
);
comment on table rails.deposit_addresses is
'Where a rail reports payments that nobody was prompted for: the token in the address says whose they are. Older addresses stay, because rails keep them.';
alter table rails.deposit_addresses enable row level security;
create index deposit_addresses_of_tenant on rails.deposit_addresses (tenant_id, environment, rail);
create index deposit_addresses_rail on rails.deposit_addresses (rail);

create table rails.balances (
    balance_id text primary key,
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null references rails.rails (rail),
    token_hash text not null unique,
    requested_by text not null,
    requested_at timestamptz not null default now(),
    told_at timestamptz,
    accounts jsonb,
    problem text
);
comment on table rails.balances is 'What a tenant holds at a rail, each time somebody asked: the answer comes as a callback, to the token.';
alter table rails.balances enable row level security;
create index balances_of_tenant on rails.balances (tenant_id, environment, rail, requested_at desc);
create index balances_rail on rails.balances (rail);

create table rails.watches (
    transfer_id text primary key references payments.transfers (transfer_id),
    tenant_id text not null,
    environment text not null,
    due_at timestamptz not null,
    horizon_at timestamptz not null,
    queries integer not null default 0,
    asked_at timestamptz,
    code text,
    code_since timestamptz,
    claimed_receipt text
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
comment on table rails.watches is
'One row per transfer whose outcome we still have to ask the rail for; claimed_receipt is a success that waits for the query to confirm it.';
alter table rails.watches enable row level security;
create index watches_due on rails.watches (due_at);
create index watches_of_tenant on rails.watches (tenant_id, environment);

reset role;
