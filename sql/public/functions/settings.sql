-- Settings.

set role stalela_owner;

create function public.setting(key text)
returns jsonb
language sql
stable
security definer -- callers may not read settings
set search_path = ''
as $$
    select s.value from public.settings as s where s.key = setting.key;
$$;
comment on function public.setting is 'One setting; null when it does not exist.';

reset role;
