-- What a failed transfer gives back to its limits, and counters whose time is over.

set role stalela_owner;

create function compliance.note_outcome()
returns trigger
language plpgsql
volatile
security definer -- whoever moves a transfer may not write counters
set search_path = ''
as $$
begin
    insert into compliance.releases (tenant_id, environment, direction, party_hash, admitted_at, transfers, usd_micros)
    select
        new.tenant_id, new.environment, case when new.intent = 'PUSH' then 'out' else 'in' end,
        case when new.intent = 'PUSH' then new.payee_hash else new.payer_hash end,
        new.created_at, case when new.state = 'FAILED' then -1 else 1 end,
        ceil(new.amount_minor * 1000000.0 / x.minor_per_usd)
    from compliance.limit_rates as x
    where
        x.currency = new.currency
        -- What goes back, and what came by itself, was never measured.
        and new.purpose not in ('refund', 'c2b')
        -- Most tenants have no windows, so nothing was reserved.
        and exists (
            select from compliance.tenant_velocity as v
            where v.tenant_id = new.tenant_id and v.environment = new.environment
        );
    return null;
end
$$;
comment on function compliance.note_outcome is
'Gives back what a failed transfer had reserved, and takes it again when it succeeded late after all.';

create function compliance.fold_releases()
returns integer
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
#variable_conflict use_column
declare
    place record;
    folded integer := 0;
    here integer;
begin
    for place in
        select distinct r.tenant_id, r.environment from compliance.releases as r order by 1, 2 limit 200
    loop
        perform pg_catalog.pg_advisory_xact_lock(
            hashtext('compliance.reserve'), hashtext(place.environment || place.tenant_id)
        );
        with taken as (
            delete from compliance.releases as r
            where r.tenant_id = place.tenant_id and r.environment = place.environment
            returning r.direction, r.party_hash, r.admitted_at, r.transfers, r.usd_micros
        ),
        changes as (
            select
                t.direction, t.party_hash, s.span_s, compliance.bucket(t.admitted_at, s.span_s) as bucket_at,
                grouping(t.party_hash) as is_all,
                sum(t.transfers) as transfers, sum(t.transfers * t.usd_micros) as usd_micros
            from taken as t
            cross join (values (300), (3600), (86400)) as s (span_s)
            -- Each party for itself, and all of them for the tenant.
            group by grouping sets ((1, 2, 3, 4), (1, 3, 4))
        ),
        of_tenant as (
            -- Never below nothing: a limit may be younger than the transfer that gives its share back.
            update compliance.tenant_velocity as v
            set
                transfers = greatest(0, v.transfers + c.transfers),
                usd_micros = greatest(0, v.usd_micros + c.usd_micros)
            from changes as c
            where
                v.tenant_id = place.tenant_id and v.environment = place.environment and c.is_all = 1
                and v.direction = c.direction and v.span_s = c.span_s and v.bucket_at = c.bucket_at
        ),
        of_parties as (
            update compliance.party_velocity as v
            set
                transfers = greatest(0, v.transfers + c.transfers),
                usd_micros = greatest(0, v.usd_micros + c.usd_micros)
            from changes as c
            where
                v.tenant_id = place.tenant_id and v.environment = place.environment and c.is_all = 0
                and v.party_hash = c.party_hash
                and v.direction = c.direction and v.span_s = c.span_s and v.bucket_at = c.bucket_at
        )
        select count(*)::integer into here from taken;
        folded := folded + here;
    end loop;
    return folded;
end
$$;
comment on function compliance.fold_releases is 'Takes what was given back into the counters, tenant by tenant under its lock. A cron task.';

create function compliance.purge_velocity()
returns integer
language plpgsql
volatile
security definer -- callers may not write counters
set search_path = ''
as $$
declare
    purged integer;
    others integer;
begin
    delete from compliance.tenant_velocity as v
    where v.ctid = any(array(
        select o.ctid from compliance.tenant_velocity as o
        where
            o.bucket_at < now() - interval '2 hours'
            and o.bucket_at < now() - case o.span_s
                when 300 then interval '2 hours' when 3600 then interval '26 hours' else interval '32 days'
            end
        limit 20000
        for update skip locked
    ));
    get diagnostics purged = row_count;
    delete from compliance.party_velocity as v
    where v.ctid = any(array(
        select o.ctid from compliance.party_velocity as o
        where
            o.bucket_at < now() - interval '2 hours'
            and o.bucket_at < now() - case o.span_s
                when 300 then interval '2 hours' when 3600 then interval '26 hours' else interval '32 days'
            end
        limit 20000
        for update skip locked
    ));
    get diagnostics others = row_count;
    return purged + others;
end
$$;
comment on function compliance.purge_velocity is 'Removes up to 20,000 counters of each kind that no window reaches any more. A cron task.';

reset role;
