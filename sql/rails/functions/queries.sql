-- Whom to ask the rail about, when, and for how long.

set role stalela_owner;

create function rails.work_item(transfer payments.transfers, callback_token text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_strip_nulls(jsonb_build_object(
            'transfer_id', transfer.transfer_id,
            'tenant_id', transfer.tenant_id,
            'environment', transfer.environment,
            'rail', transfer.rail,
            'operation', transfer.operation,
            'rail_ref', transfer.rail_ref,
            'amount_minor', transfer.amount_minor,
            'currency', transfer.currency,
            'submitted_at', transfer.submitted_at,
            'callback_token', work_item.callback_token,
            'original_receipt', original.receipt,
            'payee_sealed', transfer.payee_sealed,
            -- The payer of an intent is sealed for that intent; other seals carry a name of their own.
            'payee_context', case when original.purpose = 'collection' then 'payer|' || original.payment_intent_id end,
            -- Printed in the payer's message: public text, at most 12 characters.
            'account_reference', upper(right(coalesce(transfer.payment_intent_id, transfer.transfer_id), 12)),
            'description', coalesce(left(transfer.description, 13), 'Payment'),
            'credentials_sealed', c.sealed
        ))
        from rails.credentials as c
        left join payments.transfers as original on original.transfer_id = (work_item.transfer).related_transfer_id
        where
            c.tenant_id = (work_item.transfer).tenant_id
            and c.environment = (work_item.transfer).environment
            and c.rail = (work_item.transfer).rail
    );
end
$$;
comment on function rails.work_item is
'All a rail client needs to act on, or ask about, one transfer; null when the tenant has removed its credentials.';

create function rails.ask_later(transfer payments.transfers)
returns text
language plpgsql
volatile
security definer -- callers may not write attempts
set search_path = ''
as $$
#variable_conflict use_column
declare
    token text := payments.random_secret();
begin
    if transfer.operation = 'collect' then
        return null;
    end if;
    insert into payments.attempts (transfer_id, number, tenant_id, environment, callback_token_hash, kind)
    select
        transfer.transfer_id, 1 + count(*), transfer.tenant_id, transfer.environment,
        encode(sha256(convert_to(token, 'utf8')), 'hex'), 'query'
    from payments.attempts as a
    where a.transfer_id = (ask_later.transfer).transfer_id;
    return token;
end
$$;
comment on function rails.ask_later is
'A new callback token for a question that the rail answers by calling back; null for one it answers at once.';

create function rails.can_be_asked(transfer payments.transfers)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    -- Prompts and reversals are known at the rail by its own reference alone; a payout by ours too.
    return transfer.rail_ref is not null or transfer.operation = 'pay_out';
end
$$;
comment on function rails.can_be_asked is 'Whether there is a reference by which the rail can be asked about this transfer.';

create function rails.take_query(transfer_id text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
begin
    select t.* into transfer from payments.transfers as t where t.transfer_id = take_query.transfer_id;
    if not found or not rails.can_be_asked(transfer) then
        return null;
    end if;
    update rails.watches as w
    set asked_at = now(), due_at = greatest(w.due_at, now() + interval '60 seconds')
    where
        w.transfer_id = take_query.transfer_id
        and (w.asked_at is null or w.asked_at <= now() - interval '5 seconds');
    if not found then
        return null;
    end if;
    return rails.work_item(transfer, rails.ask_later(transfer));
end
$$;
comment on function rails.take_query is 'The query for one transfer, if its outcome is open and the rail was not asked in the last 5 seconds.';

create function rails.claim_queries(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
#variable_conflict use_column
declare
    due rails.watches;
    transfer payments.transfers;
    rules rails.rails;
    work jsonb;
    overdue text;
begin
    for due in
        update rails.watches as w
        -- Also a lease: whoever claimed it and died gives it back after a minute.
        set due_at = now() + interval '60 seconds', asked_at = now()
        where w.transfer_id = any(array(
            select d.transfer_id
            from rails.watches as d
            where d.due_at <= now()
            order by d.due_at
            limit claim_queries.max_rows
            for update skip locked
        ))
        returning w.*
    loop
        select t.* into transfer from payments.transfers as t where t.transfer_id = due.transfer_id;
        select r.* into rules from rails.rails as r where r.rail = transfer.rail;
        work := rails.work_item(transfer, null);
        overdue := case
            when due.horizon_at <= now() then 'no_answer_within_horizon'
            when work is null then 'credentials_removed'
            when
                not rails.can_be_asked(transfer)
                and transfer.submitted_at + make_interval(secs => rules.unanswerable_after_s) <= now()
                then 'rail_gave_no_reference'
        end;
        if overdue is not null then
            -- Still not failed: a callback may yet come, and a person decides.
            update rails.watches as w set due_at = 'infinity' where w.transfer_id = due.transfer_id;
            -- Whoever waits for a person already keeps the first reason: another amount must not turn into mere silence.
            if transfer.review_reason is null then
                -- Watch, intent, transfer: positions of an intent's timeline are given out under its lock.
                perform from payments.payment_intents as i
                where i.payment_intent_id = transfer.payment_intent_id for no key update;
                perform payments.review_transfer(due.transfer_id, overdue);
            end if;
        elsif not rails.can_be_asked(transfer) then
            update rails.watches as w
            set due_at = transfer.submitted_at + make_interval(secs => rules.unanswerable_after_s)
            where w.transfer_id = due.transfer_id;
        else
            return next work || jsonb_strip_nulls(jsonb_build_object('callback_token', rails.ask_later(transfer)));
        end if;
    end loop;
end
$$;
comment on function rails.claim_queries is
'Leases up to max_rows silent transfers for a minute and returns what to ask; those nobody can answer for any more go to review.';

create function rails.apply_query(transfer_id text, event jsonb)
returns text
language plpgsql
volatile
security definer -- callers may not write watches
set search_path = ''
as $$
#variable_conflict use_column
declare
    disposition text := rails.apply_event(apply_query.transfer_id, apply_query.event, 'query', true);
begin
    -- What is decided needs no more questions; a failure that a callback contradicts is not decided.
    delete from rails.watches as w
    using payments.transfers as t
    where
        w.transfer_id = apply_query.transfer_id and t.transfer_id = w.transfer_id
        and (
            t.state in ('SETTLED', 'RETURNED')
            or (disposition = 'ignored:already_failed' and w.claimed_receipt is null)
        );
    update rails.watches as w
    set
        -- Only answers to the reconciler count: a merchant who asks, or a rail that is away, must not stretch the waits.
        queries = w.queries + (current_setting('role') = 'fn_reconcile')::integer,
        due_at = case
            -- A callback wants it asked again, since this question left.
            when w.due_at < w.asked_at + interval '60 seconds' then w.due_at
            else now() + make_interval(secs => r.query_waits_s[least(w.queries + 2, cardinality(r.query_waits_s))])
        end,
        code_since = case when w.code is not distinct from apply_query.event ->> 'code' then w.code_since else now() end,
        code = apply_query.event ->> 'code'
    from payments.transfers as t
    inner join rails.rails as r on r.rail = t.rail
    where w.transfer_id = apply_query.transfer_id and t.transfer_id = w.transfer_id;
    return disposition;
end
$$;
comment on function rails.apply_query is 'Applies the answer of a status query and plans the next one along rails.query_waits_s.';

create function rails.poke_reconcile()
returns boolean
language plpgsql
volatile
security definer -- callers may not read watches
set search_path = ''
as $$
begin
    if not exists (select from rails.watches as w where w.due_at <= now()) then
        return false;
    end if;
    -- A poke tells nobody whether it arrived; that questions stay unasked does.
    if exists (select from rails.watches as w where w.due_at <= now() - interval '5 minutes') then
        perform public.raise_alert('reconcile_behind', 'critical', 'reconcile', null, null, (
            select jsonb_build_object('overdue', count(*), 'since', min(w.due_at))
            from rails.watches as w where w.due_at <= now() - interval '5 minutes'
        ));
    end if;
    perform public.poke('reconcile');
    return true;
end
$$;
comment on function rails.poke_reconcile is 'Wakes the reconcile function when a transfer is due to be asked about. A cron task.';

reset role;
