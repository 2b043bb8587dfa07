-- Merchants' endpoints, what is to be delivered to them and what became of it.
-- No foreign keys into public.tenants: every insert would lock the same hot parent row.

set role stalela_owner;

create table webhooks.event_types (
    type text primary key check (type ~ '^[a-z_]+(\.[a-z_]+)+$'),
    api_version text not null check (api_version ~ '^\d{4}-\d{2}-\d{2}$'),
    description text not null
);
comment on table webhooks.event_types is
'Every event a merchant can hear of, and the version of its payload; functions/events/events.json holds its schema.';
alter table webhooks.event_types enable row level security;

create table webhooks.endpoints (
    endpoint_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    url text not null check (length(url) <= 2048),
    event_types text[] not null check (cardinality(event_types) between 1 and 50),
    description text check (length(description) <= 500),
    status text not null default 'enabled' check (status in ('enabled', 'disabled', 'deleted')),
    disabled_reason text check (disabled_reason in ('requested', 'gone', 'failing')),
    disabled_at timestamptz,
    secret_sealed text not null,
    key_version integer not null,
    former_secret_sealed text,
    former_key_version integer,
    former_until timestamptz,
    revision integer not null default 1,
    created_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((status = 'disabled') = (disabled_reason is not null)),
    check ((status = 'disabled') = (disabled_at is not null)),
    check ((former_secret_sealed is null) = (former_until is null)),
    check ((former_secret_sealed is null) = (former_key_version is null))
);
comment on table webhooks.endpoints is
'Where a merchant hears of events. Secrets are sealed for this endpoint alone; the former one signs too until former_until. event_types: names, family.* or *.';
alter table webhooks.endpoints enable row level security;
create index endpoints_of_tenant on webhooks.endpoints (tenant_id, environment, created_at);

create table webhooks.endpoint_health (
    endpoint_id text primary key references webhooks.endpoints (endpoint_id),
    tenant_id text not null,
    environment text not null,
    failures integer not null default 0 check (failures >= 0),
    failing_since timestamptz,
    openings integer not null default 0 check (openings >= 0),
    open_until timestamptz,
    check ((failures = 0) = (failing_since is null)),
    check (open_until is null or openings > 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on table webhooks.endpoint_health is
'The circuit breaker: failures in a row, since when, and until when nothing is sent. Whoever fans out, claims or records locks these rows in the order of their ids, so the three see each other''s work whole.';
alter table webhooks.endpoint_health enable row level security;
create index endpoint_health_of_tenant on webhooks.endpoint_health (tenant_id, environment);

create table webhooks.messages (
    event_id text primary key,
    tenant_id text not null,
    environment text not null,
    type text not null,
    ordering_key text not null,
    payload text not null check (octet_length(payload) < 20000),
    created_at timestamptz not null default now()
);
comment on table webhooks.messages is
'The bytes of an event as merchants get them, made once: every endpoint, every retry and every replay sends these.';
alter table webhooks.messages enable row level security;
create index messages_of_tenant on webhooks.messages (tenant_id, environment);
create index messages_age on webhooks.messages (created_at);

create table webhooks.deliveries (
    delivery_id bigint generated always as identity primary key,
    endpoint_id text not null references webhooks.endpoints (endpoint_id),
    tenant_id text not null,
    environment text not null,
    event_id text not null,
    event_type text not null,
    status text not null default 'pending' check (status in ('pending', 'delivered', 'failed', 'missed')),
    attempts integer not null default 0,
    status_code integer,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    unique (endpoint_id, event_id),
    check ((status = 'pending') = (finished_at is null))
) with (fillfactor = 80);
comment on table webhooks.deliveries is
'One event for one endpoint, once: pending until a 2xx or until nobody tries any more; missed when the endpoint was disabled. A replay is the same row again. attempts counts all there were; status_code is of the last one, null without an answer.';
alter table webhooks.deliveries enable row level security;
create index deliveries_of_tenant on webhooks.deliveries (tenant_id, environment, endpoint_id, created_at);
create index deliveries_age on webhooks.deliveries (created_at);

create table webhooks.queue (
    delivery_id bigint primary key,
    endpoint_id text not null,
    tenant_id text not null,
    environment text not null,
    event_id text not null,
    ordering_key text not null,
    is_head boolean not null,
    is_leased boolean not null default false,
    attempts integer not null default 0,
    -- When it may be taken: the next attempt, or the end of the lease of whoever is at it.
    due_at timestamptz not null default now(),
    give_up_at timestamptz not null
) with (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
comment on table webhooks.queue is
'What is still to be sent. Only the head of each (endpoint, ordering key) may go; whoever finishes it makes the next one the head. Rows leave when their delivery is finished.';
alter table webhooks.queue enable row level security;
create index queue_due on webhooks.queue (endpoint_id, due_at) where is_head;
create index queue_leased on webhooks.queue (endpoint_id) where is_leased;
create index queue_streams on webhooks.queue (endpoint_id, ordering_key, delivery_id);
create index queue_of_tenant on webhooks.queue (tenant_id, environment);

create table webhooks.attempts (
    delivery_id bigint not null,
    number integer not null check (number > 0),
    tenant_id text not null,
    environment text not null,
    started_at timestamptz not null,
    duration_ms integer not null check (duration_ms >= 0),
    url text not null,
    status_code integer check (status_code between 100 and 999),
    error text check (length(error) <= 300),
    response_excerpt text check (length(response_excerpt) <= 2048),
    primary key (delivery_id, number),
    check (status_code is not null or error is not null)
);
comment on table webhooks.attempts is
'What each attempt met: the answer''s status and its first 2 KB, or why there was none. Written once; leaves after 30 days.';
alter table webhooks.attempts enable row level security;
create index attempts_of_tenant on webhooks.attempts (tenant_id, environment);
create index attempts_age on webhooks.attempts (started_at);

create type webhooks.sight as (caller public.caller, endpoint webhooks.endpoints);
comment on type webhooks.sight is 'An endpoint and who looks at it.';
create type webhooks.claimed as (
    delivery_id bigint, event_id text, attempt integer, endpoint_id text, url text, secrets_sealed text[], payload text
);
comment on type webhooks.claimed is 'One delivery to send now: the bytes, where to, and the secrets to sign them with, newest first.';

create type webhooks.reply as (
    started_at timestamptz, duration_ms integer, url text, status_code integer, error text, response_excerpt text,
    retry_after_s integer
);
comment on type webhooks.reply is 'What an attempt met, as the dispatcher saw it.';
create type webhooks.outcome as (
    delivery_id bigint, endpoint_id text, ordering_key text, status text, due_at timestamptz, reply webhooks.reply
);
comment on type webhooks.outcome is 'What becomes of a delivery after an attempt.';

reset role;
