-- Known parties against new lists: who is due, and what became of it.

set role stalela_owner;

create function compliance.claim_parties(list_version bigint, max_rows integer)
returns jsonb
language plpgsql
volatile
security definer -- functions may not read parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    claimed jsonb;
begin
    with due as (
        select p.party_id
        from compliance.parties as p
        where
            (p.list_version is null or p.list_version < claim_parties.list_version)
            and (p.lease_until is null or p.lease_until <= now())
        order by p.list_version nulls first, p.party_id
        limit claim_parties.max_rows
        for update skip locked
    ),
    leased as (
        update compliance.parties as p
        set lease_until = now() + interval '60 seconds'
        from due as d
        where p.party_id = d.party_id
        returning p.*
    )
    select coalesce(jsonb_agg(jsonb_build_object(
        'party_id', l.party_id, 'tenant_id', l.tenant_id, 'environment', l.environment,
        'is_customer', l.payment_intent_id is not null, 'profile_sealed', l.profile_sealed,
        -- Who was clear is compared with younger entries only; all others with everything.
        'clear_up_to', case when l.decision = 'clear' then l.list_version end,
        'exempt', compliance.exempt_entries(l.tenant_id, l.environment, l.fingerprint)
    )), '[]')
    into claimed
    from leased as l;
    return claimed;
end
$$;
comment on function compliance.claim_parties is
'Parties that wait for their first screening or for one against this version of the lists, under a lease of a minute.';

create function compliance.poke_screening()
returns boolean
language plpgsql
volatile
security definer -- callers may not read parties
set search_path = ''
as $$
declare
    current_version bigint := (compliance.index_state() ->> 'version')::bigint;
    waiting compliance.parties;
begin
    select p.* into waiting
    from compliance.parties as p
    where p.list_version is null or p.list_version < current_version
    order by p.list_version nulls first, p.party_id
    limit 1;
    if not found or current_version = 0 then
        perform public.resolve_alert('screening_behind', 'compliance', 'nobody waits');
        return false;
    end if;
    -- Nobody is cleared meanwhile, so what stands still is payments; a poke tells nobody whether it arrived.
    if greatest(waiting.updated_at, (
        select max(l.checked_at) from compliance.lists as l
    )) < now() - interval '5 minutes' then
        perform public.raise_alert('screening_behind', 'critical', 'compliance', null, null, jsonb_build_object(
            'party_id', waiting.party_id, 'since', waiting.updated_at
        ));
    end if;
    perform public.poke('compliance');
    return true;
end
$$;
comment on function compliance.poke_screening is
'Wakes the compliance function when a party is due, and raises an alert when one has waited for five minutes. A cron task.';

create function compliance.refresh_clear(party_ids text[], list_version bigint)
returns integer
language plpgsql
volatile
security definer -- callers may not write parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    refreshed integer;
begin
    update compliance.parties as p
    set list_version = refresh_clear.list_version, screened_at = now(), lease_until = null
    where
        p.party_id = any(refresh_clear.party_ids) and p.decision = 'clear'
        and p.list_version <= refresh_clear.list_version;
    get diagnostics refreshed = row_count;
    return refreshed;
end
$$;
comment on function compliance.refresh_clear is
'Parties that were clear and match nothing that is new are clear under the newer list too: no result of its own, the version says it.';

reset role;
