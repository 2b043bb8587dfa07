-- Z reports. A Z covers the entries after those of the Z before, up to the last one sealed before its day ended.
-- What is sealed here never goes back in time along a chain, so that is one unbroken range: no document is in two Zs, or
-- in none, and a document sealed while a day is being closed is on the side its own sealed_at says. What a terminal sealed
-- offline is in the Z of the day on which it came.

set role stalela_owner;

create function fiscal.day_end(outlet fiscal.outlets, business_date date)
returns timestamptz
language plpgsql
immutable
set search_path = ''
as $$
begin
    return (business_date + 1 + make_interval(hours => outlet.cut_off_hour)) at time zone outlet.time_zone;
end
$$;
comment on function fiscal.day_end is 'When a business day of an outlet is over: at its cut-off hour of the next local day.';

create function fiscal.business_date(outlet fiscal.outlets, at timestamptz)
returns date
language plpgsql
immutable
set search_path = ''
as $$
begin
    return (at at time zone outlet.time_zone - make_interval(hours => outlet.cut_off_hour))::date;
end
$$;
comment on function fiscal.business_date is 'The business day of an outlet to which a moment belongs.';

create function fiscal.open_day(outlet fiscal.outlets, business_date date)
returns void
language plpgsql
volatile
security definer -- callers may not write days
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into fiscal.open_days (outlet_id, tenant_id, environment, business_date, due_at)
    values (
        (open_day.outlet).outlet_id, (open_day.outlet).tenant_id, (open_day.outlet).environment, open_day.business_date,
        fiscal.day_end(open_day.outlet, open_day.business_date)
    )
    on conflict (outlet_id) do update set business_date = excluded.business_date, due_at = excluded.due_at;
end
$$;
comment on function fiscal.open_day is 'The day an outlet is in from now on.';

create function fiscal.close_day(outlet fiscal.outlets, closed_by text, is_asked_for boolean)
returns fiscal.reports
language plpgsql
volatile
security definer -- callers may not write reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    day fiscal.open_days;
    rules tax.jurisdictions;
    previous fiscal.reports;
    report fiscal.reports;
    closed_at timestamptz;
    broken text;
begin
    perform fiscal.lock_outlet(outlet.outlet_id);
    select d.* into strict day from fiscal.open_days as d where d.outlet_id = (close_day.outlet).outlet_id;
    select j.* into strict rules
    from fiscal.merchants as m
    inner join tax.jurisdictions as j on j.jurisdiction = m.jurisdiction
    where m.merchant_id = (close_day.outlet).merchant_id;
    select r.* into previous
    from fiscal.reports as r
    where r.outlet_id = (close_day.outlet).outlet_id
    order by r.report_no desc
    limit 1;
    closed_at := least(clock_timestamp(), fiscal.day_end(outlet, day.business_date));

    report.first_entry := coalesce(previous.last_entry, 0) + 1;
    select coalesce(
        min(l.entry_no) filter (
            where
            closed_at = fiscal.day_end(outlet, day.business_date) and l.sealed_at >= fiscal.instant_text(closed_at)
            and t.fiscal_number is null
        ) - 1,
        max(l.entry_no),
        report.first_entry - 1
    ) into report.last_entry
    from fiscal.fiscal_ledger as l
    left join fiscal.local_seals as t on t.fiscal_number = l.fiscal_number
    where l.outlet_id = (close_day.outlet).outlet_id and l.entry_no >= report.first_entry;
    if not is_asked_for and (not rules.closes_empty_days or outlet.status = 'closed') and not exists (
        select from fiscal.fiscal_ledger as l
        where
            l.outlet_id = (close_day.outlet).outlet_id and l.invoice_id is not null
            and l.entry_no between report.first_entry and report.last_entry
    ) then
        perform fiscal.open_day(outlet, fiscal.business_date(outlet, clock_timestamp()));
        return null;
    end if;
    broken := fiscal.check_chain(outlet.outlet_id, report.first_entry, report.last_entry);
    if broken is not null then
        perform public.refuse('50011', format('The ledger does not verify: %s. The day stays open: keep everything as it is and write to support.', broken));
    end if;

    report.report_no := fiscal.next_number(outlet.outlet_id, 'report_z');
    report.fiscal_number := concat_ws('-', 'Z', outlet.outlet_code, lpad(
        report.report_no::text, greatest(6, length(report.report_no::text)), '0'
    ));
    report.business_date := day.business_date;
    report.body := fiscal.canonical_text(fiscal.z_body(outlet, report, previous, closed_at));
    report.canonical_payload_hash := encode(sha256(convert_to(report.body, 'UTF8')), 'hex');
    perform fiscal.append_entry(
        outlet, 'report_z', report.fiscal_number, report.report_no, report.canonical_payload_hash, null
    );
    insert into fiscal.reports (
        report_id, tenant_id, environment, outlet_id, fiscal_number, report_no, business_date, first_entry, last_entry,
        body, canonical_payload_hash, closed_by
    ) values (
        public.new_id('rep'), outlet.tenant_id, outlet.environment, outlet.outlet_id, report.fiscal_number,
        report.report_no, report.business_date, report.first_entry, report.last_entry, report.body,
        report.canonical_payload_hash, close_day.closed_by
    )
    returning * into report;
    perform fiscal.open_day(outlet, day.business_date + 1);
    perform public.poke('invoices/sign');
    return report;
end
$$;
comment on function fiscal.close_day is
'Closes the business day an outlet is in: its Z, the ledger entry of that, and the next day, in one transaction under the outlet''s lock. Null when there is nothing to report and nobody asked. 50011: the chain is broken.';

create function fiscal.z_body(
    outlet fiscal.outlets, report fiscal.reports, previous fiscal.reports, closed_at timestamptz
)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    figures jsonb := fiscal.figures(z_body.outlet, report.first_entry, report.last_entry, z_body.closed_at, null, null);
    opening_hash text := (
        select l.entry_hash
        from fiscal.fiscal_ledger as l
        where l.outlet_id = (z_body.outlet).outlet_id and l.entry_no = report.first_entry - 1
    );
    body jsonb;
begin
    select jsonb_build_object(
        'schema_version', '1.1', 'report_type', 'z', 'report_no', report.report_no, 'fiscal_number', report.fiscal_number,
        'environment', (z_body.outlet).environment, 'jurisdiction', m.jurisdiction, 'merchant_tin', m.tin,
        'merchant_name', m.legal_name, 'outlet_id', (z_body.outlet).outlet_id,
        'outlet_code', (z_body.outlet).outlet_code, 'outlet_name', (z_body.outlet).name,
        'fiscal_authority_id', (z_body.outlet).fiscal_authority_id, 'business_date', report.business_date,
        'time_zone', (z_body.outlet).time_zone, 'cut_off_hour', (z_body.outlet).cut_off_hour,
        'opened_at', coalesce(previous.body::jsonb ->> 'closed_at', fiscal.instant_text((z_body.outlet).created_at)),
        'closed_at', fiscal.instant_text(z_body.closed_at), 'generated_at', fiscal.instant_text(clock_timestamp()),
        'first_entry', report.first_entry, 'last_entry', report.last_entry,
        'offline_count', (
            select count(*)
            from fiscal.local_seals as t
            inner join fiscal.fiscal_ledger as l on l.fiscal_number = t.fiscal_number
            where
                l.outlet_id = (z_body.outlet).outlet_id
                and l.entry_no between report.first_entry and report.last_entry
        ),
        'opening_hash', coalesce(opening_hash, repeat('0', 64)),
        'closing_hash', coalesce((
            select l.entry_hash
            from fiscal.fiscal_ledger as l
            where l.outlet_id = (z_body.outlet).outlet_id and l.entry_no = report.last_entry
        ), repeat('0', 64)),
        'previous_z_hash', coalesce((
            select l.entry_hash from fiscal.fiscal_ledger as l where l.fiscal_number = previous.fiscal_number
        ), repeat('0', 64)),
        'perpetual_totals', fiscal.perpetual_totals(previous.body::jsonb -> 'perpetual_totals', figures -> 'grand_totals')
    )
    || figures
    || fiscal.sequences((z_body.outlet).outlet_id, report.first_entry, report.last_entry)
    into strict body
    from fiscal.merchants as m
    where m.merchant_id = (z_body.outlet).merchant_id;
    return body;
end
$$;
comment on function fiscal.z_body is
'What a Z says, from the ledger alone; previous is the Z before, null for the first. schema_version 1.1: with payment_totals, which 1.0 had not.';

create function fiscal.sequences(outlet_id text, first_entry bigint, last_entry bigint)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_strip_nulls(jsonb_build_object(
            'sequence_start', min(l.sequence), 'sequence_end', max(l.sequence),
            'gap_detected', coalesce(max(l.sequence) - min(l.sequence) + 1 <> count(l.sequence), false)
        ))
        from fiscal.fiscal_ledger as l
        where
            l.outlet_id = sequences.outlet_id
            and l.entry_no between sequences.first_entry and sequences.last_entry
    );
end
$$;
comment on function fiscal.sequences is
'The first and last invoice number in a range of entries, and whether one between them is missing. No numbers when there is no document.';

create function fiscal.perpetual_totals(earlier jsonb, today jsonb)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
    return (
        select jsonb_agg(
            jsonb_build_object(
                'currency', w.currency, 'sales', w.sales::text, 'credits', w.credits::text,
                'net', (w.sales - w.credits)::text, 'tax', w.tax::text
            )
            order by w.currency collate "C"
        )
        from (
            select x.currency, sum(x.sales) as sales, sum(x.credits) as credits, sum(x.tax) as tax
            from (
                select
                    e ->> 'currency' as currency, (e ->> 'sales')::numeric as sales, (e ->> 'credits')::numeric as credits,
                    (e ->> 'tax')::numeric as tax
                from jsonb_array_elements(coalesce(earlier, '[]')) as e
                union all
                select
                    t ->> 'currency', (t #>> '{sales,total}')::numeric, (t #>> '{credits,total}')::numeric,
                    (t #>> '{net,total_tax}')::numeric
                from jsonb_array_elements(today) as t
            ) as x
            group by x.currency
        ) as w
    );
end
$$;
comment on function fiscal.perpetual_totals is
'The grand totals of an outlet since it opened, by currency: those of the Z before and this day''s. Never reset.';

create function fiscal.check_chain(outlet_id text, first_entry bigint, last_entry bigint)
returns text
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    broken jsonb := fiscal.broken_link(check_chain.outlet_id, first_entry - 1, last_entry, coalesce((
        select l.entry_hash
        from fiscal.fiscal_ledger as l
        where l.outlet_id = check_chain.outlet_id and l.entry_no = check_chain.first_entry - 1
    ), repeat('0', 64)));
begin
    if broken is null then
        return null;
    end if;
    return format('entry %s, %s: %s', broken ->> 'entry_no', broken ->> 'fiscal_number', broken ->> 'detail');
end
$$;
comment on function fiscal.check_chain is
'What is wrong with the first bad entry of a range, null when all hashes hold. Signatures are the chain walk''s.';

create function fiscal.close_due_days()
returns integer
language plpgsql
volatile
security definer -- cron may not write reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- All of one call are one transaction, and an outlet that is closed cannot seal until it ends.
    give_up_at constant timestamptz := clock_timestamp() + interval '500 milliseconds';
    due record;
    closed integer := 0;
begin
    for due in
        select d.outlet_id, row_number() over (order by d.due_at) as place
        from fiscal.open_days as d
        where d.due_at <= now()
        order by d.due_at
        limit 200
    loop
        exit when clock_timestamp() > give_up_at;
        -- Only the first is waited for: who holds one outlet's lock does not wait for another's.
        continue when due.place > 1 and not pg_try_advisory_xact_lock(
            hashtext('fiscal.outlet'), hashtext(due.outlet_id)
        );
        closed := closed + fiscal.close_due_day(due.outlet_id)::integer;
    end loop;
    return closed;
end
$$;
comment on function fiscal.close_due_days is
'Closes the days that are over, those that wait longest first, for half a second; the next call goes on. A cron task.';

create function fiscal.close_due_day(outlet_id text)
returns boolean
language plpgsql
volatile
security definer -- cron may not write reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    outlet fiscal.outlets;
    problem text;
begin
    perform fiscal.lock_outlet(close_due_day.outlet_id);
    select o.* into outlet
    from fiscal.outlets as o
    inner join fiscal.open_days as d on d.outlet_id = o.outlet_id
    where o.outlet_id = close_due_day.outlet_id and d.due_at <= now();
    if not found then
        return false; -- somebody closed it while we waited for the lock
    end if;
    perform fiscal.close_day(outlet, 'system', false);
    perform public.resolve_alert('day_not_closed', outlet.outlet_id, 'closed');
    return true;
exception
    when others then
        problem := sqlstate || ' ' || sqlerrm;
        update fiscal.open_days as d
        set due_at = now() + interval '5 minutes'
        where d.outlet_id = close_due_day.outlet_id
        returning d.tenant_id, d.environment into outlet.tenant_id, outlet.environment;
        perform public.raise_alert(
            'day_not_closed', 'critical', close_due_day.outlet_id, outlet.tenant_id, outlet.environment,
            jsonb_build_object('error', problem)
        );
        return false;
end
$$;
comment on function fiscal.close_due_day is
'Closes one outlet''s day that is over. A failure is undone for that outlet alone, raises an alert and is tried again after 5 minutes.';

reset role;
