-- What comes back from terminals: checked as strictly as if it had been sealed here, once each, in any order.

set role stalela_owner;

create function fiscal.local_signer(credential_id text)
returns jsonb
language plpgsql
volatile
security definer -- functions may not read credentials
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:write', 'read');
    credential signing.delegated_credentials := fiscal.credential_of(caller, local_signer.credential_id);
begin
    return (
        select jsonb_build_object(
            'spki', credential.public_key_spki, 'jurisdiction', m.jurisdiction,
            'fiscal_authority_id', o.fiscal_authority_id, 'outlet_id', o.outlet_id,
            'number_prefix', fiscal.number_prefix(o)
        )
        from fiscal.outlets as o
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        where o.outlet_id = credential.outlet_id
    );
end
$$;
comment on function fiscal.local_signer is 'What it takes to verify what a terminal signed: its public key, and the outlet it sealed for.';

create function fiscal.refuse_local(
    credential signing.delegated_credentials, fiscal_number text, pointer text, detail text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
begin
    perform public.raise_alert(
        'local_seal_refused', 'critical', credential.credential_id, credential.tenant_id, credential.environment,
        jsonb_build_object('fiscal_number', fiscal_number, 'pointer', pointer, 'detail', detail)
    );
    return jsonb_build_object('refused', jsonb_build_object('pointer', pointer, 'detail', detail));
end
$$;
comment on function fiscal.refuse_local is
'Why a local seal is not accepted, and an alert that outlives the refusal: a terminal that is in order sends none.';

create function fiscal.note_forgery(credential_id text, fiscal_number text, pointer text, detail text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write alerts
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    credential signing.delegated_credentials := fiscal.credential_of(caller, note_forgery.credential_id);
begin
    return fiscal.refuse_local(credential, note_forgery.fiscal_number, note_forgery.pointer, note_forgery.detail);
end
$$;
comment on function fiscal.note_forgery is 'Tells people of a local seal whose signature or content is not what it says.';

create function fiscal.local_problem(
    credential signing.delegated_credentials, document jsonb, sequence bigint, total_minor bigint, sealed_at text,
    local_previous_hash text, local_hash text
)
returns text[]
language plpgsql
stable
security definer -- callers may not read seals
set search_path = ''
as $$
#variable_conflict use_column
declare
    before fiscal.local_seals;
    after fiscal.local_seals;
begin
    select t.* into before
    from fiscal.local_seals as t
    where t.credential_id = (local_problem.credential).credential_id and t.sequence < local_problem.sequence
    order by t.sequence desc
    limit 1;
    select t.* into after
    from fiscal.local_seals as t
    where t.credential_id = (local_problem.credential).credential_id and t.sequence > local_problem.sequence
    order by t.sequence
    limit 1;
    return case
        when sequence not between credential.block_start and credential.block_end
            then array['/fiscal_number', 'is not in the block of this credential']
        when sealed_at::timestamptz < credential.not_before or sealed_at::timestamptz > credential.expires_at
            then array['/sealed_at', 'is outside the time of this credential']
        when sealed_at::timestamptz > now() + interval '5 minutes'
            then array['/sealed_at', 'is more than 5 minutes ahead of our clock']
        when sealed_at::timestamptz >= credential.revoked_at
            then array['/sealed_at', 'is after this credential was revoked']
        when sealed_at < before.sealed_at or sealed_at > after.sealed_at
            then array['/sealed_at', 'is not in the order of the numbers']
        when document ->> 'timestamp' > sealed_at then array['/document/timestamp', 'is after it was sealed']
        when document ->> 'outlet_id' <> credential.outlet_id
            then array['/document/outlet_id', 'is not the outlet of this credential']
        when document ->> 'pos_terminal_id' <> credential.pos_terminal_id
            then array['/document/pos_terminal_id', 'is not the terminal of this credential']
        -- A credential that names nobody is for whoever is at the till.
        when document ->> 'cashier_id' <> (
            select s.body::jsonb ->> 'cashier_id'
            from signing.statements as s
            where s.statement_id = credential.credential_id
        ) then array['/document/cashier_id', 'is not the cashier of this credential']
        when not document ->> 'invoice_type' = any(credential.types) or document ? 'original_fiscal_number'
            then array['/document/invoice_type', 'is not among the types of this credential']
        when total_minor > credential.max_total_minor or document #>> '{totals,currency}' <> credential.currency
            then array['/document/totals/total', 'is more than this credential allows']
        -- A neighbour that has not come back leaves its side of the local chain open.
        when local_previous_hash <> case
            when sequence = credential.block_start then credential.credential_hash
            when before.sequence = sequence - 1 then before.local_hash
            else local_previous_hash
        end or (after.sequence = sequence + 1 and after.local_previous_hash <> local_hash)
            then array['/local_previous_hash', 'does not follow the document before']
    end;
end
$$;
comment on function fiscal.local_problem is
'What a credential does not allow about a document, as pointer and sentence; null when all is as it should be.';

create function fiscal.reconcile(credential_id text, document jsonb, seal jsonb)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    credential signing.delegated_credentials := fiscal.credential_of(caller, reconcile.credential_id);
    outlet fiscal.outlets := fiscal.outlet_of(caller, credential.outlet_id);
    words jsonb := (document ->> 'payload')::jsonb;
    payload_hash text := encode(sha256(convert_to(document ->> 'payload', 'UTF8')), 'hex');
    number bigint := (seal ->> 'sequence')::bigint;
    name text := fiscal.fiscal_number(outlet, number);
    local_hash text := encode(sha256(convert_to(concat_ws(
        E'\n', name, payload_hash, seal ->> 'sealed_at', seal ->> 'local_previous_hash'
    ), 'UTF8')), 'hex');
    kept fiscal.fiscal_ledger;
    problem text[];
    invoice fiscal.invoices;
begin
    -- One at a time per outlet: what the credential allows and what is used stand still.
    perform fiscal.lock_outlet(outlet.outlet_id);
    select c.* into strict credential
    from signing.delegated_credentials as c
    where c.credential_id = credential.credential_id;
    select l.* into kept from fiscal.fiscal_ledger as l where l.fiscal_number = name;
    if found then
        return fiscal.reconcile_again(caller, credential, kept, payload_hash, document ->> 'payload', local_hash);
    end if;
    problem := fiscal.local_problem(
        credential, words, number, (document ->> 'total_minor')::bigint, seal ->> 'sealed_at',
        seal ->> 'local_previous_hash', local_hash
    );
    if words ? 'invoice_ref' and exists (
        select from fiscal.invoices as i
        where i.outlet_id = outlet.outlet_id and i.invoice_ref = words ->> 'invoice_ref'
    ) then
        problem := coalesce(problem, array['/document/invoice_ref', 'was used by this outlet before']);
    end if;
    if problem is not null then
        return fiscal.refuse_local(credential, name, problem[1], problem[2]);
    end if;
    perform fiscal.check_sealable(words, outlet, fiscal.merchant_of(caller), (seal ->> 'sealed_at')::timestamptz);
    invoice := fiscal.number_document(
        caller, outlet, words, document ->> 'payload', payload_hash, document -> 'tax_summary',
        (document ->> 'total_minor')::bigint, (document ->> 'tax_minor')::bigint, null, number, seal ->> 'sealed_at'
    );
    insert into fiscal.local_seals (
        fiscal_number, tenant_id, environment, outlet_id, invoice_id, credential_id, sequence, sealed_at,
        local_previous_hash, local_hash, digest, signature, auth_code
    ) values (
        name, outlet.tenant_id, outlet.environment, outlet.outlet_id, invoice.invoice_id, credential.credential_id, number,
        seal ->> 'sealed_at', seal ->> 'local_previous_hash', local_hash, seal ->> 'digest', seal ->> 'signature',
        seal ->> 'auth_code'
    );
    perform fiscal.note_gap(credential, number, caller.actor);
    perform signing.note_move(credential, 'reconciled', number, number, caller.actor);
    perform public.poke('invoices/sign');
    return jsonb_build_object(
        'answer', public.reply(caller, 201, fiscal.invoice_resource(invoice.invoice_id)::json)
    );
end
$$;
comment on function fiscal.reconcile is
'Takes a document that a terminal sealed offline into the chain: its number, its time, our previous hash. The same again is 200; another with its number is a conflict, kept aside; what the credential does not allow is refused and an alert. The caller has verified signature and tax.';

create function fiscal.reconcile_again(
    caller public.caller, credential signing.delegated_credentials, kept fiscal.fiscal_ledger, payload_hash text,
    payload text, local_hash text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not read seals
set search_path = ''
as $$
#variable_conflict use_column
declare
    is_same boolean := exists (
        select from fiscal.local_seals as t
        where
            t.fiscal_number = kept.fiscal_number and t.credential_id = credential.credential_id
            and t.local_hash = reconcile_again.local_hash
    );
begin
    if is_same then
        return jsonb_build_object('answer', public.reply(
            caller, 200, fiscal.invoice_resource(kept.invoice_id)::json
        ));
    end if;
    perform fiscal.keep_conflict(
        kept, payload_hash, payload, 'another document has this number', credential.credential_id
    );
    return jsonb_build_object('conflict', kept.fiscal_number);
end
$$;
comment on function fiscal.reconcile_again is 'A number that is taken: the same document is the answer, another one is a conflict.';

create function fiscal.note_gap(credential signing.delegated_credentials, number bigint, actor text)
returns void
language plpgsql
volatile
security definer -- callers may not write blocks
set search_path = ''
as $$
#variable_conflict use_column
declare
    last_back bigint;
begin
    select coalesce(max(b.to_number), credential.block_start - 1) into last_back
    from signing.number_blocks as b
    where b.credential_id = credential.credential_id and b.move in ('reconciled', 'gap');
    if number <= last_back + 1 then
        return;
    end if;
    perform signing.note_move(credential, 'gap', last_back + 1, number - 1, note_gap.actor);
    perform fiscal.record_event(
        credential.tenant_id, credential.environment, credential.credential_id, null, jsonb_build_object(
            'event', 'block.gap_detected', 'outlet_id', credential.outlet_id, 'from_number', last_back + 1,
            'to_number', number - 1
        ), note_gap.actor
    );
    perform public.raise_alert(
        'block_gap', 'warning', credential.credential_id, credential.tenant_id, credential.environment,
        jsonb_build_object('outlet_id', credential.outlet_id, 'from_number', last_back + 1, 'to_number', number - 1)
    );
end
$$;
comment on function fiscal.note_gap is 'Numbers that a later one overtook are on record as a gap and flag the outlet; they may still come.';

reset role;
