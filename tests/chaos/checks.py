"""What must be true afterwards, whoever was killed. Each violation is one sentence with an id."""

from collections.abc import Iterator

from tests.chaos.shops import Journal
from tests.support.house import House
from tests.support.simulator import Json
from tests.support.two_books import differences


def violations(house: House, journal: Journal) -> list[str]:
    """All of them. Answers are read before the database, what was intended after it."""
    answered = {key: set(intents) for key, intents in journal.answered.items()}
    intents = house.books.rows(
        "select payment_intent_id, tenant_id, metadata ->> 'order' as key"
        " from payments.payment_intents where metadata ? 'order'"
    )
    return [
        *_acknowledged(answered, intents),
        *_invented(set(journal.intended), intents),
        *_two_books(house),
        *_numbered(house),
    ]


def _acknowledged(answered: dict[str, set[str]], intents: list[Json]) -> Iterator[str]:
    stored = {row["payment_intent_id"] for row in intents}
    for key, told in answered.items():
        for intent_id in told - stored:
            yield f"{intent_id} was promised and is lost"
        if len(told) > 1:
            yield f"{len(told)} intents for one key: {key}"


def _invented(intended: set[str], intents: list[Json]) -> Iterator[str]:
    by_key: dict[str, int] = {}
    for row in intents:
        by_key[row["key"]] = by_key.get(row["key"], 0) + 1
        if row["key"] not in intended:
            yield f"{row['payment_intent_id']} was never asked for"
    for key, count in by_key.items():
        if count > 1:
            yield f"{count} intents for one key: {key}"


def _two_books(house: House) -> Iterator[str]:
    """What is not booked may only be an attempt that says itself that nobody knows."""
    for tenant_id in house.books.column("select tenant_id from payments.transfers group by 1"):
        found = differences(house.books, house.daraja, tenant_id)
        unbooked = [line for line in found if "not booked" in line]
        in_doubt = house.books.value(
            "select count(*)::int from payments.transfers"
            " where tenant_id = %s and review_reason is not null",
            tenant_id,
        )
        yield from (line for line in found if line not in unbooked)
        if len(unbooked) > in_doubt:
            yield f"{len(unbooked)} payments are not booked and {in_doubt} in review: {unbooked}"


def _numbered(house: House) -> Iterator[str]:
    """Every transfer has its events in order without a hole."""
    for row in house.books.rows(
        "select transfer_id, count(*) as events, max(seq) - min(seq) + 1 as span"
        " from payments.transfer_events group by transfer_id"
        " having count(*) <> max(seq) - min(seq) + 1"
    ):
        yield f"{row['transfer_id']} has {row['events']} events over {row['span']} numbers"
