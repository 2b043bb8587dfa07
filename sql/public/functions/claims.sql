-- What row level security compares with: the claims of a signed-in person's access token.

set role stalela_owner;

create function public.tenant_id()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant_id';
$$;
comment on function public.tenant_id is 'The tenant named in the access token; null without one, which matches no row.';
grant execute on function public.tenant_id to authenticated;

create function public.outlet_id()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'outlet_id';
$$;
comment on function public.outlet_id is 'The one outlet a person is limited to, named in the access token; null: all of the tenant.';
grant execute on function public.outlet_id to authenticated;

create function public.user_id()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
$$;
comment on function public.user_id is 'The person the access token was given to; null without one.';
grant execute on function public.user_id to authenticated;

create function public.environment()
returns text
language sql
stable
security invoker
set search_path = ''
as $$
    select coalesce(
        nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-stalela-environment', 'sandbox'
    );
$$;
comment on function public.environment is 'The environment a signed-in person looks at: the header x-stalela-environment, otherwise sandbox.';
grant execute on function public.environment to authenticated;

create function public.custom_access_token_hook(event jsonb)
returns jsonb
language sql
stable
security definer -- the Auth service may not read memberships
set search_path = ''
as $$
    select jsonb_set(
        event, '{claims}',
        ((event -> 'claims') - '{tenant_id,app_role,outlet_id}'::text[]) || coalesce(
            (
                select jsonb_strip_nulls(jsonb_build_object(
                    'tenant_id', m.tenant_id, 'app_role', m.app_role, 'outlet_id', m.outlet_id
                ))
                from public.users as u
                join public.memberships as m on m.user_id = u.user_id and m.tenant_id = u.active_tenant_id
                where u.user_id = (event ->> 'user_id')::uuid and m.status = 'active'
            ),
            '{}'
        )
    );
$$;
comment on function public.custom_access_token_hook is
'Adds tenant_id, app_role and outlet_id of the person''s active membership to a new access token, and takes them away from one who has none.';
grant execute on function public.custom_access_token_hook to supabase_auth_admin;

reset role;
