-- The consumer of the outbox: take events, book them, in one transaction; and bookings that nobody sent as an event.

set role stalela_owner;

create function ledger.book(max_rows integer)
returns integer
language plpgsql
volatile
security definer -- callers may not take events
set search_path = ''
set work_mem = '64MB' -- thousands of deliveries are handed on three times before they are read
as $$
#variable_conflict use_column
declare
    batch payments.delivery[] := array(select d from payments.take_events('ledger', max_rows) as d);
    refused ledger.booking;
    held bigint[] := '{}'::bigint[];
begin
    for refused in select r.* from unnest(ledger.book_events(batch)) as r order by r.outbox_id loop
        -- What waits behind a failed event of its transfer comes again after it.
        if not refused.outbox_id = any(held) then
            held := held || payments.fail_event('ledger', refused.outbox_id, refused.problem, refused.is_final);
        end if;
    end loop;
    return cardinality(batch);
end
$$;
comment on function ledger.book is
'Takes up to so many transfer events and books them set-based, all in this transaction; returns how many were taken. An event that cannot be booked is failed alone.';

create function ledger.book_events(batch payments.delivery[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
set work_mem = '64MB' -- thousands of events, which would go to disk between the steps
as $$
#variable_conflict use_column
declare
    bookings ledger.booking[] := ledger.read_events(batch);
    refused ledger.booking[] := '{}'::ledger.booking[];
    kinds text[];
    is_spoilt boolean;
begin
    select array_agg(k.kind), bool_or(k.problems > 0) into kinds, is_spoilt
    from (select b.kind, count(b.problem) as problems from unnest(bookings) as b group by b.kind) as k;
    if is_spoilt then
        refused := array(select b from unnest(bookings) as b where b.problem is not null);
        bookings := ledger.without_refused(bookings, refused);
        kinds := array(select distinct b.kind from unnest(bookings) as b);
    end if;
    -- All chains in their order, and out here: what fails below gives back the locks it took.
    perform ledger.lock_chains(kinds);
    return refused || ledger.post_parts(bookings);
end
$$;
comment on function ledger.book_events is
'Books deliveries in the order given and returns those that could not be, each with its problem. Duplicates have no effect.';

create function ledger.post_parts(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    many integer := cardinality(bookings);
    refused ledger.booking[] := '{}'::ledger.booking[];
    part integer;
begin
    begin
        return ledger.post(bookings);
    exception when data_exception or integrity_constraint_violation then
        -- Somebody in the batch spoils it, or comes a second time.
        bookings := ledger.not_booked(bookings);
        if many = 1 and cardinality(bookings) = 1 then
            bookings[1].problem := sqlerrm;
            -- A floor is there until money comes in; anything else stays wrong.
            bookings[1].is_final := sqlstate <> '23514' or sqlerrm not like '%balances_floor%';
            return bookings;
        end if;
    end;
    if cardinality(bookings) < many then
        return ledger.post_parts(bookings);
    end if;
    -- In tenths, and each that fails in tenths again: one of thousands is found in a few steps.
    part := (many + 9) / 10;
    for place in 1..many by part loop
        refused := refused || ledger.post_parts(ledger.without_refused(bookings[place:place + part - 1], refused));
    end loop;
    return refused;
end
$$;
comment on function ledger.post_parts is
'Books what ledger.post books, and when that raises, smaller and smaller parts of it, until what spoils it stands alone with its problem. Under the locks of the chains.';

create function ledger.not_booked(bookings ledger.booking[])
returns ledger.booking[]
language plpgsql
stable
security definer -- callers may not read the books
set search_path = ''
as $$
#variable_conflict use_column
begin
    return array(
        select (o.b::ledger.booking)
        from (
            select distinct on (b.journal_key) b, b.wave, b.position
            from unnest(bookings) as b
            where not exists (select from ledger.journals as j where j.journal_key = b.journal_key)
            order by b.journal_key, b.wave, b.position
        ) as o
        order by o.wave, o.position
    );
end
$$;
comment on function ledger.not_booked is
'What is left of a batch: neither what is booked already nor what comes twice. As in a batch: what is undone comes before what undoes it.';

create function ledger.book_fact(
    tenant_id text, environment text, event_type text, key text, purpose text, rail text, currency text,
    gross_minor bigint, fee_minor bigint, occurred_at timestamptz, transfer_id text, memo text
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
    refused ledger.booking[];
begin
    one.kind := concat_ws(
        '|', tenant_id, environment, event_type, purpose, '*', rail, currency, '',
        to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD')
    );
    perform ledger.lock_chains(array[one.kind]);
    one.journal_key := concat_ws(':', event_type, tenant_id, environment, rail, key);
    select j.journal_id into one.journal_id from ledger.journals as j where j.journal_key = one.journal_key;
    if found then
        return one.journal_id;
    end if;
    one.journal_id := public.new_id('jrnl');
    one.wave := 2;
    one.position := 1;
    one.transfer_id := transfer_id;
    one.occurred_at := occurred_at;
    one.gross_minor := gross_minor;
    one.fee_minor := fee_minor;
    one.tax_minor := 0;
    one.surcharge_minor := 0;
    one.reserve_minor := 0;
    one.memo := memo;
    refused := ledger.post(array[one]);
    if cardinality(refused) > 0 then
        raise exception '%', refused[1].problem using errcode = 'check_violation';
    end if;
    return one.journal_id;
end
$$;
comment on function ledger.book_fact is
'Books one fact that is no event of a transfer, by the rules of its type; once per type, tenant, rail and key. The journal''s id, of the first time when it was booked before.';

create function ledger.clear_settlement(
    tenant_id text, environment text, rail text, currency text, amount_minor bigint, fee_minor bigint,
    reference text, occurred_at timestamptz
)
returns text
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
begin
    return ledger.book_fact(
        tenant_id, environment, 'settlement.cleared', reference, case when amount_minor < 0 then 'out' else 'in' end,
        rail, currency, abs(amount_minor), coalesce(fee_minor, 0), occurred_at, null,
        left(regexp_replace('statement ' || reference, '[[:cntrl:]]', ' ', 'g'), 200)
    );
end
$$;
comment on function ledger.clear_settlement is
'Books that a statement showed what a rail owed us (amount above zero, fee withheld from it) or we owed it (below zero, fee on top): SETTLEMENT against LIQUIDITY. Idempotent by reference; the journal''s id.';

create function ledger.release_reserves()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    due ledger.reserves;
    released integer := 0;
begin
    for due in
        select r.* from ledger.reserves as r
        where r.released_at is null and r.due_at <= now()
        order by r.tenant_id, r.environment, r.journal_no
        limit 500
        for update skip locked
    loop
        perform ledger.book_fact(
            due.tenant_id, due.environment, 'reserve.released', due.journal_no::text, 'reserve', due.rail, due.currency,
            due.amount_minor, 0, due.due_at, null, ''
        );
        update ledger.reserves as r set released_at = now() where r.journal_no = due.journal_no;
        released := released + 1;
    end loop;
    return released;
end
$$;
comment on function ledger.release_reserves is 'Gives up to 500 held-back shares whose time is over to their merchants. A cron task.';

create function ledger.expire_holds()
returns integer
language plpgsql
volatile
security definer -- a cron task, which may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    due ledger.holds;
    expired integer := 0;
begin
    for due in
        select h.* from ledger.holds as h
        where h.released_at is null and h.expires_at <= now()
        order by h.tenant_id, h.environment, h.transfer_id
        limit 500
    loop
        perform ledger.book_fact(
            due.tenant_id, due.environment, 'hold.expired', due.transfer_id, 'hold', due.rail, due.currency,
            due.amount_minor, 0, due.expires_at, due.transfer_id, ''
        );
        expired := expired + 1;
    end loop;
    return expired;
end
$$;
comment on function ledger.expire_holds is 'Releases up to 500 authorisations that were never captured in their time. A cron task.';

reset role;
