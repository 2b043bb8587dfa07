-- Sanctions lists: imported by an operator, read into memory by the compliance function, watched for age.

set role stalela_owner;

create function compliance.list_resource(source text)
returns json
language plpgsql
stable
security definer -- callers may not read lists
set search_path = ''
as $$
begin
    return (
        select json_build_object(
            'source', l.source, 'object', 'sanctions_list', 'name', l.name, 'required', l.required,
            'version', l.version, 'entries', l.entries, 'checked_at', l.checked_at,
            'stale', l.checked_at is null
                or l.checked_at < now() - make_interval(secs => (public.setting('compliance.stale_after_s'))::integer),
            'sha256', v.sha256, 'published_on', v.published_on
        )
        from compliance.lists as l
        left join compliance.list_versions as v on v.version = l.version
        where l.source = list_resource.source
    );
end
$$;
comment on function compliance.list_resource is 'The wire shape of a list: how old it is, how many are on it.';

create function compliance.show_lists()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read lists
set search_path = ''
as $$
declare
    caller public.caller := public.staff();
begin
    return public.reply(caller, 200, json_build_object('data', (
        select json_agg(compliance.list_resource(l.source) order by l.source) from compliance.lists as l
    )));
end
$$;
comment on function compliance.show_lists is 'The lists and their age, for operators.';

create function compliance.import_list(
    source text, sha256 text, published_on text, entries jsonb, may_shrink boolean
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write lists
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.staff();
    was compliance.lists;
    next_version bigint;
    added integer;
    changed integer;
    removed integer;
    given integer := jsonb_array_length(import_list.entries);
begin
    select l.* into was from compliance.lists as l where l.source = import_list.source for update;
    if not found then
        perform public.refuse('40401', format('There is no list %s.', import_list.source));
    elsif not may_shrink and given < was.entries / 2 then
        perform public.refuse('42262', format(
            'This file has %s entries, the list in force %s: nothing was imported. Send may_shrink=true if that is right.',
            given, was.entries
        ), '{"errors": [{"pointer": "", "detail": "less than half of the entries in force"}]}');
    end if;
    select
        (count(*) filter (where e.ref is null))::integer,
        (count(*) filter (
            where (e.kind, e.names, e.born, e.countries, e.documents)
            is distinct from (g.kind, g.names, g.born, g.countries, g.documents) and e.ref is not null
        ))::integer
    into added, changed
    from compliance.given_entries(import_list.entries) as g
    left join compliance.list_entries as e on e.source = import_list.source and e.ref = g.ref;
    select count(*)::integer into removed
    from compliance.list_entries as e
    where
        e.source = import_list.source
        and not exists (select from compliance.given_entries(import_list.entries) as g where g.ref = e.ref);

    if added + changed + removed > 0 then
        insert into compliance.list_versions (
            source, sha256, published_on, entries, added, changed, removed, imported_by
        ) values (
            import_list.source, import_list.sha256, import_list.published_on, given, added, changed, removed, caller.actor
        )
        returning version into next_version;
        delete from compliance.list_entries as e
        where
            e.source = import_list.source
            and not exists (select from compliance.given_entries(import_list.entries) as g where g.ref = e.ref);
        insert into compliance.list_entries as e (source, ref, since, kind, names, born, countries, documents)
        select import_list.source, g.ref, next_version, g.kind, g.names, g.born, g.countries, g.documents
        from compliance.given_entries(import_list.entries) as g
        on conflict on constraint list_entries_pkey do update
        set
            since = excluded.since, kind = excluded.kind, names = excluded.names, born = excluded.born,
            countries = excluded.countries, documents = excluded.documents
        where
            (e.kind, e.names, e.born, e.countries, e.documents)
            is distinct from (excluded.kind, excluded.names, excluded.born, excluded.countries, excluded.documents);
    end if;
    update compliance.lists as l
    set version = coalesce(next_version, l.version), entries = given, checked_at = now()
    where l.source = import_list.source;
    perform public.resolve_alert('sanctions_list_stale', import_list.source, 'imported');
    perform public.audit(caller, 'sanctions_list.import', import_list.source, jsonb_build_object(
        'sha256', import_list.sha256, 'entries', given, 'added', added, 'changed', changed, 'removed', removed
    ));
    -- Everybody known is compared with what is new.
    perform public.poke('compliance');
    return public.reply(caller, 200, json_build_object(
        'list', compliance.list_resource(import_list.source),
        'added', added, 'changed', changed, 'removed', removed
    ));
end
$$;
comment on function compliance.import_list is
'Replaces a list by the entries of one file, in one transaction; what reads as before keeps its age. A file with less than half of the entries is refused (42262) unless may_shrink. The same file again changes nothing but checked_at.';

create function compliance.given_entries(entries jsonb)
returns table (ref text, kind text, names text[], born text[], countries text[], documents text[])
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Files repeat an entry now and then: the last one stands.
    return query
    select distinct on (g.ref) g.ref, g.kind, g.names, g.born, g.countries, g.documents
    from rows from (
        jsonb_to_recordset(given_entries.entries)
        as (ref text, kind text, names text[], born text[], countries text[], documents text[])
    ) with ordinality as g (ref, kind, names, born, countries, documents, place)
    order by g.ref, g.place desc;
end
$$;
comment on function compliance.given_entries is 'The entries of an import as rows, each reference once.';

create function compliance.index_state()
returns jsonb
language plpgsql
stable
security definer -- functions may not read lists
set search_path = ''
as $$
begin
    return (
        select jsonb_build_object(
            'version', coalesce(max(l.version), 0),
            'hold_from', public.setting('compliance.hold_from'),
            'deny_from', public.setting('compliance.deny_from'),
            'usable', compliance.lists_usable(),
            'required', exists (select from compliance.profiles as p where p.screening <> '{}')
        )
        from compliance.lists as l
    );
end
$$;
comment on function compliance.index_state is
'What the compliance function must know to compare: the version of the index, the thresholds, whether the lists are fresh enough, whether any tenant needs them.';

create function compliance.lists_usable()
returns boolean
language plpgsql
stable
security definer -- callers may not read lists
set search_path = ''
as $$
begin
    return not exists (
        select from compliance.lists as l
        where
            l.required
            and coalesce(
                l.checked_at < now() - make_interval(secs => (public.setting('compliance.unusable_after_s'))::integer), true
            )
    );
end
$$;
comment on function compliance.lists_usable is 'Whether every required list was imported within compliance.unusable_after_s; otherwise nobody is cleared.';

create function compliance.read_index(after_source text, after_ref text, page_size integer)
returns jsonb
language plpgsql
stable
security definer -- functions may not read lists
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(page) order by page.source, page.ref), '[]')
        from (
            select e.*
            from compliance.list_entries as e
            where (e.source, e.ref) > (coalesce(read_index.after_source, ''), coalesce(read_index.after_ref, ''))
            order by e.source, e.ref
            limit read_index.page_size
        ) as page
    );
end
$$;
comment on function compliance.read_index is 'A page of the listed, by source and reference.';

create function compliance.watch_lists()
returns integer
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
declare
    old compliance.lists;
    stale integer := 0;
begin
    for old in
        select l.* from compliance.lists as l
        where
            l.required
            -- Nobody needs a list while nobody is screened.
            and exists (select from compliance.profiles as p where p.screening <> '{}')
            and coalesce(
                l.checked_at < now() - make_interval(secs => (public.setting('compliance.stale_after_s'))::integer), true
            )
        order by l.source
    loop
        perform public.raise_alert(
            'sanctions_list_stale', 'critical', old.source, null, null,
            jsonb_build_object('checked_at', old.checked_at, 'version', old.version)
        );
        stale := stale + 1;
    end loop;
    return stale;
end
$$;
comment on function compliance.watch_lists is 'Raises an alert for every required list that nobody imported for a day. A cron task.';

reset role;
