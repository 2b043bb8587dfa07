"""Z reports: what they say, that no document is in two or in none, and who closes days when."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256

import pytest

from scripts.stack.database import Database
from shared.canonical import canonical_bytes
from tests.sql.reports.till import Till, line
from tests.support.sql import Api, Books, Refused, at_once, connections

GENESIS = "0" * 64


def test_z_says_what_was_sold_and_credited(till: Till) -> None:
    sale = till.seal(till.document(line("1160.00"), line("109.00", code="BREAD", tax_group="TG04")))
    till.credit(sale, line("116.00"))
    till.seal(till.document(line("23.20"), currency="USD"))

    report = till.close()["report"]

    assert (report["invoice_count"], report["credit_count"]) == (3, 1)
    assert (report["sequence_start"], report["sequence_end"], report["gap_detected"]) == (
        1,
        3,
        False,
    )
    assert report["counts_by_type"]["credit_note"] == 1
    groups = {(row["currency"], row["code"]): row for row in report["tax_totals"]}
    assert len(groups) == 28
    assert groups["CDF", "TG03"] == {
        "currency": "CDF",
        "code": "TG03",
        "rate": "0.16",
        "treatment": "standard",
        "sales": {"base": "1000.00", "tax": "160.00"},
        "credits": {"base": "100.00", "tax": "16.00"},
        "net": {"base": "900.00", "tax": "144.00"},
    }
    assert groups["CDF", "TG04"]["net"] == {"base": "100.00", "tax": "9.00"}
    assert groups["USD", "TG03"]["net"] == {"base": "20.00", "tax": "3.20"}
    assert report["tax_return"]["net"] == {"tax_as_sealed": "9196.20"}


def test_z_is_a_canonical_text_in_the_chain(till: Till) -> None:
    till.seal()

    made = till.close()

    body = till.books.value("select body from fiscal.reports where report_id = %s", made["id"])
    sale, entry = till.chain()
    assert body.encode() == canonical_bytes(made["report"])
    assert (entry["record_type"], entry["sequence"]) == ("report_z", None)
    assert entry["canonical_payload_hash"] == sha256(body.encode()).hexdigest()
    assert entry["fiscal_number"] == made["fiscal_number"] == f"Z-{till.code}-000001"
    assert made["report"]["opening_hash"] == made["report"]["previous_z_hash"] == GENESIS
    assert made["report"]["closing_hash"] == sale["entry_hash"]
    waiting = till.books.column("select fiscal_number from signing.signing_queue")
    assert entry["fiscal_number"] in waiting


def test_zs_follow_each_other_and_their_grand_totals_never_start_again(till: Till) -> None:
    for _ in range(3):
        till.seal(till.document(line("116.00")))
        till.close()
        till.another_day()

    first, second, third = till.reports()
    zs = [entry for entry in till.chain() if entry["record_type"] == "report_z"]

    assert [z["report_no"] for z in (first, second, third)] == [1, 2, 3]
    assert [z["previous_z_hash"] for z in (second, third)] == [z["entry_hash"] for z in zs[:2]]
    assert [(z["first_entry"], z["last_entry"]) for z in (first, second, third)] == [
        (1, 1),
        (2, 3),
        (4, 5),
    ]
    assert [z["perpetual_totals"][0]["net"] for z in (first, second, third)] == [
        "116.00",
        "232.00",
        "348.00",
    ]
    assert [z["sequence_start"] for z in (first, second, third)] == [1, 2, 3]
    assert second["opened_at"] == first["closed_at"]


def test_day_is_closed_once(till: Till) -> None:
    today = till.open_day
    made = till.close()

    with pytest.raises(Refused) as again:
        till.close()
    with pytest.raises(Refused) as named:
        till.close(today)
    with pytest.raises(Refused) as tomorrow:
        till.close(today + timedelta(days=1))

    assert (again.value.code, named.value.code) == ("40921", "40921")
    assert again.value.extras == {"report_id": made["id"]}
    assert (tomorrow.value.code, tomorrow.value.message) == (
        "42262",
        f"business_date: {today + timedelta(days=1)} has not begun yet: close {today} at most",
    )
    assert len(till.chain()) == 1


def test_same_key_gives_the_same_report(till: Till) -> None:
    first, again = till.close(key="k-1"), till.close(key="k-1")

    assert first == again
    assert len(till.chain()) == 1


def test_two_who_close_at_once_close_one_day(till: Till, module_database: Database) -> None:
    till.seal()

    with connections(module_database, 6) as apis:
        answers = at_once([lambda api=api: till.close(api=api) for api in apis])

    assert sorted(isinstance(answer, Refused) for answer in answers) == [False] + [True] * 5
    assert len(till.chain()) == 2


def test_midnight_divides_by_when_a_document_was_sealed(till: Till) -> None:
    till.seal()
    till.end_day_now()
    late = till.seal()

    closed = till.close_due_days()

    (z,) = till.reports()
    assert closed == 1
    assert (z["invoice_count"], z["last_entry"]) == (1, 1)
    assert z["closed_at"] <= till.chain()[1]["sealed_at"]
    assert [entry["fiscal_number"] for entry in till.chain()][1:] == [
        late["fiscal_number"],
        z["fiscal_number"],
    ]
    assert till.close()["report"]["invoice_count"] == 1


def test_request_that_waited_over_midnight_does_not_close_the_new_day(
    till: Till, books: Books, module_database: Database
) -> None:
    till.seal()
    midnight = till.midnight_in(5)  # by then the request waits
    books.run(
        "update fiscal.open_days as d set business_date = fiscal.business_date(o, now()),"
        " due_at = %s from fiscal.outlets as o"
        " where o.outlet_id = %s and d.outlet_id = o.outlet_id",
        midnight,
        till.outlet_id,
    )
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"

    with connections(module_database, 1) as (api,), ThreadPoolExecutor(1) as pool:
        with books.connection.transaction():
            books.run("select fiscal.lock_outlet(%s)", till.outlet_id)
            request = pool.submit(till.close, api=api)
            while books.value(waiting) == 0:
                assert not request.done()
            assert books.value("select clock_timestamp()") < midnight
            till.wait_until(midnight)
            books.run(
                "select fiscal.close_day(o, 'cron', false) from fiscal.outlets as o"
                " where o.outlet_id = %s",
                till.outlet_id,
            )
        with pytest.raises(Refused) as closed:
            request.result()

    assert closed.value.code == "40921"
    assert [z["invoice_count"] for z in till.reports()] == [1]


def test_documents_sealed_while_a_day_is_closed_are_on_exactly_one_side(
    till: Till, module_database: Database
) -> None:
    def sell(api: Api) -> None:
        for _ in range(12):
            till.seal(api=api)

    with connections(module_database, 6) as apis:
        *sellers, closer = apis
        at_once(
            [
                *(lambda api=api: sell(api) for api in sellers),
                lambda: close_when_selling(till, closer),
            ]
        )
    till.another_day()
    till.close()

    first, second = till.reports()
    assert first["invoice_count"] + second["invoice_count"] == 60
    assert 0 < first["invoice_count"] < 60
    assert second["sequence_start"] == first["sequence_end"] + 1 == first["invoice_count"] + 1
    assert second["first_entry"] == first["last_entry"] + 1
    assert (first["gap_detected"], second["gap_detected"]) == (False, False)


def close_when_selling(till: Till, api: Api) -> None:
    """Close the day once ten documents are sealed and others are on their way."""
    while len(till.chain()) < 10:
        pass
    till.close(api=api)


@pytest.mark.parametrize(("closes_empty_days", "zs"), [(True, 1), (False, 0)])
def test_day_without_sales_has_a_z_where_the_profile_says_so(
    closes_empty_days: bool, zs: int, till: Till, books: Books
) -> None:
    till.end_day_now()
    today = books.value(
        "select fiscal.business_date(o, now()) from fiscal.outlets as o where outlet_id = %s",
        till.outlet_id,
    )

    with books.connection.transaction(force_rollback=True):
        books.run("update tax.jurisdictions set closes_empty_days = %s", closes_empty_days)
        till.close_due_days()

        found = till.reports()
        open_day = till.open_day

    assert len(found) == zs
    assert open_day == today
    assert [(z["invoice_count"], z["grand_totals"][0]["net"]["total"]) for z in found] == [
        (0, "0.00")
    ] * zs


def test_tampered_ledger_is_not_reported(till: Till, books: Books) -> None:
    till.seal()
    second = till.seal()
    till.end_day_now()

    with books.connection.transaction(force_rollback=True):
        books.run("set local session_replication_role = replica")
        books.run(
            "update fiscal.invoices set payload = replace(payload, '1000.00', '1.00')"
            " where fiscal_number = %s",
            second["fiscal_number"],
        )
        books.run("set local session_replication_role = origin")
        broken = books.value("select fiscal.check_chain(%s, 1, 2)", till.outlet_id)
        till.close_due_days()
        (alert,) = books.rows(
            "select * from public.alerts where subject = %s and status = 'open'", till.outlet_id
        )

    assert broken == f"entry 2, {second['fiscal_number']}: its document is not what was sealed"
    assert (alert["kind"], alert["severity"]) == ("day_not_closed", "critical")
    assert broken in alert["details"]["error"]


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        'quote " and \\ and /',
        "\u20ac \u00f4 \u10ffff"[:8],
        "\b\f\n\r\t",
        "\u0001\u001f\u007f",
        "Hôpital — 中文 😀",
    ],
)
def test_canonical_text_of_the_database_is_that_of_rfc_8785(text: str, books: Books) -> None:
    value = {"b": [text, 1, -2, True, None, {}], "a": {"z": text, "Z": "", "_": [], "a10": 9}}

    made = books.value("select fiscal.canonical_text(%s::jsonb)", json.dumps(value))

    assert made.encode() == canonical_bytes(value)
