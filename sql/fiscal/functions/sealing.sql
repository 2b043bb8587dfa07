-- Chain first, sign after: seal takes the number and the chain entry, attach_signature brings the signature.

set role stalela_owner;

create function fiscal.seal(
    idempotency_key text, body_hash text, payload text, canonical_payload_hash text, tax_summary jsonb,
    total_minor bigint, tax_minor bigint
)
returns fiscal.sealing
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:write', 'write');
    invoice fiscal.invoices;
    earlier text;
begin
    -- Before anything is said of a key that somebody else used.
    perform fiscal.check_cashier(caller, seal.payload::jsonb);
    earlier := fiscal.sealed_before(caller, seal.idempotency_key, seal.body_hash);
    if earlier is not null then
        return fiscal.sealing_of(caller, earlier, 'true');
    end if;
    perform public.claim_idempotency(caller, 'POST /invoices', seal.idempotency_key, seal.body_hash);
    invoice := fiscal.seal_document(
        caller, seal.payload, seal.canonical_payload_hash, seal.tax_summary, seal.total_minor, seal.tax_minor
    );
    perform public.bind_idempotency(caller, 'POST /invoices', seal.idempotency_key, invoice.invoice_id);
    return fiscal.sealing_of(caller, invoice.invoice_id, null);
end
$$;
comment on function fiscal.seal is
'Takes the outlet''s next number and chain entry for a computed document; the answer is 202 until attach_signature. A repeated key gives the document as it is now. 42275, 40911, 42241, 40904.';

create function fiscal.seal_document(
    caller public.caller, payload text, canonical_payload_hash text, tax_summary jsonb, total_minor bigint,
    tax_minor bigint
)
returns fiscal.invoices
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    document jsonb := seal_document.payload::jsonb;
    outlet fiscal.outlets := fiscal.outlet_of(caller, document ->> 'outlet_id');
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    original fiscal.invoices;
begin
    perform fiscal.check_sealable(document, outlet, merchant);
    if seal_document.canonical_payload_hash <> encode(sha256(convert_to(seal_document.payload, 'UTF8')), 'hex') then
        raise exception 'the canonical hash is not of this payload';
    end if;

    -- One at a time per outlet. Everything after this is short and calls nobody.
    perform fiscal.lock_outlet(outlet.outlet_id);
    if document ? 'original_fiscal_number' then
        original := fiscal.original_of(fiscal.sight_of(caller), document, outlet, seal_document.total_minor);
    end if;
    if document ? 'invoice_ref' and exists (
        select from fiscal.invoices as i
        where i.outlet_id = outlet.outlet_id and i.invoice_ref = document ->> 'invoice_ref'
    ) then
        perform public.refuse_field('42275', '/invoice_ref', 'was used by this outlet before: send another, or leave it out');
    end if;
    return fiscal.number_document(
        caller, outlet, document, seal_document.payload, seal_document.canonical_payload_hash,
        seal_document.tax_summary, seal_document.total_minor, seal_document.tax_minor, original.invoice_id
    );
end
$$;
comment on function fiscal.seal_document is
'Checks a computed document, takes its number and its chain entry. Whoever calls has claimed what makes it the only one. 42275, 42276, 40911, 40401.';

create function fiscal.sealed_before(caller public.caller, key text, body_hash text)
returns text
language plpgsql
stable
security definer -- callers may not read keys
set search_path = ''
as $$
#variable_conflict use_column
declare
    stored public.idempotency_keys;
begin
    select k.* into stored
    from public.idempotency_keys as k
    where
        k.tenant_id = (sealed_before.caller).tenant_id and k.environment = (sealed_before.caller).environment
        and k.route = 'POST /invoices' and k.key = sealed_before.key and k.resource_id is not null;
    if stored.body_hash <> sealed_before.body_hash then
        perform public.refuse('42241', 'This Idempotency-Key was used before with another request body.');
    end if;
    return stored.resource_id;
end
$$;
comment on function fiscal.sealed_before is 'The document this key sealed, null when it sealed none; 42241 when it was another body.';

create function fiscal.check_sealable(
    document jsonb, outlet fiscal.outlets, merchant fiscal.merchants, sealed_at timestamptz default now()
)
returns void
language plpgsql
stable
security definer -- callers may not read operators
set search_path = ''
as $$
declare
    max_age interval := make_interval(secs => (public.setting('fiscal.document_max_age_s'))::integer);
    blocked text;
begin
    if merchant.status <> 'active' or outlet.status <> 'active' then
        perform public.refuse('40911', 'This taxpayer or outlet is not active and seals nothing: use an outlet that is, or write to support about a taxpayer that is suspended.',
            jsonb_build_object('current_state', merchant.status || '/' || outlet.status, 'allowed', '[]'::jsonb));
    elsif document ->> 'jurisdiction' <> merchant.jurisdiction then
        perform public.refuse_field('42275', '/jurisdiction', format('must be %s, where this taxpayer is registered', merchant.jurisdiction));
    elsif document ->> 'merchant_tin' <> merchant.tin then
        perform public.refuse_field('42275', '/merchant_tin', format('must be %s, this taxpayer''s', merchant.tin));
    elsif (document ->> 'timestamp')::timestamptz > now() + interval '5 minutes' then
        perform public.refuse_field('42275', '/timestamp', 'is more than 5 minutes ahead of our clock: set yours right');
    elsif (document ->> 'timestamp')::timestamptz < check_sealable.sealed_at - max_age then
        perform public.refuse_field('42275', '/timestamp', format(
            'is more than %s hours before the document is sealed: send the time of sealing, and say in notes when it was agreed',
            extract(epoch from max_age)::bigint / 3600
        ));
    end if;
    select o.kind into blocked
    from fiscal.operators as o
    where
        o.outlet_id = (check_sealable.outlet).outlet_id and o.status = 'blocked'
        and (o.kind, o.label) in (('terminal', document ->> 'pos_terminal_id'), ('cashier', document ->> 'cashier_id'))
    limit 1;
    if found then
        perform public.refuse_field(
            '42275', case blocked when 'terminal' then '/pos_terminal_id' else '/cashier_id' end, format(
                'this %s is blocked: use another, or unblock it with PUT /functions/v1/merchants/outlets/%s/operators',
                blocked, (check_sealable.outlet).outlet_id
            )
        );
    end if;
end
$$;
comment on function fiscal.check_sealable is 'What must hold of taxpayer, outlet, terminal and time before a number is taken. sealed_at: of a document that a terminal sealed, by its clock. 40911, 42275.';

create function fiscal.lock_outlet(outlet_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtext('fiscal.outlet'), hashtext(lock_outlet.outlet_id));
end
$$;
comment on function fiscal.lock_outlet is
'One at a time per outlet until the transaction ends: numbers, chain entries and the sums that depend on them.';

create function fiscal.next_number(outlet_id text, kind text)
returns bigint
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    taken bigint;
begin
    insert into fiscal.fiscal_counters as c (outlet_id, kind, next_value)
    values (next_number.outlet_id, next_number.kind, 2)
    on conflict (outlet_id, kind) do update set next_value = c.next_value + 1
    returning c.next_value - 1 into strict taken;
    return taken;
end
$$;
comment on function fiscal.next_number is
'Takes the next number of one of an outlet''s series: 1, 2, 3 and a rollback gives it back. Only under the outlet''s lock.';

create function fiscal.number_document(
    caller public.caller, outlet fiscal.outlets, document jsonb, payload text, canonical_payload_hash text,
    tax_summary jsonb, total_minor bigint, tax_minor bigint, original_invoice_id text, reserved bigint default null,
    sealed_at text default null
)
returns fiscal.invoices
language plpgsql
volatile
security definer -- callers may not write documents
set search_path = ''
as $$
#variable_conflict use_column
declare
    taken bigint := coalesce(
        number_document.reserved, fiscal.next_number((number_document.outlet).outlet_id, 'invoice')
    );
    invoice fiscal.invoices;
begin
    insert into fiscal.invoices (
        invoice_id, tenant_id, environment, merchant_id, outlet_id, status, invoice_type, invoice_ref, fiscal_number,
        sequence, payload, canonical_payload_hash, tax_summary, currency, total_minor, tax_minor, original_invoice_id,
        created_by, cashier_id
    ) values (
        public.new_id('inv'), (number_document.outlet).tenant_id, (number_document.outlet).environment,
        (number_document.outlet).merchant_id, (number_document.outlet).outlet_id, 'pending_signature',
        document ->> 'invoice_type', document ->> 'invoice_ref', fiscal.fiscal_number(number_document.outlet, taken),
        taken, number_document.payload, number_document.canonical_payload_hash, number_document.tax_summary,
        document #>> '{totals,currency}', number_document.total_minor, number_document.tax_minor,
        number_document.original_invoice_id, (number_document.caller).actor, document ->> 'cashier_id'
    )
    returning * into invoice;
    perform fiscal.append_entry(
        number_document.outlet, invoice.invoice_type, invoice.fiscal_number, taken, invoice.canonical_payload_hash,
        invoice.invoice_id, number_document.sealed_at
    );
    perform fiscal.record_event(
        invoice.tenant_id, invoice.environment, invoice.invoice_id, null, fiscal.invoice_facts(invoice),
        invoice.created_by, to_status => invoice.status
    );
    return invoice;
end
$$;
comment on function fiscal.number_document is
'Number, document and chain entry, together. Only under the outlet''s lock. reserved and sealed_at: of a document that a terminal sealed offline.';

create function fiscal.append_entry(
    outlet fiscal.outlets, record_type text, fiscal_number text, series_no bigint, canonical_payload_hash text,
    invoice_id text, sealed_at text default null
)
returns fiscal.fiscal_ledger
language plpgsql
volatile
security definer -- callers may not write the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    signer text := signing.hold_key(
        (select m.jurisdiction from fiscal.merchants as m where m.merchant_id = (append_entry.outlet).merchant_id),
        (append_entry.outlet).environment
    );
begin
    perform signing.follow_key(append_entry.outlet, signer);
    return fiscal.write_entry(
        append_entry.outlet, append_entry.record_type, append_entry.fiscal_number, append_entry.series_no,
        append_entry.canonical_payload_hash, append_entry.invoice_id, signer, append_entry.sealed_at
    );
end
$$;
comment on function fiscal.append_entry is
'The next link of an outlet''s chain, and its place in the signing queue with the key that must sign it; a key_rotation entry goes before it where that key is new. Only under the outlet''s lock.';

create function fiscal.write_entry(
    outlet fiscal.outlets, record_type text, fiscal_number text, series_no bigint, canonical_payload_hash text,
    invoice_id text, key_id text, sealed_at text default null
)
returns fiscal.fiscal_ledger
language plpgsql
volatile
security definer -- callers may not write the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    head fiscal.fiscal_ledger;
    entry fiscal.fiscal_ledger;
    sealed_here text;
begin
    select l.* into head
    from fiscal.fiscal_ledger as l
    where l.outlet_id = (write_entry.outlet).outlet_id
    order by l.entry_no desc
    limit 1;
    -- A terminal has a clock of its own: what it sealed offline comes later than its time.
    select l.sealed_at into sealed_here
    from fiscal.fiscal_ledger as l
    where
        l.outlet_id = (write_entry.outlet).outlet_id
        and not exists (select from fiscal.local_seals as t where t.fiscal_number = l.fiscal_number)
    order by l.entry_no desc
    limit 1;
    entry.previous_hash := coalesce(head.entry_hash, repeat('0', 64));
    -- A clock that steps back must not make a chain do so.
    entry.sealed_at := coalesce(write_entry.sealed_at, greatest(
        to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), sealed_here
    ));
    insert into fiscal.fiscal_ledger (
        outlet_id, entry_no, tenant_id, environment, record_type, fiscal_number, series_no, sequence,
        canonical_payload_hash, sealed_at, previous_hash, entry_hash, invoice_id
    ) values (
        (write_entry.outlet).outlet_id, coalesce(head.entry_no, 0) + 1, (write_entry.outlet).tenant_id,
        (write_entry.outlet).environment, write_entry.record_type, write_entry.fiscal_number,
        write_entry.series_no,
        case when write_entry.record_type not in ('report_z', 'key_rotation', 'archive') then write_entry.series_no end,
        write_entry.canonical_payload_hash, entry.sealed_at, entry.previous_hash,
        encode(sha256(convert_to(concat_ws(
            E'\n', write_entry.fiscal_number, write_entry.canonical_payload_hash, entry.sealed_at, entry.previous_hash
        ), 'UTF8')), 'hex'),
        write_entry.invoice_id
    )
    returning * into entry;
    -- Whoever seals an invoice signs it now; the queue comes when they did not, and for everything else at once.
    insert into signing.signing_queue (fiscal_number, tenant_id, environment, key_id, next_attempt_at)
    values (
        entry.fiscal_number, entry.tenant_id, entry.environment, write_entry.key_id,
        now() + case when entry.invoice_id is null then interval '0' else interval '5 seconds' end
    );
    return entry;
end
$$;
comment on function fiscal.write_entry is
'One link, as append_entry decided it.';

create function fiscal.fiscal_number(outlet fiscal.outlets, sequence bigint)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    -- A sandbox document never looks like a real one.
    return concat_ws(
        '-', case outlet.environment when 'production' then 'STL' else 'TST' end, outlet.outlet_code,
        lpad(sequence::text, greatest(6, length(sequence::text)), '0')
    );
end
$$;
comment on function fiscal.fiscal_number is 'The printed form: STL-KIN001-000042. The integer is what counts.';

create function fiscal.seal_object(fiscal_number text, key_id text)
returns text
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        -- RFC 8785 of text without characters to escape: members in order, no spaces.
        select format(
            '{"canonical_payload_hash":"%s","fiscal_authority_id":"%s","fiscal_number":"%s","jurisdiction":"%s",'
            '"key_id":"%s","outlet_id":"%s","previous_hash":"%s","sealed_at":"%s","sequence":%s,"v":1}',
            l.canonical_payload_hash, o.fiscal_authority_id, l.fiscal_number, m.jurisdiction, seal_object.key_id,
            l.outlet_id, l.previous_hash, l.sealed_at, l.series_no
        )
        from fiscal.fiscal_ledger as l
        inner join fiscal.outlets as o on o.outlet_id = l.outlet_id
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        where l.fiscal_number = seal_object.fiscal_number
    );
end
$$;
comment on function fiscal.seal_object is 'The canonical text that is signed, made from the ledger.';

create function fiscal.attach_signature(
    fiscal_number text, key_id text, digest text, signature text, auth_code text, latency_ms integer,
    provider_request_id text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write signatures
set search_path = ''
as $$
#variable_conflict use_column
declare
    entry fiscal.fiscal_ledger;
    signer signing.keys;
    queued signing.signing_queue;
    is_wanted boolean;
begin
    select l.* into entry
    from fiscal.fiscal_ledger as l
    where l.fiscal_number = attach_signature.fiscal_number;
    select k.* into signer from signing.keys as k where k.key_id = attach_signature.key_id;
    if entry.fiscal_number is null or signer.key_id is null then
        perform public.refuse('40401', format(
            'There is no document %s or no key %s.', attach_signature.fiscal_number, attach_signature.key_id
        ));
    end if;
    if attach_signature.digest <> encode(
        sha256(convert_to(fiscal.seal_object(entry.fiscal_number, signer.key_id), 'UTF8')), 'hex'
    ) then
        raise exception 'the signature is not of what the ledger says';
    end if;
    -- Whoever revokes the key, parks the entry or signs it too waits here, or came before.
    select q.* into queued
    from signing.signing_queue as q
    where q.fiscal_number = entry.fiscal_number
    for update;
    is_wanted := found and signing.may_sign(signer.key_id, queued.key_id);
    insert into signing.signing_log (
        tenant_id, environment, fiscal_number, key_id, digest, signature, provider_request_id, latency_ms, outcome
    ) values (
        entry.tenant_id, entry.environment, entry.fiscal_number, signer.key_id, attach_signature.digest,
        attach_signature.signature, attach_signature.provider_request_id, attach_signature.latency_ms,
        case when is_wanted then 'signed' else 'discarded' end
    );
    if is_wanted then
        insert into fiscal.signatures (
            fiscal_number, tenant_id, environment, outlet_id, key_id, signature_alg, digest, signature, auth_code
        ) values (
            entry.fiscal_number, entry.tenant_id, entry.environment, entry.outlet_id, signer.key_id, signer.alg,
            attach_signature.digest, attach_signature.signature, attach_signature.auth_code
        );
        delete from signing.signing_queue as q where q.fiscal_number = entry.fiscal_number;
        perform fiscal.fiscalize(entry, attach_signature.auth_code);
    end if;
    -- Without a row in the queue somebody else signed it, and the answer is as good.
    return row(
        case when is_wanted or queued.fiscal_number is null then 201 else 202 end,
        coalesce(fiscal.invoice_resource(entry.invoice_id), 'null'), '{}'
    )::public.answer;
end
$$;
comment on function fiscal.attach_signature is
'Gives a ledger entry its signature, once, by the key that must sign it and over what the ledger says; logs the provider''s call whatever comes of it. 201 with the invoice (null for entries that are none), 202 when the entry still waits for another key.';

reset role;
