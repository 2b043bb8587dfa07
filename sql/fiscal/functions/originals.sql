-- What a document refers to: the original it corrects, or the advance it follows.

set role stalela_owner;

create function fiscal.original_of(sight fiscal.sight, document jsonb, outlet fiscal.outlets, total_minor bigint)
returns fiscal.invoices
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    kind tax.invoice_types;
    original fiscal.invoices;
begin
    select t.* into strict kind
    from tax.invoice_types as t
    where t.jurisdiction = document ->> 'jurisdiction' and t.invoice_type = document ->> 'invoice_type';
    -- Whatever refers to a document is sealed by its own outlet, whose lock we hold: sums stand still.
    select i.* into original
    from fiscal.invoices as i
    where i.fiscal_number = document ->> 'original_fiscal_number' and i.outlet_id = (original_of.outlet).outlet_id;
    if not found then
        perform public.refuse_field(
            '42275', '/original_fiscal_number', 'this outlet sealed no such document: send the number that the original carries'
        );
    elsif kind.needs_original and original.cashier_id <> coalesce((original_of.sight).cashier_id, original.cashier_id) then
        perform public.refuse_field(
            '42275', '/original_fiscal_number', 'was sold by another cashier: they or a supervisor correct it'
        );
    elsif not original.invoice_type = any(kind.refers_to) then
        perform public.refuse_field('42275', '/original_fiscal_number', format(
            'names a document of type %s; %s may name %s', original.invoice_type, kind.invoice_type, array_to_string(kind.refers_to, ', ')
        ));
    elsif original.currency <> document #>> '{totals,currency}' then
        perform public.refuse_field('42275', '/totals/currency', format('must be %s, as the original is', original.currency));
    end if;
    if kind.needs_original then
        perform fiscal.check_same_taxes(document, original.payload::jsonb);
    end if;
    if kind.is_credit then
        if (document #>> '{fx,rate}')::numeric <> (original.payload::jsonb #>> '{fx,rate}')::numeric then
            perform public.refuse_field('42275', '/fx/rate', format(
                'must be %s: a credit is converted as its original was', original.payload::jsonb #>> '{fx,rate}'
            ));
        end if;
        perform fiscal.check_creditable(document, original, original_of.total_minor);
    end if;
    return original;
end
$$;
comment on function fiscal.original_of is
'The document that original_fiscal_number names, when one of this type may name it; a cashier corrects their own. 42275, 42276. Under the outlet''s lock.';

create function fiscal.check_same_taxes(document jsonb, original jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
    strange text;
begin
    if document ->> 'tax_group_manifest_version' <> original ->> 'tax_group_manifest_version' then
        perform public.refuse_field(
            '42275', '/tax_group_manifest_version', format('must be %s, as the original is', original ->> 'tax_group_manifest_version')
        );
    end if;
    select used ->> 'code' into strange
    from jsonb_array_elements(document -> 'tax_groups') as used
    where not original -> 'tax_groups' @> jsonb_build_array(jsonb_build_object('code', used ->> 'code'))
    limit 1;
    if found then
        perform public.refuse_field('42275', '/items', format('has tax group %s, and the original nothing in it: take the groups of its lines', strange));
    end if;
end
$$;
comment on function fiscal.check_same_taxes is 'A correction is taxed as its original was: by its manifest, in its groups. 42275.';

create function fiscal.creditable_parts(document jsonb)
returns table (article text, tax_group text, amount numeric)
language plpgsql
immutable
set search_path = ''
as $$
begin
    return query
    select item ->> 'code', item ->> 'tax_group', (item ->> 'quantity')::numeric
    from jsonb_array_elements(document -> 'items') as item
    union all
    select null, used ->> 'code', (used ->> 'base_amount')::numeric + (used ->> 'tax_amount')::numeric
    from jsonb_array_elements(document -> 'tax_groups') as used;
end
$$;
comment on function fiscal.creditable_parts is
'What of a document is credited bit by bit: quantities of each article as it is taxed, and (article null) money, tax included, of each tax group.';

create function fiscal.check_creditable(document jsonb, original fiscal.invoices, total_minor bigint)
returns void
language plpgsql
volatile
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    credited numeric;
    over record;
    pointer text;
begin
    select coalesce(sum(i.total_minor), 0) into credited
    from fiscal.invoices as i
    where i.original_invoice_id = original.invoice_id and i.invoice_type in ('credit_note', 'export_credit');
    if credited + check_creditable.total_minor > original.total_minor then
        perform public.refuse_field('42276', '/totals/total', format(
            'is %s; of the original''s %s %s at most %s is left to credit',
            public.format_amount(check_creditable.total_minor, original.currency),
            public.format_amount(original.total_minor, original.currency), original.currency,
            public.format_amount(original.total_minor - credited::bigint, original.currency)
        ));
    end if;
    select p.article, p.tax_group, -sum(p.amount) as excess into over
    from (
        select sold.article, sold.tax_group, sold.amount
        from fiscal.creditable_parts(original.payload::jsonb) as sold
        union all
        select given.article, given.tax_group, -given.amount
        from fiscal.invoices as i, fiscal.creditable_parts(i.payload::jsonb) as given
        where i.original_invoice_id = original.invoice_id and i.invoice_type in ('credit_note', 'export_credit')
        union all
        select asked.article, asked.tax_group, -asked.amount from fiscal.creditable_parts(document) as asked
    ) as p
    group by p.article, p.tax_group
    having sum(p.amount) < 0
    order by p.article, p.tax_group
    limit 1;
    if found then
        select format('/items/%s/quantity', max(item.ordinality) - 1) into pointer
        from jsonb_array_elements(document -> 'items') with ordinality as item
        where item.value ->> 'code' = over.article and item.value ->> 'tax_group' = over.tax_group
        having count(*) > 0;
        perform public.refuse_field('42276', coalesce(pointer, '/items'), format(
            'credits %s more of %s than is left of what was sold: credit that much less',
            over.excess, coalesce(over.article, 'tax group ' || over.tax_group)
        ));
    end if;
end
$$;
comment on function fiscal.check_creditable is
'With all its credits an original never exceeds what it was, in money, in each tax group and in each article. 42276. Under the outlet''s lock.';

reset role;
