-- Numbers that went to terminals: handed out in blocks, each accounted for in the end.

set role stalela_owner;

create function signing.are_out(outlet_id text, from_number bigint, to_number bigint)
returns boolean
language plpgsql
stable
security definer -- callers may not read blocks
set search_path = ''
as $$
#variable_conflict use_column
begin
    -- Blocks never overlap: together they cover a range when their parts of it add up.
    return from_number <= to_number and to_number - from_number + 1 = (
        select coalesce(sum(least(b.to_number, are_out.to_number) - greatest(b.from_number, are_out.from_number) + 1), 0)
        from signing.number_blocks as b
        where
            b.outlet_id = are_out.outlet_id and b.move = 'reserved'
            and b.from_number <= are_out.to_number and b.to_number >= are_out.from_number
    ) and not exists (
        select from signing.number_blocks as b
        where
            b.outlet_id = are_out.outlet_id and b.move in ('reconciled', 'voided')
            and b.from_number between are_out.from_number and are_out.to_number
    );
end
$$;
comment on function signing.are_out is 'Whether all these numbers are with terminals and none has come back.';

create function signing.missing_numbers(credential_id text)
returns bigint[]
language plpgsql
stable
security definer -- callers may not read blocks
set search_path = ''
as $$
#variable_conflict use_column
begin
    return array(
        select n.number
        from signing.delegated_credentials as c
        cross join generate_series(c.block_start, c.block_end) as n (number)
        where
            c.credential_id = missing_numbers.credential_id
            and not exists (
                select from signing.number_blocks as b
                where
                    b.credential_id = c.credential_id and b.move in ('reconciled', 'voided')
                    and b.from_number = n.number
            )
        order by n.number
    );
end
$$;
comment on function signing.missing_numbers is 'The numbers of a block that are neither documents nor voided yet.';

create function signing.note_move(
    credential signing.delegated_credentials, move text, from_number bigint, to_number bigint, actor text,
    fiscal_number text default null, body text default null
)
returns void
language plpgsql
volatile
security definer -- callers may not write blocks
set search_path = ''
as $$
begin
    insert into signing.number_blocks (
        credential_id, outlet_id, tenant_id, environment, move, from_number, to_number, fiscal_number, body, actor
    ) values (
        credential.credential_id, credential.outlet_id, credential.tenant_id, credential.environment, note_move.move,
        note_move.from_number, note_move.to_number, note_move.fiscal_number, note_move.body, note_move.actor
    );
    if note_move.move in ('reconciled', 'voided') and cardinality(signing.missing_numbers(credential.credential_id)) = 0 then
        update signing.delegated_credentials as c
        set status = 'closed'
        where c.credential_id = credential.credential_id and c.status <> 'revoked';
    end if;
end
$$;
comment on function signing.note_move is 'Writes down what became of numbers; the last one of a block closes it.';

reset role;
