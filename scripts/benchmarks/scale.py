"""How long and how much to measure."""

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """seconds: of one run under load. starts: of each bundle. few, many: intents to list.

    events: a backlog of the outbox; steady_s: how long it is read beside a writer.
    reconciled: transfers against as many statement lines; a multiple of 1,000.
    walked: entries of one chain. verified: documents of fifty.
    """

    rounds: int
    seconds: float
    confirms: int
    callbacks: int
    starts: int
    few: int
    many: int
    reconciled: int
    events: int
    steady_s: float
    walked: int
    verified: int


FULL: Final = Scale(
    3, 5.0, 1000, 400, 5, 10_000, 1_000_000, 1_000_000, 100_000, 200.0, 100_000, 1_000_000
)
SHORT: Final = Scale(1, 1.5, 150, 100, 3, 10_000, 100_000, 50_000, 20_000, 16.0, 20_000, 100_000)
LONG: Final = replace(FULL, rounds=1, steady_s=600.0)
