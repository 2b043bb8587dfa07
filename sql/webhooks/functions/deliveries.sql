-- The delivery log, and sending again.

set role stalela_owner;

create function webhooks.delivery_resource(delivery webhooks.deliveries)
returns json
language plpgsql
stable
security definer -- callers may not read the queue
set search_path = ''
as $$
begin
    return (
        select row_to_json(shown)
        from (
            select
                delivery.event_id, 'webhook_delivery' as object, delivery.endpoint_id as webhook_endpoint_id,
                delivery.event_type as type, delivery.status, delivery.attempts, delivery.status_code,
                q.due_at as next_attempt_at, delivery.created_at, delivery.finished_at
            from (select) as one
            left join webhooks.queue as q on q.delivery_id = delivery.delivery_id and q.is_head
        ) as shown
    );
end
$$;
comment on function webhooks.delivery_resource is
'The wire shape of a delivery. next_attempt_at is null when it is finished or waits for an earlier event of the same payment.';

create function webhooks.list_deliveries(endpoint_id text, status text, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:read', 'read');
    caller public.caller := seen.caller;
    after_at timestamptz := to_timestamp((split_part(page_after, '.', 1)::numeric / 1000000)::double precision);
    after_event text := split_part(page_after, '.', 2);
    page webhooks.deliveries[];
    last webhooks.deliveries;
begin
    select array_agg(p.found_one order by (p.found_one).created_at desc, (p.found_one).event_id desc) into page
    from (
        select d as found_one
        from webhooks.deliveries as d
        where
            d.tenant_id = caller.tenant_id and d.environment = caller.environment
            and d.endpoint_id = list_deliveries.endpoint_id
            and (list_deliveries.status is null or d.status = list_deliveries.status)
            and (list_deliveries.page_after is null or (d.created_at, d.event_id) < (after_at, after_event))
        order by d.created_at desc, d.event_id desc
        limit list_deliveries.page_size + 1
    ) as p;
    if cardinality(page) > list_deliveries.page_size then
        last := page[list_deliveries.page_size];
    end if;
    return public.reply(caller, 200, json_build_object(
        'data', array(select webhooks.delivery_resource(d) from unnest(page[1:list_deliveries.page_size]) as d),
        'pagination', json_build_object(
            'limit', list_deliveries.page_size,
            'has_more', last.event_id is not null,
            'next_cursor', (extract(epoch from last.created_at) * 1000000)::bigint || '.' || last.event_id
        )
    ));
end
$$;
comment on function webhooks.list_deliveries is 'One page of what an endpoint was sent, newest first.';

create function webhooks.visible_delivery(endpoint webhooks.endpoints, event_id text)
returns webhooks.deliveries
language plpgsql
stable
security definer -- callers may not read deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    found_one webhooks.deliveries;
begin
    select d.* into found_one
    from webhooks.deliveries as d
    where d.endpoint_id = (visible_delivery.endpoint).endpoint_id and d.event_id = visible_delivery.event_id;
    if not found then
        perform public.refuse('40401', format('The event %s did not go to this endpoint.', visible_delivery.event_id));
    end if;
    return found_one;
end
$$;
comment on function webhooks.visible_delivery is 'The delivery of an event to an endpoint; 40401 when there is none.';

create function webhooks.get_delivery(endpoint_id text, event_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:read', 'read');
    delivery webhooks.deliveries := webhooks.visible_delivery(seen.endpoint, get_delivery.event_id);
begin
    return public.reply(seen.caller, 200, json_build_object(
        'delivery', webhooks.delivery_resource(delivery),
        'payload', (select m.payload from webhooks.messages as m where m.event_id = get_delivery.event_id),
        'attempts', array(
            select row_to_json(shown)
            from (
                select a.number, a.started_at, a.duration_ms, a.url, a.status_code, a.error, a.response_excerpt
                from webhooks.attempts as a
                where a.delivery_id = delivery.delivery_id
                order by a.number
            ) as shown
        )
    ));
end
$$;
comment on function webhooks.get_delivery is 'A delivery with the bytes that were sent, as text, and every attempt; bytes and attempts are there for 30 days.';

create function webhooks.send_again(delivery_ids bigint[])
returns integer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    again bigint[];
begin
    with reopened as (
        update webhooks.deliveries as d
        set status = 'pending', finished_at = null
        where d.delivery_id = any(send_again.delivery_ids) and d.status <> 'pending'
        returning d.delivery_id
    )
    select array_agg(r.delivery_id) into again from reopened as r;
    perform webhooks.line_up(again, 'replay:');
    -- What waits for its next attempt anyway need not wait.
    update webhooks.queue as q
    set due_at = least(q.due_at, now())
    where q.delivery_id = any(send_again.delivery_ids) and q.is_head and not q.is_leased;
    perform public.poke('webhook_delivery');
    return coalesce(cardinality(again), 0);
end
$$;
comment on function webhooks.send_again is 'Queues finished deliveries once more, under the same event ids, and hurries those that wait; the endpoint is locked. How many it queued.';

create function webhooks.check_replay(endpoint webhooks.endpoints)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
    if endpoint.status <> 'enabled' then
        perform public.refuse(
            '40911', 'This endpoint is disabled: enable it first.',
            '{"current_state": "disabled", "allowed": ["enable"]}'
        );
    end if;
end
$$;
comment on function webhooks.check_replay is 'Nothing is replayed to a disabled endpoint (40911).';

create function webhooks.replay_delivery(endpoint_id text, event_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    delivery webhooks.deliveries := webhooks.visible_delivery(seen.endpoint, replay_delivery.event_id);
begin
    perform webhooks.check_replay(seen.endpoint);
    if not exists (
        select from webhooks.messages as m
        where m.event_id = replay_delivery.event_id and m.created_at > webhooks.replayable_since()
    ) then
        perform public.refuse('42262', 'This event is too old to be replayed; GET /events has it.');
    end if;
    perform webhooks.send_again(array[delivery.delivery_id]);
    perform public.audit(seen.caller, 'webhook_delivery.replay', replay_delivery.endpoint_id, jsonb_build_object(
        'event_id', replay_delivery.event_id
    ));
    return public.reply(seen.caller, 202, webhooks.delivery_resource(
        webhooks.visible_delivery(seen.endpoint, replay_delivery.event_id)
    ));
end
$$;
comment on function webhooks.replay_delivery is 'Sends one event to an endpoint again, with the same id and bytes. 202.';

create function webhooks.replay_range(endpoint_id text, from_at timestamptz, to_at timestamptz, statuses text[])
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen webhooks.sight := webhooks.visible_endpoint(endpoint_id, 'webhooks:write', 'manage');
    caller public.caller := seen.caller;
    chosen bigint[];
    last_at timestamptz;
    batch constant integer := 5000;
begin
    perform webhooks.check_replay(seen.endpoint);
    select array_agg(c.delivery_id), max(c.created_at) into chosen, last_at
    from (
        select d.delivery_id, d.created_at
        from webhooks.deliveries as d
        where
            d.tenant_id = caller.tenant_id and d.environment = caller.environment
            and d.endpoint_id = replay_range.endpoint_id
            and d.created_at >= greatest(replay_range.from_at, webhooks.replayable_since())
            and d.created_at < replay_range.to_at and d.status = any(replay_range.statuses)
        order by d.created_at
        fetch first batch rows with ties
    ) as c;
    perform webhooks.send_again(chosen);
    perform public.audit(caller, 'webhook_endpoint.replay', replay_range.endpoint_id, jsonb_build_object(
        'from', replay_range.from_at, 'to', replay_range.to_at, 'statuses', replay_range.statuses,
        'queued', coalesce(cardinality(chosen), 0)
    ));
    return public.reply(caller, 202, json_build_object(
        'object', 'webhook_replay',
        'queued', coalesce(cardinality(chosen), 0),
        -- More than one call takes: the next goes on from there.
        'next_from', case when cardinality(chosen) >= batch then last_at + interval '1 microsecond' end
    ));
end
$$;
comment on function webhooks.replay_range is
'Sends what an endpoint was to get in a span of time again, oldest first, at most 5,000 at once; next_from says where to go on. 202.';

create function webhooks.replayable_since()
returns timestamptz
language plpgsql
stable
security definer -- callers may not read settings
set search_path = ''
as $$
begin
    return now() - make_interval(secs => public.setting('webhooks.bodies_kept_s')::double precision);
end
$$;
comment on function webhooks.replayable_since is 'Events before this have lost their bytes.';

reset role;
