-- Two pg_cron jobs run everything: each claims what is due in its lane, commits, runs it, commits.

set role stalela_owner;

create function public.claim_task(lane text)
returns text
language plpgsql
volatile
security definer -- cron may not write cron_tasks
set search_path = ''
as $$
declare
    claimed text;
    problem text;
    failed bigint;
begin
    update public.cron_tasks as t
    set
        -- Keeps the beat; beats that were missed are not made up for.
        next_run_at = case
            when t.next_run_at + make_interval(secs => t.interval_s) > clock_timestamp() then t.next_run_at
            else clock_timestamp()
        end + make_interval(secs => t.interval_s),
        lease_until = clock_timestamp() + make_interval(secs => t.lease_s),
        last_started_at = clock_timestamp(),
        -- Still running after its lease: it was cut off and could not say so.
        failures = t.failures + (t.last_status is not distinct from 'running')::integer,
        last_error = case when t.last_status = 'running' then 'cut off before it finished' else t.last_error end,
        last_status = 'running'
    where t.task = any(array(
        select d.task
        from public.cron_tasks as d
        where
            d.lane = claim_task.lane and d.enabled and d.next_run_at <= clock_timestamp()
            and (d.lease_until is null or d.lease_until <= clock_timestamp())
        order by d.next_run_at
        limit 1
        for update skip locked
    ))
    returning t.task, t.failures, t.last_error into claimed, failed, problem;
    if failed >= 3 then
        -- A task that is cut off every time never gets to say so itself.
        perform public.raise_alert(
            'cron_task_failing', 'warning', claimed, null, null, jsonb_build_object('error', problem, 'failures', failed)
        );
    end if;
    return claimed;
end
$$;
comment on function public.claim_task is
'Takes the task of this lane that is due longest, under a lease; null when nothing is due. Commit before running it, so that a task that kills its session is not first in line again.';

create function public.run_task(task text)
returns void
language plpgsql
volatile
security definer -- tasks work as the owner of the tables
set search_path = ''
set lock_timeout = '2s'
as $$
declare
    routine text[];
    problem text;
    failed bigint;
begin
    select string_to_array(t.routine, '.') into strict routine
    from public.cron_tasks as t
    where t.task = run_task.task;
    begin
        execute format('select %I.%I()', routine[1], routine[2]);
    exception when others then
        problem := sqlstate || ' ' || sqlerrm;
    end;

    update public.cron_tasks as t
    set
        runs = t.runs + 1,
        failures = case when problem is null then 0 else t.failures + 1 end,
        last_status = case when problem is null then 'succeeded' else 'failed' end,
        last_error = coalesce(problem, t.last_error),
        last_finished_at = clock_timestamp(),
        lease_until = null
    where t.task = run_task.task
    returning t.failures into failed;
    if failed >= 3 then
        perform public.raise_alert(
            'cron_task_failing', 'warning', task, null, null, jsonb_build_object('error', problem, 'failures', failed)
        );
    end if;
end
$$;
comment on function public.run_task is
'Runs the routine of a claimed task and notes how it went; a failure undoes that task alone, the third in a row raises an alert.';

create function public.lane_deadline(budget interval)
returns timestamptz
language sql
volatile
set search_path = ''
as $$
    -- A whole lane is one statement to the server: stop before its statement_timeout would cut it off.
    select clock_timestamp()
        + least(budget, nullif(current_setting('statement_timeout')::interval, '0 s'::interval) * 0.9);
$$;
comment on function public.lane_deadline is 'When a lane that starts now must stop claiming.';

reset role;
