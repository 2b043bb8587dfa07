"""The lists of this repository are honest: manifests, tables, codes, links, scripts."""

import ast
import csv
import importlib
import os
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from fastapi import FastAPI

from scripts.stack.openapi import operations
from scripts.stack.places import ROOT
from shared.log import ALLOWED
from tests.unit.shared.http.kit import settings

INSTALLED = {"node_modules", "dist", "__pycache__"}  # as are folders whose name begins with a dot
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/function.toml"))
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
VAULT_KEYS = {"1": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
# Homes of people and of machines that build; a program's own places (/usr/bin, /var/lib) are fine.
MACHINES = re.compile(r"(?<![\w.}])/(?:home|Users|root|work|workspace|builds|mnt|media)/[\w.]")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E)\b")  # without being one itself
HIDDEN = "include_in_schema"
# Importable names of distributions that are spelled otherwise.
IMPORTED_AS = {
    "fpdf2": "fpdf",
    "mt-940": "mt940",
    "nats-py": "nats",
    "pyjwt": "jwt",
}
# pydantic: wire shapes are everywhere. sniffio: httpcore imports it, we do not.
WITHOUT_AN_OWNER = {"pydantic", "sniffio"}


def is_ours(folder: str) -> bool:
    """Whether a folder of this name is part of the repository."""
    return folder in {".ci", ".github"} or not (folder in INSTALLED or folder.startswith("."))


@cache
def texts() -> dict[str, str]:
    """Every text file of the repository by its path in it."""
    found = {}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if is_ours(name)]
        for path in (Path(folder) / name for name in files):
            try:
                found[str(path.relative_to(ROOT))] = path.read_text()
            except UnicodeDecodeError:
                continue  # a picture or an archive
    return found


def test_only_the_settings_read_the_environment() -> None:
    # Setting a variable for a library is not reading one.
    reading = re.compile(r"\benviron\b(?!\[[^]]+\] = )|\bgetenv\b")
    readers = {
        path
        for path, text in texts().items()
        if path.startswith(("functions/", "shared/")) and path.endswith(".py")
        if reading.search(text)
    }

    assert readers == {"shared/config.py"}


def test_readme_lists_every_function_and_no_other() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\(functions/(\w+)/handler\.py\) \| (.+) \|$", readme(), re.M)

    assert sorted(name for name, folder, _ in rows if name == folder) == FUNCTIONS
    assert len(rows) == len(FUNCTIONS)
    assert all(len(what) > 10 for _, _, what in rows)


def test_every_folder_of_functions_is_a_function() -> None:
    folders = [path.name for path in (ROOT / "functions").iterdir() if path.is_dir()]

    assert sorted(name for name in folders if is_ours(name)) == FUNCTIONS
    for name in FUNCTIONS:
        files = {path.name for path in (ROOT / "functions" / name).iterdir()}
        assert files >= {"function.toml", "handler.py", "models.py", "__init__.py"}, name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_manifest_lists_the_routes_of_its_app_and_no_other(name: str) -> None:
    assert sorted(map(anonymous, manifest_routes(name))) == sorted(map(anonymous, routes_of(name)))


def test_no_function_hides_a_route_from_the_document() -> None:
    assert [path for path in texts() if path[:10] == "functions/" and HIDDEN in texts()[path]] == []


@pytest.mark.parametrize("path", sorted(p for p in texts() if p.endswith("__init__.py")))
def test_packages_import_nothing_by_themselves(path: str) -> None:
    assert texts()[path] == ""


@pytest.mark.parametrize(
    "path", sorted(p for p in texts() if re.fullmatch(r"shared/.*\.\w+\.(csv|json)", p))
)
def test_rows_of_a_file_are_rows_of_a_table(path: str) -> None:
    schema, table, _ = Path(path).name.split(".")
    created = re.search(
        rf"create (?:unlogged )?table {schema}\.{table} \((.*?)\n\)",
        texts()[f"sql/{schema}/tables.sql"],
        re.S,
    )

    assert created is not None
    (header, *rows) = csv.reader(texts()[path].splitlines())
    assert rows
    for column in header:
        assert re.search(rf"^\s+{column} ", created[1], re.M), f"{schema}.{table} has no {column}"


def test_every_error_code_is_answered_by_somebody() -> None:
    with (ROOT / "shared/public.error_codes.csv").open(newline="") as file:
        catalogue = {row["code"]: row["name"] for row in csv.DictReader(file)}
    refused = codes_of_sql()
    raised = {name for path in texts() for name in names_used(path)}

    assert [
        f"{code} {name}"
        for code, name in catalogue.items()
        if code not in refused and name not in raised
    ] == []
    assert refused <= set(catalogue)


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    assert [
        place for place in lines_with(MACHINES) if not place.startswith("tests/unit/test_repo")
    ] == []


def test_nothing_is_left_for_later() -> None:
    assert lines_with(UNFINISHED) == []


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ('ROOT = "/home/amina/stalela"', True),
        ("cd /work/checkout && ls", True),
        ("file:///Users/amina/x", True),
        ("GET /v1/home/page", False),
        ("{root}/work/x", False),
        ("/usr/bin/chromium", False),
    ],
)
def test_paths_of_machines_are_told_from_others(line: str, is_one: bool) -> None:
    assert bool(MACHINES.search(line)) == is_one


def test_law_and_changes_are_there() -> None:
    project = tomllib.loads(texts()["pyproject.toml"])["project"]

    assert project["license"] == "Apache-2.0"
    assert texts()["LICENSE"].split()[:2] == ["Apache", "License"]
    assert f"## {project['version']}" in texts()["CHANGELOG.md"]


def test_every_script_can_be_run() -> None:
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix]
    scripts.append(ROOT / ".ci/run")

    assert len(scripts) > 8
    for script in scripts:
        assert os.access(script, os.X_OK), script
        text = script.read_text()
        assert text.startswith("#!/bin/sh\n# "), f"{script} says what it does in its second line"
        assert "\nset -eu\n" in text, script


def test_readme_speaks_of_every_script_a_person_starts() -> None:
    spoken_of = set(re.findall(r"\./scripts/([\w-]+)", "".join(texts()[page] for page in PAGES)))
    scripts = {p.name for p in (ROOT / "scripts").iterdir() if p.is_file() and not p.suffix}

    assert spoken_of <= scripts
    assert scripts - spoken_of <= {"setup"}  # the others call it


@pytest.mark.parametrize(
    ("page", "link"),
    [
        (page, link)
        for page in texts()
        if page.endswith(".md")
        for link in re.findall(r"\]\(([^)\s]+)\)", texts()[page])
    ],
)
def test_link_leads_somewhere(page: str, link: str) -> None:
    target, _, anchor = link.partition("#")
    if re.match(r"[a-z]+:", target):
        assert target.startswith("https://"), "pages elsewhere are read over TLS"
        return
    place = (ROOT / page).parent / target if target else ROOT / page
    assert place.exists()
    if anchor:
        assert anchor in headings(place.read_text())


def test_every_dependency_of_a_bundle_has_an_owner() -> None:
    project = tomllib.loads(texts()["pyproject.toml"])
    names = [re.split(r"[\[>=<]", line)[0] for line in project["project"]["dependencies"]]
    imported = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
    protected = {
        module
        for contract in project["tool"]["importlinter"]["contracts"]
        for module in contract.get("protected_modules", [])
    }

    assert imported - protected == WITHOUT_AN_OWNER


def test_every_dependency_says_what_it_saves_us_from() -> None:
    listed = re.findall(r'^    "([\w\-\[\]]+)>=[\d.]+",?(.*)$', texts()["pyproject.toml"], re.M)

    assert len(listed) > 20
    assert [name for name, reason in listed if not re.fullmatch(r" +# \S.{9,}", reason)] == []


def readme() -> str:
    return texts()["README.md"]


def manifest_routes(name: str) -> list[str]:
    return list(tomllib.loads(texts()[f"functions/{name}/function.toml"])["routes"])


def routes_of(name: str) -> list[str]:
    """Every documented route of the app, as "POST /{id}/confirm"."""
    handler = importlib.import_module(f"functions.{name}.handler")
    app: FastAPI = handler.create(settings(function_name=name, vault_keys=VAULT_KEYS))
    return [f"{verb.upper()} {path}" for verb, path, _ in operations(app.openapi())]


def anonymous(route: str) -> str:
    """The route without the names of its parameters."""
    return re.sub(r"\{\w+\}", "{}", route)


def codes_of_sql() -> set[str]:
    """The codes that SQL refuses with."""
    return {
        code
        for path, text in texts().items()
        if path.startswith("sql/") and not path.endswith("/data.sql")
        for code in re.findall(r"refuse(?:_field)?\(\s*'(\d{5})'", text)
    }


def names_used(path: str) -> set[str]:
    """The names that a module of ours reads, not only imports; the tree of errors is no use."""
    if not path.startswith(("functions/", "shared/")) or not path.endswith(".py"):
        return set()
    if path == "shared/errors.py":
        return set()
    nodes = ast.walk(ast.parse(texts()[path]))
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, ast.Name | ast.Attribute)
    }


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Every match as path:line."""
    return [
        f"{path}:{number}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as its readers' software makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_field_that_is_logged_is_on_the_allow_list() -> None:
    # Another name is dropped where it matters: when somebody looks for the document that failed.
    names = {
        (path.name, word.arg)
        for folder in ("functions", "shared")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
        for word in node.keywords
        if word.arg
    }

    assert {(file, name) for file, name in names if name not in ALLOWED} == set()
