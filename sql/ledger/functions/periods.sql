-- Months: open, closing, closed.

set role stalela_owner;

create function ledger.period_resource(period ledger.periods)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', period.period_id, 'object', 'period', 'status', period.status, 'changed_by', period.changed_by,
        'changed_at', period.changed_at, 'snapshot', period.snapshot
    );
end
$$;
comment on function ledger.period_resource is 'The wire shape of a period.';

create function ledger.list_periods()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read periods
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(ledger.period_resource(p)::text, ',' order by p.period_id desc) into body
    from ledger.periods as p
    where p.tenant_id = caller.tenant_id and p.environment = caller.environment;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_periods is 'The caller''s periods that are or were not simply open, newest first.';

create function ledger.move_period(period_id text, idempotency_key text, body_hash text, status text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write periods
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := ledger.person('write');
    route constant text := 'POST /ledger/periods/{id}';
    answer public.answer;
    was text;
    period ledger.periods;
begin
    answer := public.claim_idempotency(
        caller, route, move_period.idempotency_key, move_period.body_hash || ':' || move_period.period_id
    );
    if answer.body is not null then
        return answer;
    end if;
    if (move_period.period_id || '-01')::date + interval '1 month' > now() at time zone 'UTC' then
        perform public.refuse_field('42262', '/period', 'must be a month (UTC) that is over');
    end if;
    -- Whoever posts waits, and then finds the period as it is left here.
    perform ledger.lock_chains(array[concat_ws('|', caller.tenant_id, caller.environment)]);
    was := coalesce((
        select p.status from ledger.periods as p
        where
            p.tenant_id = caller.tenant_id and p.environment = caller.environment
            and p.period_id = move_period.period_id
    ), 'open');
    if (was, move_period.status) not in (('open', 'closing'), ('closing', 'open'), ('closing', 'closed')) then
        perform public.refuse('40911', format('A period that is %s does not become %s.', was, move_period.status), jsonb_build_object(
            'current_state', was,
            'allowed', case was when 'open' then '["closing"]'::jsonb when 'closing' then '["open","closed"]' else '[]' end
        ));
    end if;
    insert into ledger.periods as p (tenant_id, environment, period_id, status, changed_by, snapshot)
    values (
        caller.tenant_id, caller.environment, move_period.period_id, move_period.status, caller.actor,
        case when move_period.status = 'closed' then
            ledger.close_books(caller.tenant_id, caller.environment, move_period.period_id)
        end
    )
    on conflict on constraint periods_pkey do update
    set status = excluded.status, changed_by = excluded.changed_by, changed_at = now(), snapshot = excluded.snapshot
    returning * into period;
    perform public.audit(caller, 'period.' || move_period.status, move_period.period_id, '{}');
    answer := public.reply(caller, 200, ledger.period_resource(period));
    perform public.remember_answer(caller, route, move_period.idempotency_key, move_period.period_id, answer);
    return answer;
end
$$;
comment on function ledger.move_period is
'open to closing (nothing new goes in), back, or on to closed: closing entries are booked and the balances kept. 40911 for any other move.';

create function ledger.close_books(tenant_id text, environment text, period_id text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    uneven text;
    lines jsonb;
    ended_at timestamptz := ((close_books.period_id || '-01')::timestamp + interval '1 month' - interval '1 microsecond') at time zone 'UTC';
begin
    select t.currency into uneven
    from ledger.trial_balance(close_books.tenant_id, close_books.environment) as t
    where t.debit_minor <> t.credit_minor
    limit 1;
    if found then
        perform public.refuse('40911', format('The books are out of balance in %s; nothing is closed on them.', uneven),
            '{"current_state": "closing", "allowed": ["open"]}');
    end if;
    -- Each account of revenue and expense to zero; what that comes to is net income, and goes into retained earnings.
    with results as (
        select a.code, a.currency, sum(case when e.debit_account_id = a.account_id then e.amount_minor else -e.amount_minor end) as minor
        from ledger.journals as j
        inner join ledger.journal_entries as e on e.journal_no = j.journal_no
        inner join ledger.accounts as a on a.account_id in (e.debit_account_id, e.credit_account_id)
        where
            j.tenant_id = close_books.tenant_id and j.environment = close_books.environment
            and j.period_id = close_books.period_id and a.class in ('revenue', 'expense')
        group by a.code, a.currency
        having sum(case when e.debit_account_id = a.account_id then e.amount_minor else -e.amount_minor end) <> 0
    ), sides as (
        select r.currency, r.code as account, case when r.minor > 0 then 'credit' else 'debit' end as side, abs(r.minor) as amount_minor
        from results as r
        union all
        select r.currency, 'RETAINED_EARNINGS', case when sum(r.minor) > 0 then 'debit' else 'credit' end, abs(sum(r.minor))
        from results as r
        group by r.currency
        having sum(r.minor) <> 0
    )
    select jsonb_agg(to_jsonb(s) order by s.currency, s.account) into lines from sides as s;
    if lines is not null then
        perform ledger.post_lines(
            close_books.tenant_id, close_books.environment, 'period.closed', close_books.period_id, ended_at,
            'closing entries of ' || close_books.period_id, lines, close_books.period_id
        );
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'account', s.code, 'currency', s.currency, 'balance', public.format_amount(s.minor::bigint, s.currency)
        ) order by s.currency, s.number, s.code), '[]')
        from (
            select a.code, a.currency, c.number, sum(
                case when e.debit_account_id = a.account_id then e.amount_minor else -e.amount_minor end
            ) * case a.normal_side when 'debit' then 1 else -1 end as minor
            from ledger.journals as j
            inner join ledger.journal_entries as e on e.journal_no = j.journal_no
            inner join ledger.accounts as a on a.account_id in (e.debit_account_id, e.credit_account_id)
            inner join ledger.chart as c on c.name = a.name
            where
                j.tenant_id = close_books.tenant_id and j.environment = close_books.environment
                and j.period_id <= close_books.period_id
            group by a.account_id, a.code, a.currency, c.number, a.normal_side
        ) as s
    );
end
$$;
comment on function ledger.close_books is
'Books the closing entries of a period and returns the balances it ends with. Under the lock of the chain; refuses when the books are out of balance.';

reset role;
