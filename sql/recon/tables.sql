-- Our books against the rails' statements: sessions, statements and their lines, matches, exceptions, decisions.
-- No foreign keys from lines and matches: a run inserts a million of them and each check would cost as much as the
-- row. What they refer to was read in the same transaction, and its closing assertion counts every one of them.

set role stalela_owner;

create table recon.time_zones (
    country text primary key check (country ~ '^[A-Z]{2}$'),
    time_zone text not null
);
comment on table recon.time_zones is
'The IANA zone in which an organisation of this country counts its days; of several the one where most of them are.';
alter table recon.time_zones enable row level security;

create table recon.rail_rules (
    rail text primary key references rails.rails (rail),
    time_zone text not null,
    day_tolerance integer not null check (day_tolerance between 0 and 5),
    banking_days boolean not null,
    missing_after_days integer not null check (missing_after_days between 0 and 30),
    fee_bps integer not null check (fee_bps between 0 and 10000),
    fee_fixed_minor bigint not null check (fee_fixed_minor >= 0),
    statement_format text not null
);
comment on table recon.rail_rules is
'How a rail''s statements compare. day_tolerance: days, of banking days where banking_days; missing_after_days: a settled transfer absent that long after its day is missing; fee_*: what the rail keeps of each payment it pays out net.';
alter table recon.rail_rules enable row level security;

create table recon.column_maps (
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    name text not null check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    columns jsonb not null,
    created_by text not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, environment, name)
);
comment on table recon.column_maps is 'How to read a tenant''s own CSV statements; shared/recon/generic_csv.py says what the columns mean.';
alter table recon.column_maps enable row level security;

create table recon.recon_sessions (
    session_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null,
    business_date date not null,
    time_zone text not null,
    status text not null default 'open' check (status in ('open', 'exceptions', 'matched')),
    opened_at timestamptz not null default now(),
    finished_at timestamptz,
    updated_at timestamptz not null default now(),
    unique (tenant_id, environment, rail, business_date),
    check ((status = 'open') <= (finished_at is null))
);
comment on table recon.recon_sessions is
'One business day of one rail, in the tenant''s time zone. matched: every line and every settled transfer of the day has its counterpart; exceptions: some wait for a person; open: a statement is still to come.';
alter table recon.recon_sessions enable row level security;
create index recon_sessions_unfinished on recon.recon_sessions (business_date) where status = 'open';

create table recon.session_figures (
    session_id text not null references recon.recon_sessions (session_id),
    currency text not null,
    tenant_id text not null,
    environment text not null,
    lines bigint not null,
    lines_matched bigint not null,
    lines_marked bigint not null,
    lines_excepted bigint not null,
    lines_in_minor numeric not null,
    lines_out_minor numeric not null,
    lines_unmatched_minor numeric not null,
    transfers bigint not null,
    transfers_matched bigint not null,
    transfers_excepted bigint not null,
    transfers_awaiting bigint not null,
    transfers_in_minor numeric not null,
    transfers_out_minor numeric not null,
    transfers_unmatched_minor numeric not null,
    primary key (session_id, currency),
    -- Accounted for exactly once, whatever else is computed.
    check (lines = lines_matched + lines_marked + lines_excepted),
    check (transfers = transfers_matched + transfers_excepted + transfers_awaiting)
);
comment on table recon.session_figures is
'What a session counts, per currency: lines and transfers are each matched, marked, excepted or awaited, and nothing else. Sums in minor units.';
alter table recon.session_figures enable row level security;
create index session_figures_of_tenant on recon.session_figures (tenant_id, environment);

create table recon.clearings (
    session_id text not null references recon.recon_sessions (session_id),
    currency text not null,
    direction text not null check (direction in ('in', 'out')),
    number integer not null check (number > 0),
    tenant_id text not null,
    environment text not null,
    rail text not null,
    amount_minor bigint not null check (amount_minor >= 0),
    fee_minor bigint not null,
    occurred_at timestamptz not null,
    journal_id text,
    attempts integer not null default 0,
    last_error text,
    created_at timestamptz not null default now(),
    primary key (session_id, currency, direction, number)
);
comment on table recon.clearings is
'What matched lines prove that the rail gave or took, for the ledger to clear: per day the difference to what was cleared before. journal_id null: not booked yet.';
alter table recon.clearings enable row level security;
create index clearings_pending on recon.clearings (created_at) where journal_id is null;
create index clearings_of_tenant on recon.clearings (tenant_id, environment);

create table recon.statements (
    statement_id text primary key,
    statement_no bigint generated always as identity unique,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null,
    format text not null,
    file_name text,
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    account_ref text,
    period_from date not null,
    period_to date not null,
    lines integer not null check (lines >= 0),
    totals jsonb not null,
    file_sealed text not null,
    imported_by text not null,
    imported_at timestamptz not null default now(),
    matched_at timestamptz,
    unique (tenant_id, environment, rail, sha256),
    check (period_to >= period_from)
);
comment on table recon.statements is
'Statements as the rails gave them, each file once (sha256); file_sealed is the compressed file, sealed for statement|sha256. matched_at null: its lines wait for a run.';
alter table recon.statements enable row level security;
create index statements_unmatched on recon.statements (tenant_id, environment, rail) where matched_at is null;
create index statements_newest on recon.statements (tenant_id, environment, imported_at);

create table recon.statement_lines (
    line_id bigint generated always as identity primary key,
    statement_no bigint not null,
    line_no integer not null,
    line_hash bytea not null,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    type text not null check (type in ('payment', 'return', 'batch', 'fee', 'internal', 'void')),
    direction text not null check (direction in ('in', 'out')),
    amount_minor bigint not null check (amount_minor >= 0),
    fee_minor bigint not null default 0 check (fee_minor >= 0),
    currency text not null,
    value_date date not null,
    occurred_at timestamptz,
    external_ref text,
    our_ref text,
    linked_ref text,
    batch_ref text,
    acq_ref text,
    auth_code text,
    party_hash text,
    -- The hash first: the same line in another statement is found by it, too.
    unique (line_hash, statement_no)
);
comment on table recon.statement_lines is
'Append-only: what the rail says moved, without personal data. amount_minor moved on the account, fee_minor is what the line says was kept before. line_hash covers what the line says and which copy of it in its file it is.';
alter table recon.statement_lines enable row level security;
create index statement_lines_of_statement on recon.statement_lines (statement_no);
create index statement_lines_of_day on recon.statement_lines (tenant_id, environment, rail, value_date);

create table recon.runs (
    run_id bigint generated always as identity primary key,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    started_at timestamptz not null default now(),
    finished_at timestamptz not null,
    counts jsonb not null
);
comment on table recon.runs is
'Append-only: what each run of the matching rules found. A run that could not account for everything exactly once left nothing, not even its row.';
alter table recon.runs enable row level security;
create index runs_of_tenant on recon.runs (tenant_id, environment, run_id);

create table recon.matches (
    line_id bigint not null,
    transfer_id text not null,
    leg text not null check (leg in ('settle', 'return')),
    -- A transfer that came in several lines has parts, a line that pays several transfers has shares. Everything
    -- else is part 1 and share 1, so nothing is matched twice.
    part integer not null default 1 check (part > 0),
    share integer not null default 1 check (share > 0),
    rule text not null check (
        rule in ('rail_reference', 'our_reference', 'party_and_day', 'batch', 'person')
    ),
    amount_minor bigint not null,
    fee_minor bigint not null,
    tenant_id text not null,
    environment text not null,
    run_id bigint,
    matched_at timestamptz not null default now(),
    primary key (line_id, share),
    unique (transfer_id, leg, part),
    check ((rule = 'person') = (run_id is null))
);
comment on table recon.matches is
'Append-only: which line is which movement of which transfer, by which rule. amount_minor plus fee_minor is the share of the transfer that the line accounts for. No run: a person decided, which outranks every rule.';
alter table recon.matches enable row level security;
-- No index for people: they read through sessions, and a run inserts a million rows.

create table recon.marked_lines (
    line_id bigint primary key,
    mark text not null check (mark in ('seen_before', 'sum_of_lines', 'fee', 'internal', 'void')),
    of_line_id bigint,
    tenant_id text not null,
    environment text not null,
    run_id bigint not null
);
comment on table recon.marked_lines is
'Append-only: lines that are no transfer of ours: seen in an earlier statement (of_line_id), the total of other lines, the rail''s charge, money moved between own accounts, nothing moved.';
alter table recon.marked_lines enable row level security;
create index marked_lines_of_tenant on recon.marked_lines (tenant_id, environment);

create table recon.exceptions (
    exception_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    rail text not null,
    kind text not null check (
        kind in (
            'UNMATCHED_LINE', 'MISSING_LINE', 'AMOUNT_MISMATCH', 'DUPLICATE_LINE', 'STATE_CONFLICT', 'FEE_MISMATCH',
            'FILE_REJECTED', 'TOTALS_MISMATCH'
        )
    ),
    status text not null default 'open' check (status in ('open', 'pending_approval', 'resolved')),
    business_date date,
    line_id bigint,
    transfer_id text,
    amount_minor bigint,
    currency text,
    details jsonb not null default '{}',
    proposal jsonb,
    resolution text check (
        resolution in (
            'assign', 'raise_return', 'adjust', 'write_off', 'acknowledge', 'matched_later'
        )
    ),
    run_id bigint,
    opened_at timestamptz not null default now(),
    resolved_at timestamptz,
    check ((status = 'resolved') = (resolution is not null)),
    check ((status = 'resolved') = (resolved_at is not null)),
    check ((status = 'pending_approval') = (proposal is not null)),
    check ((kind in ('FILE_REJECTED', 'TOTALS_MISMATCH')) = (line_id is null and transfer_id is null))
);
comment on table recon.exceptions is
'What a person must look at: a line, a transfer or a file that does not fit. Closed by a decision in recon.resolutions, or by a later run that found the counterpart (matched_later).';
alter table recon.exceptions enable row level security;
-- A line is in one open question at a time, and so is a settled transfer whose line is missing.
create unique index exceptions_of_line on recon.exceptions (line_id) where status <> 'resolved';
create unique index exceptions_missing on recon.exceptions (transfer_id) where status <> 'resolved' and line_id is null;
create index exceptions_of_transfer on recon.exceptions (transfer_id);
create index exceptions_by_line on recon.exceptions (line_id);
create index exceptions_queue on recon.exceptions (tenant_id, environment, opened_at, exception_id);
create index exceptions_of_day on recon.exceptions (tenant_id, environment, rail, business_date);

create table recon.resolutions (
    exception_id text not null references recon.exceptions (exception_id),
    number integer not null check (number > 0),
    tenant_id text not null,
    environment text not null,
    action text not null check (
        action in (
            'assign', 'raise_return', 'adjust', 'write_off', 'acknowledge', 'ticket', 'propose', 'approve', 'reject'
        )
    ),
    actor text not null,
    reason text not null,
    details jsonb not null default '{}',
    decided_at timestamptz not null default now(),
    primary key (exception_id, number)
);
comment on table recon.resolutions is
'Append-only: what people decided about an exception, in order. What writes money off is proposed by one and approved by another.';
alter table recon.resolutions enable row level security;
create index resolutions_of_tenant on recon.resolutions (tenant_id, environment);

create type recon.run as (
    run_id bigint,
    tenant_id text,
    environment text,
    rail text,
    statement_nos bigint[],
    rules recon.rail_rules,
    time_zone text,
    today date
);
comment on type recon.run is 'What the functions of one run share. today is the tenant''s.';

reset role;
