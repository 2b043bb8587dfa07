import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import jwt
import psycopg
import pytest
from supabase.lib.client_options import SyncClientOptions
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError
from supabase_auth.types import AdminUserAttributes

from scripts.stack.process import wait_until
from scripts.stack.stack import Stack
from supabase import Client, create_client

PASSWORD = "correct horse"


def new_address() -> str:
    return f"{uuid.uuid4().hex[:10]}@duka.example"


@contextmanager
def client_of(platform: Stack, key: str = "publishable_key") -> Iterator[Client]:
    with httpx.Client() as connections:
        options = SyncClientOptions(httpx_client=connections)
        yield create_client(platform.url, platform.keys[key], options)


def verified(platform: Stack, token: str) -> dict[str, object]:
    """The claims, checked as any stranger would: with the published key set."""
    keys = httpx.get(f"{platform.url}/auth/v1/.well-known/jwks.json").json()["keys"]
    claims: dict[str, object] = jwt.decode(
        token,
        jwt.PyJWK(keys[0]),
        algorithms=["ES256"],
        audience="authenticated",
        issuer=f"{platform.url}/auth/v1",
    )
    return claims


@pytest.fixture
def client(platform: Stack) -> Iterator[Client]:
    with client_of(platform) as connected:
        yield connected


@pytest.fixture
def hook(platform: Stack) -> Iterator[None]:
    """Replaces the access token hook by one that marks its tokens; puts the old one back."""
    with platform.database.connect() as connection:
        found = connection.execute(
            "select pg_get_functiondef(to_regprocedure('public.custom_access_token_hook(jsonb)'))"
        ).fetchone()
        connection.execute(
            "create or replace function public.custom_access_token_hook(event jsonb) returns jsonb "
            "language sql set search_path = '' as $$ select jsonb_set(event, "
            "'{claims,marked_by}', event -> 'authentication_method') $$; "
            "grant execute on function public.custom_access_token_hook to supabase_auth_admin"
        )
        yield
        restore = found[0] if found and found[0] else None
        connection.execute(
            restore.encode() if restore else b"drop function public.custom_access_token_hook"
        )


def test_signed_up_person_gets_a_token_the_published_keys_verify(
    platform: Stack, client: Client
) -> None:
    address = new_address()

    answer = client.auth.sign_up({"email": address, "password": PASSWORD})

    assert answer.session is not None
    claims = verified(platform, answer.session.access_token)
    assert (claims["email"], claims["role"], claims["aal"]) == (address, "authenticated", "aal1")


def test_password_signs_in_again_and_user_is_read_back(client: Client) -> None:
    address = new_address()
    client.auth.sign_up({"email": address, "password": PASSWORD})

    client.auth.sign_in_with_password({"email": address.upper(), "password": PASSWORD})
    answer = client.auth.get_user()

    assert answer is not None
    assert answer.user.email == address


def test_wrong_password_is_refused_like_an_unknown_address(client: Client) -> None:
    address = new_address()
    client.auth.sign_up({"email": address, "password": PASSWORD})

    with pytest.raises(AuthApiError, match="Invalid login credentials") as wrong:
        client.auth.sign_in_with_password({"email": address, "password": "something else"})
    with pytest.raises(AuthApiError, match="Invalid login credentials") as unknown:
        client.auth.sign_in_with_password({"email": new_address(), "password": PASSWORD})

    assert wrong.value.code == unknown.value.code == "invalid_credentials"


def test_taken_address_and_short_password_are_refused(client: Client) -> None:
    address = new_address()
    client.auth.sign_up({"email": address, "password": PASSWORD})

    with pytest.raises(AuthApiError, match="already registered"):
        client.auth.sign_up({"email": address, "password": PASSWORD})
    with pytest.raises(AuthWeakPasswordError):
        client.auth.sign_up({"email": new_address(), "password": "short"})


def test_refresh_token_is_spent_once_and_a_copy_closes_the_session(client: Client) -> None:
    session = client.auth.sign_up({"email": new_address(), "password": PASSWORD}).session
    assert session is not None

    renewed = client.auth.refresh_session(session.refresh_token).session
    assert renewed is not None
    with pytest.raises(AuthApiError, match="Already Used"):
        client.auth.refresh_session(session.refresh_token)

    with pytest.raises(AuthApiError, match="session_id claim does not exist"):
        client.auth.get_user(renewed.access_token)


def test_signing_out_ends_the_session(client: Client) -> None:
    session = client.auth.sign_up({"email": new_address(), "password": PASSWORD}).session
    assert session is not None

    client.auth.sign_out()

    with pytest.raises(AuthApiError, match="session_id claim does not exist"):
        client.auth.get_user(session.access_token)


def test_admin_creates_a_user_with_the_secret_key_only(platform: Stack) -> None:
    address = new_address()
    wanted = AdminUserAttributes(email=address, password=PASSWORD, email_confirm=True)

    with client_of(platform, "secret_key") as admin:
        made = admin.auth.admin.create_user(wanted)
    with client_of(platform) as anybody, pytest.raises(AuthApiError, match="not allowed"):
        anybody.auth.admin.create_user(AdminUserAttributes(email=new_address()))

    assert made.user.email == address
    assert made.user.email_confirmed_at is not None


@pytest.mark.usefixtures("hook")
def test_access_token_hook_changes_the_claims_at_sign_in_and_refresh(
    platform: Stack, client: Client
) -> None:
    session = client.auth.sign_up({"email": new_address(), "password": PASSWORD}).session
    assert session is not None
    renewed = client.auth.refresh_session(session.refresh_token).session
    assert renewed is not None

    assert verified(platform, session.access_token)["marked_by"] == "password"
    assert verified(platform, renewed.access_token)["marked_by"] == "token_refresh"


def test_data_api_takes_the_token_as_the_person(platform: Stack, client: Client) -> None:
    session = client.auth.sign_up({"email": new_address(), "password": PASSWORD}).session
    assert session is not None

    def ask() -> httpx.Response:
        key, token = platform.keys["publishable_key"], session.access_token
        headers = {"apikey": key, "authorization": f"Bearer {token}"}
        return httpx.post(f"{platform.url}/rest/v1/rpc/who_asks", headers=headers)

    with psycopg.connect(platform.dsn()) as connection:
        connection.execute(
            "create or replace function public.who_asks() returns text language sql "
            "set search_path = '' as 'select current_user || auth.uid()::text'; "
            "grant execute on function public.who_asks to authenticated"
        )

    wait_until("the schema cache", lambda: ask().status_code != 404)
    answer = ask()

    with psycopg.connect(platform.dsn()) as connection:
        connection.execute("drop function public.who_asks")
    assert session.user is not None
    assert json.loads(answer.text) == f"authenticated{session.user.id}"
