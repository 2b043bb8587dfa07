-- Tenants: sign-up and account.

set role stalela_owner;

create function public.tenant_resource(tenant_id text)
returns json
language sql
stable
security definer -- callers may not read tenants
set search_path = ''
as $$
    select row_to_json(shown)
    from (
        select t.tenant_id as id, 'account' as object, t.name, t.country, t.status, t.plan, t.created_at
        from public.tenants as t
        where t.tenant_id = tenant_resource.tenant_id
    ) as shown;
$$;
comment on function public.tenant_resource is 'The wire shape of a tenant.';

create function public.create_tenant(idempotency_key text, body_hash text, name text, country text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write tenants
set search_path = ''
as $$
declare
    caller public.caller := public.person_without_tenant();
    person record := public.signed_in_user();
    answer public.answer;
    owner public.caller;
begin
    caller.rate := public.take_token(caller, 'manage');
    answer := public.claim_idempotency(caller, 'POST /merchants', idempotency_key, body_hash);
    if answer.body is not null then
        return answer;
    end if;
    if length(trim(name)) not between 1 and 200 or name is null then
        perform public.refuse_field('42262', '/name', 'must have 1 to 200 characters.');
    elsif country !~ '^[A-Z]{2}$' or country is null then
        perform public.refuse_field('42262', '/country', 'must be an ISO 3166-1 code of two capital letters.');
    end if;

    owner := caller;
    owner.tenant_id := public.new_id('tn');
    owner.environment := null;
    insert into public.tenants (tenant_id, name, country)
    values (owner.tenant_id, trim(create_tenant.name), create_tenant.country);
    perform public.join_tenant(owner.tenant_id, person.user_id, person.email, 'owner');
    perform public.audit(owner, 'tenant.create', owner.tenant_id, '{}');

    answer := public.reply(caller, 201, public.tenant_resource(owner.tenant_id));
    perform public.remember_answer(caller, 'POST /merchants', idempotency_key, owner.tenant_id, answer);
    return answer;
end
$$;
comment on function public.create_tenant is
'Signs up an organisation for a signed-in person, who becomes its owner; pending until the platform activates it. Their next access token names it. 201.';

create function public.person_without_tenant()
returns public.caller
language plpgsql
stable
security definer -- callers may not read function_roles
set search_path = ''
as $$
declare
    actor text := 'user:' || (public.signed_in_user()).user_id;
begin
    return row(actor, 'sandbox', actor, '{}', null, (public.signed_in_user()).user_id, null, '{}')::public.caller;
end
$$;
comment on function public.person_without_tenant is
'A signed-in person before they belong anywhere: their own id stands in for the tenant, in limits and idempotency keys.';

create function public.join_tenant(tenant_id text, user_id uuid, email text, app_role text)
returns void
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
begin
    insert into public.users as u (user_id, email, active_tenant_id)
    values (join_tenant.user_id, join_tenant.email, join_tenant.tenant_id)
    on conflict on constraint users_pkey do update
    set email = excluded.email, active_tenant_id = excluded.active_tenant_id, updated_at = now();
    insert into public.memberships as m (tenant_id, user_id, app_role)
    values (join_tenant.tenant_id, join_tenant.user_id, join_tenant.app_role)
    on conflict on constraint memberships_pkey do update
    set app_role = excluded.app_role, outlet_id = null, status = 'active', updated_at = now()
    where m.status = 'removed';
    if not found then
        perform public.refuse('40914', 'You belong to this organisation already.');
    end if;
end
$$;
comment on function public.join_tenant is 'Makes a person a member and this their active tenant; 40914 for a member.';

create function public.get_account()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read tenants
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, json_build_object(
        'account', public.tenant_resource(caller.tenant_id),
        'caller', json_build_object(
            'actor', caller.actor, 'environment', caller.environment, 'app_role', caller.app_role,
            'scopes', caller.scopes
        )
    ));
end
$$;
comment on function public.get_account is 'The caller''s organisation, and what the caller may do there.';

create function public.list_audit(page_size integer, page_after text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not read the audit log
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('audit:read', 'read');
    wanted integer := least(greatest(coalesce(page_size, 20), 1), 100);
    entries json[];
begin
    if page_after !~ '^[0-9]{1,18}$' then
        perform public.refuse_cursor();
    end if;
    entries := array(
        select row_to_json(shown)
        from (
            select a.audit_id as id, 'audit_entry' as object, a.environment, a.actor, a.action, a.subject, a.details,
                a.request_id, a.occurred_at
            from public.audit_log as a
            where
                a.tenant_id = caller.tenant_id
                and (a.environment is null or a.environment = caller.environment)
                and (page_after is null or a.audit_id < page_after::bigint)
            order by a.audit_id desc
            limit wanted + 1
        ) as shown
    );
    return public.reply(caller, 200, json_build_object(
        'data', to_json(entries[1:wanted]),
        'pagination', json_build_object(
            'limit', wanted,
            'has_more', cardinality(entries) > wanted,
            'next_cursor', case when cardinality(entries) > wanted then entries[wanted] ->> 'id' end
        )
    ));
end
$$;
comment on function public.list_audit is
'One page of the organisation''s audit trail, newest first: what concerns it as a whole and what happened in the caller''s environment.';

create function public.set_tenant_status(tenant_id text, status text, reason text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write tenants
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('platform:operate', 'manage');
    subject public.caller := caller;
    was text;
begin
    -- closed is for good; the other three may follow each other.
    select t.status into was
    from public.tenants as t
    where t.tenant_id = set_tenant_status.tenant_id
    for update;
    if not found then
        perform public.refuse('40401', format('There is no organisation %s.', tenant_id));
    elsif was = 'closed' or status = 'pending' then
        perform public.refuse(
            '40911', format('An organisation that is %s cannot become %s.', was, status),
            jsonb_build_object('current_state', was)
        );
    end if;
    update public.tenants as t
    set status = set_tenant_status.status, updated_at = now()
    where t.tenant_id = set_tenant_status.tenant_id;
    -- Their record, for them to read, whoever did it.
    subject.tenant_id := set_tenant_status.tenant_id;
    subject.environment := null;
    perform public.audit(subject, 'tenant.' || status, tenant_id, jsonb_build_object('was', was, 'reason', reason));
    return public.reply(caller, 200, public.tenant_resource(tenant_id));
end
$$;
comment on function public.set_tenant_status is
'An operator of the platform activates, suspends or closes an organisation, with a reason for the record. closed is final.';

reset role;
