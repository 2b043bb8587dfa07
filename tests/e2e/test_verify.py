"""Verification over HTTP: what anybody learns from a paper, and what nobody learns without one."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from scripts.verify_invoice import main as verify_invoice
from shared.fiscal.printing.elements import Elements
from shared.signing.encoding import from_base64url
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import Json, until

DETAILS = {
    "fiscal_authority_id",
    "merchant_name",
    "outlet_name",
    "sealed_at",
    "total",
    "currency",
    "invoice_type",
    "credited",
    "authority_sync_status",
    "authority_acknowledged_at",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "verify", functions=("invoices", "merchants", "verify"), invoice_key_file=str(key)
    ) as house:
        yield house


@pytest.fixture
def outlet(house: House) -> Outlet:
    return Outlet(house)


def ask(house: House, number: str, code: str, **headers: str) -> httpx.Response:
    """Anybody's look-up."""
    return house.http.get(f"/verify/{number}", params={"auth_code": code}, headers=headers)


def paper(invoice: Json) -> tuple[str, str]:
    """Number and code, as they are printed."""
    return invoice["fiscal_number"], invoice["sealed"]["auth_code"]


def qr(invoice: Json) -> str:
    return Elements.of(invoice, "https://verify.example").qr_text


def as_merchant(outlet: Outlet, number: str, code: str) -> Json:
    answer = outlet.merchant.api.get(f"/verify/{number}", params={"auth_code": code})
    return dict(answer.raise_for_status().json())


def rewrite(house: House, statement: str, *values: Any) -> None:
    """Change what cannot be changed, as somebody who owns the server could."""
    house.books.run("set session_replication_role = replica")
    house.books.run(statement, *values)
    house.books.run("set session_replication_role = origin")


# --- who holds the paper


def test_paper_is_verified_without_an_account(house: House, outlet: Outlet) -> None:
    outlet.sealed()
    sale = outlet.sealed()

    answer = ask(house, *paper(sale))

    assert answer.status_code == 200
    assert answer.json() == {
        "object": "verification",
        "status": "verified",
        "fiscal_number": sale["fiscal_number"],
        "environment": "sandbox",
        "signature_valid": True,
        "ledger_chain_valid": True,
        "fiscal_authority_id": "stalela-cd-01",
        "merchant_name": "Acacia Books",
        "outlet_name": "Till",
        "sealed_at": sale["sealed"]["sealed_at"],
        "total": "1160.00",
        "currency": "CDF",
        "invoice_type": "sale",
        "credited": "none",
        "authority_sync_status": "NOT_APPLICABLE",
        "authority_acknowledged_at": None,
        "problems": None,
    }


def test_code_is_read_as_people_write_it(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()
    number, code = paper(sale)

    written = [
        code.lower(),
        code.replace("-", ""),
        f" {code.replace('-', ' ')} ",
        code.replace("0", "O").replace("1", "l"),
        sale["sealed"]["signature"],
    ]

    assert {ask(house, number.lower(), each).status_code for each in written} == {200}


def test_qr_code_is_verified(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()

    answer = house.http.post("/verify/qr", json={"qr_data": qr(sale)})

    assert (answer.status_code, answer.json()["status"]) == (200, "verified")


@pytest.mark.parametrize("field", ["ts=2026", "fa=stalela"])
def test_qr_code_with_another_time_or_authority_is_altered(
    house: House, outlet: Outlet, field: str
) -> None:
    altered = qr(outlet.sealed()).replace(field, f"{field[:3]}1999")

    found = house.http.post("/verify/qr", json={"qr_data": altered}).json()

    assert found["status"] == "tampered"
    assert {found[name] for name in DETAILS} == {None}


@pytest.mark.parametrize("text", ["", "hello", "https://x.example/i?fn=A", "https://[", "\x00"])
def test_other_qr_codes_are_refused(house: House, text: str) -> None:
    answer = house.http.post("/verify/qr", json={"qr_data": text})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/qr_data")


def test_credits_show(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()
    credit = {
        "invoice_type": "credit_note",
        "original_fiscal_number": sale["fiscal_number"],
        "credit_reason": "returned_goods",
    }
    half = outlet.document("580.00", "500.00", **credit)
    half["items"][0]["quantity"] = "0.5"
    half["items"][0]["unit_price"] = "1000.00"

    shown = [ask(house, *paper(sale)).json()["credited"]]
    for _ in range(2):
        outlet.seal(half).raise_for_status()
        shown.append(ask(house, *paper(sale)).json()["credited"])

    assert shown == ["none", "partial", "full"]


# --- what was altered


def altered(house: House, invoice: Json) -> Json:
    """Anybody's answer about a document of which something does not fit."""
    answer = ask(house, *paper(invoice))
    assert answer.status_code == 200
    found = dict(answer.json())
    assert (found["status"], found["problems"]) == ("tampered", None)
    assert {found[name] for name in DETAILS} == {None}
    return found


def test_document_that_was_rewritten_is_altered(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()
    rewrite(
        house,
        "update fiscal.invoices set payload = replace(payload, '1160.00', '11.60')"
        " where invoice_id = %s",
        sale["id"],
    )

    found = altered(house, sale)

    assert (found["signature_valid"], found["ledger_chain_valid"]) == (False, True)
    assert as_merchant(outlet, *paper(sale))["problems"] == ["payload_hash"]


def test_entry_that_was_rewritten_is_altered_and_so_is_its_successor(
    house: House, outlet: Outlet
) -> None:
    first, second, third = (outlet.sealed() for _ in range(3))
    rewrite(
        house,
        "update fiscal.fiscal_ledger as l set sealed_at = '2026-01-01T00:00:00Z', entry_hash ="
        " encode(sha256(convert_to(concat_ws(E'\\n', fiscal_number, canonical_payload_hash,"
        " '2026-01-01T00:00:00Z', previous_hash), 'UTF8')), 'hex') where fiscal_number = %s",
        second["fiscal_number"],
    )

    assert as_merchant(outlet, *paper(second))["problems"] == ["signature", "chain", "time"]
    assert as_merchant(outlet, *paper(third))["problems"] == ["chain"]
    assert ask(house, *paper(first)).json()["status"] == "verified"
    assert altered(house, second)["ledger_chain_valid"] is False
    assert altered(house, third)["signature_valid"] is True


def test_entry_that_was_removed_is_missed(house: House, outlet: Outlet) -> None:
    first, second, third = (outlet.sealed() for _ in range(3))
    rewrite(
        house, "delete from fiscal.fiscal_ledger where fiscal_number = %s", second["fiscal_number"]
    )

    assert altered(house, third)["ledger_chain_valid"] is False
    assert ask(house, *paper(second)).status_code == 404
    assert ask(house, *paper(first)).json()["status"] == "verified"


def test_signature_of_another_document_is_none(house: House, outlet: Outlet) -> None:
    first, second = outlet.sealed(), outlet.sealed()
    rewrite(
        house,
        "update fiscal.signatures as s set signature = o.signature, auth_code = o.auth_code"
        " from fiscal.signatures as o where s.fiscal_number = %s and o.fiscal_number = %s",
        second["fiscal_number"],
        first["fiscal_number"],
    )

    found = altered(house, second | {"sealed": first["sealed"]})

    assert (found["signature_valid"], found["ledger_chain_valid"]) == (False, True)


def test_revoked_key_voids_what_it_sealed_afterwards(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()
    key = (sale["sealed"]["key_id"],)
    try:
        rewrite(
            house,
            "update signing.keys set status = 'revoked', revoked_at = now() - interval '1 day',"
            " valid_until = now() - interval '1 day' where key_id = %s",
            *key,
        )
        void = ask(house, *paper(sale)).json()
        rewrite(
            house,
            "update signing.keys set revoked_at = now() + interval '1 s',"
            " valid_until = now() + interval '1 s' where key_id = %s",
            *key,
        )
        kept = ask(house, *paper(sale)).json()
    finally:
        rewrite(
            house,
            "update signing.keys set status = 'active', revoked_at = null, valid_until = null"
            " where key_id = %s",
            *key,
        )

    assert (void["status"], void["signature_valid"]) == ("revoked_key", True)
    assert kept["status"] == "verified"


# --- who holds no paper


def misses(house: House, outlet: Outlet) -> list[tuple[str, str]]:
    """Everything that is no document with its code."""
    sale, other = outlet.sealed(), outlet.sealed()
    number, code = paper(sale)
    return [
        (number, paper(other)[1]),
        (number, "0"),
        (number, "A" * 300),
        (f"{number}0", code),
        ("AAA-000001", code),
        ("ZZZ-999999", code),
        ("Ĳ\u200f€", code),
    ]


def test_nobody_learns_which_numbers_exist(house: House, outlet: Outlet) -> None:
    same = {"x-request-id": "req_the_same_for_all"}
    bodies, heads = set(), set()

    for number, code in misses(house, outlet):
        answer = ask(house, number, code, **same)
        bodies.add((answer.status_code, answer.content))
        timeless = {"date", "server-timing", "x-stalela-processing-ms"}
        heads.add(tuple((n, v) for n, v in answer.headers.multi_items() if n not in timeless))

    assert len(bodies) == 1
    assert len(heads) == 1
    ((status, body),) = bodies
    assert (status, json.loads(body)["code"]) == (404, "40401")
    assert dict(heads.pop())["cache-control"] == "no-store"


def calls_of_lookups(house: House) -> float:
    """Calls of the Data API so far, without those that write views down every other second."""
    name = "stalela_data_api_calls_total"
    return house.metric("verify", name) - house.metric("verify", name, rpc="fiscal.count_views")


def test_unknown_number_costs_what_a_wrong_code_costs(house: House, outlet: Outlet) -> None:
    number, code = paper(outlet.sealed())

    def cost(asked: str) -> tuple[float, int]:
        """Calls of the Data API, and pages of the database looked at."""
        before = calls_of_lookups(house)
        ask(house, asked, code[::-1])
        calls = calls_of_lookups(house) - before
        plan = house.books.value(
            "explain (analyze, buffers, format json) select fiscal.verify(array[%s])", asked
        )
        return calls, plan[0]["Plan"]["Shared Hit Blocks"]

    cost(number), cost("AAA-000001")  # plans and pages are warm
    (known_calls, known_pages), (unknown_calls, unknown_pages) = cost(number), cost("AAA-000001")

    assert known_calls == unknown_calls == 1
    assert known_pages > 10
    assert abs(known_pages - unknown_pages) <= 4


def test_document_without_its_signature_is_not_found(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()
    rewrite(house, "delete from fiscal.signatures where fiscal_number = %s", sale["fiscal_number"])

    assert ask(house, *paper(sale)).status_code == 404


# --- merchants


def test_merchant_is_told_that_the_code_is_wrong_and_others_are_not(
    house: House, outlet: Outlet
) -> None:
    sale = outlet.sealed()
    number = sale["fiscal_number"]
    stranger = Outlet(house)

    own = as_merchant(outlet, number, "K56Y-BV6M-60QQ-5NM4")
    foreign = stranger.merchant.api.get(f"/verify/{number}", params={"auth_code": "K56Y"})

    assert (own["status"], own["problems"]) == ("tampered", ["code"])
    assert own["signature_valid"] is True
    assert foreign.status_code == 404
    assert as_merchant(stranger, *paper(sale))["problems"] is None


def test_batch_answers_in_order(house: House, outlet: Outlet) -> None:
    mine, theirs = outlet.sealed(), Outlet(house).sealed()
    asked = [
        (*paper(theirs), "verified"),
        (theirs["fiscal_number"], "K56Y", "not_found"),
        (*paper(mine), "verified"),
        (mine["fiscal_number"], "K56Y", "tampered"),
        ("AAA-000001", "K56Y", "not_found"),
    ]
    body = {"invoices": [{"fiscal_number": n, "auth_code": c} for n, c, _ in asked]}

    answer = outlet.merchant.api.post("/verify/batch", json=body).raise_for_status()

    assert [row["status"] for row in answer.json()["data"]] == [status for *_, status in asked]
    assert answer.headers["cache-control"] == "private, no-store"


def test_batch_takes_a_hundred_and_nobody_without_a_key(house: House, outlet: Outlet) -> None:
    one = dict(zip(("fiscal_number", "auth_code"), paper(outlet.sealed()), strict=True))

    full = outlet.merchant.api.post("/verify/batch", json={"invoices": [one] * 100})
    more = outlet.merchant.api.post("/verify/batch", json={"invoices": [one] * 101})
    nobody = house.http.post("/verify/batch", json={"invoices": [one]})

    assert [row["status"] for row in full.json()["data"]] == ["verified"] * 100
    assert (more.status_code, nobody.status_code) == (400, 401)


# --- keys


def test_saved_document_verifies_offline_with_the_saved_keys(
    house: House, outlet: Outlet, tmp_path: Path
) -> None:
    sale = outlet.sealed()
    invoice, keys = tmp_path / "invoice.json", tmp_path / "keys.json"
    invoice.write_bytes(outlet.merchant.api.get(f"/invoices/{sale['id']}").content)
    keys.write_bytes(house.http.get("/verify/keys").content)

    assert verify_invoice([str(invoice), "--keys", str(keys)]) == 0


def test_keys_are_published_for_any_library(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()

    answer = house.http.get("/verify/jwks.json").raise_for_status()
    listed = house.http.get("/verify/keys").raise_for_status().json()["keys"]

    (used,) = [
        key for key in jwt.PyJWKSet(answer.json()["keys"]) if key.key_id == sale["sealed"]["key_id"]
    ]
    assert used.algorithm_name == "ES256"
    assert [key["public_key"]["jwk"] for key in listed] == answer.json()["keys"]
    assert set(listed[0]) == {
        "key_id",
        "jurisdiction",
        "environment",
        "alg",
        "public_key",
        "valid_from",
        "valid_until",
        "status",
        "revoked_at",
    }
    assert len(from_base64url(listed[0]["public_key"]["jwk"]["x"])) == 32
    assert len(base64.b64decode(listed[0]["public_key"]["spki"])) == 91


# --- caching, methods, limits, counts


def test_answers_may_be_kept_for_a_while(house: House, outlet: Outlet) -> None:
    number, code = paper(outlet.sealed())

    answers = [ask(house, number, code), house.http.get("/verify/keys")]

    assert [answer.headers["cache-control"] for answer in answers] == [
        "public, max-age=30",
        "public, max-age=3600",
    ]
    tag = answers[0].headers["etag"]
    again = ask(house, number, code, **{"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)


def test_head_is_the_head_of_get(house: House, outlet: Outlet) -> None:
    number, code = paper(outlet.sealed())

    head = house.http.head(f"/verify/{number}", params={"auth_code": code})
    get = ask(house, number, code)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["etag"] == get.headers["etag"]


def test_views_are_counted_by_channel_and_nothing_else(house: House, outlet: Outlet) -> None:
    sale = outlet.sealed()
    number, code = paper(sale)

    ask(house, number, code)
    ask(house, number, code)
    ask(house, number, "K56Y")
    house.http.post("/verify/qr", json={"qr_data": qr(sale)})
    house.http.get("/verify/i", params={"fn": number, "ac": code})

    def counted() -> Json | None:
        rows = house.books.rows(
            "select channel, views from fiscal.verification_counts where fiscal_number = %s", number
        )
        found = {row["channel"]: row["views"] for row in rows}
        return found if len(found) == 3 else None

    assert until(counted, "the views are written") == {"api": 2, "qr": 1, "page": 1}


def test_burst_on_one_document_is_an_alert(house: House, outlet: Outlet) -> None:
    number, _ = paper(outlet.sealed())
    view = f'[{{"fiscal_number": "{number}", "channel": "%s", "views": 100}}]'

    house.books.value("select fiscal.count_views(%s::jsonb)", view % "api")
    before = outlet.merchant.alerts()
    house.books.value("select fiscal.count_views(%s::jsonb)", view % "page")

    assert before == []
    assert outlet.merchant.alerts() == [("invoice_verification_spike", number)]


def test_old_views_are_no_burst(house: House, outlet: Outlet) -> None:
    number, _ = paper(outlet.sealed())
    view = f'[{{"fiscal_number": "{number}", "channel": "api", "views": 150}}]'
    house.books.value("select fiscal.count_views(%s::jsonb)", view)
    house.books.run(
        "update fiscal.verification_counts set window_began_at = now() - interval '2 hours'"
        " where fiscal_number = %s",
        number,
    )

    house.books.value("select fiscal.count_views(%s::jsonb)", view)

    assert outlet.merchant.alerts() == []
    assert (
        house.books.value(
            "select views from fiscal.verification_counts where fiscal_number = %s", number
        )
        == 300
    )
