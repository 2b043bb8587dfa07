-- What tax authorities are told, and what they said. A row of the queue never changes the document it is about.

set role stalela_owner;

create table sync.authorities (
    jurisdiction text primary key references tax.jurisdictions (jurisdiction),
    protocol text not null,
    is_ordered boolean not null,
    in_flight integer not null check (in_flight between 1 and 50),
    lease_s integer not null check (lease_s > 0),
    grace_h integer not null check (grace_h > 0),
    has_days boolean not null,
    check (not is_ordered or in_flight = 1),
    -- The close of a day comes after every document before it.
    check (not has_days or is_ordered)
);
comment on table sync.authorities is
'Authorities we speak to. is_ordered: strictly in an outlet''s order, one at a time. in_flight: how many documents of one outlet may be open there. grace_h: hours until a document that did not arrive is given up.';
alter table sync.authorities enable row level security;

create table sync.payment_methods (
    jurisdiction text not null references sync.authorities (jurisdiction),
    method text not null,
    authority_code text not null,
    primary key (jurisdiction, method)
);
comment on table sync.payment_methods is 'What an authority calls a way of paying of ours.';
alter table sync.payment_methods enable row level security;

create table sync.authority_codes (
    jurisdiction text not null references sync.authorities (jurisdiction),
    code text not null,
    outcome text not null check (outcome in ('accepted', 'rejected', 'not_now', 'device_refused', 'undecided', 'blocked')),
    meaning text not null,
    primary key (jurisdiction, code)
);
comment on table sync.authority_codes is
'What an authority''s own answer codes mean for a document. One that is not here is a person''s business, and alarms.';
alter table sync.authority_codes enable row level security;

create table sync.transitions (
    from_status text not null,
    event text not null,
    to_status text not null check (to_status in (
        'PENDING', 'SUBMITTED', 'RETRY', 'SYNCED', 'FAILED', 'REJECTED', 'NOT_APPLICABLE'
    )),
    primary key (from_status, event)
);
comment on table sync.transitions is
'Every move a row of the queue may make; sync.advance makes no other. REJECTED: the authority said no. FAILED: it did not arrive and a person must act.';
alter table sync.transitions enable row level security;

create table sync.switches (
    jurisdiction text not null references sync.authorities (jurisdiction),
    environment text not null check (environment in ('sandbox', 'production')),
    mode text not null check (mode in ('on', 'read_only', 'off')),
    reason text not null check (length(reason) between 3 and 500),
    changed_by text not null,
    changed_at timestamptz not null default now(),
    primary key (jurisdiction, environment)
);
comment on table sync.switches is
'The kill switch of an authority; no row is on. off: nothing goes there. read_only: only what may have arrived is asked about. Sealing never notices.';
alter table sync.switches enable row level security;

create table sync.consents (
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    is_given boolean not null,
    changed_by text not null,
    changed_at timestamptz not null default now(),
    primary key (tenant_id, environment)
);
comment on table sync.consents is
'Whether a taxpayer agreed that we submit tax data to the authority for it. Nothing is sent without; the audit log has its history.';
alter table sync.consents enable row level security;

create table sync.authority_devices (
    device_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    jurisdiction text not null references sync.authorities (jurisdiction),
    authority_ref text not null check (length(authority_ref) between 1 and 100),
    sealed text not null,
    key_version integer not null,
    masked jsonb not null,
    state jsonb not null default '{}',
    status text not null default 'active' check (status in ('active', 'retired')),
    expires_at timestamptz,
    held_until timestamptz not null default now(),
    failures integer not null default 0 check (failures >= 0),
    last_error_code text,
    last_error text,
    checked_at timestamptz,
    check_lease_until timestamptz,
    created_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
) with (fillfactor = 70);
comment on table sync.authority_devices is
'What an outlet speaks to its authority as; credentials sealed for tenant, outlet and environment. held_until: an authority that is down or refuses the device is left alone until then.';
alter table sync.authority_devices enable row level security;
create unique index authority_devices_active on sync.authority_devices (outlet_id) where status = 'active';
create unique index authority_devices_ref
on sync.authority_devices (jurisdiction, environment, authority_ref) where status = 'active';
create index authority_devices_of_outlet on sync.authority_devices (outlet_id);
create index authority_devices_of_authority on sync.authority_devices (jurisdiction);
create index authority_devices_of_tenant on sync.authority_devices (tenant_id, environment);

create table sync.authority_sync_queue (
    sync_id bigint generated always as identity primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    jurisdiction text not null references sync.authorities (jurisdiction),
    kind text not null check (kind in ('document', 'day_close')),
    subject text not null,
    invoice_id text references fiscal.invoices (invoice_id),
    original_invoice_id text references fiscal.invoices (invoice_id),
    status text not null default 'PENDING' check (status in (
        'PENDING', 'SUBMITTED', 'RETRY', 'SYNCED', 'FAILED', 'REJECTED', 'NOT_APPLICABLE'
    )),
    attempts integer not null default 0 check (attempts >= 0),
    quick_attempts integer not null default 0 check (quick_attempts >= 0),
    progress jsonb not null default '{}',
    next_attempt_at timestamptz not null,
    lease_until timestamptz,
    grace_from timestamptz not null default now(),
    last_error_code text,
    last_error text,
    synced_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (kind, subject),
    check (kind <> 'document' or (invoice_id is not null and subject = invoice_id)),
    check ((status = 'SUBMITTED') = (lease_until is not null)),
    check ((status = 'SYNCED') = (synced_at is not null))
) with (fillfactor = 60);
comment on table sync.authority_sync_queue is
'What an authority is to be told, one row each, written with the document. sync_id is the outlet''s order. next_attempt_at is infinity until the document is signed.';
comment on column sync.authority_sync_queue.progress is
'What the adapter noted before its last step that cannot be taken back; empty: nothing was begun.';
alter table sync.authority_sync_queue enable row level security;
create index authority_sync_queue_open on sync.authority_sync_queue (outlet_id, sync_id)
where status in ('PENDING', 'SUBMITTED', 'RETRY', 'FAILED');
create index authority_sync_queue_due on sync.authority_sync_queue (outlet_id, next_attempt_at)
where status in ('PENDING', 'RETRY');
create index authority_sync_queue_leased on sync.authority_sync_queue (outlet_id, lease_until)
where status = 'SUBMITTED';
create index authority_sync_queue_late on sync.authority_sync_queue (grace_from)
where status in ('PENDING', 'RETRY');
create index authority_sync_queue_of_outlet on sync.authority_sync_queue (outlet_id, status);
create index authority_sync_queue_of_tenant on sync.authority_sync_queue (tenant_id, environment, status);
create index authority_sync_queue_of_invoice on sync.authority_sync_queue (invoice_id);
create index authority_sync_queue_of_original on sync.authority_sync_queue (original_invoice_id);
create index authority_sync_queue_of_authority on sync.authority_sync_queue (jurisdiction);

create table sync.authority_ack_log (
    ack_id bigint generated always as identity primary key,
    sync_id bigint not null references sync.authority_sync_queue (sync_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    attempt integer not null,
    step text not null,
    request_hash text,
    http_status integer,
    answer text,
    latency_ms integer,
    outcome text,
    code text,
    message text,
    happened_at timestamptz not null default now()
);
comment on table sync.authority_ack_log is
'Append-only: every request of every attempt with what came back; the last row of an attempt has its outcome. Also what people decided.';
alter table sync.authority_ack_log enable row level security;
create index authority_ack_log_of_row on sync.authority_ack_log (sync_id);
create index authority_ack_log_of_tenant on sync.authority_ack_log (tenant_id, environment);
create trigger authority_ack_log_append_only
before update or delete or truncate on sync.authority_ack_log
for each statement execute function public.forbid_change();

create table fiscal.authority_elements (
    invoice_id text primary key references fiscal.invoices (invoice_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    jurisdiction text not null,
    device_id text not null references sync.authority_devices (device_id),
    code text not null check (length(code) between 1 and 200),
    qr text,
    authority_number text,
    authority_time timestamptz,
    counters jsonb not null default '{}',
    raw text not null,
    created_at timestamptz not null default now()
);
comment on table fiscal.authority_elements is
'Append-only: what the authority issued for a document. Where it issued a QR, that one is printed.';
alter table fiscal.authority_elements enable row level security;
create index authority_elements_of_device on fiscal.authority_elements (device_id);
create index authority_elements_of_tenant on fiscal.authority_elements (tenant_id, environment);
create trigger authority_elements_append_only
before update or delete or truncate on fiscal.authority_elements
for each statement execute function public.forbid_change();

create table sync.fiscal_days (
    device_id text not null references sync.authority_devices (device_id),
    day_no integer not null check (day_no > 0),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    opened_at text not null check (opened_at ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$'),
    receipts integer not null default 0 check (receipts >= 0),
    counters jsonb not null default '[]',
    closed_at timestamptz,
    primary key (device_id, day_no)
) with (fillfactor = 70);
comment on table sync.fiscal_days is
'The fiscal days of devices, as their authority counts them. opened_at is local time without a zone: the authority signs its date and never tells it again.';
alter table sync.fiscal_days enable row level security;
create unique index fiscal_days_open on sync.fiscal_days (device_id) where closed_at is null;
create index fiscal_days_of_outlet on sync.fiscal_days (outlet_id);
create index fiscal_days_of_tenant on sync.fiscal_days (tenant_id, environment);

create table sync.fiscal_receipts (
    device_id text not null,
    global_no bigint not null check (global_no > 0),
    day_no integer not null,
    counter integer not null check (counter > 0),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    invoice_id text not null unique references fiscal.invoices (invoice_id),
    receipt_id bigint not null,
    receipt_date text not null,
    hash text not null check (length(hash) = 44),
    created_at timestamptz not null default now(),
    primary key (device_id, global_no),
    unique (device_id, day_no, counter),
    unique (device_id, receipt_date),
    foreign key (device_id, day_no) references sync.fiscal_days (device_id, day_no)
);
comment on table sync.fiscal_receipts is
'Append-only: the numbers a document has at an authority with fiscal days. No number, and no second, is a device''s twice.';
alter table sync.fiscal_receipts enable row level security;
create index fiscal_receipts_of_outlet on sync.fiscal_receipts (outlet_id);
create index fiscal_receipts_of_tenant on sync.fiscal_receipts (tenant_id, environment);
create trigger fiscal_receipts_append_only
before update or delete or truncate on sync.fiscal_receipts
for each statement execute function public.forbid_change();

reset role;
