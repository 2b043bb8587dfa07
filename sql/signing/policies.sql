set role stalela_owner;

create policy signing_log_select_own on signing.signing_log
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy signing_queue_select_own on signing.signing_queue
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

grant usage on schema signing to fn_invoices;
grant execute on function signing.register_key, signing.claim_signatures, signing.record_failure to fn_invoices;

grant usage on schema signing to postgres;
grant execute on function signing.poke_queue to postgres;

reset role;
