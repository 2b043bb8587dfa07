-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/compliance/compliance.tiers.csv
insert into compliance.tiers (tier, label, directions, corridors, description)
values
('T0', 'minimal', '{in}', '{domestic}', 'Name and a phone that was reached: collects a little at home and pays nothing out'),
('T1', 'basic', '{in,out}', '{domestic,regional}', 'Registration and identity documents seen'),
('T2', 'enhanced', '{in,out}', '{domestic,regional,international}', 'Address and source of funds seen too: where an organisation starts once the platform has activated it'),
('T3', 'full', '{in,out}', '{domestic,regional,international}', 'Fully known and watched: only the limits of rails and regulators hold')
on conflict (tier) do update set
    label = excluded.label,
    directions = excluded.directions,
    corridors = excluded.corridors,
    description = excluded.description;

-- shared/compliance/compliance.limits.csv
insert into compliance.limits (limit_name, tier, subject, direction, rail, corridor, window_s, max_count, max_usd_minor)
values
('t0_transfer', 'T0', 'transfer', null, null, null, null, null, '5000'),
('t0_tenant_day_value', 'T0', 'tenant', null, null, null, '86400', null, '5000'),
('t0_tenant_month_value', 'T0', 'tenant', null, null, null, '2592000', null, '30000'),
('t0_party_hour_count', 'T0', 'party', null, null, null, '3600', '5', null),
('t1_transfer', 'T1', 'transfer', null, null, null, null, null, '100000'),
('t1_transfer_regional', 'T1', 'transfer', null, null, 'regional', null, null, '50000'),
('t1_tenant_day_value', 'T1', 'tenant', null, null, null, '86400', null, '100000'),
('t1_tenant_month_value', 'T1', 'tenant', null, null, null, '2592000', null, '1000000'),
('t1_party_hour_count', 'T1', 'party', null, null, null, '3600', '20', null),
('t1_party_day_count', 'T1', 'party', null, null, null, '86400', '50', null),
('t2_transfer', 'T2', 'transfer', null, null, null, null, null, '500000'),
('t2_transfer_international', 'T2', 'transfer', null, null, 'international', null, null, '250000'),
('t2_tenant_day_value', 'T2', 'tenant', null, null, null, '86400', null, '500000'),
('t2_tenant_month_value', 'T2', 'tenant', null, null, null, '2592000', null, '5000000'),
('t2_party_hour_count', 'T2', 'party', null, null, null, '3600', '60', null)
on conflict (limit_name) do update set
    tier = excluded.tier,
    subject = excluded.subject,
    direction = excluded.direction,
    rail = excluded.rail,
    corridor = excluded.corridor,
    window_s = excluded.window_s,
    max_count = excluded.max_count,
    max_usd_minor = excluded.max_usd_minor;

-- shared/compliance/compliance.limit_rates.csv
insert into compliance.limit_rates (currency, minor_per_usd, as_of)
values
('USD', '100', '2026-11-01'),
('USDC', '1000000', '2026-11-01'),
('USDT', '1000000', '2026-11-01'),
('EUR', '86', '2026-11-01'),
('GBP', '76', '2026-11-01'),
('KES', '12900', '2026-11-01'),
('UGX', '3600', '2026-11-01'),
('TZS', '245000', '2026-11-01'),
('RWF', '1450', '2026-11-01'),
('CDF', '240000', '2026-11-01'),
('ZAR', '1730', '2026-11-01'),
('ZMW', '2250', '2026-11-01'),
('ZWG', '2640', '2026-11-01'),
('ETB', '15200', '2026-11-01'),
('GHS', '1090', '2026-11-01'),
('NGN', '145000', '2026-11-01'),
('MZN', '6390', '2026-11-01'),
('BWP', '1340', '2026-11-01')
on conflict (currency) do update set
    minor_per_usd = excluded.minor_per_usd,
    as_of = excluded.as_of;

-- shared/compliance/compliance.country_regions.csv
insert into compliance.country_regions (country, region)
values
('BI', 'EAC'),
('CD', 'EAC'),
('KE', 'EAC'),
('RW', 'EAC'),
('SO', 'EAC'),
('SS', 'EAC'),
('TZ', 'EAC'),
('UG', 'EAC'),
('AO', 'SADC'),
('BW', 'SADC'),
('CD', 'SADC'),
('LS', 'SADC'),
('MG', 'SADC'),
('MU', 'SADC'),
('MW', 'SADC'),
('MZ', 'SADC'),
('NA', 'SADC'),
('SC', 'SADC'),
('SZ', 'SADC'),
('TZ', 'SADC'),
('ZA', 'SADC'),
('ZM', 'SADC'),
('ZW', 'SADC')
on conflict (country, region) do nothing;

-- shared/compliance/compliance.lists.csv
insert into compliance.lists (source, name, required)
values
('ofac', 'OFAC Specially Designated Nationals (SDN.XML)', 'true'),
('un', 'United Nations Security Council consolidated list', 'true'),
('eu', 'European Union consolidated financial sanctions (FSF 1.1)', 'true')
on conflict (source) do update set
    name = excluded.name,
    required = excluded.required;

reset role;
