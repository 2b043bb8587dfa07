"""A signer whose keys are in Alibaba Cloud KMS, version 2016-01-20, and never leave it.

Alibaba's own client does the calls. Its blocking half is used, in threads of ours: it keeps its
connections, where the asynchronous half makes a connection and a TLS context for every call.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from alibabacloud_kms20160120 import models  # type: ignore[import-untyped]
from alibabacloud_kms20160120.client import Client  # type: ignore[import-untyped]
from alibabacloud_tea_openapi.utils_models import Config  # type: ignore[import-untyped]
from Tea.exceptions import TeaException  # type: ignore[import-untyped]

from shared.signing.base import (
    DIGEST_BYTES,
    PublicKey,
    Signature,
    SignerRefused,
    SignerUnavailable,
)
from shared.signing.encoding import publish

PROVIDER: Final = "alibaba_kms"
CONNECT_MS: Final = (
    1500  # together less than a call may take, so that no thread outlives its caller
)
READ_MS: Final = 3000
CONNECTIONS: Final = 32  # signatures under way at once; more wait for a thread
PAGE: Final = 50  # a key has no more versions
# Ours, as JOSE has it, to theirs.
ALGORITHMS: Final = {
    "ES256": "ECDSA_SHA_256",
    "PS256": "RSA_PSS_SHA_256",
    "RS256": "RSA_PKCS1_SHA_256",
}
# What passes by itself although it is a 4xx: limits, and a request that took too long to arrive.
_PASSES = re.compile(r"Throttling|IllegalTimestamp|SignatureNonceUsed|ServiceUnavailable")

T = TypeVar("T")


class AlibabaKms:
    """Signs with whatever version it is told; `key_id` is the key whose versions it offers.

    endpoint: https://host of an instance of its own; empty: the region's.
    """

    def __init__(
        self,
        key_id: str,
        access_key_id: str,
        access_key_secret: str,
        *,
        region: str,
        endpoint: str = "",
    ) -> None:
        scheme, _, host = endpoint.rpartition("://")
        self._key_id = key_id
        self._client = Client(
            Config(
                access_key_id=access_key_id,
                access_key_secret=access_key_secret,
                region_id=region,
                endpoint=host or None,
                protocol=scheme or "https",
                connect_timeout=CONNECT_MS,
                read_timeout=READ_MS,
                max_idle_conns=CONNECTIONS,
            )
        )
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="kms")

    async def newest(self) -> PublicKey:
        asked = models.ListKeyVersionsRequest(key_id=self._key_id, page_number=1, page_size=PAGE)
        listed = await self._ask(lambda: self._client.list_key_versions(asked))
        versions = listed.key_versions.key_version
        if not versions:
            raise SignerRefused(f"the key {self._key_id} has no version")
        newest = sorted(versions, key=lambda version: str(version.creation_date))[-1]
        return await self._public_key(newest.key_id, newest.key_version_id)

    async def create(self) -> PublicKey:
        asked = models.CreateKeyVersionRequest(key_id=self._key_id)
        made = (await self._ask(lambda: self._client.create_key_version(asked))).key_version
        return await self._public_key(made.key_id, made.key_version_id)

    async def sign(self, key: PublicKey, digest: bytes) -> Signature:
        assert len(digest) == DIGEST_BYTES, "KMS takes the digest as it is, and never the message"
        if key.provider != PROVIDER:
            raise SignerUnavailable(f"{PROVIDER} holds no key of {key.provider}")
        asked = models.AsymmetricSignRequest(
            key_id=key.key_ref,
            key_version_id=key.key_version,
            algorithm=ALGORITHMS[key.alg],
            digest=base64.b64encode(digest).decode(),
        )
        said = await self._ask(lambda: self._client.asymmetric_sign(asked))
        if (said.key_id, said.key_version_id) != (key.key_ref, key.key_version):
            raise SignerRefused(f"signed with version {said.key_version_id} of {said.key_id}")
        try:
            value = publish(base64.b64decode(said.value, validate=True), key.alg)
        except (ValueError, binascii.Error) as odd:
            raise SignerUnavailable("the answer holds no signature") from odd
        return Signature(value, said.request_id)

    async def _public_key(self, key_id: str, version_id: str) -> PublicKey:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            PublicFormat,
            load_pem_public_key,
        )

        asked = models.GetPublicKeyRequest(key_id=key_id, key_version_id=version_id)
        pem = (await self._ask(lambda: self._client.get_public_key(asked))).public_key
        key = load_pem_public_key(pem.encode())
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            alg = "ES256"
        elif isinstance(key, RSAPublicKey) and key.key_size == 2048:
            alg = "PS256"
        else:
            raise SignerRefused(f"the key {key_id} is neither EC_P256 nor RSA_2048")
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return PublicKey(PROVIDER, key_id, version_id, alg, base64.b64encode(spki).decode())

    async def _ask(self, call: Callable[[], T]) -> Any:
        """The body of the answer."""
        loop = asyncio.get_running_loop()
        try:
            answer: Any = await loop.run_in_executor(self._threads, call)
        except TeaException as trouble:
            raise _not_signed(trouble) from trouble
        except (ValueError, AttributeError) as odd:
            # The SDK's own: a body that is no JSON, as a proxy sends when it is in trouble.
            raise SignerUnavailable("the answer is not one of KMS") from odd
        return answer.body


def _not_signed(trouble: TeaException) -> SignerUnavailable | SignerRefused:
    """Their code and status; never their message, which may repeat what was sent."""
    status, code = getattr(trouble, "status_code", None), trouble.code or "no answer"
    request_id = getattr(trouble, "request_id", None)
    if not status:
        return SignerUnavailable("KMS did not answer")
    reason = f"KMS said {status} {code} (request {request_id})"
    if status >= 500 or status == 429 or _PASSES.search(code):
        return SignerUnavailable(reason)
    return SignerRefused(reason)
