-- The bytes of an event, as webhooks and GET /events show them.

set role stalela_owner;

create function webhooks.payload(
    event_id text, type text, api_version text, environment text, occurred_at timestamptz, subject text, seq bigint,
    facts jsonb
)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    -- json_strip_nulls writes JSON anew without a space; what is unknown is absent.
    return json_strip_nulls(json_build_object(
        'id', event_id,
        'type', type,
        'api_version', api_version,
        'livemode', environment = 'production',
        'timestamp', to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'data', facts || jsonb_build_object(
            case split_part(subject, '_', 1)
                when 'pi' then 'payment_intent_id'
                when 'tr' then 'transfer_id'
                when 'inv' then 'invoice_id'
                when 'io' then 'invoice_order_id'
                when 'whe' then 'webhook_endpoint_id'
                else 'subject_id'
            end, subject,
            'sequence', seq
        )
    ))::text;
end
$$;
comment on function webhooks.payload is
'An event as merchants get it: minified, nulls left out, the same bytes each time. subject: the id whose events `sequence` numbers.';

create function webhooks.wants(filters text[], type text)
returns boolean
language sql
immutable
set search_path = ''
as $$
    select filters && array['*', type, split_part(type, '.', 1) || '.*'];
$$;
comment on function webhooks.wants is 'Whether an endpoint''s filters let this type through: its name, family.* or *.';

reset role;
