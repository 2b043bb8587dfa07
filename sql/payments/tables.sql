-- Payment intents, transfers, their events and the outbox.
-- No foreign keys from here into public.tenants, public.currencies and rails.rails: every insert would lock the
-- same few hot parent rows. The functions that insert have read those rows in the same transaction.

set role stalela_owner;

create table payments.intent_transitions (
    from_status text not null,
    event text not null,
    to_status text not null,
    event_type text not null,
    triggered_by text[] not null,
    primary key (from_status, event)
);
comment on table payments.intent_transitions is
'Every move a payment intent can make; payments.advance_intent makes no other. Rows: shared/states.';

create table payments.transfer_transitions (
    from_state text not null,
    event text not null,
    to_state text not null,
    event_type text not null,
    triggered_by text[] not null,
    primary key (from_state, event)
);
comment on table payments.transfer_transitions is
'Every move a transfer can make and who may cause it; payments.advance_transfer makes no other. Rows: shared/states.';

create table payments.payment_intents (
    payment_intent_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    status text not null check (
        status in ('requires_payment_method', 'processing', 'partially_paid', 'succeeded', 'canceled', 'expired')
    ),
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    amount_received_minor bigint not null default 0 check (amount_received_minor >= 0),
    payment_method_types text[] not null check (cardinality(payment_method_types) > 0),
    description text check (length(description) <= 500),
    customer jsonb,
    customer_sealed text,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    return_url text,
    client_secret text not null,
    last_error jsonb,
    cancellation_reason text,
    latest_transfer_id text,
    created_by text not null,
    version bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    expires_at timestamptz not null,
    canceled_at timestamptz,
    amount_refunded_minor bigint not null default 0 check (amount_refunded_minor >= 0),
    check (amount_refunded_minor <= amount_received_minor),
    check (status <> 'partially_paid' or amount_received_minor > 0),
    -- Succeeded means paid in full, and paid in full means succeeded.
    check ((status = 'succeeded') = (amount_received_minor >= amount_minor)),
    check (status <> 'canceled' or canceled_at is not null),
    check (status <> 'processing' or latest_transfer_id is not null)
);
comment on table payments.payment_intents is
'What a merchant wants to collect. status moves only through payments.advance_intent; customer holds masked values, customer_sealed the real ones.';
comment on column payments.payment_intents.client_secret is
'Lets a payer''s browser confirm or watch this one intent, together with a publishable key; nothing else.';
alter table payments.payment_intents enable row level security;

-- Ascending although lists are newest first: a new row then goes to the right edge of its tenant's pages, which stay
-- full, and lists read backwards. Without the id: equal instants are rare, and sorted when they are read.
create index payment_intents_newest
on payments.payment_intents (tenant_id, environment, created_at);
create index payment_intents_by_status
on payments.payment_intents (tenant_id, environment, status, created_at);
-- Amounts are compared within a currency, which alone is a filter too.
create index payment_intents_by_amount
on payments.payment_intents (tenant_id, environment, currency, amount_minor, created_at);
-- Most intents carry no metadata and need not pay for this index.
create index payment_intents_by_metadata
on payments.payment_intents using gin (metadata jsonb_path_ops) where metadata <> '{}';
-- What payers type as account number: the last characters of the id. Only open intents are paid that way.
create index payment_intents_by_reference
on payments.payment_intents (right(payment_intent_id, 12))
where status in ('requires_payment_method', 'processing', 'partially_paid');
create index payment_intents_to_expire
on payments.payment_intents (expires_at) where status = 'requires_payment_method';

create table payments.transfers (
    transfer_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    payment_intent_id text references payments.payment_intents (payment_intent_id),
    intent text not null check (intent in ('AUTH', 'CAPTURE', 'PUSH', 'PULL')),
    rail text not null,
    state text not null check (
        state in ('INITIATED', 'SUBMITTED', 'ACCEPTED', 'SETTLED', 'RETURNED', 'FAILED')
    ),
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    payer_sealed text,
    payer_masked text,
    payer_hash text,
    rail_ref text,
    receipt text,
    failure jsonb,
    late boolean not null default false,
    review_reason text,
    version bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    submitted_at timestamptz,
    settled_at timestamptz,
    purpose text not null default 'collection' check (purpose in ('collection', 'refund', 'payout', 'direct', 'c2b')),
    operation text default 'collect' check (operation in ('collect', 'pay_out', 'refund')),
    related_transfer_id text references payments.transfers (transfer_id),
    external_ref text check (length(external_ref) between 1 and 128),
    end_user_ref text check (length(end_user_ref) between 1 and 128),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    description text check (length(description) <= 500),
    payee_sealed text,
    payee_masked text,
    payee_hash text,
    told_minor bigint,
    returned_minor bigint not null default 0 check (returned_minor >= 0),
    refunds_open_minor bigint not null default 0 check (refunds_open_minor >= 0),
    body_hash text,
    created_by text,
    approval text check (approval in ('pending', 'approved', 'rejected', 'lapsed')),
    approval_by text,
    approval_at timestamptz,
    approval_reason text,
    unallocated_reason text,
    check ((state = 'FAILED') = (failure is not null)),
    check ((state = 'SETTLED') <= (settled_at is not null)),
    check (state = 'INITIATED' or submitted_at is not null or state = 'FAILED'),
    -- Never more back than came in, however many ask at once.
    check (returned_minor + refunds_open_minor <= amount_minor),
    check ((state = 'RETURNED') = (returned_minor = amount_minor)),
    check (purpose <> 'collection' or payment_intent_id is not null),
    check (purpose <> 'refund' or related_transfer_id is not null),
    check ((operation is null) = (purpose = 'c2b')),
    check (approval is null or approval <> 'pending' or state = 'INITIATED'),
    check (unallocated_reason is null or (purpose = 'c2b' and payment_intent_id is null))
);
comment on table payments.transfers is
'One attempt to move money on one rail. state moves only through payments.advance_transfer; review_reason not null means a person must look.';
comment on column payments.transfers.operation is
'What the rail is asked to do: collect from the payer, pay out to the payee, refund (reverse) the related transfer; null when the money came by itself.';
comment on column payments.transfers.refunds_open_minor is
'Reserved by refunds that are on their way; with returned_minor never more than amount_minor.';
comment on column payments.transfers.told_minor is
'What the rail says moved, where it is not what was asked: a person decides.';
alter table payments.transfers enable row level security;

-- The payer is never asked twice at once: at most one open attempt to collect per intent, whoever calls.
create unique index transfers_one_open_per_intent
on payments.transfers (payment_intent_id) where state in ('INITIATED', 'SUBMITTED', 'ACCEPTED') and purpose = 'collection';
create unique index transfers_external_ref
on payments.transfers (tenant_id, environment, external_ref) where external_ref is not null;
create index transfers_related on payments.transfers (related_transfer_id);
-- Of a prompt and of the deposit notice that M-Pesa sends about it, the later must find the earlier.
create index transfers_by_reference
on payments.transfers (right(payment_intent_id, 12)) where purpose = 'collection' and receipt is null;
create index transfers_paid_out on payments.transfers (created_by, created_at) where operation = 'pay_out';
create index transfers_initiated on payments.transfers (created_at) where state = 'INITIATED';
create index transfers_unallocated
on payments.transfers (tenant_id, environment, created_at) where unallocated_reason is not null;
create index transfers_of_intent on payments.transfers (payment_intent_id);
create index transfers_newest on payments.transfers (tenant_id, environment, created_at);
-- References and receipts are unique at the rail; per tenant here, so that nobody can occupy another's.
create unique index transfers_rail_ref on payments.transfers (tenant_id, environment, rail, rail_ref) where rail_ref is not null;
-- One receipt pays for one transfer.
create unique index transfers_receipt on payments.transfers (tenant_id, environment, rail, receipt) where receipt is not null;
create index transfers_in_review on payments.transfers (updated_at) where review_reason is not null;

create table payments.attempts (
    transfer_id text not null references payments.transfers (transfer_id),
    number integer not null check (number > 0),
    tenant_id text not null,
    environment text not null,
    callback_token_hash text not null unique,
    started_at timestamptz not null default now(),
    answered_at timestamptz,
    outcome text,
    code text,
    kind text not null default 'send' check (kind in ('send', 'query')),
    route text not null default 'POST /payment-intents/{id}/confirm',
    primary key (transfer_id, number)
);
comment on table payments.attempts is
'One request to a rail that it answers by calling back, written before it is sent: number 1 moves money, later ones only ask. A row without answer is an unknown outcome, never a failure.';
alter table payments.attempts enable row level security;

-- Events have no foreign keys: the functions that write them hold the row they are about, which nobody deletes.
create sequence payments.event_position;
comment on sequence payments.event_position is 'Orders the events of one intent and its transfers in a single timeline.';

create table payments.intent_events (
    event_id text primary key,
    position bigint not null default nextval('payments.event_position'),
    -- Readers that follow a cursor consume only rows below pg_snapshot_xmin: a smaller position can commit later.
    xid xid8 not null default pg_current_xact_id(),
    tenant_id text not null,
    environment text not null,
    payment_intent_id text not null,
    seq bigint not null,
    type text not null,
    payload jsonb not null,
    traceparent text,
    occurred_at timestamptz not null default now(),
    unique (payment_intent_id, seq)
);
comment on table payments.intent_events is 'Append-only: what happened to an intent, numbered per intent. References only, no personal data.';
alter table payments.intent_events enable row level security;
create index intent_events_of_tenant on payments.intent_events (tenant_id, environment, xid, position);

create table payments.transfer_events (
    event_id text primary key,
    position bigint not null default nextval('payments.event_position'),
    xid xid8 not null default pg_current_xact_id(),
    tenant_id text not null,
    environment text not null,
    transfer_id text not null,
    payment_intent_id text,
    seq bigint not null,
    type text not null,
    payload jsonb not null,
    traceparent text,
    occurred_at timestamptz not null default now(),
    unique (transfer_id, seq)
);
comment on table payments.transfer_events is 'Append-only: what happened to a transfer, numbered per transfer. References only, no personal data.';
alter table payments.transfer_events enable row level security;
create index transfer_events_of_tenant on payments.transfer_events (tenant_id, environment, xid, position);
create index transfer_events_of_intent on payments.transfer_events (payment_intent_id, position);

-- The outbox is a log that is only ever inserted into: no row of it is updated or deleted. How far each destination has
-- read is one row, and only events that did not simply pass are rows of their own. Old partitions are dropped whole.
create table payments.outbox (
    -- The transaction that wrote it: readers go by snapshots of these, because ids are given out before commit.
    -- First, because defaults are evaluated in this order and no id may be older than its transaction's number.
    xid xid8 not null default pg_current_xact_id(),
    outbox_id bigint generated always as identity,
    destination text not null,
    event_id text not null,
    event_type text not null,
    tenant_id text not null,
    environment text not null,
    ordering_key text not null,
    seq bigint not null,
    created_at timestamptz not null default now(),
    primary key (destination, outbox_id, created_at)
) partition by range (created_at);
comment on table payments.outbox is
'Append-only: one row per event and destination, written in the transaction of the event; destinations come from public.event_subscriptions. Partitions leave when every destination is past them.';
alter table payments.outbox enable row level security;
-- Finds what a writer left that was still at work when its neighbours were read.
create index outbox_writers on payments.outbox (xid);

create table payments.outbox_rest partition of payments.outbox default;
comment on table payments.outbox_rest is
'Outbox rows of a time that has no partition: empty unless payments.roll_outbox did not run for days. Nothing is refused for want of a partition.';
alter table payments.outbox_rest enable row level security;

create table payments.outbox_cursors (
    destination text primary key references public.destinations (destination),
    seen pg_snapshot not null default '1:1:',
    seen_id bigint not null default 0,
    window_end pg_snapshot,
    window_first_id bigint,
    window_last_id bigint,
    position bigint not null default 0,
    moved_by xid8,
    moved_at timestamptz not null default now(),
    check ((window_end is null) = (window_first_id is null)),
    check ((window_end is null) = (window_last_id is null)),
    check (window_end is not null or position = 0)
) with (fillfactor = 10);
comment on table payments.outbox_cursors is
'How far each destination has read: everything visible in `seen`, and of what became visible until `window_end` the rows up to `position`. A writer at work is in no snapshot, so it is never skipped, and delays nobody.';
comment on column payments.outbox_cursors.seen_id is 'Transactions whose numbers are not below the xmax of `seen` have greater ids than this.';
alter table payments.outbox_cursors enable row level security;

create table payments.outbox_exceptions (
    destination text not null references public.destinations (destination),
    outbox_id bigint not null,
    event_id text not null,
    event_type text not null,
    tenant_id text not null,
    environment text not null,
    ordering_key text not null,
    seq bigint not null,
    state text not null check (state in ('retry', 'waiting', 'taken', 'leased', 'dead')),
    attempts integer not null default 0 check (attempts >= 0),
    next_attempt_at timestamptz not null default now(),
    last_error text,
    created_at timestamptz not null,
    parked_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    primary key (destination, outbox_id),
    check (state <> 'dead' or last_error is not null)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
comment on table payments.outbox_exceptions is
'Deliveries that did not simply pass: retry (due at next_attempt_at), waiting (behind another one of its destination and ordering key), taken or leased (out with the consumer), dead (a person decides). Copies of their outbox rows, which may be gone.';
alter table payments.outbox_exceptions enable row level security;
create index outbox_exceptions_due on payments.outbox_exceptions (destination, state, next_attempt_at, outbox_id)
where state in ('retry', 'taken');
create index outbox_exceptions_of_stream on payments.outbox_exceptions (destination, ordering_key, outbox_id);
create index outbox_exceptions_of_tenant on payments.outbox_exceptions (tenant_id, environment);

create table payments.outbox_leases (
    lease_id bigint generated always as identity primary key,
    destination text not null references public.destinations (destination),
    outbox_ids bigint[] not null,
    ordering_keys text[] not null,
    lease_until timestamptz not null,
    leased_at timestamptz not null default now(),
    check (cardinality(outbox_ids) > 0 and cardinality(outbox_ids) = cardinality(ordering_keys))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
comment on table payments.outbox_leases is
'One row per batch that is out with a consumer outside Postgres: the deliveries it has not answered for yet, each with its stream, which they hold.';
alter table payments.outbox_leases enable row level security;
create index outbox_leases_of_destination on payments.outbox_leases (destination);

create type payments.delivery as (
    outbox_id bigint,
    event_id text,
    event_type text,
    tenant_id text,
    environment text,
    ordering_key text,
    seq bigint,
    attempts integer,
    occurred_at timestamptz,
    traceparent text,
    payload jsonb
);
comment on type payments.delivery is
'An event on its way to one destination. attempts: how often it failed before; payload and occurred_at are the event''s own.';

create type payments.outbox_page as (rows payments.outbox[], cursor payments.outbox_cursors);
comment on type payments.outbox_page is 'Rows of the log, and where the cursor stands after them.';

create table payments.stream_tokens (
    token_hash text primary key,
    tenant_id text not null,
    environment text not null,
    payment_intent_id text not null references payments.payment_intents (payment_intent_id),
    expires_at timestamptz not null default now() + interval '60 seconds',
    used_at timestamptz
);
comment on table payments.stream_tokens is 'Single-use right to open the event stream of one intent, 60 seconds long.';
alter table payments.stream_tokens enable row level security;
create index stream_tokens_of_intent on payments.stream_tokens (payment_intent_id);
create index stream_tokens_expiry on payments.stream_tokens (expires_at);
create index stream_tokens_of_tenant on payments.stream_tokens (tenant_id, environment);

create table payments.streams (
    stream_id text primary key,
    tenant_id text not null,
    environment text not null,
    payment_intent_id text not null references payments.payment_intents (payment_intent_id),
    expires_at timestamptz not null default now() + interval '15 minutes'
);
comment on table payments.streams is 'Open event streams: the function may read the events of these intents and of no other.';
alter table payments.streams enable row level security;
create index streams_of_intent on payments.streams (payment_intent_id);
create index streams_expiry on payments.streams (expires_at);
create index streams_of_tenant on payments.streams (tenant_id, environment);

alter table payments.intent_transitions enable row level security;
alter table payments.transfer_transitions enable row level security;

create type payments.sight as (caller public.caller, intent payments.payment_intents, reveal_secret boolean);
comment on type payments.sight is 'An intent, who looks at it, and whether they may see its client secret.';
create type payments.begun as (answer public.answer, instruction jsonb);
comment on type payments.begun is 'Either a stored answer to replay, or the instruction to send to the rail.';
create type payments.asked as (answer public.answer, work jsonb);
comment on type payments.asked is 'Either the current intent, or what to ask the rail about first.';

reset role;
