"""What KRA checks of a sale: members, widths, arithmetic, and a credit against its original."""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from scripts.stack.etims.refusals import Refusal

BANDS: Final = ("A", "B", "C", "D", "E")
RATES: Final = {
    "A": Decimal(0),
    "B": Decimal(16),
    "C": Decimal(0),
    "D": Decimal(0),
    "E": Decimal(8),
}
PIN: Final = re.compile(r"^[A-Z][0-9]{9}[A-Z]$", re.ASCII)
ITEM_CODE: Final = re.compile(r"^[A-Z]{2}[1-3][A-Z0-9]{2}[A-Z0-9]{2}[0-9]{7}$", re.ASCII)
_STAMP: Final = re.compile(r"^[0-9]{14}$", re.ASCII)
_CENT: Final = Decimal("0.01")

# Member: how many characters it may have; None where it is a number.
_TEXTS: Final = {
    "trdInvcNo": 50,
    "rcptTyCd": 5,
    "salesTyCd": 5,
    "pmtTyCd": 5,
    "salesSttsCd": 5,
    "prchrAcptcYn": 1,
    "regrId": 20,
    "regrNm": 60,
    "modrId": 20,
    "modrNm": 60,
}
_OPTIONAL: Final = {"custTin": 11, "custNm": 60, "remark": 400, "rfdRsnCd": 5}
_PRESENT: Final = ("stockRlsDt", "cnclReqDt", "cnclDt", "rfdDt", "receipt", "itemList")
_AMOUNTS: Final = (
    "totTaxblAmt",
    "totTaxAmt",
    "totAmt",
    *(f"{name}{band}" for name in ("taxblAmt", "taxRt", "taxAmt") for band in BANDS),
)
_ITEM_AMOUNTS: Final = ("qty", "prc", "splyAmt", "dcRt", "dcAmt", "taxblAmt", "taxAmt", "totAmt")


def check_sale(sale: Mapping[str, Any], items: Mapping[str, str]) -> None:
    """Refusal 910 names the first thing that is wrong. `items`: registered code to tax type."""
    _check_members(sale)
    _check_kind(sale)
    _check_items(sale, items)
    _check_bands(sale)


def _check_members(sale: Mapping[str, Any]) -> None:
    for name, most in _TEXTS.items():
        _text(sale, name, most, required=True)
    for name, most in _OPTIONAL.items():
        _text(sale, name, most, required=False)
    for name in _PRESENT:
        if name not in sale:
            raise Refusal("910", f"{name} is missing")
    for name in _AMOUNTS:
        _amount(sale, name)
    for name in ("invcNo", "orgInvcNo", "totItemCnt"):
        if type(sale.get(name)) is not int:
            raise Refusal("910", f"{name} is no whole number")


def _check_kind(sale: Mapping[str, Any]) -> None:
    if sale["rcptTyCd"] not in ("S", "R") or sale["salesTyCd"] not in ("N", "C", "T", "P"):
        raise Refusal("910", "rcptTyCd or salesTyCd")
    if (sale["rcptTyCd"] == "R") != (sale["orgInvcNo"] > 0):
        raise Refusal("910", "orgInvcNo belongs to a credit")
    if sale["rcptTyCd"] == "R" and not (sale["rfdRsnCd"] and sale["rfdDt"]):
        raise Refusal("910", "a credit needs rfdRsnCd and rfdDt")
    if not _STAMP.match(str(sale.get("cfmDt"))) or sale.get("salesDt") != sale["cfmDt"][:8]:
        raise Refusal("910", "cfmDt or salesDt")
    if sale.get("custTin") and not PIN.match(sale["custTin"]):
        raise Refusal("910", "custTin")


def check_credit(
    credit: Mapping[str, Any], original: Mapping[str, Any], before: Sequence[Mapping[str, Any]]
) -> None:
    """Credits never exceed their original, in all and in each band. `before`: those by now."""
    if original["rcptTyCd"] != "S":
        raise Refusal("910", "the original is a credit itself")
    every = (*before, credit)
    if sum(one["totAmt"] for one in every) > original["totAmt"]:
        raise Refusal("910", "more is credited than was sold")
    for band in BANDS:
        if credit[f"taxblAmt{band}"] > original[f"taxblAmt{band}"]:
            raise Refusal("910", f"band {band} is not on the original that much")
        # Parts in another currency are rounded one by one.
        if sum(_in(band, one) for one in every) > _in(band, original) + _CENT * len(before):
            raise Refusal("910", f"more is credited in band {band} than was sold")


def _in(band: str, sale: Mapping[str, Any]) -> Decimal:
    return Decimal(sale[f"taxblAmt{band}"] + sale[f"taxAmt{band}"])


def _check_items(sale: Mapping[str, Any], items: Mapping[str, str]) -> None:
    lines = sale["itemList"]
    if not lines or sale["totItemCnt"] != len(lines):
        raise Refusal("910", "totItemCnt")
    for number, line in enumerate(lines, 1):
        if line.get("itemSeq") != number:
            raise Refusal("910", f"itemSeq of line {number}")
        for name in _ITEM_AMOUNTS:
            _amount(line, name)
        if items.get(line.get("itemCd")) is None:
            raise Refusal("910", f"{line.get('itemCd')} is not registered")
        if items[line["itemCd"]] != line.get("taxTyCd"):
            raise Refusal("910", f"{line['itemCd']} is registered under another tax type")
        if line["qty"] <= 0 or line["splyAmt"] - line["dcAmt"] != line["totAmt"]:
            raise Refusal("910", f"amounts of line {number}")
        share = 1 + RATES[line["taxTyCd"]] / 100
        taxable = (line["totAmt"] / share).quantize(_CENT, ROUND_HALF_UP)
        # What is left over by rounding goes to the tax.
        if abs(line["taxblAmt"] - taxable) > _CENT * len(lines):
            raise Refusal("910", f"taxblAmt of line {number}")
        if line["taxblAmt"] + line["taxAmt"] != line["totAmt"]:
            raise Refusal("910", f"taxAmt of line {number}")


def _check_bands(sale: Mapping[str, Any]) -> None:
    lines = sale["itemList"]
    for band in BANDS:
        of_band = [line for line in lines if line["taxTyCd"] == band]
        if sale[f"taxRt{band}"] != RATES[band]:
            raise Refusal("910", f"taxRt{band}")
        for name in ("taxblAmt", "taxAmt"):
            if sale[f"{name}{band}"] != sum(line[name] for line in of_band):
                raise Refusal("910", f"{name}{band} is not the sum of its lines")
    for total, name in (("totTaxblAmt", "taxblAmt"), ("totTaxAmt", "taxAmt"), ("totAmt", "totAmt")):
        if sale[total] != sum(line[name] for line in lines):
            raise Refusal("910", f"{total} is not the sum of the lines")


def _text(members: Mapping[str, Any], name: str, most: int, *, required: bool) -> None:
    value = members.get(name)
    if name not in members or (required and not value):
        raise Refusal("910", f"{name} is missing")
    if value is not None and (not isinstance(value, str) or len(value) > most):
        raise Refusal("910", f"{name} has more than {most} characters")


def _amount(members: Mapping[str, Any], name: str) -> None:
    value = members.get(name)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Refusal("910", f"{name} is no number")
    if value < 0 or Decimal(value).as_tuple().exponent < -2:  # type: ignore[operator]
        raise Refusal("910", f"{name} has more than two decimals, or is negative")
