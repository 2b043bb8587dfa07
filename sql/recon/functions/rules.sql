-- The matching rules, in their order; the first hit wins. Each takes what it matches out of the open sets.

set role stalela_owner;

create function recon.match_receipts(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
set enable_sort = off -- fresh lines have no statistics: counting them by hash costs half as much
as $$
begin
    insert into recon.matches (
        line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
    )
    select
        l.line_id, o.transfer_id, 'settle', 'rail_reference', l.amount_minor, l.fee_minor, run.tenant_id,
        run.environment, run.run_id
    from recon.statement_lines as l
    inner join recon.our_side as o
        on
            o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
            and o.receipt = l.external_ref
            and o.amount_minor = l.amount_minor + l.fee_minor
            and o.currency = l.currency
            and o.direction = l.direction
    where
        l.statement_no = any(run.statement_nos)
        and l.type in ('payment', 'return')
        and o.is_settled
        and not exists (select from recon.matches as m where m.transfer_id = o.transfer_id and m.leg = 'settle')
        -- Receipts are unique on our side. Where lines share one, the next rule pairs copy with copy.
        and l.external_ref not in (
            select d.external_ref
            from recon.statement_lines as d
            where d.statement_no = any(run.statement_nos) and d.type in ('payment', 'return') and d.external_ref is not null
            group by d.external_ref
            having count(*) > 1
        )
    -- Rows and index entries in the order of the lines, which is nearly that of the transfers.
    order by l.line_id;
end
$$;
comment on function recon.match_receipts is
'Rule 1 over whole statements: the rail''s receipt, currency, direction and exact amount of a settled transfer that has no line yet.';

create function recon.match_references(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    pair record;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, occurred_at timestamptz, external_ref text, our_ref text, linked_ref text, acq_ref text, auth_code text)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, state text, is_settled boolean, direction text, amount_minor bigint, net_minor bigint, currency text, receipt text, rail_ref text, linked_ref text, moved_at timestamptz, transfer_ref text, originator_ref text, account_ref text)';
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text, is_settled boolean, class integer, amount_minor bigint)';
    -- A line may name two transfers by two references, and gets one; a second round serves who went without.
    for round in 1..3 loop
        create temp table pairs on commit drop as
        with theirs as (
            select
                l.line_id, k.class, k.key, l.direction, l.currency, l.amount_minor, l.fee_minor, l.gross_minor,
                row_number() over (
                    partition by k.class, k.key, l.direction, l.currency, l.gross_minor
                    order by l.occurred_at, l.line_id
                ) as copy
            from pg_temp.open_lines as l
            cross join lateral (
                values
                (1, l.external_ref), (1, case when l.auth_code is null then l.acq_ref end),
                (1, 'reverses ' || l.linked_ref), (2, l.our_ref)
            ) as k (class, key)
            where k.key is not null and l.type in ('payment', 'return')
        ), ours as (
            select
                t.transfer_id, k.class, k.key, t.direction, t.currency, t.is_settled, a.amount_minor,
                row_number() over (
                    partition by k.class, k.key, t.direction, t.currency, a.amount_minor
                    order by t.is_settled desc, t.moved_at, t.transfer_id
                ) as copy
            from pg_temp.open_transfers as t
            cross join lateral (
                values
                (1, t.receipt), (1, t.rail_ref), (1, 'reverses ' || t.linked_ref),
                (2, t.transfer_ref), (2, t.originator_ref), (2, t.account_ref)
            ) as k (class, key)
            -- Exact, or with the rail's fee taken off; the same when it keeps none.
            cross join lateral (
                select distinct v.minor from (values (t.amount_minor), (t.net_minor)) as v (minor)
            ) as a (amount_minor)
            where
                k.key is not null and t.state <> 'refused' and (t.is_settled or t.state in ('SUBMITTED', 'ACCEPTED'))
        ), candidates as (
            select
                l.line_id, o.transfer_id, o.is_settled, l.class, l.amount_minor,
                row_number() over (partition by l.line_id order by l.class, o.transfer_id) as of_line,
                row_number() over (partition by o.transfer_id order by l.class, l.line_id) as of_transfer
            from theirs as l
            inner join ours as o
                on
                    o.class = l.class and o.key = l.key and o.direction = l.direction and o.currency = l.currency
                    and o.amount_minor = l.gross_minor and o.copy = l.copy
        )
        select c.line_id, c.transfer_id, c.is_settled, c.class, c.amount_minor
        from candidates as c
        where c.of_line = 1 and c.of_transfer = 1;
        exit when not exists (select from pg_temp.pairs);

        -- The rail says that money moved which we still ask about, or tells the receipt that no query told: the
        -- transfer takes it, or a person is asked.
        for pair in
            select p.line_id, p.transfer_id
            from pg_temp.pairs as p
            inner join pg_temp.open_transfers as t on t.transfer_id = p.transfer_id
            inner join pg_temp.open_lines as l on l.line_id = p.line_id
            where not p.is_settled or (t.receipt is null and l.external_ref is not null)
            order by p.transfer_id
        loop
            if not recon.report_success(pair.line_id, pair.transfer_id) then
                delete from pg_temp.pairs as p where p.line_id = pair.line_id;
                update pg_temp.open_transfers as t set state = 'refused' where t.transfer_id = pair.transfer_id;
            end if;
        end loop;
        insert into recon.matches (
            line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
        )
        select
            p.line_id, p.transfer_id, 'settle', case p.class when 1 then 'rail_reference' else 'our_reference' end,
            p.amount_minor, t.amount_minor - p.amount_minor, run.tenant_id, run.environment, run.run_id
        from pg_temp.pairs as p
        inner join pg_temp.open_transfers as t on t.transfer_id = p.transfer_id
        order by p.line_id;
        perform recon.close_pairs();
    end loop;
    drop table if exists pg_temp.pairs;
end
$$;
comment on function recon.match_references is
'Rules 1 and 2 over what is left: any reference of the rail''s, then any of ours, with currency, direction and the amount, exact or less the configured fee; the n-th copy with the n-th. An open transfer is reported as settled late.';

create function recon.close_pairs()
returns void
language plpgsql
volatile
security definer -- callers may not read lines
set search_path = ''
as $$
begin
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text)';
    perform 'pragma:table: pg_temp.open_lines(line_id bigint)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text)';
    delete from pg_temp.open_lines as l using pg_temp.pairs as p where p.line_id = l.line_id;
    delete from pg_temp.open_transfers as t using pg_temp.pairs as p where p.transfer_id = t.transfer_id;
    drop table pg_temp.pairs;
end
$$;
comment on function recon.close_pairs is 'Takes the pairs that a rule made out of both open sets.';

create function recon.report_success(line_id bigint, transfer_id text)
returns boolean
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
    disposition text;
    state text;
begin
    select l.* into strict line from recon.statement_lines as l where l.line_id = report_success.line_id;
    disposition := rails.apply_event(report_success.transfer_id, jsonb_build_object(
        'outcome', 'succeeded', 'source', 'recon', 'receipt', line.external_ref,
        'amount_minor', line.amount_minor + line.fee_minor, 'currency', line.currency, 'code', null
    ), 'recon', true);
    select t.state into strict state from payments.transfers as t where t.transfer_id = report_success.transfer_id;
    return disposition in ('applied', 'duplicate') and state = 'SETTLED';
exception when sqlstate 'PT409' then
    return false;
end
$$;
comment on function recon.report_success is
'Tells payments that the rail''s statement shows the money of a transfer, and its receipt; whether the transfer is settled with it.';

create function recon.match_returns(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    line record;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, our_ref text, linked_ref text)';
    for line in
        select distinct on (o.transfer_id) l.line_id, o.transfer_id, o.state, l.amount_minor, l.fee_minor
        from pg_temp.open_lines as l
        inner join recon.our_side as o
            on
                o.tenant_id = run.tenant_id and o.environment = run.environment and o.rail = run.rail
                and (o.receipt = l.linked_ref or o.transfer_id = lower(l.our_ref))
                and o.amount_minor = l.gross_minor
                and o.currency = l.currency
                and o.direction <> l.direction
        where
            l.type = 'return' and o.is_settled
            and not exists (
                select from recon.matches as m where m.transfer_id = o.transfer_id and m.leg = 'return'
            )
        order by o.transfer_id, l.line_id
    loop
        if line.state = 'RETURNED' or recon.report_return(line.transfer_id) then
            insert into recon.matches (
                line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
            ) values (
                line.line_id, line.transfer_id, 'return', 'rail_reference', line.amount_minor, line.fee_minor,
                run.tenant_id, run.environment, run.run_id
            );
            delete from pg_temp.open_lines as l where l.line_id = line.line_id;
        end if;
    end loop;
end
$$;
comment on function recon.match_returns is
'A return line that names the receipt, or our transfer, that it gives back in full: the transfer is reported as returned, once.';

create function recon.report_return(transfer_id text)
returns boolean
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    state text;
begin
    perform rails.apply_event(
        report_return.transfer_id, '{"outcome": "returned", "source": "recon"}'::jsonb, 'recon', true
    );
    select t.state into strict state from payments.transfers as t where t.transfer_id = report_return.transfer_id;
    return state = 'RETURNED';
exception when sqlstate 'PT409' then
    return false;
end
$$;
comment on function recon.report_return is 'Tells payments that the rail''s statement shows a transfer''s money gone back; whether that returned it.';

create function recon.match_party_and_day(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set work_mem = '64MB'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    shift integer;
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, value_date date, occurred_at timestamptz, party_hash text, acq_ref text, auth_code text)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, is_settled boolean, direction text, amount_minor bigint, currency text, receipt text, rail_ref text, party_hash text, moved_at timestamptz, moved_on date)';
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text, amount_minor bigint, fee_minor bigint)';
    -- Days as equality joins, nearest first: a range would compare everything with everything.
    for shift in
        select s.shift
        from generate_series(-(run.rules).day_tolerance, (run.rules).day_tolerance) as s (shift)
        order by abs(s.shift), s.shift
    loop
        create temp table pairs on commit drop as
        with theirs as (
            select
                l.line_id, l.amount_minor, l.fee_minor, l.gross_minor, l.direction, l.currency, k.key,
                recon.day_number(l.value_date, (run.rules).banking_days) + shift as day,
                row_number() over (
                    partition by k.key, l.direction, l.currency, l.gross_minor, l.value_date
                    order by l.occurred_at, l.line_id
                ) as copy
            from pg_temp.open_lines as l
            cross join lateral (values (coalesce(l.acq_ref || ' ' || l.auth_code, l.party_hash))) as k (key)
            where l.type in ('payment', 'return') and k.key is not null
        ), ours as (
            select
                t.transfer_id, t.amount_minor, t.direction, t.currency, k.key,
                recon.day_number(t.moved_on, (run.rules).banking_days) as day,
                row_number() over (
                    partition by k.key, t.direction, t.currency, t.amount_minor, t.moved_on
                    order by t.moved_at, t.transfer_id
                ) as copy
            from pg_temp.open_transfers as t
            cross join lateral (values (t.rail_ref || ' ' || t.receipt), (t.party_hash)) as k (key)
            -- A resemblance never settles anything.
            where t.is_settled and k.key is not null
        )
        select distinct on (o.transfer_id) l.line_id, o.transfer_id, l.amount_minor, l.fee_minor
        from theirs as l
        inner join ours as o
            on
                o.key = l.key and o.amount_minor = l.gross_minor and o.currency = l.currency
                and o.direction = l.direction and o.day = l.day and o.copy = l.copy
        order by o.transfer_id, l.line_id;
        insert into recon.matches (
            line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment, run_id
        )
        select
            p.line_id, p.transfer_id, 'settle', 'party_and_day', p.amount_minor, p.fee_minor, run.tenant_id,
            run.environment, run.run_id
        from pg_temp.pairs as p
        order by p.line_id;
        perform recon.close_pairs();
    end loop;
end
$$;
comment on function recon.match_party_and_day is
'Rule 3: acquirer reference with authorisation code, or payer or payee, each with exact amount and a day within the rail''s tolerance. Only settled transfers; the n-th of a day with the n-th.';

create function recon.match_batches(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
begin
    perform 'pragma:table: pg_temp.open_lines(line_id bigint, type text, direction text, amount_minor bigint, fee_minor bigint, gross_minor bigint, currency text, value_date date, our_ref text, batch_ref text)';
    perform 'pragma:table: pg_temp.open_transfers(transfer_id text, is_settled boolean, direction text, amount_minor bigint, currency text, batch_ref text, transfer_ref text, originator_ref text, account_ref text)';
    -- One line for many transfers.
    create temp table pairs on commit drop as
    with batches as (
        select t.batch_ref, t.direction, t.currency, sum(t.amount_minor) as total_minor
        from pg_temp.open_transfers as t
        where t.is_settled and t.batch_ref is not null
        group by t.batch_ref, t.direction, t.currency
    ), sums as (
        select l.batch_ref, l.direction, l.currency, min(l.line_id) as line_id, sum(l.gross_minor) as total_minor
        from pg_temp.open_lines as l
        where l.type in ('payment', 'batch') and l.batch_ref is not null
        group by l.batch_ref, l.direction, l.currency
        having count(*) = 1
    )
    select
        s.line_id, t.transfer_id, t.amount_minor, 1::bigint as part,
        row_number() over (partition by s.line_id order by t.transfer_id) as share
    from sums as s
    inner join batches as b
        on
            b.batch_ref = s.batch_ref and b.direction = s.direction and b.currency = s.currency
            and b.total_minor = s.total_minor
    inner join pg_temp.open_transfers as t
        on t.batch_ref = b.batch_ref and t.direction = b.direction and t.currency = b.currency and t.is_settled;
    perform recon.write_batches(run);

    -- Many lines for one transfer, which each of them names.
    create temp table pairs on commit drop as
    with sums as (
        select l.our_ref, l.direction, l.currency, sum(l.gross_minor) as total_minor
        from pg_temp.open_lines as l
        where l.type = 'payment' and l.our_ref is not null
        group by l.our_ref, l.direction, l.currency
        having count(*) > 1
    ), wholes as (
        select distinct on (s.our_ref, s.direction, s.currency) s.our_ref, s.direction, s.currency, t.transfer_id
        from sums as s
        inner join (
            select o.*, k.key
            from pg_temp.open_transfers as o
            cross join lateral (values (o.transfer_ref), (o.originator_ref), (o.account_ref)) as k (key)
            where o.is_settled
        ) as t
            on
                t.key = s.our_ref and t.direction = s.direction and t.currency = s.currency
                and t.amount_minor = s.total_minor
        order by s.our_ref, s.direction, s.currency, t.transfer_id
    )
    select
        l.line_id, w.transfer_id, l.gross_minor as amount_minor,
        row_number() over (partition by w.transfer_id order by l.line_id) as part, 1::bigint as share
    from wholes as w
    inner join pg_temp.open_lines as l
        on l.our_ref = w.our_ref and l.direction = w.direction and l.currency = w.currency and l.type = 'payment';
    perform recon.write_batches(run);
end
$$;
comment on function recon.match_batches is
'Rule 4: one line is exactly the sum of the transfers of its batch, or a transfer is exactly the sum of the lines that name it.';

create function recon.write_batches(run recon.run)
returns void
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
as $$
begin
    perform 'pragma:table: pg_temp.pairs(line_id bigint, transfer_id text, amount_minor bigint, part bigint, share bigint)';
    insert into recon.matches (
        line_id, transfer_id, leg, part, share, rule, amount_minor, fee_minor, tenant_id, environment, run_id
    )
    select
        p.line_id, p.transfer_id, 'settle', p.part, p.share, 'batch', p.amount_minor, 0, run.tenant_id, run.environment,
        run.run_id
    from pg_temp.pairs as p
    order by p.line_id, p.transfer_id;
    perform recon.close_pairs();
end
$$;
comment on function recon.write_batches is 'Writes the shares of batches as matches and closes them.';

reset role;
