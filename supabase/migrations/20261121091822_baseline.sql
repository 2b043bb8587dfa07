-- The whole of sql/ in the order of db.migrations.schema_paths, for an empty database: locks
-- nothing that anybody uses. Written by scripts/migrate baseline; do not edit.
set check_function_bodies = off;

-- sql/roles.sql

-- Roles and schemas. Runs first, as the platform's `postgres` role; everything after it belongs to stalela_owner.

do $$
declare
    wanted record;
begin
    -- One role per function; a statement that takes longer than its limit is stuck, not busy.
    for wanted in
        select r.name, r.statement_timeout
        from (
            values
            ('fn_compliance', '30s'),
            ('fn_directory', '5s'),
            ('fn_ledger', '30s'),
            ('fn_deliveries', '5s'),
            ('fn_alerts', '10s'),
            ('fn_invoices', '5s'),
            ('fn_merchants', '5s'),
            ('fn_momo_callback', '5s'),
            ('fn_payment_intents', '5s'),
            ('fn_payouts', '5s'),
            ('fn_recon', '60s'),
            ('fn_receipts', '10s'),
            ('fn_reconcile', '30s'),
            ('fn_events', '5s'),
            ('fn_webhook_delivery', '30s'),
            ('fn_webhook_endpoints', '5s'),
            ('fn_refunds', '5s'),
            ('fn_transfers', '5s'),
            ('stalela_owner', null)
        ) as r (name, statement_timeout)
    loop
        -- Roles belong to the cluster, not to the database, so a second database finds them already there.
        if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
            execute format('create role %I nologin', wanted.name);
        end if;
        if wanted.name = 'stalela_owner' then
            grant stalela_owner to postgres;
        else
            execute format('grant %I to authenticator', wanted.name);
            execute format('alter role %I set statement_timeout = %L', wanted.name, wanted.statement_timeout);
            execute format('alter role %I set lock_timeout = %L', wanted.name, '2s');
        end if;
    end loop;
end
$$;

-- Postgres lets everybody execute every new function unless told otherwise, for each creating role.
alter default privileges for role postgres revoke execute on functions from public;
alter default privileges for role stalela_owner revoke execute on functions from public;

grant usage, create on schema public to stalela_owner;
create schema payments authorization stalela_owner;
create schema rails authorization stalela_owner;
create schema ledger authorization stalela_owner;
create schema webhooks authorization stalela_owner;
create schema directory authorization stalela_owner;
create schema compliance authorization stalela_owner;
create schema recon authorization stalela_owner;
create schema messages authorization stalela_owner;
create schema tax authorization stalela_owner;
create schema fiscal authorization stalela_owner;
create schema signing authorization stalela_owner;

comment on schema payments is 'Payment intents, transfers, their events and the outbox.';
comment on schema rails is 'Payment networks: what they are, their codes, tenants'' credentials, what they called back.';
comment on schema ledger is 'Double-entry books: accounts, posting rules, journals, balances, their proof.';
comment on schema webhooks is 'Merchants'' endpoints and what was delivered to them.';
comment on schema directory is 'Who is reached by which rail: institutions, aliases, fees, windows; routes and why.';
comment on schema compliance is 'Sanctions lists, screening results, limits and tiers.';
comment on schema recon is 'Our books against the rails'' statements: sessions, lines, matches, exceptions.';
comment on schema messages is 'Mail and texts that went to people, or would have.';
comment on schema fiscal is 'Sealed invoices: registry, counters, the chained ledger, documents.';
comment on schema signing is 'Keys, the log of every signature, and what waits to be signed.';
comment on schema tax is 'Tax rules as published: jurisdictions, versioned manifests, groups, classifications.';

grant usage on schema public, payments, rails
to fn_payment_intents, fn_momo_callback, fn_reconcile, fn_merchants, fn_refunds, fn_payouts, fn_transfers, fn_deliveries;

-- The base URL and the bearer secret of our own functions live in the vault; pokes go through pg_net.
grant usage on schema vault, net to stalela_owner;
grant select on vault.decrypted_secrets to stalela_owner;

-- sql/public/tables.sql

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

-- sql/payments/tables.sql

-- Payment intents, transfers, their events and the outbox.
-- No foreign keys from here into public.tenants, public.currencies and rails.rails: every insert would lock the
-- same few hot parent rows. The functions that insert have read those rows in the same transaction.

set role stalela_owner;

create table payments.intent_transitions (
    from_status text not null,
    event text not null,
    to_status text not null,
    event_type text not null,
    triggered_by text[] not null,
    primary key (from_status, event)
);
comment on table payments.intent_transitions is
'Every move a payment intent can make; payments.advance_intent makes no other. Rows: shared/states.';

create table payments.transfer_transitions (
    from_state text not null,
    event text not null,
    to_state text not null,
    event_type text not null,
    triggered_by text[] not null,
    primary key (from_state, event)
);
comment on table payments.transfer_transitions is
'Every move a transfer can make and who may cause it; payments.advance_transfer makes no other. Rows: shared/states.';

create table payments.payment_intents (
    payment_intent_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    status text not null check (
        status in ('requires_payment_method', 'processing', 'partially_paid', 'succeeded', 'canceled', 'expired')
    ),
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    amount_received_minor bigint not null default 0 check (amount_received_minor >= 0),
    payment_method_types text[] not null check (cardinality(payment_method_types) > 0),
    description text check (length(description) <= 500),
    customer jsonb,
    customer_sealed text,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    return_url text,
    client_secret text not null,
    last_error jsonb,
    cancellation_reason text,
    latest_transfer_id text,
    created_by text not null,
    version bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    expires_at timestamptz not null,
    canceled_at timestamptz,
    amount_refunded_minor bigint not null default 0 check (amount_refunded_minor >= 0),
    check (amount_refunded_minor <= amount_received_minor),
    check (status <> 'partially_paid' or amount_received_minor > 0),
    -- Succeeded means paid in full, and paid in full means succeeded.
    check ((status = 'succeeded') = (amount_received_minor >= amount_minor)),
    check (status <> 'canceled' or canceled_at is not null),
    check (status <> 'processing' or latest_transfer_id is not null)
);
comment on table payments.payment_intents is
'What a merchant wants to collect. status moves only through payments.advance_intent; customer holds masked values, customer_sealed the real ones.';
comment on column payments.payment_intents.client_secret is
'Lets a payer''s browser confirm or watch this one intent, together with a publishable key; nothing else.';
alter table payments.payment_intents enable row level security;

-- Ascending although lists are newest first: a new row then goes to the right edge of its tenant's pages, which stay
-- full, and lists read backwards. Without the id: equal instants are rare, and sorted when they are read.
create index payment_intents_newest
on payments.payment_intents (tenant_id, environment, created_at);
create index payment_intents_by_status
on payments.payment_intents (tenant_id, environment, status, created_at);
-- Amounts are compared within a currency, which alone is a filter too.
create index payment_intents_by_amount
on payments.payment_intents (tenant_id, environment, currency, amount_minor, created_at);
-- Most intents carry no metadata and need not pay for this index.
create index payment_intents_by_metadata
on payments.payment_intents using gin (metadata jsonb_path_ops) where metadata <> '{}';
-- What payers type as account number: the last characters of the id. Only open intents are paid that way.
create index payment_intents_by_reference
on payments.payment_intents (right(payment_intent_id, 12))
where status in ('requires_payment_method', 'processing', 'partially_paid');
create index payment_intents_to_expire
on payments.payment_intents (expires_at) where status = 'requires_payment_method';

create table payments.transfers (
    transfer_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    payment_intent_id text references payments.payment_intents (payment_intent_id),
    intent text not null check (intent in ('AUTH', 'CAPTURE', 'PUSH', 'PULL')),
    rail text not null,
    state text not null check (
        state in ('INITIATED', 'SUBMITTED', 'ACCEPTED', 'SETTLED', 'RETURNED', 'FAILED')
    ),
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    payer_sealed text,
    payer_masked text,
    payer_hash text,
    rail_ref text,
    receipt text,
    failure jsonb,
    late boolean not null default false,
    review_reason text,
    version bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    submitted_at timestamptz,
    settled_at timestamptz,
    purpose text not null default 'collection' check (purpose in ('collection', 'refund', 'payout', 'direct', 'c2b')),
    operation text default 'collect' check (operation in ('collect', 'pay_out', 'refund')),
    related_transfer_id text references payments.transfers (transfer_id),
    external_ref text check (length(external_ref) between 1 and 128),
    end_user_ref text check (length(end_user_ref) between 1 and 128),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    description text check (length(description) <= 500),
    payee_sealed text,
    payee_masked text,
    payee_hash text,
    told_minor bigint,
    returned_minor bigint not null default 0 check (returned_minor >= 0),
    refunds_open_minor bigint not null default 0 check (refunds_open_minor >= 0),
    body_hash text,
    created_by text,
    approval text check (approval in ('pending', 'approved', 'rejected', 'lapsed')),
    approval_by text,
    approval_at timestamptz,
    approval_reason text,
    unallocated_reason text,
    check ((state = 'FAILED') = (failure is not null)),
    check ((state = 'SETTLED') <= (settled_at is not null)),
    check (state = 'INITIATED' or submitted_at is not null or state = 'FAILED'),
    -- Never more back than came in, however many ask at once.
    check (returned_minor + refunds_open_minor <= amount_minor),
    check ((state = 'RETURNED') = (returned_minor = amount_minor)),
    check (purpose <> 'collection' or payment_intent_id is not null),
    check (purpose <> 'refund' or related_transfer_id is not null),
    check ((operation is null) = (purpose = 'c2b')),
    check (approval is null or approval <> 'pending' or state = 'INITIATED'),
    check (unallocated_reason is null or (purpose = 'c2b' and payment_intent_id is null))
);
comment on table payments.transfers is
'One attempt to move money on one rail. state moves only through payments.advance_transfer; review_reason not null means a person must look.';
comment on column payments.transfers.operation is
'What the rail is asked to do: collect from the payer, pay out to the payee, refund (reverse) the related transfer; null when the money came by itself.';
comment on column payments.transfers.refunds_open_minor is
'Reserved by refunds that are on their way; with returned_minor never more than amount_minor.';
comment on column payments.transfers.told_minor is
'What the rail says moved, where it is not what was asked: a person decides.';
alter table payments.transfers enable row level security;

-- The payer is never asked twice at once: at most one open attempt to collect per intent, whoever calls.
create unique index transfers_one_open_per_intent
on payments.transfers (payment_intent_id) where state in ('INITIATED', 'SUBMITTED', 'ACCEPTED') and purpose = 'collection';
create unique index transfers_external_ref
on payments.transfers (tenant_id, environment, external_ref) where external_ref is not null;
create index transfers_related on payments.transfers (related_transfer_id);
-- Of a prompt and of the deposit notice that M-Pesa sends about it, the later must find the earlier.
create index transfers_by_reference
on payments.transfers (right(payment_intent_id, 12)) where purpose = 'collection' and receipt is null;
create index transfers_paid_out on payments.transfers (created_by, created_at) where operation = 'pay_out';
create index transfers_initiated on payments.transfers (created_at) where state = 'INITIATED';
create index transfers_unallocated
on payments.transfers (tenant_id, environment, created_at) where unallocated_reason is not null;
create index transfers_of_intent on payments.transfers (payment_intent_id);
create index transfers_newest on payments.transfers (tenant_id, environment, created_at);
-- References and receipts are unique at the rail; per tenant here, so that nobody can occupy another's.
create unique index transfers_rail_ref on payments.transfers (tenant_id, environment, rail, rail_ref) where rail_ref is not null;
-- One receipt pays for one transfer.
create unique index transfers_receipt on payments.transfers (tenant_id, environment, rail, receipt) where receipt is not null;
create index transfers_in_review on payments.transfers (updated_at) where review_reason is not null;

create table payments.attempts (
    transfer_id text not null references payments.transfers (transfer_id),
    number integer not null check (number > 0),
    tenant_id text not null,
    environment text not null,
    callback_token_hash text not null unique,
    started_at timestamptz not null default now(),
    answered_at timestamptz,
    outcome text,
    code text,
    kind text not null default 'send' check (kind in ('send', 'query')),
    route text not null default 'POST /payment-intents/{id}/confirm',
    primary key (transfer_id, number)
);
comment on table payments.attempts is
'One request to a rail that it answers by calling back, written before it is sent: number 1 moves money, later ones only ask. A row without answer is an unknown outcome, never a failure.';
alter table payments.attempts enable row level security;

-- Events have no foreign keys: the functions that write them hold the row they are about, which nobody deletes.
create sequence payments.event_position;
comment on sequence payments.event_position is 'Orders the events of one intent and its transfers in a single timeline.';

create table payments.intent_events (
    event_id text primary key,
    position bigint not null default nextval('payments.event_position'),
    -- Readers that follow a cursor consume only rows below pg_snapshot_xmin: a smaller position can commit later.
    xid xid8 not null default pg_current_xact_id(),
    tenant_id text not null,
    environment text not null,
    payment_intent_id text not null,
    seq bigint not null,
    type text not null,
    payload jsonb not null,
    traceparent text,
    occurred_at timestamptz not null default now(),
    unique (payment_intent_id, seq)
);
comment on table payments.intent_events is 'Append-only: what happened to an intent, numbered per intent. References only, no personal data.';
alter table payments.intent_events enable row level security;
create index intent_events_of_tenant on payments.intent_events (tenant_id, environment, xid, position);

create table payments.transfer_events (
    event_id text primary key,
    position bigint not null default nextval('payments.event_position'),
    xid xid8 not null default pg_current_xact_id(),
    tenant_id text not null,
    environment text not null,
    transfer_id text not null,
    payment_intent_id text,
    seq bigint not null,
    type text not null,
    payload jsonb not null,
    traceparent text,
    occurred_at timestamptz not null default now(),
    unique (transfer_id, seq)
);
comment on table payments.transfer_events is 'Append-only: what happened to a transfer, numbered per transfer. References only, no personal data.';
alter table payments.transfer_events enable row level security;
create index transfer_events_of_tenant on payments.transfer_events (tenant_id, environment, xid, position);
create index transfer_events_of_intent on payments.transfer_events (payment_intent_id, position);

-- The outbox is a log that is only ever inserted into: no row of it is updated or deleted. How far each destination has
-- read is one row, and only events that did not simply pass are rows of their own. Old partitions are dropped whole.
create table payments.outbox (
    -- The transaction that wrote it: readers go by snapshots of these, because ids are given out before commit.
    -- First, because defaults are evaluated in this order and no id may be older than its transaction's number.
    xid xid8 not null default pg_current_xact_id(),
    outbox_id bigint generated always as identity,
    destination text not null,
    event_id text not null,
    event_type text not null,
    tenant_id text not null,
    environment text not null,
    ordering_key text not null,
    seq bigint not null,
    created_at timestamptz not null default now(),
    primary key (destination, outbox_id, created_at)
) partition by range (created_at);
comment on table payments.outbox is
'Append-only: one row per event and destination, written in the transaction of the event; destinations come from public.event_subscriptions. Partitions leave when every destination is past them.';
alter table payments.outbox enable row level security;
-- Finds what a writer left that was still at work when its neighbours were read.
create index outbox_writers on payments.outbox (xid);

create table payments.outbox_rest partition of payments.outbox default;
comment on table payments.outbox_rest is
'Outbox rows of a time that has no partition: empty unless payments.roll_outbox did not run for days. Nothing is refused for want of a partition.';
alter table payments.outbox_rest enable row level security;

create table payments.outbox_cursors (
    destination text primary key references public.destinations (destination),
    seen pg_snapshot not null default '1:1:',
    seen_id bigint not null default 0,
    window_end pg_snapshot,
    window_first_id bigint,
    window_last_id bigint,
    position bigint not null default 0,
    started_after_id bigint,
    moved_by xid8,
    moved_at timestamptz not null default now(),
    check ((window_end is null) = (window_first_id is null)),
    check ((window_end is null) = (window_last_id is null)),
    check (window_end is not null or position = 0)
) with (fillfactor = 10);
comment on table payments.outbox_cursors is
'How far each destination has read: everything visible in `seen`, and of what became visible until `window_end` the rows up to `position`. A writer at work is in no snapshot, so it is never skipped, and delays nobody.';
comment on column payments.outbox_cursors.seen_id is 'Transactions whose numbers are not below the xmax of `seen` have greater ids than this.';
comment on column payments.outbox_cursors.started_after_id is 'Not stored: what payments.lock_cursor found out for this transaction.';
alter table payments.outbox_cursors enable row level security;

create table payments.outbox_exceptions (
    destination text not null references public.destinations (destination),
    outbox_id bigint not null,
    event_id text not null,
    event_type text not null,
    tenant_id text not null,
    environment text not null,
    ordering_key text not null,
    seq bigint not null,
    state text not null check (state in ('retry', 'waiting', 'taken', 'leased', 'dead')),
    attempts integer not null default 0 check (attempts >= 0),
    next_attempt_at timestamptz not null default now(),
    last_error text,
    created_at timestamptz not null,
    parked_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    primary key (destination, outbox_id),
    check (state <> 'dead' or last_error is not null)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
comment on table payments.outbox_exceptions is
'Deliveries that did not simply pass: retry (due at next_attempt_at), waiting (behind another one of its destination and ordering key), taken or leased (out with the consumer), dead (a person decides). Copies of their outbox rows, which may be gone.';
alter table payments.outbox_exceptions enable row level security;
create index outbox_exceptions_due on payments.outbox_exceptions (destination, state, next_attempt_at, outbox_id)
where state in ('retry', 'taken');
create index outbox_exceptions_of_stream on payments.outbox_exceptions (destination, ordering_key, outbox_id);
create index outbox_exceptions_of_tenant on payments.outbox_exceptions (tenant_id, environment);

create table payments.outbox_leases (
    lease_id bigint generated always as identity primary key,
    destination text not null references public.destinations (destination),
    outbox_ids bigint[] not null,
    ordering_keys text[] not null,
    lease_until timestamptz not null,
    leased_at timestamptz not null default now(),
    check (cardinality(outbox_ids) > 0 and cardinality(outbox_ids) = cardinality(ordering_keys))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
comment on table payments.outbox_leases is
'One row per batch that is out with a consumer outside Postgres: the deliveries it has not answered for yet, each with its stream, which they hold.';
alter table payments.outbox_leases enable row level security;
create index outbox_leases_of_destination on payments.outbox_leases (destination);

create type payments.delivery as (
    outbox_id bigint,
    event_id text,
    event_type text,
    tenant_id text,
    environment text,
    ordering_key text,
    seq bigint,
    attempts integer,
    occurred_at timestamptz,
    traceparent text,
    payload jsonb
);
comment on type payments.delivery is
'An event on its way to one destination. attempts: how often it failed before; payload and occurred_at are the event''s own.';

create type payments.outbox_page as (rows payments.outbox[], cursor payments.outbox_cursors);
comment on type payments.outbox_page is 'Rows of the log, and where the cursor stands after them.';

create table payments.stream_tokens (
    token_hash text primary key,
    tenant_id text not null,
    environment text not null,
    payment_intent_id text not null references payments.payment_intents (payment_intent_id),
    expires_at timestamptz not null default now() + interval '60 seconds',
    used_at timestamptz
);
comment on table payments.stream_tokens is 'Single-use right to open the event stream of one intent, 60 seconds long.';
alter table payments.stream_tokens enable row level security;
create index stream_tokens_of_intent on payments.stream_tokens (payment_intent_id);
create index stream_tokens_expiry on payments.stream_tokens (expires_at);
create index stream_tokens_of_tenant on payments.stream_tokens (tenant_id, environment);

create table payments.streams (
    stream_id text primary key,
    tenant_id text not null,
    environment text not null,
    payment_intent_id text not null references payments.payment_intents (payment_intent_id),
    expires_at timestamptz not null default now() + interval '15 minutes'
);
comment on table payments.streams is 'Open event streams: the function may read the events of these intents and of no other.';
alter table payments.streams enable row level security;
create index streams_of_intent on payments.streams (payment_intent_id);
create index streams_expiry on payments.streams (expires_at);
create index streams_of_tenant on payments.streams (tenant_id, environment);

alter table payments.intent_transitions enable row level security;
alter table payments.transfer_transitions enable row level security;

create type payments.sight as (caller public.caller, intent payments.payment_intents, reveal_secret boolean);
comment on type payments.sight is 'An intent, who looks at it, and whether they may see its client secret.';
create type payments.begun as (answer public.answer, instruction jsonb);
comment on type payments.begun is 'Either a stored answer to replay, or the instruction to send to the rail.';
create type payments.asked as (answer public.answer, work jsonb);
comment on type payments.asked is 'Either the current intent, or what to ask the rail about first.';

reset role;

-- sql/rails/tables.sql

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

-- sql/ledger/tables.sql

-- Double-entry books of each tenant: chart, rules, journals in pairs of debit and credit, balances, chain.
-- No foreign keys from journals, entries and balances: a batch would lock the same few parents again and again.
-- What they would hold is held by one check per statement (ledger.check_entries, ledger.check_journals).

set role stalela_owner;

-- Reference rows

create table ledger.chart (
    name text primary key check (name ~ '^[A-Z_]+$'),
    number text not null unique check (number ~ '^(M?[0-9]{3,4})$'),
    type text not null check (
        type in (
            'USER', 'MERCHANT', 'LIQUIDITY', 'FEES', 'FX', 'SETTLEMENT', 'RESERVE', 'NOSTRO', 'VOSTRO',
            'MEMO', 'TAX', 'EQUITY', 'EXPENSE', 'RECEIVABLE', 'PAYABLE'
        )
    ),
    class text not null check (class in ('asset', 'liability', 'equity', 'revenue', 'expense', 'memo')),
    normal_side text not null check (normal_side in ('debit', 'credit')),
    when_negative text not null check (when_negative in ('allow', 'warn', 'block')),
    description text not null
);
comment on table ledger.chart is
'The chart of accounts. when_negative: block refuses the journal and parks its event, warn books and raises an alert, allow expects it.';
alter table ledger.chart enable row level security;

create table ledger.event_types (
    event_type text primary key,
    wave smallint check (wave between 1 and 3),
    condition text not null check (condition in ('always', 'authorises', 'holds', 'not_by_refund')),
    description text not null,
    check (wave is not null or condition = 'always')
);
comment on table ledger.event_types is
'Events the books know. wave: within a batch, holds (1) come before what is settled (2) and that before what undoes it (3); null books nothing. condition: when it books at all.';
alter table ledger.event_types enable row level security;

create table ledger.posting_rules (
    rules_version integer not null,
    event_type text not null,
    purpose text not null,
    intent text not null,
    rail text not null,
    is_fx boolean not null,
    leg_no smallint not null check (leg_no > 0),
    leg text not null check (leg ~ '^[a-z_]+$'),
    debit text not null,
    credit text not null,
    amount text not null check (
        amount in (
            'gross', 'net', 'fee', 'tax', 'surcharge', 'reserve', 'held', 'fx_settled', 'fx_loss', 'fx_gain'
        )
    ),
    amount_currency text not null check (amount_currency in ('payment', 'settlement')),
    primary key (rules_version, event_type, purpose, intent, rail, is_fx, leg_no),
    check (debit <> credit)
);
comment on table ledger.posting_rules is
'What an event books: per leg a debit and a credit account (a name of the chart with {rail}, {tenant}, {currency} or {jurisdiction}) and one of a closed set of amounts. * is any; intent and rail that are named win.';
alter table ledger.posting_rules enable row level security;

create table ledger.tariffs (
    tariff_id text primary key,
    tenant_id text,
    purpose text not null,
    rail text not null,
    currency text not null,
    rate_bps integer not null check (rate_bps between 0 and 10000),
    fixed_minor bigint not null check (fixed_minor >= 0),
    tax_bps integer not null check (tax_bps between 0 and 10000),
    reserve_bps integer not null check (reserve_bps between 0 and 10000),
    reserve_days integer not null check (reserve_days between 0 and 3650),
    is_fee_returned boolean not null,
    valid_from date not null,
    valid_until date,
    -- A fixed amount means nothing without its currency.
    check (currency <> '*' or fixed_minor = 0),
    check (valid_until > valid_from)
);
comment on table ledger.tariffs is
'Our fee and the tax on it, held-back share, and whether returns give the fee back. tenant_id null is everybody''s; the more particular row wins, then the later. Rates are succeeded, never edited.';
alter table ledger.tariffs enable row level security;
create index tariffs_of_tenant on ledger.tariffs (tenant_id, purpose);

-- Books

create sequence ledger.account_id;
comment on sequence ledger.account_id is 'Numbers of accounts, the order in which balances are locked.';

create table ledger.accounts (
    account_id bigint primary key default nextval('ledger.account_id'),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    code text not null check (code ~ '^[A-Z_]+(:[A-Za-z0-9_.-]+)?$'),
    currency text not null,
    name text not null references ledger.chart (name),
    type text not null,
    class text not null,
    normal_side text not null check (normal_side in ('debit', 'credit')),
    when_negative text not null,
    status text not null default 'active' check (status in ('active', 'closed')),
    created_at timestamptz not null default now(),
    unique (tenant_id, environment, code, currency)
);
comment on table ledger.accounts is
'Accounts of one tenant in one environment and one currency, opened when first needed; class and side are those of the chart on that day.';
alter table ledger.accounts enable row level security;
create index accounts_of_chart on ledger.accounts (name);

create table ledger.balances (
    account_id bigint primary key,
    balance_minor bigint not null default 0,
    -- 1: a debit account that must not go negative, -1: a credit account that must not; 0: no floor.
    floor smallint not null check (floor between -1 and 1),
    as_of timestamptz not null default now(),
    version bigint not null default 0,
    constraint balances_floor check (balance_minor * floor >= 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
comment on table ledger.balances is
'The sum of an account''s entries, debits positive: all balances of a tenant and currency sum to zero. One row per account, touched once per batch.';
alter table ledger.balances enable row level security;

create table ledger.chains (
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    head_number bigint not null default 0,
    head_hash bytea not null check (length(head_hash) = 32),
    posted_at timestamptz not null default '-infinity',
    primary key (tenant_id, environment)
) with (fillfactor = 50);
comment on table ledger.chains is
'The last link of a tenant''s chain of journals. Whoever posts locks this row first, so its tenant''s balances, entries and periods stand still meanwhile.';
alter table ledger.chains enable row level security;

create sequence ledger.journal_no;
comment on sequence ledger.journal_no is 'Numbers of journals, taken under the lock of their chain: of one tenant a greater one was always committed later.';

create table ledger.journals (
    journal_no bigint primary key,
    journal_id text not null unique,
    -- One journal per cause: transfer, type and number of an event, or a reference of another kind. Bytewise, for ranges.
    journal_key text collate "C" not null unique,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    number bigint not null check (number > 0),
    event_id text,
    event_type text not null,
    transfer_id text,
    occurred_at timestamptz not null,
    posted_at timestamptz not null,
    period_id text not null,
    rules_version integer not null,
    related_journal_id text,
    is_memo boolean not null,
    memo text not null default '' check (memo !~ '[[:cntrl:]]'),
    hash bytea not null check (length(hash) = 32),
    unique (tenant_id, environment, number),
    -- The journal of an event has its name, so an event cannot have two.
    check (event_id is null or journal_id = 'jrnl_' || substr(event_id, 5))
);
comment on table ledger.journals is
'Append-only: what was booked for one event, numbered and hash-chained per tenant and environment. Corrections are new journals.';
alter table ledger.journals enable row level security;
create index journals_related on ledger.journals (related_journal_id) where related_journal_id is not null;

create table ledger.journal_entries (
    journal_no bigint not null,
    leg_no smallint not null,
    leg text not null check (leg ~ '^[a-z_]+$'),
    debit_account_id bigint not null,
    credit_account_id bigint not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    primary key (journal_no, leg_no),
    check (debit_account_id <> credit_account_id)
);
comment on table ledger.journal_entries is
'Append-only: a debit and a credit of the same amount, so a journal cannot be out of balance in any currency.';
alter table ledger.journal_entries enable row level security;
create index journal_entries_debits on ledger.journal_entries (debit_account_id, journal_no);
create index journal_entries_credits on ledger.journal_entries (credit_account_id, journal_no);

create table ledger.holds (
    transfer_id text primary key,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    currency text not null,
    amount_minor bigint not null check (amount_minor > 0),
    placed_at timestamptz not null,
    expires_at timestamptz not null,
    released_at timestamptz
);
comment on table ledger.holds is
'Authorised and not yet captured: memo only, outside the balance sheet. Released by capture, failure or time.';
alter table ledger.holds enable row level security;
create index holds_of_tenant on ledger.holds (tenant_id, environment);
create index holds_to_expire on ledger.holds (expires_at) where released_at is null;

create table ledger.reserves (
    journal_no bigint primary key,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    currency text not null,
    amount_minor bigint not null check (amount_minor > 0),
    due_at timestamptz not null,
    released_at timestamptz
);
comment on table ledger.reserves is 'Shares held back from a merchant, and when they go back.';
alter table ledger.reserves enable row level security;
create index reserves_of_tenant on ledger.reserves (tenant_id, environment);
create index reserves_due on ledger.reserves (due_at) where released_at is null;

create table ledger.periods (
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    period_id text not null check (period_id ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    status text not null check (status in ('open', 'closing', 'closed')),
    changed_by text not null,
    changed_at timestamptz not null default now(),
    snapshot jsonb,
    primary key (tenant_id, environment, period_id),
    check ((status = 'closed') = (snapshot is not null))
);
comment on table ledger.periods is
'Months (UTC) that are not simply open. closing and closed take nothing but their closing entries; what occurred in them is booked into the open one with a memo. snapshot: balances at the close.';
alter table ledger.periods enable row level security;

create table ledger.manual_journals (
    manual_journal_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    status text not null default 'pending' check (status in ('pending', 'posted', 'rejected')),
    memo text not null check (length(memo) between 3 and 500 and memo !~ '[[:cntrl:]]'),
    occurred_at timestamptz not null,
    lines jsonb not null,
    created_by text not null,
    decided_by text,
    decision_reason text,
    journal_id text,
    created_at timestamptz not null default now(),
    decided_at timestamptz,
    -- Four eyes: whoever wrote it does not decide on it.
    check (decided_by <> created_by),
    check ((status = 'pending') = (decided_by is null)),
    check ((status = 'posted') = (journal_id is not null))
);
comment on table ledger.manual_journals is 'Adjustments by hand; each is posted by another person than the one who wrote it.';
alter table ledger.manual_journals enable row level security;
create index manual_journals_of_tenant on ledger.manual_journals (tenant_id, environment, created_at);

create table ledger.balance_checks (
    account_id bigint primary key,
    journal_no bigint not null,
    balance_minor bigint not null,
    checked_at timestamptz not null default now()
);
comment on table ledger.balance_checks is 'How far an account''s entries were added up again, and to what.';
alter table ledger.balance_checks enable row level security;

create table ledger.chain_checks (
    tenant_id text not null,
    environment text not null,
    number bigint not null,
    checked_at timestamptz not null default now(),
    primary key (tenant_id, environment)
);
comment on table ledger.chain_checks is 'How far a chain was verified.';
alter table ledger.chain_checks enable row level security;

-- What posting hands from step to step

create type ledger.booking as (
    kind text,
    wave smallint,
    position bigint,
    outbox_id bigint,
    event_id text,
    journal_id text,
    journal_key text,
    transfer_id text,
    related_transfer_id text,
    occurred_at timestamptz,
    gross_minor bigint,
    fee_minor bigint,
    tax_minor bigint,
    surcharge_minor bigint,
    reserve_minor bigint,
    held_minor bigint,
    fx_minor bigint,
    fx_quoted_minor bigint,
    related_journal_id text,
    memo text,
    problem text,
    is_final boolean
);
comment on type ledger.booking is
'One event on its way into the books. Amounts that are null are the tariff''s to say. problem: why it cannot be booked; is_final: no later try will do better.';

create type ledger.kind as (
    kind text,
    tenant_id text,
    environment text,
    event_type text,
    purpose text,
    intent text,
    rail text,
    currency text,
    fx_currency text,
    period_id text,
    memo text,
    rate_bps integer,
    fixed_minor bigint,
    tax_bps integer,
    reserve_bps integer,
    reserve_days integer,
    rules_version integer
);
comment on type ledger.kind is
'What events of a batch have in common that move the same accounts by the same rules on the same day: looked up once. kind: tenant|environment|type|purpose|intent|rail|currency|settlement currency|day.';

create type ledger.planned_leg as (
    kind text,
    leg_no smallint,
    leg text,
    amount text,
    amount_minor bigint,
    currency text,
    debit_code text,
    credit_code text,
    debit_account_id bigint,
    credit_account_id bigint,
    is_memo boolean
);
comment on type ledger.planned_leg is
'A leg of a posting rule for one kind of event in a batch, its accounts found. amount: which of the closed set, or null and amount_minor itself.';

reset role;

-- sql/webhooks/tables.sql

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

-- sql/directory/tables.sql

-- Who is reached by which rail, at what price, when; and why a transfer took the rail it took.

set role stalela_owner;

create table directory.rail_facts (
    rail text primary key references rails.rails (rail),
    country text not null check (country ~ '^[A-Z]{2}$'),
    latency_ms integer not null check (latency_ms >= 0),
    failure_bps integer not null check (failure_bps between 0 and 10000),
    fx_spread_bps integer not null check (fx_spread_bps >= 0),
    health text not null check (health in ('healthy', 'deprioritised', 'blocked')),
    priority integer not null
);
comment on table directory.rail_facts is
'What is known of each rail beside its rules: where its money is, how fast it usually answers, how often it fails. latency_ms is from submission to outcome; a smaller priority goes first.';
alter table directory.rail_facts enable row level security;

create table directory.versions (
    version bigint generated always as identity primary key,
    source text not null check (length(source) between 1 and 200),
    sha256 text not null,
    entries integer not null,
    published_by text not null,
    created_at timestamptz not null default now()
);
comment on table directory.versions is
'Append-only: every change of the directory, where it came from, and the checksum of what was sent. The greatest number is the version in force; version 0 is what the house ships with.';
alter table directory.versions enable row level security;
create trigger versions_append_only
before update or delete or truncate on directory.versions
for each statement execute function public.forbid_change();

create table directory.alias_types (
    alias_type text primary key check (alias_type ~ '^[a-z_]+$'),
    matching text not null check (matching in ('prefix', 'exact')),
    pattern text not null,
    entry_pattern text not null,
    description text not null
);
comment on table directory.alias_types is
'How people name whom they pay. pattern: what may be looked up; entry_pattern: what may be listed, of prefixes a part of it. The longest prefix wins.';
alter table directory.alias_types enable row level security;

create table directory.institutions (
    institution_id text primary key check (institution_id ~ '^[a-z0-9_]{2,40}$'),
    name text not null,
    country text not null check (country ~ '^[A-Z]{2}$'),
    kind text not null check (kind in ('mobile_money', 'bank', 'acquirer', 'scheme', 'chain')),
    status text not null check (status in ('active', 'suspended'))
);
comment on table directory.institutions is 'Operators, banks, schemes and chains that hold the accounts we reach.';
alter table directory.institutions enable row level security;

create table directory.entries (
    alias_type text not null references directory.alias_types (alias_type),
    alias text not null check (length(alias) between 1 and 128),
    institution_id text not null references directory.institutions (institution_id),
    -- Null: known, and reached by no rail of ours.
    rail text references rails.rails (rail),
    effective_from timestamptz not null default '2020-01-01 00:00:00+00',
    effective_to timestamptz,
    version bigint not null default 0,
    primary key (alias_type, alias, institution_id, effective_from),
    check (effective_to is null or effective_to > effective_from)
);
comment on table directory.entries is
'Which institution an alias belongs to, and by which rail it is reached, from when until when. Never changed but to end it: a new truth is a new row of a new version.';
alter table directory.entries enable row level security;
create index entries_of_institution on directory.entries (institution_id);
create index entries_of_rail on directory.entries (rail);

create table directory.fees (
    rail text not null references rails.rails (rail),
    direction text not null check (direction in ('in', 'out')),
    currency text not null references public.currencies (code),
    effective_from timestamptz not null default '2020-01-01 00:00:00+00',
    effective_to timestamptz,
    bps integer not null check (bps between 0 and 10000),
    fixed_minor bigint not null check (fixed_minor >= 0),
    primary key (rail, direction, currency, effective_from)
);
comment on table directory.fees is
'What a rail takes, about: for comparing routes. What is charged to whom is the ledger''s tariffs.';
alter table directory.fees enable row level security;
create index fees_currency on directory.fees (currency);

create table directory.windows (
    rail text not null references rails.rails (rail),
    weekday integer not null check (weekday between 1 and 7),
    opens time not null,
    closes time not null,
    timezone text not null,
    calendar text,
    primary key (rail, weekday, opens),
    check (closes > opens)
);
comment on table directory.windows is
'When a rail takes orders, 1 is Monday; a rail without rows always does. On the holidays of its calendar it is closed.';
alter table directory.windows enable row level security;

create table directory.calendars (
    calendar text not null check (calendar ~ '^[A-Z]{2}$'),
    day date not null,
    description text not null,
    primary key (calendar, day)
);
comment on table directory.calendars is 'Public holidays by country.';
alter table directory.calendars enable row level security;

create table directory.route_explanations (
    transfer_id text primary key references payments.transfers (transfer_id),
    tenant_id text not null,
    environment text not null,
    rail text not null,
    score numeric check (score between 0 and 1),
    reason text not null,
    policy jsonb,
    candidates jsonb not null check (jsonb_typeof(candidates) = 'array'),
    version bigint not null,
    created_at timestamptz not null default now()
);
comment on table directory.route_explanations is
'Append-only: why a transfer that was routed took this rail, and what became of every other one. candidates are in the order in which they would have been taken.';
alter table directory.route_explanations enable row level security;
create index route_explanations_of_tenant on directory.route_explanations (tenant_id, environment);
create trigger route_explanations_append_only
before update or delete or truncate on directory.route_explanations
for each statement execute function public.forbid_change();

reset role;

-- sql/compliance/tables.sql

-- Limits and tiers, sanctions lists, screening results.

set role stalela_owner;

-- Tiers and limits

create table compliance.tiers (
    tier text primary key check (tier ~ '^T[0-9]$'),
    label text not null,
    directions text[] not null check (directions <@ '{in,out}'::text[]),
    corridors text[] not null check (corridors <@ '{domestic,regional,international}'::text[]),
    description text not null
);
comment on table compliance.tiers is
'How well a tenant is known, and what that allows. in: money to the tenant, out: money from it. The rails of today ask the payer each time; a debit without asking would need more.';
alter table compliance.tiers enable row level security;

create table compliance.limits (
    limit_name text primary key check (limit_name ~ '^[a-z0-9_]+$'),
    tier text not null references compliance.tiers (tier),
    subject text not null check (subject in ('transfer', 'tenant', 'party')),
    direction text check (direction in ('in', 'out')),
    rail text references rails.rails (rail),
    corridor text check (corridor in ('domestic', 'regional', 'international')),
    window_s integer check (window_s in (3600, 86400, 2592000)),
    max_count integer check (max_count >= 0),
    max_usd_minor bigint check (max_usd_minor >= 0),
    check ((subject = 'transfer') = (window_s is null)),
    check (num_nonnulls(max_count, max_usd_minor) = 1),
    check (subject <> 'transfer' or max_usd_minor is not null),
    -- Counters know neither rail nor corridor.
    check (subject = 'transfer' or (rail is null and corridor is null))
);
comment on table compliance.limits is
'What a tier may do: for one transfer, and for tenant or party within a sliding window. Null means every rail, corridor, direction. Values are US cents and compared through compliance.limit_rates.';
alter table compliance.limits enable row level security;
create index limits_of_tier on compliance.limits (tier);
create index limits_of_rail on compliance.limits (rail);

create table compliance.limit_rates (
    currency text primary key references public.currencies (code),
    minor_per_usd bigint not null check (minor_per_usd > 0),
    as_of date not null
);
comment on table compliance.limit_rates is
'How many minor units are worth one US dollar, roughly: for comparing with limits and for nothing else. A currency without a row passes no limit.';
alter table compliance.limit_rates enable row level security;

create table compliance.country_regions (
    country text not null check (country ~ '^[A-Z]{2}$'),
    region text not null,
    primary key (country, region)
);
comment on table compliance.country_regions is 'Which countries trade as one region: a corridor between two of them is regional.';
alter table compliance.country_regions enable row level security;

create table compliance.profiles (
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    tier text not null references compliance.tiers (tier),
    screening text[] not null default '{}' check (screening <@ '{in,out}'::text[]),
    reason text not null,
    changed_by text not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, environment)
);
comment on table compliance.profiles is
'The tier of a tenant, and in which directions its parties must be screened first. Without a row: the tier of the setting compliance.tier_<environment>, and no screening.';
alter table compliance.profiles enable row level security;
create index profiles_tier on compliance.profiles (tier);

create table compliance.tenant_velocity (
    tenant_id text not null,
    environment text not null,
    direction text not null check (direction in ('in', 'out')),
    span_s integer not null check (span_s in (300, 3600, 86400)),
    bucket_at timestamptz not null,
    transfers bigint not null,
    usd_micros bigint not null,
    primary key (tenant_id, environment, direction, span_s, bucket_at)
-- Few rows, changed by every transfer of their tenant: room for new versions on the page of the old.
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0.01);
comment on table compliance.tenant_velocity is
'What a tenant began, in buckets of 5 minutes, an hour and a day. Written only for tenants that a window limits, under their advisory lock.';
alter table compliance.tenant_velocity enable row level security;
create index tenant_velocity_age on compliance.tenant_velocity (bucket_at);

create table compliance.party_velocity (
    tenant_id text not null,
    environment text not null,
    party_hash text not null,
    direction text not null check (direction in ('in', 'out')),
    span_s integer not null check (span_s in (300, 3600, 86400)),
    bucket_at timestamptz not null,
    transfers bigint not null,
    usd_micros bigint not null,
    primary key (tenant_id, environment, party_hash, direction, span_s, bucket_at)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
comment on table compliance.party_velocity is
'The same per party of a tenant, known by the hash of its phone or account; apart, because these rows are many and that one is hot.';
alter table compliance.party_velocity enable row level security;
create index party_velocity_age on compliance.party_velocity (bucket_at);

create table compliance.releases (
    release_id bigint generated always as identity primary key,
    tenant_id text not null,
    environment text not null,
    direction text not null check (direction in ('in', 'out')),
    party_hash text,
    admitted_at timestamptz not null,
    transfers integer not null check (transfers in (-1, 1)),
    usd_micros bigint not null
) with (autovacuum_vacuum_scale_factor = 0.01);
comment on table compliance.releases is
'Reservations given back by failed transfers (or taken again by a late success) and not yet in the counters. Insert-only until a task folds them in, so that whoever fails a transfer waits for nobody.';
alter table compliance.releases enable row level security;
create index releases_of_tenant on compliance.releases (tenant_id, environment);

create table compliance.freezes (
    freeze_id text primary key,
    tenant_id text references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    party_hashes text[] not null check (cardinality(party_hashes) > 0),
    party_masked text not null,
    reason text not null,
    frozen_by text not null,
    created_at timestamptz not null default now(),
    lift_requested_by text,
    lift_reason text,
    lifted_by text,
    lifted_at timestamptz,
    check ((lifted_at is null) = (lifted_by is null)),
    -- One pair of eyes freezes, two lift.
    check (lifted_by <> lift_requested_by)
);
comment on table compliance.freezes is
'Parties that nobody may pay or be paid by; without a tenant it holds for all of them. One operator freezes at once, lifting takes two.';
alter table compliance.freezes enable row level security;
create index freezes_in_force on compliance.freezes using gin (party_hashes) where lifted_at is null;
create index freezes_of_tenant on compliance.freezes (tenant_id, environment);

-- Sanctions lists

create table compliance.lists (
    source text primary key check (source ~ '^[a-z]+$'),
    name text not null,
    required boolean not null,
    version bigint,
    entries integer,
    checked_at timestamptz,
    check ((version is null) = (checked_at is null))
);
comment on table compliance.lists is
'The sanctions lists we read. version is the last import that changed something, checked_at the last one at all; without a version nothing was imported yet.';
alter table compliance.lists enable row level security;

create table compliance.list_versions (
    version bigint generated always as identity primary key,
    source text not null references compliance.lists (source),
    sha256 text not null,
    published_on text,
    entries integer not null,
    added integer not null,
    changed integer not null,
    removed integer not null,
    imported_by text not null,
    created_at timestamptz not null default now()
);
comment on table compliance.list_versions is
'Append-only: every import that changed a list, what it changed, and the checksum of its file. The greatest number in force is the version of the whole index.';
alter table compliance.list_versions enable row level security;
create index list_versions_of_source on compliance.list_versions (source, version);
create trigger list_versions_append_only
before update or delete or truncate on compliance.list_versions
for each statement execute function public.forbid_change();

create table compliance.list_entries (
    source text not null references compliance.lists (source),
    ref text not null check (length(ref) between 1 and 64),
    since bigint not null,
    kind text not null check (kind in ('person', 'organisation', 'other')),
    names text[] not null check (cardinality(names) > 0),
    born text[] not null,
    countries text[] not null,
    documents text[] not null,
    primary key (source, ref)
);
comment on table compliance.list_entries is
'Who is listed now. since is the version that brought the entry as it reads here, so whoever was clear before is compared with younger entries only.';
alter table compliance.list_entries enable row level security;

-- Screening

create table compliance.parties (
    party_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    payment_intent_id text unique references payments.payment_intents (payment_intent_id),
    reference text check (length(reference) <= 128),
    profile_sealed text not null,
    name_masked text,
    phone_masked text,
    fingerprint text,
    decision text check (decision in ('clear', 'hold', 'deny')),
    score integer check (score between 0 and 100),
    list_version bigint,
    screened_at timestamptz,
    lease_until timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((decision is null) = (list_version is null))
);
comment on table compliance.parties is
'People and organisations whom a tenant pays or is paid by, and what the lists say of them; decision null waits for its first screening. Name, birth and documents are sealed.';
alter table compliance.parties enable row level security;
create index parties_of_tenant on compliance.parties (tenant_id, environment, created_at);
create index parties_by_list_version on compliance.parties (list_version nulls first, party_id);

create table compliance.party_keys (
    tenant_id text not null,
    environment text not null,
    party_hash text not null,
    party_id text not null references compliance.parties (party_id),
    primary key (tenant_id, environment, party_hash)
);
comment on table compliance.party_keys is
'Finds a party by the hash of its phone or account, as transfers carry it.';
alter table compliance.party_keys enable row level security;
create index party_keys_of_party on compliance.party_keys (party_id);

create table compliance.screening_results (
    screening_id text primary key,
    tenant_id text,
    environment text,
    party_id text references compliance.parties (party_id),
    transfer_id text,
    role text not null,
    fingerprint text not null,
    decision text not null check (decision in ('clear', 'hold', 'deny')),
    score integer not null check (score between 0 and 100),
    matches jsonb not null check (jsonb_typeof(matches) = 'array'),
    list_version bigint not null,
    screened_by text not null,
    created_at timestamptz not null default now()
);
comment on table compliance.screening_results is
'Append-only: every comparison of a party with the lists, kept for five years. matches quotes the lists, never the party.';
alter table compliance.screening_results enable row level security;
create index screening_results_of_party on compliance.screening_results (party_id, created_at);
create index screening_results_of_transfer on compliance.screening_results (transfer_id) where transfer_id is not null;
create index screening_results_of_tenant on compliance.screening_results (tenant_id, environment, created_at);
create trigger screening_results_append_only
before update or delete or truncate on compliance.screening_results
for each statement execute function public.forbid_change();

create table compliance.transfer_clearances (
    transfer_id text primary key references payments.transfers (transfer_id),
    tenant_id text not null,
    environment text not null,
    party_id text not null references compliance.parties (party_id),
    decision text not null check (decision = 'clear'),
    score integer not null,
    list_version bigint not null,
    screened_at timestamptz not null,
    created_at timestamptz not null default now()
);
comment on table compliance.transfer_clearances is
'Append-only: on which screening a transfer that needed one was let through.';
alter table compliance.transfer_clearances enable row level security;
create index transfer_clearances_of_party on compliance.transfer_clearances (party_id);
create index transfer_clearances_of_tenant on compliance.transfer_clearances (tenant_id, environment);
create trigger transfer_clearances_append_only
before update or delete or truncate on compliance.transfer_clearances
for each statement execute function public.forbid_change();

create table compliance.exemptions (
    tenant_id text not null,
    environment text not null,
    fingerprint text not null,
    source text not null references compliance.lists (source),
    ref text not null,
    reason text not null,
    cleared_by text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, environment, fingerprint, source, ref)
);
comment on table compliance.exemptions is
'False positives: this party of this tenant is not that entry, said whom and why. A changed name or birth is another party.';
alter table compliance.exemptions enable row level security;
create index exemptions_source on compliance.exemptions (source);

reset role;

-- sql/recon/tables.sql

-- Our books against the rails' statements: sessions, statements and their lines, matches, exceptions, decisions.
-- No foreign keys from lines and matches: a run inserts a million of them and each check would cost as much as the
-- row. What they refer to was read in the same transaction, and its closing assertion counts every one of them.

set role stalela_owner;

create table recon.time_zones (
    country text primary key check (country ~ '^[A-Z]{2}$'),
    time_zone text not null
);
comment on table recon.time_zones is
'The IANA zone in which an organisation of this country counts its days; of several the one where most of them are.';
alter table recon.time_zones enable row level security;

create table recon.rail_rules (
    rail text primary key references rails.rails (rail),
    time_zone text not null,
    day_tolerance integer not null check (day_tolerance between 0 and 5),
    banking_days boolean not null,
    missing_after_days integer not null check (missing_after_days between 0 and 30),
    fee_bps integer not null check (fee_bps between 0 and 10000),
    fee_fixed_minor bigint not null check (fee_fixed_minor >= 0),
    statement_format text not null
);
comment on table recon.rail_rules is
'How a rail''s statements compare. day_tolerance: days, of banking days where banking_days; missing_after_days: a settled transfer absent that long after its day is missing; fee_*: what the rail keeps of each payment it pays out net.';
alter table recon.rail_rules enable row level security;

create table recon.column_maps (
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    name text not null check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    columns jsonb not null,
    created_by text not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, environment, name)
);
comment on table recon.column_maps is 'How to read a tenant''s own CSV statements; shared/recon/generic_csv.py says what the columns mean.';
alter table recon.column_maps enable row level security;

create table recon.recon_sessions (
    session_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null,
    business_date date not null,
    time_zone text not null,
    status text not null default 'open' check (status in ('open', 'exceptions', 'matched')),
    opened_at timestamptz not null default now(),
    finished_at timestamptz,
    updated_at timestamptz not null default now(),
    unique (tenant_id, environment, rail, business_date),
    check ((status = 'open') <= (finished_at is null))
);
comment on table recon.recon_sessions is
'One business day of one rail, in the tenant''s time zone. matched: every line and every settled transfer of the day has its counterpart; exceptions: some wait for a person; open: a statement is still to come.';
alter table recon.recon_sessions enable row level security;
create index recon_sessions_unfinished on recon.recon_sessions (business_date) where status = 'open';

create table recon.session_figures (
    session_id text not null references recon.recon_sessions (session_id),
    currency text not null,
    tenant_id text not null,
    environment text not null,
    lines bigint not null,
    lines_matched bigint not null,
    lines_marked bigint not null,
    lines_excepted bigint not null,
    lines_in_minor numeric not null,
    lines_out_minor numeric not null,
    lines_unmatched_minor numeric not null,
    transfers bigint not null,
    transfers_matched bigint not null,
    transfers_excepted bigint not null,
    transfers_awaiting bigint not null,
    transfers_in_minor numeric not null,
    transfers_out_minor numeric not null,
    transfers_unmatched_minor numeric not null,
    primary key (session_id, currency),
    -- Accounted for exactly once, whatever else is computed.
    check (lines = lines_matched + lines_marked + lines_excepted),
    check (transfers = transfers_matched + transfers_excepted + transfers_awaiting)
);
comment on table recon.session_figures is
'What a session counts, per currency: lines and transfers are each matched, marked, excepted or awaited, and nothing else. Sums in minor units.';
alter table recon.session_figures enable row level security;
create index session_figures_of_tenant on recon.session_figures (tenant_id, environment);

create table recon.statements (
    statement_id text primary key,
    statement_no bigint generated always as identity unique,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null,
    format text not null,
    file_name text,
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    account_ref text,
    period_from date not null,
    period_to date not null,
    lines integer not null check (lines >= 0),
    totals jsonb not null,
    file_sealed text not null,
    imported_by text not null,
    imported_at timestamptz not null default now(),
    matched_at timestamptz,
    unique (tenant_id, environment, rail, sha256),
    check (period_to >= period_from)
);
comment on table recon.statements is
'Statements as the rails gave them, each file once (sha256); file_sealed is the compressed file, sealed for statement|sha256. matched_at null: its lines wait for a run.';
alter table recon.statements enable row level security;
create index statements_unmatched on recon.statements (tenant_id, environment, rail) where matched_at is null;
create index statements_newest on recon.statements (tenant_id, environment, imported_at);

create table recon.statement_lines (
    line_id bigint generated always as identity primary key,
    statement_no bigint not null,
    line_no integer not null,
    line_hash bytea not null,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    type text not null check (type in ('payment', 'return', 'batch', 'fee', 'internal', 'void')),
    direction text not null check (direction in ('in', 'out')),
    amount_minor bigint not null check (amount_minor >= 0),
    fee_minor bigint not null default 0 check (fee_minor >= 0),
    currency text not null,
    value_date date not null,
    occurred_at timestamptz,
    external_ref text,
    our_ref text,
    linked_ref text,
    batch_ref text,
    acq_ref text,
    auth_code text,
    party_hash text,
    -- The hash first: the same line in another statement is found by it, too.
    unique (line_hash, statement_no)
);
comment on table recon.statement_lines is
'Append-only: what the rail says moved, without personal data. amount_minor moved on the account, fee_minor is what the line says was kept before. line_hash covers what the line says and which copy of it in its file it is.';
alter table recon.statement_lines enable row level security;
create index statement_lines_of_statement on recon.statement_lines (statement_no);
create index statement_lines_of_day on recon.statement_lines (tenant_id, environment, rail, value_date);

create table recon.runs (
    run_id bigint generated always as identity primary key,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    started_at timestamptz not null default now(),
    finished_at timestamptz not null,
    counts jsonb not null
);
comment on table recon.runs is
'Append-only: what each run of the matching rules found. A run that could not account for everything exactly once left nothing, not even its row.';
alter table recon.runs enable row level security;
create index runs_of_tenant on recon.runs (tenant_id, environment, run_id);

create table recon.matches (
    line_id bigint not null,
    transfer_id text not null,
    leg text not null check (leg in ('settle', 'return')),
    -- A transfer that came in several lines has parts, a line that pays several transfers has shares. Everything
    -- else is part 1 and share 1, so nothing is matched twice.
    part integer not null default 1 check (part > 0),
    share integer not null default 1 check (share > 0),
    rule text not null check (
        rule in ('rail_reference', 'our_reference', 'party_and_day', 'batch', 'person')
    ),
    amount_minor bigint not null,
    fee_minor bigint not null,
    tenant_id text not null,
    environment text not null,
    run_id bigint,
    matched_at timestamptz not null default now(),
    primary key (line_id, share),
    unique (transfer_id, leg, part),
    check ((rule = 'person') = (run_id is null))
);
comment on table recon.matches is
'Append-only: which line is which movement of which transfer, by which rule. amount_minor plus fee_minor is the share of the transfer that the line accounts for. No run: a person decided, which outranks every rule.';
alter table recon.matches enable row level security;
create index matches_of_tenant on recon.matches (tenant_id, environment);

create table recon.marked_lines (
    line_id bigint primary key,
    mark text not null check (mark in ('seen_before', 'sum_of_lines', 'fee', 'internal', 'void')),
    of_line_id bigint,
    tenant_id text not null,
    environment text not null,
    run_id bigint not null
);
comment on table recon.marked_lines is
'Append-only: lines that are no transfer of ours: seen in an earlier statement (of_line_id), the total of other lines, the rail''s charge, money moved between own accounts, nothing moved.';
alter table recon.marked_lines enable row level security;
create index marked_lines_of_tenant on recon.marked_lines (tenant_id, environment);

create table recon.exceptions (
    exception_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null,
    kind text not null check (
        kind in (
            'UNMATCHED_LINE', 'MISSING_LINE', 'AMOUNT_MISMATCH', 'DUPLICATE_LINE', 'STATE_CONFLICT', 'FEE_MISMATCH',
            'FILE_REJECTED', 'TOTALS_MISMATCH'
        )
    ),
    status text not null default 'open' check (status in ('open', 'pending_approval', 'resolved')),
    business_date date,
    line_id bigint,
    transfer_id text,
    amount_minor bigint,
    currency text,
    details jsonb not null default '{}',
    proposal jsonb,
    resolution text check (
        resolution in (
            'assign', 'raise_return', 'adjust', 'write_off', 'acknowledge', 'matched_later'
        )
    ),
    run_id bigint,
    opened_at timestamptz not null default now(),
    resolved_at timestamptz,
    check ((status = 'resolved') = (resolution is not null)),
    check ((status = 'resolved') = (resolved_at is not null)),
    check ((status = 'pending_approval') = (proposal is not null)),
    check ((kind in ('FILE_REJECTED', 'TOTALS_MISMATCH')) = (line_id is null and transfer_id is null))
);
comment on table recon.exceptions is
'What a person must look at: a line, a transfer or a file that does not fit. Closed by a decision in recon.resolutions, or by a later run that found the counterpart (matched_later).';
alter table recon.exceptions enable row level security;
-- A line is in one open question at a time, and so is a settled transfer whose line is missing.
create unique index exceptions_of_line on recon.exceptions (line_id) where status <> 'resolved';
create unique index exceptions_missing on recon.exceptions (transfer_id) where status <> 'resolved' and line_id is null;
create index exceptions_of_transfer on recon.exceptions (transfer_id);
create index exceptions_by_line on recon.exceptions (line_id);
create index exceptions_queue on recon.exceptions (tenant_id, environment, opened_at, exception_id);
create index exceptions_of_day on recon.exceptions (tenant_id, environment, rail, business_date);

create table recon.resolutions (
    exception_id text not null references recon.exceptions (exception_id),
    number integer not null check (number > 0),
    tenant_id text not null,
    environment text not null,
    action text not null check (
        action in (
            'assign', 'raise_return', 'adjust', 'write_off', 'acknowledge', 'ticket', 'propose', 'approve', 'reject'
        )
    ),
    actor text not null,
    reason text not null,
    details jsonb not null default '{}',
    decided_at timestamptz not null default now(),
    primary key (exception_id, number)
);
comment on table recon.resolutions is
'Append-only: what people decided about an exception, in order. What writes money off is proposed by one and approved by another.';
alter table recon.resolutions enable row level security;
create index resolutions_of_tenant on recon.resolutions (tenant_id, environment);

create type recon.run as (
    run_id bigint,
    tenant_id text,
    environment text,
    rail text,
    statement_nos bigint[],
    rules recon.rail_rules,
    time_zone text,
    today date
);
comment on type recon.run is 'What the functions of one run share. today is the tenant''s.';

reset role;

-- sql/messages/tables.sql

-- Mail and texts that go to people: rendered once, sent until the provider has answered, followed to their end.
-- What is personal is sealed (the mail) or masked; addresses meet by their blind index.

set role stalela_owner;

create table messages.kinds (
    kind text primary key,
    priority smallint not null check (priority > 0),
    ceiling_percent integer not null check (ceiling_percent between 1 and 100),
    valid_for_s integer not null check (valid_for_s > 0),
    description text not null
);
comment on table messages.kinds is
'What is told to people. Smaller priorities go first; a kind is sent only while less than ceiling_percent of the day''s budget is used, so that alerts keep a share.';
alter table messages.kinds enable row level security;

create table messages.countries (
    country text primary key check (country ~ '^[A-Z]{2}$'),
    language text not null check (language in ('en', 'fr', 'sw')),
    time_zone text not null
);
comment on table messages.countries is
'The language and the clock of a receipt whose payer said nothing, by the merchant''s country (ISO 3166-1 alpha-2).';
alter table messages.countries enable row level security;

create table messages.messages (
    message_id text primary key,
    tenant_id text,
    environment text check (environment in ('sandbox', 'production')),
    kind text not null references messages.kinds (kind),
    subject_id text not null,
    dedupe_key text not null unique,
    language text not null check (language in ('en', 'fr', 'sw')),
    recipient_masked text not null,
    recipient_hash text not null,
    body_sealed text not null,
    sms_text text check (length(sms_text) between 1 and 160),
    status text not null default 'queued' check (status in (
        'queued', 'sent', 'delayed', 'delivered', 'failed', 'suppressed', 'bounced', 'complained', 'expired', 'kept',
        'unknown'
    )),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    lease_until timestamptz,
    unsure_since timestamptz,
    budget_day date,
    email_id text unique,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    expires_at timestamptz not null,
    check ((tenant_id is null) = (environment is null)),
    check (status not in ('sent', 'delayed', 'delivered', 'bounced', 'complained') or email_id is not null)
);
comment on table messages.messages is
'One mail to one person, one row per dedupe_key. body_sealed is the request to the provider, sent again byte for byte under message_id as the idempotency key; kept: there is no provider; unknown: it gave no answer while it remembered the key.';
comment on column messages.messages.unsure_since is
'Since when the provider may have taken the mail without our knowing; it forgets the key a day later.';
alter table messages.messages enable row level security;
create index messages_due on messages.messages (next_attempt_at) where status = 'queued';
create index messages_of_subject on messages.messages (subject_id, created_at);
create index messages_of_tenant on messages.messages (tenant_id, environment, created_at);
create index messages_of_kind on messages.messages (kind);
create index messages_done on messages.messages (created_at) where status <> 'queued';

create table messages.mail_events (
    event_id text primary key,
    kind text not null,
    email_id text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null default now()
);
comment on table messages.mail_events is
'What the provider told about mails, once per event. No addresses: the mail is known by its id.';
alter table messages.mail_events enable row level security;
create index mail_events_of_mail on messages.mail_events (email_id);
create index mail_events_received on messages.mail_events (received_at);

create table messages.suppressions (
    address_hash text primary key,
    address_masked text not null,
    reason text not null check (reason in ('bounced', 'complained', 'suppressed')),
    email_id text not null,
    created_at timestamptz not null default now()
);
comment on table messages.suppressions is
'Addresses that no mail goes to any more: it bounced, or its reader called it spam.';
alter table messages.suppressions enable row level security;

create table messages.budgets (
    day date primary key,
    used integer not null check (used >= 0)
);
comment on table messages.budgets is 'How many mails of a day (UTC) were given to the provider; a repeated one counts once a day.';
alter table messages.budgets enable row level security;

create table messages.pauses (
    provider text primary key,
    until timestamptz not null,
    reason text not null
);
comment on table messages.pauses is 'Until when the provider takes no mail at all, and by which of its codes.';
alter table messages.pauses enable row level security;

-- Alerts

create table messages.alert_kinds (
    kind text primary key,
    to_owners boolean not null,
    title text not null,
    advice text not null
);
comment on table messages.alert_kinds is
'What an alert of public.alerts means and what to do; a kind without a row is the platform''s alone. to_owners: the owners of its tenant are told too.';
alter table messages.alert_kinds enable row level security;

create table messages.alert_digests (
    kind text not null,
    destination text not null,
    told_at timestamptz not null,
    primary key (kind, destination)
);
comment on table messages.alert_digests is
'When people were last told of alerts of one kind: destination is platform, or tenant and environment. Not again within alerts.coalesce_s.';
alter table messages.alert_digests enable row level security;

create table messages.alert_notices (
    alert_id bigint not null references public.alerts (alert_id),
    destination text not null,
    occurrences bigint not null,
    told_at timestamptz not null default now(),
    primary key (alert_id, destination)
);
comment on table messages.alert_notices is 'Who was told of an alert, when, and how often it had happened by then.';
alter table messages.alert_notices enable row level security;

create table messages.slos (
    slo text primary key,
    objective_bps integer not null check (objective_bps between 1 and 9999),
    target_s integer not null check (target_s > 0),
    routine text not null check (routine ~ '^[a-z_]+\.[a-z_0-9]+$'),
    description text not null
);
comment on table messages.slos is
'Service levels: of what routine(since, target_s) counts (good, total), objective_bps are to be good. messages.watch raises an alert while the month''s error budget burns too fast.';
alter table messages.slos enable row level security;

reset role;

-- sql/tax/tables.sql

-- What the law says, as rows. Published manifests never change; a change of the law is a new manifest.
-- shared/fiscal reads the same CSV files that fill these tables, so engine and database cannot differ.

set role stalela_owner;

create table tax.jurisdictions (
    jurisdiction text primary key check (jurisdiction ~ '^[A-Z]{2}$'),
    name text not null,
    authority text not null,
    tax_currency text not null,
    currencies text[] not null,
    tax_level text not null check (tax_level in ('line', 'group')),
    tin_name text not null,
    tin_pattern text not null,
    time_zones text[] not null,
    retention_years integer not null check (retention_years > 0)
);
comment on table tax.jurisdictions is
'Countries whose invoices we seal. tax_level: whether tax is rounded on each line or once per tax group.';
alter table tax.jurisdictions enable row level security;

create table tax.manifests (
    manifest_version text primary key,
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    surface text not null check (surface in ('merchant', 'authority')),
    valid_from timestamptz not null,
    valid_to timestamptz,
    source text not null,
    check (valid_to is null or valid_to > valid_from)
);
comment on table tax.manifests is
'Versions of the tax groups: those merchants use, and the authority''s own. In force from valid_from until before valid_to.';
alter table tax.manifests enable row level security;
create index manifests_of_jurisdiction on tax.manifests (jurisdiction, surface, valid_from);

create table tax.tax_groups (
    manifest_version text not null references tax.manifests (manifest_version),
    tax_group text not null,
    name text not null,
    rate numeric(6, 4) check (rate between 0 and 1),
    treatment text not null check (
        treatment in ('exempt', 'standard', 'reduced', 'zero', 'special', 'excise', 'out_of_scope', 'levy')
    ),
    primary key (manifest_version, tax_group)
);
comment on table tax.tax_groups is 'The groups of a manifest. rate is a fraction; null: the tax is an amount, not a rate.';
alter table tax.tax_groups enable row level security;

create table tax.group_rules (
    manifest_version text not null,
    step integer not null check (step > 0),
    rule text not null,
    tax_group text not null,
    primary key (manifest_version, rule),
    foreign key (manifest_version, tax_group) references tax.tax_groups (manifest_version, tax_group)
);
comment on table tax.group_rules is
'Which group a line belongs to: the rule of the lowest step that applies. rule: embassy, export, a catalogue category, goods or service.';
alter table tax.group_rules enable row level security;
create index group_rules_of_group on tax.group_rules (manifest_version, tax_group);

create table tax.authority_groups (
    manifest_version text not null,
    tax_group text not null,
    authority_version text not null,
    authority_group text,
    levy_group text,
    primary key (manifest_version, tax_group, authority_version),
    foreign key (manifest_version, tax_group) references tax.tax_groups (manifest_version, tax_group),
    foreign key (authority_version, authority_group) references tax.tax_groups (manifest_version, tax_group),
    foreign key (authority_version, levy_group) references tax.tax_groups (manifest_version, tax_group)
);
comment on table tax.authority_groups is
'What the authority calls a group of ours; null: nothing, so such a document cannot be sent and a person must decide. levy_group: an excise goes there as a line of its own.';
alter table tax.authority_groups enable row level security;
create index authority_groups_of_authority on tax.authority_groups (authority_version, authority_group);
create index authority_groups_of_levy on tax.authority_groups (authority_version, levy_group);

create table tax.client_classifications (
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    classification text not null,
    label text not null,
    requires text[] not null,
    recommends text[] not null,
    authority_code text,
    primary key (jurisdiction, classification)
);
comment on table tax.client_classifications is 'Kinds of buyers, and which members of client each must have.';
alter table tax.client_classifications enable row level security;

create table tax.invoice_types (
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    invoice_type text not null,
    label text not null,
    is_credit boolean not null,
    is_export boolean not null,
    authority_code text,
    primary key (jurisdiction, invoice_type)
);
comment on table tax.invoice_types is
'Kinds of documents. A credit names its original; an export has only exported lines and a buyer abroad.';
alter table tax.invoice_types enable row level security;

reset role;

-- sql/signing/tables.sql

-- Keys and signatures. Private keys never come near the database.

set role stalela_owner;

create table signing.keys (
    key_id text primary key check (key_id ~ '^[a-z0-9-]{1,64}$'),
    jurisdiction text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    provider text not null check (provider in ('local', 'alibaba_kms')),
    key_ref text not null,
    key_version text not null,
    alg text not null check (alg in ('ES256', 'PS256', 'RS256')),
    public_key_spki text not null,
    valid_from timestamptz not null default now(),
    valid_until timestamptz,
    status text not null default 'active' check (status in ('active', 'retired', 'revoked')),
    revoked_at timestamptz,
    check ((status = 'revoked') = (revoked_at is not null)),
    check ((status = 'active') = (valid_until is null))
);
comment on table signing.keys is
'Public halves of all keys that ever signed; kept for as long as documents are. public_key_spki is base64 DER.';
alter table signing.keys enable row level security;
create unique index keys_one_active on signing.keys (jurisdiction, environment) where status = 'active';
create unique index keys_by_public_key on signing.keys (jurisdiction, environment, public_key_spki);

create table signing.signing_log (
    signing_log_id bigint generated always as identity primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    invoice_id text not null,
    key_id text not null references signing.keys (key_id),
    digest text not null,
    signature text,
    provider_request_id text,
    latency_ms integer not null check (latency_ms >= 0),
    outcome text not null check (outcome in ('signed', 'failed')),
    error text,
    signed_at timestamptz not null default now(),
    check ((outcome = 'signed') = (signature is not null))
);
comment on table signing.signing_log is 'Append-only: one row for each call of a signing provider, failures too.';
alter table signing.signing_log enable row level security;
create index signing_log_of_invoice on signing.signing_log (invoice_id);
create index signing_log_of_key on signing.signing_log (key_id);
create index signing_log_of_tenant on signing.signing_log (tenant_id, environment, signing_log_id);
create trigger signing_log_append_only
before update or delete or truncate on signing.signing_log
for each statement execute function public.forbid_change();

create table signing.signing_queue (
    invoice_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null,
    first_failed_at timestamptz,
    last_error text,
    created_at timestamptz not null default now()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
comment on table signing.signing_queue is
'Numbered documents without a signature. A row leaves when the signature is attached, and for no other reason.';
alter table signing.signing_queue enable row level security;
create index signing_queue_due on signing.signing_queue (next_attempt_at);
create index signing_queue_of_tenant on signing.signing_queue (tenant_id, environment);

reset role;

-- sql/fiscal/tables.sql

-- Who seals, where, and everything that was sealed. One outlet is one number sequence and one chain.

set role stalela_owner;

create table fiscal.merchants (
    merchant_id text primary key,
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    legal_name text not null check (length(legal_name) between 1 and 200),
    tin text not null,
    registration_number text,
    vat_status text not null check (vat_status in ('registered', 'not_registered')),
    address text,
    status text not null default 'active' check (status in ('active', 'suspended')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (tenant_id, environment)
);
comment on table fiscal.merchants is
'The taxpayer behind a tenant, one per environment. A suspended one seals nothing; reading stays.';
alter table fiscal.merchants enable row level security;
create index merchants_of_jurisdiction on fiscal.merchants (jurisdiction);

create table fiscal.outlets (
    outlet_id text primary key,
    merchant_id text not null references fiscal.merchants (merchant_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_code text not null unique check (outlet_code ~ '^[A-Z0-9]{2,12}$'),
    name text not null check (length(name) between 1 and 200),
    address text,
    time_zone text not null,
    fiscal_authority_id text not null,
    status text not null default 'active' check (status in ('active', 'closed')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table fiscal.outlets is
'A place of sale. outlet_code is unique across all merchants because it is part of every fiscal number.';
alter table fiscal.outlets enable row level security;
create index outlets_of_merchant on fiscal.outlets (merchant_id);
create index outlets_of_tenant on fiscal.outlets (tenant_id, environment, created_at);

create table fiscal.operators (
    operator_id text primary key,
    outlet_id text not null references fiscal.outlets (outlet_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    kind text not null check (kind in ('terminal', 'cashier')),
    label text not null check (label ~ '^[\x21-\x7e]{1,64}$'),
    name text not null check (length(name) between 1 and 200),
    status text not null default 'active' check (status in ('active', 'blocked')),
    created_at timestamptz not null default now(),
    unique (outlet_id, kind, label)
);
comment on table fiscal.operators is
'Terminals and cashiers of an outlet: label is what documents carry as pos_terminal_id or cashier_id. A blocked one seals nothing.';
alter table fiscal.operators enable row level security;
create index operators_of_tenant on fiscal.operators (tenant_id, environment);

create table fiscal.fiscal_counters (
    outlet_id text not null references fiscal.outlets (outlet_id),
    kind text not null check (kind in ('invoice', 'report_z')),
    next_value bigint not null default 1 check (next_value > 0),
    primary key (outlet_id, kind)
) with (fillfactor = 50);
comment on table fiscal.fiscal_counters is
'The next number of an outlet, taken and moved under the outlet''s lock. Not a sequence: a rollback must give its number back.';
alter table fiscal.fiscal_counters enable row level security;

create table fiscal.invoices (
    invoice_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    merchant_id text not null references fiscal.merchants (merchant_id),
    outlet_id text not null references fiscal.outlets (outlet_id),
    status text not null check (status in ('pending_signature', 'signing_error', 'fiscalized')),
    invoice_type text not null,
    invoice_ref text,
    fiscal_number text not null unique,
    sequence bigint not null,
    payload text not null,
    canonical_payload_hash text not null,
    tax_summary jsonb not null,
    currency text not null,
    total_minor bigint not null check (total_minor >= 0),
    tax_minor bigint not null check (tax_minor >= 0),
    original_invoice_id text references fiscal.invoices (invoice_id),
    created_by text not null,
    created_at timestamptz not null default now(),
    unique (outlet_id, sequence)
) with (fillfactor = 80);
comment on table fiscal.invoices is
'Numbered documents. payload is the canonical text whose SHA-256 is in the ledger; nothing but status ever changes.';
alter table fiscal.invoices enable row level security;
create index invoices_of_tenant on fiscal.invoices (tenant_id, environment, created_at);
create index invoices_of_outlet on fiscal.invoices (outlet_id, created_at);
create index invoices_of_merchant on fiscal.invoices (merchant_id);
create index invoices_credits on fiscal.invoices (original_invoice_id);
create unique index invoices_ref on fiscal.invoices (outlet_id, invoice_ref) where invoice_ref is not null;

create table fiscal.fiscal_ledger (
    outlet_id text not null references fiscal.outlets (outlet_id),
    entry_no bigint not null check (entry_no > 0),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    sequence bigint,
    record_type text not null,
    fiscal_number text not null,
    canonical_payload_hash text not null check (canonical_payload_hash ~ '^[0-9a-f]{64}$'),
    sealed_at text not null check (sealed_at ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$'),
    previous_hash text not null check (previous_hash ~ '^[0-9a-f]{64}$'),
    entry_hash text not null check (
        entry_hash = encode(sha256(convert_to(
            concat_ws(E'\n', fiscal_number, canonical_payload_hash, sealed_at, previous_hash), 'UTF8'
        )), 'hex')
    ),
    chain_version integer not null default 1 check (chain_version = 1),
    invoice_id text references fiscal.invoices (invoice_id),
    created_at timestamptz not null default now(),
    primary key (outlet_id, entry_no),
    unique (outlet_id, previous_hash),
    unique (outlet_id, sequence)
);
comment on table fiscal.fiscal_ledger is
'Append-only: one hash chain per outlet. Each entry hash covers the one before; a fork or a wrong hash cannot be written.';
alter table fiscal.fiscal_ledger enable row level security;
create unique index fiscal_ledger_of_invoice on fiscal.fiscal_ledger (invoice_id);
create index fiscal_ledger_of_tenant on fiscal.fiscal_ledger (tenant_id, environment);
create trigger fiscal_ledger_append_only
before update or delete or truncate on fiscal.fiscal_ledger
for each statement execute function public.forbid_change();

create table fiscal.signatures (
    invoice_id text primary key references fiscal.invoices (invoice_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    key_id text not null references signing.keys (key_id),
    signature_alg text not null,
    digest text not null,
    signature text not null,
    auth_code text not null,
    signed_at timestamptz not null default now()
);
comment on table fiscal.signatures is 'Append-only: the one signature of each document, over its seal object.';
alter table fiscal.signatures enable row level security;
create index signatures_of_key on fiscal.signatures (key_id);
create index signatures_of_tenant on fiscal.signatures (tenant_id, environment);
create trigger signatures_append_only
before update or delete or truncate on fiscal.signatures
for each statement execute function public.forbid_change();

create type fiscal.sealing as (answer public.answer, work jsonb);
comment on type fiscal.sealing is
'The document as it stands, and what a signer must know to sign it; no work: there is nothing to sign.';

reset role;

-- sql/public/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/public.plans.csv
insert into public.plans (plan, description)
values
('basic', 'Every new organisation'),
('pro', 'Organisations with regular traffic'),
('unlimited', 'No limits: load tests and our own tools')
on conflict (plan) do update set
    description = excluded.description;

-- shared/public.app_roles.csv
insert into public.app_roles (app_role, description, is_platform)
values
('owner', 'Everything including other owners; a tenant always has one', 'false'),
('admin', 'Runs the account: people and keys and credentials', 'false'),
('developer', 'Builds the integration: payments and keys and webhooks', 'false'),
('finance', 'Moves money back and out and reads the books', 'false'),
('cashier', 'Takes payments at one outlet', 'false'),
('auditor', 'Reads everything and changes nothing', 'false'),
('operator', 'Works for the platform', 'true')
on conflict (app_role) do update set
    description = excluded.description,
    is_platform = excluded.is_platform;

-- shared/ledger/public.scopes.csv
-- shared/public.scopes.csv
-- shared/recon/public.scopes.csv
insert into public.scopes (scope, included_in, key_kinds, description)
values
('ledger:adjust', null, '{}', 'Adjust the books by hand and close periods; what one person writes another approves'),
('*', null, '{secret}', 'Everything a tenant may do'),
('payments:read', null, '{secret}', 'See payment intents and their events'),
('payments:write', null, '{secret}', 'Create and confirm and cancel payment intents'),
('payments:confirm', 'payments:write', '{publishable}', 'Confirm or watch one payment intent with its client secret'),
('payments:resolve', null, '{secret}', 'Decide what became of a payment that waits for a person'),
('refunds:write', null, '{secret}', 'Give money back'),
('payouts:write', null, '{secret}', 'Send money out'),
('invoices:read', null, '{secret}', 'See fiscal invoices'),
('invoices:write', null, '{secret}', 'Issue fiscal invoices'),
('reports:read', null, '{secret}', 'Read reports and statements'),
('webhooks:read', null, '{secret}', 'See webhook endpoints and deliveries'),
('webhooks:write', null, '{secret}', 'Change webhook endpoints and replay deliveries'),
('account:read', null, '{secret}', 'See the organisation and its people'),
('audit:read', null, '{secret}', 'Read the audit trail'),
('api_keys:manage', null, '{secret}', 'Create and rotate and revoke API keys'),
('team:manage', null, '{secret}', 'Invite people and change or end their roles'),
('credentials:manage', null, '{secret}', 'Store and test and delete rail credentials'),
('platform:operate', null, '{}', 'Work on any tenant for the platform'),
('payouts:approve', null, '{}', 'Approve refunds and payouts that somebody else asked for'),
('deliveries:read', null, '{}', 'See events that did not reach a destination'),
('deliveries:manage', null, '{}', 'Try such events again or give them up'),
('recon:write', null, '{secret}', 'Upload statements and decide reconciliation exceptions'),
('recon:read', 'recon:write', '{secret}', 'See reconciliation sessions and exceptions')
on conflict (scope) do update set
    included_in = excluded.included_in,
    key_kinds = excluded.key_kinds,
    description = excluded.description;

-- shared/ledger/public.role_scopes.csv
-- shared/public.role_scopes.csv
-- shared/recon/public.role_scopes.csv
insert into public.role_scopes (app_role, scope)
values
('finance', 'ledger:adjust'),
('admin', 'ledger:adjust'),
('owner', '*'),
('admin', 'payments:read'),
('admin', 'payments:write'),
('admin', 'refunds:write'),
('admin', 'payouts:write'),
('admin', 'invoices:read'),
('admin', 'invoices:write'),
('admin', 'reports:read'),
('admin', 'webhooks:read'),
('admin', 'webhooks:write'),
('admin', 'account:read'),
('admin', 'audit:read'),
('admin', 'api_keys:manage'),
('admin', 'team:manage'),
('admin', 'credentials:manage'),
('developer', 'payments:read'),
('developer', 'payments:write'),
('developer', 'invoices:read'),
('developer', 'webhooks:read'),
('developer', 'webhooks:write'),
('developer', 'account:read'),
('developer', 'api_keys:manage'),
('finance', 'payments:read'),
('finance', 'refunds:write'),
('finance', 'payouts:write'),
('finance', 'invoices:read'),
('finance', 'reports:read'),
('finance', 'account:read'),
('finance', 'audit:read'),
('cashier', 'payments:read'),
('cashier', 'payments:write'),
('cashier', 'invoices:read'),
('cashier', 'invoices:write'),
('cashier', 'account:read'),
('auditor', 'payments:read'),
('auditor', 'invoices:read'),
('auditor', 'reports:read'),
('auditor', 'webhooks:read'),
('auditor', 'account:read'),
('auditor', 'audit:read'),
('operator', 'platform:operate'),
('operator', 'payments:read'),
('admin', 'payments:resolve'),
('finance', 'payments:resolve'),
('operator', 'payments:resolve'),
('admin', 'payouts:approve'),
('finance', 'payouts:approve'),
('admin', 'deliveries:read'),
('developer', 'deliveries:read'),
('finance', 'deliveries:read'),
('finance', 'deliveries:manage'),
('auditor', 'deliveries:read'),
('operator', 'deliveries:read'),
('operator', 'deliveries:manage'),
('admin', 'recon:write'),
('finance', 'recon:write'),
('auditor', 'recon:read')
on conflict (app_role, scope) do nothing;

-- shared/fiscal/public.function_roles.csv
-- shared/messages/public.function_roles.csv
-- shared/public.function_roles.csv
insert into public.function_roles (db_role, may_pass_user)
values
('fn_invoices', 'true'),
('fn_receipts', 'true'),
('fn_alerts', 'true'),
('fn_payment_intents', 'true'),
('fn_merchants', 'true'),
('fn_momo_callback', 'false'),
('fn_reconcile', 'true'),
('fn_webhook_endpoints', 'true'),
('fn_webhook_delivery', 'false'),
('fn_events', 'true'),
('fn_refunds', 'true'),
('fn_payouts', 'true'),
('fn_transfers', 'true'),
('fn_recon', 'true'),
('fn_compliance', 'true'),
('fn_ledger', 'true'),
('fn_deliveries', 'true'),
('fn_directory', 'true')
on conflict (db_role) do update set
    may_pass_user = excluded.may_pass_user;

-- shared/public.currencies.csv
insert into public.currencies (code, name, scale)
values
('AED', 'UAE dirham', '2'),
('ALGO', 'Algo', '6'),
('AOA', 'Angolan kwanza', '2'),
('BIF', 'Burundian franc', '0'),
('BWP', 'Botswana pula', '2'),
('CDF', 'Congolese franc', '2'),
('DJF', 'Djibouti franc', '0'),
('EGP', 'Egyptian pound', '2'),
('ERN', 'Eritrean nakfa', '2'),
('ETB', 'Ethiopian birr', '2'),
('EUR', 'Euro', '2'),
('GBP', 'Pound sterling', '2'),
('GHS', 'Ghana cedi', '2'),
('KES', 'Kenyan shilling', '2'),
('LSL', 'Lesotho loti', '2'),
('MAD', 'Moroccan dirham', '2'),
('MGA', 'Malagasy ariary', '2'),
('MUR', 'Mauritius rupee', '2'),
('MWK', 'Malawi kwacha', '2'),
('MZN', 'Mozambique metical', '2'),
('NAD', 'Namibia dollar', '2'),
('NGN', 'Nigerian naira', '2'),
('RWF', 'Rwanda franc', '0'),
('SCR', 'Seychelles rupee', '2'),
('SOS', 'Somali shilling', '2'),
('SSP', 'South Sudanese pound', '2'),
('SZL', 'Swazi lilangeni', '2'),
('TND', 'Tunisian dinar', '3'),
('TZS', 'Tanzanian shilling', '2'),
('UGX', 'Uganda shilling', '0'),
('USD', 'US dollar', '2'),
('USDC', 'USD Coin', '6'),
('USDT', 'Tether USD', '6'),
('XAF', 'Central African CFA franc', '0'),
('XOF', 'West African CFA franc', '0'),
('ZAR', 'South African rand', '2'),
('ZMW', 'Zambian kwacha', '2'),
('ZWG', 'Zimbabwe Gold', '2'),
('ZWL', 'Zimbabwe dollar', '2')
on conflict (code) do update set
    name = excluded.name,
    scale = excluded.scale;

-- shared/public.rate_limit_plans.csv
insert into public.rate_limit_plans (plan, bucket, rate_per_minute, burst)
values
('basic', 'write', '10', '10'),
('basic', 'read', '100', '100'),
('basic', 'manage', '5', '10'),
('pro', 'write', '60', '60'),
('pro', 'read', '600', '200'),
('pro', 'manage', '10', '30'),
('unlimited', 'write', null, null),
('unlimited', 'read', null, null),
('unlimited', 'manage', null, null)
on conflict (plan, bucket) do update set
    rate_per_minute = excluded.rate_per_minute,
    burst = excluded.burst;

-- shared/compliance/public.settings.csv
-- shared/ledger/public.settings.csv
-- shared/messages/public.settings.csv
-- shared/public.settings.csv
-- shared/webhooks/public.settings.csv
insert into public.settings (key, value, comment)
values
('compliance.tier_sandbox', '"T3"', 'Tier of a tenant without one of its own in the sandbox'),
('compliance.tier_production', '"T2"', 'Tier of a tenant without one of its own in production: an operator has seen its documents before activating it'),
('compliance.hold_from', '75', 'Screening score from which a person must look'),
('compliance.deny_from', '90', 'Screening score from which a party is refused'),
('compliance.stale_after_s', '86400', 'A list that nobody imported for so long raises an alert'),
('compliance.unusable_after_s', '259200', 'A list that nobody imported for so long clears nobody any more'),
('ledger.rules_version', '1', 'Version of ledger.posting_rules that new journals are booked by'),
('ledger.hold_lifetime_s', '604800', 'Seconds until an authorisation that was not captured is released'),
('messages.daily_budget', '100', 'Mails a day by UTC; what the provider''s plan allows'),
('messages.keep_days', '90', 'Days after which a message that is done with is removed'),
('messages.sends_per_subject', '5', 'Mails about one payment; sending again is refused after that'),
('alerts.coalesce_s', '900', 'Seconds in which alerts of one kind to one destination share a mail'),
('alerts.remind_s', '86400', 'Seconds after which an alert that goes on is told again'),
('alerts.stuck_after_s', '900', 'Age in seconds at which an open transfer counts as stuck'),
('alerts.slo_least', '20', 'Fewer cases than this say nothing about a service level'),
('api_keys.max_per_tenant', '50', 'Active API keys of one tenant in one environment'),
('invitations.valid_s', '604800', 'Seconds an invitation may be accepted'),
('payments.four_eyes_above_minor', '{"KES": 5000000}', 'Refunds and payouts above this wait for a second person; by currency in minor units'),
('payments.daily_payout_limit_minor', '{"KES": 100000000}', 'What one key or person may pay out in 24 hours; by currency in minor units'),
('outbox.backoff_s', '[1, 5, 30, 120, 600, 3600, 7200, 14400, 28800, 57600]', 'Seconds to wait after the 1st and 2nd … failed attempt at a delivery'),
('outbox.partition_s', '86400', 'How many seconds one partition of the outbox spans'),
('outbox.retention_s', '604800', 'How many seconds the outbox keeps a partition after its end'),
('outbox.ahead_s', '259200', 'How many seconds ahead partitions of the outbox are made'),
('outbox.lag_alert_s', '60', 'Seconds an event may be due at a destination before an alert is raised'),
('webhooks.endpoints_max', '5', 'Webhook endpoints of one tenant in one environment'),
('webhooks.delays_s', '[10, 60, 600, 3600]', 'Seconds before the second attempt and the third and so on; the last one repeats'),
('webhooks.patience_s', '86400', 'Seconds after which an undelivered webhook is given up; it can still be replayed'),
('webhooks.in_flight_max', '50', 'Deliveries to one endpoint at once while it answers well'),
('webhooks.in_flight_failing', '5', 'Deliveries to one endpoint at once while it fails'),
('webhooks.breaker_failures', '5', 'Failures in a row that open an endpoint''s circuit breaker'),
('webhooks.breaker_s', '10', 'Seconds a breaker stays open first; doubled each time up to breaker_max'),
('webhooks.breaker_max_s', '300', 'Longest time a breaker stays open'),
('webhooks.lease_s', '60', 'Seconds a claimed delivery belongs to its dispatcher; longer than any attempt'),
('webhooks.disable_after_s', '432000', 'Seconds of nothing but failures after which an endpoint is disabled'),
('webhooks.overlap_s', '86400', 'Seconds the former secret still signs after a rotation'),
('webhooks.bodies_kept_s', '2592000', 'Seconds payloads and attempts are kept'),
('webhooks.deliveries_kept_s', '31536000', 'Seconds the list of deliveries is kept')
on conflict (key) do update set
    value = excluded.value,
    comment = excluded.comment;

-- shared/public.error_codes.csv
insert into public.error_codes (code, name, status, title, retryable, remedy)
values
('40001', 'InvalidRequest', '400', 'Invalid request', 'false', 'Correct the fields named in errors and send the request again.'),
('40002', 'IdempotencyKeyInvalid', '400', 'Idempotency-Key is missing or invalid', 'false', 'Send an Idempotency-Key header of 1 to 128 visible ASCII characters.'),
('40003', 'FieldNotSupported', '400', 'Field is not supported', 'false', 'Leave out the fields named in errors.'),
('40101', 'AuthenticationRequired', '401', 'Authentication is required', 'false', 'Send an Authorization header with an API key or a user token.'),
('40102', 'KeyInvalid', '401', 'Key is not valid', 'false', 'Use a key that is neither revoked nor expired.'),
('40301', 'TokenInvalid', '403', 'Token is not valid', 'false', 'Sign in again and use the new token.'),
('40302', 'TenantNotOnboarded', '403', 'Tenant is not onboarded', 'false', 'Sign up an organisation first and refresh the token.'),
('40311', 'ScopeMissing', '403', 'Scope is missing', 'false', 'Use a key that has the scope named in detail.'),
('40312', 'RoleNotAllowed', '403', 'Role is not allowed to do this', 'false', 'Ask an owner or admin of the organisation.'),
('40401', 'NotFound', '404', 'Not found', 'false', 'Check the id and the environment of the key.'),
('40501', 'MethodNotAllowed', '405', 'Method is not allowed', 'false', 'Use one of the methods in the Allow header.'),
('40903', 'DuplicateExternalRef', '409', 'external_ref is taken', 'false', 'Use the existing transfer or another external_ref.'),
('40904', 'RequestInProgress', '409', 'A request with this key is still running', 'true', 'Repeat with the same key after Retry-After.'),
('40911', 'InvalidTransition', '409', 'Not allowed in the current state', 'false', 'Read the resource; allowed lists the possible moves.'),
('40914', 'AlreadyExists', '409', 'Already exists', 'false', 'Use the existing resource or another name.'),
('41301', 'BodyTooLarge', '413', 'Body is too large', 'false', 'Send a smaller body.'),
('41501', 'UnsupportedMediaType', '415', 'Unsupported media type', 'false', 'Send the body as application/json.'),
('42201', 'EntityDenied', '422', 'Party is not allowed', 'false', 'Do not repeat it; ask support with the request_id.'),
('42202', 'RouteNotFound', '422', 'No rail reaches this', 'false', 'Read candidates: each says which rule excluded it.'),
('42203', 'IdentityVerificationRequired', '422', 'Party must be screened first', 'false', 'Register the party with POST /functions/v1/compliance/parties and repeat.'),
('42204', 'KycTierInsufficient', '422', 'Tier is too low', 'false', 'Have the organisation''s tier raised.'),
('42206', 'LimitExceeded', '422', 'Limit is exceeded', 'false', 'Wait until room_at or have the organisation''s tier raised.'),
('42241', 'IdempotencyConflict', '422', 'Idempotency-Key was used with another body', 'false', 'Use a new key or send the first body again.'),
('42251', 'InvalidAmount', '422', 'Amount is not valid', 'false', 'Send a decimal string with the decimals of the currency.'),
('42253', 'WebhookUrlForbidden', '422', 'Webhook URL is not allowed', 'false', 'Use an https URL whose host has public addresses only; rule says what was wrong.'),
('42254', 'EndpointLimitReached', '422', 'Too many webhook endpoints', 'false', 'Delete an endpoint you do not use.'),
('42255', 'RefundExceedsRefundable', '422', 'Refund exceeds what can go back', 'false', 'Refund at most the amount named in refundable.'),
('42258', 'PatchFieldNotAllowed', '422', 'Field cannot be changed', 'false', 'Change only the fields the documentation lists.'),
('42259', 'PhoneInvalid', '422', 'Phone number is not valid', 'false', 'Send a mobile number of the rail''s country.'),
('42260', 'RailNotConfigured', '422', 'Rail is not configured', 'false', 'Store credentials of this rail for this environment first.'),
('42261', 'PaymentMethodNotAllowed', '422', 'Payment method is not allowed', 'false', 'Use one of payment_method_types of the intent.'),
('42262', 'InvalidParameter', '422', 'Parameter is not valid', 'false', 'Correct the parameters named in errors.'),
('42263', 'CredentialsRefused', '422', 'Rail refused the credentials', 'false', 'Store the credentials again as the rail issued them.'),
('42270', 'StatementNotAccepted', '422', 'Statement is not accepted', 'false', 'Export the statement again; line names the first line that is wrong.'),
('42271', 'TaxGroupInvalid', '422', 'Tax group is not valid', 'false', 'Use the tax group named in errors or leave tax_group out.'),
('42272', 'ClassificationRuleBroken', '422', 'Client classification is not satisfied', 'false', 'Add the members of client that errors names.'),
('42273', 'TotalsMismatch', '422', 'Totals do not match', 'false', 'Leave computed values out or send the values named in errors.'),
('42274', 'ManifestNotInForce', '422', 'Tax manifest is not in force', 'false', 'Use the manifest version that was in force at the invoice''s timestamp.'),
('42275', 'InvoiceRuleBroken', '422', 'Invoice breaks a rule', 'false', 'Correct the fields named in errors and send the invoice again.'),
('42276', 'CreditExceedsOriginal', '422', 'Credit exceeds the original', 'false', 'Credit at most what errors says is left.'),
('42280', 'JournalUnbalanced', '422', 'Journal does not balance', 'false', 'Make debits and credits equal in the currency named.'),
('42901', 'RateLimited', '429', 'Too many requests', 'true', 'Wait for Retry-After seconds.'),
('50000', 'InternalError', '500', 'Internal error', 'false', 'Report the request_id; repeat only with the same Idempotency-Key.'),
('50201', 'RoutingUnavailable', '502', 'The rail is closed', 'true', 'Repeat with the same Idempotency-Key after Retry-After.'),
('50301', 'DependencyUnavailable', '503', 'A dependency is unavailable', 'true', 'Repeat with the same Idempotency-Key after Retry-After.'),
('50302', 'RailUnavailable', '503', 'The rail is unavailable', 'true', 'Nothing was sent; try again after Retry-After.')
on conflict (code) do update set
    name = excluded.name,
    status = excluded.status,
    title = excluded.title,
    retryable = excluded.retryable,
    remedy = excluded.remedy;

-- shared/public.destinations.csv
insert into public.destinations (destination, function_name, kind, batch, lease_s, max_attempts, stalled_after, enabled, description)
values
('ledger', 'ledger', 'database', '500', '60', '10', '5', 'true', 'Books every transfer event'),
('webhooks', 'webhook_delivery', 'database', '500', '60', '10', '5', 'true', 'Fans events out to the merchants'' endpoints'),
('receipts', 'receipts', 'function', '50', '120', '10', '5', 'true', 'Receipts to payers')
on conflict (destination) do update set
    function_name = excluded.function_name,
    kind = excluded.kind,
    batch = excluded.batch,
    lease_s = excluded.lease_s,
    max_attempts = excluded.max_attempts,
    stalled_after = excluded.stalled_after,
    enabled = excluded.enabled,
    description = excluded.description;

-- shared/messages/public.event_subscriptions.csv
-- shared/public.event_subscriptions.csv
-- shared/webhooks/public.event_subscriptions.csv
insert into public.event_subscriptions (pattern, destination, enabled, description)
values
('refund.succeeded', 'receipts', 'true', 'The payer is told that money came back'),
('transfer.%', 'ledger', 'true', 'The ledger books every transfer event'),
('payment_intent.succeeded', 'receipts', 'true', 'The payer gets a receipt'),
('payment_intent.%', 'webhooks', 'true', 'Merchants are told about their intents'),
('transfer.%', 'webhooks', 'true', 'Merchants are told about their transfers'),
('refund.%', 'webhooks', 'true', 'Merchants are told about their refunds'),
('payout.%', 'webhooks', 'true', 'Merchants are told about their payouts'),
('invoice.%', 'webhooks', 'true', 'Merchants are told about their fiscal invoices')
on conflict (pattern, destination) do update set
    enabled = excluded.enabled,
    description = excluded.description;

-- shared/compliance/public.cron_tasks.csv
-- shared/ledger/public.cron_tasks.csv
-- shared/messages/public.cron_tasks.csv
-- shared/public.cron_tasks.csv
-- shared/recon/public.cron_tasks.csv
-- shared/signing/public.cron_tasks.csv
-- shared/webhooks/public.cron_tasks.csv
insert into public.cron_tasks (task, lane, interval_s, lease_s, routine, enabled, description)
values
('compliance.fold', 'fast', '30', '60', 'compliance.fold_releases', 'true', 'Takes what failed transfers gave back into the counters of limits'),
('compliance.purge', 'slow', '3600', '120', 'compliance.purge_velocity', 'true', 'Removes counters that no window reaches any more'),
('compliance.screen', 'fast', '5', '60', 'compliance.poke_screening', 'true', 'Wakes compliance when a party waits for its first screening or for one against a new list'),
('compliance.lists', 'slow', '300', '60', 'compliance.watch_lists', 'true', 'Raises an alert when a sanctions list is a day old'),
('ledger.check_balances', 'slow', '60', '60', 'ledger.check_balances', 'true', 'Compares balances that moved with their entries'),
('ledger.check_trial_balances', 'slow', '300', '60', 'ledger.check_trial_balances', 'true', 'Compares debits with credits in each tenant''s books'),
('ledger.check_chains', 'slow', '300', '60', 'ledger.check_chains', 'true', 'Verifies the chains of journals'),
('ledger.release_reserves', 'slow', '600', '60', 'ledger.release_reserves', 'true', 'Gives held-back shares to merchants when their time is over'),
('ledger.expire_holds', 'slow', '600', '60', 'ledger.expire_holds', 'true', 'Releases authorisations that were never captured'),
('messages.receipts', 'fast', '10', '60', 'messages.poke_receipts', 'true', 'Wakes receipts when mail to payers is due'),
('messages.purge', 'slow', '3600', '120', 'messages.purge', 'true', 'Removes messages that are done with and old'),
('messages.alerts', 'fast', '15', '60', 'messages.poke_alerts', 'true', 'Wakes alerts when somebody must be told'),
('messages.watch', 'fast', '60', '60', 'messages.watch', 'true', 'Looks for stuck transfers and service levels that are missed'),
('idempotency.purge', 'fast', '30', '60', 'public.purge_idempotency_keys', 'true', 'Removes idempotency keys after 36 hours'),
('rate_buckets.purge', 'slow', '600', '60', 'public.purge_rate_buckets', 'true', 'Removes token buckets that are full again'),
('intents.expire', 'fast', '15', '60', 'payments.expire_intents', 'true', 'Expires unpaid intents whose time is over'),
('rails.reconcile', 'fast', '5', '60', 'rails.poke_reconcile', 'true', 'Wakes the reconciler when a silent transfer is due to be asked about'),
('callbacks.retry', 'fast', '60', '120', 'rails.retry_failed_callbacks', 'true', 'Concludes again from callbacks whose conclusion failed'),
('streams.purge', 'slow', '600', '60', 'payments.purge_streams', 'true', 'Removes spent stream tokens and closed streams'),
('credentials.reseal', 'slow', '3600', '60', 'rails.poke_reseal', 'true', 'Wakes merchants to seal credentials again that are under an older master key'),
('transfers.sweep', 'fast', '15', '60', 'payments.sweep_initiated', 'true', 'Fails transfers that were left behind before they were sent'),
('outbox.poke', 'fast', '3', '60', 'payments.poke_consumers', 'true', 'Wakes every consumer of events that has work which is due'),
('outbox.add_partitions', 'slow', '600', '60', 'payments.add_outbox_partitions', 'true', 'Makes the outbox partitions of the days ahead'),
('outbox.drop_partition', 'slow', '600', '60', 'payments.drop_outbox_partition', 'true', 'Drops the oldest outbox partition when it is over 7 days old and everybody is past it'),
('outbox.watch', 'fast', '30', '60', 'payments.watch_outbox', 'true', 'Alerts about destinations that are behind'),
('recon.daily', 'slow', '300', '600', 'recon.daily', 'true', 'Opens each tenant''s reconciliation session of the day and closes days whose time is over'),
('signing.poke', 'fast', '5', '60', 'signing.poke_queue', 'true', 'Wakes the signer when a numbered document waits for its signature'),
('webhooks.poke', 'fast', '5', '60', 'webhooks.poke_delivery', 'true', 'Wakes the dispatcher when a webhook is due'),
('webhooks.purge', 'slow', '600', '120', 'webhooks.purge', 'true', 'Removes payloads and attempts and deliveries whose time is over')
on conflict (task) do update set
    lane = excluded.lane,
    interval_s = excluded.interval_s,
    lease_s = excluded.lease_s,
    routine = excluded.routine,
    enabled = excluded.enabled,
    description = excluded.description;

reset role;

-- sql/payments/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/states/payments.intent_transitions.csv
insert into payments.intent_transitions (from_status, event, to_status, event_type, triggered_by)
values
('requires_payment_method', 'confirm', 'processing', 'payment_intent.processing', '{api}'),
('requires_payment_method', 'cancel', 'canceled', 'payment_intent.canceled', '{api}'),
('requires_payment_method', 'expire', 'expired', 'payment_intent.expired', '{clock}'),
('requires_payment_method', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('processing', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('processing', 'fail', 'requires_payment_method', 'payment_intent.payment_failed', '{rail}'),
('canceled', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('expired', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('succeeded', 'settle', 'succeeded', 'payment_intent.overpaid', '{rail}'),
('requires_payment_method', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('processing', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('processing', 'deposit_partly', 'processing', 'payment_intent.partially_paid', '{rail}'),
('processing', 'fail_partly', 'partially_paid', 'payment_intent.payment_failed', '{rail}'),
('processing', 'refund', 'processing', 'payment_intent.refunded', '{rail}'),
('processing', 'refund_partly', 'processing', 'payment_intent.partially_refunded', '{rail}'),
('canceled', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('expired', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('partially_paid', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('partially_paid', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('partially_paid', 'confirm', 'processing', 'payment_intent.processing', '{api}'),
('partially_paid', 'refund', 'partially_paid', 'payment_intent.refunded', '{rail}'),
('partially_paid', 'refund_partly', 'partially_paid', 'payment_intent.partially_refunded', '{rail}'),
('succeeded', 'refund', 'succeeded', 'payment_intent.refunded', '{rail}'),
('succeeded', 'refund_partly', 'succeeded', 'payment_intent.partially_refunded', '{rail}')
on conflict (from_status, event) do update set
    to_status = excluded.to_status,
    event_type = excluded.event_type,
    triggered_by = excluded.triggered_by;

-- shared/states/payments.transfer_transitions.csv
insert into payments.transfer_transitions (from_state, event, to_state, event_type, triggered_by)
values
('INITIATED', 'submit', 'SUBMITTED', 'transfer.submitted', '{api,callback}'),
('INITIATED', 'fail', 'FAILED', 'transfer.failed', '{api,clock}'),
('SUBMITTED', 'accept', 'ACCEPTED', 'transfer.accepted', '{submit,query}'),
('SUBMITTED', 'settle', 'SETTLED', 'transfer.settled', '{callback,query,operator,recon}'),
('SUBMITTED', 'fail', 'FAILED', 'transfer.failed', '{submit,callback,query,operator}'),
('ACCEPTED', 'settle', 'SETTLED', 'transfer.settled', '{callback,query,operator,recon}'),
('ACCEPTED', 'fail', 'FAILED', 'transfer.failed', '{callback,query,operator}'),
('ACCEPTED', 'return', 'RETURNED', 'transfer.returned', '{callback,query,operator,recon}'),
('SETTLED', 'return', 'RETURNED', 'transfer.returned', '{callback,query,operator,refund,recon}'),
('FAILED', 'settle', 'SETTLED', 'transfer.settled', '{query,operator}')
on conflict (from_state, event) do update set
    to_state = excluded.to_state,
    event_type = excluded.event_type,
    triggered_by = excluded.triggered_by;

reset role;

-- sql/rails/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/rails/mpesa/rails.rails.csv
insert into rails.rails (rail, name, currencies, min_minor, max_minor, step_minor, step_rule, query_waits_s, unanswerable_after_s, horizon_s, prompt_lifetime_s, confirm_above_minor, callback_function, intents, payout_min_minor, payout_max_minor, reverses_within_s, reverses_partly)
values
('mpesa', 'M-Pesa', '{KES}', '100', '25000000', '100', 'M-Pesa takes whole shillings', '{60,60,120,240,300,300,300,300,300,300,300,300,300,300,300,300,3600}', '600', '86400', '90', null, 'momo-callback', '{PUSH,PULL}', '1000', '25000000', '2592000', 'false')
on conflict (rail) do update set
    name = excluded.name,
    currencies = excluded.currencies,
    min_minor = excluded.min_minor,
    max_minor = excluded.max_minor,
    step_minor = excluded.step_minor,
    step_rule = excluded.step_rule,
    query_waits_s = excluded.query_waits_s,
    unanswerable_after_s = excluded.unanswerable_after_s,
    horizon_s = excluded.horizon_s,
    prompt_lifetime_s = excluded.prompt_lifetime_s,
    confirm_above_minor = excluded.confirm_above_minor,
    callback_function = excluded.callback_function,
    intents = excluded.intents,
    payout_min_minor = excluded.payout_min_minor,
    payout_max_minor = excluded.payout_max_minor,
    reverses_within_s = excluded.reverses_within_s,
    reverses_partly = excluded.reverses_partly;

-- shared/rails/mpesa/rails.reason_codes.csv
insert into rails.reason_codes (rail, channel, code, outcome, reason, retry_after_s, repeat_after_s, repeat_outcome, payer_may_retry, meaning, source)
values
('mpesa', 'stk', '0', 'succeeded', null, null, null, null, 'false', 'The payment was made', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '1', 'failed_final', 'MM_INSUFFICIENT_FUNDS', null, null, null, 'true', 'The payer has too little money', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '17', 'failed_retryable', 'MM_LIMIT_EXCEEDED', '300', null, null, 'true', 'Internal failure or a limit of the payer', 'Daraja result codes; weak'),
('mpesa', 'stk', '26', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'M-Pesa was busy', 'Daraja result codes'),
('mpesa', 'stk', '1001', 'failed_retryable', 'MM_SUBSCRIBER_LOCKED', '150', null, null, 'true', 'Another prompt is open on the payer''s phone', 'Daraja STK result codes'),
('mpesa', 'stk', '1019', 'failed_final', 'MM_TIMEOUT', null, null, null, 'true', 'The prompt expired', 'Daraja STK result codes'),
('mpesa', 'stk', '1025', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The prompt could not be sent', 'Daraja STK result codes'),
('mpesa', 'stk', '1032', 'failed_final', 'MM_USER_CANCELLED', null, null, null, 'true', 'The payer cancelled the prompt', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '1036', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The message centre did not acknowledge the prompt', 'Daraja STK result codes'),
('mpesa', 'stk', '1037', 'unknown', 'MM_TIMEOUT', null, '60', 'failed_final', 'true', 'The phone was unreachable or nobody answered', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '2001', 'failed_final', 'MM_WRONG_PIN', null, null, null, 'true', 'The payer entered a wrong PIN', 'Daraja STK result codes'),
('mpesa', 'stk', '2028', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The short code may not use this product', 'Daraja result codes'),
('mpesa', 'stk', '4999', 'pending', null, null, null, null, 'false', 'The payment is still being processed', 'Observed in sandbox'),
('mpesa', 'stk', '8006', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The security credential is locked', 'Daraja result codes'),
('mpesa', 'stk', '9999', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The prompt could not be sent', 'Daraja STK result codes'),
('mpesa', 'stk', 'SFC_IC0003', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The till or pay bill does not belong to the short code', 'Daraja result codes'),
('mpesa', 'api', '00.002.1001', 'failed_retryable', 'RAIL_UNAVAILABLE', '300', null, null, 'true', 'M-Pesa is under maintenance', 'Daraja API errors'),
('mpesa', 'api', '400.002.02', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'A field of the request is invalid', 'Daraja API errors'),
('mpesa', 'api', '400.002.02/phonenumber', 'failed_final', 'MM_MSISDN_INVALID', null, null, null, 'true', 'The payer''s number is not accepted', 'Daraja API errors'),
('mpesa', 'api', '400.002.05', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The request is invalid', 'Daraja API errors'),
('mpesa', 'api', '400.003.01', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The access token is not accepted', 'Daraja API errors'),
('mpesa', 'api', '400.003.02', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The short code is not the merchant''s', 'Daraja API errors'),
('mpesa', 'api', '400.008.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The consumer key or secret is not accepted', 'Daraja API errors'),
('mpesa', 'api', '400.008.02', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The grant type is not accepted', 'Daraja API errors'),
('mpesa', 'api', '401', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'HTTP 401 without a code: the app may not use this product', 'Daraja token errors'),
('mpesa', 'api', '401.002.01', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The access token is not accepted', 'Daraja API errors'),
('mpesa', 'api', '403.002.1001', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The app is not authorised for this product', 'Daraja API errors'),
('mpesa', 'api', '404.001.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The path does not exist', 'Daraja API errors'),
('mpesa', 'api', '404.001.03', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The access token is not accepted', 'Daraja API errors'),
('mpesa', 'api', '404.001.04', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'A request header is wrong', 'Daraja API errors'),
('mpesa', 'api', '404.002.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The path does not exist', 'Daraja API errors'),
('mpesa', 'api', '404.003.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The path does not exist', 'Daraja API errors'),
('mpesa', 'api', '405.001', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The method is not allowed', 'Daraja API errors'),
('mpesa', 'api', '500.001.1001', 'unknown', null, null, null, null, 'false', 'M-Pesa did not say what happened', 'Daraja API errors; observed in sandbox'),
('mpesa', 'api', '500.001.1001/is being processed', 'pending', null, null, null, null, 'false', 'The payment is still being processed', 'Observed in sandbox'),
('mpesa', 'api', '500.001.1001/merchant does not exist', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The short code is not known', 'Daraja API errors'),
('mpesa', 'api', '500.001.1001/unable to lock subscriber', 'failed_retryable', 'MM_SUBSCRIBER_LOCKED', '60', null, null, 'true', 'Another prompt is open on the payer''s phone', 'Daraja API errors'),
('mpesa', 'api', '500.001.1001/wrong credentials', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The passkey or short code is wrong', 'Daraja API errors'),
('mpesa', 'api', '500.002.1001', 'unknown', 'DUPLICATE_AT_RAIL', null, null, null, 'false', 'The request was already accepted: ask for its state', 'Daraja API errors'),
('mpesa', 'api', '500.003.02', 'failed_retryable', 'RAIL_UNAVAILABLE', '10', null, null, 'true', 'Too many requests: refused before processing', 'Daraja API errors'),
('mpesa', 'api', '500.003.03', 'failed_retryable', 'RAIL_UNAVAILABLE', '600', null, null, 'true', 'The quota is used up', 'Daraja API errors'),
('mpesa', 'api', '500.003.1001', 'unknown', 'RAIL_UNAVAILABLE', null, null, null, 'false', 'Internal error at M-Pesa', 'Daraja API errors'),
('mpesa', 'result', '0', 'succeeded', null, null, null, null, 'false', 'The money was sent', 'Daraja B2C and reversal results'),
('mpesa', 'result', '1', 'failed_retryable', 'MERCHANT_NO_FLOAT', '3600', null, null, 'true', 'The utility account holds too little: top it up', 'Daraja B2C results'),
('mpesa', 'result', '2', 'failed_final', 'MM_LIMIT_EXCEEDED', null, null, null, 'false', 'The amount is below the minimum', 'Daraja B2C results'),
('mpesa', 'result', '3', 'failed_final', 'MM_LIMIT_EXCEEDED', null, null, null, 'false', 'The amount is above the maximum', 'Daraja B2C results'),
('mpesa', 'result', '4', 'failed_final', 'MM_LIMIT_EXCEEDED', null, null, null, 'false', 'The daily limit is reached', 'Daraja B2C results'),
('mpesa', 'result', '8', 'failed_final', 'MM_LIMIT_EXCEEDED', null, null, null, 'false', 'The receiver may not hold that much', 'Daraja B2C results'),
('mpesa', 'result', '11', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The account that pays is not in a valid state', 'Daraja B2C results'),
('mpesa', 'result', '21', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The initiator may not do this', 'Daraja B2C and reversal results'),
('mpesa', 'result', '2001', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The initiator''s name or password is wrong or expired', 'Daraja B2C results'),
('mpesa', 'result', '2006', 'failed_final', 'MM_ACCOUNT_INACTIVE', null, null, null, 'false', 'The receiver''s account is not active', 'Daraja B2C results'),
('mpesa', 'result', '2028', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The short code may not use this product', 'Daraja B2C results'),
('mpesa', 'result', '2040', 'failed_final', 'MM_NOT_REGISTERED', null, null, null, 'false', 'The receiver is not registered with M-Pesa', 'Daraja B2C results'),
('mpesa', 'result', '8006', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The security credential is locked', 'Daraja B2C results'),
('mpesa', 'result', 'SFC_IC0003', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The operator does not exist', 'Daraja B2C results'),
('mpesa', 'result', 'R000001', 'unknown', 'ALREADY_REVERSED', null, null, null, 'false', 'The payment was reversed before: by us or by somebody else', 'Daraja reversal results'),
('mpesa', 'result', 'R000002', 'failed_final', 'MM_RECEIPT_UNKNOWN', null, null, null, 'false', 'M-Pesa does not know the receipt', 'Daraja reversal results'),
('mpesa', 'result', 'QueueTimeOut', 'unknown', 'RAIL_TIMEOUT', null, null, null, 'false', 'M-Pesa''s queue gave up and may still act', 'Daraja QueueTimeOutURL; told by Safaricom'),
('mpesa', 'status', 'Completed', 'succeeded', null, null, null, null, 'false', 'The money was sent', 'Daraja transaction status'),
('mpesa', 'status', 'Cancelled', 'failed_final', 'MM_DECLINED', null, null, null, 'false', 'The transaction was cancelled', 'Daraja transaction status'),
('mpesa', 'status', 'Declined', 'failed_final', 'MM_DECLINED', null, null, null, 'false', 'The transaction was declined', 'Daraja transaction status'),
('mpesa', 'status', 'Expired', 'failed_final', 'MM_TIMEOUT', null, null, null, 'false', 'The transaction expired', 'Daraja transaction status'),
('mpesa', 'status', 'Initiated', 'pending', null, null, null, null, 'false', 'The transaction is being processed', 'Daraja transaction status'),
('mpesa', 'status', 'Authorized', 'pending', null, null, null, null, 'false', 'The transaction is being processed', 'Daraja transaction status'),
('mpesa', 'status', 'Pending Authorized', 'pending', null, null, null, null, 'false', 'The transaction waits for an authorisation', 'Daraja transaction status')
on conflict (rail, channel, code) do update set
    outcome = excluded.outcome,
    reason = excluded.reason,
    retry_after_s = excluded.retry_after_s,
    repeat_after_s = excluded.repeat_after_s,
    repeat_outcome = excluded.repeat_outcome,
    payer_may_retry = excluded.payer_may_retry,
    meaning = excluded.meaning,
    source = excluded.source;

reset role;

-- sql/compliance/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/compliance/compliance.tiers.csv
insert into compliance.tiers (tier, label, directions, corridors, description)
values
('T0', 'minimal', '{in}', '{domestic}', 'Name and a phone that was reached: collects a little at home and pays nothing out'),
('T1', 'basic', '{in,out}', '{domestic,regional}', 'Registration and identity documents seen'),
('T2', 'enhanced', '{in,out}', '{domestic,regional,international}', 'Address and source of funds seen too: where an organisation starts once the platform has activated it'),
('T3', 'full', '{in,out}', '{domestic,regional,international}', 'Fully known and watched: only the limits of rails and regulators hold')
on conflict (tier) do update set
    label = excluded.label,
    directions = excluded.directions,
    corridors = excluded.corridors,
    description = excluded.description;

-- shared/compliance/compliance.limits.csv
insert into compliance.limits (limit_name, tier, subject, direction, rail, corridor, window_s, max_count, max_usd_minor)
values
('t0_transfer', 'T0', 'transfer', null, null, null, null, null, '5000'),
('t0_tenant_day_value', 'T0', 'tenant', null, null, null, '86400', null, '5000'),
('t0_tenant_month_value', 'T0', 'tenant', null, null, null, '2592000', null, '30000'),
('t0_party_hour_count', 'T0', 'party', null, null, null, '3600', '5', null),
('t1_transfer', 'T1', 'transfer', null, null, null, null, null, '100000'),
('t1_transfer_regional', 'T1', 'transfer', null, null, 'regional', null, null, '50000'),
('t1_tenant_day_value', 'T1', 'tenant', null, null, null, '86400', null, '100000'),
('t1_tenant_month_value', 'T1', 'tenant', null, null, null, '2592000', null, '1000000'),
('t1_party_hour_count', 'T1', 'party', null, null, null, '3600', '20', null),
('t1_party_day_count', 'T1', 'party', null, null, null, '86400', '50', null),
('t2_transfer', 'T2', 'transfer', null, null, null, null, null, '500000'),
('t2_transfer_international', 'T2', 'transfer', null, null, 'international', null, null, '250000'),
('t2_tenant_day_value', 'T2', 'tenant', null, null, null, '86400', null, '500000'),
('t2_tenant_month_value', 'T2', 'tenant', null, null, null, '2592000', null, '5000000'),
('t2_party_hour_count', 'T2', 'party', null, null, null, '3600', '60', null)
on conflict (limit_name) do update set
    tier = excluded.tier,
    subject = excluded.subject,
    direction = excluded.direction,
    rail = excluded.rail,
    corridor = excluded.corridor,
    window_s = excluded.window_s,
    max_count = excluded.max_count,
    max_usd_minor = excluded.max_usd_minor;

-- shared/compliance/compliance.limit_rates.csv
insert into compliance.limit_rates (currency, minor_per_usd, as_of)
values
('USD', '100', '2026-11-01'),
('USDC', '1000000', '2026-11-01'),
('USDT', '1000000', '2026-11-01'),
('EUR', '86', '2026-11-01'),
('GBP', '76', '2026-11-01'),
('KES', '12900', '2026-11-01'),
('UGX', '3600', '2026-11-01'),
('TZS', '245000', '2026-11-01'),
('RWF', '1450', '2026-11-01'),
('CDF', '240000', '2026-11-01'),
('ZAR', '1730', '2026-11-01'),
('ZMW', '2250', '2026-11-01'),
('ZWG', '2640', '2026-11-01'),
('ETB', '15200', '2026-11-01'),
('GHS', '1090', '2026-11-01'),
('NGN', '145000', '2026-11-01'),
('MZN', '6390', '2026-11-01'),
('BWP', '1340', '2026-11-01')
on conflict (currency) do update set
    minor_per_usd = excluded.minor_per_usd,
    as_of = excluded.as_of;

-- shared/compliance/compliance.country_regions.csv
insert into compliance.country_regions (country, region)
values
('BI', 'EAC'),
('CD', 'EAC'),
('KE', 'EAC'),
('RW', 'EAC'),
('SO', 'EAC'),
('SS', 'EAC'),
('TZ', 'EAC'),
('UG', 'EAC'),
('AO', 'SADC'),
('BW', 'SADC'),
('CD', 'SADC'),
('LS', 'SADC'),
('MG', 'SADC'),
('MU', 'SADC'),
('MW', 'SADC'),
('MZ', 'SADC'),
('NA', 'SADC'),
('SC', 'SADC'),
('SZ', 'SADC'),
('TZ', 'SADC'),
('ZA', 'SADC'),
('ZM', 'SADC'),
('ZW', 'SADC')
on conflict (country, region) do nothing;

-- shared/compliance/compliance.lists.csv
insert into compliance.lists (source, name, required)
values
('ofac', 'OFAC Specially Designated Nationals (SDN.XML)', 'true'),
('un', 'United Nations Security Council consolidated list', 'true'),
('eu', 'European Union consolidated financial sanctions (FSF 1.1)', 'true')
on conflict (source) do update set
    name = excluded.name,
    required = excluded.required;

reset role;

-- sql/directory/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/rails/mpesa/directory.rail_facts.csv
insert into directory.rail_facts (rail, country, latency_ms, failure_bps, fx_spread_bps, health, priority)
values
('mpesa', 'KE', '20000', '1500', '0', 'healthy', '10')
on conflict (rail) do update set
    country = excluded.country,
    latency_ms = excluded.latency_ms,
    failure_bps = excluded.failure_bps,
    fx_spread_bps = excluded.fx_spread_bps,
    health = excluded.health,
    priority = excluded.priority;

-- shared/directory/directory.alias_types.csv
insert into directory.alias_types (alias_type, matching, pattern, entry_pattern, description)
values
('msisdn', 'prefix', '^\+[1-9][0-9]{7,14}$', '^\+[1-9][0-9]{0,13}$', 'A phone number in E.164: the operator by its prefix'),
('bin', 'prefix', '^[0-9]{6,8}$', '^[0-9]{6,8}$', 'The first digits of a card: its issuer'),
('member_id', 'exact', '^[A-Z0-9]{2,12}$', '^[A-Z0-9]{2,12}$', 'A member of a scheme such as ZimSwitch'),
('bank_code', 'exact', '^[0-9]{5,6}$', '^[0-9]{5,6}$', 'A national bank and branch code'),
('chain_address', 'exact', '^[A-Za-z0-9]{26,64}$', '^[A-Za-z0-9]{26,64}$', 'An address on a chain'),
('wallet_id', 'exact', '^[A-Za-z0-9_-]{3,64}$', '^[A-Za-z0-9_-]{3,64}$', 'A wallet or account on our own books')
on conflict (alias_type) do update set
    matching = excluded.matching,
    pattern = excluded.pattern,
    entry_pattern = excluded.entry_pattern,
    description = excluded.description;

-- shared/directory/directory.institutions.csv
insert into directory.institutions (institution_id, name, country, kind, status)
values
('safaricom_ke', 'Safaricom M-PESA (Kenya)', 'KE', 'mobile_money', 'active'),
('airtel_ke', 'Airtel Money (Kenya)', 'KE', 'mobile_money', 'active'),
('telkom_ke', 'T-kash, Telkom (Kenya)', 'KE', 'mobile_money', 'active')
on conflict (institution_id) do update set
    name = excluded.name,
    country = excluded.country,
    kind = excluded.kind,
    status = excluded.status;

-- shared/directory/directory.entries.csv
insert into directory.entries (alias_type, alias, institution_id, rail, effective_from)
values
('msisdn', '+254110', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254111', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254112', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254113', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254114', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254115', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254700', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254701', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254702', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254703', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254704', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254705', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254706', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254707', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254708', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254709', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254710', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254711', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254712', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254713', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254714', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254715', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254716', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254717', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254718', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254719', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254720', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254721', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254722', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254723', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254724', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254725', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254726', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254727', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254728', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254729', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254740', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254741', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254742', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254743', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254745', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254746', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254748', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254757', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254758', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254759', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254768', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254769', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254790', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254791', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254792', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254793', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254794', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254795', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254796', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254797', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254798', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254799', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254100', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254101', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254102', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254103', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254104', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254105', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254106', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254730', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254731', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254732', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254733', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254734', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254735', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254736', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254737', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254738', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254739', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254750', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254751', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254752', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254753', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254754', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254755', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254756', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254762', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254780', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254781', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254782', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254783', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254784', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254785', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254786', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254787', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254788', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254789', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254770', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254771', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254772', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254773', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254774', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254775', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254776', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254777', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254778', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254779', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('member_id', 'MPESA', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00')
on conflict (alias_type, alias, institution_id, effective_from) do update set
    rail = excluded.rail;

-- shared/rails/mpesa/directory.fees.csv
insert into directory.fees (rail, direction, currency, effective_from, bps, fixed_minor)
values
('mpesa', 'in', 'KES', '2020-01-01 00:00:00+00', '55', '0'),
('mpesa', 'out', 'KES', '2020-01-01 00:00:00+00', '0', '1300')
on conflict (rail, direction, currency, effective_from) do update set
    bps = excluded.bps,
    fixed_minor = excluded.fixed_minor;

-- shared/directory/directory.calendars.csv
insert into directory.calendars (calendar, day, description)
values
('KE', '2026-01-01', 'New Year''s Day'),
('KE', '2026-04-03', 'Good Friday'),
('KE', '2026-04-06', 'Easter Monday'),
('KE', '2026-05-01', 'Labour Day'),
('KE', '2026-06-01', 'Madaraka Day'),
('KE', '2026-10-10', 'Mazingira Day'),
('KE', '2026-10-20', 'Mashujaa Day'),
('KE', '2026-12-12', 'Jamhuri Day'),
('KE', '2026-12-25', 'Christmas Day'),
('KE', '2026-12-26', 'Utamaduni Day'),
('KE', '2027-01-01', 'New Year''s Day'),
('KE', '2027-03-26', 'Good Friday'),
('KE', '2027-03-29', 'Easter Monday'),
('KE', '2027-05-01', 'Labour Day'),
('KE', '2027-06-01', 'Madaraka Day'),
('KE', '2027-10-10', 'Mazingira Day'),
('KE', '2027-10-20', 'Mashujaa Day'),
('KE', '2027-12-12', 'Jamhuri Day'),
('KE', '2027-12-25', 'Christmas Day'),
('KE', '2027-12-26', 'Utamaduni Day')
on conflict (calendar, day) do update set
    description = excluded.description;

reset role;

-- sql/ledger/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/ledger/ledger.chart.csv
insert into ledger.chart (name, number, type, class, normal_side, when_negative, description)
values
('LIQUIDITY', '1000', 'LIQUIDITY', 'asset', 'debit', 'allow', 'Pooled cash or stablecoin of a currency'),
('SETTLEMENT', '1100', 'SETTLEMENT', 'asset', 'debit', 'allow', 'In transit: what a rail owes us (debit) or we owe it (credit)'),
('RECEIVABLES', '1200', 'RECEIVABLE', 'asset', 'debit', 'warn', 'Unsettled merchant payments'),
('COLLATERAL', '1300', 'RECEIVABLE', 'asset', 'debit', 'warn', 'Collateral of product extensions'),
('NOSTRO', '1400', 'NOSTRO', 'asset', 'debit', 'warn', 'Our money at other banks'),
('USER', '2000', 'USER', 'liability', 'credit', 'block', 'Owed to end users; payers and payees of a rail pass through it'),
('MERCHANT', '2100', 'MERCHANT', 'liability', 'credit', 'warn', 'Owed to the merchant; negative when money went out that came in elsewhere'),
('RESERVE', '2150', 'RESERVE', 'liability', 'credit', 'allow', 'Held back from the merchant'),
('DEFERRED_REVENUE', '2200', 'PAYABLE', 'liability', 'credit', 'warn', 'Collected and not yet earned'),
('RETURNS_PAYABLE', '2300', 'PAYABLE', 'liability', 'credit', 'warn', 'Chargebacks and returns owed'),
('FEES_PARTNER', '2400', 'FEES', 'liability', 'credit', 'warn', 'Surcharges of a rail until paid out'),
('PARTNER_PAYABLE', '2410', 'PAYABLE', 'liability', 'credit', 'warn', 'Owed to a partner'),
('FEES_VAT', '2500', 'TAX', 'liability', 'credit', 'warn', 'Output tax on our fees'),
('VOSTRO', '2600', 'VOSTRO', 'liability', 'credit', 'warn', 'Other banks'' money with us'),
('CONTRIBUTED_CAPITAL', '3000', 'EQUITY', 'equity', 'credit', 'warn', 'Paid in by the owners'),
('RETAINED_EARNINGS', '3100', 'EQUITY', 'equity', 'credit', 'allow', 'Results of closed periods'),
('NET_INCOME', '3200', 'EQUITY', 'equity', 'credit', 'allow', 'Result of the period being closed'),
('FEES_NET', '4000', 'FEES', 'revenue', 'credit', 'warn', 'Our fees without tax'),
('FX_SPREAD_INCOME', '4100', 'FX', 'revenue', 'credit', 'warn', 'Income from exchange spreads'),
('SERVICE_FEES', '4200', 'FEES', 'revenue', 'credit', 'warn', 'Other service fees'),
('PROCESSING_COSTS', '5000', 'EXPENSE', 'expense', 'debit', 'warn', 'What rails charge us'),
('CHARGEBACK_LOSSES', '5100', 'EXPENSE', 'expense', 'debit', 'warn', 'Chargebacks nobody else bears'),
('OPERATING', '5200', 'EXPENSE', 'expense', 'debit', 'warn', 'Operating expenses'),
('FEES_REVERSAL', '5300', 'FEES', 'revenue', 'debit', 'warn', 'Contra revenue: fees given back on returns'),
('FX_PNL', '5900', 'FX', 'expense', 'debit', 'allow', 'Quoted against realised rates'),
('FX_PNL_ROUNDING', '5910', 'FX', 'expense', 'debit', 'allow', 'Rounding of conversions; stays near zero'),
('USER_AUTH_HOLD', 'M100', 'MEMO', 'memo', 'debit', 'block', 'Authorised by payers and not captured'),
('LIQUIDITY_AUTH_PENDING', 'M110', 'MEMO', 'memo', 'credit', 'block', 'The other side of authorisations')
on conflict (name) do update set
    number = excluded.number,
    type = excluded.type,
    class = excluded.class,
    normal_side = excluded.normal_side,
    when_negative = excluded.when_negative,
    description = excluded.description;

-- shared/ledger/ledger.event_types.csv
insert into ledger.event_types (event_type, wave, condition, description)
values
('transfer.initiated', null, 'always', 'Nothing moved yet'),
('transfer.submitted', null, 'always', 'Nothing moved yet'),
('transfer.accepted', '1', 'authorises', 'An authorisation is held in memo accounts; other rails only took the order'),
('transfer.settled', '2', 'always', 'Money moved'),
('transfer.failed', '2', 'holds', 'Nothing moved; an authorisation is released'),
('transfer.returned', '3', 'not_by_refund', 'The rail sent money back; refunds are booked by their own transfer'),
('transfer.needs_review', null, 'always', 'A person decides; nothing is booked before'),
('transfer.review_resolved', null, 'always', 'What a person decided comes as an event of its own'),
('transfer.receipt_recorded', null, 'always', 'A reference that came later'),
('transfer.partially_returned', null, 'always', 'Refunds are booked by their own transfer'),
('transfer.unallocated', null, 'always', 'Booked as a deposit already'),
('transfer.allocated', null, 'always', 'Booked as a deposit already'),
('settlement.cleared', '2', 'always', 'A statement line of the rail was matched'),
('reserve.released', '2', 'always', 'The time of a held-back share is over'),
('hold.expired', '2', 'always', 'An authorisation was never captured'),
('journal.adjusted', '2', 'always', 'An adjustment that two people agreed on'),
('period.closed', '2', 'always', 'Closing entries of a month')
on conflict (event_type) do update set
    wave = excluded.wave,
    condition = excluded.condition,
    description = excluded.description;

-- shared/ledger/ledger.posting_rules.csv
insert into ledger.posting_rules (rules_version, event_type, purpose, intent, rail, is_fx, leg_no, leg, debit, credit, amount, amount_currency)
values
('1', 'transfer.settled', 'collection', '*', '*', 'false', '1', 'fund_in', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'false', '2', 'principal', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'false', '3', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'false', '4', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'false', '6', 'reserve', 'MERCHANT:{tenant}', 'RESERVE:{tenant}', 'reserve', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'false', '1', 'fund_in', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'false', '2', 'principal', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'false', '3', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'false', '4', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'false', '6', 'reserve', 'MERCHANT:{tenant}', 'RESERVE:{tenant}', 'reserve', 'payment'),
('1', 'transfer.settled', 'direct', 'PULL', '*', 'false', '1', 'fund_in', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'direct', 'PULL', '*', 'false', '2', 'principal', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.settled', 'direct', 'PULL', '*', 'false', '3', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', 'direct', 'PULL', '*', 'false', '4', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'direct', 'PULL', '*', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', 'direct', 'PULL', '*', 'false', '6', 'reserve', 'MERCHANT:{tenant}', 'RESERVE:{tenant}', 'reserve', 'payment'),
('1', 'transfer.settled', 'direct', 'PUSH', '*', 'false', '1', 'principal', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'direct', 'PUSH', '*', 'false', '2', 'pay_out', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'direct', 'PUSH', '*', 'false', '3', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', 'direct', 'PUSH', '*', 'false', '4', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'direct', 'PUSH', '*', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', '*', 'CAPTURE', '*', 'false', '1', 'hold_release', 'LIQUIDITY_AUTH_PENDING', 'USER_AUTH_HOLD', 'held', 'payment'),
('1', 'transfer.settled', '*', 'CAPTURE', '*', 'false', '2', 'fund_in', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', '*', 'CAPTURE', '*', 'false', '3', 'principal', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.settled', '*', 'CAPTURE', '*', 'false', '4', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', '*', 'CAPTURE', '*', 'false', '5', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', '*', 'CAPTURE', '*', 'false', '6', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', '*', 'CAPTURE', '*', 'false', '7', 'reserve', 'MERCHANT:{tenant}', 'RESERVE:{tenant}', 'reserve', 'payment'),
('1', 'transfer.settled', 'payout', '*', '*', 'false', '1', 'principal', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'payout', '*', '*', 'false', '2', 'pay_out', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'payout', '*', '*', 'false', '3', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', 'payout', '*', '*', 'false', '4', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'payout', '*', '*', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'false', '1', 'return', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'false', '2', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.returned', 'collection', '*', '*', 'false', '1', 'return', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'collection', '*', '*', 'false', '2', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'collection', '*', '*', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.returned', 'collection', '*', '*', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.returned', 'collection', '*', '*', 'false', '5', 'return_charge', 'PROCESSING_COSTS', 'SETTLEMENT:{rail}', 'surcharge', 'payment'),
('1', 'transfer.returned', 'c2b', '*', '*', 'false', '1', 'return', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'c2b', '*', '*', 'false', '2', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'c2b', '*', '*', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.returned', 'c2b', '*', '*', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.returned', 'c2b', '*', '*', 'false', '5', 'return_charge', 'PROCESSING_COSTS', 'SETTLEMENT:{rail}', 'surcharge', 'payment'),
('1', 'transfer.returned', 'direct', 'PULL', '*', 'false', '1', 'return', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'direct', 'PULL', '*', 'false', '2', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'direct', 'PULL', '*', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.returned', 'direct', 'PULL', '*', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.returned', 'direct', 'PULL', '*', 'false', '5', 'return_charge', 'PROCESSING_COSTS', 'SETTLEMENT:{rail}', 'surcharge', 'payment'),
('1', 'transfer.returned', '*', 'CAPTURE', '*', 'false', '1', 'return', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', '*', 'CAPTURE', '*', 'false', '2', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', '*', 'CAPTURE', '*', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.returned', '*', 'CAPTURE', '*', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.returned', '*', 'CAPTURE', '*', 'false', '5', 'return_charge', 'PROCESSING_COSTS', 'SETTLEMENT:{rail}', 'surcharge', 'payment'),
('1', 'transfer.returned', 'payout', '*', '*', 'false', '1', 'pay_out_return', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'payout', '*', '*', 'false', '2', 'return', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.returned', 'payout', '*', '*', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.returned', 'payout', '*', '*', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.returned', 'direct', 'PUSH', '*', 'false', '1', 'pay_out_return', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'direct', 'PUSH', '*', 'false', '2', 'return', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.returned', 'direct', 'PUSH', '*', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.returned', 'direct', 'PUSH', '*', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.returned', 'refund', '*', '*', 'false', '1', 'pay_back_undone', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'refund', '*', '*', 'false', '2', 'return_undone', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.returned', 'refund', '*', '*', 'false', '3', 'fee_again', 'MERCHANT:{tenant}', 'FEES_REVERSAL', 'fee', 'payment'),
('1', 'transfer.returned', 'refund', '*', '*', 'false', '4', 'fee_tax_again', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'true', '1', 'fund_in', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'true', '2', 'fx_out', 'USER:{rail}', 'LIQUIDITY:{currency}', 'gross', 'payment'),
('1', 'transfer.settled', 'collection', '*', '*', 'true', '3', 'principal', 'LIQUIDITY:{currency}', 'MERCHANT:{tenant}', 'fx_settled', 'settlement'),
('1', 'transfer.settled', 'collection', '*', '*', 'true', '4', 'fx_loss', 'FX_PNL', 'MERCHANT:{tenant}', 'fx_loss', 'settlement'),
('1', 'transfer.settled', 'collection', '*', '*', 'true', '5', 'fx_gain', 'MERCHANT:{tenant}', 'FX_PNL', 'fx_gain', 'settlement'),
('1', 'transfer.settled', 'collection', '*', '*', 'true', '6', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'settlement'),
('1', 'transfer.settled', 'collection', '*', '*', 'true', '7', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'settlement'),
('1', 'transfer.settled', 'c2b', '*', '*', 'true', '1', 'fund_in', 'SETTLEMENT:{rail}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'true', '2', 'fx_out', 'USER:{rail}', 'LIQUIDITY:{currency}', 'gross', 'payment'),
('1', 'transfer.settled', 'c2b', '*', '*', 'true', '3', 'principal', 'LIQUIDITY:{currency}', 'MERCHANT:{tenant}', 'fx_settled', 'settlement'),
('1', 'transfer.settled', 'c2b', '*', '*', 'true', '4', 'fx_loss', 'FX_PNL', 'MERCHANT:{tenant}', 'fx_loss', 'settlement'),
('1', 'transfer.settled', 'c2b', '*', '*', 'true', '5', 'fx_gain', 'MERCHANT:{tenant}', 'FX_PNL', 'fx_gain', 'settlement'),
('1', 'transfer.settled', 'c2b', '*', '*', 'true', '6', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'settlement'),
('1', 'transfer.settled', 'c2b', '*', '*', 'true', '7', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'settlement'),
('1', 'transfer.returned', 'collection', '*', '*', 'true', '1', 'return', 'MERCHANT:{tenant}', 'LIQUIDITY:{currency}', 'fx_settled', 'settlement'),
('1', 'transfer.returned', 'collection', '*', '*', 'true', '2', 'fx_return', 'LIQUIDITY:{currency}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'collection', '*', '*', 'true', '3', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'collection', '*', '*', 'true', '4', 'fx_loss_return', 'MERCHANT:{tenant}', 'FX_PNL', 'fx_loss', 'settlement'),
('1', 'transfer.returned', 'collection', '*', '*', 'true', '5', 'fx_gain_return', 'FX_PNL', 'MERCHANT:{tenant}', 'fx_gain', 'settlement'),
('1', 'transfer.returned', 'collection', '*', '*', 'true', '6', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'settlement'),
('1', 'transfer.returned', 'collection', '*', '*', 'true', '7', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'settlement'),
('1', 'transfer.returned', 'c2b', '*', '*', 'true', '1', 'return', 'MERCHANT:{tenant}', 'LIQUIDITY:{currency}', 'fx_settled', 'settlement'),
('1', 'transfer.returned', 'c2b', '*', '*', 'true', '2', 'fx_return', 'LIQUIDITY:{currency}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'c2b', '*', '*', 'true', '3', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.returned', 'c2b', '*', '*', 'true', '4', 'fx_loss_return', 'MERCHANT:{tenant}', 'FX_PNL', 'fx_loss', 'settlement'),
('1', 'transfer.returned', 'c2b', '*', '*', 'true', '5', 'fx_gain_return', 'FX_PNL', 'MERCHANT:{tenant}', 'fx_gain', 'settlement'),
('1', 'transfer.returned', 'c2b', '*', '*', 'true', '6', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'settlement'),
('1', 'transfer.returned', 'c2b', '*', '*', 'true', '7', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'settlement'),
('1', 'transfer.settled', 'collection', '*', 'usdc_algo', 'false', '1', 'fund_in', 'LIQUIDITY:{currency}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'collection', '*', 'usdc_algo', 'false', '2', 'principal', 'USER:{rail}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'transfer.settled', 'collection', '*', 'usdc_algo', 'false', '3', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', 'collection', '*', 'usdc_algo', 'false', '4', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'collection', '*', 'usdc_algo', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', 'collection', '*', 'usdc_algo', 'false', '6', 'reserve', 'MERCHANT:{tenant}', 'RESERVE:{tenant}', 'reserve', 'payment'),
('1', 'transfer.settled', 'payout', '*', 'usdc_algo', 'false', '1', 'principal', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'payout', '*', 'usdc_algo', 'false', '2', 'pay_out', 'USER:{rail}', 'LIQUIDITY:{currency}', 'gross', 'payment'),
('1', 'transfer.settled', 'payout', '*', 'usdc_algo', 'false', '3', 'fee', 'MERCHANT:{tenant}', 'FEES_NET', 'fee', 'payment'),
('1', 'transfer.settled', 'payout', '*', 'usdc_algo', 'false', '4', 'fee_tax', 'MERCHANT:{tenant}', 'FEES_VAT:{jurisdiction}', 'tax', 'payment'),
('1', 'transfer.settled', 'payout', '*', 'usdc_algo', 'false', '5', 'surcharge', 'MERCHANT:{tenant}', 'FEES_PARTNER:{rail}', 'surcharge', 'payment'),
('1', 'transfer.settled', 'refund', '*', 'usdc_algo', 'false', '1', 'return', 'MERCHANT:{tenant}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'refund', '*', 'usdc_algo', 'false', '2', 'pay_back', 'USER:{rail}', 'LIQUIDITY:{currency}', 'gross', 'payment'),
('1', 'transfer.settled', 'refund', '*', 'usdc_algo', 'false', '3', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'payment'),
('1', 'transfer.settled', 'refund', '*', 'usdc_algo', 'false', '4', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'payment'),
('1', 'transfer.accepted', '*', 'AUTH', '*', 'false', '1', 'hold', 'USER_AUTH_HOLD', 'LIQUIDITY_AUTH_PENDING', 'held', 'payment'),
('1', 'transfer.failed', '*', '*', '*', 'false', '1', 'hold_release', 'LIQUIDITY_AUTH_PENDING', 'USER_AUTH_HOLD', 'held', 'payment'),
('1', 'hold.expired', '*', '*', '*', 'false', '1', 'hold_release', 'LIQUIDITY_AUTH_PENDING', 'USER_AUTH_HOLD', 'held', 'payment'),
('1', 'reserve.released', '*', '*', '*', 'false', '1', 'reserve_release', 'RESERVE:{tenant}', 'MERCHANT:{tenant}', 'gross', 'payment'),
('1', 'settlement.cleared', 'in', '*', '*', 'false', '1', 'cleared', 'LIQUIDITY:{currency}', 'SETTLEMENT:{rail}', 'net', 'payment'),
('1', 'settlement.cleared', 'in', '*', '*', 'false', '2', 'commission', 'PROCESSING_COSTS', 'SETTLEMENT:{rail}', 'fee', 'payment'),
('1', 'settlement.cleared', 'out', '*', '*', 'false', '1', 'cleared', 'SETTLEMENT:{rail}', 'LIQUIDITY:{currency}', 'gross', 'payment'),
('1', 'settlement.cleared', 'out', '*', '*', 'false', '2', 'commission', 'PROCESSING_COSTS', 'LIQUIDITY:{currency}', 'fee', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'true', '1', 'return', 'MERCHANT:{tenant}', 'LIQUIDITY:{currency}', 'fx_settled', 'settlement'),
('1', 'transfer.settled', 'refund', '*', '*', 'true', '2', 'fx_return', 'LIQUIDITY:{currency}', 'USER:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'true', '3', 'pay_back', 'USER:{rail}', 'SETTLEMENT:{rail}', 'gross', 'payment'),
('1', 'transfer.settled', 'refund', '*', '*', 'true', '4', 'fx_loss_return', 'MERCHANT:{tenant}', 'FX_PNL', 'fx_loss', 'settlement'),
('1', 'transfer.settled', 'refund', '*', '*', 'true', '5', 'fx_gain_return', 'FX_PNL', 'MERCHANT:{tenant}', 'fx_gain', 'settlement'),
('1', 'transfer.settled', 'refund', '*', '*', 'true', '6', 'fee_return', 'FEES_REVERSAL', 'MERCHANT:{tenant}', 'fee', 'settlement'),
('1', 'transfer.settled', 'refund', '*', '*', 'true', '7', 'fee_tax_return', 'FEES_VAT:{jurisdiction}', 'MERCHANT:{tenant}', 'tax', 'settlement')
on conflict (rules_version, event_type, purpose, intent, rail, is_fx, leg_no) do update set
    leg = excluded.leg,
    debit = excluded.debit,
    credit = excluded.credit,
    amount = excluded.amount,
    amount_currency = excluded.amount_currency;

-- shared/ledger/ledger.tariffs.csv
insert into ledger.tariffs (tariff_id, tenant_id, purpose, rail, currency, rate_bps, fixed_minor, tax_bps, reserve_bps, reserve_days, is_fee_returned, valid_from, valid_until)
values
('default', null, '*', '*', '*', '0', '0', '0', '0', '0', 'true', '2026-01-01', null)
on conflict (tariff_id) do update set
    tenant_id = excluded.tenant_id,
    purpose = excluded.purpose,
    rail = excluded.rail,
    currency = excluded.currency,
    rate_bps = excluded.rate_bps,
    fixed_minor = excluded.fixed_minor,
    tax_bps = excluded.tax_bps,
    reserve_bps = excluded.reserve_bps,
    reserve_days = excluded.reserve_days,
    is_fee_returned = excluded.is_fee_returned,
    valid_from = excluded.valid_from,
    valid_until = excluded.valid_until;

reset role;

-- sql/messages/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/messages/messages.kinds.csv
insert into messages.kinds (kind, priority, ceiling_percent, valid_for_s, description)
values
('platform_alert', '1', '100', '86400', 'Alerts to the platform''s operator may use the whole day''s budget'),
('tenant_alert', '2', '90', '86400', 'Alerts to the owners of a tenant'),
('receipt', '3', '70', '259200', 'Receipts to payers leave the rest of the day''s budget to alerts'),
('refund_receipt', '3', '70', '259200', 'Notes to payers about money that went back to them')
on conflict (kind) do update set
    priority = excluded.priority,
    ceiling_percent = excluded.ceiling_percent,
    valid_for_s = excluded.valid_for_s,
    description = excluded.description;

-- shared/messages/messages.countries.csv
insert into messages.countries (country, language, time_zone)
values
('AO', 'en', 'Africa/Luanda'),
('BF', 'fr', 'Africa/Ouagadougou'),
('BI', 'fr', 'Africa/Bujumbura'),
('BJ', 'fr', 'Africa/Porto-Novo'),
('BW', 'en', 'Africa/Gaborone'),
('CD', 'fr', 'Africa/Kinshasa'),
('CF', 'fr', 'Africa/Bangui'),
('CG', 'fr', 'Africa/Brazzaville'),
('CI', 'fr', 'Africa/Abidjan'),
('CM', 'fr', 'Africa/Douala'),
('CV', 'en', 'Atlantic/Cape_Verde'),
('DJ', 'fr', 'Africa/Djibouti'),
('DZ', 'fr', 'Africa/Algiers'),
('EG', 'en', 'Africa/Cairo'),
('ER', 'en', 'Africa/Asmara'),
('ET', 'en', 'Africa/Addis_Ababa'),
('GA', 'fr', 'Africa/Libreville'),
('GH', 'en', 'Africa/Accra'),
('GM', 'en', 'Africa/Banjul'),
('GN', 'fr', 'Africa/Conakry'),
('GQ', 'fr', 'Africa/Malabo'),
('GW', 'en', 'Africa/Bissau'),
('KE', 'en', 'Africa/Nairobi'),
('KM', 'fr', 'Indian/Comoro'),
('LR', 'en', 'Africa/Monrovia'),
('LS', 'en', 'Africa/Maseru'),
('LY', 'en', 'Africa/Tripoli'),
('MA', 'fr', 'Africa/Casablanca'),
('MG', 'fr', 'Indian/Antananarivo'),
('ML', 'fr', 'Africa/Bamako'),
('MR', 'fr', 'Africa/Nouakchott'),
('MU', 'en', 'Indian/Mauritius'),
('MW', 'en', 'Africa/Blantyre'),
('MZ', 'en', 'Africa/Maputo'),
('NA', 'en', 'Africa/Windhoek'),
('NE', 'fr', 'Africa/Niamey'),
('NG', 'en', 'Africa/Lagos'),
('RW', 'en', 'Africa/Kigali'),
('SC', 'en', 'Indian/Mahe'),
('SD', 'en', 'Africa/Khartoum'),
('SL', 'en', 'Africa/Freetown'),
('SN', 'fr', 'Africa/Dakar'),
('SO', 'en', 'Africa/Mogadishu'),
('SS', 'en', 'Africa/Juba'),
('ST', 'en', 'Africa/Sao_Tome'),
('SZ', 'en', 'Africa/Mbabane'),
('TD', 'fr', 'Africa/Ndjamena'),
('TG', 'fr', 'Africa/Lome'),
('TN', 'fr', 'Africa/Tunis'),
('TZ', 'sw', 'Africa/Dar_es_Salaam'),
('UG', 'en', 'Africa/Kampala'),
('ZA', 'en', 'Africa/Johannesburg'),
('ZM', 'en', 'Africa/Lusaka'),
('ZW', 'en', 'Africa/Harare')
on conflict (country) do update set
    language = excluded.language,
    time_zone = excluded.time_zone;

-- shared/messages/messages.alert_kinds.csv
insert into messages.alert_kinds (kind, to_owners, title, advice)
values
('callback_parked', 'true', 'A callback of a rail was kept but not believed', 'Compare it with the rail''s statement and decide in the reviews; an unmatched one is closed by resolving its alert.'),
('callbacks_not_kept', 'false', 'Callbacks arrive faster than they are kept', 'Find the source address in the details and block it; ask the rail about the transfers meanwhile.'),
('cron_task_failing', 'false', 'A scheduled task fails again and again', 'Read the error in the details; the task keeps its beat and tries again.'),
('delivery_dead', 'false', 'An event could not be delivered and holds its stream', 'Read last_error and mend its cause; then re-drive the delivery or skip it with a reason.'),
('delivery_stalled', 'false', 'An event fails to be delivered', 'Read last_error; the delivery is tried again by the ladder and dies after its last rung.'),
('deposit_unallocated', 'true', 'A payment came in that belongs to no intent', 'Assign it to an intent or send it back.'),
('intent_overpaid', 'true', 'More money came in than was asked for', 'Send the rest back as a refund.'),
('ledger_balance_drift', 'false', 'A balance differs from the sum of its entries', 'Stop postings of this account and compare; the entries are right.'),
('ledger_balance_negative', 'true', 'A balance went below zero', 'Look at the journals of this account.'),
('ledger_chain_broken', 'false', 'The hash chain of a ledger does not verify', 'Keep the database as it is and find who changed a journal.'),
('ledger_out_of_balance', 'false', 'Debits and credits differ', 'Stop manual journals and find the event that booked one side.'),
('mail_budget_spent', 'false', 'The day''s mail is used up', 'What is left waits until midnight UTC; a larger plan at the provider is the cure.'),
('mail_parked', 'false', 'The provider takes no mail', 'A quota ends at midnight UTC; a wrong key or an unverified domain needs a person.'),
('mail_refused', 'false', 'The provider refused a mail for good', 'Read the code in the details; this mail is not tried again.'),
('mail_unknown', 'false', 'The provider never answered for a mail', 'Look for it at the provider; send the receipt again if it is not there.'),
('party_flagged', 'false', 'A party is on a sanctions list', 'Review the match and confirm or clear it.'),
('recon_file_rejected', 'true', 'A statement was refused', 'Read line and reason; send the whole file again.'),
('recon_missing_lines', 'true', 'Transfers are missing in a rail''s statement', 'Work through the exceptions of the session.'),
('recon_statement_missing', 'true', 'A statement has not been sent', 'Send the rail''s statement of that day.'),
('reconcile_behind', 'false', 'Silent transfers are not asked about', 'See whether the reconcile function runs and the rail answers.'),
('sanctions_list_stale', 'false', 'A sanctions list is too old', 'Load the newest list; screening goes on with the old one.'),
('slo_burning', 'false', 'A service level is being missed', 'See which figure it is and what changed since it began.'),
('transfer_needs_review', 'true', 'A transfer waits for a person''s decision', 'Look it up in the rail''s statement and resolve its review.'),
('transfers_stuck', 'false', 'Transfers stay open for too long', 'See whether the rail calls back and reconcile asks; ask the rail if both do.'),
('unknown_rail_code', 'false', 'A rail sent a code that nobody knows', 'Find its meaning in the rail''s manual and add a row for it.'),
('webhook_endpoint_disabled', 'true', 'A webhook endpoint was switched off', 'Mend the endpoint and enable it again; missed events can be replayed.')
on conflict (kind) do update set
    to_owners = excluded.to_owners,
    title = excluded.title,
    advice = excluded.advice;

-- shared/messages/messages.slos.csv
insert into messages.slos (slo, objective_bps, target_s, routine, description)
values
('callbacks_concluded', '9950', '5', 'messages.callback_figures', 'Callbacks that a rail sent are concluded within 5 s'),
('transfers_concluded', '9900', '600', 'messages.transfer_figures', 'Transfers end within 10 minutes of their submission')
on conflict (slo) do update set
    objective_bps = excluded.objective_bps,
    target_s = excluded.target_s,
    routine = excluded.routine,
    description = excluded.description;

reset role;

-- sql/recon/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/recon/recon.time_zones.csv
insert into recon.time_zones (country, time_zone)
values
('AO', 'Africa/Luanda'),
('BF', 'Africa/Ouagadougou'),
('BI', 'Africa/Bujumbura'),
('BJ', 'Africa/Porto-Novo'),
('BW', 'Africa/Gaborone'),
('CD', 'Africa/Kinshasa'),
('CF', 'Africa/Bangui'),
('CG', 'Africa/Brazzaville'),
('CI', 'Africa/Abidjan'),
('CM', 'Africa/Douala'),
('CV', 'Atlantic/Cape_Verde'),
('DJ', 'Africa/Djibouti'),
('DZ', 'Africa/Algiers'),
('EG', 'Africa/Cairo'),
('ER', 'Africa/Asmara'),
('ET', 'Africa/Addis_Ababa'),
('GA', 'Africa/Libreville'),
('GH', 'Africa/Accra'),
('GM', 'Africa/Banjul'),
('GN', 'Africa/Conakry'),
('GQ', 'Africa/Malabo'),
('GW', 'Africa/Bissau'),
('KE', 'Africa/Nairobi'),
('KM', 'Indian/Comoro'),
('LR', 'Africa/Monrovia'),
('LS', 'Africa/Maseru'),
('LY', 'Africa/Tripoli'),
('MA', 'Africa/Casablanca'),
('MG', 'Indian/Antananarivo'),
('ML', 'Africa/Bamako'),
('MR', 'Africa/Nouakchott'),
('MU', 'Indian/Mauritius'),
('MW', 'Africa/Blantyre'),
('MZ', 'Africa/Maputo'),
('NA', 'Africa/Windhoek'),
('NE', 'Africa/Niamey'),
('NG', 'Africa/Lagos'),
('RW', 'Africa/Kigali'),
('SC', 'Indian/Mahe'),
('SD', 'Africa/Khartoum'),
('SL', 'Africa/Freetown'),
('SN', 'Africa/Dakar'),
('SO', 'Africa/Mogadishu'),
('SS', 'Africa/Juba'),
('ST', 'Africa/Sao_Tome'),
('SZ', 'Africa/Mbabane'),
('TD', 'Africa/Ndjamena'),
('TG', 'Africa/Lome'),
('TN', 'Africa/Tunis'),
('TZ', 'Africa/Dar_es_Salaam'),
('UG', 'Africa/Kampala'),
('ZA', 'Africa/Johannesburg'),
('ZM', 'Africa/Lusaka'),
('ZW', 'Africa/Harare')
on conflict (country) do update set
    time_zone = excluded.time_zone;

-- shared/recon/recon.rail_rules.csv
insert into recon.rail_rules (rail, time_zone, day_tolerance, banking_days, missing_after_days, fee_bps, fee_fixed_minor, statement_format)
values
('mpesa', 'Africa/Nairobi', '1', 'false', '1', '0', '0', 'mpesa_csv')
on conflict (rail) do update set
    time_zone = excluded.time_zone,
    day_tolerance = excluded.day_tolerance,
    banking_days = excluded.banking_days,
    missing_after_days = excluded.missing_after_days,
    fee_bps = excluded.fee_bps,
    fee_fixed_minor = excluded.fee_fixed_minor,
    statement_format = excluded.statement_format;

reset role;

-- sql/tax/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/fiscal/cd/tax.jurisdictions.csv
-- shared/fiscal/ke/tax.jurisdictions.csv
-- shared/fiscal/zw/tax.jurisdictions.csv
insert into tax.jurisdictions (jurisdiction, name, authority, tax_currency, currencies, tax_level, tin_name, tin_pattern, time_zones, retention_years)
values
('CD', 'DR Congo', 'DGI', 'CDF', '{CDF,USD}', 'line', 'NIF', '^[A-Z0-9]{6,15}$', '{Africa/Kinshasa,Africa/Lubumbashi}', '10'),
('KE', 'Kenya', 'KRA', 'KES', '{KES,USD}', 'line', 'PIN', '^[A-Z][0-9]{9}[A-Z]$', '{Africa/Nairobi}', '10'),
('ZW', 'Zimbabwe', 'ZIMRA', 'ZWG', '{ZWG,USD,ZAR}', 'group', 'TIN', '^[0-9]{10}$', '{Africa/Harare}', '10')
on conflict (jurisdiction) do update set
    name = excluded.name,
    authority = excluded.authority,
    tax_currency = excluded.tax_currency,
    currencies = excluded.currencies,
    tax_level = excluded.tax_level,
    tin_name = excluded.tin_name,
    tin_pattern = excluded.tin_pattern,
    time_zones = excluded.time_zones,
    retention_years = excluded.retention_years;

-- shared/fiscal/cd/tax.manifests.csv
-- shared/fiscal/ke/tax.manifests.csv
-- shared/fiscal/zw/tax.manifests.csv
insert into tax.manifests (manifest_version, jurisdiction, surface, valid_from, valid_to, source)
values
('CD-2026-01', 'CD', 'merchant', '2026-01-01T00:00:00Z', null, 'Tax groups TG01 to TG14 of the product'),
('CD-DGI-2026-03', 'CD', 'authority', '2026-03-01T00:00:00Z', null, 'Groups A to P of the DGI interface; compared with its taxGroups every day'),
('KE-2023-07', 'KE', 'merchant', '2023-07-01T00:00:00Z', null, 'Tax types A to E of the eTIMS code list; the list fetched at run time wins'),
('ZW-2023-01', 'ZW', 'merchant', '2023-01-01T00:00:00Z', '2025-12-15T00:00:00Z', 'FDMS applicableTaxes as seen before 15 December 2025; GetConfig of the device wins'),
('ZW-2025-12', 'ZW', 'merchant', '2025-12-15T00:00:00Z', null, 'FDMS applicableTaxes as seen from 15 December 2025; GetConfig of the device wins')
on conflict (manifest_version) do update set
    jurisdiction = excluded.jurisdiction,
    surface = excluded.surface,
    valid_from = excluded.valid_from,
    valid_to = excluded.valid_to,
    source = excluded.source;

-- shared/fiscal/cd/tax.tax_groups.csv
-- shared/fiscal/ke/tax.tax_groups.csv
-- shared/fiscal/zw/tax.tax_groups.csv
insert into tax.tax_groups (manifest_version, tax_group, name, rate, treatment)
values
('CD-2026-01', 'TG01', 'Exempt', '0.00', 'exempt'),
('CD-2026-01', 'TG02', 'Standard VAT on goods', '0.16', 'standard'),
('CD-2026-01', 'TG03', 'Standard VAT on services', '0.16', 'standard'),
('CD-2026-01', 'TG04', 'Reduced VAT', '0.09', 'reduced'),
('CD-2026-01', 'TG05', 'VAT of public financing', '0.16', 'standard'),
('CD-2026-01', 'TG06', 'Customs VAT', '0.16', 'standard'),
('CD-2026-01', 'TG07', 'Export', '0.00', 'zero'),
('CD-2026-01', 'TG08', 'Special regime of agriculture', '0.05', 'special'),
('CD-2026-01', 'TG09', 'Special regime of mining', '0.10', 'special'),
('CD-2026-01', 'TG10', 'Specific tax on fuel', '0.25', 'excise'),
('CD-2026-01', 'TG11', 'Specific tax on tobacco', '0.30', 'excise'),
('CD-2026-01', 'TG12', 'Specific tax on alcohol', '0.20', 'excise'),
('CD-2026-01', 'TG13', 'Specific tax on telecommunications', '0.15', 'excise'),
('CD-2026-01', 'TG14', 'Specific tax on digital services', '0.12', 'excise'),
('CD-DGI-2026-03', 'A', 'Exempt and out of scope', '0.00', 'exempt'),
('CD-DGI-2026-03', 'B', 'Taxable', '0.16', 'standard'),
('CD-DGI-2026-03', 'C', 'Taxable at the reduced rate', '0.05', 'reduced'),
('CD-DGI-2026-03', 'D', 'Derogatory regimes', '0.00', 'exempt'),
('CD-DGI-2026-03', 'E', 'Export and assimilated', '0.00', 'zero'),
('CD-DGI-2026-03', 'F', 'Externally financed public contract', '0.16', 'standard'),
('CD-DGI-2026-03', 'G', 'Externally financed public contract at the reduced rate', '0.05', 'reduced'),
('CD-DGI-2026-03', 'H', 'Packaging deposit', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'I', 'Guarantee', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'J', 'Disbursements invoiced at cost', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'K', 'Supplies by persons not liable to VAT', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'L', 'Levies on sales', null, 'levy'),
('CD-DGI-2026-03', 'M', 'Regulated sales before their specific VAT', '0.00', 'special'),
('CD-DGI-2026-03', 'N', 'Specific VAT of regulated sales', null, 'levy'),
('CD-DGI-2026-03', 'O', 'Taxable at the super-reduced rate', '0.01', 'reduced'),
('CD-DGI-2026-03', 'P', 'Externally financed public contract at the super-reduced rate', '0.01', 'reduced'),
('KE-2023-07', 'A', 'Exempt', '0.00', 'exempt'),
('KE-2023-07', 'B', 'Standard rated', '0.16', 'standard'),
('KE-2023-07', 'C', 'Zero rated', '0.00', 'zero'),
('KE-2023-07', 'D', 'Not VAT', '0.00', 'out_of_scope'),
('KE-2023-07', 'E', 'Special rate', '0.08', 'special'),
('ZW-2023-01', '1', 'Exempt', '0.00', 'exempt'),
('ZW-2023-01', '2', 'Zero rated', '0.00', 'zero'),
('ZW-2023-01', '514', 'Non-VAT withholding tax', '0.05', 'special'),
('ZW-2023-01', '517', 'Standard rated', '0.15', 'standard'),
('ZW-2025-12', '1', 'Exempt', '0.00', 'exempt'),
('ZW-2025-12', '2', 'Zero rated', '0.00', 'zero'),
('ZW-2025-12', '514', 'Non-VAT withholding tax', '0.05', 'special'),
('ZW-2025-12', '517', 'Standard rated', '0.155', 'standard')
on conflict (manifest_version, tax_group) do update set
    name = excluded.name,
    rate = excluded.rate,
    treatment = excluded.treatment;

-- shared/fiscal/cd/tax.group_rules.csv
-- shared/fiscal/ke/tax.group_rules.csv
-- shared/fiscal/zw/tax.group_rules.csv
insert into tax.group_rules (manifest_version, step, rule, tax_group)
values
('CD-2026-01', '1', 'embassy', 'TG01'),
('CD-2026-01', '2', 'export', 'TG07'),
('CD-2026-01', '3', 'fuel', 'TG10'),
('CD-2026-01', '3', 'tobacco', 'TG11'),
('CD-2026-01', '3', 'alcohol', 'TG12'),
('CD-2026-01', '3', 'telecommunications', 'TG13'),
('CD-2026-01', '3', 'digital', 'TG14'),
('CD-2026-01', '3', 'agriculture', 'TG08'),
('CD-2026-01', '3', 'mining', 'TG09'),
('CD-2026-01', '3', 'public_financing', 'TG05'),
('CD-2026-01', '3', 'customs', 'TG06'),
('CD-2026-01', '3', 'exempt', 'TG01'),
('CD-2026-01', '4', 'essential', 'TG04'),
('CD-2026-01', '5', 'goods', 'TG02'),
('CD-2026-01', '5', 'service', 'TG03'),
('KE-2023-07', '2', 'export', 'C'),
('KE-2023-07', '3', 'exempt', 'A'),
('KE-2023-07', '3', 'zero_rated', 'C'),
('KE-2023-07', '3', 'not_vat', 'D'),
('KE-2023-07', '3', 'special_rate', 'E'),
('KE-2023-07', '5', 'goods', 'B'),
('KE-2023-07', '5', 'service', 'B'),
('ZW-2023-01', '2', 'export', '2'),
('ZW-2023-01', '3', 'exempt', '1'),
('ZW-2023-01', '3', 'zero_rated', '2'),
('ZW-2023-01', '5', 'goods', '517'),
('ZW-2023-01', '5', 'service', '517'),
('ZW-2025-12', '2', 'export', '2'),
('ZW-2025-12', '3', 'exempt', '1'),
('ZW-2025-12', '3', 'zero_rated', '2'),
('ZW-2025-12', '5', 'goods', '517'),
('ZW-2025-12', '5', 'service', '517')
on conflict (manifest_version, rule) do update set
    step = excluded.step,
    tax_group = excluded.tax_group;

-- shared/fiscal/cd/tax.authority_groups.csv
insert into tax.authority_groups (manifest_version, tax_group, authority_version, authority_group, levy_group)
values
('CD-2026-01', 'TG01', 'CD-DGI-2026-03', 'A', null),
('CD-2026-01', 'TG02', 'CD-DGI-2026-03', 'B', null),
('CD-2026-01', 'TG03', 'CD-DGI-2026-03', 'B', null),
('CD-2026-01', 'TG04', 'CD-DGI-2026-03', 'C', null),
('CD-2026-01', 'TG05', 'CD-DGI-2026-03', 'F', null),
('CD-2026-01', 'TG06', 'CD-DGI-2026-03', 'B', null),
('CD-2026-01', 'TG07', 'CD-DGI-2026-03', 'E', null),
('CD-2026-01', 'TG08', 'CD-DGI-2026-03', null, null),
('CD-2026-01', 'TG09', 'CD-DGI-2026-03', null, null),
('CD-2026-01', 'TG10', 'CD-DGI-2026-03', 'M', 'N'),
('CD-2026-01', 'TG11', 'CD-DGI-2026-03', 'B', 'L'),
('CD-2026-01', 'TG12', 'CD-DGI-2026-03', 'B', 'L'),
('CD-2026-01', 'TG13', 'CD-DGI-2026-03', 'B', 'L'),
('CD-2026-01', 'TG14', 'CD-DGI-2026-03', 'B', 'L')
on conflict (manifest_version, tax_group, authority_version) do update set
    authority_group = excluded.authority_group,
    levy_group = excluded.levy_group;

-- shared/fiscal/cd/tax.client_classifications.csv
-- shared/fiscal/ke/tax.client_classifications.csv
-- shared/fiscal/zw/tax.client_classifications.csv
insert into tax.client_classifications (jurisdiction, classification, label, requires, recommends, authority_code)
values
('CD', 'individual', 'Private person', '{}', '{}', 'PP'),
('CD', 'company', 'Registered legal entity', '{name,tin}', '{registration_number}', 'PM'),
('CD', 'commercial_individual', 'Sole trader', '{name,tin,id_document}', '{}', 'PC'),
('CD', 'professional', 'Licensed profession', '{name}', '{tin,id_document}', 'PL'),
('CD', 'embassy', 'Diplomatic mission or international organisation', '{name,exemption_ref}', '{}', 'AO'),
('KE', 'individual', 'Private person', '{}', '{}', null),
('KE', 'company', 'Registered taxpayer', '{name,tin}', '{}', null),
('ZW', 'individual', 'Private person', '{}', '{}', null),
('ZW', 'company', 'Registered taxpayer', '{name,tin}', '{registration_number}', null)
on conflict (jurisdiction, classification) do update set
    label = excluded.label,
    requires = excluded.requires,
    recommends = excluded.recommends,
    authority_code = excluded.authority_code;

-- shared/fiscal/cd/tax.invoice_types.csv
-- shared/fiscal/ke/tax.invoice_types.csv
-- shared/fiscal/zw/tax.invoice_types.csv
insert into tax.invoice_types (jurisdiction, invoice_type, label, is_credit, is_export, authority_code)
values
('CD', 'sale', 'Facture de vente', 'false', 'false', 'FV'),
('CD', 'advance', 'Facture d''avance', 'false', 'false', 'FT'),
('CD', 'credit_note', 'Facture d''avoir', 'true', 'false', 'FA'),
('CD', 'export', 'Vente à l''exportation', 'false', 'true', 'EV'),
('CD', 'export_credit', 'Avoir à l''exportation', 'true', 'true', 'EA'),
('CD', 'export_advance', 'Acompte à l''exportation', 'false', 'true', 'ET'),
('KE', 'sale', 'Invoice', 'false', 'false', 'S'),
('KE', 'advance', 'Invoice for an advance', 'false', 'false', 'S'),
('KE', 'credit_note', 'Credit note', 'true', 'false', 'R'),
('KE', 'export', 'Invoice for an export', 'false', 'true', 'S'),
('KE', 'export_credit', 'Credit note for an export', 'true', 'true', 'R'),
('ZW', 'sale', 'Fiscal invoice', 'false', 'false', 'FiscalInvoice'),
('ZW', 'advance', 'Fiscal invoice for an advance', 'false', 'false', 'FiscalInvoice'),
('ZW', 'credit_note', 'Credit note', 'true', 'false', 'CreditNote'),
('ZW', 'export', 'Fiscal invoice for an export', 'false', 'true', 'FiscalInvoice'),
('ZW', 'export_credit', 'Credit note for an export', 'true', 'true', 'CreditNote')
on conflict (jurisdiction, invoice_type) do update set
    label = excluded.label,
    is_credit = excluded.is_credit,
    is_export = excluded.is_export,
    authority_code = excluded.authority_code;

reset role;

-- sql/webhooks/data.sql

-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/webhooks/webhooks.event_types.csv
insert into webhooks.event_types (type, api_version, description)
values
('payment_intent.created', '2026-11-21', 'A payment intent was created'),
('payment_intent.updated', '2026-11-21', 'Its description or metadata changed'),
('payment_intent.processing', '2026-11-21', 'The payer is being asked on a rail'),
('payment_intent.payment_failed', '2026-11-21', 'An attempt failed; the intent takes another one'),
('payment_intent.succeeded', '2026-11-21', 'It is paid in full'),
('payment_intent.partially_paid', '2026-11-21', 'Part of the amount came in'),
('payment_intent.overpaid', '2026-11-21', 'More came in than was asked for'),
('payment_intent.partially_refunded', '2026-11-21', 'Part of what was paid went back'),
('payment_intent.refunded', '2026-11-21', 'All that was paid went back'),
('payment_intent.canceled', '2026-11-21', 'It was canceled before it was paid'),
('payment_intent.expired', '2026-11-21', 'Its time was over before it was paid'),
('transfer.initiated', '2026-11-21', 'An attempt to move money was recorded; nothing was sent yet'),
('transfer.submitted', '2026-11-21', 'It is on its way to the rail'),
('transfer.accepted', '2026-11-21', 'The rail has it; the payer may be looking at a prompt'),
('transfer.settled', '2026-11-21', 'The money moved'),
('transfer.failed', '2026-11-21', 'The money did not move'),
('transfer.returned', '2026-11-21', 'Money that had moved went back'),
('transfer.partially_returned', '2026-11-21', 'Part of the money that had moved went back'),
('transfer.unallocated', '2026-11-21', 'Money came in that belongs to no payment intent yet'),
('transfer.allocated', '2026-11-21', 'Money that belonged to no payment intent was given to one'),
('transfer.receipt_recorded', '2026-11-21', 'The rail''s receipt became known after the money had moved'),
('transfer.needs_review', '2026-11-21', 'A person must decide what became of it'),
('transfer.review_resolved', '2026-11-21', 'A person decided what became of it'),
('refund.created', '2026-11-21', 'A refund was asked for'),
('refund.succeeded', '2026-11-21', 'The money of a refund went back'),
('refund.failed', '2026-11-21', 'The money of a refund did not go back'),
('payout.created', '2026-11-21', 'A payout was asked for'),
('payout.pending_approval', '2026-11-21', 'A payout waits for a second person'),
('payout.succeeded', '2026-11-21', 'The money of a payout arrived'),
('payout.failed', '2026-11-21', 'The money of a payout did not arrive'),
('webhook_endpoint.test', '2026-11-21', 'Sent on request to try an endpoint; nothing happened')
on conflict (type) do update set
    api_version = excluded.api_version,
    description = excluded.description;

reset role;

-- sql/public/functions/alerts.sql

-- Alarms for people.

set role stalela_owner;

create function public.raise_alert(
    kind text, severity text, subject text, tenant_id text, environment text, details jsonb
)
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    open_id bigint;
begin
    select a.alert_id into open_id
    from public.alerts as a
    where a.kind = raise_alert.kind and a.subject = raise_alert.subject and a.status = 'open';
    if not found then
        insert into public.alerts (kind, severity, subject, tenant_id, environment, details)
        values (
            raise_alert.kind, raise_alert.severity, raise_alert.subject, raise_alert.tenant_id,
            raise_alert.environment, coalesce(raise_alert.details, '{}')
        )
        on conflict (kind, subject) where status = 'open' do nothing;
        return;
    end if;
    -- A flood of the same trouble must not queue behind one row: who cannot have it at once does not count.
    -- (An insert that conflicts would wait for whoever is counting, which is why the look comes first.)
    update public.alerts as a
    set occurrences = a.occurrences + 1, last_at = now(), details = coalesce(raise_alert.details, '{}')
    where a.alert_id = any(array(
        select o.alert_id from public.alerts as o
        where o.alert_id = open_id and o.status = 'open' for update skip locked
    ));
end
$$;
comment on function public.raise_alert is
'Opens an alert, or counts once more on the open one of the same kind and subject (at least: simultaneous ones count once). Keeps the last details.';

create function public.resolve_alert(kind text, subject text, resolution text)
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
begin
    update public.alerts as a
    set status = 'resolved', resolved_at = now(), resolution = resolve_alert.resolution
    where a.kind = resolve_alert.kind and a.subject = resolve_alert.subject and a.status = 'open';
end
$$;
comment on function public.resolve_alert is 'Closes the open alert of this kind and subject, if there is one; the next trouble opens a new one.';

reset role;

-- sql/public/functions/answers.sql

-- Answers.

set role stalela_owner;

create function public.reply(caller public.caller, status integer, body json)
returns public.answer
language plpgsql
immutable
set search_path = ''
as $$
begin
    return row(status, body::text, caller.rate)::public.answer;
end
$$;
comment on function public.reply is 'A JSON answer with the caller''s RateLimit-* headers.';

reset role;

-- sql/public/functions/api_keys.sql

-- API keys. The function makes the secret and keeps it to itself: SQL sees its SHA-256 and its last four characters.

set role stalela_owner;

create function public.api_key_resource(api_key public.api_keys)
returns json
language sql
stable
set search_path = ''
as $$
    select row_to_json(shown)
    from (
        select
            api_key.key_id as id, 'api_key' as object, api_key.kind, api_key.name, api_key.environment,
            api_key.scopes, api_key.last4,
            case
                when api_key.status = 'active' and api_key.expires_at <= now() then 'expired' else api_key.status
            end as status,
            api_key.created_by, api_key.rotated_from, api_key.created_at, api_key.expires_at, api_key.last_used_at
    ) as shown;
$$;
comment on function public.api_key_resource is 'The wire shape of an API key, without its secret.';

create function public.check_key_scopes(caller public.caller, kind text, scopes text[])
returns void
language plpgsql
stable
security definer -- callers may not read scopes
set search_path = ''
as $$
declare
    place integer;
    wanted text;
begin
    if coalesce(cardinality(scopes), 0) not between 1 and 50 then
        perform public.refuse_field('42262', '/scopes', 'A key has 1 to 50 scopes.');
    end if;
    for place, wanted in select (s.place - 1)::integer, s.scope from unnest(scopes) with ordinality as s (scope, place) loop
        perform from public.scopes as s
        where s.scope = wanted and check_key_scopes.kind = any(s.key_kinds);
        if not found then
            perform public.refuse_field(
                '42262', '/scopes/' || place, format('A %s key cannot have the scope %s.', kind, wanted)
            );
        elsif not public.holds_scope(caller.scopes, wanted) then
            perform public.refuse(
                '40311', format('You cannot give the scope %s, because you do not hold it yourself.', wanted)
            );
        end if;
    end loop;
end
$$;
comment on function public.check_key_scopes is
'A key has only scopes of its kind (42262) and none that its creator does not hold (40311).';

create function public.check_key_environment(caller public.caller, environment text)
returns void
language plpgsql
stable
security definer -- callers may not read tenants and keys
set search_path = ''
as $$
begin
    if environment not in ('sandbox', 'production') then
        perform public.refuse_field('42262', '/environment', 'environment is sandbox or production.');
    elsif caller.key_id is not null and environment <> caller.environment then
        perform public.refuse('40312', 'A key makes keys of its own environment only.');
    end if;
    perform public.check_tenant(
        (select t.status from public.tenants as t where t.tenant_id = caller.tenant_id), environment
    );
    if (
        select count(*) >= public.setting('api_keys.max_per_tenant')::bigint
        from public.api_keys as k
        where
            k.tenant_id = caller.tenant_id and k.environment = check_key_environment.environment
            and k.status = 'active' and (k.expires_at is null or k.expires_at > now())
    ) then
        perform public.refuse('42262', 'There are too many active API keys: revoke those you do not use.');
    end if;
end
$$;
comment on function public.check_key_environment is
'Whether the caller may make a key there: production only for an active tenant (40302), a key only in its own environment (40312), not too many (42262).';

create function public.create_api_key(
    idempotency_key text, body_hash text, name text, kind text, scopes text[], environment text,
    expires_in_s integer, key_hash text, last4 text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    route constant text := 'POST /merchants/api-keys';
    caller public.caller := public.authorize('api_keys:manage', 'manage');
    answer public.answer := public.claim_idempotency(caller, route, idempotency_key, body_hash);
    target text := coalesce(environment, caller.environment);
    wanted text[] := scopes;
    made public.api_keys;
begin
    if answer.body is not null then
        return answer;
    end if;
    if length(trim(name)) not between 1 and 100 or name is null then
        perform public.refuse_field('42262', '/name', 'name has 1 to 100 characters.');
    elsif kind not in ('secret', 'publishable') or kind is null then
        perform public.refuse_field('42262', '/kind', 'kind is secret or publishable.');
    elsif expires_in_s not between 60 and 315360000 then
        perform public.refuse_field('42262', '/expires_in', 'expires_in is between 60 seconds and 10 years.');
    elsif kind = 'publishable' and coalesce(cardinality(wanted), 0) = 0 then
        wanted := '{payments:confirm}';
    end if;
    perform public.check_key_environment(caller, target);
    perform public.check_key_scopes(caller, kind, wanted);

    insert into public.api_keys (
        key_id, tenant_id, environment, kind, name, key_hash, last4, scopes, created_by, expires_at
    ) values (
        public.new_id('key'), caller.tenant_id, target, create_api_key.kind, trim(create_api_key.name),
        create_api_key.key_hash, create_api_key.last4,
        array(select distinct w.scope from unnest(wanted) as w (scope) order by w.scope),
        caller.actor, now() + make_interval(secs => expires_in_s)
    )
    returning * into made;
    perform public.audit_key(caller, 'api_key.create', made);
    answer := public.reply(caller, 201, public.api_key_resource(made));
    perform public.remember_answer(caller, route, idempotency_key, made.key_id, answer);
    return answer;
end
$$;
comment on function public.create_api_key is
'Makes a key from the hash of a secret that only the function knows. The stored answer has no secret: a replay shows the key, never the secret again. 201.';

create function public.audit_key(caller public.caller, action text, api_key public.api_keys)
returns void
language plpgsql
volatile
security definer -- callers may not write the audit log
set search_path = ''
as $$
begin
    -- A person may work on a key of the other environment; the entry belongs where the key does.
    caller.environment := api_key.environment;
    perform public.audit(caller, action, api_key.key_id, jsonb_build_object(
        'kind', api_key.kind, 'name', api_key.name, 'scopes', api_key.scopes, 'expires_at', api_key.expires_at
    ));
end
$$;
comment on function public.audit_key is 'Records what was done to a key.';

create function public.list_api_keys()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read keys
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('api_keys:manage', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', array(
        select public.api_key_resource(k)
        from public.api_keys as k
        where k.tenant_id = caller.tenant_id and k.environment = caller.environment
        order by k.created_at desc, k.key_id desc
        limit 500
    )));
end
$$;
comment on function public.list_api_keys is 'The newest 500 keys of the caller''s environment, revoked ones too, without secrets.';

create function public.lock_api_key(caller public.caller, key_id text)
returns public.api_keys
language plpgsql
volatile
security definer -- callers may not lock keys
set search_path = ''
as $$
declare
    locked public.api_keys;
begin
    select k.* into locked
    from public.api_keys as k
    where
        k.key_id = lock_api_key.key_id
        and k.tenant_id = (lock_api_key.caller).tenant_id and k.environment = (lock_api_key.caller).environment
    for update;
    if not found then
        perform public.refuse('40401', format('There is no API key %s here.', lock_api_key.key_id));
    end if;
    return locked;
end
$$;
comment on function public.lock_api_key is 'The locked key, if it belongs to the caller''s tenant and environment; 40401 otherwise.';

create function public.rotate_api_key(
    idempotency_key text, body_hash text, key_id text, overlap_s integer, key_hash text, last4 text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    route constant text := 'POST /merchants/api-keys/{id}/rotate';
    caller public.caller := public.authorize('api_keys:manage', 'manage');
    answer public.answer := public.claim_idempotency(caller, route, idempotency_key, body_hash || ':' || key_id);
    former public.api_keys;
    made public.api_keys;
begin
    if answer.body is not null then
        return answer;
    elsif overlap_s not between 0 and 604800 then
        perform public.refuse_field('42262', '/overlap_s', 'overlap_s is between 0 seconds and 7 days.');
    end if;
    former := public.lock_api_key(caller, key_id);
    if former.status <> 'active' or former.expires_at <= now() then
        perform public.refuse(
            '40911', 'This key is revoked or expired: create a new one.',
            jsonb_build_object('current_state', public.api_key_resource(former) ->> 'status', 'allowed', '[]'::jsonb)
        );
    end if;
    perform from public.api_keys as k where k.rotated_from = former.key_id and k.status = 'active';
    if found then
        perform public.refuse(
            '40911', 'This key has a successor already: rotate that one.',
            '{"current_state": "rotated", "allowed": []}'
        );
    end if;
    perform public.check_key_scopes(caller, former.kind, former.scopes);

    insert into public.api_keys (
        key_id, tenant_id, environment, kind, name, key_hash, last4, scopes, created_by, rotated_from, expires_at
    ) values (
        public.new_id('key'), former.tenant_id, former.environment, former.kind, former.name,
        rotate_api_key.key_hash, rotate_api_key.last4, former.scopes, caller.actor, former.key_id,
        now() + (former.expires_at - former.created_at)
    )
    returning * into made;
    perform public.retire_api_key(former, coalesce(overlap_s, 0));
    perform public.audit_key(caller, 'api_key.rotate', made);
    answer := public.reply(caller, 201, public.api_key_resource(made));
    perform public.remember_answer(caller, route, idempotency_key, made.key_id, answer);
    return answer;
end
$$;
comment on function public.rotate_api_key is
'A successor with the same scopes and life span; the former key ends after overlap_s seconds (null or 0: now). 201 with the new key, 40911 for a key that has ended or has a successor.';

create function public.retire_api_key(api_key public.api_keys, after_s integer)
returns void
language sql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
    update public.api_keys as k
    set
        status = case when after_s = 0 then 'revoked' else k.status end,
        revoked_at = case when after_s = 0 then now() end,
        expires_at = case
            when after_s = 0 then k.expires_at
            else least(k.expires_at, now() + make_interval(secs => after_s))
        end
    where k.key_id = api_key.key_id and k.status = 'active';
$$;
comment on function public.retire_api_key is 'Ends an active key now (0) or after so many seconds, never later than it would have ended.';

create function public.revoke_api_key(key_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('api_keys:manage', 'manage');
    revoked public.api_keys := public.lock_api_key(caller, key_id);
begin
    if revoked.status = 'active' then
        perform public.retire_api_key(revoked, 0);
        select k.* into revoked from public.api_keys as k where k.key_id = revoked.key_id;
        perform public.audit_key(caller, 'api_key.revoke', revoked);
    end if;
    return public.reply(caller, 200, public.api_key_resource(revoked));
end
$$;
comment on function public.revoke_api_key is
'Ends a key for the next request already; repeatable. Anybody who manages keys may revoke any key, whatever its scopes.';

reset role;

-- sql/public/functions/audit.sql

-- The audit trail.

set role stalela_owner;

create function public.audit(caller public.caller, action text, subject text, details jsonb)
returns void
language sql
volatile
security definer -- callers may not write the audit log
set search_path = ''
as $$
    insert into public.audit_log (tenant_id, environment, actor, action, subject, details, request_id)
    values (
        (audit.caller).tenant_id, (audit.caller).environment, coalesce((audit.caller).actor, 'system'),
        audit.action, audit.subject, coalesce(audit.details, '{}'),
        nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-request-id'
    );
$$;
comment on function public.audit is 'Records who did what to which subject; a null caller is the system itself.';

reset role;

-- sql/public/functions/callers.sql

-- Who is calling, and may they.

set role stalela_owner;

create function public.caller()
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys and memberships
set search_path = ''
as $$
declare
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    person record;
begin
    if headers ? 'x-stalela-key-hash' then
        return public.caller_by_key(headers ->> 'x-stalela-key-hash');
    elsif headers ? 'x-stalela-client-secret-hash' then
        perform public.refuse('40101', 'A client secret is used together with a publishable key.');
    end if;
    person := public.signed_in_user();
    if not headers ? 'x-stalela-tenant-id' then
        perform public.refuse('40302', 'You do not belong to an organisation yet, or your token is older than it.');
    end if;
    return public.caller_by_user(
        person.user_id, headers ->> 'x-stalela-tenant-id', coalesce(headers ->> 'x-stalela-environment', 'sandbox')
    );
end
$$;
comment on function public.caller is
'Resolves the API key or the signed-in person of this request, in the transaction of the work. 40101 nobody, 40102 key revoked or expired, 40302 tenant may not. Not for read-only transactions: it notes when a key was used.';

create function public.caller_by_key(key_hash text)
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys
set search_path = ''
as $$
declare
    found_key record;
begin
    select k.key_id, k.tenant_id, k.environment, k.scopes, k.last_used_at,
        k.status = 'active' and (k.expires_at is null or k.expires_at > now()) as is_valid,
        t.status as tenant_status
    into found_key
    from public.api_keys as k
    join public.tenants as t on t.tenant_id = k.tenant_id
    where k.key_hash = caller_by_key.key_hash;
    if not found then
        perform public.refuse('40101', 'This API key does not exist.');
    elsif not found_key.is_valid then
        perform public.refuse('40102', 'This API key was revoked or has expired.');
    end if;
    perform public.check_tenant(found_key.tenant_status, found_key.environment);

    if found_key.last_used_at is null or found_key.last_used_at < now() - interval '1 minute' then
        -- Whoever comes second in that minute skips the row instead of waiting for it.
        update public.api_keys as k
        set last_used_at = now()
        where k.key_id = any(array(
            select j.key_id from public.api_keys as j where j.key_id = found_key.key_id for no key update skip locked
        ));
    end if;
    return row(
        found_key.tenant_id, found_key.environment, found_key.key_id, found_key.scopes, found_key.key_id,
        null, null, '{}'
    )::public.caller;
end
$$;
comment on function public.caller_by_key is 'The caller behind the SHA-256 of an API key.';

create function public.caller_by_user(user_id uuid, tenant_id text, environment text)
returns public.caller
language plpgsql
stable
security definer -- functions may not read memberships
set search_path = ''
as $$
declare
    membership record;
begin
    if environment not in ('sandbox', 'production') then
        perform public.refuse('40001', 'x-stalela-environment is sandbox or production.');
    end if;
    -- A token is a snapshot: that the person still belongs to the tenant, and as what, is read here.
    select m.app_role, t.status as tenant_status,
        array(select r.scope from public.role_scopes as r where r.app_role = m.app_role) as scopes
    into membership
    from public.memberships as m
    join public.tenants as t on t.tenant_id = m.tenant_id
    where
        m.tenant_id = caller_by_user.tenant_id
        and m.user_id = caller_by_user.user_id
        and m.status = 'active';
    if not found then
        perform public.refuse('40302', 'You do not belong to this organisation.');
    end if;
    perform public.check_tenant(membership.tenant_status, environment);
    return row(
        tenant_id, environment, 'user:' || user_id, membership.scopes, null, user_id, membership.app_role, '{}'
    )::public.caller;
end
$$;
comment on function public.caller_by_user is 'The caller behind a verified person, with the scopes of the role they have now.';

create function public.signed_in_user(out user_id uuid, out email text)
language plpgsql
stable
security definer -- functions may not read function_roles
set search_path = ''
as $$
declare
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
begin
    -- The role of the request, which security definer does not change.
    perform from public.function_roles as f
    where f.db_role = current_setting('role') and f.may_pass_user;
    if not found or not headers ? 'x-stalela-user-id' then
        perform public.refuse('40101', 'Send an API key or an access token as Authorization: Bearer.');
    end if;
    user_id := (headers ->> 'x-stalela-user-id')::uuid;
    email := lower(headers ->> 'x-stalela-user-email');
end
$$;
comment on function public.signed_in_user is
'The person whose token the calling function verified; 40101 when there is none or when this function''s role may not pass one.';

create function public.check_tenant(status text, environment text)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
    if status in ('suspended', 'closed') then
        perform public.refuse('40302', format('This organisation is %s.', status));
    elsif status = 'pending' and environment = 'production' then
        perform public.refuse('40302', 'This organisation is not active yet; use the sandbox environment.');
    end if;
end
$$;
comment on function public.check_tenant is 'Refuses with 40302 a tenant that may not work in this environment.';

create function public.holds_scope(held text[], wanted text)
returns boolean
language plpgsql
stable
security definer -- callers may not read scopes
set search_path = ''
as $$
begin
    -- Platform scopes are ours alone: no tenant's asterisk reaches them.
    if wanted = any(held) or ('*' = any(held) and wanted not like 'platform:%') then
        return true;
    end if;
    return exists (select from public.scopes as s where s.scope = wanted and s.included_in = any(held));
end
$$;
comment on function public.holds_scope is 'Whether these scopes allow that one: by name, through * or because one of them includes it.';

create function public.authorize(scope text, bucket text)
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys and limits
set search_path = ''
as $$
declare
    caller public.caller := public.caller();
begin
    if not public.holds_scope(caller.scopes, scope) then
        perform public.refuse('40311', format('This needs the scope %s.', scope));
    end if;
    caller.rate := public.take_token(caller, bucket);
    return caller;
end
$$;
comment on function public.authorize is
'The first line of everything a caller may ask for: who, whether they hold the scope (40311 names it), and one token of their bucket (42901).';

reset role;

-- sql/public/functions/claims.sql

-- What row level security compares with: the claims of a signed-in person's access token.

set role stalela_owner;

create function public.tenant_id()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant_id';
$$;
comment on function public.tenant_id is 'The tenant named in the access token; null without one, which matches no row.';
grant execute on function public.tenant_id to authenticated;

create function public.outlet_id()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'outlet_id';
$$;
comment on function public.outlet_id is 'The one outlet a person is limited to, named in the access token; null: all of the tenant.';
grant execute on function public.outlet_id to authenticated;

create function public.user_id()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
$$;
comment on function public.user_id is 'The person the access token was given to; null without one.';
grant execute on function public.user_id to authenticated;

create function public.environment()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select coalesce(
        nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-stalela-environment', 'sandbox'
    );
$$;
comment on function public.environment is 'The environment a signed-in person looks at: the header x-stalela-environment, otherwise sandbox.';
grant execute on function public.environment to authenticated;

create function public.custom_access_token_hook(event jsonb)
returns jsonb
language sql
stable
security definer -- the Auth service may not read memberships
set search_path = ''
as $$
    select jsonb_set(
        event, '{claims}',
        ((event -> 'claims') - '{tenant_id,app_role,outlet_id}'::text[]) || coalesce(
            (
                select jsonb_strip_nulls(jsonb_build_object(
                    'tenant_id', m.tenant_id, 'app_role', m.app_role, 'outlet_id', m.outlet_id
                ))
                from public.users as u
                join public.memberships as m on m.user_id = u.user_id and m.tenant_id = u.active_tenant_id
                where u.user_id = (event ->> 'user_id')::uuid and m.status = 'active'
            ),
            '{}'
        )
    );
$$;
comment on function public.custom_access_token_hook is
'Adds tenant_id, app_role and outlet_id of the person''s active membership to a new access token, and takes them away from one who has none.';
grant execute on function public.custom_access_token_hook to supabase_auth_admin;

reset role;

-- sql/public/functions/cron.sql

-- Two pg_cron jobs run everything: each claims what is due in its lane, commits, runs it, commits.

set role stalela_owner;

create function public.claim_task(lane text)
returns text
language plpgsql
volatile
security definer -- cron may not write cron_tasks
set search_path = ''
as $$
declare
    claimed text;
    problem text;
    failed bigint;
begin
    update public.cron_tasks as t
    set
        -- Keeps the beat; beats that were missed are not made up for.
        next_run_at = case
            when t.next_run_at + make_interval(secs => t.interval_s) > clock_timestamp() then t.next_run_at
            else clock_timestamp()
        end + make_interval(secs => t.interval_s),
        lease_until = clock_timestamp() + make_interval(secs => t.lease_s),
        last_started_at = clock_timestamp(),
        -- Still running after its lease: it was cut off and could not say so.
        failures = t.failures + (t.last_status is not distinct from 'running')::integer,
        last_error = case when t.last_status = 'running' then 'cut off before it finished' else t.last_error end,
        last_status = 'running'
    where t.task = any(array(
        select d.task
        from public.cron_tasks as d
        where
            d.lane = claim_task.lane and d.enabled and d.next_run_at <= clock_timestamp()
            and (d.lease_until is null or d.lease_until <= clock_timestamp())
        order by d.next_run_at
        limit 1
        for update skip locked
    ))
    returning t.task, t.failures, t.last_error into claimed, failed, problem;
    if failed >= 3 then
        -- A task that is cut off every time never gets to say so itself.
        perform public.raise_alert(
            'cron_task_failing', 'warning', claimed, null, null, jsonb_build_object('error', problem, 'failures', failed)
        );
    end if;
    return claimed;
end
$$;
comment on function public.claim_task is
'Takes the task of this lane that is due longest, under a lease; null when nothing is due. Commit before running it, so that a task that kills its session is not first in line again.';

create function public.run_task(task text)
returns void
language plpgsql
volatile
security definer -- tasks work as the owner of the tables
set search_path = ''
set lock_timeout = '2s'
as $$
declare
    routine text[];
    problem text;
    failed bigint;
begin
    select string_to_array(t.routine, '.') into strict routine
    from public.cron_tasks as t
    where t.task = run_task.task;
    begin
        execute format('select %I.%I()', routine[1], routine[2]);
    exception when others then
        problem := sqlstate || ' ' || sqlerrm;
    end;

    update public.cron_tasks as t
    set
        runs = t.runs + 1,
        failures = case when problem is null then 0 else t.failures + 1 end,
        last_status = case when problem is null then 'succeeded' else 'failed' end,
        last_error = coalesce(problem, t.last_error),
        last_finished_at = clock_timestamp(),
        lease_until = null
    where t.task = run_task.task
    returning t.failures into failed;
    if failed >= 3 then
        perform public.raise_alert(
            'cron_task_failing', 'warning', task, null, null, jsonb_build_object('error', problem, 'failures', failed)
        );
    end if;
end
$$;
comment on function public.run_task is
'Runs the routine of a claimed task and notes how it went; a failure undoes that task alone, the third in a row raises an alert.';

create function public.lane_deadline(budget interval)
returns timestamptz
language sql
volatile
set search_path = ''
as $$
    -- A whole lane is one statement to the server: stop before its statement_timeout would cut it off.
    select clock_timestamp()
        + least(budget, nullif(current_setting('statement_timeout')::interval, '0 s'::interval) * 0.9);
$$;
comment on function public.lane_deadline is 'When a lane that starts now must stop claiming.';

reset role;

-- sql/public/functions/idempotency.sql

-- Idempotency: the same key twice is one effect and one answer.

set role stalela_owner;

create function public.claim_idempotency(caller public.caller, route text, key text, body_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    stored public.idempotency_keys;
    -- Longer than any outside call; an unanswered claim that is older belongs to a request that died.
    lease constant interval := interval '60 seconds';
begin
    -- Two tests, because a bounded repetition makes an automaton of 128 states.
    if length(key) between 1 and 128 is not true or key ~ '[^\x21-\x7e]' then
        perform public.refuse(
            '40002', 'Send an Idempotency-Key header of 1 to 128 visible characters.',
            '{"errors": [{"pointer": "/headers/idempotency-key", "detail": "1 to 128 visible ASCII characters"}]}'
        );
    end if;
    -- A twin that runs at the same moment waits here until the first has ended.
    insert into public.idempotency_keys (tenant_id, environment, route, key, body_hash)
    values (
        (claim_idempotency.caller).tenant_id, (claim_idempotency.caller).environment, claim_idempotency.route,
        claim_idempotency.key, claim_idempotency.body_hash
    )
    on conflict on constraint idempotency_keys_pkey do nothing;
    if found then
        return null;
    end if;

    select k.* into strict stored
    from public.idempotency_keys as k
    where
        k.tenant_id = (claim_idempotency.caller).tenant_id
        and k.environment = (claim_idempotency.caller).environment
        and k.route = claim_idempotency.route
        and k.key = claim_idempotency.key;
    if stored.body_hash <> body_hash then
        perform public.refuse('42241', 'This Idempotency-Key was used before with another request body.');
    elsif stored.status is not null then
        return row(
            stored.status, stored.body, stored.headers || caller.rate || '{"Idempotent-Replayed": "true"}'
        )::public.answer;
    elsif stored.claimed_at > clock_timestamp() - lease then
        perform public.refuse(
            '40904', 'A request with this Idempotency-Key is still running.',
            '{"retry_after": 2}'
        );
    end if;
    return row(null, coalesce(stored.resource_id, ''), '{}')::public.answer;
end
$$;
comment on function public.claim_idempotency is
'All null: first, go on. With a status: the stored answer, send it. Status null and a body: the first request died while a rail was asked; answer with the present state of the resource named there. 40002, 42241, 40904.';

create function public.bind_idempotency(caller public.caller, route text, key text, resource_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
begin
    update public.idempotency_keys as k
    set resource_id = bind_idempotency.resource_id
    where
        k.tenant_id = (bind_idempotency.caller).tenant_id
        and k.environment = (bind_idempotency.caller).environment
        and k.route = bind_idempotency.route
        and k.key = bind_idempotency.key;
end
$$;
comment on function public.bind_idempotency is
'Notes what a claimed key is about before an outside call, so that a retry after a crash finds it.';

create function public.remember_answer(
    caller public.caller, route text, key text, resource_id text, answer public.answer
)
returns void
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
begin
    update public.idempotency_keys as k
    set
        resource_id = remember_answer.resource_id,
        status = (remember_answer.answer).status,
        body = (remember_answer.answer).body,
        -- A replay counts against the limits of its own moment.
        headers = coalesce((remember_answer.answer).headers, '{}')
            - '{RateLimit-Limit,RateLimit-Remaining,RateLimit-Reset}'::text[]
    where
        k.tenant_id = (remember_answer.caller).tenant_id
        and k.environment = (remember_answer.caller).environment
        and k.route = remember_answer.route
        and k.key = remember_answer.key
        and k.status is null;
end
$$;
comment on function public.remember_answer is 'Stores the answer of a claimed key, once; in the transaction of the effect.';

create function public.forget_idempotency(caller public.caller, route text, key text)
returns void
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
begin
    delete from public.idempotency_keys as k
    where
        k.tenant_id = (forget_idempotency.caller).tenant_id
        and k.environment = (forget_idempotency.caller).environment
        and k.route = forget_idempotency.route
        and k.key = forget_idempotency.key
        and k.status is null;
end
$$;
comment on function public.forget_idempotency is 'Frees a claimed key whose request had no effect, so that it may be sent again; an answered one stays.';

create function public.purge_idempotency_keys()
returns integer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    purged integer;
begin
    delete from public.idempotency_keys as k
    where k.ctid = any(array(
        select e.ctid
        from public.idempotency_keys as e
        where e.expires_at <= now()
        order by e.expires_at
        limit 5000
        for update skip locked
    ));
    get diagnostics purged = row_count;
    return purged;
end
$$;
comment on function public.purge_idempotency_keys is 'Removes up to 5,000 keys older than 36 hours. A cron task.';

reset role;

-- sql/public/functions/ids.sql

-- Identifiers: TypeIDs, a prefix and a version-7 uuid in 26 characters of Crockford's base 32.

set role stalela_owner;

create function public.new_id(prefix text)
returns text
language plpgsql
volatile
set search_path = ''
as $$
declare
    alphabet constant text := '0123456789abcdefghjkmnpqrstvwxyz';
    now_us bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    -- 48 bits of milliseconds, version 7, then the rest of the microsecond as 12 bits (RFC 9562, 6.2, method 3).
    high bigint := ((now_us / 1000) << 16) | 28672 | ((now_us % 1000) * 4096 / 1000);
    -- 62 random bits behind the variant, as gen_random_uuid sets it.
    low bigint := ('x' || encode(substr(uuid_send(gen_random_uuid()), 9), 'hex'))::bit(64)::bigint;
begin
    -- Written out because a loop takes twice as long, and a payment makes four of these.
    return prefix || '_'
        || substr(alphabet, (high >> 61 & 7)::integer + 1, 1)
        || substr(alphabet, (high >> 56 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 51 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 46 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 41 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 36 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 31 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 26 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 21 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 16 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 11 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 6 & 31)::integer + 1, 1)
        || substr(alphabet, (high >> 1 & 31)::integer + 1, 1)
        || substr(alphabet, (((high & 1) << 4) | (low >> 60 & 15))::integer + 1, 1)
        || substr(alphabet, (low >> 55 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 50 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 45 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 40 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 35 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 30 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 25 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 20 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 15 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 10 & 31)::integer + 1, 1)
        || substr(alphabet, (low >> 5 & 31)::integer + 1, 1)
        || substr(alphabet, (low & 31)::integer + 1, 1);
end
$$;
comment on function public.new_id is
'A TypeID: unique, and in the order of creation to the microsecond of one server''s clock. ''pi'' gives pi_ and 26 characters.';

reset role;

-- sql/public/functions/limits.sql

-- Rate limits: token buckets.

set role stalela_owner;

create function public.take_token(caller public.caller, bucket text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write buckets
set search_path = ''
as $$
declare
    limits record;
    now_us bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    price_us bigint;
    full_at_us bigint;
begin
    select
        case when o.tenant_id is null then p.rate_per_minute else o.rate_per_minute end as rate_per_minute,
        case when o.tenant_id is null then p.burst else o.burst end as burst
    into limits
    from public.rate_limit_plans as p
    left join public.rate_limit_overrides as o
        on o.tenant_id = (take_token.caller).tenant_id and o.bucket = p.bucket
    where
        p.bucket = take_token.bucket
        and p.plan = coalesce(
            (select t.plan from public.tenants as t where t.tenant_id = (take_token.caller).tenant_id), 'basic'
        );
    if not found then
        raise exception 'there is no rate limit bucket %', bucket;
    elsif limits.rate_per_minute is null then
        return '{}'::jsonb;
    end if;

    -- A full bucket lies in the past; each token moves that moment on by its price, at most burst tokens ahead of now.
    price_us := 60000000::bigint / limits.rate_per_minute;
    insert into public.rate_buckets as b (actor, bucket, full_at_us)
    values ((take_token.caller).actor, take_token.bucket, now_us + price_us)
    on conflict on constraint rate_buckets_pkey do update
    set full_at_us = greatest(b.full_at_us, now_us) + price_us
    where greatest(b.full_at_us, now_us) + price_us <= now_us + limits.burst * price_us
    returning b.full_at_us into full_at_us;
    if not found then
        perform public.refuse_too_many((take_token.caller).actor, bucket, now_us, price_us, limits.burst);
    end if;
    return jsonb_build_object(
        'RateLimit-Limit', limits.burst::text,
        'RateLimit-Remaining', ((now_us + limits.burst * price_us - full_at_us) / price_us)::text,
        'RateLimit-Reset', ((full_at_us - now_us + 999999) / 1000000)::text
    );
end
$$;
comment on function public.take_token is
'Takes one token in one statement and returns the RateLimit-* headers; 42901 with the seconds to wait when the bucket is empty. A request that is refused later gives its token back with its transaction.';

create function public.refuse_too_many(actor text, bucket text, now_us bigint, price_us bigint, burst integer)
returns void
language plpgsql
volatile
security definer -- callers may not read buckets
set search_path = ''
as $$
declare
    wait_us bigint;
begin
    select b.full_at_us + price_us - (now_us + burst * price_us) into wait_us
    from public.rate_buckets as b
    where b.actor = refuse_too_many.actor and b.bucket = refuse_too_many.bucket;
    perform public.refuse(
        '42901',
        format('At most %s requests of this kind at once, then one every %s ms.', burst, (price_us + 999) / 1000),
        jsonb_build_object(
            'retry_after', greatest(1, (wait_us + 999999) / 1000000),
            'headers', jsonb_build_object('RateLimit-Limit', burst::text, 'RateLimit-Remaining', '0')
        )
    );
end
$$;
comment on function public.refuse_too_many is 'Refuses with 42901 and the whole seconds until a token is there again.';

create function public.purge_rate_buckets()
returns integer
language plpgsql
volatile
security definer -- callers may not write buckets
set search_path = ''
as $$
declare
    purged integer;
begin
    delete from public.rate_buckets as b
    where (b.actor, b.bucket) in (
        select f.actor, f.bucket
        from public.rate_buckets as f
        where f.full_at_us < extract(epoch from now() - interval '1 hour') * 1000000
        limit 5000
        for update skip locked
    );
    get diagnostics purged = row_count;
    return purged;
end
$$;
comment on function public.purge_rate_buckets is 'Removes up to 5,000 buckets that have been full for an hour: the same as new ones. A cron task.';

reset role;

-- sql/public/functions/money.sql

-- Money on the wire.

set role stalela_owner;

create function public.format_amount(minor bigint, currency text)
returns text
language plpgsql
stable
security definer -- callers may not read currencies
set search_path = ''
as $$
begin
    return (
        -- A product has the decimals of its factors, so this is exact at every scale; a quotient would be rounded.
        select (minor * ('1e-' || c.scale)::numeric)::text
        from public.currencies as c
        where c.code = format_amount.currency
    );
end
$$;
comment on function public.format_amount is
'Minor units as a decimal string with exactly the currency''s decimals: 10000 KES is 100.00. Null for a currency that does not exist.';

reset role;

-- sql/public/functions/pokes.sql

-- Waking functions.

set role stalela_owner;

create function public.poke(function_name text)
returns void
language plpgsql
volatile
security definer -- callers may not write pokes
set search_path = ''
as $$
begin
    perform public.poke_all(array[function_name], interval '1 second');
end
$$;
comment on function public.poke is
'Asks pg_net to wake a function after this transaction commits: at most once a second, never waiting, never failing. A poke may be lost or swallowed, so each consumer also has a cron task.';

create function public.poke_all(function_names text[], pause interval)
returns void
language plpgsql
volatile
security definer -- callers may not write pokes
set search_path = ''
as $$
declare
    due text[] := array(
        select f.function_name
        from unnest(function_names) as f (function_name)
        where not exists (
            select from public.pokes as p
            where p.function_name = f.function_name and p.poked_at > clock_timestamp() - pause
        )
    );
    function_name text;
begin
    foreach function_name in array due loop
        -- Somebody else is poking this very moment: theirs will do, and nobody waits.
        continue when not pg_try_advisory_xact_lock(hashtext('public.poke'), hashtext(function_name));
        begin
            perform public.send_poke(function_name);
        exception when others then
            -- A wake-up call is a courtesy; the business it follows must not fail because of it. The cron lanes are
            -- the safety net.
            raise warning 'poke of % failed: %', function_name, sqlerrm;
        end;
    end loop;
end
$$;
comment on function public.poke_all is
'Pokes these functions, each only if nobody did within the pause. Never waits, never fails, and costs one look when all were poked a moment ago.';

create function public.send_poke(function_name text)
returns void
language plpgsql
volatile
security definer -- callers may not read the vault
set search_path = ''
as $$
declare
    base_url text;
    token text;
begin
    insert into public.pokes (function_name, poked_at) values (send_poke.function_name, clock_timestamp())
    on conflict on constraint pokes_pkey do update set poked_at = excluded.poked_at;
    select s.decrypted_secret into base_url from vault.decrypted_secrets as s where s.name = 'functions_base_url';
    select s.decrypted_secret into token from vault.decrypted_secrets as s where s.name = 'internal_token';
    if base_url is null or token is null then
        return;
    end if;
    perform net.http_post(
        url := base_url || '/' || replace(function_name, '_', '-'),
        body := '{}'::jsonb,
        headers := jsonb_build_object('Content-Type', 'application/json', 'Authorization', 'Bearer ' || token),
        timeout_milliseconds := 5000
    );
end
$$;
comment on function public.send_poke is 'Queues the request that wakes a function and notes when; nothing leaves before this transaction commits.';

reset role;

-- sql/public/functions/refusals.sql

-- Refusing a request.

set role stalela_owner;

create function public.refuse(code text, message text, extras jsonb default '{}')
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    -- PTnnn: the Data API answers nnn. Its client shows detail and hint, never the HTTP status.
    raise exception using
        errcode = 'PT' || left(code, 3), message = message, detail = code, hint = extras::text;
end
$$;
comment on function public.refuse is
'Ends the transaction with a code of public.error_codes. extras: errors [{pointer, detail}], retry_after (seconds), current_state, allowed.';

create function public.refuse_field(code text, pointer text, message text)
returns void
language sql
volatile
set search_path = ''
as $$
    select public.refuse(refuse_field.code, refuse_field.message, jsonb_build_object(
        'errors', jsonb_build_array(
            jsonb_build_object('pointer', refuse_field.pointer, 'detail', refuse_field.message)
        )
    ));
$$;
comment on function public.refuse_field is 'Refuses because of one field, named by its JSON pointer.';

reset role;

-- sql/public/functions/settings.sql

-- Settings.

set role stalela_owner;

create function public.setting(key text)
returns jsonb
language sql
stable
security definer -- callers may not read settings
set search_path = ''
as $$
    select s.value from public.settings as s where s.key = setting.key;
$$;
comment on function public.setting is 'One setting; null when it does not exist.';

reset role;

-- sql/public/functions/team.sql

-- The people of a tenant.

set role stalela_owner;

create function public.require_role_scopes(caller public.caller, app_role text)
returns void
language plpgsql
stable
security definer -- callers may not read roles
set search_path = ''
as $$
declare
    missing text;
begin
    perform from public.app_roles as r where r.app_role = require_role_scopes.app_role and not r.is_platform;
    if not found then
        perform public.refuse_field('42262', '/app_role', 'app_role is one of the roles of an organisation.');
    end if;
    select r.scope into missing
    from public.role_scopes as r
    where r.app_role = require_role_scopes.app_role and not public.holds_scope(caller.scopes, r.scope)
    limit 1;
    if found then
        perform public.refuse(
            '40312', format('Only somebody who holds the scope %s may deal with the role %s.', missing, app_role)
        );
    end if;
end
$$;
comment on function public.require_role_scopes is
'Nobody gives, changes or takes a role that may do more than they may themselves: 40312. Platform roles cannot be given: 42262.';

create function public.list_users()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read memberships
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, json_build_object(
        'data', array(
            select row_to_json(shown)
            from (
                select m.user_id as id, 'user' as object, u.email, m.app_role, m.outlet_id, m.created_at
                from public.memberships as m
                join public.users as u on u.user_id = m.user_id
                where m.tenant_id = caller.tenant_id and m.status = 'active'
                order by m.created_at, m.user_id
            ) as shown
        ),
        'invitations', array(
            select public.invitation_resource(i)
            from public.invitations as i
            where i.tenant_id = caller.tenant_id and i.accepted_at is null and i.expires_at > now()
            order by i.created_at, i.invitation_id
        )
    ));
end
$$;
comment on function public.list_users is 'The members of the organisation and its open invitations, oldest first.';

create function public.invitation_resource(invitation public.invitations)
returns json
language sql
stable
set search_path = ''
as $$
    select row_to_json(shown)
    from (
        select invitation.invitation_id as id, 'invitation' as object, invitation.email, invitation.app_role,
            invitation.invited_by, invitation.created_at, invitation.expires_at
    ) as shown;
$$;
comment on function public.invitation_resource is 'The wire shape of an invitation; its token is known to the invited person alone.';

create function public.invite_user(email text, app_role text, token_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write invitations
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('team:manage', 'manage');
    address text := lower(trim(invite_user.email));
    valid_s integer := public.setting('invitations.valid_s')::integer;
    invited public.invitations;
begin
    perform public.require_role_scopes(caller, invite_user.app_role);
    perform from public.memberships as m
    join public.users as u on u.user_id = m.user_id
    where m.tenant_id = caller.tenant_id and m.status = 'active' and u.email = address;
    if found then
        perform public.refuse('40914', 'This person belongs to the organisation already.');
    end if;
    insert into public.invitations as i (
        invitation_id, tenant_id, email, app_role, token_hash, invited_by, expires_at
    ) values (
        public.new_id('invt'), caller.tenant_id, address, invite_user.app_role, invite_user.token_hash,
        caller.actor, now() + make_interval(secs => valid_s)
    )
    on conflict (tenant_id, email) where accepted_at is null do update
    set
        app_role = excluded.app_role, token_hash = excluded.token_hash, invited_by = excluded.invited_by,
        created_at = now(), expires_at = excluded.expires_at
    returning i.* into invited;
    caller.environment := null;
    perform public.audit(
        caller, 'team.invite', invited.invitation_id,
        jsonb_build_object('email', invited.email, 'app_role', invited.app_role)
    );
    return public.reply(caller, 201, public.invitation_resource(invited));
end
$$;
comment on function public.invite_user is
'Invites an address; a second invitation replaces the first, whose token stops working. 201, 40312, 40914.';

create function public.accept_invitation(token_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
declare
    caller public.caller := public.person_without_tenant();
    person record := public.signed_in_user();
    invited public.invitations;
begin
    caller.rate := public.take_token(caller, 'manage');
    update public.invitations as i
    set accepted_at = now()
    where
        i.token_hash = accept_invitation.token_hash and i.accepted_at is null and i.expires_at > now()
        and i.email = person.email
    returning i.* into invited;
    if not found then
        perform public.refuse('40401', 'There is no open invitation with this token for your address.');
    end if;
    perform public.check_tenant(
        (select t.status from public.tenants as t where t.tenant_id = invited.tenant_id), 'sandbox'
    );
    perform public.join_tenant(invited.tenant_id, person.user_id, person.email, invited.app_role);
    update public.invitations as i set accepted_by = person.user_id where i.invitation_id = invited.invitation_id;

    caller.tenant_id := invited.tenant_id;
    caller.environment := null;
    perform public.audit(
        caller, 'team.accept', invited.invitation_id, jsonb_build_object('app_role', invited.app_role)
    );
    return public.reply(caller, 200, json_build_object(
        'account', public.tenant_resource(invited.tenant_id), 'app_role', invited.app_role
    ));
end
$$;
comment on function public.accept_invitation is
'Makes the signed-in person a member; works once, in time, for the invited address alone: 40401 otherwise. Their next access token names the organisation.';

create function public.lock_member(caller public.caller, user_id uuid)
returns public.memberships
language plpgsql
volatile
security definer -- callers may not lock memberships
set search_path = ''
as $$
declare
    member public.memberships;
begin
    -- All owners first and in one order: two owners who remove each other come one after the other.
    perform from public.memberships as m
    where m.tenant_id = (lock_member.caller).tenant_id and m.status = 'active' and m.app_role = 'owner'
    order by m.user_id
    for update;
    select m.* into member
    from public.memberships as m
    where
        m.tenant_id = (lock_member.caller).tenant_id and m.user_id = lock_member.user_id and m.status = 'active'
    for update;
    if not found then
        perform public.refuse('40401', format('There is no user %s in this organisation.', user_id));
    end if;
    perform public.require_role_scopes(caller, member.app_role);
    return member;
end
$$;
comment on function public.lock_member is 'The locked membership of somebody the caller may manage, with every owner locked before it.';

create function public.require_other_owner(member public.memberships)
returns void
language plpgsql
stable
security definer -- callers may not read memberships
set search_path = ''
as $$
begin
    if member.app_role = 'owner' and not exists (
        select from public.memberships as m
        where
            m.tenant_id = member.tenant_id and m.user_id <> member.user_id
            and m.status = 'active' and m.app_role = 'owner'
    ) then
        perform public.refuse(
            '40911', 'This is the last owner: make somebody else an owner first.',
            '{"current_state": "last_owner", "allowed": []}'
        );
    end if;
end
$$;
comment on function public.require_other_owner is 'Refuses with 40911 to lose the last owner. The owners are locked.';

create function public.change_user_role(user_id uuid, app_role text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('team:manage', 'manage');
    member public.memberships;
begin
    perform public.require_role_scopes(caller, change_user_role.app_role);
    member := public.lock_member(caller, change_user_role.user_id);
    if member.app_role <> change_user_role.app_role then
        perform public.require_other_owner(member);
        update public.memberships as m
        set app_role = change_user_role.app_role, updated_at = now()
        where m.tenant_id = member.tenant_id and m.user_id = member.user_id;
        perform public.withdraw_invitations(member);
        caller.environment := null;
        perform public.audit(caller, 'team.change_role', 'user:' || member.user_id, jsonb_build_object(
            'from', member.app_role, 'to', change_user_role.app_role
        ));
    end if;
    return public.reply(caller, 200, json_build_object(
        'id', member.user_id, 'object', 'user', 'app_role', change_user_role.app_role
    ));
end
$$;
comment on function public.change_user_role is
'Gives a member another role, at once: roles are read at every call. 40911 for the last owner, 40312 beyond one''s own powers.';

create function public.remove_user(user_id uuid)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('team:manage', 'manage');
    member public.memberships := public.lock_member(caller, remove_user.user_id);
begin
    perform public.require_other_owner(member);
    update public.memberships as m
    set status = 'removed', updated_at = now()
    where m.tenant_id = member.tenant_id and m.user_id = member.user_id;
    update public.users as u
    set active_tenant_id = null, updated_at = now()
    where u.user_id = member.user_id and u.active_tenant_id = member.tenant_id;
    perform public.withdraw_invitations(member);
    caller.environment := null;
    perform public.audit(
        caller, 'team.remove', 'user:' || member.user_id, jsonb_build_object('app_role', member.app_role)
    );
    return public.reply(caller, 200, json_build_object(
        'id', member.user_id, 'object', 'user', 'removed', true,
        'api_keys_to_rotate', array(
            select k.key_id
            from public.api_keys as k
            where
                k.tenant_id = member.tenant_id and k.created_by = 'user:' || member.user_id and k.status = 'active'
                and (k.expires_at is null or k.expires_at > now())
            order by k.created_at, k.key_id
        )
    ));
end
$$;
comment on function public.remove_user is
'Ends a membership at once, never the last owner''s (40911). Keys the person saw keep working; they are listed so that somebody rotates them.';

create function public.withdraw_invitations(member public.memberships)
returns void
language sql
volatile
security definer -- callers may not write invitations
set search_path = ''
as $$
    delete from public.invitations as i
    where i.tenant_id = member.tenant_id and i.invited_by = 'user:' || member.user_id and i.accepted_at is null;
$$;
comment on function public.withdraw_invitations is
'Takes back what a person invited while they had powers they are losing; otherwise they could return through a second address.';

reset role;

-- sql/public/functions/tenants.sql

-- Tenants: sign-up and account.

set role stalela_owner;

create function public.tenant_resource(tenant_id text)
returns json
language sql
stable
security definer -- callers may not read tenants
set search_path = ''
as $$
    select row_to_json(shown)
    from (
        select t.tenant_id as id, 'account' as object, t.name, t.country, t.status, t.plan, t.created_at
        from public.tenants as t
        where t.tenant_id = tenant_resource.tenant_id
    ) as shown;
$$;
comment on function public.tenant_resource is 'The wire shape of a tenant.';

create function public.create_tenant(idempotency_key text, body_hash text, name text, country text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write tenants
set search_path = ''
as $$
declare
    caller public.caller := public.person_without_tenant();
    person record := public.signed_in_user();
    answer public.answer;
    owner public.caller;
begin
    caller.rate := public.take_token(caller, 'manage');
    answer := public.claim_idempotency(caller, 'POST /merchants', idempotency_key, body_hash);
    if answer.body is not null then
        return answer;
    end if;
    if length(trim(name)) not between 1 and 200 or name is null then
        perform public.refuse_field('42262', '/name', 'name has 1 to 200 characters.');
    elsif country !~ '^[A-Z]{2}$' or country is null then
        perform public.refuse_field('42262', '/country', 'country is an ISO 3166-1 code of two capital letters.');
    end if;

    owner := caller;
    owner.tenant_id := public.new_id('tn');
    owner.environment := null;
    insert into public.tenants (tenant_id, name, country)
    values (owner.tenant_id, trim(create_tenant.name), create_tenant.country);
    perform public.join_tenant(owner.tenant_id, person.user_id, person.email, 'owner');
    perform public.audit(owner, 'tenant.create', owner.tenant_id, '{}');

    answer := public.reply(caller, 201, public.tenant_resource(owner.tenant_id));
    perform public.remember_answer(caller, 'POST /merchants', idempotency_key, owner.tenant_id, answer);
    return answer;
end
$$;
comment on function public.create_tenant is
'Signs up an organisation for a signed-in person, who becomes its owner; pending until the platform activates it. Their next access token names it. 201.';

create function public.person_without_tenant()
returns public.caller
language plpgsql
stable
security definer -- callers may not read function_roles
set search_path = ''
as $$
declare
    actor text := 'user:' || (public.signed_in_user()).user_id;
begin
    return row(actor, 'sandbox', actor, '{}', null, (public.signed_in_user()).user_id, null, '{}')::public.caller;
end
$$;
comment on function public.person_without_tenant is
'A signed-in person before they belong anywhere: their own id stands in for the tenant, in limits and idempotency keys.';

create function public.join_tenant(tenant_id text, user_id uuid, email text, app_role text)
returns void
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
begin
    insert into public.users as u (user_id, email, active_tenant_id)
    values (join_tenant.user_id, join_tenant.email, join_tenant.tenant_id)
    on conflict on constraint users_pkey do update
    set email = excluded.email, active_tenant_id = excluded.active_tenant_id, updated_at = now();
    insert into public.memberships as m (tenant_id, user_id, app_role)
    values (join_tenant.tenant_id, join_tenant.user_id, join_tenant.app_role)
    on conflict on constraint memberships_pkey do update
    set app_role = excluded.app_role, outlet_id = null, status = 'active', updated_at = now()
    where m.status = 'removed';
    if not found then
        perform public.refuse('40914', 'You belong to this organisation already.');
    end if;
end
$$;
comment on function public.join_tenant is 'Makes a person a member and this their active tenant; 40914 for a member.';

create function public.get_account()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read tenants
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, json_build_object(
        'account', public.tenant_resource(caller.tenant_id),
        'caller', json_build_object(
            'actor', caller.actor, 'environment', caller.environment, 'app_role', caller.app_role,
            'scopes', caller.scopes
        )
    ));
end
$$;
comment on function public.get_account is 'The caller''s organisation, and what the caller may do there.';

create function public.list_audit(page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the audit log
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('audit:read', 'read');
    wanted integer := least(greatest(coalesce(page_size, 20), 1), 100);
    entries json[];
begin
    if page_after !~ '^[0-9]{1,18}$' then
        perform public.refuse_field('42262', '/cursor', 'Pass next_cursor of the previous page, unchanged.');
    end if;
    entries := array(
        select row_to_json(shown)
        from (
            select a.audit_id as id, 'audit_entry' as object, a.environment, a.actor, a.action, a.subject, a.details,
                a.request_id, a.occurred_at
            from public.audit_log as a
            where
                a.tenant_id = caller.tenant_id
                and (a.environment is null or a.environment = caller.environment)
                and (page_after is null or a.audit_id < page_after::bigint)
            order by a.audit_id desc
            limit wanted + 1
        ) as shown
    );
    return public.reply(caller, 200, json_build_object(
        'data', to_json(entries[1:wanted]),
        'pagination', json_build_object(
            'limit', wanted,
            'has_more', cardinality(entries) > wanted,
            'next_cursor', case when cardinality(entries) > wanted then entries[wanted] ->> 'id' end
        )
    ));
end
$$;
comment on function public.list_audit is
'One page of the organisation''s audit trail, newest first: what concerns it as a whole and what happened in the caller''s environment.';

create function public.set_tenant_status(tenant_id text, status text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write tenants
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    subject public.caller := caller;
    was text;
begin
    -- closed is for good; the other three may follow each other.
    select t.status into was
    from public.tenants as t
    where t.tenant_id = set_tenant_status.tenant_id
    for update;
    if not found then
        perform public.refuse('40401', format('There is no organisation %s.', tenant_id));
    elsif was = 'closed' or status = 'pending' then
        perform public.refuse(
            '40911', format('An organisation that is %s cannot become %s.', was, status),
            jsonb_build_object('current_state', was)
        );
    end if;
    update public.tenants as t
    set status = set_tenant_status.status, updated_at = now()
    where t.tenant_id = set_tenant_status.tenant_id;
    -- Their record, for them to read, whoever did it.
    subject.tenant_id := set_tenant_status.tenant_id;
    subject.environment := null;
    perform public.audit(subject, 'tenant.' || status, tenant_id, jsonb_build_object('was', was, 'reason', reason));
    return public.reply(caller, 200, public.tenant_resource(tenant_id));
end
$$;
comment on function public.set_tenant_status is
'An operator of the platform activates, suspends or closes an organisation, with a reason for the record. closed is final.';

reset role;

-- sql/payments/functions/attempts.sql

-- An attempt on a rail: begin (before it is called), record (after it answered), release (nothing was sent).
-- Beginning to collect is here; refunds, payouts and direct transfers begin in files of their own.

set role stalela_owner;

create function payments.begin_transfer(
    payment_intent_id text, idempotency_key text, body_hash text, rail text,
    payer_sealed text, payer_masked text, payer_hash text
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    intent payments.payment_intents;
    answer public.answer;
    transfer payments.transfers;
begin
    seen := payments.visible_intent(begin_transfer.payment_intent_id, 'payments:write', 'write', true);
    intent := seen.intent;
    answer := public.claim_idempotency(
        seen.caller, 'POST /payment-intents/{id}/confirm', begin_transfer.idempotency_key,
        begin_transfer.body_hash || ':' || intent.payment_intent_id
    );
    if answer.body is not null then
        -- A claim whose first request died keeps no answer; what became of it is the intent as it stands.
        if answer.status is null then
            answer := row(200, payments.intent_resource(intent, seen.reveal_secret),
                (seen.caller).rate || '{"Idempotent-Replayed": "true"}');
        end if;
        return row(answer, null::jsonb);
    end if;

    if not begin_transfer.rail = any(intent.payment_method_types) then
        perform public.refuse(
            '42261', format('This intent takes %s.', array_to_string(intent.payment_method_types, ', ')),
            jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/payment_method/type',
                'detail', format('not one of payment_method_types: %s', array_to_string(intent.payment_method_types, ', '))
            )))
        );
    end if;
    perform from rails.rails as r where r.rail = begin_transfer.rail and r.enabled;
    if not found then
        perform public.refuse_field(
            '42261', '/payment_method/type', format('%s is switched off for now.', begin_transfer.rail)
        );
    end if;
    if intent.status = 'requires_payment_method' and intent.expires_at <= now() then
        perform public.refuse('40911', 'This payment intent has expired; create a new one.',
            '{"current_state": "expired", "allowed": []}');
    end if;
    perform rails.check_credentials(intent.tenant_id, intent.environment, begin_transfer.rail);
    insert into payments.transfers (
        transfer_id, tenant_id, environment, payment_intent_id, intent, rail, state, amount_minor, currency,
        payer_sealed, payer_masked, payer_hash, description, created_by
    )
    select
        public.new_id('tr'), intent.tenant_id, intent.environment, intent.payment_intent_id, 'PULL',
        begin_transfer.rail, 'INITIATED', intent.amount_minor - intent.amount_received_minor, intent.currency,
        begin_transfer.payer_sealed, begin_transfer.payer_masked, begin_transfer.payer_hash,
        intent.description, (seen.caller).actor
    -- The move is asked for below; this keeps the one-open-transfer constraint from answering in its place.
    where intent.status in ('requires_payment_method', 'partially_paid')
    returning * into transfer;
    perform payments.advance_intent(
        intent.payment_intent_id, 'confirm', jsonb_build_object('transfer_id', transfer.transfer_id)
    );
    perform compliance.admit(
        transfer.tenant_id, transfer.environment, 'in', transfer.rail, transfer.amount_minor, transfer.currency,
        transfer.payer_hash, transfer.transfer_id
    );
    perform payments.record_transfer_event(transfer, 'transfer.initiated', payments.transfer_payload(transfer));
    perform public.bind_idempotency(
        seen.caller, 'POST /payment-intents/{id}/confirm', begin_transfer.idempotency_key, intent.payment_intent_id
    );
    return row(
        null::public.answer,
        payments.send_transfer(transfer, 'POST /payment-intents/{id}/confirm', (seen.caller).rate)
    );
end
$$;
comment on function payments.begin_transfer is
'Before the rail is called: claims the key, moves the intent to processing, writes transfer, attempt, callback token (hash) and watch. The instruction carries the token in clear, this once.';

create function payments.send_transfer(transfer payments.transfers, route text, headers jsonb)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    token text := payments.random_secret();
    sent payments.transfers;
begin
    sent := payments.advance_transfer(transfer.transfer_id, 'submit', 'api');
    insert into payments.attempts (transfer_id, number, tenant_id, environment, callback_token_hash, route)
    values (
        sent.transfer_id, 1, sent.tenant_id, sent.environment,
        encode(sha256(convert_to(token, 'utf8')), 'hex'), send_transfer.route
    );
    insert into rails.watches (transfer_id, tenant_id, environment, due_at, horizon_at)
    select
        sent.transfer_id, sent.tenant_id, sent.environment,
        now() + make_interval(secs => r.query_waits_s[1]),
        now() + make_interval(secs => r.horizon_s)
    from rails.rails as r
    where r.rail = sent.rail;
    return rails.work_item(sent, token) || jsonb_build_object('headers', send_transfer.headers);
end
$$;
comment on function payments.send_transfer is
'The last step before the rail is called, in the transaction that decided to: submitted, one attempt with a new callback token (stored hashed), watched. Returns the instruction with the token in clear, this once. A transfer passes here once in its life.';

create function payments.begun_by_us(transfer_id text, callback_token_hash text)
returns payments.transfers
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
begin
    -- Not the key of the request: it may have been revoked while the rail was asked, and what the rail said must
    -- be kept all the same. Only who was handed the instruction knows the token.
    select t.* into transfer
    from payments.transfers as t
    inner join payments.attempts as a on a.transfer_id = t.transfer_id
    where
        t.transfer_id = begun_by_us.transfer_id
        and a.callback_token_hash = begun_by_us.callback_token_hash;
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', begun_by_us.transfer_id));
    end if;
    return transfer;
end
$$;
comment on function payments.begun_by_us is 'The transfer whose instruction carried this callback token; 40401 otherwise.';

create function payments.record_submission(
    transfer_id text, callback_token_hash text, idempotency_key text, event jsonb
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller;
    transfer payments.transfers;
    answer public.answer;
    route text := payments.route_of(record_submission.transfer_id);
    reveal_secret boolean := not coalesce(
        nullif(current_setting('request.headers', true), '')::jsonb ? 'x-stalela-client-secret-hash', false
    );
begin
    transfer := payments.begun_by_us(record_submission.transfer_id, record_submission.callback_token_hash);
    caller.tenant_id := transfer.tenant_id;
    caller.environment := transfer.environment;
    update payments.attempts as a
    set answered_at = now(), outcome = record_submission.event ->> 'outcome', code = record_submission.event ->> 'code'
    where a.transfer_id = record_submission.transfer_id and a.number = 1;
    perform rails.apply_event(record_submission.transfer_id, record_submission.event, 'submit', true);

    select t.* into transfer from payments.transfers as t where t.transfer_id = record_submission.transfer_id;
    answer := row(
        case when route in ('POST /refunds', 'POST /payouts', 'POST /transfers') then 201 else 200 end,
        payments.resource_of(transfer, reveal_secret), '{}'::jsonb
    );
    perform public.remember_answer(
        caller, route, record_submission.idempotency_key,
        case transfer.purpose when 'collection' then transfer.payment_intent_id else transfer.transfer_id end, answer
    );
    return answer;
end
$$;
comment on function payments.record_submission is
'After the rail answered (or fell silent): applies the event and stores the answer of the request that sent it. A callback may have come first.';

create function payments.route_of(transfer_id text)
returns text
language plpgsql
stable
security definer -- callers may not read attempts
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (select a.route from payments.attempts as a where a.transfer_id = route_of.transfer_id and a.number = 1);
end
$$;
comment on function payments.route_of is 'The route of the request that sent this transfer: its idempotency key belongs to it.';

create function payments.release_submission(
    transfer_id text, callback_token_hash text, idempotency_key text, reason text, retry_after integer
)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller;
    transfer payments.transfers;
begin
    transfer := payments.begun_by_us(release_submission.transfer_id, release_submission.callback_token_hash);
    caller.tenant_id := transfer.tenant_id;
    caller.environment := transfer.environment;
    update payments.attempts as a
    set answered_at = now(), outcome = 'failed_retryable', code = release_submission.reason
    where a.transfer_id = release_submission.transfer_id and a.number = 1;
    perform rails.apply_event(
        release_submission.transfer_id,
        jsonb_build_object(
            'outcome', 'failed_retryable', 'source', 'submit', 'reason', 'RAIL_UNAVAILABLE',
            'message', release_submission.reason, 'retry_after_s', release_submission.retry_after
        ),
        'submit', true
    );
    -- Nothing left the house, so the same key may try again.
    perform public.forget_idempotency(
        caller, payments.route_of(release_submission.transfer_id), release_submission.idempotency_key
    );
end
$$;
comment on function payments.release_submission is
'Nothing was sent to the rail: the transfer fails and says so, an intent takes another attempt, the key is free again.';

reset role;

-- sql/payments/functions/deposits.sql

-- Deposits as transfers: booked for an open intent, or unallocated until a person says what they were for.

set role stalela_owner;

create function payments.record_deposit(
    tenant_id text, environment text, rail text, payment_intent_id text, told jsonb
)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    intent payments.payment_intents;
    deposit payments.transfers;
begin
    select i.* into intent
    from payments.payment_intents as i
    where
        i.payment_intent_id = record_deposit.payment_intent_id and i.currency = told ->> 'currency'
        and i.status in ('requires_payment_method', 'processing', 'partially_paid')
    for no key update;
    insert into payments.transfers (
        transfer_id, tenant_id, environment, payment_intent_id, intent, rail, state, amount_minor, currency,
        purpose, operation, payer_masked, description, created_by, unallocated_reason
    ) values (
        public.new_id('tr'), record_deposit.tenant_id, record_deposit.environment, intent.payment_intent_id, 'PUSH',
        record_deposit.rail, 'INITIATED', (told ->> 'amount_minor')::bigint, told ->> 'currency', 'c2b', null,
        told ->> 'payer_masked', left(told ->> 'account_reference', 500), 'rail:' || record_deposit.rail,
        case
            when intent.payment_intent_id is not null then null
            when coalesce(told ->> 'account_reference', '') = '' then 'no_account_reference'
            else 'no_open_intent'
        end
    )
    returning * into deposit;
    perform payments.record_transfer_event(deposit, 'transfer.initiated', payments.transfer_payload(deposit));
    deposit := payments.advance_transfer(deposit.transfer_id, 'submit', 'callback');
    perform rails.settle_transfer(deposit, told ->> 'receipt', 'callback');
    if deposit.unallocated_reason is not null then
        perform payments.annotate_transfer(deposit.transfer_id, 'transfer.unallocated', jsonb_build_object(
            'unallocated_reason', deposit.unallocated_reason
        ));
        perform public.raise_alert(
            'deposit_unallocated', 'warning', deposit.transfer_id, deposit.tenant_id, deposit.environment,
            jsonb_build_object('reason', deposit.unallocated_reason)
        );
    end if;
    return deposit.transfer_id;
end
$$;
comment on function payments.record_deposit is
'Books a deposit that the rail confirmed, once per receipt: for the open intent, or unallocated, which raises an alert.';

create function payments.assign_deposit(
    transfer_id text, idempotency_key text, body_hash text, payment_intent_id text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    route constant text := 'POST /transfers/{id}/assign';
    answer public.answer;
    intent payments.payment_intents;
    deposit payments.transfers;
begin
    answer := public.claim_idempotency(
        caller, route, assign_deposit.idempotency_key, assign_deposit.body_hash || ':' || assign_deposit.transfer_id
    );
    if answer.body is not null then
        return payments.stored_answer(caller, answer);
    end if;
    select i.* into intent
    from payments.payment_intents as i
    where
        i.payment_intent_id = assign_deposit.payment_intent_id
        and i.tenant_id = caller.tenant_id and i.environment = caller.environment
    for no key update;
    if not found then
        perform public.refuse_field(
            '42262', '/payment_intent', format('there is no payment intent %s here.', assign_deposit.payment_intent_id)
        );
    end if;
    deposit := payments.visible_transfer(assign_deposit.transfer_id, caller, '{c2b}', true);
    if deposit.unallocated_reason is null or deposit.state <> 'SETTLED' then
        perform public.refuse('40911', 'This deposit does not wait to be assigned.', jsonb_build_object(
            'current_state', deposit.state, 'allowed', '[]'::jsonb
        ));
    elsif deposit.returned_minor + deposit.refunds_open_minor > 0 then
        perform public.refuse('40911', 'Some of this deposit went back, so it pays for nothing any more.',
            jsonb_build_object('current_state', deposit.state, 'allowed', '[]'::jsonb));
    elsif deposit.currency <> intent.currency then
        perform public.refuse_field('42262', '/payment_intent', format('that intent is in %s.', intent.currency));
    elsif intent.status = 'succeeded' then
        perform public.refuse_field('42262', '/payment_intent', 'that intent is paid in full already.');
    end if;
    update payments.transfers as t
    set payment_intent_id = intent.payment_intent_id, unallocated_reason = null
    where t.transfer_id = assign_deposit.transfer_id;
    deposit := payments.annotate_transfer(
        assign_deposit.transfer_id, 'transfer.allocated', jsonb_build_object('reason', assign_deposit.reason)
    );
    perform payments.credit_intent(intent.payment_intent_id, deposit.transfer_id, deposit.amount_minor);
    perform public.resolve_alert('deposit_unallocated', deposit.transfer_id, 'assigned');
    perform public.audit(caller, 'deposit.assign', deposit.transfer_id, jsonb_build_object(
        'payment_intent', intent.payment_intent_id, 'reason', assign_deposit.reason
    ));
    answer := row(200, payments.transfer_resource(deposit), caller.rate);
    perform public.remember_answer(caller, route, assign_deposit.idempotency_key, deposit.transfer_id, answer);
    return answer;
end
$$;
comment on function payments.assign_deposit is
'A person says which intent an unallocated deposit pays, in full or in part. Audited with the reason.';

reset role;

-- sql/payments/functions/events.sql

-- Events and their way out: the log of intents, the log of transfers, one outbox row per event and destination.

set role stalela_owner;

create function payments.record_intent_event(intent payments.payment_intents, type text, payload jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
declare
    new_event_id text := public.new_id('evt');
    destinations text[];
begin
    insert into payments.intent_events (
        event_id, tenant_id, environment, payment_intent_id, seq, type, payload, traceparent
    ) values (
        new_event_id, intent.tenant_id, intent.environment, intent.payment_intent_id,
        intent.version, record_intent_event.type, record_intent_event.payload,
        nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb ->> 'traceparent'
    );
    -- Written out in both functions: one call less is a fortieth of a payment's creation.
    destinations := array(
        select d.destination
        from public.destinations as d
        where
            d.enabled
            and exists (
                select from public.event_subscriptions as s
                where s.destination = d.destination and s.enabled and record_intent_event.type like s.pattern
            )
    );
    if destinations <> '{}' then
        insert into payments.outbox (destination, event_id, event_type, tenant_id, environment, ordering_key, seq)
        select d.destination, new_event_id, record_intent_event.type, intent.tenant_id, intent.environment, intent.payment_intent_id,
            intent.version
        from unnest(destinations) as d (destination);
    end if;
end
$$;
comment on function payments.record_intent_event is
'Appends one event at the intent''s version, with the W3C traceparent of the request, and one outbox row for each destination that subscribes to its type.';

create function payments.record_transfer_event(transfer payments.transfers, type text, payload jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
declare
    new_event_id text := public.new_id('evt');
    destinations text[];
begin
    insert into payments.transfer_events (
        event_id, tenant_id, environment, transfer_id, payment_intent_id, seq, type, payload, traceparent
    ) values (
        new_event_id, transfer.tenant_id, transfer.environment, transfer.transfer_id, transfer.payment_intent_id,
        transfer.version, record_transfer_event.type, record_transfer_event.payload,
        nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb ->> 'traceparent'
    );
    -- Written out in both functions: one call less is a fortieth of a payment's creation.
    destinations := array(
        select d.destination
        from public.destinations as d
        where
            d.enabled
            and exists (
                select from public.event_subscriptions as s
                where s.destination = d.destination and s.enabled and record_transfer_event.type like s.pattern
            )
    );
    if destinations <> '{}' then
        insert into payments.outbox (destination, event_id, event_type, tenant_id, environment, ordering_key, seq)
        select d.destination, new_event_id, record_transfer_event.type, transfer.tenant_id, transfer.environment, transfer.transfer_id,
            transfer.version
        from unnest(destinations) as d (destination);
    end if;
end
$$;
comment on function payments.record_transfer_event is
'Appends one event at the transfer''s version, with the W3C traceparent of the request, and one outbox row for each destination that subscribes to its type.';

reset role;

-- sql/payments/functions/intents.sql

-- Payment intents: create, read, change, cancel, expire.

set role stalela_owner;

create function payments.create_intent(
    idempotency_key text, body_hash text, amount_minor bigint, currency text, payment_method_types text[],
    description text, customer jsonb, customer_sealed text, metadata jsonb, return_url text, expires_in_s integer
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:write', 'write');
    answer public.answer;
    intent payments.payment_intents;
    method text;
begin
    answer := public.claim_idempotency(
        caller, 'POST /payment-intents', create_intent.idempotency_key, create_intent.body_hash
    );
    if answer.body is not null then
        return answer;
    end if;
    foreach method in array create_intent.payment_method_types loop
        perform rails.check_amount(method, create_intent.amount_minor, create_intent.currency);
    end loop;

    insert into payments.payment_intents (
        payment_intent_id, tenant_id, environment, status, amount_minor, currency, payment_method_types,
        description, customer, customer_sealed, metadata, return_url, client_secret, created_by, expires_at
    ) values (
        public.new_id('pi'), caller.tenant_id, caller.environment, 'requires_payment_method',
        create_intent.amount_minor, create_intent.currency, create_intent.payment_method_types,
        create_intent.description, create_intent.customer, create_intent.customer_sealed,
        coalesce(create_intent.metadata, '{}'), create_intent.return_url, 'pics_' || payments.random_secret(),
        caller.actor, now() + make_interval(secs => create_intent.expires_in_s)
    )
    returning * into intent;
    perform payments.record_intent_event(intent, 'payment_intent.created', jsonb_build_object(
        'status', intent.status,
        'amount', public.format_amount(intent.amount_minor, intent.currency),
        'currency', intent.currency
    ));

    answer := row(201, payments.intent_resource(intent, true), caller.rate);
    perform public.remember_answer(
        caller, 'POST /payment-intents', create_intent.idempotency_key, intent.payment_intent_id, answer
    );
    return answer;
end
$$;
comment on function payments.create_intent is
'Claims the key, checks the amount against every allowed rail, inserts the intent, its event and its stored answer: one transaction. 201.';

create function payments.get_intent(payment_intent_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
begin
    seen := payments.visible_intent(get_intent.payment_intent_id, 'payments:read', 'read', false);
    return row(200, payments.intent_resource(seen.intent, seen.reveal_secret), (seen.caller).rate);
end
$$;
comment on function payments.get_intent is 'The intent as its caller may see it; 40401 for anybody else''s.';

create function payments.update_intent(payment_intent_id text, patch jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    changed payments.payment_intents;
begin
    seen := payments.visible_intent(update_intent.payment_intent_id, 'payments:write', 'write', true);
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; changing it needs the scope payments:write.');
    end if;
    update payments.payment_intents as i
    set
        description = case when patch ? 'description' then patch ->> 'description' else i.description end,
        -- As RFC 7396: a key with null goes away.
        metadata = jsonb_strip_nulls(i.metadata || coalesce(patch -> 'metadata', '{}')),
        version = i.version + 1,
        updated_at = now()
    where i.payment_intent_id = update_intent.payment_intent_id and i.status = 'requires_payment_method'
    returning i.* into changed;
    if not found then
        perform public.refuse(
            '40911', format('A payment intent that is %s can no longer be changed.', (seen.intent).status),
            jsonb_build_object('current_state', (seen.intent).status, 'allowed', '[]'::jsonb)
        );
    end if;
    if (select count(*) from jsonb_object_keys(changed.metadata)) > 50 then
        perform public.refuse('42262', 'metadata holds at most 50 keys.', jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/metadata', 'detail', 'at most 50 keys'))
        ));
    end if;
    perform payments.record_intent_event(changed, 'payment_intent.updated', jsonb_build_object(
        'status', changed.status, 'changed', (select jsonb_agg(k) from jsonb_object_keys(patch) as k)
    ));
    return row(200, payments.intent_resource(changed, true), (seen.caller).rate);
end
$$;
comment on function payments.update_intent is
'Changes description and metadata (merged, null deletes) before an attempt starts; 40911 afterwards.';

create function payments.cancel_intent(payment_intent_id text, idempotency_key text, body_hash text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    answer public.answer;
    canceled payments.payment_intents;
begin
    seen := payments.visible_intent(cancel_intent.payment_intent_id, 'payments:write', 'write', true);
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; canceling it needs the scope payments:write.');
    end if;
    answer := public.claim_idempotency(
        seen.caller, 'POST /payment-intents/{id}/cancel', cancel_intent.idempotency_key,
        cancel_intent.body_hash || ':' || cancel_intent.payment_intent_id
    );
    if answer.body is not null then
        return answer;
    end if;
    canceled := payments.advance_intent(
        cancel_intent.payment_intent_id, 'cancel', jsonb_build_object('cancellation_reason', cancel_intent.reason)
    );
    answer := row(200, payments.intent_resource(canceled, true), (seen.caller).rate);
    perform public.remember_answer(
        seen.caller, 'POST /payment-intents/{id}/cancel', cancel_intent.idempotency_key,
        cancel_intent.payment_intent_id, answer
    );
    return answer;
end
$$;
comment on function payments.cancel_intent is
'Cancels an intent that no rail is working on; 40911 with the current state and the allowed moves otherwise.';

create function payments.expire_intents()
returns integer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
declare
    due text;
    expired integer := 0;
begin
    -- An intent with a prompt on a phone is `processing` and is left alone until the attempt ends.
    for due in
        select i.payment_intent_id
        from payments.payment_intents as i
        where i.status = 'requires_payment_method' and i.expires_at <= now()
        order by i.expires_at
        limit 500
        for no key update skip locked
    loop
        perform payments.advance_intent(due, 'expire');
        expired := expired + 1;
    end loop;
    return expired;
end
$$;
comment on function payments.expire_intents is 'Expires up to 500 unpaid intents whose time is over; returns how many. A cron task.';

reset role;

-- sql/payments/functions/listing.sql

-- Lists and timelines: keyset pages, newest first.

set role stalela_owner;

create function payments.list_intents(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    after_at timestamptz;
    after_id text;
    condition text := '';
    rows text[];
    last_at timestamptz;
    last_id text;
    body text;
begin
    if list_intents.page_after is not null then
        begin
            after_at := to_timestamp(split_part(page_after, '.', 1)::numeric / 1000000);
            after_id := split_part(page_after, '.', 2);
        exception when others then
            perform public.refuse('42262', 'cursor is not one of ours: pass next_cursor of the previous page.',
                '{"errors": [{"pointer": "/cursor", "detail": "pass next_cursor of the previous page, unchanged"}]}');
        end;
    end if;
    -- Only the filters that are present become conditions, so each combination gets its own index plan.
    condition := concat_ws(' and ',
        case when filters ? 'status' then 'i.status = $3 ->> ''status''' end,
        case when filters ? 'currency' then 'i.currency = $3 ->> ''currency''' end,
        case when filters ? 'created_after' then 'i.created_at >= ($3 ->> ''created_after'')::timestamptz' end,
        case when filters ? 'created_before' then 'i.created_at < ($3 ->> ''created_before'')::timestamptz' end,
        case when filters ? 'amount_gte_minor' then 'i.amount_minor >= ($3 ->> ''amount_gte_minor'')::bigint' end,
        case when filters ? 'amount_lte_minor' then 'i.amount_minor <= ($3 ->> ''amount_lte_minor'')::bigint' end,
        case when filters ? 'metadata' then 'i.metadata <> ''{}'' and i.metadata @> ($3 -> ''metadata'')' end,
        case when after_id is not null then '(i.created_at, i.payment_intent_id) < ($4, $5)' end,
        'true'
    );
    execute format($query$
        select array_agg(payments.intent_resource(page.i, $6) order by (page.i).created_at desc, (page.i).payment_intent_id desc)
        from (
            select i
            from payments.payment_intents as i
            where i.tenant_id = $1 and i.environment = $2 and %s
            order by i.created_at desc, i.payment_intent_id desc
            limit %s
        ) as page
    $query$, condition, list_intents.page_size + 1)
    into rows
    using caller.tenant_id, caller.environment, filters, after_at, after_id,
        public.holds_scope(caller.scopes, 'payments:write');

    if cardinality(rows) > list_intents.page_size then
        select i.created_at, i.payment_intent_id into last_at, last_id
        from payments.payment_intents as i
        where i.payment_intent_id = rows[list_intents.page_size]::json ->> 'id';
    end if;
    body := format(
        '{"data":[%s],"pagination":%s}',
        array_to_string(rows[1:list_intents.page_size], ','),
        json_build_object(
            'limit', list_intents.page_size,
            'has_more', last_id is not null,
            'next_cursor', (extract(epoch from last_at) * 1000000)::bigint || '.' || last_id
        )
    );
    return row(200, body, caller.rate);
end
$$;
comment on function payments.list_intents is
'One page of the caller''s intents, newest first, by keyset on (created_at, id). filters: status, currency, created_after, created_before, amount_gte_minor, amount_lte_minor, metadata.';

create function payments.list_intent_events(payment_intent_id text, after_position bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    timeline text;
begin
    seen := payments.visible_intent(list_intent_events.payment_intent_id, 'payments:read', 'read', false);
    select string_agg(row_to_json(entry)::text, ',' order by entry.position) into timeline
    from (
        select e.event_id as id, e.position, e.type, e.payment_intent_id as subject, e.seq, e.payload as data, e.occurred_at
        from payments.intent_events as e
        where e.payment_intent_id = list_intent_events.payment_intent_id and e.position > after_position
        union all
        select e.event_id, e.position, e.type, e.transfer_id, e.seq, e.payload, e.occurred_at
        from payments.transfer_events as e
        where e.payment_intent_id = list_intent_events.payment_intent_id and e.position > after_position
    ) as entry;
    return row(200, format('{"data":[%s]}', timeline), (seen.caller).rate);
end
$$;
comment on function payments.list_intent_events is 'Everything that happened to an intent and its transfers after a position, in order.';

reset role;

-- sql/payments/functions/machines.sql

-- The two state machines. Nothing else updates payment_intents.status or transfers.state.

set role stalela_owner;

create function payments.advance_intent(payment_intent_id text, event text, facts jsonb default '{}')
returns payments.payment_intents
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved payments.payment_intents;
    was text;
begin
    select i.status into was
    from payments.payment_intents as i
    where i.payment_intent_id = advance_intent.payment_intent_id
    for no key update;

    update payments.payment_intents as i
    set
        status = x.to_status,
        version = i.version + 1,
        updated_at = now(),
        amount_received_minor = i.amount_received_minor + coalesce((facts ->> 'received_minor')::bigint, 0),
        amount_refunded_minor = i.amount_refunded_minor + coalesce((facts ->> 'refunded_minor')::bigint, 0),
        latest_transfer_id = coalesce(facts ->> 'transfer_id', i.latest_transfer_id),
        -- The error of a failed attempt stays until the next attempt starts or the intent is paid.
        last_error = case
            when advance_intent.event in ('fail', 'fail_partly') then facts -> 'failure'
            when advance_intent.event in ('confirm', 'settle') then null
            else i.last_error
        end,
        cancellation_reason = coalesce(facts ->> 'cancellation_reason', i.cancellation_reason),
        canceled_at = case when x.to_status = 'canceled' then now() else i.canceled_at end
    from payments.intent_transitions as x
    where
        i.payment_intent_id = advance_intent.payment_intent_id
        and x.from_status = i.status
        and x.event = advance_intent.event
    returning i.* into moved;

    if not found then
        perform public.refuse(
            '40911',
            format('A payment intent that is %s cannot %s.', was, advance_intent.event),
            jsonb_build_object(
                'current_state', was,
                'allowed', coalesce((
                    select jsonb_agg(x.event order by x.event)
                    from payments.intent_transitions as x
                    where x.from_status = was and 'api' = any(x.triggered_by)
                ), '[]')
            )
        );
    end if;

    perform payments.record_intent_event(moved, (
        select x.event_type from payments.intent_transitions as x
        where x.from_status = was and x.event = advance_intent.event
    ), jsonb_build_object(
        'status', moved.status,
        'amount', public.format_amount(moved.amount_minor, moved.currency),
        'amount_received', public.format_amount(moved.amount_received_minor, moved.currency),
        'amount_refunded', public.format_amount(moved.amount_refunded_minor, moved.currency),
        'currency', moved.currency,
        'transfer_id', moved.latest_transfer_id,
        'error', moved.last_error
    ));
    return moved;
end
$$;
comment on function payments.advance_intent is
'The only writer of payment_intents.status: one guarded update over intent_transitions, then its event. facts: received_minor, refunded_minor, transfer_id, failure, cancellation_reason. 40911 when the move is not in the table.';

create function payments.transfer_payload(transfer payments.transfers)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
    return jsonb_strip_nulls(jsonb_build_object(
        'transfer_id', transfer.transfer_id,
        'payment_intent_id', transfer.payment_intent_id,
        'related_transfer_id', transfer.related_transfer_id,
        'purpose', transfer.purpose,
        'intent', transfer.intent,
        'rail', transfer.rail,
        'state', transfer.state,
        'amount', public.format_amount(transfer.amount_minor, transfer.currency),
        'currency', transfer.currency,
        'returned_amount', case
            when transfer.returned_minor > 0 then public.format_amount(transfer.returned_minor, transfer.currency)
        end,
        'receipt', transfer.receipt,
        'late', nullif(transfer.late, false),
        'failure', transfer.failure,
        'external_ref', transfer.external_ref,
        'end_user_ref', transfer.end_user_ref
    ));
end
$$;
comment on function payments.transfer_payload is 'What every event of a transfer tells about it: references and amounts, no personal data.';

create function payments.advance_transfer(transfer_id text, event text, triggered_by text, facts jsonb default '{}')
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved payments.transfers;
    was text;
begin
    select t.state into was
    from payments.transfers as t
    where t.transfer_id = advance_transfer.transfer_id
    for no key update;

    update payments.transfers as t
    set
        state = x.to_state,
        version = t.version + 1,
        updated_at = now(),
        submitted_at = case when x.to_state = 'SUBMITTED' then now() else t.submitted_at end,
        settled_at = case when x.to_state = 'SETTLED' then now() else t.settled_at end,
        rail_ref = coalesce(facts ->> 'rail_ref', t.rail_ref),
        receipt = coalesce(facts ->> 'receipt', t.receipt),
        -- What moved, where that is known to differ from what was asked.
        amount_minor = coalesce((facts ->> 'amount_minor')::bigint, t.amount_minor),
        returned_minor = case when x.to_state = 'RETURNED' then t.amount_minor else t.returned_minor end,
        refunds_open_minor = case when x.to_state = 'RETURNED' then 0 else t.refunds_open_minor end,
        failure = case when x.to_state = 'FAILED' then facts -> 'failure' end,
        late = t.late or (x.to_state = 'SETTLED' and was = 'FAILED'),
        review_reason = case when x.to_state in ('SETTLED', 'RETURNED') then null else t.review_reason end
    from payments.transfer_transitions as x
    where
        t.transfer_id = advance_transfer.transfer_id
        and x.from_state = t.state
        and x.event = advance_transfer.event
        and advance_transfer.triggered_by = any(x.triggered_by)
    returning t.* into moved;

    if not found then
        perform public.refuse(
            '40911',
            format('A transfer that is %s does not take %s from %s.', was, advance_transfer.event, advance_transfer.triggered_by),
            jsonb_build_object('current_state', was)
        );
    end if;

    perform payments.record_transfer_event(moved, (
        select x.event_type from payments.transfer_transitions as x
        where x.from_state = was and x.event = advance_transfer.event
    ), payments.transfer_payload(moved) || jsonb_build_object('triggered_by', advance_transfer.triggered_by));
    return moved;
end
$$;
comment on function payments.advance_transfer is
'The only writer of transfers.state: one guarded update over transfer_transitions, then its event. facts: rail_ref, receipt, amount_minor, failure. 40911 when the move is not in the table.';

create function payments.annotate_transfer(transfer_id text, type text, facts jsonb)
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    noted payments.transfers;
begin
    update payments.transfers as t
    set
        version = t.version + 1,
        updated_at = now(),
        rail_ref = coalesce(facts ->> 'rail_ref', t.rail_ref),
        receipt = coalesce(facts ->> 'receipt', t.receipt),
        told_minor = coalesce((facts ->> 'told_minor')::bigint, t.told_minor),
        -- Named with null: the review is over.
        review_reason = case
            when facts ? 'review_reason' then facts ->> 'review_reason' else t.review_reason
        end
    where t.transfer_id = annotate_transfer.transfer_id
    returning t.* into noted;
    perform payments.record_transfer_event(
        noted, annotate_transfer.type,
        payments.transfer_payload(noted) || (facts - '{rail_ref,told_minor}'::text[])
    );
    return noted;
end
$$;
comment on function payments.annotate_transfer is
'Adds what became known about a transfer without moving its state (a receipt, a reason for review), and the event that says so.';

create function payments.review_transfer(transfer_id text, reason text, details jsonb default '{}')
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    noted payments.transfers;
begin
    noted := payments.annotate_transfer(
        review_transfer.transfer_id, 'transfer.needs_review',
        jsonb_build_object('review_reason', review_transfer.reason)
        || jsonb_strip_nulls(jsonb_build_object('told_minor', details -> 'told_minor'))
    );
    perform public.raise_alert(
        'transfer_needs_review', 'warning', review_transfer.transfer_id, noted.tenant_id, noted.environment,
        jsonb_build_object('reason', review_transfer.reason) || details
    );
end
$$;
comment on function payments.review_transfer is 'Asks for a person''s decision on a transfer; its state stays what is known.';

create function payments.credit_intent(payment_intent_id text, transfer_id text, amount_minor bigint)
returns payments.payment_intents
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    intent payments.payment_intents;
    facts jsonb := jsonb_build_object('received_minor', credit_intent.amount_minor);
begin
    select i.* into intent
    from payments.payment_intents as i
    where i.payment_intent_id = credit_intent.payment_intent_id
    for no key update;
    if intent.amount_received_minor + credit_intent.amount_minor >= intent.amount_minor then
        intent := payments.advance_intent(
            credit_intent.payment_intent_id, 'settle',
            facts || jsonb_build_object('transfer_id', credit_intent.transfer_id)
        );
    elsif intent.status = 'processing' and intent.latest_transfer_id <> credit_intent.transfer_id then
        -- The prompt that is out stays the latest attempt.
        intent := payments.advance_intent(credit_intent.payment_intent_id, 'deposit_partly', facts);
    else
        intent := payments.advance_intent(
            credit_intent.payment_intent_id, 'settle_partly',
            facts || jsonb_build_object('transfer_id', credit_intent.transfer_id)
        );
    end if;
    if intent.amount_received_minor > intent.amount_minor then
        perform public.raise_alert(
            'intent_overpaid', 'warning', intent.payment_intent_id, intent.tenant_id, intent.environment,
            jsonb_build_object('transfer_id', credit_intent.transfer_id, 'received_minor', intent.amount_received_minor)
        );
    end if;
    return intent;
end
$$;
comment on function payments.credit_intent is
'Money of a settled transfer is counted for its intent: paid in full, or in part. More than was asked for raises an alert.';

create function payments.return_money(transfer_id text, amount_minor bigint, refund_transfer_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    original payments.transfers;
    intent payments.payment_intents;
    facts jsonb := jsonb_build_object('refunded_minor', return_money.amount_minor);
begin
    -- Out of what the refund reserved: the sum of both, and so the constraint, does not move.
    update payments.transfers as t
    set refunds_open_minor = t.refunds_open_minor - return_money.amount_minor
    where t.transfer_id = return_money.transfer_id
    returning t.* into original;
    if original.returned_minor + return_money.amount_minor = original.amount_minor then
        original := payments.advance_transfer(original.transfer_id, 'return', 'refund');
    else
        update payments.transfers as t
        set returned_minor = t.returned_minor + return_money.amount_minor
        where t.transfer_id = return_money.transfer_id;
        original := payments.annotate_transfer(
            original.transfer_id, 'transfer.partially_returned',
            jsonb_build_object('refund_transfer_id', return_money.refund_transfer_id, 'triggered_by', 'refund')
        );
    end if;

    if original.payment_intent_id is not null then
        select i.* into intent from payments.payment_intents as i where i.payment_intent_id = original.payment_intent_id;
        if intent.amount_refunded_minor + return_money.amount_minor = intent.amount_received_minor then
            perform payments.advance_intent(intent.payment_intent_id, 'refund', facts);
        else
            perform payments.advance_intent(intent.payment_intent_id, 'refund_partly', facts);
        end if;
    end if;
end
$$;
comment on function payments.return_money is
'A refund arrived: the original is returned, or partially returned, and its intent counts what went back. Under the locks of intent and original.';

reset role;

-- sql/payments/functions/outbox.sql

-- Reading the outbox. A destination reads in windows between two snapshots: what the first did not see and the second
-- does. So a writer that is still at work is never skipped and delays nobody, whatever order ids and transaction ids
-- come in; and of one stream the earlier event is always in the same window or an earlier one.

set role stalela_owner;

create function payments.lock_cursor(destination text, kind text)
returns payments.outbox_cursors
language plpgsql
volatile
security definer -- callers may not write cursors
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
    -- Before this transaction gets its number, see payments.open_window.
    last_id bigint := case when pg_current_xact_id_if_assigned() is null then payments.last_outbox_id() end;
begin
    -- Windows are made of fresh snapshots; a transaction with a single old one would skip what started after it.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the outbox is read in read committed transactions'
            using errcode = 'invalid_transaction_state';
    end if;
    perform from public.destinations as d
    where d.destination = lock_cursor.destination and d.kind = lock_cursor.kind;
    if not found then
        raise exception 'there is no destination % of kind %', destination, kind using errcode = 'no_data_found';
    end if;
    loop
        -- Two consumers of one destination take turns.
        select c.* into cursor
        from payments.outbox_cursors as c
        where c.destination = lock_cursor.destination
        for update;
        exit when found;
        insert into payments.outbox_cursors (destination) values (lock_cursor.destination)
        on conflict do nothing;
    end loop;
    cursor.started_after_id := coalesce(last_id, cursor.seen_id);
    return cursor;
end
$$;
comment on function payments.lock_cursor is
'The cursor of a destination, locked until the end of this transaction; made when it reads for the first time. started_after_id: transactions that got their numbers after this one have greater ids.';

create function payments.last_outbox_id()
returns bigint
language plpgsql
volatile
security definer -- callers may not read sequences
set search_path = ''
as $$
begin
    return coalesce(pg_sequence_last_value('payments.outbox_outbox_id_seq'), 0);
end
$$;
comment on function payments.last_outbox_id is 'The greatest outbox id given out so far, committed or not.';

create function payments.read_window(cursor payments.outbox_cursors, max_rows integer)
returns payments.outbox[]
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
declare
    -- Who was at work when `seen` was taken and was done when the window ended.
    finished xid8[] := array(
        select w.xid
        from pg_snapshot_xip(cursor.seen) as w (xid)
        where pg_visible_in_snapshot(w.xid, cursor.window_end)
    );
begin
    return array(
        select f.found
        from (
            (
                select o as found, o.outbox_id
                from payments.outbox as o
                where
                    o.destination = cursor.destination
                    and o.outbox_id > greatest(cursor.position, cursor.seen_id)
                    and o.outbox_id <= cursor.window_last_id
                    and o.xid >= pg_snapshot_xmax(cursor.seen)
                    and pg_visible_in_snapshot(o.xid, cursor.window_end)
                order by o.outbox_id
                limit max_rows
            )
            union all
            (
                select o, o.outbox_id
                from payments.outbox as o
                where
                    o.xid = any(finished)
                    and o.destination = cursor.destination
                    and o.outbox_id > cursor.position
                order by o.outbox_id
                limit max_rows
            )
        ) as f
        order by f.outbox_id
        limit max_rows
    );
end
$$;
comment on function payments.read_window is
'The next rows of the window of this cursor, in the order of their ids, which is the order of each stream. Reads what it returns and little else, however long the backlog and however old a writer.';

create function payments.open_window(cursor payments.outbox_cursors)
returns payments.outbox_cursors
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
declare
    own xid8 := pg_current_xact_id();
    now_seen pg_snapshot := pg_current_snapshot();
    -- A snapshot ends after the last transaction that ended, so later numbers may be at work too, with ids of any age.
    -- They are named one by one, up to our own number: whoever comes after us has ids after started_after_id.
    named text[];
begin
    if pg_snapshot_xmax(now_seen) < own then
        named := array(select x.xid::text from pg_snapshot_xip(now_seen) as x (xid) order by x.xid)
            || array(
                select n::text
                from generate_series(pg_snapshot_xmax(now_seen)::text::bigint, own::text::bigint - 1) as n
            );
        now_seen := format(
            '%s:%s:%s', pg_snapshot_xmin(now_seen), own, array_to_string(named, ',')
        )::pg_snapshot;
    end if;
    cursor.window_end := now_seen;
    cursor.window_first_id := cursor.started_after_id;
    cursor.window_last_id := payments.last_outbox_id();
    return cursor;
end
$$;
comment on function payments.open_window is 'A window from what this cursor has seen to what is committed now.';

create function payments.next_page(cursor payments.outbox_cursors, max_rows integer)
returns payments.outbox_page
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
declare
    page payments.outbox[];
    is_new boolean := false;
begin
    loop
        if cursor.window_end is null then
            is_new := true;
            cursor := payments.open_window(cursor);
        end if;
        page := payments.read_window(cursor, max_rows);
        if cardinality(page) = max_rows then
            cursor.position := page[max_rows].outbox_id;
            exit;
        end if;
        -- The window is read to its end.
        cursor.seen := cursor.window_end;
        cursor.seen_id := cursor.window_first_id;
        cursor.window_end := null;
        cursor.window_first_id := null;
        cursor.window_last_id := null;
        cursor.position := 0;
        exit when is_new or page <> '{}';
    end loop;
    return row(page, cursor);
end
$$;
comment on function payments.next_page is
'The next rows of the log for this cursor and where it then stands; an empty page means that nothing is left to read now.';

create function payments.read_outbox(cursor payments.outbox_cursors, max_rows integer)
returns payments.outbox[]
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    step payments.outbox_page;
    held text[];
    result payments.outbox[] := '{}'::payments.outbox[];
begin
    while cardinality(result) < max_rows loop
        step := payments.next_page(cursor, max_rows - cardinality(result));
        cursor := step.cursor;
        exit when step.rows = '{}';
        held := payments.held_streams(cursor.destination, array(select p.ordering_key from unnest(step.rows) as p));
        if held <> '{}' then
            insert into payments.outbox_exceptions (
                destination, outbox_id, event_id, event_type, tenant_id, environment, ordering_key, seq, state,
                created_at
            )
            select p.destination, p.outbox_id, p.event_id, p.event_type, p.tenant_id, p.environment, p.ordering_key,
                p.seq, 'waiting', p.created_at
            from unnest(step.rows) as p
            where p.ordering_key = any(held);
            step.rows := array(
                select p from unnest(step.rows) as p where p.ordering_key <> all(held) order by p.outbox_id
            );
        end if;
        result := result || step.rows;
        exit when cursor.window_end is null and result <> '{}';
    end loop;
    update payments.outbox_cursors as c
    set
        seen = cursor.seen, seen_id = cursor.seen_id, window_end = cursor.window_end,
        window_first_id = cursor.window_first_id, window_last_id = cursor.window_last_id,
        position = cursor.position, moved_by = pg_current_xact_id(), moved_at = clock_timestamp()
    where c.destination = cursor.destination;
    return result;
end
$$;
comment on function payments.read_outbox is
'Reads on in the log and moves the cursor. What belongs to a stream that is held is parked behind it instead of returned, so a stuck stream delays only itself.';

create function payments.held_streams(destination text, ordering_keys text[])
returns text[]
language plpgsql
stable
security definer -- callers may not read exceptions
set search_path = ''
as $$
begin
    return array(
        select e.ordering_key
        from payments.outbox_exceptions as e
        where e.destination = held_streams.destination and e.ordering_key = any(held_streams.ordering_keys)
        union
        select k.ordering_key
        from payments.outbox_leases as l
        cross join lateral unnest(l.ordering_keys) as k (ordering_key)
        where l.destination = held_streams.destination and k.ordering_key = any(held_streams.ordering_keys)
    );
end
$$;
comment on function payments.held_streams is
'Which of these streams have a delivery that failed, waits or is out on lease: their later events must wait.';

create function payments.deliveries_of(destination text, page payments.outbox[], parked bigint[])
returns setof payments.delivery
language plpgsql
stable
security definer -- callers may not read events
set search_path = ''
as $$
begin
    return query
    select
        r.outbox_id, r.event_id, r.event_type, r.tenant_id, r.environment, r.ordering_key, r.seq, r.attempts,
        coalesce(t.occurred_at, i.occurred_at), coalesce(t.traceparent, i.traceparent),
        coalesce(t.payload, i.payload)
    from (
        select p.outbox_id, p.event_id, p.event_type, p.tenant_id, p.environment, p.ordering_key, p.seq, 0 as attempts
        from unnest(page) as p
        union all
        select e.outbox_id, e.event_id, e.event_type, e.tenant_id, e.environment, e.ordering_key, e.seq, e.attempts
        from payments.outbox_exceptions as e
        where e.destination = deliveries_of.destination and e.outbox_id = any(parked)
    ) as r
    left join payments.transfer_events as t on t.event_id = r.event_id
    left join payments.intent_events as i on i.event_id = r.event_id
    order by r.outbox_id;
end
$$;
comment on function payments.deliveries_of is 'Rows of the log and parked deliveries as their consumer sees them, in the order of each stream.';

create function payments.take_events(destination text, max_rows integer)
returns setof payments.delivery
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors := payments.lock_cursor(destination, 'database');
    retried bigint[];
    page payments.outbox[] := '{}'::payments.outbox[];
begin
    perform payments.finish_taken(take_events.destination);
    retried := payments.claim_due(take_events.destination, 'taken', max_rows);
    if cardinality(retried) < max_rows then
        page := payments.read_outbox(cursor, max_rows - cardinality(retried));
    end if;
    return query select d.* from payments.deliveries_of(take_events.destination, page, retried) as d;
end
$$;
comment on function payments.take_events is
'For a consumer inside Postgres: the next events of its destination, due retries first. Whatever it returns is delivered when this transaction commits, unless payments.fail_event says otherwise before; a rollback delivers nothing and loses nothing.';

reset role;

-- sql/payments/functions/outbox_exceptions.sql

-- Deliveries that did not simply pass: retries, what waits behind them, dead letters.

set role stalela_owner;

create function payments.backoff(attempts integer)
returns interval
language plpgsql
volatile
security definer -- callers may not read settings
set search_path = ''
as $$
declare
    ladder jsonb := public.setting('outbox.backoff_s');
begin
    return make_interval(
        secs => (ladder ->> least(attempts, jsonb_array_length(ladder)) - 1)::numeric::double precision
            * (0.9 + 0.2 * random())
    );
end
$$;
comment on function payments.backoff is
'How long to wait after so many failed attempts: the ladder of the setting outbox.backoff_s, each rung give or take a tenth.';

create function payments.claim_due(destination text, state text, max_rows integer)
returns bigint[]
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    due bigint[] := array(
        select e.outbox_id
        from payments.outbox_exceptions as e
        where
            e.destination = claim_due.destination and e.state = 'retry'
            and e.next_attempt_at <= clock_timestamp()
        order by e.next_attempt_at, e.outbox_id
        limit max_rows
    );
begin
    if due <> '{}' then
        update payments.outbox_exceptions as e
        set state = claim_due.state, changed_at = clock_timestamp()
        where e.destination = claim_due.destination and e.outbox_id = any(due);
    end if;
    return due;
end
$$;
comment on function payments.claim_due is 'Gives out parked deliveries whose time has come, in the order of each stream.';

create function payments.finish_taken(destination text)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    done bigint[] := array(
        select e.outbox_id
        from payments.outbox_exceptions as e
        where e.destination = finish_taken.destination and e.state = 'taken'
    );
begin
    if done <> '{}' then
        perform payments.close_exceptions(finish_taken.destination, done, 'delivered');
    end if;
end
$$;
comment on function payments.finish_taken is
'Closes the retries that were taken before: they are still marked taken, so their transaction committed without failing them.';

create function payments.close_exceptions(destination text, outbox_ids bigint[], resolution text)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    closed payments.outbox_exceptions;
    streams text[] := '{}'::text[];
begin
    for closed in
        delete from payments.outbox_exceptions as e
        where e.destination = close_exceptions.destination and e.outbox_id = any(close_exceptions.outbox_ids)
        returning e.*
    loop
        streams := streams || closed.ordering_key;
        if closed.attempts > 0 then
            perform public.resolve_alert('delivery_stalled', closed.destination || '/' || closed.event_id, resolution);
            perform public.resolve_alert('delivery_dead', closed.destination || '/' || closed.event_id, resolution);
        end if;
    end loop;
    perform payments.release_streams(close_exceptions.destination, streams);
end
$$;
comment on function payments.close_exceptions is 'These deliveries are over; what waited behind them may go.';

create function payments.release_streams(destination text, ordering_keys text[])
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- A long queue goes in parts, so that no transaction is long.
    part constant integer := 1000;
begin
    update payments.outbox_exceptions as e
    set state = 'retry', next_attempt_at = clock_timestamp(), changed_at = clock_timestamp()
    where
        e.destination = release_streams.destination
        and e.outbox_id = any(array(
            select w.outbox_id
            from (select distinct k from unnest(release_streams.ordering_keys) as k) as s (ordering_key)
            cross join lateral (
                select q.outbox_id
                from payments.outbox_exceptions as q
                where
                    q.destination = release_streams.destination and q.ordering_key = s.ordering_key
                    and q.state = 'waiting'
                order by q.outbox_id
                limit part
            ) as w
            where
                not exists (
                    select from payments.outbox_exceptions as q
                    where
                        q.destination = release_streams.destination and q.ordering_key = s.ordering_key
                        and q.state <> 'waiting'
                )
                and not exists (
                    select from payments.outbox_leases as l
                    where l.destination = release_streams.destination and s.ordering_key = any(l.ordering_keys)
                )
        ));
end
$$;
comment on function payments.release_streams is 'Makes due what waits in these streams, unless something of theirs is still ahead.';

create function payments.hold_events(destination text, outbox_ids bigint[])
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
begin
    update payments.outbox_exceptions as e
    set state = 'waiting', changed_at = clock_timestamp()
    where e.destination = hold_events.destination and e.outbox_id = any(hold_events.outbox_ids);
    insert into payments.outbox_exceptions (
        destination, outbox_id, event_id, event_type, tenant_id, environment, ordering_key, seq, state, created_at
    )
    select o.destination, o.outbox_id, o.event_id, o.event_type, o.tenant_id, o.environment, o.ordering_key, o.seq,
        'waiting', o.created_at
    from payments.outbox as o
    where o.destination = hold_events.destination and o.outbox_id = any(hold_events.outbox_ids)
    on conflict on constraint outbox_exceptions_pkey do nothing;
end
$$;
comment on function payments.hold_events is 'Parks deliveries behind an earlier one of their stream that failed.';

create function payments.park_failed(
    destination text, outbox_id bigint, error text, is_final boolean, retry_after interval
)
returns payments.outbox_exceptions
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    target public.destinations;
    failed payments.outbox_exceptions;
    details jsonb;
begin
    select d.* into strict target from public.destinations as d where d.destination = park_failed.destination;
    perform payments.hold_events(park_failed.destination, array[park_failed.outbox_id]);

    update payments.outbox_exceptions as e
    set
        attempts = e.attempts + 1,
        state = case when is_final or e.attempts + 1 >= target.max_attempts then 'dead' else 'retry' end,
        next_attempt_at = clock_timestamp() + greatest(payments.backoff(e.attempts + 1), retry_after),
        last_error = left(coalesce(nullif(error, ''), 'no reason given'), 2000),
        changed_at = clock_timestamp()
    where e.destination = park_failed.destination and e.outbox_id = park_failed.outbox_id
    returning e.* into strict failed;

    details := jsonb_build_object(
        'destination', failed.destination, 'outbox_id', failed.outbox_id, 'event_id', failed.event_id,
        'event_type', failed.event_type, 'ordering_key', failed.ordering_key, 'attempts', failed.attempts,
        'error', failed.last_error
    );
    if failed.state = 'dead' then
        perform public.resolve_alert('delivery_stalled', failed.destination || '/' || failed.event_id, 'dead');
        perform public.raise_alert(
            'delivery_dead', 'critical', failed.destination || '/' || failed.event_id, failed.tenant_id,
            failed.environment, details
        );
    elsif failed.attempts >= target.stalled_after then
        perform public.raise_alert(
            'delivery_stalled', 'warning', failed.destination || '/' || failed.event_id, failed.tenant_id,
            failed.environment, details
        );
    end if;
    return failed;
end
$$;
comment on function payments.park_failed is
'Notes a failed attempt: due again by the ladder, or dead when it was the last one or can never get better. Alerts at the destination''s stalled_after and at death.';

create function payments.fail_event(destination text, outbox_id bigint, error text, final boolean default false)
returns bigint[]
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
    failed payments.outbox_exceptions;
    behind bigint[];
begin
    select c.* into cursor
    from payments.outbox_cursors as c
    where c.destination = fail_event.destination;
    if cursor.moved_by is distinct from pg_current_xact_id()
        and not exists (
            select from payments.outbox_exceptions as e
            where
                e.destination = fail_event.destination and e.outbox_id = fail_event.outbox_id and e.state = 'taken'
        )
    then
        raise exception 'delivery % of % was not taken in this transaction', outbox_id, destination
            using errcode = 'invalid_transaction_state';
    end if;
    failed := payments.park_failed(fail_event.destination, fail_event.outbox_id, error, final, null);
    -- Later events of its stream that came with it: from the log, or as retries.
    behind := array(
        select o.outbox_id
        from payments.outbox as o
        where
            o.destination = fail_event.destination and o.outbox_id > fail_event.outbox_id
            and o.ordering_key = failed.ordering_key
            and (
                pg_visible_in_snapshot(o.xid, cursor.seen)
                or (
                    cursor.window_end is not null and o.outbox_id <= cursor.position
                    and pg_visible_in_snapshot(o.xid, cursor.window_end)
                )
            )
            and not exists (
                select from payments.outbox_exceptions as e
                where e.destination = fail_event.destination and e.outbox_id = o.outbox_id and e.state <> 'taken'
            )
        union
        select e.outbox_id
        from payments.outbox_exceptions as e
        where
            e.destination = fail_event.destination and e.ordering_key = failed.ordering_key
            and e.outbox_id > fail_event.outbox_id and e.state in ('taken', 'retry')
    );
    perform payments.hold_events(fail_event.destination, behind);
    return array[fail_event.outbox_id] || behind;
end
$$;
comment on function payments.fail_event is
'Within the transaction that took it: this event failed and is parked, and so are the later events of its stream in the batch. Returns the ids that must not be applied. final: it can never get better, so it is dead at once.';

reset role;

-- sql/payments/functions/outbox_leases.sql

-- Consumers outside Postgres: lease a batch, work, answer for each delivery.

set role stalela_owner;

create function payments.lease_events(destination text, max_rows integer)
returns setof payments.delivery
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors := payments.lock_cursor(destination, 'function');
    retried bigint[];
    page payments.outbox[] := '{}'::payments.outbox[];
begin
    perform payments.expire_leases(lease_events.destination);
    retried := payments.claim_due(lease_events.destination, 'leased', max_rows);
    if cardinality(retried) < max_rows then
        page := payments.read_outbox(cursor, max_rows - cardinality(retried));
    end if;
    if retried <> '{}' or page <> '{}' then
        insert into payments.outbox_leases (destination, outbox_ids, ordering_keys, lease_until)
        select lease_events.destination, array_agg(r.outbox_id order by r.outbox_id),
            array_agg(r.ordering_key order by r.outbox_id),
            clock_timestamp() + (
                select make_interval(secs => d.lease_s)
                from public.destinations as d
                where d.destination = lease_events.destination
            )
        from (
            select p.outbox_id, p.ordering_key from unnest(page) as p
            union all
            select e.outbox_id, e.ordering_key
            from payments.outbox_exceptions as e
            where e.destination = lease_events.destination and e.outbox_id = any(retried)
        ) as r;
    end if;
    return query select d.* from payments.deliveries_of(lease_events.destination, page, retried) as d;
end
$$;
comment on function payments.lease_events is
'For a consumer outside Postgres: the next events of its destination, due retries first, for the destination''s lease_s. Within a stream they must be worked on in order. What is not answered for in time counts as failed.';

create function payments.expire_leases(destination text)
returns void
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    expired payments.outbox_leases;
    ids bigint[];
begin
    for expired in
        delete from payments.outbox_leases as l
        where l.destination = expire_leases.destination and l.lease_until <= clock_timestamp()
        returning l.*
    loop
        for ids in
            select array_agg(x.outbox_id order by x.outbox_id)
            from unnest(expired.outbox_ids, expired.ordering_keys) as x (outbox_id, ordering_key)
            group by x.ordering_key
        loop
            perform payments.park_failed(
                expire_leases.destination, ids[1], 'the lease ran out before an answer', false, null
            );
            perform payments.hold_events(expire_leases.destination, ids[2:]);
        end loop;
    end loop;
end
$$;
comment on function payments.expire_leases is
'Takes back what was leased and not answered for: the first of each stream counts as a failed attempt, so that an event that kills its consumer dies in the end.';

create function payments.unlease(destination text, outbox_ids bigint[])
returns void
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    lease payments.outbox_leases;
    kept_ids bigint[];
    kept_keys text[];
begin
    for lease in
        select l.*
        from payments.outbox_leases as l
        where l.destination = unlease.destination and l.outbox_ids && unlease.outbox_ids
        order by l.lease_id
        for update
    loop
        select array_agg(x.outbox_id order by x.outbox_id), array_agg(x.ordering_key order by x.outbox_id)
        into kept_ids, kept_keys
        from unnest(lease.outbox_ids, lease.ordering_keys) as x (outbox_id, ordering_key)
        where x.outbox_id <> all(unlease.outbox_ids);
        if kept_ids is null then
            delete from payments.outbox_leases as l where l.lease_id = lease.lease_id;
        else
            update payments.outbox_leases as l
            set outbox_ids = kept_ids, ordering_keys = kept_keys
            where l.lease_id = lease.lease_id;
        end if;
    end loop;
end
$$;
comment on function payments.unlease is 'Takes deliveries off their leases, in the order of the leases.';

create function payments.acknowledge_events(destination text, outbox_ids bigint[])
returns integer
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    streams text[];
    acknowledged bigint[];
begin
    perform payments.lock_cursor(acknowledge_events.destination, 'function');
    select coalesce(array_agg(x.outbox_id), '{}'), coalesce(array_agg(distinct x.ordering_key), '{}')
    into acknowledged, streams
    from payments.outbox_leases as l
    cross join lateral unnest(l.outbox_ids, l.ordering_keys) as x (outbox_id, ordering_key)
    where l.destination = acknowledge_events.destination and x.outbox_id = any(acknowledge_events.outbox_ids);
    perform payments.unlease(acknowledge_events.destination, acknowledged);
    -- A late answer to a lease that ran out is as true as a timely one.
    perform payments.close_exceptions(acknowledge_events.destination, array(
        select e.outbox_id
        from payments.outbox_exceptions as e
        where
            e.destination = acknowledge_events.destination and e.outbox_id = any(acknowledge_events.outbox_ids)
            and e.state in ('leased', 'retry')
    ), 'delivered');
    perform payments.release_streams(acknowledge_events.destination, streams);
    return cardinality(acknowledged);
end
$$;
comment on function payments.acknowledge_events is
'These deliveries are done; what waited behind them may go. Returns how many were on lease; doing it again changes nothing.';

create function payments.return_event(destination text, outbox_id bigint, error text, retry_after_s integer)
returns bigint[]
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    returned bigint[];
begin
    perform payments.lock_cursor(return_event.destination, 'function');
    -- It and the later ones of its stream on the same lease.
    select array_agg(x.outbox_id order by x.outbox_id) into returned
    from payments.outbox_leases as l
    cross join lateral unnest(l.outbox_ids, l.ordering_keys) as x (outbox_id, ordering_key)
    where
        l.destination = return_event.destination and x.outbox_id >= return_event.outbox_id
        and (return_event.outbox_id, x.ordering_key) in (
            select y.outbox_id, y.ordering_key from unnest(l.outbox_ids, l.ordering_keys) as y (outbox_id, ordering_key)
        );
    if returned is null then
        return '{}'::bigint[];
    end if;
    perform payments.unlease(return_event.destination, returned);
    perform payments.park_failed(
        return_event.destination, return_event.outbox_id, error, false, make_interval(secs => retry_after_s)
    );
    perform payments.hold_events(return_event.destination, array_remove(returned, return_event.outbox_id));
    return returned;
end
$$;
comment on function payments.return_event is
'A leased delivery failed: it is due again by the ladder, but not before retry_after_s (null: the ladder alone). Returns the ids taken off the lease, which are it and the later ones of its stream: they must not be worked on. Empty when the lease was over.';

reset role;

-- sql/payments/functions/outbox_operators.sql

-- What people see of deliveries, and what they decide about those that do not pass.

set role stalela_owner;

create function payments.delivery_resource(delivery payments.outbox_exceptions)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', delivery.outbox_id,
        'object', 'delivery',
        'destination', delivery.destination,
        'state', delivery.state,
        'event_id', delivery.event_id,
        'event_type', delivery.event_type,
        'subject', delivery.ordering_key,
        'seq', delivery.seq,
        'attempts', delivery.attempts,
        'next_attempt_at', case when delivery.state = 'retry' then delivery.next_attempt_at end,
        'last_error', delivery.last_error,
        'tenant_id', delivery.tenant_id,
        'environment', delivery.environment,
        'created_at', delivery.created_at
    );
end
$$;
comment on function payments.delivery_resource is 'A delivery as people see it.';

create function payments.delivery_by_id(outbox_id bigint)
returns payments.outbox_exceptions
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    delivery payments.outbox_exceptions;
    cursor payments.outbox_cursors;
    logged payments.outbox;
begin
    select e.* into delivery
    from payments.outbox_exceptions as e
    where e.destination = any(array(select d.destination from public.destinations as d))
        and e.outbox_id = delivery_by_id.outbox_id;
    if found then
        -- Taken and committed: it is over, only not swept up yet.
        delivery.state := case delivery.state when 'taken' then 'delivered' else delivery.state end;
        return delivery;
    end if;
    select o.* into logged
    from payments.outbox as o
    where o.destination = any(array(select d.destination from public.destinations as d))
        and o.outbox_id = delivery_by_id.outbox_id;
    if not found then
        return null;
    end if;
    select c.* into cursor from payments.outbox_cursors as c where c.destination = logged.destination;
    delivery := jsonb_populate_record(delivery, to_jsonb(logged));
    delivery.attempts := 0;
    delivery.state := case
        when exists (
            select from payments.outbox_leases as l
            where l.destination = logged.destination and logged.outbox_id = any(l.outbox_ids)
        ) then 'leased'
        when pg_visible_in_snapshot(logged.xid, cursor.seen) then 'delivered'
        when logged.outbox_id <= cursor.position and pg_visible_in_snapshot(logged.xid, cursor.window_end)
            then 'delivered'
        else 'pending'
    end;
    return delivery;
end
$$;
comment on function payments.delivery_by_id is
'A delivery wherever it stands: an exception, or a row of the log that is pending, leased or delivered. Null when there is none.';

create function payments.list_deliveries(
    destination text, state text, older_than_s integer, after_id bigint, page_size integer
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('deliveries:read', 'read');
    sees_all boolean := public.holds_scope(caller.scopes, 'platform:operate');
    body text;
    oldest timestamptz;
begin
    select string_agg(payments.delivery_resource(e)::text, ',' order by e.outbox_id) into body
    from (
        select e.*
        from payments.outbox_exceptions as e
        where
            (sees_all or (e.tenant_id = caller.tenant_id and e.environment = caller.environment))
            and e.state <> 'taken'
            and (list_deliveries.destination is null or e.destination = list_deliveries.destination)
            and (list_deliveries.state is null or e.state = list_deliveries.state)
            and e.created_at <= now() - make_interval(secs => list_deliveries.older_than_s)
            and e.outbox_id > list_deliveries.after_id
        order by e.outbox_id
        limit list_deliveries.page_size
    ) as e;
    select min(e.created_at) into oldest
    from payments.outbox_exceptions as e
    where
        (sees_all or (e.tenant_id = caller.tenant_id and e.environment = caller.environment))
        and e.state <> 'taken'
        and (list_deliveries.destination is null or e.destination = list_deliveries.destination);
    return row(200, format(
        '{"object":"list","oldest_age_s":%s,"data":[%s]}',
        coalesce(extract(epoch from now() - oldest)::bigint::text, 'null'), body
    ), caller.rate);
end
$$;
comment on function payments.list_deliveries is
'Deliveries that have not passed, oldest first: a tenant''s own, or everybody''s for operators. oldest_age_s: since when the oldest of them is not where it should be.';

create function payments.list_destinations()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read destinations
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('platform:operate', 'read');
    body text;
begin
    select string_agg(row_to_json(s)::text, ',' order by s.destination) into body
    from (
        select
            d.destination, 'destination' as object, d.function_name as function, d.kind, d.enabled,
            extract(epoch from clock_timestamp() - payments.oldest_due(d.destination))::bigint as oldest_due_age_s,
            count(e.outbox_id) filter (where e.state = 'retry') as retrying,
            count(e.outbox_id) filter (where e.state = 'waiting') as waiting,
            count(e.outbox_id) filter (where e.state = 'dead') as dead,
            (
                select coalesce(sum(cardinality(l.outbox_ids)), 0)
                from payments.outbox_leases as l
                where l.destination = d.destination
            ) as leased
        from public.destinations as d
        left join payments.outbox_exceptions as e on e.destination = d.destination
        group by d.destination
    ) as s;
    return row(200, format('{"object":"list","data":[%s]}', body), caller.rate);
end
$$;
comment on function payments.list_destinations is
'Every destination with what has not passed and the age of what is due there longest; null when nothing is. For operators.';

create function payments.get_delivery(outbox_id bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('deliveries:read', 'read');
begin
    return public.reply(
        caller, 200, payments.delivery_resource(payments.visible_delivery(caller, get_delivery.outbox_id))
    );
end
$$;
comment on function payments.get_delivery is 'One delivery; 40401 for anybody else''s.';

create function payments.visible_delivery(caller public.caller, outbox_id bigint)
returns payments.outbox_exceptions
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
declare
    delivery payments.outbox_exceptions := payments.delivery_by_id(visible_delivery.outbox_id);
begin
    if delivery.outbox_id is null or not (
        public.holds_scope(caller.scopes, 'platform:operate')
        or (delivery.tenant_id = caller.tenant_id and delivery.environment = caller.environment)
    ) then
        perform public.refuse('40401', format('There is no delivery %s here.', outbox_id));
    end if;
    return delivery;
end
$$;
comment on function payments.visible_delivery is 'A delivery that this caller may see; 40401 otherwise.';

create function payments.redrive_delivery(outbox_id bigint, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('deliveries:manage', 'write');
    delivery payments.outbox_exceptions;
begin
    delivery := payments.decide_delivery(caller, redrive_delivery.outbox_id, 'delivery.redrive', reason);
    update payments.outbox_exceptions as e
    set state = 'retry', attempts = 0, next_attempt_at = clock_timestamp(), changed_at = clock_timestamp()
    where e.destination = delivery.destination and e.outbox_id = delivery.outbox_id
    returning e.* into strict delivery;
    perform public.resolve_alert('delivery_dead', delivery.destination || '/' || delivery.event_id, 're-driven');
    perform public.resolve_alert('delivery_stalled', delivery.destination || '/' || delivery.event_id, 're-driven');
    perform public.poke_all(array(
        select d.function_name from public.destinations as d where d.destination = delivery.destination
    ), interval '200 milliseconds');
    return public.reply(caller, 200, payments.delivery_resource(delivery));
end
$$;
comment on function payments.redrive_delivery is
'Tries a failing or dead delivery again now, with all its attempts before it; audited with the reason. 40911 for one that is neither.';

create function payments.skip_delivery(outbox_id bigint, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('deliveries:manage', 'write');
    delivery payments.outbox_exceptions;
begin
    delivery := payments.decide_delivery(caller, skip_delivery.outbox_id, 'delivery.skip', reason);
    perform payments.close_exceptions(delivery.destination, array[delivery.outbox_id], 'skipped');
    perform public.poke_all(array(
        select d.function_name from public.destinations as d where d.destination = delivery.destination
    ), interval '200 milliseconds');
    delivery.state := 'skipped';
    return public.reply(caller, 200, payments.delivery_resource(delivery));
end
$$;
comment on function payments.skip_delivery is
'Gives a failing or dead delivery up, so that what waits behind it goes on; audited with the reason. 40911 for one that is neither.';

create function payments.decide_delivery(caller public.caller, outbox_id bigint, action text, reason text)
returns payments.outbox_exceptions
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    delivery payments.outbox_exceptions := payments.visible_delivery(caller, decide_delivery.outbox_id);
    subject public.caller := caller;
begin
    -- Its consumer may have it in hand: then that is decided first.
    perform from payments.outbox_cursors as c where c.destination = delivery.destination for update;
    perform from payments.outbox_exceptions as e
    where
        e.destination = delivery.destination and e.outbox_id = delivery.outbox_id and e.state in ('retry', 'dead')
    for update;
    if not found then
        delivery := payments.visible_delivery(caller, decide_delivery.outbox_id);
        perform public.refuse(
            '40911', format('A delivery that is %s takes no decision.', delivery.state),
            jsonb_build_object('current_state', delivery.state, 'allowed', '[]'::jsonb)
        );
    end if;
    -- Their record, for them to read, whoever decided.
    subject.tenant_id := delivery.tenant_id;
    subject.environment := delivery.environment;
    perform public.audit(subject, action, delivery.destination || '/' || delivery.event_id, jsonb_build_object(
        'outbox_id', delivery.outbox_id, 'event_type', delivery.event_type, 'ordering_key', delivery.ordering_key,
        'was', delivery.state, 'attempts', delivery.attempts, 'last_error', delivery.last_error, 'reason', reason
    ));
    return delivery;
end
$$;
comment on function payments.decide_delivery is
'The delivery a person decides about, with its consumer held off until the decision commits; in the audit log with reason, attempts and last error.';

create function payments.oldest_due(destination text)
returns timestamptz
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
begin
    select c.* into cursor from payments.outbox_cursors as c where c.destination = oldest_due.destination;
    return least(
        (
            select o.created_at
            from payments.outbox as o
            where
                o.destination = oldest_due.destination
                and o.outbox_id > greatest(cursor.position, coalesce(cursor.seen_id, 0))
                and not pg_visible_in_snapshot(o.xid, coalesce(cursor.seen, '1:1:'::pg_snapshot))
            order by o.outbox_id
            limit 1
        ),
        (
            select min(e.next_attempt_at)
            from payments.outbox_exceptions as e
            where
                e.destination = oldest_due.destination and e.state = 'retry'
                and e.next_attempt_at <= clock_timestamp()
        ),
        (
            select min(l.lease_until)
            from payments.outbox_leases as l
            where l.destination = oldest_due.destination and l.lease_until <= clock_timestamp()
        )
    );
end
$$;
comment on function payments.oldest_due is 'Since when something is due at this destination and nobody did it; null when nothing is.';

create function payments.watch_outbox()
returns integer
language plpgsql
volatile
security definer -- cron may not read destinations
set search_path = ''
as $$
declare
    tolerated interval := make_interval(secs => (public.setting('outbox.lag_alert_s'))::integer);
    watched record;
    lagging integer := 0;
begin
    for watched in
        select d.destination, clock_timestamp() - payments.oldest_due(d.destination) as age
        from public.destinations as d
        where d.enabled
        order by d.destination
    loop
        if watched.age > tolerated then
            lagging := lagging + 1;
            perform public.raise_alert(
                'outbox_lagging', 'warning', watched.destination, null, null,
                jsonb_build_object('oldest_due_age_s', extract(epoch from watched.age)::bigint)
            );
        else
            perform public.resolve_alert('outbox_lagging', watched.destination, 'caught up');
        end if;
    end loop;
    return lagging;
end
$$;
comment on function payments.watch_outbox is
'Alerts about destinations where something has been due for longer than the setting outbox.lag_alert_s, and closes the alert when they have caught up. Returns how many lag. A cron task.';

reset role;

-- sql/payments/functions/outbox_partitions.sql

-- Partitions of the outbox: made ahead, dropped whole when everybody is past them.

set role stalela_owner;

create function payments.outbox_partitions(out partition regclass, out from_at timestamptz, out to_at timestamptz)
returns setof record
language sql
stable
security invoker
set search_path = ''
as $$
    select c.oid::regclass, bounds.at[1]::timestamptz, bounds.at[2]::timestamptz
    from pg_catalog.pg_inherits as i
    inner join pg_catalog.pg_class as c on c.oid = i.inhrelid
    cross join lateral (
        select regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)')
    ) as bounds (at)
    where i.inhparent = 'payments.outbox'::regclass and bounds.at is not null
    order by 2;
$$;
comment on function payments.outbox_partitions is 'The partitions of the outbox by time; the one for everything else is not among them.';

create function payments.add_outbox_partitions()
returns integer
language plpgsql
volatile
security definer -- cron may not create tables
set search_path = ''
set lock_timeout = '200ms' -- nobody queues behind this; the next run tries again
as $$
declare
    width interval := make_interval(secs => (public.setting('outbox.partition_s'))::integer);
    ahead interval := make_interval(secs => (public.setting('outbox.ahead_s'))::integer);
    from_at timestamptz := (select max(p.to_at) from payments.outbox_partitions() as p);
    stray timestamptz := (select max(r.created_at) from payments.outbox_rest as r);
    name text;
    added integer := 0;
begin
    -- Aligned, so that days are days; never over rows that came while there was no partition.
    from_at := greatest(
        from_at, date_bin(width, now(), '2026-01-01 00:00:00+00'),
        date_bin(width, stray, '2026-01-01 00:00:00+00') + width
    );
    if stray is not null then
        perform public.raise_alert(
            'outbox_without_partition', 'warning', 'payments.outbox_rest', null, null,
            jsonb_build_object('until', stray)
        );
    end if;
    while from_at < now() + ahead loop
        name := 'outbox_' || to_char(from_at at time zone 'UTC', 'YYYYMMDD_HH24MISS');
        -- Made apart and attached: inserting goes on meanwhile.
        execute format('create table payments.%I (like payments.outbox including defaults)', name);
        execute format(
            'comment on table payments.%I is %L', name,
            format('Rows of payments.outbox from %s, dropped when every destination is past them.', from_at)
        );
        execute format('alter table payments.%I enable row level security', name);
        execute format(
            'create policy %I on payments.%I for select to authenticated using ('
            'tenant_id = (select public.tenant_id()) and environment = (select public.environment()))',
            name || '_select_own', name
        );
        execute format(
            'alter table payments.outbox attach partition payments.%I for values from (%L) to (%L)',
            name, from_at, from_at + width
        );
        from_at := from_at + width;
        added := added + 1;
    end loop;
    return added;
end
$$;
comment on function payments.add_outbox_partitions is
'Makes the partitions of the time ahead (settings outbox.partition_s and outbox.ahead_s); returns how many. A cron task.';

create function payments.outbox_is_past(destination text, partition regclass)
returns boolean
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
    unread boolean;
begin
    select c.* into cursor
    from payments.outbox_cursors as c
    where c.destination = outbox_is_past.destination;
    execute format(
        'select exists (select from %1$s as o where o.destination = $1 and o.outbox_id > $2'
        '  and not pg_visible_in_snapshot(o.xid, $3))'
        ' or exists (select from %1$s as o where o.destination = $1 and o.xid = any(array('
        '  select x.xid from pg_snapshot_xip($3) as x (xid))))'
        ' or exists (select from payments.outbox_leases as l where l.destination = $1 and l.outbox_ids[1] <= ('
        '  select max(o.outbox_id) from %1$s as o where o.destination = $1))',
        partition
    )
    into unread
    using outbox_is_past.destination, coalesce(cursor.seen_id, 0), coalesce(cursor.seen, '1:1:'::pg_snapshot);
    return not unread;
end
$$;
comment on function payments.outbox_is_past is
'Whether a destination has read, and answered for, all its rows of a partition. What failed is kept beside the log.';

create function payments.drop_outbox_partition()
returns integer
language plpgsql
volatile
security definer -- cron may not drop tables
set search_path = ''
set lock_timeout = '200ms' -- inserts queue behind the drop for so long at most; the next run tries again
as $$
#variable_conflict use_column
declare
    retention interval := make_interval(secs => (public.setting('outbox.retention_s'))::integer);
    old record;
    behind text;
begin
    select p.* into old
    from (
        select q.partition, q.to_at, false as is_rest from payments.outbox_partitions() as q
        union all
        select 'payments.outbox_rest', max(r.created_at), true from payments.outbox_rest as r
    ) as p
    where p.to_at <= now() - retention
    order by p.to_at
    limit 1;
    if not found then
        return 0;
    end if;
    for behind in
        select d.destination
        from public.destinations as d
        where d.enabled and not payments.outbox_is_past(d.destination, old.partition)
        order by d.destination
    loop
        perform public.raise_alert(
            'outbox_not_read', 'critical', behind, null, null,
            jsonb_build_object('partition', old.partition::text, 'until', old.to_at)
        );
    end loop;
    if behind is not null then
        return 0;
    end if;
    if old.is_rest then
        truncate payments.outbox_rest;
        perform public.resolve_alert('outbox_without_partition', 'payments.outbox_rest', 'empty again');
    else
        execute format('drop table %s', old.partition);
    end if;
    return 1;
end
$$;
comment on function payments.drop_outbox_partition is
'Drops the oldest partition that is over the setting outbox.retention_s, if every enabled destination is past it; alerts about those that are not. Returns how many. A cron task.';

reset role;

-- sql/payments/functions/outbox_pokes.sql

-- Waking consumers: at once by a trigger, and by cron whatever that missed.

set role stalela_owner;

create function payments.poke_destinations()
returns trigger
language plpgsql
volatile
security definer -- callers may not read destinations
set search_path = ''
as $$
begin
    -- One look is all that most events cost.
    if exists (
        select from new_rows as n
        inner join public.destinations as d on d.destination = n.destination
        where not exists (
            select from public.pokes as p
            where
                p.function_name = d.function_name
                and p.poked_at > clock_timestamp() - interval '200 milliseconds'
        )
    ) then
        perform public.poke_all(array(
            select distinct d.function_name
            from new_rows as n
            inner join public.destinations as d on d.destination = n.destination
            order by d.function_name
        ), interval '200 milliseconds');
    end if;
    return null;
end
$$;
comment on function payments.poke_destinations is
'Pokes the function of each destination in this statement, once in 200 ms each: a drain stays 250 ms after its work and looks again, so what goes without a poke is found by the one before.';

create function payments.has_due_events(destination text)
returns boolean
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
    seen pg_snapshot;
begin
    select c.* into cursor
    from payments.outbox_cursors as c
    where c.destination = has_due_events.destination;
    seen := coalesce(cursor.seen, '1:1:'::pg_snapshot);
    return cursor.window_end is not null
        or exists (
            select from payments.outbox as o
            where
                o.destination = has_due_events.destination and o.outbox_id > coalesce(cursor.seen_id, 0)
                and not pg_visible_in_snapshot(o.xid, seen)
        )
        or exists (
            select from payments.outbox as o
            where
                o.destination = has_due_events.destination
                and o.xid = any(array(select x.xid from pg_snapshot_xip(seen) as x (xid)))
        )
        or exists (
            select from payments.outbox_exceptions as e
            where
                e.destination = has_due_events.destination
                and (e.state = 'taken' or (e.state = 'retry' and e.next_attempt_at <= clock_timestamp()))
        )
        or exists (
            select from payments.outbox_leases as l
            where l.destination = has_due_events.destination and l.lease_until <= clock_timestamp()
        );
end
$$;
comment on function payments.has_due_events is 'Whether a consumer of this destination would find something to do now.';

create function payments.poke_consumers()
returns integer
language plpgsql
volatile
security definer -- cron may not read destinations
set search_path = ''
as $$
declare
    due text[] := array(
        select distinct d.function_name
        from public.destinations as d
        where d.enabled and payments.has_due_events(d.destination)
        order by d.function_name
    );
begin
    perform public.poke_all(due, interval '200 milliseconds');
    return cardinality(due);
end
$$;
comment on function payments.poke_consumers is
'Pokes the function of each destination that has work which is due: heals pokes that were lost or swallowed, and starts retries. Returns how many. A cron task.';

create trigger outbox_pokes
after insert on payments.outbox
referencing new table as new_rows
for each statement execute function payments.poke_destinations();

reset role;

-- sql/payments/functions/payouts.sql

-- Payouts, and what they share with refunds and direct transfers: limits, a second person, sending.

set role stalela_owner;

create function payments.stored_answer(caller public.caller, answer public.answer)
returns public.answer
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    if answer.status is not null then
        return answer;
    end if;
    -- The first request died while the rail was asked; what became of it is the transfer as it stands.
    return (
        select row(
            200, payments.resource_of(t, false), (stored_answer.caller).rate || '{"Idempotent-Replayed": "true"}'
        )::public.answer
        from payments.transfers as t
        where
            t.transfer_id = (stored_answer.answer).body
            and t.tenant_id = (stored_answer.caller).tenant_id
            and t.environment = (stored_answer.caller).environment
    );
end
$$;
comment on function payments.stored_answer is
'What a repeated request is answered: its first answer, or the present state of the transfer it began.';

create function payments.approval_needed(amount_minor bigint, currency text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return case
        when approval_needed.amount_minor > (
            public.setting('payments.four_eyes_above_minor') ->> approval_needed.currency
        )::bigint then 'pending'
    end;
end
$$;
comment on function payments.approval_needed is
'pending when money of this size leaves only after a second person approved; null otherwise. By currency, setting payments.four_eyes_above_minor.';

create function payments.check_daily_payouts(caller public.caller, amount_minor bigint, currency text)
returns void
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    limit_minor bigint := (public.setting('payments.daily_payout_limit_minor') ->> check_daily_payouts.currency)::bigint;
    spent_minor bigint;
begin
    if limit_minor is null then
        return;
    end if;
    -- Payouts of one key are counted one after the other, or two could both see room for one.
    perform pg_advisory_xact_lock(hashtext('payments.daily_payouts'), hashtext(caller.actor));
    select coalesce(sum(t.amount_minor), 0)::bigint into spent_minor
    from payments.transfers as t
    where
        t.created_by = (check_daily_payouts.caller).actor and t.operation = 'pay_out' and t.purpose <> 'refund'
        and t.created_at > now() - interval '24 hours' and t.state <> 'FAILED'
        and t.currency = check_daily_payouts.currency;
    if spent_minor + check_daily_payouts.amount_minor > limit_minor then
        perform public.refuse('42206', format(
            'This key may pay out %s %s in 24 hours; %s are left.',
            public.format_amount(limit_minor, check_daily_payouts.currency), check_daily_payouts.currency,
            public.format_amount(greatest(0, limit_minor - spent_minor), check_daily_payouts.currency)
        ), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/amount', 'detail', format(
                'at most %s for now',
                public.format_amount(greatest(0, limit_minor - spent_minor), check_daily_payouts.currency)
            )))
        ));
    end if;
end
$$;
comment on function payments.check_daily_payouts is
'Refuses (42206) what exceeds the payouts of one key or person in 24 hours; setting payments.daily_payout_limit_minor by currency, no entry means no limit.';

create function payments.refuse_external_ref(caller public.caller, external_ref text)
returns void
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform public.refuse('40903', 'Another transfer has this external_ref.', (
        select jsonb_build_object('transfer_id', t.transfer_id)
        from payments.transfers as t
        where
            t.tenant_id = (refuse_external_ref.caller).tenant_id
            and t.environment = (refuse_external_ref.caller).environment
            and t.external_ref = refuse_external_ref.external_ref
    ));
end
$$;
comment on function payments.refuse_external_ref is 'Refuses (40903) an external_ref that is taken, naming the transfer that has it.';

create function payments.send_or_wait(transfer payments.transfers, caller public.caller, route text, key text)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    answer public.answer;
begin
    perform public.bind_idempotency(caller, route, key, transfer.transfer_id);
    if transfer.approval is distinct from 'pending' then
        return row(null::public.answer, payments.send_transfer(transfer, route, caller.rate));
    end if;
    answer := row(202, payments.resource_of(transfer, false), caller.rate);
    perform public.remember_answer(caller, route, key, transfer.transfer_id, answer);
    return row(answer, null::jsonb);
end
$$;
comment on function payments.send_or_wait is
'The instruction to send now; or 202, when a second person must approve first.';

create function payments.begin_payout(
    idempotency_key text, body_hash text, rail text, amount_minor bigint, currency text,
    payee_sealed text, payee_masked text, payee_hash text, description text, external_ref text, metadata jsonb
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payouts:write', 'write');
    route constant text := 'POST /payouts';
    answer public.answer;
    payout payments.transfers;
begin
    answer := public.claim_idempotency(caller, route, begin_payout.idempotency_key, begin_payout.body_hash);
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;
    perform rails.check_payout(begin_payout.rail, begin_payout.amount_minor, begin_payout.currency);
    perform rails.check_credentials(caller.tenant_id, caller.environment, begin_payout.rail);
    perform payments.check_daily_payouts(caller, begin_payout.amount_minor, begin_payout.currency);

    insert into payments.transfers (
        transfer_id, tenant_id, environment, intent, rail, state, amount_minor, currency, purpose, operation,
        payee_sealed, payee_masked, payee_hash, description, external_ref, metadata, body_hash, created_by, approval
    ) values (
        public.new_id('tr'), caller.tenant_id, caller.environment, 'PUSH', begin_payout.rail, 'INITIATED',
        begin_payout.amount_minor, begin_payout.currency, 'payout', 'pay_out',
        begin_payout.payee_sealed, begin_payout.payee_masked, begin_payout.payee_hash, begin_payout.description,
        begin_payout.external_ref, coalesce(begin_payout.metadata, '{}'), begin_payout.body_hash, caller.actor,
        payments.approval_needed(begin_payout.amount_minor, begin_payout.currency)
    )
    on conflict (tenant_id, environment, external_ref) where external_ref is not null do nothing
    returning * into payout;
    if not found then
        perform payments.refuse_external_ref(caller, begin_payout.external_ref);
    end if;
    perform compliance.admit(
        payout.tenant_id, payout.environment, 'out', payout.rail, payout.amount_minor, payout.currency,
        payout.payee_hash, payout.transfer_id
    );
    perform payments.record_transfer_event(payout, 'transfer.initiated', payments.transfer_payload(payout));
    payout := payments.annotate_transfer(payout.transfer_id, 'payout.created', '{}');
    if payout.approval = 'pending' then
        payout := payments.annotate_transfer(payout.transfer_id, 'payout.pending_approval', '{}');
    end if;
    return payments.send_or_wait(payout, caller, route, begin_payout.idempotency_key);
end
$$;
comment on function payments.begin_payout is
'Before the rail is called: claims the key, checks the rail''s limits and the key''s day, writes the payout. The instruction to send, or 202 when a second person must approve first.';

create function payments.decide_approval(
    transfer_id text, idempotency_key text, body_hash text, purpose text, decision text, reason text
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payouts:approve', 'manage');
    route constant text := format(
        'POST /%s/{id}/%s', case purpose when 'direct' then 'transfers' else purpose || 's' end, decision
    );
    answer public.answer;
    transfer payments.transfers;
begin
    if caller.user_id is null then
        perform public.refuse('40312', 'A person approves, not a key.');
    end if;
    answer := public.claim_idempotency(
        caller, route, decide_approval.idempotency_key,
        decide_approval.body_hash || ':' || decide_approval.transfer_id
    );
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;
    -- Of a refund the intent and the original are locked first, as everywhere.
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = decide_approval.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = decide_approval.transfer_id
    )
    for no key update;
    transfer := payments.visible_transfer(decide_approval.transfer_id, caller, array[purpose], true);
    if transfer.approval is distinct from 'pending' then
        perform public.refuse('40911', format('This %s does not wait for approval.', purpose), jsonb_build_object(
            'current_state', payments.movement_status(transfer), 'allowed', '[]'::jsonb
        ));
    elsif caller.actor in (
        transfer.created_by,
        -- A key acts for whoever made it.
        (select k.created_by from public.api_keys as k where k.key_id = transfer.created_by)
    ) then
        perform public.refuse('40312', format('Another person must decide: you asked for this %s.', purpose));
    end if;

    update payments.transfers as t
    set
        approval = case decide_approval.decision when 'approve' then 'approved' else 'rejected' end,
        approval_by = caller.actor, approval_at = now(), approval_reason = decide_approval.reason
    where t.transfer_id = decide_approval.transfer_id
    returning t.* into transfer;
    perform public.audit(caller, format('%s.%s', purpose, decision), transfer.transfer_id, jsonb_build_object(
        'amount', public.format_amount(transfer.amount_minor, transfer.currency), 'currency', transfer.currency,
        'reason', decide_approval.reason
    ));
    if transfer.approval = 'approved' then
        perform rails.check_credentials(transfer.tenant_id, transfer.environment, transfer.rail);
        return payments.send_or_wait(transfer, caller, route, decide_approval.idempotency_key);
    end if;
    perform rails.fail_transfer(transfer, jsonb_build_object(
        'code', 'APPROVAL_REJECTED', 'message', 'A second person said no.', 'rail_code', null, 'retryable', false,
        'retry_after', null
    ), 'api', null);
    select t.* into transfer from payments.transfers as t where t.transfer_id = decide_approval.transfer_id;
    answer := row(200, payments.resource_of(transfer, false), caller.rate);
    perform public.remember_answer(caller, route, decide_approval.idempotency_key, transfer.transfer_id, answer);
    return row(answer, null::jsonb);
end
$$;
comment on function payments.decide_approval is
'A second person approves or rejects a refund or payout; never the one who asked for it, nor a key. Approved: the instruction to send, once. Audited with the reason.';

create function payments.get_payout(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('payments:read', 'read');
begin
    return row(
        200, payments.payout_resource(payments.visible_transfer(transfer_id, caller, '{payout}', false)), caller.rate
    );
end
$$;
comment on function payments.get_payout is 'One payout; 40401 for anybody else''s.';

create function payments.sweep_initiated()
returns integer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    left_behind payments.transfers;
    swept integer := 0;
begin
    for left_behind in
        select t.*
        from payments.transfers as t
        where
            t.state = 'INITIATED'
            and t.created_at < now() - case
                when t.approval = 'pending' then interval '7 days'
                else interval '60 seconds'
            end
        order by t.created_at
        limit 100
    loop
        -- Intent, original, transfer: as everywhere.
        perform from payments.payment_intents as i
        where i.payment_intent_id = left_behind.payment_intent_id for no key update;
        perform from payments.transfers as o
        where o.transfer_id = left_behind.related_transfer_id for no key update;
        update payments.transfers as t
        set approval = case when t.approval = 'pending' then 'lapsed' else t.approval end
        where t.transfer_id = left_behind.transfer_id and t.state = 'INITIATED';
        if found then
            perform rails.fail_transfer(left_behind, jsonb_build_object(
                'code', case when left_behind.approval = 'pending' then 'APPROVAL_LAPSED' else 'NOT_SENT' end,
                'message', case
                    when left_behind.approval = 'pending' then 'Nobody decided within 7 days.'
                    else 'It was never sent to the rail.'
                end,
                'rail_code', null, 'retryable', true, 'retry_after', null
            ), 'clock', null);
            swept := swept + 1;
        end if;
    end loop;
    return swept;
end
$$;
comment on function payments.sweep_initiated is
'Fails transfers that were left behind before they were sent: after 60 seconds, or after 7 days without a second person''s decision. A cron task.';

reset role;

-- sql/payments/functions/queries.sql

-- A merchant or the reconciler asks the rail about a transfer; what it answers is recorded here.

set role stalela_owner;

create function payments.ask_rail(payment_intent_id text)
returns payments.asked
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    work jsonb;
begin
    seen := payments.visible_intent(ask_rail.payment_intent_id, 'payments:write', 'write', false);
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; asking the rail needs the scope payments:write.');
    end if;
    work := rails.take_query((seen.intent).latest_transfer_id);
    return row(
        row(200, payments.intent_resource(seen.intent, seen.reveal_secret), (seen.caller).rate)::public.answer, work
    );
end
$$;
comment on function payments.ask_rail is
'What to ask the rail about this intent now; work is null when the outcome is known, the rail gave no reference, or it was asked less than 5 seconds ago.';

create function payments.record_query(transfer_id text, event jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
    caller public.caller;
begin
    -- The reconciler asks for everybody; anybody else asks for their own.
    if current_setting('role') <> 'fn_reconcile' then
        caller := public.caller();
        if not exists (
            select from payments.transfers as t
            where
                t.transfer_id = record_query.transfer_id
                and t.tenant_id = caller.tenant_id and t.environment = caller.environment
        ) then
            perform public.refuse('40401', format('There is no transfer %s here.', record_query.transfer_id));
        end if;
    end if;
    perform rails.apply_query(record_query.transfer_id, record_query.event);
    select t.* into transfer from payments.transfers as t where t.transfer_id = record_query.transfer_id;
    return row(200, payments.resource_of(transfer, false), '{}'::jsonb);
end
$$;
comment on function payments.record_query is 'Applies what the rail said when asked, plans the next question, returns what the transfer is for.';

reset role;

-- sql/payments/functions/refunds.sql

-- Refunds: money of a settled transfer goes back, all of it or part, never more than came in.

set role stalela_owner;

create function payments.reserve_refund(transfer_id text, amount_minor bigint)
returns boolean
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    update payments.transfers as t
    set refunds_open_minor = t.refunds_open_minor + reserve_refund.amount_minor
    where
        t.transfer_id = reserve_refund.transfer_id and t.state = 'SETTLED'
        and t.returned_minor + t.refunds_open_minor + reserve_refund.amount_minor <= t.amount_minor;
    return found;
end
$$;
comment on function payments.reserve_refund is
'Takes the amount out of what can still go back, if that much is left: decided by one guarded update, so that simultaneous refunds cannot both have it.';

create function payments.release_refund(transfer_id text, amount_minor bigint)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    update payments.transfers as t
    set refunds_open_minor = t.refunds_open_minor - release_refund.amount_minor
    where t.transfer_id = release_refund.transfer_id and t.state = 'SETTLED';
end
$$;
comment on function payments.release_refund is 'A refund failed: what it had reserved can go back by another.';

create function payments.refundable_transfer(
    caller public.caller, payment_intent_id text, transfer_id text
)
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    original payments.transfers;
    locked text := refundable_transfer.payment_intent_id;
begin
    if locked is null then
        -- The intent is locked before the transfer, as everywhere.
        select t.payment_intent_id into locked
        from payments.transfers as t
        where
            t.transfer_id = refundable_transfer.transfer_id
            and t.tenant_id = (refundable_transfer.caller).tenant_id
            and t.environment = (refundable_transfer.caller).environment;
    end if;
    perform from payments.payment_intents as i
    where
        i.payment_intent_id = locked
        and i.tenant_id = (refundable_transfer.caller).tenant_id
        and i.environment = (refundable_transfer.caller).environment
    for no key update;
    if not found and refundable_transfer.payment_intent_id is not null then
        perform public.refuse(
            '40401', format('There is no payment intent %s here.', refundable_transfer.payment_intent_id)
        );
    end if;
    select t.* into original
    from payments.transfers as t
    where
        case
            when refundable_transfer.transfer_id is not null then t.transfer_id = refundable_transfer.transfer_id
            else t.payment_intent_id = refundable_transfer.payment_intent_id
        end
        and t.tenant_id = (refundable_transfer.caller).tenant_id
        and t.environment = (refundable_transfer.caller).environment
        and t.purpose in ('collection', 'c2b', 'direct')
        and (refundable_transfer.transfer_id is not null or t.state in ('SETTLED', 'RETURNED'))
    -- Of several payments for one intent, the one with most left.
    order by t.amount_minor - t.returned_minor - t.refunds_open_minor desc, t.transfer_id
    limit 1
    for no key update;
    if not found and refundable_transfer.transfer_id is not null then
        perform public.refuse('40401', format('There is no transfer %s here.', refundable_transfer.transfer_id));
    elsif not found then
        perform public.refuse('40911', 'Nothing was paid for this payment intent, so nothing can go back.',
            '{"allowed": []}');
    elsif original.state not in ('SETTLED', 'RETURNED') or original.operation = 'pay_out' then
        perform public.refuse('40911', format('A transfer that is %s has nothing to give back.', original.state),
            jsonb_build_object('current_state', original.state, 'allowed', '[]'::jsonb));
    end if;
    return original;
end
$$;
comment on function payments.refundable_transfer is
'The settled transfer a refund is about, locked after its intent: the one named, or of an intent the one with most left to go back.';

create function payments.refund_operation(original payments.transfers, amount_minor bigint, wanted text)
returns text
language plpgsql
stable
security definer -- callers may not read rails
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules rails.rails;
    irreversible text;
begin
    select r.* into rules from rails.rails as r where r.rail = (refund_operation.original).rail and r.enabled;
    if not found then
        perform public.refuse('42261', format('%s is switched off for now.', original.rail));
    end if;
    irreversible := case
        when rules.reverses_within_s is null then format('%s reverses no payments', rules.name)
        when original.receipt is null then 'the receipt of this payment is not known yet'
        when original.settled_at + make_interval(secs => rules.reverses_within_s) <= now() then
            format('%s reverses payments of the last %s days', rules.name, rules.reverses_within_s / 86400)
        when
            not rules.reverses_partly
            and refund_operation.amount_minor <> original.amount_minor
            then format('%s reverses whole payments only', rules.name)
    end;
    if irreversible is null and wanted is distinct from 'payout' then
        return 'refund';
    elsif wanted = 'reversal' then
        perform public.refuse_field('42262', '/method', irreversible || '.');
    elsif original.payer_sealed is null then
        perform public.refuse('42262', format(
            'This refund can neither be reversed (%s) nor paid out: the payer''s number is not known.',
            coalesce(irreversible, 'a payout was asked for')
        ));
    end if;
    perform rails.check_payout(original.rail, refund_operation.amount_minor, original.currency);
    return 'pay_out';
end
$$;
comment on function payments.refund_operation is
'How money goes back: reversal where the rail allows it, otherwise paid out to the payer; wanted (reversal, payout) chooses, and is refused with the rule when it cannot be.';

create function payments.begin_refund(
    idempotency_key text, body_hash text, payment_intent_id text, transfer_id text,
    amount_minor bigint, currency text, reason text, method text, metadata jsonb
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('refunds:write', 'write');
    route constant text := 'POST /refunds';
    answer public.answer;
    original payments.transfers;
    refund payments.transfers;
    left_minor bigint;
    wanted_minor bigint;
begin
    answer := public.claim_idempotency(caller, route, begin_refund.idempotency_key, begin_refund.body_hash);
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;

    original := payments.refundable_transfer(caller, begin_refund.payment_intent_id, begin_refund.transfer_id);
    left_minor := original.amount_minor - original.returned_minor - original.refunds_open_minor;
    wanted_minor := coalesce(begin_refund.amount_minor, left_minor);
    if begin_refund.currency <> original.currency then
        perform public.refuse_field('42251', '/currency', format('the payment was made in %s.', original.currency));
    elsif
        wanted_minor = 0
        or not payments.reserve_refund(original.transfer_id, wanted_minor)
    then
        perform public.refuse('42255', format(
            '%s %s of %s can still go back.', public.format_amount(left_minor, original.currency), original.currency,
            original.transfer_id
        ), jsonb_build_object(
            'refundable', public.format_amount(left_minor, original.currency),
            'errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/amount',
                'detail', format('at most %s', public.format_amount(left_minor, original.currency))
            ))
        ));
    end if;
    perform rails.check_credentials(original.tenant_id, original.environment, original.rail);

    insert into payments.transfers (
        transfer_id, tenant_id, environment, payment_intent_id, intent, rail, state, amount_minor, currency,
        purpose, operation, related_transfer_id, description, metadata, payee_sealed, payee_masked, payee_hash,
        body_hash, created_by, approval
    ) values (
        public.new_id('tr'), original.tenant_id, original.environment, original.payment_intent_id, 'PUSH',
        original.rail, 'INITIATED', wanted_minor, original.currency, 'refund',
        payments.refund_operation(original, wanted_minor, begin_refund.method), original.transfer_id,
        begin_refund.reason, coalesce(begin_refund.metadata, '{}'),
        original.payer_sealed, original.payer_masked, original.payer_hash,
        begin_refund.body_hash, caller.actor, payments.approval_needed(wanted_minor, original.currency)
    )
    returning * into refund;
    perform payments.record_transfer_event(refund, 'transfer.initiated', payments.transfer_payload(refund));
    refund := payments.annotate_transfer(refund.transfer_id, 'refund.created', jsonb_build_object(
        'reason', refund.description, 'approval', refund.approval
    ));
    return payments.send_or_wait(refund, caller, route, begin_refund.idempotency_key);
end
$$;
comment on function payments.begin_refund is
'Before the rail is called: claims the key, reserves the amount of the original, writes the refund. The instruction to send, or the answer when a second person must approve first (or the key was used). 42255 names what can still go back.';

create function payments.get_refund(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('payments:read', 'read');
begin
    return row(
        200, payments.refund_resource(payments.visible_transfer(transfer_id, caller, '{refund}', false)), caller.rate
    );
end
$$;
comment on function payments.get_refund is 'One refund; 40401 for anybody else''s.';

reset role;

-- sql/payments/functions/resources.sql

-- What callers see of an intent, and who may see it.
-- plpgsql where plain SQL would do: a session plans a plpgsql function once, a SQL function in each query that calls it.

set role stalela_owner;

create function payments.intent_resource(intent payments.payment_intents, reveal_secret boolean)
returns text
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    return (
        select row_to_json(resource)::text
        from (
            select
                intent.payment_intent_id as id,
                'payment_intent' as object,
                intent.status,
                public.format_amount(intent.amount_minor, intent.currency) as amount,
                intent.currency,
                public.format_amount(intent.amount_received_minor, intent.currency) as amount_received,
                public.format_amount(intent.amount_refunded_minor, intent.currency) as amount_refunded,
                upper(right(intent.payment_intent_id, 12)) as account_reference,
                intent.payment_method_types,
                intent.description,
                intent.customer,
                intent.metadata,
                intent.return_url,
                case when reveal_secret then intent.client_secret end as client_secret,
                intent.last_error,
                case when intent.status = 'processing' and t.state = 'ACCEPTED' then json_build_object(
                    'type', 'approve_on_phone', 'rail', t.rail, 'phone', t.payer_masked,
                    'expires_at', t.submitted_at + make_interval(secs => r.prompt_lifetime_s)
                ) end as next_action,
                case when t.transfer_id is not null then json_build_object(
                    'id', t.transfer_id, 'rail', t.rail, 'state', t.state, 'payer', t.payer_masked,
                    'receipt', t.receipt, 'needs_review', t.review_reason is not null, 'late', t.late
                ) end as latest_transfer,
                intent.environment,
                intent.cancellation_reason,
                intent.created_at,
                intent.expires_at,
                intent.canceled_at
            from (select) as one
            left join payments.transfers as t on t.transfer_id = intent.latest_transfer_id
            left join rails.rails as r on r.rail = t.rail
        ) as resource
    );
end
$$;
comment on function payments.intent_resource is
'The wire shape of a payment intent as JSON text, in one order; the client secret only for those who may create intents (payments:write).';

create function payments.visible_intent(payment_intent_id text, scope text, bucket text, lock boolean)
returns payments.sight
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller;
    payer public.caller;
    intent payments.payment_intents;
    secret_hash text := nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb
        ->> 'x-stalela-client-secret-hash';
    -- A payer's browser holds a publishable key and the secret of this one intent, never a secret key.
    reveal_secret boolean := secret_hash is null;
begin
    if reveal_secret then
        caller := public.authorize(scope, bucket);
    else
        caller := public.caller();
        if not public.holds_scope(caller.scopes, 'payments:confirm') then
            perform public.refuse('40311', 'This needs the scope payments:confirm.');
        end if;
    end if;

    if lock then
        select i.* into intent from payments.payment_intents as i
        where i.payment_intent_id = visible_intent.payment_intent_id for no key update;
    else
        select i.* into intent from payments.payment_intents as i
        where i.payment_intent_id = visible_intent.payment_intent_id;
    end if;
    if
        not found
        or intent.tenant_id <> caller.tenant_id
        or intent.environment <> caller.environment
        or (not reveal_secret and encode(sha256(convert_to(intent.client_secret, 'utf8')), 'hex') <> secret_hash)
    then
        perform public.refuse('40401', format('There is no payment intent %s here.', visible_intent.payment_intent_id));
    end if;
    if not reveal_secret then
        -- All payers of a merchant share one publishable key: each intent has a bucket of its own, or one payer could
        -- shut the checkout to the others.
        payer := caller;
        payer.actor := intent.payment_intent_id;
        caller.rate := public.take_token(payer, bucket);
    end if;
    return row(caller, intent, reveal_secret and public.holds_scope(caller.scopes, 'payments:write'));
end
$$;
comment on function payments.visible_intent is
'The intent, if this caller may see it: own tenant and environment, with the scope or with the intent''s client secret. Otherwise 40401, so that ids cannot be probed.';

create function payments.transfer_resource(transfer payments.transfers)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', transfer.transfer_id,
        'object', 'transfer',
        'purpose', transfer.purpose,
        'intent', transfer.intent,
        'state', transfer.state,
        'rail', transfer.rail,
        'amount', public.format_amount(transfer.amount_minor, transfer.currency),
        'currency', transfer.currency,
        'returned_amount', public.format_amount(transfer.returned_minor, transfer.currency),
        'payer', transfer.payer_masked,
        'payee', transfer.payee_masked,
        'payment_intent', transfer.payment_intent_id,
        'related_transfer', transfer.related_transfer_id,
        'external_ref', transfer.external_ref,
        'end_user_ref', transfer.end_user_ref,
        'description', transfer.description,
        'metadata', transfer.metadata,
        'rail_ref', transfer.rail_ref,
        'receipt', transfer.receipt,
        'failure', transfer.failure,
        'approval', transfer.approval,
        'needs_review', transfer.review_reason is not null,
        'unallocated_reason', transfer.unallocated_reason,
        'late', transfer.late,
        'body_hash', transfer.body_hash,
        'version', transfer.version,
        'environment', transfer.environment,
        'created_at', transfer.created_at,
        'updated_at', transfer.updated_at,
        'submitted_at', transfer.submitted_at,
        'settled_at', transfer.settled_at
    )::text;
end
$$;
comment on function payments.transfer_resource is 'The wire shape of a transfer as JSON text; parties masked.';

create function payments.movement_status(transfer payments.transfers)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case
        when transfer.approval = 'pending' then 'pending_approval'
        when transfer.approval in ('rejected', 'lapsed') then transfer.approval
        when transfer.state = 'SETTLED' then 'succeeded'
        when transfer.state = 'FAILED' then 'failed'
        when transfer.state = 'RETURNED' then 'returned'
        else 'pending'
    end;
end
$$;
comment on function payments.movement_status is
'A refund or payout in one word: pending_approval, rejected, lapsed, pending, succeeded, failed, returned.';

create function payments.refund_resource(transfer payments.transfers)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', transfer.transfer_id,
        'object', 'refund',
        'status', payments.movement_status(transfer),
        'amount', public.format_amount(transfer.amount_minor, transfer.currency),
        'currency', transfer.currency,
        'payment_intent', transfer.payment_intent_id,
        'transfer', transfer.related_transfer_id,
        'rail', transfer.rail,
        'method', case when transfer.operation = 'refund' then 'reversal' else 'payout' end,
        'payee', transfer.payee_masked,
        'reason', transfer.description,
        'receipt', transfer.receipt,
        'failure', transfer.failure,
        'needs_review', transfer.review_reason is not null,
        'metadata', transfer.metadata,
        'environment', transfer.environment,
        'created_at', transfer.created_at,
        'settled_at', transfer.settled_at
    )::text;
end
$$;
comment on function payments.refund_resource is 'The wire shape of a refund: a transfer that gives money of another one back.';

create function payments.payout_resource(transfer payments.transfers)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', transfer.transfer_id,
        'object', 'payout',
        'status', payments.movement_status(transfer),
        'amount', public.format_amount(transfer.amount_minor, transfer.currency),
        'currency', transfer.currency,
        'destination', json_build_object('type', transfer.rail, 'phone', transfer.payee_masked),
        'description', transfer.description,
        'external_ref', transfer.external_ref,
        'receipt', transfer.receipt,
        'failure', transfer.failure,
        'needs_review', transfer.review_reason is not null,
        'metadata', transfer.metadata,
        'environment', transfer.environment,
        'created_by', transfer.created_by,
        'approval', case when transfer.approval is not null then json_build_object(
            'status', transfer.approval, 'by', transfer.approval_by, 'at', transfer.approval_at,
            'reason', transfer.approval_reason
        ) end,
        'created_at', transfer.created_at,
        'settled_at', transfer.settled_at
    )::text;
end
$$;
comment on function payments.payout_resource is 'The wire shape of a payout: money sent out to a phone.';

create function payments.resource_of(transfer payments.transfers, reveal_secret boolean)
returns text
language plpgsql
stable
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return case transfer.purpose
        when 'collection' then (
            select payments.intent_resource(i, resource_of.reveal_secret)
            from payments.payment_intents as i
            where i.payment_intent_id = (resource_of.transfer).payment_intent_id
        )
        when 'refund' then payments.refund_resource(transfer)
        when 'payout' then payments.payout_resource(transfer)
        else payments.transfer_resource(transfer)
    end;
end
$$;
comment on function payments.resource_of is 'What a caller is shown of a transfer: the intent it pays, the refund, the payout, or itself.';

create function payments.visible_transfer(transfer_id text, caller public.caller, purposes text[], lock boolean)
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
begin
    if lock then
        select t.* into transfer from payments.transfers as t
        where t.transfer_id = visible_transfer.transfer_id for no key update;
    else
        select t.* into transfer from payments.transfers as t
        where t.transfer_id = visible_transfer.transfer_id;
    end if;
    if
        not found
        or transfer.tenant_id <> (visible_transfer.caller).tenant_id
        or transfer.environment <> (visible_transfer.caller).environment
        or not transfer.purpose = any(purposes)
    then
        perform public.refuse('40401', format('There is no %s %s here.', case
            when cardinality(purposes) = 1 then purposes[1] else 'transfer'
        end, visible_transfer.transfer_id));
    end if;
    return transfer;
end
$$;
comment on function payments.visible_transfer is
'The transfer, if it is the caller''s and has one of these purposes; 40401 otherwise, so that ids cannot be probed.';

create function payments.random_secret()
returns text
language plpgsql
volatile
set search_path = ''
as $$
begin
    -- Three random uuids carry 366 bits; the hash keeps 256 of them.
    return encode(sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    ), 'hex');
end
$$;
comment on function payments.random_secret is '256 random bits as 64 hexadecimal digits.';

reset role;

-- sql/payments/functions/streams.sql

-- Event streams: a 60-second single-use token opens one, an unguessable stream id reads it.

set role stalela_owner;

create function payments.issue_stream_token(payment_intent_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write stream tokens
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    token text := payments.random_secret();
    expires timestamptz;
begin
    seen := payments.visible_intent(issue_stream_token.payment_intent_id, 'payments:read', 'read', false);
    insert into payments.stream_tokens (token_hash, tenant_id, environment, payment_intent_id)
    values (
        encode(sha256(convert_to(token, 'utf8')), 'hex'), (seen.caller).tenant_id, (seen.caller).environment,
        issue_stream_token.payment_intent_id
    )
    returning expires_at into expires;
    return row(201, json_build_object('object', 'stream_token', 'token', token, 'expires_at', expires)::text, (seen.caller).rate);
end
$$;
comment on function payments.issue_stream_token is 'A single-use token, 60 seconds long, that opens the event stream of this intent. 201.';

create function payments.open_stream(payment_intent_id text, token_hash text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write streams
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    opened payments.streams;
begin
    if open_stream.token_hash is null then
        seen := payments.visible_intent(open_stream.payment_intent_id, 'payments:read', 'read', false);
        insert into payments.streams (stream_id, tenant_id, environment, payment_intent_id)
        values (
            payments.random_secret(), (seen.caller).tenant_id, (seen.caller).environment, open_stream.payment_intent_id
        )
        returning * into opened;
    else
        with used as (
            update payments.stream_tokens as t
            set used_at = now()
            where
                t.token_hash = open_stream.token_hash
                and t.payment_intent_id = open_stream.payment_intent_id
                and t.used_at is null
                and t.expires_at > now()
            returning t.*
        )
        insert into payments.streams (stream_id, tenant_id, environment, payment_intent_id)
        select payments.random_secret(), u.tenant_id, u.environment, u.payment_intent_id from used as u
        returning * into opened;
        if not found then
            perform public.refuse('40102', 'The stream token is unknown, used or older than 60 seconds: ask for a new one.');
        end if;
    end if;
    return jsonb_build_object(
        'stream_id', opened.stream_id,
        'expires_at', opened.expires_at,
        'lasts_s', extract(epoch from opened.expires_at - now()),
        'final_position', (
            select max(e.position)
            from payments.intent_events as e
            inner join payments.payment_intents as i on i.payment_intent_id = e.payment_intent_id
            where
                e.payment_intent_id = opened.payment_intent_id
                and i.status in ('succeeded', 'canceled', 'expired')
        )
    );
end
$$;
comment on function payments.open_stream is
'Opens a stream of 15 minutes, by the caller''s key or by a token (hash) that is used up here. final_position: the last event of an intent that is over, otherwise null. 40102 for a spent token.';

create function payments.read_streams(cursors jsonb)
returns jsonb
language sql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'stream_id', s.stream_id, 'position', e.position, 'type', e.type,
        'resource', payments.intent_resource(i, false)
    ) order by e.position), '[]')
    from jsonb_each_text(read_streams.cursors) as c (stream_id, position)
    inner join payments.streams as s on s.stream_id = c.stream_id and s.expires_at > now()
    inner join payments.intent_events as e
        on e.payment_intent_id = s.payment_intent_id and e.position > c.position::bigint
    inner join payments.payment_intents as i on i.payment_intent_id = s.payment_intent_id;
$$;
comment on function payments.read_streams is
'New events of all the open streams of one instance in one call. cursors: {stream_id: last position seen}.';

create function payments.purge_streams()
returns integer
language sql
volatile
security definer -- callers may not delete
set search_path = ''
as $$
    with old_tokens as (
        delete from payments.stream_tokens where expires_at < now() - interval '1 hour' returning 1
    ),
    old_streams as (
        delete from payments.streams where expires_at < now() - interval '1 hour' returning 1
    )
    select ((select count(*) from old_tokens) + (select count(*) from old_streams))::integer;
$$;
comment on function payments.purge_streams is 'Deletes spent stream tokens and closed streams; returns how many. A cron task.';

reset role;

-- sql/payments/functions/transfers.sql

-- Direct transfers: the canonical form without an intent around it; reading transfers of every purpose.

set role stalela_owner;

create function payments.begin_direct(
    idempotency_key text, body_hash text, intent text, rail text, amount_minor bigint, currency text,
    payer_sealed text, payer_masked text, payer_hash text, payee_sealed text, payee_masked text, payee_hash text,
    description text, external_ref text, end_user_ref text, metadata jsonb,
    hints text[] default '{}', alias_type text default null, alias text default null, policy jsonb default null
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize(
        case when intent = 'PUSH' then 'payouts:write' else 'payments:write' end, 'write'
    );
    route constant text := 'POST /transfers';
    answer public.answer;
    chosen directory.choice;
    on_rail text := begin_direct.rail;
    rules rails.rails;
    transfer payments.transfers;
begin
    answer := public.claim_idempotency(caller, route, begin_direct.idempotency_key, begin_direct.body_hash);
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;
    if on_rail is null then
        chosen := directory.choose(
            caller.tenant_id, caller.environment, begin_direct.intent, begin_direct.amount_minor, begin_direct.currency,
            begin_direct.hints, begin_direct.alias_type, begin_direct.alias, begin_direct.policy
        );
        on_rail := chosen.rail;
    end if;
    select r.* into rules from rails.rails as r where r.rail = on_rail and r.enabled;
    if not found then
        perform public.refuse_field('42261', '/rail_hints', format('%s is not a rail here.', on_rail));
    elsif not begin_direct.intent = any(rules.intents) then
        perform public.refuse_field('42261', '/intent', format(
            '%s has no %s: it takes %s.', rules.name, begin_direct.intent, array_to_string(rules.intents, ', ')
        ));
    end if;
    if begin_direct.intent = 'PUSH' then
        perform rails.check_payout(on_rail, begin_direct.amount_minor, begin_direct.currency);
        perform payments.check_daily_payouts(caller, begin_direct.amount_minor, begin_direct.currency);
    else
        perform rails.check_amount(on_rail, begin_direct.amount_minor, begin_direct.currency);
    end if;
    perform rails.check_credentials(caller.tenant_id, caller.environment, on_rail);

    insert into payments.transfers (
        transfer_id, tenant_id, environment, intent, rail, state, amount_minor, currency, purpose, operation,
        payer_sealed, payer_masked, payer_hash, payee_sealed, payee_masked, payee_hash,
        description, external_ref, end_user_ref, metadata, body_hash, created_by, approval
    ) values (
        public.new_id('tr'), caller.tenant_id, caller.environment, begin_direct.intent, on_rail, 'INITIATED',
        begin_direct.amount_minor, begin_direct.currency, 'direct',
        case when begin_direct.intent = 'PUSH' then 'pay_out' else 'collect' end,
        begin_direct.payer_sealed, begin_direct.payer_masked, begin_direct.payer_hash,
        begin_direct.payee_sealed, begin_direct.payee_masked, begin_direct.payee_hash,
        begin_direct.description, begin_direct.external_ref, begin_direct.end_user_ref,
        coalesce(begin_direct.metadata, '{}'), begin_direct.body_hash, caller.actor,
        case
            when begin_direct.intent = 'PUSH'
                then payments.approval_needed(begin_direct.amount_minor, begin_direct.currency)
        end
    )
    on conflict (tenant_id, environment, external_ref) where external_ref is not null do nothing
    returning * into transfer;
    if not found then
        perform payments.refuse_external_ref(caller, begin_direct.external_ref);
    end if;
    perform compliance.admit(
        transfer.tenant_id, transfer.environment, case when transfer.intent = 'PUSH' then 'out' else 'in' end,
        transfer.rail, transfer.amount_minor, transfer.currency, coalesce(transfer.payee_hash, transfer.payer_hash),
        transfer.transfer_id
    );
    if chosen.rail is not null then
        perform directory.explain(transfer, chosen, begin_direct.policy);
    end if;
    perform payments.record_transfer_event(transfer, 'transfer.initiated', payments.transfer_payload(transfer));
    return payments.send_or_wait(transfer, caller, route, begin_direct.idempotency_key);
end
$$;
comment on function payments.begin_direct is
'Before the rail is called: a canonical transfer without an intent. PULL asks the payer, PUSH pays out (and needs payouts:write, and counts as one); what the rail cannot do is refused by name. rail null: the directory chooses, and says why.';

create function payments.list_transfers(purposes text[], filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    after_at timestamptz;
    after_id text;
    condition text := '';
    as_resource text;
    rows text[];
    last_at timestamptz;
    last_id text;
    body text;
begin
    if list_transfers.page_after is not null then
        begin
            after_at := to_timestamp(split_part(page_after, '.', 1)::numeric / 1000000);
            after_id := split_part(page_after, '.', 2);
        exception when others then
            perform public.refuse('42262', 'cursor is not one of ours: pass next_cursor of the previous page.',
                '{"errors": [{"pointer": "/cursor", "detail": "pass next_cursor of the previous page, unchanged"}]}');
        end;
    end if;
    as_resource := case
        when purposes = '{refund}' then 'refund_resource'
        when purposes = '{payout}' then 'payout_resource'
        else 'transfer_resource'
    end;
    condition := concat_ws(' and ',
        case when purposes is not null then 't.purpose = any($3)' end,
        case when filters ? 'state' then 't.state in (select jsonb_array_elements_text($4 -> ''state''))' end,
        case when filters ? 'intent' then 't.intent in (select jsonb_array_elements_text($4 -> ''intent''))' end,
        case when filters ? 'rail' then 't.rail in (select jsonb_array_elements_text($4 -> ''rail''))' end,
        case when filters ? 'payment_intent' then 't.payment_intent_id = $4 ->> ''payment_intent''' end,
        case when filters ? 'transfer' then 't.related_transfer_id = $4 ->> ''transfer''' end,
        case when filters ? 'external_ref' then 't.external_ref = $4 ->> ''external_ref''' end,
        case when filters ? 'end_user_ref' then 't.end_user_ref = $4 ->> ''end_user_ref''' end,
        case when filters ? 'approval' then 't.approval = $4 ->> ''approval''' end,
        case when filters ? 'unallocated' then 't.unallocated_reason is not null' end,
        case when filters ? 'created_after' then 't.created_at >= ($4 ->> ''created_after'')::timestamptz' end,
        case when filters ? 'created_before' then 't.created_at < ($4 ->> ''created_before'')::timestamptz' end,
        case when filters ? 'updated_after' then 't.updated_at >= ($4 ->> ''updated_after'')::timestamptz' end,
        case when filters ? 'updated_before' then 't.updated_at < ($4 ->> ''updated_before'')::timestamptz' end,
        case when after_id is not null then '(t.created_at, t.transfer_id) < ($5, $6)' end,
        'true'
    );
    execute format($query$
        select array_agg(payments.%I(page.t) order by (page.t).created_at desc, (page.t).transfer_id desc)
        from (
            select t
            from payments.transfers as t
            where t.tenant_id = $1 and t.environment = $2 and %s
            order by t.created_at desc, t.transfer_id desc
            limit %s
        ) as page
    $query$, as_resource, condition, list_transfers.page_size + 1)
    into rows
    using caller.tenant_id, caller.environment, purposes, filters, after_at, after_id;

    if cardinality(rows) > list_transfers.page_size then
        select t.created_at, t.transfer_id into last_at, last_id
        from payments.transfers as t
        where t.transfer_id = rows[list_transfers.page_size]::json ->> 'id';
    end if;
    body := format(
        '{"data":[%s],"pagination":%s}',
        array_to_string(rows[1:list_transfers.page_size], ','),
        json_build_object(
            'limit', list_transfers.page_size,
            'has_more', last_id is not null,
            'next_cursor', (extract(epoch from last_at) * 1000000)::bigint || '.' || last_id
        )
    );
    return row(200, body, caller.rate);
end
$$;
comment on function payments.list_transfers is
'One page of the caller''s transfers (purposes null: all), newest first, by keyset on (created_at, id). filters: state, intent, rail (lists); payment_intent, transfer, external_ref, end_user_ref, approval, unallocated; created_ and updated_ after, before.';

create function payments.get_transfer(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    transfer payments.transfers := payments.visible_transfer(
        transfer_id, caller, '{collection,refund,payout,direct,c2b}', false
    );
    events text;
begin
    select string_agg(row_to_json(e)::text, ',' order by e.seq) into events
    from (
        select n.seq, n.type, n.occurred_at
        from payments.transfer_events as n
        where n.transfer_id = transfer.transfer_id
    ) as e;
    return row(
        200, rtrim(payments.transfer_resource(transfer), '}') || format(',"events":[%s]}', events), caller.rate
    );
end
$$;
comment on function payments.get_transfer is 'One transfer of any purpose with its numbered events; 40401 for anybody else''s.';

create function payments.list_transfer_events(transfer_id text, after_seq bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    transfer payments.transfers := payments.visible_transfer(
        transfer_id, caller, '{collection,refund,payout,direct,c2b}', false
    );
    events text;
begin
    select string_agg(row_to_json(e)::text, ',' order by e.seq) into events
    from (
        select n.event_id as id, n.type, n.transfer_id as subject, n.seq, n.payload as data, n.occurred_at
        from payments.transfer_events as n
        where n.transfer_id = transfer.transfer_id and n.seq > list_transfer_events.after_seq
    ) as e;
    return row(200, format('{"data":[%s]}', events), caller.rate);
end
$$;
comment on function payments.list_transfer_events is 'The events of one transfer after a number, in order, with what each of them tells.';

reset role;

-- sql/rails/functions/apply.sql

-- What a rail says becomes a transfer's state here and nowhere else, whether it came by answer, callback or query.

set role stalela_owner;

create function rails.apply_event(transfer_id text, event jsonb, source text, trusted boolean)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
    watch rails.watches;
    rules rails.rails;
    known rails.reason_codes;
    outcome text := event ->> 'outcome';
    receipt text := event ->> 'receipt';
begin
    -- Watch, intent, original, transfer: in this order everywhere, so that two of us cannot wait for each other. "No key",
    -- because whoever stores a callback or an event of the transfer holds its key and must not wait either.
    select w.* into watch from rails.watches as w where w.transfer_id = apply_event.transfer_id for update;
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = apply_event.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = apply_event.transfer_id
    )
    for no key update;
    select t.* into transfer
    from payments.transfers as t
    where t.transfer_id = apply_event.transfer_id
    for no key update;
    select r.* into rules from rails.rails as r where r.rail = transfer.rail;

    if source = 'callback' and not trusted then
        return rails.apply_hearsay(transfer, event);
    elsif transfer.rail_ref is null and event ->> 'rail_ref' is not null and transfer.state in ('SUBMITTED', 'FAILED') then
        -- A callback that overtook the push answer brings the reference along.
        update payments.transfers as t
        set rail_ref = apply_event.event ->> 'rail_ref'
        where t.transfer_id = apply_event.transfer_id;
    elsif event ->> 'rail_ref' <> transfer.rail_ref then
        perform payments.review_transfer(transfer.transfer_id, 'reference_mismatch');
        return 'parked:reference_mismatch';
    end if;

    if outcome = 'unknown' and event ->> 'code' is not null then
        if not exists (
            select from rails.reason_codes as k
            where
                k.rail = transfer.rail and k.code = apply_event.event ->> 'code'
                and k.channel = coalesce(apply_event.event ->> 'channel', k.channel)
        ) then
            perform public.raise_alert(
                -- A code of the rail concerns every tenant: the alert is the platform's.
                'unknown_rail_code', 'warning', transfer.rail || ':' || (event ->> 'code'), null, null, '{}'
            );
        end if;
        -- An operator's row says what the rail's module does not know. Only the module says success: it saw the proof.
        select k.* into known
        from rails.reason_codes as k
        where
            k.rail = transfer.rail and k.code = apply_event.event ->> 'code'
            -- What a rail refuses at once is its module's to understand.
            and k.channel = coalesce(apply_event.event ->> 'channel', 'stk') and k.channel <> 'api'
            and k.outcome <> 'succeeded' and apply_event.source <> 'submit';
        if not found then
            null;
        elsif
            source = 'query' and watch.code = known.code
            and watch.code_since <= now() - make_interval(secs => known.repeat_after_s)
        then
            outcome := known.repeat_outcome;
        else
            outcome := known.outcome;
        end if;
    end if;

    if outcome = 'pending' then
        if transfer.state = 'SUBMITTED' and event ->> 'rail_ref' is not null and source <> 'callback' then
            perform payments.advance_transfer(
                transfer.transfer_id, 'accept', source, jsonb_build_object('rail_ref', event ->> 'rail_ref')
            );
            return 'applied';
        end if;
        return 'ignored:still_pending';
    elsif outcome in ('failed_final', 'failed_retryable') then
        return rails.apply_failure(transfer, event || jsonb_build_object('outcome', outcome), source);
    elsif outcome = 'succeeded' then
        if
            (event ->> 'amount_minor')::bigint <> transfer.amount_minor
            or event ->> 'currency' <> transfer.currency
            -- The result of a reversal may tell none: there is one payment it can be about.
            or (source = 'callback' and event ->> 'amount_minor' is null and transfer.operation <> 'refund')
        then
            perform payments.review_transfer(
                transfer.transfer_id, 'amount_mismatch', jsonb_build_object('told_minor', event -> 'amount_minor')
            );
            return 'parked:amount_mismatch';
        end if;
        return rails.apply_success(transfer, watch, rules, receipt, source);
    elsif outcome = 'returned' then
        return rails.apply_return(transfer, source);
    end if;

    if source = 'callback' and transfer.state not in ('SETTLED', 'RETURNED') then
        -- A receipt without an amount proves nothing, and is kept for when the query does.
        perform rails.watch_soon(transfer, receipt);
        return 'awaiting_query:unknown';
    end if;
    return 'ignored:unknown';
end
$$;
comment on function rails.apply_event is
'Applies one RailEvent under the locks of intent and transfer and returns the disposition, "name" or "name:reason". source: submit, callback, query; trusted false means only a query may decide.';

create function rails.apply_return(transfer payments.transfers, source text)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    rest bigint := transfer.amount_minor - transfer.returned_minor;
    intent payments.payment_intents;
begin
    if transfer.state = 'RETURNED' then
        return 'duplicate';
    elsif transfer.refunds_open_minor > 0 then
        -- The rail sends back what a refund is about to give back: both must not happen.
        perform payments.review_transfer(transfer.transfer_id, 'returned_while_refunding');
        return 'parked:returned_while_refunding';
    end if;
    if transfer.purpose = 'refund' and transfer.state = 'SETTLED' then
        -- What was given back came back: the payer is owed it again.
        perform payments.review_transfer(transfer.transfer_id, 'refund_came_back');
        return 'parked:refund_came_back';
    end if;
    perform payments.advance_transfer(transfer.transfer_id, 'return', source);
    delete from rails.watches as w where w.transfer_id = (apply_return.transfer).transfer_id;
    if transfer.state = 'SETTLED' and transfer.purpose in ('collection', 'c2b') then
        select i.* into intent
        from payments.payment_intents as i
        where i.payment_intent_id = (apply_return.transfer).payment_intent_id;
        if intent.amount_refunded_minor + rest = intent.amount_received_minor then
            perform payments.advance_intent(
                intent.payment_intent_id, 'refund', jsonb_build_object('refunded_minor', rest)
            );
        elsif found then
            perform payments.advance_intent(
                intent.payment_intent_id, 'refund_partly', jsonb_build_object('refunded_minor', rest)
            );
        end if;
    end if;
    return 'applied';
end
$$;
comment on function rails.apply_return is
'The rail took the money back: the transfer is returned and its intent says so. With a refund on its way a person decides first.';

create function rails.apply_hearsay(transfer payments.transfers, event jsonb)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    if transfer.state in ('SETTLED', 'RETURNED') then
        return 'ignored:untrusted_source';
    end if;
    -- Lists of addresses lag, so the rail is asked; nothing else is believed: no amount, no state, and a reference
    -- only when the rail itself gave none.
    update payments.transfers as t
    set rail_ref = apply_hearsay.event ->> 'rail_ref'
    where
        t.transfer_id = (apply_hearsay.transfer).transfer_id and t.rail_ref is null
        and exists (
            select from payments.attempts as a where a.transfer_id = t.transfer_id and a.answered_at is not null
        );
    perform rails.watch_soon(transfer, case
        when
            event ->> 'outcome' = 'succeeded' and (event ->> 'amount_minor')::bigint = transfer.amount_minor
            and event ->> 'rail_ref' is not distinct from coalesce(transfer.rail_ref, event ->> 'rail_ref')
            then event ->> 'receipt'
    end);
    return 'awaiting_query:untrusted_source';
end
$$;
comment on function rails.apply_hearsay is 'A callback with the right token from an address that is not listed: a reason to ask the rail, and nothing more.';

create function rails.apply_failure(transfer payments.transfers, event jsonb, source text)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    failure jsonb := rails.failure_of(transfer.rail, event);
begin
    if transfer.state in ('SETTLED', 'RETURNED') then
        -- A failure never undoes a success: money going back is a return, with a record of its own.
        return 'ignored:failure_after_success';
    elsif transfer.state = 'FAILED' then
        return 'ignored:already_failed';
    elsif transfer.state = 'ACCEPTED' and source = 'submit' then
        -- The rail answered a query before it answered the push: it has the push.
        return 'ignored:accepted_meanwhile';
    end if;

    perform rails.fail_transfer(transfer, failure, source, event ->> 'rail_ref');
    return 'applied';
end
$$;
comment on function rails.apply_failure is 'A rail says nothing moved: the transfer fails, its intent takes another attempt. A success stays a success.';

create function rails.apply_success(
    transfer payments.transfers, watch rails.watches, rules rails.rails, receipt text, source text
)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    proof text := coalesce(receipt, watch.claimed_receipt);
begin
    if transfer.state = 'SETTLED' then
        if proof is null or proof = transfer.receipt then
            return 'duplicate';
        elsif transfer.receipt is not null then
            perform payments.review_transfer(transfer.transfer_id, 'second_receipt');
            return 'parked:second_receipt';
        elsif rails.receipt_taken(transfer, proof) then
            perform payments.review_transfer(transfer.transfer_id, 'receipt_of_another_transfer');
            return 'parked:receipt_of_another_transfer';
        end if;
        -- Settled by a query, which tells no receipt; here it is.
        perform payments.annotate_transfer(
            transfer.transfer_id, 'transfer.receipt_recorded', jsonb_build_object('receipt', proof)
        );
        return 'applied';
    elsif transfer.state = 'RETURNED' then
        return 'ignored:already_returned';
    elsif transfer.review_reason in ('amount_mismatch', 'reference_mismatch') then
        -- Seen among the parked, receipt and all: the person who decides must know of it.
        return case when source = 'callback' then 'parked:in_review' else 'ignored:in_review' end;
    elsif rails.receipt_is_deposit(transfer, proof) then
        -- The deposit notice of the same money came first and was booked; the prompt brings nothing new.
        return 'duplicate';
    elsif rails.receipt_taken(transfer, proof) then
        perform payments.review_transfer(transfer.transfer_id, 'receipt_of_another_transfer');
        return 'parked:receipt_of_another_transfer';
    elsif
        transfer.purpose = 'refund' and transfer.state = 'FAILED' and transfer.amount_minor > (
            select o.amount_minor - o.returned_minor - o.refunds_open_minor
            from payments.transfers as o
            where o.transfer_id = (apply_success.transfer).related_transfer_id
        )
    then
        -- It failed, another took its place, and now it went through all the same: more went back than came in.
        perform payments.review_transfer(transfer.transfer_id, 'refunded_twice');
        return 'parked:refunded_twice';
    elsif source = 'callback' and (
        transfer.state = 'FAILED'
        or transfer.amount_minor > rules.confirm_above_minor
    ) then
        perform rails.watch_soon(transfer, receipt);
        return 'awaiting_query:' || case
            when transfer.state = 'FAILED' then 'success_after_failure'
            else 'above_confirmation_amount'
        end;
    elsif transfer.state = 'FAILED' and proof is null then
        -- The rail says paid after it said failed, and no receipt came: nobody will learn more by asking.
        if transfer.review_reason is null then
            perform payments.review_transfer(transfer.transfer_id, 'success_without_receipt');
        end if;
        return 'ignored:no_receipt';
    end if;

    perform rails.settle_transfer(transfer, proof, source);
    return 'applied';
end
$$;
comment on function rails.apply_success is
'A rail says money moved: settles once, or waits for a query when it comes from a strange address, contradicts a failure or exceeds the confirmation amount. A receipt pays for one transfer only.';

create function rails.settle_transfer(
    transfer payments.transfers, receipt text, source text, amount_minor bigint default null
)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    settled payments.transfers;
begin
    if transfer.purpose = 'refund' and transfer.state = 'FAILED' then
        -- Late: what it had reserved was given up when it failed.
        perform payments.reserve_refund(transfer.related_transfer_id, transfer.amount_minor);
    end if;
    settled := payments.advance_transfer(
        transfer.transfer_id, 'settle', source,
        jsonb_build_object('receipt', settle_transfer.receipt, 'amount_minor', settle_transfer.amount_minor)
    );
    delete from rails.watches as w where w.transfer_id = settled.transfer_id;
    if settled.purpose in ('collection', 'c2b') and settled.payment_intent_id is not null then
        perform payments.credit_intent(settled.payment_intent_id, settled.transfer_id, settled.amount_minor);
    elsif settled.purpose = 'refund' then
        perform payments.annotate_transfer(settled.transfer_id, 'refund.succeeded', '{}');
        perform payments.return_money(settled.related_transfer_id, settled.amount_minor, settled.transfer_id);
    elsif settled.purpose = 'payout' then
        perform payments.annotate_transfer(settled.transfer_id, 'payout.succeeded', '{}');
    end if;
end
$$;
comment on function rails.settle_transfer is
'The money moved: the transfer settles and what it was for moves with it (the intent is paid, the original returned); nobody asks the rail any more. amount_minor: what moved, where it is not what was asked.';

create function rails.fail_transfer(transfer payments.transfers, failure jsonb, source text, rail_ref text)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    failed payments.transfers;
    intent payments.payment_intents;
begin
    failed := payments.advance_transfer(
        transfer.transfer_id, 'fail', source,
        jsonb_build_object('failure', fail_transfer.failure, 'rail_ref', fail_transfer.rail_ref)
    );
    delete from rails.watches as w where w.transfer_id = failed.transfer_id;
    if failed.purpose = 'refund' then
        perform payments.release_refund(failed.related_transfer_id, failed.amount_minor);
        perform payments.annotate_transfer(failed.transfer_id, 'refund.failed', '{}');
    elsif failed.purpose = 'payout' then
        perform payments.annotate_transfer(failed.transfer_id, 'payout.failed', '{}');
    elsif failed.purpose = 'collection' then
        select i.* into intent
        from payments.payment_intents as i
        where i.payment_intent_id = failed.payment_intent_id;
        -- Another attempt may have paid, or may be running, by now.
        if intent.status <> 'processing' or intent.latest_transfer_id <> failed.transfer_id then
            return;
        elsif intent.amount_received_minor > 0 then
            perform payments.advance_intent(
                intent.payment_intent_id, 'fail_partly', jsonb_build_object('failure', fail_transfer.failure)
            );
        else
            perform payments.advance_intent(
                intent.payment_intent_id, 'fail', jsonb_build_object('failure', fail_transfer.failure)
            );
        end if;
    end if;
end
$$;
comment on function rails.fail_transfer is
'Nothing moved: the transfer fails, nobody asks the rail any more; an intent takes another attempt if it still waited for this one, a refund gives back what it had reserved.';

create function rails.receipt_is_deposit(transfer payments.transfers, receipt text)
returns boolean
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    return exists (
        select from payments.transfers as t
        where
            t.tenant_id = transfer.tenant_id and t.environment = transfer.environment and t.rail = transfer.rail
            and t.receipt = receipt_is_deposit.receipt and t.purpose = 'c2b'
            and t.payment_intent_id = transfer.payment_intent_id and t.amount_minor = transfer.amount_minor
    );
end
$$;
comment on function rails.receipt_is_deposit is
'Whether this receipt is booked already as a deposit for the same intent: one payment that the rail told twice.';

create function rails.receipt_taken(transfer payments.transfers, receipt text)
returns boolean
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    return (
        select exists (
            select from payments.transfers as t
            where
                t.tenant_id = transfer.tenant_id and t.environment = transfer.environment and t.rail = transfer.rail
                and t.receipt = receipt_taken.receipt and t.transfer_id <> transfer.transfer_id
        )
    );
end
$$;
comment on function rails.receipt_taken is 'Whether another transfer already claims this receipt; the unique index decides the race.';

create function rails.watch_soon(transfer payments.transfers, receipt text)
returns void
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
begin
    insert into rails.watches as w (transfer_id, tenant_id, environment, due_at, horizon_at, claimed_receipt)
    select
        transfer.transfer_id, transfer.tenant_id, transfer.environment, now(),
        now() + make_interval(secs => r.horizon_s), watch_soon.receipt
    from rails.rails as r
    where r.rail = transfer.rail
    on conflict (transfer_id) do update
    set
        due_at = now(),
        queries = 0,
        -- News after the horizon is worth another round of questions.
        horizon_at = greatest(w.horizon_at, excluded.horizon_at),
        claimed_receipt = coalesce(excluded.claimed_receipt, w.claimed_receipt);
    perform public.poke('reconcile');
end
$$;
comment on function rails.watch_soon is 'Asks the reconciler to query this transfer now; keeps the receipt of a success that waits for it.';

reset role;

-- sql/rails/functions/balances.sql

-- What a tenant holds at a rail: asked for by a person, told by a callback.

set role stalela_owner;

create function rails.request_balance(rail text, token_hash text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payouts:write', 'manage');
    asked rails.balances;
begin
    perform rails.check_credentials(caller.tenant_id, caller.environment, request_balance.rail);
    insert into rails.balances (balance_id, tenant_id, environment, rail, token_hash, requested_by)
    values (
        public.new_id('bal'), caller.tenant_id, caller.environment, request_balance.rail,
        request_balance.token_hash, caller.actor
    )
    returning * into asked;
    return (
        select jsonb_build_object(
            'balance_id', asked.balance_id, 'tenant_id', c.tenant_id, 'environment', c.environment, 'rail', c.rail,
            'currency', (select r.currencies[1] from rails.rails as r where r.rail = c.rail),
            'credentials_sealed', c.sealed
        )
        from rails.credentials as c
        where c.tenant_id = asked.tenant_id and c.environment = asked.environment and c.rail = asked.rail
    );
end
$$;
comment on function rails.request_balance is
'Notes that the balance is asked for, under the token its answer will come to, and gives the sealed credentials to ask with.';

create function rails.balance_resource(balance rails.balances)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', balance.balance_id,
        'object', 'rail_balance',
        'rail', balance.rail,
        'status', case
            when balance.told_at is null then 'pending'
            when balance.problem is not null then 'failed'
            else 'told'
        end,
        'accounts', (
            select json_agg(json_build_object(
                'name', a ->> 'name',
                'currency', a ->> 'currency',
                'available', public.format_amount((a ->> 'available_minor')::bigint, a ->> 'currency'),
                'uncleared', public.format_amount((a ->> 'uncleared_minor')::bigint, a ->> 'currency'),
                'reserved', public.format_amount((a ->> 'reserved_minor')::bigint, a ->> 'currency')
            ))
            from jsonb_array_elements(balance.accounts) as a
        ),
        'problem', balance.problem,
        'environment', balance.environment,
        'requested_at', balance.requested_at,
        'told_at', balance.told_at
    );
end
$$;
comment on function rails.balance_resource is 'The wire shape of a balance at a rail; below zero is possible there.';

create function rails.get_balance(rail text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    latest rails.balances;
begin
    select b.* into latest
    from rails.balances as b
    where b.tenant_id = caller.tenant_id and b.environment = caller.environment and b.rail = get_balance.rail
    order by b.requested_at desc
    limit 1;
    if not found then
        perform public.refuse('40401', format('Nobody asked %s for the balance yet.', get_balance.rail));
    end if;
    return public.reply(caller, 200, rails.balance_resource(latest));
end
$$;
comment on function rails.get_balance is 'What the rail said, or has yet to say, to the latest question about the balance.';

create function rails.receive_balance(
    rail text, token_hash text, source_address text, source_trusted boolean, headers jsonb,
    body_sealed text, body_hash text, accounts jsonb, problem text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    asked rails.balances;
begin
    select b.* into asked
    from rails.balances as b
    where b.token_hash = receive_balance.token_hash and b.rail = receive_balance.rail
    for update;
    if asked.balance_id is null and rails.too_many_callbacks(null, receive_balance.source_trusted) then
        return jsonb_build_object('disposition', 'ignored', 'reason', 'too_many');
    end if;
    insert into rails.callbacks (
        rail, tenant_id, environment, dedupe_key, token_hash, source_address, source_trusted,
        headers, body_sealed, events, problem, kind
    ) values (
        receive_balance.rail, asked.tenant_id, asked.environment,
        concat_ws('|', receive_balance.rail, 'raw', receive_balance.token_hash, receive_balance.body_hash),
        receive_balance.token_hash, receive_balance.source_address, receive_balance.source_trusted,
        receive_balance.headers, receive_balance.body_sealed, null, receive_balance.problem, 'balance'
    )
    on conflict (dedupe_key) do nothing;
    if asked.balance_id is null then
        return jsonb_build_object('disposition', 'ignored', 'reason', 'unknown_token');
    elsif asked.told_at is not null then
        return jsonb_build_object('disposition', 'duplicate');
    end if;
    -- No money moves by it, so an address that is not listed is only noted.
    update rails.balances as b
    set told_at = now(), accounts = receive_balance.accounts, problem = receive_balance.problem
    where b.balance_id = asked.balance_id;
    return jsonb_build_object('disposition', 'applied');
end
$$;
comment on function rails.receive_balance is 'Keeps what the rail said about the balance, for the question its token belongs to; the first answer counts.';

reset role;

-- sql/rails/functions/callbacks.sql

-- Callbacks: kept as they came, then concluded from, in one transaction.

set role stalela_owner;

create function rails.too_many_callbacks(transfer_id text, source_trusted boolean)
returns boolean
language plpgsql
stable
security definer -- callers may not read callbacks
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Anybody may post, and nothing here is ever deleted. A rail repeats itself a few times, a forger without end.
    if too_many_callbacks.transfer_id is null then
        return (
            select count(*) >= 1000
            from (
                select from rails.callbacks as c
                where c.transfer_id is null and c.tenant_id is null and c.received_at > now() - interval '1 hour'
                limit 1000
            ) as recent
        );
    end if;
    return (
        select count(*) >= 100
        from (
            select from rails.callbacks as c
            where
                c.transfer_id = too_many_callbacks.transfer_id
                -- Strangers fill their own hundred and leave the rail its own.
                and c.source_trusted = too_many_callbacks.source_trusted
            limit 100
        ) as kept
    );
end
$$;
comment on function rails.too_many_callbacks is
'Whether this callback is one too many to keep: 1,000 unmatched ones an hour, for one transfer 100 from the rail''s addresses and 100 from others.';

create function rails.receive_callback(
    rail text, token_hash text, source_address text, source_trusted boolean, headers jsonb,
    body_sealed text, body_hash text, events jsonb, problem text, kind text default 'collect'
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write callbacks
set search_path = ''
as $$
#variable_conflict use_column
declare
    attempt payments.attempts;
    kept rails.callbacks;
    earlier rails.callbacks;
    key text;
    disposition text;
begin
    select a.* into attempt from payments.attempts as a where a.callback_token_hash = receive_callback.token_hash;
    if rails.too_many_callbacks(attempt.transfer_id, receive_callback.source_trusted) then
        perform public.raise_alert(
            'callbacks_not_kept', 'critical', coalesce(attempt.transfer_id, receive_callback.rail || ' unmatched'),
            attempt.tenant_id, attempt.environment, jsonb_build_object('source_address', receive_callback.source_address)
        );
        return jsonb_build_object('disposition', 'ignored', 'reason', 'too_many', 'transfer_id', attempt.transfer_id);
    end if;
    -- Only a body with a token of ours, from an address of the rail where those are listed, may claim the identity
    -- of a rail's message; a forger cannot occupy it.
    key := case
        when attempt.transfer_id is not null and receive_callback.source_trusted and events is not null then concat_ws(
            '|', receive_callback.rail, attempt.transfer_id, nullif(kind, 'collect'),
            -- Each question has an answer of its own, though the rail's words be the same.
            case when kind = 'status' then receive_callback.token_hash end,
            events -> 0 ->> 'rail_ref', events -> 0 ->> 'code'
        )
        else concat_ws('|', receive_callback.rail, 'raw', receive_callback.token_hash, receive_callback.body_hash)
    end;
    loop
        insert into rails.callbacks (
            rail, tenant_id, environment, transfer_id, dedupe_key, token_hash, source_address, source_trusted,
            headers, body_sealed, events, problem, kind
        ) values (
            receive_callback.rail, attempt.tenant_id, attempt.environment, attempt.transfer_id, key,
            receive_callback.token_hash, receive_callback.source_address, receive_callback.source_trusted,
            receive_callback.headers, receive_callback.body_sealed, receive_callback.events, receive_callback.problem,
            receive_callback.kind
        )
        on conflict (dedupe_key) do nothing
        returning * into kept;
        exit when found;

        select c.* into earlier from rails.callbacks as c where c.dedupe_key = key;
        if earlier.events is not distinct from receive_callback.events then
            return jsonb_build_object('disposition', 'duplicate', 'transfer_id', attempt.transfer_id);
        end if;
        -- Same identity, other content: keep this one too, for a person.
        key := key || '|' || receive_callback.body_hash;
        problem := 'contradicts an earlier callback of the same identity';
    end loop;

    disposition := rails.conclude_callback(kept.callback_id, receive_callback.problem);
    return jsonb_build_object(
        'disposition', split_part(disposition, ':', 1),
        'reason', nullif(split_part(disposition, ':', 2), ''),
        'transfer_id', attempt.transfer_id
    );
end
$$;
comment on function rails.receive_callback is
'Stores the sealed body, then applies its events to the transfer its token belongs to; a repeated callback changes nothing. Returns {disposition, reason, transfer_id}.';

create function rails.conclude_callback(callback_id bigint, problem text)
returns text
language plpgsql
volatile
security definer -- callers may not write dispositions
set search_path = ''
as $$
#variable_conflict use_column
declare
    kept rails.callbacks;
    concluded text;
    told jsonb;
begin
    select c.* into kept from rails.callbacks as c where c.callback_id = conclude_callback.callback_id;
    if kept.kind = 'confirmation' and kept.tenant_id is not null and conclude_callback.problem is null then
        begin
            concluded := rails.conclude_deposit(kept);
        exception when others then
            concluded := 'failed:' || sqlstate || ' ' || translate(sqlerrm, ':', ' ');
        end;
    elsif kept.transfer_id is null and kept.tenant_id is null then
        concluded := 'parked:unknown_token';
    elsif conclude_callback.problem is not null or kept.transfer_id is null then
        concluded := 'parked:' || translate(coalesce(conclude_callback.problem, kept.kind), ':', ' ');
        perform rails.watch_soon(t, null) from payments.transfers as t where t.transfer_id = kept.transfer_id
            and t.state in ('SUBMITTED', 'ACCEPTED');
    else
        begin
            for told in select e from jsonb_array_elements(kept.events) as e loop
                if kept.kind <> 'status' then
                    concluded := rails.apply_event(kept.transfer_id, told, 'callback', kept.source_trusted);
                elsif kept.source_trusted then
                    concluded := rails.apply_query(kept.transfer_id, told);
                else
                    -- Asking again would only bring the same address.
                    concluded := 'parked:untrusted_source';
                end if;
            end loop;
            concluded := coalesce(concluded, 'parked:no_event');
        exception when others then
            -- The body is kept whatever happens; a task concludes again.
            concluded := 'failed:' || sqlstate || ' ' || translate(sqlerrm, ':', ' ');
        end;
    end if;

    insert into rails.callback_dispositions (callback_id, number, tenant_id, environment, disposition, reason)
    values (
        kept.callback_id,
        1 + (select count(*) from rails.callback_dispositions as d where d.callback_id = kept.callback_id),
        kept.tenant_id, kept.environment, split_part(concluded, ':', 1), nullif(split_part(concluded, ':', 2), '')
    );
    if concluded like 'parked%' or concluded like 'failed%' then
        perform public.raise_alert(
            'callback_parked', 'warning', coalesce(kept.transfer_id, kept.rail || ' unmatched'), kept.tenant_id,
            kept.environment, jsonb_build_object('callback_id', kept.callback_id, 'disposition', concluded)
        );
    end if;
    return concluded;
end
$$;
comment on function rails.conclude_callback is 'Draws the conclusion from one stored callback and appends it; whatever goes wrong, the callback stays and an alert opens.';

create function rails.retry_failed_callbacks()
returns integer
language plpgsql
volatile
security definer -- callers may not read callbacks
set search_path = ''
as $$
declare
    again bigint;
    tried integer := 0;
begin
    for again in
        select d.callback_id
        from rails.callback_dispositions as d
        where
            d.disposition = 'failed' and d.number < 10
            and not exists (
                select from rails.callback_dispositions as later
                where later.callback_id = d.callback_id and later.number > d.number
            )
        order by d.callback_id
        limit 100
    loop
        perform rails.conclude_callback(again, null);
        tried := tried + 1;
    end loop;
    return tried;
end
$$;
comment on function rails.retry_failed_callbacks is 'Concludes again from callbacks whose first conclusion failed (a lock, a bug since fixed), ten times at most. A cron task.';

create function rails.list_parked_callbacks(before_id bigint, page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read callbacks
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    body text;
begin
    select string_agg(row_to_json(parked)::text, ',' order by parked.id desc) into body
    from (
        select
            c.callback_id as id, c.rail, c.transfer_id, d.reason, c.source_address, c.source_trusted,
            c.events, c.received_at
        from rails.callbacks as c
        inner join lateral (
            select l.disposition, l.reason
            from rails.callback_dispositions as l
            where l.callback_id = c.callback_id
            order by l.number desc
            limit 1
        ) as d on d.disposition in ('parked', 'failed')
        where
            c.callback_id < list_parked_callbacks.before_id
            -- An unmatched callback belongs to nobody: only the platform's operators see it.
            and (
                public.holds_scope(caller.scopes, 'platform:operate')
                or (c.tenant_id = caller.tenant_id and c.environment = caller.environment)
            )
        order by c.callback_id desc
        limit list_parked_callbacks.page_size
    ) as parked;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function rails.list_parked_callbacks is
'Callbacks that wait for a person, newest first: a tenant''s own, or all of them for operators (platform:operate).';

reset role;

-- sql/rails/functions/credentials.sql

-- Tenants' rail credentials: stored sealed, shown masked, opened only by the functions that call the rail.

set role stalela_owner;

create function rails.credentials_resource(credentials rails.credentials)
returns text
language sql
stable
set search_path = ''
as $$
    select row_to_json(shown)::text
    from (
        select
            credentials.rail, 'rail_credentials' as object, credentials.environment, credentials.masked as credentials,
            credentials.revision, credentials.tested_at, credentials.created_at, credentials.updated_at
    ) as shown;
$$;
comment on function rails.credentials_resource is 'The wire shape of stored credentials: masked, never the values.';

create function rails.put_credentials(
    tenant_id text, environment text, rail text, sealed text, key_version integer, masked jsonb, tested boolean
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    -- The seal is bound to these two; a mismatch would store something nobody can open.
    if put_credentials.tenant_id <> caller.tenant_id or put_credentials.environment <> caller.environment then
        perform public.refuse('40401', 'These credentials belong to another tenant or environment.');
    end if;
    if not exists (select from rails.rails as r where r.rail = put_credentials.rail and r.enabled) then
        perform public.refuse('40401', format('There is no rail %s.', put_credentials.rail));
    end if;
    insert into rails.credentials as c (
        tenant_id, environment, rail, sealed, key_version, masked, created_by, tested_at
    ) values (
        caller.tenant_id, caller.environment, put_credentials.rail, put_credentials.sealed,
        put_credentials.key_version, put_credentials.masked, caller.actor,
        case when put_credentials.tested then now() end
    )
    on conflict (tenant_id, environment, rail) do update
    set
        sealed = excluded.sealed, key_version = excluded.key_version, masked = excluded.masked,
        revision = c.revision + 1, updated_at = now(), tested_at = excluded.tested_at
    returning c.* into stored;
    perform public.audit(caller, 'credentials.put', stored.rail, jsonb_build_object('revision', stored.revision));
    return row(
        case when stored.revision = 1 then 201 else 200 end, rails.credentials_resource(stored), caller.rate
    );
end
$$;
comment on function rails.put_credentials is 'Stores or replaces the sealed credentials of one rail for the caller''s tenant and environment. 201 first, 200 afterwards.';

create function rails.list_credentials()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'read');
    body text;
begin
    select string_agg(rails.credentials_resource(c), ',' order by c.rail) into body
    from rails.credentials as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function rails.list_credentials is 'The caller''s credentials of this environment, masked.';

create function rails.open_credentials(rail text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    select c.* into stored
    from rails.credentials as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.rail = open_credentials.rail;
    if not found then
        perform public.refuse('40401', format('No %s credentials in %s.', open_credentials.rail, caller.environment));
    end if;
    return jsonb_build_object(
        'tenant_id', stored.tenant_id, 'environment', stored.environment, 'rail', stored.rail, 'sealed', stored.sealed
    );
end
$$;
comment on function rails.open_credentials is 'The sealed credentials of one rail, for a test against the rail.';

create function rails.record_credentials_test(rail text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    update rails.credentials as c
    set tested_at = now()
    where
        c.tenant_id = caller.tenant_id and c.environment = caller.environment
        and c.rail = record_credentials_test.rail
    returning c.* into stored;
    if not found then
        perform public.refuse('40401', format('No %s credentials in %s.', record_credentials_test.rail, caller.environment));
    end if;
    return row(200, rails.credentials_resource(stored), caller.rate);
end
$$;
comment on function rails.record_credentials_test is 'Notes that the rail accepted the credentials just now.';

create function rails.delete_credentials(rail text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
begin
    if exists (
        select from payments.transfers as t
        inner join rails.watches as w on w.transfer_id = t.transfer_id
        where
            t.tenant_id = caller.tenant_id and t.environment = caller.environment
            and t.rail = delete_credentials.rail and w.due_at < 'infinity'
    ) then
        perform public.refuse('40911', format(
            'Payments are open on %s: their outcome can only be asked for with these credentials.', delete_credentials.rail
        ));
    end if;
    delete from rails.credentials as c
    where
        c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.rail = delete_credentials.rail;
    if not found then
        perform public.refuse('40401', format('No %s credentials in %s.', delete_credentials.rail, caller.environment));
    end if;
    perform public.audit(caller, 'credentials.deleted', delete_credentials.rail, '{}');
    return row(200, json_build_object('object', 'rail_credentials', 'rail', delete_credentials.rail, 'deleted', true)::text, caller.rate);
end
$$;
comment on function rails.delete_credentials is 'Deletes one rail''s credentials; 40911 while a payment is open on it.';

create function rails.claim_reseal(below_version integer, max_rows integer)
returns setof jsonb
language sql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
    select jsonb_build_object(
        'tenant_id', c.tenant_id, 'environment', c.environment, 'rail', c.rail, 'sealed', c.sealed,
        'revision', c.revision
    )
    from rails.credentials as c
    where c.key_version < claim_reseal.below_version
    order by c.key_version, c.tenant_id
    limit claim_reseal.max_rows;
$$;
comment on function rails.claim_reseal is 'Credentials sealed under a master key older than the given version.';

create function rails.poke_reseal()
returns boolean
language plpgsql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
begin
    -- Which master key is current only the function knows; it answers in one call when nothing is old.
    if not exists (select from rails.credentials) then
        return false;
    end if;
    perform public.poke('merchants/reseal');
    return true;
end
$$;
comment on function rails.poke_reseal is 'Wakes the merchants function to seal credentials again that are under an older master key. A cron task.';

create function rails.record_reseal(
    tenant_id text, environment text, rail text, revision integer, sealed text, key_version integer
)
returns boolean
language sql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
    with changed as (
        -- The revision guards against credentials that were replaced meanwhile.
        update rails.credentials as c
        set sealed = record_reseal.sealed, key_version = record_reseal.key_version, updated_at = now()
        where
            c.tenant_id = record_reseal.tenant_id and c.environment = record_reseal.environment
            and c.rail = record_reseal.rail and c.revision = record_reseal.revision
        returning 1
    )
    select exists (select from changed);
$$;
comment on function rails.record_reseal is 'Stores the same credentials under a newer master key; false when they were replaced meanwhile.';

reset role;

-- sql/rails/functions/deposits.sql

-- Deposits: payments that nobody was prompted for. The rail asks whether one may be made, then tells that it was.

set role stalela_owner;

create function rails.open_deposits(rail text, token_hash text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write deposit addresses
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    perform rails.check_credentials(caller.tenant_id, caller.environment, open_deposits.rail);
    select c.* into stored
    from rails.credentials as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.rail = open_deposits.rail;
    -- Before the rail hears of the address: its first report may come at once.
    insert into rails.deposit_addresses (token_hash, tenant_id, environment, rail, created_by)
    values (open_deposits.token_hash, caller.tenant_id, caller.environment, open_deposits.rail, caller.actor);
    perform public.audit(caller, 'deposits.opened', open_deposits.rail, '{}');
    return jsonb_build_object(
        'tenant_id', stored.tenant_id, 'environment', stored.environment, 'rail', stored.rail,
        'credentials_sealed', stored.sealed
    );
end
$$;
comment on function rails.open_deposits is
'Takes a new address for deposits into use and gives the sealed credentials to register it with.';

create function rails.record_deposits_registered(token_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write deposit addresses
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    address rails.deposit_addresses;
begin
    update rails.deposit_addresses as d
    set registered_at = now()
    where
        d.token_hash = record_deposits_registered.token_hash
        and d.tenant_id = caller.tenant_id and d.environment = caller.environment
    returning d.* into address;
    if not found then
        perform public.refuse('40401', 'There is no such address here.');
    end if;
    return public.reply(caller, 201, json_build_object(
        'object', 'deposit_registration', 'rail', address.rail, 'environment', address.environment,
        'registered_at', address.registered_at
    ));
end
$$;
comment on function rails.record_deposits_registered is 'The rail accepted the address. 201.';

create function rails.intent_by_reference(tenant_id text, environment text, account_reference text)
returns text
language plpgsql
stable
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- As people type it: any case, with spaces, and O for 0, I or L for 1, which our ids do not have.
    wanted text := translate(
        lower(regexp_replace(coalesce(intent_by_reference.account_reference, ''), '[^0-9A-Za-z]', '', 'g')), 'oil', '011'
    );
begin
    return (
        select i.payment_intent_id
        from payments.payment_intents as i
        where
            right(i.payment_intent_id, 12) = wanted
            and i.status in ('requires_payment_method', 'processing', 'partially_paid')
            and i.tenant_id = intent_by_reference.tenant_id and i.environment = intent_by_reference.environment
        limit 1
    );
end
$$;
comment on function rails.intent_by_reference is
'The open intent whose account_reference the payer typed; null when there is none.';

create function rails.check_deposit(rail text, token_hash text, amount_minor bigint, currency text)
returns text
language plpgsql
stable
security definer -- callers may not read deposit addresses
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform from rails.deposit_addresses as d
    where d.token_hash = check_deposit.token_hash and d.rail = check_deposit.rail;
    if not found then
        return 'other';
    end if;
    perform from rails.rails as r
    where
        r.rail = check_deposit.rail and check_deposit.currency = any(r.currencies)
        and check_deposit.amount_minor between r.min_minor and r.max_minor;
    -- Money for nobody in particular is welcome: an operator assigns it.
    return case when not found then 'amount' end;
end
$$;
comment on function rails.check_deposit is
'Why a deposit may not be made (one of the rail protocol''s DepositRefusal), null when it may. Whose account it names does not matter: what matches no intent waits for an operator.';

create function rails.receive_deposit(
    rail text, token_hash text, source_address text, source_trusted boolean, headers jsonb,
    body_sealed text, body_hash text, deposit jsonb, problem text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write callbacks
set search_path = ''
as $$
#variable_conflict use_column
declare
    address rails.deposit_addresses;
    kept rails.callbacks;
    earlier rails.callbacks;
    key text;
    concluded text;
begin
    select d.* into address
    from rails.deposit_addresses as d
    where d.token_hash = receive_deposit.token_hash and d.rail = receive_deposit.rail;
    if address.tenant_id is null and rails.too_many_callbacks(null, receive_deposit.source_trusted) then
        perform public.raise_alert(
            'callbacks_not_kept', 'critical', receive_deposit.rail || ' unmatched', null, null,
            jsonb_build_object('source_address', receive_deposit.source_address)
        );
        return jsonb_build_object('disposition', 'ignored', 'reason', 'too_many');
    end if;
    key := case
        when address.tenant_id is not null and receive_deposit.source_trusted and deposit is not null then concat_ws(
            '|', receive_deposit.rail, address.tenant_id, address.environment, 'deposit', deposit ->> 'receipt'
        )
        else concat_ws('|', receive_deposit.rail, 'raw', receive_deposit.token_hash, receive_deposit.body_hash)
    end;
    loop
        insert into rails.callbacks (
            rail, tenant_id, environment, dedupe_key, token_hash, source_address, source_trusted,
            headers, body_sealed, events, problem, kind
        ) values (
            receive_deposit.rail, address.tenant_id, address.environment, key, receive_deposit.token_hash,
            receive_deposit.source_address, receive_deposit.source_trusted, receive_deposit.headers,
            receive_deposit.body_sealed, case when deposit is not null then jsonb_build_array(deposit) end,
            receive_deposit.problem, 'confirmation'
        )
        on conflict (dedupe_key) do nothing
        returning * into kept;
        exit when found;

        select c.* into earlier from rails.callbacks as c where c.dedupe_key = key;
        if
            deposit is null
            or (earlier.events -> 0 ->> 'amount_minor') = (deposit ->> 'amount_minor')
        then
            return jsonb_build_object('disposition', 'duplicate');
        end if;
        key := key || '|' || receive_deposit.body_hash;
        problem := 'contradicts an earlier confirmation of the same receipt';
    end loop;

    concluded := rails.conclude_callback(kept.callback_id, receive_deposit.problem);
    return jsonb_build_object(
        'disposition', split_part(concluded, ':', 1), 'reason', nullif(split_part(concluded, ':', 2), '')
    );
end
$$;
comment on function rails.receive_deposit is
'Stores a confirmation, then books it: the money has moved. A receipt seen before changes nothing. Returns {disposition, reason}.';

create function rails.conclude_deposit(kept rails.callbacks)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    told jsonb := kept.events -> 0;
    known payments.transfers;
    prompted text;
    intent_id text;
begin
    if not kept.source_trusted then
        return 'parked:untrusted_source';
    end if;
    -- A prompt that was paid is told twice, as its own result and as a deposit. Which comes first is the rail's whim.
    select t.transfer_id into prompted
    from payments.transfers as t
    where
        right(t.payment_intent_id, 12) = lower(told ->> 'account_reference')
        and t.purpose = 'collection' and t.receipt is null and t.rail = kept.rail
        and t.tenant_id = kept.tenant_id and t.environment = kept.environment
        and t.amount_minor = (told ->> 'amount_minor')::bigint and t.currency = told ->> 'currency'
        and t.state in ('SUBMITTED', 'ACCEPTED', 'SETTLED') and t.review_reason is null
    order by t.created_at desc
    limit 1;
    intent_id := coalesce(
        (select t.payment_intent_id from payments.transfers as t where t.transfer_id = prompted),
        rails.intent_by_reference(kept.tenant_id, kept.environment, told ->> 'account_reference')
    );
    -- Watch, intent, transfer: the order of rails.apply_event.
    perform from rails.watches as w where w.transfer_id = prompted for update;
    perform from payments.payment_intents as i where i.payment_intent_id = intent_id for no key update;

    select t.* into known
    from payments.transfers as t
    where
        t.tenant_id = kept.tenant_id and t.environment = kept.environment and t.rail = kept.rail
        and t.receipt = told ->> 'receipt';
    if found then
        return case
            when known.amount_minor = (told ->> 'amount_minor')::bigint then 'duplicate'
            else 'parked:receipt_of_another_amount'
        end;
    elsif exists (
        select from payments.transfers as t
        where t.transfer_id = prompted and t.receipt is null and t.state in ('SUBMITTED', 'ACCEPTED', 'SETTLED')
    ) then
        return rails.apply_event(prompted, jsonb_build_object(
            'outcome', 'succeeded', 'source', 'callback', 'receipt', told ->> 'receipt',
            'amount_minor', told -> 'amount_minor', 'currency', told ->> 'currency', 'code', '0'
        ), 'callback', true);
    end if;
    perform payments.record_deposit(kept.tenant_id, kept.environment, kept.rail, intent_id, told);
    return 'applied';
end
$$;
comment on function rails.conclude_deposit is
'What a confirmed deposit is: the other report of a prompt that was paid, a payment for the open intent it names, or money for an operator to assign.';

reset role;

-- sql/rails/functions/queries.sql

-- Whom to ask the rail about, when, and for how long.

set role stalela_owner;

create function rails.work_item(transfer payments.transfers, callback_token text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_strip_nulls(jsonb_build_object(
            'transfer_id', transfer.transfer_id,
            'tenant_id', transfer.tenant_id,
            'environment', transfer.environment,
            'rail', transfer.rail,
            'operation', transfer.operation,
            'rail_ref', transfer.rail_ref,
            'amount_minor', transfer.amount_minor,
            'currency', transfer.currency,
            'submitted_at', transfer.submitted_at,
            'callback_token', work_item.callback_token,
            'original_receipt', original.receipt,
            'payee_sealed', transfer.payee_sealed,
            -- The payer of an intent is sealed for that intent; other seals carry a name of their own.
            'payee_context', case when original.purpose = 'collection' then 'payer|' || original.payment_intent_id end,
            -- Printed in the payer's message: public text, at most 12 characters.
            'account_reference', upper(right(coalesce(transfer.payment_intent_id, transfer.transfer_id), 12)),
            'description', coalesce(left(transfer.description, 13), 'Payment'),
            'credentials_sealed', c.sealed
        ))
        from rails.credentials as c
        left join payments.transfers as original on original.transfer_id = (work_item.transfer).related_transfer_id
        where
            c.tenant_id = (work_item.transfer).tenant_id
            and c.environment = (work_item.transfer).environment
            and c.rail = (work_item.transfer).rail
    );
end
$$;
comment on function rails.work_item is
'All a rail client needs to act on, or ask about, one transfer; null when the tenant has removed its credentials.';

create function rails.ask_later(transfer payments.transfers)
returns text
language plpgsql
volatile
security definer -- callers may not write attempts
set search_path = ''
as $$
#variable_conflict use_column
declare
    token text := payments.random_secret();
begin
    if transfer.operation = 'collect' then
        return null;
    end if;
    insert into payments.attempts (transfer_id, number, tenant_id, environment, callback_token_hash, kind)
    select
        transfer.transfer_id, 1 + count(*), transfer.tenant_id, transfer.environment,
        encode(sha256(convert_to(token, 'utf8')), 'hex'), 'query'
    from payments.attempts as a
    where a.transfer_id = (ask_later.transfer).transfer_id;
    return token;
end
$$;
comment on function rails.ask_later is
'A new callback token for a question that the rail answers by calling back; null for one it answers at once.';

create function rails.can_be_asked(transfer payments.transfers)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    -- Prompts and reversals are known at the rail by its own reference alone; a payout by ours too.
    return transfer.rail_ref is not null or transfer.operation = 'pay_out';
end
$$;
comment on function rails.can_be_asked is 'Whether there is a reference by which the rail can be asked about this transfer.';

create function rails.take_query(transfer_id text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
begin
    select t.* into transfer from payments.transfers as t where t.transfer_id = take_query.transfer_id;
    if not found or not rails.can_be_asked(transfer) then
        return null;
    end if;
    update rails.watches as w
    set asked_at = now(), due_at = greatest(w.due_at, now() + interval '60 seconds')
    where
        w.transfer_id = take_query.transfer_id
        and (w.asked_at is null or w.asked_at <= now() - interval '5 seconds');
    if not found then
        return null;
    end if;
    return rails.work_item(transfer, rails.ask_later(transfer));
end
$$;
comment on function rails.take_query is 'The query for one transfer, if its outcome is open and the rail was not asked in the last 5 seconds.';

create function rails.claim_queries(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
#variable_conflict use_column
declare
    due rails.watches;
    transfer payments.transfers;
    rules rails.rails;
    work jsonb;
    overdue text;
begin
    for due in
        update rails.watches as w
        -- Also a lease: whoever claimed it and died gives it back after a minute.
        set due_at = now() + interval '60 seconds', asked_at = now()
        where w.transfer_id = any(array(
            select d.transfer_id
            from rails.watches as d
            where d.due_at <= now()
            order by d.due_at
            limit claim_queries.max_rows
            for update skip locked
        ))
        returning w.*
    loop
        select t.* into transfer from payments.transfers as t where t.transfer_id = due.transfer_id;
        select r.* into rules from rails.rails as r where r.rail = transfer.rail;
        work := rails.work_item(transfer, null);
        overdue := case
            when due.horizon_at <= now() then 'no_answer_within_horizon'
            when work is null then 'credentials_removed'
            when
                not rails.can_be_asked(transfer)
                and transfer.submitted_at + make_interval(secs => rules.unanswerable_after_s) <= now()
                then 'rail_gave_no_reference'
        end;
        if overdue is not null then
            -- Still not failed: a callback may yet come, and a person decides.
            update rails.watches as w set due_at = 'infinity' where w.transfer_id = due.transfer_id;
            -- Whoever waits for a person already keeps the first reason: another amount must not turn into mere silence.
            if transfer.review_reason is null then
                -- Watch, intent, transfer: positions of an intent's timeline are given out under its lock.
                perform from payments.payment_intents as i
                where i.payment_intent_id = transfer.payment_intent_id for no key update;
                perform payments.review_transfer(due.transfer_id, overdue);
            end if;
        elsif not rails.can_be_asked(transfer) then
            update rails.watches as w
            set due_at = transfer.submitted_at + make_interval(secs => rules.unanswerable_after_s)
            where w.transfer_id = due.transfer_id;
        else
            return next work || jsonb_strip_nulls(jsonb_build_object('callback_token', rails.ask_later(transfer)));
        end if;
    end loop;
end
$$;
comment on function rails.claim_queries is
'Leases up to max_rows silent transfers for a minute and returns what to ask; those nobody can answer for any more go to review.';

create function rails.apply_query(transfer_id text, event jsonb)
returns text
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
#variable_conflict use_column
declare
    disposition text := rails.apply_event(apply_query.transfer_id, apply_query.event, 'query', true);
begin
    -- What is decided needs no more questions; a failure that a callback contradicts is not decided.
    delete from rails.watches as w
    using payments.transfers as t
    where
        w.transfer_id = apply_query.transfer_id and t.transfer_id = w.transfer_id
        and (
            t.state in ('SETTLED', 'RETURNED')
            or (disposition = 'ignored:already_failed' and w.claimed_receipt is null)
        );
    update rails.watches as w
    set
        -- Only answers to the reconciler count: a merchant who asks, or a rail that is away, must not stretch the waits.
        queries = w.queries + (current_setting('role') = 'fn_reconcile')::integer,
        due_at = case
            -- A callback wants it asked again, since this question left.
            when w.due_at < w.asked_at + interval '60 seconds' then w.due_at
            else now() + make_interval(secs => r.query_waits_s[least(w.queries + 2, cardinality(r.query_waits_s))])
        end,
        code_since = case when w.code is not distinct from apply_query.event ->> 'code' then w.code_since else now() end,
        code = apply_query.event ->> 'code'
    from payments.transfers as t
    inner join rails.rails as r on r.rail = t.rail
    where w.transfer_id = apply_query.transfer_id and t.transfer_id = w.transfer_id;
    return disposition;
end
$$;
comment on function rails.apply_query is 'Applies the answer of a status query and plans the next one along rails.query_waits_s.';

create function rails.poke_reconcile()
returns boolean
language plpgsql
volatile
security definer -- callers may not read watches
set search_path = ''
as $$
begin
    if not exists (select from rails.watches as w where w.due_at <= now()) then
        return false;
    end if;
    -- A poke tells nobody whether it arrived; that questions stay unasked does.
    if exists (select from rails.watches as w where w.due_at <= now() - interval '5 minutes') then
        perform public.raise_alert('reconcile_behind', 'critical', 'reconcile', null, null, (
            select jsonb_build_object('overdue', count(*), 'since', min(w.due_at))
            from rails.watches as w where w.due_at <= now() - interval '5 minutes'
        ));
    end if;
    perform public.poke('reconcile');
    return true;
end
$$;
comment on function rails.poke_reconcile is 'Wakes the reconcile function when a transfer is due to be asked about. A cron task.';

reset role;

-- sql/rails/functions/reviews.sql

-- A person decides what no rail answers.

set role stalela_owner;

create function rails.list_reviews(page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    body text;
begin
    select string_agg(row_to_json(waiting)::text, ',' order by waiting.since) into body
    from (
        select
            t.transfer_id as id, 'transfer' as object, t.purpose, t.payment_intent_id, t.rail, t.state, t.review_reason as reason,
            public.format_amount(t.amount_minor, t.currency) as amount, t.currency,
            public.format_amount(t.told_minor, t.currency) as told_amount, t.payer_masked as payer,
            t.payee_masked as payee, t.rail_ref, t.receipt, t.submitted_at, t.updated_at as since
        from payments.transfers as t
        where
            t.review_reason is not null
            and (
                public.holds_scope(caller.scopes, 'platform:operate')
                or (t.tenant_id = caller.tenant_id and t.environment = caller.environment)
            )
        order by t.updated_at
        limit list_reviews.page_size
    ) as waiting;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function rails.list_reviews is
'Transfers that wait for a person, longest first: a tenant''s own, or all of them for operators (platform:operate).';

create function rails.resolve_review(
    transfer_id text, idempotency_key text, body_hash text, outcome text, receipt text, reason text,
    amount_minor bigint default null, currency text default null
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    subject public.caller := caller;
    route constant text := 'POST /reconcile/reviews/{id}/resolve';
    answer public.answer;
    transfer payments.transfers;
begin
    answer := public.claim_idempotency(
        caller, route, resolve_review.idempotency_key, resolve_review.body_hash || ':' || resolve_review.transfer_id
    );
    if answer.body is not null then
        return answer;
    end if;

    -- Watch, intent, original, transfer: the order of rails.apply_event.
    perform from rails.watches as w where w.transfer_id = resolve_review.transfer_id for update;
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = resolve_review.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = resolve_review.transfer_id
    )
    for no key update;
    select t.* into transfer
    from payments.transfers as t
    where
        t.transfer_id = resolve_review.transfer_id
        and (
            public.holds_scope(caller.scopes, 'platform:operate')
            or (t.tenant_id = caller.tenant_id and t.environment = caller.environment)
        )
    for no key update;
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', resolve_review.transfer_id));
    elsif
        transfer.review_reason is null
        -- A failure whose money stands in the rail's statement, and parked callbacks of a decided transfer.
        and not (resolve_review.outcome = 'settled' and transfer.state = 'FAILED')
        and not (resolve_review.outcome = 'stands' and exists (
            select from public.alerts as a
            where a.subject = resolve_review.transfer_id and a.kind = 'callback_parked' and a.status = 'open'
        ))
    then
        perform public.refuse('40911', 'This transfer does not wait for a decision.', jsonb_build_object(
            'current_state', transfer.state, 'allowed', '[]'::jsonb
        ));
    end if;
    if resolve_review.currency <> transfer.currency then
        perform public.refuse_field('42251', '/currency', format('this transfer is in %s.', transfer.currency));
    end if;
    perform rails.apply_decision(
        transfer, resolve_review.outcome, resolve_review.receipt, resolve_review.amount_minor
    );

    perform payments.annotate_transfer(
        transfer.transfer_id, 'transfer.review_resolved',
        jsonb_build_object('review_reason', null, 'was', transfer.review_reason, 'outcome', resolve_review.outcome)
    );
    insert into rails.callback_dispositions (callback_id, number, tenant_id, environment, disposition, reason)
    select d.callback_id, max(d.number) + 1, c.tenant_id, c.environment, 'resolved', resolve_review.outcome
    from rails.callbacks as c
    inner join rails.callback_dispositions as d on d.callback_id = c.callback_id
    where c.transfer_id = resolve_review.transfer_id
    group by d.callback_id, c.tenant_id, c.environment
    having (array_agg(d.disposition order by d.number desc))[1] in ('parked', 'failed');
    perform public.resolve_alert('transfer_needs_review', transfer.transfer_id, resolve_review.outcome);
    perform public.resolve_alert('callback_parked', transfer.transfer_id, resolve_review.outcome);
    -- Their record, for them to read, whoever decided.
    subject.tenant_id := transfer.tenant_id;
    subject.environment := transfer.environment;
    perform public.audit(subject, 'review.resolve', transfer.transfer_id, jsonb_build_object(
        'was', transfer.review_reason, 'outcome', resolve_review.outcome, 'receipt', resolve_review.receipt,
        'amount_minor', resolve_review.amount_minor, 'reason', resolve_review.reason
    ));

    select t.* into transfer from payments.transfers as t where t.transfer_id = resolve_review.transfer_id;
    answer := row(200, payments.resource_of(transfer, false), caller.rate);
    perform public.remember_answer(
        caller, route, resolve_review.idempotency_key, transfer.transfer_id, answer
    );
    return answer;
end
$$;
comment on function rails.resolve_review is
'A person''s decision on a transfer in review: settled (with the rail''s receipt), failed, or stands (the state is right as it is). Audited with the reason; 40911 when nothing waits.';

create function rails.apply_decision(
    transfer payments.transfers, outcome text, receipt text, amount_minor bigint
)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- What the rail told is what is booked; a statement may say what the rail left out, not something else.
    moved_minor bigint := coalesce(transfer.told_minor, apply_decision.amount_minor);
begin
    if outcome = 'settled' then
        if receipt is null then
            perform public.refuse_field('42262', '/receipt', 'settled needs the receipt of the rail''s statement.');
        elsif rails.receipt_taken(transfer, receipt) then
            perform public.refuse_field('42262', '/receipt', 'this receipt pays for another transfer already.');
        elsif apply_decision.amount_minor <> moved_minor then
            perform public.refuse_field('42262', '/amount', format(
                'the rail told %s; leave amount out, and that is booked.',
                public.format_amount(moved_minor, transfer.currency)
            ));
        elsif moved_minor = 0 then
            perform public.refuse_field('42262', '/outcome', 'the rail told 0.00: nothing moved, so it failed.');
        elsif transfer.review_reason = 'amount_mismatch' and moved_minor is null then
            perform public.refuse_field(
                '42262', '/amount', 'the rail told no amount: give the one of its statement.'
            );
        elsif
            transfer.purpose = 'refund' and moved_minor <> transfer.amount_minor
        then
            perform public.refuse_field('42262', '/amount', format(
                'a refund goes back whole: %s. Ask the rail what became of the rest.',
                public.format_amount(transfer.amount_minor, transfer.currency)
            ));
        elsif transfer.review_reason = 'refunded_twice' then
            perform public.refuse('40911', 'More went back than came in; settle it with the payer, then let it stand.',
                jsonb_build_object('current_state', transfer.state, 'allowed', '["stands"]'::jsonb));
        end if;
        perform rails.settle_transfer(transfer, receipt, 'operator', moved_minor);
    elsif outcome = 'failed' then
        perform rails.fail_transfer(transfer, jsonb_build_object(
            'code', 'RESOLVED_AS_FAILED', 'message', 'A person found that no money moved.',
            'rail_code', null, 'retryable', true, 'retry_after', null
        ), 'operator', null);
    elsif transfer.state in ('INITIATED', 'SUBMITTED', 'ACCEPTED') then
        -- An open transfer left as it is is asked about again.
        perform rails.watch_soon(transfer, null);
    end if;
end
$$;
comment on function rails.apply_decision is
'Moves the transfer as a person decided, with the amount that moved; 40911 when its state does not allow that, 42262 with the way out when the amounts contradict each other.';

reset role;

-- sql/rails/functions/rules.sql

-- What a rail accepts and what its codes mean.

set role stalela_owner;

create function rails.check_amount(rail text, amount_minor bigint, currency text)
returns void
language plpgsql
stable
security definer -- callers may not read rails
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules rails.rails;
    broken text;
begin
    select r.* into rules from rails.rails as r where r.rail = check_amount.rail and r.enabled;
    if not found then
        perform public.refuse('42261', format('%s is not a payment method here.', check_amount.rail), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/payment_method_types',
                'detail', format('must be among: %s', (
                    select string_agg(r.rail, ', ' order by r.rail) from rails.rails as r where r.enabled
                ))
            ))
        ));
    end if;
    if not check_amount.currency = any(rules.currencies) then
        perform public.refuse('42251', format('%s takes %s, not %s.', rules.name,
            array_to_string(rules.currencies, ', '), check_amount.currency), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/currency', 'detail', format('%s takes %s', rules.name, array_to_string(rules.currencies, ', '))
            ))
        ));
    end if;
    broken := case
        when check_amount.amount_minor % rules.step_minor <> 0 then rules.step_rule
        when check_amount.amount_minor not between rules.min_minor and rules.max_minor then format(
            '%s takes %s to %s %s', rules.name,
            public.format_amount(rules.min_minor, check_amount.currency),
            public.format_amount(rules.max_minor, check_amount.currency), check_amount.currency
        )
    end;
    if broken is not null then
        perform public.refuse('42251', broken || '.', jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/amount', 'detail', broken))
        ));
    end if;
end
$$;
comment on function rails.check_amount is 'Refuses (42251, 42261) an amount or currency this rail cannot take; every limit is a column of rails.rails.';

create function rails.check_payout(rail text, amount_minor bigint, currency text)
returns void
language plpgsql
stable
security definer -- callers may not read rails
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules rails.rails;
    broken text;
begin
    select r.* into rules from rails.rails as r
    where r.rail = check_payout.rail and r.enabled and r.payout_min_minor is not null;
    if not found then
        perform public.refuse_field('42261', '/destination/type', format('%s does not pay out here.', check_payout.rail));
    elsif not check_payout.currency = any(rules.currencies) then
        perform public.refuse_field('42251', '/currency', format(
            '%s takes %s, not %s.', rules.name, array_to_string(rules.currencies, ', '), check_payout.currency
        ));
    end if;
    broken := case
        when check_payout.amount_minor % rules.step_minor <> 0 then rules.step_rule
        when check_payout.amount_minor not between rules.payout_min_minor and rules.payout_max_minor then format(
            '%s pays out %s to %s %s', rules.name,
            public.format_amount(rules.payout_min_minor, check_payout.currency),
            public.format_amount(rules.payout_max_minor, check_payout.currency), check_payout.currency
        )
    end;
    if broken is not null then
        perform public.refuse_field('42251', '/amount', broken || '.');
    end if;
end
$$;
comment on function rails.check_payout is 'Refuses (42251, 42261) what this rail cannot pay out; every limit is a column of rails.rails.';

create function rails.check_credentials(tenant_id text, environment text, rail text)
returns void
language plpgsql
stable
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform from rails.credentials as c
    where
        c.tenant_id = check_credentials.tenant_id and c.environment = check_credentials.environment
        and c.rail = check_credentials.rail;
    if not found then
        perform public.refuse('42260', format(
            'No %s credentials for %s yet: put them with PUT /functions/v1/merchants/credentials/%s.',
            check_credentials.rail, check_credentials.environment, check_credentials.rail
        ));
    end if;
end
$$;
comment on function rails.check_credentials is 'Refuses (42260) when the tenant has no credentials of this rail in this environment.';

create function rails.failure_of(rail text, event jsonb)
returns jsonb
language plpgsql
stable
security definer -- callers may not read reason codes
set search_path = ''
as $$
begin
    return (
        select jsonb_build_object(
            -- The rail's module is more precise than the row, unless it did not know the code at all.
            'code', coalesce(
                nullif(failure_of.event ->> 'reason', 'UNKNOWN_RAIL_ERROR'), known.reason, 'UNKNOWN_RAIL_ERROR'
            ),
            'message', coalesce(known.meaning, failure_of.event ->> 'message', 'The rail refused without saying why.'),
            'rail_code', failure_of.event ->> 'code',
            'retryable', coalesce(known.payer_may_retry, failure_of.event ->> 'outcome' = 'failed_retryable'),
            'retry_after', coalesce((failure_of.event ->> 'retry_after_s')::integer, known.retry_after_s)
        )
        from (select) as one
        left join lateral (
            -- A row `code/fragment`, whose fragment the message contains, wins over the bare code.
            select k.*
            from rails.reason_codes as k
            where
                k.rail = failure_of.rail
                and k.channel = coalesce(
                    failure_of.event ->> 'channel',
                    case when failure_of.event ->> 'source' = 'submit' then 'api' else 'stk' end
                )
                and split_part(k.code, '/', 1) = failure_of.event ->> 'code'
                and strpos(lower(coalesce(failure_of.event ->> 'message', '')), split_part(k.code, '/', 2)) > 0
            order by length(k.code) desc
            limit 1
        ) as known on true
    );
end
$$;
comment on function rails.failure_of is
'last_error of an intent from a rail event: {code, message, rail_code, retryable, retry_after}. retryable: the payer may try again.';

reset role;

-- sql/ledger/functions/accounts.sql

-- Accounts: which ones a batch moves, opened when they are first needed.

set role stalela_owner;

create function ledger.lock_chains(bookings ledger.booking[])
returns void
language plpgsql
volatile
security definer -- callers may not write chains
set search_path = ''
as $$
#variable_conflict use_column
declare
    place record;
begin
    for place in
        select distinct split_part(b.kind, '|', 1) as tenant_id, split_part(b.kind, '|', 2) as environment
        from unnest(bookings) as b
        where b.problem is null
        order by 1, 2
    loop
        perform from ledger.chains as c
        where c.tenant_id = place.tenant_id and c.environment = place.environment
        for no key update;
        if not found then
            -- Somebody who begins the same chain at this moment is waited for.
            insert into ledger.chains (tenant_id, environment, head_hash)
            values (place.tenant_id, place.environment, ledger.genesis(place.tenant_id, place.environment))
            on conflict on constraint chains_pkey do nothing;
            perform from ledger.chains as c
            where c.tenant_id = place.tenant_id and c.environment = place.environment
            for no key update;
        end if;
    end loop;
end
$$;
comment on function ledger.lock_chains is
'The first step of every posting: locks the chains of a batch in their order, beginning those that are new. Whoever holds a chain holds its tenant''s balances.';

create function ledger.plan(kinds ledger.kind[])
returns ledger.planned_leg[]
language plpgsql
volatile
security definer -- callers may not open accounts
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    legs ledger.planned_leg[];
begin
    legs := array(
        with sorts as (
            select distinct k.rules_version, k.event_type, k.purpose, k.intent, k.rail, k.fx_currency is not null as is_fx
            from unnest(kinds) as k
        ), ruled as (
            -- One set of legs per sort of event: the named intent, then rail, then purpose before "any".
            select s.purpose as of_purpose, s.intent as of_intent, s.rail as of_rail, r.*
            from sorts as s
            cross join lateral (
                select o.*, rank() over (order by o.intent = '*', o.rail = '*', o.purpose = '*') as place
                from ledger.posting_rules as o
                where
                    o.rules_version = s.rules_version and o.event_type = s.event_type and o.is_fx = s.is_fx
                    and o.intent in (s.intent, '*') and o.rail in (s.rail, '*') and o.purpose in (s.purpose, '*')
            ) as r
            where r.place = 1
        )
        select row(
            k.kind, r.leg_no, r.leg, r.amount, null, c.currency,
            ledger.account_code(r.debit, k.tenant_id, k.rail, c.currency),
            ledger.account_code(r.credit, k.tenant_id, k.rail, c.currency),
            null, null, null
        )::ledger.planned_leg
        from unnest(kinds) as k
        inner join ruled as r
            on r.event_type = k.event_type and r.of_purpose = k.purpose and r.of_intent = k.intent
            and r.of_rail = k.rail and r.is_fx = (k.fx_currency is not null)
        cross join lateral (
            select case when r.amount_currency = 'settlement' then k.fx_currency else k.currency end as currency
        ) as c
    );
    return ledger.find_accounts(kinds, legs);
end
$$;
comment on function ledger.plan is
'The legs of each kind of event in a batch, their accounts found or opened: the rules are read once per kind, not once per event.';

create function ledger.find_accounts(kinds ledger.kind[], legs ledger.planned_leg[])
returns ledger.planned_leg[]
language plpgsql
volatile
security definer -- callers may not open accounts
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
begin
    perform ledger.open_account(w.tenant_id, w.environment, w.code, w.currency)
    from (
        select distinct k.tenant_id, k.environment, a.code, l.currency
        from unnest(legs) as l
        inner join unnest(kinds) as k on k.kind = l.kind
        cross join unnest(array[l.debit_code, l.credit_code]) as a (code)
        where not exists (
            select from ledger.accounts as o
            where
                o.tenant_id = k.tenant_id and o.environment = k.environment
                and o.code = a.code and o.currency = l.currency
        )
        order by k.tenant_id, k.environment, a.code, l.currency
    ) as w;
    return array(
        select row(
            l.kind, l.leg_no, l.leg, l.amount, l.amount_minor, l.currency, l.debit_code, l.credit_code,
            d.account_id, c.account_id, d.class = 'memo'
        )::ledger.planned_leg
        from unnest(legs) as l
        inner join unnest(kinds) as k on k.kind = l.kind
        inner join ledger.accounts as d
            on d.tenant_id = k.tenant_id and d.environment = k.environment
            and d.code = l.debit_code and d.currency = l.currency
        inner join ledger.accounts as c
            on c.tenant_id = k.tenant_id and c.environment = k.environment
            and c.code = l.credit_code and c.currency = l.currency
    );
end
$$;
comment on function ledger.find_accounts is 'The same legs with the ids of their accounts; accounts that do not exist are opened.';

create function ledger.account_code(template text, tenant_id text, rail text, currency text)
returns text
language plpgsql
stable
security definer -- callers may not read tenants
set search_path = ''
as $$
#variable_conflict use_column
begin
    return case split_part(template, ':', 2)
        when '' then template
        when '{rail}' then replace(template, '{rail}', rail)
        when '{tenant}' then replace(template, '{tenant}', account_code.tenant_id)
        when '{currency}' then replace(template, '{currency}', currency)
        when '{jurisdiction}' then replace(template, '{jurisdiction}', coalesce((
            select t.country from public.tenants as t where t.tenant_id = account_code.tenant_id
        ), 'ZZ'))
    end;
end
$$;
comment on function ledger.account_code is
'The code of an account from its template; null for a place holder that does not exist, which fails the batch.';

create function ledger.open_account(tenant_id text, environment text, code text, currency text)
returns void
language plpgsql
volatile
security definer -- callers may not write accounts
set search_path = ''
as $$
#variable_conflict use_column
begin
    with opened as (
        insert into ledger.accounts (
            tenant_id, environment, code, currency, name, type, class, normal_side, when_negative
        )
        select
            open_account.tenant_id, open_account.environment, open_account.code, open_account.currency,
            c.name, c.type, c.class, c.normal_side, c.when_negative
        from ledger.chart as c
        where c.name = split_part(open_account.code, ':', 1)
        returning account_id, normal_side, when_negative
    )
    insert into ledger.balances (account_id, floor)
    select
        o.account_id,
        case when o.when_negative <> 'block' then 0 when o.normal_side = 'debit' then 1 else -1 end
    from opened as o;
    if not found then
        raise exception 'the chart has no account %', code using errcode = 'check_violation';
    end if;
end
$$;
comment on function ledger.open_account is
'Opens an account with a balance of zero, as the chart describes it. Under the lock of its chain, so nobody else opens it meanwhile.';

reset role;

-- sql/ledger/functions/arithmetic.sql

-- Exact arithmetic in minor units, and the links of the chain.

set role stalela_owner;

create function ledger.half_even(amount_minor bigint, numerator bigint, denominator bigint)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
declare
    product numeric := amount_minor::numeric * numerator;
    whole numeric := div(product, denominator);
    twice_rest numeric := 2 * (product - whole * denominator);
begin
    -- Half to even, because fees are summed by the day and half-up drifts in our favour.
    if twice_rest > denominator or (twice_rest = denominator and whole % 2 = 1) then
        whole := whole + 1;
    end if;
    return whole::bigint;
end
$$;
comment on function ledger.half_even is 'amount × numerator / denominator in whole minor units, half to even. Nothing negative goes in.';

create function ledger.minor(amount text, scale smallint)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
    if amount ~ '^[0-9]{1,15}(\.[0-9]{1,18})?$' and length(split_part(amount, '.', 2)) = scale then
        return replace(amount, '.', '')::bigint;
    end if;
    return null;
end
$$;
comment on function ledger.minor is 'The minor units of a decimal string with exactly the currency''s decimals; null for any other text.';

create function ledger.genesis(tenant_id text, environment text)
returns bytea
language plpgsql
immutable
set search_path = ''
as $$
begin
    return sha256(convert_to(concat_ws(E'\n', 'stalela.ledger.v1', tenant_id, environment), 'utf8'));
end
$$;
comment on function ledger.genesis is 'What the first journal of a chain is linked to: no two chains begin alike.';

create function ledger.link(previous bytea, content text)
returns bytea
language plpgsql
immutable
set search_path = ''
as $$
begin
    return sha256(previous || convert_to(content, 'utf8'));
end
$$;
comment on function ledger.link is 'The hash of a journal: SHA-256 of the hash before it and of its own content.';

create function ledger.link_all(heads bytea[], contents text[])
returns table (line bigint, hash bytea)
language plpgsql
immutable
set search_path = ''
as $$
#variable_conflict use_column
declare
    one record;
    head bytea;
begin
    for one in
        select c.head, c.content, c.ordinality
        from unnest(heads, contents) with ordinality as c (head, content, ordinality)
    loop
        -- Another head: the next chain begins. No two chains have the same.
        if head is distinct from one.head then
            head := one.head;
            hash := one.head;
        end if;
        -- As ledger.link, without the call.
        hash := sha256(hash || convert_to(one.content, 'utf8'));
        line := one.ordinality;
        return next;
    end loop;
end
$$;
comment on function ledger.link_all is
'The hashes of a batch, one chain after the other, each in its order; heads holds for every content the head that its chain had before the batch.';

create function ledger.journal_content(journal ledger.journals, lines text)
returns text
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
begin
    -- Nothing here can hold a line break, so no two journals have the same content.
    return concat_ws(
        E'\n', 'stalela.journal.v1', journal.tenant_id, journal.environment, journal.event_type, journal.period_id,
        journal.rules_version, journal.memo, journal.number, journal.journal_id, journal.journal_key,
        coalesce(journal.event_id, ''), coalesce(journal.transfer_id, ''), journal.occurred_at, journal.posted_at,
        coalesce(journal.related_journal_id, ''), journal.is_memo::text, lines
    );
end
$$;
comment on function ledger.journal_content is
'What a journal''s hash covers: every column but the internal number and the hash itself, then a line per entry. ledger.write and scripts/verify-ledger build the same text.';

reset role;

-- sql/ledger/functions/booking.sql

-- The consumer of the outbox: take events, book them, in one transaction; and bookings that nobody sent as an event.

set role stalela_owner;

create function ledger.book(max_rows integer)
returns integer
language plpgsql
volatile
security definer -- callers may not take events
set search_path = ''
as $$
#variable_conflict use_column
declare
    batch payments.delivery[] := array(select d from payments.take_events('ledger', max_rows) as d);
    refused ledger.booking;
    held bigint[] := '{}'::bigint[];
begin
    for refused in select r.* from unnest(ledger.book_events(batch)) as r order by r.outbox_id loop
        -- What waits behind a failed event of its transfer comes again after it; booked twice is booked once.
        if not refused.outbox_id = any(held) then
            held := held || payments.fail_event('ledger', refused.outbox_id, refused.problem, refused.is_final);
        end if;
    end loop;
    return cardinality(batch);
end
$$;
comment on function ledger.book is
'Takes up to so many transfer events and books them set-based, all in this transaction; returns how many were taken. An event that cannot be booked is failed alone.';

create function ledger.book_events(batch payments.delivery[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
begin
    return ledger.post(ledger.read_events(batch));
exception when data_exception or integrity_constraint_violation then
    -- Somebody in the batch spoils it, or comes a second time. One by one, each stands for itself.
    return ledger.post_each(ledger.read_each(batch));
end
$$;
comment on function ledger.book_events is
'Books deliveries in the order given and returns those that could not be, each with its problem. Duplicates have no effect.';

create function ledger.read_each(batch payments.delivery[])
returns ledger.booking[]
language plpgsql
stable
security definer -- callers may not read currencies
set search_path = ''
as $$
#variable_conflict use_column
declare
    delivery payments.delivery;
    read ledger.booking[];
    unread ledger.booking;
    bookings ledger.booking[] := '{}'::ledger.booking[];
begin
    foreach delivery in array batch loop
        begin
            read := ledger.read_events(array[delivery]);
        exception when data_exception or integrity_constraint_violation then
            unread.outbox_id := delivery.outbox_id;
            unread.problem := sqlerrm;
            unread.is_final := true;
            read := array[unread];
        end;
        if cardinality(read) > 0 then
            read[1].position := cardinality(bookings) + 1;
            bookings := bookings || read;
        end if;
    end loop;
    return bookings;
end
$$;
comment on function ledger.read_each is 'Reads deliveries one by one; what cannot be read has a problem.';

create function ledger.post_each(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    one ledger.booking;
    refused ledger.booking[] := '{}'::ledger.booking[];
begin
    -- As in a batch: what is undone is booked before what undoes it.
    for one in select b.* from unnest(bookings) as b order by b.wave, b.position loop
        perform ledger.lock_chains(array[one]);
        continue when exists (select from ledger.journals as j where j.journal_key = one.journal_key);
        begin
            refused := refused || ledger.post(array[one]);
        exception when data_exception or integrity_constraint_violation then
            one.problem := sqlerrm;
            -- A floor is there until money comes in; anything else stays wrong.
            one.is_final := sqlstate <> '23514' or sqlerrm not like '%balances_floor%';
            refused := refused || one;
        end;
    end loop;
    return refused;
end
$$;
comment on function ledger.post_each is
'Books one by one, each for itself; returns those that failed. What is booked already has no effect.';

create function ledger.book_fact(
    tenant_id text, environment text, event_type text, key text, purpose text, rail text, currency text,
    gross_minor bigint, fee_minor bigint, occurred_at timestamptz, transfer_id text, memo text
)
returns text
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    one ledger.booking;
    refused ledger.booking[];
begin
    one.kind := concat_ws(
        '|', tenant_id, environment, event_type, purpose, '*', rail, currency, '',
        to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD')
    );
    perform ledger.lock_chains(array[one]);
    one.journal_key := concat_ws(':', event_type, tenant_id, environment, rail, key);
    select j.journal_id into one.journal_id from ledger.journals as j where j.journal_key = one.journal_key;
    if found then
        return one.journal_id;
    end if;
    one.journal_id := public.new_id('jrnl');
    one.wave := 2;
    one.position := 1;
    one.transfer_id := transfer_id;
    one.occurred_at := occurred_at;
    one.gross_minor := gross_minor;
    one.fee_minor := fee_minor;
    one.tax_minor := 0;
    one.surcharge_minor := 0;
    one.reserve_minor := 0;
    one.memo := memo;
    refused := ledger.post(array[one]);
    if cardinality(refused) > 0 then
        raise exception '%', refused[1].problem using errcode = 'check_violation';
    end if;
    return one.journal_id;
end
$$;
comment on function ledger.book_fact is
'Books one fact that is no event of a transfer, by the rules of its type; once per type, tenant, rail and key. The journal''s id, of the first time when it was booked before.';

create function ledger.clear_settlement(
    tenant_id text, environment text, rail text, currency text, amount_minor bigint, fee_minor bigint,
    reference text, occurred_at timestamptz
)
returns text
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
begin
    return ledger.book_fact(
        tenant_id, environment, 'settlement.cleared', reference, case when amount_minor < 0 then 'out' else 'in' end,
        rail, currency, abs(amount_minor), coalesce(fee_minor, 0), occurred_at, null,
        left(regexp_replace('statement ' || reference, '[[:cntrl:]]', ' ', 'g'), 200)
    );
end
$$;
comment on function ledger.clear_settlement is
'Books that a statement showed what a rail owed us (amount above zero, fee withheld from it) or we owed it (below zero, fee on top): SETTLEMENT against LIQUIDITY. Idempotent by reference; the journal''s id.';

create function ledger.release_reserves()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    due ledger.reserves;
    released integer := 0;
begin
    for due in
        select r.* from ledger.reserves as r
        where r.released_at is null and r.due_at <= now()
        order by r.tenant_id, r.environment, r.journal_no
        limit 500
        for update skip locked
    loop
        perform ledger.book_fact(
            due.tenant_id, due.environment, 'reserve.released', due.journal_no::text, 'reserve', due.rail, due.currency,
            due.amount_minor, 0, due.due_at, null, ''
        );
        update ledger.reserves as r set released_at = now() where r.journal_no = due.journal_no;
        released := released + 1;
    end loop;
    return released;
end
$$;
comment on function ledger.release_reserves is 'Gives up to 500 held-back shares whose time is over to their merchants. A cron task.';

create function ledger.expire_holds()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    due ledger.holds;
    expired integer := 0;
begin
    for due in
        select h.* from ledger.holds as h
        where h.released_at is null and h.expires_at <= now()
        order by h.tenant_id, h.environment, h.transfer_id
        limit 500
    loop
        perform ledger.book_fact(
            due.tenant_id, due.environment, 'hold.expired', due.transfer_id, 'hold', due.rail, due.currency,
            due.amount_minor, 0, due.expires_at, due.transfer_id, ''
        );
        expired := expired + 1;
    end loop;
    return expired;
end
$$;
comment on function ledger.expire_holds is 'Releases up to 500 authorisations that were never captured in their time. A cron task.';

reset role;

-- sql/ledger/functions/checks.sql

-- Proof that the books are what was booked: chain, balances, trial balance.

set role stalela_owner;

create function ledger.journal_lines(journal_no bigint)
returns text
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
as $$
begin
    return (
        select string_agg(
            concat_ws(E'\t', e.leg_no, e.leg, d.code, c.code, e.currency, e.amount_minor), E'\n' order by e.leg_no
        )
        from ledger.journal_entries as e
        left join ledger.accounts as d on d.account_id = e.debit_account_id
        left join ledger.accounts as c on c.account_id = e.credit_account_id
        where e.journal_no = journal_lines.journal_no
    );
end
$$;
comment on function ledger.journal_lines is 'The entries of a journal as its hash covers them.';

create function ledger.verify_chain(tenant_id text, environment text, first_number bigint, last_number bigint)
returns jsonb
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    head record;
    first_hash bytea;
    checked bigint;
    wrong record;
begin
    select c.head_number, c.head_hash into head
    from ledger.chains as c
    where c.tenant_id = verify_chain.tenant_id and c.environment = verify_chain.environment;
    if not found then
        return jsonb_build_object('verified', 0, 'bad', null);
    end if;
    last_number := least(last_number, head.head_number);
    if first_number = 1 then
        first_hash := ledger.genesis(tenant_id, environment);
    else
        select j.hash into first_hash
        from ledger.journals as j
        where
            j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
            and j.number = first_number - 1;
    end if;

    -- Each is compared with the hash that stands before it, so the first that is wrong is the one that was touched.
    select j.number, j.journal_id, j.hash, case
        when j.number <> j.previous_number + 1 then format('number %s is missing before it', j.previous_number + 1)
        else 'its hash is not that of its content'
    end as reason
    into wrong
    from (
        select
            j.number, j.journal_id, j.hash, j as journal,
            lag(j.number, 1, first_number - 1) over (order by j.number) as previous_number,
            lag(j.hash, 1, first_hash) over (order by j.number) as previous_hash
        from ledger.journals as j
        where
            j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
            and j.number between first_number and last_number
    ) as j
    where
        j.number <> j.previous_number + 1
        or j.hash is distinct from ledger.link(
            j.previous_hash,
            ledger.journal_content(j.journal, coalesce(ledger.journal_lines((j.journal).journal_no), ''))
        )
    order by j.number
    limit 1;
    if found then
        return jsonb_build_object('verified', wrong.number - first_number, 'bad', jsonb_build_object(
            'number', wrong.number, 'journal_id', wrong.journal_id, 'reason', wrong.reason
        ));
    end if;

    select max(j.number) into checked
    from ledger.journals as j
    where
        j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
        and j.number between first_number and last_number;
    checked := coalesce(checked, first_number - 1);
    if checked < last_number then
        return jsonb_build_object('verified', checked - first_number + 1, 'bad', jsonb_build_object(
            'number', checked + 1, 'journal_id', null, 'reason', format('number %s is missing', checked + 1)
        ));
    elsif last_number = head.head_number and last_number >= first_number and not exists (
        select from ledger.journals as j
        where
            j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
            and j.number = last_number and j.hash = head.head_hash
    ) then
        return jsonb_build_object('verified', checked - first_number, 'bad', jsonb_build_object(
            'number', last_number, 'journal_id', null, 'reason', 'the head of the chain is another'
        ));
    end if;
    return jsonb_build_object('verified', checked - first_number + 1, 'bad', null);
end
$$;
comment on function ledger.verify_chain is
'Computes the hash of every journal again: {verified, bad: null or {number, journal_id, reason}}, bad being the first that is missing or is not what was booked.';

create function ledger.check_chains()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    due record;
    result jsonb;
    last_number bigint;
    checked integer := 0;
begin
    for due in
        select c.tenant_id, c.environment, c.head_number, coalesce(k.number, 0) as done
        from ledger.chains as c
        left join ledger.chain_checks as k on k.tenant_id = c.tenant_id and k.environment = c.environment
        where c.head_number > coalesce(k.number, 0)
        order by k.checked_at nulls first, c.tenant_id, c.environment
        limit 100
    loop
        last_number := least(due.head_number, due.done + 2000);
        result := ledger.verify_chain(due.tenant_id, due.environment, due.done + 1, last_number);
        if jsonb_typeof(result -> 'bad') = 'object' then
            perform public.raise_alert(
                'ledger_chain_broken', 'critical', concat_ws(':', due.tenant_id, due.environment),
                due.tenant_id, due.environment, result
            );
            -- Stays where it is: the alert stays open until the chain verifies.
            last_number := due.done;
        end if;
        insert into ledger.chain_checks as k (tenant_id, environment, number)
        values (due.tenant_id, due.environment, last_number)
        on conflict on constraint chain_checks_pkey do update
        set number = excluded.number, checked_at = clock_timestamp();
        checked := checked + 1;
        exit when checked * 2000 >= 10000;
    end loop;
    return checked;
end
$$;
comment on function ledger.check_chains is 'Verifies what was added to each chain since the last time, some thousand journals a run; a broken one is an alert. A cron task.';

create function ledger.check_balances()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not read entries
set search_path = ''
as $$
#variable_conflict use_column
declare
    one record;
    checked integer := 0;
begin
    for one in
        -- Balances, checkpoints and entries as one snapshot shows them: they were committed together.
        select
            a.account_id, a.tenant_id, a.environment, a.code, a.currency, b.balance_minor,
            coalesce(k.balance_minor, 0) + s.added as summed, coalesce(s.journal_no, k.journal_no, 0) as journal_no
        from ledger.balances as b
        inner join ledger.accounts as a on a.account_id = b.account_id
        left join ledger.balance_checks as k on k.account_id = b.account_id
        cross join lateral (
            select coalesce(sum(e.minor), 0)::bigint as added, max(e.journal_no) as journal_no
            from (
                select d.amount_minor as minor, d.journal_no
                from ledger.journal_entries as d
                where d.debit_account_id = b.account_id and d.journal_no > coalesce(k.journal_no, 0)
                union all
                select -c.amount_minor, c.journal_no
                from ledger.journal_entries as c
                where c.credit_account_id = b.account_id and c.journal_no > coalesce(k.journal_no, 0)
            ) as e
        ) as s
        where k.account_id is null or b.as_of >= k.checked_at or b.balance_minor <> k.balance_minor
        order by k.checked_at nulls first
        limit 500
    loop
        checked := checked + 1;
        if one.summed <> one.balance_minor then
            perform public.raise_alert(
                'ledger_balance_drift', 'critical',
                concat_ws(':', one.tenant_id, one.environment, one.code, one.currency), one.tenant_id, one.environment,
                jsonb_build_object('balance_minor', one.balance_minor, 'entries_minor', one.summed)
            );
            continue;
        end if;
        insert into ledger.balance_checks as k (account_id, journal_no, balance_minor, checked_at)
        values (one.account_id, one.journal_no, one.summed, clock_timestamp())
        on conflict on constraint balance_checks_pkey do update
        set journal_no = excluded.journal_no, balance_minor = excluded.balance_minor, checked_at = excluded.checked_at;
    end loop;
    return checked;
end
$$;
comment on function ledger.check_balances is
'Adds up the entries of accounts that moved since they were last checked, and compares with their balances; drift is an alert. A cron task.';

create function ledger.trial_balance(tenant_id text, environment text)
returns table (currency text, is_memo boolean, debit_minor bigint, credit_minor bigint)
language plpgsql
stable
security definer -- callers may not read balances
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select
        a.currency, a.class = 'memo',
        coalesce(sum(b.balance_minor) filter (where b.balance_minor > 0), 0)::bigint,
        coalesce(-sum(b.balance_minor) filter (where b.balance_minor < 0), 0)::bigint
    from ledger.accounts as a
    inner join ledger.balances as b on b.account_id = a.account_id
    where a.tenant_id = trial_balance.tenant_id and a.environment = trial_balance.environment
    group by a.currency, a.class = 'memo'
    order by 1, 2;
end
$$;
comment on function ledger.trial_balance is 'Debits and credits of a tenant''s books by currency, memo accounts apart. They are equal, or something is wrong.';

create function ledger.check_trial_balances()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not read balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    uneven record;
    found_uneven integer := 0;
begin
    for uneven in
        select a.tenant_id, a.environment, a.currency, sum(b.balance_minor)::bigint as difference
        from ledger.accounts as a
        inner join ledger.balances as b on b.account_id = a.account_id
        group by a.tenant_id, a.environment, a.currency, a.class = 'memo'
        having sum(b.balance_minor) <> 0
    loop
        perform public.raise_alert(
            'ledger_out_of_balance', 'critical', concat_ws(':', uneven.tenant_id, uneven.environment, uneven.currency),
            uneven.tenant_id, uneven.environment, jsonb_build_object('difference_minor', uneven.difference)
        );
        found_uneven := found_uneven + 1;
    end loop;
    return found_uneven;
end
$$;
comment on function ledger.check_trial_balances is
'Debits equal credits in each tenant''s books and currency, memo accounts apart; anything else is an alert. A cron task.';

reset role;

-- sql/ledger/functions/manual.sql

-- Adjustments by hand: written by one person, posted by another.

set role stalela_owner;

create function ledger.person(bucket text)
returns public.caller
language plpgsql
volatile
security definer -- functions may not read memberships
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('ledger:adjust', bucket);
begin
    if caller.user_id is null then
        perform public.refuse('40312', 'A person adjusts the books, not a key.');
    end if;
    return caller;
end
$$;
comment on function ledger.person is 'The signed-in person who may adjust the books (ledger:adjust); keys may not, whatever their scopes.';

create function ledger.manual_journal_resource(manual ledger.manual_journals)
returns json
language plpgsql
stable
security definer -- callers may not read currencies
set search_path = ''
as $$
#variable_conflict use_column
begin
    return json_build_object(
        'id', manual.manual_journal_id,
        'object', 'manual_journal',
        'status', manual.status,
        'memo', manual.memo,
        'occurred_at', manual.occurred_at,
        'lines', (
            select json_agg(json_build_object(
                'account', l.account, 'side', l.side, 'amount', public.format_amount(l.amount_minor, l.currency),
                'currency', l.currency
            ))
            from jsonb_to_recordset(manual.lines) as l (account text, side text, amount_minor bigint, currency text)
        ),
        'created_by', manual.created_by,
        'decided_by', manual.decided_by,
        'reason', manual.decision_reason,
        'journal_id', manual.journal_id,
        'created_at', manual.created_at,
        'decided_at', manual.decided_at
    );
end
$$;
comment on function ledger.manual_journal_resource is 'The wire shape of a manual journal.';

create function ledger.check_lines(caller public.caller, lines jsonb)
returns void
language plpgsql
stable
security definer -- callers may not read accounts
set search_path = ''
as $$
#variable_conflict use_column
declare
    wrong record;
begin
    select l.account, l.ordinality into wrong
    from rows from (jsonb_to_recordset(lines) as (account text, currency text)) with ordinality as l
    left join ledger.chart as c on c.name = split_part(l.account, ':', 1)
    where
        c.name is null or c.class = 'memo'
        or l.account !~ '^[A-Z_]+(:[A-Za-z0-9_.-]+)?$'
        -- A tenant's own accounts are opened by what happens to it, not by hand.
        or (c.name in ('MERCHANT', 'RESERVE') and not exists (
            select from ledger.accounts as a
            where
                a.tenant_id = caller.tenant_id and a.environment = caller.environment
                and a.code = l.account and a.currency = l.currency
        ))
    limit 1;
    if found then
        perform public.refuse_field(
            '42262', format('/lines/%s/account', wrong.ordinality - 1), format('there is no account %s to adjust.', wrong.account)
        );
    end if;
    select
        l.currency,
        sum(case l.side when 'debit' then l.amount_minor else 0 end)::bigint as debits,
        sum(case l.side when 'credit' then l.amount_minor else 0 end)::bigint as credits
    into wrong
    from jsonb_to_recordset(lines) as l (side text, amount_minor bigint, currency text)
    group by l.currency
    having sum(case l.side when 'debit' then l.amount_minor else -l.amount_minor end) <> 0
    order by l.currency
    limit 1;
    if found then
        perform public.refuse('42280', format(
            'Debits and credits in %s differ by %s: debits %s, credits %s.', wrong.currency,
            public.format_amount(abs(wrong.debits - wrong.credits), wrong.currency),
            public.format_amount(wrong.debits, wrong.currency), public.format_amount(wrong.credits, wrong.currency)
        ), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/lines', 'detail', format(
                '%s: debits exceed credits by %s', wrong.currency,
                public.format_amount(wrong.debits - wrong.credits, wrong.currency)
            ))),
            'currency', wrong.currency,
            'difference', public.format_amount(wrong.debits - wrong.credits, wrong.currency)
        ));
    end if;
end
$$;
comment on function ledger.check_lines is
'Refuses accounts that cannot be adjusted (42262), and lines whose debits and credits differ in a currency (42280, naming both).';

create function ledger.create_manual_journal(
    idempotency_key text, body_hash text, memo text, occurred_at timestamptz, lines jsonb
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write manual journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := ledger.person('write');
    route constant text := 'POST /ledger/manual-journals';
    answer public.answer;
    manual ledger.manual_journals;
begin
    answer := public.claim_idempotency(caller, route, create_manual_journal.idempotency_key, create_manual_journal.body_hash);
    if answer.body is not null then
        return answer;
    end if;
    if create_manual_journal.occurred_at > clock_timestamp() then
        perform public.refuse_field('42262', '/occurred_at', 'an instant that is past');
    end if;
    perform ledger.check_lines(caller, create_manual_journal.lines);
    insert into ledger.manual_journals (
        manual_journal_id, tenant_id, environment, memo, occurred_at, lines, created_by
    ) values (
        public.new_id('mj'), caller.tenant_id, caller.environment, create_manual_journal.memo,
        coalesce(create_manual_journal.occurred_at, now()), create_manual_journal.lines, caller.actor
    )
    returning * into manual;
    perform public.audit(caller, 'manual_journal.create', manual.manual_journal_id, jsonb_build_object('memo', manual.memo));
    answer := public.reply(caller, 201, ledger.manual_journal_resource(manual));
    perform public.remember_answer(
        caller, route, create_manual_journal.idempotency_key, manual.manual_journal_id, answer
    );
    return answer;
end
$$;
comment on function ledger.create_manual_journal is
'Writes an adjustment that another person must approve. 42280 when it does not balance in some currency. lines: [{account, side, amount_minor, currency}].';

create function ledger.list_manual_journals(filters jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read manual journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(ledger.manual_journal_resource(m)::text, ',' order by m.created_at desc, m.manual_journal_id desc) into body
    from (
        select m.*
        from ledger.manual_journals as m
        where
            m.tenant_id = caller.tenant_id and m.environment = caller.environment
            and (not filters ? 'status' or m.status = filters ->> 'status')
        order by m.created_at desc, m.manual_journal_id desc
        limit 100
    ) as m;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_manual_journals is 'The newest hundred adjustments, optionally of one status.';

create function ledger.decide_manual_journal(
    manual_journal_id text, idempotency_key text, body_hash text, decision text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := ledger.person('write');
    route constant text := format('POST /ledger/manual-journals/{id}/%s', decision);
    answer public.answer;
    manual ledger.manual_journals;
    posted_id text;
begin
    answer := public.claim_idempotency(
        caller, route, decide_manual_journal.idempotency_key,
        decide_manual_journal.body_hash || ':' || decide_manual_journal.manual_journal_id
    );
    if answer.body is not null then
        return answer;
    end if;
    select m.* into manual
    from ledger.manual_journals as m
    where
        m.manual_journal_id = decide_manual_journal.manual_journal_id
        and m.tenant_id = caller.tenant_id and m.environment = caller.environment
    for no key update;
    if not found then
        perform public.refuse('40401', format('There is no manual journal %s here.', decide_manual_journal.manual_journal_id));
    elsif manual.status <> 'pending' then
        perform public.refuse('40911', format('This manual journal is %s.', manual.status), jsonb_build_object(
            'current_state', manual.status, 'allowed', '[]'::jsonb
        ));
    elsif manual.created_by = caller.actor then
        perform public.refuse('40312', 'Another person than the one who wrote it decides on a manual journal.');
    end if;
    if decision = 'approve' then
        posted_id := ledger.post_lines(
            manual.tenant_id, manual.environment, 'journal.adjusted', manual.manual_journal_id, manual.occurred_at,
            manual.memo, manual.lines, null
        );
    end if;
    update ledger.manual_journals as m
    set
        status = case decision when 'approve' then 'posted' else 'rejected' end,
        decided_by = caller.actor, decided_at = now(), decision_reason = decide_manual_journal.reason,
        journal_id = posted_id
    where m.manual_journal_id = decide_manual_journal.manual_journal_id
    returning m.* into manual;
    perform public.audit(caller, 'manual_journal.' || decision, manual.manual_journal_id, jsonb_build_object(
        'reason', decide_manual_journal.reason, 'journal_id', posted_id
    ));
    answer := public.reply(caller, 200, ledger.manual_journal_resource(manual));
    perform public.remember_answer(
        caller, route, decide_manual_journal.idempotency_key, manual.manual_journal_id, answer
    );
    return answer;
end
$$;
comment on function ledger.decide_manual_journal is
'Another person posts an adjustment (approve) or ends it (reject); 40312 for the one who wrote it. Audited with the reason.';

create function ledger.post_lines(
    tenant_id text, environment text, event_type text, key text, occurred_at timestamptz, memo text, lines jsonb,
    into_period text
)
returns text
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    one ledger.booking;
    kinds ledger.kind[];
    legs ledger.planned_leg[];
begin
    one.kind := concat_ws(
        '|', tenant_id, environment, event_type, 'adjustment', '*', '*', '*', '',
        to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD')
    );
    perform ledger.lock_chains(array[one]);
    one.wave := 2;
    one.position := 1;
    one.journal_id := public.new_id('jrnl');
    one.journal_key := concat_ws(':', event_type, tenant_id, environment, key);
    one.occurred_at := occurred_at;
    one.fee_minor := 0;
    one.tax_minor := 0;
    one.reserve_minor := 0;
    one.memo := '';
    kinds := ledger.kinds(array[one]);
    one.memo := concat_ws('; ', memo, nullif(kinds[1].memo, ''));
    kinds[1].memo := '';
    kinds[1].period_id := coalesce(into_period, kinds[1].period_id);
    legs := array(
        -- Debits and credits laid end to end: where they overlap they are a pair.
        with laid as (
            select l.*, sum(l.amount_minor) over (partition by l.currency, l.side order by l.ordinality) as until_minor
            from rows from (
                jsonb_to_recordset(lines) as (account text, side text, amount_minor bigint, currency text)
            ) with ordinality as l
        )
        select row(
            one.kind, row_number() over (order by d.currency, d.until_minor, c.until_minor), 'adjustment', null,
            least(d.until_minor, c.until_minor)
            - greatest(d.until_minor - d.amount_minor, c.until_minor - c.amount_minor),
            d.currency, d.account, c.account, null, null, null
        )::ledger.planned_leg
        from laid as d
        inner join laid as c
            on c.currency = d.currency and c.side = 'credit'
            and c.until_minor - c.amount_minor < d.until_minor and d.until_minor - d.amount_minor < c.until_minor
        where d.side = 'debit' and d.account <> c.account
    );
    perform ledger.write(array[one], kinds, ledger.find_accounts(kinds, legs));
    return one.journal_id;
end
$$;
comment on function ledger.post_lines is
'Posts balanced lines [{account, side, amount_minor, currency}] as one journal of pairs; once per type and key. What is debited and credited to the same account falls away. into_period: not the one of the day.';

reset role;

-- sql/ledger/functions/periods.sql

-- Months: open, closing, closed.

set role stalela_owner;

create function ledger.period_resource(period ledger.periods)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', period.period_id, 'object', 'period', 'status', period.status, 'changed_by', period.changed_by,
        'changed_at', period.changed_at, 'snapshot', period.snapshot
    );
end
$$;
comment on function ledger.period_resource is 'The wire shape of a period.';

create function ledger.list_periods()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read periods
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(ledger.period_resource(p)::text, ',' order by p.period_id desc) into body
    from ledger.periods as p
    where p.tenant_id = caller.tenant_id and p.environment = caller.environment;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_periods is 'The caller''s periods that are or were not simply open, newest first.';

create function ledger.move_period(period_id text, idempotency_key text, body_hash text, status text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write periods
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := ledger.person('write');
    route constant text := 'POST /ledger/periods/{id}';
    answer public.answer;
    place ledger.booking;
    was text;
    period ledger.periods;
begin
    answer := public.claim_idempotency(
        caller, route, move_period.idempotency_key, move_period.body_hash || ':' || move_period.period_id
    );
    if answer.body is not null then
        return answer;
    end if;
    if (move_period.period_id || '-01')::date + interval '1 month' > now() at time zone 'UTC' then
        perform public.refuse_field('42262', '/period', 'a month (UTC) that is over');
    end if;
    -- Whoever posts waits, and then finds the period as it is left here.
    place.kind := concat_ws('|', caller.tenant_id, caller.environment);
    perform ledger.lock_chains(array[place]);
    was := coalesce((
        select p.status from ledger.periods as p
        where
            p.tenant_id = caller.tenant_id and p.environment = caller.environment
            and p.period_id = move_period.period_id
    ), 'open');
    if (was, move_period.status) not in (('open', 'closing'), ('closing', 'open'), ('closing', 'closed')) then
        perform public.refuse('40911', format('A period that is %s does not become %s.', was, move_period.status), jsonb_build_object(
            'current_state', was,
            'allowed', case was when 'open' then '["closing"]'::jsonb when 'closing' then '["open","closed"]' else '[]' end
        ));
    end if;
    insert into ledger.periods as p (tenant_id, environment, period_id, status, changed_by, snapshot)
    values (
        caller.tenant_id, caller.environment, move_period.period_id, move_period.status, caller.actor,
        case when move_period.status = 'closed' then
            ledger.close_books(caller.tenant_id, caller.environment, move_period.period_id)
        end
    )
    on conflict on constraint periods_pkey do update
    set status = excluded.status, changed_by = excluded.changed_by, changed_at = now(), snapshot = excluded.snapshot
    returning * into period;
    perform public.audit(caller, 'period.' || move_period.status, move_period.period_id, '{}');
    answer := public.reply(caller, 200, ledger.period_resource(period));
    perform public.remember_answer(caller, route, move_period.idempotency_key, move_period.period_id, answer);
    return answer;
end
$$;
comment on function ledger.move_period is
'open to closing (nothing new goes in), back, or on to closed: closing entries are booked and the balances kept. 40911 for any other move.';

create function ledger.close_books(tenant_id text, environment text, period_id text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    uneven text;
    lines jsonb;
    ended_at timestamptz := ((close_books.period_id || '-01')::timestamp + interval '1 month' - interval '1 microsecond') at time zone 'UTC';
begin
    select t.currency into uneven
    from ledger.trial_balance(close_books.tenant_id, close_books.environment) as t
    where t.debit_minor <> t.credit_minor
    limit 1;
    if found then
        perform public.refuse('40911', format('The books are out of balance in %s; nothing is closed on them.', uneven),
            '{"current_state": "closing", "allowed": ["open"]}');
    end if;
    -- Each account of revenue and expense to zero; what that comes to is net income, and goes into retained earnings.
    with results as (
        select a.code, a.currency, sum(case when e.debit_account_id = a.account_id then e.amount_minor else -e.amount_minor end) as minor
        from ledger.journals as j
        inner join ledger.journal_entries as e on e.journal_no = j.journal_no
        inner join ledger.accounts as a on a.account_id in (e.debit_account_id, e.credit_account_id)
        where
            j.tenant_id = close_books.tenant_id and j.environment = close_books.environment
            and j.period_id = close_books.period_id and a.class in ('revenue', 'expense')
        group by a.code, a.currency
        having sum(case when e.debit_account_id = a.account_id then e.amount_minor else -e.amount_minor end) <> 0
    ), sides as (
        select r.currency, r.code as account, case when r.minor > 0 then 'credit' else 'debit' end as side, abs(r.minor) as amount_minor
        from results as r
        union all
        select r.currency, 'RETAINED_EARNINGS', case when sum(r.minor) > 0 then 'debit' else 'credit' end, abs(sum(r.minor))
        from results as r
        group by r.currency
        having sum(r.minor) <> 0
    )
    select jsonb_agg(to_jsonb(s) order by s.currency, s.account) into lines from sides as s;
    if lines is not null then
        perform ledger.post_lines(
            close_books.tenant_id, close_books.environment, 'period.closed', close_books.period_id, ended_at,
            'closing entries of ' || close_books.period_id, lines, close_books.period_id
        );
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'account', s.code, 'currency', s.currency, 'balance', public.format_amount(s.minor::bigint, s.currency)
        ) order by s.currency, s.number, s.code), '[]')
        from (
            select a.code, a.currency, c.number, sum(
                case when e.debit_account_id = a.account_id then e.amount_minor else -e.amount_minor end
            ) * case a.normal_side when 'debit' then 1 else -1 end as minor
            from ledger.journals as j
            inner join ledger.journal_entries as e on e.journal_no = j.journal_no
            inner join ledger.accounts as a on a.account_id in (e.debit_account_id, e.credit_account_id)
            inner join ledger.chart as c on c.name = a.name
            where
                j.tenant_id = close_books.tenant_id and j.environment = close_books.environment
                and j.period_id <= close_books.period_id
            group by a.account_id, a.code, a.currency, c.number, a.normal_side
        ) as s
    );
end
$$;
comment on function ledger.close_books is
'Books the closing entries of a period and returns the balances it ends with. Under the lock of the chain; refuses when the books are out of balance.';

reset role;

-- sql/ledger/functions/posting.sql

-- Posting: entries, journals, chain and balances of a batch, in one statement.

set role stalela_owner;

create function ledger.post(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    refused ledger.booking[] := array(select b from unnest(bookings) as b where b.problem is not null);
    waves smallint[];
    this_wave smallint;
    batch ledger.booking[] := bookings;
    kinds ledger.kind[];
    legs ledger.planned_leg[];
begin
    perform ledger.lock_chains(bookings);
    waves := array(select distinct b.wave from unnest(bookings) as b where b.problem is null order by 1);
    foreach this_wave in array waves loop
        if cardinality(waves) > 1 or cardinality(refused) > 0 then
            batch := array(select b from unnest(bookings) as b where b.problem is null and b.wave = this_wave);
        end if;
        if this_wave > 2 then
            batch := ledger.price_returns(batch);
        elsif this_wave = 2 then
            batch := ledger.price_releases(batch);
        end if;
        kinds := ledger.kinds(batch);
        legs := ledger.plan(kinds);
        refused := refused || array(
            select jsonb_populate_record(b, jsonb_build_object('problem', coalesce(
                b.problem, format('no posting rule for %s', b.kind)
            )))
            from unnest(batch) as b
            where
                b.problem is not null
                or b.kind in (select k.kind from unnest(kinds) as k except select l.kind from unnest(legs) as l)
        );
        if exists (select from unnest(batch) as b where b.problem is not null) then
            batch := array(select b from unnest(batch) as b where b.problem is null);
        end if;
        perform ledger.write(batch, kinds, legs);
    end loop;
    return refused;
end
$$;
comment on function ledger.post is
'Books a batch, and returns those bookings that could not be, each with its problem. Raises when the books would be wrong, and then nothing of the batch is booked.';

create function ledger.write(bookings ledger.booking[], kinds ledger.kind[], legs ledger.planned_leg[])
returns void
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
    crossed record;
begin
    for crossed in
        with ordered as (
            select
                b.*, k.tenant_id, k.environment, k.event_type, k.rail, k.period_id, k.rules_version, k.reserve_days,
                coalesce(k.fx_currency, k.currency) as fee_currency, k.currency,
                k.memo || b.memo as words,
                concat_ws(
                    E'\n', 'stalela.journal.v1', k.tenant_id, k.environment, k.event_type, k.period_id, k.rules_version,
                    k.memo || b.memo, ''
                ) as head,
                c.head_hash, c.head_number, greatest(moment, c.posted_at) as posted_at,
                coalesce(b.fx_minor, b.gross_minor) as base_minor, k.rate_bps, k.fixed_minor, k.tax_bps, k.reserve_bps
            from unnest(bookings) as b
            -- Outer joins that always match: the planner then expects what is there, not one row.
            left join unnest(kinds) as k on k.kind = b.kind
            left join ledger.chains as c on c.tenant_id = k.tenant_id and c.environment = k.environment
            order by b.position
        ), charged as (
            select
                o.*,
                coalesce(
                    o.fee_minor,
                    case o.rate_bps when 0 then 0 else ledger.half_even(o.base_minor, o.rate_bps, 10000) end + o.fixed_minor
                ) as fee
            from ordered as o
        ), booked as materialized (
            select
                h.*, nextval('ledger.journal_no') as journal_no,
                coalesce(h.tax_minor, case h.tax_bps when 0 then 0 else ledger.half_even(h.fee, h.tax_bps, 10000) end) as tax,
                coalesce(
                    h.reserve_minor,
                    case h.reserve_bps when 0 then 0 else ledger.half_even(h.base_minor, h.reserve_bps, 10000) end
                ) as reserve
            from charged as h
        ), entries as materialized (
            select
                b.journal_no, l.leg_no, l.leg, l.debit_account_id, l.credit_account_id, l.currency, l.is_memo, a.minor,
                l.leg_no || E'\t' || l.leg || E'\t' || l.debit_code || E'\t' || l.credit_code || E'\t' || l.currency
                || E'\t' || a.minor as line
            from booked as b
            left join unnest(legs) as l on l.kind = b.kind
            cross join lateral (
                select case l.amount
                    when 'gross' then b.gross_minor
                    when 'net' then b.gross_minor - b.fee - b.tax - b.surcharge_minor
                    when 'fee' then b.fee
                    when 'tax' then b.tax
                    when 'surcharge' then b.surcharge_minor
                    when 'reserve' then b.reserve
                    when 'held' then b.held_minor
                    when 'fx_settled' then b.fx_minor
                    when 'fx_loss' then b.fx_quoted_minor - b.fx_minor
                    when 'fx_gain' then b.fx_minor - b.fx_quoted_minor
                    else l.amount_minor
                end as minor
            ) as a
            where a.minor > 0
        ), entries_written as (
            insert into ledger.journal_entries (
                journal_no, leg_no, leg, debit_account_id, credit_account_id, amount_minor, currency
            )
            select e.journal_no, e.leg_no, e.leg, e.debit_account_id, e.credit_account_id, e.minor, e.currency
            from entries as e
        ), lined as (
            select e.journal_no, string_agg(e.line, E'\n' order by e.leg_no) as lines, bool_and(e.is_memo) as is_memo
            from entries as e
            group by e.journal_no
        ), numbered as (
            select
                b.*, l.lines, l.is_memo,
                b.head_number + row_number() over (partition by b.tenant_id, b.environment order by b.journal_no) as number
            from booked as b
            inner join lined as l on l.journal_no = b.journal_no
        ), told as materialized (
            select
                n.*, row_number() over (order by n.tenant_id, n.environment, n.number) as line,
                -- As ledger.journal_content, with which verification compares every word of this.
                n.head || n.number || E'\n' || n.journal_id || E'\n' || n.journal_key || E'\n' || coalesce(n.event_id, '')
                || E'\n' || coalesce(n.transfer_id, '') || E'\n' || n.occurred_at || E'\n' || n.posted_at || E'\n'
                || coalesce(n.related_journal_id, '') || E'\n' || n.is_memo::text || E'\n' || n.lines as content
            from numbered as n
        ), chained as (
            select t.*, h.hash
            from (
                select array_agg(t.head_hash order by t.line) as heads, array_agg(t.content order by t.line) as contents
                from told as t
            ) as a
            cross join lateral ledger.link_all(a.heads, a.contents) as h
            inner join told as t on t.line = h.line
        ), journals_written as (
            insert into ledger.journals (
                journal_no, journal_id, journal_key, tenant_id, environment, number, event_id, event_type, transfer_id,
                occurred_at, posted_at, period_id, rules_version, related_journal_id, is_memo, memo, hash
            )
            select
                c.journal_no, c.journal_id, c.journal_key, c.tenant_id, c.environment, c.number, c.event_id, c.event_type,
                c.transfer_id, c.occurred_at, c.posted_at, c.period_id, c.rules_version, c.related_journal_id, c.is_memo,
                c.words, c.hash
            from chained as c
            order by c.journal_no
            returning tenant_id, environment, number, hash, posted_at
        ), linked as (
            update ledger.chains as c
            set head_number = w.number, head_hash = w.hash, posted_at = w.posted_at
            from (
                select distinct on (w.tenant_id, w.environment) w.*
                from journals_written as w
                order by w.tenant_id, w.environment, w.number desc
            ) as w
            where c.tenant_id = w.tenant_id and c.environment = w.environment
        ), held as (
            insert into ledger.holds (
                transfer_id, tenant_id, environment, rail, currency, amount_minor, placed_at, expires_at
            )
            select
                b.transfer_id, b.tenant_id, b.environment, b.rail, b.currency, b.held_minor, b.occurred_at,
                b.occurred_at + make_interval(secs => public.setting('ledger.hold_lifetime_s')::integer)
            from booked as b
            where b.event_type = 'transfer.accepted'
        ), reserved as (
            insert into ledger.reserves (journal_no, tenant_id, environment, rail, currency, amount_minor, due_at)
            select
                b.journal_no, b.tenant_id, b.environment, b.rail, b.fee_currency, e.minor,
                b.occurred_at + make_interval(days => b.reserve_days)
            from booked as b
            inner join entries as e on e.journal_no = b.journal_no and e.leg = 'reserve'
            where b.reserve > 0
        ), deltas as (
            select m.account_id, sum(m.minor)::bigint as delta
            from (
                select e.debit_account_id as account_id, e.minor from entries as e
                union all
                select e.credit_account_id, -e.minor from entries as e
            ) as m
            group by m.account_id
            having sum(m.minor) <> 0
            order by m.account_id
        ), moved as (
            update ledger.balances as b
            set balance_minor = b.balance_minor + d.delta, as_of = moment, version = b.version + 1
            from deltas as d
            where b.account_id = d.account_id
            returning b.account_id, b.balance_minor, d.delta
        )
        select a.*
        from moved as m
        inner join ledger.accounts as a on a.account_id = m.account_id
        cross join lateral (select case a.normal_side when 'debit' then 1 else -1 end as side) as s
        where
            a.when_negative = 'warn'
            and m.balance_minor * s.side < 0 and (m.balance_minor - m.delta) * s.side >= 0
    loop
        perform public.raise_alert(
            'ledger_balance_negative', 'warning',
            concat_ws(':', crossed.tenant_id, crossed.environment, crossed.code, crossed.currency),
            crossed.tenant_id, crossed.environment,
            jsonb_build_object('account', crossed.code, 'currency', crossed.currency)
        );
    end loop;
end
$$;
comment on function ledger.write is
'Writes a batch: entries, chained journals, and the change of each balance, once per account in the order of their ids. Not for callers: ledger.post and the manual journals prepare what it is given, under the locks of its chains.';

-- What the shape of the tables cannot say, once per statement.

create function ledger.check_entries()
returns trigger
language plpgsql
volatile
security definer -- reads accounts for whoever writes
set search_path = ''
as $$
#variable_conflict use_column
declare
    wrong bigint;
begin
    select e.journal_no into wrong
    from (
        select w.debit_account_id, w.credit_account_id, w.currency, min(w.journal_no) as journal_no
        from written as w
        group by w.debit_account_id, w.credit_account_id, w.currency
    ) as e
    left join ledger.accounts as d on d.account_id = e.debit_account_id
    left join ledger.accounts as c on c.account_id = e.credit_account_id
    where
        coalesce(
            d.tenant_id <> c.tenant_id or d.environment <> c.environment
            or d.currency <> e.currency or c.currency <> e.currency
            or d.status <> 'active' or c.status <> 'active'
            or (d.class = 'memo') <> (c.class = 'memo'),
            true
        )
    limit 1;
    if found then
        raise exception 'an entry of journal % joins accounts that do not belong together', wrong
            using errcode = 'check_violation';
    end if;
    return null;
end
$$;
comment on function ledger.check_entries is
'Both accounts of an entry exist, are active, belong to one tenant and environment, have the entry''s currency, and are both memo accounts or neither.';

create function ledger.check_journals()
returns trigger
language plpgsql
volatile
security definer -- reads entries for whoever writes
set search_path = ''
as $$
#variable_conflict use_column
declare
    wrong bigint;
begin
    select t.journal_no into wrong
    from (
        select w.tenant_id, w.environment, e.debit_account_id, min(w.journal_no) as journal_no
        from written as w
        left join ledger.journal_entries as e
            on e.journal_no = w.journal_no
            -- Their entries stand together: one range instead of a look for each.
            and e.journal_no between (select min(r.journal_no) from written as r) and (select max(r.journal_no) from written as r)
        group by w.tenant_id, w.environment, e.debit_account_id
    ) as t
    left join ledger.accounts as a on a.account_id = t.debit_account_id
    where coalesce(a.tenant_id <> t.tenant_id or a.environment <> t.environment, true)
    limit 1;
    if found then
        raise exception 'journal % has no entries of its tenant', wrong using errcode = 'check_violation';
    end if;
    return null;
end
$$;
comment on function ledger.check_journals is 'A journal is written together with its entries, which are in accounts of its tenant and environment.';

reset role;

-- sql/ledger/functions/reading.sql

-- From events to bookings: what they say, and whether that can be booked.

set role stalela_owner;

create function ledger.read_events(batch payments.delivery[])
returns ledger.booking[]
language plpgsql
stable
security definer -- callers may not read currencies and holds
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
-- Plans made for no batch in particular are made for a hundred rows and tried on thousands.
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
begin
    return array(
        select row(
            concat_ws(
                '|', d.tenant_id, d.environment, d.event_type, t.purpose, t.intent, t.rail, t.currency,
                coalesce(t.fx_currency, ''), left(d.occurred_at::text, 10)
            ),
            e.wave + (t.purpose = 'refund')::integer,
            d.ordinality, d.outbox_id, d.event_id, 'jrnl_' || substr(d.event_id, 5),
            d.ordering_key || ':' || d.event_type || ':' || d.seq,
            d.ordering_key, d.payload ->> 'related_transfer_id', d.occurred_at,
            m.gross_minor, null, null, m.surcharge_minor, null,
            case when e.condition = 'authorises' then m.gross_minor end,
            f.fx_minor, f.fx_quoted_minor, null, '',
            case
                when e.event_type is null then format('the books know no event of type %s', d.event_type)
                when d.payload ->> 'schema_version' <> '1'
                    then format('the books know no version %s of %s', d.payload ->> 'schema_version', d.event_type)
                when c.code is null then format('the currency %s does not exist', coalesce(t.currency, 'null'))
                when t.rail is null then 'the event names no rail'
                when m.gross_minor is null or m.gross_minor <= 0
                    then format('%s is no amount of %s', coalesce(t.amount, 'null'), t.currency)
                when m.surcharge_minor is null or m.surcharge_minor < 0
                    then format('%s is no amount of %s', d.payload ->> 'fee', t.currency)
                when t.fx is not null and (f.fx_minor is null or f.fx_quoted_minor is null)
                    then format('%s names no exchange', t.fx)
            end,
            true
        )::ledger.booking
        from unnest(batch) with ordinality as d
        left join ledger.event_types as e on e.event_type = d.event_type
        cross join lateral (
            select
                coalesce(d.payload ->> 'purpose', 'collection') as purpose,
                coalesce(d.payload ->> 'intent', 'PULL') as intent,
                d.payload ->> 'rail' as rail,
                d.payload ->> 'currency' as currency,
                case
                    when e.condition = 'not_by_refund' then coalesce(d.payload ->> 'returned_amount', d.payload ->> 'amount')
                    else d.payload ->> 'amount'
                end as amount,
                d.payload -> 'fx' as fx,
                d.payload -> 'fx' ->> 'settlement_currency' as fx_currency
        ) as t
        left join public.currencies as c on c.code = t.currency
        left join public.currencies as s on s.code = t.fx_currency
        cross join lateral (
            select
                -- Exactly the currency's decimals: the point is where the scale says, and nowhere else.
                case when position('.' in reverse(t.amount)) = case c.scale when 0 then 0 else c.scale + 1 end
                    then replace(t.amount, '.', '')::bigint end as gross_minor,
                case when d.payload ->> 'fee' is null then 0 else ledger.minor(d.payload ->> 'fee', c.scale) end as surcharge_minor
        ) as m
        cross join lateral (
            select
                case when t.fx is not null then ledger.minor(t.fx ->> 'settlement_amount', s.scale) end as fx_minor,
                case when t.fx is not null then ledger.minor(
                    coalesce(t.fx ->> 'quoted_amount', t.fx ->> 'settlement_amount'), s.scale
                ) end as fx_quoted_minor
        ) as f
        where
            e.event_type is null
            or e.wave is not null and case e.condition
                when 'authorises' then t.intent = 'AUTH'
                when 'not_by_refund' then d.payload ->> 'triggered_by' is distinct from 'refund'
                when 'holds' then exists (
                    select from ledger.holds as h
                    where h.transfer_id in (d.ordering_key, d.payload ->> 'related_transfer_id')
                )
                else true
            end
        order by d.ordinality
    );
end
$$;
comment on function ledger.read_events is
'What the events of a batch ask of the books, in their order; those that book nothing are left out, those that cannot be booked have a problem.';

create function ledger.kinds(bookings ledger.booking[])
returns ledger.kind[]
language plpgsql
stable
security definer -- callers may not read tariffs and periods
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
begin
    return array(
        select row(
            k.kind, k.of[1], k.of[2], k.of[3], k.of[4], k.of[5], k.of[6], k.of[7], nullif(k.of[8], ''),
            p.period_id,
            case when p.period_id <> left(k.of[9], 7) then format('occurred in %s, which is closed', left(k.of[9], 7)) else '' end,
            t.rate_bps, t.fixed_minor, t.tax_bps, t.reserve_bps, t.reserve_days,
            public.setting('ledger.rules_version')::integer
        )::ledger.kind
        from (
            select d.kind, string_to_array(d.kind, '|') as of
            from (select distinct b.kind from unnest(bookings) as b where b.problem is null) as d
        ) as k
        cross join lateral ledger.tariff(k.of[1], k.of[4], k.of[6], coalesce(nullif(k.of[8], ''), k.of[7]), k.of[9]::date) as t
        cross join lateral (select ledger.period_for(k.of[1], k.of[2], k.of[9]::date) as period_id) as p
    );
end
$$;
comment on function ledger.kinds is 'The kinds of event in a batch, each with its tariff and the period that takes it. Under the locks of the chains, so that periods stand still.';

create function ledger.tariff(
    tenant_id text, purpose text, rail text, currency text, occurred_on date,
    out rate_bps integer, out fixed_minor bigint, out tax_bps integer, out reserve_bps integer,
    out reserve_days integer, out is_fee_returned boolean
)
language plpgsql
stable
security definer -- callers may not read tariffs
set search_path = ''
as $$
#variable_conflict use_column
begin
    select t.rate_bps, t.fixed_minor, t.tax_bps, t.reserve_bps, t.reserve_days, t.is_fee_returned
    into rate_bps, fixed_minor, tax_bps, reserve_bps, reserve_days, is_fee_returned
    from ledger.tariffs as t
    where
        (t.tenant_id = tariff.tenant_id or t.tenant_id is null)
        and t.purpose in (tariff.purpose, '*')
        and t.rail in (tariff.rail, '*')
        and t.currency in (tariff.currency, '*')
        and t.valid_from <= tariff.occurred_on
        and (t.valid_until is null or t.valid_until > tariff.occurred_on)
    order by t.tenant_id is null, t.purpose = '*', t.rail = '*', t.currency = '*', t.valid_from desc, t.tariff_id
    limit 1;
    if not found then
        rate_bps := 0;
        fixed_minor := 0;
        tax_bps := 0;
        reserve_bps := 0;
        reserve_days := 0;
        is_fee_returned := true;
    end if;
end
$$;
comment on function ledger.tariff is 'The tariff of a tenant''s transfer on a day: its own before everybody''s, the more particular before the general. None is free.';

create function ledger.period_for(tenant_id text, environment text, occurred_on date)
returns text
language plpgsql
stable
security definer -- callers may not read periods
set search_path = ''
as $$
#variable_conflict use_column
declare
    month date := date_trunc('month', occurred_on)::date;
begin
    if not exists (
        select from ledger.periods as p
        where
            p.tenant_id = period_for.tenant_id and p.environment = period_for.environment
            and p.period_id = to_char(month, 'YYYY-MM') and p.status <> 'open'
    ) then
        return to_char(month, 'YYYY-MM');
    end if;
    -- The present month, or the first after it that still takes entries.
    month := greatest(month, date_trunc('month', now() at time zone 'UTC')::date);
    while exists (
        select from ledger.periods as p
        where
            p.tenant_id = period_for.tenant_id and p.environment = period_for.environment
            and p.period_id = to_char(month, 'YYYY-MM') and p.status <> 'open'
    ) loop
        month := (month + interval '1 month')::date;
    end loop;
    return to_char(month, 'YYYY-MM');
end
$$;
comment on function ledger.period_for is 'The period that takes what occurred on a day (UTC): its own month, or the open one when that is closing or closed.';

reset role;

-- sql/ledger/functions/reading_books.sql

-- What people see of the books: balances, accounts, journals, tariffs, and the proof.

set role stalela_owner;

create function ledger.list_balances(filters jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(row_to_json(shown)::text, ',' order by shown.currency, shown.number, shown.account) into body
    from (
        select
            a.code as account, c.number, a.type, a.class, a.currency,
            public.format_amount(
                case a.normal_side when 'debit' then b.balance_minor else -b.balance_minor end, a.currency
            ) as balance,
            a.normal_side, b.as_of
        from ledger.accounts as a
        inner join ledger.balances as b on b.account_id = a.account_id
        inner join ledger.chart as c on c.name = a.name
        where
            a.tenant_id = caller.tenant_id and a.environment = caller.environment
            and (not filters ? 'currency' or a.currency = filters ->> 'currency')
            and (not filters ? 'type' or a.type = filters ->> 'type')
    ) as shown;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_balances is
'What each of the caller''s accounts holds, on its normal side. filters: type, currency.';

create function ledger.list_accounts()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read accounts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(row_to_json(shown)::text, ',' order by shown.number, shown.account, shown.currency) into body
    from (
        select
            a.code as account, c.number, a.type, a.class, a.normal_side, a.currency, a.status, c.description, a.created_at
        from ledger.accounts as a
        inner join ledger.chart as c on c.name = a.name
        where a.tenant_id = caller.tenant_id and a.environment = caller.environment
    ) as shown;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_accounts is 'The caller''s accounts as the chart names them.';

create function ledger.journal_resource(journal ledger.journals)
returns json
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
begin
    return json_build_object(
        'id', journal.journal_id,
        'object', 'journal',
        'number', journal.number,
        'key', journal.journal_key,
        'event_type', journal.event_type,
        'event_id', journal.event_id,
        'transfer_id', journal.transfer_id,
        'occurred_at', journal.occurred_at,
        'posted_at', journal.posted_at,
        'period', journal.period_id,
        'rules_version', journal.rules_version,
        'related_journal_id', journal.related_journal_id,
        'is_memo', journal.is_memo,
        'memo', journal.memo,
        'hash', encode(journal.hash, 'hex'),
        'entries', (
            select json_agg(json_build_object(
                'number', e.leg_no, 'leg', e.leg, 'debit', d.code, 'credit', c.code,
                'amount', public.format_amount(e.amount_minor, e.currency), 'currency', e.currency,
                'amount_minor', e.amount_minor::text
            ) order by e.leg_no)
            from ledger.journal_entries as e
            inner join ledger.accounts as d on d.account_id = e.debit_account_id
            inner join ledger.accounts as c on c.account_id = e.credit_account_id
            where e.journal_no = journal.journal_no
        )
    );
end
$$;
comment on function ledger.journal_resource is 'The wire shape of a journal with its entries, enough to compute its hash again.';

create function ledger.list_journals(filters jsonb, page_size integer, before_number bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    shown ledger.journals[];
    has_more boolean;
begin
    if filters ? 'transfer_id' then
        -- The keys of a transfer's journals begin with its id.
        shown := array(
            select j from ledger.journals as j
            where
                j.journal_key >= (filters ->> 'transfer_id') || ':' and j.journal_key < (filters ->> 'transfer_id') || ';'
                and j.tenant_id = caller.tenant_id and j.environment = caller.environment
                and j.number < before_number
            order by j.number desc
            limit page_size + 1
        );
    else
        shown := array(
            select j from ledger.journals as j
            where j.tenant_id = caller.tenant_id and j.environment = caller.environment and j.number < before_number
            order by j.number desc
            limit page_size + 1
        );
    end if;
    has_more := cardinality(shown) > page_size;
    return row(200, format(
        '{"data":[%s],"pagination":%s}',
        (
            select string_agg(ledger.journal_resource(j)::text, ',' order by j.number desc)
            from unnest(shown[1:page_size]) as j
        ),
        json_build_object(
            'limit', page_size, 'has_more', has_more,
            'next_cursor', case when has_more then shown[page_size].number::text end
        )
    ), caller.rate);
end
$$;
comment on function ledger.list_journals is 'One page of the caller''s journals, newest first, by their number. filters: transfer_id.';

create function ledger.get_journal(journal_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    journal ledger.journals;
begin
    select j.* into journal
    from ledger.journals as j
    where
        j.journal_id = get_journal.journal_id
        and j.tenant_id = caller.tenant_id and j.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no journal %s here.', get_journal.journal_id));
    end if;
    return public.reply(caller, 200, ledger.journal_resource(journal));
end
$$;
comment on function ledger.get_journal is 'One journal of the caller''s books; 40401 for anybody else''s.';

create function ledger.prove(first_number bigint, last_number bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    chain ledger.chains;
    previous bytea;
    body text;
begin
    select c.* into chain
    from ledger.chains as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment;
    last_number := least(coalesce(last_number, chain.head_number), first_number + 999, chain.head_number);
    previous := case
        when first_number = 1 then ledger.genesis(caller.tenant_id, caller.environment)
        else (
            select j.hash from ledger.journals as j
            where j.tenant_id = caller.tenant_id and j.environment = caller.environment and j.number = first_number - 1
        )
    end;
    if previous is null then
        perform public.refuse_field('42262', '/from', format('the chain has %s journals.', coalesce(chain.head_number, 0)));
    end if;
    select string_agg(ledger.journal_resource(j)::text, E',\n' order by j.number) into body
    from ledger.journals as j
    where
        j.tenant_id = caller.tenant_id and j.environment = caller.environment
        and j.number between first_number and last_number;
    return row(200, format(
        E'{"format":"stalela.ledger.proof.v1","tenant_id":%s,"environment":%s,"from":%s,"to":%s,"previous_hash":%s,\n"head":%s,\n"journals":[%s]}\n',
        to_json(caller.tenant_id), to_json(caller.environment), first_number, coalesce(last_number, 0),
        to_json(encode(previous, 'hex')),
        json_build_object('number', coalesce(chain.head_number, 0), 'hash', encode(coalesce(chain.head_hash, previous), 'hex')),
        body
    ), caller.rate);
end
$$;
comment on function ledger.prove is
'Journals first to last (at most 1,000) with the hash before them: enough for an outsider to compute each hash again. head is the newest of the chain.';

create function ledger.list_tariffs()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read tariffs
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(row_to_json(shown)::text, ',' order by shown.is_default, shown.purpose, shown.rail, shown.currency, shown.valid_from)
    into body
    from (
        select
            t.tariff_id as id, t.tenant_id is null as is_default, t.purpose, t.rail, t.currency, t.rate_bps,
            case when t.currency <> '*' then public.format_amount(t.fixed_minor, t.currency) end as fixed,
            t.tax_bps, t.reserve_bps, t.reserve_days, t.is_fee_returned, t.valid_from, t.valid_until
        from ledger.tariffs as t
        where t.tenant_id is null or t.tenant_id = caller.tenant_id
    ) as shown;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_tariffs is 'What the caller pays: its own tariffs, then everybody''s. The more particular row wins.';

reset role;

-- sql/ledger/functions/returns.sql

-- What undoes something: returns by the rail, refunds by the merchant, refunds that bounced, released holds.

set role stalela_owner;

create function ledger.price_returns(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
stable
security definer -- callers may not read the books
set search_path = ''
as $$
#variable_conflict use_column
begin
    return array(
        with undoing as (
            select b, b.position, b.wave, b.gross_minor, k.currency, k.event_type, t.is_fee_returned, o.*
            from unnest(bookings) as b
            cross join lateral (select string_to_array(b.kind, '|') as of) as s
            cross join lateral (
                select s.of[1] as tenant_id, s.of[2] as environment, s.of[3] as event_type, s.of[7] as currency
            ) as k
            cross join lateral ledger.tariff(s.of[1], s.of[4], s.of[6], s.of[7], s.of[9]::date) as t
            left join lateral (
                -- A refund undoes another transfer; what the rail returns, and a refund that bounced, undoes itself.
                select j.journal_id as of_journal_id, j.journal_no as of_journal_no, j.related_journal_id as of_related_id
                from ledger.journals as j
                cross join lateral (
                    select case when k.event_type = 'transfer.settled' then b.related_transfer_id else b.transfer_id end as id
                ) as t
                where
                    j.journal_key >= t.id || ':transfer.settled:' and j.journal_key < t.id || ':transfer.settled;'
                    and j.tenant_id = k.tenant_id and j.environment = k.environment
                order by j.journal_key desc
                limit 1
            ) as o on true
        ), booked as (
            select
                u.of_journal_id,
                sum(e.amount_minor) filter (where e.leg in ('fund_in', 'pay_out', 'pay_back')) as gross,
                max(e.currency) filter (where e.leg in ('fund_in', 'pay_out', 'pay_back')) as currency,
                coalesce(sum(e.amount_minor) filter (where e.leg in ('fee', 'fee_return')), 0) as fee,
                coalesce(sum(e.amount_minor) filter (where e.leg in ('fee_tax', 'fee_tax_return')), 0) as tax,
                max(e.currency) filter (where e.leg = 'principal' and e.currency <> u.currency) as fx_currency,
                coalesce(sum(e.amount_minor) filter (where e.leg = 'principal'), 0) as fx,
                coalesce(sum(e.amount_minor) filter (where e.leg = 'fx_loss'), 0)
                - coalesce(sum(e.amount_minor) filter (where e.leg = 'fx_gain'), 0) as fx_promised
            from (select distinct u.of_journal_id, u.of_journal_no, u.currency from undoing as u) as u
            inner join ledger.journal_entries as e on e.journal_no = u.of_journal_no
            group by u.of_journal_id
        ), before as (
            select
                u.of_journal_id,
                coalesce(sum(case e.leg
                    when 'pay_back' then e.amount_minor when 'pay_out_return' then e.amount_minor
                    when 'pay_back_undone' then -e.amount_minor
                end), 0) as gross,
                coalesce(sum(case e.leg when 'fee_return' then e.amount_minor when 'fee_again' then -e.amount_minor end), 0) as fee,
                coalesce(sum(case e.leg
                    when 'fee_tax_return' then e.amount_minor when 'fee_tax_again' then -e.amount_minor
                end), 0) as tax,
                coalesce(sum(e.amount_minor) filter (where e.leg = 'return' and e.currency <> u.currency), 0) as fx,
                coalesce(sum(case e.leg
                    when 'fx_loss_return' then e.amount_minor when 'fx_gain_return' then -e.amount_minor
                end), 0) as fx_promised
            from (select distinct u.of_journal_id, u.currency from undoing as u) as u
            inner join ledger.journals as j on j.related_journal_id = u.of_journal_id
            inner join ledger.journal_entries as e on e.journal_no = j.journal_no
            group by u.of_journal_id
        ), summed as (
            select
                u.*, k.gross as of_gross, k.fee as of_fee, k.tax as of_tax, k.fx as of_fx, k.fx_currency as of_fx_currency,
                k.fx_promised as of_fx_promised, k.currency as of_currency,
                coalesce(p.fee, 0) as fee_before, coalesce(p.tax, 0) as tax_before, coalesce(p.fx, 0) as fx_before,
                coalesce(p.fx_promised, 0) as fx_promised_before,
                coalesce(p.gross, 0) + coalesce(sum(u.gross_minor) over earlier, 0) as returned_before,
                lag(u.position) over earlier is not null as has_earlier
            from undoing as u
            left join booked as k on k.of_journal_id = u.of_journal_id
            left join before as p on p.of_journal_id = u.of_journal_id
            window earlier as (
                partition by u.of_journal_id order by u.position rows between unbounded preceding and 1 preceding
            )
        ), counted as (
            select
                s.*,
                -- A refund says its own amount, a return by the rail all that went back until then.
                case when s.wave = 3 and s.event_type = 'transfer.returned' then s.gross_minor
                    else s.returned_before + s.gross_minor end as returned
            from summed as s
        ), parted as (
            -- Each part is the rounded share of everything returned so far, less what went before: parts add up exactly.
            select
                s.*,
                f.fee - case when s.has_earlier then f.fee_earlier else s.fee_before end as fee_part,
                f.tax - case when s.has_earlier then f.tax_earlier else s.tax_before end as tax_part,
                f.fx - case when s.has_earlier then f.fx_earlier else s.fx_before end as fx_part,
                sign(s.of_fx_promised) * f.promised
                - case when s.has_earlier then sign(s.of_fx_promised) * f.promised_earlier else s.fx_promised_before end as promised_part
            from counted as s
            cross join lateral (
                select
                    ledger.half_even(s.of_fee::bigint, s.returned::bigint, s.of_gross::bigint) as fee,
                    ledger.half_even(s.of_tax::bigint, s.returned::bigint, s.of_gross::bigint) as tax,
                    ledger.half_even(s.of_fx::bigint, s.returned::bigint, s.of_gross::bigint) as fx,
                    ledger.half_even(abs(s.of_fx_promised)::bigint, s.returned::bigint, s.of_gross::bigint) as promised,
                    ledger.half_even(s.of_fee::bigint, s.returned_before::bigint, s.of_gross::bigint) as fee_earlier,
                    ledger.half_even(s.of_tax::bigint, s.returned_before::bigint, s.of_gross::bigint) as tax_earlier,
                    ledger.half_even(s.of_fx::bigint, s.returned_before::bigint, s.of_gross::bigint) as fx_earlier,
                    ledger.half_even(abs(s.of_fx_promised)::bigint, s.returned_before::bigint, s.of_gross::bigint)
                    as promised_earlier
            ) as f
        )
        select jsonb_populate_record(p.b, jsonb_build_object(
            'kind', case
                when p.of_fx_currency is null then (p.b).kind
                else regexp_replace((p.b).kind, '[|][^|]*([|][^|]*)$', '|' || p.of_fx_currency || '\1')
            end,
            'related_journal_id', case when p.wave = 4 then p.of_related_id else p.of_journal_id end,
            'gross_minor', case when p.wave = 4 or p.of_journal_id is null then p.gross_minor else p.returned - p.returned_before end,
            'fee_minor', case when p.wave = 4 then p.of_fee when p.is_fee_returned then p.fee_part else 0 end,
            'tax_minor', case when p.wave = 4 then p.of_tax when p.is_fee_returned then p.tax_part else 0 end,
            'reserve_minor', 0,
            'fx_minor', p.fx_part,
            'fx_quoted_minor', p.fx_part + p.promised_part,
            'problem', case
                when p.of_journal_id is null then 'what it gives back is not booked yet'
                when p.of_currency <> p.currency then format('%s was booked, not %s', p.of_currency, p.currency)
                when p.wave = 4 and p.gross_minor <> p.of_gross then 'a refund comes back whole or not at all'
                when p.wave = 3 and (p.returned > p.of_gross or p.returned < p.returned_before) then 'more is given back than was booked'
            end,
            'is_final', p.of_journal_id is not null
        ))
        from parted as p
        order by p.position
    );
end
$$;
comment on function ledger.price_returns is
'The shares of fee, tax and exchange that go back with a return or refund: exact when whole, in proportion when partial, and parts add up to the whole in any order. Problems: the original is not booked yet; more than it was.';

create function ledger.price_releases(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write holds
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Most batches hold nothing that could end a hold.
    if not exists (
        select from unnest(bookings) as b
        where split_part(b.kind, '|', 5) = 'CAPTURE' or split_part(b.kind, '|', 3) in ('transfer.failed', 'hold.expired')
    ) then
        return bookings;
    end if;
    return array(
        select jsonb_populate_record(b, jsonb_build_object('held_minor', ledger.release_hold(b)))
        from unnest(bookings) as b
        order by b.position
    );
end
$$;
comment on function ledger.price_releases is 'Ends the holds that captures, failures and expiries release, and says how much each held.';

create function ledger.release_hold(booking ledger.booking)
returns bigint
language plpgsql
volatile
security definer -- callers may not write holds
set search_path = ''
as $$
#variable_conflict use_column
declare
    released bigint;
begin
    if split_part(booking.kind, '|', 5) <> 'CAPTURE' and split_part(booking.kind, '|', 3) = 'transfer.settled' then
        return null;
    end if;
    update ledger.holds as h
    set released_at = booking.occurred_at
    where
        h.transfer_id = any(array[booking.transfer_id, booking.related_transfer_id]) and h.released_at is null
        and h.tenant_id = split_part(booking.kind, '|', 1) and h.environment = split_part(booking.kind, '|', 2)
    returning h.amount_minor into released;
    return released;
end
$$;
comment on function ledger.release_hold is 'Ends the hold that a capture, failure or expiry is about; how much it held, null when there is none.';

reset role;

-- sql/ledger/functions/statements.sql

-- Statements of an account: the same days give the same bytes, whenever and however often they are asked for.

set role stalela_owner;

create function ledger.number_at(tenant_id text, environment text, at timestamptz)
returns bigint
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    low bigint := 1::bigint;
    high bigint;
    middle bigint;
begin
    select c.head_number + 1 into high
    from ledger.chains as c
    where c.tenant_id = number_at.tenant_id and c.environment = number_at.environment;
    -- The clock of a chain never goes back, so halves will do.
    while low < high loop
        middle := (low + high) / 2;
        if (
            select j.posted_at from ledger.journals as j
            where j.tenant_id = number_at.tenant_id and j.environment = number_at.environment and j.number = middle
        ) < at then
            low := middle + 1;
        else
            high := middle;
        end if;
    end loop;
    return low;
end
$$;
comment on function ledger.number_at is 'The number of the first journal of a chain that was posted at or after an instant; one more than the last if there is none.';

create function ledger.statement_lines(account ledger.accounts, from_no bigint, before_no bigint)
returns table (journal_no bigint, leg_no smallint, leg text, signed_minor bigint, against text)
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select e.journal_no, e.leg_no, e.leg, e.minor, o.code
    from (
        select d.journal_no, d.leg_no, d.leg, d.amount_minor as minor, d.credit_account_id as other
        from ledger.journal_entries as d
        where
            d.debit_account_id = account.account_id
            and d.journal_no >= from_no and d.journal_no < before_no
        union all
        select c.journal_no, c.leg_no, c.leg, -c.amount_minor, c.debit_account_id
        from ledger.journal_entries as c
        where
            c.credit_account_id = account.account_id
            and c.journal_no >= from_no and c.journal_no < before_no
    ) as e
    inner join ledger.accounts as o on o.account_id = e.other
    order by e.journal_no, e.leg_no;
end
$$;
comment on function ledger.statement_lines is 'The entries of an account in a range of journals, debits positive, each with the account on its other side.';

create function ledger.statement(account text, currency text, from_on date, until_on date, shape text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the books
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    subject ledger.accounts;
    side integer;
    from_no bigint;
    before_no bigint;
    opening bigint;
    closing bigint;
    count_lines bigint;
    body text;
begin
    select a.* into subject
    from ledger.accounts as a
    where
        a.tenant_id = caller.tenant_id and a.environment = caller.environment
        and a.code = statement.account and a.currency = statement.currency;
    if not found then
        perform public.refuse('40401', format('There is no account %s in %s here.', statement.account, statement.currency));
    elsif until_on < from_on or until_on - from_on > 366 then
        perform public.refuse_field('42262', '/to', 'on or after from, and at most 366 days later');
    elsif until_on >= (clock_timestamp() at time zone 'UTC')::date then
        -- What is not over yet would give other bytes tomorrow.
        perform public.refuse_field('42262', '/to', 'a day (UTC) that is over');
    end if;
    side := case subject.normal_side when 'debit' then 1 else -1 end;
    from_no := ledger.journal_no_at(caller.tenant_id, caller.environment, from_on::timestamptz);
    before_no := ledger.journal_no_at(caller.tenant_id, caller.environment, (until_on + 1)::timestamptz);
    select coalesce(sum(l.signed_minor), 0)::bigint * side into opening
    from ledger.statement_lines(subject, 0, from_no) as l;
    select count(*), opening + coalesce(sum(l.signed_minor), 0)::bigint * side into count_lines, closing
    from ledger.statement_lines(subject, from_no, before_no) as l;
    if count_lines > 20000 then
        perform public.refuse_field('42262', '/to', format('at most 20000 entries in one statement; these days have %s', count_lines));
    end if;
    body := case shape
        when 'csv' then ledger.statement_csv(subject, from_no, before_no, opening)
        when 'bai2' then ledger.statement_bai2(subject, from_no, before_no, opening, closing, until_on)
        else ledger.statement_json(subject, from_no, before_no, opening, closing, from_on, until_on)
    end;
    return row(200, body, caller.rate || jsonb_build_object(
        'Content-Type', case shape when 'csv' then 'text/csv; charset=utf-8' when 'bai2' then 'text/plain; charset=utf-8' else 'application/json' end,
        'Content-Digest', format('sha-256=:%s:', encode(sha256(convert_to(body, 'utf8')), 'base64'))
    ));
end
$$;
comment on function ledger.statement is
'An account from day to day (UTC, both included, all over) as json, csv or bai2; lines are in the order of posting. Content-Digest is the SHA-256 of the body.';

create function ledger.journal_no_at(tenant_id text, environment text, at timestamptz)
returns bigint
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
begin
    return coalesce((
        select j.journal_no from ledger.journals as j
        where
            j.tenant_id = journal_no_at.tenant_id and j.environment = journal_no_at.environment
            and j.number = ledger.number_at(journal_no_at.tenant_id, journal_no_at.environment, journal_no_at.at)
    ), 9223372036854775807);
end
$$;
comment on function ledger.journal_no_at is 'As ledger.number_at, as the internal number that entries carry; beyond all of them when there is none.';

create function ledger.statement_json(
    account ledger.accounts, from_no bigint, before_no bigint, opening bigint, closing bigint, from_on date, until_on date
)
returns text
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    side integer := case account.normal_side when 'debit' then 1 else -1 end;
    lines text;
begin
    select string_agg(
        json_build_object(
            'journal_id', j.journal_id, 'number', j.number, 'posted_at', j.posted_at, 'occurred_at', j.occurred_at,
            'event_type', j.event_type, 'transfer_id', j.transfer_id, 'leg', l.leg, 'against', l.against,
            'amount', public.format_amount(l.signed_minor * side, account.currency),
            'balance', public.format_amount(l.running, account.currency), 'memo', j.memo
        )::text, E',\n' order by l.journal_no, l.leg_no
    ) into lines
    from (
        select s.*, opening + (sum(s.signed_minor) over (order by s.journal_no, s.leg_no))::bigint * side as running
        from ledger.statement_lines(account, from_no, before_no) as s
    ) as l
    inner join ledger.journals as j on j.journal_no = l.journal_no;
    return format(
        E'{"object":"statement","account":%s,"currency":%s,"normal_side":%s,"from":%s,"to":%s,"opening_balance":%s,"closing_balance":%s,\n"lines":[%s]}\n',
        to_json(account.code), to_json(account.currency), to_json(account.normal_side), to_json(from_on), to_json(until_on),
        to_json(public.format_amount(opening, account.currency)), to_json(public.format_amount(closing, account.currency)),
        lines
    );
end
$$;
comment on function ledger.statement_json is 'A statement as JSON; amounts are positive on the account''s normal side.';

create function ledger.statement_csv(account ledger.accounts, from_no bigint, before_no bigint, opening bigint)
returns text
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    side integer := case account.normal_side when 'debit' then 1 else -1 end;
    lines text;
begin
    select string_agg(concat_ws(
        ',', j.number, j.journal_id, to_json(j.posted_at) #>> '{}', to_json(j.occurred_at) #>> '{}', j.event_type,
        coalesce(j.transfer_id, ''), l.leg, l.against, public.format_amount(l.signed_minor * side, account.currency),
        public.format_amount(l.running, account.currency), account.currency,
        -- RFC 4180; and no spread sheet takes a memo for a formula.
        '"' || replace(regexp_replace(j.memo, '^([=+@-])', '''\1'), '"', '""') || '"'
    ), E'\r\n' order by l.journal_no, l.leg_no) into lines
    from (
        select s.*, opening + (sum(s.signed_minor) over (order by s.journal_no, s.leg_no))::bigint * side as running
        from ledger.statement_lines(account, from_no, before_no) as s
    ) as l
    inner join ledger.journals as j on j.journal_no = l.journal_no;
    return concat(
        E'number,journal_id,posted_at,occurred_at,event_type,transfer_id,leg,against,amount,balance,currency,memo\r\n',
        lines || E'\r\n'
    );
end
$$;
comment on function ledger.statement_csv is 'A statement as CSV (RFC 4180), a line per entry.';

create function ledger.statement_bai2(
    account ledger.accounts, from_no bigint, before_no bigint, opening bigint, closing bigint, until_on date
)
returns text
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    side integer := case account.normal_side when 'debit' then 1 else -1 end;
    day text := to_char(until_on, 'YYMMDD');
    total numeric;
    lines text[];
begin
    -- 399 and 699: miscellaneous credit and debit. Amounts are in minor units, without sign.
    select
        array_agg(concat_ws(
            ',', '16', case when l.signed_minor * side > 0 then '399' else '699' end, abs(l.signed_minor), 'Z',
            j.journal_id, coalesce(j.transfer_id, ''), l.leg || ' ' || l.against || '/'
        ) order by l.journal_no, l.leg_no),
        coalesce(sum(abs(l.signed_minor)), 0)
    into lines, total
    from ledger.statement_lines(account, from_no, before_no) as l
    inner join ledger.journals as j on j.journal_no = l.journal_no;
    lines := coalesce(lines, '{}');
    total := total + opening + closing;
    return array_to_string(
        array[
            format('01,STALELA,%s,%s,0000,1,,,2/', account.tenant_id, day),
            format('02,%s,STALELA,1,%s,2359,%s,2/', account.tenant_id, day, account.currency),
            format('03,%s,%s,010,%s,,,015,%s,,/', account.code, account.currency, opening, closing)
        ] || lines || array[
            format('49,%s,%s/', total, cardinality(lines) + 2),
            format('98,%s,1,%s/', total, cardinality(lines) + 4),
            format('99,%s,1,%s/', total, cardinality(lines) + 6)
        ], E'\n'
    ) || E'\n';
end
$$;
comment on function ledger.statement_bai2 is
'A statement in the manner of BAI2: opening (010) and closing (015) balance, a 16 record per entry, totals and record counts.';

reset role;

-- sql/webhooks/functions/deliveries.sql

-- The delivery log, and sending again.

set role stalela_owner;

create function webhooks.delivery_resource(delivery webhooks.deliveries)
returns json
language plpgsql
stable
security definer -- callers may not read the queue
set search_path = ''
as $$
begin
    return (
        select row_to_json(shown)
        from (
            select
                delivery.event_id, 'webhook_delivery' as object, delivery.endpoint_id as webhook_endpoint_id,
                delivery.event_type as type, delivery.status, delivery.attempts, delivery.status_code,
                q.due_at as next_attempt_at, delivery.created_at, delivery.finished_at
            from (select) as one
            left join webhooks.queue as q on q.delivery_id = delivery.delivery_id and q.is_head
        ) as shown
    );
end
$$;
comment on function webhooks.delivery_resource is
'The wire shape of a delivery. next_attempt_at is null when it is finished or waits for an earlier event of the same payment.';

create function webhooks.list_deliveries(endpoint_id text, status text, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:read', 'read');
    caller public.caller := seen.caller;
    after_at timestamptz := to_timestamp((split_part(page_after, '.', 1)::numeric / 1000000)::double precision);
    after_event text := split_part(page_after, '.', 2);
    page webhooks.deliveries[];
    last webhooks.deliveries;
begin
    select array_agg(p.found_one order by (p.found_one).created_at desc, (p.found_one).event_id desc) into page
    from (
        select d as found_one
        from webhooks.deliveries as d
        where
            d.tenant_id = caller.tenant_id and d.environment = caller.environment
            and d.endpoint_id = list_deliveries.endpoint_id
            and (list_deliveries.status is null or d.status = list_deliveries.status)
            and (list_deliveries.page_after is null or (d.created_at, d.event_id) < (after_at, after_event))
        order by d.created_at desc, d.event_id desc
        limit list_deliveries.page_size + 1
    ) as p;
    if cardinality(page) > list_deliveries.page_size then
        last := page[list_deliveries.page_size];
    end if;
    return public.reply(caller, 200, json_build_object(
        'data', array(select webhooks.delivery_resource(d) from unnest(page[1:list_deliveries.page_size]) as d),
        'pagination', json_build_object(
            'limit', list_deliveries.page_size,
            'has_more', last.event_id is not null,
            'next_cursor', (extract(epoch from last.created_at) * 1000000)::bigint || '.' || last.event_id
        )
    ));
end
$$;
comment on function webhooks.list_deliveries is 'One page of what an endpoint was sent, newest first.';

create function webhooks.visible_delivery(endpoint webhooks.endpoints, event_id text)
returns webhooks.deliveries
language plpgsql
stable
security definer -- callers may not read deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    found_one webhooks.deliveries;
begin
    select d.* into found_one
    from webhooks.deliveries as d
    where d.endpoint_id = (visible_delivery.endpoint).endpoint_id and d.event_id = visible_delivery.event_id;
    if not found then
        perform public.refuse('40401', format('The event %s did not go to this endpoint.', visible_delivery.event_id));
    end if;
    return found_one;
end
$$;
comment on function webhooks.visible_delivery is 'The delivery of an event to an endpoint; 40401 when there is none.';

create function webhooks.get_delivery(endpoint_id text, event_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:read', 'read');
    delivery webhooks.deliveries := webhooks.visible_delivery(seen.endpoint, get_delivery.event_id);
begin
    return public.reply(seen.caller, 200, json_build_object(
        'delivery', webhooks.delivery_resource(delivery),
        'payload', (select m.payload from webhooks.messages as m where m.event_id = get_delivery.event_id),
        'attempts', array(
            select row_to_json(shown)
            from (
                select a.number, a.started_at, a.duration_ms, a.url, a.status_code, a.error, a.response_excerpt
                from webhooks.attempts as a
                where a.delivery_id = delivery.delivery_id
                order by a.number
            ) as shown
        )
    ));
end
$$;
comment on function webhooks.get_delivery is 'A delivery with the bytes that were sent, as text, and every attempt; bytes and attempts are there for 30 days.';

create function webhooks.send_again(delivery_ids bigint[])
returns integer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    again bigint[];
begin
    with reopened as (
        update webhooks.deliveries as d
        set status = 'pending', finished_at = null
        where d.delivery_id = any(send_again.delivery_ids) and d.status <> 'pending'
        returning d.delivery_id
    )
    select array_agg(r.delivery_id) into again from reopened as r;
    perform webhooks.line_up(again, 'replay:');
    -- What waits for its next attempt anyway need not wait.
    update webhooks.queue as q
    set due_at = least(q.due_at, now())
    where q.delivery_id = any(send_again.delivery_ids) and q.is_head and not q.is_leased;
    perform public.poke('webhook_delivery');
    return coalesce(cardinality(again), 0);
end
$$;
comment on function webhooks.send_again is 'Queues finished deliveries once more, under the same event ids, and hurries those that wait; the endpoint is locked. How many it queued.';

create function webhooks.check_replay(endpoint webhooks.endpoints)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
    if endpoint.status <> 'enabled' then
        perform public.refuse(
            '40911', 'This endpoint is disabled: enable it first.',
            '{"current_state": "disabled", "allowed": ["enable"]}'
        );
    end if;
end
$$;
comment on function webhooks.check_replay is 'Nothing is replayed to a disabled endpoint (40911).';

create function webhooks.replay_delivery(endpoint_id text, event_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    delivery webhooks.deliveries := webhooks.visible_delivery(seen.endpoint, replay_delivery.event_id);
begin
    perform webhooks.check_replay(seen.endpoint);
    if not exists (
        select from webhooks.messages as m
        where m.event_id = replay_delivery.event_id and m.created_at > webhooks.replayable_since()
    ) then
        perform public.refuse('42262', 'This event is too old to be replayed; GET /events has it.');
    end if;
    perform webhooks.send_again(array[delivery.delivery_id]);
    perform public.audit(seen.caller, 'webhook_delivery.replay', replay_delivery.endpoint_id, jsonb_build_object(
        'event_id', replay_delivery.event_id
    ));
    return public.reply(seen.caller, 202, webhooks.delivery_resource(
        webhooks.visible_delivery(seen.endpoint, replay_delivery.event_id)
    ));
end
$$;
comment on function webhooks.replay_delivery is 'Sends one event to an endpoint again, with the same id and bytes. 202.';

create function webhooks.replay_range(endpoint_id text, from_at timestamptz, to_at timestamptz, statuses text[])
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    caller public.caller := seen.caller;
    chosen bigint[];
    last_at timestamptz;
    batch constant integer := 5000;
begin
    perform webhooks.check_replay(seen.endpoint);
    select array_agg(c.delivery_id), max(c.created_at) into chosen, last_at
    from (
        select d.delivery_id, d.created_at
        from webhooks.deliveries as d
        where
            d.tenant_id = caller.tenant_id and d.environment = caller.environment
            and d.endpoint_id = replay_range.endpoint_id
            and d.created_at >= greatest(replay_range.from_at, webhooks.replayable_since())
            and d.created_at < replay_range.to_at and d.status = any(replay_range.statuses)
        order by d.created_at
        fetch first batch rows with ties
    ) as c;
    perform webhooks.send_again(chosen);
    perform public.audit(caller, 'webhook_endpoint.replay', replay_range.endpoint_id, jsonb_build_object(
        'from', replay_range.from_at, 'to', replay_range.to_at, 'statuses', replay_range.statuses,
        'queued', coalesce(cardinality(chosen), 0)
    ));
    return public.reply(caller, 202, json_build_object(
        'object', 'webhook_replay',
        'queued', coalesce(cardinality(chosen), 0),
        -- More than one call takes: the next goes on from there.
        'next_from', case when cardinality(chosen) >= batch then last_at + interval '1 microsecond' end
    ));
end
$$;
comment on function webhooks.replay_range is
'Sends what an endpoint was to get in a span of time again, oldest first, at most 5,000 at once; next_from says where to go on. 202.';

create function webhooks.replayable_since()
returns timestamptz
language plpgsql
stable
security definer -- callers may not read settings
set search_path = ''
as $$
begin
    return now() - make_interval(secs => public.setting('webhooks.bodies_kept_s')::double precision);
end
$$;
comment on function webhooks.replayable_since is 'Events before this have lost their bytes.';

reset role;

-- sql/webhooks/functions/dispatch.sql

-- Claim, send, record: what the dispatcher does between the queue and the merchants' servers.

set role stalela_owner;

create function webhooks.claim(max_rows integer)
returns setof webhooks.claimed
language plpgsql
volatile
security definer -- callers may not read endpoints or write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    candidates text[];
    picked bigint[];
    moment timestamptz := clock_timestamp();
    lease interval := make_interval(secs => public.setting('webhooks.lease_s')::double precision);
    room_well integer := public.setting('webhooks.in_flight_max')::integer;
    room_failing integer := public.setting('webhooks.in_flight_failing')::integer;
begin
    -- From endpoint to endpoint through the index: however much one has waiting, it is one look.
    with recursive waiting as (
        (select q.endpoint_id from webhooks.queue as q where q.is_head order by q.endpoint_id limit 1)
        union all
        select (
            select q.endpoint_id from webhooks.queue as q
            where q.is_head and q.endpoint_id > w.endpoint_id
            order by q.endpoint_id
            limit 1
        )
        from waiting as w
        where w.endpoint_id is not null
    )
    select array_agg(w.endpoint_id) into candidates
    from waiting as w
    inner join webhooks.endpoint_health as h on h.endpoint_id = w.endpoint_id
    where
        (h.open_until is null or h.open_until <= moment)
        and exists (
            select from webhooks.queue as q
            where q.endpoint_id = w.endpoint_id and q.is_head and q.due_at <= moment
        );
    if candidates is null then
        return;
    end if;
    perform webhooks.lock_endpoints(candidates);
    moment := clock_timestamp();

    -- The first of every endpoint before the second of any: a busy merchant delays nobody.
    picked := array(
        select due.delivery_id
        from (
            select h.endpoint_id,
                case
                    when h.open_until > moment then 0
                    when h.open_until is not null then 1 -- half open: one that tries
                    when h.failures > 0 then room_failing
                    else room_well
                end - (
                    select count(*) from webhooks.queue as q
                    where q.endpoint_id = h.endpoint_id and q.is_leased and q.due_at > moment
                ) as room
            from webhooks.endpoint_health as h
            where h.endpoint_id = any(candidates)
        ) as r
        cross join lateral (
            select q.delivery_id, q.due_at, row_number() over (order by q.due_at) as place
            from webhooks.queue as q
            where q.endpoint_id = r.endpoint_id and q.is_head and q.due_at <= moment
            order by q.due_at
            limit greatest(r.room, 0)
        ) as due
        order by due.place, due.due_at
        limit max_rows
    );
    return query
    with taken as (
        update webhooks.queue as q
        set is_leased = true, attempts = q.attempts + 1, due_at = moment + lease
        where q.delivery_id = any(picked)
        returning q.delivery_id, q.event_id, q.attempts, q.endpoint_id
    )
    select
        t.delivery_id, t.event_id, t.attempts, t.endpoint_id, e.url,
        case
            when e.former_until > moment then array[e.secret_sealed, e.former_secret_sealed]
            else array[e.secret_sealed]
        end,
        m.payload
    from taken as t
    inner join webhooks.endpoints as e on e.endpoint_id = t.endpoint_id
    inner join webhooks.messages as m on m.event_id = t.event_id
    order by t.delivery_id;
end
$$;
comment on function webhooks.claim is
'Leases what is due, turn by turn over the endpoints, no more to each than it may have in flight. The attempt counts from here, so one that kills its dispatcher still ends.';

create function webhooks.record_attempts(outcomes jsonb)
returns integer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    mine webhooks.outcome[];
    endpoint record;
begin
    perform webhooks.lock_endpoints(array(
        select q.endpoint_id
        from jsonb_to_recordset(outcomes) as o (delivery_id bigint)
        inner join webhooks.queue as q on q.delivery_id = o.delivery_id
    ));
    -- Whose lease ran out and was given to another has nothing to say any more.
    select array_agg(webhooks.judge(q, row(
        o.started_at, o.duration_ms, o.url, o.status_code, o.error, o.response_excerpt, o.retry_after_s
    )::webhooks.reply)) into mine
    from jsonb_to_recordset(outcomes) as o (
        delivery_id bigint, attempt integer, started_at timestamptz, duration_ms integer, url text,
        status_code integer, error text, response_excerpt text, retry_after_s integer
    )
    inner join webhooks.queue as q
        on q.delivery_id = o.delivery_id and q.is_leased and q.attempts = o.attempt;
    if mine is null then
        return 0;
    end if;

    insert into webhooks.attempts (
        delivery_id, number, tenant_id, environment, started_at, duration_ms, url, status_code, error, response_excerpt
    )
    select
        d.delivery_id, d.attempts + 1, d.tenant_id, d.environment, (m.reply).started_at, (m.reply).duration_ms,
        (m.reply).url, (m.reply).status_code, left((m.reply).error, 300), left((m.reply).response_excerpt, 2048)
    from unnest(mine) as m
    inner join webhooks.deliveries as d on d.delivery_id = m.delivery_id;
    update webhooks.deliveries as d
    set
        attempts = d.attempts + 1, status = m.status, status_code = (m.reply).status_code,
        finished_at = case when m.status <> 'pending' then clock_timestamp() end
    from unnest(mine) as m
    where d.delivery_id = m.delivery_id;
    update webhooks.queue as q
    set is_leased = false, due_at = m.due_at
    from unnest(mine) as m
    where q.delivery_id = m.delivery_id and m.status = 'pending';
    delete from webhooks.queue as q
    using unnest(mine) as m
    where q.delivery_id = m.delivery_id and m.status <> 'pending';
    -- The next of each stream whose head is gone.
    update webhooks.queue as q
    set is_head = true, due_at = greatest(q.due_at, now())
    where q.delivery_id = any(array(
        select (
            select min(f.delivery_id) from webhooks.queue as f
            where f.endpoint_id = m.endpoint_id and f.ordering_key = m.ordering_key
        )
        from unnest(mine) as m
        where m.status <> 'pending'
    ));

    for endpoint in
        select m.endpoint_id, array_agg(m) as met
        from unnest(mine) as m
        inner join webhooks.endpoint_health as h on h.endpoint_id = m.endpoint_id
        group by m.endpoint_id, h.failures
        having h.failures > 0 or bool_or(m.status <> 'delivered')
        order by m.endpoint_id
    loop
        perform webhooks.note_health(endpoint.endpoint_id, endpoint.met);
    end loop;
    return cardinality(mine);
end
$$;
comment on function webhooks.record_attempts is
'What became of claimed deliveries: logged, finished or due again, the next of their streams freed, the endpoints'' breakers moved. How many were still the caller''s.';

create function webhooks.judge(waiting webhooks.queue, reply webhooks.reply)
returns webhooks.outcome
language plpgsql
volatile
security definer -- callers may not read settings
set search_path = ''
as $$
declare
    delays jsonb := public.setting('webhooks.delays_s');
    delay_s double precision;
    due_at timestamptz;
    status text := 'delivered';
begin
    if reply.status_code between 200 and 299 then
        return row(waiting.delivery_id, waiting.endpoint_id, waiting.ordering_key, status, null::timestamptz, reply);
    end if;
    delay_s := (delays ->> least(waiting.attempts, jsonb_array_length(delays)) - 1)::double precision;
    if reply.status_code in (429, 503) or reply.status_code is null and reply.error = 'timeout' then
        delay_s := greatest(delay_s, 60);
    end if;
    -- A receiver may ask for more time, not for less, and not for ever. The jitter only adds, too.
    delay_s := greatest(delay_s, least(coalesce(reply.retry_after_s, 0), 2 * delay_s)) * (1 + random() * 0.2);
    due_at := clock_timestamp() + make_interval(secs => delay_s);
    status := case when due_at > waiting.give_up_at then 'failed' else 'pending' end;
    return row(waiting.delivery_id, waiting.endpoint_id, waiting.ordering_key, status, due_at, reply);
end
$$;
comment on function webhooks.judge is
'Whether a delivery is done, due again and when, or given up. 2xx is success, a redirect is not; 429, 503 and silence wait a minute at least.';

create function webhooks.note_health(endpoint_id text, met webhooks.outcome[])
returns void
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    health webhooks.endpoint_health;
    moment timestamptz := clock_timestamp();
    last_good timestamptz;
    bad bigint;
begin
    select max((m.reply).started_at + (m.reply).duration_ms * interval '1 ms') into last_good
    from unnest(met) as m
    where m.status = 'delivered';
    select count(*) into bad
    from unnest(met) as m
    where
        m.status <> 'delivered'
        and (last_good is null or (m.reply).started_at + (m.reply).duration_ms * interval '1 ms' > last_good);
    select h.* into health from webhooks.endpoint_health as h where h.endpoint_id = note_health.endpoint_id;
    if last_good is not null then
        health.failures := 0;
        health.failing_since := null;
        health.openings := 0;
        health.open_until := null;
    end if;
    health.failures := health.failures + bad::integer;
    if health.failures > 0 then
        health.failing_since := coalesce(health.failing_since, moment);
    end if;
    if
        bad > 0 and health.failures >= public.setting('webhooks.breaker_failures')::integer
        and (health.open_until is null or health.open_until <= moment)
    then
        health.open_until := moment + make_interval(secs => least(
            public.setting('webhooks.breaker_s')::double precision * 2 ^ least(health.openings, 20),
            public.setting('webhooks.breaker_max_s')::double precision
        ));
        health.openings := health.openings + 1;
    end if;
    update webhooks.endpoint_health as h
    set
        failures = health.failures, failing_since = health.failing_since, openings = health.openings,
        open_until = health.open_until
    where
        h.endpoint_id = note_health.endpoint_id
        and (h.failures, h.failing_since, h.openings, h.open_until)
        is distinct from (health.failures, health.failing_since, health.openings, health.open_until);

    if exists (select from unnest(met) as m where (m.reply).status_code = 410) then
        perform webhooks.disable(note_health.endpoint_id, 'gone');
    elsif
        health.failures >= public.setting('webhooks.breaker_failures')::integer
        and health.failing_since <= moment - make_interval(
            secs => public.setting('webhooks.disable_after_s')::double precision
        )
    then
        perform webhooks.disable(note_health.endpoint_id, 'failing');
    end if;
end
$$;
comment on function webhooks.note_health is
'Moves an endpoint''s breaker: a success closes it, failures in a row open it, twice as long each time. 410 or days of nothing but failures disable the endpoint.';

create function webhooks.disable(endpoint_id text, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    disabled webhooks.endpoints;
begin
    update webhooks.endpoints as e
    set status = 'disabled', disabled_reason = disable.reason, disabled_at = now(), updated_at = now()
    where e.endpoint_id = disable.endpoint_id and e.status = 'enabled'
    returning e.* into disabled;
    if not found then
        return;
    end if;
    perform webhooks.drop_queue(disable.endpoint_id);
    if disable.reason <> 'requested' then
        perform public.raise_alert(
            'webhook_endpoint_disabled', 'warning', disabled.endpoint_id, disabled.tenant_id, disabled.environment,
            jsonb_build_object('reason', disable.reason, 'url', disabled.url)
        );
    end if;
end
$$;
comment on function webhooks.disable is
'Nothing more is sent to this endpoint until it is enabled again; what waited counts as failed and can be replayed. When nobody asked for it, an alert tells the merchant.';

create function webhooks.drop_queue(endpoint_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    with dropped as (
        delete from webhooks.queue as q where q.endpoint_id = drop_queue.endpoint_id returning q.delivery_id
    )
    update webhooks.deliveries as d
    set status = 'failed', finished_at = now()
    from dropped
    where d.delivery_id = dropped.delivery_id and d.status = 'pending';
end
$$;
comment on function webhooks.drop_queue is 'Gives up everything that waits for an endpoint; its health row is locked.';

create function webhooks.poke_delivery()
returns boolean
language plpgsql
volatile
security definer -- callers may not read the queue
set search_path = ''
as $$
begin
    if not exists (
        select from webhooks.endpoint_health as h
        where
            (h.open_until is null or h.open_until <= now())
            and exists (
                select from webhooks.queue as q
                where q.endpoint_id = h.endpoint_id and q.is_head and q.due_at <= now()
            )
    ) then
        return false;
    end if;
    perform public.poke('webhook_delivery');
    return true;
end
$$;
comment on function webhooks.poke_delivery is 'Wakes the dispatcher when something is due. A cron task.';

create function webhooks.purge()
returns integer
language plpgsql
volatile
security definer -- callers may not write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    bodies_end timestamptz := now() - make_interval(secs => public.setting('webhooks.bodies_kept_s')::double precision);
    log_end timestamptz := now() - make_interval(secs => public.setting('webhooks.deliveries_kept_s')::double precision);
    purged integer;
    total integer := 0;
begin
    delete from webhooks.attempts as a
    where a.ctid = any(array(
        select o.ctid from webhooks.attempts as o where o.started_at < bodies_end order by o.started_at limit 5000
    ));
    get diagnostics purged = row_count;
    total := total + purged;
    delete from webhooks.messages as m
    where m.ctid = any(array(
        select o.ctid from webhooks.messages as o
        -- A replay of the last moment is over by then.
        where o.created_at < bodies_end - interval '2 days'
        order by o.created_at
        limit 5000
    ));
    get diagnostics purged = row_count;
    total := total + purged;
    delete from webhooks.deliveries as d
    where d.ctid = any(array(
        select o.ctid from webhooks.deliveries as o
        where o.created_at < log_end and o.status <> 'pending'
        order by o.created_at
        limit 5000
    ));
    get diagnostics purged = row_count;
    return total + purged;
end
$$;
comment on function webhooks.purge is
'Removes attempts and payloads after 30 days and deliveries after a year, up to 5,000 of each. A cron task.';

reset role;

-- sql/webhooks/functions/endpoints.sql

-- Webhook endpoints as merchants keep them. The function makes and seals the secret; SQL never sees one.

set role stalela_owner;

create function webhooks.endpoint_resource(endpoint webhooks.endpoints)
returns json
language plpgsql
stable
security definer -- callers may not read health
set search_path = ''
as $$
begin
    return (
        select row_to_json(shown)
        from (
            select
                endpoint.endpoint_id as id, 'webhook_endpoint' as object, endpoint.url, endpoint.event_types,
                endpoint.description, endpoint.status, endpoint.disabled_reason, endpoint.disabled_at,
                case when h.open_until > now() then h.open_until end as paused_until, h.failing_since,
                case when endpoint.former_until > now() then endpoint.former_until end as former_secret_until,
                endpoint.environment, endpoint.created_by, endpoint.created_at, endpoint.updated_at
            from webhooks.endpoint_health as h
            where h.endpoint_id = endpoint.endpoint_id
        ) as shown
    );
end
$$;
comment on function webhooks.endpoint_resource is 'The wire shape of an endpoint, without its secret.';

create function webhooks.check_filters(filters text[])
returns void
language plpgsql
stable
security definer -- callers may not read event types
set search_path = ''
as $$
declare
    place integer;
    wanted text;
begin
    if coalesce(cardinality(filters), 0) not between 1 and 50 then
        perform public.refuse_field('42262', '/event_types', 'An endpoint has 1 to 50 event types; * is all of them.');
    end if;
    for place, wanted in select (f.place - 1)::integer, f.filter from unnest(filters) with ordinality as f (filter, place) loop
        if
            wanted <> '*'
            and not exists (select from webhooks.event_types as k where k.type = wanted)
            -- A family may be announced before its first type.
            and not exists (
                select from public.event_subscriptions as s
                where s.destination = 'webhooks' and s.pattern = regexp_replace(wanted, '\.\*$', '.%')
            )
        then
            perform public.refuse_field(
                '42262', '/event_types/' || place, format('There is no event type %s; events.json lists them.', wanted)
            );
        end if;
    end loop;
end
$$;
comment on function webhooks.check_filters is 'A filter is a type that exists, a family of types as payment_intent.*, or *; 42262 names the one that is not.';

create function webhooks.visible_endpoint(endpoint_id text, scope text, bucket text)
returns webhooks.sight
language plpgsql
volatile
security definer -- callers may not read endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize(scope, bucket);
    endpoint webhooks.endpoints;
begin
    -- The lock keeps two changes of one endpoint, and the dispatcher's verdict on it, one after the other.
    if bucket = 'manage' then
        perform webhooks.lock_endpoints(array[visible_endpoint.endpoint_id]);
    end if;
    select e.* into endpoint
    from webhooks.endpoints as e
    where
        e.endpoint_id = visible_endpoint.endpoint_id and e.tenant_id = caller.tenant_id
        and e.environment = caller.environment and e.status <> 'deleted';
    if not found then
        perform public.refuse('40401', format('There is no webhook endpoint %s here.', visible_endpoint.endpoint_id));
    end if;
    return row(caller, endpoint);
end
$$;
comment on function webhooks.visible_endpoint is
'The caller and their endpoint, locked when it is to be managed; 40401 for anybody else''s.';

create function webhooks.create_endpoint(
    idempotency_key text, body_hash text, endpoint_id text, url text, event_types text[], description text,
    secret_sealed text, key_version integer
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    route constant text := 'POST /webhook-endpoints';
    caller public.caller := public.authorize('webhooks:write', 'manage');
    answer public.answer := public.claim_idempotency(
        caller, route, create_endpoint.idempotency_key, create_endpoint.body_hash
    );
    made webhooks.endpoints;
begin
    if answer.body is not null then
        return answer;
    end if;
    perform webhooks.check_filters(create_endpoint.event_types);
    if (
        select count(*) >= public.setting('webhooks.endpoints_max')::bigint
        from webhooks.endpoints as e
        where e.tenant_id = caller.tenant_id and e.environment = caller.environment and e.status <> 'deleted'
    ) then
        perform public.refuse('42254', format(
            'There are %s webhook endpoints already: delete one you do not use.', public.setting('webhooks.endpoints_max')
        ));
    end if;
    insert into webhooks.endpoints (
        endpoint_id, tenant_id, environment, url, event_types, description, secret_sealed, key_version, created_by
    ) values (
        create_endpoint.endpoint_id, caller.tenant_id, caller.environment, create_endpoint.url,
        create_endpoint.event_types, create_endpoint.description, create_endpoint.secret_sealed,
        create_endpoint.key_version, caller.actor
    )
    returning * into made;
    insert into webhooks.endpoint_health (endpoint_id, tenant_id, environment)
    values (made.endpoint_id, made.tenant_id, made.environment);
    perform public.audit(caller, 'webhook_endpoint.create', made.endpoint_id, jsonb_build_object('url', made.url));
    answer := public.reply(caller, 201, webhooks.endpoint_resource(made));
    perform public.remember_answer(caller, route, create_endpoint.idempotency_key, made.endpoint_id, answer);
    return answer;
end
$$;
comment on function webhooks.create_endpoint is
'An endpoint under the id its secret was sealed for. The stored answer has no secret: a replay never shows it again. 201; 42254 when there are too many.';

create function webhooks.list_endpoints()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read endpoints
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('webhooks:read', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', array(
        select webhooks.endpoint_resource(e)
        from webhooks.endpoints as e
        where e.tenant_id = caller.tenant_id and e.environment = caller.environment and e.status <> 'deleted'
        order by e.created_at
        limit 500
    )));
end
$$;
comment on function webhooks.list_endpoints is 'The endpoints of the caller''s environment, oldest first.';

create function webhooks.get_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read endpoints
set search_path = ''
as $$
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:read', 'read');
begin
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(seen.endpoint));
end
$$;
comment on function webhooks.get_endpoint is 'One endpoint of the caller.';

create function webhooks.update_endpoint(endpoint_id text, patch jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    filters text[] := array(select jsonb_array_elements_text(coalesce(patch -> 'event_types', '[]')));
    changed webhooks.endpoints;
begin
    if patch ? 'event_types' then
        perform webhooks.check_filters(filters);
    end if;
    update webhooks.endpoints as e
    set
        url = coalesce(patch ->> 'url', e.url),
        event_types = case when patch ? 'event_types' then filters else e.event_types end,
        description = case when patch ? 'description' then patch ->> 'description' else e.description end,
        updated_at = now()
    where e.endpoint_id = update_endpoint.endpoint_id
    returning e.* into changed;
    perform public.audit(
        seen.caller, 'webhook_endpoint.update', changed.endpoint_id,
        jsonb_build_object('url', changed.url, 'event_types', changed.event_types)
    );
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
end
$$;
comment on function webhooks.update_endpoint is 'Changes url, event_types or description; what is queued already goes to the new url.';

create function webhooks.rotate_secret(
    idempotency_key text, body_hash text, endpoint_id text, secret_sealed text, key_version integer
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    route constant text := 'POST /webhook-endpoints/{id}/rotate-secret';
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    answer public.answer := public.claim_idempotency(
        seen.caller, route, rotate_secret.idempotency_key, rotate_secret.body_hash || ':' || rotate_secret.endpoint_id
    );
    changed webhooks.endpoints;
begin
    if answer.body is not null then
        return answer;
    end if;
    update webhooks.endpoints as e
    set
        former_secret_sealed = e.secret_sealed, former_key_version = e.key_version,
        former_until = now() + make_interval(secs => public.setting('webhooks.overlap_s')::double precision),
        secret_sealed = rotate_secret.secret_sealed, key_version = rotate_secret.key_version,
        revision = e.revision + 1, updated_at = now()
    where e.endpoint_id = rotate_secret.endpoint_id
    returning e.* into changed;
    perform public.audit(seen.caller, 'webhook_endpoint.rotate_secret', changed.endpoint_id, '{}');
    answer := public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
    perform public.remember_answer(
        seen.caller, route, rotate_secret.idempotency_key, changed.endpoint_id, answer
    );
    return answer;
end
$$;
comment on function webhooks.rotate_secret is 'A new secret signs from now on, the former one beside it for 24 hours; one that was rotated out before ends now.';

create function webhooks.enable_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    changed webhooks.endpoints := seen.endpoint;
begin
    if changed.status = 'disabled' then
        update webhooks.endpoints as e
        set status = 'enabled', disabled_reason = null, disabled_at = null, updated_at = now()
        where e.endpoint_id = enable_endpoint.endpoint_id
        returning e.* into changed;
        update webhooks.endpoint_health as h
        set failures = 0, failing_since = null, openings = 0, open_until = null
        where h.endpoint_id = enable_endpoint.endpoint_id;
        perform public.resolve_alert('webhook_endpoint_disabled', changed.endpoint_id, 'enabled again');
        perform public.audit(seen.caller, 'webhook_endpoint.enable', changed.endpoint_id, '{}');
    end if;
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
end
$$;
comment on function webhooks.enable_endpoint is 'Sends to a disabled endpoint again, from the next event on; what it missed comes with a replay. Repeatable.';

create function webhooks.disable_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    changed webhooks.endpoints;
begin
    perform webhooks.disable(disable_endpoint.endpoint_id, 'requested');
    select e.* into changed from webhooks.endpoints as e where e.endpoint_id = disable_endpoint.endpoint_id;
    perform public.audit(seen.caller, 'webhook_endpoint.disable', changed.endpoint_id, '{}');
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
end
$$;
comment on function webhooks.disable_endpoint is 'Sends nothing more to it; events it misses are on record. Repeatable.';

create function webhooks.delete_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
begin
    update webhooks.endpoints as e
    set
        status = 'deleted', disabled_reason = null, disabled_at = null, secret_sealed = '', former_secret_sealed = null,
        former_key_version = null, former_until = null, updated_at = now()
    where e.endpoint_id = delete_endpoint.endpoint_id;
    perform webhooks.drop_queue(delete_endpoint.endpoint_id);
    perform public.resolve_alert('webhook_endpoint_disabled', delete_endpoint.endpoint_id, 'deleted');
    perform public.audit(seen.caller, 'webhook_endpoint.delete', delete_endpoint.endpoint_id, '{}');
    return public.reply(seen.caller, 200, json_build_object(
        'id', delete_endpoint.endpoint_id, 'object', 'webhook_endpoint', 'deleted', true
    ));
end
$$;
comment on function webhooks.delete_endpoint is 'Ends an endpoint and forgets its secrets; the log of its deliveries stays with us.';

create function webhooks.test_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    endpoint webhooks.endpoints := seen.endpoint;
    caller public.caller := seen.caller;
    made_id text := public.new_id('evt');
    type constant text := 'webhook_endpoint.test';
begin
    if endpoint.status <> 'enabled' then
        perform public.refuse(
            '40911', 'This endpoint is disabled: enable it first.',
            '{"current_state": "disabled", "allowed": ["enable"]}'
        );
    end if;
    perform webhooks.enqueue(array[row(
        made_id, caller.tenant_id, caller.environment, type, endpoint.endpoint_id,
        webhooks.payload(
            made_id, type, (select k.api_version from webhooks.event_types as k where k.type = 'webhook_endpoint.test'),
            caller.environment, now(), endpoint.endpoint_id, 0, '{}'
        ), now()
    )::webhooks.messages], endpoint.endpoint_id);
    perform public.poke('webhook_delivery');
    return public.reply(caller, 202, webhooks.delivery_resource((
        select d from webhooks.deliveries as d where d.endpoint_id = endpoint.endpoint_id and d.event_id = made_id
    )));
end
$$;
comment on function webhooks.test_endpoint is 'Queues an event of type webhook_endpoint.test for this endpoint, whatever its filters. 202 with the delivery.';

reset role;

-- sql/webhooks/functions/events.sql

-- The same events for merchants who ask instead of listening.

set role stalela_owner;

create function webhooks.list_events(after_event text, types text[], page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    after_xid xid8 := '0'::xid8;
    after_position bigint := 0::bigint;
    payloads text[];
    ids text[];
begin
    if after_event is not null then
        select e.xid, e.position into after_xid, after_position
        from (
            select i.xid, i.position from payments.intent_events as i
            where i.event_id = after_event and i.tenant_id = caller.tenant_id and i.environment = caller.environment
            union all
            select t.xid, t.position from payments.transfer_events as t
            where t.event_id = after_event and t.tenant_id = caller.tenant_id and t.environment = caller.environment
        ) as e;
        if not found then
            perform public.refuse('42262', format('after: there is no event %s here.', after_event),
                '{"errors": [{"pointer": "/after", "detail": "the id of an event you got", "in": "query"}]}');
        end if;
    end if;
    -- Transactions do not end in the order in which they began: what is older than every running one is complete, and
    -- only that is shown, in the order of the transactions. Nothing can appear before a reader's place afterwards.
    select
        array_agg(coalesce(m.payload, webhooks.payload(
            page.event_id, page.type, page.api_version, caller.environment, page.occurred_at, page.subject, page.seq,
            page.payload
        )) order by page.xid, page.position),
        array_agg(page.event_id order by page.xid, page.position)
    into payloads, ids
    from (
        (
            select i.event_id, i.type, k.api_version, i.occurred_at, i.payment_intent_id as subject, i.seq, i.payload,
                i.xid, i.position
            from payments.intent_events as i
            inner join webhooks.event_types as k on k.type = i.type
            where
                i.tenant_id = caller.tenant_id and i.environment = caller.environment
                and (i.xid, i.position) > (after_xid, after_position)
                and i.xid < pg_snapshot_xmin(pg_current_snapshot())
                and (types is null or webhooks.wants(types, i.type))
            order by i.xid, i.position
            limit page_size + 1
        )
        union all
        (
            select t.event_id, t.type, k.api_version, t.occurred_at, t.transfer_id, t.seq, t.payload, t.xid, t.position
            from payments.transfer_events as t
            inner join webhooks.event_types as k on k.type = t.type
            where
                t.tenant_id = caller.tenant_id and t.environment = caller.environment
                and (t.xid, t.position) > (after_xid, after_position)
                and t.xid < pg_snapshot_xmin(pg_current_snapshot())
                and (types is null or webhooks.wants(types, t.type))
            order by t.xid, t.position
            limit page_size + 1
        )
        order by xid, position
        limit page_size + 1
    ) as page
    left join webhooks.messages as m on m.event_id = page.event_id;

    return row(200, format(
        '{"data":[%s],"pagination":%s}',
        array_to_string(payloads[1:page_size], ','),
        json_build_object(
            'limit', page_size,
            'has_more', coalesce(cardinality(ids), 0) > page_size,
            'next_after', coalesce(ids[least(page_size, cardinality(ids))], after_event)
        )
    ), caller.rate);
end
$$;
comment on function webhooks.list_events is
'Events after one the caller names, oldest first, each byte for byte as its webhook. An event is shown once no older transaction can still add one before it, so a reader who goes on from the last misses none.';

create function webhooks.get_event(event_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    payload text;
begin
    select coalesce(m.payload, webhooks.payload(
        e.event_id, e.type, k.api_version, caller.environment, e.occurred_at, e.subject, e.seq, e.payload
    )) into payload
    from (
        select i.event_id, i.type, i.occurred_at, i.payment_intent_id as subject, i.seq, i.payload
        from payments.intent_events as i
        where
            i.event_id = get_event.event_id and i.tenant_id = caller.tenant_id
            and i.environment = caller.environment
        union all
        select t.event_id, t.type, t.occurred_at, t.transfer_id, t.seq, t.payload
        from payments.transfer_events as t
        where
            t.event_id = get_event.event_id and t.tenant_id = caller.tenant_id
            and t.environment = caller.environment
    ) as e
    inner join webhooks.event_types as k on k.type = e.type
    left join webhooks.messages as m on m.event_id = e.event_id;
    if payload is null then
        perform public.refuse('40401', format('There is no event %s here.', get_event.event_id));
    end if;
    return row(200, payload, caller.rate);
end
$$;
comment on function webhooks.get_event is 'One event, byte for byte as its webhook.';

reset role;

-- sql/webhooks/functions/fan_out.sql

-- From the outbox to the queue: one delivery per event and endpoint that wants it.

set role stalela_owner;

create function webhooks.fan_out(max_rows integer)
returns integer
language plpgsql
volatile
security definer -- callers may not read the outbox or write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    taken payments.delivery[];
    made webhooks.messages[];
begin
    select array_agg(d order by d.outbox_id) into taken from payments.take_events('webhooks', max_rows) as d;
    if taken is null then
        return 0;
    end if;
    perform payments.fail_event('webhooks', t.outbox_id, format('%s has no payload schema', t.event_type), true)
    from unnest(taken) as t
    where not exists (select from webhooks.event_types as k where k.type = t.event_type);

    select array_agg(
        row(
            t.event_id, t.tenant_id, t.environment, t.event_type, t.ordering_key,
            webhooks.payload(
                t.event_id, t.event_type, k.api_version, t.environment, t.occurred_at, t.ordering_key, t.seq, t.payload
            ), now()
        )::webhooks.messages
        order by t.outbox_id
    ) into made
    from unnest(taken) as t
    inner join webhooks.event_types as k on k.type = t.event_type
    where exists (
        select from webhooks.endpoints as e
        where
            e.tenant_id = t.tenant_id and e.environment = t.environment and e.status <> 'deleted'
            and webhooks.wants(e.event_types, t.event_type)
    );
    perform payments.fail_event('webhooks', t.outbox_id, 'the payload has 20 kB or more', true)
    from unnest(taken) as t
    inner join unnest(made) as m on m.event_id = t.event_id
    where octet_length(m.payload) >= 20000;
    if made is not null then
        perform webhooks.enqueue(made, null);
    end if;
    return cardinality(taken);
end
$$;
comment on function webhooks.fan_out is
'Takes a batch of events and queues one delivery per endpoint that wants it, in one transaction. What no merchant could read is parked for good. How many events it took.';

create function webhooks.enqueue(messages webhooks.messages[], only_endpoint text)
returns integer
language plpgsql
volatile
security definer -- callers may not write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    fresh bigint[];
begin
    perform webhooks.lock_endpoints(array(
        select e.endpoint_id
        from webhooks.endpoints as e
        where (e.tenant_id, e.environment) in (select m.tenant_id, m.environment from unnest(messages) as m)
    ));
    insert into webhooks.messages
    select m.* from unnest(messages) as m where octet_length(m.payload) < 20000
    on conflict (event_id) do nothing;
    with made as (
        insert into webhooks.deliveries as d (
            endpoint_id, tenant_id, environment, event_id, event_type, status, finished_at
        )
        select
            e.endpoint_id, m.tenant_id, m.environment, m.event_id, m.type,
            -- What a disabled endpoint missed is on record and can be replayed.
            case when e.status = 'enabled' then 'pending' else 'missed' end,
            case when e.status = 'enabled' then null else now() end
        from unnest(messages) with ordinality
            as m (event_id, tenant_id, environment, type, ordering_key, payload, created_at, place)
        inner join webhooks.endpoints as e on e.tenant_id = m.tenant_id and e.environment = m.environment
        where
            e.status <> 'deleted' and octet_length(m.payload) < 20000
            and case
                when only_endpoint is null then webhooks.wants(e.event_types, m.type)
                else e.endpoint_id = only_endpoint
            end
        order by m.place
        on conflict (endpoint_id, event_id) do nothing
        returning d.delivery_id, d.status
    )
    select array_agg(made.delivery_id) into fresh from made where made.status = 'pending';
    perform webhooks.line_up(fresh, '');
    return coalesce(cardinality(fresh), 0);
end
$$;
comment on function webhooks.enqueue is
'Keeps the bytes and makes a delivery per endpoint whose filters let the event through, or for the one named. An event that an endpoint has already is not made again.';

create function webhooks.lock_endpoints(endpoint_ids text[])
returns void
language plpgsql
volatile
security definer -- callers may not lock endpoints
set search_path = ''
as $$
begin
    perform from webhooks.endpoint_health as h
    where h.endpoint_id = any(lock_endpoints.endpoint_ids)
    order by h.endpoint_id
    for no key update;
end
$$;
comment on function webhooks.lock_endpoints is
'Until the end of the transaction nobody else moves the queues of these endpoints. In the order of the ids, so that two never wait for each other.';

create function webhooks.line_up(delivery_ids bigint[], lane text)
returns void
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into webhooks.queue (
        delivery_id, endpoint_id, tenant_id, environment, event_id, ordering_key, is_head, due_at, give_up_at
    )
    select
        d.delivery_id, d.endpoint_id, d.tenant_id, d.environment, d.event_id, lane || m.ordering_key,
        row_number() over (partition by d.endpoint_id, m.ordering_key order by d.delivery_id) = 1
        and not exists (
            select from webhooks.queue as q
            where q.endpoint_id = d.endpoint_id and q.ordering_key = lane || m.ordering_key
        ),
        now(), now() + make_interval(secs => public.setting('webhooks.patience_s')::double precision)
    from webhooks.deliveries as d
    inner join webhooks.messages as m on m.event_id = d.event_id
    where d.delivery_id = any(line_up.delivery_ids);
end
$$;
comment on function webhooks.line_up is
'Puts deliveries at the end of their streams; the endpoints are locked. lane: a prefix that keeps replays out of the way of what is new.';

reset role;

-- sql/webhooks/functions/payloads.sql

-- The bytes of an event, as webhooks and GET /events show them.

set role stalela_owner;

create function webhooks.payload(
    event_id text, type text, api_version text, environment text, occurred_at timestamptz, subject text, seq bigint,
    facts jsonb
)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    -- json_strip_nulls writes JSON anew without a space; what is unknown is absent.
    return json_strip_nulls(json_build_object(
        'id', event_id,
        'type', type,
        'api_version', api_version,
        'livemode', environment = 'production',
        'timestamp', to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'data', facts || jsonb_build_object(
            case split_part(subject, '_', 1)
                when 'pi' then 'payment_intent_id'
                when 'tr' then 'transfer_id'
                when 'whe' then 'webhook_endpoint_id'
                else 'subject_id'
            end, subject,
            'sequence', seq
        )
    ))::text;
end
$$;
comment on function webhooks.payload is
'An event as merchants get it: minified, nulls left out, the same bytes each time. subject: the id whose events `sequence` numbers.';

create function webhooks.wants(filters text[], type text)
returns boolean
language sql
immutable
set search_path = ''
as $$
    select filters && array['*', type, split_part(type, '.', 1) || '.*'];
$$;
comment on function webhooks.wants is 'Whether an endpoint''s filters let this type through: its name, family.* or *.';

reset role;

-- sql/directory/functions/lookup.sql

-- Aliases, institutions, calendars: what callers may look up, and how operators publish changes.

set role stalela_owner;

create function directory.open_lookup()
returns jsonb
language plpgsql
volatile
security definer -- functions may not read keys
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('payments:read', 'read');
begin
    return jsonb_build_object('version', directory.current_version(), 'headers', caller.rate);
end
$$;
comment on function directory.open_lookup is
'Whether the caller may look something up, and the version of the directory: what an instance remembers of an older one is void.';

create function directory.look_up(alias_type text, alias text, currency text)
returns jsonb
language plpgsql
stable
security definer -- functions may not read the directory
set search_path = ''
as $$
#variable_conflict use_column
declare
    kind directory.alias_types;
begin
    select t.* into kind from directory.alias_types as t where t.alias_type = look_up.alias_type;
    if not found then
        perform public.refuse_field('42262', '/alias_type', format('alias_type is one of %s.', (
            select string_agg(t.alias_type, ', ' order by t.alias_type) from directory.alias_types as t
        )));
    elsif look_up.alias !~ kind.pattern then
        perform public.refuse_field('42262', '/alias', format('This is no %s: %s.', kind.alias_type, kind.description));
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'rail', e.rail, 'institution_id', i.institution_id, 'institution', i.name, 'country', i.country,
            'matched', e.alias,
            'constraints', case when r.rail is not null then jsonb_build_object(
                'currencies', r.currencies, 'intents', r.intents,
                'min', public.format_amount(r.min_minor, coalesce(look_up.currency, r.currencies[1])),
                'max', public.format_amount(r.max_minor, coalesce(look_up.currency, r.currencies[1]))
            ) end,
            'fees', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'direction', f.direction, 'currency', f.currency, 'percent', (f.bps / 100.0)::numeric(8, 2)::text,
                    'fixed', public.format_amount(f.fixed_minor, f.currency)
                ) order by f.direction, f.currency), '[]')
                from directory.fees as f
                where
                    f.rail = e.rail and (look_up.currency is null or f.currency = look_up.currency)
                    and f.effective_from <= now() and (f.effective_to is null or f.effective_to > now())
            ),
            'opens_at', case when r.rail is not null then directory.next_opening(r.rail, now()) end,
            'version', e.version
        ) order by p.priority, e.institution_id), '[]')
        from directory.resolve(look_up.alias_type, look_up.alias, now()) as e
        inner join directory.institutions as i on i.institution_id = e.institution_id
        left join rails.rails as r
            on r.rail = e.rail and r.enabled and (look_up.currency is null or look_up.currency = any(r.currencies))
        left join directory.rail_facts as p on p.rail = e.rail
    );
end
$$;
comment on function directory.look_up is
'Whom an alias belongs to and how they are reached; an empty list when nobody knows it. 42262 when it is no such alias.';

create function directory.get_institution(institution_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read institutions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    shown json;
begin
    select json_build_object(
        'id', i.institution_id, 'object', 'institution', 'name', i.name, 'country', i.country, 'kind', i.kind,
        'status', i.status, 'rails', (
            select coalesce(json_agg(distinct e.rail), '[]')
            from directory.entries as e where e.institution_id = i.institution_id and e.rail is not null
        )
    )
    into shown
    from directory.institutions as i
    where i.institution_id = get_institution.institution_id;
    if not found then
        perform public.refuse('40401', format('There is no institution %s.', get_institution.institution_id));
    end if;
    return public.reply(caller, 200, shown);
end
$$;
comment on function directory.get_institution is 'An institution and the rails that reach it.';

create function directory.get_calendar(calendar text, from_day date, to_day date)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read calendars
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
begin
    perform from directory.calendars as c where c.calendar = get_calendar.calendar;
    if not found then
        perform public.refuse('40401', format('There is no calendar %s.', get_calendar.calendar));
    end if;
    return public.reply(caller, 200, json_build_object('calendar', get_calendar.calendar, 'data', (
        select coalesce(json_agg(json_build_object('day', c.day, 'description', c.description) order by c.day), '[]')
        from directory.calendars as c
        where c.calendar = get_calendar.calendar and c.day between get_calendar.from_day and get_calendar.to_day
    )));
end
$$;
comment on function directory.get_calendar is 'The public holidays of a country between two days.';

create function directory.publish(source text, sha256 text, effective_from timestamptz, entries jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write entries
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    next_version bigint;
    starts timestamptz := coalesce(publish.effective_from, now());
    odd record;
begin
    if starts < now() - interval '1 minute' then
        perform public.refuse_field('42262', '/effective_from', 'A version cannot begin in the past.');
    end if;
    select g.place, g.alias, t.alias_type, r.rail, g.rail as named_rail, i.institution_id, t.entry_pattern into odd
    from rows from (
        jsonb_to_recordset(publish.entries) as (alias_type text, alias text, institution_id text, rail text)
    ) with ordinality as g (alias_type, alias, institution_id, rail, place)
    left join directory.alias_types as t on t.alias_type = g.alias_type
    left join directory.institutions as i on i.institution_id = g.institution_id
    left join rails.rails as r on r.rail = g.rail
    where
        t.alias_type is null or i.institution_id is null or g.alias !~ t.entry_pattern
        or (g.rail is not null and r.rail is null)
    order by g.place
    limit 1;
    if found then
        perform public.refuse_field('42262', format('/entries/%s', odd.place - 1), case
            when odd.alias_type is null then 'There is no such alias_type.'
            when odd.institution_id is null then 'There is no such institution.'
            when odd.named_rail is not null and odd.rail is null then 'There is no such rail.'
            else 'This is no alias of its type.'
        end);
    end if;
    insert into directory.versions (source, sha256, entries, published_by)
    values (publish.source, publish.sha256, jsonb_array_length(publish.entries), caller.actor)
    returning version into next_version;
    -- What was true of these aliases ends where the new truth begins.
    update directory.entries as e
    set effective_to = starts
    from jsonb_to_recordset(publish.entries) as g (alias_type text, alias text)
    where
        e.alias_type = g.alias_type and e.alias = g.alias and e.effective_from < starts
        and (e.effective_to is null or e.effective_to > starts);
    insert into directory.entries (alias_type, alias, institution_id, rail, effective_from, version)
    select g.alias_type, g.alias, g.institution_id, g.rail, starts, next_version
    from jsonb_to_recordset(publish.entries) as g (alias_type text, alias text, institution_id text, rail text)
    on conflict on constraint entries_pkey do update
    set rail = excluded.rail, version = excluded.version, effective_to = null;
    perform public.audit(caller, 'directory.publish', next_version::text, jsonb_build_object(
        'source', publish.source, 'sha256', publish.sha256, 'entries', jsonb_array_length(publish.entries)
    ));
    perform public.poke('directory');
    return public.reply(caller, 201, json_build_object(
        'version', next_version, 'object', 'directory_version', 'source', publish.source, 'sha256', publish.sha256,
        'entries', jsonb_array_length(publish.entries), 'effective_from', starts
    ));
end
$$;
comment on function directory.publish is
'An operator publishes entries from a moment on: earlier ones of the same aliases end there and stay for the record. Audited; every instance forgets what it remembered. 201.';

reset role;

-- sql/directory/functions/routing.sql

-- Which rail a transfer takes, and why. Deterministic: the same facts give the same order.

set role stalela_owner;

create type directory.choice as (rail text, score numeric, reason text, candidates jsonb, version bigint);
comment on type directory.choice is 'The rail of a transfer, its score, why, and every candidate in order; the directory''s version.';

create function directory.rank(candidates jsonb, policy jsonb, hints text[])
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
    -- The dimension asked for weighs most, then those named as fallbacks, then whatever is left.
    dimensions text[] := array(
        select d.dimension
        from unnest(
            array[rank.policy ->> 'optimize_for']
            || array(select jsonb_array_elements_text(coalesce(rank.policy -> 'fallbacks', '[]')))
            || '{cost,speed,reliability}'::text[]
        ) with ordinality as d (dimension, place)
        where d.dimension in ('cost', 'speed', 'reliability')
        group by d.dimension
        order by min(d.place)
    );
begin
    return (
        with facts as (
            select
                c.value as candidate, c.value ->> 'rail' as rail,
                (c.value ->> 'cost_minor')::numeric as cost, (c.value ->> 'latency_ms')::numeric as speed,
                (c.value ->> 'failure_bps')::numeric as reliability,
                coalesce(array_position(rank.hints, c.value ->> 'rail'), 1000) as hint,
                (c.value ->> 'priority')::integer as priority
            from jsonb_array_elements(rank.candidates) as c (value)
        ),
        -- Of all three, less is better: the least is 1, the most 0; all equal are 1.
        normal as (
            select
                f.*,
                coalesce((max(f.cost) over all_of_them - f.cost)
                    / nullif(max(f.cost) over all_of_them - min(f.cost) over all_of_them, 0), 1) as n_cost,
                coalesce((max(f.speed) over all_of_them - f.speed)
                    / nullif(max(f.speed) over all_of_them - min(f.speed) over all_of_them, 0), 1) as n_speed,
                coalesce((max(f.reliability) over all_of_them - f.reliability)
                    / nullif(max(f.reliability) over all_of_them - min(f.reliability) over all_of_them, 0), 1) as n_reliability
            from facts as f
            window all_of_them as ()
        ),
        scored as (
            select
                n.*,
                case when rank.policy is not null then round(least(1, (
                    0.60 * directory.of_dimension(dimensions[1], n.n_cost, n.n_speed, n.n_reliability)
                    + 0.25 * directory.of_dimension(dimensions[2], n.n_cost, n.n_speed, n.n_reliability)
                    + 0.15 * directory.of_dimension(dimensions[3], n.n_cost, n.n_speed, n.n_reliability)
                    + case when coalesce(rank.policy -> 'preferred_methods', '[]') ? n.rail then 0.10 else 0 end
                ) * case when n.candidate ->> 'health' = 'deprioritised' then 0.5 else 1 end), 6) end as score
            from normal as n
        )
        select coalesce(jsonb_agg(
            s.candidate || jsonb_build_object('score', s.score::text)
            -- Without a policy the directory's own order holds, after what the caller prefers.
            order by s.score desc nulls last, s.hint, s.priority, s.rail
        ), '[]')
        from scored as s
    );
end
$$;
comment on function directory.rank is
'Orders candidates {rail, cost_minor, latency_ms, failure_bps, health, priority}: 0.60 of the dimension asked for, 0.25 and 0.15 of the others, 0.10 if preferred, half if deprioritised, 1 at most. Ties: hints, priority, name. Scores are text, to six decimals.';

create function directory.of_dimension(dimension text, cost numeric, speed numeric, reliability numeric)
returns numeric
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case dimension when 'cost' then cost when 'speed' then speed else reliability end;
end
$$;
comment on function directory.of_dimension is 'One of three normalised facts, by name.';

create function directory.next_opening(rail text, at_time timestamptz)
returns timestamptz
language plpgsql
stable
security definer -- callers may not read windows
set search_path = ''
as $$
#variable_conflict use_column
declare
    next_at timestamptz;
begin
    if not exists (select from directory.windows as w where w.rail = next_opening.rail) then
        return next_opening.at_time;
    end if;
    -- Of the next three weeks, which no row of holidays is longer than.
    select min(greatest(o.opens_at, next_opening.at_time)) into next_at
    from (
        select
            (d.day + w.opens) at time zone w.timezone as opens_at,
            (d.day + w.closes) at time zone w.timezone as closes_at
        from directory.windows as w
        cross join lateral (
            select (next_opening.at_time at time zone w.timezone)::date + n as day from generate_series(0, 21) as n
        ) as d
        where
            w.rail = next_opening.rail and extract(isodow from d.day) = w.weekday
            and not exists (
                select from directory.calendars as c where c.calendar = w.calendar and c.day = d.day
            )
    ) as o
    where o.closes_at > next_opening.at_time;
    return next_at;
end
$$;
comment on function directory.next_opening is
'When a rail takes orders from a moment on: that moment itself while it is open; null when it does not within three weeks.';

create function directory.resolve(alias_type text, alias text, at_time timestamptz)
returns setof directory.entries
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
as $$
#variable_conflict use_column
declare
    kind directory.alias_types;
begin
    select t.* into kind from directory.alias_types as t where t.alias_type = resolve.alias_type;
    return query
    select e.*
    from directory.entries as e
    inner join directory.institutions as i on i.institution_id = e.institution_id and i.status = 'active'
    where
        e.alias_type = resolve.alias_type
        and e.effective_from <= resolve.at_time and (e.effective_to is null or e.effective_to > resolve.at_time)
        and e.alias = (
            select n.alias
            from directory.entries as n
            where
                n.alias_type = resolve.alias_type
                and n.effective_from <= resolve.at_time
                and (n.effective_to is null or n.effective_to > resolve.at_time)
                and n.alias = any(case
                    when kind.matching = 'exact' then array[resolve.alias]
                    else array(select left(resolve.alias, l) from generate_series(1, length(resolve.alias)) as l)
                end)
            order by length(n.alias) desc
            limit 1
        );
end
$$;
comment on function directory.resolve is 'The entries of an alias in force at a moment; of prefixes the longest that fits.';

create function directory.candidates_of(
    tenant_id text, environment text, intent text, amount_minor bigint, currency text, hints text[], policy jsonb,
    reached text[]
)
returns jsonb
language plpgsql
stable
security definer -- callers may not read rails and credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    way text := case candidates_of.intent when 'PUSH' then 'out' else 'in' end;
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'rail', r.rail,
            'cost_minor', ceil(candidates_of.amount_minor * (coalesce(e.bps, 0) + f.fx_spread_bps) / 10000.0)
                + coalesce(e.fixed_minor, 0),
            'latency_ms', f.latency_ms, 'failure_bps', f.failure_bps, 'health', f.health, 'priority', f.priority,
            'excluded', case
                when not r.enabled then 'disabled'
                when f.health = 'blocked' then 'unhealthy'
                when coalesce(candidates_of.policy -> 'excluded_rails', '[]') ? r.rail then 'policy'
                when not candidates_of.intent = any(r.intents) then 'intent'
                when not candidates_of.currency = any(r.currencies) then 'currency'
                when
                    way = 'out'
                    and candidates_of.amount_minor not between r.payout_min_minor and r.payout_max_minor then 'amount'
                when
                    way = 'in'
                    and candidates_of.amount_minor not between r.min_minor and r.max_minor then 'amount'
                when not exists (
                    select from rails.credentials as c
                    where
                        c.tenant_id = candidates_of.tenant_id and c.environment = candidates_of.environment
                        and c.rail = r.rail
                ) then 'credentials'
                -- A number keeps its prefix when it changes its operator: who names the rail knows better.
                when
                    candidates_of.reached is not null and not r.rail = any(candidates_of.reached)
                    and not coalesce(r.rail = any(candidates_of.hints), false) then 'not_reached'
                when directory.next_opening(r.rail, now()) is distinct from now() then 'closed'
            end
        ) order by r.rail), '[]')
        from rails.rails as r
        inner join directory.rail_facts as f on f.rail = r.rail
        left join directory.fees as e
            on e.rail = r.rail and e.direction = way and e.currency = candidates_of.currency
            and e.effective_from <= now() and (e.effective_to is null or e.effective_to > now())
    );
end
$$;
comment on function directory.candidates_of is
'Every rail with its facts for this transfer, and the first rule that excludes it. reached: the rails of the alias, null when nobody looked.';

create function directory.choose(
    tenant_id text, environment text, intent text, amount_minor bigint, currency text, hints text[], alias_type text,
    alias text, policy jsonb
)
returns directory.choice
language plpgsql
stable
security definer -- callers may not read the directory
set search_path = ''
as $$
#variable_conflict use_column
declare
    reached text[];
    looked_at jsonb;
    ranked jsonb;
    left_out jsonb;
    opens_at timestamptz;
begin
    if choose.alias is not null then
        select coalesce(array_agg(distinct e.rail) filter (where e.rail is not null), '{}') into reached
        from directory.resolve(choose.alias_type, choose.alias, now()) as e;
    end if;
    looked_at := directory.candidates_of(
        choose.tenant_id, choose.environment, choose.intent, choose.amount_minor, choose.currency, choose.hints,
        choose.policy, reached
    );
    select
        directory.rank(coalesce(jsonb_agg(c.value - 'excluded') filter (where c.value ->> 'excluded' is null), '[]'),
            choose.policy, choose.hints),
        coalesce(jsonb_agg(c.value order by c.value ->> 'rail') filter (where c.value ->> 'excluded' is not null), '[]')
    into ranked, left_out
    from jsonb_array_elements(looked_at) as c (value);

    if jsonb_array_length(ranked) = 0 then
        select min(directory.next_opening(c.value ->> 'rail', now())) into opens_at
        from jsonb_array_elements(left_out) as c (value)
        where c.value ->> 'excluded' = 'closed';
        if opens_at is not null then
            perform public.refuse('50201', format('The rail is closed until %s.', to_char(
                opens_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
            )), jsonb_build_object('retry_after', ceil(extract(epoch from opens_at - now()))::integer));
        end if;
        perform public.refuse('42202', 'No rail reaches this.', jsonb_build_object('candidates', (
            select coalesce(jsonb_agg(jsonb_build_object('rail', c.value -> 'rail', 'excluded', c.value -> 'excluded')), '[]')
            from jsonb_array_elements(left_out) as c (value)
        )));
    end if;
    return row(
        ranked -> 0 ->> 'rail', (ranked -> 0 ->> 'score')::numeric,
        case
            when jsonb_array_length(ranked) = 1 then 'only_candidate'
            when choose.policy is not null then 'best_score'
            when ranked -> 0 ->> 'rail' = any(choose.hints) then 'preferred'
            else 'directory_priority'
        end,
        ranked || left_out, directory.current_version()
    )::directory.choice;
end
$$;
comment on function directory.choose is
'The rail of a transfer that names none. policy: {optimize_for, fallbacks, preferred_methods, excluded_rails}, null for the directory''s own order. 42202 no rail reaches it and why, 50201 its rail is closed and until when.';

create function directory.current_version()
returns bigint
language plpgsql
stable
security definer -- callers may not read versions
set search_path = ''
as $$
begin
    return (select coalesce(max(v.version), 0) from directory.versions as v);
end
$$;
comment on function directory.current_version is 'The version of the directory in force; 0 is what the house ships with.';

create function directory.explain(transfer payments.transfers, choice directory.choice, policy jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write explanations
set search_path = ''
as $$
begin
    insert into directory.route_explanations (
        transfer_id, tenant_id, environment, rail, score, reason, policy, candidates, version
    ) values (
        transfer.transfer_id, transfer.tenant_id, transfer.environment, choice.rail, choice.score, choice.reason,
        explain.policy, choice.candidates, choice.version
    );
end
$$;
comment on function directory.explain is 'Keeps why a transfer took its rail, in its transaction.';

create function directory.get_route(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read explanations
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    shown json;
begin
    select json_build_object(
        'transfer_id', t.transfer_id, 'object', 'route', 'rail', t.rail, 'score', e.score::text,
        'reason', coalesce(e.reason, case when t.purpose = 'refund' then 'way_of_the_payment' else 'named_by_caller' end),
        'fallback_used', false, 'policy', e.policy, 'candidates', coalesce(e.candidates, '[]'),
        'directory_version', e.version, 'created_at', coalesce(e.created_at, t.created_at)
    )
    into shown
    from payments.transfers as t
    left join directory.route_explanations as e on e.transfer_id = t.transfer_id
    where
        t.transfer_id = get_route.transfer_id and t.tenant_id = caller.tenant_id and t.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', get_route.transfer_id));
    end if;
    return public.reply(caller, 200, shown);
end
$$;
comment on function directory.get_route is 'Why a transfer took its rail; one whose caller named it needs no other reason.';

create function directory.rank_routes(
    intent text, amount_minor bigint, currency text, hints text[], alias_type text, alias text, policy jsonb
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the directory
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('payments:read', 'read');
    choice directory.choice := directory.choose(
        caller.tenant_id, caller.environment, intent, amount_minor, currency, hints, alias_type, alias, policy
    );
begin
    return public.reply(caller, 200, json_build_object(
        'object', 'route', 'rail', choice.rail, 'score', choice.score::text, 'reason', choice.reason,
        'candidates', choice.candidates, 'directory_version', choice.version
    ));
end
$$;
comment on function directory.rank_routes is 'Which rail a transfer would take now, and why; nothing is begun.';

reset role;

-- sql/compliance/functions/limits.sql

-- What a tenant may move: tiers, amounts, corridors, velocity. Called before money is asked for or sent.

set role stalela_owner;

create type compliance.standing as (
    tier compliance.tiers, limits compliance.limits[], corridor text, minor_per_usd bigint, is_frozen boolean,
    must_be_clear boolean
);
comment on type compliance.standing is
'What holds for one transfer of a tenant: its tier, the limits of that tier, how far the money goes, what a dollar is worth, whether its party is frozen or must have been screened.';

create function compliance.standing_of(
    tenant_id text, environment text, direction text, rail text, currency text, party_hash text
)
returns compliance.standing
language plpgsql
stable
security definer -- callers may not read tiers
set search_path = ''
as $$
#variable_conflict use_column
declare
    found_standing compliance.standing;
begin
    select
        r,
        array(
            select l from compliance.limits as l
            where
                l.tier = r.tier
                and (l.direction is null or l.direction = standing_of.direction)
                and (l.rail is null or l.rail = standing_of.rail)
        ),
        case
            when f.country = t.country then 'domestic'
            when exists (
                select from compliance.country_regions as here
                inner join compliance.country_regions as there on there.region = here.region
                where here.country = t.country and there.country = f.country
            ) then 'regional'
            else 'international'
        end,
        (select x.minor_per_usd from compliance.limit_rates as x where x.currency = standing_of.currency),
        exists (
            select from compliance.freezes as z
            where
                z.party_hashes @> array[standing_of.party_hash] and z.lifted_at is null
                and z.environment = standing_of.environment
                and (z.tenant_id is null or z.tenant_id = standing_of.tenant_id)
        ),
        coalesce(standing_of.direction = any(p.screening), false)
    into found_standing
    from public.tenants as t
    left join compliance.profiles as p on p.tenant_id = t.tenant_id and p.environment = standing_of.environment
    left join directory.rail_facts as f on f.rail = standing_of.rail
    inner join compliance.tiers as r
        on r.tier = coalesce(p.tier, public.setting('compliance.tier_' || standing_of.environment) #>> '{}')
    where t.tenant_id = standing_of.tenant_id;
    return found_standing;
end
$$;
comment on function compliance.standing_of is 'Everything that one transfer of this tenant is measured with, in one statement.';

create function compliance.admit(
    tenant_id text, environment text, direction text, rail text, amount_minor bigint, currency text, party_hash text,
    transfer_id text default null
)
returns void
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    standing compliance.standing := compliance.standing_of(
        admit.tenant_id, admit.environment, admit.direction, admit.rail, admit.currency, admit.party_hash
    );
    limits compliance.limits[] := standing.limits;
    limit_row compliance.limits;
    usd_micros bigint;
begin
    if standing.is_frozen then
        perform public.refuse(
            '42201', 'Payments with this party are stopped.', '{"reason": "frozen"}'
        );
    elsif not admit.direction = any((standing.tier).directions) then
        perform public.refuse('42204', format(
            'Tier %s does not %s.', (standing.tier).tier, case admit.direction when 'out' then 'pay out' else 'collect' end
        ), jsonb_build_object('tier', (standing.tier).tier, 'limit', 'direction'));
    elsif not standing.corridor = any((standing.tier).corridors) then
        perform public.refuse('42204', format(
            'Tier %s takes no %s payments.', (standing.tier).tier, standing.corridor
        ), jsonb_build_object('tier', (standing.tier).tier, 'limit', 'corridor'));
    end if;
    if standing.must_be_clear then
        perform compliance.require_clear(admit.tenant_id, admit.environment, admit.party_hash, admit.transfer_id);
    end if;
    if cardinality(limits) = 0 then
        return;
    elsif standing.minor_per_usd is null then
        perform public.refuse('42206', format(
            'Tier %s has limits, and what %s is worth is not known here.', (standing.tier).tier, admit.currency
        ), jsonb_build_object('tier', (standing.tier).tier, 'limit', 'currency'));
    end if;

    usd_micros := ceil(admit.amount_minor * 1000000.0 / standing.minor_per_usd)::bigint;
    foreach limit_row in array limits loop
        if
            limit_row.subject = 'transfer'
            and (limit_row.corridor is null or limit_row.corridor = standing.corridor)
            and usd_micros > limit_row.max_usd_minor * 10000
        then
            perform compliance.refuse_amount(limit_row, standing, admit.currency);
        end if;
    end loop;
    if exists (select from unnest(limits) as l where l.subject <> 'transfer') then
        perform compliance.reserve(
            admit.tenant_id, admit.environment, admit.direction, admit.party_hash, usd_micros, standing, admit.currency
        );
    end if;
end
$$;
comment on function compliance.admit is
'May this transfer go ahead? Silence is yes, and counts it. 42201 frozen or flagged party, 42203 nobody screened it, 50301 nobody can say, 42204 the tier does not do this or not this much, 42206 a window or corridor is full: which, and when there is room. direction: in (to the tenant) or out. transfer_id, when it exists already, keeps on which screening it was let through. One read for a tenant without windows, else a lock, a sum and an upsert.';

create function compliance.refuse_amount(limit_row compliance.limits, standing compliance.standing, currency text)
returns void
language plpgsql
volatile
security definer -- callers may not read currencies
set search_path = ''
as $$
declare
    tier text := (standing.tier).tier;
    most text := public.format_amount(limit_row.max_usd_minor * standing.minor_per_usd / 100, currency);
    facts jsonb := jsonb_build_object('tier', tier, 'limit', limit_row.limit_name, 'maximum', most, 'errors',
        jsonb_build_array(jsonb_build_object('pointer', '/amount', 'detail', format('at most %s %s', most, currency))));
begin
    if limit_row.corridor is not null then
        perform public.refuse('42206', format(
            'Tier %s takes %s payments of at most %s %s.', tier, limit_row.corridor, most, currency
        ), facts);
    end if;
    perform public.refuse('42204', format('Tier %s takes payments of at most %s %s.', tier, most, currency), facts);
end
$$;
comment on function compliance.refuse_amount is
'One transfer is too much: 42206 for a corridor''s maximum, 42204 for the tier''s own. maximum is about that many of the currency.';

create function compliance.reserve(
    tenant_id text, environment text, direction text, party_hash text, usd_micros bigint,
    standing compliance.standing, currency text
)
returns void
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    used record;
begin
    -- Whoever reserves for this tenant at the same moment waits until we have committed, then sees our rows.
    perform pg_catalog.pg_advisory_xact_lock(
        hashtext('compliance.reserve'), hashtext(reserve.environment || reserve.tenant_id)
    );
    for used in
        select l.max_count, l.max_usd_minor, l as limit_row, u.transfers, u.usd_micros
        from unnest((reserve.standing).limits) as l
        -- compliance.usage, written out: this is on a payment's way.
        cross join lateral (
            select coalesce(sum(b.transfers), 0) as transfers, coalesce(sum(b.usd_micros), 0) as usd_micros
            from compliance.buckets_of(
                reserve.tenant_id, reserve.environment, l.direction,
                case when l.subject = 'party' then reserve.party_hash end, l.window_s
            ) as b
        ) as u
        where l.subject = 'tenant' or (l.subject = 'party' and reserve.party_hash is not null)
        order by l.limit_name
    loop
        if used.transfers + 1 > used.max_count or used.usd_micros + reserve.usd_micros > used.max_usd_minor * 10000 then
            perform compliance.refuse_window(
                used.limit_row, reserve.tenant_id, reserve.environment, reserve.party_hash, reserve.usd_micros,
                reserve.standing, reserve.currency
            );
        end if;
    end loop;

    insert into compliance.tenant_velocity as v (
        tenant_id, environment, direction, span_s, bucket_at, transfers, usd_micros
    )
    select
        reserve.tenant_id, reserve.environment, reserve.direction, s.span_s, compliance.bucket(now(), s.span_s), 1,
        reserve.usd_micros
    from unnest('{300,3600,86400}'::integer[]) as s (span_s)
    on conflict on constraint tenant_velocity_pkey do update
    set transfers = v.transfers + 1, usd_micros = v.usd_micros + excluded.usd_micros;
    if reserve.party_hash is not null then
        insert into compliance.party_velocity as v (
            tenant_id, environment, party_hash, direction, span_s, bucket_at, transfers, usd_micros
        )
        select
            reserve.tenant_id, reserve.environment, reserve.party_hash, reserve.direction, s.span_s,
            compliance.bucket(now(), s.span_s), 1, reserve.usd_micros
        from unnest('{300,3600,86400}'::integer[]) as s (span_s)
        on conflict on constraint party_velocity_pkey do update
        set transfers = v.transfers + 1, usd_micros = v.usd_micros + excluded.usd_micros;
    end if;
end
$$;
comment on function compliance.reserve is
'Counts one transfer of a limited tenant, or refuses it (42206). Two at once never pass a limit together.';

create function compliance.bucket(at_time timestamptz, span_s integer)
returns timestamptz
language plpgsql
immutable
set search_path = ''
as $$
begin
    return date_bin(make_interval(secs => span_s), at_time, '2000-01-01 00:00:00+00');
end
$$;
comment on function compliance.bucket is 'When the bucket of that many seconds began in which a moment lies.';

create function compliance.usage(tenant_id text, environment text, direction text, party_hash text, window_s integer)
returns table (transfers bigint, usd_micros bigint)
language plpgsql
stable
security definer -- callers may not read counters
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select coalesce(sum(b.transfers), 0)::bigint, coalesce(sum(b.usd_micros), 0)::bigint
    from compliance.buckets_of(
        usage.tenant_id, usage.environment, usage.direction, usage.party_hash, usage.window_s
    ) as b;
end
$$;
comment on function compliance.usage is 'How much of a window is used, of a party or (null) of the tenant itself; direction null for both.';

create function compliance.buckets_of(
    tenant_id text, environment text, direction text, party_hash text, window_s integer
)
returns table (bucket_at timestamptz, transfers bigint, usd_micros bigint)
language plpgsql
stable
security definer -- callers may not read counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    width_s integer := case buckets_of.window_s when 3600 then 300 when 86400 then 3600 else 86400 end;
    -- A bucket counts until its last moment has left the window.
    since timestamptz := now() - make_interval(secs => buckets_of.window_s + width_s);
    directions text[] := case when buckets_of.direction is null then '{in,out}' else array[buckets_of.direction] end;
begin
    if buckets_of.party_hash is null then
        return query
        select v.bucket_at, v.transfers, v.usd_micros
        from compliance.tenant_velocity as v
        where
            v.tenant_id = buckets_of.tenant_id and v.environment = buckets_of.environment
            and v.direction = any(directions) and v.span_s = width_s and v.bucket_at > since;
    else
        return query
        select v.bucket_at, v.transfers, v.usd_micros
        from compliance.party_velocity as v
        where
            v.tenant_id = buckets_of.tenant_id and v.environment = buckets_of.environment
            and v.party_hash = buckets_of.party_hash
            and v.direction = any(directions) and v.span_s = width_s and v.bucket_at > since;
    end if;
    return query
    select compliance.bucket(r.admitted_at, width_s), r.transfers::bigint, r.transfers * r.usd_micros
    from compliance.releases as r
    where
        r.tenant_id = buckets_of.tenant_id and r.environment = buckets_of.environment
        and r.direction = any(directions)
        and (buckets_of.party_hash is null or r.party_hash = buckets_of.party_hash)
        and compliance.bucket(r.admitted_at, width_s) > since;
end
$$;
comment on function compliance.buckets_of is 'The buckets of a window, and what was given back to them since.';

create function compliance.refuse_window(
    limit_row compliance.limits, tenant_id text, environment text, party_hash text, usd_micros bigint,
    standing compliance.standing, currency text
)
returns void
language plpgsql
volatile
security definer -- callers may not read counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    tier text := (standing.tier).tier;
    hours integer := limit_row.window_s / 3600;
    span_s integer := case limit_row.window_s when 3600 then 300 when 86400 then 3600 else 86400 end;
    most text;
    room_at timestamptz;
begin
    most := case
        when limit_row.max_count is not null then format('%s payments', limit_row.max_count)
        else format('%s %s', public.format_amount(
            limit_row.max_usd_minor * standing.minor_per_usd / 100, refuse_window.currency
        ), refuse_window.currency)
    end;
    -- The oldest buckets leave first: the first moment at which what is left leaves room for this one.
    select min(b.bucket_at) + make_interval(secs => limit_row.window_s + span_s) into room_at
    from (
        select
            g.bucket_at,
            sum(g.transfers) over (order by g.bucket_at desc) - g.transfers as transfers_after,
            sum(g.usd_micros) over (order by g.bucket_at desc) - g.usd_micros as usd_micros_after
        from (
            select c.bucket_at, sum(c.transfers) as transfers, sum(c.usd_micros) as usd_micros
            from compliance.buckets_of(
                refuse_window.tenant_id, refuse_window.environment, (refuse_window.limit_row).direction,
                case when (refuse_window.limit_row).subject = 'party' then refuse_window.party_hash end,
                (refuse_window.limit_row).window_s
            ) as c
            group by c.bucket_at
        ) as g
    ) as b
    where
        b.transfers_after + 1 <= coalesce((refuse_window.limit_row).max_count, b.transfers_after + 1)
        and b.usd_micros_after + refuse_window.usd_micros
        <= coalesce((refuse_window.limit_row).max_usd_minor * 10000, b.usd_micros_after + refuse_window.usd_micros);
    perform public.refuse(
        '42206',
        format(
            'Tier %s takes at most %s in %s %s.%s', tier, most,
            case hours when 1 then 'an hour' when 24 then '24 hours' else '30 days' end,
            case when limit_row.subject = 'party' then 'with one party' else 'in all' end,
            case when room_at is null then ' This one alone is more than that.'
                else format(' There is room again at %s.', to_char(room_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
            end
        ),
        jsonb_strip_nulls(jsonb_build_object(
            'tier', tier, 'limit', limit_row.limit_name, 'maximum', most,
            'room_at', to_char(room_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'retry_after', ceil(extract(epoch from room_at - clock_timestamp()))::integer
        ))
    );
end
$$;
comment on function compliance.refuse_window is 'A window is full: 42206 with the limit''s name and when there is room again; without that, never.';

create function compliance.note_outcome()
returns trigger
language plpgsql
volatile
security definer -- whoever moves a transfer may not write counters
set search_path = ''
as $$
begin
    insert into compliance.releases (tenant_id, environment, direction, party_hash, admitted_at, transfers, usd_micros)
    select
        new.tenant_id, new.environment, case when new.intent = 'PUSH' then 'out' else 'in' end,
        case when new.intent = 'PUSH' then new.payee_hash else new.payer_hash end,
        new.created_at, case when new.state = 'FAILED' then -1 else 1 end,
        ceil(new.amount_minor * 1000000.0 / x.minor_per_usd)
    from compliance.limit_rates as x
    where
        x.currency = new.currency
        -- What goes back, and what came by itself, was never measured.
        and new.purpose not in ('refund', 'c2b')
        -- Most tenants have no windows, so nothing was reserved.
        and exists (
            select from compliance.tenant_velocity as v
            where v.tenant_id = new.tenant_id and v.environment = new.environment
        );
    return null;
end
$$;
comment on function compliance.note_outcome is
'Gives back what a failed transfer had reserved, and takes it again when it succeeded late after all.';

create function compliance.fold_releases()
returns integer
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    place record;
    folded integer := 0;
    here integer;
begin
    for place in
        select distinct r.tenant_id, r.environment from compliance.releases as r order by 1, 2 limit 200
    loop
        perform pg_catalog.pg_advisory_xact_lock(
            hashtext('compliance.reserve'), hashtext(place.environment || place.tenant_id)
        );
        with taken as (
            delete from compliance.releases as r
            where r.tenant_id = place.tenant_id and r.environment = place.environment
            returning r.direction, r.party_hash, r.admitted_at, r.transfers, r.usd_micros
        ),
        changes as (
            select
                t.direction, t.party_hash, s.span_s, compliance.bucket(t.admitted_at, s.span_s) as bucket_at,
                grouping(t.party_hash) as is_all,
                sum(t.transfers) as transfers, sum(t.transfers * t.usd_micros) as usd_micros
            from taken as t
            cross join (values (300), (3600), (86400)) as s (span_s)
            -- Each party for itself, and all of them for the tenant.
            group by grouping sets ((1, 2, 3, 4), (1, 3, 4))
        ),
        of_tenant as (
            -- Never below nothing: a limit may be younger than the transfer that gives its share back.
            update compliance.tenant_velocity as v
            set
                transfers = greatest(0, v.transfers + c.transfers),
                usd_micros = greatest(0, v.usd_micros + c.usd_micros)
            from changes as c
            where
                v.tenant_id = place.tenant_id and v.environment = place.environment and c.is_all = 1
                and v.direction = c.direction and v.span_s = c.span_s and v.bucket_at = c.bucket_at
        ),
        of_parties as (
            update compliance.party_velocity as v
            set
                transfers = greatest(0, v.transfers + c.transfers),
                usd_micros = greatest(0, v.usd_micros + c.usd_micros)
            from changes as c
            where
                v.tenant_id = place.tenant_id and v.environment = place.environment and c.is_all = 0
                and v.party_hash = c.party_hash
                and v.direction = c.direction and v.span_s = c.span_s and v.bucket_at = c.bucket_at
        )
        select count(*)::integer into here from taken;
        folded := folded + here;
    end loop;
    return folded;
end
$$;
comment on function compliance.fold_releases is 'Takes what was given back into the counters, tenant by tenant under its lock. A cron task.';

create function compliance.purge_velocity()
returns integer
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
declare
    purged integer;
    others integer;
begin
    delete from compliance.tenant_velocity as v
    where v.ctid = any(array(
        select o.ctid from compliance.tenant_velocity as o
        where
            o.bucket_at < now() - interval '2 hours'
            and o.bucket_at < now() - case o.span_s
                when 300 then interval '2 hours' when 3600 then interval '26 hours' else interval '32 days'
            end
        limit 20000
        for update skip locked
    ));
    get diagnostics purged = row_count;
    delete from compliance.party_velocity as v
    where v.ctid = any(array(
        select o.ctid from compliance.party_velocity as o
        where
            o.bucket_at < now() - interval '2 hours'
            and o.bucket_at < now() - case o.span_s
                when 300 then interval '2 hours' when 3600 then interval '26 hours' else interval '32 days'
            end
        limit 20000
        for update skip locked
    ));
    get diagnostics others = row_count;
    return purged + others;
end
$$;
comment on function compliance.purge_velocity is 'Removes up to 20,000 counters of each kind that no window reaches any more. A cron task.';

reset role;

-- sql/compliance/functions/lists.sql

-- Sanctions lists: imported by an operator, read into memory by the compliance function, watched for age.

set role stalela_owner;

create function compliance.staff()
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys and memberships
set search_path = ''
as $$
declare
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    ourselves public.caller;
begin
    if headers ? 'x-stalela-user-id' or headers ? 'x-stalela-key-hash' then
        return public.authorize('platform:operate', 'manage');
    end if;
    -- The function on its own behalf: it has checked the platform's own token.
    ourselves.actor := 'system';
    ourselves.rate := '{}';
    return ourselves;
end
$$;
comment on function compliance.staff is 'An operator of the platform, or the platform itself; everybody else is refused with 40311.';

create function compliance.list_resource(source text)
returns json
language plpgsql
stable
security definer -- callers may not read lists
set search_path = ''
as $$
begin
    return (
        select json_build_object(
            'source', l.source, 'object', 'sanctions_list', 'name', l.name, 'required', l.required,
            'version', l.version, 'entries', l.entries, 'checked_at', l.checked_at,
            'stale', l.checked_at is null
                or l.checked_at < now() - make_interval(secs => (public.setting('compliance.stale_after_s'))::integer),
            'sha256', v.sha256, 'published_on', v.published_on
        )
        from compliance.lists as l
        left join compliance.list_versions as v on v.version = l.version
        where l.source = list_resource.source
    );
end
$$;
comment on function compliance.list_resource is 'The wire shape of a list: how old it is, how many are on it.';

create function compliance.show_lists()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read lists
set search_path = ''
as $$
declare
    caller public.caller := compliance.staff();
begin
    return public.reply(caller, 200, json_build_object('data', (
        select json_agg(compliance.list_resource(l.source) order by l.source) from compliance.lists as l
    )));
end
$$;
comment on function compliance.show_lists is 'The lists and their age, for operators.';

create function compliance.import_list(
    source text, sha256 text, published_on text, entries jsonb, may_shrink boolean
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write lists
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := compliance.staff();
    was compliance.lists;
    next_version bigint;
    added integer;
    changed integer;
    removed integer;
    given integer := jsonb_array_length(import_list.entries);
begin
    select l.* into was from compliance.lists as l where l.source = import_list.source for update;
    if not found then
        perform public.refuse('40401', format('There is no list %s.', import_list.source));
    elsif not may_shrink and given < was.entries / 2 then
        perform public.refuse('42262', format(
            'This file has %s entries, the list in force %s: nothing was imported. Send may_shrink=true if that is right.',
            given, was.entries
        ), '{"errors": [{"pointer": "", "detail": "less than half of the entries in force"}]}');
    end if;
    select
        (count(*) filter (where e.ref is null))::integer,
        (count(*) filter (
            where (e.kind, e.names, e.born, e.countries, e.documents)
            is distinct from (g.kind, g.names, g.born, g.countries, g.documents) and e.ref is not null
        ))::integer
    into added, changed
    from compliance.given_entries(import_list.entries) as g
    left join compliance.list_entries as e on e.source = import_list.source and e.ref = g.ref;
    select count(*)::integer into removed
    from compliance.list_entries as e
    where
        e.source = import_list.source
        and not exists (select from compliance.given_entries(import_list.entries) as g where g.ref = e.ref);

    if added + changed + removed > 0 then
        insert into compliance.list_versions (
            source, sha256, published_on, entries, added, changed, removed, imported_by
        ) values (
            import_list.source, import_list.sha256, import_list.published_on, given, added, changed, removed, caller.actor
        )
        returning version into next_version;
        delete from compliance.list_entries as e
        where
            e.source = import_list.source
            and not exists (select from compliance.given_entries(import_list.entries) as g where g.ref = e.ref);
        insert into compliance.list_entries as e (source, ref, since, kind, names, born, countries, documents)
        select import_list.source, g.ref, next_version, g.kind, g.names, g.born, g.countries, g.documents
        from compliance.given_entries(import_list.entries) as g
        on conflict on constraint list_entries_pkey do update
        set
            since = excluded.since, kind = excluded.kind, names = excluded.names, born = excluded.born,
            countries = excluded.countries, documents = excluded.documents
        where
            (e.kind, e.names, e.born, e.countries, e.documents)
            is distinct from (excluded.kind, excluded.names, excluded.born, excluded.countries, excluded.documents);
    end if;
    update compliance.lists as l
    set version = coalesce(next_version, l.version), entries = given, checked_at = now()
    where l.source = import_list.source;
    perform public.resolve_alert('sanctions_list_stale', import_list.source, 'imported');
    perform public.audit(caller, 'sanctions_list.import', import_list.source, jsonb_build_object(
        'sha256', import_list.sha256, 'entries', given, 'added', added, 'changed', changed, 'removed', removed
    ));
    -- Everybody known is compared with what is new.
    perform public.poke('compliance');
    return public.reply(caller, 200, json_build_object(
        'list', compliance.list_resource(import_list.source),
        'added', added, 'changed', changed, 'removed', removed
    ));
end
$$;
comment on function compliance.import_list is
'Replaces a list by the entries of one file, in one transaction; what reads as before keeps its age. A file with less than half of the entries is refused (42262) unless may_shrink. The same file again changes nothing but checked_at.';

create function compliance.given_entries(entries jsonb)
returns table (ref text, kind text, names text[], born text[], countries text[], documents text[])
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Files repeat an entry now and then: the last one stands.
    return query
    select distinct on (g.ref) g.ref, g.kind, g.names, g.born, g.countries, g.documents
    from rows from (
        jsonb_to_recordset(given_entries.entries)
        as (ref text, kind text, names text[], born text[], countries text[], documents text[])
    ) with ordinality as g (ref, kind, names, born, countries, documents, place)
    order by g.ref, g.place desc;
end
$$;
comment on function compliance.given_entries is 'The entries of an import as rows, each reference once.';

create function compliance.index_state()
returns jsonb
language plpgsql
stable
security definer -- functions may not read lists
set search_path = ''
as $$
begin
    return (
        select jsonb_build_object(
            'version', coalesce(max(l.version), 0),
            'hold_from', public.setting('compliance.hold_from'),
            'deny_from', public.setting('compliance.deny_from'),
            'usable', compliance.lists_usable(),
            'required', exists (select from compliance.profiles as p where p.screening <> '{}')
        )
        from compliance.lists as l
    );
end
$$;
comment on function compliance.index_state is
'What the compliance function must know to compare: the version of the index, the thresholds, whether the lists are fresh enough, whether any tenant needs them.';

create function compliance.lists_usable()
returns boolean
language plpgsql
stable
security definer -- callers may not read lists
set search_path = ''
as $$
begin
    return not exists (
        select from compliance.lists as l
        where
            l.required
            and coalesce(
                l.checked_at < now() - make_interval(secs => (public.setting('compliance.unusable_after_s'))::integer), true
            )
    );
end
$$;
comment on function compliance.lists_usable is 'Whether every required list was imported within compliance.unusable_after_s; otherwise nobody is cleared.';

create function compliance.read_index(after_source text, after_ref text, page_size integer)
returns jsonb
language plpgsql
stable
security definer -- functions may not read lists
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(page) order by page.source, page.ref), '[]')
        from (
            select e.*
            from compliance.list_entries as e
            where (e.source, e.ref) > (coalesce(read_index.after_source, ''), coalesce(read_index.after_ref, ''))
            order by e.source, e.ref
            limit read_index.page_size
        ) as page
    );
end
$$;
comment on function compliance.read_index is 'A page of the listed, by source and reference.';

create function compliance.watch_lists()
returns integer
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
declare
    old compliance.lists;
    stale integer := 0;
begin
    for old in
        select l.* from compliance.lists as l
        where
            l.required
            -- Nobody needs a list while nobody is screened.
            and exists (select from compliance.profiles as p where p.screening <> '{}')
            and coalesce(
                l.checked_at < now() - make_interval(secs => (public.setting('compliance.stale_after_s'))::integer), true
            )
        order by l.source
    loop
        perform public.raise_alert(
            'sanctions_list_stale', 'critical', old.source, null, null,
            jsonb_build_object('checked_at', old.checked_at, 'version', old.version)
        );
        stale := stale + 1;
    end loop;
    return stale;
end
$$;
comment on function compliance.watch_lists is 'Raises an alert for every required list that nobody imported for a day. A cron task.';

reset role;

-- sql/compliance/functions/people.sql

-- What operators decide about tenants and parties: tiers, screening, freezes. What tenants see of it.

set role stalela_owner;

create function compliance.profile_resource(tenant_id text, environment text)
returns json
language plpgsql
stable
security definer -- callers may not read tiers
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select json_build_object(
            'object', 'compliance_profile', 'tenant_id', profile_resource.tenant_id,
            'environment', profile_resource.environment, 'tier', r.tier, 'label', r.label,
            'directions', r.directions, 'corridors', r.corridors, 'screening', coalesce(p.screening, '{}'),
            'limits', (
                select coalesce(json_agg(json_build_object(
                    'limit', l.limit_name, 'subject', l.subject, 'direction', l.direction, 'rail', l.rail,
                    'corridor', l.corridor, 'window_s', l.window_s, 'max_count', l.max_count,
                    'max_usd', public.format_amount(l.max_usd_minor, 'USD'),
                    'used_count', case when l.subject = 'tenant' then u.transfers end,
                    'used_usd', case when l.subject = 'tenant' then public.format_amount(u.usd_micros / 10000, 'USD') end
                ) order by l.limit_name), '[]')
                from compliance.limits as l
                left join lateral compliance.usage(
                    profile_resource.tenant_id, profile_resource.environment, l.direction, null,
                    coalesce(l.window_s, 3600)
                ) as u on l.subject = 'tenant'
                where l.tier = r.tier
            )
        )
        from compliance.tiers as r
        left join compliance.profiles as p
            on p.tenant_id = profile_resource.tenant_id and p.environment = profile_resource.environment
        where
            r.tier = coalesce(
                (
                    select o.tier from compliance.profiles as o
                    where o.tenant_id = profile_resource.tenant_id and o.environment = profile_resource.environment
                ),
                public.setting('compliance.tier_' || profile_resource.environment) #>> '{}'
            )
    );
end
$$;
comment on function compliance.profile_resource is
'The wire shape of a tenant''s tier and limits, with how full the windows of the tenant itself are; limits in US dollars, as they are compared.';

create function compliance.get_limits()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read tiers
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, compliance.profile_resource(caller.tenant_id, caller.environment));
end
$$;
comment on function compliance.get_limits is 'The caller''s own tier and limits.';

create function compliance.set_profile(
    tenant_id text, environment text, tier text, screening text[], reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write profiles
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    owner public.caller := caller;
begin
    perform from public.tenants as t where t.tenant_id = set_profile.tenant_id;
    if not found then
        perform public.refuse('40401', format('There is no organisation %s.', set_profile.tenant_id));
    end if;
    perform from compliance.tiers as r where r.tier = set_profile.tier;
    if not found then
        perform public.refuse_field('42262', '/tier', format('tier is one of %s.', (
            select string_agg(r.tier, ', ' order by r.tier) from compliance.tiers as r
        )));
    end if;
    insert into compliance.profiles as p (tenant_id, environment, tier, screening, reason, changed_by)
    values (
        set_profile.tenant_id, set_profile.environment, set_profile.tier, set_profile.screening, set_profile.reason,
        caller.actor
    )
    on conflict on constraint profiles_pkey do update
    set
        tier = excluded.tier, screening = excluded.screening, reason = excluded.reason,
        changed_by = excluded.changed_by, updated_at = now();
    owner.tenant_id := set_profile.tenant_id;
    owner.environment := set_profile.environment;
    perform public.audit(owner, 'compliance.profile', set_profile.tenant_id, jsonb_build_object(
        'tier', set_profile.tier, 'screening', set_profile.screening, 'reason', set_profile.reason
    ));
    return public.reply(caller, 200, compliance.profile_resource(set_profile.tenant_id, set_profile.environment));
end
$$;
comment on function compliance.set_profile is
'An operator gives a tenant a tier and says whose parties are screened, with a reason; audited. In force for the next transfer.';

create function compliance.freeze_resource(frozen compliance.freezes)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', frozen.freeze_id, 'object', 'freeze', 'tenant_id', frozen.tenant_id, 'environment', frozen.environment,
        'party', frozen.party_masked, 'reason', frozen.reason, 'frozen_by', frozen.frozen_by,
        'created_at', frozen.created_at, 'status', case
            when frozen.lifted_at is not null then 'lifted' when frozen.lift_requested_by is not null then 'lift_requested'
            else 'frozen'
        end,
        'lift_requested_by', frozen.lift_requested_by, 'lift_reason', frozen.lift_reason,
        'lifted_by', frozen.lifted_by, 'lifted_at', frozen.lifted_at
    );
end
$$;
comment on function compliance.freeze_resource is 'The wire shape of a freeze.';

create function compliance.freeze_party(
    tenant_id text, environment text, party_hashes text[], party_masked text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write freezes
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    frozen compliance.freezes;
begin
    if freeze_party.tenant_id is not null and not exists (
        select from public.tenants as t where t.tenant_id = freeze_party.tenant_id
    ) then
        perform public.refuse('40401', format('There is no organisation %s.', freeze_party.tenant_id));
    end if;
    insert into compliance.freezes (
        freeze_id, tenant_id, environment, party_hashes, party_masked, reason, frozen_by
    ) values (
        public.new_id('frz'), freeze_party.tenant_id, freeze_party.environment, freeze_party.party_hashes,
        freeze_party.party_masked, freeze_party.reason, caller.actor
    )
    returning * into frozen;
    perform public.audit(caller, 'party.freeze', frozen.freeze_id, jsonb_build_object('reason', freeze_party.reason));
    return public.reply(caller, 201, compliance.freeze_resource(frozen));
end
$$;
comment on function compliance.freeze_party is 'An operator stops all payments with a party, of one tenant or of all, at once; audited.';

create function compliance.list_freezes(page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read freezes
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('platform:operate', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', (
        select coalesce(json_agg(page.shown order by page.created_at desc), '[]')
        from (
            select compliance.freeze_resource(z) as shown, z.created_at
            from compliance.freezes as z
            order by z.created_at desc
            limit list_freezes.page_size
        ) as page
    )));
end
$$;
comment on function compliance.list_freezes is 'Freezes, newest first, for operators.';

create function compliance.lift_freeze(freeze_id text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write freezes
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    frozen compliance.freezes;
begin
    select z.* into frozen from compliance.freezes as z where z.freeze_id = lift_freeze.freeze_id for update;
    if not found then
        perform public.refuse('40401', format('There is no freeze %s.', lift_freeze.freeze_id));
    elsif frozen.lifted_at is not null then
        perform public.refuse('40911', 'This freeze is lifted already.', '{"current_state": "lifted", "allowed": []}');
    elsif frozen.lift_requested_by = caller.actor then
        perform public.refuse('40911', 'Another operator must lift it: you asked for it.',
            '{"current_state": "lift_requested", "allowed": []}');
    end if;
    update compliance.freezes as z
    set
        lift_requested_by = coalesce(z.lift_requested_by, caller.actor),
        lift_reason = coalesce(z.lift_reason, lift_freeze.reason),
        lifted_by = case when z.lift_requested_by is not null then caller.actor end,
        lifted_at = case when z.lift_requested_by is not null then now() end
    where z.freeze_id = lift_freeze.freeze_id
    returning z.* into frozen;
    perform public.audit(
        caller, case when frozen.lifted_at is null then 'party.ask_to_lift' else 'party.lift' end, frozen.freeze_id,
        jsonb_build_object('reason', lift_freeze.reason)
    );
    return public.reply(caller, 200, compliance.freeze_resource(frozen));
end
$$;
comment on function compliance.lift_freeze is 'Lifting takes two operators: the first asks, another one lifts. Audited.';

reset role;

-- sql/compliance/functions/screening.sql

-- Screening: who is compared with the lists, what came of it, what a transfer needs.

set role stalela_owner;

create function compliance.party_resource(party compliance.parties, show_matches boolean)
returns json
language plpgsql
stable
security definer -- callers may not read results
set search_path = ''
as $$
begin
    return (
        select json_build_object(
            'id', party.party_id, 'object', 'party', 'reference', party.reference, 'name', party.name_masked,
            'phone', party.phone_masked, 'payment_intent_id', party.payment_intent_id,
            'decision', coalesce(party.decision, 'pending'), 'score', party.score,
            'list_version', party.list_version, 'screened_at', party.screened_at,
            -- Whoever is told what was found could tell the party.
            'matches', case when show_matches then coalesce((
                select r.matches from compliance.screening_results as r
                where r.party_id = (party_resource.party).party_id
                order by r.created_at desc, r.screening_id desc
                limit 1
            ), '[]') end,
            'environment', party.environment, 'created_at', party.created_at
        )
    );
end
$$;
comment on function compliance.party_resource is 'The wire shape of a party, personal values masked; what matched is for operators only.';

create function compliance.put_party(
    reference text, profile_sealed text, name_masked text, phone_masked text, party_hashes text[], fingerprint text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:write', 'write');
    known text;
begin
    select k.party_id into known
    from compliance.party_keys as k
    where
        k.tenant_id = caller.tenant_id and k.environment = caller.environment
        and k.party_hash = any(put_party.party_hashes)
    limit 1;
    if known is null then
        known := public.new_id('pty');
        insert into compliance.parties (
            party_id, tenant_id, environment, reference, profile_sealed, name_masked, phone_masked, fingerprint
        ) values (
            known, caller.tenant_id, caller.environment, put_party.reference, put_party.profile_sealed,
            put_party.name_masked, put_party.phone_masked, put_party.fingerprint
        );
        begin
            insert into compliance.party_keys (tenant_id, environment, party_hash, party_id)
            select caller.tenant_id, caller.environment, h, known from unnest(put_party.party_hashes) as h;
        exception when unique_violation then
            perform public.refuse('40904', 'Somebody is registering this party at this moment.', '{"retry_after": 1}');
        end;
    else
        -- Another name is another party on the same phone: what was decided about the old one is over.
        update compliance.parties as p
        set
            reference = coalesce(put_party.reference, p.reference), profile_sealed = put_party.profile_sealed,
            name_masked = put_party.name_masked, phone_masked = put_party.phone_masked,
            decision = case when p.fingerprint = put_party.fingerprint then p.decision end,
            score = case when p.fingerprint = put_party.fingerprint then p.score end,
            list_version = case when p.fingerprint = put_party.fingerprint then p.list_version end,
            fingerprint = put_party.fingerprint, updated_at = now()
        where p.party_id = known;
    end if;
    return jsonb_build_object(
        'party_id', known, 'tenant_id', caller.tenant_id, 'environment', caller.environment, 'actor', caller.actor,
        'exempt', compliance.exempt_entries(caller.tenant_id, caller.environment, put_party.fingerprint),
        'headers', caller.rate
    );
end
$$;
comment on function compliance.put_party is
'Registers whom a tenant pays or is paid by, or updates them, found by the hash of their phone. The screening follows; a new name makes the party pending again.';

create function compliance.exempt_entries(tenant_id text, environment text, fingerprint text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read exemptions
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(x.source || ':' || x.ref), '[]')
        from compliance.exemptions as x
        where
            x.tenant_id = exempt_entries.tenant_id and x.environment = exempt_entries.environment
            and x.fingerprint = exempt_entries.fingerprint
    );
end
$$;
comment on function compliance.exempt_entries is 'The entries ("source:ref") that this party of this tenant is known not to be.';

create function compliance.screening_context(tenant_id text, environment text, fingerprints text[])
returns jsonb
language plpgsql
volatile
security definer -- callers may not read exemptions
set search_path = ''
as $$
declare
    caller public.caller := compliance.staff();
begin
    return jsonb_build_object('actor', caller.actor, 'headers', caller.rate, 'exempt', (
        select coalesce(jsonb_object_agg(f, compliance.exempt_entries(
            screening_context.tenant_id, screening_context.environment, f
        )), '{}')
        from unnest(screening_context.fingerprints) as f
    ));
end
$$;
comment on function compliance.screening_context is 'Before a screening on request: who asks (operators and ourselves), and which matches are known to be false.';

create function compliance.keep_result(result jsonb)
returns text
language plpgsql
volatile
security definer -- callers may not write results
set search_path = ''
as $$
declare
    kept text := public.new_id('scr');
begin
    insert into compliance.screening_results (
        screening_id, tenant_id, environment, party_id, transfer_id, role, fingerprint, decision, score, matches,
        list_version, screened_by
    ) values (
        kept, result ->> 'tenant_id', result ->> 'environment', result ->> 'party_id', result ->> 'transfer_id',
        result ->> 'role', result ->> 'fingerprint', result ->> 'decision', (result ->> 'score')::integer,
        result -> 'matches', (result ->> 'list_version')::bigint, result ->> 'screened_by'
    );
    return kept;
end
$$;
comment on function compliance.keep_result is 'Appends one screening result; its id.';

create function compliance.record_screenings(results jsonb, headers jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write results
set search_path = ''
as $$
declare
    result jsonb;
    kept jsonb := jsonb_build_array();
begin
    for result in select r.value from jsonb_array_elements(record_screenings.results) as r (value) loop
        kept := kept || jsonb_build_array(jsonb_build_object(
            'screening_id', compliance.keep_result(result), 'role', result -> 'role', 'decision', result -> 'decision',
            'score', result -> 'score', 'matches', result -> 'matches'
        ));
    end loop;
    return row(200, (
        select json_build_object(
            'object', 'screening',
            -- All parties must pass.
            'decision', case
                when bool_or(r ->> 'decision' = 'deny') then 'deny'
                when bool_or(r ->> 'decision' = 'hold') then 'hold'
                else 'clear'
            end,
            'score', max((r ->> 'score')::integer),
            'list_version', min((r ->> 'list_version')::bigint),
            'parties', kept
        )
        from jsonb_array_elements(record_screenings.results) as r
    )::text, record_screenings.headers)::public.answer;
end
$$;
comment on function compliance.record_screenings is 'Keeps what a screening on request found, and answers it: the worst of its parties decides.';

create function compliance.record_party(result jsonb, show_matches boolean, headers jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    was compliance.parties;
    party compliance.parties;
begin
    select p.* into was from compliance.parties as p where p.party_id = record_party.result ->> 'party_id' for update;
    if not found then
        perform public.refuse('40401', 'There is no such party.');
    end if;
    perform compliance.keep_result(
        result || jsonb_build_object('tenant_id', was.tenant_id, 'environment', was.environment)
    );
    update compliance.parties as p
    set
        decision = record_party.result ->> 'decision', score = (record_party.result ->> 'score')::integer,
        list_version = (record_party.result ->> 'list_version')::bigint, screened_at = now(), lease_until = null,
        fingerprint = record_party.result ->> 'fingerprint',
        name_masked = coalesce(p.name_masked, record_party.result ->> 'name_masked'), updated_at = now()
    where
        p.party_id = was.party_id
        -- The party was given another name meanwhile: that one is still to be screened.
        and coalesce(p.fingerprint, record_party.result ->> 'fingerprint') = record_party.result ->> 'fingerprint'
    returning p.* into party;
    if not found then
        party := was;
    elsif party.decision <> 'clear' and was.decision is distinct from party.decision then
        perform public.raise_alert(
            'party_flagged', 'critical', party.party_id, party.tenant_id, party.environment,
            jsonb_build_object('decision', party.decision, 'score', party.score, 'list_version', party.list_version)
        );
    elsif party.decision = 'clear' then
        perform public.resolve_alert('party_flagged', party.party_id, 'screened clear');
    end if;
    return row(200, compliance.party_resource(party, show_matches)::text, headers)::public.answer;
end
$$;
comment on function compliance.record_party is
'Keeps what the screening of a party found and puts its decision in force; a party that was not flagged before raises an alert.';

create function compliance.claim_parties(list_version bigint, max_rows integer)
returns jsonb
language plpgsql
volatile
security definer -- functions may not read parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    claimed jsonb;
begin
    with due as (
        select p.party_id
        from compliance.parties as p
        where
            (p.list_version is null or p.list_version < claim_parties.list_version)
            and (p.lease_until is null or p.lease_until <= now())
        order by p.list_version nulls first, p.party_id
        limit claim_parties.max_rows
        for update skip locked
    ),
    leased as (
        update compliance.parties as p
        set lease_until = now() + interval '60 seconds'
        from due as d
        where p.party_id = d.party_id
        returning p.*
    )
    select coalesce(jsonb_agg(jsonb_build_object(
        'party_id', l.party_id, 'tenant_id', l.tenant_id, 'environment', l.environment,
        'is_customer', l.payment_intent_id is not null, 'profile_sealed', l.profile_sealed,
        -- Who was clear is compared with younger entries only; all others with everything.
        'clear_up_to', case when l.decision = 'clear' then l.list_version end,
        'exempt', compliance.exempt_entries(l.tenant_id, l.environment, l.fingerprint)
    )), '[]')
    into claimed
    from leased as l;
    return claimed;
end
$$;
comment on function compliance.claim_parties is
'Parties that wait for their first screening or for one against this version of the lists, under a lease of a minute.';

create function compliance.poke_screening()
returns boolean
language plpgsql
volatile
security definer -- callers may not read parties
set search_path = ''
as $$
declare
    current_version bigint := (compliance.index_state() ->> 'version')::bigint;
begin
    if current_version = 0 or not exists (
        select from compliance.parties as p where p.list_version is null or p.list_version < current_version
    ) then
        return false;
    end if;
    perform public.poke('compliance');
    return true;
end
$$;
comment on function compliance.poke_screening is 'Wakes the compliance function when a party is due. A cron task.';

create function compliance.refresh_clear(party_ids text[], list_version bigint)
returns integer
language plpgsql
volatile
security definer -- callers may not write parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    refreshed integer;
begin
    update compliance.parties as p
    set list_version = refresh_clear.list_version, screened_at = now(), lease_until = null
    where
        p.party_id = any(refresh_clear.party_ids) and p.decision = 'clear'
        and p.list_version <= refresh_clear.list_version;
    get diagnostics refreshed = row_count;
    return refreshed;
end
$$;
comment on function compliance.refresh_clear is
'Parties that were clear and match nothing that is new are clear under the newer list too: no result of its own, the version says it.';

create function compliance.get_party(party_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    is_operator boolean := public.holds_scope(caller.scopes, 'platform:operate');
    party compliance.parties;
begin
    select p.* into party
    from compliance.parties as p
    where
        p.party_id = get_party.party_id
        and (is_operator or (p.tenant_id = caller.tenant_id and p.environment = caller.environment));
    if not found then
        perform public.refuse('40401', format('There is no party %s here.', get_party.party_id));
    end if;
    return public.reply(caller, 200, compliance.party_resource(party, is_operator));
end
$$;
comment on function compliance.get_party is 'A party as its tenant sees it, or as an operator does.';

create function compliance.exempt_party(party_id text, entries jsonb, reason text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write exemptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    owner public.caller := caller;
    party compliance.parties;
begin
    select p.* into party from compliance.parties as p where p.party_id = exempt_party.party_id for update;
    if not found then
        perform public.refuse('40401', format('There is no party %s here.', exempt_party.party_id));
    elsif party.decision is null or party.decision = 'clear' then
        perform public.refuse('40911', 'This party was not flagged.', jsonb_build_object(
            'current_state', coalesce(party.decision, 'pending'), 'allowed', '[]'::jsonb
        ));
    elsif exists (
        select from jsonb_to_recordset(exempt_party.entries) as g (source text, ref text)
        where not exists (
            select from compliance.screening_results as r
            where
                r.party_id = party.party_id
                and r.matches @> jsonb_build_array(jsonb_build_object('source', g.source, 'ref', g.ref))
        )
    ) then
        perform public.refuse_field('42262', '/entries', 'Only entries that this party was matched with can be cleared.');
    end if;
    insert into compliance.exemptions (tenant_id, environment, fingerprint, source, ref, reason, cleared_by)
    select party.tenant_id, party.environment, party.fingerprint, g.source, g.ref, exempt_party.reason, caller.actor
    from jsonb_to_recordset(exempt_party.entries) as g (source text, ref text)
    on conflict on constraint exemptions_pkey do nothing;
    owner.tenant_id := party.tenant_id;
    owner.environment := party.environment;
    perform public.audit(owner, 'party.clear', party.party_id, jsonb_build_object(
        'entries', exempt_party.entries, 'reason', exempt_party.reason
    ));
    return jsonb_build_object(
        'party_id', party.party_id, 'tenant_id', party.tenant_id, 'environment', party.environment,
        'is_customer', party.payment_intent_id is not null, 'profile_sealed', party.profile_sealed,
        'actor', caller.actor, 'headers', caller.rate,
        'exempt', compliance.exempt_entries(party.tenant_id, party.environment, party.fingerprint)
    );
end
$$;
comment on function compliance.exempt_party is
'An operator says that a flagged party is not those entries, and why; audited. It is screened again at once.';

create function compliance.list_screenings(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read results
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    is_operator boolean := public.holds_scope(caller.scopes, 'platform:operate');
begin
    perform from payments.transfers as t
    where
        t.transfer_id = list_screenings.transfer_id
        and (is_operator or (t.tenant_id = caller.tenant_id and t.environment = caller.environment));
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', list_screenings.transfer_id));
    end if;
    return public.reply(caller, 200, json_build_object(
        'transfer_id', list_screenings.transfer_id,
        'data', (
            select coalesce(json_agg(row_to_json(s) order by s.screened_at), '[]')
            from (
                select
                    c.party_id, 'party' as role, c.decision, c.score, c.list_version, c.screened_at,
                    case when is_operator then '[]'::jsonb end as matches
                from compliance.transfer_clearances as c
                where c.transfer_id = list_screenings.transfer_id
                union all
                select r.party_id, r.role, r.decision, r.score, r.list_version, r.created_at,
                    case when is_operator then r.matches end
                from compliance.screening_results as r
                where r.transfer_id = list_screenings.transfer_id
            ) as s
        )
    ));
end
$$;
comment on function compliance.list_screenings is 'On what a transfer was let through, and every screening that named it.';

create function compliance.require_clear(
    tenant_id text, environment text, party_hash text, transfer_id text
)
returns void
language plpgsql
volatile
security definer -- callers may not read parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    party compliance.parties;
    current_version bigint := (compliance.index_state() ->> 'version')::bigint;
begin
    select p.* into party
    from compliance.party_keys as k
    inner join compliance.parties as p on p.party_id = k.party_id
    where
        k.tenant_id = require_clear.tenant_id and k.environment = require_clear.environment
        and k.party_hash = require_clear.party_hash;
    if not found then
        -- Nobody registered this phone; the intent may name its customer.
        select p.* into party
        from payments.transfers as t
        inner join compliance.parties as p on p.payment_intent_id = t.payment_intent_id
        where t.transfer_id = require_clear.transfer_id;
    end if;
    if party.party_id is null then
        perform public.refuse('42203', 'The parties of this organisation are screened: register this one with POST /functions/v1/compliance/parties first.');
    elsif party.decision = 'deny' then
        perform public.refuse('42201', 'Payments with this party are not possible.', jsonb_build_object(
            'reason', 'watchlist_hit', 'party_id', party.party_id
        ));
    elsif party.decision = 'hold' then
        perform public.refuse('42201', 'Payments with this party wait for a review.', jsonb_build_object(
            'reason', 'review_required', 'party_id', party.party_id
        ));
    elsif not compliance.lists_usable() or current_version = 0 then
        -- No decision was made, so nothing is sent.
        perform public.refuse('50301', 'Screening is not possible at the moment: its lists are too old.', '{"retry_after": 300}');
    elsif party.decision is null or party.list_version < current_version then
        perform public.refuse('50301', 'The screening of this party has not finished.', '{"retry_after": 2}');
    end if;
    if require_clear.transfer_id is not null then
        insert into compliance.transfer_clearances (
            transfer_id, tenant_id, environment, party_id, decision, score, list_version, screened_at
        ) values (
            require_clear.transfer_id, require_clear.tenant_id, require_clear.environment, party.party_id,
            party.decision, party.score, party.list_version, party.screened_at
        );
    end if;
end
$$;
comment on function compliance.require_clear is
'A tenant whose parties are screened may go on only with one that is clear under the lists in force. 42203 nobody registered it, 42201 flagged, 50301 nobody can say. Keeps on what the transfer was let through.';

create function compliance.note_customer()
returns trigger
language plpgsql
volatile
security definer -- whoever creates an intent may not write parties
set search_path = ''
as $$
begin
    if exists (
        select from compliance.profiles as p
        where p.tenant_id = new.tenant_id and p.environment = new.environment and 'in' = any(p.screening)
    ) then
        insert into compliance.parties (
            party_id, tenant_id, environment, payment_intent_id, reference, profile_sealed, name_masked
        ) values (
            public.new_id('pty'), new.tenant_id, new.environment, new.payment_intent_id,
            new.customer ->> 'reference', new.customer_sealed, new.customer ->> 'name'
        );
        perform public.poke('compliance');
    end if;
    return null;
end
$$;
comment on function compliance.note_customer is
'The customer whom a new intent names is screened, when its tenant''s payers are: the compliance function is woken for it.';

reset role;

-- sql/recon/functions/days.sql

-- Whose day it is.

set role stalela_owner;

create function recon.time_zone_of(tenant_id text)
returns text
language plpgsql
stable
security definer -- callers may not read tenants
set search_path = ''
as $$
begin
    return coalesce(
        (
            select z.time_zone
            from public.tenants as t
            inner join recon.time_zones as z on z.country = t.country
            where t.tenant_id = time_zone_of.tenant_id
        ),
        'UTC'
    );
end
$$;
comment on function recon.time_zone_of is 'The zone in which a tenant counts its days: that of its country, otherwise UTC.';

create function recon.day_number(day date, banking boolean)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
declare
    -- 2001-01-01 was a Monday.
    days constant integer := day - date '2001-01-01';
begin
    if not banking then
        return days;
    end if;
    -- Five to a week; Saturday and Sunday count as the Monday after them.
    return days / 7 * 5 + least(days % 7, 5);
end
$$;
comment on function recon.day_number is 'Numbers days so that neighbours differ by one: calendar days, or banking days. For dates since 2001.';

reset role;

-- sql/recon/functions/exceptions.sql

-- The queue of questions, and what people decide.

set role stalela_owner;

create function recon.exception_resource(exception recon.exceptions)
returns json
language plpgsql
stable
security definer -- callers may not read lines
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
begin
    select l.* into line from recon.statement_lines as l where l.line_id = exception.line_id;
    return json_build_object(
        'id', exception.exception_id,
        'object', 'recon_exception',
        'kind', exception.kind,
        'status', exception.status,
        'rail', exception.rail,
        'business_date', exception.business_date,
        'amount', public.format_amount(exception.amount_minor, exception.currency),
        'currency', exception.currency,
        'transfer_id', exception.transfer_id,
        'line', case when line.line_id is not null then json_build_object(
            'id', line.line_id, 'number', line.line_no, 'type', line.type, 'direction', line.direction,
            'receipt', line.external_ref, 'reference', line.our_ref, 'value_date', line.value_date,
            'occurred_at', line.occurred_at,
            'statement_id', (
                select s.statement_id from recon.statements as s where s.statement_no = line.statement_no
            )
        ) end,
        'details', exception.details - '{booked_minor}'::text[] || jsonb_strip_nulls(jsonb_build_object(
            'booked', public.format_amount((exception.details ->> 'booked_minor')::bigint, exception.currency)
        )),
        'proposal', exception.proposal,
        'resolution', exception.resolution,
        'decisions', coalesce((
            select json_agg(
                json_build_object(
                    'action', d.action, 'actor', d.actor, 'reason', d.reason, 'decided_at', d.decided_at
                ) order by d.number
            )
            from recon.resolutions as d
            where d.exception_id = (exception_resource.exception).exception_id
        ), '[]'),
        'environment', exception.environment,
        'opened_at', exception.opened_at,
        'resolved_at', exception.resolved_at
    );
end
$$;
comment on function recon.exception_resource is 'The wire shape of an exception with its line and what was decided so far.';

create function recon.list_exceptions(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    session recon.recon_sessions;
    page json;
    next_cursor text;
begin
    if filters ? 'session' then
        session := recon.visible_session(filters ->> 'session');
    end if;
    with found as (
        select e
        from recon.exceptions as e
        where
            e.tenant_id = caller.tenant_id and e.environment = caller.environment
            and (not filters ? 'status' or e.status = filters ->> 'status')
            and (not filters ? 'kind' or e.kind = filters ->> 'kind')
            and (not filters ? 'rail' or e.rail = filters ->> 'rail')
            and (not filters ? 'session' or (e.rail = session.rail and e.business_date = session.business_date))
            and (list_exceptions.page_after is null or e.exception_id > list_exceptions.page_after)
        order by e.exception_id
        limit list_exceptions.page_size + 1
    ), numbered as (
        select f.e, (f.e).exception_id, row_number() over (order by (f.e).exception_id) as n from found as f
    )
    select
        coalesce(json_agg(recon.exception_resource(n.e) order by n.n) filter (where n.n <= list_exceptions.page_size), '[]'),
        case when count(*) > list_exceptions.page_size then (
            array_agg(n.exception_id order by n.n)
        )[list_exceptions.page_size] end
    into page, next_cursor
    from numbered as n;
    return public.reply(caller, 200, json_build_object(
        'data', page,
        'pagination', json_build_object(
            'limit', list_exceptions.page_size, 'has_more', next_cursor is not null, 'next_cursor', next_cursor
        )
    ));
end
$$;
comment on function recon.list_exceptions is
'One page of the caller''s exceptions, oldest first. filters: status, kind, rail, session. page_after: the last id of the page before.';

create function recon.locked_exception(caller public.caller, exception_id text)
returns recon.exceptions
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    exception recon.exceptions;
begin
    -- After the lock of the runs, so that no run answers the question meanwhile.
    select e.* into exception
    from recon.exceptions as e
    where
        e.exception_id = locked_exception.exception_id
        and e.tenant_id = (locked_exception.caller).tenant_id and e.environment = (locked_exception.caller).environment;
    if not found then
        perform public.refuse('40401', format('There is no exception %s here.', locked_exception.exception_id));
    end if;
    perform recon.lock_rail(exception.tenant_id, exception.environment, exception.rail);
    select e.* into strict exception
    from recon.exceptions as e
    where e.exception_id = locked_exception.exception_id
    for update;
    return exception;
end
$$;
comment on function recon.locked_exception is 'An exception of the caller''s own, locked against runs and other people; otherwise 40401.';

create function recon.decide(
    caller public.caller, exception recon.exceptions, action text, reason text, details jsonb
)
returns void
language plpgsql
volatile
security definer -- callers may not write resolutions
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into recon.resolutions (exception_id, number, tenant_id, environment, action, actor, reason, details)
    select
        (decide.exception).exception_id, coalesce(max(d.number), 0) + 1, (decide.exception).tenant_id,
        (decide.exception).environment, decide.action, (decide.caller).actor, decide.reason, decide.details
    from recon.resolutions as d
    where d.exception_id = (decide.exception).exception_id;
    perform public.audit(
        decide.caller, 'recon.' || decide.action, (decide.exception).exception_id,
        decide.details || jsonb_build_object('kind', (decide.exception).kind, 'reason', decide.reason)
    );
end
$$;
comment on function recon.decide is 'Notes one decision of a person about an exception, numbered, and audits it.';

create function recon.resolve_exception(
    exception_id text, idempotency_key text, body_hash text, action text, transfer_id text, reference text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    route constant text := 'POST /recon/exceptions/{id}/resolve';
    answer public.answer;
    exception recon.exceptions;
    details jsonb := jsonb_strip_nulls(jsonb_build_object(
        'transfer_id', resolve_exception.transfer_id, 'reference', resolve_exception.reference
    ));
begin
    answer := public.claim_idempotency(
        caller, route, resolve_exception.idempotency_key, resolve_exception.body_hash || ':' || resolve_exception.exception_id
    );
    if answer.body is not null then
        return answer;
    end if;
    exception := recon.locked_exception(caller, resolve_exception.exception_id);
    if exception.status <> 'open' then
        perform public.refuse('40911', format('This exception is %s.', exception.status), jsonb_build_object(
            'current_state', exception.status, 'allowed', case exception.status
                when 'pending_approval' then '["approve"]'::jsonb else '[]'::jsonb
            end
        ));
    elsif not resolve_exception.action = any(recon.actions_for(exception)) then
        perform public.refuse_field('42262', '/action', format(
            'A %s is resolved by one of: %s.', exception.kind, array_to_string(recon.actions_for(exception), ', ')
        ));
    end if;

    if resolve_exception.action in ('write_off', 'adjust') then
        -- Money that leaves the books takes two people: this one proposes, another approves.
        update recon.exceptions as e
        set
            status = 'pending_approval',
            proposal = details || jsonb_build_object('action', resolve_exception.action, 'by', caller.actor)
        where e.exception_id = resolve_exception.exception_id;
        perform recon.decide(
            caller, exception, 'propose', resolve_exception.reason,
            details || jsonb_build_object('action', resolve_exception.action)
        );
    elsif resolve_exception.action = 'ticket' then
        if resolve_exception.reference is null then
            perform public.refuse_field('42262', '/reference', 'a ticket needs the partner''s reference.');
        end if;
        -- Asked at the partner: the question stays open until an answer comes.
        update recon.exceptions as e
        set details = e.details || jsonb_build_object('ticket', resolve_exception.reference)
        where e.exception_id = resolve_exception.exception_id;
        perform recon.decide(caller, exception, 'ticket', resolve_exception.reason, details);
    else
        if resolve_exception.action = 'assign' then
            perform recon.assign_line(exception, coalesce(resolve_exception.transfer_id, exception.transfer_id));
        elsif resolve_exception.action = 'raise_return' then
            perform recon.return_by_person(exception, coalesce(resolve_exception.transfer_id, exception.transfer_id));
        end if;
        perform recon.close_exception(exception, resolve_exception.action);
        perform recon.decide(caller, exception, resolve_exception.action, resolve_exception.reason, details);
    end if;

    select e.* into strict exception from recon.exceptions as e where e.exception_id = resolve_exception.exception_id;
    answer := public.reply(caller, 200, recon.exception_resource(exception));
    perform public.remember_answer(
        caller, route, resolve_exception.idempotency_key, resolve_exception.exception_id, answer
    );
    return answer;
end
$$;
comment on function recon.resolve_exception is
'A person''s decision: assign the line to a transfer, raise a return, propose an adjustment or a write-off (another person approves), open a partner ticket (stays open), or acknowledge. 40911 when it is decided already.';

create function recon.actions_for(exception recon.exceptions)
returns text[]
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case
        when exception.kind in ('FILE_REJECTED', 'TOTALS_MISMATCH') then '{acknowledge,ticket}'::text[]
        when exception.kind = 'MISSING_LINE' then '{write_off,ticket}'::text[]
        when exception.kind in ('AMOUNT_MISMATCH', 'FEE_MISMATCH') then '{assign,raise_return,adjust,write_off,ticket}'::text[]
        else '{assign,raise_return,write_off,ticket}'::text[]
    end;
end
$$;
comment on function recon.actions_for is 'What may be decided about an exception of this kind.';

create function recon.approve_exception(
    exception_id text, idempotency_key text, body_hash text, approve boolean, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    route constant text := 'POST /recon/exceptions/{id}/approve';
    answer public.answer;
    exception recon.exceptions;
begin
    answer := public.claim_idempotency(
        caller, route, approve_exception.idempotency_key, approve_exception.body_hash || ':' || approve_exception.exception_id
    );
    if answer.body is not null then
        return answer;
    end if;
    exception := recon.locked_exception(caller, approve_exception.exception_id);
    if exception.status <> 'pending_approval' then
        perform public.refuse('40911', 'Nothing of this exception waits for approval.', jsonb_build_object(
            'current_state', exception.status, 'allowed', '[]'::jsonb
        ));
    elsif exception.proposal ->> 'by' = caller.actor then
        perform public.refuse('40312', 'Somebody else has to approve what you proposed.');
    end if;

    if approve_exception.approve then
        if exception.proposal ->> 'action' = 'adjust' then
            perform recon.assign_line(exception, exception.transfer_id);
        end if;
        perform recon.close_exception(exception, exception.proposal ->> 'action');
    else
        update recon.exceptions as e
        set status = 'open', proposal = null
        where e.exception_id = approve_exception.exception_id;
    end if;
    perform recon.decide(
        caller, exception, case when approve_exception.approve then 'approve' else 'reject' end,
        approve_exception.reason, exception.proposal
    );

    select e.* into strict exception from recon.exceptions as e where e.exception_id = approve_exception.exception_id;
    answer := public.reply(caller, 200, recon.exception_resource(exception));
    perform public.remember_answer(
        caller, route, approve_exception.idempotency_key, approve_exception.exception_id, answer
    );
    return answer;
end
$$;
comment on function recon.approve_exception is
'The second of two people: approves or rejects what another one proposed. 40312 for the proposer.';

create function recon.close_exception(exception recon.exceptions, resolution text)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    run recon.run;
begin
    update recon.exceptions as e
    set status = 'resolved', resolution = close_exception.resolution, resolved_at = now(), proposal = null
    where e.exception_id = (close_exception.exception).exception_id;
    perform public.resolve_alert('recon_file_rejected', exception.exception_id, close_exception.resolution);
    if exception.business_date is not null then
        run := recon.run_of(exception.tenant_id, exception.environment, exception.rail);
        perform recon.count_sessions(run, array[exception.business_date]);
        perform recon.alert_about_days(run, array[exception.business_date]);
    end if;
end
$$;
comment on function recon.close_exception is 'Ends a question as a person decided, and counts its day anew.';

create function recon.assign_line(exception recon.exceptions, transfer_id text)
returns void
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
    transfer payments.transfers;
    ours recon.our_side;
begin
    -- Watch, intent, original, transfer: the order of rails.apply_event.
    perform from rails.watches as w where w.transfer_id = assign_line.transfer_id for update;
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = assign_line.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = assign_line.transfer_id
    )
    for no key update;
    select t.* into transfer
    from payments.transfers as t
    where
        t.transfer_id = assign_line.transfer_id
        and t.tenant_id = (assign_line.exception).tenant_id and t.environment = (assign_line.exception).environment
        and t.rail = (assign_line.exception).rail
    for no key update;
    if not found then
        perform public.refuse_field('42262', '/transfer_id', 'there is no such transfer on this rail.');
    end if;
    select l.* into strict line from recon.statement_lines as l where l.line_id = exception.line_id;
    select o.* into ours from recon.our_side as o where o.transfer_id = assign_line.transfer_id;
    if ours.transfer_id is null or ours.direction <> line.direction or ours.currency <> line.currency then
        perform public.refuse_field('42262', '/transfer_id', 'the transfer and the line move money in different ways.');
    elsif exception.status = 'open' and ours.amount_minor <> line.amount_minor + line.fee_minor then
        perform public.refuse_field('42262', '/transfer_id', 'the amounts differ: adjust takes the difference, with a second person.');
    elsif exists (
        select from recon.matches as m where m.transfer_id = assign_line.transfer_id and m.leg = 'settle'
    ) then
        perform public.refuse('40914', 'This transfer has its line already.');
    end if;
    if not ours.is_settled then
        -- Late success, seen in the statement and decided by a person.
        perform rails.apply_decision(transfer, 'settled', line.external_ref, line.amount_minor + line.fee_minor);
        perform public.resolve_alert('transfer_needs_review', transfer.transfer_id, 'settled');
    end if;
    insert into recon.matches (line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment)
    values (
        line.line_id, transfer.transfer_id, 'settle', 'person', line.amount_minor,
        ours.amount_minor - line.amount_minor, line.tenant_id, line.environment
    );
end
$$;
comment on function recon.assign_line is
'The line is this transfer: matched by a person, settled late if it was not. Another amount only through an approved adjustment, whose difference stands as the fee of the match.';

create function recon.return_by_person(exception recon.exceptions, transfer_id text)
returns void
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
    ours recon.our_side;
begin
    select l.* into strict line from recon.statement_lines as l where l.line_id = exception.line_id;
    select o.* into ours
    from recon.our_side as o
    where
        o.transfer_id = return_by_person.transfer_id and o.tenant_id = (return_by_person.exception).tenant_id
        and o.environment = (return_by_person.exception).environment and o.rail = (return_by_person.exception).rail;
    if not found then
        perform public.refuse_field('42262', '/transfer_id', 'there is no such transfer on this rail.');
    elsif
        ours.direction = line.direction or ours.currency <> line.currency
        or ours.amount_minor <> line.amount_minor + line.fee_minor
    then
        perform public.refuse_field('42262', '/transfer_id', 'the line does not give this transfer back in full.');
    elsif exists (
        select from recon.matches as m where m.transfer_id = return_by_person.transfer_id and m.leg = 'return'
    ) then
        perform public.refuse('40914', 'This transfer''s return has its line already.');
    end if;
    if ours.state <> 'RETURNED' and not recon.report_return(return_by_person.transfer_id) then
        perform public.refuse('40911', 'This transfer cannot be returned.', jsonb_build_object('current_state', ours.state));
    end if;
    insert into recon.matches (line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment)
    values (
        line.line_id, ours.transfer_id, 'return', 'person', line.amount_minor, line.fee_minor, line.tenant_id,
        line.environment
    );
end
$$;
comment on function recon.return_by_person is 'The line gives this transfer back in full: it is reported as returned, once.';

reset role;

-- sql/recon/functions/figures.sql

-- The figures of a day, and the assertion that nothing is left out or counted twice.

set role stalela_owner;

create function recon.count_sessions(run recon.run, days date[])
returns jsonb
language plpgsql
volatile
security definer -- callers may not write sessions
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    first_at timestamptz := (days[1])::timestamp at time zone run.time_zone;
    last_at timestamptz := (days[cardinality(days)] + 1)::timestamp at time zone run.time_zone;
    due date[] := recon.due_days(run, days);
    astray bigint;
    counts jsonb;
begin
    perform 'pragma:table: pg_temp.counted(side text, day date, currency text, rows bigint, matched bigint, marked bigint, excepted bigint, awaiting bigint, in_minor numeric, out_minor numeric, unmatched_minor numeric, astray bigint, by_rail_reference bigint, by_our_reference bigint, by_party_and_day bigint, by_batch bigint, by_person bigint)';
    if cardinality(days) = 0 then
        return '{}'::jsonb;
    end if;
    insert into recon.recon_sessions (session_id, tenant_id, environment, rail, business_date, time_zone)
    select public.new_id('rs'), run.tenant_id, run.environment, run.rail, d.day, run.time_zone
    from unnest(days) as d (day)
    order by d.day
    on conflict (tenant_id, environment, rail, business_date) do nothing;

    create temp table counted on commit drop as
    select
        'lines' as side, p.day, p.currency,
        count(*) as rows, count(*) filter (where p.is_matched) as matched, count(*) filter (where p.is_marked) as marked,
        count(*) filter (where p.is_excepted) as excepted, 0::bigint as awaiting,
        sum(p.amount_minor) filter (where p.direction = 'in') as in_minor,
        sum(p.amount_minor) filter (where p.direction = 'out') as out_minor,
        sum(p.amount_minor) filter (where p.is_excepted) as unmatched_minor,
        -- One place each, and a share that is exactly its amount.
        count(*) filter (
            where p.is_matched::integer + p.is_marked::integer + p.is_excepted::integer <> 1 or not p.is_exact
        ) as astray,
        count(*) filter (where p.rule = 'rail_reference') as by_rail_reference,
        count(*) filter (where p.rule = 'our_reference') as by_our_reference,
        count(*) filter (where p.rule = 'party_and_day') as by_party_and_day,
        count(*) filter (where p.rule = 'batch') as by_batch,
        count(*) filter (where p.rule = 'person') as by_person
    from (
        select
            l.value_date as day, l.currency, l.direction, l.amount_minor, m.rule,
            m.line_id is not null as is_matched, k.line_id is not null as is_marked, e.line_id is not null as is_excepted,
            m.line_id is null or m.rule in ('batch', 'person') or m.amount_minor = l.amount_minor as is_exact
        from recon.statement_lines as l
        left join recon.matches as m on m.line_id = l.line_id and m.share = 1
        left join recon.marked_lines as k on k.line_id = l.line_id
        left join recon.exceptions as e
            on
                e.line_id = l.line_id
                and (e.status <> 'resolved' or e.resolution not in ('assign', 'raise_return', 'adjust', 'matched_later'))
        where
            l.tenant_id = run.tenant_id and l.environment = run.environment and l.rail = run.rail
            and l.value_date = any(days)
    ) as p
    group by p.day, p.currency;

    insert into pg_temp.counted
    select
        'transfers', p.day, p.currency,
        count(*), count(*) filter (where p.is_matched), 0, count(*) filter (where p.is_excepted),
        count(*) filter (where not p.is_matched and not p.is_excepted),
        sum(p.amount_minor) filter (where p.direction = 'in'),
        sum(p.amount_minor) filter (where p.direction = 'out'),
        sum(p.amount_minor) filter (where not p.is_matched),
        count(*) filter (where not p.is_exact or (p.is_due and not p.is_matched and not p.is_excepted)),
        0, 0, 0, 0, 0
    from (
        select
            (o.settled_at at time zone run.time_zone)::date as day, o.currency, o.direction, o.amount_minor,
            m.transfer_id is not null as is_matched,
            -- A decided question about a matched transfer is history.
            e.transfer_id is not null and m.transfer_id is null as is_excepted,
            (o.settled_at at time zone (run.rules).time_zone)::date = any(due) as is_due,
            m.transfer_id is null or m.rule in ('batch', 'person') or m.amount_minor + m.fee_minor = o.amount_minor as is_exact
        from recon.our_side as o
        left join recon.matches as m on m.transfer_id = o.transfer_id and m.leg = 'settle' and m.part = 1
        left join (
            select distinct x.transfer_id
            from recon.exceptions as x
            where
                x.tenant_id = run.tenant_id and x.environment = run.environment and x.rail = run.rail
                and x.transfer_id is not null and x.resolution is distinct from 'matched_later'
        ) as e on e.transfer_id = o.transfer_id
        where
            o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
            and o.settled_at >= first_at and o.settled_at < last_at
    ) as p
    where p.day = any(days)
    group by p.day, p.currency;

    select sum(c.astray)::bigint into astray from pg_temp.counted as c;
    if astray > 0 then
        raise exception 'reconciliation of % %: % lines or transfers are not accounted for exactly once',
            run.tenant_id, run.rail, astray;
    end if;

    insert into recon.session_figures as f (
        session_id, currency, tenant_id, environment, lines, lines_matched, lines_marked, lines_excepted,
        lines_in_minor, lines_out_minor, lines_unmatched_minor, transfers, transfers_matched, transfers_excepted,
        transfers_awaiting, transfers_in_minor, transfers_out_minor, transfers_unmatched_minor
    )
    select
        s.session_id, c.currency, run.tenant_id, run.environment,
        coalesce(sum(c.rows) filter (where c.side = 'lines'), 0),
        coalesce(sum(c.matched) filter (where c.side = 'lines'), 0),
        coalesce(sum(c.marked), 0),
        coalesce(sum(c.excepted) filter (where c.side = 'lines'), 0),
        coalesce(sum(c.in_minor) filter (where c.side = 'lines'), 0),
        coalesce(sum(c.out_minor) filter (where c.side = 'lines'), 0),
        coalesce(sum(c.unmatched_minor) filter (where c.side = 'lines'), 0),
        coalesce(sum(c.rows) filter (where c.side = 'transfers'), 0),
        coalesce(sum(c.matched) filter (where c.side = 'transfers'), 0),
        coalesce(sum(c.excepted) filter (where c.side = 'transfers'), 0),
        coalesce(sum(c.awaiting), 0),
        coalesce(sum(c.in_minor) filter (where c.side = 'transfers'), 0),
        coalesce(sum(c.out_minor) filter (where c.side = 'transfers'), 0),
        coalesce(sum(c.unmatched_minor) filter (where c.side = 'transfers'), 0)
    from pg_temp.counted as c
    inner join recon.recon_sessions as s
        on
            s.tenant_id = run.tenant_id and s.environment = run.environment and s.rail = run.rail
            and s.business_date = c.day
    group by s.session_id, c.currency
    on conflict on constraint session_figures_pkey do update
    set
        lines = excluded.lines,
        lines_matched = excluded.lines_matched,
        lines_marked = excluded.lines_marked,
        lines_excepted = excluded.lines_excepted,
        lines_in_minor = excluded.lines_in_minor,
        lines_out_minor = excluded.lines_out_minor,
        lines_unmatched_minor = excluded.lines_unmatched_minor,
        transfers = excluded.transfers,
        transfers_matched = excluded.transfers_matched,
        transfers_excepted = excluded.transfers_excepted,
        transfers_awaiting = excluded.transfers_awaiting,
        transfers_in_minor = excluded.transfers_in_minor,
        transfers_out_minor = excluded.transfers_out_minor,
        transfers_unmatched_minor = excluded.transfers_unmatched_minor;
    perform recon.settle_sessions(run, days);

    select jsonb_build_object(
        'lines', coalesce(sum(c.rows) filter (where c.side = 'lines'), 0),
        'transfers', coalesce(sum(c.rows) filter (where c.side = 'transfers'), 0),
        'awaiting', coalesce(sum(c.awaiting), 0),
        'matched', jsonb_build_object(
            'rail_reference', sum(c.by_rail_reference), 'our_reference', sum(c.by_our_reference),
            'party_and_day', sum(c.by_party_and_day), 'batch', sum(c.by_batch), 'person', sum(c.by_person)
        ),
        'marked', coalesce(sum(c.marked), 0)
    ) into counts
    from pg_temp.counted as c;
    drop table pg_temp.counted;
    return counts;
end
$$;
comment on function recon.count_sessions is
'Counts these days anew, opening their sessions, and raises when a line, or a settled transfer whose line is due, is not in exactly one place or not for its exact amount. Days ascending.';

create function recon.settle_sessions(run recon.run, days date[])
returns void
language plpgsql
volatile
security definer -- callers may not write sessions
set search_path = ''
as $$
#variable_conflict use_column
begin
    update recon.recon_sessions as s
    set status = x.status, finished_at = case when x.status = 'open' then null else now() end, updated_at = now()
    from (
        select
            n.session_id,
            case
                when exists (
                    select from recon.exceptions as e
                    where
                        e.tenant_id = n.tenant_id and e.environment = n.environment and e.rail = n.rail
                        and e.business_date = n.business_date and e.status <> 'resolved'
                ) then 'exceptions'
                when
                    n.business_date >= run.today
                    or exists (
                        select from recon.session_figures as f
                        where f.session_id = n.session_id and f.transfers_awaiting > 0
                    )
                    or (
                        n.business_date + (run.rules).missing_after_days >= run.today
                        and not exists (
                            select from recon.statements as t
                            where
                                t.tenant_id = n.tenant_id and t.environment = n.environment and t.rail = n.rail
                                and n.business_date between t.period_from and t.period_to
                        )
                    )
                    then 'open'
                else 'matched'
            end as status
        from recon.recon_sessions as n
        where
            n.tenant_id = run.tenant_id and n.environment = run.environment and n.rail = run.rail
            and n.business_date = any(days)
    ) as x
    where s.session_id = x.session_id;
end
$$;
comment on function recon.settle_sessions is 'Says of each of these days whether it waits for people, for a statement, or is done.';

create function recon.alert_about_days(run recon.run, days date[])
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    late record;
begin
    for late in
        select
            s.session_id, s.business_date,
            (
                select count(*) from recon.exceptions as e
                where
                    e.tenant_id = s.tenant_id and e.environment = s.environment and e.rail = s.rail
                    and e.business_date = s.business_date and e.kind = 'MISSING_LINE' and e.status <> 'resolved'
            ) as missing,
            (
                select coalesce(sum(f.transfers_awaiting), 0) from recon.session_figures as f
                where f.session_id = s.session_id
            ) as awaiting
        from recon.recon_sessions as s
        where
            s.tenant_id = run.tenant_id and s.environment = run.environment and s.rail = run.rail
            and s.business_date = any(days)
            and s.business_date + (run.rules).missing_after_days < run.today
        order by s.business_date
    loop
        if late.missing > 0 then
            perform public.raise_alert(
                'recon_missing_lines', 'warning', late.session_id, run.tenant_id, run.environment,
                jsonb_build_object('rail', run.rail, 'day', late.business_date, 'transfers', late.missing)
            );
        else
            perform public.resolve_alert('recon_missing_lines', late.session_id, 'every line is there');
        end if;
        if late.awaiting > 0 then
            perform public.raise_alert(
                'recon_statement_missing', 'warning', late.session_id, run.tenant_id, run.environment,
                jsonb_build_object('rail', run.rail, 'day', late.business_date, 'transfers', late.awaiting)
            );
        else
            perform public.resolve_alert('recon_statement_missing', late.session_id, 'the statement came');
        end if;
    end loop;
end
$$;
comment on function recon.alert_about_days is
'Alerts when settled transfers have no line after the rail''s time, or their day no statement at all; takes the alerts back when they do.';

reset role;

-- sql/recon/functions/leftovers.sql

-- What no rule matched: lines that are no transfer of ours, and questions for people.

set role stalela_owner;

create function recon.mark_lines(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write lines
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, statement_no bigint, line_hash bytea, type text, direction text, amount_minor bigint, currency text, value_date date, batch_ref text, reopened boolean)';
    insert into recon.marked_lines (line_id, mark, of_line_id, tenant_id, environment, run_id)
    select l.line_id, l.type, null, run.tenant_id, run.environment, run.run_id
    from pg_temp.open_lines as l
    where l.type in ('fee', 'internal', 'void')
    order by l.line_id;

    -- Exports overlap. A copy in another statement is the same money; the one that is matched, or else the first, counts.
    insert into recon.marked_lines (line_id, mark, of_line_id, tenant_id, environment, run_id)
    select l.line_id, 'seen_before', min(c.line_id), run.tenant_id, run.environment, run.run_id
    from pg_temp.open_lines as l
    inner join recon.statement_lines as c
        on
            c.line_hash = l.line_hash and c.tenant_id = run.tenant_id and c.environment = run.environment
            and c.rail = run.rail and c.statement_no <> l.statement_no
    left join recon.matches as m on m.line_id = c.line_id and m.share = 1
    where
        l.type in ('payment', 'return', 'batch')
        and (m.line_id is not null or (not l.reopened and c.line_id < l.line_id))
    group by l.line_id
    order by l.line_id;

    insert into recon.marked_lines (line_id, mark, of_line_id, tenant_id, environment, run_id)
    select l.line_id, 'sum_of_lines', min(d.line_id), run.tenant_id, run.environment, run.run_id
    from pg_temp.open_lines as l
    inner join recon.statement_lines as d
        on
            d.tenant_id = run.tenant_id and d.environment = run.environment and d.rail = run.rail
            and d.batch_ref = l.batch_ref and d.currency = l.currency and d.type in ('payment', 'return')
            and d.value_date between l.value_date - 7 and l.value_date + 7
    where
        l.type = 'batch'
        and not exists (select from recon.marked_lines as k where k.line_id = l.line_id)
    group by l.line_id, l.amount_minor, l.direction
    having sum(case when d.direction = l.direction then d.amount_minor else -d.amount_minor end) = l.amount_minor
    order by l.line_id;

    delete from pg_temp.open_lines as l using recon.marked_lines as k where k.line_id = l.line_id;
end
$$;
comment on function recon.mark_lines is
'Takes out of the open lines what is no transfer: charges, moves between own accounts, voided lines, copies from an overlapping statement, totals of lines that stand beside them.';

create function recon.open_exceptions(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    takes_fees constant boolean := (run.rules).fee_bps > 0 or (run.rules).fee_fixed_minor > 0;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, line_no integer, type text, direction text, fee_minor bigint, gross_minor bigint, amount_minor bigint, currency text, value_date date, external_ref text, our_ref text, linked_ref text, acq_ref text, reopened boolean)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, state text, is_settled boolean, direction text, amount_minor bigint, currency text, rail_ref text, moved_at timestamptz, transfer_ref text, originator_ref text, account_ref text)';
    insert into recon.exceptions (
        exception_id, tenant_id, environment, rail, kind, business_date, line_id, transfer_id, amount_minor, currency,
        details, run_id
    )
    select
        public.new_id('exc'), run.tenant_id, run.environment, run.rail, why.kind, l.value_date, l.line_id,
        case when why.kind <> 'UNMATCHED_LINE' then coalesce(r.transfer_id, n.transfer_id) end,
        l.amount_minor, l.currency,
        jsonb_strip_nulls(jsonb_build_object(
            'receipt', l.external_ref, 'reference', l.our_ref, 'line', l.line_no, 'direction', l.direction,
            'booked_minor', coalesce(r.amount_minor, n.amount_minor), 'state', coalesce(r.state, n.state)
        )),
        run.run_id
    from pg_temp.open_lines as l
    -- The transfer that the rail's receipt names; at most one.
    left join lateral (
        select
            o.transfer_id, o.state, o.is_settled, o.amount_minor, o.direction, o.currency,
            exists (
                select from recon.matches as m
                where m.transfer_id = o.transfer_id and m.leg = case when o.direction = l.direction then 'settle' else 'return' end
            ) as is_matched
        from recon.our_side as o
        where
            o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
            and o.receipt = case when l.type = 'return' and l.linked_ref is not null then l.linked_ref else l.external_ref end
    ) as r on true
    -- Otherwise the one that a reference names, best first.
    left join (
        select distinct on (c.line_id) c.*
        from (
            select
                t.transfer_id, t.state, t.is_settled, t.amount_minor, x.line_id, t.moved_at,
                t.amount_minor = x.gross_minor as is_equal
            from pg_temp.open_lines as x
            cross join lateral (values (x.our_ref), ('rail ' || x.acq_ref), ('rail ' || x.external_ref)) as a (key)
            inner join (
                select o.*, k.key
                from pg_temp.open_transfers as o
                cross join lateral (
                    values (o.transfer_ref), (o.originator_ref), (o.account_ref), ('rail ' || o.rail_ref)
                ) as k (key)
            ) as t
                on t.key = a.key and t.direction = x.direction and t.currency = x.currency
        ) as c
        order by c.line_id, c.is_settled desc, c.is_equal desc, c.moved_at, c.transfer_id
    ) as n on n.line_id = l.line_id and r.transfer_id is null
    cross join lateral (
        select case
            when r.transfer_id is not null then case
                when r.is_matched then 'DUPLICATE_LINE'
                when not r.is_settled then 'STATE_CONFLICT'
                when r.amount_minor = l.gross_minor and r.currency = l.currency then 'STATE_CONFLICT'
                when (takes_fees or l.fee_minor > 0) and l.gross_minor < r.amount_minor then 'FEE_MISMATCH'
                else 'AMOUNT_MISMATCH'
            end
            when n.transfer_id is not null then case
                when n.amount_minor = l.gross_minor and not n.is_settled then 'STATE_CONFLICT'
                when n.amount_minor = l.gross_minor then 'UNMATCHED_LINE'
                when (takes_fees or l.fee_minor > 0) and l.gross_minor < n.amount_minor then 'FEE_MISMATCH'
                else 'AMOUNT_MISMATCH'
            end
            else 'UNMATCHED_LINE'
        end as kind
    ) as why
    where not l.reopened
    order by l.line_id;
end
$$;
comment on function recon.open_exceptions is
'Asks people about the lines that are left: a second line of a matched transfer, another amount or fee, a state that contradicts it, or nothing of ours that fits.';

create function recon.open_missing(run recon.run, days date[])
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    due date[] := recon.due_days(run, days);
begin
    if cardinality(due) = 0 then
        return;
    end if;
    insert into recon.exceptions (
        exception_id, tenant_id, environment, rail, kind, business_date, transfer_id, amount_minor, currency, details,
        run_id
    )
    select
        public.new_id('exc'), run.tenant_id, run.environment, run.rail, 'MISSING_LINE',
        (o.settled_at at time zone run.time_zone)::date, o.transfer_id, o.amount_minor, o.currency,
        jsonb_strip_nulls(jsonb_build_object('receipt', o.receipt, 'direction', o.direction, 'settled_at', o.settled_at)),
        run.run_id
    from recon.our_side as o
    where
        o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
        and o.settled_at >= due[1]::timestamp at time zone (run.rules).time_zone
        and o.settled_at < (due[cardinality(due)] + 1)::timestamp at time zone (run.rules).time_zone
        and (o.settled_at at time zone (run.rules).time_zone)::date = any(due)
        and not exists (select from recon.matches as m where m.transfer_id = o.transfer_id and m.leg = 'settle')
        and not exists (
            select from recon.exceptions as e
            where e.transfer_id = o.transfer_id and e.resolution is distinct from 'matched_later'
        )
    order by o.transfer_id;
end
$$;
comment on function recon.open_missing is
'A transfer that settled on a day whose statement is here, and whose line is not there after the rail''s time, is missing.';

create function recon.due_days(run recon.run, days date[])
returns date[]
language plpgsql
stable
security definer -- callers may not read statements
set search_path = ''
as $$
begin
    return array(
        select d.day
        from unnest(days) as d (day)
        where
            d.day + (run.rules).missing_after_days < run.today
            and exists (
                select from recon.statements as s
                where
                    s.tenant_id = run.tenant_id and s.environment = run.environment and s.rail = run.rail
                    and d.day between s.period_from and s.period_to
            )
        order by d.day
    );
end
$$;
comment on function recon.due_days is 'Those of these days of which a statement is here and whose lines should all have come by now.';

create function recon.close_matched_exceptions(run recon.run)
returns date[]
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    touched date[];
begin
    with closed as (
        update recon.exceptions as e
        set status = 'resolved', resolution = 'matched_later', resolved_at = now(), proposal = null
        where
            e.tenant_id = run.tenant_id and e.environment = run.environment and e.rail = run.rail
            and e.status <> 'resolved'
            and (
                exists (select from recon.matches as m where m.line_id = e.line_id and m.share = 1)
                or exists (select from recon.marked_lines as k where k.line_id = e.line_id)
                or (
                    e.line_id is null
                    and exists (select from recon.matches as m where m.transfer_id = e.transfer_id and m.leg = 'settle')
                )
            )
        returning e.business_date
    )
    select coalesce(array_agg(distinct c.business_date), '{}') into touched from closed as c;
    return touched;
end
$$;
comment on function recon.close_matched_exceptions is 'Ends the questions that this run answered; the days they were about.';

reset role;

-- sql/recon/functions/rules.sql

-- The matching rules, in their order; the first hit wins. Each takes what it matches out of the open sets.

set role stalela_owner;

create function recon.match_receipts(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
begin
    insert into recon.matches (
        line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
    )
    select
        l.line_id, o.transfer_id, 'settle', 'rail_reference', l.amount_minor, l.fee_minor, run.tenant_id,
        run.environment, run.run_id
    from recon.statement_lines as l
    inner join recon.our_side as o
        on
            o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
            and o.receipt = l.external_ref
            and o.amount_minor = l.amount_minor + l.fee_minor
            and o.currency = l.currency
            and o.direction = l.direction
    where
        l.statement_no = any(run.statement_nos)
        and l.type in ('payment', 'return')
        and o.is_settled
    -- Receipts are unique on our side. Of several copies of a line the first is the transfer's.
    order by l.line_id
    on conflict (transfer_id, leg, part) do nothing;
end
$$;
comment on function recon.match_receipts is
'Rule 1 over whole statements: the rail''s receipt, currency, direction and exact amount of a settled transfer that has no line yet.';

create function recon.match_references(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    pair record;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, occurred_at timestamptz, external_ref text, our_ref text, linked_ref text, acq_ref text, auth_code text)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, state text, is_settled boolean, direction text, amount_minor bigint, net_minor bigint, currency text, receipt text, rail_ref text, linked_ref text, moved_at timestamptz, transfer_ref text, originator_ref text, account_ref text)';
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text, is_settled boolean, class integer, amount_minor bigint)';
    -- A line may name two transfers by two references, and gets one; a second round serves who went without.
    for round in 1..3 loop
        create temp table pairs on commit drop as
        with theirs as (
            select
                l.line_id, k.class, k.key, l.direction, l.currency, l.amount_minor, l.fee_minor, l.gross_minor,
                row_number() over (
                    partition by k.class, k.key, l.direction, l.currency, l.gross_minor
                    order by l.occurred_at, l.line_id
                ) as copy
            from pg_temp.open_lines as l
            cross join lateral (
                values
                (1, l.external_ref), (1, case when l.auth_code is null then l.acq_ref end),
                (1, 'reverses ' || l.linked_ref), (2, l.our_ref)
            ) as k (class, key)
            where k.key is not null and l.type in ('payment', 'return')
        ), ours as (
            select
                t.transfer_id, k.class, k.key, t.direction, t.currency, t.is_settled, a.amount_minor,
                row_number() over (
                    partition by k.class, k.key, t.direction, t.currency, a.amount_minor
                    order by t.is_settled desc, t.moved_at, t.transfer_id
                ) as copy
            from pg_temp.open_transfers as t
            cross join lateral (
                values
                (1, t.receipt), (1, t.rail_ref), (1, 'reverses ' || t.linked_ref),
                (2, t.transfer_ref), (2, t.originator_ref), (2, t.account_ref)
            ) as k (class, key)
            -- Exact, or with the rail's fee taken off; the same when it keeps none.
            cross join lateral (
                select distinct v.minor from (values (t.amount_minor), (t.net_minor)) as v (minor)
            ) as a (amount_minor)
            where
                k.key is not null and t.state <> 'refused' and (t.is_settled or t.state in ('SUBMITTED', 'ACCEPTED'))
        ), candidates as (
            select
                l.line_id, o.transfer_id, o.is_settled, l.class, l.amount_minor,
                row_number() over (partition by l.line_id order by l.class, o.transfer_id) as of_line,
                row_number() over (partition by o.transfer_id order by l.class, l.line_id) as of_transfer
            from theirs as l
            inner join ours as o
                on
                    o.class = l.class and o.key = l.key and o.direction = l.direction and o.currency = l.currency
                    and o.amount_minor = l.gross_minor and o.copy = l.copy
        )
        select c.line_id, c.transfer_id, c.is_settled, c.class, c.amount_minor
        from candidates as c
        where c.of_line = 1 and c.of_transfer = 1;
        exit when not exists (select from pg_temp.pairs);

        -- The rail says that money moved which we still ask about, or tells the receipt that no query told: the
        -- transfer takes it, or a person is asked.
        for pair in
            select p.line_id, p.transfer_id
            from pg_temp.pairs as p
            inner join pg_temp.open_transfers as t on t.transfer_id = p.transfer_id
            inner join pg_temp.open_lines as l on l.line_id = p.line_id
            where not p.is_settled or (t.receipt is null and l.external_ref is not null)
            order by p.transfer_id
        loop
            if not recon.report_success(pair.line_id, pair.transfer_id) then
                delete from pg_temp.pairs as p where p.line_id = pair.line_id;
                update pg_temp.open_transfers as t set state = 'refused' where t.transfer_id = pair.transfer_id;
            end if;
        end loop;
        insert into recon.matches (
            line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
        )
        select
            p.line_id, p.transfer_id, 'settle', case p.class when 1 then 'rail_reference' else 'our_reference' end,
            p.amount_minor, t.amount_minor - p.amount_minor, run.tenant_id, run.environment, run.run_id
        from pg_temp.pairs as p
        inner join pg_temp.open_transfers as t on t.transfer_id = p.transfer_id
        order by p.line_id;
        perform recon.close_pairs();
    end loop;
    drop table if exists pg_temp.pairs;
end
$$;
comment on function recon.match_references is
'Rules 1 and 2 over what is left: any reference of the rail''s, then any of ours, with currency, direction and the amount, exact or less the configured fee; the n-th copy with the n-th. An open transfer is reported as settled late.';

create function recon.close_pairs()
returns void
language plpgsql
volatile
security definer -- callers may not read lines
set search_path = ''
as $$
begin
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text)';
    perform 'pragma:table: pg_temp.open_lines(line_id bigint)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text)';
    delete from pg_temp.open_lines as l using pg_temp.pairs as p where p.line_id = l.line_id;
    delete from pg_temp.open_transfers as t using pg_temp.pairs as p where p.transfer_id = t.transfer_id;
    drop table pg_temp.pairs;
end
$$;
comment on function recon.close_pairs is 'Takes the pairs that a rule made out of both open sets.';

create function recon.report_success(line_id bigint, transfer_id text)
returns boolean
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
    disposition text;
    state text;
begin
    select l.* into strict line from recon.statement_lines as l where l.line_id = report_success.line_id;
    disposition := rails.apply_event(report_success.transfer_id, jsonb_build_object(
        'outcome', 'succeeded', 'source', 'recon', 'receipt', line.external_ref,
        'amount_minor', line.amount_minor + line.fee_minor, 'currency', line.currency, 'code', null
    ), 'recon', true);
    select t.state into strict state from payments.transfers as t where t.transfer_id = report_success.transfer_id;
    return disposition in ('applied', 'duplicate') and state = 'SETTLED';
exception when sqlstate 'PT409' then
    return false;
end
$$;
comment on function recon.report_success is
'Tells payments that the rail''s statement shows the money of a transfer, and its receipt; whether the transfer is settled with it.';

create function recon.match_returns(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    line record;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, our_ref text, linked_ref text)';
    for line in
        select distinct on (o.transfer_id) l.line_id, o.transfer_id, o.state, l.amount_minor, l.fee_minor
        from pg_temp.open_lines as l
        inner join recon.our_side as o
            on
                o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
                and (o.receipt = l.linked_ref or o.transfer_id = lower(l.our_ref))
                and o.amount_minor = l.gross_minor
                and o.currency = l.currency
                and o.direction <> l.direction
        where
            l.type = 'return' and o.is_settled
            and not exists (
                select from recon.matches as m where m.transfer_id = o.transfer_id and m.leg = 'return'
            )
        order by o.transfer_id, l.line_id
    loop
        if line.state = 'RETURNED' or recon.report_return(line.transfer_id) then
            insert into recon.matches (
                line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
            ) values (
                line.line_id, line.transfer_id, 'return', 'rail_reference', line.amount_minor, line.fee_minor,
                run.tenant_id, run.environment, run.run_id
            );
            delete from pg_temp.open_lines as l where l.line_id = line.line_id;
        end if;
    end loop;
end
$$;
comment on function recon.match_returns is
'A return line that names the receipt, or our transfer, that it gives back in full: the transfer is reported as returned, once.';

create function recon.report_return(transfer_id text)
returns boolean
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    state text;
begin
    perform rails.apply_event(
        report_return.transfer_id, '{"outcome": "returned", "source": "recon"}'::jsonb, 'recon', true
    );
    select t.state into strict state from payments.transfers as t where t.transfer_id = report_return.transfer_id;
    return state = 'RETURNED';
exception when sqlstate 'PT409' then
    return false;
end
$$;
comment on function recon.report_return is 'Tells payments that the rail''s statement shows a transfer''s money gone back; whether that returned it.';

create function recon.match_party_and_day(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    shift integer;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, value_date date, occurred_at timestamptz, party_hash text, acq_ref text, auth_code text)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, is_settled boolean, direction text, amount_minor bigint, currency text, receipt text, rail_ref text, party_hash text, moved_at timestamptz, moved_on date)';
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text, amount_minor bigint, fee_minor bigint)';
    -- Days as equality joins, nearest first: a range would compare everything with everything.
    for shift in
        select s.shift
        from generate_series(-(run.rules).day_tolerance, (run.rules).day_tolerance) as s (shift)
        order by abs(s.shift), s.shift
    loop
        create temp table pairs on commit drop as
        with theirs as (
            select
                l.line_id, l.amount_minor, l.fee_minor, l.gross_minor, l.direction, l.currency, k.key,
                recon.day_number(l.value_date, (run.rules).banking_days) + shift as day,
                row_number() over (
                    partition by k.key, l.direction, l.currency, l.gross_minor, l.value_date
                    order by l.occurred_at, l.line_id
                ) as copy
            from pg_temp.open_lines as l
            cross join lateral (values (coalesce(l.acq_ref || ' ' || l.auth_code, l.party_hash))) as k (key)
            where l.type in ('payment', 'return') and k.key is not null
        ), ours as (
            select
                t.transfer_id, t.amount_minor, t.direction, t.currency, k.key,
                recon.day_number(t.moved_on, (run.rules).banking_days) as day,
                row_number() over (
                    partition by k.key, t.direction, t.currency, t.amount_minor, t.moved_on
                    order by t.moved_at, t.transfer_id
                ) as copy
            from pg_temp.open_transfers as t
            cross join lateral (values (t.rail_ref || ' ' || t.receipt), (t.party_hash)) as k (key)
            -- A resemblance never settles anything.
            where t.is_settled and k.key is not null
        )
        select distinct on (o.transfer_id) l.line_id, o.transfer_id, l.amount_minor, l.fee_minor
        from theirs as l
        inner join ours as o
            on
                o.key = l.key and o.amount_minor = l.gross_minor and o.currency = l.currency
                and o.direction = l.direction and o.day = l.day and o.copy = l.copy
        order by o.transfer_id, l.line_id;
        insert into recon.matches (
            line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
        )
        select
            p.line_id, p.transfer_id, 'settle', 'party_and_day', p.amount_minor, p.fee_minor, run.tenant_id,
            run.environment, run.run_id
        from pg_temp.pairs as p
        order by p.line_id;
        perform recon.close_pairs();
    end loop;
end
$$;
comment on function recon.match_party_and_day is
'Rule 3: acquirer reference with authorisation code, or payer or payee, each with exact amount and a day within the rail''s tolerance. Only settled transfers; the n-th of a day with the n-th.';

create function recon.match_batches(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, value_date date, our_ref text, batch_ref text)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, is_settled boolean, direction text, amount_minor bigint, currency text, batch_ref text, transfer_ref text, originator_ref text, account_ref text)';
    -- One line for many transfers.
    create temp table pairs on commit drop as
    with batches as (
        select t.batch_ref, t.direction, t.currency, sum(t.amount_minor) as total_minor
        from pg_temp.open_transfers as t
        where t.is_settled and t.batch_ref is not null
        group by t.batch_ref, t.direction, t.currency
    ), sums as (
        select l.batch_ref, l.direction, l.currency, min(l.line_id) as line_id, sum(l.gross_minor) as total_minor
        from pg_temp.open_lines as l
        where l.type in ('payment', 'batch') and l.batch_ref is not null
        group by l.batch_ref, l.direction, l.currency
        having count(*) = 1
    )
    select
        s.line_id, t.transfer_id, t.amount_minor, 1::bigint as part,
        row_number() over (partition by s.line_id order by t.transfer_id) as share
    from sums as s
    inner join batches as b
        on
            b.batch_ref = s.batch_ref and b.direction = s.direction and b.currency = s.currency
            and b.total_minor = s.total_minor
    inner join pg_temp.open_transfers as t
        on t.batch_ref = b.batch_ref and t.direction = b.direction and t.currency = b.currency and t.is_settled;
    perform recon.write_batches(run);

    -- Many lines for one transfer, which each of them names.
    create temp table pairs on commit drop as
    with sums as (
        select l.our_ref, l.direction, l.currency, sum(l.gross_minor) as total_minor
        from pg_temp.open_lines as l
        where l.type = 'payment' and l.our_ref is not null
        group by l.our_ref, l.direction, l.currency
        having count(*) > 1
    ), wholes as (
        select distinct on (s.our_ref, s.direction, s.currency) s.our_ref, s.direction, s.currency, t.transfer_id
        from sums as s
        inner join (
            select o.*, k.key
            from pg_temp.open_transfers as o
            cross join lateral (values (o.transfer_ref), (o.originator_ref), (o.account_ref)) as k (key)
            where o.is_settled
        ) as t
            on
                t.key = s.our_ref and t.direction = s.direction and t.currency = s.currency
                and t.amount_minor = s.total_minor
        order by s.our_ref, s.direction, s.currency, t.transfer_id
    )
    select
        l.line_id, w.transfer_id, l.gross_minor as amount_minor,
        row_number() over (partition by w.transfer_id order by l.line_id) as part, 1::bigint as share
    from wholes as w
    inner join pg_temp.open_lines as l
        on l.our_ref = w.our_ref and l.direction = w.direction and l.currency = w.currency and l.type = 'payment';
    perform recon.write_batches(run);
end
$$;
comment on function recon.match_batches is
'Rule 4: one line is exactly the sum of the transfers of its batch, or a transfer is exactly the sum of the lines that name it.';

create function recon.write_batches(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
as $$
begin
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text, amount_minor bigint, part bigint, share bigint)';
    insert into recon.matches (
        line_id, transfer_id, leg, part, share, rule, amount_minor, fee_minor, tenant_id, environment, run_id
    )
    select
        p.line_id, p.transfer_id, 'settle', p.part, p.share, 'batch', p.amount_minor, 0, run.tenant_id, run.environment,
        run.run_id
    from pg_temp.pairs as p
    order by p.line_id, p.transfer_id;
    perform recon.close_pairs();
end
$$;
comment on function recon.write_batches is 'Writes the shares of batches as matches and closes them.';

reset role;

-- sql/recon/functions/runs.sql

-- One run of the matching rules: set-based, in one transaction, with an assertion at its end.

set role stalela_owner;

create function recon.match_lines(tenant_id text, environment text, rail text, days date[] default '{}')
returns jsonb
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    run recon.run;
    new_lines bigint;
    all_days date[];
    touched date[];
    counts jsonb;
begin
    perform recon.lock_rail(match_lines.tenant_id, match_lines.environment, match_lines.rail);
    run := recon.run_of(match_lines.tenant_id, match_lines.environment, match_lines.rail);
    run.run_id := nextval('recon.runs_run_id_seq');
    select coalesce(array_agg(s.statement_no order by s.statement_no), '{}'), coalesce(sum(s.lines), 0)
    into run.statement_nos, new_lines
    from recon.statements as s
    where
        s.tenant_id = match_lines.tenant_id and s.environment = match_lines.environment and s.rail = match_lines.rail
        and s.matched_at is null;
    -- Fresh lines have no statistics yet, and a million index look-ups cost more than one hash.
    perform set_config('enable_nestloop', case when new_lines > 20000 then 'off' else 'on' end, true);

    perform recon.match_receipts(run);
    perform recon.open_what_is_left(run);
    perform recon.mark_lines(run);
    perform recon.match_references(run);
    perform recon.match_returns(run);
    perform recon.match_party_and_day(run);
    perform recon.match_batches(run);
    perform recon.open_exceptions(run);
    select coalesce(array_agg(distinct d.day order by d.day), '{}') into all_days
    from unnest(recon.days_of(run) || match_lines.days) as d (day);
    perform recon.open_missing(run, all_days);
    touched := recon.close_matched_exceptions(run);
    update recon.statements as s set matched_at = now() where s.statement_no = any(run.statement_nos);
    select coalesce(array_agg(distinct d.day order by d.day), '{}') into all_days
    from unnest(all_days || touched) as d (day);
    counts := recon.count_sessions(run, all_days) || jsonb_build_object('exceptions', coalesce((
        select jsonb_object_agg(k.kind, k.number)
        from (
            select e.kind, count(*) as number
            from recon.exceptions as e
            where
                e.tenant_id = match_lines.tenant_id and e.environment = match_lines.environment
                and e.rail = match_lines.rail and e.business_date = any(all_days) and e.run_id = run.run_id
            group by e.kind
        ) as k
    ), '{}'));
    perform recon.alert_about_days(run, all_days);

    insert into recon.runs (run_id, tenant_id, environment, rail, finished_at, counts)
    overriding system value
    values (run.run_id, run.tenant_id, run.environment, run.rail, clock_timestamp(), counts);
    drop table pg_temp.open_lines, pg_temp.open_transfers;
    perform set_config('enable_nestloop', 'on', true);
    return counts;
end
$$;
comment on function recon.match_lines is
'Matches every line that waits with our transfers, rule by rule, first hit wins, and opens exceptions for the rest. days: counted anew besides those of the lines. All or nothing: it raises when a line or a due transfer is not accounted for exactly once.';

create function recon.lock_rail(tenant_id text, environment text, rail text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(
        hashtext('recon.lock_rail'), hashtext(concat_ws('|', tenant_id, environment, rail))
    );
end
$$;
comment on function recon.lock_rail is 'One run or decision of a tenant''s rail at a time: two would pair the same transfer. Until the transaction ends.';

create function recon.run_of(tenant_id text, environment text, rail text)
returns recon.run
language plpgsql
stable
security definer -- callers may not read rules
set search_path = ''
as $$
#variable_conflict use_column
declare
    run recon.run;
begin
    select r into strict run.rules from recon.rail_rules as r where r.rail = run_of.rail;
    run.tenant_id := run_of.tenant_id;
    run.environment := run_of.environment;
    run.rail := run_of.rail;
    run.statement_nos := '{}';
    run.time_zone := recon.time_zone_of(run_of.tenant_id);
    run.today := (now() at time zone run.time_zone)::date;
    return run;
end
$$;
comment on function recon.run_of is 'The rules, the zone and the day of a tenant''s rail, without a run number and without statements.';

create function recon.open_what_is_left(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not read lines
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    first_day date;
    last_day date;
    zone constant text := (run.rules).time_zone;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, statement_no bigint, line_no integer, line_hash bytea, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, value_date date, occurred_at timestamptz, external_ref text, our_ref text, linked_ref text, batch_ref text, acq_ref text, auth_code text, party_hash text, reopened boolean)';
    create temp table open_lines on commit drop as
    select
        l.line_id, l.statement_no, l.line_no, l.line_hash, l.type, l.direction, l.amount_minor, l.fee_minor,
        l.amount_minor + l.fee_minor as gross_minor, l.currency, l.value_date, l.occurred_at, l.external_ref,
        upper(regexp_replace(l.our_ref, '^.*:', '')) as our_ref, l.linked_ref, l.batch_ref, l.acq_ref, l.auth_code,
        l.party_hash, false as reopened
    from recon.statement_lines as l
    where
        l.statement_no = any(run.statement_nos)
        and not exists (select from recon.matches as m where m.line_id = l.line_id);
    -- What nothing fitted before may fit now: its transfer settled, or a person corrected it.
    insert into pg_temp.open_lines
    select
        l.line_id, l.statement_no, l.line_no, l.line_hash, l.type, l.direction, l.amount_minor, l.fee_minor,
        l.amount_minor + l.fee_minor, l.currency, l.value_date, l.occurred_at, l.external_ref,
        upper(regexp_replace(l.our_ref, '^.*:', '')), l.linked_ref, l.batch_ref, l.acq_ref, l.auth_code,
        l.party_hash, true
    from recon.exceptions as e
    inner join recon.statement_lines as l on l.line_id = e.line_id
    where
        e.tenant_id = run.tenant_id and e.environment = run.environment and e.rail = run.rail
        and e.status = 'open' and e.kind in ('UNMATCHED_LINE', 'STATE_CONFLICT')
        and e.opened_at > now() - interval '35 days';
    analyze pg_temp.open_lines;

    select min(l.value_date) - 4, max(l.value_date) + 4 into first_day, last_day from pg_temp.open_lines as l;
    create temp table open_transfers on commit drop as
    select
        o.transfer_id, o.state, o.is_settled, o.direction, o.amount_minor,
        o.amount_minor - (
            round(o.amount_minor * (run.rules).fee_bps / 10000.0)::bigint + (run.rules).fee_fixed_minor
        ) as net_minor,
        o.currency, o.receipt, o.rail_ref, o.linked_ref, o.party_hash, o.batch_ref,
        upper(o.transfer_id) as transfer_ref,
        upper(right(o.transfer_id, 20)) as originator_ref,
        upper(right(o.payment_intent_id, 12)) as account_ref,
        coalesce(o.settled_at, o.created_at) as moved_at,
        (coalesce(o.settled_at, o.created_at) at time zone zone)::date as moved_on
    from recon.our_side as o
    where
        o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
        and o.is_settled
        and o.settled_at >= first_day::timestamp at time zone zone
        and o.settled_at < last_day::timestamp at time zone zone
        and not exists (
            select from recon.matches as m where m.transfer_id = o.transfer_id and m.leg = 'settle'
        )
    union all
    select
        o.transfer_id, o.state, o.is_settled, o.direction, o.amount_minor, o.amount_minor, o.currency, o.receipt,
        o.rail_ref, o.linked_ref, o.party_hash, o.batch_ref, upper(o.transfer_id), upper(right(o.transfer_id, 20)),
        upper(right(o.payment_intent_id, 12)), o.created_at, (o.created_at at time zone zone)::date
    from recon.our_side as o
    where
        o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
        and not o.is_settled
        and o.created_at >= first_day::timestamp at time zone zone
        and o.created_at < last_day::timestamp at time zone zone;
    analyze pg_temp.open_transfers;
end
$$;
comment on function recon.open_what_is_left is
'Makes the two open sets of a run: lines that no receipt matched, with those of open exceptions, and transfers of those days that have no line. net_minor is what a rail that keeps its fee pays out.';

create function recon.days_of(run recon.run)
returns date[]
language plpgsql
stable
security definer -- callers may not read statements
set search_path = ''
as $$
begin
    return array(
        select distinct d.day::date
        from recon.statements as s
        cross join lateral generate_series(s.period_from, s.period_to, interval '1 day') as d (day)
        where s.statement_no = any(run.statement_nos)
        union
        select l.value_date from recon.statement_lines as l where l.statement_no = any(run.statement_nos)
        order by 1
    );
end
$$;
comment on function recon.days_of is 'The business days that the statements of a run are about: their periods, and the days of their lines.';

reset role;

-- sql/recon/functions/sessions.sql

-- Sessions as people read them, and the task that opens them.

set role stalela_owner;

create function recon.session_resource(session recon.recon_sessions)
returns json
language plpgsql
stable
security definer -- callers may not read figures
set search_path = ''
as $$
begin
    return json_build_object(
        'id', session.session_id,
        'object', 'recon_session',
        'rail', session.rail,
        'business_date', session.business_date,
        'time_zone', session.time_zone,
        'status', session.status,
        'environment', session.environment,
        'figures', coalesce((
            select json_agg(
                json_build_object(
                    'currency', f.currency,
                    'lines', json_build_object(
                        'count', f.lines, 'matched', f.lines_matched, 'marked', f.lines_marked,
                        'exceptions', f.lines_excepted,
                        'in', public.format_amount(f.lines_in_minor::bigint, f.currency),
                        'out', public.format_amount(f.lines_out_minor::bigint, f.currency),
                        'unmatched', public.format_amount(f.lines_unmatched_minor::bigint, f.currency)
                    ),
                    'transfers', json_build_object(
                        'count', f.transfers, 'matched', f.transfers_matched, 'exceptions', f.transfers_excepted,
                        'awaiting', f.transfers_awaiting,
                        'in', public.format_amount(f.transfers_in_minor::bigint, f.currency),
                        'out', public.format_amount(f.transfers_out_minor::bigint, f.currency),
                        'unmatched', public.format_amount(f.transfers_unmatched_minor::bigint, f.currency)
                    )
                )
                order by f.currency
            )
            from recon.session_figures as f
            where f.session_id = (session_resource.session).session_id
        ), '[]'),
        'opened_at', session.opened_at,
        'finished_at', session.finished_at,
        'updated_at', session.updated_at
    );
end
$$;
comment on function recon.session_resource is 'The wire shape of a session with its figures per currency.';

create function recon.visible_session(session_id text)
returns recon.recon_sessions
language plpgsql
volatile
security definer -- callers may not read sessions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    session recon.recon_sessions;
begin
    select s.* into session
    from recon.recon_sessions as s
    where
        s.session_id = visible_session.session_id and s.tenant_id = caller.tenant_id
        and s.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no session %s here.', visible_session.session_id));
    end if;
    return session;
end
$$;
comment on function recon.visible_session is 'A session of the caller''s own tenant and environment; otherwise 40401.';

create function recon.list_sessions(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read sessions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    page json;
    next_cursor text;
begin
    with found as (
        select s
        from recon.recon_sessions as s
        where
            s.tenant_id = caller.tenant_id and s.environment = caller.environment
            and (not filters ? 'rail' or s.rail = filters ->> 'rail')
            and (not filters ? 'status' or s.status = filters ->> 'status')
            and (not filters ? 'from' or s.business_date >= (filters ->> 'from')::date)
            and (not filters ? 'to' or s.business_date <= (filters ->> 'to')::date)
            and (
                list_sessions.page_after is null
                or (s.business_date, s.session_id) < (
                    split_part(list_sessions.page_after, '.', 1)::date, split_part(list_sessions.page_after, '.', 2)
                )
            )
        order by s.business_date desc, s.session_id desc
        limit list_sessions.page_size + 1
    ), numbered as (
        select (f.s).business_date, (f.s).session_id, f.s, row_number() over (order by (f.s).business_date desc, (f.s).session_id desc) as n
        from found as f
    )
    select
        coalesce(json_agg(recon.session_resource(n.s) order by n.n) filter (where n.n <= list_sessions.page_size), '[]'),
        case when count(*) > list_sessions.page_size then (
            array_agg(n.business_date || '.' || n.session_id order by n.n)
        )[list_sessions.page_size] end
    into page, next_cursor
    from numbered as n;
    return public.reply(caller, 200, json_build_object(
        'data', page,
        'pagination', json_build_object(
            'limit', list_sessions.page_size, 'has_more', next_cursor is not null, 'next_cursor', next_cursor
        )
    ));
end
$$;
comment on function recon.list_sessions is
'One page of the caller''s sessions, latest day first. filters: rail, status, from, to (days). page_after: the cursor of the page before.';

create function recon.get_session(session_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read sessions
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('recon:read', 'read');
begin
    return public.reply(caller, 200, recon.session_resource(recon.visible_session(get_session.session_id)));
end
$$;
comment on function recon.get_session is 'One session with its figures.';

create function recon.session_report(session_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read lines
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    session recon.recon_sessions := recon.visible_session(session_report.session_id);
begin
    return public.reply(caller, 200, json_build_object(
        'object', 'recon_report',
        'organisation', (select t.name from public.tenants as t where t.tenant_id = session.tenant_id),
        'session', recon.session_resource(session),
        'statements', coalesce((
            select json_agg(recon.statement_resource(s, false) order by s.statement_no)
            from recon.statements as s
            where
                s.tenant_id = session.tenant_id and s.environment = session.environment and s.rail = session.rail
                and session.business_date between s.period_from and s.period_to
        ), '[]'),
        'rules', coalesce((
            select json_agg(
                json_build_object(
                    'rule', r.rule, 'currency', r.currency, 'lines', r.lines,
                    'amount', public.format_amount(r.minor::bigint, r.currency)
                )
                order by r.currency, r.rule
            )
            from (
                select m.rule, l.currency, count(*) as lines, sum(l.amount_minor) as minor
                from recon.statement_lines as l
                inner join recon.matches as m on m.line_id = l.line_id and m.share = 1
                where
                    l.tenant_id = session.tenant_id and l.environment = session.environment and l.rail = session.rail
                    and l.value_date = session.business_date
                group by m.rule, l.currency
            ) as r
        ), '[]'),
        'exceptions', coalesce((
            select json_agg(recon.exception_resource(e) order by e.kind, e.opened_at, e.exception_id)
            from (
                select x.*
                from recon.exceptions as x
                where
                    x.tenant_id = session.tenant_id and x.environment = session.environment and x.rail = session.rail
                    and x.business_date = session.business_date
                order by x.kind, x.opened_at, x.exception_id
                limit 10000
            ) as e
        ), '[]')
    ));
end
$$;
comment on function recon.session_report is
'Everything a session''s report says: figures, the statements of the day, what each rule matched, and its exceptions, at most 10,000 of them.';

create function recon.open_day(tenant_id text, environment text, rail text, day date)
returns void
language plpgsql
volatile
security definer -- callers may not write sessions
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into recon.recon_sessions (session_id, tenant_id, environment, rail, business_date, time_zone)
    values (
        public.new_id('rs'), open_day.tenant_id, open_day.environment, open_day.rail, open_day.day,
        recon.time_zone_of(open_day.tenant_id)
    )
    on conflict on constraint recon_sessions_tenant_id_environment_rail_business_date_key do nothing;
end
$$;
comment on function recon.open_day is 'Opens the session of a day, once.';

create function recon.daily()
returns integer
language plpgsql
volatile
security definer -- cron may not write sessions
set search_path = ''
as $$
#variable_conflict use_column
declare
    due record;
    done integer := 0;
begin
    -- Whose day has begun: each tenant's own, for every rail it has credentials of.
    for due in
        select c.tenant_id, c.environment, c.rail, z.today
        from rails.credentials as c
        inner join recon.rail_rules as r on r.rail = c.rail
        cross join lateral (select (now() at time zone recon.time_zone_of(c.tenant_id))::date as today) as z
        where not exists (
            select from recon.recon_sessions as s
            where
                s.tenant_id = c.tenant_id and s.environment = c.environment and s.rail = c.rail
                and s.business_date = z.today
        )
        order by c.tenant_id, c.environment, c.rail
        limit 1000
    loop
        perform recon.open_day(due.tenant_id, due.environment, due.rail, due.today);
        done := done + 1;
    end loop;

    -- A statement whose run was cut off, and days whose time is over.
    for due in
        select
            x.tenant_id, x.environment, x.rail,
            array_agg(x.day order by x.day) filter (where x.day is not null) as days
        from (
            select s.tenant_id, s.environment, s.rail, null::date as day
            from recon.statements as s
            where s.matched_at is null and s.imported_at < now() - interval '1 minute'
            union
            select s.tenant_id, s.environment, s.rail, s.business_date
            from recon.recon_sessions as s
            inner join recon.rail_rules as r on r.rail = s.rail
            cross join lateral (select (now() at time zone s.time_zone)::date as today) as z
            where
                s.status = 'open' and s.updated_at < now() - interval '1 hour'
                and s.business_date + r.missing_after_days < z.today and s.business_date > z.today - 35
        ) as x
        group by x.tenant_id, x.environment, x.rail
        order by x.tenant_id, x.environment, x.rail
        limit 20
    loop
        perform recon.match_lines(due.tenant_id, due.environment, due.rail, coalesce(due.days, '{}'));
        done := done + 1;
    end loop;
    return done;
end
$$;
comment on function recon.daily is
'Opens the session of each tenant''s day, matches what waits, and asks about what is missing after its time. A cron task; each call does a part and the next goes on.';

reset role;

-- sql/recon/functions/statements.sql

-- Statements come in, whole or not at all.

set role stalela_owner;

create function recon.import_statement(rail text, statement jsonb, lines jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write statements
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    imported recon.statements;
    written bigint;
    sums jsonb;
begin
    if not exists (select from recon.rail_rules as r where r.rail = import_statement.rail) then
        perform public.refuse_field('42262', '/rail', 'there are no reconciliation rules for this rail.');
    end if;
    insert into recon.statements as s (
        statement_id, tenant_id, environment, rail, format, file_name, sha256, account_ref, period_from, period_to,
        lines, totals, file_sealed, imported_by
    ) values (
        public.new_id('stm'), caller.tenant_id, caller.environment, import_statement.rail, statement ->> 'format',
        statement ->> 'file_name', statement ->> 'sha256', statement ->> 'account_ref',
        (statement ->> 'period_from')::date, (statement ->> 'period_to')::date, (statement ->> 'lines')::integer,
        statement -> 'totals', statement ->> 'file_sealed', caller.actor
    )
    on conflict (tenant_id, environment, rail, sha256) do nothing
    returning s.* into imported;
    if not found then
        select s.* into strict imported
        from recon.statements as s
        where
            s.tenant_id = caller.tenant_id and s.environment = caller.environment
            and s.rail = import_statement.rail and s.sha256 = import_statement.statement ->> 'sha256';
        return public.reply(caller, 200, recon.statement_resource(imported, true));
    end if;

    insert into recon.statement_lines (
        statement_no, line_no, line_hash, tenant_id, environment, rail, type, direction, amount_minor, fee_minor,
        currency, value_date, occurred_at, external_ref, our_ref, linked_ref, batch_ref, acq_ref, auth_code, party_hash
    )
    select
        imported.statement_no, x.line_no, decode(x.line_hash, 'hex'), caller.tenant_id, caller.environment,
        import_statement.rail, x.type, x.direction, x.amount_minor, x.fee_minor, x.currency, x.value_date, x.occurred_at,
        x.external_ref, x.our_ref, x.linked_ref, x.batch_ref, x.acq_ref, x.auth_code, x.party_hash
    from jsonb_to_recordset(import_statement.lines) as x (
        line_no integer, line_hash text, type text, direction text, amount_minor bigint, fee_minor bigint,
        currency text, value_date date, occurred_at timestamptz, external_ref text, our_ref text, linked_ref text,
        batch_ref text, acq_ref text, auth_code text, party_hash text
    );
    get diagnostics written = row_count;
    -- What was read and what was written are the same money.
    select coalesce(jsonb_object_agg(t.currency, jsonb_build_object('in', t.in_minor, 'out', t.out_minor)), '{}') into sums
    from (
        select
            l.currency,
            coalesce(sum(l.amount_minor) filter (where l.direction = 'in'), 0) as in_minor,
            coalesce(sum(l.amount_minor) filter (where l.direction = 'out'), 0) as out_minor
        from recon.statement_lines as l
        where l.statement_no = imported.statement_no
        group by l.currency
    ) as t;
    if written <> imported.lines or sums <> imported.totals then
        raise exception 'statement %: % lines of % were written, or other sums', imported.statement_id, written, imported.lines;
    end if;
    perform public.audit(caller, 'statement.import', imported.statement_id, jsonb_build_object(
        'rail', imported.rail, 'sha256', imported.sha256, 'lines', imported.lines
    ));
    return public.reply(caller, 201, recon.statement_resource(imported, false));
end
$$;
comment on function recon.import_statement is
'Stores a statement and its lines in one transaction; the same file again (sha256) changes nothing and answers 200. lines: what shared/recon reads from the file.';

create function recon.statement_resource(statement recon.statements, already_imported boolean)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', statement.statement_id,
        'object', 'statement',
        'rail', statement.rail,
        'format', statement.format,
        'file_name', statement.file_name,
        'sha256', statement.sha256,
        'account', statement.account_ref,
        'period_from', statement.period_from,
        'period_to', statement.period_to,
        'lines', statement.lines,
        'already_imported', already_imported,
        'environment', statement.environment,
        'imported_at', statement.imported_at,
        'matched_at', statement.matched_at
    );
end
$$;
comment on function recon.statement_resource is 'The wire shape of a statement.';

create function recon.match_statement(statement_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    statement recon.statements;
    counts jsonb;
begin
    -- The upload was counted already; this is its second half.
    if not public.holds_scope(caller.scopes, 'recon:write') then
        perform public.refuse('40311', 'This needs the scope recon:write.');
    end if;
    select s.* into statement
    from recon.statements as s
    where
        s.statement_id = match_statement.statement_id and s.tenant_id = caller.tenant_id
        and s.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no statement %s here.', match_statement.statement_id));
    elsif statement.matched_at is null then
        counts := recon.match_lines(statement.tenant_id, statement.environment, statement.rail);
        statement.matched_at := now();
    end if;
    return public.reply(caller, 200, json_build_object(
        'counts', counts,
        'sessions', coalesce((
            select json_agg(recon.session_resource(s) order by s.business_date)
            from recon.recon_sessions as s
            where
                s.tenant_id = caller.tenant_id and s.environment = caller.environment and s.rail = statement.rail
                and s.business_date between statement.period_from and statement.period_to
        ), '[]')
    ));
end
$$;
comment on function recon.match_statement is 'Runs the rules over what waits on this statement''s rail, once; the sessions of its days.';

create function recon.reject_statement(
    rail text, format text, file_name text, sha256 text, kind text, line_no integer, reason text
)
returns text
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    opened text;
begin
    if not exists (select from recon.rail_rules as r where r.rail = reject_statement.rail) then
        perform public.refuse_field('42262', '/rail', 'there are no reconciliation rules for this rail.');
    end if;
    select e.exception_id into opened
    from recon.exceptions as e
    where
        e.tenant_id = caller.tenant_id and e.environment = caller.environment and e.rail = reject_statement.rail
        and e.line_id is null and e.transfer_id is null and e.status = 'open'
        and e.details ->> 'sha256' = reject_statement.sha256;
    if found then
        return opened;
    end if;
    insert into recon.exceptions (exception_id, tenant_id, environment, rail, kind, details)
    values (
        public.new_id('exc'), caller.tenant_id, caller.environment, reject_statement.rail, reject_statement.kind,
        jsonb_strip_nulls(jsonb_build_object(
            'format', reject_statement.format, 'file_name', reject_statement.file_name,
            'sha256', reject_statement.sha256, 'line', reject_statement.line_no, 'reason', reject_statement.reason
        ))
    )
    returning exception_id into opened;
    perform public.raise_alert(
        'recon_file_rejected', 'warning', opened, caller.tenant_id, caller.environment,
        jsonb_build_object('rail', reject_statement.rail, 'line', reject_statement.line_no, 'reason', reject_statement.reason)
    );
    return opened;
end
$$;
comment on function recon.reject_statement is
'Records that a whole file was refused, and why; the same file again finds the same open question. Nothing of the file is kept.';

create function recon.put_column_map(name text, columns jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write column maps
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'manage');
begin
    insert into recon.column_maps (tenant_id, environment, name, columns, created_by)
    values (caller.tenant_id, caller.environment, put_column_map.name, put_column_map.columns, caller.actor)
    on conflict on constraint column_maps_pkey do update
    set columns = excluded.columns, created_by = excluded.created_by, updated_at = now();
    perform public.audit(caller, 'column_map.put', put_column_map.name, put_column_map.columns);
    return public.reply(caller, 200, json_build_object(
        'name', put_column_map.name, 'object', 'column_map', 'columns', put_column_map.columns
    ));
end
$$;
comment on function recon.put_column_map is 'Stores or replaces how to read one kind of CSV statement of the caller.';

create function recon.get_column_map(name text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read column maps
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    columns jsonb;
begin
    select c.columns into columns
    from recon.column_maps as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.name = get_column_map.name;
    if not found then
        perform public.refuse('40401', format('There is no column map %s here.', get_column_map.name));
    end if;
    return public.reply(caller, 200, json_build_object(
        'name', get_column_map.name, 'object', 'column_map', 'columns', columns
    ));
end
$$;
comment on function recon.get_column_map is 'One stored column map of the caller; 40401 when there is none of that name.';

reset role;

-- sql/messages/functions/alerts.sql

-- Alerts on their way to people: who must be told of what, at most once per kind and quarter of an hour.

set role stalela_owner;

create function messages.untold_alerts()
returns table (alert_id bigint, kind text, destination text, tenant_id text, environment text)
language plpgsql
stable
security definer -- callers may not read alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    coalesce_since timestamptz := now() - make_interval(secs => public.setting('alerts.coalesce_s')::integer);
    remind_since timestamptz := now() - make_interval(secs => public.setting('alerts.remind_s')::integer);
begin
    return query
    select a.alert_id, a.kind, w.destination, w.tenant_id, w.environment
    from public.alerts as a
    left join messages.alert_kinds as k on k.kind = a.kind
    cross join lateral (
        select 'platform' as destination, null::text as tenant_id, null::text as environment
        union all
        select concat_ws(':', a.tenant_id, coalesce(a.environment, 'production')), a.tenant_id,
            coalesce(a.environment, 'production')
        where k.to_owners and a.tenant_id is not null
    ) as w
    left join messages.alert_notices as n on n.alert_id = a.alert_id and n.destination = w.destination
    left join messages.alert_digests as d on d.kind = a.kind and d.destination = w.destination
    where
        a.status = 'open'
        and (n.alert_id is null or (n.told_at <= remind_since and a.last_at > n.told_at))
        and (d.told_at is null or d.told_at <= coalesce_since);
end
$$;
comment on function messages.untold_alerts is
'Open alerts and whom they must be told now: never told, or still happening a day later, and nobody was told of this kind within alerts.coalesce_s.';

create function messages.take_alerts(most_shown integer)
returns setof jsonb
language plpgsql
stable
security definer -- callers may not read alerts
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'kind', u.kind,
        'destination', u.destination,
        'tenant_id', u.tenant_id,
        'environment', u.environment,
        'tenant', (select n.name from public.tenants as n where n.tenant_id = u.tenant_id),
        'title', coalesce((select k.title from messages.alert_kinds as k where k.kind = u.kind), u.kind),
        'advice', (select k.advice from messages.alert_kinds as k where k.kind = u.kind),
        'count', count(*),
        'severity', case max(case a.severity when 'critical' then 3 when 'warning' then 2 else 1 end)
            when 3 then 'critical' when 2 then 'warning' else 'info' end,
        'alert_ids', jsonb_agg(a.alert_id order by a.alert_id),
        'alerts', to_jsonb((array_agg(
            jsonb_build_object(
                'alert_id', a.alert_id, 'subject', a.subject, 'environment', a.environment,
                'tenant_id', a.tenant_id, 'details', a.details, 'occurrences', a.occurrences,
                'first_at', to_char(a.first_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
                'last_at', to_char(a.last_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
            ) order by a.alert_id
        ))[1:most_shown]),
        'owners', case when u.tenant_id is not null then coalesce((
            select jsonb_agg(p.email order by p.email)
            from public.memberships as m
            inner join public.users as p on p.user_id = m.user_id
            where
                m.tenant_id = u.tenant_id and m.app_role = 'owner' and m.status = 'active' and p.email is not null
        ), '[]') end
    )
    from messages.untold_alerts() as u
    inner join public.alerts as a on a.alert_id = u.alert_id
    group by u.kind, u.destination, u.tenant_id, u.environment
    order by min(a.first_at);
end
$$;
comment on function messages.take_alerts is
'One digest per kind and destination of what must be told now, the first most_shown alerts of each in full. owners: addresses of the tenant''s owners; null for the platform.';

create function messages.keep_alerts(digests jsonb)
returns integer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    digest jsonb;
    mail jsonb;
    kept integer := 0;
begin
    for digest in select d from jsonb_array_elements(digests) as d loop
        -- The insert decides: of two processes with the same digest one tells people.
        insert into messages.alert_digests as g (kind, destination, told_at)
        values (digest ->> 'kind', digest ->> 'destination', now())
        on conflict on constraint alert_digests_pkey do update
        set told_at = now()
        where g.told_at <= now() - make_interval(secs => public.setting('alerts.coalesce_s')::integer);
        continue when not found;

        insert into messages.alert_notices as n (alert_id, destination, occurrences)
        select a.alert_id, digest ->> 'destination', a.occurrences
        from public.alerts as a
        where a.alert_id in (select i::bigint from jsonb_array_elements_text(digest -> 'alert_ids') as i)
        on conflict on constraint alert_notices_pkey do update
        set occurrences = excluded.occurrences, told_at = now();
        for mail in select m from jsonb_array_elements(digest -> 'mails') as m loop
            kept := kept + ((messages.add_message(
                case when digest ->> 'destination' = 'platform' then 'platform_alert' else 'tenant_alert' end,
                digest ->> 'tenant_id', digest ->> 'environment', digest ->> 'kind', mail ->> 'dedupe_key', mail
            )).message_id is not null)::integer;
        end loop;
    end loop;
    return kept;
end
$$;
comment on function messages.keep_alerts is
'Keeps the mails of rendered digests {kind, destination, tenant_id, environment, alert_ids, mails} and notes who was told; a digest that somebody else kept is left out. Returns how many mails are new.';

create function messages.poke_alerts()
returns boolean
language plpgsql
volatile
security definer -- callers may not read alerts
set search_path = ''
as $$
begin
    if not exists (select from messages.untold_alerts()) and not exists (
        select from messages.messages as m
        where m.status = 'queued' and m.next_attempt_at <= now() and m.kind in ('platform_alert', 'tenant_alert')
    ) then
        return false;
    end if;
    perform public.poke('alerts');
    return true;
end
$$;
comment on function messages.poke_alerts is 'Wakes the alerts function when somebody must be told of something. A cron task.';

create function messages.poke_on_alert()
returns trigger
language plpgsql
volatile
security definer -- callers may not poke
set search_path = ''
as $$
begin
    perform public.poke('alerts');
    return null;
end
$$;
comment on function messages.poke_on_alert is 'Wakes the alerts function as soon as an alert is committed; never fails, never waits.';

-- Reading and closing

create function messages.list_alerts(status text, kind text, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    is_operator boolean := public.holds_scope(caller.scopes, 'platform:operate');
    entries json[];
begin
    if page_after !~ '^[0-9]{1,18}$' then
        perform public.refuse_field('42262', '/cursor', 'Pass next_cursor of the previous page, unchanged.');
    end if;
    entries := array(
        select row_to_json(shown)
        from (
            select
                a.alert_id as id, 'alert' as object, a.kind, a.severity, a.subject,
                coalesce(k.title, a.kind) as title, k.advice, a.details, a.status, a.occurrences, a.tenant_id,
                a.environment, a.first_at, a.last_at, a.resolved_at, a.resolution
            from public.alerts as a
            left join messages.alert_kinds as k on k.kind = a.kind
            where
                (is_operator or (a.tenant_id = caller.tenant_id and a.environment = caller.environment))
                and a.status = list_alerts.status
                and (list_alerts.kind is null or a.kind = list_alerts.kind)
                and (page_after is null or a.alert_id < page_after::bigint)
            order by a.alert_id desc
            limit page_size + 1
        ) as shown
    );
    return public.reply(caller, 200, json_build_object(
        'data', to_json(entries[1:page_size]),
        'pagination', json_build_object(
            'limit', page_size,
            'has_more', cardinality(entries) > page_size,
            'next_cursor', case when cardinality(entries) > page_size then entries[page_size] ->> 'id' end
        )
    ));
end
$$;
comment on function messages.list_alerts is
'One page of alerts, newest first: a tenant''s own in the caller''s environment, or all of them for operators (platform:operate).';

create function messages.resolve_alert(alert_id bigint, idempotency_key text, body_hash text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    subject public.caller := caller;
    route constant text := 'POST /alerts/{id}/resolve';
    answer public.answer;
    alert public.alerts;
    closed integer := 0;
begin
    answer := public.claim_idempotency(
        caller, route, resolve_alert.idempotency_key, concat_ws(':', resolve_alert.body_hash, resolve_alert.alert_id)
    );
    if answer.body is not null then
        return answer;
    end if;
    select a.* into alert
    from public.alerts as a
    where
        a.alert_id = resolve_alert.alert_id
        and (
            public.holds_scope(caller.scopes, 'platform:operate')
            or (a.tenant_id = caller.tenant_id and a.environment = caller.environment)
        )
    for update;
    if not found then
        perform public.refuse('40401', format('There is no alert %s here.', resolve_alert.alert_id));
    elsif alert.status <> 'open' then
        perform public.refuse('40911', 'This alert is resolved already.', jsonb_build_object(
            'current_state', alert.status, 'allowed', '[]'::jsonb
        ));
    end if;
    update public.alerts as a
    set status = 'resolved', resolved_at = now(), resolution = resolve_alert.reason
    where a.alert_id = alert.alert_id
    returning a.* into alert;
    if alert.kind = 'callback_parked' and alert.subject like '% unmatched' then
        -- No transfer, so no review would ever close them.
        closed := messages.close_callbacks(array(
            select c.callback_id
            from rails.callbacks as c
            where
                c.transfer_id is null and c.rail = split_part(alert.subject, ' ', 1) and c.received_at <= now()
                and c.tenant_id is not distinct from alert.tenant_id
        ), resolve_alert.reason);
    end if;
    subject.tenant_id := alert.tenant_id;
    subject.environment := alert.environment;
    perform public.audit(subject, 'alert.resolve', alert.alert_id::text, jsonb_build_object(
        'kind', alert.kind, 'subject', alert.subject, 'reason', resolve_alert.reason, 'callbacks_closed', closed
    ));
    answer := public.reply(caller, 200, json_build_object(
        'id', alert.alert_id, 'object', 'alert', 'kind', alert.kind, 'subject', alert.subject,
        'status', alert.status, 'resolved_at', alert.resolved_at, 'resolution', alert.resolution,
        'callbacks_closed', closed
    ));
    perform public.remember_answer(caller, route, resolve_alert.idempotency_key, alert.alert_id::text, answer);
    return answer;
end
$$;
comment on function messages.resolve_alert is
'A person closes an alert, with a reason; audited. That of unmatched parked callbacks closes those callbacks as well. 40401, 40911.';

create function messages.resolve_callback(callback_id bigint, idempotency_key text, body_hash text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write dispositions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    subject public.caller := caller;
    route constant text := 'POST /alerts/callbacks/{id}/resolve';
    answer public.answer;
    kept rails.callbacks;
begin
    answer := public.claim_idempotency(
        caller, route, resolve_callback.idempotency_key,
        concat_ws(':', resolve_callback.body_hash, resolve_callback.callback_id)
    );
    if answer.body is not null then
        return answer;
    end if;
    select c.* into kept
    from rails.callbacks as c
    where
        c.callback_id = resolve_callback.callback_id
        and (
            public.holds_scope(caller.scopes, 'platform:operate')
            or (c.tenant_id = caller.tenant_id and c.environment = caller.environment)
        );
    if not found then
        perform public.refuse('40401', format('There is no callback %s here.', resolve_callback.callback_id));
    elsif kept.transfer_id is not null then
        perform public.refuse('40911', format(
            'This callback belongs to transfer %s: resolve its review.', kept.transfer_id
        ));
    elsif messages.close_callbacks(array[kept.callback_id], resolve_callback.reason) = 0 then
        perform public.refuse('40911', 'This callback does not wait for a decision.');
    end if;
    if not exists (
        select from rails.callbacks as c
        where
            c.transfer_id is null and c.rail = kept.rail and c.tenant_id is not distinct from kept.tenant_id
            and messages.is_parked(c.callback_id)
    ) then
        perform public.resolve_alert('callback_parked', kept.rail || ' unmatched', resolve_callback.reason);
    end if;
    subject.tenant_id := kept.tenant_id;
    subject.environment := kept.environment;
    perform public.audit(subject, 'callback.resolve', kept.callback_id::text, jsonb_build_object(
        'rail', kept.rail, 'reason', resolve_callback.reason
    ));
    answer := public.reply(caller, 200, json_build_object(
        'id', kept.callback_id, 'object', 'callback', 'rail', kept.rail, 'disposition', 'resolved',
        'reason', resolve_callback.reason
    ));
    perform public.remember_answer(caller, route, resolve_callback.idempotency_key, kept.callback_id::text, answer);
    return answer;
end
$$;
comment on function messages.resolve_callback is
'A person closes one parked callback that belongs to no transfer, with a reason; audited. The last one of a rail closes their alert. 40401, 40911.';

create function messages.is_parked(callback_id bigint)
returns boolean
language plpgsql
stable
security definer -- callers may not read dispositions
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select d.disposition in ('parked', 'failed')
        from rails.callback_dispositions as d
        where d.callback_id = is_parked.callback_id
        order by d.number desc
        limit 1
    );
end
$$;
comment on function messages.is_parked is 'Whether a callback waits for a person.';

create function messages.close_callbacks(callback_ids bigint[], reason text)
returns integer
language plpgsql
volatile
security definer -- callers may not write dispositions
set search_path = ''
as $$
#variable_conflict use_column
declare
    closed integer;
begin
    insert into rails.callback_dispositions (callback_id, number, tenant_id, environment, disposition, reason)
    select c.callback_id, (
        select max(d.number) + 1 from rails.callback_dispositions as d where d.callback_id = c.callback_id
    ), c.tenant_id, c.environment, 'resolved', close_callbacks.reason
    from rails.callbacks as c
    where c.callback_id = any(callback_ids) and messages.is_parked(c.callback_id);
    get diagnostics closed = row_count;
    return closed;
end
$$;
comment on function messages.close_callbacks is 'Appends resolved to those of these callbacks that wait for a person; how many did.';

-- Watching

create function messages.watch()
returns integer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform messages.watch_transfers();
    return messages.watch_slos();
end
$$;
comment on function messages.watch is 'Raises and resolves alerts about what nobody reports by itself: stuck transfers, missed service levels. A cron task.';

create function messages.watch_transfers()
returns integer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    stuck record;
    before timestamptz := now() - make_interval(secs => public.setting('alerts.stuck_after_s')::integer);
    found_ integer := 0;
begin
    for stuck in
        select r.rail, count(t.transfer_id) as open, min(t.created_at) as since
        from rails.rails as r
        left join payments.transfers as t
            on t.rail = r.rail and t.state in ('INITIATED', 'SUBMITTED', 'ACCEPTED')
            and t.created_at <= before and t.review_reason is null
        group by r.rail
    loop
        if stuck.open = 0 then
            perform public.resolve_alert('transfers_stuck', stuck.rail, 'none is stuck any more');
        else
            perform public.raise_alert(
                'transfers_stuck', 'warning', stuck.rail, null, null,
                jsonb_build_object('transfers', stuck.open, 'oldest', stuck.since)
            );
            found_ := found_ + 1;
        end if;
    end loop;
    return found_;
end
$$;
comment on function messages.watch_transfers is
'One alert per rail while transfers stay open longer than alerts.stuck_after_s and wait for no person; resolved by itself.';

create function messages.watch_slos()
returns integer
language plpgsql
volatile
security definer -- callers may not read figures
set search_path = ''
as $$
#variable_conflict use_column
declare
    level messages.slos;
    least_cases integer := public.setting('alerts.slo_least')::integer;
    spell record;
    good bigint;
    total bigint;
    burn numeric;
    burning integer := 0;
    worst jsonb;
begin
    for level in select s.* from messages.slos as s order by s.slo loop
        worst := null;
        -- 2 % of a month's error budget within an hour, or 5 % within six (nucleus reference §19).
        for spell in select * from (values (1, 14.4), (6, 6.0)) as v (hours, most) loop
            execute format(
                'select good, total from %I.%I($1, $2)',
                split_part(level.routine, '.', 1), split_part(level.routine, '.', 2)
            ) into good, total using now() - make_interval(hours => spell.hours), level.target_s;
            continue when total < least_cases;
            burn := (total - good)::numeric / total / ((10000 - level.objective_bps) / 10000.0);
            if burn >= spell.most and worst is null then
                worst := jsonb_build_object(
                    'hours', spell.hours, 'burn', round(burn, 1), 'most', spell.most, 'good', good,
                    'total', total, 'what', level.description
                );
            end if;
        end loop;
        if worst is null then
            perform public.resolve_alert('slo_burning', level.slo, 'within its budget again');
        else
            perform public.raise_alert('slo_burning', 'critical', level.slo, null, null, worst);
            burning := burning + 1;
        end if;
    end loop;
    return burning;
end
$$;
comment on function messages.watch_slos is
'One alert per service level while its error budget of 30 days burns 14.4 times too fast over an hour, or 6 times over six; resolved by itself.';

create function messages.callback_figures(since timestamptz, target_s integer, out good bigint, out total bigint)
language plpgsql
stable
security definer -- callers may not read callbacks
set search_path = ''
as $$
begin
    -- Only what the rail itself sent about transfers of ours: a forger must not be able to spend our budget.
    select count(*) filter (where exists (
        select from rails.callback_dispositions as d
        where
            d.callback_id = c.callback_id and d.disposition <> 'failed'
            and d.decided_at <= c.received_at + make_interval(secs => target_s)
    )), count(*)
    into good, total
    from rails.callbacks as c
    where
        c.received_at >= since and c.received_at <= now() - make_interval(secs => target_s)
        and c.transfer_id is not null and c.source_trusted;
end
$$;
comment on function messages.callback_figures is 'Of the callbacks about our transfers since then: how many were concluded within target_s, and how many there were.';

create function messages.first_id(prefix text, instant timestamptz)
returns text
language sql
stable
set search_path = ''
as $$
    select prefix || '_' || string_agg(
        substr(
            '0123456789abcdefghjkmnpqrstvwxyz',
            ((extract(epoch from instant) * 1000)::bigint >> (45 - 5 * place) & 31)::integer + 1, 1
        ), '' order by place
    ) || repeat('0', 16)
    from generate_series(0, 9) as place;
$$;
comment on function messages.first_id is 'The smallest id of public.new_id from this millisecond on: its first ten characters are the time.';

create function messages.transfer_figures(since timestamptz, target_s integer, out good bigint, out total bigint)
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    select
        count(*) filter (
            where t.state in ('SETTLED', 'RETURNED', 'FAILED')
            and coalesce(t.settled_at, t.updated_at) <= t.submitted_at + make_interval(secs => target_s)
        ),
        count(*)
    into good, total
    from payments.transfers as t
    -- Ids are in the order of creation, so the key finds the recent ones.
    where t.transfer_id >= messages.first_id('tr', since) and t.submitted_at <= now() - make_interval(secs => target_s);
end
$$;
comment on function messages.transfer_figures is 'Of the transfers sent to a rail since then: how many ended within target_s, and how many there were.';

reset role;

-- sql/messages/functions/receipts.sql

-- Receipts: what they say comes from here, how they say it from the function that renders them.

set role stalela_owner;

create function messages.receipt_facts(kind text, payment_intent_id text, transfer_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read intents and transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'kind', receipt_facts.kind,
            'payment_intent_id', i.payment_intent_id,
            'tenant_id', i.tenant_id,
            'environment', i.environment,
            'merchant', n.name,
            'customer_sealed', i.customer_sealed,
            'language', coalesce(c.language, 'en'),
            'amount', public.format_amount(t.amount_minor, t.currency),
            'currency', t.currency,
            'description', i.description,
            'rail', r.name,
            'receipt', t.receipt,
            'account', t.payer_masked,
            'paid_at', to_char(
                t.settled_at at time zone coalesce(c.time_zone, 'UTC'), 'YYYY-MM-DD"T"HH24:MI'
            ),
            'zone', coalesce(c.time_zone, 'UTC')
        )
        from payments.payment_intents as i
        inner join payments.transfers as t on t.transfer_id = coalesce(receipt_facts.transfer_id, i.latest_transfer_id)
        inner join public.tenants as n on n.tenant_id = i.tenant_id
        left join rails.rails as r on r.rail = t.rail
        left join messages.countries as c on c.country = n.country
        where
            i.payment_intent_id = coalesce(receipt_facts.payment_intent_id, (
                select o.payment_intent_id from payments.transfers as o where o.transfer_id = receipt_facts.transfer_id
            ))
            and t.settled_at is not null
    );
end
$$;
comment on function messages.receipt_facts is
'All that a receipt of this payment (or, with the transfer of a refund, of that refund) says; null while nothing is settled. paid_at is the merchant''s wall clock.';

create function messages.take_receipts(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'outbox_id', d.outbox_id,
        'event_id', d.event_id,
        'event_type', d.event_type,
        'facts', case d.event_type
            when 'payment_intent.succeeded' then messages.receipt_facts('receipt', d.ordering_key, null)
            when 'refund.succeeded' then messages.receipt_facts('refund_receipt', null, d.ordering_key)
        end
    )
    from payments.lease_events('receipts', take_receipts.max_rows) as d;
end
$$;
comment on function messages.take_receipts is
'Leases events that call for a receipt, each with its facts; null facts: of a type that nobody taught us.';

create function messages.keep_receipts(receipts jsonb)
returns integer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    receipt jsonb;
    kept integer := 0;
begin
    for receipt in select r from jsonb_array_elements(receipts) as r where r -> 'rendered' <> 'null' loop
        kept := kept + ((messages.add_message(
            receipt ->> 'kind', receipt ->> 'tenant_id', receipt ->> 'environment', receipt ->> 'payment_intent_id',
            receipt ->> 'dedupe_key', receipt -> 'rendered'
        )).message_id is not null)::integer;
    end loop;
    perform payments.acknowledge_events(
        'receipts', array(select (r ->> 'outbox_id')::bigint from jsonb_array_elements(receipts) as r)
    );
    return kept;
end
$$;
comment on function messages.keep_receipts is
'Keeps the receipts of leased events and acknowledges the events, in one transaction; rendered null: nobody to write to. Returns how many are new.';

create function messages.return_receipt(outbox_id bigint, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write the outbox
set search_path = ''
as $$
begin
    perform payments.return_event('receipts', return_receipt.outbox_id, return_receipt.reason, null);
end
$$;
comment on function messages.return_receipt is 'No receipt could be made of this event; it is tried again by the ladder, and dies at its end.';

create function messages.visible_payment(payment_intent_id text, scope text, bucket text)
returns payments.sight
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
declare
    seen payments.sight := payments.visible_intent(payment_intent_id, scope, bucket, false);
begin
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; receipts need the scope ' || scope || '.');
    end if;
    return seen;
end
$$;
comment on function messages.visible_payment is 'The intent for a caller who may see its receipts: its merchant, never a payer''s browser.';

create function messages.prepare_receipt(payment_intent_id text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
declare
    seen payments.sight := messages.visible_payment(payment_intent_id, 'payments:write', 'read');
    facts jsonb := messages.receipt_facts('receipt', payment_intent_id, null);
begin
    if (seen.intent).status <> 'succeeded' or facts is null then
        perform public.refuse('40911', 'There is no receipt before the payment has succeeded.', jsonb_build_object(
            'current_state', (seen.intent).status, 'allowed', '["succeeded"]'::jsonb
        ));
    elsif facts -> 'customer_sealed' = 'null' then
        perform public.refuse_field('42262', '/customer/email', 'the payment has no customer with an e-mail address');
    end if;
    return facts;
end
$$;
comment on function messages.prepare_receipt is 'The facts of a receipt that its merchant wants sent again. 40401, 40911, 42262.';

create function messages.send_receipt(payment_intent_id text, idempotency_key text, body_hash text, rendered jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight := messages.visible_payment(send_receipt.payment_intent_id, 'payments:write', 'write');
    caller public.caller := seen.caller;
    route constant text := 'POST /receipts/{id}/send';
    answer public.answer;
    added messages.messages;
    most integer := public.setting('messages.sends_per_subject')::integer;
begin
    answer := public.claim_idempotency(
        caller, route, send_receipt.idempotency_key, send_receipt.body_hash || ':' || send_receipt.payment_intent_id
    );
    if answer.body is not null then
        return answer;
    end if;
    if exists (
        select from messages.suppressions as s where s.address_hash = rendered ->> 'recipient_hash'
    ) then
        perform public.refuse_field(
            '42262', '/customer/email', 'mail to this address bounced before, or its reader called it spam'
        );
    elsif (
        select count(*) >= most from messages.messages as m where m.subject_id = send_receipt.payment_intent_id
    ) then
        perform public.refuse('40911', format('A payment''s receipt is sent %s times at most.', most));
    end if;
    added := messages.add_message(
        'receipt', caller.tenant_id, caller.environment, send_receipt.payment_intent_id,
        concat_ws('|', 'again', send_receipt.payment_intent_id, send_receipt.idempotency_key), rendered
    );
    perform public.audit(caller, 'receipt.send', send_receipt.payment_intent_id, jsonb_build_object(
        'message_id', added.message_id, 'recipient', added.recipient_masked
    ));
    perform public.poke('receipts');
    answer := row(202, messages.message_resource(added)::text, caller.rate);
    perform public.remember_answer(caller, route, send_receipt.idempotency_key, added.message_id, answer);
    return answer;
end
$$;
comment on function messages.send_receipt is
'Keeps one more rendered receipt of this payment, to be sent at once. 202; 42262 for a suppressed address; audited.';

create function messages.message_resource(message messages.messages)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', message.message_id, 'object', 'message', 'kind', message.kind, 'payment_intent_id', message.subject_id,
        'language', message.language, 'to', message.recipient_masked, 'sms_text', message.sms_text,
        'status', message.status, 'attempts', message.attempts, 'last_error', message.last_error,
        'environment', message.environment, 'created_at', message.created_at, 'updated_at', message.updated_at
    );
end
$$;
comment on function messages.message_resource is 'The wire shape of a message about a payment: to whom (masked), in which state, never the mail itself.';

create function messages.list_receipts(payment_intent_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight := messages.visible_payment(list_receipts.payment_intent_id, 'payments:read', 'read');
    body text;
begin
    select string_agg(messages.message_resource(m)::text, ',' order by m.created_at, m.message_id) into body
    from messages.messages as m
    where m.subject_id = list_receipts.payment_intent_id;
    return row(200, format('{"data":[%s]}', body), (seen.caller).rate);
end
$$;
comment on function messages.list_receipts is 'What the payer of this intent was sent, oldest first.';

create function messages.poke_receipts()
returns boolean
language plpgsql
volatile
security definer -- callers may not read messages
set search_path = ''
as $$
begin
    if not exists (
        select from messages.messages as m
        where m.status = 'queued' and m.next_attempt_at <= now() and m.kind in ('receipt', 'refund_receipt')
    ) then
        return false;
    end if;
    perform public.poke('receipts');
    return true;
end
$$;
comment on function messages.poke_receipts is 'Wakes the receipts function when mail of its kinds is due. A cron task; events are the outbox''s to poke for.';

reset role;

-- sql/messages/functions/sending.sql

-- Mail on its way: kept, claimed within the day's budget, answered for, followed to its end.

set role stalela_owner;

create function messages.add_message(
    kind text, tenant_id text, environment text, subject_id text, dedupe_key text, rendered jsonb
)
returns messages.messages
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    added messages.messages;
begin
    insert into messages.messages (
        message_id, tenant_id, environment, kind, subject_id, dedupe_key, language, recipient_masked, recipient_hash,
        body_sealed, sms_text, expires_at
    )
    select public.new_id('msg'), add_message.tenant_id, add_message.environment, k.kind, add_message.subject_id,
        add_message.dedupe_key, rendered ->> 'language', rendered ->> 'recipient_masked',
        rendered ->> 'recipient_hash', rendered ->> 'body_sealed', rendered ->> 'sms_text',
        now() + make_interval(secs => k.valid_for_s)
    from messages.kinds as k
    where k.kind = add_message.kind
    on conflict on constraint messages_dedupe_key_key do nothing
    returning * into added;
    return added;
end
$$;
comment on function messages.add_message is
'Keeps a rendered mail {language, recipient_masked, recipient_hash, body_sealed, sms_text}; all null when there is one of this dedupe_key already.';

create function messages.claim_messages(kinds text[], max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    today date := (now() at time zone 'UTC')::date;
    due messages.messages;
    ceiling integer;
    budget integer := public.setting('messages.daily_budget')::integer;
    spent integer;
begin
    if exists (select from messages.pauses as p where p.until > now()) then
        return;
    end if;
    -- Whoever claims holds the day's budget; senders take turns.
    insert into messages.budgets (day, used) values (today, 0) on conflict do nothing;
    select b.used into spent from messages.budgets as b where b.day = today for update;
    for due in
        select m.*
        from messages.messages as m
        inner join messages.kinds as k on k.kind = m.kind
        where
            m.status = 'queued' and m.next_attempt_at <= now() and m.kind = any(claim_messages.kinds)
            and (m.lease_until is null or m.lease_until <= now())
        order by k.priority, m.next_attempt_at
        limit max_rows
        for update of m skip locked
    loop
        -- A lease that ran out: who held it may have sent the mail.
        if due.lease_until is not null then
            due.unsure_since := coalesce(due.unsure_since, due.updated_at);
        end if;
        if exists (select from messages.suppressions as s where s.address_hash = due.recipient_hash) then
            perform messages.end_message(due.message_id, 'suppressed', 'the address is suppressed');
        elsif due.unsure_since <= now() - interval '23 hours' then
            perform messages.end_message(due.message_id, 'unknown', 'the provider has forgotten the key');
            perform public.raise_alert(
                'mail_unknown', 'warning', due.kind, null, null,
                jsonb_build_object('message_id', due.message_id, 'subject_id', due.subject_id)
            );
        elsif due.expires_at <= now() then
            perform messages.end_message(due.message_id, 'expired', coalesce(due.last_error, 'no room in the budget'));
        else
            select budget * k.ceiling_percent / 100 into ceiling from messages.kinds as k where k.kind = due.kind;
            if due.budget_day is distinct from today and spent >= ceiling then
                update messages.messages as m
                set next_attempt_at = (today + 1)::timestamp at time zone 'UTC', unsure_since = due.unsure_since,
                    lease_until = null
                where m.message_id = due.message_id;
                perform public.raise_alert(
                    'mail_budget_spent', 'warning', today::text, null, null,
                    jsonb_build_object('kind', due.kind, 'used', spent, 'budget', budget)
                );
                continue;
            end if;
            spent := spent + (due.budget_day is distinct from today)::integer;
            update messages.messages as m
            set lease_until = now() + interval '60 seconds', attempts = m.attempts + 1, budget_day = today,
                unsure_since = due.unsure_since, updated_at = now()
            where m.message_id = due.message_id;
            return next jsonb_build_object(
                'message_id', due.message_id, 'dedupe_key', due.dedupe_key, 'body_sealed', due.body_sealed
            );
        end if;
    end loop;
    update messages.budgets as b set used = spent where b.day = today and b.used <> spent;
end
$$;
comment on function messages.claim_messages is
'Leases mail that is due for a minute, most urgent first, each counted once in the day''s budget. Ends what must not be sent any more: suppressed, expired, or unanswered for so long that sending again could send twice.';

create function messages.end_message(message_id text, status text, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
begin
    update messages.messages as m
    set status = end_message.status, last_error = end_message.reason, lease_until = null, updated_at = now()
    where m.message_id = end_message.message_id and m.status = 'queued';
end
$$;
comment on function messages.end_message is 'A queued message that will not be sent (again).';

create function messages.record_sending(
    message_id text, verdict text, email_id text, code text, retry_after_s integer, pause_s integer, is_unsure boolean
)
returns text
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    message messages.messages;
    waits_s constant integer[] := array[5, 30, 120, 600, 1800, 3600];
begin
    select m.* into message
    from messages.messages as m
    where m.message_id = record_sending.message_id and m.status = 'queued'
    for update;
    if not found then
        return null; -- recorded before
    end if;
    if pause_s is not null then
        insert into messages.pauses as p (provider, until, reason)
        values ('resend', now() + make_interval(secs => pause_s), coalesce(code, verdict))
        on conflict on constraint pauses_pkey do update
        set until = greatest(p.until, excluded.until), reason = excluded.reason;
    end if;
    case verdict
        when 'sent' then
            update messages.messages as m
            set status = 'sent', email_id = record_sending.email_id, lease_until = null, last_error = null,
                updated_at = now()
            where m.message_id = record_sending.message_id;
            -- News may have overtaken the answer.
            perform messages.follow_mail(record_sending.email_id);
            delete from messages.pauses as p where p.until <= now();
            if found then
                perform public.resolve_alert('mail_parked', 'resend', 'mail is taken again');
            end if;
        when 'kept' then
            perform messages.end_message(message_id, 'kept', 'no provider is configured');
        when 'final' then
            perform messages.end_message(message_id, 'failed', code);
            perform public.raise_alert(
                'mail_refused', 'warning', message.kind, null, null,
                jsonb_build_object('code', code, 'message_id', message.message_id)
            );
        else
            update messages.messages as m
            set
                next_attempt_at = now() + make_interval(secs => greatest(
                    coalesce(retry_after_s, pause_s, 0),
                    case when pause_s is null then waits_s[least(m.attempts, cardinality(waits_s))] else 0 end
                )),
                lease_until = null, last_error = code, updated_at = now(),
                unsure_since = case when is_unsure then coalesce(m.unsure_since, now()) else m.unsure_since end,
                -- What was certainly not taken costs nothing of the budget.
                budget_day = case when is_unsure then m.budget_day end
            where m.message_id = record_sending.message_id;
            if not is_unsure then
                update messages.budgets as b set used = greatest(0, b.used - 1) where b.day = message.budget_day;
            end if;
            if verdict = 'park' then
                perform public.raise_alert(
                    'mail_parked', 'critical', 'resend', null, null, jsonb_build_object('code', code, 'pause_s', pause_s)
                );
            end if;
    end case;
    return verdict;
end
$$;
comment on function messages.record_sending is
'What one attempt brought: sent, kept, final, or when to try again (retry, and park for all mail). Null: recorded before.';

create function messages.follow_mail(email_id text)
returns text
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- News comes in any order; the worst that was told stands.
    ranks constant text[] := array['sent', 'delayed', 'delivered', 'failed', 'suppressed', 'bounced', 'complained'];
    told text;
begin
    select ranks[max(array_position(ranks, case e.kind when 'delivery_delayed' then 'delayed' else e.kind end))]
    into told
    from messages.mail_events as e
    where e.email_id = follow_mail.email_id;
    update messages.messages as m
    set status = told, updated_at = now()
    where
        m.email_id = follow_mail.email_id
        and array_position(ranks, told) > array_position(ranks, m.status);
    return told;
end
$$;
comment on function messages.follow_mail is 'Moves the message of a mail to the furthest state that the provider has told of; never back.';

create function messages.record_mail_event(
    event_id text, kind text, email_id text, occurred_at timestamptz, address_hashes text[], addresses_masked text[]
)
returns text
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into messages.mail_events (event_id, kind, email_id, occurred_at)
    values (
        record_mail_event.event_id, record_mail_event.kind, record_mail_event.email_id, record_mail_event.occurred_at
    )
    on conflict do nothing;
    if not found then
        return 'duplicate';
    end if;
    if kind in ('bounced', 'complained', 'suppressed') then
        insert into messages.suppressions (address_hash, address_masked, reason, email_id)
        select a.hash, a.masked, record_mail_event.kind, record_mail_event.email_id
        from unnest(address_hashes, addresses_masked) as a (hash, masked)
        on conflict do nothing;
    end if;
    return coalesce(messages.follow_mail(email_id), 'noted');
end
$$;
comment on function messages.record_mail_event is
'Keeps one event of the provider and follows its mail; a bounce or a complaint suppresses the address. Returns duplicate, noted (nothing to follow) or the state told. Never changes a payment.';

create function messages.purge()
returns integer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
declare
    oldest timestamptz := now() - make_interval(days => public.setting('messages.keep_days')::integer);
    purged integer;
begin
    delete from messages.messages as m
    where m.message_id = any(array(
        select d.message_id from messages.messages as d
        where d.status <> 'queued' and d.created_at < oldest
        order by d.created_at limit 5000
    ));
    get diagnostics purged = row_count;
    delete from messages.mail_events as e
    where e.event_id = any(array(
        select d.event_id from messages.mail_events as d where d.received_at < oldest order by d.received_at limit 5000
    ));
    delete from messages.budgets as b where b.day < oldest::date;
    return purged;
end
$$;
comment on function messages.purge is 'Removes up to 5,000 messages that are done with and older than messages.keep_days. A cron task.';

reset role;

-- sql/signing/functions/keys.sql

-- The keys that sign: one active per jurisdiction and environment.

set role stalela_owner;

create function signing.register_key(
    jurisdiction text, environment text, provider text, key_ref text, key_version text, alg text, public_key_spki text
)
returns text
language plpgsql
volatile
security definer -- functions may not write keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    known signing.keys;
    year text := to_char(now() at time zone 'utc', 'YYYY');
    name text;
    used bigint;
begin
    -- Two instances that start together register one key.
    perform pg_advisory_xact_lock(
        hashtext('signing.keys'), hashtext(register_key.jurisdiction || '|' || register_key.environment)
    );
    select k.* into known
    from signing.keys as k
    where
        k.jurisdiction = register_key.jurisdiction and k.environment = register_key.environment
        and k.public_key_spki = register_key.public_key_spki;
    if known.status = 'active' then
        return known.key_id;
    elsif known.key_id is not null then
        perform public.refuse('40911', format('The key %s is %s and signs no more.', known.key_id, known.status));
    end if;
    update signing.keys as k
    set status = 'retired', valid_until = now()
    where
        k.jurisdiction = register_key.jurisdiction and k.environment = register_key.environment
        and k.status = 'active';
    name := lower(concat_ws(
        '-', register_key.jurisdiction, register_key.alg, case when register_key.environment = 'sandbox' then 'test' end, year
    ));
    select count(*) into used from signing.keys as k where k.key_id like name || '%';
    insert into signing.keys (
        key_id, jurisdiction, environment, provider, key_ref, key_version, alg, public_key_spki
    ) values (
        name || to_char(used + 1, '"-"FM00'), register_key.jurisdiction, register_key.environment, register_key.provider,
        register_key.key_ref, register_key.key_version, register_key.alg, register_key.public_key_spki
    )
    returning key_id into name;
    perform public.audit(null, 'signing.key_registered', name, jsonb_build_object(
        'provider', register_key.provider, 'alg', register_key.alg
    ));
    return name;
end
$$;
comment on function signing.register_key is
'The id of this public key, which from now on is the one that signs for the jurisdiction; the key before it retires. 40911 for a key that retired or was revoked.';

reset role;

-- sql/signing/functions/queue.sql

-- What could not be signed at once. A number once taken is always signed.

set role stalela_owner;

create function signing.claim_signatures(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- functions may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    update signing.signing_queue as q
    -- Longer than a provider may take; whoever claims and dies delays it by that.
    set next_attempt_at = now() + interval '30 seconds', attempts = q.attempts + 1
    where q.invoice_id = any(array(
        select d.invoice_id
        from signing.signing_queue as d
        where d.next_attempt_at <= now()
        order by d.next_attempt_at
        limit claim_signatures.max_rows
        for update skip locked
    ))
    returning fiscal.signing_work(q.invoice_id);
end
$$;
comment on function signing.claim_signatures is 'Documents that are due to be signed, each for one signer for 30 seconds.';

create function signing.record_failure(invoice_id text, key_id text, digest text, latency_ms integer, error text)
returns void
language plpgsql
volatile
security definer -- functions may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    queued signing.signing_queue;
    waits constant integer[] := array[1, 2, 5, 10, 30];
begin
    update signing.signing_queue as q
    set
        first_failed_at = coalesce(q.first_failed_at, now()),
        last_error = left(record_failure.error, 500),
        next_attempt_at = now() + make_interval(secs => waits[least(greatest(q.attempts, 1), cardinality(waits))])
    where q.invoice_id = record_failure.invoice_id
    returning * into queued;
    if not found then
        return; -- somebody else signed it meanwhile
    end if;
    insert into signing.signing_log (tenant_id, environment, invoice_id, key_id, digest, latency_ms, outcome, error)
    values (
        queued.tenant_id, queued.environment, queued.invoice_id, record_failure.key_id, record_failure.digest,
        record_failure.latency_ms, 'failed', left(record_failure.error, 500)
    );
    if queued.first_failed_at < now() - interval '15 minutes' then
        perform public.raise_alert(
            'signing_stalled', 'critical', 'signing', null, null, jsonb_build_object(
                'waiting', (select count(*) from signing.signing_queue), 'since', queued.first_failed_at
            )
        );
    end if;
end
$$;
comment on function signing.record_failure is
'Logs a failed call and waits 1, 2, 5, 10, 30 seconds, then always 30; after 15 minutes an alert, and on.';

create function signing.poke_queue()
returns boolean
language plpgsql
volatile
security definer -- cron may not read the queue
set search_path = ''
as $$
begin
    if not exists (select from signing.signing_queue as q where q.next_attempt_at <= now()) then
        return false;
    end if;
    perform public.poke('invoices/sign');
    return true;
end
$$;
comment on function signing.poke_queue is 'Wakes invoices when a document waits for its signature. A cron task.';

reset role;

-- sql/fiscal/functions/documents.sql

-- Documents as their owners see them.

set role stalela_owner;

create function fiscal.invoice_resource(invoice_id text)
returns text
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        -- The sealed text goes out as it is; what stands beside it is added around it.
        select format(
            '{"id":%s,"object":"invoice","status":%s,"fiscal_number":%s,"sequence":%s,"sealed":%s,"document":%s,'
            '"tax_summary":%s,"credited_amount":%s,"original_invoice":%s,"environment":%s,"created_at":%s}',
            to_json(i.invoice_id), to_json(i.status), to_json(i.fiscal_number), i.sequence,
            coalesce((
                select json_build_object(
                    'fiscal_authority_id', o.fiscal_authority_id, 'sealed_at', l.sealed_at, 'auth_code', s.auth_code,
                    'signature', s.signature, 'signature_alg', s.signature_alg, 'key_id', s.key_id,
                    'canonical_payload_hash', l.canonical_payload_hash, 'previous_hash', l.previous_hash,
                    'ledger_hash', l.entry_hash
                )::text
                from fiscal.signatures as s
                inner join fiscal.fiscal_ledger as l on l.invoice_id = s.invoice_id
                inner join fiscal.outlets as o on o.outlet_id = i.outlet_id
                where s.invoice_id = i.invoice_id
            ), 'null'),
            i.payload, i.tax_summary,
            to_json(public.format_amount((
                select coalesce(sum(c.total_minor), 0)::bigint from fiscal.invoices as c where c.original_invoice_id = i.invoice_id
            ), i.currency)),
            coalesce(to_json(i.original_invoice_id)::text, 'null'), to_json(i.environment), to_json(i.created_at)
        )
        from fiscal.invoices as i
        where i.invoice_id = invoice_resource.invoice_id
    );
end
$$;
comment on function fiscal.invoice_resource is
'A document as the API shows it. sealed is null until it is signed, and nothing is handed to a customer before.';

create function fiscal.sealing_of(caller public.caller, invoice_id text, replayed text)
returns fiscal.sealing
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    headers jsonb := (sealing_of.caller).rate;
begin
    if sealing_of.replayed is not null then
        headers := headers || jsonb_build_object('Idempotent-Replayed', sealing_of.replayed);
    end if;
    if exists (select from fiscal.signatures as s where s.invoice_id = sealing_of.invoice_id) then
        return row(row(201, fiscal.invoice_resource(sealing_of.invoice_id), headers)::public.answer, null::jsonb);
    end if;
    return row(
        row(202, fiscal.invoice_resource(sealing_of.invoice_id), headers)::public.answer,
        fiscal.signing_work(sealing_of.invoice_id)
    );
end
$$;
comment on function fiscal.sealing_of is 'A document as it stands: 201 signed, or 202 with what a signer needs.';

create function fiscal.signing_work(invoice_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'invoice_id', l.invoice_id, 'jurisdiction', m.jurisdiction, 'environment', l.environment,
            'outlet_id', l.outlet_id, 'fiscal_authority_id', o.fiscal_authority_id, 'fiscal_number', l.fiscal_number,
            'sequence', l.sequence, 'canonical_payload_hash', l.canonical_payload_hash,
            'previous_hash', l.previous_hash, 'sealed_at', l.sealed_at
        )
        from fiscal.fiscal_ledger as l
        inner join fiscal.outlets as o on o.outlet_id = l.outlet_id
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        where l.invoice_id = signing_work.invoice_id
    );
end
$$;
comment on function fiscal.signing_work is 'What a signer needs to build the seal object of a document.';

create function fiscal.may_preview()
returns void
language plpgsql
volatile
security definer -- functions may not read keys and limits
set search_path = ''
as $$
begin
    perform public.authorize('invoices:read', 'read');
end
$$;
comment on function fiscal.may_preview is 'Whether the caller may have an invoice computed; nothing is kept of it.';

create function fiscal.get_invoice(invoice_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    outlet_only text := fiscal.caller_outlet(caller);
begin
    if not exists (
        select from fiscal.invoices as i
        where
            i.invoice_id = get_invoice.invoice_id and i.tenant_id = caller.tenant_id
            and i.environment = caller.environment and i.outlet_id = coalesce(outlet_only, i.outlet_id)
    ) then
        perform public.refuse('40401', format('There is no invoice %s here.', get_invoice.invoice_id));
    end if;
    return row(200, fiscal.invoice_resource(get_invoice.invoice_id), caller.rate);
end
$$;
comment on function fiscal.get_invoice is 'One document of the caller''s; 40401 for anybody else''s and for another outlet''s.';

create function fiscal.list_invoices(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    outlet_only text := fiscal.caller_outlet(caller);
    ids text[];
begin
    -- Ids are time-ordered, so the id of the last row is the place to go on from.
    select array_agg(page.invoice_id order by page.invoice_id desc) into ids
    from (
        select i.invoice_id
        from fiscal.invoices as i
        where
            i.tenant_id = caller.tenant_id and i.environment = caller.environment
            and i.outlet_id = coalesce(outlet_only, filters ->> 'outlet_id', i.outlet_id)
            and i.status = coalesce(filters ->> 'status', i.status)
            and i.invoice_type = coalesce(filters ->> 'invoice_type', i.invoice_type)
            and i.fiscal_number = coalesce(filters ->> 'fiscal_number', i.fiscal_number)
            and i.created_at >= coalesce((filters ->> 'created_after')::timestamptz, '-infinity')
            and i.created_at < coalesce((filters ->> 'created_before')::timestamptz, 'infinity')
            and (list_invoices.page_after is null or i.invoice_id < list_invoices.page_after)
        order by i.invoice_id desc
        limit list_invoices.page_size + 1
    ) as page;
    return row(200, format(
        '{"data":[%s],"pagination":%s}',
        (
            select string_agg(fiscal.invoice_resource(one.id), ',' order by one.place)
            from unnest(ids[1:list_invoices.page_size]) with ordinality as one (id, place)
        ),
        json_build_object(
            'limit', list_invoices.page_size,
            'has_more', coalesce(cardinality(ids), 0) > list_invoices.page_size,
            'next_cursor', case when cardinality(ids) > list_invoices.page_size then ids[list_invoices.page_size] end
        )
    ), caller.rate);
end
$$;
comment on function fiscal.list_invoices is
'One page of documents, newest first. filters: outlet_id, status, invoice_type, fiscal_number, created_after, created_before.';

reset role;

-- sql/fiscal/functions/registry.sql

-- Taxpayers, outlets, terminals and cashiers.

set role stalela_owner;

create function fiscal.caller_outlet(caller public.caller)
returns text
language plpgsql
stable
security definer -- functions may not read memberships
set search_path = ''
as $$
begin
    return (
        select m.outlet_id
        from public.memberships as m
        where
            m.tenant_id = (caller_outlet.caller).tenant_id and m.user_id = (caller_outlet.caller).user_id
            and m.status = 'active'
    );
end
$$;
comment on function fiscal.caller_outlet is 'The one outlet a person is limited to; null for keys and for people of the whole tenant.';

create function fiscal.merchant_of(caller public.caller)
returns fiscal.merchants
language plpgsql
stable
security definer -- functions may not read merchants
set search_path = ''
as $$
declare
    merchant fiscal.merchants;
begin
    select m.* into merchant
    from fiscal.merchants as m
    where m.tenant_id = (merchant_of.caller).tenant_id and m.environment = (merchant_of.caller).environment;
    if not found then
        perform public.refuse(
            '40911', 'This organisation is not registered as a taxpayer yet: PUT /functions/v1/merchants/fiscal.',
            '{"current_state": "not_registered", "allowed": ["register"]}'
        );
    end if;
    return merchant;
end
$$;
comment on function fiscal.merchant_of is 'The caller''s taxpayer; 40911 when it is not registered.';

create function fiscal.outlet_of(caller public.caller, outlet_id text)
returns fiscal.outlets
language plpgsql
stable
security definer -- functions may not read outlets
set search_path = ''
as $$
#variable_conflict use_column
declare
    outlet fiscal.outlets;
begin
    select o.* into outlet
    from fiscal.outlets as o
    where
        o.outlet_id = outlet_of.outlet_id and o.tenant_id = (outlet_of.caller).tenant_id
        and o.environment = (outlet_of.caller).environment
        and o.outlet_id = coalesce(fiscal.caller_outlet(outlet_of.caller), o.outlet_id);
    if not found then
        perform public.refuse('40401', format('There is no outlet %s here.', outlet_of.outlet_id));
    end if;
    return outlet;
end
$$;
comment on function fiscal.outlet_of is 'An outlet the caller may see; 40401 for any other.';

create function fiscal.put_merchant(
    jurisdiction text, legal_name text, tin text, vat_status text, registration_number text, address text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write merchants
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('account:write', 'manage');
    rules tax.jurisdictions;
    merchant fiscal.merchants;
    sealed boolean;
begin
    select j.* into rules from tax.jurisdictions as j where j.jurisdiction = put_merchant.jurisdiction;
    if not found then
        perform public.refuse_field('42262', '/jurisdiction', format('one of %s', (
            select string_agg(j.jurisdiction, ', ' order by j.jurisdiction) from tax.jurisdictions as j
        )));
    elsif put_merchant.tin !~ rules.tin_pattern then
        perform public.refuse_field('42262', '/tin', format('a %s looks like %s', rules.tin_name, rules.tin_pattern));
    end if;
    select exists (
        select from fiscal.invoices as i where i.tenant_id = caller.tenant_id and i.environment = caller.environment
    ) into sealed;
    insert into fiscal.merchants as m (
        merchant_id, tenant_id, environment, jurisdiction, legal_name, tin, registration_number, vat_status, address
    ) values (
        public.new_id('fm'), caller.tenant_id, caller.environment, put_merchant.jurisdiction, put_merchant.legal_name,
        put_merchant.tin, put_merchant.registration_number, put_merchant.vat_status, put_merchant.address
    )
    on conflict (tenant_id, environment) do update
    set
        legal_name = excluded.legal_name, tin = excluded.tin, jurisdiction = excluded.jurisdiction,
        registration_number = excluded.registration_number, vat_status = excluded.vat_status,
        address = excluded.address, updated_at = now()
    -- Documents name their taxpayer; once there is one, who that is does not change under it.
    where not sealed or (m.tin = excluded.tin and m.jurisdiction = excluded.jurisdiction)
    returning * into merchant;
    if merchant.merchant_id is null then
        perform public.refuse('40911', 'tin and jurisdiction no longer change: documents were sealed with them.',
            '{"current_state": "sealing", "allowed": []}');
    end if;
    perform public.audit(caller, 'fiscal.merchant_put', merchant.merchant_id, jsonb_build_object('tin', merchant.tin));
    return public.reply(caller, 200, fiscal.merchant_resource(merchant));
end
$$;
comment on function fiscal.put_merchant is
'Registers the tenant as a taxpayer, or corrects it; tin and jurisdiction only while nothing is sealed.';

create function fiscal.merchant_resource(merchant fiscal.merchants)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', merchant.merchant_id, 'object', 'fiscal_merchant', 'jurisdiction', merchant.jurisdiction,
        'legal_name', merchant.legal_name, 'tin', merchant.tin, 'registration_number', merchant.registration_number,
        'vat_status', merchant.vat_status, 'address', merchant.address, 'status', merchant.status,
        'environment', merchant.environment, 'created_at', merchant.created_at
    );
end
$$;
comment on function fiscal.merchant_resource is 'A taxpayer as the API shows it.';

create function fiscal.get_merchant()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read merchants
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, fiscal.merchant_resource(fiscal.merchant_of(caller)));
end
$$;
comment on function fiscal.get_merchant is 'The caller''s taxpayer.';

create function fiscal.create_outlet(outlet_code text, name text, time_zone text, address text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write outlets
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('account:write', 'manage');
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    rules tax.jurisdictions;
    outlet fiscal.outlets;
begin
    select j.* into strict rules from tax.jurisdictions as j where j.jurisdiction = merchant.jurisdiction;
    if not create_outlet.time_zone = any(rules.time_zones) then
        perform public.refuse_field(
            '42262', '/time_zone', format('one of %s in %s', array_to_string(rules.time_zones, ', '), rules.jurisdiction)
        );
    end if;
    insert into fiscal.outlets (
        outlet_id, merchant_id, tenant_id, environment, outlet_code, name, address, time_zone, fiscal_authority_id
    ) values (
        public.new_id('out'), merchant.merchant_id, caller.tenant_id, caller.environment, create_outlet.outlet_code,
        create_outlet.name, create_outlet.address, create_outlet.time_zone,
        'stalela-' || lower(merchant.jurisdiction) || '-01'
    )
    on conflict (outlet_code) do nothing
    returning * into outlet;
    if outlet.outlet_id is null then
        perform public.refuse('40914', format('outlet_code %s is taken; it is unique across all merchants.', create_outlet.outlet_code),
            '{"errors": [{"pointer": "/outlet_code", "detail": "taken; choose another"}]}');
    end if;
    insert into fiscal.fiscal_counters (outlet_id, kind)
    values (outlet.outlet_id, 'invoice'), (outlet.outlet_id, 'report_z');
    perform public.audit(caller, 'fiscal.outlet_created', outlet.outlet_id, jsonb_build_object('outlet_code', outlet.outlet_code));
    return public.reply(caller, 201, fiscal.outlet_resource(outlet));
end
$$;
comment on function fiscal.create_outlet is 'Opens an outlet with its counters at 1. 40914: the code is taken.';

create function fiscal.outlet_resource(outlet fiscal.outlets)
returns json
language plpgsql
stable
security definer -- callers may not read counters
set search_path = ''
as $$
begin
    return json_build_object(
        'id', outlet.outlet_id, 'object', 'outlet', 'outlet_code', outlet.outlet_code, 'name', outlet.name,
        'address', outlet.address, 'time_zone', outlet.time_zone, 'fiscal_authority_id', outlet.fiscal_authority_id,
        'status', outlet.status,
        'next_number', (
            select c.next_value from fiscal.fiscal_counters as c
            where c.outlet_id = (outlet_resource.outlet).outlet_id and c.kind = 'invoice'
        ),
        'environment', outlet.environment, 'created_at', outlet.created_at
    );
end
$$;
comment on function fiscal.outlet_resource is 'An outlet as the API shows it.';

create function fiscal.list_outlets()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read outlets
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:read', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', (
        select coalesce(json_agg(fiscal.outlet_resource(o) order by o.created_at), '[]')
        from fiscal.outlets as o
        where
            o.tenant_id = caller.tenant_id and o.environment = caller.environment
            and o.outlet_id = coalesce(fiscal.caller_outlet(caller), o.outlet_id)
    )));
end
$$;
comment on function fiscal.list_outlets is 'The outlets the caller may see.';

create function fiscal.put_operator(outlet_id text, kind text, label text, name text, status text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write operators
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('account:write', 'manage');
    outlet fiscal.outlets := fiscal.outlet_of(caller, put_operator.outlet_id);
    kept fiscal.operators;
begin
    insert into fiscal.operators (operator_id, outlet_id, tenant_id, environment, kind, label, name, status)
    values (
        public.new_id(case put_operator.kind when 'terminal' then 'term' else 'cash' end), outlet.outlet_id,
        caller.tenant_id, caller.environment, put_operator.kind, put_operator.label, put_operator.name, put_operator.status
    )
    on conflict (outlet_id, kind, label) do update set name = excluded.name, status = excluded.status
    returning * into kept;
    perform public.audit(caller, 'fiscal.operator_put', kept.operator_id, jsonb_build_object('status', kept.status));
    return public.reply(caller, 200, json_build_object(
        'id', kept.operator_id, 'object', kept.kind, 'outlet_id', kept.outlet_id, 'label', kept.label,
        'name', kept.name, 'status', kept.status
    ));
end
$$;
comment on function fiscal.put_operator is 'Names, renames or blocks a terminal or cashier of an outlet.';

reset role;

-- sql/fiscal/functions/sealing.sql

-- Chain first, sign after: seal takes the number and the chain entry, attach_signature brings the signature.

set role stalela_owner;

create function fiscal.seal(
    idempotency_key text, body_hash text, payload text, canonical_payload_hash text, tax_summary jsonb,
    total_minor bigint, tax_minor bigint
)
returns fiscal.sealing
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    document jsonb := seal.payload::jsonb;
    outlet fiscal.outlets;
    merchant fiscal.merchants;
    original fiscal.invoices;
    invoice fiscal.invoices;
    earlier text;
begin
    earlier := fiscal.sealed_before(caller, seal.idempotency_key, seal.body_hash);
    if earlier is not null then
        return fiscal.sealing_of(caller, earlier, 'true');
    end if;
    perform public.claim_idempotency(caller, 'POST /invoices', seal.idempotency_key, seal.body_hash);
    outlet := fiscal.outlet_of(caller, document ->> 'outlet_id');
    merchant := fiscal.merchant_of(caller);
    perform fiscal.check_sealable(document, outlet, merchant);
    if seal.canonical_payload_hash <> encode(sha256(convert_to(seal.payload, 'UTF8')), 'hex') then
        raise exception 'the canonical hash is not of this payload';
    end if;

    -- One at a time per outlet. Everything after this is short and calls nobody.
    perform pg_advisory_xact_lock(hashtext('fiscal.outlet'), hashtext(outlet.outlet_id));
    if document ? 'original_fiscal_number' then
        original := fiscal.creditable(document, outlet, seal.total_minor);
    end if;
    if document ? 'invoice_ref' and exists (
        select from fiscal.invoices as i
        where i.outlet_id = outlet.outlet_id and i.invoice_ref = document ->> 'invoice_ref'
    ) then
        perform public.refuse_field('42275', '/invoice_ref', 'was used by this outlet before');
    end if;
    invoice := fiscal.number_document(
        caller, outlet, document, seal.payload, seal.canonical_payload_hash, seal.tax_summary,
        seal.total_minor, seal.tax_minor, original.invoice_id
    );
    perform public.bind_idempotency(caller, 'POST /invoices', seal.idempotency_key, invoice.invoice_id);
    return fiscal.sealing_of(caller, invoice.invoice_id, null);
end
$$;
comment on function fiscal.seal is
'Takes the outlet''s next number and chain entry for a computed document; the answer is 202 until attach_signature. A repeated key gives the document as it is now. 42275, 40911, 42241, 40904.';

create function fiscal.sealed_before(caller public.caller, key text, body_hash text)
returns text
language plpgsql
stable
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    stored public.idempotency_keys;
begin
    select k.* into stored
    from public.idempotency_keys as k
    where
        k.tenant_id = (sealed_before.caller).tenant_id and k.environment = (sealed_before.caller).environment
        and k.route = 'POST /invoices' and k.key = sealed_before.key and k.resource_id is not null;
    if stored.body_hash <> sealed_before.body_hash then
        perform public.refuse('42241', 'This Idempotency-Key was used before with another request body.');
    end if;
    return stored.resource_id;
end
$$;
comment on function fiscal.sealed_before is 'The document this key sealed, null when it sealed none; 42241 when it was another body.';

create function fiscal.check_sealable(document jsonb, outlet fiscal.outlets, merchant fiscal.merchants)
returns void
language plpgsql
stable
security definer -- callers may not read operators
set search_path = ''
as $$
declare
    blocked text;
begin
    if merchant.status <> 'active' or outlet.status <> 'active' then
        perform public.refuse('40911', 'This taxpayer or outlet is not active; nothing is sealed for it.',
            jsonb_build_object('current_state', merchant.status || '/' || outlet.status, 'allowed', '[]'::jsonb));
    elsif document ->> 'jurisdiction' <> merchant.jurisdiction then
        perform public.refuse_field('42275', '/jurisdiction', format('this taxpayer is registered in %s', merchant.jurisdiction));
    elsif document ->> 'merchant_tin' <> merchant.tin then
        perform public.refuse_field('42275', '/merchant_tin', format('this taxpayer is %s', merchant.tin));
    elsif (document ->> 'timestamp')::timestamptz > now() + interval '5 minutes' then
        perform public.refuse_field('42275', '/timestamp', 'is more than 5 minutes ahead of our clock');
    end if;
    select o.kind into blocked
    from fiscal.operators as o
    where
        o.outlet_id = (check_sealable.outlet).outlet_id and o.status = 'blocked'
        and (o.kind, o.label) in (('terminal', document ->> 'pos_terminal_id'), ('cashier', document ->> 'cashier_id'))
    limit 1;
    if found then
        perform public.refuse_field(
            '42275', case blocked when 'terminal' then '/pos_terminal_id' else '/cashier_id' end, format('this %s is blocked', blocked)
        );
    end if;
end
$$;
comment on function fiscal.check_sealable is 'What must hold of taxpayer, outlet, terminal and time before a number is taken.';

create function fiscal.creditable(document jsonb, outlet fiscal.outlets, total_minor bigint)
returns fiscal.invoices
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    original fiscal.invoices;
    credited numeric;
    over record;
begin
    -- Credits of one original are sealed by its own outlet, whose lock we hold: the sum below stands still.
    select i.* into original
    from fiscal.invoices as i
    where i.fiscal_number = document ->> 'original_fiscal_number' and i.outlet_id = (creditable.outlet).outlet_id;
    if not found then
        perform public.refuse_field('42275', '/original_fiscal_number', 'this outlet sealed no such document');
    elsif original.original_invoice_id is not null then
        perform public.refuse_field('42275', '/original_fiscal_number', 'is itself a credit');
    elsif original.currency <> document #>> '{totals,currency}' then
        perform public.refuse_field('42275', '/totals/currency', format('the original is in %s', original.currency));
    end if;
    select coalesce(sum(i.total_minor), 0) into credited
    from fiscal.invoices as i
    where i.original_invoice_id = original.invoice_id;
    if credited + creditable.total_minor > original.total_minor then
        perform public.refuse_field('42276', '/totals/total', format(
            'at most %s of %s %s is left to credit',
            public.format_amount(original.total_minor - credited::bigint, original.currency),
            public.format_amount(original.total_minor, original.currency), original.currency
        ));
    end if;
    select sold.code, sold.left_over into over
    from (
        select
            line.code,
            sum(line.quantity) as left_over
        from (
            select item ->> 'code' as code, (item ->> 'quantity')::numeric as quantity
            from jsonb_array_elements(original.payload::jsonb -> 'items') as item
            union all
            select item ->> 'code', -(item ->> 'quantity')::numeric
            from fiscal.invoices as i, jsonb_array_elements(i.payload::jsonb -> 'items') as item
            where i.original_invoice_id = original.invoice_id
            union all
            select item ->> 'code', -(item ->> 'quantity')::numeric
            from jsonb_array_elements(document -> 'items') as item
        ) as line
        group by line.code
    ) as sold
    where sold.left_over < 0
    order by sold.code
    limit 1;
    if found then
        perform public.refuse_field(
            '42276', '/items', format('%s: more is credited than was sold, by %s', over.code, -over.left_over)
        );
    end if;
    return original;
end
$$;
comment on function fiscal.creditable is
'The original of a credit, which with all its credits never exceeds what it was, in money and in each article. 42275, 42276. Under the outlet''s lock.';

create function fiscal.number_document(
    caller public.caller, outlet fiscal.outlets, document jsonb, payload text, canonical_payload_hash text,
    tax_summary jsonb, total_minor bigint, tax_minor bigint, original_invoice_id text
)
returns fiscal.invoices
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    taken bigint;
    head fiscal.fiscal_ledger;
    entry fiscal.fiscal_ledger;
    invoice fiscal.invoices;
begin
    update fiscal.fiscal_counters as c
    set next_value = c.next_value + 1
    where c.outlet_id = (number_document.outlet).outlet_id and c.kind = 'invoice'
    returning c.next_value - 1 into strict taken;
    select l.* into head
    from fiscal.fiscal_ledger as l
    where l.outlet_id = (number_document.outlet).outlet_id
    order by l.entry_no desc
    limit 1;

    entry.fiscal_number := fiscal.fiscal_number(number_document.outlet, taken);
    entry.previous_hash := coalesce(head.entry_hash, repeat('0', 64));
    -- A clock that steps back must not make a chain do so.
    entry.sealed_at := greatest(
        to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), head.sealed_at
    );
    insert into fiscal.invoices (
        invoice_id, tenant_id, environment, merchant_id, outlet_id, status, invoice_type, invoice_ref, fiscal_number,
        sequence, payload, canonical_payload_hash, tax_summary, currency, total_minor, tax_minor, original_invoice_id,
        created_by
    ) values (
        public.new_id('inv'), (number_document.outlet).tenant_id, (number_document.outlet).environment,
        (number_document.outlet).merchant_id, (number_document.outlet).outlet_id, 'pending_signature',
        document ->> 'invoice_type', document ->> 'invoice_ref', entry.fiscal_number, taken, number_document.payload,
        number_document.canonical_payload_hash, number_document.tax_summary, document #>> '{totals,currency}',
        number_document.total_minor, number_document.tax_minor, number_document.original_invoice_id,
        (number_document.caller).actor
    )
    returning * into invoice;
    insert into fiscal.fiscal_ledger (
        outlet_id, entry_no, tenant_id, environment, sequence, record_type, fiscal_number, canonical_payload_hash,
        sealed_at, previous_hash, entry_hash, invoice_id
    ) values (
        invoice.outlet_id, coalesce(head.entry_no, 0) + 1, invoice.tenant_id, invoice.environment, taken,
        invoice.invoice_type, entry.fiscal_number, invoice.canonical_payload_hash, entry.sealed_at, entry.previous_hash,
        encode(sha256(convert_to(concat_ws(
            E'\n', entry.fiscal_number, invoice.canonical_payload_hash, entry.sealed_at, entry.previous_hash
        ), 'UTF8')), 'hex'),
        invoice.invoice_id
    );
    -- Whoever sealed it signs it now; the queue comes when they did not.
    insert into signing.signing_queue (invoice_id, tenant_id, environment, next_attempt_at)
    values (invoice.invoice_id, invoice.tenant_id, invoice.environment, now() + interval '5 seconds');
    return invoice;
end
$$;
comment on function fiscal.number_document is
'Number, document, chain entry and place in the signing queue, together. Only under the outlet''s lock.';

create function fiscal.fiscal_number(outlet fiscal.outlets, sequence bigint)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    -- A sandbox document never looks like a real one.
    return concat_ws(
        '-', case outlet.environment when 'production' then 'STL' else 'TST' end, outlet.outlet_code,
        lpad(sequence::text, greatest(6, length(sequence::text)), '0')
    );
end
$$;
comment on function fiscal.fiscal_number is 'The printed form: STL-KIN001-000042. The integer is what counts.';

create function fiscal.seal_object(invoice_id text, key_id text)
returns text
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        -- RFC 8785 of text without characters to escape: members in order, no spaces.
        select format(
            '{"canonical_payload_hash":"%s","fiscal_authority_id":"%s","fiscal_number":"%s","jurisdiction":"%s",'
            '"key_id":"%s","outlet_id":"%s","previous_hash":"%s","sealed_at":"%s","sequence":%s,"v":1}',
            l.canonical_payload_hash, o.fiscal_authority_id, l.fiscal_number, m.jurisdiction, seal_object.key_id,
            l.outlet_id, l.previous_hash, l.sealed_at, l.sequence
        )
        from fiscal.fiscal_ledger as l
        inner join fiscal.outlets as o on o.outlet_id = l.outlet_id
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        where l.invoice_id = seal_object.invoice_id
    );
end
$$;
comment on function fiscal.seal_object is 'The canonical text that is signed, made from the ledger.';

create function fiscal.attach_signature(
    invoice_id text, key_id text, digest text, signature text, auth_code text, latency_ms integer, provider_request_id text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write signatures
set search_path = ''
as $$
#variable_conflict use_column
declare
    invoice fiscal.invoices;
    signer signing.keys;
begin
    select i.* into invoice
    from fiscal.invoices as i
    where i.invoice_id = attach_signature.invoice_id
    for no key update;
    select k.* into signer from signing.keys as k where k.key_id = attach_signature.key_id;
    if invoice.invoice_id is null or signer.key_id is null then
        perform public.refuse('40401', format('There is no document %s or no key %s.', attach_signature.invoice_id, attach_signature.key_id));
    end if;
    if attach_signature.digest <> encode(sha256(convert_to(fiscal.seal_object(invoice.invoice_id, signer.key_id), 'UTF8')), 'hex') then
        raise exception 'the signature is not of what the ledger says';
    end if;
    insert into signing.signing_log (
        tenant_id, environment, invoice_id, key_id, digest, signature, provider_request_id, latency_ms, outcome
    ) values (
        invoice.tenant_id, invoice.environment, invoice.invoice_id, signer.key_id, attach_signature.digest,
        attach_signature.signature, attach_signature.provider_request_id, attach_signature.latency_ms, 'signed'
    );
    -- Two signers may have signed the same document; the first signature is the document's.
    if invoice.status <> 'fiscalized' then
        insert into fiscal.signatures (
            invoice_id, tenant_id, environment, outlet_id, key_id, signature_alg, digest, signature, auth_code
        ) values (
            invoice.invoice_id, invoice.tenant_id, invoice.environment, invoice.outlet_id, signer.key_id, signer.alg,
            attach_signature.digest, attach_signature.signature, attach_signature.auth_code
        );
        update fiscal.invoices as i set status = 'fiscalized' where i.invoice_id = invoice.invoice_id;
        delete from signing.signing_queue as q where q.invoice_id = invoice.invoice_id;
    end if;
    return row(201, fiscal.invoice_resource(invoice.invoice_id), '{}')::public.answer;
end
$$;
comment on function fiscal.attach_signature is
'Gives a numbered document its signature, once, when the digest is of its own ledger entry; logs the provider''s call.';

reset role;

-- sql/recon/views.sql

-- Our side of the comparison.

set role stalela_owner;

create view recon.our_side as
select
    t.tenant_id,
    t.environment,
    t.rail,
    t.transfer_id,
    t.state,
    t.settled_at is not null as is_settled,
    case
        when t.purpose in ('collection', 'c2b') or (t.purpose = 'direct' and t.intent = 'PULL') then 'in' else 'out'
    end as direction,
    t.amount_minor,
    t.currency,
    t.receipt,
    t.rail_ref,
    t.payment_intent_id,
    coalesce(t.payee_hash, t.payer_hash) as party_hash,
    t.metadata ->> 'batch_ref' as batch_ref,
    -- A reversal stands in the statement under the receipt that it reverses.
    (
        select r.receipt from payments.transfers as r
        where t.purpose = 'refund' and r.transfer_id = t.related_transfer_id
    ) as linked_ref,
    t.settled_at,
    t.created_at
from payments.transfers as t
where t.state <> 'INITIATED';
comment on view recon.our_side is
'Every movement of money as our books have it, settled or on its way: the one place where reconciliation reads transfers.';

reset role;

-- sql/compliance/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy profiles_select_own on compliance.profiles
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy tenant_velocity_select_own on compliance.tenant_velocity
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy party_velocity_select_own on compliance.party_velocity
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy releases_select_own on compliance.releases
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy freezes_select_own on compliance.freezes
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy parties_select_own on compliance.parties
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy party_keys_select_own on compliance.party_keys
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy screening_results_select_own on compliance.screening_results
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy transfer_clearances_select_own on compliance.transfer_clearances
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy exemptions_select_own on compliance.exemptions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger transfers_give_back_their_limits
after update of state on payments.transfers
for each row
-- Refunds and deposits were not counted: the one gives back, the other nobody asked for.
when ((new.state = 'FAILED') <> (old.state = 'FAILED') and new.purpose in ('collection', 'payout', 'direct'))
execute function compliance.note_outcome();

create trigger payment_intents_have_their_customer_screened
after insert on payments.payment_intents
for each row
when (new.customer ->> 'name' is not null)
execute function compliance.note_customer();

grant usage on schema public, compliance to fn_compliance;
grant execute on function
compliance.show_lists, compliance.import_list, compliance.index_state, compliance.read_index,
compliance.put_party, compliance.get_party, compliance.exempt_party, compliance.record_party,
compliance.screening_context, compliance.record_screenings, compliance.list_screenings,
compliance.claim_parties, compliance.refresh_clear,
compliance.get_limits, compliance.set_profile, compliance.freeze_party, compliance.list_freezes,
compliance.lift_freeze
to fn_compliance;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema compliance to postgres;
grant execute on function compliance.fold_releases, compliance.purge_velocity, compliance.poke_screening,
compliance.watch_lists to postgres;

reset role;

-- sql/directory/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy route_explanations_select_own on directory.route_explanations
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

grant usage on schema public, directory to fn_directory;
grant execute on function
directory.open_lookup, directory.look_up, directory.get_institution, directory.get_calendar, directory.publish,
directory.get_route, directory.rank_routes
to fn_directory;

reset role;

-- sql/fiscal/policies.sql

-- Who may see and who may call. A person limited to one outlet sees that outlet's rows alone.

set role stalela_owner;

create policy merchants_select_own on fiscal.merchants
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outlets_select_own on fiscal.outlets
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy operators_select_own on fiscal.operators
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy invoices_select_own on fiscal.invoices
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy fiscal_ledger_select_own on fiscal.fiscal_ledger
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy signatures_select_own on fiscal.signatures
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create function fiscal.forbid_rewriting()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_op <> 'UPDATE' or to_jsonb(new) - 'status' <> to_jsonb(old) - 'status' or old.status = 'fiscalized' then
        raise exception 'a numbered document never changes';
    end if;
    return new;
end
$$;
comment on function fiscal.forbid_rewriting is 'A document keeps every column but its status, and that until it is fiscalized.';

create trigger invoices_keep_their_words
before update or delete on fiscal.invoices
for each row execute function fiscal.forbid_rewriting();

create trigger invoices_stay
before truncate on fiscal.invoices
for each statement execute function fiscal.forbid_rewriting();

grant usage on schema fiscal to fn_invoices, fn_merchants;
grant execute on function fiscal.seal, fiscal.attach_signature, fiscal.get_invoice, fiscal.list_invoices, fiscal.may_preview
to fn_invoices;
grant execute on function
fiscal.put_merchant, fiscal.get_merchant, fiscal.create_outlet, fiscal.list_outlets, fiscal.put_operator
to fn_merchants;

reset role;

-- sql/ledger/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy accounts_select_own on ledger.accounts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy chains_select_own on ledger.chains
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy journals_select_own on ledger.journals
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy holds_select_own on ledger.holds
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy reserves_select_own on ledger.reserves
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy periods_select_own on ledger.periods
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy manual_journals_select_own on ledger.manual_journals
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy chain_checks_select_own on ledger.chain_checks
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy tariffs_select_own on ledger.tariffs
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create trigger journals_append_only
before update or delete or truncate on ledger.journals
for each statement execute function public.forbid_change();

create trigger journal_entries_append_only
before update or delete or truncate on ledger.journal_entries
for each statement execute function public.forbid_change();

create trigger journals_checked
after insert on ledger.journals
referencing new table as written
for each statement execute function ledger.check_journals();

create trigger journal_entries_checked
after insert on ledger.journal_entries
referencing new table as written
for each statement execute function ledger.check_entries();

grant execute on function
ledger.book, ledger.list_balances, ledger.list_accounts, ledger.list_journals, ledger.get_journal, ledger.prove,
ledger.statement, ledger.list_tariffs, ledger.create_manual_journal, ledger.list_manual_journals,
ledger.decide_manual_journal, ledger.list_periods, ledger.move_period
to fn_ledger;

grant usage on schema ledger to fn_ledger;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema ledger to postgres;
grant execute on function
ledger.check_balances, ledger.check_trial_balances, ledger.check_chains, ledger.release_reserves, ledger.expire_holds
to postgres;

reset role;

-- sql/messages/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy messages_select_own on messages.messages
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

grant usage on schema public, messages to fn_receipts, fn_alerts;
grant execute on function
messages.take_receipts, messages.keep_receipts, messages.return_receipt, messages.prepare_receipt,
messages.send_receipt, messages.list_receipts, messages.claim_messages, messages.record_sending,
messages.record_mail_event
to fn_receipts;

grant execute on function
messages.take_alerts, messages.keep_alerts, messages.list_alerts, messages.resolve_alert, messages.resolve_callback,
messages.claim_messages, messages.record_sending
to fn_alerts;

-- Whoever raises an alert wakes who tells people of it.
create trigger alerts_poke
after insert on public.alerts
for each statement execute function messages.poke_on_alert();

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema messages to postgres;
grant execute on function messages.poke_receipts, messages.poke_alerts, messages.watch, messages.purge to postgres;

reset role;

-- sql/payments/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy payment_intents_select_own on payments.payment_intents
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy transfers_select_own on payments.transfers
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy attempts_select_own on payments.attempts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy intent_events_select_own on payments.intent_events
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy transfer_events_select_own on payments.transfer_events
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outbox_select_own on payments.outbox
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outbox_exceptions_select_own on payments.outbox_exceptions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outbox_rest_select_own on payments.outbox_rest
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy stream_tokens_select_own on payments.stream_tokens
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy streams_select_own on payments.streams
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger intent_events_append_only
before update or delete or truncate on payments.intent_events
for each statement execute function public.forbid_change();

create trigger transfer_events_append_only
before update or delete or truncate on payments.transfer_events
for each statement execute function public.forbid_change();

create trigger outbox_append_only
before update or delete or truncate on payments.outbox
for each statement execute function public.forbid_change();

grant execute on function
payments.create_intent, payments.get_intent, payments.list_intents, payments.update_intent, payments.cancel_intent,
payments.list_intent_events, payments.begin_transfer, payments.record_submission, payments.release_submission,
payments.ask_rail, payments.record_query, payments.issue_stream_token, payments.open_stream, payments.read_streams
to fn_payment_intents;

grant execute on function payments.record_query to fn_reconcile;

grant execute on function
payments.begin_refund, payments.get_refund, payments.list_transfers, payments.decide_approval,
payments.record_submission, payments.release_submission
to fn_refunds;

grant execute on function
payments.begin_payout, payments.get_payout, payments.list_transfers, payments.decide_approval,
payments.record_submission, payments.release_submission
to fn_payouts;

grant execute on function
payments.begin_direct, payments.get_transfer, payments.list_transfers, payments.list_transfer_events,
payments.decide_approval, payments.assign_deposit, payments.record_submission, payments.release_submission
to fn_transfers;

grant execute on function
payments.list_deliveries, payments.list_destinations, payments.get_delivery, payments.redrive_delivery,
payments.skip_delivery
to fn_deliveries;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema payments to postgres;
grant execute on function payments.expire_intents, payments.purge_streams, payments.sweep_initiated to postgres;

reset role;

-- sql/public/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy tenants_select_own on public.tenants
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy users_select_self on public.users
for select to authenticated
using (user_id = (select public.user_id())::uuid);

create policy memberships_select_own on public.memberships
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy invitations_select_own on public.invitations
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy rate_limit_overrides_select_own on public.rate_limit_overrides
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy api_keys_select_own on public.api_keys
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy idempotency_keys_select_own on public.idempotency_keys
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy alerts_select_own on public.alerts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy audit_log_select_own on public.audit_log
for select to authenticated
using (
    tenant_id = (select public.tenant_id())
    and (environment is null or environment = (select public.environment()))
);

grant execute on function
public.create_tenant, public.set_tenant_status, public.get_account, public.list_audit,
public.list_users, public.invite_user, public.accept_invitation, public.change_user_role, public.remove_user,
public.create_api_key, public.list_api_keys, public.rotate_api_key, public.revoke_api_key
to fn_merchants;

-- pg_cron runs as postgres, which may do nothing here but this.
grant execute on function public.claim_task, public.run_task, public.lane_deadline to postgres;

reset role;

-- sql/rails/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy credentials_select_own on rails.credentials
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy callbacks_select_own on rails.callbacks
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy callback_dispositions_select_own on rails.callback_dispositions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy watches_select_own on rails.watches
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy deposit_addresses_select_own on rails.deposit_addresses
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy balances_select_own on rails.balances
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger callbacks_append_only
before update or delete or truncate on rails.callbacks
for each statement execute function public.forbid_change();

create trigger callback_dispositions_append_only
before update or delete or truncate on rails.callback_dispositions
for each statement execute function public.forbid_change();

grant execute on function
rails.receive_callback, rails.receive_deposit, rails.check_deposit, rails.receive_balance
to fn_momo_callback;
grant execute on function rails.request_balance, rails.get_balance to fn_payouts;
grant execute on function rails.open_deposits, rails.record_deposits_registered to fn_transfers;
grant execute on function
rails.claim_queries, rails.list_parked_callbacks, rails.list_reviews, rails.resolve_review
to fn_reconcile;
grant execute on function
rails.put_credentials, rails.list_credentials, rails.open_credentials, rails.record_credentials_test,
rails.delete_credentials, rails.claim_reseal, rails.record_reseal
to fn_merchants;

grant usage on schema rails to postgres;
grant execute on function rails.poke_reconcile, rails.poke_reseal, rails.retry_failed_callbacks to postgres;

reset role;

-- sql/recon/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy column_maps_select_own on recon.column_maps
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy recon_sessions_select_own on recon.recon_sessions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy session_figures_select_own on recon.session_figures
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy statements_select_own on recon.statements
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy statement_lines_select_own on recon.statement_lines
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy runs_select_own on recon.runs
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy matches_select_own on recon.matches
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy marked_lines_select_own on recon.marked_lines
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy exceptions_select_own on recon.exceptions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy resolutions_select_own on recon.resolutions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger statement_lines_append_only
before update or delete or truncate on recon.statement_lines
for each statement execute function public.forbid_change();

create trigger runs_append_only
before update or delete or truncate on recon.runs
for each statement execute function public.forbid_change();

create trigger matches_append_only
before update or delete or truncate on recon.matches
for each statement execute function public.forbid_change();

create trigger marked_lines_append_only
before update or delete or truncate on recon.marked_lines
for each statement execute function public.forbid_change();

create trigger resolutions_append_only
before update or delete or truncate on recon.resolutions
for each statement execute function public.forbid_change();

grant usage on schema recon to fn_recon;
grant execute on function
recon.import_statement, recon.match_statement, recon.reject_statement, recon.put_column_map, recon.get_column_map,
recon.list_sessions, recon.get_session, recon.session_report,
recon.list_exceptions, recon.resolve_exception, recon.approve_exception
to fn_recon;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema recon to postgres;
grant execute on function recon.daily to postgres;

reset role;

-- sql/signing/policies.sql

set role stalela_owner;

create policy signing_log_select_own on signing.signing_log
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy signing_queue_select_own on signing.signing_queue
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

grant usage on schema signing to fn_invoices;
grant execute on function signing.register_key, signing.claim_signatures, signing.record_failure to fn_invoices;

grant usage on schema signing to postgres;
grant execute on function signing.poke_queue to postgres;

reset role;

-- sql/webhooks/policies.sql

-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy endpoints_select_own on webhooks.endpoints
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy endpoint_health_select_own on webhooks.endpoint_health
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy messages_select_own on webhooks.messages
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy deliveries_select_own on webhooks.deliveries
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy queue_select_own on webhooks.queue
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy attempts_select_own on webhooks.attempts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

grant usage on schema public, webhooks to fn_webhook_endpoints, fn_webhook_delivery, fn_events;

grant execute on function
webhooks.create_endpoint, webhooks.list_endpoints, webhooks.get_endpoint, webhooks.update_endpoint,
webhooks.rotate_secret, webhooks.enable_endpoint, webhooks.disable_endpoint, webhooks.delete_endpoint,
webhooks.test_endpoint, webhooks.list_deliveries, webhooks.get_delivery, webhooks.replay_delivery,
webhooks.replay_range
to fn_webhook_endpoints;

grant execute on function webhooks.fan_out, webhooks.claim, webhooks.record_attempts to fn_webhook_delivery;

grant execute on function webhooks.list_events, webhooks.get_event to fn_events;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema webhooks to postgres;
grant execute on function webhooks.poke_delivery, webhooks.purge to postgres;

reset role;

-- sql/payments/jobs.sql

-- The first partitions of the outbox; a cron task makes the next ones.

select payments.add_outbox_partitions();

-- sql/public/jobs.sql

-- The only two pg_cron jobs: one per lane of public.cron_tasks. They belong to postgres, who may use pg_cron.
-- The loop is in the command, not in a procedure: it commits after each step, which a routine with a fixed
-- search_path cannot do, and a routine without one is what the advisors warn about.

select cron.schedule(lane.name, lane.schedule, format($job$
do $lane$
declare
    deadline timestamptz := public.lane_deadline(%1$L);
    task text;
begin
    delete from cron.job_run_details
    where coalesce(end_time, start_time) < now() - interval '7 days';
    while clock_timestamp() < deadline loop
        task := public.claim_task(%2$L);
        commit;
        if task is null then
            perform pg_catalog.pg_sleep(0.5);
        else
            perform public.run_task(task);
            commit;
        end if;
    end loop;
end
$lane$
$job$, lane.budget, lane.lane))
from (
    values
    ('stalela-fast', 'fast', '* * * * *', '55 seconds'),
    ('stalela-slow', 'slow', '*/5 * * * *', '4 minutes 50 seconds')
) as lane (name, lane, schedule, budget);
