-- Fiscal documents on their way to their clients: what the mail says, and the link in it.

set role stalela_owner;

create function messages.document_facts(invoice_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'kind', 'document',
            'subject_id', i.invoice_id,
            'tenant_id', i.tenant_id,
            'environment', i.environment,
            'merchant', m.legal_name,
            'client_name', i.payload::jsonb #>> '{client,name}',
            'client_email', i.payload::jsonb #>> '{client,email}',
            'language', coalesce(c.language, 'en'),
            'label', k.label,
            'fiscal_number', i.fiscal_number,
            'currency', i.currency,
            'total', public.format_amount(i.total_minor, i.currency),
            'total_tax', public.format_amount(i.tax_minor, i.currency),
            'auth_code', s.auth_code,
            'sealed_local', to_char(l.sealed_at::timestamptz at time zone o.time_zone, 'YYYY-MM-DD"T"HH24:MI'),
            'zone', o.time_zone,
            'link_until', to_char(
                (now() + make_interval(days => public.setting('messages.link_days')::integer)) at time zone o.time_zone,
                'YYYY-MM-DD"T"HH24:MI'
            )
        )
        from fiscal.invoices as i
        inner join fiscal.merchants as m on m.merchant_id = i.merchant_id
        inner join fiscal.outlets as o on o.outlet_id = i.outlet_id
        inner join fiscal.fiscal_ledger as l on l.fiscal_number = i.fiscal_number
        inner join fiscal.signatures as s on s.fiscal_number = i.fiscal_number
        inner join tax.invoice_types as k on k.jurisdiction = m.jurisdiction and k.invoice_type = i.invoice_type
        left join messages.countries as c on c.country = m.jurisdiction
        where i.invoice_id = document_facts.invoice_id
    );
end
$$;
comment on function messages.document_facts is
'All that the mail of a sealed document says: nothing of its lines. Times are the outlet''s wall clock.';

create function messages.add_link(message messages.messages, token_hash text)
returns void
language plpgsql
volatile
security definer -- callers may not write links
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into fiscal.document_links (token_hash, message_id, tenant_id, environment, invoice_id, expires_at)
    values (
        add_link.token_hash, message.message_id, message.tenant_id, message.environment, message.subject_id,
        now() + make_interval(days => public.setting('messages.link_days')::integer)
    );
end
$$;
comment on function messages.add_link is 'Makes the link in a mail good for messages.link_days.';

create function messages.open_link(token_hash text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not read links
set search_path = ''
as $$
#variable_conflict use_column
declare
    elements jsonb;
begin
    select jsonb_build_object(
        'fiscal_number', i.fiscal_number, 'auth_code', s.auth_code, 'sealed_at', l.sealed_at,
        'fiscal_authority_id', o.fiscal_authority_id
    ) into elements
    from fiscal.document_links as k
    inner join fiscal.invoices as i on i.invoice_id = k.invoice_id
    inner join fiscal.outlets as o on o.outlet_id = i.outlet_id
    inner join fiscal.fiscal_ledger as l on l.fiscal_number = i.fiscal_number
    inner join fiscal.signatures as s on s.fiscal_number = i.fiscal_number
    where k.token_hash = open_link.token_hash and k.expires_at > now() and k.revoked_at is null;
    if elements is null then
        perform public.refuse('40401', 'This link is unknown, expired or revoked.');
    end if;
    return elements;
end
$$;
comment on function messages.open_link is 'What the link in a mail leads to; 40401 once it has expired or was revoked.';

create function messages.visible_document(invoice_id text, scope text, bucket text)
returns public.caller
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize(scope, bucket);
    sight fiscal.sight := fiscal.sight_of(caller);
begin
    if not exists (
        select from fiscal.invoices as i
        where
            i.invoice_id = visible_document.invoice_id and i.tenant_id = caller.tenant_id
            and i.environment = caller.environment and i.outlet_id = coalesce(sight.outlet_id, i.outlet_id)
            and i.cashier_id = coalesce(sight.cashier_id, i.cashier_id)
    ) then
        perform public.refuse('40401', format('There is no invoice %s here.', visible_document.invoice_id));
    end if;
    return caller;
end
$$;
comment on function messages.visible_document is 'Who is calling, if this document is theirs to see; 40401 otherwise.';

create function messages.list_document_mails(invoice_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := messages.visible_document(list_document_mails.invoice_id, 'invoices:read', 'read');
    body text;
begin
    select string_agg(messages.message_resource(m)::text, ',' order by m.created_at, m.message_id) into body
    from messages.messages as m
    where m.subject_id = list_document_mails.invoice_id;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function messages.list_document_mails is 'What the client of this document was sent, oldest first.';

create function messages.revoke_links(invoice_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write links
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := messages.visible_document(revoke_links.invoice_id, 'invoices:write', 'write');
    revoked integer;
begin
    update fiscal.document_links as k
    set revoked_at = now()
    where k.invoice_id = revoke_links.invoice_id and k.revoked_at is null;
    get diagnostics revoked = row_count;
    perform public.audit(caller, 'document.links_revoked', revoke_links.invoice_id, jsonb_build_object('links', revoked));
    return row(200, json_build_object('revoked', revoked)::text, caller.rate);
end
$$;
comment on function messages.revoke_links is 'Ends every link to this document that was mailed; audited. The document itself stays verifiable by its QR code.';

reset role;
