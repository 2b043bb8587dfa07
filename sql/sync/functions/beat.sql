-- The five-minute beat and the quick one.

set role stalela_owner;

create function sync.poke_due()
returns boolean
language plpgsql
volatile
security definer -- cron may not read the queue
set search_path = ''
as $$
begin
    if not exists (select from sync.due_devices()) then
        return false;
    end if;
    perform public.poke('authority_sync');
    return true;
end
$$;
comment on function sync.poke_due is 'Wakes authority_sync when a document may go to its authority. A cron task.';

create function sync.beat()
returns integer
language plpgsql
volatile
security definer -- cron may not write the queue
set search_path = ''
as $$
declare
    given_up integer := sync.give_up_late();
begin
    perform sync.poke_due();
    if exists (select from sync.authority_devices as d where sync.is_check_due(d)) then
        perform public.poke('authority_sync/checks');
    end if;
    return given_up;
end
$$;
comment on function sync.beat is
'Every five minutes: gives up what did not arrive in its time of grace, wakes whoever has work, has devices looked after. A cron task.';

create function sync.give_up_late()
returns integer
language plpgsql
volatile
security definer -- cron may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    late sync.authority_sync_queue;
    moved sync.authority_sync_queue;
    given_up integer := 0;
begin
    for late in
        select q.*
        from sync.authority_sync_queue as q
        inner join sync.authorities as a on a.jurisdiction = q.jurisdiction
        inner join sync.consents as c on c.tenant_id = q.tenant_id and c.environment = q.environment and c.is_given
        where
            q.status in ('PENDING', 'RETRY') and q.next_attempt_at < 'infinity'
            and q.grace_from < now() - make_interval(hours => a.grace_h)
            and not exists (
                select from sync.switches as s
                where s.jurisdiction = q.jurisdiction and s.environment = q.environment and s.mode <> 'on'
            )
        order by q.sync_id
        limit 500
        for update of q skip locked
    loop
        moved := sync.advance(late.sync_id, 'give_up', null, null, null);
        perform public.raise_alert(
            'authority_sync_failed', 'warning', late.subject, late.tenant_id, late.environment,
            jsonb_build_object('attempts', late.attempts, 'code', late.last_error_code, 'since', late.grace_from)
        );
        perform sync.tell(moved, late.status, 'invoice.sync.failed', null);
        given_up := given_up + 1;
    end loop;
    return given_up;
end
$$;
comment on function sync.give_up_late is
'Documents that did not reach the authority within its time of grace fail, and a person hears of each. Waiting for a signature, a consent or a switch does not count.';

create function sync.poke_reseal()
returns boolean
language plpgsql
volatile
security definer -- cron may not read devices
set search_path = ''
as $$
begin
    -- Which master key is current only the function knows; it answers in one call when nothing is old.
    if not exists (select from sync.authority_devices) then
        return false;
    end if;
    perform public.poke('authority_sync/reseal');
    return true;
end
$$;
comment on function sync.poke_reseal is 'Wakes authority_sync to seal credentials again that are under an older master key. A cron task.';

reset role;
