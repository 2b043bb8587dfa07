"""Days anchored: a published, signed root, and for each document the way up to it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.fiscal.inclusion import NotIncluded, prove_inclusion
from shared.fiscal.merkle import path_of, root_of
from shared.fiscal.proof import PublishedKey, read_keys
from tests.support.house import House, own_house
from tests.support.outlets import Outlet

Json = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("integrity", "invoices", "merchants", "verify")
    with own_house("anchors", functions=functions, invoice_key_file=str(key)) as house:
        # The days of this file are its own.
        house.books.run("update public.cron_tasks set enabled = false where task = 'fiscal.anchor'")
        yield house


@pytest.fixture(scope="module")
def outlet(house: House) -> Outlet:
    """An outlet with five documents, among three outlets; anchored, and sealing again since."""
    outlet = Outlet(house)
    for _ in range(5):
        outlet.sealed()
    for _ in range(2):
        Outlet(house).sealed()
    anchor(house, "2026-01-01")
    return outlet


@pytest.fixture(scope="module")
def keys(house: House, outlet: Outlet) -> dict[str, PublishedKey]:
    del outlet  # before it there is no key
    return read_keys(house.http.get("/verify/keys").raise_for_status().json())


def anchor(house: House, day: str) -> None:
    """The first cron run of a day, and the signer's after it."""
    assert house.books.value("select fiscal.anchor_heads('sandbox', 'CD', %s)", day)
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}
    house.http.post("/invoices/sign", headers=bearer).raise_for_status()


def proof_of(outlet: Outlet, sequence: int) -> Json:
    number = f"TST-{outlet.code}-{sequence:06d}"
    return dict(outlet.merchant.api.get(f"/integrity/proofs/{number}").raise_for_status().json())


def published(house: House) -> list[Json]:
    answer = house.http.get("/integrity/anchors", params={"environment": "sandbox"})
    return list(answer.raise_for_status().json()["data"])


@pytest.mark.parametrize("sequence", [1, 2, 3, 4, 5])
def test_every_document_is_proved_with_published_keys_alone(
    sequence: int, house: House, outlet: Outlet, keys: dict[str, PublishedKey]
) -> None:
    proof = proof_of(outlet, sequence)

    place = prove_inclusion(proof, keys)

    sealed = outlet.chain()[sequence - 1]
    assert (place.outlet_id, place.entry_no) == (outlet.outlet_id, sequence)
    assert (place.entry_hash, place.anchored_on) == (sealed["entry_hash"], "2026-01-01")
    assert proof["anchor"]["signature"] in [each["signature"] for each in published(house)]


def test_root_is_that_of_all_heads(house: House, outlet: Outlet) -> None:
    rows = house.books.rows(
        "select h.*, a.root from fiscal.anchored_heads as h"
        " join fiscal.anchors as a using (anchor_id) where a.anchored_on = '2026-01-01'"
        " order by h.leaf_no"
    )
    leaves = [row["leaf"].encode() for row in rows]

    mine = next(row for row in rows if row["outlet_id"] == outlet.outlet_id)
    entries = [bytes.fromhex(row["entry_hash"]) for row in outlet.chain()[: mine["entry_no"]]]
    proof = proof_of(outlet, 3)

    assert {row["root"] for row in rows} == {root_of(leaves).hex()}
    assert json.loads(mine["leaf"])["entries_root"] == root_of(entries).hex()
    assert proof["entry_path"] == [node.hex() for node in path_of(entries, 2)]
    assert proof["head_path"] == [node.hex() for node in path_of(leaves, mine["leaf_no"] - 1)]


def flipped(text: str) -> str:
    return ("0" if text[0] != "0" else "1") + text[1:]


TAMPERINGS: dict[str, Callable[[Json], object]] = {
    "payload": lambda p: p["entry"].update(canonical_payload_hash="a" * 64),
    "time": lambda p: p["entry"].update(sealed_at="2020-01-01T00:00:00Z"),
    "number": lambda p: p["entry"].update(fiscal_number="TST-X-000001"),
    "place": lambda p: p["entry"].update(entry_no=p["entry"]["entry_no"] + 1),
    "entry hash": lambda p: p["entry"].update(entry_hash=flipped(p["entry"]["entry_hash"])),
    "entry path": lambda p: p["entry_path"].__setitem__(0, flipped(p["entry_path"][0])),
    "shorter path": lambda p: p["entry_path"].pop(),
    "outlet": lambda p: p["head"].update(outlet_id="out_other"),
    "head": lambda p: p["head"].update(entry_hash=flipped(p["head"]["entry_hash"])),
    "day": lambda p: p["head"].update(entries_root=flipped(p["head"]["entries_root"])),
    "head path": lambda p: p["head_path"].__setitem__(0, flipped(p["head_path"][0])),
    "head place": lambda p: p.update(head_no=p["head_no"] % 3 + 1),
    "root": lambda p: p["anchor"]["statement"].update(root="a" * 64),
    "date": lambda p: p["anchor"]["statement"].update(anchored_on="2020-01-01"),
    "size": lambda p: p["anchor"]["statement"].update(size=300),
    "key": lambda p: p["anchor"].update(key_id="cd-other"),
    "signature": lambda p: p["anchor"].update(signature="A" * 86),
    "shape": lambda p: p.pop("head"),
    "no hexadecimal": lambda p: p["entry_path"].__setitem__(0, "x"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampered_proof_proves_nothing(
    name: str, outlet: Outlet, keys: dict[str, PublishedKey]
) -> None:
    proof = proof_of(outlet, 2)

    TAMPERINGS[name](proof)

    with pytest.raises(NotIncluded):
        prove_inclusion(proof, keys)


def test_next_day_covers_what_came_since_and_names_the_root_before(
    house: House, outlet: Outlet, keys: dict[str, PublishedKey]
) -> None:
    late = outlet.sealed()
    path = f"/integrity/proofs/{late['fiscal_number']}"
    early = outlet.merchant.api.get(path)

    anchor(house, "2026-01-02")

    assert (early.status_code, early.json()["code"]) == (409, "40911")
    proof = dict(outlet.merchant.api.get(path).raise_for_status().json())
    assert prove_inclusion(proof, keys).anchored_on == "2026-01-02"
    assert (proof["head"]["from_entry"], proof["entry_path"]) == (6, [])
    second, first = published(house)
    assert second["statement"]["previous_root"] == first["statement"]["root"]
    assert prove_inclusion(proof_of(outlet, 1), keys).anchored_on == "2026-01-01"


def test_cron_anchors_each_place_once_a_day(house: House, outlet: Outlet) -> None:
    with house.books.connection.transaction(force_rollback=True):
        first = house.books.value("select fiscal.anchor_day()")
        again = house.books.value("select fiscal.anchor_day()")
        kept = house.books.value(
            "select count(*) from fiscal.anchors where anchored_on > '2026-02-01'"
        )

    assert (first, again, kept) == (1, 0, 1)
    assert outlet.outlet_id


def test_proof_belongs_to_its_owner(house: House, outlet: Outlet) -> None:
    stranger = house.merchant().api
    answer = stranger.get(f"/integrity/proofs/TST-{outlet.code}-000001")
    assert answer.status_code == 404
    assert stranger.get("/integrity/conflicts").json()["data"] == []


@pytest.mark.parametrize(
    "change",
    [
        "update fiscal.anchors set root = repeat('a', 64)",
        "delete from fiscal.anchored_heads",
        "update signing.statements set body = '{}'",
        "update signing.statements set signature = 'A'",
        "delete from signing.statements",
        "truncate fiscal.conflicts",
    ],
)
def test_what_was_published_never_changes(change: str, house: House, outlet: Outlet) -> None:
    assert outlet.outlet_id

    with pytest.raises(Exception, match=r"append-only|never changes"):
        house.books.run(change)
