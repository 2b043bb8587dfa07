-- pg_net 0.20's surface: same tables, signatures, defaults and error texts. scripts/stack/pgnet.py is its worker.

create schema net;
create domain net.http_method as text check (upper(value) in ('GET', 'POST', 'DELETE'));
create type net.request_status as enum ('PENDING', 'SUCCESS', 'ERROR');
create type net.http_response as (status_code integer, headers jsonb, body text);
create type net.http_response_result as (status net.request_status, message text, response net.http_response);

create unlogged table net.http_request_queue (
    id bigserial,
    method net.http_method not null,
    url text not null,
    headers jsonb,
    body bytea,
    timeout_milliseconds integer not null
);
create unlogged table net._http_response (
    id bigint,
    status_code integer,
    content_type text,
    headers jsonb,
    content text,
    timed_out boolean,
    error_msg text,
    created timestamptz not null default now()
);
create index on net._http_response (created);

create function net._urlencode_string(string character varying)
returns text language sql immutable strict set search_path = '' as $$
    select coalesce(string_agg(
        case
            when chr(byte) ~ '[A-Za-z0-9._~-]' and byte < 128 then chr(byte)
            else '%' || upper(lpad(to_hex(byte), 2, '0'))
        end, '' order by position), '')
    from (
        select get_byte(bytes, at) as byte, at as position
        from
            (select convert_to(string, 'UTF8') as bytes) as encoded,
            generate_series(0, length(bytes) - 1) as at
    ) as each_byte
$$;

create function net._encode_url_with_params_array(url text, params_array text[])
returns text language plpgsql immutable strict set search_path = '' as $$
declare
    rest text := substring(url from '^[A-Za-z][A-Za-z0-9+.-]*:(.*)$');
    fragment text := coalesce(substring(url from '#.*$'), '');
    bare text := regexp_replace(url, '#.*$', '');
    query text := array_to_string(params_array, '&');
begin
    if rest is null or rest !~ '^//' then
        raise exception 'invalid URL "%": Bad scheme', url using errcode = 'XX000';
    elsif lower(split_part(url, ':', 1)) not in ('http', 'https', 'ftp', 'file') then
        raise exception 'invalid URL "%": Unsupported URL scheme', url using errcode = 'XX000';
    elsif url ~ '[[:cntrl:] ]' then
        raise exception 'invalid URL "%": Malformed input to a URL function', url using errcode = 'XX000';
    elsif bare ~ '^[^:]+://[^/?]*$' then
        bare := bare || '/';
    end if;
    if query <> '' then
        bare := bare || case when bare ~ '\?' then '&' else '?' end || query;
    end if;
    return bare || fragment;
end
$$;

-- Wakes the worker at commit, whatever it is doing.
create function net.wake() returns void language sql set search_path = '' as $$
    select pg_catalog.pg_notify('pg_net_wake', '')
$$;

-- Wakes the worker only while it sleeps: it then holds this lock. NOTIFY in every business transaction would
-- take a global lock through each commit (figures in pgnet.py). A caller that
-- finds the lock free keeps it shared until its commit, so the worker cannot fall asleep before seeing its row.
create function net._wake_if_asleep() returns void language plpgsql set search_path = '' as $$
begin
    if not pg_catalog.pg_try_advisory_xact_lock_shared(7310, 1) then
        perform net.wake();
    end if;
end
$$;

create function net._enqueue(
    method text, url text, params jsonb, headers jsonb, body bytea, timeout_milliseconds integer
) returns bigint language plpgsql set search_path = '' as $$
declare
    pairs text[] := (
        select array_agg(net._urlencode_string(p.key) || '=' || net._urlencode_string(p.value))
        from jsonb_each_text(params) as p
    );
    request_id bigint;
begin
    insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
    values (
        method, net._encode_url_with_params_array(url, coalesce(pairs, '{}')), headers, body,
        timeout_milliseconds
    )
    returning id into request_id;
    perform net._wake_if_asleep();
    return request_id;
end
$$;

create function net.http_get(
    url text, params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000
) returns bigint language sql set search_path = '' as $$
    select net._enqueue('GET', url, params, headers, null, timeout_milliseconds)
$$;

create function net.http_post(
    url text, body jsonb default '{}', params jsonb default '{}',
    headers jsonb default '{"Content-Type": "application/json"}', timeout_milliseconds integer default 5000
) returns bigint language plpgsql set search_path = '' as $$
declare
    content_type text := (
        select h.value from jsonb_each_text(headers) as h where lower(h.key) = 'content-type' limit 1
    );
begin
    if content_type is null and headers is not null then
        headers := headers || '{"Content-Type": "application/json"}';
    elsif content_type <> 'application/json' then
        raise exception 'Content-Type header must be "application/json"';
    end if;
    return net._enqueue(
        'POST', url, params, headers, convert_to(body::text, 'UTF8'), timeout_milliseconds
    );
end
$$;

create function net.http_delete(
    url text, params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000,
    body jsonb default null
) returns bigint language sql set search_path = '' as $$
    select net._enqueue(
        'DELETE', url, params, headers, convert_to(body::text, 'UTF8'), timeout_milliseconds
    )
$$;

create function net._await_response(request_id bigint)
returns boolean language plpgsql set search_path = '' as $$
begin
    while not exists (select from net._http_response as r where r.id = request_id) loop
        perform pg_sleep(0.05);
    end loop;
    return true;
end
$$;

create function net._http_collect_response(request_id bigint, async boolean default true)
returns net.http_response_result language plpgsql set search_path = '' as $$
declare
    answer net._http_response;
begin
    if not async then
        perform net._await_response(request_id);
    end if;
    select * into answer from net._http_response as r where r.id = request_id;
    if answer.id is null then
        return ('PENDING', 'request is pending processing', null)::net.http_response_result;
    elsif answer.error_msg is not null then
        return ('ERROR', answer.error_msg, null)::net.http_response_result;
    end if;
    return (
        'SUCCESS', 'ok', (answer.status_code, answer.headers, answer.content)::net.http_response
    )::net.http_response_result;
end
$$;

create function net._worker_pid() returns integer language sql set search_path = '' as $$
    select pid from pg_catalog.pg_stat_activity
    where application_name = 'pg_net worker' and datname = current_database()
    limit 1
$$;

create function net.check_worker_is_up() returns void language plpgsql set search_path = '' as $$
begin
    if net._worker_pid() is null then
        raise exception using message = 'the pg_net background worker is not up',
            detail = 'the pg_net background worker is down due to an internal error and cannot process requests',
            hint = 'make sure that you didn''t modify any of pg_net internal tables';
    end if;
end
$$;

create function net.wait_until_running() returns void language plpgsql set search_path = '' as $$
begin
    while net._worker_pid() is null loop
        perform pg_sleep(0.05);
        perform pg_catalog.pg_stat_clear_snapshot();
    end loop;
end
$$;

create function net.worker_restart() returns boolean language sql security definer set search_path = '' as $$
    select coalesce(pg_catalog.pg_terminate_backend(net._worker_pid()), false)
$$;

grant usage on schema net to public;
grant all on all sequences in schema net to public;
grant all on all tables in schema net to public;
