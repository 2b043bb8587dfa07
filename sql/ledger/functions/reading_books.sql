-- What people see of the books: balances, accounts, journals, tariffs, and the proof.

set role stalela_owner;

create function ledger.list_balances(filters jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read balances
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(row_to_json(shown)::text, ',' order by shown.currency, shown.number, shown.account) into body
    from (
        select
            a.code as account, c.number, a.type, a.class, a.currency,
            public.format_amount(
                case a.normal_side when 'debit' then b.balance_minor else -b.balance_minor end, a.currency
            ) as balance,
            a.normal_side, b.as_of
        from ledger.accounts as a
        inner join ledger.balances as b on b.account_id = a.account_id
        inner join ledger.chart as c on c.name = a.name
        where
            a.tenant_id = caller.tenant_id and a.environment = caller.environment
            and (not filters ? 'currency' or a.currency = filters ->> 'currency')
            and (not filters ? 'type' or a.type = filters ->> 'type')
    ) as shown;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_balances is
'What each of the caller''s accounts holds, on its normal side. filters: type, currency.';

create function ledger.list_accounts()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read accounts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(row_to_json(shown)::text, ',' order by shown.number, shown.account, shown.currency) into body
    from (
        select
            a.code as account, c.number, a.type, a.class, a.normal_side, a.currency, a.status, c.description, a.created_at
        from ledger.accounts as a
        inner join ledger.chart as c on c.name = a.name
        where a.tenant_id = caller.tenant_id and a.environment = caller.environment
    ) as shown;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_accounts is 'The caller''s accounts as the chart names them.';

create function ledger.journal_resource(journal ledger.journals)
returns json
language plpgsql
stable
security definer -- callers may not read entries
set search_path = ''
set timezone = 'UTC'
as $$
#variable_conflict use_column
begin
    return json_build_object(
        'id', journal.journal_id,
        'object', 'journal',
        'number', journal.number,
        'key', journal.journal_key,
        'event_type', journal.event_type,
        'event_id', journal.event_id,
        'transfer_id', journal.transfer_id,
        'occurred_at', journal.occurred_at,
        'posted_at', journal.posted_at,
        'period', journal.period_id,
        'rules_version', journal.rules_version,
        'related_journal_id', journal.related_journal_id,
        'is_memo', journal.is_memo,
        'memo', journal.memo,
        'hash', encode(journal.hash, 'hex'),
        'entries', (
            select json_agg(json_build_object(
                'number', e.leg_no, 'leg', e.leg, 'debit', d.code, 'credit', c.code,
                'amount', public.format_amount(e.amount_minor, e.currency), 'currency', e.currency,
                'amount_minor', e.amount_minor::text
            ) order by e.leg_no)
            from ledger.journal_entries as e
            inner join ledger.accounts as d on d.account_id = e.debit_account_id
            inner join ledger.accounts as c on c.account_id = e.credit_account_id
            where e.journal_no = journal.journal_no
        )
    );
end
$$;
comment on function ledger.journal_resource is 'The wire shape of a journal with its entries, enough to compute its hash again.';

create function ledger.list_journals(filters jsonb, page_size integer, before_number bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    shown ledger.journals[];
    has_more boolean;
begin
    if filters ? 'transfer_id' then
        -- The keys of a transfer's journals begin with its id.
        shown := array(
            select j from ledger.journals as j
            where
                j.journal_key >= (filters ->> 'transfer_id') || ':' and j.journal_key < (filters ->> 'transfer_id') || ';'
                and j.tenant_id = caller.tenant_id and j.environment = caller.environment
                and j.number < before_number
            order by j.number desc
            limit page_size + 1
        );
    else
        shown := array(
            select j from ledger.journals as j
            where j.tenant_id = caller.tenant_id and j.environment = caller.environment and j.number < before_number
            order by j.number desc
            limit page_size + 1
        );
    end if;
    has_more := cardinality(shown) > page_size;
    return row(200, format(
        '{"data":[%s],"pagination":%s}',
        (
            select string_agg(ledger.journal_resource(j)::text, ',' order by j.number desc)
            from unnest(shown[1:page_size]) as j
        ),
        json_build_object(
            'limit', page_size, 'has_more', has_more,
            'next_cursor', case when has_more then shown[page_size].number::text end
        )
    ), caller.rate);
end
$$;
comment on function ledger.list_journals is 'One page of the caller''s journals, newest first, by their number. filters: transfer_id.';

create function ledger.get_journal(journal_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    journal ledger.journals;
begin
    select j.* into journal
    from ledger.journals as j
    where
        j.journal_id = get_journal.journal_id
        and j.tenant_id = caller.tenant_id and j.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no journal %s here.', get_journal.journal_id));
    end if;
    return public.reply(caller, 200, ledger.journal_resource(journal));
end
$$;
comment on function ledger.get_journal is 'One journal of the caller''s books; 40401 for anybody else''s.';

create function ledger.prove(first_number bigint, last_number bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    chain ledger.chains;
    previous bytea;
    body text;
begin
    select c.* into chain
    from ledger.chains as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment;
    last_number := least(coalesce(last_number, chain.head_number), first_number + 999, chain.head_number);
    previous := case
        when first_number = 1 then ledger.genesis(caller.tenant_id, caller.environment)
        else (
            select j.hash from ledger.journals as j
            where j.tenant_id = caller.tenant_id and j.environment = caller.environment and j.number = first_number - 1
        )
    end;
    if previous is null then
        perform public.refuse_field('42262', '/from', format('the chain has %s journals.', coalesce(chain.head_number, 0)));
    end if;
    select string_agg(ledger.journal_resource(j)::text, E',\n' order by j.number) into body
    from ledger.journals as j
    where
        j.tenant_id = caller.tenant_id and j.environment = caller.environment
        and j.number between first_number and last_number;
    return row(200, format(
        E'{"format":"stalela.ledger.proof.v1","tenant_id":%s,"environment":%s,"from":%s,"to":%s,"previous_hash":%s,\n"head":%s,\n"journals":[%s]}\n',
        to_json(caller.tenant_id), to_json(caller.environment), first_number, coalesce(last_number, 0),
        to_json(encode(previous, 'hex')),
        json_build_object('number', coalesce(chain.head_number, 0), 'hash', encode(coalesce(chain.head_hash, previous), 'hex')),
        body
    ), caller.rate);
end
$$;
comment on function ledger.prove is
'Journals first to last (at most 1,000) with the hash before them: enough for an outsider to compute each hash again. head is the newest of the chain.';

create function ledger.list_tariffs()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read tariffs
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(row_to_json(shown)::text, ',' order by shown.is_default, shown.purpose, shown.rail, shown.currency, shown.valid_from)
    into body
    from (
        select
            t.tariff_id as id, t.tenant_id is null as is_default, t.purpose, t.rail, t.currency, t.rate_bps,
            case when t.currency <> '*' then public.format_amount(t.fixed_minor, t.currency) end as fixed,
            t.tax_bps, t.reserve_bps, t.reserve_days, t.is_fee_returned, t.valid_from, t.valid_until
        from ledger.tariffs as t
        where t.tenant_id is null or t.tenant_id = caller.tenant_id
    ) as shown;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_tariffs is 'What the caller pays: its own tariffs, then everybody''s. The more particular row wins.';

reset role;
