"""Alibaba Cloud KMS as one ASGI application: its RPC actions at /, and a control API for tests."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from scripts.stack.kms.keys import ALGORITHMS, Key
from scripts.stack.kms.wire import Doorkeeper, Refusal, Sent

VERSION = "2016-01-20"
VERSIONS_MAX = 50
FOREVER_S = 3600.0
PROXY_PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
Parameters = Mapping[str, str]
Facts = dict[str, Any]


class Mood(BaseModel):
    """How the service behaves. delay_ms: before each answer of an action."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trouble: Literal[
        "none",
        "throttled",
        "throttled_user",
        "internal",
        "unavailable",
        "proxy",
        "silent",
        "forbidden",
    ] = "none"
    delay_ms: float = 0
    swaps_versions: bool = False  # answers with another version's signature


TROUBLES = {
    "throttled": Refusal("Rejected.Throttling", "QPS Limit Exceeded"),
    "throttled_user": Refusal("Throttling.User", "Request was denied due to user flow control."),
    "internal": Refusal("InternalFailure", "Internal Failure"),
    "unavailable": Refusal("ServiceUnavailableTemporary", "Service Unavailable Temporary"),
    "forbidden": Refusal("Forbidden.NoPermission", "This operation is forbidden by RAM."),
}


class Service:
    """The keys of one account."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.keys: dict[str, Key] = {}
        self.mood = Mood()
        self.calls: Counter[str] = Counter()
        self._doorkeeper = Doorkeeper(secrets)
        self._actions: dict[str, Callable[[Parameters], Facts]] = {
            "AsymmetricSign": self._sign,
            "CreateKey": self._create_key,
            "CreateKeyVersion": self._create_version,
            "DescribeKeyVersion": self._describe_version,
            "DisableKey": lambda given: self._set_state(given, "Disabled"),
            "EnableKey": lambda given: self._set_state(given, "Enabled"),
            "GetPublicKey": self._public_key,
            "ListKeyVersions": self._list_versions,
        }

    async def rpc(self, request: Request) -> Response:
        """One action."""
        request_id = str(uuid.uuid4()).upper()
        sent = await _arrived(request)
        action = sent.headers.get("x-acs-action", "")
        self.calls[action] += 1
        if self.mood.trouble == "silent":
            await asyncio.sleep(FOREVER_S)
        await asyncio.sleep(self.mood.delay_ms / 1000)
        if self.mood.trouble == "proxy":
            return HTMLResponse(PROXY_PAGE, 502)
        try:
            self._doorkeeper.admit(sent, datetime.now(UTC))
            if trouble := TROUBLES.get(self.mood.trouble):
                raise trouble
            if action not in self._actions or sent.headers["x-acs-version"] != VERSION:
                raise Refusal("UnsupportedOperation", f"There is no action {action}.")
            facts = self._actions[action](dict(sent.query))
        except Refusal as refusal:
            facts = {
                "Code": refusal.code,
                "Message": refusal.message,
                "HostId": sent.headers["host"],
                "RequestId": request_id,
            }
            return JSONResponse(facts, refusal.status)
        return JSONResponse(facts | {"RequestId": request_id})

    def _sign(self, given: Parameters) -> Facts:
        key, version_id = self._key(given), _needed(given, "KeyVersionId")
        used = version_id
        if self.mood.swaps_versions:
            used = next(v.version_id for v in key.versions if v.version_id != version_id)
        value = key.sign(used, _needed(given, "Algorithm"), _needed(given, "Digest"))
        return {"Value": value, "KeyId": key.key_id, "KeyVersionId": version_id}

    def _public_key(self, given: Parameters) -> Facts:
        key, version_id = self._key(given), _needed(given, "KeyVersionId")
        pem = key.version(version_id).pem()
        return {"PublicKey": pem, "KeyId": key.key_id, "KeyVersionId": version_id}

    def _create_key(self, given: Parameters) -> Facts:
        spec = _needed(given, "KeySpec")
        if spec not in ALGORITHMS or given.get("KeyUsage") != "SIGN/VERIFY":
            raise Refusal("InvalidParameter", "Only keys that sign are kept here.")
        key = Key(spec)
        self.keys[key.key_id] = key
        key.add_version()
        return {"KeyMetadata": {"KeyId": key.key_id, "KeySpec": spec, "KeyState": key.state}}

    def _create_version(self, given: Parameters) -> Facts:
        key = self._key(given)
        if len(key.versions) >= VERSIONS_MAX:
            raise Refusal("Rejected.LimitExceeded", "A key has at most 50 versions.")
        return {"KeyVersion": _version_of(key, key.add_version().version_id)}

    def _describe_version(self, given: Parameters) -> Facts:
        return {"KeyVersion": _version_of(self._key(given), _needed(given, "KeyVersionId"))}

    def _list_versions(self, given: Parameters) -> Facts:
        key = self._key(given)
        number, size = int(given.get("PageNumber", "1")), int(given.get("PageSize", "10"))
        page = key.versions[(number - 1) * size : number * size]
        return {
            "KeyVersions": {"KeyVersion": [_version_of(key, v.version_id) for v in page]},
            "PageNumber": number,
            "PageSize": size,
            "TotalCount": len(key.versions),
        }

    def _set_state(self, given: Parameters, state: str) -> Facts:
        self._key(given).state = state
        return {}

    def _key(self, given: Parameters) -> Key:
        found = self.keys.get(_needed(given, "KeyId"))
        if found is None:
            raise Refusal("Forbidden.KeyNotFound", "The specified Key is not found.")
        return found


def create(service: Service) -> Starlette:
    """Serves `service`."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def mood(request: Request) -> Response:
        """Change the mood; what is left out is calm again."""
        service.mood = Mood.model_validate(await request.json())
        return JSONResponse(service.mood.model_dump())

    async def calls(_request: Request) -> Response:
        """How often each action was asked for."""
        return JSONResponse(service.calls)

    async def keys(request: Request) -> Response:
        """Make a key as one does in the console: {"spec": "EC_P256"}."""
        key = Key((await request.json())["spec"])
        key.add_version()
        service.keys[key.key_id] = key
        return JSONResponse({"key_id": key.key_id})

    return Starlette(
        routes=[
            Route("/", service.rpc, methods=["POST"]),
            Route("/control/health", health),
            Route("/control/mood", mood, methods=["POST"]),
            Route("/control/calls", calls),
            Route("/control/keys", keys, methods=["POST"]),
        ]
    )


async def _arrived(request: Request) -> Sent:
    return Sent(
        request.method,
        request.url.path,
        request.query_params.multi_items(),
        {name.lower(): value for name, value in request.headers.items()},
        await request.body(),
    )


def _needed(given: Parameters, name: str) -> str:
    if not given.get(name):
        raise Refusal("MissingParameter", f"The parameter {name} is mandatory.")
    return given[name]


def _version_of(key: Key, version_id: str) -> Facts:
    version = key.version(version_id)
    return {
        "KeyId": key.key_id,
        "KeyVersionId": version.version_id,
        "CreationDate": f"{version.created_at:%Y-%m-%dT%H:%M:%SZ}",
    }
