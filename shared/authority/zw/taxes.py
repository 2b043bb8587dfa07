"""Which of the device's taxes a tax group of ours is: GetConfig says, and nothing else does."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from shared.fiscal.rules import TaxGroup


class NoSuchTax(Exception):
    """The device may not charge this group. The message says which, and what it may charge."""


@dataclass(frozen=True, slots=True)
class ApplicableTax:
    """A row of applicableTaxes. percent: None for exempt. Valid from and till: local days."""

    tax_id: int
    percent: Decimal | None
    name: str
    valid_from: str
    valid_till: str | None

    @classmethod
    def read(cls, row: dict[str, Any]) -> Self:
        percent = row.get("taxPercent")
        till = row.get("validTill")
        return cls(
            int(row["taxID"]),
            None if percent is None else Decimal(str(percent)),
            str(row["taxName"]),
            str(row["validFrom"])[:10],
            None if till is None else str(till)[:10],
        )

    def is_valid(self, on: str) -> bool:
        return self.valid_from <= on and (self.valid_till is None or on <= self.valid_till)


def tax_of(group: TaxGroup, taxes: Iterable[ApplicableTax], on: str) -> ApplicableTax:
    """The tax of the group's rate on a local day, YYYY-MM-DD.

    Where several taxes have one rate, the group's code is the tax's id, or nobody can tell.
    """
    assert group.rate is not None, "groups without a rate are refused before"
    percent = None if group.treatment == "exempt" else group.rate * 100
    found = [tax for tax in taxes if tax.is_valid(on) and tax.percent == percent]
    named = [tax for tax in found if str(tax.tax_id) == group.code]
    if len(named or found) != 1:
        rate = "exempt" if percent is None else f"{percent:.2f}%"
        raise NoSuchTax(
            f"group {group.code} ({rate}) is {len(found)} of the device's taxes on {on}"
        )
    return (named or found)[0]
