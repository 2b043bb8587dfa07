-- Tenants' rail credentials: stored sealed, shown masked, opened only by the functions that call the rail.

set role stalela_owner;

create function rails.credentials_resource(credentials rails.credentials)
returns text
language sql
stable
set search_path = ''
as $$
    select row_to_json(shown)::text
    from (
        select
            credentials.rail, 'rail_credentials' as object, credentials.environment, credentials.masked as credentials,
            credentials.revision, credentials.tested_at, credentials.created_at, credentials.updated_at
    ) as shown;
$$;
comment on function rails.credentials_resource is 'The wire shape of stored credentials: masked, never the values.';

create function rails.put_credentials(
    tenant_id text, environment text, rail text, sealed text, key_version integer, masked jsonb, tested boolean
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    -- The seal is bound to these two; a mismatch would store something nobody can open.
    if put_credentials.tenant_id <> caller.tenant_id or put_credentials.environment <> caller.environment then
        perform public.refuse('40401', 'These credentials belong to another tenant or environment.');
    end if;
    if not exists (select from rails.rails as r where r.rail = put_credentials.rail and r.enabled) then
        perform public.refuse('40401', format('There is no rail %s.', put_credentials.rail));
    end if;
    insert into rails.credentials as c (
        tenant_id, environment, rail, sealed, key_version, masked, created_by, tested_at
    ) values (
        caller.tenant_id, caller.environment, put_credentials.rail, put_credentials.sealed,
        put_credentials.key_version, put_credentials.masked, caller.actor,
        case when put_credentials.tested then now() end
    )
    on conflict (tenant_id, environment, rail) do update
    set
        sealed = excluded.sealed, key_version = excluded.key_version, masked = excluded.masked,
        revision = c.revision + 1, updated_at = now(), tested_at = excluded.tested_at
    returning c.* into stored;
    perform public.audit(caller, 'credentials.put', stored.rail, jsonb_build_object('revision', stored.revision));
    return row(
        case when stored.revision = 1 then 201 else 200 end, rails.credentials_resource(stored), caller.rate
    );
end
$$;
comment on function rails.put_credentials is 'Stores or replaces the sealed credentials of one rail for the caller''s tenant and environment. 201 first, 200 afterwards.';

create function rails.list_credentials()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'read');
    body text;
begin
    select string_agg(rails.credentials_resource(c), ',' order by c.rail) into body
    from rails.credentials as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function rails.list_credentials is 'The caller''s credentials of this environment, masked.';

create function rails.open_credentials(rail text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    select c.* into stored
    from rails.credentials as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.rail = open_credentials.rail;
    if not found then
        perform public.refuse('40401', format('No %s credentials in %s.', open_credentials.rail, caller.environment));
    end if;
    return jsonb_build_object(
        'tenant_id', stored.tenant_id, 'environment', stored.environment, 'rail', stored.rail, 'sealed', stored.sealed
    );
end
$$;
comment on function rails.open_credentials is 'The sealed credentials of one rail, for a test against the rail.';

create function rails.record_credentials_test(rail text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    update rails.credentials as c
    set tested_at = now()
    where
        c.tenant_id = caller.tenant_id and c.environment = caller.environment
        and c.rail = record_credentials_test.rail
    returning c.* into stored;
    if not found then
        perform public.refuse('40401', format('No %s credentials in %s.', record_credentials_test.rail, caller.environment));
    end if;
    return row(200, rails.credentials_resource(stored), caller.rate);
end
$$;
comment on function rails.record_credentials_test is 'Notes that the rail accepted the credentials just now.';

create function rails.delete_credentials(rail text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
begin
    if exists (
        select from payments.transfers as t
        inner join rails.watches as w on w.transfer_id = t.transfer_id
        where
            t.tenant_id = caller.tenant_id and t.environment = caller.environment
            and t.rail = delete_credentials.rail and w.due_at < 'infinity'
    ) then
        perform public.refuse('40911', format(
            'Payments are open on %s: their outcome can only be asked for with these credentials.', delete_credentials.rail
        ));
    end if;
    delete from rails.credentials as c
    where
        c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.rail = delete_credentials.rail;
    if not found then
        perform public.refuse('40401', format('No %s credentials in %s.', delete_credentials.rail, caller.environment));
    end if;
    perform public.audit(caller, 'credentials.deleted', delete_credentials.rail, '{}');
    return row(200, json_build_object('object', 'rail_credentials', 'rail', delete_credentials.rail, 'deleted', true)::text, caller.rate);
end
$$;
comment on function rails.delete_credentials is 'Deletes one rail''s credentials; 40911 while a payment is open on it.';

create function rails.claim_reseal(below_version integer, max_rows integer)
returns setof jsonb
language sql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
    select jsonb_build_object(
        'tenant_id', c.tenant_id, 'environment', c.environment, 'rail', c.rail, 'sealed', c.sealed,
        'revision', c.revision
    )
    from rails.credentials as c
    where c.key_version < claim_reseal.below_version
    order by c.key_version, c.tenant_id
    limit claim_reseal.max_rows;
$$;
comment on function rails.claim_reseal is 'Credentials sealed under a master key older than the given version.';

create function rails.poke_reseal()
returns boolean
language plpgsql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
begin
    -- Which master key is current only the function knows; it answers in one call when nothing is old.
    if not exists (select from rails.credentials) then
        return false;
    end if;
    perform public.poke('merchants/reseal');
    return true;
end
$$;
comment on function rails.poke_reseal is 'Wakes the merchants function to seal credentials again that are under an older master key. A cron task.';

create function rails.record_reseal(
    tenant_id text, environment text, rail text, revision integer, sealed text, key_version integer
)
returns boolean
language sql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
    with changed as (
        -- The revision guards against credentials that were replaced meanwhile.
        update rails.credentials as c
        set sealed = record_reseal.sealed, key_version = record_reseal.key_version, updated_at = now()
        where
            c.tenant_id = record_reseal.tenant_id and c.environment = record_reseal.environment
            and c.rail = record_reseal.rail and c.revision = record_reseal.revision
        returning 1
    )
    select exists (select from changed);
$$;
comment on function rails.record_reseal is 'Stores the same credentials under a newer master key; false when they were replaced meanwhile.';

reset role;
