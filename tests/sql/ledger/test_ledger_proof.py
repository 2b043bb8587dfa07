"""Whatever is changed behind the books' back is found, and the first bad journal is named."""

# ruff: noqa: S608 -- statements are put together from constants of this file

import json
import subprocess
from pathlib import Path

import pytest

from scripts.stack.places import ROOT
from tests.sql.ledger.ledger import Ledger, bent
from tests.support.sql import Books, Row

# Every column of a journal, and something else to write there. The internal number leads to the
# entries, so that changing it loses them.
JOURNAL_CHANGES = {
    "journal_no": "-journal_no",
    "journal_id": "journal_id || 'x', event_id = null",
    "journal_key": "journal_key || 'x'",
    "tenant_id": "'tn_somebody'",
    "environment": "'production'",
    "number": "number + 100",
    "event_id": "null",
    "event_type": "'transfer.returned'",
    "transfer_id": "'tr_x'",
    "occurred_at": "occurred_at - interval '1 microsecond'",
    "posted_at": "posted_at + interval '1 microsecond'",
    "period_id": "'2020-01'",
    "rules_version": "rules_version + 1",
    "related_journal_id": "'jrnl_x'",
    "is_memo": "not is_memo",
    "memo": "'looks harmless'",
    "hash": "sha256(hash)",
}
ENTRY_CHANGES = {
    "journal_no": "-journal_no",
    "leg_no": "leg_no + 10",
    "leg": "'fee'",
    "debit_account_id": "debit_account_id + 1",
    "credit_account_id": "credit_account_id + 1",
    "amount_minor": "amount_minor + 1",
    "currency": "'USD'",
}


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Books of five journals in two batches."""
    ledger.book(*(ledger.event(fee="1.00") for _ in range(3)))
    ledger.book(*(ledger.event(amount="20.00") for _ in range(2)))
    return ledger


def test_books_that_nobody_touched_verify(filled: Ledger) -> None:
    assert filled.verify() == {"verified": 5, "bad": None}


def test_each_column_is_changed_below(books: Books) -> None:
    columns = {
        table: set(
            books.column(
                "select attname from pg_catalog.pg_attribute where attrelid = %s::regclass"
                " and attnum > 0 and not attisdropped",
                table,
            )
        )
        for table in ("ledger.journals", "ledger.journal_entries")
    }

    assert columns["ledger.journals"] == set(JOURNAL_CHANGES)
    assert columns["ledger.journal_entries"] == set(ENTRY_CHANGES)


@pytest.mark.parametrize("column", JOURNAL_CHANGES)
def test_a_changed_journal_is_named(filled: Ledger, books: Books, column: str) -> None:
    third = filled.journals()[2]

    with bent(books):
        books.run(
            f"update ledger.journals set {column} = {JOURNAL_CHANGES[column]}"
            " where journal_no = %s",
            third["journal_no"],
        )
        found = filled.verify()

    assert found["bad"] is not None
    # A journal that is gone from its place is missed by the one after it.
    moved = column in {"tenant_id", "environment", "number"}
    assert found["bad"]["number"] == (4 if moved else 3)
    assert found["verified"] == (3 if moved else 2)


@pytest.mark.parametrize("column", ENTRY_CHANGES)
def test_a_journal_with_a_changed_entry_is_named(filled: Ledger, books: Books, column: str) -> None:
    third = filled.journals()[2]

    with bent(books):
        books.run(
            f"update ledger.journal_entries set {column} = {ENTRY_CHANGES[column]}"
            " where journal_no = %s and leg = 'principal'",
            third["journal_no"],
        )
        found = filled.verify()

    assert (found["bad"]["number"], found["bad"]["journal_id"]) == (3, third["journal_id"])


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("delete from ledger.journals where journal_no = %(third)s", 4),
        ("delete from ledger.journal_entries where journal_no = %(third)s and leg_no = 1", 3),
        ("delete from ledger.journals where journal_no = %(last)s", 5),
        ("update ledger.accounts set code = 'USER:other' where account_id = %(debit)s", 1),
        ("update ledger.chains set head_hash = sha256(head_hash) where tenant_id = %(me)s", 5),
        (
            (
                "insert into ledger.journal_entries select journal_no, 9, leg, debit_account_id,"
                " credit_account_id, 1, currency from ledger.journal_entries"
                " where journal_no = %(third)s and leg_no = 1"
            ),
            3,
        ),
        (
            # The third and the fourth change places.
            (
                "update ledger.journals set number = 7 - number + 1000 where tenant_id = %(me)s"
                " and number in (3, 4);"
                "update ledger.journals set number = number - 1000 where tenant_id = %(me)s"
                " and number > 1000"
            ),
            3,
        ),
    ],
    ids=["journal", "entry", "tail", "account", "head", "added", "order"],
)
def test_what_is_missing_added_or_moved_is_named(
    filled: Ledger, books: Books, statement: str, number: int
) -> None:
    journals = filled.journals()
    names: Row = {
        "third": journals[2]["journal_no"],
        "last": journals[4]["journal_no"],
        "me": filled.tenant_id,
        "debit": books.value(
            "select min(debit_account_id) from ledger.journal_entries where journal_no = %s",
            journals[0]["journal_no"],
        ),
    }

    with bent(books):
        for part in statement.split(";"):
            books.connection.execute(part.encode(), names)
        found = filled.verify()

    assert found["bad"]["number"] == number


def test_a_broken_chain_is_an_alert_until_it_verifies(filled: Ledger, books: Books) -> None:
    with bent(books):
        books.run("update ledger.journals set memo = 'x' where tenant_id = %s", filled.tenant_id)
        books.run("select ledger.check_chains()")

        assert kinds(books, filled) == ["ledger_chain_broken"]
    books.run("select ledger.check_chains()")
    assert (
        books.value("select number from ledger.chain_checks where tenant_id = %s", filled.tenant_id)
        == 5
    )


def test_a_balance_that_drifts_from_its_entries_is_an_alert(filled: Ledger, books: Books) -> None:
    books.run("select ledger.check_balances()")
    assert kinds(books, filled) == []

    with bent(books):
        books.run(
            "update ledger.balances set balance_minor = balance_minor + 1 where account_id ="
            " (select account_id from ledger.accounts where tenant_id = %s and name = 'MERCHANT')",
            filled.tenant_id,
        )
        books.run("select ledger.check_balances()")
        books.run("select ledger.check_trial_balances()")

        assert kinds(books, filled) == ["ledger_balance_drift", "ledger_out_of_balance"]


def test_the_sql_verifier_and_the_script_agree(
    filled: Ledger, books: Books, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(filled.text("ledger.prove", first_number=1, last_number=2))
    second.write_text(filled.text("ledger.prove", first_number=3, last_number=None))

    whole = verify(first, second)
    with bent(books):
        books.run(
            "update ledger.journal_entries set amount_minor = 1 where journal_no = %s",
            filled.journals()[3]["journal_no"],
        )
        named = filled.verify()["bad"]["journal_id"]
        books.run("select set_config('request.headers', %s, true)", json.dumps(filled.headers))
        second.write_text(books.value("select (ledger.prove(3, null)).body"))
    changed = verify(first, second)

    assert (whole.returncode, changed.returncode) == (0, 1), whole.stderr
    assert "journals 3 to 5 of 5" in whole.stdout
    assert named in changed.stderr
    assert verify(second, first).returncode == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tenant_id": "tn_other"}, "does not begin"),
        ({"to": 9}, "number 6 is missing"),
        ({"head": {"number": 5, "hash": "0" * 64}}, "the head of the chain"),
    ],
)
def test_a_proof_that_claims_something_else_is_refused(
    filled: Ledger, tmp_path: Path, words: Row, message: str
) -> None:
    proof = json.loads(filled.text("ledger.prove", first_number=1, last_number=None))
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof | words))

    done = verify(file)

    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[]", "is not an answer of GET /ledger/proof"),
        ('{"format": "stalela.ledger.proof.v2"}', "is not an answer of GET /ledger/proof"),
        ('{"format": "stalela.ledger.proof.v1", "from": 1}', "it has no environment, head"),
    ],
)
def test_a_file_that_is_no_proof_is_not_judged(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "proof.json"
    file.write_text(text)

    done = verify(file)

    assert done.returncode == 2
    assert message in done.stderr


def kinds(books: Books, ledger: Ledger) -> list[str]:
    """The kinds of the tenant's open alerts."""
    query = "select kind from public.alerts where tenant_id = %s and status = 'open' order by 1"
    return books.column(query, ledger.tenant_id)


def verify(*files: Path) -> "subprocess.CompletedProcess[str]":
    """Run the verifier as an outsider does."""
    return subprocess.run(  # noqa: S603 -- a program of ours
        [ROOT / "scripts/verify-ledger", *files], capture_output=True, text=True, check=False
    )
