"""public.caller and public.authorize: who is calling, read in the transaction of the work."""

import time
import uuid

import pytest

from tests.sql.public.house import House, Key, Person, at_once, run_in

ACCOUNT = "get_account"


def scopes_of(house: House, key: Key, wanted: str) -> str:
    """The actor whom public.authorize lets through for `wanted`."""
    return str(
        house.one("select (public.authorize(%s, 'read')).actor", wanted, headers=key.headers)
    )


def test_a_key_is_its_tenant_and_environment(house: House) -> None:
    key = house.key(scopes=["payments:read"], environment="production")

    (caller,) = house.run("select * from public.caller()", headers=key.headers)

    assert caller["tenant_id"] == key.tenant_id
    assert (caller["environment"], caller["actor"]) == ("production", key.key_id)
    assert (caller["scopes"], caller["user_id"]) == (["payments:read"], None)


def test_an_environment_header_does_not_move_a_key(house: House) -> None:
    headers = house.key().headers | {"x-stalela-environment": "production"}

    assert house.one("select (public.caller()).environment", headers=headers) == "sandbox"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-stalela-key-hash": "0" * 64},
        {"x-stalela-key-hash": "' or true --"},
        {"x-stalela-client-secret-hash": "0" * 64},
    ],
)
def test_nobody_is_refused(house: House, headers: dict[str, str]) -> None:
    refusal = house.refused(lambda: house.run("select public.caller()", headers=headers))

    assert (refusal.code, refusal.status) == ("40101", 401)


@pytest.mark.parametrize(
    "change",
    ["status = 'revoked', revoked_at = now()", "expires_at = now() - interval '1 second'"],
)
def test_a_key_that_ended_is_refused_at_once(house: House, change: str) -> None:
    key = house.key()
    house.one("select (public.caller()).actor", headers=key.headers)
    house.run(
        f"update public.api_keys set {change} where key_id = %s returning key_id",  # noqa: S608
        key.key_id,
    )

    refusal = house.refused(lambda: house.run("select public.caller()", headers=key.headers))

    assert refusal.code == "40102"


@pytest.mark.parametrize(
    ("status", "environment", "code"),
    [
        ("pending", "sandbox", None),
        ("pending", "production", "40302"),
        ("active", "production", None),
        ("suspended", "sandbox", "40302"),
        ("suspended", "production", "40302"),
        ("closed", "sandbox", "40302"),
    ],
)
def test_a_tenant_works_where_its_status_allows(
    house: House, status: str, environment: str, code: str | None
) -> None:
    tenant = house.tenant(status=status)
    key = house.key(tenant, environment=environment)
    person = Person(house.member(tenant).user_id, tenant, environment)

    def answer(by: Key | Person) -> str | None:
        result = at_once(lambda _: house.call(ACCOUNT, by=by), 1)[0]
        return getattr(result, "code", None)

    assert (answer(key), answer(person)) == (code, code)


def test_a_person_has_the_scopes_of_the_role_they_have_now(house: House) -> None:
    person = house.member(app_role="auditor")
    before = house.call(ACCOUNT, by=person).body["caller"]
    house.run(
        "update public.memberships set app_role = 'finance' where user_id = %s returning 1",
        person.user_id,
    )

    after = house.call(ACCOUNT, by=person).body["caller"]

    assert (before["app_role"], after["app_role"]) == ("auditor", "finance")
    assert "refunds:write" in set(after["scopes"]) - set(before["scopes"])


def test_a_person_is_believed_only_from_a_role_that_verified_them(empty_house: House) -> None:
    person = empty_house.member()
    empty_house.arrange(
        "grant execute on function public.caller() to fn_merchants, fn_momo_callback, anon"
    )
    call = "select (public.caller()).actor"

    believed = empty_house.one(call, role="fn_merchants", headers=person.headers)
    codes = [
        empty_house.refused(
            lambda role=role: empty_house.run(call, role=role, headers=person.headers)
        ).code
        for role in ("fn_momo_callback", "anon", "stalela_owner")
    ]

    assert believed == f"user:{person.user_id}"
    assert codes == ["40101"] * 3


def test_a_person_is_no_member_of_another_tenant(house: House) -> None:
    person, other = house.member(), house.tenant()

    refusal = house.refused(lambda: house.call(ACCOUNT, by=Person(person.user_id, tenant_id=other)))

    assert refusal.code == "40302"


def test_a_person_without_organisation_is_told_so(house: House) -> None:
    refusal = house.refused(lambda: house.call(ACCOUNT, by=Person()))

    assert refusal.code == "40302"


def test_an_unknown_environment_is_refused(house: House) -> None:
    member = house.member()

    refusal = house.refused(
        lambda: house.call(ACCOUNT, by=Person(member.user_id, member.tenant_id, "staging"))
    )

    assert refusal.code == "40001"


@pytest.mark.parametrize(
    ("held", "wanted", "allowed"),
    [
        (["payments:read"], "payments:read", True),
        (["payments:read"], "payments:write", False),
        (["payments:write"], "payments:read", False),
        (["payments:write"], "payments:confirm", True),
        (["payments:confirm"], "payments:write", False),
        (["*"], "credentials:manage", True),
        (["*"], "platform:operate", False),
        (["platform:operate"], "platform:operate", True),
    ],
)
def test_a_scope_allows_itself_and_what_it_includes(
    house: House, held: list[str], wanted: str, allowed: bool
) -> None:
    assert house.one("select public.holds_scope(%s, %s)", held, wanted) is allowed


def test_a_missing_scope_is_named(house: House) -> None:
    key = house.key(scopes=["payments:read"])

    refusal = house.refused(lambda: scopes_of(house, key, "refunds:write"))

    assert (refusal.code, refusal.status) == ("40311", 403)
    assert "refunds:write" in str(refusal)
    assert "payments:read" not in f"{refusal} {refusal.extras}"


def last_used(house: House, key: Key) -> object:
    return house.one("select last_used_at from public.api_keys where key_id = %s", key.key_id)


def test_last_use_is_noted_once_a_minute(house: House) -> None:
    key = house.key()
    scopes_of(house, key, "payments:read")
    first = last_used(house, key)
    scopes_of(house, key, "payments:read")
    second = last_used(house, key)
    house.run(
        "update public.api_keys set last_used_at = now() - interval '61 seconds'"
        " where key_id = %s returning 1",
        key.key_id,
    )
    scopes_of(house, key, "payments:read")
    third = last_used(house, key)

    assert first is not None
    assert first == second
    assert third > second  # type: ignore[operator]


def test_noting_the_last_use_waits_for_nobody(house: House) -> None:
    key = house.key()
    with house.database.connect(autocommit=False) as holder:
        run_in(holder, "select public.caller()", headers=key.headers)
        started = time.monotonic()
        house.run("select public.caller()", headers=key.headers)
        waited = time.monotonic() - started

    assert waited < 30, "it waited for a lock until that timed out"


def test_a_user_id_that_is_no_uuid_never_becomes_a_caller(house: House) -> None:
    person = Person(user_id=f"{uuid.uuid4()}x", tenant_id=house.tenant())

    with pytest.raises(Exception, match="invalid input syntax for type uuid"):
        house.call(ACCOUNT, by=person)
