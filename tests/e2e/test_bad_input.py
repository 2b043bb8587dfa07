"""Bad requests: each is refused with the field and the rule it broke, and changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from scripts.stack.stack import Stack
from tests.support.house import House, Merchant, living_in, new_key
from tests.support.simulator import Json, new_phone

DIGITS = 'must be a decimal string such as "100.00", digits only'
KENYAN = "phone is not a Kenyan mobile number"
CURSOR = "pass pagination.next_cursor of the page before, unchanged"
UNKNOWN_CURRENCY = "is not a currency we know"
MANY = {f"k{n}": "v" for n in range(51)}
KEPT = """
select c.table_schema || '.' || c.table_name
from information_schema.columns as c
join information_schema.tables as t using (table_schema, table_name)
where
    c.column_name = 'tenant_id' and t.table_type = 'BASE TABLE'
    and (c.table_schema in ('payments', 'rails')
        or c.table_name in ('idempotency_keys', 'audit_log', 'alerts'))
order by 1
"""


@dataclass(frozen=True)
class Shop:
    """A merchant with an intent in each state, and what belongs to others."""

    house: House
    merchant: Merchant
    open: str
    processing: str
    canceled: str
    succeeded: str
    foreign: str
    live: Merchant
    open_live: str

    def path(self, template: str) -> str:
        """`{open}` and the like replaced by ids."""
        names = ("open", "processing", "canceled", "succeeded", "foreign", "open_live")
        return template.format(**{name: getattr(self, name) for name in names})

    def rows(self) -> dict[str, tuple[int, str]]:
        """Rows of this tenant, and a checksum of all they hold, by table."""
        books, tenant_id = self.house.books, self.merchant.tenant_id
        query = (
            "select count(*)::int as n,"
            " coalesce(md5(string_agg(r::text, ',' order by r::text)), '') as sum"
            " from {} as r where tenant_id = %s"
        )
        tables = books.column(KEPT)
        found = {table: books.row(query.format(table), tenant_id) for table in tables}
        return {table: (row["n"], row["sum"]) for table, row in found.items()}


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Iterator[Shop]:
    with living_in(stack) as house:
        house.daraja.settings(prompt_lifetime_s=100_000)  # nothing happens by itself meanwhile
        merchant, live = house.merchant(), house.merchant(environment="production")
        canceled = merchant.create()["id"]
        merchant.post(f"/payment-intents/{canceled}/cancel").raise_for_status()
        succeeded = merchant.start(new_phone("00"))
        merchant.wait(succeeded, "succeeded")
        processing = merchant.start(new_phone())
        house.books.run(
            "update rails.watches set due_at = 'infinity' where tenant_id = %s", merchant.tenant_id
        )
        yield Shop(
            house,
            merchant,
            open=merchant.create()["id"],
            processing=processing,
            canceled=canceled,
            succeeded=succeeded,
            foreign=house.merchant().create()["id"],
            live=live,
            open_live=live.create()["id"],
        )


@pytest.fixture(autouse=True)
def nothing_changes(shop: Shop) -> Iterator[None]:
    """Whatever a test of this module sends: afterwards every row is as it was."""
    before = shop.rows()
    yield
    assert shop.rows() == before


def problem(answer: httpx.Response, status: int, code: str) -> Json:
    """The problem document of a refusal. Fails when it is another one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found: Json = answer.json()
    assert (answer.status_code, found["code"]) == (status, code), found
    assert found["status"] == status
    assert found["type"].endswith(f"#{code}")
    assert found["request_id"] == answer.headers["x-request-id"]
    assert found["detail"]
    return found


def assert_names(found: Json, pointer: str, rule: str) -> None:
    """The first field error points at the field and says the rule."""
    assert found["errors"][0]["pointer"] == pointer
    assert rule in found["errors"][0]["detail"]


# --- create


@pytest.mark.parametrize(
    ("fields", "status", "code", "pointer", "rule"),
    [
        ({"amount": "100.001"}, 422, "42251", "/amount", "KES has 2 decimals"),
        ({"amount": "100.50"}, 422, "42251", "/amount", "M-Pesa takes whole shillings"),
        ({"amount": "0.01"}, 422, "42251", "/amount", "M-Pesa takes whole shillings"),
        ({"amount": "250001.00"}, 422, "42251", "/amount", "M-Pesa takes 1.00 to 250000.00 KES"),
        ({"amount": "0"}, 422, "42251", "/amount", "must be more than zero"),
        ({"amount": "0.00"}, 422, "42251", "/amount", "must be more than zero"),
        ({"amount": "-1.00"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "+1.00"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "1e2"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "1E+2"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "NaN"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "Infinity"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "0x64"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "1,000.00"}, 422, "42251", "/amount", DIGITS),
        ({"amount": " 100.00"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "100.00\n"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "100."}, 422, "42251", "/amount", DIGITS),
        ({"amount": ".50"}, 422, "42251", "/amount", DIGITS),
        ({"amount": ""}, 422, "42251", "/amount", DIGITS),
        ({"amount": "٣٠٠"}, 422, "42251", "/amount", DIGITS),
        ({"amount": "0100.00"}, 422, "42251", "/amount", "must not start with zeros"),
        ({"amount": "1" * 13}, 422, "42251", "/amount", "at most 12 digits"),
        ({"amount": "1" * 33}, 400, "40001", "/amount", "must have at most 32 characters"),
        ({"amount": 100}, 400, "40001", "/amount", "must be a string"),
        ({"amount": 100.0}, 400, "40001", "/amount", "must be a string"),
        ({"amount": None}, 400, "40001", "/amount", "must be a string"),
        ({"amount": True}, 400, "40001", "/amount", "must be a string"),
        ({"amount": ["100.00"]}, 400, "40001", "/amount", "must be a string"),
        ({"amount": ...}, 400, "40001", "/amount", "is required"),
        ({"currency": "USD"}, 422, "42251", "/currency", "M-Pesa takes KES"),
        ({"currency": "kes"}, 422, "42251", "/currency", UNKNOWN_CURRENCY),
        ({"currency": "XXX"}, 422, "42251", "/currency", UNKNOWN_CURRENCY),
        ({"currency": ""}, 422, "42251", "/currency", UNKNOWN_CURRENCY),
        ({"currency": "KESKESKES"}, 400, "40001", "/currency", "must have at most 8 characters"),
        ({"currency": 404}, 400, "40001", "/currency", "must be a string"),
        ({"currency": ...}, 400, "40001", "/currency", "is required"),
        (
            {"capture_method": "manual"},
            400,
            "40003",
            "/capture_method",
            "'capture_method' is not a field of this request",
        ),
        ({"Amount": "1.00"}, 400, "40003", "/Amount", "did you mean 'amount'?"),
        ({"status": "succeeded"}, 400, "40003", "/status", "'status' is not a field"),
        ({"tenant_id": "tn_1"}, 400, "40003", "/tenant_id", "'tenant_id' is not a field"),
        (
            {"customer": {"phone": "0712345678"}},
            400,
            "40003",
            "/customer/phone",
            "'customer/phone' is not a field of this request",
        ),
        ({"customer": "Jane"}, 400, "40001", "/customer", "must be an object"),
        ({"customer": {"email": "jane"}}, 400, "40001", "/customer/email", "must match"),
        (
            {"customer": {"name": "J" * 201}},
            400,
            "40001",
            "/customer/name",
            "must have at most 200 characters",
        ),
        ({"metadata": MANY}, 400, "40001", "/metadata", "must have at most 50 items"),
        ({"metadata": {"k": "v" * 501}}, 400, "40001", "/metadata/k", "at most 500 characters"),
        ({"metadata": {"k": 1}}, 400, "40001", "/metadata/k", "must be a string"),
        ({"metadata": {"k": None}}, 400, "40001", "/metadata/k", "must be a string"),
        ({"metadata": {"k": "a\0b"}}, 400, "40001", "/metadata/k", "NUL"),
        ({"metadata": []}, 400, "40001", "/metadata", "must be an object"),
        ({"description": "x" * 501}, 400, "40001", "/description", "at most 500 characters"),
        ({"description": "a\0b"}, 400, "40001", "/description", "NUL"),
        ({"payment_method_types": []}, 400, "40001", "/payment_method_types", "at least 1 item"),
        (
            {"payment_method_types": ["card"]},
            422,
            "42261",
            "/payment_method_types",
            "must be among: mpesa",
        ),
        ({"payment_method_types": "mpesa"}, 400, "40001", "/payment_method_types", "a list"),
        (
            {"payment_method_types": ["x" * 9000]},
            400,
            "40001",
            "/payment_method_types/0",
            "at most 32 characters",
        ),
        ({"expires_in": 59}, 400, "40001", "/expires_in", "must be at least 60"),
        ({"expires_in": 2_592_001}, 400, "40001", "/expires_in", "must be at most 2592000"),
        ({"expires_in": "60"}, 400, "40001", "/expires_in", "must be a whole number"),
        ({"expires_in": 60.5}, 400, "40001", "/expires_in", "must be a whole number"),
        ({"return_url": "somewhere"}, 400, "40001", "/return_url", "must be a URL"),
        (
            {"return_url": "javascript:alert(1)"},
            400,
            "40001",
            "/return_url",
            "must be a URL with scheme 'https' or 'http'",
        ),
        ({"return_url": f"https://x.ke/{'a' * 2048}"}, 400, "40001", "/return_url", "2048"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else None,
)
def test_create_names_field_and_rule(
    shop: Shop, fields: Json, status: int, code: str, pointer: str, rule: str
) -> None:
    body: Json = {"amount": "100.00", "currency": "KES"} | fields

    answer = shop.merchant.post(
        "/payment-intents", {name: value for name, value in body.items() if value is not ...}
    )

    assert_names(problem(answer, status, code), pointer, rule)


@pytest.mark.parametrize("key", ["k" * 41, ""])
def test_metadata_key_has_its_length(shop: Shop, key: str) -> None:
    body = {"amount": "100.00", "currency": "KES", "metadata": {key: "v"}}

    found = problem(shop.merchant.post("/payment-intents", body), 400, "40001")

    assert found["errors"][0]["pointer"].startswith("/metadata/")
    assert "character" in found["errors"][0]["detail"]


def test_every_unknown_field_is_named_at_once(shop: Shop) -> None:
    body = {"amount": "100.00", "currency": "KES", "capture_method": "manual", "mandate": "x"}

    found = problem(shop.merchant.post("/payment-intents", body), 400, "40003")

    assert [e["pointer"] for e in found["errors"]] == ["/capture_method", "/mandate"]


# --- confirm


@pytest.mark.parametrize(
    "phone",
    [
        "0612345678",
        "071234567",
        "07123456789",
        "0412345678",
        "+256712345678",
        "+1 202 555 0123",
        "+254 20 2345678",
        "0712 345 678 900",
        "254712345678;ext=5",
        "٠٧١٢٣٤٥٦٧٨",
        "hello",
        "",
    ],
)
def test_phone_that_is_not_a_kenyan_mobile_is_refused(shop: Shop, phone: str) -> None:
    found = problem(shop.merchant.confirm(shop.open, phone), 422, "42259")

    assert_names(found, "/payment_method/phone", KENYAN)
    assert not phone or phone not in str(found)


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer", "rule"),
    [
        ({}, 400, "40001", "/payment_method", "is required"),
        ({"payment_method": "mpesa"}, 400, "40001", "/payment_method", "must be an object"),
        ({"payment_method": {"type": "mpesa"}}, 400, "40001", "/payment_method/phone", "required"),
        (
            {"payment_method": {"phone": "0712345678"}},
            400,
            "40001",
            "/payment_method/type",
            "is required",
        ),
        (
            {"payment_method": {"type": "mpesa", "phone": 712345678}},
            400,
            "40001",
            "/payment_method/phone",
            "must be a string",
        ),
        (
            {"payment_method": {"type": "mpesa", "phone": "0712345678", "pin": "1234"}},
            400,
            "40003",
            "/payment_method/pin",
            "'payment_method/pin' is not a field of this request",
        ),
        (
            {"payment_method": {"type": "mpesa", "phone": "0712345678"}, "return_url": "x"},
            400,
            "40003",
            "/return_url",
            "'return_url' is not a field of this request",
        ),
        (
            {"payment_method": {"type": "card", "phone": "0712345678"}},
            422,
            "42261",
            "/payment_method/type",
            "payment_method_types: mpesa",
        ),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else None,
)
def test_confirm_names_field_and_rule(
    shop: Shop, body: Json, status: int, code: str, pointer: str, rule: str
) -> None:
    answer = shop.merchant.post(f"/payment-intents/{shop.open}/confirm", body)

    assert_names(problem(answer, status, code), pointer, rule)


def test_confirm_without_credentials_of_the_rail_says_where_to_put_them(shop: Shop) -> None:
    bare = shop.house.merchant(app=None)

    found = problem(bare.confirm(bare.create()["id"], "0712345678"), 422, "42260")

    assert "mpesa" in found["detail"]
    assert "/merchants/credentials/mpesa" in found["detail"]


# --- patch and cancel


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer", "rule"),
    [
        ({"amount": "1.00"}, 422, "42258", "/amount", "cannot change after creation"),
        ({"currency": "USD"}, 422, "42258", "/currency", "cannot change after creation"),
        ({"expires_in": 60}, 422, "42258", "/expires_in", "cannot change after creation"),
        ({"customer": {}}, 422, "42258", "/customer", "cannot change after creation"),
        ({"return_url": "https://x"}, 422, "42258", "/return_url", "cannot change"),
        ({"payment_method_types": ["x"]}, 422, "42258", "/payment_method_types", "cannot change"),
        ({"description": "new", "amount": "1.00"}, 422, "42258", "/amount", "cannot change"),
        ({"status": "succeeded"}, 400, "40003", "/status", "'status' is not a field"),
        ({"metadata": {"k": 1}}, 400, "40001", "/metadata/k", "must be a string"),
        ({"metadata": MANY}, 400, "40001", "/metadata", "at most 50"),
        ({"description": 1}, 400, "40001", "/description", "must be a string"),
        ({}, 400, "40001", "", "give description or metadata"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)
def test_patch_names_field_and_rule(
    shop: Shop, body: Json, status: int, code: str, pointer: str, rule: str
) -> None:
    answer = shop.merchant.api.patch(f"/payment-intents/{shop.open}", json=body)

    assert_names(problem(answer, status, code), pointer, rule)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [({"reason": "bored"}, "40001", "/reason"), ({"why": "bored"}, "40003", "/why")],
)
def test_cancel_names_field(shop: Shop, body: Json, code: str, pointer: str) -> None:
    answer = shop.merchant.post(f"/payment-intents/{shop.open}/cancel", body)

    assert problem(answer, 400, code)["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("processing", "confirm"),
        ("processing", "cancel"),
        ("processing", "change"),
        ("succeeded", "confirm"),
        ("succeeded", "cancel"),
        ("succeeded", "change"),
        ("canceled", "confirm"),
        ("canceled", "cancel"),
        ("canceled", "change"),
    ],
)
def test_illegal_move_says_where_it_stands_and_what_is_allowed(
    shop: Shop, state: str, verb: str
) -> None:
    path = shop.path(f"/payment-intents/{{{state}}}")
    confirmation = {"payment_method": {"type": "mpesa", "phone": "0712345678"}}

    answer = {
        "confirm": lambda: shop.merchant.post(f"{path}/confirm", confirmation),
        "cancel": lambda: shop.merchant.post(f"{path}/cancel"),
        "change": lambda: shop.merchant.api.patch(path, json={"description": "late"}),
    }[verb]()

    found = problem(answer, 409, "40911")
    assert (found["current_state"], found["allowed"]) == (state, [])


# --- lists and timelines


@pytest.mark.parametrize(
    ("query", "status", "code", "pointer", "rule"),
    [
        ({"page": "2"}, 400, "40003", "/page", "'page' is not supported, only limit, cursor, "),
        ({"limit": "0"}, 400, "40001", "/limit", "must be at least 1"),
        ({"limit": "101"}, 400, "40001", "/limit", "must be at most 100"),
        ({"limit": "many"}, 400, "40001", "/limit", "must be a whole number"),
        ({"cursor": "x"}, 400, "40001", "/cursor", CURSOR),
        ({"cursor": ""}, 400, "40001", "/cursor", CURSOR),
        ({"cursor": "1.2.3"}, 400, "40001", "/cursor", CURSOR),
        ({"cursor": "infinity.pi_x"}, 400, "40001", "/cursor", CURSOR),
        ({"status": "paid"}, 400, "40001", "/status", "'succeeded'"),
        ({"created_after": "today"}, 400, "40001", "/created_after", "must be a time such as"),
        ({"created_after": "2026-11-21T08:00:00"}, 400, "40001", "/created_after", "its zone"),
        (
            {"created_before": "9999-12-31T23:59:59-23:59"},
            400,
            "40001",
            "/created_before",
            "out of range",
        ),
        ({"amount_gte": "1.00"}, 422, "42262", "/currency", "required with amount_gte"),
        (
            {"amount_gte": "1.001", "currency": "KES"},
            422,
            "42251",
            "/amount_gte",
            "KES has 2 decimals",
        ),
        ({"amount_lte": "-1", "currency": "KES"}, 422, "42251", "/amount_lte", DIGITS),
        ({"metadata": "x"}, 400, "40003", "/metadata", "amount_lte, metadata[…]"),
        ({"metadata[a]": "x\0"}, 400, "40001", "/metadata[a]", "NUL"),
        ({"currency": "\0"}, 400, "40001", "/currency", "NUL"),
    ],
    ids=str,
)
def test_list_names_parameter_and_rule(
    shop: Shop, query: dict[str, str], status: int, code: str, pointer: str, rule: str
) -> None:
    answer = shop.merchant.api.get("/payment-intents", params=query)

    assert_names(problem(answer, status, code), pointer, rule)


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 30])
def test_timeline_position_is_a_number(shop: Shop, after: str) -> None:
    path = f"/payment-intents/{shop.open}/events"

    found = problem(shop.merchant.api.get(path, params={"after": after}), 400, "40001")

    assert found["errors"][0]["pointer"] == "/after"


# --- keys of repetition


@pytest.mark.parametrize("key", [None, "", "k" * 129, "two words", "tab\tbed"])
@pytest.mark.parametrize(
    "path",
    ["/payment-intents", "/payment-intents/{open}/confirm", "/payment-intents/{open}/cancel"],
)
def test_missing_or_odd_idempotency_key_is_refused(shop: Shop, path: str, key: str | None) -> None:
    bodies: dict[str, Json] = {
        "intents": {"amount": "100.00", "currency": "KES"},
        "confirm": {"payment_method": {"type": "mpesa", "phone": "0712345678"}},
        "cancel": {},
    }
    body = bodies[path.replace("-", "/").rpartition("/")[2]]
    headers = {} if key is None else {"Idempotency-Key": key}

    answer = shop.merchant.api.post(shop.path(path), json=body, headers=headers)

    assert "Idempotency-Key" in problem(answer, 400, "40002")["detail"]


# --- bodies


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "rule"),
    [
        (b'{"amount":', "application/json", 400, "40001", "not valid JSON"),
        (b"{'amount': '1'}", "application/json", 400, "40001", "not valid JSON"),
        (b"", "application/json", 400, "40001", "body: is required"),
        (b"[]", "application/json", 400, "40001", "must be an object"),
        (b'"x"', "application/json", 400, "40001", "must be an object"),
        (b"\xff\xfe{", "application/json", 400, "40001", "parsing the body"),
        (b"[" * 30_000, "application/json", 400, "40001", "parsing the body"),
        (b"amount=1", "application/x-www-form-urlencoded", 415, "41501", "application/json"),
        (b'{"amount":"1.00","currency":"KES"}', "text/plain", 415, "41501", "application/json"),
        (b'{"amount":"1.00","currency":"KES"}', "", 415, "41501", "application/json"),
        (b" " * 65_537, "application/json", 413, "41301", "longer than 65536 bytes"),
        (
            b'{"amount":"1.00","currency":"KES","description":"\\ud800"}',
            "application/json",
            400,
            "40001",
            "valid Unicode",
        ),
    ],
    ids=lambda value: str(value[:24]) if isinstance(value, bytes) else None,
)
def test_body_that_is_no_json_object_is_refused(
    shop: Shop, body: bytes, content_type: str, status: int, code: str, rule: str
) -> None:
    headers = {"Idempotency-Key": new_key()} | (
        {"Content-Type": content_type} if content_type else {}
    )

    answer = shop.merchant.api.post("/payment-intents", content=body, headers=headers)

    assert rule in problem(answer, status, code)["detail"]


def test_huge_body_without_a_length_is_refused(shop: Shop) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"description": "'
        yield from [b"x" * 10_000] * 7

    headers = {"Idempotency-Key": new_key(), "Content-Type": "application/json"}
    answer = shop.merchant.api.post("/payment-intents", content=chunks(), headers=headers)

    assert "longer than 65536 bytes" in problem(answer, 413, "41301")["detail"]


# --- where nothing is


ROUTES = [
    ("GET", "/payment-intents/{}"),
    ("PATCH", "/payment-intents/{}"),
    ("POST", "/payment-intents/{}/confirm"),
    ("POST", "/payment-intents/{}/cancel"),
    ("POST", "/payment-intents/{}/reconcile"),
    ("POST", "/payment-intents/{}/stream-token"),
    ("GET", "/payment-intents/{}/events"),
]
BODIES: dict[str, Any] = {
    "PATCH": {"description": "x"},
    "POST": {"payment_method": {"type": "mpesa", "phone": "0712345678"}},
}


def send(client: httpx.Client, method: str, route: str, intent_id: str) -> httpx.Response:
    body = None if route.endswith(("cancel", "token", "reconcile")) else BODIES.get(method)
    headers = {"Idempotency-Key": new_key()}
    return client.request(method, route.format(intent_id), json=body, headers=headers)


@pytest.mark.parametrize(("method", "route"), ROUTES)
@pytest.mark.parametrize(
    "intent_id",
    [
        "pi_0",
        "pi_00000000000000000000000000",
        "pi_zzzzzzzzzzzzzzzzzzzzzzzzzz",
        "tr_01m7yhrgwaffstg51xzxf34r87",
        "PI_01M7YHRGWAFFSTG51XZXF34R87",
        "pi_01m7yhrgwaffstg51xzxf34r87x",
        "pi_%00",
        "pi_%0D%0AX-Evil:%20yes",
        "pi_01m7yhrgwaffstg51xzxf34r87'--",
    ],
)
def test_id_that_is_none_is_not_found(shop: Shop, method: str, route: str, intent_id: str) -> None:
    problem(send(shop.merchant.api, method, route, intent_id), 404, "40401")


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_intent_of_others_is_not_found(shop: Shop, method: str, route: str) -> None:
    same_tenant_live = shop.house.client(key := f"sk_live_{'b' * 30}{new_key()[:13]}")
    shop.house.add_key(shop.merchant.tenant_id, "production", key)

    foreign = problem(send(shop.merchant.api, method, route, shop.foreign), 404, "40401")
    problem(send(shop.merchant.api, method, route, shop.open_live), 404, "40401")
    problem(send(same_tenant_live, method, route, shop.open), 404, "40401")
    nobodys = problem(send(shop.merchant.api, method, route, f"pi_{'0' * 26}"), 404, "40401")

    assert foreign["detail"].replace(shop.foreign, "") == nobodys["detail"].replace(
        f"pi_{'0' * 26}", ""
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/payment-intents/{open}/refund", 404, "40401"),
        ("POST", "/payment-intents/{open}/refund", 404, "40401"),
        ("DELETE", "/payment-intents/{open}", 405, "40501"),
        ("PUT", "/payment-intents", 405, "40501"),
    ],
)
def test_path_or_method_that_is_none(
    shop: Shop, method: str, path: str, status: int, code: str
) -> None:
    answer = shop.merchant.api.request(method, shop.path(path))

    problem(answer, status, code)
    assert ("Allow" in answer.headers) == (status == 405)


# --- who asks


@pytest.mark.parametrize(("method", "route"), ROUTES)
@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        (None, 401, "40101"),
        ("Basic abc", 401, "40101"),
        ("Bearer", 401, "40101"),
        ("Bearer nonsense", 401, "40102"),
        (f"Bearer sk_test_{'0' * 43}", 401, "40101"),
        ("Bearer a.b.c", 403, "40301"),
    ],
)
def test_wrong_credential_is_refused(
    shop: Shop, method: str, route: str, authorization: str | None, status: int, code: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}

    answer = send(shop.house.client(**headers), method, route, shop.open)

    problem(answer, status, code)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_revoked_and_expired_keys_are_refused_at_once(shop: Shop, method: str, route: str) -> None:
    secret = f"sk_test_{'c' * 30}{new_key()[:13]}"
    key_id = shop.house.add_key(shop.merchant.tenant_id, "sandbox", secret)
    client = shop.house.client(secret)
    assert client.get("/payment-intents").status_code == 200

    change = "update public.api_keys set {} where key_id = %s"
    shop.house.books.run(change.format("expires_at = now()"), key_id)
    problem(send(client, method, route, shop.open), 401, "40102")
    shop.house.books.run(
        change.format("expires_at = null, status = 'revoked', revoked_at = now()"), key_id
    )
    problem(send(client, method, route, shop.open), 401, "40102")


@pytest.mark.parametrize(("method", "route"), [("POST", "/payment-intents"), *ROUTES])
def test_missing_scope_is_named(shop: Shop, method: str, route: str) -> None:
    needed = "payments:read" if method == "GET" or "token" in route else "payments:write"
    secret = f"sk_test_{'d' * 30}{new_key()[:13]}"
    shop.house.add_key(shop.merchant.tenant_id, "sandbox", secret, ("invoices:read",))
    body = {"amount": "1.00", "currency": "KES"}
    client = shop.house.client(secret)

    answer = (
        client.post(route, json=body, headers={"Idempotency-Key": new_key()})
        if route == "/payment-intents"
        else send(client, method, route, shop.open)
    )

    assert needed in problem(answer, 403, "40311")["detail"]


@pytest.mark.parametrize("status", ["suspended", "closed"])
def test_organisation_that_may_not_work_is_told_so(shop: Shop, status: str) -> None:
    stopped = shop.house.merchant()
    shop.house.books.run(
        "update public.tenants set status = %s where tenant_id = %s", status, stopped.tenant_id
    )

    answer = stopped.post("/payment-intents", {"amount": "1.00", "currency": "KES"})

    assert status in problem(answer, 403, "40302")["detail"]


@pytest.mark.parametrize("token", [None, "wrong", "sk_test_" + "0" * 43])
def test_reconcile_takes_the_platforms_own_token_only(shop: Shop, token: str | None) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    answer = shop.house.http.post("/reconcile", headers=headers)

    assert answer.status_code == 401
    problem(shop.merchant.api.post("/reconcile"), 401, "40102")
