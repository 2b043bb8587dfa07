-- Events and their way out: the log of intents, the log of transfers, one outbox row per event and destination.

set role stalela_owner;

create function payments.traceparent()
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb ->> 'traceparent';
end
$$;
comment on function payments.traceparent is 'The W3C traceparent of the request this transaction serves; null outside requests.';

create function payments.enqueue(
    event_id text, event_type text, tenant_id text, environment text, ordering_key text, seq bigint
)
returns void
language plpgsql
volatile
security definer -- callers may not write the outbox
set search_path = ''
as $$
begin
    insert into payments.outbox (event_id, destination, tenant_id, environment, ordering_key, seq, event_type)
    select enqueue.event_id, s.destination, enqueue.tenant_id, enqueue.environment, enqueue.ordering_key,
        enqueue.seq, enqueue.event_type
    from public.event_subscriptions as s
    where s.enabled and enqueue.event_type like s.pattern;
end
$$;
comment on function payments.enqueue is 'One outbox row for each destination that subscribes to this type, in the transaction of the event.';

create function payments.record_intent_event(intent payments.payment_intents, type text, payload jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
declare
    new_event_id text := public.new_id('evt');
begin
    insert into payments.intent_events (
        event_id, tenant_id, environment, payment_intent_id, seq, type, payload, traceparent
    ) values (
        new_event_id, intent.tenant_id, intent.environment, intent.payment_intent_id, intent.version,
        record_intent_event.type, record_intent_event.payload, payments.traceparent()
    );
    perform payments.enqueue(
        new_event_id, record_intent_event.type, intent.tenant_id, intent.environment,
        intent.payment_intent_id, intent.version
    );
end
$$;
comment on function payments.record_intent_event is 'Appends one event at the intent''s version and queues it for its destinations.';

create function payments.record_transfer_event(transfer payments.transfers, type text, payload jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
declare
    new_event_id text := public.new_id('evt');
begin
    insert into payments.transfer_events (
        event_id, tenant_id, environment, transfer_id, payment_intent_id, seq, type, payload, traceparent
    ) values (
        new_event_id, transfer.tenant_id, transfer.environment, transfer.transfer_id, transfer.payment_intent_id,
        transfer.version, record_transfer_event.type, record_transfer_event.payload, payments.traceparent()
    );
    perform payments.enqueue(
        new_event_id, record_transfer_event.type, transfer.tenant_id, transfer.environment,
        transfer.transfer_id, transfer.version
    );
end
$$;
comment on function payments.record_transfer_event is 'Appends one event at the transfer''s version and queues it for its destinations.';

reset role;
