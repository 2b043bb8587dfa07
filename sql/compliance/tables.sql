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
