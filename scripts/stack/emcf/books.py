"""The books of the simulated DGI: what is pending, what is confirmed, counters and codes."""

import hashlib
import hmac
import json
import secrets
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from scripts.stack.emcf.rules import CREDITS, Invoice, Refused
from scripts.stack.emcf.taxpayers import Taxpayer

PENDING_MAX: Final = 10
LIFETIME: Final = timedelta(minutes=2)
CLOCK: Final = ZoneInfo("Africa/Kinshasa")
ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass
class Pending:
    """A submitted invoice that is not confirmed."""

    uid: str
    nim: str
    nif: str
    invoice: Invoice
    at: datetime


@dataclass
class Confirmed:
    """An invoice that counts. `answer` is what the confirmation said."""

    uid: str
    nim: str
    nif: str
    rn: str
    kind: str
    code: str
    total: str
    vat: str
    reference: str | None
    answer: dict[str, Any]


class Books:
    """One authority. Confirmed invoices are kept in a file, pending ones die with the process."""

    def __init__(self, state: Path) -> None:
        self._file = state / "confirmed.jsonl"
        secret = state / "secret"
        if not secret.exists():
            secret.write_text(secrets.token_hex(32))
        self.secret = secret.read_text()
        self.offset = timedelta()
        self.pending: dict[str, Pending] = {}
        self.confirmed: dict[str, Confirmed] = {}
        self.by_code: dict[str, Confirmed] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                self._enter(Confirmed(**json.loads(line)))

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def open(self, nim: str) -> list[Pending]:
        """The device's pending invoices, without those that expired."""
        limit = self.now() - LIFETIME
        self.pending = {uid: row for uid, row in self.pending.items() if row.at > limit}
        return [row for row in self.pending.values() if row.nim == nim]

    def submit(self, invoice: Invoice, taxpayer: Taxpayer) -> Pending:
        """Keep it pending. Refused when too many are, or when its reference does not hold."""
        if len(self.open(taxpayer.nim)) >= PENDING_MAX:
            raise Refused("1", "Trop de factures en attente")
        if invoice.reference is not None:
            self._check_credit(invoice, taxpayer)
        row = Pending(str(uuid.uuid4()), taxpayer.nim, taxpayer.nif, invoice, self.now())
        self.pending[row.uid] = row
        return row

    def confirm(
        self, uid: str, total: Decimal, vat: Decimal, taxpayer: Taxpayer, *, replays: bool
    ) -> dict[str, Any]:
        """Make it count, once. replays: what counts already is answered again, not refused."""
        before = self.confirmed.get(uid)
        if before is not None and before.nim == taxpayer.nim and replays:
            return before.answer
        self.open(taxpayer.nim)
        row = self.pending.get(uid)
        if row is None or row.nim != taxpayer.nim:
            raise Refused("20", "Facture inconnue ou déjà terminée")
        if (total, vat) != (row.invoice.total, row.invoice.vat):
            raise Refused("21", "Les totaux ne sont pas ceux de la facture")
        if row.invoice.reference is not None:
            self._check_credit(row.invoice, taxpayer)  # another may have counted meanwhile
        del self.pending[uid]
        done = self._seal(row)
        with self._file.open("a") as file:
            file.write(json.dumps(vars(done)) + "\n")
        self._enter(done)
        return done.answer

    def cancel(self, uid: str, taxpayer: Taxpayer) -> None:
        """Forget a pending invoice. Refused when there is none."""
        row = self.pending.get(uid)
        if row is None or row.nim != taxpayer.nim:
            raise Refused("20", "Facture inconnue ou déjà terminée")
        del self.pending[uid]

    def reset(self) -> None:
        """As new, but for the tokens."""
        self._file.unlink(missing_ok=True)
        self.offset = timedelta()
        for book in (self.pending, self.confirmed, self.by_code, self.counts):
            book.clear()

    def _check_credit(self, invoice: Invoice, taxpayer: Taxpayer) -> None:
        assert invoice.reference is not None
        original = self.by_code.get(invoice.reference)
        if original is None or original.nif != taxpayer.nif:
            raise Refused("11", "La facture d'origine est inconnue")
        if original.kind not in CREDITS[invoice.kind]:
            raise Refused("11", f"Un {original.kind} ne reçoit pas de {invoice.kind}")
        credited = sum(self._credits_of(invoice.reference), Decimal(0))
        if credited + invoice.total > Decimal(original.total):
            raise Refused("12", "Les avoirs dépassent la facture d'origine")

    def _credits_of(self, code: str) -> Iterator[Decimal]:
        yield from (Decimal(r.total) for r in self.confirmed.values() if r.reference == code)
        # A pending credit may be submitted again while it waits, so only what counts is counted.

    def _seal(self, row: Pending) -> Confirmed:
        invoice = row.invoice
        of_kind = self.counts[row.nim, invoice.kind] + 1
        total = sum(count for (nim, _), count in self.counts.items() if nim == row.nim) + 1
        code = self._code(row.nim, total)
        at = self.now().astimezone(CLOCK)
        answer = {
            "dateTime": f"{at:%d/%m/%Y %H:%M:%S}",
            "qrCode": f"RDCDEF01;{row.nim};{code};{row.nif};{at:%Y%m%d%H%M%S}",
            "codeDEFDGI": "-".join(code[i : i + 4] for i in range(0, len(code), 4)),
            "counters": f"{of_kind}/{total} {invoice.kind}",
            "nim": row.nim,
        }
        return Confirmed(
            row.uid,
            row.nim,
            row.nif,
            invoice.rn,
            invoice.kind,
            code,
            str(invoice.total),
            str(invoice.vat),
            invoice.reference,
            answer,
        )

    def _code(self, nim: str, number: int) -> str:
        digest = hmac.new(self.secret.encode(), f"{nim}|{number}".encode(), hashlib.sha256).digest()
        return "".join(ALPHABET[byte % 32] for byte in digest[:24])

    def _enter(self, done: Confirmed) -> None:
        self.confirmed[done.uid] = done
        self.by_code[done.code] = done
        self.counts[done.nim, done.kind] += 1
