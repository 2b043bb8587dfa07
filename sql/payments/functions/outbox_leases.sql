-- Consumers outside Postgres: lease a batch, work, answer for each delivery.

set role stalela_owner;

create function payments.lease_events(destination text, max_rows integer)
returns setof payments.delivery
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    last_id_before_us bigint := payments.last_id_before_us();
    cursor payments.outbox_cursors := payments.lock_cursor(destination, 'function');
    retried bigint[];
    page payments.outbox[] := '{}'::payments.outbox[];
begin
    perform payments.expire_leases(lease_events.destination);
    retried := payments.claim_due(lease_events.destination, 'leased', max_rows);
    if cardinality(retried) < max_rows then
        page := payments.read_outbox(cursor, last_id_before_us, max_rows - cardinality(retried));
    end if;
    if retried <> '{}' or page <> '{}' then
        insert into payments.outbox_leases (destination, outbox_ids, ordering_keys, lease_until)
        select lease_events.destination, array_agg(r.outbox_id order by r.outbox_id),
            array_agg(r.ordering_key order by r.outbox_id),
            clock_timestamp() + (
                select make_interval(secs => d.lease_s)
                from public.destinations as d
                where d.destination = lease_events.destination
            )
        from (
            select p.outbox_id, p.ordering_key from unnest(page) as p
            union all
            select e.outbox_id, e.ordering_key
            from payments.outbox_exceptions as e
            where e.destination = lease_events.destination and e.outbox_id = any(retried)
        ) as r;
    end if;
    return query select d.* from payments.deliveries_of(lease_events.destination, page, retried) as d;
end
$$;
comment on function payments.lease_events is
'For a consumer outside Postgres: the next events of its destination, due retries first, for the destination''s lease_s. Within a stream they must be worked on in order. What is not answered for in time counts as failed.';

create function payments.expire_leases(destination text)
returns void
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    expired payments.outbox_leases;
    ids bigint[];
begin
    for expired in
        delete from payments.outbox_leases as l
        where l.destination = expire_leases.destination and l.lease_until <= clock_timestamp()
        returning l.*
    loop
        for ids in
            select array_agg(x.outbox_id order by x.outbox_id)
            from unnest(expired.outbox_ids, expired.ordering_keys) as x (outbox_id, ordering_key)
            group by x.ordering_key
        loop
            perform payments.park_failed(
                expire_leases.destination, ids[1], 'the lease ran out before an answer', false, null
            );
            perform payments.hold_events(expire_leases.destination, ids[2:]);
        end loop;
    end loop;
end
$$;
comment on function payments.expire_leases is
'Takes back what was leased and not answered for: the first of each stream counts as a failed attempt, so that an event that kills its consumer dies in the end.';

create function payments.unlease(destination text, outbox_ids bigint[])
returns void
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    lease payments.outbox_leases;
    kept_ids bigint[];
    kept_keys text[];
begin
    for lease in
        select l.*
        from payments.outbox_leases as l
        where l.destination = unlease.destination and l.outbox_ids && unlease.outbox_ids
        order by l.lease_id
        for update
    loop
        select array_agg(x.outbox_id order by x.outbox_id), array_agg(x.ordering_key order by x.outbox_id)
        into kept_ids, kept_keys
        from unnest(lease.outbox_ids, lease.ordering_keys) as x (outbox_id, ordering_key)
        where x.outbox_id <> all(unlease.outbox_ids);
        if kept_ids is null then
            delete from payments.outbox_leases as l where l.lease_id = lease.lease_id;
        else
            update payments.outbox_leases as l
            set outbox_ids = kept_ids, ordering_keys = kept_keys
            where l.lease_id = lease.lease_id;
        end if;
    end loop;
end
$$;
comment on function payments.unlease is 'Takes deliveries off their leases, in the order of the leases.';

create function payments.acknowledge_events(destination text, outbox_ids bigint[])
returns integer
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    streams text[];
    acknowledged bigint[];
begin
    perform payments.lock_cursor(acknowledge_events.destination, 'function');
    select coalesce(array_agg(x.outbox_id), '{}'), coalesce(array_agg(distinct x.ordering_key), '{}')
    into acknowledged, streams
    from payments.outbox_leases as l
    cross join lateral unnest(l.outbox_ids, l.ordering_keys) as x (outbox_id, ordering_key)
    where l.destination = acknowledge_events.destination and x.outbox_id = any(acknowledge_events.outbox_ids);
    perform payments.unlease(acknowledge_events.destination, acknowledged);
    -- A late answer to a lease that ran out is as true as a timely one.
    perform payments.close_exceptions(acknowledge_events.destination, array(
        select e.outbox_id
        from payments.outbox_exceptions as e
        where
            e.destination = acknowledge_events.destination and e.outbox_id = any(acknowledge_events.outbox_ids)
            and e.state in ('leased', 'retry')
    ), 'delivered');
    perform payments.release_streams(acknowledge_events.destination, streams);
    return cardinality(acknowledged);
end
$$;
comment on function payments.acknowledge_events is
'These deliveries are done; what waited behind them may go. Returns how many were on lease; doing it again changes nothing.';

create function payments.return_event(destination text, outbox_id bigint, error text, retry_after_s integer)
returns bigint[]
language plpgsql
volatile
security definer -- callers may not write leases
set search_path = ''
as $$
#variable_conflict use_column
declare
    returned bigint[];
begin
    perform payments.lock_cursor(return_event.destination, 'function');
    -- It and the later ones of its stream on the same lease.
    select array_agg(x.outbox_id order by x.outbox_id) into returned
    from payments.outbox_leases as l
    cross join lateral unnest(l.outbox_ids, l.ordering_keys) as x (outbox_id, ordering_key)
    where
        l.destination = return_event.destination and x.outbox_id >= return_event.outbox_id
        and (return_event.outbox_id, x.ordering_key) in (
            select y.outbox_id, y.ordering_key from unnest(l.outbox_ids, l.ordering_keys) as y (outbox_id, ordering_key)
        );
    if returned is null then
        return '{}'::bigint[];
    end if;
    perform payments.unlease(return_event.destination, returned);
    perform payments.park_failed(
        return_event.destination, return_event.outbox_id, error, false, make_interval(secs => retry_after_s)
    );
    perform payments.hold_events(return_event.destination, array_remove(returned, return_event.outbox_id));
    return returned;
end
$$;
comment on function payments.return_event is
'A leased delivery failed: it is due again by the ladder, but not before retry_after_s (null: the ladder alone). Returns the ids taken off the lease, which are it and the later ones of its stream: they must not be worked on. Empty when the lease was over.';

reset role;
