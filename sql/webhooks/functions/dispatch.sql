-- Claim, send, record: what the dispatcher does between the queue and the merchants' servers.

set role stalela_owner;

create function webhooks.claim(max_rows integer)
returns setof webhooks.claimed
language plpgsql
volatile
security definer -- callers may not read endpoints or write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    candidates text[];
    picked bigint[];
    moment timestamptz := clock_timestamp();
    lease interval := make_interval(secs => public.setting('webhooks.lease_s')::double precision);
    room_well integer := public.setting('webhooks.in_flight_max')::integer;
    room_failing integer := public.setting('webhooks.in_flight_failing')::integer;
begin
    -- From endpoint to endpoint through the index: however much one has waiting, it is one look.
    with recursive waiting as (
        (select q.endpoint_id from webhooks.queue as q where q.is_head order by q.endpoint_id limit 1)
        union all
        select (
            select q.endpoint_id from webhooks.queue as q
            where q.is_head and q.endpoint_id > w.endpoint_id
            order by q.endpoint_id
            limit 1
        )
        from waiting as w
        where w.endpoint_id is not null
    )
    select array_agg(w.endpoint_id) into candidates
    from waiting as w
    inner join webhooks.endpoint_health as h on h.endpoint_id = w.endpoint_id
    where
        (h.open_until is null or h.open_until <= moment)
        and exists (
            select from webhooks.queue as q
            where q.endpoint_id = w.endpoint_id and q.is_head and q.due_at <= moment
        );
    if candidates is null then
        return;
    end if;
    perform webhooks.lock_endpoints(candidates);
    moment := clock_timestamp();

    -- The first of every endpoint before the second of any: a busy merchant delays nobody.
    picked := array(
        select due.delivery_id
        from (
            select h.endpoint_id,
                case
                    when h.open_until > moment then 0
                    when h.open_until is not null then 1 -- half open: one that tries
                    when h.failures > 0 then room_failing
                    else room_well
                end - (
                    select count(*) from webhooks.queue as q
                    where q.endpoint_id = h.endpoint_id and q.is_leased and q.due_at > moment
                ) as room
            from webhooks.endpoint_health as h
            where h.endpoint_id = any(candidates)
        ) as r
        cross join lateral (
            select q.delivery_id, q.due_at, row_number() over (order by q.due_at) as place
            from webhooks.queue as q
            where q.endpoint_id = r.endpoint_id and q.is_head and q.due_at <= moment
            order by q.due_at
            limit greatest(r.room, 0)
        ) as due
        order by due.place, due.due_at
        limit max_rows
    );
    return query
    with taken as (
        update webhooks.queue as q
        set is_leased = true, attempts = q.attempts + 1, due_at = moment + lease
        where q.delivery_id = any(picked)
        returning q.delivery_id, q.event_id, q.attempts, q.endpoint_id
    )
    select
        t.delivery_id, t.event_id, t.attempts, t.endpoint_id, e.url,
        case
            when e.former_until > moment then array[e.secret_sealed, e.former_secret_sealed]
            else array[e.secret_sealed]
        end,
        m.payload
    from taken as t
    inner join webhooks.endpoints as e on e.endpoint_id = t.endpoint_id
    inner join webhooks.messages as m on m.event_id = t.event_id
    order by t.delivery_id;
end
$$;
comment on function webhooks.claim is
'Leases what is due, turn by turn over the endpoints, no more to each than it may have in flight. The attempt counts from here, so one that kills its dispatcher still ends.';

create function webhooks.record_attempts(outcomes jsonb)
returns integer
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    mine webhooks.outcome[];
    endpoint record;
begin
    perform webhooks.lock_endpoints(array(
        select q.endpoint_id
        from jsonb_to_recordset(outcomes) as o (delivery_id bigint)
        inner join webhooks.queue as q on q.delivery_id = o.delivery_id
    ));
    -- Whose lease ran out and was given to another has nothing to say any more.
    select array_agg(webhooks.judge(q, row(
        o.started_at, o.duration_ms, o.url, o.status_code, o.error, o.response_excerpt, o.retry_after_s
    )::webhooks.reply)) into mine
    from jsonb_to_recordset(outcomes) as o (
        delivery_id bigint, attempt integer, started_at timestamptz, duration_ms integer, url text,
        status_code integer, error text, response_excerpt text, retry_after_s integer
    )
    inner join webhooks.queue as q
        on q.delivery_id = o.delivery_id and q.is_leased and q.attempts = o.attempt;
    if mine is null then
        return 0;
    end if;

    insert into webhooks.attempts (
        delivery_id, number, tenant_id, environment, started_at, duration_ms, url, status_code, error, response_excerpt
    )
    select
        d.delivery_id, d.attempts + 1, d.tenant_id, d.environment, (m.reply).started_at, (m.reply).duration_ms,
        (m.reply).url, (m.reply).status_code, left((m.reply).error, 300), left((m.reply).response_excerpt, 2048)
    from unnest(mine) as m
    inner join webhooks.deliveries as d on d.delivery_id = m.delivery_id;
    update webhooks.deliveries as d
    set
        attempts = d.attempts + 1, status = m.status, status_code = (m.reply).status_code,
        finished_at = case when m.status <> 'pending' then clock_timestamp() end
    from unnest(mine) as m
    where d.delivery_id = m.delivery_id;
    update webhooks.queue as q
    set is_leased = false, due_at = m.due_at
    from unnest(mine) as m
    where q.delivery_id = m.delivery_id and m.status = 'pending';
    delete from webhooks.queue as q
    using unnest(mine) as m
    where q.delivery_id = m.delivery_id and m.status <> 'pending';
    -- The next of each stream whose head is gone.
    update webhooks.queue as q
    set is_head = true, due_at = greatest(q.due_at, now())
    where q.delivery_id = any(array(
        select (
            select min(f.delivery_id) from webhooks.queue as f
            where f.endpoint_id = m.endpoint_id and f.ordering_key = m.ordering_key
        )
        from unnest(mine) as m
        where m.status <> 'pending'
    ));

    for endpoint in
        select m.endpoint_id, array_agg(m) as met
        from unnest(mine) as m
        inner join webhooks.endpoint_health as h on h.endpoint_id = m.endpoint_id
        group by m.endpoint_id, h.failures
        having h.failures > 0 or bool_or(m.status <> 'delivered')
        order by m.endpoint_id
    loop
        perform webhooks.note_health(endpoint.endpoint_id, endpoint.met);
    end loop;
    return cardinality(mine);
end
$$;
comment on function webhooks.record_attempts is
'What became of claimed deliveries: logged, finished or due again, the next of their streams freed, the endpoints'' breakers moved. How many were still the caller''s.';

create function webhooks.judge(waiting webhooks.queue, reply webhooks.reply)
returns webhooks.outcome
language plpgsql
volatile
security definer -- callers may not read settings
set search_path = ''
as $$
declare
    delays jsonb := public.setting('webhooks.delays_s');
    delay_s double precision;
    due_at timestamptz;
    status text := 'delivered';
begin
    if reply.status_code between 200 and 299 then
        return row(waiting.delivery_id, waiting.endpoint_id, waiting.ordering_key, status, null::timestamptz, reply);
    end if;
    delay_s := (delays ->> least(waiting.attempts, jsonb_array_length(delays)) - 1)::double precision;
    if reply.status_code in (429, 503) or reply.status_code is null and reply.error = 'timeout' then
        delay_s := greatest(delay_s, 60);
    end if;
    -- A receiver may ask for more time, not for less, and not for ever. The jitter only adds, too.
    delay_s := greatest(delay_s, least(coalesce(reply.retry_after_s, 0), 2 * delay_s)) * (1 + random() * 0.2);
    due_at := clock_timestamp() + make_interval(secs => delay_s);
    status := case when due_at > waiting.give_up_at then 'failed' else 'pending' end;
    return row(waiting.delivery_id, waiting.endpoint_id, waiting.ordering_key, status, due_at, reply);
end
$$;
comment on function webhooks.judge is
'Whether a delivery is done, due again and when, or given up. 2xx is success, a redirect is not; 429, 503 and silence wait a minute at least.';

create function webhooks.note_health(endpoint_id text, met webhooks.outcome[])
returns void
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    health webhooks.endpoint_health;
    moment timestamptz := clock_timestamp();
    last_good timestamptz;
    bad bigint;
begin
    select max((m.reply).started_at + (m.reply).duration_ms * interval '1 ms') into last_good
    from unnest(met) as m
    where m.status = 'delivered';
    select count(*) into bad
    from unnest(met) as m
    where
        m.status <> 'delivered'
        and (last_good is null or (m.reply).started_at + (m.reply).duration_ms * interval '1 ms' > last_good);
    select h.* into health from webhooks.endpoint_health as h where h.endpoint_id = note_health.endpoint_id;
    if last_good is not null then
        health.failures := 0;
        health.failing_since := null;
        health.openings := 0;
        health.open_until := null;
    end if;
    health.failures := health.failures + bad::integer;
    if health.failures > 0 then
        health.failing_since := coalesce(health.failing_since, moment);
    end if;
    if
        bad > 0 and health.failures >= public.setting('webhooks.breaker_failures')::integer
        and (health.open_until is null or health.open_until <= moment)
    then
        health.open_until := moment + make_interval(secs => least(
            public.setting('webhooks.breaker_s')::double precision * 2 ^ least(health.openings, 20),
            public.setting('webhooks.breaker_max_s')::double precision
        ));
        health.openings := health.openings + 1;
    end if;
    update webhooks.endpoint_health as h
    set
        failures = health.failures, failing_since = health.failing_since, openings = health.openings,
        open_until = health.open_until
    where
        h.endpoint_id = note_health.endpoint_id
        and (h.failures, h.failing_since, h.openings, h.open_until)
        is distinct from (health.failures, health.failing_since, health.openings, health.open_until);

    if exists (select from unnest(met) as m where (m.reply).status_code = 410) then
        perform webhooks.disable(note_health.endpoint_id, 'gone');
    elsif
        health.failures >= public.setting('webhooks.breaker_failures')::integer
        and health.failing_since <= moment - make_interval(
            secs => public.setting('webhooks.disable_after_s')::double precision
        )
    then
        perform webhooks.disable(note_health.endpoint_id, 'failing');
    end if;
end
$$;
comment on function webhooks.note_health is
'Moves an endpoint''s breaker: a success closes it, failures in a row open it, twice as long each time. 410 or days of nothing but failures disable the endpoint.';

create function webhooks.disable(endpoint_id text, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write endpoints
set search_path = ''
as $$
#variable_conflict use_column
declare
    disabled webhooks.endpoints;
begin
    update webhooks.endpoints as e
    set status = 'disabled', disabled_reason = disable.reason, disabled_at = now(), updated_at = now()
    where e.endpoint_id = disable.endpoint_id and e.status = 'enabled'
    returning e.* into disabled;
    if not found then
        return;
    end if;
    perform webhooks.drop_queue(disable.endpoint_id);
    if disable.reason <> 'requested' then
        perform public.raise_alert(
            'webhook_endpoint_disabled', 'warning', disabled.endpoint_id, disabled.tenant_id, disabled.environment,
            jsonb_build_object('reason', disable.reason, 'url', disabled.url)
        );
    end if;
end
$$;
comment on function webhooks.disable is
'Nothing more is sent to this endpoint until it is enabled again; what waited counts as failed and can be replayed. When nobody asked for it, an alert tells the merchant.';

create function webhooks.drop_queue(endpoint_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    with dropped as (
        delete from webhooks.queue as q where q.endpoint_id = drop_queue.endpoint_id returning q.delivery_id
    )
    update webhooks.deliveries as d
    set status = 'failed', finished_at = now()
    from dropped
    where d.delivery_id = dropped.delivery_id and d.status = 'pending';
end
$$;
comment on function webhooks.drop_queue is 'Gives up everything that waits for an endpoint; its health row is locked.';

create function webhooks.poke_delivery()
returns boolean
language plpgsql
volatile
security definer -- callers may not read the queue
set search_path = ''
as $$
begin
    if not exists (
        select from webhooks.endpoint_health as h
        where
            (h.open_until is null or h.open_until <= now())
            and exists (
                select from webhooks.queue as q
                where q.endpoint_id = h.endpoint_id and q.is_head and q.due_at <= now()
            )
    ) then
        return false;
    end if;
    perform public.poke('webhook_delivery');
    return true;
end
$$;
comment on function webhooks.poke_delivery is 'Wakes the dispatcher when something is due. A cron task.';

create function webhooks.purge()
returns integer
language plpgsql
volatile
security definer -- callers may not write deliveries
set search_path = ''
as $$
#variable_conflict use_column
declare
    bodies_end timestamptz := now() - make_interval(secs => public.setting('webhooks.bodies_kept_s')::double precision);
    log_end timestamptz := now() - make_interval(secs => public.setting('webhooks.deliveries_kept_s')::double precision);
    purged integer;
    total integer := 0;
begin
    delete from webhooks.attempts as a
    where a.ctid = any(array(
        select o.ctid from webhooks.attempts as o where o.started_at < bodies_end order by o.started_at limit 5000
    ));
    get diagnostics purged = row_count;
    total := total + purged;
    delete from webhooks.messages as m
    where m.ctid = any(array(
        select o.ctid from webhooks.messages as o
        -- A replay of the last moment is over by then.
        where o.created_at < bodies_end - interval '2 days'
        order by o.created_at
        limit 5000
    ));
    get diagnostics purged = row_count;
    total := total + purged;
    delete from webhooks.deliveries as d
    where d.ctid = any(array(
        select o.ctid from webhooks.deliveries as o
        where o.created_at < log_end and o.status <> 'pending'
        order by o.created_at
        limit 5000
    ));
    get diagnostics purged = row_count;
    return total + purged;
end
$$;
comment on function webhooks.purge is
'Removes attempts and payloads after 30 days and deliveries after a year, up to 5,000 of each. A cron task.';

reset role;
