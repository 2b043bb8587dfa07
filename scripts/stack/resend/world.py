"""The simulated Resend: settings and faults a test may change, its clock, its rules for a mail."""

import asyncio
import hashlib
import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from scripts.stack.resend.store import Store
from scripts.stack.resend.wire import Refusal, check

Fault = Literal[
    "down",  # 500, nothing kept
    "lost_answer",  # the mail is kept, the answer is 500
    "hang_up",  # the mail is kept, the connection ends without an answer
    "html",  # a proxy's page instead of JSON
    "rate_limit",
    "daily_quota",
    "monthly_quota",
    "slow",  # 3 s, so that a second request with the same key meets the first
    "webhook_duplicate",
    "webhook_stale",
    "webhook_wrong_secret",
    "webhook_lost",
]
SLOW_S = 3.0


class Settings(BaseModel):
    """The body of `POST /control/settings`, where every field is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_s: int = Field(10, ge=1)
    daily_quota: int = Field(100, ge=0)
    monthly_quota: int = Field(3000, ge=0)
    verified_domains: list[str] = []  # empty: every domain is
    delivery_delay_s: float = Field(0.3, ge=0)
    retries_s: list[float] = [5, 300, 1800, 7200, 18000, 36000, 36000]


class World:
    """All that the simulator knows. The clock may be moved forward, never back."""

    def __init__(self, state: Path, api_key: str, webhook_url: str, webhook_secret: str) -> None:
        self.store = Store(state)
        self.api_key, self.webhook_url = api_key, webhook_url
        self.webhook_secret = webhook_secret
        self.settings = Settings()
        self.is_stopping: Callable[[], bool] = lambda: False
        self._changed = asyncio.Event()
        self._ahead_s = 0.0
        self._faults: deque[str] = deque()
        self._recent: deque[float] = deque()
        self._in_hand: set[str] = set()

    def now(self) -> float:
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds

    def arm(self, fault: Fault, times: int = 1) -> None:
        self._faults.extend([fault] * times)

    def strikes(self, fault: Fault) -> bool:
        """Whether this fault was armed; it is then used up once."""
        if fault not in self._faults:
            return False
        self._faults.remove(fault)
        return True

    def announce(self) -> None:
        """Tell pages that something changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def next_change(self, patience_s: float) -> bool:
        """Whether something changed before patience ran out."""
        try:
            await asyncio.wait_for(self._changed.wait(), patience_s)
        except TimeoutError:
            return False
        return True

    def reset(self) -> None:
        """As new."""
        self.store.clear()
        self._faults.clear()
        self._recent.clear()
        self.settings = Settings()

    def rate_headers(self) -> dict[str, str]:
        """What every answer carries; raises the Refusal of one request too many in a second."""
        now, limit = time.time(), self.settings.requests_per_s
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        refused = len(self._recent) >= limit or self.strikes("rate_limit")
        if refused:
            raise Refusal("rate_limit_exceeded", f"You can only make {limit} requests per second.")
        self._recent.append(now)
        return {
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(limit - len(self._recent)),
            "ratelimit-reset": "1",
        }

    async def send(self, body: bytes, key: str | None) -> str:
        """The id of an accepted mail. Raises Refusal."""
        if key is not None and not 1 <= len(key) <= 256:
            raise Refusal("invalid_idempotency_key", "The key must be 1 to 256 characters.")
        body_hash = hashlib.sha256(body).hexdigest()
        if key is None:
            return await self._accept(body, None, body_hash)
        if key in self._in_hand:
            words = "Another request with the same idempotency key is in progress."
            raise Refusal("concurrent_idempotent_requests", words)
        if known := self.store.known_key(key, self.now()):
            if known["body_hash"] != body_hash:
                words = "This idempotency key has been used with a different request body."
                raise Refusal("invalid_idempotent_request", words)
            return str(known["email_id"])
        self._in_hand.add(key)
        try:
            return await self._accept(body, key, body_hash)
        finally:
            self._in_hand.discard(key)

    async def _accept(self, body: bytes, key: str | None, body_hash: str) -> str:
        if self.strikes("slow"):
            await asyncio.sleep(SLOW_S)
        try:
            mail = json.loads(body)
        except ValueError:
            raise Refusal("validation_error", "The body is not JSON.", 400) from None
        if not isinstance(mail, dict):
            raise Refusal("validation_error", "The body is not an object.", 400)
        check(mail, self.settings.verified_domains)
        self._check_quotas()
        email_id = str(uuid.uuid4())
        self.store.accept(email_id, mail, key, body_hash, self.now())
        self.announce()
        return email_id

    def _check_quotas(self) -> None:
        today = datetime.fromtimestamp(self.now(), UTC).replace(hour=0, minute=0, second=0)
        used, month = (
            self.store.accepted_since(instant.timestamp())
            for instant in (today, today.replace(day=1))
        )
        if used >= self.settings.daily_quota or self.strikes("daily_quota"):
            raise Refusal("daily_quota_exceeded", "You have reached your daily email quota.")
        if month >= self.settings.monthly_quota or self.strikes("monthly_quota"):
            raise Refusal("monthly_quota_exceeded", "You have reached your monthly email quota.")
