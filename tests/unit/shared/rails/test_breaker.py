"""The circuit breaker: when it opens, who may probe, what closes it."""

import asyncio
from dataclasses import dataclass, field

import pytest

from shared.http import timing
from shared.money import Money
from shared.rails.base import (
    RAIL_UNAVAILABLE,
    UNKNOWN_RAIL_ERROR,
    CallbackKind,
    CallbackRequest,
    Instruction,
    Outcome,
    RailEvent,
    RailUnavailable,
    Source,
)
from shared.rails.breaker import Breakers, GuardedRail

PENDING = RailEvent(Outcome.PENDING, Source.SUBMIT)
SILENCE = RailEvent(Outcome.UNKNOWN, Source.SUBMIT, reason=RAIL_UNAVAILABLE)


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class ScriptedRail:
    """Answers every call with `says`; counts the calls that reached it."""

    says: RailEvent | Exception = PENDING
    calls: int = 0
    hold: asyncio.Event | None = None

    async def submit(self, _: Instruction) -> RailEvent:
        self.calls += 1
        if self.hold:
            await self.hold.wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    query = submit

    def redact(self, body: bytes, _: CallbackKind) -> bytes:
        return body.replace(b"secret", b"***")

    def read_callback(self, _: CallbackRequest) -> list[RailEvent]:
        return [PENDING]


@dataclass
class Setup:
    clock: Clock = field(default_factory=Clock)
    rail: ScriptedRail = field(default_factory=ScriptedRail)

    def __post_init__(self) -> None:
        self.guarded = GuardedRail("mpesa", self.rail, Breakers(self.clock))

    async def submit(self, tenant: str = "tn_1", environment: str = "sandbox") -> RailEvent:
        return await self.guarded.submit(instruction(tenant, environment))

    async def fail(self, times: int, says: RailEvent | Exception = SILENCE) -> None:
        """Make that many calls fail, ignoring what they raise."""
        self.rail.says = says
        for _ in range(times):
            await asyncio.gather(self.submit(), return_exceptions=True)


def instruction(tenant: str = "tn_1", environment: str = "sandbox") -> Instruction:
    return Instruction("tr_1", tenant, environment, Money(100, "KES"), b"{}")


@pytest.fixture
def setup() -> Setup:
    return Setup()


@pytest.mark.parametrize("trouble", [SILENCE, RailUnavailable("down", retry_after_s=1)])
async def test_five_failures_open_it_for_thirty_seconds(
    setup: Setup, trouble: RailEvent | Exception
) -> None:
    await setup.fail(5, trouble)

    with pytest.raises(RailUnavailable) as caught:
        await setup.submit()

    assert caught.value.retry_after_s == 30
    assert setup.rail.calls == 5


async def test_four_failures_leave_it_closed(setup: Setup) -> None:
    await setup.fail(4)

    await setup.submit()

    assert setup.rail.calls == 5


async def test_failures_older_than_a_minute_do_not_count(setup: Setup) -> None:
    await setup.fail(4)
    setup.clock.now_s += 60

    await setup.fail(1)
    await setup.submit()

    assert setup.rail.calls == 6


async def test_successes_between_do_not_reset_the_count(setup: Setup) -> None:
    await setup.fail(4)
    setup.rail.says = PENDING
    await setup.submit()
    await setup.fail(1)

    with pytest.raises(RailUnavailable):
        await setup.submit()


@pytest.mark.parametrize(
    "verdict",
    [
        RailEvent(Outcome.FAILED_FINAL, Source.QUERY, reason="MM_INSUFFICIENT_FUNDS"),
        RailEvent(Outcome.UNKNOWN, Source.SUBMIT, reason=UNKNOWN_RAIL_ERROR),
        RailEvent(Outcome.UNKNOWN, Source.QUERY),
        RailEvent(Outcome.FAILED_RETRYABLE, Source.QUERY, reason=RAIL_UNAVAILABLE),
        ValueError("our own mistake"),
    ],
    ids=["payer refused", "unknown code", "not found yet", "old prompt failed", "our mistake"],
)
async def test_an_answering_rail_never_opens_it(
    setup: Setup, verdict: RailEvent | Exception
) -> None:
    await setup.fail(20, verdict)

    assert setup.rail.calls == 20


async def test_a_busy_rail_that_refuses_pushes_opens_it(setup: Setup) -> None:
    await setup.fail(5, RailEvent(Outcome.FAILED_RETRYABLE, Source.SUBMIT, reason=RAIL_UNAVAILABLE))

    with pytest.raises(RailUnavailable):
        await setup.submit()


async def test_other_tenants_and_environments_are_not_affected(setup: Setup) -> None:
    await setup.fail(5)
    setup.rail.says = PENDING

    other_tenant = await setup.submit(tenant="tn_2")
    other_environment = await setup.submit(environment="production")

    assert (other_tenant, other_environment) == (PENDING, PENDING)


async def test_submit_and_query_share_one_breaker(setup: Setup) -> None:
    await setup.fail(5)

    with pytest.raises(RailUnavailable):
        await setup.guarded.query(instruction())


async def test_callbacks_pass_while_it_is_open(setup: Setup) -> None:
    await setup.fail(5)

    assert setup.guarded.read_callback(CallbackRequest(b"")) == [PENDING]


async def test_one_probe_alone_passes_when_the_time_is_up(setup: Setup) -> None:
    await setup.fail(5)
    setup.clock.now_s += 30
    setup.rail.says, setup.rail.hold = PENDING, asyncio.Event()

    probe = asyncio.create_task(setup.submit())
    await asyncio.sleep(0)
    with pytest.raises(RailUnavailable) as caught:
        await setup.submit()
    setup.rail.hold.set()

    assert await probe == PENDING
    assert caught.value.retry_after_s == 1
    assert setup.rail.calls == 6


async def test_a_good_probe_closes_it(setup: Setup) -> None:
    await setup.fail(5)
    setup.clock.now_s += 30
    setup.rail.says = PENDING

    answers = [await setup.submit() for _ in range(3)]

    assert answers == [PENDING] * 3


async def test_a_bad_probe_opens_it_again_at_once(setup: Setup) -> None:
    await setup.fail(5)
    setup.clock.now_s += 30
    await setup.submit()

    with pytest.raises(RailUnavailable) as caught:
        await setup.submit()

    assert caught.value.retry_after_s == 30


async def test_a_cancelled_probe_leaves_the_next_one_free(setup: Setup) -> None:
    await setup.fail(5)
    setup.clock.now_s += 30
    setup.rail.says, setup.rail.hold = PENDING, asyncio.Event()
    probe = asyncio.create_task(setup.submit())
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    setup.rail.hold = None

    assert await setup.submit() == PENDING


async def test_a_late_answer_of_an_earlier_call_does_not_close_it(setup: Setup) -> None:
    setup.rail.hold = asyncio.Event()
    early = asyncio.create_task(setup.submit())
    await asyncio.sleep(0)
    hold, setup.rail.hold = setup.rail.hold, None
    await setup.fail(5)
    setup.rail.says = PENDING
    hold.set()
    await early

    with pytest.raises(RailUnavailable):
        await setup.submit()


async def test_time_at_the_rail_is_booked_for_server_timing() -> None:
    account = timing.start()

    await Setup().submit()

    assert account["rail"] > 0
