-- Canonical JSON made by the database itself.

set role stalela_owner;

create function fiscal.canonical_text(value jsonb)
returns text
language plpgsql
immutable
strict
set search_path = ''
as $$
begin
    case jsonb_typeof(value)
        when 'object' then
            return (
                -- Ordered by UTF-16 units, which for ASCII is by bytes.
                select '{' || coalesce(string_agg(
                    fiscal.canonical_name(m.key) || ':' || fiscal.canonical_text(m.value), ',' order by m.key collate "C"
                ), '') || '}'
                from jsonb_each(value) as m
            );
        when 'array' then
            return (
                select '[' || coalesce(string_agg(fiscal.canonical_text(e.value), ',' order by e.place), '') || ']'
                from jsonb_array_elements(value) with ordinality as e (value, place)
            );
        when 'number' then
            if value::text !~ '^-?\d{1,15}$' then
                raise exception 'only whole numbers are written as numbers, not %', value;
            end if;
            return value::text;
        else
            -- Postgres escapes in text exactly what RFC 8785 does.
            return value::text;
    end case;
end
$$;
comment on function fiscal.canonical_text is
'The one text (RFC 8785) that stands for a JSON value: members in order, no spaces. Amounts are text in it, never numbers.';

create function fiscal.canonical_name(name text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    if name ~ '[^\x20-\x7e]' then
        raise exception 'the member % is not named in ASCII', name;
    end if;
    return to_json(name)::text;
end
$$;
comment on function fiscal.canonical_name is 'A member''s name; only ASCII, whose order is the same in UTF-8 and UTF-16.';

create function fiscal.instant_text(at timestamptz)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
end
$$;
comment on function fiscal.instant_text is 'A time as sealed documents write it: UTC, whole seconds.';

reset role;
