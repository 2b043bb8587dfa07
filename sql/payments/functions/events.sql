-- Events and their way out: the log of intents, the log of transfers, one outbox row per event and destination.

set role stalela_owner;

create function payments.record_intent_event(intent payments.payment_intents, type text, payload jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
begin
    with event as (
        insert into payments.intent_events (
            event_id, tenant_id, environment, payment_intent_id, seq, type, payload, traceparent
        ) values (
            public.new_id('evt'), intent.tenant_id, intent.environment, intent.payment_intent_id,
            intent.version, record_intent_event.type, record_intent_event.payload,
            nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb ->> 'traceparent'
        )
        returning *
    )
    insert into payments.outbox (destination, event_id, event_type, tenant_id, environment, ordering_key, seq)
    select s.destination, e.event_id, e.type, e.tenant_id, e.environment, e.payment_intent_id, e.seq
    from event as e
    inner join public.event_subscriptions as s on s.enabled and e.type like s.pattern
    inner join public.destinations as d on d.destination = s.destination and d.enabled
    group by s.destination, e.event_id, e.type, e.tenant_id, e.environment, e.payment_intent_id, e.seq;
end
$$;
comment on function payments.record_intent_event is
'Appends one event at the intent''s version, with the W3C traceparent of the request, and one outbox row for each destination that subscribes to its type.';

create function payments.record_transfer_event(transfer payments.transfers, type text, payload jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
begin
    with event as (
        insert into payments.transfer_events (
            event_id, tenant_id, environment, transfer_id, payment_intent_id, seq, type, payload, traceparent
        ) values (
            public.new_id('evt'), transfer.tenant_id, transfer.environment, transfer.transfer_id,
            transfer.payment_intent_id, transfer.version, record_transfer_event.type, record_transfer_event.payload,
            nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb ->> 'traceparent'
        )
        returning *
    )
    insert into payments.outbox (destination, event_id, event_type, tenant_id, environment, ordering_key, seq)
    select s.destination, e.event_id, e.type, e.tenant_id, e.environment, e.transfer_id, e.seq
    from event as e
    inner join public.event_subscriptions as s on s.enabled and e.type like s.pattern
    inner join public.destinations as d on d.destination = s.destination and d.enabled
    group by s.destination, e.event_id, e.type, e.tenant_id, e.environment, e.transfer_id, e.seq;
end
$$;
comment on function payments.record_transfer_event is
'Appends one event at the transfer''s version, with the W3C traceparent of the request, and one outbox row for each destination that subscribes to its type.';

reset role;
