"""Which key signs which entry, whoever holds which key and whenever keys change."""

import json
import threading
from hashlib import sha256

import pytest
import rfc8785

from tests.sql.signing.chains import Chains
from tests.support.sql import Refused, at_once


def test_first_key_is_registered_and_none_replaces_it_silently(chains: Chains) -> None:
    mine = chains.register("mine")

    assert mine.startswith(f"{chains.jurisdiction.lower()}-es256-test-2")
    assert chains.register("mine") == mine
    assert chains.register("theirs") == mine


def test_instances_that_start_together_register_one_key(chains: Chains) -> None:
    def register(name: str) -> str:
        with chains.elsewhere() as other:
            return other.register(name)

    ids = at_once([lambda name=f"k{n}": register(name) for n in range(6)])

    assert len(set(ids)) == 1


def test_rotation_is_an_entry_before_the_first_that_the_new_key_signs(chains: Chains) -> None:
    old = chains.register("old")
    before = chains.seal()
    new = chains.rotate(old, "new")
    after = chains.seal()

    first, rotation, last = chains.entries()

    assert (first["fiscal_number"], first["key_id"]) == (before, old)
    assert (last["fiscal_number"], last["key_id"]) == (after, new)
    code = chains.books.value(
        "select outlet_code from fiscal.outlets where outlet_id = %s", chains.outlet
    )
    assert (rotation["record_type"], rotation["key_id"], rotation["sequence"]) == (
        "key_rotation",
        new,
        None,
    )
    assert rotation["fiscal_number"] == f"K-{code}-000001"
    assert rotation["previous_hash"] == first["entry_hash"]


def test_words_of_a_rotation_are_canonical_and_name_both_keys(chains: Chains) -> None:
    old = chains.register("old")
    chains.seal()
    new = chains.rotate(old, "new")
    chains.seal()

    _, rotation, _ = chains.entries()
    (body,) = chains.books.column(
        "select body from signing.key_rotations where outlet_id = %s", chains.outlet
    )

    words = json.loads(body)
    assert rfc8785.dumps(words) == body.encode()
    assert sha256(body.encode()).hexdigest() == rotation["canonical_payload_hash"]
    assert words == {
        "fiscal_number": rotation["fiscal_number"],
        "from_key_id": old,
        "from_public_key_sha256": sha256(b"old").hexdigest(),
        "outlet_id": chains.outlet,
        "record_type": "key_rotation",
        "to_key_id": new,
        "to_public_key_sha256": sha256(b"new").hexdigest(),
    }


def test_every_chain_follows_when_it_grows_and_only_then(chains: Chains) -> None:
    other = chains.add_outlet()
    key = chains.register("one")
    chains.seal()
    chains.seal(other)
    for name in ("two", "three"):
        key = chains.rotate(key, name)
        chains.seal()

    chains.seal(other)

    types = [entry["record_type"] for entry in chains.entries()]
    assert types == ["report_z", "key_rotation", "report_z", "key_rotation", "report_z"]
    assert [entry["record_type"] for entry in chains.entries(other)] == [
        "report_z",
        "key_rotation",
        "report_z",
    ]


def test_old_key_signs_what_was_sealed_under_it_and_nothing_later(chains: Chains) -> None:
    old = chains.register("old")
    before = chains.seal()
    new = chains.rotate(old, "new")
    after = chains.seal()

    by_old = {number: chains.attach(number, old) for number in (before, after)}
    by_new = {number: chains.attach(number, new) for number in (before, after)}

    assert by_old == {before: 201, after: 202}
    assert by_new == {before: 201, after: 201}, "the first was signed already"
    assert chains.log(before) == [("signed", old), ("discarded", new)]
    assert chains.log(after) == [("discarded", old), ("signed", new)]
    signed = {row["fiscal_number"]: row["key_id"] for row in chains.entries()}
    assert (signed[before], signed[after]) == (old, new)


def test_new_key_does_not_sign_what_was_sealed_before_it(chains: Chains) -> None:
    old = chains.register("old")
    before = chains.seal()
    new = chains.rotate(old, "new")

    assert chains.attach(before, new) == 202
    assert chains.log(before) == [("discarded", new)]


def test_rotation_waits_for_what_is_being_sealed(chains: Chains) -> None:
    old = chains.register("old")
    rotated: list[str] = []

    def rotate() -> None:
        with chains.elsewhere() as other:
            rotated.append(other.rotate(old, "new"))

    with chains.elsewhere() as sealer, sealer.books.connection.transaction():
        during = sealer.seal()
        thread = threading.Thread(target=rotate)
        thread.start()
        thread.join(0.5)
        assert not rotated
        assert thread.is_alive()
    thread.join(5)
    after = chains.seal()

    keys = {row["fiscal_number"]: row["key_id"] for row in chains.entries()}
    assert (keys[during], keys[after]) == (old, rotated[0])
    until = chains.books.value(
        "select to_char(valid_until at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        " from signing.keys where key_id = %s",
        old,
    )
    sealed_at = {row["fiscal_number"]: row["sealed_at"] for row in chains.entries()}
    assert sealed_at[during] <= until <= sealed_at[after]


def test_entry_that_waits_for_a_rotation_is_sealed_under_the_new_key(chains: Chains) -> None:
    old = chains.register("old")
    sealed: list[str] = []

    def seal() -> None:
        with chains.elsewhere() as other:
            sealed.append(other.seal())

    with chains.database.connect() as other, other.transaction():
        other.execute("set local role fn_invoices")
        key = chains.key("new")
        other.execute(
            "select signing.rotate_key(%s, 'test', %s, %s, %s, %s, %s)", [old, *key.values()]
        )
        thread = threading.Thread(target=seal)
        thread.start()
        thread.join(0.5)
        assert not sealed
    thread.join(5)

    assert [row["key_id"] == old for row in chains.entries()] == [False]
    assert len(sealed) == 1


def test_two_rotations_of_one_key_make_one(chains: Chains) -> None:
    old = chains.register("old")

    def rotate(name: str) -> str:
        with chains.elsewhere() as other:
            return other.rotate(old, name)

    results = at_once([lambda name=f"n{n}": rotate(name) for n in range(4)])

    refused = [result for result in results if isinstance(result, Refused)]
    assert [one.code for one in refused] == ["40911"] * 3
    active = "select count(*) from signing.keys where jurisdiction = %s and status = 'active'"
    assert chains.books.value(active, chains.jurisdiction) == 1


def test_key_that_signed_before_is_not_made_active_again(chains: Chains) -> None:
    old = chains.register("old")
    new = chains.rotate(old, "new")

    with pytest.raises(Refused, match="is not made active again"):
        chains.rotate(new, "old")
    with pytest.raises(Refused, match="another one is active"):
        chains.rotate(old, "newer")
    assert chains.call("plan_rotation", key_id=new) == ["b2xk", "bmV3"]


# --- revocation


def revoke(chains: Chains, key_id: str) -> None:
    chains.call("revoke_key", chains.operator(), key_id=key_id, reason="it leaked")


def test_revoked_key_signs_nothing_and_what_waited_for_it_gets_the_next(chains: Chains) -> None:
    old = chains.register("old")
    waiting = chains.seal()
    new = chains.rotate(old, "new")

    revoke(chains, old)

    assert chains.attach(waiting, old) == 202
    assert chains.attach(waiting, new) == 201
    assert chains.log(waiting) == [("discarded", old), ("signed", new)]
    (row,) = chains.books.rows("select * from signing.keys where key_id = %s", old)
    assert (row["status"], row["revoked_at"] is not None) == ("revoked", True)
    audited = chains.books.rows("select * from public.audit_log where subject = %s", old)
    assert [(one["action"], one["details"]) for one in audited] == [
        ("signing.key_registered", {"alg": "ES256", "provider": "local"}),
        ("signing.key_revoked", {"reason": "it leaked"}),
    ]


def test_documents_are_numbered_while_no_key_is_active(chains: Chains) -> None:
    old = chains.register("old")
    chains.seal()
    revoke(chains, old)
    orphan = chains.seal()

    with pytest.raises(Refused, match="is revoked and is not made active again"):
        chains.register("old")
    assert chains.attach(orphan, old) == 202
    new = chains.rotate(old, "new")
    assert chains.attach(orphan, new) == 201
    chains.seal()

    assert [(row["record_type"], row["key_id"]) for row in chains.entries()] == [
        ("report_z", None),
        ("report_z", new),
        ("key_rotation", new),
        ("report_z", new),
    ]


def test_key_is_revoked_once_by_operators_alone(chains: Chains) -> None:
    key = chains.register("key")

    with pytest.raises(Refused) as merchant:
        chains.call("revoke_key", chains.operator("owner"), key_id=key, reason="mine")
    revoke(chains, key)
    with pytest.raises(Refused) as again:
        revoke(chains, key)
    with pytest.raises(Refused) as nothing:
        revoke(chains, "no-such-key")

    assert [one.value.code for one in (merchant, again, nothing)] == ["40311", "40911", "40401"]


def test_signature_and_revocation_at_once_leave_one_truth(chains: Chains) -> None:
    old = chains.register("old")
    waiting = chains.seal()
    chains.rotate(old, "new")
    statuses: list[int] = []

    def attach() -> None:
        with chains.elsewhere() as other:
            statuses.append(other.attach(waiting, old))

    headers = json.dumps(chains.operator())
    with chains.database.connect() as other, other.transaction():
        other.execute("select set_config('request.headers', %s, true)", [headers])
        other.execute("set local role fn_invoices")
        other.execute("select signing.revoke_key(%s, 'it leaked')", [old])
        thread = threading.Thread(target=attach)
        thread.start()
        thread.join(0.5)
        assert not statuses
    thread.join(5)

    assert statuses == [202]
    assert chains.log(waiting) == [("discarded", old)]


# --- when it is time


def test_key_is_replaced_after_a_year_and_missed_after_a_week(chains: Chains) -> None:
    key = chains.register("key")
    due = "select count(*) from signing.keys_to_rotate() as k where k = %s"
    age = "update signing.keys set valid_from = now() - make_interval(days => %s) where key_id = %s"

    chains.books.run(age, 364, key)
    assert chains.books.value(due, key) == 0
    chains.books.run(age, 366, key)
    assert chains.books.value(due, key) == 1
    assert chains.books.value("select signing.poke_rotation()") is True
    assert chains.books.alerts(key) == []
    chains.books.run(age, 373, key)
    chains.books.value("select signing.poke_rotation()")
    assert chains.books.alerts(key) == ["key_rotation_overdue"]

    chains.rotate(key, "next")

    assert chains.books.alerts(key) == []
