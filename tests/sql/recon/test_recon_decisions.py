"""What people decide about exceptions, and which of it takes two of them."""

from functools import partial

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Shop
from tests.sql.recon.desk import Desk, Line, days_ago
from tests.support.sql import Books, Refused, at_once, connections


def opened(desk: Desk, kind: str) -> str:
    (found,) = [one for one in desk.exceptions(status="open") if one["kind"] == kind]
    return str(found["id"])


def test_a_line_is_assigned_to_the_transfer_a_person_names(desk: Desk) -> None:
    paid = desk.settled()
    desk.upload(Line("UNKNOWN001"))
    assert desk.kinds() == ["MISSING_LINE", "UNMATCHED_LINE"]

    answer = desk.resolve(
        opened(desk, "UNMATCHED_LINE"),
        "assign",
        transfer_id=desk.transfer_of(paid)["transfer_id"],
    )

    assert (answer.body["status"], answer.body["resolution"]) == ("resolved", "assign")
    assert desk.matches() == [("person", "settle", 10_000)]


def test_what_a_person_assigned_answers_the_missing_line_in_the_next_run(desk: Desk) -> None:
    paid = desk.settled()
    desk.upload(Line("UNKNOWN002"))
    desk.resolve(
        opened(desk, "UNMATCHED_LINE"),
        "assign",
        transfer_id=desk.transfer_of(paid)["transfer_id"],
    )

    desk.upload()

    assert desk.kinds() == []
    assert desk.session()["status"] == "matched"


def test_another_amount_cannot_be_assigned(desk: Desk) -> None:
    paid = desk.settled()
    desk.upload(Line("UNKNOWN003", 9_999))

    with pytest.raises(Refused, match="amounts differ") as refused:
        desk.resolve(
            opened(desk, "UNMATCHED_LINE"),
            "assign",
            transfer_id=desk.transfer_of(paid)["transfer_id"],
        )

    assert refused.value.code == "42262"


def test_a_transfer_of_another_tenant_cannot_be_assigned(desk: Desk, shop: Shop) -> None:
    other = Desk(Shop(shop.api, shop.books).open(), desk.rail)
    theirs = other.transfer_of(other.settled())["transfer_id"]
    desk.upload(Line("UNKNOWN004"))

    with pytest.raises(Refused) as refused:
        desk.resolve(opened(desk, "UNMATCHED_LINE"), "assign", transfer_id=theirs)

    assert refused.value.code == "42262"


def test_a_transfer_is_assigned_once(desk: Desk) -> None:
    paid = desk.settled()
    desk.upload(paid, Line("UNKNOWN005"))

    with pytest.raises(Refused) as refused:
        desk.resolve(
            opened(desk, "UNMATCHED_LINE"),
            "assign",
            transfer_id=desk.transfer_of(paid)["transfer_id"],
        )

    assert refused.value.code == "40914"


def test_a_write_off_takes_two_people(desk: Desk, books: Books) -> None:
    desk.settled()
    desk.upload()
    missing, first, second = opened(desk, "MISSING_LINE"), desk.person(), desk.person()

    proposed = desk.resolve(missing, "write_off", first)
    assert (proposed.body["status"], proposed.body["resolution"]) == ("pending_approval", None)
    with pytest.raises(Refused) as refused:
        desk.approve(missing, first)
    assert refused.value.code == "40312"
    approved = desk.approve(missing, second)

    assert (approved.body["status"], approved.body["resolution"]) == ("resolved", "write_off")
    assert [one["action"] for one in approved.body["decisions"]] == ["propose", "approve"]
    assert desk.session()["status"] == "matched"
    (figures,) = desk.session()["figures"]
    assert (figures["transfers"]["exceptions"], figures["transfers"]["matched"]) == (1, 0)
    assert books.column(
        "select action from public.audit_log where subject = %s order by audit_id", missing
    ) == ["recon.propose", "recon.approve"]


def test_a_rejected_proposal_leaves_the_question_open(desk: Desk) -> None:
    desk.settled()
    desk.upload()
    missing = opened(desk, "MISSING_LINE")
    desk.resolve(missing, "write_off")

    rejected = desk.approve(missing, approve=False)

    assert (rejected.body["status"], rejected.body["proposal"]) == ("open", None)
    assert desk.kinds() == ["MISSING_LINE"]


def test_an_adjustment_matches_the_other_amount_once_approved(desk: Desk) -> None:
    paid = desk.settled()
    desk.upload(Line(paid.receipt, 9_950))
    mismatch = opened(desk, "AMOUNT_MISMATCH")

    desk.resolve(mismatch, "adjust")
    desk.approve(mismatch)

    assert desk.matches() == [("person", "settle", 10_000)]
    assert desk.session()["status"] == "matched"


def test_a_ticket_keeps_the_question_open_under_its_reference(desk: Desk) -> None:
    desk.upload(Line())
    unknown = opened(desk, "UNMATCHED_LINE")

    answer = desk.resolve(unknown, "ticket", reference="SR-4711")

    assert (answer.body["status"], answer.body["details"]["ticket"]) == ("open", "SR-4711")
    with pytest.raises(Refused, match="needs the partner"):
        desk.resolve(unknown, "ticket")


def test_what_does_not_fit_the_kind_is_refused_by_name(desk: Desk) -> None:
    desk.settled()
    desk.upload()

    with pytest.raises(Refused, match="write_off, ticket") as refused:
        desk.resolve(opened(desk, "MISSING_LINE"), "assign")

    assert refused.value.code == "42262"


def test_a_decided_exception_is_not_decided_again(desk: Desk) -> None:
    paid = desk.settled()
    desk.upload(Line("UNKNOWN006"))
    unknown = opened(desk, "UNMATCHED_LINE")
    desk.resolve(unknown, "assign", transfer_id=desk.transfer_of(paid)["transfer_id"])

    with pytest.raises(Refused) as refused:
        desk.resolve(unknown, "write_off")

    assert (refused.value.code, refused.value.extras["current_state"]) == ("40911", "resolved")


def test_eight_people_at_once_decide_once(
    desk: Desk, shop: Shop, module_database: Database
) -> None:
    paid = desk.settled()
    desk.upload(Line("UNKNOWN007"))
    unknown = opened(desk, "UNMATCHED_LINE")
    transfer_id = desk.transfer_of(paid)["transfer_id"]
    people = [desk.person() for _ in range(8)]

    with connections(module_database, 8) as apis:
        desks = [Desk(Shop(api, shop.books, shop.tenant_id), desk.rail) for api in apis]
        answers = at_once(
            [
                partial(one.resolve, unknown, "assign", person, transfer_id=transfer_id)
                for one, person in zip(desks, people, strict=True)
            ]
        )

    assert sum(not isinstance(answer, Refused) for answer in answers) == 1
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"40911"}
    assert desk.matches() == [("person", "settle", 10_000)]


def test_a_refused_file_is_a_question_that_is_asked_once(desk: Desk, books: Books) -> None:
    rejected = [
        desk.shop.api.call(
            "fn_recon",
            desk.shop.headers,
            "recon.reject_statement",
            rail="mpesa",
            format="mpesa_csv",
            file_name=None,
            sha256="b" * 64,
            kind="TOTALS_MISMATCH",
            line_no=8,
            reason="Total Paid In is wrong",
        )
        for _ in range(2)
    ]

    assert rejected[0] == rejected[1]
    (one,) = desk.exceptions(status="open")
    assert (one["kind"], one["details"]["line"]) == ("TOTALS_MISMATCH", 8)
    assert books.alerts(one["id"]) == ["recon_file_rejected"]
    desk.resolve(one["id"], "acknowledge")
    assert books.alerts(one["id"]) == []


@pytest.mark.parametrize("app_role", ["cashier", "developer", "auditor"])
def test_who_may_not_decide_is_told_the_scope(desk: Desk, app_role: str) -> None:
    desk.upload(Line())

    with pytest.raises(Refused, match="recon:write") as refused:
        desk.resolve(opened(desk, "UNMATCHED_LINE"), "ticket", desk.person(app_role), reference="1")

    assert refused.value.code == "40311"


def test_another_tenant_sees_nothing(desk: Desk, shop: Shop) -> None:
    desk.upload(Line())
    unknown, session = opened(desk, "UNMATCHED_LINE"), desk.session()["id"]
    other = Desk(Shop(shop.api, shop.books).open(), desk.rail)

    assert other.exceptions() == []
    for call in (
        lambda: other.resolve(unknown, "ticket", reference="1"),
        lambda: other.call("recon.get_session", session_id=session),
        lambda: other.call("recon.session_report", session_id=session),
    ):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.code == "40401"


# The day


def test_the_daily_task_opens_each_tenants_day_once(desk: Desk, books: Books) -> None:
    desk.daily()
    desk.daily()

    opened_days = books.column(
        "select business_date from recon.recon_sessions where tenant_id = %s", desk.shop.tenant_id
    )
    assert opened_days == [days_ago(0)]
    assert desk.session(days_ago(0))["time_zone"] == "Africa/Nairobi"


def test_the_daily_task_alerts_when_no_statement_came(desk: Desk, books: Books) -> None:
    desk.settled(day=days_ago(2))
    books.run(
        "insert into recon.recon_sessions (session_id, tenant_id, environment, rail,"
        " business_date, time_zone, updated_at) values (public.new_id('rs'), %s, 'sandbox',"
        " 'mpesa', %s, 'Africa/Nairobi', now() - interval '2 hours')",
        desk.shop.tenant_id,
        days_ago(2),
    )

    desk.daily()

    session = desk.session(days_ago(2))
    assert (session["status"], session["figures"][0]["transfers"]["awaiting"]) == ("open", 1)
    assert books.alerts(session["id"]) == ["recon_statement_missing"]


def test_the_daily_task_finds_what_was_awaited_and_never_came(desk: Desk, books: Books) -> None:
    late = desk.settled(day=days_ago(1))
    desk.upload(period_from=days_ago(1).isoformat(), period_to=days_ago(1).isoformat())
    assert desk.session(days_ago(1))["status"] == "open"

    # A day goes by.
    books.run(
        "update recon.recon_sessions set business_date = business_date - 1,"
        " updated_at = now() - interval '2 hours' where tenant_id = %s",
        desk.shop.tenant_id,
    )
    books.run(
        "update recon.statements set period_from = period_from - 1, period_to = period_to - 1"
        " where tenant_id = %s",
        desk.shop.tenant_id,
    )
    books.run(
        "update payments.transfers set settled_at = settled_at - interval '1 day'"
        " where receipt = %s",
        late.receipt,
    )
    desk.daily()

    assert desk.kinds() == ["MISSING_LINE"]
    session = desk.session(days_ago(2))
    assert session["status"] == "exceptions"
    assert books.alerts(session["id"]) == ["recon_missing_lines"]


def test_a_statement_whose_run_was_cut_off_is_matched_by_the_daily_task(
    desk: Desk, books: Books
) -> None:
    desk.load(desk.settled())
    books.run(
        "update recon.statements set imported_at = now() - interval '2 minutes'"
        " where tenant_id = %s",
        desk.shop.tenant_id,
    )

    desk.daily()

    assert desk.matches() == [("rail_reference", "settle", 10_000)]


def test_days_are_numbered_so_that_neighbours_differ_by_one(books: Books) -> None:
    numbers = books.column(
        "select recon.day_number(d::date, true) from generate_series(date '2026-11-19',"
        " date '2026-11-24', interval '1 day') as d"
    )

    # Thursday, Friday, then Saturday and Sunday count as Monday, Monday, Tuesday.
    assert [number - numbers[0] for number in numbers] == [0, 1, 2, 2, 2, 3]
    assert books.value("select recon.day_number('2001-01-02', false)") == 1


def test_a_run_that_cannot_account_for_everything_leaves_nothing(desk: Desk, books: Books) -> None:
    statement = desk.load(desk.settled(), desk.settled()).body["id"]
    books.run(
        "create function recon.sabotage() returns trigger language plpgsql set search_path = ''"
        " as 'begin new.amount_minor := new.amount_minor - 1; return new; end'"
    )
    books.run(
        "create trigger sabotage before insert on recon.matches for each row"
        " execute function recon.sabotage()"
    )
    try:
        with pytest.raises(Exception, match="not accounted for exactly once"):
            desk.call("recon.match_statement", statement_id=statement)
    finally:
        books.run("drop function recon.sabotage cascade")

    assert desk.matches() == []
    assert (
        books.column("select run_id from recon.runs where tenant_id = %s", desk.shop.tenant_id)
        == []
    )
    desk.call("recon.match_statement", statement_id=statement)
    assert len(desk.matches()) == 2
