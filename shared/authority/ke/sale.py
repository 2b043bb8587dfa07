"""A sealed document as eTIMS wants to hear of it. Pure; every amount is an exact decimal.

Amounts are inclusive of tax: a line's taxable amount is its total less tax, as it was sealed. KRA
computes it back from the total and gets the same to the cent, because our lines are rounded singly
(tests/property/test_etims_sale.py proves it for both price modes).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from shared.authority.base import SealedDocument, rows, sync_rows
from shared.fiscal.decimals import EXACT, rounded

BANDS: Final = ("A", "B", "C", "D", "E")
NAIROBI: Final = ZoneInfo("Africa/Nairobi")
CURRENCY: Final = "KES"
CENT: Final = Decimal("0.01")
_ZERO: Final = Decimal("0.00")
_CASH, _CREDIT, _CASH_AND_CREDIT, _OTHER = "01", "02", "03", "07"
_PACKAGE: Final = "NT"  # net: goods without a package of their own
_DEFAULT_UNIT: Final = "U"
_SALE_KINDS: Final = {"goods": "2", "service": "3", "levy": "3"}  # finished product, service


@dataclass(frozen=True, slots=True)
class Article:
    """What is registered before it is sold. Of another band or unit, it is another article."""

    merchant_code: str
    name: str
    kind: str
    unit: str
    band: str
    class_code: str
    price: Decimal

    @property
    def key(self) -> str:
        return "|".join((self.merchant_code, self.kind, self.unit, self.band, self.class_code))

    def code(self, number: int) -> str:
        """Its name at KRA: country, kind, package, unit, and a number of seven digits."""
        return f"KE{self.kind}{_PACKAGE}{self.unit.rjust(2, 'X')[-2:]}{number:07d}"

    def registration(self, code: str, by: Mapping[str, str]) -> dict[str, Any]:
        """The body of /saveItem; saying it twice changes nothing."""
        return {
            "itemCd": code,
            "itemClsCd": self.class_code,
            "itemTyCd": self.kind,
            "itemNm": self.name,
            "itemStdNm": None,
            "orgnNatCd": "KE",
            "pkgUnitCd": _PACKAGE,
            "qtyUnitCd": self.unit,
            "taxTyCd": self.band,
            "btchNo": None,
            "bcd": None,
            "dftPrc": self.price,
            "isrcAplcbYn": "N",
            "useYn": "Y",
            **by,
        }


@dataclass(frozen=True, slots=True)
class Line:
    """One line in shillings, tax included."""

    article: Article
    quantity: Decimal
    price: Decimal
    supply: Decimal
    discount_rate: Decimal
    tax_rate: Decimal
    taxable: Decimal
    tax: Decimal

    @property
    def total(self) -> Decimal:
        return self.taxable + self.tax

    def less(self, amount: Decimal) -> "Line":
        """The same for that much less, taxed anew."""
        total = self.total - amount
        taxable = _cents(EXACT.divide(total, 1 + self.tax_rate))
        return replace(self, supply=self.supply - amount, taxable=taxable, tax=total - taxable)


def lines_of(document: SealedDocument, default_class: str) -> list[Line]:
    """The document's lines. KES as sealed; another currency at the document's own rate.

    In another currency KRA's arithmetic starts from the shillings, so its tax may differ from the
    sealed one by what a cent of that currency is worth on each line. A credit is at most what is
    left of its original: parts, each converted, may come to more than the whole.
    """
    lines = _lines(document.payload, default_class)
    is_credit = "credit_reason" in document.payload and document.original_payload is not None
    if is_credit and document.payload["totals"]["currency"] != CURRENCY:
        left = document.left_to_credit(lambda other: _total(_lines(other, default_class)))
        over = _total(lines) - left
        if over > 0:
            at = max(range(len(lines)), key=lambda number: lines[number].total)
            lines[at] = lines[at].less(over)
    return lines


def sale(
    document: SealedDocument,
    lines: Sequence[Line],
    codes: Mapping[str, str],
    rates: Mapping[str, Decimal],
    invoice_no: int,
    original_no: int,
) -> dict[str, Any]:
    """The body of /saveTrnsSalesOsdc. `codes`: article key to item code; `rates`: percents."""
    payload, at = document.payload, moment(document.sealed_at)
    client, by = payload["client"], author(payload)
    is_credit = original_no > 0
    pin = client.get("tin") if _is_pin(client.get("tin", "")) else None
    return {
        "trdInvcNo": document.fiscal_number,
        "invcNo": invoice_no,
        "orgInvcNo": original_no,
        "custTin": pin,
        "custNm": client["name"][:60] if "name" in client else None,
        "salesTyCd": "N",
        "rcptTyCd": "R" if is_credit else "S",
        "pmtTyCd": payment_code(payload["payments"]),
        "salesSttsCd": "02",
        "cfmDt": f"{at:%Y%m%d%H%M%S}",
        "salesDt": f"{at:%Y%m%d}",
        "stockRlsDt": None,
        "cnclReqDt": None,
        "cnclDt": None,
        "rfdDt": f"{at:%Y%m%d%H%M%S}" if is_credit else None,
        "rfdRsnCd": _REASONS[payload["credit_reason"]] if is_credit else None,
        "totItemCnt": len(lines),
        **_bands(lines, rates),
        "totTaxblAmt": sum((line.taxable for line in lines), _ZERO),
        "totTaxAmt": sum((line.tax for line in lines), _ZERO),
        "totAmt": _total(lines),
        "prchrAcptcYn": "N",
        "remark": payload.get("notes"),
        **by,
        "receipt": {
            "custTin": pin,
            "custMblNo": client.get("phone"),
            "rptNo": 0,
            "rcptPbctDt": f"{at:%Y%m%d%H%M%S}",
            "trdeNm": document.outlet.legal_name[:20],
            "adrs": document.outlet.address,
            "topMsg": document.outlet.name[:20],
            "btmMsg": None,
            "prchrAcptcYn": "N",
        },
        "itemList": [
            _item(number, line, codes[line.article.key]) for number, line in enumerate(lines, 1)
        ],
    }


def payment_code(payments: Sequence[Mapping[str, Any]]) -> str:
    """One code for all ways of paying: KRA has a word for cash with credit, and `other`."""
    codes = {_METHODS[payment["method"]] for payment in payments}
    if len(codes) == 1:
        return codes.pop()
    return _CASH_AND_CREDIT if codes == {_CASH, _CREDIT} else _OTHER


def author(payload: Mapping[str, Any]) -> dict[str, str]:
    """Who is on record as having written it: the cashier."""
    cashier = str(payload["cashier_id"])
    return {
        "regrId": cashier[:20],
        "regrNm": cashier[:60],
        "modrId": cashier[:20],
        "modrNm": cashier[:60],
    }


def moment(sealed_at: str) -> datetime:
    """The instant of the seal as a clock in Nairobi shows it."""
    instant = datetime.strptime(sealed_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return instant.astimezone(NAIROBI)


def _lines(payload: Mapping[str, Any], default_class: str) -> list[Line]:
    totals = payload["totals"]
    rate = Decimal(1) if totals["currency"] == CURRENCY else Decimal(totals["fx_rate"])
    return [_line(item, payload, rate, default_class) for item in payload["items"]]


def _total(lines: Sequence[Line]) -> Decimal:
    return sum((line.total for line in lines), _ZERO)


def _line(
    item: Mapping[str, Any], payload: Mapping[str, Any], rate: Decimal, default_class: str
) -> Line:
    share = Decimal(item["tax_rate"])
    total = _cents(EXACT.multiply(Decimal(item["line_total"]), rate))
    tax = Decimal(item["tax_amount"])
    if payload["totals"]["currency"] != CURRENCY:
        tax = total - _cents(EXACT.divide(total, 1 + share))
    quantity = Decimal(item["quantity"])
    gross = EXACT.multiply(EXACT.multiply(quantity, Decimal(item["unit_price"])), rate)
    is_net = payload["price_mode"] == "exclusive"
    supply = _cents(EXACT.multiply(gross, 1 + share) if is_net else gross)
    # What rounding moved is no discount: without one, the supply is what was paid.
    supply = max(supply, total) if _is_discounted(item) else total
    price = _cents(EXACT.divide(supply, quantity))
    return Line(
        Article(
            merchant_code=item["code"],
            name=item["description"][:200],
            kind=_SALE_KINDS[item["kind"]],
            unit=_unit(item),
            band=item["tax_group"],
            class_code=item.get("item_class_code", default_class),
            price=price,
        ),
        quantity=quantity,
        price=price,
        supply=supply,
        discount_rate=Decimal(item.get("discount_percent", "0")),
        tax_rate=share,
        taxable=total - tax,
        tax=tax,
    )


def _item(number: int, line: Line, code: str) -> dict[str, Any]:
    # Two decimals are all the wire has for a quantity; the amounts stay exact.
    quantity = max(_cents(line.quantity), CENT)
    return {
        "itemSeq": number,
        "itemCd": code,
        "itemClsCd": line.article.class_code,
        "itemNm": line.article.name,
        "bcd": None,
        "pkgUnitCd": _PACKAGE,
        "pkg": quantity,
        "qtyUnitCd": line.article.unit,
        "qty": quantity,
        "prc": line.price,
        "splyAmt": line.supply,
        "dcRt": _cents(line.discount_rate),
        "dcAmt": line.supply - line.total,
        "isrccCd": None,
        "isrccNm": None,
        "isrcRt": None,
        "isrcAmt": None,
        "taxTyCd": line.article.band,
        "taxblAmt": line.taxable,
        "taxAmt": line.tax,
        "totAmt": line.total,
    }


def _bands(lines: Sequence[Line], rates: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """All fifteen members, zeros too."""
    members: dict[str, Decimal] = {}
    for band in BANDS:
        of_band = [line for line in lines if line.article.band == band]
        members[f"taxblAmt{band}"] = sum((line.taxable for line in of_band), _ZERO)
        members[f"taxRt{band}"] = rates[band]
        members[f"taxAmt{band}"] = sum((line.tax for line in of_band), _ZERO)
    return members


def _is_discounted(item: Mapping[str, Any]) -> bool:
    return "discount_amount" in item or "discount_percent" in item


def _unit(item: Mapping[str, Any]) -> str:
    return _UNITS.get(str(item.get("unit", "")).lower(), _DEFAULT_UNIT)


def _is_pin(text: str) -> bool:
    return len(text) == 11 and text[0].isalpha() and text[-1].isalpha() and text[1:-1].isdigit()


def _cents(amount: Decimal) -> Decimal:
    return rounded(amount, 2)


def _pairs(table: str, key: str, value: str) -> Iterator[tuple[str, str]]:
    return ((row[key], row[value]) for row in rows("ke", table))


_METHODS: Final = {
    row["method"]: row["authority_code"] for row in sync_rows("ke", "payment_methods")
}
_REASONS: Final = dict(_pairs("credit_reasons", "reason", "code"))
_UNITS: Final = dict(_pairs("units", "unit", "code"))
