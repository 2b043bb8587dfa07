-- Devices: what an outlet speaks to its authority as. Credentials are stored sealed and shown masked.

set role stalela_owner;

create function sync.device_resource(device sync.authority_devices)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', device.device_id, 'object', 'authority_device', 'outlet_id', device.outlet_id,
        'jurisdiction', device.jurisdiction, 'authority_ref', device.authority_ref, 'credentials', device.masked,
        'status', device.status, 'expires_at', device.expires_at, 'checked_at', device.checked_at,
        'last_error_code', device.last_error_code, 'last_error', device.last_error,
        'environment', device.environment, 'created_at', device.created_at, 'updated_at', device.updated_at
    );
end
$$;
comment on function sync.device_resource is 'A device as the API shows it: masked, never the values.';

create function sync.begin_registration(outlet_id text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not read outlets
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    outlet fiscal.outlets := fiscal.outlet_of(caller, begin_registration.outlet_id);
begin
    if not exists (select from sync.authorities as a where a.jurisdiction = merchant.jurisdiction) then
        perform public.refuse('40401', format('The authority of %s is not connected.', merchant.jurisdiction));
    end if;
    return jsonb_build_object(
        'tenant_id', caller.tenant_id, 'environment', caller.environment, 'jurisdiction', merchant.jurisdiction,
        'outlet', sync.outlet_item(outlet.outlet_id)
    );
end
$$;
comment on function sync.begin_registration is 'Whether the caller may register a device for this outlet, and what the authority is to be told of it.';

create function sync.device_for(outlet fiscal.outlets, jurisdiction text, authority_ref text)
returns sync.authority_devices
language plpgsql
volatile
security definer -- callers may not read devices
set search_path = ''
as $$
#variable_conflict use_column
declare
    device sync.authority_devices;
begin
    select d.* into device
    from sync.authority_devices as d
    where d.outlet_id = (device_for.outlet).outlet_id and d.status = 'active'
    for update;
    if device.authority_ref <> device_for.authority_ref then
        perform public.refuse('40914', format(
            'This outlet already speaks as %s; retire that device first.', device.authority_ref
        ));
    elsif exists (
        select from sync.authority_devices as d
        where
            d.jurisdiction = device_for.jurisdiction and d.environment = (device_for.outlet).environment
            and d.status = 'active' and d.authority_ref = device_for.authority_ref
            and d.outlet_id <> (device_for.outlet).outlet_id
    ) then
        perform public.refuse('40914', format('%s belongs to another outlet.', device_for.authority_ref));
    end if;
    return device;
end
$$;
comment on function sync.device_for is
'The device of this name that an outlet speaks as, locked; all null when it may get it. 40914 when it speaks as another one, or the device is another outlet''s.';

create function sync.check_registration(outlet_id text, jurisdiction text, authority_ref text)
returns void
language plpgsql
volatile
security definer -- callers may not read devices
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
begin
    perform sync.device_for(
        fiscal.outlet_of(caller, check_registration.outlet_id), check_registration.jurisdiction,
        check_registration.authority_ref
    );
end
$$;
comment on function sync.check_registration is
'Refuses what put_device would, before the authority spends a key that it gives once. 40914.';

create function sync.put_device(
    tenant_id text, environment text, outlet_id text, jurisdiction text, authority_ref text, sealed text,
    key_version integer, masked jsonb, state jsonb, expires_at timestamptz
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write devices
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    outlet fiscal.outlets := fiscal.outlet_of(caller, put_device.outlet_id);
    device sync.authority_devices;
begin
    -- The seal is bound to these; a mismatch would store something nobody can open.
    if put_device.tenant_id <> caller.tenant_id or put_device.environment <> caller.environment then
        perform public.refuse('40401', 'This device belongs to another tenant or environment.');
    end if;
    perform fiscal.lock_outlet(outlet.outlet_id);
    device := sync.device_for(outlet, put_device.jurisdiction, put_device.authority_ref);
    if device.device_id is not null then
        -- A renewed token of the same device: its state goes on, and whatever held it is looked at anew.
        update sync.authority_devices as d
        set
            sealed = put_device.sealed, key_version = put_device.key_version, masked = put_device.masked,
            state = d.state || put_device.state, expires_at = put_device.expires_at, held_until = now(), failures = 0,
            last_error_code = null, last_error = null, updated_at = now()
        where d.device_id = device.device_id
        returning d.* into device;
        perform public.resolve_alert('authority_device_refused', device.device_id, 'it was registered again');
        perform public.audit(caller, 'authority_device.renewed', device.device_id, '{}');
        return public.reply(caller, 200, sync.device_resource(device));
    end if;
    insert into sync.authority_devices (
        device_id, tenant_id, environment, outlet_id, jurisdiction, authority_ref, sealed, key_version, masked, state,
        expires_at, checked_at, created_by
    ) values (
        public.new_id('dev'), caller.tenant_id, caller.environment, outlet.outlet_id, put_device.jurisdiction,
        put_device.authority_ref, put_device.sealed, put_device.key_version, put_device.masked,
        -- What the authority remembers of a device it remembers when we have retired it.
        coalesce((
            select d.state
            from sync.authority_devices as d
            where
                d.tenant_id = caller.tenant_id and d.environment = caller.environment
                and d.jurisdiction = put_device.jurisdiction and d.authority_ref = put_device.authority_ref
            order by d.device_id desc
            limit 1
        ), '{}') || put_device.state,
        put_device.expires_at, now(), caller.actor
    )
    returning * into device;
    perform public.audit(caller, 'authority_device.registered', device.device_id, jsonb_build_object(
        'outlet_id', outlet.outlet_id, 'authority_ref', device.authority_ref
    ));
    return public.reply(caller, 201, sync.device_resource(device));
end
$$;
comment on function sync.put_device is
'Stores the device an outlet speaks as; documents sealed from now on are reported. 201 first; 200 for renewed credentials of the same device. 40914.';

create function sync.list_devices()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read devices
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    outlet_only text := fiscal.caller_outlet(caller);
begin
    return public.reply(caller, 200, json_build_object('data', (
        select coalesce(json_agg(sync.device_resource(d) order by d.device_id), '[]')
        from sync.authority_devices as d
        where
            d.tenant_id = caller.tenant_id and d.environment = caller.environment
            and d.outlet_id = coalesce(outlet_only, d.outlet_id)
    )));
end
$$;
comment on function sync.list_devices is 'The devices of the caller''s outlets, retired ones too.';

create function sync.retire_device(outlet_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write devices
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    outlet fiscal.outlets := fiscal.outlet_of(caller, retire_device.outlet_id);
    device sync.authority_devices;
begin
    perform fiscal.lock_outlet(outlet.outlet_id);
    if exists (
        select from sync.authority_sync_queue as q
        where q.outlet_id = outlet.outlet_id and q.status in ('PENDING', 'SUBMITTED', 'RETRY')
    ) then
        perform public.refuse('40911', 'Documents are on their way to the authority; only this device can finish them.',
            '{"current_state": "active", "allowed": []}');
    end if;
    if exists (
        select from sync.fiscal_days as f
        inner join sync.authority_devices as d on d.device_id = f.device_id and d.status = 'active'
        where f.outlet_id = outlet.outlet_id and f.closed_at is null
    ) then
        perform public.refuse('40911', 'Its fiscal day is open; only this device can close it.',
            '{"current_state": "active", "allowed": []}');
    end if;
    update sync.authority_devices as d
    set status = 'retired', updated_at = now()
    where d.outlet_id = outlet.outlet_id and d.status = 'active'
    returning d.* into device;
    if not found then
        perform public.refuse('40401', format('The outlet %s has no device.', outlet.outlet_id));
    end if;
    perform public.audit(caller, 'authority_device.retired', device.device_id, '{}');
    return public.reply(caller, 200, sync.device_resource(device));
end
$$;
comment on function sync.retire_device is
'Ends an outlet''s device; documents sealed afterwards are not reported. 40911 while documents are on their way or a fiscal day is open.';

create function sync.set_consent(is_given boolean)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write consents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    consent sync.consents;
begin
    insert into sync.consents as c (tenant_id, environment, is_given, changed_by)
    values (caller.tenant_id, caller.environment, set_consent.is_given, caller.actor)
    on conflict (tenant_id, environment) do update
    set is_given = excluded.is_given, changed_by = excluded.changed_by, changed_at = now()
    returning * into consent;
    -- Time without consent is not the authority's delay.
    update sync.authority_sync_queue as q
    set grace_from = now()
    where
        q.tenant_id = caller.tenant_id and q.environment = caller.environment and set_consent.is_given
        and q.status in ('PENDING', 'RETRY');
    perform public.audit(caller, case when set_consent.is_given then 'authority_consent.given' else 'authority_consent.withdrawn' end,
        merchant.merchant_id, '{}');
    if set_consent.is_given then
        perform public.poke('authority_sync');
    end if;
    return public.reply(caller, 200, json_build_object(
        'object', 'authority_consent', 'is_given', consent.is_given, 'changed_by', consent.changed_by,
        'changed_at', consent.changed_at, 'environment', consent.environment
    ));
end
$$;
comment on function sync.set_consent is
'The taxpayer agrees, or no longer agrees, that we submit its tax data. Without it documents wait; sealing goes on.';

create function sync.claim_checks(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not write devices
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    update sync.authority_devices as d
    set check_lease_until = now() + interval '5 minutes'
    where d.device_id = any(array(
        select o.device_id
        from sync.authority_devices as o
        where sync.is_check_due(o)
        order by o.checked_at nulls first
        limit claim_checks.max_rows
        for update skip locked
    ))
    returning sync.device_item(d);
end
$$;
comment on function sync.claim_checks is 'Devices whose daily look is due, each for one worker for five minutes.';

create function sync.is_check_due(device sync.authority_devices)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
    return device.status = 'active' and coalesce(device.checked_at, '-infinity') <= now() - interval '24 hours'
        and coalesce(device.check_lease_until, '-infinity') <= now()
        and not exists (
            select from sync.switches as s
            where s.jurisdiction = device.jurisdiction and s.environment = device.environment and s.mode = 'off'
        );
end
$$;
comment on function sync.is_check_due is 'Whether an active device was not looked after for a day, and nobody is at it.';

create function sync.record_check(
    device_id text, outcome text, message text, findings jsonb, expires_at timestamptz, state jsonb, sealed text,
    key_version integer
)
returns void
language plpgsql
volatile
security definer -- callers may not write devices
set search_path = ''
as $$
#variable_conflict use_column
declare
    device sync.authority_devices;
    finding record;
    known text;
begin
    update sync.authority_devices as d
    set
        -- One that could not be asked is asked again in an hour.
        checked_at = case
            when record_check.outcome = 'checked' then now() else now() - interval '23 hours'
        end,
        check_lease_until = null,
        expires_at = coalesce(record_check.expires_at, d.expires_at),
        state = case when jsonb_typeof(record_check.state) = 'object' then d.state || record_check.state else d.state end,
        sealed = coalesce(record_check.sealed, d.sealed),
        key_version = coalesce(record_check.key_version, d.key_version),
        updated_at = now()
    where d.device_id = record_check.device_id
    returning d.* into strict device;
    if record_check.outcome in ('device_refused', 'failed') then
        perform public.raise_alert(
            case record_check.outcome when 'failed' then 'authority_check_failed' else 'authority_device_refused' end,
            'warning', device.device_id, device.tenant_id, device.environment,
            jsonb_build_object('message', left(record_check.message, 200))
        );
    end if;
    if record_check.outcome <> 'checked' then
        return;
    end if;
    for finding in
        select f.kind, f.severity, f.details
        from jsonb_to_recordset(record_check.findings) as f (kind text, severity text, details jsonb)
    loop
        perform public.raise_alert(
            finding.kind, finding.severity, device.device_id, device.tenant_id, device.environment, finding.details
        );
    end loop;
    foreach known in array array['authority_check_failed', 'authority_token_expiring', 'authority_rates_differ'] loop
        if not exists (
            select from jsonb_to_recordset(record_check.findings) as f (kind text) where f.kind = known
        ) then
            perform public.resolve_alert(known, device.device_id, 'the daily look found it well');
        end if;
    end loop;
end
$$;
comment on function sync.record_check is
'What a look after a device found: alerts open and close, never a rate or a document changes.';

create function sync.claim_reseal(below_version integer, max_rows integer)
returns setof jsonb
language plpgsql
stable
security definer -- callers may not read devices
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'device_id', d.device_id, 'tenant_id', d.tenant_id, 'environment', d.environment, 'outlet_id', d.outlet_id,
        'jurisdiction', d.jurisdiction, 'sealed', d.sealed
    )
    from sync.authority_devices as d
    where d.key_version < claim_reseal.below_version
    order by d.key_version, d.device_id
    limit claim_reseal.max_rows;
end
$$;
comment on function sync.claim_reseal is 'Devices whose credentials are under a master key older than the given version.';

create function sync.record_reseal(device_id text, former text, sealed text, key_version integer)
returns boolean
language plpgsql
volatile
security definer -- callers may not write devices
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Credentials that were replaced meanwhile are not put back.
    update sync.authority_devices as d
    set sealed = record_reseal.sealed, key_version = record_reseal.key_version, updated_at = now()
    where d.device_id = record_reseal.device_id and d.sealed = record_reseal.former;
    return found;
end
$$;
comment on function sync.record_reseal is 'Stores the same credentials under a newer master key; false when they were replaced meanwhile.';

reset role;
