-- What else the keys sign: statements, which say something to people outside.

set role stalela_owner;

create table signing.statements (
    statement_id text primary key,
    tenant_id text,
    environment text not null check (environment in ('sandbox', 'production')),
    jurisdiction text not null,
    kind text not null check (kind in ('anchor', 'credential')),
    body text not null,
    key_id text references signing.keys (key_id),
    signature text,
    signed_at timestamptz,
    next_attempt_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    check ((key_id is null) = (signature is null) and (signature is null) = (signed_at is null))
);
comment on table signing.statements is
'Signed once, by the key that is active then: body is canonical JSON (RFC 8785), and what is signed is {"key_id", "statement": body, "v": 1}. tenant_id null: of the platform.';
alter table signing.statements enable row level security;
create index statements_due on signing.statements (next_attempt_at) where signature is null;
create index statements_of_key on signing.statements (key_id);
create index statements_of_tenant on signing.statements (tenant_id, environment);

create table signing.delegated_credentials (
    credential_id text primary key references signing.statements (statement_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    pos_terminal_id text not null,
    public_key_spki text not null,
    block_start bigint not null check (block_start > 0),
    block_end bigint not null,
    not_before timestamptz not null,
    expires_at timestamptz not null,
    types text [] not null,
    max_total_minor bigint,
    currency text,
    credential_hash text not null,
    status text not null default 'active' check (status in ('active', 'ended', 'revoked', 'closed')),
    revoked_at timestamptz,
    revoked_because text,
    created_by text not null,
    created_at timestamptz not null default now(),
    check (block_end between block_start and block_start + 499),
    check (expires_at > not_before),
    check ((max_total_minor is null) = (currency is null)),
    check ((revoked_at is null) = (revoked_because is null) and (status <> 'revoked' or revoked_at is not null))
);
comment on table signing.delegated_credentials is
'What a terminal may seal without us: numbers block_start to block_end, until expires_at. active: it may; ended: its time is over; closed: every number is in the chain. The words that are signed are its statement.';
alter table signing.delegated_credentials enable row level security;
create unique index delegated_credentials_one_active
on signing.delegated_credentials (outlet_id, pos_terminal_id) where status = 'active';
create index delegated_credentials_of_tenant on signing.delegated_credentials (tenant_id, environment, credential_id);

create table signing.number_blocks (
    move_no bigint generated always as identity primary key,
    credential_id text not null references signing.delegated_credentials (credential_id),
    outlet_id text not null,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    move text not null check (move in ('reserved', 'gap', 'reconciled', 'voided')),
    from_number bigint not null,
    to_number bigint not null,
    fiscal_number text unique,
    body text,
    actor text not null,
    made_at timestamptz not null default now(),
    check (to_number >= from_number),
    check ((move = 'voided') = (fiscal_number is not null) and (move = 'voided') = (body is not null))
);
comment on table signing.number_blocks is
'Append-only: what became of numbers that went to terminals. gap: a later one came back first. body: canonical JSON of the entry that voids a number.';
alter table signing.number_blocks enable row level security;
create index number_blocks_of_credential on signing.number_blocks (credential_id, from_number);
create index number_blocks_of_outlet on signing.number_blocks (outlet_id, move, from_number);
create index number_blocks_of_tenant on signing.number_blocks (tenant_id, environment);
create trigger number_blocks_append_only
before update or delete or truncate on signing.number_blocks
for each statement execute function public.forbid_change();

reset role;
