-- Invoices that payments ask for: ordered with the intent, issued once it is paid.

set role stalela_owner;

create function fiscal.order_invoice(caller public.caller, intent payments.payment_intents, document jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write orders
set search_path = ''
as $$
#variable_conflict use_column
declare
    outlet fiscal.outlets;
    ordered fiscal.orders;
begin
    if not public.holds_scope(caller.scopes, 'invoices:write') then
        perform public.refuse('40311', 'An invoice for a payment needs the scope invoices:write.');
    end if;
    outlet := fiscal.outlet_of(caller, document ->> 'outlet_id');
    perform fiscal.check_cashier(caller, document);
    perform fiscal.check_sealable(document, outlet, fiscal.merchant_of(caller));
    insert into fiscal.orders (
        order_id, payment_intent_id, tenant_id, environment, outlet_id, document, status, created_by
    ) values (
        public.new_id('io'), intent.payment_intent_id, intent.tenant_id, intent.environment, outlet.outlet_id,
        order_invoice.document, 'waiting', caller.actor
    )
    returning * into ordered;
    perform fiscal.record_order(ordered, null, null, '{}');
end
$$;
comment on function fiscal.order_invoice is
'Keeps what an intent is to be invoiced for, once all that can be known before the payment holds. In the transaction of the intent. 40311, 40401, 40911, 42275.';

create function fiscal.record_order(ordered fiscal.orders, type text, from_status text, facts jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
begin
    perform fiscal.record_event(
        ordered.tenant_id, ordered.environment, ordered.order_id, record_order.type,
        facts || jsonb_build_object('payment_intent_id', ordered.payment_intent_id, 'outlet_id', ordered.outlet_id),
        ordered.created_by, record_order.from_status, ordered.status, facts #>> '{error,message}'
    );
end
$$;
comment on function fiscal.record_order is 'One move of an order, on record.';

create function fiscal.order_paid(payment_intent_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write orders
set search_path = ''
as $$
#variable_conflict use_column
declare
    ordered fiscal.orders;
begin
    update fiscal.orders as o
    set status = 'paid', updated_at = now()
    where o.payment_intent_id = order_paid.payment_intent_id and o.status = 'waiting'
    returning o.* into ordered;
    if found then
        perform fiscal.record_order(ordered, 'invoice_order.paid', 'waiting', '{}');
    end if;
end
$$;
comment on function fiscal.order_paid is
'The intent has succeeded: its invoice may be issued, if it asked for one. In the transaction of the payment, of which no invoice is a condition.';

create function fiscal.payments_declared(payment_intent_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'method', r.declared_as,
            'provider', paid.rail,
            -- What was paid beyond the invoice is no payment of it.
            'amount', public.format_amount(least(paid.amount_minor, paid.open_minor), paid.currency),
            'currency', paid.currency,
            'reference', paid.receipt
        )) order by paid.place)
        from (
            select
                t.rail, t.amount_minor, t.currency, t.receipt, row_number() over by_time as place,
                i.amount_minor - coalesce(sum(t.amount_minor) over (
                    by_time rows between unbounded preceding and 1 preceding
                ), 0)::bigint as open_minor
            from payments.payment_intents as i
            inner join payments.transfers as t
                on t.payment_intent_id = i.payment_intent_id
                and t.purpose in ('collection', 'c2b') and t.settled_at is not null
            where i.payment_intent_id = payments_declared.payment_intent_id
            window by_time as (order by t.settled_at, t.transfer_id)
        ) as paid
        inner join rails.rails as r on r.rail = paid.rail
        where paid.open_minor > 0
    );
end
$$;
comment on function fiscal.payments_declared is 'How an intent was paid, as its invoice declares it; exactly the intent''s amount when it has succeeded.';

create function fiscal.take_orders(max_rows integer)
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
        'outbox_id', d.outbox_id, 'order_id', o.order_id, 'document', o.document,
        'payments', fiscal.payments_declared(o.payment_intent_id)
    )
    from payments.lease_events('invoices', take_orders.max_rows) as d
    inner join fiscal.orders as o on o.order_id = d.ordering_key
    order by d.outbox_id;
end
$$;
comment on function fiscal.take_orders is 'Leases orders whose payment is there, each with what to issue and how it was paid.';

create function fiscal.issue_order(
    order_id text, outbox_id bigint, payload text, canonical_payload_hash text, tax_summary jsonb, total_minor bigint,
    tax_minor bigint
)
returns fiscal.sealing
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    ordered fiscal.orders;
    caller public.caller;
    invoice fiscal.invoices;
begin
    select o.* into strict ordered from fiscal.orders as o where o.order_id = issue_order.order_id for no key update;
    caller.tenant_id := ordered.tenant_id;
    caller.environment := ordered.environment;
    caller.actor := ordered.created_by;
    caller.rate := '{}';
    if ordered.status = 'paid' then
        invoice := fiscal.seal_document(
            caller, issue_order.payload, issue_order.canonical_payload_hash, issue_order.tax_summary,
            issue_order.total_minor, issue_order.tax_minor
        );
        update fiscal.orders as o
        set status = 'issued', invoice_id = invoice.invoice_id, updated_at = now()
        where o.order_id = ordered.order_id
        returning o.* into ordered;
        perform fiscal.record_order(
            ordered, null, 'paid', jsonb_build_object('invoice_id', ordered.invoice_id)
        );
    elsif ordered.status = 'failed' then
        perform public.refuse('40911', 'This order was refused before.');
    end if;
    perform payments.acknowledge_events('invoices', array[issue_order.outbox_id]);
    return fiscal.sealing_of(caller, ordered.invoice_id, null);
end
$$;
comment on function fiscal.issue_order is
'Seals the invoice of a paid order, once, in the name of whoever ordered it, and answers for its event. The document then goes the way of every other.';

create function fiscal.fail_order(order_id text, outbox_id bigint, error jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write orders
set search_path = ''
as $$
#variable_conflict use_column
declare
    ordered fiscal.orders;
begin
    update fiscal.orders as o
    set status = 'failed', error = fail_order.error, updated_at = now()
    where o.order_id = fail_order.order_id and o.status = 'paid'
    returning o.* into ordered;
    if found then
        perform fiscal.record_order(
            ordered, 'invoice.issue_failed', 'paid', jsonb_build_object('error', ordered.error)
        );
        perform public.raise_alert(
            'invoice_not_issued', 'warning', ordered.payment_intent_id, ordered.tenant_id, ordered.environment,
            jsonb_build_object('code', ordered.error ->> 'code', 'reason', ordered.error ->> 'message')
        );
    end if;
    perform payments.acknowledge_events('invoices', array[fail_order.outbox_id]);
end
$$;
comment on function fiscal.fail_order is
'The rules refuse the invoice of a paid order: merchant and people are told, the money stays where it is. Nothing happens to an order that was issued.';

reset role;
