-- Money on the wire.

set role stalela_owner;

create function public.format_amount(minor bigint, currency text)
returns text
language plpgsql
stable
security definer -- callers may not read currencies
set search_path = ''
as $$
begin
    return (
        -- A product has the decimals of its factors, so this is exact at every scale; a quotient would be rounded.
        select (minor * ('1e-' || c.scale)::numeric)::text
        from public.currencies as c
        where c.code = format_amount.currency
    );
end
$$;
comment on function public.format_amount is
'Minor units as a decimal string with exactly the currency''s decimals: 10000 KES is 100.00. Null for a currency that does not exist.';

reset role;
