-- The queue: written with the document, claimed under a lease, moved by one function.

set role stalela_owner;

create function sync.enqueue_document()
returns trigger
language plpgsql
security definer -- whoever seals may not write the queue
set search_path = ''
as $$
begin
    -- Under the outlet's lock, so sync_id follows the outlet's order. Sealing waits for nobody: this is one look.
    insert into sync.authority_sync_queue (
        tenant_id, environment, outlet_id, jurisdiction, kind, subject, invoice_id, original_invoice_id, next_attempt_at
    )
    select
        new.tenant_id, new.environment, new.outlet_id, d.jurisdiction, 'document', new.invoice_id, new.invoice_id,
        new.original_invoice_id, case when new.status = 'fiscalized' then now() else 'infinity' end
    from sync.authority_devices as d
    where d.outlet_id = new.outlet_id and d.status = 'active';
    return null;
end
$$;
comment on function sync.enqueue_document is
'A document of an outlet with a device waits for its authority from the moment it has its number.';

create trigger invoices_are_reported
after insert on fiscal.invoices
for each row execute function sync.enqueue_document();

create function sync.release_document()
returns trigger
language plpgsql
security definer -- whoever signs may not write the queue
set search_path = ''
as $$
begin
    update sync.authority_sync_queue as q
    set next_attempt_at = now(), updated_at = now()
    where q.kind = 'document' and q.subject = new.invoice_id and q.next_attempt_at = 'infinity';
    if found then
        perform public.poke('authority_sync');
    end if;
    return null;
end
$$;
comment on function sync.release_document is 'A document may go to its authority once it is signed: what is sent is final.';

create trigger invoices_are_released
after update of status on fiscal.invoices
for each row when (old.status <> 'fiscalized' and new.status = 'fiscalized')
execute function sync.release_document();

create function sync.advance(sync_id bigint, event text, due timestamptz, code text, message text)
returns sync.authority_sync_queue
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    moved sync.authority_sync_queue;
begin
    update sync.authority_sync_queue as q
    set
        status = x.to_status,
        attempts = q.attempts + (x.event = 'claim')::integer,
        lease_until = case when x.to_status = 'SUBMITTED' then advance.due end,
        next_attempt_at = case when x.to_status = 'RETRY' then advance.due else q.next_attempt_at end,
        synced_at = case when x.to_status = 'SYNCED' then now() end,
        -- Nothing is open there any more.
        progress = case when x.to_status in ('SYNCED', 'REJECTED') then '{}' else q.progress end,
        -- Why it is not there is kept while it is tried again.
        last_error_code = case when x.to_status = 'SYNCED' then null else coalesce(advance.code, q.last_error_code) end,
        last_error = case
            when x.to_status = 'SYNCED' then null else coalesce(left(advance.message, 500), q.last_error)
        end,
        updated_at = now()
    from sync.transitions as x
    where q.sync_id = advance.sync_id and x.from_status = q.status and x.event = advance.event
    returning q.* into moved;
    return moved;
end
$$;
comment on function sync.advance is
'Moves a row as sync.transitions allows; all null when it does not. due: the end of the lease of a claim, or the next attempt. Nothing else writes a status.';

create function sync.claim(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
declare
    place record;
    claimed bigint;
    left_over integer := claim.max_rows;
begin
    for place in
        select d.device_id, d.outlet_id, a.is_ordered, a.in_flight, a.lease_s, work.mode
        from sync.due_devices() as work
        inner join sync.authority_devices as d on d.device_id = work.device_id
        inner join sync.authorities as a on a.jurisdiction = d.jurisdiction
        -- Whose oldest work is due longest comes first, so that no outlet starves another.
        order by work.since
        limit 200
        -- Two workers never count the same outlet's open documents at once.
        for update of d skip locked
    loop
        exit when left_over <= 0;
        for claimed in
            select c.sync_id from sync.claimable(place.outlet_id, place.is_ordered, place.mode, least(
                left_over, place.in_flight - (
                    select count(*)::integer from sync.authority_sync_queue as q
                    where q.outlet_id = place.outlet_id and q.status = 'SUBMITTED' and q.lease_until > now()
                )
            )) as c (sync_id)
        loop
            perform sync.advance(claimed, 'claim', now() + make_interval(secs => place.lease_s), null, null);
            left_over := left_over - 1;
            return next sync.work_item(claimed, place.device_id);
        end loop;
    end loop;
end
$$;
comment on function sync.claim is
'Takes work that is due, each row for one worker until its lease ends: an outlet''s in its order, never more of it than its authority takes at once.';

create function sync.due_devices()
returns table (device_id text, mode text, since timestamptz)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select d.device_id, coalesce(s.mode, 'on'), work.since
    from sync.authority_devices as d
    inner join sync.consents as c on c.tenant_id = d.tenant_id and c.environment = d.environment and c.is_given
    left join sync.switches as s on s.jurisdiction = d.jurisdiction and s.environment = d.environment
    cross join lateral (
        select least(
            (
                select min(q.next_attempt_at) from sync.authority_sync_queue as q
                where q.outlet_id = d.outlet_id and q.status in ('PENDING', 'RETRY') and q.next_attempt_at <= now()
            ),
            (
                select min(q.lease_until) from sync.authority_sync_queue as q
                where q.outlet_id = d.outlet_id and q.status = 'SUBMITTED' and q.lease_until <= now()
            )
        ) as since
    ) as work
    where
        d.status = 'active' and d.held_until <= now() and coalesce(s.mode, 'on') <> 'off' and work.since is not null;
end
$$;
comment on function sync.due_devices is
'Devices that have work, and since when: none without consent, none while its authority is switched off or left alone.';

create function sync.claimable(outlet_id text, is_ordered boolean, mode text, max_rows integer)
returns setof bigint
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select q.sync_id
    from sync.authority_sync_queue as q
    where
        q.outlet_id = claimable.outlet_id and q.status in ('PENDING', 'RETRY', 'SUBMITTED')
        -- In order: the first that is neither there nor refused there, or nothing.
        and (not claimable.is_ordered or q.sync_id = (
            select earliest.sync_id from sync.authority_sync_queue as earliest
            where
                earliest.outlet_id = claimable.outlet_id
                and earliest.status in ('PENDING', 'SUBMITTED', 'RETRY', 'FAILED')
            order by earliest.sync_id
            limit 1
        ))
        and case q.status when 'SUBMITTED' then q.lease_until else q.next_attempt_at end <= now()
        -- Read only: what was begun is asked about, nothing is begun.
        and (claimable.mode = 'on' or q.progress <> '{}')
        -- A credit names what the authority said of its original.
        and not exists (
            select from sync.authority_sync_queue as original
            where
                original.kind = 'document' and original.subject = q.original_invoice_id
                and original.status in ('PENDING', 'SUBMITTED', 'RETRY')
        )
    order by q.sync_id
    limit greatest(claimable.max_rows, 0);
end
$$;
comment on function sync.claimable is 'The rows of an outlet that may go now, in its order.';

create function sync.work_item(sync_id bigint, device_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read documents and devices
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'sync_id', q.sync_id, 'attempt', q.attempts, 'kind', q.kind, 'subject', q.subject,
            'progress', q.progress,
            'may_begin', not exists (
                select from sync.switches as s
                where s.jurisdiction = q.jurisdiction and s.environment = q.environment and s.mode <> 'on'
            ),
            'device', sync.device_item(d),
            'document', sync.document_item(q.invoice_id),
            'original', sync.original_item(q.original_invoice_id, q.sync_id)
        )
        from sync.authority_sync_queue as q
        inner join sync.authority_devices as d on d.device_id = work_item.device_id
        where q.sync_id = work_item.sync_id
    );
end
$$;
comment on function sync.work_item is 'Everything a worker needs to tell the authority of one row; credentials stay sealed.';

create function sync.device_item(device sync.authority_devices)
returns jsonb
language plpgsql
stable
security definer -- callers may not read devices
set search_path = ''
as $$
#variable_conflict use_column
begin
    return jsonb_build_object(
        'device_id', device.device_id, 'tenant_id', device.tenant_id, 'environment', device.environment,
        'jurisdiction', device.jurisdiction, 'sealed', device.sealed, 'state', device.state,
        'outlet', sync.outlet_item(device.outlet_id)
    );
end
$$;
comment on function sync.device_item is 'A device with its sealed credentials, for the worker that speaks as it.';

create function sync.outlet_item(outlet_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read outlets
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'outlet_id', o.outlet_id, 'outlet_code', o.outlet_code, 'name', o.name, 'address', o.address,
            'time_zone', o.time_zone, 'tin', m.tin, 'legal_name', m.legal_name,
            'registration_number', m.registration_number, 'vat_status', m.vat_status
        )
        from fiscal.outlets as o
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        where o.outlet_id = outlet_item.outlet_id
    );
end
$$;
comment on function sync.outlet_item is 'An outlet and its taxpayer, as shared/authority/base.py has them.';

create function sync.document_item(invoice_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'invoice_id', i.invoice_id, 'fiscal_number', i.fiscal_number, 'sequence', i.sequence,
            'sealed_at', l.sealed_at, 'auth_code', s.auth_code, 'payload', i.payload::jsonb
        )
        from fiscal.invoices as i
        inner join fiscal.fiscal_ledger as l on l.fiscal_number = i.fiscal_number
        inner join fiscal.signatures as s on s.fiscal_number = i.fiscal_number
        where i.invoice_id = document_item.invoice_id
    );
end
$$;
comment on function sync.document_item is 'A signed document as it was sealed; null when it is not signed.';

create function sync.original_item(invoice_id text, before_sync_id bigint)
returns jsonb
language plpgsql
stable
security definer -- callers may not read documents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'fiscal_number', i.fiscal_number, 'payload', i.payload::jsonb,
            'acceptance', (
                select jsonb_build_object(
                    'code', e.code, 'qr', e.qr, 'authority_number', e.authority_number,
                    'authority_time', e.authority_time, 'counters', e.counters, 'raw', e.raw
                )
                from fiscal.authority_elements as e
                where e.invoice_id = i.invoice_id
            ),
            'credited', (
                select coalesce(jsonb_agg(credit.payload::jsonb order by q.sync_id), '[]')
                from sync.authority_sync_queue as q
                inner join fiscal.invoices as credit on credit.invoice_id = q.invoice_id
                where
                    q.original_invoice_id = i.invoice_id and q.sync_id < original_item.before_sync_id
                    and q.status in ('PENDING', 'SUBMITTED', 'RETRY', 'SYNCED')
                    and credit.invoice_type in ('credit_note', 'export_credit')
            )
        )
        from fiscal.invoices as i
        where i.invoice_id = original_item.invoice_id
    );
end
$$;
comment on function sync.original_item is
'The document that a credit credits, with what the authority said of it and the credits before this one.';

create function sync.note_progress(
    sync_id bigint, attempt integer, progress jsonb, device_id text, device_state jsonb
)
returns void
language plpgsql
volatile
security definer -- callers may not write the queue
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- The device first, as sync.claim does, when it changes.
    perform from sync.authority_devices as d
    where d.device_id = note_progress.device_id and jsonb_typeof(note_progress.device_state) = 'object'
    for no key update;
    update sync.authority_sync_queue as q
    set
        progress = note_progress.progress, updated_at = now(),
        lease_until = now() + make_interval(secs => (
            select a.lease_s from sync.authorities as a where a.jurisdiction = q.jurisdiction
        ))
    where
        q.sync_id = note_progress.sync_id and q.attempts = note_progress.attempt and q.status = 'SUBMITTED';
    if not found then
        perform public.refuse('40911', 'Another worker has this row: begin nothing.',
            '{"current_state": "leased", "allowed": []}');
    end if;
    update sync.authority_devices as d
    set state = d.state || note_progress.device_state, updated_at = now()
    where d.device_id = note_progress.device_id and jsonb_typeof(note_progress.device_state) = 'object';
end
$$;
comment on function sync.note_progress is
'Notes what the adapter is about to do, with what its device must remember whatever comes of it, and renews its lease. 40911 stops a worker whose lease went to another one, before it does anything that cannot be taken back.';

reset role;
