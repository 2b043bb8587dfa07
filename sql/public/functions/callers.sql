-- Who is calling, and may they.

set role stalela_owner;

create function public.caller()
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys and memberships
set search_path = ''
as $$
declare
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    person record;
begin
    if headers ? 'x-stalela-key-hash' then
        return public.caller_by_key(headers ->> 'x-stalela-key-hash');
    elsif headers ? 'x-stalela-client-secret-hash' then
        perform public.refuse('40101', 'A client secret is used together with a publishable key.');
    end if;
    person := public.signed_in_user();
    if not headers ? 'x-stalela-tenant-id' then
        perform public.refuse('40302', 'You do not belong to an organisation yet, or your token is older than it.');
    end if;
    return public.caller_by_user(
        person.user_id, headers ->> 'x-stalela-tenant-id', coalesce(headers ->> 'x-stalela-environment', 'sandbox')
    );
end
$$;
comment on function public.caller is
'Resolves the API key or the signed-in person of this request, in the transaction of the work. 40101 nobody, 40102 key revoked or expired, 40302 tenant may not. Not for read-only transactions: it notes when a key was used.';

create function public.caller_by_key(key_hash text)
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys
set search_path = ''
as $$
declare
    found_key record;
begin
    select k.key_id, k.tenant_id, k.environment, k.scopes, k.last_used_at,
        k.status = 'active' and (k.expires_at is null or k.expires_at > now()) as is_valid,
        t.status as tenant_status
    into found_key
    from public.api_keys as k
    join public.tenants as t on t.tenant_id = k.tenant_id
    where k.key_hash = caller_by_key.key_hash;
    if not found then
        perform public.refuse('40101', 'This API key does not exist.');
    elsif not found_key.is_valid then
        perform public.refuse('40102', 'This API key was revoked or has expired.');
    end if;
    perform public.check_tenant(found_key.tenant_status, found_key.environment);

    if found_key.last_used_at is null or found_key.last_used_at < now() - interval '1 minute' then
        -- Whoever comes second in that minute skips the row instead of waiting for it.
        update public.api_keys as k
        set last_used_at = now()
        where k.key_id = any(array(
            select j.key_id from public.api_keys as j where j.key_id = found_key.key_id for no key update skip locked
        ));
    end if;
    return row(
        found_key.tenant_id, found_key.environment, found_key.key_id, found_key.scopes, found_key.key_id,
        null, null, '{}'
    )::public.caller;
end
$$;
comment on function public.caller_by_key is 'The caller behind the SHA-256 of an API key.';

create function public.caller_by_user(user_id uuid, tenant_id text, environment text)
returns public.caller
language plpgsql
stable
security definer -- functions may not read memberships
set search_path = ''
as $$
declare
    membership record;
begin
    if environment not in ('sandbox', 'production') then
        perform public.refuse('40001', 'x-stalela-environment is sandbox or production.');
    end if;
    -- A token is a snapshot: that the person still belongs to the tenant, and as what, is read here.
    select m.app_role, t.status as tenant_status,
        array(select r.scope from public.role_scopes as r where r.app_role = m.app_role) as scopes
    into membership
    from public.memberships as m
    join public.tenants as t on t.tenant_id = m.tenant_id
    where
        m.tenant_id = caller_by_user.tenant_id
        and m.user_id = caller_by_user.user_id
        and m.status = 'active';
    if not found then
        perform public.refuse('40302', 'You do not belong to this organisation.');
    end if;
    perform public.check_tenant(membership.tenant_status, environment);
    return row(
        tenant_id, environment, 'user:' || user_id, membership.scopes, null, user_id, membership.app_role, '{}'
    )::public.caller;
end
$$;
comment on function public.caller_by_user is 'The caller behind a verified person, with the scopes of the role they have now.';

create function public.signed_in_user(out user_id uuid, out email text)
language plpgsql
stable
security definer -- functions may not read function_roles
set search_path = ''
as $$
declare
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
begin
    -- The role of the request, which security definer does not change.
    perform from public.function_roles as f
    where f.db_role = current_setting('role') and f.may_pass_user;
    if not found or not headers ? 'x-stalela-user-id' then
        perform public.refuse('40101', 'Send an API key or an access token as Authorization: Bearer.');
    end if;
    user_id := (headers ->> 'x-stalela-user-id')::uuid;
    email := lower(headers ->> 'x-stalela-user-email');
end
$$;
comment on function public.signed_in_user is
'The person whose token the calling function verified; 40101 when there is none or when this function''s role may not pass one.';

create function public.check_tenant(status text, environment text)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
    if status in ('suspended', 'closed') then
        perform public.refuse('40302', format('This organisation is %s.', status));
    elsif status = 'pending' and environment = 'production' then
        perform public.refuse('40302', 'This organisation is not active yet; use the sandbox environment.');
    end if;
end
$$;
comment on function public.check_tenant is 'Refuses with 40302 a tenant that may not work in this environment.';

create function public.holds_scope(held text[], wanted text)
returns boolean
language plpgsql
stable
security definer -- callers may not read scopes
set search_path = ''
as $$
begin
    -- Platform scopes are ours alone: no tenant's asterisk reaches them.
    if wanted = any(held) or ('*' = any(held) and wanted not like 'platform:%') then
        return true;
    end if;
    return exists (select from public.scopes as s where s.scope = wanted and s.included_in = any(held));
end
$$;
comment on function public.holds_scope is 'Whether these scopes allow that one: by name, through * or because one of them includes it.';

create function public.authorize(scope text, bucket text)
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys and limits
set search_path = ''
as $$
declare
    caller public.caller := public.caller();
begin
    if not public.holds_scope(caller.scopes, scope) then
        perform public.refuse('40311', format('This needs the scope %s.', scope));
    end if;
    caller.rate := public.take_token(caller, bucket);
    return caller;
end
$$;
comment on function public.authorize is
'The first line of everything a caller may ask for: who, whether they hold the scope (40311 names it), and one token of their bucket (42901).';

create function public.staff()
returns public.caller
language plpgsql
volatile
security definer -- functions may not read keys and memberships
set search_path = ''
as $$
declare
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    ourselves public.caller;
begin
    if headers ? 'x-stalela-user-id' or headers ? 'x-stalela-key-hash' then
        return public.authorize('platform:operate', 'manage');
    end if;
    -- The function on its own behalf: it has checked the platform's own token.
    ourselves.actor := 'system';
    ourselves.rate := '{}';
    return ourselves;
end
$$;
comment on function public.staff is 'An operator of the platform, or the platform itself; everybody else is refused with 40311.';

reset role;
