-- What leaves the house whole: the rows of a declaration, and the chain itself for an inspector.

set role stalela_owner;

create function fiscal.list_declared(
    outlet_id text, first_date date, last_date date, page_size integer, page_after bigint
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    outlet fiscal.outlets := fiscal.outlet_of(caller, list_declared.outlet_id);
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    first_entry bigint := greatest(
        fiscal.entry_at(outlet.outlet_id, fiscal.day_end(outlet, first_date - 1)), coalesce(page_after, 0) + 1
    );
    after_last bigint := fiscal.entry_at(outlet.outlet_id, fiscal.day_end(outlet, last_date));
    last_entry bigint := least(after_last, first_entry + page_size) - 1;
begin
    perform fiscal.refuse_broken(fiscal.check_chain(outlet.outlet_id, first_entry, last_entry));
    return public.reply(caller, 200, json_build_object(
        'jurisdiction', merchant.jurisdiction, 'outlet_code', outlet.outlet_code,
        'data', (
            select coalesce(json_agg(json_build_object(
                'fiscal_number', l.fiscal_number, 'invoice_type', i.invoice_type, 'is_credit', t.is_credit,
                'sealed_at', l.sealed_at, 'fiscal_authority_id', outlet.fiscal_authority_id,
                'auth_code', s.auth_code, 'signature', s.signature, 'key_id', s.key_id, 'ledger_hash', l.entry_hash,
                'document', i.payload::json
            ) order by l.entry_no), '[]')
            from fiscal.fiscal_ledger as l
            inner join fiscal.invoices as i on i.invoice_id = l.invoice_id
            inner join tax.invoice_types as t
                on t.jurisdiction = merchant.jurisdiction and t.invoice_type = i.invoice_type
            left join fiscal.signatures as s on s.fiscal_number = l.fiscal_number
            where l.outlet_id = outlet.outlet_id and l.entry_no between first_entry and last_entry
        ),
        'pagination', json_build_object(
            'limit', page_size, 'has_more', last_entry + 1 < after_last,
            'next_cursor', case when last_entry + 1 < after_last then last_entry::text end
        )
    ));
end
$$;
comment on function fiscal.list_declared is
'The documents sealed in these business days with their security elements, oldest first, for a declaration filed by hand.';

create function fiscal.export_range(outlet_id text, first_date date, last_date date, chunk_index integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('audit:read', 'read');
    outlet fiscal.outlets := fiscal.outlet_of(caller, export_range.outlet_id);
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    days_each constant integer := 31;
    chunk_count constant integer := (last_date - first_date) / days_each + 1;
    chunk_first constant date := first_date + (chunk_index - 1) * days_each;
    chunk_last constant date := least(last_date, chunk_first + days_each - 1);
    first_entry bigint;
    last_entry bigint;
begin
    if chunk_index > chunk_count then
        perform public.refuse_field('42262', '/chunk_index', format('must be at most %s for these days', chunk_count));
    end if;
    first_entry := fiscal.entry_at(outlet.outlet_id, fiscal.day_end(outlet, chunk_first - 1));
    last_entry := fiscal.entry_at(outlet.outlet_id, fiscal.day_end(outlet, chunk_last)) - 1;
    perform public.audit(caller, 'fiscal.audit_exported', outlet.outlet_id, jsonb_build_object(
        'first_entry', first_entry, 'last_entry', last_entry
    ));
    return public.reply(caller, 200, json_build_object(
        'outlet_id', outlet.outlet_id, 'outlet_code', outlet.outlet_code, 'environment', outlet.environment,
        'jurisdiction', merchant.jurisdiction, 'fiscal_authority_id', outlet.fiscal_authority_id,
        'from', chunk_first, 'to', chunk_last, 'chunk_index', chunk_index, 'chunk_count', chunk_count,
        'first_entry', first_entry, 'last_entry', last_entry,
        'keys', (
            select coalesce(jsonb_agg(signing.published_key(k) order by k.key_id collate "C"), '[]')
            from signing.keys as k
            where k.jurisdiction = merchant.jurisdiction and k.environment = outlet.environment
        )
    ));
end
$$;
comment on function fiscal.export_range is
'Which entries an archive of these business days holds, 31 days to each, and the keys that may have signed them.';

create function fiscal.export_entries(outlet_id text, first_entry bigint, last_entry bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('audit:read', 'read');
    outlet fiscal.outlets := fiscal.outlet_of(caller, export_entries.outlet_id);
begin
    return row(200, (
        -- A line is canonical JSON itself: members in order, the sealed text as it is.
        select coalesce(string_agg(format(
            '{"canonical_payload_hash":%s,"entry_hash":%s,"entry_no":%s,"fiscal_number":%s,"payload":%s,'
            '"previous_hash":%s,"record_type":%s,"sealed_at":%s,"sequence":%s,"series_no":%s,"signature":%s}' || E'\n',
            to_json(l.canonical_payload_hash), to_json(l.entry_hash), l.entry_no, to_json(l.fiscal_number),
            coalesce(i.payload, fiscal.entry_body(l.record_type, l.fiscal_number), 'null'), to_json(l.previous_hash), to_json(l.record_type), to_json(l.sealed_at),
            coalesce(l.sequence::text, 'null'), l.series_no,
            case when s.fiscal_number is null then 'null' else format(
                '{"auth_code":%s,"key_id":%s,"signature":%s,"signature_alg":%s}',
                to_json(s.auth_code), to_json(s.key_id), to_json(s.signature), to_json(s.signature_alg)
            ) end
        ), '' order by l.entry_no), '')
        from fiscal.fiscal_ledger as l
        left join fiscal.invoices as i on i.invoice_id = l.invoice_id
        left join fiscal.signatures as s on s.fiscal_number = l.fiscal_number
        where
            l.outlet_id = outlet.outlet_id
            and l.entry_no between export_entries.first_entry and export_entries.last_entry
    ), caller.rate);
end
$$;
comment on function fiscal.export_entries is
'Entries of a chain with their documents and signatures, a line of JSON each. Nothing is checked here: an inspector sees what there is.';

reset role;
