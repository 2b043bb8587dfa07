-- Event streams: a 60-second single-use token opens one, an unguessable stream id reads it.

set role stalela_owner;

create function payments.issue_stream_token(payment_intent_id text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write stream tokens
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    token text := payments.random_secret();
    expires timestamptz;
begin
    seen := payments.visible_intent(issue_stream_token.payment_intent_id, 'payments:read', 'read', false);
    insert into payments.stream_tokens (token_hash, tenant_id, environment, payment_intent_id)
    values (
        encode(sha256(convert_to(token, 'utf8')), 'hex'), (seen.caller).tenant_id, (seen.caller).environment,
        issue_stream_token.payment_intent_id
    )
    returning expires_at into expires;
    return row(201, json_build_object('object', 'stream_token', 'token', token, 'expires_at', expires)::text, (seen.caller).rate);
end
$$;
comment on function payments.issue_stream_token is 'A single-use token, 60 seconds long, that opens the event stream of this intent. 201.';

create function payments.open_stream(payment_intent_id text, token_hash text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write streams
set search_path = ''
as $$
#variable_conflict use_column
declare
    seen payments.sight;
    opened payments.streams;
begin
    if open_stream.token_hash is null then
        seen := payments.visible_intent(open_stream.payment_intent_id, 'payments:read', 'read', false);
        insert into payments.streams (stream_id, tenant_id, environment, payment_intent_id)
        values (
            payments.random_secret(), (seen.caller).tenant_id, (seen.caller).environment, open_stream.payment_intent_id
        )
        returning * into opened;
    else
        with used as (
            update payments.stream_tokens as t
            set used_at = now()
            where
                t.token_hash = open_stream.token_hash
                and t.payment_intent_id = open_stream.payment_intent_id
                and t.used_at is null
                and t.expires_at > now()
            returning t.*
        )
        insert into payments.streams (stream_id, tenant_id, environment, payment_intent_id)
        select payments.random_secret(), u.tenant_id, u.environment, u.payment_intent_id from used as u
        returning * into opened;
        if not found then
            perform public.refuse('40102', 'The stream token is unknown, used or older than 60 seconds: ask for a new one.');
        end if;
    end if;
    return jsonb_build_object(
        'stream_id', opened.stream_id,
        'expires_at', opened.expires_at,
        'lasts_s', extract(epoch from opened.expires_at - now()),
        'final_position', (
            select max(e.position)
            from payments.intent_events as e
            inner join payments.payment_intents as i on i.payment_intent_id = e.payment_intent_id
            where
                e.payment_intent_id = opened.payment_intent_id
                and i.status in ('succeeded', 'canceled', 'expired')
        )
    );
end
$$;
comment on function payments.open_stream is
'Opens a stream of 15 minutes, by the caller''s key or by a token (hash) that is used up here. final_position: the last event of an intent that is over, otherwise null. 40102 for a spent token.';

create function payments.read_streams(cursors jsonb)
returns jsonb
language sql
volatile
security definer -- callers may not read events
set search_path = ''
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'stream_id', s.stream_id, 'position', e.position, 'type', e.type,
        'resource', payments.intent_resource(i, false)
    ) order by e.position), '[]')
    from jsonb_each_text(read_streams.cursors) as c (stream_id, position)
    inner join payments.streams as s on s.stream_id = c.stream_id and s.expires_at > now()
    inner join payments.intent_events as e
        on e.payment_intent_id = s.payment_intent_id and e.position > c.position::bigint
    inner join payments.payment_intents as i on i.payment_intent_id = s.payment_intent_id;
$$;
comment on function payments.read_streams is
'New events of all the open streams of one instance in one call. cursors: {stream_id: last position seen}.';

create function payments.purge_streams()
returns integer
language sql
volatile
security definer -- callers may not delete
set search_path = ''
as $$
    with old_tokens as (
        delete from payments.stream_tokens where expires_at < now() - interval '1 hour' returning 1
    ),
    old_streams as (
        delete from payments.streams where expires_at < now() - interval '1 hour' returning 1
    )
    select ((select count(*) from old_tokens) + (select count(*) from old_streams))::integer;
$$;
comment on function payments.purge_streams is 'Deletes spent stream tokens and closed streams; returns how many. A cron task.';

reset role;
