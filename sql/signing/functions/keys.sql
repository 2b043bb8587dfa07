-- The keys that sign: one active per jurisdiction and environment.

set role stalela_owner;

create function signing.register_key(
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
    known signing.keys;
    year text := to_char(now() at time zone 'utc', 'YYYY');
    name text;
    used bigint;
begin
    -- Two instances that start together register one key.
    perform pg_advisory_xact_lock(
        hashtext('signing.keys'), hashtext(register_key.jurisdiction || '|' || register_key.environment)
    );
    select k.* into known
    from signing.keys as k
    where
        k.jurisdiction = register_key.jurisdiction and k.environment = register_key.environment
        and k.public_key_spki = register_key.public_key_spki;
    if known.status = 'active' then
        return known.key_id;
    elsif known.key_id is not null then
        perform public.refuse('40911', format('The key %s is %s and signs no more.', known.key_id, known.status));
    end if;
    update signing.keys as k
    set status = 'retired', valid_until = now()
    where
        k.jurisdiction = register_key.jurisdiction and k.environment = register_key.environment
        and k.status = 'active';
    name := lower(concat_ws(
        '-', register_key.jurisdiction, register_key.alg, case when register_key.environment = 'sandbox' then 'test' end, year
    ));
    select count(*) into used from signing.keys as k where k.key_id like name || '%';
    insert into signing.keys (
        key_id, jurisdiction, environment, provider, key_ref, key_version, alg, public_key_spki
    ) values (
        name || to_char(used + 1, '"-"FM00'), register_key.jurisdiction, register_key.environment, register_key.provider,
        register_key.key_ref, register_key.key_version, register_key.alg, register_key.public_key_spki
    )
    returning key_id into name;
    perform public.audit(null, 'signing.key_registered', name, jsonb_build_object(
        'provider', register_key.provider, 'alg', register_key.alg
    ));
    return name;
end
$$;
comment on function signing.register_key is
'The id of this public key, which from now on is the one that signs for the jurisdiction; the key before it retires. 40911 for a key that retired or was revoked.';

reset role;
