"""From what a payment is to be invoiced for to the invoice of that payment."""

from datetime import UTC, datetime

from shared.fiscal.checks import broken
from shared.fiscal.document import Document, Order, Payment
from shared.fiscal.engine import price
from shared.fiscal.rules import jurisdiction
from shared.money import Money


def check_order(order: Order, amount: Money, now: datetime) -> None:
    """Whether the invoice could be sealed if `amount` were paid at this moment, in full.

    Raises the 422s of the fiscal domain; pointers are those of the invoice.
    """
    if order.totals.currency != amount.currency:
        raise broken("/totals/currency", f"must be {amount.currency}, as the payment is")
    kind = jurisdiction(order.jurisdiction).invoice_types.get(order.invoice_type)
    if kind is not None and kind.is_credit:
        raise broken("/invoice_type", f"must not be {kind.code}: it gives money back")
    paid = Payment(method="mobile_money", amount=amount.wire(), currency=amount.currency)
    price(invoice_of(order, [paid], now))


def invoice_of(order: Order, payments: list[Payment], now: datetime) -> Document:
    """The document of an order that was paid so. now: aware."""
    return Document(
        **order.model_dump(exclude_none=True),
        timestamp=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        payments=payments,
    )
