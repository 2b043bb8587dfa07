"""The five security elements of a sealed document: all of them, or nothing is printed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode


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
        return cls(
            fiscal_number=number,
            fiscal_authority_id=authority,
            auth_code=sealed["auth_code"],
            sealed_at=sealed["sealed_at"],
            qr_text=qr_text(
                verify_url, number, sealed["auth_code"], sealed["sealed_at"], authority
            ),
        )


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
