-- What is wrong with a part of a chain: computed again from what is stored, believing nothing but the hash before it.

set role stalela_owner;

create function fiscal.broken_link(outlet_id text, after_entry bigint, until_entry bigint, after_hash text)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- a generic plan does not know how long a part is
set jit = 'off' -- it would compile for longer than a part takes
as $$
#variable_conflict use_column
declare
    sealed_until text;
    wrong record;
begin
    select l.sealed_at into sealed_until
    from fiscal.fiscal_ledger as l
    where
        l.outlet_id = broken_link.outlet_id and l.entry_no <= after_entry
        and not exists (select from fiscal.local_seals as t where t.fiscal_number = l.fiscal_number)
    order by l.entry_no desc
    limit 1;
    select e.entry_no, e.fiscal_number, c.failed into wrong
    from (
        select
            l.*,
            lag(l.entry_no, 1, after_entry) over chain as entry_no_before,
            lag(l.entry_hash, 1, after_hash) over chain as hash_before,
            t.credential_id,
            -- A terminal has a clock of its own: what it sealed offline comes later than its time.
            max(case when t.credential_id is null then l.sealed_at end) over (
                order by l.entry_no rows between unbounded preceding and 1 preceding
            ) as sealed_before
        from fiscal.fiscal_ledger as l
        left join fiscal.local_seals as t on t.fiscal_number = l.fiscal_number
        where l.outlet_id = broken_link.outlet_id and l.entry_no > after_entry and l.entry_no <= until_entry
        window chain as (order by l.entry_no)
    ) as e
    left join fiscal.invoices as i on i.invoice_id = e.invoice_id
    cross join lateral (
        select case
            when e.entry_no <> e.entry_no_before + 1 then 'entry_no'
            when e.previous_hash <> e.hash_before then 'previous_hash'
            when e.entry_hash <> encode(sha256(convert_to(concat_ws(
                E'\n', e.fiscal_number, e.canonical_payload_hash, e.sealed_at, e.previous_hash
            ), 'UTF8')), 'hex') then 'entry_hash'
            when e.canonical_payload_hash is distinct from encode(sha256(convert_to(
                case when e.invoice_id is null then fiscal.entry_body(e.record_type, e.fiscal_number) else i.payload end,
                'UTF8'
            )), 'hex') then 'payload_hash'
            when e.credential_id is null and e.sealed_at < coalesce(e.sealed_before, sealed_until) then 'sealed_at'
        end as failed
    ) as c
    where c.failed is not null
    order by e.entry_no
    limit 1;
    if not found then
        return null;
    end if;
    return fiscal.finding(wrong.entry_no, wrong.fiscal_number, wrong.failed);
end
$$;
comment on function fiscal.broken_link is
'The first entry of a part of a chain that does not follow the one before or is not of what it says it is; null when all do. after_hash: of the entry before the part.';

create function fiscal.wrong_row(outlet fiscal.outlets, after_entry bigint, until_entry bigint)
returns jsonb
language plpgsql
stable
security definer -- callers may not read the ledger
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- a generic plan does not know how long a part is
set jit = 'off' -- it would compile for longer than a part takes
as $$
#variable_conflict use_column
declare
    merchant fiscal.merchants;
    wrong record;
begin
    select m.* into strict merchant from fiscal.merchants as m where m.merchant_id = (wrong_row.outlet).merchant_id;
    select e.entry_no, e.fiscal_number, v.failed into wrong
    from fiscal.fiscal_ledger as e
    left join fiscal.invoices as i on i.invoice_id = e.invoice_id
    left join fiscal.signatures as s on s.fiscal_number = e.fiscal_number
    left join signing.keys as k on k.key_id = s.key_id
    -- What nobody hashes was written twice, into logs that are only added to.
    left join signing.signing_log as g on g.fiscal_number = s.fiscal_number and g.signature = s.signature
    left join fiscal.local_seals as t on t.fiscal_number = e.fiscal_number
    left join fiscal.local_seals as p on p.credential_id = t.credential_id and p.sequence = t.sequence - 1
    left join signing.delegated_credentials as c on c.credential_id = t.credential_id
    left join fiscal.events as b on b.subject_id = i.invoice_id and b.seq = 1
    cross join lateral (
        -- What is unknown is as bad as what is false.
        select case
            when (
                e.tenant_id = (wrong_row.outlet).tenant_id and e.environment = (wrong_row.outlet).environment
                and (e.invoice_id is null) = (e.record_type in ('block_void', 'report_z', 'key_rotation', 'archive'))
                and (e.sequence is null) = (e.record_type in ('report_z', 'key_rotation', 'archive'))
                and coalesce(e.sequence, e.series_no) = e.series_no and e.chain_version = 1
                -- Every number ends in its integer, padded to six digits.
                and e.fiscal_number like '%-' || lpad(e.series_no::text, greatest(6, length(e.series_no::text)), '0')
            ) is not true then 'entry'
            when e.invoice_id is not null and (
                i.tenant_id = e.tenant_id and i.environment = e.environment and i.outlet_id = e.outlet_id
                and i.merchant_id = merchant.merchant_id and i.invoice_type = e.record_type
                and i.fiscal_number = e.fiscal_number and i.sequence = e.sequence and i.status = 'fiscalized'
                and i.canonical_payload_hash = e.canonical_payload_hash and i.created_at = e.created_at
                and b.occurred_at = i.created_at and b.actor = i.created_by
                and (
                    -- The text is the one that was hashed; what stands beside it must say the same.
                    select
                        d ->> 'outlet_id' = i.outlet_id and d ->> 'merchant_tin' = merchant.tin
                        and d ->> 'jurisdiction' = merchant.jurisdiction and d ->> 'invoice_type' = i.invoice_type
                        and d ->> 'invoice_ref' is not distinct from i.invoice_ref and d ->> 'cashier_id' = i.cashier_id
                        and d #>> '{totals,currency}' = i.currency
                        and replace(d #>> '{totals,total}', '.', '')::bigint = i.total_minor
                        and replace(d #>> '{totals,total_tax}', '.', '')::bigint = i.tax_minor
                        and i.tax_summary @> (d -> 'tax_groups')
                        and (d ? 'original_fiscal_number') = (i.original_invoice_id is not null)
                        and d ->> 'original_fiscal_number' is not distinct from (
                            select o.fiscal_number from fiscal.invoices as o where o.invoice_id = i.original_invoice_id
                        )
                    from (select i.payload::jsonb as d offset 0) as document -- offset 0: parsed once
                )
            ) is not true then 'document'
            when (
                s.tenant_id = e.tenant_id and s.environment = e.environment and s.outlet_id = e.outlet_id
                and g.digest = s.digest and g.key_id = s.key_id and g.signed_at = s.signed_at
            ) is not true then 'signature'
            when t.fiscal_number is not null and (
                t.tenant_id = e.tenant_id and t.environment = e.environment and t.outlet_id = e.outlet_id
                and t.sequence = e.sequence
                and t.local_hash = encode(sha256(convert_to(concat_ws(
                    E'\n', e.fiscal_number, e.canonical_payload_hash, e.sealed_at, t.local_previous_hash
                ), 'UTF8')), 'hex')
                and t.sequence between c.block_start and c.block_end
                and e.sealed_at::timestamptz between c.not_before and c.expires_at
                and e.sealed_at >= coalesce(p.sealed_at, e.sealed_at)
                -- After the number before it in its block, or after the credential; a missing one leaves this open.
                and t.local_previous_hash = coalesce(
                    p.local_hash, case when t.sequence = c.block_start then c.credential_hash end, t.local_previous_hash
                )
            ) is not true then 'local_seal'
            when (
                k.jurisdiction = merchant.jurisdiction and k.environment = e.environment and k.alg = s.signature_alg
                and (k.revoked_at is null or e.sealed_at::timestamptz < k.revoked_at)
            ) is not true then 'key'
        end as failed
    ) as v
    where
        e.outlet_id = (wrong_row.outlet).outlet_id and e.entry_no > after_entry and e.entry_no <= until_entry
        and v.failed is not null
    order by e.entry_no
    limit 1;
    if not found then
        return null;
    end if;
    return fiscal.finding(wrong.entry_no, wrong.fiscal_number, wrong.failed);
end
$$;
comment on function fiscal.wrong_row is
'The first entry of a sound part of a chain whose row, document, signature or key says something that the hashes do not cover and that is not so; null when all is well.';

reset role;
