-- Double-entry books of each tenant: chart, rules, journals in pairs of debit and credit, balances, chain.
-- No foreign keys from journals, entries and balances: a batch would lock the same few parents again and again.
-- What they would hold is held by one check per statement (ledger.check_entries, ledger.check_journals).

set role stalela_owner;

-- Reference rows

create table ledger.chart (
    name text primary key check (name ~ '^[A-Z_]+$'),
    number text not null unique check (number ~ '^(M?[0-9]{3,4})$'),
    type text not null check (
        type in (
            'USER', 'MERCHANT', 'LIQUIDITY', 'FEES', 'FX', 'SETTLEMENT', 'RESERVE', 'NOSTRO', 'VOSTRO',
            'MEMO', 'TAX', 'EQUITY', 'EXPENSE', 'RECEIVABLE', 'PAYABLE'
        )
    ),
    class text not null check (class in ('asset', 'liability', 'equity', 'revenue', 'expense', 'memo')),
    normal_side text not null check (normal_side in ('debit', 'credit')),
    when_negative text not null check (when_negative in ('allow', 'warn', 'block')),
    description text not null
);
comment on table ledger.chart is
'The chart of accounts. when_negative: block refuses the journal and parks its event, warn books and raises an alert, allow expects it.';
alter table ledger.chart enable row level security;

create table ledger.event_types (
    event_type text primary key,
    wave smallint check (wave between 1 and 3),
    condition text not null check (condition in ('always', 'authorises', 'holds', 'not_by_refund')),
    description text not null,
    check (wave is not null or condition = 'always')
);
comment on table ledger.event_types is
'Events the books know. wave: within a batch, holds (1) come before what is settled (2) and that before what undoes it (3); null books nothing. condition: when it books at all.';
alter table ledger.event_types enable row level security;

create table ledger.posting_rules (
    rules_version integer not null,
    event_type text not null,
    purpose text not null,
    intent text not null,
    rail text not null,
    is_fx boolean not null,
    leg_no smallint not null check (leg_no > 0),
    leg text not null check (leg ~ '^[a-z_]+$'),
    debit text not null,
    credit text not null,
    amount text not null check (
        amount in (
            'gross', 'net', 'fee', 'tax', 'surcharge', 'reserve', 'held', 'fx_settled', 'fx_loss', 'fx_gain'
        )
    ),
    amount_currency text not null check (amount_currency in ('payment', 'settlement')),
    primary key (rules_version, event_type, purpose, intent, rail, is_fx, leg_no),
    check (debit <> credit)
);
comment on table ledger.posting_rules is
'What an event books: per leg a debit and a credit account (a name of the chart with {rail}, {tenant}, {currency} or {jurisdiction}) and one of a closed set of amounts. * is any; intent and rail that are named win.';
alter table ledger.posting_rules enable row level security;

create table ledger.tariffs (
    tariff_id text primary key,
    tenant_id text,
    purpose text not null,
    rail text not null,
    currency text not null,
    rate_bps integer not null check (rate_bps between 0 and 10000),
    fixed_minor bigint not null check (fixed_minor >= 0),
    tax_bps integer not null check (tax_bps between 0 and 10000),
    reserve_bps integer not null check (reserve_bps between 0 and 10000),
    reserve_days integer not null check (reserve_days between 0 and 3650),
    is_fee_returned boolean not null,
    valid_from date not null,
    valid_until date,
    -- A fixed amount means nothing without its currency.
    check (currency <> '*' or fixed_minor = 0),
    check (valid_until > valid_from)
);
comment on table ledger.tariffs is
'Our fee and the tax on it, held-back share, and whether returns give the fee back. tenant_id null is everybody''s; the more particular row wins, then the later. Rates are succeeded, never edited.';
alter table ledger.tariffs enable row level security;
create index tariffs_of_tenant on ledger.tariffs (tenant_id, purpose);

-- Books

create sequence ledger.account_id;
comment on sequence ledger.account_id is 'Numbers of accounts, the order in which balances are locked.';

create table ledger.accounts (
    account_id bigint primary key default nextval('ledger.account_id'),
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    code text not null check (code ~ '^[A-Z_]+(:[A-Za-z0-9_.-]+)?$'),
    currency text not null,
    name text not null references ledger.chart (name),
    type text not null,
    class text not null,
    normal_side text not null check (normal_side in ('debit', 'credit')),
    when_negative text not null,
    status text not null default 'active' check (status in ('active', 'closed')),
    created_at timestamptz not null default now(),
    unique (tenant_id, environment, code, currency)
);
comment on table ledger.accounts is
'Accounts of one tenant in one environment and one currency, opened when first needed; class and side are those of the chart on that day.';
alter table ledger.accounts enable row level security;
create index accounts_of_chart on ledger.accounts (name);

create table ledger.balances (
    account_id bigint primary key,
    balance_minor bigint not null default 0,
    -- 1: a debit account that must not go negative, -1: a credit account that must not; 0: no floor.
    floor smallint not null check (floor between -1 and 1),
    as_of timestamptz not null default now(),
    version bigint not null default 0,
    constraint balances_floor check (balance_minor * floor >= 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
comment on table ledger.balances is
'The sum of an account''s entries, debits positive: all balances of a tenant and currency sum to zero. One row per account, touched once per batch.';
alter table ledger.balances enable row level security;

create table ledger.chains (
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    head_number bigint not null default 0,
    head_hash bytea not null check (length(head_hash) = 32),
    posted_at timestamptz not null default '-infinity',
    primary key (tenant_id, environment)
) with (fillfactor = 50);
comment on table ledger.chains is
'The last link of a tenant''s chain of journals. Whoever posts locks this row first, so its tenant''s balances, entries and periods stand still meanwhile.';
alter table ledger.chains enable row level security;

create sequence ledger.journal_no;
comment on sequence ledger.journal_no is 'Numbers of journals, taken under the lock of their chain: of one tenant a greater one was always committed later.';

create table ledger.journals (
    journal_no bigint primary key,
    journal_id text not null unique,
    -- One journal per cause: transfer, type and number of an event, or a reference of another kind. Bytewise, for ranges.
    journal_key text collate "C" not null unique,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    number bigint not null check (number > 0),
    event_id text,
    event_type text not null,
    transfer_id text,
    occurred_at timestamptz not null,
    posted_at timestamptz not null,
    period_id text not null,
    rules_version integer not null,
    related_journal_id text,
    is_memo boolean not null,
    memo text not null default '' check (memo !~ '[[:cntrl:]]'),
    hash bytea not null check (length(hash) = 32),
    unique (tenant_id, environment, number),
    -- The journal of an event has its name, so an event cannot have two.
    check (event_id is null or journal_id = 'jrnl_' || substr(event_id, 5))
);
comment on table ledger.journals is
'Append-only: what was booked for one event, numbered and hash-chained per tenant and environment. Corrections are new journals.';
alter table ledger.journals enable row level security;
create index journals_related on ledger.journals (related_journal_id) where related_journal_id is not null;

create table ledger.journal_entries (
    journal_no bigint not null,
    leg_no smallint not null,
    leg text not null check (leg ~ '^[a-z_]+$'),
    debit_account_id bigint not null,
    credit_account_id bigint not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    primary key (journal_no, leg_no),
    check (debit_account_id <> credit_account_id)
);
comment on table ledger.journal_entries is
'Append-only: a debit and a credit of the same amount, so a journal cannot be out of balance in any currency.';
alter table ledger.journal_entries enable row level security;
create index journal_entries_debits on ledger.journal_entries (debit_account_id, journal_no);
create index journal_entries_credits on ledger.journal_entries (credit_account_id, journal_no);

create table ledger.holds (
    transfer_id text primary key,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    currency text not null,
    amount_minor bigint not null check (amount_minor > 0),
    placed_at timestamptz not null,
    expires_at timestamptz not null,
    released_at timestamptz
);
comment on table ledger.holds is
'Authorised and not yet captured: memo only, outside the balance sheet. Released by capture, failure or time.';
alter table ledger.holds enable row level security;
create index holds_of_tenant on ledger.holds (tenant_id, environment);
create index holds_to_expire on ledger.holds (expires_at) where released_at is null;

create table ledger.reserves (
    journal_no bigint primary key,
    tenant_id text not null,
    environment text not null,
    rail text not null,
    currency text not null,
    amount_minor bigint not null check (amount_minor > 0),
    due_at timestamptz not null,
    released_at timestamptz
);
comment on table ledger.reserves is 'Shares held back from a merchant, and when they go back.';
alter table ledger.reserves enable row level security;
create index reserves_of_tenant on ledger.reserves (tenant_id, environment);
create index reserves_due on ledger.reserves (due_at) where released_at is null;

create table ledger.periods (
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    period_id text not null check (period_id ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    status text not null check (status in ('open', 'closing', 'closed')),
    changed_by text not null,
    changed_at timestamptz not null default now(),
    snapshot jsonb,
    primary key (tenant_id, environment, period_id),
    check ((status = 'closed') = (snapshot is not null))
);
comment on table ledger.periods is
'Months (UTC) that are not simply open. closing and closed take nothing but their closing entries; what occurred in them is booked into the open one with a memo. snapshot: balances at the close.';
alter table ledger.periods enable row level security;

create table ledger.manual_journals (
    manual_journal_id text primary key,
    tenant_id text not null,
    environment text not null check (environment in ('sandbox', 'production')),
    status text not null default 'pending' check (status in ('pending', 'posted', 'rejected')),
    memo text not null check (length(memo) between 3 and 500 and memo !~ '[[:cntrl:]]'),
    occurred_at timestamptz not null,
    lines jsonb not null,
    created_by text not null,
    decided_by text,
    decision_reason text,
    journal_id text,
    created_at timestamptz not null default now(),
    decided_at timestamptz,
    -- Four eyes: whoever wrote it does not decide on it.
    check (decided_by <> created_by),
    check ((status = 'pending') = (decided_by is null)),
    check ((status = 'posted') = (journal_id is not null))
);
comment on table ledger.manual_journals is 'Adjustments by hand; each is posted by another person than the one who wrote it.';
alter table ledger.manual_journals enable row level security;
create index manual_journals_of_tenant on ledger.manual_journals (tenant_id, environment, created_at);

create table ledger.balance_checks (
    account_id bigint primary key,
    journal_no bigint not null,
    balance_minor bigint not null,
    checked_at timestamptz not null default now()
);
comment on table ledger.balance_checks is 'How far an account''s entries were added up again, and to what.';
alter table ledger.balance_checks enable row level security;

create table ledger.chain_checks (
    tenant_id text not null,
    environment text not null,
    number bigint not null,
    checked_at timestamptz not null default now(),
    primary key (tenant_id, environment)
);
comment on table ledger.chain_checks is 'How far a chain was verified.';
alter table ledger.chain_checks enable row level security;

-- What posting hands from step to step

create type ledger.booking as (
    kind text,
    wave smallint,
    position bigint,
    outbox_id bigint,
    event_id text,
    journal_id text,
    journal_key text,
    transfer_id text,
    related_transfer_id text,
    occurred_at timestamptz,
    gross_minor bigint,
    fee_minor bigint,
    tax_minor bigint,
    surcharge_minor bigint,
    reserve_minor bigint,
    held_minor bigint,
    fx_minor bigint,
    fx_quoted_minor bigint,
    related_journal_id text,
    memo text,
    problem text,
    is_final boolean
);
comment on type ledger.booking is
'One event on its way into the books. Amounts that are null are the tariff''s to say. problem: why it cannot be booked; is_final: no later try will do better.';

create type ledger.kind as (
    kind text,
    tenant_id text,
    environment text,
    event_type text,
    purpose text,
    intent text,
    rail text,
    currency text,
    fx_currency text,
    period_id text,
    memo text,
    rate_bps integer,
    fixed_minor bigint,
    tax_bps integer,
    reserve_bps integer,
    reserve_days integer,
    rules_version integer
);
comment on type ledger.kind is
'What events of a batch have in common that move the same accounts by the same rules on the same day: looked up once. kind: tenant|environment|type|purpose|intent|rail|currency|settlement currency|day.';

create type ledger.planned_leg as (
    kind text,
    leg_no smallint,
    leg text,
    amount text,
    amount_minor bigint,
    currency text,
    debit_code text,
    credit_code text,
    debit_account_id bigint,
    credit_account_id bigint,
    is_memo boolean
);
comment on type ledger.planned_leg is
'A leg of a posting rule for one kind of event in a batch, its accounts found. amount: which of the closed set, or null and amount_minor itself.';

reset role;
