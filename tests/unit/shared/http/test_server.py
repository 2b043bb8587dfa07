"""shared/http/server.py: the start of a bundle."""

import gc
import logging
import sys
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from shared.config import Settings
from shared.http import server
from tests.unit.shared.http.kit import make_app

NAMES = {
    "FUNCTION_NAME": "payment_intents",
    "DATA_API_URL": "http://data.test",
    "DATA_API_TOKEN": "role-token",
    "SUPABASE_URL": "http://auth.test",
    "FUNCTIONS_URL": "http://api.test/functions/v1",
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FastAPI, Settings]]:
    """What would have been served, instead of serving it."""
    apps: list[tuple[FastAPI, Settings]] = []
    monkeypatch.setattr(server, "_run", lambda app, settings: apps.append((app, settings)))
    return apps


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a start changes for its whole process ends with the test."""
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "__all__")
    monkeypatch.setitem(sys.modules, "pydantic.v1", None)
    monkeypatch.setitem(BaseModel.model_config, "defer_build", False)
    yield
    gc.enable()
    gc.unfreeze()


def create(settings: Settings) -> FastAPI:
    return make_app(port=settings.port)


def test_app_is_made_from_the_environment_and_served(
    started: list[tuple[FastAPI, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**NAMES, "PORT": "9100"}.items():
        monkeypatch.setenv(name, value)

    server.serve(create)

    ((app, settings),) = started
    assert app.title == "Orders"
    assert settings.port == 9100
    assert gc.isenabled()


def test_handler_may_be_named_and_is_imported_then(
    started: list[tuple[FastAPI, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)

    server.serve("tests.unit.shared.http.test_server:create")

    assert len(started) == 1


def test_missing_settings_stop_the_start_with_a_sentence_each(
    started: list[tuple[FastAPI, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*NAMES, "VAULT_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FUNCTION_NAME", "payment_intents")

    with pytest.raises(SystemExit) as stopped:
        server.serve(create, secrets=["VAULT_KEYS"])

    assert sorted(str(stopped.value.code).splitlines()) == [
        "DATA_API_TOKEN is not set.",
        "DATA_API_URL is not set.",
        "FUNCTIONS_URL is not set.",
        "SUPABASE_URL is not set.",
        "VAULT_KEYS is not set.",
    ]
    assert not started


def test_complaint_of_the_server_is_passed_on_without_the_text_of_an_exception() -> None:
    failed = (ValueError, ValueError("254712345678"), None)
    record = logging.LogRecord("uvicorn.error", 40, "", 1, "Exception in ASGI app", None, failed)

    assert server._without_trace(record)
    assert "254712345678" not in logging.Formatter().format(record)


def test_small_talk_of_the_server_is_not_passed_on() -> None:
    record = logging.LogRecord("uvicorn.error", logging.INFO, "", 1, "Started", None, None)

    assert not server._without_trace(record)
