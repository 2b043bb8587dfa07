"""What events become: entries by rule, fees by tariff, returns in proportion, nothing twice."""

# ruff: noqa: S608 -- statements are put together from constants of this file

import re
from dataclasses import replace

import psycopg
import pytest

from tests.sql.ledger.ledger import Ledger
from tests.support.sql import Books


def test_a_settled_collection_is_what_the_merchant_is_owed(ledger: Ledger) -> None:
    assert ledger.book(ledger.event()) == []

    assert ledger.entries() == [
        ("fund_in", "SETTLEMENT:mpesa", "USER:mpesa", 10_000),
        ("principal", "USER:mpesa", "MERCHANT:me", 10_000),
    ]
    assert ledger.balances() == {"SETTLEMENT:mpesa": 10_000, "MERCHANT:me": -10_000}


def test_fee_and_its_tax_are_taken_from_the_merchant(ledger: Ledger) -> None:
    # The worked example of the reference: fee 2.00 with 15 % tax leaves 97.70.
    ledger.tariff(rate_bps=200, tax_bps=1500)

    ledger.book(ledger.event())

    assert ledger.balances() == {
        "SETTLEMENT:mpesa": 10_000,
        "MERCHANT:me": -9_770,
        "FEES_NET": -200,
        "FEES_VAT:KE": -30,
    }


@pytest.mark.parametrize(
    ("amount", "rate_bps", "fee"),
    [("1.00", 50, 0), ("3.00", 50, 2), ("5.00", 50, 2), ("0.99", 100, 1), ("1.50", 100, 2)],
)
def test_fees_are_rounded_half_to_even(
    ledger: Ledger, amount: str, rate_bps: int, fee: int
) -> None:
    ledger.tariff(rate_bps=rate_bps)

    ledger.book(ledger.event(amount=amount))

    assert -ledger.balances().get("FEES_NET", 0) == fee


def test_the_more_particular_tariff_wins(ledger: Ledger) -> None:
    ledger.tariff(rate_bps=100)
    ledger.tariff(rate_bps=300, currency="KES", fixed_minor=50)
    ledger.tariff(rate_bps=900, valid_from="2026-01-01", valid_until="2026-01-02", rail="mpesa")

    ledger.book(ledger.event())

    assert ledger.balances()["FEES_NET"] == -350


def test_what_the_rail_charged_is_passed_on(ledger: Ledger) -> None:
    ledger.book(ledger.event(fee="1.25"))

    assert ledger.balances()["FEES_PARTNER:mpesa"] == -125
    assert ledger.balances()["MERCHANT:me"] == -9_875


def test_a_held_back_share_goes_to_the_merchant_when_its_time_is_over(
    ledger: Ledger, books: Books
) -> None:
    ledger.tariff(reserve_bps=1000, reserve_days=7)
    ledger.book(ledger.event())
    assert ledger.balances()["RESERVE:me"] == -1_000
    books.run("update ledger.reserves set due_at = now() where tenant_id = %s", ledger.tenant_id)

    books.run("select ledger.release_reserves()")
    books.run("select ledger.release_reserves()")

    assert ledger.balances() == {"SETTLEMENT:mpesa": 10_000, "MERCHANT:me": -10_000}


def test_a_payout_takes_from_the_merchant_and_warns_when_nothing_is_there(
    ledger: Ledger, books: Books
) -> None:
    ledger.book(ledger.event(purpose="payout", intent="PUSH"))

    assert ledger.balances() == {"SETTLEMENT:mpesa": -10_000, "MERCHANT:me": 10_000}
    assert books.column(
        "select kind from public.alerts where tenant_id = %s", ledger.tenant_id
    ) == ["ledger_balance_negative"]


def test_a_refund_gives_fee_and_tax_back_in_proportion_and_the_parts_add_up(
    ledger: Ledger,
) -> None:
    # A third of the fee of 1.00 and its tax of 0.16 is no whole number of cents.
    ledger.tariff(rate_bps=100, tax_bps=1600)
    paid = ledger.event()

    refused = ledger.book(paid, *(ledger.refund(paid, "33.33") for _ in range(2)))
    refused += ledger.book(ledger.refund(paid, "33.34"))

    assert refused == []
    assert ledger.balances() == {"FEES_NET": -100, "FEES_REVERSAL": 100}
    assert {row["related_journal_id"] for row in ledger.journals()[1:]} == {
        ledger.journals()[0]["journal_id"]
    }


def test_a_kept_fee_is_not_given_back(ledger: Ledger) -> None:
    ledger.tariff(rate_bps=200, is_fee_returned=False)
    paid = ledger.event()

    ledger.book(paid, ledger.refund(paid, "100.00"))

    assert ledger.balances() == {"FEES_NET": -200, "MERCHANT:me": 200}


def test_a_refund_that_bounced_leaves_what_was_there_before(ledger: Ledger) -> None:
    ledger.tariff(rate_bps=200, tax_bps=1600)
    paid = ledger.event()
    refund = ledger.refund(paid, "40.00")
    ledger.book(paid)
    before = ledger.balances()

    bounced = ledger.event("returned", refund.transfer_id, purpose="refund", amount="40.00")
    ledger.book(refund, bounced)

    assert ledger.balances() == before
    assert ledger.book(ledger.refund(paid, "100.00")) == []


def test_a_return_by_the_rail_is_the_contra_of_what_was_booked(ledger: Ledger) -> None:
    ledger.tariff(rate_bps=200, tax_bps=1600)
    paid = ledger.event()

    ledger.book(paid)
    ledger.book(ledger.event("returned", paid.transfer_id))

    assert ledger.balances() == {"FEES_NET": -200, "FEES_REVERSAL": 200}


def test_a_return_by_the_rail_after_a_refund_brings_back_the_rest(ledger: Ledger) -> None:
    paid = ledger.event()

    refused = ledger.book(
        paid,
        ledger.refund(paid, "30.00"),
        ledger.event("returned", paid.transfer_id, returned_amount="100.00"),
    )

    assert refused == []
    assert ledger.balances() == {}


def test_a_return_that_a_refund_caused_books_nothing_of_its_own(ledger: Ledger) -> None:
    paid = ledger.event()

    ledger.book(paid, ledger.event("returned", paid.transfer_id, triggered_by="refund"))

    assert len(ledger.journals()) == 1


def test_a_payout_that_came_back_is_owed_again(ledger: Ledger) -> None:
    out = ledger.event(purpose="payout", intent="PUSH", amount="60.00")

    ledger.book(ledger.event(), out, ledger.event("returned", out.transfer_id, purpose="payout"))
    refused = ledger.book(
        ledger.event("returned", out.transfer_id, purpose="payout", amount="60.00")
    )

    assert refused == []
    assert ledger.balances() == {"SETTLEMENT:mpesa": 10_000, "MERCHANT:me": -10_000}


def test_an_exchange_is_booked_per_currency_and_the_difference_is_seen(ledger: Ledger) -> None:
    paid = ledger.event(
        currency="USD",
        fx={
            "settlement_amount": "1850.00",
            "settlement_currency": "ZAR",
            "quoted_amount": "1850.50",
        },
    )

    ledger.book(paid)

    assert ledger.balances("USD") == {"SETTLEMENT:mpesa": 10_000, "LIQUIDITY:USD": -10_000}
    assert ledger.balances("ZAR") == {
        "LIQUIDITY:ZAR": 185_000,
        "FX_PNL": 50,
        "MERCHANT:me": -185_050,
    }
    ledger.book(ledger.event("returned", paid.transfer_id, currency="USD"))
    assert (ledger.balances("USD"), ledger.balances("ZAR")) == ({}, {})


def test_an_authorisation_is_held_in_memo_and_released_by_its_capture(ledger: Ledger) -> None:
    held = ledger.event("accepted", intent="AUTH", purpose="direct")
    captured = ledger.event(
        intent="CAPTURE", purpose="direct", related_transfer_id=held.transfer_id
    )

    ledger.book(held)
    assert ledger.balances() == {"USER_AUTH_HOLD": 10_000, "LIQUIDITY_AUTH_PENDING": -10_000}
    ledger.book(captured)

    assert ledger.balances() == {"SETTLEMENT:mpesa": 10_000, "MERCHANT:me": -10_000}
    assert [row["is_memo"] for row in ledger.journals()] == [True, False]


@pytest.mark.parametrize("how", ["failed", "expired"])
def test_an_authorisation_that_ends_is_released(ledger: Ledger, books: Books, how: str) -> None:
    held = ledger.event("accepted", intent="AUTH", purpose="direct")
    ledger.book(held)
    books.run(
        "update ledger.holds set expires_at = now() where tenant_id = %s and %s = 'expired'",
        ledger.tenant_id,
        how,
    )

    books.run("select ledger.expire_holds()")
    ledger.book(ledger.event("failed", held.transfer_id, intent="AUTH", purpose="direct"))

    assert ledger.balances() == {}
    assert len(ledger.journals()) == 2


@pytest.mark.parametrize(
    "type_", ["initiated", "submitted", "accepted", "failed", "needs_review", "receipt_recorded"]
)
def test_what_moves_no_money_books_nothing(ledger: Ledger, type_: str) -> None:
    assert ledger.book(ledger.event(type_)) == []

    assert ledger.journals() == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"currency": "XXX"}, "the currency XXX does not exist"),
        ({"currency": None}, "the currency null does not exist"),
        ({"amount": "100"}, "100 is no amount of KES"),
        ({"amount": "0.00"}, "0.00 is no amount of KES"),
        ({"amount": "ab.cd"}, "ab.cd is no amount of KES"),
        ({"amount": "1.0.00"}, "1.0.00 is no amount of KES"),
        ({"amount": ".50"}, ".50 is no amount of KES"),
        ({"amount": ""}, " is no amount of KES"),
        ({"amount": "", "currency": "UGX"}, " is no amount of UGX"),
        ({"amount": "99999999999999999999.00"}, "is no amount of KES"),
        ({"fee": "99999999999999999999.00"}, "is no amount of KES"),
        ({"rail": None}, "the event names no rail"),
        ({"schema_version": "2"}, "the books know no version 2 of transfer.settled"),
        ({"purpose": "gift"}, "no posting rule for"),
        ({"fx": {"settlement_currency": "ZAR"}}, "names no exchange"),
        ({"rail": "no such"}, "accounts_code_check"),
    ],
)
def test_an_event_that_cannot_be_booked_fails_alone(
    ledger: Ledger, words: dict[str, object], problem: str
) -> None:
    refused = ledger.book(ledger.event(), ledger.event(**words), ledger.event())

    assert [is_final for _, is_final in refused] == [True]
    assert problem in refused[0][0]
    assert ledger.balances()["MERCHANT:me"] == -20_000


def test_an_event_of_unknown_type_fails_alone(ledger: Ledger) -> None:
    refused = ledger.book(ledger.event("vanished"), ledger.event())

    assert refused == [("the books know no event of type transfer.vanished", True)]
    assert len(ledger.journals()) == 1


def test_a_refund_of_what_is_not_booked_yet_is_tried_again(ledger: Ledger) -> None:
    paid = ledger.event()

    first = ledger.book(ledger.refund(paid, "100.00"))
    ledger.book(paid)

    assert first == [("what it gives back is not booked yet", False)]
    assert ledger.book(ledger.refund(paid, "100.00")) == []
    assert ledger.balances() == {}


def test_more_than_was_booked_is_never_given_back(ledger: Ledger) -> None:
    paid = ledger.event()

    refused = ledger.book(paid, ledger.refund(paid, "60.00"), ledger.refund(paid, "60.00"))

    assert refused == [("more is given back than was booked", True)]
    assert ledger.balances() == {"SETTLEMENT:mpesa": 4_000, "MERCHANT:me": -4_000}


def test_a_duplicate_changes_nothing_even_under_another_id(ledger: Ledger) -> None:
    paid = ledger.event()
    again = ledger.event(transfer_id=paid.transfer_id)

    assert ledger.book(paid, paid) == []
    assert ledger.book(again, ledger.event(amount="1.00")) == []

    assert ledger.balances()["MERCHANT:me"] == -10_100
    assert [row["number"] for row in ledger.journals()] == [1, 2]


def test_spoilt_events_among_many_cost_the_others_nothing(ledger: Ledger) -> None:
    old = ledger.event()
    ledger.book(old)
    batch = [ledger.event(amount="1.00") for _ in range(300)]
    for place in (0, 77, 299):
        batch[place] = batch[place].changed(rail="no such")
    # What comes twice, what waits behind a spoilt one, and what undoes something at the far end.
    behind = ledger.event("returned", batch[77].transfer_id)
    batch[50:50] = [ledger.refund(batch[250], "1.00"), old, batch[200]]
    batch.append(behind)

    refused = ledger.book(*batch)

    assert [is_final for _, is_final in refused] == [True] * 3
    assert ledger.balances() == {"SETTLEMENT:mpesa": 39_600, "MERCHANT:me": -39_600}
    assert len(ledger.journals()) == 1 + 297 + 1
    assert ledger.verify() == {"verified": 299, "bad": None}


def test_what_stands_before_a_spoilt_event_of_its_transfer_is_booked(ledger: Ledger) -> None:
    paid = ledger.event()
    ledger.book(paid)
    returned = ledger.event("returned", paid.transfer_id)
    # Later in the stream, and yet it goes first: money is booked before what undoes it.
    spoilt = replace(ledger.event(transfer_id=paid.transfer_id, rail="no such"), seq=6)

    refused = ledger.book(returned, spoilt)

    assert [is_final for _, is_final in refused] == [True]
    assert ledger.balances() == {}
    assert [row["event_id"] for row in ledger.journals()] == [paid.event_id, returned.event_id]


def test_a_spoilt_batch_is_booked_in_a_few_parts(ledger: Ledger, books: Books) -> None:
    batch = [ledger.event() for _ in range(200)]
    batch[123] = batch[123].changed(rail="no such")

    ledger.book(*batch)

    postings = books.value(
        "select b.version from ledger.balances as b join ledger.accounts as a using (account_id)"
        " where a.tenant_id = %s and a.name = 'MERCHANT'",
        ledger.tenant_id,
    )
    assert ledger.balances()["MERCHANT:me"] == -1_990_000
    assert postings < 30


def test_a_floor_holds_an_event_back_until_money_is_there(ledger: Ledger, books: Books) -> None:
    ledger.book(ledger.event(amount="1.00"))
    books.run(
        "update ledger.balances set floor = -1 where account_id = (select account_id from"
        " ledger.accounts where tenant_id = %s and name = 'MERCHANT')",
        ledger.tenant_id,
    )
    out = ledger.event(purpose="payout", intent="PUSH")

    refused = ledger.book(out, ledger.event(amount="2.00"))

    assert [is_final for _, is_final in refused] == [False]
    assert "balances_floor" in refused[0][0]
    ledger.book(ledger.event())
    assert ledger.book(out) == []
    assert ledger.balances()["MERCHANT:me"] == -300


def test_a_matched_statement_line_clears_what_the_rail_owed_once(
    ledger: Ledger, books: Books
) -> None:
    ledger.book(ledger.event())

    journals = {
        books.value(
            "select ledger.clear_settlement("
            "%s, 'sandbox', 'mpesa', 'KES', 10000, 150, 'L1', now())",
            ledger.tenant_id,
        )
        for _ in range(2)
    }

    assert len(journals) == 1
    assert ledger.balances() == {
        "LIQUIDITY:KES": 9_850,
        "PROCESSING_COSTS": 150,
        "MERCHANT:me": -10_000,
    }


def test_what_occurred_in_a_closed_month_is_booked_into_the_open_one(
    ledger: Ledger, books: Books
) -> None:
    books.run(
        "insert into ledger.periods (tenant_id, environment, period_id, status, changed_by)"
        " values (%s, 'sandbox', '2026-01', 'closing', 'test')",
        ledger.tenant_id,
    )
    late = ledger.event()
    object.__setattr__(late, "occurred_at", "2026-01-31T23:59:59+00:00")

    ledger.book(late)

    (journal,) = ledger.journals()
    assert journal["period_id"] > "2026-01"
    assert journal["memo"] == "occurred in 2026-01, which is closed"


def test_every_type_of_transfer_event_that_sql_records_is_known(books: Books) -> None:
    words = books.column(
        "select distinct (regexp_matches(p.prosrc, '''(transfer\\.[a-z_]+)''', 'g'))[1]"
        " from pg_catalog.pg_proc as p where p.pronamespace in ('payments'::regnamespace,"
        " 'rails'::regnamespace, 'recon'::regnamespace)"
        " union select event_type from payments.transfer_transitions"
    )
    known = set(books.column("select event_type from ledger.event_types"))

    assert {word for word in words if re.fullmatch(r"transfer\.[a-z_]+", word)} - known == set()


@pytest.mark.parametrize(
    "change",
    [
        "credit_account_id = (select max(account_id) from ledger.accounts)",
        "currency = 'USD'",
        "credit_account_id = 0",
    ],
)
def test_an_entry_joins_only_accounts_that_belong_together(
    ledger: Ledger, books: Books, change: str
) -> None:
    ledger.book(ledger.event())
    other = Ledger(ledger.api, books).open()
    other.book(other.event("accepted", intent="AUTH", purpose="direct"))
    books.run("drop table if exists copied")
    books.run(
        "create temporary table copied as select e.* from ledger.journal_entries as e"
        " join ledger.journals as j using (journal_no)"
        " where j.tenant_id = %s and e.leg = 'principal'",
        ledger.tenant_id,
    )
    books.run("update copied set leg_no = 9, " + change)

    with pytest.raises(psycopg.errors.CheckViolation, match="do not belong together"):
        books.run("insert into ledger.journal_entries select * from copied")


def test_a_journal_without_entries_is_refused(ledger: Ledger, books: Books) -> None:
    ledger.book(ledger.event())

    with pytest.raises(psycopg.errors.CheckViolation, match="no entries"):
        books.run(
            "insert into ledger.journals select 0, 'jrnl_x', 'x', tenant_id, environment, 2, null,"
            " event_type, transfer_id, occurred_at, posted_at, period_id, 1, null, false, '', hash"
            " from ledger.journals where tenant_id = %s",
            ledger.tenant_id,
        )


def test_every_set_of_rules_moves_what_it_names_between_two_accounts(books: Books) -> None:
    # A leg with an account that the chart does not know would fail its whole batch.
    unknown = books.column(
        "select distinct a.template from ledger.posting_rules as r"
        " cross join unnest(array[r.debit, r.credit]) as a (template)"
        " where not exists (select from ledger.chart as c"
        "  where c.name = split_part(a.template, ':', 1))"
        " or ledger.account_code(a.template, 'tn_x', 'mpesa', 'KES') is null"
    )

    assert unknown == []
