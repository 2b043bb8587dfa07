-- The way back from 20261121091822_baseline.sql: everything it made goes, with all data.
-- Written by scripts/migrate baseline; do not edit.
select cron.unschedule('stalela-fast');
select cron.unschedule('stalela-slow');

-- Who drops what a role owns must be its member.
grant fn_alerts, fn_archive, fn_authority_sync, fn_compliance, fn_deliveries, fn_directory, fn_events, fn_integrity, fn_invoices, fn_ledger, fn_merchants, fn_momo_callback, fn_offline, fn_payment_intents, fn_payouts, fn_receipts, fn_recon, fn_reconcile, fn_refunds, fn_relay, fn_reports, fn_transfers, fn_verify, fn_webhook_delivery, fn_webhook_endpoints, stalela_owner to current_user;
drop owned by fn_alerts, fn_archive, fn_authority_sync, fn_compliance, fn_deliveries, fn_directory, fn_events, fn_integrity, fn_invoices, fn_ledger, fn_merchants, fn_momo_callback, fn_offline, fn_payment_intents, fn_payouts, fn_receipts, fn_recon, fn_reconcile, fn_refunds, fn_relay, fn_reports, fn_transfers, fn_verify, fn_webhook_delivery, fn_webhook_endpoints, stalela_owner cascade;
drop role fn_alerts, fn_archive, fn_authority_sync, fn_compliance, fn_deliveries, fn_directory, fn_events, fn_integrity, fn_invoices, fn_ledger, fn_merchants, fn_momo_callback, fn_offline, fn_payment_intents, fn_payouts, fn_receipts, fn_recon, fn_reconcile, fn_refunds, fn_relay, fn_reports, fn_transfers, fn_verify, fn_webhook_delivery, fn_webhook_endpoints, stalela_owner;
alter default privileges for role postgres grant execute on functions to public;
