-- The house itself: tenants and people, keys, limits, idempotency, schedules, audit.

set role stalela_owner;

create type public.answer as (status integer, body text, headers jsonb);
comment on type public.answer is
'What a handler sends back, byte for byte. From public.claim_idempotency: all null means go on; status null with a body means an abandoned claim on the resource named there.';

create type public.caller as (
    tenant_id text,
    environment text,
    actor text,
    scopes text[],
    key_id text,
    user_id uuid,
    app_role text,
    rate jsonb
);
comment on type public.caller is
'Who is calling: actor is key_… or user:<uuid>; rate holds the RateLimit-* headers once public.authorize has counted the call.';

create function public.forbid_change()
returns trigger
language plpgsql
volatile
set search_path = ''
as $$
begin
    raise exception '% is append-only: % is not possible', tg_relid::regclass, lower(tg_op)
        using errcode = 'insufficient_privilege';
end
$$;
comment on function public.forbid_change is
'Refuses update, delete and truncate, for the owner too. For append-only tables: before update or delete or truncate, for each statement.';

-- Tenants and people

create table public.plans (
    plan text primary key,
    description text not null
);
comment on table public.plans is 'What a tenant subscribes to; decides its limits in public.rate_limit_plans.';
alter table public.plans enable row level security;

create table public.tenants (
    tenant_id text primary key,
    name text not null check (length(name) between 1 and 200),
    country text not null check (country ~ '^[A-Z]{2}$'),
    status text not null default 'pending' check (status in ('pending', 'active', 'suspended', 'closed')),
    plan text not null default 'basic' references public.plans (plan),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table public.tenants is
'Organisations. pending may use the sandbox only, active both environments, suspended and closed neither. country is ISO 3166-1 alpha-2.';
alter table public.tenants enable row level security;
create index tenants_plan on public.tenants (plan);

create table public.users (
    user_id uuid primary key,
    email text check (email = lower(email) and length(email) <= 254),
    active_tenant_id text references public.tenants (tenant_id),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table public.users is
'People, under the id that the platform''s Auth gave them; no email for one who signed up by phone. active_tenant_id is the tenant their next access token names.';
alter table public.users enable row level security;
create index users_active_tenant on public.users (active_tenant_id);

create table public.app_roles (
    app_role text primary key,
    description text not null,
    is_platform boolean not null
);
comment on table public.app_roles is 'What a person may be in a tenant. Platform roles are never given by a tenant.';
alter table public.app_roles enable row level security;

create table public.scopes (
    scope text primary key check (scope ~ '^([a-z_]+:[a-z_]+|\*)$'),
    included_in text references public.scopes (scope),
    key_kinds text[] not null,
    description text not null
);
comment on table public.scopes is
'What a key or a role may do. included_in: whoever holds that scope holds this one. key_kinds: kinds of API key that may carry it.';
alter table public.scopes enable row level security;
create index scopes_included_in on public.scopes (included_in);

create table public.role_scopes (
    app_role text not null references public.app_roles (app_role),
    scope text not null references public.scopes (scope),
    primary key (app_role, scope)
);
comment on table public.role_scopes is 'The scopes of each role.';
alter table public.role_scopes enable row level security;
create index role_scopes_scope on public.role_scopes (scope);

create table public.memberships (
    tenant_id text not null references public.tenants (tenant_id),
    user_id uuid not null references public.users (user_id),
    app_role text not null references public.app_roles (app_role),
    outlet_id text,
    status text not null default 'active' check (status in ('active', 'removed')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, user_id)
);
comment on table public.memberships is
'Who belongs to which tenant, as what. A tenant keeps at least one active owner; outlet_id narrows a cashier to one outlet.';
alter table public.memberships enable row level security;
create index memberships_user on public.memberships (user_id);
create index memberships_role on public.memberships (app_role);

create table public.invitations (
    invitation_id text primary key,
    tenant_id text not null references public.tenants (tenant_id),
    email text not null check (email = lower(email) and length(email) <= 254),
    app_role text not null references public.app_roles (app_role),
    token_hash text not null unique check (token_hash ~ '^[0-9a-f]{64}$'),
    invited_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    accepted_at timestamptz,
    accepted_by uuid references public.users (user_id)
);
comment on table public.invitations is
'One open invitation per tenant and address; the token is stored as SHA-256 and works once, for a person signed in with that address.';
alter table public.invitations enable row level security;
create unique index invitations_open on public.invitations (tenant_id, email) where accepted_at is null;
create index invitations_tenant on public.invitations (tenant_id);
create index invitations_role on public.invitations (app_role);
create index invitations_accepted_by on public.invitations (accepted_by);

-- Keys

create table public.api_keys (
    key_id text primary key,
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    kind text not null check (kind in ('secret', 'publishable')),
    name text not null check (length(name) between 1 and 100),
    key_hash text not null unique check (key_hash ~ '^[0-9a-f]{64}$'),
    last4 text not null check (length(last4) = 4),
    scopes text[] not null check (cardinality(scopes) > 0),
    status text not null default 'active' check (status in ('active', 'revoked')),
    created_by text not null,
    rotated_from text references public.api_keys (key_id),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    check ((status = 'revoked') = (revoked_at is not null))
) with (fillfactor = 70);
comment on table public.api_keys is
'API keys as SHA-256, never in clear. A key never holds a scope its creator did not hold; last_used_at is at most a minute old.';
alter table public.api_keys enable row level security;
create index api_keys_of_tenant on public.api_keys (tenant_id, environment, created_at desc, key_id desc);
create index api_keys_rotated_from on public.api_keys (rotated_from);

create table public.function_roles (
    db_role text primary key,
    may_pass_user boolean not null
);
comment on table public.function_roles is
'Database roles of the functions. Only roles that may pass a user have verified that user''s token; from any other role user headers count for nothing.';
alter table public.function_roles enable row level security;

-- Money

create table public.currencies (
    code text primary key check (code ~ '^[A-Z]{3,5}$'),
    scale smallint not null check (scale between 0 and 18),
    name text not null
);
comment on table public.currencies is 'ISO 4217 and asset codes; scale is the number of decimals of one minor unit.';
alter table public.currencies enable row level security;

-- Idempotency and limits

create table public.idempotency_keys (
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    route text not null,
    key text not null check (length(key) between 1 and 128),
    body_hash text not null,
    resource_id text,
    status integer,
    body text,
    headers jsonb,
    claimed_at timestamptz not null default now(),
    expires_at timestamptz not null default now() + interval '36 hours',
    primary key (tenant_id, environment, route, key),
    check ((status is null) = (body is null))
) with (autovacuum_vacuum_scale_factor = 0.01);
comment on table public.idempotency_keys is
'Claim, effect and answer of a request are one transaction. status null: claimed, not answered (a rail is being asked). tenant_id is user:<uuid> for a person who has no tenant yet.';
alter table public.idempotency_keys enable row level security;
create index idempotency_keys_expiry on public.idempotency_keys (expires_at);

create table public.rate_limit_plans (
    plan text not null references public.plans (plan),
    bucket text not null,
    rate_per_minute integer check (rate_per_minute between 1 and 60000000),
    burst integer check (burst between 1 and 1000000),
    primary key (plan, bucket),
    check ((rate_per_minute is null) = (burst is null))
);
comment on table public.rate_limit_plans is 'Token buckets of each plan, per key or person; no rate means no limit.';
alter table public.rate_limit_plans enable row level security;

create table public.rate_limit_overrides (
    tenant_id text not null references public.tenants (tenant_id),
    bucket text not null,
    rate_per_minute integer check (rate_per_minute between 1 and 60000000),
    burst integer check (burst between 1 and 1000000),
    reason text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, bucket),
    check ((rate_per_minute is null) = (burst is null))
);
comment on table public.rate_limit_overrides is 'Limits agreed with one tenant; they replace those of its plan.';
alter table public.rate_limit_overrides enable row level security;

create unlogged table public.rate_buckets (
    actor text not null,
    bucket text not null,
    full_at_us bigint not null,
    primary key (actor, bucket)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on table public.rate_buckets is
'A token bucket as one number: the microsecond at which it will be full again. Each call moves it by the price of one token; a crash refills everything.';
alter table public.rate_buckets enable row level security;

-- Facts

create table public.settings (
    key text primary key check (key ~ '^[a-z_]+\.[a-z_]+$'),
    value jsonb not null,
    comment text not null
);
comment on table public.settings is 'What an operator may tune without a release; read through public.setting.';
alter table public.settings enable row level security;

create table public.error_codes (
    code text primary key check (code ~ '^[0-9]{5}$'),
    name text not null unique,
    status integer not null check (status between 400 and 599),
    title text not null,
    retryable boolean not null,
    remedy text not null
);
comment on table public.error_codes is 'The catalogue of refusals: what SQL raises, Python maps and the documentation prints.';
alter table public.error_codes enable row level security;

create table public.destinations (
    destination text primary key check (destination ~ '^[a-z][a-z0-9_]*$'),
    function_name text not null,
    kind text not null check (kind in ('database', 'function')),
    batch integer not null check (batch between 1 and 10000),
    lease_s integer not null check (lease_s between 1 and 3600),
    max_attempts integer not null check (max_attempts between 1 and 100),
    stalled_after integer not null check (stalled_after > 0),
    enabled boolean not null,
    description text not null
);
comment on table public.destinations is
'Who hears of events, and the function that is poked for it. database: takes and applies events in one transaction (payments.take_events); function: leases them, works outside, acknowledges (payments.lease_events).';
alter table public.destinations enable row level security;

create table public.event_subscriptions (
    pattern text not null,
    destination text not null references public.destinations (destination),
    enabled boolean not null,
    description text not null,
    primary key (pattern, destination)
);
comment on table public.event_subscriptions is
'Who hears of what: an event goes to every enabled destination whose pattern (as in LIKE) its type matches, decided when it is written.';
alter table public.event_subscriptions enable row level security;
create index event_subscriptions_of_destination on public.event_subscriptions (destination);

-- Schedules

create table public.cron_tasks (
    task text primary key,
    lane text not null check (lane in ('fast', 'slow')),
    interval_s integer not null check (interval_s > 0),
    lease_s integer not null check (lease_s > 0),
    routine text not null check (routine ~ '^[a-z_]+\.[a-z_0-9]+$'),
    enabled boolean not null,
    description text not null,
    next_run_at timestamptz not null default now(),
    lease_until timestamptz,
    last_status text check (last_status in ('running', 'succeeded', 'failed')),
    last_error text,
    last_started_at timestamptz,
    last_finished_at timestamptz,
    runs bigint not null default 0,
    failures bigint not null default 0
) with (fillfactor = 50);
comment on table public.cron_tasks is
'Every schedule of the house. Two pg_cron jobs, one per lane, run what is due; routine is a function without arguments; failures counts since the last success.';
alter table public.cron_tasks enable row level security;

create unlogged table public.pokes (
    function_name text primary key,
    poked_at timestamptz not null
) with (fillfactor = 50);
comment on table public.pokes is 'When each function was last poked, so that a busy second wakes it once.';
alter table public.pokes enable row level security;

-- Audit and alarms

create table public.audit_log (
    audit_id bigint generated always as identity primary key,
    tenant_id text references public.tenants (tenant_id),
    environment text check (environment in ('sandbox', 'production')),
    actor text not null,
    action text not null,
    subject text not null,
    details jsonb not null,
    request_id text,
    occurred_at timestamptz not null default now()
);
comment on table public.audit_log is
'Append-only: who did what. environment null: it concerns the tenant as a whole. No secrets, and no personal data beyond the address of an invitation.';
alter table public.audit_log enable row level security;
create index audit_log_of_tenant on public.audit_log (tenant_id, audit_id desc);
create trigger audit_log_is_append_only
before update or delete or truncate on public.audit_log
for each statement execute function public.forbid_change();

create table public.alerts (
    alert_id bigint generated always as identity primary key,
    kind text not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    subject text not null,
    tenant_id text references public.tenants (tenant_id),
    environment text check (environment in ('sandbox', 'production')),
    details jsonb not null,
    status text not null default 'open' check (status in ('open', 'resolved')),
    occurrences bigint not null default 1,
    first_at timestamptz not null default now(),
    last_at timestamptz not null default now(),
    resolved_at timestamptz,
    resolution text,
    check ((status = 'resolved') = (resolved_at is not null))
);
comment on table public.alerts is
'What a person must look at: one open row per kind and subject, counted while it lasts.';
alter table public.alerts enable row level security;
create unique index alerts_open on public.alerts (kind, subject) where status = 'open';
create index alerts_of_tenant on public.alerts (tenant_id, environment);

reset role;
