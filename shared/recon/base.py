"""What a statement of a rail says, whatever its format: lines, totals, period.

Importers are pure: bytes in, a StatementFile out, or StatementRefused with the number of the line
that is wrong. A file is taken whole or not at all, so nothing here skips what it cannot read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol

from shared.errors import InvalidAmount
from shared.money import Money

MAX_DAYS: Final = 100  # a quarter and some; each day becomes a session
MAX_FIELD: Final = 140  # characters of a reference; a longer one is no reference


class Rows(Protocol):
    """The rows of a CSV reader; line_num is the line of the file that was read last."""

    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


class LineType(StrEnum):
    """What a line is about."""

    PAYMENT = "payment"
    RETURN = "return"  # money of an earlier payment goes back
    BATCH = "batch"  # the total of payments that stand elsewhere
    FEE = "fee"  # the rail's charge
    INTERNAL = "internal"  # between accounts of the same owner
    VOID = "void"  # nothing moved


class Direction(StrEnum):
    """Of the money, seen from the account."""

    IN = "in"
    OUT = "out"


class Refusal(StrEnum):
    """The kind of exception that a refused file opens."""

    FILE_REJECTED = "FILE_REJECTED"
    TOTALS_MISMATCH = "TOTALS_MISMATCH"


class StatementRefused(ValueError):
    """The file is not imported. line: 1-based, in the file; reason quotes no content of it."""

    def __init__(self, line: int, reason: str, kind: Refusal = Refusal.FILE_REJECTED) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason, self.kind = line, reason, kind


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One movement. number: its line in the file; amount moved on the account, never negative.

    fee: what the line itself says was kept before the money moved. external_ref is the rail's
    receipt, linked_ref the receipt it takes back, our_ref what we or the payer gave as reference.
    acq_ref is another reference of the rail's; with auth_code beside it, only both together count.
    party is the other side's phone in E.164, when the statement shows it whole.
    """

    number: int
    type: LineType
    direction: Direction
    amount: Money
    value_date: date
    occurred_at: datetime | None = None
    fee: Money | None = None
    external_ref: str | None = None
    our_ref: str | None = None
    linked_ref: str | None = None
    batch_ref: str | None = None
    acq_ref: str | None = None
    auth_code: str | None = None
    party: str | None = field(default=None, repr=False)

    def fingerprint(self) -> str:
        """Everything the line says but where it stood."""
        said = (
            self.type,
            self.direction,
            self.amount.minor,
            self.amount.currency,
            self.fee.minor if self.fee else 0,
            self.value_date.isoformat(),
            self.occurred_at.isoformat() if self.occurred_at else "",
            self.external_ref,
            self.our_ref,
            self.linked_ref,
            self.batch_ref,
            self.acq_ref,
            self.auth_code,
        )
        return "\x1f".join("" if part is None else str(part) for part in said)


@dataclass(frozen=True, slots=True)
class StatementFile:
    """A statement that was read to its end and adds up. Days are the rail's own, both inclusive."""

    format: str
    account: str | None
    period_from: date
    period_to: date
    lines: tuple[StatementLine, ...]

    def totals(self) -> dict[str, dict[str, int]]:
        """Minor units per currency and direction: {"KES": {"in": 1375000, "out": 5400900}}."""
        found: dict[str, dict[str, int]] = {}
        for line in self.lines:
            sums = found.setdefault(line.amount.currency, {"in": 0, "out": 0})
            sums[line.direction] += line.amount.minor
        return found

    def hashes(self) -> Iterator[str]:
        """One per line, 128 bits as hex: equal for the same line of another file.

        Two lines of one file that say the same are two movements, so the copy's number counts.
        """
        copies: Counter[str] = Counter()
        for line in self.lines:
            said = line.fingerprint()
            copies[said] += 1
            yield sha256(f"{said}\x1f{copies[said]}".encode()).hexdigest()[:32]


def decode(body: bytes) -> str:
    """UTF-8 with or without a byte order mark. Raises StatementRefused."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = body.count(b"\n", 0, broken.start) + 1
        raise StatementRefused(line, "is not UTF-8 text") from None
    if "\0" in text:
        raise StatementRefused(text[: text.index("\0")].count("\n") + 1, "holds a NUL character")
    return text


def amount(text: str, currency: str, number: int, name: str) -> tuple[Money, bool]:
    """The amount in `text` and whether it is negative; separators between thousands are fine."""
    digits = text.strip().replace(",", "").removeprefix("+")
    negative = digits.startswith("-")
    try:
        return Money.parse(digits.removeprefix("-"), currency, positive=False), negative
    except InvalidAmount:
        raise StatementRefused(number, f"{name} is no amount of {currency}") from None


def reference(text: str | None) -> str | None:
    """A reference without the space around it; None for an empty one."""
    kept = (text or "").strip()
    return kept[:MAX_FIELD] or None


def period_of(
    lines: Iterable[StatementLine], told: tuple[date, date] | None = None
) -> tuple[date, date]:
    """The days a statement is about: what it says, or else those of its lines.

    Raises StatementRefused for a file that says neither, or covers too many.
    """
    days = list(told) if told is not None else sorted(line.value_date for line in lines)
    if not days:
        raise StatementRefused(1, "has no lines and names no period")
    if (days[-1] - days[0]).days > MAX_DAYS:
        raise StatementRefused(1, f"covers more than {MAX_DAYS} days: export it in parts")
    return days[0], days[-1]


def check_total(name: str, told: int, found: int, number: int) -> None:
    """Raises StatementRefused when a total (minor units) is not the sum of the lines."""
    if told != found:
        raise StatementRefused(
            number,
            f"{name} is not what the lines add up to: they differ by {abs(told - found)} in the "
            "smallest unit",
            Refusal.TOTALS_MISMATCH,
        )
