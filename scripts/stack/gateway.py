"""The one front door of the local stack, looking like Supabase's: functions, Data API, Auth."""

import importlib
import json
import os
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from scripts.stack.auth import Auth
from scripts.stack.cors import Cors
from scripts.stack.docs.page import Docs
from scripts.stack.keys import Keys
from scripts.stack.openapi import merge
from scripts.stack.oss.app import BUCKET as OSS_BUCKET
from scripts.stack.oss.app import REGION as OSS_REGION
from scripts.stack.places import ROOT, Ports
from scripts.stack.rest_proxy import RestProxy
from shared.config import Settings

PREFIX = "/functions/v1"
EVENTS = ROOT / "functions/events/events.json"
OWN_PAGES = {"openapi.json", "events.json", "docs"}  # of the gateway, where functions are else


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the gateway must know of its stack. overrides: settings of every function."""

    state: Path
    ports: Ports
    auth_conninfo: str
    overrides: dict[str, Any]
    functions: list[str] | None  # folder names; None: all

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.gateway}"


class Functions:
    """Every folder with a function.toml, mounted at its URL name."""

    def __init__(self, around: Surroundings, keys: Keys) -> None:
        self.apps: dict[str, Any] = {}
        for manifest in sorted((ROOT / "functions").glob("*/function.toml")):
            name = manifest.parent.name
            if around.functions is not None and name not in around.functions:
                continue
            facts = tomllib.loads(manifest.read_text())
            handler = importlib.import_module(f"functions.{name}.handler")
            settings = function_settings(around, keys, name, facts)
            self.apps[name.replace("_", "-")] = handler.create(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        slug, _, rest = str(scope["path"]).removeprefix(f"{PREFIX}/").partition("/")
        app: ASGIApp | None = self.apps.get(slug)
        if app is None:
            app = JSONResponse(
                {"code": "NOT_FOUND", "message": "Requested function was not found"},
                status_code=404,
                headers={"sb-error-code": "NOT_FOUND"},
            )
        # The bare URL of a function is its root: answered, never redirected.
        root = f"{PREFIX}/{slug}"
        await app({**scope, "root_path": root, "path": f"{root}/{rest}"}, receive, send)

    @property
    def ready(self) -> BackgroundTasks:
        """What is left to do before the first calls."""
        return BackgroundTasks(
            [BackgroundTask(app.state.database.load) for app in self.apps.values()]
        )

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Start-up and shut-down of every function: a mounted app gets neither by itself."""
        async with AsyncExitStack() as stack:
            for app in self.apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    def openapi(self, server: str) -> dict[str, Any]:
        """The merged document of all functions."""
        return merge({slug: app.openapi() for slug, app in self.apps.items()}, server, "v1")


def function_settings(
    around: Surroundings, keys: Keys, name: str, manifest: dict[str, Any]
) -> Settings:
    """The settings of one function, with the token of its own database role."""
    values = {
        "function_name": name,
        "data_api_url": f"http://127.0.0.1:{around.ports.postgrest}",
        "data_api_token": keys.role_token(manifest["db_role"]),
        "supabase_url": around.url,
        "functions_url": f"{around.url}{PREFIX}",
        "daraja_sandbox_url": f"http://127.0.0.1:{around.ports.daraja}",
        "daraja_production_url": f"http://127.0.0.1:{around.ports.daraja}",
        "vault_keys": keys["vault_keys"] if "VAULT_KEYS" in manifest["secrets"] else {},
        "internal_tokens": [keys["internal_token"]],
        # Beside the documents it signed, wherever the stack was started from.
        "invoice_key_file": str(around.state / "invoice-key.pem"),
        "edef_sandbox_url": f"http://127.0.0.1:{around.ports.emcf}/edef",
        "edef_production_url": f"http://127.0.0.1:{around.ports.emcf}/edef",
        "etims_sandbox_url": f"http://127.0.0.1:{around.ports.etims}",
        "etims_production_url": f"http://127.0.0.1:{around.ports.etims}",
        "fdms_test_url": f"https://127.0.0.1:{around.ports.fdms}",
        "fdms_production_url": f"https://127.0.0.1:{around.ports.fdms}",
        "fdms_ca_file": str(around.state / "fdms" / "ca" / "root.pem"),
        "resend_url": f"http://127.0.0.1:{around.ports.resend}",
        "resend_api_key": keys["resend_api_key"],
        "resend_webhook_secrets": [keys["resend_webhook_secret"]],
        "operator_email": "operator@stalela.example",
        "oss_endpoint": f"http://127.0.0.1:{around.ports.oss}",
        "oss_region": OSS_REGION,
        "oss_bucket": OSS_BUCKET,
        "oss_access_key_id": keys["oss_access_key_id"],
        "oss_access_key_secret": keys["oss_access_key_secret"],
        # Everything comes from this machine: one address would share everybody's allowance.
        "ip_requests_per_s": 0,
        "global_requests_per_s": 0,
    }
    return Settings(**(values | around.overrides))


def build(around: Surroundings) -> ASGIApp:
    """The whole gateway as one ASGI app."""
    keys = Keys(around.state)
    functions = Functions(around, keys)
    proxy = RestProxy(keys, f"http://127.0.0.1:{around.ports.postgrest}")
    document: dict[str, Any] = {}

    async def openapi(_request: Request) -> Response:
        if not document:
            document.update(functions.openapi(f"{around.url}{PREFIX}"))
        return JSONResponse(document)

    async def events(_request: Request) -> Response:
        return FileResponse(EVENTS, media_type="application/schema+json")

    async def health(_request: Request) -> Response:
        # A function gets ready for its first call after its own /healthz, which nobody asks here.
        return JSONResponse({"functions": sorted(functions.apps)}, background=functions.ready)

    platform: list[Mount | Route] = [
        Route("/healthz", health),
        Mount("/auth/v1", Auth(keys, around.url, around.auth_conninfo).app()),
        Route(
            "/rest/v1/{path:path}",
            proxy.handle,
            methods=["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"],
        ),
    ]
    docs = Docs(around.state, around.url, PREFIX, f"http://127.0.0.1:{around.ports.daraja}")
    rest = Starlette(
        routes=[
            Route(f"{PREFIX}/openapi.json", openapi),
            Route(f"{PREFIX}/events.json", events),
            *docs.routes(),
            # CORS is a function's own business, as on the platform; here only for the rest.
            Mount("/", Cors(Starlette(routes=platform))),
        ],
        lifespan=functions.lifespan,
    )
    return Front(functions, rest)


class Front:
    """Gives each function its path as it came: a router would stop at a line feed in it."""

    def __init__(self, functions: ASGIApp, rest: ASGIApp) -> None:
        self.functions, self.rest = functions, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix, _, below = str(scope.get("path", "")).partition(f"{PREFIX}/")
        is_functions = prefix == "" and below.partition("/")[0] not in OWN_PAGES
        app = self.functions if scope["type"] == "http" and is_functions and below else self.rest
        await app(scope, receive, send)


def serve(around: Surroundings) -> None:
    """Serve until told to stop."""
    config = uvicorn.Config(
        build(around),
        host="127.0.0.1",
        port=around.ports.gateway,
        loop="uvloop",
        http="httptools",
        access_log=False,  # each function logs its own requests
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run()


def main() -> None:
    """Read the surroundings from the environment that Stack prepared, then serve."""
    around = Surroundings(
        state=Path(os.environ["STALELA_STATE"]),
        ports=Ports(int(os.environ["STALELA_PORT"])),
        auth_conninfo=os.environ["STALELA_AUTH_CONNINFO"],
        overrides=json.loads(os.environ.get("STALELA_OVERRIDES", "{}")),
        functions=json.loads(os.environ.get("STALELA_FUNCTIONS", "null")),
    )
    serve(around)


if __name__ == "__main__":
    main()
