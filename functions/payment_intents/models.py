"""The wire shapes of /payment-intents. Money is a decimal string beside its currency."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    UrlConstraints,
    model_validator,
)

from functions.payment_intents import examples
from shared.errors import PatchFieldNotAllowed
from shared.fiscal.document import Order
from shared.http.texts import Metadata, MetadataKey, MetadataValue, Storable

_FIXED = (
    "amount",
    "currency",
    "payment_method_types",
    "customer",
    "return_url",
    "expires_in",
    "invoice",
)


Amount = Annotated[str, Field(examples=["100.00"], max_length=32)]
Currency = Annotated[str, Field(examples=["KES"], max_length=8)]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), Storable]
# The payer's browser is sent there: nothing but a page, so no javascript: and no file.
ReturnUrl = Annotated[
    AnyUrl,
    UrlConstraints(allowed_schemes=["https", "http"], max_length=2048),
    Field(strict=False),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Customer(_Body):
    """Who pays, as the merchant knows them. Personal values are stored sealed and shown masked."""

    reference: Annotated[str, StringConstraints(max_length=128), Storable] | None = None
    name: Annotated[str, StringConstraints(max_length=200), Storable] | None = None
    email: (
        Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"), Storable]
        | None
    ) = None
    language: Annotated[
        Literal["en", "fr", "sw"] | None,
        Field(description="Of the receipt; by default the one of your country."),
    ] = None


class CreatePaymentIntent(_Body):
    """What to collect. `expires_in` is seconds, one minute to thirty days."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "amount": "100.00",
                    "currency": "KES",
                    "payment_method_types": ["mpesa"],
                    "description": "Order 20418",
                    "customer": {
                        "reference": "C-77",
                        "name": "Wanjiru Kamau",
                        "email": "wanjiru@mail.example",
                        "language": "sw",
                    },
                    "metadata": {"order": "20418"},
                    "return_url": "https://shop.example/thanks",
                }
            ]
        },
    )

    amount: Amount
    currency: Currency
    payment_method_types: Annotated[
        list[Annotated[str, StringConstraints(max_length=32)]], Field(min_length=1, max_length=10)
    ] = ["mpesa"]
    description: Description | None = None
    customer: Customer | None = None
    metadata: Metadata = {}
    return_url: ReturnUrl | None = None
    expires_in: Annotated[int, Field(ge=60, le=2_592_000)] = 86_400
    invoice: Annotated[
        Order | None,
        Field(
            description="A fiscal invoice to issue once this is paid: as POST /invoices takes it,"
            " without timestamp and payments. Its total is the amount."
        ),
    ] = None


class UpdatePaymentIntent(_Body):
    """What may change before the first attempt. A metadata key with null goes away (RFC 7396)."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "minProperties": 1,
            "examples": [{"description": "Order 20418, a gift", "metadata": {"gift": "yes"}}],
        },
    )

    description: Description | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue | None], Field(max_length=50)] = {}

    @model_validator(mode="before")
    @classmethod
    def _only_what_may_change(cls, body: Any) -> Any:
        fixed = [name for name in _FIXED if isinstance(body, dict) and name in body]
        if fixed:
            raise PatchFieldNotAllowed(
                f"{fixed[0]} cannot change after creation; cancel this intent and create another.",
                errors=[
                    {"pointer": f"/{name}", "detail": "cannot change after creation"}
                    for name in fixed
                ],
            )
        return body

    @model_validator(mode="after")
    def _something(self) -> "UpdatePaymentIntent":
        if not self.model_fields_set:
            raise ValueError("give description or metadata")
        return self


class MobileMoney(_Body):
    """A mobile money account: the rail, and the payer's phone in any form people type."""

    type: Annotated[str, Field(examples=["mpesa"])]
    phone: Annotated[str, Field(examples=["0712 345 678"], max_length=32)]


class ConfirmPaymentIntent(_Body):
    """How the payer pays."""

    payment_method: MobileMoney


class CancelPaymentIntent(_Body):
    """Why, for the record."""

    reason: Annotated[
        Literal["requested_by_customer", "duplicate", "fraudulent", "abandoned"] | None,
        Field(examples=["requested_by_customer"]),
    ] = None


class LastError(BaseModel):
    """Why the latest attempt failed. `retryable`: the payer may try again as things are."""

    code: str
    message: str
    rail_code: str | None
    retryable: bool
    retry_after: int | None


class NextAction(BaseModel):
    """What the payer has to do now."""

    type: Literal["approve_on_phone"]
    rail: str
    phone: str
    expires_at: datetime


class LatestTransfer(BaseModel):
    """The newest attempt to move the money."""

    id: str
    rail: str
    state: Literal["INITIATED", "SUBMITTED", "ACCEPTED", "SETTLED", "RETURNED", "FAILED"]
    payer: str | None
    receipt: str | None
    needs_review: bool
    late: bool


class MaskedCustomer(BaseModel):
    """The customer with personal values masked."""

    reference: str | None
    name: str | None
    email: str | None


class InvoiceError(BaseModel):
    """The rule that refused the invoice, as POST /invoices answers it."""

    code: str
    message: str
    errors: list[dict[str, Any]]


class OrderedInvoice(BaseModel):
    """The invoice this payment asked for. `failed`: the payment stands, post the invoice."""

    status: Literal["waiting", "paid", "issued", "failed"]
    id: str | None
    fiscal_number: str | None
    error: InvoiceError | None


class PaymentIntent(BaseModel):
    """One thing a merchant wants to collect, and how far that got."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CREATED]})

    id: str
    object: Literal["payment_intent"]
    status: Literal[
        "requires_payment_method",
        "processing",
        "partially_paid",
        "succeeded",
        "canceled",
        "expired",
    ]
    amount: str
    currency: str
    amount_received: str
    amount_refunded: str
    account_reference: Annotated[
        str, Field(description="What a payer types who pays by pay bill instead of a prompt.")
    ]
    payment_method_types: list[str]
    description: str | None
    customer: MaskedCustomer | None
    metadata: dict[str, str]
    return_url: str | None
    client_secret: str | None
    last_error: LastError | None
    next_action: NextAction | None
    latest_transfer: LatestTransfer | None
    environment: Literal["sandbox", "production"]
    cancellation_reason: str | None
    created_at: datetime
    expires_at: datetime
    canceled_at: datetime | None
    invoice: OrderedInvoice | None


class Pagination(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[
        str | None, Field(examples=["1795248000123456.pi_01kaj3v7wvf4fr8mnp5sye2s6k"])
    ]


class PaymentIntentPage(BaseModel):
    """Newest first."""

    data: list[PaymentIntent]
    pagination: Pagination


class TimelineEvent(BaseModel):
    """One thing that happened to the intent (`pi_…`) or to one of its transfers (`tr_…`)."""

    id: str
    position: int
    type: str
    subject: str
    seq: int
    data: dict[str, Any]
    occurred_at: datetime


class Timeline(BaseModel):
    """Everything that happened, in order."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.TIMELINE]})

    data: list[TimelineEvent]


class StreamToken(BaseModel):
    """Opens GET /{id}/events as a stream, once, within 60 seconds."""

    object: Literal["stream_token"]
    token: Annotated[
        str, Field(examples=["7c13b57faa35f233bfff6fd5fbaddcae8d52794f5c0f727b7b23836117c64b3d"])
    ]
    expires_at: datetime
