set role stalela_owner;

create policy signing_log_select_own on signing.signing_log
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(fiscal_number))
);

create policy signing_queue_select_own on signing.signing_queue
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(fiscal_number))
);

create policy chain_keys_select_own on signing.chain_keys
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy key_rotations_select_own on signing.key_rotations
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

grant usage on schema signing to fn_invoices;
grant execute on function
signing.register_key, signing.keys_to_rotate, signing.plan_rotation, signing.rotate_key, signing.revoke_key,
signing.claim_signatures, signing.record_failure, signing.requeue
to fn_invoices;

grant usage on schema signing to fn_verify;
grant execute on function signing.published_keys to fn_verify;

grant usage on schema signing to postgres;
grant execute on function signing.poke_queue, signing.watch_queue, signing.poke_rotation to postgres;

reset role;
