"""One OpenAPI 3.1 document for all functions: paths prefixed, equal components shared."""

import json
from typing import Any

Document = dict[str, Any]

SUMMARY = """Payments and fiscal invoices for African merchants.

Every error is `application/problem+json` (RFC 9457) with a stable `code`.
Amounts are decimal strings.
Every POST that moves or creates money needs an `Idempotency-Key`."""


def merge(documents: dict[str, Document], server: str, version: str) -> Document:
    """documents: one per function, by slug. server: the URL that ends in /functions/v1."""
    whole: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Stalela", "version": version, "description": SUMMARY},
        "servers": [{"url": server}],
        "tags": [],
        "paths": {},
        "components": {},
    }
    for slug, document in sorted(documents.items()):
        _add(whole, slug, _with_own_names(document, whole["components"], slug))
    return whole


def _add(whole: Document, slug: str, document: Document) -> None:
    for path, item in document.get("paths", {}).items():
        # The function answers its bare URL; the slash is how a router spells its root.
        whole["paths"][f"/{slug}{path}".removesuffix("/")] = _tagged(item, slug)
    for kind, components in document.get("components", {}).items():
        whole["components"].setdefault(kind, {}).update(components)
    about = document.get("info", {}).get("description", "")
    whole["tags"].append({"name": slug, "description": about})


def _tagged(item: Document, slug: str) -> Document:
    verbs = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
    return {
        verb: operation
        | {"tags": [slug], "operationId": f"{slug.replace('-', '_')}_{operation['operationId']}"}
        if verb in verbs and "operationId" in operation
        else operation
        for verb, operation in item.items()
    }


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
