-- Documents before they have a number: saved, replaced, cancelled, or sealed exactly as they were shown.

set role stalela_owner;

create function fiscal.own_draft(caller public.caller, draft_id text)
returns fiscal.drafts
language plpgsql
volatile
security definer -- callers may not read drafts
set search_path = ''
as $$
#variable_conflict use_column
declare
    sight fiscal.sight := fiscal.sight_of(own_draft.caller);
    draft fiscal.drafts;
begin
    -- Whoever changes a draft holds it: two changes take turns.
    select d.* into draft
    from fiscal.drafts as d
    where
        d.draft_id = own_draft.draft_id and d.tenant_id = (own_draft.caller).tenant_id
        and d.environment = (own_draft.caller).environment
        and d.outlet_id = coalesce(sight.outlet_id, d.outlet_id)
        and (sight.cashier_id is null or d.document ->> 'cashier_id' = sight.cashier_id)
    for update;
    if not found then
        perform public.refuse('40401', format('There is no draft %s here.', own_draft.draft_id));
    end if;
    return draft;
end
$$;
comment on function fiscal.own_draft is 'A draft the caller sees, locked; 40401 for any other: another outlet''s, to a cashier another cashier''s.';

create function fiscal.check_open(draft fiscal.drafts)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
    if draft.status not in ('draft', 'validation_failed') then
        perform public.refuse(
            '40911', format('Draft %s is %s and no longer changes: save a new one.', draft.draft_id, draft.status),
            jsonb_build_object('current_state', draft.status, 'allowed', '[]'::jsonb)
        );
    end if;
end
$$;
comment on function fiscal.check_open is 'Whether a draft may still change; 40911.';

create function fiscal.record_draft_move(draft fiscal.drafts, actor text, from_status text, reason text default null)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    perform fiscal.record_event(
        draft.tenant_id, draft.environment, draft.draft_id, null,
        jsonb_build_object('version', draft.version, 'purpose', draft.purpose), record_draft_move.actor,
        record_draft_move.from_status, draft.status, record_draft_move.reason
    );
end
$$;
comment on function fiscal.record_draft_move is 'Puts a move of a draft on record: who, when, from where to where, and why.';

create function fiscal.draft_resource(draft fiscal.drafts)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', draft.draft_id, 'object', 'draft', 'purpose', draft.purpose, 'status', draft.status,
        'version', draft.version, 'outlet_id', draft.outlet_id, 'document', draft.document,
        'preview', json_build_object('document', draft.payload::json, 'tax_summary', draft.tax_summary),
        'error', draft.error, 'invoice_id', draft.invoice_id,
        'is_stale', draft.status in ('draft', 'validation_failed') and draft.updated_at < now() - interval '72 hours',
        'environment', draft.environment, 'created_by', draft.created_by, 'created_at', draft.created_at,
        'updated_at', draft.updated_at
    );
end
$$;
comment on function fiscal.draft_resource is 'A draft as the API shows it. is_stale: open, and untouched for 72 hours.';

create function fiscal.save_draft(
    idempotency_key text, body_hash text, purpose text, document jsonb, payload text, canonical_payload_hash text,
    tax_summary jsonb, total_minor bigint, tax_minor bigint
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write drafts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    answer public.answer;
    outlet fiscal.outlets;
    draft fiscal.drafts;
begin
    perform fiscal.check_cashier(caller, save_draft.document);
    answer := public.claim_idempotency(caller, 'POST /invoices/drafts', save_draft.idempotency_key, save_draft.body_hash);
    if answer.status is not null then
        return answer;
    end if;
    outlet := fiscal.outlet_of(caller, save_draft.document ->> 'outlet_id');
    perform fiscal.merchant_of(caller);
    insert into fiscal.drafts (
        draft_id, tenant_id, environment, outlet_id, purpose, document, payload, canonical_payload_hash, tax_summary,
        total_minor, tax_minor, created_by
    ) values (
        public.new_id('drf'), caller.tenant_id, caller.environment, outlet.outlet_id, save_draft.purpose,
        save_draft.document, save_draft.payload, save_draft.canonical_payload_hash, save_draft.tax_summary,
        save_draft.total_minor, save_draft.tax_minor, caller.actor
    )
    returning * into draft;
    perform fiscal.record_draft_move(draft, caller.actor, null);
    answer := public.reply(caller, 201, fiscal.draft_resource(draft));
    perform public.remember_answer(
        caller, 'POST /invoices/drafts', save_draft.idempotency_key, draft.draft_id, answer
    );
    return answer;
end
$$;
comment on function fiscal.save_draft is 'Keeps a computed document that has no number yet. 40401: there is no such outlet.';

create function fiscal.replace_draft(
    draft_id text, version integer, document jsonb, payload text, canonical_payload_hash text, tax_summary jsonb,
    total_minor bigint, tax_minor bigint
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write drafts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    draft fiscal.drafts := fiscal.own_draft(caller, replace_draft.draft_id);
    former text := draft.status;
begin
    perform fiscal.check_cashier(caller, replace_draft.document);
    perform fiscal.check_open(draft);
    if draft.version <> replace_draft.version then
        perform public.refuse(
            '40911', format('Draft %s is at version %s by now: read it again and send that version.', draft.draft_id, draft.version),
            jsonb_build_object('current_state', 'version ' || draft.version, 'allowed', '["read it again"]'::jsonb)
        );
    end if;
    update fiscal.drafts as d
    set
        status = 'draft', version = d.version + 1, error = null,
        outlet_id = (fiscal.outlet_of(caller, replace_draft.document ->> 'outlet_id')).outlet_id,
        document = replace_draft.document, payload = replace_draft.payload,
        canonical_payload_hash = replace_draft.canonical_payload_hash, tax_summary = replace_draft.tax_summary,
        total_minor = replace_draft.total_minor, tax_minor = replace_draft.tax_minor, updated_at = now()
    where d.draft_id = draft.draft_id
    returning * into draft;
    perform fiscal.record_draft_move(draft, caller.actor, former);
    return public.reply(caller, 200, fiscal.draft_resource(draft));
end
$$;
comment on function fiscal.replace_draft is 'Puts another document in place of an open draft, at the version the caller read. 40401, 40911.';

create function fiscal.cancel_draft(draft_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write drafts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    draft fiscal.drafts := fiscal.own_draft(caller, cancel_draft.draft_id);
    former text := draft.status;
begin
    if draft.status <> 'cancelled' then
        perform fiscal.check_open(draft);
        update fiscal.drafts as d
        set status = 'cancelled', error = null, updated_at = now()
        where d.draft_id = draft.draft_id
        returning * into draft;
        perform fiscal.record_draft_move(draft, caller.actor, former);
    end if;
    return public.reply(caller, 200, fiscal.draft_resource(draft));
end
$$;
comment on function fiscal.cancel_draft is 'Gives a draft up; it stays readable, and a second time changes nothing. 40911 once it is sealed.';

create function fiscal.seal_draft(draft_id text)
returns fiscal.sealing
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    draft fiscal.drafts := fiscal.own_draft(caller, seal_draft.draft_id);
    former text := draft.status;
    invoice fiscal.invoices;
begin
    if draft.status = 'sealed' then
        return fiscal.sealing_of(caller, draft.invoice_id, 'true');
    end if;
    perform fiscal.check_open(draft);
    if draft.purpose <> 'invoice' then
        perform public.refuse(
            '40911', format('%s is for %s and is never sealed: save a draft with the purpose invoice.', draft.draft_id, draft.purpose),
            jsonb_build_object('current_state', draft.purpose, 'allowed', '["cancel"]'::jsonb)
        );
    end if;
    invoice := fiscal.seal_document(
        caller, draft.payload, draft.canonical_payload_hash, draft.tax_summary, draft.total_minor, draft.tax_minor
    );
    update fiscal.drafts as d
    set status = 'sealed', error = null, invoice_id = invoice.invoice_id, updated_at = now()
    where d.draft_id = draft.draft_id
    returning * into draft;
    perform fiscal.record_draft_move(draft, caller.actor, former, invoice.fiscal_number);
    return fiscal.sealing_of(caller, invoice.invoice_id, null);
end
$$;
comment on function fiscal.seal_draft is
'Seals a draft exactly as it was computed when it was saved. Once: a second time gives the same document. 40401, 40911, 42275, 42276.';

create function fiscal.fail_draft(draft_id text, error jsonb)
returns void
language plpgsql
volatile
security definer -- callers may not write drafts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    draft fiscal.drafts := fiscal.own_draft(caller, fail_draft.draft_id);
    former text := draft.status;
begin
    if former not in ('draft', 'validation_failed') then
        return;
    end if;
    update fiscal.drafts as d
    set status = 'validation_failed', error = fail_draft.error
    where d.draft_id = draft.draft_id
    returning * into draft;
    perform fiscal.record_draft_move(draft, caller.actor, former, fail_draft.error ->> 'message');
end
$$;
comment on function fiscal.fail_draft is 'Notes why a draft could not be sealed; it stays open. Nothing when it was sealed or given up meanwhile.';

create function fiscal.get_draft(draft_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read drafts
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:read', 'read');
begin
    return public.reply(caller, 200, fiscal.draft_resource(fiscal.own_draft(caller, get_draft.draft_id)));
end
$$;
comment on function fiscal.get_draft is 'One draft of the caller''s. 40401.';

create function fiscal.get_printable_draft(draft_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read drafts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    draft fiscal.drafts := fiscal.own_draft(caller, get_printable_draft.draft_id);
begin
    if draft.purpose = 'invoice' then
        perform public.refuse(
            '40911', 'A draft of an invoice is not printed: seal it first.',
            jsonb_build_object('current_state', draft.status, 'allowed', '["seal"]'::jsonb)
        );
    end if;
    return public.reply(caller, 200, (
        select json_build_object(
            'document', draft.payload, 'purpose', draft.purpose, 'merchant', fiscal.merchant_resource(m),
            'outlet', fiscal.outlet_resource(o)
        )
        from fiscal.outlets as o
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        where o.outlet_id = draft.outlet_id
    ));
end
$$;
comment on function fiscal.get_printable_draft is 'What to print of a proforma or of a training document. 40401; 40911 for what is to be sealed.';

create function fiscal.list_drafts(filters jsonb, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read drafts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    sight fiscal.sight := fiscal.sight_of(caller);
    rows fiscal.drafts[];
    has_more boolean;
begin
    select array_agg(page.draft order by page.draft_id desc) into rows
    from (
        select
            d.draft_id,
            d as draft
        from fiscal.drafts as d
        where
            d.tenant_id = caller.tenant_id and d.environment = caller.environment
            and d.outlet_id = coalesce(sight.outlet_id, filters ->> 'outlet_id', d.outlet_id)
            and (sight.cashier_id is null or d.document ->> 'cashier_id' = sight.cashier_id)
            and d.status = coalesce(filters ->> 'status', d.status)
            and d.purpose = coalesce(filters ->> 'purpose', d.purpose)
            and (
                (filters ->> 'is_stale')::boolean is null
                or (filters ->> 'is_stale')::boolean
                = (d.status in ('draft', 'validation_failed') and d.updated_at < now() - interval '72 hours')
            )
            and (list_drafts.page_after is null or d.draft_id < list_drafts.page_after)
        order by d.draft_id desc
        limit list_drafts.page_size + 1
    ) as page;
    has_more := coalesce(cardinality(rows), 0) > list_drafts.page_size;
    rows := rows[1:list_drafts.page_size];
    return public.reply(caller, 200, json_build_object(
        'data', (
            select coalesce(json_agg(fiscal.draft_resource(one) order by one.draft_id desc), '[]')
            from unnest(rows) as one
        ),
        'pagination', json_build_object(
            'limit', list_drafts.page_size, 'has_more', has_more,
            'next_cursor', case when has_more then rows[list_drafts.page_size].draft_id end
        )
    ));
end
$$;
comment on function fiscal.list_drafts is 'One page of drafts, newest first. filters: outlet_id, status, purpose, is_stale.';

reset role;
