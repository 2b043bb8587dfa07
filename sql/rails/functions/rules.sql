-- What a rail accepts and what its codes mean.

set role stalela_owner;

create function rails.check_amount(rail text, amount_minor bigint, currency text)
returns void
language plpgsql
stable
security definer -- callers may not read rails
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules rails.rails;
    broken text;
begin
    select r.* into rules from rails.rails as r where r.rail = check_amount.rail and r.enabled;
    if not found then
        perform public.refuse('42261', format('%s is not a payment method here.', check_amount.rail), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/payment_method_types',
                'detail', format('must be among: %s', (
                    select string_agg(r.rail, ', ' order by r.rail) from rails.rails as r where r.enabled
                ))
            ))
        ));
    end if;
    if not check_amount.currency = any(rules.currencies) then
        perform public.refuse('42251', format('%s takes %s, not %s.', rules.name,
            array_to_string(rules.currencies, ', '), check_amount.currency), jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object(
                'pointer', '/currency', 'detail', format('%s takes %s', rules.name, array_to_string(rules.currencies, ', '))
            ))
        ));
    end if;
    broken := case
        when check_amount.amount_minor % rules.step_minor <> 0 then rules.step_rule
        when check_amount.amount_minor not between rules.min_minor and rules.max_minor then format(
            '%s takes %s to %s %s', rules.name,
            public.format_amount(rules.min_minor, check_amount.currency),
            public.format_amount(rules.max_minor, check_amount.currency), check_amount.currency
        )
    end;
    if broken is not null then
        perform public.refuse('42251', broken || '.', jsonb_build_object(
            'errors', jsonb_build_array(jsonb_build_object('pointer', '/amount', 'detail', broken))
        ));
    end if;
end
$$;
comment on function rails.check_amount is 'Refuses (42251, 42261) an amount or currency this rail cannot take; every limit is a column of rails.rails.';

create function rails.check_payout(rail text, amount_minor bigint, currency text)
returns void
language plpgsql
stable
security definer -- callers may not read rails
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules rails.rails;
    broken text;
begin
    select r.* into rules from rails.rails as r
    where r.rail = check_payout.rail and r.enabled and r.payout_min_minor is not null;
    if not found then
        perform public.refuse_field('42261', '/destination/type', format('%s does not pay out here.', check_payout.rail));
    elsif not check_payout.currency = any(rules.currencies) then
        perform public.refuse_field('42251', '/currency', format(
            '%s takes %s, not %s.', rules.name, array_to_string(rules.currencies, ', '), check_payout.currency
        ));
    end if;
    broken := case
        when check_payout.amount_minor % rules.step_minor <> 0 then rules.step_rule
        when check_payout.amount_minor not between rules.payout_min_minor and rules.payout_max_minor then format(
            '%s pays out %s to %s %s', rules.name,
            public.format_amount(rules.payout_min_minor, check_payout.currency),
            public.format_amount(rules.payout_max_minor, check_payout.currency), check_payout.currency
        )
    end;
    if broken is not null then
        perform public.refuse_field('42251', '/amount', broken || '.');
    end if;
end
$$;
comment on function rails.check_payout is 'Refuses (42251, 42261) what this rail cannot pay out; every limit is a column of rails.rails.';

create function rails.check_credentials(tenant_id text, environment text, rail text)
returns void
language plpgsql
stable
security definer -- callers may not read credentials
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform from rails.credentials as c
    where
        c.tenant_id = check_credentials.tenant_id and c.environment = check_credentials.environment
        and c.rail = check_credentials.rail;
    if not found then
        perform public.refuse('42260', format(
            'No %s credentials for %s yet: put them with PUT /functions/v1/merchants/credentials/%s.',
            check_credentials.rail, check_credentials.environment, check_credentials.rail
        ));
    end if;
end
$$;
comment on function rails.check_credentials is 'Refuses (42260) when the tenant has no credentials of this rail in this environment.';

create function rails.failure_of(rail text, event jsonb)
returns jsonb
language plpgsql
stable
security definer -- callers may not read reason codes
set search_path = ''
as $$
begin
    return (
        select jsonb_build_object(
            -- The rail's module is more precise than the row, unless it did not know the code at all.
            'code', coalesce(
                nullif(failure_of.event ->> 'reason', 'UNKNOWN_RAIL_ERROR'), known.reason, 'UNKNOWN_RAIL_ERROR'
            ),
            'message', coalesce(known.meaning, failure_of.event ->> 'message', 'The rail refused without saying why.'),
            'rail_code', failure_of.event ->> 'code',
            'retryable', coalesce(known.payer_may_retry, failure_of.event ->> 'outcome' = 'failed_retryable'),
            'retry_after', coalesce((failure_of.event ->> 'retry_after_s')::integer, known.retry_after_s)
        )
        from (select) as one
        left join lateral (
            -- A row `code/fragment`, whose fragment the message contains, wins over the bare code.
            select k.*
            from rails.reason_codes as k
            where
                k.rail = failure_of.rail
                and k.channel = coalesce(
                    failure_of.event ->> 'channel',
                    case when failure_of.event ->> 'source' = 'submit' then 'api' else 'stk' end
                )
                and split_part(k.code, '/', 1) = failure_of.event ->> 'code'
                and strpos(lower(coalesce(failure_of.event ->> 'message', '')), split_part(k.code, '/', 2)) > 0
            order by length(k.code) desc
            limit 1
        ) as known on true
    );
end
$$;
comment on function rails.failure_of is
'last_error of an intent from a rail event: {code, message, rail_code, retryable, retry_after}. retryable: the payer may try again.';

reset role;
