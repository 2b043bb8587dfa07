"""The platform's own advisors: `supabase db lint` and `db advisors` (splinter) find nothing new."""

import json
import subprocess
import tomllib
from typing import Any

import pytest
from psycopg import sql

from scripts.stack.database import Database
from scripts.stack.migrate import CLI
from scripts.stack.places import ROOT

Json = dict[str, Any]

# Nobody has a grant on any table, and row level security without a policy shows nothing to
# anybody. These tables belong to no tenant, so no policy could say whose their rows are.
WITHOUT_A_TENANT = {
    "compliance.country_regions": "reference rows",
    "compliance.limit_rates": "reference rows",
    "compliance.limits": "reference rows",
    "compliance.list_entries": "who is listed is public",
    "compliance.list_versions": "which files were imported",
    "compliance.lists": "the platform's own",
    "compliance.tiers": "reference rows",
    "directory.alias_types": "reference rows",
    "directory.calendars": "reference rows",
    "directory.entries": "who is reached by which rail is no secret",
    "directory.fees": "reference rows",
    "directory.institutions": "reference rows",
    "directory.rail_facts": "reference rows",
    "directory.versions": "which changes were published",
    "directory.windows": "reference rows",
    "ledger.balance_checks": "how far sums were checked",
    "ledger.balances": "read together with their accounts",
    "ledger.chart": "reference rows",
    "ledger.event_types": "reference rows",
    "ledger.journal_entries": "read together with their journals",
    "ledger.posting_rules": "reference rows",
    "messages.alert_digests": "when people were told",
    "messages.alert_kinds": "reference rows",
    "messages.alert_notices": "who was told of which alert",
    "messages.budgets": "the platform's mail of a day",
    "messages.countries": "reference rows",
    "messages.kinds": "reference rows",
    "messages.mail_events": "the mail provider's news, without addresses",
    "messages.pauses": "whether the mail provider takes mail",
    "messages.slo_samples": "figures of the platform",
    "messages.slos": "reference rows",
    "messages.suppressions": "addresses of the whole platform",
    "fiscal.anchors": "roots that are published to everybody",
    "fiscal.anchored_heads": "the leaves under those roots, which proofs show their owners",
    "fiscal.fiscal_counters": "the next number of each outlet, which its resource shows",
    "payments.intent_transitions": "reference rows",
    "payments.outbox_cursors": "how far each destination has read",
    "payments.outbox_leases": "which batches are out",
    "payments.transfer_transitions": "reference rows",
    "public.app_roles": "reference rows",
    "public.cron_tasks": "the scheduler's own",
    "public.currencies": "reference rows",
    "public.destinations": "reference rows",
    "public.error_codes": "reference rows",
    "public.event_subscriptions": "who is told of which event",
    "public.function_roles": "reference rows",
    "public.plans": "reference rows",
    "public.pokes": "which function was woken when",
    "public.rate_buckets": "unlogged counters, read in the transaction of a call only",
    "public.rate_limit_plans": "reference rows",
    "public.role_scopes": "reference rows",
    "public.scopes": "reference rows",
    "public.settings": "the platform's own",
    "rails.rails": "reference rows",
    "rails.reason_codes": "reference rows",
    "recon.rail_rules": "reference rows",
    "recon.time_zones": "reference rows",
    "signing.keys": "public keys, which verify publishes",
    "sync.authorities": "reference rows",
    "sync.authority_codes": "reference rows",
    "sync.payment_methods": "reference rows",
    "sync.switches": "the platform's own",
    "sync.transitions": "reference rows",
    "tax.authority_groups": "reference rows",
    "tax.client_classifications": "reference rows",
    "tax.group_rules": "reference rows",
    "tax.invoice_types": "reference rows",
    "tax.jurisdictions": "reference rows",
    "tax.manifests": "reference rows",
    "tax.tax_groups": "reference rows",
    "webhooks.event_types": "reference rows",
}


@pytest.fixture(scope="module")
def exposed(module_database: Database) -> Database:
    """A fresh database that says which schemas the Data API shows, as a hosted one does."""
    return expose(module_database)


def test_lint_finds_nothing(exposed: Database) -> None:
    assert ask("lint", exposed) == []


def test_advisors_find_nothing_to_warn_of(exposed: Database) -> None:
    assert keys(ask("advisors", exposed, "--level", "warn")) == set()


def test_advisors_remark_nothing_but_what_is_meant(exposed: Database) -> None:
    found = keys(ask("advisors", exposed, "--level", "info"))

    meant = {f"rls_enabled_no_policy {table}" for table in WITHOUT_A_TENANT}
    # No query ran here yet, so every index is unused.
    assert {key for key in found if not key.startswith("unused_index ")} == meant


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            (
                "create table payments.naked (id integer primary key);"
                " grant select on payments.naked to anon"
            ),
            "rls_disabled_in_public payments.naked",
        ),
        (
            (
                "create view payments.everything as select 1 as one;"
                " grant select on payments.everything to authenticated"
            ),
            "security_definer_view payments.everything",
        ),
        (
            "create function rails.loose() returns integer language sql as 'select 1'",
            "function_search_path_mutable rails.loose",
        ),
        (
            (
                "create policy more on public.tenants to authenticated using (true);"
                " create policy again on public.tenants to authenticated using (false)"
            ),
            "multiple_permissive_policies public.tenants",
        ),
        (
            (
                "create policy each_row on public.currencies to authenticated"
                " using (code = current_setting('request.jwt.claims'))"
            ),
            "auth_rls_initplan public.currencies",
        ),
        (
            "alter table rails.rails add other text references public.currencies",
            "unindexed_foreign_keys rails.rails",
        ),
        (
            (
                "create table public.keyless (id integer);"
                " alter table public.keyless enable row level security"
            ),
            "no_primary_key public.keyless",
        ),
    ],
)
def test_advisors_find_what_is_wrong(database: Database, statement: str, finding: str) -> None:
    with expose(database).connect() as connection:
        connection.execute(statement.encode())

    assert finding in keys(ask("advisors", database, "--level", "info"))


def test_lint_reads_the_bodies_of_functions(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "create function payments.broken() returns void language plpgsql set search_path = ''"
            " as 'begin perform nobody.wrote_this(); end'"
        )

    (finding,) = ask("lint", database)
    assert finding["function"] == "payments.broken"


def expose(database: Database) -> Database:
    """Set what the platform sets: without it the advisors take no schema for exposed."""
    config = tomllib.loads((ROOT / "supabase/config.toml").read_text())
    schemas = ",".join(config["api"]["schemas"])
    with database.connect() as connection:
        connection.execute(
            sql.SQL("alter database {} set pgrst.db_schemas = {}").format(
                sql.Identifier(database.name), sql.Literal(schemas)
            )
        )
    return database


def ask(command: str, database: Database, *options: str) -> list[Json]:
    """The findings of `supabase db <command>`."""
    words = [str(CLI), "db", command, "--remote", database.dsn(), "--output-format", "json"]
    done = subprocess.run(  # noqa: S603  # words of this file
        [*words, *options], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["results"])


def keys(findings: list[Json]) -> set[str]:
    """Each finding as "name schema.object"."""
    return {
        f"{one['name']} {one['metadata']['schema']}.{one['metadata']['name']}" for one in findings
    }
