-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy tenants_select_own on public.tenants
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy users_select_self on public.users
for select to authenticated
using (user_id = (select public.user_id())::uuid);

create policy memberships_select_own on public.memberships
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy invitations_select_own on public.invitations
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy rate_limit_overrides_select_own on public.rate_limit_overrides
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create policy api_keys_select_own on public.api_keys
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy idempotency_keys_select_own on public.idempotency_keys
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy alerts_select_own on public.alerts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy audit_log_select_own on public.audit_log
for select to authenticated
using (
    tenant_id = (select public.tenant_id())
    and (environment is null or environment = (select public.environment()))
);

grant execute on function
public.create_tenant, public.set_tenant_status, public.get_account, public.list_audit,
public.list_users, public.invite_user, public.accept_invitation, public.change_user_role, public.remove_user,
public.create_api_key, public.list_api_keys, public.rotate_api_key, public.revoke_api_key
to fn_merchants;

-- pg_cron runs as postgres, which may do nothing here but this.
grant execute on function public.claim_task, public.run_task, public.lane_deadline to postgres;

reset role;
