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
    invoice fiscal.invoices;
begin
    select i.* into invoice
    from fiscal.invoices as i
    where
        i.invoice_id = own_invoice.invoice_id and i.tenant_id = (own_invoice.caller).tenant_id
        and i.environment = (own_invoice.caller).environment
        and i.outlet_id = coalesce(fiscal.caller_outlet(own_invoice.caller), i.outlet_id);
    if not found then
        perform public.refuse('40401', format('There is no invoice %s here.', own_invoice.invoice_id));
    end if;
    return invoice;
end
$$;
comment on function fiscal.own_invoice is 'A document of the caller''s; 40401 for anybody else''s and for another outlet''s.';

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
            '40911', format('%s is not signed yet: nothing of it may be printed.', invoice.fiscal_number),
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

reset role;
