"""scripts/deploy against a stand-in for `fly` that writes down how it was called."""

import json
import os
import tomllib
from pathlib import Path
from subprocess import CompletedProcess, run

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from scripts.bundling import deploy
from scripts.bundling.tree import ROOT

FLY = """#!/bin/sh
{
    echo "$1 $2: $*"
    case "$1" in secrets) cat ;; deploy) cat fly.toml ;; esac
} >> "$FLY_LOG"
[ "$1" != status ]
"""
PROJECT = {
    "SUPABASE_URL": "https://ref.supabase.example",
    "FUNCTIONS_URL": "https://api.shop.example/functions/v1",
    "VAULT_KEYS": '{"1":"a2V5"}',
}


@pytest.fixture
def fly_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the stand-in first on the path, and the project's values into the environment."""
    program, log = tmp_path / "bin/fly", tmp_path / "log"
    program.parent.mkdir()
    program.write_text(FLY)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FLY_LOG", str(log))
    monkeypatch.setattr(deploy, "DIST", tmp_path / "dist")
    for name, value in PROJECT.items():
        monkeypatch.setenv(name, value)
    return log


def signing_key(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, Path]:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(private, as_dict=True)
    path = folder / "signing_key.json"
    path.write_text(json.dumps({**jwk, "kid": "ours", "alg": "ES256"}))
    return private, path


def test_deploy_takes_every_step_and_shows_no_secret_on_a_command_line(
    fly_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, path = signing_key(tmp_path)
    monkeypatch.setenv("SIGNING_KEY_FILE", str(path))

    code = deploy.main(["payment_intents", "--app", "acme-pay", "--yes"])

    status, create, secrets, token, vault, start, *app = fly_log.read_text().splitlines()
    assert code == 0
    assert [line.partition(":")[0] for line in (status, create, secrets, start)] == [
        "status --app",
        "apps create",
        "secrets import",
        "deploy --app",
    ]
    assert "--env=DATA_API_URL=https://ref.supabase.example/rest/v1" in start
    assert vault == 'VAULT_KEYS={"1":"a2V5"}'
    claims = jwt.decode(
        token.removeprefix("DATA_API_TOKEN="), private.public_key(), algorithms=["ES256"]
    )
    assert claims["role"] == "fn_payment_intents"
    assert tomllib.loads("\n".join(app))["env"]["FUNCTION_NAME"] == "payment_intents"


def test_deploy_sends_nothing_when_the_signing_key_is_empty(
    fly_log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").touch()
    monkeypatch.setenv("SIGNING_KEY_FILE", str(tmp_path / "empty"))

    code = deploy.main(["payment_intents", "--yes"])

    assert code == 1
    assert capsys.readouterr().err == "deploy: empty is not a file with a key.\n"
    assert not fly_log.exists()


def test_deploy_refuses_a_secret_that_fly_would_change(
    fly_log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_API_TOKEN", "half # comment")

    code = deploy.main(["payment_intents", "--yes"])

    assert code == 1
    assert capsys.readouterr().err.startswith("deploy: DATA_API_TOKEN starts with a quote, or")
    assert not fly_log.exists()


@pytest.mark.parametrize("has_git", [True, False])
def test_deploy_of_what_is_no_checkout_asks_for_its_version_before_the_first_step(
    has_git: bool,
    fly_log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATA_API_TOKEN", "token")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    if not has_git:
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    refused = deploy.main(["payment_intents", "--yes"])
    said, were_steps_taken = capsys.readouterr().err, fly_log.exists()
    monkeypatch.setenv("VERSION", "2026.11.1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    done = deploy.main(["payment_intents", "--yes"])

    assert (refused, were_steps_taken, done) == (1, False, 0)
    assert said == (
        "deploy: git cannot tell which version this is:"
        " set VERSION, or deploy from a git checkout.\n"
    )
    assert "--env=VERSION=2026.11.1" in fly_log.read_text()


def test_deploy_without_yes_prints_the_steps_and_does_nothing(
    fly_log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = deploy.main(["payment_intents"])

    assert code == 0
    assert "--role fn_payment_intents" in capsys.readouterr().out
    assert not fly_log.exists()
    assert not (tmp_path / "dist").exists()


def test_deploy_names_all_that_is_missing_before_the_first_step() -> None:
    ended = scripts_deploy("payment_intents", "--yes")

    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "deploy: fly, the command line of Fly.io, is not installed.",
        "deploy: SUPABASE_URL is not set.",
        "deploy: FUNCTIONS_URL is not set.",
        "deploy: VAULT_KEYS is not set.",
        "deploy: neither DATA_API_TOKEN nor SIGNING_KEY_FILE (the project's private JWK) is set.",
    ]


def test_deploy_of_the_database_pushes_migrations_to_the_linked_project() -> None:
    ended = scripts_deploy("database")

    assert "supabase db push --remote\n" in ended.stdout


def test_deploy_of_an_unknown_function_says_so() -> None:
    ended = scripts_deploy("horoscopes")

    assert ended.returncode == 1
    assert "there is no function horoscopes" in ended.stderr


def scripts_deploy(*arguments: str) -> "CompletedProcess[str]":
    command = [str(ROOT / "scripts/deploy"), *arguments]
    bare = {"PATH": "/usr/bin:/bin"}
    return run(command, env=bare, capture_output=True, text=True, timeout=60)  # noqa: S603  ours
