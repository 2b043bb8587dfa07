"""What statements prove reaches the ledger, once."""

from dataclasses import replace

from tests.sql.recon.desk import Desk, Line
from tests.support.sql import Books

ENTRIES = """
select d.code || ' / ' || c.code as accounts, sum(e.amount_minor)::bigint as minor
from ledger.journals as j
inner join ledger.journal_entries as e on e.journal_no = j.journal_no
inner join ledger.accounts as d on d.account_id = e.debit_account_id
inner join ledger.accounts as c on c.account_id = e.credit_account_id
where j.tenant_id = %s and j.event_type in ('settlement.cleared', 'journal.adjusted')
group by 1 order by 1
"""


def booked(books: Books, desk: Desk) -> dict[str, int]:
    """Debit / credit of everything that reconciliation booked for the shop."""
    rows = books.rows(ENTRIES, desk.shop.tenant_id)
    return {row["accounts"]: row["minor"] for row in rows}


def clear(books: Books) -> int:
    """The cron task."""
    return int(books.value("select recon.clear_settlements()"))


def test_matched_lines_clear_the_settlement_account_once(desk: Desk, books: Books) -> None:
    first, second = desk.settled(10_000), desk.settled(25_000)
    desk.upload(first, Line())
    clear(books)
    assert booked(books, desk) == {"LIQUIDITY:KES / SETTLEMENT:mpesa": 10_000}

    desk.upload(first, second)
    clear(books)
    clear(books)

    assert booked(books, desk) == {"LIQUIDITY:KES / SETTLEMENT:mpesa": 35_000}


def test_what_the_rail_charges_is_a_processing_cost(desk: Desk, books: Books) -> None:
    paid = desk.settled()

    desk.upload(paid, Line(paid.receipt, 900, direction="out", type="fee"))
    clear(books)

    assert booked(books, desk) == {
        "LIQUIDITY:KES / SETTLEMENT:mpesa": 10_000,
        "PROCESSING_COSTS / LIQUIDITY:KES": 900,
    }


def test_an_adjustment_leaves_nothing_in_transit(desk: Desk, books: Books) -> None:
    paid = desk.settled()
    desk.upload(replace(paid, amount_minor=9_950))
    (mismatch,) = desk.exceptions(status="open")

    desk.resolve(mismatch["id"], "adjust")
    desk.approve(mismatch["id"])
    clear(books)

    assert booked(books, desk) == {
        "LIQUIDITY:KES / SETTLEMENT:mpesa": 9_950,
        "PROCESSING_COSTS / SETTLEMENT:mpesa": 50,
    }


def test_a_missing_line_is_written_off_against_expenses(desk: Desk, books: Books) -> None:
    desk.settled()
    desk.upload()
    (missing,) = desk.exceptions(status="open")

    desk.resolve(missing["id"], "write_off")
    assert booked(books, desk) == {}
    desk.approve(missing["id"])

    assert booked(books, desk) == {"OPERATING / SETTLEMENT:mpesa": 10_000}


def test_money_that_nobody_claims_is_owed(desk: Desk, books: Books) -> None:
    desk.upload(Line(amount_minor=777))
    (unknown,) = desk.exceptions(status="open")

    desk.resolve(unknown["id"], "write_off")
    desk.approve(unknown["id"])

    assert booked(books, desk) == {"LIQUIDITY:KES / RETURNS_PAYABLE": 777}


def test_what_cannot_be_booked_alerts_and_holds_up_nobody(desk: Desk, books: Books) -> None:
    desk.upload(desk.settled())
    session = desk.session()["id"]
    books.run(
        "create function ledger.sabotage() returns trigger language plpgsql set search_path = ''"
        " as 'begin raise exception ''no room''; end'"
    )
    books.run(
        "create trigger sabotage before insert on ledger.journals for each row"
        " execute function ledger.sabotage()"
    )
    try:
        clear(books)
    finally:
        books.run("drop function ledger.sabotage cascade")
    assert books.alerts(session) == ["recon_clearing_failed"]

    books.run("update recon.clearings set created_at = now() - interval '1 hour'")
    clear(books)

    assert books.alerts(session) == []
    assert booked(books, desk) == {"LIQUIDITY:KES / SETTLEMENT:mpesa": 10_000}
