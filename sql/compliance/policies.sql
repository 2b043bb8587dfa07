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

create policy parties_select_own on compliance.parties
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy party_keys_select_own on compliance.party_keys
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy screening_results_select_own on compliance.screening_results
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy transfer_clearances_select_own on compliance.transfer_clearances
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy exemptions_select_own on compliance.exemptions
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create trigger transfers_give_back_their_limits
after update of state on payments.transfers
for each row
-- Refunds and deposits were not counted: the one gives back, the other nobody asked for.
when ((new.state = 'FAILED') <> (old.state = 'FAILED') and new.purpose in ('collection', 'payout', 'direct'))
execute function compliance.note_outcome();

create trigger payment_intents_have_their_customer_screened
after insert on payments.payment_intents
for each row
when (new.customer ->> 'name' is not null)
execute function compliance.note_customer();

grant usage on schema public, compliance to fn_compliance;
grant execute on function
compliance.show_lists, compliance.import_list, compliance.index_state, compliance.read_index,
compliance.put_party, compliance.get_party, compliance.exempt_party, compliance.record_party,
compliance.screening_context, compliance.record_screenings, compliance.list_screenings,
compliance.claim_parties, compliance.refresh_clear,
compliance.get_limits, compliance.set_profile, compliance.freeze_party, compliance.list_freezes,
compliance.lift_freeze
to fn_compliance;

grant usage on schema compliance to fn_payouts, fn_transfers;
grant execute on function compliance.name_party to fn_payouts, fn_transfers;

-- Cron runs as postgres, which may do nothing here but this.
grant usage on schema compliance to postgres;
grant execute on function compliance.fold_releases, compliance.purge_velocity, compliance.poke_screening,
compliance.watch_lists to postgres;

reset role;
