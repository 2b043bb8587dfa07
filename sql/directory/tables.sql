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
