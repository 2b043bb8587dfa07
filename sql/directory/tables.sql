-- Who is reached by which rail, at what price, when; and why a transfer took the rail it took.

set role stalela_owner;

create table directory.rail_facts (
    rail text primary key references rails.rails (rail),
    country text not null check (country ~ '^[A-Z]{2}$'),
    latency_ms integer not null check (latency_ms >= 0),
    failure_bps integer not null check (failure_bps between 0 and 10000),
    fx_spread_bps integer not null check (fx_spread_bps >= 0),
    health text not null check (health in ('healthy', 'deprioritised', 'blocked')),
    priority integer not null
);
comment on table directory.rail_facts is
'What is known of each rail beside its rules: where its money is, how fast it usually answers, how often it fails. latency_ms is from submission to outcome; a smaller priority goes first.';
alter table directory.rail_facts enable row level security;

reset role;
