-- Who may see and who may call. Nobody has a grant on a table: reads and writes are functions.

set role stalela_owner;

create policy accounts_select_own on ledger.accounts
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy chains_select_own on ledger.chains
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy journals_select_own on ledger.journals
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy holds_select_own on ledger.holds
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy reserves_select_own on ledger.reserves
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy periods_select_own on ledger.periods
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy manual_journals_select_own on ledger.manual_journals
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy chain_checks_select_own on ledger.chain_checks
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy tariffs_select_own on ledger.tariffs
for select to authenticated
using (tenant_id = (select public.tenant_id()));

create trigger journals_append_only
before update or delete or truncate on ledger.journals
for each statement execute function public.forbid_change();

create trigger journal_entries_append_only
before update or delete or truncate on ledger.journal_entries
for each statement execute function public.forbid_change();

create trigger journals_checked
after insert on ledger.journals
referencing new table as written
for each statement execute function ledger.check_journals();

create trigger journal_entries_checked
after insert on ledger.journal_entries
referencing new table as written
for each statement execute function ledger.check_entries();

grant execute on function
ledger.book, ledger.list_balances, ledger.list_accounts, ledger.list_journals, ledger.get_journal, ledger.prove,
ledger.statement, ledger.list_tariffs, ledger.create_manual_journal, ledger.list_manual_journals,
ledger.decide_manual_journal, ledger.list_periods, ledger.move_period
to fn_ledger;

grant usage on schema ledger to fn_ledger;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema ledger to postgres;
grant execute on function
ledger.check_balances, ledger.check_trial_balances, ledger.check_chains, ledger.release_reserves, ledger.expire_holds
to postgres;

reset role;
