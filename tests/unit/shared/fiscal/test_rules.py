"""The data of every jurisdiction, whichever there are: each folder must be whole and consistent."""

import re
from itertools import pairwise

import pytest

from scripts.stack.places import ROOT
from shared.fiscal.registry import FOLDERS
from shared.fiscal.rules import jurisdiction
from shared.money import scales

IDENTIFIERS = {"name", "tin", "registration_number", "id_document", "exemption_ref"}


def test_registry_and_folders_are_the_same() -> None:
    folders = {
        path.parent.name for path in (ROOT / "shared/fiscal").glob("*/tax.jurisdictions.csv")
    }

    assert set(FOLDERS.values()) == folders


@pytest.mark.parametrize("code", FOLDERS)
def test_rules_are_consistent(code: str) -> None:
    rules = jurisdiction(code)

    assert rules.code == code
    assert {rules.tax_currency, *rules.currencies} <= set(scales())
    assert {"sale", "credit_note", "export"} <= set(rules.invoice_types)
    for classification in rules.classifications.values():
        assert {*classification.requires, *classification.recommends} <= IDENTIFIERS
    for manifest in rules.manifests.values():
        assert {group for _, group in manifest.rules.values()} <= set(manifest.groups)
        if manifest.surface == "merchant":
            assert {"goods", "service", "export"} <= set(manifest.rules)
        for group in manifest.groups.values():
            assert group.rate is None or re.fullmatch(r"0\.[0-9]{2,4}", group.rate_text)


@pytest.mark.parametrize("code", FOLDERS)
def test_never_two_manifests_of_merchants_at_once(code: str) -> None:
    spans = sorted(
        (manifest.valid_from, manifest.valid_to)
        for manifest in jurisdiction(code).manifests.values()
        if manifest.surface == "merchant"
    )

    for (_, ends), (starts, _) in pairwise(spans):
        assert ends is not None
        assert ends <= starts


def test_every_congolese_group_is_mapped_or_known_not_to_be() -> None:
    rules = jurisdiction("CD")
    mapped = {group for version, group, _ in rules.authority_groups if version == "CD-2026-01"}
    blocked = {group for (_, group, _), to in rules.authority_groups.items() if to.group is None}

    assert mapped == set(rules.manifests["CD-2026-01"].groups)
    assert blocked == {"TG08", "TG09"}
