-- An attempt on a rail: begin (before it is called), record (after it answered), release (nothing was sent).
-- Beginning to collect is here; refunds, payouts and direct transfers begin in files of their own.

set role stalela_owner;

create function payments.begin_transfer(
    payment_intent_id text, idempotency_key text, body_hash text, rail text,
    payer_sealed text, payer_masked text, payer_hash text
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    intent payments.payment_intents;
    answer public.answer;
    transfer payments.transfers;
begin
    seen := payments.visible_intent(begin_transfer.payment_intent_id, 'payments:write', 'write', true);
    intent := seen.intent;
    answer := public.claim_idempotency(
        seen.caller, 'POST /payment-intents/{id}/confirm', begin_transfer.idempotency_key,
        begin_transfer.body_hash || ':' || intent.payment_intent_id
    );
    if answer.body is not null then
        -- A claim whose first request died keeps no answer; what became of it is the intent as it stands.
        if answer.status is null then
            answer := row(200, payments.intent_resource(intent, seen.reveal_secret),
                (seen.caller).rate || '{"Idempotent-Replayed": "true"}');
        end if;
        return row(answer, null::jsonb);
    end if;

    if not begin_transfer.rail = any(intent.payment_method_types) then
        perform public.refuse(
            '42261', format('This intent takes %s.', array_to_string(intent.payment_method_types, ', ')),
            jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/payment_method/type',
                'detail', format('not one of payment_method_types: %s', array_to_string(intent.payment_method_types, ', '))
            )))
        );
    end if;
    perform from rails.rails as r where r.rail = begin_transfer.rail and r.enabled;
    if not found then
        perform public.refuse_field(
            '42261', '/payment_method/type', format('%s is switched off for now.', begin_transfer.rail)
        );
    end if;
    if intent.status = 'requires_payment_method' and intent.expires_at <= now() then
        perform public.refuse('40911', 'This payment intent has expired; create a new one.',
            '{"current_state": "expired", "allowed": []}');
    end if;
    perform rails.check_credentials(intent.tenant_id, intent.environment, begin_transfer.rail);
    insert into payments.transfers (
        transfer_id, tenant_id, environment, payment_intent_id, intent, rail, state, amount_minor, currency,
        payer_sealed, payer_masked, payer_hash, description, created_by
    )
    select
        public.new_id('tr'), intent.tenant_id, intent.environment, intent.payment_intent_id, 'PULL',
        begin_transfer.rail, 'INITIATED', intent.amount_minor - intent.amount_received_minor, intent.currency,
        begin_transfer.payer_sealed, begin_transfer.payer_masked, begin_transfer.payer_hash,
        intent.description, (seen.caller).actor
    -- The move is asked for below; this keeps the one-open-transfer constraint from answering in its place.
    where intent.status in ('requires_payment_method', 'partially_paid')
    returning * into transfer;
    perform payments.advance_intent(
        intent.payment_intent_id, 'confirm', jsonb_build_object('transfer_id', transfer.transfer_id)
    );
    perform compliance.admit(
        transfer.tenant_id, transfer.environment, 'in', transfer.rail, transfer.amount_minor, transfer.currency,
        transfer.payer_hash, transfer.transfer_id
    );
    perform payments.record_transfer_event(transfer, 'transfer.initiated', payments.transfer_payload(transfer));
    perform public.bind_idempotency(
        seen.caller, 'POST /payment-intents/{id}/confirm', begin_transfer.idempotency_key, intent.payment_intent_id
    );
    return row(
        null::public.answer,
        payments.send_transfer(transfer, 'POST /payment-intents/{id}/confirm', (seen.caller).rate)
    );
end
$$;
comment on function payments.begin_transfer is
'Before the rail is called: claims the key, moves the intent to processing, writes transfer, attempt, callback token (hash) and watch. The instruction carries the token in clear, this once.';

create function payments.send_transfer(transfer payments.transfers, route text, headers jsonb)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    token text := payments.random_secret();
    sent payments.transfers;
begin
    sent := payments.advance_transfer(transfer.transfer_id, 'submit', 'api');
    insert into payments.attempts (transfer_id, number, tenant_id, environment, callback_token_hash, route)
    values (
        sent.transfer_id, 1, sent.tenant_id, sent.environment,
        encode(sha256(convert_to(token, 'utf8')), 'hex'), send_transfer.route
    );
    insert into rails.watches (transfer_id, tenant_id, environment, due_at, horizon_at)
    select
        sent.transfer_id, sent.tenant_id, sent.environment,
        now() + make_interval(secs => r.query_waits_s[1]),
        now() + make_interval(secs => r.horizon_s)
    from rails.rails as r
    where r.rail = sent.rail;
    return rails.work_item(sent, token) || jsonb_build_object('headers', send_transfer.headers);
end
$$;
comment on function payments.send_transfer is
'The last step before the rail is called, in the transaction that decided to: submitted, one attempt with a new callback token (stored hashed), watched. Returns the instruction with the token in clear, this once. A transfer passes here once in its life.';

create function payments.begun_by_us(transfer_id text, callback_token_hash text)
returns payments.transfers
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
begin
    -- Not the key of the request: it may have been revoked while the rail was asked, and what the rail said must
    -- be kept all the same. Only who was handed the instruction knows the token.
    select t.* into transfer
    from payments.transfers as t
    inner join payments.attempts as a on a.transfer_id = t.transfer_id
    where
        t.transfer_id = begun_by_us.transfer_id
        and a.callback_token_hash = begun_by_us.callback_token_hash;
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', begun_by_us.transfer_id));
    end if;
    return transfer;
end
$$;
comment on function payments.begun_by_us is 'The transfer whose instruction carried this callback token; 40401 otherwise.';

create function payments.record_submission(
    transfer_id text, callback_token_hash text, idempotency_key text, event jsonb
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller;
    transfer payments.transfers;
    answer public.answer;
    route text := payments.route_of(record_submission.transfer_id);
    reveal_secret boolean := not coalesce(
        nullif(current_setting('request.headers', true), '')::jsonb ? 'x-stalela-client-secret-hash', false
    );
begin
    transfer := payments.begun_by_us(record_submission.transfer_id, record_submission.callback_token_hash);
    caller.tenant_id := transfer.tenant_id;
    caller.environment := transfer.environment;
    update payments.attempts as a
    set answered_at = now(), outcome = record_submission.event ->> 'outcome', code = record_submission.event ->> 'code'
    where a.transfer_id = record_submission.transfer_id and a.number = 1;
    perform rails.apply_event(record_submission.transfer_id, record_submission.event, 'submit', true);

    select t.* into transfer from payments.transfers as t where t.transfer_id = record_submission.transfer_id;
    answer := row(
        case when route in ('POST /refunds', 'POST /payouts', 'POST /transfers') then 201 else 200 end,
        payments.resource_of(transfer, reveal_secret), '{}'::jsonb
    );
    perform public.remember_answer(
        caller, route, record_submission.idempotency_key,
        case transfer.purpose when 'collection' then transfer.payment_intent_id else transfer.transfer_id end, answer
    );
    return answer;
end
$$;
comment on function payments.record_submission is
'After the rail answered (or fell silent): applies the event and stores the answer of the request that sent it. A callback may have come first.';

create function payments.route_of(transfer_id text)
returns text
language plpgsql
stable
security definer -- callers may not read attempts
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (select a.route from payments.attempts as a where a.transfer_id = route_of.transfer_id and a.number = 1);
end
$$;
comment on function payments.route_of is 'The route of the request that sent this transfer: its idempotency key belongs to it.';

create function payments.release_submission(
    transfer_id text, callback_token_hash text, idempotency_key text, reason text, retry_after integer
)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller;
    transfer payments.transfers;
begin
    transfer := payments.begun_by_us(release_submission.transfer_id, release_submission.callback_token_hash);
    caller.tenant_id := transfer.tenant_id;
    caller.environment := transfer.environment;
    update payments.attempts as a
    set answered_at = now(), outcome = 'failed_retryable', code = release_submission.reason
    where a.transfer_id = release_submission.transfer_id and a.number = 1;
    perform rails.apply_event(
        release_submission.transfer_id,
        jsonb_build_object(
            'outcome', 'failed_retryable', 'source', 'submit', 'reason', 'RAIL_UNAVAILABLE',
            'message', release_submission.reason, 'retry_after_s', release_submission.retry_after
        ),
        'submit', true
    );
    -- Nothing left the house, so the same key may try again.
    perform public.forget_idempotency(
        caller, payments.route_of(release_submission.transfer_id), release_submission.idempotency_key
    );
end
$$;
comment on function payments.release_submission is
'Nothing was sent to the rail: the transfer fails and says so, an intent takes another attempt, the key is free again.';

reset role;
