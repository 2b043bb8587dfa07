"""The directory over the real stack: lookups, routes, and a transfer that names no rail."""

from collections.abc import Iterator

import httpx
import pytest

from scripts.stack.stack import Stack
from tests.support.house import House, Merchant, living_in
from tests.support.simulator import Json, new_phone, until

BIN = {"alias_type": "bin", "alias": "43194012"}


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as house:
        yield house


@pytest.fixture(scope="module")
def merchant(house: House) -> Merchant:
    return house.merchant()


@pytest.fixture(scope="module")
def operator(house: House) -> httpx.Client:
    return house.client(house.merchant().token("operator"))


def look_up(merchant: Merchant, **query: str) -> httpx.Response:
    return merchant.api.get("/directory/lookup", params=query).raise_for_status()


def entry(institution: str, alias: str = "431940") -> Json:
    return {"alias_type": "bin", "alias": alias, "institution_id": institution}


def test_a_phone_is_looked_up_and_remembered(merchant: Merchant) -> None:
    query = {"alias_type": "msisdn", "alias": "+254712345678", "currency": "KES"}

    first, second = look_up(merchant, **query), look_up(merchant, **query)

    assert first.content == second.content
    assert [a.headers["x-stalela-cache"] for a in (first, second)] == ["miss", "hit"]
    (reach,) = first.json()["data"]
    assert (reach["rail"], reach["institution_id"], reach["matched"]) == (
        "mpesa",
        "safaricom_ke",
        "+254712",
    )
    assert reach["constraints"]["max"] == "250000.00"
    assert reach["fees"][0] == {
        "direction": "in",
        "currency": "KES",
        "percent": "0.55",
        "fixed": "0.00",
    }


def test_a_new_version_is_seen_at_once_although_nothing_was_remembered(
    merchant: Merchant, operator: httpx.Client
) -> None:
    unknown = look_up(merchant, **BIN).json()["data"]
    body = {"source": "An issuer's notice", "entries": [entry("airtel_ke")]}

    published = operator.post("/directory/versions", json=body).raise_for_status().json()
    known = look_up(merchant, **BIN).json()
    body["entries"] = [entry("telkom_ke")]
    operator.post("/directory/versions", json=body).raise_for_status()
    moved = look_up(merchant, **BIN).json()

    assert unknown == []
    assert known["version"] == published["version"]
    assert [reach["institution_id"] for reach in known["data"]] == ["airtel_ke"]
    assert [reach["institution_id"] for reach in moved["data"]] == ["telkom_ke"]


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        (entry("nobody"), "There is no such institution."),
        (entry("airtel_ke", "43"), "This is no alias of its type."),
        (entry("airtel_ke") | {"rail": "pigeon"}, "There is no such rail."),
        (entry("airtel_ke") | {"alias_type": "email"}, "There is no such alias_type."),
    ],
)
def test_a_version_with_a_wrong_entry_is_refused_whole(
    operator: httpx.Client, wrong: Json, detail: str
) -> None:
    body = {"source": "A mistake", "entries": [entry("airtel_ke", "431941"), wrong]}

    answer = operator.post("/directory/versions", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "/entries/1", "detail": detail}]


@pytest.mark.parametrize("at", [0, "0006-09-04T16:01:57-18:45", "0001-01-01T00:00:00+14:00"])
def test_a_version_begins_at_a_time_that_exists(operator: httpx.Client, at: object) -> None:
    body = {"source": "A mistake", "effective_from": at, "entries": [entry("airtel_ke")]}

    assert operator.post("/directory/versions", json=body).status_code in {400, 422}


def test_only_operators_publish(house: House, merchant: Merchant) -> None:
    owner = house.client(merchant.token("owner"))

    answer = owner.post(
        "/directory/versions", json={"source": "Mine", "entries": [entry("airtel_ke")]}
    )

    assert answer.status_code == 403


def test_a_transfer_without_a_rail_is_routed_sent_and_explained(merchant: Merchant) -> None:
    body = {
        "intent": "PULL",
        "amount": "100.00",
        "currency": "KES",
        "payer": {"type": "MOBILE_MONEY", "id": new_phone("00")},
        "policy": {"optimize_for": "reliability", "fallbacks": ["cost"]},
    }

    transfer = merchant.post("/transfers", body).raise_for_status().json()

    route = merchant.api.get(f"/directory/routes/{transfer['id']}").raise_for_status().json()
    assert (transfer["rail"], route["rail"], route["reason"]) == (
        "mpesa",
        "mpesa",
        "only_candidate",
    )
    assert route["candidates"][0]["score"] == route["score"] == "1.000000"

    def settled() -> bool:
        shown = merchant.api.get(f"/transfers/{transfer['id']}").json()
        return bool(shown["state"] == "SETTLED")

    until(settled, "settled")


def test_a_transfer_that_no_rail_reaches_is_refused_with_the_reasons(merchant: Merchant) -> None:
    body = {
        "intent": "PULL",
        "amount": "100.00",
        "currency": "KES",
        "payer": {"type": "MOBILE_MONEY", "id": "0733 123 456"},
    }

    answer = merchant.post("/transfers", body)

    assert (answer.status_code, answer.json()["code"]) == (422, "42202")
    assert {"rail": "mpesa", "excluded": "not_reached"} in answer.json()["candidates"]


def test_a_collected_payment_says_who_named_its_rail(merchant: Merchant) -> None:
    intent = merchant.start(new_phone("00"))
    transfer = merchant.get(intent)["latest_transfer"]["id"]

    route = merchant.api.get(f"/directory/routes/{transfer}").json()

    assert (route["rail"], route["reason"]) == ("mpesa", "named_by_caller")


def test_routes_can_be_ranked_before_anything_begins(merchant: Merchant) -> None:
    body = {"intent": "PUSH", "amount": "100.00", "currency": "KES"}

    ranked = merchant.api.post("/directory/routes", json=body).raise_for_status().json()

    assert (ranked["rail"], ranked["candidates"][0]["cost_minor"]) == ("mpesa", 1300)


def test_institutions_and_holidays_can_be_read(merchant: Merchant) -> None:
    institution = merchant.api.get("/directory/institutions/safaricom_ke").json()
    december = merchant.api.get(
        "/directory/calendars/KE", params={"from_day": "2026-12-01", "to_day": "2026-12-25"}
    ).json()

    assert institution["rails"] == ["mpesa"]
    assert [one["description"] for one in december["data"]] == ["Jamhuri Day", "Christmas Day"]
    assert merchant.api.get("/directory/institutions/nobody").status_code == 404
