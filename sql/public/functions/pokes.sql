-- Waking functions.

set role stalela_owner;

create function public.poke(function_name text)
returns void
language plpgsql
volatile
security definer -- callers may not write pokes
set search_path = ''
as $$
begin
    perform public.poke_all(array[function_name], interval '1 second');
end
$$;
comment on function public.poke is
'Asks pg_net to wake a function after this transaction commits: at most once a second, never waiting, never failing. A poke may be lost or swallowed, so each consumer also has a cron task.';

create function public.poke_all(function_names text[], pause interval)
returns void
language plpgsql
volatile
security definer -- callers may not write pokes
set search_path = ''
as $$
declare
    due text[] := array(
        select f.function_name
        from unnest(function_names) as f (function_name)
        where not exists (
            select from public.pokes as p
            where p.function_name = f.function_name and p.poked_at > clock_timestamp() - pause
        )
    );
    function_name text;
begin
    foreach function_name in array due loop
        -- Somebody else is poking this very moment: theirs will do, and nobody waits.
        continue when not pg_try_advisory_xact_lock(hashtext('public.poke'), hashtext(function_name));
        begin
            perform public.send_poke(function_name, pause);
        exception when others then
            -- A wake-up call is a courtesy; the business it follows must not fail because of it. The cron lanes are
            -- the safety net.
            raise warning 'poke of % failed: %', function_name, sqlerrm;
        end;
    end loop;
end
$$;
comment on function public.poke_all is
'Pokes these functions, each only if nobody did within the pause. Never waits, never fails, and costs one look when all were poked a moment ago.';

create function public.send_poke(function_name text, pause interval)
returns void
language plpgsql
volatile
security definer -- callers may not read the vault
set search_path = ''
as $$
declare
    base_url text;
    token text;
begin
    insert into public.pokes (function_name, poked_at) values (send_poke.function_name, clock_timestamp())
    on conflict on constraint pokes_pkey do update set poked_at = excluded.poked_at
    where pokes.poked_at <= excluded.poked_at - pause;
    if not found then
        return; -- somebody poked between our look and our lock
    end if;
    select s.decrypted_secret into base_url from vault.decrypted_secrets as s where s.name = 'functions_base_url';
    select s.decrypted_secret into token from vault.decrypted_secrets as s where s.name = 'internal_token';
    if base_url is null or token is null then
        return;
    end if;
    perform net.http_post(
        url := base_url || '/' || replace(function_name, '_', '-'),
        body := '{}'::jsonb,
        headers := jsonb_build_object('Content-Type', 'application/json', 'Authorization', 'Bearer ' || token),
        timeout_milliseconds := 5000
    );
end
$$;
comment on function public.send_poke is 'Queues the request that wakes a function and notes when, unless somebody did within the pause; nothing leaves before this transaction commits.';

reset role;
