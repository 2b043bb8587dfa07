"""The token holder: one fetch for all, renewed early, refreshed once."""

import asyncio
from dataclasses import dataclass, field

import pytest

from shared.rails.mpesa.tokens import Token, Tokens


@dataclass
class Issuer:
    """Issues t1, t2, … ; `fails` makes it raise; `hold` makes it wait."""

    lifetime_s: float = 3599
    issued: int = 0
    fails: Exception | None = None
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def __call__(self) -> Token:
        self.issued += 1
        await self.hold.wait()
        if self.fails:
            raise self.fails
        return Token(f"t{self.issued}", self.lifetime_s)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(clock)


async def test_twenty_waiters_share_one_fetch(tokens: Tokens, issuer: Issuer) -> None:
    given = await asyncio.gather(*(tokens.get("k", issuer) for _ in range(20)))

    assert (set(given), issuer.issued) == ({"t1"}, 1)


async def test_twenty_waiters_share_one_failure(tokens: Tokens, issuer: Issuer) -> None:
    issuer.fails = RuntimeError("down")

    results = await asyncio.gather(
        *(tokens.get("k", issuer) for _ in range(20)), return_exceptions=True
    )

    assert ({type(r) for r in results}, issuer.issued) == ({RuntimeError}, 1)


async def test_a_failure_is_not_remembered(tokens: Tokens, issuer: Issuer) -> None:
    issuer.fails = RuntimeError("down")
    with pytest.raises(RuntimeError):
        await tokens.get("k", issuer)
    issuer.fails = None

    assert await tokens.get("k", issuer) == "t2"


@pytest.mark.parametrize(
    ("lifetime_s", "age_s", "token"),
    [(3599, 3538, "t1"), (3599, 3539, "t2"), (1, 0.4, "t1"), (1, 0.5, "t2"), (0, 0, "t2")],
)
async def test_renewed_a_minute_early_or_at_half_of_a_short_life(
    tokens: Tokens, issuer: Issuer, clock: Clock, lifetime_s: float, age_s: float, token: str
) -> None:
    issuer.lifetime_s = lifetime_s
    await tokens.get("k", issuer)
    clock.now_s += age_s

    assert await tokens.get("k", issuer) == token


async def test_many_who_hold_a_refused_token_refresh_once(tokens: Tokens, issuer: Issuer) -> None:
    stale = await tokens.get("k", issuer)

    first = await asyncio.gather(*(tokens.get("k", issuer, stale=stale) for _ in range(10)))
    later = await tokens.get("k", issuer, stale=stale)

    assert ({*first, later}, issuer.issued) == ({"t2"}, 2)


async def test_credential_sets_do_not_share(tokens: Tokens, issuer: Issuer) -> None:
    assert await tokens.get("a", issuer) != await tokens.get("b", issuer)


async def test_one_waiter_leaving_does_not_cancel_the_fetch(tokens: Tokens, issuer: Issuer) -> None:
    issuer.hold.clear()
    leaver, stayer = (asyncio.create_task(tokens.get("k", issuer)) for _ in range(2))
    await asyncio.sleep(0.01)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    issuer.hold.set()

    assert (await stayer, issuer.issued, leaver.cancelled()) == ("t1", 1, True)
