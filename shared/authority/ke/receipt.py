"""What KRA answers for a sale, and what is printed of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.authority.ke.sale import NAIROBI

_QR: Final = "/common/link/etims/receipt/indexEtimsReceiptData?Data="
_HOSTS: Final = {
    "production": "https://etims.kra.go.ke",
    "sandbox": "https://etims-sbx.kra.go.ke",
}
PIN_CHARS, BRANCH_CHARS, SIGNATURE_CHARS = 11, 2, 16


@dataclass(frozen=True, slots=True)
class Receipt:
    """The control unit's answer. `current` counts receipts of this kind, `total` all of them."""

    current: str
    total: str
    internal_data: str
    signature: str
    at: datetime

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Receipt":
        """From `data` of an answer. ValueError or KeyError: it is none."""
        return cls(
            str(data["curRcptNo"]),
            str(data["totRcptNo"]),
            str(data["intrlData"]),
            str(data["rcptSign"]),
            datetime.strptime(str(data["sdcDateTime"]), "%Y%m%d%H%M%S").replace(tzinfo=NAIROBI),
        )


def qr_text(environment: str, pin: str, branch: str, signature: str) -> str:
    """The QR a shopper scans. ValueError when a part has not its width: it must not be printed."""
    for part, width in ((pin, PIN_CHARS), (branch, BRANCH_CHARS), (signature, SIGNATURE_CHARS)):
        if len(part) != width or not part.isascii() or not part.isalnum():
            raise ValueError(f"a part of the QR has {len(part)} characters and must have {width}")
    return f"{_HOSTS[environment]}{_QR}{pin}{branch}{signature}"


def grouped(text: str) -> str:
    """Dashed every four: `TE68-SLA2-34J5-EAV3-N569-88LJ-Q7`."""
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))
