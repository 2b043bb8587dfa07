"""The page at /: the phones with their prompts, the outcomes and the books.

It works without a script (forms, and a refresh every 5 s); with one it follows changes by SSE.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from scripts.stack.daraja.credentials import BY_SHORT_CODE
from scripts.stack.daraja.paint import paint_board, paint_page
from scripts.stack.daraja.phones import Action, Closed, Phones
from scripts.stack.daraja.treasury import download
from scripts.stack.daraja.world import World

HERE = Path(__file__).parent
WRONG_PIN = "0000"  # any other four digits pay
ACTIONS: dict[str, Action] = {"cancel": "cancel", "ignore": "ignore"}
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self';"
    " connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
}


def page_routes(world: World, phones: Phones) -> APIRouter:
    """The page, its parts, and the two forms on it."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def show_page(problem: str = "") -> Response:
        return HTMLResponse(paint_page(world, problem), headers=HEADERS)

    @router.get("/page/board")
    async def show_board() -> Response:
        """What changes, for the script to put in place."""
        return HTMLResponse(paint_board(world), headers=HEADERS)

    @router.get("/page/events")
    async def follow_changes() -> Response:
        return StreamingResponse(_events(world), media_type="text/event-stream", headers=HEADERS)

    @router.get("/page/style.css")
    async def read_style() -> Response:
        return FileResponse(HERE / "page.css", media_type="text/css")

    @router.get("/page/script.js")
    async def read_script() -> Response:
        return FileResponse(HERE / "page.js", media_type="text/javascript")

    @router.post("/page/prompts/{checkout_request_id}")
    async def act(checkout_request_id: str, request: Request) -> Response:
        """The payer's decision, from the form on the phone."""
        form = parse_qs((await request.body()).decode())
        action = _read_action(form)
        if action is None:
            return _back("Enter the four digits of the PIN")
        try:
            phones.act(checkout_request_id, action)
        except (KeyError, Closed):
            return _back("That prompt is over")
        return _back()

    @router.post("/page/mode")
    async def change_mode(request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        mode = "auto" if form.get("mode") == ["auto"] else "manual"
        world.change_settings({"mode": mode})
        return _back()

    _add_statements(router, world)
    return router


def _add_statements(router: APIRouter, world: World) -> None:
    @router.get("/page/statement/{short_code}")
    async def download_statement(short_code: str) -> Response:
        """The organisation statement of today."""
        merchant = BY_SHORT_CODE.get(short_code)
        return download(world, merchant) if merchant else _back("There is no such short code")


def _read_action(form: dict[str, list[str]]) -> Action | None:
    """None: it wants to pay without a PIN of four digits."""
    action = ACTIONS.get(form.get("action", ["pay"])[0])
    if action:
        return action
    pin = form.get("pin", [""])[0]
    if len(pin) != 4 or not (pin.isascii() and pin.isdigit()):
        return None
    return "wrong_pin" if pin == WRONG_PIN else "pay"


def _back(problem: str = "") -> Response:
    return RedirectResponse(f"/?problem={problem}" if problem else "/", status_code=303)


async def _events(world: World) -> AsyncIterator[str]:
    """A line per change; a comment each quiet second shows the connection is alive."""
    yield "retry: 1000\n\nevent: changed\ndata: now\n\n"
    async for changed in world.changes.follow(world.stopping):
        yield "event: changed\ndata: now\n\n" if changed else ": quiet\n\n"
