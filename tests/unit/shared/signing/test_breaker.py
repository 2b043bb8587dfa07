"""The breaker of the signer: five failures in a row, thirty seconds of rest, one probe."""

import asyncio

import pytest

from shared.signing.base import (
    PublicKey,
    Signature,
    SignerRefused,
    SignerResting,
    SignerUnavailable,
)
from shared.signing.breaker import GuardedSigner

KEY = PublicKey("local", "ref", "1", "ES256", "")
DIGEST = bytes(32)


class Provider:
    """Counts its calls; raises `trouble` when there is some."""

    def __init__(self) -> None:
        self.calls = 0
        self.trouble: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def newest(self) -> PublicKey:
        return KEY

    async def create(self) -> PublicKey:
        return KEY

    async def sign(self, _key: PublicKey, _digest: bytes) -> Signature:
        self.calls += 1
        trouble = self.trouble  # as it was when the call came
        if self.gate:
            await self.gate.wait()
        if trouble:
            raise trouble
        return Signature("signed")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def guarded() -> tuple[Provider, Clock, GuardedSigner]:
    provider, clock = Provider(), Clock()
    return provider, clock, GuardedSigner(provider, clock)


async def fail(provider: Provider, signer: GuardedSigner, times: int, why: Exception) -> None:
    provider.trouble = why
    for _ in range(times):
        with pytest.raises(type(why)):
            await signer.sign(KEY, DIGEST)
    provider.trouble = None


@pytest.mark.parametrize("why", [SignerUnavailable("late"), SignerRefused("disabled")])
async def test_fifth_failure_in_a_row_opens_it(why: Exception) -> None:
    provider, _, signer = guarded()

    await fail(provider, signer, 4, why)
    assert signer.room is None
    await fail(provider, signer, 1, why)

    with pytest.raises(SignerResting):
        await signer.sign(KEY, DIGEST)
    assert (provider.calls, signer.room) == (5, 0)


async def test_success_starts_the_count_anew() -> None:
    provider, _, signer = guarded()

    await fail(provider, signer, 4, SignerUnavailable("late"))
    await signer.sign(KEY, DIGEST)
    await fail(provider, signer, 4, SignerUnavailable("late"))

    assert signer.room is None


async def test_after_the_rest_one_probe_decides() -> None:
    provider, clock, signer = guarded()
    await fail(provider, signer, 5, SignerUnavailable("late"))

    clock.now += 29.9
    assert signer.room == 0
    clock.now += 0.1
    assert signer.room == 1
    await fail(provider, signer, 1, SignerUnavailable("late"))
    assert signer.room == 0
    clock.now += 30
    await signer.sign(KEY, DIGEST)

    assert (signer.room, provider.calls) == (None, 7)


async def test_probe_is_alone() -> None:
    provider, clock, signer = guarded()
    await fail(provider, signer, 5, SignerUnavailable("late"))
    clock.now += 30
    provider.gate = asyncio.Event()

    probe = asyncio.create_task(signer.sign(KEY, DIGEST))
    await asyncio.sleep(0)
    with pytest.raises(SignerResting):
        await signer.sign(KEY, DIGEST)
    provider.gate.set()

    assert (await probe).value == "signed"
    assert (provider.calls, signer.room) == (6, None)


async def test_late_answer_of_an_earlier_call_closes_nothing() -> None:
    provider, _, signer = guarded()
    provider.gate = asyncio.Event()
    early = asyncio.create_task(signer.sign(KEY, DIGEST))
    await asyncio.sleep(0)
    gate, provider.gate = provider.gate, None
    await fail(provider, signer, 5, SignerUnavailable("late"))

    gate.set()
    await early

    assert signer.room == 0


async def test_cancelled_probe_leaves_the_next_one_to_somebody_else() -> None:
    provider, clock, signer = guarded()
    await fail(provider, signer, 5, SignerUnavailable("late"))
    clock.now += 30
    provider.gate = asyncio.Event()
    probe = asyncio.create_task(signer.sign(KEY, DIGEST))
    await asyncio.sleep(0)

    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)

    assert signer.room == 1
