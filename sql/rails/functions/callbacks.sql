-- Callbacks: kept as they came, then concluded from, in one transaction.

set role stalela_owner;

create function rails.too_many_callbacks(transfer_id text, source_trusted boolean)
returns boolean
language plpgsql
stable
security definer -- callers may not read callbacks
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Anybody may post, and nothing here is ever deleted. A rail repeats itself a few times, a forger without end.
    if too_many_callbacks.transfer_id is null then
        return (
            select count(*) >= 1000
            from (
                select from rails.callbacks as c
                where c.transfer_id is null and c.tenant_id is null and c.received_at > now() - interval '1 hour'
                limit 1000
            ) as recent
        );
    end if;
    return (
        select count(*) >= 100
        from (
            select from rails.callbacks as c
            where
                c.transfer_id = too_many_callbacks.transfer_id
                -- Strangers fill their own hundred and leave the rail its own.
                and c.source_trusted = too_many_callbacks.source_trusted
            limit 100
        ) as kept
    );
end
$$;
comment on function rails.too_many_callbacks is
'Whether this callback is one too many to keep: 1,000 unmatched ones an hour, for one transfer 100 from the rail''s addresses and 100 from others.';

create function rails.receive_callback(
    rail text, token_hash text, source_address text, source_trusted boolean, headers jsonb,
    body_sealed text, body_hash text, events jsonb, problem text, kind text default 'collect'
)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write callbacks
set search_path = ''
as $$
#variable_conflict use_column
declare
    attempt payments.attempts;
    kept rails.callbacks;
    earlier rails.callbacks;
    key text;
    disposition text;
begin
    select a.* into attempt from payments.attempts as a where a.callback_token_hash = receive_callback.token_hash;
    if rails.too_many_callbacks(attempt.transfer_id, receive_callback.source_trusted) then
        perform public.raise_alert(
            'callbacks_not_kept', 'critical', coalesce(attempt.transfer_id, receive_callback.rail || ' unmatched'),
            attempt.tenant_id, attempt.environment, jsonb_build_object('source_address', receive_callback.source_address)
        );
        return jsonb_build_object('disposition', 'ignored', 'reason', 'too_many', 'transfer_id', attempt.transfer_id);
    end if;
    -- Only a body with a token of ours, from an address of the rail where those are listed, may claim the identity
    -- of a rail's message; a forger cannot occupy it.
    key := case
        when attempt.transfer_id is not null and receive_callback.source_trusted and events is not null then concat_ws(
            '|', receive_callback.rail, attempt.transfer_id, nullif(kind, 'collect'),
            -- Each question has an answer of its own, though the rail's words be the same.
            case when kind = 'status' then receive_callback.token_hash end,
            events -> 0 ->> 'rail_ref', events -> 0 ->> 'code'
        )
        else concat_ws('|', receive_callback.rail, 'raw', receive_callback.token_hash, receive_callback.body_hash)
    end;
    loop
        insert into rails.callbacks (
            rail, tenant_id, environment, transfer_id, dedupe_key, token_hash, source_address, source_trusted,
            headers, body_sealed, events, problem, kind
        ) values (
            receive_callback.rail, attempt.tenant_id, attempt.environment, attempt.transfer_id, key,
            receive_callback.token_hash, receive_callback.source_address, receive_callback.source_trusted,
            receive_callback.headers, receive_callback.body_sealed, receive_callback.events, receive_callback.problem,
            receive_callback.kind
        )
        on conflict (dedupe_key) do nothing
        returning * into kept;
        exit when found;

        select c.* into earlier from rails.callbacks as c where c.dedupe_key = key;
        if earlier.events is not distinct from receive_callback.events then
            return jsonb_build_object('disposition', 'duplicate', 'transfer_id', attempt.transfer_id);
        end if;
        -- Same identity, other content: keep this one too, for a person.
        key := key || '|' || receive_callback.body_hash;
        problem := 'contradicts an earlier callback of the same identity';
    end loop;

    disposition := rails.conclude_callback(kept.callback_id, receive_callback.problem);
    return jsonb_build_object(
        'disposition', split_part(disposition, ':', 1),
        'reason', nullif(split_part(disposition, ':', 2), ''),
        'transfer_id', attempt.transfer_id
    );
end
$$;
comment on function rails.receive_callback is
'Stores the sealed body, then applies its events to the transfer its token belongs to; a repeated callback changes nothing. Returns {disposition, reason, transfer_id}.';

create function rails.conclude_callback(callback_id bigint, problem text)
returns text
language plpgsql
volatile
security definer -- callers may not write dispositions
set search_path = ''
as $$
#variable_conflict use_column
declare
    kept rails.callbacks;
    concluded text;
    told jsonb;
begin
    select c.* into kept from rails.callbacks as c where c.callback_id = conclude_callback.callback_id;
    if kept.kind = 'confirmation' and kept.tenant_id is not null and conclude_callback.problem is null then
        begin
            concluded := rails.conclude_deposit(kept);
        exception when others then
            concluded := 'failed:' || sqlstate || ' ' || translate(sqlerrm, ':', ' ');
        end;
    elsif kept.transfer_id is null and kept.tenant_id is null then
        concluded := 'parked:unknown_token';
    elsif conclude_callback.problem is not null or kept.transfer_id is null then
        concluded := 'parked:' || translate(coalesce(conclude_callback.problem, kept.kind), ':', ' ');
        perform rails.watch_soon(t, null) from payments.transfers as t where t.transfer_id = kept.transfer_id
            and t.state in ('SUBMITTED', 'ACCEPTED');
    else
        begin
            for told in select e from jsonb_array_elements(kept.events) as e loop
                if kept.kind <> 'status' then
                    concluded := rails.apply_event(kept.transfer_id, told, 'callback', kept.source_trusted);
                elsif kept.source_trusted then
                    concluded := rails.apply_query(kept.transfer_id, told);
                else
                    -- Asking again would only bring the same address.
                    concluded := 'parked:untrusted_source';
                end if;
            end loop;
            concluded := coalesce(concluded, 'parked:no_event');
        exception when others then
            -- The body is kept whatever happens; a task concludes again.
            concluded := 'failed:' || sqlstate || ' ' || translate(sqlerrm, ':', ' ');
        end;
    end if;

    insert into rails.callback_dispositions (callback_id, number, tenant_id, environment, disposition, reason)
    values (
        kept.callback_id,
        1 + (select count(*) from rails.callback_dispositions as d where d.callback_id = kept.callback_id),
        kept.tenant_id, kept.environment, split_part(concluded, ':', 1), nullif(split_part(concluded, ':', 2), '')
    );
    if concluded like 'parked%' or concluded like 'failed%' then
        perform public.raise_alert(
            'callback_parked', 'warning', coalesce(kept.transfer_id, kept.rail || ' unmatched'), kept.tenant_id,
            kept.environment, jsonb_build_object('callback_id', kept.callback_id, 'disposition', concluded)
        );
    end if;
    return concluded;
end
$$;
comment on function rails.conclude_callback is 'Draws the conclusion from one stored callback and appends it; whatever goes wrong, the callback stays and an alert opens.';

create function rails.retry_failed_callbacks()
returns integer
language plpgsql
volatile
security definer -- callers may not read callbacks
set search_path = ''
as $$
declare
    again bigint;
    tried integer := 0;
begin
    for again in
        select d.callback_id
        from rails.callback_dispositions as d
        where
            d.disposition = 'failed' and d.number < 10
            and not exists (
                select from rails.callback_dispositions as later
                where later.callback_id = d.callback_id and later.number > d.number
            )
        order by d.callback_id
        limit 100
    loop
        perform rails.conclude_callback(again, null);
        tried := tried + 1;
    end loop;
    return tried;
end
$$;
comment on function rails.retry_failed_callbacks is 'Concludes again from callbacks whose first conclusion failed (a lock, a bug since fixed), ten times at most. A cron task.';

create function rails.list_parked_callbacks(before_id bigint, page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read callbacks
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('payments:read', 'read');
    body text;
begin
    select string_agg(row_to_json(parked)::text, ',' order by parked.id desc) into body
    from (
        select
            c.callback_id as id, c.rail, c.transfer_id, d.reason, c.source_address, c.source_trusted,
            c.events, c.received_at
        from rails.callbacks as c
        inner join lateral (
            select l.disposition, l.reason
            from rails.callback_dispositions as l
            where l.callback_id = c.callback_id
            order by l.number desc
            limit 1
        ) as d on d.disposition in ('parked', 'failed')
        where
            c.callback_id < list_parked_callbacks.before_id
            -- An unmatched callback belongs to nobody: only the platform's operators see it.
            and (
                public.holds_scope(caller.scopes, 'platform:operate')
                or (c.tenant_id = caller.tenant_id and c.environment = caller.environment)
            )
        order by c.callback_id desc
        limit list_parked_callbacks.page_size
    ) as parked;
    return row(200, format('{"data":[%s]}', body), caller.rate);
end
$$;
comment on function rails.list_parked_callbacks is
'Callbacks that wait for a person, newest first: a tenant''s own, or all of them for operators (platform:operate).';

reset role;
