-- What a printed document says, and every time one was handed out.

set role stalela_owner;

create function fiscal.own_invoice(caller public.caller, invoice_id text)
returns fiscal.invoices
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    sight fiscal.sight := fiscal.sight_of(own_invoice.caller);
    invoice fiscal.invoices;
begin
    select i.* into invoice
    from fiscal.invoices as i
    where
        i.invoice_id = own_invoice.invoice_id and i.tenant_id = (own_invoice.caller).tenant_id
        and i.environment = (own_invoice.caller).environment
        and i.outlet_id = coalesce(sight.outlet_id, i.outlet_id)
        and i.cashier_id = coalesce(sight.cashier_id, i.cashier_id);
    if not found then
        perform public.refuse('40401', format('There is no invoice %s here.', own_invoice.invoice_id));
    end if;
    return invoice;
end
$$;
comment on function fiscal.own_invoice is 'A document the caller sees; 40401 for any other: another tenant''s, another outlet''s, to a cashier another cashier''s.';

create function fiscal.printable(invoice fiscal.invoices)
returns jsonb
language plpgsql
stable
security definer -- callers may not read taxpayers and outlets
set search_path = ''
as $$
#variable_conflict use_column
begin
    if invoice.status <> 'fiscalized' then
        perform public.refuse(
            '40911', format('%s is not signed yet, and nothing of it may be printed: read it again until it is fiscalized.', invoice.fiscal_number),
            jsonb_build_object('current_state', invoice.status, 'allowed', '[]'::jsonb)
        );
    end if;
    return (
        select jsonb_build_object(
            'resource', fiscal.invoice_resource(invoice.invoice_id),
            'merchant', fiscal.merchant_resource(m),
            'outlet', fiscal.outlet_resource(o)
        )
        from fiscal.outlets as o
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        where o.outlet_id = invoice.outlet_id
    );
end
$$;
comment on function fiscal.printable is
'Everything a printed document says; resource is the text of the API''s own. 40911 until it is signed: elements are printed together or not at all.';

create function fiscal.get_printable(invoice_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:read', 'read');
begin
    return public.reply(caller, 200, fiscal.printable(fiscal.own_invoice(caller, get_printable.invoice_id))::json);
end
$$;
comment on function fiscal.get_printable is 'What to print of one of the caller''s documents. 40401, 40911.';

create function fiscal.print_resource(print fiscal.prints)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', print.print_id, 'object', 'print', 'invoice_id', print.invoice_id, 'copy_no', print.copy_no,
        'format', print.format, 'language', print.language, 'printed_by', print.printed_by,
        'created_at', print.created_at
    );
end
$$;
comment on function fiscal.print_resource is 'A print as the API shows it.';

create function fiscal.print_invoice(invoice_id text, idempotency_key text, body_hash text, format text, language text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write prints
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    route constant text := format('POST /invoices/%s/prints', print_invoice.invoice_id);
    answer public.answer;
    invoice fiscal.invoices;
    print fiscal.prints;
begin
    answer := public.claim_idempotency(caller, route, print_invoice.idempotency_key, print_invoice.body_hash);
    if answer.status is not null then
        return answer;
    end if;
    invoice := fiscal.own_invoice(caller, print_invoice.invoice_id);
    -- Copies are numbered one at a time.
    perform from fiscal.invoices as i where i.invoice_id = invoice.invoice_id for update;
    insert into fiscal.prints (
        print_id, invoice_id, tenant_id, environment, outlet_id, copy_no, format, language, printed_by
    ) values (
        public.new_id('prt'), invoice.invoice_id, invoice.tenant_id, invoice.environment, invoice.outlet_id,
        (select count(*) from fiscal.prints as p where p.invoice_id = invoice.invoice_id),
        print_invoice.format, print_invoice.language, caller.actor
    )
    returning * into print;
    answer := public.reply(caller, 201, (
        fiscal.printable(invoice) || jsonb_build_object('print', fiscal.print_resource(print))
    )::json);
    perform public.remember_answer(caller, route, print_invoice.idempotency_key, print.print_id, answer);
    return answer;
end
$$;
comment on function fiscal.print_invoice is
'Hands out a document to be printed and notes it: the first time the original, then numbered copies. A repeated key gives the same print. 40401, 40911.';

create function fiscal.list_prints(invoice_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read prints
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    invoice fiscal.invoices := fiscal.own_invoice(caller, list_prints.invoice_id);
begin
    return public.reply(caller, 200, json_build_object('data', (
        select coalesce(json_agg(fiscal.print_resource(p) order by p.copy_no), '[]')
        from fiscal.prints as p
        where p.invoice_id = invoice.invoice_id
    )));
end
$$;
comment on function fiscal.list_prints is 'Every print of a document, the original first.';

reset role;
