"""The invoice as a merchant writes it, version 1.0: what is sealed is made from this alone.

Text is NFC and trimmed here, at the edge, so that equal documents are equal bytes later. Amounts,
rates, prices and quantities are decimal strings; a JSON number for one of them is refused.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.fiscal import decimals
from shared.fiscal.text import Clean, Notes, Text50, Text64, Text120, Text200


def _decimal(text: str, *, most: int, above_zero: bool = False) -> str:
    value = decimals.parse(text)
    if value < 0 or (above_zero and value == 0):
        raise ValueError("must be more than zero" if above_zero else "must not be negative")
    if decimals.decimals_of(text) > most:
        raise ValueError(f"has at most {most} decimals")
    if len(text.partition(".")[0]) > 15:
        raise ValueError("has at most 15 digits before the point")
    return text


def _money(text: str) -> str:
    return _decimal(text, most=6)


def _quantity(text: str) -> str:
    return _decimal(text, most=6, above_zero=True)


def _percent(text: str) -> str:
    if decimals.parse(_decimal(text, most=4)) > 100:
        raise ValueError("is at most 100")
    return text


def _instant(text: str) -> str:
    form = "%Y-%m-%dT%H:%M:%SZ"
    try:
        # What is read from other digits, or from fewer, is not the text that others can read.
        is_plain = datetime.strptime(text, form).replace(tzinfo=UTC).strftime(form) == text
    except ValueError:
        is_plain = False
    if not is_plain:
        raise ValueError("must be UTC in whole seconds, such as 2026-11-21T07:10:00Z")
    return text


MoneyText = Annotated[str, AfterValidator(_money)]
PriceText = Annotated[str, AfterValidator(_money)]
QuantityText = Annotated[str, AfterValidator(_quantity)]
PercentText = Annotated[str, AfterValidator(_percent)]
Instant = Annotated[str, AfterValidator(_instant)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


def refusal(pointer: str, rule: str) -> str:
    """The sentence for a field of an invoice: "line 2: tax_group …" or "totals/currency: …"."""
    path = pointer.removeprefix("/")
    part, _, place = path.partition("/")
    line, _, name = place.partition("/")
    if part == "items" and name:
        return f"line {int(line) + 1}: {name} {rule}"
    return f"{path}: {rule}"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _omits_what_does_not_apply(cls, members: object) -> object:
        # A null and an absent member would be two texts, and two hashes, of one invoice.
        if isinstance(members, dict):
            for name, value in members.items():
                if value is None:
                    raise PydanticCustomError(
                        "null_member",
                        "{member} is null: leave out what does not apply",
                        {"member": name},
                    )
        return members


class Client(_Part):
    """The buyer. Which members a classification needs is data of the jurisdiction."""

    classification: Annotated[str, BeforeValidator(lambda value: _snake(value))]
    name: Text200 | None = None
    tin: Text50 | None = None
    registration_number: Text50 | None = None
    id_document: Text64 | None = None
    exemption_ref: Text64 | None = None
    country: Country | None = None
    address: Text200 | None = None
    phone: Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")] | None = None
    email: (
        Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None
    ) = None


class Item(_Part):
    """One line. `category` is catalogue metadata for choosing the group and is not sealed.

    `authority_tax_group` is the authority's own group where the usual one does not fit the article.
    tax_rate, line_base, tax_amount and line_total may be declared; they must equal ours.
    """

    line_no: Annotated[int, Field(ge=1, le=500)]
    code: Text50
    description: Text200
    kind: Literal["goods", "service", "levy"]
    quantity: QuantityText
    unit: Text50 | None = None
    unit_price: PriceText
    discount_amount: MoneyText | None = None
    discount_percent: PercentText | None = None
    tax_group: Text50 | None = None
    authority_tax_group: Text50 | None = None
    category: Text50 | None = None
    hs_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{4,10}$")] | None = None
    item_class_code: Text50 | None = None
    tax_rate: str | None = None
    line_base: str | None = None
    tax_amount: str | None = None
    line_total: str | None = None


class Payment(_Part):
    """How it was, or will be, paid. The unpaid part is method `credit`."""

    method: Literal[
        "cash", "mobile_money", "card", "bank_transfer", "cheque", "credit", "voucher", "other"
    ]
    provider: Text50 | None = None
    amount: MoneyText
    currency: Currency
    reference: Text64 | None = None
    fx_rate: PriceText | None = None


class Fx(_Part):
    """The rate from the invoice's currency to the tax currency, and where it comes from."""

    rate: PriceText
    source: Literal["authority", "declared"]
    as_of: Instant


class DeclaredGroup(_Part):
    """A row of tax_groups that the client computed itself."""

    code: Text50
    rate: str
    base_amount: str
    tax_amount: str


class Totals(_Part):
    """The currency, and totals that the client may declare."""

    currency: Currency
    subtotal: str | None = None
    total_tax: str | None = None
    total: str | None = None


class Order(_Part):
    """What is sold, to whom and on which terms: an invoice without its time and its payments."""

    schema_version: Literal["1.0"]
    jurisdiction: Country
    merchant_tin: Text50
    outlet_id: Text64
    pos_terminal_id: Text64
    cashier_id: Text64
    invoice_type: Text50
    invoice_ref: Text50 | None = None
    tax_group_manifest_version: Text50
    price_mode: Literal["exclusive", "inclusive"]
    client: Client
    items: Annotated[list[Item], Field(min_length=1, max_length=500)]
    totals: Totals
    tax_groups: list[DeclaredGroup] | None = None
    tax_rounding_adjustment: str | None = None
    original_fiscal_number: Text64 | None = None
    credit_reason: (
        Literal["returned_goods", "correction", "cancellation", "rebate", "other"] | None
    ) = None
    export_certificate_ref: Text64 | None = None
    tax_override_reason: Text120 | None = None
    fx: Fx | None = None
    notes: Notes | None = None
    metadata: Annotated[
        dict[Text50, Annotated[str, Clean, StringConstraints(max_length=200)]],
        Field(max_length=20),
    ] = {}


def _describe(schema: dict[str, Any]) -> None:
    # An example of a fixed day would be refused a year later: documents have a greatest age.
    today = f"{datetime.now(UTC):%Y-%m-%dT00:00:00Z}"
    example = {
        "schema_version": "1.0",
        "jurisdiction": "CD",
        "merchant_tin": "308123456",
        "outlet_id": "out_01kaj3vq1nfr5r3e2n9v4d8yzx",
        "pos_terminal_id": "pos-02",
        "cashier_id": "cashier-07",
        "invoice_type": "sale",
        "timestamp": today,
        "tax_group_manifest_version": "CD-2026-01",
        "price_mode": "exclusive",
        "client": {"classification": "company", "name": "Acme Ltd", "tin": "123456789"},
        "items": [
            {
                "line_no": 1,
                "code": "CONS-001",
                "description": "Consulting hours",
                "kind": "service",
                "quantity": "2",
                "unit_price": "500.00",
            }
        ],
        "totals": {"currency": "CDF"},
        "payments": [{"method": "cash", "amount": "1160.00", "currency": "CDF"}],
    }
    schema["examples"] = [example]


class Document(Order):
    """The whole invoice before the engine computed anything."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=_describe)

    timestamp: Instant
    payments: Annotated[list[Payment], Field(min_length=1, max_length=20)]

    @property
    def at(self) -> datetime:
        """When it was authored."""
        return datetime.strptime(self.timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _snake(value: object) -> object:
    """`CommercialIndividual` and `Company` as they are stored: commercial_individual, company."""
    if not isinstance(value, str):
        return value
    spread = "".join(
        f"_{letter}" if letter.isupper() and at and value[at - 1].islower() else letter
        for at, letter in enumerate(value)
    )
    return spread.lower()
