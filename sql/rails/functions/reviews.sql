-- A person decides what no rail answers.

set role stalela_owner;

create function rails.list_reviews(page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    body text;
begin
    select string_agg(row_to_json(waiting)::text, ',' order by waiting.since) into body
    from (
        select
            t.transfer_id as id, 'transfer' as object, t.purpose, t.payment_intent_id, t.rail, t.state, t.review_reason as reason,
            public.format_amount(t.amount_minor, t.currency) as amount, t.currency,
            public.format_amount(t.told_minor, t.currency) as told_amount, t.payer_masked as payer,
            t.payee_masked as payee, t.rail_ref, t.receipt, t.submitted_at, t.updated_at as since
        from payments.transfers as t
        where
            t.review_reason is not null
            and (
                public.holds_scope(caller.scopes, 'platform:operate')
                or (t.tenant_id = caller.tenant_id and t.environment = caller.environment)
            )
        order by t.updated_at
        limit list_reviews.page_size
    ) as waiting;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function rails.list_reviews is
'Transfers that wait for a person, longest first: a tenant''s own, or all of them for operators (platform:operate).';

create function rails.resolve_review(
    transfer_id text, idempotency_key text, body_hash text, outcome text, receipt text, reason text,
    amount_minor bigint default null, currency text default null
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
    subject public.caller := caller;
    route constant text := 'POST /reconcile/reviews/{id}/resolve';
    answer public.answer;
    transfer payments.transfers;
begin
    answer := public.claim_idempotency(
        caller, route, resolve_review.idempotency_key, resolve_review.body_hash || ':' || resolve_review.transfer_id
    );
    if answer.body is not null then
        return answer;
    end if;

    -- Watch, intent, original, transfer: the order of rails.apply_event.
    perform from rails.watches as w where w.transfer_id = resolve_review.transfer_id for update;
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = resolve_review.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = resolve_review.transfer_id
    )
    for no key update;
    select t.* into transfer
    from payments.transfers as t
    where
        t.transfer_id = resolve_review.transfer_id
        and (
            public.holds_scope(caller.scopes, 'platform:operate')
            or (t.tenant_id = caller.tenant_id and t.environment = caller.environment)
        )
    for no key update;
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', resolve_review.transfer_id));
    elsif
        transfer.review_reason is null
        -- A failure whose money stands in the rail's statement, and parked callbacks of a decided transfer.
        and not (resolve_review.outcome = 'settled' and transfer.state = 'FAILED')
        and not (resolve_review.outcome = 'stands' and exists (
            select from public.alerts as a
            where a.subject = resolve_review.transfer_id and a.kind = 'callback_parked' and a.status = 'open'
        ))
    then
        perform public.refuse('40911', 'This transfer does not wait for a decision.', jsonb_build_object(
            'current_state', transfer.state, 'allowed', '[]'::jsonb
        ));
    end if;
    if resolve_review.currency <> transfer.currency then
        perform public.refuse_field('42251', '/currency', format('this transfer is in %s.', transfer.currency));
    end if;
    perform rails.apply_decision(
        transfer, resolve_review.outcome, resolve_review.receipt, resolve_review.amount_minor
    );

    perform payments.annotate_transfer(
        transfer.transfer_id, 'transfer.review_resolved',
        jsonb_build_object('review_reason', null, 'was', transfer.review_reason, 'outcome', resolve_review.outcome)
    );
    insert into rails.callback_dispositions (callback_id, number, tenant_id, environment, disposition, reason)
    select d.callback_id, max(d.number) + 1, c.tenant_id, c.environment, 'resolved', resolve_review.outcome
    from rails.callbacks as c
    inner join rails.callback_dispositions as d on d.callback_id = c.callback_id
    where c.transfer_id = resolve_review.transfer_id
    group by d.callback_id, c.tenant_id, c.environment
    having (array_agg(d.disposition order by d.number desc))[1] in ('parked', 'failed');
    perform public.resolve_alert('transfer_needs_review', transfer.transfer_id, resolve_review.outcome);
    perform public.resolve_alert('callback_parked', transfer.transfer_id, resolve_review.outcome);
    -- Their record, for them to read, whoever decided.
    subject.tenant_id := transfer.tenant_id;
    subject.environment := transfer.environment;
    perform public.audit(subject, 'review.resolve', transfer.transfer_id, jsonb_build_object(
        'was', transfer.review_reason, 'outcome', resolve_review.outcome, 'receipt', resolve_review.receipt,
        'amount_minor', resolve_review.amount_minor, 'reason', resolve_review.reason
    ));

    select t.* into transfer from payments.transfers as t where t.transfer_id = resolve_review.transfer_id;
    answer := row(200, payments.resource_of(transfer, false), caller.rate);
    perform public.remember_answer(
        caller, route, resolve_review.idempotency_key, transfer.transfer_id, answer
    );
    return answer;
end
$$;
comment on function rails.resolve_review is
'A person''s decision on a transfer in review: settled (with the rail''s receipt), failed, or stands (the state is right as it is). Audited with the reason; 40911 when nothing waits.';

create function rails.apply_decision(
    transfer payments.transfers, outcome text, receipt text, amount_minor bigint
)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- What the rail told is what is booked; a statement may say what the rail left out, not something else.
    moved_minor bigint := coalesce(transfer.told_minor, apply_decision.amount_minor);
begin
    if outcome = 'settled' then
        if receipt is null then
            perform public.refuse_field('42262', '/receipt', 'settled needs the receipt of the rail''s statement.');
        elsif rails.receipt_taken(transfer, receipt) then
            perform public.refuse_field('42262', '/receipt', 'this receipt pays for another transfer already.');
        elsif apply_decision.amount_minor <> moved_minor then
            perform public.refuse_field('42262', '/amount', format(
                'the rail told %s; leave amount out, and that is booked.',
                public.format_amount(moved_minor, transfer.currency)
            ));
        elsif moved_minor = 0 then
            perform public.refuse_field('42262', '/outcome', 'the rail told 0.00: nothing moved, so it failed.');
        elsif transfer.review_reason = 'amount_mismatch' and moved_minor is null then
            perform public.refuse_field(
                '42262', '/amount', 'the rail told no amount: give the one of its statement.'
            );
        elsif
            transfer.purpose = 'refund' and moved_minor <> transfer.amount_minor
        then
            perform public.refuse_field('42262', '/amount', format(
                'a refund goes back whole: %s. Ask the rail what became of the rest.',
                public.format_amount(transfer.amount_minor, transfer.currency)
            ));
        elsif transfer.review_reason = 'refunded_twice' then
            perform public.refuse('40911', 'More went back than came in; settle it with the payer, then let it stand.',
                jsonb_build_object('current_state', transfer.state, 'allowed', '["stands"]'::jsonb));
        end if;
        perform rails.settle_transfer(transfer, receipt, 'operator', moved_minor);
    elsif outcome = 'failed' then
        perform rails.fail_transfer(transfer, jsonb_build_object(
            'code', 'RESOLVED_AS_FAILED', 'message', 'A person found that no money moved.',
            'rail_code', null, 'retryable', true, 'retry_after', null
        ), 'operator', null);
    elsif transfer.state in ('INITIATED', 'SUBMITTED', 'ACCEPTED') then
        -- An open transfer left as it is is asked about again.
        perform rails.watch_soon(transfer, null);
    end if;
end
$$;
comment on function rails.apply_decision is
'Moves the transfer as a person decided, with the amount that moved; 40911 when its state does not allow that, 42262 with the way out when the amounts contradict each other.';

reset role;
