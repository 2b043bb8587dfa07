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

-- shared/directory/directory.alias_types.csv
insert into directory.alias_types (alias_type, matching, pattern, entry_pattern, description)
values
('msisdn', 'prefix', '^\+[1-9][0-9]{7,14}$', '^\+[1-9][0-9]{0,13}$', 'A phone number in E.164: the operator by its prefix'),
('bin', 'prefix', '^[0-9]{6,8}$', '^[0-9]{6,8}$', 'The first digits of a card: its issuer'),
('member_id', 'exact', '^[A-Z0-9]{2,12}$', '^[A-Z0-9]{2,12}$', 'A member of a scheme such as ZimSwitch'),
('bank_code', 'exact', '^[0-9]{5,6}$', '^[0-9]{5,6}$', 'A national bank and branch code'),
('chain_address', 'exact', '^[A-Za-z0-9]{26,64}$', '^[A-Za-z0-9]{26,64}$', 'An address on a chain'),
('wallet_id', 'exact', '^[A-Za-z0-9_-]{3,64}$', '^[A-Za-z0-9_-]{3,64}$', 'A wallet or account on our own books')
on conflict (alias_type) do update set
    matching = excluded.matching,
    pattern = excluded.pattern,
    entry_pattern = excluded.entry_pattern,
    description = excluded.description;

-- shared/directory/directory.institutions.csv
insert into directory.institutions (institution_id, name, country, kind, status)
values
('safaricom_ke', 'Safaricom M-PESA (Kenya)', 'KE', 'mobile_money', 'active'),
('airtel_ke', 'Airtel Money (Kenya)', 'KE', 'mobile_money', 'active'),
('telkom_ke', 'T-kash, Telkom (Kenya)', 'KE', 'mobile_money', 'active')
on conflict (institution_id) do update set
    name = excluded.name,
    country = excluded.country,
    kind = excluded.kind,
    status = excluded.status;

-- shared/directory/directory.entries.csv
insert into directory.entries (alias_type, alias, institution_id, rail, effective_from)
values
('msisdn', '+254110', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254111', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254112', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254113', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254114', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254115', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254700', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254701', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254702', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254703', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254704', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254705', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254706', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254707', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254708', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254709', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254710', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254711', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254712', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254713', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254714', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254715', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254716', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254717', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254718', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254719', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254720', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254721', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254722', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254723', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254724', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254725', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254726', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254727', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254728', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254729', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254740', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254741', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254742', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254743', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254745', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254746', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254748', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254757', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254758', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254759', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254768', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254769', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254790', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254791', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254792', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254793', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254794', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254795', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254796', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254797', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254798', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254799', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00'),
('msisdn', '+254100', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254101', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254102', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254103', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254104', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254105', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254106', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254730', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254731', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254732', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254733', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254734', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254735', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254736', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254737', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254738', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254739', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254750', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254751', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254752', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254753', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254754', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254755', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254756', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254762', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254780', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254781', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254782', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254783', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254784', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254785', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254786', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254787', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254788', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254789', 'airtel_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254770', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254771', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254772', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254773', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254774', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254775', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254776', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254777', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254778', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('msisdn', '+254779', 'telkom_ke', null, '2020-01-01 00:00:00+00'),
('member_id', 'MPESA', 'safaricom_ke', 'mpesa', '2020-01-01 00:00:00+00')
on conflict (alias_type, alias, institution_id, effective_from) do update set
    rail = excluded.rail;

-- shared/rails/mpesa/directory.fees.csv
insert into directory.fees (rail, direction, currency, effective_from, bps, fixed_minor)
values
('mpesa', 'in', 'KES', '2020-01-01 00:00:00+00', '55', '0'),
('mpesa', 'out', 'KES', '2020-01-01 00:00:00+00', '0', '1300')
on conflict (rail, direction, currency, effective_from) do update set
    bps = excluded.bps,
    fixed_minor = excluded.fixed_minor;

-- shared/directory/directory.calendars.csv
insert into directory.calendars (calendar, day, description)
values
('KE', '2026-01-01', 'New Year''s Day'),
('KE', '2026-04-03', 'Good Friday'),
('KE', '2026-04-06', 'Easter Monday'),
('KE', '2026-05-01', 'Labour Day'),
('KE', '2026-06-01', 'Madaraka Day'),
('KE', '2026-10-10', 'Mazingira Day'),
('KE', '2026-10-20', 'Mashujaa Day'),
('KE', '2026-12-12', 'Jamhuri Day'),
('KE', '2026-12-25', 'Christmas Day'),
('KE', '2026-12-26', 'Utamaduni Day'),
('KE', '2027-01-01', 'New Year''s Day'),
('KE', '2027-03-26', 'Good Friday'),
('KE', '2027-03-29', 'Easter Monday'),
('KE', '2027-05-01', 'Labour Day'),
('KE', '2027-06-01', 'Madaraka Day'),
('KE', '2027-10-10', 'Mazingira Day'),
('KE', '2027-10-20', 'Mashujaa Day'),
('KE', '2027-12-12', 'Jamhuri Day'),
('KE', '2027-12-25', 'Christmas Day'),
('KE', '2027-12-26', 'Utamaduni Day')
on conflict (calendar, day) do update set
    description = excluded.description;

reset role;
