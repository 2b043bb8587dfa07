-- Idempotency: the same key twice is one effect and one answer.

set role stalela_owner;

create function public.claim_idempotency(caller public.caller, route text, key text, body_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    stored public.idempotency_keys;
    -- Longer than any outside call; an unanswered claim that is older belongs to a request that died.
    lease constant interval := interval '60 seconds';
begin
    -- Two tests, because a bounded repetition makes an automaton of 128 states.
    if length(key) between 1 and 128 is not true or key ~ '[^\x21-\x7e]' then
        perform public.refuse(
            '40002', 'Send an Idempotency-Key header of 1 to 128 visible characters.',
            '{"errors": [{"pointer": "/headers/idempotency-key", "detail": "1 to 128 visible ASCII characters"}]}'
        );
    end if;
    -- A twin that runs at the same moment waits here until the first has ended.
    insert into public.idempotency_keys (tenant_id, environment, route, key, body_hash)
    values (
        (claim_idempotency.caller).tenant_id, (claim_idempotency.caller).environment, claim_idempotency.route,
        claim_idempotency.key, claim_idempotency.body_hash
    )
    on conflict on constraint idempotency_keys_pkey do nothing;
    if found then
        return null;
    end if;

    select k.* into strict stored
    from public.idempotency_keys as k
    where
        k.tenant_id = (claim_idempotency.caller).tenant_id
        and k.environment = (claim_idempotency.caller).environment
        and k.route = claim_idempotency.route
        and k.key = claim_idempotency.key;
    if stored.body_hash <> body_hash then
        perform public.refuse('42241', 'This Idempotency-Key was used before with another request body.');
    elsif stored.status is not null then
        return row(
            stored.status, stored.body, stored.headers || caller.rate || '{"Idempotent-Replayed": "true"}'
        )::public.answer;
    elsif stored.claimed_at > clock_timestamp() - lease then
        perform public.refuse(
            '40904', 'A request with this Idempotency-Key is still running.',
            '{"retry_after": 2}'
        );
    end if;
    return row(null, coalesce(stored.resource_id, ''), '{}')::public.answer;
end
$$;
comment on function public.claim_idempotency is
'All null: first, go on. With a status: the stored answer, send it. Status null and a body: the first request died while a rail was asked; answer with the present state of the resource named there. 40002, 42241, 40904.';

create function public.bind_idempotency(caller public.caller, route text, key text, resource_id text)
returns void
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
begin
    update public.idempotency_keys as k
    set resource_id = bind_idempotency.resource_id
    where
        k.tenant_id = (bind_idempotency.caller).tenant_id
        and k.environment = (bind_idempotency.caller).environment
        and k.route = bind_idempotency.route
        and k.key = bind_idempotency.key;
end
$$;
comment on function public.bind_idempotency is
'Notes what a claimed key is about before an outside call, so that a retry after a crash finds it.';

create function public.remember_answer(
    caller public.caller, route text, key text, resource_id text, answer public.answer
)
returns void
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
begin
    update public.idempotency_keys as k
    set
        resource_id = remember_answer.resource_id,
        status = (remember_answer.answer).status,
        body = (remember_answer.answer).body,
        -- A replay counts against the limits of its own moment.
        headers = coalesce((remember_answer.answer).headers, '{}')
            - '{RateLimit-Limit,RateLimit-Remaining,RateLimit-Reset}'::text[]
    where
        k.tenant_id = (remember_answer.caller).tenant_id
        and k.environment = (remember_answer.caller).environment
        and k.route = remember_answer.route
        and k.key = remember_answer.key
        and k.status is null;
end
$$;
comment on function public.remember_answer is 'Stores the answer of a claimed key, once; in the transaction of the effect.';

create function public.forget_idempotency(caller public.caller, route text, key text)
returns void
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
begin
    delete from public.idempotency_keys as k
    where
        k.tenant_id = (forget_idempotency.caller).tenant_id
        and k.environment = (forget_idempotency.caller).environment
        and k.route = forget_idempotency.route
        and k.key = forget_idempotency.key
        and k.status is null;
end
$$;
comment on function public.forget_idempotency is 'Frees a claimed key whose request had no effect, so that it may be sent again; an answered one stays.';

create function public.purge_idempotency_keys()
returns integer
language plpgsql
volatile
security definer -- callers may not write keys
set search_path = ''
as $$
declare
    purged integer;
begin
    delete from public.idempotency_keys as k
    where k.ctid = any(array(
        select e.ctid
        from public.idempotency_keys as e
        where e.expires_at <= now()
        order by e.expires_at
        limit 5000
        for update skip locked
    ));
    get diagnostics purged = row_count;
    return purged;
end
$$;
comment on function public.purge_idempotency_keys is 'Removes up to 5,000 keys older than 36 hours. A cron task.';

reset role;
