"""Our signer, the real SDK and a KMS that checks the SDK's signature, over sockets."""

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import httpx
import pytest
from alibabacloud_kms20160120 import models
from alibabacloud_kms20160120.client import Client
from alibabacloud_tea_openapi.utils_models import Config

from scripts.stack.kms.testing import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Kms, keeping_keys
from scripts.stack.kms.wire import Doorkeeper, Refusal, Sent, signature
from shared.signing.alibaba_kms import AlibabaKms
from shared.signing.base import PublicKey, SignerRefused, SignerUnavailable
from shared.signing.encoding import from_base64url
from shared.signing.verification import is_signed

MESSAGE = b"this is message\n"
DIGEST = sha256(MESSAGE).digest()


@pytest.fixture(scope="module")
def process() -> Iterator[Kms]:
    with keeping_keys() as running:
        yield running


@pytest.fixture
def kms(process: Kms) -> Kms:
    process.mood()
    return process


def administrator(kms: Kms) -> Client:
    endpoint = kms.url.removeprefix("http://")
    return Client(
        Config(
            access_key_id=ACCESS_KEY_ID,
            access_key_secret=ACCESS_KEY_SECRET,
            endpoint=endpoint,
            protocol="http",
        )
    )


def new_key(kms: Kms, spec: str = "EC_P256") -> str:
    asked = models.CreateKeyRequest(key_spec=spec, key_usage="SIGN/VERIFY")
    return str(administrator(kms).create_key(asked).body.key_metadata.key_id)


def signer(kms: Kms, key_id: str, **changes: str) -> AlibabaKms:
    facts = {
        "access_key_id": ACCESS_KEY_ID,
        "access_key_secret": ACCESS_KEY_SECRET,
        "region": "eu-central-1",
        "endpoint": kms.url,
    }
    return AlibabaKms(key_id, **(facts | changes))


# --- what is signed


def test_known_digest_is_the_one_the_manual_prints() -> None:
    assert base64.b64encode(DIGEST) == b"uCx5YpLfBrqoYMP8Hf9H7j9/1zT+PPxq1qJRW6uQbos="


@pytest.mark.parametrize(
    ("spec", "alg", "size"), [("EC_P256", "ES256", 64), ("RSA_2048", "PS256", 256)]
)
async def test_signature_is_over_the_digest_and_published_as_jose_has_it(
    kms: Kms, spec: str, alg: str, size: int
) -> None:
    made = signer(kms, new_key(kms, spec))

    key = await made.newest()
    signed = await made.sign(key, DIGEST)

    assert (key.provider, key.alg) == ("alibaba_kms", alg)
    assert len(from_base64url(signed.value)) == size
    assert is_signed(DIGEST, signed.value, alg, key.spki)
    assert not is_signed(sha256(DIGEST).digest(), signed.value, alg, key.spki), "hashed twice"
    assert signed.request_id


async def test_key_of_an_authority_that_wants_pkcs1_signs_by_rs256(kms: Kms) -> None:
    made = signer(kms, new_key(kms, "RSA_2048"))
    key = replace(await made.newest(), alg="RS256")

    signed = await made.sign(key, DIGEST)

    assert is_signed(DIGEST, signed.value, "RS256", key.spki)


@pytest.mark.parametrize("wrong", [MESSAGE, DIGEST.hex().encode(), b""])
async def test_nothing_but_a_digest_is_sent(kms: Kms, wrong: bytes) -> None:
    made = signer(kms, new_key(kms))
    key, before = await made.newest(), kms.calls("AsymmetricSign")

    with pytest.raises(AssertionError, match="never the message"):
        await made.sign(key, wrong)

    assert kms.calls("AsymmetricSign") == before


# --- versions


async def test_older_version_signs_after_a_new_one_was_made(kms: Kms) -> None:
    made = signer(kms, new_key(kms))
    old = await made.newest()

    new = await made.create()

    assert (await made.newest(), new.key_ref) == (new, old.key_ref)
    assert new.spki != old.spki
    for key in (old, new):
        assert is_signed(DIGEST, (await made.sign(key, DIGEST)).value, key.alg, key.spki)


async def test_unknown_curve_is_refused(kms: Kms) -> None:
    with pytest.raises(SignerRefused, match="neither EC_P256 nor RSA_2048"):
        await signer(kms, new_key(kms, "EC_P256K")).newest()


# --- trouble


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("throttled", "429 Rejected.Throttling"),
        ("throttled_user", "400 Throttling.User"),
        ("internal", "500 InternalFailure"),
        ("unavailable", "503 ServiceUnavailableTemporary"),
        ("proxy", "did not answer"),
    ],
)
async def test_trouble_that_passes_is_unavailability(kms: Kms, trouble: str, reason: str) -> None:
    made = signer(kms, new_key(kms))
    key = await made.newest()
    kms.mood(trouble)

    with pytest.raises(SignerUnavailable, match=reason):
        await made.sign(key, DIGEST)


@pytest.mark.alone
async def test_silence_ends_before_the_caller_gives_up(kms: Kms) -> None:
    made = signer(kms, new_key(kms))
    key = await made.newest()
    kms.mood("silent")
    began = time.monotonic()

    with pytest.raises(SignerUnavailable, match="did not answer"):
        await made.sign(key, DIGEST)

    assert 2 < time.monotonic() - began < 4.5


async def test_closed_port_is_unavailability(kms: Kms) -> None:
    made = signer(kms, "any", endpoint="http://127.0.0.1:9")

    with pytest.raises(SignerUnavailable, match="did not answer"):
        await made.newest()


async def test_disabled_key_is_refused_until_it_is_enabled(kms: Kms) -> None:
    key_id = new_key(kms)
    made = signer(kms, key_id)
    key = await made.newest()
    administrator(kms).disable_key(models.DisableKeyRequest(key_id=key_id))

    with pytest.raises(SignerRefused, match=r"409 Rejected\.Disabled"):
        await made.sign(key, DIGEST)

    administrator(kms).enable_key(models.EnableKeyRequest(key_id=key_id))
    assert is_signed(DIGEST, (await made.sign(key, DIGEST)).value, key.alg, key.spki)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key_ref": "no-such-key"}, "404 Forbidden.KeyNotFound"),
        ({"key_version": "no-such-version"}, "400 InvalidParameter"),
        ({"alg": "PS256"}, "400 UnsupportedOperation"),
    ],
)
async def test_key_that_cannot_sign_is_refused(
    kms: Kms, change: dict[str, str], reason: str
) -> None:
    made = signer(kms, new_key(kms))
    key = replace(await made.newest(), **change)

    with pytest.raises(SignerRefused, match=reason):
        await made.sign(key, DIGEST)


async def test_missing_permission_is_refused(kms: Kms) -> None:
    made = signer(kms, new_key(kms))
    key = await made.newest()
    kms.mood("forbidden")

    with pytest.raises(SignerRefused, match=r"403 Forbidden\.NoPermission"):
        await made.sign(key, DIGEST)


async def test_key_of_another_provider_may_be_held_by_another_instance(kms: Kms) -> None:
    foreign = PublicKey("local", "0123456789abcdef", "1", "ES256", "")

    with pytest.raises(SignerUnavailable, match="holds no key of local"):
        await signer(kms, "any").sign(foreign, DIGEST)


# --- who is asking


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"access_key_secret": "another-secret"}, "400 SignatureDoesNotMatch"),
        ({"access_key_id": "LTAI-nobody"}, "404 InvalidAccessKeyId.NotFound"),
    ],
)
async def test_wrong_access_key_is_refused_and_named_to_nobody(
    kms: Kms, change: dict[str, str], reason: str
) -> None:
    made = signer(kms, new_key(kms), **change)

    with pytest.raises(SignerRefused, match=reason) as refused:
        await made.newest()

    assert not any(secret in refused.value.reason for secret in change.values())


def sent(**changes: str) -> Sent:
    """A request signed with the secret `s`, then changed."""
    headers = {
        "host": "kms.example",
        "x-acs-action": "AsymmetricSign",
        "x-acs-content-sha256": sha256(b"").hexdigest(),
        "x-acs-date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": "n1",
        "x-acs-version": "2016-01-20",
    }
    headers |= {name: value for name, value in changes.items() if name in headers}
    request = Sent("POST", "/", [("Digest", "a+/=")], headers, b"")
    signed = sorted(headers)
    said = signature("s", request, signed)
    headers["authorization"] = (
        f"ACS3-HMAC-SHA256 Credential=id,SignedHeaders={';'.join(signed)},Signature={said}"
    )
    return request


def test_service_admits_a_request_once() -> None:
    door, request = Doorkeeper({"id": "s"}), sent()

    door.admit(request, datetime.now(UTC))

    with pytest.raises(Refusal, match="SignatureNonceUsed"):
        door.admit(request, datetime.now(UTC))


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (replace(sent(), query=[("Digest", "other")]), "SignatureDoesNotMatch"),
        (replace(sent(), method="GET"), "SignatureDoesNotMatch"),
        (replace(sent(), body=b"more"), "SignatureDoesNotMatch"),
        (sent(**{"x-acs-date": "2020-01-01T00:00:00Z"}), "IllegalTimestamp"),
        (replace(sent(), headers={}), "MissingParameter"),
    ],
)
def test_service_refuses_a_request_that_was_changed(request_: Sent, code: str) -> None:
    with pytest.raises(Refusal, match=code):
        Doorkeeper({"id": "s"}).admit(request_, datetime.now(UTC) + timedelta(seconds=1))


def test_service_refuses_who_signs_nothing(kms: Kms) -> None:
    answer = kms.http.post("/", headers={"x-acs-action": "AsymmetricSign"})

    assert (answer.status_code, answer.json()["Code"]) == (400, "MissingParameter")


@pytest.mark.alone
async def test_many_signatures_are_under_way_at_once(kms: Kms) -> None:
    made = signer(kms, new_key(kms))
    key = await made.newest()
    kms.mood(delay_ms=100)
    began = time.monotonic()

    signed = await asyncio.gather(*(made.sign(key, DIGEST) for _ in range(32)))

    assert time.monotonic() - began < 1.6, "one after the other takes 3.2 s"
    assert all(is_signed(DIGEST, one.value, key.alg, key.spki) for one in signed)


def test_control_answers_plainly(kms: Kms) -> None:
    assert httpx.get(f"{kms.url}/control/health", trust_env=False).json() == {"status": "ok"}
