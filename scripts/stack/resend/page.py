"""The mailbox at /: every mail that would have reached somebody, and what became of it.

It works without a script (links, and a refresh every 5 s); with one the list follows by SSE.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from scripts.stack.resend.wire import recipients
from scripts.stack.resend.world import World

HERE = Path(__file__).parent
QUIET_S = 1.0
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self';"
    " connect-src 'self'; img-src data:; frame-src 'self'; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
}
# A mail brings its own styles and nothing else: no script runs, nothing is fetched.
MAIL_HEADERS = HEADERS | {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'self'; sandbox",
}
MEANINGS = {
    "sent": ("sent", "open"),
    "delivery_delayed": ("delayed", "open"),
    "delivered": ("delivered", "good"),
    "bounced": ("bounced", "bad"),
    "complained": ("marked as spam", "bad"),
    "suppressed": ("suppressed", "bad"),
    "failed": ("failed", "bad"),
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mailbox · Resend simulator</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page/style.css">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<script src="/page/script.js" defer></script>
</head>
<body>
<header>
<h1>Mailbox</h1>
<p>Mail that would have been sent. Nothing leaves this machine.</p>
</header>
<main>
<section id="list" aria-labelledby="list-title">{board}</section>
<section id="mail" aria-label="The mail you chose">{mail}</section>
</main>
</body>
</html>
"""
MAIL = """<article>
<h2>{subject}</h2>
<dl>
<div><dt>From</dt><dd>{sender}</dd></div>
<div><dt>To</dt><dd>{to}</dd></div>
<div><dt>Sent</dt><dd><time datetime="{iso}">{sent}</time></dd></div>
<div><dt>State</dt><dd><b class="tag {colour}">{state}</b></dd></div>
</dl>
<iframe src="/page/mail/{id}" title="The mail as its reader sees it" sandbox></iframe>
<details><summary>As plain text</summary><pre>{text}</pre></details>
</article>"""
NO_MAIL = '<p class="none">Choose a mail to read it here.</p>'
EMPTY = """<p class="none">No mail yet. Take a payment whose customer has an e-mail address, and its
receipt appears here by itself.</p>"""
SHOWN = 100


class Mailbox:
    """The routes of the page."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.show),
            Route("/page/board", self.board),
            Route("/page/events", self.follow),
            Route("/page/mail/{email_id}", self.mail),
            Route("/page/style.css", self.style),
            Route("/page/script.js", self.script),
        ]

    async def show(self, request: Request) -> Response:
        chosen = self.world.store.email(request.query_params.get("mail", ""))
        page = PAGE.format(
            board=self._board(chosen["id"] if chosen else ""),
            mail=_mail(chosen) if chosen else NO_MAIL,
        )
        return HTMLResponse(page, headers=HEADERS)

    async def board(self, request: Request) -> Response:
        """What changes, for the script to put in place."""
        return HTMLResponse(self._board(request.query_params.get("mail", "")), headers=HEADERS)

    async def mail(self, request: Request) -> Response:
        """The HTML of one mail, in a frame that runs nothing."""
        found = self.world.store.email(request.path_params["email_id"])
        if found is None:
            return HTMLResponse("There is no such mail.", 404, headers=HEADERS)
        html = found.get("html") or f"<pre>{escape(str(found.get('text', '')))}</pre>"
        return HTMLResponse(html, headers=MAIL_HEADERS)

    async def style(self, _request: Request) -> Response:
        return FileResponse(HERE / "page.css", media_type="text/css")

    async def script(self, _request: Request) -> Response:
        return FileResponse(HERE / "page.js", media_type="text/javascript")

    async def follow(self, _request: Request) -> Response:
        return StreamingResponse(self._changes(), media_type="text/event-stream", headers=HEADERS)

    async def _changes(self) -> AsyncIterator[str]:
        yield "retry: 1000\n\nevent: changed\ndata: now\n\n"
        while not self.world.is_stopping():
            happened = await self.world.next_change(QUIET_S)
            yield "event: changed\ndata: now\n\n" if happened else ": quiet\n\n"

    def _board(self, chosen: str) -> str:
        mails = self.world.store.emails(limit=SHOWN)
        rows = "".join(_row(mail, mail["id"] == chosen) for mail in mails)
        count = f"{len(mails)} shown" if mails else "empty"
        return f'<h2 id="list-title" aria-live="polite">Mail <i>{count}</i></h2>' + (
            f"<ol>{rows}</ol>" if mails else EMPTY
        )


def _row(mail: dict[str, Any], is_chosen: bool) -> str:
    state, colour = _meaning(mail)
    current = ' aria-current="true"' if is_chosen else ""
    return (
        f'<li><a href="/?mail={escape(mail["id"])}"{current}>'
        f"<b>{escape(str(mail['subject']))}</b>"
        f"<span>{escape(', '.join(recipients(mail)))}</span>"
        f"<small>{_clock(mail)}</small>"
        f'<b class="tag {colour}">{state}</b></a></li>'
    )


def _mail(mail: dict[str, Any]) -> str:
    state, colour = _meaning(mail)
    return MAIL.format(
        id=escape(mail["id"]),
        subject=escape(str(mail["subject"])),
        sender=escape(str(mail["from"])),
        to=escape(", ".join(recipients(mail))),
        iso=_instant(mail).isoformat(),
        sent=f"{_instant(mail):%d %B %Y, %H:%M:%S} UTC",
        state=state,
        colour=colour,
        text=escape(str(mail.get("text") or "This mail has no text part.")),
    )


def _meaning(mail: dict[str, Any]) -> tuple[str, str]:
    return MEANINGS.get(mail["last_event"], (escape(str(mail["last_event"])), "open"))


def _instant(mail: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(mail["created_at"], UTC)


def _clock(mail: dict[str, Any]) -> str:
    return f"{_instant(mail):%H:%M:%S}"
