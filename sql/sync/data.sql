-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/authority/cd/sync.authorities.csv
-- shared/authority/ke/sync.authorities.csv
-- shared/authority/zw/sync.authorities.csv
insert into sync.authorities (jurisdiction, protocol, is_ordered, in_flight, lease_s, grace_h, has_days)
values
('CD', 'e-MCF', 'false', '8', '180', '72', 'false'),
('KE', 'eTIMS OSCU', 'true', '1', '180', '72', 'false'),
('ZW', 'FDMS', 'true', '1', '180', '72', 'true')
on conflict (jurisdiction) do update set
    protocol = excluded.protocol,
    is_ordered = excluded.is_ordered,
    in_flight = excluded.in_flight,
    lease_s = excluded.lease_s,
    grace_h = excluded.grace_h,
    has_days = excluded.has_days;

-- shared/authority/cd/sync.payment_methods.csv
-- shared/authority/ke/sync.payment_methods.csv
-- shared/authority/zw/sync.payment_methods.csv
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
('KE', 'other', '07'),
('ZW', 'cash', 'Cash'),
('ZW', 'card', 'Card'),
('ZW', 'mobile_money', 'MobileWallet'),
('ZW', 'voucher', 'Coupon'),
('ZW', 'credit', 'Credit'),
('ZW', 'bank_transfer', 'BankTransfer'),
('ZW', 'cheque', 'Other'),
('ZW', 'other', 'Other')
on conflict (jurisdiction, method) do update set
    authority_code = excluded.authority_code;

-- shared/authority/cd/sync.authority_codes.csv
insert into sync.authority_codes (jurisdiction, code, outcome, meaning)
values
('CD', '1', 'not_now', 'Too many invoices are pending; they expire after two minutes'),
('CD', '2', 'rejected', 'The invoice is malformed'),
('CD', '3', 'rejected', 'The invoice type is not valid'),
('CD', '4', 'rejected', 'The reference of the original invoice is missing'),
('CD', '5', 'rejected', 'The reference does not have 24 characters'),
('CD', '6', 'rejected', 'A levy is not valid'),
('CD', '7', 'rejected', 'A payment is not valid or payments do not cover the total'),
('CD', '8', 'rejected', 'The invoice has no items'),
('CD', '9', 'rejected', 'A tax group or the type of an item in it is not valid'),
('CD', '10', 'not_now', 'The reference cannot be checked now'),
('CD', '11', 'rejected', 'The original invoice is not known'),
('CD', '12', 'rejected', 'The credit exceeds the original invoice'),
('CD', '13', 'rejected', 'The client''s identification is not complete'),
('CD', '20', 'undecided', 'The pending invoice is not known or was finished already'),
('CD', '99', 'not_now', 'The request could not be processed'),
('CD', '21', 'rejected', 'The totals of the confirmation are not those of the invoice')
on conflict (jurisdiction, code) do update set
    outcome = excluded.outcome,
    meaning = excluded.meaning;

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
