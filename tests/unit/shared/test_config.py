"""shared/config.py: one settings object, every missing name at once, no secret in sight."""

import pytest
from pydantic import SecretStr, ValidationError

from shared.config import ConfigError, Settings

NAMES = {
    "FUNCTION_NAME": "payment_intents",
    "DATA_API_URL": "https://ref.supabase.co/rest/v1",
    "DATA_API_TOKEN": "token-of-the-role",
    "SUPABASE_URL": "https://ref.supabase.co",
    "FUNCTIONS_URL": "https://api.example/functions/v1",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*NAMES, "VAULT_KEYS", "INTERNAL_TOKENS", "PORT", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def fill(environment: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in {**NAMES, **more}.items():
        environment.setenv(name, value)


def test_environment_is_read_with_json_for_lists_and_mappings(
    environment: pytest.MonkeyPatch,
) -> None:
    fill(environment, VAULT_KEYS='{"1":"a2V5"}', INTERNAL_TOKENS='["one","two"]', PORT="9000")

    settings = Settings.from_environment(["VAULT_KEYS"])

    assert settings.function_name == "payment_intents"
    assert settings.vault_keys == {"1": SecretStr("a2V5")}
    assert [token.get_secret_value() for token in settings.internal_tokens] == ["one", "two"]
    assert settings.port == 9000


def test_every_missing_name_is_reported_at_once_in_a_sentence_each(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("FUNCTION_NAME", "payment_intents")

    with pytest.raises(ConfigError) as wrong:
        Settings.from_environment(["VAULT_KEYS", "INTERNAL_TOKENS"])

    assert set(wrong.value.problems) == {
        "DATA_API_URL is not set.",
        "DATA_API_TOKEN is not set.",
        "SUPABASE_URL is not set.",
        "FUNCTIONS_URL is not set.",
        "VAULT_KEYS is not set.",
        "INTERNAL_TOKENS is not set.",
    }


def test_secret_the_function_needs_is_reported_alone(environment: pytest.MonkeyPatch) -> None:
    fill(environment)

    with pytest.raises(ConfigError, match=r"^VAULT_KEYS is not set\.$"):
        Settings.from_environment(["VAULT_KEYS"])


def test_wrong_value_is_named_and_not_repeated(environment: pytest.MonkeyPatch) -> None:
    fill(environment, DATA_API_URL="postgres://user:hunter2@db", TRUSTED_PROXIES="many")

    with pytest.raises(ConfigError) as wrong:
        Settings.from_environment()

    assert [problem.split()[0] for problem in wrong.value.problems] == [
        "DATA_API_URL",
        "TRUSTED_PROXIES",
    ]
    assert "hunter2" not in str(wrong.value)
    environment.undo()


def test_list_that_is_no_json_is_named(environment: pytest.MonkeyPatch) -> None:
    fill(environment, INTERNAL_TOKENS="hunter2")

    with pytest.raises(ConfigError) as wrong:
        Settings.from_environment()

    assert wrong.value.problems == ("INTERNAL_TOKENS is wrong: must be JSON.",)


def test_explicit_settings_ignore_the_environment(environment: pytest.MonkeyPatch) -> None:
    fill(environment, LOG_LEVEL="debug")

    with pytest.raises(ValidationError):
        Settings()  # type: ignore[call-arg]  # the point: nothing is filled in

    settings = Settings(**{name.lower(): value for name, value in NAMES.items()})  # type: ignore[arg-type]
    assert settings.log_level == "info"


def test_secrets_print_as_stars() -> None:
    settings = Settings(
        **{name.lower(): value for name, value in NAMES.items()},  # type: ignore[arg-type]
        vault_keys={"1": SecretStr("master")},
        internal_tokens=[SecretStr("inside")],
    )

    shown = repr(settings) + settings.model_dump_json()

    assert "token-of-the-role" not in shown
    assert "master" not in shown
    assert "inside" not in shown


def test_require_names_everything_that_is_empty() -> None:
    settings = Settings(**{name.lower(): value for name, value in NAMES.items()})  # type: ignore[arg-type]

    with pytest.raises(ConfigError) as wrong:
        settings.require("vault_keys", "internal_tokens", "data_api_url")

    assert wrong.value.problems == ("VAULT_KEYS is not set.", "INTERNAL_TOKENS is not set.")
