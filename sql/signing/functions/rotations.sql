-- How a chain says that another key signs it from here on.

set role stalela_owner;

create function signing.follow_key(outlet fiscal.outlets, key_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write chains and keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    before text;
begin
    select c.key_id into before from signing.chain_keys as c where c.outlet_id = (follow_key.outlet).outlet_id;
    if follow_key.key_id is null or follow_key.key_id = before then
        return;
    end if;
    insert into signing.chain_keys as c (outlet_id, tenant_id, environment, key_id)
    values (
        (follow_key.outlet).outlet_id, (follow_key.outlet).tenant_id, (follow_key.outlet).environment, follow_key.key_id
    )
    on conflict (outlet_id) do update set key_id = excluded.key_id;
    if before is not null then
        perform signing.append_rotation(follow_key.outlet, before, follow_key.key_id);
    end if;
end
$$;
comment on function signing.follow_key is
'Puts a key_rotation entry into the chain when this key is not the one of the entry before. Only under the outlet''s lock, right before the first entry of the key.';

create function signing.append_rotation(outlet fiscal.outlets, from_key_id text, to_key_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write chains and keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    taken bigint := fiscal.next_number((append_rotation.outlet).outlet_id, 'key_rotation');
    number text := concat_ws(
        '-', 'K', (append_rotation.outlet).outlet_code, lpad(taken::text, greatest(6, length(taken::text)), '0')
    );
    body text := signing.rotation_body(
        number, (append_rotation.outlet).outlet_id, append_rotation.from_key_id, append_rotation.to_key_id
    );
begin
    insert into signing.key_rotations (
        fiscal_number, outlet_id, tenant_id, environment, from_key_id, to_key_id, body
    ) values (
        number, (append_rotation.outlet).outlet_id, (append_rotation.outlet).tenant_id,
        (append_rotation.outlet).environment, append_rotation.from_key_id, append_rotation.to_key_id, body
    );
    perform fiscal.write_entry(
        append_rotation.outlet, 'key_rotation', number, taken, encode(sha256(convert_to(body, 'UTF8')), 'hex'), null,
        append_rotation.to_key_id
    );
end
$$;
comment on function signing.append_rotation is
'The entry that names the old key and the new one, and the first that the new one signs.';

create function signing.rotation_body(fiscal_number text, outlet_id text, from_key_id text, to_key_id text)
returns text
language plpgsql
stable
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        -- RFC 8785 of text without characters to escape: members in order, no spaces.
        select format(
            '{"fiscal_number":"%s","from_key_id":"%s","from_public_key_sha256":"%s","outlet_id":"%s",'
            '"record_type":"key_rotation","to_key_id":"%s","to_public_key_sha256":"%s"}',
            rotation_body.fiscal_number, f.key_id, encode(sha256(decode(f.public_key_spki, 'base64')), 'hex'),
            rotation_body.outlet_id, t.key_id, encode(sha256(decode(t.public_key_spki, 'base64')), 'hex')
        )
        from signing.keys as f
        cross join signing.keys as t
        where f.key_id = rotation_body.from_key_id and t.key_id = rotation_body.to_key_id
    );
end
$$;
comment on function signing.rotation_body is
'The canonical words of a key_rotation entry. The digests of both public keys make the chain commit to the keys and not to their names alone.';

reset role;
