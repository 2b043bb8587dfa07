-- Walking chains: from the last sound entry on, or all of it again; in steps, so that it can stop and go on anywhere.

set role stalela_owner;

create function fiscal.begin_walk(outlet fiscal.outlets, scope text, checks text, requested_by text)
returns fiscal.chain_walks
language plpgsql
volatile
security definer -- callers may not write walks
set search_path = ''
as $$
#variable_conflict use_column
declare
    walk fiscal.chain_walks;
    sound fiscal.chain_walks;
begin
    loop
        select w.* into walk
        from fiscal.chain_walks as w
        where w.outlet_id = (begin_walk.outlet).outlet_id and w.status = 'running';
        exit when found;
        if begin_walk.scope = 'new' then
            select w.* into sound
            from fiscal.chain_walks as w
            where w.outlet_id = (begin_walk.outlet).outlet_id and w.status = 'sound' and w.checks = 'everything'
            order by w.walk_id desc
            limit 1;
        end if;
        insert into fiscal.chain_walks (
            walk_id, tenant_id, environment, outlet_id, scope, checks, from_entry, to_entry, head_hash, requested_by
        ) values (
            public.new_id('walk'), (begin_walk.outlet).tenant_id, (begin_walk.outlet).environment,
            (begin_walk.outlet).outlet_id, begin_walk.scope, begin_walk.checks, coalesce(sound.to_entry, 0) + 1,
            coalesce(sound.to_entry, 0), coalesce(sound.head_hash, repeat('0', 64)), begin_walk.requested_by
        )
        on conflict (outlet_id) where status = 'running' do nothing
        returning * into walk;
        -- Somebody else began one in between; or it has ended already, and this one begins after all.
        exit when found;
    end loop;
    return walk;
end
$$;
comment on function fiscal.begin_walk is
'A walk of an outlet''s chain, or the one that is running: new from the head of the last that checked everything and found nothing, all from the first entry.';

create function fiscal.start_walk(outlet_id text, scope text, checks text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write walks
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:read', 'write');
    outlet fiscal.outlets := fiscal.outlet_of(caller, start_walk.outlet_id);
    walk fiscal.chain_walks := fiscal.begin_walk(outlet, start_walk.scope, start_walk.checks, caller.actor);
begin
    perform public.poke('integrity');
    return public.reply(caller, 202, fiscal.walk_resource(walk));
end
$$;
comment on function fiscal.start_walk is
'Begins to verify the chain of an outlet of the caller''s; one that is running already is the answer. Read it again until it is sound or broken.';

create function fiscal.walk_resource(walk fiscal.chain_walks)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', walk.walk_id, 'object', 'chain_walk', 'outlet_id', walk.outlet_id, 'scope', walk.scope,
        'checks', walk.checks, 'status', walk.status, 'from_entry', walk.from_entry, 'to_entry', walk.to_entry,
        'head_hash', walk.head_hash, 'finding', walk.finding, 'environment', walk.environment,
        'started_at', walk.started_at, 'finished_at', walk.finished_at
    );
end
$$;
comment on function fiscal.walk_resource is 'A walk as the API shows it.';

create function fiscal.get_walk(walk_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read walks
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    walk fiscal.chain_walks;
begin
    select w.* into walk
    from fiscal.chain_walks as w
    where
        w.walk_id = get_walk.walk_id and w.tenant_id = caller.tenant_id and w.environment = caller.environment
        and w.outlet_id = coalesce(fiscal.caller_outlet(caller), w.outlet_id);
    if not found then
        perform public.refuse('40401', format('There is no walk %s here.', get_walk.walk_id));
    end if;
    return public.reply(caller, 200, fiscal.walk_resource(walk));
end
$$;
comment on function fiscal.get_walk is 'One walk of the caller''s; 40401 for anybody else''s.';

create function fiscal.list_walks(outlet_id text, page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read walks
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    outlet_only text := fiscal.caller_outlet(caller);
    ids text[];
begin
    select array_agg(page.walk_id order by page.walk_id desc) into ids
    from (
        select w.walk_id
        from fiscal.chain_walks as w
        where
            w.tenant_id = caller.tenant_id and w.environment = caller.environment
            and w.outlet_id = coalesce(outlet_only, w.outlet_id)
            and w.outlet_id = coalesce(list_walks.outlet_id, w.outlet_id)
            and (list_walks.page_after is null or w.walk_id < list_walks.page_after)
        order by w.walk_id desc
        limit list_walks.page_size + 1
    ) as page;
    return public.reply(caller, 200, json_build_object(
        'data', (
            select coalesce(json_agg(fiscal.walk_resource(w) order by w.walk_id desc), '[]')
            from fiscal.chain_walks as w
            where w.walk_id = any(ids[1:list_walks.page_size])
        ),
        'pagination', json_build_object(
            'limit', list_walks.page_size,
            'has_more', coalesce(cardinality(ids), 0) > list_walks.page_size,
            'next_cursor', case when cardinality(ids) > list_walks.page_size then ids[list_walks.page_size] end
        )
    ));
end
$$;
comment on function fiscal.list_walks is 'One page of the caller''s walks, newest first.';

create function fiscal.due_walk()
returns text
language plpgsql
volatile
security definer -- functions may not write walks
set search_path = ''
as $$
#variable_conflict use_column
declare
    found_id text;
    next_one record;
begin
    -- Whoever walks moves it on every few seconds; one that stands still was left behind.
    update fiscal.chain_walks as w
    set moved_at = clock_timestamp()
    where w.walk_id = any(array(
        select d.walk_id
        from fiscal.chain_walks as d
        where d.status = 'running' and d.moved_at < clock_timestamp() - interval '30 seconds'
        order by d.moved_at
        limit 1
        for update skip locked
    ))
    returning w.walk_id into found_id;
    if found then
        return found_id;
    end if;
    select o as outlet, case when due.is_whole then 'all' else 'new' end as scope into next_one
    from fiscal.outlets as o
    cross join lateral (
        -- What was added, every day; the whole chain again, every week.
        select
            coalesce(max(w.started_at) filter (where w.scope = 'all' and w.checks = 'everything'), '-infinity') < now() - interval '7 days' as is_whole,
            coalesce(max(w.started_at), '-infinity') < now() - interval '1 day' as is_daily
        from fiscal.chain_walks as w
        where w.outlet_id = o.outlet_id and w.started_at > now() - interval '7 days'
    ) as due
    where
        (due.is_whole or due.is_daily)
        and exists (select from fiscal.fiscal_ledger as l where l.outlet_id = o.outlet_id)
        and not exists (select from fiscal.chain_walks as r where r.outlet_id = o.outlet_id and r.status = 'running')
    limit 1;
    if not found then
        return null;
    end if;
    return (fiscal.begin_walk(next_one.outlet, next_one.scope, 'everything', 'schedule')).walk_id;
end
$$;
comment on function fiscal.due_walk is
'A walk to go on with: one that was left behind, or a new one of an outlet whose day or week is over; null when there is none.';

create function fiscal.poke_integrity()
returns boolean
language plpgsql
volatile
security definer -- cron may not read outlets
set search_path = ''
as $$
begin
    if not exists (select from fiscal.outlets) then
        return false;
    end if;
    perform public.poke('integrity');
    return true;
end
$$;
comment on function fiscal.poke_integrity is 'Wakes the verifier, which asks what is due. A cron task.';

create function fiscal.walk_part(walk_id text)
returns jsonb
language plpgsql
stable
security definer -- functions may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    walk fiscal.chain_walks;
    waits_from bigint;
    until_entry bigint;
begin
    select w.* into strict walk from fiscal.chain_walks as w where w.walk_id = walk_part.walk_id;
    until_entry := walk.to_entry + case walk.checks when 'hashes' then 20000 else 1000 end;
    -- Up to what still waits for its signature: that is no fault, and the next walk's.
    select min(l.entry_no) into waits_from
    from fiscal.fiscal_ledger as l
    where
        l.outlet_id = walk.outlet_id and l.entry_no > walk.to_entry and l.entry_no <= until_entry
        and exists (select from signing.signing_queue as q where q.fiscal_number = l.fiscal_number)
        and not exists (select from fiscal.signatures as s where s.fiscal_number = l.fiscal_number);
    until_entry := coalesce(waits_from - 1, until_entry);
    return jsonb_build_object(
        'after_entry', walk.to_entry, 'until_entry', until_entry,
        'is_last', waits_from is not null or not exists (
            select from fiscal.fiscal_ledger as l where l.outlet_id = walk.outlet_id and l.entry_no > until_entry
        ),
        'entries', case when walk.checks = 'everything' then (
            select coalesce(jsonb_agg(jsonb_build_object(
                'entry_no', l.entry_no, 'digest', s.digest, 'signature', s.signature, 'auth_code', s.auth_code,
                'key_id', s.key_id, 'fiscal_number', l.fiscal_number, 'sequence', l.series_no,
                'canonical_payload_hash', l.canonical_payload_hash, 'previous_hash', coalesce(s.previous_hash, l.previous_hash),
                'sealed_at', l.sealed_at
            ) order by l.entry_no), '[]')
            from fiscal.fiscal_ledger as l
            inner join (
                select o.fiscal_number, o.digest, o.signature, o.auth_code, o.key_id, null as previous_hash
                from fiscal.signatures as o
                union all
                select t.fiscal_number, t.digest, t.signature, t.auth_code, t.credential_id, t.local_previous_hash
                from fiscal.local_seals as t
            ) as s on s.fiscal_number = l.fiscal_number
            where l.outlet_id = walk.outlet_id and l.entry_no > walk.to_entry and l.entry_no <= until_entry
        ) else '[]' end,
        'outlet', (
            select jsonb_build_object(
                'jurisdiction', m.jurisdiction, 'outlet_id', o.outlet_id, 'fiscal_authority_id', o.fiscal_authority_id
            )
            from fiscal.outlets as o
            inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
            where o.outlet_id = walk.outlet_id
        ),
        'keys', (
            select coalesce(jsonb_object_agg(k.key_id, jsonb_build_object('alg', k.alg, 'spki', k.spki)), '{}')
            from (
                select r.key_id, r.alg, r.public_key_spki as spki from signing.keys as r
                union all
                select c.credential_id, 'ES256', c.public_key_spki
                from signing.delegated_credentials as c
                where c.outlet_id = walk.outlet_id
            ) as k
        )
    );
end
$$;
comment on function fiscal.walk_part is
'The next part of a walk, with the signatures in it when it checks everything. is_last: the chain ends there, or what follows still waits for its signature.';

create function fiscal.walk_on(walk_id text, after_entry bigint, until_entry bigint, is_last boolean, forged bigint)
returns text
language plpgsql
volatile
security definer -- functions may not write walks
set search_path = ''
as $$
#variable_conflict use_column
declare
    walk fiscal.chain_walks;
    outlet fiscal.outlets;
    found_problem jsonb;
    sound_until bigint := walk_on.until_entry;
    last_good fiscal.fiscal_ledger;
begin
    select w.* into strict walk from fiscal.chain_walks as w where w.walk_id = walk_on.walk_id for no key update;
    if walk.status <> 'running' or walk.to_entry <> walk_on.after_entry then
        return walk.status; -- somebody else made this step
    end if;
    select o.* into strict outlet from fiscal.outlets as o where o.outlet_id = walk.outlet_id;
    -- Each looks only at what the one before found sound; so the last that finds something found the first.
    found_problem := fiscal.broken_link(walk.outlet_id, walk.to_entry, sound_until, walk.head_hash);
    sound_until := coalesce((found_problem ->> 'entry_no')::bigint - 1, sound_until);
    if walk.checks = 'everything' then
        found_problem := coalesce(fiscal.wrong_row(outlet, walk.to_entry, sound_until), found_problem);
        sound_until := coalesce((found_problem ->> 'entry_no')::bigint - 1, sound_until);
    end if;
    if walk_on.forged <= sound_until then
        sound_until := walk_on.forged - 1;
        found_problem := fiscal.finding(walk_on.forged, (
            select l.fiscal_number from fiscal.fiscal_ledger as l
            where l.outlet_id = walk.outlet_id and l.entry_no = walk_on.forged
        ), 'signature');
    end if;
    select l.* into last_good
    from fiscal.fiscal_ledger as l
    where l.outlet_id = walk.outlet_id and l.entry_no > walk.to_entry and l.entry_no <= sound_until
    order by l.entry_no desc
    limit 1;
    if found_problem is null and walk_on.is_last then
        found_problem := fiscal.end_problem(walk.outlet_id, walk.from_entry);
    end if;
    update fiscal.chain_walks as w
    set
        to_entry = coalesce(last_good.entry_no, w.to_entry),
        head_hash = coalesce(last_good.entry_hash, w.head_hash),
        status = case when found_problem is not null then 'broken' when walk_on.is_last then 'sound' else 'running' end,
        finding = found_problem,
        moved_at = clock_timestamp(),
        finished_at = case when found_problem is not null or walk_on.is_last then clock_timestamp() end
    where w.walk_id = walk.walk_id
    returning * into walk;
    if walk.status = 'broken' then
        perform public.raise_alert(
            'chain_broken', 'critical', walk.outlet_id, walk.tenant_id, walk.environment,
            walk.finding || jsonb_build_object('walk_id', walk.walk_id)
        );
    elsif walk.status = 'sound' and walk.scope = 'all' and walk.checks = 'everything' then
        perform public.resolve_alert('chain_broken', walk.outlet_id, 'a later walk of the whole chain found nothing');
    end if;
    return walk.status;
end
$$;
comment on function fiscal.walk_on is
'One step of a walk: everything but signatures is verified here; forged is the first entry whose signature is not its key''s. The status after it. A finding ends the walk and is an alert.';

create function fiscal.end_problem(outlet_id text, from_entry bigint)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    from_sequence bigint;
    taken bigint;
    lost record;
begin
    select c.next_value - 1 into taken
    from fiscal.fiscal_counters as c
    where c.outlet_id = end_problem.outlet_id and c.kind = 'invoice';
    select coalesce(min(l.sequence), taken + 1) into from_sequence
    from fiscal.fiscal_ledger as l
    where l.outlet_id = end_problem.outlet_id and l.entry_no >= end_problem.from_entry;
    -- A chain of hashes does not show a number that never came to it, nor that its end was cut off: numbers as a set,
    -- with the counter after the last.
    select n.entry_no, n.fiscal_number, n.sequence, n.sequence_before into lost
    from (
        select
            m.entry_no, m.fiscal_number, m.sequence,
            lag(m.sequence, 1, (
                select coalesce(max(b.sequence), 0) from fiscal.fiscal_ledger as b
                where b.outlet_id = end_problem.outlet_id and b.sequence < from_sequence
            )) over (order by m.sequence, m.entry_no) as sequence_before
        from (
            select l.entry_no, l.fiscal_number, l.sequence
            from fiscal.fiscal_ledger as l
            where l.outlet_id = end_problem.outlet_id and l.sequence >= from_sequence
            union all
            select null, null, coalesce(taken, 0) + 1
        ) as m
    ) as n
    where
        n.sequence <> n.sequence_before + 1
        and not signing.are_out(end_problem.outlet_id, n.sequence_before + 1, n.sequence - 1)
    order by n.sequence
    limit 1;
    if not found then
        return null;
    end if;
    return fiscal.finding(lost.entry_no, lost.fiscal_number, 'sequence', format(
        'after number %s comes %s%s', lost.sequence_before, lost.sequence,
        case when lost.entry_no is null then ', says the counter' end
    ));
end
$$;
comment on function fiscal.end_problem is
'What only the whole chain can show: a number that is missing and not out with a terminal, a counter that is ahead of the chain or behind it.';

create function fiscal.finding(entry_no bigint, fiscal_number text, failed text, detail text default null)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
    return jsonb_build_object(
        'entry_no', entry_no, 'fiscal_number', fiscal_number, 'check', failed, 'detail', coalesce(detail, case failed
            when 'entry_no' then 'an entry before it is missing'
            when 'previous_hash' then 'it does not follow the entry before'
            when 'entry_hash' then 'its hash is not that of its content'
            when 'sealed_at' then 'it is older than the entry before'
            when 'entry' then 'its place, kind and number do not go together'
            when 'payload_hash' then 'its document is not what was sealed'
            when 'document' then 'what stands beside its document says something else'
            when 'signature' then 'it is not signed, or not by the key that is named'
            when 'local_seal' then 'what a terminal sealed offline is not in its block, its time or its order'
            when 'key' then 'its key was not this outlet''s at that time'
        end)
    );
end
$$;
comment on function fiscal.finding is 'What a walk found: the entry, the check that failed, a sentence.';

create function fiscal.entry_body(record_type text, fiscal_number text)
returns text
language plpgsql
stable
security definer -- callers may not read what entries are of
set search_path = ''
as $$
#variable_conflict use_column
begin
    return case entry_body.record_type
        when 'key_rotation' then (
            select r.body from signing.key_rotations as r where r.fiscal_number = entry_body.fiscal_number
        )
        when 'report_z' then (
            select r.body from fiscal.reports as r where r.fiscal_number = entry_body.fiscal_number
        )
        when 'archive' then (
            select a.body from fiscal.archive_manifests as a where a.fiscal_number = entry_body.fiscal_number
        )
        when 'block_void' then (
            select b.body from signing.number_blocks as b where b.fiscal_number = entry_body.fiscal_number
        )
    end;
end
$$;
comment on function fiscal.entry_body is 'The canonical text behind an entry that is no document; null when there is none, which no hash is of.';

reset role;
