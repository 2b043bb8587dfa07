-- Our side of the comparison.

set role stalela_owner;

create view recon.our_side as
select
    t.tenant_id,
    t.environment,
    t.rail,
    t.transfer_id,
    t.state,
    t.settled_at is not null as is_settled,
    case
        when t.purpose in ('collection', 'c2b') or (t.purpose = 'direct' and t.intent = 'PULL') then 'in' else 'out'
    end as direction,
    t.amount_minor,
    t.currency,
    t.receipt,
    t.rail_ref,
    t.payment_intent_id,
    coalesce(t.payee_hash, t.payer_hash) as party_hash,
    t.metadata ->> 'batch_ref' as batch_ref,
    -- A reversal stands in the statement under the receipt that it reverses.
    (
        select r.receipt from payments.transfers as r
        where t.purpose = 'refund' and r.transfer_id = t.related_transfer_id
    ) as linked_ref,
    t.settled_at,
    t.created_at
from payments.transfers as t
where t.state <> 'INITIATED';
comment on view recon.our_side is
'Every movement of money as our books have it, settled or on its way: the one place where reconciliation reads transfers.';

reset role;
