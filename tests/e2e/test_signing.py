"""Documents signed by KMS through the real SDK, whatever KMS and the keys go through meanwhile."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from alibabacloud_kms20160120 import models
from alibabacloud_kms20160120.client import Client
from alibabacloud_tea_openapi.utils_models import Config

from scripts.stack.kms.testing import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Kms, keeping_keys
from tests.support.chains import broken_links
from tests.support.house import House, at_once, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until

Json = dict[str, Any]
LONG = os.environ.get("STALELA_SEALING") == "long"


@pytest.fixture(scope="module")
def kms() -> Iterator[Kms]:
    with keeping_keys() as running:
        yield running


@pytest.fixture(scope="module")
def key_id(kms: Kms) -> str:
    asked = models.CreateKeyRequest(key_spec="EC_P256", key_usage="SIGN/VERIFY")
    return str(administrator(kms).create_key(asked).body.key_metadata.key_id)


@pytest.fixture(scope="module")
def signing_house(kms: Kms, key_id: str) -> Iterator[House]:
    functions = ("invoices", "merchants")
    with own_house("signing", functions=functions, kms_key_id=key_id, **kms.settings) as house:
        if not LONG:
            # So that it is the tests who say when the queue is looked at.
            house.books.run(
                "update public.cron_tasks set enabled = false where task = 'signing.poke'"
            )
        yield house


@pytest.fixture
def house(signing_house: House, kms: Kms) -> House:
    """With a calm KMS, whose failures before were too few to be left alone."""
    kms.mood()
    return signing_house


@pytest.fixture
def outlet(house: House) -> Outlet:
    return Outlet(house)


def administrator(kms: Kms) -> Client:
    return Client(
        Config(
            access_key_id=ACCESS_KEY_ID,
            access_key_secret=ACCESS_KEY_SECRET,
            endpoint=kms.url.removeprefix("http://"),
            protocol="http",
        )
    )


def restart(house: House) -> None:
    """Forget that KMS is to be left alone."""
    house.stack.kill("gateway")
    house.stack.wait_ready()


def sign_all(house: House) -> None:
    """Have everything signed that waits and is not parked."""

    def nothing_waits() -> bool:
        house.books.run(
            "update signing.signing_queue set next_attempt_at = now()"
            " where next_attempt_at < 'infinity'"
        )
        bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}
        house.http.post("/invoices/sign", headers=bearer).raise_for_status()
        return not house.books.rows(
            "select 1 from signing.signing_queue where next_attempt_at < 'infinity'"
        )

    until(nothing_waits, "everything signed")


def operator(house: House) -> httpx.Client:
    return house.client(house.merchant().token("operator"))


def log(house: House, document: Json) -> list[Json]:
    """The provider's calls for a document."""
    return house.books.rows(
        "select * from signing.signing_log where fiscal_number = %s order by signing_log_id",
        document["fiscal_number"],
    )


def read(outlet: Outlet, document: Json) -> Json:
    return dict(outlet.merchant.api.get(f"/invoices/{document['id']}").raise_for_status().json())


# --- KMS signs


def test_document_is_signed_by_the_key_in_kms(outlet: Outlet, house: House, key_id: str) -> None:
    document = outlet.sealed()

    assert broken_links(house, outlet.chain()) == []
    (call,) = log(house, document)
    assert (call["outcome"], call["signature"]) == ("signed", document["sealed"]["signature"])
    assert call["provider_request_id"]
    (key,) = house.books.rows(
        "select * from signing.keys where key_id = %s", document["sealed"]["key_id"]
    )
    assert (key["provider"], key["key_ref"], key["alg"]) == ("alibaba_kms", key_id, "ES256")


@pytest.mark.parametrize("trouble", ["throttled", "unavailable", "proxy"])
def test_trouble_at_kms_delays_the_signature_and_nothing_else(
    trouble: str, outlet: Outlet, house: House, kms: Kms
) -> None:
    kms.mood(trouble)

    numbered = outlet.seal()
    kms.mood()
    sign_all(house)

    assert numbered.status_code == 202
    document = numbered.json()
    assert (document["sequence"], document["sealed"]) == (1, None)
    assert read(outlet, document)["status"] == "fiscalized"
    assert [call["outcome"] for call in log(house, document)] == ["failed", "signed"]
    assert broken_links(house, outlet.chain()) == []


def test_wrong_signature_of_kms_is_never_attached(
    outlet: Outlet, house: House, kms: Kms, key_id: str
) -> None:
    asked = models.CreateKeyVersionRequest(key_id=key_id)
    administrator(kms).create_key_version(asked)
    outlet.sealed()
    kms.mood(swaps_versions=True)

    document = outlet.seal().json()

    assert document["sealed"] is None
    (call,) = log(house, document)
    assert call["error"] == "the signature is not by the key that was asked for"
    kms.mood()
    operator(house).post("/invoices/requeue", json={}).raise_for_status()
    sign_all(house)
    assert broken_links(house, outlet.chain()) == []


def test_failing_kms_is_left_alone_and_sealing_goes_on_at_once(
    outlet: Outlet, house: House, kms: Kms
) -> None:
    outlet.sealed()
    kms.mood("unavailable")
    before = kms.calls("AsymmetricSign")

    failing = [outlet.seal() for _ in range(5)]
    kms.mood("silent")
    began = time.monotonic()
    resting = [outlet.seal() for _ in range(5)]
    took_s = time.monotonic() - began

    assert {answer.status_code for answer in failing + resting} == {202}
    assert kms.calls("AsymmetricSign") - before == 5
    assert took_s < 15, "as long as five silences"
    assert [len(log(house, answer.json())) for answer in failing + resting] == [1] * 5 + [0] * 5
    kms.mood()
    restart(house)
    sign_all(house)
    assert broken_links(house, outlet.chain()) == []


def test_disabled_key_stops_its_documents_until_an_operator_says_so(
    outlet: Outlet, house: House, kms: Kms, key_id: str
) -> None:
    outlet.sealed()
    administrator(kms).disable_key(models.DisableKeyRequest(key_id=key_id))

    numbered = outlet.seal()

    document = numbered.json()
    stopped = read(outlet, document)
    assert (numbered.status_code, stopped["status"]) == (202, "signing_error")
    assert house.books.alerts("signing") == ["signing_error"]
    assert "409 Rejected.Disabled" in log(house, document)[0]["error"]
    administrator(kms).enable_key(models.EnableKeyRequest(key_id=key_id))
    sign_all(house)
    assert read(outlet, document)["status"] == "signing_error", "nobody asks again by himself"
    refused = house.client(outlet.merchant.token("owner")).post("/invoices/requeue", json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "40311")
    again = operator(house).post(
        "/invoices/requeue", json={"fiscal_numbers": [document["fiscal_number"]]}
    )
    sign_all(house)

    assert again.json() == {"requeued": 1}
    signed = read(outlet, document)
    assert (signed["status"], signed["fiscal_number"]) == (
        "fiscalized",
        document["fiscal_number"],
    )
    assert house.books.alerts("signing") == []
    assert broken_links(house, outlet.chain()) == []


# --- keys


def test_rotation_changes_the_key_between_two_documents(
    outlet: Outlet, house: House, kms: Kms
) -> None:
    old = outlet.sealed()["sealed"]["key_id"]
    kms.mood("unavailable")
    pending = outlet.seal().json()
    kms.mood()

    rotated = operator(house).post(f"/invoices/keys/{old}/rotate", json={"reason": "test"})
    new = outlet.sealed()["sealed"]["key_id"]
    sign_all(house)

    assert (rotated.status_code, rotated.json()["id"], rotated.json()["status"]) == (
        200,
        new,
        "active",
    )
    chain = outlet.chain()
    assert [(row["record_type"], row["key_id"]) for row in chain] == [
        ("sale", old),
        ("sale", old),
        ("key_rotation", new),
        ("sale", new),
    ]
    assert read(outlet, pending)["sealed"]["key_id"] == old
    assert broken_links(house, chain) == []
    again = operator(house).post(f"/invoices/keys/{old}/rotate", json={"reason": "test"})
    assert (again.status_code, again.json()["code"]) == (409, "40911")


def test_only_operators_rotate_and_revoke_and_kms_is_not_asked_for_others(
    outlet: Outlet, house: House, kms: Kms
) -> None:
    key = outlet.sealed()["sealed"]["key_id"]
    before = kms.calls("ListKeyVersions")
    owner = house.client(outlet.merchant.token("owner"))

    answers = [
        owner.post(f"/invoices/keys/{key}/{verb}", json={"reason": "mine"})
        for verb in ("rotate", "revoke")
    ]

    assert [(one.status_code, one.json()["code"]) for one in answers] == [(403, "40311")] * 2
    assert kms.calls("ListKeyVersions") == before


def test_revoked_key_leaves_what_waited_to_its_successor(
    outlet: Outlet, house: House, kms: Kms
) -> None:
    old = outlet.sealed()["sealed"]["key_id"]
    kms.mood("unavailable")
    pending = outlet.seal().json()
    kms.mood()
    staff = operator(house)

    staff.post(f"/invoices/keys/{old}/rotate", json={"reason": "it leaked"}).raise_for_status()
    revoked = staff.post(f"/invoices/keys/{old}/revoke", json={"reason": "it leaked"}).json()
    sign_all(house)

    assert (revoked["status"], revoked["revoked_at"] is not None) == ("revoked", True)
    signed = read(outlet, pending)["sealed"]
    assert signed["key_id"] != old
    assert broken_links(house, outlet.chain()) == []


def test_key_is_replaced_by_cron_after_a_year(outlet: Outlet, house: House) -> None:
    key = outlet.sealed()["sealed"]["key_id"]
    house.books.run(
        "update signing.keys set valid_from = now() - interval '366 days' where key_id = %s", key
    )
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}

    first = house.http.post("/invoices/rotate", headers=bearer).json()
    second = house.http.post("/invoices/rotate", headers=bearer).json()

    assert (first, second) == ({"rotated": 1}, {"rotated": 0})
    assert outlet.sealed()["sealed"]["key_id"] != key


# --- twenty terminals


def test_twenty_terminals_number_without_gaps_while_the_signer_fails(
    outlet: Outlet, house: House, kms: Kms, report: Callable[[str], None]
) -> None:
    """The short form. STALELA_SEALING=long: two thousand documents, and a minute of failure."""
    terminals, each, fails_s = (20, 100, 60.0) if LONG else (20, 10, 2.0)
    Outlet(house).sealed()  # so that a key is registered
    began = time.monotonic()

    def sell(terminal: int) -> list[tuple[int, int, float]]:
        sold = []
        for number in range(each):
            if terminal == 0 and number == each // 3:
                kms.mood("unavailable")
                time.sleep(fails_s)
                kms.mood()
            at = time.monotonic()
            answer = outlet.seal(outlet.document(pos_terminal_id=f"pos-{terminal}"))
            sold.append((answer.json()["sequence"], answer.status_code, time.monotonic() - at))
        return sold

    sold = [one for some in at_once(terminals, sell) for one in some]
    sold_s = time.monotonic() - began
    if not LONG:
        restart(house)
        sign_all(house)
    until(lambda: not house.books.rows("select 1 from signing.signing_queue"), "all signed", 300)
    signed_s = time.monotonic() - began

    statuses = [status for _, status, _ in sold]
    assert sorted(number for number, _, _ in sold) == list(range(1, terminals * each + 1))
    assert set(statuses) == {201, 202}
    chain = outlet.chain()
    assert broken_links(house, chain) == []
    assert {row["status"] for row in chain} == {"fiscalized"}
    calls = house.books.column(
        "select count(*) || ' ' || outcome from signing.signing_log"
        " where fiscal_number like %s group by outcome order by outcome",
        f"%-{outlet.code}-%",
    )
    report(
        f"{len(sold)} documents of {terminals} terminals in {sold_s:.1f} s, the signer failing"
        f" {fails_s:g} s of it: numbers 1..{len(sold)}, {statuses.count(201)} signed at once,"
        f" {statuses.count(202)} later, the last after {signed_s:.1f} s; chain of {len(chain)}"
        f" entries valid; slowest answer {max(took for *_, took in sold):.2f} s;"
        f" calls: {', '.join(calls)}"
    )
