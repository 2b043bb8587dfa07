"""Screening in SQL: lists and their versions, parties that wait, what a transfer needs."""

import json
import uuid
from typing import Any

import pytest

from tests.sql.payments.shop import PAYER, Shop, new_key
from tests.support.sql import Api, Books, Refused, Row, digest

FUNCTION = "fn_compliance"
NOBODY: Row = {}


def entry(ref: str, *names: str) -> Row:
    return {
        "ref": ref,
        "kind": "person",
        "names": list(names),
        "born": [],
        "countries": [],
        "documents": [],
    }


def publish(api: Api, source: str, *entries: Row, may_shrink: bool = True) -> Row:
    """POST /lists/{source}, as the platform itself."""
    answer = api.call(
        FUNCTION,
        NOBODY,
        "compliance.import_list",
        source=source,
        sha256=digest(json.dumps(entries)),
        published_on=None,
        entries=list(entries),
        may_shrink=may_shrink,
    )
    return dict(json.loads(answer["body"]))


@pytest.fixture
def lists(api: Api) -> None:
    """The three lists, each with somebody on it."""
    for source in ("ofac", "un", "eu"):
        publish(api, source, entry("1", f"Somebody {source}"))


@pytest.fixture
def enrolled(shop: Shop, lists: None) -> Shop:
    """A shop whose payers and payees must be screened."""
    shop.books.run(
        "insert into compliance.profiles"
        " (tenant_id, environment, tier, screening, reason, changed_by)"
        " values (%s, %s, 'T3', '{in,out}', 'a test', 'test')",
        shop.tenant_id,
        shop.environment,
    )
    return shop


def put_party(shop: Shop, fingerprint: str = "print", party_hash: str = PAYER["payer_hash"]) -> Row:
    """POST /parties up to the comparison."""
    return dict(
        shop.api.call(
            FUNCTION,
            shop.headers,
            "compliance.put_party",
            reference=None,
            profile_sealed="sealed",
            name_masked="W*** K***",
            phone_masked="+254*",
            party_hashes=[party_hash],
            fingerprint=fingerprint,
        )
    )


def version(shop: Shop) -> int:
    return int(shop.books.value("select (compliance.index_state() ->> 'version')::bigint"))


def decide(shop: Shop, party_id: str, decision: str, fingerprint: str = "print") -> Row:
    """What the function found."""
    result = {
        "party_id": party_id,
        "role": "party",
        "fingerprint": fingerprint,
        "decision": decision,
        "score": {"clear": 0, "hold": 80, "deny": 100}[decision],
        "matches": [] if decision == "clear" else [{"source": "un", "ref": "1", "score": 80}],
        "list_version": version(shop),
        "screened_by": "system",
    }
    answer = shop.api.call(
        FUNCTION,
        NOBODY,
        "compliance.record_party",
        result=result,
        show_matches=False,
        headers={},
    )
    return dict(json.loads(answer["body"]))


def refused(shop: Shop, **changes: Any) -> tuple[str, str | None]:
    """Code and reason with which a confirm is refused."""
    with pytest.raises(Refused) as caught:
        shop.begin(shop.new_intent(), **changes)
    return caught.value.code, caught.value.extras.get("reason")


def test_an_import_counts_what_it_changed_and_keeps_the_age_of_the_rest(
    api: Api, books: Books
) -> None:
    first = publish(api, "eu", entry("1", "A"), entry("2", "B"), entry("3", "C"))
    second = publish(api, "eu", entry("1", "A"), entry("2", "B", "Bee"), entry("4", "D"))

    assert [second[what] for what in ("added", "changed", "removed")] == [1, 1, 1]
    ages = books.rows("select ref, since from compliance.list_entries where source = 'eu'")
    old, new = first["list"]["version"], second["list"]["version"]
    assert {row["ref"]: row["since"] for row in ages} == {"1": old, "2": new, "4": new}


def test_the_same_file_again_makes_no_version(api: Api) -> None:
    first = publish(api, "un", entry("1", "A"))

    again = publish(api, "un", entry("1", "A"))

    assert again["list"]["version"] == first["list"]["version"]
    assert again["list"]["checked_at"] > first["list"]["checked_at"]


def test_half_a_list_is_refused_unless_that_is_meant(api: Api) -> None:
    publish(api, "eu", *[entry(str(n), f"Name {n}") for n in range(10)])

    with pytest.raises(Refused) as caught:
        publish(api, "eu", entry("1", "Name 1"), may_shrink=False)

    assert caught.value.code == "42262"


def test_a_party_nobody_registered_is_refused(enrolled: Shop) -> None:
    assert refused(enrolled) == ("42203", None)


def test_a_party_that_waits_is_a_decision_nobody_made(enrolled: Shop) -> None:
    put_party(enrolled)

    assert refused(enrolled) == ("50301", None)


@pytest.mark.parametrize(
    ("decision", "reason"), [("hold", "review_required"), ("deny", "watchlist_hit")]
)
def test_a_flagged_party_is_refused_with_the_reason_and_an_alert(
    enrolled: Shop, decision: str, reason: str
) -> None:
    party_id = put_party(enrolled)["party_id"]

    decide(enrolled, party_id, decision)

    assert refused(enrolled) == ("42201", reason)
    assert enrolled.books.alerts(party_id) == ["party_flagged"]


def test_a_clear_party_pays_and_the_transfer_keeps_why(enrolled: Shop) -> None:
    party_id = put_party(enrolled)["party_id"]
    decide(enrolled, party_id, "clear")

    attempt = enrolled.send(enrolled.new_intent())

    kept = enrolled.books.row(
        "select party_id, decision, list_version from compliance.transfer_clearances"
        " where transfer_id = %s",
        attempt.transfer_id,
    )
    assert kept == {"party_id": party_id, "decision": "clear", "list_version": version(enrolled)}


def test_a_newer_list_makes_everybody_wait_for_it(enrolled: Shop, api: Api) -> None:
    party_id = put_party(enrolled)["party_id"]
    decide(enrolled, party_id, "clear")
    was = version(enrolled)

    publish(api, "eu", entry("1", f"Somebody {uuid.uuid4()}"))

    assert refused(enrolled) == ("50301", None)
    (work,) = [
        row
        for row in api.call(
            FUNCTION,
            NOBODY,
            "compliance.claim_parties",
            list_version=version(enrolled),
            max_rows=99,
        )
        if row["party_id"] == party_id
    ]
    # Compared with what came after that version only.
    assert work["clear_up_to"] == was
    api.call(
        FUNCTION,
        NOBODY,
        "compliance.refresh_clear",
        party_ids=[party_id],
        list_version=version(enrolled),
    )
    enrolled.send(enrolled.new_intent())


def test_a_claimed_party_is_left_to_whoever_has_it_until_the_lease_ends(
    enrolled: Shop, api: Api, books: Books
) -> None:
    party_id = put_party(enrolled)["party_id"]
    now = {"list_version": version(enrolled), "max_rows": 99}

    def claimed() -> list[str]:
        rows = api.call(FUNCTION, NOBODY, "compliance.claim_parties", **now)
        return [row["party_id"] for row in rows if row["party_id"] == party_id]

    assert (claimed(), claimed()) == ([party_id], [])
    books.run("update compliance.parties set lease_until = now() where party_id = %s", party_id)
    assert claimed() == [party_id]


def test_another_name_on_the_same_phone_is_screened_again(enrolled: Shop) -> None:
    party_id = put_party(enrolled)["party_id"]
    decide(enrolled, party_id, "clear")

    assert put_party(enrolled, fingerprint="other")["party_id"] == party_id
    late = decide(enrolled, party_id, "clear", fingerprint="print")

    # What was found about the old name says nothing about the new one.
    assert late["decision"] == "pending"
    assert refused(enrolled) == ("50301", None)


def test_lists_that_are_too_old_clear_nobody(enrolled: Shop, books: Books) -> None:
    decide(enrolled, put_party(enrolled)["party_id"], "clear")
    books.run("update compliance.lists set checked_at = now() - interval '4 days'")

    assert refused(enrolled) == ("50301", None)


def test_a_shop_that_screens_nobody_needs_no_lists(shop: Shop, books: Books) -> None:
    books.run("update compliance.lists set checked_at = now() - interval '4 days'")

    shop.send(shop.new_intent())


def test_a_payee_must_be_clear_too(enrolled: Shop) -> None:
    payout = {
        "idempotency_key": new_key(),
        "body_hash": "body",
        "rail": "mpesa",
        "amount_minor": 100_00,
        "currency": "KES",
        "payee_sealed": "sealed",
        "payee_masked": "+254*",
        "payee_hash": digest("a payee"),
        "description": None,
        "external_ref": None,
        "metadata": {},
    }

    with pytest.raises(Refused) as caught:
        enrolled.api.call("fn_payouts", enrolled.headers, "payments.begin_payout", **payout)
    decide(enrolled, put_party(enrolled, party_hash=digest("a payee"))["party_id"], "clear")
    begun = enrolled.api.call("fn_payouts", enrolled.headers, "payments.begin_payout", **payout)

    assert caught.value.code == "42203"
    assert begun["instruction"]["transfer_id"]


def test_a_refund_to_a_party_flagged_since_is_refused(enrolled: Shop) -> None:
    party_id = put_party(enrolled)["party_id"]
    decide(enrolled, party_id, "clear")
    attempt = enrolled.attempt()
    enrolled.books.run(
        "select payments.advance_transfer(%s, 'settle', 'operator')", attempt.transfer_id
    )
    decide(enrolled, party_id, "deny")

    with pytest.raises(Refused) as caught:
        enrolled.api.call(
            "fn_refunds",
            enrolled.headers,
            "payments.begin_refund",
            idempotency_key=new_key(),
            body_hash="body",
            payment_intent_id=None,
            transfer_id=attempt.transfer_id,
            amount_minor=None,
            currency="KES",
            reason="A return",
            method=None,
            metadata={},
        )

    assert caught.value.code == "42201"


def test_a_party_of_another_tenant_is_not_found_by_the_same_phone(
    enrolled: Shop, api: Api, books: Books
) -> None:
    decide(enrolled, put_party(enrolled)["party_id"], "clear")
    other = Shop(api, books).open()
    books.run(
        "insert into compliance.profiles"
        " (tenant_id, environment, tier, screening, reason, changed_by)"
        " values (%s, 'sandbox', 'T3', '{in}', 'a test', 'test')",
        other.tenant_id,
    )

    assert refused(other) == ("42203", None)


def test_whoever_waits_too_long_for_a_screening_raises_an_alert(
    enrolled: Shop, books: Books
) -> None:
    put_party(enrolled)
    books.run("update compliance.parties set updated_at = now() - interval '1 hour'")
    books.run("update compliance.lists set checked_at = now() - interval '1 hour'")

    books.run("select compliance.poke_screening()")

    assert books.alerts("compliance") == ["screening_behind"]
