"""What the simulated DGI checks in an invoice, and what it computes itself. Shares no code of ours.

VAT is computed on each item and summed by group: in mode ht on the price before VAT, in mode ttc
out of the price with it. Half is rounded away from zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final

CENT: Final = Decimal("0.01")
# Per cent of each group; None: the item's own amount is the levy.
RATES: Final[Mapping[str, int | None]] = dict(
    zip("ABCDEFGHIJKLMNOP", (0, 16, 5, 0, 0, 16, 5, 0, 0, 0, 0, None, 0, None, 1, 1), strict=True)
)
TYPES: Final = {"FV": "Facture de vente", "FT": "Facture d'acompte", "FA": "Facture d'avoir"} | {
    "EV": "Vente à l'exportation",
    "ET": "Acompte à l'exportation",
    "EA": "Avoir à l'exportation",
}
CREDITS: Final = {"FA": ("FV", "FT"), "EA": ("EV", "ET")}
EXPORTS: Final = ("EV", "ET", "EA")
PAYMENTS: Final = (
    "ESPECES",
    "VIREMENT",
    "CARTEBANCAIRE",
    "MOBILEMONEY",
    "CHEQUES",
    "CREDIT",
    "AUTRE",
)
CLIENTS: Final = ("PP", "PM", "PC", "PL", "AO")
ITEMS: Final = ("BIE", "SER", "TAX")
REFERENCES: Final = ("COR", "RAN", "RAM", "RRR")
LEVIES: Final = ("L", "N")
CODE_LENGTH: Final = 24


class Refused(Exception):
    """An errorCode and its words, sent with HTTP 200."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


@dataclass
class Invoice:
    """A checked invoice and what it comes to, in CDF."""

    rn: str
    kind: str
    total: Decimal
    vat: Decimal
    reference: str | None
    groups: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    cur_total: Decimal | None = None


def examine(body: Any, nif: str) -> Invoice:
    """The invoice of a request. Refused says which rule it breaks."""
    if not isinstance(body, dict):
        raise Refused("2", "Le corps n'est pas une facture")
    if body.get("nif") != nif:
        raise Refused("2", "Le NIF n'est pas celui du jeton")
    if not _text(body, "rn") or not _text(body, "isf"):
        raise Refused("2", "rn ou isf manque")
    kind, mode = body.get("type"), body.get("mode")
    if kind not in TYPES:
        raise Refused("3", f"Le type {kind} n'existe pas")
    if mode not in ("ht", "ttc"):
        raise Refused("2", "Le mode est ht ou ttc")
    items = body.get("items")
    if not isinstance(items, list) or not items:
        raise Refused("8", "La facture n'a pas d'articles")
    invoice = Invoice(body["rn"], kind, Decimal(0), Decimal(0), _reference(body, kind))
    for item in items:
        _add(invoice, item, kind, is_net=mode == "ht")
    _check_client(body, {item["taxGroup"] for item in items})
    _check_operator(body)
    _check_payments(body, invoice.total)
    if "curCode" in body:
        rate = number(body, "curRate", "2")
        if rate <= 0:
            raise Refused("2", "curRate n'est pas un cours")
        invoice.cur_total = _rounded(invoice.total / rate)
    return invoice


def _add(invoice: Invoice, item: Any, kind: str, *, is_net: bool) -> None:
    if not isinstance(item, dict) or not _text(item, "name") or not _text(item, "code"):
        raise Refused("2", "Un article n'a pas de code ou de nom")
    group, type_ = str(item.get("taxGroup")), item.get("type")
    if group not in RATES or type_ not in ITEMS:
        raise Refused("9", f"Le groupe {group} ou le type {type_} n'existe pas")
    if (type_ == "TAX") != (group in LEVIES):
        raise Refused("9", "TAX va avec L ou N seulement")
    if kind in EXPORTS and group not in ("E", "N"):
        raise Refused("9", "A l'exportation, le groupe est E")
    price, quantity = number(item, "price", "2"), number(item, "quantity", "2")
    if price < 0 or quantity <= 0 or price != price.quantize(CENT):
        raise Refused("2", "Un prix a deux décimales, une quantité est positive")
    amount, rate = _rounded(price * quantity), RATES[group]
    if rate is None:
        vat = amount if group == "N" else Decimal(0)
        base, total = amount - vat, amount
    elif is_net:
        base, vat = amount, _rounded(amount * rate / 100)
        total = base + vat
    else:
        base = _rounded(amount * 100 / (100 + rate))
        vat, total = amount - base, amount
    sums = invoice.groups.setdefault(group, {"base": Decimal(0), "vat": Decimal(0)})
    sums["base"] += base
    sums["vat"] += vat
    invoice.total += total
    invoice.vat += vat


def _reference(body: Mapping[str, Any], kind: str) -> str | None:
    reference = body.get("reference")
    if kind not in CREDITS:
        if reference is not None:
            raise Refused("3", "Une référence va avec un avoir")
        return None
    if not reference:
        raise Refused("4", "La référence de la facture d'origine manque")
    if body.get("referenceType") not in REFERENCES:
        raise Refused("4", "La nature de l'avoir n'existe pas")
    if body["referenceType"] == "RRR":
        if reference != "RRR":
            raise Refused("5", "La référence d'une remise est RRR")
        return None
    if not isinstance(reference, str) or len(reference) != CODE_LENGTH:
        raise Refused("5", "La référence a 24 caractères")
    return reference


def _check_client(body: Mapping[str, Any], groups: set[str]) -> None:
    client = body.get("client")
    if not isinstance(client, dict) or client.get("type") not in CLIENTS:
        raise Refused("13", "Le type du client n'existe pas")
    kind, exemption = client["type"], _text(body, "cmta")
    if kind in ("PM", "PC", "PL") and not (_text(client, "nif") and _text(client, "name")):
        raise Refused("13", f"Un client {kind} a un NIF et un nom")
    if kind == "AO" and not (_text(client, "name") and exemption):
        raise Refused("13", "Un client AO a un nom et une référence d'exonération")
    if "D" in groups and not exemption:
        raise Refused("13", "Le groupe D demande la référence de la dérogation")


def _check_operator(body: Mapping[str, Any]) -> None:
    operator = body.get("operator")
    if not isinstance(operator, dict) or not _text(operator, "name"):
        raise Refused("2", "L'opérateur n'a pas de nom")


def _check_payments(body: Mapping[str, Any], total: Decimal) -> None:
    payments = body.get("payment")
    if not isinstance(payments, list) or not payments:
        raise Refused("7", "Les paiements manquent")
    paid = Decimal(0)
    for payment in payments:
        if not isinstance(payment, dict) or payment.get("name") not in PAYMENTS:
            raise Refused("7", "Un mode de paiement n'existe pas")
        paid += number(payment, "amount", "7")
    if paid < total:
        raise Refused("7", f"Les paiements font {paid}, la facture {total}")


def _text(of: Mapping[str, Any], name: str) -> bool:
    value = of.get(name)
    return isinstance(value, str) and bool(value.strip())


def number(of: Mapping[str, Any], name: str, code: str) -> Decimal:
    """A member that is a JSON number. Refused with `code` when it is none."""
    value = of.get(name)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Refused(code, f"{name} n'est pas un nombre")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise Refused(code, f"{name} n'est pas un nombre") from None


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_HALF_UP)
