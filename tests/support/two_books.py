"""Two independent books of the same money: ours and the rail simulator's, compared.

Theirs: each payment with its receipt and whole shillings. Ours: each SETTLED transfer. A receipt of
ours may be missing (a query tells none), never another.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.stack.daraja.testing import Simulator
from tests.support.sql import Books

Json = dict[str, Any]

OURS = """
select
    t.transfer_id, t.payment_intent_id, t.state, t.rail_ref, t.receipt, t.amount_minor,
    i.status, i.amount_minor as asked_minor, i.amount_received_minor
from payments.transfers as t
join payments.payment_intents as i using (payment_intent_id)
where t.tenant_id = %s and t.purpose = 'collection'
"""


def differences(books: Books, simulator: Simulator, tenant_id: str) -> list[str]:
    """Where the books disagree about a tenant, and payers who were prompted too often."""
    ours = books.rows(OURS, tenant_id)
    attempts: dict[str, int] = {}
    for row in ours:
        attempts[_reference(row)] = attempts.get(_reference(row), 0) + 1
    theirs = {
        entry["checkout_request_id"]: entry
        for entry in simulator.books()
        if entry["account_reference"] in attempts
    }
    settled = [row for row in ours if row["state"] == "SETTLED"]
    shown = simulator.log(phone="nobody")["counts"]["prompts_by_reference"]
    return [
        *_unequal(settled, theirs),
        *_unbooked(settled, theirs),
        *_intents(ours),
        *_prompted_again(attempts, shown),
    ]


def _reference(row: Json) -> str:
    """What the payer sees of an intent, and the only name it has at the rail."""
    return str(row["payment_intent_id"])[-12:].upper()


def _unequal(settled: list[Json], theirs: Mapping[str, Json]) -> Iterator[str]:
    for row in settled:
        entry = theirs.get(row["rail_ref"])
        if entry is None:
            yield f"{row['transfer_id']} is SETTLED and nobody paid"
        elif entry["amount"] * 100 != row["amount_minor"]:
            yield f"{row['transfer_id']}: {entry['amount']} shillings paid"
        elif row["receipt"] not in (None, entry["receipt"]):
            yield f"{row['transfer_id']}: receipt {row['receipt']} instead of {entry['receipt']}"


def _unbooked(settled: list[Json], theirs: Mapping[str, Json]) -> Iterator[str]:
    booked = {row["rail_ref"] for row in settled}
    for checkout, entry in theirs.items():
        if checkout not in booked:
            yield f"{entry['amount']} shillings paid for {checkout} and not booked"


def _intents(ours: list[Json]) -> Iterator[str]:
    for row in ours:
        paid = sum(
            other["amount_minor"]
            for other in ours
            if other["payment_intent_id"] == row["payment_intent_id"]
            and other["state"] == "SETTLED"
        )
        if paid != row["amount_received_minor"]:
            yield f"{row['payment_intent_id']} says {row['amount_received_minor']}, not {paid}"
        if (row["status"] == "succeeded") != (paid >= row["asked_minor"]):
            yield f"{row['payment_intent_id']} is {row['status']} with {paid} received"


def _prompted_again(attempts: Mapping[str, int], shown: Mapping[str, int]) -> Iterator[str]:
    for reference, count in attempts.items():
        if shown.get(reference, 0) > count:
            yield f"{reference}: {shown[reference]} prompts for {count} attempts"
