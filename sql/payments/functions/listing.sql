-- Lists and timelines: keyset pages, newest first.

set role stalela_owner;

create function payments.list_intents(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    after_at timestamptz;
    after_id text;
    condition text := '';
    rows text[];
    last_at timestamptz;
    last_id text;
    body text;
begin
    if list_intents.page_after is not null then
        begin
            after_at := to_timestamp(split_part(page_after, '.', 1)::numeric / 1000000);
            after_id := split_part(page_after, '.', 2);
        exception when others then
            perform public.refuse_cursor();
        end;
    end if;
    -- Only the filters that are present become conditions, so each combination gets its own index plan.
    condition := concat_ws(' and ',
        case when filters ? 'status' then 'i.status = $3 ->> ''status''' end,
        case when filters ? 'currency' then 'i.currency = $3 ->> ''currency''' end,
        case when filters ? 'created_after' then 'i.created_at >= ($3 ->> ''created_after'')::timestamptz' end,
        case when filters ? 'created_before' then 'i.created_at < ($3 ->> ''created_before'')::timestamptz' end,
        case when filters ? 'amount_gte_minor' then 'i.amount_minor >= ($3 ->> ''amount_gte_minor'')::bigint' end,
        case when filters ? 'amount_lte_minor' then 'i.amount_minor <= ($3 ->> ''amount_lte_minor'')::bigint' end,
        case when filters ? 'metadata' then 'i.metadata <> ''{}'' and i.metadata @> ($3 -> ''metadata'')' end,
        case when after_id is not null then '(i.created_at, i.payment_intent_id) < ($4, $5)' end,
        'true'
    );
    execute format($query$
        select array_agg(payments.intent_resource(page.i, $6) order by (page.i).created_at desc, (page.i).payment_intent_id desc)
        from (
            select i
            from payments.payment_intents as i
            where i.tenant_id = $1 and i.environment = $2 and %s
            order by i.created_at desc, i.payment_intent_id desc
            limit %s
        ) as page
    $query$, condition, list_intents.page_size + 1)
    into rows
    using caller.tenant_id, caller.environment, filters, after_at, after_id,
        public.holds_scope(caller.scopes, 'payments:write');

    if cardinality(rows) > list_intents.page_size then
        select i.created_at, i.payment_intent_id into last_at, last_id
        from payments.payment_intents as i
        where i.payment_intent_id = rows[list_intents.page_size]::json ->> 'id';
    end if;
    body := format(
        '{"data":[%s],"pagination":%s}',
        array_to_string(rows[1:list_intents.page_size], ','),
        json_build_object(
            'limit', list_intents.page_size,
            'has_more', last_id is not null,
            'next_cursor', (extract(epoch from last_at) * 1000000)::bigint || '.' || last_id
        )
    );
    return row(200, body, caller.rate);
end
$$;
comment on function payments.list_intents is
'One page of the caller''s intents, newest first, by keyset on (created_at, id). filters: status, currency, created_after, created_before, amount_gte_minor, amount_lte_minor, metadata.';

create function payments.list_intent_events(payment_intent_id text, after_position bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    timeline text;
begin
    seen := payments.visible_intent(list_intent_events.payment_intent_id, 'payments:read', 'read', false);
    select string_agg(row_to_json(entry)::text, ',' order by entry.position) into timeline
    from (
        select e.event_id as id, e.position, e.type, e.payment_intent_id as subject, e.seq, e.payload as data, e.occurred_at
        from payments.intent_events as e
        where e.payment_intent_id = list_intent_events.payment_intent_id and e.position > after_position
        union all
        select e.event_id, e.position, e.type, e.transfer_id, e.seq, e.payload, e.occurred_at
        from payments.transfer_events as e
        where e.payment_intent_id = list_intent_events.payment_intent_id and e.position > after_position
    ) as entry;
    return row(200, format('{"data":[%s]}', timeline), (seen.caller).rate);
end
$$;
comment on function payments.list_intent_events is 'Everything that happened to an intent and its transfers after a position, in order.';

reset role;
