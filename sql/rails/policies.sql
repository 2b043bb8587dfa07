-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy credentials_select_own on rails.credentials
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy callbacks_select_own on rails.callbacks
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy callback_dispositions_select_own on rails.callback_dispositions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy watches_select_own on rails.watches
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy deposit_addresses_select_own on rails.deposit_addresses
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy balances_select_own on rails.balances
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger callbacks_append_only
before update or delete or truncate on rails.callbacks
for each statement execute function public.forbid_change();

create trigger callback_dispositions_append_only
before update or delete or truncate on rails.callback_dispositions
for each statement execute function public.forbid_change();

grant execute on function
rails.receive_callback, rails.receive_deposit, rails.check_deposit, rails.receive_balance
to fn_momo_callback;
grant execute on function rails.request_balance, rails.get_balance to fn_payouts;
grant execute on function rails.open_deposits, rails.record_deposits_registered to fn_transfers;
grant execute on function
rails.claim_queries, rails.list_parked_callbacks, rails.accept_deposit, rails.list_reviews, rails.resolve_review
to fn_reconcile;
grant execute on function
rails.put_credentials, rails.list_credentials, rails.open_credentials, rails.record_credentials_test,
rails.delete_credentials, rails.claim_reseal, rails.record_reseal
to fn_merchants;

grant usage on schema rails to postgres;
grant execute on function rails.poke_reconcile, rails.poke_reseal, rails.retry_failed_callbacks to postgres;

reset role;
