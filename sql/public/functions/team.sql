-- The people of a tenant.

set role stalela_owner;

create function public.require_role_scopes(caller public.caller, app_role text)
returns void
language plpgsql
stable
security definer -- callers may not read roles
set search_path = ''
as $$
declare
    missing text;
begin
    perform from public.app_roles as r where r.app_role = require_role_scopes.app_role and not r.is_platform;
    if not found then
        perform public.refuse_field('42262', '/app_role', 'must be one of the roles of an organisation.');
    end if;
    select r.scope into missing
    from public.role_scopes as r
    where r.app_role = require_role_scopes.app_role and not public.holds_scope(caller.scopes, r.scope)
    limit 1;
    if found then
        perform public.refuse(
            '40312', format('Only somebody who holds the scope %s may deal with the role %s.', missing, app_role)
        );
    end if;
end
$$;
comment on function public.require_role_scopes is
'Nobody gives, changes or takes a role that may do more than they may themselves: 40312. Platform roles cannot be given: 42262.';

create function public.list_users()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read memberships
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, json_build_object(
        'data', array(
            select row_to_json(shown)
            from (
                select m.user_id as id, 'user' as object, u.email, m.app_role, m.outlet_id, m.created_at
                from public.memberships as m
                join public.users as u on u.user_id = m.user_id
                where m.tenant_id = caller.tenant_id and m.status = 'active'
                order by m.created_at, m.user_id
            ) as shown
        ),
        'invitations', array(
            select public.invitation_resource(i)
            from public.invitations as i
            where i.tenant_id = caller.tenant_id and i.accepted_at is null and i.expires_at > now()
            order by i.created_at, i.invitation_id
        )
    ));
end
$$;
comment on function public.list_users is 'The members of the organisation and its open invitations, oldest first.';

create function public.invitation_resource(invitation public.invitations)
returns json
language sql
stable
set search_path = ''
as $$
    select row_to_json(shown)
    from (
        select invitation.invitation_id as id, 'invitation' as object, invitation.email, invitation.app_role,
            invitation.invited_by, invitation.created_at, invitation.expires_at
    ) as shown;
$$;
comment on function public.invitation_resource is 'The wire shape of an invitation; its token is known to the invited person alone.';

create function public.invite_user(email text, app_role text, token_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write invitations
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('team:manage', 'manage');
    address text := lower(trim(invite_user.email));
    valid_s integer := public.setting('invitations.valid_s')::integer;
    invited public.invitations;
begin
    perform public.require_role_scopes(caller, invite_user.app_role);
    perform from public.memberships as m
    join public.users as u on u.user_id = m.user_id
    where m.tenant_id = caller.tenant_id and m.status = 'active' and u.email = address;
    if found then
        perform public.refuse('40914', 'This person belongs to the organisation already.');
    end if;
    insert into public.invitations as i (
        invitation_id, tenant_id, email, app_role, token_hash, invited_by, expires_at
    ) values (
        public.new_id('invt'), caller.tenant_id, address, invite_user.app_role, invite_user.token_hash,
        caller.actor, now() + make_interval(secs => valid_s)
    )
    on conflict (tenant_id, email) where accepted_at is null do update
    set
        app_role = excluded.app_role, token_hash = excluded.token_hash, invited_by = excluded.invited_by,
        created_at = now(), expires_at = excluded.expires_at
    returning i.* into invited;
    caller.environment := null;
    perform public.audit(
        caller, 'team.invite', invited.invitation_id,
        jsonb_build_object('email', invited.email, 'app_role', invited.app_role)
    );
    return public.reply(caller, 201, public.invitation_resource(invited));
end
$$;
comment on function public.invite_user is
'Invites an address; a second invitation replaces the first, whose token stops working. 201, 40312, 40914.';

create function public.accept_invitation(token_hash text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
declare
    caller public.caller := public.person_without_tenant();
    person record := public.signed_in_user();
    invited public.invitations;
begin
    caller.rate := public.take_token(caller, 'manage');
    update public.invitations as i
    set accepted_at = now()
    where
        i.token_hash = accept_invitation.token_hash and i.accepted_at is null and i.expires_at > now()
        and i.email = person.email
    returning i.* into invited;
    if not found then
        perform public.refuse('40401', 'There is no open invitation with this token for your address.');
    end if;
    perform public.check_tenant(
        (select t.status from public.tenants as t where t.tenant_id = invited.tenant_id), 'sandbox'
    );
    perform public.join_tenant(invited.tenant_id, person.user_id, person.email, invited.app_role);
    update public.invitations as i set accepted_by = person.user_id where i.invitation_id = invited.invitation_id;

    caller.tenant_id := invited.tenant_id;
    caller.environment := null;
    perform public.audit(
        caller, 'team.accept', invited.invitation_id, jsonb_build_object('app_role', invited.app_role)
    );
    return public.reply(caller, 200, json_build_object(
        'account', public.tenant_resource(invited.tenant_id), 'app_role', invited.app_role
    ));
end
$$;
comment on function public.accept_invitation is
'Makes the signed-in person a member; works once, in time, for the invited address alone: 40401 otherwise. Their next access token names the organisation.';

create function public.lock_member(caller public.caller, user_id uuid)
returns public.memberships
language plpgsql
volatile
security definer -- callers may not lock memberships
set search_path = ''
as $$
declare
    member public.memberships;
begin
    -- All owners first and in one order: two owners who remove each other come one after the other.
    perform from public.memberships as m
    where m.tenant_id = (lock_member.caller).tenant_id and m.status = 'active' and m.app_role = 'owner'
    order by m.user_id
    for update;
    select m.* into member
    from public.memberships as m
    where
        m.tenant_id = (lock_member.caller).tenant_id and m.user_id = lock_member.user_id and m.status = 'active'
    for update;
    if not found then
        perform public.refuse('40401', format('There is no user %s in this organisation.', user_id));
    end if;
    perform public.require_role_scopes(caller, member.app_role);
    return member;
end
$$;
comment on function public.lock_member is 'The locked membership of somebody the caller may manage, with every owner locked before it.';

create function public.require_other_owner(member public.memberships)
returns void
language plpgsql
stable
security definer -- callers may not read memberships
set search_path = ''
as $$
begin
    if member.app_role = 'owner' and not exists (
        select from public.memberships as m
        where
            m.tenant_id = member.tenant_id and m.user_id <> member.user_id
            and m.status = 'active' and m.app_role = 'owner'
    ) then
        perform public.refuse(
            '40911', 'This is the last owner: make somebody else an owner first.',
            '{"current_state": "last_owner", "allowed": []}'
        );
    end if;
end
$$;
comment on function public.require_other_owner is 'Refuses with 40911 to lose the last owner. The owners are locked.';

create function public.change_user_role(user_id uuid, app_role text)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('team:manage', 'manage');
    member public.memberships;
begin
    perform public.require_role_scopes(caller, change_user_role.app_role);
    member := public.lock_member(caller, change_user_role.user_id);
    if member.app_role <> change_user_role.app_role then
        perform public.require_other_owner(member);
        update public.memberships as m
        set app_role = change_user_role.app_role, updated_at = now()
        where m.tenant_id = member.tenant_id and m.user_id = member.user_id;
        perform public.withdraw_invitations(member);
        caller.environment := null;
        perform public.audit(caller, 'team.change_role', 'user:' || member.user_id, jsonb_build_object(
            'from', member.app_role, 'to', change_user_role.app_role
        ));
    end if;
    return public.reply(caller, 200, json_build_object(
        'id', member.user_id, 'object', 'user', 'app_role', change_user_role.app_role
    ));
end
$$;
comment on function public.change_user_role is
'Gives a member another role, at once: roles are read at every call. 40911 for the last owner, 40312 beyond one''s own powers.';

create function public.remove_user(user_id uuid)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write memberships
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('team:manage', 'manage');
    member public.memberships := public.lock_member(caller, remove_user.user_id);
begin
    perform public.require_other_owner(member);
    update public.memberships as m
    set status = 'removed', updated_at = now()
    where m.tenant_id = member.tenant_id and m.user_id = member.user_id;
    update public.users as u
    set active_tenant_id = null, updated_at = now()
    where u.user_id = member.user_id and u.active_tenant_id = member.tenant_id;
    perform public.withdraw_invitations(member);
    caller.environment := null;
    perform public.audit(
        caller, 'team.remove', 'user:' || member.user_id, jsonb_build_object('app_role', member.app_role)
    );
    return public.reply(caller, 200, json_build_object(
        'id', member.user_id, 'object', 'user', 'removed', true,
        'api_keys_to_rotate', array(
            select k.key_id
            from public.api_keys as k
            where
                k.tenant_id = member.tenant_id and k.created_by = 'user:' || member.user_id and k.status = 'active'
                and (k.expires_at is null or k.expires_at > now())
            order by k.created_at, k.key_id
        )
    ));
end
$$;
comment on function public.remove_user is
'Ends a membership at once, never the last owner''s (40911). Keys the person saw keep working; they are listed so that somebody rotates them.';

create function public.withdraw_invitations(member public.memberships)
returns void
language sql
volatile
security definer -- callers may not write invitations
set search_path = ''
as $$
    delete from public.invitations as i
    where i.tenant_id = member.tenant_id and i.invited_by = 'user:' || member.user_id and i.accepted_at is null;
$$;
comment on function public.withdraw_invitations is
'Takes back what a person invited while they had powers they are losing; otherwise they could return through a second address.';

reset role;
