-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy route_explanations_select_own on directory.route_explanations
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

grant usage on schema public, directory to fn_directory;
grant execute on function
directory.open_lookup, directory.look_up, directory.get_institution, directory.get_calendar, directory.publish,
directory.get_route, directory.rank_routes
to fn_directory;

reset role;
