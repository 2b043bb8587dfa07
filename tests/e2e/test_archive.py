"""Sealed documents are kept where nobody can take them away, and what is kept can be believed."""

import gzip
import json
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest

from scripts.stack.oss.testing import Vaulted
from shared.fiscal.canonical import canonical_bytes
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import Json, until


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("archive", "invoices", "merchants")
    with own_house("archive", functions=functions, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture(scope="module")
def store(house: House) -> Iterator[Vaulted]:
    with httpx.Client(base_url=house.stack.archive_url, timeout=15, trust_env=False) as http:
        yield Vaulted(house.stack.archive_url, http)


@pytest.fixture
def outlet(house: House, store: Vaulted) -> Outlet:
    return Outlet(house)


def archive(outlet: Outlet) -> httpx.Response:
    """Have one outlet archived now, as the platform itself."""
    bearer = {"Authorization": f"Bearer {outlet.house.stack.keys['internal_token']}"}
    return outlet.house.http.post(f"/archive/outlets/{outlet.outlet_id}", headers=bearer)


def archived(outlet: Outlet, ranges: int = 1) -> list[Json]:
    """What is kept of an outlet, oldest first, once so many manifests have their signature."""

    def look() -> list[Json] | None:
        archive(outlet).raise_for_status()
        path = f"/archive/outlets/{outlet.outlet_id}"
        found = outlet.merchant.api.get(path).raise_for_status().json()["data"]
        return found if sum(one["verified_at"] is not None for one in found) >= ranges else None

    return until(look, f"{ranges} manifests kept")[::-1]


def kept(house: House, key: str) -> bytes:
    """The bytes of an object, from the disk of the endpoint."""
    name = sha256(key.encode()).hexdigest()
    return (house.stack.state / "oss/objects" / name).read_bytes()


def test_day_is_kept_whole_and_its_manifest_is_in_the_chain(outlet: Outlet, house: House) -> None:
    sales = [outlet.sealed() for _ in range(3)]

    (manifest,) = archived(outlet)

    merchant = house.books.value(
        "select merchant_id from fiscal.outlets where outlet_id = %s", outlet.outlet_id
    )
    day = sales[0]["sealed"]["sealed_at"][:10].replace("-", "/")
    assert manifest["prefix"] == f"fiscal/CD/{merchant}/{outlet.outlet_id}/{day}/"
    assert (manifest["first_entry"], manifest["last_entry"]) == (1, 3)
    signed = json.loads(kept(house, manifest["object_key"]))
    parts = {part["kind"]: part for part in signed["manifest"]["objects"]}
    assert sorted(parts) == ["documents", "keys", "ledger", "signatures", "signing_log"]
    for part in parts.values():
        body = kept(house, part["key"])
        assert (len(body), sha256(body).hexdigest()) == (part["bytes"], part["sha256"])
        assert len(gzip.decompress(body).splitlines()) == part["rows"]
    documents = gzip.decompress(kept(house, parts["documents"]["key"])).splitlines()
    assert [json.loads(line) for line in documents] == sales
    entry = signed["entry"]
    body = canonical_bytes(signed["manifest"])
    assert entry["canonical_payload_hash"] == sha256(body).hexdigest()
    assert entry["canonical_payload_hash"] == manifest["manifest_sha256"]
    assert entry["previous_hash"] == sales[-1]["sealed"]["ledger_hash"]
    assert signed["signature"]["fiscal_number"] == f"A-{outlet.code}-000001"


def test_each_entry_is_kept_once_and_an_outlet_at_rest_stays_at_rest(outlet: Outlet) -> None:
    outlet.sealed()
    archived(outlet)
    assert archive(outlet).json() == {"done": 0}  # a manifest alone is no reason for another

    outlet.sealed()
    ranges = archived(outlet, 2)

    # The second range holds the first one's manifest, which is an entry too.
    assert [(one["first_entry"], one["last_entry"]) for one in ranges] == [(1, 1), (2, 3)]


def test_unsigned_entry_waits_for_its_signature(outlet: Outlet, house: House) -> None:
    outlet.sealed()
    late = outlet.sealed()
    house.books.run(
        "insert into signing.signing_queue (fiscal_number, tenant_id, environment, next_attempt_at)"
        " values (%s, %s, 'sandbox', 'infinity')",
        late["fiscal_number"],
        outlet.merchant.tenant_id,
    )

    archive(outlet).raise_for_status()
    ends = house.books.column(
        "select last_entry from fiscal.archive_manifests where outlet_id = %s", outlet.outlet_id
    )

    assert ends == [1]
    house.books.run(
        "delete from signing.signing_queue where fiscal_number = %s", late["fiscal_number"]
    )


@pytest.mark.parametrize("fault", ["down", "lost_answer"])
def test_outage_delays_and_loses_nothing(fault: str, outlet: Outlet, store: Vaulted) -> None:
    outlet.sealed()
    store.arm(fault)

    refused = archive(outlet)

    assert (refused.status_code, refused.json()["code"]) == (503, "50301")
    assert len(archived(outlet)) == 1


def test_damage_on_the_way_is_an_alert_and_no_archive(
    outlet: Outlet, store: Vaulted, house: House
) -> None:
    outlet.sealed()
    store.arm("damage")

    refused = archive(outlet)

    assert refused.status_code == 500
    alerts = "select count(*) from public.alerts where kind = 'archive_damaged' and status = 'open'"
    assert house.books.value(alerts) >= 1
    manifests = "select count(*) from fiscal.archive_manifests where outlet_id = %s"
    assert house.books.value(manifests, outlet.outlet_id) == 0


def test_merchant_sees_their_archive_and_nobody_elses(outlet: Outlet, house: House) -> None:
    outlet.sealed()
    archived(outlet)
    path = f"/archive/outlets/{outlet.outlet_id}"

    assert house.merchant().api.get(path).status_code in (404, 409)
    assert outlet.merchant.api.post(path).status_code == 401
    assert outlet.merchant.api.get(path).json()["data"][0]["fiscal_number"].startswith("A-")


def test_archive_cannot_be_rewritten(outlet: Outlet, house: House) -> None:
    outlet.sealed()
    archived(outlet)

    for table in ("fiscal.archive_manifests", "fiscal.archive_copies"):
        with pytest.raises(Exception, match="append-only"):
            house.books.run(f"delete from {table}")  # noqa: S608
