"""One OpenAPI 3.1 document for all functions: paths prefixed, equal components shared."""

import json
from typing import Any

Document = dict[str, Any]

VERBS = frozenset(("get", "put", "post", "delete", "options", "head", "patch", "trace"))
SUMMARY = """Payments for African merchants: create a payment intent, ask the payer, see it paid.

- **Amounts** are decimal strings beside their currency, `"amount": "100.00", "currency": "KES"`.
- **Every POST that moves or creates money** takes an `Idempotency-Key`. Repeat it with the same
  body and you get the first answer, byte for byte; with another body, 422.
- **Every error** is `application/problem+json` (RFC 9457) with a stable `code`. It names the field
  and the rule; the table of codes says what to do.
- **Fields and parameters we do not know** are refused by name, never ignored.
- **Lists** are newest first. Pass `pagination.next_cursor` as `cursor` to see the next page."""
LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def merge(documents: dict[str, Document], server: str, version: str) -> Document:
    """documents: one per function, by slug. server: the URL that ends in /functions/v1.

    Functions that an API key opens come first. Raises ValueError when two operations have one name.
    """
    whole: Document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Stalela",
            "version": version,
            "description": SUMMARY,
            "license": LICENSE,
        },
        "servers": [{"url": server}],
        "tags": [],
        "paths": {},
        "components": {},
    }
    for slug in sorted(documents, key=lambda slug: (-_openness(documents[slug]), slug)):
        _add(whole, slug, _with_own_names(documents[slug], whole["components"], slug))
    _refuse_equal_names(whole)
    return whole


def operations(document: Document) -> list[tuple[str, str, Document]]:
    """(verb, path, operation) of a document, in its order."""
    return [
        (verb, path, operation)
        for path, item in document.get("paths", {}).items()
        for verb, operation in item.items()
        if verb in VERBS
    ]


def _openness(document: Document) -> float:
    """The share of operations that an API key opens: what a merchant's developer looks for."""
    found = [operation for _, _, operation in operations(document)]
    opened = [one for one in found if {"ApiKey": []} in one.get("security", [])]
    return len(opened) / max(1, len(found))


def _add(whole: Document, slug: str, document: Document) -> None:
    for path, item in document.get("paths", {}).items():
        # The function answers its bare URL; the slash is how a router spells its root.
        whole["paths"][f"/{slug}{path}".removesuffix("/")] = _tagged(item, slug)
    for kind, components in document.get("components", {}).items():
        whole["components"].setdefault(kind, {}).update(components)
    about = document.get("info", {}).get("description", "")
    whole["tags"].append({"name": slug, "description": about})


def _tagged(item: Document, slug: str) -> Document:
    return {
        verb: operation | {"tags": [slug]} if verb in VERBS else operation
        for verb, operation in item.items()
    }


def _refuse_equal_names(whole: Document) -> None:
    seen: dict[str, str] = {}
    for verb, path, operation in operations(whole):
        name, place = operation["operationId"], f"{verb.upper()} {path}"
        if name in seen:
            raise ValueError(f"operation {name} is both {seen[name]} and {place}: rename one")
        seen[name] = place


def _with_own_names(document: Document, known: Document, slug: str) -> Document:
    """The document with each component renamed whose name stands for something else already."""
    text = json.dumps(document)
    prefix = "".join(word.capitalize() for word in slug.split("-"))
    for kind, components in document.get("components", {}).items():
        for name, component in components.items():
            if known.get(kind, {}).get(name, component) != component:
                old, new = f"#/components/{kind}/{name}", f"#/components/{kind}/{prefix}{name}"
                text = text.replace(json.dumps(old), json.dumps(new))
    renamed: Document = json.loads(text)
    for kind, components in renamed.get("components", {}).items():
        taken = known.get(kind, {})
        original = document["components"][kind]
        renamed["components"][kind] = {
            (prefix + name if taken.get(name, original[name]) != original[name] else name): value
            for name, value in components.items()
        }
    return renamed
