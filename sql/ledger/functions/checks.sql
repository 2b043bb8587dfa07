-- Proof that the books are what was booked: chain, balances, trial balance.

set role stalela_owner;

create function ledger.journal_lines(journal_no bigint)
returns text
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
as $$
begin
    return (
        select string_agg(
            concat_ws(E'\t', e.leg_no, e.leg, d.code, c.code, e.currency, e.amount_minor), E'\n' order by e.leg_no
        )
        from ledger.journal_entries as e
        left join ledger.accounts as d on d.account_id = e.debit_account_id
        left join ledger.accounts as c on c.account_id = e.credit_account_id
        where e.journal_no = journal_lines.journal_no
    );
end
$$;
comment on function ledger.journal_lines is 'The entries of a journal as its hash covers them.';

create function ledger.verify_chain(tenant_id text, environment text, first_number bigint, last_number bigint)
returns jsonb
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    head record;
    first_hash bytea;
    checked bigint;
    wrong record;
begin
    select c.head_number, c.head_hash into head
    from ledger.chains as c
    where c.tenant_id = verify_chain.tenant_id and c.environment = verify_chain.environment;
    if not found then
        return jsonb_build_object('verified', 0, 'bad', null);
    end if;
    last_number := least(last_number, head.head_number);
    if first_number = 1 then
        first_hash := ledger.genesis(tenant_id, environment);
    else
        select j.hash into first_hash
        from ledger.journals as j
        where
            j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
            and j.number = first_number - 1;
    end if;

    -- Each is compared with the hash that stands before it, so the first that is wrong is the one that was touched.
    select j.number, j.journal_id, j.hash, case
        when j.number <> j.previous_number + 1 then format('number %s is missing before it', j.previous_number + 1)
        else 'its hash is not that of its content'
    end as reason
    into wrong
    from (
        select
            j.number, j.journal_id, j.hash, j as journal,
            lag(j.number, 1, first_number - 1) over (order by j.number) as previous_number,
            lag(j.hash, 1, first_hash) over (order by j.number) as previous_hash
        from ledger.journals as j
        where
            j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
            and j.number between first_number and last_number
    ) as j
    where
        j.number <> j.previous_number + 1
        or j.hash is distinct from ledger.link(
            j.previous_hash,
            ledger.journal_content(j.journal, coalesce(ledger.journal_lines((j.journal).journal_no), ''))
        )
    order by j.number
    limit 1;
    if found then
        return jsonb_build_object('verified', wrong.number - first_number, 'bad', jsonb_build_object(
            'number', wrong.number, 'journal_id', wrong.journal_id, 'reason', wrong.reason
        ));
    end if;

    select max(j.number) into checked
    from ledger.journals as j
    where
        j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
        and j.number between first_number and last_number;
    checked := coalesce(checked, first_number - 1);
    if checked < last_number then
        return jsonb_build_object('verified', checked - first_number + 1, 'bad', jsonb_build_object(
            'number', checked + 1, 'journal_id', null, 'reason', format('number %s is missing', checked + 1)
        ));
    elsif last_number = head.head_number and last_number >= first_number and not exists (
        select from ledger.journals as j
        where
            j.tenant_id = verify_chain.tenant_id and j.environment = verify_chain.environment
            and j.number = last_number and j.hash = head.head_hash
    ) then
        return jsonb_build_object('verified', checked - first_number, 'bad', jsonb_build_object(
            'number', last_number, 'journal_id', null, 'reason', 'the head of the chain is another'
        ));
    end if;
    return jsonb_build_object('verified', checked - first_number + 1, 'bad', null);
end
$$;
comment on function ledger.verify_chain is
'Computes the hash of every journal again: {verified, bad: null or {number, journal_id, reason}}, bad being the first that is missing or is not what was booked.';

create function ledger.check_chains()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    due record;
    result jsonb;
    last_number bigint;
    checked integer := 0;
    budget bigint := 10000::bigint;
begin
    for due in
        select c.tenant_id, c.environment, c.head_number, coalesce(k.number, 0) as done
        from ledger.chains as c
        left join ledger.chain_checks as k on k.tenant_id = c.tenant_id and k.environment = c.environment
        where c.head_number > coalesce(k.number, 0)
        order by k.checked_at nulls first, c.tenant_id, c.environment
        limit 1000
    loop
        last_number := least(due.head_number, due.done + 2000, due.done + budget);
        budget := budget - (last_number - due.done);
        result := ledger.verify_chain(due.tenant_id, due.environment, due.done + 1, last_number);
        if jsonb_typeof(result -> 'bad') = 'object' then
            perform public.raise_alert(
                'ledger_chain_broken', 'critical', concat_ws(':', due.tenant_id, due.environment),
                due.tenant_id, due.environment, result
            );
            -- Stays where it is: the alert stays open until the chain verifies.
            last_number := due.done;
        end if;
        insert into ledger.chain_checks as k (tenant_id, environment, number)
        values (due.tenant_id, due.environment, last_number)
        on conflict on constraint chain_checks_pkey do update
        set number = excluded.number, checked_at = clock_timestamp();
        checked := checked + 1;
        exit when budget = 0;
    end loop;
    return checked;
end
$$;
comment on function ledger.check_chains is 'Verifies what was added to each chain since the last time, some thousand journals a run; a broken one is an alert. A cron task.';

create function ledger.check_balances()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not read entries
set search_path = ''
as $$
#variable_conflict use_column
declare
    one record;
    checked integer := 0;
begin
    for one in
        -- Balances, checkpoints and entries as one snapshot shows them: they were committed together.
        select
            a.account_id, a.tenant_id, a.environment, a.code, a.currency, b.balance_minor,
            coalesce(k.balance_minor, 0) + s.added as summed, coalesce(s.journal_no, k.journal_no, 0) as journal_no
        from ledger.balances as b
        inner join ledger.accounts as a on a.account_id = b.account_id
        left join ledger.balance_checks as k on k.account_id = b.account_id
        cross join lateral (
            select coalesce(sum(e.minor), 0)::bigint as added, max(e.journal_no) as journal_no
            from (
                select d.amount_minor as minor, d.journal_no
                from ledger.journal_entries as d
                where d.debit_account_id = b.account_id and d.journal_no > coalesce(k.journal_no, 0)
                union all
                select -c.amount_minor, c.journal_no
                from ledger.journal_entries as c
                where c.credit_account_id = b.account_id and c.journal_no > coalesce(k.journal_no, 0)
            ) as e
        ) as s
        where k.account_id is null or b.as_of >= k.checked_at or b.balance_minor <> k.balance_minor
        order by k.checked_at nulls first
        limit 500
    loop
        checked := checked + 1;
        if one.summed <> one.balance_minor then
            perform public.raise_alert(
                'ledger_balance_drift', 'critical',
                concat_ws(':', one.tenant_id, one.environment, one.code, one.currency), one.tenant_id, one.environment,
                jsonb_build_object('balance_minor', one.balance_minor, 'entries_minor', one.summed)
            );
            continue;
        end if;
        insert into ledger.balance_checks as k (account_id, journal_no, balance_minor, checked_at)
        values (one.account_id, one.journal_no, one.summed, clock_timestamp())
        on conflict on constraint balance_checks_pkey do update
        set journal_no = excluded.journal_no, balance_minor = excluded.balance_minor, checked_at = excluded.checked_at;
    end loop;
    return checked;
end
$$;
comment on function ledger.check_balances is
'Adds up the entries of accounts that moved since they were last checked, and compares with their balances; drift is an alert. A cron task.';

create function ledger.trial_balance(tenant_id text, environment text)
returns table (currency text, is_memo boolean, debit_minor bigint, credit_minor bigint)
language plpgsql
stable
security definer -- callers may not read balances
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select
        a.currency, a.class = 'memo',
        coalesce(sum(b.balance_minor) filter (where b.balance_minor > 0), 0)::bigint,
        coalesce(-sum(b.balance_minor) filter (where b.balance_minor < 0), 0)::bigint
    from ledger.accounts as a
    inner join ledger.balances as b on b.account_id = a.account_id
    where a.tenant_id = trial_balance.tenant_id and a.environment = trial_balance.environment
    group by a.currency, a.class = 'memo'
    order by 1, 2;
end
$$;
comment on function ledger.trial_balance is 'Debits and credits of a tenant''s books by currency, memo accounts apart. They are equal, or something is wrong.';

create function ledger.check_trial_balances()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not read balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    uneven record;
    found_uneven integer := 0;
begin
    for uneven in
        select a.tenant_id, a.environment, a.currency, sum(b.balance_minor)::bigint as difference
        from ledger.accounts as a
        inner join ledger.balances as b on b.account_id = a.account_id
        group by a.tenant_id, a.environment, a.currency, a.class = 'memo'
        having sum(b.balance_minor) <> 0
    loop
        perform public.raise_alert(
            'ledger_out_of_balance', 'critical', concat_ws(':', uneven.tenant_id, uneven.environment, uneven.currency),
            uneven.tenant_id, uneven.environment, jsonb_build_object('difference_minor', uneven.difference)
        );
        found_uneven := found_uneven + 1;
    end loop;
    return found_uneven;
end
$$;
comment on function ledger.check_trial_balances is
'Debits equal credits in each tenant''s books and currency, memo accounts apart; anything else is an alert. A cron task.';

reset role;
