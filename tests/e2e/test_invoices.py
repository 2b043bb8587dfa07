"""Invoices over HTTP: sealed, numbered without gaps whatever happens to the signer, verifiable."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.fiscal.seal import auth_code
from shared.signing.encoding import from_base64url
from tests.support.chains import broken_links
from tests.support.house import House, at_once, new_key, own_house
from tests.support.outlets import Outlet

Json = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "invoices", functions=("invoices", "merchants"), invoice_key_file=str(key)
    ) as house:
        yield house


@pytest.fixture
def outlet(house: House) -> Outlet:
    return Outlet(house)


# --- sealing


def test_sale_is_computed_numbered_chained_and_signed(outlet: Outlet, house: House) -> None:
    first, second = outlet.sealed(), outlet.sealed()

    assert (first["status"], first["sequence"], second["sequence"]) == ("fiscalized", 1, 2)
    assert first["fiscal_number"] == f"TST-{outlet.code}-000001"
    assert first["document"]["totals"] == {
        "currency": "CDF",
        "subtotal": "1000.00",
        "total_tax": "160.00",
        "total": "1160.00",
    }
    assert second["sealed"]["previous_hash"] == first["sealed"]["ledger_hash"]
    signature = from_base64url(first["sealed"]["signature"])
    assert first["sealed"]["auth_code"] == auth_code(signature)
    assert len(first["tax_summary"]) == 14
    assert broken_links(house, outlet.chain()) == []


def test_same_key_gives_the_same_document_byte_for_byte(outlet: Outlet) -> None:
    document, key = outlet.document(), new_key()

    first, again = outlet.seal(document, key), outlet.seal(document, key)
    other = outlet.seal(document | {"notes": "other"}, key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "42241")
    assert len(outlet.chain()) == 1


def test_twenty_terminals_take_every_number_once(outlet: Outlet, house: House) -> None:
    def sell(terminal: int) -> list[int]:
        return [
            outlet.seal(outlet.document(pos_terminal_id=f"pos-{terminal}")).json()["sequence"]
            for _ in range(10)
        ]

    numbers = [number for some in at_once(20, sell) for number in some]

    assert sorted(numbers) == list(range(1, 201))
    assert broken_links(house, outlet.chain()) == []


def test_absent_signer_delays_signatures_and_nothing_else(house: House, outlet: Outlet) -> None:
    outlet.sealed()
    key_file = Path(house.stack.overrides["invoice_key_file"])
    hidden = key_file.rename(key_file.with_suffix(".away"))
    key_file.mkdir()  # a key that cannot be read, after a restart that must read it
    house.stack.kill("gateway")
    house.stack.wait_ready()

    numbered = [outlet.seal() for _ in range(3)]
    waiting = outlet.merchant.api.get(f"/invoices/{numbered[0].json()['id']}").json()
    receipt = f"/invoices/{waiting['id']}/receipt"
    unprinted = outlet.merchant.api.get(receipt).json()
    key_file.rmdir()
    hidden.rename(key_file)
    assert sign_all(house) == 3

    assert [answer.status_code for answer in numbered] == [202, 202, 202]
    assert (waiting["status"], waiting["sealed"], waiting["sequence"]) == (
        "pending_signature",
        None,
        2,
    )
    assert (unprinted["code"], unprinted["current_state"]) == ("40911", "pending_signature")
    assert outlet.merchant.api.get(receipt).headers["Content-Type"].startswith("text/html")
    signed = outlet.merchant.api.get(f"/invoices/{waiting['id']}").json()
    assert (signed["status"], signed["sealed"]["auth_code"] != "") == ("fiscalized", True)
    assert signed["document"] == waiting["document"]
    assert [row["sequence"] for row in outlet.chain()] == [1, 2, 3, 4]
    assert broken_links(house, outlet.chain()) == []


def sign_all(house: House) -> int:
    house.books.run("update signing.signing_queue set next_attempt_at = now()")
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}
    answer = house.http.post("/invoices/sign", headers=bearer)
    return int(answer.raise_for_status().json()["signed"])


# --- credits


def test_credits_never_exceed_the_original(outlet: Outlet) -> None:
    sale = outlet.sealed()
    credit = {
        "invoice_type": "credit_note",
        "original_fiscal_number": sale["fiscal_number"],
        "credit_reason": "returned_goods",
    }

    half = outlet.document("580.00", "500.00", **credit)
    half["items"][0]["quantity"] = "0.5"
    half["items"][0]["unit_price"] = "1000.00"
    answers = at_once(8, lambda _: outlet.seal(json.loads(json.dumps(half))))

    assert sorted(answer.status_code for answer in answers) == [201, 201] + [422] * 6
    refused = next(answer.json() for answer in answers if answer.status_code == 422)
    assert (refused["code"], refused["errors"][0]["detail"]) == (
        "42276",
        "is 580.00; of the original's 1160.00 CDF at most 0.00 is left to credit",
    )
    assert outlet.merchant.api.get(f"/invoices/{sale['id']}").json()["credited_amount"] == "1160.00"


@pytest.mark.parametrize(
    ("member", "value", "pointer", "said"),
    [
        ("description", "", "/items/0/description", "must have at least 1 character"),
        ("unit", None, "/items/0/unit", "items/0/unit: is null: leave out what"),
        ("tax_group", "TG99", "/items/0/tax_group", "line 1: tax_group TG99 is not a group of"),
        ("line_total", "1.00", "/items/0/line_total", "line 1: line_total is 1.00 and comes to"),
    ],
)
def test_refusal_of_a_line_says_which_and_what_is_wrong(
    member: str, value: str | None, pointer: str, said: str, outlet: Outlet
) -> None:
    document = outlet.document()
    document["items"][0][member] = value

    refused = outlet.seal(document).json()

    assert refused["errors"][0]["pointer"] == pointer
    assert said in refused["detail"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"original_fiscal_number": "TST-NONE-000001"}, "/original_fiscal_number"),
        ({"outlet_id": "out_01kaj3vq1nfr5r3e2n9v4d8yzx"}, None),
        ({"merchant_tin": "999999999"}, "/merchant_tin"),
        ({"timestamp": "2030-01-01T00:00:00Z"}, "/timestamp"),
        ({"totals": {"currency": "CDF", "total": "1160.01"}}, "/totals/total"),
        ({"tax_group_manifest_version": "CD-1999"}, "/tax_group_manifest_version"),
        ({"client": {"classification": "company", "name": "Acme"}}, "/client/tin"),
    ],
)
def test_refused_document_takes_no_number(
    change: Json, pointer: str | None, outlet: Outlet
) -> None:
    if "original_fiscal_number" in change:
        change |= {"invoice_type": "credit_note", "credit_reason": "other"}

    answer = outlet.seal(outlet.document(**change))

    assert answer.status_code == (404 if pointer is None else 422)
    if pointer:
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert outlet.chain() == []
    assert outlet.sealed()["sequence"] == 1


def test_blocked_terminal_seals_nothing(outlet: Outlet) -> None:
    blocked = {"kind": "terminal", "label": "pos-1", "name": "Till", "status": "blocked"}
    path = f"/merchants/outlets/{outlet.outlet_id}/operators"
    outlet.merchant.api.put(path, json=blocked).raise_for_status()

    answer = outlet.seal()

    assert answer.json()["errors"] == [
        {
            "pointer": "/pos_terminal_id",
            "detail": "this terminal is blocked: use another, or unblock it with"
            f" PUT /functions/v1{path}",
        }
    ]


# --- reading


def test_preview_keeps_nothing(outlet: Outlet) -> None:
    answer = outlet.merchant.api.post("/invoices/preview", json=outlet.document()).json()

    assert answer["document"]["totals"]["total"] == "1160.00"
    assert outlet.chain() == []


def test_documents_are_listed_newest_first_and_belong_to_their_owner(
    outlet: Outlet, house: House
) -> None:
    sealed = [outlet.sealed()["id"] for _ in range(3)]
    api = outlet.merchant.api

    page = api.get("/invoices", params={"limit": 2}).json()
    rest = api.get("/invoices", params={"cursor": page["pagination"]["next_cursor"]}).json()

    assert [row["id"] for row in (*page["data"], *rest["data"])] == sealed[::-1]
    assert rest["pagination"] == {"limit": 20, "has_more": False, "next_cursor": None}
    stranger = house.merchant().api
    assert stranger.get(f"/invoices/{sealed[0]}").status_code == 404
    assert stranger.get("/invoices").json()["data"] == []


def test_cashier_of_one_outlet_sees_nothing_of_another(outlet: Outlet, house: House) -> None:
    other = Outlet(house, outlet.merchant)
    mine, theirs = outlet.sealed(), other.sealed()
    cashier = outlet.cashier()

    seen = cashier.get("/invoices").json()["data"]

    assert [row["id"] for row in seen] == [mine["id"]]
    assert cashier.get(f"/invoices/{theirs['id']}").status_code == 404
    assert [row["id"] for row in cashier.get("/merchants/outlets").json()["data"]] == [
        outlet.outlet_id
    ]
    refused = cashier.post(
        "/invoices", json=other.document(), headers={"Idempotency-Key": new_key()}
    )
    assert refused.status_code == 404


def test_cashier_sees_and_sells_what_is_theirs(outlet: Outlet) -> None:
    own, colleagues = outlet.sealed(), outlet.sealed(cashier_id="cashier-2")
    cashier, key = outlet.cashier("cashier-1"), {"Idempotency-Key": new_key()}

    refused = cashier.post(
        "/invoices", json=outlet.document(cashier_id="cashier-2"), headers=key
    ).json()
    sold = cashier.post("/invoices", json=outlet.document(), headers=key)
    asked = [outlet.document(cashier_id=label) for label in ("cashier-1", "cashier-2")]
    batch = cashier.post("/invoices/batch", json={"invoices": asked}, headers=key)

    assert (refused["code"], refused["errors"][0]["pointer"]) == ("42275", "/cashier_id")
    assert "you sell as cashier-1: send that one" in refused["detail"]
    assert sold.status_code == 201
    assert [one["status"] for one in batch.json()["data"]] == [201, 422]
    seen = [row["id"] for row in cashier.get("/invoices").json()["data"]]
    assert seen[-2:] == [sold.json()["id"], own["id"]]
    assert len(seen) == 3
    path = f"/invoices/{colleagues['id']}"
    reads = [cashier.get(f"{path}{part}") for part in ("", "/prints", "/receipt?format=pdf")]
    void = cashier.post(
        f"{path}/void", json={"pos_terminal_id": "pos-1", "cashier_id": "cashier-1"}, headers=key
    )
    assert [answer.status_code for answer in (*reads, void)] == [404] * 4


# --- tampering


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("fiscal.invoices", "payload = replace(payload, '1160.00', '1.00')"),
        ("fiscal.fiscal_ledger", "sealed_at = '2020-01-01T00:00:00Z'"),
        ("fiscal.fiscal_ledger", "canonical_payload_hash = repeat('a', 64)"),
        ("fiscal.fiscal_ledger", "previous_hash = repeat('b', 64)"),
        ("fiscal.fiscal_ledger", "fiscal_number = 'TST-X-000001'"),
        ("fiscal.signatures", "signature = 'AAAA'"),
    ],
)
def test_database_refuses_to_rewrite_what_was_sealed(
    table: str, change: str, outlet: Outlet, house: House
) -> None:
    outlet.sealed()

    with pytest.raises(Exception, match=r"never changes|append-only"):
        house.books.run(f"update {table} set {change}")  # noqa: S608

    assert broken_links(house, outlet.chain()) == []


@pytest.mark.parametrize(
    ("table", "change", "complaint"),
    [
        ("fiscal.invoices", "payload = replace(payload, '1160.00', '1.00')", "another payload"),
        ("fiscal.signatures", "signature = repeat('A', 86)", "not signed by"),
    ],
)
def test_tampering_by_the_owner_of_the_machine_is_found(
    table: str, change: str, complaint: str, outlet: Outlet, house: House
) -> None:
    for _ in range(3):
        outlet.sealed()
    second = outlet.chain()[1]

    with house.books.connection.transaction(force_rollback=True):
        house.books.run("set local session_replication_role = replica")  # no trigger fires
        tampering = f"update {table} set {change} where fiscal_number = %s"  # noqa: S608
        house.books.run(tampering, second["fiscal_number"])
        found = broken_links(house, outlet.chain())

    assert [line.partition(" ")[0] for line in found] == [second["fiscal_number"]]
    assert complaint in found[0]
