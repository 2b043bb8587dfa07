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
('succeeded', 'settle', 'succeeded', 'payment_intent.overpaid', '{rail}'),
('requires_payment_method', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('processing', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('processing', 'deposit_partly', 'processing', 'payment_intent.partially_paid', '{rail}'),
('processing', 'fail_partly', 'partially_paid', 'payment_intent.payment_failed', '{rail}'),
('processing', 'refund', 'processing', 'payment_intent.refunded', '{rail}'),
('processing', 'refund_partly', 'processing', 'payment_intent.partially_refunded', '{rail}'),
('canceled', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('expired', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('partially_paid', 'settle_partly', 'partially_paid', 'payment_intent.partially_paid', '{rail}'),
('partially_paid', 'settle', 'succeeded', 'payment_intent.succeeded', '{rail}'),
('partially_paid', 'confirm', 'processing', 'payment_intent.processing', '{api}'),
('partially_paid', 'refund', 'partially_paid', 'payment_intent.refunded', '{rail}'),
('partially_paid', 'refund_partly', 'partially_paid', 'payment_intent.partially_refunded', '{rail}'),
('succeeded', 'refund', 'succeeded', 'payment_intent.refunded', '{rail}'),
('succeeded', 'refund_partly', 'succeeded', 'payment_intent.partially_refunded', '{rail}')
on conflict (from_status, event) do update set
    to_status = excluded.to_status,
    event_type = excluded.event_type,
    triggered_by = excluded.triggered_by;

-- shared/states/payments.transfer_transitions.csv
insert into payments.transfer_transitions (from_state, event, to_state, event_type, triggered_by)
values
('INITIATED', 'submit', 'SUBMITTED', 'transfer.submitted', '{api,callback}'),
('INITIATED', 'fail', 'FAILED', 'transfer.failed', '{api,clock}'),
('SUBMITTED', 'accept', 'ACCEPTED', 'transfer.accepted', '{submit,query}'),
('SUBMITTED', 'settle', 'SETTLED', 'transfer.settled', '{callback,query,operator,recon}'),
('SUBMITTED', 'fail', 'FAILED', 'transfer.failed', '{submit,callback,query,operator}'),
('ACCEPTED', 'settle', 'SETTLED', 'transfer.settled', '{callback,query,operator,recon}'),
('ACCEPTED', 'fail', 'FAILED', 'transfer.failed', '{callback,query,operator}'),
('ACCEPTED', 'return', 'RETURNED', 'transfer.returned', '{callback,query,operator,recon}'),
('SETTLED', 'return', 'RETURNED', 'transfer.returned', '{callback,query,operator,refund,recon}'),
('FAILED', 'settle', 'SETTLED', 'transfer.settled', '{query,operator}')
on conflict (from_state, event) do update set
    to_state = excluded.to_state,
    event_type = excluded.event_type,
    triggered_by = excluded.triggered_by;

reset role;
