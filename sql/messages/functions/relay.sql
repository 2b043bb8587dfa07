-- The relay's side of the outbox: one destination, and nothing of any other.

set role stalela_owner;

create function messages.lease_relay(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not read the outbox
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select jsonb_build_object(
        'outbox_id', d.outbox_id, 'event_id', d.event_id, 'event_type', d.event_type, 'tenant_id', d.tenant_id,
        'environment', d.environment, 'ordering_key', d.ordering_key, 'traceparent', d.traceparent,
        'body', webhooks.payload(
            d.event_id, d.event_type, k.api_version, d.environment, d.occurred_at, d.ordering_key, d.seq, d.payload
        )
    )
    from payments.lease_events('relay', lease_relay.max_rows) as d
    left join webhooks.event_types as k on k.type = d.event_type
    order by d.outbox_id;
end
$$;
comment on function messages.lease_relay is 'Leases events for the distributed log; body is what a webhook of the event carries.';

create function messages.acknowledge_relay(outbox_ids bigint[])
returns integer
language plpgsql
volatile
security definer -- callers may not write the outbox
set search_path = ''
as $$
begin
    return payments.acknowledge_events('relay', outbox_ids);
end
$$;
comment on function messages.acknowledge_relay is 'The log has these events for good.';

create function messages.return_relay(outbox_id bigint, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write the outbox
set search_path = ''
as $$
begin
    perform payments.return_event('relay', return_relay.outbox_id, left(return_relay.reason, 500), null);
end
$$;
comment on function messages.return_relay is 'The log did not take this event; it and the later ones of its stream wait for the next rung of the ladder.';

reset role;
