-- Is a document what it claims to be? SQL gives the facts; the function checks hashes, signature and code.

set role stalela_owner;

create function fiscal.verification_facts(fiscal_number text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- A number nobody has costs what a known one costs: the next in order is looked up in its place.
    nearest text := coalesce(
        (
            select s.fiscal_number from fiscal.signatures as s
            where s.fiscal_number >= verification_facts.fiscal_number
            order by s.fiscal_number
            limit 1
        ),
        (select s.fiscal_number from fiscal.signatures as s order by s.fiscal_number desc limit 1)
    );
begin
    return (
        select jsonb_build_object(
            'is_known', l.fiscal_number = verification_facts.fiscal_number and i.invoice_id is not null,
            'tenant_id', l.tenant_id,
            'outlet_id', l.outlet_id,
            'environment', l.environment,
            'seal', jsonb_build_object(
                'jurisdiction', m.jurisdiction, 'outlet_id', l.outlet_id, 'fiscal_authority_id', o.fiscal_authority_id,
                'fiscal_number', l.fiscal_number, 'sequence', l.series_no,
                'canonical_payload_hash', l.canonical_payload_hash, 'previous_hash', l.previous_hash,
                'sealed_at', l.sealed_at, 'key_id', s.key_id
            ),
            'signed', jsonb_build_object(
                'entry_hash', l.entry_hash, 'signature', s.signature, 'signature_alg', s.signature_alg,
                'auth_code', s.auth_code
            ),
            'key', signing.published_key(k),
            'payload_hash', encode(sha256(convert_to(i.payload, 'UTF8')), 'hex'),
            -- Sealed offline: the paper has the terminal's code and time, which follow no entry of ours.
            'local', case when t.fiscal_number is not null then jsonb_build_object(
                'signature', t.signature, 'auth_code', t.auth_code
            ) end,
            'is_first', l.entry_no = 1,
            'previous', case when p.entry_no is not null then jsonb_build_object(
                'fiscal_number', p.fiscal_number, 'canonical_payload_hash', p.canonical_payload_hash,
                'sealed_at', p.sealed_at, 'previous_hash', p.previous_hash, 'is_local', u.fiscal_number is not null
            ) end,
            'next', case when n.entry_no is not null then jsonb_build_object('previous_hash', n.previous_hash) end,
            'merchant_name', m.legal_name,
            'outlet_name', o.name,
            'total', public.format_amount(i.total_minor, i.currency),
            'currency', i.currency,
            'invoice_type', i.invoice_type,
            'credited', case
                when c.minor is null then 'none'
                when c.minor < i.total_minor then 'partial'
                else 'full'
            end,
            'authority_sync_status', coalesce(q.status, 'NOT_APPLICABLE'),
            'authority_acknowledged_at', to_char(q.synced_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        )
        from fiscal.signatures as s
        inner join fiscal.fiscal_ledger as l on l.fiscal_number = s.fiscal_number
        inner join fiscal.outlets as o on o.outlet_id = l.outlet_id
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        inner join signing.keys as k on k.key_id = s.key_id
        left join fiscal.invoices as i on i.invoice_id = l.invoice_id
        left join fiscal.fiscal_ledger as p on p.outlet_id = l.outlet_id and p.entry_no = l.entry_no - 1
        left join fiscal.local_seals as t on t.fiscal_number = l.fiscal_number
        left join fiscal.local_seals as u on u.fiscal_number = p.fiscal_number
        left join fiscal.fiscal_ledger as n on n.outlet_id = l.outlet_id and n.entry_no = l.entry_no + 1
        left join lateral (
            select sum(credit.total_minor) as minor
            from fiscal.invoices as credit
            where
                credit.original_invoice_id = i.invoice_id
                and credit.invoice_type in ('credit_note', 'export_credit')
        ) as c on true
        left join sync.authority_sync_queue as q on q.kind = 'document' and q.subject = i.invoice_id
        where s.fiscal_number = nearest
    );
end
$$;
comment on function fiscal.verification_facts is
'What is needed to verify a document, live: entry, neighbours in the chain, signature, key, credits, authority. Of another document, with is_known false, when there is none of this number: never to be shown, but the same work. Null without any document.';

create function fiscal.verify(fiscal_numbers text[])
returns jsonb
language plpgsql
stable
security definer -- anybody may verify, nobody may read
set search_path = ''
as $$
begin
    return (
        select jsonb_agg(fiscal.verification_facts(asked.number) order by asked.place)
        from unnest(verify.fiscal_numbers) with ordinality as asked (number, place)
    );
end
$$;
comment on function fiscal.verify is 'The facts about each document, in the order asked, for callers without a name.';

create function fiscal.verify_as_caller(fiscal_numbers text[])
returns jsonb
language plpgsql
volatile
security definer -- callers may not read the ledger
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    sight fiscal.sight := fiscal.sight_of(caller);
begin
    return jsonb_build_object('rate', caller.rate, 'facts', (
        select jsonb_agg(
            found.facts || jsonb_build_object(
                'is_own',
                found.facts ->> 'tenant_id' = caller.tenant_id and found.facts ->> 'environment' = caller.environment
                and found.facts ->> 'outlet_id' = coalesce(sight.outlet_id, found.facts ->> 'outlet_id')
                and fiscal.shows(sight, found.facts ->> 'fiscal_number')
            )
            order by found.place
        )
        from (
            select asked.place, fiscal.verification_facts(asked.number) as facts
            from unnest(verify_as_caller.fiscal_numbers) with ordinality as asked (number, place)
        ) as found
    ));
end
$$;
comment on function fiscal.verify_as_caller is
'The facts about each document, and whether it is the caller''s own: then what is wrong with it is said.';

create function fiscal.count_views(views jsonb)
returns integer
language plpgsql
volatile
security definer -- callers may not write counts
set search_path = ''
as $$
#variable_conflict use_column
declare
    spike jsonb := public.setting('fiscal.verification_spike');
    since timestamptz := now() - make_interval(secs => (spike ->> 'window_s')::integer);
    counted integer;
    suspect record;
begin
    -- In one order, so that two instances that count the same documents do not wait for each other.
    insert into fiscal.verification_counts as k (
        fiscal_number, channel, tenant_id, environment, outlet_id, views, last_viewed_at, window_began_at, window_views
    )
    select l.fiscal_number, v.channel, l.tenant_id, l.environment, l.outlet_id, v.views, now(), now(), v.views
    from jsonb_to_recordset(count_views.views) as v (fiscal_number text, channel text, views bigint)
    inner join fiscal.fiscal_ledger as l on l.fiscal_number = v.fiscal_number
    order by l.fiscal_number, v.channel
    on conflict (fiscal_number, channel) do update
    set
        views = k.views + excluded.views,
        last_viewed_at = excluded.last_viewed_at,
        window_began_at = case when k.window_began_at > since then k.window_began_at else excluded.window_began_at end,
        window_views = case when k.window_began_at > since then k.window_views else 0 end + excluded.window_views;
    get diagnostics counted = row_count;
    for suspect in
        select k.fiscal_number, k.tenant_id, k.environment, sum(k.window_views) as views
        from fiscal.verification_counts as k
        where
            k.window_began_at > since
            and k.fiscal_number in (
                select v.fiscal_number from jsonb_to_recordset(count_views.views) as v (fiscal_number text)
            )
        group by k.fiscal_number, k.tenant_id, k.environment
        having sum(k.window_views) >= (spike ->> 'views')::integer
        order by k.fiscal_number
    loop
        -- One paper copied many times looks like this: every copy verifies.
        perform public.raise_alert(
            'invoice_verification_spike', 'warning', suspect.fiscal_number, suspect.tenant_id, suspect.environment,
            jsonb_build_object('views', suspect.views, 'window_s', spike -> 'window_s')
        );
    end loop;
    return counted;
end
$$;
comment on function fiscal.count_views is
'Adds up how often documents were looked at, by channel, never by whom: [{fiscal_number, channel, views}]. A burst on one raises invoice_verification_spike.';

reset role;
