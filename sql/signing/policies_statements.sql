-- Statements: what they say stays, and who may sign them.

set role stalela_owner;

create policy statements_select_own on signing.statements
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy delegated_credentials_select_own on signing.delegated_credentials
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy number_blocks_select_own on signing.number_blocks
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create function signing.forbid_restating()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if
        tg_op <> 'UPDATE' or old.signature is not null
        or to_jsonb(new) - '{key_id,signature,signed_at,next_attempt_at}'::text[]
        <> to_jsonb(old) - '{key_id,signature,signed_at,next_attempt_at}'::text[]
    then
        raise exception 'a statement never changes';
    end if;
    return new;
end
$$;
comment on function signing.forbid_restating is 'A statement gets its signature, and nothing else ever happens to it.';

create trigger statements_keep_their_words
before update or delete on signing.statements
for each row execute function signing.forbid_restating();

create trigger statements_stay
before truncate on signing.statements
for each statement execute function signing.forbid_restating();

grant execute on function signing.claim_statements, signing.attach_to_statement to fn_invoices;

reset role;
