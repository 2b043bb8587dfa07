"""What a device remembers between documents: its numbers, its fiscal day, what FDMS configured.

Kept as `state` of the device, and moved in the transaction that notes or concludes a step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Self

from shared.authority.zw.counters import total
from shared.authority.zw.wire import Counter, MoneyType


@dataclass(frozen=True, slots=True)
class Day:
    """An open fiscal day. opened_at: local; FDMS never tells it again, and signs its date.

    is_open: FDMS has said so; before that, opening it is repeated with the same time.
    """

    number: int
    opened_at: str
    is_open: bool = False
    receipts: int = 0
    last_hash: str | None = None
    counters: tuple[Counter, ...] = ()


@dataclass(frozen=True, slots=True)
class Book:
    """last_date: of the newest receipt, local; every later one must be a second younger."""

    last_global_no: int
    last_day_no: int
    last_date: str
    day: Day | None

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> Self:
        """Our own book; between days, what FDMS said at the registration where that is ahead.

        While a device was retired here, another system may have used it.
        """
        known = state["known"]
        kept = state.get("book") or {**known, "last_date": "", "day": None}
        day = kept["day"]
        ahead = known if known and day is None else kept
        return cls(
            max(int(kept["last_global_no"]), int(ahead["last_global_no"])),
            max(int(kept["last_day_no"]), int(ahead["last_day_no"])),
            str(kept["last_date"]),
            Day(**{**day, "counters": read_counters(day["counters"])}) if day else None,
        )

    def json(self) -> dict[str, Any]:
        """As `state["book"]`."""
        day = self.day
        return {
            "last_global_no": self.last_global_no,
            "last_day_no": self.last_day_no,
            "last_date": self.last_date,
            "day": day
            and {
                "number": day.number,
                "opened_at": day.opened_at,
                "is_open": day.is_open,
                "receipts": day.receipts,
                "last_hash": day.last_hash,
                "counters": write_counters(day.counters),
            },
        }

    def opening(self, at: str) -> Self:
        """With the next day, about to be opened."""
        return replace(self, day=Day(self.last_day_no + 1, at))

    def opened(self) -> Self:
        """FDMS has opened it."""
        assert self.day is not None, "a day is opened that was noted"
        return replace(self, day=replace(self.day, is_open=True))

    def taken(self, noted: "Noted") -> Self:
        """FDMS has taken the receipt. The same again changes nothing."""
        if noted.global_no <= self.last_global_no:
            return self
        day = self.day
        assert day is not None, "receipts are taken on open days"
        assert (noted.global_no, noted.counter) == (self.last_global_no + 1, day.receipts + 1)
        return replace(
            self,
            last_global_no=noted.global_no,
            last_date=noted.date,
            day=replace(
                day,
                receipts=noted.counter,
                last_hash=noted.hash,
                counters=tuple(total([*day.counters, *noted.counters])),
            ),
        )

    def closed(self) -> Self:
        """FDMS has closed the day."""
        assert self.day is not None, "a day is closed that was open"
        return replace(self, last_day_no=self.day.number, day=None)


@dataclass(frozen=True, slots=True)
class Noted:
    """A receipt as it is noted before it is sent, and as FDMS has it whatever changes meanwhile.

    counters: what it adds to its day. hash and signature: base64, of the device.
    """

    body: str
    global_no: int
    counter: int
    date: str
    hash: str
    signature: str
    counters: tuple[Counter, ...]

    @classmethod
    def read(cls, progress: Mapping[str, Any]) -> Self:
        """What `json` made."""
        return cls(**{**progress, "counters": read_counters(progress["counters"])})

    def json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "body": self.body,
            "global_no": self.global_no,
            "counter": self.counter,
            "date": self.date,
            "hash": self.hash,
            "signature": self.signature,
            "counters": write_counters(self.counters),
        }


def write_counters(counters: Iterable[Counter]) -> list[list[str | int | None]]:
    """As JSON, decimals as text."""
    return [_write_counter(row) for row in counters]


def read_counters(rows: Iterable[list[Any]]) -> tuple[Counter, ...]:
    """What `write_counters` made."""
    return tuple(_read_counter(row) for row in rows)


def _write_counter(row: Counter) -> list[str | int | None]:
    percent = None if row.percent is None else f"{row.percent:f}"
    return [row.kind, row.currency, f"{row.value:f}", row.tax_id, percent, row.money_type]


def _read_counter(row: list[Any]) -> Counter:
    kind, currency, value, tax_id, percent, money_type = row
    return Counter(
        kind,
        currency,
        Decimal(value),
        tax_id,
        None if percent is None else Decimal(percent),
        None if money_type is None else MoneyType(money_type),
    )
