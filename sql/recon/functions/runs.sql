-- One run of the matching rules: set-based, in one transaction, with an assertion at its end.

set role stalela_owner;

create function recon.match_lines(tenant_id text, environment text, rail text, days date[] default '{}')
returns jsonb
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
set jit = off -- ruling out nested loops looks expensive to the planner, and compiling each plan is
as $$
#variable_conflict use_column
declare
    run recon.run;
    new_lines bigint;
    whole text;
    all_days date[];
    touched date[];
    counts jsonb;
begin
    perform recon.lock_rail(match_lines.tenant_id, match_lines.environment, match_lines.rail);
    run := recon.run_of(match_lines.tenant_id, match_lines.environment, match_lines.rail);
    run.run_id := nextval('recon.runs_run_id_seq');
    select coalesce(array_agg(s.statement_no order by s.statement_no), '{}'), coalesce(sum(s.lines), 0)
    into run.statement_nos, new_lines
    from recon.statements as s
    where
        s.tenant_id = match_lines.tenant_id and s.environment = match_lines.environment and s.rail = match_lines.rail
        and s.matched_at is null;
    -- Fresh lines have no statistics yet, and a million index look-ups cost more than one hash. What is left is few.
    whole := case when new_lines > 20000 then 'off' else 'on' end;
    perform set_config('enable_nestloop', whole, true);

    all_days := recon.days_of(run);
    select coalesce(array_agg(distinct d.day order by d.day), '{}') into all_days
    from unnest(all_days || match_lines.days) as d (day);
    perform recon.match_receipts(run);
    perform recon.open_what_is_left(run, all_days);
    perform set_config('enable_nestloop', 'on', true);
    perform recon.mark_lines(run);
    perform recon.match_references(run);
    perform recon.match_returns(run);
    perform recon.match_party_and_day(run);
    perform recon.match_batches(run);
    perform recon.open_exceptions(run);
    perform recon.open_missing(run, all_days);
    touched := recon.close_matched_exceptions(run);
    update recon.statements as s set matched_at = now() where s.statement_no = any(run.statement_nos);
    select coalesce(array_agg(distinct d.day order by d.day), '{}') into all_days
    from unnest(all_days || touched) as d (day);
    perform set_config('enable_nestloop', whole, true);
    counts := recon.count_sessions(run, all_days) || jsonb_build_object('exceptions', coalesce((
        select jsonb_object_agg(k.kind, k.number)
        from (
            select e.kind, count(*) as number
            from recon.exceptions as e
            where
                e.tenant_id = match_lines.tenant_id and e.environment = match_lines.environment
                and e.rail = match_lines.rail and e.business_date = any(all_days) and e.run_id = run.run_id
            group by e.kind
        ) as k
    ), '{}'));
    perform recon.alert_about_days(run, all_days);

    insert into recon.runs (run_id, tenant_id, environment, rail, finished_at, counts)
    overriding system value
    values (run.run_id, run.tenant_id, run.environment, run.rail, clock_timestamp(), counts);
    drop table pg_temp.open_lines, pg_temp.open_transfers;
    perform set_config('enable_nestloop', 'on', true);
    return counts;
end
$$;
comment on function recon.match_lines is
'Matches every line that waits with our transfers, rule by rule, first hit wins, and opens exceptions for the rest. days: counted anew besides those of the lines. All or nothing: it raises when a line or a due transfer is not accounted for exactly once.';

create function recon.lock_rail(tenant_id text, environment text, rail text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(
        hashtext('recon.lock_rail'), hashtext(concat_ws('|', tenant_id, environment, rail))
    );
end
$$;
comment on function recon.lock_rail is 'One run or decision of a tenant''s rail at a time: two would pair the same transfer. Until the transaction ends.';

create function recon.run_of(tenant_id text, environment text, rail text)
returns recon.run
language plpgsql
stable
security definer -- callers may not read rules
set search_path = ''
as $$
#variable_conflict use_column
declare
    run recon.run;
begin
    select r into strict run.rules from recon.rail_rules as r where r.rail = run_of.rail;
    run.tenant_id := run_of.tenant_id;
    run.environment := run_of.environment;
    run.rail := run_of.rail;
    run.statement_nos := '{}';
    run.time_zone := recon.time_zone_of(run_of.tenant_id);
    run.today := (now() at time zone run.time_zone)::date;
    return run;
end
$$;
comment on function recon.run_of is 'The rules, the zone and the day of a tenant''s rail, without a run number and without statements.';

create function recon.open_what_is_left(run recon.run, days date[])
returns void
language plpgsql
volatile
security definer -- callers may not read lines
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    first_day date;
    last_day date;
    zone constant text := (run.rules).time_zone;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, statement_no bigint, line_no integer, line_hash bytea, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, value_date date, occurred_at timestamptz, external_ref text, our_ref text, linked_ref text, batch_ref text, acq_ref text, auth_code text, party_hash text, reopened boolean)';
    create temp table open_lines on commit drop as
    select
        l.line_id, l.statement_no, l.line_no, l.line_hash, l.type, l.direction, l.amount_minor, l.fee_minor,
        l.amount_minor + l.fee_minor as gross_minor, l.currency, l.value_date, l.occurred_at, l.external_ref,
        upper(regexp_replace(l.our_ref, '^.*:', '')) as our_ref, l.linked_ref, l.batch_ref, l.acq_ref, l.auth_code,
        l.party_hash, false as reopened
    from recon.statement_lines as l
    where
        l.statement_no = any(run.statement_nos)
        and not exists (select from recon.matches as m where m.line_id = l.line_id);
    -- What nothing fitted before may fit now: its transfer settled, or a person corrected it.
    insert into pg_temp.open_lines
    select
        l.line_id, l.statement_no, l.line_no, l.line_hash, l.type, l.direction, l.amount_minor, l.fee_minor,
        l.amount_minor + l.fee_minor, l.currency, l.value_date, l.occurred_at, l.external_ref,
        upper(regexp_replace(l.our_ref, '^.*:', '')), l.linked_ref, l.batch_ref, l.acq_ref, l.auth_code,
        l.party_hash, true
    from recon.exceptions as e
    inner join recon.statement_lines as l on l.line_id = e.line_id
    where
        e.tenant_id = run.tenant_id and e.environment = run.environment and e.rail = run.rail
        and e.status = 'open' and e.kind in ('UNMATCHED_LINE', 'STATE_CONFLICT')
        and e.opened_at > now() - interval '35 days';
    analyze pg_temp.open_lines;

    select min(d.day) - 4, max(d.day) + 4 into first_day, last_day
    from (select l.value_date as day from pg_temp.open_lines as l union all select unnest(days)) as d;
    create temp table open_transfers on commit drop as
    select
        o.transfer_id, o.state, o.is_settled, o.direction, o.amount_minor,
        o.amount_minor - (
            round(o.amount_minor * (run.rules).fee_bps / 10000.0)::bigint + (run.rules).fee_fixed_minor
        ) as net_minor,
        o.currency, o.receipt, o.rail_ref, o.linked_ref, o.party_hash, o.batch_ref,
        upper(o.transfer_id) as transfer_ref,
        upper(right(o.transfer_id, 20)) as originator_ref,
        upper(right(o.payment_intent_id, 12)) as account_ref,
        o.settled_at,
        coalesce(o.settled_at, o.created_at) as moved_at,
        (coalesce(o.settled_at, o.created_at) at time zone zone)::date as moved_on
    from recon.our_side as o
    where
        o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
        and o.is_settled
        and o.settled_at >= first_day::timestamp at time zone zone
        and o.settled_at < last_day::timestamp at time zone zone
        and not exists (
            select from recon.matches as m where m.transfer_id = o.transfer_id and m.leg = 'settle'
        )
    union all
    select
        o.transfer_id, o.state, o.is_settled, o.direction, o.amount_minor, o.amount_minor, o.currency, o.receipt,
        o.rail_ref, o.linked_ref, o.party_hash, o.batch_ref, upper(o.transfer_id), upper(right(o.transfer_id, 20)),
        upper(right(o.payment_intent_id, 12)), o.settled_at, o.created_at, (o.created_at at time zone zone)::date
    from recon.our_side as o
    where
        o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
        and not o.is_settled
        and o.created_at >= first_day::timestamp at time zone zone
        and o.created_at < last_day::timestamp at time zone zone;
    analyze pg_temp.open_transfers;
end
$$;
comment on function recon.open_what_is_left is
'Makes the two open sets of a run: lines that no receipt matched, with those of open exceptions, and transfers of their days and of the given ones that have no line. net_minor is what a rail that keeps its fee pays out.';

create function recon.days_of(run recon.run)
returns date[]
language plpgsql
stable
security definer -- callers may not read statements
set search_path = ''
as $$
begin
    return array(
        select distinct d.day::date
        from recon.statements as s
        cross join lateral generate_series(s.period_from, s.period_to, interval '1 day') as d (day)
        where s.statement_no = any(run.statement_nos)
        union
        select l.value_date from recon.statement_lines as l where l.statement_no = any(run.statement_nos)
        order by 1
    );
end
$$;
comment on function recon.days_of is 'The business days that the statements of a run are about: their periods, and the days of their lines.';

reset role;
