-- What happens to documents: every move is on record, and merchants hear of those that matter to them.

set role stalela_owner;

create function fiscal.record_event(
    tenant_id text, environment text, subject_id text, type text, payload jsonb, actor text,
    from_status text default null, to_status text default null, reason text default null
)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
#variable_conflict use_column
declare
    new_event_id text := public.new_id('evt');
    number bigint;
begin
    loop
        insert into fiscal.events (
            event_id, tenant_id, environment, subject_id, seq, type, payload, actor, from_status, to_status, reason,
            traceparent
        )
        select
            new_event_id, record_event.tenant_id, record_event.environment, record_event.subject_id,
            coalesce(max(e.seq), 0) + 1, record_event.type, record_event.payload, record_event.actor,
            record_event.from_status, record_event.to_status, left(record_event.reason, 500),
            nullif(current_setting('request.headers', true), '')::jsonb ->> 'traceparent'
        from fiscal.events as e
        where e.subject_id = record_event.subject_id
        -- Another one has this number: it has committed when this is decided, and the next look sees it.
        on conflict (subject_id, seq) do nothing
        returning seq into number;
        exit when found;
    end loop;
    if record_event.type is null then
        return;
    end if;
    insert into payments.outbox (destination, event_id, event_type, tenant_id, environment, ordering_key, seq)
    select
        d.destination, new_event_id, record_event.type, record_event.tenant_id, record_event.environment,
        record_event.subject_id, number
    from public.destinations as d
    where
        d.enabled
        and exists (
            select from public.event_subscriptions as s
            where s.destination = d.destination and s.enabled and record_event.type like s.pattern
        );
end
$$;
comment on function fiscal.record_event is
'Appends the next event of a subject, with the W3C traceparent of the request, and one outbox row for each destination that subscribes to its type; type null is on record only.';

create function fiscal.invoice_facts(invoice fiscal.invoices)
returns jsonb
language plpgsql
stable
security definer -- callers may not read orders
set search_path = ''
as $$
#variable_conflict use_column
begin
    return jsonb_build_object(
        'status', invoice.status,
        'invoice_type', invoice.invoice_type,
        'invoice_ref', invoice.invoice_ref,
        'fiscal_number', invoice.fiscal_number,
        'outlet_id', invoice.outlet_id,
        'currency', invoice.currency,
        'total', public.format_amount(invoice.total_minor, invoice.currency),
        'total_tax', public.format_amount(invoice.tax_minor, invoice.currency),
        'original_invoice_id', invoice.original_invoice_id,
        'payment_intent_id', (select o.payment_intent_id from fiscal.orders as o where o.invoice_id = invoice.invoice_id)
    );
end
$$;
comment on function fiscal.invoice_facts is 'What every event of a document says of it: nothing about its client or its lines.';

create function fiscal.fiscalize(entry fiscal.fiscal_ledger, auth_code text)
returns void
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    former fiscal.invoices;
    invoice fiscal.invoices;
begin
    select i.* into former from fiscal.invoices as i where i.invoice_id = entry.invoice_id;
    if not found then
        return;
    end if;
    update fiscal.invoices as i
    set status = 'fiscalized'
    where i.invoice_id = former.invoice_id
    returning i.* into invoice;
    perform fiscal.record_event(
        invoice.tenant_id, invoice.environment, invoice.invoice_id, 'invoice.sealed',
        fiscal.invoice_facts(invoice) || jsonb_build_object(
            'sealed_at', entry.sealed_at, 'auth_code', fiscalize.auth_code
        ),
        'signer', former.status, invoice.status
    );
    -- Most documents have no address, and none of them costs a mail that is not written.
    if invoice.payload::jsonb #> '{client,email}' is not null then
        perform fiscal.record_event(
            invoice.tenant_id, invoice.environment, invoice.invoice_id, 'invoice_mail.due',
            jsonb_build_object('outlet_id', invoice.outlet_id), 'signer'
        );
    end if;
    if invoice.invoice_type in ('credit_note', 'export_credit') then
        perform fiscal.tell_credited(invoice);
    end if;
end
$$;
comment on function fiscal.fiscalize is
'The document of this entry has its signature and is fiscal from now on; its merchant hears of it. An entry that is no document changes nothing.';

create function fiscal.tell_credited(credit fiscal.invoices)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
#variable_conflict use_column
declare
    original fiscal.invoices;
    credited bigint;
begin
    -- Credits of one original take turns, or neither would count the other.
    select o.* into strict original
    from fiscal.invoices as o
    where o.invoice_id = credit.original_invoice_id
    for no key update;
    select sum(c.total_minor)::bigint into credited
    from fiscal.invoices as c
    where
        c.original_invoice_id = original.invoice_id and c.status = 'fiscalized'
        and c.invoice_type in ('credit_note', 'export_credit');
    perform fiscal.record_event(
        original.tenant_id, original.environment, original.invoice_id, 'invoice.credited',
        fiscal.invoice_facts(original) || jsonb_build_object(
            'credit_note_id', credit.invoice_id,
            'amount', public.format_amount(credit.total_minor, credit.currency),
            'credited_amount', public.format_amount(credited, original.currency)
        ),
        credit.created_by, reason => credit.payload::jsonb ->> 'credit_reason'
    );
end
$$;
comment on function fiscal.tell_credited is
'The merchant of the original hears that a credit of it was sealed, and what all credits come to.';

create function fiscal.tell_delayed(fiscal_number text, since timestamptz)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
#variable_conflict use_column
declare
    invoice fiscal.invoices;
begin
    select i.* into invoice from fiscal.invoices as i where i.fiscal_number = tell_delayed.fiscal_number;
    if found and not exists (
        select from fiscal.events as e
        where e.subject_id = invoice.invoice_id and e.type = 'invoice.signing_delayed'
    ) then
        perform fiscal.record_event(
            invoice.tenant_id, invoice.environment, invoice.invoice_id, 'invoice.signing_delayed',
            fiscal.invoice_facts(invoice) || jsonb_build_object(
                'since', to_char(tell_delayed.since at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            ),
            'signer'
        );
    end if;
end
$$;
comment on function fiscal.tell_delayed is
'The signature of a document is late: its merchant hears of it, once. Entries that are no documents have nobody to tell.';

reset role;
