"""The wire shapes of corrections."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.fiscal.credits import Terms
from shared.fiscal.document import QuantityText
from shared.fiscal.text import Notes, Text50, Text64

Terminal = Annotated[Text64, Field(description="Where it is done.", examples=["pos-02"])]
Cashier = Annotated[Text64, Field(description="Who does it.", examples=["cashier-07"])]
Reference = Annotated[
    Text50 | None,
    Field(description="Your own number of the credit note.", examples=["CN-2026-0007"]),
]
Words = Annotated[
    Notes | None, Field(description="Printed on it.", examples=["Sold to another customer."])
]


class Void(BaseModel):
    """Who cancels a document."""

    model_config = ConfigDict(extra="forbid")

    pos_terminal_id: Terminal
    cashier_id: Cashier
    invoice_ref: Reference = None
    notes: Words = None

    def terms(self) -> Terms:
        """The whole document, because it should not have been."""
        return Terms(
            reason="cancellation",
            pos_terminal_id=self.pos_terminal_id,
            cashier_id=self.cashier_id,
            invoice_ref=self.invoice_ref,
            notes=self.notes,
        )


class RefundedLine(BaseModel):
    """How much of a line comes back."""

    model_config = ConfigDict(extra="forbid")

    line_no: Annotated[int, Field(ge=1, le=500, description="Of the original.", examples=[1])]
    quantity: Annotated[QuantityText, Field(description="At most what was sold.", examples=["1"])]


class Refund(BaseModel):
    """What comes back, why, and how the money goes."""

    model_config = ConfigDict(extra="forbid")

    pos_terminal_id: Terminal
    cashier_id: Cashier
    reason: Annotated[
        Literal["returned_goods", "correction", "rebate", "other"],
        Field(description="Why.", examples=["returned_goods"]),
    ] = "returned_goods"
    lines: Annotated[
        list[RefundedLine] | None,
        Field(min_length=1, max_length=500, description="By default all lines, whole."),
    ] = None
    method: Annotated[
        Literal["cash", "mobile_money", "card", "bank_transfer", "cheque", "credit", "voucher"]
        | None,
        Field(description="How it is paid back; by default as it was paid.", examples=["cash"]),
    ] = None
    reference: Annotated[
        Text64 | None,
        Field(
            description="Of the payment that gave the money back.",
            examples=["re_01kaj3w8q2fk7r5c9v4d8yzx1n"],
        ),
    ] = None
    invoice_ref: Reference = None
    notes: Words = None

    def terms(self) -> Terms:
        """The lines named, or all of them."""
        quantities = {line.line_no: line.quantity for line in self.lines or ()}
        return Terms(
            reason=self.reason,
            pos_terminal_id=self.pos_terminal_id,
            cashier_id=self.cashier_id,
            invoice_ref=self.invoice_ref,
            notes=self.notes,
            method=self.method,
            reference=self.reference,
            quantities=quantities or None,
        )
