-- What a hosted project's database holds before the first migration. As supabase_admin.

-- public is the database owner's, and that is `postgres`; nobody gets grants on new objects by themselves.
grant usage on schema public to anon, authenticated, service_role;
grant create on schema public to postgres;

create schema extensions;
grant usage on schema extensions to postgres, anon, authenticated, service_role, supabase_auth_admin;
grant create on schema extensions to postgres;
create extension pgcrypto schema extensions;
create extension pg_stat_statements schema extensions;
create extension plpgsql_check schema extensions;
create extension pgtap schema extensions;
grant execute on all functions in schema extensions to postgres with grant option;

-- Auth: the tables the stand-in needs, the functions policies call.
create schema auth authorization supabase_auth_admin;
grant usage on schema auth to postgres with grant option;
grant usage on schema auth to anon, authenticated, service_role;

set role supabase_auth_admin;

create table auth.users (
    id uuid primary key default gen_random_uuid(),
    instance_id uuid not null default '00000000-0000-0000-0000-000000000000',
    aud text not null default 'authenticated',
    role text not null default 'authenticated',
    email text unique,
    phone text unique,
    encrypted_password text not null default '',
    email_confirmed_at timestamptz,
    phone_confirmed_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb not null default '{}',
    raw_user_meta_data jsonb not null default '{}',
    is_anonymous boolean not null default false,
    banned_until timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table auth.sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references auth.users on delete cascade,
    created_at timestamptz not null default now()
);
create index on auth.sessions (user_id);

create table auth.refresh_tokens (
    token text primary key,
    session_id uuid not null references auth.sessions on delete cascade,
    revoked boolean not null default false,
    created_at timestamptz not null default now()
);
create index on auth.refresh_tokens (session_id);

alter table auth.users enable row level security;
alter table auth.sessions enable row level security;
alter table auth.refresh_tokens enable row level security;
grant all on all tables in schema auth to postgres;
grant select, references on auth.users to postgres with grant option;

create function auth.jwt() returns jsonb language sql stable set search_path = '' as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;
create function auth.uid() returns uuid language sql stable set search_path = '' as $$
    select nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid
$$;
create function auth.role() returns text language sql stable set search_path = '' as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
$$;

reset role;

-- Vault: the same names and rights. A laptop has no key service, so the text lies in the table.
create schema vault;
create table vault.secrets (
    id uuid primary key default gen_random_uuid(),
    name text unique,
    description text not null default '',
    secret text not null,
    key_id uuid,
    nonce bytea,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create view vault.decrypted_secrets as
select id, name, description, secret, secret as decrypted_secret, key_id, nonce, created_at, updated_at
from vault.secrets;

create function vault.create_secret(
    new_secret text, new_name text default null, new_description text default '', new_key_id uuid default null
) returns uuid language sql security definer set search_path = '' as $$
    insert into vault.secrets (secret, name, description, key_id)
    values (new_secret, new_name, new_description, new_key_id)
    returning id
$$;
create function vault.update_secret(
    secret_id uuid, new_secret text default null, new_name text default null,
    new_description text default null, new_key_id uuid default null
) returns void language sql security definer set search_path = '' as $$
    update vault.secrets
    set secret = coalesce(new_secret, secret), name = coalesce(new_name, name),
        description = coalesce(new_description, description), key_id = coalesce(new_key_id, key_id),
        updated_at = now()
    where id = secret_id
$$;
revoke execute on function vault.create_secret, vault.update_secret from public;
grant usage on schema vault to postgres with grant option;
grant select, delete on vault.secrets, vault.decrypted_secrets to postgres with grant option;
grant execute on function vault.create_secret, vault.update_secret to postgres with grant option;
grant usage on schema vault to service_role;
grant select, delete on vault.secrets, vault.decrypted_secrets to service_role;
grant execute on function vault.create_secret, vault.update_secret to service_role;

-- The Data API reloads its cache by itself after a migration, as on the platform.
create function extensions.pgrst_ddl_watch() returns event_trigger language plpgsql set search_path = '' as $$
begin
    notify pgrst, 'reload schema';
end
$$;
create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_ddl_watch();
