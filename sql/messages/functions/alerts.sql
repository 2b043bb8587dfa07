-- Alerts on their way to people: who must be told of what, at most once per kind and quarter of an hour.

set role stalela_owner;

create function messages.untold_alerts()
returns table (alert_id bigint, kind text, destination text, tenant_id text, environment text)
language plpgsql
stable
security definer -- callers may not read alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    coalesce_since timestamptz := now() - make_interval(secs => public.setting('alerts.coalesce_s')::integer);
    remind_since timestamptz := now() - make_interval(secs => public.setting('alerts.remind_s')::integer);
begin
    return query
    select a.alert_id, a.kind, w.destination, w.tenant_id, w.environment
    from public.alerts as a
    left join messages.alert_kinds as k on k.kind = a.kind
    cross join lateral (
        select 'platform' as destination, null::text as tenant_id, null::text as environment
        union all
        select concat_ws(':', a.tenant_id, coalesce(a.environment, 'production')), a.tenant_id,
            coalesce(a.environment, 'production')
        where k.to_owners and a.tenant_id is not null
    ) as w
    left join messages.alert_notices as n on n.alert_id = a.alert_id and n.destination = w.destination
    left join messages.alert_digests as d on d.kind = a.kind and d.destination = w.destination
    where
        a.status = 'open'
        and (n.alert_id is null or (n.told_at <= remind_since and a.last_at > n.told_at))
        and (d.told_at is null or d.told_at <= coalesce_since);
end
$$;
comment on function messages.untold_alerts is
'Open alerts and whom they must be told now: never told, or still happening a day later, and nobody was told of this kind within alerts.coalesce_s.';

create function messages.take_alerts(most_shown integer)
returns setof jsonb
language plpgsql
stable
security definer -- callers may not read alerts
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'kind', u.kind,
        'destination', u.destination,
        'tenant_id', u.tenant_id,
        'environment', u.environment,
        'tenant', (select n.name from public.tenants as n where n.tenant_id = u.tenant_id),
        'title', coalesce((select k.title from messages.alert_kinds as k where k.kind = u.kind), u.kind),
        'advice', (select k.advice from messages.alert_kinds as k where k.kind = u.kind),
        'count', count(*),
        'severity', case max(case a.severity when 'critical' then 3 when 'warning' then 2 else 1 end)
            when 3 then 'critical' when 2 then 'warning' else 'info' end,
        'alert_ids', jsonb_agg(a.alert_id order by a.alert_id),
        'alerts', to_jsonb((array_agg(
            jsonb_build_object(
                'alert_id', a.alert_id, 'subject', a.subject, 'environment', a.environment,
                'tenant_id', a.tenant_id, 'details', a.details, 'occurrences', a.occurrences,
                'first_at', to_char(a.first_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
                'last_at', to_char(a.last_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
            ) order by a.alert_id
        ))[1:most_shown]),
        'owners', case when u.tenant_id is not null then coalesce((
            select jsonb_agg(p.email order by p.email)
            from public.memberships as m
            inner join public.users as p on p.user_id = m.user_id
            where
                m.tenant_id = u.tenant_id and m.app_role = 'owner' and m.status = 'active' and p.email is not null
        ), '[]') end
    )
    from messages.untold_alerts() as u
    inner join public.alerts as a on a.alert_id = u.alert_id
    group by u.kind, u.destination, u.tenant_id, u.environment
    order by min(a.first_at);
end
$$;
comment on function messages.take_alerts is
'One digest per kind and destination of what must be told now, the first most_shown alerts of each in full. owners: addresses of the tenant''s owners; null for the platform.';

create function messages.keep_alerts(digests jsonb)
returns integer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    digest jsonb;
    mail jsonb;
    kept integer := 0;
begin
    for digest in select d from jsonb_array_elements(digests) as d loop
        -- The insert decides: of two processes with the same digest one tells people.
        insert into messages.alert_digests as g (kind, destination, told_at)
        values (digest ->> 'kind', digest ->> 'destination', now())
        on conflict on constraint alert_digests_pkey do update
        set told_at = now()
        where g.told_at <= now() - make_interval(secs => public.setting('alerts.coalesce_s')::integer);
        continue when not found;

        insert into messages.alert_notices as n (alert_id, destination, occurrences)
        select a.alert_id, digest ->> 'destination', a.occurrences
        from public.alerts as a
        where a.alert_id in (select i::bigint from jsonb_array_elements_text(digest -> 'alert_ids') as i)
        on conflict on constraint alert_notices_pkey do update
        set occurrences = excluded.occurrences, told_at = now();
        for mail in select m from jsonb_array_elements(digest -> 'mails') as m loop
            kept := kept + ((messages.add_message(
                case when digest ->> 'destination' = 'platform' then 'platform_alert' else 'tenant_alert' end,
                digest ->> 'tenant_id', digest ->> 'environment', digest ->> 'kind', mail ->> 'dedupe_key', mail
            )).message_id is not null)::integer;
        end loop;
    end loop;
    return kept;
end
$$;
comment on function messages.keep_alerts is
'Keeps the mails of rendered digests {kind, destination, tenant_id, environment, alert_ids, mails} and notes who was told; a digest that somebody else kept is left out. Returns how many mails are new.';

create function messages.poke_alerts()
returns boolean
language plpgsql
volatile
security definer -- callers may not read alerts
set search_path = ''
as $$
begin
    if not exists (select from messages.untold_alerts()) and not exists (
        select from messages.messages as m
        where m.status = 'queued' and m.next_attempt_at <= now() and m.kind in ('platform_alert', 'tenant_alert')
    ) then
        return false;
    end if;
    perform public.poke('alerts');
    return true;
end
$$;
comment on function messages.poke_alerts is 'Wakes the alerts function when somebody must be told of something. A cron task.';

create function messages.poke_on_alert()
returns trigger
language plpgsql
volatile
security definer -- callers may not poke
set search_path = ''
as $$
begin
    perform public.poke_all(array['alerts'], interval '200 milliseconds');
    return null;
end
$$;
comment on function messages.poke_on_alert is 'Wakes the alerts function as soon as an alert is committed; never fails, never waits.';

-- Reading and closing

create function messages.list_alerts(status text, kind text, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    is_operator boolean := public.holds_scope(caller.scopes, 'platform:operate');
    entries json[];
begin
    if page_after !~ '^[0-9]{1,18}$' then
        perform public.refuse_cursor();
    end if;
    entries := array(
        select row_to_json(shown)
        from (
            select
                a.alert_id as id, 'alert' as object, a.kind, a.severity, a.subject,
                coalesce(k.title, a.kind) as title, k.advice, a.details, a.status, a.occurrences, a.tenant_id,
                a.environment, a.first_at, a.last_at, a.resolved_at, a.resolution
            from public.alerts as a
            left join messages.alert_kinds as k on k.kind = a.kind
            where
                (is_operator or (a.tenant_id = caller.tenant_id and a.environment = caller.environment))
                and a.status = list_alerts.status
                and (list_alerts.kind is null or a.kind = list_alerts.kind)
                and (page_after is null or a.alert_id < page_after::bigint)
            order by a.alert_id desc
            limit page_size + 1
        ) as shown
    );
    return public.reply(caller, 200, json_build_object(
        'data', to_json(entries[1:page_size]),
        'pagination', json_build_object(
            'limit', page_size,
            'has_more', cardinality(entries) > page_size,
            'next_cursor', case when cardinality(entries) > page_size then entries[page_size] ->> 'id' end
        )
    ));
end
$$;
comment on function messages.list_alerts is
'One page of alerts, newest first: a tenant''s own in the caller''s environment, or all of them for operators (platform:operate).';

create function messages.resolve_alert(alert_id bigint, idempotency_key text, body_hash text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    subject public.caller := caller;
    route constant text := 'POST /alerts/{id}/resolve';
    answer public.answer;
    alert public.alerts;
    closed integer := 0;
begin
    answer := public.claim_idempotency(
        caller, route, resolve_alert.idempotency_key, concat_ws(':', resolve_alert.body_hash, resolve_alert.alert_id)
    );
    if answer.body is not null then
        return answer;
    end if;
    select a.* into alert
    from public.alerts as a
    where
        a.alert_id = resolve_alert.alert_id
        and (
            public.holds_scope(caller.scopes, 'platform:operate')
            or (a.tenant_id = caller.tenant_id and a.environment = caller.environment)
        )
    for update;
    if not found then
        perform public.refuse('40401', format('There is no alert %s here.', resolve_alert.alert_id));
    elsif alert.status <> 'open' then
        perform public.refuse('40911', 'This alert is resolved already.', jsonb_build_object(
            'current_state', alert.status, 'allowed', '[]'::jsonb
        ));
    end if;
    update public.alerts as a
    set status = 'resolved', resolved_at = now(), resolution = resolve_alert.reason
    where a.alert_id = alert.alert_id
    returning a.* into alert;
    if alert.kind = 'callback_parked' and alert.subject like '% unmatched' then
        -- No transfer, so no review would ever close them.
        closed := messages.close_callbacks(array(
            select c.callback_id
            from rails.callbacks as c
            where
                c.transfer_id is null and c.rail = split_part(alert.subject, ' ', 1) and c.received_at <= now()
                and c.tenant_id is not distinct from alert.tenant_id
        ), resolve_alert.reason);
    end if;
    subject.tenant_id := alert.tenant_id;
    subject.environment := alert.environment;
    perform public.audit(subject, 'alert.resolve', alert.alert_id::text, jsonb_build_object(
        'kind', alert.kind, 'subject', alert.subject, 'reason', resolve_alert.reason, 'callbacks_closed', closed
    ));
    answer := public.reply(caller, 200, json_build_object(
        'id', alert.alert_id, 'object', 'alert', 'kind', alert.kind, 'subject', alert.subject,
        'status', alert.status, 'resolved_at', alert.resolved_at, 'resolution', alert.resolution,
        'callbacks_closed', closed
    ));
    perform public.remember_answer(caller, route, resolve_alert.idempotency_key, alert.alert_id::text, answer);
    return answer;
end
$$;
comment on function messages.resolve_alert is
'A person closes an alert, with a reason; audited. That of unmatched parked callbacks closes those callbacks as well. 40401, 40911.';

create function messages.resolve_callback(callback_id bigint, idempotency_key text, body_hash text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write dispositions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    subject public.caller := caller;
    route constant text := 'POST /alerts/callbacks/{id}/resolve';
    answer public.answer;
    kept rails.callbacks;
begin
    answer := public.claim_idempotency(
        caller, route, resolve_callback.idempotency_key,
        concat_ws(':', resolve_callback.body_hash, resolve_callback.callback_id)
    );
    if answer.body is not null then
        return answer;
    end if;
    select c.* into kept
    from rails.callbacks as c
    where
        c.callback_id = resolve_callback.callback_id
        and (
            public.holds_scope(caller.scopes, 'platform:operate')
            or (c.tenant_id = caller.tenant_id and c.environment = caller.environment)
        );
    if not found then
        perform public.refuse('40401', format('There is no callback %s here.', resolve_callback.callback_id));
    elsif kept.transfer_id is not null then
        perform public.refuse('40911', format(
            'This callback belongs to transfer %s: resolve its review.', kept.transfer_id
        ));
    elsif messages.close_callbacks(array[kept.callback_id], resolve_callback.reason) = 0 then
        perform public.refuse('40911', 'This callback does not wait for a decision.');
    end if;
    if not exists (
        select from rails.callbacks as c
        where
            c.transfer_id is null and c.rail = kept.rail and c.tenant_id is not distinct from kept.tenant_id
            and messages.is_parked(c.callback_id)
    ) then
        perform public.resolve_alert('callback_parked', kept.rail || ' unmatched', resolve_callback.reason);
    end if;
    subject.tenant_id := kept.tenant_id;
    subject.environment := kept.environment;
    perform public.audit(subject, 'callback.resolve', kept.callback_id::text, jsonb_build_object(
        'rail', kept.rail, 'reason', resolve_callback.reason
    ));
    answer := public.reply(caller, 200, json_build_object(
        'id', kept.callback_id, 'object', 'callback', 'rail', kept.rail, 'disposition', 'resolved',
        'reason', resolve_callback.reason
    ));
    perform public.remember_answer(caller, route, resolve_callback.idempotency_key, kept.callback_id::text, answer);
    return answer;
end
$$;
comment on function messages.resolve_callback is
'A person closes one parked callback that belongs to no transfer, with a reason; audited. The last one of a rail closes their alert. 40401, 40911.';

create function messages.is_parked(callback_id bigint)
returns boolean
language plpgsql
stable
security definer -- callers may not read dispositions
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select d.disposition in ('parked', 'failed')
        from rails.callback_dispositions as d
        where d.callback_id = is_parked.callback_id
        order by d.number desc
        limit 1
    );
end
$$;
comment on function messages.is_parked is 'Whether a callback waits for a person.';

create function messages.close_callbacks(callback_ids bigint[], reason text)
returns integer
language plpgsql
volatile
security definer -- callers may not write dispositions
set search_path = ''
as $$
#variable_conflict use_column
declare
    closed integer;
begin
    insert into rails.callback_dispositions (callback_id, number, tenant_id, environment, disposition, reason)
    select c.callback_id, (
        select max(d.number) + 1 from rails.callback_dispositions as d where d.callback_id = c.callback_id
    ), c.tenant_id, c.environment, 'resolved', close_callbacks.reason
    from rails.callbacks as c
    where c.callback_id = any(callback_ids) and messages.is_parked(c.callback_id);
    get diagnostics closed = row_count;
    return closed;
end
$$;
comment on function messages.close_callbacks is 'Appends resolved to those of these callbacks that wait for a person; how many did.';

reset role;
