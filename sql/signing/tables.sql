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
    -- Rotations hash it while a document is sealed, which must not fail then.
    public_key_spki text not null check (length(decode(public_key_spki, 'base64')) > 0),
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
    fiscal_number text not null,
    key_id text not null references signing.keys (key_id),
    digest text not null,
    signature text,
    provider_request_id text,
    latency_ms integer not null check (latency_ms >= 0),
    outcome text not null check (outcome in ('signed', 'discarded', 'failed')),
    error text,
    signed_at timestamptz not null default now(),
    check ((outcome = 'failed') = (signature is null))
);
comment on table signing.signing_log is
'Append-only: one row for each call of a signing provider, failures too. discarded: a signature that came too late to be the entry''s.';
alter table signing.signing_log enable row level security;
create index signing_log_of_entry on signing.signing_log (fiscal_number);
create index signing_log_of_key on signing.signing_log (key_id);
create index signing_log_of_tenant on signing.signing_log (tenant_id, environment, signing_log_id);
create trigger signing_log_append_only
before update or delete or truncate on signing.signing_log
for each statement execute function public.forbid_change();

create table signing.signing_queue (
    fiscal_number text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    key_id text, -- no foreign key: it would have all sealing take turns at the one row of the active key
    attempts integer not null default 0,
    next_attempt_at timestamptz not null,
    waiting_since timestamptz not null default now(),
    last_error text,
    created_at timestamptz not null default now()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
comment on table signing.signing_queue is
'Ledger entries without a signature. A row leaves when the signature is attached, and for no other reason. next_attempt_at infinity: an operator must look.';
comment on column signing.signing_queue.key_id is
'The only key that may sign the entry, decided when it was sealed; null: whichever is active when it is signed, because none was then.';
alter table signing.signing_queue enable row level security;
create index signing_queue_due on signing.signing_queue (next_attempt_at);
create index signing_queue_of_tenant on signing.signing_queue (tenant_id, environment);

create table signing.chain_keys (
    outlet_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    key_id text not null references signing.keys (key_id)
);
comment on table signing.chain_keys is 'The key of the newest entries of each outlet''s chain; it changes with a key_rotation entry only.';
alter table signing.chain_keys enable row level security;
create index chain_keys_of_key on signing.chain_keys (key_id);
create index chain_keys_of_tenant on signing.chain_keys (tenant_id, environment);

create table signing.key_rotations (
    fiscal_number text primary key,
    outlet_id text not null,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    from_key_id text not null references signing.keys (key_id),
    to_key_id text not null references signing.keys (key_id),
    body text not null,
    created_at timestamptz not null default now()
);
comment on table signing.key_rotations is
'Append-only: the words of each key_rotation entry. body is canonical JSON (RFC 8785); its SHA-256 is the entry''s payload hash.';
alter table signing.key_rotations enable row level security;
create index key_rotations_of_outlet on signing.key_rotations (outlet_id);
create index key_rotations_from_key on signing.key_rotations (from_key_id);
create index key_rotations_to_key on signing.key_rotations (to_key_id);
create index key_rotations_of_tenant on signing.key_rotations (tenant_id, environment);
create trigger key_rotations_append_only
before update or delete or truncate on signing.key_rotations
for each statement execute function public.forbid_change();

reset role;
