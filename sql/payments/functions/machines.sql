-- The two state machines. Nothing else updates payment_intents.status or transfers.state.

set role stalela_owner;

create function payments.advance_intent(payment_intent_id text, event text, facts jsonb default '{}')
returns payments.payment_intents
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved payments.payment_intents;
    was text;
begin
    select i.status into was
    from payments.payment_intents as i
    where i.payment_intent_id = advance_intent.payment_intent_id
    for no key update;

    update payments.payment_intents as i
    set
        status = x.to_status,
        version = i.version + 1,
        updated_at = now(),
        amount_received_minor = i.amount_received_minor + coalesce((facts ->> 'received_minor')::bigint, 0),
        amount_refunded_minor = i.amount_refunded_minor + coalesce((facts ->> 'refunded_minor')::bigint, 0),
        latest_transfer_id = coalesce(facts ->> 'transfer_id', i.latest_transfer_id),
        -- The error of a failed attempt stays until the next attempt starts or the intent is paid.
        last_error = case
            when advance_intent.event in ('fail', 'fail_partly') then facts -> 'failure'
            when advance_intent.event in ('confirm', 'settle') then null
            else i.last_error
        end,
        cancellation_reason = coalesce(facts ->> 'cancellation_reason', i.cancellation_reason),
        canceled_at = case when x.to_status = 'canceled' then now() else i.canceled_at end
    from payments.intent_transitions as x
    where
        i.payment_intent_id = advance_intent.payment_intent_id
        and x.from_status = i.status
        and x.event = advance_intent.event
    returning i.* into moved;

    if not found then
        perform public.refuse(
            '40911',
            format('A payment intent that is %s cannot %s.', was, advance_intent.event),
            jsonb_build_object(
                'current_state', was,
                'allowed', coalesce((
                    select jsonb_agg(x.event order by x.event)
                    from payments.intent_transitions as x
                    where x.from_status = was and 'api' = any(x.triggered_by)
                ), '[]')
            )
        );
    end if;

    perform payments.record_intent_event(moved, (
        select x.event_type from payments.intent_transitions as x
        where x.from_status = was and x.event = advance_intent.event
    ), jsonb_build_object(
        'status', moved.status,
        'amount', public.format_amount(moved.amount_minor, moved.currency),
        'amount_received', public.format_amount(moved.amount_received_minor, moved.currency),
        'amount_refunded', public.format_amount(moved.amount_refunded_minor, moved.currency),
        'currency', moved.currency,
        'transfer_id', moved.latest_transfer_id,
        'error', moved.last_error
    ));
    if moved.status = 'succeeded' and was <> 'succeeded' then
        perform fiscal.order_paid(moved.payment_intent_id);
    end if;
    return moved;
end
$$;
comment on function payments.advance_intent is
'The only writer of payment_intents.status: one guarded update over intent_transitions, then its event. facts: received_minor, refunded_minor, transfer_id, failure, cancellation_reason. 40911 when the move is not in the table.';

create function payments.transfer_payload(transfer payments.transfers)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
    return jsonb_strip_nulls(jsonb_build_object(
        'transfer_id', transfer.transfer_id,
        'payment_intent_id', transfer.payment_intent_id,
        'related_transfer_id', transfer.related_transfer_id,
        'purpose', transfer.purpose,
        'intent', transfer.intent,
        'rail', transfer.rail,
        'state', transfer.state,
        'amount', public.format_amount(transfer.amount_minor, transfer.currency),
        'currency', transfer.currency,
        'returned_amount', case
            when transfer.returned_minor > 0 then public.format_amount(transfer.returned_minor, transfer.currency)
        end,
        'receipt', transfer.receipt,
        'late', nullif(transfer.late, false),
        'failure', transfer.failure,
        'external_ref', transfer.external_ref,
        'end_user_ref', transfer.end_user_ref
    ));
end
$$;
comment on function payments.transfer_payload is 'What every event of a transfer tells about it: references and amounts, no personal data.';

create function payments.advance_transfer(transfer_id text, event text, triggered_by text, facts jsonb default '{}')
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved payments.transfers;
    was text;
begin
    select t.state into was
    from payments.transfers as t
    where t.transfer_id = advance_transfer.transfer_id
    for no key update;

    update payments.transfers as t
    set
        state = x.to_state,
        version = t.version + 1,
        updated_at = now(),
        submitted_at = case when x.to_state = 'SUBMITTED' then now() else t.submitted_at end,
        settled_at = case when x.to_state = 'SETTLED' then now() else t.settled_at end,
        rail_ref = coalesce(facts ->> 'rail_ref', t.rail_ref),
        receipt = coalesce(facts ->> 'receipt', t.receipt),
        -- What moved, where that is known to differ from what was asked.
        amount_minor = coalesce((facts ->> 'amount_minor')::bigint, t.amount_minor),
        returned_minor = case when x.to_state = 'RETURNED' then t.amount_minor else t.returned_minor end,
        refunds_open_minor = case when x.to_state = 'RETURNED' then 0 else t.refunds_open_minor end,
        failure = case when x.to_state = 'FAILED' then facts -> 'failure' end,
        late = t.late or (x.to_state = 'SETTLED' and was = 'FAILED'),
        review_reason = case when x.to_state in ('SETTLED', 'RETURNED') then null else t.review_reason end
    from payments.transfer_transitions as x
    where
        t.transfer_id = advance_transfer.transfer_id
        and x.from_state = t.state
        and x.event = advance_transfer.event
        and advance_transfer.triggered_by = any(x.triggered_by)
    returning t.* into moved;

    if not found then
        perform public.refuse(
            '40911',
            format('A transfer that is %s does not take %s from %s.', was, advance_transfer.event, advance_transfer.triggered_by),
            jsonb_build_object('current_state', was)
        );
    end if;

    perform payments.record_transfer_event(moved, (
        select x.event_type from payments.transfer_transitions as x
        where x.from_state = was and x.event = advance_transfer.event
    ), payments.transfer_payload(moved) || jsonb_build_object('triggered_by', advance_transfer.triggered_by));
    return moved;
end
$$;
comment on function payments.advance_transfer is
'The only writer of transfers.state: one guarded update over transfer_transitions, then its event. facts: rail_ref, receipt, amount_minor, failure. 40911 when the move is not in the table.';

create function payments.annotate_transfer(transfer_id text, type text, facts jsonb)
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    noted payments.transfers;
begin
    update payments.transfers as t
    set
        version = t.version + 1,
        updated_at = now(),
        rail_ref = coalesce(facts ->> 'rail_ref', t.rail_ref),
        receipt = coalesce(facts ->> 'receipt', t.receipt),
        told_minor = coalesce((facts ->> 'told_minor')::bigint, t.told_minor),
        -- Named with null: the review is over.
        review_reason = case
            when facts ? 'review_reason' then facts ->> 'review_reason' else t.review_reason
        end
    where t.transfer_id = annotate_transfer.transfer_id
    returning t.* into noted;
    perform payments.record_transfer_event(
        noted, annotate_transfer.type,
        payments.transfer_payload(noted) || (facts - '{rail_ref,told_minor}'::text[])
    );
    return noted;
end
$$;
comment on function payments.annotate_transfer is
'Adds what became known about a transfer without moving its state (a receipt, a reason for review), and the event that says so.';

create function payments.review_transfer(transfer_id text, reason text, details jsonb default '{}')
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    noted payments.transfers;
begin
    noted := payments.annotate_transfer(
        review_transfer.transfer_id, 'transfer.needs_review',
        jsonb_build_object('review_reason', review_transfer.reason)
        || jsonb_strip_nulls(jsonb_build_object('told_minor', details -> 'told_minor'))
    );
    perform public.raise_alert(
        'transfer_needs_review', 'warning', review_transfer.transfer_id, noted.tenant_id, noted.environment,
        jsonb_build_object('reason', review_transfer.reason) || details
    );
end
$$;
comment on function payments.review_transfer is 'Asks for a person''s decision on a transfer; its state stays what is known.';

create function payments.credit_intent(payment_intent_id text, transfer_id text, amount_minor bigint)
returns payments.payment_intents
language plpgsql
volatile
security definer -- callers may not write intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    intent payments.payment_intents;
    facts jsonb := jsonb_build_object('received_minor', credit_intent.amount_minor);
begin
    select i.* into intent
    from payments.payment_intents as i
    where i.payment_intent_id = credit_intent.payment_intent_id
    for no key update;
    if intent.amount_received_minor + credit_intent.amount_minor >= intent.amount_minor then
        intent := payments.advance_intent(
            credit_intent.payment_intent_id, 'settle',
            facts || jsonb_build_object('transfer_id', credit_intent.transfer_id)
        );
    elsif intent.status = 'processing' and intent.latest_transfer_id <> credit_intent.transfer_id then
        -- The prompt that is out stays the latest attempt.
        intent := payments.advance_intent(credit_intent.payment_intent_id, 'deposit_partly', facts);
    else
        intent := payments.advance_intent(
            credit_intent.payment_intent_id, 'settle_partly',
            facts || jsonb_build_object('transfer_id', credit_intent.transfer_id)
        );
    end if;
    if intent.amount_received_minor > intent.amount_minor then
        perform public.raise_alert(
            'intent_overpaid', 'warning', intent.payment_intent_id, intent.tenant_id, intent.environment,
            jsonb_build_object('transfer_id', credit_intent.transfer_id, 'received_minor', intent.amount_received_minor)
        );
    end if;
    return intent;
end
$$;
comment on function payments.credit_intent is
'Money of a settled transfer is counted for its intent: paid in full, or in part. More than was asked for raises an alert.';

create function payments.return_money(transfer_id text, amount_minor bigint, refund_transfer_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    original payments.transfers;
    intent payments.payment_intents;
    facts jsonb := jsonb_build_object('refunded_minor', return_money.amount_minor);
begin
    -- Out of what the refund reserved: the sum of both, and so the constraint, does not move.
    update payments.transfers as t
    set refunds_open_minor = t.refunds_open_minor - return_money.amount_minor
    where t.transfer_id = return_money.transfer_id
    returning t.* into original;
    if original.returned_minor + return_money.amount_minor = original.amount_minor then
        original := payments.advance_transfer(original.transfer_id, 'return', 'refund');
    else
        update payments.transfers as t
        set returned_minor = t.returned_minor + return_money.amount_minor
        where t.transfer_id = return_money.transfer_id;
        original := payments.annotate_transfer(
            original.transfer_id, 'transfer.partially_returned',
            jsonb_build_object('refund_transfer_id', return_money.refund_transfer_id, 'triggered_by', 'refund')
        );
    end if;

    if original.payment_intent_id is not null then
        select i.* into intent from payments.payment_intents as i where i.payment_intent_id = original.payment_intent_id;
        if intent.amount_refunded_minor + return_money.amount_minor = intent.amount_received_minor then
            perform payments.advance_intent(intent.payment_intent_id, 'refund', facts);
        else
            perform payments.advance_intent(intent.payment_intent_id, 'refund_partly', facts);
        end if;
    end if;
end
$$;
comment on function payments.return_money is
'A refund arrived: the original is returned, or partially returned, and its intent counts what went back. Under the locks of intent and original.';

reset role;
