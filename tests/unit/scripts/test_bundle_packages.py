import pytest

from scripts.bundling.closure import Closure
from scripts.bundling.lock import Lock
from scripts.bundling.manifest import Manifest, read_manifest
from scripts.bundling.packages import problems_of, unread_secrets
from scripts.bundling.tree import BundleError


def wheel(platform: str, digest: str) -> str:
    url = f"https://files.example/x/some-1.0-{platform}.whl"
    return f'{{ url = "{url}", hash = "sha256:{digest}" }}'


BINARY = ", ".join(
    [
        wheel("cp311-cp311-win_amd64", "windows"),
        wheel("cp311-cp311-manylinux_2_28_x86_64", "two"),
        wheel("cp311-cp311-manylinux_2_28_aarch64", "one"),
    ]
)


def package(name: str, *lines: str, wheels: str | None = None) -> str:
    wheels = wheels or wheel("py3-none-any", name)
    facts = (f'name = "{name}"', 'version = "1.0"', f"wheels = [{wheels}]")
    return "\n".join(["[[package]]", *facts, *lines])


WEB = """dependencies = [{ name = "base" }, { name = "old", marker = "a < '1'" }]"""
OLD = """dependencies = [{ name = "older", marker = "b == 'c'" }]"""
PROJECT = """dependencies = [
    { name = "web" }, { name = "jwt-kit", extra = ["crypto"] }, { name = "binary" },
]"""
LOCK = "\n".join(
    [
        package("stalela", PROJECT),
        package("web", WEB),
        package("base"),
        package("old", OLD),
        package("older"),
        package("jwt-kit", "[package.optional-dependencies]", 'crypto = [{ name = "base" }]'),
        package("binary", wheels=BINARY),
    ]
)
INSTALLED = {"web": ["Web"], "base": ["base"], "jwt": ["jwt_kit"], "binary": ["binary"]}


def manifest(*packages: str, secrets: tuple[str, ...] = ()) -> Manifest:
    return Manifest("pay", "pay.toml", "fn_pay", secrets, packages, {})


def closure(*modules: str) -> Closure:
    return Closure((), dict.fromkeys(modules, "shared/db.py"))


def test_packages_that_are_imported_and_named_agree() -> None:
    agreed = manifest("web", "jwt-kit")

    assert problems_of(agreed, closure("web", "jwt"), Lock(LOCK), INSTALLED) == []


def test_imported_package_that_is_not_named_is_a_problem() -> None:
    assert problems_of(manifest("web"), closure("web", "jwt"), Lock(LOCK), INSTALLED) == [
        "shared/db.py imports jwt-kit: add it to packages in pay.toml."
    ]


def test_named_package_that_is_not_imported_is_a_problem() -> None:
    assert problems_of(manifest("web", "binary"), closure("web"), Lock(LOCK), INSTALLED) == [
        "pay.toml names the package binary, which nothing in the function imports."
    ]


def test_package_that_comes_with_a_named_one_may_be_imported() -> None:
    assert problems_of(manifest("web"), closure("web", "base"), Lock(LOCK), INSTALLED) == []


def test_package_that_comes_with_no_named_one_is_a_problem() -> None:
    assert problems_of(manifest("binary"), closure("binary", "base"), Lock(LOCK), INSTALLED) == [
        "shared/db.py imports base, which no package in pay.toml brings."
    ]


def test_import_that_nothing_installs_is_a_problem() -> None:
    assert problems_of(manifest(), closure("ghost"), Lock(LOCK), INSTALLED) == [
        "shared/db.py imports ghost, which no installed package provides."
    ]


def test_secret_that_is_no_setting_is_a_problem() -> None:
    assert unread_secrets(manifest(secrets=("VAULT_KEYS", "VAULT_KEY"))) == [
        "pay.toml lists the secret VAULT_KEY, which shared/config.py does not read."
    ]


def test_requirements_are_exact_hashed_and_name_no_host() -> None:
    assert Lock(LOCK).requirements(["web"]) == (
        "base==1.0 \\\n    --hash=sha256:base\n"
        "old==1.0 ; (a < '1') \\\n    --hash=sha256:old\n"
        "older==1.0 ; (a < '1') and (b == 'c') \\\n    --hash=sha256:older\n"
        "web==1.0 \\\n    --hash=sha256:web\n"
    )


def test_requirements_follow_the_extras_of_pyproject() -> None:
    assert Lock(LOCK).requirements(["jwt-kit"]).startswith("base==1.0")


def test_requirements_hold_the_wheels_of_linux_only() -> None:
    assert Lock(LOCK).requirements(["binary"]) == (
        "binary==1.0 \\\n    --hash=sha256:one \\\n    --hash=sha256:two\n"
    )


def test_source_that_must_be_built_is_hashed_and_brings_its_builder() -> None:
    project = 'dependencies = [{ name = "web" }, { name = "alibabacloud-tea" }]'
    source = 'sdist = { url = "https://files.example/tea.tar.gz", hash = "sha256:tea" }'
    packages = [
        package("stalela", project),
        package("web"),
        package("alibabacloud-tea", source, wheels=" "),
        package("setuptools"),
    ]
    lock = Lock("\n".join(packages))

    assert lock.sources(["web", "alibabacloud-tea"]) == (
        "alibabacloud-tea==1.0 \\\n    --hash=sha256:tea\n"
    )
    assert lock.requirements(["alibabacloud-tea"]) == (
        "setuptools==1.0 \\\n    --hash=sha256:setuptools\n"
    )
    assert (lock.sources(["web"]), lock.requirements(["web"])) == (
        "",
        "web==1.0 \\\n    --hash=sha256:web\n",
    )


def test_package_that_pyproject_does_not_name_is_refused() -> None:
    with pytest.raises(BundleError, match=r"^base is no dependency in pyproject.toml.$"):
        Lock(LOCK).requirements(["base"])


def test_manifest_names_every_missing_and_unknown_key() -> None:
    tree = {
        "functions/pay/handler.py": b"",
        "functions/pay/function.toml": b'domain = "a"\nsecret = []\npackages = "web"\nroutes = {}',
    }

    with pytest.raises(BundleError) as refused:
        read_manifest(tree, "pay")

    assert refused.value.problems == (
        "functions/pay/function.toml has an unknown key: secret.",
        "functions/pay/function.toml needs db_role, a str.",
        "functions/pay/function.toml needs secrets, a list.",
        "functions/pay/function.toml needs packages, a list.",
    )


def test_function_without_a_manifest_is_refused_by_path() -> None:
    with pytest.raises(BundleError, match=r"^functions/pay/function.toml is missing.$"):
        read_manifest({"functions/pay/handler.py": b""}, "pay")
