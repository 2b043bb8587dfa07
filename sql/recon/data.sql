-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/recon/recon.time_zones.csv
insert into recon.time_zones (country, time_zone)
values
('AO', 'Africa/Luanda'),
('BF', 'Africa/Ouagadougou'),
('BI', 'Africa/Bujumbura'),
('BJ', 'Africa/Porto-Novo'),
('BW', 'Africa/Gaborone'),
('CD', 'Africa/Kinshasa'),
('CF', 'Africa/Bangui'),
('CG', 'Africa/Brazzaville'),
('CI', 'Africa/Abidjan'),
('CM', 'Africa/Douala'),
('CV', 'Atlantic/Cape_Verde'),
('DJ', 'Africa/Djibouti'),
('DZ', 'Africa/Algiers'),
('EG', 'Africa/Cairo'),
('ER', 'Africa/Asmara'),
('ET', 'Africa/Addis_Ababa'),
('GA', 'Africa/Libreville'),
('GH', 'Africa/Accra'),
('GM', 'Africa/Banjul'),
('GN', 'Africa/Conakry'),
('GQ', 'Africa/Malabo'),
('GW', 'Africa/Bissau'),
('KE', 'Africa/Nairobi'),
('KM', 'Indian/Comoro'),
('LR', 'Africa/Monrovia'),
('LS', 'Africa/Maseru'),
('LY', 'Africa/Tripoli'),
('MA', 'Africa/Casablanca'),
('MG', 'Indian/Antananarivo'),
('ML', 'Africa/Bamako'),
('MR', 'Africa/Nouakchott'),
('MU', 'Indian/Mauritius'),
('MW', 'Africa/Blantyre'),
('MZ', 'Africa/Maputo'),
('NA', 'Africa/Windhoek'),
('NE', 'Africa/Niamey'),
('NG', 'Africa/Lagos'),
('RW', 'Africa/Kigali'),
('SC', 'Indian/Mahe'),
('SD', 'Africa/Khartoum'),
('SL', 'Africa/Freetown'),
('SN', 'Africa/Dakar'),
('SO', 'Africa/Mogadishu'),
('SS', 'Africa/Juba'),
('ST', 'Africa/Sao_Tome'),
('SZ', 'Africa/Mbabane'),
('TD', 'Africa/Ndjamena'),
('TG', 'Africa/Lome'),
('TN', 'Africa/Tunis'),
('TZ', 'Africa/Dar_es_Salaam'),
('UG', 'Africa/Kampala'),
('ZA', 'Africa/Johannesburg'),
('ZM', 'Africa/Lusaka'),
('ZW', 'Africa/Harare')
on conflict (country) do update set
    time_zone = excluded.time_zone;

-- shared/recon/recon.rail_rules.csv
insert into recon.rail_rules (rail, time_zone, day_tolerance, banking_days, missing_after_days, fee_bps, fee_fixed_minor, statement_format)
values
('mpesa', 'Africa/Nairobi', '1', 'false', '1', '0', '0', 'mpesa_csv')
on conflict (rail) do update set
    time_zone = excluded.time_zone,
    day_tolerance = excluded.day_tolerance,
    banking_days = excluded.banking_days,
    missing_after_days = excluded.missing_after_days,
    fee_bps = excluded.fee_bps,
    fee_fixed_minor = excluded.fee_fixed_minor,
    statement_format = excluded.statement_format;

reset role;
