-- Waking functions.

set role stalela_owner;

create function public.poke(function_name text)
returns void
language plpgsql
volatile
security definer -- callers may not read the vault
set search_path = ''
as $$
declare
    base_url text;
    token text;
    slug text := replace(function_name, '_', '-');
begin
    -- Somebody else is poking this very moment: theirs will do, and nobody waits.
    if not pg_try_advisory_xact_lock(hashtext('public.poke'), hashtext(function_name)) then
        return;
    end if;
    if exists (
        select from public.pokes as p
        where p.function_name = poke.function_name and p.poked_at > clock_timestamp() - interval '1 second'
    ) then
        return;
    end if;
    select s.decrypted_secret into base_url from vault.decrypted_secrets as s where s.name = 'functions_base_url';
    select s.decrypted_secret into token from vault.decrypted_secrets as s where s.name = 'internal_token';
    if base_url is null or token is null then
        return;
    end if;
    insert into public.pokes (function_name, poked_at) values (poke.function_name, clock_timestamp())
    on conflict on constraint pokes_pkey do update set poked_at = excluded.poked_at;
    perform net.http_post(
        url := base_url || '/' || slug,
        body := '{}'::jsonb,
        headers := jsonb_build_object('Content-Type', 'application/json', 'Authorization', 'Bearer ' || token),
        timeout_milliseconds := 5000
    );
exception when others then
    -- A wake-up call is a courtesy; the business it follows must not fail because of it. The cron lanes are the safety net.
    raise warning 'poke of % failed: %', function_name, sqlerrm;
end
$$;
comment on function public.poke is
'Asks pg_net to wake a function after this transaction commits: at most once a second each, never waiting, never failing. A poke may be lost or swallowed, so each consumer also has a cron task.';

reset role;
