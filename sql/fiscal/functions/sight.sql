-- Who sees which documents: a cashier their own, a person of one outlet that outlet's, everybody else all of the tenant.

set role stalela_owner;

create function fiscal.sight_of(caller public.caller)
returns fiscal.sight
language plpgsql
stable
security definer -- functions may not read memberships
set search_path = ''
as $$
declare
    sight fiscal.sight;
begin
    if (sight_of.caller).user_id is null then
        return sight;
    end if;
    select m.outlet_id into sight.outlet_id
    from public.memberships as m
    where
        m.tenant_id = (sight_of.caller).tenant_id and m.user_id = (sight_of.caller).user_id and m.status = 'active';
    if (sight_of.caller).app_role = 'cashier' then
        sight := fiscal.cashiers_sight(
            (sight_of.caller).tenant_id, (sight_of.caller).environment, (sight_of.caller).user_id, sight.outlet_id
        );
    end if;
    return sight;
end
$$;
comment on function fiscal.sight_of is 'What of the tenant''s documents the caller sees; keys see all of them.';

create function fiscal.cashiers_sight(tenant_id text, environment text, user_id uuid, outlet_id text)
returns fiscal.sight
language plpgsql
stable
security definer -- functions may not read operators
set search_path = ''
as $$
#variable_conflict use_column
declare
    sight fiscal.sight;
begin
    select o.outlet_id, o.label into sight
    from fiscal.operators as o
    where
        o.user_id = cashiers_sight.user_id and o.tenant_id = cashiers_sight.tenant_id
        and o.environment = cashiers_sight.environment
        and o.outlet_id = coalesce(cashiers_sight.outlet_id, o.outlet_id);
    if not found then
        return row(cashiers_sight.outlet_id, '')::fiscal.sight;
    end if;
    return sight;
end
$$;
comment on function fiscal.cashiers_sight is
'What a signed-in cashier sees: what was sold in their name at their outlet; nothing while no cashier is theirs.';

create function fiscal.caller_outlet(caller public.caller)
returns text
language plpgsql
stable
security definer -- functions may not read memberships
set search_path = ''
as $$
begin
    return (fiscal.sight_of(caller_outlet.caller)).outlet_id;
end
$$;
comment on function fiscal.caller_outlet is 'The one outlet a person is limited to; null for keys and for people of the whole tenant.';

create function fiscal.shows(sight fiscal.sight, subject text)
returns boolean
language plpgsql
stable
security definer -- functions may not read documents
set search_path = ''
as $$
begin
    return (shows.sight).cashier_id is null
    or exists (
        select from fiscal.invoices as i
        where
            (i.invoice_id = shows.subject or i.fiscal_number = shows.subject)
            and i.outlet_id = (shows.sight).outlet_id and i.cashier_id = (shows.sight).cashier_id
    )
    or exists (
        select from fiscal.orders as o
        where
            o.order_id = shows.subject
            and o.outlet_id = (shows.sight).outlet_id and o.document ->> 'cashier_id' = (shows.sight).cashier_id
    );
end
$$;
comment on function fiscal.shows is
'Whether a cashier sees what belongs to a document: subject is its id, its fiscal number or the id of its order. Outlets are compared before.';

create function fiscal.check_cashier(caller public.caller, document jsonb)
returns void
language plpgsql
stable
security definer -- functions may not read operators
set search_path = ''
as $$
declare
    sight fiscal.sight;
begin
    if (check_cashier.caller).app_role is distinct from 'cashier' then
        return;
    end if;
    perform fiscal.outlet_of(check_cashier.caller, document ->> 'outlet_id');
    sight := fiscal.sight_of(check_cashier.caller);
    if sight.cashier_id = '' then
        perform public.refuse_field('42275', '/cashier_id', format(
            'you are no cashier of this outlet yet: ask whoever runs the account to name you one, with user_id %s in '
            'PUT /functions/v1/merchants/outlets/%s/operators',
            (check_cashier.caller).user_id, document ->> 'outlet_id'
        ));
    elsif document ->> 'cashier_id' is distinct from sight.cashier_id then
        perform public.refuse_field('42275', '/cashier_id', format(
            'you sell as %s: send that one, or have the other cashier sign in', sight.cashier_id
        ));
    end if;
end
$$;
comment on function fiscal.check_cashier is 'A signed-in cashier issues documents of their outlet in their own name alone. 40401, 42275.';

-- The same for row level security, from the token.

create function fiscal.own_sight()
returns fiscal.sight
language plpgsql
stable
security definer -- people may not read operators
set search_path = ''
as $$
declare
    sight fiscal.sight;
begin
    if nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'app_role' = 'cashier' then
        sight := fiscal.cashiers_sight(
            public.tenant_id(), public.environment(), public.user_id()::uuid, public.outlet_id()
        );
    end if;
    return sight;
end
$$;
comment on function fiscal.own_sight is 'What of a tenant''s documents the person of this token sees, beyond what their outlet says.';

create function fiscal.own_outlet()
returns text
language plpgsql
stable
security definer -- people may not read operators
set search_path = ''
as $$
begin
    return (fiscal.own_sight()).outlet_id;
end
$$;
comment on function fiscal.own_outlet is 'The outlet of the signed-in cashier; null for everybody else.';

create function fiscal.own_cashier()
returns text
language plpgsql
stable
security definer -- people may not read operators
set search_path = ''
as $$
begin
    return (fiscal.own_sight()).cashier_id;
end
$$;
comment on function fiscal.own_cashier is
'The cashier a person signs in as: the only one whose documents they see. Null for people who are no cashiers; empty for a cashier without a name.';

create function fiscal.is_own(subject text)
returns boolean
language plpgsql
stable
security definer -- people may not read operators
set search_path = ''
as $$
begin
    return fiscal.shows(fiscal.own_sight(), is_own.subject);
end
$$;
comment on function fiscal.is_own is 'Whether what belongs to this document is for the signed-in cashier to see.';

reset role;
