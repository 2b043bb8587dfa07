-- API keys. The function makes the secret and keeps it to itself: SQL sees its SHA-256 and its last four characters.

set role stalela_owner;

create function public.api_key_resource(api_key public.api_keys)
returns json
language sql
stable
set search_path = ''
as $$
    select row_to_json(shown)
    from (
        select
            api_key.key_id as id, 'api_key' as object, api_key.kind, api_key.name, api_key.environment,
            api_key.scopes, api_key.last4,
            case
                when api_key.status = 'active' and api_key.expires_at <= now() then 'expired' else api_key.status
            end as status,
            api_key.created_by, api_key.rotated_from, api_key.created_at, api_key.expires_at, api_key.last_used_at
    ) as shown;
$$;
comment on function public.api_key_resource is 'The wire shape of an API key, without its secret.';

create function public.check_key_scopes(caller public.caller, kind text, scopes text[])
returns void
language plpgsql
stable
security definer -- callers may not read scopes
set search_path = ''
as $$
declare
    place integer;
    wanted text;
begin
    if coalesce(cardinality(scopes), 0) not between 1 and 50 then
        perform public.refuse_field('42262', '/scopes', 'must have 1 to 50 scopes.');
    end if;
    for place, wanted in select (s.place - 1)::integer, s.scope from unnest(scopes) with ordinality as s (scope, place) loop
        perform from public.scopes as s
        where s.scope = wanted and check_key_scopes.kind = any(s.key_kinds);
        if not found then
            perform public.refuse_field(
                '42262', '/scopes/' || place, format('a %s key cannot have the scope %s.', kind, wanted)
            );
        elsif not public.holds_scope(caller.scopes, wanted) then
            perform public.refuse(
                '40311', format('You cannot give the scope %s, because you do not hold it yourself.', wanted)
            );
        end if;
    end loop;
end
$$;
comment on function public.check_key_scopes is
'A key has only scopes of its kind (42262) and none that its creator does not hold (40311).';

create function public.check_key_environment(caller public.caller, environment text)
returns void
language plpgsql
stable
security definer -- callers may not read tenants and keys
set search_path = ''
as $$
begin
    if environment not in ('sandbox', 'production') then
        perform public.refuse_field('42262', '/environment', 'must be sandbox or production.');
    elsif caller.key_id is not null and environment <> caller.environment then
        perform public.refuse('40312', 'A key makes keys of its own environment only.');
    end if;
    perform public.check_tenant(
        (select t.status from public.tenants as t where t.tenant_id = caller.tenant_id), environment
    );
    if (
        select count(*) >= public.setting('api_keys.max_per_tenant')::bigint
        from public.api_keys as k
        where
            k.tenant_id = caller.tenant_id and k.environment = check_key_environment.environment
            and k.status = 'active' and (k.expires_at is null or k.expires_at > now())
    ) then
        perform public.refuse('42262', 'There are too many active API keys: revoke those you do not use.');
    end if;
end
$$;
comment on function public.check_key_environment is
'Whether the caller may make a key there: production only for an active tenant (40302), a key only in its own environment (40312), not too many (42262).';

create function public.create_api_key(
    idempotency_key text, body_hash text, name text, kind text, scopes text[], environment text,
    expires_in_s integer, key_hash text, last4 text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    route constant text := 'POST /merchants/api-keys';
    caller public.caller := public.authorize('api_keys:manage', 'manage');
    answer public.answer := public.claim_idempotency(caller, route, idempotency_key, body_hash);
    target text := coalesce(environment, caller.environment);
    wanted text[] := scopes;
    made public.api_keys;
begin
    if answer.body is not null then
        return answer;
    end if;
    if length(trim(name)) not between 1 and 100 or name is null then
        perform public.refuse_field('42262', '/name', 'must have 1 to 100 characters.');
    elsif kind not in ('secret', 'publishable') or kind is null then
        perform public.refuse_field('42262', '/kind', 'must be secret or publishable.');
    elsif expires_in_s not between 60 and 315360000 then
        perform public.refuse_field('42262', '/expires_in', 'must be between 60 seconds and 10 years.');
    elsif kind = 'publishable' and coalesce(cardinality(wanted), 0) = 0 then
        wanted := '{payments:confirm}';
    end if;
    perform public.check_key_environment(caller, target);
    perform public.check_key_scopes(caller, kind, wanted);

    insert into public.api_keys (
        key_id, tenant_id, environment, kind, name, key_hash, last4, scopes, created_by, expires_at
    ) values (
        public.new_id('key'), caller.tenant_id, target, create_api_key.kind, trim(create_api_key.name),
        create_api_key.key_hash, create_api_key.last4,
        array(select distinct w.scope from unnest(wanted) as w (scope) order by w.scope),
        caller.actor, now() + make_interval(secs => expires_in_s)
    )
    returning * into made;
    perform public.audit_key(caller, 'api_key.create', made);
    answer := public.reply(caller, 201, public.api_key_resource(made));
    perform public.remember_answer(caller, route, idempotency_key, made.key_id, answer);
    return answer;
end
$$;
comment on function public.create_api_key is
'Makes a key from the hash of a secret that only the function knows. The stored answer has no secret: a replay shows the key, never the secret again. 201.';

create function public.audit_key(caller public.caller, action text, api_key public.api_keys)
returns void
language plpgsql
volatile
security definer -- callers may not write the audit log
set search_path = ''
as $$
begin
    -- A person may work on a key of the other environment; the entry belongs where the key does.
    caller.environment := api_key.environment;
    perform public.audit(caller, action, api_key.key_id, jsonb_build_object(
        'kind', api_key.kind, 'name', api_key.name, 'scopes', api_key.scopes, 'expires_at', api_key.expires_at
    ));
end
$$;
comment on function public.audit_key is 'Records what was done to a key.';

create function public.list_api_keys()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read keys
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('api_keys:manage', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', array(
        select public.api_key_resource(k)
        from public.api_keys as k
        where k.tenant_id = caller.tenant_id and k.environment = caller.environment
        order by k.created_at desc, k.key_id desc
        limit 500
    )));
end
$$;
comment on function public.list_api_keys is 'The newest 500 keys of the caller''s environment, revoked ones too, without secrets.';

create function public.lock_api_key(caller public.caller, key_id text)
returns public.api_keys
language plpgsql
volatile
security definer -- callers may not lock keys
set search_path = ''
as $$
declare
    locked public.api_keys;
begin
    select k.* into locked
    from public.api_keys as k
    where
        k.key_id = lock_api_key.key_id
        and k.tenant_id = (lock_api_key.caller).tenant_id and k.environment = (lock_api_key.caller).environment
    for update;
    if not found then
        perform public.refuse('40401', format('There is no API key %s here.', lock_api_key.key_id));
    end if;
    return locked;
end
$$;
comment on function public.lock_api_key is 'The locked key, if it belongs to the caller''s tenant and environment; 40401 otherwise.';

create function public.rotate_api_key(
    idempotency_key text, body_hash text, key_id text, overlap_s integer, key_hash text, last4 text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    route constant text := 'POST /merchants/api-keys/{id}/rotate';
    caller public.caller := public.authorize('api_keys:manage', 'manage');
    answer public.answer := public.claim_idempotency(caller, route, idempotency_key, body_hash || ':' || key_id);
    former public.api_keys;
    made public.api_keys;
begin
    if answer.body is not null then
        return answer;
    elsif overlap_s not between 0 and 604800 then
        perform public.refuse_field('42262', '/overlap_s', 'must be between 0 seconds and 7 days.');
    end if;
    former := public.lock_api_key(caller, key_id);
    if former.status <> 'active' or former.expires_at <= now() then
        perform public.refuse(
            '40911', 'This key is revoked or expired: create a new one.',
            jsonb_build_object('current_state', public.api_key_resource(former) ->> 'status', 'allowed', '[]'::jsonb)
        );
    end if;
    perform from public.api_keys as k where k.rotated_from = former.key_id and k.status = 'active';
    if found then
        perform public.refuse(
            '40911', 'This key has a successor already: rotate that one.',
            '{"current_state": "rotated", "allowed": []}'
        );
    end if;
    perform public.check_key_scopes(caller, former.kind, former.scopes);

    insert into public.api_keys (
        key_id, tenant_id, environment, kind, name, key_hash, last4, scopes, created_by, rotated_from, expires_at
    ) values (
        public.new_id('key'), former.tenant_id, former.environment, former.kind, former.name,
        rotate_api_key.key_hash, rotate_api_key.last4, former.scopes, caller.actor, former.key_id,
        now() + (former.expires_at - former.created_at)
    )
    returning * into made;
    perform public.retire_api_key(former, coalesce(overlap_s, 0));
    perform public.audit_key(caller, 'api_key.rotate', made);
    answer := public.reply(caller, 201, public.api_key_resource(made));
    perform public.remember_answer(caller, route, idempotency_key, made.key_id, answer);
    return answer;
end
$$;
comment on function public.rotate_api_key is
'A successor with the same scopes and life span; the former key ends after overlap_s seconds (null or 0: now). 201 with the new key, 40911 for a key that has ended or has a successor.';

create function public.retire_api_key(api_key public.api_keys, after_s integer)
returns void
language sql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
    update public.api_keys as k
    set
        status = case when after_s = 0 then 'revoked' else k.status end,
        revoked_at = case when after_s = 0 then now() end,
        expires_at = case
            when after_s = 0 then k.expires_at
            else least(k.expires_at, now() + make_interval(secs => after_s))
        end
    where k.key_id = api_key.key_id and k.status = 'active';
$$;
comment on function public.retire_api_key is 'Ends an active key now (0) or after so many seconds, never later than it would have ended.';

create function public.revoke_api_key(key_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('api_keys:manage', 'manage');
    revoked public.api_keys := public.lock_api_key(caller, key_id);
begin
    if revoked.status = 'active' then
        perform public.retire_api_key(revoked, 0);
        select k.* into revoked from public.api_keys as k where k.key_id = revoked.key_id;
        perform public.audit_key(caller, 'api_key.revoke', revoked);
    end if;
    return public.reply(caller, 200, public.api_key_resource(revoked));
end
$$;
comment on function public.revoke_api_key is
'Ends a key for the next request already; repeatable. Anybody who manages keys may revoke any key, whatever its scopes.';

reset role;
