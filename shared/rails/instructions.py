"""From what SQL hands out to what a rail takes: one place opens a tenant's credentials."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.money import Money
from shared.rails.base import Instruction, Operation
from shared.vault import Vault


def credentials_context(tenant_id: str, rail: str, environment: str) -> str:
    """What sealed credentials are bound to: they open for no other tenant, rail or environment."""
    return f"rail-credentials|{tenant_id}|{rail}|{environment}"


def instruction_from(
    row: Mapping[str, Any],
    vault: Vault,
    *,
    payer: str | None = None,
    payee: str | None = None,
    callback_url: str | None = None,
    traceparent: str | None = None,
) -> Instruction:
    """Build the instruction of a rails.work_item: to send, or to ask about.

    Raises VaultError when the credentials do not open, before anything is sent.
    """
    context = credentials_context(row["tenant_id"], row["rail"], row["environment"])
    submitted_at = row.get("submitted_at")
    return Instruction(
        transfer_id=row["transfer_id"],
        tenant_id=row["tenant_id"],
        environment=row["environment"],
        amount=Money(row["amount_minor"], row["currency"]),
        credentials=vault.open(row["credentials_sealed"], context),
        payer=payer,
        payee=payee,
        operation=Operation(row.get("operation", Operation.COLLECT)),
        original_receipt=row.get("original_receipt"),
        callback_url=callback_url,
        account_reference=row.get("account_reference", ""),
        description=row.get("description", ""),
        rail_ref=row.get("rail_ref"),
        submitted_at=datetime.fromisoformat(submitted_at) if submitted_at else None,
        traceparent=traceparent,
    )


def callback_url(functions_url: str, token: str) -> str:
    """Where the rail reports about one transfer; the token is all that ties its words to ours."""
    return f"{functions_url}/momo-callback/{token}"
