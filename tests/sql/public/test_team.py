"""The people of a tenant: nobody gives more than they have, and an owner always remains."""

import uuid
from typing import Any

import pytest

from tests.sql.public.house import Answer, House, Person, Refused, at_once, digest


def invite(house: House, by: Person, person: Person, app_role: str = "developer") -> str:
    """Invite `person`; the token they get."""
    token = uuid.uuid4().hex
    house.call(
        "invite_user",
        by=by,
        email=f" {person.email.upper()} ",
        app_role=app_role,
        token_hash=digest(token),
    )
    return token


def accept(house: House, person: Person, token: str) -> Answer:
    return house.call("accept_invitation", by=person, token_hash=digest(token))


def roles(house: House, by: Person) -> dict[str, str]:
    users = house.call("list_users", by=by).body["data"]
    return {user["id"]: user["app_role"] for user in users}


def test_an_invited_person_becomes_a_member(house: House) -> None:
    owner, guest = house.member(), Person()

    answer = accept(house, guest, invite(house, owner, guest))

    assert (answer.body["account"]["id"], answer.body["app_role"]) == (owner.tenant_id, "developer")
    assert roles(house, owner) == {owner.user_id: "owner", guest.user_id: "developer"}
    assert house.call("list_users", by=owner).body["invitations"] == []


def test_an_open_invitation_is_listed_without_its_token(house: House) -> None:
    owner, guest = house.member(), Person()
    token = invite(house, owner, guest)

    (invitation,) = house.call("list_users", by=owner).body["invitations"]

    assert (invitation["email"], invitation["app_role"]) == (guest.email, "developer")
    assert digest(token) not in str(invitation)


def test_a_token_works_once_and_only_for_the_invited_address(house: House) -> None:
    owner, guest = house.member(), Person()
    token = invite(house, owner, guest)

    thief = house.refused(lambda: accept(house, Person(), token))
    accept(house, guest, token)
    again = house.refused(lambda: accept(house, guest, token))

    assert (thief.code, again.code) == ("40401", "40401")


def test_simultaneous_acceptances_make_one_membership(house: House) -> None:
    owner, guest = house.member(), Person()
    token = invite(house, owner, guest)

    results = at_once(lambda _: accept(house, guest, token), 8)

    assert [r.status for r in results if isinstance(r, Answer)] == [200]
    assert {r.code for r in results if isinstance(r, Refused)} == {"40401"}


def test_an_invitation_expires(house: House) -> None:
    owner, guest = house.member(), Person()
    token = invite(house, owner, guest)
    house.run(
        "update public.invitations set expires_at = now() where email = %s returning 1", guest.email
    )

    assert house.refused(lambda: accept(house, guest, token)).code == "40401"


def test_a_second_invitation_replaces_the_first(house: House) -> None:
    owner, guest = house.member(), Person()
    first, second = invite(house, owner, guest), invite(house, owner, guest, "finance")

    refusal = house.refused(lambda: accept(house, guest, first))

    assert refusal.code == "40401"
    assert accept(house, guest, second).body["app_role"] == "finance"


def test_a_member_is_not_invited_again(house: House) -> None:
    owner = house.member()
    colleague = house.member(owner.tenant_id, "developer")

    assert house.refused(lambda: invite(house, owner, colleague)).code == "40914"


def test_a_removed_member_can_come_back_by_invitation(house: House) -> None:
    owner = house.member()
    colleague = house.member(owner.tenant_id, "admin")
    house.call("remove_user", by=owner, user_id=colleague.user_id)

    accept(house, colleague, invite(house, owner, colleague, "cashier"))

    assert roles(house, owner)[colleague.user_id] == "cashier"


@pytest.mark.parametrize("app_role", ["operator", "god", "", None])
def test_only_roles_of_an_organisation_can_be_given(house: House, app_role: str | None) -> None:
    owner = house.member()

    refusal = house.refused(lambda: invite(house, owner, Person(), app_role))  # type: ignore[arg-type]

    assert (refusal.code, refusal.extras["errors"][0]["pointer"]) == ("42262", "/app_role")


@pytest.mark.parametrize("app_role", ["developer", "finance", "cashier", "auditor"])
def test_who_does_not_manage_the_team_is_refused(house: House, app_role: str) -> None:
    owner = house.member()
    person = house.member(owner.tenant_id, app_role)
    actions: list[Any] = [
        lambda: invite(house, person, Person()),
        lambda: house.call("remove_user", by=person, user_id=owner.user_id),
        lambda: house.call("change_user_role", by=person, user_id=person.user_id, app_role="owner"),
    ]

    assert [house.refused(action).code for action in actions] == ["40311"] * 3


def test_an_admin_has_no_power_over_owners(house: House) -> None:
    owner = house.member()
    admin = house.member(owner.tenant_id, "admin")
    change: list[Any] = [
        lambda: invite(house, admin, Person(), "owner"),
        lambda: house.call("change_user_role", by=admin, user_id=admin.user_id, app_role="owner"),
        lambda: house.call("change_user_role", by=admin, user_id=owner.user_id, app_role="admin"),
        lambda: house.call("remove_user", by=admin, user_id=owner.user_id),
    ]

    assert [house.refused(action).code for action in change] == ["40312"] * 4
    assert roles(house, owner)[owner.user_id] == "owner"


def test_a_role_changes_at_once(house: House) -> None:
    owner = house.member()
    person = house.member(owner.tenant_id, "auditor")

    answer = house.call("change_user_role", by=owner, user_id=person.user_id, app_role="developer")

    assert answer.body == {"id": person.user_id, "object": "user", "app_role": "developer"}
    assert house.call("list_api_keys", by=person).status == 200


@pytest.mark.parametrize("action", ["leave", "step_down"])
def test_the_last_owner_stays(house: House, action: str) -> None:
    owner = house.member()
    house.member(owner.tenant_id, "admin")

    refusal = house.refused(lambda: part(house, owner, owner, action))

    assert (refusal.code, refusal.extras["current_state"]) == ("40911", "last_owner")
    assert roles(house, owner)[owner.user_id] == "owner"


def part(house: House, by: Person, person: Person, action: str) -> Answer:
    if action == "leave":
        return house.call("remove_user", by=by, user_id=person.user_id)
    return house.call("change_user_role", by=by, user_id=person.user_id, app_role="admin")


@pytest.mark.parametrize("action", ["leave", "step_down"])
def test_owners_who_part_at_the_same_moment_leave_one(house: House, action: str) -> None:
    for _ in range(5):
        first = house.member()
        owners = [first, *(house.member(first.tenant_id) for _ in range(3))]

        results = at_once(lambda i, o=owners: part(house, o[i], o[i], action), 4)  # type: ignore[misc]

        left = house.one(
            "select count(*) from public.memberships"
            " where tenant_id = %s and app_role = 'owner' and status = 'active'",
            first.tenant_id,
        )
        assert [r.code for r in results if isinstance(r, Refused)] == ["40911"]
        assert left == 1


def test_owners_who_remove_each_other_leave_one(house: House) -> None:
    for _ in range(5):
        first = house.member()
        pair = [first, house.member(first.tenant_id)]

        results = at_once(lambda i, p=pair: part(house, p[i], p[1 - i], "leave"), 2)  # type: ignore[misc]

        assert sum(isinstance(result, Answer) for result in results) == 1


def test_a_removed_person_is_out_at_once(house: House) -> None:
    owner = house.member()
    person = house.member(owner.tenant_id, "admin")

    house.call("remove_user", by=owner, user_id=person.user_id)

    assert house.refused(lambda: house.call("get_account", by=person)).code == "40302"


def test_removing_somebody_names_the_keys_they_saw(house: House) -> None:
    owner = house.member()
    person = house.member(owner.tenant_id, "developer")
    made = house.call(
        "create_api_key",
        by=person,
        idempotency_key="k",
        body_hash="h",
        name="till",
        kind="secret",
        scopes=["payments:write"],
        environment=None,
        expires_in_s=None,
        key_hash=digest(uuid.uuid4().hex),
        last4="abcd",
    )

    answer = house.call("remove_user", by=owner, user_id=person.user_id)

    assert answer.body["api_keys_to_rotate"] == [made.body["id"]]


def test_who_loses_power_cannot_return_through_an_invitation_of_their_own(house: House) -> None:
    owner = house.member()
    admin, second_self = house.member(owner.tenant_id, "admin"), Person()
    token = invite(house, admin, second_self, "admin")

    house.call("remove_user", by=owner, user_id=admin.user_id)

    assert house.refused(lambda: accept(house, second_self, token)).code == "40401"


def test_nobody_reaches_into_another_organisation(house: House) -> None:
    owner, stranger = house.member(), house.member()

    codes = [
        house.refused(lambda a=a: part(house, owner, stranger, a)).code  # type: ignore[misc]
        for a in ("leave", "step_down")
    ]

    assert codes == ["40401", "40401"]
    assert stranger.user_id not in roles(house, owner)


def test_every_change_is_audited(house: House) -> None:
    owner, guest = house.member(), Person()
    accept(house, guest, invite(house, owner, guest))
    house.call("change_user_role", by=owner, user_id=guest.user_id, app_role="auditor")
    house.call("remove_user", by=owner, user_id=guest.user_id)

    entries = house.call("list_audit", by=owner, page_size=20, page_after=None).body["data"]

    assert [(entry["action"], entry["actor"]) for entry in entries] == [
        ("team.remove", f"user:{owner.user_id}"),
        ("team.change_role", f"user:{owner.user_id}"),
        ("team.accept", f"user:{guest.user_id}"),
        ("team.invite", f"user:{owner.user_id}"),
    ]
