-- Reports that change nothing: X, articles, periods. Each verifies the hashes of what it reads before it adds up.

set role stalela_owner;

create function fiscal.refuse_broken(broken text)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
    if broken is not null then
        perform public.refuse('50011', format('The ledger does not verify: %s. Nothing is reported from it: keep everything as it is and write to support.', broken));
    end if;
end
$$;
comment on function fiscal.refuse_broken is 'Refuses with 50011 when something is wrong with the chain; null: nothing is.';

create function fiscal.x_report(outlet_id text, cashier_id text, pos_terminal_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    outlet fiscal.outlets := fiscal.outlet_of(caller, x_report.outlet_id);
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    is_filtered constant boolean := coalesce(x_report.cashier_id, x_report.pos_terminal_id) is not null;
    previous fiscal.reports;
    first_entry bigint;
    last_entry bigint;
begin
    select r.* into previous
    from fiscal.reports as r
    where r.outlet_id = outlet.outlet_id
    order by r.report_no desc
    limit 1;
    first_entry := coalesce(previous.last_entry, 0) + 1;
    last_entry := coalesce((
        select max(l.entry_no) from fiscal.fiscal_ledger as l where l.outlet_id = outlet.outlet_id
    ), 0);
    perform fiscal.refuse_broken(fiscal.check_chain(outlet.outlet_id, first_entry, last_entry));
    return row(200, fiscal.canonical_text(
        jsonb_strip_nulls(jsonb_build_object(
            'object', 'report', 'report_type', 'x', 'environment', outlet.environment,
            'jurisdiction', merchant.jurisdiction, 'merchant_tin', merchant.tin, 'merchant_name', merchant.legal_name,
            'outlet_id', outlet.outlet_id, 'outlet_code', outlet.outlet_code, 'outlet_name', outlet.name,
            'fiscal_authority_id', outlet.fiscal_authority_id, 'time_zone', outlet.time_zone,
            'period_id', (select d.business_date from fiscal.open_days as d where d.outlet_id = outlet.outlet_id),
            'cashier_id', x_report.cashier_id, 'pos_terminal_id', x_report.pos_terminal_id,
            'opened_at', coalesce(previous.body::jsonb ->> 'closed_at', fiscal.instant_text(outlet.created_at)),
            'generated_at', fiscal.instant_text(clock_timestamp()), 'first_entry', first_entry, 'last_entry', last_entry,
            'platform_status', fiscal.platform_status(outlet)
        ))
        || case when is_filtered then '{}' else fiscal.sequences(outlet.outlet_id, first_entry, last_entry) end
        || fiscal.figures(
            outlet, first_entry, last_entry, clock_timestamp(), x_report.cashier_id, x_report.pos_terminal_id
        )
    ), caller.rate);
end
$$;
comment on function fiscal.x_report is
'The business day so far: what its Z would say now, of one cashier or terminal when asked. Changes nothing.';

create function fiscal.platform_status(outlet fiscal.outlets)
returns jsonb
language plpgsql
stable
security definer -- callers may not read queues
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'signer', case when bool_or(q.last_error is not null) then 'failing' else 'ok' end,
            'pending_signature', count(q.fiscal_number),
            'pending_sync', (
                select count(*)
                from sync.authority_sync_queue as a
                where
                    a.outlet_id = (platform_status.outlet).outlet_id and a.status in ('PENDING', 'SUBMITTED', 'RETRY')
            ),
            'next_sequence', coalesce((
                select c.next_value
                from fiscal.fiscal_counters as c
                where c.outlet_id = (platform_status.outlet).outlet_id and c.kind = 'invoice'
            ), 1)
        )
        from signing.signing_queue as q
        inner join fiscal.fiscal_ledger as l on l.fiscal_number = q.fiscal_number
        where
            l.outlet_id = (platform_status.outlet).outlet_id and q.tenant_id = (platform_status.outlet).tenant_id
            and q.environment = (platform_status.outlet).environment
    );
end
$$;
comment on function fiscal.platform_status is 'What an outlet''s documents wait for, and its next number.';

create function fiscal.periodic_report(outlet_id text, first_date date, last_date date)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read reports
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    outlet_only text := coalesce(fiscal.caller_outlet(caller), periodic_report.outlet_id);
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    outlet fiscal.outlets;
    summed jsonb;
begin
    if periodic_report.outlet_id is not null then
        outlet := fiscal.outlet_of(caller, periodic_report.outlet_id);
    end if;
    perform fiscal.refuse_broken(fiscal.check_reports(caller, outlet_only, first_date, last_date));
    with z as (
        select r.report_no, r.business_date, r.outlet_id, r.body::jsonb as body
        from fiscal.reports as r
        where
            r.tenant_id = caller.tenant_id and r.environment = caller.environment
            and r.outlet_id = coalesce(outlet_only, r.outlet_id)
            and r.business_date between first_date and last_date
    ),
    currencies as (
        select j.tax_currency from tax.jurisdictions as j where j.jurisdiction = merchant.jurisdiction
    )
    select jsonb_build_object(
        'report_count', count(*),
        'outlet_count', count(distinct z.outlet_id),
        'generated_at', coalesce(max(z.body ->> 'generated_at'), to_char(last_date, 'YYYY-MM-DD"T00:00:00Z"')),
        'invoice_count', coalesce(sum((z.body ->> 'invoice_count')::bigint), 0)::bigint,
        'credit_count', coalesce(sum((z.body ->> 'credit_count')::bigint), 0)::bigint,
        'gap_detected', coalesce(bool_or((z.body ->> 'gap_detected')::boolean), false),
        'counts_by_type', (
            select coalesce(jsonb_object_agg(w.name, w.documents), '{}')
            from (
                select c.key as name, sum(c.value::bigint)::bigint as documents
                from z as one
                cross join jsonb_each_text(one.body -> 'counts_by_type') as c
                group by c.key
            ) as w
        ),
        'tax_totals', fiscal.sum_rows(fiscal.gather(jsonb_agg(z.body -> 'tax_totals')), array['base', 'tax']),
        'grand_totals', fiscal.sum_rows(
            fiscal.gather(jsonb_agg(z.body -> 'grand_totals')), array['subtotal', 'total_tax', 'total']
        ),
        'payments', fiscal.sum_rows(fiscal.gather(jsonb_agg(z.body -> 'payments')), array['amount']),
        'payment_totals', fiscal.sum_rows(
            fiscal.gather(jsonb_agg(fiscal.payment_totals(z.outlet_id, z.body))), array['subtotal', 'total_tax', 'total']
        ),
        'tax_return', fiscal.tax_return(
            (select c.tax_currency from currencies as c), fiscal.gather(jsonb_agg(z.body #> '{tax_return,groups}')),
            coalesce(jsonb_agg((z.body -> 'tax_return') - '{groups,by_treatment,currency}'::text[]), '[]')
        )
    ) into summed
    from z;
    return row(200, fiscal.canonical_text(summed || jsonb_strip_nulls(jsonb_build_object(
        'object', 'report', 'report_type', 'periodic', 'environment', merchant.environment,
        'jurisdiction', merchant.jurisdiction, 'merchant_tin', merchant.tin, 'merchant_name', merchant.legal_name,
        'outlet_id', outlet.outlet_id, 'outlet_code', outlet.outlet_code, 'outlet_name', outlet.name,
        'from', first_date, 'to', last_date,
        'open_days', fiscal.open_days_between(caller, outlet_only, first_date, last_date)
    ))), caller.rate);
end
$$;
comment on function fiscal.periodic_report is
'The sum of the Zs of these business days, of one outlet or of all the caller may see, with what a tax return asks for. Days that are still open are not in it, and named.';

create function fiscal.payment_totals(outlet_id text, body jsonb)
returns jsonb
language plpgsql
stable
security definer -- callers may not read outlets
set search_path = ''
as $$
#variable_conflict use_column
begin
    return coalesce(body -> 'payment_totals', (
        select fiscal.figures(
            o, (body ->> 'first_entry')::bigint, (body ->> 'last_entry')::bigint, (body ->> 'closed_at')::timestamptz, null, null
        ) -> 'payment_totals'
        from fiscal.outlets as o
        where o.outlet_id = payment_totals.outlet_id
    ));
end
$$;
comment on function fiscal.payment_totals is
'A Z''s totals by means of payment; from its documents for a Z of schema 1.0, which does not say them.';

create function fiscal.open_days_between(caller public.caller, outlet_id text, first_date date, last_date date)
returns bigint
language plpgsql
stable
security definer -- callers may not read days
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        -- A day that has not begun is not missing.
        select coalesce(sum(greatest(0, least(
            open_days_between.last_date, fiscal.business_date(o, clock_timestamp())
        ) - greatest(open_days_between.first_date, d.business_date) + 1)), 0)
        from fiscal.open_days as d
        inner join fiscal.outlets as o on o.outlet_id = d.outlet_id
        where
            d.tenant_id = (open_days_between.caller).tenant_id and d.environment = (open_days_between.caller).environment
            and d.outlet_id = coalesce(open_days_between.outlet_id, d.outlet_id)
    );
end
$$;
comment on function fiscal.open_days_between is 'How many business days of a period are begun and not closed yet.';

create function fiscal.check_reports(caller public.caller, outlet_id text, first_date date, last_date date)
returns text
language plpgsql
stable
security definer -- callers may not read reports
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select format('%s is not what was sealed', r.fiscal_number)
        from fiscal.reports as r
        inner join fiscal.fiscal_ledger as l on l.fiscal_number = r.fiscal_number
        left join fiscal.fiscal_ledger as closing on closing.outlet_id = r.outlet_id and closing.entry_no = r.last_entry
        left join fiscal.reports as p on p.outlet_id = r.outlet_id and p.report_no = r.report_no - 1
        left join fiscal.fiscal_ledger as before on before.fiscal_number = p.fiscal_number
        where
            r.tenant_id = (check_reports.caller).tenant_id and r.environment = (check_reports.caller).environment
            and r.outlet_id = coalesce(check_reports.outlet_id, r.outlet_id)
            and r.business_date between check_reports.first_date and check_reports.last_date
            and (
                l.canonical_payload_hash <> encode(sha256(convert_to(r.body, 'UTF8')), 'hex')
                or l.entry_hash <> encode(sha256(convert_to(concat_ws(
                    E'\n', l.fiscal_number, l.canonical_payload_hash, l.sealed_at, l.previous_hash
                ), 'UTF8')), 'hex')
                or r.body::jsonb ->> 'closing_hash' <> coalesce(closing.entry_hash, repeat('0', 64))
                or r.body::jsonb ->> 'previous_z_hash' <> coalesce(before.entry_hash, repeat('0', 64))
            )
        order by r.outlet_id, r.report_no
        limit 1
    );
end
$$;
comment on function fiscal.check_reports is
'Which Z of a period is not what was sealed, or does not stand where the chain says; null when all are sound. Their documents were verified when each was closed.';

create function fiscal.entry_at(outlet_id text, at timestamptz)
returns bigint
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    low bigint := 1::bigint;
    high bigint := coalesce((
        select max(l.entry_no) from fiscal.fiscal_ledger as l where l.outlet_id = entry_at.outlet_id
    ), 0) + 1;
    middle bigint;
begin
    -- Entries have no gaps and our times never go back, so twenty looks find one among a million; an index would cost
    -- every sale. What a terminal sealed offline has a time of its own: it goes by the entry of ours before it.
    while low < high loop
        middle := (low + high) / 2;
        if coalesce((
            select l.sealed_at from fiscal.fiscal_ledger as l
            where
                l.outlet_id = entry_at.outlet_id and l.entry_no <= middle
                and not exists (select from fiscal.local_seals as t where t.fiscal_number = l.fiscal_number)
            order by l.entry_no desc
            limit 1
        ), '') < fiscal.instant_text(entry_at.at) then
            low := middle + 1;
        else
            high := middle;
        end if;
    end loop;
    return low;
end
$$;
comment on function fiscal.entry_at is 'The first entry of an outlet that was made at this moment or later, as Zs divide them; the one to come when there is none.';

create function fiscal.list_articles(
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
    outlet fiscal.outlets := fiscal.outlet_of(caller, list_articles.outlet_id);
    first_entry bigint := greatest(
        fiscal.entry_at(outlet.outlet_id, fiscal.day_end(outlet, first_date - 1)), coalesce(page_after, 0) + 1
    );
    after_last bigint := fiscal.entry_at(outlet.outlet_id, fiscal.day_end(outlet, last_date));
    last_entry bigint := least(after_last, first_entry + page_size) - 1;
begin
    perform fiscal.refuse_broken(fiscal.check_chain(outlet.outlet_id, first_entry, last_entry));
    return public.reply(caller, 200, json_build_object(
        'data', (
            select coalesce(json_agg(json_build_object(
                'fiscal_number', l.fiscal_number, 'invoice_ref', i.invoice_ref, 'invoice_type', i.invoice_type,
                'sealed_at', l.sealed_at, 'currency', i.currency, 'client_classification', w.document #>> '{client,classification}',
                'line_no', g.item -> 'line_no', 'code', g.item ->> 'code', 'description', g.item ->> 'description',
                'quantity', g.item ->> 'quantity', 'unit_price', g.item ->> 'unit_price',
                'line_base', g.item ->> 'line_base', 'tax_group', g.item ->> 'tax_group', 'tax_rate', g.item ->> 'tax_rate',
                'tax_amount', g.item ->> 'tax_amount', 'line_total', g.item ->> 'line_total'
            ) order by l.entry_no, g.place), '[]')
            from fiscal.fiscal_ledger as l
            inner join fiscal.invoices as i on i.invoice_id = l.invoice_id
            cross join lateral (select i.payload::jsonb as document) as w
            cross join lateral jsonb_array_elements(w.document -> 'items') with ordinality as g (item, place)
            where l.outlet_id = outlet.outlet_id and l.entry_no between first_entry and last_entry
        ),
        'pagination', json_build_object(
            'limit', page_size, 'has_more', last_entry + 1 < after_last,
            'next_cursor', case when last_entry + 1 < after_last then last_entry::text end
        )
    ));
end
$$;
comment on function fiscal.list_articles is
'One row per line of the documents sealed in these business days, oldest first. page_size counts ledger entries, so that a page is whole documents.';

reset role;
