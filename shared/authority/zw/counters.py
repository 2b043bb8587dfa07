"""The counters of a fiscal day: what its receipts come to, by tax and by money type.

Sales, credit notes and debit notes each have counters of their own, for amounts with tax and for
the tax; credit notes are negative. The balance by money type takes all three, so credits lower it.
"""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Final, TypeAlias

from shared.authority.zw.texts import in_order
from shared.authority.zw.wire import Content, Counter, MoneyType

Key: TypeAlias = tuple[str, str, int | None, Decimal | None, MoneyType | None]

_KIND: Final = {"FiscalInvoice": "Sale", "CreditNote": "CreditNote", "DebitNote": "DebitNote"}


def of_receipt(receipt: Content) -> list[Counter]:
    """What one receipt adds to its day."""
    kind, currency = _KIND[receipt.receipt_type], receipt.currency
    found = []
    for tax in receipt.taxes:
        by = (tax.tax_id, tax.percent)
        found.append(Counter(f"{kind}ByTax", currency, tax.gross, *by))
        found.append(Counter(f"{kind}TaxByTax", currency, tax.amount, *by))
    for payment in receipt.payments:
        found.append(
            Counter("BalanceByMoneyType", currency, payment.amount, money_type=payment.money_type)
        )
    return total(found)


def total(counters: Iterable[Counter]) -> list[Counter]:
    """Added up, in the order in which they are signed and sent; zero rows are left out."""
    sums: dict[Key, Counter] = {}
    for row in counters:
        key = (row.kind, row.currency, row.tax_id, row.percent, row.money_type)
        known = sums.get(key)
        sums[key] = row if known is None else replace(known, value=known.value + row.value)
    return in_order(sums.values())
