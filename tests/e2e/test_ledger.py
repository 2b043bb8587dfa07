"""A payment in the books: booked within a second, shown, proved to an outsider."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.stack.places import ROOT
from scripts.stack.stack import Stack
from tests.support.house import House, Merchant, living_in
from tests.support.simulator import Json, new_phone, until


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Merchant:
    return house.merchant()


def paid(house: House, merchant: Merchant, amount: str = "250.00") -> Json:
    """A paid intent."""
    phone = new_phone()
    intent_id = merchant.start(phone, amount)
    house.daraja.prompted(phone)
    house.daraja.act(phone, "pay")
    return merchant.wait(intent_id, "succeeded")


def balance(merchant: Merchant, type_: str = "MERCHANT") -> str | None:
    """What GET /ledger/balances says of the one account of this type."""
    answer = merchant.api.get("/ledger/balances", params={"type": type_}).raise_for_status()
    return next((row["balance"] for row in answer.json()["data"]), None)


def journals(merchant: Merchant, **filters: str) -> list[Json]:
    """GET /ledger/journals."""
    answer = merchant.api.get("/ledger/journals", params=filters).raise_for_status()
    return list(answer.json()["data"])


@pytest.mark.alone
def test_a_paid_intent_is_booked_within_a_second(house: House, merchant: Merchant) -> None:
    paid(house, merchant, "100.00")  # connections and caches
    until(lambda: balance(merchant) == "100.00", "the first payment is booked")

    intent = paid(house, merchant)
    settled = time.monotonic()
    until(lambda: balance(merchant) == "350.00", "the second payment is booked")

    assert time.monotonic() - settled < 1.0
    (journal,) = journals(merchant, transfer_id=intent["latest_transfer"]["id"])
    assert journal["event_type"] == "transfer.settled"
    assert [(e["leg"], e["amount"]) for e in journal["entries"]] == [
        ("fund_in", "250.00"),
        ("principal", "250.00"),
    ]
    assert balance(merchant, "SETTLEMENT") == "350.00"
    assert balance(merchant, "USER") == "0.00"
    assert merchant.alerts() == []


def test_an_outsider_verifies_the_books_with_the_proof_alone(
    house: House, merchant: Merchant, tmp_path: Path
) -> None:
    for _ in range(3):
        paid(house, merchant)
    until(lambda: balance(merchant) == "750.00", "all payments are booked")
    file = tmp_path / "proof.json"
    file.write_bytes(merchant.api.get("/ledger/proof").raise_for_status().content)

    done = verify(file)

    assert done.returncode == 0, done.stderr
    assert "journals 1 to 3 of 3" in done.stdout
    assert f"MERCHANT:{merchant.tenant_id} KES credit 75000" in done.stdout


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memo", "x"),
        ("occurred_at", "2026-01-01T00:00:00+00:00"),
        ("event_id", None),
        ("hash", "0" * 64),
    ],
)
def test_a_changed_proof_names_its_first_bad_journal(
    house: House, merchant: Merchant, tmp_path: Path, field: str, value: str | None
) -> None:
    for _ in range(2):
        paid(house, merchant)
    until(lambda: balance(merchant) == "500.00", "both payments are booked")
    proof = merchant.api.get("/ledger/proof").raise_for_status().json()
    proof["journals"][1][field] = value
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof))

    done = verify(file)

    assert done.returncode == 1
    assert f"{proof['journals'][1]['id']} (number 2)" in done.stderr


def test_another_merchant_sees_none_of_it(house: House, merchant: Merchant) -> None:
    intent = paid(house, merchant)
    until(lambda: balance(merchant) == "250.00", "the payment is booked")
    (journal,) = journals(merchant)
    other = house.merchant()

    assert journals(other, transfer_id=intent["latest_transfer"]["id"]) == []
    assert other.api.get(f"/ledger/journals/{journal['id']}").status_code == 404
    assert other.api.get("/ledger/balances").json() == {"data": []}
    assert other.api.get("/ledger/proof").json()["journals"] == []


def test_what_two_people_agree_on_is_posted_and_what_does_not_balance_is_refused(
    house: House, merchant: Merchant
) -> None:
    writer, approver = (
        house.client(merchant.token("finance"), **{"Idempotency-Key": f"{merchant.tenant_id}-{n}"})
        for n in range(2)
    )
    line = {"account": "LIQUIDITY:KES", "side": "debit", "amount": "80.00", "currency": "KES"}
    other = {"account": "CONTRIBUTED_CAPITAL", "side": "credit", "currency": "KES"}

    uneven = writer.post(
        "/ledger/manual-journals",
        json={"memo": "Float paid in", "lines": [line, other | {"amount": "70.00"}]},
    )
    assert uneven.status_code == 422
    assert (uneven.json()["currency"], uneven.json()["difference"]) == ("KES", "10.00")

    even = {"memo": "Float paid in", "lines": [line, other | {"amount": "80.00"}]}
    written = writer.post("/ledger/manual-journals", json=even).raise_for_status().json()
    path, reason = f"/ledger/manual-journals/{written['id']}/approve", {"reason": "Slip 118"}
    assert writer.post(path, json=reason).status_code == 403
    posted = approver.post(path, json=reason).raise_for_status().json()

    assert posted["status"] == "posted"
    assert journals(merchant)[0]["id"] == posted["journal_id"]
    assert balance(merchant, "LIQUIDITY") == "80.00"


def test_a_statement_of_days_that_are_not_over_is_refused(merchant: Merchant) -> None:
    query = {"account": f"MERCHANT:{merchant.tenant_id}", "currency": "KES"}

    missing = merchant.api.get(
        "/ledger/statements", params=query | {"from": "2026-01-01", "to": "2026-01-02"}
    )

    assert missing.status_code == 404


def verify(file: Path) -> "subprocess.CompletedProcess[str]":
    """Run the verifier as an outsider does."""
    return subprocess.run(  # noqa: S603 -- a program of ours
        [ROOT / "scripts/verify-ledger", file], capture_output=True, text=True, check=False
    )
