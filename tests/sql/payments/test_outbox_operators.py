"""People and deliveries: who sees which, and what a decision does to the stream behind it."""

import json
import uuid
from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.payments.outbox import TENANT, Log
from tests.support.sql import Api, Books, Headers, Refused, Row


@pytest.fixture
def log(books: Books, module_database: Database) -> Log:
    return Log.open(books, module_database, max_attempts=2, stalled_after=1)


@pytest.fixture
def dead(log: Log) -> Iterator[Row]:
    """A dead delivery with two more behind it."""
    for seq in range(3):
        log.write("tr_1", seq)
    with log.session() as consumer:
        consumer.begin()
        row, *_ = consumer.take()
        consumer.fail(row, "no rule for it", final=True)
        consumer.commit()
    yield row
    log.books.run("delete from payments.outbox_exceptions where destination = %s", log.destination)


def person(books: Books, app_role: str, tenant_id: str = TENANT) -> Headers:
    """The headers of a signed-in person with this role."""
    user_id = str(uuid.uuid4())
    books.run(
        "insert into public.tenants (tenant_id, name, country, status, plan)"
        " values (%s, 'A shop', 'KE', 'active', 'unlimited') on conflict do nothing",
        tenant_id,
    )
    books.run("insert into public.users (user_id) values (%s)", user_id)
    books.run(
        "insert into public.memberships (tenant_id, user_id, app_role) values (%s, %s, %s)",
        tenant_id,
        user_id,
        app_role,
    )
    return {"x-stalela-user-id": user_id, "x-stalela-tenant-id": tenant_id}


def call(api: Api, who: Headers, function: str, **arguments: object) -> Row:
    answer = api.call("fn_deliveries", who, f"payments.{function}", **arguments)
    return dict(json.loads(answer["body"]))


def listed(api: Api, who: Headers, **filters: object) -> list[tuple[int, str]]:
    arguments = {
        "destination": None,
        "state": None,
        "older_than_s": 0,
        "after_id": 0,
        "page_size": 100,
    }
    body = call(api, who, "list_deliveries", **arguments | filters)
    return [(entry["seq"], entry["state"]) for entry in body["data"]]


def test_a_tenant_sees_its_own_deliveries_that_do_not_pass(
    api: Api, books: Books, log: Log, dead: Row
) -> None:
    mine, other = person(books, "finance"), person(books, "finance", "tn_other")

    assert listed(api, mine, destination=log.destination) == [
        (0, "dead"),
        (1, "waiting"),
        (2, "waiting"),
    ]
    assert listed(api, mine, destination=log.destination, state="dead") == [(0, "dead")]
    assert listed(api, mine, destination=log.destination, after_id=dead["outbox_id"])[0][0] == 1
    assert listed(api, mine, destination=log.destination, older_than_s=3600) == []
    assert listed(api, other) == []


def test_an_operator_sees_everybodys_and_how_far_each_destination_is(
    api: Api, books: Books, log: Log, dead: Row
) -> None:
    operator = person(books, "operator", "tn_us")

    assert (0, "dead") in listed(api, operator, destination=log.destination)
    (shown,) = [
        entry
        for entry in call(api, operator, "list_destinations")["data"]
        if entry["destination"] == log.destination
    ]
    assert (shown["dead"], shown["waiting"], shown["retrying"]) == (1, 2, 0)
    assert shown["oldest_due_age_s"] is None


def test_only_operators_see_the_destinations(api: Api, books: Books) -> None:
    with pytest.raises(Refused, match="40311"):
        call(api, person(books, "owner"), "list_destinations")


def test_a_delivery_is_shown_wherever_it_stands(api: Api, books: Books, log: Log) -> None:
    log.write("tr_1", 0)
    outbox_id = books.value(
        "select outbox_id from payments.outbox where destination = %s", log.destination
    )
    mine = person(books, "auditor")

    before = call(api, mine, "get_delivery", outbox_id=outbox_id)
    with log.session() as consumer:
        consumer.take()
    after = call(api, mine, "get_delivery", outbox_id=outbox_id)

    assert (before["state"], after["state"]) == ("pending", "delivered")
    with pytest.raises(Refused, match="40401"):
        call(api, person(books, "auditor", "tn_other"), "get_delivery", outbox_id=outbox_id)
    with pytest.raises(Refused, match="40401"):
        call(api, mine, "get_delivery", outbox_id=2**60)


def test_a_leased_delivery_is_shown_as_such(
    api: Api, books: Books, module_database: Database
) -> None:
    log = Log.open(books, module_database, "function")
    log.write("tr_1", 0)
    with log.session() as consumer:
        (row,) = consumer.lease()

    shown = call(api, person(books, "auditor"), "get_delivery", outbox_id=row["outbox_id"])

    assert shown["state"] == "leased"


def test_a_redriven_delivery_is_tried_again_with_its_stream_behind_it(
    api: Api, books: Books, log: Log, dead: Row
) -> None:
    shown = call(
        api,
        person(books, "finance"),
        "redrive_delivery",
        outbox_id=dead["outbox_id"],
        reason="The rule exists now",
    )

    assert (shown["state"], shown["attempts"]) == ("retry", 0)
    assert [status for _, status, _ in log.alerts()] == ["resolved"]
    with log.session() as consumer:
        assert consumer.taken() == [("tr_1", 0)]
        assert consumer.taken() == [("tr_1", 1), ("tr_1", 2)]


def test_a_skipped_delivery_lets_its_stream_go_on(
    api: Api, books: Books, log: Log, dead: Row
) -> None:
    shown = call(
        api,
        person(books, "owner"),
        "skip_delivery",
        outbox_id=dead["outbox_id"],
        reason="Booked by hand",
    )

    assert shown["state"] == "skipped"
    with log.session() as consumer:
        assert consumer.taken() == [("tr_1", 1), ("tr_1", 2)]
        assert consumer.taken() == []
    assert log.exceptions() == []


def test_a_decision_is_in_the_organisations_audit_log_with_what_was(
    api: Api, books: Books, log: Log, dead: Row
) -> None:
    operator = person(books, "operator", "tn_us")

    call(api, operator, "skip_delivery", outbox_id=dead["outbox_id"], reason="Booked by hand")

    noted = books.row(
        "select * from public.audit_log where subject = %s",
        f"{log.destination}/{dead['event_id']}",
    )
    assert (noted["tenant_id"], noted["action"]) == (TENANT, "delivery.skip")
    assert noted["actor"] == f"user:{operator['x-stalela-user-id']}"
    assert noted["details"]["reason"] == "Booked by hand"
    assert noted["details"]["last_error"] == "no rule for it"
    assert (noted["details"]["was"], noted["details"]["attempts"]) == ("dead", 1)


@pytest.mark.parametrize("function", ["redrive_delivery", "skip_delivery"])
def test_only_what_failed_takes_a_decision(
    api: Api, books: Books, dead: Row, function: str
) -> None:
    mine = person(books, "finance")
    waiting = dead["outbox_id"] + 1

    with pytest.raises(Refused, match="40911") as refused:
        call(api, mine, function, outbox_id=waiting, reason="No patience")

    assert refused.value.extras["current_state"] == "waiting"


@pytest.mark.parametrize("app_role", ["admin", "developer", "auditor"])
def test_looking_is_not_deciding(api: Api, books: Books, dead: Row, app_role: str) -> None:
    mine = person(books, app_role)

    assert call(api, mine, "get_delivery", outbox_id=dead["outbox_id"])["state"] == "dead"
    with pytest.raises(Refused, match="40311"):
        call(api, mine, "skip_delivery", outbox_id=dead["outbox_id"], reason="No patience")


def test_nobody_decides_about_anothers_delivery(api: Api, books: Books, dead: Row) -> None:
    with pytest.raises(Refused, match="40401"):
        call(
            api,
            person(books, "owner", "tn_other"),
            "skip_delivery",
            outbox_id=dead["outbox_id"],
            reason="No patience",
        )


def test_a_destination_that_lags_raises_an_alert_until_it_has_caught_up(
    books: Books, log: Log
) -> None:
    log.write("tr_1", 0)
    books.run("update public.settings set value = '0' where key = 'outbox.lag_alert_s'")
    books.run("select payments.watch_outbox()")
    lagging = books.alerts(log.destination)
    with log.session() as consumer:
        consumer.take()

    books.run("select payments.watch_outbox()")
    books.run("update public.settings set value = '60' where key = 'outbox.lag_alert_s'")

    assert lagging == ["outbox_lagging"]
    assert books.alerts(log.destination) == []
