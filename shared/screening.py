"""A party named in a request, for organisations whose parties are screened before money moves.

The request that brings a new party asks for its screening and sends nothing: 503 with Retry-After,
as nothing was decided. Its repetition, with the same Idempotency-Key, finds the decision. So no
payment waits for another function, and none goes ahead while that one is away.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.db import Database
from shared.errors import DependencyUnavailable, IdentityVerificationRequired
from shared.http.caller import Caller
from shared.masking import mask_name, mask_phone
from shared.parties import hashes_of, seal_profile
from shared.vault import Vault

RETRY_AFTER_S: Final = 2


async def begin_screened(
    db: Database,
    vault: Vault,
    function: str,
    arguments: Mapping[str, Any],
    caller: Caller,
    *,
    name: str | None,
    phone: str,
) -> Any:
    """Call what begins a transfer. A party that it asks for is registered, when it has a name.

    Raises what SQL refuses with; without a name IdentityVerificationRequired (422) is among that.
    """
    try:
        return await db.call(function, arguments, caller)
    except IdentityVerificationRequired:
        if name is None:
            raise
    await db.call(
        "compliance.name_party",
        {
            "profile_sealed": seal_profile(vault, name=name),
            "name_masked": mask_name(name),
            "phone_masked": mask_phone(phone),
            "party_hashes": hashes_of(vault, phone),
        },
        caller,
    )
    raise DependencyUnavailable(
        "this party is being screened; nothing was sent, repeat with the same Idempotency-Key",
        retry_after=RETRY_AFTER_S,
    )
