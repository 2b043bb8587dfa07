-- Who seals, where, and everything that was sealed. One outlet is one number sequence and one chain.

set role stalela_owner;

create table fiscal.merchants (
    merchant_id text primary key,
    tenant_id text not null references public.tenants (tenant_id),
    environment text not null check (environment in ('sandbox', 'production')),
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    legal_name text not null check (length(legal_name) between 1 and 200),
    tin text not null,
    registration_number text,
    vat_status text not null check (vat_status in ('registered', 'not_registered')),
    address text,
    status text not null default 'active' check (status in ('active', 'suspended')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (tenant_id, environment)
);
comment on table fiscal.merchants is
'The taxpayer behind a tenant, one per environment. A suspended one seals nothing; reading stays.';
alter table fiscal.merchants enable row level security;
create index merchants_of_jurisdiction on fiscal.merchants (jurisdiction);

create table fiscal.outlets (
    outlet_id text primary key,
    merchant_id text not null references fiscal.merchants (merchant_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_code text not null unique check (outlet_code ~ '^[A-Z0-9]{2,12}$'),
    name text not null check (length(name) between 1 and 200),
    address text,
    time_zone text not null,
    cut_off_hour integer not null default 0 check (cut_off_hour between 0 and 23),
    fiscal_authority_id text not null,
    status text not null default 'active' check (status in ('active', 'closed')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table fiscal.outlets is
'A place of sale. outlet_code is unique across all merchants because it is part of every fiscal number.';
comment on column fiscal.outlets.cut_off_hour is
'The local hour at which its business day ends: 0 is midnight; a bar that closes at 3 has 4.';
alter table fiscal.outlets enable row level security;
create index outlets_of_merchant on fiscal.outlets (merchant_id);
create index outlets_of_tenant on fiscal.outlets (tenant_id, environment, created_at);

create table fiscal.operators (
    operator_id text primary key,
    outlet_id text not null references fiscal.outlets (outlet_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    kind text not null check (kind in ('terminal', 'cashier')),
    label text not null check (label ~ '^[\x21-\x7e]{1,64}$'),
    name text not null check (length(name) between 1 and 200),
    status text not null default 'active' check (status in ('active', 'blocked')),
    created_at timestamptz not null default now(),
    user_id uuid references public.users (user_id),
    unique (outlet_id, kind, label),
    check (user_id is null or kind = 'cashier')
);
comment on table fiscal.operators is
'Terminals and cashiers of an outlet: label is what documents carry as pos_terminal_id or cashier_id. A blocked one seals nothing. user_id: who signs in as this cashier, one cashier per person and environment.';
alter table fiscal.operators enable row level security;
create index operators_of_tenant on fiscal.operators (tenant_id, environment);
create unique index operators_of_person on fiscal.operators (user_id, tenant_id, environment);

create table fiscal.fiscal_counters (
    outlet_id text not null references fiscal.outlets (outlet_id),
    kind text not null check (kind in ('invoice', 'report_z', 'key_rotation', 'archive')),
    next_value bigint not null default 1 check (next_value > 0),
    primary key (outlet_id, kind)
) with (fillfactor = 50);
comment on table fiscal.fiscal_counters is
'The next number of an outlet, taken and moved under the outlet''s lock. Not a sequence: a rollback must give its number back.';
alter table fiscal.fiscal_counters enable row level security;

create table fiscal.invoices (
    invoice_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    merchant_id text not null references fiscal.merchants (merchant_id),
    outlet_id text not null references fiscal.outlets (outlet_id),
    status text not null check (status in ('pending_signature', 'signing_error', 'fiscalized')),
    invoice_type text not null,
    invoice_ref text,
    fiscal_number text not null unique,
    sequence bigint not null,
    payload text not null,
    canonical_payload_hash text not null,
    tax_summary jsonb not null,
    currency text not null,
    total_minor bigint not null check (total_minor >= 0),
    tax_minor bigint not null check (tax_minor >= 0),
    original_invoice_id text references fiscal.invoices (invoice_id),
    created_by text not null,
    created_at timestamptz not null default now(),
    cashier_id text not null,
    unique (outlet_id, sequence)
) with (fillfactor = 80);
comment on table fiscal.invoices is
'Numbered documents. payload is the canonical text whose SHA-256 is in the ledger; nothing but status ever changes. cashier_id: as payload has it.';
alter table fiscal.invoices enable row level security;
create index invoices_of_tenant on fiscal.invoices (tenant_id, environment, created_at);
create index invoices_of_merchant on fiscal.invoices (merchant_id);
create index invoices_of_cashier on fiscal.invoices (outlet_id, cashier_id, created_at);
create index invoices_credits on fiscal.invoices (original_invoice_id);
create unique index invoices_ref on fiscal.invoices (outlet_id, invoice_ref) where invoice_ref is not null;

-- Like the logs of payments, and in one timeline with them.
create table fiscal.events (
    event_id text primary key,
    position bigint not null default nextval('payments.event_position'),
    xid xid8 not null default pg_current_xact_id(),
    tenant_id text not null,
    environment text not null,
    subject_id text not null,
    seq bigint not null check (seq > 0),
    type text,
    payload jsonb not null,
    actor text not null,
    from_status text,
    to_status text,
    reason text,
    traceparent text,
    occurred_at timestamptz not null default now(),
    unique (subject_id, seq)
);
comment on table fiscal.events is
'Append-only: what happened to a document (or whatever subject_id names), by whom, from which state to which and why, numbered per subject. type null: a step that merchants are not told of. No personal data in payload.';
alter table fiscal.events enable row level security;
create index events_of_tenant on fiscal.events (tenant_id, environment, xid, position) where type is not null;
create trigger events_append_only
before update or delete or truncate on fiscal.events
for each statement execute function public.forbid_change();

create table fiscal.fiscal_ledger (
    outlet_id text not null references fiscal.outlets (outlet_id),
    entry_no bigint not null check (entry_no > 0),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    record_type text not null check (record_type in (
        'sale', 'advance', 'credit_note', 'debit_note', 'export', 'export_credit', 'export_advance',
        'block_void', 'report_z', 'key_rotation', 'archive'
    )),
    fiscal_number text not null unique,
    series_no bigint not null check (series_no > 0),
    sequence bigint,
    canonical_payload_hash text not null check (canonical_payload_hash ~ '^[0-9a-f]{64}$'),
    sealed_at text not null check (sealed_at ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$'),
    previous_hash text not null check (previous_hash ~ '^[0-9a-f]{64}$'),
    entry_hash text not null check (
        entry_hash = encode(sha256(convert_to(
            concat_ws(E'\n', fiscal_number, canonical_payload_hash, sealed_at, previous_hash), 'UTF8'
        )), 'hex')
    ),
    chain_version integer not null default 1 check (chain_version = 1),
    invoice_id text references fiscal.invoices (invoice_id),
    created_at timestamptz not null default now(),
    primary key (outlet_id, entry_no),
    unique (outlet_id, previous_hash),
    unique (outlet_id, sequence),
    check (sequence is null or sequence = series_no)
);
comment on table fiscal.fiscal_ledger is
'Append-only: one hash chain per outlet. Each entry hash covers the one before; a fork or a wrong hash cannot be written.';
comment on column fiscal.fiscal_ledger.series_no is
'The integer in fiscal_number and in the seal object; sequence repeats it for what is in the invoice counter, and is null for the rest.';
alter table fiscal.fiscal_ledger enable row level security;
create unique index fiscal_ledger_of_invoice on fiscal.fiscal_ledger (invoice_id);
create index fiscal_ledger_of_tenant on fiscal.fiscal_ledger (tenant_id, environment);
create trigger fiscal_ledger_append_only
before update or delete or truncate on fiscal.fiscal_ledger
for each statement execute function public.forbid_change();

create table fiscal.signatures (
    fiscal_number text primary key references fiscal.fiscal_ledger (fiscal_number),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    key_id text not null references signing.keys (key_id),
    signature_alg text not null,
    digest text not null,
    signature text not null,
    auth_code text not null,
    signed_at timestamptz not null default now()
);
comment on table fiscal.signatures is 'Append-only: the one signature of each ledger entry, over its seal object.';
alter table fiscal.signatures enable row level security;
create index signatures_of_key on fiscal.signatures (key_id);
create index signatures_of_tenant on fiscal.signatures (tenant_id, environment);
create trigger signatures_append_only
before update or delete or truncate on fiscal.signatures
for each statement execute function public.forbid_change();

create table fiscal.orders (
    order_id text primary key,
    payment_intent_id text not null unique references payments.payment_intents (payment_intent_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    document jsonb not null,
    status text not null check (status in ('waiting', 'paid', 'issued', 'failed')),
    invoice_id text unique references fiscal.invoices (invoice_id),
    error jsonb,
    created_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((status = 'issued') = (invoice_id is not null)),
    check ((status = 'failed') = (error is not null))
) with (fillfactor = 80);
comment on table fiscal.orders is
'The invoice a payment intent asks for: at most one, issued once the intent has succeeded. document lacks its time and its payments.';
alter table fiscal.orders enable row level security;
create index orders_of_outlet on fiscal.orders (outlet_id);
create index orders_of_tenant on fiscal.orders (tenant_id, environment);

create table fiscal.document_links (
    token_hash text primary key check (token_hash ~ '^[0-9a-f]{64}$'),
    message_id text not null,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    invoice_id text not null references fiscal.invoices (invoice_id),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    created_at timestamptz not null default now()
);
comment on table fiscal.document_links is
'Links to fiscal documents that were mailed: 256 random bits, kept as SHA-256, good until they expire or are revoked.';
alter table fiscal.document_links enable row level security;
create index document_links_of_invoice on fiscal.document_links (invoice_id);
create index document_links_of_tenant on fiscal.document_links (tenant_id, environment);
create index document_links_expired on fiscal.document_links (expires_at);

create table fiscal.drafts (
    draft_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    purpose text not null check (purpose in ('invoice', 'proforma', 'training')),
    status text not null default 'draft' check (status in ('draft', 'validation_failed', 'sealed', 'cancelled')),
    version integer not null default 1 check (version > 0),
    document jsonb not null,
    payload text not null,
    canonical_payload_hash text not null,
    tax_summary jsonb not null,
    total_minor bigint not null check (total_minor >= 0),
    tax_minor bigint not null check (tax_minor >= 0),
    error jsonb,
    invoice_id text unique references fiscal.invoices (invoice_id),
    created_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((status = 'sealed') = (invoice_id is not null)),
    check ((status = 'validation_failed') = (error is not null)),
    check (purpose = 'invoice' or status in ('draft', 'cancelled'))
);
comment on table fiscal.drafts is
'Documents before they are sealed, computed but without a number. Only the purpose invoice is ever sealed. document: as it was sent; payload: what it comes to, and what is sealed.';
alter table fiscal.drafts enable row level security;
create index drafts_of_cashier on fiscal.drafts (outlet_id, (document ->> 'cashier_id'), draft_id);
create index drafts_of_tenant on fiscal.drafts (tenant_id, environment, draft_id);

create table fiscal.prints (
    print_id text primary key,
    invoice_id text not null references fiscal.invoices (invoice_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    copy_no integer not null check (copy_no >= 0),
    format text not null,
    language text,
    printed_by text not null,
    created_at timestamptz not null default now(),
    unique (invoice_id, copy_no)
);
comment on table fiscal.prints is
'Append-only: every time a document was handed out to be printed. copy_no 0 is the original, of which there is one; the rest are marked.';
alter table fiscal.prints enable row level security;
create index prints_of_tenant on fiscal.prints (tenant_id, environment);
create trigger prints_append_only
before update or delete or truncate on fiscal.prints
for each statement execute function public.forbid_change();

create table fiscal.open_days (
    outlet_id text primary key references fiscal.outlets (outlet_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    business_date date not null,
    due_at timestamptz not null
) with (fillfactor = 50);
comment on table fiscal.open_days is
'The business day that each outlet is in, and when it is closed by itself. Every day before it is closed.';
alter table fiscal.open_days enable row level security;
create index open_days_due on fiscal.open_days (due_at);
create index open_days_of_tenant on fiscal.open_days (tenant_id, environment);

create table fiscal.reports (
    report_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null references fiscal.outlets (outlet_id),
    fiscal_number text not null unique references fiscal.fiscal_ledger (fiscal_number),
    report_no bigint not null check (report_no > 0),
    business_date date not null,
    first_entry bigint not null check (first_entry > 0),
    last_entry bigint not null,
    previous_no bigint generated always as (nullif(report_no - 1, 0)) stored,
    previous_last bigint generated always as (first_entry - 1) stored,
    body text not null,
    canonical_payload_hash text not null check (
        canonical_payload_hash = encode(sha256(convert_to(body, 'UTF8')), 'hex')
    ),
    closed_by text not null,
    created_at timestamptz not null default now(),
    unique (outlet_id, business_date),
    unique (outlet_id, report_no, last_entry),
    check (last_entry >= first_entry - 1),
    check (report_no > 1 or first_entry = 1),
    foreign key (outlet_id, previous_no, previous_last) references fiscal.reports (outlet_id, report_no, last_entry)
);
comment on table fiscal.reports is
'Append-only: the Z of each closed business day. Each begins at the entry after the one before ended, so no entry is in two, or in none.';
comment on column fiscal.reports.body is 'The canonical text (RFC 8785) whose SHA-256 is in the ledger.';
alter table fiscal.reports enable row level security;
create unique index reports_of_outlet on fiscal.reports (outlet_id, report_no);
create index reports_previous on fiscal.reports (outlet_id, previous_no, previous_last);
create index reports_of_tenant on fiscal.reports (tenant_id, environment, report_id);
create trigger reports_append_only
before update or delete or truncate on fiscal.reports
for each statement execute function public.forbid_change();

create table fiscal.verification_counts (
    fiscal_number text not null references fiscal.fiscal_ledger (fiscal_number),
    channel text not null check (channel in ('page', 'api', 'qr', 'batch')),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    outlet_id text not null,
    views bigint not null check (views > 0),
    last_viewed_at timestamptz not null,
    window_began_at timestamptz not null,
    window_views bigint not null,
    primary key (fiscal_number, channel)
) with (fillfactor = 70);
comment on table fiscal.verification_counts is
'How often a document was verified, by channel. Nothing about who did. window_*: the views of the running window of fiscal.verification_spike.';
alter table fiscal.verification_counts enable row level security;
create index verification_counts_of_tenant on fiscal.verification_counts (tenant_id, environment);

create table fiscal.archive_manifests (
    fiscal_number text primary key references fiscal.fiscal_ledger (fiscal_number),
    outlet_id text not null references fiscal.outlets (outlet_id),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    manifest_no bigint not null check (manifest_no > 0),
    first_entry bigint not null check (first_entry > 0),
    last_entry bigint not null,
    previous_no bigint generated always as (nullif(manifest_no - 1, 0)) stored,
    previous_last bigint generated always as (first_entry - 1) stored,
    day date not null,
    prefix text not null,
    body text not null,
    created_at timestamptz not null default now(),
    unique (outlet_id, manifest_no, last_entry),
    check (last_entry >= first_entry),
    check (manifest_no > 1 or first_entry = 1),
    foreign key (outlet_id, previous_no, previous_last)
    references fiscal.archive_manifests (outlet_id, manifest_no, last_entry)
);
comment on table fiscal.archive_manifests is
'Append-only: what was archived of an outlet''s chain, range by range without gaps. body is canonical JSON (RFC 8785) that names every object and its SHA-256; its own SHA-256 is in the ledger.';
alter table fiscal.archive_manifests enable row level security;
create unique index archive_manifests_of_outlet on fiscal.archive_manifests (outlet_id, manifest_no);
create index archive_manifests_previous on fiscal.archive_manifests (outlet_id, previous_no, previous_last);
create index archive_manifests_of_tenant on fiscal.archive_manifests (tenant_id, environment);
create trigger archive_manifests_append_only
before update or delete or truncate on fiscal.archive_manifests
for each statement execute function public.forbid_change();

create table fiscal.archive_copies (
    fiscal_number text primary key references fiscal.archive_manifests (fiscal_number),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    object_key text not null unique,
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    bytes bigint not null check (bytes > 0),
    verified_at timestamptz not null default now()
);
comment on table fiscal.archive_copies is
'Append-only: manifests that are kept with their signature, read back after they were written. Only what is here may be trimmed from the hot tables.';
alter table fiscal.archive_copies enable row level security;
create index archive_copies_of_tenant on fiscal.archive_copies (tenant_id, environment);
create trigger archive_copies_append_only
before update or delete or truncate on fiscal.archive_copies
for each statement execute function public.forbid_change();

create type fiscal.sight as (outlet_id text, cashier_id text);
comment on type fiscal.sight is
'What of a tenant''s documents somebody sees: those of one outlet, of one cashier there; null: of all. An empty cashier_id is nobody''s, and sees none.';

create type fiscal.sealing as (answer public.answer, work jsonb);
comment on type fiscal.sealing is
'What a signer must know to sign the document, and an answer without a body; no work: there is nothing to sign, and the answer is whole.';

reset role;
