-- Receipts: what they say comes from here, how they say it from the function that renders them.

set role stalela_owner;

create function messages.receipt_facts(kind text, payment_intent_id text, transfer_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read intents and transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'kind', receipt_facts.kind,
            'payment_intent_id', i.payment_intent_id,
            'subject_id', i.payment_intent_id,
            'tenant_id', i.tenant_id,
            'environment', i.environment,
            'merchant', n.name,
            'customer_sealed', i.customer_sealed,
            'language', coalesce(c.language, 'en'),
            'amount', public.format_amount(t.amount_minor, t.currency),
            'currency', t.currency,
            'description', i.description,
            'rail', r.name,
            'receipt', t.receipt,
            'account', coalesce(t.payee_masked, t.payer_masked),
            'paid_at', to_char(
                t.settled_at at time zone coalesce(c.time_zone, 'UTC'), 'YYYY-MM-DD"T"HH24:MI'
            ),
            'zone', coalesce(c.time_zone, 'UTC')
        )
        from payments.payment_intents as i
        inner join payments.transfers as t on t.transfer_id = coalesce(receipt_facts.transfer_id, i.latest_transfer_id)
        inner join public.tenants as n on n.tenant_id = i.tenant_id
        left join rails.rails as r on r.rail = t.rail
        left join messages.countries as c on c.country = n.country
        where
            i.payment_intent_id = coalesce(receipt_facts.payment_intent_id, (
                select o.payment_intent_id from payments.transfers as o where o.transfer_id = receipt_facts.transfer_id
            ))
            and t.settled_at is not null
    );
end
$$;
comment on function messages.receipt_facts is
'All that a receipt of this payment (or, with the transfer of a refund, of that refund) says; null while nothing is settled. paid_at is the merchant''s wall clock.';

create function messages.take_receipts(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'outbox_id', d.outbox_id,
        'event_id', d.event_id,
        'event_type', d.event_type,
        'facts', case d.event_type
            when 'payment_intent.succeeded' then messages.receipt_facts('receipt', d.ordering_key, null)
            when 'refund.succeeded' then messages.receipt_facts('refund_receipt', null, d.ordering_key)
            when 'invoice_mail.due' then messages.document_facts(d.ordering_key)
        end
    )
    from payments.lease_events('receipts', take_receipts.max_rows) as d;
end
$$;
comment on function messages.take_receipts is
'Leases events that call for a receipt, each with its facts; null facts: of a type that nobody taught us.';

create function messages.keep_receipts(receipts jsonb)
returns integer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    receipt jsonb;
    message messages.messages;
    kept integer := 0;
begin
    for receipt in select r from jsonb_array_elements(receipts) as r where r -> 'rendered' <> 'null' loop
        message := messages.add_message(
            receipt ->> 'kind', receipt ->> 'tenant_id', receipt ->> 'environment', receipt ->> 'subject_id',
            receipt ->> 'dedupe_key', receipt -> 'rendered'
        );
        continue when message.message_id is null;
        kept := kept + 1;
        if receipt ? 'token_hash' then
            perform messages.add_link(message, receipt ->> 'token_hash');
        end if;
    end loop;
    perform payments.acknowledge_events(
        'receipts', array(select (r ->> 'outbox_id')::bigint from jsonb_array_elements(receipts) as r)
    );
    return kept;
end
$$;
comment on function messages.keep_receipts is
'Keeps the receipts of leased events and acknowledges the events, in one transaction; rendered null: nobody to write to. Returns how many are new.';

create function messages.return_receipt(outbox_id bigint, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write the outbox
set search_path = ''
as $$
begin
    perform payments.return_event('receipts', return_receipt.outbox_id, return_receipt.reason, null);
end
$$;
comment on function messages.return_receipt is 'No receipt could be made of this event; it is tried again by the ladder, and dies at its end.';

create function messages.visible_payment(payment_intent_id text, scope text, bucket text)
returns payments.sight
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
declare
    seen payments.sight := payments.visible_intent(payment_intent_id, scope, bucket, false);
begin
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; receipts need the scope ' || scope || '.');
    end if;
    return seen;
end
$$;
comment on function messages.visible_payment is 'The intent for a caller who may see its receipts: its merchant, never a payer''s browser.';

create function messages.prepare_receipt(payment_intent_id text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
declare
    seen payments.sight := messages.visible_payment(payment_intent_id, 'payments:write', 'read');
    facts jsonb := messages.receipt_facts('receipt', payment_intent_id, null);
begin
    if (seen.intent).status <> 'succeeded' or facts is null then
        perform public.refuse('40911', 'There is no receipt before the payment has succeeded.', jsonb_build_object(
            'current_state', (seen.intent).status, 'allowed', '["succeeded"]'::jsonb
        ));
    elsif facts -> 'customer_sealed' = 'null' then
        perform public.refuse_field('42262', '/customer/email', 'the payment has no customer with an e-mail address');
    end if;
    return facts;
end
$$;
comment on function messages.prepare_receipt is 'The facts of a receipt that its merchant wants sent again. 40401, 40911, 42262.';

create function messages.send_receipt(payment_intent_id text, idempotency_key text, body_hash text, rendered jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight := messages.visible_payment(send_receipt.payment_intent_id, 'payments:write', 'write');
    caller public.caller := seen.caller;
    route constant text := 'POST /receipts/{id}/send';
    answer public.answer;
    added messages.messages;
    most integer := public.setting('messages.sends_per_subject')::integer;
begin
    answer := public.claim_idempotency(
        caller, route, send_receipt.idempotency_key, send_receipt.body_hash || ':' || send_receipt.payment_intent_id
    );
    if answer.body is not null then
        return answer;
    end if;
    if exists (
        select from messages.suppressions as s where s.address_hash = rendered ->> 'recipient_hash'
    ) then
        perform public.refuse_field(
            '42262', '/customer/email', 'mail to this address bounced before, or its reader called it spam'
        );
    elsif (
        select count(*) >= most from messages.messages as m where m.subject_id = send_receipt.payment_intent_id
    ) then
        perform public.refuse('40911', format('A payment''s receipt is sent %s times at most.', most));
    end if;
    added := messages.add_message(
        'receipt', caller.tenant_id, caller.environment, send_receipt.payment_intent_id,
        concat_ws('|', 'again', send_receipt.payment_intent_id, send_receipt.idempotency_key), rendered
    );
    perform public.audit(caller, 'receipt.send', send_receipt.payment_intent_id, jsonb_build_object(
        'message_id', added.message_id, 'recipient', added.recipient_masked
    ));
    perform public.poke_all(array['receipts'], interval '200 milliseconds');
    answer := row(202, messages.message_resource(added)::text, caller.rate);
    perform public.remember_answer(caller, route, send_receipt.idempotency_key, added.message_id, answer);
    return answer;
end
$$;
comment on function messages.send_receipt is
'Keeps one more rendered receipt of this payment, to be sent at once. 202; 42262 for a suppressed address; audited.';

create function messages.message_resource(message messages.messages)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', message.message_id, 'object', 'message', 'kind', message.kind,
        case message.kind when 'document' then 'invoice_id' else 'payment_intent_id' end, message.subject_id,
        'language', message.language, 'to', message.recipient_masked, 'sms_text', message.sms_text,
        'status', message.status, 'attempts', message.attempts, 'last_error', message.last_error,
        'environment', message.environment, 'created_at', message.created_at, 'updated_at', message.updated_at
    );
end
$$;
comment on function messages.message_resource is 'The wire shape of a message about a payment or a document: to whom (masked), in which state, never the mail itself.';

create function messages.list_receipts(payment_intent_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight := messages.visible_payment(list_receipts.payment_intent_id, 'payments:read', 'read');
    body text;
begin
    select string_agg(messages.message_resource(m)::text, ',' order by m.created_at, m.message_id) into body
    from messages.messages as m
    where m.subject_id = list_receipts.payment_intent_id;
    return row(200, format('{"data":[%s]}', body), (seen.caller).rate);
end
$$;
comment on function messages.list_receipts is 'What the payer of this intent was sent, oldest first.';

create function messages.poke_receipts()
returns boolean
language plpgsql
volatile
security definer -- callers may not read messages
set search_path = ''
as $$
begin
    if not exists (
        select from messages.messages as m
        where m.status = 'queued' and m.next_attempt_at <= now() and m.kind in ('receipt', 'refund_receipt', 'document')
    ) then
        return false;
    end if;
    perform public.poke('receipts');
    return true;
end
$$;
comment on function messages.poke_receipts is 'Wakes the receipts function when mail of its kinds is due. A cron task; events are the outbox''s to poke for.';

reset role;
