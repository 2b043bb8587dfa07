-- Mail and texts that go to people: rendered once, sent until the provider has answered, followed to their end.
-- What is personal is sealed (the mail) or masked; addresses meet by their blind index.

set role stalela_owner;

create table messages.kinds (
    kind text primary key,
    priority smallint not null check (priority > 0),
    ceiling_percent integer not null check (ceiling_percent between 1 and 100),
    valid_for_s integer not null check (valid_for_s > 0),
    description text not null
);
comment on table messages.kinds is
'What is told to people. Smaller priorities go first; a kind is sent only while less than ceiling_percent of the day''s budget is used, so that alerts keep a share.';
alter table messages.kinds enable row level security;

create table messages.countries (
    country text primary key check (country ~ '^[A-Z]{2}$'),
    language text not null check (language in ('en', 'fr', 'sw')),
    time_zone text not null
);
comment on table messages.countries is
'The language and the clock of a receipt whose payer said nothing, by the merchant''s country (ISO 3166-1 alpha-2).';
alter table messages.countries enable row level security;

create table messages.messages (
    message_id text primary key,
    tenant_id text,
    environment text check (environment in ('sandbox', 'production')),
    kind text not null references messages.kinds (kind),
    subject_id text not null,
    dedupe_key text not null unique,
    language text not null check (language in ('en', 'fr', 'sw')),
    recipient_masked text not null,
    recipient_hash text not null,
    body_sealed text not null,
    sms_text text check (length(sms_text) between 1 and 160),
    status text not null default 'queued' check (status in (
        'queued', 'sent', 'delayed', 'delivered', 'failed', 'suppressed', 'bounced', 'complained', 'expired', 'kept',
        'unknown'
    )),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    lease_until timestamptz,
    unsure_since timestamptz,
    budget_day date,
    email_id text unique,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    expires_at timestamptz not null,
    check ((tenant_id is null) = (environment is null)),
    check (status not in ('sent', 'delayed', 'delivered', 'bounced', 'complained') or email_id is not null)
);
comment on table messages.messages is
'One mail to one person, one row per dedupe_key. body_sealed is the request to the provider, sent again byte for byte under message_id as the idempotency key; kept: there is no provider; unknown: it gave no answer while it remembered the key.';
comment on column messages.messages.unsure_since is
'Since when the provider may have taken the mail without our knowing; it forgets the key a day later.';
alter table messages.messages enable row level security;
create index messages_due on messages.messages (next_attempt_at) where status = 'queued';
create index messages_of_subject on messages.messages (subject_id, created_at);
create index messages_of_tenant on messages.messages (tenant_id, environment, created_at);
create index messages_of_kind on messages.messages (kind);
create index messages_done on messages.messages (created_at) where status <> 'queued';

create table messages.mail_events (
    event_id text primary key,
    kind text not null,
    email_id text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null default now()
);
comment on table messages.mail_events is
'What the provider told about mails, once per event. No addresses: the mail is known by its id.';
alter table messages.mail_events enable row level security;
create index mail_events_of_mail on messages.mail_events (email_id);
create index mail_events_received on messages.mail_events (received_at);

create table messages.suppressions (
    address_hash text primary key,
    address_masked text not null,
    reason text not null check (reason in ('bounced', 'complained', 'suppressed')),
    email_id text not null,
    created_at timestamptz not null default now()
);
comment on table messages.suppressions is
'Addresses that no mail goes to any more: it bounced, or its reader called it spam.';
alter table messages.suppressions enable row level security;

create table messages.budgets (
    day date primary key,
    used integer not null check (used >= 0)
);
comment on table messages.budgets is 'How many mails of a day (UTC) were given to the provider; a repeated one counts once a day.';
alter table messages.budgets enable row level security;

create table messages.pauses (
    provider text primary key,
    until timestamptz not null,
    reason text not null
);
comment on table messages.pauses is 'Until when the provider takes no mail at all, and by which of its codes.';
alter table messages.pauses enable row level security;

-- Alerts

create table messages.alert_kinds (
    kind text primary key,
    to_owners boolean not null,
    title text not null,
    advice text not null
);
comment on table messages.alert_kinds is
'What an alert of public.alerts means and what to do; a kind without a row is the platform''s alone. to_owners: the owners of its tenant are told too.';
alter table messages.alert_kinds enable row level security;

create table messages.alert_digests (
    kind text not null,
    destination text not null,
    told_at timestamptz not null,
    primary key (kind, destination)
);
comment on table messages.alert_digests is
'When people were last told of alerts of one kind: destination is platform, or tenant and environment. Not again within alerts.coalesce_s.';
alter table messages.alert_digests enable row level security;

create table messages.alert_notices (
    alert_id bigint not null references public.alerts (alert_id),
    destination text not null,
    occurrences bigint not null,
    told_at timestamptz not null default now(),
    primary key (alert_id, destination)
);
comment on table messages.alert_notices is 'Who was told of an alert, when, and how often it had happened by then.';
alter table messages.alert_notices enable row level security;

create table messages.slos (
    slo text primary key,
    objective_bps integer not null check (objective_bps between 1 and 9999),
    target_s integer not null check (target_s > 0),
    routine text not null check (routine ~ '^[a-z_]+\.[a-z_0-9]+$'),
    description text not null
);
comment on table messages.slos is
'Service levels: of what routine(since, target_s) counts (good, total), objective_bps are to be good. messages.watch raises an alert while the month''s error budget burns too fast.';
alter table messages.slos enable row level security;

create table messages.slo_samples (
    sampled_at timestamptz not null default now(),
    destination text not null,
    late_s integer not null check (late_s >= 0),
    primary key (sampled_at, destination)
);
comment on table messages.slo_samples is
'How late each destination of events was, minute by minute for a day: what passed leaves no trace to measure afterwards.';
alter table messages.slo_samples enable row level security;

reset role;
