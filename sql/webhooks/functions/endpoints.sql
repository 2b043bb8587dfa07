-- Webhook endpoints as merchants keep them. The function makes and seals the secret; SQL never sees one.

set role stalela_owner;

create function webhooks.endpoint_resource(endpoint webhooks.endpoints)
returns json
language plpgsql
stable
security definer -- callers may not read health
set search_path = ''
as $$
begin
    return (
        select row_to_json(shown)
        from (
            select
                endpoint.endpoint_id as id, 'webhook_endpoint' as object, endpoint.url, endpoint.event_types,
                endpoint.description, endpoint.status, endpoint.disabled_reason, endpoint.disabled_at,
                case when h.open_until > now() then h.open_until end as paused_until, h.failing_since,
                case when endpoint.former_until > now() then endpoint.former_until end as former_secret_until,
                endpoint.environment, endpoint.created_by, endpoint.created_at, endpoint.updated_at
            from webhooks.endpoint_health as h
            where h.endpoint_id = endpoint.endpoint_id
        ) as shown
    );
end
$$;
comment on function webhooks.endpoint_resource is 'The wire shape of an endpoint, without its secret.';

create function webhooks.check_filters(filters text[])
returns void
language plpgsql
stable
security definer -- callers may not read event types
set search_path = ''
as $$
declare
    place integer;
    wanted text;
begin
    if coalesce(cardinality(filters), 0) not between 1 and 50 then
        perform public.refuse_field('42262', '/event_types', 'must have 1 to 50 event types; * is all of them.');
    end if;
    for place, wanted in select (f.place - 1)::integer, f.filter from unnest(filters) with ordinality as f (filter, place) loop
        if
            wanted <> '*'
            and not exists (select from webhooks.event_types as k where k.type = wanted)
            -- A family may be announced before its first type.
            and not exists (
                select from public.event_subscriptions as s
                where s.destination = 'webhooks' and s.pattern = regexp_replace(wanted, '\.\*$', '.%')
            )
        then
            perform public.refuse_field(
                '42262', '/event_types/' || place, format('there is no event type %s; events.json lists them.', wanted)
            );
        end if;
    end loop;
end
$$;
comment on function webhooks.check_filters is 'A filter is a type that exists, a family of types as payment_intent.*, or *; 42262 names the one that is not.';

create function webhooks.visible_endpoint(endpoint_id text, scope text, bucket text)
returns webhooks.sight
language plpgsql
volatile
security definer -- callers may not read endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize(scope, bucket);
    endpoint webhooks.endpoints;
begin
    -- The lock keeps two changes of one endpoint, and the dispatcher's verdict on it, one after the other.
    if bucket = 'manage' then
        perform webhooks.lock_endpoints(array[visible_endpoint.endpoint_id]);
    end if;
    select e.* into endpoint
    from webhooks.endpoints as e
    where
        e.endpoint_id = visible_endpoint.endpoint_id and e.tenant_id = caller.tenant_id
        and e.environment = caller.environment and e.status <> 'deleted';
    if not found then
        perform public.refuse('40401', format('There is no webhook endpoint %s here.', visible_endpoint.endpoint_id));
    end if;
    return row(caller, endpoint);
end
$$;
comment on function webhooks.visible_endpoint is
'The caller and their endpoint, locked when it is to be managed; 40401 for anybody else''s.';

create function webhooks.create_endpoint(
    idempotency_key text, body_hash text, endpoint_id text, url text, event_types text[], description text,
    secret_sealed text, key_version integer
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    route constant text := 'POST /webhook-endpoints';
    caller public.caller := public.authorize('webhooks:write', 'manage');
    answer public.answer := public.claim_idempotency(
        caller, route, create_endpoint.idempotency_key, create_endpoint.body_hash
    );
    made webhooks.endpoints;
begin
    if answer.body is not null then
        return answer;
    end if;
    perform webhooks.check_filters(create_endpoint.event_types);
    -- Two who count at once would both find room.
    perform pg_advisory_xact_lock(hashtext('webhooks.endpoints'), hashtext(caller.tenant_id));
    if (
        select count(*) >= public.setting('webhooks.endpoints_max')::bigint
        from webhooks.endpoints as e
        where e.tenant_id = caller.tenant_id and e.environment = caller.environment and e.status <> 'deleted'
    ) then
        perform public.refuse('42254', format(
            'There are %s webhook endpoints already: delete one you do not use.', public.setting('webhooks.endpoints_max')
        ));
    end if;
    insert into webhooks.endpoints (
        endpoint_id, tenant_id, environment, url, event_types, description, secret_sealed, key_version, created_by
    ) values (
        create_endpoint.endpoint_id, caller.tenant_id, caller.environment, create_endpoint.url,
        create_endpoint.event_types, create_endpoint.description, create_endpoint.secret_sealed,
        create_endpoint.key_version, caller.actor
    )
    returning * into made;
    insert into webhooks.endpoint_health (endpoint_id, tenant_id, environment)
    values (made.endpoint_id, made.tenant_id, made.environment);
    perform public.audit(caller, 'webhook_endpoint.create', made.endpoint_id, jsonb_build_object('url', made.url));
    answer := public.reply(caller, 201, webhooks.endpoint_resource(made));
    perform public.remember_answer(caller, route, create_endpoint.idempotency_key, made.endpoint_id, answer);
    return answer;
end
$$;
comment on function webhooks.create_endpoint is
'An endpoint under the id its secret was sealed for. The stored answer has no secret: a replay never shows it again. 201; 42254 when there are too many.';

create function webhooks.list_endpoints()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read endpoints
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('webhooks:read', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', array(
        select webhooks.endpoint_resource(e)
        from webhooks.endpoints as e
        where e.tenant_id = caller.tenant_id and e.environment = caller.environment and e.status <> 'deleted'
        order by e.created_at
        limit 500
    )));
end
$$;
comment on function webhooks.list_endpoints is 'The endpoints of the caller''s environment, oldest first.';

create function webhooks.get_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read endpoints
set search_path = ''
as $$
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:read', 'read');
begin
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(seen.endpoint));
end
$$;
comment on function webhooks.get_endpoint is 'One endpoint of the caller.';

create function webhooks.update_endpoint(endpoint_id text, patch jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    filters text[] := array(select jsonb_array_elements_text(coalesce(patch -> 'event_types', '[]')));
    changed webhooks.endpoints;
begin
    if patch ? 'event_types' then
        perform webhooks.check_filters(filters);
    end if;
    update webhooks.endpoints as e
    set
        url = coalesce(patch ->> 'url', e.url),
        event_types = case when patch ? 'event_types' then filters else e.event_types end,
        description = case when patch ? 'description' then patch ->> 'description' else e.description end,
        updated_at = now()
    where e.endpoint_id = update_endpoint.endpoint_id
    returning e.* into changed;
    perform public.audit(
        seen.caller, 'webhook_endpoint.update', changed.endpoint_id,
        jsonb_build_object('url', changed.url, 'event_types', changed.event_types)
    );
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
end
$$;
comment on function webhooks.update_endpoint is 'Changes url, event_types or description; what is queued already goes to the new url.';

create function webhooks.rotate_secret(
    idempotency_key text, body_hash text, endpoint_id text, secret_sealed text, key_version integer
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    route constant text := 'POST /webhook-endpoints/{id}/rotate-secret';
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    answer public.answer := public.claim_idempotency(
        seen.caller, route, rotate_secret.idempotency_key, rotate_secret.body_hash || ':' || rotate_secret.endpoint_id
    );
    changed webhooks.endpoints;
begin
    if answer.body is not null then
        return answer;
    end if;
    update webhooks.endpoints as e
    set
        former_secret_sealed = e.secret_sealed, former_key_version = e.key_version,
        former_until = now() + make_interval(secs => public.setting('webhooks.overlap_s')::double precision),
        secret_sealed = rotate_secret.secret_sealed, key_version = rotate_secret.key_version,
        revision = e.revision + 1, updated_at = now()
    where e.endpoint_id = rotate_secret.endpoint_id
    returning e.* into changed;
    perform public.audit(seen.caller, 'webhook_endpoint.rotate_secret', changed.endpoint_id, '{}');
    answer := public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
    perform public.remember_answer(
        seen.caller, route, rotate_secret.idempotency_key, changed.endpoint_id, answer
    );
    return answer;
end
$$;
comment on function webhooks.rotate_secret is 'A new secret signs from now on, the former one beside it for 24 hours; one that was rotated out before ends now.';

create function webhooks.enable_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    changed webhooks.endpoints := seen.endpoint;
begin
    if changed.status = 'disabled' then
        update webhooks.endpoints as e
        set status = 'enabled', disabled_reason = null, disabled_at = null, updated_at = now()
        where e.endpoint_id = enable_endpoint.endpoint_id
        returning e.* into changed;
        update webhooks.endpoint_health as h
        set failures = 0, failing_since = null, openings = 0, open_until = null
        where h.endpoint_id = enable_endpoint.endpoint_id;
        perform public.resolve_alert('webhook_endpoint_disabled', changed.endpoint_id, 'enabled again');
        perform public.audit(seen.caller, 'webhook_endpoint.enable', changed.endpoint_id, '{}');
    end if;
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
end
$$;
comment on function webhooks.enable_endpoint is 'Sends to a disabled endpoint again, from the next event on; what it missed comes with a replay. Repeatable.';

create function webhooks.disable_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    changed webhooks.endpoints;
begin
    perform webhooks.disable(disable_endpoint.endpoint_id, 'requested');
    select e.* into changed from webhooks.endpoints as e where e.endpoint_id = disable_endpoint.endpoint_id;
    perform public.audit(seen.caller, 'webhook_endpoint.disable', changed.endpoint_id, '{}');
    return public.reply(seen.caller, 200, webhooks.endpoint_resource(changed));
end
$$;
comment on function webhooks.disable_endpoint is 'Sends nothing more to it; events it misses are on record. Repeatable.';

create function webhooks.delete_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
begin
    update webhooks.endpoints as e
    set
        status = 'deleted', disabled_reason = null, disabled_at = null, secret_sealed = '', former_secret_sealed = null,
        former_key_version = null, former_until = null, updated_at = now()
    where e.endpoint_id = delete_endpoint.endpoint_id;
    perform webhooks.drop_queue(delete_endpoint.endpoint_id);
    perform public.resolve_alert('webhook_endpoint_disabled', delete_endpoint.endpoint_id, 'deleted');
    perform public.audit(seen.caller, 'webhook_endpoint.delete', delete_endpoint.endpoint_id, '{}');
    return public.reply(seen.caller, 200, json_build_object(
        'id', delete_endpoint.endpoint_id, 'object', 'webhook_endpoint', 'deleted', true
    ));
end
$$;
comment on function webhooks.delete_endpoint is 'Ends an endpoint and forgets its secrets; the log of its deliveries stays with us.';

create function webhooks.test_endpoint(endpoint_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    endpoint webhooks.endpoints := seen.endpoint;
    caller public.caller := seen.caller;
    made_id text := public.new_id('evt');
    type constant text := 'webhook_endpoint.test';
begin
    if endpoint.status <> 'enabled' then
        perform public.refuse(
            '40911', 'This endpoint is disabled: enable it first.',
            '{"current_state": "disabled", "allowed": ["enable"]}'
        );
    end if;
    perform webhooks.enqueue(array[row(
        made_id, caller.tenant_id, caller.environment, type, endpoint.endpoint_id,
        webhooks.payload(
            made_id, type, (select k.api_version from webhooks.event_types as k where k.type = 'webhook_endpoint.test'),
            caller.environment, now(), endpoint.endpoint_id, 0, '{}'
        ), now()
    )::webhooks.messages], endpoint.endpoint_id);
    perform public.poke('webhook_delivery');
    return public.reply(caller, 202, webhooks.delivery_resource((
        select d from webhooks.deliveries as d where d.endpoint_id = endpoint.endpoint_id and d.event_id = made_id
    )));
end
$$;
comment on function webhooks.test_endpoint is 'Queues an event of type webhook_endpoint.test for this endpoint, whatever its filters. 202 with the delivery.';

create function webhooks.claim_reseal(below_version integer, after_id text, max_rows integer)
returns setof jsonb
language plpgsql
stable
security definer -- callers may not read endpoints
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'endpoint_id', e.endpoint_id, 'revision', e.revision, 'secret_sealed', e.secret_sealed,
        'former_secret_sealed', e.former_secret_sealed
    )
    from webhooks.endpoints as e
    where
        e.status <> 'deleted' and e.endpoint_id > claim_reseal.after_id
        and least(e.key_version, e.former_key_version) < claim_reseal.below_version
    order by e.endpoint_id
    limit claim_reseal.max_rows;
end
$$;
comment on function webhooks.claim_reseal is
'Endpoints after this one with a secret sealed under a master key older than the given version.';

create function webhooks.record_reseal(
    endpoint_id text, revision integer, secret_sealed text, former_secret_sealed text, key_version integer
)
returns boolean
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- The revision guards against a rotation meanwhile.
    update webhooks.endpoints as e
    set
        secret_sealed = record_reseal.secret_sealed, key_version = record_reseal.key_version,
        former_secret_sealed = record_reseal.former_secret_sealed,
        former_key_version = case when e.former_secret_sealed is not null then record_reseal.key_version end
    where
        e.endpoint_id = record_reseal.endpoint_id and e.revision = record_reseal.revision and e.status <> 'deleted';
    return found;
end
$$;
comment on function webhooks.record_reseal is 'Stores the same secrets under a newer master key; false when they were rotated meanwhile.';

create function webhooks.poke_reseal()
returns boolean
language plpgsql
volatile
security definer -- callers may not read endpoints
set search_path = ''
as $$
begin
    -- Which master key is current only the function knows; it answers in one call when nothing is old.
    if not exists (select from webhooks.endpoints as e where e.status <> 'deleted') then
        return false;
    end if;
    perform public.poke('webhook_endpoints/reseal');
    return true;
end
$$;
comment on function webhooks.poke_reseal is 'Wakes webhook_endpoints to seal secrets again that are under an older master key. A cron task.';

reset role;
