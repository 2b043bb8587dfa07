"""Sign-up and account."""

import uuid
from typing import Any

import pytest

from tests.sql.public.house import Answer, House, Person, Refused, at_once, digest


def sign_up(house: House, person: Person, **changes: Any) -> Answer:
    arguments = {
        "idempotency_key": uuid.uuid4().hex,
        "body_hash": digest("body"),
        "name": "Mama Duka",
        "country": "KE",
    }
    return house.call("create_tenant", by=person, **(arguments | changes))


def test_a_person_signs_up_and_owns_the_organisation(house: House) -> None:
    person = Person()

    answer = sign_up(house, person, name="  Mama Duka ")

    account = answer.body
    owner = Person(person.user_id, tenant_id=account["id"])
    seen = house.call("get_account", by=owner).body
    assert answer.status == 201
    assert account["id"].startswith("tn_")
    assert (account["name"], account["country"], account["status"], account["plan"]) == (
        "Mama Duka",
        "KE",
        "pending",
        "basic",
    )
    assert seen["account"] == account
    assert (seen["caller"]["app_role"], seen["caller"]["scopes"]) == ("owner", ["*"])


def test_signing_up_twice_with_one_key_makes_one_organisation(house: House) -> None:
    person = Person()

    answers = at_once(lambda _: sign_up(house, person, idempotency_key="once"), 8)

    assert len({answer.body["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 7


def test_the_same_key_of_two_people_is_two_keys(house: House) -> None:
    answers = [sign_up(house, Person(), idempotency_key="mine") for _ in range(2)]

    assert len({answer.body["id"] for answer in answers}) == 2


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": None}, "/name"),
        ({"country": "Kenya"}, "/country"),
        ({"country": "ke"}, "/country"),
        ({"country": None}, "/country"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_kept(
    house: House, changes: dict[str, Any], pointer: str
) -> None:
    person = Person()

    refusal = house.refused(lambda: sign_up(house, person, idempotency_key="k", **changes))

    assert (refusal.code, refusal.extras["errors"][0]["pointer"]) == ("42262", pointer)
    assert sign_up(house, person, idempotency_key="k", body_hash=digest("good")).status == 201


def test_signing_up_needs_a_person(house: House) -> None:
    key = house.key()

    refusal = house.refused(
        lambda: house.call(
            "create_tenant", by=key, idempotency_key="k", body_hash="h", name="X", country="KE"
        )
    )

    assert refusal.code == "40101"


def test_signing_up_is_limited(house: House) -> None:
    person = Person()

    results = at_once(lambda _: sign_up(house, person), 14)

    assert {r.code for r in results if isinstance(r, Refused)} == {"42901"}


def test_a_key_sees_its_account_if_its_scopes_say_so(house: House) -> None:
    tenant = house.tenant()
    allowed, other = (
        house.key(tenant, scopes=["account:read"]),
        house.key(tenant, scopes=["payments:read"]),
    )

    answer = house.call("get_account", by=allowed)
    refusal = house.refused(lambda: house.call("get_account", by=other))

    assert (answer.body["account"]["id"], answer.body["caller"]["actor"]) == (
        tenant,
        allowed.key_id,
    )
    assert refusal.code == "40311"


def audit_entries(house: House, tenant: str, count: int, environment: str | None) -> None:
    house.run(
        "insert into public.audit_log (tenant_id, environment, actor, action, subject, details)"
        " select %s, %s, 'test', 'thing.do', i::text, '{}' from generate_series(1, %s) as i"
        " returning 1",
        tenant,
        environment,
        count,
    )


def test_the_audit_trail_pages_without_gap_or_repetition(house: House) -> None:
    key = house.key()
    audit_entries(house, key.tenant_id, 7, "sandbox")
    pages: list[dict[str, Any]] = []
    cursor = None
    while not pages or cursor:
        pages.append(house.call("list_audit", by=key, page_size=3, page_after=cursor).body)
        cursor = pages[-1]["pagination"]["next_cursor"]

    subjects = [entry["subject"] for page in pages for entry in page["data"]]
    assert subjects == ["7", "6", "5", "4", "3", "2", "1"]
    assert [page["pagination"]["has_more"] for page in pages] == [True, True, False]


def test_a_page_that_ends_exactly_has_no_next(house: House) -> None:
    key = house.key()
    audit_entries(house, key.tenant_id, 3, "sandbox")

    page = house.call("list_audit", by=key, page_size=3, page_after=None).body

    assert page["pagination"] == {"limit": 3, "has_more": False, "next_cursor": None}


def test_the_audit_trail_shows_own_environment_and_what_concerns_the_whole(house: House) -> None:
    key = house.key()
    audit_entries(house, key.tenant_id, 1, "production")
    audit_entries(house, key.tenant_id, 1, None)
    audit_entries(house, house.tenant(), 1, "sandbox")

    page = house.call("list_audit", by=key, page_size=50, page_after=None).body

    assert [entry["environment"] for entry in page["data"]] == [None]


@pytest.mark.parametrize("cursor", ["", "x", "1;2", "9" * 19, "-1"])
def test_a_cursor_that_is_not_ours_is_refused(house: House, cursor: str) -> None:
    refusal = house.refused(
        lambda: house.call("list_audit", by=house.key(), page_size=3, page_after=cursor)
    )

    rule = "pass pagination.next_cursor of the page before, unchanged"
    assert (refusal.code, refusal.extras["errors"]) == (
        "42262",
        [{"pointer": "/cursor", "detail": rule}],
    )


def test_an_operator_activates_a_tenant_and_the_tenant_sees_it_in_its_audit(house: House) -> None:
    operator, owner = (
        house.member(app_role="operator"),
        house.member(house.tenant(status="pending")),
    )

    answer = house.call(
        "set_tenant_status",
        by=operator,
        tenant_id=owner.tenant_id,
        status="active",
        reason="checked",
    )

    assert (answer.status, answer.body["status"]) == (200, "active")
    trail = house.call("list_audit", by=owner, page_size=1, page_after=None).body["data"]
    assert trail[0]["action"] == "tenant.active"


@pytest.mark.parametrize("role", ["owner", "admin", "auditor"])
def test_nobody_else_activates_a_tenant(house: House, role: str) -> None:
    member = house.member(house.tenant(status="pending"), role)

    refusal = house.refused(
        lambda: house.call(
            "set_tenant_status", by=member, tenant_id=member.tenant_id, status="active", reason="me"
        )
    )

    assert refusal.code == "40311"


def test_a_closed_tenant_stays_closed(house: House) -> None:
    operator, tenant = house.member(app_role="operator"), house.tenant(status="closed")

    refusal = house.refused(
        lambda: house.call(
            "set_tenant_status", by=operator, tenant_id=tenant, status="active", reason="again"
        )
    )

    assert (refusal.code, refusal.extras["current_state"]) == ("40911", "closed")
