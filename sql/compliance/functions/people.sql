-- What operators decide about tenants and parties: tiers, screening, freezes. What tenants see of it.

set role stalela_owner;

create function compliance.profile_resource(tenant_id text, environment text)
returns json
language plpgsql
stable
security definer -- callers may not read tiers
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select json_build_object(
            'object', 'compliance_profile', 'tenant_id', profile_resource.tenant_id,
            'environment', profile_resource.environment, 'tier', r.tier, 'label', r.label,
            'directions', r.directions, 'corridors', r.corridors, 'screening', coalesce(p.screening, '{}'),
            'limits', (
                select coalesce(json_agg(json_build_object(
                    'limit', l.limit_name, 'subject', l.subject, 'direction', l.direction, 'rail', l.rail,
                    'corridor', l.corridor, 'window_s', l.window_s, 'max_count', l.max_count,
                    'max_usd', public.format_amount(l.max_usd_minor, 'USD'),
                    'used_count', case when l.subject = 'tenant' then u.transfers end,
                    'used_usd', case when l.subject = 'tenant' then public.format_amount(u.usd_micros / 10000, 'USD') end
                ) order by l.limit_name), '[]')
                from compliance.limits as l
                left join lateral compliance.usage(
                    profile_resource.tenant_id, profile_resource.environment, l.direction, null,
                    coalesce(l.window_s, 3600)
                ) as u on l.subject = 'tenant'
                where l.tier = r.tier
            )
        )
        from compliance.tiers as r
        left join compliance.profiles as p
            on p.tenant_id = profile_resource.tenant_id and p.environment = profile_resource.environment
        where
            r.tier = coalesce(
                (
                    select o.tier from compliance.profiles as o
                    where o.tenant_id = profile_resource.tenant_id and o.environment = profile_resource.environment
                ),
                public.setting('compliance.tier_' || profile_resource.environment) #>> '{}'
            )
    );
end
$$;
comment on function compliance.profile_resource is
'The wire shape of a tenant''s tier and limits, with how full the windows of the tenant itself are; limits in US dollars, as they are compared.';

create function compliance.get_limits()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read tiers
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, compliance.profile_resource(caller.tenant_id, caller.environment));
end
$$;
comment on function compliance.get_limits is 'The caller''s own tier and limits.';

create function compliance.set_profile(
    tenant_id text, environment text, tier text, screening text[], reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write profiles
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    owner public.caller := caller;
begin
    perform from public.tenants as t where t.tenant_id = set_profile.tenant_id;
    if not found then
        perform public.refuse('40401', format('There is no organisation %s.', set_profile.tenant_id));
    end if;
    perform from compliance.tiers as r where r.tier = set_profile.tier;
    if not found then
        perform public.refuse_field('42262', '/tier', format('must be one of %s.', (
            select string_agg(r.tier, ', ' order by r.tier) from compliance.tiers as r
        )));
    end if;
    insert into compliance.profiles as p (tenant_id, environment, tier, screening, reason, changed_by)
    values (
        set_profile.tenant_id, set_profile.environment, set_profile.tier, set_profile.screening, set_profile.reason,
        caller.actor
    )
    on conflict on constraint profiles_pkey do update
    set
        tier = excluded.tier, screening = excluded.screening, reason = excluded.reason,
        changed_by = excluded.changed_by, updated_at = now();
    owner.tenant_id := set_profile.tenant_id;
    owner.environment := set_profile.environment;
    perform public.audit(owner, 'compliance.profile', set_profile.tenant_id, jsonb_build_object(
        'tier', set_profile.tier, 'screening', set_profile.screening, 'reason', set_profile.reason
    ));
    return public.reply(caller, 200, compliance.profile_resource(set_profile.tenant_id, set_profile.environment));
end
$$;
comment on function compliance.set_profile is
'An operator gives a tenant a tier and says whose parties are screened, with a reason; audited. In force for the next transfer.';

create function compliance.freeze_resource(frozen compliance.freezes)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', frozen.freeze_id, 'object', 'freeze', 'tenant_id', frozen.tenant_id, 'environment', frozen.environment,
        'party', frozen.party_masked, 'reason', frozen.reason, 'frozen_by', frozen.frozen_by,
        'created_at', frozen.created_at, 'status', case
            when frozen.lifted_at is not null then 'lifted' when frozen.lift_requested_by is not null then 'lift_requested'
            else 'frozen'
        end,
        'lift_requested_by', frozen.lift_requested_by, 'lift_reason', frozen.lift_reason,
        'lifted_by', frozen.lifted_by, 'lifted_at', frozen.lifted_at
    );
end
$$;
comment on function compliance.freeze_resource is 'The wire shape of a freeze.';

create function compliance.freeze_party(
    tenant_id text, environment text, party_hashes text[], party_masked text, reason text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write freezes
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    frozen compliance.freezes;
begin
    if freeze_party.tenant_id is not null and not exists (
        select from public.tenants as t where t.tenant_id = freeze_party.tenant_id
    ) then
        perform public.refuse('40401', format('There is no organisation %s.', freeze_party.tenant_id));
    end if;
    insert into compliance.freezes (
        freeze_id, tenant_id, environment, party_hashes, party_masked, reason, frozen_by
    ) values (
        public.new_id('frz'), freeze_party.tenant_id, freeze_party.environment, freeze_party.party_hashes,
        freeze_party.party_masked, freeze_party.reason, caller.actor
    )
    returning * into frozen;
    perform public.audit(caller, 'party.freeze', frozen.freeze_id, jsonb_build_object('reason', freeze_party.reason));
    return public.reply(caller, 201, compliance.freeze_resource(frozen));
end
$$;
comment on function compliance.freeze_party is 'An operator stops all payments with a party, of one tenant or of all, at once; audited.';

create function compliance.list_freezes(page_size integer)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read freezes
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('platform:operate', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', (
        select coalesce(json_agg(page.shown order by page.created_at desc), '[]')
        from (
            select compliance.freeze_resource(z) as shown, z.created_at
            from compliance.freezes as z
            order by z.created_at desc
            limit list_freezes.page_size
        ) as page
    )));
end
$$;
comment on function compliance.list_freezes is 'Freezes, newest first, for operators.';

create function compliance.lift_freeze(freeze_id text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write freezes
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    frozen compliance.freezes;
begin
    select z.* into frozen from compliance.freezes as z where z.freeze_id = lift_freeze.freeze_id for update;
    if not found then
        perform public.refuse('40401', format('There is no freeze %s.', lift_freeze.freeze_id));
    elsif frozen.lifted_at is not null then
        perform public.refuse('40911', 'This freeze is lifted already.', '{"current_state": "lifted", "allowed": []}');
    elsif frozen.lift_requested_by = caller.actor then
        perform public.refuse('40911', 'Another operator must lift it: you asked for it.',
            '{"current_state": "lift_requested", "allowed": []}');
    end if;
    update compliance.freezes as z
    set
        lift_requested_by = coalesce(z.lift_requested_by, caller.actor),
        lift_reason = coalesce(z.lift_reason, lift_freeze.reason),
        lifted_by = case when z.lift_requested_by is not null then caller.actor end,
        lifted_at = case when z.lift_requested_by is not null then now() end
    where z.freeze_id = lift_freeze.freeze_id
    returning z.* into frozen;
    perform public.audit(
        caller, case when frozen.lifted_at is null then 'party.ask_to_lift' else 'party.lift' end, frozen.freeze_id,
        jsonb_build_object('reason', lift_freeze.reason)
    );
    return public.reply(caller, 200, compliance.freeze_resource(frozen));
end
$$;
comment on function compliance.lift_freeze is 'Lifting takes two operators: the first asks, another one lifts. Audited.';

reset role;
