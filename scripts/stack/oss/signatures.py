"""The signature of a request in OSS's version 4, computed again from what arrived.

Written from the published algorithm (Alibaba Cloud, "Include a V4 signature in the Authorization
header"), not from an SDK: what both agree on is what the service would accept.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

_SCHEME: Final = re.compile(
    r"^OSS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([a-z0-9-]+)/oss/aliyun_v4_request,"
    r" ?(?:AdditionalHeaders=([a-z0-9;-]+), ?)?Signature=([0-9a-f]{64})$"
)
_ALWAYS_SIGNED: Final = ("content-type", "content-md5")
_SKEW: Final = timedelta(minutes=15)


class Refused(Exception):
    """An answer with an error document: HTTP status and OSS's code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed of a request; header names in lower case, path and query as they arrived."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


def check(request: Request, access_key: str, secret: str, region: str, now: datetime) -> None:
    """Raises Refused unless `request` is signed by this key, for this region, now."""
    found = _SCHEME.match(request.headers.get("authorization", ""))
    if found is None:
        raise Refused(403, "AccessDenied", "OSS authentication requires a V4 signature.")
    key, day, signed_region, additional, signature = found.groups()
    if key != access_key:
        raise Refused(403, "InvalidAccessKeyId", "The OSS Access Key Id does not exist.")
    stamp = request.headers.get("x-oss-date", "")
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refused(403, "AccessDenied", "x-oss-date is missing or malformed.") from None
    if abs(now - signed_at) > _SKEW or not stamp.startswith(day):
        raise Refused(403, "RequestTimeTooSkewed", "The request's time is not ours.")
    if signed_region != region:
        raise Refused(403, "InvalidRegion", f"This bucket is in {region}.")
    names = frozenset(additional.split(";")) if additional else frozenset[str]()
    text = "\n".join(
        [
            "OSS4-HMAC-SHA256",
            stamp,
            f"{day}/{region}/oss/aliyun_v4_request",
            sha256(_canonical(request, names).encode()).hexdigest(),
        ]
    )
    expected = hmac.new(_signing_key(secret, day, region), text.encode(), sha256).hexdigest()
    if not hmac.compare_digest(expected, signature):
        raise Refused(
            403, "SignatureDoesNotMatch", "The signature is not the one that we calculated."
        )


def _canonical(request: Request, additional: frozenset[str]) -> str:
    signed = sorted(
        (name, value.strip())
        for name, value in request.headers.items()
        if name.startswith("x-oss-") or name in _ALWAYS_SIGNED or name in additional
    )
    pairs = sorted(_encoded(*part.partition("=")[::2]) for part in request.query.split("&") if part)
    return "\n".join(
        [
            request.method,
            quote(unquote(request.path), safe="/-_.~"),
            "&".join(f"{name}={value}" if value else name for name, value in pairs),
            *(f"{name}:{value}" for name, value in signed),
            "",
            ";".join(sorted(additional)),
            request.headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )


def _encoded(name: str, value: str) -> tuple[str, str]:
    # In a query a plus is a space.
    return quote(unquote_plus(name), safe="-_.~"), quote(unquote_plus(value), safe="-_.~")


def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"aliyun_v4{secret}".encode()
    for part in (day, region, "oss", "aliyun_v4_request"):
        key = hmac.new(key, part.encode(), sha256).digest()
    return key
