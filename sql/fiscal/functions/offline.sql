-- Terminals that seal without us: a block of numbers and a signed credential, ended by time, by revocation, by review.

set role stalela_owner;

create function fiscal.provision_block(
    idempotency_key text, body_hash text, outlet_id text, pos_terminal_id text, cashier_id text, public_key_spki text,
    size integer, policy jsonb
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    outlet fiscal.outlets := fiscal.outlet_of(caller, provision_block.outlet_id);
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    stored public.answer := public.claim_idempotency(
        caller, 'POST /offline/blocks', provision_block.idempotency_key, provision_block.body_hash
    );
    new_id text := public.new_id('crd');
    first_number bigint;
    words text;
    answer public.answer;
begin
    if stored.status is not null then
        return stored;
    end if;
    -- What a signed-in cashier seals offline is in their name too.
    perform fiscal.check_cashier(caller, jsonb_build_object(
        'outlet_id', outlet.outlet_id, 'cashier_id', provision_block.cashier_id
    ));
    perform fiscal.check_terminal(outlet, merchant, provision_block.pos_terminal_id, provision_block.cashier_id);
    perform fiscal.lock_outlet(outlet.outlet_id);
    update signing.delegated_credentials as c
    set status = 'ended'
    where
        c.outlet_id = outlet.outlet_id and c.pos_terminal_id = provision_block.pos_terminal_id and c.status = 'active'
        and c.expires_at <= now();
    if exists (
        select from signing.delegated_credentials as c
        where
            c.outlet_id = outlet.outlet_id and c.pos_terminal_id = provision_block.pos_terminal_id
            and c.status = 'active'
    ) then
        perform public.refuse('40911', 'This terminal has a block already; use it up, or revoke it.',
            '{"current_state": "active", "allowed": ["revoke"]}');
    end if;
    first_number := fiscal.reserve_numbers(outlet.outlet_id, provision_block.size);
    words := fiscal.credential_words(
        outlet, merchant.jurisdiction, new_id, provision_block.pos_terminal_id, provision_block.cashier_id,
        provision_block.public_key_spki, first_number, first_number + provision_block.size - 1, provision_block.policy
    );
    perform signing.state(new_id, caller.tenant_id, caller.environment, merchant.jurisdiction, 'credential', words);
    insert into signing.delegated_credentials (
        credential_id, tenant_id, environment, outlet_id, pos_terminal_id, public_key_spki, block_start, block_end,
        not_before, expires_at, types, max_total_minor, currency, credential_hash, created_by
    ) values (
        new_id, caller.tenant_id, caller.environment, outlet.outlet_id, provision_block.pos_terminal_id,
        provision_block.public_key_spki, first_number, first_number + provision_block.size - 1,
        (words::jsonb ->> 'not_before')::timestamptz, (words::jsonb ->> 'expires_at')::timestamptz,
        array(select t from jsonb_array_elements_text(policy -> 'types') as t),
        (policy ->> 'max_total_minor')::bigint, policy ->> 'currency',
        encode(sha256(convert_to(words, 'UTF8')), 'hex'), caller.actor
    );
    perform signing.note_move(
        c, 'reserved', c.block_start, c.block_end, caller.actor
    ) from signing.delegated_credentials as c where c.credential_id = new_id;
    perform public.audit(caller, 'fiscal.block_provisioned', new_id, words::jsonb);
    perform public.poke('invoices/sign');
    answer := public.reply(caller, 202, fiscal.credential_resource(new_id));
    perform public.remember_answer(
        caller, 'POST /offline/blocks', provision_block.idempotency_key, new_id, answer
    );
    return answer;
end
$$;
comment on function fiscal.provision_block is
'Reserves the next numbers of an outlet for a terminal and states, to be signed, what it may seal with them for 12 hours. One active block per terminal: 40911.';

create function fiscal.check_terminal(
    outlet fiscal.outlets, merchant fiscal.merchants, pos_terminal_id text, cashier_id text
)
returns void
language plpgsql
stable
security definer -- callers may not read operators
set search_path = ''
as $$
begin
    if merchant.status <> 'active' or outlet.status <> 'active' then
        perform public.refuse('40911', 'This taxpayer or outlet is not active and seals nothing: use an outlet that is, or write to support about a taxpayer that is suspended.',
            jsonb_build_object('current_state', merchant.status || '/' || outlet.status, 'allowed', '[]'::jsonb));
    elsif exists (
        select from fiscal.operators as o
        where
            o.outlet_id = (check_terminal.outlet).outlet_id and o.status = 'blocked'
            and (o.kind, o.label) in (('terminal', check_terminal.pos_terminal_id), ('cashier', check_terminal.cashier_id))
    ) then
        perform public.refuse_field('42275', '/pos_terminal_id', 'this terminal or its cashier is blocked: unblock it with PUT /functions/v1/merchants/outlets/{outlet_id}/operators');
    end if;
end
$$;
comment on function fiscal.check_terminal is 'Whether a terminal may seal for an outlet. 40911, 42275.';

create function fiscal.reserve_numbers(outlet_id text, size integer)
returns bigint
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    after_last bigint;
begin
    update fiscal.fiscal_counters as c
    set next_value = c.next_value + reserve_numbers.size
    where c.outlet_id = reserve_numbers.outlet_id and c.kind = 'invoice'
    returning c.next_value into strict after_last;
    return after_last - reserve_numbers.size;
end
$$;
comment on function fiscal.reserve_numbers is
'Takes the next numbers of an outlet together; the first of them. Only under the outlet''s lock.';

create function fiscal.credential_words(
    outlet fiscal.outlets, jurisdiction text, credential_id text, pos_terminal_id text, cashier_id text,
    public_key_spki text, block_start bigint, block_end bigint, policy jsonb
)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    -- RFC 8785 of plain ASCII: members in order, no spaces; to_json escapes what must be escaped.
    return format(
        '{"block_end":%s,"block_start":%s,%s"credential_id":"%s","environment":"%s","expires_at":"%s",'
        '"fiscal_authority_id":"%s","jurisdiction":"%s","kind":"credential","not_before":"%s","number_prefix":"%s",'
        '"outlet_id":"%s","policy":%s,"pos_terminal_id":%s,"public_key":"%s"}',
        block_end, block_start, coalesce('"cashier_id":' || to_json(cashier_id) || ',', ''), credential_id,
        outlet.environment, to_char((now() + interval '12 hours') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        outlet.fiscal_authority_id, jurisdiction, to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        fiscal.number_prefix(outlet), outlet.outlet_id,
        (
            select format('{%s"types":[%s]}', coalesce(format(
                '"currency":"%s","max_total":"%s",', policy ->> 'currency',
                public.format_amount((policy ->> 'max_total_minor')::bigint, policy ->> 'currency')
            ), ''), (
                select string_agg(to_json(t)::text, ',') from jsonb_array_elements_text(policy -> 'types') as t
            ))
        ),
        to_json(pos_terminal_id), public_key_spki
    );
end
$$;
comment on function fiscal.credential_words is
'The canonical words of a credential: what a terminal may seal, with which key and numbers, from now for 12 hours.';

create function fiscal.number_prefix(outlet fiscal.outlets)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return regexp_replace(fiscal.fiscal_number(outlet, 1), '-\d+$', '');
end
$$;
comment on function fiscal.number_prefix is 'What stands before the integer in the numbers of an outlet.';

create function fiscal.credential_resource(credential_id text)
returns json
language plpgsql
stable
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select json_build_object(
            'id', c.credential_id, 'object', 'delegated_credential', 'outlet_id', c.outlet_id,
            'status', case when c.status = 'active' and c.expires_at <= now() then 'ended' else c.status end,
            'credential', signing.statement_resource(c.credential_id), 'missing', signing.missing_numbers(c.credential_id),
            'revoked_at', c.revoked_at, 'environment', c.environment, 'created_at', c.created_at
        )
        from signing.delegated_credentials as c
        where c.credential_id = credential_resource.credential_id
    );
end
$$;
comment on function fiscal.credential_resource is
'A credential as the API shows it. A terminal begins to sell when its signature is there; missing: numbers that are neither documents nor voided.';

create function fiscal.credential_of(caller public.caller, credential_id text)
returns signing.delegated_credentials
language plpgsql
stable
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    credential signing.delegated_credentials;
begin
    select c.* into credential
    from signing.delegated_credentials as c
    where
        c.credential_id = credential_of.credential_id and c.tenant_id = (credential_of.caller).tenant_id
        and c.environment = (credential_of.caller).environment
        and c.outlet_id = coalesce(fiscal.caller_outlet(credential_of.caller), c.outlet_id);
    if not found then
        perform public.refuse('40401', format('There is no credential %s here.', credential_of.credential_id));
    end if;
    return credential;
end
$$;
comment on function fiscal.credential_of is 'A credential the caller may see; 40401 for any other.';

create function fiscal.get_block(credential_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read credentials
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    credential signing.delegated_credentials := fiscal.credential_of(caller, get_block.credential_id);
begin
    return public.reply(caller, 200, fiscal.credential_resource(credential.credential_id));
end
$$;
comment on function fiscal.get_block is 'One credential of the caller''s, with its signature once there is one.';

create function fiscal.revoke_block(credential_id text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write credentials
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'manage');
    credential signing.delegated_credentials := fiscal.credential_of(caller, revoke_block.credential_id);
begin
    perform fiscal.lock_outlet(credential.outlet_id);
    update signing.delegated_credentials as c
    set status = 'revoked', revoked_at = now(), revoked_because = revoke_block.reason
    where c.credential_id = credential.credential_id and c.status in ('active', 'ended');
    if found then
        perform public.audit(caller, 'fiscal.block_revoked', credential.credential_id, jsonb_build_object(
            'reason', revoke_block.reason
        ));
    end if;
    return public.reply(caller, 200, fiscal.credential_resource(credential.credential_id));
end
$$;
comment on function fiscal.revoke_block is
'Ends what a terminal may seal: nothing that it seals after this instant is accepted. Repeatable.';

create function fiscal.list_revocations()
returns jsonb
language plpgsql
stable
security definer -- anybody may read what is published
set search_path = ''
as $$
#variable_conflict use_column
begin
    return jsonb_build_object('data', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'credential_id', c.credential_id, 'revoked_at', c.revoked_at
        ) order by c.revoked_at, c.credential_id), '[]')
        from signing.delegated_credentials as c
        where c.revoked_at is not null
    ));
end
$$;
comment on function fiscal.list_revocations is 'Every credential that was revoked, and when: what was sealed with it from then on is worth nothing.';

create function fiscal.void_numbers(credential_id text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'manage');
    credential signing.delegated_credentials := fiscal.credential_of(caller, void_numbers.credential_id);
    outlet fiscal.outlets := fiscal.outlet_of(caller, credential.outlet_id);
    number bigint;
    name text;
    words text;
begin
    if caller.app_role = 'cashier' then
        perform public.refuse('40312', 'A cashier may not void numbers: ask somebody who runs the account.');
    end if;
    perform fiscal.lock_outlet(outlet.outlet_id);
    select c.* into strict credential
    from signing.delegated_credentials as c
    where c.credential_id = credential.credential_id;
    if credential.status = 'active' and credential.expires_at > now() then
        perform public.refuse('40911', 'The terminal may still seal with these numbers; revoke the credential first.',
            '{"current_state": "active", "allowed": ["revoke"]}');
    end if;
    foreach number in array signing.missing_numbers(credential.credential_id) loop
        name := fiscal.fiscal_number(outlet, number);
        words := format(
            '{"credential_id":"%s","fiscal_number":"%s","outlet_id":"%s","reason":%s,"record_type":"block_void"}',
            credential.credential_id, name, outlet.outlet_id, to_json(void_numbers.reason)
        );
        perform fiscal.append_entry(
            outlet, 'block_void', name, number, encode(sha256(convert_to(words, 'UTF8')), 'hex'), null
        );
        perform signing.note_move(credential, 'voided', number, number, caller.actor, name, words);
    end loop;
    perform public.resolve_alert('block_gap', credential.credential_id, 'the missing numbers were voided: ' || void_numbers.reason);
    perform public.audit(caller, 'fiscal.numbers_voided', credential.credential_id, jsonb_build_object(
        'reason', void_numbers.reason
    ));
    perform public.poke('invoices/sign');
    return public.reply(caller, 200, fiscal.credential_resource(credential.credential_id));
end
$$;
comment on function fiscal.void_numbers is
'Closes, after a person''s review, every number of an ended block that did not come back: a signed entry of the chain each. 40911 while the terminal may still sell, 40312 for cashiers.';

reset role;
