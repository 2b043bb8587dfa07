-- How an attempt ended, and what follows from it.

set role stalela_owner;

create function sync.record_attempt(
    sync_id bigint, attempt integer, device_id text, outcome text, code text, message text, retry_after_s integer,
    exchanges jsonb, acceptance jsonb
)
returns text
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    item sync.authority_sync_queue;
begin
    -- The device first, as sync.claim does, when it changes.
    perform from sync.authority_devices as d
    where
        d.device_id = record_attempt.device_id
        and (
            record_attempt.outcome in ('unreachable', 'device_refused') or d.failures > 0
            or jsonb_typeof(record_attempt.acceptance -> 'device_state') = 'object'
        )
    for no key update;
    select q.* into strict item
    from sync.authority_sync_queue as q
    where q.sync_id = record_attempt.sync_id
    for no key update;
    perform sync.log_attempt(
        item, record_attempt.attempt, record_attempt.exchanges, record_attempt.outcome, record_attempt.code,
        record_attempt.message
    );
    -- News that the authority has it are true whoever brings them; all else only from who holds the lease.
    if record_attempt.outcome = 'accepted' then
        return sync.conclude_accepted(item, record_attempt.device_id, record_attempt.acceptance);
    elsif item.attempts <> record_attempt.attempt or item.status <> 'SUBMITTED' then
        return item.status;
    end if;
    return case
        when record_attempt.outcome = 'rejected'
            then sync.conclude_rejected(item, record_attempt.code, record_attempt.message)
        when record_attempt.outcome in ('blocked', 'undecided')
            then sync.conclude_failed(item, record_attempt.outcome, record_attempt.code, record_attempt.message)
        when record_attempt.outcome in ('unreachable', 'device_refused')
            then sync.conclude_held(
                item, record_attempt.device_id, record_attempt.outcome, record_attempt.code, record_attempt.message
            )
        else sync.conclude_postponed(
            item, record_attempt.code, record_attempt.message, record_attempt.retry_after_s
        )
    end;
end
$$;
comment on function sync.record_attempt is
'Concludes one attempt and logs its requests; the row''s status afterwards. outcome: accepted, rejected, blocked, undecided, unreachable, device_refused, not_now, unknown.';

create function sync.log_attempt(
    item sync.authority_sync_queue, attempt integer, exchanges jsonb, outcome text, code text, message text
)
returns void
language plpgsql
volatile
security definer -- callers may not write the log
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into sync.authority_ack_log (
        sync_id, tenant_id, environment, outlet_id, attempt, step, request_hash, http_status, answer, latency_ms
    )
    select
        item.sync_id, item.tenant_id, item.environment, item.outlet_id, log_attempt.attempt, e.step, e.request_hash,
        e.http_status, e.answer, e.latency_ms
    from jsonb_to_recordset(log_attempt.exchanges) as e (
        step text, request_hash text, http_status integer, answer text, latency_ms integer
    );
    insert into sync.authority_ack_log (
        sync_id, tenant_id, environment, outlet_id, attempt, step, outcome, code, message
    ) values (
        item.sync_id, item.tenant_id, item.environment, item.outlet_id, log_attempt.attempt, 'outcome',
        log_attempt.outcome, left(log_attempt.code, 100), left(log_attempt.message, 500)
    );
end
$$;
comment on function sync.log_attempt is 'Keeps every request of an attempt, then its outcome.';

create function sync.conclude_accepted(item sync.authority_sync_queue, device_id text, acceptance jsonb)
returns text
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    known text;
    moved sync.authority_sync_queue;
begin
    if item.kind = 'document' then
        insert into fiscal.authority_elements (
            invoice_id, tenant_id, environment, outlet_id, jurisdiction, device_id, code, qr, authority_number,
            authority_time, counters, raw
        ) values (
            item.invoice_id, item.tenant_id, item.environment, item.outlet_id, item.jurisdiction,
            conclude_accepted.device_id, acceptance ->> 'code', acceptance ->> 'qr',
            acceptance ->> 'authority_number', (acceptance ->> 'authority_time')::timestamptz,
            acceptance -> 'counters', acceptance ->> 'raw'
        )
        on conflict (invoice_id) do nothing;
        select e.code into strict known
        from fiscal.authority_elements as e
        where e.invoice_id = item.invoice_id;
        if known <> acceptance ->> 'code' then
            perform public.raise_alert(
                'authority_accepted_twice', 'critical', item.subject, item.tenant_id, item.environment,
                jsonb_build_object('kept', known, 'other', acceptance ->> 'code')
            );
        end if;
    end if;
    moved := sync.advance(item.sync_id, 'accept', null, null, null);
    if moved.sync_id is null then
        -- Old news: others moved the device's state on since, and it must not go back.
        return item.status;
    end if;
    update sync.authority_devices as d
    set
        state = case
            -- Member by member: the daily look after the device may have moved others meanwhile.
            when jsonb_typeof(acceptance -> 'device_state') = 'object' then d.state || (acceptance -> 'device_state')
            else d.state
        end,
        failures = 0, held_until = least(d.held_until, now()), last_error_code = null, last_error = null,
        updated_at = now()
    where
        d.device_id = conclude_accepted.device_id
        -- A busy outlet's row is written only when something is to be written.
        and (d.failures > 0 or jsonb_typeof(acceptance -> 'device_state') = 'object');
    if item.last_error_code is not null then
        perform sync.close_alerts(item.subject, 'the authority has it');
        perform public.resolve_alert('authority_unavailable', conclude_accepted.device_id, 'it takes documents again');
        perform public.resolve_alert('authority_device_refused', conclude_accepted.device_id, 'it is taken again');
    end if;
    perform sync.tell(moved, item.status, 'invoice.sync.success', acceptance);
    return moved.status;
end
$$;
comment on function sync.conclude_accepted is
'Keeps what the authority issued beside the document, once; the first acceptance is the document''s, another one is an alarm.';

create function sync.conclude_rejected(item sync.authority_sync_queue, code text, message text)
returns text
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved sync.authority_sync_queue := sync.advance(item.sync_id, 'reject', null, code, message);
begin
    perform public.raise_alert(
        'authority_rejected', 'warning', item.subject, item.tenant_id, item.environment,
        jsonb_build_object('code', conclude_rejected.code, 'message', left(conclude_rejected.message, 200))
    );
    perform sync.tell(moved, item.status, 'invoice.sync.rejected', null);
    return moved.status;
end
$$;
comment on function sync.conclude_rejected is 'The authority judged it and said no: it needs a correcting document, or an operator''s retry.';

create function sync.conclude_failed(item sync.authority_sync_queue, outcome text, code text, message text)
returns text
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved sync.authority_sync_queue := sync.advance(item.sync_id, 'fail', null, code, message);
begin
    if conclude_failed.outcome = 'undecided' then
        perform public.raise_alert(
            'authority_outcome_unknown', 'critical', item.subject, item.tenant_id, item.environment,
            jsonb_build_object('message', left(conclude_failed.message, 200), 'noted', item.progress)
        );
    else
        -- Which alert it is, the adapter says: its code is a kind of alert.
        perform public.raise_alert(
            conclude_failed.code, 'warning', item.subject, item.tenant_id, item.environment,
            jsonb_build_object('message', left(conclude_failed.message, 200))
        );
    end if;
    perform sync.tell(moved, item.status, 'invoice.sync.failed', null);
    return moved.status;
end
$$;
comment on function sync.conclude_failed is 'It cannot be sent, or nobody can say whether it arrived: a person must act.';

create function sync.conclude_held(
    item sync.authority_sync_queue, device_id text, outcome text, code text, message text
)
returns text
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    device sync.authority_devices;
begin
    update sync.authority_devices as d
    set
        failures = d.failures + 1,
        held_until = now() + case
            when conclude_held.outcome = 'device_refused' then interval '5 minutes' else sync.backoff(d.failures + 1)
        end,
        last_error_code = conclude_held.code, last_error = left(conclude_held.message, 500), updated_at = now()
    where d.device_id = conclude_held.device_id
    returning d.* into strict device;
    if conclude_held.outcome = 'device_refused' then
        perform public.raise_alert(
            'authority_device_refused', 'warning', device.device_id, device.tenant_id, device.environment,
            jsonb_build_object('code', conclude_held.code, 'message', left(conclude_held.message, 200))
        );
    elsif device.failures >= 5 then
        perform public.raise_alert(
            'authority_unavailable', 'warning', device.device_id, device.tenant_id, device.environment,
            jsonb_build_object('failures', device.failures, 'message', left(conclude_held.message, 200))
        );
    end if;
    -- The document did nothing wrong: it is due as soon as its device is.
    item := sync.advance(item.sync_id, 'postpone', device.held_until, code, message);
    return item.status;
end
$$;
comment on function sync.conclude_held is
'Nothing was sent, or the device is refused: the whole device pauses, so that a hundred documents do not find out one by one.';

create function sync.conclude_postponed(item sync.authority_sync_queue, code text, message text, retry_after_s integer)
returns text
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    due timestamptz := now() + greatest(
        sync.backoff(item.quick_attempts + 1), make_interval(secs => coalesce(retry_after_s, 0))
    );
begin
    update sync.authority_sync_queue as q
    set quick_attempts = q.quick_attempts + 1
    where q.sync_id = item.sync_id;
    item := sync.advance(item.sync_id, 'postpone', due, code, message);
    return item.status;
end
$$;
comment on function sync.conclude_postponed is 'Later again: as the authority asks, and never sooner than the ladder says.';

create function sync.backoff(attempts integer)
returns interval
language plpgsql
volatile
set search_path = ''
as $$
begin
    -- 1, 2, 4, 8, 16 s, give or take a half, then every five minutes.
    return case
        when attempts <= 5 then make_interval(secs => 2 ^ (attempts - 1) * (0.5 + random()))
        else interval '5 minutes'
    end;
end
$$;
comment on function sync.backoff is 'How long to wait after so many attempts: five quick ones with jitter, then the five-minute beat.';

create function sync.tell(
    item sync.authority_sync_queue, from_status text, type text, acceptance jsonb
)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
#variable_conflict use_column
declare
    invoice fiscal.invoices;
begin
    select i.* into invoice from fiscal.invoices as i where i.invoice_id = item.invoice_id;
    if not found then
        return; -- a day has no merchant's document to speak of
    end if;
    perform fiscal.record_event(
        item.tenant_id, item.environment, item.invoice_id, tell.type,
        fiscal.invoice_facts(invoice) || jsonb_strip_nulls(jsonb_build_object(
            'authority_sync_status', item.status,
            'authority_code', acceptance ->> 'code',
            'authority_time', to_char(
                (acceptance ->> 'authority_time')::timestamptz at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
            ),
            'error_code', item.last_error_code, 'error', item.last_error
        )),
        'authority', tell.from_status, item.status
    );
end
$$;
comment on function sync.tell is 'Puts a move of a document at its authority on record, and its merchant hears of it.';

reset role;
