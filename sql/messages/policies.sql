-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy messages_select_own on messages.messages
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and (subject_id not like 'inv\_%' or (select fiscal.own_cashier()) is null or fiscal.is_own(subject_id))
);

grant usage on schema public, messages to fn_receipts, fn_alerts, fn_relay;
grant execute on function
messages.take_receipts, messages.keep_receipts, messages.return_receipt, messages.prepare_receipt,
messages.send_receipt, messages.list_receipts, messages.claim_messages, messages.record_sending,
messages.record_mail_event, messages.open_link, messages.list_document_mails, messages.revoke_links
to fn_receipts;

grant execute on function
messages.take_alerts, messages.keep_alerts, messages.list_alerts, messages.resolve_alert, messages.resolve_callback,
messages.claim_messages, messages.record_sending
to fn_alerts;

grant execute on function messages.lease_relay, messages.acknowledge_relay, messages.return_relay to fn_relay;

-- Whoever raises an alert wakes who tells people of it.
create trigger alerts_poke
after insert on public.alerts
for each statement execute function messages.poke_on_alert();

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema messages to postgres;
grant execute on function messages.poke_receipts, messages.poke_alerts, messages.watch, messages.purge to postgres;

reset role;
