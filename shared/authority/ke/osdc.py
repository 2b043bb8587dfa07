"""KRA's control unit online: its envelope, its headers, and what each of its codes means.

Every answer of the application is HTTP 200 with `resultCd`; any other status comes from what stands
in front of it, and leaves open whether a sale was taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.authority import exact_json
from shared.authority.base import (
    DeviceRefused,
    Journal,
    NotNow,
    Rejected,
    Unknown,
    rows,
)
from shared.authority.wire import Wire
from shared.transport import Request

_MEANINGS: Final = {row["code"]: row["meaning"] for row in rows("ke", "result_codes")}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: taxpayer, branch, and the key of the device."""

    pin: str
    branch: str
    key: str

    def headers(self) -> dict[str, str]:
        return {"tin": self.pin, "bhfId": self.branch, "cmcKey": self.key}


class Duplicate(Exception):
    """The number of the sale was used before; by which sale is to be looked up."""


class Osdc:
    """The calls, against one base URL. Raises the children of NotAccepted."""

    def __init__(self, wire: Wire, url: str) -> None:
        self._wire, self._url = wire, url.rstrip("/")

    async def call(
        self,
        path: str,
        body: Mapping[str, Any],
        identity: Identity | None,
        journal: Journal | None = None,
    ) -> Any:
        """Give `data` of an accepted answer; None where there is nothing to list."""
        return await self.send(path, exact_json.write(body), identity, journal)

    async def send(
        self, path: str, body: str, identity: Identity | None, journal: Journal | None = None
    ) -> Any:
        """The same for a body that is text already, to be repeated as it was."""
        headers = {"Content-Type": "application/json", **(identity.headers() if identity else {})}
        answer = await self._wire.send(
            path, Request("POST", f"{self._url}/{path}", headers, body.encode()), journal
        )
        if answer.status in (401, 403):
            raise DeviceRefused(str(answer.status), f"{path}: the gateway refused the device")
        if answer.status == 429:
            raise NotNow("429", f"{path}: too many requests")
        if answer.status != 200:
            raise Unknown(str(answer.status), f"{path}: no answer of the application")
        try:
            envelope = exact_json.read(answer.body)
            code, message = str(envelope["resultCd"]), str(envelope.get("resultMsg"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unknown("NOT_UNDERSTOOD", f"{path}: the answer is no envelope") from None
        return _data(path, code, message, envelope.get("data"))


def _data(path: str, code: str, message: str, data: Any) -> Any:
    match _MEANINGS.get(code):
        case "accepted":
            return data
        case "nothing_found":
            return None
        case "duplicate":
            raise Duplicate
        case "rejected":
            raise Rejected(code, f"{path}: {message}")
        case "device_refused":
            raise DeviceRefused(code, f"{path}: {message}")
        case "not_now":
            raise NotNow(code, f"{path}: {message}")
        case _:  # a code nobody told us of decides nothing
            raise Unknown(code, f"{path}: {message}")
