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
            ('fn_invoices', '5s'),
            ('fn_integrity', '30s'),
            ('fn_archive', '30s'),
            ('fn_offline', '5s'),
            ('fn_alerts', '10s'),
            ('fn_authority_sync', '10s'),
            ('fn_merchants', '5s'),
            ('fn_momo_callback', '5s'),
            ('fn_payment_intents', '5s'),
            ('fn_payouts', '5s'),
            ('fn_recon', '60s'),
            ('fn_receipts', '10s'),
            ('fn_reconcile', '30s'),
            ('fn_relay', '10s'),
            ('fn_events', '5s'),
            ('fn_webhook_delivery', '30s'),
            ('fn_webhook_endpoints', '5s'),
            ('fn_refunds', '5s'),
            ('fn_reports', '30s'),
            ('fn_transfers', '5s'),
            ('fn_verify', '5s'),
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
create schema sync authorization stalela_owner;

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
comment on schema sync is 'Tax authorities: devices, what they are to be told, what they answered.';
comment on schema tax is 'Tax rules as published: jurisdictions, versioned manifests, groups, classifications.';

grant usage on schema public, payments, rails
to fn_payment_intents, fn_momo_callback, fn_reconcile, fn_merchants, fn_refunds, fn_payouts, fn_transfers, fn_deliveries;

-- The base URL and the bearer secret of our own functions live in the vault; pokes go through pg_net.
grant usage on schema vault, net to stalela_owner;
grant select on vault.decrypted_secrets to stalela_owner;
