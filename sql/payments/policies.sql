-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy payment_intents_select_own on payments.payment_intents
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy transfers_select_own on payments.transfers
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy attempts_select_own on payments.attempts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy intent_events_select_own on payments.intent_events
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy transfer_events_select_own on payments.transfer_events
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outbox_select_own on payments.outbox
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outbox_exceptions_select_own on payments.outbox_exceptions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outbox_rest_select_own on payments.outbox_rest
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy stream_tokens_select_own on payments.stream_tokens
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy streams_select_own on payments.streams
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger intent_events_append_only
before update or delete or truncate on payments.intent_events
for each statement execute function public.forbid_change();

create trigger transfer_events_append_only
before update or delete or truncate on payments.transfer_events
for each statement execute function public.forbid_change();

create trigger outbox_append_only
before update or delete or truncate on payments.outbox
for each statement execute function public.forbid_change();

grant execute on function
payments.create_intent, payments.get_intent, payments.list_intents, payments.update_intent, payments.cancel_intent,
payments.list_intent_events, payments.begin_transfer, payments.record_submission, payments.release_submission,
payments.ask_rail, payments.record_query, payments.issue_stream_token, payments.open_stream, payments.read_streams
to fn_payment_intents;

grant execute on function payments.record_query to fn_reconcile;

grant execute on function
payments.begin_refund, payments.get_refund, payments.list_transfers, payments.decide_approval,
payments.record_submission, payments.release_submission
to fn_refunds;

grant execute on function
payments.begin_payout, payments.get_payout, payments.list_transfers, payments.decide_approval,
payments.record_submission, payments.release_submission
to fn_payouts;

grant execute on function
payments.begin_direct, payments.get_transfer, payments.list_transfers, payments.list_transfer_events,
payments.decide_approval, payments.assign_deposit, payments.record_submission, payments.release_submission
to fn_transfers;

grant execute on function
payments.list_deliveries, payments.list_destinations, payments.get_delivery, payments.redrive_delivery,
payments.skip_delivery
to fn_deliveries;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema payments to postgres;
grant execute on function payments.expire_intents, payments.purge_streams, payments.sweep_initiated to postgres;

reset role;
