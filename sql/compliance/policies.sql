-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy profiles_select_own on compliance.profiles
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy tenant_velocity_select_own on compliance.tenant_velocity
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy party_velocity_select_own on compliance.party_velocity
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy releases_select_own on compliance.releases
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy freezes_select_own on compliance.freezes
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger transfers_give_back_their_limits
after update of state on payments.transfers
for each row
when ((new.state = 'FAILED') <> (old.state = 'FAILED'))
execute function compliance.note_outcome();

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema compliance to postgres;
grant execute on function compliance.fold_releases, compliance.purge_velocity to postgres;

reset role;
