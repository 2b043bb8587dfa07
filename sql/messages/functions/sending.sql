-- Mail on its way: kept, claimed within the day's budget, answered for, followed to its end.

set role stalela_owner;

create function messages.add_message(
    kind text, tenant_id text, environment text, subject_id text, dedupe_key text, rendered jsonb
)
returns messages.messages
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    added messages.messages;
begin
    insert into messages.messages (
        message_id, tenant_id, environment, kind, subject_id, dedupe_key, language, recipient_masked, recipient_hash,
        body_sealed, sms_text, expires_at
    )
    select public.new_id('msg'), add_message.tenant_id, add_message.environment, k.kind, add_message.subject_id,
        add_message.dedupe_key, rendered ->> 'language', rendered ->> 'recipient_masked',
        rendered ->> 'recipient_hash', rendered ->> 'body_sealed', rendered ->> 'sms_text',
        now() + make_interval(secs => k.valid_for_s)
    from messages.kinds as k
    where k.kind = add_message.kind
    on conflict on constraint messages_dedupe_key_key do nothing
    returning * into added;
    return added;
end
$$;
comment on function messages.add_message is
'Keeps a rendered mail {language, recipient_masked, recipient_hash, body_sealed, sms_text}; all null when there is one of this dedupe_key already.';

create function messages.claim_messages(kinds text[], max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    today date := (now() at time zone 'UTC')::date;
    due messages.messages;
    ceiling integer;
    budget integer := public.setting('messages.daily_budget')::integer;
    spent integer;
begin
    if exists (select from messages.pauses as p where p.until > now()) then
        return;
    end if;
    -- Whoever claims holds the day's budget; senders take turns.
    insert into messages.budgets (day, used) values (today, 0) on conflict do nothing;
    select b.used into spent from messages.budgets as b where b.day = today for update;
    for due in
        select m.*
        from messages.messages as m
        inner join messages.kinds as k on k.kind = m.kind
        where
            m.status = 'queued' and m.next_attempt_at <= now() and m.kind = any(claim_messages.kinds)
            and (m.lease_until is null or m.lease_until <= now())
        order by k.priority, m.next_attempt_at
        limit max_rows
        for update of m skip locked
    loop
        -- A lease that ran out: who held it may have sent the mail.
        if due.lease_until is not null then
            due.unsure_since := coalesce(due.unsure_since, due.updated_at);
        end if;
        if exists (select from messages.suppressions as s where s.address_hash = due.recipient_hash) then
            perform messages.end_message(due.message_id, 'suppressed', 'the address is suppressed');
        elsif due.unsure_since <= now() - interval '23 hours' then
            perform messages.end_message(due.message_id, 'unknown', 'the provider has forgotten the key');
            perform public.raise_alert(
                'mail_unknown', 'warning', due.kind, null, null,
                jsonb_build_object('message_id', due.message_id, 'subject_id', due.subject_id)
            );
        elsif due.expires_at <= now() then
            perform messages.end_message(due.message_id, 'expired', coalesce(due.last_error, 'no room in the budget'));
        else
            select budget * k.ceiling_percent / 100 into ceiling from messages.kinds as k where k.kind = due.kind;
            if due.budget_day is distinct from today and spent >= ceiling then
                update messages.messages as m
                set next_attempt_at = (today + 1)::timestamp at time zone 'UTC', unsure_since = due.unsure_since,
                    lease_until = null
                where m.message_id = due.message_id;
                perform public.raise_alert(
                    'mail_budget_spent', 'warning', today::text, null, null,
                    jsonb_build_object('kind', due.kind, 'used', spent, 'budget', budget)
                );
                continue;
            end if;
            spent := spent + (due.budget_day is distinct from today)::integer;
            update messages.messages as m
            set lease_until = now() + interval '60 seconds', attempts = m.attempts + 1, budget_day = today,
                unsure_since = due.unsure_since, updated_at = now()
            where m.message_id = due.message_id;
            return next jsonb_build_object(
                'message_id', due.message_id, 'dedupe_key', due.dedupe_key, 'body_sealed', due.body_sealed
            );
        end if;
    end loop;
    update messages.budgets as b set used = spent where b.day = today and b.used <> spent;
end
$$;
comment on function messages.claim_messages is
'Leases mail that is due for a minute, most urgent first, each counted once in the day''s budget. Ends what must not be sent any more: suppressed, expired, or unanswered for so long that sending again could send twice.';

create function messages.end_message(message_id text, status text, reason text)
returns void
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
begin
    update messages.messages as m
    set status = end_message.status, last_error = end_message.reason, lease_until = null, updated_at = now()
    where m.message_id = end_message.message_id and m.status = 'queued';
end
$$;
comment on function messages.end_message is 'A queued message that will not be sent (again).';

create function messages.record_sending(
    message_id text, verdict text, email_id text, code text, retry_after_s integer, pause_s integer, is_unsure boolean
)
returns text
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    message messages.messages;
    waits_s constant integer[] := array[5, 30, 120, 600, 1800, 3600];
begin
    select m.* into message
    from messages.messages as m
    where m.message_id = record_sending.message_id and m.status = 'queued'
    for update;
    if not found then
        return null; -- recorded before
    end if;
    if pause_s is not null then
        insert into messages.pauses as p (provider, until, reason)
        values ('resend', now() + make_interval(secs => pause_s), coalesce(code, verdict))
        on conflict on constraint pauses_pkey do update
        set until = greatest(p.until, excluded.until), reason = excluded.reason;
    end if;
    case verdict
        when 'sent' then
            update messages.messages as m
            set status = 'sent', email_id = record_sending.email_id, lease_until = null, last_error = null,
                updated_at = now()
            where m.message_id = record_sending.message_id;
            -- News may have overtaken the answer.
            perform messages.follow_mail(record_sending.email_id);
            delete from messages.pauses as p where p.until <= now();
            if found then
                perform public.resolve_alert('mail_parked', 'resend', 'mail is taken again');
            end if;
        when 'kept' then
            perform messages.end_message(message_id, 'kept', 'no provider is configured');
        when 'final' then
            perform messages.end_message(message_id, 'failed', code);
            perform public.raise_alert(
                'mail_refused', 'warning', message.kind, null, null,
                jsonb_build_object('code', code, 'message_id', message.message_id)
            );
        else
            update messages.messages as m
            set
                next_attempt_at = now() + make_interval(secs => greatest(
                    coalesce(retry_after_s, pause_s, 0),
                    case when pause_s is null then waits_s[least(m.attempts, cardinality(waits_s))] else 0 end
                )),
                lease_until = null, last_error = code, updated_at = now(),
                unsure_since = case when is_unsure then coalesce(m.unsure_since, now()) else m.unsure_since end,
                -- What was certainly not taken costs nothing of the budget.
                budget_day = case when is_unsure then m.budget_day end
            where m.message_id = record_sending.message_id;
            if not is_unsure then
                update messages.budgets as b set used = greatest(0, b.used - 1) where b.day = message.budget_day;
            end if;
            if verdict = 'park' then
                perform public.raise_alert(
                    'mail_parked', 'critical', 'resend', null, null, jsonb_build_object('code', code, 'pause_s', pause_s)
                );
            end if;
    end case;
    return verdict;
end
$$;
comment on function messages.record_sending is
'What one attempt brought: sent, kept, final, or when to try again (retry, and park for all mail). Null: recorded before.';

create function messages.follow_mail(email_id text)
returns text
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
declare
    -- News comes in any order; the worst that was told stands.
    ranks constant text[] := array['sent', 'delayed', 'delivered', 'failed', 'suppressed', 'bounced', 'complained'];
    told text;
begin
    select ranks[max(array_position(ranks, case e.kind when 'delivery_delayed' then 'delayed' else e.kind end))]
    into told
    from messages.mail_events as e
    where e.email_id = follow_mail.email_id;
    update messages.messages as m
    set status = told, updated_at = now()
    where
        m.email_id = follow_mail.email_id
        and array_position(ranks, told) > array_position(ranks, m.status);
    return told;
end
$$;
comment on function messages.follow_mail is 'Moves the message of a mail to the furthest state that the provider has told of; never back.';

create function messages.record_mail_event(
    event_id text, kind text, email_id text, occurred_at timestamptz, address_hashes text[], addresses_masked text[]
)
returns text
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
#variable_conflict use_column
begin
    insert into messages.mail_events (event_id, kind, email_id, occurred_at)
    values (
        record_mail_event.event_id, record_mail_event.kind, record_mail_event.email_id, record_mail_event.occurred_at
    )
    on conflict do nothing;
    if not found then
        return 'duplicate';
    end if;
    if kind in ('bounced', 'complained', 'suppressed') then
        insert into messages.suppressions (address_hash, address_masked, reason, email_id)
        select a.hash, a.masked, record_mail_event.kind, record_mail_event.email_id
        from unnest(address_hashes, addresses_masked) as a (hash, masked)
        on conflict do nothing;
    end if;
    return coalesce(messages.follow_mail(email_id), 'noted');
end
$$;
comment on function messages.record_mail_event is
'Keeps one event of the provider and follows its mail; a bounce or a complaint suppresses the address. Returns duplicate, noted (nothing to follow) or the state told. Never changes a payment.';

create function messages.purge()
returns integer
language plpgsql
volatile
security definer -- callers may not write messages
set search_path = ''
as $$
declare
    oldest timestamptz := now() - make_interval(days => public.setting('messages.keep_days')::integer);
    purged integer;
begin
    delete from messages.messages as m
    where m.message_id = any(array(
        select d.message_id from messages.messages as d
        where d.status <> 'queued' and d.created_at < oldest
        order by d.created_at limit 5000
    ));
    get diagnostics purged = row_count;
    delete from messages.mail_events as e
    where e.event_id = any(array(
        select d.event_id from messages.mail_events as d where d.received_at < oldest order by d.received_at limit 5000
    ));
    delete from fiscal.document_links as k
    where k.token_hash = any(array(
        select d.token_hash from fiscal.document_links as d where d.expires_at < now() order by d.expires_at limit 5000
    ));
    delete from messages.budgets as b where b.day < oldest::date;
    return purged;
end
$$;
comment on function messages.purge is 'Removes up to 5,000 messages that are done with and older than messages.keep_days, and links that have expired. A cron task.';

reset role;
