"""Secrets at rest: AES-256-GCM under versioned master keys.

A sealed value is base64 of

    byte  0       layout, 1
    bytes 1-2     version of the master key, big endian
    bytes 3-14    nonce, 96 random bits
    bytes 15-     ciphertext, then the 128-bit tag

The first three bytes and the context are associated data, so a value opens only where it was
sealed for (tenant, rail, environment), and its key version cannot be swapped. Random nonces are
safe for 2^32 values per key (NIST SP 800-38D §8.3); a rotation is due long before.

Keys come as {"1": base64 of 32 bytes, "2": …}: the highest version seals, all of them open.

The blind index must give one value the same hash for ever, so it does not follow the rotation.
Its key is HKDF-SHA256 of master key 1 (salt none, info below) unless the mapping has the entry
"index". Before version 1 is retired, `index_key()` is stored as that entry: the hashes stay.
"""

import base64
import hmac
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LAYOUT: Final = 1
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEADER_BYTES: Final = 3
_INDEX_INFO: Final = b"stalela blind index 1"


class VaultError(Exception):
    """The vault cannot do this. The message names versions and reasons, never a value."""


class KeyMissing(VaultError):
    """A value was sealed with a master key this process does not hold, or holds none at all."""


class SealBroken(VaultError):
    """Not a sealed value, altered, sealed for another context, or under another key."""


class Vault:
    """Seals and opens in memory. Cheap to make: cryptography is imported by the first use."""

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        """Raises KeyMissing without any version, VaultError for a key that is not 32 bytes."""
        decoded = {name: _decode_key(name, key.get_secret_value()) for name, key in keys.items()}
        self._index = decoded.pop("index", None)
        self._keys = {_version(name): key for name, key in decoded.items()}
        self._ciphers: dict[int, AESGCM] = {}
        if not self._keys:
            raise KeyMissing("VAULT_KEYS holds no master key")
        self.current_version = max(self._keys)

    def seal(self, plaintext: bytes, context: str) -> str:
        """`plaintext` under the current key. The same input never seals to the same text."""
        header = _header(self.current_version)
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(self.current_version)
        sealed = cipher.encrypt(nonce, plaintext, header + context.encode())
        return base64.b64encode(header + nonce + sealed).decode()

    def open(self, sealed: str, context: str) -> bytes:
        """The plaintext. Raises SealBroken or KeyMissing."""
        from cryptography.exceptions import InvalidTag

        raw = _decode_sealed(sealed)
        header, nonce, body = raw[:3], raw[3:15], raw[15:]
        cipher = self._cipher(int.from_bytes(header[1:], "big"))
        try:
            return cipher.decrypt(nonce, body, header + context.encode())
        except InvalidTag:
            # The cause says nothing more, and its frames hold the key.
            raise SealBroken("altered, or sealed for another context or key") from None

    def version_of(self, sealed: str) -> int:
        """The master key version in the header. It is trusted only once the value opened."""
        return int.from_bytes(_decode_sealed(sealed)[1:3], "big")

    def reseal(self, sealed: str, context: str) -> str:
        """The same plaintext under the current key; `sealed` itself when it already is."""
        if self.version_of(sealed) == self.current_version:
            return sealed
        return self.seal(self.open(sealed, context), context)

    def blind_index(self, value: str, context: str = "") -> str:
        """HMAC-SHA256 as hex: equal values meet without being opened.

        context keeps them apart where they must not meet (another tenant, another field).
        """
        text = context.encode()
        message = len(text).to_bytes(4, "big") + text + value.encode()
        return hmac.digest(self._index_bytes(), message, "sha256").hex()

    def index_key(self) -> str:
        """The blind index key as base64, to become the entry "index" of VAULT_KEYS. Secret."""
        return base64.b64encode(self._index_bytes()).decode()

    def _index_bytes(self) -> bytes:
        if self._index is None:
            if 1 not in self._keys:
                raise KeyMissing('the blind index needs master key 1 or the entry "index"')
            self._index = _hkdf(self._keys[1])
        return self._index

    def _cipher(self, version: int) -> "AESGCM":
        if version not in self._ciphers:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            if version not in self._keys:
                raise KeyMissing(f"master key {version} is not in VAULT_KEYS")
            self._ciphers[version] = AESGCM(self._keys[version])
        return self._ciphers[version]


def _hkdf(key: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_INDEX_INFO).derive(key)


def _header(version: int) -> bytes:
    return bytes([LAYOUT]) + version.to_bytes(2, "big")


def _decode_sealed(sealed: str) -> bytes:
    try:
        raw = base64.b64decode(sealed, validate=True)
    except ValueError:
        raise SealBroken("not base64") from None
    if len(raw) < _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES or raw[0] != LAYOUT:
        raise SealBroken(f"not a sealed value of layout {LAYOUT}")
    return raw


def _version(name: str) -> int:
    if not (name.isascii() and name.isdigit() and 1 <= int(name) <= 0xFFFF):
        raise VaultError('VAULT_KEYS has names 1 to 65535, and "index"')
    return int(name)


def _decode_key(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise VaultError(f"VAULT_KEYS: key {name} is not the base64 of 32 bytes")
    return key
