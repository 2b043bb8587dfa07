-- Who may verify, and who may see what was found.

set role stalela_owner;

create policy chain_walks_select_own on fiscal.chain_walks
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy conflicts_select_own on fiscal.conflicts
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and (
        (select fiscal.own_cashier()) is null
        or (outlet_id = (select fiscal.own_outlet()) and document::jsonb ->> 'cashier_id' = (select fiscal.own_cashier()))
    )
);

create policy local_seals_select_own on fiscal.local_seals
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(invoice_id))
);

create function fiscal.forbid_second_verdict()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_op <> 'UPDATE' or old.status <> 'running' then
        raise exception 'a finished walk never changes';
    end if;
    return new;
end
$$;
comment on function fiscal.forbid_second_verdict is 'A walk moves while it runs; its verdict is final.';

create trigger chain_walks_keep_their_verdict
before update or delete on fiscal.chain_walks
for each row execute function fiscal.forbid_second_verdict();

create trigger chain_walks_stay
before truncate on fiscal.chain_walks
for each statement execute function fiscal.forbid_second_verdict();

grant usage on schema fiscal to fn_integrity, postgres;
grant execute on function
fiscal.start_walk, fiscal.get_walk, fiscal.list_walks, fiscal.due_walk, fiscal.walk_part, fiscal.walk_on,
fiscal.list_anchors, fiscal.inclusion_proof, fiscal.list_conflicts
to fn_integrity;
grant usage on schema fiscal to fn_offline;
grant execute on function
fiscal.provision_block, fiscal.get_block, fiscal.revoke_block, fiscal.list_revocations, fiscal.void_numbers,
fiscal.local_signer, fiscal.note_forgery, fiscal.reconcile
to fn_offline;
grant execute on function fiscal.poke_integrity, fiscal.anchor_day to postgres;

reset role;
