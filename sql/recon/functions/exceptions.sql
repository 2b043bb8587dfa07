-- The queue of questions, and what people decide.

set role stalela_owner;

create function recon.exception_resource(exception recon.exceptions)
returns json
language plpgsql
stable
security definer -- callers may not read lines
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
begin
    select l.* into line from recon.statement_lines as l where l.line_id = exception.line_id;
    return json_build_object(
        'id', exception.exception_id,
        'object', 'recon_exception',
        'kind', exception.kind,
        'status', exception.status,
        'rail', exception.rail,
        'business_date', exception.business_date,
        'amount', public.format_amount(exception.amount_minor, exception.currency),
        'currency', exception.currency,
        'transfer_id', exception.transfer_id,
        'line', case when line.line_id is not null then json_build_object(
            'id', line.line_id, 'number', line.line_no, 'type', line.type, 'direction', line.direction,
            'receipt', line.external_ref, 'reference', line.our_ref, 'value_date', line.value_date,
            'occurred_at', line.occurred_at,
            'statement_id', (
                select s.statement_id from recon.statements as s where s.statement_no = line.statement_no
            )
        ) end,
        'details', exception.details - '{booked_minor}'::text[] || jsonb_strip_nulls(jsonb_build_object(
            'booked', public.format_amount((exception.details ->> 'booked_minor')::bigint, exception.currency)
        )),
        'proposal', exception.proposal,
        'resolution', exception.resolution,
        'decisions', coalesce((
            select json_agg(
                json_build_object(
                    'action', d.action, 'actor', d.actor, 'reason', d.reason, 'decided_at', d.decided_at
                ) order by d.number
            )
            from recon.resolutions as d
            where d.exception_id = (exception_resource.exception).exception_id
        ), '[]'),
        'environment', exception.environment,
        'opened_at', exception.opened_at,
        'resolved_at', exception.resolved_at
    );
end
$$;
comment on function recon.exception_resource is 'The wire shape of an exception with its line and what was decided so far.';

create function recon.list_exceptions(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    session recon.recon_sessions;
    page json;
    next_cursor text;
begin
    if filters ? 'session' then
        session := recon.visible_session(filters ->> 'session');
    end if;
    with found as (
        select e
        from recon.exceptions as e
        where
            e.tenant_id = caller.tenant_id and e.environment = caller.environment
            and (not filters ? 'status' or e.status = filters ->> 'status')
            and (not filters ? 'kind' or e.kind = filters ->> 'kind')
            and (not filters ? 'rail' or e.rail = filters ->> 'rail')
            and (not filters ? 'session' or (e.rail = session.rail and e.business_date = session.business_date))
            and (list_exceptions.page_after is null or e.exception_id > list_exceptions.page_after)
        order by e.exception_id
        limit list_exceptions.page_size + 1
    ), numbered as (
        select f.e, (f.e).exception_id, row_number() over (order by (f.e).exception_id) as n from found as f
    )
    select
        coalesce(json_agg(recon.exception_resource(n.e) order by n.n) filter (where n.n <= list_exceptions.page_size), '[]'),
        case when count(*) > list_exceptions.page_size then (
            array_agg(n.exception_id order by n.n)
        )[list_exceptions.page_size] end
    into page, next_cursor
    from numbered as n;
    return public.reply(caller, 200, json_build_object(
        'data', page,
        'pagination', json_build_object(
            'limit', list_exceptions.page_size, 'has_more', next_cursor is not null, 'next_cursor', next_cursor
        )
    ));
end
$$;
comment on function recon.list_exceptions is
'One page of the caller''s exceptions, oldest first. filters: status, kind, rail, session. page_after: the last id of the page before.';

create function recon.locked_exception(caller public.caller, exception_id text)
returns recon.exceptions
language plpgsql
volatile
security definer -- callers may not read exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    exception recon.exceptions;
begin
    -- After the lock of the runs, so that no run answers the question meanwhile.
    select e.* into exception
    from recon.exceptions as e
    where
        e.exception_id = locked_exception.exception_id
        and e.tenant_id = (locked_exception.caller).tenant_id and e.environment = (locked_exception.caller).environment;
    if not found then
        perform public.refuse('40401', format('There is no exception %s here.', locked_exception.exception_id));
    end if;
    perform recon.lock_rail(exception.tenant_id, exception.environment, exception.rail);
    select e.* into strict exception
    from recon.exceptions as e
    where e.exception_id = locked_exception.exception_id
    for update;
    return exception;
end
$$;
comment on function recon.locked_exception is 'An exception of the caller''s own, locked against runs and other people; otherwise 40401.';

create function recon.decide(
    caller public.caller, exception recon.exceptions, action text, reason text, details jsonb
)
returns void
language plpgsql
volatile
security definer -- callers may not write resolutions
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into recon.resolutions (exception_id, number, tenant_id, environment, action, actor, reason, details)
    select
        (decide.exception).exception_id, coalesce(max(d.number), 0) + 1, (decide.exception).tenant_id,
        (decide.exception).environment, decide.action, (decide.caller).actor, decide.reason, decide.details
    from recon.resolutions as d
    where d.exception_id = (decide.exception).exception_id;
    perform public.audit(
        decide.caller, 'recon.' || decide.action, (decide.exception).exception_id,
        decide.details || jsonb_build_object('kind', (decide.exception).kind, 'reason', decide.reason)
    );
end
$$;
comment on function recon.decide is 'Notes one decision of a person about an exception, numbered, and audits it.';

create function recon.resolve_exception(
    exception_id text, idempotency_key text, body_hash text, action text, transfer_id text, reference text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    route constant text := 'POST /recon/exceptions/{id}/resolve';
    answer public.answer;
    exception recon.exceptions;
    details jsonb := jsonb_strip_nulls(jsonb_build_object(
        'transfer_id', resolve_exception.transfer_id, 'reference', resolve_exception.reference
    ));
begin
    answer := public.claim_idempotency(
        caller, route, resolve_exception.idempotency_key, resolve_exception.body_hash || ':' || resolve_exception.exception_id
    );
    if answer.body is not null then
        return answer;
    end if;
    exception := recon.locked_exception(caller, resolve_exception.exception_id);
    if exception.status <> 'open' then
        perform public.refuse('40911', format('This exception is %s.', exception.status), jsonb_build_object(
            'current_state', exception.status, 'allowed', case exception.status
                when 'pending_approval' then '["approve"]'::jsonb else '[]'::jsonb
            end
        ));
    elsif not resolve_exception.action = any(recon.actions_for(exception)) then
        perform public.refuse_field('42262', '/action', format(
            'A %s is resolved by one of: %s.', exception.kind, array_to_string(recon.actions_for(exception), ', ')
        ));
    end if;

    if resolve_exception.action in ('write_off', 'adjust') then
        -- Money that leaves the books takes two people: this one proposes, another approves.
        update recon.exceptions as e
        set
            status = 'pending_approval',
            proposal = details || jsonb_build_object('action', resolve_exception.action, 'by', caller.actor)
        where e.exception_id = resolve_exception.exception_id;
        perform recon.decide(
            caller, exception, 'propose', resolve_exception.reason,
            details || jsonb_build_object('action', resolve_exception.action)
        );
    elsif resolve_exception.action = 'ticket' then
        if resolve_exception.reference is null then
            perform public.refuse_field('42262', '/reference', 'a ticket needs the partner''s reference.');
        end if;
        -- Asked at the partner: the question stays open until an answer comes.
        update recon.exceptions as e
        set details = e.details || jsonb_build_object('ticket', resolve_exception.reference)
        where e.exception_id = resolve_exception.exception_id;
        perform recon.decide(caller, exception, 'ticket', resolve_exception.reason, details);
    else
        if resolve_exception.action = 'assign' then
            perform recon.assign_line(exception, coalesce(resolve_exception.transfer_id, exception.transfer_id));
        elsif resolve_exception.action = 'raise_return' then
            perform recon.return_by_person(exception, coalesce(resolve_exception.transfer_id, exception.transfer_id));
        end if;
        perform recon.close_exception(exception, resolve_exception.action);
        perform recon.decide(caller, exception, resolve_exception.action, resolve_exception.reason, details);
    end if;

    select e.* into strict exception from recon.exceptions as e where e.exception_id = resolve_exception.exception_id;
    answer := public.reply(caller, 200, recon.exception_resource(exception));
    perform public.remember_answer(
        caller, route, resolve_exception.idempotency_key, resolve_exception.exception_id, answer
    );
    return answer;
end
$$;
comment on function recon.resolve_exception is
'A person''s decision: assign the line to a transfer, raise a return, propose an adjustment or a write-off (another person approves), open a partner ticket (stays open), or acknowledge. 40911 when it is decided already.';

create function recon.actions_for(exception recon.exceptions)
returns text[]
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case
        when exception.kind in ('FILE_REJECTED', 'TOTALS_MISMATCH') then '{acknowledge,ticket}'::text[]
        when exception.kind = 'MISSING_LINE' then '{write_off,ticket}'::text[]
        when exception.kind in ('AMOUNT_MISMATCH', 'FEE_MISMATCH') then '{assign,raise_return,adjust,ticket}'::text[]
        else '{assign,raise_return,write_off,ticket}'::text[]
    end;
end
$$;
comment on function recon.actions_for is 'What may be decided about an exception of this kind.';

create function recon.approve_exception(
    exception_id text, idempotency_key text, body_hash text, approve boolean, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    route constant text := 'POST /recon/exceptions/{id}/approve';
    answer public.answer;
    exception recon.exceptions;
begin
    answer := public.claim_idempotency(
        caller, route, approve_exception.idempotency_key, approve_exception.body_hash || ':' || approve_exception.exception_id
    );
    if answer.body is not null then
        return answer;
    end if;
    exception := recon.locked_exception(caller, approve_exception.exception_id);
    if exception.status <> 'pending_approval' then
        perform public.refuse('40911', 'Nothing of this exception waits for approval.', jsonb_build_object(
            'current_state', exception.status, 'allowed', '[]'::jsonb
        ));
    elsif exception.proposal ->> 'by' = caller.actor then
        perform public.refuse('40312', 'Somebody else has to approve what you proposed.');
    end if;

    if approve_exception.approve then
        if exception.proposal ->> 'action' = 'adjust' then
            perform recon.assign_line(exception, exception.transfer_id);
        else
            perform recon.book_write_off(exception);
        end if;
        perform recon.close_exception(exception, exception.proposal ->> 'action');
    else
        update recon.exceptions as e
        set status = 'open', proposal = null
        where e.exception_id = approve_exception.exception_id;
    end if;
    perform recon.decide(
        caller, exception, case when approve_exception.approve then 'approve' else 'reject' end,
        approve_exception.reason, exception.proposal
    );

    select e.* into strict exception from recon.exceptions as e where e.exception_id = approve_exception.exception_id;
    answer := public.reply(caller, 200, recon.exception_resource(exception));
    perform public.remember_answer(
        caller, route, approve_exception.idempotency_key, approve_exception.exception_id, answer
    );
    return answer;
end
$$;
comment on function recon.approve_exception is
'The second of two people: approves or rejects what another one proposed. 40312 for the proposer.';

create function recon.close_exception(exception recon.exceptions, resolution text)
returns void
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    run recon.run;
begin
    update recon.exceptions as e
    set status = 'resolved', resolution = close_exception.resolution, resolved_at = now(), proposal = null
    where e.exception_id = (close_exception.exception).exception_id;
    perform public.resolve_alert('recon_file_rejected', exception.exception_id, close_exception.resolution);
    if exception.business_date is not null then
        run := recon.run_of(exception.tenant_id, exception.environment, exception.rail);
        perform recon.count_sessions(run, array[exception.business_date]);
        perform recon.alert_about_days(run, array[exception.business_date]);
    end if;
end
$$;
comment on function recon.close_exception is 'Ends a question as a person decided, and counts its day anew.';

create function recon.assign_line(exception recon.exceptions, transfer_id text)
returns void
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
    transfer payments.transfers;
    ours recon.our_side;
begin
    -- Watch, intent, original, transfer: the order of rails.apply_event.
    perform from rails.watches as w where w.transfer_id = assign_line.transfer_id for update;
    perform from payments.payment_intents as i
    where i.payment_intent_id = (
        select t.payment_intent_id from payments.transfers as t where t.transfer_id = assign_line.transfer_id
    )
    for no key update;
    perform from payments.transfers as o
    where o.transfer_id = (
        select t.related_transfer_id from payments.transfers as t where t.transfer_id = assign_line.transfer_id
    )
    for no key update;
    select t.* into transfer
    from payments.transfers as t
    where
        t.transfer_id = assign_line.transfer_id
        and t.tenant_id = (assign_line.exception).tenant_id and t.environment = (assign_line.exception).environment
        and t.rail = (assign_line.exception).rail
    for no key update;
    if not found then
        perform public.refuse_field('42262', '/transfer_id', 'there is no such transfer on this rail.');
    end if;
    select l.* into strict line from recon.statement_lines as l where l.line_id = exception.line_id;
    select o.* into ours from recon.our_side as o where o.transfer_id = assign_line.transfer_id;
    if ours.transfer_id is null or ours.direction <> line.direction or ours.currency <> line.currency then
        perform public.refuse_field('42262', '/transfer_id', 'the transfer and the line move money in different ways.');
    elsif exception.status = 'open' and ours.amount_minor <> line.amount_minor + line.fee_minor then
        perform public.refuse_field('42262', '/transfer_id', 'the amounts differ: adjust takes the difference, with a second person.');
    elsif exists (
        select from recon.matches as m where m.transfer_id = assign_line.transfer_id and m.leg = 'settle'
    ) then
        perform public.refuse('40914', 'This transfer has its line already.');
    end if;
    if not ours.is_settled then
        -- Late success, seen in the statement and decided by a person.
        perform rails.apply_decision(transfer, 'settled', line.external_ref, line.amount_minor + line.fee_minor);
        perform public.resolve_alert('transfer_needs_review', transfer.transfer_id, 'settled');
    end if;
    insert into recon.matches (line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment)
    values (
        line.line_id, transfer.transfer_id, 'settle', 'person', line.amount_minor,
        ours.amount_minor - line.amount_minor, line.tenant_id, line.environment
    );
end
$$;
comment on function recon.assign_line is
'The line is this transfer: matched by a person, settled late if it was not. Another amount only through an approved adjustment, whose difference stands as the fee of the match.';

create function recon.return_by_person(exception recon.exceptions, transfer_id text)
returns void
language plpgsql
volatile
security definer -- callers may not move transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    line recon.statement_lines;
    ours recon.our_side;
begin
    select l.* into strict line from recon.statement_lines as l where l.line_id = exception.line_id;
    select o.* into ours
    from recon.our_side as o
    where
        o.transfer_id = return_by_person.transfer_id and o.tenant_id = (return_by_person.exception).tenant_id
        and o.environment = (return_by_person.exception).environment and o.rail = (return_by_person.exception).rail;
    if not found then
        perform public.refuse_field('42262', '/transfer_id', 'there is no such transfer on this rail.');
    elsif
        ours.direction = line.direction or ours.currency <> line.currency
        or ours.amount_minor <> line.amount_minor + line.fee_minor
    then
        perform public.refuse_field('42262', '/transfer_id', 'the line does not give this transfer back in full.');
    elsif exists (
        select from recon.matches as m where m.transfer_id = return_by_person.transfer_id and m.leg = 'return'
    ) then
        perform public.refuse('40914', 'This transfer''s return has its line already.');
    end if;
    if ours.state <> 'RETURNED' and not recon.report_return(return_by_person.transfer_id) then
        perform public.refuse('40911', 'This transfer cannot be returned.', jsonb_build_object('current_state', ours.state));
    end if;
    insert into recon.matches (line_id, transfer_id, leg, rule, amount_minor, fee_minor, tenant_id, environment)
    values (
        line.line_id, ours.transfer_id, 'return', 'person', line.amount_minor, line.fee_minor, line.tenant_id,
        line.environment
    );
end
$$;
comment on function recon.return_by_person is 'The line gives this transfer back in full: it is reported as returned, once.';

reset role;
