-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/authority/cd/sync.authorities.csv
-- shared/authority/ke/sync.authorities.csv
insert into sync.authorities (jurisdiction, protocol, is_ordered, in_flight, lease_s, grace_h, has_days)
values
('CD', 'e-MCF', 'false', '8', '180', '72', 'false'),
('KE', 'eTIMS OSCU', 'true', '1', '180', '72', 'false')
on conflict (jurisdiction) do update set
    protocol = excluded.protocol,
    is_ordered = excluded.is_ordered,
    in_flight = excluded.in_flight,
    lease_s = excluded.lease_s,
    grace_h = excluded.grace_h,
    has_days = excluded.has_days;

-- shared/authority/cd/sync.payment_methods.csv
-- shared/authority/ke/sync.payment_methods.csv
insert into sync.payment_methods (jurisdiction, method, authority_code)
values
('CD', 'cash', 'ESPECES'),
('CD', 'mobile_money', 'MOBILEMONEY'),
('CD', 'card', 'CARTEBANCAIRE'),
('CD', 'bank_transfer', 'VIREMENT'),
('CD', 'cheque', 'CHEQUES'),
('CD', 'credit', 'CREDIT'),
('CD', 'voucher', 'AUTRE'),
('CD', 'other', 'AUTRE'),
('KE', 'cash', '01'),
('KE', 'credit', '02'),
('KE', 'cheque', '04'),
('KE', 'card', '05'),
('KE', 'mobile_money', '06'),
('KE', 'bank_transfer', '07'),
('KE', 'voucher', '07'),
('KE', 'other', '07')
on conflict (jurisdiction, method) do update set
    authority_code = excluded.authority_code;

-- shared/states/sync.transitions.csv
insert into sync.transitions (from_status, event, to_status)
values
('PENDING', 'claim', 'SUBMITTED'),
('RETRY', 'claim', 'SUBMITTED'),
('SUBMITTED', 'claim', 'SUBMITTED'),
('SUBMITTED', 'accept', 'SYNCED'),
('RETRY', 'accept', 'SYNCED'),
('FAILED', 'accept', 'SYNCED'),
('SUBMITTED', 'postpone', 'RETRY'),
('SUBMITTED', 'reject', 'REJECTED'),
('SUBMITTED', 'fail', 'FAILED'),
('PENDING', 'give_up', 'FAILED'),
('RETRY', 'give_up', 'FAILED'),
('FAILED', 'retry', 'RETRY'),
('REJECTED', 'retry', 'RETRY'),
('RETRY', 'retry', 'RETRY'),
('PENDING', 'withdraw', 'NOT_APPLICABLE'),
('RETRY', 'withdraw', 'NOT_APPLICABLE'),
('FAILED', 'withdraw', 'NOT_APPLICABLE'),
('REJECTED', 'withdraw', 'NOT_APPLICABLE')
on conflict (from_status, event) do update set
    to_status = excluded.to_status;

reset role;
