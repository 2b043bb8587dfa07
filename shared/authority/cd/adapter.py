"""The DGI's e-MCF: an invoice is submitted, compared to the centime, and then confirmed.

Until it is confirmed it has no effect and expires after two minutes, so submitting again is
harmless. Confirming is not: it is noted before, and after a silence the same invoice is confirmed
again, never another one submitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from shared import errors
from shared.authority.base import (
    Acceptance,
    Blocked,
    Checkup,
    Device,
    DeviceRefused,
    Finding,
    Journal,
    NotAccepted,
    NotNow,
    Outlet,
    Registration,
    Rejected,
    SealedDocument,
    Undecided,
    Unknown,
    Unreachable,
    sync_rows,
)
from shared.authority.cd.request import Expected, build
from shared.authority.wire import Wire, from_json, to_json
from shared.config import Settings
from shared.fiscal.rules import jurisdiction
from shared.transport import Answer, Budgets, HttpTransport, Request, Transport

CODE_LENGTH: Final = 24
FIELDS: Final = ("token", "nif", "nim", "isf")
WARN_BEFORE: Final = timedelta(days=14)
BUSY_RETRY_S: Final = 30  # a quarter of the time after which pending invoices expire
FINISHED: Final = "20"  # "unknown or already finished"
# The DGI's server stands in Kinshasa and writes its own time without a zone.
CLOCK: Final = ZoneInfo("Africa/Kinshasa")
_TIMES: Final = ("%Y-%m-%dT%H:%M:%S", "%d/%m/%Y %H:%M:%S")


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A pending invoice there: where it is, and what the authority computed."""

    uid: str
    total: Decimal
    vat: Decimal


def create(settings: Settings) -> "Emcf":
    """Make the adapter; nothing connects."""
    return Emcf(
        {"sandbox": settings.edef_sandbox_url, "production": settings.edef_production_url},
        HttpTransport(Budgets(connect_s=3.0, read_s=20.0, total_s=30.0)),
    )


class Emcf:
    """Speaks e-MCF. `bases`: environment to base URL."""

    def __init__(self, bases: Mapping[str, str], transport: Transport) -> None:
        self._bases, self._wire = dict(bases), Wire(transport)

    def reference(self, facts: Mapping[str, Any], outlet: Outlet) -> str:
        return _checked(facts, outlet)["nim"]

    async def register(
        self, facts: Mapping[str, Any], outlet: Outlet, environment: str
    ) -> Registration:
        given = _checked(facts, outlet)
        try:
            status = await self._status(given, environment)
        except DeviceRefused as refused:
            raise errors.AuthorityRefused(
                f"The DGI does not take this token: {refused.message}."
            ) from refused
        except NotAccepted as silent:
            raise errors.AuthorityUnavailable(
                f"The DGI did not say whether this is right: {silent.message}.", retry_after=30
            ) from silent
        for name in ("nif", "nim"):
            if str(status.get(name)) != given[name]:
                raise errors.AuthorityRefused(f"The DGI says this token's {name} is another one.")
        return Registration(
            authority_ref=given["nim"],
            credentials=to_json(given),
            masked=given | {"token": f"******{given['token'][-4:]}"},
            expires_at=_instant(status.get("tokenValid")),
        )

    async def submit(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance:
        facts = from_json(device.credentials)
        request, expected = build(document, facts)
        body = to_json(request)
        answer = await self._call("submit", "POST", "", body, facts, device, journal)
        pending = _submitted(_refuse_errors("submit", answer))
        if (pending.total, pending.vat) != (expected.total, expected.vat):
            await self._cancel(pending, facts, device, journal)
            raise _differs(pending, expected)
        return await self._confirm(pending, facts, device, journal)

    async def resume(
        self,
        document: SealedDocument,  # noqa: ARG002  what is pending there has a name of its own
        device: Device,
        journal: Journal,
    ) -> Acceptance | None:
        facts, noted = from_json(device.credentials), journal.progress
        pending = _Submitted(noted["uid"], Decimal(noted["total"]), Decimal(noted["vat"]))
        return await self._confirm(pending, facts, device, journal, is_again=True)

    async def check(self, device: Device, now: datetime) -> Checkup:
        facts = from_json(device.credentials)
        status = await self._status(facts, device.environment)
        expires_at = _instant(status.get("tokenValid"))
        found = []
        if expires_at is not None and expires_at - now < WARN_BEFORE:
            details = {"expires_at": expires_at.isoformat(), "nim": facts["nim"]}
            found.append(Finding("authority_token_expiring", "warning", details))
        request = self._request("GET", "/api/info/taxGroups", None, facts, device.environment)
        answer = _refuse_errors("taxGroups", await self._wire.send("taxGroups", request))
        if different := _different_rates(answer, now):
            found.append(Finding("authority_rates_differ", "critical", {"groups": different}))
        return Checkup(found, expires_at)

    async def aclose(self) -> None:
        await self._wire.aclose()

    async def _confirm(
        self,
        pending: _Submitted,
        facts: Mapping[str, str],
        device: Device,
        journal: Journal,
        *,
        is_again: bool = False,
    ) -> Acceptance:
        if not is_again:
            await journal.note(
                {"uid": pending.uid, "total": str(pending.total), "vat": str(pending.vat)}
            )
        body = to_json({"total": pending.total, "vtotal": pending.vat})
        path = f"/{pending.uid}/CONFIRM"
        try:
            answer = await self._call("confirm", "PUT", path, body, facts, device, journal)
            if answer.status >= 500:
                raise Unknown(f"HTTP_{answer.status}", "confirm: the DGI failed while it confirmed")
            said = _refuse_errors("confirm", answer)
        except Unknown:
            raise
        except NotAccepted as refused:
            if is_again and not isinstance(refused, Unreachable | DeviceRefused | NotNow):
                raise Undecided(
                    "authority_outcome_unknown",
                    f"confirmed without an answer, and now: {refused.message}",
                ) from refused
            if not is_again:
                # It certainly was not confirmed. What is pending there expires by itself.
                await journal.note({})
                if isinstance(refused, Undecided):
                    raise NotNow(refused.code, refused.message) from refused
            raise
        return _acceptance(said, answer.body)

    async def _cancel(
        self, pending: _Submitted, facts: Mapping[str, str], device: Device, journal: Journal
    ) -> None:
        try:
            path = f"/{pending.uid}/CANCEL"
            await self._call("cancel", "PUT", path, None, facts, device, journal)
        except Unknown:
            return  # it expires by itself; nothing is confirmed either way

    async def _status(self, facts: Mapping[str, str], environment: str) -> Mapping[str, Any]:
        request = self._request("GET", "/api/invoice/", None, facts, environment)
        said = _refuse_errors("status", await self._wire.send("status", request))
        if said.get("status") is not True:
            raise DeviceRefused("STATUS", "the DGI says this device is not in service")
        return said

    async def _call(
        self,
        step: str,
        method: str,
        path: str,
        body: bytes | None,
        facts: Mapping[str, str],
        device: Device,
        journal: Journal,
    ) -> Answer:
        url = "/api/invoice" + (path or "/")
        request = self._request(method, url, body, facts, device.environment)
        return await self._wire.send(step, request, journal)

    def _request(
        self, method: str, path: str, body: bytes | None, facts: Mapping[str, str], environment: str
    ) -> Request:
        headers = {"Authorization": f"Bearer {facts['token']}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return Request(method, f"{self._bases[environment]}{path}", headers, body)


def _refuse_errors(step: str, answer: Answer) -> Mapping[str, Any]:
    """The answer's members, or what the DGI has against it, by the rows of its codes."""
    said = from_json(answer.body)
    code = f"HTTP_{answer.status}"
    if answer.status in (401, 403):
        raise DeviceRefused(code, f"{step}: the token is refused")
    if answer.status == 429 or answer.status >= 500:
        raise NotNow(code, f"{step}: the DGI does not answer now", BUSY_RETRY_S)
    if not isinstance(said, dict):
        raise NotNow(code, f"{step}: not an answer of this interface", BUSY_RETRY_S)
    if said.get("errorCode") not in (None, ""):
        raise _verdict(str(said["errorCode"]), str(said.get("errorDesc") or step))
    if answer.status >= 400:
        raise Rejected(code, f"{step}: {str(said)[:300]}")
    return said


def _verdict(code: str, words: str) -> NotAccepted:
    match _codes().get(code):
        case "rejected":
            return Rejected(code, words)
        case "not_now":
            return NotNow(code, words, BUSY_RETRY_S)
        case "undecided":
            return Undecided(code, words)
        case _:
            return Blocked("authority_code_unknown", f"{code}: {words}")


@cache
def _codes() -> Mapping[str, str]:
    return {row["code"]: row["outcome"] for row in sync_rows("CD", "authority_codes")}


def _submitted(said: Mapping[str, Any]) -> _Submitted:
    try:
        return _Submitted(str(said["uid"]), Decimal(said["total"]), Decimal(said["vtotal"]))
    except (KeyError, ArithmeticError, TypeError, ValueError):
        # Nothing is confirmed, so asking again is harmless.
        raise NotNow(
            "MALFORMED", "submit: an answer without uid and totals", BUSY_RETRY_S
        ) from None


def _differs(pending: _Submitted, expected: Expected) -> Rejected:
    return Rejected(
        "TOTALS_DIFFER",
        f"the DGI computes {pending.total} with {pending.vat} VAT, sealed were {expected.total}"
        f" with {expected.vat}; it was not confirmed",
    )


def _acceptance(said: Mapping[str, Any], raw: bytes) -> Acceptance:
    code, qr = str(said.get("codeDEFDGI") or ""), said.get("qrCode")
    if len(code.replace("-", "")) != CODE_LENGTH or not isinstance(qr, str):
        raise Unknown("MALFORMED", "confirm: an answer without code and QR")
    return Acceptance(
        code=code,
        qr=qr,
        authority_time=_instant(said.get("dateTime")),
        counters={"counters": said.get("counters"), "nim": said.get("nim")},
        raw=raw,
    )


def _instant(text: object) -> datetime | None:
    """An instant in one of the two ways the DGI writes them; None when it is in neither."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    for form in () if found else _TIMES:
        try:
            found = datetime.strptime(text, form).replace(tzinfo=CLOCK)
            break
        except ValueError:
            continue
    if found is None:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=CLOCK)).astimezone(UTC)


def _different_rates(said: Mapping[str, Any], now: datetime) -> dict[str, dict[str, str | None]]:
    """Groups whose rate there is another than ours, or missing, in per cent."""
    theirs = {name.upper(): rate for name, rate in said.items()}
    manifests = jurisdiction("CD").manifests.values()
    ours = next(m for m in manifests if m.surface == "authority" and m.is_in_force(now))
    return {
        code: {
            "ours": f"{group.rate * 100:f}",
            "theirs": str(theirs[code]) if code in theirs else None,
        }
        for code, group in ours.groups.items()
        if group.rate is not None and _percent(theirs.get(code)) != group.rate * 100
    }


def _percent(value: object) -> Decimal | None:
    try:
        return Decimal(str(value))
    except ArithmeticError:
        return None


def _checked(facts: Mapping[str, Any], outlet: Outlet) -> dict[str, str]:
    """The four fields as text. InvalidParameter names every one that is wrong."""
    found: list[errors.FieldError] = [
        {"pointer": f"/{name}", "detail": "is text of 1 to 4000 characters"}
        for name in FIELDS
        if not (isinstance(facts.get(name), str) and 0 < len(facts[name]) <= 4000)
        or not facts[name].isprintable()
    ]
    found += [
        {"pointer": f"/{name}", "detail": "is not a field of this authority"}
        for name in facts
        if name not in FIELDS
    ]
    if not found and facts["nif"] != outlet.tin:
        found.append({"pointer": "/nif", "detail": f"this taxpayer is {outlet.tin}"})
    if found:
        names = ", ".join(error["pointer"].removeprefix("/") for error in found)
        raise errors.InvalidParameter(f"Check {names}.", errors=found)
    return {name: str(facts[name]) for name in FIELDS}
