-- What could not be signed at once. A number once taken is always signed.

set role stalela_owner;

create function signing.claim_signatures(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- functions may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    update signing.signing_queue as q
    -- Longer than a provider may take; whoever claims and dies delays it by that.
    set next_attempt_at = now() + interval '30 seconds'
    where q.fiscal_number = any(array(
        select d.fiscal_number
        from signing.signing_queue as d
        where d.next_attempt_at <= now()
        order by d.next_attempt_at
        limit claim_signatures.max_rows
        for update skip locked
    ))
    returning fiscal.signing_work(q.fiscal_number);
end
$$;
comment on function signing.claim_signatures is 'Ledger entries that are due to be signed, each for one signer for 30 seconds.';

create function signing.record_failure(
    fiscal_number text, key_id text, digest text, latency_ms integer, error text, is_permanent boolean
)
returns void
language plpgsql
volatile
security definer -- functions may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    queued signing.signing_queue;
    waits constant integer[] := array[1, 2, 5, 10, 30];
begin
    update signing.signing_queue as q
    set
        attempts = q.attempts + 1,
        last_error = left(record_failure.error, 500),
        next_attempt_at = now() + make_interval(secs => waits[least(q.attempts + 1, cardinality(waits))])
    -- What was parked meanwhile stays so; what is gone was signed by somebody else.
    where q.fiscal_number = record_failure.fiscal_number and q.next_attempt_at < 'infinity'
    returning * into queued;
    insert into signing.signing_log (tenant_id, environment, fiscal_number, key_id, digest, latency_ms, outcome, error)
    select
        l.tenant_id, l.environment, l.fiscal_number, record_failure.key_id, record_failure.digest,
        record_failure.latency_ms, 'failed', left(record_failure.error, 500)
    from fiscal.fiscal_ledger as l
    where l.fiscal_number = record_failure.fiscal_number;
    if queued.fiscal_number is not null and record_failure.is_permanent then
        perform signing.park(array[queued.fiscal_number], record_failure.error);
    end if;
end
$$;
comment on function signing.record_failure is
'Logs a failed call and waits 1, 2, 5, 10, 30 seconds, then always 30; parks the entry when asking again is in vain.';

create function signing.park(fiscal_numbers text[], error text)
returns void
language plpgsql
volatile
security definer -- functions may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    update signing.signing_queue as q
    set next_attempt_at = 'infinity'
    where q.fiscal_number = any(park.fiscal_numbers);
    perform signing.mark_invoices(park.fiscal_numbers, 'pending_signature', 'signing_error', park.error);
    perform public.raise_alert('signing_error', 'critical', 'signing', null, null, jsonb_build_object(
        'parked', (select count(*) from signing.signing_queue as q where q.next_attempt_at = 'infinity'),
        'last', park.fiscal_numbers[cardinality(park.fiscal_numbers)], 'error', left(park.error, 500)
    ));
end
$$;
comment on function signing.park is
'Entries that nobody tries to sign until an operator says so. They keep their numbers; their invoices say signing_error.';

create function signing.mark_invoices(fiscal_numbers text[], from_status text, to_status text, reason text)
returns void
language plpgsql
volatile
security definer -- functions may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    invoice fiscal.invoices;
begin
    for invoice in
        update fiscal.invoices as i
        set status = mark_invoices.to_status
        where i.fiscal_number = any(mark_invoices.fiscal_numbers) and i.status = mark_invoices.from_status
        returning i.*
    loop
        perform fiscal.record_event(
            invoice.tenant_id, invoice.environment, invoice.invoice_id, null, '{}', 'signer',
            mark_invoices.from_status, mark_invoices.to_status, mark_invoices.reason
        );
    end loop;
end
$$;
comment on function signing.mark_invoices is 'Moves the invoices among these entries between waiting for a signer and waiting for an operator; on record.';

create function signing.requeue(fiscal_numbers text[])
returns public.answer
language plpgsql
volatile
security definer -- operators may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    again text[];
begin
    with freed as (
        update signing.signing_queue as q
        set
            next_attempt_at = now(), waiting_since = now(), attempts = 0,
            -- A key that retired and cannot be reached any more is not waited for: the active one signs.
            key_id = (select k.key_id from signing.keys as k where k.key_id = q.key_id and k.status = 'active')
        where
            q.next_attempt_at = 'infinity'
            and (requeue.fiscal_numbers is null or q.fiscal_number = any(requeue.fiscal_numbers))
        returning q.fiscal_number
    )
    select coalesce(array_agg(f.fiscal_number), '{}') into again from freed as f;
    perform signing.mark_invoices(again, 'signing_error', 'pending_signature', 'queued again');
    if cardinality(again) > 0 then
        perform public.audit(caller, 'signing.requeued', again[1], jsonb_build_object('fiscal_numbers', again));
        perform public.poke('invoices/sign');
    end if;
    if not exists (select from signing.signing_queue as q where q.next_attempt_at = 'infinity') then
        perform public.resolve_alert('signing_error', 'signing', 'all of it was queued again');
    end if;
    return row(200, json_build_object('requeued', cardinality(again))::text, caller.rate)::public.answer;
end
$$;
comment on function signing.requeue is
'Has parked entries signed again under their own numbers, these or (null) all. Operators; audited.';

create function signing.poke_queue()
returns boolean
language plpgsql
volatile
security definer -- cron may not read the queue
set search_path = ''
as $$
begin
    if
        not exists (select from signing.signing_queue as q where q.next_attempt_at <= now())
        and not exists (select from signing.statements as s where s.signature is null and s.next_attempt_at <= now())
    then
        return false;
    end if;
    perform public.poke('invoices/sign');
    return true;
end
$$;
comment on function signing.poke_queue is 'Wakes invoices when a document or a statement waits for its signature. A cron task.';

create function signing.watch_queue()
returns boolean
language plpgsql
volatile
security definer -- cron may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    hopeless text[];
    waiting bigint;
    oldest timestamptz;
begin
    select array_agg(q.fiscal_number) into hopeless
    from signing.signing_queue as q
    where q.next_attempt_at < 'infinity' and q.waiting_since < now() - interval '24 hours';
    if hopeless is not null then
        perform signing.park(hopeless, 'nothing signed it within 24 hours');
    end if;
    select count(*), min(q.waiting_since) into waiting, oldest
    from signing.signing_queue as q
    where q.next_attempt_at < 'infinity' and q.waiting_since < now() - interval '15 minutes';
    if waiting = 0 then
        perform public.resolve_alert('signing_stalled', 'signing', 'nothing waits any more');
        return hopeless is not null;
    end if;
    perform fiscal.tell_delayed(q.fiscal_number, q.waiting_since)
    from signing.signing_queue as q
    where q.next_attempt_at < 'infinity' and q.waiting_since < now() - interval '15 minutes';
    perform public.raise_alert(
        'signing_stalled', 'critical', 'signing', null, null, jsonb_build_object('waiting', waiting, 'since', oldest)
    );
    return true;
end
$$;
comment on function signing.watch_queue is
'An alert while entries have waited for 15 minutes, whoever is to blame, and their merchants are told; after 24 hours they wait for an operator. A cron task.';

reset role;
