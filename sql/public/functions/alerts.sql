-- Alarms for people.

set role stalela_owner;

create function public.raise_alert(
    kind text, severity text, subject text, tenant_id text, environment text, details jsonb
)
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
declare
    open_id bigint;
begin
    select a.alert_id into open_id
    from public.alerts as a
    where a.kind = raise_alert.kind and a.subject = raise_alert.subject and a.status = 'open';
    if not found then
        insert into public.alerts (kind, severity, subject, tenant_id, environment, details)
        values (
            raise_alert.kind, raise_alert.severity, raise_alert.subject, raise_alert.tenant_id,
            raise_alert.environment, coalesce(raise_alert.details, '{}')
        )
        on conflict (kind, subject) where status = 'open' do nothing;
        return;
    end if;
    -- A flood of the same trouble must not queue behind one row: who cannot have it at once does not count.
    -- (An insert that conflicts would wait for whoever is counting, which is why the look comes first.)
    update public.alerts as a
    set occurrences = a.occurrences + 1, last_at = now(), details = coalesce(raise_alert.details, '{}')
    where a.alert_id = any(array(
        select o.alert_id from public.alerts as o
        where o.alert_id = open_id and o.status = 'open' for update skip locked
    ));
end
$$;
comment on function public.raise_alert is
'Opens an alert, or counts once more on the open one of the same kind and subject (at least: simultaneous ones count once). Keeps the last details.';

create function public.resolve_alert(kind text, subject text, resolution text)
returns void
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
#variable_conflict use_column
begin
    update public.alerts as a
    set status = 'resolved', resolved_at = now(), resolution = resolve_alert.resolution
    where a.kind = resolve_alert.kind and a.subject = resolve_alert.subject and a.status = 'open';
end
$$;
comment on function public.resolve_alert is 'Closes the open alert of this kind and subject, if there is one; the next trouble opens a new one.';

reset role;
