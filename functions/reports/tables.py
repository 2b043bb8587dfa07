"""Rows of documents as columns: articles sold, and what a declaration asks for."""

from collections.abc import Mapping
from typing import Any, Final

from shared.fiscal.rules import jurisdiction

Row = tuple[str, ...]
Json = Mapping[str, Any]

ARTICLES: Final[Row] = (
    "fiscal_number",
    "invoice_ref",
    "invoice_type",
    "sealed_at",
    "currency",
    "client_classification",
    "line_no",
    "code",
    "description",
    "quantity",
    "unit_price",
    "line_base",
    "tax_group",
    "tax_rate",
    "tax_amount",
    "line_total",
)
DECLARED: Final[Row] = (
    "fiscal_number",
    "type",
    "original_fiscal_number",
    "sealed_at",
    "client_classification",
    "client_tin",
    "client_name",
    "currency",
    "subtotal",
    "tax",
    "total",
    "fx_rate",
    "tax_currency",
    "tax_in_tax_currency",
)
_SECURITY: Final[Row] = (
    "fiscal_authority_id",
    "auth_code",
    "key_id",
    "signature",
    "ledger_hash",
)


def article(line: Json) -> Row:
    """One line of a document."""
    return tuple(_text(line[name]) for name in ARTICLES)


def groups_of(country: str) -> list[str]:
    """The tax groups that merchants of a country ever had."""
    manifests = jurisdiction(country).manifests.values()
    return sorted({code for one in manifests if one.surface == "merchant" for code in one.groups})


def declared_head(groups: list[str]) -> Row:
    """The names of the columns of `declared`."""
    taxed = [f"{member}_{group}" for group in groups for member in ("base", "tax")]
    return (*DECLARED, *taxed, *_SECURITY)


def declared(found: Json, groups: list[str]) -> Row:
    """One document; what a credit takes back is negative."""
    document = found["document"]
    totals, client = document["totals"], document["client"]
    rules = jurisdiction(document["jurisdiction"])
    kind = rules.invoice_types[found["invoice_type"]]
    taxed = {row["code"]: row for row in document["tax_groups"]}
    sign = "-" if kind.is_credit else ""
    return (
        found["fiscal_number"],
        kind.authority_code or kind.code,
        document.get("original_fiscal_number", ""),
        found["sealed_at"],
        client["classification"],
        client.get("tin", ""),
        client.get("name", ""),
        totals["currency"],
        *(_signed(sign, totals[member]) for member in ("subtotal", "total_tax", "total")),
        totals.get("fx_rate", ""),
        rules.tax_currency,
        _signed(sign, totals.get("tax_in_reporting_currency", totals["total_tax"])),
        *(
            _signed(sign, taxed[group][member]) if group in taxed else ""
            for group in groups
            for member in ("base_amount", "tax_amount")
        ),
        *(_text(found[name]) for name in _SECURITY),
    )


def _signed(sign: str, amount: str) -> str:
    return f"{sign}{amount}" if amount.strip("0.") else amount


def _text(value: object) -> str:
    return "" if value is None else str(value)
