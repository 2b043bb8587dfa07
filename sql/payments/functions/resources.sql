-- What callers see of an intent, and who may see it.
-- plpgsql where plain SQL would do: a session plans a plpgsql function once, a SQL function in each query that calls it.

set role stalela_owner;

create function payments.intent_resource(intent payments.payment_intents, reveal_secret boolean)
returns text
language plpgsql
stable
security definer -- callers may not read transfers
set search_path = ''
as $$
begin
    return (
        select row_to_json(resource)::text
        from (
            select
                intent.payment_intent_id as id,
                'payment_intent' as object,
                intent.status,
                public.format_amount(intent.amount_minor, intent.currency) as amount,
                intent.currency,
                public.format_amount(intent.amount_received_minor, intent.currency) as amount_received,
                intent.payment_method_types,
                intent.description,
                intent.customer,
                intent.metadata,
                intent.return_url,
                case when reveal_secret then intent.client_secret end as client_secret,
                intent.last_error,
                case when intent.status = 'processing' and t.state = 'ACCEPTED' then json_build_object(
                    'type', 'approve_on_phone', 'rail', t.rail, 'phone', t.payer_masked,
                    'expires_at', t.submitted_at + make_interval(secs => r.prompt_lifetime_s)
                ) end as next_action,
                case when t.transfer_id is not null then json_build_object(
                    'id', t.transfer_id, 'rail', t.rail, 'state', t.state, 'payer', t.payer_masked,
                    'receipt', t.receipt, 'needs_review', t.review_reason is not null, 'late', t.late
                ) end as latest_transfer,
                intent.environment,
                intent.cancellation_reason,
                intent.created_at,
                intent.expires_at,
                intent.canceled_at
            from (select) as one
            left join payments.transfers as t on t.transfer_id = intent.latest_transfer_id
            left join rails.rails as r on r.rail = t.rail
        ) as resource
    );
end
$$;
comment on function payments.intent_resource is
'The wire shape of a payment intent as JSON text, in one order; the client secret only for those who hold a secret key.';

create function payments.visible_intent(payment_intent_id text, scope text, bucket text, lock boolean)
returns payments.sight
language plpgsql
volatile
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
declare
    caller public.caller;
    payer public.caller;
    intent payments.payment_intents;
    secret_hash text := nullif(pg_catalog.current_setting('request.headers', true), '')::jsonb
        ->> 'x-stalela-client-secret-hash';
    -- A payer's browser holds a publishable key and the secret of this one intent, never a secret key.
    reveal_secret boolean := secret_hash is null;
begin
    if reveal_secret then
        caller := public.authorize(scope, bucket);
    else
        caller := public.caller();
        if not public.holds_scope(caller.scopes, 'payments:confirm') then
            perform public.refuse('40311', 'This needs the scope payments:confirm.');
        end if;
    end if;

    if lock then
        select i.* into intent from payments.payment_intents as i
        where i.payment_intent_id = visible_intent.payment_intent_id for no key update;
    else
        select i.* into intent from payments.payment_intents as i
        where i.payment_intent_id = visible_intent.payment_intent_id;
    end if;
    if
        not found
        or intent.tenant_id <> caller.tenant_id
        or intent.environment <> caller.environment
        or (not reveal_secret and encode(sha256(convert_to(intent.client_secret, 'utf8')), 'hex') <> secret_hash)
    then
        perform public.refuse('40401', format('There is no payment intent %s here.', visible_intent.payment_intent_id));
    end if;
    if not reveal_secret then
        -- All payers of a merchant share one publishable key: each intent has a bucket of its own, or one payer could
        -- shut the checkout to the others.
        payer := caller;
        payer.actor := intent.payment_intent_id;
        caller.rate := public.take_token(payer, bucket);
    end if;
    return row(caller, intent, reveal_secret);
end
$$;
comment on function payments.visible_intent is
'The intent, if this caller may see it: own tenant and environment, with the scope or with the intent''s client secret. Otherwise 40401, so that ids cannot be probed.';

create function payments.random_secret()
returns text
language plpgsql
volatile
set search_path = ''
as $$
begin
    -- Three random uuids carry 366 bits; the hash keeps 256 of them.
    return encode(sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    ), 'hex');
end
$$;
comment on function payments.random_secret is '256 random bits as 64 hexadecimal digits.';

reset role;
