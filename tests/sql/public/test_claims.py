"""What an access token says: the hook that writes its claims and the helpers that read them."""

import json
from typing import Any

import psycopg
import pytest

from tests.sql.public.house import House, Person

HOOK = "select public.custom_access_token_hook(%s)"


def claims_of(house: House, person: Person, **claims: str) -> dict[str, Any]:
    """The claims of a token that Auth is about to issue to this person."""
    event = {"user_id": person.user_id, "claims": {"sub": person.user_id, "role": "x"} | claims}
    returned = house.one(HOOK, json.dumps(event), role="supabase_auth_admin")
    assert returned.keys() == event.keys()
    return dict(returned["claims"])


def test_a_token_names_tenant_and_role_of_the_active_membership(house: House) -> None:
    person = house.member(app_role="developer")

    claims = claims_of(house, person)

    assert claims == {
        "sub": person.user_id,
        "role": "x",
        "tenant_id": person.tenant_id,
        "app_role": "developer",
    }


def test_a_cashiers_token_names_the_outlet(house: House) -> None:
    person = house.member(app_role="cashier")
    house.run(
        "update public.memberships set outlet_id = 'out_1' where user_id = %s returning 1",
        person.user_id,
    )

    assert claims_of(house, person)["outlet_id"] == "out_1"


def test_a_stranger_gets_no_tenant_and_loses_one_that_was_claimed(house: House) -> None:
    person = Person()

    claims = claims_of(house, person, tenant_id="tn_stolen", app_role="owner")

    assert claims == {"sub": person.user_id, "role": "x"}


def test_a_removed_member_gets_no_tenant(house: House) -> None:
    owner = house.member()
    person = house.member(owner.tenant_id, "admin")
    house.call("remove_user", by=owner, user_id=person.user_id)

    assert "tenant_id" not in claims_of(house, person)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "fn_merchants"])
def test_the_hook_is_for_the_auth_service_alone(house: House, role: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        house.one(HOOK, '{"claims": {}}', role=role)


def test_without_a_token_there_is_no_tenant_and_the_environment_is_sandbox(house: House) -> None:
    (row,) = house.run(
        "select public.tenant_id() as tenant, public.user_id() as person,"
        " public.environment() as environment",
        role="authenticated",
    )

    assert row == {"tenant": None, "person": None, "environment": "sandbox"}


def test_claims_and_headers_are_read_from_the_request(house: House) -> None:
    (row,) = house.run(
        "select set_config('request.jwt.claims', %s, true), public.tenant_id() as tenant,"
        " public.user_id() as person, public.environment() as environment",
        '{"tenant_id": "tn_1", "sub": "u1"}',
        role="authenticated",
        headers={"x-stalela-environment": "production"},
    )

    assert (row["tenant"], row["person"], row["environment"]) == ("tn_1", "u1", "production")
