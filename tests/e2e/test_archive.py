"""Sealed documents are kept where nobody can take them away, and what is kept can be believed."""

import gzip
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from scripts import restore_archive
from scripts.stack.oss.app import BUCKET, REGION
from scripts.stack.oss.testing import Vaulted
from shared.canonical import canonical_bytes
from tests.support.days import begin_in_one_day
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import Json, until

ALWAYS = 10_000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("archive", "integrity", "invoices", "merchants")
    with own_house("archive", functions=functions, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture
def store(house: House) -> Iterator[Vaulted]:
    """The object storage. Cron archives whenever it likes: a fault names the outlet it is for."""
    with httpx.Client(base_url=house.stack.archive_url, timeout=15, trust_env=False) as http:
        store = Vaulted(house.stack.archive_url, http)
        yield store
        store.disarm()


@pytest.fixture
def outlet(house: House) -> Outlet:
    begin_in_one_day("UTC")  # what was sealed yesterday is archived by itself
    return Outlet(house)


def as_platform(house: House, path: str) -> httpx.Response:
    """POST as the platform itself."""
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}
    return house.http.post(path, headers=bearer)


def archive(outlet: Outlet) -> httpx.Response:
    """Have one outlet archived now."""
    return as_platform(outlet.house, f"/archive/outlets/{outlet.outlet_id}")


def archived(outlet: Outlet, ranges: int = 1) -> list[Json]:
    """What is kept of an outlet, oldest first, once so many manifests have their signature."""

    def look() -> list[Json] | None:
        archive(outlet).raise_for_status()
        # As cron does every few seconds, once its first minute has begun.
        as_platform(outlet.house, "/invoices/sign").raise_for_status()
        path = f"/archive/outlets/{outlet.outlet_id}"
        found = outlet.merchant.api.get(path).raise_for_status().json()["data"]
        return found if sum(one["verified_at"] is not None for one in found) >= ranges else None

    return until(look, f"{ranges} manifests kept")[::-1]


def ends(outlet: Outlet) -> list[int]:
    """Where the ranges of an outlet end that have their manifest in its chain."""
    return outlet.house.books.column(
        "select last_entry from fiscal.archive_manifests where outlet_id = %s order by last_entry",
        outlet.outlet_id,
    )


def damaged(outlet: Outlet) -> list[str]:
    """The objects of an outlet that people were told about."""
    return outlet.house.books.column(
        "select subject from public.alerts"
        " where kind = 'archive_damaged' and status = 'open' and strpos(subject, %s) > 0"
        " order by alert_id",
        outlet.outlet_id,
    )


def on_disk(house: House, key: str) -> Path:
    """The file that is an object; what the endpoint knows of it is beside, as .json."""
    return house.stack.state / "oss/objects" / sha256(key.encode()).hexdigest()


def kept(house: House, key: str) -> bytes:
    """The bytes of an object, from the disk of the endpoint."""
    return on_disk(house, key).read_bytes()


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


def test_chain_with_manifests_in_it_still_walks(outlet: Outlet) -> None:
    outlet.sealed()
    archived(outlet)
    outlet.sealed()
    archived(outlet, 2)
    api = outlet.merchant.api

    asked = outlet.merchant.post("/integrity/walks", {"outlet_id": outlet.outlet_id})

    def over() -> Json | None:
        walk = api.get(f"/integrity/walks/{asked.json()['id']}").raise_for_status().json()
        return None if walk["status"] == "running" else dict(walk)

    walk = until(over, "the walk over")
    assert walk["finding"] is None
    assert (walk["status"], walk["to_entry"]) == ("sound", 4)


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

    assert ends(outlet) == [1]
    house.books.run(
        "delete from signing.signing_queue where fiscal_number = %s", late["fiscal_number"]
    )


@pytest.mark.parametrize("fault", ["down", "lost_answer", "cut"])
def test_outage_delays_and_loses_nothing(fault: str, outlet: Outlet, store: Vaulted) -> None:
    outlet.sealed()
    store.arm(fault, outlet.outlet_id)

    refused = archive(outlet)

    assert (refused.status_code, refused.json()["code"]) == (503, "50301")
    assert len(archived(outlet)) == 1


def test_damage_on_the_way_is_refused_and_sent_again(outlet: Outlet, store: Vaulted) -> None:
    outlet.sealed()
    store.arm("garble", outlet.outlet_id)

    refused = archive(outlet)

    assert refused.status_code == 500
    assert [name for name in store.names() if outlet.outlet_id in name] == []
    assert len(archived(outlet)) == 1
    assert damaged(outlet) == []


def test_damage_in_the_storage_is_an_alert_and_no_archive(outlet: Outlet, store: Vaulted) -> None:
    outlet.sealed()
    store.arm("damage", outlet.outlet_id)

    refused = archive(outlet)

    assert refused.status_code == 500
    assert damaged(outlet) == [name for name in store.names() if outlet.outlet_id in name]
    assert ends(outlet) == []


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


def age(house: House, outlet: Outlet, entry_no: int) -> None:
    """Make an entry a day old, as no trigger would allow."""
    with house.books.connection.transaction():
        house.books.run("set local session_replication_role = replica")
        house.books.run(
            "update fiscal.fiscal_ledger as l set sealed_at = x.at, entry_hash = encode(sha256("
            "convert_to(concat_ws(E'\n', l.fiscal_number, l.canonical_payload_hash, x.at,"
            " l.previous_hash), 'UTF8')), 'hex') from (select to_char((now() - interval '1 day')"
            " at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at) as x"
            " where l.outlet_id = %s and l.entry_no = %s",
            outlet.outlet_id,
            entry_no,
        )


def in_the_night(outlet: Outlet, ranges: int = 1) -> list[int]:
    """Where an outlet's ranges end, once there are so many, as cron makes them."""

    def look() -> list[int] | None:
        as_platform(outlet.house, "/archive")  # whatever may fail for others
        found = ends(outlet)
        return found if len(found) >= ranges else None

    return until(look, f"{ranges} ranges of the days that are over")


def test_night_archives_the_days_that_are_over_and_no_other(
    outlet: Outlet, house: House, store: Vaulted
) -> None:
    store.arm("down", outlet.outlet_id, ALWAYS)  # or cron may have archived it before we look
    outlet.sealed()
    outlet.sealed()
    age(house, outlet, 1)
    assert house.books.value("select fiscal.poke_archive()") is True
    store.disarm()

    assert in_the_night(outlet) == [1]


def test_outlet_that_fails_stops_no_other(outlet: Outlet, house: House, store: Vaulted) -> None:
    well = Outlet(house)
    store.arm("damage", outlet.outlet_id, ALWAYS)
    for one in (outlet, well):  # the one whose id is smaller comes first
        one.sealed()
        age(house, one, 1)

    assert in_the_night(well) == [1]
    assert ends(outlet) == []
    store.disarm()
    assert in_the_night(outlet) == [1]


def test_manifest_that_cannot_be_kept_stops_no_day_and_nobody_who_asks(
    outlet: Outlet, house: House, store: Vaulted
) -> None:
    well = Outlet(house)
    store.arm("damage", rf"{outlet.outlet_id}.*\.manifest\.", ALWAYS)
    outlet.sealed()

    def spoilt() -> list[str]:
        archive(outlet)
        as_platform(house, "/invoices/sign").raise_for_status()
        return damaged(outlet)

    until(spoilt, "a manifest spoilt")
    for one, entry_no in ((outlet, 3), (well, 1)):  # entry 2 of the one is the manifest
        one.sealed()
        age(house, one, entry_no)

    assert in_the_night(outlet, 2) == [1, 3]
    assert in_the_night(well) == [1]
    well.sealed()
    assert archive(well).status_code == 200


def test_bucket_that_forgets_is_given_nothing(outlet: Outlet, house: House, store: Vaulted) -> None:
    outlet.sealed()
    policy = house.stack.state / "oss/worm.json"
    hidden = policy.rename(policy.with_suffix(".away"))

    refused = archive(outlet)
    hidden.rename(policy)

    assert refused.status_code == 500
    assert [name for name in store.names() if outlet.outlet_id in name] == []
    details = "select details ->> 'reason' from public.alerts where kind = 'archive_unprotected'"
    assert house.books.column(details) == [
        "the bucket keeps objects for 0 days, and the law wants 3653"
    ]
    assert len(archived(outlet)) == 1


def test_operator_may_ask_for_an_archive_and_is_on_record(outlet: Outlet, house: House) -> None:
    outlet.sealed()
    path = f"/archive/outlets/{outlet.outlet_id}"
    owner = house.client(outlet.merchant.token("owner"))

    assert owner.post(path).status_code == 403
    assert as_platform(house, "/archive/outlets/out_nobody").status_code == 404
    assert archive(outlet).status_code == 200
    audit = "select actor, action from public.audit_log where subject = %s and action like %s"
    (entry,) = house.books.rows(audit, outlet.outlet_id, "outlet.archive")
    assert entry["actor"] == "system"


# --- restoring


@pytest.fixture
def at_the_store(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of who restores."""
    keys = house.stack.keys
    for name, value in {
        "ENDPOINT": house.stack.archive_url,
        "REGION": REGION,
        "BUCKET": BUCKET,
        "ACCESS_KEY_ID": keys["oss_access_key_id"],
        "ACCESS_KEY_SECRET": keys["oss_access_key_secret"],
    }.items():
        monkeypatch.setenv(f"OSS_{name}", str(value))


def forge(house: House, key: str, body: bytes) -> str:
    """Replace an object on the disk, as who runs the storage could; its name has their digest."""
    old = on_disk(house, key)
    name = re.sub(r"\.[0-9a-f]{16}\.", f".{sha256(body).hexdigest()[:16]}.", key)
    facts = json.loads(old.with_suffix(".json").read_text()) | {"key": name}
    old.unlink()
    old.with_suffix(".json").unlink()
    on_disk(house, name).write_bytes(body)
    on_disk(house, name).with_suffix(".json").write_text(json.dumps(facts))
    return name


def part_of(house: House, manifest: Json, kind: str) -> str:
    """The object of one kind that a manifest names."""
    signed = json.loads(kept(house, manifest["object_key"]))
    return next(part["key"] for part in signed["manifest"]["objects"] if part["kind"] == kind)


def outlet_prefix(manifest: Json) -> str:
    return str(manifest["prefix"]).rsplit("/", 4)[0] + "/"


@pytest.mark.usefixtures("at_the_store")
def test_archive_is_restored_into_a_scratch_schema_and_verifies(
    outlet: Outlet, house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    sales = [outlet.sealed() for _ in range(2)]
    archived(outlet)
    sales.append(outlet.sealed())
    ranges = archived(outlet, 2)
    schema = f"restored_{outlet.code.lower()}"

    code = restore_archive.main(
        [
            outlet_prefix(ranges[0]),
            f"--database={house.stack.dsn('supabase_admin')}",
            f"--schema={schema}",
        ]
    )

    said = capsys.readouterr().out
    assert (code, said.splitlines()[-1]) == (
        0,
        "verified with the archive's own keys: 4 entries, 3 documents",
    )
    held = "select document from {}.documents order by fiscal_number"
    assert house.books.column(held.format(schema)) == sales
    chain = f"select count(*) from {schema}.ledger as l join {schema}.signatures as s using (fiscal_number)"  # noqa: E501, S608
    assert house.books.value(chain) == 4
    alike = f"select count(*) from (table {schema}.ledger intersect table fiscal.fiscal_ledger) x"  # noqa: S608
    assert house.books.value(alike) == 4


@pytest.mark.usefixtures("at_the_store")
def test_archive_that_cannot_be_restored_is_one_sentence(
    outlet: Outlet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outlet.sealed()
    (manifest,) = archived(outlet)
    keys = tmp_path / "keys.json"
    keys.write_text("{")

    codes = [
        restore_archive.main([manifest["prefix"], *options])
        for options in ([f"--keys={keys}"], ["--keys=none.json"], ["--database=port=1 host=::1"])
    ]

    said = capsys.readouterr().err.splitlines()
    assert codes == [2, 2, 2]
    assert said[0].startswith(f"restore-archive: {keys} is not JSON: ")
    assert said[1] == "restore-archive: none.json cannot be read: No such file or directory"
    assert said[2].startswith("restore-archive: nothing was restored: connection")


@pytest.mark.parametrize("kind", ["ledger", "manifest"])
@pytest.mark.usefixtures("at_the_store")
def test_corrupted_object_is_found(
    kind: str, outlet: Outlet, house: House, store: Vaulted, capsys: pytest.CaptureFixture[str]
) -> None:
    outlet.sealed()
    (manifest,) = archived(outlet)
    name = manifest["object_key"] if kind == "manifest" else part_of(house, manifest, kind)
    assert restore_archive.main([manifest["prefix"]]) == 0

    store.rot(name)

    assert restore_archive.main([manifest["prefix"]]) == 2
    assert f"{name} is not what was kept" in capsys.readouterr().err


@pytest.mark.usefixtures("at_the_store")
def test_what_the_storage_spoilt_gets_another_name_and_is_never_taken_for_good(
    outlet: Outlet, house: House, store: Vaulted, capsys: pytest.CaptureFixture[str]
) -> None:
    outlet.sealed()
    for kind in ("ledger", "manifest"):
        store.arm("damage", rf"{outlet.outlet_id}.*\.{kind}\.")
    assert archive(outlet).status_code == 500

    def both_spoilt() -> list[str] | None:
        archive(outlet)
        as_platform(house, "/invoices/sign").raise_for_status()
        return damaged(outlet) if len(damaged(outlet)) == 2 else None

    ledger, first_manifest = until(both_spoilt, "a manifest spoilt too")
    (manifest,) = archived(outlet)

    assert part_of(house, manifest, "ledger") == ledger.replace(".jsonl", ".2.jsonl")
    assert manifest["object_key"] == first_manifest.replace(".json", ".2.json")
    assert restore_archive.main([manifest["prefix"]]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:-1] == [f"not used: {ledger}, spoilt", f"not used: {first_manifest}, spoilt"]


@pytest.mark.usefixtures("at_the_store")
def test_forged_object_needs_a_forged_ledger(
    outlet: Outlet, house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    outlet.sealed()
    (manifest,) = archived(outlet)
    documents = part_of(house, manifest, "documents")
    forged = gzip.compress(gzip.decompress(kept(house, documents)).replace(b"1160.00", b"1.00"))
    forged_documents = forge(house, documents, forged)
    signed = json.loads(kept(house, manifest["object_key"]))
    for part in signed["manifest"]["objects"]:
        if part["key"] == documents:
            part |= {"key": forged_documents, "sha256": sha256(forged).hexdigest()}
    signed_name = forge(house, manifest["object_key"], json.dumps(signed).encode())

    assert restore_archive.main([manifest["prefix"]]) == 1
    said = capsys.readouterr().out
    assert "manifest 1-1: it is not the one that is in the ledger" in said
    assert f"TST-{outlet.code}-000001: the document's hash is" in said

    entry = signed["entry"]
    entry["canonical_payload_hash"] = sha256(canonical_bytes(signed["manifest"])).hexdigest()
    forge(house, signed_name, json.dumps(signed).encode())

    assert restore_archive.main([manifest["prefix"]]) == 1
    said = capsys.readouterr().out
    assert f"A-{outlet.code}-000001: the entry hash is" in said
    assert "did not sign what the seal object says" in said


@pytest.mark.usefixtures("at_the_store")
def test_day_that_is_not_there_is_told_from_one_that_verifies(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert house.stack.archive_url
    assert restore_archive.main(["fiscal/CD/nobody/"]) == 2
    assert "there is no manifest" in capsys.readouterr().err
