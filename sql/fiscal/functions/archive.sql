-- The archive: ranges of an outlet's chain with all that proves them, kept elsewhere for as long as the law wants.
-- The manifest of a range is itself an entry of the chain, so it is signed, and what it says cannot change unseen.

set role stalela_owner;

create function fiscal.archive_due(outlet_id text, until timestamptz, max_rows integer, skipped text[] default '{}')
returns setof jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'outlet_id', o.outlet_id, 'outlet_code', o.outlet_code, 'merchant_id', m.merchant_id,
        'jurisdiction', m.jurisdiction, 'fiscal_authority_id', o.fiscal_authority_id, 'environment', o.environment,
        'day', range.day,
        'first_entry', done.last_entry + 1, 'last_entry', range.last_entry,
        'retention_years', j.retention_years
    )
    from fiscal.outlets as o
    inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
    inner join tax.jurisdictions as j on j.jurisdiction = m.jurisdiction
    cross join lateral (
        select coalesce(max(a.last_entry), 0) as last_entry
        from fiscal.archive_manifests as a
        where a.outlet_id = o.outlet_id
    ) as done
    -- A manifest alone is no reason for another: an outlet at rest stays at rest.
    cross join lateral (
        select left(l.sealed_at, 10) as day
        from fiscal.fiscal_ledger as l
        where l.outlet_id = o.outlet_id and l.entry_no > done.last_entry and l.record_type <> 'archive'
        order by l.entry_no
        limit 1
    ) as next_day
    -- What has no signature yet comes with a later range, as does all behind it.
    cross join lateral (
        select coalesce(min(l.entry_no), 9223372036854775807) as entry_no
        from signing.signing_queue as q
        inner join fiscal.fiscal_ledger as l on l.fiscal_number = q.fiscal_number
        where q.tenant_id = o.tenant_id and q.environment = o.environment and l.outlet_id = o.outlet_id
    ) as unsigned
    cross join lateral (
        select next_day.day, max(l.entry_no) as last_entry
        from fiscal.fiscal_ledger as l
        where
            l.outlet_id = o.outlet_id and l.entry_no > done.last_entry and l.entry_no < unsigned.entry_no
            and left(l.sealed_at, 10) <= next_day.day and l.sealed_at::timestamptz < archive_due.until
    ) as range
    where
        o.outlet_id = coalesce(archive_due.outlet_id, o.outlet_id) and o.outlet_id <> all(archive_due.skipped)
        and range.last_entry is not null
        and exists (
            select from fiscal.fiscal_ledger as l
            where
                l.outlet_id = o.outlet_id and l.entry_no between done.last_entry + 1 and range.last_entry
                and l.record_type <> 'archive'
        )
    order by range.day, o.outlet_id
    limit archive_due.max_rows;
end
$$;
comment on function fiscal.archive_due is
'The next range of each outlet''s entries that is to be archived: a day in UTC (or what there is of it before `until`), from where the one before ended, all of it signed. Of all outlets but those skipped, or of the one named.';

create function fiscal.archive_page(outlet_id text, first_entry bigint, last_entry bigint)
returns jsonb
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'ledger', jsonb_agg(row_to_json(l)::text order by l.entry_no),
            'documents', jsonb_agg(fiscal.invoice_resource(l.invoice_id) order by l.entry_no)
                filter (where l.invoice_id is not null),
            'signatures', jsonb_agg(row_to_json(s)::text order by l.entry_no) filter (where s.fiscal_number is not null),
            'reports', jsonb_agg(row_to_json(z)::text order by l.entry_no) filter (where z.report_id is not null),
            'rotations', jsonb_agg(row_to_json(k)::text order by l.entry_no) filter (where k.fiscal_number is not null),
            'manifests', jsonb_agg(row_to_json(a)::text order by l.entry_no) filter (where a.fiscal_number is not null),
            -- The words of every entry that is no document, whatever kinds there will be.
            'bodies', jsonb_agg(jsonb_build_object(
                'fiscal_number', l.fiscal_number,
                'body', fiscal.entry_body(l.record_type, l.fiscal_number)
            )::text order by l.entry_no) filter (where l.invoice_id is null),
            'signing_log', (
                select jsonb_agg(row_to_json(g)::text order by g.signing_log_id)
                from signing.signing_log as g
                where g.fiscal_number = any(array_agg(l.fiscal_number))
            )
        )
        from fiscal.fiscal_ledger as l
        left join fiscal.signatures as s on s.fiscal_number = l.fiscal_number
        left join fiscal.reports as z on z.fiscal_number = l.fiscal_number
        left join signing.key_rotations as k on k.fiscal_number = l.fiscal_number
        left join fiscal.archive_manifests as a on a.fiscal_number = l.fiscal_number
        where
            l.outlet_id = archive_page.outlet_id
            and l.entry_no between archive_page.first_entry and archive_page.last_entry
    );
end
$$;
comment on function fiscal.archive_page is
'Some entries of a range with all that belongs to them, a JSON line each, by kind: documents as the API shows them, and whatever other entries stand for.';

create function fiscal.archive_keys(outlet_id text)
returns setof text
language plpgsql
stable
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select row_to_json(k)::text
    from fiscal.outlets as o
    inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
    inner join signing.keys as k on k.jurisdiction = m.jurisdiction and k.environment = o.environment
    where o.outlet_id = archive_keys.outlet_id
    order by k.key_id;
end
$$;
comment on function fiscal.archive_keys is 'Every key that may have signed for this outlet, a JSON line each: public halves, with what became of them.';

create function fiscal.record_manifest(
    outlet_id text, first_entry bigint, last_entry bigint, day date, prefix text, body text
)
returns text
language plpgsql
volatile
security definer -- callers may not write the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    outlet fiscal.outlets;
    previous fiscal.archive_manifests;
    number bigint;
    name text;
begin
    select o.* into strict outlet from fiscal.outlets as o where o.outlet_id = record_manifest.outlet_id;
    perform fiscal.lock_outlet(outlet.outlet_id);
    select a.* into previous
    from fiscal.archive_manifests as a
    where a.outlet_id = outlet.outlet_id
    order by a.manifest_no desc
    limit 1;
    if previous.last_entry >= record_manifest.first_entry then
        return null; -- another run was faster; the objects of this one are an orphaned copy
    end if;
    number := fiscal.next_number(outlet.outlet_id, 'archive');
    name := concat_ws('-', 'A', outlet.outlet_code, lpad(number::text, greatest(6, length(number::text)), '0'));
    perform fiscal.append_entry(
        outlet, 'archive', name, number, encode(sha256(convert_to(record_manifest.body, 'UTF8')), 'hex'), null
    );
    insert into fiscal.archive_manifests (
        fiscal_number, outlet_id, tenant_id, environment, manifest_no, first_entry, last_entry, day, prefix, body
    ) values (
        name, outlet.outlet_id, outlet.tenant_id, outlet.environment, number, record_manifest.first_entry,
        record_manifest.last_entry, record_manifest.day, record_manifest.prefix, record_manifest.body
    );
    perform public.poke('invoices/sign');
    return name;
end
$$;
comment on function fiscal.record_manifest is
'Puts the manifest of objects that are kept into the outlet''s chain, to be signed; its number. Null when this range has one already.';

create function fiscal.archive_open(outlet_id text, max_rows integer, skipped text[] default '{}')
returns setof jsonb
language plpgsql
stable
security definer -- callers may not read signatures
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'fiscal_number', a.fiscal_number,
        'outlet_id', a.outlet_id,
        'prefix', a.prefix,
        'first_entry', a.first_entry,
        'last_entry', a.last_entry,
        'body', format(
            '{"manifest":%s,"entry":%s,"signature":%s}', a.body, row_to_json(l), row_to_json(s)
        )
    )
    from fiscal.archive_manifests as a
    inner join fiscal.fiscal_ledger as l on l.fiscal_number = a.fiscal_number
    inner join fiscal.signatures as s on s.fiscal_number = a.fiscal_number
    where
        a.outlet_id = coalesce(archive_open.outlet_id, a.outlet_id) and a.outlet_id <> all(archive_open.skipped)
        and not exists (select from fiscal.archive_copies as c where c.fiscal_number = a.fiscal_number)
    order by a.created_at
    limit archive_open.max_rows;
end
$$;
comment on function fiscal.archive_open is
'Manifests that have their signature and are not kept yet, of all outlets but those skipped, or of the one named. The text of each is the same whenever it is asked for.';

create function fiscal.record_copy(fiscal_number text, object_key text, sha256 text, bytes bigint)
returns void
language plpgsql
volatile
security definer -- callers may not write copies
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into fiscal.archive_copies (fiscal_number, tenant_id, environment, object_key, sha256, bytes)
    select a.fiscal_number, a.tenant_id, a.environment, record_copy.object_key, record_copy.sha256, record_copy.bytes
    from fiscal.archive_manifests as a
    where a.fiscal_number = record_copy.fiscal_number
    on conflict (fiscal_number) do nothing;
end
$$;
comment on function fiscal.record_copy is 'A manifest is kept, and with it all that it names: every object was read back and compared.';

create function fiscal.tell_archive_trouble(kind text, subject text, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
begin
    if tell_archive_trouble.kind not in ('archive_unprotected', 'archive_damaged') then
        raise exception 'no such trouble of an archive: %', kind;
    end if;
    perform public.raise_alert(
        tell_archive_trouble.kind, 'critical', tell_archive_trouble.subject, null, null,
        jsonb_build_object('reason', left(tell_archive_trouble.reason, 500))
    );
end
$$;
comment on function fiscal.tell_archive_trouble is
'The archive found a bucket that keeps nothing for long, or an object that is not what was sent: people must know.';

create function fiscal.ask_for_archive(outlet_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write the audit log
set search_path = ''
as $$
declare
    caller public.caller := public.staff();
begin
    perform from fiscal.outlets as o where o.outlet_id = ask_for_archive.outlet_id;
    if not found then
        perform public.refuse('40401', format('There is no outlet %s.', ask_for_archive.outlet_id));
    end if;
    perform public.audit(caller, 'outlet.archive', ask_for_archive.outlet_id, '{}');
end
$$;
comment on function fiscal.ask_for_archive is 'Whether the caller, an operator, may have this outlet archived now; audited. 40311, 40401.';

create function fiscal.list_archive(outlet_id text, page_size integer, page_after bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read manifests
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    outlet fiscal.outlets := fiscal.outlet_of(caller, list_archive.outlet_id);
    page json[];
    last_no bigint;
begin
    select array_agg(row_to_json(shown) order by shown.manifest_no desc), min(shown.manifest_no)
    into page, last_no
    from (
        select
            a.manifest_no, a.fiscal_number, a.day, a.first_entry, a.last_entry, a.prefix,
            encode(sha256(convert_to(a.body, 'UTF8')), 'hex') as manifest_sha256, c.object_key, c.verified_at
        from fiscal.archive_manifests as a
        left join fiscal.archive_copies as c on c.fiscal_number = a.fiscal_number
        where
            a.outlet_id = outlet.outlet_id
            and (list_archive.page_after is null or a.manifest_no < list_archive.page_after)
        order by a.manifest_no desc
        limit list_archive.page_size
    ) as shown;
    return public.reply(caller, 200, json_build_object(
        'data', coalesce(page, '{}'),
        'pagination', json_build_object(
            'limit', list_archive.page_size, 'has_more', coalesce(last_no, 1) > 1,
            'next_cursor', case when last_no > 1 then last_no::text end
        )
    ));
end
$$;
comment on function fiscal.list_archive is 'What of an outlet is archived, newest first; verified_at null: its manifest waits for its signature.';

create function fiscal.poke_archive()
returns boolean
language plpgsql
volatile
security definer -- cron may not read the ledger
set search_path = ''
as $$
declare
    midnight timestamptz := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC';
    oldest date := (select (w ->> 'day')::date from fiscal.archive_due(null, midnight, 1) as w);
begin
    if oldest is null and not exists (select from fiscal.archive_open(null, 1)) then
        perform public.resolve_alert('archive_overdue', 'archive', 'everything is archived');
        return false;
    end if;
    -- The night after a day is for archiving it; a second night means that it does not work.
    if oldest < midnight::date - 2 then
        perform public.raise_alert(
            'archive_overdue', 'warning', 'archive', null, null, jsonb_build_object('oldest_day', oldest)
        );
    end if;
    perform public.poke('archive');
    return true;
end
$$;
comment on function fiscal.poke_archive is 'Wakes the archive when a day is over or a manifest got its signature. A cron task.';

reset role;
