"""The merchants app in this process, before a pretend Data API and a pretend Daraja."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import respx
from fastapi import FastAPI

from functions.merchants import handler
from shared.rails.mpesa import client as client_of_mpesa
from shared.transport import Answer, NothingSent, Request
from shared.vault import Vault
from tests.unit.functions.merchants.pretend import (
    DATA_API,
    DataApi,
    settings,
    sign_in,
    vault_of,
)


@pytest.fixture
def network() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def data_api(network: respx.MockRouter) -> DataApi:
    pretend = DataApi()
    network.post(url__startswith=f"{DATA_API}/rpc/").mock(side_effect=pretend)
    return pretend


@pytest.fixture
def daraja(network: respx.MockRouter) -> respx.Route:
    """Daraja's token URL, in both environments; gives a token unless told otherwise."""
    route = network.get(url__regex=r"^http://(sandbox|production)\.daraja\.test/oauth/v1/generate")
    return route.respond(200, json={"access_token": "T1", "expires_in": "3599"})


class OverHttpx:
    """A rail's transport that respx can intercept; the real one is tested on real sockets."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient()

    async def send(self, request: Request) -> Answer | None:
        try:
            told = await self._http.request(
                request.method, request.url, headers=request.headers, content=request.body
            )
        except httpx.ConnectError as refused:
            raise NothingSent from refused
        return Answer(told.status_code, told.content)

    async def aclose(self) -> None:
        await self._http.aclose()


@pytest.fixture(autouse=True)
def _rails_over_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_of_mpesa, "HttpTransport", OverHttpx)


@pytest.fixture
def vault() -> Vault:
    """The vault of the app."""
    return vault_of("1", "2")


@pytest.fixture
def app() -> FastAPI:
    made = handler.create(settings())
    sign_in(made)
    return made


@pytest.fixture
async def client(app: FastAPI, data_api: DataApi) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody signed in, who is the owner of an organisation."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://api.test/functions/v1/merchants",
            headers={"Authorization": "Bearer a.user.token"},
        ) as http,
    ):
        yield http
