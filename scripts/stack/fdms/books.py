"""Devices, their fiscal days and receipts: in memory, and in one sqlite file that outlives us."""

import json
import sqlite3
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from scripts.stack.fdms.judge import ApplicableTax
from scripts.stack.fdms.wire import Counter, Receipt, numbers

Json = dict[str, Any]
STANDARD_TAXES: list[Json] = [
    {"tax_id": 1, "percent": None, "name": "Exempt", "valid_from": "2023-01-01"},
    {"tax_id": 2, "percent": "0", "name": "Zero rated 0%", "valid_from": "2023-01-01"},
    {
        "tax_id": 514,
        "percent": "5",
        "name": "Non-VAT Withholding Tax",
        "valid_from": "2023-01-01",
        "is_vat": False,
    },
    {
        "tax_id": 515,
        "percent": "15",
        "name": "Standard rated 15%",
        "valid_from": "2023-01-01",
        "valid_till": "2025-12-14",
        "is_vat": True,
    },
    {
        "tax_id": 517,
        "percent": "15.5",
        "name": "Standard rated 15.5%",
        "valid_from": "2025-12-15",
        "is_vat": True,
    },
]


class TaxFacts(BaseModel):
    """A tax as the control API is told of it."""

    model_config = ConfigDict(extra="forbid")

    tax_id: int
    percent: Decimal | None
    name: str
    valid_from: str
    valid_till: str | None = None
    is_vat: bool = False

    def applicable(self) -> ApplicableTax:
        return ApplicableTax(**self.model_dump())

    def json_row(self) -> Json:
        row = {"taxID": self.tax_id, "taxPercent": self.percent, "taxName": self.name}
        till = f"{self.valid_till}T00:00:00" if self.valid_till else None
        return dict(numbers(row | {"validFrom": f"{self.valid_from}T00:00:00", "validTill": till}))


class Day(BaseModel):
    """The newest fiscal day of a device."""

    number: int
    opened: str
    status: Literal[
        "FiscalDayOpened", "FiscalDayCloseInitiated", "FiscalDayCloseFailed", "FiscalDayClosed"
    ] = "FiscalDayOpened"
    close_body: str | None = None
    close_at: float | None = None
    close_error: str | None = None
    closed: str | None = None
    server_signature: Json | None = None


class Device(BaseModel):
    """A device that the authority sold; registered once it has a certificate."""

    model_config = ConfigDict(extra="forbid")

    device_id: int = Field(ge=1, le=9_999_999_999)
    serial_no: str = Field(min_length=1, max_length=20)
    activation_key: str = Field(min_length=8, max_length=8)
    taxpayer: str = "Acacia Stores"
    tin: str = Field("2000123456", min_length=10, max_length=10)
    vat_number: str | None = "220012345"
    taxes: list[TaxFacts] = [TaxFacts.model_validate(row) for row in STANDARD_TAXES]
    day_max_hours: int = 24
    status: Literal["Sold", "Active", "Blocked"] = "Sold"
    certificates: list[str] = []  # PEM; the last is the one in use
    days: list[Day] = []
    pinged: int = 0

    @property
    def day(self) -> Day | None:
        return self.days[-1] if self.days else None


class Taken(BaseModel):
    """A receipt that was taken, with what was found in it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    device_id: int
    day_no: int
    receipt_id: int
    server_date: str
    server_signature: Json
    body: str
    findings: list[Json] = []

    @cached_property
    def receipt(self) -> Receipt:
        return Receipt.model_validate(json.loads(self.body, parse_float=Decimal)["receipt"])

    def has(self, *colors: str) -> bool:
        return any(row["validationErrorColor"] in colors for row in self.findings)


class Books:
    """Every write is in the file before it is answered."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(state / "fdms.sqlite", isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(
            "create table if not exists devices (device_id integer primary key, doc text);"
            "create table if not exists receipts (receipt_id integer primary key, doc text);"
        )
        self.devices: dict[int, Device] = {}
        self.receipts: dict[int, dict[int, Taken]] = {}
        self.by_id: dict[int, Taken] = {}
        self.numbers: dict[str, set[int]] = {}  # invoiceNo to receipt ids
        self.notes: set[int] = set()  # receipt ids of credit and debit notes
        for (doc,) in self._db.execute("select doc from devices"):
            device = Device.model_validate_json(doc)
            self.devices[device.device_id] = device
        for (doc,) in self._db.execute("select doc from receipts order by receipt_id"):
            self._remember(Taken.model_validate_json(doc))

    def close(self) -> None:
        """The file is closed; nothing is kept afterwards."""
        self._db.close()

    def keep(self, device: Device) -> None:
        """Insert or replace."""
        self.devices[device.device_id] = device
        self._db.execute(
            "insert or replace into devices values (?, ?)",
            (device.device_id, device.model_dump_json()),
        )

    def take(self, taken: Taken) -> None:
        """Insert or replace."""
        self._remember(taken)
        self._db.execute(
            "insert or replace into receipts values (?, ?)",
            (taken.receipt_id, taken.model_dump_json()),
        )

    def of(self, device_id: int) -> dict[int, Taken]:
        """The receipts of a device by their global number."""
        return self.receipts.setdefault(device_id, {})

    def next_id(self) -> int:
        """For a new receipt."""
        return max(self.by_id, default=1_000_000) + 1

    def reset(self) -> None:
        """Nothing was ever sold."""
        self._db.executescript("delete from devices; delete from receipts;")
        self.devices.clear()
        self.receipts.clear()
        self.by_id.clear()
        self.numbers.clear()
        self.notes.clear()

    def _remember(self, taken: Taken) -> None:
        self.of(taken.device_id)[taken.receipt.global_no] = taken
        self.by_id[taken.receipt_id] = taken
        self.numbers.setdefault(taken.receipt.invoice_no, set()).add(taken.receipt_id)
        if taken.receipt.note is not None:
            self.notes.add(taken.receipt_id)


def counters_of(receipts: list[Receipt]) -> dict[tuple[Any, ...], Decimal]:
    """What receipts come to: (type, currency, tax, percent, money type) to an amount."""
    kinds = {"FiscalInvoice": "Sale", "CreditNote": "CreditNote", "DebitNote": "DebitNote"}
    sums: dict[tuple[Any, ...], Decimal] = {}

    def add(amount: Decimal, *key: Any) -> None:
        sums[key] = sums.get(key, Decimal(0)) + amount

    for sent in receipts:
        for tax in sent.taxes:
            kind = kinds[sent.kind]
            add(tax.gross, f"{kind}ByTax", sent.currency, tax.tax_id, tax.percent, None)
            add(tax.amount, f"{kind}TaxByTax", sent.currency, tax.tax_id, tax.percent, None)
        for paid in sent.payments:
            add(paid.amount, "BalanceByMoneyType", sent.currency, None, None, paid.money_type)
    return {key: amount for key, amount in sums.items() if amount}


def as_sums(counters: list[Counter]) -> dict[tuple[Any, ...], Decimal]:
    """A device's own counters, in the same form."""
    return {
        (row.kind, row.currency, row.tax_id, row.percent, row.money_type): row.value
        for row in counters
    }
