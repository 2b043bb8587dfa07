-- The audit trail.

set role stalela_owner;

create function public.audit(caller public.caller, action text, subject text, details jsonb)
returns void
language sql
volatile
security definer -- callers may not write the audit log
set search_path = ''
as $$
    insert into public.audit_log (tenant_id, environment, actor, action, subject, details, request_id)
    values (
        (audit.caller).tenant_id, (audit.caller).environment, coalesce((audit.caller).actor, 'system'),
        audit.action, audit.subject, coalesce(audit.details, '{}'),
        nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-request-id'
    );
$$;
comment on function public.audit is 'Records who did what to which subject; a null caller is the system itself.';

reset role;
