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
    set next_attempt_at = now() + interval '30 seconds', attempts = q.attempts + 1
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

create function signing.record_failure(fiscal_number text, key_id text, digest text, latency_ms integer, error text)
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
        first_failed_at = coalesce(q.first_failed_at, now()),
        last_error = left(record_failure.error, 500),
        next_attempt_at = now() + make_interval(secs => waits[least(greatest(q.attempts, 1), cardinality(waits))])
    where q.fiscal_number = record_failure.fiscal_number
    returning * into queued;
    if not found then
        return; -- somebody else signed it meanwhile
    end if;
    insert into signing.signing_log (tenant_id, environment, fiscal_number, key_id, digest, latency_ms, outcome, error)
    values (
        queued.tenant_id, queued.environment, queued.fiscal_number, record_failure.key_id, record_failure.digest,
        record_failure.latency_ms, 'failed', left(record_failure.error, 500)
    );
    if queued.first_failed_at < now() - interval '15 minutes' then
        perform fiscal.tell_delayed(queued.fiscal_number, queued.first_failed_at);
        perform public.raise_alert(
            'signing_stalled', 'critical', 'signing', null, null, jsonb_build_object(
                'waiting', (select count(*) from signing.signing_queue), 'since', queued.first_failed_at
            )
        );
    end if;
end
$$;
comment on function signing.record_failure is
'Logs a failed call and waits 1, 2, 5, 10, 30 seconds, then always 30; after 15 minutes an alert, the merchant is told, and on.';

create function signing.poke_queue()
returns boolean
language plpgsql
volatile
security definer -- cron may not read the queue
set search_path = ''
as $$
begin
    if not exists (select from signing.signing_queue as q where q.next_attempt_at <= now()) then
        return false;
    end if;
    perform public.poke('invoices/sign');
    return true;
end
$$;
comment on function signing.poke_queue is 'Wakes invoices when a document waits for its signature. A cron task.';

reset role;
