"""What merchants hear of their documents, and what is on record about each."""

from collections.abc import Iterator
from itertools import pairwise

import jsonschema_rs
import pytest

from tests.support.house import House, at_once, own_house
from tests.support.outlets import Outlet
from tests.support.receiver import Receiver, listening
from tests.support.simulator import Json, until

FUNCTIONS = ("events", "invoices", "merchants", "webhook_delivery", "webhook_endpoints")
CREDIT = {"invoice_type": "credit_note", "credit_reason": "returned_goods"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house("invoice-events", functions=FUNCTIONS, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture
def outlet(house: House) -> Outlet:
    return Outlet(house)


@pytest.fixture(scope="module")
def schemas(house: House) -> jsonschema_rs.Draft202012Validator:
    published = house.http.get("/events/events.json").raise_for_status().json()
    return jsonschema_rs.Draft202012Validator(published, validate_formats=True)


def events(outlet: Outlet, kind: str = "invoice.*", least: int = 0) -> list[Json]:
    """GET /events of the outlet's merchant, once there are so many.

    An event is shown when no older transaction runs any more, whoever's it is.
    """

    def look() -> list[list[Json]]:
        answer = outlet.merchant.api.get("/events", params={"type": kind, "limit": 100})
        found = list(answer.raise_for_status().json()["data"])
        return [found] if len(found) >= least else []

    return until(look, f"{least} {kind}")[0]


def record_of(outlet: Outlet, invoice_id: str) -> list[Json]:
    """Every move of a document."""
    return outlet.house.books.rows(
        "select * from fiscal.events where subject_id = %s order by seq", invoice_id
    )


def test_sealed_document_reaches_the_merchants_server_signed(
    outlet: Outlet, schemas: jsonschema_rs.Draft202012Validator
) -> None:
    with listening() as receiver:
        hooks = {"url": receiver.url, "event_types": ["invoice.*"]}
        secret = outlet.merchant.post("/webhook-endpoints", hooks).raise_for_status().json()
        sale = outlet.sealed(invoice_ref="A-1")

        told = heard(receiver, secret["secret"])

    schemas.validate(told)
    assert told["type"] == "invoice.sealed"
    assert told["data"] == {
        "invoice_id": sale["id"],
        "sequence": 2,
        "status": "fiscalized",
        "invoice_type": "sale",
        "invoice_ref": "A-1",
        "fiscal_number": sale["fiscal_number"],
        "outlet_id": outlet.outlet_id,
        "currency": "CDF",
        "total": "1160.00",
        "total_tax": "160.00",
        "sealed_at": sale["sealed"]["sealed_at"],
        "auth_code": sale["sealed"]["auth_code"],
    }
    assert events(outlet, least=1) == [told]


def heard(receiver: Receiver, secret: str) -> Json:
    return until(
        lambda: receiver.received[0].verified(secret) if receiver.received else None, "a webhook"
    )


def test_record_of_a_document_says_who_moved_it_from_where_to_where(outlet: Outlet) -> None:
    sale = outlet.sealed()

    record = record_of(outlet, sale["id"])

    assert [(row["seq"], row["type"], row["from_status"], row["to_status"]) for row in record] == [
        (1, None, None, "pending_signature"),
        (2, "invoice.sealed", "pending_signature", "fiscalized"),
    ]
    assert record[0]["actor"].startswith("key_")
    with pytest.raises(Exception, match="append-only"):
        outlet.house.books.run("update fiscal.events set actor = 'somebody'")


def test_refused_document_leaves_no_record(outlet: Outlet) -> None:
    refused = outlet.seal(outlet.document(merchant_tin="999999999"))

    assert refused.status_code == 422
    assert events(outlet) == []


def test_merchant_hears_what_all_credits_of_a_document_come_to(
    outlet: Outlet, schemas: jsonschema_rs.Draft202012Validator
) -> None:
    sale = outlet.sealed()
    credit = outlet.document("290.00", original_fiscal_number=sale["fiscal_number"], **CREDIT)
    credit["items"][0]["quantity"] = "0.25"

    answers = at_once(4, lambda _: outlet.seal(credit))

    assert [answer.status_code for answer in answers] == [201] * 4
    told = events(outlet, "invoice.credited", 4)
    for event in told:
        schemas.validate(event)
    told.sort(key=lambda event: int(event["data"]["sequence"]))
    assert [event["data"]["invoice_id"] for event in told] == [sale["id"]] * 4
    assert [event["data"]["credited_amount"] for event in told] == [
        "290.00",
        "580.00",
        "870.00",
        "1160.00",
    ]
    assert {event["data"]["credit_note_id"] for event in told} == {
        answer.json()["id"] for answer in answers
    }
    record = record_of(outlet, sale["id"])
    assert all(after["seq"] == before["seq"] + 1 for before, after in pairwise(record))
    assert {row["reason"] for row in record[2:]} == {"returned_goods"}


def test_late_signature_is_told_once_and_after_15_minutes(
    outlet: Outlet, schemas: jsonschema_rs.Draft202012Validator
) -> None:
    sale = outlet.sealed()
    books, tenant = outlet.house.books, outlet.merchant.tenant_id
    books.run(
        "insert into signing.signing_queue (fiscal_number, tenant_id, environment, next_attempt_at)"
        " values (%s, %s, 'sandbox', now() + interval '1 hour')",
        sale["fiscal_number"],
        tenant,
    )

    books.run("select signing.watch_queue()")
    assert events(outlet, "invoice.signing_delayed") == []
    books.run("update signing.signing_queue set waiting_since = now() - interval '16 minutes'")
    books.run("select signing.watch_queue()")
    books.run("select signing.watch_queue()")

    (told,) = events(outlet, "invoice.signing_delayed", 1)
    schemas.validate(told)
    assert told["data"]["invoice_id"] == sale["id"]
    books.run("delete from signing.signing_queue where tenant_id = %s", tenant)


def test_cashier_hears_nothing_of_another_outlet(outlet: Outlet) -> None:
    other = Outlet(outlet.house, outlet.merchant)
    mine, theirs = outlet.sealed(), other.sealed()
    cashier = outlet.cashier()
    everything = events(outlet, least=2)

    seen = cashier.get("/events").raise_for_status().json()["data"]

    assert [event["data"]["invoice_id"] for event in seen] == [mine["id"]]
    hidden = next(e["id"] for e in everything if e["data"]["invoice_id"] == theirs["id"])
    assert cashier.get(f"/events/{hidden}").status_code == 404
