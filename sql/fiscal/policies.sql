-- Who may see and who may call. A person limited to one outlet sees that outlet's rows alone, a cashier what was sold in
-- their name, and no reports.

set role stalela_owner;

create policy merchants_select_own on fiscal.merchants
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy outlets_select_own on fiscal.outlets
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy operators_select_own on fiscal.operators
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy invoices_select_own on fiscal.invoices
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and (
        (select fiscal.own_cashier()) is null
        or (outlet_id = (select fiscal.own_outlet()) and cashier_id = (select fiscal.own_cashier()))
    )
);

create policy fiscal_ledger_select_own on fiscal.fiscal_ledger
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(invoice_id))
);

create policy events_select_own on fiscal.events
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or payload ->> 'outlet_id' = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(subject_id))
);

create policy orders_select_own on fiscal.orders
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and (
        (select fiscal.own_cashier()) is null
        or (outlet_id = (select fiscal.own_outlet()) and document ->> 'cashier_id' = (select fiscal.own_cashier()))
    )
);

create policy document_links_select_own on fiscal.document_links
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(invoice_id))
);

create policy archive_manifests_select_own on fiscal.archive_manifests
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy archive_copies_select_own on fiscal.archive_copies
for select to authenticated
using (tenant_id = (select public.tenant_id()) and environment = (select public.environment()));

create policy signatures_select_own on fiscal.signatures
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(fiscal_number))
);

create policy drafts_select_own on fiscal.drafts
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and (
        (select fiscal.own_cashier()) is null
        or (outlet_id = (select fiscal.own_outlet()) and document ->> 'cashier_id' = (select fiscal.own_cashier()))
    )
);

create policy prints_select_own on fiscal.prints
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(invoice_id))
);

create policy open_days_select_own on fiscal.open_days
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
);

create policy reports_select_own on fiscal.reports
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and (select fiscal.own_cashier()) is null
);

create policy verification_counts_select_own on fiscal.verification_counts
for select to authenticated
using (
    tenant_id = (select public.tenant_id()) and environment = (select public.environment())
    and ((select public.outlet_id()) is null or outlet_id = (select public.outlet_id()))
    and ((select fiscal.own_cashier()) is null or fiscal.is_own(fiscal_number))
);

create function fiscal.forbid_rewriting()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_op <> 'UPDATE' or to_jsonb(new) - 'status' <> to_jsonb(old) - 'status' or old.status = 'fiscalized' then
        raise exception 'a numbered document never changes';
    end if;
    return new;
end
$$;
comment on function fiscal.forbid_rewriting is 'A document keeps every column but its status, and that until it is fiscalized.';

create trigger invoices_keep_their_words
before update or delete on fiscal.invoices
for each row execute function fiscal.forbid_rewriting();

create trigger invoices_stay
before truncate on fiscal.invoices
for each statement execute function fiscal.forbid_rewriting();

grant execute on function fiscal.own_outlet, fiscal.own_cashier, fiscal.is_own to authenticated;

grant usage on schema fiscal to fn_invoices, fn_merchants;
grant execute on function fiscal.seal, fiscal.attach_signature, fiscal.numbered_invoice, fiscal.get_invoice,
fiscal.get_creditable, fiscal.list_invoices, fiscal.may_preview,
fiscal.save_draft, fiscal.replace_draft, fiscal.get_draft, fiscal.list_drafts, fiscal.cancel_draft, fiscal.seal_draft,
fiscal.fail_draft, fiscal.get_printable_draft, fiscal.get_printable, fiscal.print_invoice, fiscal.list_prints
to fn_invoices;
grant execute on function fiscal.take_orders, fiscal.issue_order, fiscal.fail_order to fn_invoices;
grant execute on function
fiscal.put_merchant, fiscal.get_merchant, fiscal.create_outlet, fiscal.list_outlets, fiscal.put_operator
to fn_merchants;
grant usage on schema fiscal to fn_verify;
grant execute on function fiscal.verify, fiscal.verify_as_caller, fiscal.count_views to fn_verify;

grant usage on schema fiscal to fn_reports;
grant execute on function
fiscal.close_business_day, fiscal.get_report, fiscal.list_reports, fiscal.x_report, fiscal.periodic_report,
fiscal.list_articles, fiscal.list_declared, fiscal.export_range, fiscal.export_entries
to fn_reports;

grant usage on schema fiscal to fn_archive, postgres;
grant execute on function
fiscal.archive_due, fiscal.archive_page, fiscal.archive_keys, fiscal.record_manifest, fiscal.archive_open,
fiscal.record_copy, fiscal.tell_archive_trouble, fiscal.ask_for_archive, fiscal.list_archive
to fn_archive;
grant execute on function fiscal.poke_archive to postgres;

reset role;
