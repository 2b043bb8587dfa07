"""Limits, screening and freezes over the real stack: what merchants and operators see of them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.stack.stack import Stack
from tests.support.house import House, Merchant, living_in, new_key
from tests.support.simulator import Json, new_phone, until

FIXTURES = Path(__file__).parents[1] / "fixtures/compliance"
FILES = {"ofac": "ofac_sdn.xml", "un": "un_consolidated.xml", "eu": "eu_fsf.xml"}
LISTED = "Anton Ilyich Orlovski"


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as house:
        yield house


@pytest.fixture(scope="module")
def operator(house: House) -> httpx.Client:
    return house.client(house.merchant().token("operator"))


@pytest.fixture(scope="module")
def colleague(house: House) -> httpx.Client:
    return house.client(house.merchant().token("operator"))


@pytest.fixture(scope="module")
def lists(operator: httpx.Client) -> dict[str, Json]:
    """The three lists, imported; what each import answered."""
    return {
        source: post_list(operator, source, (FIXTURES / name).read_bytes()).json()
        for source, name in FILES.items()
    }


@pytest.fixture
def screened(house: House, operator: httpx.Client, lists: dict[str, Json]) -> Merchant:
    """A merchant whose payers are screened."""
    merchant = house.merchant()
    enrol(operator, merchant, ["in"])
    return merchant


def enrol(operator: httpx.Client, merchant: Merchant, screening: list[str]) -> None:
    set_profile(operator, merchant, "T3", screening)


def set_profile(
    operator: httpx.Client, merchant: Merchant, tier: str, screening: list[str]
) -> Json:
    body = {
        "environment": merchant.environment,
        "tier": tier,
        "screening": screening,
        "reason": "A test",
    }
    answer = operator.put(f"/compliance/profiles/{merchant.tenant_id}", json=body)
    return dict(answer.raise_for_status().json())


def post_list(operator: httpx.Client, source: str, content: bytes, **params: str) -> httpx.Response:
    return operator.post(
        f"/compliance/lists/{source}",
        content=content,
        params=params,
        headers={"Content-Type": "application/xml"},
    )


def register(merchant: Merchant, name: str, phone: str, **told: str) -> Json:
    body = {"name": name, "phone": phone, **told}
    return dict(merchant.api.post("/compliance/parties", json=body).raise_for_status().json())


def refused(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and reason of a problem."""
    body = answer.json()
    return answer.status_code, body["code"], body.get("reason")


def test_lists_are_imported_once_and_their_age_is_known(
    operator: httpx.Client, lists: dict[str, Json]
) -> None:
    again = post_list(operator, "ofac", (FIXTURES / FILES["ofac"]).read_bytes()).json()

    assert [again[what] for what in ("added", "changed", "removed")] == [0, 0, 0]
    assert again["list"]["version"] == lists["ofac"]["list"]["version"]
    shown = {one["source"]: one for one in operator.get("/compliance/lists").json()["data"]}
    assert {source: (one["entries"], one["stale"]) for source, one in shown.items()} == {
        "ofac": (4, False),
        "un": (3, False),
        "eu": (2, False),
    }


def test_a_broken_list_leaves_the_one_in_force(
    operator: httpx.Client, lists: dict[str, Json]
) -> None:
    broken = post_list(operator, "un", (FIXTURES / FILES["un"]).read_bytes()[:-40])
    shrunk = (FIXTURES / FILES["ofac"]).read_bytes().replace(b"<Record_Count>4", b"<Record_Count>1")
    start, end = shrunk.index(b"<sdnEntry>"), shrunk.index(b"</sdnEntry>")
    alone = shrunk[: end + 11] + b"</sdnList>"
    short = post_list(operator, "ofac", alone)

    assert start > 0
    assert (broken.status_code, broken.json()["code"]) == (422, "42262")
    assert "line" in broken.json()["detail"]
    assert "1 entries, the list in force 4" in short.json()["detail"]
    kept = {
        one["source"]: one["entries"] for one in operator.get("/compliance/lists").json()["data"]
    }
    assert (kept["un"], kept["ofac"]) == (3, 4)


def test_only_operators_import_lists_and_screen(house: House) -> None:
    merchant = house.merchant()
    owner = house.client(merchant.token("owner"))

    assert post_list(owner, "ofac", b"<sdnList/>").status_code == 403
    assert owner.get("/compliance/lists").status_code == 403
    assert merchant.api.get("/compliance/lists").status_code == 403


@pytest.mark.parametrize(
    ("party", "decision"),
    [
        ({"name": "Wanjiru Kamau"}, "clear"),
        ({"name": "ORLOVSKI, Anton Ilyich"}, "deny"),
        ({"name": "Anton Orlovskiy"}, "hold"),
        ({"name": LISTED, "date_of_birth": "1999-01-01", "country": "KE"}, "clear"),
        ({"name": LISTED, "date_of_birth": "1999-01-01"}, "hold"),
        ({"name": "Nobody At All", "document": "xz-1234567"}, "deny"),
        ({"name": "Selemani Ngwenya"}, "deny"),
        ({"name": "Mirela Dragusan", "country": "MD"}, "deny"),
    ],
)
def test_a_party_is_screened(
    house: House, operator: httpx.Client, lists: dict[str, Json], party: Json, decision: str
) -> None:
    body = {
        "tenant_id": house.merchant().tenant_id,
        "environment": "sandbox",
        "parties": [{"role": "payee", **party}],
    }

    answer = operator.post("/compliance/screen", json=body)

    assert answer.json()["decision"] == decision, answer.text


def test_the_worst_of_the_parties_decides_for_the_platform_too(
    house: House, lists: dict[str, Json]
) -> None:
    internal = house.client(house.stack.keys["internal_token"])
    body = {
        "tenant_id": house.merchant().tenant_id,
        "environment": "sandbox",
        "parties": [
            {"role": "payer", "name": "Wanjiru Kamau"},
            {"role": "payee", "name": "Blue Heron Shipping"},
        ],
    }

    answer = internal.post("/compliance/screen", json=body).json()

    assert answer["decision"] == "deny"
    assert [one["decision"] for one in answer["parties"]] == ["clear", "deny"]
    assert answer["parties"][1]["matches"][0]["ref"] == "90002"


def test_a_merchant_that_screens_its_payers_registers_them_first(screened: Merchant) -> None:
    phone = new_phone("00")
    intent = screened.create()["id"]

    unknown = screened.confirm(intent, phone)
    party = register(screened, "Wanjiru Kamau", phone)
    confirmed = screened.confirm(intent, phone)

    assert refused(unknown)[:2] == (422, "42203")
    assert (party["decision"], party["name"], party["matches"]) == ("clear", "W*** K***", None)
    assert confirmed.status_code == 200
    transfer = screened.transfers()[0]["transfer_id"]
    shown = screened.api.get(f"/compliance/transfers/{transfer}").json()["data"]
    assert [(one["party_id"], one["decision"]) for one in shown] == [(party["id"], "clear")]


def test_a_listed_payer_is_denied_and_the_operators_hear_of_it(screened: Merchant) -> None:
    phone = new_phone("00")
    party = register(screened, LISTED, phone)

    answer = screened.confirm(screened.create()["id"], phone)

    assert party["decision"] == "deny"
    assert refused(answer) == (422, "42201", "watchlist_hit")
    assert screened.alerts() == [("party_flagged", party["id"])]
    assert screened.transfers() == []


def test_a_false_positive_is_cleared_with_a_reason(
    screened: Merchant, operator: httpx.Client
) -> None:
    phone = new_phone("00")
    party = register(screened, LISTED, phone, date_of_birth="1999-01-01")
    intent = screened.create()["id"]
    held = screened.confirm(intent, phone)
    seen = operator.get(f"/compliance/parties/{party['id']}").json()

    entries = [{"source": one["source"], "ref": one["ref"]} for one in seen["matches"]]
    body = {"entries": entries, "reason": "Identity card seen: born thirty years later"}
    cleared = operator.post(f"/compliance/parties/{party['id']}/clear", json=body).json()

    assert refused(held) == (422, "42201", "review_required")
    assert entries == [{"source": "ofac", "ref": "90001"}]
    assert cleared["decision"] == "clear"
    assert screened.confirm(intent, phone).status_code == 200
    assert screened.alerts() == []


def test_the_customer_of_an_intent_is_screened_without_being_asked(screened: Merchant) -> None:
    listed = screened.create(customer={"name": LISTED})["id"]
    clear = screened.create(customer={"name": "Wanjiru Kamau"})["id"]

    def answered(intent: str) -> httpx.Response | None:
        answer = screened.confirm(intent, new_phone("00"))
        # Until the screening has finished nothing is sent.
        return None if answer.status_code == 503 else answer

    assert refused(until(lambda: answered(listed), "screened"))[1] == "42201"
    assert until(lambda: answered(clear), "screened").status_code == 200


@pytest.mark.parametrize(("name", "status"), [("Wanjiru Kamau", 201), (LISTED, 422)])
def test_a_payee_whom_a_payout_names_is_screened_before_anything_is_sent(
    house: House,
    operator: httpx.Client,
    lists: dict[str, Json],
    name: str,
    status: int,
) -> None:
    merchant = house.merchant()
    enrol(operator, merchant, ["out"])
    body = {
        "amount": "100.00",
        "currency": "KES",
        "destination": {"type": "mpesa", "phone": new_phone("12"), "name": name},
    }
    key = new_key()

    nameless = merchant.post(
        "/payouts", body | {"destination": body["destination"] | {"name": None}}
    )
    first = merchant.post("/payouts", body, key)
    sent_at_first = merchant.transfers()

    def decided() -> httpx.Response | None:
        answer = merchant.post("/payouts", body, key)
        return None if answer.status_code == 503 else answer

    answer = until(decided, "screened")
    assert refused(nameless)[:2] == (422, "42203")
    assert (refused(first)[:2], first.headers["Retry-After"]) == ((503, "50301"), "2")
    assert sent_at_first == []
    assert answer.status_code == status, answer.text
    assert len(merchant.transfers()) == (status == 201)


def test_a_new_entry_reaches_whoever_was_clear_before(
    screened: Merchant, operator: httpx.Client
) -> None:
    phone, name = new_phone("00"), "Tabitha Nasimiyu Wekhuyo"
    party = register(screened, name, phone)
    fixture = (FIXTURES / FILES["ofac"]).read_bytes()
    entry = (
        f"<sdnEntry><uid>90999</uid><lastName>{name}</lastName>"
        "<sdnType>Individual</sdnType></sdnEntry></sdnList>"
    )
    longer = fixture.replace(b"<Record_Count>4", b"<Record_Count>5").replace(
        b"</sdnList>", entry.encode()
    )

    imported = post_list(operator, "ofac", longer).json()

    assert (party["decision"], imported["added"]) == ("clear", 1)

    def flagged() -> Json | None:
        seen = screened.api.get(f"/compliance/parties/{party['id']}").json()
        return seen if seen["decision"] == "deny" else None

    assert until(flagged, "flagged")["list_version"] == imported["list"]["version"]
    assert screened.alerts() == [("party_flagged", party["id"])]
    post_list(operator, "ofac", fixture).raise_for_status()


def test_too_old_lists_clear_nobody(
    house: House, screened: Merchant, operator: httpx.Client
) -> None:
    phone = new_phone("00")
    register(screened, "Wanjiru Kamau", phone)
    house.books.run("update compliance.lists set checked_at = checked_at - interval '4 days'")
    try:
        answer = screened.confirm(screened.create()["id"], phone)
        house.books.run("select compliance.watch_lists()")
        stale = house.books.alerts("eu")
    finally:
        for source, name in FILES.items():
            post_list(operator, source, (FIXTURES / name).read_bytes()).raise_for_status()

    assert refused(answer)[:2] == (503, "50301")
    assert answer.headers["Retry-After"] == "300"
    assert stale == ["sanctions_list_stale"]
    assert house.books.alerts("eu") == []


def test_a_tier_limits_and_says_what_is_used(house: House, operator: httpx.Client) -> None:
    merchant = house.merchant()
    profile = set_profile(operator, merchant, "T0", [])
    merchant.confirm(merchant.create("6000.00")["id"], new_phone("00")).raise_for_status()

    over = merchant.confirm(merchant.create("1000.00")["id"], new_phone("00"))
    limits = {one["limit"]: one for one in merchant.api.get("/compliance/limits").json()["limits"]}

    assert profile["tier"] == "T0"
    assert refused(over)[:2] == (422, "42206")
    assert over.json()["limit"] == "t0_tenant_day_value"
    assert int(over.headers["Retry-After"]) > 3600
    day = limits["t0_tenant_day_value"]
    assert (day["max_usd"], day["used_usd"], day["used_count"]) == ("50.00", "46.51", 1)


def test_a_freeze_holds_at_once_and_takes_two_to_lift(
    house: House, operator: httpx.Client, colleague: httpx.Client
) -> None:
    merchant, phone = house.merchant(), new_phone("00")
    body = {"environment": "sandbox", "phone": phone, "reason": "Order of a court"}
    freeze = operator.post("/compliance/freezes", json=body).raise_for_status().json()
    intent = merchant.create()["id"]
    frozen = merchant.confirm(intent, phone)

    lift = f"/compliance/freezes/{freeze['id']}/lift"
    asked = operator.post(lift, json={"reason": "Set aside"}).json()
    alone = operator.post(lift, json={"reason": "Set aside"})
    lifted = colleague.post(lift, json={"reason": "Seen"}).json()

    assert refused(frozen) == (422, "42201", "frozen")
    assert (asked["status"], alone.status_code, lifted["status"]) == (
        "lift_requested",
        409,
        "lifted",
    )
    assert merchant.confirm(intent, phone).status_code == 200


def test_another_tenants_party_is_not_there(
    house: House, screened: Merchant, lists: dict[str, Json]
) -> None:
    party = register(screened, "Wanjiru Kamau", new_phone("00"))

    answer = house.merchant().api.get(f"/compliance/parties/{party['id']}")

    assert answer.status_code == 404


def test_the_function_is_ready(house: House, lists: dict[str, Json]) -> None:
    assert house.http.get("/compliance/readyz").status_code == 200


@pytest.mark.parametrize("born", [0, "0", "1990-13-01", "17.05.1990", "1990-05-17T00:00:00Z"])
def test_a_day_of_birth_is_written_out(house: House, born: object) -> None:
    body = {"name": "Wanjiru Kamau", "phone": new_phone(), "date_of_birth": born}

    answer = house.merchant().api.post("/compliance/parties", json=body)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/date_of_birth")
