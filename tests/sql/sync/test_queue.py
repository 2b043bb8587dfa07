"""The queue to tax authorities: who may take what, in which order, and what each outcome makes."""

import pytest

from scripts.stack.database import Database
from tests.sql.sync.reporting import ROLE, Reporting
from tests.support.sql import Api, Books, Refused, at_once

# --- what waits


def test_document_waits_for_its_signature(free: Reporting) -> None:
    numbered = free.number()

    before = free.claimed()
    free.sign(numbered)

    assert before == []
    assert free.claimed() == [numbered]


def test_outlet_without_a_device_reports_nothing(free: Reporting) -> None:
    free.books.run("update sync.authority_devices set status = 'retired'")

    free.sealed()

    assert free.rows() == 0


def test_sealing_that_is_undone_reports_nothing(free: Reporting) -> None:
    with free.books.connection.transaction(force_rollback=True):
        free.sealed()

    assert free.claimed() == []


def test_nothing_is_taken_without_consent_or_while_switched_off(free: Reporting) -> None:
    sale = free.sealed()

    free.books.run("update sync.consents set is_given = false")
    without_consent = free.claimed()
    free.books.run("update sync.consents set is_given = true")
    free.books.run("insert into sync.switches values ('CD', 'sandbox', 'off', 'test', 'test')")
    switched_off = free.claimed()
    free.books.run("update sync.switches set mode = 'on'")

    assert (without_consent, switched_off, free.claimed()) == ([], [], [sale])


# --- order


def test_no_more_is_open_at_an_authority_than_it_takes(free: Reporting) -> None:
    sales = [free.sealed() for _ in range(12)]

    first, second = free.claim(), free.claim()
    free.conclude(first[0])

    assert [item["subject"] for item in first] == sales[:8]
    assert second == []
    assert free.claimed() == [sales[8]]


def test_strict_authority_takes_one_after_the_other(strict: Reporting) -> None:
    first, second, third = (strict.sealed() for _ in range(3))

    [item] = strict.claim()
    meanwhile = strict.claimed()
    strict.conclude(item, "rejected")

    assert (item["subject"], meanwhile) == (first, [])
    assert strict.claimed() == [second]  # what was refused there was there
    assert strict.row(third)["status"] == "PENDING"


@pytest.mark.parametrize("outcome", ["unknown", "not_now", "blocked", "undecided"])
def test_strict_authority_gets_nothing_past_what_did_not_arrive(
    outcome: str, strict: Reporting
) -> None:
    first, _ = strict.sealed(), strict.sealed()
    strict.conclude(strict.claim()[0], outcome)

    before = strict.claimed()
    strict.make_due()

    assert before == []
    assert strict.claimed() == ([first] if outcome in ("unknown", "not_now") else [])


def test_strict_authority_waits_for_a_signature_in_between(strict: Reporting) -> None:
    unsigned, signed = strict.number(), strict.sealed()

    before = strict.claimed()
    strict.sign(unsigned)

    assert before == []
    assert strict.claimed() == [unsigned]
    assert strict.row(signed)["status"] == "PENDING"


def test_credit_waits_for_its_original_alone(free: Reporting) -> None:
    original, other = free.sealed(), free.sealed()
    credit = free.sealed(original=original)

    [first, second] = free.claim()
    waiting = free.claimed()
    free.conclude(first)

    assert [first["subject"], second["subject"], *waiting] == [original, other]
    [item] = free.claim()
    assert item["subject"] == credit
    assert item["original"]["acceptance"]["code"] == f"C-{original}"


def test_outlets_take_turns(free: Reporting) -> None:
    busy = [free.sealed() for _ in range(20)]
    elsewhere, _ = free.add_outlet()
    quiet = free.sealed(outlet_id=elsewhere)

    assert free.claimed() == [*busy[:8], quiet]


def test_two_workers_never_take_the_same(free: Reporting, module_database: Database) -> None:
    sales = {free.sealed() for _ in range(8)}

    def work() -> list[str]:
        with Api(module_database) as api:
            return [item["subject"] for item in free.claim(3, api)]

    taken = [subject for some in at_once([work] * 6) for subject in some]

    assert len(taken) == len(set(taken))
    assert set(taken) <= sales
    assert taken


# --- leases


def test_worker_that_lost_its_lease_begins_nothing_more(free: Reporting) -> None:
    free.sealed()
    [slow] = free.claim()
    free.expire_leases()
    [quick] = free.claim()

    with pytest.raises(Refused, match="40911"):
        free.note(slow, {"uid": "1"})
    free.note(quick, {"uid": "2"})

    assert free.row(slow["subject"])["progress"] == {"uid": "2"}


def test_what_was_noted_comes_back_after_a_crash(free: Reporting) -> None:
    free.sealed()
    [item] = free.claim()
    free.note(item, {"uid": "1"})
    free.expire_leases()

    [again] = free.claim()

    assert (again["attempt"], again["progress"]) == (2, {"uid": "1"})


def test_late_refusal_changes_nothing_and_late_acceptance_counts(free: Reporting) -> None:
    free.sealed()
    [slow] = free.claim()
    free.expire_leases()
    [quick] = free.claim()

    assert free.conclude(slow, "rejected") == "SUBMITTED"
    assert free.conclude(slow) == "SYNCED"
    assert free.conclude(quick, "unknown") == "SYNCED"
    assert len(free.codes()) == 1


def test_second_acceptance_with_another_code_alarms_and_is_not_kept(free: Reporting) -> None:
    sale = free.sealed()
    [item] = free.claim()
    free.conclude(item)

    free.conclude(item, acceptance={"code": "another", "counters": {}, "raw": ""})

    assert free.codes() == [f"C-{sale}"]
    assert free.alerts() == ["authority_accepted_twice"]


# --- outcomes


@pytest.mark.parametrize(
    ("outcome", "status", "alert"),
    [
        ("accepted", "SYNCED", []),
        ("rejected", "REJECTED", ["authority_rejected"]),
        ("blocked", "FAILED", ["authority_mapping_missing"]),
        ("undecided", "FAILED", ["authority_outcome_unknown"]),
        ("unreachable", "RETRY", []),
        ("device_refused", "RETRY", ["authority_device_refused"]),
        ("not_now", "RETRY", []),
        ("unknown", "RETRY", []),
    ],
)
def test_outcome_makes_status_alert_and_a_line_in_the_log(
    outcome: str, status: str, alert: list[str], free: Reporting
) -> None:
    sale = free.sealed()
    exchange = {"step": "submit", "request_hash": "h", "http_status": 200, "answer": "{}"}

    after = free.conclude(free.claim()[0], outcome, exchanges=[exchange])

    assert (after, free.row(sale)["status"], free.alerts()) == (status, status, alert)
    logged = free.books.rows(
        "select step, outcome from sync.authority_ack_log where tenant_id = %s order by ack_id",
        free.tenant_id,
    )
    assert [(row["step"], row["outcome"]) for row in logged] == [
        ("submit", None),
        ("outcome", outcome),
    ]


def test_back_off_grows_from_a_second_to_five_minutes(free: Reporting) -> None:
    sale = free.sealed()
    waits = []

    for _ in range(7):
        free.make_due()
        free.conclude(free.claim()[0], "unknown")
        waits.append(
            free.books.value(
                "select extract(epoch from next_attempt_at - updated_at)::float8"
                " from sync.authority_sync_queue where invoice_id = %s",
                sale,
            )
        )

    assert all(
        base * 0.5 <= wait <= base * 1.5
        for base, wait in zip((1, 2, 4, 8, 16), waits[:5], strict=True)
    )
    assert waits[5:] == [300, 300]


def test_silent_authority_holds_the_device_and_not_the_documents(free: Reporting) -> None:
    first, second = free.sealed(), free.sealed()
    items = free.claim()

    free.conclude(items[0], "unreachable")
    free.conclude(items[1], "unreachable")
    held = free.claimed()
    free.make_due()

    assert held == []
    assert free.claimed() == [first, second]
    assert free.row(first)["quick_attempts"] == 0


def test_state_of_the_device_moves_with_the_acceptance_alone(strict: Reporting) -> None:
    strict.sealed()
    [item] = strict.claim()
    accepted = {"code": "C", "counters": {}, "raw": "", "device_state": {"number": 7}}

    strict.conclude(item, "unknown")
    before = strict.state()
    strict.conclude(item, acceptance=accepted)

    assert (before, strict.state()) == ({}, {"number": 7})


def test_acceptance_that_comes_too_late_does_not_turn_the_device_back(strict: Reporting) -> None:
    strict.sealed()
    [slow] = strict.claim()
    strict.expire_leases()
    [quick] = strict.claim()
    accepted = {"code": "C", "counters": {}, "raw": "", "device_state": {"number": 7}}
    strict.conclude(quick, acceptance=accepted)
    strict.sealed()
    [after] = strict.claim()
    strict.conclude(after, acceptance=accepted | {"code": "D", "device_state": {"number": 8}})

    strict.conclude(slow, acceptance=accepted)

    assert strict.state() == {"number": 8}


def test_alerts_of_a_document_end_when_the_authority_has_it(free: Reporting) -> None:
    free.sealed()
    [item] = free.claim()
    free.conclude(item, "rejected")
    free.books.value("select sync.advance(%s, 'retry', now(), null, null)", item["sync_id"])
    [again] = free.claim()

    free.conclude(again)

    assert free.alerts() == []


@pytest.mark.parametrize(
    ("prepare", "given_up"),
    [
        ("select 1", 1),
        ("update sync.consents set is_given = false", 0),
        ("insert into sync.switches values ('CD', 'sandbox', 'off', 'test', 'test')", 0),
        ("update sync.authority_sync_queue set next_attempt_at = 'infinity'", 0),
        ("update sync.authority_sync_queue set grace_from = now() - interval '71 hours'", 0),
    ],
)
def test_only_what_could_have_arrived_is_given_up(
    prepare: str, given_up: int, free: Reporting
) -> None:
    sale = free.sealed()
    free.books.run("update sync.authority_sync_queue set grace_from = now() - interval '73 hours'")
    free.books.run(prepare)

    free.books.run("select sync.give_up_late()")

    assert (free.row(sale)["status"] == "FAILED") == bool(given_up)
    assert free.alerts() == ["authority_sync_failed"] * given_up


# --- what nobody may do


def test_moves_that_are_not_listed_do_not_happen(free: Reporting) -> None:
    sync_id = free.row(free.sealed())["sync_id"]

    for event in ("accept", "postpone", "reject", "fail", "retry", "nonsense"):
        moved = free.books.value(
            "select (sync.advance(%s, %s, now(), null, null)).sync_id", sync_id, event
        )
        assert moved is None, event


@pytest.mark.parametrize("table", ["sync.authority_ack_log", "fiscal.authority_elements"])
def test_what_an_authority_said_is_never_rewritten(table: str, free: Reporting) -> None:
    free.sealed()
    free.conclude(free.claim()[0])

    with pytest.raises(Exception, match="append-only"):
        free.books.run(f"update {table} set tenant_id = 'x'")  # noqa: S608


def test_function_may_not_touch_the_tables(books: Books) -> None:
    for table in ("authority_sync_queue", "authority_devices", "consents", "switches"):
        assert not books.value(
            "select has_table_privilege(%s, %s, 'select, insert, update, delete')",
            ROLE,
            f"sync.{table}",
        )
