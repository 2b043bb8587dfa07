"""What reports of every kind are made of: their figures, and the words of their queries."""

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from functions.reports.files import FileFormat
from shared.http.instants import Day
from shared.ids import pattern

OUTLET_ID: Final = "out_01kaj3vq1nfr5r3e2n9v4d8yzx"

OutletId = Annotated[
    str, Field(pattern=pattern("out"), description="The outlet.", examples=[OUTLET_ID])
]
# Days a calendar can count on from, and to.
BusinessDay = Annotated[Day, Field(ge=date(2020, 1, 1), lt=date(2200, 1, 1))]
Amount = Annotated[str, Field(examples=["1000.00"])]
Count = Annotated[int, Field(examples=[3])]
Time = Annotated[str, Field(examples=["2026-11-21T23:00:00Z"])]
Treatment = Annotated[str, Field(examples=["standard"])]
CurrencyCode = Annotated[str, Field(examples=["CDF"])]
WantedFormat = Annotated[
    FileFormat, Field(alias="format", description="What the report is written in.")
]


class Asked(BaseModel):
    """Query parameters."""

    model_config = ConfigDict(extra="forbid")


class Taxed(BaseModel):
    """A base and its tax."""

    base: Amount
    tax: Annotated[str, Field(examples=["160.00"])]


class TaxTotal(BaseModel):
    """One tax group in one currency: sales, credits, and sales less credits."""

    currency: CurrencyCode
    code: Annotated[str, Field(examples=["TG03"])]
    rate: Annotated[str, Field(examples=["0.16"])]
    treatment: Treatment
    sales: Taxed
    credits: Taxed
    net: Taxed


class Sum(BaseModel):
    """What documents come to."""

    subtotal: Amount
    total_tax: Annotated[str, Field(examples=["160.00"])]
    total: Annotated[str, Field(examples=["1160.00"])]


class GrandTotal(BaseModel):
    """All documents in one currency."""

    currency: CurrencyCode
    sales: Sum
    credits: Sum
    net: Sum


class Paid(BaseModel):
    """What was paid."""

    amount: Annotated[str, Field(examples=["1160.00"])]


class OfMethod(BaseModel):
    """What came by one means of payment."""

    method: Annotated[str, Field(examples=["cash"])]


class PaymentTotal(OfMethod):
    """One means of payment in the currency it was paid in; credits are what went back."""

    currency: CurrencyCode
    sales: Paid
    credits: Paid
    net: Paid


class MethodTotal(GrandTotal, OfMethod):
    """What documents in one currency come to by one means of payment.

    A document paid by several is divided in proportion, to the cent: all methods together are the
    grand totals.
    """


class ReturnGroup(BaseModel):
    """One tax group in the currency of the tax return, each document at its own rate."""

    code: Annotated[str, Field(examples=["TG03"])]
    rate: Annotated[str, Field(examples=["0.16"])]
    treatment: Treatment
    sales: Taxed
    credits: Taxed
    net: Taxed


class ReturnTreatment(BaseModel):
    """All groups of one treatment: taxed, exempt, zero-rated as exports are."""

    treatment: Treatment
    sales: Taxed
    credits: Taxed
    net: Taxed


class SealedTax(BaseModel):
    """Tax in the return's currency as the documents say it, rounded once per document."""

    tax_as_sealed: Annotated[str, Field(examples=["160.00"])]


class TaxReturn(BaseModel):
    """What a tax return asks for, in its currency."""

    currency: CurrencyCode
    groups: list[ReturnGroup]
    by_treatment: list[ReturnTreatment]
    sales: SealedTax
    credits: SealedTax
    net: SealedTax


class Figures(BaseModel):
    """Counts and sums of documents; every tax group in force is there, zeros too."""

    invoice_count: Count
    credit_count: Annotated[int, Field(examples=[0])]
    counts_by_type: Annotated[dict[str, int], Field(examples=[{"sale": 3, "credit_note": 0}])]
    tax_totals: list[TaxTotal]
    grand_totals: list[GrandTotal]
    payments: list[PaymentTotal]
    payment_totals: list[MethodTotal]
    tax_return: TaxReturn


class Report(Figures):
    """Whose figures, and when they were added up."""

    object: Literal["report"]
    environment: Annotated[Literal["sandbox", "production"], Field(examples=["sandbox"])]
    jurisdiction: Annotated[str, Field(examples=["CD"])]
    merchant_tin: Annotated[str, Field(examples=["308123456"])]
    merchant_name: Annotated[str, Field(examples=["Acacia Books"])]
    generated_at: Time
