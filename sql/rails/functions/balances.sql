-- What a tenant holds at a rail: asked for by a person, told by a callback.

set role stalela_owner;

create function rails.request_balance(rail text, token_hash text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payouts:write', 'manage');
    asked rails.balances;
begin
    perform rails.check_credentials(caller.tenant_id, caller.environment, request_balance.rail);
    insert into rails.balances (balance_id, tenant_id, environment, rail, token_hash, requested_by)
    values (
        public.new_id('bal'), caller.tenant_id, caller.environment, request_balance.rail,
        request_balance.token_hash, caller.actor
    )
    returning * into asked;
    return (
        select jsonb_build_object(
            'balance_id', asked.balance_id, 'tenant_id', c.tenant_id, 'environment', c.environment, 'rail', c.rail,
            'currency', (select r.currencies[1] from rails.rails as r where r.rail = c.rail),
            'credentials_sealed', c.sealed
        )
        from rails.credentials as c
        where c.tenant_id = asked.tenant_id and c.environment = asked.environment and c.rail = asked.rail
    );
end
$$;
comment on function rails.request_balance is
'Notes that the balance is asked for, under the token its answer will come to, and gives the sealed credentials to ask with.';

create function rails.balance_resource(balance rails.balances)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', balance.balance_id,
        'object', 'rail_balance',
        'rail', balance.rail,
        'status', case
            when balance.told_at is null then 'pending'
            when balance.problem is not null then 'failed'
            else 'told'
        end,
        'accounts', (
            select json_agg(json_build_object(
                'name', a ->> 'name',
                'currency', a ->> 'currency',
                'available', public.format_amount((a ->> 'available_minor')::bigint, a ->> 'currency'),
                'uncleared', public.format_amount((a ->> 'uncleared_minor')::bigint, a ->> 'currency'),
                'reserved', public.format_amount((a ->> 'reserved_minor')::bigint, a ->> 'currency')
            ))
            from jsonb_array_elements(balance.accounts) as a
        ),
        'problem', balance.problem,
        'environment', balance.environment,
        'requested_at', balance.requested_at,
        'told_at', balance.told_at
    );
end
$$;
comment on function rails.balance_resource is 'The wire shape of a balance at a rail; below zero is possible there.';

create function rails.get_balance(rail text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    latest rails.balances;
begin
    select b.* into latest
    from rails.balances as b
    where b.tenant_id = caller.tenant_id and b.environment = caller.environment and b.rail = get_balance.rail
    order by b.requested_at desc
    limit 1;
    if not found then
        perform public.refuse('40401', format('Nobody asked %s for the balance yet.', get_balance.rail));
    end if;
    return public.reply(caller, 200, rails.balance_resource(latest));
end
$$;
comment on function rails.get_balance is 'What the rail said, or has yet to say, to the latest question about the balance.';

create function rails.receive_balance(
    rail text, token_hash text, source_address text, source_trusted boolean, headers jsonb,
    body_sealed text, body_hash text, accounts jsonb, problem text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    asked rails.balances;
begin
    select b.* into asked
    from rails.balances as b
    where b.token_hash = receive_balance.token_hash and b.rail = receive_balance.rail
    for update;
    if asked.balance_id is null and rails.too_many_callbacks(null, receive_balance.source_trusted) then
        return jsonb_build_object('disposition', 'ignored', 'reason', 'too_many');
    end if;
    insert into rails.callbacks (
        rail, tenant_id, environment, dedupe_key, token_hash, source_address, source_trusted,
        headers, body_sealed, events, problem, kind
    ) values (
        receive_balance.rail, asked.tenant_id, asked.environment,
        concat_ws('|', receive_balance.rail, 'raw', receive_balance.token_hash, receive_balance.body_hash),
        receive_balance.token_hash, receive_balance.source_address, receive_balance.source_trusted,
        receive_balance.headers, receive_balance.body_sealed, null, receive_balance.problem, 'balance'
    )
    on conflict (dedupe_key) do nothing;
    if asked.balance_id is null then
        return jsonb_build_object('disposition', 'ignored', 'reason', 'unknown_token');
    elsif asked.told_at is not null then
        return jsonb_build_object('disposition', 'duplicate');
    end if;
    -- No money moves by it, so an address that is not listed is only noted.
    update rails.balances as b
    set told_at = now(), accounts = receive_balance.accounts, problem = receive_balance.problem
    where b.balance_id = asked.balance_id;
    return jsonb_build_object('disposition', 'applied');
end
$$;
comment on function rails.receive_balance is 'Keeps what the rail said about the balance, for the question its token belongs to; the first answer counts.';

reset role;
