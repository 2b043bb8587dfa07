-- Direct transfers: the canonical form without an intent around it; reading transfers of every purpose.

set role stalela_owner;

create function payments.begin_direct(
    idempotency_key text, body_hash text, intent text, rail text, amount_minor bigint, currency text,
    payer_sealed text, payer_masked text, payer_hash text, payee_sealed text, payee_masked text, payee_hash text,
    description text, external_ref text, end_user_ref text, metadata jsonb,
    hints text[] default '{}', alias_type text default null, alias text default null, policy jsonb default null
)
returns payments.begun
language plpgsql
volatile
security definer -- callers may not write transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize(
        case when intent = 'PUSH' then 'payouts:write' else 'payments:write' end, 'write'
    );
    route constant text := 'POST /transfers';
    answer public.answer;
    chosen directory.choice;
    on_rail text := begin_direct.rail;
    rules rails.rails;
    transfer payments.transfers;
begin
    answer := public.claim_idempotency(caller, route, begin_direct.idempotency_key, begin_direct.body_hash);
    if answer.body is not null then
        return row(payments.stored_answer(caller, answer), null::jsonb);
    end if;
    if on_rail is null then
        chosen := directory.choose(
            caller.tenant_id, caller.environment, begin_direct.intent, begin_direct.amount_minor, begin_direct.currency,
            begin_direct.hints, begin_direct.alias_type, begin_direct.alias, begin_direct.policy
        );
        on_rail := chosen.rail;
    end if;
    select r.* into rules from rails.rails as r where r.rail = on_rail and r.enabled;
    if not found then
        perform public.refuse_field('42261', '/rail_hints', format('%s is not a rail here.', on_rail));
    elsif not begin_direct.intent = any(rules.intents) then
        perform public.refuse_field('42261', '/intent', format(
            '%s has no %s: it takes %s.', rules.name, begin_direct.intent, array_to_string(rules.intents, ', ')
        ));
    end if;
    if begin_direct.intent = 'PUSH' then
        perform rails.check_payout(on_rail, begin_direct.amount_minor, begin_direct.currency);
        perform payments.check_daily_payouts(caller, begin_direct.amount_minor, begin_direct.currency);
    else
        perform rails.check_amount(on_rail, begin_direct.amount_minor, begin_direct.currency);
    end if;
    perform rails.check_credentials(caller.tenant_id, caller.environment, on_rail);

    insert into payments.transfers (
        transfer_id, tenant_id, environment, intent, rail, state, amount_minor, currency, purpose, operation,
        payer_sealed, payer_masked, payer_hash, payee_sealed, payee_masked, payee_hash,
        description, external_ref, end_user_ref, metadata, body_hash, created_by, approval
    ) values (
        public.new_id('tr'), caller.tenant_id, caller.environment, begin_direct.intent, on_rail, 'INITIATED',
        begin_direct.amount_minor, begin_direct.currency, 'direct',
        case when begin_direct.intent = 'PUSH' then 'pay_out' else 'collect' end,
        begin_direct.payer_sealed, begin_direct.payer_masked, begin_direct.payer_hash,
        begin_direct.payee_sealed, begin_direct.payee_masked, begin_direct.payee_hash,
        begin_direct.description, begin_direct.external_ref, begin_direct.end_user_ref,
        coalesce(begin_direct.metadata, '{}'), begin_direct.body_hash, caller.actor,
        case
            when begin_direct.intent = 'PUSH'
                then payments.approval_needed(begin_direct.amount_minor, begin_direct.currency)
        end
    )
    on conflict (tenant_id, environment, external_ref) where external_ref is not null do nothing
    returning * into transfer;
    if not found then
        perform payments.refuse_external_ref(caller, begin_direct.external_ref);
    end if;
    perform compliance.admit(
        transfer.tenant_id, transfer.environment, case when transfer.intent = 'PUSH' then 'out' else 'in' end,
        transfer.rail, transfer.amount_minor, transfer.currency, coalesce(transfer.payee_hash, transfer.payer_hash),
        transfer.transfer_id
    );
    if chosen.rail is not null then
        perform directory.explain(transfer, chosen, begin_direct.policy);
    end if;
    perform payments.record_transfer_event(transfer, 'transfer.initiated', payments.transfer_payload(transfer));
    return payments.send_or_wait(transfer, caller, route, begin_direct.idempotency_key);
end
$$;
comment on function payments.begin_direct is
'Before the rail is called: a canonical transfer without an intent. PULL asks the payer, PUSH pays out (and needs payouts:write, and counts as one); what the rail cannot do is refused by name. rail null: the directory chooses, and says why.';

create function payments.list_transfers(purposes text[], filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    after_at timestamptz;
    after_id text;
    condition text := '';
    as_resource text;
    rows text[];
    last_at timestamptz;
    last_id text;
    body text;
begin
    if list_transfers.page_after is not null then
        begin
            after_at := to_timestamp(split_part(page_after, '.', 1)::numeric / 1000000);
            after_id := split_part(page_after, '.', 2);
        exception when others then
            perform public.refuse_cursor();
        end;
    end if;
    as_resource := case
        when purposes = '{refund}' then 'refund_resource'
        when purposes = '{payout}' then 'payout_resource'
        else 'transfer_resource'
    end;
    condition := concat_ws(' and ',
        case when purposes is not null then 't.purpose = any($3)' end,
        case when filters ? 'state' then 't.state in (select jsonb_array_elements_text($4 -> ''state''))' end,
        case when filters ? 'intent' then 't.intent in (select jsonb_array_elements_text($4 -> ''intent''))' end,
        case when filters ? 'rail' then 't.rail in (select jsonb_array_elements_text($4 -> ''rail''))' end,
        case when filters ? 'payment_intent' then 't.payment_intent_id = $4 ->> ''payment_intent''' end,
        case when filters ? 'transfer' then 't.related_transfer_id = $4 ->> ''transfer''' end,
        case when filters ? 'external_ref' then 't.external_ref = $4 ->> ''external_ref''' end,
        case when filters ? 'end_user_ref' then 't.end_user_ref = $4 ->> ''end_user_ref''' end,
        case when filters ? 'approval' then 't.approval = $4 ->> ''approval''' end,
        case when filters ? 'unallocated' then 't.unallocated_reason is not null' end,
        case when filters ? 'created_after' then 't.created_at >= ($4 ->> ''created_after'')::timestamptz' end,
        case when filters ? 'created_before' then 't.created_at < ($4 ->> ''created_before'')::timestamptz' end,
        case when filters ? 'updated_after' then 't.updated_at >= ($4 ->> ''updated_after'')::timestamptz' end,
        case when filters ? 'updated_before' then 't.updated_at < ($4 ->> ''updated_before'')::timestamptz' end,
        case when after_id is not null then '(t.created_at, t.transfer_id) < ($5, $6)' end,
        'true'
    );
    execute format($query$
        select array_agg(payments.%I(page.t) order by (page.t).created_at desc, (page.t).transfer_id desc)
        from (
            select t
            from payments.transfers as t
            where t.tenant_id = $1 and t.environment = $2 and %s
            order by t.created_at desc, t.transfer_id desc
            limit %s
        ) as page
    $query$, as_resource, condition, list_transfers.page_size + 1)
    into rows
    using caller.tenant_id, caller.environment, purposes, filters, after_at, after_id;

    if cardinality(rows) > list_transfers.page_size then
        select t.created_at, t.transfer_id into last_at, last_id
        from payments.transfers as t
        where t.transfer_id = rows[list_transfers.page_size]::json ->> 'id';
    end if;
    body := format(
        '{"data":[%s],"pagination":%s}',
        array_to_string(rows[1:list_transfers.page_size], ','),
        json_build_object(
            'limit', list_transfers.page_size,
            'has_more', last_id is not null,
            'next_cursor', (extract(epoch from last_at) * 1000000)::bigint || '.' || last_id
        )
    );
    return row(200, body, caller.rate);
end
$$;
comment on function payments.list_transfers is
'One page of the caller''s transfers (purposes null: all), newest first, by keyset on (created_at, id). filters: state, intent, rail (lists); payment_intent, transfer, external_ref, end_user_ref, approval, unallocated; created_ and updated_ after, before.';

create function payments.get_transfer(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    transfer payments.transfers := payments.visible_transfer(
        transfer_id, caller, '{collection,refund,payout,direct,c2b}', false
    );
    events text;
begin
    select string_agg(row_to_json(e)::text, ',' order by e.seq) into events
    from (
        select n.seq, n.type, n.occurred_at
        from payments.transfer_events as n
        where n.transfer_id = transfer.transfer_id
    ) as e;
    return row(
        200, rtrim(payments.transfer_resource(transfer), '}') || format(',"events":[%s]}', events), caller.rate
    );
end
$$;
comment on function payments.get_transfer is 'One transfer of any purpose with its numbered events; 40401 for anybody else''s.';

create function payments.list_transfer_events(transfer_id text, after_seq bigint)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    transfer payments.transfers := payments.visible_transfer(
        transfer_id, caller, '{collection,refund,payout,direct,c2b}', false
    );
    events text;
begin
    select string_agg(row_to_json(e)::text, ',' order by e.seq) into events
    from (
        select n.event_id as id, n.type, n.transfer_id as subject, n.seq, n.payload as data, n.occurred_at
        from payments.transfer_events as n
        where n.transfer_id = transfer.transfer_id and n.seq > list_transfer_events.after_seq
    ) as e;
    return row(200, format('{"data":[%s]}', events), caller.rate);
end
$$;
comment on function payments.list_transfer_events is 'The events of one transfer after a number, in order, with what each of them tells.';

reset role;
