-- Fiscal days of devices: a row for each, kept with the state of the device; and their close.

set role stalela_owner;

create function sync.keep_fiscal_day()
returns trigger
language plpgsql
security definer -- whoever moves a device's state may not write days
set search_path = ''
as $$
#variable_conflict use_column
declare
    day_before jsonb := old.state -> 'book' -> 'day';
    day jsonb := new.state -> 'book' -> 'day';
begin
    if jsonb_typeof(day_before) = 'object' and (day ->> 'number') is distinct from (day_before ->> 'number') then
        update sync.fiscal_days as f
        set closed_at = now()
        where f.device_id = new.device_id and f.day_no = (day_before ->> 'number')::integer;
    end if;
    if jsonb_typeof(day) = 'object' then
        insert into sync.fiscal_days (device_id, day_no, tenant_id, environment, outlet_id, opened_at)
        values (
            new.device_id, (day ->> 'number')::integer, new.tenant_id, new.environment, new.outlet_id,
            day ->> 'opened_at'
        )
        on conflict (device_id, day_no) do nothing;
        update sync.fiscal_days as f
        set receipts = (day ->> 'receipts')::integer, counters = day -> 'counters'
        where f.device_id = new.device_id and f.day_no = (day ->> 'number')::integer;
    end if;
    return null;
end
$$;
comment on function sync.keep_fiscal_day is 'A device''s open day is a row from before it is opened until it is closed.';

create trigger authority_devices_keep_days
after update of state on sync.authority_devices
for each row when ((old.state -> 'book') is distinct from (new.state -> 'book'))
execute function sync.keep_fiscal_day();

create function sync.keep_fiscal_receipt()
returns trigger
language plpgsql
security definer -- whoever concludes an attempt may not write receipts
set search_path = ''
as $$
begin
    insert into sync.fiscal_receipts (
        device_id, global_no, day_no, counter, tenant_id, environment, outlet_id, invoice_id, receipt_id, receipt_date,
        hash
    ) values (
        new.device_id, (new.counters ->> 'receipt_global_no')::bigint, (new.counters ->> 'fiscal_day')::integer,
        (new.counters ->> 'receipt_counter')::integer, new.tenant_id, new.environment, new.outlet_id, new.invoice_id,
        (new.counters ->> 'receipt_id')::bigint, new.counters ->> 'date', new.counters ->> 'hash'
    );
    return null;
end
$$;
comment on function sync.keep_fiscal_receipt is 'A document that an authority with fiscal days took has its numbers there, once.';

create trigger authority_elements_keep_receipts
after insert on fiscal.authority_elements
for each row when (new.counters ? 'receipt_global_no')
execute function sync.keep_fiscal_receipt();

create function sync.queue_day_close(device_id text, day_no integer)
returns boolean
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    device sync.authority_devices;
    refused bigint;
begin
    select d.* into strict device from sync.authority_devices as d where d.device_id = queue_day_close.device_id;
    -- After every document that has its number now: those belong to the day.
    perform fiscal.lock_outlet(device.outlet_id);
    insert into sync.authority_sync_queue (
        tenant_id, environment, outlet_id, jurisdiction, kind, subject, next_attempt_at
    ) values (
        device.tenant_id, device.environment, device.outlet_id, device.jurisdiction, 'day_close',
        device.device_id || '/' || queue_day_close.day_no, now()
    )
    on conflict (kind, subject) do nothing;
    if found then
        return true;
    end if;
    -- What kept it from closing may be settled, perhaps by the authority itself: that is looked at four times a day.
    select q.sync_id into refused
    from sync.authority_sync_queue as q
    where
        q.kind = 'day_close' and q.subject = device.device_id || '/' || queue_day_close.day_no
        and q.status in ('REJECTED', 'FAILED') and q.updated_at < now() - interval '6 hours';
    if refused is null then
        return false;
    end if;
    perform sync.advance(refused, 'retry', now(), null, null);
    update sync.authority_sync_queue as q
    set quick_attempts = 0, grace_from = now()
    where q.sync_id = refused;
    return true;
end
$$;
comment on function sync.queue_day_close is
'Has a fiscal day closed after the documents before it, again where the authority refused; false: that is under way.';

create function sync.close_days()
returns integer
language plpgsql
volatile
security definer -- cron may not read devices
set search_path = ''
as $$
#variable_conflict use_column
declare
    ending record;
    queued integer := 0;
begin
    for ending in
        select f.device_id, f.day_no
        from sync.fiscal_days as f
        inner join sync.authority_devices as d on d.device_id = f.device_id and d.status = 'active'
        inner join fiscal.outlets as o on o.outlet_id = f.outlet_id
        cross join lateral (select now() at time zone o.time_zone as here) as clock
        where
            f.closed_at is null
            and (
                left(f.opened_at, 10)::date < clock.here::date
                or f.opened_at::timestamp + make_interval(
                    hours => coalesce((d.state -> 'config' ->> 'taxPayerDayMaxHrs')::integer, 24)
                ) <= clock.here
            )
        order by f.device_id
        limit 500
    loop
        queued := queued + sync.queue_day_close(ending.device_id, ending.day_no)::integer;
    end loop;
    if queued > 0 then
        perform public.poke('authority_sync');
    end if;
    return queued;
end
$$;
comment on function sync.close_days is
'Closes fiscal days whose date is over where the outlet is, or whose hours are. A cron task; a day is asked for once.';

create function sync.day_resource(day sync.fiscal_days)
returns json
language plpgsql
stable
security definer -- callers may not read the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    closing sync.authority_sync_queue;
begin
    select q.* into closing
    from sync.authority_sync_queue as q
    where q.kind = 'day_close' and q.subject = day.device_id || '/' || day.day_no;
    return json_build_object(
        'object', 'fiscal_day', 'outlet_id', day.outlet_id, 'device_id', day.device_id, 'number', day.day_no,
        'status', case
            when day.closed_at is not null then 'closed'
            when closing.status in ('REJECTED', 'FAILED') then 'close_refused'
            when closing.sync_id is not null then 'closing'
            else 'open'
        end,
        'opened_at', day.opened_at, 'closed_at', day.closed_at, 'receipts', day.receipts,
        'counters', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'kind', c.row ->> 0, 'currency', c.row ->> 1, 'amount', c.row ->> 2, 'tax_id', c.row -> 3,
                'tax_percent', c.row ->> 4, 'money_type', c.row ->> 5
            ) order by c.at), '[]')
            from jsonb_array_elements(day.counters) with ordinality as c (row, at)
        ),
        'last_error_code', case when day.closed_at is null then closing.last_error_code end,
        'last_error', case when day.closed_at is null then closing.last_error end,
        'environment', day.environment
    );
end
$$;
comment on function sync.day_resource is 'A fiscal day as the API shows it. opened_at is local time, as the authority has it.';

create function sync.list_days(outlet_id text, page_size integer, before_no integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read days
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    outlet fiscal.outlets := fiscal.outlet_of(caller, list_days.outlet_id);
    days sync.fiscal_days[];
    has_more boolean;
begin
    select array_agg(page.day order by (page.day).day_no desc) into days
    from (
        select f as day
        from sync.fiscal_days as f
        inner join sync.authority_devices as d on d.device_id = f.device_id and d.status = 'active'
        where f.outlet_id = outlet.outlet_id and (list_days.before_no is null or f.day_no < list_days.before_no)
        order by f.day_no desc
        limit list_days.page_size + 1
    ) as page;
    has_more := coalesce(cardinality(days), 0) > list_days.page_size;
    return public.reply(caller, 200, json_build_object(
        'data', (
            select coalesce(json_agg(sync.day_resource(f) order by f.day_no desc), '[]')
            from unnest(days[:list_days.page_size]) as f
        ),
        'pagination', json_build_object(
            'limit', list_days.page_size, 'has_more', has_more,
            'next_cursor', case when has_more then days[list_days.page_size].day_no::text end
        )
    ));
end
$$;
comment on function sync.list_days is 'The fiscal days of the device an outlet speaks as, newest first, page by page.';

create function sync.end_day(outlet_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('authority:manage', 'manage');
    outlet fiscal.outlets := fiscal.outlet_of(caller, end_day.outlet_id);
    day sync.fiscal_days;
begin
    select f.* into day
    from sync.fiscal_days as f
    inner join sync.authority_devices as d on d.device_id = f.device_id and d.status = 'active'
    where f.outlet_id = outlet.outlet_id and f.closed_at is null;
    if not found then
        perform public.refuse('40911', 'No fiscal day is open.', '{"current_state": "closed", "allowed": []}');
    end if;
    perform sync.queue_day_close(day.device_id, day.day_no);
    perform public.audit(caller, 'authority_day.ended', day.device_id, jsonb_build_object('day', day.day_no));
    perform public.poke('authority_sync');
    return public.reply(caller, 202, sync.day_resource(day));
end
$$;
comment on function sync.end_day is
'A person ends the day: it is closed after the documents sealed until now; the next one opens a new day. Repeatable.';

reset role;
