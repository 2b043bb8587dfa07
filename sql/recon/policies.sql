-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy column_maps_select_own on recon.column_maps
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy recon_sessions_select_own on recon.recon_sessions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy session_figures_select_own on recon.session_figures
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy clearings_select_own on recon.clearings
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy statements_select_own on recon.statements
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy statement_lines_select_own on recon.statement_lines
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy runs_select_own on recon.runs
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy matches_select_own on recon.matches
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy marked_lines_select_own on recon.marked_lines
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy exceptions_select_own on recon.exceptions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy resolutions_select_own on recon.resolutions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger statement_lines_append_only
before update or delete or truncate on recon.statement_lines
for each statement execute function public.forbid_change();

create trigger runs_append_only
before update or delete or truncate on recon.runs
for each statement execute function public.forbid_change();

create trigger matches_append_only
before update or delete or truncate on recon.matches
for each statement execute function public.forbid_change();

create trigger marked_lines_append_only
before update or delete or truncate on recon.marked_lines
for each statement execute function public.forbid_change();

create trigger resolutions_append_only
before update or delete or truncate on recon.resolutions
for each statement execute function public.forbid_change();

grant usage on schema recon to fn_recon;
grant execute on function
recon.import_statement, recon.match_statement, recon.reject_statement, recon.put_column_map, recon.get_column_map,
recon.list_sessions, recon.get_session, recon.session_report,
recon.list_exceptions, recon.resolve_exception, recon.approve_exception
to fn_recon;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema recon to postgres;
grant execute on function recon.daily, recon.clear_settlements to postgres;

reset role;
