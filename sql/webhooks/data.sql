-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/webhooks/webhooks.event_types.csv
insert into webhooks.event_types (type, api_version, description)
values
('payment_intent.created', '2026-11-21', 'A payment intent was created'),
('payment_intent.updated', '2026-11-21', 'Its description or metadata changed'),
('payment_intent.processing', '2026-11-21', 'The payer is being asked on a rail'),
('payment_intent.payment_failed', '2026-11-21', 'An attempt failed; the intent takes another one'),
('payment_intent.succeeded', '2026-11-21', 'It is paid in full'),
('payment_intent.partially_paid', '2026-11-21', 'Part of the amount came in'),
('payment_intent.overpaid', '2026-11-21', 'More came in than was asked for'),
('payment_intent.partially_refunded', '2026-11-21', 'Part of what was paid went back'),
('payment_intent.refunded', '2026-11-21', 'All that was paid went back'),
('payment_intent.canceled', '2026-11-21', 'It was canceled before it was paid'),
('payment_intent.expired', '2026-11-21', 'Its time was over before it was paid'),
('transfer.initiated', '2026-11-21', 'An attempt to move money was recorded; nothing was sent yet'),
('transfer.submitted', '2026-11-21', 'It is on its way to the rail'),
('transfer.accepted', '2026-11-21', 'The rail has it; the payer may be looking at a prompt'),
('transfer.settled', '2026-11-21', 'The money moved'),
('transfer.failed', '2026-11-21', 'The money did not move'),
('transfer.returned', '2026-11-21', 'Money that had moved went back'),
('transfer.partially_returned', '2026-11-21', 'Part of the money that had moved went back'),
('transfer.unallocated', '2026-11-21', 'Money came in that belongs to no payment intent yet'),
('transfer.allocated', '2026-11-21', 'Money that belonged to no payment intent was given to one'),
('transfer.receipt_recorded', '2026-11-21', 'The rail''s receipt became known after the money had moved'),
('transfer.needs_review', '2026-11-21', 'A person must decide what became of it'),
('transfer.review_resolved', '2026-11-21', 'A person decided what became of it'),
('refund.created', '2026-11-21', 'A refund was asked for'),
('refund.succeeded', '2026-11-21', 'The money of a refund went back'),
('refund.failed', '2026-11-21', 'The money of a refund did not go back'),
('payout.created', '2026-11-21', 'A payout was asked for'),
('payout.pending_approval', '2026-11-21', 'A payout waits for a second person'),
('payout.succeeded', '2026-11-21', 'The money of a payout arrived'),
('payout.failed', '2026-11-21', 'The money of a payout did not arrive'),
('invoice.sealed', '2026-11-21', 'A fiscal document has its signature and may be printed'),
('invoice.credited', '2026-11-21', 'A credit note of it was sealed'),
('invoice.signing_delayed', '2026-11-21', 'Its number is taken and its signature is more than 15 minutes late'),
('invoice.issue_failed', '2026-11-21', 'The invoice that a payment asked for was refused by a rule; the payment stands'),
('invoice.sync.success', '2026-11-21', 'The tax authority has it and issued its code'),
('invoice.sync.failed', '2026-11-21', 'It did not reach the tax authority, and a person must act'),
('invoice.sync.rejected', '2026-11-21', 'The tax authority refused it: it needs a correcting document'),
('webhook_endpoint.test', '2026-11-21', 'Sent on request to try an endpoint; nothing happened')
on conflict (type) do update set
    api_version = excluded.api_version,
    description = excluded.description;

reset role;
