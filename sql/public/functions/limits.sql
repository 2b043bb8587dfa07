-- Rate limits: token buckets.

set role stalela_owner;

create function public.take_token(caller public.caller, bucket text)
returns jsonb
language plpgsql
volatile
security definer -- callers may not write buckets
set search_path = ''
as $$
declare
    limits record;
    now_us bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    price_us bigint;
    full_at_us bigint;
begin
    select
        case when o.tenant_id is null then p.rate_per_minute else o.rate_per_minute end as rate_per_minute,
        case when o.tenant_id is null then p.burst else o.burst end as burst
    into limits
    from public.rate_limit_plans as p
    left join public.rate_limit_overrides as o
        on o.tenant_id = (take_token.caller).tenant_id and o.bucket = p.bucket
    where
        p.bucket = take_token.bucket
        and p.plan = coalesce(
            (select t.plan from public.tenants as t where t.tenant_id = (take_token.caller).tenant_id), 'basic'
        );
    if not found then
        raise exception 'there is no rate limit bucket %', bucket;
    elsif limits.rate_per_minute is null then
        return '{}'::jsonb;
    end if;

    -- A full bucket lies in the past; each token moves that moment on by its price, at most burst tokens ahead of now.
    price_us := 60000000::bigint / limits.rate_per_minute;
    insert into public.rate_buckets as b (actor, bucket, full_at_us)
    values ((take_token.caller).actor, take_token.bucket, now_us + price_us)
    on conflict on constraint rate_buckets_pkey do update
    set full_at_us = greatest(b.full_at_us, now_us) + price_us
    where greatest(b.full_at_us, now_us) + price_us <= now_us + limits.burst * price_us
    returning b.full_at_us into full_at_us;
    if not found then
        perform public.refuse_too_many((take_token.caller).actor, bucket, now_us, price_us, limits.burst);
    end if;
    return jsonb_build_object(
        'RateLimit-Limit', limits.burst::text,
        'RateLimit-Remaining', ((now_us + limits.burst * price_us - full_at_us) / price_us)::text,
        'RateLimit-Reset', ((full_at_us - now_us + 999999) / 1000000)::text
    );
end
$$;
comment on function public.take_token is
'Takes one token in one statement and returns the RateLimit-* headers; 42901 with the seconds to wait when the bucket is empty. A request that is refused later gives its token back with its transaction.';

create function public.refuse_too_many(actor text, bucket text, now_us bigint, price_us bigint, burst integer)
returns void
language plpgsql
volatile
security definer -- callers may not read buckets
set search_path = ''
as $$
declare
    wait_us bigint;
begin
    select b.full_at_us + price_us - (now_us + burst * price_us) into wait_us
    from public.rate_buckets as b
    where b.actor = refuse_too_many.actor and b.bucket = refuse_too_many.bucket;
    perform public.refuse(
        '42901',
        format('At most %s requests of this kind at once, then one every %s ms.', burst, (price_us + 999) / 1000),
        jsonb_build_object(
            'retry_after', greatest(1, (wait_us + 999999) / 1000000),
            'headers', jsonb_build_object('RateLimit-Limit', burst::text, 'RateLimit-Remaining', '0')
        )
    );
end
$$;
comment on function public.refuse_too_many is 'Refuses with 42901 and the whole seconds until a token is there again.';

create function public.purge_rate_buckets()
returns integer
language plpgsql
volatile
security definer -- callers may not write buckets
set search_path = ''
as $$
declare
    purged integer;
begin
    delete from public.rate_buckets as b
    where (b.actor, b.bucket) in (
        select f.actor, f.bucket
        from public.rate_buckets as f
        where f.full_at_us < extract(epoch from now() - interval '1 hour') * 1000000
        limit 5000
        for update skip locked
    );
    get diagnostics purged = row_count;
    return purged;
end
$$;
comment on function public.purge_rate_buckets is 'Removes up to 5,000 buckets that have been full for an hour: the same as new ones. A cron task.';

reset role;
