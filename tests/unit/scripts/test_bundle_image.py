import tomllib

from scripts.bundling import image
from scripts.bundling.manifest import Manifest
from shared.config import Settings


def manifest(routes: dict[str, str] | None = None) -> Manifest:
    return Manifest(
        "momo_callback",
        "functions/momo_callback/function.toml",
        "fn_momo_callback",
        ("DATA_API_TOKEN", "VAULT_KEYS"),
        (),
        routes or {},
    )


def test_entry_point_is_python_that_asks_for_every_secret() -> None:
    text = image.entry_point(manifest())

    compile(text, "main.py", "exec")
    assert (
        'serve("functions.momo_callback.handler:create", secrets=["DATA_API_TOKEN", "VAULT_KEYS"])'
        in text
    )


def test_app_is_checked_where_it_listens() -> None:
    app = tomllib.loads(image.fly_toml(manifest()))

    assert app["app"] == "stalela-momo-callback"
    assert app["http_service"]["internal_port"] == int(app["env"]["PORT"])
    assert app["http_service"]["checks"][0]["path"] == "/healthz"
    assert app["vm"] == [{"memory": "256mb", "cpu_kind": "shared", "cpus": 1}]


def test_app_sets_only_settings_that_are_read() -> None:
    app = tomllib.loads(image.fly_toml(manifest()))

    assert {name.lower() for name in app["env"]} <= Settings.model_fields.keys()


def test_app_lists_the_secrets_but_holds_none() -> None:
    text = image.fly_toml(manifest())

    assert "# Secrets: DATA_API_TOKEN, VAULT_KEYS." in text
    assert not {"DATA_API_TOKEN", "VAULT_KEYS"} & tomllib.loads(text)["env"].keys()


def test_one_machine_keeps_running_where_a_rail_calls_back() -> None:
    called = tomllib.loads(image.fly_toml(manifest({"POST /{token}": "callback-token"})))
    other = tomllib.loads(image.fly_toml(manifest({"POST /": "api-key"})))

    assert called["http_service"]["min_machines_running"] == 1
    assert other["http_service"]["min_machines_running"] == 0


def test_image_compiles_python_itself_and_the_bundle() -> None:
    lines = image.dockerfile(["functions", "shared"])

    assert lines.count(" ".join(image.COMPILE)) == 2
    assert "/usr/local/lib/python3.11\n" in lines
    assert lines.index("COPY functions functions") < lines.rindex("compileall")


def test_image_installs_nothing_that_is_not_hashed() -> None:
    assert "--no-deps --require-hashes --only-binary :all:" in image.dockerfile(["shared"])


def test_image_builds_sources_with_what_is_there_and_loses_it_again() -> None:
    lines = image.dockerfile(["shared"], has_sources=True)

    assert "COPY requirements.txt sources.txt ." in lines
    assert (
        "--require-hashes --no-build-isolation --no-binary :all: \\\n        -r sources.txt"
        in lines
    )
    assert lines.index("-r sources.txt") < lines.index("pip uninstall --yes --quiet setuptools")
    assert "sources.txt" not in image.dockerfile(["shared"])
