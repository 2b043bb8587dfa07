import pytest

from scripts.bundling.closure import Closure, closure_of
from scripts.bundling.tree import BundleError

HANDLER = "functions/pay/handler.py"


def closure(handler: str, **files: str) -> Closure:
    """The closure of a handler with this text. files: "shared__money" -> text of a module."""
    tree = {
        "functions/__init__.py": "",
        "functions/pay/__init__.py": "",
        HANDLER: handler,
        "shared/__init__.py": "",
        **{name.replace("__", "/") + ".py": text for name, text in files.items()},
        "shared/public.currencies.csv": "code\n",
        "shared/fiscal/__init__.py": "",
        "shared/fiscal/tax.rates.csv": "rate\n",
    }
    return closure_of(
        {path: text.encode() for path, text in tree.items()}, ["functions.pay.handler"]
    )


def test_module_imported_inside_a_function_is_shipped() -> None:
    shipped = closure("def f():\n    from shared.money import Money\n", shared__money="")

    assert "shared/money.py" in shipped.files


def test_module_imported_by_an_imported_module_is_shipped() -> None:
    shipped = closure("import shared.db", shared__db="from shared import log", shared__log="")

    assert {"shared/db.py", "shared/log.py"} <= set(shipped.files)


def test_module_nobody_imports_stays_at_home() -> None:
    shipped = closure("import shared.db", shared__db="", shared__log="")

    assert "shared/log.py" not in shipped.files


def test_module_imported_for_the_type_checker_only_stays_at_home() -> None:
    handler = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import httpx, shared.db\n"

    shipped = closure(handler, shared__db="")

    assert "shared/db.py" not in shipped.files
    assert shipped.packages == {}


def test_other_branch_of_a_type_checking_block_is_followed() -> None:
    handler = (
        "import typing\nif typing.TYPE_CHECKING:\n    import httpx\nelse:\n    import orjson\n"
    )

    assert closure(handler).packages == {"orjson": HANDLER}


def test_relative_import_is_followed() -> None:
    shipped = closure("import shared.db", shared__db="from . import log", shared__log="")

    assert "shared/log.py" in shipped.files


def test_module_that_a_registry_names_is_shipped() -> None:
    registry = (
        'from importlib import import_module\nM = {"mpesa": "shared.mpesa"}\nimport_module(M[x])'
    )

    shipped = closure("import shared.registry", shared__registry=registry, shared__mpesa="")

    assert "shared/mpesa.py" in shipped.files


def test_name_in_a_module_that_imports_nothing_by_name_is_only_text() -> None:
    shipped = closure('TITLE = "shared.mpesa"', shared__mpesa="")

    assert "shared/mpesa.py" not in shipped.files


def test_registry_line_without_a_module_is_refused() -> None:
    registry = 'import importlib\nimportlib.import_module({"a": "shared.gone"}[x])'

    with pytest.raises(BundleError, match=r"^functions/pay/handler.py imports shared.gone, which"):
        closure(registry)


def test_import_of_a_missing_module_is_refused_by_file_and_name() -> None:
    with pytest.raises(
        BundleError, match=r"^shared/db.py imports shared.gone, which does not exist"
    ):
        closure("import shared.db", shared__db="import shared.gone")


def test_data_beside_a_shipped_module_is_shipped_and_other_data_is_not() -> None:
    shipped = closure("import shared.db", shared__db="")

    assert "shared/public.currencies.csv" in shipped.files
    assert "shared/fiscal/tax.rates.csv" not in shipped.files


def test_folders_of_data_below_a_shipped_domain_are_shipped() -> None:
    tree = {
        "functions/__init__.py": b"",
        "functions/a/__init__.py": b"",
        "functions/a/handler.py": b"import shared.fiscal.rules",
        "shared/__init__.py": b"",
        "shared/fiscal/__init__.py": b"",
        "shared/fiscal/rules.py": b"",
        "shared/fiscal/cd/tax.groups.csv": b"",
        "shared/states/x.y.csv": b"",
    }

    shipped = closure_of(tree, ["functions.a.handler"])

    assert "shared/fiscal/cd/tax.groups.csv" in shipped.files
    assert "shared/states/x.y.csv" not in shipped.files


def test_data_named_by_a_module_but_lying_elsewhere_is_refused() -> None:
    with pytest.raises(
        BundleError, match=r"^shared/tax.py names tax.rates.csv, which lies beside no"
    ):
        closure("import shared.tax", shared__tax='NAME = "tax.rates.csv"')


def test_packages_are_named_with_the_file_that_needs_them() -> None:
    shipped = closure("import json\nimport shared.db", shared__db="import httpx.x\nimport os.path")

    assert shipped.packages == {"httpx": "shared/db.py"}


def test_what_uvicorn_is_told_to_load_is_a_package() -> None:
    shipped = closure(
        'import uvicorn\nuvicorn.Config(a, loop="uvloop", http="httptools", ws="none")'
    )

    assert list(shipped.packages) == ["httptools", "uvicorn", "uvloop"]


def test_a_name_given_to_another_program_is_no_package() -> None:
    assert closure('run(loop="uvloop")').packages == {}
