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
                public.format_amount(intent.amount_refunded_minor, intent.currency) as amount_refunded,
                upper(right(intent.payment_intent_id, 12)) as account_reference,
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
                intent.canceled_at,
                case when o.order_id is not null then json_build_object(
                    'status', o.status, 'id', o.invoice_id, 'fiscal_number', f.fiscal_number, 'error', o.error
                ) end as invoice
            from (select) as one
            left join payments.transfers as t on t.transfer_id = intent.latest_transfer_id
            left join rails.rails as r on r.rail = t.rail
            left join fiscal.orders as o on o.payment_intent_id = intent.payment_intent_id
            left join fiscal.invoices as f on f.invoice_id = o.invoice_id
        ) as resource
    );
end
$$;
comment on function payments.intent_resource is
'The wire shape of a payment intent as JSON text, in one order; the client secret only for those who may create intents (payments:write).';

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
    return row(caller, intent, reveal_secret and public.holds_scope(caller.scopes, 'payments:write'));
end
$$;
comment on function payments.visible_intent is
'The intent, if this caller may see it: own tenant and environment, with the scope or with the intent''s client secret. Otherwise 40401, so that ids cannot be probed.';

create function payments.transfer_resource(transfer payments.transfers)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return (
        select row_to_json(shown)::text
        from (
            select
                transfer.transfer_id as id,
                'transfer' as object,
                transfer.purpose,
                transfer.intent,
                transfer.state,
                transfer.rail,
                public.format_amount(transfer.amount_minor, transfer.currency) as amount,
                transfer.currency,
                public.format_amount(transfer.returned_minor, transfer.currency) as returned_amount,
                transfer.payer_masked as payer,
                transfer.payee_masked as payee,
                transfer.payment_intent_id as payment_intent,
                transfer.related_transfer_id as related_transfer,
                transfer.external_ref,
                transfer.end_user_ref,
                transfer.description,
                transfer.metadata,
                transfer.rail_ref,
                transfer.receipt,
                transfer.failure,
                transfer.approval,
                transfer.review_reason is not null as needs_review,
                transfer.unallocated_reason,
                transfer.late,
                transfer.body_hash,
                transfer.version,
                transfer.environment,
                transfer.created_at,
                transfer.updated_at,
                transfer.submitted_at,
                transfer.settled_at
        ) as shown
    );
end
$$;
comment on function payments.transfer_resource is 'The wire shape of a transfer as JSON text; parties masked.';

create function payments.movement_status(transfer payments.transfers)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case
        when transfer.approval = 'pending' then 'pending_approval'
        when transfer.approval in ('rejected', 'lapsed') then transfer.approval
        when transfer.state = 'SETTLED' then 'succeeded'
        when transfer.state = 'FAILED' then 'failed'
        when transfer.state = 'RETURNED' then 'returned'
        else 'pending'
    end;
end
$$;
comment on function payments.movement_status is
'A refund or payout in one word: pending_approval, rejected, lapsed, pending, succeeded, failed, returned.';

create function payments.refund_resource(transfer payments.transfers)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return (
        select row_to_json(shown)::text
        from (
            select
                transfer.transfer_id as id,
                'refund' as object,
                payments.movement_status(transfer) as status,
                public.format_amount(transfer.amount_minor, transfer.currency) as amount,
                transfer.currency,
                transfer.payment_intent_id as payment_intent,
                transfer.related_transfer_id as transfer,
                transfer.rail,
                case when transfer.operation = 'refund' then 'reversal' else 'payout' end as method,
                transfer.payee_masked as payee,
                transfer.description as reason,
                transfer.receipt,
                transfer.failure,
                transfer.review_reason is not null as needs_review,
                transfer.metadata,
                transfer.environment,
                transfer.created_at,
                transfer.settled_at
        ) as shown
    );
end
$$;
comment on function payments.refund_resource is 'The wire shape of a refund: a transfer that gives money of another one back.';

create function payments.payout_resource(transfer payments.transfers)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return (
        select row_to_json(shown)::text
        from (
            select
                transfer.transfer_id as id,
                'payout' as object,
                payments.movement_status(transfer) as status,
                public.format_amount(transfer.amount_minor, transfer.currency) as amount,
                transfer.currency,
                json_build_object('type', transfer.rail, 'phone', transfer.payee_masked) as destination,
                transfer.description,
                transfer.external_ref,
                transfer.receipt,
                transfer.failure,
                transfer.review_reason is not null as needs_review,
                transfer.metadata,
                transfer.environment,
                transfer.created_by,
                case when transfer.approval is not null then json_build_object(
                    'status', transfer.approval, 'by', transfer.approval_by, 'at', transfer.approval_at,
                    'reason', transfer.approval_reason
                ) end as approval,
                transfer.created_at,
                transfer.settled_at
        ) as shown
    );
end
$$;
comment on function payments.payout_resource is 'The wire shape of a payout: money sent out to a phone.';

create function payments.resource_of(transfer payments.transfers, reveal_secret boolean)
returns text
language plpgsql
stable
security definer -- callers may not read intents
set search_path = ''
as $$
#variable_conflict use_column
begin
    return case transfer.purpose
        when 'collection' then (
            select payments.intent_resource(i, resource_of.reveal_secret)
            from payments.payment_intents as i
            where i.payment_intent_id = (resource_of.transfer).payment_intent_id
        )
        when 'refund' then payments.refund_resource(transfer)
        when 'payout' then payments.payout_resource(transfer)
        else payments.transfer_resource(transfer)
    end;
end
$$;
comment on function payments.resource_of is 'What a caller is shown of a transfer: the intent it pays, the refund, the payout, or itself.';

create function payments.visible_transfer(transfer_id text, caller public.caller, purposes text[], lock boolean)
returns payments.transfers
language plpgsql
volatile
security definer -- callers may not read transfers
set search_path = ''
as $$
#variable_conflict use_column
declare
    transfer payments.transfers;
begin
    if lock then
        select t.* into transfer from payments.transfers as t
        where t.transfer_id = visible_transfer.transfer_id for no key update;
    else
        select t.* into transfer from payments.transfers as t
        where t.transfer_id = visible_transfer.transfer_id;
    end if;
    if
        not found
        or transfer.tenant_id <> (visible_transfer.caller).tenant_id
        or transfer.environment <> (visible_transfer.caller).environment
        or not transfer.purpose = any(purposes)
    then
        perform public.refuse('40401', format('There is no %s %s here.', case
            when cardinality(purposes) = 1 then purposes[1] else 'transfer'
        end, visible_transfer.transfer_id));
    end if;
    return transfer;
end
$$;
comment on function payments.visible_transfer is
'The transfer, if it is the caller''s and has one of these purposes; 40401 otherwise, so that ids cannot be probed.';

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
