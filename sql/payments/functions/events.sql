-- Events and their way out: the log of intents, the log of transfers, one outbox row per event and destination.

set role stalela_owner;

create function payments.record_intent_event(intent payments.payment_intents, type text, payload jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write events
set search_path = ''
as $$
declare
    new_event_id text := public.new_id('evt');
    destinations text[];
begin
    insert into payments.intent_events (
        event_id, tenant_id, environment, payment_intent_id, seq, type, payload, traceparent
    ) values (
        new_event_id, intent.tenant_id, intent.environment, intent.payment_intent_id,
        intent.version, record_intent_event.type, record_intent_event.payload,
        nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb ->> 'traceparent'
    );
    -- Written out in both functions: one call less is a fortieth of a payment's creation.
    destinations := array(
        select d.destination
        from public.destinations as d
        where
            d.enabled
            and exists (
                select from public.event_subscriptions as s
                where s.destination = d.destination and s.enabled and record_intent_event.type like s.pattern
            )
    );
    if destinations <> '{}' then
        insert into payments.outbox (destination, event_id, event_type, tenant_id, environment, ordering_key, seq)
        select d.destination, new_event_id, record_intent_event.type, intent.tenant_id, intent.environment, intent.payment_intent_id,
            intent.version
        from unnest(destinations) as d (destination);
    end if;
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
declare
    new_event_id text := public.new_id('evt');
    destinations text[];
begin
    insert into payments.transfer_events (
        event_id, tenant_id, environment, transfer_id, payment_intent_id, seq, type, payload, traceparent
    ) values (
        new_event_id, transfer.tenant_id, transfer.environment, transfer.transfer_id, transfer.payment_intent_id,
        transfer.version, record_transfer_event.type, record_transfer_event.payload,
        nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb ->> 'traceparent'
    );
    -- Written out in both functions: one call less is a fortieth of a payment's creation.
    destinations := array(
        select d.destination
        from public.destinations as d
        where
            d.enabled
            and exists (
                select from public.event_subscriptions as s
                where s.destination = d.destination and s.enabled and record_transfer_event.type like s.pattern
            )
    );
    if destinations <> '{}' then
        insert into payments.outbox (destination, event_id, event_type, tenant_id, environment, ordering_key, seq)
        select d.destination, new_event_id, record_transfer_event.type, transfer.tenant_id, transfer.environment, transfer.transfer_id,
            transfer.version
        from unnest(destinations) as d (destination);
    end if;
end
$$;
comment on function payments.record_transfer_event is
'Appends one event at the transfer''s version, with the W3C traceparent of the request, and one outbox row for each destination that subscribes to its type.';

reset role;
