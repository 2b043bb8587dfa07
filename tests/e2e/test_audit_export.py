"""The audit archive: proved offline, and every way of tampering with it is found and named."""

import json
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from scripts import verify_audit
from shared.canonical import canonical_bytes
from shared.fiscal.audit import ENTRIES, KEYS, MANIFEST, Contents, Place, read_entry
from shared.fiscal.proof import read_keys
from tests.e2e.test_reports import closed, house, outlet
from tests.support.house import House
from tests.support.outlets import Outlet

__all__ = ["house", "outlet"]

Json = dict[str, Any]
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def sold(house: House) -> Outlet:
    """An outlet with three documents and a Z, all signed."""
    made = Outlet(house)
    sale = made.sealed()
    made.sealed(invoice_type="credit_note", original_fiscal_number=sale["fiscal_number"],
                credit_reason="cancellation")  # fmt: skip
    made.sealed()
    closed(made)
    return made


@pytest.fixture(scope="module")
def archive(sold: Outlet) -> bytes:
    return exported(sold)


@pytest.fixture(scope="module")
def published(house: House) -> Json:
    """The keys as GET /verify/keys gives them."""
    return {"keys": house.books.value("select signing.published_keys()")}


def exported(outlet: Outlet, **asked: Any) -> bytes:
    """The archive of the year that holds the day on which it sold."""
    chunk = (outlet.first_day().timetuple().tm_yday - 1) // 31 + 1
    params = {"outlet_id": outlet.outlet_id, "chunk_index": chunk} | outlet.year() | asked
    answer = outlet.merchant.api.get("/reports/audit-export", params=params)
    assert answer.status_code == 200, answer.text
    return answer.content


def unpacked(archive: bytes) -> Files:
    with ZipFile(BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def verified(files: Files | bytes, folder: Path, published: Json | None = None) -> list[str]:
    """What verify-audit finds wrong."""
    path, keys = folder / "audit.zip", folder / "keys.json"
    if isinstance(files, bytes):
        path.write_bytes(files)
    else:
        with ZipFile(path, "w") as file:
            for name, body in files.items():
                file.writestr(name, body)
    if published:
        keys.write_text(json.dumps(published))
    return verify_audit.verify([path], verify_audit.keys_in(keys) if published else None)[1]


def test_archive_is_proved_with_the_published_keys(
    archive: bytes, published: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.zip").write_bytes(archive)
    (tmp_path / "keys.json").write_text(json.dumps(published))

    code = verify_audit.main([str(tmp_path / "a.zip"), "--keys", str(tmp_path / "keys.json")])

    assert code == 0
    assert "verified: a.zip: 4 entries" in capsys.readouterr().out


def test_same_range_is_the_same_archive(archive: bytes, sold: Outlet) -> None:
    assert exported(sold) == archive


@pytest.mark.parametrize("place", range(4))
def test_changed_byte_in_any_file_is_found(place: int, archive: bytes, tmp_path: Path) -> None:
    files = unpacked(archive)
    name = sorted(files)[place]
    at = len(files[name]) // 2
    body = files[name]

    found = verified(files | {name: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]}, tmp_path)

    assert len(files) == 4
    assert found


@pytest.mark.parametrize("name", [ENTRIES, KEYS, MANIFEST, "reports"])
def test_missing_file_is_found(name: str, archive: bytes, tmp_path: Path) -> None:
    files = {path: body for path, body in unpacked(archive).items() if not path.startswith(name)}

    assert verified(files, tmp_path)


def test_file_that_does_not_belong_is_found(archive: bytes, tmp_path: Path) -> None:
    found = verified(unpacked(archive) | {"more.txt": b"x"}, tmp_path)

    assert found == ["audit.zip: more.txt does not belong here"]


def amount(entries: list[Json]) -> None:
    entries[0]["payload"]["totals"]["total"] = "1.00"


def kind(entries: list[Json]) -> None:
    entries[0]["record_type"] = "advance"


def number(entries: list[Json]) -> None:
    entries[0]["sequence"] = 2


def time(entries: list[Json]) -> None:
    entries[0]["sealed_at"] = "2026-01-01T00:00:00Z"


def dropped(entries: list[Json]) -> None:
    del entries[1]


def swapped(entries: list[Json]) -> None:
    entries[0], entries[1] = entries[1], entries[0]


def signature(entries: list[Json]) -> None:
    entries[0]["signature"]["signature"] = entries[1]["signature"]["signature"]


def code(entries: list[Json]) -> None:
    entries[0]["signature"]["auth_code"] = "0000-0000-0000-0000"


def unsigned(entries: list[Json]) -> None:
    entries[0]["signature"] = None


def z_total(entries: list[Json]) -> None:
    entries[3]["payload"]["grand_totals"][0]["net"]["total"] = "0.00"


def emptied(entries: list[Json]) -> None:
    entries[0]["payload"] = None


def unnumbered(entries: list[Json]) -> None:
    """As if the second document was never sealed, and a day passed after the third."""
    del entries[1]
    entries[2]["sealed_at"] = "2099-01-01T00:00:00Z"


def z_number(entries: list[Json]) -> None:
    entries[3] |= {"series_no": 2, "fiscal_number": entries[3]["fiscal_number"][:-1] + "2"}


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (amount, "000001: the document's hash is"),
        (kind, "000001: its row says something else"),
        (number, "000001: its row says something else"),
        (time, "000001: the entry hash is"),
        (dropped, "000003: is entry 3 after 1"),
        (swapped, "000001: is entry 1 after 2"),
        (signature, "000001: cd-es256"),
        (code, "000001: the authentication code"),
        (unsigned, "000001: is not signed"),
        (z_total, "000001: the document's hash is"),
        (emptied, "000001: its document is missing"),
        (unnumbered, "documents: no entry has number 2"),
        (z_number, "report_z: no entry has number 1"),
    ],
)
def test_entry_that_was_tampered_with_is_named_even_under_a_new_manifest(
    change: Callable[[list[Json]], None], culprit: str, archive: bytes, tmp_path: Path
) -> None:
    files = unpacked(archive)
    entries = [json.loads(line) for line in files[ENTRIES].splitlines()]

    change(entries)
    found = verified(sealed_again(files, entries), tmp_path)

    assert any(culprit in line for line in found), found


def test_archives_of_one_outlet_must_go_on_from_each_other(
    archive: bytes, tmp_path: Path, published: Json
) -> None:
    files = unpacked(archive)
    entries = [json.loads(line) for line in files[ENTRIES].splitlines()]
    parts = {"a": entries[:1], "b": entries[1:2], "c": entries[2:]}
    for name, part in parts.items():
        with ZipFile(tmp_path / f"{name}.zip", "w") as file:
            for path, body in sealed_again(files, part).items():
                file.writestr(path, body)

    whole = [tmp_path / f"{name}.zip" for name in ("c", "a", "b")]

    assert verify_audit.verify(whole, read_keys(published))[1] == []
    assert verify_audit.verify(whole[:2], read_keys(published))[1] == [
        "c.zip: does not go on where a.zip ended"
    ]


def test_key_that_nobody_published_is_found(
    archive: bytes, tmp_path: Path, published: Json
) -> None:
    other = json.loads(json.dumps(published))
    other["keys"][0]["key_id"] = "cd-es256-other"

    found = verified(archive, tmp_path, other)

    assert any("is not the published key" in line for line in found), found
    assert any("is not among the published keys" in line for line in found), found


def test_export_is_for_those_who_may_read_the_audit_trail(sold: Outlet, house: House) -> None:
    asked = {"outlet_id": sold.outlet_id} | sold.year()
    answers = {
        role: house.client(sold.merchant.token(role)).get("/reports/audit-export", params=asked)
        for role in ("cashier", "developer", "auditor")
    }

    assert {role: answer.status_code for role, answer in answers.items()} == {
        "cashier": 403,
        "developer": 403,
        "auditor": 200,
    }


def test_archive_beyond_the_last_is_refused(sold: Outlet) -> None:
    asked = {"outlet_id": sold.outlet_id, "from": "2026-11-01", "to": "2026-11-30"}

    answer = sold.merchant.api.get("/reports/audit-export", params=asked | {"chunk_index": 2})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/chunk_index")


def sealed_again(files: Files, entries: list[Json]) -> Files:
    """As somebody who knows the format would do it: files, digests and counts in agreement."""
    made = {KEYS: files[KEYS], ENTRIES: b"".join(canonical_bytes(e) + b"\n" for e in entries)}
    for entry in entries:
        if entry["record_type"] == "report_z":
            made[f"reports/{entry['fiscal_number']}.json"] = canonical_bytes(entry["payload"])
    said = json.loads(files[MANIFEST])
    names = ("environment", "jurisdiction", "outlet_id", "fiscal_authority_id")
    contents = Contents(Place(**{name: said[name] for name in names}))
    for line in made[ENTRIES].splitlines():
        contents.add(read_entry(line))
    listed = {name: (len(body), sha256(body).hexdigest()) for name, body in made.items()}
    return made | {MANIFEST: canonical_bytes(contents.manifest(listed))}
