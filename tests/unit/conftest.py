"""Unit tests reach no network: respx answers, and it listens to httpx's own transport."""

from collections.abc import Mapping

import httpx
import pytest


@pytest.fixture(autouse=True)
def respx_answers_the_data_api(monkeypatch: pytest.MonkeyPatch) -> None:
    def client(headers: Mapping[str, str]) -> httpx.AsyncClient:
        return httpx.AsyncClient(headers=headers, trust_env=False)

    monkeypatch.setattr("shared.pooled.PooledClient", client)
