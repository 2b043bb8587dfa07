"""What waits for its signature, for how long, and who hears of it."""

import pytest

from tests.sql.signing.chains import Chains
from tests.support.sql import Refused


def age(chains: Chains, number: str, interval: str) -> None:
    chains.books.run(
        "update signing.signing_queue set waiting_since = now() - %s::interval"
        " where fiscal_number = %s",
        interval,
        number,
    )


def watch(chains: Chains) -> None:
    chains.books.value("select signing.watch_queue()")


def waiting(chains: Chains, interval: str) -> str:
    """An entry that waited so long, alone."""
    chains.books.run("delete from signing.signing_queue")
    chains.register("key")
    number = chains.seal()
    age(chains, number, interval)
    return number


def test_failures_are_logged_and_waited_for_longer_each_time(chains: Chains) -> None:
    key = chains.register("key")
    number = chains.seal()

    waits = [chains.fail(number, key)["waits_s"] for _ in range(7)]

    assert waits == [1, 2, 5, 10, 30, 30, 30]
    assert chains.log(number) == [("failed", key)] * 7
    assert chains.queued(number)["last_error"] == "KMS said 503"


def test_claimed_entry_is_nobody_elses_for_thirty_seconds(chains: Chains) -> None:
    chains.books.run("delete from signing.signing_queue")
    key = chains.register("key")
    numbers = {chains.seal() for _ in range(3)}

    first = chains.api.call_set("fn_invoices", {}, "signing.claim_signatures", max_rows=2)
    rest = chains.api.call_set("fn_invoices", {}, "signing.claim_signatures", max_rows=9)
    none = chains.api.call_set("fn_invoices", {}, "signing.claim_signatures", max_rows=9)

    assert (len(first), len(rest), none) == (2, 1, [])
    assert {work["fiscal_number"] for work in first + rest} == numbers
    assert {work["key"]["key_id"] for work in first + rest} == {key}


def test_failure_of_what_was_signed_meanwhile_is_logged_and_queues_nothing(chains: Chains) -> None:
    key = chains.register("key")
    number = chains.seal()
    chains.attach(number, key)

    with pytest.raises(AssertionError, match="0 rows instead of one"):
        chains.fail(number, key, is_permanent=True)

    assert chains.log(number) == [("signed", key), ("failed", key)]


def test_alert_comes_after_fifteen_minutes_and_goes_with_the_last_that_waits(
    chains: Chains,
) -> None:
    number = waiting(chains, "14 minutes 59 seconds")
    watch(chains)
    assert chains.books.alerts("signing") == []

    age(chains, number, "15 minutes 1 second")
    watch(chains)
    assert chains.books.alerts("signing") == ["signing_stalled"]
    (alert,) = chains.books.rows(
        "select * from public.alerts where kind = 'signing_stalled' and status = 'open'"
    )
    assert (alert["severity"], alert["details"]["waiting"]) == ("critical", 1)

    chains.attach(number, chains.register("key"))
    watch(chains)
    assert chains.books.alerts("signing") == []


def test_a_day_without_signature_is_for_an_operator(chains: Chains) -> None:
    number = waiting(chains, "24 hours 1 second")

    watch(chains)

    assert chains.queued(number)["waits_s"] == float("inf")
    assert chains.books.alerts("signing") == ["signing_error"]
    assert chains.api.call_set("fn_invoices", {}, "signing.claim_signatures", max_rows=9) == []


def test_permanent_error_is_for_an_operator_at_once(chains: Chains) -> None:
    number = waiting(chains, "1 second")
    key = chains.register("key")

    assert chains.fail(number, key, is_permanent=True)["waits_s"] == float("inf")
    chains.fail(number, key)
    assert chains.queued(number)["waits_s"] == float("inf"), "a late failure frees nothing"


def test_operator_queues_it_again_under_its_own_number_and_key(chains: Chains) -> None:
    number = waiting(chains, "25 hours")
    key = chains.register("key")
    watch(chains)

    with pytest.raises(Refused, match=r"platform:operate"):
        chains.call("requeue", chains.operator("owner"), fiscal_numbers=[number])
    answer = chains.call("requeue", chains.operator(), fiscal_numbers=[number])
    watch(chains)

    queued = chains.queued(number)
    assert answer["body"] == '{"requeued" : 1}'
    assert (queued["waits_s"], queued["attempts"], queued["key_id"]) == (0, 0, key)
    assert chains.books.alerts("signing") == []
    assert chains.attach(number, key) == 201


def test_what_a_retired_key_left_behind_goes_to_the_active_one(chains: Chains) -> None:
    number = waiting(chains, "25 hours")
    old = chains.register("key")
    new = chains.rotate(old, "next")
    watch(chains)

    chains.call("requeue", chains.operator(), fiscal_numbers=None)

    assert chains.queued(number)["key_id"] is None
    assert (chains.attach(number, old), chains.attach(number, new)) == (202, 201)
