"""What a document must satisfy before and after its tax is computed; refusals name the rule."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from shared.errors import ClassificationRuleBroken, FieldError, InvoiceRuleBroken, TotalsMismatch
from shared.fiscal.decimals import EXACT, ZERO, decimals_of, money_text, parse, rounded
from shared.fiscal.document import Document, Item, Payment, refusal
from shared.fiscal.groups import country_of
from shared.fiscal.rules import InvoiceType, Jurisdiction
from shared.money import scale_of, scales


def check_document(document: Document, rules: Jurisdiction) -> InvoiceType:
    """The document's type, once all rules that need no arithmetic hold."""
    kind = _type_of(document, rules)
    _check_tin(document, rules)
    _check_client(document, rules)
    if not kind.is_credit:  # its buyer is the original's, sealed as it is
        _check_client_tin(document, rules)
    _check_type(document, kind)
    _check_currency(document, rules)
    for index, item in enumerate(document.items):
        _check_item(item, index, scale_of(document.totals.currency))
    for index, payment in enumerate(document.payments):
        _check_payment(payment, f"/payments/{index}", document.totals.currency)
    return kind


def check_discount(item: Item, discount: Decimal, gross: Decimal, scale: int) -> None:
    """A discount has the currency's decimals and is at most the line."""
    pointer = f"/items/{item.line_no - 1}/discount_amount"
    if item.discount_amount is not None and decimals_of(item.discount_amount) > scale:
        raise broken(pointer, f"has at most {scale} decimals")
    if discount > gross:
        raise broken(pointer, f"is {discount}, more than the line's {gross}")


def check_declared(document: Document, ours: Mapping[str, Any]) -> None:
    """Whatever the client computed must be what we computed, to the last digit."""
    found: list[FieldError] = []
    for index, item in enumerate(document.items):
        names = ("tax_rate", "line_base", "tax_amount", "line_total")
        declared = item.model_dump(include=set(names), exclude_none=True)
        found += _differences(f"/items/{index}", declared, ours["items"][index])
    totals = document.totals.model_dump(
        include={"subtotal", "total_tax", "total"}, exclude_none=True
    )
    found += _differences("/totals", totals, ours["totals"])
    if document.tax_groups is not None:
        found += _group_differences(document, ours["tax_groups"])
    if document.tax_rounding_adjustment is not None:
        adjustment = {"tax_rounding_adjustment": document.tax_rounding_adjustment}
        found += _differences("", adjustment, ours)
    if found:
        raise TotalsMismatch(refusal(found[0]["pointer"], found[0]["detail"]), errors=found)


def check_payments(document: Document, total: Decimal, scale: int) -> None:
    """The payments, in the invoice's currency, are exactly the total."""
    paid = ZERO
    for payment in document.payments:
        amount = parse(payment.amount)
        if payment.fx_rate is not None and payment.currency != document.totals.currency:
            amount = rounded(EXACT.multiply(amount, parse(payment.fx_rate)), scale)
        paid = EXACT.add(paid, amount)
    if paid != total:
        raise broken(
            "/payments",
            f"come to {money_text(paid, scale)} and the invoice to {money_text(total, scale)};"
            " the unpaid part is a payment of method credit",
        )


def broken(pointer: str, rule: str) -> InvoiceRuleBroken:
    """The error of one field."""
    return InvoiceRuleBroken(refusal(pointer, rule), errors=[{"pointer": pointer, "detail": rule}])


def _type_of(document: Document, rules: Jurisdiction) -> InvoiceType:
    kind = rules.invoice_types.get(document.invoice_type)
    if kind is None:
        raise broken(
            "/invoice_type", f"must be one of {', '.join(rules.invoice_types)} in {rules.code}"
        )
    return kind


def _check_tin(document: Document, rules: Jurisdiction) -> None:
    if not rules.tin_pattern.fullmatch(document.merchant_tin):
        raise broken(
            "/merchant_tin", f"is not a {rules.tin_name}: it must match {rules.tin_pattern.pattern}"
        )


def _check_client(document: Document, rules: Jurisdiction) -> None:
    client = document.client
    classification = rules.classifications.get(client.classification)
    if classification is None:
        known = ", ".join(rules.classifications)
        raise _classification(
            [("/client/classification", f"must be one of {known} in {rules.code}")]
        )
    missing = [name for name in classification.requires if getattr(client, name) is None]
    if missing:
        raise _classification(
            (f"/client/{name}", f"is required for {classification.code}") for name in missing
        )


def _check_client_tin(document: Document, rules: Jurisdiction) -> None:
    tin = document.client.tin
    if tin is None or country_of(document.client, document.jurisdiction) != document.jurisdiction:
        return
    if not rules.tin_pattern.fullmatch(tin):
        raise broken(
            "/client/tin",
            f"is not a {rules.tin_name}: it must match {rules.tin_pattern.pattern};"
            " name the country of a buyer from elsewhere",
        )


def _classification(found: Iterable[tuple[str, str]]) -> ClassificationRuleBroken:
    errors: list[FieldError] = [{"pointer": pointer, "detail": rule} for pointer, rule in found]
    first = errors[0]
    return ClassificationRuleBroken(refusal(first["pointer"], first["detail"]), errors=errors)


def _check_type(document: Document, kind: InvoiceType) -> None:
    if kind.needs_original and document.original_fiscal_number is None:
        raise broken("/original_fiscal_number", f"is required for {kind.code}")
    if not kind.refers_to and document.original_fiscal_number is not None:
        raise broken("/original_fiscal_number", f"does not belong on {kind.code}")
    if kind.is_credit and document.credit_reason is None:
        raise broken("/credit_reason", f"is required for {kind.code}")
    if not kind.is_credit and document.credit_reason is not None:
        raise broken("/credit_reason", f"does not belong on {kind.code}")
    if (
        kind.is_export
        and country_of(document.client, document.jurisdiction) == document.jurisdiction
    ):
        raise broken("/client/country", f"must be another country than {document.jurisdiction}")


def _check_currency(document: Document, rules: Jurisdiction) -> None:
    currency = document.totals.currency
    if currency not in rules.currencies:
        raise broken(
            "/totals/currency", f"must be one of {', '.join(rules.currencies)} in {rules.code}"
        )
    if currency == rules.tax_currency:
        if document.fx is not None:
            raise broken("/fx", f"does not belong on an invoice in {currency}")
    elif document.fx is None:
        raise broken(
            "/fx",
            f"is required with {currency}: tax is declared in {rules.tax_currency}",
        )
    elif parse(document.fx.rate) == 0:
        raise broken("/fx/rate", "must be more than zero")


def _check_item(item: Item, index: int, scale: int) -> None:
    pointer = f"/items/{index}"
    if item.line_no != index + 1:
        raise broken(f"{pointer}/line_no", f"is {item.line_no} where {index + 1} comes next")
    if item.discount_amount is not None and item.discount_percent is not None:
        raise broken(
            f"{pointer}/discount_percent", "stands beside discount_amount: give one of them"
        )
    if item.discount_amount is not None and decimals_of(item.discount_amount) > scale:
        raise broken(f"{pointer}/discount_amount", f"has at most {scale} decimals")


def _check_payment(payment: Payment, pointer: str, currency: str) -> None:
    if payment.currency not in scales():
        raise broken(f"{pointer}/currency", f"{payment.currency} is not a currency we know")
    scale = scale_of(payment.currency)
    if decimals_of(payment.amount) > scale:
        raise broken(f"{pointer}/amount", f"{payment.currency} has {scale} decimals")
    if payment.currency != currency and payment.fx_rate is None:
        raise broken(f"{pointer}/fx_rate", "is needed for a payment in another currency")


def _differences(
    pointer: str, declared: Mapping[str, str], ours: Mapping[str, Any]
) -> list[FieldError]:
    return [
        {
            "pointer": f"{pointer}/{name}",
            "detail": f"is {value} and comes to {ours.get(name, 'nothing')} here",
        }
        for name, value in declared.items()
        if ours.get(name) != value
    ]


def _group_differences(document: Document, ours: list[dict[str, str]]) -> list[FieldError]:
    declared = [row.model_dump() for row in document.tax_groups or ()]
    codes, expected = [row["code"] for row in declared], [row["code"] for row in ours]
    if codes != expected:
        return [{"pointer": "/tax_groups", "detail": f"has {codes} and comes to {expected} here"}]
    return [
        difference
        for index, (row, computed) in enumerate(zip(declared, ours, strict=True))
        for difference in _differences(f"/tax_groups/{index}", row, computed)
    ]
