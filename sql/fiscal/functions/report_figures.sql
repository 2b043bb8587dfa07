-- What the documents of a range of entries come to. Credits are positive in documents; here they are taken off.

set role stalela_owner;

create function fiscal.documents_between(
    outlet fiscal.outlets, first_entry bigint, last_entry bigint, cashier_id text, pos_terminal_id text
)
returns table (
    entry_no bigint, invoice_type text, is_credit boolean, currency text, scale integer, document jsonb
)
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select
        l.entry_no, i.invoice_type,
        -- A type nobody knows stops the report: left out, it would be missing in silence.
        coalesce(t.is_credit, fiscal.refuse_type(i.fiscal_number, i.invoice_type)),
        i.currency, c.scale::integer, i.payload::jsonb
    from fiscal.fiscal_ledger as l
    inner join fiscal.invoices as i on i.invoice_id = l.invoice_id
    inner join fiscal.merchants as m on m.merchant_id = i.merchant_id
    inner join public.currencies as c on c.code = i.currency
    left join tax.invoice_types as t on t.jurisdiction = m.jurisdiction and t.invoice_type = i.invoice_type
    where
        l.outlet_id = (documents_between.outlet).outlet_id
        and l.entry_no between documents_between.first_entry and documents_between.last_entry
        and (documents_between.cashier_id is null or i.payload::jsonb ->> 'cashier_id' = documents_between.cashier_id)
        and (
            documents_between.pos_terminal_id is null
            or i.payload::jsonb ->> 'pos_terminal_id' = documents_between.pos_terminal_id
        );
end
$$;
comment on function fiscal.documents_between is
'The documents of a range of an outlet''s entries, in full; of one cashier or terminal when asked.';

create function fiscal.refuse_type(fiscal_number text, invoice_type text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    raise exception '% is a %, which its jurisdiction does not know', fiscal_number, invoice_type;
end
$$;
comment on function fiscal.refuse_type is 'Says which document has a type that no report can place.';

create function fiscal.figures(
    outlet fiscal.outlets, first_entry bigint, last_entry bigint, at timestamptz, cashier_id text, pos_terminal_id text
)
returns jsonb
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
set jit = off -- compiling this takes a second, running it for a thousand documents takes a twentieth
as $$
#variable_conflict use_column
declare
    figures jsonb;
begin
    with place as (
        select j.jurisdiction, j.tax_currency, c.scale as tax_scale
        from fiscal.merchants as m
        inner join tax.jurisdictions as j on j.jurisdiction = m.jurisdiction
        inner join public.currencies as c on c.code = j.tax_currency
        where m.merchant_id = (figures.outlet).merchant_id
    ),
    sold as materialized (
        select d.*, coalesce((d.document #>> '{fx,rate}')::numeric, 1) as fx_rate
        from fiscal.documents_between(
            figures.outlet, figures.first_entry, figures.last_entry, figures.cashier_id, figures.pos_terminal_id
        ) as d
    ),
    -- A day without sales shows its zeros in the tax currency.
    used_currencies as (
        select s.currency, s.scale from sold as s
        union
        select p.tax_currency, p.tax_scale from place as p
    ),
    group_lines as (
        select
            s.currency, s.is_credit, g ->> 'code' as code, (g ->> 'rate')::numeric as rate, t.treatment,
            (g ->> 'base_amount')::numeric as base, (g ->> 'tax_amount')::numeric as tax,
            round((g ->> 'base_amount')::numeric * s.fx_rate, p.tax_scale) as base_there,
            round((g ->> 'tax_amount')::numeric * s.fx_rate, p.tax_scale) as tax_there
        from sold as s
        cross join place as p
        cross join jsonb_array_elements(s.document -> 'tax_groups') as g
        inner join tax.tax_groups as t
            on t.manifest_version = s.document ->> 'tax_group_manifest_version' and t.tax_group = g ->> 'code'
    ),
    paid as (
        select
            s.entry_no, s.is_credit, s.currency, s.scale, p.value ->> 'method' as method, p.ordinality as place,
            (s.document #>> '{totals,total}')::numeric as document_total,
            (s.document #>> '{totals,total_tax}')::numeric as document_tax,
            -- In the document's currency, rounded as when its payments were held against its total: they come to it,
            -- and nothing is given back.
            case p.value ->> 'currency'
                when s.currency then (p.value ->> 'amount')::numeric
                else round((p.value ->> 'amount')::numeric * (p.value ->> 'fx_rate')::numeric, s.scale)
            end as total
        from sold as s
        cross join jsonb_array_elements(s.document -> 'payments') with ordinality as p
    ),
    -- Tax in proportion: what is rounded is the tax of all payments so far, not that of each. No cent is lost or made,
    -- none is below zero, and the last payment takes what is left.
    taxed as (
        select
            p.*,
            coalesce(round(
                p.document_tax * sum(p.total) over so_far / nullif(p.document_total, 0), p.scale
            ), 0) as tax_so_far
        from paid as p
        window so_far as (partition by p.entry_no order by p.place)
    ),
    payment_shares as (
        select
            t.is_credit, t.currency, t.scale, t.method, t.total,
            t.tax_so_far - lag(t.tax_so_far, 1, 0::numeric) over (partition by t.entry_no order by t.place) as tax
        from taxed as t
    ),
    all_groups as (
        select distinct g.code, g.rate, g.treatment from group_lines as g
        union
        select t.tax_group, t.rate, t.treatment
        from place as p
        inner join tax.manifests as v
            on v.jurisdiction = p.jurisdiction and v.surface = 'merchant' and v.valid_from <= figures.at
            and (v.valid_to is null or figures.at < v.valid_to)
        inner join tax.tax_groups as t on t.manifest_version = v.manifest_version
        where t.rate is not null
    )
    select jsonb_build_object(
        'invoice_count', (select count(*) from sold),
        'credit_count', (select count(*) from sold as s where s.is_credit),
        'counts_by_type', (
            select jsonb_object_agg(t.invoice_type, (
                select count(*) from sold as s where s.invoice_type = t.invoice_type
            ))
            from place as p
            inner join tax.invoice_types as t on t.jurisdiction = p.jurisdiction
        ),
        'tax_totals', (
            select jsonb_agg(
                jsonb_build_object(
                    'currency', w.currency, 'code', w.code, 'rate', fiscal.rate_text(w.rate), 'treatment', w.treatment
                ) || fiscal.sides(
                    array['base', 'tax'], array[w.base, w.tax], array[w.credited_base, w.credited_tax], w.scale
                )
                order by w.currency collate "C", w.code collate "C", w.rate
            )
            from (
                select
                    u.currency, u.scale, a.code, a.rate, a.treatment,
                    sum(g.base) filter (where not g.is_credit) as base, sum(g.tax) filter (where not g.is_credit) as tax,
                    sum(g.base) filter (where g.is_credit) as credited_base,
                    sum(g.tax) filter (where g.is_credit) as credited_tax
                from used_currencies as u
                cross join all_groups as a
                left join group_lines as g
                    on g.currency = u.currency and g.code = a.code and g.rate = a.rate and g.treatment = a.treatment
                group by u.currency, u.scale, a.code, a.rate, a.treatment
            ) as w
        ),
        'grand_totals', (
            select jsonb_agg(
                jsonb_build_object('currency', w.currency) || fiscal.sides(
                    array['subtotal', 'total_tax', 'total'], array[w.subtotal, w.tax, w.total],
                    array[w.credited_subtotal, w.credited_tax, w.credited_total], w.scale
                )
                order by w.currency collate "C"
            )
            from (
                select
                    u.currency, u.scale,
                    sum((s.document #>> '{totals,subtotal}')::numeric) filter (where not s.is_credit) as subtotal,
                    sum((s.document #>> '{totals,total_tax}')::numeric) filter (where not s.is_credit) as tax,
                    sum((s.document #>> '{totals,total}')::numeric) filter (where not s.is_credit) as total,
                    sum((s.document #>> '{totals,subtotal}')::numeric) filter (where s.is_credit) as credited_subtotal,
                    sum((s.document #>> '{totals,total_tax}')::numeric) filter (where s.is_credit) as credited_tax,
                    sum((s.document #>> '{totals,total}')::numeric) filter (where s.is_credit) as credited_total
                from used_currencies as u
                left join sold as s on s.currency = u.currency
                group by u.currency, u.scale
            ) as w
        ),
        'payments', (
            select coalesce(jsonb_agg(
                jsonb_build_object('method', w.method, 'currency', w.currency)
                || fiscal.sides(array['amount'], array[w.amount], array[w.credited], w.scale)
                order by w.method collate "C", w.currency collate "C"
            ), '[]')
            from (
                select
                    p ->> 'method' as method, p ->> 'currency' as currency, c.scale,
                    sum((p ->> 'amount')::numeric) filter (where not s.is_credit) as amount,
                    sum((p ->> 'amount')::numeric) filter (where s.is_credit) as credited
                from sold as s
                cross join jsonb_array_elements(s.document -> 'payments') as p
                inner join public.currencies as c on c.code = p ->> 'currency'
                group by 1, 2, 3
            ) as w
        ),
        'payment_totals', (
            select coalesce(jsonb_agg(
                jsonb_build_object('method', w.method, 'currency', w.currency)
                || fiscal.sides(
                    array['subtotal', 'total_tax', 'total'], array[w.total - w.tax, w.tax, w.total],
                    array[w.credited - w.credited_tax, w.credited_tax, w.credited], w.scale
                )
                order by w.method collate "C", w.currency collate "C"
            ), '[]')
            from (
                select
                    h.method, h.currency, h.scale,
                    sum(h.total) filter (where not h.is_credit) as total,
                    sum(h.tax) filter (where not h.is_credit) as tax,
                    sum(h.total) filter (where h.is_credit) as credited,
                    sum(h.tax) filter (where h.is_credit) as credited_tax
                from payment_shares as h
                group by h.method, h.currency, h.scale
            ) as w
        ),
        'tax_return', (
            select fiscal.tax_return(
                p.tax_currency,
                (
                    select jsonb_agg(jsonb_build_object(
                        'code', w.code, 'rate', fiscal.rate_text(w.rate), 'treatment', w.treatment
                    ) || fiscal.sides(
                        array['base', 'tax'], array[w.base, w.tax], array[w.credited_base, w.credited_tax], p.tax_scale
                    ))
                    from (
                        select
                            a.code, a.rate, a.treatment, sum(g.base_there) filter (where not g.is_credit) as base,
                            sum(g.tax_there) filter (where not g.is_credit) as tax,
                            sum(g.base_there) filter (where g.is_credit) as credited_base,
                            sum(g.tax_there) filter (where g.is_credit) as credited_tax
                        from all_groups as a
                        left join group_lines as g on g.code = a.code and g.rate = a.rate and g.treatment = a.treatment
                        group by a.code, a.rate, a.treatment
                    ) as w
                ),
                (
                    select jsonb_build_array(fiscal.sides(
                        array['tax_as_sealed'], array[sum(x.tax) filter (where not x.is_credit)],
                        array[sum(x.tax) filter (where x.is_credit)], p.tax_scale
                    ))
                    from (
                        select s.is_credit, (coalesce(
                            s.document #>> '{totals,tax_in_reporting_currency}', s.document #>> '{totals,total_tax}'
                        ))::numeric as tax
                        from sold as s
                    ) as x
                )
            )
            from place as p
        )
    ) into figures;
    return figures;
end
$$;
comment on function fiscal.figures is
'Counts and sums of the documents in a range of entries: by type, tax group, currency and means of payment; sales, credits and net. Every group of the manifest in force is there. payments: what was paid, in its own currency; payment_totals: what the documents come to by means of payment, which adds up to grand_totals.';

create function fiscal.sides(names text[], sales numeric[], credits numeric[], scale integer)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
    answer jsonb := jsonb_build_object('sales', '{}'::jsonb, 'credits', '{}'::jsonb, 'net', '{}'::jsonb);
    sold numeric;
    credited numeric;
begin
    for at in 1..cardinality(names) loop
        sold := round(coalesce(sales[at], 0), scale);
        credited := round(coalesce(credits[at], 0), scale);
        answer := jsonb_set(answer, array['sales', names[at]], to_jsonb(sold::text));
        answer := jsonb_set(answer, array['credits', names[at]], to_jsonb(credited::text));
        answer := jsonb_set(answer, array['net', names[at]], to_jsonb((sold - credited)::text));
    end loop;
    return answer;
end
$$;
comment on function fiscal.sides is 'Sums as reports show them: sales, credits, and sales less credits, with the currency''s decimals.';

create function fiscal.rate_text(rate numeric)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return round(rate, greatest(2, scale(trim_scale(rate))))::text;
end
$$;
comment on function fiscal.rate_text is 'A rate as documents write it: at least two decimals.';

create function fiscal.sum_rows(rows jsonb, names text[])
returns jsonb
language plpgsql
immutable
set search_path = ''
set jit = off -- compiling takes longer than a year of reports
as $$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(w.key || w.sums order by
            w.key ->> 'method' collate "C", w.key ->> 'currency' collate "C", w.key ->> 'code' collate "C",
            (w.key ->> 'rate')::numeric, w.key ->> 'treatment' collate "C"
        ), '[]')
        from (
            select s.key, jsonb_object_agg(s.side, s.amounts) as sums
            from (
                select x.key, x.side, jsonb_object_agg(x.name, x.total::text) as amounts
                from (
                    select
                        r.value - '{sales,credits,net}'::text[] as key, i.side, n.name,
                        sum((r.value #>> array[i.side, n.name])::numeric) as total
                    from jsonb_array_elements(sum_rows.rows) as r
                    cross join unnest('{sales,credits,net}'::text[]) as i (side)
                    cross join unnest(sum_rows.names) as n (name)
                    group by 1, 2, 3
                ) as x
                group by x.key, x.side
            ) as s
            group by s.key
        ) as w
    );
end
$$;
comment on function fiscal.sum_rows is
'Adds up rows of reports that have equal names: the same currency, group, rate or means of payment.';

create function fiscal.gather(lists jsonb)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_agg(e.value), '[]')
        from jsonb_array_elements(coalesce(lists, '[]')) as l
        cross join jsonb_array_elements(l.value) as e
    );
end
$$;
comment on function fiscal.gather is 'The rows of several lists as one list.';

create function fiscal.tax_return(currency text, groups jsonb, sealed jsonb)
returns jsonb
language plpgsql
stable
security definer -- callers may not read currencies
set search_path = ''
as $$
declare
    zero jsonb := (
        select fiscal.sides(array['tax_as_sealed'], array[0::numeric], array[0::numeric], c.scale)
        from public.currencies as c
        where c.code = tax_return.currency
    );
begin
    return jsonb_build_object(
        'currency', tax_return.currency,
        'groups', fiscal.sum_rows(groups, array['base', 'tax']),
        'by_treatment', fiscal.sum_rows((
            select coalesce(jsonb_agg(g.value - '{code,rate}'::text[]), '[]') from jsonb_array_elements(groups) as g
        ), array['base', 'tax'])
    )
    -- What the documents themselves say, which rounds once per document and not per group.
    || (fiscal.sum_rows(sealed || zero, array['tax_as_sealed']) -> 0);
end
$$;
comment on function fiscal.tax_return is
'Rows of tax groups added up, and again by treatment: what was taxed, exempt, exported.';

reset role;
