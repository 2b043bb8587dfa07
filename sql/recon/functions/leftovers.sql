-- What no rule matched: lines that are no transfer of ours, and questions for people.

set role stalela_owner;

create function recon.mark_lines(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write lines
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, statement_no bigint, line_hash bytea, type text, direction text, amount_minor bigint, currency text, value_date date, batch_ref text, reopened boolean)';
    insert into recon.marked_lines (line_id, mark, of_line_id, tenant_id, environment, run_id)
    select l.line_id, l.type, null, run.tenant_id, run.environment, run.run_id
    from pg_temp.open_lines as l
    where l.type in ('fee', 'internal', 'void')
    order by l.line_id;

    -- Exports overlap. A copy in another statement is the same money; the one that is matched, or else the first, counts.
    insert into recon.marked_lines (line_id, mark, of_line_id, tenant_id, environment, run_id)
    select l.line_id, 'seen_before', min(c.line_id), run.tenant_id, run.environment, run.run_id
    from pg_temp.open_lines as l
    cross join lateral (
        select h.line_id, h.statement_no, h.tenant_id, h.environment, h.rail
        from recon.statement_lines as h
        where h.line_hash = l.line_hash
        offset 0 -- alone: the planner, who knows no hashes yet, would rather read every line of the tenant
    ) as c
    left join recon.matches as m on m.line_id = c.line_id and m.share = 1
    where
        l.type in ('payment', 'return', 'batch')
        and c.statement_no <> l.statement_no
        and c.tenant_id = run.tenant_id and c.environment = run.environment and c.rail = run.rail
        and (m.line_id is not null or (not l.reopened and c.line_id < l.line_id))
    group by l.line_id
    order by l.line_id;

    insert into recon.marked_lines (line_id, mark, of_line_id, tenant_id, environment, run_id)
    select l.line_id, 'sum_of_lines', min(d.line_id), run.tenant_id, run.environment, run.run_id
    from pg_temp.open_lines as l
    inner join recon.statement_lines as d
        on
            d.tenant_id = run.tenant_id and d.environment = run.environment and d.rail = run.rail
            and d.batch_ref = l.batch_ref and d.currency = l.currency and d.type in ('payment', 'return')
            and d.value_date between l.value_date - 7 and l.value_date + 7
    where
        l.type = 'batch'
        and not exists (select from recon.marked_lines as k where k.line_id = l.line_id)
    group by l.line_id, l.amount_minor, l.direction
    having sum(case when d.direction = l.direction then d.amount_minor else -d.amount_minor end) = l.amount_minor
    order by l.line_id;

    delete from pg_temp.open_lines as l using recon.marked_lines as k where k.line_id = l.line_id;
end
$$;
comment on function recon.mark_lines is
'Takes out of the open lines what is no transfer: charges, moves between own accounts, voided lines, copies from an overlapping statement, totals of lines that stand beside them.';

create function recon.open_exceptions(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    takes_fees constant boolean := (run.rules).fee_bps > 0 or (run.rules).fee_fixed_minor > 0;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, line_no integer, type text, direction text, fee_minor bigint, gross_minor bigint, amount_minor bigint, currency text, value_date date, external_ref text, our_ref text, linked_ref text, acq_ref text, reopened boolean)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, state text, is_settled boolean, direction text, amount_minor bigint, currency text, rail_ref text, moved_at timestamptz, transfer_ref text, originator_ref text, account_ref text)';
    insert into recon.exceptions (
        exception_id, tenant_id, environment, rail, kind, business_date, line_id, transfer_id, amount_minor, currency,
        details, run_id
    )
    select
        public.new_id('exc'), run.tenant_id, run.environment, run.rail, why.kind, l.value_date, l.line_id,
        case when why.kind <> 'UNMATCHED_LINE' then coalesce(r.transfer_id, n.transfer_id) end,
        l.amount_minor, l.currency,
        jsonb_strip_nulls(jsonb_build_object(
            'receipt', l.external_ref, 'reference', l.our_ref, 'line', l.line_no, 'direction', l.direction,
            'booked_minor', coalesce(r.amount_minor, n.amount_minor), 'state', coalesce(r.state, n.state)
        )),
        run.run_id
    from pg_temp.open_lines as l
    -- The transfer that the rail's receipt names; at most one.
    left join lateral (
        select
            o.transfer_id, o.state, o.is_settled, o.amount_minor, o.direction, o.currency,
            exists (
                select from recon.matches as m
                where m.transfer_id = o.transfer_id and m.leg = case when o.direction = l.direction then 'settle' else 'return' end
            ) as is_matched
        from recon.our_side as o
        where
            o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
            and o.receipt = case when l.type = 'return' and l.linked_ref is not null then l.linked_ref else l.external_ref end
    ) as r on true
    -- Otherwise the one that a reference names, best first.
    left join (
        select distinct on (c.line_id) c.*
        from (
            select
                t.transfer_id, t.state, t.is_settled, t.amount_minor, x.line_id, t.moved_at,
                t.amount_minor = x.gross_minor as is_equal
            from pg_temp.open_lines as x
            cross join lateral (values (x.our_ref), ('rail ' || x.acq_ref), ('rail ' || x.external_ref)) as a (key)
            inner join (
                select o.*, k.key
                from pg_temp.open_transfers as o
                cross join lateral (
                    values (o.transfer_ref), (o.originator_ref), (o.account_ref), ('rail ' || o.rail_ref)
                ) as k (key)
            ) as t
                on t.key = a.key and t.direction = x.direction and t.currency = x.currency
        ) as c
        order by c.line_id, c.is_settled desc, c.is_equal desc, c.moved_at, c.transfer_id
    ) as n on n.line_id = l.line_id and r.transfer_id is null
    cross join lateral (
        select case
            when r.transfer_id is not null then case
                when r.is_matched then 'DUPLICATE_LINE'
                when not r.is_settled then 'STATE_CONFLICT'
                when r.amount_minor = l.gross_minor and r.currency = l.currency then 'STATE_CONFLICT'
                when (takes_fees or l.fee_minor > 0) and l.gross_minor < r.amount_minor then 'FEE_MISMATCH'
                else 'AMOUNT_MISMATCH'
            end
            when n.transfer_id is not null then case
                when n.amount_minor = l.gross_minor and not n.is_settled then 'STATE_CONFLICT'
                when n.amount_minor = l.gross_minor then 'UNMATCHED_LINE'
                when (takes_fees or l.fee_minor > 0) and l.gross_minor < n.amount_minor then 'FEE_MISMATCH'
                else 'AMOUNT_MISMATCH'
            end
            else 'UNMATCHED_LINE'
        end as kind
    ) as why
    where not l.reopened
    order by l.line_id;
end
$$;
comment on function recon.open_exceptions is
'Asks people about the lines that are left: a second line of a matched transfer, another amount or fee, a state that contradicts it, or nothing of ours that fits.';

create function recon.open_missing(run recon.run, days date[])
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    due date[] := recon.due_days(run, days);
begin
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, is_settled boolean, direction text, amount_minor bigint, currency text, receipt text, settled_at timestamptz)';
    insert into recon.exceptions (
        exception_id, tenant_id, environment, rail, kind, business_date, transfer_id, amount_minor, currency, details,
        run_id
    )
    select
        public.new_id('exc'), run.tenant_id, run.environment, run.rail, 'MISSING_LINE',
        (o.settled_at at time zone run.time_zone)::date, o.transfer_id, o.amount_minor, o.currency,
        jsonb_strip_nulls(jsonb_build_object('receipt', o.receipt, 'direction', o.direction, 'settled_at', o.settled_at)),
        run.run_id
    from pg_temp.open_transfers as o
    where
        o.is_settled
        and (o.settled_at at time zone (run.rules).time_zone)::date = any(due)
        and not exists (
            select from recon.exceptions as e
            where e.transfer_id = o.transfer_id and e.resolution is distinct from 'matched_later'
        )
    order by o.transfer_id;
end
$$;
comment on function recon.open_missing is
'What is left of the transfers that settled on a day whose statement is here, after the rail''s time: their lines are missing.';

create function recon.due_days(run recon.run, days date[])
returns date[]
language plpgsql
stable
security definer -- callers may not read statements
set search_path = ''
as $$
begin
    return array(
        select d.day
        from unnest(days) as d (day)
        where
            d.day + (run.rules).missing_after_days < run.today
            and exists (
                select from recon.statements as s
                where
                    s.tenant_id = run.tenant_id and s.environment = run.environment and s.rail = run.rail
                    and d.day between s.period_from and s.period_to
            )
        order by d.day
    );
end
$$;
comment on function recon.due_days is 'Those of these days of which a statement is here and whose lines should all have come by now.';

create function recon.close_matched_exceptions(run recon.run)
returns date[]
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    touched date[];
begin
    with closed as (
        update recon.exceptions as e
        set status = 'resolved', resolution = 'matched_later', resolved_at = now(), proposal = null
        where
            e.tenant_id = run.tenant_id and e.environment = run.environment and e.rail = run.rail
            and e.status <> 'resolved'
            and (
                exists (select from recon.matches as m where m.line_id = e.line_id and m.share = 1)
                or exists (select from recon.marked_lines as k where k.line_id = e.line_id)
                or (
                    e.line_id is null
                    and exists (select from recon.matches as m where m.transfer_id = e.transfer_id and m.leg = 'settle')
                )
            )
        returning e.business_date
    )
    select coalesce(array_agg(distinct c.business_date), '{}') into touched from closed as c;
    return touched;
end
$$;
comment on function recon.close_matched_exceptions is 'Ends the questions that this run answered; the days they were about.';

reset role;
