"""A party as it is stored for screening: sealed, and found by the hashes that transfers carry."""

import json
from typing import Final
from uuid import uuid4

from shared.vault import Vault

# In whichever way a transfer carries a phone, a freeze and a party must be found by it.
HASHED_AS: Final = ("payer", "payee")


def hashes_of(vault: Vault, phone: str) -> list[str]:
    """What transfers carry in place of this E.164 number."""
    return [vault.blind_index(phone, context) for context in HASHED_AS]


def seal_profile(
    vault: Vault,
    *,
    name: str,
    born: str | None = None,
    country: str | None = None,
    document: str | None = None,
) -> str:
    """A party's profile, which open_profile opens. born: "1990-05-17"."""
    told = {"name": name, "born": born, "country": country, "document": document}
    # Whose it is only SQL knows, so the seal is bound to a name that is kept beside it.
    bound = uuid4().hex
    return f"{bound}.{vault.seal(json.dumps(told).encode(), f'party|{bound}')}"


def open_profile(vault: Vault, sealed: str) -> dict[str, str | None]:
    """The arguments of seal_profile. Raises VaultError."""
    bound, _, value = sealed.partition(".")
    profile: dict[str, str | None] = json.loads(vault.open(value, f"party|{bound}"))
    return profile
