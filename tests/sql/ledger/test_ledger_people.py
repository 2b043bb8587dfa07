"""What people see and do: balances, statements, adjustments under four eyes, the end of a month."""

import csv
import io
import json
from typing import Any

import pytest

from tests.sql.ledger.ledger import Ledger, bent
from tests.support.sql import Books, Headers, Refused, Row

DEPOSIT = [
    {"account": "LIQUIDITY:KES", "side": "debit", "amount_minor": 8_000, "currency": "KES"},
    {"account": "CONTRIBUTED_CAPITAL", "side": "credit", "amount_minor": 8_000, "currency": "KES"},
]


def write(ledger: Ledger, who: Headers, lines: list[Row], **changes: Any) -> Row:
    """POST /manual-journals."""
    arguments: Row = {
        "idempotency_key": f"write-{ledger.tenant_id}",
        "body_hash": "body",
        "memo": "Float paid in",
        "occurred_at": None,
        "lines": lines,
    }
    return ledger.call("ledger.create_manual_journal", who, **arguments | changes)


def decide(ledger: Ledger, who: Headers, manual: Row, decision: str = "approve") -> Row:
    """POST /manual-journals/{id}/approve or /reject."""
    return ledger.call(
        "ledger.decide_manual_journal",
        who,
        manual_journal_id=manual["id"],
        idempotency_key=f"{decision}-{manual['id']}",
        body_hash="body",
        decision=decision,
        reason="Slip 118",
    )


def move(ledger: Ledger, who: Headers, period: str, status: str) -> Row:
    """POST /periods/{period}."""
    return ledger.call(
        "ledger.move_period",
        who,
        period_id=period,
        idempotency_key=f"{period}-{status}-{ledger.tenant_id}",
        body_hash="body",
        status=status,
    )


def test_balances_are_shown_on_their_normal_side(ledger: Ledger) -> None:
    ledger.book(ledger.event())

    shown = {
        row["account"].partition(":")[0]: (row["balance"], row["normal_side"])
        for row in ledger.call("ledger.list_balances", filters={"currency": "KES"})["data"]
    }

    assert shown["MERCHANT"] == ("100.00", "credit")
    assert shown["SETTLEMENT"] == ("100.00", "debit")
    only = ledger.call("ledger.list_balances", filters={"type": "SETTLEMENT"})["data"]
    assert [row["account"] for row in only] == ["SETTLEMENT:mpesa"]


def test_journals_come_in_pages_and_each_once(ledger: Ledger) -> None:
    ledger.book(*(ledger.event() for _ in range(5)))

    first = ledger.call("ledger.list_journals", filters={}, page_size=3, before_number=2**62)
    cursor = int(first["pagination"]["next_cursor"])
    second = ledger.call("ledger.list_journals", filters={}, page_size=3, before_number=cursor)

    assert [row["number"] for row in first["data"] + second["data"]] == [5, 4, 3, 2, 1]
    assert second["pagination"] == {"limit": 3, "has_more": False, "next_cursor": None}


def test_what_one_wrote_another_posts_once(ledger: Ledger) -> None:
    writer, approver = ledger.person(), ledger.person("admin")
    manual = write(ledger, writer, DEPOSIT)

    with pytest.raises(Refused) as own:
        decide(ledger, writer, manual)
    posted = decide(ledger, approver, manual)
    again = decide(ledger, approver, manual)

    assert own.value.code == "40312"
    assert (posted["status"], again) == ("posted", posted)
    assert ledger.entries() == [
        ("adjustment", "LIQUIDITY:KES", "CONTRIBUTED_CAPITAL", 8_000),
    ]
    assert ledger.journals()[0]["memo"] == "Float paid in"
    assert ledger.verify()["bad"] is None


def test_what_was_rejected_is_never_posted(ledger: Ledger) -> None:
    manual = write(ledger, ledger.person(), DEPOSIT)
    decide(ledger, ledger.person(), manual, "reject")

    with pytest.raises(Refused) as late:
        decide(ledger, ledger.person(), manual)

    assert late.value.code == "40911"
    assert ledger.journals() == []


def test_a_journal_that_does_not_balance_names_currency_and_difference(ledger: Ledger) -> None:
    dollars = [line | {"currency": "USD"} for line in DEPOSIT]
    dollars[1] |= {"amount_minor": 7_999}

    with pytest.raises(Refused) as uneven:
        write(ledger, ledger.person(), DEPOSIT + dollars)

    assert uneven.value.code == "42280"
    assert uneven.value.extras["currency"] == "USD"
    assert uneven.value.extras["difference"] == "0.01"


def test_many_lines_become_pairs_that_say_the_same(ledger: Ledger) -> None:
    lines: list[Row] = [
        {"account": account, "side": side, "amount_minor": minor, "currency": "KES"}
        for account, side, minor in [
            ("LIQUIDITY:KES", "debit", 70),
            ("PROCESSING_COSTS", "debit", 20),
            ("OPERATING", "debit", 10),
            ("SETTLEMENT:mpesa", "credit", 45),
            ("CONTRIBUTED_CAPITAL", "credit", 55),
        ]
    ]

    decide(ledger, ledger.person(), write(ledger, ledger.person(), lines))

    assert ledger.balances() == {
        "LIQUIDITY:KES": 70,
        "PROCESSING_COSTS": 20,
        "OPERATING": 10,
        "SETTLEMENT:mpesa": -45,
        "CONTRIBUTED_CAPITAL": -55,
    }
    assert len(ledger.entries()) == 4


@pytest.mark.parametrize(
    "account", ["NOTHING", "USER_AUTH_HOLD", "MERCHANT:tn_other", "LIQUIDITY:K S"]
)
def test_accounts_that_cannot_be_adjusted_are_named(ledger: Ledger, account: str) -> None:
    with pytest.raises(Refused) as refused:
        write(ledger, ledger.person(), [DEPOSIT[0] | {"account": account}, DEPOSIT[1]])

    assert refused.value.code == "42262"
    assert refused.value.extras["errors"][0]["pointer"] == "/lines/0/account"


def test_keys_and_people_without_the_scope_adjust_nothing(ledger: Ledger) -> None:
    codes = []
    for who in (ledger.headers, ledger.person("developer"), ledger.person("auditor")):
        with pytest.raises(Refused) as refused:
            write(ledger, who, DEPOSIT)
        codes.append(refused.value.code)

    assert codes == ["40312", "40311", "40311"]


def test_a_month_is_closed_with_its_entries_and_takes_no_more(ledger: Ledger, books: Books) -> None:
    ledger.tariff(rate_bps=200)
    old = ledger.event()
    object.__setattr__(old, "occurred_at", "2026-02-10T12:00:00+00:00")
    ledger.book(old)
    who = ledger.person()

    move(ledger, who, "2026-02", "closing")
    late = ledger.event(amount="7.00")
    object.__setattr__(late, "occurred_at", "2026-02-11T12:00:00+00:00")
    ledger.book(late)
    closed = move(ledger, who, "2026-02", "closed")

    assert {row["account"]: row["balance"] for row in closed["snapshot"]} == {
        "SETTLEMENT:mpesa": "100.00",
        "USER:mpesa": "0.00",
        f"MERCHANT:{ledger.tenant_id}": "98.00",
        "RETAINED_EARNINGS": "2.00",
        "FEES_NET": "0.00",
    }
    assert [row["period_id"] == "2026-02" for row in ledger.journals()] == [True, False, True]
    assert ledger.verify()["bad"] is None
    with pytest.raises(Refused) as reopened:
        move(ledger, who, "2026-02", "open")
    assert reopened.value.code == "40911"


def test_the_month_that_runs_is_not_closed(ledger: Ledger) -> None:
    with pytest.raises(Refused) as refused:
        move(ledger, ledger.person(), "2099-12", "closing")

    assert refused.value.code == "42262"


def statement(ledger: Ledger, books: Books, shape: str, first: int = 2, last: int = 2) -> str:
    """GET /statements of the merchant's account, over days of March."""
    with bent(books):
        books.run(
            "update ledger.journals set posted_at ="
            " timestamptz '2026-03-01 10:00:00.25+00' + (number - 1) / 2 * interval '1 day'"
            " where tenant_id = %s",
            ledger.tenant_id,
        )
        books.run("select set_config('request.headers', %s, true)", json.dumps(ledger.headers))
        return str(
            books.value(
                "select (ledger.statement(%s, 'KES', %s::date, %s::date, %s)).body",
                f"MERCHANT:{ledger.tenant_id}",
                f"2026-03-{first:02}",
                f"2026-03-{last:02}",
                shape,
            )
        )


@pytest.fixture
def march(ledger: Ledger) -> Ledger:
    """Six payments of 1.00 to 6.00, two a day when read through `statement`."""
    ledger.book(*(ledger.event(amount=f"{n}.00") for n in range(1, 7)))
    return ledger


def test_a_statement_opens_where_the_one_before_closed(march: Ledger, books: Books) -> None:
    days = [json.loads(statement(march, books, "json", day, day)) for day in (1, 2, 3, 4)]

    assert [(day["opening_balance"], day["closing_balance"]) for day in days] == [
        ("0.00", "3.00"),
        ("3.00", "10.00"),
        ("10.00", "21.00"),
        ("21.00", "21.00"),
    ]
    assert [line["amount"] for line in days[1]["lines"]] == ["3.00", "4.00"]
    assert [line["balance"] for line in days[1]["lines"]] == ["6.00", "10.00"]
    assert days[3]["lines"] == []


@pytest.mark.parametrize("shape", ["json", "csv", "bai2"])
def test_a_statement_is_the_same_bytes_whenever_it_is_asked_for(
    march: Ledger, books: Books, shape: str
) -> None:
    before = statement(march, books, shape)
    books.run("set timezone = 'Africa/Nairobi'")
    books.run("set datestyle = 'German'")
    march.book(march.event(), march.event("returned", "tr_nobody"))

    after = statement(march, books, shape)

    books.run("set timezone = 'UTC'")
    books.run("reset datestyle")
    assert after == before


def test_a_statement_as_csv_has_a_line_per_entry(march: Ledger, books: Books) -> None:
    rows = list(csv.DictReader(io.StringIO(statement(march, books, "csv"), newline="")))

    assert [(row["amount"], row["balance"], row["leg"]) for row in rows] == [
        ("3.00", "6.00", "principal"),
        ("4.00", "10.00", "principal"),
    ]
    assert rows[0]["posted_at"] == "2026-03-02T10:00:00.25+00:00"


def test_a_statement_in_the_manner_of_bai2_adds_up(march: Ledger, books: Books) -> None:
    lines = statement(march, books, "bai2").splitlines()

    assert [line[:2] for line in lines] == ["01", "02", "03", "16", "16", "49", "98", "99"]
    assert lines[2].endswith(",KES,010,300,,,015,1000,,/")
    assert lines[3].startswith("16,399,300,Z,jrnl_")
    # Opening, closing and the entries; then how many records the account has.
    assert lines[5] == "49,2000,4/"
    assert lines[7] == "99,2000,1,8/"


def test_days_that_are_not_over_have_no_statement(march: Ledger) -> None:
    with pytest.raises(Refused) as refused:
        march.call(
            "ledger.statement",
            account=f"MERCHANT:{march.tenant_id}",
            currency="KES",
            from_on="2026-03-01",
            until_on="2099-01-01",
            shape="json",
        )

    assert refused.value.code == "42262"


def test_tariffs_show_the_own_first(ledger: Ledger) -> None:
    ledger.tariff(rate_bps=150, currency="KES", fixed_minor=500)

    rows = ledger.call("ledger.list_tariffs")["data"]

    assert [(row["is_default"], row["rate_bps"], row["fixed"]) for row in rows] == [
        (False, 150, "5.00"),
        (True, 0, None),
    ]
