-- Whose day it is.

set role stalela_owner;

create function recon.time_zone_of(tenant_id text)
returns text
language plpgsql
stable
security definer -- callers may not read tenants
set search_path = ''
as $$
begin
    return coalesce(
        (
            select z.time_zone
            from public.tenants as t
            inner join recon.time_zones as z on z.country = t.country
            where t.tenant_id = time_zone_of.tenant_id
        ),
        'UTC'
    );
end
$$;
comment on function recon.time_zone_of is 'The zone in which a tenant counts its days: that of its country, otherwise UTC.';

create function recon.day_number(day date, banking boolean)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
declare
    -- 2001-01-01 was a Monday.
    days constant integer := day - date '2001-01-01';
begin
    if not banking then
        return days;
    end if;
    -- Five to a week; Saturday and Sunday count as the Monday after them.
    return days / 7 * 5 + least(days % 7, 5);
end
$$;
comment on function recon.day_number is 'Numbers days so that neighbours differ by one: calendar days, or banking days. For dates since 2001.';

reset role;
