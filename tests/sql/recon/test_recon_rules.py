"""recon.match_lines: the rules in their order, and what is left."""

from dataclasses import replace

from tests.sql.recon.desk import Desk, Line, days_ago
from tests.support.sql import Books


def test_lines_with_our_receipts_are_matched_by_the_first_rule(desk: Desk) -> None:
    lines = [desk.settled(amount) for amount in (10_000, 25_000)]

    answer = desk.upload(*lines)

    assert desk.matches() == [
        ("rail_reference", "settle", 10_000),
        ("rail_reference", "settle", 25_000),
    ]
    assert desk.exceptions() == []
    (session,) = answer["sessions"]
    assert session["status"] == "matched"
    (figures,) = session["figures"]
    assert figures["lines"] == {
        "count": 2, "matched": 2, "marked": 0, "exceptions": 0,
        "in": "350.00", "out": "0.00", "unmatched": "0.00",
    }  # fmt: skip
    assert figures["transfers"] == {
        "count": 2, "matched": 2, "exceptions": 0, "awaiting": 0,
        "in": "350.00", "out": "0.00", "unmatched": "0.00",
    }  # fmt: skip


def test_planted_breaks_give_exact_exceptions(desk: Desk) -> None:
    good, changed, twice = desk.settled(), desk.settled(20_000), desk.settled(30_000)
    missing = desk.settled(40_000)

    answer = desk.upload(
        good, replace(changed, amount_minor=20_100), twice, twice, Line(amount_minor=777)
    )

    assert answer["counts"]["exceptions"] == {
        "AMOUNT_MISMATCH": 1, "DUPLICATE_LINE": 1, "MISSING_LINE": 1, "UNMATCHED_LINE": 1,
    }  # fmt: skip
    by_kind = {one["kind"]: one for one in desk.exceptions(status="open")}
    assert by_kind["MISSING_LINE"]["transfer_id"] == desk.transfer_of(missing)["transfer_id"]
    assert by_kind["AMOUNT_MISMATCH"]["transfer_id"] == desk.transfer_of(changed)["transfer_id"]
    assert by_kind["AMOUNT_MISMATCH"]["details"]["booked"] == "200.00"
    assert (by_kind["UNMATCHED_LINE"]["amount"], by_kind["UNMATCHED_LINE"]["transfer_id"]) == (
        "7.77",
        None,
    )
    assert desk.session()["status"] == "exceptions"
    (figures,) = desk.session()["figures"]
    assert (figures["lines"]["matched"], figures["lines"]["exceptions"]) == (2, 3)
    assert (figures["transfers"]["matched"], figures["transfers"]["exceptions"]) == (2, 2)


def test_a_transfer_of_yesterday_is_awaited_not_missing(desk: Desk) -> None:
    desk.settled(day=days_ago(1))

    desk.upload(period_from=days_ago(1).isoformat(), period_to=days_ago(1).isoformat())

    assert desk.exceptions() == []
    (figures,) = desk.session(days_ago(1))["figures"]
    assert figures["transfers"]["awaiting"] == 1
    assert desk.session(days_ago(1))["status"] == "open"


def test_a_line_that_comes_later_answers_the_question_about_it(desk: Desk, books: Books) -> None:
    late = desk.settled()
    desk.upload(desk.settled())
    assert desk.kinds() == ["MISSING_LINE"]
    assert books.alerts(desk.session()["id"]) == ["recon_missing_lines"]

    desk.upload(late)

    assert desk.kinds() == []
    assert [one["resolution"] for one in desk.exceptions()] == ["matched_later"]
    assert desk.session()["status"] == "matched"
    assert books.alerts(desk.session()["id"]) == []


def test_an_overlapping_statement_marks_what_was_seen_before(desk: Desk) -> None:
    paid, strange = desk.settled(), Line(amount_minor=900)
    desk.upload(paid, strange)

    desk.upload(strange, paid, desk.settled(5_000))

    assert desk.kinds() == ["UNMATCHED_LINE"]
    (figures,) = desk.session()["figures"]
    assert (figures["lines"]["count"], figures["lines"]["matched"], figures["lines"]["marked"]) == (
        5, 2, 2,
    )  # fmt: skip


def test_the_same_file_again_changes_nothing(desk: Desk) -> None:
    lines = [desk.settled(), Line()]
    first = desk.upload(*lines, sha256="a" * 64)

    again = desk.upload(*lines, sha256="a" * 64)

    assert (first["statement"].status, again["statement"].status) == (201, 200)
    assert again["statement"].body["already_imported"] is True
    assert len(desk.matches()) == 1
    assert desk.kinds() == ["UNMATCHED_LINE"]


def test_charges_and_own_moves_are_marked_and_matched_with_nothing(desk: Desk) -> None:
    paid = desk.settled()

    desk.upload(
        paid,
        Line(paid.receipt, 900, direction="out", type="fee"),
        Line(amount_minor=5_000_000, direction="out", type="internal"),
        Line(amount_minor=0, type="void"),
    )

    assert desk.exceptions() == []
    (figures,) = desk.session()["figures"]
    assert (figures["lines"]["matched"], figures["lines"]["marked"]) == (1, 3)


def test_our_reference_matches_where_no_receipt_does(desk: Desk) -> None:
    paid = desk.settled()
    intent_id = desk.transfer_of(paid)["payment_intent_id"]

    desk.upload(replace(paid, receipt="OTHERNAME1", our_ref=intent_id[-12:]))

    assert desk.matches() == [("our_reference", "settle", 10_000)]


def test_tenant_and_transfer_as_reference_match_too(desk: Desk) -> None:
    paid = desk.settled()
    transfer_id = desk.transfer_of(paid)["transfer_id"]

    desk.upload(replace(paid, receipt=None, our_ref=f"{desk.shop.tenant_id}:{transfer_id}"))

    assert desk.matches() == [("our_reference", "settle", 10_000)]


def test_a_configured_fee_may_be_kept_and_no_other(desk: Desk, books: Books) -> None:
    books.run("update recon.rail_rules set fee_bps = 100")
    try:
        net, other = desk.settled(20_000), desk.settled(30_000)
        refs = [desk.transfer_of(line)["transfer_id"] for line in (net, other)]

        desk.upload(
            replace(net, amount_minor=19_800, receipt=None, our_ref=refs[0]),
            replace(other, amount_minor=29_000, receipt=None, our_ref=refs[1]),
        )
    finally:
        books.run("update recon.rail_rules set fee_bps = 0")

    assert desk.matches() == [("our_reference", "settle", 20_000)]
    assert desk.kinds() == ["FEE_MISMATCH"]


def test_payer_amount_and_day_match_within_a_day(desk: Desk) -> None:
    near, far = desk.settled(day=days_ago(4)), desk.settled(day=days_ago(6))
    party = desk.transfer_of(near)["payer_hash"]

    desk.upload(
        replace(near, receipt="X1", day=days_ago(3), party_hash=party),
        replace(far, receipt="X2", day=days_ago(8), party_hash=party),
    )

    assert desk.matches() == [("party_and_day", "settle", 10_000)]
    assert "UNMATCHED_LINE" in desk.kinds()


def test_equal_payments_of_a_payer_pair_one_with_one(desk: Desk) -> None:
    lines = [desk.settled() for _ in range(3)]
    party = desk.transfer_of(lines[0])["payer_hash"]

    desk.upload(*(replace(line, receipt=f"Y{n}", party_hash=party) for n, line in enumerate(lines)))

    assert desk.matches() == [("party_and_day", "settle", 10_000)] * 3
    assert desk.exceptions() == []


def test_acquirer_reference_and_authorisation_code_match_within_a_day(desk: Desk) -> None:
    paid = desk.settled()
    transfer = desk.transfer_of(paid)

    desk.upload(
        replace(
            paid,
            receipt=None,
            day=days_ago(2),
            acq_ref=transfer["rail_ref"],
            auth_code=transfer["receipt"],
        )
    )

    assert desk.matches() == [("party_and_day", "settle", 10_000)]


def test_lines_that_name_one_transfer_match_when_they_sum_up(desk: Desk) -> None:
    paid = desk.settled(10_000)
    ref = desk.transfer_of(paid)["payment_intent_id"][-12:]

    desk.upload(
        replace(paid, receipt="P1", amount_minor=6_000, our_ref=ref),
        replace(paid, receipt="P2", amount_minor=4_000, our_ref=ref),
    )

    assert desk.matches() == [("batch", "settle", 6_000), ("batch", "settle", 4_000)]
    assert desk.exceptions() == []


def test_the_total_of_a_batch_is_marked_when_its_lines_sum_up(desk: Desk) -> None:
    lines = [replace(desk.settled(amount), batch_ref="B7") for amount in (1_000, 2_000)]

    desk.upload(*lines, Line("DEPOSIT1", 3_000, type="batch", batch_ref="B7"))

    assert desk.exceptions() == []
    (figures,) = desk.session()["figures"]
    assert (figures["lines"]["matched"], figures["lines"]["marked"]) == (2, 1)


def test_a_batch_total_that_is_wrong_is_asked_about(desk: Desk) -> None:
    paid = replace(desk.settled(1_000), batch_ref="B8")

    desk.upload(paid, Line("DEPOSIT2", 3_000, type="batch", batch_ref="B8"))

    assert desk.kinds() == ["UNMATCHED_LINE"]


def test_two_runs_over_the_same_input_find_the_same(desk: Desk) -> None:
    lines = [desk.settled(1_000 * n) for n in range(1, 6)]
    strange = [Line(amount_minor=99), replace(lines[0], amount_minor=1)]

    first = desk.upload(*lines[:4], *strange)
    again = desk.upload(*lines[:4], *strange)

    assert first["counts"]["matched"]["rail_reference"] == 4
    assert again["counts"]["matched"] == first["counts"]["matched"]
    assert again["counts"]["exceptions"] == {}
    assert again["counts"]["marked"] == 6
