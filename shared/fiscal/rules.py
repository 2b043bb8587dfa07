"""The tax rules of one jurisdiction, read from its folder: the rows that SQL has in schema tax."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Final

from shared.errors import InvoiceRuleBroken, ManifestNotInForce
from shared.fiscal.registry import FOLDERS

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class TaxGroup:
    """One group of a manifest. `rate` is a fraction; None: the tax is an amount of its own."""

    code: str
    name: str
    rate: Decimal | None
    rate_text: str
    treatment: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A published version. `rules`: rule name to (step, group); the lowest step wins."""

    version: str
    surface: str
    valid_from: datetime
    valid_to: datetime | None
    groups: Mapping[str, TaxGroup]
    rules: Mapping[str, tuple[int, str]]

    def has_been(self, at: datetime) -> bool:
        """Whether it is in force at `at`, or was before: what corrects old documents uses it."""
        return self.valid_from <= at

    def is_in_force(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


@dataclass(frozen=True, slots=True)
class Classification:
    """A kind of buyer and the members of client it must, and should, have."""

    code: str
    requires: tuple[str, ...]
    recommends: tuple[str, ...]
    authority_code: str | None


@dataclass(frozen=True, slots=True)
class InvoiceType:
    """A kind of document. needs_original: it corrects one; refers_to: the types it may name."""

    code: str
    label: str
    is_credit: bool
    is_export: bool
    authority_code: str | None
    needs_original: bool
    refers_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuthorityGroup:
    """What the authority calls a group of ours; `group` None: it has none."""

    group: str | None
    levy: str | None


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    """Everything the engine needs to know about one country."""

    code: str
    name: str
    tax_currency: str
    currencies: tuple[str, ...]
    is_rounded_by_group: bool
    tin_pattern: re.Pattern[str]
    manifests: Mapping[str, Manifest]
    classifications: Mapping[str, Classification]
    invoice_types: Mapping[str, InvoiceType]
    authority_groups: Mapping[tuple[str, str, str], AuthorityGroup]
    languages: tuple[str, ...]
    tin_name: str
    authority_block: tuple[tuple[str, str], ...]  # label, and the member of what was issued

    def letter(self, manifest_version: str, group: str, at: datetime) -> str:
        """What the authority of the time calls a group of ours; its own code when it has none."""
        for authority in self.manifests.values():
            found = self.authority_groups.get((manifest_version, group, authority.version))
            if found and found.group and authority.is_in_force(at):
                return found.group
        return group

    def manifest(self, version: str, at: datetime, kind: InvoiceType) -> Manifest:
        """The merchants' manifest of that version. ManifestNotInForce unless in force at `at`.

        A document that corrects another is under the manifest of its original, of today or before.
        """
        found = self.manifests.get(version)
        applies = Manifest.has_been if kind.needs_original else Manifest.is_in_force
        if found is None or found.surface != "merchant" or not applies(found, at):
            raise ManifestNotInForce(
                f"{version} is not in force at {at:%Y-%m-%dT%H:%M:%SZ}; {self.manifest_at(at)} is",
                errors=[
                    {
                        "pointer": "/tax_group_manifest_version",
                        "detail": f"use {self.manifest_at(at)}",
                    }
                ],
            )
        return found

    def manifest_at(self, at: datetime) -> str:
        """The version of the merchants' manifest in force at `at`. ManifestNotInForce: none is."""
        for found in self.manifests.values():
            if found.surface == "merchant" and found.is_in_force(at):
                return found.version
        raise ManifestNotInForce(
            f"{self.code} has no tax manifest for {at:%Y-%m-%d}",
            errors=[{"pointer": "/timestamp", "detail": "no manifest covers this time"}],
        )


def jurisdiction(code: str) -> Jurisdiction:
    """The rules of a country. InvoiceRuleBroken names the countries we know."""
    if code not in FOLDERS:
        raise InvoiceRuleBroken(
            f"jurisdiction: must be one of {', '.join(sorted(FOLDERS))}",
            errors=[
                {
                    "pointer": "/jurisdiction",
                    "detail": f"must be one of {', '.join(sorted(FOLDERS))}",
                }
            ],
        )
    return _read(code)


@cache
def _read(code: str) -> Jurisdiction:
    folder = _HERE / FOLDERS[code]
    (facts,) = _rows(folder, "jurisdictions")
    return Jurisdiction(
        code=code,
        name=facts["name"],
        tax_currency=facts["tax_currency"],
        currencies=_array(facts["currencies"]),
        is_rounded_by_group=facts["tax_level"] == "group",
        tin_pattern=re.compile(facts["tin_pattern"], re.ASCII),
        manifests={
            row["manifest_version"]: _manifest(folder, row) for row in _rows(folder, "manifests")
        },
        classifications={
            row["classification"]: Classification(
                row["classification"],
                _array(row["requires"]),
                _array(row["recommends"]),
                row["authority_code"] or None,
            )
            for row in _rows(folder, "client_classifications")
        },
        invoice_types={
            row["invoice_type"]: InvoiceType(
                row["invoice_type"],
                row["label"],
                row["is_credit"] == "true",
                row["is_export"] == "true",
                row["authority_code"] or None,
                row["needs_original"] == "true",
                _array(row["refers_to"]),
            )
            for row in _rows(folder, "invoice_types")
        },
        authority_groups={
            (row["manifest_version"], row["tax_group"], row["authority_version"]): AuthorityGroup(
                row["authority_group"] or None, row["levy_group"] or None
            )
            for row in _rows(folder, "authority_groups")
        },
        languages=_array(facts["languages"]),
        tin_name=facts["tin_name"],
        authority_block=_authority_block(folder),
    )


def _authority_block(folder: Path) -> tuple[tuple[str, str], ...]:
    with (folder / "authority_block.csv").open(newline="") as lines:
        return tuple((row["label"], row["member"]) for row in csv.DictReader(lines))


def _manifest(folder: Path, row: Mapping[str, str]) -> Manifest:
    version = row["manifest_version"]
    return Manifest(
        version=version,
        surface=row["surface"],
        valid_from=datetime.fromisoformat(row["valid_from"]),
        valid_to=datetime.fromisoformat(row["valid_to"]) if row["valid_to"] else None,
        groups={
            group["tax_group"]: TaxGroup(
                group["tax_group"],
                group["name"],
                Decimal(group["rate"]) if group["rate"] else None,
                group["rate"],
                group["treatment"],
            )
            for group in _rows(folder, "tax_groups")
            if group["manifest_version"] == version
        },
        rules={
            rule["rule"]: (int(rule["step"]), rule["tax_group"])
            for rule in _rows(folder, "group_rules")
            if rule["manifest_version"] == version
        },
    )


def _rows(folder: Path, table: str) -> Iterator[dict[str, str]]:
    path = folder / f"tax.{table}.csv"
    if not path.exists():  # an authority without groups of its own has no mapping
        return
    with path.open(newline="") as lines:
        yield from csv.DictReader(lines)


def _array(text: str) -> tuple[str, ...]:
    """A Postgres array literal of plain words."""
    return tuple(word for word in text.strip("{}").split(",") if word)
