"""What Alibaba says and expects on the wire: refusals by code, and the request signature V3.

ACS3-HMAC-SHA256 over method, path, sorted query, signed headers and the body's hash, as the public
description of "request syntax and signature method V3" has it; computed here from what arrived.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote

ALGORITHM: Final = "ACS3-HMAC-SHA256"
SKEW_S: Final = 900
MUST_SIGN: Final = frozenset(
    {
        "host",
        "x-acs-action",
        "x-acs-content-sha256",
        "x-acs-date",
        "x-acs-signature-nonce",
        "x-acs-version",
    }
)
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<key>[^,]+),SignedHeaders=(?P<headers>[^,]+),"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
# KMS's error pages: code -> HTTP status.
STATUS: Final = {
    "Forbidden.KeyNotFound": 404,
    "Forbidden.NoPermission": 403,
    "IllegalTimestamp": 400,
    "InternalFailure": 500,
    "InvalidAccessKeyId.NotFound": 404,
    "InvalidParameter": 400,
    "MissingParameter": 400,
    "Rejected.Disabled": 409,
    "Rejected.LimitExceeded": 400,
    "Rejected.PendingDeletion": 409,
    "Rejected.Throttling": 429,
    "ServiceUnavailableTemporary": 503,
    "SignatureDoesNotMatch": 400,
    "SignatureNonceUsed": 400,
    "Throttling.User": 400,
    "UnsupportedOperation": 400,
}


@dataclass(frozen=True, slots=True)
class Refusal(Exception):
    """An answer that is an error."""

    code: str
    message: str

    @property
    def status(self) -> int:
        return STATUS[self.code]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it arrived. query: decoded names and values. headers: names in lower case."""

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes


class Doorkeeper:
    """Knows the access keys of the account, and the nonces it saw."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets
        self._nonces: set[str] = set()

    def admit(self, sent: Sent, now: datetime) -> None:
        """Raise the Refusal of a request that its sender did not sign like this, or not now."""
        said = _AUTHORIZATION.fullmatch(sent.headers.get("authorization", ""))
        if said is None:
            raise Refusal("MissingParameter", f"Authorization by {ALGORITHM} is mandatory.")
        secret = self._secrets.get(said["key"])
        if secret is None:
            raise Refusal("InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        signed = said["headers"].split(";")
        if not set(signed) >= MUST_SIGN or not set(signed) <= sent.headers.keys():
            raise Refusal("SignatureDoesNotMatch", "A header that must be signed is not.")
        if sent.headers["x-acs-content-sha256"] != sha256(sent.body).hexdigest():
            raise Refusal("SignatureDoesNotMatch", "x-acs-content-sha256 is not the body's.")
        if not hmac.compare_digest(said["signature"], signature(secret, sent, signed)):
            raise Refusal(
                "SignatureDoesNotMatch", "Specified signature is not matched with our calculation."
            )
        sent_at = datetime.strptime(sent.headers["x-acs-date"], "%Y-%m-%dT%H:%M:%S%z")
        if abs((now - sent_at).total_seconds()) > SKEW_S:
            raise Refusal("IllegalTimestamp", "The input parameter Timestamp is expired.")
        nonce = sent.headers["x-acs-signature-nonce"]
        if nonce in self._nonces:
            raise Refusal("SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces.add(nonce)


def signature(secret: str, sent: Sent, signed: Sequence[str]) -> str:
    """What a holder of `secret` would have written under this request."""
    query = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in sorted(sent.query))
    headers = "".join(f"{name}:{sent.headers[name].strip()}\n" for name in signed)
    hashed = sent.headers["x-acs-content-sha256"]
    request = "\n".join([sent.method, sent.path, query, headers, ";".join(signed), hashed])
    text = f"{ALGORITHM}\n{sha256(request.encode()).hexdigest()}"
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")
