"""shared/http/user_token.py: which tokens are a user's. The key set is a stub of the transport."""

import io
import json
import time
import urllib.error
import urllib.request
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import DependencyUnavailable, TokenInvalid
from shared.http.user_token import TokenVerifier, User

ISSUER = "http://auth.test/auth/v1"
USER_ID = "7f1d8a52-9f5b-4b7e-8a43-0a1f0e6d2c11"
OURS = ec.generate_private_key(ec.SECP256R1())
THEIRS = ec.generate_private_key(ec.SECP256R1())


class KeySet:
    """What Auth answers under /.well-known/jwks.json; counts who asks."""

    asked = 0
    away = False

    def open(self, request: Any, **_: Any) -> io.BytesIO:
        self.asked += 1
        assert request.full_url == f"{ISSUER}/.well-known/jwks.json"
        if self.away:
            raise urllib.error.URLError("connection refused")
        key = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(
            OURS.public_key(), as_dict=True
        )
        return io.BytesIO(json.dumps({"keys": [{**key, "kid": "k1", "alg": "ES256"}]}).encode())


@pytest.fixture
def key_set(monkeypatch: pytest.MonkeyPatch) -> KeySet:
    served = KeySet()
    monkeypatch.setattr(urllib.request, "build_opener", lambda *_: served)
    return served


def token(key: Any = OURS, algorithm: str = "ES256", kid: str | None = "k1", **more: Any) -> str:
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "authenticated",
        "role": "authenticated",
        "sub": USER_ID,
        "email": "owner@shop.example",
        "tenant_id": "tnt_01jd2y5x7h",
        "exp": int(time.time()) + 60,
        **more,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else None)


async def test_good_token_is_its_user(key_set: KeySet) -> None:
    user = await TokenVerifier("http://auth.test/").verify(token())

    assert user == User(USER_ID, "owner@shop.example", "tnt_01jd2y5x7h")


async def test_key_set_is_fetched_once_for_many_tokens(key_set: KeySet) -> None:
    verifier = TokenVerifier("http://auth.test")

    for _ in range(3):
        await verifier.verify(token())

    assert key_set.asked == 1


async def test_user_before_sign_up_has_no_tenant(key_set: KeySet) -> None:
    user = await TokenVerifier("http://auth.test").verify(token(tenant_id=None))

    assert user.tenant_id == ""


async def test_address_beyond_ascii_is_not_sent_as_a_header(key_set: KeySet) -> None:
    user = await TokenVerifier("http://auth.test").verify(token(email="j\u00fcrgen@shop.example"))

    assert user == User(USER_ID, "", "tnt_01jd2y5x7h")


async def test_clock_may_differ_by_half_a_minute(key_set: KeySet) -> None:
    user = await TokenVerifier("http://auth.test").verify(token(exp=int(time.time()) - 20))

    assert user.user_id == USER_ID


@pytest.mark.parametrize(
    "change",
    [
        {"exp": 1},
        {"exp": None},
        {"iss": "http://evil.test/auth/v1"},
        {"aud": "anon"},
        {"role": "service_role"},
        {"role": None},
        {"is_anonymous": True},
        {"sub": None},
        {"sub": "x\r\nx-stalela-tenant-id: tnt_other"},
        {"tenant_id": "tnt_1\r\nx: y"},
        {"tenant_id": ["tnt_1"]},
        {"key": THEIRS},
        {"key": "k" * 32, "algorithm": "HS256"},
        {"key": "", "algorithm": "none"},
        {"kid": None},
        {"kid": "unknown"},
    ],
)
async def test_token_that_is_not_a_users_is_refused(
    change: dict[str, Any], key_set: KeySet
) -> None:
    forged = token(**change)

    with pytest.raises(TokenInvalid):
        await TokenVerifier("http://auth.test").verify(forged)


@pytest.mark.parametrize("text", ["a.b.c", "..", "e30.e30.", "x" * 9000])
async def test_text_that_is_no_token_is_refused(text: str, key_set: KeySet) -> None:
    with pytest.raises(TokenInvalid):
        await TokenVerifier("http://auth.test").verify(text)


async def test_unknown_key_ids_do_not_make_us_fetch_again_and_again(key_set: KeySet) -> None:
    verifier = TokenVerifier("http://auth.test")
    await verifier.verify(token())

    for number in range(5):
        with pytest.raises(TokenInvalid):
            await verifier.verify(token(kid=f"forged-{number}"))

    assert key_set.asked == 1


async def test_auth_that_is_away_is_not_the_callers_fault(key_set: KeySet) -> None:
    key_set.away = True

    with pytest.raises(DependencyUnavailable) as away:
        await TokenVerifier("http://auth.test").verify(token())

    assert away.value.retry_after == 2
