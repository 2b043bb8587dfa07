-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy endpoints_select_own on webhooks.endpoints
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy endpoint_health_select_own on webhooks.endpoint_health
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy messages_select_own on webhooks.messages
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy deliveries_select_own on webhooks.deliveries
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy queue_select_own on webhooks.queue
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy attempts_select_own on webhooks.attempts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

grant usage on schema public, webhooks to fn_webhook_endpoints, fn_webhook_delivery, fn_events;

grant execute on function
webhooks.create_endpoint, webhooks.list_endpoints, webhooks.get_endpoint, webhooks.update_endpoint,
webhooks.rotate_secret, webhooks.enable_endpoint, webhooks.disable_endpoint, webhooks.delete_endpoint,
webhooks.test_endpoint, webhooks.list_deliveries, webhooks.get_delivery, webhooks.replay_delivery,
webhooks.replay_range, webhooks.claim_reseal, webhooks.record_reseal
to fn_webhook_endpoints;

grant execute on function webhooks.fan_out, webhooks.claim, webhooks.record_attempts to fn_webhook_delivery;

grant execute on function webhooks.list_events, webhooks.get_event to fn_events;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema webhooks to postgres;
grant execute on function webhooks.poke_delivery, webhooks.purge, webhooks.poke_reseal to postgres;

reset role;
