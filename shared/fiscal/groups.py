"""Which tax group a line belongs to: the decision tree of the manifest, never a guess."""

from shared.errors import FieldError, TaxGroupInvalid
from shared.fiscal.document import Client, Document, Item, refusal
from shared.fiscal.rules import InvoiceType, Jurisdiction, Manifest, TaxGroup

EMBASSY = "embassy"
EXPORT = "export"


def choose(document: Document, item: Item, manifest: Manifest, kind: InvoiceType) -> TaxGroup:
    """The line's group: the explicit one where the rules allow it, else the one they give.

    Raises TaxGroupInvalid, naming the line and the rule.
    """
    pointer = f"/items/{item.line_no - 1}/tax_group"
    forced = _forced(document, manifest, kind)
    if item.tax_group is None:
        code = forced[1] if forced else suggest(item.kind, item.category, manifest, pointer)
        return manifest.groups[code]
    group = manifest.groups.get(item.tax_group)
    if group is None:
        raise _invalid(pointer, f"{item.tax_group} is not a group of {manifest.version}")
    if forced and group.code != forced[1]:
        raise _invalid(pointer, f"must be {forced[1]}: {forced[0]}")
    # A correction has the groups of its original, which the ledger compares.
    is_foreign = (
        group.code == _of_rule(manifest, EXPORT) and not kind.is_export and not kind.needs_original
    )
    # What a country also uses for other zero rates is told apart by its catalogue category.
    if is_foreign and _is_home(document) and not _is_given_by_category(item, manifest):
        raise _invalid(pointer, f"{group.code} is for buyers abroad")
    if group.rate is None:
        raise _invalid(pointer, f"{group.code} is an amount, not a rate: authorities alone use it")
    return group


def suggest(kind: str, category: str | None, manifest: Manifest, pointer: str = "/category") -> str:
    """The group for a catalogue article sold at home to anybody. TaxGroupInvalid when none is."""
    for rule in (category, kind):
        found = manifest.rules.get(rule) if rule else None
        if found is not None and rule not in (EMBASSY, EXPORT):
            return found[1]
        if rule == category and category is not None:
            break
    known = sorted(rule for rule in manifest.rules if rule not in (EMBASSY, EXPORT))
    raise TaxGroupInvalid(
        f"{category or kind} has no group in {manifest.version}; known are {', '.join(known)}",
        errors=[{"pointer": pointer, "detail": f"one of {', '.join(known)}, or name tax_group"}],
    )


def check_authority_groups(document: Document, rules: Jurisdiction) -> None:
    """Groups named as the authority names them are groups it has. TaxGroupInvalid."""
    theirs = [manifest for manifest in rules.manifests.values() if manifest.surface == "authority"]
    known = sorted({code for manifest in theirs for code in manifest.groups})
    for item in document.items:
        named = item.authority_tax_group
        if named is not None and named not in known:
            pointer = f"/items/{item.line_no - 1}/authority_tax_group"
            groups = ", ".join(known) or "none"
            raise _invalid(pointer, f"{named} is no group of the authority; it has {groups}")


def _forced(document: Document, manifest: Manifest, kind: InvoiceType) -> tuple[str, str] | None:
    """What the buyer or the document demands, and the group it demands."""
    embassy = _of_rule(manifest, EMBASSY)
    if embassy and document.client.classification == EMBASSY and not document.tax_override_reason:
        return "the buyer is an embassy, and there is no tax_override_reason", embassy
    export = _of_rule(manifest, EXPORT)
    if export and kind.is_export:
        return f"the document is {kind.code}", export
    return None


def _of_rule(manifest: Manifest, rule: str) -> str | None:
    found = manifest.rules.get(rule)
    return found[1] if found else None


def _is_given_by_category(item: Item, manifest: Manifest) -> bool:
    return bool(item.category) and _of_rule(manifest, item.category or "") == item.tax_group


def _is_home(document: Document) -> bool:
    return country_of(document.client, document.jurisdiction) == document.jurisdiction


def country_of(client: Client, home: str) -> str:
    """Where the buyer is; at home unless it says otherwise."""
    return client.country or home


def _invalid(pointer: str, rule: str) -> TaxGroupInvalid:
    error: FieldError = {"pointer": pointer, "detail": rule}
    return TaxGroupInvalid(refusal(pointer, rule), errors=[error])
