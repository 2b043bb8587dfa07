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

reset role;
