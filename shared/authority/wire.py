"""Requests to an authority: each in the journal, each outcome with its exact meaning, each amount.

Authorities want JSON numbers where we have exact text. They are written and read as decimals here;
a float never comes near an amount.
"""

from time import perf_counter
from typing import Any, Final

from shared.authority import exact_json
from shared.authority.base import Journal, Unknown, Unreachable
from shared.transport import Answer, NothingSent, Request, Transport

NO_CONNECTION: Final = "NO_CONNECTION"
NO_ANSWER: Final = "NO_ANSWER"


class Wire:
    """A transport that notes what it does and never leaves "was it sent?" to the caller."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, step: str, request: Request, journal: Journal | None = None) -> Answer:
        """Give the answer, whatever its status. Unreachable: nothing left. Unknown: no answer."""
        began = perf_counter()
        try:
            answer = await self._transport.send(request)
        except NothingSent as nothing:
            raise Unreachable(NO_CONNECTION, f"{step}: no connection") from nothing
        if journal is not None:
            journal.record(
                step,
                request.body or request.url.encode(),
                answer.status if answer else None,
                answer.body if answer else b"",
                int((perf_counter() - began) * 1000),
            )
        if answer is None:
            raise Unknown(NO_ANSWER, f"{step}: sent, and no whole answer came")
        return answer

    async def aclose(self) -> None:
        await self._transport.aclose()


def to_json(value: Any) -> bytes:
    """JSON in UTF-8 without spaces, in which a Decimal is a number with the decimals it has."""
    return exact_json.write(value).encode()


def from_json(body: bytes) -> Any:
    """What JSON says, numbers with a point as Decimal. None when it is not JSON."""
    try:
        return exact_json.read(body)
    except ValueError:
        return None
