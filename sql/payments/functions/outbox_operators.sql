-- What people see of deliveries, and what they decide about those that do not pass.

set role stalela_owner;

create function payments.delivery_resource(delivery payments.outbox_exceptions)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', delivery.outbox_id,
        'object', 'delivery',
        'destination', delivery.destination,
        'state', delivery.state,
        'event_id', delivery.event_id,
        'event_type', delivery.event_type,
        'subject', delivery.ordering_key,
        'seq', delivery.seq,
        'attempts', delivery.attempts,
        'next_attempt_at', case when delivery.state = 'retry' then delivery.next_attempt_at end,
        'last_error', delivery.last_error,
        'tenant_id', delivery.tenant_id,
        'environment', delivery.environment,
        'created_at', delivery.created_at
    );
end
$$;
comment on function payments.delivery_resource is 'A delivery as people see it.';

create function payments.delivery_by_id(outbox_id bigint)
returns payments.outbox_exceptions
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    delivery payments.outbox_exceptions;
    cursor payments.outbox_cursors;
    logged payments.outbox;
begin
    select e.* into delivery
    from payments.outbox_exceptions as e
    where e.destination = any(array(select d.destination from public.destinations as d))
        and e.outbox_id = delivery_by_id.outbox_id;
    if found then
        -- Taken and committed: it is over, only not swept up yet.
        delivery.state := case delivery.state when 'taken' then 'delivered' else delivery.state end;
        return delivery;
    end if;
    select o.* into logged
    from payments.outbox as o
    where o.destination = any(array(select d.destination from public.destinations as d))
        and o.outbox_id = delivery_by_id.outbox_id;
    if not found then
        return null;
    end if;
    select c.* into cursor from payments.outbox_cursors as c where c.destination = logged.destination;
    delivery := jsonb_populate_record(delivery, to_jsonb(logged));
    delivery.attempts := 0;
    delivery.state := case
        when exists (
            select from payments.outbox_leases as l
            where l.destination = logged.destination and logged.outbox_id = any(l.outbox_ids)
        ) then 'leased'
        when pg_visible_in_snapshot(logged.xid, cursor.seen) then 'delivered'
        when logged.outbox_id <= cursor.position and pg_visible_in_snapshot(logged.xid, cursor.window_end)
            then 'delivered'
        else 'pending'
    end;
    return delivery;
end
$$;
comment on function payments.delivery_by_id is
'A delivery wherever it stands: an exception, or a row of the log that is pending, leased or delivered. Null when there is none.';

create function payments.list_deliveries(
    destination text, state text, older_than_s integer, after_id bigint, page_size integer
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('deliveries:read', 'read');
    sees_all boolean := public.holds_scope(caller.scopes, 'platform:operate');
    body text;
    oldest timestamptz;
begin
    select string_agg(payments.delivery_resource(e)::text, ',' order by e.outbox_id) into body
    from (
        select e.*
        from payments.outbox_exceptions as e
        where
            (sees_all or (e.tenant_id = caller.tenant_id and e.environment = caller.environment))
            and e.state <> 'taken'
            and (list_deliveries.destination is null or e.destination = list_deliveries.destination)
            and (list_deliveries.state is null or e.state = list_deliveries.state)
            and e.created_at <= now() - make_interval(secs => list_deliveries.older_than_s)
            and e.outbox_id > list_deliveries.after_id
        order by e.outbox_id
        limit list_deliveries.page_size
    ) as e;
    select min(e.created_at) into oldest
    from payments.outbox_exceptions as e
    where
        (sees_all or (e.tenant_id = caller.tenant_id and e.environment = caller.environment))
        and e.state <> 'taken'
        and (list_deliveries.destination is null or e.destination = list_deliveries.destination);
    return row(200, format(
        '{"object":"list","oldest_age_s":%s,"data":[%s]}',
        coalesce(extract(epoch from now() - oldest)::bigint::text, 'null'), body
    ), caller.rate);
end
$$;
comment on function payments.list_deliveries is
'Deliveries that have not passed, oldest first: a tenant''s own, or everybody''s for operators. oldest_age_s: since when the oldest of them is not where it should be.';

create function payments.list_destinations()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read destinations
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('platform:operate', 'read');
    body text;
begin
    select string_agg(row_to_json(s)::text, ',' order by s.destination) into body
    from (
        select
            d.destination, 'destination' as object, d.function_name as function, d.kind, d.enabled,
            extract(epoch from clock_timestamp() - payments.oldest_due(d.destination))::bigint as oldest_due_age_s,
            count(e.outbox_id) filter (where e.state = 'retry') as retrying,
            count(e.outbox_id) filter (where e.state = 'waiting') as waiting,
            count(e.outbox_id) filter (where e.state = 'dead') as dead,
            (
                select coalesce(sum(cardinality(l.outbox_ids)), 0)
                from payments.outbox_leases as l
                where l.destination = d.destination
            ) as leased
        from public.destinations as d
        left join payments.outbox_exceptions as e on e.destination = d.destination
        group by d.destination
    ) as s;
    return row(200, format('{"object":"list","data":[%s]}', body), caller.rate);
end
$$;
comment on function payments.list_destinations is
'Every destination with what has not passed and the age of what is due there longest; null when nothing is. For operators.';

create function payments.get_delivery(outbox_id bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('deliveries:read', 'read');
begin
    return public.reply(
        caller, 200, payments.delivery_resource(payments.visible_delivery(caller, get_delivery.outbox_id))
    );
end
$$;
comment on function payments.get_delivery is 'One delivery; 40401 for anybody else''s.';

create function payments.visible_delivery(caller public.caller, outbox_id bigint)
returns payments.outbox_exceptions
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
declare
    delivery payments.outbox_exceptions := payments.delivery_by_id(visible_delivery.outbox_id);
begin
    if delivery.outbox_id is null or not (
        public.holds_scope(caller.scopes, 'platform:operate')
        or (delivery.tenant_id = caller.tenant_id and delivery.environment = caller.environment)
    ) then
        perform public.refuse('40401', format('There is no delivery %s here.', outbox_id));
    end if;
    return delivery;
end
$$;
comment on function payments.visible_delivery is 'A delivery that this caller may see; 40401 otherwise.';

create function payments.redrive_delivery(outbox_id bigint, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('deliveries:manage', 'write');
    delivery payments.outbox_exceptions;
begin
    delivery := payments.decide_delivery(caller, redrive_delivery.outbox_id, 'delivery.redrive', reason);
    update payments.outbox_exceptions as e
    set state = 'retry', attempts = 0, next_attempt_at = clock_timestamp(), changed_at = clock_timestamp()
    where e.destination = delivery.destination and e.outbox_id = delivery.outbox_id
    returning e.* into strict delivery;
    perform public.resolve_alert('delivery_dead', delivery.destination || '/' || delivery.event_id, 're-driven');
    perform public.resolve_alert('delivery_stalled', delivery.destination || '/' || delivery.event_id, 're-driven');
    perform public.poke_all(array(
        select d.function_name from public.destinations as d where d.destination = delivery.destination
    ), interval '200 milliseconds');
    return public.reply(caller, 200, payments.delivery_resource(delivery));
end
$$;
comment on function payments.redrive_delivery is
'Tries a failing or dead delivery again now, with all its attempts before it; audited with the reason. 40911 for one that is neither.';

create function payments.skip_delivery(outbox_id bigint, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('deliveries:manage', 'write');
    delivery payments.outbox_exceptions;
begin
    delivery := payments.decide_delivery(caller, skip_delivery.outbox_id, 'delivery.skip', reason);
    perform payments.close_exceptions(delivery.destination, array[delivery.outbox_id], 'skipped');
    perform public.poke_all(array(
        select d.function_name from public.destinations as d where d.destination = delivery.destination
    ), interval '200 milliseconds');
    delivery.state := 'skipped';
    return public.reply(caller, 200, payments.delivery_resource(delivery));
end
$$;
comment on function payments.skip_delivery is
'Gives a failing or dead delivery up, so that what waits behind it goes on; audited with the reason. 40911 for one that is neither.';

create function payments.decide_delivery(caller public.caller, outbox_id bigint, action text, reason text)
returns payments.outbox_exceptions
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    delivery payments.outbox_exceptions := payments.visible_delivery(caller, decide_delivery.outbox_id);
    subject public.caller := caller;
begin
    -- Its consumer may have it in hand: then that is decided first.
    perform from payments.outbox_cursors as c where c.destination = delivery.destination for update;
    perform from payments.outbox_exceptions as e
    where
        e.destination = delivery.destination and e.outbox_id = delivery.outbox_id and e.state in ('retry', 'dead')
    for update;
    if not found then
        delivery := payments.visible_delivery(caller, decide_delivery.outbox_id);
        perform public.refuse(
            '40911', format('A delivery that is %s takes no decision.', delivery.state),
            jsonb_build_object('current_state', delivery.state, 'allowed', '[]'::jsonb)
        );
    end if;
    -- Their record, for them to read, whoever decided.
    subject.tenant_id := delivery.tenant_id;
    subject.environment := delivery.environment;
    perform public.audit(subject, action, delivery.destination || '/' || delivery.event_id, jsonb_build_object(
        'outbox_id', delivery.outbox_id, 'event_type', delivery.event_type, 'ordering_key', delivery.ordering_key,
        'was', delivery.state, 'attempts', delivery.attempts, 'last_error', delivery.last_error, 'reason', reason
    ));
    return delivery;
end
$$;
comment on function payments.decide_delivery is
'The delivery a person decides about, with its consumer held off until the decision commits; in the audit log with reason, attempts and last error.';

create function payments.oldest_due(destination text)
returns timestamptz
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
begin
    select c.* into cursor from payments.outbox_cursors as c where c.destination = oldest_due.destination;
    return least(
        (
            select o.created_at
            from payments.outbox as o
            where
                o.destination = oldest_due.destination
                and o.outbox_id > greatest(cursor.position, coalesce(cursor.seen_id, 0))
                and not pg_visible_in_snapshot(o.xid, coalesce(cursor.seen, '1:1:'::pg_snapshot))
            order by o.outbox_id
            limit 1
        ),
        (
            select min(e.next_attempt_at)
            from payments.outbox_exceptions as e
            where
                e.destination = oldest_due.destination and e.state = 'retry'
                and e.next_attempt_at <= clock_timestamp()
        ),
        (
            select min(l.lease_until)
            from payments.outbox_leases as l
            where l.destination = oldest_due.destination and l.lease_until <= clock_timestamp()
        )
    );
end
$$;
comment on function payments.oldest_due is 'Since when something is due at this destination and nobody did it; null when nothing is.';

create function payments.watch_outbox()
returns integer
language plpgsql
volatile
security definer -- cron may not read destinations
set search_path = ''
as $$
declare
    tolerated interval := make_interval(secs => (public.setting('outbox.lag_alert_s'))::integer);
    watched record;
    lagging integer := 0;
begin
    for watched in
        select d.destination, clock_timestamp() - payments.oldest_due(d.destination) as age
        from public.destinations as d
        where d.enabled
        order by d.destination
    loop
        if watched.age > tolerated then
            lagging := lagging + 1;
            perform public.raise_alert(
                'outbox_lagging', 'warning', watched.destination, null, null,
                jsonb_build_object('oldest_due_age_s', extract(epoch from watched.age)::bigint)
            );
        else
            perform public.resolve_alert('outbox_lagging', watched.destination, 'caught up');
        end if;
    end loop;
    return lagging;
end
$$;
comment on function payments.watch_outbox is
'Alerts about destinations where something has been due for longer than the setting outbox.lag_alert_s, and closes the alert when they have caught up. Returns how many lag. A cron task.';

reset role;
