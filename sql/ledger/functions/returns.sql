-- What undoes something: returns by the rail, refunds by the merchant, refunds that bounced, released holds.

set role stalela_owner;

create function ledger.price_returns(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not read the books
set search_path = ''
set plan_cache_mode = 'auto' -- and what is chosen below ends with the function
as $$
#variable_conflict use_column
begin
    perform ledger.choose_plans(cardinality(bookings));
    return array(
        with undoing as (
            select b, b.position, b.wave, b.gross_minor, k.currency, k.event_type, t.is_fee_returned, o.*
            from unnest(bookings) as b
            cross join lateral (select string_to_array(b.kind, '|') as of) as s
            cross join lateral (
                select s.of[1] as tenant_id, s.of[2] as environment, s.of[3] as event_type, s.of[7] as currency
            ) as k
            cross join lateral ledger.tariff(s.of[1], s.of[4], s.of[6], s.of[7], s.of[9]::date) as t
            left join lateral (
                -- A refund undoes another transfer; what the rail returns, and a refund that bounced, undoes itself.
                select j.journal_id as of_journal_id, j.journal_no as of_journal_no, j.related_journal_id as of_related_id
                from ledger.journals as j
                cross join lateral (
                    select case when k.event_type = 'transfer.settled' then b.related_transfer_id else b.transfer_id end as id
                ) as t
                where
                    j.journal_key >= t.id || ':transfer.settled:' and j.journal_key < t.id || ':transfer.settled;'
                    and j.tenant_id = k.tenant_id and j.environment = k.environment
                order by j.journal_key desc
                limit 1
            ) as o on true
        ), booked as (
            select
                u.of_journal_id,
                sum(e.amount_minor) filter (where e.leg in ('fund_in', 'pay_out', 'pay_back')) as gross,
                max(e.currency) filter (where e.leg in ('fund_in', 'pay_out', 'pay_back')) as currency,
                coalesce(sum(e.amount_minor) filter (where e.leg in ('fee', 'fee_return')), 0) as fee,
                coalesce(sum(e.amount_minor) filter (where e.leg in ('fee_tax', 'fee_tax_return')), 0) as tax,
                max(e.currency) filter (where e.leg = 'principal' and e.currency <> u.currency) as fx_currency,
                coalesce(sum(e.amount_minor) filter (where e.leg = 'principal'), 0) as fx,
                coalesce(sum(e.amount_minor) filter (where e.leg = 'fx_loss'), 0)
                - coalesce(sum(e.amount_minor) filter (where e.leg = 'fx_gain'), 0) as fx_promised
            from (select distinct u.of_journal_id, u.of_journal_no, u.currency from undoing as u) as u
            inner join ledger.journal_entries as e on e.journal_no = u.of_journal_no
            group by u.of_journal_id
        ), before as (
            select
                u.of_journal_id,
                coalesce(sum(case e.leg
                    when 'pay_back' then e.amount_minor when 'pay_out_return' then e.amount_minor
                    when 'pay_back_undone' then -e.amount_minor
                end), 0) as gross,
                coalesce(sum(case e.leg when 'fee_return' then e.amount_minor when 'fee_again' then -e.amount_minor end), 0) as fee,
                coalesce(sum(case e.leg
                    when 'fee_tax_return' then e.amount_minor when 'fee_tax_again' then -e.amount_minor
                end), 0) as tax,
                coalesce(sum(e.amount_minor) filter (where e.leg = 'return' and e.currency <> u.currency), 0) as fx,
                coalesce(sum(case e.leg
                    when 'fx_loss_return' then e.amount_minor when 'fx_gain_return' then -e.amount_minor
                end), 0) as fx_promised
            from (select distinct u.of_journal_id, u.currency from undoing as u) as u
            inner join ledger.journals as j on j.related_journal_id = u.of_journal_id
            inner join ledger.journal_entries as e on e.journal_no = j.journal_no
            group by u.of_journal_id
        ), summed as (
            select
                u.*, k.gross as of_gross, k.fee as of_fee, k.tax as of_tax, k.fx as of_fx, k.fx_currency as of_fx_currency,
                k.fx_promised as of_fx_promised, k.currency as of_currency,
                coalesce(p.fee, 0) as fee_before, coalesce(p.tax, 0) as tax_before, coalesce(p.fx, 0) as fx_before,
                coalesce(p.fx_promised, 0) as fx_promised_before,
                coalesce(p.gross, 0) + coalesce(sum(u.gross_minor) over earlier, 0) as returned_before,
                lag(u.position) over earlier is not null as has_earlier
            from undoing as u
            left join booked as k on k.of_journal_id = u.of_journal_id
            left join before as p on p.of_journal_id = u.of_journal_id
            window earlier as (
                partition by u.of_journal_id order by u.position rows between unbounded preceding and 1 preceding
            )
        ), counted as (
            select
                s.*,
                -- A refund says its own amount, a return by the rail all that went back until then.
                case when s.wave = 3 and s.event_type = 'transfer.returned' then s.gross_minor
                    else s.returned_before + s.gross_minor end as returned
            from summed as s
        ), parted as (
            -- Each part is the rounded share of everything returned so far, less what went before: parts add up exactly.
            select
                s.*,
                f.fee - case when s.has_earlier then f.fee_earlier else s.fee_before end as fee_part,
                f.tax - case when s.has_earlier then f.tax_earlier else s.tax_before end as tax_part,
                f.fx - case when s.has_earlier then f.fx_earlier else s.fx_before end as fx_part,
                sign(s.of_fx_promised) * f.promised
                - case when s.has_earlier then sign(s.of_fx_promised) * f.promised_earlier else s.fx_promised_before end as promised_part
            from counted as s
            cross join lateral (
                select
                    ledger.half_even(s.of_fee::bigint, s.returned::bigint, s.of_gross::bigint) as fee,
                    ledger.half_even(s.of_tax::bigint, s.returned::bigint, s.of_gross::bigint) as tax,
                    ledger.half_even(s.of_fx::bigint, s.returned::bigint, s.of_gross::bigint) as fx,
                    ledger.half_even(abs(s.of_fx_promised)::bigint, s.returned::bigint, s.of_gross::bigint) as promised,
                    ledger.half_even(s.of_fee::bigint, s.returned_before::bigint, s.of_gross::bigint) as fee_earlier,
                    ledger.half_even(s.of_tax::bigint, s.returned_before::bigint, s.of_gross::bigint) as tax_earlier,
                    ledger.half_even(s.of_fx::bigint, s.returned_before::bigint, s.of_gross::bigint) as fx_earlier,
                    ledger.half_even(abs(s.of_fx_promised)::bigint, s.returned_before::bigint, s.of_gross::bigint)
                    as promised_earlier
            ) as f
        )
        select jsonb_populate_record(p.b, jsonb_build_object(
            'kind', case
                when p.of_fx_currency is null then (p.b).kind
                else regexp_replace((p.b).kind, '[|][^|]*([|][^|]*)$', '|' || p.of_fx_currency || '\1')
            end,
            'related_journal_id', case when p.wave = 4 then p.of_related_id else p.of_journal_id end,
            'gross_minor', case when p.wave = 4 or p.of_journal_id is null then p.gross_minor else p.returned - p.returned_before end,
            'fee_minor', case when p.wave = 4 then p.of_fee when p.is_fee_returned then p.fee_part else 0 end,
            'tax_minor', case when p.wave = 4 then p.of_tax when p.is_fee_returned then p.tax_part else 0 end,
            'reserve_minor', 0,
            'fx_minor', p.fx_part,
            'fx_quoted_minor', p.fx_part + p.promised_part,
            'problem', case
                when p.of_journal_id is null then 'what it gives back is not booked yet'
                when p.of_currency <> p.currency then format('%s was booked, not %s', p.of_currency, p.currency)
                when p.wave = 4 and p.gross_minor <> p.of_gross then 'a refund comes back whole or not at all'
                when p.wave = 3 and (p.returned > p.of_gross or p.returned < p.returned_before) then 'more is given back than was booked'
            end,
            'is_final', p.of_journal_id is not null
        ))
        from parted as p
        order by p.position
    );
end
$$;
comment on function ledger.price_returns is
'The shares of fee, tax and exchange that go back with a return or refund: exact when whole, in proportion when partial, and parts add up to the whole in any order. Problems: the original is not booked yet; more than it was.';

create function ledger.price_releases(bookings ledger.booking[], kinds text[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write holds
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Most batches hold nothing that could end a hold.
    if not exists (
        select from unnest(kinds) as k (kind)
        where split_part(k.kind, '|', 5) = 'CAPTURE' or split_part(k.kind, '|', 3) in ('transfer.failed', 'hold.expired')
    ) then
        return bookings;
    end if;
    return array(
        select jsonb_populate_record(b, jsonb_build_object('held_minor', ledger.release_hold(b)))
        from unnest(bookings) as b
        order by b.position
    );
end
$$;
comment on function ledger.price_releases is 'Ends the holds that captures, failures and expiries release, and says how much each held. kinds: all there are among them.';

create function ledger.release_hold(booking ledger.booking)
returns bigint
language plpgsql
volatile
security definer -- callers may not write holds
set search_path = ''
as $$
#variable_conflict use_column
declare
    released bigint;
begin
    if split_part(booking.kind, '|', 5) <> 'CAPTURE' and split_part(booking.kind, '|', 3) = 'transfer.settled' then
        return null;
    end if;
    update ledger.holds as h
    set released_at = booking.occurred_at
    where
        h.transfer_id = any(array[booking.transfer_id, booking.related_transfer_id]) and h.released_at is null
        and h.tenant_id = split_part(booking.kind, '|', 1) and h.environment = split_part(booking.kind, '|', 2)
    returning h.amount_minor into released;
    return released;
end
$$;
comment on function ledger.release_hold is 'Ends the hold that a capture, failure or expiry is about; how much it held, null when there is none.';

reset role;
