"""/functions/v1/docs: the API, a form to try each operation, and what every error code means."""

import csv
import json
import re
from html import escape
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from scripts.stack.keys import Keys
from scripts.stack.places import ROOT
from scripts.stack.seed import SECRET_KEY
from shared.errors import BY_CODE

HERE = Path(__file__).parent
SWAGGER = ROOT / "node_modules/swagger-ui-dist"
CODES = ROOT / "shared/public.error_codes.csv"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# Swagger UI writes its styles inline and its icons as data. Nothing may come from another machine.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self' {url}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KEY_GIVEN = """\
<p class="key">Requests from this page carry the demonstration key <code>{key}</code>:
  the sandbox, and a simulated phone.</p>"""
KEY_MISSING = """\
<p class="key">There is no demonstration key yet: <code>./scripts/up</code> makes one.
  Until then give a key under <b>Authorize</b>.</p>"""
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Crect width='8' height='8' rx='2' fill='%2312803c'/%3E%3C/svg%3E"
)
PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Stalela API</title>
<link rel="icon" href="{icon}">
<link rel="stylesheet" href="{prefix}/docs/swagger-ui.css">
<link rel="stylesheet" href="{prefix}/docs/page.css">
<script src="{prefix}/docs/page.js" defer></script>
<script src="{prefix}/docs/swagger-ui-bundle.js" defer></script>
<script id="facts" type="application/json">{facts}</script>
<header>
  <h1>Stalela API</h1>
  <nav><a href="#operations">Operations</a> <a href="#errors">Errors</a>
    <a href="{daraja}">Simulated phone</a> <a href="{prefix}/openapi.json">OpenAPI 3.1</a></nav>
</header>
<section class="start">
  {key}
  <ol>
    <li><a href="#/payment-intents/create-payment-intent">Create</a> a payment intent, and copy its
      <code>id</code>.</li>
    <li><a href="#/payment-intents/confirm-payment-intent">Confirm</a> it with a phone number.
      A number that ends in <code>00</code> pays by itself.</li>
    <li>Or enter a PIN at the <a href="{daraja}">simulated phone</a>. Then
      <a href="#/payment-intents/get-payment-intent">read</a> the intent:
      <code>succeeded</code>.</li>
  </ol>
</section>
<main id="operations"><p class="wait">The operations appear in a moment; without JavaScript read
  <a href="{prefix}/openapi.json">the document</a>.</p></main>
<section id="errors">
  <h2>Errors</h2>
  <p>Every error is <code>application/problem+json</code>, and its <code>type</code> leads to a row
    of this table. A code never changes its meaning.</p>
  <table>
    <thead><tr><th scope="col">Code<th scope="col">Meaning<th scope="col">What to do\
<th scope="col">Repeat?</thead>
    <tbody>
{rows}
    </tbody>
  </table>
</section>
</html>
"""
ROW = """\
<tr id="{code}"><th scope="row"><a href="#{code}">{code}</a> <small>{name}</small>
  <td><b>{title}</b> {about}<td>{remedy}<td>{repeat}"""


class Docs:
    """The routes of the page. url: where the gateway is; daraja: where the simulated phone is."""

    def __init__(self, state: Path, url: str, prefix: str, daraja: str) -> None:
        self.state, self.url, self.prefix, self.daraja = state, url, prefix, daraja
        with CODES.open(newline="") as rows:
            self.rows = "\n".join(_row(row) for row in csv.DictReader(rows))

    def routes(self) -> list[BaseRoute]:
        """The page, its own two files, and Swagger UI's."""
        at = f"{self.prefix}/docs"
        return [
            Route(at, self.show),
            Route(f"{at}/page.css", _file("page.css", "text/css")),
            Route(f"{at}/page.js", _file("page.js", "text/javascript")),
            Mount(at, StaticFiles(directory=SWAGGER)),
        ]

    async def show(self, request: Request) -> Response:
        """The page. Read anew, because the key is made after the gateway starts."""
        key = self._key(request)
        facts = {"url": f"{self.prefix}/openapi.json", "key": key}
        page = PAGE.format(
            prefix=self.prefix,
            icon=ICON,
            daraja=escape(self.daraja),
            facts=json.dumps(facts).replace("<", "\\u003c"),
            key=KEY_GIVEN.format(key=escape(_shortened(key))) if key else KEY_MISSING,
            rows=self.rows,
        )
        headers = {
            "content-security-policy": POLICY.format(url=self.url),
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
        }
        return HTMLResponse(page, headers=headers)

    def _key(self, request: Request) -> str | None:
        # A name that resolves here (DNS rebinding) would let a foreign page read the key.
        return Keys(self.state).get(SECRET_KEY) if request.url.hostname in LOOPBACK else None


def _row(row: dict[str, str]) -> str:
    facts = {name: escape(value) for name, value in row.items()}
    meaning = _marked_up(" ".join((BY_CODE[row["code"]].__doc__ or "").split()))
    return ROW.format(repeat="yes" if row["retryable"] == "true" else "no", about=meaning, **facts)


def _marked_up(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _shortened(key: str) -> str:
    return f"{key[:8]}…{key[-4:]}"


def _file(name: str, media_type: str) -> Any:
    async def answer(_request: Request) -> Response:
        return FileResponse(HERE / name, media_type=media_type)

    return answer
