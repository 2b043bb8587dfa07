-- The figures of a day, and the assertion that nothing is left out or counted twice.

set role stalela_owner;

create function recon.count_sessions(run recon.run, days date[])
returns jsonb
language plpgsql
volatile
security definer -- callers may not write sessions
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
set enable_sort = off -- fresh lines have no statistics: the planner would sort a million rows into thirty groups
as $$
#variable_conflict use_column
declare
    first_at timestamptz := (days[1])::timestamp at time zone run.time_zone;
    last_at timestamptz := (days[cardinality(days)] + 1)::timestamp at time zone run.time_zone;
    due date[] := recon.due_days(run, days);
    astray bigint;
    counts jsonb;
begin
    perform 'pragma:table: pg_temp.counted(side text, day date, currency text, direction text, place text, rows bigint, minor numeric, fee_minor numeric, astray bigint)';
    if cardinality(days) = 0 then
        return '{}'::jsonb;
    end if;
    insert into recon.recon_sessions (session_id, tenant_id, environment, rail, business_date, time_zone)
    select public.new_id('rs'), run.tenant_id, run.environment, run.rail, d.day, run.time_zone
    from unnest(days) as d (day)
    order by d.day
    on conflict (tenant_id, environment, rail, business_date) do nothing;

    create temp table counted on commit drop as
    select
        'lines' as side, p.day, p.currency, p.direction, p.place, count(*) as rows, sum(p.amount_minor) as minor,
        sum(p.fee_minor) as fee_minor,
        -- One place each, and a share that is exactly its amount.
        count(*) filter (where p.places <> 1 or not p.is_exact) as astray
    from (
        select
            l.value_date as day, l.currency, l.direction, l.amount_minor,
            coalesce(m.rule, case when x.is_marked then (
                select k.mark from recon.marked_lines as k where k.line_id = l.line_id
            ) end, 'excepted') as place,
            coalesce(m.fee_minor, 0) as fee_minor,
            (m.line_id is not null)::integer + x.is_marked::integer + x.is_excepted::integer as places,
            m.line_id is null or m.rule in ('batch', 'person') or m.amount_minor = l.amount_minor as is_exact
        from recon.statement_lines as l
        left join recon.matches as m on m.line_id = l.line_id and m.share = 1
        -- As sets of the few, not as joins: without statistics the planner would hash the million for each.
        cross join lateral (
            select
                l.line_id in (
                    select k.line_id from recon.marked_lines as k
                    where k.tenant_id = run.tenant_id and k.environment = run.environment
                ) as is_marked,
                l.line_id in (
                    select e.line_id from recon.exceptions as e
                    where
                        e.tenant_id = run.tenant_id and e.environment = run.environment and e.rail = run.rail
                        and e.line_id is not null
                        and (e.status <> 'resolved' or e.resolution not in ('assign', 'raise_return', 'adjust', 'matched_later'))
                ) as is_excepted
        ) as x
        where
            l.tenant_id = run.tenant_id and l.environment = run.environment and l.rail = run.rail
            and l.value_date = any(days)
    ) as p
    group by p.day, p.currency, p.direction, p.place;

    insert into pg_temp.counted
    select
        'transfers', p.day, p.currency, p.direction, p.place, count(*), sum(p.amount_minor), 0,
        count(*) filter (where not p.is_exact or p.is_late)
    from (
        select
            (o.settled_at at time zone run.time_zone)::date as day, o.currency, o.direction, o.amount_minor,
            case
                when m.transfer_id is not null then 'matched'
                -- A decided question about a matched transfer is history.
                when e.transfer_id is not null then 'excepted'
                else 'awaiting'
            end as place,
            -- The day where the rail is, which costs as much as the rest, is asked of the few that wait.
            m.transfer_id is null and e.transfer_id is null
            and (o.settled_at at time zone (run.rules).time_zone)::date = any(due) as is_late,
            m.transfer_id is null or m.rule in ('batch', 'person') or m.amount_minor + m.fee_minor = o.amount_minor as is_exact
        from recon.our_side as o
        left join recon.matches as m on m.transfer_id = o.transfer_id and m.leg = 'settle' and m.part = 1
        left join (
            select distinct x.transfer_id
            from recon.exceptions as x
            where
                x.tenant_id = run.tenant_id and x.environment = run.environment and x.rail = run.rail
                and x.transfer_id is not null and x.resolution is distinct from 'matched_later'
        ) as e on e.transfer_id = o.transfer_id
        where
            o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
            and o.settled_at >= first_at and o.settled_at < last_at
    ) as p
    where p.day = any(days)
    group by p.day, p.currency, p.direction, p.place;

    select coalesce(sum(c.astray), 0)::bigint into astray from pg_temp.counted as c;
    if astray > 0 then
        raise exception 'reconciliation of % %: % lines or transfers are not accounted for exactly once',
            run.tenant_id, run.rail, astray;
    end if;

    insert into recon.session_figures as f (
        session_id, currency, tenant_id, environment, lines, lines_matched, lines_marked, lines_excepted,
        lines_in_minor, lines_out_minor, lines_unmatched_minor, transfers, transfers_matched, transfers_excepted,
        transfers_awaiting, transfers_in_minor, transfers_out_minor, transfers_unmatched_minor
    )
    select
        s.session_id, c.currency, run.tenant_id, run.environment,
        coalesce(sum(c.rows) filter (where c.side = 'lines'), 0),
        coalesce(sum(c.rows) filter (where c.place in ('rail_reference', 'our_reference', 'party_and_day', 'batch', 'person')), 0),
        coalesce(sum(c.rows) filter (where c.place in ('seen_before', 'sum_of_lines', 'fee', 'internal', 'void')), 0),
        coalesce(sum(c.rows) filter (where c.side = 'lines' and c.place = 'excepted'), 0),
        coalesce(sum(c.minor) filter (where c.side = 'lines' and c.direction = 'in'), 0),
        coalesce(sum(c.minor) filter (where c.side = 'lines' and c.direction = 'out'), 0),
        coalesce(sum(c.minor) filter (where c.side = 'lines' and c.place = 'excepted'), 0),
        coalesce(sum(c.rows) filter (where c.side = 'transfers'), 0),
        coalesce(sum(c.rows) filter (where c.place = 'matched'), 0),
        coalesce(sum(c.rows) filter (where c.side = 'transfers' and c.place = 'excepted'), 0),
        coalesce(sum(c.rows) filter (where c.place = 'awaiting'), 0),
        coalesce(sum(c.minor) filter (where c.side = 'transfers' and c.direction = 'in'), 0),
        coalesce(sum(c.minor) filter (where c.side = 'transfers' and c.direction = 'out'), 0),
        coalesce(sum(c.minor) filter (where c.side = 'transfers' and c.place <> 'matched'), 0)
    from pg_temp.counted as c
    inner join recon.recon_sessions as s
        on
            s.tenant_id = run.tenant_id and s.environment = run.environment and s.rail = run.rail
            and s.business_date = c.day
    group by s.session_id, c.currency
    on conflict on constraint session_figures_pkey do update
    set
        lines = excluded.lines,
        lines_matched = excluded.lines_matched,
        lines_marked = excluded.lines_marked,
        lines_excepted = excluded.lines_excepted,
        lines_in_minor = excluded.lines_in_minor,
        lines_out_minor = excluded.lines_out_minor,
        lines_unmatched_minor = excluded.lines_unmatched_minor,
        transfers = excluded.transfers,
        transfers_matched = excluded.transfers_matched,
        transfers_excepted = excluded.transfers_excepted,
        transfers_awaiting = excluded.transfers_awaiting,
        transfers_in_minor = excluded.transfers_in_minor,
        transfers_out_minor = excluded.transfers_out_minor,
        transfers_unmatched_minor = excluded.transfers_unmatched_minor;
    perform recon.settle_sessions(run, days);
    perform recon.note_clearings(run);

    select jsonb_build_object(
        'lines', coalesce(sum(c.rows) filter (where c.side = 'lines'), 0),
        'transfers', coalesce(sum(c.rows) filter (where c.side = 'transfers'), 0),
        'awaiting', coalesce(sum(c.rows) filter (where c.place = 'awaiting'), 0),
        'marked', coalesce(sum(c.rows) filter (where c.place in ('seen_before', 'sum_of_lines', 'fee', 'internal', 'void')), 0),
        'matched', (
            select jsonb_object_agg(r.rule, (
                select coalesce(sum(n.rows), 0) from pg_temp.counted as n where n.side = 'lines' and n.place = r.rule
            ))
            from unnest('{rail_reference,our_reference,party_and_day,batch,person}'::text[]) as r (rule)
        )
    ) into counts
    from pg_temp.counted as c;
    drop table pg_temp.counted;
    return counts;
end
$$;
comment on function recon.count_sessions is
'Counts these days anew, opening their sessions, and raises when a line, or a settled transfer whose line is due, is not in exactly one place or not for its exact amount. Days ascending.';

create function recon.note_clearings(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write clearings
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform 'pragma:table: pg_temp.counted(side text, day date, currency text, direction text, place text, minor numeric, fee_minor numeric)';
    insert into recon.clearings (
        session_id, currency, direction, number, tenant_id, environment, rail, amount_minor, fee_minor, occurred_at
    )
    select
        d.session_id, d.currency, d.direction, d.number + 1, run.tenant_id, run.environment, run.rail,
        d.amount_minor, d.fee_minor, (d.day + time '12:00') at time zone run.time_zone
    from (
        select
            s.session_id, p.day, p.currency, p.direction, b.number,
            p.amount_minor - b.amount_minor as amount_minor, p.fee_minor - b.fee_minor as fee_minor
        from (
            select
                c.day, c.currency, c.direction,
                -- What we had booked, and what the rail kept of it or took on top.
                coalesce(sum(c.minor + c.fee_minor) filter (where c.place <> 'fee'), 0)::bigint as amount_minor,
                coalesce(sum(case c.direction when 'in' then c.fee_minor else -c.fee_minor end), 0)::bigint
                + coalesce(sum(c.minor) filter (where c.place = 'fee'), 0)::bigint as fee_minor
            from pg_temp.counted as c
            where
                c.side = 'lines'
                and c.place in ('rail_reference', 'our_reference', 'party_and_day', 'batch', 'person', 'fee')
            group by c.day, c.currency, c.direction
        ) as p
        inner join recon.recon_sessions as s
            on
                s.tenant_id = run.tenant_id and s.environment = run.environment and s.rail = run.rail
                and s.business_date = p.day
        cross join lateral (
            select
                coalesce(max(x.number), 0) as number, coalesce(sum(x.amount_minor), 0)::bigint as amount_minor,
                coalesce(sum(x.fee_minor), 0)::bigint as fee_minor
            from recon.clearings as x
            where x.session_id = s.session_id and x.currency = p.currency and x.direction = p.direction
        ) as b
    ) as d
    where d.amount_minor <> 0 or d.fee_minor <> 0
    order by d.session_id, d.currency, d.direction;
end
$$;
comment on function recon.note_clearings is
'Writes what each counted day proves beyond what was noted before, for the ledger: so counting again clears nothing twice.';

create function recon.settle_sessions(run recon.run, days date[])
returns void
language plpgsql
volatile
security definer -- callers may not write sessions
set search_path = ''
as $$
#variable_conflict use_column
begin
    update recon.recon_sessions as s
    set status = x.status, finished_at = case when x.status = 'open' then null else now() end, updated_at = now()
    from (
        select
            n.session_id,
            case
                when exists (
                    select from recon.exceptions as e
                    where
                        e.tenant_id = n.tenant_id and e.environment = n.environment and e.rail = n.rail
                        and e.business_date = n.business_date and e.status <> 'resolved'
                ) then 'exceptions'
                when
                    n.business_date >= run.today
                    or exists (
                        select from recon.session_figures as f
                        where f.session_id = n.session_id and f.transfers_awaiting > 0
                    )
                    or (
                        n.business_date + (run.rules).missing_after_days >= run.today
                        and not exists (
                            select from recon.statements as t
                            where
                                t.tenant_id = n.tenant_id and t.environment = n.environment and t.rail = n.rail
                                and n.business_date between t.period_from and t.period_to
                        )
                    )
                    then 'open'
                else 'matched'
            end as status
        from recon.recon_sessions as n
        where
            n.tenant_id = run.tenant_id and n.environment = run.environment and n.rail = run.rail
            and n.business_date = any(days)
    ) as x
    where s.session_id = x.session_id;
end
$$;
comment on function recon.settle_sessions is 'Says of each of these days whether it waits for people, for a statement, or is done.';

create function recon.alert_about_days(run recon.run, days date[])
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    late record;
begin
    for late in
        select
            s.session_id, s.business_date,
            (
                select count(*) from recon.exceptions as e
                where
                    e.tenant_id = s.tenant_id and e.environment = s.environment and e.rail = s.rail
                    and e.business_date = s.business_date and e.kind = 'MISSING_LINE' and e.status <> 'resolved'
            ) as missing,
            (
                select coalesce(sum(f.transfers_awaiting), 0) from recon.session_figures as f
                where f.session_id = s.session_id
            ) as awaiting
        from recon.recon_sessions as s
        where
            s.tenant_id = run.tenant_id and s.environment = run.environment and s.rail = run.rail
            and s.business_date = any(days)
            and s.business_date + (run.rules).missing_after_days < run.today
        order by s.business_date
    loop
        if late.missing > 0 then
            perform public.raise_alert(
                'recon_missing_lines', 'warning', late.session_id, run.tenant_id, run.environment,
                jsonb_build_object('rail', run.rail, 'day', late.business_date, 'transfers', late.missing)
            );
        else
            perform public.resolve_alert('recon_missing_lines', late.session_id, 'every line is there');
        end if;
        if late.awaiting > 0 then
            perform public.raise_alert(
                'recon_statement_missing', 'warning', late.session_id, run.tenant_id, run.environment,
                jsonb_build_object('rail', run.rail, 'day', late.business_date, 'transfers', late.awaiting)
            );
        else
            perform public.resolve_alert('recon_statement_missing', late.session_id, 'the statement came');
        end if;
    end loop;
end
$$;
comment on function recon.alert_about_days is
'Alerts when settled transfers have no line after the rail''s time, or their day no statement at all; takes the alerts back when they do.';

reset role;
