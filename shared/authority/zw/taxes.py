"""Which of the device's taxes a tax group of ours is: GetConfig says, and nothing else does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from shared.fiscal.rules import TaxGroup, jurisdiction


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


@dataclass(frozen=True, slots=True)
class Taxpayer:
    """What GetConfig says that a receipt depends on."""

    taxes: tuple[ApplicableTax, ...]
    is_vat_payer: bool

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        rows = config["applicableTaxes"]
        return cls(tuple(ApplicableTax.read(row) for row in rows), bool(config.get("vatNumber")))


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


def drift_of(taxpayer: Taxpayer, now: datetime) -> dict[str, str]:
    """Groups that our manifest in force gives to sales and the device may not charge, and why.

    Who pays no VAT has no taxes of VAT, so there is nothing to compare.
    """
    rules = jurisdiction("ZW")
    manifest = rules.manifests[rules.manifest_at(now)]
    found = {}
    for code in sorted({code for _, code in manifest.rules.values()}):
        try:
            tax_of(manifest.groups[code], taxpayer.taxes, f"{now:%Y-%m-%d}")
        except NoSuchTax as missing:
            found[code] = str(missing)
    return found if taxpayer.is_vat_payer else {}
