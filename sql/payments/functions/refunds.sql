-- Refunds: money of a settled transfer goes back, all of it or part, never more than came in.

set role stalela_owner;

create function payments.reserve_refund(transfer_id text, amount_minor bigint)
returns boolean
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    update payments.transfers as t
    set refunds_open_minor = t.refunds_open_minor + reserve_refund.amount_minor
    where
        t.transfer_id = reserve_refund.transfer_id and t.state = 'SETTLED'
        and t.returned_minor + t.refunds_open_minor + reserve_refund.amount_minor <= t.amount_minor;
    return found;
end
$$;
comment on function payments.reserve_refund is
'Takes the amount out of what can still go back, if that much is left: decided by one guarded update, so that simultaneous refunds cannot both have it.';

create function payments.release_refund(transfer_id text, amount_minor bigint)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    update payments.transfers as t
    set refunds_open_minor = t.refunds_open_minor - release_refund.amount_minor
    where t.transfer_id = release_refund.transfer_id and t.state = 'SETTLED';
end
$$;
comment on function payments.release_refund is 'A refund failed: what it had reserved can go back by another.';

create function payments.refundable_transfer(
    caller public.caller, payment_intent_id text, transfer_id text
)
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    original payments.transfers;
    locked text := refundable_transfer.payment_intent_id;
begin
    if locked is null then
        -- The intent is locked before the transfer, as everywhere.
        select t.payment_intent_id into locked
        from payments.transfers as t
        where
            t.transfer_id = refundable_transfer.transfer_id
            and t.tenant_id = (refundable_transfer.caller).tenant_id
            and t.environment = (refundable_transfer.caller).environment;
    end if;
    perform from payments.payment_intents as i
    where
        i.payment_intent_id = locked
        and i.tenant_id = (refundable_transfer.caller).tenant_id
        and i.environment = (refundable_transfer.caller).environment
    for no key update;
    if not found and refundable_transfer.payment_intent_id is not null then
        perform public.refuse(
            '40401', format('There is no payment intent %s here.', refundable_transfer.payment_intent_id)
        );
    end if;
    select t.* into original
    from payments.transfers as t
    where
        case
            when refundable_transfer.transfer_id is not null then t.transfer_id = refundable_transfer.transfer_id
            else t.payment_intent_id = refundable_transfer.payment_intent_id
        end
        and t.tenant_id = (refundable_transfer.caller).tenant_id
        and t.environment = (refundable_transfer.caller).environment
        and t.purpose in ('collection', 'c2b', 'direct')
        and (refundable_transfer.transfer_id is not null or t.state in ('SETTLED', 'RETURNED'))
    -- Of several payments for one intent, the one with most left.
    order by t.amount_minor - t.returned_minor - t.refunds_open_minor desc, t.transfer_id
    limit 1
    for no key update;
    if not found and refundable_transfer.transfer_id is not null then
        perform public.refuse('40401', format('There is no transfer %s here.', refundable_transfer.transfer_id));
    elsif not found then
        perform public.refuse('40911', 'Nothing was paid for this payment intent, so nothing can go back.',
            '{"allowed": []}');
    elsif original.state not in ('SETTLED', 'RETURNED') or original.operation = 'pay_out' then
        perform public.refuse('40911', format('A transfer that is %s has nothing to give back.', original.state),
            jsonb_build_object('current_state', original.state, 'allowed', '[]'::jsonb));
    end if;
    return original;
end
$$;
comment on function payments.refundable_transfer is
'The settled transfer a refund is about, locked after its intent: the one named, or of an intent the one with most left to go back.';

create function payments.refund_operation(original payments.transfers, amount_minor bigint, wanted text)
returns text
language plpgsql
stable
security definer -- callers may not read rails
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules rails.rails;
    irreversible text;
begin
    select r.* into rules from rails.rails as r where r.rail = (refund_operation.original).rail and r.enabled;
    if not found then
        perform public.refuse('42261', format('%s is switched off for now.', original.rail));
    end if;
    irreversible := case
        when rules.reverses_within_s is null then format('%s reverses no payments', rules.name)
        when original.receipt is null then 'the receipt of this payment is not known yet'
        when original.settled_at + make_interval(secs => rules.reverses_within_s) <= now() then
            format('%s reverses payments of the last %s days', rules.name, rules.reverses_within_s / 86400)
        when
            not rules.reverses_partly
            and refund_operation.amount_minor <> original.amount_minor
            then format('%s reverses whole payments only', rules.name)
    end;
    if irreversible is null and wanted is distinct from 'payout' then
        return 'refund';
    elsif wanted = 'reversal' then
        perform public.refuse_field('42262', '/method', irreversible || '.');
    elsif original.payer_sealed is null then
        perform public.refuse('42262', format(
            'This refund can neither be reversed (%s) nor paid out: the payer''s number is not known.',
            coalesce(irreversible, 'a payout was asked for')
        ));
    end if;
    perform rails.check_payout(original.rail, refund_operation.amount_minor, original.currency);
    return 'pay_out';
end
$$;
comment on function payments.refund_operation is
'How money goes back: reversal where the rail allows it, otherwise paid out to the payer; wanted (reversal, payout) chooses, and is refused with the rule when it cannot be.';

create function payments.begin_refund(
    idempotency_key text, body_hash text, payment_intent_id text, transfer_id text,
    amount_minor bigint, currency text, reason text, method text, metadata jsonb
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('refunds:write', 'write');
    route constant text := 'POST /refunds';
    answer public.answer;
    original payments.transfers;
    refund payments.transfers;
    left_minor bigint;
    wanted_minor bigint;
begin
    answer := public.claim_idempotency(caller, route, begin_refund.idempotency_key, begin_refund.body_hash);
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;

    original := payments.refundable_transfer(caller, begin_refund.payment_intent_id, begin_refund.transfer_id);
    left_minor := original.amount_minor - original.returned_minor - original.refunds_open_minor;
    wanted_minor := coalesce(begin_refund.amount_minor, left_minor);
    if begin_refund.currency <> original.currency then
        perform public.refuse_field('42251', '/currency', format('the payment was made in %s.', original.currency));
    elsif
        wanted_minor = 0
        or not payments.reserve_refund(original.transfer_id, wanted_minor)
    then
        perform public.refuse('42255', format(
            '%s %s of %s can still go back.', public.format_amount(left_minor, original.currency), original.currency,
            original.transfer_id
        ), jsonb_build_object(
            'refundable', public.format_amount(left_minor, original.currency),
            'errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/amount',
                'detail', format('at most %s', public.format_amount(left_minor, original.currency))
            ))
        ));
    end if;
    perform rails.check_credentials(original.tenant_id, original.environment, original.rail);

    insert into payments.transfers (
        transfer_id, tenant_id, environment, payment_intent_id, intent, rail, state, amount_minor, currency,
        purpose, operation, related_transfer_id, description, metadata, payee_sealed, payee_masked, payee_hash,
        body_hash, created_by, approval
    ) values (
        public.new_id('tr'), original.tenant_id, original.environment, original.payment_intent_id, 'PUSH',
        original.rail, 'INITIATED', wanted_minor, original.currency, 'refund',
        payments.refund_operation(original, wanted_minor, begin_refund.method), original.transfer_id,
        begin_refund.reason, coalesce(begin_refund.metadata, '{}'),
        original.payer_sealed, original.payer_masked, original.payer_hash,
        begin_refund.body_hash, caller.actor, payments.approval_needed(wanted_minor, original.currency)
    )
    returning * into refund;
    perform compliance.check_party(refund);
    perform payments.record_transfer_event(refund, 'transfer.initiated', payments.transfer_payload(refund));
    refund := payments.annotate_transfer(refund.transfer_id, 'refund.created', jsonb_build_object(
        'reason', refund.description, 'approval', refund.approval
    ));
    return payments.send_or_wait(refund, caller, route, begin_refund.idempotency_key);
end
$$;
comment on function payments.begin_refund is
'Before the rail is called: claims the key, reserves the amount of the original, writes the refund. The instruction to send, or the answer when a second person must approve first (or the key was used). 42255 names what can still go back.';

create function payments.get_refund(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('payments:read', 'read');
begin
    return row(
        200, payments.refund_resource(payments.visible_transfer(transfer_id, caller, '{refund}', false)), caller.rate
    );
end
$$;
comment on function payments.get_refund is 'One refund; 40401 for anybody else''s.';

reset role;
