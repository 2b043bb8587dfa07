-- Accounts: which ones a batch moves, opened when they are first needed.

set role stalela_owner;

create function ledger.lock_chains(kinds text[])
returns void
language plpgsql
volatile
security definer -- callers may not write chains
set search_path = ''
as $$
#variable_conflict use_column
declare
    place record;
begin
    for place in
        select distinct split_part(k.kind, '|', 1) as tenant_id, split_part(k.kind, '|', 2) as environment
        from unnest(kinds) as k (kind)
        order by 1, 2
    loop
        perform from ledger.chains as c
        where c.tenant_id = place.tenant_id and c.environment = place.environment
        for no key update;
        if not found then
            -- Somebody who begins the same chain at this moment is waited for.
            insert into ledger.chains (tenant_id, environment, head_hash)
            values (place.tenant_id, place.environment, ledger.genesis(place.tenant_id, place.environment))
            on conflict on constraint chains_pkey do nothing;
            perform from ledger.chains as c
            where c.tenant_id = place.tenant_id and c.environment = place.environment
            for no key update;
        end if;
    end loop;
end
$$;
comment on function ledger.lock_chains is
'The first step of every posting: locks the chains of these kinds of event in their order, beginning those that are new. Whoever holds a chain holds its tenant''s balances.';

create function ledger.plan(kinds ledger.kind[])
returns ledger.planned_leg[]
language plpgsql
volatile
security definer -- callers may not open accounts
set search_path = ''
set plan_cache_mode = 'auto' -- and what is chosen below ends with the function
as $$
#variable_conflict use_column
declare
    legs ledger.planned_leg[];
begin
    perform ledger.choose_plans(cardinality(kinds));
    legs := array(
        with sorts as (
            select distinct k.rules_version, k.event_type, k.purpose, k.intent, k.rail, k.fx_currency is not null as is_fx
            from unnest(kinds) as k
        ), ruled as materialized (
            -- One set of legs per sort of event: the named intent, then rail, then purpose before "any".
            select s.purpose as of_purpose, s.intent as of_intent, s.rail as of_rail, r.*
            from sorts as s
            cross join lateral (
                select o.*, rank() over (order by o.intent = '*', o.rail = '*', o.purpose = '*') as place
                from ledger.posting_rules as o
                where
                    o.rules_version = s.rules_version and o.event_type = s.event_type and o.is_fx = s.is_fx
                    and o.intent in (s.intent, '*') and o.rail in (s.rail, '*') and o.purpose in (s.purpose, '*')
            ) as r
            where r.place = 1
        )
        select row(
            k.kind, r.leg_no, r.leg, r.amount, null, c.currency,
            ledger.account_code(r.debit, k.tenant_id, k.rail, c.currency),
            ledger.account_code(r.credit, k.tenant_id, k.rail, c.currency),
            null, null, null
        )::ledger.planned_leg
        from unnest(kinds) as k
        inner join ruled as r
            on r.event_type = k.event_type and r.of_purpose = k.purpose and r.of_intent = k.intent
            and r.of_rail = k.rail and r.is_fx = (k.fx_currency is not null)
        cross join lateral (
            select case when r.amount_currency = 'settlement' then k.fx_currency else k.currency end as currency
        ) as c
    );
    return ledger.find_accounts(kinds, legs);
end
$$;
comment on function ledger.plan is
'The legs of each kind of event in a batch, their accounts found or opened: the rules are read once per kind, not once per event.';

create function ledger.find_accounts(kinds ledger.kind[], legs ledger.planned_leg[])
returns ledger.planned_leg[]
language plpgsql
volatile
security definer -- callers may not open accounts
set search_path = ''
set plan_cache_mode = 'auto' -- and what is chosen below ends with the function
as $$
#variable_conflict use_column
begin
    perform ledger.choose_plans(cardinality(kinds));
    perform ledger.open_account(w.tenant_id, w.environment, w.code, w.currency)
    from (
        select distinct k.tenant_id, k.environment, a.code, l.currency
        from unnest(legs) as l
        inner join unnest(kinds) as k on k.kind = l.kind
        cross join unnest(array[l.debit_code, l.credit_code]) as a (code)
        where not exists (
            select from ledger.accounts as o
            where
                o.tenant_id = k.tenant_id and o.environment = k.environment
                and o.code = a.code and o.currency = l.currency
        )
        order by k.tenant_id, k.environment, a.code, l.currency
    ) as w;
    return array(
        select row(
            l.kind, l.leg_no, l.leg, l.amount, l.amount_minor, l.currency, l.debit_code, l.credit_code,
            d.account_id, c.account_id, d.class = 'memo'
        )::ledger.planned_leg
        from unnest(legs) as l
        inner join unnest(kinds) as k on k.kind = l.kind
        inner join ledger.accounts as d
            on d.tenant_id = k.tenant_id and d.environment = k.environment
            and d.code = l.debit_code and d.currency = l.currency
        inner join ledger.accounts as c
            on c.tenant_id = k.tenant_id and c.environment = k.environment
            and c.code = l.credit_code and c.currency = l.currency
    );
end
$$;
comment on function ledger.find_accounts is 'The same legs with the ids of their accounts; accounts that do not exist are opened.';

create function ledger.account_code(template text, tenant_id text, rail text, currency text)
returns text
language plpgsql
stable
security definer -- callers may not read tenants
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Apart, because an expression with a query in it costs ten times as much, and a batch asks hundreds of times.
    if split_part(template, ':', 2) = '{jurisdiction}' then
        return replace(template, '{jurisdiction}', coalesce((
            select t.country from public.tenants as t where t.tenant_id = account_code.tenant_id
        ), 'ZZ'));
    end if;
    return case split_part(template, ':', 2)
        when '' then template
        when '{rail}' then replace(template, '{rail}', rail)
        when '{tenant}' then replace(template, '{tenant}', account_code.tenant_id)
        when '{currency}' then replace(template, '{currency}', currency)
    end;
end
$$;
comment on function ledger.account_code is
'The code of an account from its template; null for a place holder that does not exist, which fails the batch.';

create function ledger.open_account(tenant_id text, environment text, code text, currency text)
returns void
language plpgsql
volatile
security definer -- callers may not write accounts
set search_path = ''
as $$
#variable_conflict use_column
begin
    with opened as (
        insert into ledger.accounts (
            tenant_id, environment, code, currency, name, type, class, normal_side, when_negative
        )
        select
            open_account.tenant_id, open_account.environment, open_account.code, open_account.currency,
            c.name, c.type, c.class, c.normal_side, c.when_negative
        from ledger.chart as c
        where c.name = split_part(open_account.code, ':', 1)
        returning account_id, normal_side, when_negative
    )
    insert into ledger.balances (account_id, floor)
    select
        o.account_id,
        case when o.when_negative <> 'block' then 0 when o.normal_side = 'debit' then 1 else -1 end
    from opened as o;
    if not found then
        raise exception 'the chart has no account %', code using errcode = 'check_violation';
    end if;
end
$$;
comment on function ledger.open_account is
'Opens an account with a balance of zero, as the chart describes it. Under the lock of its chain, so nobody else opens it meanwhile.';

reset role;
