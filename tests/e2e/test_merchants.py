"""An organisation's account, over HTTP: sign-up, people, keys, rail credentials, audit."""

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from supabase.lib.client_options import SyncClientOptions

from functions.merchants import handler
from scripts.stack.daraja.credentials import PAY_BILL, TILL, Merchant
from scripts.stack.stack import Stack
from shared.config import Settings
from supabase import Client, create_client

PASSWORD = "correct horse"
ROLES = ("admin", "developer", "finance", "cashier", "auditor")
ACACIA = {"name": "Acacia Books", "country": "KE"}
INTENT = {"amount": "100.00", "currency": "KES", "payment_method_types": ["mpesa"]}
PAYMENTS = {"name": "Shop", "scopes": ["payments:read", "payments:write"]}
EVERYBODY = {"GET /me": 200, "GET /users": 200}
NOBODY_YET = {
    "GET /audit": 403,
    "GET /api-keys": 403,
    "GET /credentials": 403,
    "POST /users/invitations": 403,
    "POST /credentials/mpesa/test": 403,
}
ALL = {"GET /audit": 200, "GET /api-keys": 200, "GET /credentials": 200}


@dataclass
class Person:
    """Somebody with an account at Auth, at /merchants."""

    stack: Stack
    client: Client
    http: httpx.Client
    email: str
    token: str = ""
    environment: str = "sandbox"

    def sign_in(self) -> None:
        """Take a new token: what a page does after sign-up."""
        session = self.client.auth.refresh_session().session
        assert session is not None
        self.token = session.access_token

    @property
    def user_id(self) -> str:
        return str(self.claims()["sub"])

    def claims(self) -> dict[str, Any]:
        return dict(jwt.decode(self.token, options={"verify_signature": False}))

    def does(
        self, method: str, path: str, body: object = None, *, once: str | None = None
    ) -> httpx.Response:
        """once: the Idempotency-Key, a fresh one by default."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Idempotency-Key": once or uuid.uuid4().hex,
            "x-stalela-environment": self.environment,
        }
        return self.http.request(
            method, f"{self.stack.functions_url}/merchants{path}", json=body, headers=headers
        )

    def makes_key(self, **body: object) -> dict[str, Any]:
        answer = self.does("POST", "/api-keys", PAYMENTS | body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


NewPerson = Callable[[], Person]


@pytest.fixture(scope="module")
def new_person(stack: Stack) -> Iterator[NewPerson]:
    """Signs somebody up at Auth with the official client."""
    with ExitStack() as opened:

        def make() -> Person:
            email = f"{uuid.uuid4().hex[:10]}@acacia.example"
            options = SyncClientOptions(httpx_client=opened.enter_context(httpx.Client()))
            client = create_client(stack.url, stack.keys["publishable_key"], options)
            session = client.auth.sign_up({"email": email, "password": PASSWORD}).session
            assert session is not None
            http = opened.enter_context(httpx.Client(timeout=15))
            return Person(stack, client, http, email, session.access_token)

        yield make


@pytest.fixture(scope="module")
def new_owner(stack: Stack, new_person: NewPerson) -> NewPerson:
    """Signs an organisation up: active, without limits of rate."""

    def make() -> Person:
        owner = new_person()
        account = owner.does("POST", "/", ACACIA).json()
        with stack.database.connect() as connection:
            connection.execute(
                "update public.tenants set plan = 'unlimited', status = 'active' "
                "where tenant_id = %s",
                (account["id"],),
            )
        owner.sign_in()
        return owner

    return make


@pytest.fixture
def owner(new_owner: NewPerson) -> Person:
    return new_owner()


@pytest.fixture(scope="module")
def team(new_owner: NewPerson, new_person: NewPerson) -> dict[str, Person]:
    """One organisation with somebody in every role."""
    owner = new_owner()
    return {"owner": owner} | {role: member(owner, new_person(), role) for role in ROLES}


def member(owner: Person, person: Person, role: str) -> Person:
    """The person, invited and joined."""
    body = {"email": person.email, "app_role": role}
    token = owner.does("POST", "/users/invitations", body).json()["token"]
    joined = person.does("POST", "/users/invitations/accept", {"token": token})
    assert joined.status_code == 200, joined.text
    person.sign_in()
    return person


def credentials(merchant: Merchant = PAY_BILL, **changes: str) -> dict[str, str]:
    known = {
        "consumer_key": merchant.consumer_key,
        "consumer_secret": merchant.consumer_secret,
        "passkey": merchant.passkey,
        "shortcode": merchant.short_code,
    }
    till = {"type": "till", "till_number": merchant.till} if merchant.till else {}
    return known | till | changes


def create_intent(stack: Stack, secret: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": uuid.uuid4().hex}
    return httpx.post(f"{stack.functions_url}/payment-intents", json=INTENT, headers=headers)


def account_of(stack: Stack, secret: str) -> httpx.Response:
    url = f"{stack.functions_url}/merchants/me"
    return httpx.get(url, headers={"Authorization": f"Bearer {secret}"})


def knock(person: Person, door: str, body: object) -> httpx.Response:
    """door: method and path."""
    method, path = door.split()
    return person.does(method, path, body)


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["code"]


# Signing up


def test_sign_up_makes_an_owner_whose_next_token_names_the_organisation(
    new_person: NewPerson,
) -> None:
    person = new_person()
    before = person.does("GET", "/me")

    made = person.does("POST", "/", ACACIA)
    person.sign_in()

    after = person.does("GET", "/me").json()
    assert said(before) == (403, "40302")
    assert made.status_code == 201
    assert person.claims()["tenant_id"] == made.json()["id"]
    assert after["account"] == made.json()
    assert after["caller"] == {
        "actor": f"user:{person.user_id}",
        "environment": "sandbox",
        "app_role": "owner",
        "scopes": ["*"],
    }


def test_sign_up_twice_with_one_key_is_one_organisation(new_person: NewPerson) -> None:
    person = new_person()

    first = person.does("POST", "/", ACACIA, once="sign-up")
    person.sign_in()
    again = person.does("POST", "/", ACACIA, once="sign-up")
    other = person.does("POST", "/", ACACIA | {"name": "Baobab"}, once="sign-up")

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert said(other) == (422, "42241")


def test_a_new_organisation_works_in_the_sandbox_only(new_person: NewPerson) -> None:
    person = new_person()
    person.does("POST", "/", ACACIA)
    person.sign_in()

    person.environment = "production"

    assert said(person.does("GET", "/me")) == (403, "40302")
    assert said(person.does("POST", "/api-keys", PAYMENTS)) == (403, "40302")


def test_nobody_comes_in_with_an_invented_token(stack: Stack, owner: Person) -> None:
    claims = owner.claims() | {"tenant_id": "tn_01kaj3v7wvf4fr8mnp5sye2s6k"}
    owner.token = jwt.encode(claims, "x" * 32, algorithm="HS256")

    assert said(owner.does("GET", "/me")) == (403, "40301")


# API keys


def test_a_key_pays_until_it_is_revoked_and_not_once_more(stack: Stack, owner: Person) -> None:
    key = owner.makes_key()

    paid = create_intent(stack, key["secret"])
    revoked = owner.does("DELETE", f"/api-keys/{key['id']}")
    refused = create_intent(stack, key["secret"])
    again = owner.does("DELETE", f"/api-keys/{key['id']}")

    assert paid.status_code == 201
    assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
    assert said(refused) == (401, "40102")
    assert (again.status_code, again.json()) == (200, revoked.json())


def test_a_secret_is_shown_once_and_listed_never(owner: Person) -> None:
    first = owner.does("POST", "/api-keys", PAYMENTS, once="shop").json()

    again = owner.does("POST", "/api-keys", PAYMENTS, once="shop")
    (listed,) = owner.does("GET", "/api-keys").json()["data"]

    assert first["secret"].startswith("sk_test_")
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.json()["id"], again.json()["secret"]) == (first["id"], None)
    assert "rotate or revoke" in again.json()["note"]
    assert listed["last4"] == first["secret"][-4:]
    assert "secret" not in listed


def test_a_key_asked_for_by_many_at_once_is_one_key_with_one_secret(owner: Person) -> None:
    with ThreadPoolExecutor(8) as clients:
        asked = [
            clients.submit(owner.does, "POST", "/api-keys", PAYMENTS, once="shop") for _ in range(8)
        ]
        answers = [answer.result() for answer in asked]

    keys = [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {201}
    assert len({key["id"] for key in keys}) == 1
    assert len([key for key in keys if key["secret"]]) == 1


def test_a_secret_is_kept_nowhere(stack: Stack, owner: Person) -> None:
    secret = owner.makes_key()["secret"]

    with stack.database.connect() as connection:
        rows = connection.execute(
            "select k::text from public.api_keys as k union all "
            "select i::text from public.idempotency_keys as i union all "
            "select a::text from public.audit_log as a"
        ).fetchall()

    assert len(rows) >= 3
    assert secret.removeprefix("sk_test_") not in str(rows)


def test_a_rotated_key_ends_at_once_unless_an_overlap_is_asked_for(
    stack: Stack, owner: Person
) -> None:
    first = owner.makes_key()

    second = owner.does("POST", f"/api-keys/{first['id']}/rotate", {"overlap_s": 3600}).json()
    both = [account_of(stack, key["secret"]).status_code for key in (first, second)]
    third = owner.does("POST", f"/api-keys/{second['id']}/rotate").json()
    one = [account_of(stack, key["secret"]).status_code for key in (second, third)]

    # They lack the scope of /me; but who is refused with 403 was recognised.
    assert both == [403, 403]
    assert one == [401, 403]
    assert (second["rotated_from"], second["scopes"]) == (first["id"], first["scopes"])
    assert create_intent(stack, third["secret"]).status_code == 201


def test_a_rotated_publishable_key_stays_publishable(owner: Person) -> None:
    former = owner.makes_key(kind="publishable", scopes=[])

    successor = owner.does("POST", f"/api-keys/{former['id']}/rotate").json()

    assert former["scopes"] == ["payments:confirm"]
    assert successor["kind"] == "publishable"
    assert successor["secret"].startswith("pk_test_")


def test_a_revoked_key_is_not_rotated(owner: Person) -> None:
    key = owner.makes_key()
    owner.does("DELETE", f"/api-keys/{key['id']}")

    answer = owner.does("POST", f"/api-keys/{key['id']}/rotate")

    assert said(answer) == (409, "40911")


def test_a_key_does_what_its_scopes_say(stack: Stack, owner: Person) -> None:
    reader = owner.makes_key(scopes=["payments:read"])

    answer = create_intent(stack, reader["secret"])

    assert said(answer) == (403, "40311")
    assert "payments:write" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"scopes": []}, "42262", "/scopes"),
        ({"scopes": ["payments:invent"]}, "42262", "/scopes/0"),
        ({"scopes": ["platform:operate"]}, "42262", "/scopes/0"),
        ({"kind": "publishable", "scopes": ["payments:write"]}, "42262", "/scopes/0"),
    ],
)
def test_a_key_has_scopes_of_its_kind(
    owner: Person, body: dict[str, Any], code: str, pointer: str
) -> None:
    answer = owner.does("POST", "/api-keys", PAYMENTS | body)

    assert said(answer) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_key_makes_no_key_that_can_do_more(stack: Stack, owner: Person) -> None:
    maker = owner.makes_key(scopes=["api_keys:manage", "payments:read"])
    bearer = {"Authorization": f"Bearer {maker['secret']}"}
    url = f"{stack.functions_url}/merchants/api-keys"

    def ask(once: str, **body: object) -> httpx.Response:
        return httpx.post(
            url, json={"name": "Child"} | body, headers=bearer | {"Idempotency-Key": once}
        )

    lesser = ask("a", scopes=["payments:read"])
    greater = ask("b", scopes=["payments:write"])
    elsewhere = ask("c", scopes=["payments:read"], environment="production")

    assert (lesser.status_code, lesser.json()["environment"]) == (201, "sandbox")
    assert said(greater) == (403, "40311")
    assert said(elsewhere) == (403, "40312")


# People


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("owner", ALL | {"POST /users/invitations": 201, "POST /credentials/mpesa/test": 404}),
        ("admin", ALL | {"POST /users/invitations": 201, "POST /credentials/mpesa/test": 404}),
        ("developer", {"GET /api-keys": 200}),
        ("finance", {"GET /audit": 200}),
        ("cashier", {}),
        ("auditor", {"GET /audit": 200}),
    ],
)
def test_a_role_opens_its_own_doors(
    team: dict[str, Person], role: str, expected: dict[str, int]
) -> None:
    asked = EVERYBODY | NOBODY_YET
    body = {"email": f"{role}.guest@acacia.example", "app_role": "cashier"}

    answers = {door: knock(team[role], door, body) for door in asked}

    assert {door: answer.status_code for door, answer in answers.items()} == asked | expected


def test_an_invitation_is_for_its_address_and_for_once(
    owner: Person, new_person: NewPerson
) -> None:
    guest, stranger = new_person(), new_person()
    body = {"email": guest.email, "app_role": "developer"}
    invitation = owner.does("POST", "/users/invitations", body).json()
    token = {"token": invitation["token"]}

    stolen = stranger.does("POST", "/users/invitations/accept", token)
    joined = guest.does("POST", "/users/invitations/accept", token)
    again = guest.does("POST", "/users/invitations/accept", token)
    guest.sign_in()

    people = owner.does("GET", "/users").json()
    assert said(stolen) == (404, "40401")
    assert joined.json()["app_role"] == "developer"
    assert again.status_code == 404
    assert [user["email"] for user in people["data"]] == [owner.email, guest.email]
    assert people["invitations"] == []
    assert guest.does("GET", "/me").json()["caller"]["app_role"] == "developer"


def test_an_open_invitation_is_listed_without_its_token(owner: Person) -> None:
    body = {"email": "ben@acacia.example", "app_role": "auditor"}
    made = owner.does("POST", "/users/invitations", body).json()

    (listed,) = owner.does("GET", "/users").json()["invitations"]

    assert listed == {name: value for name, value in made.items() if name != "token"}


def test_a_role_changes_and_ends_while_the_token_still_lives(
    owner: Person, new_person: NewPerson
) -> None:
    guest = member(owner, new_person(), "admin")

    changed = owner.does("PATCH", f"/users/{guest.user_id}", {"app_role": "cashier"})
    as_cashier = guest.does("GET", "/api-keys")
    removed = owner.does("DELETE", f"/users/{guest.user_id}")
    as_nobody = guest.does("GET", "/me")

    assert (changed.status_code, changed.json()["app_role"]) == (200, "cashier")
    assert said(as_cashier) == (403, "40311")
    assert removed.json()["removed"] is True
    assert said(as_nobody) == (403, "40302")


def test_who_leaves_has_the_keys_they_saw_listed(owner: Person, new_person: NewPerson) -> None:
    guest = member(owner, new_person(), "developer")
    key = guest.makes_key()

    removed = owner.does("DELETE", f"/users/{guest.user_id}")

    assert removed.json()["api_keys_to_rotate"] == [key["id"]]


def test_the_last_owner_stays(owner: Person) -> None:
    demoted = owner.does("PATCH", f"/users/{owner.user_id}", {"app_role": "admin"})
    removed = owner.does("DELETE", f"/users/{owner.user_id}")

    assert said(demoted) == (409, "40911")
    assert said(removed) == (409, "40911")


def test_an_admin_makes_nobody_an_owner(team: dict[str, Person]) -> None:
    admin, cashier = team["admin"], team["cashier"]

    promoted = admin.does("PATCH", f"/users/{cashier.user_id}", {"app_role": "owner"})
    platform = admin.does("PATCH", f"/users/{cashier.user_id}", {"app_role": "operator"})

    assert said(promoted) == (403, "40312")
    assert said(platform) == (422, "42262")


# Rail credentials


def test_credentials_are_stored_masked_tested_replaced_and_deleted(owner: Person) -> None:
    stored = owner.does("PUT", "/credentials/mpesa", credentials())
    tested = owner.does("POST", "/credentials/mpesa/test")
    replaced = owner.does("PUT", "/credentials/mpesa", credentials(TILL))
    listed = owner.does("GET", "/credentials")
    deleted = owner.does("DELETE", "/credentials/mpesa")
    gone = owner.does("POST", "/credentials/mpesa/test")

    assert (stored.status_code, stored.json()["revision"]) == (201, 1)
    assert stored.json()["credentials"]["consumer_secret"] == "******"
    assert stored.json()["tested_at"] < tested.json()["tested_at"]
    assert (replaced.status_code, replaced.json()["revision"]) == (200, 2)
    assert [row["credentials"]["till_number"] for row in listed.json()["data"]] == [TILL.till]
    assert TILL.consumer_secret not in stored.text + replaced.text + listed.text
    assert deleted.json() == {"object": "rail_credentials", "rail": "mpesa", "deleted": True}
    assert said(gone) == (404, "40401")


def test_wrong_credentials_are_refused_with_the_words_of_the_rail(owner: Person) -> None:
    answer = owner.does("PUT", "/credentials/mpesa", credentials(consumer_secret="guessed"))

    assert said(answer) == (422, "42263")
    assert answer.json()["rail_code"]
    assert owner.does("GET", "/credentials").json()["data"] == []


def test_credentials_stored_untried_fail_their_test_and_stay_untested(owner: Person) -> None:
    wrong = credentials(consumer_secret="guessed")

    stored = owner.does("PUT", "/credentials/mpesa?test=false", wrong)
    tested = owner.does("POST", "/credentials/mpesa/test")

    (listed,) = owner.does("GET", "/credentials").json()["data"]
    assert stored.status_code == 201
    assert said(tested) == (422, "42263")
    assert listed["tested_at"] is None


def test_credentials_in_the_database_are_sealed(stack: Stack, owner: Person) -> None:
    owner.does("PUT", "/credentials/mpesa", credentials())

    with stack.database.connect() as connection:
        rows = connection.execute(
            "select c::text from rails.credentials as c where tenant_id = %s",
            (owner.claims()["tenant_id"],),
        ).fetchall()

    ((row,),) = rows
    assert PAY_BILL.short_code in row
    assert PAY_BILL.consumer_secret not in row
    assert base64.b64encode(PAY_BILL.consumer_secret.encode()).decode()[:12] not in row


def test_a_key_may_try_stored_credentials_and_not_replace_them(stack: Stack, owner: Person) -> None:
    owner.does("PUT", "/credentials/mpesa", credentials())
    server = owner.makes_key(scopes=["*"])
    bearer = {"Authorization": f"Bearer {server['secret']}"}
    url = f"{stack.functions_url}/merchants/credentials/mpesa"

    tried = httpx.post(f"{url}/test", headers=bearer)
    replaced = httpx.put(url, json=credentials(TILL), headers=bearer)

    assert tried.status_code == 200
    assert said(replaced) == (403, "40301")


async def test_a_new_master_key_takes_over_what_the_old_one_sealed(platform: Stack) -> None:
    # A stack of its own kind: here the functions run in this process, each with its own keys.
    old, new = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    token = platform_owner(platform)

    stored = await merchants_call(
        platform, {"1": old}, "PUT", "/credentials/mpesa", token, credentials()
    )
    resealed = await merchants_call(
        platform, {"1": old, "2": new}, "POST", "/reseal", platform.keys["internal_token"]
    )
    again = await merchants_call(
        platform, {"1": old, "2": new}, "POST", "/reseal", platform.keys["internal_token"]
    )
    tested = await merchants_call(platform, {"2": new}, "POST", "/credentials/mpesa/test", token)

    assert stored.status_code == 201
    assert resealed.json() == {"resealed": 1, "failed": 0}
    assert again.json() == {"resealed": 0, "failed": 0}
    assert tested.status_code == 200


# Apart


def test_sandbox_and_production_do_not_see_each_other(stack: Stack, owner: Person) -> None:
    test_key = owner.makes_key()
    owner.does("PUT", "/credentials/mpesa", credentials())

    owner.environment = "production"
    live_key = owner.makes_key()

    assert live_key["secret"].startswith("sk_live_")
    assert account_of(stack, live_key["secret"]).status_code == 403
    assert owner.does("GET", "/credentials").json()["data"] == []
    assert said(owner.does("POST", "/credentials/mpesa/test")) == (404, "40401")
    assert said(owner.does("DELETE", f"/api-keys/{test_key['id']}")) == (404, "40401")
    assert said(owner.does("POST", f"/api-keys/{test_key['id']}/rotate")) == (404, "40401")
    assert [key["id"] for key in owner.does("GET", "/api-keys").json()["data"]] == [live_key["id"]]
    owner.environment = "sandbox"
    assert [key["id"] for key in owner.does("GET", "/api-keys").json()["data"]] == [test_key["id"]]


def test_an_environment_that_does_not_exist_is_refused(owner: Person) -> None:
    owner.environment = "staging"

    assert said(owner.does("GET", "/me")) == (400, "40001")


def test_another_organisation_is_not_there(
    owner: Person, new_owner: NewPerson, new_person: NewPerson
) -> None:
    stranger = new_owner()
    key, guest = owner.makes_key(), member(owner, new_person(), "cashier")
    owner.does("PUT", "/credentials/mpesa", credentials())

    answers = [
        stranger.does("DELETE", f"/api-keys/{key['id']}"),
        stranger.does("POST", f"/api-keys/{key['id']}/rotate"),
        stranger.does("PATCH", f"/users/{guest.user_id}", {"app_role": "admin"}),
        stranger.does("DELETE", f"/users/{guest.user_id}"),
        stranger.does("POST", "/credentials/mpesa/test"),
        stranger.does("DELETE", "/credentials/mpesa"),
    ]

    assert [said(answer) for answer in answers] == [(404, "40401")] * 6
    assert stranger.does("GET", "/api-keys").json()["data"] == []
    assert owner.email not in stranger.does("GET", "/users").text
    assert stranger.does("GET", "/credentials").json()["data"] == []
    assert key["id"] not in stranger.does("GET", "/audit").text


# Audit


def test_the_audit_trail_tells_who_did_what_and_no_secret(owner: Person) -> None:
    key = owner.makes_key()
    owner.does("PUT", "/credentials/mpesa", credentials())
    owner.does("DELETE", f"/api-keys/{key['id']}")

    trail = owner.does("GET", "/audit")

    entries = trail.json()["data"]
    assert [(entry["action"], entry["subject"]) for entry in entries] == [
        ("api_key.revoke", key["id"]),
        ("credentials.put", "mpesa"),
        ("api_key.create", key["id"]),
        ("tenant.create", owner.claims()["tenant_id"]),
    ]
    assert {entry["actor"] for entry in entries} == {f"user:{owner.user_id}"}
    assert key["secret"] not in trail.text
    assert PAY_BILL.consumer_secret not in trail.text


def test_the_audit_trail_comes_page_by_page(owner: Person) -> None:
    owner.makes_key(name="First")
    owner.makes_key(name="Second")

    first = owner.does("GET", "/audit?limit=2").json()
    cursor = first["pagination"]["next_cursor"]
    second = owner.does("GET", f"/audit?limit=2&cursor={cursor}").json()

    assert [entry["details"].get("name") for entry in first["data"]] == ["Second", "First"]
    assert [entry["action"] for entry in second["data"]] == ["tenant.create"]
    assert second["pagination"] == {"limit": 2, "has_more": False, "next_cursor": None}
    assert said(owner.does("GET", "/audit?cursor=tomorrow")) == (400, "40001")


def platform_owner(platform: Stack) -> str:
    """The token of somebody who may store credentials on a stack without functions."""
    url, apikey = f"{platform.url}/auth/v1", {"apikey": platform.keys["publishable_key"]}
    body = {"email": f"{uuid.uuid4().hex[:10]}@acacia.example", "password": PASSWORD}
    session = httpx.post(f"{url}/signup", json=body, headers=apikey).json()
    user = session["user"]
    with platform.database.connect() as connection:
        connection.execute(
            "with t as (insert into public.tenants (tenant_id, name, country, plan) "
            "values (public.new_id('tn'), 'Acacia', 'KE', 'unlimited') returning tenant_id), "
            "u as (insert into public.users (user_id, email, active_tenant_id) "
            "select %(id)s, %(email)s, tenant_id from t returning user_id) "
            "insert into public.memberships (tenant_id, user_id, app_role) "
            "select tenant_id, user_id, 'owner' from t, u",
            {"id": user["id"], "email": user["email"]},
        )
    refreshed = httpx.post(
        f"{url}/token?grant_type=refresh_token",
        json={"refresh_token": session["refresh_token"]},
        headers=apikey,
    )
    return str(refreshed.json()["access_token"])


async def merchants_call(
    platform: Stack,
    vault_keys: dict[str, str],
    method: str,
    path: str,
    bearer: str,
    body: object = None,
) -> httpx.Response:
    """One request to merchants in this process, holding just these master keys."""
    app = handler.create(
        Settings(
            function_name="merchants",
            data_api_url=platform.data_api_url,
            data_api_token=platform.role_token("fn_merchants"),
            supabase_url=platform.url,
            functions_url=platform.functions_url,
            vault_keys=vault_keys,
            internal_tokens=[platform.keys["internal_token"]],
            daraja_sandbox_url=platform.daraja_url,
            log_level="error",
        )
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://merchants") as http,
    ):
        return await http.request(
            method,
            path,
            content=json.dumps(body),
            headers={
                "Authorization": f"Bearer {bearer}",
                "Content-Type": "application/json",
            },
        )
