"""API keys: shown once, never stronger than their maker, ended at once."""

import uuid
from typing import Any

import pytest

from tests.sql.public.house import Answer, House, Key, Person, digest

Maker = Key | Person


def create(house: House, by: Maker, **changes: Any) -> Answer:
    arguments = {
        "idempotency_key": uuid.uuid4().hex,
        "body_hash": digest("body"),
        "name": "till",
        "kind": "secret",
        "scopes": ["payments:read"],
        "environment": None,
        "expires_in_s": None,
        "key_hash": digest(uuid.uuid4().hex),
        "last4": "abcd",
    }
    return house.call("create_api_key", by=by, **(arguments | changes))


def rotate(house: House, by: Maker, key_id: str, **changes: Any) -> Answer:
    arguments = {
        "idempotency_key": uuid.uuid4().hex,
        "body_hash": digest("body"),
        "key_id": key_id,
        "overlap_s": None,
        "key_hash": digest(uuid.uuid4().hex),
        "last4": "wxyz",
    }
    return house.call("rotate_api_key", by=by, **(arguments | changes))


def works(house: House, secret: str) -> str | None:
    """The tenant that a secret opens; the code of the refusal otherwise."""
    headers = {"x-stalela-key-hash": digest(secret)}
    try:
        return str(house.one("select (public.caller()).tenant_id", headers=headers))
    except Exception as error:  # noqa: BLE001 - the code is the result
        return getattr(error, "code", None)


def test_a_new_key_opens_its_tenant_and_shows_no_secret(house: House) -> None:
    owner = house.member()

    answer = create(
        house, owner, key_hash=digest("sk_1"), scopes=["payments:write", "payments:read"]
    )

    assert answer.status == 201
    assert answer.body["id"].startswith("key_")
    assert answer.body["scopes"] == ["payments:read", "payments:write"]
    assert (answer.body["environment"], answer.body["last4"]) == ("sandbox", "abcd")
    assert (answer.body["status"], answer.body["created_by"]) == ("active", f"user:{owner.user_id}")
    assert digest("sk_1") not in str(answer)
    assert works(house, "sk_1") == owner.tenant_id


def test_a_replay_shows_the_first_key_and_makes_no_second(house: House) -> None:
    owner = house.member()
    first = create(house, owner, idempotency_key="k", key_hash=digest("first"))

    replay = create(house, owner, idempotency_key="k", key_hash=digest("second"))

    assert replay.body == first.body
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert works(house, "second") == "40101"


def test_a_scope_its_maker_does_not_hold_is_refused_by_name(house: House) -> None:
    developer = house.member(app_role="developer")

    refusal = house.refused(
        lambda: create(house, developer, scopes=["payments:read", "refunds:write"])
    )

    assert refusal.code == "40311"
    assert "refunds:write" in str(refusal)


def test_only_who_holds_everything_gives_everything(house: House) -> None:
    admin = house.member(app_role="admin")

    assert house.refused(lambda: create(house, admin, scopes=["*"])).code == "40311"
    assert create(house, house.member(), scopes=["*"]).status == 201


def test_a_key_can_make_weaker_keys_of_its_own_environment_only(house: House) -> None:
    tenant = house.tenant()
    maker = house.key(tenant, scopes=["api_keys:manage", "payments:read"])

    weaker = create(house, maker, scopes=["payments:read"])
    codes = [
        house.refused(lambda: create(house, maker, scopes=["payments:write"])).code,
        house.refused(lambda: create(house, maker, environment="production")).code,
    ]

    assert weaker.body["created_by"] == maker.key_id
    assert codes == ["40311", "40312"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": None}, "/name"),
        ({"kind": "public"}, "/kind"),
        ({"kind": None}, "/kind"),
        ({"environment": "test"}, "/environment"),
        ({"expires_in_s": 59}, "/expires_in"),
        ({"expires_in_s": 315_360_001}, "/expires_in"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": None}, "/scopes"),
        ({"scopes": ["payments:read", "payments:eat"]}, "/scopes/1"),
        ({"scopes": ["payments:confirm"]}, "/scopes/0"),
        ({"scopes": ["platform:operate"]}, "/scopes/0"),
        ({"kind": "publishable", "scopes": ["payments:read"]}, "/scopes/0"),
        ({"kind": "publishable", "scopes": ["*"]}, "/scopes/0"),
    ],
)
def test_a_bad_field_is_named(house: House, changes: dict[str, Any], pointer: str) -> None:
    owner = house.member()

    refusal = house.refused(lambda: create(house, owner, **changes))

    assert (refusal.code, refusal.extras["errors"][0]["pointer"]) == ("42262", pointer)


def test_a_publishable_key_confirms_and_nothing_else(house: House) -> None:
    answer = create(house, house.member(), kind="publishable", scopes=None)

    assert answer.body["scopes"] == ["payments:confirm"]


def test_production_keys_are_for_active_tenants(house: House) -> None:
    pending, active = house.member(house.tenant(status="pending")), house.member()

    refusal = house.refused(lambda: create(house, pending, environment="production"))

    assert refusal.code == "40302"
    assert create(house, active, environment="production").body["environment"] == "production"


def test_an_expiring_key_expires(house: House) -> None:
    owner = house.member()
    made = create(house, owner, expires_in_s=60, key_hash=digest("short"))
    house.run(
        "update public.api_keys set expires_at = now() where key_id = %s returning 1",
        made.body["id"],
    )

    (shown,) = house.call("list_api_keys", by=owner).body["data"]

    assert works(house, "short") == "40102"
    assert shown["status"] == "expired"


def test_a_tenant_has_at_most_fifty_active_keys(house: House) -> None:
    owner = house.member()
    for _ in range(50):
        house.key(owner.tenant_id)

    refusal = house.refused(lambda: create(house, owner))
    house.run(
        "update public.api_keys set status = 'revoked', revoked_at = now()"
        " where key_id = (select min(key_id) from public.api_keys where tenant_id = %s)"
        " returning 1",
        owner.tenant_id,
    )

    assert refusal.code == "42262"
    assert create(house, owner).status == 201


def test_keys_are_listed_for_one_environment_newest_first(house: House) -> None:
    tenant = house.tenant()
    owner = house.member(tenant)
    made = [create(house, owner).body["id"] for _ in range(2)]
    live = create(house, owner, environment="production").body["id"]

    sandbox = house.call("list_api_keys", by=owner).body["data"]
    production = house.call("list_api_keys", by=Person(owner.user_id, tenant, "production")).body[
        "data"
    ]

    assert [key["id"] for key in sandbox] == made[::-1]
    assert [key["id"] for key in production] == [live]


def test_a_rotated_key_has_a_successor_of_the_same_powers_and_ends(house: House) -> None:
    owner = house.member()
    made = create(house, owner, key_hash=digest("old"), expires_in_s=3600).body

    answer = rotate(house, owner, made["id"], key_hash=digest("new"))

    assert answer.status == 201
    assert (answer.body["rotated_from"], answer.body["last4"]) == (made["id"], "wxyz")
    assert answer.body["scopes"] == made["scopes"]
    assert (works(house, "old"), works(house, "new")) == ("40102", owner.tenant_id)


def test_an_overlap_keeps_both_until_it_is_over(house: House) -> None:
    owner = house.member()
    made = create(house, owner, key_hash=digest("before")).body
    rotate(house, owner, made["id"], overlap_s=600, key_hash=digest("after"))
    both = works(house, "before"), works(house, "after")
    remaining = house.one(
        "select extract(epoch from expires_at - now())::integer"
        " from public.api_keys where key_id = %s",
        made["id"],
    )

    house.run(
        "update public.api_keys set expires_at = now() where key_id = %s returning 1", made["id"]
    )

    assert both == (owner.tenant_id, owner.tenant_id)
    assert 590 <= remaining <= 600
    assert works(house, "before") == "40102"


def test_an_overlap_never_lengthens_a_life(house: House) -> None:
    owner = house.member()
    made = create(house, owner, expires_in_s=60).body
    rotate(house, owner, made["id"], overlap_s=604_800)

    left = house.one(
        "select extract(epoch from expires_at - now())::integer"
        " from public.api_keys where key_id = %s",
        made["id"],
    )
    assert left <= 60


@pytest.mark.parametrize("overlap", [-1, 604_801])
def test_an_overlap_is_at_most_a_week(house: House, overlap: int) -> None:
    owner = house.member()
    made = create(house, owner).body

    refusal = house.refused(lambda: rotate(house, owner, made["id"], overlap_s=overlap))

    assert (refusal.code, refusal.extras["errors"][0]["pointer"]) == ("42262", "/overlap_s")


def test_a_key_that_ended_cannot_be_rotated(house: House) -> None:
    owner = house.member()
    made = create(house, owner).body
    house.call("revoke_api_key", by=owner, key_id=made["id"])

    refusal = house.refused(lambda: rotate(house, owner, made["id"]))

    assert (refusal.code, refusal.extras["current_state"]) == ("40911", "revoked")


def test_a_key_has_one_successor_at_a_time(house: House) -> None:
    owner = house.member()
    made = create(house, owner).body
    successor = rotate(house, owner, made["id"], overlap_s=600).body

    refusal = house.refused(lambda: rotate(house, owner, made["id"], overlap_s=600))
    house.call("revoke_api_key", by=owner, key_id=successor["id"])

    assert (refusal.code, refusal.extras["current_state"]) == ("40911", "rotated")
    assert rotate(house, owner, made["id"]).status == 201


def test_rotating_is_no_way_to_more_power(house: House) -> None:
    owner = house.member()
    made = create(house, owner, scopes=["*"]).body
    developer = house.member(owner.tenant_id, "developer")

    assert house.refused(lambda: rotate(house, developer, made["id"])).code == "40311"


def test_one_rotation_key_makes_one_successor(house: House) -> None:
    owner = house.member()
    made = create(house, owner).body
    first = rotate(house, owner, made["id"], idempotency_key="r")

    assert rotate(house, owner, made["id"], idempotency_key="r").body == first.body


def test_revoking_ends_a_key_at_once_and_may_be_repeated(house: House) -> None:
    owner = house.member()
    made = create(house, owner, key_hash=digest("lost")).body

    answers = [house.call("revoke_api_key", by=owner, key_id=made["id"]) for _ in range(2)]

    assert [(a.status, a.body["status"]) for a in answers] == [(200, "revoked")] * 2
    assert works(house, "lost") == "40102"


@pytest.mark.parametrize("function", ["revoke_api_key", "rotate_api_key"])
def test_a_key_of_another_tenant_or_environment_does_not_exist(house: House, function: str) -> None:
    owner = house.member()
    theirs = create(house, house.member()).body["id"]
    live = create(house, owner, environment="production").body["id"]

    def touch(key_id: str) -> Answer:
        if function == "revoke_api_key":
            return house.call(function, by=owner, key_id=key_id)
        return rotate(house, owner, key_id)

    codes = [
        house.refused(lambda key_id=key_id: touch(key_id)).code for key_id in (theirs, live, "x")
    ]

    assert codes == ["40401"] * 3


@pytest.mark.parametrize("app_role", ["finance", "cashier", "auditor"])
def test_who_does_not_manage_keys_is_refused(house: House, app_role: str) -> None:
    person = house.member(app_role=app_role)
    actions: list[Any] = [
        lambda: create(house, person),
        lambda: rotate(house, person, "key_x"),
        lambda: house.call("list_api_keys", by=person),
        lambda: house.call("revoke_api_key", by=person, key_id="key_x"),
    ]

    assert [house.refused(action).code for action in actions] == ["40311"] * 4


def test_everything_done_to_keys_is_audited_where_the_key_lives(house: House) -> None:
    tenant = house.tenant()
    owner = house.member(tenant)
    live = Person(owner.user_id, tenant, "production")
    made = create(house, owner, environment="production").body["id"]
    successor = rotate(house, live, made).body["id"]
    house.call("revoke_api_key", by=live, key_id=successor)
    house.call("revoke_api_key", by=live, key_id=successor)

    def trail(person: Person) -> list[tuple[str, str]]:
        entries = house.call("list_audit", by=person, page_size=20, page_after=None).body["data"]
        return [(entry["action"], entry["subject"]) for entry in entries]

    assert trail(live) == [
        ("api_key.revoke", successor),
        ("api_key.rotate", successor),
        ("api_key.create", made),
    ]
    assert trail(owner) == []
