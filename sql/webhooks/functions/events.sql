-- The same events for merchants who ask instead of listening.

set role stalela_owner;

create function webhooks.list_events(after_event text, types text[], page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    after_xid xid8 := '0'::xid8;
    after_position bigint := 0::bigint;
    sight fiscal.sight := fiscal.sight_of(caller);
    payloads text[];
    ids text[];
begin
    if after_event is not null then
        select e.xid, e.position into after_xid, after_position
        from (
            select i.xid, i.position from payments.intent_events as i
            where i.event_id = after_event and i.tenant_id = caller.tenant_id and i.environment = caller.environment
            union all
            select t.xid, t.position from payments.transfer_events as t
            where t.event_id = after_event and t.tenant_id = caller.tenant_id and t.environment = caller.environment
            union all
            select f.xid, f.position from fiscal.events as f
            where f.event_id = after_event and f.tenant_id = caller.tenant_id and f.environment = caller.environment
        ) as e;
        if not found then
            perform public.refuse('42262', format('after: there is no event %s here.', after_event),
                '{"errors": [{"pointer": "/after", "detail": "the id of an event you got", "in": "query"}]}');
        end if;
    end if;
    -- Transactions do not end in the order in which they began: what is older than every running one is complete, and
    -- only that is shown, in the order of the transactions. Nothing can appear before a reader's place afterwards.
    select
        array_agg(coalesce(m.payload, webhooks.payload(
            page.event_id, page.type, page.api_version, caller.environment, page.occurred_at, page.subject, page.seq,
            page.payload
        )) order by page.xid, page.position),
        array_agg(page.event_id order by page.xid, page.position)
    into payloads, ids
    from (
        (
            select i.event_id, i.type, k.api_version, i.occurred_at, i.payment_intent_id as subject, i.seq, i.payload,
                i.xid, i.position
            from payments.intent_events as i
            inner join webhooks.event_types as k on k.type = i.type
            where
                i.tenant_id = caller.tenant_id and i.environment = caller.environment
                and (i.xid, i.position) > (after_xid, after_position)
                and i.xid < pg_snapshot_xmin(pg_current_snapshot())
                and (types is null or webhooks.wants(types, i.type))
            order by i.xid, i.position
            limit page_size + 1
        )
        union all
        (
            select t.event_id, t.type, k.api_version, t.occurred_at, t.transfer_id, t.seq, t.payload, t.xid, t.position
            from payments.transfer_events as t
            inner join webhooks.event_types as k on k.type = t.type
            where
                t.tenant_id = caller.tenant_id and t.environment = caller.environment
                and (t.xid, t.position) > (after_xid, after_position)
                and t.xid < pg_snapshot_xmin(pg_current_snapshot())
                and (types is null or webhooks.wants(types, t.type))
            order by t.xid, t.position
            limit page_size + 1
        )
        union all
        (
            select f.event_id, f.type, k.api_version, f.occurred_at, f.subject_id, f.seq, f.payload, f.xid, f.position
            from fiscal.events as f
            inner join webhooks.event_types as k on k.type = f.type
            where
                f.tenant_id = caller.tenant_id and f.environment = caller.environment
                and (f.xid, f.position) > (after_xid, after_position)
                and f.xid < pg_snapshot_xmin(pg_current_snapshot())
                and (types is null or webhooks.wants(types, f.type))
                and (sight.outlet_id is null or f.payload ->> 'outlet_id' = sight.outlet_id)
                and (sight.cashier_id is null or fiscal.shows(sight, f.subject_id))
            order by f.xid, f.position
            limit page_size + 1
        )
        order by xid, position
        limit page_size + 1
    ) as page
    left join webhooks.messages as m on m.event_id = page.event_id;

    return row(200, format(
        '{"data":[%s],"pagination":%s}',
        array_to_string(payloads[1:page_size], ','),
        json_build_object(
            'limit', page_size,
            'has_more', coalesce(cardinality(ids), 0) > page_size,
            'next_after', coalesce(ids[least(page_size, cardinality(ids))], after_event)
        )
    ), caller.rate);
end
$$;
comment on function webhooks.list_events is
'Events after one the caller names, oldest first, each byte for byte as its webhook. An event is shown once no older transaction can still add one before it, so a reader who goes on from the last misses none. A person of one outlet sees no documents of another, a cashier none but their own.';

create function webhooks.get_event(event_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    sight fiscal.sight := fiscal.sight_of(caller);
    payload text;
begin
    select coalesce(m.payload, webhooks.payload(
        e.event_id, e.type, k.api_version, caller.environment, e.occurred_at, e.subject, e.seq, e.payload
    )) into payload
    from (
        select i.event_id, i.type, i.occurred_at, i.payment_intent_id as subject, i.seq, i.payload
        from payments.intent_events as i
        where
            i.event_id = get_event.event_id and i.tenant_id = caller.tenant_id
            and i.environment = caller.environment
        union all
        select t.event_id, t.type, t.occurred_at, t.transfer_id, t.seq, t.payload
        from payments.transfer_events as t
        where
            t.event_id = get_event.event_id and t.tenant_id = caller.tenant_id
            and t.environment = caller.environment
        union all
        select f.event_id, f.type, f.occurred_at, f.subject_id, f.seq, f.payload
        from fiscal.events as f
        where
            f.event_id = get_event.event_id and f.tenant_id = caller.tenant_id
            and f.environment = caller.environment
            and (sight.outlet_id is null or f.payload ->> 'outlet_id' = sight.outlet_id)
            and (sight.cashier_id is null or fiscal.shows(sight, f.subject_id))
    ) as e
    inner join webhooks.event_types as k on k.type = e.type
    left join webhooks.messages as m on m.event_id = e.event_id;
    if payload is null then
        perform public.refuse('40401', format('There is no event %s here.', get_event.event_id));
    end if;
    return row(200, payload, caller.rate);
end
$$;
comment on function webhooks.get_event is 'One event, byte for byte as its webhook.';

reset role;
