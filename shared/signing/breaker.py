"""Leaves a provider alone that fails: 5 failures in a row, then 30 s of rest, then one probe."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.signing.base import (
    NotSigned,
    PublicKey,
    Signature,
    Signer,
    SignerResting,
    SignerUnavailable,
)

FAILURES_TO_OPEN: Final = 5
OPEN_S: Final = 30.0
CALL_S: Final = 5.0  # longer, and the queue signs it instead

T = TypeVar("T")


class GuardedSigner:
    """A provider behind the one breaker of its process. now: a monotonic clock in seconds."""

    def __init__(self, signer: Signer, now: Callable[[], float] = time.monotonic) -> None:
        self._signer, self._now = signer, now
        self._failures = 0
        self._opened_at: float | None = None
        self._is_probing = False

    @property
    def room(self) -> int | None:
        """How many calls would be let through now; None when there is no limit."""
        if self._opened_at is None:
            return None
        is_resting = self._is_probing or self._now() < self._opened_at + OPEN_S
        return 0 if is_resting else 1

    async def newest(self) -> PublicKey:
        return await self._guard(self._signer.newest)

    async def create(self) -> PublicKey:
        return await self._guard(self._signer.create)

    async def sign(self, key: PublicKey, digest: bytes) -> Signature:
        return await self._guard(lambda: self._signer.sign(key, digest))

    async def _guard(self, call: Callable[[], Awaitable[T]]) -> T:
        """Everything the provider does within CALL_S; SignerResting while it is left alone."""
        if self.room == 0:
            raise SignerResting("the signer failed repeatedly and is being left alone")
        is_probe = self._opened_at is not None
        self._is_probing = is_probe
        try:
            async with asyncio.timeout(CALL_S):
                answer = await call()
        except TimeoutError as silence:
            self._failed(is_probe=is_probe)
            raise SignerUnavailable(f"no answer within {CALL_S:g} s") from silence
        except NotSigned:
            self._failed(is_probe=is_probe)
            raise
        finally:
            if is_probe:
                self._is_probing = False
        self._succeeded(is_probe=is_probe)
        return answer

    def _failed(self, *, is_probe: bool) -> None:
        self._failures += 1
        # Failures of calls that were under way when it opened do not make the rest longer.
        if is_probe or (self._opened_at is None and self._failures >= FAILURES_TO_OPEN):
            self._opened_at = self._now()

    def _succeeded(self, *, is_probe: bool) -> None:
        # A late answer to an earlier call says nothing about now; the probe does.
        if is_probe or self._opened_at is None:
            self._failures, self._opened_at = 0, None
