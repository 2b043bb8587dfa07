"""A database full of intents: fifty tenants of different sizes, most intents paid, few open."""

from typing import Final

import psycopg

# Ids and times grow together. Ids have the form of public.new_id, where decimal digits are valid.
_INTENTS: Final = """
insert into payments.payment_intents (
    payment_intent_id, tenant_id, environment, status, amount_minor, currency,
    amount_received_minor, payment_method_types, description, metadata, client_secret,
    latest_transfer_id, created_by, version, created_at, updated_at, expires_at, canceled_at
)
select
    'pi_0' || lpad(n::text, 25, '0'), (%(tenants)s::text[])[tenant], 'sandbox', status, amount,
    'KES', case when status = 'succeeded' then amount else 0 end, '{mpesa}', 'Order ' || n,
    case
        when n %% 10 < 4 then jsonb_build_object('order', n::text, 'channel', channel)
        else '{}'
    end,
    'pics_' || md5(n::text) || md5((-n)::text),
    case when status in ('succeeded', 'processing') then 'tr_0' || lpad(n::text, 25, '0') end,
    'key_bench', 2, at, at, at + interval '1 day', case when status = 'canceled' then at end
from (
    select
        n,
        1 + floor(power(random(), 2) * cardinality(%(tenants)s::text[]))::integer as tenant,
        (array['web', 'app', 'till', 'link'])[1 + n %% 4] as channel,
        case
            when roll < 0.80 then 'succeeded'
            when roll < 0.93 then 'expired'
            when roll < 0.97 then 'canceled'
            when roll < 0.98 then 'processing'
            else 'requires_payment_method'
        end as status,
        -- From one shilling to eight thousand, small amounts more often.
        100 * (1 + floor(exp(random() * 9)))::bigint as amount,
        now() - interval '300 days' * (%(count)s - n) / %(count)s as at
    from (select n, random() as roll from generate_series(1, %(count)s) as n) as rolled
) as drawn
"""
_TRANSFERS: Final = """
insert into payments.transfers (
    transfer_id, tenant_id, environment, payment_intent_id, intent, rail, state, amount_minor,
    currency, payer_sealed, payer_masked, payer_hash, receipt, created_at, submitted_at, settled_at
)
select
    i.latest_transfer_id, i.tenant_id, i.environment, i.payment_intent_id, 'PULL', 'mpesa',
    case i.status when 'succeeded' then 'SETTLED' else 'ACCEPTED' end, i.amount_minor, i.currency,
    repeat('s', 80), '+2547******78', repeat('h', 64),
    case i.status when 'succeeded' then right(i.payment_intent_id, 10) end,
    i.created_at, i.created_at, case i.status when 'succeeded' then i.created_at end
from payments.payment_intents as i
where i.latest_transfer_id is not null
"""


def fill(connection: psycopg.Connection, tenants: list[str], count: int) -> None:
    """Insert `count` intents over the last 300 days and their transfers; tidy up and analyse."""
    facts = {"tenants": tenants, "count": count}
    connection.execute(_INTENTS, facts)
    connection.execute(_TRANSFERS)
    connection.execute("vacuum (analyze) payments.payment_intents")
    connection.execute("vacuum (analyze) payments.transfers")
