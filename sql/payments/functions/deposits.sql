-- Deposits as transfers: booked for an open intent, or unallocated until a person says what they were for.

set role stalela_owner;

create function payments.record_deposit(
    tenant_id text, environment text, rail text, payment_intent_id text, told jsonb
)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    intent payments.payment_intents;
    deposit payments.transfers;
begin
    select i.* into intent
    from payments.payment_intents as i
    where
        i.payment_intent_id = record_deposit.payment_intent_id and i.currency = told ->> 'currency'
        and i.status in ('requires_payment_method', 'processing', 'partially_paid')
    for no key update;
    insert into payments.transfers (
        transfer_id, tenant_id, environment, payment_intent_id, intent, rail, state, amount_minor, currency,
        purpose, operation, payer_masked, description, created_by, unallocated_reason
    ) values (
        public.new_id('tr'), record_deposit.tenant_id, record_deposit.environment, intent.payment_intent_id, 'PUSH',
        record_deposit.rail, 'INITIATED', (told ->> 'amount_minor')::bigint, told ->> 'currency', 'c2b', null,
        told ->> 'payer_masked', left(told ->> 'account_reference', 500), 'rail:' || record_deposit.rail,
        case
            when intent.payment_intent_id is not null then null
            when coalesce(told ->> 'account_reference', '') = '' then 'no_account_reference'
            else 'no_open_intent'
        end
    )
    returning * into deposit;
    perform payments.record_transfer_event(deposit, 'transfer.initiated', payments.transfer_payload(deposit));
    deposit := payments.advance_transfer(deposit.transfer_id, 'submit', 'callback');
    perform rails.settle_transfer(deposit, told ->> 'receipt', 'callback');
    if deposit.unallocated_reason is not null then
        perform payments.annotate_transfer(deposit.transfer_id, 'transfer.unallocated', jsonb_build_object(
            'unallocated_reason', deposit.unallocated_reason
        ));
        perform public.raise_alert(
            'deposit_unallocated', 'warning', deposit.transfer_id, deposit.tenant_id, deposit.environment,
            jsonb_build_object('reason', deposit.unallocated_reason)
        );
    end if;
    return deposit.transfer_id;
end
$$;
comment on function payments.record_deposit is
'Books a deposit that the rail confirmed, once per receipt: for the open intent, or unallocated, which raises an alert.';

create function payments.assign_deposit(
    transfer_id text, idempotency_key text, body_hash text, payment_intent_id text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:resolve', 'write');
    route constant text := 'POST /transfers/{id}/assign';
    answer public.answer;
    intent payments.payment_intents;
    deposit payments.transfers;
begin
    answer := public.claim_idempotency(
        caller, route, assign_deposit.idempotency_key, assign_deposit.body_hash || ':' || assign_deposit.transfer_id
    );
    if answer.body is not null then
        return payments.stored_answer(caller, answer);
    end if;
    select i.* into intent
    from payments.payment_intents as i
    where
        i.payment_intent_id = assign_deposit.payment_intent_id
        and i.tenant_id = caller.tenant_id and i.environment = caller.environment
    for no key update;
    if not found then
        perform public.refuse_field(
            '42262', '/payment_intent', format('there is no payment intent %s here.', assign_deposit.payment_intent_id)
        );
    end if;
    deposit := payments.visible_transfer(assign_deposit.transfer_id, caller, '{c2b}', true);
    if deposit.unallocated_reason is null or deposit.state <> 'SETTLED' then
        perform public.refuse('40911', 'This deposit does not wait to be assigned.', jsonb_build_object(
            'current_state', deposit.state, 'allowed', '[]'::jsonb
        ));
    elsif deposit.returned_minor + deposit.refunds_open_minor > 0 then
        perform public.refuse('40911', 'Some of this deposit went back, so it pays for nothing any more.',
            jsonb_build_object('current_state', deposit.state, 'allowed', '[]'::jsonb));
    elsif deposit.currency <> intent.currency then
        perform public.refuse_field('42262', '/payment_intent', format('that intent is in %s.', intent.currency));
    elsif intent.status = 'succeeded' then
        perform public.refuse_field('42262', '/payment_intent', 'that intent is paid in full already.');
    end if;
    update payments.transfers as t
    set payment_intent_id = intent.payment_intent_id, unallocated_reason = null
    where t.transfer_id = assign_deposit.transfer_id;
    deposit := payments.annotate_transfer(
        assign_deposit.transfer_id, 'transfer.allocated', jsonb_build_object('reason', assign_deposit.reason)
    );
    perform payments.credit_intent(intent.payment_intent_id, deposit.transfer_id, deposit.amount_minor);
    perform public.resolve_alert('deposit_unallocated', deposit.transfer_id, 'assigned');
    perform public.audit(caller, 'deposit.assign', deposit.transfer_id, jsonb_build_object(
        'payment_intent', intent.payment_intent_id, 'reason', assign_deposit.reason
    ));
    answer := row(200, payments.transfer_resource(deposit), caller.rate);
    perform public.remember_answer(caller, route, assign_deposit.idempotency_key, deposit.transfer_id, answer);
    return answer;
end
$$;
comment on function payments.assign_deposit is
'A person says which intent an unallocated deposit pays, in full or in part. Audited with the reason.';

reset role;
