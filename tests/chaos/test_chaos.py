"""kill -9 at random while merchants sell and rails lie: afterwards every book says the same.

Short here; STALELA_CHAOS=long is the whole proof (300 kills, 10,000 payments), which shows its
progress with --log-cli-level=info. STALELA_SEED repeats a run. The last tests break the house on
purpose: the same checks must then complain.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

import pytest

from tests.chaos.checks import violations
from tests.chaos.kills import Killer
from tests.chaos.shops import Journal, Shops
from tests.support.house import House, own_house
from tests.support.receiver import Receiver, listening
from tests.support.simulator import until


@dataclass(frozen=True)
class Scale:
    """How much of it."""

    payments: int
    kills: int
    patience_s: float


SCALE = (
    Scale(payments=10_000, kills=300, patience_s=900)
    if os.environ.get("STALELA_CHAOS") == "long"
    else Scale(payments=150, kills=20, patience_s=300)
)

# Minutes become seconds; what is asked, and how often, stays.
HURRY = """
update rails.rails set
    query_waits_s = '{1,1,1,2,2,2,2,2,2,2,2,2,2,2,2,2}', unanswerable_after_s = 4, horizon_s = 20
"""


@pytest.fixture
def house() -> Iterator[House]:
    with own_house("chaos", fsync=True, functions=None, callback_sources=["127.0.0.1/32"]) as house:
        house.books.run(HURRY)
        house.daraja.settings(speed=4)
        yield house


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as receiver:
        yield receiver


def test_everybody_is_killed_and_every_book_agrees(
    house: House, receiver: Receiver, report: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("STALELA_SEED", random.randrange(10**6)))
    report(f"chaos: STALELA_SEED={seed}")
    journal, started = Journal(), monotonic()
    shops = Shops(house, journal, seed, receiver)

    with Killer(house.stack, random.Random(seed), SCALE.kills) as killer:
        shops.sell(SCALE.payments, keep_open=killer.is_busy)
    house.reconnect()
    until(lambda: shops.unfinished() == [], "the end of every payment", SCALE.patience_s)

    report(f"chaos: {killer.tally()}; {shops.tally()}; {monotonic() - started:.0f} s")
    assert [*shops.faults, *violations(shops)] == []


# A function, what is taken out of it and what is put there; what the checks must complain of.
BROKEN_BUILDS = {
    "keys are not claimed": (
        "public.claim_idempotency",
        ("if found then", "if true then"),
        "intents for one key",
    ),
    "a success is booked in half": (
        "rails.settle_transfer",
        ("perform payments.credit_intent(", "perform concat("),
        "received",
    ),
}


@pytest.mark.parametrize("name", BROKEN_BUILDS)
def test_a_broken_build_is_reported(house: House, receiver: Receiver, name: str) -> None:
    function, (sound, broken), complaint = BROKEN_BUILDS[name]
    definition = house.books.value("select pg_get_functiondef(%s::regproc)", function)
    assert sound in definition
    house.books.run(definition.replace(sound, broken))
    journal = Journal()
    shops = Shops(house, journal, 1, receiver)

    shops.sell(20, twice=True)

    until(
        lambda: any(complaint in found for found in violations(shops)),
        f"a complaint about {complaint}",
        60,
    )
