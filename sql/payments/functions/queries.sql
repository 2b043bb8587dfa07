-- A merchant or the reconciler asks the rail about a transfer; what it answers is recorded here.

set role stalela_owner;

create function payments.ask_rail(payment_intent_id text)
returns payments.asked
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    work jsonb;
begin
    seen := payments.visible_intent(ask_rail.payment_intent_id, 'payments:write', 'write', false);
    if not seen.reveal_secret then
        perform public.refuse('40311', 'A client secret confirms an intent; asking the rail needs the scope payments:write.');
    end if;
    work := rails.take_query((seen.intent).latest_transfer_id);
    return row(
        row(200, payments.intent_resource(seen.intent, seen.reveal_secret), (seen.caller).rate)::public.answer, work
    );
end
$$;
comment on function payments.ask_rail is
'What to ask the rail about this intent now; work is null when the outcome is known, the rail gave no reference, or it was asked less than 5 seconds ago.';

create function payments.record_query(transfer_id text, event jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
    caller public.caller;
begin
    -- The reconciler asks for everybody; anybody else asks for their own.
    if current_setting('role') <> 'fn_reconcile' then
        caller := public.caller();
        if not exists (
            select from payments.transfers as t
            where
                t.transfer_id = record_query.transfer_id
                and t.tenant_id = caller.tenant_id and t.environment = caller.environment
        ) then
            perform public.refuse('40401', format('There is no transfer %s here.', record_query.transfer_id));
        end if;
    end if;
    perform rails.apply_query(record_query.transfer_id, record_query.event);
    select t.* into transfer from payments.transfers as t where t.transfer_id = record_query.transfer_id;
    return row(200, payments.resource_of(transfer, false), '{}'::jsonb);
end
$$;
comment on function payments.record_query is 'Applies what the rail said when asked, plans the next question, returns what the transfer is for.';

reset role;
