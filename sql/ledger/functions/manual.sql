-- Adjustments by hand: written by one person, posted by another.

set role stalela_owner;

create function ledger.person(bucket text)
returns public.caller
language plpgsql
volatile
security definer -- functions may not read memberships
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('ledger:adjust', bucket);
begin
    if caller.user_id is null then
        perform public.refuse('40312', 'A person adjusts the books, not a key.');
    end if;
    return caller;
end
$$;
comment on function ledger.person is 'The signed-in person who may adjust the books (ledger:adjust); keys may not, whatever their scopes.';

create function ledger.manual_journal_resource(manual ledger.manual_journals)
returns json
language plpgsql
stable
security definer -- callers may not read currencies
set search_path = ''
as $$
#variable_conflict use_column
begin
    return json_build_object(
        'id', manual.manual_journal_id,
        'object', 'manual_journal',
        'status', manual.status,
        'memo', manual.memo,
        'occurred_at', manual.occurred_at,
        'lines', (
            select json_agg(json_build_object(
                'account', l.account, 'side', l.side, 'amount', public.format_amount(l.amount_minor, l.currency),
                'currency', l.currency
            ))
            from jsonb_to_recordset(manual.lines) as l (account text, side text, amount_minor bigint, currency text)
        ),
        'created_by', manual.created_by,
        'decided_by', manual.decided_by,
        'reason', manual.decision_reason,
        'journal_id', manual.journal_id,
        'created_at', manual.created_at,
        'decided_at', manual.decided_at
    );
end
$$;
comment on function ledger.manual_journal_resource is 'The wire shape of a manual journal.';

create function ledger.check_lines(caller public.caller, lines jsonb)
returns void
language plpgsql
stable
security definer -- callers may not read accounts
set search_path = ''
as $$
#variable_conflict use_column
declare
    wrong record;
begin
    select l.account, l.ordinality into wrong
    from rows from (jsonb_to_recordset(lines) as (account text, currency text)) with ordinality as l
    left join ledger.chart as c on c.name = split_part(l.account, ':', 1)
    where
        c.name is null or c.class = 'memo'
        or l.account !~ '^[A-Z_]+(:[A-Za-z0-9_.-]+)?$'
        -- A tenant's own accounts are opened by what happens to it, not by hand.
        or (c.name in ('MERCHANT', 'RESERVE') and not exists (
            select from ledger.accounts as a
            where
                a.tenant_id = caller.tenant_id and a.environment = caller.environment
                and a.code = l.account and a.currency = l.currency
        ))
    limit 1;
    if found then
        perform public.refuse_field(
            '42262', format('/lines/%s/account', wrong.ordinality - 1), format('there is no account %s to adjust.', wrong.account)
        );
    end if;
    if exists (
        select from jsonb_to_recordset(lines) as l (side text, amount_minor bigint, currency text)
        group by l.currency, l.side
        having sum(l.amount_minor) > 100000000000000000
    ) then
        perform public.refuse_field('42251', '/lines', 'one journal has at most 100000000000000000 minor units');
    end if;
    select
        l.currency,
        sum(case l.side when 'debit' then l.amount_minor else 0 end)::bigint as debits,
        sum(case l.side when 'credit' then l.amount_minor else 0 end)::bigint as credits
    into wrong
    from jsonb_to_recordset(lines) as l (side text, amount_minor bigint, currency text)
    group by l.currency
    having sum(case l.side when 'debit' then l.amount_minor else -l.amount_minor end) <> 0
    order by l.currency
    limit 1;
    if found then
        perform public.refuse('42280', format(
            'Debits and credits in %s differ by %s: debits %s, credits %s.', wrong.currency,
            public.format_amount(abs(wrong.debits - wrong.credits), wrong.currency),
            public.format_amount(wrong.debits, wrong.currency), public.format_amount(wrong.credits, wrong.currency)
        ), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/lines', 'detail', format(
                '%s: debits exceed credits by %s', wrong.currency,
                public.format_amount(wrong.debits - wrong.credits, wrong.currency)
            ))),
            'currency', wrong.currency,
            'difference', public.format_amount(wrong.debits - wrong.credits, wrong.currency)
        ));
    end if;
end
$$;
comment on function ledger.check_lines is
'Refuses accounts that cannot be adjusted (42262), and lines whose debits and credits differ in a currency (42280, naming both).';

create function ledger.create_manual_journal(
    idempotency_key text, body_hash text, memo text, occurred_at timestamptz, lines jsonb
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write manual journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := ledger.person('write');
    route constant text := 'POST /ledger/manual-journals';
    answer public.answer;
    manual ledger.manual_journals;
begin
    answer := public.claim_idempotency(caller, route, create_manual_journal.idempotency_key, create_manual_journal.body_hash);
    if answer.body is not null then
        return answer;
    end if;
    if create_manual_journal.occurred_at > clock_timestamp() then
        perform public.refuse_field('42262', '/occurred_at', 'must be in the past');
    end if;
    perform ledger.check_lines(caller, create_manual_journal.lines);
    insert into ledger.manual_journals (
        manual_journal_id, tenant_id, environment, memo, occurred_at, lines, created_by
    ) values (
        public.new_id('mj'), caller.tenant_id, caller.environment, create_manual_journal.memo,
        coalesce(create_manual_journal.occurred_at, now()), create_manual_journal.lines, caller.actor
    )
    returning * into manual;
    perform public.audit(caller, 'manual_journal.create', manual.manual_journal_id, jsonb_build_object('memo', manual.memo));
    answer := public.reply(caller, 201, ledger.manual_journal_resource(manual));
    perform public.remember_answer(
        caller, route, create_manual_journal.idempotency_key, manual.manual_journal_id, answer
    );
    return answer;
end
$$;
comment on function ledger.create_manual_journal is
'Writes an adjustment that another person must approve. 42280 when it does not balance in some currency. lines: [{account, side, amount_minor, currency}].';

create function ledger.list_manual_journals(filters jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read manual journals
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('reports:read', 'read');
    body text;
begin
    select string_agg(ledger.manual_journal_resource(m)::text, ',' order by m.created_at desc, m.manual_journal_id desc) into body
    from (
        select m.*
        from ledger.manual_journals as m
        where
            m.tenant_id = caller.tenant_id and m.environment = caller.environment
            and (not filters ? 'status' or m.status = filters ->> 'status')
        order by m.created_at desc, m.manual_journal_id desc
        limit 100
    ) as m;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function ledger.list_manual_journals is 'The newest hundred adjustments, optionally of one status.';

create function ledger.decide_manual_journal(
    manual_journal_id text, idempotency_key text, body_hash text, decision text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := ledger.person('write');
    route constant text := format('POST /ledger/manual-journals/{id}/%s', decision);
    answer public.answer;
    manual ledger.manual_journals;
    posted_id text;
begin
    answer := public.claim_idempotency(
        caller, route, decide_manual_journal.idempotency_key,
        decide_manual_journal.body_hash || ':' || decide_manual_journal.manual_journal_id
    );
    if answer.body is not null then
        return answer;
    end if;
    select m.* into manual
    from ledger.manual_journals as m
    where
        m.manual_journal_id = decide_manual_journal.manual_journal_id
        and m.tenant_id = caller.tenant_id and m.environment = caller.environment
    for no key update;
    if not found then
        perform public.refuse('40401', format('There is no manual journal %s here.', decide_manual_journal.manual_journal_id));
    elsif manual.status <> 'pending' then
        perform public.refuse('40911', format('This manual journal is %s.', manual.status), jsonb_build_object(
            'current_state', manual.status, 'allowed', '[]'::jsonb
        ));
    elsif manual.created_by = caller.actor then
        perform public.refuse('40312', 'Another person than the one who wrote it decides on a manual journal.');
    end if;
    if decision = 'approve' then
        posted_id := ledger.post_lines(
            manual.tenant_id, manual.environment, 'journal.adjusted', manual.manual_journal_id, manual.occurred_at,
            manual.memo, manual.lines, null
        );
    end if;
    update ledger.manual_journals as m
    set
        status = case decision when 'approve' then 'posted' else 'rejected' end,
        decided_by = caller.actor, decided_at = now(), decision_reason = decide_manual_journal.reason,
        journal_id = posted_id
    where m.manual_journal_id = decide_manual_journal.manual_journal_id
    returning m.* into manual;
    perform public.audit(caller, 'manual_journal.' || decision, manual.manual_journal_id, jsonb_build_object(
        'reason', decide_manual_journal.reason, 'journal_id', posted_id
    ));
    answer := public.reply(caller, 200, ledger.manual_journal_resource(manual));
    perform public.remember_answer(
        caller, route, decide_manual_journal.idempotency_key, manual.manual_journal_id, answer
    );
    return answer;
end
$$;
comment on function ledger.decide_manual_journal is
'Another person posts an adjustment (approve) or ends it (reject); 40312 for the one who wrote it. Audited with the reason.';

create function ledger.post_lines(
    tenant_id text, environment text, event_type text, key text, occurred_at timestamptz, memo text, lines jsonb,
    into_period text
)
returns text
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    one ledger.booking;
    kinds ledger.kind[];
    legs ledger.planned_leg[];
begin
    one.kind := concat_ws(
        '|', tenant_id, environment, event_type, 'adjustment', '*', '*', '*', '',
        to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD')
    );
    perform ledger.lock_chains(array[one.kind]);
    one.wave := 2;
    one.position := 1;
    one.journal_id := public.new_id('jrnl');
    one.journal_key := concat_ws(':', event_type, tenant_id, environment, key);
    one.occurred_at := occurred_at;
    one.fee_minor := 0;
    one.tax_minor := 0;
    one.reserve_minor := 0;
    one.memo := '';
    kinds := ledger.kinds(array[one.kind]);
    one.memo := concat_ws('; ', memo, nullif(kinds[1].memo, ''));
    kinds[1].memo := '';
    kinds[1].period_id := coalesce(into_period, kinds[1].period_id);
    legs := array(
        -- Debits and credits laid end to end: where they overlap they are a pair.
        with laid as (
            select l.*, sum(l.amount_minor) over (partition by l.currency, l.side order by l.ordinality) as until_minor
            from rows from (
                jsonb_to_recordset(lines) as (account text, side text, amount_minor bigint, currency text)
            ) with ordinality as l
        )
        select row(
            one.kind, row_number() over (order by d.currency, d.until_minor, c.until_minor), 'adjustment', null,
            least(d.until_minor, c.until_minor)
            - greatest(d.until_minor - d.amount_minor, c.until_minor - c.amount_minor),
            d.currency, d.account, c.account, null, null, null
        )::ledger.planned_leg
        from laid as d
        inner join laid as c
            on c.currency = d.currency and c.side = 'credit'
            and c.until_minor - c.amount_minor < d.until_minor and d.until_minor - d.amount_minor < c.until_minor
        where d.side = 'debit' and d.account <> c.account
    );
    perform ledger.write(array[one], kinds, ledger.find_accounts(kinds, legs));
    return one.journal_id;
end
$$;
comment on function ledger.post_lines is
'Posts balanced lines [{account, side, amount_minor, currency}] as one journal of pairs; once per type and key. What is debited and credited to the same account falls away. into_period: not the one of the day.';

reset role;
