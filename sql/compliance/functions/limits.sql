-- What a tenant may move: tiers, amounts, corridors, velocity. Called before money is asked for or sent.

set role stalela_owner;

create type compliance.standing as (
    tier compliance.tiers, limits compliance.limits[], corridor text, minor_per_usd bigint, is_frozen boolean,
    must_be_clear boolean
);
comment on type compliance.standing is
'What holds for one transfer of a tenant: its tier, the limits of that tier, how far the money goes, what a dollar is worth, whether its party is frozen or must have been screened.';

create function compliance.standing_of(
    tenant_id text, environment text, direction text, rail text, currency text, party_hash text
)
returns compliance.standing
language plpgsql
stable
security definer -- callers may not read tiers
set search_path = ''
as $$
#variable_conflict use_column
declare
    found_standing compliance.standing;
begin
    select
        r,
        array(
            select l from compliance.limits as l
            where
                l.tier = r.tier
                and (l.direction is null or l.direction = standing_of.direction)
                and (l.rail is null or l.rail = standing_of.rail)
        ),
        case
            when f.country = t.country then 'domestic'
            when exists (
                select from compliance.country_regions as here
                inner join compliance.country_regions as there on there.region = here.region
                where here.country = t.country and there.country = f.country
            ) then 'regional'
            else 'international'
        end,
        (select x.minor_per_usd from compliance.limit_rates as x where x.currency = standing_of.currency),
        exists (
            select from compliance.freezes as z
            where
                z.party_hashes @> array[standing_of.party_hash] and z.lifted_at is null
                and z.environment = standing_of.environment
                and (z.tenant_id is null or z.tenant_id = standing_of.tenant_id)
        ),
        coalesce(standing_of.direction = any(p.screening), false)
    into found_standing
    from public.tenants as t
    left join compliance.profiles as p on p.tenant_id = t.tenant_id and p.environment = standing_of.environment
    left join directory.rail_facts as f on f.rail = standing_of.rail
    inner join compliance.tiers as r
        on r.tier = coalesce(p.tier, public.setting('compliance.tier_' || standing_of.environment) #>> '{}')
    where t.tenant_id = standing_of.tenant_id;
    return found_standing;
end
$$;
comment on function compliance.standing_of is 'Everything that one transfer of this tenant is measured with, in one statement.';

create function compliance.admit(
    tenant_id text, environment text, direction text, rail text, amount_minor bigint, currency text, party_hash text,
    transfer_id text default null
)
returns void
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    standing compliance.standing := compliance.standing_of(
        admit.tenant_id, admit.environment, admit.direction, admit.rail, admit.currency, admit.party_hash
    );
    limits compliance.limits[] := standing.limits;
    limit_row compliance.limits;
    usd_micros bigint;
begin
    if standing.is_frozen then
        perform public.refuse(
            '42201', 'Payments with this party are stopped.', '{"reason": "frozen"}'
        );
    elsif not admit.direction = any((standing.tier).directions) then
        perform public.refuse('42204', format(
            'Tier %s does not %s.', (standing.tier).tier, case admit.direction when 'out' then 'pay out' else 'collect' end
        ), jsonb_build_object('tier', (standing.tier).tier, 'limit', 'direction'));
    elsif not standing.corridor = any((standing.tier).corridors) then
        perform public.refuse('42204', format(
            'Tier %s takes no %s payments.', (standing.tier).tier, standing.corridor
        ), jsonb_build_object('tier', (standing.tier).tier, 'limit', 'corridor'));
    end if;
    if standing.must_be_clear then
        perform compliance.require_clear(admit.tenant_id, admit.environment, admit.party_hash, admit.transfer_id);
    end if;
    if cardinality(limits) = 0 then
        return;
    elsif standing.minor_per_usd is null then
        perform public.refuse('42206', format(
            'Tier %s has limits, and what %s is worth is not known here.', (standing.tier).tier, admit.currency
        ), jsonb_build_object('tier', (standing.tier).tier, 'limit', 'currency'));
    end if;

    usd_micros := ceil(admit.amount_minor * 1000000.0 / standing.minor_per_usd)::bigint;
    foreach limit_row in array limits loop
        if
            limit_row.subject = 'transfer'
            and (limit_row.corridor is null or limit_row.corridor = standing.corridor)
            and usd_micros > limit_row.max_usd_minor * 10000
        then
            perform compliance.refuse_amount(limit_row, standing, admit.currency);
        end if;
    end loop;
    if exists (select from unnest(limits) as l where l.subject <> 'transfer') then
        perform compliance.reserve(
            admit.tenant_id, admit.environment, admit.direction, admit.party_hash, usd_micros, standing, admit.currency
        );
    end if;
end
$$;
comment on function compliance.admit is
'May this transfer go ahead? Silence is yes, and counts it. 42201 frozen or flagged party, 42203 nobody screened it, 50301 nobody can say, 42204 the tier does not do this or not this much, 42206 a window or corridor is full: which, and when there is room. direction: in (to the tenant) or out. transfer_id, when it exists already, keeps on which screening it was let through. One read for a tenant without windows, else a lock, a sum and an upsert.';

create function compliance.check_party(transfer payments.transfers)
returns void
language plpgsql
volatile
security definer -- callers may not read freezes
set search_path = ''
as $$
declare
    party_hash text := coalesce(transfer.payee_hash, transfer.payer_hash);
    standing compliance.standing := compliance.standing_of(
        transfer.tenant_id, transfer.environment, case when transfer.intent = 'PUSH' then 'out' else 'in' end,
        transfer.rail, transfer.currency, party_hash
    );
begin
    if standing.is_frozen then
        perform public.refuse('42201', 'Payments with this party are stopped.', '{"reason": "frozen"}');
    elsif standing.must_be_clear then
        perform compliance.require_clear(transfer.tenant_id, transfer.environment, party_hash, null);
    end if;
end
$$;
comment on function compliance.check_party is
'May this transfer, which was admitted before or needs no room, still go to its party? For refunds, and for what waited for a second person. Counts nothing; 42201, 42203, 50301 as compliance.admit.';

create function compliance.refuse_amount(limit_row compliance.limits, standing compliance.standing, currency text)
returns void
language plpgsql
volatile
security definer -- callers may not read currencies
set search_path = ''
as $$
declare
    tier text := (standing.tier).tier;
    most text := public.format_amount(limit_row.max_usd_minor * standing.minor_per_usd / 100, currency);
    facts jsonb := jsonb_build_object('tier', tier, 'limit', limit_row.limit_name, 'maximum', most, 'errors',
        jsonb_build_array(jsonb_build_object('pointer', '/amount', 'detail', format('at most %s %s', most, currency))));
begin
    if limit_row.corridor is not null then
        perform public.refuse('42206', format(
            'Tier %s takes %s payments of at most %s %s.', tier, limit_row.corridor, most, currency
        ), facts);
    end if;
    perform public.refuse('42204', format('Tier %s takes payments of at most %s %s.', tier, most, currency), facts);
end
$$;
comment on function compliance.refuse_amount is
'One transfer is too much: 42206 for a corridor''s maximum, 42204 for the tier''s own. maximum is about that many of the currency.';

create function compliance.reserve(
    tenant_id text, environment text, direction text, party_hash text, usd_micros bigint,
    standing compliance.standing, currency text
)
returns void
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    used record;
begin
    -- Whoever reserves for this tenant at the same moment waits until we have committed, then sees our rows.
    perform pg_catalog.pg_advisory_xact_lock(
        hashtext('compliance.reserve'), hashtext(reserve.environment || reserve.tenant_id)
    );
    for used in
        select l.max_count, l.max_usd_minor, l as limit_row, u.transfers, u.usd_micros
        from unnest((reserve.standing).limits) as l
        -- compliance.usage, written out: this is on a payment's way.
        cross join lateral (
            select coalesce(sum(b.transfers), 0) as transfers, coalesce(sum(b.usd_micros), 0) as usd_micros
            from compliance.buckets_of(
                reserve.tenant_id, reserve.environment, l.direction,
                case when l.subject = 'party' then reserve.party_hash end, l.window_s
            ) as b
        ) as u
        where l.subject = 'tenant' or (l.subject = 'party' and reserve.party_hash is not null)
        order by l.limit_name
    loop
        if used.transfers + 1 > used.max_count or used.usd_micros + reserve.usd_micros > used.max_usd_minor * 10000 then
            perform compliance.refuse_window(
                used.limit_row, reserve.tenant_id, reserve.environment, reserve.party_hash, reserve.usd_micros,
                reserve.standing, reserve.currency
            );
        end if;
    end loop;

    insert into compliance.tenant_velocity as v (
        tenant_id, environment, direction, span_s, bucket_at, transfers, usd_micros
    )
    select
        reserve.tenant_id, reserve.environment, reserve.direction, s.span_s, compliance.bucket(now(), s.span_s), 1,
        reserve.usd_micros
    from unnest('{300,3600,86400}'::integer[]) as s (span_s)
    on conflict on constraint tenant_velocity_pkey do update
    set transfers = v.transfers + 1, usd_micros = v.usd_micros + excluded.usd_micros;
    if reserve.party_hash is not null then
        insert into compliance.party_velocity as v (
            tenant_id, environment, party_hash, direction, span_s, bucket_at, transfers, usd_micros
        )
        select
            reserve.tenant_id, reserve.environment, reserve.party_hash, reserve.direction, s.span_s,
            compliance.bucket(now(), s.span_s), 1, reserve.usd_micros
        from unnest('{300,3600,86400}'::integer[]) as s (span_s)
        on conflict on constraint party_velocity_pkey do update
        set transfers = v.transfers + 1, usd_micros = v.usd_micros + excluded.usd_micros;
    end if;
end
$$;
comment on function compliance.reserve is
'Counts one transfer of a limited tenant, or refuses it (42206). Two at once never pass a limit together.';

create function compliance.bucket(at_time timestamptz, span_s integer)
returns timestamptz
language plpgsql
immutable
set search_path = ''
as $$
begin
    return date_bin(make_interval(secs => span_s), at_time, '2000-01-01 00:00:00+00');
end
$$;
comment on function compliance.bucket is 'When the bucket of that many seconds began in which a moment lies.';

create function compliance.usage(tenant_id text, environment text, direction text, party_hash text, window_s integer)
returns table (transfers bigint, usd_micros bigint)
language plpgsql
stable
security definer -- callers may not read counters
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    select coalesce(sum(b.transfers), 0)::bigint, coalesce(sum(b.usd_micros), 0)::bigint
    from compliance.buckets_of(
        usage.tenant_id, usage.environment, usage.direction, usage.party_hash, usage.window_s
    ) as b;
end
$$;
comment on function compliance.usage is 'How much of a window is used, of a party or (null) of the tenant itself; direction null for both.';

create function compliance.buckets_of(
    tenant_id text, environment text, direction text, party_hash text, window_s integer
)
returns table (bucket_at timestamptz, transfers bigint, usd_micros bigint)
language plpgsql
stable
security definer -- callers may not read counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    width_s integer := case buckets_of.window_s when 3600 then 300 when 86400 then 3600 else 86400 end;
    -- A bucket counts until its last moment has left the window.
    since timestamptz := now() - make_interval(secs => buckets_of.window_s + width_s);
    directions text[] := case when buckets_of.direction is null then '{in,out}' else array[buckets_of.direction] end;
begin
    if buckets_of.party_hash is null then
        return query
        select v.bucket_at, v.transfers, v.usd_micros
        from compliance.tenant_velocity as v
        where
            v.tenant_id = buckets_of.tenant_id and v.environment = buckets_of.environment
            and v.direction = any(directions) and v.span_s = width_s and v.bucket_at > since;
    else
        return query
        select v.bucket_at, v.transfers, v.usd_micros
        from compliance.party_velocity as v
        where
            v.tenant_id = buckets_of.tenant_id and v.environment = buckets_of.environment
            and v.party_hash = buckets_of.party_hash
            and v.direction = any(directions) and v.span_s = width_s and v.bucket_at > since;
    end if;
    return query
    select compliance.bucket(r.admitted_at, width_s), r.transfers::bigint, r.transfers * r.usd_micros
    from compliance.releases as r
    where
        r.tenant_id = buckets_of.tenant_id and r.environment = buckets_of.environment
        and r.direction = any(directions)
        and (buckets_of.party_hash is null or r.party_hash = buckets_of.party_hash)
        and compliance.bucket(r.admitted_at, width_s) > since;
end
$$;
comment on function compliance.buckets_of is 'The buckets of a window, and what was given back to them since.';

create function compliance.refuse_window(
    limit_row compliance.limits, tenant_id text, environment text, party_hash text, usd_micros bigint,
    standing compliance.standing, currency text
)
returns void
language plpgsql
volatile
security definer -- callers may not read counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    tier text := (standing.tier).tier;
    hours integer := limit_row.window_s / 3600;
    span_s integer := case limit_row.window_s when 3600 then 300 when 86400 then 3600 else 86400 end;
    most text;
    room_at timestamptz;
begin
    most := case
        when limit_row.max_count is not null then format('%s payments', limit_row.max_count)
        else format('%s %s', public.format_amount(
            limit_row.max_usd_minor * standing.minor_per_usd / 100, refuse_window.currency
        ), refuse_window.currency)
    end;
    -- The oldest buckets leave first: the first moment at which what is left leaves room for this one.
    select min(b.bucket_at) + make_interval(secs => limit_row.window_s + span_s) into room_at
    from (
        select
            g.bucket_at,
            sum(g.transfers) over (order by g.bucket_at desc) - g.transfers as transfers_after,
            sum(g.usd_micros) over (order by g.bucket_at desc) - g.usd_micros as usd_micros_after
        from (
            select c.bucket_at, sum(c.transfers) as transfers, sum(c.usd_micros) as usd_micros
            from compliance.buckets_of(
                refuse_window.tenant_id, refuse_window.environment, (refuse_window.limit_row).direction,
                case when (refuse_window.limit_row).subject = 'party' then refuse_window.party_hash end,
                (refuse_window.limit_row).window_s
            ) as c
            group by c.bucket_at
        ) as g
    ) as b
    where
        b.transfers_after + 1 <= coalesce((refuse_window.limit_row).max_count, b.transfers_after + 1)
        and b.usd_micros_after + refuse_window.usd_micros
        <= coalesce((refuse_window.limit_row).max_usd_minor * 10000, b.usd_micros_after + refuse_window.usd_micros);
    perform public.refuse(
        '42206',
        format(
            'Tier %s takes at most %s in %s %s.%s', tier, most,
            case hours when 1 then 'an hour' when 24 then '24 hours' else '30 days' end,
            case when limit_row.subject = 'party' then 'with one party' else 'in all' end,
            case when room_at is null then ' This one alone is more than that.'
                else format(' There is room again at %s.', to_char(room_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
            end
        ),
        jsonb_strip_nulls(jsonb_build_object(
            'tier', tier, 'limit', limit_row.limit_name, 'maximum', most,
            'room_at', to_char(room_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'retry_after', ceil(extract(epoch from room_at - clock_timestamp()))::integer
        ))
    );
end
$$;
comment on function compliance.refuse_window is 'A window is full: 42206 with the limit''s name and when there is room again; without that, never.';

reset role;
