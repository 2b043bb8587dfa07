-- Sessions as people read them, and the task that opens them.

set role stalela_owner;

create function recon.session_resource(session recon.recon_sessions)
returns json
language plpgsql
stable
security definer -- callers may not read figures
set search_path = ''
as $$
begin
    return json_build_object(
        'id', session.session_id,
        'object', 'recon_session',
        'rail', session.rail,
        'business_date', session.business_date,
        'time_zone', session.time_zone,
        'status', session.status,
        'environment', session.environment,
        'figures', coalesce((
            select json_agg(
                json_build_object(
                    'currency', f.currency,
                    'lines', json_build_object(
                        'count', f.lines, 'matched', f.lines_matched, 'marked', f.lines_marked,
                        'exceptions', f.lines_excepted,
                        'in', public.format_amount(f.lines_in_minor::bigint, f.currency),
                        'out', public.format_amount(f.lines_out_minor::bigint, f.currency),
                        'unmatched', public.format_amount(f.lines_unmatched_minor::bigint, f.currency)
                    ),
                    'transfers', json_build_object(
                        'count', f.transfers, 'matched', f.transfers_matched, 'exceptions', f.transfers_excepted,
                        'awaiting', f.transfers_awaiting,
                        'in', public.format_amount(f.transfers_in_minor::bigint, f.currency),
                        'out', public.format_amount(f.transfers_out_minor::bigint, f.currency),
                        'unmatched', public.format_amount(f.transfers_unmatched_minor::bigint, f.currency)
                    )
                )
                order by f.currency
            )
            from recon.session_figures as f
            where f.session_id = (session_resource.session).session_id
        ), '[]'),
        'opened_at', session.opened_at,
        'finished_at', session.finished_at,
        'updated_at', session.updated_at
    );
end
$$;
comment on function recon.session_resource is 'The wire shape of a session with its figures per currency.';

create function recon.visible_session(session_id text)
returns recon.recon_sessions
language plpgsql
volatile
security definer -- callers may not read sessions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    session recon.recon_sessions;
begin
    select s.* into session
    from recon.recon_sessions as s
    where
        s.session_id = visible_session.session_id and s.tenant_id = caller.tenant_id
        and s.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no session %s here.', visible_session.session_id));
    end if;
    return session;
end
$$;
comment on function recon.visible_session is 'A session of the caller''s own tenant and environment; otherwise 40401.';

create function recon.list_sessions(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read sessions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    page json;
    next_cursor text;
begin
    with found as (
        select s
        from recon.recon_sessions as s
        where
            s.tenant_id = caller.tenant_id and s.environment = caller.environment
            and (not filters ? 'rail' or s.rail = filters ->> 'rail')
            and (not filters ? 'status' or s.status = filters ->> 'status')
            and (not filters ? 'from' or s.business_date >= (filters ->> 'from')::date)
            and (not filters ? 'to' or s.business_date <= (filters ->> 'to')::date)
            and (
                list_sessions.page_after is null
                or (s.business_date, s.session_id) < (
                    split_part(list_sessions.page_after, '.', 1)::date, split_part(list_sessions.page_after, '.', 2)
                )
            )
        order by s.business_date desc, s.session_id desc
        limit list_sessions.page_size + 1
    ), numbered as (
        select (f.s).business_date, (f.s).session_id, f.s, row_number() over (order by (f.s).business_date desc, (f.s).session_id desc) as n
        from found as f
    )
    select
        coalesce(json_agg(recon.session_resource(n.s) order by n.n) filter (where n.n <= list_sessions.page_size), '[]'),
        case when count(*) > list_sessions.page_size then (
            array_agg(n.business_date || '.' || n.session_id order by n.n)
        )[list_sessions.page_size] end
    into page, next_cursor
    from numbered as n;
    return public.reply(caller, 200, json_build_object(
        'data', page,
        'pagination', json_build_object(
            'limit', list_sessions.page_size, 'has_more', next_cursor is not null, 'next_cursor', next_cursor
        )
    ));
end
$$;
comment on function recon.list_sessions is
'One page of the caller''s sessions, latest day first. filters: rail, status, from, to (days). page_after: the cursor of the page before.';

create function recon.get_session(session_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read sessions
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('recon:read', 'read');
begin
    return public.reply(caller, 200, recon.session_resource(recon.visible_session(get_session.session_id)));
end
$$;
comment on function recon.get_session is 'One session with its figures.';

create function recon.session_report(session_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read lines
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    session recon.recon_sessions := recon.visible_session(session_report.session_id);
begin
    return public.reply(caller, 200, json_build_object(
        'object', 'recon_report',
        'organisation', (select t.name from public.tenants as t where t.tenant_id = session.tenant_id),
        'session', recon.session_resource(session),
        'statements', coalesce((
            select json_agg(recon.statement_resource(s, false) order by s.statement_no)
            from recon.statements as s
            where
                s.tenant_id = session.tenant_id and s.environment = session.environment and s.rail = session.rail
                and session.business_date between s.period_from and s.period_to
        ), '[]'),
        'rules', coalesce((
            select json_agg(
                json_build_object(
                    'rule', r.rule, 'currency', r.currency, 'lines', r.lines,
                    'amount', public.format_amount(r.minor::bigint, r.currency)
                )
                order by r.currency, r.rule
            )
            from (
                select m.rule, l.currency, count(*) as lines, sum(l.amount_minor) as minor
                from recon.statement_lines as l
                inner join recon.matches as m on m.line_id = l.line_id and m.share = 1
                where
                    l.tenant_id = session.tenant_id and l.environment = session.environment and l.rail = session.rail
                    and l.value_date = session.business_date
                group by m.rule, l.currency
            ) as r
        ), '[]'),
        'exceptions', coalesce((
            select json_agg(recon.exception_resource(e) order by e.kind, e.opened_at, e.exception_id)
            from (
                select x.*
                from recon.exceptions as x
                where
                    x.tenant_id = session.tenant_id and x.environment = session.environment and x.rail = session.rail
                    and x.business_date = session.business_date
                order by x.kind, x.opened_at, x.exception_id
                limit 10000
            ) as e
        ), '[]')
    ));
end
$$;
comment on function recon.session_report is
'Everything a session''s report says: figures, the statements of the day, what each rule matched, and its exceptions, at most 10,000 of them.';

create function recon.open_day(tenant_id text, environment text, rail text, day date)
returns void
language plpgsql
volatile
security definer -- callers may not write sessions
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into recon.recon_sessions (session_id, tenant_id, environment, rail, business_date, time_zone)
    values (
        public.new_id('rs'), open_day.tenant_id, open_day.environment, open_day.rail, open_day.day,
        recon.time_zone_of(open_day.tenant_id)
    )
    on conflict on constraint recon_sessions_tenant_id_environment_rail_business_date_key do nothing;
end
$$;
comment on function recon.open_day is 'Opens the session of a day, once.';

create function recon.daily()
returns integer
language plpgsql
volatile
security definer -- cron may not write sessions
set search_path = ''
as $$
#variable_conflict use_column
declare
    due record;
    done integer := 0;
begin
    -- Whose day has begun: each tenant's own, for every rail it has credentials of.
    for due in
        select c.tenant_id, c.environment, c.rail, z.today
        from rails.credentials as c
        inner join recon.rail_rules as r on r.rail = c.rail
        cross join lateral (select (now() at time zone recon.time_zone_of(c.tenant_id))::date as today) as z
        where not exists (
            select from recon.recon_sessions as s
            where
                s.tenant_id = c.tenant_id and s.environment = c.environment and s.rail = c.rail
                and s.business_date = z.today
        )
        order by c.tenant_id, c.environment, c.rail
        limit 1000
    loop
        perform recon.open_day(due.tenant_id, due.environment, due.rail, due.today);
        done := done + 1;
    end loop;

    -- A statement whose run was cut off, and days whose time is over.
    for due in
        select
            x.tenant_id, x.environment, x.rail,
            array_agg(x.day order by x.day) filter (where x.day is not null) as days
        from (
            select s.tenant_id, s.environment, s.rail, null::date as day
            from recon.statements as s
            where s.matched_at is null and s.imported_at < now() - interval '1 minute'
            union
            select s.tenant_id, s.environment, s.rail, s.business_date
            from recon.recon_sessions as s
            inner join recon.rail_rules as r on r.rail = s.rail
            cross join lateral (select (now() at time zone s.time_zone)::date as today) as z
            where
                s.status = 'open' and s.updated_at < now() - interval '1 hour'
                and s.business_date + r.missing_after_days < z.today and s.business_date > z.today - 35
        ) as x
        group by x.tenant_id, x.environment, x.rail
        order by x.tenant_id, x.environment, x.rail
        limit 20
    loop
        perform recon.match_lines(due.tenant_id, due.environment, due.rail, coalesce(due.days, '{}'));
        done := done + 1;
    end loop;
    return done;
end
$$;
comment on function recon.daily is
'Opens the session of each tenant''s day, matches what waits, and asks about what is missing after its time. A cron task; each call does a part and the next goes on.';

reset role;
