"""Merchants for a load: fifty tenants with a key each, entered behind the API."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Final

import psycopg
from pydantic import SecretStr

from scripts.stack.daraja.credentials import PAY_BILL
from scripts.stack.keys import Keys
from shared.rails.instructions import credentials_context
from shared.vault import Vault

TENANTS: Final = 50
# So high that nobody reaches it: every request takes its token and none is refused.
RATE_PER_MINUTE, BURST = 60_000_000, 1_000_000
BUCKETS: Final = ("read", "write")

_TENANT = """
insert into public.tenants (tenant_id, name, country, status, plan)
values (%(tenant)s, %(tenant)s, 'KE', 'active', 'pro')
"""
_LIMIT = """
insert into public.rate_limit_overrides (tenant_id, bucket, rate_per_minute, burst, reason)
values (%(tenant)s, %(bucket)s, %(rate)s, %(burst)s, 'bench')
"""
_KEY = """
insert into public.api_keys
    (key_id, tenant_id, environment, kind, name, key_hash, last4, scopes, created_by)
values (%(key_id)s, %(tenant)s, 'sandbox', 'secret', 'bench', %(hash)s, %(last4)s, '{*}', 'bench')
"""
_CREDENTIALS = """
insert into rails.credentials
    (tenant_id, environment, rail, sealed, key_version, masked, created_by)
values (%(tenant)s, 'sandbox', 'mpesa', %(sealed)s, %(version)s, '{}', 'bench')
"""


@dataclass(frozen=True, slots=True)
class Merchant:
    """One tenant and its secret sandbox key."""

    tenant_id: str
    key: str

    @property
    def key_hash(self) -> str:
        """As public.api_keys has it."""
        return hashlib.sha256(self.key.encode()).hexdigest()


def open_shops(connection: psycopg.Connection, keys: Keys) -> list[Merchant]:
    """Enter the tenants as the superuser, with M-Pesa credentials of the simulator."""
    word = secrets.token_hex(4)  # a database may be used by several benches
    shops = [
        Merchant(f"tn_bench_{word}_{number:02d}", f"sk_test_{secrets.token_urlsafe(32)}")
        for number in range(TENANTS)
    ]
    with connection.transaction():
        for shop in shops:
            _enter(connection, shop, keys)
    return shops


def _enter(connection: psycopg.Connection, shop: Merchant, keys: Keys) -> None:
    sealed, version = _credentials(shop, keys["vault_keys"])
    facts = {"tenant": shop.tenant_id, "rate": RATE_PER_MINUTE, "burst": BURST}
    facts |= {"key_id": f"key_{shop.tenant_id}", "hash": shop.key_hash, "last4": shop.key[-4:]}
    facts |= {"sealed": sealed, "version": version}
    connection.execute(_TENANT, facts)
    connection.execute(_KEY, facts)
    connection.execute(_CREDENTIALS, facts)
    for bucket in BUCKETS:
        connection.execute(_LIMIT, facts | {"bucket": bucket})


def _credentials(shop: Merchant, vault_keys: dict[str, str]) -> tuple[str, int]:
    plain = {
        "consumer_key": PAY_BILL.consumer_key,
        "consumer_secret": PAY_BILL.consumer_secret,
        "passkey": PAY_BILL.passkey,
        "shortcode": PAY_BILL.short_code,
        "type": "paybill",
    }
    vault = Vault({version: SecretStr(key) for version, key in vault_keys.items()})
    context = credentials_context(shop.tenant_id, "mpesa", "sandbox")
    return vault.seal(json.dumps(plain).encode(), context), max(map(int, vault_keys))
