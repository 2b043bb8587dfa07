-- Statements come in, whole or not at all.

set role stalela_owner;

create function recon.import_statement(rail text, statement jsonb, lines jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write statements
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    imported recon.statements;
    written bigint;
    sums jsonb;
begin
    if not exists (select from recon.rail_rules as r where r.rail = import_statement.rail) then
        perform public.refuse_field('42262', '/rail', 'there are no reconciliation rules for this rail.');
    end if;
    insert into recon.statements as s (
        statement_id, tenant_id, environment, rail, format, file_name, sha256, account_ref, period_from, period_to,
        lines, totals, file_sealed, imported_by
    ) values (
        public.new_id('stm'), caller.tenant_id, caller.environment, import_statement.rail, statement ->> 'format',
        statement ->> 'file_name', statement ->> 'sha256', statement ->> 'account_ref',
        (statement ->> 'period_from')::date, (statement ->> 'period_to')::date, (statement ->> 'lines')::integer,
        statement -> 'totals', statement ->> 'file_sealed', caller.actor
    )
    on conflict (tenant_id, environment, rail, sha256) do nothing
    returning s.* into imported;
    if not found then
        select s.* into strict imported
        from recon.statements as s
        where
            s.tenant_id = caller.tenant_id and s.environment = caller.environment
            and s.rail = import_statement.rail and s.sha256 = import_statement.statement ->> 'sha256';
        return public.reply(caller, 200, recon.statement_resource(imported, true));
    end if;

    insert into recon.statement_lines (
        statement_no, line_no, line_hash, tenant_id, environment, rail, type, direction, amount_minor, fee_minor,
        currency, value_date, occurred_at, external_ref, our_ref, linked_ref, batch_ref, acq_ref, auth_code, party_hash
    )
    select
        imported.statement_no, x.line_no, decode(x.line_hash, 'hex'), caller.tenant_id, caller.environment,
        import_statement.rail, x.type, x.direction, x.amount_minor, x.fee_minor, x.currency, x.value_date, x.occurred_at,
        x.external_ref, x.our_ref, x.linked_ref, x.batch_ref, x.acq_ref, x.auth_code, x.party_hash
    from jsonb_to_recordset(import_statement.lines) as x (
        line_no integer, line_hash text, type text, direction text, amount_minor bigint, fee_minor bigint,
        currency text, value_date date, occurred_at timestamptz, external_ref text, our_ref text, linked_ref text,
        batch_ref text, acq_ref text, auth_code text, party_hash text
    );
    get diagnostics written = row_count;
    -- What was read and what was written are the same money.
    select coalesce(jsonb_object_agg(t.currency, jsonb_build_object('in', t.in_minor, 'out', t.out_minor)), '{}') into sums
    from (
        select
            l.currency,
            coalesce(sum(l.amount_minor) filter (where l.direction = 'in'), 0) as in_minor,
            coalesce(sum(l.amount_minor) filter (where l.direction = 'out'), 0) as out_minor
        from recon.statement_lines as l
        where l.statement_no = imported.statement_no
        group by l.currency
    ) as t;
    if written <> imported.lines or sums <> imported.totals then
        raise exception 'statement %: % lines of % were written, or other sums', imported.statement_id, written, imported.lines;
    end if;
    perform public.audit(caller, 'statement.import', imported.statement_id, jsonb_build_object(
        'rail', imported.rail, 'sha256', imported.sha256, 'lines', imported.lines
    ));
    return public.reply(caller, 201, recon.statement_resource(imported, false));
end
$$;
comment on function recon.import_statement is
'Stores a statement and its lines in one transaction; the same file again (sha256) changes nothing and answers 200. lines: what shared/recon reads from the file.';

create function recon.statement_resource(statement recon.statements, already_imported boolean)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', statement.statement_id,
        'object', 'statement',
        'rail', statement.rail,
        'format', statement.format,
        'file_name', statement.file_name,
        'sha256', statement.sha256,
        'account', statement.account_ref,
        'period_from', statement.period_from,
        'period_to', statement.period_to,
        'lines', statement.lines,
        'already_imported', already_imported,
        'environment', statement.environment,
        'imported_at', statement.imported_at,
        'matched_at', statement.matched_at
    );
end
$$;
comment on function recon.statement_resource is 'The wire shape of a statement.';

create function recon.match_statement(statement_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write matches
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    statement recon.statements;
    counts jsonb;
begin
    -- The upload was counted already; this is its second half.
    if not public.holds_scope(caller.scopes, 'recon:write') then
        perform public.refuse('40311', 'This needs the scope recon:write.');
    end if;
    select s.* into statement
    from recon.statements as s
    where
        s.statement_id = match_statement.statement_id and s.tenant_id = caller.tenant_id
        and s.environment = caller.environment;
    if not found then
        perform public.refuse('40401', format('There is no statement %s here.', match_statement.statement_id));
    elsif statement.matched_at is null then
        counts := recon.match_lines(statement.tenant_id, statement.environment, statement.rail);
        statement.matched_at := now();
    end if;
    return public.reply(caller, 200, json_build_object(
        'counts', counts,
        'sessions', coalesce((
            select json_agg(recon.session_resource(s) order by s.business_date)
            from recon.recon_sessions as s
            where
                s.tenant_id = caller.tenant_id and s.environment = caller.environment and s.rail = statement.rail
                and s.business_date between statement.period_from and statement.period_to
        ), '[]')
    ));
end
$$;
comment on function recon.match_statement is 'Runs the rules over what waits on this statement''s rail, once; the sessions of its days.';

create function recon.reject_statement(
    rail text, format text, file_name text, sha256 text, kind text, line_no integer, reason text
)
returns text
language plpgsql
volatile
security definer -- callers may not write exceptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'write');
    opened text;
begin
    if not exists (select from recon.rail_rules as r where r.rail = reject_statement.rail) then
        perform public.refuse_field('42262', '/rail', 'there are no reconciliation rules for this rail.');
    end if;
    select e.exception_id into opened
    from recon.exceptions as e
    where
        e.tenant_id = caller.tenant_id and e.environment = caller.environment and e.rail = reject_statement.rail
        and e.line_id is null and e.transfer_id is null and e.status = 'open'
        and e.details ->> 'sha256' = reject_statement.sha256;
    if found then
        return opened;
    end if;
    insert into recon.exceptions (exception_id, tenant_id, environment, rail, kind, details)
    values (
        public.new_id('exc'), caller.tenant_id, caller.environment, reject_statement.rail, reject_statement.kind,
        jsonb_strip_nulls(jsonb_build_object(
            'format', reject_statement.format, 'file_name', reject_statement.file_name,
            'sha256', reject_statement.sha256, 'line', reject_statement.line_no, 'reason', reject_statement.reason
        ))
    )
    returning exception_id into opened;
    perform public.raise_alert(
        'recon_file_rejected', 'warning', opened, caller.tenant_id, caller.environment,
        jsonb_build_object('rail', reject_statement.rail, 'line', reject_statement.line_no, 'reason', reject_statement.reason)
    );
    return opened;
end
$$;
comment on function recon.reject_statement is
'Records that a whole file was refused, and why; the same file again finds the same open question. Nothing of the file is kept.';

create function recon.put_column_map(name text, columns jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write column maps
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:write', 'manage');
begin
    insert into recon.column_maps (tenant_id, environment, name, columns, created_by)
    values (caller.tenant_id, caller.environment, put_column_map.name, put_column_map.columns, caller.actor)
    on conflict on constraint column_maps_pkey do update
    set columns = excluded.columns, created_by = excluded.created_by, updated_at = now();
    perform public.audit(caller, 'column_map.put', put_column_map.name, put_column_map.columns);
    return public.reply(caller, 200, json_build_object(
        'name', put_column_map.name, 'object', 'column_map', 'columns', put_column_map.columns
    ));
end
$$;
comment on function recon.put_column_map is 'Stores or replaces how to read one kind of CSV statement of the caller.';

create function recon.get_column_map(name text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read column maps
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('recon:read', 'read');
    columns jsonb;
begin
    select c.columns into columns
    from recon.column_maps as c
    where c.tenant_id = caller.tenant_id and c.environment = caller.environment and c.name = get_column_map.name;
    if not found then
        perform public.refuse('40401', format('There is no column map %s here.', get_column_map.name));
    end if;
    return public.reply(caller, 200, json_build_object(
        'name', get_column_map.name, 'object', 'column_map', 'columns', columns
    ));
end
$$;
comment on function recon.get_column_map is 'One stored column map of the caller; 40401 when there is none of that name.';

reset role;
