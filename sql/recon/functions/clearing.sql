-- What statements prove reaches the ledger.

set role stalela_owner;

create function recon.clear_settlements()
returns integer
language plpgsql
volatile
security definer -- cron may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    due recon.clearings;
    booked text;
    problem text;
    done integer := 0;
begin
    for due in
        select c.*
        from recon.clearings as c
        where
            c.journal_id is null
            -- What failed waits longer each time, up to an hour, and holds nobody up.
            and (c.attempts = 0 or c.created_at < now() - make_interval(secs => least(3600, 15 * 2 ^ c.attempts)))
        order by c.created_at
        limit 200
        for update skip locked
    loop
        problem := null;
        begin
            booked := ledger.book_fact(
                due.tenant_id, due.environment, 'settlement.cleared',
                concat_ws(':', due.session_id, due.currency, due.direction, due.number), due.direction, due.rail,
                due.currency, due.amount_minor, due.fee_minor, due.occurred_at, null, 'statement ' || due.session_id
            );
        exception when others then
            problem := sqlstate || ' ' || sqlerrm;
        end;
        update recon.clearings as c
        set
            journal_id = case when problem is null then booked end, attempts = c.attempts + 1,
            last_error = coalesce(problem, c.last_error)
        where
            c.session_id = due.session_id and c.currency = due.currency and c.direction = due.direction
            and c.number = due.number;
        if problem is null then
            done := done + 1;
            perform public.resolve_alert('recon_clearing_failed', due.session_id, 'booked');
        else
            perform public.raise_alert(
                'recon_clearing_failed', 'warning', due.session_id, due.tenant_id, due.environment,
                jsonb_build_object('error', problem)
            );
        end if;
    end loop;
    return done;
end
$$;
comment on function recon.clear_settlements is
'Books up to 200 noted clearings: SETTLEMENT of the rail against LIQUIDITY, what the rail kept as processing costs. One that fails raises an alert and is tried again. A cron task.';

create function recon.book_write_off(exception recon.exceptions)
returns void
language plpgsql
volatile
security definer -- callers may not write the books
set search_path = ''
as $$
#variable_conflict use_column
declare
    settlement constant text := 'SETTLEMENT:' || (exception).rail;
    liquidity constant text := 'LIQUIDITY:' || (exception).currency;
    line recon.statement_lines;
    ours recon.our_side;
    debit text;
    credit text;
begin
    select l.* into line from recon.statement_lines as l where l.line_id = exception.line_id;
    select o.* into ours from recon.our_side as o where o.transfer_id = exception.transfer_id;
    if line.line_id is null then
        -- Ours alone: the rail never gives it, or never took it.
        debit := case ours.direction when 'in' then 'OPERATING' else settlement end;
        credit := case ours.direction when 'in' then settlement else 'OPERATING' end;
    else
        -- Theirs alone: money that somebody may still claim, or that is gone.
        debit := case line.direction when 'in' then liquidity else 'OPERATING' end;
        credit := case line.direction when 'in' then 'RETURNS_PAYABLE' else liquidity end;
    end if;
    perform ledger.post_lines(
        exception.tenant_id, exception.environment, 'journal.adjusted', exception.exception_id,
        now(), 'written off: ' || exception.kind || ' ' || exception.exception_id,
        jsonb_build_array(
            jsonb_build_object(
                'account', debit, 'side', 'debit', 'amount_minor', exception.amount_minor, 'currency', exception.currency
            ),
            jsonb_build_object(
                'account', credit, 'side', 'credit', 'amount_minor', exception.amount_minor, 'currency', exception.currency
            )
        ),
        null
    );
end
$$;
comment on function recon.book_write_off is
'Books what two people wrote off: our side''s amount against operating expenses, a line nobody claims as owed, one that is gone as expense.';

reset role;
