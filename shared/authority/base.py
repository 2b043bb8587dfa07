"""What every tax authority takes, gives and promises: the protocol and its values.

An authority is told of a document that is sealed already: number, chain and signature are ours and
never wait for it. What it answers is kept beside the document (code, QR, counters, its time).

The one rule that protects a taxpayer from declaring a sale twice: whatever may have reached the
authority is asked about, or sent again **identical**, before anything new is sent. So an adapter
notes in its `Journal` what it is about to do before every step that cannot be taken back, and
`resume` reads that note after a silence or a crash.
"""

import csv
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

_HERE: Final = Path(__file__).parent
ANSWER_CHARS_KEPT: Final = 16_000


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where the document was sealed, and by which taxpayer. `time_zone` is an IANA name."""

    outlet_id: str
    outlet_code: str
    name: str
    address: str | None
    time_zone: str
    tin: str
    legal_name: str
    registration_number: str | None = None
    vat_status: str = "registered"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the authority said when it took a document.

    `code` is what it issues to identify the document; `qr` is the text of the QR that is printed,
    None where it issues none and ours is printed. `authority_number` is its own numbering beside
    ours. `authority_time` (aware) is its clock. `counters` are printed. `raw` is its answer, whole.
    `device_state` has members that replace those of the device's state, in the same transaction;
    None: it stays.
    """

    code: str
    qr: str | None
    authority_number: str | None = None
    authority_time: datetime | None = None
    counters: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes = field(default=b"", repr=False)
    device_state: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SealedDocument:
    """A signed document as it is in the ledger; nothing is ever taken from live catalogue data.

    `payload` is the parsed canonical invoice, whose money is text. `sequence` is the outlet's
    number, `sealed_at` its UTC text. `original`: of a credit, what the authority said of the
    document it credits; None when that never was at this authority. `original_payload`: that
    document, and `original_number` its fiscal number. `credited`: the payloads of its credits
    before this one that are, or will be, at the authority.
    """

    invoice_id: str
    fiscal_number: str
    sequence: int
    sealed_at: str
    auth_code: str
    payload: Mapping[str, Any]
    outlet: Outlet
    environment: str
    original: Acceptance | None = None
    original_number: str | None = None
    original_payload: Mapping[str, Any] | None = None
    credited: Sequence[Mapping[str, Any]] = ()

    def left_to_credit(self, total_of: Callable[[Mapping[str, Any]], Decimal]) -> Decimal:
        """What the authority will still take back. `total_of`: what a payload alone comes to there.

        Parts, each converted, may come to more than the whole; but for no more than was left was
        any of them sent.
        """
        assert self.original_payload is not None, "only a credit has something to credit"
        left = total_of(self.original_payload)
        for payload in self.credited:
            left -= min(total_of(payload), left)
        return left


@dataclass(frozen=True, slots=True)
class Device:
    """What an outlet speaks to the authority as.

    `credentials` is the opened secret document that `register` gave; only the adapter reads it.
    `state` is whatever the adapter keeps: counters, the fiscal day, the last receipt's hash.
    """

    device_id: str
    outlet_id: str
    jurisdiction: str
    environment: str
    outlet: Outlet
    credentials: bytes = field(repr=False)
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it, as authority_ack_log keeps it. `status` None: no answer."""

    step: str
    request_hash: str
    status: int | None
    answer: str
    latency_ms: int

    def to_json(self) -> dict[str, str | int | None]:
        return {
            "step": self.step,
            "request_hash": self.request_hash,
            "http_status": self.status,
            "answer": self.answer,
            "latency_ms": self.latency_ms,
        }


Keep: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any] | None], Awaitable[None]]


class Journal:
    """The memory of one document's way to the authority; survives this process.

    `progress` is what an earlier attempt noted, empty at the first. `note` is durable when it
    returns. `exchanges` are the requests of this attempt, in order, for the log.
    """

    def __init__(self, progress: Mapping[str, Any], keep: Keep) -> None:
        self.progress: Mapping[str, Any] = progress
        self.exchanges: list[Exchange] = []
        self._keep = keep

    async def note(
        self, progress: Mapping[str, Any], device_state: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the note. Call it before a step that cannot be taken back, never after.

        device_state: members of the device's state that are replaced with it, whatever becomes of
        the document; None: none is.
        """
        await self._keep(progress, device_state)
        self.progress = progress

    def record(
        self, step: str, request: bytes, status: int | None, answer: bytes, latency_ms: int
    ) -> None:
        """Remember one exchange; shared/authority/wire.py does so for every request."""
        self.exchanges.append(
            Exchange(
                step,
                hashlib.sha256(request).hexdigest(),
                status,
                # Postgres text holds no NUL; what an authority sends is text, or it is garbage.
                answer.decode(errors="replace").replace("\0", "�")[:ANSWER_CHARS_KEPT],
                latency_ms,
            )
        )


class NotAccepted(Exception):
    """Why a document is not at the authority. `code` is theirs, or a name of ours in capitals."""

    def __init__(self, code: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.retry_after_s = code, message, retry_after_s


class Rejected(NotAccepted):
    """The authority judged the document and says no: it needs a correcting document. Final."""


class Blocked(NotAccepted):
    """It cannot be sent as it is, and a person must do something first. Nothing was sent.

    `code` is the kind of the alert that is raised, such as authority_mapping_missing.
    """


class Unreachable(NotAccepted):
    """Nothing was sent: no connection. The whole device pauses, then tries again."""


class NotNow(NotAccepted):
    """The authority answered, and will take the same document later: busy, down, too many open."""


class DeviceRefused(NotAccepted):
    """The device itself is refused (token, certificate, blocked): it pauses, a person is told."""


class Unknown(NotAccepted):
    """It was sent and nobody knows what became of it: `resume` is asked next, never `submit`."""


class Undecided(NotAccepted):
    """`resume` cannot find out, and sending again might declare it twice: a person must look."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A device the authority knows. `masked` is what may be shown of the credentials.

    `authority_ref` is its name there; no two outlets share one. `expires_at` (aware) is when the
    credentials end, None when they do not.
    """

    authority_ref: str
    credentials: bytes = field(repr=False)
    masked: Mapping[str, str]
    state: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know. `kind` is a row of messages.alert_kinds."""

    kind: str
    severity: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "severity": self.severity, "details": dict(self.details)}


@dataclass(frozen=True, slots=True)
class Checkup:
    """How a device is. `state` and `credentials` replace what is kept; None: they stay."""

    findings: Sequence[Finding] = ()
    expires_at: datetime | None = None
    state: Mapping[str, Any] | None = None
    credentials: bytes | None = field(default=None, repr=False)


class Authority(Protocol):
    """One country's tax authority. Keeps nothing between calls but connections.

    `submit` and `resume` raise the children of NotAccepted and nothing else on purpose.
    """

    def reference(self, facts: Mapping[str, Any], outlet: Outlet) -> str:
        """The `authority_ref` that `register` will give; asks nobody.

        errors.InvalidParameter names each malformed field.
        """
        ...

    async def register(
        self, facts: Mapping[str, Any], outlet: Outlet, environment: str
    ) -> Registration:
        """Make or check the device from what the taxpayer was given by the authority.

        errors.InvalidParameter names each malformed field; errors.AuthorityRefused: the authority
        said no; errors.AuthorityUnavailable: it did not say.
        """
        ...

    async def submit(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance:
        """Tell the authority of the document, once. For a journal without progress."""
        ...

    async def resume(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance | None:
        """Find out, or repeat identically. None: it certainly is not there, so submit it anew.

        For a journal with progress: the attempt before was cut off or ended in Unknown.
        """
        ...

    async def check(self, device: Device, now: datetime) -> Checkup:
        """Look after the device, once a day: its expiry, the authority's rates. Moves no document.

        Raises Unreachable, NotNow or DeviceRefused.
        """
        ...


@runtime_checkable
class HasFiscalDays(Protocol):
    """An authority whose documents belong to a day that is opened and closed.

    A day is opened by `submit` when the first document needs it; closing is queued like a document
    (kind day_close) and waits for every document before it.
    """

    async def close_day(self, device: Device, journal: Journal) -> Acceptance:
        """Close the open day; `code` is its number. Repeatable: a closed day is found closed."""
        ...


@runtime_checkable
class HoldsConnections(Protocol):
    """An authority with connections to close when the process ends."""

    async def aclose(self) -> None:
        """Close them. The authority is not used afterwards."""
        ...


def rows(jurisdiction: str, table: str) -> Iterator[dict[str, str]]:
    """The rows of `{table}.csv` in the authority's folder."""
    with (_HERE / jurisdiction.lower() / f"{table}.csv").open(newline="") as lines:
        yield from csv.DictReader(lines)


def sync_rows(jurisdiction: str, table: str) -> Iterator[dict[str, str]]:
    """Rows that SQL has, too, in schema sync: sync_rows("cd", "payment_methods")."""
    return rows(jurisdiction, f"sync.{table}")
