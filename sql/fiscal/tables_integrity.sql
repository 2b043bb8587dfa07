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

create table fiscal.anchors (
    anchor_id text primary key references signing.statements (statement_id),
    environment text not null check (environment in ('sandbox', 'production')),
    jurisdiction text not null,
    anchored_on date not null,
    root text not null check (root ~ '^[0-9a-f]{64}$'),
    size integer not null check (size > 0),
    created_at timestamptz not null default now(),
    unique (environment, jurisdiction, anchored_on)
);
comment on table fiscal.anchors is
'Append-only: each day the Merkle root (RFC 6962) of the heads of all chains of a place, signed and published. size: how many heads.';
alter table fiscal.anchors enable row level security;
create trigger anchors_append_only
before update or delete or truncate on fiscal.anchors
for each statement execute function public.forbid_change();

create table fiscal.anchored_heads (
    anchor_id text not null references fiscal.anchors (anchor_id),
    leaf_no integer not null check (leaf_no > 0),
    outlet_id text not null references fiscal.outlets (outlet_id),
    from_entry bigint not null,
    entry_no bigint not null,
    leaf text not null,
    primary key (anchor_id, leaf_no),
    check (entry_no >= from_entry - 1)
);
comment on table fiscal.anchored_heads is
'Append-only: the leaves of each anchor. leaf is canonical JSON: the head of a chain, and the Merkle root of the entries from_entry to entry_no that came since the anchor before.';
alter table fiscal.anchored_heads enable row level security;
create index anchored_heads_of_outlet on fiscal.anchored_heads (outlet_id, entry_no);
create trigger anchored_heads_append_only
before update or delete or truncate on fiscal.anchored_heads
for each statement execute function public.forbid_change();

create table fiscal.conflicts (
    conflict_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    fiscal_number text not null,
    kept_hash text not null,
    other_hash text not null,
    document text not null,
    reason text not null,
    received_from text not null,
    created_at timestamptz not null default now(),
    unique (fiscal_number, other_hash)
);
comment on table fiscal.conflicts is
'Append-only: documents that came with a number another document has. The first stays in the chain, whatever these say.';
alter table fiscal.conflicts enable row level security;
create index conflicts_of_outlet on fiscal.conflicts (outlet_id);
create index conflicts_of_tenant on fiscal.conflicts (tenant_id, environment, conflict_id);
create trigger conflicts_append_only
before update or delete or truncate on fiscal.conflicts
for each statement execute function public.forbid_change();

create table fiscal.local_seals (
    fiscal_number text primary key references fiscal.fiscal_ledger (fiscal_number),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    invoice_id text not null unique references fiscal.invoices (invoice_id),
    credential_id text not null references signing.delegated_credentials (credential_id),
    sequence bigint not null,
    sealed_at text not null,
    local_previous_hash text not null check (local_previous_hash ~ '^[0-9a-f]{64}$'),
    local_hash text not null,
    digest text not null,
    signature text not null,
    auth_code text not null,
    received_at timestamptz not null default now(),
    unique (credential_id, sequence)
);
comment on table fiscal.local_seals is
'Append-only: what a terminal signed offline, as it is on paper. The entry in our chain has our own signature beside it.';
alter table fiscal.local_seals enable row level security;
create index local_seals_of_tenant on fiscal.local_seals (tenant_id, environment);
create trigger local_seals_append_only
before update or delete or truncate on fiscal.local_seals
for each statement execute function public.forbid_change();

reset role;
