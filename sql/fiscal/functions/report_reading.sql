-- Z reports on request, and as their owners see them.

set role stalela_owner;

create function fiscal.close_business_day(
    idempotency_key text, body_hash text, outlet_id text, business_date date
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:write', 'write');
    answer public.answer := public.claim_idempotency(
        caller, 'POST /reports', close_business_day.idempotency_key, close_business_day.body_hash
    );
    outlet fiscal.outlets;
    today date;
    open_date date;
    wanted date;
    report fiscal.reports;
begin
    if answer.status is not null then
        return answer;
    end if;
    outlet := fiscal.outlet_of(caller, close_business_day.outlet_id);
    -- Under the lock: two people who close at once close one day, not two.
    perform fiscal.lock_outlet(outlet.outlet_id);
    -- As it was when the request came: whoever waited over midnight behind cron asked for the day that is closed now.
    today := fiscal.business_date(outlet, now());
    select d.business_date into strict open_date from fiscal.open_days as d where d.outlet_id = outlet.outlet_id;
    wanted := coalesce(close_business_day.business_date, least(open_date, today));
    if wanted < open_date then
        perform fiscal.refuse_closed(outlet, wanted);
    elsif wanted > today then
        perform public.refuse_field('42262', '/business_date', format('%s has not begun yet: close %s at most', wanted, today));
    elsif wanted > open_date then
        perform public.refuse('40911', format('Close %s first: it is still open.', open_date), jsonb_build_object(
            'current_state', open_date, 'allowed', jsonb_build_array(open_date)
        ));
    end if;
    report := fiscal.close_day(outlet, caller.actor, true);
    perform public.audit(caller, 'fiscal.day_closed', report.report_id, jsonb_build_object(
        'fiscal_number', report.fiscal_number, 'business_date', report.business_date
    ));
    answer := row(201, fiscal.report_resource(report.report_id), caller.rate);
    perform public.remember_answer(
        caller, 'POST /reports', close_business_day.idempotency_key, report.report_id, answer
    );
    return answer;
end
$$;
comment on function fiscal.close_business_day is
'Closes the business day an outlet is in, before its end or after. What is sealed later belongs to the next. 40921: it is closed; 40911: one before it is open; 42262: it has not begun.';

create function fiscal.refuse_closed(outlet fiscal.outlets, business_date date)
returns void
language plpgsql
stable
security definer -- callers may not read reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    report fiscal.reports;
begin
    select r.* into report
    from fiscal.reports as r
    where r.outlet_id = (refuse_closed.outlet).outlet_id and r.business_date = refuse_closed.business_date;
    if not found then
        perform public.refuse('40921', format('%s is over without documents: there is nothing to close.', refuse_closed.business_date));
    end if;
    perform public.refuse(
        '40921', format(
            '%s was closed with %s: read it at /functions/v1/reports/%s.', refuse_closed.business_date, report.fiscal_number,
            report.report_id
        ),
        jsonb_build_object('report_id', report.report_id)
    );
end
$$;
comment on function fiscal.refuse_closed is 'Says which report closed a business day.';

create function fiscal.report_resource(report_id text)
returns text
language plpgsql
stable
security definer -- callers may not read reports
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select format(
            '{"id":%s,"object":"report","type":"z","status":%s,"fiscal_number":%s,"outlet_id":%s,"business_date":%s,'
            '"sealed":%s,"report":%s,"closed_by":%s,"environment":%s,"created_at":%s}',
            to_json(r.report_id), to_json(case when s.fiscal_number is null then 'pending_signature' else 'signed' end),
            to_json(r.fiscal_number), to_json(r.outlet_id), to_json(r.business_date),
            case when s.fiscal_number is null then 'null' else json_build_object(
                'fiscal_authority_id', o.fiscal_authority_id, 'sealed_at', l.sealed_at, 'auth_code', s.auth_code,
                'signature', s.signature, 'signature_alg', s.signature_alg, 'key_id', s.key_id,
                'canonical_payload_hash', l.canonical_payload_hash, 'previous_hash', l.previous_hash,
                'ledger_hash', l.entry_hash
            )::text end,
            r.body, to_json(r.closed_by), to_json(r.environment), to_json(r.created_at)
        )
        from fiscal.reports as r
        inner join fiscal.outlets as o on o.outlet_id = r.outlet_id
        inner join fiscal.fiscal_ledger as l on l.fiscal_number = r.fiscal_number
        left join fiscal.signatures as s on s.fiscal_number = r.fiscal_number
        where r.report_id = report_resource.report_id
    );
end
$$;
comment on function fiscal.report_resource is
'A Z as the API shows it; report is the sealed text itself, and sealed is null until it is signed.';

create function fiscal.get_report(report_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    outlet_only text := fiscal.caller_outlet(caller);
begin
    if not exists (
        select from fiscal.reports as r
        where
            r.report_id = get_report.report_id and r.tenant_id = caller.tenant_id
            and r.environment = caller.environment and r.outlet_id = coalesce(outlet_only, r.outlet_id)
    ) then
        perform public.refuse('40401', format('There is no report %s here.', get_report.report_id));
    end if;
    return row(200, fiscal.report_resource(get_report.report_id), caller.rate);
end
$$;
comment on function fiscal.get_report is 'One Z of the caller''s; 40401 for anybody else''s and for another outlet''s.';

create function fiscal.list_reports(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    outlet_only text := fiscal.caller_outlet(caller);
    ids text[];
begin
    select array_agg(page.report_id order by page.report_id desc) into ids
    from (
        select r.report_id
        from fiscal.reports as r
        where
            r.tenant_id = caller.tenant_id and r.environment = caller.environment
            and r.outlet_id = coalesce(outlet_only, filters ->> 'outlet_id', r.outlet_id)
            and r.business_date >= coalesce((filters ->> 'from')::date, '-infinity')
            and r.business_date <= coalesce((filters ->> 'to')::date, 'infinity')
            and (list_reports.page_after is null or r.report_id < list_reports.page_after)
        order by r.report_id desc
        limit list_reports.page_size + 1
    ) as page;
    return row(200, format(
        '{"data":[%s],"pagination":%s}',
        (
            select string_agg(fiscal.report_resource(one.id), ',' order by one.place)
            from unnest(ids[1:list_reports.page_size]) with ordinality as one (id, place)
        ),
        json_build_object(
            'limit', list_reports.page_size,
            'has_more', coalesce(cardinality(ids), 0) > list_reports.page_size,
            'next_cursor', case when cardinality(ids) > list_reports.page_size then ids[list_reports.page_size] end
        )
    ), caller.rate);
end
$$;
comment on function fiscal.list_reports is 'One page of Z reports, newest first. filters: outlet_id, from, to (business dates).';

reset role;
