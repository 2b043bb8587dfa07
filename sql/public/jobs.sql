-- The only two pg_cron jobs: one per lane of public.cron_tasks. They belong to postgres, who may use pg_cron.
-- The loop is in the command, not in a procedure: it commits after each step, which a routine with a fixed
-- search_path cannot do, and a routine without one is what the advisors warn about.

select cron.schedule(lane.name, lane.schedule, format($job$
do $lane$
declare
    deadline timestamptz := public.lane_deadline(%1$L);
    task text;
begin
    delete from cron.job_run_details
    where coalesce(end_time, start_time) < now() - interval '7 days';
    while clock_timestamp() < deadline loop
        task := public.claim_task(%2$L);
        commit;
        if task is null then
            perform pg_catalog.pg_sleep(0.5);
        else
            perform public.run_task(task);
            commit;
        end if;
    end loop;
end
$lane$
$job$, lane.budget, lane.lane))
from (
    values
    ('stalela-fast', 'fast', '* * * * *', '55 seconds'),
    ('stalela-slow', 'slow', '*/5 * * * *', '4 minutes 50 seconds')
) as lane (name, lane, schedule, budget);
