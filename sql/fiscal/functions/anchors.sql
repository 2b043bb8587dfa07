-- Anchors: each day's heads of all chains as one hash, signed and published, so that nobody rewrites a day later.

set role stalela_owner;

create function fiscal.merkle_path(leaves bytea[], place integer, out root bytea, out path bytea[])
language plpgsql
immutable
set search_path = ''
as $$
declare
    level bytea[];
    above bytea[];
    leaf bytea;
    at integer := place;
begin
    -- RFC 6962, 2.1: 0x00 before a leaf, 0x01 before two nodes; who has no partner goes up as it is.
    path := '{}';
    foreach leaf in array leaves loop
        level := level || sha256('\x00'::bytea || leaf);
    end loop;
    while cardinality(level) > 1 loop
        if at % 2 = 0 then
            path := path || level[at - 1];
        elsif at < cardinality(level) then
            path := path || level[at + 1];
        end if;
        above := '{}';
        for pair in 1..(cardinality(level) + 1) / 2 loop
            if 2 * pair <= cardinality(level) then
                above := above || sha256('\x01'::bytea || level[2 * pair - 1] || level[2 * pair]);
            else
                above := above || level[2 * pair - 1];
            end if;
        end loop;
        level := above;
        at := (at + 1) / 2;
    end loop;
    root := coalesce(level[1], sha256(''));
end
$$;
comment on function fiscal.merkle_path is
'The Merkle root of some leaves, and the nodes beside the way from the leaf at a place (counted from 1) up to it, lowest first. No leaves: the hash of nothing.';

create function fiscal.entry_leaves(outlet_id text, from_entry bigint, until_entry bigint)
returns bytea[]
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
begin
    return array(
        select decode(l.entry_hash, 'hex')
        from fiscal.fiscal_ledger as l
        where
            l.outlet_id = entry_leaves.outlet_id
            and l.entry_no between entry_leaves.from_entry and entry_leaves.until_entry
        order by l.entry_no
    );
end
$$;
comment on function fiscal.entry_leaves is 'The leaves of a day of one chain: its entry hashes, in order.';

create function fiscal.anchor_day()
returns integer
language plpgsql
volatile
security definer -- cron may not write anchors
set search_path = ''
as $$
#variable_conflict use_column
declare
    today date := (now() at time zone 'utc')::date;
    place record;
    anchored integer := 0;
begin
    for place in
        select m.jurisdiction, m.environment
        from fiscal.merchants as m
        where not exists (
            select from fiscal.anchors as a
            where a.jurisdiction = m.jurisdiction and a.environment = m.environment and a.anchored_on = today
        )
        group by m.jurisdiction, m.environment
    loop
        anchored := anchored + fiscal.anchor_heads(place.environment, place.jurisdiction, today)::integer;
    end loop;
    if anchored > 0 then
        perform public.poke('invoices/sign');
    end if;
    return anchored;
end
$$;
comment on function fiscal.anchor_day is
'Anchors the heads of all chains of each place, once a day, as soon as the UTC day has begun. A cron task.';

create function fiscal.anchor_heads(environment text, jurisdiction text, anchored_on date)
returns boolean
language plpgsql
volatile
security definer -- callers may not write anchors
set search_path = ''
as $$
#variable_conflict use_column
declare
    new_id text := public.new_id('anc');
    heads fiscal.anchored_heads[];
    leaves bytea[];
    root text;
    before text;
begin
    select
        array_agg(
            row(new_id, h.leaf_no, h.outlet_id, h.from_entry, h.entry_no, h.leaf)::fiscal.anchored_heads order by h.leaf_no
        ),
        array_agg(convert_to(h.leaf, 'UTF8') order by h.leaf_no)
    into heads, leaves
    from (
        select
            row_number() over (order by o.outlet_id)::integer as leaf_no, o.outlet_id, b.from_entry, l.entry_no,
            format(
                '{"entries_root":"%s","entry_hash":"%s","entry_no":%s,"from_entry":%s,"outlet_id":"%s"}',
                encode((fiscal.merkle_path(fiscal.entry_leaves(o.outlet_id, b.from_entry, l.entry_no), 1)).root, 'hex'),
                l.entry_hash, l.entry_no, b.from_entry, o.outlet_id
            ) as leaf
        from fiscal.outlets as o
        inner join fiscal.merchants as m on m.merchant_id = o.merchant_id
        cross join lateral (
            select e.entry_no, e.entry_hash
            from fiscal.fiscal_ledger as e
            where e.outlet_id = o.outlet_id
            order by e.entry_no desc
            limit 1
        ) as l
        cross join lateral (
            select coalesce(max(a.entry_no), 0) + 1 as from_entry
            from fiscal.anchored_heads as a
            where a.outlet_id = o.outlet_id
        ) as b
        where o.environment = anchor_heads.environment and m.jurisdiction = anchor_heads.jurisdiction
    ) as h;
    if heads is null then
        return false;
    end if;
    root := encode((fiscal.merkle_path(leaves, 1)).root, 'hex');
    select a.root into before
    from fiscal.anchors as a
    where a.environment = anchor_heads.environment and a.jurisdiction = anchor_heads.jurisdiction
    order by a.anchored_on desc
    limit 1;
    perform signing.state(
        new_id, null, anchor_heads.environment, anchor_heads.jurisdiction, 'anchor', format(
            '{"anchor_id":"%s","anchored_on":"%s","environment":"%s","jurisdiction":"%s","kind":"anchor",'
            '"previous_root":"%s","root":"%s","size":%s}',
            new_id, anchor_heads.anchored_on, anchor_heads.environment, anchor_heads.jurisdiction,
            coalesce(before, repeat('0', 64)), root, cardinality(heads)
        )
    );
    insert into fiscal.anchors (anchor_id, environment, jurisdiction, anchored_on, root, size)
    values (new_id, anchor_heads.environment, anchor_heads.jurisdiction, anchor_heads.anchored_on, root, cardinality(heads));
    insert into fiscal.anchored_heads select h.* from unnest(heads) as h;
    return true;
end
$$;
comment on function fiscal.anchor_heads is
'One anchor: the head of every chain of a place, with the Merkle root of what it gained, under one root that names the root before. False when nothing was ever sealed there.';

create function fiscal.list_anchors(
    environment text, jurisdiction text, page_size integer, page_after text
)
returns jsonb
language plpgsql
stable
security definer -- anybody may read what is published
set search_path = ''
as $$
#variable_conflict use_column
declare
    ids text[];
begin
    ids := array(
        select a.anchor_id
        from fiscal.anchors as a
        where
            a.environment = coalesce(list_anchors.environment, 'production')
            and a.jurisdiction = coalesce(list_anchors.jurisdiction, a.jurisdiction)
            and (list_anchors.page_after is null or a.anchor_id < list_anchors.page_after)
        order by a.anchor_id desc
        limit list_anchors.page_size + 1
    );
    return jsonb_build_object(
        'data', (
            select coalesce(jsonb_agg(signing.statement_resource(one.id) order by one.id desc), '[]')
            from unnest(ids[1:list_anchors.page_size]) as one (id)
        ),
        'pagination', jsonb_build_object(
            'limit', list_anchors.page_size,
            'has_more', cardinality(ids) > list_anchors.page_size,
            'next_cursor', case when cardinality(ids) > list_anchors.page_size then ids[list_anchors.page_size] end
        )
    );
end
$$;
comment on function fiscal.list_anchors is 'The published anchors of an environment, newest first.';

create function fiscal.inclusion_proof(fiscal_number text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the ledger
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('invoices:read', 'read');
    sight fiscal.sight := fiscal.sight_of(caller);
    entry fiscal.fiscal_ledger;
    head fiscal.anchored_heads;
    day record;
    heads record;
begin
    select l.* into entry
    from fiscal.fiscal_ledger as l
    where
        l.fiscal_number = inclusion_proof.fiscal_number and l.tenant_id = caller.tenant_id
        and l.environment = caller.environment and l.outlet_id = coalesce(sight.outlet_id, l.outlet_id)
        and fiscal.shows(sight, l.fiscal_number);
    if not found then
        perform public.refuse('40401', format('There is no document %s here.', inclusion_proof.fiscal_number));
    end if;
    select h.* into head
    from fiscal.anchored_heads as h
    where h.outlet_id = entry.outlet_id and h.entry_no >= entry.entry_no
    order by h.entry_no, h.anchor_id
    limit 1;
    if not found then
        perform public.refuse(
            '40911', 'This document is not anchored yet: ask again tomorrow. The heads of a day are anchored when the UTC day is over.',
            '{"current_state": "not_anchored", "allowed": []}'
        );
    end if;
    day := fiscal.merkle_path(
        fiscal.entry_leaves(entry.outlet_id, head.from_entry, head.entry_no),
        (entry.entry_no - head.from_entry + 1)::integer
    );
    heads := fiscal.merkle_path(array(
        select convert_to(h.leaf, 'UTF8') from fiscal.anchored_heads as h
        where h.anchor_id = head.anchor_id order by h.leaf_no
    ), head.leaf_no);
    return public.reply(caller, 200, json_build_object(
        'object', 'inclusion_proof',
        'entry', json_build_object(
            'fiscal_number', entry.fiscal_number, 'entry_no', entry.entry_no,
            'canonical_payload_hash', entry.canonical_payload_hash, 'sealed_at', entry.sealed_at,
            'previous_hash', entry.previous_hash, 'entry_hash', entry.entry_hash
        ),
        'entry_path', fiscal.hex_of(day.path),
        'head', head.leaf::json,
        'head_no', head.leaf_no,
        'head_path', fiscal.hex_of(heads.path),
        'anchor', signing.statement_resource(head.anchor_id)
    ));
end
$$;
comment on function fiscal.inclusion_proof is
'Why a document cannot be changed any more: the way from its entry to the head of its day, and from there to the published root. 40911 while its day is not anchored.';

create function fiscal.hex_of(path bytea[])
returns text[]
language plpgsql
immutable
set search_path = ''
as $$
begin
    return array(select encode(node.hash, 'hex') from unnest(path) with ordinality as node (hash, place) order by node.place);
end
$$;
comment on function fiscal.hex_of is 'Hashes as lower-case hexadecimal text, in their order.';

reset role;
