-- Exact arithmetic in minor units, and the links of the chain.

set role stalela_owner;

create function ledger.half_even(amount_minor bigint, numerator bigint, denominator bigint)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
declare
    product numeric := amount_minor::numeric * numerator;
    whole numeric := div(product, denominator);
    twice_rest numeric := 2 * (product - whole * denominator);
begin
    -- Half to even, because fees are summed by the day and half-up drifts in our favour.
    if twice_rest > denominator or (twice_rest = denominator and whole % 2 = 1) then
        whole := whole + 1;
    end if;
    return whole::bigint;
end
$$;
comment on function ledger.half_even is 'amount × numerator / denominator in whole minor units, half to even. Nothing negative goes in.';

create function ledger.minor(amount text, scale smallint)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
    if
        length(amount) <= 18 and amount ~ '^[0-9]+(\.[0-9]+)?$' and length(split_part(amount, '.', 2)) = scale
    then
        return replace(amount, '.', '')::bigint;
    end if;
    return null;
end
$$;
comment on function ledger.minor is 'The minor units of a decimal string with exactly the currency''s decimals; null for any other text.';

create function ledger.genesis(tenant_id text, environment text)
returns bytea
language plpgsql
immutable
set search_path = ''
as $$
begin
    return sha256(convert_to(concat_ws(E'\n', 'stalela.ledger.v1', tenant_id, environment), 'utf8'));
end
$$;
comment on function ledger.genesis is 'What the first journal of a chain is linked to: no two chains begin alike.';

create function ledger.link(previous bytea, content text)
returns bytea
language plpgsql
immutable
set search_path = ''
as $$
begin
    return sha256(previous || convert_to(content, 'utf8'));
end
$$;
comment on function ledger.link is 'The hash of a journal: SHA-256 of the hash before it and of its own content.';

create function ledger.link_all(head bytea, contents text[])
returns bytea[]
language plpgsql
immutable
set search_path = ''
as $$
declare
    content text;
    hashes bytea[] := '{}'::bytea[];
begin
    foreach content in array contents loop
        -- As ledger.link, without the call.
        head := sha256(head || convert_to(content, 'utf8'));
        hashes := hashes || head;
    end loop;
    return hashes;
end
$$;
comment on function ledger.link_all is 'The hashes of journals that follow one another, the first of them linked to head.';

create function ledger.journal_content(journal ledger.journals, lines text)
returns text
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
begin
    -- Nothing here can hold a line break, so no two journals have the same content.
    return concat_ws(
        E'\n', 'stalela.journal.v1', journal.tenant_id, journal.environment, journal.event_type, journal.period_id,
        journal.rules_version, journal.memo, journal.number, journal.journal_id, journal.journal_key,
        coalesce(journal.event_id, ''), coalesce(journal.transfer_id, ''), journal.occurred_at, journal.posted_at,
        coalesce(journal.related_journal_id, ''), journal.is_memo::text, lines
    );
end
$$;
comment on function ledger.journal_content is
'What a journal''s hash covers: every column but the internal number and the hash itself, then a line per entry. ledger.write and scripts/verify-ledger build the same text.';

reset role;
