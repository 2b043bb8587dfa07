from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.stack.process import wait_until
from scripts.stack.stack import Stack


@pytest.fixture
def who_asks(platform: Stack) -> Iterator[str]:
    """A function everybody may call, which names the role it runs as."""
    name = "name_my_role"
    headers = {"authorization": f"Bearer {platform.role_token('anon')}"}
    with platform.database.connect("postgres") as connection:
        connection.execute(
            "create function public.name_my_role() returns text language sql "
            "set search_path = '' as 'select current_user::text'; "
            "grant execute on function public.name_my_role to anon, service_role"
        )
        url = f"{platform.data_api_url}/rpc/{name}"
        wait_until("the schema cache", lambda: httpx.post(url, headers=headers).is_success)
        yield name
        connection.execute("drop function public.name_my_role")


def test_unknown_function_says_so_as_supabase_does(platform: Stack) -> None:
    answer = httpx.get(f"{platform.functions_url}/nobody/anything")

    assert answer.status_code == 404
    assert answer.headers["sb-error-code"] == "NOT_FOUND"


def test_function_answers_its_bare_url_without_redirecting(stack: Stack) -> None:
    bare = httpx.post(f"{stack.functions_url}/payment-intents", json={})
    slashed = httpx.post(f"{stack.functions_url}/payment-intents/", json={})

    assert (bare.status_code, slashed.status_code) == (401, 401)


def test_function_gets_its_whole_path_whatever_is_in_it(stack: Stack) -> None:
    answer = httpx.post(f"{stack.functions_url}/momo-callback/line%0Afeed", content=b"news")

    assert (answer.status_code, answer.json()["ResultCode"]) == (200, 0)


def test_document_names_every_function_once_and_resolves(stack: Stack) -> None:
    document = httpx.get(f"{stack.functions_url}/openapi.json").json()

    folders = {path.parent.name for path in (stack.root / "functions").glob("*/function.toml")}
    assert {tag["name"].replace("-", "_") for tag in document["tags"]} == folders
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": stack.functions_url}]
    assert "/payment-intents" in document["paths"]
    assert all(resolves(document, reference) for reference in references(document))


def test_page_of_the_document_is_served_from_here(platform: Stack) -> None:
    page = httpx.get(f"{platform.functions_url}/docs")
    script = httpx.get(f"{platform.functions_url}/docs/swagger-ui-bundle.js")

    assert "https://" not in page.text
    assert script.status_code == 200


@pytest.mark.parametrize(
    ("key", "role"), [("publishable_key", "anon"), ("secret_key", "service_role")]
)
def test_api_key_becomes_a_role_at_the_data_api(
    platform: Stack, who_asks: str, key: str, role: str
) -> None:
    headers = {"apikey": platform.keys[key], "authorization": f"Bearer {platform.keys[key]}"}

    answer = httpx.post(f"{platform.url}/rest/v1/rpc/{who_asks}", headers=headers)

    assert answer.json() == role


@pytest.mark.parametrize("headers", [{}, {"apikey": "sb_secret_invented"}])
def test_data_api_needs_a_known_key(platform: Stack, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{platform.url}/rest/v1/", headers=headers)

    assert answer.status_code == 401


def test_secret_key_is_refused_to_a_browser(platform: Stack) -> None:
    headers = {"apikey": platform.keys["secret_key"], "user-agent": "Mozilla/5.0"}

    assert httpx.get(f"{platform.url}/rest/v1/", headers=headers).status_code == 401


def test_any_page_may_call_the_platform(platform: Stack) -> None:
    asked = httpx.options(f"{platform.url}/auth/v1/token")
    refused = httpx.get(f"{platform.url}/rest/v1/")

    assert asked.headers["access-control-allow-origin"] == "*"
    assert "apikey" in asked.headers["access-control-allow-headers"]
    assert refused.headers["access-control-allow-origin"] == "*"


def test_secrets_are_readable_by_their_owner_only(platform: Stack) -> None:
    assert Path(platform.state / "keys.json").stat().st_mode & 0o077 == 0


def references(part: object) -> list[str]:
    """Every `$ref` below `part`."""
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in references(value)]
    if isinstance(part, list):
        return [found for value in part for found in references(value)]
    return []


def resolves(document: object, reference: str) -> bool:
    """Whether a local reference leads somewhere."""
    place = document
    for name in reference.removeprefix("#/").split("/"):
        if not isinstance(place, dict) or name not in place:
            return False
        place = place[name]
    return True
