"""A payment that asks for an invoice gets one, once, and its money never depends on it."""

from collections.abc import Iterator

import jsonschema_rs
import pytest

from shared.clock import utc_now
from tests.support.house import FUNCTIONS, House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import Json, msisdn, new_phone, until


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = (*FUNCTIONS, "events", "invoices", "merchants", "transfers")
    with own_house("paid-invoices", functions=functions, invoice_key_file=str(key)) as house:
        yield house


class Shop(Outlet):
    """A Kenyan outlet whose customers pay before they get their invoice."""

    jurisdiction, tin, zone = "KE", "P051234567M", "Africa/Nairobi"

    def order(self, **members: object) -> Json:
        """A book of KES 116.00, tax included."""
        document = self.document() | {"price_mode": "inclusive"} | members
        document |= {"jurisdiction": "KE", "merchant_tin": self.tin, "totals": {"currency": "KES"}}
        document["tax_group_manifest_version"] = "KE-2023-07"
        document["items"][0] |= {"unit_price": "116.00", "kind": "goods"}
        return {name: document[name] for name in document if name not in ("timestamp", "payments")}

    def pay(self, intent_id: str) -> None:
        """From the prompt to the money."""
        phone = new_phone()
        self.merchant.confirm(intent_id, phone).raise_for_status()
        self.house.daraja.prompted(phone)
        self.house.daraja.act(phone, "pay")
        self.merchant.wait(intent_id, "succeeded")

    def outcome(self, intent_id: str, status: str) -> Json:
        """The invoice of an intent once it has this status."""

        def reached() -> Json | None:
            invoice = self.merchant.get(intent_id)["invoice"]
            return dict(invoice) if invoice["status"] == status else None

        return until(reached, f"the invoice of {intent_id} {status}")

    def told(self, kind: str) -> list[Json]:
        """GET /events of one type."""
        answer = self.merchant.api.get("/events", params={"type": kind}).raise_for_status()
        return list(answer.json()["data"])

    def sealed_once(self, invoice_id: str) -> Json:
        """The document, once it has its signature."""

        def look() -> Json | None:
            found = self.merchant.api.get(f"/invoices/{invoice_id}").raise_for_status().json()
            return dict(found) if found["sealed"] else None

        return until(look, f"{invoice_id} sealed")


@pytest.fixture
def shop(house: House) -> Shop:
    return Shop(house)


def test_paid_intent_gets_its_invoice_with_the_payment_declared(shop: Shop) -> None:
    intent = shop.merchant.create("116.00", invoice=shop.order(invoice_ref="20418"))
    assert intent["invoice"] == {
        "status": "waiting",
        "id": None,
        "fiscal_number": None,
        "error": None,
    }
    assert shop.chain() == []

    shop.pay(intent["id"])

    issued = shop.outcome(intent["id"], "issued")
    sealed = shop.sealed_once(issued["id"])
    receipt = shop.merchant.get(intent["id"])["latest_transfer"]["receipt"]
    assert sealed["fiscal_number"] == issued["fiscal_number"] == f"TST-{shop.code}-000001"
    assert sealed["document"]["payments"] == [
        {
            "method": "mobile_money",
            "provider": "mpesa",
            "amount": "116.00",
            "currency": "KES",
            "reference": receipt,
        }
    ]
    assert sealed["document"]["totals"]["total_tax"] == "16.00"
    (told,) = until(lambda: shop.told("invoice.sealed"), "invoice.sealed")
    assert told["data"]["payment_intent_id"] == intent["id"]
    assert told["data"]["invoice_ref"] == "20418"


def test_event_that_comes_again_issues_nothing_again(shop: Shop, house: House) -> None:
    intent_id = str(shop.merchant.create("116.00", invoice=shop.order())["id"])
    shop.pay(intent_id)
    shop.outcome(intent_id, "issued")

    # As after a restore, or an operator's re-drive: the same event, a second time.
    house.books.run(
        "insert into payments.outbox (destination, event_id, event_type, tenant_id, environment,"
        " ordering_key, seq) select 'invoices', e.event_id, e.type, e.tenant_id, e.environment,"
        " e.subject_id, e.seq from fiscal.events as e"
        " where e.type = 'invoice_order.paid' and e.tenant_id = %s",
        shop.merchant.tenant_id,
    )
    drained(house)

    assert len(shop.chain()) == 1
    assert shop.merchant.alerts() == []


def drained(house: House) -> None:
    """Every order that waits has been worked on."""
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}

    def look() -> bool:
        house.http.post("/invoices/issue", headers=bearer).raise_for_status()
        return not house.books.value("select payments.has_due_events('invoices')")

    until(look, "the orders of invoices")


def test_refused_invoice_is_told_and_leaves_the_money_alone(shop: Shop, house: House) -> None:
    schemas = jsonschema_rs.Draft202012Validator(
        house.http.get("/events/events.json").raise_for_status().json(), validate_formats=True
    )
    intent_id = str(shop.merchant.create("116.00", invoice=shop.order())["id"])
    till = {"kind": "terminal", "label": "pos-1", "name": "Till", "status": "blocked"}
    operators = f"/merchants/outlets/{shop.outlet_id}/operators"
    shop.merchant.api.put(operators, json=till).raise_for_status()

    shop.pay(intent_id)

    failed = shop.outcome(intent_id, "failed")
    (error,) = failed["error"]["errors"]
    assert error["pointer"] == "/pos_terminal_id"
    assert error["detail"].startswith("this terminal is blocked: ")
    intent = shop.merchant.get(intent_id)
    assert (intent["status"], intent["amount_received"]) == ("succeeded", "116.00")
    (told,) = until(lambda: shop.told("invoice.issue_failed"), "invoice.issue_failed")
    schemas.validate(told)
    assert told["data"]["payment_intent_id"] == intent_id
    assert shop.merchant.alerts() == [("invoice_not_issued", intent_id)]
    assert shop.merchant.differences() == []
    assert shop.chain() == []


def test_payments_that_come_to_more_are_declared_up_to_the_amount(shop: Shop) -> None:
    intent_id = str(shop.merchant.create("116.00", invoice=shop.order())["id"])
    shop.merchant.api.post("/transfers/deposits").raise_for_status()
    reference = shop.merchant.get(intent_id)["account_reference"]

    shop.house.daraja.deposit(msisdn(new_phone()), 16, reference)
    shop.merchant.wait(intent_id, "partially_paid")
    shop.house.daraja.deposit(msisdn(new_phone()), 150, reference)
    shop.merchant.wait(intent_id, "succeeded")

    sealed = shop.sealed_once(shop.outcome(intent_id, "issued")["id"])
    assert [payment["amount"] for payment in sealed["document"]["payments"]] == ["16.00", "100.00"]


@pytest.mark.parametrize(
    ("change", "amount", "pointer"),
    [
        ({}, "117.00", "/amount"),
        ({"merchant_tin": "wrong"}, "116.00", "/invoice/merchant_tin"),
        ({"client": {"classification": "company"}}, "116.00", "/invoice/client/name"),
        (
            {"tax_group_manifest_version": "KE-1999"},
            "116.00",
            "/invoice/tax_group_manifest_version",
        ),
        ({"totals": {"currency": "USD"}}, "116.00", "/invoice/totals/currency"),
        ({"invoice_type": "credit_note"}, "116.00", "/invoice/invoice_type"),
        ({"merchant_tin": "P059999999X"}, "116.00", "/invoice/merchant_tin"),
    ],
)
def test_invoice_that_could_not_be_issued_is_refused_before_anybody_pays(
    change: Json, amount: str, pointer: str, shop: Shop
) -> None:
    body = {"amount": amount, "currency": "KES", "invoice": shop.order() | change}

    refused = shop.merchant.post("/payment-intents", body)

    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert shop.merchant.api.get("/payment-intents").json()["data"] == []


def test_key_that_may_not_seal_may_not_ask_for_an_invoice(shop: Shop, house: House) -> None:
    key = "sk_test_" + "k" * 40
    house.add_key(shop.merchant.tenant_id, "sandbox", key, ("payments:write",))
    body = {"amount": "116.00", "currency": "KES", "invoice": shop.order()}

    refused = house.client(key).post(
        "/payment-intents", json=body, headers={"Idempotency-Key": utc_now().isoformat()}
    )

    assert (refused.status_code, refused.json()["code"]) == (403, "40311")


def test_intent_that_is_never_paid_gets_no_invoice(shop: Shop, house: House) -> None:
    intent_id = str(shop.merchant.create("116.00", invoice=shop.order())["id"])

    shop.merchant.post(f"/payment-intents/{intent_id}/cancel").raise_for_status()
    drained(house)

    assert shop.merchant.get(intent_id)["invoice"]["status"] == "waiting"
    assert shop.chain() == []
