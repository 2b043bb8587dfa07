"""Chains walked for real: every column of what was sealed, changed behind the API, is found."""

# ruff: noqa: S608 -- tables and changes are constants of this file

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from functions.integrity.walking import first_forged
from tests.support.house import House, new_key, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until

Json = dict[str, Any]

TABLES = ("fiscal.fiscal_ledger", "fiscal.invoices", "fiscal.signatures")
# What is done to the third entry of five, and the entry and check that must name it.
TAMPERINGS = [
    ("fiscal.fiscal_ledger", "outlet_id", "'out_of_another'", 4, "entry_no"),
    ("fiscal.fiscal_ledger", "entry_no", "99", 4, "entry_no"),
    ("fiscal.fiscal_ledger", "tenant_id", "'tn_other'", 3, "entry"),
    ("fiscal.fiscal_ledger", "environment", "'production'", 3, "entry"),
    ("fiscal.fiscal_ledger", "record_type", "'export'", 3, "document"),
    ("fiscal.fiscal_ledger", "record_type", "'report_z'", 3, "entry"),
    ("fiscal.fiscal_ledger", "fiscal_number", "'TST-X-000003'", 3, "entry_hash"),
    ("fiscal.fiscal_ledger", "series_no", "30", 3, "entry"),
    ("fiscal.fiscal_ledger", "sequence", "30", 3, "entry"),
    ("fiscal.fiscal_ledger", "sequence", "null", 3, "entry"),
    ("fiscal.fiscal_ledger", "canonical_payload_hash", "repeat('a', 64)", 3, "entry_hash"),
    ("fiscal.fiscal_ledger", "sealed_at", "'2020-01-01T00:00:00Z'", 3, "entry_hash"),
    ("fiscal.fiscal_ledger", "previous_hash", "repeat('b', 64)", 3, "previous_hash"),
    ("fiscal.fiscal_ledger", "entry_hash", "repeat('c', 64)", 3, "entry_hash"),
    ("fiscal.fiscal_ledger", "chain_version", "2", 3, "entry"),
    ("fiscal.fiscal_ledger", "invoice_id", "null", 3, "payload_hash"),
    ("fiscal.fiscal_ledger", "created_at", "created_at - interval '1 day'", 3, "document"),
    ("fiscal.invoices", "invoice_id", "'inv_other'", 3, "payload_hash"),
    ("fiscal.invoices", "tenant_id", "'tn_other'", 3, "document"),
    ("fiscal.invoices", "environment", "'production'", 3, "document"),
    ("fiscal.invoices", "merchant_id", "'fm_other'", 3, "document"),
    ("fiscal.invoices", "outlet_id", "'out_of_another'", 3, "document"),
    ("fiscal.invoices", "status", "'signing_error'", 3, "document"),
    ("fiscal.invoices", "invoice_type", "'export'", 3, "document"),
    ("fiscal.invoices", "invoice_ref", "'R-99'", 3, "document"),
    ("fiscal.invoices", "cashier_id", "'cashier-99'", 3, "document"),
    ("fiscal.invoices", "fiscal_number", "'TST-X-000003'", 3, "document"),
    ("fiscal.invoices", "sequence", "30", 3, "document"),
    ("fiscal.invoices", "payload", "replace(payload, '1160.00', '1.00')", 3, "payload_hash"),
    ("fiscal.invoices", "payload", "'no json'", 3, "payload_hash"),
    ("fiscal.invoices", "canonical_payload_hash", "repeat('a', 64)", 3, "document"),
    ("fiscal.invoices", "tax_summary", "'[]'", 3, "document"),
    ("fiscal.invoices", "currency", "'USD'", 3, "document"),
    ("fiscal.invoices", "total_minor", "1", 3, "document"),
    ("fiscal.invoices", "tax_minor", "1", 3, "document"),
    ("fiscal.invoices", "original_invoice_id", "'inv_other'", 3, "document"),
    ("fiscal.invoices", "created_by", "'key_other'", 3, "document"),
    ("fiscal.invoices", "created_at", "created_at - interval '1 day'", 3, "document"),
    ("fiscal.signatures", "fiscal_number", "'TST-X-000003'", 3, "signature"),
    ("fiscal.signatures", "tenant_id", "'tn_other'", 3, "signature"),
    ("fiscal.signatures", "environment", "'production'", 3, "signature"),
    ("fiscal.signatures", "outlet_id", "'out_of_another'", 3, "signature"),
    ("fiscal.signatures", "key_id", "'cd-other'", 3, "signature"),
    ("fiscal.signatures", "signature_alg", "'RS256'", 3, "key"),
    ("fiscal.signatures", "digest", "repeat('d', 64)", 3, "signature"),
    ("fiscal.signatures", "signature", "repeat('A', 86)", 3, "signature"),
    ("fiscal.signatures", "auth_code", "'AAAA-BBBB-CCCC-DDDD'", 3, "signature"),
    ("fiscal.signatures", "signed_at", "signed_at - interval '1 day'", 3, "signature"),
]
CONSTRAINTS = (
    "select conname from pg_catalog.pg_constraint"
    " where conrelid = %s::regclass and contype in ('c', 'f')"
)
COLUMNS = (
    "select attname from pg_catalog.pg_attribute"
    " where attrelid = %s::regclass and attnum > 0 and not attisdropped"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "integrity", functions=("integrity", "invoices", "merchants"), invoice_key_file=str(key)
    ) as house:
        # Who walks, and when, is up to each test.
        house.books.run(
            "update public.cron_tasks set enabled = false where task = 'fiscal.integrity'"
        )
        yield house


@pytest.fixture(scope="module")
def outlet(house: House) -> Outlet:
    """An outlet with five sealed documents that no test changes for good."""
    outlet = Outlet(house)
    sell(outlet, 5)
    return outlet


def sell(outlet: Outlet, number: int) -> None:
    for _ in range(number):
        outlet.sealed(invoice_ref=new_key())


@contextmanager
def tampering(house: House, table: str | None = None) -> Iterator[None]:
    """What the owner of the machine can do: no trigger, no constraint. Undone at the end."""
    with house.books.connection.transaction(force_rollback=True):
        house.books.run("set local session_replication_role = replica")
        for name in house.books.column(CONSTRAINTS, table) if table else ():
            house.books.run(f'alter table {table} drop constraint "{name}" cascade')
        yield


def walk(house: House, outlet: Outlet, scope: str = "all", checks: str = "everything") -> Json:
    """A walk as functions/integrity makes it, within the test's own transaction."""
    books = house.books
    walk_id = books.value(
        "select (fiscal.begin_walk(o, %s, %s, 'test')).walk_id from fiscal.outlets as o"
        " where o.outlet_id = %s",
        scope,
        checks,
        outlet.outlet_id,
    )
    status = "running"
    while status == "running":
        part = books.value("select fiscal.walk_part(%s)", walk_id)
        status = books.value(
            "select fiscal.walk_on(%s, %s, %s, %s, %s)",
            walk_id,
            part["after_entry"],
            part["until_entry"],
            part["is_last"],
            first_forged(part),
        )
    found = books.row("select * from fiscal.chain_walks where walk_id = %s", walk_id)
    # One of the schedule that was under way does not know of what came since it began.
    return found if found["requested_by"] == "test" else walk(house, outlet, scope, checks)


def order(outlet: Outlet, **members: str) -> Json:
    """Ask for a walk over HTTP and wait for its verdict."""
    asked = outlet.merchant.post("/integrity/walks", {"outlet_id": outlet.outlet_id} | members)
    assert asked.status_code == 202, asked.text
    path = f"/integrity/walks/{asked.json()['id']}"

    def finished() -> Json | None:
        seen = dict(outlet.merchant.api.get(path).raise_for_status().json())
        return None if seen["status"] == "running" else seen

    wake(outlet.house)
    return until(finished, "the verdict")


def wake(house: House) -> None:
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}
    house.http.post("/integrity/", headers=bearer).raise_for_status()


# --- what is sound


def test_sound_chain_is_walked_to_its_head(house: House, outlet: Outlet) -> None:
    seen = order(outlet)

    assert (seen["status"], seen["from_entry"], seen["to_entry"]) == ("sound", 1, 5)
    assert seen["finding"] is None
    assert seen["head_hash"] == outlet.chain()[-1]["entry_hash"]
    listed = outlet.merchant.api.get("/integrity/walks", params={"limit": 1}).json()
    assert listed["data"] == [seen]


def test_new_walk_goes_on_where_the_last_sound_one_ended(house: House) -> None:
    outlet = Outlet(house)
    sell(outlet, 3)
    with tampering(house):
        # One that the schedule began may have seen fewer.
        first = until(lambda: reaching(3, walk(house, outlet, scope="new")), "the head")
        sell(outlet, 2)

        second = walk(house, outlet, scope="new")

    assert (first["status"], first["to_entry"]) == ("sound", 3)
    assert (second["status"], second["from_entry"], second["to_entry"]) == ("sound", 4, 5)


def reaching(entry_no: int, seen: Json) -> Json | None:
    return seen if seen["to_entry"] == entry_no else None


def test_walk_that_was_cut_off_goes_on_from_its_last_part(house: House, outlet: Outlet) -> None:
    books = house.books
    with tampering(house):
        walk_id = books.value(
            "select (fiscal.begin_walk(o, 'all', 'everything', 'test')).walk_id"
            " from fiscal.outlets as o where o.outlet_id = %s",
            outlet.outlet_id,
        )
        first = books.value("select fiscal.walk_on(%s, 0, 2, false, null)", walk_id)
        again = books.value("select fiscal.walk_on(%s, 0, 2, false, null)", walk_id)
        stopped = books.row("select * from fiscal.chain_walks where walk_id = %s", walk_id)

        found = walk(house, outlet)

    assert (first, again, stopped["to_entry"]) == ("running", "running", 2)
    assert (found["walk_id"], found["status"], found["to_entry"]) == (walk_id, "sound", 5)


def test_entry_that_waits_for_its_signature_is_the_next_walks(house: House, outlet: Outlet) -> None:
    third = outlet.chain()[2]["fiscal_number"]
    with tampering(house):
        house.books.run("delete from fiscal.signatures where fiscal_number = %s", third)
        house.books.run(
            "insert into signing.signing_queue"
            " (fiscal_number, tenant_id, environment, next_attempt_at)"
            " values (%s, %s, 'sandbox', now())",
            third,
            outlet.merchant.tenant_id,
        )

        found = walk(house, outlet)

    assert (found["status"], found["to_entry"]) == ("sound", 2)


def test_schedule_walks_new_outlets_whole(house: House) -> None:
    outlet = Outlet(house)
    sell(outlet, 1)

    def walked() -> list[Json]:
        wake(house)
        return house.books.rows(
            "select scope, checks, status, to_entry, requested_by from fiscal.chain_walks"
            " where outlet_id = %s and status <> 'running'",
            outlet.outlet_id,
        )

    assert until(walked, "the first walk") == [
        {
            "scope": "all",
            "checks": "everything",
            "status": "sound",
            "to_entry": 1,
            "requested_by": "schedule",
        }
    ]


# --- what is not


@pytest.mark.parametrize(
    ("table", "column", "value", "entry_no", "check"),
    TAMPERINGS,
    ids=[f"{table}.{column}={value}" for table, column, value, _, _ in TAMPERINGS],
)
def test_tampering_is_found_at_its_entry(
    table: str, column: str, value: str, entry_no: int, check: str, house: House, outlet: Outlet
) -> None:
    third = outlet.chain()[2]["fiscal_number"]

    with tampering(house, table):
        touched = house.books.run(
            f"update {table} set {column} = {value} where fiscal_number = %s", third
        )
        found = walk(house, outlet)
        alerts = house.books.alerts(outlet.outlet_id)

    assert touched == 1
    finding = found["finding"]
    assert (found["status"], finding["entry_no"], finding["check"]) == ("broken", entry_no, check)
    assert found["to_entry"] == 2
    assert alerts == ["chain_broken"]


def test_every_column_of_what_is_sealed_is_tampered_with(house: House) -> None:
    columns = {(table, name) for table in TABLES for name in house.books.column(COLUMNS, table)}

    assert {(table, column) for table, column, _, _, _ in TAMPERINGS} == columns


def test_entry_rewritten_with_all_its_hashes_is_found_by_its_signature(
    house: House, outlet: Outlet
) -> None:
    # Whoever holds the database but not the key: document and hashes agree from here to the head.
    with tampering(house, "fiscal.fiscal_ledger"):
        house.books.run(
            "update fiscal.invoices set payload = replace(payload, 'Consulting', 'Coffee')"
            " where outlet_id = %s and sequence = 3",
            outlet.outlet_id,
        )
        house.books.run(
            "update fiscal.invoices set canonical_payload_hash"
            " = encode(sha256(convert_to(payload, 'UTF8')), 'hex') where outlet_id = %s",
            outlet.outlet_id,
        )
        rehash(house, outlet)

        hashes = walk(house, outlet, checks="hashes")
        found = walk(house, outlet)

    assert (hashes["status"], hashes["to_entry"]) == ("sound", 5)
    assert (found["finding"]["entry_no"], found["finding"]["check"]) == (3, "signature")


def rehash(house: House, outlet: Outlet) -> None:
    previous = "0" * 64
    for entry_no in range(1, 6):
        previous = house.books.column(
            "update fiscal.fiscal_ledger as l set previous_hash = %s,"
            " canonical_payload_hash = i.canonical_payload_hash,"
            " entry_hash = encode(sha256(convert_to(concat_ws(E'\\n', l.fiscal_number,"
            " i.canonical_payload_hash, l.sealed_at, %s::text), 'UTF8')), 'hex')"
            " from fiscal.invoices as i where i.invoice_id = l.invoice_id"
            " and l.outlet_id = %s and l.entry_no = %s returning l.entry_hash",
            previous,
            previous,
            outlet.outlet_id,
            entry_no,
        )[0]


@pytest.mark.parametrize(
    ("change", "check", "entry_no"),
    [
        ("delete from fiscal.fiscal_ledger where outlet_id = %s and entry_no = 1", "entry_no", 2),
        ("delete from fiscal.fiscal_ledger where outlet_id = %s and entry_no = 4", "entry_no", 5),
        (
            "delete from fiscal.fiscal_ledger where outlet_id = %s and entry_no = 5",
            "sequence",
            None,
        ),
        (
            "update fiscal.fiscal_counters set next_value = 9 where outlet_id = %s",
            "sequence",
            None,
        ),
    ],
)
def test_missing_entry_or_number_is_found(
    change: str, check: str, entry_no: int | None, house: House, outlet: Outlet
) -> None:
    with tampering(house):
        house.books.run(change, outlet.outlet_id)
        found = walk(house, outlet)

    assert (found["finding"]["check"], found["finding"]["entry_no"]) == (check, entry_no)


def test_document_sealed_after_its_key_was_revoked_is_found(house: House, outlet: Outlet) -> None:
    with tampering(house):
        house.books.run(
            "update signing.keys set status = 'revoked', valid_until = now(),"
            " revoked_at = (select sealed_at::timestamptz from fiscal.fiscal_ledger"
            " where outlet_id = %s and entry_no = 1)",
            outlet.outlet_id,
        )
        found = walk(house, outlet)

    assert (found["finding"]["check"], found["finding"]["entry_no"]) == ("key", 1)


def test_merchant_and_operators_hear_of_a_broken_chain_until_it_is_whole(house: House) -> None:
    outlet = Outlet(house)
    sell(outlet, 2)
    with house.books.connection.transaction():
        house.books.run("set local session_replication_role = replica")
        house.books.run(
            "update fiscal.invoices set payload = replace(payload, '1160.00', '1161.00')"
            " where outlet_id = %s and sequence = 2",
            outlet.outlet_id,
        )

    broken = order(outlet)
    heard = house.books.alerts(outlet.outlet_id)
    with house.books.connection.transaction():
        house.books.run("set local session_replication_role = replica")
        house.books.run(
            "update fiscal.invoices set payload = replace(payload, '1161.00', '1160.00')"
            " where outlet_id = %s and sequence = 2",
            outlet.outlet_id,
        )
    mended = order(outlet)

    assert broken["status"] == "broken"
    assert broken["finding"] == {
        "entry_no": 2,
        "fiscal_number": f"TST-{outlet.code}-000002",
        "check": "payload_hash",
        "detail": "its document is not what was sealed",
    }
    assert heard == ["chain_broken"]
    assert mended["status"] == "sound"
    assert house.books.alerts(outlet.outlet_id) == []


def test_walk_of_somebody_else_is_not_there(house: House, outlet: Outlet) -> None:
    mine = order(outlet)
    stranger = house.merchant()

    assert stranger.api.get(f"/integrity/walks/{mine['id']}").status_code == 404
    assert stranger.api.get("/integrity/walks").json()["data"] == []
    refused = stranger.post("/integrity/walks", {"outlet_id": outlet.outlet_id})
    assert refused.status_code == 404


@pytest.mark.parametrize("what", ["walks", "anchors", "conflicts"])
def test_a_cursor_that_is_none_does_not_look_like_an_empty_list(outlet: Outlet, what: str) -> None:
    answer = outlet.merchant.api.get(f"/integrity/{what}", params={"cursor": "-1"})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/cursor")


def test_verdict_of_a_walk_never_changes(house: House, outlet: Outlet) -> None:
    order(outlet)

    with pytest.raises(Exception, match="a finished walk never changes"):
        house.books.run("update fiscal.chain_walks set status = 'sound'")
