-- From the outbox to the queue: one delivery per event and endpoint that wants it.

set role stalela_owner;

create function webhooks.fan_out(max_rows integer)
returns integer
language plpgsql
volatile
security definer -- callers may not read the outbox or write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    taken payments.delivery[];
    made webhooks.messages[];
    bad record;
    -- What failed, and what came behind it in its stream: parked, and sent when its turn comes.
    held bigint[] := '{}'::bigint[];
begin
    select array_agg(d order by d.outbox_id) into taken from payments.take_events('webhooks', max_rows) as d;
    if taken is null then
        return 0;
    end if;
    for bad in
        select t.outbox_id, t.event_type
        from unnest(taken) as t
        where not exists (select from webhooks.event_types as k where k.type = t.event_type)
        order by t.outbox_id
    loop
        continue when bad.outbox_id = any(held);
        held := held || payments.fail_event(
            'webhooks', bad.outbox_id, format('%s has no payload schema', bad.event_type), true
        );
    end loop;

    select array_agg(
        row(
            t.event_id, t.tenant_id, t.environment, t.event_type, t.ordering_key,
            webhooks.payload(
                t.event_id, t.event_type, k.api_version, t.environment, t.occurred_at, t.ordering_key, t.seq, t.payload
            ), now()
        )::webhooks.messages
        order by t.outbox_id
    ) into made
    from unnest(taken) as t
    inner join webhooks.event_types as k on k.type = t.event_type
    where t.outbox_id <> all(held) and exists (
        select from webhooks.endpoints as e
        where
            e.tenant_id = t.tenant_id and e.environment = t.environment and e.status <> 'deleted'
            and webhooks.wants(e.event_types, t.event_type)
    );
    for bad in
        select t.outbox_id
        from unnest(taken) as t
        inner join unnest(made) as m on m.event_id = t.event_id
        where octet_length(m.payload) >= 20000
        order by t.outbox_id
    loop
        continue when bad.outbox_id = any(held);
        held := held || payments.fail_event('webhooks', bad.outbox_id, 'the payload has 20 kB or more', true);
    end loop;
    if held <> '{}' then
        made := array(
            select m
            from unnest(made) as m
            inner join unnest(taken) as t on t.event_id = m.event_id
            where t.outbox_id <> all(held)
            order by t.outbox_id
        );
    end if;
    if made is not null then
        perform webhooks.enqueue(made, null);
    end if;
    return cardinality(taken);
end
$$;
comment on function webhooks.fan_out is
'Takes a batch of events and queues one delivery per endpoint that wants it, in one transaction. What no merchant could read is parked for good. How many events it took.';

create function webhooks.enqueue(messages webhooks.messages[], only_endpoint text)
returns integer
language plpgsql
volatile
security definer -- callers may not write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    fresh bigint[];
begin
    perform webhooks.lock_endpoints(array(
        select e.endpoint_id
        from webhooks.endpoints as e
        where
            (e.tenant_id, e.environment) in (select m.tenant_id, m.environment from unnest(messages) as m)
            -- Whoever names one has locked it, and may not go back to a smaller id.
            and e.endpoint_id = coalesce(only_endpoint, e.endpoint_id)
    ));
    insert into webhooks.messages
    select m.* from unnest(messages) as m where octet_length(m.payload) < 20000
    on conflict (event_id) do nothing;
    with made as (
        insert into webhooks.deliveries as d (
            endpoint_id, tenant_id, environment, event_id, event_type, status, finished_at
        )
        select
            e.endpoint_id, m.tenant_id, m.environment, m.event_id, m.type,
            -- What a disabled endpoint missed is on record and can be replayed.
            case when e.status = 'enabled' then 'pending' else 'missed' end,
            case when e.status = 'enabled' then null else now() end
        from unnest(messages) with ordinality
            as m (event_id, tenant_id, environment, type, ordering_key, payload, created_at, place)
        inner join webhooks.endpoints as e on e.tenant_id = m.tenant_id and e.environment = m.environment
        where
            e.status <> 'deleted' and octet_length(m.payload) < 20000
            and case
                when only_endpoint is null then webhooks.wants(e.event_types, m.type)
                else e.endpoint_id = only_endpoint
            end
        order by m.place
        on conflict (endpoint_id, event_id) do nothing
        returning d.delivery_id, d.status
    )
    select array_agg(made.delivery_id) into fresh from made where made.status = 'pending';
    perform webhooks.line_up(fresh, '');
    return coalesce(cardinality(fresh), 0);
end
$$;
comment on function webhooks.enqueue is
'Keeps the bytes and makes a delivery per endpoint whose filters let the event through, or for the one named. An event that an endpoint has already is not made again.';

create function webhooks.lock_endpoints(endpoint_ids text[])
returns void
language plpgsql
volatile
security definer -- callers may not lock endpoints
set search_path = ''
as $$
begin
    perform from webhooks.endpoint_health as h
    where h.endpoint_id = any(lock_endpoints.endpoint_ids)
    order by h.endpoint_id
    for no key update;
end
$$;
comment on function webhooks.lock_endpoints is
'Until the end of the transaction nobody else moves the queues of these endpoints. In the order of the ids, so that two never wait for each other.';

create function webhooks.line_up(delivery_ids bigint[], lane text)
returns void
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into webhooks.queue (
        delivery_id, endpoint_id, tenant_id, environment, event_id, ordering_key, is_head, due_at, give_up_at
    )
    select
        d.delivery_id, d.endpoint_id, d.tenant_id, d.environment, d.event_id, lane || m.ordering_key,
        row_number() over (partition by d.endpoint_id, m.ordering_key order by d.delivery_id) = 1
        and not exists (
            select from webhooks.queue as q
            where q.endpoint_id = d.endpoint_id and q.ordering_key = lane || m.ordering_key
        ),
        now(), now() + make_interval(secs => public.setting('webhooks.patience_s')::double precision)
    from webhooks.deliveries as d
    inner join webhooks.messages as m on m.event_id = d.event_id
    where d.delivery_id = any(line_up.delivery_ids);
end
$$;
comment on function webhooks.line_up is
'Puts deliveries at the end of their streams; the endpoints are locked. lane: a prefix that keeps replays out of the way of what is new.';

reset role;
