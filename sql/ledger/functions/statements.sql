-- Statements of an account: the same days give the same bytes, whenever and however often they are asked for.

set role stalela_owner;

create function ledger.number_at(tenant_id text, environment text, at timestamptz)
returns bigint
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    low bigint := 1::bigint;
    high bigint;
    middle bigint;
begin
    select c.head_number + 1 into high
    from ledger.chains as c
    where c.tenant_id = number_at.tenant_id and c.environment = number_at.environment;
    -- The clock of a chain never goes back, so halves will do.
    while low < high loop
        middle := (low + high) / 2;
        if (
            select j.posted_at from ledger.journals as j
            where j.tenant_id = number_at.tenant_id and j.environment = number_at.environment and j.number = middle
        ) < at then
            low := middle + 1;
        else
            high := middle;
        end if;
    end loop;
    return low;
end
$$;
comment on function ledger.number_at is 'The number of the first journal of a chain that was posted at or after an instant; one more than the last if there is none.';

create function ledger.statement_lines(account ledger.accounts, from_no bigint, before_no bigint)
returns table (journal_no bigint, leg_no smallint, leg text, signed_minor bigint, against text)
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select e.journal_no, e.leg_no, e.leg, e.minor, o.code
    from (
        select d.journal_no, d.leg_no, d.leg, d.amount_minor as minor, d.credit_account_id as other
        from ledger.journal_entries as d
        where
            d.debit_account_id = account.account_id
            and d.journal_no >= from_no and d.journal_no < before_no
        union all
        select c.journal_no, c.leg_no, c.leg, -c.amount_minor, c.debit_account_id
        from ledger.journal_entries as c
        where
            c.credit_account_id = account.account_id
            and c.journal_no >= from_no and c.journal_no < before_no
    ) as e
    inner join ledger.accounts as o on o.account_id = e.other
    order by e.journal_no, e.leg_no;
end
$$;
comment on function ledger.statement_lines is 'The entries of an account in a range of journals, debits positive, each with the account on its other side.';

create function ledger.statement(account text, currency text, from_on date, until_on date, shape text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the books
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    subject ledger.accounts;
    side integer;
    from_no bigint;
    before_no bigint;
    opening bigint;
    closing bigint;
    count_lines bigint;
    body text;
begin
    select a.* into subject
    from ledger.accounts as a
    where
        a.tenant_id = caller.tenant_id and a.environment = caller.environment
        and a.code = statement.account and a.currency = statement.currency;
    if not found then
        perform public.refuse('40401', format('There is no account %s in %s here.', statement.account, statement.currency));
    elsif until_on < from_on or until_on - from_on > 366 then
        perform public.refuse_field('42262', '/to', 'must be on or after from, and at most 366 days later');
    elsif until_on >= (clock_timestamp() at time zone 'UTC')::date then
        -- What is not over yet would give other bytes tomorrow.
        perform public.refuse_field('42262', '/to', 'must be a day (UTC) that is over');
    end if;
    side := case subject.normal_side when 'debit' then 1 else -1 end;
    from_no := ledger.journal_no_at(caller.tenant_id, caller.environment, from_on::timestamptz);
    before_no := ledger.journal_no_at(caller.tenant_id, caller.environment, (until_on + 1)::timestamptz);
    select coalesce(sum(l.signed_minor), 0)::bigint * side into opening
    from ledger.statement_lines(subject, 0, from_no) as l;
    select count(*), opening + coalesce(sum(l.signed_minor), 0)::bigint * side into count_lines, closing
    from ledger.statement_lines(subject, from_no, before_no) as l;
    if count_lines > 20000 then
        perform public.refuse_field('42262', '/to', format('one statement has at most 20000 entries; these days have %s: ask for fewer days', count_lines));
    end if;
    body := case shape
        when 'csv' then ledger.statement_csv(subject, from_no, before_no, opening)
        when 'bai2' then ledger.statement_bai2(subject, from_no, before_no, opening, closing, until_on)
        else ledger.statement_json(subject, from_no, before_no, opening, closing, from_on, until_on)
    end;
    return row(200, body, caller.rate || jsonb_build_object(
        'Content-Type', case shape when 'csv' then 'text/csv; charset=utf-8' when 'bai2' then 'text/plain; charset=utf-8' else 'application/json' end,
        'Content-Digest', format('sha-256=:%s:', encode(sha256(convert_to(body, 'utf8')), 'base64'))
    ));
end
$$;
comment on function ledger.statement is
'An account from day to day (UTC, both included, all over) as json, csv or bai2; lines are in the order of posting. Content-Digest is the SHA-256 of the body.';

create function ledger.journal_no_at(tenant_id text, environment text, at timestamptz)
returns bigint
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
begin
    return coalesce((
        select j.journal_no from ledger.journals as j
        where
            j.tenant_id = journal_no_at.tenant_id and j.environment = journal_no_at.environment
            and j.number = ledger.number_at(journal_no_at.tenant_id, journal_no_at.environment, journal_no_at.at)
    ), 9223372036854775807);
end
$$;
comment on function ledger.journal_no_at is 'As ledger.number_at, as the internal number that entries carry; beyond all of them when there is none.';

create function ledger.statement_json(
    account ledger.accounts, from_no bigint, before_no bigint, opening bigint, closing bigint, from_on date, until_on date
)
returns text
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    side integer := case account.normal_side when 'debit' then 1 else -1 end;
    lines text;
begin
    select string_agg(
        json_build_object(
            'journal_id', j.journal_id, 'number', j.number, 'posted_at', j.posted_at, 'occurred_at', j.occurred_at,
            'event_type', j.event_type, 'transfer_id', j.transfer_id, 'leg', l.leg, 'against', l.against,
            'amount', public.format_amount(l.signed_minor * side, account.currency),
            'balance', public.format_amount(l.running, account.currency), 'memo', j.memo
        )::text, E',\n' order by l.journal_no, l.leg_no
    ) into lines
    from (
        select s.*, opening + (sum(s.signed_minor) over (order by s.journal_no, s.leg_no))::bigint * side as running
        from ledger.statement_lines(account, from_no, before_no) as s
    ) as l
    inner join ledger.journals as j on j.journal_no = l.journal_no;
    return format(
        E'{"object":"statement","account":%s,"currency":%s,"normal_side":%s,"from":%s,"to":%s,"opening_balance":%s,"closing_balance":%s,\n"lines":[%s]}\n',
        to_json(account.code), to_json(account.currency), to_json(account.normal_side), to_json(from_on), to_json(until_on),
        to_json(public.format_amount(opening, account.currency)), to_json(public.format_amount(closing, account.currency)),
        lines
    );
end
$$;
comment on function ledger.statement_json is 'A statement as JSON; amounts are positive on the account''s normal side.';

create function ledger.statement_csv(account ledger.accounts, from_no bigint, before_no bigint, opening bigint)
returns text
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    side integer := case account.normal_side when 'debit' then 1 else -1 end;
    lines text;
begin
    select string_agg(concat_ws(
        ',', j.number, j.journal_id, to_json(j.posted_at) #>> '{}', to_json(j.occurred_at) #>> '{}', j.event_type,
        coalesce(j.transfer_id, ''), l.leg, l.against, public.format_amount(l.signed_minor * side, account.currency),
        public.format_amount(l.running, account.currency), account.currency,
        -- RFC 4180; and no spread sheet takes a memo for a formula.
        '"' || replace(regexp_replace(j.memo, '^([=+@-])', '''\1'), '"', '""') || '"'
    ), E'\r\n' order by l.journal_no, l.leg_no) into lines
    from (
        select s.*, opening + (sum(s.signed_minor) over (order by s.journal_no, s.leg_no))::bigint * side as running
        from ledger.statement_lines(account, from_no, before_no) as s
    ) as l
    inner join ledger.journals as j on j.journal_no = l.journal_no;
    return concat(
        E'number,journal_id,posted_at,occurred_at,event_type,transfer_id,leg,against,amount,balance,currency,memo\r\n',
        lines || E'\r\n'
    );
end
$$;
comment on function ledger.statement_csv is 'A statement as CSV (RFC 4180), a line per entry.';

create function ledger.statement_bai2(
    account ledger.accounts, from_no bigint, before_no bigint, opening bigint, closing bigint, until_on date
)
returns text
language plpgsql
stable
security definer -- callers may not read journals
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    side integer := case account.normal_side when 'debit' then 1 else -1 end;
    day text := to_char(until_on, 'YYMMDD');
    total numeric;
    lines text[];
begin
    -- 399 and 699: miscellaneous credit and debit. Amounts are in minor units, without sign.
    select
        array_agg(concat_ws(
            ',', '16', case when l.signed_minor * side > 0 then '399' else '699' end, abs(l.signed_minor), 'Z',
            j.journal_id, coalesce(j.transfer_id, ''), l.leg || ' ' || l.against || '/'
        ) order by l.journal_no, l.leg_no),
        coalesce(sum(abs(l.signed_minor)), 0)
    into lines, total
    from ledger.statement_lines(account, from_no, before_no) as l
    inner join ledger.journals as j on j.journal_no = l.journal_no;
    lines := coalesce(lines, '{}');
    total := total + opening + closing;
    return array_to_string(
        array[
            format('01,STALELA,%s,%s,0000,1,,,2/', account.tenant_id, day),
            format('02,%s,STALELA,1,%s,2359,%s,2/', account.tenant_id, day, account.currency),
            format('03,%s,%s,010,%s,,,015,%s,,/', account.code, account.currency, opening, closing)
        ] || lines || array[
            format('49,%s,%s/', total, cardinality(lines) + 2),
            format('98,%s,1,%s/', total, cardinality(lines) + 4),
            format('99,%s,1,%s/', total, cardinality(lines) + 6)
        ], E'\n'
    ) || E'\n';
end
$$;
comment on function ledger.statement_bai2 is
'A statement in the manner of BAI2: opening (010) and closing (015) balance, a 16 record per entry, totals and record counts.';

reset role;
