-- From events to bookings: what they say, and whether that can be booked.

set role stalela_owner;

create function ledger.read_events(batch payments.delivery[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not read currencies and holds
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
set plan_cache_mode = 'auto' -- and what is chosen below ends with the function
as $$
#variable_conflict use_column
begin
    perform ledger.choose_plans(cardinality(batch));
    return array(
        select row(
            concat_ws(
                '|', m.tenant_id, m.environment, m.event_type, m.purpose, m.intent, m.rail, m.currency,
                coalesce(m.fx_currency, ''), m.occurred_at::date
            ),
            m.wave + (m.purpose = 'refund')::integer,
            m.ordinality, m.outbox_id, m.event_id, 'jrnl_' || right(m.event_id, -4),
            m.ordering_key || ':' || m.event_type || ':' || m.seq,
            m.ordering_key, m.related_id, m.occurred_at,
            m.gross_minor, null, null, m.surcharge_minor, null,
            case when m.condition = 'authorises' then m.gross_minor end,
            m.fx_minor, m.fx_quoted_minor, null, '',
            case
                when m.condition is null then format('the books know no event of type %s', m.event_type)
                when m.payload ->> 'schema_version' <> '1'
                    then format('the books know no version %s of %s', m.payload ->> 'schema_version', m.event_type)
                when m.scale is null then format('the currency %s does not exist', coalesce(m.currency, 'null'))
                when m.rail is null then 'the event names no rail'
                when m.gross_minor is null or m.gross_minor <= 0
                    then format('%s is no amount of %s', coalesce(m.amount, 'null'), m.currency)
                when m.surcharge_minor is null or m.surcharge_minor < 0
                    then format('%s is no amount of %s', m.surcharge, m.currency)
                when m.fx is not null and (m.fx_minor is null or m.fx_quoted_minor is null)
                    then format('%s names no exchange', m.fx)
            end,
            true
        )::ledger.booking
        from (
            select
                t.*, c.scale,
                -- As ledger.minor, without the call: digits that a bigint holds, and the point where the scale says.
                case
                    when
                        length(t.amount) between c.scale + case c.scale when 0 then 1 else 2 end and 18
                        and translate(t.amount, '0123456789', '') = case c.scale when 0 then '' else '.' end
                        and position('.' in reverse(t.amount)) = case c.scale when 0 then 0 else c.scale + 1 end
                        then replace(t.amount, '.', '')::bigint
                end as gross_minor,
                case when t.surcharge is null then 0 else ledger.minor(t.surcharge, c.scale) end as surcharge_minor,
                case when t.fx is not null then ledger.minor(t.fx ->> 'settlement_amount', s.scale) end as fx_minor,
                case when t.fx is not null then ledger.minor(
                    coalesce(t.fx ->> 'quoted_amount', t.fx ->> 'settlement_amount'), s.scale
                ) end as fx_quoted_minor
            from (
                select
                    d.*, e.wave, e.condition,
                    coalesce(d.payload ->> 'purpose', 'collection') as purpose,
                    coalesce(d.payload ->> 'intent', 'PULL') as intent,
                    d.payload ->> 'rail' as rail,
                    d.payload ->> 'currency' as currency,
                    case
                        when e.condition = 'not_by_refund'
                            then coalesce(d.payload ->> 'returned_amount', d.payload ->> 'amount')
                        else d.payload ->> 'amount'
                    end as amount,
                    d.payload ->> 'fee' as surcharge,
                    d.payload ->> 'related_transfer_id' as related_id,
                    d.payload -> 'fx' as fx,
                    d.payload -> 'fx' ->> 'settlement_currency' as fx_currency
                from unnest(batch) with ordinality as d
                left join ledger.event_types as e on e.event_type = d.event_type
                -- Each word is looked up once, however often it is used.
                offset 0
            ) as t
            left join public.currencies as c on c.code = t.currency
            left join public.currencies as s on s.code = t.fx_currency
            where
                t.condition is null
                or t.wave is not null and case t.condition
                    when 'authorises' then t.intent = 'AUTH'
                    when 'not_by_refund' then t.payload ->> 'triggered_by' is distinct from 'refund'
                    when 'holds' then exists (
                        select from ledger.holds as h where h.transfer_id in (t.ordering_key, t.related_id)
                    )
                    else true
                end
            offset 0
        ) as m
    );
end
$$;
comment on function ledger.read_events is
'What the events of a batch ask of the books, position being their order; those that book nothing are left out, those that cannot be booked have a problem. Raises for no event, whatever it says.';

create function ledger.kinds(kinds text[])
returns ledger.kind[]
language plpgsql
stable
security definer -- callers may not read tariffs and periods
set search_path = ''
as $$
#variable_conflict use_column
begin
    return array(
        select row(
            k.kind, k.of[1], k.of[2], k.of[3], k.of[4], k.of[5], k.of[6], k.of[7], nullif(k.of[8], ''),
            p.period_id,
            case when p.period_id <> left(k.of[9], 7) then format('occurred in %s, which is closed', left(k.of[9], 7)) else '' end,
            t.rate_bps, t.fixed_minor, t.tax_bps, t.reserve_bps, t.reserve_days,
            public.setting('ledger.rules_version')::integer
        )::ledger.kind
        from (select n.kind, string_to_array(n.kind, '|') as of from unnest(kinds) as n (kind)) as k
        cross join lateral ledger.tariff(k.of[1], k.of[4], k.of[6], coalesce(nullif(k.of[8], ''), k.of[7]), k.of[9]::date) as t
        cross join lateral (select ledger.period_for(k.of[1], k.of[2], k.of[9]::date) as period_id) as p
    );
end
$$;
comment on function ledger.kinds is 'The kinds of event in a batch, each with its tariff and the period that takes it. Under the locks of the chains, so that periods stand still.';

create function ledger.tariff(
    tenant_id text, purpose text, rail text, currency text, occurred_on date,
    out rate_bps integer, out fixed_minor bigint, out tax_bps integer, out reserve_bps integer,
    out reserve_days integer, out is_fee_returned boolean
)
language plpgsql
stable
security definer -- callers may not read tariffs
set search_path = ''
as $$
#variable_conflict use_column
begin
    select t.rate_bps, t.fixed_minor, t.tax_bps, t.reserve_bps, t.reserve_days, t.is_fee_returned
    into rate_bps, fixed_minor, tax_bps, reserve_bps, reserve_days, is_fee_returned
    from ledger.tariffs as t
    where
        (t.tenant_id = tariff.tenant_id or t.tenant_id is null)
        and t.purpose in (tariff.purpose, '*')
        and t.rail in (tariff.rail, '*')
        and t.currency in (tariff.currency, '*')
        and t.valid_from <= tariff.occurred_on
        and (t.valid_until is null or t.valid_until > tariff.occurred_on)
    order by t.tenant_id is null, t.purpose = '*', t.rail = '*', t.currency = '*', t.valid_from desc, t.tariff_id
    limit 1;
    if not found then
        rate_bps := 0;
        fixed_minor := 0;
        tax_bps := 0;
        reserve_bps := 0;
        reserve_days := 0;
        is_fee_returned := true;
    end if;
end
$$;
comment on function ledger.tariff is 'The tariff of a tenant''s transfer on a day: its own before everybody''s, the more particular before the general. None is free.';

create function ledger.period_for(tenant_id text, environment text, occurred_on date)
returns text
language plpgsql
stable
security definer -- callers may not read periods
set search_path = ''
as $$
#variable_conflict use_column
declare
    month date := date_trunc('month', occurred_on)::date;
begin
    if not exists (
        select from ledger.periods as p
        where
            p.tenant_id = period_for.tenant_id and p.environment = period_for.environment
            and p.period_id = to_char(month, 'YYYY-MM') and p.status <> 'open'
    ) then
        return to_char(month, 'YYYY-MM');
    end if;
    -- The present month, or the first after it that still takes entries.
    month := greatest(month, date_trunc('month', now() at time zone 'UTC')::date);
    while exists (
        select from ledger.periods as p
        where
            p.tenant_id = period_for.tenant_id and p.environment = period_for.environment
            and p.period_id = to_char(month, 'YYYY-MM') and p.status <> 'open'
    ) loop
        month := (month + interval '1 month')::date;
    end loop;
    return to_char(month, 'YYYY-MM');
end
$$;
comment on function ledger.period_for is 'The period that takes what occurred on a day (UTC): its own month, or the open one when that is closing or closed.';

reset role;
