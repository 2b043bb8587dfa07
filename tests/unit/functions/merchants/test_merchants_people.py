from hashlib import sha256

import httpx
import pytest

from tests.unit.functions.merchants.pretend import USER_ID, DataApi, answer

INVITATION = {"id": "invt_1", "object": "invitation", "email": "ben@acacia.test"}


async def test_an_invitation_shows_its_token_once_and_sql_sees_the_hash(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.invite_user", answer(INVITATION, 201))

    answered = await client.post(
        "/users/invitations", json={"email": " ben@acacia.test ", "app_role": "developer"}
    )

    call, token = data_api.the("public.invite_user"), answered.json()["token"]
    assert answered.status_code == 201
    assert answered.headers["cache-control"] == "no-store"
    assert answered.json() == INVITATION | {"token": token}
    assert call.args == {
        "email": "ben@acacia.test",
        "app_role": "developer",
        "token_hash": sha256(token.encode()).hexdigest(),
    }
    assert len(token.removeprefix("invite_")) == 43


@pytest.mark.parametrize(
    "email",
    ["ben", "@acacia.test", "ben@", "be n@acacia.test", "bén@acacia.test", "a" * 251 + "@b.c"],
)
async def test_an_invitation_needs_an_address(client: httpx.AsyncClient, email: str) -> None:
    answered = await client.post(
        "/users/invitations", json={"email": email, "app_role": "developer"}
    )

    assert answered.status_code == 400
    assert answered.json()["errors"][0]["pointer"] == "/email"


async def test_accepting_sends_the_hash_of_the_token(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.accept_invitation", answer({"app_role": "developer"}))

    answered = await client.post("/users/invitations/accept", json={"token": "invite_" + "x" * 43})

    expected = sha256(("invite_" + "x" * 43).encode()).hexdigest()
    assert answered.status_code == 200
    assert data_api.the("public.accept_invitation").args == {"token_hash": expected}


async def test_a_role_is_changed_for_the_person_in_the_path(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.change_user_role", answer({"id": USER_ID}))

    answered = await client.patch(f"/users/{USER_ID}", json={"app_role": "finance"})

    assert answered.status_code == 200
    assert data_api.the("public.change_user_role").args == {
        "user_id": USER_ID,
        "app_role": "finance",
    }


async def test_the_refusal_of_sql_reaches_the_caller(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will_refuse("public.remove_user", "40911", "This is the last owner.")

    answered = await client.delete(f"/users/{USER_ID}")

    assert (answered.status_code, answered.json()["code"]) == (409, "40911")
    assert answered.json()["detail"] == "This is the last owner."


async def test_an_impossible_user_id_is_not_found(client: httpx.AsyncClient) -> None:
    answered = await client.delete("/users/not-a-person")

    assert (answered.status_code, answered.json()["code"]) == (404, "40401")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users/invitations", {"email": "ben@acacia.test", "app_role": "owner"}),
        ("POST", "/users/invitations/accept", {"token": "x" * 50}),
        ("PATCH", f"/users/{USER_ID}", {"app_role": "owner"}),
        ("DELETE", f"/users/{USER_ID}", None),
    ],
)
async def test_an_api_key_changes_nobody(
    client: httpx.AsyncClient, data_api: DataApi, method: str, path: str, body: object
) -> None:
    answered = await client.request(
        method, path, json=body, headers={"Authorization": "Bearer sk_test_leaked"}
    )

    assert (answered.status_code, answered.json()["code"]) == (403, "40301")
    assert data_api.called() == []


async def test_listing_people_passes_through(client: httpx.AsyncClient, data_api: DataApi) -> None:
    data_api.will("public.list_users", answer({"data": [], "invitations": []}))

    answered = await client.get("/users")

    assert answered.json() == {"data": [], "invitations": []}
