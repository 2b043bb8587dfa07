-- Deposits: payments that nobody was prompted for. The rail asks whether one may be made, then tells that it was.

set role stalela_owner;

create function rails.open_deposits(rail text, token_hash text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write deposit addresses
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('credentials:manage', 'manage');
    stored rails.credentials;
begin
    perform rails.check_credentials(caller.tenant_id, caller.environment, open_deposits.rail);
    select c.* into stored
    from rails.credentials as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.rail = open_deposits.rail;
    -- Before the rail hears of the address: its first report may come at once.
    insert into rails.deposit_addresses (token_hash, tenant_id, environment, rail, created_by)
    values (open_deposits.token_hash, caller.tenant_id, caller.environment, open_deposits.rail, caller.actor);
    perform public.audit(caller, 'deposits.opened', open_deposits.rail, '{}');
    return jsonb_build_object(
        'tenant_id', stored.tenant_id, 'environment', stored.environment, 'rail', stored.rail,
        'credentials_sealed', stored.sealed
    );
end
$$;
comment on function rails.open_deposits is
'Takes a new address for deposits into use and gives the sealed credentials to register it with.';

create function rails.record_deposits_registered(token_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write deposit addresses
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    address rails.deposit_addresses;
begin
    update rails.deposit_addresses as d
    set registered_at = now()
    where
        d.token_hash = record_deposits_registered.token_hash
        and d.tenant_id = caller.tenant_id and d.environment = caller.environment
    returning d.* into address;
    if not found then
        perform public.refuse('40401', 'There is no such address here.');
    end if;
    return public.reply(caller, 201, json_build_object(
        'object', 'deposit_registration', 'rail', address.rail, 'environment', address.environment,
        'registered_at', address.registered_at
    ));
end
$$;
comment on function rails.record_deposits_registered is 'The rail accepted the address. 201.';

create function rails.intent_by_reference(tenant_id text, environment text, account_reference text)
returns text
language plpgsql
stable
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- As people type it: any case, with spaces, and O for 0, I or L for 1, which our ids do not have.
    wanted text := translate(
        lower(regexp_replace(coalesce(intent_by_reference.account_reference, ''), '[^0-9A-Za-z]', '', 'g')), 'oil', '011'
    );
begin
    return (
        select i.payment_intent_id
        from payments.payment_intents as i
        where
            right(i.payment_intent_id, 12) = wanted
            and i.status in ('requires_payment_method', 'processing', 'partially_paid')
            and i.tenant_id = intent_by_reference.tenant_id and i.environment = intent_by_reference.environment
        limit 1
    );
end
$$;
comment on function rails.intent_by_reference is
'The open intent whose account_reference the payer typed; null when there is none.';

create function rails.check_deposit(rail text, token_hash text, amount_minor bigint, currency text)
returns text
language plpgsql
stable
security definer -- callers may not read deposit addresses
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform from rails.deposit_addresses as d
    where d.token_hash = check_deposit.token_hash and d.rail = check_deposit.rail;
    if not found then
        return 'other';
    end if;
    perform from rails.rails as r
    where
        r.rail = check_deposit.rail and check_deposit.currency = any(r.currencies)
        and check_deposit.amount_minor between r.min_minor and r.max_minor;
    -- Money for nobody in particular is welcome: an operator assigns it.
    return case when not found then 'amount' end;
end
$$;
comment on function rails.check_deposit is
'Why a deposit may not be made (one of the rail protocol''s DepositRefusal), null when it may. Whose account it names does not matter: what matches no intent waits for an operator.';

create function rails.receive_deposit(
    rail text, token_hash text, source_address text, source_trusted boolean, headers jsonb,
    body_sealed text, body_hash text, deposit jsonb, problem text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write callbacks
set search_path = ''
as $$
#variable_conflict use_column
declare
    address rails.deposit_addresses;
    kept rails.callbacks;
    earlier rails.callbacks;
    key text;
    concluded text;
begin
    select d.* into address
    from rails.deposit_addresses as d
    where d.token_hash = receive_deposit.token_hash and d.rail = receive_deposit.rail;
    if address.tenant_id is null and rails.too_many_callbacks(null, receive_deposit.source_trusted) then
        perform public.raise_alert(
            'callbacks_not_kept', 'critical', receive_deposit.rail || ' unmatched', null, null,
            jsonb_build_object('source_address', receive_deposit.source_address)
        );
        return jsonb_build_object('disposition', 'ignored', 'reason', 'too_many');
    end if;
    key := case
        when address.tenant_id is not null and receive_deposit.source_trusted and deposit is not null then concat_ws(
            '|', receive_deposit.rail, address.tenant_id, address.environment, 'deposit', deposit ->> 'receipt'
        )
        else concat_ws('|', receive_deposit.rail, 'raw', receive_deposit.token_hash, receive_deposit.body_hash)
    end;
    loop
        insert into rails.callbacks (
            rail, tenant_id, environment, dedupe_key, token_hash, source_address, source_trusted,
            headers, body_sealed, events, problem, kind
        ) values (
            receive_deposit.rail, address.tenant_id, address.environment, key, receive_deposit.token_hash,
            receive_deposit.source_address, receive_deposit.source_trusted, receive_deposit.headers,
            receive_deposit.body_sealed, case when deposit is not null then jsonb_build_array(deposit) end,
            receive_deposit.problem, 'confirmation'
        )
        on conflict (dedupe_key) do nothing
        returning * into kept;
        exit when found;

        select c.* into earlier from rails.callbacks as c where c.dedupe_key = key;
        if
            deposit is null
            or (earlier.events -> 0 ->> 'amount_minor') = (deposit ->> 'amount_minor')
        then
            return jsonb_build_object('disposition', 'duplicate');
        end if;
        key := key || '|' || receive_deposit.body_hash;
        problem := 'contradicts an earlier confirmation of the same receipt';
    end loop;

    concluded := rails.conclude_callback(kept.callback_id, receive_deposit.problem);
    return jsonb_build_object(
        'disposition', split_part(concluded, ':', 1), 'reason', nullif(split_part(concluded, ':', 2), '')
    );
end
$$;
comment on function rails.receive_deposit is
'Stores a confirmation, then books it: the money has moved. A receipt seen before changes nothing. Returns {disposition, reason}.';

create function rails.conclude_deposit(kept rails.callbacks)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    told jsonb := kept.events -> 0;
    known payments.transfers;
    prompted text;
    intent_id text;
begin
    if not kept.source_trusted then
        return 'parked:untrusted_source';
    end if;
    -- A prompt that was paid is told twice, as its own result and as a deposit. Which comes first is the rail's whim.
    select t.transfer_id into prompted
    from payments.transfers as t
    where
        right(t.payment_intent_id, 12) = lower(told ->> 'account_reference')
        and t.purpose = 'collection' and t.receipt is null and t.rail = kept.rail
        and t.tenant_id = kept.tenant_id and t.environment = kept.environment
        and t.amount_minor = (told ->> 'amount_minor')::bigint and t.currency = told ->> 'currency'
        and t.state in ('SUBMITTED', 'ACCEPTED', 'SETTLED') and t.review_reason is null
    order by t.created_at desc
    limit 1;
    intent_id := coalesce(
        (select t.payment_intent_id from payments.transfers as t where t.transfer_id = prompted),
        rails.intent_by_reference(kept.tenant_id, kept.environment, told ->> 'account_reference')
    );
    -- Watch, intent, transfer: the order of rails.apply_event.
    perform from rails.watches as w where w.transfer_id = prompted for update;
    perform from payments.payment_intents as i where i.payment_intent_id = intent_id for no key update;

    select t.* into known
    from payments.transfers as t
    where
        t.tenant_id = kept.tenant_id and t.environment = kept.environment and t.rail = kept.rail
        and t.receipt = told ->> 'receipt';
    if found then
        return case
            when known.amount_minor = (told ->> 'amount_minor')::bigint then 'duplicate'
            else 'parked:receipt_of_another_amount'
        end;
    elsif exists (
        select from payments.transfers as t
        where t.transfer_id = prompted and t.receipt is null and t.state in ('SUBMITTED', 'ACCEPTED', 'SETTLED')
    ) then
        return rails.apply_event(prompted, jsonb_build_object(
            'outcome', 'succeeded', 'source', 'callback', 'receipt', told ->> 'receipt',
            'amount_minor', told -> 'amount_minor', 'currency', told ->> 'currency', 'code', '0'
        ), 'callback', true);
    end if;
    perform payments.record_deposit(kept.tenant_id, kept.environment, kept.rail, intent_id, told);
    return 'applied';
end
$$;
comment on function rails.conclude_deposit is
'What a confirmed deposit is: the other report of a prompt that was paid, a payment for the open intent it names, or money for an operator to assign.';

create function rails.accept_deposit(callback_id bigint, idempotency_key text, body_hash text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    route constant text := 'POST /reconcile/parked/{id}/accept';
    answer public.answer;
    kept rails.callbacks;
    latest rails.callback_dispositions;
    concluded text;
begin
    answer := public.claim_idempotency(
        caller, route, accept_deposit.idempotency_key, accept_deposit.body_hash || ':' || accept_deposit.callback_id
    );
    if answer.body is not null then
        return answer;
    end if;
    select c.* into kept
    from rails.callbacks as c
    where
        c.callback_id = accept_deposit.callback_id and c.kind = 'confirmation'
        and c.tenant_id = caller.tenant_id and c.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no parked deposit %s here.', accept_deposit.callback_id));
    end if;
    select d.* into latest
    from rails.callback_dispositions as d
    where d.callback_id = kept.callback_id
    order by d.number desc
    limit 1;
    if latest.disposition <> 'parked' or latest.reason is distinct from 'untrusted_source' then
        perform public.refuse('40911', 'This report does not wait to be believed.', jsonb_build_object(
            'current_state', latest.disposition, 'allowed', '[]'::jsonb
        ));
    end if;
    -- A person compared it with the rail's statement, which is more than an address proves.
    kept.source_trusted := true;
    concluded := rails.conclude_deposit(kept);
    insert into rails.callback_dispositions (callback_id, number, tenant_id, environment, disposition, reason)
    values (
        kept.callback_id, latest.number + 1, kept.tenant_id, kept.environment,
        split_part(concluded, ':', 1), nullif(split_part(concluded, ':', 2), '')
    );
    perform public.audit(caller, 'deposit.accept', kept.callback_id::text, jsonb_build_object(
        'receipt', kept.events -> 0 ->> 'receipt', 'disposition', concluded, 'reason', accept_deposit.reason
    ));
    answer := public.reply(caller, 200, json_build_object(
        'id', kept.callback_id, 'object', 'callback', 'disposition', split_part(concluded, ':', 1),
        'receipt', kept.events -> 0 ->> 'receipt'
    ));
    perform public.remember_answer(
        caller, route, accept_deposit.idempotency_key, kept.callback_id::text, answer
    );
    return answer;
end
$$;
comment on function rails.accept_deposit is
'A person found a deposit, told by an address that is not listed, in the rail''s statement: it is booked as if the rail''s own address had told it. Audited with the reason.';

reset role;
