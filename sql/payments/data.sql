-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/states/payments.intent_transitions.csv
insert into payments.intent_transitions (from_status, event, to_status, event_type, triggered_by)
values
('requires_payment_method', 'confirm', 'processing', 'payment_intent.processing', '{api}'),
('requires_payment_method', 'cancel', 'canceled', 'payment_intent.canceled', '{api}'),
('requires_payment_method', 'expire', 'expired', 'payment_intent.expired', '{clock}'),
('requires_payment_method', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('processing', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('processing', 'fail', 'requires_payment_method', 'payment_intent.payment_failed', '{rail}'),
('canceled', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('expired', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('succeeded', 'settle', 'succeeded', 'payment_intent.overpaid', '{rail}')
on conflict (from_status, event) do update set
    to_status = excluded.to_status,
    event_type = excluded.event_type,
    triggered_by = excluded.triggered_by;

-- shared/states/payments.transfer_transitions.csv
insert into payments.transfer_transitions (from_state, event, to_state, event_type, triggered_by)
values
('INITIATED', 'submit', 'SUBMITTED', 'transfer.submitted', '{api}'),
('INITIATED', 'fail', 'FAILED', 'transfer.failed', '{api,clock}'),
('SUBMITTED', 'accept', 'ACCEPTED', 'transfer.accepted', '{submit,query}'),
('SUBMITTED', 'settle', 'SETTLED', 'transfer.settled', '{callback,query,operator}'),
('SUBMITTED', 'fail', 'FAILED', 'transfer.failed', '{submit,callback,query,operator}'),
('ACCEPTED', 'settle', 'SETTLED', 'transfer.settled', '{callback,query,operator}'),
('ACCEPTED', 'fail', 'FAILED', 'transfer.failed', '{callback,query,operator}'),
('ACCEPTED', 'return', 'RETURNED', 'transfer.returned', '{callback,query,operator}'),
('SETTLED', 'return', 'RETURNED', 'transfer.returned', '{callback,query,operator}'),
('FAILED', 'settle', 'SETTLED', 'transfer.settled', '{query,operator}')
on conflict (from_state, event) do update set
    to_state = excluded.to_state,
    event_type = excluded.event_type,
    triggered_by = excluded.triggered_by;

reset role;
