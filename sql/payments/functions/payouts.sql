-- Payouts, and what they share with refunds and direct transfers: limits, a second person, sending.

set role stalela_owner;

create function payments.stored_answer(caller public.caller, answer public.answer)
returns public.answer
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    if answer.status is not null then
        return answer;
    end if;
    -- The first request died while the rail was asked; what became of it is the transfer as it stands.
    return (
        select row(
            200, payments.resource_of(t, false), (stored_answer.caller).rate || '{"Idempotent-Replayed": "true"}'
        )::public.answer
        from payments.transfers as t
        where
            t.transfer_id = (stored_answer.answer).body
            and t.tenant_id = (stored_answer.caller).tenant_id
            and t.environment = (stored_answer.caller).environment
    );
end
$$;
comment on function payments.stored_answer is
'What a repeated request is answered: its first answer, or the present state of the transfer it began.';

create function payments.approval_needed(amount_minor bigint, currency text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return case
        when approval_needed.amount_minor > (
            public.setting('payments.four_eyes_above_minor') ->> approval_needed.currency
        )::bigint then 'pending'
    end;
end
$$;
comment on function payments.approval_needed is
'pending when money of this size leaves only after a second person approved; null otherwise. By currency, setting payments.four_eyes_above_minor.';

create function payments.check_daily_payouts(caller public.caller, amount_minor bigint, currency text)
returns void
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    limit_minor bigint := (public.setting('payments.daily_payout_limit_minor') ->> check_daily_payouts.currency)::bigint;
    spent_minor bigint;
begin
    if limit_minor is null then
        return;
    end if;
    -- Payouts of one key are counted one after the other, or two could both see room for one.
    perform pg_advisory_xact_lock(hashtext('payments.daily_payouts'), hashtext(caller.actor));
    select coalesce(sum(t.amount_minor), 0)::bigint into spent_minor
    from payments.transfers as t
    where
        t.created_by = (check_daily_payouts.caller).actor and t.operation = 'pay_out' and t.purpose <> 'refund'
        and t.created_at > now() - interval '24 hours' and t.state <> 'FAILED'
        and t.currency = check_daily_payouts.currency;
    if spent_minor + check_daily_payouts.amount_minor > limit_minor then
        perform public.refuse('42206', format(
            'This key may pay out %s %s in 24 hours; %s are left.',
            public.format_amount(limit_minor, check_daily_payouts.currency), check_daily_payouts.currency,
            public.format_amount(greatest(0, limit_minor - spent_minor), check_daily_payouts.currency)
        ), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/amount', 'detail', format(
                'at most %s for now',
                public.format_amount(greatest(0, limit_minor - spent_minor), check_daily_payouts.currency)
            )))
        ));
    end if;
end
$$;
comment on function payments.check_daily_payouts is
'Refuses (42206) what exceeds the payouts of one key or person in 24 hours; setting payments.daily_payout_limit_minor by currency, no entry means no limit.';

create function payments.refuse_external_ref(caller public.caller, external_ref text)
returns void
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform public.refuse('40903', 'Another transfer has this external_ref.', (
        select jsonb_build_object('transfer_id', t.transfer_id)
        from payments.transfers as t
        where
            t.tenant_id = (refuse_external_ref.caller).tenant_id
            and t.environment = (refuse_external_ref.caller).environment
            and t.external_ref = refuse_external_ref.external_ref
    ));
end
$$;
comment on function payments.refuse_external_ref is 'Refuses (40903) an external_ref that is taken, naming the transfer that has it.';

create function payments.send_or_wait(transfer payments.transfers, caller public.caller, route text, key text)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    answer public.answer;
begin
    perform public.bind_idempotency(caller, route, key, transfer.transfer_id);
    if transfer.approval is distinct from 'pending' then
        return row(null::public.answer, payments.send_transfer(transfer, route, caller.rate));
    end if;
    answer := row(202, payments.resource_of(transfer, false), caller.rate);
    perform public.remember_answer(caller, route, key, transfer.transfer_id, answer);
    return row(answer, null::jsonb);
end
$$;
comment on function payments.send_or_wait is
'The instruction to send now; or 202, when a second person must approve first.';

create function payments.begin_payout(
    idempotency_key text, body_hash text, rail text, amount_minor bigint, currency text,
    payee_sealed text, payee_masked text, payee_hash text, description text, external_ref text, metadata jsonb
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payouts:write', 'write');
    route constant text := 'POST /payouts';
    answer public.answer;
    payout payments.transfers;
begin
    answer := public.claim_idempotency(caller, route, begin_payout.idempotency_key, begin_payout.body_hash);
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;
    perform rails.check_payout(begin_payout.rail, begin_payout.amount_minor, begin_payout.currency);
    perform rails.check_credentials(caller.tenant_id, caller.environment, begin_payout.rail);
    perform payments.check_daily_payouts(caller, begin_payout.amount_minor, begin_payout.currency);

    insert into payments.transfers (
        transfer_id, tenant_id, environment, intent, rail, state, amount_minor, currency, purpose, operation,
        payee_sealed, payee_masked, payee_hash, description, external_ref, metadata, body_hash, created_by, approval
    ) values (
        public.new_id('tr'), caller.tenant_id, caller.environment, 'PUSH', begin_payout.rail, 'INITIATED',
        begin_payout.amount_minor, begin_payout.currency, 'payout', 'pay_out',
        begin_payout.payee_sealed, begin_payout.payee_masked, begin_payout.payee_hash, begin_payout.description,
        begin_payout.external_ref, coalesce(begin_payout.metadata, '{}'), begin_payout.body_hash, caller.actor,
        payments.approval_needed(begin_payout.amount_minor, begin_payout.currency)
    )
    on conflict (tenant_id, environment, external_ref) where external_ref is not null do nothing
    returning * into payout;
    if not found then
        perform payments.refuse_external_ref(caller, begin_payout.external_ref);
    end if;
    perform compliance.admit(
        payout.tenant_id, payout.environment, 'out', payout.rail, payout.amount_minor, payout.currency,
        payout.payee_hash, payout.transfer_id
    );
    perform payments.record_transfer_event(payout, 'transfer.initiated', payments.transfer_payload(payout));
    payout := payments.annotate_transfer(payout.transfer_id, 'payout.created', '{}');
    if payout.approval = 'pending' then
        payout := payments.annotate_transfer(payout.transfer_id, 'payout.pending_approval', '{}');
    end if;
    return payments.send_or_wait(payout, caller, route, begin_payout.idempotency_key);
end
$$;
comment on function payments.begin_payout is
'Before the rail is called: claims the key, checks the rail''s limits and the key''s day, writes the payout. The instruction to send, or 202 when a second person must approve first.';

create function payments.decide_approval(
    transfer_id text, idempotency_key text, body_hash text, purpose text, decision text, reason text
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payouts:approve', 'manage');
    noun constant text := case purpose when 'direct' then 'transfer' else purpose end;
    route constant text := format('POST /%ss/{id}/%s', noun, decision);
    answer public.answer;
    transfer payments.transfers;
begin
    if caller.user_id is null then
        perform public.refuse('40312', 'A person approves, not a key.');
    end if;
    answer := public.claim_idempotency(
        caller, route, decide_approval.idempotency_key,
        decide_approval.body_hash || ':' || decide_approval.transfer_id
    );
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;
    -- Of a refund the intent and the original are locked first, as everywhere.
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = decide_approval.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = decide_approval.transfer_id
    )
    for no key update;
    transfer := payments.visible_transfer(decide_approval.transfer_id, caller, array[purpose], true);
    if transfer.approval is distinct from 'pending' then
        perform public.refuse('40911', format('This %s does not wait for approval.', noun), jsonb_build_object(
            'current_state', payments.movement_status(transfer), 'allowed', '[]'::jsonb
        ));
    elsif caller.actor in (
        transfer.created_by,
        -- A key acts for whoever made it.
        (select k.created_by from public.api_keys as k where k.key_id = transfer.created_by)
    ) then
        perform public.refuse('40312', format('Another person must decide: you asked for this %s.', noun));
    end if;

    update payments.transfers as t
    set
        approval = case decide_approval.decision when 'approve' then 'approved' else 'rejected' end,
        approval_by = caller.actor, approval_at = now(), approval_reason = decide_approval.reason
    where t.transfer_id = decide_approval.transfer_id
    returning t.* into transfer;
    perform public.audit(caller, format('%s.%s', purpose, decision), transfer.transfer_id, jsonb_build_object(
        'amount', public.format_amount(transfer.amount_minor, transfer.currency), 'currency', transfer.currency,
        'reason', decide_approval.reason
    ));
    if transfer.approval = 'approved' then
        -- It may have waited for days.
        perform compliance.check_party(transfer);
        perform rails.check_credentials(transfer.tenant_id, transfer.environment, transfer.rail);
        return payments.send_or_wait(transfer, caller, route, decide_approval.idempotency_key);
    end if;
    perform rails.fail_transfer(transfer, jsonb_build_object(
        'code', 'APPROVAL_REJECTED', 'message', 'A second person said no.', 'rail_code', null, 'retryable', false,
        'retry_after', null
    ), 'api', null);
    select t.* into transfer from payments.transfers as t where t.transfer_id = decide_approval.transfer_id;
    answer := row(200, payments.resource_of(transfer, false), caller.rate);
    perform public.remember_answer(caller, route, decide_approval.idempotency_key, transfer.transfer_id, answer);
    return row(answer, null::jsonb);
end
$$;
comment on function payments.decide_approval is
'A second person approves or rejects a refund or payout; never the one who asked for it, nor a key. Approved: the instruction to send, once. Audited with the reason.';

create function payments.get_payout(transfer_id text)
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
        200, payments.payout_resource(payments.visible_transfer(transfer_id, caller, '{payout}', false)), caller.rate
    );
end
$$;
comment on function payments.get_payout is 'One payout; 40401 for anybody else''s.';

create function payments.sweep_initiated()
returns integer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    left_behind payments.transfers;
    swept integer := 0;
begin
    for left_behind in
        select t.*
        from payments.transfers as t
        where
            t.state = 'INITIATED'
            and t.created_at < now() - case
                when t.approval = 'pending' then interval '7 days'
                else interval '60 seconds'
            end
        order by t.created_at
        limit 100
    loop
        -- Intent, original, transfer: as everywhere.
        perform from payments.payment_intents as i
        where i.payment_intent_id = left_behind.payment_intent_id for no key update;
        perform from payments.transfers as o
        where o.transfer_id = left_behind.related_transfer_id for no key update;
        update payments.transfers as t
        set approval = case when t.approval = 'pending' then 'lapsed' else t.approval end
        where t.transfer_id = left_behind.transfer_id and t.state = 'INITIATED';
        if found then
            perform rails.fail_transfer(left_behind, jsonb_build_object(
                'code', case when left_behind.approval = 'pending' then 'APPROVAL_LAPSED' else 'NOT_SENT' end,
                'message', case
                    when left_behind.approval = 'pending' then 'Nobody decided within 7 days.'
                    else 'It was never sent to the rail.'
                end,
                'rail_code', null, 'retryable', true, 'retry_after', null
            ), 'clock', null);
            swept := swept + 1;
        end if;
    end loop;
    return swept;
end
$$;
comment on function payments.sweep_initiated is
'Fails transfers that were left behind before they were sent: after 60 seconds, or after 7 days without a second person''s decision. A cron task.';

reset role;
