-- Reading the outbox. A destination reads in windows between two snapshots: what the first did not see and the second
-- does. So a writer that is still at work is never skipped and delays nobody, whatever order ids and transaction ids
-- come in; and of one stream the earlier event is always in the same window or an earlier one.

set role stalela_owner;

create function payments.lock_cursor(destination text, kind text)
returns payments.outbox_cursors
language plpgsql
volatile
security definer -- callers may not write cursors
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
begin
    -- Windows are made of fresh snapshots; a transaction with a single old one would skip what started after it.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the outbox is read in read committed transactions'
            using errcode = 'invalid_transaction_state';
    end if;
    perform from public.destinations as d
    where d.destination = lock_cursor.destination and d.kind = lock_cursor.kind;
    if not found then
        raise exception 'there is no destination % of kind %', destination, kind using errcode = 'no_data_found';
    end if;
    loop
        -- Two consumers of one destination take turns.
        select c.* into cursor
        from payments.outbox_cursors as c
        where c.destination = lock_cursor.destination
        for update;
        exit when found;
        insert into payments.outbox_cursors (destination) values (lock_cursor.destination)
        on conflict do nothing;
    end loop;
    return cursor;
end
$$;
comment on function payments.lock_cursor is
'The cursor of a destination, locked until the end of this transaction; made when it reads for the first time.';

create function payments.last_outbox_id()
returns bigint
language plpgsql
volatile
security definer -- callers may not read sequences
set search_path = ''
as $$
begin
    return coalesce(pg_sequence_last_value('payments.outbox_outbox_id_seq'), 0);
end
$$;
comment on function payments.last_outbox_id is 'The greatest outbox id given out so far, committed or not.';

create function payments.last_id_before_us()
returns bigint
language plpgsql
volatile
security definer -- callers may not read sequences
set search_path = ''
as $$
begin
    return case when pg_current_xact_id_if_assigned() is null then payments.last_outbox_id() end;
end
$$;
comment on function payments.last_id_before_us is
'To be asked before this transaction gets its number: whoever gets a later number has greater outbox ids. Null when it has one already, which makes the next window start where the last one did.';

create function payments.read_window(cursor payments.outbox_cursors, max_rows integer)
returns payments.outbox[]
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
declare
    -- Of their own, because a member of a record is looked up for every row that is read.
    target text := cursor.destination;
    position bigint := cursor.position;
    seen_id bigint := cursor.seen_id;
    last_id bigint := cursor.window_last_id;
    first_xid xid8 := pg_snapshot_xmax(cursor.seen);
    window_end pg_snapshot := cursor.window_end;
    -- Who was at work when `seen` was taken and was done when the window ended.
    finished xid8[] := array(
        select w.xid from pg_snapshot_xip(cursor.seen) as w (xid) where pg_visible_in_snapshot(w.xid, window_end)
    );
    found payments.outbox[] := array(
        select o
        from payments.outbox as o
        where
            o.destination = target and o.outbox_id > greatest(position, seen_id) and o.outbox_id <= last_id
            and o.xid >= first_xid
            and pg_visible_in_snapshot(o.xid, window_end)
        order by o.outbox_id
        limit max_rows
    );
    late payments.outbox[] := '{}'::payments.outbox[];
begin
    if finished <> '{}' then
        late := array(
            select o
            from payments.outbox as o
            where o.xid = any(finished) and o.destination = target and o.outbox_id > position
            order by o.outbox_id
            limit max_rows
        );
    end if;
    -- One statement for both would be shorter and take three times as long: whole rows pass through it twice.
    if late = '{}' then
        return found;
    elsif late[cardinality(late)].outbox_id < found[1].outbox_id then
        return late || found[1:max_rows - cardinality(late)];
    end if;
    return array(select u from unnest(late || found) as u order by u.outbox_id limit max_rows);
end
$$;
comment on function payments.read_window is
'The next rows of the window of this cursor, in the order of their ids, which is the order of each stream. Reads what it returns and little else, however long the backlog and however old a writer.';

create function payments.open_window(cursor payments.outbox_cursors, last_id_before_us bigint)
returns payments.outbox_cursors
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
declare
    own xid8 := pg_current_xact_id();
    now_seen pg_snapshot := pg_current_snapshot();
    -- A snapshot ends after the last transaction that ended, so later numbers may be at work too, with ids of any age.
    -- They are named one by one, up to our own number: whoever comes after us has ids after last_id_before_us.
    named text[];
begin
    if pg_snapshot_xmax(now_seen) < own then
        named := array(select x.xid::text from pg_snapshot_xip(now_seen) as x (xid) order by x.xid)
            || array(
                select n::text
                from generate_series(pg_snapshot_xmax(now_seen)::text::bigint, own::text::bigint - 1) as n
            );
        now_seen := format(
            '%s:%s:%s', pg_snapshot_xmin(now_seen), own, array_to_string(named, ',')
        )::pg_snapshot;
    end if;
    cursor.window_end := now_seen;
    cursor.window_first_id := coalesce(last_id_before_us, cursor.seen_id);
    cursor.window_last_id := payments.last_outbox_id();
    return cursor;
end
$$;
comment on function payments.open_window is 'A window from what this cursor has seen to what is committed now.';

create function payments.next_page(cursor payments.outbox_cursors, last_id_before_us bigint, max_rows integer)
returns payments.outbox_page
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
declare
    page payments.outbox[];
    is_new boolean := false;
begin
    loop
        if cursor.window_end is null then
            is_new := true;
            cursor := payments.open_window(cursor, last_id_before_us);
        end if;
        page := payments.read_window(cursor, max_rows);
        if cardinality(page) = max_rows then
            cursor.position := page[max_rows].outbox_id;
            exit;
        end if;
        -- The window is read to its end.
        cursor.seen := cursor.window_end;
        cursor.seen_id := cursor.window_first_id;
        cursor.window_end := null;
        cursor.window_first_id := null;
        cursor.window_last_id := null;
        cursor.position := 0;
        exit when is_new or page <> '{}';
    end loop;
    return row(page, cursor);
end
$$;
comment on function payments.next_page is
'The next rows of the log for this cursor and where it then stands; an empty page means that nothing is left to read now.';

create function payments.read_outbox(cursor payments.outbox_cursors, last_id_before_us bigint, max_rows integer)
returns payments.outbox[]
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    step payments.outbox_page;
    held text[];
    result payments.outbox[] := '{}'::payments.outbox[];
begin
    while cardinality(result) < max_rows loop
        step := payments.next_page(cursor, last_id_before_us, max_rows - cardinality(result));
        cursor := step.cursor;
        exit when step.rows = '{}';
        held := payments.held_streams(cursor.destination, array(select p.ordering_key from unnest(step.rows) as p));
        if held <> '{}' then
            insert into payments.outbox_exceptions (
                destination, outbox_id, event_id, event_type, tenant_id, environment, ordering_key, seq, state,
                created_at
            )
            select p.destination, p.outbox_id, p.event_id, p.event_type, p.tenant_id, p.environment, p.ordering_key,
                p.seq, 'waiting', p.created_at
            from unnest(step.rows) as p
            where p.ordering_key = any(held);
            step.rows := array(
                select p from unnest(step.rows) as p where p.ordering_key <> all(held) order by p.outbox_id
            );
        end if;
        result := result || step.rows;
        exit when cursor.window_end is null and result <> '{}';
    end loop;
    update payments.outbox_cursors as c
    set
        seen = cursor.seen, seen_id = cursor.seen_id, window_end = cursor.window_end,
        window_first_id = cursor.window_first_id, window_last_id = cursor.window_last_id,
        position = cursor.position, moved_by = pg_current_xact_id(), moved_at = clock_timestamp()
    where c.destination = cursor.destination;
    return result;
end
$$;
comment on function payments.read_outbox is
'Reads on in the log and moves the cursor. What belongs to a stream that is held is parked behind it instead of returned, so a stuck stream delays only itself.';

create function payments.held_streams(destination text, ordering_keys text[])
returns text[]
language plpgsql
stable
security definer -- callers may not read exceptions
set search_path = ''
as $$
begin
    return array(
        select e.ordering_key
        from payments.outbox_exceptions as e
        where e.destination = held_streams.destination and e.ordering_key = any(held_streams.ordering_keys)
        union
        select k.ordering_key
        from payments.outbox_leases as l
        cross join lateral unnest(l.ordering_keys) as k (ordering_key)
        where l.destination = held_streams.destination and k.ordering_key = any(held_streams.ordering_keys)
    );
end
$$;
comment on function payments.held_streams is
'Which of these streams have a delivery that failed, waits or is out on lease: their later events must wait.';

create function payments.deliveries_of(destination text, page payments.outbox[], parked bigint[])
returns setof payments.delivery
language plpgsql
stable
security definer -- callers may not read events
set search_path = ''
set max_parallel_workers_per_gather = 0 -- starting them takes longer than reading a batch
as $$
begin
    return query
    select
        r.outbox_id, r.event_id, r.event_type, r.tenant_id, r.environment, r.ordering_key, r.seq, r.attempts,
        coalesce(t.occurred_at, i.occurred_at, f.occurred_at), coalesce(t.traceparent, i.traceparent, f.traceparent),
        coalesce(t.payload, i.payload, f.payload)
    from (
        select p.outbox_id, p.event_id, p.event_type, p.tenant_id, p.environment, p.ordering_key, p.seq, 0 as attempts
        from unnest(page) as p
        union all
        select e.outbox_id, e.event_id, e.event_type, e.tenant_id, e.environment, e.ordering_key, e.seq, e.attempts
        from payments.outbox_exceptions as e
        where e.destination = deliveries_of.destination and e.outbox_id = any(parked)
    ) as r
    left join payments.transfer_events as t on t.event_id = r.event_id
    -- An event is of one kind: where it was found, nobody looks for nothing in the other indexes.
    left join payments.intent_events as i on i.event_id = case when t.event_id is null then r.event_id end
    left join fiscal.events as f on f.event_id = case when coalesce(t.event_id, i.event_id) is null then r.event_id end
    order by r.outbox_id;
end
$$;
comment on function payments.deliveries_of is 'Rows of the log and parked deliveries as their consumer sees them, in the order of each stream.';

create function payments.take_events(destination text, max_rows integer)
returns setof payments.delivery
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    last_id_before_us bigint := payments.last_id_before_us();
    cursor payments.outbox_cursors := payments.lock_cursor(destination, 'database');
    retried bigint[];
    page payments.outbox[] := '{}'::payments.outbox[];
begin
    perform payments.finish_taken(take_events.destination);
    retried := payments.claim_due(take_events.destination, 'taken', max_rows);
    if cardinality(retried) < max_rows then
        page := payments.read_outbox(cursor, last_id_before_us, max_rows - cardinality(retried));
    end if;
    return query select d.* from payments.deliveries_of(take_events.destination, page, retried) as d;
end
$$;
comment on function payments.take_events is
'For a consumer inside Postgres: the next events of its destination, due retries first. Whatever it returns is delivered when this transaction commits, unless payments.fail_event says otherwise before; a rollback delivers nothing and loses nothing.';

reset role;
