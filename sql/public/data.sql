-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/public.plans.csv
insert into public.plans (plan, description)
values
('basic', 'Every new organisation'),
('pro', 'Organisations with regular traffic'),
('unlimited', 'No limits: load tests and our own tools')
on conflict (plan) do update set
    description = excluded.description;

-- shared/public.app_roles.csv
insert into public.app_roles (app_role, description, is_platform)
values
('owner', 'Everything including other owners; a tenant always has one', 'false'),
('admin', 'Runs the account: people and keys and credentials', 'false'),
('developer', 'Builds the integration: payments and keys and webhooks', 'false'),
('finance', 'Moves money back and out and reads the books', 'false'),
('cashier', 'Takes payments at one outlet', 'false'),
('auditor', 'Reads everything and changes nothing', 'false'),
('operator', 'Works for the platform', 'true')
on conflict (app_role) do update set
    description = excluded.description,
    is_platform = excluded.is_platform;

-- shared/authority/public.scopes.csv
-- shared/fiscal/reporting/public.scopes.csv
-- shared/ledger/public.scopes.csv
-- shared/public.scopes.csv
-- shared/recon/public.scopes.csv
insert into public.scopes (scope, included_in, key_kinds, description)
values
('authority:manage', null, '{}', 'Decide about documents that did not reach the tax authority'),
('reports:write', null, '{secret}', 'Close business days'),
('ledger:adjust', null, '{}', 'Adjust the books by hand and close periods; what one person writes another approves'),
('*', null, '{secret}', 'Everything a tenant may do'),
('payments:read', null, '{secret}', 'See payment intents and their events'),
('payments:write', null, '{secret}', 'Create and confirm and cancel payment intents'),
('payments:confirm', 'payments:write', '{publishable}', 'Confirm or watch one payment intent with its client secret'),
('payments:resolve', null, '{secret}', 'Decide what became of a payment that waits for a person'),
('refunds:write', null, '{secret}', 'Give money back'),
('payouts:write', null, '{secret}', 'Send money out'),
('invoices:read', null, '{secret}', 'See fiscal invoices'),
('invoices:write', null, '{secret}', 'Issue fiscal invoices'),
('reports:read', null, '{secret}', 'Read reports and statements'),
('webhooks:read', null, '{secret}', 'See webhook endpoints and deliveries'),
('webhooks:write', null, '{secret}', 'Change webhook endpoints and replay deliveries'),
('account:read', null, '{secret}', 'See the organisation and its people'),
('audit:read', null, '{secret}', 'Read the audit trail'),
('api_keys:manage', null, '{secret}', 'Create and rotate and revoke API keys'),
('team:manage', null, '{secret}', 'Invite people and change or end their roles'),
('credentials:manage', null, '{secret}', 'Store and test and delete rail credentials'),
('platform:operate', null, '{}', 'Work on any tenant for the platform'),
('payouts:approve', null, '{}', 'Approve refunds and payouts that somebody else asked for'),
('deliveries:read', null, '{}', 'See events that did not reach a destination'),
('deliveries:manage', null, '{}', 'Try such events again or give them up'),
('recon:write', null, '{secret}', 'Upload statements and decide reconciliation exceptions'),
('recon:read', 'recon:write', '{secret}', 'See reconciliation sessions and exceptions')
on conflict (scope) do update set
    included_in = excluded.included_in,
    key_kinds = excluded.key_kinds,
    description = excluded.description;

-- shared/authority/public.role_scopes.csv
-- shared/fiscal/reporting/public.role_scopes.csv
-- shared/ledger/public.role_scopes.csv
-- shared/public.role_scopes.csv
-- shared/recon/public.role_scopes.csv
insert into public.role_scopes (app_role, scope)
values
('admin', 'authority:manage'),
('finance', 'authority:manage'),
('admin', 'reports:write'),
('finance', 'reports:write'),
('finance', 'ledger:adjust'),
('admin', 'ledger:adjust'),
('owner', '*'),
('admin', 'payments:read'),
('admin', 'payments:write'),
('admin', 'refunds:write'),
('admin', 'payouts:write'),
('admin', 'invoices:read'),
('admin', 'invoices:write'),
('admin', 'reports:read'),
('admin', 'webhooks:read'),
('admin', 'webhooks:write'),
('admin', 'account:read'),
('admin', 'audit:read'),
('admin', 'api_keys:manage'),
('admin', 'team:manage'),
('admin', 'credentials:manage'),
('developer', 'payments:read'),
('developer', 'payments:write'),
('developer', 'invoices:read'),
('developer', 'webhooks:read'),
('developer', 'webhooks:write'),
('developer', 'account:read'),
('developer', 'api_keys:manage'),
('finance', 'payments:read'),
('finance', 'refunds:write'),
('finance', 'payouts:write'),
('finance', 'invoices:read'),
('finance', 'reports:read'),
('finance', 'account:read'),
('finance', 'audit:read'),
('cashier', 'payments:read'),
('cashier', 'payments:write'),
('cashier', 'invoices:read'),
('cashier', 'invoices:write'),
('cashier', 'account:read'),
('auditor', 'payments:read'),
('auditor', 'invoices:read'),
('auditor', 'reports:read'),
('auditor', 'webhooks:read'),
('auditor', 'account:read'),
('auditor', 'audit:read'),
('operator', 'platform:operate'),
('operator', 'payments:read'),
('admin', 'payments:resolve'),
('finance', 'payments:resolve'),
('operator', 'payments:resolve'),
('admin', 'payouts:approve'),
('finance', 'payouts:approve'),
('admin', 'deliveries:read'),
('developer', 'deliveries:read'),
('finance', 'deliveries:read'),
('finance', 'deliveries:manage'),
('auditor', 'deliveries:read'),
('operator', 'deliveries:read'),
('operator', 'deliveries:manage'),
('admin', 'recon:write'),
('finance', 'recon:write'),
('auditor', 'recon:read')
on conflict (app_role, scope) do nothing;

-- shared/authority/public.function_roles.csv
-- shared/fiscal/archive/public.function_roles.csv
-- shared/fiscal/integrity/public.function_roles.csv
-- shared/fiscal/offline/public.function_roles.csv
-- shared/fiscal/public.function_roles.csv
-- shared/messages/public.function_roles.csv
-- shared/public.function_roles.csv
insert into public.function_roles (db_role, may_pass_user)
values
('fn_authority_sync', 'true'),
('fn_archive', 'true'),
('fn_integrity', 'true'),
('fn_offline', 'true'),
('fn_invoices', 'true'),
('fn_reports', 'true'),
('fn_verify', 'true'),
('fn_receipts', 'true'),
('fn_alerts', 'true'),
('fn_relay', 'false'),
('fn_payment_intents', 'true'),
('fn_merchants', 'true'),
('fn_momo_callback', 'false'),
('fn_reconcile', 'true'),
('fn_webhook_endpoints', 'true'),
('fn_webhook_delivery', 'false'),
('fn_events', 'true'),
('fn_refunds', 'true'),
('fn_payouts', 'true'),
('fn_transfers', 'true'),
('fn_recon', 'true'),
('fn_compliance', 'true'),
('fn_ledger', 'true'),
('fn_deliveries', 'true'),
('fn_directory', 'true')
on conflict (db_role) do update set
    may_pass_user = excluded.may_pass_user;

-- shared/public.currencies.csv
insert into public.currencies (code, name, scale)
values
('AED', 'UAE dirham', '2'),
('ALGO', 'Algo', '6'),
('AOA', 'Angolan kwanza', '2'),
('BIF', 'Burundian franc', '0'),
('BWP', 'Botswana pula', '2'),
('CDF', 'Congolese franc', '2'),
('DJF', 'Djibouti franc', '0'),
('EGP', 'Egyptian pound', '2'),
('ERN', 'Eritrean nakfa', '2'),
('ETB', 'Ethiopian birr', '2'),
('EUR', 'Euro', '2'),
('GBP', 'Pound sterling', '2'),
('GHS', 'Ghana cedi', '2'),
('KES', 'Kenyan shilling', '2'),
('LSL', 'Lesotho loti', '2'),
('MAD', 'Moroccan dirham', '2'),
('MGA', 'Malagasy ariary', '2'),
('MUR', 'Mauritius rupee', '2'),
('MWK', 'Malawi kwacha', '2'),
('MZN', 'Mozambique metical', '2'),
('NAD', 'Namibia dollar', '2'),
('NGN', 'Nigerian naira', '2'),
('RWF', 'Rwanda franc', '0'),
('SCR', 'Seychelles rupee', '2'),
('SOS', 'Somali shilling', '2'),
('SSP', 'South Sudanese pound', '2'),
('SZL', 'Swazi lilangeni', '2'),
('TND', 'Tunisian dinar', '3'),
('TZS', 'Tanzanian shilling', '2'),
('UGX', 'Uganda shilling', '0'),
('USD', 'US dollar', '2'),
('USDC', 'USD Coin', '6'),
('USDT', 'Tether USD', '6'),
('XAF', 'Central African CFA franc', '0'),
('XOF', 'West African CFA franc', '0'),
('ZAR', 'South African rand', '2'),
('ZMW', 'Zambian kwacha', '2'),
('ZWG', 'Zimbabwe Gold', '2'),
('ZWL', 'Zimbabwe dollar', '2')
on conflict (code) do update set
    name = excluded.name,
    scale = excluded.scale;

-- shared/public.rate_limit_plans.csv
insert into public.rate_limit_plans (plan, bucket, rate_per_minute, burst)
values
('basic', 'write', '10', '10'),
('basic', 'read', '100', '100'),
('basic', 'manage', '5', '10'),
('pro', 'write', '60', '60'),
('pro', 'read', '600', '200'),
('pro', 'manage', '10', '30'),
('unlimited', 'write', null, null),
('unlimited', 'read', null, null),
('unlimited', 'manage', null, null)
on conflict (plan, bucket) do update set
    rate_per_minute = excluded.rate_per_minute,
    burst = excluded.burst;

-- shared/compliance/public.settings.csv
-- shared/fiscal/public.settings.csv
-- shared/ledger/public.settings.csv
-- shared/messages/public.settings.csv
-- shared/public.settings.csv
-- shared/signing/public.settings.csv
-- shared/webhooks/public.settings.csv
insert into public.settings (key, value, comment)
values
('compliance.tier_sandbox', '"T3"', 'Tier of a tenant without one of its own in the sandbox'),
('compliance.tier_production', '"T2"', 'Tier of a tenant without one of its own in production: an operator has seen its documents before activating it'),
('compliance.hold_from', '75', 'Screening score from which a person must look'),
('compliance.deny_from', '90', 'Screening score from which a party is refused'),
('compliance.stale_after_s', '86400', 'A list that nobody imported for so long raises an alert'),
('compliance.unusable_after_s', '259200', 'A list that nobody imported for so long clears nobody any more'),
('fiscal.verification_spike', '{"views": 200, "window_s": 3600}', 'How often one document may be verified within the window before somebody should look'),
('fiscal.document_max_age_s', '31622400', 'Seconds from a document''s timestamp to its sealing, at most (a year: what was sold before the system came may follow); a terminal that sealed it offline goes by its own time'),
('ledger.rules_version', '1', 'Version of ledger.posting_rules that new journals are booked by'),
('ledger.hold_lifetime_s', '604800', 'Seconds until an authorisation that was not captured is released'),
('messages.daily_budget', '100', 'Mails a day by UTC; what the provider''s plan allows'),
('messages.keep_days', '90', 'Days after which a message that is done with is removed'),
('messages.sends_per_subject', '5', 'Mails about one payment; sending again is refused after that'),
('alerts.coalesce_s', '900', 'Seconds in which alerts of one kind to one destination share a mail'),
('alerts.remind_s', '86400', 'Seconds after which an alert that goes on is told again'),
('alerts.stuck_after_s', '900', 'Age in seconds at which an open transfer counts as stuck'),
('alerts.slo_least', '20', 'Fewer cases than this say nothing about a service level'),
('messages.link_days', '90', 'Days that the link in the mail of a fiscal document works'),
('api_keys.max_per_tenant', '50', 'Active API keys of one tenant in one environment'),
('invitations.valid_s', '604800', 'Seconds an invitation may be accepted'),
('payments.four_eyes_above_minor', '{"KES": 5000000}', 'Refunds and payouts above this wait for a second person; by currency in minor units'),
('payments.daily_payout_limit_minor', '{"KES": 100000000}', 'What one key or person may pay out in 24 hours; by currency in minor units'),
('outbox.backoff_s', '[1, 5, 30, 120, 600, 3600, 7200, 14400, 28800, 57600]', 'Seconds to wait after the 1st and 2nd … failed attempt at a delivery'),
('outbox.partition_s', '86400', 'How many seconds one partition of the outbox spans'),
('outbox.retention_s', '604800', 'How many seconds the outbox keeps a partition after its end'),
('outbox.ahead_s', '259200', 'How many seconds ahead partitions of the outbox are made'),
('outbox.lag_alert_s', '60', 'Seconds an event may be due at a destination before an alert is raised'),
('signing.rotate_after_days', '365', 'Days a key signs before another one takes over'),
('webhooks.endpoints_max', '5', 'Webhook endpoints of one tenant in one environment'),
('webhooks.delays_s', '[10, 60, 600, 3600]', 'Seconds before the second attempt and the third and so on; the last one repeats'),
('webhooks.patience_s', '86400', 'Seconds after which an undelivered webhook is given up; it can still be replayed'),
('webhooks.in_flight_max', '50', 'Deliveries to one endpoint at once while it answers well'),
('webhooks.in_flight_failing', '5', 'Deliveries to one endpoint at once while it fails'),
('webhooks.breaker_failures', '5', 'Failures in a row that open an endpoint''s circuit breaker'),
('webhooks.breaker_s', '10', 'Seconds a breaker stays open first; doubled each time up to breaker_max'),
('webhooks.breaker_max_s', '300', 'Longest time a breaker stays open'),
('webhooks.lease_s', '60', 'Seconds a claimed delivery belongs to its dispatcher; longer than any attempt'),
('webhooks.disable_after_s', '432000', 'Seconds of nothing but failures after which an endpoint is disabled'),
('webhooks.overlap_s', '86400', 'Seconds the former secret still signs after a rotation'),
('webhooks.bodies_kept_s', '2592000', 'Seconds payloads and attempts are kept'),
('webhooks.deliveries_kept_s', '31536000', 'Seconds the list of deliveries is kept')
on conflict (key) do update set
    value = excluded.value,
    comment = excluded.comment;

-- shared/public.error_codes.csv
insert into public.error_codes (code, name, status, title, retryable, remedy)
values
('40001', 'InvalidRequest', '400', 'Invalid request', 'false', 'Correct the fields named in errors and send the request again.'),
('40002', 'IdempotencyKeyInvalid', '400', 'Idempotency-Key is missing or invalid', 'false', 'Send an Idempotency-Key header of 1 to 128 visible ASCII characters.'),
('40003', 'FieldNotSupported', '400', 'Field is not supported', 'false', 'Leave out the fields named in errors.'),
('40101', 'AuthenticationRequired', '401', 'Authentication is required', 'false', 'Send an Authorization header with an API key or a user token.'),
('40102', 'KeyInvalid', '401', 'Key is not valid', 'false', 'Use a key that is neither revoked nor expired.'),
('40301', 'TokenInvalid', '403', 'Token is not valid', 'false', 'Sign in again and use the new token.'),
('40302', 'TenantNotOnboarded', '403', 'Tenant is not onboarded', 'false', 'Sign up an organisation first and refresh the token.'),
('40311', 'ScopeMissing', '403', 'Scope is missing', 'false', 'Use a key that has the scope named in detail.'),
('40312', 'RoleNotAllowed', '403', 'Role is not allowed to do this', 'false', 'Ask an owner or admin of the organisation.'),
('40401', 'NotFound', '404', 'Not found', 'false', 'Check the id and the environment of the key.'),
('40501', 'MethodNotAllowed', '405', 'Method is not allowed', 'false', 'Use one of the methods in the Allow header.'),
('40903', 'DuplicateExternalRef', '409', 'external_ref is taken', 'false', 'Use the existing transfer or another external_ref.'),
('40904', 'RequestInProgress', '409', 'A request with this key is still running', 'true', 'Repeat with the same key after Retry-After.'),
('40911', 'InvalidTransition', '409', 'Not allowed in the current state', 'false', 'Read the resource; allowed lists the possible moves.'),
('40914', 'AlreadyExists', '409', 'Already exists', 'false', 'Use the existing resource or another name.'),
('40921', 'ReportExists', '409', 'Report exists', 'false', 'Read the report named in report_id; the next business day can be closed when it has begun.'),
('40922', 'NumberConflict', '409', 'Another document has this number', 'false', 'Keep the document; a person compares it with the one in the chain.'),
('41301', 'BodyTooLarge', '413', 'Body is too large', 'false', 'Send a smaller body.'),
('41501', 'UnsupportedMediaType', '415', 'Unsupported media type', 'false', 'Send the body as application/json.'),
('42201', 'EntityDenied', '422', 'Party is not allowed', 'false', 'Do not repeat it; ask support with the request_id.'),
('42202', 'RouteNotFound', '422', 'No rail reaches this', 'false', 'Read candidates: each says which rule excluded it.'),
('42203', 'IdentityVerificationRequired', '422', 'Party must be screened first', 'false', 'Register the party with POST /functions/v1/compliance/parties and repeat.'),
('42204', 'KycTierInsufficient', '422', 'Tier is too low', 'false', 'Have the organisation''s tier raised.'),
('42206', 'LimitExceeded', '422', 'Limit is exceeded', 'false', 'Wait until room_at or have the organisation''s tier raised.'),
('42241', 'IdempotencyConflict', '422', 'Idempotency-Key was used with another body', 'false', 'Use a new key or send the first body again.'),
('42251', 'InvalidAmount', '422', 'Amount is not valid', 'false', 'Send a decimal string with the decimals of the currency.'),
('42253', 'WebhookUrlForbidden', '422', 'Webhook URL is not allowed', 'false', 'Use an https URL whose host has public addresses only; rule says what was wrong.'),
('42254', 'EndpointLimitReached', '422', 'Too many webhook endpoints', 'false', 'Delete an endpoint you do not use.'),
('42255', 'RefundExceedsRefundable', '422', 'Refund exceeds what can go back', 'false', 'Refund at most the amount named in refundable.'),
('42258', 'PatchFieldNotAllowed', '422', 'Field cannot be changed', 'false', 'Change only the fields the documentation lists.'),
('42259', 'PhoneInvalid', '422', 'Phone number is not valid', 'false', 'Send a mobile number of the rail''s country.'),
('42260', 'RailNotConfigured', '422', 'Rail is not configured', 'false', 'Store credentials of this rail for this environment first.'),
('42261', 'PaymentMethodNotAllowed', '422', 'Payment method is not allowed', 'false', 'Use one of payment_method_types of the intent.'),
('42262', 'InvalidParameter', '422', 'Parameter is not valid', 'false', 'Correct the parameters named in errors.'),
('42263', 'CredentialsRefused', '422', 'Rail refused the credentials', 'false', 'Store the credentials again as the rail issued them.'),
('42270', 'StatementNotAccepted', '422', 'Statement is not accepted', 'false', 'Export the statement again; line names the first line that is wrong.'),
('42271', 'TaxGroupInvalid', '422', 'Tax group is not valid', 'false', 'Use the tax group named in errors or leave tax_group out.'),
('42272', 'ClassificationRuleBroken', '422', 'Client classification is not satisfied', 'false', 'Add the members of client that errors names.'),
('42273', 'TotalsMismatch', '422', 'Totals do not match', 'false', 'Leave computed values out or send the values named in errors.'),
('42274', 'ManifestNotInForce', '422', 'Tax manifest is not in force', 'false', 'Use the manifest version that was in force at the invoice''s timestamp.'),
('42275', 'InvoiceRuleBroken', '422', 'Invoice breaks a rule', 'false', 'Correct the fields named in errors and send the invoice again.'),
('42276', 'CreditExceedsOriginal', '422', 'Credit exceeds the original', 'false', 'Credit at most what errors says is left.'),
('42277', 'LocalSealRefused', '422', 'Local seal is not accepted', 'false', 'Stop the terminal; errors says what its credential does not allow.'),
('42280', 'JournalUnbalanced', '422', 'Journal does not balance', 'false', 'Make debits and credits equal in the currency named.'),
('42290', 'AuthorityRefused', '422', 'The tax authority refused', 'false', 'Read detail; check with the authority what it issued for this outlet.'),
('42901', 'RateLimited', '429', 'Too many requests', 'true', 'Wait for Retry-After seconds.'),
('50000', 'InternalError', '500', 'Internal error', 'false', 'Report the request_id; repeat only with the same Idempotency-Key.'),
('50011', 'LedgerBroken', '500', 'Ledger does not verify', 'false', 'Keep everything as it is and write to support with the request_id.'),
('50201', 'RoutingUnavailable', '502', 'The rail is closed', 'true', 'Repeat with the same Idempotency-Key after Retry-After.'),
('50301', 'DependencyUnavailable', '503', 'A dependency is unavailable', 'true', 'Repeat with the same Idempotency-Key after Retry-After.'),
('50302', 'RailUnavailable', '503', 'The rail is unavailable', 'true', 'Nothing was sent; try again after Retry-After.'),
('50304', 'AuthorityUnavailable', '503', 'The tax authority is unavailable', 'true', 'Nothing was stored; try again after Retry-After.')
on conflict (code) do update set
    name = excluded.name,
    status = excluded.status,
    title = excluded.title,
    retryable = excluded.retryable,
    remedy = excluded.remedy;

-- shared/fiscal/public.destinations.csv
-- shared/messages/public.destinations.csv
-- shared/public.destinations.csv
insert into public.destinations (destination, function_name, kind, batch, lease_s, max_attempts, stalled_after, enabled, description)
values
('invoices', 'invoices/issue', 'function', '20', '60', '10', '5', 'true', 'Issues the invoices that payments asked for'),
('relay', 'relay', 'function', '200', '60', '10', '5', 'false', 'Publishes every event to a distributed log; off until an operator turns it on'),
('ledger', 'ledger', 'database', '500', '60', '10', '5', 'true', 'Books every transfer event'),
('webhooks', 'webhook_delivery', 'database', '500', '60', '10', '5', 'true', 'Fans events out to the merchants'' endpoints'),
('receipts', 'receipts', 'function', '50', '120', '10', '5', 'true', 'Receipts to payers')
on conflict (destination) do update set
    function_name = excluded.function_name,
    kind = excluded.kind,
    batch = excluded.batch,
    lease_s = excluded.lease_s,
    max_attempts = excluded.max_attempts,
    stalled_after = excluded.stalled_after,
    enabled = excluded.enabled,
    description = excluded.description;

-- shared/fiscal/public.event_subscriptions.csv
-- shared/messages/public.event_subscriptions.csv
-- shared/public.event_subscriptions.csv
-- shared/webhooks/public.event_subscriptions.csv
insert into public.event_subscriptions (pattern, destination, enabled, description)
values
('invoice_order.paid', 'invoices', 'true', 'A payment that asked for an invoice has succeeded'),
('refund.succeeded', 'receipts', 'true', 'The payer is told that money came back'),
('%', 'relay', 'false', 'Every event goes to the distributed log; off until an operator turns it on'),
('invoice_mail.due', 'receipts', 'true', 'The client of a sealed document gets it by mail'),
('transfer.%', 'ledger', 'true', 'The ledger books every transfer event'),
('payment_intent.succeeded', 'receipts', 'true', 'The payer gets a receipt'),
('payment_intent.%', 'webhooks', 'true', 'Merchants are told about their intents'),
('transfer.%', 'webhooks', 'true', 'Merchants are told about their transfers'),
('refund.%', 'webhooks', 'true', 'Merchants are told about their refunds'),
('payout.%', 'webhooks', 'true', 'Merchants are told about their payouts'),
('invoice.%', 'webhooks', 'true', 'Merchants are told about their fiscal invoices')
on conflict (pattern, destination) do update set
    enabled = excluded.enabled,
    description = excluded.description;

-- shared/authority/public.cron_tasks.csv
-- shared/authority/zw/public.cron_tasks.csv
-- shared/compliance/public.cron_tasks.csv
-- shared/fiscal/archive/public.cron_tasks.csv
-- shared/fiscal/integrity/public.cron_tasks.csv
-- shared/fiscal/reporting/public.cron_tasks.csv
-- shared/ledger/public.cron_tasks.csv
-- shared/messages/public.cron_tasks.csv
-- shared/public.cron_tasks.csv
-- shared/recon/public.cron_tasks.csv
-- shared/signing/public.cron_tasks.csv
-- shared/webhooks/public.cron_tasks.csv
insert into public.cron_tasks (task, lane, interval_s, lease_s, routine, enabled, description)
values
('authority.poke', 'fast', '5', '60', 'sync.poke_due', 'true', 'Wakes authority_sync when a document may go to its authority'),
('authority.beat', 'slow', '300', '120', 'sync.beat', 'true', 'Gives up what is late and wakes authority_sync for work and for devices'),
('authority.reseal', 'slow', '3600', '60', 'sync.poke_reseal', 'true', 'Wakes authority_sync to seal credentials again that are under an older master key'),
('authority.days', 'slow', '300', '60', 'sync.close_days', 'true', 'Has fiscal days closed whose date is over at the outlet'),
('compliance.fold', 'fast', '30', '60', 'compliance.fold_releases', 'true', 'Takes what failed transfers gave back into the counters of limits'),
('compliance.purge', 'slow', '3600', '120', 'compliance.purge_velocity', 'true', 'Removes counters that no window reaches any more'),
('compliance.screen', 'fast', '5', '60', 'compliance.poke_screening', 'true', 'Wakes compliance when a party waits for its first screening or for one against a new list'),
('compliance.lists', 'slow', '300', '60', 'compliance.watch_lists', 'true', 'Raises an alert when a sanctions list is a day old'),
('archive.poke', 'slow', '900', '60', 'fiscal.poke_archive', 'true', 'Wakes the archive when a day is over'),
('fiscal.integrity', 'fast', '60', '60', 'fiscal.poke_integrity', 'true', 'Wakes the verifier of chains when an outlet or a walk waits for it'),
('fiscal.anchor', 'slow', '300', '60', 'fiscal.anchor_day', 'true', 'Anchors the heads of all chains once the UTC day has begun'),
('reports.close_days', 'fast', '3', '60', 'fiscal.close_due_days', 'true', 'Closes the business days of outlets that are over: their Z reports'),
('ledger.check_balances', 'slow', '60', '60', 'ledger.check_balances', 'true', 'Compares balances that moved with their entries'),
('ledger.check_trial_balances', 'slow', '300', '60', 'ledger.check_trial_balances', 'true', 'Compares debits with credits in each tenant''s books'),
('ledger.check_chains', 'slow', '300', '60', 'ledger.check_chains', 'true', 'Verifies the chains of journals'),
('ledger.release_reserves', 'slow', '600', '60', 'ledger.release_reserves', 'true', 'Gives held-back shares to merchants when their time is over'),
('ledger.expire_holds', 'slow', '600', '60', 'ledger.expire_holds', 'true', 'Releases authorisations that were never captured'),
('messages.receipts', 'fast', '5', '60', 'messages.poke_receipts', 'true', 'Wakes receipts when mail to payers is due'),
('messages.purge', 'slow', '3600', '120', 'messages.purge', 'true', 'Removes messages that are done with and old'),
('messages.alerts', 'fast', '5', '60', 'messages.poke_alerts', 'true', 'Wakes alerts when somebody must be told'),
('messages.watch', 'fast', '60', '60', 'messages.watch', 'true', 'Looks for stuck transfers and service levels that are missed'),
('idempotency.purge', 'fast', '30', '60', 'public.purge_idempotency_keys', 'true', 'Removes idempotency keys after 36 hours'),
('rate_buckets.purge', 'slow', '600', '60', 'public.purge_rate_buckets', 'true', 'Removes token buckets that are full again'),
('intents.expire', 'fast', '15', '60', 'payments.expire_intents', 'true', 'Expires unpaid intents whose time is over'),
('rails.reconcile', 'fast', '5', '60', 'rails.poke_reconcile', 'true', 'Wakes the reconciler when a silent transfer is due to be asked about'),
('callbacks.retry', 'fast', '60', '120', 'rails.retry_failed_callbacks', 'true', 'Concludes again from callbacks whose conclusion failed'),
('streams.purge', 'slow', '600', '60', 'payments.purge_streams', 'true', 'Removes spent stream tokens and closed streams'),
('credentials.reseal', 'slow', '3600', '60', 'rails.poke_reseal', 'true', 'Wakes merchants to seal credentials again that are under an older master key'),
('transfers.sweep', 'fast', '15', '60', 'payments.sweep_initiated', 'true', 'Fails transfers that were left behind before they were sent'),
('outbox.poke', 'fast', '3', '60', 'payments.poke_consumers', 'true', 'Wakes every consumer of events that has work which is due'),
('outbox.add_partitions', 'slow', '600', '60', 'payments.add_outbox_partitions', 'true', 'Makes the outbox partitions of the days ahead'),
('outbox.drop_partition', 'slow', '600', '60', 'payments.drop_outbox_partition', 'true', 'Drops the oldest outbox partition when it is over 7 days old and everybody is past it'),
('outbox.watch', 'fast', '30', '60', 'payments.watch_outbox', 'true', 'Alerts about destinations that are behind'),
('recon.daily', 'slow', '300', '600', 'recon.daily', 'true', 'Opens each tenant''s reconciliation session of the day and closes days whose time is over'),
('recon.clear', 'fast', '15', '60', 'recon.clear_settlements', 'true', 'Books what statements prove: the rail''s settlement account against cash'),
('signing.poke', 'fast', '5', '60', 'signing.poke_queue', 'true', 'Wakes the signer when a numbered document waits for its signature'),
('signing.rotate', 'slow', '3600', '60', 'signing.poke_rotation', 'true', 'Has keys replaced that signed for a year'),
('signing.watch', 'fast', '60', '60', 'signing.watch_queue', 'true', 'Alerts when signatures are missing for 15 minutes; parks them after 24 hours'),
('webhooks.poke', 'fast', '5', '60', 'webhooks.poke_delivery', 'true', 'Wakes the dispatcher when a webhook is due'),
('webhooks.purge', 'slow', '600', '120', 'webhooks.purge', 'true', 'Removes payloads and attempts and deliveries whose time is over'),
('webhooks.reseal', 'slow', '3600', '60', 'webhooks.poke_reseal', 'true', 'Wakes webhook_endpoints to seal secrets again that are under an older master key')
on conflict (task) do update set
    lane = excluded.lane,
    interval_s = excluded.interval_s,
    lease_s = excluded.lease_s,
    routine = excluded.routine,
    enabled = excluded.enabled,
    description = excluded.description;

reset role;
