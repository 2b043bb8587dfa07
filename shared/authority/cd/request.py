"""A sealed document in the words of the DGI's interface, and what its totals must come to there.

Amounts are in CDF with two decimals. The document's own total is kept to the centime whatever the
groups are called there: the authority's answer is compared with `Expected` before it is confirmed.

An excise of ours goes as a TAX item of its own (L), its base as an item that includes the VAT of
its group; regulated sales (M) go before their specific VAT, which is the TAX item N.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from shared.authority.base import Blocked, SealedDocument, sync_rows
from shared.fiscal.decimals import EXACT, ZERO, rounded, shortest
from shared.fiscal.rules import AuthorityGroup, Jurisdiction, Manifest, jurisdiction

CURRENCY: Final = "CDF"
SCALE: Final = 2
QUANTITY_DECIMALS_MAX: Final = 3
LEVY: Final = "L"
SPECIFIC_VAT: Final = "N"
DEROGATORY: Final = "D"
EXEMPT: Final = "A"
EMBASSY: Final = "embassy"
# Why a credit is given, as the DGI's referenceTypes call it; whatever else is a correction.
REFERENCE_TYPES: Final[Mapping[str, str]] = {
    "correction": "COR",
    "cancellation": "RAN",
    "returned_goods": "RAM",
    "rebate": "RRR",
    "other": "COR",
}
REBATE: Final = "RRR"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the authority must compute, or the document is not confirmed. CDF."""

    total: Decimal
    vat: Decimal


@dataclass(frozen=True, slots=True)
class _Line:
    """One item there. `amount` is the whole line's: before VAT in mode ht, with it in mode ttc."""

    item: Mapping[str, Any]
    group: str
    amount: Decimal
    vat: Decimal
    total: Decimal
    rate: Decimal = ZERO
    is_tax: bool = False


def build(document: SealedDocument, facts: Mapping[str, str]) -> tuple[dict[str, Any], Expected]:
    """The request and what it must come to. Blocked names the line and what it has no word for."""
    payload, rules = document.payload, jurisdiction("CD")
    kind = rules.invoice_types[payload["invoice_type"]]
    mode, lines = _lines(payload, rules)
    if kind.is_credit and payload["totals"]["currency"] != CURRENCY:
        left = document.left_to_credit(lambda other: _total(_lines(other, rules)[1]))
        lines = _within(lines, left)
    expected = Expected(_total(lines), sum((line.vat for line in lines), ZERO))
    if payload["totals"]["currency"] == CURRENCY:
        assert expected.total == Decimal(payload["totals"]["total"]), "the sealed total is kept"
    request: dict[str, Any] = {
        "nif": facts["nif"],
        # Unique and always there, which the merchant's own reference need not be.
        "rn": document.fiscal_number,
        "mode": mode,
        "isf": facts["isf"],
        "type": kind.authority_code,
        "items": [_item(line, payload) for line in lines],
        "client": _client(payload["client"], rules),
        "operator": {"id": payload["cashier_id"], "name": payload["cashier_id"]},
        "payment": _payments(payload, expected.total),
        **_comments(document, lines),
        **_currency(payload),
    }
    if kind.is_credit:
        request |= _reference(document)
    return request, expected


def _lines(payload: Mapping[str, Any], rules: Jurisdiction) -> tuple[str, list[_Line]]:
    manifest = _authority_manifest(rules, payload["timestamp"])
    known = [(item, _group_of(item, payload, rules, manifest)) for item in payload["items"]]
    has_taxed_levy = any(group.levy and _rate(manifest, group.group) for _, group in known)
    # VAT on a price in CDF is not VAT on the price in dollars, converted: only what includes the
    # VAT comes back to the sealed total when the DGI divides by the rate.
    is_converted = payload["totals"]["currency"] != CURRENCY
    is_net = payload["price_mode"] == "exclusive" and not has_taxed_levy and not is_converted
    lines = [
        line
        for item, group in known
        for line in _priced(item, group, manifest, _fx_rate(payload), is_net=is_net)
    ]
    return ("ht" if is_net else "ttc"), lines


def _total(lines: list[_Line]) -> Decimal:
    return sum((line.total for line in lines), ZERO)


def _within(lines: list[_Line], most: Decimal) -> list[_Line]:
    """The lines, at most that much together: parts, each converted, may exceed the whole."""
    over = _total(lines) - most
    if over <= 0:
        return lines
    at = max(range(len(lines)), key=lambda number: lines[number].total)
    line = lines[at]
    less = line.amount - over
    lines[at] = (
        _levy(line.item, line.group, less)
        if line.is_tax
        else _taxed(line.item, line.group, less, line.rate, is_net=False)
    )
    return lines


def _authority_manifest(rules: Jurisdiction, timestamp: str) -> Manifest:
    at = datetime.fromisoformat(timestamp)
    for manifest in rules.manifests.values():
        if manifest.surface == "authority" and manifest.is_in_force(at):
            return manifest
    raise Blocked("authority_mapping_missing", f"no groups of the DGI are known for {timestamp}")


def _group_of(
    item: Mapping[str, Any], payload: Mapping[str, Any], rules: Jurisdiction, manifest: Manifest
) -> AuthorityGroup:
    named = item.get("authority_tax_group") or (LEVY if item["kind"] == "levy" else None)
    if named is not None:
        is_rated = manifest.groups[named].rate is not None
        return AuthorityGroup(named, None) if is_rated else AuthorityGroup(None, named)
    ours = (payload["tax_group_manifest_version"], item["tax_group"], manifest.version)
    found = rules.authority_groups.get(ours)
    if found is None or found.group is None:
        raise Blocked(
            "authority_mapping_missing",
            f"line {item['line_no']}: {item['tax_group']} has no group at the DGI",
        )
    if found.group == EXEMPT and payload["client"]["classification"] == EMBASSY:
        return AuthorityGroup(DEROGATORY, None)
    return found


def _priced(
    item: Mapping[str, Any],
    group: AuthorityGroup,
    manifest: Manifest,
    fx_rate: Decimal,
    *,
    is_net: bool,
) -> Iterator[_Line]:
    base, tax, total = (
        _in_cdf(Decimal(item[name]), fx_rate) for name in ("line_base", "tax_amount", "line_total")
    )
    if group.group is None:  # a levy that the merchant itself put on a line
        assert group.levy is not None, "one of the two"
        yield _levy(item, group.levy, total)
        return
    if group.levy is None:
        # With the rate as it was sealed: where the authority has another one, the totals tell.
        rate = Decimal(item["tax_rate"])
        yield _taxed(item, group.group, base if is_net else total, rate, is_net=is_net)
        return
    yield _taxed(item, group.group, base, _rate(manifest, group.group), is_net=is_net)
    yield _levy(item, group.levy, tax)


def _levy(item: Mapping[str, Any], group: str, amount: Decimal) -> _Line:
    vat = amount if group == SPECIFIC_VAT else ZERO
    return _Line(item, group, amount, vat, amount, is_tax=True)


def _taxed(
    item: Mapping[str, Any], group: str, amount: Decimal, rate: Decimal, *, is_net: bool
) -> _Line:
    if is_net:
        vat = rounded(EXACT.multiply(amount, rate), SCALE)
        return _Line(item, group, amount, vat, amount + vat, rate)
    vat = amount - rounded(EXACT.divide(amount, 1 + rate), SCALE)
    return _Line(item, group, amount, vat, amount, rate)


def _rate(manifest: Manifest, group: str | None) -> Decimal:
    return (manifest.groups[group].rate if group else None) or ZERO


def _item(line: _Line, payload: Mapping[str, Any]) -> dict[str, Any]:
    item = line.item
    shown: dict[str, Any] = {
        "code": item["code"],
        "type": "TAX" if line.is_tax else "SER" if item["kind"] == "service" else "BIE",
        "name": item["description"],
        "taxGroup": line.group,
    }
    quantity = Decimal(1) if line.is_tax else Decimal(item["quantity"])
    price = rounded(EXACT.divide(line.amount, quantity), SCALE)
    if (
        EXACT.multiply(price, quantity) != line.amount
        or -quantity.normalize().as_tuple().exponent > QUANTITY_DECIMALS_MAX  # type: ignore[operator]
    ):
        # No price of two decimals comes to this line: it goes as one, and says what it was.
        shown["name"] = f"{item['description']} ({item['quantity']} x {item['unit_price']})"
        price, quantity = line.amount, Decimal(1)
    elif "discount_amount" in item or "discount_percent" in item:
        original = EXACT.multiply(Decimal(item["unit_price"]), _fx_rate(payload))
        if payload["price_mode"] == "exclusive" and line.amount == line.total:
            # The price is shown with its VAT, so the one before the discount is too.
            original = EXACT.multiply(original, 1 + line.rate)
        shown |= {"originalPrice": rounded(original, SCALE), "priceModification": "Remise"}
    return shown | {"price": price, "quantity": Decimal(shortest(quantity))}


def _client(client: Mapping[str, Any], rules: Jurisdiction) -> dict[str, Any]:
    classification = rules.classifications[client["classification"]]
    given = {
        "nif": client.get("tin"),
        "name": client.get("name"),
        "contact": client.get("phone") or client.get("email"),
        "address": client.get("address"),
        "type": classification.authority_code,
    }
    return {name: value for name, value in given.items() if value is not None}


def _payments(payload: Mapping[str, Any], total: Decimal) -> list[dict[str, Any]]:
    """Each in CDF; the largest takes what conversion left over, so that they come to the total."""
    names = {row["method"]: row["authority_code"] for row in sync_rows("CD", "payment_methods")}
    paid = []
    for payment in payload["payments"]:
        rate = _payment_rate(payment, payload)
        paid.append(
            {
                "name": names[payment["method"]],
                "amount": _in_cdf(Decimal(payment["amount"]), rate),
                "currencyCode": payment["currency"],
                "currencyRate": Decimal(shortest(rate)),
            }
        )
    largest = max(paid, key=lambda row: row["amount"])
    largest["amount"] += total - sum(row["amount"] for row in paid)
    return paid


def _payment_rate(payment: Mapping[str, Any], payload: Mapping[str, Any]) -> Decimal:
    if payment["currency"] == CURRENCY:
        return Decimal(1)
    return EXACT.multiply(Decimal(payment.get("fx_rate", "1")), _fx_rate(payload))


def _comments(document: SealedDocument, lines: list[_Line]) -> dict[str, str]:
    payload = document.payload
    exemption = payload["client"].get("exemption_ref")
    if any(line.group == DEROGATORY for line in lines) and not exemption:
        raise Blocked("authority_mapping_missing", "the client's exemption reference is missing")
    given = {
        "cmta": exemption,
        "cmtb": payload.get("invoice_ref"),
        "cmtc": payload.get("export_certificate_ref"),
        "cmtd": payload.get("notes"),
    }
    return {name: " ".join(text.split()) for name, text in given.items() if text}


def _currency(payload: Mapping[str, Any]) -> dict[str, Any]:
    if payload["totals"]["currency"] == CURRENCY:
        return {}
    return {
        "curCode": payload["totals"]["currency"],
        "curDate": payload["fx"]["as_of"],
        "curRate": Decimal(payload["fx"]["rate"]),
    }


def _reference(document: SealedDocument) -> dict[str, str]:
    reason = document.payload["credit_reason"]
    kind = REFERENCE_TYPES[reason]
    if kind == REBATE:
        return {"reference": REBATE, "referenceType": kind, "referenceDesc": reason}
    if document.original is None:
        raise Blocked(
            "authority_original_missing", f"{document.original_number} is not known to the DGI"
        )
    code = document.original.code.replace("-", "")
    return {"reference": code, "referenceType": kind, "referenceDesc": reason}


def _fx_rate(payload: Mapping[str, Any]) -> Decimal:
    return Decimal(payload["fx"]["rate"]) if "fx" in payload else Decimal(1)


def _in_cdf(amount: Decimal, rate: Decimal) -> Decimal:
    return rounded(EXACT.multiply(amount, rate), SCALE)
