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

reset role;
