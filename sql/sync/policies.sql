-- Who may see and who may call. A person limited to one outlet sees that outlet's rows alone.

set role stalela_owner;

create policy consents_select_own on sync.consents
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy authority_devices_select_own on sync.authority_devices
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy authority_sync_queue_select_own on sync.authority_sync_queue
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(invoice_id))
);

create policy authority_ack_log_select_own on sync.authority_ack_log
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and (select fiscal.own_cashier()) is null
);

create policy authority_elements_select_own on fiscal.authority_elements
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(invoice_id))
);

create policy fiscal_days_select_own on sync.fiscal_days
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy fiscal_receipts_select_own on sync.fiscal_receipts
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(invoice_id))
);

grant usage on schema sync to fn_authority_sync;
grant execute on function
sync.claim, sync.note_progress, sync.record_attempt, sync.begin_registration, sync.check_registration, sync.put_device, sync.list_devices,
sync.retire_device, sync.set_consent, sync.claim_checks, sync.record_check, sync.claim_reseal, sync.record_reseal,
sync.get_status, sync.list_open, sync.decide, sync.retry_failed, sync.set_switch, sync.list_days, sync.end_day
to fn_authority_sync;

reset role;
