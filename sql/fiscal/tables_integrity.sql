-- What proves that sealed documents are what was sealed.

set role stalela_owner;

create table fiscal.chain_walks (
    walk_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    scope text not null check (scope in ('new', 'all')),
    checks text not null check (checks in ('hashes', 'everything')),
    status text not null default 'running' check (status in ('running', 'sound', 'broken')),
    from_entry bigint not null check (from_entry > 0),
    to_entry bigint not null,
    head_hash text not null,
    finding jsonb,
    requested_by text not null,
    started_at timestamptz not null default now(),
    moved_at timestamptz not null default '-infinity',
    finished_at timestamptz,
    check (to_entry >= from_entry - 1),
    check ((status = 'broken') = (finding is not null)),
    check ((status = 'running') = (finished_at is null))
) with (fillfactor = 80);
comment on table fiscal.chain_walks is
'Verifications of chains. Entries from_entry to to_entry are sound and head_hash is that of to_entry; a finding is the first entry that is not. Who walks moves it on; a finished walk never changes.';
alter table fiscal.chain_walks enable row level security;
create unique index chain_walks_one_running on fiscal.chain_walks (outlet_id) where status = 'running';
create index chain_walks_of_outlet on fiscal.chain_walks (outlet_id, walk_id);
create index chain_walks_of_tenant on fiscal.chain_walks (tenant_id, environment, walk_id);

reset role;
