-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/rails/mpesa/rails.rails.csv
insert into rails.rails (rail, name, currencies, min_minor, max_minor, step_minor, step_rule, query_waits_s, unanswerable_after_s, horizon_s, prompt_lifetime_s, confirm_above_minor, callback_function, intents, payout_min_minor, payout_max_minor, reverses_within_s, reverses_partly)
values
('mpesa', 'M-Pesa', '{KES}', '100', '25000000', '100', 'M-Pesa takes whole shillings', '{60,60,120,240,300,300,300,300,300,300,300,300,300,300,300,300,3600}', '600', '86400', '90', null, 'momo-callback', '{PUSH,PULL}', '1000', '25000000', '2592000', 'false')
on conflict (rail) do update set
    name = excluded.name,
    currencies = excluded.currencies,
    min_minor = excluded.min_minor,
    max_minor = excluded.max_minor,
    step_minor = excluded.step_minor,
    step_rule = excluded.step_rule,
    query_waits_s = excluded.query_waits_s,
    unanswerable_after_s = excluded.unanswerable_after_s,
    horizon_s = excluded.horizon_s,
    prompt_lifetime_s = excluded.prompt_lifetime_s,
    confirm_above_minor = excluded.confirm_above_minor,
    callback_function = excluded.callback_function,
    intents = excluded.intents,
    payout_min_minor = excluded.payout_min_minor,
    payout_max_minor = excluded.payout_max_minor,
    reverses_within_s = excluded.reverses_within_s,
    reverses_partly = excluded.reverses_partly;

-- shared/rails/mpesa/rails.reason_codes.csv
insert into rails.reason_codes (rail, channel, code, outcome, reason, retry_after_s, repeat_after_s, repeat_outcome, payer_may_retry, meaning, source)
values
('mpesa', 'stk', '0', 'succeeded', null, null, null, null, 'false', 'The payment was made', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '1', 'failed_final', 'MM_INSUFFICIENT_FUNDS', null, null, null, 'true', 'The payer has too little money', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '17', 'failed_retryable', 'MM_LIMIT_EXCEEDED', '300', null, null, 'true', 'Internal failure or a limit of the payer', 'Daraja result codes; weak'),
('mpesa', 'stk', '26', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'M-Pesa was busy', 'Daraja result codes'),
('mpesa', 'stk', '1001', 'failed_retryable', 'MM_SUBSCRIBER_LOCKED', '150', null, null, 'true', 'Another prompt is open on the payer''s phone', 'Daraja STK result codes'),
('mpesa', 'stk', '1019', 'failed_final', 'MM_TIMEOUT', null, null, null, 'true', 'The prompt expired', 'Daraja STK result codes'),
('mpesa', 'stk', '1025', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The prompt could not be sent', 'Daraja STK result codes'),
('mpesa', 'stk', '1032', 'failed_final', 'MM_USER_CANCELLED', null, null, null, 'true', 'The payer cancelled the prompt', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '1036', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The message centre did not acknowledge the prompt', 'Daraja STK result codes'),
('mpesa', 'stk', '1037', 'unknown', 'MM_TIMEOUT', null, '60', 'failed_final', 'true', 'The phone was unreachable or nobody answered', 'Daraja STK result codes; observed in sandbox'),
('mpesa', 'stk', '2001', 'failed_final', 'MM_WRONG_PIN', null, null, null, 'true', 'The payer entered a wrong PIN', 'Daraja STK result codes'),
('mpesa', 'stk', '2028', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The short code may not use this product', 'Daraja result codes'),
('mpesa', 'stk', '4999', 'pending', null, null, null, null, 'false', 'The payment is still being processed', 'Observed in sandbox'),
('mpesa', 'stk', '8006', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The security credential is locked', 'Daraja result codes'),
('mpesa', 'stk', '9999', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The prompt could not be sent', 'Daraja STK result codes'),
('mpesa', 'stk', 'SFC_IC0003', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The till or pay bill does not belong to the short code', 'Daraja result codes'),
('mpesa', 'api', '00.002.1001', 'failed_retryable', 'RAIL_UNAVAILABLE', '300', null, null, 'true', 'M-Pesa is under maintenance', 'Daraja API errors'),
('mpesa', 'api', '400.002.02', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'A field of the request is invalid', 'Daraja API errors'),
('mpesa', 'api', '400.002.02/phonenumber', 'failed_final', 'MM_MSISDN_INVALID', null, null, null, 'true', 'The payer''s number is not accepted', 'Daraja API errors'),
('mpesa', 'api', '400.002.05', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The request is invalid', 'Daraja API errors'),
('mpesa', 'api', '400.003.01', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The access token is not accepted', 'Daraja API errors'),
('mpesa', 'api', '400.003.02', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The short code is not the merchant''s', 'Daraja API errors'),
('mpesa', 'api', '400.008.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The consumer key or secret is not accepted', 'Daraja API errors'),
('mpesa', 'api', '400.008.02', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The grant type is not accepted', 'Daraja API errors'),
('mpesa', 'api', '401', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'HTTP 401 without a code: the app may not use this product', 'Daraja token errors'),
('mpesa', 'api', '401.002.01', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The access token is not accepted', 'Daraja API errors'),
('mpesa', 'api', '403.002.1001', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The app is not authorised for this product', 'Daraja API errors'),
('mpesa', 'api', '404.001.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The path does not exist', 'Daraja API errors'),
('mpesa', 'api', '404.001.03', 'failed_retryable', 'RAIL_UNAVAILABLE', '60', null, null, 'true', 'The access token is not accepted', 'Daraja API errors'),
('mpesa', 'api', '404.001.04', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'A request header is wrong', 'Daraja API errors'),
('mpesa', 'api', '404.002.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The path does not exist', 'Daraja API errors'),
('mpesa', 'api', '404.003.01', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The path does not exist', 'Daraja API errors'),
('mpesa', 'api', '405.001', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The method is not allowed', 'Daraja API errors'),
('mpesa', 'api', '500.001.1001', 'unknown', null, null, null, null, 'false', 'M-Pesa did not say what happened', 'Daraja API errors; observed in sandbox'),
('mpesa', 'api', '500.001.1001/is being processed', 'pending', null, null, null, null, 'false', 'The payment is still being processed', 'Observed in sandbox'),
('mpesa', 'api', '500.001.1001/merchant does not exist', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The short code is not known', 'Daraja API errors'),
('mpesa', 'api', '500.001.1001/unable to lock subscriber', 'failed_retryable', 'MM_SUBSCRIBER_LOCKED', '60', null, null, 'true', 'Another prompt is open on the payer''s phone', 'Daraja API errors'),
('mpesa', 'api', '500.001.1001/wrong credentials', 'failed_final', 'MERCHANT_CONFIGURATION', null, null, null, 'false', 'The passkey or short code is wrong', 'Daraja API errors'),
('mpesa', 'api', '500.002.1001', 'unknown', 'DUPLICATE_AT_RAIL', null, null, null, 'false', 'The request was already accepted: ask for its state', 'Daraja API errors'),
('mpesa', 'api', '500.003.02', 'failed_retryable', 'RAIL_UNAVAILABLE', '10', null, null, 'true', 'Too many requests: refused before processing', 'Daraja API errors'),
('mpesa', 'api', '500.003.03', 'failed_retryable', 'RAIL_UNAVAILABLE', '600', null, null, 'true', 'The quota is used up', 'Daraja API errors'),
('mpesa', 'api', '500.003.1001', 'unknown', 'RAIL_UNAVAILABLE', null, null, null, 'false', 'Internal error at M-Pesa', 'Daraja API errors')
on conflict (rail, channel, code) do update set
    outcome = excluded.outcome,
    reason = excluded.reason,
    retry_after_s = excluded.retry_after_s,
    repeat_after_s = excluded.repeat_after_s,
    repeat_outcome = excluded.repeat_outcome,
    payer_may_retry = excluded.payer_may_retry,
    meaning = excluded.meaning,
    source = excluded.source;

reset role;
