-- Two documents with one number: the first stays, the other is kept aside and people are told.

set role stalela_owner;

create function fiscal.keep_conflict(
    entry fiscal.fiscal_ledger, other_hash text, document text, reason text, received_from text
)
returns void
language plpgsql
volatile
security definer -- callers may not write conflicts
set search_path = ''
as $$
begin
    insert into fiscal.conflicts (
        conflict_id, tenant_id, environment, outlet_id, fiscal_number, kept_hash, other_hash, document, reason,
        received_from
    ) values (
        public.new_id('cft'), entry.tenant_id, entry.environment, entry.outlet_id, entry.fiscal_number,
        entry.canonical_payload_hash, keep_conflict.other_hash, keep_conflict.document, keep_conflict.reason,
        keep_conflict.received_from
    )
    on conflict on constraint conflicts_fiscal_number_other_hash_key do nothing;
    perform public.raise_alert(
        'fiscal_conflict', 'critical', entry.fiscal_number, entry.tenant_id, entry.environment, jsonb_build_object(
            'outlet_id', entry.outlet_id, 'kept_hash', entry.canonical_payload_hash,
            'other_hash', keep_conflict.other_hash, 'reason', keep_conflict.reason
        )
    );
end
$$;
comment on function fiscal.keep_conflict is
'Keeps a document whose number another one has, once, and raises a critical alert. The chain does not change.';

create function fiscal.list_conflicts(outlet_id text, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read conflicts
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    sight fiscal.sight := fiscal.sight_of(caller);
    ids text[];
begin
    ids := array(
        select c.conflict_id
        from fiscal.conflicts as c
        where
            c.tenant_id = caller.tenant_id and c.environment = caller.environment
            and c.outlet_id = coalesce(sight.outlet_id, c.outlet_id)
            and (sight.cashier_id is null or c.document::jsonb ->> 'cashier_id' = sight.cashier_id)
            and c.outlet_id = coalesce(list_conflicts.outlet_id, c.outlet_id)
            and (list_conflicts.page_after is null or c.conflict_id < list_conflicts.page_after)
        order by c.conflict_id desc
        limit list_conflicts.page_size + 1
    );
    return public.reply(caller, 200, json_build_object(
        'data', (
            select coalesce(json_agg(json_build_object(
                'id', c.conflict_id, 'object', 'fiscal_conflict', 'outlet_id', c.outlet_id,
                'fiscal_number', c.fiscal_number, 'kept_hash', c.kept_hash, 'other_hash', c.other_hash,
                'document', c.document::json, 'reason', c.reason, 'received_from', c.received_from,
                'environment', c.environment, 'created_at', c.created_at
            ) order by c.conflict_id desc), '[]')
            from fiscal.conflicts as c
            where c.conflict_id = any(ids[1:list_conflicts.page_size])
        ),
        'pagination', json_build_object(
            'limit', list_conflicts.page_size,
            'has_more', cardinality(ids) > list_conflicts.page_size,
            'next_cursor', case when cardinality(ids) > list_conflicts.page_size then ids[list_conflicts.page_size] end
        )
    ));
end
$$;
comment on function fiscal.list_conflicts is 'One page of the caller''s conflicts, newest first.';

reset role;
