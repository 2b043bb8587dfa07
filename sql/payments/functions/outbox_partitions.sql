-- Partitions of the outbox: made ahead, dropped whole when everybody is past them.

set role stalela_owner;

create function payments.outbox_partitions(out partition regclass, out from_at timestamptz, out to_at timestamptz)
returns setof record
language sql
stable
security invoker
set search_path = ''
as $$
    select c.oid::regclass, bounds.at[1]::timestamptz, bounds.at[2]::timestamptz
    from pg_catalog.pg_inherits as i
    inner join pg_catalog.pg_class as c on c.oid = i.inhrelid
    cross join lateral (
        select regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)')
    ) as bounds (at)
    where i.inhparent = 'payments.outbox'::regclass and bounds.at is not null
    order by 2;
$$;
comment on function payments.outbox_partitions is 'The partitions of the outbox by time; the one for everything else is not among them.';

create function payments.add_outbox_partitions()
returns integer
language plpgsql
volatile
security definer -- cron may not create tables
set search_path = ''
set lock_timeout = '200ms' -- nobody queues behind this; the next run tries again
as $$
declare
    width interval := make_interval(secs => (public.setting('outbox.partition_s'))::integer);
    ahead interval := make_interval(secs => (public.setting('outbox.ahead_s'))::integer);
    from_at timestamptz := (select max(p.to_at) from payments.outbox_partitions() as p);
    stray timestamptz := (select max(r.created_at) from payments.outbox_rest as r);
    name text;
    added integer := 0;
begin
    -- Aligned, so that days are days; never over rows that came while there was no partition.
    from_at := greatest(
        from_at, date_bin(width, now(), '2026-01-01 00:00:00+00'),
        date_bin(width, stray, '2026-01-01 00:00:00+00') + width
    );
    if stray is not null then
        perform public.raise_alert(
            'outbox_without_partition', 'warning', 'payments.outbox_rest', null, null,
            jsonb_build_object('until', stray)
        );
    end if;
    while from_at < now() + ahead loop
        name := 'outbox_' || to_char(from_at at time zone 'UTC', 'YYYYMMDD_HH24MISS');
        -- Made apart and attached: inserting goes on meanwhile.
        execute format('create table payments.%I (like payments.outbox including defaults)', name);
        execute format(
            'comment on table payments.%I is %L', name,
            format('Rows of payments.outbox from %s, dropped when every destination is past them.', from_at)
        );
        execute format('alter table payments.%I enable row level security', name);
        execute format(
            'create policy %I on payments.%I for select to authenticated using ('
            'tenant_id = (select public.tenant_id()) and environment = (select public.environment()))',
            name || '_select_own', name
        );
        execute format(
            'alter table payments.outbox attach partition payments.%I for values from (%L) to (%L)',
            name, from_at, from_at + width
        );
        from_at := from_at + width;
        added := added + 1;
    end loop;
    return added;
end
$$;
comment on function payments.add_outbox_partitions is
'Makes the partitions of the time ahead (settings outbox.partition_s and outbox.ahead_s); returns how many. A cron task.';

create function payments.outbox_is_past(destination text, partition regclass)
returns boolean
language plpgsql
stable
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
declare
    cursor payments.outbox_cursors;
    unread boolean;
begin
    select c.* into cursor
    from payments.outbox_cursors as c
    where c.destination = outbox_is_past.destination;
    execute format(
        'select exists (select from %1$s as o where o.destination = $1 and o.outbox_id > $2'
        '  and not pg_visible_in_snapshot(o.xid, $3))'
        ' or exists (select from %1$s as o where o.destination = $1 and o.xid = any(array('
        '  select x.xid from pg_snapshot_xip($3) as x (xid))))'
        ' or exists (select from payments.outbox_leases as l where l.destination = $1 and l.outbox_ids[1] <= ('
        '  select max(o.outbox_id) from %1$s as o where o.destination = $1))',
        partition
    )
    into unread
    using outbox_is_past.destination, coalesce(cursor.seen_id, 0), coalesce(cursor.seen, '1:1:'::pg_snapshot);
    return not unread;
end
$$;
comment on function payments.outbox_is_past is
'Whether a destination has read, and answered for, all its rows of a partition. What failed is kept beside the log.';

create function payments.drop_outbox_partition()
returns integer
language plpgsql
volatile
security definer -- cron may not drop tables
set search_path = ''
set lock_timeout = '200ms' -- inserts queue behind the drop for so long at most; the next run tries again
as $$
#variable_conflict use_column
declare
    retention interval := make_interval(secs => (public.setting('outbox.retention_s'))::integer);
    old record;
    behind text;
begin
    select p.* into old
    from (
        select q.partition, q.to_at, false as is_rest from payments.outbox_partitions() as q
        union all
        select 'payments.outbox_rest', max(r.created_at), true from payments.outbox_rest as r
    ) as p
    where p.to_at <= now() - retention
    order by p.to_at
    limit 1;
    if not found then
        return 0;
    end if;
    for behind in
        select d.destination
        from public.destinations as d
        where d.enabled and not payments.outbox_is_past(d.destination, old.partition)
        order by d.destination
    loop
        perform public.raise_alert(
            'outbox_not_read', 'critical', behind, null, null,
            jsonb_build_object('partition', old.partition::text, 'until', old.to_at)
        );
    end loop;
    if behind is not null then
        return 0;
    end if;
    if old.is_rest then
        truncate payments.outbox_rest;
        perform public.resolve_alert('outbox_without_partition', 'payments.outbox_rest', 'empty again');
    else
        execute format('drop table %s', old.partition);
    end if;
    return 1;
end
$$;
comment on function payments.drop_outbox_partition is
'Drops the oldest partition that is over the setting outbox.retention_s, if every enabled destination is past it; alerts about those that are not. Returns how many. A cron task.';

reset role;
