"""Every bundle, installed alone outside the repository: it starts, answers, stays small."""

import json
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from itertools import cycle, islice
from os import environ, getloadavg
from pathlib import Path
from subprocess import run
from threading import Thread
from typing import Any, NamedTuple

import pytest

from scripts.bundling.alone import (
    Installed,
    Running,
    import_cpu_ms,
    install,
    run_to_end,
    started,
)
from scripts.bundling.build import make_bundle
from scripts.bundling.manifest import Manifest
from scripts.bundling.tree import ROOT, functions_of, read_tree
from scripts.stack.process import wait_until
from shared.config import Settings

STARTS, STARTS_WITHIN = 5, 1.4  # times the processor time of importing the framework
RESIDENT_MB, REQUESTS = 100, 1000

INTERNAL_TOKEN = "internal-" + "0" * 32
VALUES = {
    "DATA_API_TOKEN": "header.payload.signature",
    "SUPABASE_URL": "http://127.0.0.1:9",
    "FUNCTIONS_URL": "http://127.0.0.1:9/functions/v1",
    "VAULT_KEYS": json.dumps({"1": b64encode(bytes(32)).decode()}),
    "INTERNAL_TOKENS": json.dumps([INTERNAL_TOKEN]),
}
NOBODY = json.dumps(
    {"code": "PT401", "details": "40101", "hint": None, "message": "the key is not known"}
).encode()

Report = Callable[[str], None]


class Alone(NamedTuple):
    """An installed bundle with the environment its manifest asks for, and no other name."""

    manifest: Manifest
    installed: Installed
    environment: dict[str, str]


class Call(NamedTuple):
    """One request, made from the examples of the function's OpenAPI document."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


class _NobodyIsKnown(BaseHTTPRequestHandler):
    """A Data API that knows no caller: what PostgREST answers when SQL refuses with 40101."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(NOBODY)))
        self.end_headers()
        self.wfile.write(NOBODY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@pytest.fixture(scope="module")
def data_api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NobodyIsKnown) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def with_packages() -> dict[str, Installed]:
    """One installed bundle by each list of packages: most functions ship the same."""
    return {}


@pytest.fixture(scope="module", params=functions_of(read_tree()))
def alone(
    request: pytest.FixtureRequest,
    data_api: str,
    with_packages: dict[str, Installed],
    tmp_path_factory: pytest.TempPathFactory,
) -> Alone:
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    bundle = make_bundle(read_tree(), name)
    bundle.write(folder / "bundle")
    lists = [path for path in (folder / "bundle").glob("*.txt") if path.is_file()]
    packages = "\n".join(path.name + path.read_text() for path in sorted(lists))
    installed = install(folder / "bundle", folder / "alone", with_packages.get(packages))
    with_packages.setdefault(packages, installed)
    values = VALUES | {"FUNCTION_NAME": name, "DATA_API_URL": data_api}
    environment = {needed: values[needed] for needed in needed_names(bundle.manifest)}
    return Alone(bundle.manifest, installed, environment)


def needed_names(manifest: Manifest) -> list[str]:
    required = [
        name.upper() for name, field in Settings.model_fields.items() if field.is_required()
    ]
    return list(dict.fromkeys([*required, *manifest.secrets]))


def test_bundle_starts_almost_as_fast_as_its_framework(alone: Alone, report: Report) -> None:
    # A ratio in one run, because a busy machine makes both slow; scripts/bench has the wall clock.
    framework: list[float] = []
    starts: list[Running] = []

    for _ in range(STARTS):
        framework.append(import_cpu_ms(alone.installed, "fastapi, uvicorn"))
        with started(alone.installed, alone.environment) as running:
            starts.append(running)

    least_ms, limit_ms = min(start.start_cpu_ms for start in starts), min(framework)
    report(
        f"{alone.manifest.name}: cold start {min(start.cold_start_ms for start in starts):.0f} ms, "
        f"{least_ms:.0f} ms of processor time; importing the framework alone {limit_ms:.0f} ms; "
        f"load {getloadavg()[0]:.1f}"
    )
    assert least_ms < STARTS_WITHIN * limit_ms


def test_bundle_loads_what_calls_are_made_with_before_the_first(alone: Alone) -> None:
    with started(alone.installed, alone.environment) as running:
        mapped = Path(f"/proc/{running.pid}/maps")
        wait_until("the HTTP client", lambda: "aiohttp/_http_parser" in mapped.read_text())


def test_bundle_stays_small_after_a_thousand_requests(alone: Alone, report: Report) -> None:
    # All requests come from one address, which the limit per address would turn away.
    unlimited = alone.environment | {"IP_REQUESTS_PER_S": "0"}
    calls = calls_of(alone)

    with started(alone.installed, unlimited) as running:
        before = running.resident_mb()
        statuses = Counter(send_all(running.port, islice(cycle(calls), REQUESTS)))
        after = running.resident_mb()

    report(
        f"{alone.manifest.name}: {before:.0f} MB resident at start, {after:.0f} MB after "
        f"{statuses.total()} requests of {len(calls)} kinds, answers {dict(statuses)}"
    )
    assert statuses.total() == REQUESTS
    assert max(statuses) < 500
    assert after < RESIDENT_MB


def test_bundle_refuses_an_unknown_caller_with_a_problem(alone: Alone) -> None:
    calls = calls_of(alone)
    call = next((call for call in calls if "Authorization" in call.headers), calls[0])
    anonymous = {name: value for name, value in call.headers.items() if name != "Authorization"}

    with started(alone.installed, alone.environment) as running:
        connection = HTTPConnection("127.0.0.1", running.port)
        connection.request(call.method, call.path, call.body, anonymous)
        answer = connection.getresponse()
        problem = json.loads(answer.read())
        connection.close()

    assert (answer.status, problem["status"]) == (401, 401)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_bundle_names_every_missing_setting_and_exits(alone: Alone) -> None:
    code, complaints = run_to_end(alone.installed, {})

    assert code != 0
    assert complaints.splitlines() == [
        f"{name} is not set." for name in needed_names(alone.manifest)
    ]


def test_bundle_holds_everything_it_could_import_later(alone: Alone) -> None:
    closure = make_bundle(read_tree(), alone.manifest.name).closure
    code = [path.removesuffix(".py") for path in closure.files if path.endswith(".py")]
    modules = [path.replace("/", ".").removesuffix(".__init__") for path in code]
    imports = "\n".join(f"import {name}" for name in [*closure.packages, *modules])

    python, *_ = alone.installed.command
    ended = run(  # noqa: S603  ours
        [python, "-c", imports], cwd=alone.installed.folder, env={}, capture_output=True, text=True
    )

    assert ended.stderr == ""


def test_bundle_has_the_same_bytes_every_time(alone: Alone, tmp_path: Path) -> None:
    # Another process with another hash seed: no set may decide an order.
    program = (
        "import sys; from pathlib import Path; from scripts.bundling.build import make_bundle;"
        "from scripts.bundling.tree import read_tree;"
        "make_bundle(read_tree(), sys.argv[1]).write(Path(sys.argv[2]))"
    )
    again = tmp_path / "again"
    command = [sys.executable, "-c", program, alone.manifest.name, str(again)]
    run(command, cwd=ROOT, env={**environ, "PYTHONHASHSEED": "1"}, check=True)  # noqa: S603  ours

    assert files_below(again) == files_below(alone.installed.folder.with_name("bundle"))


def files_below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def send_all(port: int, calls: Iterator[Call]) -> Iterator[int]:
    connection = HTTPConnection("127.0.0.1", port)
    for call in calls:
        connection.request(call.method, call.path, call.body, call.headers)
        answer = connection.getresponse()
        answer.read()
        yield answer.status
    connection.close()


def calls_of(alone: Alone) -> list[Call]:
    """One request per operation of the function's OpenAPI document."""
    handler = import_module(f"functions.{alone.manifest.name}.handler")
    document = handler.create(
        Settings(**{name.lower(): parsed(value) for name, value in alone.environment.items()})
    ).openapi()
    return [
        Examples(document).call(method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def parsed(value: str) -> Any:
    return json.loads(value) if value[0] in "[{" else value


class Examples:
    """Makes requests from what an OpenAPI document says of them."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def call(self, method: str, path: str, operation: dict[str, Any]) -> Call:
        internal = {"InternalToken": []} in operation.get("security", [])
        token = INTERNAL_TOKEN if internal else "sk_test_" + "0" * 32
        headers = {"Authorization": f"Bearer {token}"} if operation["security"] else {}
        for named in operation.get("parameters", []):
            parameter = self.resolved(named)
            if parameter["in"] == "path":
                path = path.replace(
                    f"{{{parameter['name']}}}", str(self.value(parameter["schema"]))
                )
            elif parameter["in"] == "header" and parameter.get("required", False):
                headers[parameter["name"]] = self.value(parameter["schema"])
        body = None
        if "requestBody" in operation:
            media = operation["requestBody"]["content"]
            # A published list is sent as it is; everything else is JSON.
            kind = "application/json" if "application/json" in media else next(iter(media))
            headers["Content-Type"] = kind
            content = media[kind]
            body = json.dumps(self.value(content["schema"])).encode()
        return Call(method, path, headers, body)

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        """What `node` refers to, or `node` itself."""
        if "$ref" not in node:
            return node
        found: dict[str, Any] = self.document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found

    def value(self, schema: dict[str, Any]) -> Any:
        """A value of `schema`: its example when it has one, else the least it asks for."""
        for union in ("anyOf", "oneOf", "allOf"):
            if union in schema:
                return self.value(schema[union][0])
        if "$ref" in schema:
            return self.value(self.resolved(schema))
        for known in ("const", "default"):
            if known in schema:
                return schema[known]
        for several in ("examples", "enum"):
            if several in schema:
                return schema[several][0]
        if schema.get("type") == "object":
            fields = schema.get("properties", {})
            return {name: self.value(fields[name]) for name in schema.get("required", [])}
        least = {"array": [], "integer": schema.get("minimum", 1), "boolean": False}
        return least.get(schema.get("type", "string"), "x" * schema.get("minLength", 8))
