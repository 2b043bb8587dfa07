-- The public halves, for whoever verifies: kept for as long as documents are.

set role stalela_owner;

create function signing.published_key(key signing.keys)
returns jsonb
language sql
immutable
set search_path = ''
as $$
    select jsonb_build_object(
        'key_id', key.key_id, 'jurisdiction', key.jurisdiction, 'environment', key.environment, 'alg', key.alg,
        'public_key', jsonb_build_object('spki', key.public_key_spki),
        'valid_from', key.valid_from, 'valid_until', key.valid_until, 'status', key.status,
        'revoked_at', key.revoked_at
    );
$$;
comment on function signing.published_key is 'A key as it is published: nothing that says where its private half is.';

create function signing.published_keys()
returns jsonb
language plpgsql
stable
security definer -- anybody may have public keys, nobody may read the table
set search_path = ''
as $$
begin
    return coalesce(
        (select jsonb_agg(signing.published_key(k) order by k.valid_from, k.key_id) from signing.keys as k), '[]'
    );
end
$$;
comment on function signing.published_keys is 'Every key that ever signed, retired and revoked ones too, oldest first.';

reset role;
