-- Screening: who is compared with the lists, what came of it, what a transfer needs.

set role stalela_owner;

create function compliance.party_resource(party compliance.parties, show_matches boolean)
returns json
language plpgsql
stable
security definer -- callers may not read results
set search_path = ''
as $$
begin
    return (
        select json_build_object(
            'id', party.party_id, 'object', 'party', 'reference', party.reference, 'name', party.name_masked,
            'phone', party.phone_masked, 'payment_intent_id', party.payment_intent_id,
            'decision', coalesce(party.decision, 'pending'), 'score', party.score,
            'list_version', party.list_version, 'screened_at', party.screened_at,
            -- Whoever is told what was found could tell the party.
            'matches', case when show_matches then coalesce((
                select r.matches from compliance.screening_results as r
                where r.party_id = (party_resource.party).party_id
                order by r.created_at desc, r.screening_id desc
                limit 1
            ), '[]') end,
            'environment', party.environment, 'created_at', party.created_at
        )
    );
end
$$;
comment on function compliance.party_resource is 'The wire shape of a party, personal values masked; what matched is for operators only.';

create function compliance.put_party(
    reference text, profile_sealed text, name_masked text, phone_masked text, party_hashes text[], fingerprint text
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:write', 'write');
    known text;
begin
    select k.party_id into known
    from compliance.party_keys as k
    where
        k.tenant_id = caller.tenant_id and k.environment = caller.environment
        and k.party_hash = any(put_party.party_hashes)
    limit 1;
    if known is null then
        known := public.new_id('pty');
        insert into compliance.parties (
            party_id, tenant_id, environment, reference, profile_sealed, name_masked, phone_masked, fingerprint
        ) values (
            known, caller.tenant_id, caller.environment, put_party.reference, put_party.profile_sealed,
            put_party.name_masked, put_party.phone_masked, put_party.fingerprint
        );
        begin
            insert into compliance.party_keys (tenant_id, environment, party_hash, party_id)
            select caller.tenant_id, caller.environment, h, known from unnest(put_party.party_hashes) as h;
        exception when unique_violation then
            perform public.refuse('40904', 'Somebody is registering this party at this moment.', '{"retry_after": 1}');
        end;
    else
        -- Another name is another party on the same phone: what was decided about the old one is over.
        update compliance.parties as p
        set
            reference = coalesce(put_party.reference, p.reference), profile_sealed = put_party.profile_sealed,
            name_masked = put_party.name_masked, phone_masked = put_party.phone_masked,
            decision = case when p.fingerprint = put_party.fingerprint then p.decision end,
            score = case when p.fingerprint = put_party.fingerprint then p.score end,
            list_version = case when p.fingerprint = put_party.fingerprint then p.list_version end,
            fingerprint = put_party.fingerprint, updated_at = now()
        where p.party_id = known;
    end if;
    return jsonb_build_object(
        'party_id', known, 'tenant_id', caller.tenant_id, 'environment', caller.environment, 'actor', caller.actor,
        'exempt', compliance.exempt_entries(caller.tenant_id, caller.environment, put_party.fingerprint),
        'headers', caller.rate
    );
end
$$;
comment on function compliance.put_party is
'Registers whom a tenant pays or is paid by, or updates them, found by the hash of their phone. The screening follows; a new name makes the party pending again.';

create function compliance.name_party(
    profile_sealed text, name_masked text, phone_masked text, party_hashes text[]
)
returns text
language plpgsql
volatile
security definer -- callers may not write parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.caller();
    named text := public.new_id('pty');
    taken integer;
begin
    if not (
        public.holds_scope(caller.scopes, 'payments:write') or public.holds_scope(caller.scopes, 'payouts:write')
    ) then
        perform public.refuse('40311', 'This needs the scope payments:write or payouts:write.');
    end if;
    insert into compliance.parties (
        party_id, tenant_id, environment, profile_sealed, name_masked, phone_masked
    ) values (
        named, caller.tenant_id, caller.environment, name_party.profile_sealed, name_party.name_masked,
        name_party.phone_masked
    );
    insert into compliance.party_keys (tenant_id, environment, party_hash, party_id)
    select caller.tenant_id, caller.environment, h, named from unnest(name_party.party_hashes) as h
    on conflict on constraint party_keys_pkey do nothing;
    get diagnostics taken = row_count;
    if taken = 0 then
        -- Somebody named this party a moment ago; theirs is screened.
        delete from compliance.parties as p where p.party_id = named;
        return null;
    end if;
    perform public.poke('compliance');
    return named;
end
$$;
comment on function compliance.name_party is
'A request that may not go on without it names its party: kept, and the compliance function woken to screen it. Whom somebody registered already stays as they are (null).';

create function compliance.exempt_entries(tenant_id text, environment text, fingerprint text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read exemptions
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(x.source || ':' || x.ref), '[]')
        from compliance.exemptions as x
        where
            x.tenant_id = exempt_entries.tenant_id and x.environment = exempt_entries.environment
            and x.fingerprint = exempt_entries.fingerprint
    );
end
$$;
comment on function compliance.exempt_entries is 'The entries ("source:ref") that this party of this tenant is known not to be.';

create function compliance.screening_context(tenant_id text, environment text, fingerprints text[])
returns jsonb
language plpgsql
volatile
security definer -- callers may not read exemptions
set search_path = ''
as $$
declare
    caller public.caller := public.staff();
begin
    return jsonb_build_object('actor', caller.actor, 'headers', caller.rate, 'exempt', (
        select coalesce(jsonb_object_agg(f, compliance.exempt_entries(
            screening_context.tenant_id, screening_context.environment, f
        )), '{}')
        from unnest(screening_context.fingerprints) as f
    ));
end
$$;
comment on function compliance.screening_context is 'Before a screening on request: who asks (operators and ourselves), and which matches are known to be false.';

create function compliance.keep_result(result jsonb)
returns text
language plpgsql
volatile
security definer -- callers may not write results
set search_path = ''
as $$
declare
    kept text := public.new_id('scr');
begin
    insert into compliance.screening_results (
        screening_id, tenant_id, environment, party_id, transfer_id, role, fingerprint, decision, score, matches,
        list_version, screened_by
    ) values (
        kept, result ->> 'tenant_id', result ->> 'environment', result ->> 'party_id', result ->> 'transfer_id',
        result ->> 'role', result ->> 'fingerprint', result ->> 'decision', (result ->> 'score')::integer,
        result -> 'matches', (result ->> 'list_version')::bigint, result ->> 'screened_by'
    );
    return kept;
end
$$;
comment on function compliance.keep_result is 'Appends one screening result; its id.';

create function compliance.record_screenings(results jsonb, headers jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write results
set search_path = ''
as $$
declare
    result jsonb;
    kept jsonb := jsonb_build_array();
begin
    for result in select r.value from jsonb_array_elements(record_screenings.results) as r (value) loop
        kept := kept || jsonb_build_array(jsonb_build_object(
            'screening_id', compliance.keep_result(result), 'role', result -> 'role', 'decision', result -> 'decision',
            'score', result -> 'score', 'matches', result -> 'matches'
        ));
    end loop;
    return row(200, (
        select json_build_object(
            'object', 'screening',
            -- All parties must pass.
            'decision', case
                when bool_or(r ->> 'decision' = 'deny') then 'deny'
                when bool_or(r ->> 'decision' = 'hold') then 'hold'
                else 'clear'
            end,
            'score', max((r ->> 'score')::integer),
            'list_version', min((r ->> 'list_version')::bigint),
            'parties', kept
        )
        from jsonb_array_elements(record_screenings.results) as r
    )::text, record_screenings.headers)::public.answer;
end
$$;
comment on function compliance.record_screenings is 'Keeps what a screening on request found, and answers it: the worst of its parties decides.';

create function compliance.record_party(result jsonb, show_matches boolean, headers jsonb)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    was compliance.parties;
    party compliance.parties;
begin
    select p.* into was from compliance.parties as p where p.party_id = record_party.result ->> 'party_id' for update;
    if not found then
        perform public.refuse('40401', 'There is no such party.');
    end if;
    perform compliance.keep_result(
        result || jsonb_build_object('tenant_id', was.tenant_id, 'environment', was.environment)
    );
    update compliance.parties as p
    set
        decision = record_party.result ->> 'decision', score = (record_party.result ->> 'score')::integer,
        list_version = (record_party.result ->> 'list_version')::bigint, screened_at = now(), lease_until = null,
        fingerprint = record_party.result ->> 'fingerprint',
        name_masked = coalesce(p.name_masked, record_party.result ->> 'name_masked'), updated_at = now()
    where
        p.party_id = was.party_id
        -- The party was given another name meanwhile: that one is still to be screened.
        and coalesce(p.fingerprint, record_party.result ->> 'fingerprint') = record_party.result ->> 'fingerprint'
    returning p.* into party;
    if not found then
        party := was;
    elsif party.decision <> 'clear' and was.decision is distinct from party.decision then
        perform public.raise_alert(
            'party_flagged', 'critical', party.party_id, party.tenant_id, party.environment,
            jsonb_build_object('decision', party.decision, 'score', party.score, 'list_version', party.list_version)
        );
    elsif party.decision = 'clear' then
        perform public.resolve_alert('party_flagged', party.party_id, 'screened clear');
    end if;
    return row(200, compliance.party_resource(party, show_matches)::text, headers)::public.answer;
end
$$;
comment on function compliance.record_party is
'Keeps what the screening of a party found and puts its decision in force; a party that was not flagged before raises an alert.';

create function compliance.get_party(party_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    is_operator boolean := public.holds_scope(caller.scopes, 'platform:operate');
    party compliance.parties;
begin
    select p.* into party
    from compliance.parties as p
    where
        p.party_id = get_party.party_id
        and (is_operator or (p.tenant_id = caller.tenant_id and p.environment = caller.environment));
    if not found then
        perform public.refuse('40401', format('There is no party %s here.', get_party.party_id));
    end if;
    return public.reply(caller, 200, compliance.party_resource(party, is_operator));
end
$$;
comment on function compliance.get_party is 'A party as its tenant sees it, or as an operator does.';

create function compliance.exempt_party(party_id text, entries jsonb, reason text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write exemptions
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    owner public.caller := caller;
    party compliance.parties;
begin
    select p.* into party from compliance.parties as p where p.party_id = exempt_party.party_id for update;
    if not found then
        perform public.refuse('40401', format('There is no party %s here.', exempt_party.party_id));
    elsif party.decision is null or party.decision = 'clear' then
        perform public.refuse('40911', 'This party was not flagged.', jsonb_build_object(
            'current_state', coalesce(party.decision, 'pending'), 'allowed', '[]'::jsonb
        ));
    elsif exists (
        select from jsonb_to_recordset(exempt_party.entries) as g (source text, ref text)
        where not exists (
            select from compliance.screening_results as r
            where
                r.party_id = party.party_id
                and r.matches @> jsonb_build_array(jsonb_build_object('source', g.source, 'ref', g.ref))
        )
    ) then
        perform public.refuse_field('42262', '/entries', 'only entries that this party was matched with can be cleared.');
    end if;
    insert into compliance.exemptions (tenant_id, environment, fingerprint, source, ref, reason, cleared_by)
    select party.tenant_id, party.environment, party.fingerprint, g.source, g.ref, exempt_party.reason, caller.actor
    from jsonb_to_recordset(exempt_party.entries) as g (source text, ref text)
    on conflict on constraint exemptions_pkey do nothing;
    owner.tenant_id := party.tenant_id;
    owner.environment := party.environment;
    perform public.audit(owner, 'party.clear', party.party_id, jsonb_build_object(
        'entries', exempt_party.entries, 'reason', exempt_party.reason
    ));
    return jsonb_build_object(
        'party_id', party.party_id, 'tenant_id', party.tenant_id, 'environment', party.environment,
        'is_customer', party.payment_intent_id is not null, 'profile_sealed', party.profile_sealed,
        'actor', caller.actor, 'headers', caller.rate,
        'exempt', compliance.exempt_entries(party.tenant_id, party.environment, party.fingerprint)
    );
end
$$;
comment on function compliance.exempt_party is
'An operator says that a flagged party is not those entries, and why; audited. It is screened again at once.';

create function compliance.list_screenings(transfer_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read results
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    is_operator boolean := public.holds_scope(caller.scopes, 'platform:operate');
begin
    perform from payments.transfers as t
    where
        t.transfer_id = list_screenings.transfer_id
        and (is_operator or (t.tenant_id = caller.tenant_id and t.environment = caller.environment));
    if not found then
        perform public.refuse('40401', format('There is no transfer %s here.', list_screenings.transfer_id));
    end if;
    return public.reply(caller, 200, json_build_object(
        'transfer_id', list_screenings.transfer_id,
        'data', (
            select coalesce(json_agg(row_to_json(s) order by s.screened_at), '[]')
            from (
                select
                    c.party_id, 'party' as role, c.decision, c.score, c.list_version, c.screened_at,
                    case when is_operator then '[]'::jsonb end as matches
                from compliance.transfer_clearances as c
                where c.transfer_id = list_screenings.transfer_id
                union all
                select r.party_id, r.role, r.decision, r.score, r.list_version, r.created_at,
                    case when is_operator then r.matches end
                from compliance.screening_results as r
                where r.transfer_id = list_screenings.transfer_id
            ) as s
        )
    ));
end
$$;
comment on function compliance.list_screenings is 'On what a transfer was let through, and every screening that named it.';

create function compliance.require_clear(
    tenant_id text, environment text, party_hash text, transfer_id text
)
returns void
language plpgsql
volatile
security definer -- callers may not read parties
set search_path = ''
as $$
#variable_conflict use_column
declare
    party compliance.parties;
    current_version bigint := (compliance.index_state() ->> 'version')::bigint;
begin
    select p.* into party
    from compliance.party_keys as k
    inner join compliance.parties as p on p.party_id = k.party_id
    where
        k.tenant_id = require_clear.tenant_id and k.environment = require_clear.environment
        and k.party_hash = require_clear.party_hash;
    if not found then
        -- Nobody registered this phone; the intent may name its customer.
        select p.* into party
        from payments.transfers as t
        inner join compliance.parties as p on p.payment_intent_id = t.payment_intent_id
        where t.transfer_id = require_clear.transfer_id;
    end if;
    if party.party_id is null then
        perform public.refuse('42203', 'The parties of this organisation are screened: register this one with POST /functions/v1/compliance/parties first.');
    elsif party.decision = 'deny' then
        perform public.refuse('42201', 'Payments with this party are not possible.', jsonb_build_object(
            'reason', 'watchlist_hit', 'party_id', party.party_id
        ));
    elsif party.decision = 'hold' then
        perform public.refuse('42201', 'Payments with this party wait for a review.', jsonb_build_object(
            'reason', 'review_required', 'party_id', party.party_id
        ));
    elsif not compliance.lists_usable() or current_version = 0 then
        -- No decision was made, so nothing is sent.
        perform public.refuse('50301', 'Screening is not possible at the moment: its lists are too old.', '{"retry_after": 300}');
    elsif party.decision is null or party.list_version < current_version then
        perform public.refuse('50301', 'The screening of this party has not finished.', '{"retry_after": 2}');
    end if;
    if require_clear.transfer_id is not null then
        insert into compliance.transfer_clearances (
            transfer_id, tenant_id, environment, party_id, decision, score, list_version, screened_at
        ) values (
            require_clear.transfer_id, require_clear.tenant_id, require_clear.environment, party.party_id,
            party.decision, party.score, party.list_version, party.screened_at
        );
    end if;
end
$$;
comment on function compliance.require_clear is
'A tenant whose parties are screened may go on only with one that is clear under the lists in force. 42203 nobody registered it, 42201 flagged, 50301 nobody can say. Keeps on what the transfer was let through.';

create function compliance.note_customer()
returns trigger
language plpgsql
volatile
security definer -- whoever creates an intent may not write parties
set search_path = ''
as $$
begin
    if exists (
        select from compliance.profiles as p
        where p.tenant_id = new.tenant_id and p.environment = new.environment and 'in' = any(p.screening)
    ) then
        insert into compliance.parties (
            party_id, tenant_id, environment, payment_intent_id, reference, profile_sealed, name_masked
        ) values (
            public.new_id('pty'), new.tenant_id, new.environment, new.payment_intent_id,
            new.customer ->> 'reference', new.customer_sealed, new.customer ->> 'name'
        );
        perform public.poke('compliance');
    end if;
    return null;
end
$$;
comment on function compliance.note_customer is
'The customer whom a new intent names is screened, when its tenant''s payers are: the compliance function is woken for it.';

reset role;
