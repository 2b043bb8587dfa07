"""Unit tests reach no network: respx answers, and it listens to httpx's own transport."""

import httpx
import pytest


@pytest.fixture(autouse=True)
def respx_answers_the_data_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.pooled.PooledClient", lambda: httpx.AsyncClient(trust_env=False))
