-- Payment intents: create, read, change, cancel, expire.

set role stalela_owner;

create function payments.create_intent(
    idempotency_key text, body_hash text, amount_minor bigint, currency text, payment_method_types text[],
    description text, customer jsonb, customer_sealed text, metadata jsonb, return_url text, expires_in_s integer,
    invoice jsonb default null
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:write', 'write');
    answer public.answer;
    intent payments.payment_intents;
    method text;
begin
    answer := public.claim_idempotency(
        caller, 'POST /payment-intents', create_intent.idempotency_key, create_intent.body_hash
    );
    if answer.body is not null then
        return answer;
    end if;
    foreach method in array create_intent.payment_method_types loop
        perform rails.check_amount(method, create_intent.amount_minor, create_intent.currency);
    end loop;

    insert into payments.payment_intents (
        payment_intent_id, tenant_id, environment, status, amount_minor, currency, payment_method_types,
        description, customer, customer_sealed, metadata, return_url, client_secret, created_by, expires_at
    ) values (
        public.new_id('pi'), caller.tenant_id, caller.environment, 'requires_payment_method',
        create_intent.amount_minor, create_intent.currency, create_intent.payment_method_types,
        create_intent.description, create_intent.customer, create_intent.customer_sealed,
        coalesce(create_intent.metadata, '{}'), create_intent.return_url, 'pics_' || payments.random_secret(),
        caller.actor, now() + make_interval(secs => create_intent.expires_in_s)
    )
    returning * into intent;
    perform payments.record_intent_event(intent, 'payment_intent.created', jsonb_build_object(
        'status', intent.status,
        'amount', public.format_amount(intent.amount_minor, intent.currency),
        'currency', intent.currency
    ));
    if create_intent.invoice is not null then
        perform fiscal.order_invoice(caller, intent, create_intent.invoice);
    end if;

    answer := row(201, payments.intent_resource(intent, true), caller.rate);
    perform public.remember_answer(
        caller, 'POST /payment-intents', create_intent.idempotency_key, intent.payment_intent_id, answer
    );
    return answer;
end
$$;
comment on function payments.create_intent is
'Claims the key, checks the amount against every allowed rail, inserts the intent, its event, the invoice it asks for and its stored answer: one transaction. 201.';

create function payments.get_intent(payment_intent_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
begin
    seen := payments.visible_intent(get_intent.payment_intent_id, 'payments:read', 'read', false);
    return row(200, payments.intent_resource(seen.intent, seen.reveal_secret), (seen.caller).rate);
end
$$;
comment on function payments.get_intent is 'The intent as its caller may see it; 40401 for anybody else''s.';

create function payments.update_intent(payment_intent_id text, patch jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    changed payments.payment_intents;
begin
    seen := payments.visible_intent(update_intent.payment_intent_id, 'payments:write', 'write', true);
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; changing it needs the scope payments:write.');
    end if;
    update payments.payment_intents as i
    set
        description = case when patch ? 'description' then patch ->> 'description' else i.description end,
        -- As RFC 7396: a key with null goes away.
        metadata = jsonb_strip_nulls(i.metadata || coalesce(patch -> 'metadata', '{}')),
        version = i.version + 1,
        updated_at = now()
    where i.payment_intent_id = update_intent.payment_intent_id and i.status = 'requires_payment_method'
    returning i.* into changed;
    if not found then
        perform public.refuse(
            '40911', format('A payment intent that is %s can no longer be changed.', (seen.intent).status),
            jsonb_build_object('current_state', (seen.intent).status, 'allowed', '[]'::jsonb)
        );
    end if;
    if (select count(*) from jsonb_object_keys(changed.metadata)) > 50 then
        perform public.refuse('42262', 'metadata holds at most 50 keys.', jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/metadata', 'detail', 'at most 50 keys'))
        ));
    end if;
    perform payments.record_intent_event(changed, 'payment_intent.updated', jsonb_build_object(
        'status', changed.status, 'changed', (select jsonb_agg(k) from jsonb_object_keys(patch) as k)
    ));
    return row(200, payments.intent_resource(changed, true), (seen.caller).rate);
end
$$;
comment on function payments.update_intent is
'Changes description and metadata (merged, null deletes) before an attempt starts; 40911 afterwards.';

create function payments.cancel_intent(payment_intent_id text, idempotency_key text, body_hash text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    answer public.answer;
    canceled payments.payment_intents;
begin
    seen := payments.visible_intent(cancel_intent.payment_intent_id, 'payments:write', 'write', true);
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; canceling it needs the scope payments:write.');
    end if;
    answer := public.claim_idempotency(
        seen.caller, 'POST /payment-intents/{id}/cancel', cancel_intent.idempotency_key,
        cancel_intent.body_hash || ':' || cancel_intent.payment_intent_id
    );
    if answer.body is not null then
        return answer;
    end if;
    canceled := payments.advance_intent(
        cancel_intent.payment_intent_id, 'cancel', jsonb_build_object('cancellation_reason', cancel_intent.reason)
    );
    answer := row(200, payments.intent_resource(canceled, true), (seen.caller).rate);
    perform public.remember_answer(
        seen.caller, 'POST /payment-intents/{id}/cancel', cancel_intent.idempotency_key,
        cancel_intent.payment_intent_id, answer
    );
    return answer;
end
$$;
comment on function payments.cancel_intent is
'Cancels an intent that no rail is working on; 40911 with the current state and the allowed moves otherwise.';

create function payments.expire_intents()
returns integer
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
declare
    due text;
    expired integer := 0;
begin
    -- An intent with a prompt on a phone is `processing` and is left alone until the attempt ends.
    for due in
        select i.payment_intent_id
        from payments.payment_intents as i
        where i.status = 'requires_payment_method' and i.expires_at <= now()
        order by i.expires_at
        limit 500
        for no key update skip locked
    loop
        perform payments.advance_intent(due, 'expire');
        expired := expired + 1;
    end loop;
    return expired;
end
$$;
comment on function payments.expire_intents is 'Expires up to 500 unpaid intents whose time is over; returns how many. A cron task.';

reset role;
