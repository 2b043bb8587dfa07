"""What tax and canonical form of a long document cost, with nothing asked of anybody."""

import time
from dataclasses import dataclass
from typing import Final

from scripts.benchmarks.place import Place
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.sealing import document
from scripts.benchmarks.shop import Merchant
from scripts.benchmarks.table import Figure, Target, figure
from shared.canonical import canonical_bytes
from shared.fiscal.document import Document
from shared.fiscal.engine import price, unpaid

LINES: Final = 50
_TIMES: Final = 500
_GROUPS: Final = ("TG03", "TG02", "TG01", "TG08")


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of processor time: both, and the canonical form alone."""

    both: float
    canonical: float


def measure_taxes(place: Place, rounds: Rounds) -> list[Figure]:
    """A sale of so many lines of several tax groups."""
    sale = long_sale(place.shops[0])
    runs = rounds.series("tax", lambda: _costs(sale))
    return [
        figure(
            f"tax and canonical form of {LINES} lines",
            runs,
            lambda run: run.both,
            "ms",
            Target("<", 2),
        ),
        figure(
            f"tax and canonical form of {LINES} lines; limit: the canonical form alone",
            runs,
            lambda run: run.both,
            "ms",
            limit=lambda run: run.canonical,
        ),
    ]


def long_sale(shop: Merchant) -> Document:
    """The sealing bench's document with more lines, paid."""
    made = document(shop)
    made["items"] = [
        made["items"][0]
        | {"line_no": number, "code": f"ART-{number}", "unit_price": f"{number * 10}.{number:02d}"}
        | {"tax_group": _GROUPS[number % len(_GROUPS)]}
        for number in range(1, LINES + 1)
    ]
    total = unpaid(Document.model_validate(made)).canonical["totals"]["total"]
    made["payments"][0]["amount"] = total
    return Document.model_validate(made)


def _costs(sale: Document) -> Costs:
    canonical = price(sale).canonical
    began = time.process_time()
    for _ in range(_TIMES):
        canonical_bytes(price(sale).canonical)
    between = time.process_time()
    for _ in range(_TIMES):
        canonical_bytes(canonical)
    ended = time.process_time()
    return Costs((between - began) * 1000 / _TIMES, (ended - between) * 1000 / _TIMES)
