-- pg_cron runs in one database of a cluster. Elsewhere (tests, checks) these take the same calls and only
-- remember them: a test calls the lane procedures directly.

create schema cron;
create table cron.job (
    jobid bigint generated always as identity primary key,
    schedule text not null,
    command text not null,
    nodename text not null default 'localhost',
    nodeport integer not null default current_setting('port')::integer,
    database text not null default current_database(),
    username text not null default session_user,
    active boolean not null default true,
    jobname text,
    unique (jobname, username)
);
create table cron.job_run_details (
    jobid bigint,
    runid bigint primary key,
    job_pid integer,
    database text,
    username text,
    command text,
    status text,
    return_message text,
    start_time timestamptz,
    end_time timestamptz
);

create function cron.schedule(job_name text, schedule text, command text)
returns bigint language sql security definer set search_path = '' as $$
    insert into cron.job (jobname, schedule, command, username)
    values (job_name, schedule.schedule, schedule.command, session_user)
    on conflict (jobname, username) do update
    set schedule = excluded.schedule, command = excluded.command
    returning jobid
$$;
create function cron.alter_job(
    job_id bigint, schedule text default null, command text default null, database text default null,
    username text default null, active boolean default null
) returns void language sql security definer set search_path = '' as $$
    update cron.job as j
    set schedule = coalesce(alter_job.schedule, j.schedule), command = coalesce(alter_job.command, j.command),
        database = coalesce(alter_job.database, j.database), active = coalesce(alter_job.active, j.active)
    where j.jobid = job_id
$$;
create function cron.unschedule(job_name text)
returns boolean language plpgsql security definer set search_path = '' as $$
begin
    delete from cron.job where jobname = job_name;
    if not found then
        raise exception 'could not find valid entry for job ''%''', job_name;
    end if;
    return true;
end
$$;
grant usage on schema cron to postgres with grant option;
grant all on all functions in schema cron to postgres with grant option;
grant select on cron.job to postgres with grant option;
grant all on cron.job_run_details to postgres with grant option;
