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
        latest_transfer_id = coalesce(facts ->> 'transfer_id', i.latest_transfer_id),
        -- The error of a failed attempt stays until the next attempt starts or the intent is paid.
        last_error = case
            when advance_intent.event = 'fail' then facts -> 'failure'
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
        'currency', moved.currency,
        'transfer_id', moved.latest_transfer_id,
        'error', moved.last_error
    ));
    return moved;
end
$$;
comment on function payments.advance_intent is
'The only writer of payment_intents.status: one guarded update over intent_transitions, then its event. facts: received_minor, transfer_id, failure, cancellation_reason. 40911 when the move is not in the table.';

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
    ), jsonb_strip_nulls(jsonb_build_object(
        'payment_intent_id', moved.payment_intent_id,
        'state', moved.state,
        'rail', moved.rail,
        'amount', public.format_amount(moved.amount_minor, moved.currency),
        'currency', moved.currency,
        'receipt', moved.receipt,
        'late', nullif(moved.late, false),
        'failure', moved.failure,
        'triggered_by', advance_transfer.triggered_by
    )));
    return moved;
end
$$;
comment on function payments.advance_transfer is
'The only writer of transfers.state: one guarded update over transfer_transitions, then its event. facts: rail_ref, receipt, failure. 40911 when the move is not in the table.';

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
        -- Named with null: the review is over.
        review_reason = case
            when facts ? 'review_reason' then facts ->> 'review_reason' else t.review_reason
        end
    where t.transfer_id = annotate_transfer.transfer_id
    returning t.* into noted;
    perform payments.record_transfer_event(
        noted, annotate_transfer.type,
        jsonb_build_object('payment_intent_id', noted.payment_intent_id, 'state', noted.state)
        || (facts - 'rail_ref')
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
    );
    perform public.raise_alert(
        'transfer_needs_review', 'warning', review_transfer.transfer_id, noted.tenant_id, noted.environment,
        jsonb_build_object('reason', review_transfer.reason) || details
    );
end
$$;
comment on function payments.review_transfer is 'Asks for a person''s decision on a transfer; its state stays what is known.';

reset role;
