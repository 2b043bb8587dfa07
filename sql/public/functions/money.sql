-- Money on the wire.

set role stalela_owner;

create function public.format_amount(minor bigint, currency text)
returns text
language plpgsql
stable
security definer -- callers may not read currencies
set search_path = ''
as $$
declare
    scale smallint;
    digits text := ltrim(minor::text, '-');
    minus text := case when minor < 0 then '-' else '' end;
begin
    select c.scale into scale from public.currencies as c where c.code = format_amount.currency;
    if scale = 0 then
        return minor::text;
    end if;
    digits := lpad(digits, greatest(length(digits), scale + 1), '0');
    return minus || left(digits, -scale) || '.' || right(digits, scale);
end
$$;
comment on function public.format_amount is
'Minor units as a decimal string with exactly the currency''s decimals: 10000 KES is 100.00. Null for a currency that does not exist.';

reset role;
