-- Statements: made in SQL, signed by whoever holds the signer, published with their signature.

set role stalela_owner;

create function signing.state(
    statement_id text, tenant_id text, environment text, jurisdiction text, kind text, body text
)
returns void
language plpgsql
volatile
security definer -- callers may not write statements
set search_path = ''
as $$
begin
    insert into signing.statements (statement_id, tenant_id, environment, jurisdiction, kind, body)
    values (
        state.statement_id, state.tenant_id, state.environment, state.jurisdiction, state.kind, state.body
    );
end
$$;
comment on function signing.state is 'Keeps a statement that is to be signed. body: canonical JSON.';

create function signing.statement_work(statement_id text)
returns jsonb
language plpgsql
stable
security definer -- functions may not read statements
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'statement_id', s.statement_id, 'environment', s.environment, 'jurisdiction', s.jurisdiction,
            'body', s.body, 'key', signing.key_facts(signing.active_key(s.jurisdiction, s.environment))
        )
        from signing.statements as s
        where s.statement_id = statement_work.statement_id and s.signature is null
    );
end
$$;
comment on function signing.statement_work is 'What a signer needs to sign a statement; null when it is signed.';

create function signing.claim_statements(max_rows integer)
returns setof jsonb
language plpgsql
volatile
security definer -- functions may not write statements
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    update signing.statements as s
    -- Longer than a provider may take; whoever claims and dies delays it by that.
    set next_attempt_at = now() + interval '30 seconds'
    where s.statement_id = any(array(
        select d.statement_id
        from signing.statements as d
        where d.signature is null and d.next_attempt_at <= now()
        order by d.next_attempt_at
        limit claim_statements.max_rows
        for update skip locked
    ))
    returning signing.statement_work(s.statement_id);
end
$$;
comment on function signing.claim_statements is 'Statements that wait for their signature, each for one signer for 30 seconds.';

create function signing.attach_to_statement(
    statement_id text, key_id text, digest text, signature text, error text, latency_ms integer,
    provider_request_id text
)
returns boolean
language plpgsql
volatile
security definer -- functions may not write statements
set search_path = ''
as $$
#variable_conflict use_column
declare
    stated signing.statements;
    is_wanted boolean;
begin
    select s.* into strict stated
    from signing.statements as s
    where s.statement_id = attach_to_statement.statement_id
    for update;
    if attach_to_statement.digest <> encode(
        sha256(convert_to(signing.stated_text(stated.body, attach_to_statement.key_id), 'UTF8')), 'hex'
    ) then
        raise exception 'the signature is not of what the statement says';
    end if;
    is_wanted := attach_to_statement.signature is not null and stated.signature is null
        and signing.may_sign(attach_to_statement.key_id, null);
    insert into signing.signing_log (
        tenant_id, environment, fiscal_number, key_id, digest, signature, provider_request_id, latency_ms, outcome, error
    ) values (
        coalesce(stated.tenant_id, 'platform'), stated.environment, stated.statement_id, attach_to_statement.key_id,
        attach_to_statement.digest, attach_to_statement.signature, attach_to_statement.provider_request_id,
        attach_to_statement.latency_ms,
        case when is_wanted then 'signed' when attach_to_statement.signature is null then 'failed' else 'discarded' end,
        left(attach_to_statement.error, 500)
    );
    if is_wanted then
        update signing.statements as s
        set key_id = attach_to_statement.key_id, signature = attach_to_statement.signature, signed_at = now()
        where s.statement_id = stated.statement_id;
    end if;
    return is_wanted or stated.signature is not null;
end
$$;
comment on function signing.attach_to_statement is
'Gives a statement its signature, once, when it is of what the statement says and by the active key; logs the provider''s call, a failed one too. Whether the statement is signed now.';

create function signing.stated_text(body text, key_id text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    -- RFC 8785: members in order, no spaces; body is canonical already.
    return format('{"key_id":"%s","statement":%s,"v":1}', stated_text.key_id, stated_text.body);
end
$$;
comment on function signing.stated_text is 'The canonical text that is signed for a statement.';

create function signing.statement_resource(statement_id text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read statements
set search_path = ''
as $$
#variable_conflict use_column
begin
    return (
        select jsonb_build_object(
            'statement', s.body::jsonb, 'key_id', s.key_id, 'signature_alg', k.alg, 'signature', s.signature,
            'signed_at', s.signed_at
        )
        from signing.statements as s
        left join signing.keys as k on k.key_id = s.key_id
        where s.statement_id = statement_resource.statement_id
    );
end
$$;
comment on function signing.statement_resource is 'A statement as it is published; signature is null while it waits for one.';

reset role;
