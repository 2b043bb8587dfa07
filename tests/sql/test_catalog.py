"""What must hold for every object of ours, asked from the catalog: a new one joins by existing."""

# ruff: noqa: S608 -- every query is put together from constants of this file and of the repository

import ast
import csv
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scripts.bundling.closure import closure_of
from scripts.bundling.tree import read_tree
from scripts.stack.database import Database, exposed_schemas
from scripts.stack.places import ROOT
from tests.support.sql import Books, Row

OWNER = "stalela_owner"
SCHEMAS = tuple(exposed_schemas())
FUNCTIONS = sorted((ROOT / "functions").glob("*/function.toml"))
# One table may have several files: each rail, each domain brings its own rows.
CSVS = {
    table: sorted((ROOT / "shared").rglob(f"{table}.csv"))
    for table in sorted({path.stem for path in (ROOT / "shared").rglob("*.*.csv")})
}

# Who besides the owner may execute what, apart from the roles of the functions.
FOR_PEOPLE = {
    # Row level security compares with these; they say nothing but what the caller's own token says.
    ("public.environment", "authenticated"),
    ("public.outlet_id", "authenticated"),
    ("public.tenant_id", "authenticated"),
    ("public.user_id", "authenticated"),
    # Which cashier the token's person is, and whether a document is theirs.
    ("fiscal.is_own", "authenticated"),
    ("fiscal.own_cashier", "authenticated"),
    ("fiscal.own_outlet", "authenticated"),
}
# What plpgsql_check says and why it stays.
NOISE = {
    # Immutable calls may be folded into a plan and raise before their time.
    ("public.refuse", "routine is marked as VOLATILE, should be IMMUTABLE"),
}

OURS = "n.nspname = any(%s) and n.nspname !~ '^pg_'"
PLPGSQL = """
select f.oid::regproc::text as name, c.level, c.message, c.lineno
from (
    select p.oid, coalesce(t.tgrelid, 0) as relation, t.tgoldtable, t.tgnewtable
    from pg_catalog.pg_proc as p
    inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    inner join pg_catalog.pg_language as l on l.oid = p.prolang
    left join pg_catalog.pg_trigger as t on t.tgfoid = p.oid
    where n.nspname = any(%s) and l.lanname = 'plpgsql'
) as f
cross join lateral extensions.plpgsql_check_function_tb(
    f.oid, f.relation::regclass, oldtable => f.tgoldtable, newtable => f.tgnewtable,
    fatal_errors => false, other_warnings => true,
    performance_warnings => true, extra_warnings => true, security_warnings => true,
    compatibility_warnings => true
) as c
order by 1, c.lineno
"""
UNINDEXED = """
select c.conrelid::regclass::text || ' ' || c.conname
from pg_catalog.pg_constraint as c
inner join pg_catalog.pg_namespace as n on n.oid = c.connamespace
where
    c.contype = 'f' and n.nspname = any(%s)
    and not exists (
        select from pg_catalog.pg_index as i
        where
            i.indrelid = c.conrelid and i.indisvalid and i.indpred is null
            and (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] @> c.conkey
    )
"""


@pytest.fixture(scope="module")
def books(module_database: Database) -> Iterator[Books]:
    with Books(module_database) as opened:
        opened.run("set search_path = ''")
        yield opened


def tables(books: Books) -> list[str]:
    """Every table of ours."""
    return books.column(
        "select c.oid::regclass::text from pg_catalog.pg_class as c"
        " inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace"
        f" where c.relkind in ('r', 'p') and {OURS} order by 1",
        [*SCHEMAS],
    )


def functions_where(books: Books, condition: str) -> list[str]:
    """Functions of ours for which the condition (p: pg_proc) holds."""
    return books.column(
        "select p.oid::regprocedure::text from pg_catalog.pg_proc as p"
        " inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace"
        f" where {OURS} and {condition} order by 1",
        [*SCHEMAS],
    )


def relations_where(books: Books, condition: str) -> list[str]:
    """Relations of ours for which the condition (c: pg_class) holds."""
    return books.column(
        "select c.oid::regclass::text from pg_catalog.pg_class as c"
        " inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace"
        f" where {OURS} and {condition} order by 1",
        [*SCHEMAS],
    )


# What is looked at


def test_the_catalog_is_not_empty(books: Books) -> None:
    assert len(tables(books)) >= 35
    assert len(functions_where(books, "true")) >= 100


def test_the_data_api_serves_exactly_our_schemas(books: Books) -> None:
    config = tomllib.loads((ROOT / "supabase/config.toml").read_text())
    owned = books.column(
        "select nspname from pg_catalog.pg_namespace where nspowner = %s::regrole", OWNER
    )

    assert set(config["api"]["schemas"]) == set(SCHEMAS)
    assert {*owned, "public"} == set(SCHEMAS)


# Tables


def test_every_table_has_row_level_security(books: Books) -> None:
    assert relations_where(books, "c.relkind in ('r', 'p') and not c.relrowsecurity") == []


def test_every_table_has_a_comment(books: Books) -> None:
    assert (
        relations_where(
            books,
            "c.relkind in ('r', 'p', 'v', 'm')"
            " and length(coalesce(obj_description(c.oid, 'pg_class'), '')) < 20",
        )
        == []
    )


def test_every_table_with_a_tenant_has_a_policy_for_people(books: Books) -> None:
    without = relations_where(
        books,
        "c.relkind in ('r', 'p') and exists (select from pg_catalog.pg_attribute as a"
        "  where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)"
        " and not exists (select from pg_catalog.pg_policy as l where l.polrelid = c.oid)",
    )

    assert without == []


def test_every_policy_names_its_role_and_only_reads(books: Books) -> None:
    policies = books.column(
        "select polname || ' ' || polcmd::text || ' ' || polroles::regrole[]::text || ' '"
        " || polpermissive::text from pg_catalog.pg_policy"
    )

    assert policies != []
    assert [p for p in policies if not p.endswith(" r {authenticated} true")] == []


def test_every_policy_reads_its_claims_once_per_statement(books: Books) -> None:
    # Within a scalar subquery the function runs once, outside it for every row. What belongs to a
    # document is looked up row by row, for cashiers alone: whoever else reads stops before it.
    cashiers = "(( SELECT fiscal.own_cashier() AS own_cashier) IS NULL) OR fiscal.is_own("
    per_row = books.column(
        "select l.polname from pg_catalog.pg_policy as l"
        " where regexp_replace(replace(pg_get_expr(l.polqual, l.polrelid), %s, ''),"
        "  '\\( SELECT (public|fiscal)\\.\\w+\\(\\) AS \\w+\\)', '', 'g') ~ '\\w+\\('",
        cashiers,
    )

    assert per_row == []


def test_every_foreign_key_has_an_index(books: Books) -> None:
    assert books.column(UNINDEXED, [*SCHEMAS]) == []


def test_nobody_but_the_owner_holds_a_grant_on_a_table_or_sequence(books: Books) -> None:
    granted = books.column(
        "select c.oid::regclass::text || ' ' || a.privilege_type || ' to ' ||"
        "  case a.grantee when 0 then 'public' else a.grantee::regrole::text end"
        " from pg_catalog.pg_class as c"
        " inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace"
        " cross join lateral aclexplode(c.relacl) as a"
        f" where {OURS} and a.grantee <> c.relowner",
        [*SCHEMAS],
    )

    assert granted == []


def test_nobody_holds_a_grant_on_a_column(books: Books) -> None:
    granted = books.column(
        "select a.attrelid::regclass::text || '.' || a.attname from pg_catalog.pg_attribute as a"
        " inner join pg_catalog.pg_class as c on c.oid = a.attrelid"
        " inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace"
        f" where {OURS} and a.attacl is not null",
        [*SCHEMAS],
    )

    assert granted == []


def append_only(books: Books) -> list[str]:
    """Tables that say of themselves that they are append-only."""
    return relations_where(
        books,
        "c.relkind in ('r', 'p') and obj_description(c.oid, 'pg_class') ~* '^append-only'",
    )


def test_the_records_of_what_happened_are_append_only(books: Books) -> None:
    guarded = relations_where(
        books,
        "exists (select from pg_catalog.pg_trigger as t where t.tgrelid = c.oid"
        " and t.tgfoid = 'public.forbid_change'::regproc and t.tgenabled = 'O')",
    )

    assert append_only(books) == guarded
    assert set(guarded) == {
        "compliance.list_versions",
        "compliance.screening_results",
        "compliance.transfer_clearances",
        "directory.route_explanations",
        "directory.versions",
        "fiscal.authority_elements",
        "fiscal.archive_copies",
        "fiscal.archive_manifests",
        "fiscal.events",
        "fiscal.anchored_heads",
        "fiscal.anchors",
        "fiscal.conflicts",
        "fiscal.fiscal_ledger",
        "fiscal.reports",
        "fiscal.prints",
        "fiscal.local_seals",
        "fiscal.signatures",
        "ledger.journal_entries",
        "ledger.journals",
        "payments.intent_events",
        "payments.outbox",
        "payments.transfer_events",
        "public.audit_log",
        "rails.callback_dispositions",
        "rails.callbacks",
        "recon.marked_lines",
        "recon.matches",
        "recon.resolutions",
        "recon.runs",
        "recon.statement_lines",
        "signing.key_rotations",
        "signing.number_blocks",
        "signing.signing_log",
        "sync.authority_ack_log",
        "sync.fiscal_receipts",
    }


@pytest.mark.parametrize("role", [OWNER, "postgres", "supabase_admin"])
@pytest.mark.parametrize(
    "statement",
    ["update {table} set {column} = {column}", "delete from {table}", "truncate {table} cascade"],
)
def test_an_append_only_table_refuses_every_change_even_to_its_owner(
    books: Books, role: str, statement: str
) -> None:
    # A statement that touches no row is refused too.
    met = {}
    for table in append_only(books):
        column = books.value(
            "select attname from pg_catalog.pg_attribute"
            " where attrelid = %s::regclass and attnum > 0 and attidentity = '' limit 1",
            table,
        )
        with books.connection.transaction(force_rollback=True):
            books.run(f"set local role {role}")
            try:
                with books.connection.transaction():
                    books.run(statement.format(table=table, column=column))
                met[table] = "done"
            except psycopg.errors.InsufficientPrivilege as refused:
                met[table] = str(refused).partition("\n")[0]

    assert len(met) >= 5
    # By its own trigger, not by that of a table which refers to it.
    assert {
        t: words for t, words in met.items() if not words.startswith(f"{t} is append-only")
    } == {}


# Functions


def test_every_function_belongs_to_the_owner(books: Books) -> None:
    assert functions_where(books, f"p.proowner <> '{OWNER}'::regrole") == []


def test_every_function_fixes_its_search_path(books: Books) -> None:
    unset = functions_where(
        books, "not coalesce(p.proconfig, '{}') && array['search_path=\"\"', 'search_path=']"
    )

    assert unset == []


def test_every_function_has_a_comment(books: Books) -> None:
    without = functions_where(books, "length(coalesce(obj_description(p.oid, 'pg_proc'), '')) < 20")

    assert without == []


def test_no_function_is_overloaded(books: Books) -> None:
    # The Data API picks by argument names alone.
    twice = books.column(
        "select p.pronamespace::regnamespace::text || '.' || p.proname from pg_catalog.pg_proc as p"
        " inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace"
        f" where {OURS} group by p.pronamespace, p.proname having count(*) > 1",
        [*SCHEMAS],
    )

    assert twice == []


def executors(books: Books) -> set[tuple[str, str]]:
    """(function, role) for everybody besides the owner who may execute something of ours."""
    rows = books.rows(
        "select p.oid::regproc::text as name,"
        "  case a.grantee when 0 then 'public' else a.grantee::regrole::text end as role"
        " from pg_catalog.pg_proc as p"
        " inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace"
        " cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a"
        f" where {OURS} and a.grantee <> p.proowner",
        [*SCHEMAS],
    )
    return {(row["name"], row["role"]) for row in rows}


def test_nobody_executes_what_was_not_meant_for_them(books: Books) -> None:
    people = {"public", "anon", "authenticated", "service_role", "authenticator"}

    open_to_people = {(name, role) for name, role in executors(books) if role in people}

    assert open_to_people == FOR_PEOPLE


def test_besides_the_functions_only_cron_and_auth_execute_anything(books: Books) -> None:
    others = {role for _, role in executors(books)} - {"authenticated"}

    assert {role for role in others if not role.startswith("fn_")} == {
        "postgres",
        "supabase_auth_admin",
    }
    assert {name for name, role in executors(books) if role == "supabase_auth_admin"} == {
        "public.custom_access_token_hook"
    }


def test_what_cron_executes_is_a_task_or_the_lane_itself(books: Books) -> None:
    tasks = set(books.column("select routine from public.cron_tasks"))
    lane = {"public.claim_task", "public.run_task", "public.lane_deadline"}

    granted = {name for name, role in executors(books) if role == "postgres"}

    assert granted <= tasks | lane
    assert lane <= granted


def test_every_task_names_a_function_without_arguments(books: Books) -> None:
    broken = books.column(
        "select t.routine from public.cron_tasks as t"
        " where not exists (select from pg_catalog.pg_proc as p"
        "  where p.oid = to_regprocedure(t.routine || '()'))"
    )

    assert broken == []


def test_nothing_new_is_executable_by_everybody(books: Books) -> None:
    with books.connection.transaction(force_rollback=True):
        books.run(f"set local role {OWNER}")
        books.run("create function payments.made_by_test() returns void language sql as ''")
        books.run("reset role")

        assert (
            books.value(
                "select has_function_privilege('anon', 'payments.made_by_test()', 'execute')"
            )
            is False
        )


def test_plpgsql_check_finds_nothing(books: Books) -> None:
    found = [
        row for row in books.rows(PLPGSQL, [*SCHEMAS]) if (row["name"], row["message"]) not in NOISE
    ]

    assert found == []


def test_every_listed_noise_is_still_made(books: Books) -> None:
    made = {(row["name"], row["message"]) for row in books.rows(PLPGSQL, [*SCHEMAS])}

    assert made >= NOISE


def test_every_sql_function_compiles(books: Books) -> None:
    # They are loaded unchecked, because bodies may name what a later file makes.
    broken = {}
    for row in books.rows(
        "select p.oid::regproc::text as name, pg_get_functiondef(p.oid) as definition"
        " from pg_catalog.pg_proc as p"
        " inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace"
        " inner join pg_catalog.pg_language as l on l.oid = p.prolang"
        f" where {OURS} and l.lanname = 'sql'",
        [*SCHEMAS],
    ):
        try:
            with books.connection.transaction(force_rollback=True):
                books.connection.execute(row["definition"].encode())
        except psycopg.Error as error:
            broken[row["name"]] = str(error)

    assert broken == {}


# Roles


def test_the_owner_can_neither_log_in_nor_skip_policies(books: Books) -> None:
    owner = books.row("select * from pg_catalog.pg_roles where rolname = %s", OWNER)

    powers = (
        "rolsuper",
        "rolcanlogin",
        "rolbypassrls",
        "rolcreaterole",
        "rolcreatedb",
        "rolreplication",
    )
    assert [power for power in powers if owner[power]] == []


def test_only_migrations_may_become_the_owner(books: Books) -> None:
    members = books.column(
        "select m.member::regrole::text from pg_catalog.pg_auth_members as m"
        " where m.roleid = %s::regrole",
        OWNER,
    )

    assert members == ["postgres"]


def test_a_functions_role_has_no_power_of_its_own(books: Books) -> None:
    powerful = books.column(
        "select r.rolname from pg_catalog.pg_roles as r where r.rolname ~ '^fn_' and ("
        " r.rolsuper or r.rolcanlogin or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb"
        " or r.rolreplication"
        " or exists (select from pg_catalog.pg_auth_members as m where m.member = r.oid)"
        " or exists (select from pg_catalog.pg_shdepend as d"
        "  where d.refobjid = r.oid and d.deptype = 'o'))"
    )

    assert powerful == []


def test_a_functions_role_is_reached_through_the_data_api_alone(books: Books) -> None:
    members = books.rows(
        "select r.rolname as role, array_agg(m.member::regrole::text order by 1) as members"
        " from pg_catalog.pg_roles as r"
        " inner join pg_catalog.pg_auth_members as m on m.roleid = r.oid"
        " where r.rolname ~ '^fn_' and m.member <> 'postgres'::regrole group by r.rolname"
    )

    assert {row["role"]: row["members"] for row in members} == {
        role: ["authenticator"] for role in function_roles()
    }


def test_a_functions_role_gives_up_on_time(books: Books) -> None:
    limited = books.column(
        "select rolname from pg_catalog.pg_roles where rolname ~ '^fn_'"
        " and rolconfig::text ~ 'statement_timeout=' and rolconfig::text ~ 'lock_timeout='"
        " order by 1"
    )

    assert limited == function_roles()


def test_every_role_of_a_function_has_a_manifest_and_a_row(books: Books) -> None:
    existing = books.column(
        "select rolname from pg_catalog.pg_roles where rolname ~ '^fn_' order by 1"
    )

    assert existing == function_roles()
    assert books.column("select db_role from public.function_roles order by 1") == existing


def manifest(path: Path) -> Row:
    return tomllib.loads(path.read_text())


def function_roles() -> list[str]:
    """The database roles that the manifests name."""
    return sorted(manifest(path)["db_role"] for path in FUNCTIONS)


TREE = read_tree()


def called_by(function: Path) -> set[str]:
    """Every "schema.function" among the strings of the code that is shipped with a function."""
    shipped = closure_of(TREE, [f"functions.{function.name}.handler"]).files
    return {
        node.value
        for path in shipped
        if path.endswith(".py")
        for node in ast.walk(ast.parse(TREE[path]))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(rf"({'|'.join(SCHEMAS)})\.[a-z_]+", node.value)
    }


@pytest.mark.parametrize("path", FUNCTIONS, ids=lambda path: path.parent.name)
def test_a_functions_role_may_execute_exactly_what_its_code_calls(books: Books, path: Path) -> None:
    role = manifest(path)["db_role"]

    granted = {name for name, grantee in executors(books) if grantee == role}

    assert granted == called_by(path.parent)
    assert granted != set()


@pytest.mark.parametrize("path", FUNCTIONS, ids=lambda path: path.parent.name)
def test_a_function_that_serves_people_may_pass_them_on(books: Books, path: Path) -> None:
    # From any other role the headers that name a person count for nothing.
    serves_people = any(
        re.search(r"\b(user|api-key)\b", who) for who in manifest(path)["routes"].values()
    )

    assert (
        books.value(
            "select may_pass_user from public.function_roles where db_role = %s",
            manifest(path)["db_role"],
        )
        is serves_people
    )


# Lists that must agree


def test_every_code_that_sql_raises_is_in_the_catalogue(books: Books) -> None:
    raised = set(
        books.column(
            "select (regexp_matches(p.prosrc, %s, 'g'))[1] from pg_catalog.pg_proc as p"
            " inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace"
            f" where {OURS}",
            r"refuse(?:_field)?\(\s*'(\w+)'",
            [*SCHEMAS],
        )
    )
    listed = set(books.column("select code from public.error_codes"))

    assert len(raised) >= 10
    assert raised - listed == set()


def test_every_refusal_names_its_code_in_the_open(books: Books) -> None:
    # A code in a variable would escape the test above.
    hidden = functions_where(
        books,
        r"p.prosrc ~ '\mrefuse(_field)?\(\s*[^\s'']' and p.proname not in ('refuse_field')",
    )

    assert hidden == []


def test_every_code_starts_with_its_status(books: Books) -> None:
    assert (
        books.column("select code from public.error_codes where left(code, 3) <> status::text")
        == []
    )


def test_nobody_raises_a_serialisation_failure(books: Books) -> None:
    # The Data API repeats such a request by itself.
    assert (
        functions_where(books, "p.prosrc ~ '40001' and p.prosrc ~* 'errcode\\s*=\\s*''40001'") == []
    )


def test_exactly_two_jobs_are_given_to_cron(books: Books) -> None:
    scheduled = books.rows("select jobname, schedule, username from cron.job order by jobname")
    mentions = [
        path for path in (ROOT / "sql").rglob("*.sql") if "cron.schedule" in path.read_text()
    ]

    assert [(row["schedule"], row["username"]) for row in scheduled] == [
        ("* * * * *", "postgres"),
        ("*/5 * * * *", "postgres"),
    ]
    assert mentions == [ROOT / "sql/public/jobs.sql"]


@pytest.mark.parametrize("table", CSVS)
def test_the_rows_of_a_table_are_the_rows_of_its_csv(books: Books, table: str) -> None:
    written = []
    for path in CSVS[table]:
        with path.open(newline="") as file:
            written += list(csv.DictReader(file))
    columns = list(written[0])

    # Postgres itself reads each field as the type of its column.
    stored = books.column(f"select row({', '.join(columns)})::text from {table} order by 1")
    with books.connection.transaction(force_rollback=True):
        names = ", ".join(columns)
        books.run(f"create temporary table written as select {names} from {table} with no data")
        for row in written:
            books.run(
                f"insert into pg_temp.written ({names})"
                f" values ({', '.join(['%s'] * len(columns))})",
                *[value or None for value in row.values()],
            )
        expected = books.column(
            f"select row({', '.join(columns)})::text from pg_temp.written order by 1"
        )
    assert stored == expected
