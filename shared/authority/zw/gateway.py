"""The calls of the Fiscal Device Gateway, and what each of its refusals means to us."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared.authority import exact_json
from shared.authority.base import DeviceRefused, Journal, NotNow, Rejected, Unknown
from shared.authority.wire import Wire
from shared.authority.zw.tls import Identities
from shared.transport import Answer, Request

MODEL: Final = {
    "DeviceModelName": "Stalela",
    "DeviceModelVersion": "1.0",
    "DeviceModelVersionNo": "1.0",  # as older versions of the manual have it
}


class FiscalDayRefused(Exception):
    """FDMS does not open or close the day now; `code` is FISCnn."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Identity:
    """A registered device. PEM."""

    device_id: int
    serial_no: str
    certificate: str
    key: str = field(repr=False)

    @classmethod
    def open(cls, credentials: bytes) -> "Identity":
        """What `seal` made."""
        return cls(**json.loads(credentials))

    def seal(self) -> bytes:
        """For the vault."""
        return json.dumps(
            {
                "device_id": self.device_id,
                "serial_no": self.serial_no,
                "certificate": self.certificate,
                "key": self.key,
            }
        ).encode()


class Gateway:
    """FDMS at one address."""

    def __init__(self, base_url: str, connections: Wire, identities: Identities) -> None:
        self._base_url, self._wire, self._identities = base_url, connections, identities
        self._certificates: dict[str, str] = {}

    async def public(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A call that needs no certificate."""
        request = self._request(f"/Public/v1/{path}", body)
        return _read(path, await self._wire.send(path, request))

    async def ask(
        self, identity: Identity, call: str, journal: Journal | None = None
    ) -> dict[str, Any]:
        """GetConfig or GetStatus."""
        return _read(call, await self._wire.send(call, self._of(identity, call, None), journal))

    async def tell(
        self,
        identity: Identity,
        call: str,
        body: Mapping[str, Any] | str,
        journal: Journal | None = None,
    ) -> dict[str, Any]:
        """A call that moves something. body: members, or the JSON text that was noted before."""
        request = self._of(identity, call, body)
        return _read(call, await self._wire.send(call, request, journal), moves=True)

    async def server_certificate(self, thumbprint: str) -> str:
        """PEM of what FDMS signs with; remembered. thumbprint: SHA-1, as its answers name it."""
        if thumbprint not in self._certificates:
            if not (thumbprint.isascii() and thumbprint.isalnum()):
                raise Unknown("SERVER_SIGNATURE", "the answer names no certificate")
            found = await self.public(f"GetServerCertificate?thumbprint={thumbprint}")
            self._certificates[thumbprint] = str(found["certificate"][0])
        return self._certificates[thumbprint]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()

    def _of(self, identity: Identity, call: str, body: Mapping[str, Any] | str | None) -> Request:
        tls = self._identities.of(identity.certificate, identity.key)
        return self._request(f"/Device/v1/{identity.device_id}/{call}", body, tls)

    def _request(self, path: str, body: Mapping[str, Any] | str | None, tls: Any = None) -> Request:
        text = body if isinstance(body, str) or body is None else exact_json.write(body)
        is_https = self._base_url.startswith("https://")
        return Request(
            "GET" if text is None else "POST",
            f"{self._base_url}{path}",
            MODEL | {"Accept": "application/json", "Content-Type": "application/json"},
            None if text is None else text.encode(),
            (tls or self._identities.anonymous()) if is_https else None,
        )


def _read(call: str, answer: Answer, *, moves: bool = False) -> dict[str, Any]:
    """The members of a good answer; the exception of any other.

    A server's fault after something was told leaves open whether it was taken: Unknown.
    """
    if answer.status == 429:
        raise NotNow("TOO_MANY_REQUESTS", f"{call}: FDMS asks to slow down")
    if answer.status >= 500 or answer.status < 200:
        doubt = Unknown if moves else NotNow
        raise doubt("SERVER_FAULT", f"{call}: FDMS answered {answer.status}")
    try:
        found = exact_json.read(answer.body)
    except ValueError:
        found = None
    if answer.status >= 300:
        raise _refusal(call, answer.status, found if isinstance(found, dict) else {})
    if not isinstance(found, dict):
        doubt = Unknown if moves else NotNow
        raise doubt("GARBAGE", f"{call}: the answer is not JSON")
    return found


def _refusal(call: str, status: int, problem: Mapping[str, Any]) -> Exception:
    code = str(problem.get("errorCode") or f"HTTP{status}")
    message = f"{call}: {problem.get('detail') or problem.get('title') or 'refused'}"
    if code.startswith("FISC"):
        return FiscalDayRefused(code, message)
    if call == "SubmitReceipt" and status in (400, 422) and not code.startswith("DEV"):
        return Rejected(code, message)
    return DeviceRefused(code, message)
