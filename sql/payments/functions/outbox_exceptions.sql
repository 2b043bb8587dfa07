-- Deliveries that did not simply pass: retries, what waits behind them, dead letters.

set role stalela_owner;

create function payments.backoff(attempts integer)
returns interval
language plpgsql
volatile
security definer -- callers may not read settings
set search_path = ''
as $$
declare
    ladder jsonb := public.setting('outbox.backoff_s');
begin
    return make_interval(
        secs => (ladder ->> least(attempts, jsonb_array_length(ladder)) - 1)::numeric::double precision
            * (0.9 + 0.2 * random())
    );
end
$$;
comment on function payments.backoff is
'How long to wait after so many failed attempts: the ladder of the setting outbox.backoff_s, each rung give or take a tenth.';

create function payments.claim_due(destination text, state text, max_rows integer)
returns bigint[]
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    due bigint[] := array(
        select e.outbox_id
        from payments.outbox_exceptions as e
        where
            e.destination = claim_due.destination and e.state = 'retry'
            and e.next_attempt_at <= clock_timestamp()
        order by e.next_attempt_at, e.outbox_id
        limit max_rows
    );
begin
    if due <> '{}' then
        update payments.outbox_exceptions as e
        set state = claim_due.state, changed_at = clock_timestamp()
        where e.destination = claim_due.destination and e.outbox_id = any(due);
    end if;
    return due;
end
$$;
comment on function payments.claim_due is 'Gives out parked deliveries whose time has come, in the order of each stream.';

create function payments.finish_taken(destination text)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    done bigint[] := array(
        select e.outbox_id
        from payments.outbox_exceptions as e
        where e.destination = finish_taken.destination and e.state = 'taken'
    );
begin
    if done <> '{}' then
        perform payments.close_exceptions(finish_taken.destination, done, 'delivered');
    end if;
end
$$;
comment on function payments.finish_taken is
'Closes the retries that were taken before: they are still marked taken, so their transaction committed without failing them.';

create function payments.close_exceptions(destination text, outbox_ids bigint[], resolution text)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    closed payments.outbox_exceptions;
    streams text[] := '{}'::text[];
begin
    for closed in
        delete from payments.outbox_exceptions as e
        where e.destination = close_exceptions.destination and e.outbox_id = any(close_exceptions.outbox_ids)
        returning e.*
    loop
        streams := streams || closed.ordering_key;
        if closed.attempts > 0 then
            perform public.resolve_alert('delivery_stalled', closed.destination || '/' || closed.event_id, resolution);
            perform public.resolve_alert('delivery_dead', closed.destination || '/' || closed.event_id, resolution);
        end if;
    end loop;
    perform payments.release_streams(close_exceptions.destination, streams);
end
$$;
comment on function payments.close_exceptions is 'These deliveries are over; what waited behind them may go.';

create function payments.release_streams(destination text, ordering_keys text[])
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- A long queue goes in parts, so that no transaction is long.
    part constant integer := 1000;
    -- One time for all of them: row by row it would order a stream as its rows lie in the table.
    released_at constant timestamptz := clock_timestamp();
begin
    update payments.outbox_exceptions as e
    set state = 'retry', next_attempt_at = released_at, changed_at = released_at
    where
        e.destination = release_streams.destination
        and e.outbox_id = any(array(
            select w.outbox_id
            from (select distinct k from unnest(release_streams.ordering_keys) as k) as s (ordering_key)
            cross join lateral (
                select q.outbox_id
                from payments.outbox_exceptions as q
                where
                    q.destination = release_streams.destination and q.ordering_key = s.ordering_key
                    and q.state = 'waiting'
                order by q.outbox_id
                limit part
            ) as w
            where
                not exists (
                    select from payments.outbox_exceptions as q
                    where
                        q.destination = release_streams.destination and q.ordering_key = s.ordering_key
                        and q.state <> 'waiting'
                )
                and not exists (
                    select from payments.outbox_leases as l
                    where l.destination = release_streams.destination and s.ordering_key = any(l.ordering_keys)
                )
        ));
end
$$;
comment on function payments.release_streams is 'Makes due what waits in these streams, unless something of theirs is still ahead.';

create function payments.hold_events(destination text, outbox_ids bigint[])
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
begin
    update payments.outbox_exceptions as e
    set state = 'waiting', changed_at = clock_timestamp()
    where e.destination = hold_events.destination and e.outbox_id = any(hold_events.outbox_ids);
    insert into payments.outbox_exceptions (
        destination, outbox_id, event_id, event_type, tenant_id, environment, ordering_key, seq, state, created_at
    )
    select o.destination, o.outbox_id, o.event_id, o.event_type, o.tenant_id, o.environment, o.ordering_key, o.seq,
        'waiting', o.created_at
    from payments.outbox as o
    where o.destination = hold_events.destination and o.outbox_id = any(hold_events.outbox_ids)
    on conflict on constraint outbox_exceptions_pkey do nothing;
end
$$;
comment on function payments.hold_events is 'Parks deliveries behind an earlier one of their stream that failed.';

create function payments.park_failed(
    destination text, outbox_id bigint, error text, is_final boolean, retry_after interval
)
returns payments.outbox_exceptions
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    target public.destinations;
    failed payments.outbox_exceptions;
    details jsonb;
begin
    select d.* into strict target from public.destinations as d where d.destination = park_failed.destination;
    perform payments.hold_events(park_failed.destination, array[park_failed.outbox_id]);

    update payments.outbox_exceptions as e
    set
        attempts = e.attempts + 1,
        state = case when is_final or e.attempts + 1 >= target.max_attempts then 'dead' else 'retry' end,
        next_attempt_at = clock_timestamp() + greatest(payments.backoff(e.attempts + 1), retry_after),
        last_error = left(coalesce(nullif(error, ''), 'no reason given'), 2000),
        changed_at = clock_timestamp()
    where e.destination = park_failed.destination and e.outbox_id = park_failed.outbox_id
    returning e.* into strict failed;

    details := jsonb_build_object(
        'destination', failed.destination, 'outbox_id', failed.outbox_id, 'event_id', failed.event_id,
        'event_type', failed.event_type, 'ordering_key', failed.ordering_key, 'attempts', failed.attempts,
        'error', failed.last_error
    );
    if failed.state = 'dead' then
        perform public.resolve_alert('delivery_stalled', failed.destination || '/' || failed.event_id, 'dead');
        perform public.raise_alert(
            'delivery_dead', 'critical', failed.destination || '/' || failed.event_id, failed.tenant_id,
            failed.environment, details
        );
    elsif failed.attempts >= target.stalled_after then
        perform public.raise_alert(
            'delivery_stalled', 'warning', failed.destination || '/' || failed.event_id, failed.tenant_id,
            failed.environment, details
        );
    end if;
    return failed;
end
$$;
comment on function payments.park_failed is
'Notes a failed attempt: due again by the ladder, or dead when it was the last one or can never get better. Alerts at the destination''s stalled_after and at death.';

create function payments.fail_event(destination text, outbox_id bigint, error text, final boolean default false)
returns bigint[]
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
    failed payments.outbox_exceptions;
    behind bigint[];
begin
    select c.* into cursor
    from payments.outbox_cursors as c
    where c.destination = fail_event.destination;
    if cursor.moved_by is distinct from pg_current_xact_id()
        and not exists (
            select from payments.outbox_exceptions as e
            where
                e.destination = fail_event.destination and e.outbox_id = fail_event.outbox_id and e.state = 'taken'
        )
    then
        raise exception 'delivery % of % was not taken in this transaction', outbox_id, destination
            using errcode = 'invalid_transaction_state';
    end if;
    failed := payments.park_failed(fail_event.destination, fail_event.outbox_id, error, final, null);
    -- Later events of its stream that came with it: from the log, or as retries.
    behind := array(
        select o.outbox_id
        from payments.outbox as o
        where
            o.destination = fail_event.destination and o.outbox_id > fail_event.outbox_id
            and o.ordering_key = failed.ordering_key
            and (
                pg_visible_in_snapshot(o.xid, cursor.seen)
                or (
                    cursor.window_end is not null and o.outbox_id <= cursor.position
                    and pg_visible_in_snapshot(o.xid, cursor.window_end)
                )
            )
            and not exists (
                select from payments.outbox_exceptions as e
                where e.destination = fail_event.destination and e.outbox_id = o.outbox_id and e.state <> 'taken'
            )
        union
        select e.outbox_id
        from payments.outbox_exceptions as e
        where
            e.destination = fail_event.destination and e.ordering_key = failed.ordering_key
            and e.outbox_id > fail_event.outbox_id and e.state in ('taken', 'retry')
    );
    perform payments.hold_events(fail_event.destination, behind);
    return array[fail_event.outbox_id] || behind;
end
$$;
comment on function payments.fail_event is
'Within the transaction that took it: this event failed and is parked, and so are the later events of its stream in the batch. Returns the ids that must not be applied. final: it can never get better, so it is dead at once.';

reset role;
