-- Waking consumers: at once by a trigger, and by cron whatever that missed.

set role stalela_owner;

create function payments.poke_destinations()
returns trigger
language plpgsql
volatile
security definer -- callers may not read destinations
set search_path = ''
as $$
begin
    -- One look is all that most events cost.
    if exists (
        select from new_rows as n
        inner join public.destinations as d on d.destination = n.destination
        where not exists (
            select from public.pokes as p
            where
                p.function_name = d.function_name
                and p.poked_at > clock_timestamp() - interval '200 milliseconds'
        )
    ) then
        perform public.poke_all(array(
            select distinct d.function_name
            from new_rows as n
            inner join public.destinations as d on d.destination = n.destination
            order by d.function_name
        ), interval '200 milliseconds');
    end if;
    return null;
end
$$;
comment on function payments.poke_destinations is
'Pokes the function of each destination in this statement, once in 200 ms each: a drain stays 250 ms after its work and looks again, so what goes without a poke is found by the one before.';

create function payments.has_due_events(destination text)
returns boolean
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
    seen pg_snapshot;
begin
    select c.* into cursor
    from payments.outbox_cursors as c
    where c.destination = has_due_events.destination;
    seen := coalesce(cursor.seen, '1:1:'::pg_snapshot);
    return cursor.window_end is not null
        or exists (
            select from payments.outbox as o
            where
                o.destination = has_due_events.destination and o.outbox_id > coalesce(cursor.seen_id, 0)
                and not pg_visible_in_snapshot(o.xid, seen)
        )
        or exists (
            select from payments.outbox as o
            where
                o.destination = has_due_events.destination
                and o.xid = any(array(select x.xid from pg_snapshot_xip(seen) as x (xid)))
        )
        or exists (
            select from payments.outbox_exceptions as e
            where
                e.destination = has_due_events.destination
                and (e.state = 'taken' or (e.state = 'retry' and e.next_attempt_at <= clock_timestamp()))
        )
        or exists (
            select from payments.outbox_leases as l
            where l.destination = has_due_events.destination and l.lease_until <= clock_timestamp()
        );
end
$$;
comment on function payments.has_due_events is 'Whether a consumer of this destination would find something to do now.';

create function payments.poke_consumers()
returns integer
language plpgsql
volatile
security definer -- cron may not read destinations
set search_path = ''
as $$
declare
    due text[] := array(
        select distinct d.function_name
        from public.destinations as d
        where d.enabled and payments.has_due_events(d.destination)
        order by d.function_name
    );
begin
    perform public.poke_all(due, interval '200 milliseconds');
    return cardinality(due);
end
$$;
comment on function payments.poke_consumers is
'Pokes the function of each destination that has work which is due: heals pokes that were lost or swallowed, and starts retries. Returns how many. A cron task.';

create trigger outbox_pokes
after insert on payments.outbox
referencing new table as new_rows
for each statement execute function payments.poke_destinations();

reset role;
