-- Aliases, institutions, calendars: what callers may look up, and how operators publish changes.

set role stalela_owner;

create function directory.open_lookup()
returns jsonb
language plpgsql
volatile
security definer -- functions may not read keys
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('payments:read', 'read');
begin
    return jsonb_build_object('version', directory.current_version(), 'headers', caller.rate);
end
$$;
comment on function directory.open_lookup is
'Whether the caller may look something up, and the version of the directory: what an instance remembers of an older one is void.';

create function directory.look_up(alias_type text, alias text, currency text)
returns jsonb
language plpgsql
stable
security definer -- functions may not read the directory
set search_path = ''
as $$
#variable_conflict use_column
declare
    kind directory.alias_types;
begin
    select t.* into kind from directory.alias_types as t where t.alias_type = look_up.alias_type;
    if not found then
        perform public.refuse_field('42262', '/alias_type', format('must be one of %s.', (
            select string_agg(t.alias_type, ', ' order by t.alias_type) from directory.alias_types as t
        )));
    elsif look_up.alias !~ kind.pattern then
        perform public.refuse_field('42262', '/alias', format('is no %s: %s.', kind.alias_type, kind.description));
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'rail', e.rail, 'institution_id', i.institution_id, 'institution', i.name, 'country', i.country,
            'matched', e.alias,
            'constraints', case when r.rail is not null then jsonb_build_object(
                'currencies', r.currencies, 'intents', r.intents,
                'min', public.format_amount(r.min_minor, coalesce(look_up.currency, r.currencies[1])),
                'max', public.format_amount(r.max_minor, coalesce(look_up.currency, r.currencies[1]))
            ) end,
            'fees', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'direction', f.direction, 'currency', f.currency, 'percent', (f.bps / 100.0)::numeric(8, 2)::text,
                    'fixed', public.format_amount(f.fixed_minor, f.currency)
                ) order by f.direction, f.currency), '[]')
                from directory.fees as f
                where
                    f.rail = e.rail and (look_up.currency is null or f.currency = look_up.currency)
                    and f.effective_from <= now() and (f.effective_to is null or f.effective_to > now())
            ),
            'opens_at', case when r.rail is not null then directory.next_opening(r.rail, now()) end,
            'version', e.version
        ) order by p.priority, e.institution_id), '[]')
        from directory.resolve(look_up.alias_type, look_up.alias, now()) as e
        inner join directory.institutions as i on i.institution_id = e.institution_id
        left join rails.rails as r
            on r.rail = e.rail and r.enabled and (look_up.currency is null or look_up.currency = any(r.currencies))
        left join directory.rail_facts as p on p.rail = e.rail
    );
end
$$;
comment on function directory.look_up is
'Whom an alias belongs to and how they are reached; an empty list when nobody knows it. 42262 when it is no such alias.';

create function directory.get_institution(institution_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read institutions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    shown json;
begin
    select json_build_object(
        'id', i.institution_id, 'object', 'institution', 'name', i.name, 'country', i.country, 'kind', i.kind,
        'status', i.status, 'rails', (
            select coalesce(json_agg(distinct e.rail), '[]')
            from directory.entries as e where e.institution_id = i.institution_id and e.rail is not null
        )
    )
    into shown
    from directory.institutions as i
    where i.institution_id = get_institution.institution_id;
    if not found then
        perform public.refuse('40401', format('There is no institution %s.', get_institution.institution_id));
    end if;
    return public.reply(caller, 200, shown);
end
$$;
comment on function directory.get_institution is 'An institution and the rails that reach it.';

create function directory.get_calendar(calendar text, from_day date, to_day date)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read calendars
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
begin
    perform from directory.calendars as c where c.calendar = get_calendar.calendar;
    if not found then
        perform public.refuse('40401', format('There is no calendar %s.', get_calendar.calendar));
    end if;
    return public.reply(caller, 200, json_build_object('calendar', get_calendar.calendar, 'data', (
        select coalesce(json_agg(json_build_object('day', c.day, 'description', c.description) order by c.day), '[]')
        from directory.calendars as c
        where c.calendar = get_calendar.calendar and c.day between get_calendar.from_day and get_calendar.to_day
    )));
end
$$;
comment on function directory.get_calendar is 'The public holidays of a country between two days.';

create function directory.publish(source text, sha256 text, effective_from timestamptz, entries jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write entries
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    next_version bigint;
    starts timestamptz := coalesce(publish.effective_from, now());
    odd record;
begin
    if starts < now() - interval '1 minute' then
        perform public.refuse_field('42262', '/effective_from', 'a version cannot begin in the past.');
    end if;
    select g.place, g.alias, t.alias_type, r.rail, g.rail as named_rail, i.institution_id, t.entry_pattern into odd
    from rows from (
        jsonb_to_recordset(publish.entries) as (alias_type text, alias text, institution_id text, rail text)
    ) with ordinality as g (alias_type, alias, institution_id, rail, place)
    left join directory.alias_types as t on t.alias_type = g.alias_type
    left join directory.institutions as i on i.institution_id = g.institution_id
    left join rails.rails as r on r.rail = g.rail
    where
        t.alias_type is null or i.institution_id is null or g.alias !~ t.entry_pattern
        or (g.rail is not null and r.rail is null)
    order by g.place
    limit 1;
    if found then
        perform public.refuse_field('42262', format('/entries/%s', odd.place - 1), case
            when odd.alias_type is null then 'There is no such alias_type.'
            when odd.institution_id is null then 'There is no such institution.'
            when odd.named_rail is not null and odd.rail is null then 'There is no such rail.'
            else 'This is no alias of its type.'
        end);
    end if;
    insert into directory.versions (source, sha256, entries, published_by)
    values (publish.source, publish.sha256, jsonb_array_length(publish.entries), caller.actor)
    returning version into next_version;
    -- What was true of these aliases ends where the new truth begins.
    update directory.entries as e
    set effective_to = starts
    from jsonb_to_recordset(publish.entries) as g (alias_type text, alias text)
    where
        e.alias_type = g.alias_type and e.alias = g.alias and e.effective_from < starts
        and (e.effective_to is null or e.effective_to > starts);
    insert into directory.entries (alias_type, alias, institution_id, rail, effective_from, version)
    select g.alias_type, g.alias, g.institution_id, g.rail, starts, next_version
    from jsonb_to_recordset(publish.entries) as g (alias_type text, alias text, institution_id text, rail text)
    on conflict on constraint entries_pkey do update
    set rail = excluded.rail, version = excluded.version, effective_to = null;
    perform public.audit(caller, 'directory.publish', next_version::text, jsonb_build_object(
        'source', publish.source, 'sha256', publish.sha256, 'entries', jsonb_array_length(publish.entries)
    ));
    perform public.poke('directory');
    return public.reply(caller, 201, json_build_object(
        'version', next_version, 'object', 'directory_version', 'source', publish.source, 'sha256', publish.sha256,
        'entries', jsonb_array_length(publish.entries), 'effective_from', starts
    ));
end
$$;
comment on function directory.publish is
'An operator publishes entries from a moment on: earlier ones of the same aliases end there and stay for the record. Audited; every instance forgets what it remembered. 201.';

reset role;
