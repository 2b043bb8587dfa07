"""From what SQL hands out to what an authority takes: one place opens a device's credentials."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.authority.base import Acceptance, Device, Outlet, SealedDocument
from shared.vault import Vault

Row = Mapping[str, Any]


def credentials_context(tenant_id: str, outlet_id: str, environment: str) -> str:
    """What sealed credentials are bound to: they open for no other tenant or outlet."""
    return f"authority-credentials|{tenant_id}|{outlet_id}|{environment}"


def outlet_of(row: Row) -> Outlet:
    """The outlet in a sync.outlet_item."""
    return Outlet(**row)


def device_of(row: Row, vault: Vault) -> Device:
    """The device in a sync.device_item. Raises VaultError when its credentials do not open."""
    outlet = outlet_of(row["outlet"])
    context = credentials_context(row["tenant_id"], outlet.outlet_id, row["environment"])
    return Device(
        device_id=row["device_id"],
        outlet_id=outlet.outlet_id,
        jurisdiction=row["jurisdiction"],
        environment=row["environment"],
        outlet=outlet,
        credentials=vault.open(row["sealed"], context),
        state=row["state"],
    )


def document_of(item: Row, device: Device) -> SealedDocument:
    """The document of a sync.work_item, with what the authority said of its original."""
    sealed, original = item["document"], item["original"] or {}
    accepted = original.get("acceptance")
    return SealedDocument(
        invoice_id=sealed["invoice_id"],
        fiscal_number=sealed["fiscal_number"],
        sequence=sealed["sequence"],
        sealed_at=sealed["sealed_at"],
        auth_code=sealed["auth_code"],
        payload=sealed["payload"],
        outlet=device.outlet,
        environment=device.environment,
        original=_acceptance_of(accepted) if accepted else None,
        original_number=original.get("fiscal_number"),
        original_payload=original.get("payload"),
        credited=original.get("credited", ()),
    )


def acceptance_json(acceptance: Acceptance) -> dict[str, Any]:
    """What sync.record_attempt takes."""
    at, state = acceptance.authority_time, acceptance.device_state
    return {
        "code": acceptance.code,
        "qr": acceptance.qr,
        "authority_number": acceptance.authority_number,
        "authority_time": at.isoformat() if at else None,
        "counters": dict(acceptance.counters),
        "raw": acceptance.raw.decode(errors="replace").replace("\0", "�"),
        "device_state": None if state is None else dict(state),
    }


def _acceptance_of(row: Row) -> Acceptance:
    at = row["authority_time"]
    return Acceptance(
        code=row["code"],
        qr=row["qr"],
        authority_number=row["authority_number"],
        authority_time=datetime.fromisoformat(at) if at else None,
        counters=row["counters"],
        raw=row["raw"].encode(),
    )
