-- What nobody asked about: transfers that stand still, and whether promises of speed are kept.

set role stalela_owner;

create function messages.watch()
returns integer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform messages.watch_transfers();
    perform messages.sample_deliveries();
    return messages.watch_slos();
end
$$;
comment on function messages.watch is 'Raises and resolves alerts about what nobody reports by itself: stuck transfers, missed service levels. A cron task.';

create function messages.watch_transfers()
returns integer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    stuck record;
    before timestamptz := now() - make_interval(secs => public.setting('alerts.stuck_after_s')::integer);
    found_ integer := 0;
begin
    for stuck in
        select r.rail, count(t.transfer_id) as open, min(t.created_at) as since
        from rails.rails as r
        left join payments.transfers as t
            on t.rail = r.rail and t.state in ('INITIATED', 'SUBMITTED', 'ACCEPTED')
            and t.created_at <= before and t.review_reason is null
        group by r.rail
    loop
        if stuck.open = 0 then
            perform public.resolve_alert('transfers_stuck', stuck.rail, 'none is stuck any more');
        else
            perform public.raise_alert(
                'transfers_stuck', 'warning', stuck.rail, null, null,
                jsonb_build_object('transfers', stuck.open, 'oldest', stuck.since)
            );
            found_ := found_ + 1;
        end if;
    end loop;
    return found_;
end
$$;
comment on function messages.watch_transfers is
'One alert per rail while transfers stay open longer than alerts.stuck_after_s and wait for no person; resolved by itself.';

create function messages.watch_slos()
returns integer
language plpgsql
volatile
security definer -- callers may not read figures
set search_path = ''
as $$
#variable_conflict use_column
declare
    level messages.slos;
    least_cases integer := public.setting('alerts.slo_least')::integer;
    spell record;
    good bigint;
    total bigint;
    burn numeric;
    burning integer := 0;
    worst jsonb;
begin
    for level in select s.* from messages.slos as s order by s.slo loop
        worst := null;
        -- 2 % of a month's error budget within an hour, or 5 % within six (nucleus reference §19).
        for spell in select * from (values (1, 14.4), (6, 6.0)) as v (hours, most) loop
            execute format(
                'select good, total from %I.%I($1, $2)',
                split_part(level.routine, '.', 1), split_part(level.routine, '.', 2)
            ) into good, total using now() - make_interval(hours => spell.hours), level.target_s;
            continue when total < least_cases;
            burn := (total - good)::numeric / total / ((10000 - level.objective_bps) / 10000.0);
            if burn >= spell.most and worst is null then
                worst := jsonb_build_object(
                    'hours', spell.hours, 'burn', round(burn, 1), 'most', spell.most, 'good', good,
                    'total', total, 'what', level.description
                );
            end if;
        end loop;
        if worst is null then
            perform public.resolve_alert('slo_burning', level.slo, 'within its budget again');
        else
            perform public.raise_alert('slo_burning', 'critical', level.slo, null, null, worst);
            burning := burning + 1;
        end if;
    end loop;
    return burning;
end
$$;
comment on function messages.watch_slos is
'One alert per service level while its error budget of 30 days burns 14.4 times too fast over an hour, or 6 times over six; resolved by itself.';

create function messages.sample_deliveries()
returns void
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
begin
    insert into messages.slo_samples (destination, late_s)
    select d.destination, coalesce(
        greatest(0, extract(epoch from clock_timestamp() - payments.oldest_due(d.destination))), 0
    )::integer
    from public.destinations as d
    where d.enabled
    on conflict do nothing;
    delete from messages.slo_samples as s where s.sampled_at < now() - interval '1 day';
end
$$;
comment on function messages.sample_deliveries is 'Notes how late each destination is at this moment, and forgets what is older than a day.';

create function messages.delivery_figures(since timestamptz, target_s integer, out good bigint, out total bigint)
language plpgsql
stable
security definer -- callers may not read samples
set search_path = ''
as $$
begin
    select count(*) filter (where s.late_s <= target_s), count(*)
    into good, total
    from messages.slo_samples as s
    where s.sampled_at >= since;
end
$$;
comment on function messages.delivery_figures is 'Of the minutes of every destination since then: in how many its events were at most target_s late, and how many there were.';

create function messages.callback_figures(since timestamptz, target_s integer, out good bigint, out total bigint)
language plpgsql
stable
security definer -- callers may not read callbacks
set search_path = ''
as $$
begin
    -- Only what the rail itself sent about transfers of ours: a forger must not be able to spend our budget.
    select count(*) filter (where exists (
        select from rails.callback_dispositions as d
        where
            d.callback_id = c.callback_id and d.disposition <> 'failed'
            and d.decided_at <= c.received_at + make_interval(secs => target_s)
    )), count(*)
    into good, total
    from rails.callbacks as c
    where
        c.received_at >= since and c.received_at <= now() - make_interval(secs => target_s)
        and c.transfer_id is not null and c.source_trusted;
end
$$;
comment on function messages.callback_figures is 'Of the callbacks about our transfers since then: how many were concluded within target_s, and how many there were.';

create function messages.first_id(prefix text, instant timestamptz)
returns text
language sql
stable
set search_path = ''
as $$
    select prefix || '_' || string_agg(
        substr(
            '0123456789abcdefghjkmnpqrstvwxyz',
            ((extract(epoch from instant) * 1000)::bigint >> (45 - 5 * place) & 31)::integer + 1, 1
        ), '' order by place
    ) || repeat('0', 16)
    from generate_series(0, 9) as place;
$$;
comment on function messages.first_id is 'The smallest id of public.new_id from this millisecond on: its first ten characters are the time.';

create function messages.transfer_figures(since timestamptz, target_s integer, out good bigint, out total bigint)
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    select
        count(*) filter (
            where t.state in ('SETTLED', 'RETURNED', 'FAILED')
            and coalesce(t.settled_at, t.updated_at) <= t.submitted_at + make_interval(secs => target_s)
        ),
        count(*)
    into good, total
    from payments.transfers as t
    -- Ids are in the order of creation, so the key finds the recent ones.
    where t.transfer_id >= messages.first_id('tr', since) and t.submitted_at <= now() - make_interval(secs => target_s);
end
$$;
comment on function messages.transfer_figures is 'Of the transfers sent to a rail since then: how many ended within target_s, and how many there were.';

reset role;
