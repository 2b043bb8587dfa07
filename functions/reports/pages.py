"""Long answers, read page by page and sent on while the next page is read."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from fastapi.responses import Response, StreamingResponse

from shared.db import Database
from shared.errors import RateLimited
from shared.http.caller import Caller

PAGE: Final = 500  # ledger entries: about a megabyte
_PATIENCE_S: Final = 15.0  # of a stream whose database is away


async def in_turn(
    db: Database, function: str, arguments: Mapping[str, Any], caller: Caller
) -> bytes:
    """The body of one answer. A stream that reads too fast waits for its turn and goes on."""
    while True:
        try:
            answer = await db.answer(
                function, arguments, caller, idempotent=True, patience_s=_PATIENCE_S
            )
        except RateLimited as limited:
            await asyncio.sleep(limited.retry_after or 1)
        else:
            return answer.body


async def pages(
    db: Database, function: str, arguments: Mapping[str, Any], caller: Caller
) -> AsyncIterator[dict[str, Any]]:
    """All pages of a list, decoded."""
    after: str | None = None
    while True:
        asked = {**arguments, "page_size": PAGE, "page_after": after}
        page = json.loads(await in_turn(db, function, asked, caller))
        yield page
        after = page["pagination"]["next_cursor"]
        if after is None:
            return


async def streamed(chunks: AsyncIterator[bytes], name: str, media_type: str) -> Response:
    """A file sent while it is made. What goes wrong before its first bytes is a plain problem."""
    first = await anext(chunks)

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(whole(), 200, headers, media_type)
