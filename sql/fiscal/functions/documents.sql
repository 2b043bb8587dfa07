-- Documents as their owners see them.

set role stalela_owner;

create function fiscal.invoice_resource(invoice_id text)
returns text
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        -- The sealed text goes out as it is; what stands beside it is added around it.
        select format(
            '{"id":%s,"object":"invoice","status":%s,"fiscal_number":%s,"sequence":%s,"sealed":%s,"document":%s,'
            '"tax_summary":%s,"credited_amount":%s,"original_invoice":%s,'
            '"authority_sync_status":%s,"authority":%s,"environment":%s,"created_at":%s}',
            to_json(i.invoice_id), to_json(i.status), to_json(i.fiscal_number), i.sequence,
            coalesce((
                select json_build_object(
                    'fiscal_authority_id', o.fiscal_authority_id, 'sealed_at', l.sealed_at, 'auth_code', s.auth_code,
                    'signature', s.signature, 'signature_alg', s.signature_alg, 'key_id', s.key_id,
                    'canonical_payload_hash', l.canonical_payload_hash, 'previous_hash', l.previous_hash,
                    'ledger_hash', l.entry_hash
                )::text
                from fiscal.signatures as s
                inner join fiscal.fiscal_ledger as l on l.fiscal_number = s.fiscal_number
                inner join fiscal.outlets as o on o.outlet_id = i.outlet_id
                where s.fiscal_number = i.fiscal_number
            ), 'null'),
            i.payload, i.tax_summary,
            to_json(public.format_amount((
                select coalesce(sum(c.total_minor), 0)::bigint
                from fiscal.invoices as c
                where c.original_invoice_id = i.invoice_id and c.invoice_type in ('credit_note', 'export_credit')
            ), i.currency)),
            coalesce(to_json(i.original_invoice_id)::text, 'null'), to_json(sync.status_of(i.invoice_id)),
            coalesce(sync.elements_of(i.invoice_id)::text, 'null'), to_json(i.environment), to_json(i.created_at)
        )
        from fiscal.invoices as i
        where i.invoice_id = invoice_resource.invoice_id
    );
end
$$;
comment on function fiscal.invoice_resource is
'A document as the API shows it. sealed is null until it is signed, and nothing is handed to a customer before.';

create function fiscal.sealing_of(caller public.caller, invoice_id text, replayed text)
returns fiscal.sealing
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    headers jsonb := (sealing_of.caller).rate;
    invoice fiscal.invoices;
begin
    if sealing_of.replayed is not null then
        headers := headers || jsonb_build_object('Idempotent-Replayed', sealing_of.replayed);
    end if;
    select i.* into strict invoice from fiscal.invoices as i where i.invoice_id = sealing_of.invoice_id;
    if invoice.status = 'pending_signature' then
        -- Most get their signature next: whoever does not asks for the document by fiscal.numbered_invoice.
        return row(row(202, null, headers)::public.answer, fiscal.signing_work(invoice.fiscal_number));
    end if;
    -- What an operator must look at is not asked for again by whoever repeats the request.
    return row(
        row(fiscal.status_of(invoice), fiscal.invoice_resource(invoice.invoice_id), headers)::public.answer, null::jsonb
    );
end
$$;
comment on function fiscal.sealing_of is
'What a signer needs, and an answer without a body; or, when there is nothing to sign, the document as it stands.';

create function fiscal.status_of(invoice fiscal.invoices)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case invoice.status when 'fiscalized' then 201 else 202 end;
end
$$;
comment on function fiscal.status_of is 'What sealing answers for a document: 201 sealed, 202 numbered and its signature to come.';

create function fiscal.numbered_invoice(fiscal_number text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    sight fiscal.sight := fiscal.sight_of(caller);
    invoice fiscal.invoices;
begin
    select i.* into invoice
    from fiscal.invoices as i
    where
        i.fiscal_number = numbered_invoice.fiscal_number and i.tenant_id = caller.tenant_id
        and i.environment = caller.environment and i.outlet_id = coalesce(sight.outlet_id, i.outlet_id)
        and i.cashier_id = coalesce(sight.cashier_id, i.cashier_id);
    if not found then
        perform public.refuse('40401', format('There is no document %s here.', numbered_invoice.fiscal_number));
    end if;
    return row(fiscal.status_of(invoice), fiscal.invoice_resource(invoice.invoice_id), '{}')::public.answer;
end
$$;
comment on function fiscal.numbered_invoice is
'How a request ends whose document nobody could sign at once: the document as it stands. It took its token when it was numbered. 40401 for anybody else''s.';

create function fiscal.signing_work(fiscal_number text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'environment', l.environment, 'jurisdiction', m.jurisdiction, 'outlet_id', l.outlet_id,
            'fiscal_authority_id', o.fiscal_authority_id, 'fiscal_number', l.fiscal_number, 'sequence', l.series_no,
            'canonical_payload_hash', l.canonical_payload_hash, 'previous_hash', l.previous_hash,
            'sealed_at', l.sealed_at,
            'key', signing.key_facts(coalesce(q.key_id, signing.active_key(m.jurisdiction, l.environment)))
        )
        from fiscal.fiscal_ledger as l
        inner join fiscal.outlets as o on o.outlet_id = l.outlet_id
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        inner join signing.signing_queue as q on q.fiscal_number = l.fiscal_number
        where l.fiscal_number = signing_work.fiscal_number
    );
end
$$;
comment on function fiscal.signing_work is
'What a signer needs to build and sign the seal object of a ledger entry. No key: none is registered yet. Null when it is signed.';

create function fiscal.may_preview()
returns void
language plpgsql
volatile
security definer -- functions may not read keys and limits
set search_path = ''
as $$
begin
    perform public.authorize('invoices:read', 'read');
end
$$;
comment on function fiscal.may_preview is 'Whether the caller may have an invoice computed; nothing is kept of it.';

create function fiscal.get_invoice(invoice_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    invoice fiscal.invoices := fiscal.own_invoice(caller, get_invoice.invoice_id);
begin
    return row(200, fiscal.invoice_resource(invoice.invoice_id), caller.rate);
end
$$;
comment on function fiscal.get_invoice is 'One document of the caller''s; 40401 for anybody else''s: another outlet''s, and to a cashier another cashier''s.';

create function fiscal.get_creditable(invoice_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    invoice fiscal.invoices := fiscal.own_invoice(caller, get_creditable.invoice_id);
begin
    return public.reply(caller, 200, json_build_object(
        'fiscal_number', invoice.fiscal_number, 'document', invoice.payload::json,
        'credits', (
            select coalesce(json_agg(c.payload::json), '[]')
            from fiscal.invoices as c
            where c.original_invoice_id = invoice.invoice_id and c.invoice_type in ('credit_note', 'export_credit')
        )
    ));
end
$$;
comment on function fiscal.get_creditable is 'One document of the caller''s as it was sealed, and all its credits. 40401.';

create function fiscal.list_invoices(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    sight fiscal.sight := fiscal.sight_of(caller);
    after_at timestamptz;
    conditions text;
    ids text[];
begin
    if list_invoices.page_after is not null then
        select i.created_at into after_at
        from fiscal.invoices as i
        where i.invoice_id = list_invoices.page_after and i.tenant_id = caller.tenant_id and i.environment = caller.environment;
        if not found then
            perform public.refuse_cursor();
        end if;
    end if;
    -- Beside what was asked for, and instead of another outlet.
    filters := filters || coalesce(jsonb_strip_nulls(to_jsonb(sight)), '{}');
    -- Only the filters that are present become conditions, so each combination gets its own index plan.
    conditions := concat_ws(
        ' and ',
        case when filters ? 'outlet_id' then 'i.outlet_id = $3 ->> ''outlet_id''' end,
        case when filters ? 'cashier_id' then 'i.cashier_id = $3 ->> ''cashier_id''' end,
        case when filters ? 'status' then 'i.status = $3 ->> ''status''' end,
        -- What is not signed is few and in the queue: it is not looked for among all that is.
        case when filters ->> 'status' <> 'fiscalized' then
            'i.fiscal_number in ('
            'select q.fiscal_number from signing.signing_queue as q where q.tenant_id = $1 and q.environment = $2)'
        end,
        case when filters ? 'invoice_type' then 'i.invoice_type = $3 ->> ''invoice_type''' end,
        case when filters ? 'fiscal_number' then 'i.fiscal_number = $3 ->> ''fiscal_number''' end,
        case when filters ? 'original_invoice' then 'i.original_invoice_id = $3 ->> ''original_invoice''' end,
        case when filters ? 'created_after' then 'i.created_at >= ($3 ->> ''created_after'')::timestamptz' end,
        case when filters ? 'created_before' then 'i.created_at < ($3 ->> ''created_before'')::timestamptz' end,
        case when after_at is not null then '(i.created_at, i.invoice_id) < ($4, $5)' end,
        'true'
    );
    execute format($query$
        select array_agg(page.invoice_id order by page.created_at desc, page.invoice_id desc)
        from (
            select i.invoice_id, i.created_at
            from fiscal.invoices as i
            where i.tenant_id = $1 and i.environment = $2 and %s
            order by i.created_at desc, i.invoice_id desc
            limit $6
        ) as page
    $query$, conditions)
    into ids
    using caller.tenant_id, caller.environment, filters, after_at, page_after, page_size + 1;
    return row(200, format(
        '{"data":[%s],"pagination":%s}',
        (
            select string_agg(fiscal.invoice_resource(one.id), ',' order by one.place)
            from unnest(ids[1:list_invoices.page_size]) with ordinality as one (id, place)
        ),
        json_build_object(
            'limit', list_invoices.page_size,
            'has_more', coalesce(cardinality(ids), 0) > list_invoices.page_size,
            'next_cursor', case when cardinality(ids) > list_invoices.page_size then ids[list_invoices.page_size] end
        )
    ), caller.rate);
end
$$;
comment on function fiscal.list_invoices is
'One page of documents, newest first, of those the caller sees. filters: outlet_id, cashier_id, status, invoice_type, fiscal_number, original_invoice, created_after, created_before.';

reset role;
