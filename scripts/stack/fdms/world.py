"""FDMS itself: registration, fiscal days, receipts, and the faults a test may arm."""

import time
from collections import deque
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from scripts.stack.fdms import texts
from scripts.stack.fdms.books import (
    Books,
    Day,
    Device,
    Taken,
    as_sums,
    counters_of,
)
from scripts.stack.fdms.ca import Authority, is_signed, pem
from scripts.stack.fdms.judge import FORMAT, GREY, RED, Context, judge
from scripts.stack.fdms.wire import (
    CloseDay,
    OpenDay,
    Receipt,
    Register,
    SubmitReceipt,
    Verify,
    parse,
)

Json = dict[str, Any]
HARARE = timezone(timedelta(hours=2))  # no summer time
QR_URL = "https://fdmstest.zimra.co.zw"
FaultName = Literal[
    "reject",  # 422 with `code`, nothing kept
    "down",  # 500, nothing kept
    "throttle",  # 429, nothing kept
    "hang_up",  # the connection ends before anything was kept
    "lost_answer",  # kept, and the connection ends
    "stall",  # answered after `seconds`
    "forged",  # kept, with a server signature that is none
    "close_fails",  # the close of the day ends in `code`
]


class Fault(BaseModel):
    """The body of `POST /control/faults`. call: such as SubmitReceipt; every: each n-th time."""

    model_config = ConfigDict(extra="forbid")

    fault: FaultName
    call: str
    times: int = Field(1, ge=1)
    every: int = Field(1, ge=1)
    code: str = "RCPT02"
    seconds: float = Field(1.0, ge=0, le=60)


class Settings(BaseModel):
    """The body of `POST /control/settings`, where every field is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate_days: int = Field(365, ge=1)
    close_s: float = Field(0.05, ge=0)
    reporting_frequency_min: int = Field(5, ge=1)


class Refusal(Exception):
    """422: an error of the gateway, RFC 7807 with errorCode."""

    def __init__(self, code: str, detail: str, status: int = 422) -> None:
        super().__init__(detail)
        self.code, self.detail, self.status = code, detail, status


class World:
    """All that the simulator knows. The clock may be moved forward, never back."""

    def __init__(self, state: Path) -> None:
        self.books, self.authority = Books(state), Authority(state / "ca")
        self.settings = Settings()
        self.faults: deque[Fault] = deque()
        self.requests: dict[str, int] = {}
        self._passed: dict[int, int] = {}
        self._ahead_s = 0.0

    def now(self) -> datetime:
        """Local time of Harare, naive as on the wire."""
        moment = datetime.fromtimestamp(time.time() + self._ahead_s, UTC)
        return moment.astimezone(HARARE).replace(tzinfo=None, microsecond=0)

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds

    def strikes(self, call: str, *names: FaultName) -> Fault | None:
        """The first armed fault of these for this call; it is then used up once."""
        for fault in self.faults:
            if fault.call == call and fault.fault in names:
                self._passed[id(fault)] = self._passed.get(id(fault), 0) + 1
                if self._passed[id(fault)] % fault.every:
                    return None
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None

    # --- without a certificate

    def verify(self, device_id: int, asked: Verify) -> Json:
        device = self._sold(device_id, asked.activation_key)
        if device.serial_no != asked.serial_no:
            raise Refusal("DEV01", "Device not found or not active")
        return {
            "taxPayerName": device.taxpayer,
            "taxPayerTIN": device.tin,
            "vatNumber": device.vat_number,
            "deviceBranchName": device.taxpayer,
            "deviceBranchAddress": _ADDRESS,
        }

    def register(self, device_id: int, asked: Register) -> Json:
        device = self._sold(device_id, asked.activation_key)
        device.status = "Active"
        return {"certificate": self._certify(device, asked.request)}

    # --- with one

    def device_of(self, device_id: int, certificate: str | None) -> Device:
        """The device that shows the certificate. Refusal 401 for any other."""
        device = self.books.devices.get(device_id)
        if certificate is None or device is None or certificate not in device.certificates:
            raise Refusal("DEV04", "The certificate is not this device's", 401)
        if device.status != "Active":
            raise Refusal("DEV01", "Device not found or not active")
        return device

    def issue(self, device: Device, request: str) -> Json:
        return {"certificate": self._certify(device, request)}

    def config(self, device: Device) -> Json:
        till = self.now() + timedelta(days=self.settings.certificate_days)
        return {
            "taxPayerName": device.taxpayer,
            "taxPayerTIN": device.tin,
            "vatNumber": device.vat_number,
            "deviceSerialNo": device.serial_no,
            "deviceBranchName": device.taxpayer,
            "deviceBranchAddress": _ADDRESS,
            "deviceOperatingMode": "Online",
            "taxPayerDayMaxHrs": device.day_max_hours,
            "taxpayerDayEndNotificationHrs": 2,
            "applicableTaxes": [tax.json_row() for tax in device.taxes],
            "certificateValidTill": f"{till:{FORMAT}}",
            "qrUrl": QR_URL,
        }

    def status(self, device: Device) -> Json:
        self._settle(device)
        day = device.day
        receipts = self.books.of(device.device_id)
        newest = max(receipts.values(), key=lambda one: one.receipt.date, default=None)
        return {
            "fiscalDayStatus": day.status if day else "FiscalDayClosed",
            "fiscalDayReconciliationMode": "Auto" if day and day.closed else None,
            "fiscalDayServerSignature": day.server_signature if day else None,
            "fiscalDayClosed": day.closed if day else None,
            "fiscalDayClosingErrorCode": day.close_error if day else None,
            "lastFiscalDayNo": day.number if day else None,
            # Of the receipt with the latest date, as theirs.
            "lastReceiptGlobalNo": newest.receipt.global_no if newest else None,
        }

    def ping(self, device: Device) -> Json:
        device.pinged += 1
        self.books.keep(device)
        return {"reportingFrequency": self.settings.reporting_frequency_min}

    def open_day(self, device: Device, asked: OpenDay) -> Json:
        self._settle(device)
        day = device.day
        if day is not None and day.status != "FiscalDayClosed":
            raise Refusal("FISC01", "Opening of a fiscal day is not allowed: one is open")
        number = day.number + 1 if day else 1
        if asked.day_no not in (None, number):
            raise Refusal("FISC02", f"fiscalDayNo must be {number}")
        device.days.append(Day(number=number, opened=asked.opened))
        self.books.keep(device)
        return {"fiscalDayNo": number}

    def submit(self, device: Device, body: bytes) -> Json:
        self._settle(device)
        sent = parse(SubmitReceipt, body).receipt
        day, receipts = device.day, self.books.of(device.device_id)
        known = receipts.get(sent.global_no)
        if known is not None and known.receipt.signature.hash == sent.signature.hash:
            return _answer(known)
        if day is None or day.status not in ("FiscalDayOpened", "FiscalDayCloseFailed"):
            raise Refusal("RCPT01", "No fiscal day is open")
        if known is not None:
            raise Refusal("RCPT02", f"receiptGlobalNo {sent.global_no} is another receipt")
        taken = Taken(
            device_id=device.device_id,
            day_no=day.number,
            receipt_id=self.books.next_id(),
            server_date=f"{self.now():{FORMAT}}",
            server_signature={},
            body=body.decode(),
        )
        text = f"{sent.signature.signature}{taken.receipt_id}{taken.server_date}"
        taken.server_signature = self._signed(text)
        self.books.take(taken)
        self._judge_from(device, day, taken)
        return _answer(taken)

    def close_day(self, device: Device, asked: CloseDay, body: bytes) -> Json:
        self._settle(device)
        day = device.day
        if day is None or day.status not in ("FiscalDayOpened", "FiscalDayCloseFailed"):
            raise Refusal("FISC03", "Closing of a fiscal day is not allowed: none is open")
        if asked.day_no != day.number:
            raise Refusal("FISC04", f"fiscalDayNo must be {day.number}")
        day.status, day.close_error = "FiscalDayCloseInitiated", None
        day.close_body = body.decode()
        day.close_at = time.time() + self.settings.close_s
        self.books.keep(device)
        return {}

    def summary(self, device: Device) -> Json:
        """A device with its days, receipts and counters, as the authority has them."""
        receipts = self.books.of(device.device_id)
        return {
            "status": device.status,
            "days": [
                day.model_dump(exclude={"close_body", "close_at"})
                | {
                    "receipts": [
                        one.receipt.global_no
                        for one in receipts.values()
                        if one.day_no == day.number
                    ],
                    "counters": [
                        [*map(_text, key), str(value)]
                        for key, value in sorted(
                            counters_of(self._of_day(device, day.number)).items(), key=str
                        )
                    ],
                }
                for day in device.days
            ],
            "findings": [
                {"global_no": one.receipt.global_no, **row}
                for one in receipts.values()
                for row in one.findings
            ],
            "pinged": device.pinged,
            "certificates": len(device.certificates),
        }

    def _of_day(self, device: Device, number: int) -> list[Receipt]:
        receipts = self.books.of(device.device_id).values()
        return [one.receipt for one in receipts if one.day_no == number]

    def _judge_from(self, device: Device, day: Day, taken: Taken) -> None:
        """Judge a receipt, and those after it that could not be judged before."""
        receipts = self.books.of(device.device_id)
        number: int | None = taken.receipt.global_no
        while number is not None:
            one = receipts[number]
            found = judge(one.receipt, self._context(device, day, one))
            one.findings = [finding.json() for finding in found]
            self.books.take(one)
            after = receipts.get(number + 1)
            number = number + 1 if after is not None and after.has(GREY) else None

    def _context(self, device: Device, day: Day, taken: Taken) -> Context:
        sent, receipts = taken.receipt, self.books.of(device.device_id)
        previous = receipts.get(sent.global_no - 1)
        original = self._original(sent)
        if original is not None and self.books.devices[original.device_id].tin != device.tin:
            original = None
        return Context(
            device_id=device.device_id,
            certificates=device.certificates,
            taxes=[tax.applicable() for tax in device.taxes],
            is_vat_payer=device.vat_number is not None,
            day_opened=day.opened,
            day_hours=device.day_max_hours,
            now=self.now(),
            is_first=sent.global_no == 1,
            previous=previous,
            previous_same_day=previous is not None and previous.day_no == taken.day_no,
            invoice_no_used=self._is_used(device, taken),
            original=original,
            credited=self._credited(original, taken) if original else Decimal(0),
        )

    def _is_used(self, device: Device, taken: Taken) -> bool:
        others = self.books.numbers[taken.receipt.invoice_no] - {taken.receipt_id}
        devices = (self.books.by_id[other].device_id for other in others)
        return any(self.books.devices[one].tin == device.tin for one in devices)

    def _credited(self, original: Taken, taken: Taken) -> Decimal:
        """What other credit notes took from the original."""
        notes = (self.books.by_id[one].receipt for one in self.books.notes - {taken.receipt_id})
        found = (
            note.total
            for note in notes
            if note.kind == "CreditNote" and self._original(note) is original
        )
        return -sum(found, Decimal(0))

    def _original(self, sent: Receipt) -> Taken | None:
        note = sent.note
        if note is None:
            return None
        if note.receipt_id is not None:
            return self.books.by_id.get(note.receipt_id)
        named = self.books.of(note.device_id or 0).get(note.global_no or 0)
        return named if named is None or note.day_no in (None, named.day_no) else None

    def _settle(self, device: Device) -> None:
        """The close that was asked for, once its time has come."""
        day = device.day
        if day is None or day.status != "FiscalDayCloseInitiated" or day.close_body is None:
            return
        if day.close_at is not None and time.time() < day.close_at:
            return
        asked = parse(CloseDay, day.close_body.encode())
        armed = self.strikes("CloseDay", "close_fails")
        day.close_error = armed.code if armed else self._close_error(device, day, asked)
        if day.close_error:
            day.status = "FiscalDayCloseFailed"
        else:
            day.status, day.closed = "FiscalDayClosed", f"{self.now():{FORMAT}}"
            text = texts.closed_day(
                device.device_id,
                day.number,
                day.opened,
                day.closed,
                asked.counters,
                asked.signature.signature,
            )
            day.server_signature = self._signed(text)
        self.books.keep(device)

    def _close_error(self, device: Device, day: Day, asked: CloseDay) -> str | None:
        receipts = self.books.of(device.device_id)
        numbers = [one.receipt.counter for one in receipts.values() if one.day_no == day.number]
        if sorted(numbers) != list(range(1, asked.receipts + 1)):
            return "MissingReceipts"
        if any(one.has(RED, GREY) for one in receipts.values() if one.day_no == day.number):
            return "ReceiptsWithValidationErrors"
        text = texts.day(device.device_id, day.number, day.opened, asked.counters)
        signed = any(is_signed(one, text, asked.signature.signature) for one in device.certificates)
        if not signed or asked.signature.hash != texts.digest(text):
            return "BadCertificateSignature"
        if as_sums(asked.counters) != counters_of(self._of_day(device, day.number)):
            return "CountersMismatch"
        return None

    def _sold(self, device_id: int, activation_key: str) -> Device:
        device = self.books.devices.get(device_id)
        if device is None or device.status == "Blocked":
            raise Refusal("DEV01", "Device not found or not active")
        if device.activation_key.upper() != activation_key.upper():
            raise Refusal("DEV02", "Activation key is incorrect")
        return device

    def _certify(self, device: Device, request: str) -> str:
        name = f"ZIMRA-{device.serial_no}-{device.device_id:010d}"
        made = self.authority.issue(request, name, self.settings.certificate_days)
        if made is None:
            raise Refusal("DEV03", "Certificate request is invalid")
        device.certificates.append(pem(made))
        self.books.keep(device)
        return pem(made)

    def _signed(self, text: str) -> Json:
        return {
            "certificateThumbprint": self.authority.thumbprint,
            "hash": texts.digest(text),
            "signature": self.authority.sign(text),
        }


def _answer(taken: Taken) -> Json:
    return {
        "receiptID": taken.receipt_id,
        "serverDate": taken.server_date,
        "receiptServerSignature": taken.server_signature,
        "validationErrors": taken.findings or None,
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)


_ADDRESS = {"province": "Harare", "city": "Harare", "street": "Samora Machel", "houseNo": "1"}
