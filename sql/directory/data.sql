-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/rails/mpesa/directory.rail_facts.csv
insert into directory.rail_facts (rail, country, latency_ms, failure_bps, fx_spread_bps, health, priority)
values
('mpesa', 'KE', '20000', '1500', '0', 'healthy', '10')
on conflict (rail) do update set
    country = excluded.country,
    latency_ms = excluded.latency_ms,
    failure_bps = excluded.failure_bps,
    fx_spread_bps = excluded.fx_spread_bps,
    health = excluded.health,
    priority = excluded.priority;

reset role;
