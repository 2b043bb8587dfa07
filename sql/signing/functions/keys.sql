-- The keys that sign: one active per jurisdiction and environment, and how it gives way to the next.

set role stalela_owner;

create function signing.place_lock(jurisdiction text, environment text)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
begin
    return hashtext(place_lock.jurisdiction || '|' || place_lock.environment);
end
$$;
comment on function signing.place_lock is
'Second half of the advisory lock on the keys of a place: shared by whoever seals, exclusive for whoever changes the active key.';

create function signing.active_key(jurisdiction text, environment text)
returns text
language plpgsql
stable
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select k.key_id
        from signing.keys as k
        where
            k.jurisdiction = active_key.jurisdiction and k.environment = active_key.environment
            and k.status = 'active'
    );
end
$$;
comment on function signing.active_key is 'The key that signs for a place now; null when none does.';

create function signing.may_sign(key_id text, wanted text)
returns boolean
language plpgsql
stable
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
begin
    return exists (
        select from signing.keys as k
        where
            k.key_id = may_sign.key_id and k.status <> 'revoked'
            and k.key_id = coalesce(may_sign.wanted, signing.active_key(k.jurisdiction, k.environment))
    );
end
$$;
comment on function signing.may_sign is
'Whether this key''s signature is the one an entry waits for: wanted is the key it was sealed under, null the active one.';

create function signing.hold_key(jurisdiction text, environment text)
returns text
language plpgsql
volatile
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Nobody changes the active key before the entry that relies on it is committed: no entry is sealed after a
    -- switch under the key before it.
    perform pg_advisory_xact_lock_shared(
        hashtext('signing.keys'), signing.place_lock(hold_key.jurisdiction, hold_key.environment)
    );
    return signing.active_key(hold_key.jurisdiction, hold_key.environment);
end
$$;
comment on function signing.hold_key is
'The active key of a place, which stays active until this transaction ends; null when there is none.';

create function signing.key_facts(key_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'key_id', k.key_id, 'provider', k.provider, 'key_ref', k.key_ref, 'key_version', k.key_version,
            'alg', k.alg, 'spki', k.public_key_spki
        )
        from signing.keys as k
        where k.key_id = key_facts.key_id
    );
end
$$;
comment on function signing.key_facts is 'What a signer must know of a key to sign with it.';

create function signing.insert_key(
    jurisdiction text, environment text, provider text, key_ref text, key_version text, alg text, public_key_spki text
)
returns text
language plpgsql
volatile
security definer -- functions may not write keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    year text := to_char(now() at time zone 'utc', 'YYYY');
    name text := lower(concat_ws(
        '-', insert_key.jurisdiction, insert_key.alg, case when insert_key.environment = 'sandbox' then 'test' end, year
    ));
    used bigint;
    before signing.keys;
begin
    select k.* into before
    from signing.keys as k
    where
        k.jurisdiction = insert_key.jurisdiction and k.environment = insert_key.environment
        and k.public_key_spki = insert_key.public_key_spki;
    if found then
        perform public.refuse('40911', format('The key %s is %s and is not made active again.', before.key_id, before.status));
    end if;
    select count(*) into used from signing.keys as k where k.key_id like name || '-%';
    insert into signing.keys (
        key_id, jurisdiction, environment, provider, key_ref, key_version, alg, public_key_spki, valid_from
    ) values (
        name || to_char(used + 1, '"-"FM00'), insert_key.jurisdiction, insert_key.environment, insert_key.provider,
        insert_key.key_ref, insert_key.key_version, insert_key.alg, insert_key.public_key_spki,
        -- As exact as sealed_at, so that comparing the two is comparing.
        date_trunc('second', clock_timestamp())
    )
    returning key_id into name;
    return name;
end
$$;
comment on function signing.insert_key is
'Makes a public key the active one, under a name of ours: cd-es256-2026-01. Only under the exclusive lock of the place, when none is active. 40911 for a key that was.';

create function signing.register_key(
    jurisdiction text, environment text, provider text, key_ref text, key_version text, alg text, public_key_spki text
)
returns jsonb
language plpgsql
volatile
security definer -- functions may not write keys
set search_path = ''
as $$
declare
    name text;
begin
    -- Two instances that start together register one key.
    perform pg_advisory_xact_lock(
        hashtext('signing.keys'), signing.place_lock(register_key.jurisdiction, register_key.environment)
    );
    name := signing.hold_key(register_key.jurisdiction, register_key.environment);
    if name is null then
        name := signing.insert_key(
            register_key.jurisdiction, register_key.environment, register_key.provider, register_key.key_ref,
            register_key.key_version, register_key.alg, register_key.public_key_spki
        );
        perform public.audit(null, 'signing.key_registered', name, jsonb_build_object(
            'provider', register_key.provider, 'alg', register_key.alg
        ));
    end if;
    return signing.key_facts(name);
end
$$;
comment on function signing.register_key is
'The active key of a place: the one there is, which may be another instance''s, or this one. It never replaces a key; rotate_key does. 40911 for a key that retired or was revoked.';

create function signing.plan_rotation(key_id text)
returns jsonb
language plpgsql
volatile
security definer -- functions may not read keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    replaced signing.keys;
begin
    perform public.staff();
    replaced := signing.replaceable_key(plan_rotation.key_id);
    return (
        select jsonb_agg(k.public_key_spki)
        from signing.keys as k
        where k.jurisdiction = replaced.jurisdiction and k.environment = replaced.environment
    );
end
$$;
comment on function signing.plan_rotation is
'The public keys that signed where this one does, none of which may follow it. Operators and the platform. 40401, 40911.';

create function signing.replaceable_key(key_id text)
returns signing.keys
language plpgsql
stable
security definer -- functions may not read keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    found_key signing.keys;
begin
    select k.* into found_key from signing.keys as k where k.key_id = replaceable_key.key_id;
    if not found then
        perform public.refuse('40401', format('There is no key %s.', replaceable_key.key_id));
    elsif found_key.status <> 'active' and exists (
        select from signing.keys as k
        where
            k.jurisdiction = found_key.jurisdiction and k.environment = found_key.environment and k.status = 'active'
    ) then
        perform public.refuse('40911', format('The key %s is %s, and another one is active.', found_key.key_id, found_key.status));
    end if;
    return found_key;
end
$$;
comment on function signing.replaceable_key is
'This key, which must be the one that signs or, where none does since it was revoked, any: 40401, 40911.';

create function signing.rotate_key(
    replaces text, reason text, provider text, key_ref text, key_version text, alg text, public_key_spki text
)
returns public.answer
language plpgsql
volatile
security definer -- functions may not write keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.staff();
    replaced signing.keys := signing.replaceable_key(rotate_key.replaces);
    successor text;
begin
    -- Waits for every entry that is being sealed under the old key; the next ones wait for us, and take the new one.
    perform pg_advisory_xact_lock(
        hashtext('signing.keys'), signing.place_lock(replaced.jurisdiction, replaced.environment)
    );
    replaced := signing.replaceable_key(rotate_key.replaces);
    update signing.keys as k
    set status = 'retired', valid_until = date_trunc('second', clock_timestamp())
    where k.key_id = replaced.key_id and k.status = 'active';
    successor := signing.insert_key(
        replaced.jurisdiction, replaced.environment, rotate_key.provider, rotate_key.key_ref, rotate_key.key_version,
        rotate_key.alg, rotate_key.public_key_spki
    );
    perform public.audit(caller, 'signing.key_rotated', successor, jsonb_build_object(
        'replaces', replaced.key_id, 'reason', rotate_key.reason, 'provider', rotate_key.provider
    ));
    perform public.resolve_alert('key_rotation_overdue', replaced.key_id, format('replaced by %s', successor));
    return row(200, signing.key_resource(successor), caller.rate)::public.answer;
end
$$;
comment on function signing.rotate_key is
'Retires the active key and makes another one active, in one instant; each outlet''s chain says so before its next entry. The old key still signs what was sealed before. 40401, 40911.';

create function signing.revoke_key(key_id text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- functions may not write keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    revoked signing.keys;
begin
    select k.* into revoked from signing.keys as k where k.key_id = revoke_key.key_id;
    if not found then
        perform public.refuse('40401', format('There is no key %s.', revoke_key.key_id));
    end if;
    perform pg_advisory_xact_lock(
        hashtext('signing.keys'), signing.place_lock(revoked.jurisdiction, revoked.environment)
    );
    update signing.keys as k
    set
        status = 'revoked', revoked_at = date_trunc('second', clock_timestamp()),
        valid_until = coalesce(k.valid_until, date_trunc('second', clock_timestamp()))
    where k.key_id = revoked.key_id and k.status <> 'revoked';
    if not found then
        perform public.refuse('40911', format('The key %s is revoked.', revoked.key_id));
    end if;
    -- What waits for it is signed by the key that is active then.
    update signing.signing_queue as q set key_id = null where q.key_id = revoked.key_id;
    perform public.audit(caller, 'signing.key_revoked', revoked.key_id, jsonb_build_object('reason', revoke_key.reason));
    return row(200, signing.key_resource(revoked.key_id), caller.rate)::public.answer;
end
$$;
comment on function signing.revoke_key is
'Says that a key is compromised: from this instant nothing it signs is attached, and what was sealed later verifies as revoked. Without a successor (rotate_key first) documents are numbered and wait. Operators; audited. 40401, 40911.';

create function signing.key_resource(key_id text)
returns text
language plpgsql
stable
security definer -- functions may not read keys
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select json_build_object(
            'id', k.key_id, 'object', 'signing_key', 'jurisdiction', k.jurisdiction, 'environment', k.environment,
            'provider', k.provider, 'alg', k.alg, 'status', k.status, 'valid_from', k.valid_from,
            'valid_until', k.valid_until, 'revoked_at', k.revoked_at
        )::text
        from signing.keys as k
        where k.key_id = key_resource.key_id
    );
end
$$;
comment on function signing.key_resource is 'A key as operators see it.';

create function signing.keys_to_rotate()
returns setof text
language plpgsql
stable
security definer -- functions may not read keys
set search_path = ''
as $$
begin
    return query
    select k.key_id
    from signing.keys as k
    where
        k.status = 'active'
        and k.valid_from < now() - make_interval(days => (public.setting('signing.rotate_after_days'))::integer)
    order by k.key_id;
end
$$;
comment on function signing.keys_to_rotate is 'Active keys that are older than signing.rotate_after_days.';

create function signing.poke_rotation()
returns boolean
language plpgsql
volatile
security definer -- cron may not read keys
set search_path = ''
as $$
declare
    overdue record;
begin
    if not exists (select from signing.keys_to_rotate()) then
        return false;
    end if;
    perform public.poke('invoices/rotate');
    for overdue in
        select k.key_id, k.valid_from
        from signing.keys as k
        where
            k.key_id in (select due.key_id from signing.keys_to_rotate() as due (key_id))
            and k.valid_from < now() - make_interval(days => (public.setting('signing.rotate_after_days'))::integer + 7)
    loop
        perform public.raise_alert(
            'key_rotation_overdue', 'warning', overdue.key_id, null, null, jsonb_build_object('since', overdue.valid_from)
        );
    end loop;
    return true;
end
$$;
comment on function signing.poke_rotation is
'Wakes invoices when a key is to be replaced; an alert when that did not happen for a week. A cron task.';

reset role;
