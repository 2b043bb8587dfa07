-- What a document refers to: the original it corrects, or the advance it follows.

set role stalela_owner;

create function fiscal.original_of(document jsonb, outlet fiscal.outlets, total_minor bigint)
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
        perform public.refuse_field('42275', '/original_fiscal_number', 'this outlet sealed no such document');
    elsif not original.invoice_type = any(kind.refers_to) then
        perform public.refuse_field('42275', '/original_fiscal_number', format(
            'is a %s, and a %s may name one of %s', original.invoice_type, kind.invoice_type, array_to_string(kind.refers_to, ', ')
        ));
    elsif original.currency <> document #>> '{totals,currency}' then
        perform public.refuse_field('42275', '/totals/currency', format('the original is in %s', original.currency));
    end if;
    if kind.needs_original then
        perform fiscal.check_same_taxes(document, original.payload::jsonb);
    end if;
    if kind.is_credit then
        perform fiscal.check_creditable(document, original, original_of.total_minor);
    end if;
    return original;
end
$$;
comment on function fiscal.original_of is
'The document that original_fiscal_number names, when one of this type may name it. 42275, 42276. Under the outlet''s lock.';

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
            '42275', '/tax_group_manifest_version', format('the original is under %s', original ->> 'tax_group_manifest_version')
        );
    end if;
    select used ->> 'code' into strange
    from jsonb_array_elements(document -> 'tax_groups') as used
    where not original -> 'tax_groups' @> jsonb_build_array(jsonb_build_object('code', used ->> 'code'))
    limit 1;
    if found then
        perform public.refuse_field('42275', '/items', format('the original has nothing in tax group %s', strange));
    end if;
end
$$;
comment on function fiscal.check_same_taxes is 'A correction is taxed as its original was: by its manifest, in its groups. 42275.';

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
begin
    select coalesce(sum(i.total_minor), 0) into credited
    from fiscal.invoices as i
    where i.original_invoice_id = original.invoice_id and i.invoice_type in ('credit_note', 'export_credit');
    if credited + check_creditable.total_minor > original.total_minor then
        perform public.refuse_field('42276', '/totals/total', format(
            'at most %s of %s %s is left to credit',
            public.format_amount(original.total_minor - credited::bigint, original.currency),
            public.format_amount(original.total_minor, original.currency), original.currency
        ));
    end if;
    select sold.code, sold.left_over into over
    from (
        select
            line.code,
            sum(line.quantity) as left_over
        from (
            select item ->> 'code' as code, (item ->> 'quantity')::numeric as quantity
            from jsonb_array_elements(original.payload::jsonb -> 'items') as item
            union all
            select item ->> 'code', -(item ->> 'quantity')::numeric
            from fiscal.invoices as i, jsonb_array_elements(i.payload::jsonb -> 'items') as item
            where i.original_invoice_id = original.invoice_id and i.invoice_type in ('credit_note', 'export_credit')
            union all
            select item ->> 'code', -(item ->> 'quantity')::numeric
            from jsonb_array_elements(document -> 'items') as item
        ) as line
        group by line.code
    ) as sold
    where sold.left_over < 0
    order by sold.code
    limit 1;
    if found then
        perform public.refuse_field(
            '42276', '/items', format('%s: more is credited than was sold, by %s', over.code, -over.left_over)
        );
    end if;
end
$$;
comment on function fiscal.check_creditable is
'With all its credits an original never exceeds what it was, in money and in each article. 42276. Under the outlet''s lock.';

reset role;
