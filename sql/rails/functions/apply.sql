-- What a rail says becomes a transfer's state here and nowhere else, whether it came by answer, callback or query.

set role stalela_owner;

create function rails.apply_event(transfer_id text, event jsonb, source text, trusted boolean)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
    watch rails.watches;
    rules rails.rails;
    known rails.reason_codes;
    outcome text := event ->> 'outcome';
    receipt text := event ->> 'receipt';
begin
    -- Watch, intent, original, transfer: in this order everywhere, so that two of us cannot wait for each other. "No key",
    -- because whoever stores a callback or an event of the transfer holds its key and must not wait either.
    select w.* into watch from rails.watches as w where w.transfer_id = apply_event.transfer_id for update;
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = apply_event.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = apply_event.transfer_id
    )
    for no key update;
    select t.* into transfer
    from payments.transfers as t
    where t.transfer_id = apply_event.transfer_id
    for no key update;
    select r.* into rules from rails.rails as r where r.rail = transfer.rail;

    if source = 'callback' and not trusted then
        return rails.apply_hearsay(transfer, event);
    elsif transfer.rail_ref is null and event ->> 'rail_ref' is not null and transfer.state in ('SUBMITTED', 'FAILED') then
        -- A callback that overtook the push answer brings the reference along.
        update payments.transfers as t
        set rail_ref = apply_event.event ->> 'rail_ref'
        where t.transfer_id = apply_event.transfer_id;
    elsif event ->> 'rail_ref' <> transfer.rail_ref then
        perform payments.review_transfer(transfer.transfer_id, 'reference_mismatch');
        return 'parked:reference_mismatch';
    end if;

    if outcome = 'unknown' and event ->> 'code' is not null then
        if not exists (
            select from rails.reason_codes as k
            where
                k.rail = transfer.rail and k.code = apply_event.event ->> 'code'
                and k.channel = coalesce(apply_event.event ->> 'channel', k.channel)
        ) then
            perform public.raise_alert(
                -- A code of the rail concerns every tenant: the alert is the platform's.
                'unknown_rail_code', 'warning', transfer.rail || ':' || (event ->> 'code'), null, null, '{}'
            );
        end if;
        -- An operator's row says what the rail's module does not know. Only the module says success: it saw the proof.
        select k.* into known
        from rails.reason_codes as k
        where
            k.rail = transfer.rail and k.code = apply_event.event ->> 'code'
            -- What a rail refuses at once is its module's to understand.
            and k.channel = coalesce(apply_event.event ->> 'channel', 'stk') and k.channel <> 'api'
            and k.outcome <> 'succeeded' and apply_event.source <> 'submit';
        if not found then
            null;
        elsif
            source = 'query' and watch.code = known.code
            and watch.code_since <= now() - make_interval(secs => known.repeat_after_s)
        then
            outcome := known.repeat_outcome;
        else
            outcome := known.outcome;
        end if;
    end if;

    if outcome = 'pending' then
        if transfer.state = 'SUBMITTED' and event ->> 'rail_ref' is not null and source <> 'callback' then
            perform payments.advance_transfer(
                transfer.transfer_id, 'accept', source, jsonb_build_object('rail_ref', event ->> 'rail_ref')
            );
            return 'applied';
        end if;
        return 'ignored:still_pending';
    elsif outcome in ('failed_final', 'failed_retryable') then
        return rails.apply_failure(transfer, event || jsonb_build_object('outcome', outcome), source);
    elsif outcome = 'succeeded' then
        if
            (event ->> 'amount_minor')::bigint <> transfer.amount_minor
            or event ->> 'currency' <> transfer.currency
            -- The result of a reversal may tell none: there is one payment it can be about.
            or (source = 'callback' and event ->> 'amount_minor' is null and transfer.operation <> 'refund')
        then
            perform payments.review_transfer(
                transfer.transfer_id, 'amount_mismatch', jsonb_build_object('told_minor', event -> 'amount_minor')
            );
            return 'parked:amount_mismatch';
        end if;
        return rails.apply_success(transfer, watch, rules, receipt, source);
    elsif outcome = 'returned' then
        return rails.apply_return(transfer, source);
    end if;

    if source = 'callback' and transfer.state not in ('SETTLED', 'RETURNED') then
        -- A receipt without an amount proves nothing, and is kept for when the query does.
        perform rails.watch_soon(transfer, receipt);
        return 'awaiting_query:unknown';
    end if;
    return 'ignored:unknown';
end
$$;
comment on function rails.apply_event is
'Applies one RailEvent under the locks of intent and transfer and returns the disposition, "name" or "name:reason". source: submit, callback, query; trusted false means only a query may decide.';

create function rails.apply_return(transfer payments.transfers, source text)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    rest bigint := transfer.amount_minor - transfer.returned_minor;
    intent payments.payment_intents;
begin
    if transfer.state = 'RETURNED' then
        return 'duplicate';
    elsif transfer.refunds_open_minor > 0 then
        -- The rail sends back what a refund is about to give back: both must not happen.
        perform payments.review_transfer(transfer.transfer_id, 'returned_while_refunding');
        return 'parked:returned_while_refunding';
    end if;
    if transfer.purpose = 'refund' and transfer.state = 'SETTLED' then
        -- What was given back came back: the payer is owed it again.
        perform payments.review_transfer(transfer.transfer_id, 'refund_came_back');
        return 'parked:refund_came_back';
    end if;
    perform payments.advance_transfer(transfer.transfer_id, 'return', source);
    delete from rails.watches as w where w.transfer_id = (apply_return.transfer).transfer_id;
    if transfer.state = 'SETTLED' and transfer.purpose in ('collection', 'c2b') then
        select i.* into intent
        from payments.payment_intents as i
        where i.payment_intent_id = (apply_return.transfer).payment_intent_id;
        if intent.amount_refunded_minor + rest = intent.amount_received_minor then
            perform payments.advance_intent(
                intent.payment_intent_id, 'refund', jsonb_build_object('refunded_minor', rest)
            );
        elsif found then
            perform payments.advance_intent(
                intent.payment_intent_id, 'refund_partly', jsonb_build_object('refunded_minor', rest)
            );
        end if;
    end if;
    return 'applied';
end
$$;
comment on function rails.apply_return is
'The rail took the money back: the transfer is returned and its intent says so. With a refund on its way a person decides first.';

create function rails.apply_hearsay(transfer payments.transfers, event jsonb)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    if transfer.state in ('SETTLED', 'RETURNED') then
        return 'ignored:untrusted_source';
    end if;
    -- Lists of addresses lag, so the rail is asked; nothing else is believed: no amount, no state, and a reference
    -- only when the rail itself gave none.
    update payments.transfers as t
    set rail_ref = apply_hearsay.event ->> 'rail_ref'
    where
        t.transfer_id = (apply_hearsay.transfer).transfer_id and t.rail_ref is null
        and exists (
            select from payments.attempts as a where a.transfer_id = t.transfer_id and a.answered_at is not null
        );
    perform rails.watch_soon(transfer, case
        when
            event ->> 'outcome' = 'succeeded' and (event ->> 'amount_minor')::bigint = transfer.amount_minor
            and event ->> 'rail_ref' is not distinct from coalesce(transfer.rail_ref, event ->> 'rail_ref')
            then event ->> 'receipt'
    end);
    return 'awaiting_query:untrusted_source';
end
$$;
comment on function rails.apply_hearsay is 'A callback with the right token from an address that is not listed: a reason to ask the rail, and nothing more.';

create function rails.apply_failure(transfer payments.transfers, event jsonb, source text)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    failure jsonb := rails.failure_of(transfer.rail, event);
begin
    if transfer.state in ('SETTLED', 'RETURNED') then
        -- A failure never undoes a success: money going back is a return, with a record of its own.
        return 'ignored:failure_after_success';
    elsif transfer.state = 'FAILED' then
        return 'ignored:already_failed';
    elsif transfer.state = 'ACCEPTED' and source = 'submit' then
        -- The rail answered a query before it answered the push: it has the push.
        return 'ignored:accepted_meanwhile';
    end if;

    perform rails.fail_transfer(transfer, failure, source, event ->> 'rail_ref');
    return 'applied';
end
$$;
comment on function rails.apply_failure is 'A rail says nothing moved: the transfer fails, its intent takes another attempt. A success stays a success.';

create function rails.apply_success(
    transfer payments.transfers, watch rails.watches, rules rails.rails, receipt text, source text
)
returns text
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    proof text := coalesce(receipt, watch.claimed_receipt);
begin
    if transfer.state = 'SETTLED' then
        if proof is null or proof = transfer.receipt then
            return 'duplicate';
        elsif transfer.receipt is not null then
            perform payments.review_transfer(transfer.transfer_id, 'second_receipt');
            return 'parked:second_receipt';
        elsif rails.receipt_taken(transfer, proof) then
            perform payments.review_transfer(transfer.transfer_id, 'receipt_of_another_transfer');
            return 'parked:receipt_of_another_transfer';
        end if;
        -- Settled by a query, which tells no receipt; here it is.
        perform payments.annotate_transfer(
            transfer.transfer_id, 'transfer.receipt_recorded', jsonb_build_object('receipt', proof)
        );
        return 'applied';
    elsif transfer.state = 'RETURNED' then
        return 'ignored:already_returned';
    elsif transfer.review_reason in ('amount_mismatch', 'reference_mismatch') then
        -- Seen among the parked, receipt and all: the person who decides must know of it.
        return case when source = 'callback' then 'parked:in_review' else 'ignored:in_review' end;
    elsif rails.receipt_is_deposit(transfer, proof) then
        -- The deposit notice of the same money came first and was booked; the prompt brings nothing new.
        return 'duplicate';
    elsif rails.receipt_taken(transfer, proof) then
        perform payments.review_transfer(transfer.transfer_id, 'receipt_of_another_transfer');
        return 'parked:receipt_of_another_transfer';
    elsif
        transfer.purpose = 'refund' and transfer.state = 'FAILED' and transfer.amount_minor > (
            select o.amount_minor - o.returned_minor - o.refunds_open_minor
            from payments.transfers as o
            where o.transfer_id = (apply_success.transfer).related_transfer_id
        )
    then
        -- It failed, another took its place, and now it went through all the same: more went back than came in.
        perform payments.review_transfer(transfer.transfer_id, 'refunded_twice');
        return 'parked:refunded_twice';
    elsif source = 'callback' and (
        transfer.state = 'FAILED'
        or transfer.amount_minor > rules.confirm_above_minor
    ) then
        perform rails.watch_soon(transfer, receipt);
        return 'awaiting_query:' || case
            when transfer.state = 'FAILED' then 'success_after_failure'
            else 'above_confirmation_amount'
        end;
    elsif transfer.state = 'FAILED' and proof is null then
        -- The rail says paid after it said failed, and no receipt came: nobody will learn more by asking.
        if transfer.review_reason is null then
            perform payments.review_transfer(transfer.transfer_id, 'success_without_receipt');
        end if;
        return 'ignored:no_receipt';
    end if;

    perform rails.settle_transfer(transfer, proof, source);
    return 'applied';
end
$$;
comment on function rails.apply_success is
'A rail says money moved: settles once, or waits for a query when it comes from a strange address, contradicts a failure or exceeds the confirmation amount. A receipt pays for one transfer only.';

create function rails.settle_transfer(
    transfer payments.transfers, receipt text, source text, amount_minor bigint default null
)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    settled payments.transfers;
begin
    if transfer.purpose = 'refund' and transfer.state = 'FAILED' then
        -- Late: what it had reserved was given up when it failed.
        perform payments.reserve_refund(transfer.related_transfer_id, transfer.amount_minor);
    end if;
    settled := payments.advance_transfer(
        transfer.transfer_id, 'settle', source,
        jsonb_build_object('receipt', settle_transfer.receipt, 'amount_minor', settle_transfer.amount_minor)
    );
    delete from rails.watches as w where w.transfer_id = settled.transfer_id;
    if settled.purpose in ('collection', 'c2b') and settled.payment_intent_id is not null then
        perform payments.credit_intent(settled.payment_intent_id, settled.transfer_id, settled.amount_minor);
    elsif settled.purpose = 'refund' then
        perform payments.annotate_transfer(settled.transfer_id, 'refund.succeeded', '{}');
        perform payments.return_money(settled.related_transfer_id, settled.amount_minor, settled.transfer_id);
    elsif settled.purpose = 'payout' then
        perform payments.annotate_transfer(settled.transfer_id, 'payout.succeeded', '{}');
    end if;
end
$$;
comment on function rails.settle_transfer is
'The money moved: the transfer settles and what it was for moves with it (the intent is paid, the original returned); nobody asks the rail any more. amount_minor: what moved, where it is not what was asked.';

create function rails.fail_transfer(transfer payments.transfers, failure jsonb, source text, rail_ref text)
returns void
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    failed payments.transfers;
    intent payments.payment_intents;
begin
    failed := payments.advance_transfer(
        transfer.transfer_id, 'fail', source,
        jsonb_build_object('failure', fail_transfer.failure, 'rail_ref', fail_transfer.rail_ref)
    );
    delete from rails.watches as w where w.transfer_id = failed.transfer_id;
    if failed.purpose = 'refund' then
        perform payments.release_refund(failed.related_transfer_id, failed.amount_minor);
        perform payments.annotate_transfer(failed.transfer_id, 'refund.failed', '{}');
    elsif failed.purpose = 'payout' then
        perform payments.annotate_transfer(failed.transfer_id, 'payout.failed', '{}');
    elsif failed.purpose = 'collection' then
        select i.* into intent
        from payments.payment_intents as i
        where i.payment_intent_id = failed.payment_intent_id;
        -- Another attempt may have paid, or may be running, by now.
        if intent.status <> 'processing' or intent.latest_transfer_id <> failed.transfer_id then
            return;
        elsif intent.amount_received_minor > 0 then
            perform payments.advance_intent(
                intent.payment_intent_id, 'fail_partly', jsonb_build_object('failure', fail_transfer.failure)
            );
        else
            perform payments.advance_intent(
                intent.payment_intent_id, 'fail', jsonb_build_object('failure', fail_transfer.failure)
            );
        end if;
    end if;
end
$$;
comment on function rails.fail_transfer is
'Nothing moved: the transfer fails, nobody asks the rail any more; an intent takes another attempt if it still waited for this one, a refund gives back what it had reserved.';

create function rails.receipt_is_deposit(transfer payments.transfers, receipt text)
returns boolean
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    return exists (
        select from payments.transfers as t
        where
            t.tenant_id = transfer.tenant_id and t.environment = transfer.environment and t.rail = transfer.rail
            and t.receipt = receipt_is_deposit.receipt and t.purpose = 'c2b'
            and t.payment_intent_id = transfer.payment_intent_id and t.amount_minor = transfer.amount_minor
    );
end
$$;
comment on function rails.receipt_is_deposit is
'Whether this receipt is booked already as a deposit for the same intent: one payment that the rail told twice.';

create function rails.receipt_taken(transfer payments.transfers, receipt text)
returns boolean
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    return (
        select exists (
            select from payments.transfers as t
            where
                t.tenant_id = transfer.tenant_id and t.environment = transfer.environment and t.rail = transfer.rail
                and t.receipt = receipt_taken.receipt and t.transfer_id <> transfer.transfer_id
        )
    );
end
$$;
comment on function rails.receipt_taken is 'Whether another transfer already claims this receipt; the unique index decides the race.';

create function rails.watch_soon(transfer payments.transfers, receipt text)
returns void
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
begin
    insert into rails.watches as w (transfer_id, tenant_id, environment, due_at, horizon_at, claimed_receipt)
    select
        transfer.transfer_id, transfer.tenant_id, transfer.environment, now(),
        now() + make_interval(secs => r.horizon_s), watch_soon.receipt
    from rails.rails as r
    where r.rail = transfer.rail
    on conflict (transfer_id) do update
    set
        due_at = now(),
        queries = 0,
        -- News after the horizon is worth another round of questions.
        horizon_at = greatest(w.horizon_at, excluded.horizon_at),
        claimed_receipt = coalesce(excluded.claimed_receipt, w.claimed_receipt);
    perform public.poke('reconcile');
end
$$;
comment on function rails.watch_soon is 'Asks the reconciler to query this transfer now; keeps the receipt of a success that waits for it.';

reset role;
