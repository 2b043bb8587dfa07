"""The tax engine: a document in, the canonical invoice out. Pure, exact, the same every time.

Each line in order (reference: fiscal 6): gross, discount, net; then base, tax and total, exclusive
or inclusive of tax. Where the jurisdiction rounds by line, groups and totals are plain sums of
lines; where it rounds by group, tax is computed once per group and lines carry only their total.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from shared.fiscal import checks, groups
from shared.fiscal.decimals import EXACT, ZERO, money_text, parse, rounded, shortest
from shared.fiscal.document import Document, Item
from shared.fiscal.rules import Jurisdiction, Manifest, TaxGroup, jurisdiction
from shared.money import scale_of

Canonical = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line and what it comes to. base and tax are None where tax is rounded by group."""

    item: Item
    group: TaxGroup
    gross: Decimal
    net: Decimal
    base: Decimal | None
    tax: Decimal | None
    total: Decimal


@dataclass(frozen=True, slots=True)
class PricedGroup:
    """All lines of one group. recomputed: tax on the sums, for the rounding adjustment."""

    group: TaxGroup
    base: Decimal
    tax: Decimal
    gross: Decimal
    recomputed: Decimal


@dataclass(frozen=True)
class Priced:
    """A document with everything computed, and its canonical form."""

    document: Document
    rules: Jurisdiction
    manifest: Manifest
    scale: int
    lines: tuple[PricedLine, ...]
    groups: tuple[PricedGroup, ...]

    @property
    def subtotal(self) -> Decimal:
        return sum((group.base for group in self.groups), ZERO)

    @property
    def total_tax(self) -> Decimal:
        return sum((group.tax for group in self.groups), ZERO)

    @property
    def total(self) -> Decimal:
        return EXACT.add(self.subtotal, self.total_tax)

    @property
    def adjustment(self) -> Decimal:
        """Tax on the group sums less tax as charged; reported, never added to the total."""
        return sum((group.recomputed - group.tax for group in self.groups), ZERO)

    @cached_property
    def canonical(self) -> Canonical:
        """The invoice as it is hashed and sealed: members that do not apply are absent."""
        document, money = self.document, self._money
        sent = document.model_dump(
            mode="json",
            exclude_none=True,
            exclude={"items", "totals", "tax_groups", "tax_rounding_adjustment"},
        )
        if not document.metadata:
            sent.pop("metadata", None)
        sent["payments"] = [_payment(payment) for payment in sent["payments"]]
        sent["items"] = [self._line(line) for line in self.lines]
        sent["tax_groups"] = [
            {
                "code": row.group.code,
                "rate": row.group.rate_text,
                "base_amount": money(row.base),
                "tax_amount": money(row.tax),
            }
            for row in self.groups
        ]
        sent["tax_rounding_adjustment"] = money(self.adjustment)
        sent["totals"] = {
            "currency": document.totals.currency,
            "subtotal": money(self.subtotal),
            "total_tax": money(self.total_tax),
            "total": money(self.total),
            **self._reporting(),
        }
        return sent

    def tax_summary(self) -> list[dict[str, str]]:
        """A row for every group of the manifest, zero rows too. Shown, not hashed."""
        used = {row.group.code: row for row in self.groups}
        return [
            {
                "code": code,
                "rate": group.rate_text,
                "base_amount": self._money(used[code].base if code in used else ZERO),
                "tax_amount": self._money(used[code].tax if code in used else ZERO),
            }
            for code, group in sorted(self.manifest.groups.items())
        ]

    def _line(self, line: PricedLine) -> Canonical:
        item = line.item.model_dump(mode="json", exclude_none=True, exclude={"category"})
        item["quantity"] = shortest(parse(line.item.quantity))
        item["unit_price"] = shortest(parse(line.item.unit_price), self.scale)
        if line.item.discount_amount is not None:
            item["discount_amount"] = self._money(parse(line.item.discount_amount))
        if line.item.discount_percent is not None:
            item["discount_percent"] = shortest(parse(line.item.discount_percent))
        item["tax_group"], item["tax_rate"] = line.group.code, line.group.rate_text
        item["line_total"] = self._money(line.total)
        if line.base is not None and line.tax is not None:
            item["line_base"], item["tax_amount"] = self._money(line.base), self._money(line.tax)
        return item

    def _reporting(self) -> dict[str, str]:
        """The tax in the currency in which it is declared, when that is another."""
        if self.document.fx is None:
            return {}
        rate, currency = self.document.fx.rate, self.rules.tax_currency
        scale = scale_of(currency)
        tax = rounded(EXACT.multiply(self.total_tax, parse(rate)), scale)
        return {
            "tax_currency": currency,
            "tax_in_reporting_currency": money_text(tax, scale),
            "fx_rate": rate,
        }

    def _money(self, value: Decimal) -> str:
        return money_text(value, self.scale)


def price(document: Document) -> Priced:
    """Validate and compute. Raises the 422s of the fiscal domain, each naming line and rule."""
    priced = unpaid(document)
    checks.check_payments(document, priced.total, priced.scale)
    return priced


def unpaid(document: Document) -> Priced:
    """As `price`, whatever the payments come to."""
    rules = jurisdiction(document.jurisdiction)
    kind = checks.check_document(document, rules)
    groups.check_authority_groups(document, rules)
    manifest = rules.manifest(document.tax_group_manifest_version, document.at, kind)
    scale = scale_of(document.totals.currency)
    lines = tuple(
        _price_line(document, item, groups.choose(document, item, manifest, kind), rules, scale)
        for item in document.items
    )
    priced = Priced(
        document, rules, manifest, scale, lines, tuple(_price_groups(document, lines, rules, scale))
    )
    checks.check_declared(document, priced.canonical)
    return priced


def _price_line(
    document: Document, item: Item, group: TaxGroup, rules: Jurisdiction, scale: int
) -> PricedLine:
    gross = rounded(EXACT.multiply(parse(item.quantity), parse(item.unit_price)), scale)
    net = gross - _discount(item, gross, scale)
    if rules.is_rounded_by_group:
        return PricedLine(item, group, gross, net, None, None, net)
    base, tax = _split(net, group, document.price_mode, scale)
    return PricedLine(item, group, gross, net, base, tax, base + tax)


def _discount(item: Item, gross: Decimal, scale: int) -> Decimal:
    if item.discount_percent is not None:
        share = EXACT.multiply(gross, parse(item.discount_percent))
        return rounded(EXACT.divide(share, Decimal(100)), scale)
    discount = parse(item.discount_amount) if item.discount_amount is not None else ZERO
    checks.check_discount(item, discount, gross, scale)
    return discount


def _split(net: Decimal, group: TaxGroup, price_mode: str, scale: int) -> tuple[Decimal, Decimal]:
    """Base and tax of an amount that excludes, or includes, the tax."""
    assert group.rate is not None, "groups without a rate are refused before"
    if price_mode == "exclusive":
        return net, rounded(EXACT.multiply(net, group.rate), scale)
    base = rounded(EXACT.divide(net, 1 + group.rate), scale)
    return base, net - base


def _price_groups(
    document: Document, lines: tuple[PricedLine, ...], rules: Jurisdiction, scale: int
) -> Iterator[PricedGroup]:
    for code in sorted({line.group.code for line in lines}):
        members = [line for line in lines if line.group.code == code]
        group, net = members[0].group, sum((line.net for line in members), ZERO)
        base, tax = _split(net, group, document.price_mode, scale)
        recomputed = tax
        if not rules.is_rounded_by_group:
            base = sum((line.base or ZERO for line in members), ZERO)
            tax = sum((line.tax or ZERO for line in members), ZERO)
        yield PricedGroup(group, base, tax, base + tax, recomputed)


def _payment(payment: Canonical) -> Canonical:
    scale = scale_of(payment["currency"])
    return {**payment, "amount": money_text(parse(payment["amount"]), scale)}
