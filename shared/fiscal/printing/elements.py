"""The five security elements of a sealed document: all of them, or nothing is printed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from shared.fiscal.printing.figures import utc_text
from shared.fiscal.rules import jurisdiction


@dataclass(frozen=True, slots=True)
class Elements:
    """Number, authority id, authentication code, trusted time and QR, printed together."""

    fiscal_number: str
    fiscal_authority_id: str
    auth_code: str
    sealed_at: str
    qr_text: str

    @classmethod
    def of(cls, resource: Mapping[str, Any], verify_url: str) -> Self:
        """The elements of a signed invoice as the API shows it."""
        sealed = resource["sealed"]
        assert sealed is not None, "an unsigned document is refused before it gets here"
        number, authority = resource["fiscal_number"], sealed["fiscal_authority_id"]
        issued = resource["authority"] or {}
        return cls(
            fiscal_number=number,
            fiscal_authority_id=authority,
            auth_code=sealed["auth_code"],
            sealed_at=sealed["sealed_at"],
            # Where the authority issued a QR, that one is printed.
            qr_text=issued.get("qr")
            or qr_text(verify_url, number, sealed["auth_code"], sealed["sealed_at"], authority),
        )


def authority_block(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the tax authority issued, under the labels it wants; nothing before it did."""
    issued = resource["authority"]
    if issued is None:
        return
    for label, path in jurisdiction(resource["document"]["jurisdiction"]).authority_block:
        member, _, counter = path.partition(".")
        value = issued[member].get(counter) if counter else issued[member]
        if value is not None:
            yield label, utc_text(value) if member == "time" else str(value)


def qr_text(
    verify_url: str, fiscal_number: str, auth_code: str, sealed_at: str, fiscal_authority_id: str
) -> str:
    """What the QR says: the address where anybody can check the document. auth_code: dashes go."""
    query = {
        "fn": fiscal_number,
        "ac": auth_code.replace("-", ""),
        "ts": sealed_at,
        "fa": fiscal_authority_id,
    }
    return f"{verify_url.rstrip('/')}/i?{urlencode(query)}"
