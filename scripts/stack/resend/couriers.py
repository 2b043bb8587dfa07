"""What becomes of a mail, told by signed webhooks that are repeated until they are answered 2xx.

As at Resend, the address decides: bounced@, complained@, suppressed@ and delayed@ any domain (also
bounced+label@) do what they say, bounced-late@ bounces after it was delivered, all others arrive.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import httpx

from scripts.stack.resend.wire import event, recipients, signature
from scripts.stack.resend.world import World

TIMEOUT_S = 10.0
STALE_S = 600
WRONG_SECRET = "whsec_d3Jvbmc="  # noqa: S105  the point is that it opens nothing
STORIES = {
    "bounced": ("sent", "bounced"),
    "bounced-late": ("sent", "delivered", "bounced"),
    "complained": ("sent", "delivered", "complained"),
    "suppressed": ("suppressed",),
    "delayed": ("sent", "delivery_delayed", "delivered"),
    "failed": ("sent", "failed"),
}
ARRIVES = ("sent", "delivered")


class Couriers:
    """One task per mail, one per webhook."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(
            timeout=TIMEOUT_S,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def follow(self, email_id: str) -> None:
        """Tell the story of an accepted mail."""
        self._start(self._tell(email_id))

    async def forget(self) -> None:
        """Call every courier back."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """For good."""
        await self.forget()
        await self._http.aclose()

    async def tell(self, email_id: str, kind: str) -> None:
        """One event about a mail, now."""
        self._world.store.happened(email_id, kind)
        self._world.announce()
        if self._world.webhook_url and not self._world.strikes("webhook_lost"):
            self._start(self._carry(email_id, kind))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, email_id: str) -> None:
        mail = self._world.store.email(email_id)
        assert mail is not None, "an accepted mail is kept"
        box = recipients(mail)[0].rpartition("<")[2].partition("@")[0].partition("+")[0]
        for kind in STORIES.get(box, ARRIVES):
            await self.tell(email_id, kind)
            await asyncio.sleep(self._world.settings.delivery_delay_s)

    async def _carry(self, email_id: str, kind: str) -> None:
        mail = self._world.store.email(email_id)
        if mail is None:
            return
        body = json.dumps(event(kind, mail), separators=(",", ":")).encode()
        webhook_id = f"msg_{uuid.uuid4().hex}"
        is_stale = self._world.strikes("webhook_stale")
        secret = self._world.webhook_secret
        if self._world.strikes("webhook_wrong_secret"):
            secret = WRONG_SECRET
        times = 2 if self._world.strikes("webhook_duplicate") else 1
        for attempt, pause_s in enumerate([0.0, *self._world.settings.retries_s], 1):
            await asyncio.sleep(pause_s)
            sent_at = int(time.time()) - (STALE_S if is_stale else 0)
            headers = {
                "content-type": "application/json",
                "svix-id": webhook_id,
                "svix-timestamp": str(sent_at),
                "svix-signature": signature(secret, webhook_id, sent_at, body),
            }
            said = [await self._post(body, headers) for _ in range(times)]
            for status, text in said:
                self._world.store.delivered(webhook_id, kind, email_id, attempt, status, text)
            self._world.announce()
            if any(status is not None and 200 <= status < 300 for status, _ in said):
                return

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int | None, str]:
        with suppress(httpx.HTTPError):
            answer = await self._http.post(self._world.webhook_url, content=body, headers=headers)
            return answer.status_code, answer.text[:500]
        return None, ""
