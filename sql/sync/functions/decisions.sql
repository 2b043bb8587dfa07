-- What people see of the queue and decide: status, lists, retry, withdrawal, the switches.

set role stalela_owner;

create function sync.status_of(invoice_id text)
returns text
language plpgsql
stable
security definer -- callers may not read the queue
set search_path = ''
as $$
begin
    return coalesce((
        select q.status from sync.authority_sync_queue as q
        where q.kind = 'document' and q.subject = status_of.invoice_id
    ), 'NOT_APPLICABLE');
end
$$;
comment on function sync.status_of is 'How far a document is at its authority; NOT_APPLICABLE when its outlet had no device.';

create function sync.elements_of(invoice_id text)
returns json
language plpgsql
stable
security definer -- callers may not read what authorities issued
set search_path = ''
as $$
begin
    return (
        select json_build_object(
            'code', e.code, 'qr', e.qr, 'number', e.authority_number,
            'time', to_char(e.authority_time at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'counters', e.counters
        )
        from fiscal.authority_elements as e
        where e.invoice_id = elements_of.invoice_id
    );
end
$$;
comment on function sync.elements_of is 'What the authority issued for a document, as the API shows it; null until it has.';

create function sync.get_status()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    outlet_only text := fiscal.caller_outlet(caller);
begin
    return public.reply(caller, 200, json_build_object(
        'object', 'authority_sync_status',
        'environment', caller.environment,
        'consent', coalesce((
            select c.is_given from sync.consents as c
            where c.tenant_id = caller.tenant_id and c.environment = caller.environment
        ), false),
        'outlets', (
            select coalesce(json_agg(sync.outlet_status(d) order by d.outlet_id), '[]')
            from sync.authority_devices as d
            where
                d.tenant_id = caller.tenant_id and d.environment = caller.environment and d.status = 'active'
                and d.outlet_id = coalesce(outlet_only, d.outlet_id)
        )
    ));
end
$$;
comment on function sync.get_status is 'Backlog, oldest age and next attempt of every outlet that reports to an authority.';

create function sync.outlet_status(device sync.authority_devices)
returns json
language plpgsql
stable
security definer -- callers may not read the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select json_build_object(
            'outlet_id', device.outlet_id, 'device_id', device.device_id, 'jurisdiction', device.jurisdiction,
            'mode', coalesce((
                select s.mode from sync.switches as s
                where s.jurisdiction = device.jurisdiction and s.environment = device.environment
            ), 'on'),
            'backlog', count(*) filter (where q.status in ('PENDING', 'SUBMITTED', 'RETRY')),
            'oldest_age_s', extract(epoch from now() - min(q.created_at) filter (
                where q.status in ('PENDING', 'SUBMITTED', 'RETRY')
            ))::bigint,
            'next_attempt_at', greatest(nullif(min(q.next_attempt_at) filter (
                where q.status in ('PENDING', 'RETRY')
            ), 'infinity'), case when device.held_until > now() then device.held_until end),
            'failed', count(*) filter (where q.status = 'FAILED'),
            'rejected', count(*) filter (where q.status = 'REJECTED'),
            'last_synced_at', (
                select max(e.created_at) from fiscal.authority_elements as e where e.device_id = device.device_id
            ),
            'held_until', case when device.held_until > now() then device.held_until end,
            'last_error_code', device.last_error_code, 'last_error', device.last_error
        )
        from sync.authority_sync_queue as q
        where q.outlet_id = device.outlet_id and q.status in ('PENDING', 'SUBMITTED', 'RETRY', 'FAILED', 'REJECTED')
    );
end
$$;
comment on function sync.outlet_status is 'One outlet at its authority: what waits, since when, and what went wrong.';

create function sync.list_open(filters jsonb, page_size integer, after_id bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    sight fiscal.sight := fiscal.sight_of(caller);
begin
    return public.reply(caller, 200, (
        select json_build_object(
            'data', coalesce(json_agg(page.shown order by page.sync_id) filter (where page.place <= page_size), '[]'),
            'pagination', json_build_object(
                'limit', list_open.page_size, 'has_more', count(*) > list_open.page_size,
                'next_cursor', (
                    case when count(*) > list_open.page_size
                        then max(page.sync_id) filter (where page.place <= page_size)
                    end
                )::text
            )
        )
        from (
            select q.sync_id, sync.row_resource(q) as shown, row_number() over (order by q.sync_id) as place
            from sync.authority_sync_queue as q
            where
                q.tenant_id = caller.tenant_id and q.environment = caller.environment
                and q.outlet_id = coalesce(sight.outlet_id, filters ->> 'outlet_id', q.outlet_id)
                and (sight.cashier_id is null or fiscal.shows(sight, q.invoice_id))
                and q.status <> 'SYNCED' and q.status = coalesce(filters ->> 'status', q.status)
                and q.sync_id > coalesce(list_open.after_id, 0)
            order by q.sync_id
            limit list_open.page_size + 1
        ) as page
    ));
end
$$;
comment on function sync.list_open is
'What is not at the authority, in the order it was sealed. filters: outlet_id, status.';

create function sync.row_resource(item sync.authority_sync_queue)
returns json
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select json_build_object(
            'id', item.sync_id::text, 'object', 'authority_submission', 'kind', item.kind,
            'outlet_id', item.outlet_id, 'jurisdiction', item.jurisdiction, 'invoice_id', item.invoice_id,
            'fiscal_number', i.fiscal_number, 'invoice_type', i.invoice_type, 'currency', i.currency,
            'total', public.format_amount(i.total_minor, i.currency),
            'total_tax', public.format_amount(i.tax_minor, i.currency),
            'status', item.status, 'attempts', item.attempts,
            'next_attempt_at', case
                when item.status in ('PENDING', 'RETRY') then nullif(item.next_attempt_at, 'infinity')
            end,
            'last_error_code', item.last_error_code, 'last_error', item.last_error, 'created_at', item.created_at
        )
        from (values (1)) as one (row_no)
        left join fiscal.invoices as i on i.invoice_id = item.invoice_id
    );
end
$$;
comment on function sync.row_resource is 'A row of the queue as the API shows it.';

create function sync.own_row(caller public.caller, invoice_id text)
returns sync.authority_sync_queue
language plpgsql
volatile
security definer -- callers may not read the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    item sync.authority_sync_queue;
begin
    select q.* into item
    from sync.authority_sync_queue as q
    where
        q.kind = 'document' and q.subject = own_row.invoice_id and q.tenant_id = (own_row.caller).tenant_id
        and q.environment = (own_row.caller).environment
        and q.outlet_id = coalesce(fiscal.caller_outlet(own_row.caller), q.outlet_id)
    for no key update;
    if not found then
        perform public.refuse('40401', format('No authority is to hear of an invoice %s here.', own_row.invoice_id));
    end if;
    return item;
end
$$;
comment on function sync.own_row is 'The queue''s row of one of the caller''s documents, locked; 40401 for anybody else''s.';

create function sync.decide_row(
    caller public.caller, item sync.authority_sync_queue, decision text, reason text, is_known_absent boolean
)
returns sync.authority_sync_queue
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved sync.authority_sync_queue;
begin
    -- Which of the two kinds of news is true only a person with the authority's own list can say.
    if decide_row.is_known_absent then
        update sync.authority_sync_queue as q set progress = '{}' where q.sync_id = item.sync_id and q.status <> 'SUBMITTED';
    end if;
    moved := sync.advance(item.sync_id, decide_row.decision, now(), null, null);
    if moved.sync_id is null then
        perform public.refuse('40911', format('A document that is %s takes no %s.', item.status, decide_row.decision),
            jsonb_build_object('current_state', item.status, 'allowed', (
                select coalesce(jsonb_agg(x.event order by x.event), '[]') from sync.transitions as x
                where x.from_status = item.status and x.event in ('retry', 'withdraw')
            )));
    end if;
    update sync.authority_sync_queue as q
    set quick_attempts = 0, grace_from = now()
    where q.sync_id = item.sync_id;
    perform sync.log_attempt(item, item.attempts, '[]', decide_row.decision, caller.actor, decide_row.reason);
    perform fiscal.record_event(
        item.tenant_id, item.environment, item.invoice_id, null, '{}', caller.actor, item.status, moved.status,
        decide_row.reason
    );
    perform sync.close_alerts(item.subject, decide_row.reason);
    return moved;
end
$$;
comment on function sync.decide_row is 'What a person decides of one document, written down; 40911 when it does not fit its status.';

create function sync.decide(invoice_id text, decision text, reason text, is_known_absent boolean)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('authority:manage', 'manage');
    item sync.authority_sync_queue := sync.own_row(caller, decide.invoice_id);
    moved sync.authority_sync_queue
        := sync.decide_row(caller, item, decide.decision, decide.reason, decide.is_known_absent);
begin
    perform public.audit(caller, 'authority_sync.' || decide.decision, item.invoice_id, jsonb_build_object(
        'reason', decide.reason, 'was', item.status, 'known_absent', decide.is_known_absent
    ));
    if decide.decision = 'retry' then
        perform public.poke('authority_sync');
    end if;
    return public.reply(caller, 200, sync.row_resource(moved));
end
$$;
comment on function sync.decide is
'A person has a document tried again, or withdraws it from reporting, and says why. is_known_absent: the authority''s own list does not have it, so it is sent anew instead of asked about.';

create function sync.retry_failed(outlet_id text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('authority:manage', 'manage');
    outlet fiscal.outlets := fiscal.outlet_of(caller, retry_failed.outlet_id);
    item sync.authority_sync_queue;
    retried integer := 0;
begin
    for item in
        select q.* from sync.authority_sync_queue as q
        where q.outlet_id = outlet.outlet_id and q.kind = 'document' and q.status = 'FAILED'
        order by q.sync_id
        limit 500
        for no key update
    loop
        perform sync.decide_row(caller, item, 'retry', retry_failed.reason, false);
        retried := retried + 1;
    end loop;
    perform public.audit(caller, 'authority_sync.retry_failed', outlet.outlet_id, jsonb_build_object(
        'reason', retry_failed.reason, 'retried', retried
    ));
    if retried > 0 then
        perform public.poke('authority_sync');
    end if;
    return public.reply(caller, 200, json_build_object(
        'object', 'authority_retry', 'outlet_id', outlet.outlet_id, 'retried', retried,
        'still_failed', (
            select count(*) from sync.authority_sync_queue as q
            where q.outlet_id = outlet.outlet_id and q.kind = 'document' and q.status = 'FAILED'
        )
    ));
end
$$;
comment on function sync.retry_failed is
'After a long outage: has the 500 oldest failed documents of an outlet tried again, as sync.decide would one by one.';

create function sync.close_alerts(subject text, resolution text)
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
begin
    update public.alerts as a
    set status = 'resolved', resolved_at = now(), resolution = close_alerts.resolution
    where a.kind like 'authority\_%' and a.subject = close_alerts.subject and a.status = 'open';
end
$$;
comment on function sync.close_alerts is 'A person decided about this document: its alerts are dealt with.';

create function sync.set_switch(jurisdiction text, environment text, mode text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write switches
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    kept sync.switches;
begin
    if not exists (select from sync.authorities as a where a.jurisdiction = set_switch.jurisdiction) then
        perform public.refuse('40401', format('The authority of %s is not connected.', set_switch.jurisdiction));
    end if;
    insert into sync.switches (jurisdiction, environment, mode, reason, changed_by)
    values (set_switch.jurisdiction, set_switch.environment, set_switch.mode, set_switch.reason, caller.actor)
    on conflict (jurisdiction, environment) do update
    set mode = excluded.mode, reason = excluded.reason, changed_by = excluded.changed_by, changed_at = now()
    returning * into kept;
    -- Time while it was switched off is not the authority's delay.
    update sync.authority_sync_queue as q
    set grace_from = now()
    where
        q.jurisdiction = kept.jurisdiction and q.environment = kept.environment and kept.mode = 'on'
        and q.status in ('PENDING', 'RETRY');
    perform public.audit(caller, 'authority_sync.switched', kept.jurisdiction, jsonb_build_object(
        'environment', kept.environment, 'mode', kept.mode, 'reason', kept.reason
    ));
    return public.reply(caller, 200, json_build_object(
        'object', 'authority_switch', 'jurisdiction', kept.jurisdiction, 'environment', kept.environment,
        'mode', kept.mode, 'reason', kept.reason, 'changed_at', kept.changed_at
    ));
end
$$;
comment on function sync.set_switch is 'The kill switch and the read-only mode of an authority; operators of the platform alone.';

reset role;
