"""ZIMRA's FDMS as an Authority: fiscal devices, fiscal days, receipts that name each other.

A receipt takes its numbers, its second and its signature, and is noted as the very bytes that are
sent, before it is sent. After a silence those bytes are sent again: FDMS answers the same receipt
(device, number, hash) with what it answered first.

Dates: every receipt of a device is at least a second younger than the one before, so a burst is
dated ahead of the clock. FDMS marks that yellow (RCPT031), which keeps no day from closing; a
document that would be more than AHEAD_MAX early waits instead.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from shared.authority import exact_json
from shared.authority.base import (
    Acceptance,
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
    Unknown,
)
from shared.authority.wire import Wire
from shared.authority.zw import texts, wire
from shared.authority.zw.content import Original, WouldBeRed, content_of
from shared.authority.zw.counters import of_receipt
from shared.authority.zw.gateway import FiscalDayRefused, Gateway, Identity
from shared.authority.zw.keys import DeviceKey, is_signed_by, valid_till
from shared.authority.zw.registration import Facts, read_facts
from shared.authority.zw.state import Book, Noted
from shared.authority.zw.taxes import Taxpayer, drift_of
from shared.authority.zw.tls import Identities
from shared.authority.zw.wire import Content, Place
from shared.config import Settings
from shared.errors import AuthorityRefused, AuthorityUnavailable
from shared.transport import Budgets, HttpTransport

HARARE: Final = timezone(timedelta(hours=2))  # no summer time
FORMAT: Final = "%Y-%m-%dT%H:%M:%S"
AHEAD_MAX: Final = timedelta(minutes=10)
RENEW_BEFORE: Final = timedelta(days=30)
# A close takes FDMS a moment; longer, and the queue comes back to it.
_LOOK_AGAIN_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_CLOSES_MAX: Final = 3
_NO_DAY_OPEN: Final = "RCPT01"
_BUDGETS: Final = Budgets(read_s=30.0, total_s=40.0)  # the manual's time for an answer is 30 s
_CONFIGURED: Final = ("vatNumber", "qrUrl", "taxPayerDayMaxHrs", "applicableTaxes")


def _now() -> datetime:
    return datetime.now(UTC)


class Fdms:
    """Keeps nothing but connections and FDMS's own certificates."""

    def __init__(self, gateways: Mapping[str, Gateway], now: Callable[[], datetime] = _now) -> None:
        """gateways: by environment."""
        self._gateways, self._now = gateways, now

    def reference(
        self,
        facts: Mapping[str, Any],
        outlet: Outlet,  # noqa: ARG002  devices are counted for the whole country
    ) -> str:
        return str(read_facts(facts).device_id)

    async def register(
        self, facts: Mapping[str, Any], outlet: Outlet, environment: str
    ) -> Registration:
        device, gateway = read_facts(facts), self._gateways[environment]
        try:
            return await self._register(device, outlet, gateway)
        except (DeviceRefused, Rejected) as no:
            raise AuthorityRefused(no.message) from no
        except NotAccepted as silent:
            raise AuthorityUnavailable(silent.message) from silent
        except (KeyError, TypeError, ValueError, FiscalDayRefused) as strange:
            raise AuthorityUnavailable("FDMS's answer was not understood") from strange

    async def submit(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance:
        identity = Identity.open(device.credentials)
        if device.state.get("known") is None:
            learned = await _learned(identity, self._gateways[device.environment], journal)
            await journal.note({}, learned)
            device = replace(device, state={**device.state, **learned})
        book = Book.read(device.state)
        date = self._date_of(document, book)
        content = _content(document, device.state["config"], date)
        if book.day is None or not book.day.is_open:
            book = await self._open_day(identity, book, date, device, journal)
        assert book.day is not None, "it is open"
        place = Place(
            identity.device_id,
            book.last_global_no + 1,
            book.day.receipts + 1,
            date,
            book.day.last_hash,
        )
        signature = DeviceKey.read(identity.key).sign(texts.receipt_text(content, place))
        noted = Noted(
            body=exact_json.write(wire.receipt_json(content, place, signature)),
            global_no=place.global_no,
            counter=place.counter,
            date=place.date,
            hash=signature.hash,
            signature=signature.signature,
            counters=tuple(of_receipt(content)),
        )
        await journal.note(noted.json(), {"book": book.json()})
        return await self._send(noted, book, device, journal)

    async def resume(
        self,
        document: SealedDocument,  # noqa: ARG002  it was written down whole
        device: Device,
        journal: Journal,
    ) -> Acceptance | None:
        if "body" not in journal.progress:
            return None  # nothing but a day was about to be opened, which `submit` repeats
        noted = Noted.read(journal.progress)
        return await self._send(noted, Book.read(device.state), device, journal)

    async def close_day(self, device: Device, journal: Journal) -> Acceptance:
        identity, book = Identity.open(device.credentials), Book.read(device.state)
        if book.day is None:
            return Acceptance(str(book.last_day_no), None)
        gateway = self._gateways[device.environment]
        tries = int(journal.progress.get("closes", 0))
        status = await gateway.ask(identity, "GetStatus", journal)
        if _is_closed(status, book.day.number):
            return _day_closed(book, status)
        if status["fiscalDayStatus"] != "FiscalDayCloseInitiated":
            if tries >= _CLOSES_MAX:
                code = str(status.get("fiscalDayClosingErrorCode") or "CLOSE_FAILED")
                raise Rejected(code, f"fiscal day {book.day.number} cannot be closed")
            await journal.note({"closes": tries + 1}, {"book": book.json()})
            await self._ask_to_close(identity, book, device, journal)
        for pause_s in _LOOK_AGAIN_S:
            await asyncio.sleep(pause_s)
            status = await gateway.ask(identity, "GetStatus", journal)
            if _is_closed(status, book.day.number):
                return _day_closed(book, status)
            if status["fiscalDayStatus"] != "FiscalDayCloseInitiated":
                break
        code = str(status.get("fiscalDayClosingErrorCode") or status["fiscalDayStatus"])
        raise NotNow(code, f"fiscal day {book.day.number} is not closed yet", retry_after_s=5)

    async def check(self, device: Device, now: datetime) -> Checkup:
        identity = Identity.open(device.credentials)
        gateway = self._gateways[device.environment]
        config = _configured(await gateway.ask(identity, "GetConfig"))
        drift = drift_of(Taxpayer.read(config), now)
        findings = [Finding("authority_rates_differ", "critical", drift)] if drift else []
        ends = valid_till(identity.certificate)
        renewed: Identity | None = None
        if ends - now <= RENEW_BEFORE:
            try:
                renewed = await self._renewed(identity, gateway)
                ends = valid_till(renewed.certificate)
            except NotAccepted as failed:
                details = {"expires_at": ends.isoformat(), "reason": failed.message}
                findings.append(Finding("authority_token_expiring", "warning", details))
        return Checkup(
            findings, ends, {"config": config}, credentials=renewed.seal() if renewed else None
        )

    async def aclose(self) -> None:
        """Close the connections; both environments share them."""
        for gateway in self._gateways.values():
            await gateway.aclose()

    # --- the steps

    async def _renewed(self, identity: Identity, gateway: Gateway) -> Identity:
        """With a new certificate. The key stays, so what it signed and is on its way is good."""
        request = DeviceKey.read(identity.key).request(identity.serial_no, identity.device_id)
        issued = await gateway.tell(identity, "IssueCertificate", {"certificateRequest": request})
        return replace(identity, certificate=str(issued["certificate"]))

    async def _register(self, facts: Facts, outlet: Outlet, gateway: Gateway) -> Registration:
        known = await gateway.public(
            f"{facts.device_id}/VerifyTaxpayerInformation",
            {"activationKey": facts.activation_key, "deviceSerialNo": facts.serial_no},
        )
        if known["taxPayerTIN"] != outlet.tin:
            raise AuthorityRefused(f"the device belongs to the taxpayer {known['taxPayerTIN']}")
        key = DeviceKey.generate()
        issued = await gateway.public(
            f"{facts.device_id}/RegisterDevice",
            {
                "activationKey": facts.activation_key,
                "certificateRequest": key.request(facts.serial_no, facts.device_id),
            },
        )
        identity = Identity(facts.device_id, facts.serial_no, str(issued["certificate"]), key.pem)
        expires_at = valid_till(identity.certificate)
        try:
            state = await _learned(identity, gateway)
        except NotAccepted:
            # The certificate must not be lost, for the activation key may be good no more. The
            # first document asks again: what we knew when the device was retired may be too old.
            state = {"known": None}
        return Registration(
            authority_ref=str(facts.device_id),
            credentials=identity.seal(),
            masked={"device_id": str(facts.device_id), "serial_no": facts.serial_no},
            state=state,
            expires_at=expires_at,
        )

    def _date_of(self, document: SealedDocument, book: Book) -> str:
        """Local time of the seal, or the second after the receipt before."""
        sealed = datetime.fromisoformat(document.sealed_at).astimezone(HARARE)
        date = sealed.replace(tzinfo=None)
        if book.last_date:
            after = datetime.strptime(book.last_date, FORMAT) + timedelta(seconds=1)  # noqa: DTZ007
            date = max(date, after)
        ahead = date - self._now().astimezone(HARARE).replace(tzinfo=None)
        if ahead > AHEAD_MAX:
            wait_s = int((ahead - AHEAD_MAX).total_seconds()) + 1
            raise NotNow("ONE_RECEIPT_A_SECOND", "the device is ahead of the clock", wait_s)
        return f"{date:{FORMAT}}"

    async def _open_day(
        self, identity: Identity, book: Book, at: str, device: Device, journal: Journal
    ) -> Book:
        """Open the next day, or find that an earlier attempt did; always with the same time."""
        if book.day is None:
            book = book.opening(at)
            await journal.note({"opens": book.last_day_no + 1}, {"book": book.json()})
        assert book.day is not None, "just noted"
        body = {"fiscalDayNo": book.day.number, "fiscalDayOpened": book.day.opened_at}
        gateway = self._gateways[device.environment]
        try:
            await gateway.tell(identity, "OpenDay", body, journal)
        except FiscalDayRefused as refused:
            status = await gateway.ask(identity, "GetStatus", journal)
            if not _is_open(status, book.day.number):
                raise DeviceRefused(refused.code, refused.message) from refused
        return book.opened()

    async def _send(self, noted: Noted, book: Book, device: Device, journal: Journal) -> Acceptance:
        """Send what is noted, as it is noted."""
        identity = Identity.open(device.credentials)
        gateway = self._gateways[device.environment]
        try:
            answer = await gateway.tell(identity, "SubmitReceipt", noted.body, journal)
        except Rejected as no:
            if no.code == _NO_DAY_OPEN:
                await self._find_day_closed(identity, book, device, journal)
            raise
        signed = answer["receiptServerSignature"]
        certificate = await gateway.server_certificate(str(signed["certificateThumbprint"]))
        text = texts.server_receipt_text(
            noted.signature, int(answer["receiptID"]), str(answer["serverDate"])
        )
        if not is_signed_by(certificate, text, str(signed["signature"])):
            raise Unknown("SERVER_SIGNATURE", "the answer is not signed by FDMS")
        book = book.taken(noted)
        found = answer.get("validationErrors") or []
        red = next((row for row in found if row["validationErrorColor"] == "Red"), None)
        if red is not None:
            # It is there and has its numbers; a person must see to the day with ZIMRA.
            await journal.note(noted.json(), {"book": book.json()})
            raise Rejected(str(red["validationErrorCode"]), str(red["validationErrorDescription"]))
        return _accepted(answer, book, noted, identity.device_id, device)

    async def _find_day_closed(
        self, identity: Identity, book: Book, device: Device, journal: Journal
    ) -> None:
        """ZIMRA may close a day by hand. The receipt is made anew, on the next day."""
        status = await self._gateways[device.environment].ask(identity, "GetStatus", journal)
        if book.day is None or not _is_closed(status, book.day.number):
            raise DeviceRefused(_NO_DAY_OPEN, "FDMS knows of no open day, and not of ours")
        await journal.note({}, {"book": book.closed().json()})
        raise NotNow("DAY_CLOSED_BY_ZIMRA", f"fiscal day {book.day.number} was closed there")

    async def _ask_to_close(
        self, identity: Identity, book: Book, device: Device, journal: Journal
    ) -> None:
        day = book.day
        assert day is not None, "an open day is closed"
        text = texts.day_text(identity.device_id, day.number, day.opened_at[:10], day.counters)
        body = {
            "fiscalDayNo": day.number,
            "fiscalDayCounters": [row.json() for row in texts.in_order(day.counters)],
            "fiscalDayDeviceSignature": DeviceKey.read(identity.key).sign(text).json(),
            "receiptCounter": day.receipts,
        }
        try:
            await self._gateways[device.environment].tell(identity, "CloseDay", body, journal)
        except FiscalDayRefused as refused:
            raise NotNow(refused.code, refused.message, retry_after_s=5) from refused


def create(settings: Settings) -> Fdms:
    """As the registry calls it: both environments over one pool of connections."""
    connections, identities = Wire(HttpTransport(_BUDGETS)), Identities(settings.fdms_ca_file)
    return Fdms(
        {
            "sandbox": Gateway(settings.fdms_test_url, connections, identities),
            "production": Gateway(settings.fdms_production_url, connections, identities),
        }
    )


def _content(document: SealedDocument, config: Mapping[str, Any], date: str) -> Content:
    taken = document.original.counters if document.original else None
    original = Original(int(taken["receipt_id"]), str(taken["date"])) if taken else None
    try:
        return content_of(
            document.payload, document.fiscal_number, Taxpayer.read(config), date[:10], original
        )
    except WouldBeRed as red:
        raise Rejected(red.code, red.message) from red


def _accepted(
    answer: Mapping[str, Any], book: Book, noted: Noted, device_id: int, device: Device
) -> Acceptance:
    code, day = texts.verification_code(noted.signature), book.day
    place = Place(device_id, noted.global_no, noted.counter, noted.date, None)
    assert day is not None, "the receipt is on it"
    return Acceptance(
        code=texts.printed_code(code),
        qr=texts.qr_text(str(device.state["config"]["qrUrl"]), place, code),
        authority_number=str(noted.global_no),
        authority_time=_time(str(answer["serverDate"])),
        counters={
            "device_id": device_id,
            "fiscal_day": day.number,
            "receipt_counter": noted.counter,
            "receipt_global_no": noted.global_no,
            "receipt_id": int(answer["receiptID"]),
            "date": noted.date,
            "hash": noted.hash,
            "signature": noted.signature,
            "findings": [
                f"{row['validationErrorCode']} {row['validationErrorColor']}"
                for row in answer.get("validationErrors") or []
            ],
        },
        raw=exact_json.write(answer).encode(),
        device_state={"book": book.json()},
    )


def _day_closed(book: Book, status: Mapping[str, Any]) -> Acceptance:
    day = book.day
    assert day is not None, "it was open"
    closed = status.get("fiscalDayClosed")
    return Acceptance(
        code=str(day.number),
        qr=None,
        authority_time=_time(str(closed)) if closed else None,
        raw=exact_json.write(status).encode(),
        device_state={"book": book.closed().json()},
    )


async def _learned(
    identity: Identity, gateway: Gateway, journal: Journal | None = None
) -> dict[str, Any]:
    """What a device must know before its first receipt."""
    config = await gateway.ask(identity, "GetConfig", journal)
    status = await gateway.ask(identity, "GetStatus", journal)
    return {
        "config": _configured(config),
        "known": {
            "last_global_no": int(status.get("lastReceiptGlobalNo") or 0),
            "last_day_no": int(status.get("lastFiscalDayNo") or 0),
        },
    }


def _configured(config: Mapping[str, Any]) -> dict[str, Any]:
    """What receipts depend on; decimals as text, because state is JSON of ours."""
    kept = {name: config[name] for name in _CONFIGURED if config.get(name) is not None}
    return dict(_texts(kept))


def _texts(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return {name: _texts(member) for name, member in value.items()}
    return [_texts(member) for member in value] if isinstance(value, list) else value


def _is_open(status: Mapping[str, Any], day_no: int) -> bool:
    is_open = status["fiscalDayStatus"] in ("FiscalDayOpened", "FiscalDayCloseFailed")
    return is_open and int(status.get("lastFiscalDayNo") or 0) == day_no


def _is_closed(status: Mapping[str, Any], day_no: int) -> bool:
    is_closed = status["fiscalDayStatus"] == "FiscalDayClosed"
    return is_closed and int(status.get("lastFiscalDayNo") or 0) == day_no


def _time(local: str) -> datetime:
    return datetime.fromisoformat(local).replace(tzinfo=HARARE)
