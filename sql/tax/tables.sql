-- What the law says, as rows. Published manifests never change; a change of the law is a new manifest.
-- shared/fiscal reads the same CSV files that fill these tables, so engine and database cannot differ.

set role stalela_owner;

create table tax.jurisdictions (
    jurisdiction text primary key check (jurisdiction ~ '^[A-Z]{2}$'),
    name text not null,
    authority text not null,
    tax_currency text not null,
    currencies text[] not null,
    tax_level text not null check (tax_level in ('line', 'group')),
    tin_name text not null,
    tin_pattern text not null,
    time_zones text[] not null,
    retention_years integer not null check (retention_years > 0),
    closes_empty_days boolean not null,
    languages text[] not null check (cardinality(languages) > 0)
);
comment on table tax.jurisdictions is
'Countries whose invoices we seal. tax_level: whether tax is rounded on each line or once per tax group. closes_empty_days: whether a day without sales has a Z report too. languages: of printed documents, the usual one first.';
alter table tax.jurisdictions enable row level security;

create table tax.manifests (
    manifest_version text primary key,
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    surface text not null check (surface in ('merchant', 'authority')),
    valid_from timestamptz not null,
    valid_to timestamptz,
    source text not null,
    check (valid_to is null or valid_to > valid_from)
);
comment on table tax.manifests is
'Versions of the tax groups: those merchants use, and the authority''s own. In force from valid_from until before valid_to.';
alter table tax.manifests enable row level security;
create index manifests_of_jurisdiction on tax.manifests (jurisdiction, surface, valid_from);

create table tax.tax_groups (
    manifest_version text not null references tax.manifests (manifest_version),
    tax_group text not null,
    name text not null,
    rate numeric(6, 4) check (rate between 0 and 1),
    treatment text not null check (
        treatment in ('exempt', 'standard', 'reduced', 'zero', 'special', 'excise', 'out_of_scope', 'levy')
    ),
    primary key (manifest_version, tax_group)
);
comment on table tax.tax_groups is 'The groups of a manifest. rate is a fraction; null: the tax is an amount, not a rate.';
alter table tax.tax_groups enable row level security;

create table tax.group_rules (
    manifest_version text not null,
    step integer not null check (step > 0),
    rule text not null,
    tax_group text not null,
    primary key (manifest_version, rule),
    foreign key (manifest_version, tax_group) references tax.tax_groups (manifest_version, tax_group)
);
comment on table tax.group_rules is
'Which group a line belongs to: the rule of the lowest step that applies. rule: embassy, export, a catalogue category, goods or service.';
alter table tax.group_rules enable row level security;
create index group_rules_of_group on tax.group_rules (manifest_version, tax_group);

create table tax.authority_groups (
    manifest_version text not null,
    tax_group text not null,
    authority_version text not null,
    authority_group text,
    levy_group text,
    primary key (manifest_version, tax_group, authority_version),
    foreign key (manifest_version, tax_group) references tax.tax_groups (manifest_version, tax_group),
    foreign key (authority_version, authority_group) references tax.tax_groups (manifest_version, tax_group),
    foreign key (authority_version, levy_group) references tax.tax_groups (manifest_version, tax_group)
);
comment on table tax.authority_groups is
'What the authority calls a group of ours; null: nothing, so such a document cannot be sent and a person must decide. levy_group: an excise goes there as a line of its own.';
alter table tax.authority_groups enable row level security;
create index authority_groups_of_authority on tax.authority_groups (authority_version, authority_group);
create index authority_groups_of_levy on tax.authority_groups (authority_version, levy_group);

create table tax.client_classifications (
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    classification text not null,
    label text not null,
    requires text[] not null,
    recommends text[] not null,
    authority_code text,
    primary key (jurisdiction, classification)
);
comment on table tax.client_classifications is 'Kinds of buyers, and which members of client each must have.';
alter table tax.client_classifications enable row level security;

create table tax.invoice_types (
    jurisdiction text not null references tax.jurisdictions (jurisdiction),
    invoice_type text not null,
    label text not null,
    is_credit boolean not null,
    is_export boolean not null,
    authority_code text,
    needs_original boolean not null,
    refers_to text[] not null,
    primary key (jurisdiction, invoice_type),
    check (needs_original or not is_credit)
);
comment on table tax.invoice_types is
'Kinds of documents. A credit names its original; an export has only exported lines and a buyer abroad. refers_to: the types its original_fiscal_number may be of; needs_original: it corrects one, under the law of then.';
alter table tax.invoice_types enable row level security;

reset role;
