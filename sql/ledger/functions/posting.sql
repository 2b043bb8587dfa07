-- Posting: entries, journals, chain and balances of a batch, in one statement.

set role stalela_owner;

create function ledger.choose_plans(many integer)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    -- Making the plans takes longer than booking a few events; plans made for a few fit no thousands.
    perform set_config(
        'plan_cache_mode', case when many < 20 then 'force_generic_plan' else 'force_custom_plan' end, true
    );
end
$$;
comment on function ledger.choose_plans is
'For the rest of the function that calls it: plans kept by the session for a few events, plans made for the very batch for many.';

create function ledger.post(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
set plan_cache_mode = 'force_generic_plan' -- where many rows are joined, plans are chosen for them
as $$
#variable_conflict use_column
declare
    refused ledger.booking[] := '{}'::ledger.booking[];
    sorts record;
    batch ledger.booking[] := bookings;
    kinds ledger.kind[];
    legs ledger.planned_leg[];
begin
    for sorts in
        select k.wave, array_agg(k.kind) as kinds, count(*) over () as waves
        -- kind before wave: in the order of waves, all bookings would be sorted for the few kinds that there are.
        from (select distinct b.kind, b.wave from unnest(bookings) as b) as k
        group by k.wave
        order by k.wave
    loop
        if sorts.waves > 1 then
            batch := array(select b from unnest(bookings) as b where b.wave = sorts.wave);
        end if;
        if sorts.wave > 2 then
            batch := ledger.price_returns(batch);
            sorts.kinds := array(select distinct b.kind from unnest(batch) as b where b.problem is null);
        elsif sorts.wave = 2 then
            batch := ledger.price_releases(batch, sorts.kinds);
        end if;
        kinds := ledger.kinds(sorts.kinds);
        legs := ledger.plan(kinds);
        if sorts.wave > 2 or exists (
            select from unnest(kinds) as k where k.kind not in (select l.kind from unnest(legs) as l)
        ) then
            refused := refused || array(
                select jsonb_populate_record(b, jsonb_build_object('problem', coalesce(
                    b.problem, format('no posting rule for %s', b.kind)
                )))
                from unnest(batch) as b
                where
                    b.problem is not null
                    or b.kind in (select k.kind from unnest(kinds) as k except select l.kind from unnest(legs) as l)
            );
            batch := array(select b from unnest(batch) as b where b.problem is null);
        end if;
        perform ledger.write(batch, kinds, legs);
    end loop;
    return refused;
end
$$;
comment on function ledger.post is
'Books a batch under the locks of its chains, and returns those bookings that could not be, each with its problem. Raises when the books would be wrong, and then nothing of the batch is booked.';

create function ledger.without_refused(bookings ledger.booking[], refused ledger.booking[])
returns ledger.booking[]
language plpgsql
immutable
set search_path = ''
as $$
#variable_conflict use_column
begin
    return array(
        select b
        from unnest(bookings) as b
        where
            b.problem is null
            and not exists (
                select from unnest(refused) as r
                where r.transfer_id = b.transfer_id and r.position < b.position
            )
        order by b.position
    );
end
$$;
comment on function ledger.without_refused is
'What is left of a batch: neither the refused nor what came behind them of the same transfer, which waits in the outbox until they are settled.';

create function ledger.write(bookings ledger.booking[], kinds ledger.kind[], legs ledger.planned_leg[])
returns void
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
set plan_cache_mode = 'auto' -- and what is chosen below ends with the function
set jit = off -- joins of sets without statistics look expensive, and compiling the plan is
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
    crossed record;
begin
    perform ledger.choose_plans(cardinality(bookings));
    for crossed in
        with chains as materialized (
            select
                row_number() over (order by c.tenant_id, c.environment) as chain_no, c.tenant_id, c.environment,
                c.head_number, c.head_hash, greatest(moment, c.posted_at) as posted_at
            from ledger.chains as c
            where (c.tenant_id, c.environment) in (select k.tenant_id, k.environment from unnest(kinds) as k)
        ), charted as materialized (
            -- Once per kind: its chain, and the words that all its journals begin with.
            select
                k.*, coalesce(k.fx_currency, k.currency) as fee_currency,
                concat_ws(
                    E'\n', 'stalela.journal.v1', k.tenant_id, k.environment, k.event_type, k.period_id, k.rules_version,
                    k.memo
                ) as head,
                row_number() over () as kind_no, c.chain_no, c.head_number, c.posted_at, c.posted_at || E'\n' as posted
            from unnest(kinds) as k
            -- Outer joins that always match: the planner then expects what is there, not one row.
            left join chains as c on c.tenant_id = k.tenant_id and c.environment = k.environment
        ), legged as materialized (
            select
                k.kind_no, l.*,
                concat_ws(E'\t', l.leg_no, l.leg, l.debit_code, l.credit_code, l.currency, '') as head,
                array_position(
                    '{gross,net,fee,tax,surcharge,reserve,held,fx_settled,fx_loss,fx_gain}', l.amount
                ) as amount_place
            from unnest(legs) as l
            inner join charted as k on k.kind = l.kind
        ), charged as (
            select
                b.*, k.kind_no, k.chain_no, k.tax_bps, k.reserve_bps, coalesce(b.fx_minor, b.gross_minor) as base_minor,
                coalesce(
                    b.fee_minor,
                    case k.rate_bps
                        when 0 then 0
                        else ledger.half_even(coalesce(b.fx_minor, b.gross_minor), k.rate_bps, 10000)
                    end + k.fixed_minor
                ) as fee
            from unnest(bookings) as b
            left join charted as k on k.kind = b.kind
            order by k.chain_no, b.position
        ), priced as (
            select
                h.*,
                coalesce(h.tax_minor, case h.tax_bps when 0 then 0 else ledger.half_even(h.fee, h.tax_bps, 10000) end) as tax,
                coalesce(
                    h.reserve_minor,
                    case h.reserve_bps when 0 then 0 else ledger.half_even(h.base_minor, h.reserve_bps, 10000) end
                ) as reserve
            from charged as h
        ), booked as materialized (
            select
                -- Chain by chain, each in its order.
                nextval('ledger.journal_no') as journal_no, p.kind_no, p.chain_no, p.journal_id, p.journal_key,
                p.event_id, p.transfer_id, p.occurred_at, p.related_journal_id, p.memo, p.gross_minor,
                p.gross_minor - p.fee - p.tax - p.surcharge_minor as net, p.fee, p.tax, p.surcharge_minor, p.reserve,
                p.held_minor, p.fx_minor, p.fx_quoted_minor - p.fx_minor as fx_loss
            from priced as p
        ), used as materialized (
            -- Legs for which no event of their kind has an amount are most, and would be joined with each event.
            select l.*
            from legged as l
            inner join (
                select
                    b.kind_no,
                    -- In the order of amount_place.
                    array[
                        max(b.gross_minor), max(b.net), max(b.fee), max(b.tax), max(b.surcharge_minor), max(b.reserve),
                        max(b.held_minor), max(b.fx_minor), max(b.fx_loss), max(-b.fx_loss)
                    ] as greatest_minor
                from booked as b
                group by b.kind_no
            ) as o on o.kind_no = l.kind_no
            where l.amount_place is null or o.greatest_minor[l.amount_place] > 0
        ), entries as materialized (
            select
                b.journal_no, l.leg_no, l.leg, l.debit_account_id, l.credit_account_id, l.currency,
                l.is_memo, l.head || a.minor as line, a.minor
            from booked as b
            left join used as l on l.kind_no = b.kind_no
            cross join lateral (
                select case l.amount_place
                    when 1 then b.gross_minor
                    when 2 then b.net
                    when 3 then b.fee
                    when 4 then b.tax
                    when 5 then b.surcharge_minor
                    when 6 then b.reserve
                    when 7 then b.held_minor
                    when 8 then b.fx_minor
                    when 9 then b.fx_loss
                    when 10 then -b.fx_loss
                    else l.amount_minor
                end as minor
            ) as a
            where a.minor > 0
        ), entries_written as (
            insert into ledger.journal_entries (
                journal_no, leg_no, leg, debit_account_id, credit_account_id, amount_minor, currency
            )
            select e.journal_no, e.leg_no, e.leg, e.debit_account_id, e.credit_account_id, e.minor, e.currency
            from entries as e
        ), lined as (
            -- Sorted once: an order inside of the aggregate would be a sort for each journal.
            select e.journal_no, string_agg(e.line, E'\n') as lines, bool_and(e.is_memo) as is_memo
            from (select n.journal_no, n.line, n.is_memo from entries as n order by n.journal_no, n.leg_no) as e
            group by e.journal_no
        ), numbered as (
            -- Here, because what moves nothing has no entries and takes no number.
            select
                b.chain_no, b.journal_no, l.is_memo,
                k.head_number + row_number() over (partition by b.chain_no order by b.journal_no) as number,
                -- ledger.journal_content before and after the number: verification compares every word of it.
                k.head || b.memo || E'\n' as words_before,
                E'\n' || b.journal_id || E'\n' || b.journal_key || E'\n' || coalesce(b.event_id, '') || E'\n'
                || coalesce(b.transfer_id, '') || E'\n' || b.occurred_at || E'\n' || k.posted
                || coalesce(b.related_journal_id, '') || E'\n' || l.is_memo::text || E'\n' || l.lines as words_after
            from booked as b
            inner join lined as l on l.journal_no = b.journal_no
            left join charted as k on k.kind_no = b.kind_no
        ), linked as materialized (
            select c.*, o.journal_nos, o.are_memo, ledger.link_all(c.head_hash, o.contents) as hashes
            from (
                select
                    n.chain_no, array_agg(n.journal_no) as journal_nos, array_agg(n.is_memo) as are_memo,
                    array_agg(n.words_before || n.number || n.words_after) as contents
                from (select n.* from numbered as n order by n.chain_no, n.journal_no) as n
                group by n.chain_no
            ) as o
            inner join chains as c on c.chain_no = o.chain_no
        ), journals_written as (
            insert into ledger.journals (
                journal_no, journal_id, journal_key, tenant_id, environment, number, event_id, event_type, transfer_id,
                occurred_at, posted_at, period_id, rules_version, related_journal_id, is_memo, memo, hash
            )
            select
                b.journal_no, b.journal_id, b.journal_key, k.tenant_id, k.environment, k.head_number + h.place,
                b.event_id, k.event_type, b.transfer_id, b.occurred_at, k.posted_at, k.period_id, k.rules_version,
                b.related_journal_id, h.is_memo, k.memo || b.memo, h.hash
            -- Once more, and not kept from above: rows as wide as these take longer to keep than to join.
            from booked as b
            left join charted as k on k.kind_no = b.kind_no
            inner join (
                select u.*
                from linked as l
                cross join lateral unnest(l.journal_nos, l.are_memo, l.hashes)
                with ordinality as u (journal_no, is_memo, hash, place)
            ) as h on h.journal_no = b.journal_no
        ), chains_written as (
            update ledger.chains as c
            set
                head_number = l.head_number + cardinality(l.hashes), head_hash = l.hashes[cardinality(l.hashes)],
                posted_at = l.posted_at
            from linked as l
            where c.tenant_id = l.tenant_id and c.environment = l.environment
        ), held as (
            insert into ledger.holds (
                transfer_id, tenant_id, environment, rail, currency, amount_minor, placed_at, expires_at
            )
            select
                b.transfer_id, k.tenant_id, k.environment, k.rail, k.currency, b.held_minor, b.occurred_at,
                b.occurred_at + make_interval(secs => public.setting('ledger.hold_lifetime_s')::integer)
            from booked as b
            inner join charted as k on k.kind_no = b.kind_no
            where k.event_type = 'transfer.accepted'
        ), reserved as (
            insert into ledger.reserves (journal_no, tenant_id, environment, rail, currency, amount_minor, due_at)
            select
                b.journal_no, k.tenant_id, k.environment, k.rail, k.fee_currency, e.minor,
                b.occurred_at + make_interval(days => k.reserve_days)
            from booked as b
            inner join charted as k on k.kind_no = b.kind_no
            inner join entries as e on e.journal_no = b.journal_no and e.leg = 'reserve'
            where b.reserve > 0
        ), deltas as (
            select m.account_id, sum(m.minor)::bigint as delta
            from (
                select e.debit_account_id, e.credit_account_id, sum(e.minor) as minor
                from entries as e
                group by e.debit_account_id, e.credit_account_id
            ) as e
            cross join lateral (
                values (e.debit_account_id, e.minor), (e.credit_account_id, -e.minor)
            ) as m (account_id, minor)
            group by m.account_id
            having sum(m.minor) <> 0
            order by m.account_id
        ), moved as (
            update ledger.balances as b
            set balance_minor = b.balance_minor + d.delta, as_of = moment, version = b.version + 1
            from deltas as d
            where b.account_id = d.account_id
            returning b.account_id, b.balance_minor, d.delta
        )
        select a.*
        from moved as m
        inner join ledger.accounts as a on a.account_id = m.account_id
        cross join lateral (select case a.normal_side when 'debit' then 1 else -1 end as side) as s
        where
            a.when_negative = 'warn'
            and m.balance_minor * s.side < 0 and (m.balance_minor - m.delta) * s.side >= 0
    loop
        perform public.raise_alert(
            'ledger_balance_negative', 'warning',
            concat_ws(':', crossed.tenant_id, crossed.environment, crossed.code, crossed.currency),
            crossed.tenant_id, crossed.environment,
            jsonb_build_object('account', crossed.code, 'currency', crossed.currency)
        );
    end loop;
end
$$;
comment on function ledger.write is
'Writes a batch: entries, chained journals, and the change of each balance, once per account in the order of their ids. Not for callers: ledger.post and the manual journals prepare what it is given, under the locks of its chains.';

-- What the shape of the tables cannot say, once per statement.

create function ledger.check_entries()
returns trigger
language plpgsql
volatile
security definer -- reads accounts for whoever writes
set search_path = ''
as $$
#variable_conflict use_column
declare
    wrong bigint;
begin
    select e.journal_no into wrong
    from (
        select w.debit_account_id, w.credit_account_id, w.currency, min(w.journal_no) as journal_no
        from written as w
        group by w.debit_account_id, w.credit_account_id, w.currency
    ) as e
    left join ledger.accounts as d on d.account_id = e.debit_account_id
    left join ledger.accounts as c on c.account_id = e.credit_account_id
    where
        coalesce(
            d.tenant_id <> c.tenant_id or d.environment <> c.environment
            or d.currency <> e.currency or c.currency <> e.currency
            or d.status <> 'active' or c.status <> 'active'
            or (d.class = 'memo') <> (c.class = 'memo'),
            true
        )
    limit 1;
    if found then
        raise exception 'an entry of journal % joins accounts that do not belong together', wrong
            using errcode = 'check_violation';
    end if;
    return null;
end
$$;
comment on function ledger.check_entries is
'Both accounts of an entry exist, are active, belong to one tenant and environment, have the entry''s currency, and are both memo accounts or neither.';

create function ledger.check_journals()
returns trigger
language plpgsql
volatile
security definer -- reads entries for whoever writes
set search_path = ''
as $$
#variable_conflict use_column
declare
    wrong bigint;
begin
    select t.journal_no into wrong
    from (
        select w.tenant_id, w.environment, e.debit_account_id, min(w.journal_no) as journal_no
        from written as w
        left join (
            -- Their entries stand together: one range instead of a look for each.
            select r.journal_no, r.debit_account_id
            from ledger.journal_entries as r
            where r.journal_no between (select min(m.journal_no) from written as m) and (select max(m.journal_no) from written as m)
        ) as e on e.journal_no = w.journal_no
        group by w.tenant_id, w.environment, e.debit_account_id
    ) as t
    left join ledger.accounts as a on a.account_id = t.debit_account_id
    where coalesce(a.tenant_id <> t.tenant_id or a.environment <> t.environment, true)
    limit 1;
    if found then
        raise exception 'journal % has no entries of its tenant', wrong using errcode = 'check_violation';
    end if;
    return null;
end
$$;
comment on function ledger.check_journals is 'A journal is written together with its entries, which are in accounts of its tenant and environment.';

reset role;
