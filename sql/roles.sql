-- Roles and schemas. Runs first, as the platform's `postgres` role; everything after it belongs to stalela_owner.

do $$
declare
    wanted text;
begin
    foreach wanted in array array[
        'stalela_owner', 'fn_payment_intents', 'fn_momo_callback', 'fn_reconcile', 'fn_merchants'
    ]
    loop
        -- Roles belong to the cluster, not to the database, so a second database finds them already there.
        if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
            execute format('create role %I nologin', wanted);
        end if;
        if wanted = 'stalela_owner' then
            grant stalela_owner to postgres;
        else
            execute format('grant %I to authenticator', wanted);
        end if;
    end loop;
end
$$;

-- Postgres lets everybody execute every new function unless told otherwise, for each creating role.
alter default privileges for role postgres revoke execute on functions from public;
alter default privileges for role stalela_owner revoke execute on functions from public;

-- A handler's statement that takes longer than this is stuck, not busy.
alter role fn_payment_intents set statement_timeout = '5s';
alter role fn_payment_intents set lock_timeout = '2s';
alter role fn_momo_callback set statement_timeout = '5s';
alter role fn_momo_callback set lock_timeout = '2s';
alter role fn_merchants set statement_timeout = '5s';
alter role fn_merchants set lock_timeout = '2s';
alter role fn_reconcile set statement_timeout = '30s';
alter role fn_reconcile set lock_timeout = '2s';

grant usage, create on schema public to stalela_owner;
create schema payments authorization stalela_owner;
create schema rails authorization stalela_owner;

comment on schema payments is 'Payment intents, transfers, their events and the outbox.';
comment on schema rails is 'Payment networks: what they are, their codes, tenants'' credentials, what they called back.';

grant usage on schema public, payments, rails
to fn_payment_intents, fn_momo_callback, fn_reconcile, fn_merchants;

-- The base URL and the bearer secret of our own functions live in the vault; pokes go through pg_net.
grant usage on schema vault, net to stalela_owner;
grant select on vault.decrypted_secrets to stalela_owner;
