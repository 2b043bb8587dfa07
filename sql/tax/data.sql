-- Reference rows. Written by scripts/data from shared/; edit the files named below.

set role stalela_owner;

-- shared/fiscal/cd/tax.jurisdictions.csv
-- shared/fiscal/ke/tax.jurisdictions.csv
-- shared/fiscal/zw/tax.jurisdictions.csv
insert into tax.jurisdictions (jurisdiction, name, authority, tax_currency, currencies, tax_level, tin_name, tin_pattern, time_zones, retention_years, closes_empty_days, languages)
values
('CD', 'DR Congo', 'DGI', 'CDF', '{CDF,USD}', 'line', 'NIF', '^[A-Z0-9]{6,15}$', '{Africa/Kinshasa,Africa/Lubumbashi}', '10', 'true', '{fr,en,sw}'),
('KE', 'Kenya', 'KRA', 'KES', '{KES,USD}', 'line', 'PIN', '^[A-Z][0-9]{9}[A-Z]$', '{Africa/Nairobi}', '10', 'true', '{en,sw,fr}'),
('ZW', 'Zimbabwe', 'ZIMRA', 'ZWG', '{ZWG,USD,ZAR}', 'group', 'TIN', '^[0-9]{10}$', '{Africa/Harare}', '10', 'true', '{en,fr,sw}')
on conflict (jurisdiction) do update set
    name = excluded.name,
    authority = excluded.authority,
    tax_currency = excluded.tax_currency,
    currencies = excluded.currencies,
    tax_level = excluded.tax_level,
    tin_name = excluded.tin_name,
    tin_pattern = excluded.tin_pattern,
    time_zones = excluded.time_zones,
    retention_years = excluded.retention_years,
    closes_empty_days = excluded.closes_empty_days,
    languages = excluded.languages;

-- shared/fiscal/cd/tax.manifests.csv
-- shared/fiscal/ke/tax.manifests.csv
-- shared/fiscal/zw/tax.manifests.csv
insert into tax.manifests (manifest_version, jurisdiction, surface, valid_from, valid_to, source)
values
('CD-2026-01', 'CD', 'merchant', '2026-01-01T00:00:00Z', null, 'Tax groups TG01 to TG14 of the product'),
('CD-DGI-2026-03', 'CD', 'authority', '2026-03-01T00:00:00Z', null, 'Groups A to P of the DGI interface; compared with its taxGroups every day'),
('KE-2023-07', 'KE', 'merchant', '2023-07-01T00:00:00Z', null, 'Tax types A to E of the eTIMS code list; the list fetched at run time wins'),
('ZW-2023-01', 'ZW', 'merchant', '2023-01-01T00:00:00Z', '2025-12-15T00:00:00Z', 'FDMS applicableTaxes as seen before 15 December 2025; GetConfig of the device wins'),
('ZW-2025-12', 'ZW', 'merchant', '2025-12-15T00:00:00Z', null, 'FDMS applicableTaxes as seen from 15 December 2025; GetConfig of the device wins')
on conflict (manifest_version) do update set
    jurisdiction = excluded.jurisdiction,
    surface = excluded.surface,
    valid_from = excluded.valid_from,
    valid_to = excluded.valid_to,
    source = excluded.source;

-- shared/fiscal/cd/tax.tax_groups.csv
-- shared/fiscal/ke/tax.tax_groups.csv
-- shared/fiscal/zw/tax.tax_groups.csv
insert into tax.tax_groups (manifest_version, tax_group, name, rate, treatment)
values
('CD-2026-01', 'TG01', 'Exempt', '0.00', 'exempt'),
('CD-2026-01', 'TG02', 'Standard VAT on goods', '0.16', 'standard'),
('CD-2026-01', 'TG03', 'Standard VAT on services', '0.16', 'standard'),
('CD-2026-01', 'TG04', 'Reduced VAT', '0.09', 'reduced'),
('CD-2026-01', 'TG05', 'VAT of public financing', '0.16', 'standard'),
('CD-2026-01', 'TG06', 'Customs VAT', '0.16', 'standard'),
('CD-2026-01', 'TG07', 'Export', '0.00', 'zero'),
('CD-2026-01', 'TG08', 'Special regime of agriculture', '0.05', 'special'),
('CD-2026-01', 'TG09', 'Special regime of mining', '0.10', 'special'),
('CD-2026-01', 'TG10', 'Specific tax on fuel', '0.25', 'excise'),
('CD-2026-01', 'TG11', 'Specific tax on tobacco', '0.30', 'excise'),
('CD-2026-01', 'TG12', 'Specific tax on alcohol', '0.20', 'excise'),
('CD-2026-01', 'TG13', 'Specific tax on telecommunications', '0.15', 'excise'),
('CD-2026-01', 'TG14', 'Specific tax on digital services', '0.12', 'excise'),
('CD-DGI-2026-03', 'A', 'Exempt and out of scope', '0.00', 'exempt'),
('CD-DGI-2026-03', 'B', 'Taxable', '0.16', 'standard'),
('CD-DGI-2026-03', 'C', 'Taxable at the reduced rate', '0.05', 'reduced'),
('CD-DGI-2026-03', 'D', 'Derogatory regimes', '0.00', 'exempt'),
('CD-DGI-2026-03', 'E', 'Export and assimilated', '0.00', 'zero'),
('CD-DGI-2026-03', 'F', 'Externally financed public contract', '0.16', 'standard'),
('CD-DGI-2026-03', 'G', 'Externally financed public contract at the reduced rate', '0.05', 'reduced'),
('CD-DGI-2026-03', 'H', 'Packaging deposit', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'I', 'Guarantee', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'J', 'Disbursements invoiced at cost', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'K', 'Supplies by persons not liable to VAT', '0.00', 'out_of_scope'),
('CD-DGI-2026-03', 'L', 'Levies on sales', null, 'levy'),
('CD-DGI-2026-03', 'M', 'Regulated sales before their specific VAT', '0.00', 'special'),
('CD-DGI-2026-03', 'N', 'Specific VAT of regulated sales', null, 'levy'),
('CD-DGI-2026-03', 'O', 'Taxable at the super-reduced rate', '0.01', 'reduced'),
('CD-DGI-2026-03', 'P', 'Externally financed public contract at the super-reduced rate', '0.01', 'reduced'),
('KE-2023-07', 'A', 'Exempt', '0.00', 'exempt'),
('KE-2023-07', 'B', 'Standard rated', '0.16', 'standard'),
('KE-2023-07', 'C', 'Zero rated', '0.00', 'zero'),
('KE-2023-07', 'D', 'Not VAT', '0.00', 'out_of_scope'),
('KE-2023-07', 'E', 'Special rate', '0.08', 'special'),
('ZW-2023-01', '1', 'Exempt', '0.00', 'exempt'),
('ZW-2023-01', '2', 'Zero rated', '0.00', 'zero'),
('ZW-2023-01', '514', 'Non-VAT withholding tax', '0.05', 'special'),
('ZW-2023-01', '517', 'Standard rated', '0.15', 'standard'),
('ZW-2025-12', '1', 'Exempt', '0.00', 'exempt'),
('ZW-2025-12', '2', 'Zero rated', '0.00', 'zero'),
('ZW-2025-12', '514', 'Non-VAT withholding tax', '0.05', 'special'),
('ZW-2025-12', '517', 'Standard rated', '0.155', 'standard')
on conflict (manifest_version, tax_group) do update set
    name = excluded.name,
    rate = excluded.rate,
    treatment = excluded.treatment;

-- shared/fiscal/cd/tax.group_rules.csv
-- shared/fiscal/ke/tax.group_rules.csv
-- shared/fiscal/zw/tax.group_rules.csv
insert into tax.group_rules (manifest_version, step, rule, tax_group)
values
('CD-2026-01', '1', 'embassy', 'TG01'),
('CD-2026-01', '2', 'export', 'TG07'),
('CD-2026-01', '3', 'fuel', 'TG10'),
('CD-2026-01', '3', 'tobacco', 'TG11'),
('CD-2026-01', '3', 'alcohol', 'TG12'),
('CD-2026-01', '3', 'telecommunications', 'TG13'),
('CD-2026-01', '3', 'digital', 'TG14'),
('CD-2026-01', '3', 'agriculture', 'TG08'),
('CD-2026-01', '3', 'mining', 'TG09'),
('CD-2026-01', '3', 'public_financing', 'TG05'),
('CD-2026-01', '3', 'customs', 'TG06'),
('CD-2026-01', '3', 'exempt', 'TG01'),
('CD-2026-01', '4', 'essential', 'TG04'),
('CD-2026-01', '5', 'goods', 'TG02'),
('CD-2026-01', '5', 'service', 'TG03'),
('KE-2023-07', '2', 'export', 'C'),
('KE-2023-07', '3', 'exempt', 'A'),
('KE-2023-07', '3', 'zero_rated', 'C'),
('KE-2023-07', '3', 'not_vat', 'D'),
('KE-2023-07', '3', 'special_rate', 'E'),
('KE-2023-07', '5', 'goods', 'B'),
('KE-2023-07', '5', 'service', 'B'),
('ZW-2023-01', '2', 'export', '2'),
('ZW-2023-01', '3', 'exempt', '1'),
('ZW-2023-01', '3', 'zero_rated', '2'),
('ZW-2023-01', '5', 'goods', '517'),
('ZW-2023-01', '5', 'service', '517'),
('ZW-2025-12', '2', 'export', '2'),
('ZW-2025-12', '3', 'exempt', '1'),
('ZW-2025-12', '3', 'zero_rated', '2'),
('ZW-2025-12', '5', 'goods', '517'),
('ZW-2025-12', '5', 'service', '517')
on conflict (manifest_version, rule) do update set
    step = excluded.step,
    tax_group = excluded.tax_group;

-- shared/fiscal/cd/tax.authority_groups.csv
insert into tax.authority_groups (manifest_version, tax_group, authority_version, authority_group, levy_group)
values
('CD-2026-01', 'TG01', 'CD-DGI-2026-03', 'A', null),
('CD-2026-01', 'TG02', 'CD-DGI-2026-03', 'B', null),
('CD-2026-01', 'TG03', 'CD-DGI-2026-03', 'B', null),
('CD-2026-01', 'TG04', 'CD-DGI-2026-03', 'C', null),
('CD-2026-01', 'TG05', 'CD-DGI-2026-03', 'F', null),
('CD-2026-01', 'TG06', 'CD-DGI-2026-03', 'B', null),
('CD-2026-01', 'TG07', 'CD-DGI-2026-03', 'E', null),
('CD-2026-01', 'TG08', 'CD-DGI-2026-03', null, null),
('CD-2026-01', 'TG09', 'CD-DGI-2026-03', null, null),
('CD-2026-01', 'TG10', 'CD-DGI-2026-03', 'M', 'N'),
('CD-2026-01', 'TG11', 'CD-DGI-2026-03', 'B', 'L'),
('CD-2026-01', 'TG12', 'CD-DGI-2026-03', 'B', 'L'),
('CD-2026-01', 'TG13', 'CD-DGI-2026-03', 'B', 'L'),
('CD-2026-01', 'TG14', 'CD-DGI-2026-03', 'B', 'L')
on conflict (manifest_version, tax_group, authority_version) do update set
    authority_group = excluded.authority_group,
    levy_group = excluded.levy_group;

-- shared/fiscal/cd/tax.client_classifications.csv
-- shared/fiscal/ke/tax.client_classifications.csv
-- shared/fiscal/zw/tax.client_classifications.csv
insert into tax.client_classifications (jurisdiction, classification, label, requires, recommends, authority_code)
values
('CD', 'individual', 'Private person', '{}', '{}', 'PP'),
('CD', 'company', 'Registered legal entity', '{name,tin}', '{registration_number}', 'PM'),
('CD', 'commercial_individual', 'Sole trader', '{name,tin,id_document}', '{}', 'PC'),
('CD', 'professional', 'Licensed profession', '{name}', '{tin,id_document}', 'PL'),
('CD', 'embassy', 'Diplomatic mission or international organisation', '{name,exemption_ref}', '{}', 'AO'),
('KE', 'individual', 'Private person', '{}', '{}', null),
('KE', 'company', 'Registered taxpayer', '{name,tin}', '{}', null),
('ZW', 'individual', 'Private person', '{}', '{}', null),
('ZW', 'company', 'Registered taxpayer', '{name,tin}', '{registration_number}', null)
on conflict (jurisdiction, classification) do update set
    label = excluded.label,
    requires = excluded.requires,
    recommends = excluded.recommends,
    authority_code = excluded.authority_code;

-- shared/fiscal/cd/tax.invoice_types.csv
-- shared/fiscal/ke/tax.invoice_types.csv
-- shared/fiscal/zw/tax.invoice_types.csv
insert into tax.invoice_types (jurisdiction, invoice_type, label, is_credit, is_export, authority_code, needs_original, refers_to)
values
('CD', 'sale', 'Facture de vente', 'false', 'false', 'FV', 'false', '{advance}'),
('CD', 'advance', 'Facture d''avance', 'false', 'false', 'FT', 'false', '{}'),
('CD', 'credit_note', 'Facture d''avoir', 'true', 'false', 'FA', 'true', '{sale,advance}'),
('CD', 'export', 'Vente à l''exportation', 'false', 'true', 'EV', 'false', '{export_advance}'),
('CD', 'export_credit', 'Avoir à l''exportation', 'true', 'true', 'EA', 'true', '{export,export_advance}'),
('CD', 'export_advance', 'Acompte à l''exportation', 'false', 'true', 'ET', 'false', '{}'),
('KE', 'sale', 'Invoice', 'false', 'false', 'S', 'false', '{advance}'),
('KE', 'advance', 'Invoice for an advance', 'false', 'false', 'S', 'false', '{}'),
('KE', 'credit_note', 'Credit note', 'true', 'false', 'R', 'true', '{sale,advance}'),
('KE', 'export', 'Invoice for an export', 'false', 'true', 'S', 'false', '{}'),
('KE', 'export_credit', 'Credit note for an export', 'true', 'true', 'R', 'true', '{export}'),
('ZW', 'sale', 'Fiscal invoice', 'false', 'false', 'FiscalInvoice', 'false', '{advance}'),
('ZW', 'advance', 'Fiscal invoice for an advance', 'false', 'false', 'FiscalInvoice', 'false', '{}'),
('ZW', 'credit_note', 'Credit note', 'true', 'false', 'CreditNote', 'true', '{sale,advance,debit_note}'),
('ZW', 'debit_note', 'Debit note', 'false', 'false', 'DebitNote', 'true', '{sale,advance}'),
('ZW', 'export', 'Fiscal invoice for an export', 'false', 'true', 'FiscalInvoice', 'false', '{}'),
('ZW', 'export_credit', 'Credit note for an export', 'true', 'true', 'CreditNote', 'true', '{export}')
on conflict (jurisdiction, invoice_type) do update set
    label = excluded.label,
    is_credit = excluded.is_credit,
    is_export = excluded.is_export,
    authority_code = excluded.authority_code,
    needs_original = excluded.needs_original,
    refers_to = excluded.refers_to;

reset role;
