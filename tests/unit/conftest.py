"""Unit tests reach no network: respx answers, and it listens to httpx's own transport."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from shared.pooled import sent_along


class Answered(httpx.AsyncClient):
    """In place of `PooledClient`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers, trust_env=False)

    async def request(self, *args: Any, headers: Any = None, **options: Any) -> httpx.Response:
        both = {**httpx.Headers(headers), **sent_along.get()}
        return await super().request(*args, headers=both, **options)


@pytest.fixture(autouse=True)
def respx_answers_the_data_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.pooled.PooledClient", Answered)
