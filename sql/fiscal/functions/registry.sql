-- Taxpayers, outlets, terminals and cashiers.

set role stalela_owner;

create function fiscal.merchant_of(caller public.caller)
returns fiscal.merchants
language plpgsql
stable
security definer -- functions may not read merchants
set search_path = ''
as $$
declare
    merchant fiscal.merchants;
begin
    select m.* into merchant
    from fiscal.merchants as m
    where m.tenant_id = (merchant_of.caller).tenant_id and m.environment = (merchant_of.caller).environment;
    if not found then
        perform public.refuse(
            '40911', 'This organisation is not registered as a taxpayer yet: PUT /functions/v1/merchants/fiscal.',
            '{"current_state": "not_registered", "allowed": ["register"]}'
        );
    end if;
    return merchant;
end
$$;
comment on function fiscal.merchant_of is 'The caller''s taxpayer; 40911 when it is not registered.';

create function fiscal.outlet_of(caller public.caller, outlet_id text)
returns fiscal.outlets
language plpgsql
stable
security definer -- functions may not read outlets
set search_path = ''
as $$
#variable_conflict use_column
declare
    outlet fiscal.outlets;
begin
    select o.* into outlet
    from fiscal.outlets as o
    where
        o.outlet_id = outlet_of.outlet_id and o.tenant_id = (outlet_of.caller).tenant_id
        and o.environment = (outlet_of.caller).environment
        and o.outlet_id = coalesce(fiscal.caller_outlet(outlet_of.caller), o.outlet_id);
    if not found then
        perform public.refuse('40401', format('There is no outlet %s here: GET /functions/v1/merchants/outlets lists yours.', outlet_of.outlet_id));
    end if;
    return outlet;
end
$$;
comment on function fiscal.outlet_of is 'An outlet the caller may see; 40401 for any other.';

create function fiscal.put_merchant(
    jurisdiction text, legal_name text, tin text, vat_status text, registration_number text, address text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write merchants
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('account:write', 'manage');
    rules tax.jurisdictions;
    merchant fiscal.merchants;
    sealed boolean;
begin
    select j.* into rules from tax.jurisdictions as j where j.jurisdiction = put_merchant.jurisdiction;
    if not found then
        perform public.refuse_field('42262', '/jurisdiction', format('must be one of %s', (
            select string_agg(j.jurisdiction, ', ' order by j.jurisdiction) from tax.jurisdictions as j
        )));
    elsif put_merchant.tin !~ rules.tin_pattern then
        perform public.refuse_field('42262', '/tin', format('is not a %s: it must match %s', rules.tin_name, rules.tin_pattern));
    end if;
    select exists (
        select from fiscal.invoices as i where i.tenant_id = caller.tenant_id and i.environment = caller.environment
    ) into sealed;
    insert into fiscal.merchants as m (
        merchant_id, tenant_id, environment, jurisdiction, legal_name, tin, registration_number, vat_status, address
    ) values (
        public.new_id('fm'), caller.tenant_id, caller.environment, put_merchant.jurisdiction, put_merchant.legal_name,
        put_merchant.tin, put_merchant.registration_number, put_merchant.vat_status, put_merchant.address
    )
    on conflict (tenant_id, environment) do update
    set
        legal_name = excluded.legal_name, tin = excluded.tin, jurisdiction = excluded.jurisdiction,
        registration_number = excluded.registration_number, vat_status = excluded.vat_status,
        address = excluded.address, updated_at = now()
    -- Documents name their taxpayer; once there is one, who that is does not change under it.
    where not sealed or (m.tin = excluded.tin and m.jurisdiction = excluded.jurisdiction)
    returning * into merchant;
    if merchant.merchant_id is null then
        perform public.refuse('40911', 'tin and jurisdiction no longer change, because documents were sealed with them: another taxpayer is another organisation.',
            '{"current_state": "sealing", "allowed": []}');
    end if;
    perform public.audit(caller, 'fiscal.merchant_put', merchant.merchant_id, jsonb_build_object('tin', merchant.tin));
    return public.reply(caller, 200, fiscal.merchant_resource(merchant));
end
$$;
comment on function fiscal.put_merchant is
'Registers the tenant as a taxpayer, or corrects it; tin and jurisdiction only while nothing is sealed.';

create function fiscal.merchant_resource(merchant fiscal.merchants)
returns json
language plpgsql
immutable
set search_path = ''
as $$
begin
    return json_build_object(
        'id', merchant.merchant_id, 'object', 'fiscal_merchant', 'jurisdiction', merchant.jurisdiction,
        'legal_name', merchant.legal_name, 'tin', merchant.tin, 'registration_number', merchant.registration_number,
        'vat_status', merchant.vat_status, 'address', merchant.address, 'status', merchant.status,
        'environment', merchant.environment, 'created_at', merchant.created_at
    );
end
$$;
comment on function fiscal.merchant_resource is 'A taxpayer as the API shows it.';

create function fiscal.get_merchant()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read merchants
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('account:read', 'read');
begin
    return public.reply(caller, 200, fiscal.merchant_resource(fiscal.merchant_of(caller)));
end
$$;
comment on function fiscal.get_merchant is 'The caller''s taxpayer.';

create function fiscal.create_outlet(
    outlet_code text, name text, time_zone text, cut_off_hour integer, address text
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write outlets
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('account:write', 'manage');
    merchant fiscal.merchants := fiscal.merchant_of(caller);
    rules tax.jurisdictions;
    outlet fiscal.outlets;
begin
    select j.* into strict rules from tax.jurisdictions as j where j.jurisdiction = merchant.jurisdiction;
    if not create_outlet.time_zone = any(rules.time_zones) then
        perform public.refuse_field(
            '42262', '/time_zone', format('must be one of %s in %s', array_to_string(rules.time_zones, ', '), rules.jurisdiction)
        );
    end if;
    insert into fiscal.outlets (
        outlet_id, merchant_id, tenant_id, environment, outlet_code, name, address, time_zone, cut_off_hour,
        fiscal_authority_id
    ) values (
        public.new_id('out'), merchant.merchant_id, caller.tenant_id, caller.environment, create_outlet.outlet_code,
        create_outlet.name, create_outlet.address, create_outlet.time_zone, create_outlet.cut_off_hour,
        'stalela-' || lower(merchant.jurisdiction) || '-01'
    )
    on conflict (outlet_code) do nothing
    returning * into outlet;
    if outlet.outlet_id is null then
        perform public.refuse('40914', format('outlet_code %s is taken; it is unique across all merchants.', create_outlet.outlet_code),
            '{"errors": [{"pointer": "/outlet_code", "detail": "taken; choose another"}]}');
    end if;
    insert into fiscal.fiscal_counters (outlet_id, kind)
    values (outlet.outlet_id, 'invoice'), (outlet.outlet_id, 'report_z');
    perform fiscal.open_day(outlet, fiscal.business_date(outlet, now()));
    perform public.audit(caller, 'fiscal.outlet_created', outlet.outlet_id, jsonb_build_object('outlet_code', outlet.outlet_code));
    return public.reply(caller, 201, fiscal.outlet_resource(outlet));
end
$$;
comment on function fiscal.create_outlet is 'Opens an outlet with its counters at 1 and its first business day. 40914: the code is taken.';

create function fiscal.outlet_resource(outlet fiscal.outlets)
returns json
language plpgsql
stable
security definer -- callers may not read counters
set search_path = ''
as $$
begin
    return json_build_object(
        'id', outlet.outlet_id, 'object', 'outlet', 'outlet_code', outlet.outlet_code, 'name', outlet.name,
        'address', outlet.address, 'time_zone', outlet.time_zone, 'cut_off_hour', outlet.cut_off_hour,
        'fiscal_authority_id', outlet.fiscal_authority_id,
        'status', outlet.status,
        'next_number', (
            select c.next_value from fiscal.fiscal_counters as c
            where c.outlet_id = (outlet_resource.outlet).outlet_id and c.kind = 'invoice'
        ),
        'environment', outlet.environment, 'created_at', outlet.created_at
    );
end
$$;
comment on function fiscal.outlet_resource is 'An outlet as the API shows it.';

create function fiscal.list_outlets()
returns public.answer
language plpgsql
volatile
security definer -- callers may not read outlets
set search_path = ''
as $$
declare
    caller public.caller := public.authorize('invoices:read', 'read');
begin
    return public.reply(caller, 200, json_build_object('data', (
        select coalesce(json_agg(fiscal.outlet_resource(o) order by o.created_at), '[]')
        from fiscal.outlets as o
        where
            o.tenant_id = caller.tenant_id and o.environment = caller.environment
            and o.outlet_id = coalesce(fiscal.caller_outlet(caller), o.outlet_id)
    )));
end
$$;
comment on function fiscal.list_outlets is 'The outlets the caller may see.';

create function fiscal.put_operator(
    outlet_id text, kind text, label text, name text, status text, user_id uuid
)
returns public.answer
language plpgsql
volatile
security definer -- callers may not write operators
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller := public.authorize('account:write', 'manage');
    outlet fiscal.outlets := fiscal.outlet_of(caller, put_operator.outlet_id);
    kept fiscal.operators;
begin
    perform fiscal.check_person(caller, outlet, put_operator.kind, put_operator.label, put_operator.user_id);
    insert into fiscal.operators (operator_id, outlet_id, tenant_id, environment, kind, label, name, status, user_id)
    values (
        public.new_id(case put_operator.kind when 'terminal' then 'term' else 'cash' end), outlet.outlet_id,
        caller.tenant_id, caller.environment, put_operator.kind, put_operator.label, put_operator.name,
        put_operator.status, put_operator.user_id
    )
    on conflict (outlet_id, kind, label) do update
    set name = excluded.name, status = excluded.status, user_id = excluded.user_id
    returning * into kept;
    perform public.audit(caller, 'fiscal.operator_put', kept.operator_id, jsonb_strip_nulls(jsonb_build_object(
        'status', kept.status, 'user_id', kept.user_id
    )));
    return public.reply(caller, 200, json_build_object(
        'id', kept.operator_id, 'object', kept.kind, 'outlet_id', kept.outlet_id, 'label', kept.label,
        'name', kept.name, 'status', kept.status, 'user_id', kept.user_id
    ));
end
$$;
comment on function fiscal.put_operator is
'Names, renames or blocks a terminal or cashier of an outlet, and says who signs in as that cashier. 42262, 40914.';

create function fiscal.check_person(caller public.caller, outlet fiscal.outlets, kind text, label text, user_id uuid)
returns void
language plpgsql
volatile
security definer -- callers may not read memberships
set search_path = ''
as $$
#variable_conflict use_column
declare
    other record;
begin
    if check_person.user_id is null then
        return;
    elsif check_person.kind <> 'cashier' then
        perform public.refuse_field('42262', '/user_id', 'nobody signs in as a terminal: leave it out');
    end if;
    -- Whoever names this person too waits here.
    perform from public.memberships as m
    where
        m.tenant_id = (check_person.caller).tenant_id and m.user_id = check_person.user_id and m.status = 'active'
    for update;
    if not found then
        perform public.refuse_field(
            '42262', '/user_id', 'is nobody of this organisation: invite them first, POST /functions/v1/merchants/invitations'
        );
    end if;
    select o.label, o.outlet_id, p.outlet_code into other
    from fiscal.operators as o
    inner join fiscal.outlets as p on p.outlet_id = o.outlet_id
    where
        o.user_id = check_person.user_id and o.tenant_id = (check_person.caller).tenant_id
        and o.environment = (check_person.caller).environment
        and (o.outlet_id, o.label) <> ((check_person.outlet).outlet_id, check_person.label);
    if found then
        perform public.refuse(
            '40914', format(
                'user_id: is cashier %s of outlet %s by now; put that one without user_id first.', other.label, other.outlet_code
            ),
            '{"errors": [{"pointer": "/user_id", "detail": "is another cashier by now; put that one without user_id first"}]}'
        );
    end if;
end
$$;
comment on function fiscal.check_person is 'Whether this person may be this cashier: a member, and no other cashier in this environment. 42262, 40914.';

reset role;
