-- Which rail a transfer takes, and why. Deterministic: the same facts give the same order.

set role stalela_owner;

create type directory.choice as (rail text, score numeric, reason text, candidates jsonb, version bigint);
comment on type directory.choice is 'The rail of a transfer, its score, why, and every candidate in order; the directory''s version.';

create function directory.rank(candidates jsonb, policy jsonb, hints text[])
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
    -- The dimension asked for weighs most, then those named as fallbacks, then whatever is left.
    dimensions text[] := array(
        select d.dimension
        from unnest(
            array[rank.policy ->> 'optimize_for']
            || array(select jsonb_array_elements_text(coalesce(rank.policy -> 'fallbacks', '[]')))
            || '{cost,speed,reliability}'::text[]
        ) with ordinality as d (dimension, place)
        where d.dimension in ('cost', 'speed', 'reliability')
        group by d.dimension
        order by min(d.place)
    );
begin
    return (
        with facts as (
            select
                c.value as candidate, c.value ->> 'rail' as rail,
                (c.value ->> 'cost_minor')::numeric as cost, (c.value ->> 'latency_ms')::numeric as speed,
                (c.value ->> 'failure_bps')::numeric as reliability,
                coalesce(array_position(rank.hints, c.value ->> 'rail'), 1000) as hint,
                (c.value ->> 'priority')::integer as priority
            from jsonb_array_elements(rank.candidates) as c (value)
        ),
        -- Of all three, less is better: the least is 1, the most 0; all equal are 1.
        normal as (
            select
                f.*,
                coalesce((max(f.cost) over all_of_them - f.cost)
                    / nullif(max(f.cost) over all_of_them - min(f.cost) over all_of_them, 0), 1) as n_cost,
                coalesce((max(f.speed) over all_of_them - f.speed)
                    / nullif(max(f.speed) over all_of_them - min(f.speed) over all_of_them, 0), 1) as n_speed,
                coalesce((max(f.reliability) over all_of_them - f.reliability)
                    / nullif(max(f.reliability) over all_of_them - min(f.reliability) over all_of_them, 0), 1) as n_reliability
            from facts as f
            window all_of_them as ()
        ),
        scored as (
            select
                n.*,
                case when rank.policy is not null then round(least(1, (
                    0.60 * directory.of_dimension(dimensions[1], n.n_cost, n.n_speed, n.n_reliability)
                    + 0.25 * directory.of_dimension(dimensions[2], n.n_cost, n.n_speed, n.n_reliability)
                    + 0.15 * directory.of_dimension(dimensions[3], n.n_cost, n.n_speed, n.n_reliability)
                    + case when coalesce(rank.policy -> 'preferred_methods', '[]') ? n.rail then 0.10 else 0 end
                ) * case when n.candidate ->> 'health' = 'deprioritised' then 0.5 else 1 end), 6) end as score
            from normal as n
        )
        select coalesce(jsonb_agg(
            s.candidate || jsonb_build_object('score', s.score::text)
            -- Without a policy the directory's own order holds, after what the caller prefers.
            order by s.score desc nulls last, s.hint, s.priority, s.rail
        ), '[]')
        from scored as s
    );
end
$$;
comment on function directory.rank is
'Orders candidates {rail, cost_minor, latency_ms, failure_bps, health, priority}: 0.60 of the dimension asked for, 0.25 and 0.15 of the others, 0.10 if preferred, half if deprioritised, 1 at most. Ties: hints, priority, name. Scores are text, to six decimals.';

create function directory.of_dimension(dimension text, cost numeric, speed numeric, reliability numeric)
returns numeric
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case dimension when 'cost' then cost when 'speed' then speed else reliability end;
end
$$;
comment on function directory.of_dimension is 'One of three normalised facts, by name.';

create function directory.next_opening(rail text, at_time timestamptz)
returns timestamptz
language plpgsql
stable
security definer -- callers may not read windows
set search_path = ''
as $$
#variable_conflict use_column
declare
    next_at timestamptz;
begin
    if not exists (select from directory.windows as w where w.rail = next_opening.rail) then
        return next_opening.at_time;
    end if;
    -- Of the next three weeks, which no row of holidays is longer than.
    select min(greatest(o.opens_at, next_opening.at_time)) into next_at
    from (
        select
            (d.day + w.opens) at time zone w.timezone as opens_at,
            (d.day + w.closes) at time zone w.timezone as closes_at
        from directory.windows as w
        cross join lateral (
            select (next_opening.at_time at time zone w.timezone)::date + n as day from generate_series(0, 21) as n
        ) as d
        where
            w.rail = next_opening.rail and extract(isodow from d.day) = w.weekday
            and not exists (
                select from directory.calendars as c where c.calendar = w.calendar and c.day = d.day
            )
    ) as o
    where o.closes_at > next_opening.at_time;
    return next_at;
end
$$;
comment on function directory.next_opening is
'When a rail takes orders from a moment on: that moment itself while it is open; null when it does not within three weeks.';

create function directory.resolve(alias_type text, alias text, at_time timestamptz)
returns setof directory.entries
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
as $$
#variable_conflict use_column
declare
    kind directory.alias_types;
begin
    select t.* into kind from directory.alias_types as t where t.alias_type = resolve.alias_type;
    return query
    select e.*
    from directory.entries as e
    inner join directory.institutions as i on i.institution_id = e.institution_id and i.status = 'active'
    where
        e.alias_type = resolve.alias_type
        and e.effective_from <= resolve.at_time and (e.effective_to is null or e.effective_to > resolve.at_time)
        and e.alias = (
            select n.alias
            from directory.entries as n
            where
                n.alias_type = resolve.alias_type
                and n.effective_from <= resolve.at_time
                and (n.effective_to is null or n.effective_to > resolve.at_time)
                and n.alias = any(case
                    when kind.matching = 'exact' then array[resolve.alias]
                    else array(select left(resolve.alias, l) from generate_series(1, length(resolve.alias)) as l)
                end)
            order by length(n.alias) desc
            limit 1
        );
end
$$;
comment on function directory.resolve is 'The entries of an alias in force at a moment; of prefixes the longest that fits.';

create function directory.candidates_of(
    tenant_id text, environment text, intent text, amount_minor bigint, currency text, hints text[], policy jsonb,
    reached text[]
)
returns jsonb
language plpgsql
stable
security definer -- callers may not read rails and credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    way text := case candidates_of.intent when 'PUSH' then 'out' else 'in' end;
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'rail', r.rail,
            'cost_minor', ceil(candidates_of.amount_minor * (coalesce(e.bps, 0) + f.fx_spread_bps) / 10000.0)
                + coalesce(e.fixed_minor, 0),
            'latency_ms', f.latency_ms, 'failure_bps', f.failure_bps, 'health', f.health, 'priority', f.priority,
            'excluded', case
                when not r.enabled then 'disabled'
                when f.health = 'blocked' then 'unhealthy'
                when coalesce(candidates_of.policy -> 'excluded_rails', '[]') ? r.rail then 'policy'
                when not candidates_of.intent = any(r.intents) then 'intent'
                when not candidates_of.currency = any(r.currencies) then 'currency'
                when
                    way = 'out'
                    and candidates_of.amount_minor not between r.payout_min_minor and r.payout_max_minor then 'amount'
                when
                    way = 'in'
                    and candidates_of.amount_minor not between r.min_minor and r.max_minor then 'amount'
                when not exists (
                    select from rails.credentials as c
                    where
                        c.tenant_id = candidates_of.tenant_id and c.environment = candidates_of.environment
                        and c.rail = r.rail
                ) then 'credentials'
                -- A number keeps its prefix when it changes its operator: who names the rail knows better.
                when
                    candidates_of.reached is not null and not r.rail = any(candidates_of.reached)
                    and not coalesce(r.rail = any(candidates_of.hints), false) then 'not_reached'
                when directory.next_opening(r.rail, now()) is distinct from now() then 'closed'
            end
        ) order by r.rail), '[]')
        from rails.rails as r
        inner join directory.rail_facts as f on f.rail = r.rail
        left join directory.fees as e
            on e.rail = r.rail and e.direction = way and e.currency = candidates_of.currency
            and e.effective_from <= now() and (e.effective_to is null or e.effective_to > now())
    );
end
$$;
comment on function directory.candidates_of is
'Every rail with its facts for this transfer, and the first rule that excludes it. reached: the rails of the alias, null when nobody looked.';

create function directory.choose(
    tenant_id text, environment text, intent text, amount_minor bigint, currency text, hints text[], alias_type text,
    alias text, policy jsonb
)
returns directory.choice
language plpgsql
stable
security definer -- callers may not read the directory
set search_path = ''
as $$
#variable_conflict use_column
declare
    reached text[];
    looked_at jsonb;
    ranked jsonb;
    left_out jsonb;
    opens_at timestamptz;
begin
    if choose.alias is not null then
        select coalesce(array_agg(distinct e.rail) filter (where e.rail is not null), '{}') into reached
        from directory.resolve(choose.alias_type, choose.alias, now()) as e;
    end if;
    looked_at := directory.candidates_of(
        choose.tenant_id, choose.environment, choose.intent, choose.amount_minor, choose.currency, choose.hints,
        choose.policy, reached
    );
    select
        directory.rank(coalesce(jsonb_agg(c.value - 'excluded') filter (where c.value ->> 'excluded' is null), '[]'),
            choose.policy, choose.hints),
        coalesce(jsonb_agg(c.value order by c.value ->> 'rail') filter (where c.value ->> 'excluded' is not null), '[]')
    into ranked, left_out
    from jsonb_array_elements(looked_at) as c (value);

    if jsonb_array_length(ranked) = 0 then
        select min(directory.next_opening(c.value ->> 'rail', now())) into opens_at
        from jsonb_array_elements(left_out) as c (value)
        where c.value ->> 'excluded' = 'closed';
        if opens_at is not null then
            perform public.refuse('50201', format('The rail is closed until %s.', to_char(
                opens_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
            )), jsonb_build_object('retry_after', ceil(extract(epoch from opens_at - now()))::integer));
        end if;
        perform public.refuse('42202', 'No rail reaches this.', jsonb_build_object('candidates', (
            select coalesce(jsonb_agg(jsonb_build_object('rail', c.value -> 'rail', 'excluded', c.value -> 'excluded')), '[]')
            from jsonb_array_elements(left_out) as c (value)
        )));
    end if;
    return row(
        ranked -> 0 ->> 'rail', (ranked -> 0 ->> 'score')::numeric,
        case
            when jsonb_array_length(ranked) = 1 then 'only_candidate'
            when choose.policy is not null then 'best_score'
            when ranked -> 0 ->> 'rail' = any(choose.hints) then 'preferred'
            else 'directory_priority'
        end,
        ranked || left_out, directory.current_version()
    )::directory.choice;
end
$$;
comment on function directory.choose is
'The rail of a transfer that names none. policy: {optimize_for, fallbacks, preferred_methods, excluded_rails}, null for the directory''s own order. 42202 no rail reaches it and why, 50201 its rail is closed and until when.';

create function directory.current_version()
returns bigint
language plpgsql
stable
security definer -- callers may not read versions
set search_path = ''
as $$
begin
    return (select coalesce(max(v.version), 0) from directory.versions as v);
end
$$;
comment on function directory.current_version is 'The version of the directory in force; 0 is what the house ships with.';

create function directory.explain(transfer payments.transfers, choice directory.choice, policy jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write explanations
set search_path = ''
as $$
begin
    insert into directory.route_explanations (
        transfer_id, tenant_id, environment, rail, score, reason, policy, candidates, version
    ) values (
        transfer.transfer_id, transfer.tenant_id, transfer.environment, choice.rail, choice.score, choice.reason,
        explain.policy, choice.candidates, choice.version
    );
end
$$;
comment on function directory.explain is 'Keeps why a transfer took its rail, in its transaction.';

create function directory.get_route(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read explanations
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    shown json;
begin
    select json_build_object(
        'transfer_id', t.transfer_id, 'object', 'route', 'rail', t.rail, 'score', e.score::text,
        'reason', coalesce(e.reason, case when t.purpose = 'refund' then 'way_of_the_payment' else 'named_by_caller' end),
        'fallback_used', false, 'policy', e.policy, 'candidates', coalesce(e.candidates, '[]'),
        'directory_version', e.version, 'created_at', coalesce(e.created_at, t.created_at)
    )
    into shown
    from payments.transfers as t
    left join directory.route_explanations as e on e.transfer_id = t.transfer_id
    where
        t.transfer_id = get_route.transfer_id and t.tenant_id = caller.tenant_id and t.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', get_route.transfer_id));
    end if;
    return public.reply(caller, 200, shown);
end
$$;
comment on function directory.get_route is 'Why a transfer took its rail; one whose caller named it needs no other reason.';

create function directory.rank_routes(
    intent text, amount_minor bigint, currency text, hints text[], alias_type text, alias text, policy jsonb
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the directory
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('payments:read', 'read');
    choice directory.choice := directory.choose(
        caller.tenant_id, caller.environment, intent, amount_minor, currency, hints, alias_type, alias, policy
    );
begin
    return public.reply(caller, 200, json_build_object(
        'object', 'route', 'rail', choice.rail, 'score', choice.score::text, 'reason', choice.reason,
        'candidates', choice.candidates, 'directory_version', choice.version
    ));
end
$$;
comment on function directory.rank_routes is 'Which rail a transfer would take now, and why; nothing is begun.';

reset role;
